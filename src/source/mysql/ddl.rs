//! What a schema change in the binary log says: from a statement's text to what became of which table. Pure.
//!
//! The log holds schema changes as the client's text. Row events describe the shape of their tables by themselves, so what
//! must be learnt from the text is what it did to rows that are there (values that new columns got, conversions, rows that
//! went away), and which column is which after a rename.
//!
//! The texts are read by a small reader of its own, not by a general SQL parser: the two families' dialects differ from
//! each other and from what such parsers know (executable comments, partition verbs, MariaDB's `IF EXISTS` everywhere),
//! and a statement must not stop a migration because of a table option that means nothing for rows. The reader knows
//! everything that can stand in statements about tables; a word that it does not know makes the statement
//! [`Stated::NotUnderstood`], which stops if a table of the migration is concerned.

pub mod alter;
pub mod column;
pub mod cursor;
pub mod fill;
pub mod key;
pub mod known;
pub mod parse;
pub mod shadow;
pub mod shape;
pub mod token;
pub mod written;

#[cfg(test)]
mod tests;

pub use known::{Consequence, Known, World};
pub use parse::{read, writes};
pub use shape::{Key, keys_of};

use crate::definition::DataType;
use crate::schema::TableName;

/// What the session that ran a statement had set, as the log's query event tells, and which server it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Double quotes are for names.
    pub ansi_quotes: bool,
    /// A backslash in a string is a backslash.
    pub no_backslash_escapes: bool,
    /// Values that do not fit are refused (STRICT_TRANS_TABLES or STRICT_ALL_TABLES).
    pub strict: bool,
    /// REAL is FLOAT.
    pub real_as_float: bool,
    /// Types have another database's meaning (MariaDB's ORACLE, and MAXDB): definitions are not understood.
    pub foreign_types: bool,
    /// `explicit_defaults_for_timestamp`: a TIMESTAMP column gets no default by itself.
    pub explicit_timestamps: bool,
    /// `time_zone` as seconds east of Greenwich, where it is a fixed offset.
    pub utc_offset: Option<i32>,
    /// Whether the server is MariaDB.
    pub mariadb: bool,
    /// Its version as executable comments number it: 90704, 101119.
    pub version: u32,
}

impl Default for Session {
    fn default() -> Self {
        Session {
            ansi_quotes: false,
            no_backslash_escapes: false,
            strict: true,
            real_as_float: false,
            foreign_types: false,
            explicit_timestamps: true,
            utc_offset: None,
            mariadb: false,
            version: 80_000,
        }
    }
}

impl Session {
    /// Takes over the `sql_mode` of a query event (`Q_SQL_MODE_CODE`; the bits are `MODE_…` in `sql/system_variables.h`
    /// and MariaDB's `sql_class.h`).
    pub fn with_sql_mode(mut self, bits: u64) -> Session {
        let is = |bit: u32| bits & (1 << bit) != 0;
        self.real_as_float = is(0);
        self.ansi_quotes = is(2);
        // Both families have moved the names of other databases' modes, only MariaDB still acts on them.
        self.foreign_types = self.mariadb && (is(9) || is(12));
        self.no_backslash_escapes = is(20);
        self.strict = is(21) || is(22);
        self
    }

    /// Takes over the `time_zone` of a query event (`Q_TIME_ZONE_CODE`): `+02:00`, `UTC`. Other names' offsets depend on
    /// the moment, and are not known here.
    pub fn with_time_zone(mut self, zone: &str) -> Session {
        let fixed = || {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let seconds =
                hours.parse::<i32>().ok()?.checked_mul(3600)?.checked_add(minutes.parse::<i32>().ok()? * 60)?;
            match zone.as_bytes().first()? {
                b'+' => Some(seconds),
                b'-' => Some(-seconds),
                _ => None,
            }
        };
        self.utc_offset =
            if zone.eq_ignore_ascii_case("UTC") { Some(0) } else { fixed().filter(|s| s.abs() <= 50_400) };
        self
    }
}

/// What a statement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stated {
    /// CREATE TABLE.
    CreateTable(Box<CreateTable>),
    /// ALTER TABLE; CREATE INDEX and DROP INDEX are the same thing said otherwise.
    AlterTable {
        /// The table.
        name: TableName,
        /// What is to be done, in the order of the text.
        ops: Vec<AlterOp>,
        /// MariaDB's ALTER IGNORE TABLE: rows that do not fit may go away.
        ignore: bool,
    },
    /// DROP TABLE.
    DropTable {
        /// The tables.
        names: Vec<TableName>,
        /// IF EXISTS.
        if_exists: bool,
        /// Only temporary tables.
        temporary: bool,
    },
    /// RENAME TABLE: old name and new name, one after the other.
    RenameTable {
        /// Old and new name.
        pairs: Vec<(TableName, TableName)>,
    },
    /// TRUNCATE TABLE.
    Truncate {
        /// The table.
        name: TableName,
    },
    /// DROP DATABASE.
    DropDatabase {
        /// The database.
        name: String,
    },
    /// CREATE DATABASE.
    CreateDatabase {
        /// The database.
        name: String,
    },
    /// It has no part in any table's rows or shape: views, routines, accounts, maintenance.
    Irrelevant,
    /// It may have a part in tables' rows or shape, and it is not known which.
    NotUnderstood {
        /// What is not understood.
        why: String,
        /// The table that it makes or changes, as far as that can be told.
        subject: Option<TableName>,
        /// Every name in it that may be a table's.
        mentions: Vec<TableName>,
    },
}

