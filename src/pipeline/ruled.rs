//! What the preflight finds about the rules: whether each can be carried out between these two servers, and what a
//! reverse stream could not carry back.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::error::Result;
use crate::finding::{Finding, Severity};
use crate::schema::{Table, TableName};
use crate::target::Target;
use crate::transform::Compiled;
use crate::transform::rules::{OnExisting, RuleSet};

/// What a look at the rules found.
pub struct Looked {
    /// Problems, and what cannot be undone.
    pub findings: Vec<Finding>,
    /// The tables as the target must have them, for its own check: empty, with these columns.
    pub expected: Vec<Arc<Table>>,
    /// The compiled steps of the tables that rules name.
    pub compiled: Vec<Compiled>,
}

/// Compiles every rule against the tables as both servers have them now.
///
/// # Errors
/// Only if the target could not be asked.
pub async fn look(rules: &RuleSet, engine: &str, tables: &[Arc<Table>], target: &dyn Target) -> Result<Looked> {
    let mut out = Looked { findings: Vec::new(), expected: Vec::new(), compiled: Vec::new() };
    let sources: Vec<TableName> = tables.iter().map(|t| t.name.clone()).collect();
    for named in rules.iter() {
        if !sources.contains(&named.from) {
            out.findings.push(
                Finding::new(
                    Severity::Problem,
                    "source",
                    "rule",
                    format!("{}: the source has no table {}, or [tables] leaves it out", named.label(), named.from),
                )
                .fix("correct `from`, or include the table"),
            );
        }
    }
    // Where tables merge, several name the same one.
    let wanted: BTreeSet<TableName> =
        sources.iter().filter(|s| rules.concern(s)).flat_map(|s| rules.targets_of(s)).collect();
    let wanted: Vec<TableName> = wanted.into_iter().collect();
    let there: HashMap<TableName, Arc<Table>> = if wanted.is_empty() {
        HashMap::new()
    } else {
        let found = target.tables(&wanted).await?;
        wanted.into_iter().zip(found).filter_map(|(n, t)| t.map(|t| (n, t))).collect()
    };
    let find = |name: &TableName| there.get(name).cloned();
    for table in tables {
        if !rules.concern(&table.name) {
            match target.adopt_table(engine, table, rules.homes()) {
                Ok(adopted) => out.expected.push(Arc::new(adopted)),
                Err(e) => {
                    let f = Finding::new(Severity::Problem, "target", "type", e.message());
                    out.findings.push(match e.hint_text() {
                        Some(h) => f.fix(h),
                        None => f,
                    });
                }
            }
            continue;
        }
        match Compiled::with_rules(rules, table, &sources, &find) {
            Ok(compiled) => {
                for output in compiled.outputs.iter().filter(|o| o.on_existing == OnExisting::Error) {
                    let target =
                        Table { estimated_rows: table.estimated_rows, bytes: table.bytes, ..(*output.target).clone() };
                    if !out.expected.iter().any(|t| t.name == target.name) {
                        out.expected.push(Arc::new(target));
                    }
                }
                for loss in compiled.losses() {
                    out.findings.push(Finding::new(Severity::Note, "switchyard", "lossy", loss));
                }
                out.compiled.push(compiled);
            }
            Err(e) => {
                let f = Finding::new(Severity::Problem, "switchyard", "rule", e.message());
                out.findings.push(match e.hint_text() {
                    Some(h) => f.fix(h),
                    None => f,
                });
            }
        }
    }
    Ok(out)
}
