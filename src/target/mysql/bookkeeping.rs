//! The database `switchyard` on the target: checkpoint, copy progress, notes of what to put back, and the session lock.
//!
//! | table | one row |
//! |---|---|
//! | `layout` | the version of these tables |
//! | `checkpoint` | a migration: epoch, stage, log, position |
//! | `table_copy` | a table's copy plan |
//! | `chunk` | a committed chunk; written by loaders in the transaction of its rows, so no row is hot |
//! | `was_empty` | a target table of a merge that held no row before the copy |
//! | `made` | a table that was made because a rule writes it (`notes.rs`) |
//! | `restore` | a statement that puts back what `quiesce` took away |
//! | `skipped` | a key that a merge left out |
//! | `dead_letter` | a change that could not be applied |
//!
//! DDL commits by itself in MySQL: every step here can be repeated.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::names::{lock_name, short};
use super::session::{Session, TextRow};
use crate::change::DeadLetter;
use crate::error::{Error, Result};
use crate::exchange::TablePlan;
use crate::mywire::conninfo::MyConnInfo;
use crate::mywire::quote::{literal, optional_literal, qualified};
use crate::position::Position;
use crate::schema::TableName;
use crate::target::{Checkpoint, CopyStage, SessionLock, TableCopy};

/// The database's name.
pub const DATABASE: &str = "switchyard";

/// What brings the tables from layout `n` to `n + 1`, statement by statement; each can be repeated. Append; never change
/// what was released. Names and keys compare by their bytes. Those that may be long stand in keys as their hash.
const LAYOUTS: [&[&str]; 2] = [&[
    "CREATE TABLE IF NOT EXISTS switchyard.checkpoint (
        name varchar(190) NOT NULL PRIMARY KEY, epoch bigint NOT NULL, stage varchar(20) NOT NULL, log longtext, position longtext,
        consistent_at longtext, committed_at bigint, partial_end longtext, partial_ddl int, writes bigint NOT NULL DEFAULT 0,
        created_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP, updated_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP
    ) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin COMMENT 'Switchyard: how far each migration into this server got'",
    "CREATE TABLE IF NOT EXISTS switchyard.table_copy (
        name varchar(190) NOT NULL, table_schema varchar(128) NOT NULL, table_name varchar(128) NOT NULL, plan longtext NOT NULL,
        snapshot_at longtext NOT NULL, resumed_at longtext, indexed tinyint NOT NULL DEFAULT 0, rules longtext NOT NULL,
        PRIMARY KEY (name, table_schema, table_name)
    ) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "CREATE TABLE IF NOT EXISTS switchyard.chunk (
        name varchar(190) NOT NULL, table_schema varchar(128) NOT NULL, table_name varchar(128) NOT NULL, number int unsigned NOT NULL,
        row_count bigint NOT NULL, PRIMARY KEY (name, table_schema, table_name, number)
    ) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "CREATE TABLE IF NOT EXISTS switchyard.was_empty (
        name varchar(190) NOT NULL, table_schema varchar(128) NOT NULL, table_name varchar(128) NOT NULL,
        PRIMARY KEY (name, table_schema, table_name)
    ) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "CREATE TABLE IF NOT EXISTS switchyard.restore (
        name varchar(190) NOT NULL, seq bigint NOT NULL AUTO_INCREMENT UNIQUE, kind varchar(20) NOT NULL,
        table_schema varchar(64) NOT NULL, table_name varchar(64) NOT NULL, object varchar(64) NOT NULL, statement longtext NOT NULL,
        settings text NOT NULL, PRIMARY KEY (name, kind, table_schema, table_name, object)
    ) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "CREATE TABLE IF NOT EXISTS switchyard.skipped (
        name varchar(190) NOT NULL, source varchar(190) NOT NULL, target varchar(190) NOT NULL, key_hash binary(32) NOT NULL,
        row_key longtext NOT NULL, PRIMARY KEY (name, source, target, key_hash)
    ) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin COMMENT 'Switchyard: keys that a merge left out because another row had them'",
    "CREATE TABLE IF NOT EXISTS switchyard.dead_letter (
        name varchar(190) NOT NULL, seq bigint NOT NULL AUTO_INCREMENT UNIQUE, table_schema varchar(128) NOT NULL,
        table_name varchar(128) NOT NULL, op varchar(20) NOT NULL, position text NOT NULL,
        at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP, message text, row_key longtext, row_data longtext, PRIMARY KEY (name, seq)
    ) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
], &[
    "CREATE TABLE IF NOT EXISTS switchyard.made (
        name varchar(190) NOT NULL, table_schema varchar(128) NOT NULL, table_name varchar(128) NOT NULL,
        PRIMARY KEY (name, table_schema, table_name)
    ) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
]];

