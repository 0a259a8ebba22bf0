//! Makes collections and indexes: repeatable, because what exists is left alone.

use std::sync::Arc;

use bson::{Document, doc};
use mongodb::Client;

use super::adopt::{Create, CreateIndex, defined};
use super::bookkeeping::{self, hold};
use super::catalog;
use super::session::{Durable, Session, majority};
use super::shape::Shape;
use crate::error::{Error, Result};
use crate::mongowire::command::{finished_within, run};
use crate::schema::{SchemaObject, SchemaScript, Stage, TableName};

/// How long one index may take to be made.
pub(super) const INDEX_PATIENCE: std::time::Duration = std::time::Duration::from_secs(48 * 3600);
/// Documents that are removed in one transaction.
const REMOVED_AT_ONCE: i32 = 10_000;

/// What a daemon is to the target.
#[derive(Clone, Copy, Debug)]
pub struct Mine<'a> {
    /// The migration.
    pub name: &'a str,
    /// Its epoch.
    pub epoch: i64,
}

/// Makes the script's objects of `stage`; of one table, or of all.
///
/// # Errors
/// The server's own. Documents that are equal in a unique index are one.
pub async fn create(
    client: &Client,
    mine: Mine<'_>,
    script: &SchemaScript,
    stage: Stage,
    table: Option<&TableName>,
) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for o in script.objects.iter().filter(|o| o.stage == stage && (table.is_none() || o.table.as_ref() == table)) {
        match o.kind.as_str() {
            "COLLECTION" => {
                let c: Create = read(o)?;
                collection(client, &c.table.name).await?;
                catalog::keep_all(client, mine.name, mine.epoch, &[Arc::new(c.table)], false).await?;
            }
            "PRIMARY KEY" | "INDEX" | "UNIQUE INDEX" => {
                let i: CreateIndex = read(o)?;
                let home = TableName::new(&o.schema, &i.collection);
                index(client, mine.name, &home, &i, &mut warnings).await?;
            }
            other => return Err(Error::fatal(format!("the target has no objects of the kind {other:?}"))),
        }
    }
    Ok(warnings)
}

fn read<T: serde::de::DeserializeOwned>(o: &SchemaObject) -> Result<T> {
    serde_json::from_str(&o.sql)
        .map_err(|e| Error::fatal(format!("the command that makes {} {} cannot be read: {e}", o.kind, o.name)))
}

/// Makes a collection if it is not there.
///
/// # Errors
/// The server's own.
pub async fn collection(client: &Client, table: &TableName) -> Result<()> {
    let doing = format!("making the collection {table} on the target");
    match run(client, &table.schema, &doing, doc! { "create": &table.name, "writeConcern": majority() }).await {
        Ok(_) => Ok(()),
        // NamespaceExists.
        Err(e) if e.code() == Some("48") => Ok(()),
        Err(e) => Err(e),
    }
}

/// The index as the server is told of it; `None` where `_id` does the same.
fn specification(i: &CreateIndex, shape: &Shape) -> Result<Option<Document>, String> {
    let path = |c: &String| shape.path_of(c).ok_or_else(|| format!("column {c} is not in the collection"));
    let mut key = Document::new();
    for (column, direction) in &i.key {
        key.insert(path(column)?, *direction);
    }
    let ids: Vec<&String> = key.keys().filter(|k| k.as_str() == "_id" || k.starts_with("_id.")).collect();
    let covers = shape.table.key().len() == ids.len() && ids.len() == key.len();
    // Only `_id` itself has its index already; a document under it is compared field by field there, too.
    if covers && (i.primary || key.len() == 1) {
        return Ok(None);
    }
    let mut spec = doc! { "key": key, "name": &i.name };
    if i.unique {
        spec.insert("unique", true);
    }
    let mut partial = Document::new();
    for c in &i.not_null {
        let form = shape.table.column(c).and_then(|at| shape.form(at));
        let Some(alias) = form.and_then(super::words::alias) else {
            return Err(format!("column {c} has values of several types"));
        };
        partial.insert(path(c)?, doc! { "$type": alias });
    }
    if !partial.is_empty() {
        spec.insert("partialFilterExpression", partial);
    }
    Ok(Some(spec))
}

