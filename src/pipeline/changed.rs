//! Notices at a start that rules are others than those that tables were copied by, and has such tables copied again,
//! together with all whose rows lie among theirs.

use std::collections::BTreeSet;

use super::Pipeline;
use crate::error::{Error, Result};
use crate::position::Position;
use crate::schema::TableName;
use crate::target::{Checkpoint, CopyStage, TableCopy};
use crate::transform::rules::{Homes, OnExisting, RuleSet};

/// A table that was copied, with the rules that it was copied by.
struct Copied<'a> {
    copy: &'a TableCopy,
    before: RuleSet,
    /// The target's tables of the old rules and of the new.
    targets: BTreeSet<TableName>,
    changed: bool,
}

/// Tables whose rules are not those that they were copied by are copied again, and so is every table whose rows go to a
/// target table of theirs, then every table that shares one with those. All others go on from where they are.
///
/// # Errors
/// `Fatal` where a target table holds, or may hold, rows that no source table wrote: they could not be told from the
/// migration's own.
pub(super) async fn notice(p: &Pipeline, checkpoint: &mut Checkpoint) -> Result<()> {
    if checkpoint.stage < CopyStage::Copying {
        return Ok(());
    }
    let copies = p.target.copies().await?;
    let copied = read(p, &copies)?;
    if !copied.iter().any(|c| c.changed) {
        return Ok(());
    }
    let stale = connected(&copied);
    let emptied = may_be_emptied(p, checkpoint.epoch, &stale).await?;
    for c in &stale {
        p.warn(match c.changed {
            true => format!("the rules of {} changed: the table is copied again", c.copy.table),
            false => {
                format!("{} is copied again: it shares a target table with tables whose rules changed", c.copy.table)
            }
        });
    }
    begin_anew(p, checkpoint, &stale, &emptied).await
}

/// A copy that is gone on with at another snapshot, where a table is left that skips rows: those that it looks for were
/// copied as they were earlier, and some have gone since. All tables of such a merge begin anew, at this snapshot.
///
/// # Errors
/// Only if the target could not be asked.
pub(super) async fn one_moment(p: &Pipeline, checkpoint: &mut Checkpoint, at: &Position) -> Result<()> {
    let copies = p.target.copies().await?;
    let mut copied = read(p, &copies)?;
    let elsewhen = |c: &TableCopy| !c.done.is_empty() && c.resumed_at.as_ref().unwrap_or(&c.snapshot_at) != at;
    let earlier: Vec<BTreeSet<TableName>> =
        copied.iter().filter(|c| elsewhen(c.copy)).map(|c| c.targets.clone()).collect();
    for c in &mut copied {
        let skips = p.rules.of(&c.copy.table).any(|r| r.rule.on_existing == OnExisting::Skip);
        let complete = c.copy.done.len() == c.copy.plan.chunks.len();
        c.changed = skips && !complete && earlier.iter().any(|t| !t.is_disjoint(&c.targets));
    }
    if !copied.iter().any(|c| c.changed) {
        return Ok(());
    }
    let stale = connected(&copied);
    match may_be_emptied(p, checkpoint.epoch, &stale).await {
        Ok(emptied) => begin_anew(p, checkpoint, &stale, &emptied).await,
        Err(e) if e.code() == Some("switchyard:rules") => {
            for c in copied.iter().filter(|c| c.changed) {
                p.warn(format!(
                    "{} looks for rows of other tables that were copied before an interruption: a row of it is left out, too, whose key one of them had only until then (switchyard.skipped has the keys)",
                    c.copy.table
                ));
            }
            Ok(())
        }
        Err(e) => Err(e),
    }
}

/// The tables that nothing was copied of yet, nor of any table that is tied to them by target tables.
pub(super) fn untouched(p: &Pipeline, copies: &[TableCopy]) -> Result<BTreeSet<TableName>> {
    let mut copied = read(p, copies)?;
    for c in &mut copied {
        c.changed = !c.copy.done.is_empty();
    }
    let touched: BTreeSet<&TableName> = connected(&copied).iter().map(|c| &c.copy.table).collect();
    Ok(copies.iter().map(|c| &c.table).filter(|t| !touched.contains(t)).cloned().collect())
}

/// What the target notes of the copies.
fn read<'a>(p: &Pipeline, copies: &'a [TableCopy]) -> Result<Vec<Copied<'a>>> {
    let mut copied = Vec::with_capacity(copies.len());
    for copy in copies {
        let unreadable = |why: String| {
            Error::fatal(format!("the rules that {} was copied by cannot be read: {why}", copy.table))
                .hint("nothing but Switchyard may write into the schema switchyard; use the version that wrote it")
        };
        let rules: Vec<_> = serde_json::from_str(&copy.rules).map_err(|e| unreadable(e.to_string()))?;
        let before = RuleSet::new(&rules, Homes { types: Default::default(), ..p.rules.homes().clone() })
            .map_err(|e| unreadable(e.message))?;
        let targets = [&before, &p.rules].iter().flat_map(|r| r.targets_of(&copy.table)).collect();
        copied.push(Copied { copy, before, targets, changed: copy.rules != p.rules.text_of(&copy.table) });
    }
    Ok(copied)
}