/// The tables, in an order in which they can be dropped.
const TABLES: [&str; 9] =
    ["made", "was_empty", "skipped", "dead_letter", "restore", "chunk", "table_copy", "checkpoint", "layout"];

/// How long a newcomer waits for a predecessor's session that is about to go.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
/// How often the lock's session is asked whether it lives, and how long it may take to answer.
const PING_EVERY: Duration = Duration::from_secs(1);
const PING_PATIENCE: Duration = Duration::from_secs(30);

/// The epoch was raised by another daemon.
pub fn fenced(name: &str, epoch: i64) -> Error {
    Error::fenced(format!("another daemon has taken over migration {name:?} (our epoch {epoch} is over)"))
        .hint("only one daemon can run a migration; leave the other one running, or stop it and start this one again")
}

/// A lock that lives as long as its own connection.
struct HeldLock {
    lost: watch::Receiver<bool>,
    pinger: tokio::task::JoinHandle<()>,
}

#[async_trait]
impl SessionLock for HeldLock {
    async fn lost(&self) {
        let mut lost = self.lost.clone();
        // An error means that the pinger is gone, and the session with it.
        let _ = lost.wait_for(|l| *l).await;
    }
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        // The task owns the session; without it the connection ends and the server releases the lock.
        self.pinger.abort();
    }
}

