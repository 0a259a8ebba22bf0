//! What the two ends hand to each other, or keep for each other, without knowing one another: pieces of a copy, the
//! identity of a log, facts about a server.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::change::Refused;
use crate::error::Result;
use crate::position::Position;
use crate::schema::{Table, TableName};
use crate::value::Row;

/// Identifies the log that a checkpoint belongs to; stored beside it and compared before every tail. A recreated slot,
/// another server or another timeline is a loud error, never a silent gap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogIdentity {
    /// The server's own unique id (`system_identifier`, `server_uuid`, replica set id).
    pub server_id: String,
    /// The history that positions belong to (timeline), where the engine has one.
    pub timeline: Option<u32>,
    /// The retention handle at the source (slot), where the engine has one.
    pub handle: Option<String>,
    /// Where the handle started. A handle recreated under the same name starts elsewhere.
    pub start: Position,
}

/// How a table is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablePlan {
    /// Names the storage that chunk borders refer to (relfilenode). If it changed before a resume, chunks mean nothing any more.
    pub storage: String,
    /// The chunks, in storage order; together they hold every row.
    pub chunks: Vec<Chunk>,
}

/// A part of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Its place in the plan.
    pub number: u32,
    /// The relation it is read from, if not the table itself (a partition).
    pub relation: Option<TableName>,
    /// First storage unit (page); `None` from the beginning.
    pub from: Option<u64>,
    /// End (exclusive); `None` to the end, however far it has grown.
    pub to: Option<u64>,
    /// Where the table is cut by its key: rows behind this key, in canonical text form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Vec<String>>,
    /// Rows up to this key, itself included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<Vec<String>>,
    /// Rows, estimated.
    pub estimated_rows: u64,
}

/// A form of copied rows that both ends may know. Compared by name only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyFormat {
    /// Bytes that pass through unparsed, in the wire form of this name.
    Raw(&'static str),
    /// [`Row`]s in canonical text form; every source and target knows it.
    Rows,
}

/// A piece of a chunk.
#[derive(Debug)]
pub enum CopyBlock {
    /// Whole rows in the raw form.
    Raw {
        /// The bytes; headers and trailers of the form are left out.
        bytes: Bytes,
        /// How many rows they are.
        rows: u64,
    },
    /// Rows.
    Rows(Vec<Row>),
    /// Rows that do not fit the table which the configuration describes.
    Refused(Vec<Refused>),
}

/// Says what becomes of a whole document that no field of a table is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DocumentForm {
    /// JSON text that other databases can ask questions of: relaxed extended JSON.
    #[default]
    Json,
    /// The document's own bytes (BSON), for a target that keeps documents.
    Bson,
}

/// The fields of a collection's documents that the configuration makes columns of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectionFields {
    /// Path (`address.city`) to what it holds, as it is written in the rule: `text not null`, `integer default 0`, `text[]`,
    /// `objectid`, `jsonb`.
    pub fields: BTreeMap<String, String>,
    /// The column that gets what no path names.
    pub rest: Option<String>,
}

/// What tells one database from another, wherever it is connected to from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseIdentity {
    /// `pg_control_system().system_identifier`. Replicas share it with their primary.
    pub system_identifier: String,
    /// The database's name.
    pub database: String,
}

/// What is known about the source when the target is looked at.
#[derive(Clone, Debug, Default)]
pub struct SourceFacts {
    /// Where the rows come from, if it is of the target's own engine.
    pub identity: Option<DatabaseIdentity>,
    /// Its encoding, `UTF8`.
    pub encoding: Option<String>,
    /// [`LogIdentity::server_id`].
    pub server_id: Option<String>,
    /// Extensions whose types or functions the selected tables use.
    pub extensions: Vec<String>,
}

/// What becomes of a time's microseconds in a target whose times have milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Microseconds {
    /// A value that has any stops the migration, and is named.
    #[default]
    Refuse,
    /// They are cut off, but for those of keys: two keys could become one.
    Cut,
}

