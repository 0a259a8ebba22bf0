//! MongoDB servers with the same settings, the documents of the benchmarks, and their change streams read raw.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bson::{Document, doc, oid::ObjectId};
use futures_util::StreamExt;
use mongodb::Client;
use mongodb::raw_batch_cursor::RawBatchCursor;
use switchyard::sandbox::{self, MongoInstall, MongoServer};

use super::rig::{DATABASE, say};

/// The collection of the benchmarks.
pub const COLLECTION: &str = "things";
/// What becomes of its documents: five typed columns beside the key. `rest` stays NULL.
pub const RULE: &str = "[[rule]]\nfrom = \"bench.things\"\nto = \"public.things\"\n[rule.fields]\n_id = \"objectid\"\n\
    name = \"text not null\"\nn = \"bigint\"\nprice = \"double precision\"\nat = \"timestamptz\"\nnote = \"text\"\n";
/// Whom the documents are made by at the same time, and documents or updates of one command.
const SESSIONS: u64 = 4;
const STEP: u64 = 5_000;
/// As the library asks for them.
const BATCH: u32 = 20_000;
const EVENTS: u32 = 2_000;

/// A replica set of one member with 1 GB of cache, and an oplog that holds every backlog.
pub fn server() -> Result<MongoServer> {
    let install = sandbox::find_mongo()?;
    MongoServer::builder(&install).setting("wiredTigerCacheSizeGB", "1").setting("oplogSize", "4096").start()
}

/// `MongoDB 6.0.5`, for a table's title.
pub fn version(install: &MongoInstall) -> String {
    format!("MongoDB {}", install.version)
}

/// Everything that was written is on disk, so that no checkpoint falls into somebody's turn.
pub fn settle(server: &MongoServer) -> Result<()> {
    server.run("admin", doc! { "fsync": 1 }).map(drop)
}

