//! The database `switchyard` on the target: the checkpoint, who may write, and the fence that every write passes.
//!
//! | collection | one document |
//! |---|---|
//! | `layout` | the version of these collections |
//! | `lock` | a migration's lease; see `lease.rs` |
//! | `checkpoint` | a migration: epoch, stage, log, position |
//! | `writer` | a session that writes rows in this epoch |
//! | `tables` | a target table as rows are written into its collection; see `catalog.rs` |
//! | `table_copy`, `chunk`, `unfinished` | how far a table's copy got; see `copies.rs` |
//! | `was_empty` | a target table of a merge that held no document before the copy |
//! | `skipped` | a key that a merge left out |
//! | `dead_letter` | a change that could not be applied |
//!
//! Whoever raises the epoch removes all writers in the same transaction. A transaction of a loader changes its writer's
//! document, one of the applier the checkpoint: both must find it as it was when they began, or they are refused.

use std::time::{Duration, Instant};

use bson::{Document, doc};
use mongodb::Client;

pub use super::command::DATABASE;
use super::command::number;
use super::session::{Durable, Session, majority};
use crate::change::DeadLetter;
use crate::error::{Error, Result};
use crate::mongowire::command::run;
use crate::mongowire::server::first_batch;
use crate::position::Position;
use crate::target::{Checkpoint, CopyStage};

/// The version of its collections.
const LAYOUT: i64 = 1;
/// The collections, in an order in which they can be dropped.
const COLLECTIONS: [&str; 12] = [
    "writer",
    "was_empty",
    "made",
    "lists",
    "skipped",
    "dead_letter",
    "unfinished",
    "chunk",
    "table_copy",
    "tables",
    "checkpoint",
    "lock",
];
/// How long a newcomer waits for a predecessor's transaction that is about to end.
const TAKE_OVER_PATIENCE: Duration = Duration::from_secs(90);
/// How often a bookkeeping transaction that lost against another is tried again.
const RETRIES: u32 = 12;

/// The epoch was raised by another daemon.
pub fn fenced(name: &str, epoch: i64) -> Error {
    Error::fenced(format!("another daemon has taken over migration {name:?} (our epoch {epoch} is over)"))
        .hint("only one daemon can run a migration; leave the other one running, or stop it and start this one again")
}

pub(super) fn unreadable(what: &str, why: impl std::fmt::Display) -> Error {
    Error::fatal(format!("the bookkeeping on the target holds an unreadable {what}: {why}"))
        .hint("nothing but Switchyard may write into the database switchyard; use the version that wrote it")
}

/// The documents that a query finds, outside transactions; for few.
pub(super) async fn find(client: &Client, doing: &str, mut find: Document) -> Result<Vec<Document>> {
    find.insert("singleBatch", true);
    find.insert("batchSize", 1_000_000);
    let reply = run(client, DATABASE, doing, find).await?;
    Ok(first_batch(&reply).cloned().collect())
}

/// All documents of a collection of the bookkeeping that match, however many.
pub(super) async fn all(client: &Client, doing: &str, collection: &str, filter: Document) -> Result<Vec<Document>> {
    let collection = client.database(DATABASE).collection::<Document>(collection);
    crate::mongowire::command::finished(doing, async move {
        let mut found = Vec::new();
        let mut cursor = collection.find(filter).sort(doc! { "_id": 1 }).await?;
        while cursor.advance().await? {
            found.push(cursor.deserialize_current()?);
        }
        Ok(found)
    })
    .await
}

/// Whether there is bookkeeping here.
///
/// # Errors
/// `Fatal` if a newer Switchyard made it.
pub async fn stands(client: &Client) -> Result<bool> {
    let doing = "reading Switchyard's bookkeeping on the target";
    let found = find(client, doing, doc! { "find": "layout", "filter": { "_id": 1 } }).await;
    let found = found.map_err(|e| e.hint("grant the account readWrite and dbAdmin on the database switchyard"))?;
    let version = found.first().and_then(|d| number(d.get("version"))).unwrap_or(0);
    if version > LAYOUT {
        return Err(Error::fatal(format!(
            "the bookkeeping on the target has layout {version}; this program knows only up to {LAYOUT}"
        ))
        .hint("use the newer Switchyard that made it"));
    }
    Ok(version > 0)
}

