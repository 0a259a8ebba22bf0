//! What the preflight finds about the rules: whether each can be carried out between these two servers, and what a
//! reverse stream could not carry back.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::Pipeline;
use crate::error::{Error, Result};
use crate::finding::{Finding, Severity};
use crate::schema::{Table, TableName};
use crate::target::{Checkpoint, CopyStage, TableCopy, Target};
use crate::transform::Compiled;
use crate::transform::rules::{Homes, OnExisting, Rule, RuleSet};

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

/// Tables whose rules are not those that they were copied by are copied again; every other table goes on from where it is.
///
/// # Errors
/// `Fatal` where a table's rows cannot be told from another's on the target.
pub(super) async fn notice_changes(p: &Pipeline, checkpoint: &mut Checkpoint) -> Result<()> {
    if checkpoint.stage < CopyStage::Copying {
        return Ok(());
    }
    let copies = p.target.copies().await?;
    let changed: Vec<&TableCopy> = copies.iter().filter(|c| c.rules != p.rules.text_of(&c.table)).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let all: Vec<TableName> = copies.iter().map(|c| c.table.clone()).collect();
    let mut stale: Vec<(TableName, Vec<TableName>)> = Vec::new();
    for copy in &changed {
        let before: Vec<Rule> = serde_json::from_str(&copy.rules).unwrap_or_default();
        // Types belong to tables without rules, which this one may have become.
        let homes = Homes { types: Default::default(), ..p.rules.homes().clone() };
        let before = RuleSet::new(&before, homes).unwrap_or_default();
        let mut targets = before.targets_of(&copy.table);
        targets.extend(p.rules.targets_of(&copy.table));
        targets.sort();
        targets.dedup();
        let skips = |r: &RuleSet| r.of(&copy.table).any(|r| r.rule.on_existing != OnExisting::Error);
        let shared = targets.iter().any(|t| {
            let others = all.iter().filter(|o| **o != copy.table);
            p.rules.writers_of(t, others).iter().any(|o| !changed.iter().any(|c| c.table == **o))
        });
        if shared || skips(&before) || skips(&p.rules) {
            return Err(Error::fatal(format!(
                "the rules of {} changed, and its rows on the target lie among those of other tables",
                copy.table
            ))
            .with_code("switchyard:rules")
            .hint(
                "put the rules back as they were, or begin anew: `switchyard finish`, empty the target's tables, run",
            ));
        }
        stale.push((copy.table.clone(), targets));
    }
    let there: HashMap<TableName, bool> = {
        let names: Vec<TableName> = stale.iter().flat_map(|(_, t)| t.clone()).collect();
        let found = p.target.tables(&names).await?;
        names.into_iter().zip(found.into_iter().map(|t| t.is_some())).collect()
    };
    for copy in changed {
        p.warn(format!("the rules of {} changed: the table is copied again", copy.table));
        // Without chunks it counts as not copied; the new plan comes with the new snapshot.
        let forgotten = TableCopy { done: Vec::new(), rows: 0, indexed: false, ..copy.clone() };
        p.target.plan_copy(checkpoint.epoch, &forgotten).await?;
    }
    checkpoint.stage = CopyStage::Copying;
    p.target.save(checkpoint).await?;
    for (_, targets) in stale {
        // A table that only the new rules name was not made ready yet.
        p.target.quiesce(&targets).await?;
        for t in targets.iter().filter(|t| there.get(*t) == Some(&true)) {
            p.target.empty(t).await?;
        }
    }
    Ok(())
}
