//! What the source's log says.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::position::{Position, TransactionId};
use crate::schema::{Table, TableId, TableName};
use crate::value::{Datum, Row};

/// Microseconds since the Unix epoch, by the source's clock.
pub type Micros = i64;

/// One thing that the log says. Events arrive in commit order; between two [`Event::Commit`]s lies one source transaction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Event {
    /// From here on the table looks like this. Comes before the first change of the table, and again whenever it changed.
    Schema(Arc<Table>),
    /// A transaction begins.
    Begin(Begin),
    /// One row.
    Change(Change),
    /// A row that does not fit the table which the configuration describes.
    Refused(Box<Refused>),
    /// Tables emptied, in the source's order.
    Truncate {
        /// The tables.
        tables: Vec<TableId>,
        /// RESTART IDENTITY was said.
        restart_identity: bool,
    },
    /// A schema change inside the open transaction, ordered with its rows.
    Ddl(Box<Ddl>),
    /// The open transaction ends.
    Commit(Commit),
    /// A token that was written into the log by [`crate::source::Source::mark`]; inside a transaction (before its Commit).
    Marker {
        /// The token.
        token: String,
    },
    /// The log was read up to here and nothing of interest was in it. Travels through the same queue as rows,
    /// so it never overtakes one.
    Heartbeat {
        /// Everything before this place has been sent.
        position: Position,
        /// The source's clock when it said so.
        at: Micros,
    },
}

impl Event {
    /// Bytes that the event holds, for the channel's bound.
    pub fn bytes(&self) -> usize {
        const OVERHEAD: usize = 64;
        match self {
            Event::Change(c) => {
                OVERHEAD
                    + c.old.as_ref().map_or(0, |r| r.bytes() + 8 * r.len())
                    + c.new.as_ref().map_or(0, |r| r.bytes() + 8 * r.len())
            }
            Event::Ddl(d) => OVERHEAD + d.statement.len(),
            Event::Refused(r) => OVERHEAD + r.key.bytes() + r.row.len() + r.message.len(),
            _ => OVERHEAD,
        }
    }
}

/// The beginning of a source transaction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Begin {
    /// Where its commit record starts. A transaction is contained in a snapshot exactly if this lies before the
    /// snapshot's position (`SnapBuildXactNeedsSkip`, snapbuild.c).
    pub commit_start: Position,
    /// When it committed.
    pub committed_at: Micros,
    /// The source's transaction id, for logs.
    pub xid: u64,
    /// Its own name in the log, where places are sets of such names: what a snapshot holds is then told by it.
    pub gtid: Option<TransactionId>,
}

impl Begin {
    /// Whether a snapshot that was taken at `at` holds the transaction.
    pub fn is_in(&self, at: &Position) -> bool {
        match &self.gtid {
            Some(g) => at.contains(g).unwrap_or_else(|| !self.commit_start.reached(at)),
            None => !self.commit_start.reached(at),
        }
    }
}

/// The end of a source transaction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Commit {
    /// Where its commit record ends: what a checkpoint holds and what is confirmed to the source.
    pub end: Position,
    /// When it committed.
    pub committed_at: Micros,
}

/// One row's change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The table, announced by an earlier [`Event::Schema`].
    pub table: TableId,
    /// What happened.
    pub op: Op,
    /// The old key (other fields NULL), or the whole old row where the table's `full_old_rows` says so. Absent on
    /// inserts, and on updates that did not change the key.
    pub old: Option<Row>,
    /// The new row; absent on deletes. May hold unsent fields on updates.
    pub new: Option<Row>,
}

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// A new row.
    Insert,
    /// A row changed.
    Update,
    /// A row went away.
    Delete,
}

impl Op {
    /// The label of `switchyard_rows_applied_total{op}`.
    pub fn label(self) -> &'static str {
        match self {
            Op::Insert => "insert",
            Op::Update => "update",
            Op::Delete => "delete",
        }
    }
}

/// A row that the source cannot write as one of its table, because a value is not what the configuration says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The table, announced by an earlier [`Event::Schema`].
    pub table: TableId,
    /// What happened to the row.
    pub op: Op,
    /// The row's key, other fields NULL.
    pub key: Row,
    /// The row as the source has it, as a JSON object.
    pub row: String,
    /// What does not fit: where and of what type, without the value.
    pub message: String,
}

/// A change that a rule could not carry, set aside in the target's bookkeeping together with every later change of its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The source's table.
    pub table: TableName,
    /// What happened.
    pub op: Op,
    /// Where in the log, or at which snapshot.
    pub position: String,
    /// Why, without values beside the key.
    pub message: String,
    /// The row's key as a JSON object of texts; the form in which later changes are recognized.
    /// `None` for rows without a key.
    pub key: Option<String>,
    /// The row as far as it was sent, as a JSON object of texts.
    pub row: String,
}

impl DeadLetter {
    /// The key of a row of `table`, as [`DeadLetter::key`] has it.
    pub fn key_of(table: &Table, row: &Row) -> Option<String> {
        // As the bookkeeping's jsonb prints it: shorter names first.
        let mut key = table.key().to_vec();
        key.sort_by_key(|&k| (table.columns[k].name.len(), table.columns[k].name.clone()));
        (!key.is_empty()).then(|| json_of(table, row, key.iter().copied()))
    }

    /// Sets a change aside.
    pub fn new(table: &Table, change: &Change, position: String, message: String) -> DeadLetter {
        let row = change.new.as_ref().or(change.old.as_ref());
        DeadLetter {
            table: table.name.clone(),
            op: change.op,
            position,
            message,
            key: change.old.as_ref().or(row).and_then(|r| DeadLetter::key_of(table, r)),
            row: row.map_or_else(|| "{}".to_owned(), |r| json_of(table, r, 0..table.columns.len())),
        }
    }