/// Has these tables copied again, whose target tables are `emptied` first.
async fn begin_anew(
    p: &Pipeline,
    checkpoint: &mut Checkpoint,
    stale: &[&Copied<'_>],
    emptied: &[TableName],
) -> Result<()> {
    for c in stale {
        // Without chunks it counts as not copied; the new plan comes with the new snapshot. Until then the old rules stay
        // noted, so that a start after a crash comes here again.
        let forgotten = TableCopy { done: Vec::new(), rows: 0, indexed: false, resumed_at: None, ..c.copy.clone() };
        p.target.plan_copy(checkpoint.epoch, &forgotten).await?;
    }
    checkpoint.stage = CopyStage::Copying;
    p.target.save(checkpoint).await?;
    let sources: Vec<TableName> = stale.iter().map(|c| c.copy.table.clone()).collect();
    // A table that only the new rules name was not made ready yet.
    let all: BTreeSet<&TableName> = stale.iter().flat_map(|c| &c.targets).collect();
    p.target.quiesce(&all.into_iter().cloned().collect::<Vec<_>>()).await?;
    for t in emptied {
        p.target.empty(t).await?;
    }
    crate::faults::point("changed.emptied");
    p.target.forget_skipped(checkpoint.epoch, &sources).await
}

/// The tables that changed, and all that are tied to them by target tables, of the old rules or of the new.
fn connected<'a, 'b>(copied: &'b [Copied<'a>]) -> Vec<&'b Copied<'a>> {
    let mut stale: Vec<bool> = copied.iter().map(|c| c.changed).collect();
    loop {
        let reached: BTreeSet<&TableName> =
            copied.iter().zip(&stale).filter(|(_, s)| **s).flat_map(|(c, _)| &c.targets).collect();
        let mut grown = false;
        for (c, s) in copied.iter().zip(&mut stale) {
            if !*s && c.targets.iter().any(|t| reached.contains(t)) {
                *s = true;
                grown = true;
            }
        }
        if !grown {
            return copied.iter().zip(stale).filter(|(_, s)| *s).map(|(c, _)| c).collect();
        }
    }
}

/// The target's tables that are emptied before the copy: all that the old rules wrote. A table that only the new rules
/// write is left as it is, and noted if it is empty.
async fn may_be_emptied(p: &Pipeline, epoch: i64, stale: &[&Copied<'_>]) -> Result<Vec<TableName>> {
    let names: BTreeSet<TableName> = stale.iter().flat_map(|c| c.targets.iter().cloned()).collect();
    let names: Vec<TableName> = names.into_iter().collect();
    let found = p.target.tables(&names).await?;
    let there = names.into_iter().zip(found).filter(|(_, t)| t.is_some()).map(|(n, _)| n);
    let (old, new): (Vec<TableName>, Vec<TableName>) =
        there.partition(|t| stale.iter().any(|c| c.before.targets_of(&c.copy.table).contains(t)));
    let merged = |t: &TableName, rules: &dyn Fn(&Copied<'_>) -> RuleSet| {
        stale.iter().any(|c| {
            rules(c)
                .of(&c.copy.table)
                .any(|n| n.rule.on_existing != OnExisting::Error && (n.to == *t || n.children.contains(t)))
        })
    };
    let own = without_rows(p).await?;
    // Where rows had to be new, the table was empty at the start: the preflight saw to it.
    if let Some(t) = old.iter().find(|t| !own.contains(t) && merged(t, &|c| c.before.clone())) {
        return Err(Error::fatal(format!(
            "the rules of tables that write {t} changed, and {t} held rows before the migration: which came from the source cannot be told any more"
        ))
        .with_code("switchyard:rules")
        .hint("put the rules back as they were, or begin anew: `switchyard finish`, delete on the target what came, run"));
    }
    p.target.note_empty(epoch, &new).await?;
    let own = without_rows(p).await?;
    if let Some(t) = new.iter().find(|t| !own.contains(t) && !merged(t, &|_| p.rules.clone())) {
        return Err(Error::fatal(format!("the rules write {t} now, and it holds rows already"))
            .with_code("switchyard:rules")
            .hint("empty the table, or name another one; on_existing = \"skip\" or \"replace\" lets rows be there"));
    }
    Ok(old)
}

/// The target's tables that held no rows before the migration: those that it looked at, and those that it made.
async fn without_rows(p: &Pipeline) -> Result<Vec<TableName>> {
    let mut tables = p.target.noted_empty().await?;
    tables.extend(p.target.noted_made().await?);
    Ok(tables)
}
