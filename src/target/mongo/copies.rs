//! Bookkeeping of the copy: plans, done chunks, tables with pieces of a chunk that was not finished, and what a merge left out.

use bson::{Document, doc};
use mongodb::Client;

use super::bookkeeping::{DATABASE, all, fenced_writes, read_position, stands, unreadable};
use super::command::number;
use crate::error::{Error, Result};
use crate::mongowire::command::run;
use crate::schema::TableName;
use crate::target::TableCopy;

/// What stands in every document of one table.
pub fn of_table(name: &str, table: &TableName) -> Document {
    doc! { "name": name, "schema": &table.schema, "table": &table.name }
}

fn table_in(d: &Document) -> TableName {
    TableName::new(d.get_str("schema").unwrap_or(""), d.get_str("table").unwrap_or(""))
}

/// Stores the copy's plan for a table; replaces an older one and forgets its chunks, except those that `copy.done` names.
///
/// # Errors
/// [`crate::error::Class::Fenced`] if the epoch was raised meanwhile.
pub async fn plan_copy(client: &Client, name: &str, epoch: i64, copy: &TableCopy) -> Result<()> {
    let doing = format!("storing the copy's plan of {}", copy.table);
    let plan = serde_json::to_string(&copy.plan).map_err(|e| Error::fatal(format!("writing the copy's plan: {e}")))?;
    let of = of_table(name, &copy.table);
    let mut others = of.clone();
    let keep: Vec<i64> = copy.done.iter().map(|n| i64::from(*n)).collect();
    others.insert("number", doc! { "$nin": keep });
    let mut stored = doc! { "_id": of.clone() };
    stored.extend(of.clone());
    stored.extend(doc! {
        "plan": plan, "snapshot_at": copy.snapshot_at.to_string(),
        "resumed_at": copy.resumed_at.as_ref().map(ToString::to_string), "indexed": copy.indexed, "rules": &copy.rules,
    });
    let commands = [
        // What is copied anew may be a list's rows, or the documents that hold it.
        doc! { "update": "lists", "updates": [{ "q": { "name": name }, "u": { "$set": { "made": false } }, "multi": true }] },
        doc! { "delete": "chunk", "deletes": [{ "q": others, "limit": 0 }] },
        doc! { "update": "table_copy", "updates": [{ "q": { "_id": of }, "u": stored, "upsert": true }] },
    ];
    fenced_writes(client, &doing, name, epoch, &commands).await.map(drop)
}

/// How far every table's copy got.
///
/// # Errors
/// `Fatal` for what cannot be read.
pub async fn copies(client: &Client, name: &str) -> Result<Vec<TableCopy>> {
    let doing = "reading how far the copy got";
    if !stands(client).await? {
        return Ok(Vec::new());
    }
    let plans = all(client, doing, "table_copy", doc! { "name": name }).await?;
    let chunks = all(client, doing, "chunk", doc! { "name": name }).await?;
    let mut copies = plans
        .iter()
        .map(|p| {
            let table = table_in(p);
            let mut copy = TableCopy {
                plan: serde_json::from_str(p.get_str("plan").unwrap_or("")).map_err(|e| unreadable("plan", e))?,
                snapshot_at: read_position(p, "snapshot_at")?
                    .ok_or_else(|| unreadable("snapshot_at", "it is missing"))?,
                resumed_at: read_position(p, "resumed_at")?,
                indexed: p.get_bool("indexed").unwrap_or(false),
                done: Vec::new(),
                rows: 0,
                rules: p.get_str("rules").unwrap_or("").to_owned(),
                table,
            };
            for c in chunks.iter().filter(|c| table_in(c) == copy.table) {
                let of = |what: &str| number(c.get(what)).ok_or_else(|| unreadable("chunk", "a number is missing"));
                copy.done.push(u32::try_from(of("number")?).map_err(|e| unreadable("chunk", e))?);
                copy.rows += u64::try_from(of("rows")?).map_err(|e| unreadable("chunk", e))?;
            }
            copy.done.sort_unstable();
            Ok(copy)
        })
        .collect::<Result<Vec<TableCopy>>>()?;
    copies.sort_by(|a, b| a.table.cmp(&b.table));
    Ok(copies)
}

