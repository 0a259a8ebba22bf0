//! A consistent snapshot: exported with the slot, imported by every reader, read by ranges of pages.

use std::collections::HashMap;
use std::fmt::Write as _;

use async_trait::async_trait;
use bytes::BytesMut;
use tokio::sync::Mutex;
use tokio_postgres::Client;

use super::catalog::Described;
use super::replication::ReplicationStream;
use crate::error::{Error, Result, ResultExt};
use crate::pgwire::conn::{PgConn, Purpose};
use crate::pgwire::conninfo::ConnInfo;
use crate::pgwire::copy;
use crate::pgwire::errors::wrap;
use crate::pgwire::quote::{literal, qualified, quoted};
use crate::position::Position;
use crate::schema::{Table, TableName};
use crate::source::{Chunk, ChunkReader, CopyBlock, CopyFormat, LogIdentity, SnapshotSession, TablePlan};

const JOINING: &str = "joining the snapshot at the source";
/// How long a reader waits for a lock on a table whose leader has it already: only behind a statement that waits for us.
const LOCK_PATIENCE: &str = "5s";
/// Up to so many tables every reader locks at its start; with more, a place in the server's lock table for each reader and
/// table would be too much to ask.
const LOCKED_BY_READERS: usize = 500;

/// An open snapshot.
pub struct PgSnapshot {
    info: ConnInfo,
    start: Position,
    at: Position,
    identity: LogIdentity,
    name: String,
    /// Holds ACCESS SHARE on every table in the snapshot's transaction: a VACUUM FULL or CLUSTER between two ctid
    /// ranges would lose rows.
    leader: Client,
    /// The walsender session that exported the snapshot; the snapshot can be imported as long as it says nothing.
    exporter: Mutex<ReplicationStream>,
    tables: HashMap<TableName, Described>,
    block_size: u64,
    taken_at: i64,
}

/// What the snapshot belongs to.
pub struct Place {
    /// Tail from here.
    pub start: Position,
    /// The snapshot's own place.
    pub at: Position,
    /// The log.
    pub identity: LogIdentity,
}

impl PgSnapshot {
    /// Imports the snapshot `name` into a leader, locks the tables, and makes sure that none of them was rewritten or
    /// emptied between the export and the lock: such a change is not seen by an older snapshot, nor told by the log.
    pub async fn open(
        info: &ConnInfo,
        exporter: ReplicationStream,
        name: String,
        place: Place,
        tables: Vec<Described>,
    ) -> Result<PgSnapshot> {
        let doing = "opening the snapshot at the source";
        let leader = crate::pgwire::control::connect(info, "source").await?;
        leader.batch_execute(&import(&name)).await.map_err(|e| gone(wrap(doing, &e)))?;
        // Many locks in one statement: a round trip a table would take minutes on thousands of tables.
        for part in tables.chunks(500) {
            let names: Vec<_> = part.iter().map(lockable).collect();
            leader
                .batch_execute(&format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", ")))
                .await
                .map_err(|e| wrap("locking the tables against being rewritten during the copy", &e))?;
        }
        // The query reads the catalog as of the snapshot, pg_relation_filenode() reads it as of now.
        let oids: Vec<u32> = tables.iter().flat_map(|d| d.leaves.iter().map(|l| l.oid)).collect();
        let moved = leader
            .query(
                "SELECT c.oid FROM pg_catalog.pg_class c WHERE c.oid = ANY($1) \
                 AND c.relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode(c.oid)",
                &[&oids],
            )
            .await
            .map_err(|e| wrap(doing, &e))?;
        let seen = leader
            .query_one("SELECT count(*) FROM pg_catalog.pg_class c WHERE c.oid = ANY($1)", &[&oids])
            .await
            .map_err(|e| wrap(doing, &e))?;
        if !moved.is_empty() || seen.get::<_, i64>(0) != oids.len() as i64 {
            return Err(Error::retry(
                "a table of the source was rewritten or emptied while its snapshot was being opened",
            ));
        }
        let row = leader
            .query_one(
                "SELECT pg_catalog.current_setting('block_size')::int, \
                 (extract(epoch FROM pg_catalog.transaction_timestamp()) * 1000000)::int8",
                &[],
            )
            .await
            .map_err(|e| wrap(doing, &e))?;
        let (block_size, taken_at): (i32, i64) = (row.get(0), row.get(1));
        Ok(PgSnapshot {
            info: info.clone(),
            start: place.start,
            at: place.at,
            identity: place.identity,
            name,
            leader,
            exporter: Mutex::new(exporter),
            tables: tables.into_iter().map(|d| (d.table.name.clone(), d)).collect(),
            block_size: block_size as u64,
            taken_at,
        })
    }
}

/// The table with its partitions, but without children that inherit from it: those are tables of their own.
fn lockable(d: &Described) -> String {
    if d.partitioned { qualified(&d.table.name) } else { format!("ONLY {}", qualified(&d.table.name)) }
}

/// "Invalid snapshot identifier" (22023, later 42704): the session that exported it was lost, and there will be another.
fn gone(e: Error) -> Error {
    if matches!(e.code(), Some("22023" | "42704")) { e.with_class(crate::Class::Retry) } else { e }
}

fn import(name: &str) -> String {
    format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}", literal(name))
}

#[async_trait]
impl SnapshotSession for PgSnapshot {
    fn start(&self) -> &Position {
        &self.start
    }
    fn at(&self) -> &Position {
        &self.at
    }
    fn identity(&self) -> &LogIdentity {
        &self.identity
    }
    fn taken_at(&self) -> i64 {
        self.taken_at
    }
    fn exported(&self) -> Option<&str> {
        Some(&self.name)
    }

