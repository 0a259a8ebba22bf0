//! What the target refused, in words: which collection, which index, which rows.

use bson::{Bson, Document, RawDocument, RawDocumentBuf, doc};
use mongodb::Client;

use super::command::{Refusal, Verb};
use super::session::Session;
use super::shape::Shape;
use super::values;
use crate::documents::{key, write};
use crate::error::{Error, Result};
use crate::mongowire::errors;
use crate::mongowire::server::first_batch;
use crate::schema::TableName;
use crate::value::Row;

/// Keys that an error names.
const SHOWN: usize = 5;
/// Rows that are looked for at once.
const LOOKED_FOR: usize = 500;

/// Rows of a table cannot be documents of its collection.
pub fn no_documents(table: &TableName, why: &str) -> Error {
    Error::fatal(format!("{table}: its rows cannot be documents: {why}"))
        .with_code("switchyard:type")
        .hint("rename the column with a rule (rename = { … }), or leave it out (drop)")
}

/// A statement that was refused. Of a duplicate both keys are named, where they can be told.
pub async fn refused(
    client: &Client,
    shape: &Shape,
    verb: Verb,
    r: &Refusal,
    command: Option<&RawDocumentBuf>,
) -> Error {
    let table = &shape.table.name;
    let doing = format!(
        "{table}: {} rows on the target",
        match verb {
            Verb::Insert => "inserting",
            Verb::Update => "updating",
            Verb::Delete => "deleting",
        }
    );
    if r.code != 11000 {
        let e = errors::from_server(&doing, r.code, &r.message);
        return match r.code {
            121 => e.hint("the collection has a validator that refuses the row: relax it (collMod, validationLevel \"off\"), then start again"),
            10334 | 17280 | 17419 | 17420 => e.hint("the document is larger than MongoDB takes: leave large columns out with a rule (drop), or the row (where)"),
            _ => e,
        };
    }
    let index = r.message.split("index: ").nth(1).and_then(|t| t.split(" dup key").next()).unwrap_or("_id_");
    let ours = command.and_then(|c| key_at(c, verb, r.place));
    let other = match &r.value {
        Some(value) => other(client, table, value).await,
        None => None,
    };
    let shown = |id: &Option<Bson>| id.as_ref().map_or("(unknown)".to_owned(), plain);
    Error::fatal(format!(
        "{doing}: duplicate key in index {index} of {table}: the row with _id {} meets the document with _id {} (error 11000)",
        shown(&ours),
        shown(&other)
    ))
    .with_code("11000")
    .hint("a document that is equal in this index is there already: somebody else wrote to the target, two tables that rules merge have the same key (on_existing says what then), or the source keeps values apart that MongoDB does not (numbers of different types; an index that leaves rows out)")
}

/// The document that holds the value, as it is outside the transaction.
async fn other(client: &Client, table: &TableName, value: &Document) -> Option<Bson> {
    let mut filter = Document::new();
    for (path, v) in value {
        filter.insert(path.clone(), doc! { "$eq": v.clone() });
    }
    let find =
        doc! { "find": &table.name, "filter": filter, "projection": { "_id": 1 }, "limit": 1, "singleBatch": true };
    let reply = crate::mongowire::command::run(client, &table.schema, "looking for a duplicate", find).await.ok()?;
    first_batch(&reply).next().and_then(|d| d.get("_id").cloned())
}

/// `_id` of the document that a statement writes.
fn key_at(command: &RawDocument, verb: Verb, place: usize) -> Option<Bson> {
    let id = |d: &RawDocument| d.get("_id").ok().flatten().and_then(|v| Bson::try_from(v).ok());
    match verb {
        Verb::Insert => id(command.get_array("documents").ok()?.into_iter().nth(place)?.ok()?.as_document()?),
        Verb::Update => {
            let element = command.get_array("updates").ok()?.into_iter().nth(place)?.ok()?;
            let statement = element.as_document()?;
            let with = statement.get_document("u").ok()?;
            id(with).or_else(|| id(statement.get_document("q").ok()?))
        }
        Verb::Delete => None,
    }
}

