//! Repeats a schema change of the source on the target, as far as that is safe.
//!
//! DDL commits by itself. So what was applied before it is committed first, with a note which part of the transaction
//! that is: a crash in between is repaired by going on from there. Every step looks whether it was done already.

use std::sync::Arc;

use super::apply::MyApplier;
use super::bookkeeping;
use super::catalog::{self, Described};
use super::forms::{Form, form};
use crate::change::{Ddl, DdlEffect};
use crate::error::{Error, Result};
use crate::mywire::quote::{literal, qualified, quoted};
use crate::schema::{Column, Table, TableName};
use crate::target::{BatchEnd, DdlOutcome};

/// Statements for the target, and what it had already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// Clauses of one ALTER TABLE, in order.
    pub alter: Vec<String>,
    /// What was there.
    pub had: Vec<String>,
}

fn stop(ddl: &Ddl, why: impl std::fmt::Display, way_on: impl std::fmt::Display) -> DdlOutcome {
    let mut text: String = ddl.statement.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() > 400 {
        text = text.chars().take(400).collect::<String>() + " …";
    }
    DdlOutcome::Unsafe(format!("the source ran: {text} -- {why}. To go on: {way_on}, then start Switchyard again"))
}

/// Carries out what is safe. Afterwards no transaction is open, if anything was run.
///
/// # Errors
/// The server's own; `Fenced` if the epoch was raised meanwhile.
pub async fn apply(a: &mut MyApplier, ddl: &Ddl, before: Option<&Table>, at: Place<'_>) -> Result<DdlOutcome> {
    let ignored = |what: &str| Ok(DdlOutcome::Ignored(format!("{} {}: {what}", ddl.tag, ddl.object)));
    match &ddl.effect {
        DdlEffect::Other => ignored("does not concern replicated rows, or is the source's own dialect"),
        DdlEffect::Index { table, name, .. } => {
            ignored(&format!("index or constraint {name} of {table} is not made here; make it by hand if it is wanted"))
        }
        DdlEffect::Unfollowed { table, why } => Ok(stop(
            ddl,
            format!("{table} cannot be followed: {why}"),
            "leave it out with tables.exclude, or make it one that can be followed",
        )),
        DdlEffect::Dropped { table } => dropped(a, ddl, table, at).await,
        DdlEffect::Table { after, missing_values, rewritten } => {
            changed(a, ddl, before, after, missing_values, *rewritten, at).await
        }
        _ => ignored("is left alone here"),
    }
}

/// Where in its batch, which holds nothing but its transaction, a schema change stands.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The transaction's end.
    pub end: &'a BatchEnd,
    /// Its number among the transaction's schema changes, from 1.
    pub number: u32,
    /// Rows before it have to be read again at the source.
    pub missing: bool,
    /// The batch writes tables without a key.
    pub keyless: bool,
}

/// Commits what was applied so far, with the note that everything before this change is done. The position stays.
async fn commit_before(a: &mut MyApplier, ddl: &Ddl, at: Place<'_>) -> Result<()> {
    let (end, number) = (at.end.position.to_string(), at.number);
    // Without the note all is applied again after a crash: convergently, because rows are read again only then.
    let noted = !at.missing;
    if at.missing && at.keyless {
        return Err(Error::fatal(format!(
            "{} {}: a schema change in a transaction with rows that must be read again, and with rows of a table without a key",
            ddl.tag, ddl.object
        ))
        .with_code("switchyard:ddl")
        .hint("begin anew, and change the schema when the migration is ready"));
    }
    let sql = format!(
        "UPDATE switchyard.checkpoint SET partial_end = {}, partial_ddl = {number}, writes = writes + 1 \
         WHERE name = {} AND epoch = {}",
        if noted { literal(&end) } else { "NULL".into() },
        literal(&a.name),
        a.epoch
    );
    if a.session.run("storing the checkpoint before a schema change", sql).await? != 1 {
        return Err(bookkeeping::fenced(&a.name, a.epoch));
    }
    a.commit().await?;
    a.partial = noted.then_some((end, number));
    crate::faults::point("apply.before_ddl");
    Ok(())
}

async fn dropped(a: &mut MyApplier, ddl: &Ddl, table: &TableName, at: Place<'_>) -> Result<DdlOutcome> {
    if described(a, table).await?.is_none() {
        return Ok(DdlOutcome::Applied(format!("table {table} is not on the target (any more): already so")));
    }
    let drop = format!("DROP TABLE {}", qualified(table));
    let look = format!("SELECT 1 FROM {} LIMIT 1", qualified(table));
    if a.session.one(format!("looking into {table}"), look).await?.is_some() {
        return Ok(stop(
            ddl,
            format!("it drops {table}, and rows are never thrown away on a stream's word"),
            format!("run {drop} on the target, or keep it and rename it there"),
        ));
    }
    commit_before(a, ddl, at).await?;
    run(a, ddl, &drop).await?;
    Ok(DdlOutcome::Applied(format!("{drop} (it was empty)")))
}

