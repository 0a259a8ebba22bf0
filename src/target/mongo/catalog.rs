//! What the target has: collections, their indexes, and the tables whose rows are written into them.
//!
//! Documents have no declared columns. How a table's rows become documents is kept in `switchyard.tables` when its collection
//! is made, or first written to; a collection that nothing is known of is looked into.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bson::{Bson, Document, doc};
use mongodb::Client;

use super::bookkeeping::{self, DATABASE, fenced_writes, stands, unreadable};
use super::copies::of_table;
use super::words;
use crate::definition::DataType;
use crate::error::{Error, Result};
use crate::mongowire::command::run;
use crate::mongowire::server::first_batch;
use crate::schema::{Column, Kind, RowIdentity, Table, TableId, TableName};

/// Documents that are looked at where nothing is known of a collection.
const LOOKED_AT: i32 = 200;

/// A unique index besides that of `_id`.
#[derive(Clone, Debug, PartialEq)]
pub struct Unique {
    /// Its name.
    pub name: String,
    /// The paths in it.
    pub paths: Vec<String>,
    /// Which documents it holds; none: all.
    pub partial: Option<Document>,
}

/// A collection of the target.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// The table whose rows are its documents.
    pub table: Table,
    /// Unique indexes.
    pub uniques: Vec<Unique>,
    /// `collection`, `view`, `timeseries`.
    pub kind: String,
    /// Its options: validator, capped, collation.
    pub options: Document,
    /// Whether its table is known, and was not guessed from documents.
    pub known: bool,
}

/// The collections of these names, in the same order; a missing one is `None`.
///
/// # Errors
/// The server's own.
pub async fn described(client: &Client, name: &str, tables: &[TableName]) -> Result<Vec<Option<Described>>> {
    let mut found: BTreeMap<&TableName, (String, Document)> = BTreeMap::new();
    let databases: BTreeSet<&str> = tables.iter().map(|t| t.schema.as_str()).collect();
    for database in databases {
        let doing = format!("listing the collections of {database} on the target");
        let (db, of) = (client.database(database), doing.clone());
        let wanted: Vec<&str> = tables.iter().filter(|t| t.schema == database).map(|t| t.name.as_str()).collect();
        let filter = doc! { "name": { "$in": wanted } };
        let listed = crate::mongowire::command::finished(&doing, async move {
            let mut cursor = db.list_collections().filter(filter).batch_size(1000).await?;
            let mut all = Vec::new();
            while cursor.advance().await? {
                all.push(Document::try_from(cursor.current())?);
            }
            Ok(all)
        })
        .await;
        let listed = listed.map_err(|e| e.context(&of))?;
        for d in listed {
            let collection = d.get_str("name").unwrap_or("");
            if let Some(t) = tables.iter().find(|t| t.schema == database && t.name == collection) {
                let kind = d.get_str("type").unwrap_or("collection").to_owned();
                found.insert(t, (kind, d.get_document("options").cloned().unwrap_or_default()));
            }
        }
    }
    let known = if found.is_empty() { BTreeMap::new() } else { stored(client, name, tables).await? };
    let mut out = Vec::with_capacity(tables.len());
    for t in tables {
        let Some((kind, options)) = found.get(t) else {
            out.push(None);
            continue;
        };
        let uniques = if kind == "collection" { uniques(client, t).await? } else { Vec::new() };
        let (mut table, known) = match known.get(t) {
            Some(table) => (table.clone(), true),
            None if kind == "collection" => (guessed(client, t).await?, false),
            None => (of_fields(t, vec![("_id".into(), "objectId")]), false),
        };
        table.has_secondary_unique = !uniques.is_empty();
        out.push(Some(Described { table, uniques, kind: kind.clone(), options: options.clone(), known }));
    }
    Ok(out)
}

/// The tables of these names as they are written into collections.
///
/// # Errors
/// As [`described`].
pub async fn tables(client: &Client, name: &str, names: &[TableName]) -> Result<Vec<Option<Arc<Table>>>> {
    Ok(described(client, name, names).await?.into_iter().map(|d| d.map(|d| Arc::new(d.table))).collect())
}

