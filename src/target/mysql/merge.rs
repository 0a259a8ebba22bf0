//! Statements for tables that several source tables write, and for rows that come and go together. Pure.
//!
//! A merge that skips notes the target's keys that it left out, by source table, in `switchyard.skipped`. Later changes
//! of a noted key are left out, too, so that a change of one table's row never reaches another table's. When the source
//! deletes the row, its note goes with it. Keys are noted as JSON of the target's own values, and found by their hash.

use super::names::short;
use super::statements::Shape;
use crate::error::Error;
use crate::mywire::quote::{list, literal, qualified, quoted};
use crate::schema::{Table, TableName};

/// The notes of one source table about one target table.
#[derive(Clone, Debug)]
pub struct Notes {
    name: String,
    source: String,
    target: String,
}

impl Notes {
    /// Those of migration `name`.
    pub fn new(name: &str, source: &TableName, target: &TableName) -> Notes {
        Notes {
            name: literal(name),
            source: literal(&short(&source.to_string())),
            target: literal(&short(&target.to_string())),
        }
    }

    fn matches(&self, key: &str) -> String {
        format!(
            "s.name = {} AND s.source = {} AND s.target = {} AND s.key_hash = UNHEX(SHA2({key}, 256))",
            self.name, self.source, self.target
        )
    }

    /// ` AND …` for a statement over listed rows: no key that was left out.
    pub fn exclusion(&self, shape: &Shape) -> String {
        format!(" AND NOT EXISTS (SELECT 1 FROM switchyard.skipped AS s WHERE {})", self.matches(&shape.key_text(None)))
    }

    fn head(&self, key: &str) -> String {
        format!(
            "INSERT IGNORE INTO switchyard.skipped (name, source, target, key_hash, row_key) \
             SELECT {}, {}, {}, UNHEX(SHA2({key}, 256)), {key} FROM ",
            self.name, self.source, self.target
        )
    }

    /// What stands before and after a listing of keys: notes those that are there.
    pub fn note(&self, shape: &Shape) -> (String, String) {
        let after = format!(" STRAIGHT_JOIN {} AS t ON {}", qualified(&shape.table.name), shape.key_join());
        (self.head(&shape.key_text(None)), after)
    }

    /// The same for rows that lie in a table `stage` with the columns of the target's.
    pub fn note_staged(&self, shape: &Shape, stage: &str) -> String {
        format!(
            "{}{stage} AS v STRAIGHT_JOIN {} AS t ON {}",
            self.head(&shape.key_text(Some("v"))),
            qualified(&shape.table.name),
            same(&shape.table, "v")
        )
    }

    /// What stands before and after a listing of keys: forgets the notes of those, because the source deleted the rows.
    pub fn forget(&self, shape: &Shape) -> (String, String) {
        let after = format!(" STRAIGHT_JOIN switchyard.skipped AS s ON {}", self.matches(&shape.key_text(None)));
        ("DELETE s FROM ".to_owned(), after)
    }
}

/// Lists of rows that a merge may leave out.
pub fn no_skipped_lists(table: &TableName) -> Error {
    Error::fatal(format!("{table}: a rule that skips rows takes lists apart, which this target cannot carry"))
        .hint("leave out on_existing = \"skip\" or the rule's explode part")
}

/// Brings staged rows in whose key is not there.
pub fn insert_absent_from(table: &Table, stage: &str) -> String {
    let columns = columns(table, "");
    let first = table.key().first().map_or_else(String::new, |&k| quoted(&table.columns[k].name));
    format!(
        "INSERT INTO {t} ({columns}) SELECT {} FROM {stage} AS v LEFT JOIN {t} AS t ON {} WHERE t.{first} IS NULL",
        self::columns(table, "v."),
        same(table, "v"),
        t = qualified(&table.name)
    )
}

/// Brings staged rows in instead of all rows of their keys.
pub fn replace_from(table: &Table, stage: &str) -> String {
    let columns = columns(table, "");
    format!(
        "DELETE t FROM {stage} AS v STRAIGHT_JOIN {t} AS t ON {}; INSERT INTO {t} ({columns}) SELECT {columns} FROM {stage}",
        same(table, "v"),
        t = qualified(&table.name),
    )
}

/// A table of this session alone with the columns of the target's, for rows that are on their way.
pub fn make_stage(table: &Table, stage: &str) -> String {
    // Not LIKE, which brings keys and generated columns along.
    format!(
        "DROP TEMPORARY TABLE IF EXISTS {stage}; CREATE TEMPORARY TABLE {stage} ENGINE=InnoDB AS SELECT {} FROM {} LIMIT 0",
        columns(table, ""),
        qualified(&table.name)
    )
}

fn same(table: &Table, other: &str) -> String {
    let terms: Vec<String> =
        table.key().iter().map(|&k| quoted(&table.columns[k].name)).map(|c| format!("t.{c} = {other}.{c}")).collect();
    terms.join(" AND ")
}

fn columns(table: &Table, dot: &str) -> String {
    if dot.is_empty() {
        return list(table.columns.iter().map(|c| c.name.as_str()));
    }
    table.columns.iter().map(|c| format!("{dot}{}", quoted(&c.name))).collect::<Vec<_>>().join(", ")
}
