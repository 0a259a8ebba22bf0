//! Notes of what a merge that skips left out: the target's keys, by source table, in `switchyard.skipped`. Pure.
//!
//! Later changes of a noted key are left out, too, so that a change of one table's row never reaches another table's. When
//! the source deletes the row, its note goes with it.

use bson::{Document, RawDocumentBuf};

use super::command::{self, Statements, Verb};
use crate::documents::cursor::{Doc, Value};
use crate::documents::write;
use crate::error::{Error, Result};
use crate::schema::TableName;

/// Lists of rows that a merge may leave out.
pub fn no_skipped_lists(table: &TableName) -> Error {
    Error::fatal(format!("{table}: a rule that skips rows takes lists apart, which this target cannot carry"))
        .hint("leave out on_existing = \"skip\" or the rule's explode part")
}

fn collection() -> TableName {
    TableName::new(command::DATABASE, "skipped")
}

/// `{ name, schema, table, to_schema, to_table, key }`; `key` is a whole element of that name.
fn id(out: &mut Vec<u8>, name: &str, source: &TableName, target: &TableName, key: &[u8]) -> Result<()> {
    let start = write::open(out);
    let texts = [
        ("name", name),
        ("schema", &source.schema),
        ("table", &source.name),
        ("to_schema", &target.schema),
        ("to_table", &target.name),
    ];
    for (field, text) in texts {
        write::field(out, field.as_bytes(), &Value::String(text.as_bytes())).map_err(Error::fatal)?;
    }
    out.extend_from_slice(key);
    write::close(out, start);
    Ok(())
}

fn element(out: &mut Vec<u8>, field: &[u8], with: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
    write::name(out, 0x03, field).map_err(Error::fatal)?;
    with(out)
}

/// Commands that note keys, each an element `key`.
///
/// # Errors
/// `Fatal` if they cannot be written.
pub fn note<'a>(
    name: &str,
    source: &TableName,
    target: &TableName,
    keys: impl Iterator<Item = &'a [u8]>,
) -> Result<Vec<RawDocumentBuf>> {
    let mut out = Vec::new();
    let mut open: Option<Statements> = None;
    for key in keys {
        let mut one = Vec::with_capacity(256);
        let query = |o: &mut Vec<u8>| {
            let start = write::open(o);
            element(o, b"_id", |o| id(o, name, source, target, key))?;
            write::close(o, start);
            Ok(())
        };
        let with = |o: &mut Vec<u8>| {
            let start = write::open(o);
            element(o, b"$setOnInsert", |o| {
                let within = write::open(o);
                for (field, text) in [("name", name), ("schema", &*source.schema), ("table", &*source.name)] {
                    write::field(o, field.as_bytes(), &Value::String(text.as_bytes())).map_err(Error::fatal)?;
                }
                write::close(o, within);
                Ok(())
            })?;
            write::close(o, start);
            Ok(())
        };
        command::update(&mut one, query, with, true, false)?;
        push(&mut out, &mut open, Verb::Update, &one)?;
    }
    out.extend(open.map(Statements::finish).transpose()?);
    Ok(out)
}

/// Commands that forget the notes of keys, each an element `key`.
///
/// # Errors
/// `Fatal` if they cannot be written.
pub fn forget<'a>(
    name: &str,
    source: &TableName,
    target: &TableName,
    keys: impl Iterator<Item = &'a [u8]>,
) -> Result<Vec<RawDocumentBuf>> {
    let mut out = Vec::new();
    let mut open: Option<Statements> = None;
    for key in keys {
        let mut one = Vec::with_capacity(256);
        let query = |o: &mut Vec<u8>| {
            let start = write::open(o);
            element(o, b"_id", |o| id(o, name, source, target, key))?;
            write::close(o, start);
            Ok(())
        };
        command::delete(&mut one, query, false)?;
        push(&mut out, &mut open, Verb::Delete, &one)?;
    }
    out.extend(open.map(Statements::finish).transpose()?);
    Ok(out)
}

fn push(out: &mut Vec<RawDocumentBuf>, open: &mut Option<Statements>, verb: Verb, one: &[u8]) -> Result<()> {
    if let Some(full) = open.take_if(|s| s.is_full(one.len())) {
        out.push(full.finish()?);
    }
    let statements = match open {
        Some(s) => s,
        None => open.insert(Statements::new(verb, &collection())?),
    };
    statements.push(one);
    Ok(())
}

/// The query for the notes of keys, each an element `key`.
///
/// # Errors
/// `Fatal` if it cannot be written.
pub fn find<'a>(
    name: &str,
    source: &TableName,
    target: &TableName,
    keys: impl Iterator<Item = &'a [u8]>,
) -> Result<RawDocumentBuf> {
    let mut o = Vec::new();
    let start = write::open(&mut o);
    write::field(&mut o, b"find", &Value::String(b"skipped")).map_err(Error::fatal)?;
    element(&mut o, b"filter", |o| {
        let filter = write::open(o);
        element(o, b"_id", |o| {
            let within = write::open(o);
            write::name(o, 0x04, b"$in").map_err(Error::fatal)?;
            let list = write::open(o);
            for (n, key) in keys.enumerate() {
                element(o, n.to_string().as_bytes(), |o| id(o, name, source, target, key))?;
            }
            write::close(o, list);
            write::close(o, within);
            Ok(())
        })?;
        write::close(o, filter);
        Ok(())
    })?;
    write::field(&mut o, b"singleBatch", &Value::Bool(true)).map_err(Error::fatal)?;
    write::field(&mut o, b"batchSize", &Value::Int32(1_000_000)).map_err(Error::fatal)?;
    write::close(&mut o, start);
    RawDocumentBuf::from_bytes(o).map_err(|e| Error::fatal(format!("a query cannot be written: {e}")))
}

/// The key of a note, as an element `key`.
pub fn key_of(note: &Document) -> Option<Vec<u8>> {
    let mut alone = Document::new();
    alone.insert("key", note.get_document("_id").ok()?.get("key")?.clone());
    let bytes = alone.to_vec().ok()?;
    Doc::new(&bytes).ok()?;
    bytes.get(4..bytes.len().checked_sub(1)?).map(<[u8]>::to_vec)
}
