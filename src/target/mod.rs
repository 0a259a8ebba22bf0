//! What a target can do. Conductors see only these traits; an engine is added by its folder and one arm of [`open`].

pub mod mongo;
pub mod mysql;
pub mod postgres;

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::change::DeadLetter;
use crate::definition::DataType;
use crate::error::Result;
pub use crate::exchange::Microseconds;
use crate::exchange::{CopyBlock, CopyFormat, LogIdentity, Scanner, SchemaDifference, SourceFacts, TablePlan};
use crate::finding::Finding;
pub use crate::pipeline::batch::BatchEnd;

use crate::pipeline::batch::Batch;
use crate::pipeline::dead::Dead;
use crate::position::Position;
use crate::schema::{Column, Kind, SchemaScript, ServerInfo, Stage, Table, TableName};
use crate::transform::embed::EmbeddedList;
use crate::transform::made::{MadeSchema, MadeTable};
use crate::transform::output::ParentKey;
use crate::transform::rules::Homes;
use crate::value::Row;

/// What a target is opened with.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    /// The migration's name: names the checkpoint row, the lock and the origin.
    pub name: String,
    /// The connection URL, password included.
    pub url: secrecy::SecretString,
    /// Whether tables and what belongs to them are made, or must exist.
    pub create_schema: bool,
    /// The collation of tables that are made, where the engine has such; `None`: the database's own.
    pub collation: Option<String>,
    /// What becomes of microseconds, where the engine's times have milliseconds.
    pub microseconds: Microseconds,
    /// Lists in documents that rows of child tables become. An engine without documents refuses them.
    pub lists: Vec<EmbeddedList>,
}

/// Opens the target that the URL's scheme names. Connects to nothing yet.
pub fn open(options: TargetOptions) -> Result<Arc<dyn Target>> {
    use secrecy::ExposeSecret;
    let scheme = options.url.expose_secret().split(':').next().unwrap_or("").to_owned();
    if let Some(list) = options.lists.first().filter(|_| !scheme.starts_with("mongodb")) {
        return Err(crate::Error::config(format!(
            "a rule embeds rows as {} of {}, and the target holds tables, not documents",
            list.field, list.parent
        ))
        .hint("leave [rule.embed] out: it is for MongoDB targets; lists that become rows are [[rule.explode]]"));
    }
    match scheme.as_str() {
        "postgres" | "postgresql" => postgres::open(options),
        "mysql" | "mariadb" => mysql::open(options),
        "mongodb" | "mongodb+srv" => mongo::open(options),
        other => Err(crate::Error::config(format!("target.url: no engine for scheme {other:?}"))
            .hint("use postgres://user@host:port/database, mysql://… or mongodb://…")),
    }
}

pub(crate) fn unknown_dialect(from: &str, to: &str) -> crate::Error {
    crate::Error::fatal(format!("a {to} target cannot take the schema of a {from} source"))
        .hint("make the tables on the target and set target.create_schema = false")
}

/// How far a migration got, as its target durably holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Raised by whoever starts a stream. Every write of rows or bookkeeping says `WHERE epoch = mine`.
    pub epoch: i64,
    /// What was reached.
    pub stage: CopyStage,
    /// The log that positions belong to; `None` until the source began to keep it.
    pub log: Option<LogIdentity>,
    /// Everything committed up to here is in the target.
    pub position: Option<Position>,
    /// From here on the target is consistent and apply is strict; before, it is convergent.
    pub consistent_at: Option<Position>,
    /// When the newest applied transaction committed at the source; microseconds since the Unix epoch.
    pub committed_at: Option<i64>,
}

impl Checkpoint {
    /// Whether the source keeps a log for it; before, everything can be begun anew.
    pub fn has_begun(&self) -> bool {
        self.stage > CopyStage::Started && self.log.is_some() && self.position.is_some()
    }
}

/// The durable steps of a copy. A crash between two of them repeats the one that was not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyStage {
    /// The row exists, nothing else: a handle at the source, if there is one, is ours to replace.
    Started,
    /// The log is kept; the schema's first part may be half made.
    LogKept,
    /// Tables exist and plans are stored; chunks are being copied.
    Copying,
    /// All rows and keys are there; the stream runs.
    Streaming,
    /// The target is consistent and has every object of the schema.
    Complete,
}

