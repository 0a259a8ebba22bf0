//! The transform step: what becomes of a source table's rows, compiled once per schema version. Pure.

pub mod expr;
pub mod select;

use std::sync::Arc;

use crate::change::Change;
use crate::error::{Error, Result};
use crate::schema::{RowIdentity, Table};
use crate::value::Row;

/// What becomes of one table's rows. Compiled from the source's table as it is at this place of the log, and the
/// target's table as it is now; compiled anew when either changes.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The table that changes come from.
    pub source: Arc<Table>,
    /// The table that changes go to: its columns are exactly the fields of the rows that this step gives out.
    pub target: Arc<Table>,
}

impl Compiled {
    /// Compiles the step for a table that no rule names: every source column goes to the target's column of its name.
    ///
    /// # Errors
    /// `Fatal` when the target lacks a column or computes it itself, or a row could not be found again there.
    pub fn new(source: &Arc<Table>, target: &Table) -> Result<Compiled> {
        let mut columns = Vec::with_capacity(source.columns.len());
        for column in &source.columns {
            match target.column(&column.name) {
                Some(i) => columns.push(target.columns[i].clone()),
                None if target.generated.iter().any(|g| g.name == column.name) => {
                    return Err(Error::fatal(format!(
                        "{}: column {:?} is computed by the target itself",
                        target.name, column.name
                    ))
                    .hint("make it an ordinary column on the target"));
                }
                None => {
                    return Err(Error::fatal(format!("{}: the target has no column {:?}", target.name, column.name))
                        .hint(format!(
                            "on the target: ALTER TABLE {} ADD COLUMN {} {}; then start again",
                            target.name,
                            crate::schema::Ident(&column.name),
                            column.type_name
                        )));
                }
            }
        }
        let target =
            Table { columns, identity: source.identity.clone(), full_old_rows: source.full_old_rows, ..target.clone() };
        Ok(Compiled { source: source.clone(), target: Arc::new(target) })
    }

    /// Carries a change through the step.
    #[inline]
    pub fn change(&self, change: Change) -> Change {
        change
    }

    /// Whether copied bytes may pass without being looked at.
    pub fn passes_bytes(&self) -> bool {
        self.source.columns.iter().zip(&self.target.columns).all(|(s, t)| s.type_name == t.type_name)
    }

    /// The fields that find the row again, as a row of the same shape with everything else NULL.
    pub fn key_of(&self, row: &Row) -> Row {
        let mut b = crate::value::RowBuilder::with_capacity(row.len(), 32);
        for i in 0..row.len() {
            let keep = match &self.target.identity {
                RowIdentity::Key(k) => k.contains(&i),
                _ => true,
            };
            b.push(if keep { row.get(i) } else { crate::value::Datum::Null });
        }
        b.finish()
    }
}