/// CREATE TABLE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTable {
    /// The table.
    pub name: TableName,
    /// Its columns as written.
    pub columns: Vec<ColumnText>,
    /// Its keys as written, those that stand with columns included.
    pub keys: Vec<KeyText>,
    /// Its foreign keys.
    pub foreign: Vec<ForeignText>,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// MariaDB's OR REPLACE: a table of that name is dropped first.
    pub or_replace: bool,
    /// LIKE this table.
    pub like: Option<TableName>,
    /// Columns or rows come from a query.
    pub select: bool,
    /// Only its session sees it; its rows are not in the log.
    pub temporary: bool,
    /// It is divided into partitions.
    pub partitioned: bool,
}

/// One thing that ALTER TABLE does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlterOp {
    /// ADD COLUMN.
    Add {
        /// The column.
        column: Box<ColumnText>,
        /// Where it stands.
        place: Place,
    },
    /// CHANGE or MODIFY COLUMN.
    Change {
        /// The name it had.
        from: String,
        /// What it is now.
        column: Box<ColumnText>,
        /// Where it stands; [`Place::Last`] where it stood.
        place: Place,
    },
    /// DROP COLUMN.
    Drop {
        /// Its name.
        name: String,
    },
    /// RENAME COLUMN.
    RenameColumn {
        /// Old name.
        from: String,
        /// New name.
        to: String,
    },
    /// ALTER COLUMN … SET DEFAULT, or DROP DEFAULT.
    SetDefault {
        /// The column.
        name: String,
        /// The new default.
        default: Option<DefaultText>,
    },
    /// ADD a key or an index.
    AddKey(KeyText),
    /// ADD a foreign key.
    AddForeign(ForeignText),
    /// DROP FOREIGN KEY.
    DropForeign {
        /// Its name.
        name: String,
    },
    /// DROP KEY, DROP PRIMARY KEY (`PRIMARY`), or DROP CONSTRAINT of what may be a key.
    DropKey {
        /// The key's name.
        name: String,
    },
    /// RENAME KEY.
    RenameKey {
        /// Old name.
        from: String,
        /// New name.
        to: String,
    },
    /// RENAME TO.
    RenameTo(TableName),
    /// CONVERT TO CHARACTER SET; `None` is the database's.
    Convert {
        /// The character set, lower case.
        charset: Option<String>,
    },
    /// The table is divided into partitions from here on, or not any more.
    Partitioned(bool),
    /// Rows of the table (or of the other table) come or go, and no row event says so.
    Unlogged {
        /// What is done, in words: `partitions are dropped`.
        what: &'static str,
        /// The other table.
        other: Option<TableName>,
    },
    /// Nothing that rows or columns show.
    Nothing,
}

/// Where a column stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nothing was said.
    Last,
    /// FIRST.
    First,
    /// AFTER this column.
    After(String),
}

/// A column as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnText {
    /// Its name.
    pub name: String,
    /// The type as `information_schema.columns.column_type` prints it.
    pub type_name: String,
    /// What it holds.
    pub data: DataType,
    /// NULL or NOT NULL was said.
    pub null: Option<bool>,
    /// DEFAULT; `DEFAULT NULL` is none.
    pub default: Option<DefaultText>,
    /// AUTO_INCREMENT.
    pub numbered: bool,
    /// It is computed from others.
    pub generated: Option<String>,
    /// A character set was named, lower case.
    pub charset: Option<String>,
    /// A collation was named.
    pub collation: Option<String>,
    /// IF NOT EXISTS or IF EXISTS stood before it (MariaDB).
    pub conditional: bool,
}

/// A default as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultText {
    /// A string.
    Text(String),
    /// A number, with its sign.
    Number(String),
    /// Bytes of `x'…'`.
    Hex(Vec<u8>),
    /// Digits of `b'…'`.
    Bits(String),
    /// `CURRENT_TIMESTAMP` and its synonyms, as the server prints them.
    Now(String),
    /// Anything else.
    Expression(String),
}

/// What a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// PRIMARY KEY.
    Primary,
    /// UNIQUE.
    Unique,
    /// Neither.
    Plain,
}

/// A key as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyText {
    /// What it is.
    pub kind: KeyKind,
    /// Its name, if it has one of its own.
    pub name: Option<String>,
    /// Its columns, and whether the key holds them whole.
    pub columns: Vec<(String, bool)>,
    /// It holds something other than columns.
    pub computed: bool,
    /// As ADD takes it: `UNIQUE KEY name (…)`.
    pub text: String,
    /// IF NOT EXISTS stood before it.
    pub conditional: bool,
}

/// A foreign key as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignText {
    /// Its name, if it has one of its own.
    pub name: Option<String>,
    /// The table's columns.
    pub columns: Vec<String>,
    /// Database, if it was named, and table that it refers to.
    pub parent: (Option<String>, String),
    /// That table's columns, if they were named.
    pub referenced: Vec<String>,
    /// ON DELETE changes rows.
    pub on_delete: bool,
    /// ON UPDATE changes rows.
    pub on_update: bool,
}
