//! The rows that were set aside, by which later changes are recognized that must follow them. Pure.

use std::collections::{HashMap, HashSet};

use crate::change::{Change, DeadLetter, Refused};
use crate::error::Error;
use crate::schema::{Table, TableName};

/// Why a change is set aside that nothing is wrong with.
pub const FOLLOWS: &str = "an earlier change of this row was set aside";

/// A row that its source refused, where such rows stop the migration.
pub fn refusal(table: &Table, refused: &Refused) -> Error {
    Error::fatal(format!("{}: {}", table.name, refused.message)).with_code("switchyard:misfit").hint(
        "mend the row at the source, say another type for the field in the rule, or set apply.on_error = \"dead-letter\"; then start again",
    )
}

/// Keys of rows that were set aside, by source table, as [`DeadLetter::key`] has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dead {
    tables: HashMap<TableName, HashSet<String>>,
}

impl Dead {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }
    /// Adds a key.
    pub fn insert(&mut self, table: TableName, key: String) {
        self.tables.entry(table).or_default().insert(key);
    }
    /// Adds the row of a change, under its old key and its new one.
    pub fn add(&mut self, source: &Table, change: &Change) {
        let keys: Vec<String> = keys(source, change).collect();
        if !keys.is_empty() {
            self.tables.entry(source.name.clone()).or_default().extend(keys);
        }
    }
    /// Adds all of another's.
    pub fn merge(&mut self, other: Dead) {
        for (table, keys) in other.tables {
            self.tables.entry(table).or_default().extend(keys);
        }
    }
    /// Whether a change is of such a row.
    pub fn holds(&self, source: &Table, change: &Change) -> bool {
        // Most tables have none: their keys are not written out.
        self.tables.get(&source.name).is_some_and(|dead| keys(source, change).any(|k| dead.contains(&k)))
    }
}

fn keys(source: &Table, change: &Change) -> impl Iterator<Item = String> {
    [&change.old, &change.new].into_iter().flatten().filter_map(|row| DeadLetter::key_of(source, row))
}