/// The collection's indexes, as `listIndexes` tells them.
///
/// # Errors
/// The server's own.
pub async fn indexes(client: &Client, table: &TableName) -> Result<Vec<Document>> {
    let doing = format!("listing the indexes of {table}");
    let command = doc! { "listIndexes": &table.name, "cursor": { "batchSize": 1000 } };
    match run(client, &table.schema, &doing, command).await {
        Ok(reply) => Ok(first_batch(&reply).cloned().collect()),
        // No such collection.
        Err(e) if e.code() == Some("26") => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

async fn uniques(client: &Client, table: &TableName) -> Result<Vec<Unique>> {
    let found = indexes(client, table).await?;
    let of = |d: &Document| {
        let key = d.get_document("key").ok()?;
        let alone = key.len() == 1 && key.contains_key("_id");
        (d.get_bool("unique").unwrap_or(false) && !alone).then(|| Unique {
            name: d.get_str("name").unwrap_or("").to_owned(),
            paths: key.keys().cloned().collect(),
            partial: d.get_document("partialFilterExpression").ok().cloned(),
        })
    };
    Ok(found.iter().filter_map(of).collect())
}

/// The tables that are known.
async fn stored(client: &Client, name: &str, tables: &[TableName]) -> Result<BTreeMap<TableName, Table>> {
    if !stands(client).await? {
        return Ok(BTreeMap::new());
    }
    let ids: Vec<Document> = tables.iter().map(|t| of_table(name, t)).collect();
    let filter = doc! { "_id": { "$in": ids } };
    let found = bookkeeping::all(client, "reading the target's tables", "tables", filter).await?;
    let mut out = BTreeMap::new();
    for d in found {
        let text = d.get_str("definition").map_err(|e| unreadable("table", e))?;
        let table: Table = serde_json::from_str(text).map_err(|e| unreadable("table", e))?;
        out.insert(table.name.clone(), table);
    }
    Ok(out)
}

/// The command that keeps how a table's rows become documents. `anew`: also where something is kept already.
///
/// # Errors
/// `Fatal` if it cannot be written.
pub fn keep(name: &str, table: &Table, anew: bool) -> Result<Document> {
    let text = serde_json::to_string(table)
        .map_err(|e| Error::fatal(format!("writing the definition of {}: {e}", table.name)))?;
    let of = of_table(name, &table.name);
    let mut d = of.clone();
    d.insert("definition", text);
    let with = if anew {
        doc! { "$set": d }
    } else {
        doc! { "$setOnInsert": d }
    };
    Ok(doc! { "update": "tables", "updates": [{ "q": { "_id": of }, "u": with, "upsert": true }] })
}

/// Keeps tables durably.
///
/// # Errors
/// [`crate::error::Class::Fenced`] if the epoch was raised meanwhile.
pub async fn keep_all(client: &Client, name: &str, epoch: i64, tables: &[Arc<Table>], anew: bool) -> Result<()> {
    for some in tables.chunks(200) {
        let commands = some.iter().map(|t| keep(name, t, anew)).collect::<Result<Vec<Document>>>()?;
        fenced_writes(client, &format!("keeping tables in {DATABASE}.tables"), name, epoch, &commands).await?;
    }
    Ok(())
}

/// A table as the documents of a collection suggest it: `_id` is the key, and every field that was seen is a column.
async fn guessed(client: &Client, name: &TableName) -> Result<Table> {
    let doing = format!("looking into {name} on the target");
    let find = doc! { "find": &name.name, "limit": LOOKED_AT, "batchSize": LOOKED_AT };
    let reply = run(client, &name.schema, &doing, find).await?;
    let mut columns: Vec<(String, &'static str)> = vec![("_id".into(), "string")];
    let mut first = true;
    for d in first_batch(&reply) {
        for (field, value) in d {
            let word = word_of(value);
            match columns.iter_mut().find(|(n, _)| n == field) {
                Some((n, w)) if n == "_id" && first => *w = word.unwrap_or("string"),
                Some((_, w)) if *w == "?" => *w = word.unwrap_or("?"),
                Some(_) => {}
                None => columns.push((field.clone(), word.unwrap_or("?"))),
            }
        }
        first = false;
    }
    Ok(of_fields(name, columns))
}

/// A table of these fields and types, of which the first is the key.
fn of_fields(name: &TableName, columns: Vec<(String, &'static str)>) -> Table {
    let columns = columns.into_iter().enumerate().map(|(n, (name, word))| {
        let (type_name, kind, data) =
            words::named(word).unwrap_or(("string".into(), Kind::Text, DataType::Text { bytes: None }));
        Column {
            nullable: name != "_id",
            name,
            number: i32::try_from(n + 1).unwrap_or(i32::MAX),
            type_name,
            kind,
            data,
            identity: None,
            default: None,
            collation: None,
            portable_binary: false,
        }
    });
    Table {
        id: TableId(0),
        name: name.clone(),
        columns: columns.collect(),
        generated: Vec::new(),
        identity: RowIdentity::Key(vec![0]),
        full_old_rows: false,
        full_old_rows_by: String::new(),
        has_secondary_unique: false,
        partitioned: false,
        estimated_rows: 0,
        bytes: 0,
    }
}

fn word_of(value: &Bson) -> Option<&'static str> {
    Some(match value {
        Bson::Boolean(_) => "bool",
        Bson::Int32(_) => "int",
        Bson::Int64(_) => "long",
        Bson::Double(_) => "double",
        Bson::Decimal128(_) => "decimal",
        Bson::Binary(b) if b.subtype == bson::spec::BinarySubtype::Uuid => "uuid",
        Bson::Binary(_) => "binData",
        Bson::DateTime(_) => "date",
        Bson::ObjectId(_) => "objectId",
        Bson::Document(_) | Bson::Array(_) => "object",
        Bson::Null | Bson::Undefined => return None,
        _ => "string",
    })
}