async fn index(
    client: &Client,
    name: &str,
    home: &TableName,
    i: &CreateIndex,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let found = catalog::tables(client, name, std::slice::from_ref(home)).await?;
    let Some(table) = found.into_iter().next().flatten() else {
        return Err(Error::fatal(format!("the target has no collection {home} (any more)")));
    };
    let spec =
        match &i.definition {
            Some(json) => Some(defined(json).ok_or_else(|| {
                Error::fatal(format!("the definition of the index {} of {home} cannot be read", i.name))
            })?),
            None => None,
        };
    let spec = match spec {
        Some(spec) => Ok(Some(spec)),
        None => Shape::new(&table, None).and_then(|shape| specification(i, &shape)),
    };
    let spec = match spec {
        Ok(Some(spec)) => spec,
        Ok(None) => return Ok(()),
        Err(why) => {
            warnings.push(format!("index {} of {home} is not made: {why}", i.name));
            return Ok(());
        }
    };
    let there = catalog::indexes(client, home).await?;
    if there.iter().any(|d| d.get_str("name").ok() == Some(i.name.as_str())) {
        return Ok(());
    }
    let doing = format!("making the index {} of {home} on the target", i.name);
    let command = doc! { "createIndexes": &home.name, "indexes": [spec], "writeConcern": majority() };
    let db = client.database(&home.schema);
    let made = finished_within(INDEX_PATIENCE, &doing, async move { db.run_command(command).await }).await;
    match made {
        Ok(_) => Ok(()),
        // The same index under another name.
        Err(e) if e.code() == Some("85") => {
            warnings.push(format!("{home} has an index like {} under another name: it is left as it is", i.name));
            Ok(())
        }
        Err(e) if e.code() == Some("11000") => Err(e.hint("rows are equal to MongoDB that the source keeps apart (numbers of different types, or values that an index of the source leaves out): change the rows at the source, or make the index there another one; then start again")),
        Err(e) => Err(e),
    }
}

/// Removes every document of a collection, in transactions that only the daemon of this epoch can commit: a late one of a
/// predecessor must not remove what its successor has loaded.
///
/// # Errors
/// [`crate::error::Class::Fenced`] if the epoch was raised meanwhile.
pub async fn empty(client: &Client, mine: Mine<'_>, table: &TableName) -> Result<()> {
    let doing = format!("emptying {table}, whose copy begins anew");
    let mut s = bookkeeping::listed(client, mine.name).await?;
    let mut tries = 0;
    let done = loop {
        let once = async {
            s.begin(Durable::Later).await?;
            let n = remove_some(&mut s, &doing, table, Document::new()).await?;
            hold(&mut s, &doing, mine.name, mine.epoch).await?;
            s.commit(&doing).await?;
            Ok::<_, Error>(n)
        }
        .await;
        match once {
            Ok(0) => break Ok(()),
            Ok(_) => tries = 0,
            Err(e) if e.is_conflict() && tries < 10 => {
                s.abort().await;
                tries += 1;
                tokio::time::sleep(std::time::Duration::from_millis(10 << tries)).await;
            }
            Err(e) => {
                s.abort().await;
                break Err(e);
            }
        }
    };
    bookkeeping::unlist(s).await;
    done
}

/// Removes some documents that match, inside the open transaction. How many; none when all are gone.
///
/// # Errors
/// The server's own.
pub async fn remove_some(s: &mut Session, doing: &str, table: &TableName, filter: Document) -> Result<usize> {
    let find = doc! { "find": &table.name, "filter": filter, "projection": { "_id": 1 }, "limit": REMOVED_AT_ONCE };
    let found = s.find(doing, &table.schema, find).await?;
    let ids: Vec<_> = found.iter().filter_map(|d| d.get("_id").cloned()).collect();
    let n = ids.len();
    if n > 0 {
        let delete = doc! { "delete": &table.name, "deletes": [{ "q": { "_id": { "$in": ids } }, "limit": 0 }] };
        s.write(doing, &table.schema, delete).await?;
    }
    Ok(n)
}