/// How far one table's copy got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableCopy {
    /// The source's table.
    pub table: TableName,
    /// How it is cut.
    pub plan: TablePlan,
    /// The snapshot's place (see [`crate::source::SnapshotSession::at`]) of the *first* chunk that was copied.
    pub snapshot_at: Position,
    /// Later snapshot that remaining chunks were read at, if the copy was resumed in the middle of this table.
    pub resumed_at: Option<Position>,
    /// Chunks whose rows are committed, ascending.
    pub done: Vec<u32>,
    /// Rows committed.
    pub rows: u64,
    /// Whether its keys and indexes ([`Stage::TableCopied`]) are made.
    pub indexed: bool,
    /// The rules that it is copied by, as [`crate::transform::rules::RuleSet::text_of`] writes them.
    pub rules: String,
}

/// A database that is copied into.
#[async_trait]
pub trait Target: Send + Sync {
    /// `postgres`, `mysql`, `mongo`.
    fn engine(&self) -> &'static str;
    /// Name and version of the server.
    async fn server(&self) -> Result<ServerInfo>;
    /// Everything that would make a migration of these tables to here fail, each with what to do. `fresh` is whether
    /// no copy has begun yet (then target tables must be empty).
    async fn check(&self, source: &SourceFacts, tables: &[Arc<Table>], fresh: bool) -> Result<Vec<Finding>>;
    /// The script in this engine's dialect, where the source speaks another: made of [`SchemaScript::tables`]. Objects keep
    /// the source's table names in [`crate::schema::SchemaObject::table`]; `homes` says where tables lie here.
    ///
    /// # Errors
    /// `Fatal` for a type that this engine cannot hold, with table and column.
    async fn adopt(&self, script: SchemaScript, homes: &Homes) -> Result<SchemaScript> {
        let _ = homes;
        if script.dialect.is_empty() || script.dialect == self.engine() {
            return Ok(script);
        }
        Err(unknown_dialect(&script.dialect, self.engine()))
    }
    /// A table of a source of that engine with the types, defaults and names that [`Target::adopt`] gives it here.
    ///
    /// # Errors
    /// As [`Target::adopt`].
    fn adopt_table(&self, engine: &str, table: &Table, homes: &Homes) -> Result<Table> {
        let _ = homes;
        if engine == self.engine() { Ok(table.clone()) } else { Err(unknown_dialect(engine, self.engine())) }
    }
    /// The same for all tables of a source's own script, in the order of `tables`, with what only the others tell: types that
    /// keys ask for, and what may be NULL here.
    ///
    /// # Errors
    /// As [`Target::adopt`].
    fn adopted(&self, engine: &str, script: &SchemaScript, tables: &[Arc<Table>], homes: &Homes) -> Result<Vec<Table>> {
        let _ = script;
        tables.iter().map(|t| self.adopt_table(engine, t, homes)).collect()
    }
    /// Whether a column that is here is what [`Target::adopted`] wants. The same type may be printed in two ways; what it
    /// holds is what counts.
    fn is_as_wanted(&self, wanted: &Column, there: &Column) -> bool {
        let holds = (wanted.kind, &wanted.data) == (there.kind, &there.data);
        // Of a type that a rule gives, its name and kind are known, and not every modifier.
        let kind = wanted.data == DataType::Other && wanted.kind != Kind::Other && wanted.kind == there.kind;
        wanted.nullable == there.nullable && (holds || kind || wanted.type_name.eq_ignore_ascii_case(&there.type_name))
    }
    /// Statements that make the tables which rules write, in this engine's dialect, also where the source speaks it.
    /// Objects have in [`crate::schema::SchemaObject::table`] the name that the table has here. An engine whose tables come
    /// into being by being written has none.
    ///
    /// # Errors
    /// As [`Target::adopt`].
    async fn adopt_made(&self, schema: &MadeSchema, homes: &Homes) -> Result<SchemaScript> {
        let _ = (schema, homes);
        Ok(SchemaScript::default())
    }
    /// A table that rules write, of a source of that engine, as [`Target::adopt_made`] makes it.
    ///
    /// # Errors
    /// As [`Target::adopt`].
    fn adopt_made_table(&self, engine: &str, made: &MadeTable) -> Result<Table> {
        self.adopt_table(engine, &made.table, &Homes::default())
    }
    /// Notes durably that these tables are made by the migration, before they are: later they are told from tables that were
    /// there by this alone.
    async fn note_made(&self, epoch: i64, tables: &[TableName]) -> Result<()> {
        let _ = (epoch, tables);
        Ok(())
    }
    /// The tables that [`Target::note_made`] noted; none where there is no bookkeeping yet.
    async fn noted_made(&self) -> Result<Vec<TableName>> {
        Ok(Vec::new())
    }
    /// Takes the lock that only one running daemon of this migration can hold.
    ///
    /// # Errors
    /// [`crate::error::Class::Fenced`] while another session holds it.
    async fn lock(&self) -> Result<Box<dyn SessionLock>>;
    /// The checkpoint, if there is one.
    async fn checkpoint(&self) -> Result<Option<Checkpoint>>;
    /// Makes the bookkeeping if it is missing, and the checkpoint row or a higher epoch in it. The caller holds the lock.
    async fn take_over(&self) -> Result<Checkpoint>;
    /// Stores a checkpoint of the same epoch, durably, and with it everything that was committed before. What is `None`
    /// stays as it is stored.
    ///
    /// # Errors
    /// [`crate::error::Class::Fenced`] if the epoch was raised meanwhile.
    async fn save(&self, checkpoint: &Checkpoint) -> Result<()>;
    /// Makes the script's objects of `stage`; of one table, or of all. What exists already in the same form is left
    /// alone, so that a crash half-way is repaired by calling it again. Returns warnings about objects that could not be
    /// made and that replication does not need (a view over an excluded table).
    async fn create(&self, script: &SchemaScript, stage: Stage, table: Option<&TableName>) -> Result<Vec<String>>;
    /// Makes only the table's key, so that convergent apply and a resumed load can find rows.
    async fn create_key(&self, script: &SchemaScript, table: &TableName) -> Result<()>;
    /// The tables of these names as the target has them, in the same order; a missing one is `None`.
    async fn tables(&self, names: &[TableName]) -> Result<Vec<Option<Arc<Table>>>>;
    /// Gets user triggers, foreign keys and identity columns out of the applier's way, and notes durably what to put back.
    async fn quiesce(&self, tables: &[TableName]) -> Result<()>;
    /// Stores the copy's plan for a table; replaces an older one, and forgets its chunks but for those of `copy.done`.
    async fn plan_copy(&self, epoch: i64, copy: &TableCopy) -> Result<()>;
    /// Removes every row of a table that a former, abandoned copy may have left.
    async fn empty(&self, table: &TableName) -> Result<()>;
    /// How far every table's copy got.
    async fn copies(&self) -> Result<Vec<TableCopy>>;
    /// The changes that were set aside: the source table, and the row's keys before and after it, as [`DeadLetter::key`]
    /// has them; none of rows without a key.
    async fn dead_letters(&self) -> Result<Vec<(TableName, Vec<String>)>>;
    /// Forgets which rows of these source tables a merge left out: they are copied again.
    async fn forget_skipped(&self, epoch: i64, sources: &[TableName]) -> Result<()>;
    /// Notes durably which of these tables hold no row, before anything is written there: what is in them later came
    /// from the migration, and may be removed for a new copy. A missing table is passed over; an older note of a table that holds rows goes.
    async fn note_empty(&self, epoch: i64, tables: &[TableName]) -> Result<()>;
    /// The tables that [`Target::note_empty`] noted.
    async fn noted_empty(&self) -> Result<Vec<TableName>>;
    /// Notes that a table's keys and indexes are made.
    async fn mark_indexed(&self, epoch: i64, table: &TableName) -> Result<()>;
    /// Looks once, when the target is consistent, for rows that should be in lists of documents that are not there. What it
    /// says are warnings.
    ///
    /// # Errors
    /// `Fatal` where there are such rows and the rule does not let them wait.
    async fn consistent(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
    /// A session that loads chunks.
    async fn loader(&self, epoch: i64) -> Result<Box<dyn Loader>>;
    /// The session that applies the stream.
    async fn applier(&self, epoch: i64) -> Result<Box<dyn Applier>>;
    /// Refreshes planner statistics of loaded tables.
    async fn analyze(&self, tables: &[TableName]) -> Result<()>;
    /// A session that reads rows as they are now, for verification.
    async fn scanner(&self) -> Result<Box<dyn Scanner>> {
        Err(crate::Error::fatal(format!(
            "rows of a target of engine {} cannot be compared by this version",
            self.engine()
        )))
    }
    /// What of the script (in this engine's dialect) these tables, by their names here, have not, and what they have beyond it.
    async fn schema_differences(&self, script: &SchemaScript, tables: &[TableName]) -> Result<Vec<SchemaDifference>> {
        let _ = (script, tables);
        Err(crate::Error::fatal(format!("schemas of engine {} cannot be compared by this version", self.engine())))
    }
    /// Puts back what `quiesce` took away, validates what was left unvalidated, and drops the bookkeeping.
    /// Says what it did. Repeating it is harmless.
    async fn finish(&self) -> Result<Vec<String>>;
}

/// What became of a schema change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DdlOutcome {
    /// The target has it now (or had it already).
    Applied(String),
    /// It does not concern the target's rows; left alone, said once.
    Ignored(String),
    /// It cannot be repeated safely: stop. The text says why, and what the operator must do before starting again.
    Unsafe(String),
}