async fn ensure(client: &Client) -> Result<()> {
    let doing = "making Switchyard's bookkeeping on the target";
    if stands(client).await? {
        return Ok(());
    }
    for collection in COLLECTIONS {
        match run(client, DATABASE, doing, doc! { "create": collection }).await {
            Ok(_) => {}
            // There already.
            Err(e) if e.code() == Some("48") => {}
            Err(e) => return Err(e.hint("grant the account readWrite and dbAdmin on the database switchyard")),
        }
    }
    for (collection, key) in
        [("chunk", doc! { "name": 1, "schema": 1, "table": 1 }), ("dead_letter", doc! { "name": 1 })]
    {
        let indexes = doc! { "createIndexes": collection, "indexes": [{ "key": key, "name": "of_migration" }] };
        run(client, DATABASE, doing, indexes).await?;
    }
    let done = doc! {
        "update": "layout",
        "updates": [{ "q": { "_id": 1 }, "u": { "$set": { "version": LAYOUT } }, "upsert": true }],
        "writeConcern": majority(),
    };
    run(client, DATABASE, doing, done).await.map(drop)
}

fn stage_word(stage: CopyStage) -> &'static str {
    match stage {
        CopyStage::Started => "started",
        CopyStage::LogKept => "log_kept",
        CopyStage::Copying => "copying",
        CopyStage::Streaming => "streaming",
        CopyStage::Complete => "complete",
    }
}

pub(super) fn read_position(d: &Document, what: &str) -> Result<Option<Position>> {
    match d.get_str(what) {
        Ok(text) => text.parse().map(Some).map_err(|e| unreadable(what, e)),
        Err(_) => Ok(None),
    }
}

fn read_checkpoint(d: &Document) -> Result<Checkpoint> {
    Ok(Checkpoint {
        epoch: number(d.get("epoch")).ok_or_else(|| unreadable("epoch", "it is missing"))?,
        stage: match d.get_str("stage").unwrap_or("") {
            "started" => CopyStage::Started,
            "log_kept" => CopyStage::LogKept,
            "copying" => CopyStage::Copying,
            "streaming" => CopyStage::Streaming,
            "complete" => CopyStage::Complete,
            other => return Err(unreadable("stage", other)),
        },
        log: d.get_str("log").ok().map(|l| serde_json::from_str(l).map_err(|e| unreadable("log", e))).transpose()?,
        position: read_position(d, "position")?,
        consistent_at: read_position(d, "consistent_at")?,
        committed_at: number(d.get("committed_at")),
    })
}

/// The checkpoint of migration `name`, if there is one. Makes nothing.
///
/// # Errors
/// `Fatal` for one that cannot be read.
pub async fn checkpoint(client: &Client, name: &str) -> Result<Option<Checkpoint>> {
    match stands(client).await {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        // Whoever holds the lock may write here; an account that may not even look is told by the preflight.
        Err(e) if e.code() == Some("13") => return Ok(None),
        Err(e) => return Err(e),
    }
    let found =
        find(client, "reading the checkpoint", doc! { "find": "checkpoint", "filter": { "_id": name } }).await?;
    found.first().map(read_checkpoint).transpose()
}

/// Ends the sessions that a predecessor left behind (a stopped process, a host that vanished): their transactions hold
/// documents. What cannot be ended ends by itself, and the epoch refuses it.
async fn end_sessions(client: &Client, ids: &[Document]) {
    if ids.is_empty() {
        return;
    }
    let doing = "ending sessions of a former run on the target";
    if let Err(e) = run(client, "admin", doing, doc! { "killSessions": ids.to_vec() }).await {
        tracing::debug!("{e}");
    }
}