/// The command by which a loader notes, in the last transaction of their rows, that chunks are done. The first has the count.
pub fn chunks_done(name: &str, source: &TableName, chunks: &[u32], rows: u64) -> Document {
    let of = of_table(name, source);
    let note = |(n, chunk): (usize, &u32)| {
        let mut id = of.clone();
        id.insert("number", i64::from(*chunk));
        let mut d = doc! { "_id": id };
        d.extend(of.clone());
        let rows = if n == 0 { i64::try_from(rows).unwrap_or(i64::MAX) } else { 0 };
        d.extend(doc! { "number": i64::from(*chunk), "rows": rows });
        d
    };
    doc! { "insert": "chunk", "documents": chunks.iter().enumerate().map(note).collect::<Vec<_>>() }
}

/// The command by which a loader notes, with the first rows of a chunk that takes several transactions, that rows of
/// `source` without a done chunk may be in the target: made-up keys of them begin with `marks`.
pub fn begin_unfinished(name: &str, epoch: i64, source: &TableName, target: &TableName, mark: &str) -> Document {
    let mut d = doc! { "_id": mark };
    d.extend(of_table(name, source));
    d.extend(doc! { "epoch": epoch, "to_schema": &target.schema, "to_table": &target.name });
    doc! { "update": "unfinished", "updates": [{ "q": { "_id": mark }, "u": d, "upsert": true }] }
}

/// The command that takes such a note back, with the chunk's last rows.
pub fn end_unfinished(mark: &str) -> Document {
    doc! { "delete": "unfinished", "deletes": [{ "q": { "_id": mark }, "limit": 1 }] }
}

/// A note of rows that belong to no done chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// What made-up keys of them begin with.
    pub mark: String,
    /// The target's table.
    pub to: TableName,
}

/// What former runs left unfinished of a table.
///
/// # Errors
/// The server's own.
pub async fn unfinished(client: &Client, name: &str, epoch: i64, source: &TableName) -> Result<Vec<Unfinished>> {
    let mut filter = of_table(name, source);
    filter.insert("epoch", doc! { "$lt": epoch });
    let found = all(client, "looking for unfinished chunks", "unfinished", filter).await?;
    Ok(found
        .iter()
        .map(|d| Unfinished {
            mark: d.get_str("_id").unwrap_or("").to_owned(),
            to: TableName::new(d.get_str("to_schema").unwrap_or(""), d.get_str("to_table").unwrap_or("")),
        })
        .collect())
}

/// Notes that a table's keys and indexes are made. What was unfinished of it is not any more.
///
/// # Errors
/// `Fatal` if no copy of it is planned.
pub async fn mark_indexed(client: &Client, name: &str, epoch: i64, table: &TableName) -> Result<()> {
    let doing = format!("noting that {table} is indexed");
    let commands = [
        doc! { "delete": "unfinished", "deletes": [{ "q": of_table(name, table), "limit": 0 }] },
        doc! { "update": "table_copy", "updates": [{ "q": { "_id": of_table(name, table) }, "u": { "$set": { "indexed": true } } }] },
    ];
    match fenced_writes(client, &doing, name, epoch, &commands).await? {
        0 => Err(Error::fatal(format!("no copy of {table} is planned in migration {name:?}"))),
        _ => Ok(()),
    }
}

/// The rows that were set aside, by source table and key.
///
/// # Errors
/// The server's own.
pub async fn dead_letters(client: &Client, name: &str) -> Result<Vec<(TableName, Vec<String>)>> {
    let found = all(client, "reading what was set aside", "dead_letter", doc! { "name": name }).await?;
    Ok(found.iter().map(|d| (table_in(d), d.get_str("key").ok().map(str::to_owned).into_iter().collect())).collect())
}