/// Held as long as the value lives and its connection does.
#[async_trait]
pub trait SessionLock: Send + Sync {
    /// Resolves when the lock's session is lost.
    async fn lost(&self);
}

/// How a chunk is brought in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadMode {
    /// The whole table in one transaction; emptied first, so that rows can be frozen.
    WholeTable,
    /// Appended; no row of it is there yet.
    Append,
    /// Rows may be there already: the chunk's win.
    Upsert,
    /// Rows may be there already: they stay, and the chunk's keys are noted as left out.
    Skip,
    /// The key stands for any number of rows; those of the chunk's keys are replaced.
    ReplaceAll,
}

/// Loads copied rows. One chunk at a time.
#[async_trait]
pub trait Loader: Send {
    /// The forms in which rows can be written into the table, best first.
    fn formats(&self, table: &Table) -> Vec<CopyFormat>;
    /// Begins to load, or goes on with another table in the same transaction. `table` is the target's table; rows have its columns.
    async fn begin(&mut self, source: &TableName, table: &Table, format: CopyFormat, mode: LoadMode) -> Result<()>;
    /// The same for rows of a child table whose parents, loaded before in this transaction, may have been left out: those
    /// of such parents are left out, too. Nothing of the table is there yet.
    async fn begin_items(&mut self, source: &TableName, table: &Table, parent: &ParentKey) -> Result<()>;
    /// Writes a block.
    async fn write(&mut self, block: CopyBlock) -> Result<()>;
    /// Notes rows that a rule could not carry, in the transaction of the others.
    fn set_aside(&mut self, letters: Vec<DeadLetter>);
    /// Commits the rows together with the note that these chunks of `source` are done. Returns how many rows.
    async fn commit(&mut self, source: &TableName, chunks: &[u32]) -> Result<u64>;
    /// Gives up what was begun.
    async fn abort(&mut self) -> Result<()>;
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Applied {
    /// Convergent apply only: updates with unsent fields whose row is not there. If there are any, nothing was
    /// committed and the transaction is still open: re-read them at the source, apply what was found, and end it.
    pub missing: Vec<(Arc<Table>, Row)>,
    /// What was said about schema changes.
    pub ddl: Vec<DdlOutcome>,
    /// Changes that were refused, or follow such, and were set aside in the same transaction.
    pub refused: Vec<DeadLetter>,
    /// The rows of those.
    pub dead: Dead,
}

/// Applies the stream. One target transaction at a time.
#[async_trait]
pub trait Applier: Send {
    /// Applies a batch. With `end`, rows and checkpoint commit together; without, the transaction stays open for the
    /// next piece of a source transaction that is larger than a batch.
    ///
    /// A strict batch that is [`Batch::apart`] does not fail for rows that the target refuses (a constraint of its own, a
    /// value that does not fit): their changes, and later ones of the same rows, are set aside.
    ///
    /// # Errors
    /// Whatever the class, nothing of the open transaction is in the target then, unless the class is `Retry` and the
    /// answer to the COMMIT got lost: load the checkpoint before going on.
    async fn apply(&mut self, batch: &Batch, end: Option<&BatchEnd>) -> Result<Applied>;
    /// Gives up the open transaction, if there is one.
    async fn rollback(&mut self) -> Result<()>;
    /// The newest position whose commit is on the target's disk, as far as known. Never ahead of it.
    async fn durable(&mut self) -> Result<Option<Position>>;
}
