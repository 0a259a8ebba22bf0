//! Repeats a schema change of the source, as far as that is safe.
//!
//! Documents take any field, so most changes ask nothing of them. What existing rows got, lost or have under another name is
//! done to documents in bounded transactions before the batch begins, and to what the batch itself wrote inside it; each
//! looks at what was not changed yet, so a crash in between is repaired by doing it again.

use std::sync::Arc;
use std::time::Duration;

use bson::{Document, doc};

use super::apply::MongoApplier;
use super::bookkeeping::{self, DATABASE, hold};
use super::catalog::{self, Described};
use super::copies::is_empty;
use super::create;
use super::session::Durable;
use super::steps::{Rewrite, Steps, plan};
use crate::change::{Ddl, DdlEffect};
use crate::error::{Error, Result};
use crate::pipeline::batch::{Batch, Step};
use crate::schema::{Table, TableName};
use crate::target::DdlOutcome;

/// Documents that are changed in one transaction.
const AT_ONCE: i32 = 10_000;

fn stop(ddl: &Ddl, why: impl std::fmt::Display, way_on: impl std::fmt::Display) -> DdlOutcome {
    let mut text: String = ddl.statement.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() > 400 {
        text = text.chars().take(400).collect::<String>() + " …";
    }
    DdlOutcome::Unsafe(format!("the source ran: {text} -- {why}. To go on: {way_on}, then start Switchyard again"))
}

/// What must be done outside the batch's transaction, before it begins: collections are made, and large collections changed
/// in pieces.
///
/// # Errors
/// The server's own; [`crate::error::Class::Fenced`] if the epoch was raised meanwhile.
pub async fn prepare(a: &mut MongoApplier, batch: &Batch) -> Result<()> {
    for step in &batch.steps {
        let Step::Ddl { ddl, before } = step else { continue };
        let DdlEffect::Table { after, missing_values, rewritten } = &ddl.effect else { continue };
        match described(a, &after.name).await? {
            None if makes(ddl) => create::collection(&a.client, &after.name).await?,
            None => {}
            // Rows without a key are found by all of their fields: they change in the batch's own order only.
            Some(have) if !after.key().is_empty() && renamed(before.as_deref(), after).is_none() => {
                // What stops the stream is said in its place.
                let Ok(steps) = steps(before.as_deref(), after, &have, missing_values, *rewritten) else { continue };
                for r in &steps.rewrites {
                    rewrite(a, &after.name, r).await?;
                }
            }
            Some(_) => {}
        }
        crate::faults::point("apply.after_ddl");
    }
    Ok(())
}

fn makes(ddl: &Ddl) -> bool {
    ddl.tag.starts_with("CREATE") || ddl.tag == "SELECT INTO" || ddl.tag == "create"
}

fn renamed<'t>(before: Option<&'t Table>, after: &Table) -> Option<&'t Table> {
    before.filter(|b| b.name != after.name)
}

async fn described(a: &MongoApplier, table: &TableName) -> Result<Option<Described>> {
    Ok(catalog::described(&a.client, &a.name, std::slice::from_ref(table)).await?.into_iter().next().flatten())
}

fn steps(
    before: Option<&Table>,
    after: &Table,
    have: &Described,
    missing: &[(String, String)],
    rewritten: bool,
) -> Result<Steps, String> {
    // A collection that was made for this very change, or by somebody else and is empty.
    if !have.known {
        return Ok(Steps { had: vec!["the collection exists".into()], ..Steps::default() });
    }
    // A daemon that starts after the change has read the changed definition already, or none yet: then the target is what
    // was before.
    let stale = before.is_none_or(|b| b.columns == after.columns);
    if stale {
        let assumed = as_target_has_it(after, &have.table)?;
        return plan(Some(&assumed), after, &have.table, missing, rewritten);
    }
    plan(before, after, &have.table, missing, rewritten)
}

/// The source's table as it must have been, judged by what the target knows of it.
fn as_target_has_it(after: &Table, have: &Table) -> Result<Table, String> {
    let there = |name: &str| have.columns.iter().find(|h| h.name == name);
    let extra: Vec<&str> = have.columns.iter().map(|c| c.name.as_str()).filter(|c| after.column(c).is_none()).collect();
    let mut columns = after.columns.clone();
    columns.retain(|c| there(&c.name).is_some());
    if columns.len() < after.columns.len() && !extra.is_empty() {
        return Err(format!(
            "columns were added or renamed while Switchyard did not run, and the documents have the fields {} that the source has not",
            extra.join(", ")
        ));
    }
    for c in &mut columns {
        if let Some(h) = there(&c.name) {
            (c.type_name, c.data, c.kind) = (h.type_name.clone(), h.data.clone(), h.kind);
        }
    }
    Ok(after.with_columns(columns))
}

