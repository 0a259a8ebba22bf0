//! The collections that take part, as tables: read from the server, and what is not a collection of documents told apart.

use std::collections::BTreeMap;
use std::sync::Arc;

use bson::{Bson, Document, doc};
use mongodb::Client;

use super::index;
use super::known::{Described, Known, NOT_COPIED};
use crate::error::{Error, Result};
use crate::mongowire::command;
use crate::mongowire::server::first_batch;
use crate::schema::{Table, TableName};

/// What the server has of the selection.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// In name order.
    pub tables: Vec<Described>,
    /// Time-series collections: what changes in them is in no change stream.
    pub series: Vec<TableName>,
    /// What is not brought to the target, in words: `view shop.totals`.
    pub beside: Vec<String>,
}

/// Reads the catalog.
///
/// # Errors
/// As [`command::run`].
pub async fn read(client: &Client, known: &Known) -> Result<Catalog> {
    let mut catalog = Catalog::default();
    for database in databases(client, known).await? {
        for (name, kind, options, info) in collections(client, &database).await? {
            if !known.selects(&database, &name) {
                continue;
            }
            let table = TableName::new(&*database, &*name);
            match kind.as_str() {
                "view" => catalog.beside.push(format!("view {table}")),
                "timeseries" => catalog.series.push(table),
                _ => {
                    let mut d = known.describe(&table, &options, uuid(&info))?;
                    measure(client, &mut d).await?;
                    // Only those that can be carried change the order in which changes are applied.
                    if d.mapping.is_raw() && d.images {
                        let unique = indexes(client, &d.table.name).await?.iter().any(index::is_unique);
                        d.table = Arc::new(Table { has_secondary_unique: unique, ..(*d.table).clone() });
                    }
                    catalog.tables.push(d);
                }
            }
        }
    }
    catalog.tables.sort_by(|a, b| a.table.name.cmp(&b.table.name));
    Ok(catalog)
}

async fn databases(client: &Client, known: &Known) -> Result<Vec<String>> {
    if let Some(home) = known.only() {
        return Ok(vec![home.to_owned()]);
    }
    let doing = "reading which databases the source has";
    let reply = command::run(
        client,
        "admin",
        doing,
        doc! { "listDatabases": 1, "nameOnly": true, "authorizedDatabases": true },
    )
    .await?;
    let listed = reply.get_array("databases").map(Vec::as_slice).unwrap_or_default();
    let names = listed.iter().filter_map(|d| d.as_document()?.get_str("name").ok());
    Ok(names.filter(|n| !NOT_COPIED.contains(n)).map(str::to_owned).collect())
}

type Listed = (String, String, Document, Document);

/// Name, type, options and what else the server says of every collection of a database.
async fn collections(client: &Client, database: &str) -> Result<Vec<Listed>> {
    let doing = format!("reading which collections {database} has at the source");
    let db = client.database(database);
    let mut out = Vec::new();
    let mut reply =
        command::run(client, database, &doing, doc! { "listCollections": 1, "cursor": { "batchSize": 1000 } }).await?;
    loop {
        let cursor = reply.get_document("cursor").cloned().unwrap_or_default();
        let batch = cursor.get_array("firstBatch").or_else(|_| cursor.get_array("nextBatch"));
        for found in batch.map(Vec::as_slice).unwrap_or_default().iter().filter_map(Bson::as_document) {
            let part = |name| found.get_document(name).cloned().unwrap_or_default();
            let text = |name| found.get_str(name).unwrap_or_default().to_owned();
            out.push((text("name"), text("type"), part("options"), part("info")));
        }
        let id = cursor.get_i64("id").unwrap_or(0);
        if id == 0 {
            return Ok(out);
        }
        let more = doc! { "getMore": id, "collection": "$cmd.listCollections" };
        let db = db.clone();
        reply = command::finished(&doing, async move { db.run_command(more).await }).await?;
    }
}

fn uuid(info: &Document) -> String {
    match info.get("uuid") {
        Some(Bson::Binary(b)) => b.bytes.iter().map(|b| format!("{b:02x}")).collect(),
        _ => String::new(),
    }
}

/// How large a collection is, as its statistics say.
async fn measure(client: &Client, d: &mut Described) -> Result<()> {
    let name = &d.table.name;
    let doing = format!("asking how large {name} is at the source");
    let sizes = doc! { "$group": { "_id": null,
    "size": { "$sum": "$storageStats.size" }, "count": { "$sum": "$storageStats.count" } } };
    let pipeline = vec![doc! { "$collStats": { "storageStats": {} } }, sizes];
    let command = doc! { "aggregate": &*name.name, "pipeline": pipeline, "cursor": {} };
    let reply = match command::run(client, &name.schema, &doing, command).await {
        Ok(reply) => reply,
        // Dropped just now; whoever reads it will say so.
        Err(e) if matches!(e.code(), Some("26")) => return Ok(()),
        Err(e) => return Err(e),
    };
    let Some(found) = first_batch(&reply).next() else { return Ok(()) };
    let number = |name| match found.get(name) {
        Some(Bson::Int32(n)) => u64::try_from(*n).unwrap_or(0),
        Some(Bson::Int64(n)) => u64::try_from(*n).unwrap_or(0),
        Some(Bson::Double(n)) => *n as u64,
        _ => 0,
    };
    let (bytes, rows) = (number("size"), number("count"));
    d.document_bytes = bytes.checked_div(rows).unwrap_or(0);
    d.table = Arc::new(Table { estimated_rows: rows, bytes, ..(*d.table).clone() });
    Ok(())
}

/// The described tables that correspond to `tables`, in the same order.
///
/// # Errors
/// `Retry` where one is gone.
pub fn of(catalog: Catalog, tables: &[Arc<Table>]) -> Result<Vec<Described>> {
    let mut all: BTreeMap<TableName, Described> =
        catalog.tables.into_iter().map(|d| (d.table.name.clone(), d)).collect();
    let gone = |t: &Table| Error::retry(format!("{}: the source's collection was dropped or renamed just now", t.name));
    tables.iter().map(|t| all.remove(&t.name).ok_or_else(|| gone(t))).collect()
}

/// The indexes of a collection beside the one of `_id`, as the server describes them.
///
/// # Errors
/// As [`command::run`].
pub async fn indexes(client: &Client, name: &TableName) -> Result<Vec<Document>> {
    let doing = format!("reading the indexes of {name} at the source");
    let command = doc! { "listIndexes": &*name.name, "cursor": { "batchSize": 1000 } };
    let reply = match command::run(client, &name.schema, &doing, command).await {
        Ok(reply) => reply,
        // Dropped just now.
        Err(e) if e.code() == Some("26") => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    // That of `_id` has this name; of a clustered collection it may have another.
    let own = |i: &Document| i.get_str("name").is_ok_and(|n| n == "_id_") || i.get_bool("clustered").unwrap_or(false);
    Ok(first_batch(&reply).filter(|i| !own(i)).cloned().collect())
}
