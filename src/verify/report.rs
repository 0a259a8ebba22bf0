//! What a verification found, as a document: the names that `verify --json` and `GET /api/v1/verify` promise.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::exchange::SchemaDifference;

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
    /// Rows that are not equal because changes of theirs were set aside: see the dead letters on the target.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub set_aside: u64,
    /// Those that are listed.
    pub differences: Vec<Difference>,
    /// Why it could not be compared, or not wholly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obstacle: Option<String>,
}

/// A row of the target that refers to none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Orphan {
    /// The target's table.
    pub table: String,
    /// The foreign key, as the source calls it.
    pub constraint: String,
    /// The row's key.
    pub key: Value,
}

/// A question of the operator's, and its answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Assertion {
    /// `source` or `target`.
    pub side: String,
    /// The question.
    pub sql: String,
    /// What it should say.
    pub expect: String,
    /// What it said; nothing for NULL or no row.
    pub got: Option<String>,
    /// Whether that is so.
    pub ok: bool,
    /// Why it could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
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
    /// What of the schema differs. What the target has beyond the source's schema is told, and is no difference.
    pub schema: Vec<SchemaDifference>,
    /// Why schemas could not be compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_obstacle: Option<String>,
    /// Rows that refer to none; at most [`LISTED`] of each foreign key.
    pub relationships: Vec<Orphan>,
    /// Questions of the operator's, in their order.
    pub asserts: Vec<Assertion>,
}

impl Report {
    /// The outcome that the tables amount to.
    pub fn outcome(&self) -> Outcome {
        let lacks = self.schema.iter().any(|d| !d.kind.starts_with("extra_"));
        if lacks
            || !self.relationships.is_empty()
            || self.tables.iter().any(|t| t.differing > 0)
            || self.asserts.iter().any(|a| !a.ok && a.error.is_none())
        {
            Outcome::Different
        } else if self.tables.iter().any(|t| t.obstacle.is_some() || t.set_aside > 0)
            || self.schema_obstacle.is_some()
            || self.asserts.iter().any(|a| !a.ok)
        {
            Outcome::Incomplete
        } else {
            Outcome::Equal
        }
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_what_was_found_when_summed_up_then_a_difference_outweighs_what_could_not_be_compared() {
        let table = |differing, obstacle: bool| TableReport {
            differing,
            obstacle: obstacle.then(String::new),
            ..TableReport::default()
        };
        let outcome = |tables: Vec<TableReport>, asserts| Report { tables, asserts, ..Report::default() }.outcome();
        assert_eq!(outcome(vec![table(0, false)], vec![]), Outcome::Equal);
        assert_eq!(outcome(vec![table(0, true), table(0, false)], vec![]), Outcome::Incomplete);
        assert_eq!(outcome(vec![table(0, true), table(1, false)], vec![]), Outcome::Different);
        assert_eq!(outcome(vec![TableReport { set_aside: 1, ..table(0, false) }], vec![]), Outcome::Incomplete);
        let no = Assertion { ok: false, ..Assertion::default() };
        assert_eq!(outcome(vec![], vec![no.clone()]), Outcome::Different);
        assert_eq!(outcome(vec![], vec![Assertion { error: Some(String::new()), ..no }]), Outcome::Incomplete);
    }
}