/// Makes the bookkeeping if it is missing, and the checkpoint or a higher epoch in it. The caller holds the lease.
///
/// # Errors
/// `Retry` while a predecessor's transaction stands in the way.
pub async fn take_over(client: &Client, name: &str) -> Result<Checkpoint> {
    let doing = "raising the checkpoint's epoch";
    ensure(client).await?;
    let began = Instant::now();
    loop {
        let writers = find(client, doing, doc! { "find": "writer", "filter": { "name": name } }).await?;
        let ids: Vec<Document> =
            writers.iter().filter_map(|w| Some(doc! { "id": w.get("session")?.clone() })).collect();
        // Before, because one that stands still in the middle of a batch holds documents; after, because one that is alive
        // may have come back meanwhile.
        end_sessions(client, &ids).await;
        match raise(client, name, doing).await {
            Ok(checkpoint) => {
                end_sessions(client, &ids).await;
                return Ok(checkpoint);
            }
            Err(e) if e.is_retry() && began.elapsed() < TAKE_OVER_PATIENCE && e.is_conflict() => {
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            Err(e) => return Err(e),
        }
    }
}

/// A session whose transactions change the bookkeeping, named in `switchyard.writer` before it begins any: a successor must
/// be able to end it, or it would wait for what a killed daemon left open until the server ends that by itself.
///
/// # Errors
/// As [`run`].
pub async fn listed(client: &Client, name: &str) -> Result<Session> {
    let session = Session::start(client).await?;
    if let Some(id) = session.id() {
        let writer = doc! { "_id": bson::oid::ObjectId::new().to_hex(), "name": name, "session": id };
        run(client, DATABASE, "noting a session on the target", doc! { "insert": "writer", "documents": [writer] })
            .await?;
    }
    Ok(session)
}

/// Takes the note of a [`listed`] session back, which has no transaction any more. A note that stays harms nobody.
pub async fn unlist(session: Session) {
    if let Some(id) = session.id() {
        let delete = doc! { "delete": "writer", "deletes": [{ "q": { "session": id }, "limit": 1 }] };
        if let Err(e) = run(session.client(), DATABASE, "forgetting a session on the target", delete).await {
            tracing::debug!("{e}");
        }
    }
}

async fn raise(client: &Client, name: &str, doing: &str) -> Result<Checkpoint> {
    let mut s = listed(client, name).await?;
    s.begin(Durable::Majority).await?;
    let raised = async {
        let raise = doc! {
            "findAndModify": "checkpoint", "query": { "_id": name }, "upsert": true, "new": true,
            "update": {
                "$inc": { "epoch": 1_i64 },
                "$setOnInsert": { "stage": "started" },
                "$currentDate": { "updated_at": true },
            },
        };
        let reply = s.run(doing, DATABASE, raise).await?;
        s.write(doing, DATABASE, doc! { "delete": "writer", "deletes": [{ "q": { "name": name }, "limit": 0 }] })
            .await?;
        let found = reply.get_document("value").map_err(|_| unreadable("checkpoint", "it is gone"))?;
        read_checkpoint(found)
    }
    .await;
    let raised = match raised {
        Ok(raised) => raised,
        Err(e) => {
            s.abort().await;
            return Err(e);
        }
    };
    s.commit(doing).await?;
    Ok(raised)
}

/// What a checkpoint sets; what is `None` stays.
fn set_of(c: &Checkpoint) -> Result<Document> {
    let mut set = doc! { "stage": stage_word(c.stage) };
    if let Some(log) = &c.log {
        let log = serde_json::to_string(log);
        set.insert("log", log.map_err(|e| Error::fatal(format!("writing the checkpoint's log identity: {e}")))?);
    }
    for (what, position) in [("position", &c.position), ("consistent_at", &c.consistent_at)] {
        if let Some(p) = position {
            set.insert(what, p.to_string());
        }
    }
    if let Some(at) = c.committed_at {
        set.insert("committed_at", at);
    }
    Ok(set)
}

/// The command that changes the checkpoint's fields as long as the epoch is ours. It finds one document, or none.
pub fn checkpoint_command(name: &str, epoch: i64, set: Document) -> Document {
    let mut u = doc! { "$inc": { "writes": 1_i64 }, "$currentDate": { "updated_at": true } };
    if !set.is_empty() {
        u.insert("$set", set);
    }
    doc! { "update": "checkpoint", "updates": [{ "q": { "_id": name, "epoch": epoch }, "u": u }] }
}

/// Stores a checkpoint of the same epoch, on the disks of most members, and with it everything that was committed before.
///
/// # Errors
/// [`crate::error::Class::Fenced`] if the epoch was raised meanwhile.
pub async fn save(client: &Client, name: &str, checkpoint: &Checkpoint) -> Result<()> {
    let doing = "saving the checkpoint on the target";
    let mut command = checkpoint_command(name, checkpoint.epoch, set_of(checkpoint)?);
    command.insert("writeConcern", majority());
    let w = super::command::written(&run(client, DATABASE, doing, command).await?);
    if let Some((code, message)) = &w.concern {
        return Err(crate::mongowire::errors::from_server(doing, *code, message));
    }
    match (&w.refused, w.n) {
        (Some(r), _) => Err(super::session::refused(doing, r)),
        (None, 1) => Ok(()),
        (None, _) => Err(fenced(name, checkpoint.epoch)),
    }
}

/// Runs write commands on the bookkeeping in one transaction that holds the epoch. How many documents the last one found.
///
/// # Errors
/// [`crate::error::Class::Fenced`] if the epoch was raised meanwhile.
pub async fn fenced_writes(client: &Client, doing: &str, name: &str, epoch: i64, commands: &[Document]) -> Result<u64> {
    let mut s = listed(client, name).await?;
    let mut tries = 0;
    let done = loop {
        match fenced_once(&mut s, doing, name, epoch, commands).await {
            Err(e) if e.is_conflict() && tries < RETRIES => {
                tries += 1;
                s.abort().await;
                tokio::time::sleep(Duration::from_millis(5 << tries.min(7))).await;
            }
            Err(e) => {
                s.abort().await;
                break Err(e);
            }
            done => break done,
        }
    };
    unlist(s).await;
    done
}

async fn fenced_once(s: &mut Session, doing: &str, name: &str, epoch: i64, commands: &[Document]) -> Result<u64> {
    s.begin(Durable::Majority).await?;
    hold(s, doing, name, epoch).await?;
    let mut n = 0;
    for c in commands {
        n = s.write(doing, DATABASE, c.clone()).await?.n;
    }
    s.commit(doing).await?;
    Ok(n)
}

/// Makes the open transaction one that only the daemon of this epoch can commit.
///
/// # Errors
/// [`crate::error::Class::Fenced`] if the epoch was raised meanwhile.
pub async fn hold(s: &mut Session, doing: &str, name: &str, epoch: i64) -> Result<()> {
    match s.write(doing, DATABASE, checkpoint_command(name, epoch, Document::new())).await?.n {
        1 => Ok(()),
        _ => Err(fenced(name, epoch)),
    }
}

/// A session that writes rows, known to whoever takes over.
pub struct Writer {
    id: String,
    name: String,
    epoch: i64,
}

impl Writer {
    /// Makes a writer of `session`.
    ///
    /// # Errors
    /// [`crate::error::Class::Fenced`] if the epoch was raised meanwhile.
    pub async fn register(session: &Session, name: &str, epoch: i64) -> Result<Writer> {
        let id = bson::oid::ObjectId::new().to_hex();
        let mut writer = doc! { "_id": &id, "name": name, "epoch": epoch, "commits": 0_i64 };
        if let Some(session) = session.id() {
            writer.insert("session", session);
        }
        let insert = doc! { "insert": "writer", "documents": [writer] };
        fenced_writes(session.client(), "noting a session that writes rows", name, epoch, &[insert]).await?;
        Ok(Writer { id, name: name.to_owned(), epoch })
    }

    /// Makes the open transaction of this writer's session one that only the daemon of this epoch can commit.
    ///
    /// # Errors
    /// [`crate::error::Class::Fenced`] if the epoch was raised meanwhile.
    pub async fn hold(&self, s: &mut Session, doing: &str) -> Result<()> {
        let touch = doc! {
            "update": "writer",
            "updates": [{ "q": { "_id": &self.id, "epoch": self.epoch }, "u": { "$inc": { "commits": 1_i64 } } }],
        };
        match s.write(doing, DATABASE, touch).await {
            Ok(w) if w.n == 1 => Ok(()),
            Ok(_) => Err(fenced(&self.name, self.epoch)),
            Err(e) => Err(e),
        }
    }
}

/// What a change that is set aside leaves, for the transaction of what could be carried.
pub fn set_aside(name: &str, letters: &[DeadLetter]) -> Document {
    let documents: Vec<Document> = letters
        .iter()
        .map(|l| {
            doc! {
                "name": name, "schema": &l.table.schema, "table": &l.table.name, "op": l.op.label(), "position": &l.position,
                "at": bson::DateTime::now(), "message": &l.message, "key": l.key.as_deref(), "row": &l.row,
            }
        })
        .collect();
    doc! { "insert": "dead_letter", "documents": documents }
}

/// Forgets migration `name`; the database goes with the last one. Says what went. Repeating it is harmless.
///
/// # Errors
/// The server's own.
pub async fn forget(client: &Client, name: &str) -> Result<Vec<String>> {
    let doing = "removing Switchyard's bookkeeping from the target";
    if !stands(client).await? {
        return Ok(Vec::new());
    }
    let mut said = Vec::new();
    for c in COLLECTIONS {
        let q = if matches!(c, "checkpoint" | "lock") {
            doc! { "_id": name }
        } else {
            doc! { "name": name }
        };
        let delete = doc! { "delete": c, "deletes": [{ "q": q, "limit": 0 }], "writeConcern": majority() };
        let n = super::command::written(&run(client, DATABASE, doing, delete).await?).n;
        if n > 0 && c == "checkpoint" {
            said.push(format!("removed the checkpoint of migration {name:?} from the target"));
        }
    }
    if !find(client, doing, doc! { "find": "checkpoint", "limit": 1 }).await?.is_empty() {
        return Ok(said);
    }
    for c in COLLECTIONS.iter().copied().chain(["layout"]) {
        match run(client, DATABASE, doing, doc! { "drop": c, "writeConcern": majority() }).await {
            Ok(_) => {}
            // Gone already.
            Err(e) if e.code() == Some("26") => {}
            Err(e) => return Err(e),
        }
    }
    let left = run(client, DATABASE, doing, doc! { "listCollections": 1, "nameOnly": true }).await?;
    if first_batch(&left).next().is_none() {
        run(client, DATABASE, doing, doc! { "dropDatabase": 1, "writeConcern": majority() }).await?;
        said.push("dropped the database switchyard from the target: no migration is left there".into());
    }
    Ok(said)
}
