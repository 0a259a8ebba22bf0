//! What a verification found, as a document: the names that `verify --json` and `GET /api/v1/verify` promise.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Differences that are listed of one table; further ones are counted.
pub const LISTED: usize = 1000;

/// How it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing differs.
    #[default]
    Equal,
    /// Something does.
    Different,
    /// A part of it could not be compared.
    Incomplete,
}

/// In which way a row differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The source has it, the target has not.
    Missing,
    /// The target has it, and nothing at the source makes it.
    Extra,
    /// Both have it, with other values.
    Different,
}

/// One row that differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// In which way.
    pub kind: Kind,
    /// The key on the target; of a table without one, nothing.
    pub key: Value,
    /// Columns that differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// Values on both sides, if they were asked for: column to `[source, target]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Value>,
}

/// One table of the target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TableReport {
    /// Its name on the target.
    pub table: String,
    /// Rows that the source's make of it.
    pub source_rows: u64,
    /// Rows that it has.
    pub target_rows: u64,
    /// Rows that were compared.
    pub compared: u64,
    /// Rows that differ, all of them.
    pub differing: u64,
    /// Those that are listed.
    pub differences: Vec<Difference>,
    /// Why it could not be compared, or not wholly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obstacle: Option<String>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// How it ended.
    pub result: Outcome,
    /// The source's place up to which everything was equal; nothing unless everything was compared and equal.
    pub verified_to: Option<String>,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339.
    pub finished_at: String,
    /// By name.
    pub tables: Vec<TableReport>,
}

impl Report {
    /// The outcome that the tables amount to.
    pub fn outcome(&self) -> Outcome {
        if self.tables.iter().any(|t| t.differing > 0) {
            Outcome::Different
        } else if self.tables.iter().any(|t| t.obstacle.is_some()) {
            Outcome::Incomplete
        } else {
            Outcome::Equal
        }
    }
}