pub(super) fn plain(id: &Bson) -> String {
    match id {
        Bson::String(s) => s.clone(),
        Bson::ObjectId(o) => o.to_hex(),
        Bson::Document(d) if d.len() == 1 && d.contains_key("$eq") => d.get("$eq").map_or_else(String::new, plain),
        other => {
            let mut text = Vec::new();
            let bytes = doc! { "_id": other.clone() }.to_vec().unwrap_or_default();
            match values::id_of(&bytes).map(|v| key::text(&mut text, &v)) {
                Some(Ok(())) => String::from_utf8_lossy(&text).into_owned(),
                _ => "(unreadable)".to_owned(),
            }
        }
    }
}

/// Which of these rows have no document, by halves: most have.
///
/// # Errors
/// The server's own.
pub async fn absent<'r>(s: &mut Session, shape: &Shape, rows: &[&'r Row], most: usize) -> Result<Vec<&'r Row>> {
    let mut gone = Vec::new();
    for rows in rows.chunks(LOOKED_FOR) {
        let mut waiting = vec![rows];
        while let Some(part) = waiting.pop() {
            if gone.len() >= most {
                return Ok(gone);
            }
            if found(s, shape, part).await? >= part.len() {
                continue;
            }
            match part {
                [one] => gone.push(*one),
                _ => {
                    let (first, second) = part.split_at(part.len() / 2);
                    waiting.push(second);
                    waiting.push(first);
                }
            }
        }
    }
    Ok(gone)
}

/// How many documents these rows find.
async fn found(s: &mut Session, shape: &Shape, rows: &[&Row]) -> Result<usize> {
    let doing = format!("{}: looking for rows on the target", shape.table.name);
    let mut o = Vec::new();
    let name =
        |o: &mut Vec<u8>, tag: u8, name: &str| write::name(o, tag, name.as_bytes()).map(drop).map_err(Error::fatal);
    let start = write::open(&mut o);
    name(&mut o, 0x02, "find")?;
    write::string(&mut o, shape.table.name.name.as_bytes());
    name(&mut o, 0x03, "filter")?;
    let filter = write::open(&mut o);
    name(&mut o, 0x04, "$or")?;
    let list = write::open(&mut o);
    for (n, row) in rows.iter().enumerate() {
        name(&mut o, 0x03, &n.to_string())?;
        shape.filter(&mut o, row)?;
    }
    write::close(&mut o, list);
    write::close(&mut o, filter);
    name(&mut o, 0x03, "projection")?;
    o.extend_from_slice(bson::rawdoc! { "_id": 1 }.as_bytes());
    name(&mut o, 0x10, "batchSize")?;
    o.extend_from_slice(&1_000_000_i32.to_le_bytes());
    name(&mut o, 0x08, "singleBatch")?;
    o.push(1);
    write::close(&mut o, start);
    let command = RawDocumentBuf::from_bytes(o)
        .map_err(|e| Error::fatal(format!("{doing}: the query cannot be written: {e}")))?;
    let reply = s.raw(&doing, &shape.table.name.schema, command).await?;
    Ok(first_batch(&reply).count())
}

/// An update or delete that did not find its row: the target is not what the source thinks. Names some keys.
pub async fn diverged(client: &Client, shape: &Shape, what: &str, rows: &[&Row], got: u64) -> Error {
    let keys = async {
        // Outside the transaction, in which deleted rows are gone.
        let mut s = Session::start(client).await?;
        absent(&mut s, shape, rows, SHOWN).await
    }
    .await;
    let keys: Vec<String> = keys.unwrap_or_default().iter().map(|r| shape.key_text(r)).collect();
    let shown = if keys.is_empty() { String::new() } else { format!("; not there: {}", keys.join("; ")) };
    Error::fatal(format!("{}: {what} of {} rows found only {got} on the target{shown}", shape.table.name, rows.len()))
        .with_code("switchyard:diverged")
        .hint("somebody else wrote to the target, or it is not the one that was copied: compare these rows, mend them and start again, or copy anew")
}