async fn described(a: &mut MyApplier, table: &TableName) -> Result<Option<Described>> {
    Ok(catalog::described(&mut a.session, std::slice::from_ref(table)).await?.into_iter().next().flatten())
}

async fn run(a: &mut MyApplier, ddl: &Ddl, sql: &str) -> Result<()> {
    let doing = format!("repeating {} {} on the target", ddl.tag, ddl.object);
    a.session.run(doing, sql).await.map(drop).map_err(|e| {
        if e.is_retry() {
            e
        } else {
            e.with_code("switchyard:ddl")
                .hint(format!("make this possible and run it on the target: {sql}; then start again"))
        }
    })?;
    crate::faults::point("apply.after_ddl");
    Ok(())
}

#[allow(clippy::too_many_arguments, reason = "what a schema change says, and where it happened")]
async fn changed(
    a: &mut MyApplier,
    ddl: &Ddl,
    before: Option<&Table>,
    after: &Arc<Table>,
    missing: &[(String, String)],
    rewritten: bool,
    at: Place<'_>,
) -> Result<DdlOutcome> {
    let t = &after.name;
    if let Some(old) = before.filter(|b| b.name != after.name) {
        return Ok(stop(
            ddl,
            format!("it renames {} to {t}, which selection and bookkeeping know by its old name", old.name),
            "rename the table back at the source, or finish this migration and begin a new one",
        ));
    }
    let Some(have) = described(a, t).await? else {
        let makes = ddl.tag.to_ascii_uppercase().starts_with("CREATE") || ddl.tag == "SELECT INTO";
        if !makes {
            return Ok(stop(
                ddl,
                format!("{t} does not exist on the target, and this statement does not make it"),
                format!("create it there: {}", create_statement(after)),
            ));
        }
        commit_before(a, ddl, at).await?;
        run(a, ddl, &format!("CREATE DATABASE IF NOT EXISTS {} CHARACTER SET utf8mb4", quoted(&t.schema))).await?;
        run(a, ddl, &create_statement(after)).await?;
        return Ok(DdlOutcome::Applied(format!("created table {t}")));
    };
    let look = format!("SELECT 1 FROM {} LIMIT 1", qualified(t));
    let has_rows = rewritten && a.session.one(format!("looking into {t}"), look).await?.is_some();
    // A daemon that starts after the change has read the changed definition already, or none yet: then the target is what
    // was before.
    let stale = before.is_none_or(|b| b.columns == after.columns);
    let assumed = if stale { as_target_has_it(after, &have.table).map(Some) } else { Ok(None) };
    let assumed = match assumed {
        Ok(assumed) => assumed,
        Err(why) => {
            return Ok(stop(ddl, why, format!("make the columns of {t} on the target what they are on the source")));
        }
    };
    let before = assumed.as_ref().or(before);
    let steps = match plan(before, after, &have.table, missing, has_rows) {
        Ok(steps) => steps,
        Err(why) => {
            return Ok(stop(
                ddl,
                why,
                format!(
                    "bring {t} and its rows on the target to what the source has now (or leave it out with tables.exclude)"
                ),
            ));
        }
    };
    if steps.alter.is_empty() {
        return Ok(DdlOutcome::Applied(if steps.had.is_empty() {
            format!("{t}: nothing to do")
        } else {
            format!("{t}: already so ({})", steps.had.join("; "))
        }));
    }
    commit_before(a, ddl, at).await?;
    for clause in &steps.alter {
        run(a, ddl, &format!("ALTER TABLE {} {clause}", qualified(t))).await?;
    }
    Ok(DdlOutcome::Applied(format!("{t}: {}", steps.alter.join("; "))))
}

/// The source's table as it must have been, judged by the target's: columns that the target lacks are new, unless it has
/// others that the source does not (then one may be the other's old name).
fn as_target_has_it(after: &Table, have: &Table) -> Result<Table, String> {
    let there = |name: &str| have.columns.iter().chain(&have.generated).find(|h| h.name == name);
    let known = |name: &str| after.columns.iter().chain(&after.generated).any(|c| c.name == name);
    let extra: Vec<&str> = have.columns.iter().map(|c| c.name.as_str()).filter(|c| !known(c)).collect();
    let mut before = after.clone();
    before.columns.retain(|c| there(&c.name).is_some());
    if before.columns.len() < after.columns.len() && !extra.is_empty() {
        return Err(format!(
            "columns were added or renamed while Switchyard did not run, and the target has the columns {} that the source has not",
            extra.join(", ")
        ));
    }
    for c in &mut before.columns {
        if let Some(h) = there(&c.name) {
            if widens(&form(bare(&h.type_name)), &form(bare(&c.type_name))) {
                c.type_name.clone_from(&h.type_name);
            }
            c.nullable &= h.nullable;
        }
    }
    Ok(before)
}