/// Forgets which rows of these source tables a merge left out.
///
/// # Errors
/// [`crate::error::Class::Fenced`] if the epoch was raised meanwhile.
pub async fn forget_skipped(client: &Client, name: &str, epoch: i64, sources: &[TableName]) -> Result<()> {
    let commands: Vec<Document> = sources
        .iter()
        .map(|s| doc! { "delete": "skipped", "deletes": [{ "q": of_table(name, s), "limit": 0 }] })
        .collect();
    fenced_writes(client, "forgetting which rows a merge left out", name, epoch, &commands).await.map(drop)
}

/// Notes which of these tables hold no document, and forgets older notes of those that do.
///
/// # Errors
/// [`crate::error::Class::Fenced`] if the epoch was raised meanwhile.
pub async fn note_empty(client: &Client, name: &str, epoch: i64, tables: &[TableName]) -> Result<()> {
    for t in tables {
        let doing = format!("looking whether {t} holds documents");
        let of = of_table(name, t);
        let command = if is_empty(client, t, &doing).await? {
            let mut d = doc! { "_id": of.clone() };
            d.extend(of.clone());
            doc! { "update": "was_empty", "updates": [{ "q": { "_id": of }, "u": d, "upsert": true }] }
        } else {
            doc! { "delete": "was_empty", "deletes": [{ "q": { "_id": of }, "limit": 1 }] }
        };
        fenced_writes(client, &doing, name, epoch, &[command]).await?;
    }
    Ok(())
}

/// Whether a collection holds no document.
///
/// # Errors
/// The server's own.
pub async fn is_empty(client: &Client, table: &TableName, doing: &str) -> Result<bool> {
    let find = doc! { "find": &table.name, "projection": { "_id": 1 }, "limit": 1, "singleBatch": true };
    let reply = run(client, &table.schema, doing, find).await?;
    Ok(crate::mongowire::server::first_batch(&reply).next().is_none())
}

/// The tables that held no document when they were looked at.
///
/// # Errors
/// The server's own.
pub async fn noted_empty(client: &Client, name: &str) -> Result<Vec<TableName>> {
    let found =
        all(client, "reading which tables held no documents before", "was_empty", doc! { "name": name }).await?;
    let mut tables: Vec<TableName> = found.iter().map(table_in).collect();
    tables.sort();
    Ok(tables)
}

/// Notes which collections the migration makes.
///
/// # Errors
/// [`crate::error::Class::Fenced`] if the epoch was raised meanwhile.
pub async fn note_made(client: &Client, name: &str, epoch: i64, tables: &[TableName]) -> Result<()> {
    let note = |t: &TableName| {
        let of = of_table(name, t);
        let mut d = doc! { "_id": of.clone() };
        d.extend(of.clone());
        doc! { "update": "made", "updates": [{ "q": { "_id": of }, "u": d, "upsert": true }] }
    };
    let commands: Vec<Document> = tables.iter().map(note).collect();
    fenced_writes(client, "noting which collections are made", name, epoch, &commands).await.map(drop)
}

/// The collections that [`note_made`] noted.
///
/// # Errors
/// The server's own.
pub async fn noted_made(client: &Client, name: &str) -> Result<Vec<TableName>> {
    match stands(client).await {
        Ok(true) => {}
        // An account that may not look is the preflight's to name; a migration that runs needs it for all else.
        Err(e) if e.code() != Some("13") => return Err(e),
        _ => return Ok(Vec::new()),
    }
    let found = all(client, "reading which collections are made", "made", doc! { "name": name }).await?;
    let mut tables: Vec<TableName> = found.iter().map(table_in).collect();
    tables.sort();
    Ok(tables)
}

/// The database of the bookkeeping is none of the migration's own.
pub fn is_ours(database: &str) -> bool {
    database == DATABASE
}