    async fn plan(&self, table: &Table, chunk_bytes: u64) -> Result<TablePlan> {
        let Some(described) = self.tables.get(&table.name) else {
            return Err(Error::retry(format!("{}: the table was not there when the snapshot was opened", table.name)));
        };
        let oids: Vec<u32> = described.leaves.iter().map(|l| l.oid).collect();
        let rows = self
            .leader
            .query(
                "SELECT o.oid, pg_catalog.pg_relation_filenode(o.oid), pg_catalog.pg_relation_size(o.oid) \
                 FROM unnest($1::oid[]) WITH ORDINALITY o(oid, n) ORDER BY o.n",
                &[&oids],
            )
            .await
            .map_err(|e| wrap(format_args!("planning the copy of {}", table.name), &e))?;
        let mut plan = TablePlan { storage: String::new(), chunks: Vec::new() };
        for (leaf, row) in described.leaves.iter().zip(rows) {
            let filenode: Option<u32> = row.get(1);
            let bytes: Option<i64> = row.get(2);
            let _ = write!(plan.storage, "{}:{} ", leaf.oid, filenode.unwrap_or(0));
            let pages = bytes.unwrap_or(0).max(0) as u64 / self.block_size;
            let pages_each = (chunk_bytes / self.block_size).max(1);
            let n = pages.div_ceil(pages_each).max(1);
            let estimated = leaf.rows / n;
            for i in 0..n {
                plan.chunks.push(Chunk {
                    number: plan.chunks.len() as u32,
                    relation: described.partitioned.then(|| leaf.name.clone()),
                    from: (i > 0).then_some(i * pages_each),
                    to: (i + 1 < n).then_some((i + 1) * pages_each),
                    estimated_rows: estimated,
                    ..Chunk::default()
                });
            }
        }
        Ok(plan)
    }

    async fn reader(&self) -> Result<Box<dyn ChunkReader>> {
        let mut conn = PgConn::connect(&self.info, "source", Purpose::Sql).await?;
        conn.execute(&import(&self.name)).await.map_err(gone).context(JOINING)?;
        // A VACUUM FULL that waits for the leader's lock makes every newcomer wait behind it, and the leader waits for
        // its readers: no deadlock that the server could see. So the reader takes its locks before any such statement is
        // likely to come, and where one came first it gives up: the leader goes with it, and the copy is resumed after.
        conn.execute(&format!("SET lock_timeout = '{LOCK_PATIENCE}'")).await.context(JOINING)?;
        if self.tables.len() <= LOCKED_BY_READERS {
            let names: Vec<_> = self.tables.values().map(lockable).collect();
            if !names.is_empty() {
                let sql = format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", "));
                conn.execute(&sql).await.context(JOINING)?;
            }
        }
        Ok(Box::new(PgReader { conn, format: CopyFormat::Raw(copy::TEXT), buffer: BytesMut::new(), fields: 0 }))
    }

    async fn still_held(&self) -> Result<()> {
        if self.leader.is_closed() {
            return Err(Error::retry("the session that held the source's snapshot was lost"));
        }
        self.leader
            .simple_query("SELECT 1")
            .await
            .map_err(|e| wrap("holding the source's snapshot", &e).with_class(crate::Class::Retry))?;
        // The exporter must not be spoken to; that it is there is all that counts.
        drop(self.exporter.lock().await);
        Ok(())
    }
}

/// A session that reads chunks.
struct PgReader {
    conn: PgConn,
    format: CopyFormat,
    buffer: BytesMut,
    fields: usize,
}

#[async_trait]
impl ChunkReader for PgReader {
    fn formats(&self, table: &Table) -> Vec<CopyFormat> {
        copy::formats(table)
    }

    async fn open(&mut self, table: &Table, chunk: &Chunk, format: CopyFormat) -> Result<()> {
        let columns: Vec<_> = table.columns.iter().map(|c| quoted(&c.name)).collect();
        let relation = chunk.relation.as_ref().unwrap_or(&table.name);
        let form = if format == CopyFormat::Raw(copy::BINARY) { "binary" } else { "text" };
        let mut conditions = Vec::new();
        if let Some(page) = chunk.from {
            conditions.push(format!("ctid >= '({page},0)'::pg_catalog.tid"));
        }
        if let Some(page) = chunk.to {
            conditions.push(format!("ctid < '({page},0)'::pg_catalog.tid"));
        }
        let sql = if conditions.is_empty() && !columns.is_empty() {
            format!("COPY {} ({}) TO STDOUT WITH (FORMAT {form})", qualified(relation), columns.join(", "))
        } else {
            let condition = if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") };
            format!(
                "COPY (SELECT {} FROM ONLY {} WHERE {condition}) TO STDOUT WITH (FORMAT {form})",
                columns.join(", "),
                qualified(relation)
            )
        };
        self.format = format;
        self.fields = table.columns.len();
        self.conn.copy_out_start(&sql).await.with_context(|| format!("reading {}", table.name))
    }

    async fn next(&mut self) -> Result<Option<CopyBlock>> {
        let mut bytes = std::mem::take(&mut self.buffer);
        let Some(rows) = self.conn.copy_out_next(&mut bytes).await? else {
            return Ok(None);
        };
        let bytes = bytes.freeze();
        Ok(Some(match self.format {
            CopyFormat::Raw(_) => CopyBlock::Raw { bytes, rows },
            CopyFormat::Rows => CopyBlock::Rows(crate::pgwire::copytext::rows(bytes, self.fields)?),
        }))
    }
}
