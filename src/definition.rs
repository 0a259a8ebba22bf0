//! A schema in words that no engine owns: types, tables, keys, indexes, defaults. A source describes its tables with them,
//! and a target of another engine makes its own statements of that.

use serde::{Deserialize, Serialize};

use crate::schema::TableName;

/// What a column holds, exactly enough to choose another engine's type for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataType {
    /// True or false.
    Bool,
    /// A whole number.
    Int {
        /// 8, 16, 24, 32 or 64.
        bits: u8,
        /// Whether it has no sign.
        unsigned: bool,
        /// Whether the engine's users write truth values into it (MySQL's `tinyint(1)`).
        truth: bool,
    },
    /// An exact decimal; without precision of any length.
    Decimal {
        /// All digits.
        precision: Option<u32>,
        /// Digits behind the point.
        scale: u32,
    },
    /// A binary floating-point number of 32 or 64 bits.
    Float {
        /// 32 or 64.
        bits: u8,
    },
    /// Text of this many characters, padded with blanks.
    Char {
        /// Characters.
        length: u32,
    },
    /// Text of at most this many characters.
    Varchar {
        /// Characters.
        length: u32,
    },
    /// Text of any length that the engine can hold.
    Text {
        /// At most so many bytes, if the type says so.
        bytes: Option<u64>,
    },
    /// Bytes.
    Bytes {
        /// At most so many, if the type says so.
        length: Option<u64>,
        /// Whether it is always that many.
        fixed: bool,
    },
    /// A string of bits.
    Bits {
        /// How many; at most so many if it varies; `None` without limit.
        length: Option<u32>,
        /// Whether shorter ones are permitted.
        varying: bool,
    },
    /// A date.
    Date,
    /// A time of day.
    Time {
        /// Digits of a second's fraction.
        fraction: u8,
        /// Whether it reaches beyond a day, or below zero (MySQL's `time`).
        span: bool,
        /// Whether an offset belongs to it.
        zone: bool,
    },
    /// Date and time without zone.
    Timestamp {
        /// Digits of a second's fraction.
        fraction: u8,
    },
    /// An instant.
    TimestampTz {
        /// Digits of a second's fraction.
        fraction: u8,
    },
    /// A year of four digits.
    Year,
    /// A span of time.
    Interval,
    /// A UUID.
    Uuid,
    /// JSON.
    Json {
        /// Whether its text is kept as it was written (PostgreSQL's `json`).
        verbatim: bool,
    },
    /// One of some labels.
    Enum {
        /// The type's own name, where it has one.
        name: Option<TableName>,
        /// In their order.
        labels: Vec<String>,
    },
    /// Any of some labels, as `a,b`.
    Set {
        /// In their order.
        labels: Vec<String>,
    },
    /// A list of values of one type.
    Array {
        /// Of what.
        element: Box<DataType>,
    },
    /// A shape, in its engine's own bytes.
    Geometry,
    /// A network address, with a mask or without.
    Network,
    /// Anything else, as the engine prints it.
    #[default]
    Other,
}

/// How a column gets its value by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DefaultValue {
    /// It has none.
    #[default]
    None,
    /// This value, in canonical text form.
    Literal(String),
    /// The moment of the transaction or statement.
    Now {
        /// Whether every update sets it, too.
        on_update: bool,
    },
    /// The day.
    Today,
    /// A random UUID.
    RandomUuid,
    /// An expression in the source's dialect.
    Expression(String),
}

/// One column of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnDef {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub data: DataType,
    /// The source's type with modifiers, for messages.
    pub type_name: String,
    /// Whether NULL is permitted.
    pub nullable: bool,
    /// Its default.
    pub default: DefaultValue,
    /// Whether the server numbers rows in it (identity, serial, AUTO_INCREMENT).
    pub numbered: bool,
    /// The expression it is computed from, in the source's dialect.
    pub generated: Option<String>,
    /// Whether its values travel; those that the server computes often do not.
    pub travels: bool,
    /// A comment.
    pub comment: Option<String>,
}

/// A column in a key or index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyColumn {
    /// Its name.
    pub name: String,
    /// Whether it is sorted downwards.
    pub descending: bool,
    /// Only the first so many characters or bytes of it.
    pub prefix: Option<u32>,
}

/// A key or index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexDef {
    /// Its name.
    pub name: String,
    /// The columns.
    pub columns: Vec<KeyColumn>,
    /// Whether no two rows may be equal in them.
    pub unique: bool,
    /// Whether two NULLs count as equal.
    pub nulls_equal: bool,
    /// The method, where it is not the engine's usual one (`gin`, `fulltext`, `spatial`, `hash`).
    pub method: Option<String>,
    /// Which rows it holds, or what it computes, in the source's dialect: what other engines cannot repeat.
    pub peculiar: Option<String>,
}

/// What happens to a row when the row that it refers to changes or goes away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForeignAction {
    /// It is refused.
    #[default]
    #[serde(alias = "no action")]
    NoAction,
    /// It is refused, at once.
    Restrict,
    /// The row follows.
    Cascade,
    /// Its columns become NULL.
    #[serde(alias = "set null")]
    SetNull,
    /// Its columns become their defaults.
    #[serde(alias = "set default")]
    SetDefault,
}

/// A foreign key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignKeyDef {
    /// Its name.
    pub name: String,
    /// The columns.
    pub columns: Vec<String>,
    /// The table that they refer to, by its name at the source.
    pub references: TableName,
    /// The columns there.
    pub referenced: Vec<String>,
    /// When the other row goes away.
    pub on_delete: ForeignAction,
    /// When the other row's key changes.
    pub on_update: ForeignAction,
}

/// A table as another engine can make it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDef {
    /// Its name at the source.
    pub name: TableName,
    /// All columns, computed ones too, in their order.
    pub columns: Vec<ColumnDef>,
    /// The primary key's columns, in the key's order.
    pub primary_key: Vec<KeyColumn>,
    /// Unique constraints and indexes besides it.
    pub indexes: Vec<IndexDef>,
    /// Foreign keys to tables that take part.
    pub foreign_keys: Vec<ForeignKeyDef>,
    /// Conditions that rows must meet: name and expression in the source's dialect.
    pub checks: Vec<(String, String)>,
    /// A comment.
    pub comment: Option<String>,
    /// What else belongs to the table and no other engine can make of it, for people: triggers, policies, partitions.
    pub left_behind: Vec<String>,
}

impl TableDef {
    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&ColumnDef> {
        self.columns.iter().find(|c| c.name == name)
    }
}