    /// Sets a row aside that its source refused.
    pub fn refused(table: &Table, refused: Refused, position: String) -> DeadLetter {
        DeadLetter {
            table: table.name.clone(),
            op: refused.op,
            position,
            message: format!("{}: {}", table.name, refused.message),
            key: DeadLetter::key_of(table, &refused.key),
            row: refused.row,
        }
    }
}

fn json_of(table: &Table, row: &Row, columns: impl Iterator<Item = usize>) -> String {
    // The name is quoted as JSON quotes texts.
    let text = |t: &[u8]| serde_json::Value::from(String::from_utf8_lossy(t)).to_string();
    let fields = columns.filter_map(|c| {
        let name = text(table.columns[c].name.as_bytes());
        match row.get(c) {
            Datum::Unsent => None,
            Datum::Null => Some(format!("{name}: null")),
            Datum::Text(t) => Some(format!("{name}: {}", text(t))),
        }
    });
    format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
}

/// A schema change as the source's event trigger described it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ddl {
    /// The command's tag, `ALTER TABLE`.
    pub tag: String,
    /// The statement as the client sent it (it may hold several commands).
    pub statement: String,
    /// The object's identity as the source prints it.
    pub object: String,
    /// What it did.
    pub effect: DdlEffect,
    /// The table before, as far as the source knows it: from a catalog that may have been read later than the log's place.
    #[serde(default)]
    pub before: Option<Arc<Table>>,
}

/// What a schema change did, as far as replication is concerned.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum DdlEffect {
    /// A table of the selection was created or altered and now looks like this.
    Table {
        /// The table afterwards.
        after: Arc<Table>,
        /// For columns that were added with a default: the value that existing rows got, in text form
        /// (`pg_attribute.attmissingval`). Column name first.
        missing_values: Vec<(String, String)>,
        /// Whether the table's rows were rewritten (a new relfilenode), which no row change in the log shows.
        rewritten: bool,
    },
    /// An index or a constraint other than a foreign key was made on a table of the selection; the source's own full definition.
    Index {
        /// The table.
        table: TableName,
        /// The index's name, without schema.
        name: String,
        /// `CREATE [UNIQUE] INDEX …`, or `ALTER TABLE … ADD CONSTRAINT …`.
        definition: String,
    },
    /// A table of the selection was dropped.
    Dropped {
        /// The table.
        table: TableName,
    },
    /// A table of the selection is there whose rows are not in the log.
    Unfollowed {
        /// The table.
        table: TableName,
        /// Why not.
        why: String,
    },
    /// A partition was made, attached or detached: all that there are under a root of the selection since.
    Partitions {
        /// The topmost partitioned table.
        root: TableName,
        /// What its rows are divided by: `RANGE (day)`.
        key: String,
        /// Parents before children.
        partitions: Vec<Partition>,
    },
    /// A partition was dropped that no pattern names by itself; what its root is can no longer be told.
    PartitionDropped {
        /// The partition.
        table: TableName,
    },
    /// A partition was emptied by TRUNCATE, and the table whose rows it holds was not.
    Emptied {
        /// The partition, which has none below it.
        table: TableName,
        /// What it holds of the table at the end: from the partition upwards. Never empty.
        path: Vec<Division>,
    },
    /// A type of the user was made or altered.
    Type {
        /// The type afterwards.
        after: UserType,
        /// Whether a table of the selection has columns of it.
        used: bool,
    },
    /// A constraint of a table, or an index, was dropped.
    Undone {
        /// The constraint's table; `None` for an index.
        table: Option<TableName>,
        /// Constraint or index; the schema is the table's or the index's own.
        name: TableName,
    },
    /// A sequence that belongs to no identity column was made, or got its owner.
    Sequence {
        /// Its name.
        name: TableName,
        /// `CREATE SEQUENCE …` or `ALTER SEQUENCE … OWNED BY …`.
        definition: String,
    },
    /// Something that does not concern the rows of selected tables (views, functions, grants, comments).
    Other,
}

/// One partition of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Its name.
    pub name: TableName,
    /// The table that it is a partition of.
    pub parent: TableName,
    /// `FOR VALUES …` or `DEFAULT`.
    pub bound: String,
    /// What it is divided by itself, if it is.
    pub key: Option<String>,
    /// Whether it held no rows then.
    pub empty: bool,
}

/// One step from a partition up to the table that it divides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Division {
    /// The table that is divided.
    pub parent: TableName,
    /// What by: `RANGE (day)`.
    pub key: String,
    /// `FOR VALUES …` or `DEFAULT`.
    pub bound: String,
    /// Of a default partition, which holds what the others do not: the bounds of all, itself included, in order.
    pub beside: Option<Vec<String>>,
}

/// A type that a user made, as far as values' text forms depend on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserType {
    /// Its name.
    pub name: TableName,
    /// Of an enumeration: its labels in their order.
    pub labels: Vec<String>,
    /// Of a composite type: name and type of its fields.
    pub attributes: Vec<(String, String)>,
    /// The source's letter for what it is: `e` an enumeration, `c` a composite type, `d` a domain.
    pub kind: char,
}

/// Events that travel together: what one read of the source's socket held.
#[derive(Debug, Default)]
pub struct Parcel {
    /// In log order.
    pub events: Vec<Event>,
    /// Sum of [`Event::bytes`].
    pub bytes: usize,
}

impl Parcel {
    /// Appends an event.
    pub fn push(&mut self, event: Event) {
        self.bytes += event.bytes();
        self.events.push(event);
    }
}
