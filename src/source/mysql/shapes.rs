//! What schema changes in the log do to the tables that are followed. Pure.

use std::sync::Arc;

use crate::change::DdlEffect;
use crate::schema::{Table, TableId, TableName};

/// What became of a statement, as far as it concerns selected tables.
pub enum Outcome {
    /// Every row of the table is gone.
    Emptied(Arc<Table>),
    /// A schema change.
    Effect {
        /// `ALTER TABLE`.
        tag: String,
        /// What it happened to.
        object: String,
        /// What it did.
        effect: DdlEffect,
    },
}

/// The tables as they are at this place of the log.
pub struct Shapes {
    names: Vec<TableName>,
}

/// Whether the statement holds the word.
pub fn mentions(statement: &str, word: &str) -> bool {
    statement.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w.eq_ignore_ascii_case(word))
}

impl Shapes {
    /// Begins with the tables as the catalog has them.
    pub fn new(tables: &[Arc<Table>]) -> Shapes {
        Shapes { names: tables.iter().map(|t| t.name.clone()).collect() }
    }
    /// Whether it is another table's copy that a tool for schema changes works on.
    pub fn is_shadow(&self, _table: &TableName) -> bool {
        false
    }
    /// Takes a statement.
    pub fn follow(
        &mut self,
        statement: &str,
        _schema: &str,
        _sql_mode: Option<u64>,
        _selects: &dyn Fn(&TableName) -> bool,
        _id: &dyn Fn(&TableName) -> TableId,
    ) -> Vec<Outcome> {
        let table = self.names.iter().find(|t| mentions(statement, &t.name)).cloned();
        let Some(table) = table else { return Vec::new() };
        let why = "schema changes are not followed yet".to_owned();
        vec![Outcome::Effect {
            tag: "DDL".into(),
            object: table.to_string(),
            effect: DdlEffect::Unfollowed { table, why },
        }]
    }
}