/// Changes all documents that need it, in transactions that only the daemon of this epoch can commit.
async fn rewrite(a: &MongoApplier, table: &TableName, r: &Rewrite) -> Result<()> {
    let doing = format!("{table}: {} on the target", r.says);
    let mut s = bookkeeping::listed(&a.client, &a.name).await?;
    let mut tries = 0;
    let done = loop {
        let once = async {
            s.begin(Durable::Later).await?;
            let find = doc! {
                "find": &table.name, "filter": r.filter.clone(), "projection": { "_id": 1 }, "limit": AT_ONCE,
            };
            let found = s.find(&doing, &table.schema, find).await?;
            let ids: Vec<_> = found.iter().filter_map(|d| d.get("_id").cloned()).collect();
            let n = ids.len();
            if n > 0 {
                let mut filter = r.filter.clone();
                filter.insert("_id", doc! { "$in": ids });
                s.write(&doing, &table.schema, update(table, &filter, &r.update)).await?;
                hold(&mut s, &doing, &a.name, a.epoch).await?;
            }
            s.commit(&doing).await?;
            Ok::<_, Error>(n)
        }
        .await;
        match once {
            Ok(0) => break Ok(()),
            Ok(_) => tries = 0,
            Err(e) if e.is_conflict() && tries < 10 => {
                s.abort().await;
                tries += 1;
                tokio::time::sleep(Duration::from_millis(10 << tries)).await;
            }
            Err(e) => {
                s.abort().await;
                break Err(e);
            }
        }
    };
    bookkeeping::unlist(s).await;
    done
}

fn update(table: &TableName, filter: &Document, with: &Document) -> Document {
    doc! { "update": &table.name, "updates": [{ "q": filter.clone(), "u": with.clone(), "multi": true }] }
}

/// Carries out what is safe, inside the open transaction.
///
/// # Errors
/// The server's own.
pub async fn apply(a: &mut MongoApplier, ddl: &Ddl, before: Option<&Table>) -> Result<DdlOutcome> {
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
        DdlEffect::Dropped { table } => dropped(a, ddl, table).await,
        DdlEffect::Table { after, missing_values, rewritten } => {
            changed(a, ddl, before, after, missing_values, *rewritten).await
        }
        _ => ignored("is left alone here"),
    }
}

async fn dropped(a: &mut MongoApplier, ddl: &Ddl, table: &TableName) -> Result<DdlOutcome> {
    if described(a, table).await?.is_none() {
        return Ok(DdlOutcome::Applied(format!("collection {table} is not on the target (any more): already so")));
    }
    let doing = format!("looking into {table}");
    let find = doc! { "find": &table.name, "projection": { "_id": 1 }, "limit": 1 };
    if !a.session.find(&doing, &table.schema, find).await?.is_empty() {
        return Ok(stop(
            ddl,
            format!("it drops {table}, and rows are never thrown away on a stream's word"),
            format!("drop the collection {table} on the target, or keep it and rename it there"),
        ));
    }
    // A collection cannot be dropped in a transaction; an empty one harms nobody, and a new table may have its name.
    let forget = doc! { "delete": "tables", "deletes": [{ "q": { "_id": super::copies::of_table(&a.name, table) }, "limit": 1 }] };
    a.session.write(&doing, DATABASE, forget).await?;
    Ok(DdlOutcome::Applied(format!("{table} was dropped at the source; its collection is empty and stays")))
}

async fn changed(
    a: &mut MongoApplier,
    ddl: &Ddl,
    before: Option<&Table>,
    after: &Arc<Table>,
    missing: &[(String, String)],
    rewritten: bool,
) -> Result<DdlOutcome> {
    let t = &after.name;
    if let Some(old) = renamed(before, after) {
        return Ok(stop(
            ddl,
            format!("it renames {} to {t}, which selection and bookkeeping know by its old name", old.name),
            "rename the table back at the source, or finish this migration and begin a new one",
        ));
    }
    let Some(have) = described(a, t).await? else {
        let why = if makes(ddl) {
            "it makes the table inside a transaction that is too large to be applied at once"
        } else {
            "the collection does not exist on the target, and this statement does not make it"
        };
        return Ok(stop(ddl, why, format!("make the collection {t} there")));
    };
    let made = !have.known && is_empty(&a.client, t, "looking into a collection").await?;
    let steps = match steps(before, after, &have, missing, rewritten) {
        Ok(steps) => steps,
        Err(why) => {
            return Ok(stop(
                ddl,
                why,
                format!(
                    "bring the documents of {t} on the target to what the source has now, and leave the table out with tables.exclude or begin anew"
                ),
            ));
        }
    };
    let doing = format!("repeating {} {} on the target", ddl.tag, ddl.object);
    for r in &steps.rewrites {
        a.session.write(&doing, &t.schema, update(t, &r.filter, &r.update)).await?;
    }
    // The key stays in its order.
    let mut kept = (**after).clone();
    if have.known {
        let order: Option<Vec<usize>> =
            have.table.key().iter().filter_map(|&k| have.table.columns.get(k)).map(|c| kept.column(&c.name)).collect();
        if let (crate::schema::RowIdentity::Key(key), Some(order)) = (&mut kept.identity, order) {
            *key = order;
        }
    }
    a.session.write(&doing, DATABASE, catalog::keep(&a.name, &kept, true)?).await?;
    if made {
        return Ok(DdlOutcome::Applied(format!("made collection {t}")));
    }
    let said: Vec<&str> =
        steps.rewrites.iter().map(|r| r.says.as_str()).chain(steps.had.iter().map(String::as_str)).collect();
    Ok(DdlOutcome::Applied(format!("{t}: {}", if said.is_empty() { "nothing to do".into() } else { said.join("; ") })))
}
