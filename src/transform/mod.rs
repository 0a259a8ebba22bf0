//! The transform step: what becomes of a source table's rows, compiled once per schema version. Pure.
//!
//! | file | responsibility |
//! |---|---|
//! | `select.rs` | which tables take part |
//! | `rules.rs` | the rules as written, and which tables they concern |
//! | `compile.rs` | a rule, a source table and a target table become a program, or an error that says what to do |
//! | `parents.rs` | which columns of a list's rows hold the key of the row that the list was in |
//! | `convert.rs` | what a value becomes where two engines' types differ |
//! | `output.rs` | what the program makes of rows and changes |
//! | `inverse.rs` | what a reverse stream could bring back, and what not |
//! | `typename.rs` | PostgreSQL's names for the types of other engines |
//! | `embed.rs` | rows that become lists in the documents of their parents |
//! | `made.rs` | the tables that rules write and the target has not, as they are made |
//! | `items.rs` | arrays and JSON lists, taken apart |
//! | `expr/` | SQL expressions over one row |

mod compile;
pub mod convert;
pub mod embed;
pub mod expr;
mod inverse;
mod items;
pub mod made;
pub mod output;
mod parents;
pub mod rules;
pub mod select;
pub mod typename;

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::schema::{RowIdentity, Table, TableName};
use crate::value::Row;
use output::{Output, Program};
use rules::{OnExisting, RuleSet};

/// What becomes of one table's rows. Compiled from the source's table as it is at this place of the log, and the
/// target's tables as they are now; compiled anew when either changes.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The table that changes come from.
    pub source: Arc<Table>,
    /// Where its rows go: one place, unless rules split the table or take lists out of it.
    pub outputs: Vec<Output>,
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
        let conversions: Vec<_> = source.columns.iter().zip(&columns).map(|(s, t)| convert::between(s, t)).collect();
        let target =
            Table { columns, identity: source.identity.clone(), full_old_rows: source.full_old_rows, ..target.clone() };
        let mut compiled = Compiled::passing(source.clone(), Arc::new(target));
        if conversions.iter().any(Option::is_some) {
            // Nothing else is looked at or copied; a table without any passes as it is.
            for output in &mut compiled.outputs {
                output.program = Some(Program::converting(source, &output.target, &conversions));
            }
        }
        Ok(compiled)
    }

    /// The same where rules may bring rows of other tables into `target`, which passing rows then lie among.
    pub fn beside(mut self, rules: &RuleSet, target: &TableName, sources: &[TableName]) -> Compiled {
        let alone = rules.is_empty() || rules.writers_of(target, sources.iter()).len() <= 1;
        self.outputs.iter_mut().for_each(|o| o.alone = alone);
        self
    }

    /// Rows of `source` go into `target` as they are; both have the same columns.
    pub fn passing(source: Arc<Table>, target: Arc<Table>) -> Compiled {
        let output = Output { target, on_existing: OnExisting::Error, alone: true, parent: None, program: None };
        Compiled { source, outputs: vec![output] }
    }

    /// Compiles the step for a table with what the rules say of it. `targets` gives the target's tables, `sources` are
    /// all source tables that take part.
    ///
    /// # Errors
    /// `Fatal` with the rule, its key and what would be right; for a table without rules as [`Compiled::new`].
    pub fn with_rules(
        rules: &RuleSet,
        source: &Arc<Table>,
        sources: &[TableName],
        targets: &dyn Fn(&TableName) -> Option<Arc<Table>>,
    ) -> Result<Compiled> {
        let find = |name: &TableName| {
            targets(name).ok_or_else(|| {
                Error::fatal(format!("{name}: the target has no such table"))
                    .hint("make the table on the target, or set target.create_schema = true and begin with it")
            })
        };
        if !rules.concern(&source.name) {
            let name = rules.homes().table(&source.name);
            return Ok(Compiled::new(source, &*find(&name)?)?.beside(rules, &name, sources));
        }
        let mut outputs = Vec::new();
        for named in rules.of(&source.name) {
            let alone = |t: &TableName| rules.writers_of(t, sources.iter()).len() <= 1;
            let scope = compile::Scope { named, source, alone: alone(&named.to) };
            let row = scope.row(&*find(&named.to)?)?;
            let mut children = Vec::new();
            for (nth, name) in named.children.iter().enumerate() {
                let scope = compile::Scope { named, source, alone: alone(name) };
                children.push(scope.items(nth, &*find(name)?, &row)?);
            }
            outputs.push(row);
            outputs.append(&mut children);
        }
        Ok(Compiled { source: source.clone(), outputs })
    }

    /// The one place where rows go as they are, if that is all that happens to them.
    #[inline]
    pub fn same(&self) -> Option<&Output> {
        match self.outputs.as_slice() {
            [one] if one.is_same() => Some(one),
            _ => None,
        }
    }
}

/// The fields that find the row again, as a row of the same shape with everything else NULL.
pub fn key_of(table: &Table, row: &Row) -> Row {
    let mut b = crate::value::RowBuilder::with_capacity(row.len(), 32);
    for i in 0..row.len() {
        let keep = match &table.identity {
            RowIdentity::Key(k) => k.contains(&i),
            _ => true,
        };
        b.push(if keep { row.get(i) } else { crate::value::Datum::Null });
    }
    b.finish()
}

#[cfg(test)]
mod tests;