/// What becomes of dates that are none: `0000-00-00`, and those with a year, month or day of zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZeroDates {
    /// They are sent as they are: a target without such dates stops and names the row.
    #[default]
    Keep,
    /// NULL is sent in their place.
    Null,
}

/// A row's two hashes: of its key, which says where it belongs, and of all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashes {
    /// Of the key's bytes.
    pub key: u64,
    /// Of all of the row's bytes.
    pub row: u128,
}

impl Hashes {
    /// Of bytes in a form that both sides share.
    #[inline]
    pub fn of(key: &[u8], row: &[u8]) -> Hashes {
        Hashes { key: xxhash_rust::xxh3::xxh3_64(key), row: xxhash_rust::xxh3::xxh3_128(row) }
    }
}

/// Rows whose column, a whole number, lies in a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The column, by its place in the table.
    pub column: usize,
    /// From this number on; `None` from the least.
    pub from: Option<i128>,
    /// Below this number; `None` to the greatest, and those without one.
    pub to: Option<i128>,
}

/// Something of a schema that the two sides do not share.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SchemaDifference {
    /// The target's table.
    pub table: String,
    /// `missing_table`, `missing_column`, `extra_column`, `different_column`, and `missing_`, `invalid_` or `extra_` before
    /// `index`, `constraint`, `foreign_key`, `trigger`.
    pub kind: String,
    /// The object's or column's name.
    pub name: String,
}

/// Rows of a table that should have another table's row to refer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The foreign key's name, for people.
    pub name: String,
    /// The table that refers, with the columns of its key, or all.
    pub table: TableName,
    /// What tells its rows apart, in the report.
    pub key: Vec<String>,
    /// The columns that refer.
    pub columns: Vec<String>,
    /// The table that they refer to.
    pub to: TableName,
    /// The columns there.
    pub referenced: Vec<String>,
}

/// What a scan reads.
#[derive(Debug)]
pub enum ScanBlock {
    /// Rows.
    Rows(Vec<Row>),
    /// Rows in the raw form that was asked for, as their hashes.
    Hashes(Vec<Hashes>),
}

/// Reads rows as a server has them now, on either side: for verification. One scan at a time.
#[async_trait]
pub trait Scanner: Send {
    /// The raw forms whose bytes are equal for equal values of the table's columns, wherever they are read. Compared by name.
    fn raw_forms(&self, table: &Table) -> Vec<&'static str>;
    /// The least and the greatest value of a column that holds whole numbers; `None` if there is no row.
    async fn extent(&mut self, table: &Table, column: usize) -> Result<Option<(i128, i128)>>;
    /// Begins to read the table's columns. With `raw`, a form of [`Scanner::raw_forms`] and the columns of the key, blocks
    /// are hashes. The previous scan must have been read to its end.
    async fn open(&mut self, table: &Table, span: Option<&Span>, raw: Option<(&'static str, &[usize])>) -> Result<()>;
    /// The next block; `None` at the end.
    async fn next(&mut self) -> Result<Option<ScanBlock>>;
    /// Keys of at most `limit` rows that refer to none, and how many there are.
    async fn orphans(&mut self, reference: &Reference, limit: usize) -> Result<(u64, Vec<Row>)>;
    /// The first value of the answer to a question of the operator's; nothing where it is NULL or there is no row.
    async fn ask(&mut self, question: &str) -> Result<Option<String>>;
    /// The rows that have one of these keys in `columns`: rows of the table's columns of which only those count.
    async fn find(&mut self, table: &Table, columns: &[usize], keys: &[Row]) -> Result<Vec<Row>>;
}

/// How a MongoDB source is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Follow {
    /// By change streams where the account may open them, else by the oplog where it may read that.
    #[default]
    Auto,
    /// By change streams.
    Streams,
    /// By reading the oplog itself.
    Oplog,
}

/// What becomes of the character U+0000 in a document's texts, which PostgreSQL has neither in `text` nor in `jsonb`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NulText {
    /// The document is refused, and the field named.
    #[default]
    Refuse,
    /// U+2400 (␀) is sent in its place.
    Replace,
}