fn definition(c: &Column) -> String {
    let auto = if c.identity.is_some() { " AUTO_INCREMENT" } else { "" };
    let null = if c.nullable { "NULL" } else { "NOT NULL" };
    // The log's defaults have been made clauses already, with their DEFAULT.
    let default = c.default.as_deref().filter(|_| c.identity.is_none()).unwrap_or("");
    format!("{} {} {null}{auto}{default}", quoted(&c.name), c.type_name)
}

fn create_statement(t: &Table) -> String {
    let mut parts: Vec<String> = t
        .columns
        .iter()
        .map(|c| {
            // Without its key a numbered column is refused.
            let keyed = t.key().first().is_some_and(|&k| t.columns[k].name == c.name);
            let c = if keyed { c.clone() } else { Column { identity: None, ..c.clone() } };
            definition(&c)
        })
        .collect();
    if !t.key().is_empty() {
        let names = t.key().iter().map(|&k| t.columns[k].name.as_str());
        parts.push(format!("PRIMARY KEY ({})", crate::mywire::quote::list(names)));
    }
    format!(
        "CREATE TABLE IF NOT EXISTS {} ({}) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4",
        qualified(&t.name),
        parts.join(", ")
    )
}

/// What brings the target's table `have` from `before` to `after`. Pure. `rewritten` says that rows which the target has
/// may have got values that no log shows.
///
/// # Errors
/// Why it stops, in words for the operator.
pub fn plan(
    before: Option<&Table>,
    after: &Table,
    have: &Table,
    missing: &[(String, String)],
    rewritten: bool,
) -> Result<Steps, String> {
    let mut steps = Steps::default();
    let there = |name: &str| have.columns.iter().chain(&have.generated).find(|c| c.name == name);
    let Some(before) = before else {
        let lacking: Vec<&str> = after.columns.iter().map(|c| c.name.as_str()).filter(|c| there(c).is_none()).collect();
        if lacking.is_empty() {
            steps.had.push("the table exists".into());
            return Ok(steps);
        }
        return Err(format!("the target has a table of that name that lacks the columns {}", lacking.join(", ")));
    };
    let mut explained = !rewritten;
    for o in before.columns.iter().filter(|o| !after.columns.iter().any(|n| n.number == o.number)) {
        match there(&o.name) {
            Some(_) if !after.columns.iter().any(|n| n.name == o.name) => {
                steps.alter.push(format!("DROP COLUMN {}", quoted(&o.name)));
            }
            _ => steps.had.push(format!("column {} is gone", o.name)),
        }
    }
    for n in &after.columns {
        let Some(o) = before.columns.iter().find(|o| o.number == n.number) else {
            if let Some(c) = there(&n.name) {
                if narrows(&c.type_name, &n.type_name) {
                    return Err(format!(
                        "the target has a column {} of type {}, the source one that would be {}",
                        n.name, c.type_name, n.type_name
                    ));
                }
                steps.had.push(format!("column {}", n.name));
                explained = true;
                continue;
            }
            let value = missing.iter().find(|(c, _)| *c == n.name);
            if rewritten && value.is_none() && (n.default.is_some() || n.identity.is_some()) {
                return Err(format!(
                    "existing rows got values in the new column {} that are computed row by row and not in the log",
                    n.name
                ));
            }
            match value {
                // The value of that moment for the rows that are there, then the default for those to come.
                Some((_, text)) => {
                    let Some(first) = literal_default(&n.type_name, text) else {
                        return Err(format!(
                            "the value that rows got in the new column {} does not fit {}",
                            n.name, n.type_name
                        ));
                    };
                    let with = Column { default: Some(first.clone()), ..n.clone() };
                    steps.alter.push(format!("ADD COLUMN {}", definition(&with)));
                    if n.default.as_deref() != Some(first.as_str()) {
                        steps.alter.push(match n.default.as_deref().filter(|d| !d.is_empty()) {
                            Some(_) => format!("MODIFY COLUMN {}", definition(n)),
                            None => format!("ALTER COLUMN {} DROP DEFAULT", quoted(&n.name)),
                        });
                    }
                }
                None => steps.alter.push(format!("ADD COLUMN {}", definition(n))),
            }
            continue;
        };
        if o.name != n.name {
            match (there(&o.name), there(&n.name)) {
                (Some(_), None) => {
                    steps.alter.push(format!("RENAME COLUMN {} TO {}", quoted(&o.name), quoted(&n.name)));
                }
                (None, Some(_)) => steps.had.push(format!("column {} is called {}", o.name, n.name)),
                (Some(_), Some(_)) => {
                    return Err(format!("the target has both the column {} and the column {}", o.name, n.name));
                }
                (None, None) => {
                    return Err(format!("the target has neither the column {} nor the column {}", o.name, n.name));
                }
            }
        }
        let now = there(&o.name).or_else(|| there(&n.name));
        let Some(now) = now else { return Err(format!("the target lacks the column {}", n.name)) };
        let retyped = o.type_name != n.type_name;
        let (is, wanted) = (form(bare(&now.type_name)), form(bare(&n.type_name)));
        if retyped && is == wanted {
            steps.had.push(format!("column {} is {}", n.name, now.type_name));
            explained = true;
        } else if retyped && !widens(&is, &wanted) {
            return Err(format!(
                "column {} changed to a type that is {} here, from {}: that can change values",
                n.name, n.type_name, now.type_name
            ));
        }
        let wider = retyped && is != wanted;
        explained |= wider;
        let renulled = o.nullable != n.nullable && now.nullable != n.nullable;
        if wider || renulled {
            // Of a column whose type stays, the target's own is kept: it may be meant to differ.
            let kept = Column { type_name: if wider { n.type_name.clone() } else { typed(now) }, ..n.clone() };
            steps.alter.push(format!("MODIFY COLUMN {}", definition(&kept)));
        } else if o.default != n.default && n.identity.is_none() {
            match n.default.as_deref().filter(|d| !d.is_empty()) {
                Some(d) => {
                    steps.alter.push(format!("ALTER COLUMN {} SET{d}", quoted(&n.name)));
                }
                None => steps.alter.push(format!("ALTER COLUMN {} DROP DEFAULT", quoted(&n.name))),
            }
        }
    }
    if !explained {
        return Err("the source rewrote the table's rows, and the definitions do not say how".into());
    }
    Ok(steps)
}

