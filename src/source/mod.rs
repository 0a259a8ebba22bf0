//! What a source can do. Conductors see only these traits; an engine is added by its folder and one arm of [`open`].

pub mod ids;
pub mod mongo;
pub mod mysql;
pub mod postgres;
pub mod queue;

pub use crate::exchange::{
    Chunk, CollectionFields, CopyBlock, CopyFormat, DatabaseIdentity, DocumentForm, Follow, LogIdentity, NulText,
    Scanner, SourceFacts, TablePlan, ZeroDates,
};

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::error::Result;
use crate::finding::Finding;
use crate::position::Position;
use crate::schema::{SchemaScript, ServerInfo, Table, TableName};
use crate::transform::select::Selection;
use crate::value::Row;

/// What a source is opened with.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// The migration's name: slot, publication, origin and lock are named after it.
    pub name: String,
    /// The connection URL, password included.
    pub url: secrecy::SecretString,
    /// Which tables take part.
    pub selection: Selection,
    /// Parallel readers of the copy; the snapshot is planned so that each has work.
    pub workers: usize,
    /// Tables that rules name: what they make of a change may depend on the whole old row.
    pub whole_rows: Vec<TableName>,
    /// What becomes of dates that are none.
    pub zero_dates: ZeroDates,
    /// How collections' documents become rows, where the configuration says so; others are a key and a document.
    pub collections: BTreeMap<TableName, CollectionFields>,
    /// The form of such documents.
    pub documents: DocumentForm,
    /// What becomes of U+0000 in documents' texts.
    pub nul_text: NulText,
    /// How a source of documents is followed.
    pub follow: Follow,
}

/// Opens the source that the URL's scheme names. Connects to nothing yet.
pub fn open(options: SourceOptions) -> Result<Arc<dyn Source>> {
    use secrecy::ExposeSecret;
    let scheme = options.url.expose_secret().split(':').next().unwrap_or("").to_owned();
    match scheme.as_str() {
        "postgres" | "postgresql" => postgres::open(options),
        "mysql" | "mariadb" => mysql::open(options),
        "mongodb" | "mongodb+srv" => mongo::open(options),
        other => Err(crate::Error::config(format!("source.url: no engine for scheme {other:?}"))
            .hint("use postgres://user@host:port/database, mysql://… or mongodb://…")),
    }
}

/// How the source's log is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogHealth {
    /// The log's end.
    pub end: Position,
    /// Bytes of log that the source keeps for us.
    pub retained_bytes: u64,
    /// Bytes that may still be written before the source throws away log that we need; `None` if unlimited.
    pub safe_bytes: Option<u64>,
    /// The engine's own word (`reserved`, `extended`, `unreserved`, `lost`).
    pub state: String,
    /// The source's clock, microseconds since the Unix epoch.
    pub now: i64,
}