fn id(n: u64) -> ObjectId {
    let mut bytes = [0x65, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes[4..].copy_from_slice(&n.to_be_bytes());
    ObjectId::from_bytes(bytes)
}

/// A document of about 170 bytes.
fn document(n: u64) -> Document {
    let name = format!("Kundin Zoë 🚂 {n}");
    let note = format!("row \"{}\"\t{:.<52}", n % 97, n);
    let at = bson::DateTime::from_millis(1_704_067_200_000 + n as i64 * 1_003);
    doc! { "_id": id(n), "name": name, "n": n as i64, "price": (n % 1_000_000) as f64 / 100.0, "at": at, "note": note }
}

/// Bytes of all documents of so many.
pub fn bytes(documents: u64) -> Result<u64> {
    let sample = (0..1_000).map(|i| document(i * documents / 1_000).to_vec().map(|b| b.len() as u64));
    Ok(sample.sum::<Result<u64, _>>()? * documents / 1_000)
}

/// Runs commands for the numbers below `until`, [`STEP`] at a time, on several connections.
async fn in_steps(url: &str, until: u64, command: fn(std::ops::Range<u64>, u64) -> Document, seed: u64) -> Result<()> {
    let client = Client::with_uri_str(url).await?;
    let mut sessions = tokio::task::JoinSet::new();
    for session in 0..SESSIONS {
        let db = client.database(DATABASE);
        sessions.spawn(async move {
            for from in (session * STEP..until).step_by((SESSIONS * STEP) as usize) {
                let reply = db.run_command(command(from..(from + STEP).min(until), seed)).await?;
                ensure!(reply.get("writeErrors").is_none(), "a write failed: {reply}");
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = sessions.join_next().await {
        done??;
    }
    client.shutdown().immediate(true).await;
    Ok(())
}

/// Inserts documents into an empty collection.
pub fn fill(server: &MongoServer, documents: u64) -> Result<()> {
    say(&format!("making a collection of {documents} documents in MongoDB"));
    let url = server.url(DATABASE);
    server.wait_for(async move {
        let insert = |range: std::ops::Range<u64>, _| {
            let documents: Vec<Document> = range.map(document).collect();
            doc! { "insert": COLLECTION, "documents": documents, "ordered": false }
        };
        in_steps(&url, documents, insert, 0).await
    })
}

/// Updates documents at random, `updates` in all: one event each.
pub fn update(server: &MongoServer, updates: u64, seed: u64) -> Result<()> {
    let url = server.url(DATABASE);
    server.wait_for(async move {
        let update = |range: std::ops::Range<u64>, seed: u64| {
            // A multiplication that meets every number below 2⁶⁴ once: even, and the same in every round of a seed.
            let chosen = |i: u64| (i + seed * 1_000_003).wrapping_mul(0x9E37_79B9_7F4A_7C15) % UPDATED;
            let one = |i: u64| doc! { "q": { "_id": id(chosen(i)) }, "u": { "$inc": { "n": 1 }, "$set": { "price": i as f64 } } };
            doc! { "update": COLLECTION, "updates": range.map(one).collect::<Vec<_>>(), "ordered": false }
        };
        in_steps(&url, updates, update, seed).await
    })
}

/// Documents that updates choose among: the first ones of the collection.
pub const UPDATED: u64 = 100_000;

/// Inserts the document that is waited for.
pub fn probe(server: &MongoServer, n: u64) -> Result<()> {
    let document = doc! { "_id": format!("probe {n}") };
    server
        .run(DATABASE, doc! { "insert": "probes", "documents": [document], "writeConcern": { "w": "majority" } })
        .map(drop)
}

/// Number of documents, and sums of two fields.
pub fn fingerprint(server: &MongoServer) -> Result<String> {
    let group = doc! { "_id": null, "count": { "$sum": 1 }, "n": { "$sum": "$n" }, "length": { "$sum": { "$strLenBytes": "$name" } } };
    let command = doc! { "aggregate": COLLECTION, "pipeline": [{ "$group": group }], "cursor": {} };
    let reply = server.run(DATABASE, command)?;
    let first = reply.get_document("cursor")?.get_array("firstBatch")?.first().and_then(|d| d.as_document());
    let first = first.context("no sums of the collection")?;
    let number = |name: &str| match first.get(name) {
        Some(bson::Bson::Int32(n)) => i64::from(*n).to_string(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    Ok(format!("{}|{}|{}", number("count"), number("n"), number("length")))
}

/// The same question to the copy.
pub const FINGERPRINT: &str = "SELECT count(*), sum(n), sum(octet_length(name)) FROM public.things";

/// Reads every document's batch by one cursor and looks into nothing; bytes, and how long it took.
pub fn read_alone(server: &MongoServer) -> Result<(u64, Duration)> {
    let url = server.url(DATABASE);
    server.wait_for(async move {
        let client = Client::with_uri_str(url).await?;
        let begun = Instant::now();
        let command = doc! { "find": COLLECTION, "batchSize": BATCH };
        let mut cursor: RawBatchCursor =
            client.database(DATABASE).run_cursor_command(command).batch_size(BATCH).batch().await?;
        let mut bytes = 0;
        while let Some(batch) = cursor.next().await {
            bytes += batch?.as_raw_document().as_bytes().len() as u64;
        }
        let took = begun.elapsed();
        drop(cursor);
        client.shutdown().immediate(true).await;
        Ok((bytes, took))
    })
}

/// The server's clock, for a change stream that begins here.
pub fn now(server: &MongoServer) -> Result<bson::Timestamp> {
    let reply = server.run("admin", doc! { "hello": 1 })?;
    Ok(reply.get_timestamp("operationTime")?)
}

/// Reads so many events of a change stream as they come, and looks into nothing but their number.
pub fn stream_alone(server: &MongoServer, from: bson::Timestamp, events: u64) -> Result<Duration> {
    let url = server.url(DATABASE);
    server.wait_for(async move {
        let client = Client::with_uri_str(url).await?;
        let stage = doc! { "startAtOperationTime": from, "showExpandedEvents": true, "fullDocument": "whenAvailable",
        "fullDocumentBeforeChange": "whenAvailable" };
        let command = doc! { "aggregate": 1, "pipeline": [{ "$changeStream": stage }],
        "cursor": { "batchSize": EVENTS }, "readConcern": { "level": "majority" } };
        let begun = Instant::now();
        let mut cursor: RawBatchCursor =
            client.database(DATABASE).run_cursor_command(command).batch_size(EVENTS).batch().await?;
        let mut seen = 0;
        while seen < events {
            let batch = cursor.next().await.context("the change stream ended")??;
            seen += batch.doc_slices()?.into_iter().count() as u64;
        }
        let took = begun.elapsed();
        drop(cursor);
        client.shutdown().immediate(true).await;
        Ok(took)
    })
}