/// Takes the session lock of migration `name`, on a connection of its own.
///
/// # Errors
/// [`crate::error::Class::Fenced`] with the holder's session while another one has it (after three seconds of patience,
/// because the session of a daemon that was killed may outlive it for a moment).
pub async fn lock(info: &MyConnInfo, name: &str) -> Result<Box<dyn SessionLock>> {
    let doing = format!("taking the lock of migration {name:?} on the target");
    let mut session = Session::connect(info, name).await?;
    let lock = literal(&lock_name("run", name));
    let began = std::time::Instant::now();
    while session.one(&doing, format!("SELECT GET_LOCK({lock}, 0)")).await?.as_deref() != Some("1") {
        if began.elapsed() >= LOCK_PATIENCE {
            let holder = session
                .rows(
                    &doing,
                    format!(
                        "SELECT id, user, host FROM information_schema.processlist WHERE id = IS_USED_LOCK({lock})"
                    ),
                )
                .await
                .unwrap_or_default();
            let holder = match holder.first().map(Vec::as_slice) {
                Some([Some(id), Some(user), Some(host)]) => format!("session {id} of {user} from {host}"),
                _ => "a session that this account may not see".to_owned(),
            };
            return Err(Error::fenced(format!("migration {name:?} is already run by another daemon ({holder})"))
                .hint("only one daemon can run a migration; stop the other one first (ending its session on the target releases the lock too)"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (tell, lost) = watch::channel(false);
    let pinger = tokio::spawn(async move {
        loop {
            tokio::time::sleep(PING_EVERY).await;
            if !matches!(tokio::time::timeout(PING_PATIENCE, session.conn.ping()).await, Ok(Ok(()))) {
                break;
            }
        }
        let _ = tell.send(true);
    });
    Ok(Box::new(HeldLock { lost, pinger }))
}

/// The version of the bookkeeping that stands: 0 if there is none.
///
/// # Errors
/// [`crate::error::Class::Fatal`] if a newer Switchyard made it.
pub async fn layout(session: &mut Session) -> Result<usize> {
    let doing = "reading Switchyard's bookkeeping on the target";
    let version = match session.one(doing, "SELECT COALESCE(MAX(version), 0) FROM switchyard.layout").await {
        Ok(version) => version.and_then(|v| v.parse().ok()).unwrap_or(0),
        // No such table, or database; or an account that may not look into what is not there.
        Err(e) if matches!(e.code(), Some("1146" | "1049")) => 0,
        Err(e) if matches!(e.code(), Some("1142" | "1044")) && !exists(session).await? => 0,
        Err(e) => return Err(e.hint("grant the account all privileges on switchyard.*")),
    };
    if version > LAYOUTS.len() {
        return Err(Error::fatal(format!(
            "the bookkeeping on the target has layout {version}; this program knows only up to {}",
            LAYOUTS.len()
        ))
        .hint("use the newer Switchyard that made it"));
    }
    Ok(version)
}

async fn exists(session: &mut Session) -> Result<bool> {
    let sql = "SELECT 1 FROM information_schema.schemata WHERE schema_name = 'switchyard'";
    Ok(session.one("looking for Switchyard's bookkeeping on the target", sql).await?.is_some())
}

/// Makes the bookkeeping, or brings it up to date. Two daemons of different migrations may do it at once.
async fn ensure(session: &mut Session) -> Result<()> {
    let doing = "making Switchyard's bookkeeping on the target";
    if layout(session).await? == LAYOUTS.len() {
        return Ok(());
    }
    let lock = literal(&lock_name("layout", ""));
    session.one(doing, format!("SELECT GET_LOCK({lock}, 20)")).await?;
    let made = async {
        let denied = |e: Error| match e.code() {
            Some("1044" | "1142" | "1227") => {
                e.hint("GRANT ALL PRIVILEGES ON switchyard.* TO the account of target.url")
            }
            _ => e,
        };
        session.run(doing, "CREATE DATABASE IF NOT EXISTS switchyard CHARACTER SET utf8mb4").await.map_err(denied)?;
        let table = "CREATE TABLE IF NOT EXISTS switchyard.layout (version int NOT NULL PRIMARY KEY) ENGINE=InnoDB";
        session.run(doing, table).await.map_err(denied)?;
        let from = layout(session).await?;
        for (n, statements) in LAYOUTS.iter().enumerate().skip(from) {
            for statement in *statements {
                session.run(doing, statement).await.map_err(denied)?;
            }
            session.run(doing, format!("INSERT INTO switchyard.layout VALUES ({})", n + 1)).await.map_err(denied)?;
        }
        Ok(())
    }
    .await;
    session.one(doing, format!("SELECT RELEASE_LOCK({lock})")).await?;
    made
}

const CHECKPOINT_COLUMNS: &str = "epoch, stage, log, position, consistent_at, committed_at";

fn stage_word(stage: CopyStage) -> &'static str {
    match stage {
        CopyStage::Started => "started",
        CopyStage::LogKept => "log_kept",
        CopyStage::Copying => "copying",
        CopyStage::Streaming => "streaming",
        CopyStage::Complete => "complete",
    }
}

fn unreadable(what: &str, why: impl std::fmt::Display) -> Error {
    Error::fatal(format!("the bookkeeping on the target holds an unreadable {what}: {why}"))
        .hint("nothing but Switchyard may write into the database switchyard; use the version that wrote it")
}

fn read_position(what: &str, text: Option<&String>) -> Result<Option<Position>> {
    text.map(|t| t.parse::<Position>().map_err(|e| unreadable(what, e))).transpose()
}

fn read_checkpoint(row: &TextRow) -> Result<Checkpoint> {
    let field = |n: usize| row.get(n).and_then(Option::as_ref);
    let number = |n: usize, what: &str| field(n).map(|t| t.parse::<i64>().map_err(|e| unreadable(what, e))).transpose();
    Ok(Checkpoint {
        epoch: number(0, "epoch")?.ok_or_else(|| unreadable("epoch", "it is missing"))?,
        stage: match field(1).map_or("", String::as_str) {
            "started" => CopyStage::Started,
            "log_kept" => CopyStage::LogKept,
            "copying" => CopyStage::Copying,
            "streaming" => CopyStage::Streaming,
            "complete" => CopyStage::Complete,
            other => return Err(unreadable("stage", other)),
        },
        log: field(2).map(|l| serde_json::from_str(l).map_err(|e| unreadable("log", e))).transpose()?,
        position: read_position("position", field(3))?,
        consistent_at: read_position("consistent_at", field(4))?,
        committed_at: number(5, "committed_at")?,
    })
}

fn select_checkpoint(name: &str) -> String {
    format!("SELECT {CHECKPOINT_COLUMNS} FROM switchyard.checkpoint WHERE name = {}", literal(name))
}

/// The checkpoint of migration `name`, if there is one. Makes nothing.
pub async fn checkpoint(session: &mut Session, name: &str) -> Result<Option<Checkpoint>> {
    if layout(session).await? == 0 {
        return Ok(None);
    }
    let rows = session.rows("reading the checkpoint", select_checkpoint(name)).await?;
    rows.first().map(read_checkpoint).transpose()
}

/// Makes the bookkeeping if it is missing, and the checkpoint row or a higher epoch in it. The caller holds the lock.
pub async fn take_over(session: &mut Session, name: &str) -> Result<Checkpoint> {
    let doing = "raising the checkpoint's epoch";
    if name.chars().count() > 190 {
        return Err(Error::config("name: a migration's name has 190 characters at most where the target is MySQL"));
    }
    ensure(session).await?;
    let raised = format!(
        "BEGIN; INSERT INTO switchyard.checkpoint (name, epoch, stage) VALUES ({}, 1, 'started') \
         ON DUPLICATE KEY UPDATE epoch = epoch + 1, updated_at = CURRENT_TIMESTAMP",
        literal(name)
    );
    session.run(doing, raised).await?;
    // Read under the row's lock: two daemons can never get the same epoch.
    let rows = session.rows(doing, select_checkpoint(name)).await?;
    session.run(doing, "COMMIT").await?;
    read_checkpoint(rows.first().ok_or_else(|| unreadable("checkpoint", "it is gone"))?)
}

/// The statement that moves a checkpoint. It touches one row, or none if the epoch was raised.
pub fn save_sql(name: &str, c: &Checkpoint) -> Result<String> {
    let log = c.log.as_ref().map(serde_json::to_string).transpose();
    let log = log.map_err(|e| Error::fatal(format!("writing the checkpoint's log identity: {e}")))?;
    let text = |p: &Option<Position>| optional_literal(p.as_ref().map(|p| p.to_string()).as_deref());
    Ok(format!(
        "UPDATE switchyard.checkpoint SET stage = '{}', log = coalesce({}, log), position = coalesce({}, position), \
         consistent_at = coalesce({}, consistent_at), committed_at = coalesce({}, committed_at), writes = writes + 1, \
         updated_at = CURRENT_TIMESTAMP WHERE name = {} AND epoch = {}",
        stage_word(c.stage),
        optional_literal(log.as_deref()),
        text(&c.position),
        text(&c.consistent_at),
        c.committed_at.map_or_else(|| "NULL".into(), |a| a.to_string()),
        literal(name),
        c.epoch
    ))
}

/// Stores a checkpoint of the same epoch.
///
/// # Errors
/// [`crate::error::Class::Fenced`] if the epoch was raised meanwhile.
pub async fn save(session: &mut Session, name: &str, checkpoint: &Checkpoint) -> Result<()> {
    match session.run("saving the checkpoint", save_sql(name, checkpoint)?).await? {
        1 => Ok(()),
        _ => Err(fenced(name, checkpoint.epoch)),
    }
}

/// ` FROM switchyard.checkpoint …`: one row as long as the epoch is ours. Whoever raises it waits for our commit.
fn fence(name: &str, epoch: i64) -> String {
    format!("FROM switchyard.checkpoint WHERE name = {} AND epoch = {epoch} LOCK IN SHARE MODE", literal(name))
}

fn of_table(name: &str, table: &TableName) -> String {
    format!(
        "name = {} AND table_schema = {} AND table_name = {}",
        literal(name),
        literal(&table.schema),
        literal(&table.name)
    )
}

/// Runs statements in one transaction that holds the epoch.
pub(super) async fn fenced_transaction(
    session: &mut Session,
    doing: &str,
    name: &str,
    epoch: i64,
    statements: &str,
) -> Result<u64> {
    let result = async {
        session.run(doing, "BEGIN").await?;
        if session.one(doing, format!("SELECT 1 {}", fence(name, epoch))).await?.is_none() {
            return Err(fenced(name, epoch));
        }
        let n = session.run(doing, statements).await?;
        session.run(doing, "COMMIT").await?;
        Ok(n)
    }
    .await;
    if result.is_err() {
        // Only tidiness: the error is told either way.
        let _ = session.run(doing, "ROLLBACK").await;
    }
    result
}

/// Stores the copy's plan for a table; replaces an older one and forgets its chunks, except those that `copy.done`
/// names (a copy that is resumed under the same plan keeps them).
pub async fn plan_copy(session: &mut Session, name: &str, epoch: i64, copy: &TableCopy) -> Result<()> {
    let plan = serde_json::to_string(&copy.plan).map_err(|e| Error::fatal(format!("writing the copy's plan: {e}")))?;
    let keep: Vec<String> = copy.done.iter().map(ToString::to_string).collect();
    let keep = if keep.is_empty() { String::new() } else { format!(" AND number NOT IN ({})", keep.join(", ")) };
    let of = of_table(name, &copy.table);
    let sql = format!(
        "DELETE FROM switchyard.chunk WHERE {of}{keep}; DELETE FROM switchyard.table_copy WHERE {of}; \
         INSERT INTO switchyard.table_copy (name, table_schema, table_name, plan, snapshot_at, resumed_at, indexed, rules) \
         VALUES ({}, {}, {}, {}, {}, {}, {}, {})",
        literal(name),
        literal(&copy.table.schema),
        literal(&copy.table.name),
        literal(&plan),
        literal(&copy.snapshot_at.to_string()),
        optional_literal(copy.resumed_at.as_ref().map(|p| p.to_string()).as_deref()),
        u8::from(copy.indexed),
        literal(&copy.rules),
    );
    let doing = format!("storing the copy's plan of {}", copy.table);
    fenced_transaction(session, &doing, name, epoch, &sql).await.map(drop)
}

/// How far every table's copy got.
pub async fn copies(session: &mut Session, name: &str) -> Result<Vec<TableCopy>> {
    let doing = "reading how far the copy got";
    if layout(session).await? == 0 {
        return Ok(Vec::new());
    }
    let n = literal(name);
    let plans = session
        .rows(
            doing,
            format!(
                "SELECT table_schema, table_name, plan, snapshot_at, resumed_at, indexed, rules FROM switchyard.table_copy \
                 WHERE name = {n} ORDER BY table_schema, table_name"
            ),
        )
        .await?;
    let chunks = session
        .rows(
            doing,
            format!("SELECT table_schema, table_name, number, row_count FROM switchyard.chunk WHERE name = {n} ORDER BY number"),
        )
        .await?;
    let text = |row: &TextRow, n: usize| row.get(n).cloned().flatten().unwrap_or_default();
    plans
        .iter()
        .map(|r| {
            let table = TableName::new(text(r, 0), text(r, 1));
            let plan: TablePlan = serde_json::from_str(&text(r, 2)).map_err(|e| unreadable("plan", e))?;
            let mine: Vec<&TextRow> =
                chunks.iter().filter(|c| text(c, 0) == table.schema && text(c, 1) == table.name).collect();
            let mut copy = TableCopy {
                plan,
                snapshot_at: read_position("snapshot_at", r.get(3).and_then(Option::as_ref))?
                    .ok_or_else(|| unreadable("snapshot_at", "it is missing"))?,
                resumed_at: read_position("resumed_at", r.get(4).and_then(Option::as_ref))?,
                indexed: text(r, 5) == "1",
                done: Vec::new(),
                rows: 0,
                rules: text(r, 6),
                table,
            };
            for c in mine {
                copy.done.push(text(c, 2).parse().map_err(|e| unreadable("chunk", e))?);
                copy.rows += text(c, 3).parse::<u64>().map_err(|e| unreadable("chunk", e))?;
            }
            Ok(copy)
        })
        .collect()
}

/// The statement by which a loader notes, in the transaction of its rows, that chunks (at least one) are done. It inserts
/// as many rows as there are chunks (the first holds the count), or none if the epoch was raised: then roll back.
pub fn chunks_done_sql(name: &str, epoch: i64, table: &TableName, chunks: &[u32], rows: u64) -> String {
    let list: Vec<String> = chunks
        .iter()
        .enumerate()
        .map(|(i, c)| format!("SELECT {c} AS number, {} AS row_count", if i == 0 { rows } else { 0 }))
        .collect();
    format!(
        "INSERT INTO switchyard.chunk (name, table_schema, table_name, number, row_count) \
         SELECT {n}, {}, {}, v.number, v.row_count FROM ({}) AS v \
         STRAIGHT_JOIN switchyard.checkpoint AS c WHERE c.name = {n} AND c.epoch = {epoch} LOCK IN SHARE MODE",
        literal(&table.schema),
        literal(&table.name),
        list.join(" UNION ALL "),
        n = literal(name),
    )
}

/// The statement that sets a change aside, in the transaction of what could be carried.
pub fn set_aside_sql(name: &str, letter: &DeadLetter) -> String {
    format!(
        "INSERT INTO switchyard.dead_letter (name, table_schema, table_name, op, position, message, row_key, row_data) \
         VALUES ({}, {}, {}, {}, {}, {}, {}, {})",
        literal(name),
        literal(&letter.table.schema),
        literal(&letter.table.name),
        literal(letter.op.label()),
        literal(&letter.position),
        literal(&letter.message),
        optional_literal(letter.key.as_deref()),
        literal(&letter.row)
    )
}

/// The rows that were set aside, by source table and key.
pub async fn dead_letters(session: &mut Session, name: &str) -> Result<Vec<(TableName, Vec<String>)>> {
    let sql =
        format!("SELECT table_schema, table_name, row_key FROM switchyard.dead_letter WHERE name = {}", literal(name));
    let rows = session.rows("reading what was set aside", sql).await?;
    Ok(rows
        .into_iter()
        .map(|r| {
            let mut r = r.into_iter();
            let mut next = || r.next().flatten();
            let table = TableName::new(next().unwrap_or_default(), next().unwrap_or_default());
            (table, next().into_iter().collect())
        })
        .collect())
}

/// Forgets which rows of these source tables a merge left out.
pub async fn forget_skipped(session: &mut Session, name: &str, epoch: i64, sources: &[TableName]) -> Result<()> {
    let doing = "forgetting which rows a merge left out";
    for source in sources {
        let sql = format!(
            "DELETE FROM switchyard.skipped WHERE name = {} AND source = {}",
            literal(name),
            literal(&short(&source.to_string()))
        );
        fenced_transaction(session, doing, name, epoch, &sql).await?;
    }
    Ok(())
}

/// Notes which of these tables hold no row, and forgets older notes of those that do.
pub async fn note_empty(session: &mut Session, name: &str, epoch: i64, tables: &[TableName]) -> Result<()> {
    let found = super::catalog::tables(session, tables).await?;
    for t in tables.iter().zip(found).filter_map(|(t, found)| found.map(|_| t)) {
        let doing = format!("looking whether {t} holds rows");
        let held = session.one(&doing, format!("SELECT EXISTS (SELECT 1 FROM {})", qualified(t))).await?;
        let sql = if held.as_deref() == Some("1") {
            format!("DELETE FROM switchyard.was_empty WHERE {}", of_table(name, t))
        } else {
            format!(
                "INSERT IGNORE INTO switchyard.was_empty (name, table_schema, table_name) VALUES ({}, {}, {})",
                literal(name),
                literal(&t.schema),
                literal(&t.name)
            )
        };
        fenced_transaction(session, &doing, name, epoch, &sql).await?;
    }
    Ok(())
}

/// The tables that held no row when they were looked at.
pub async fn noted_empty(session: &mut Session, name: &str) -> Result<Vec<TableName>> {
    let sql = format!(
        "SELECT table_schema, table_name FROM switchyard.was_empty WHERE name = {} ORDER BY 1, 2",
        literal(name)
    );
    let rows = session.rows("reading which tables held no rows before", sql).await?;
    let named = |r: TextRow| {
        let mut r = r.into_iter().flatten();
        Some(TableName::new(r.next()?, r.next()?))
    };
    Ok(rows.into_iter().filter_map(named).collect())
}

/// Notes that a table's keys and indexes are made.
pub async fn mark_indexed(session: &mut Session, name: &str, epoch: i64, table: &TableName) -> Result<()> {
    let sql = format!("UPDATE switchyard.table_copy SET indexed = 1 WHERE {}", of_table(name, table));
    let doing = format!("noting that {table} is indexed");
    match fenced_transaction(session, &doing, name, epoch, &sql).await? {
        0 => Err(Error::fatal(format!("no copy of {table} is planned in migration {name:?}"))),
        _ => Ok(()),
    }
}

/// Refreshes the optimizer's statistics of loaded tables.
pub async fn analyze(session: &mut Session, tables: &[TableName]) -> Result<()> {
    for t in tables {
        // Into no binary log: replicas have statistics of their own.
        let sql = format!("ANALYZE NO_WRITE_TO_BINLOG TABLE {}", qualified(t));
        session.rows(format!("analyzing {t} on the target"), sql).await?;
    }
    Ok(())
}

/// Forgets migration `name`; the database goes with the last one. Says what went. Repeating it is harmless.
pub async fn forget(session: &mut Session, name: &str) -> Result<Vec<String>> {
    let doing = "removing Switchyard's bookkeeping from the target";
    if layout(session).await? == 0 {
        return Ok(Vec::new());
    }
    // An older version may have made it, without tables that are named below.
    ensure(session).await?;
    let mut said = Vec::new();
    for t in TABLES.iter().filter(|t| **t != "layout") {
        let n = session.run(doing, format!("DELETE FROM switchyard.{t} WHERE name = {}", literal(name))).await?;
        if n > 0 && *t == "checkpoint" {
            said.push(format!("removed the checkpoint of migration {name:?} from the target"));
        }
    }
    if session.one(doing, "SELECT 1 FROM switchyard.checkpoint LIMIT 1").await?.is_some() {
        return Ok(said);
    }
    for t in TABLES {
        session.run(doing, format!("DROP TABLE IF EXISTS switchyard.{t}")).await?;
    }
    let others = "SELECT 1 FROM information_schema.tables WHERE table_schema = 'switchyard' LIMIT 1";
    if session.one(doing, others).await?.is_none() {
        session.run(doing, "DROP DATABASE IF EXISTS switchyard").await?;
        said.push("dropped the database switchyard from the target: no migration is left there".into());
    }
    Ok(said)
}