/// A database that is copied from and followed.
#[async_trait]
pub trait Source: Send + Sync {
    /// `postgres`, `mysql`, `mongo`.
    fn engine(&self) -> &'static str;
    /// Name and version of the server.
    async fn server(&self) -> Result<ServerInfo>;
    /// Everything that would make a migration from here fail, each with what to do.
    async fn check(&self) -> Result<Vec<Finding>>;
    /// What a target's preflight wants to know.
    async fn facts(&self) -> Result<SourceFacts>;
    /// Whether a copy is of one moment. If not, changes since the copy began are replayed over what was copied: until that is
    /// done a row that is there already may be the row itself, and rows of two moments may meet in a unique index.
    fn copies_one_moment(&self) -> bool {
        true
    }
    /// The selected tables, parents of partitions instead of their leaves, in name order.
    async fn tables(&self) -> Result<Vec<Arc<Table>>>;
    /// The schema of the selected tables, and what belongs to them, as statements of this engine's dialect.
    /// `snapshot` is [`SnapshotSession::exported`].
    async fn schema_script(&self, tables: &[Arc<Table>], snapshot: Option<&str>) -> Result<SchemaScript>;
    /// Starts keeping the log from now on (publication, slot, DDL trigger) and opens the snapshot that belongs to that
    /// place. A handle of ours that exists already is replaced: call it only while no checkpoint refers to it.
    async fn begin(&self, tables: &[Arc<Table>]) -> Result<Box<dyn SnapshotSession>>;
    /// Fails unless the log is the one that `identity` describes and still reaches back to `position`.
    async fn verify_log(&self, identity: &LogIdentity, position: &Position) -> Result<()>;
    /// Opens a later snapshot for a copy whose first one was lost with its session.
    async fn snapshot_again(&self, identity: &LogIdentity, tables: &[Arc<Table>]) -> Result<Box<dyn SnapshotSession>>;
    /// What [`Source::begin`] or [`Source::snapshot_again`] waits for at this moment, in words for the status; `None` if for
    /// nothing but the server's own work. Asked beside them.
    async fn held_up(&self) -> Result<Option<String>>;
    /// Streams everything committed after `from` into `out` until the connection fails (an error), or `out` is closed (Ok).
    /// Confirms to the source what `confirmed` says, never anything later, and answers keepalives while `out` is full.
    async fn tail(
        &self,
        identity: &LogIdentity,
        from: Position,
        tables: &[Arc<Table>],
        out: queue::EventSender,
        confirmed: watch::Receiver<Position>,
    ) -> Result<()>;
    /// The log's end and how much of it is kept.
    async fn health(&self, identity: &LogIdentity) -> Result<LogHealth>;
    /// Writes a token into the log; it comes back as [`crate::change::Event::Marker`].
    async fn mark(&self, token: &str) -> Result<Position>;
    /// Reads one row by its key as it is now, and a place in the log not before that read.
    async fn reread(&self, table: &Table, key: &Row) -> Result<(Option<Row>, Position)>;
    /// A session that reads rows as they are now, for verification.
    async fn scanner(&self) -> Result<Box<dyn Scanner>> {
        Err(crate::Error::fatal(format!(
            "rows of a source of engine {} cannot be compared by this version",
            self.engine()
        )))
    }
    /// Removes everything that `begin` made. Says what it removed. Repeating it is harmless.
    async fn finish(&self) -> Result<Vec<String>>;
}

/// A consistent view of the source at one place in its log. Sessions that hold it end with it.
#[async_trait]
pub trait SnapshotSession: Send + Sync {
    /// Tail from here.
    fn start(&self) -> &Position;
    /// The snapshot holds exactly the transactions whose commit starts before this place.
    fn at(&self) -> &Position;
    /// The log that the snapshot belongs to.
    fn identity(&self) -> &LogIdentity;
    /// When it was taken, by the source's clock; microseconds since the Unix epoch.
    fn taken_at(&self) -> i64;
    /// The engine's own handle of the snapshot, for its dump program.
    fn exported(&self) -> Option<&str>;
    /// Cuts a table into chunks of about `chunk_bytes`, with the storage they lie in.
    async fn plan(&self, table: &Table, chunk_bytes: u64) -> Result<TablePlan>;
    /// Another session that sees the same snapshot.
    async fn reader(&self) -> Result<Box<dyn ChunkReader>>;
    /// Once every chunk was read: the place in the log from which on the target is consistent. [`SnapshotSession::at`], unless
    /// chunks were read as the source was at many moments.
    async fn ended(&self) -> Result<Position> {
        Ok(self.at().clone())
    }
    /// Fails if the sessions that hold the snapshot are gone.
    async fn still_held(&self) -> Result<()>;
}

/// Reads chunks, one after the other.
#[async_trait]
pub trait ChunkReader: Send {
    /// The forms in which the table can be read, best first.
    fn formats(&self, table: &Table) -> Vec<CopyFormat>;
    /// Begins a chunk. The previous one must have been read to its end.
    async fn open(&mut self, table: &Table, chunk: &Chunk, format: CopyFormat) -> Result<()>;
    /// The next block, at most about 256 KiB or one row; `None` at the chunk's end.
    async fn next(&mut self) -> Result<Option<CopyBlock>>;
}