/// A column's type with its collation.
fn typed(c: &Column) -> String {
    match &c.collation {
        Some(collation) => {
            let charset = collation.split('_').next().unwrap_or("utf8mb4");
            format!("{} CHARACTER SET {charset} COLLATE {collation}", c.type_name)
        }
        None => c.type_name.clone(),
    }
}

fn literal_default(type_name: &str, text: &str) -> Option<String> {
    use crate::definition::{DataType, DefaultValue};
    let value = DefaultValue::Literal(text.to_owned());
    super::defaults::clause(&value, &DataType::Other, bare(type_name), crate::mywire::server::Flavour::Mysql)
}

/// A type without what says its character set.
fn bare(type_name: &str) -> &str {
    type_name.split(" CHARACTER SET ").next().unwrap_or(type_name)
}

/// Whether values of the type `want` may not fit a column of the type `have`.
fn narrows(have: &str, want: &str) -> bool {
    let (have, want) = (form(bare(have)), form(bare(want)));
    have != want && !widens(&want, &have)
}

/// Whether every value of the one type is the same value in the other.
pub fn widens(from: &Form, to: &Form) -> bool {
    match (from, to) {
        (a, b) if a == b => true,
        (Form::Int { bits: a, unsigned: x }, Form::Int { bits: b, unsigned: y }) => {
            (x == y && a <= b) || (*x && !y && a < b)
        }
        (Form::Varchar(a) | Form::Char(a), Form::Varchar(b)) => a <= b,
        (Form::Char(a), Form::Char(b)) => a <= b,
        (Form::Varchar(a) | Form::Char(a), Form::Text(b)) => u64::from(*a) * 4 <= *b,
        (Form::Text(a), Form::Text(b)) | (Form::Blob(a), Form::Blob(b)) => a <= b,
        (
            Form::Decimal { precision: p, scale: s, unsigned: u },
            Form::Decimal { precision: q, scale: r, unsigned: v },
        ) => s <= r && p - s <= q - r && (u == v || !v),
        (Form::Float, Form::Double) => true,
        (Form::Datetime(a), Form::Datetime(b)) | (Form::Timestamp(a), Form::Timestamp(b)) => a <= b,
        (Form::Time(a), Form::Time(b)) => a <= b,
        (Form::Enum(a), Form::Enum(b)) | (Form::Set(a), Form::Set(b)) => b.starts_with(a),
        _ => false,
    }
}

#[cfg(test)]
#[path = "ddl_tests.rs"]
mod tests;
