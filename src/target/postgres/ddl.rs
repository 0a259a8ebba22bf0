//! Repeats a schema change of the source on the target, as far as that is safe.
//!
//! Definitions before and after are compared by column number; the client's text is never replayed. What the target has
//! already counts as done, so that an operator can do an unsafe change by hand and start again.

use std::sync::Arc;

use tokio_postgres::Client;

use super::{catalog, ddl_objects as objects};
use crate::change::{Ddl, DdlEffect};
use crate::error::{Error, Result};
use crate::pgwire::errors::wrap;
use crate::pgwire::quote::{literal, qualified, quoted};
use crate::schema::{Column, Identity, Table, TableName};
use crate::target::DdlOutcome;

/// What a comparison yields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// Statements for the target, in order.
    pub run: Vec<String>,
    /// What the target had already.
    pub had: Vec<String>,
}

/// Why it stops, in words for the operator.
type Stop = String;

/// Carries out what is safe, inside the transaction that `client` has open. `name` is the migration's. If the outcome is
/// [`DdlOutcome::Unsafe`], or an error, nothing of this change is in the transaction, and the transaction goes on.
///
/// # Errors
/// `Retry` when a lock was not to be had soon.
pub async fn apply_ddl(client: &Client, name: &str, ddl: &Ddl, before: Option<&Table>) -> Result<DdlOutcome> {
    let doing = format!("repeating {} {} on the target", ddl.tag, ddl.object);
    client
        .batch_execute("SAVEPOINT switchyard_ddl; SET LOCAL lock_timeout = '3s'")
        .await
        .map_err(|e| wrap(&doing, &e))?;
    let outcome = match &ddl.effect {
        DdlEffect::Other => {
            Ok(DdlOutcome::Ignored(format!("{} {} does not concern replicated rows", ddl.tag, ddl.object)))
        }
        DdlEffect::Dropped { table } => dropped(client, ddl, table).await,
        DdlEffect::Unfollowed { table, why } => Ok(objects::unfollowed(ddl, table, why)),
        DdlEffect::Partitions { root, key, partitions } => {
            objects::partitions(client, ddl, root, key, partitions, before).await
        }
        DdlEffect::Emptied { table, path } => objects::emptied(client, name, ddl, table, path).await,
        DdlEffect::PartitionDropped { table } => objects::partition_dropped(client, ddl, table).await,
        DdlEffect::Type { after, used } => objects::user_type(client, ddl, after, *used).await,
        DdlEffect::Undone { table, name } => objects::undone(client, ddl, table.as_ref(), name).await,
        DdlEffect::Sequence { name, definition } => objects::sequence(client, name, definition).await,
        DdlEffect::Index { table, name, definition } if definition.starts_with("ALTER TABLE") => {
            objects::constraint(client, ddl, table, name, definition).await
        }
        DdlEffect::Index { table, name, definition } => index(client, ddl, table, name, definition).await,
        DdlEffect::Table { after, missing_values, rewritten } => {
            alter(client, name, ddl, before, after, missing_values, *rewritten).await
        }
    };
    let end = match &outcome {
        Ok(DdlOutcome::Applied(_) | DdlOutcome::Ignored(_)) => {
            "SET LOCAL lock_timeout = 0; RELEASE SAVEPOINT switchyard_ddl"
        }
        _ => "ROLLBACK TO SAVEPOINT switchyard_ddl; RELEASE SAVEPOINT switchyard_ddl",
    };
    match client.batch_execute(end).await {
        Ok(()) => outcome,
        // The first error says more than that its connection is gone.
        Err(e) => outcome.and_then(|_| Err(wrap(&doing, &e))),
    }
}

pub(super) fn stop(ddl: &Ddl, why: impl std::fmt::Display, way_on: impl std::fmt::Display) -> DdlOutcome {
    DdlOutcome::Unsafe(format!(
        "the source ran: {} -- {why}. To go on: {way_on}, then start Switchyard again",
        one_line(&ddl.statement)
    ))
}

fn one_line(statement: &str) -> String {
    let mut text: String = statement.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() > 400 {
        text = text.chars().take(400).collect::<String>() + " …";
    }
    text
}

pub(super) async fn dropped(client: &Client, ddl: &Ddl, table: &TableName) -> Result<DdlOutcome> {
    if catalog::table(client, table).await?.is_none() {
        return Ok(DdlOutcome::Applied(format!("table {table} is not on the target (any more): already so")));
    }
    let (doing, drop) = (format!("dropping {table} on the target"), format!("DROP TABLE {}", qualified(table)));
    let look = format!("SELECT EXISTS (SELECT FROM {})", qualified(table));
    if client.query_one(&look, &[]).await.map_err(|e| wrap(&doing, &e))?.get(0) {
        return Ok(stop(
            ddl,
            format!("it drops {table}, and rows are never thrown away on a stream's word"),
            format!("run {drop} on the target, or keep it and rename it there"),
        ));
    }
    match client.batch_execute(&drop).await {
        Ok(()) => Ok(DdlOutcome::Applied(format!("{drop} (it was empty)"))),
        Err(e) => refused(ddl, &drop, wrap(doing, &e)),
    }
}

async fn index(client: &Client, ddl: &Ddl, table: &TableName, name: &str, definition: &str) -> Result<DdlOutcome> {
    let doing = format!("creating index {name} of {table} on the target");
    let there = client
        .query_opt(
            "SELECT COALESCE(pg_catalog.pg_get_indexdef(i.indexrelid), ''), COALESCE(i.indisvalid, false) FROM pg_catalog.pg_class c
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
             WHERE n.nspname = $1 AND c.relname = $2",
            &[&table.schema, &name],
        )
        .await
        .map_err(|e| wrap(&doing, &e))?;
    let definition = definition.trim().trim_end_matches(';');
    let drop = format!("DROP INDEX {}.{}", quoted(&table.schema), quoted(name));
    if let Some(r) = there {
        let (have, valid): (String, bool) = (r.get(0), r.get(1));
        // The catalog says ONLY of a partitioned table's index.
        let have = have.replacen(" ON ONLY ", " ON ", 1);
        return Ok(if have == definition && valid {
            DdlOutcome::Applied(format!("index {name} of {table}: already so"))
        } else if have == definition {
            stop(
                ddl,
                format!("the target has the index {name}, but it is not valid"),
                format!("run {drop}; {definition} on the target"),
            )
        } else {
            stop(
                ddl,
                format!("the target has something else called {name}"),
                format!("run {drop}; {definition} on the target"),
            )
        });
    }
    match client.batch_execute(definition).await {
        Ok(()) => Ok(DdlOutcome::Applied(format!("created index {name} of {table}"))),
        Err(e) => refused(ddl, definition, wrap(&doing, &e)),
    }
}

/// A statement that the target refused: try again later, or a person's business.
pub(super) fn refused(ddl: &Ddl, statement: &str, e: Error) -> Result<DdlOutcome> {
    if e.is_retry() {
        return Err(e);
    }
    let hint = e.hint_text().map(|h| format!(" ({h})")).unwrap_or_default();
    Ok(stop(
        ddl,
        format!("the target refused it: {}{hint}", e.message()),
        format!("make this possible and run it on the target: {statement}"),
    ))
}

async fn alter(
    client: &Client,
    name: &str,
    ddl: &Ddl,
    before: Option<&Table>,
    after: &Arc<Table>,
    missing: &[(String, String)],
    rewritten: bool,
) -> Result<DdlOutcome> {
    let t = &after.name;
    if let Some(old) = before.filter(|b| b.name != after.name) {
        let (is, was) = (catalog::table(client, t).await?, catalog::table(client, &old.name).await?);
        return Ok(match (is, was) {
            (Some(_), None) => DdlOutcome::Applied(format!("{} is called {t} on the target: already so", old.name)),
            _ => stop(
                ddl,
                format!("it renames {} to {t}, which selection and bookkeeping know by its old name", old.name),
                "rename the table back at the source, or finish this migration and begin a new one",
            ),
        });
    }
    let Some(have) = catalog::table(client, t).await? else {
        // A statement that makes the table speaks of no earlier one, though one of its name may have been there and dropped.
        let makes = ddl.tag.starts_with("CREATE") || ddl.tag == "SELECT INTO";
        return match before.filter(|_| !makes) {
            // Not seen before, and not made by this statement: most likely it had another name.
            None if ddl.tag == "ALTER TABLE" => Ok(stop(
                ddl,
                format!(
                    "{t} does not exist on the target, and this statement does not make it; it may have had another name there"
                ),
                "rename the table back at the source, or finish this migration and begin a new one; a table that is not needed can be left out with tables.exclude",
            )),
            // It is made with what divides it, which the next message says.
            None if after.partitioned => Ok(DdlOutcome::Applied(format!("{t} is divided into partitions"))),
            None => {
                objects::ensure_schema(client, &t.schema).await?;
                let sql = create_statement(after);
                match client.batch_execute(&sql).await {
                    Ok(()) => Ok(DdlOutcome::Applied(format!("created table {t}"))),
                    Err(e) => refused(ddl, &sql, wrap(format!("creating {t} on the target"), &e)),
                }
            }
            Some(_) => Ok(stop(
                ddl,
                format!("{t} does not exist on the target"),
                format!("create it there: {}", create_statement(after)),
            )),
        };
    };
    let has_rows = if rewritten {
        let sql = format!("SELECT EXISTS (SELECT FROM {})", qualified(t));
        client.query_one(&sql, &[]).await.map_err(|e| wrap(format!("looking into {t}"), &e))?.get(0)
    } else {
        false
    };
    // A daemon that starts after the change has read the changed definition already: then the target is what was before.
    let stale = before.filter(|b| b.columns == after.columns && b.generated == after.generated);
    let assumed = match stale.map(|_| as_target_has_it(after, &have)).transpose() {
        Ok(a) => a,
        Err(why) => {
            return Ok(stop(ddl, why, format!("make the columns of {t} on the target what they are on the source")));
        }
    };
    let before = assumed.as_ref().or(before);
    let steps = match plan(&ddl.statement, before, after, &have, missing, rewritten && has_rows) {
        Ok(s) => s,
        Err(_) if objects::acknowledged(client, name, ddl, t).await? => {
            return Ok(DdlOutcome::Applied(format!("{t}: was done by hand")));
        }
        Err(why) => {
            let way = format!(
                "bring the table and its rows on the target to what the source has now, and say so there: {} (or leave {t} out with tables.exclude)",
                objects::acknowledgement(name, ddl, t)
            );
            return Ok(stop(ddl, why, way));
        }
    };
    for sql in &steps.run {
        if let Err(e) = client.batch_execute(sql).await {
            return refused(ddl, sql, wrap(format!("changing {t} on the target"), &e));
        }
    }
    note_identities(client, name, after, before).await?;
    Ok(DdlOutcome::Applied(match (steps.run.is_empty(), steps.had.is_empty()) {
        (true, true) => format!("{t}: nothing to do"),
        (true, false) => format!("{t}: already so ({})", steps.had.join("; ")),
        _ => format!("{t}: {}", steps.run.join("; ")),
    }))
}

/// The source's table as it must have been, judged by the target's. Only what is certain: columns that the target lacks are
/// new, unless it has others that the source does not (then one may be the other's old name). Where the target differs
/// otherwise it may be meant to, so only what would refuse rows is taken for a change.
fn as_target_has_it(after: &Table, have: &Table) -> Result<Table, Stop> {
    let there = |name: &str| have.columns.iter().chain(&have.generated).find(|c| c.name == name);
    let mut before = after.clone();
    before.columns.retain(|c| there(&c.name).is_some());
    before.generated.retain(|c| there(&c.name).is_some());
    let known = |name: &str| after.columns.iter().chain(&after.generated).any(|c| c.name == name);
    let lacking = before.columns.len() + before.generated.len() < after.columns.len() + after.generated.len();
    let extra: Vec<&str> =
        have.columns.iter().chain(&have.generated).map(|c| c.name.as_str()).filter(|c| !known(c)).collect();
    if lacking && !extra.is_empty() {
        return Err(format!(
            "columns were added or renamed while Switchyard did not run, and the target has the columns {} that the source has not",
            crate::pgwire::quote::list(extra)
        ));
    }
    for c in &mut before.columns {
        let Some(t) = there(&c.name) else { continue };
        if t.type_name != c.type_name && widens(&t.type_name, &c.type_name) {
            c.type_name = t.type_name.clone();
        }
        c.nullable &= t.nullable;
    }
    Ok(before)
}

/// `GENERATED ALWAYS` would refuse replicated values, so such a column stays BY DEFAULT here until the migration is finished.
async fn note_identities(client: &Client, name: &str, after: &Table, before: Option<&Table>) -> Result<()> {
    for c in &after.columns {
        let was = before.and_then(|b| b.columns.iter().find(|o| o.number == c.number)).and_then(|o| o.identity);
        if was == c.identity {
            continue;
        }
        let doing = format!("noting the identity column {} of {}", c.name, after.name);
        let key: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&name, &after.name.schema, &after.name.name, &c.name];
        let sql = if c.identity == Some(Identity::Always) {
            let undo =
                format!("ALTER TABLE {} ALTER COLUMN {} SET GENERATED ALWAYS", qualified(&after.name), quoted(&c.name));
            format!(
                "INSERT INTO switchyard.restore (name, kind, table_schema, table_name, object, statement)
                 VALUES ($1, 'identity', $2, $3, $4, {}) ON CONFLICT DO NOTHING",
                literal(&undo)
            )
        } else {
            "DELETE FROM switchyard.restore WHERE name = $1 AND kind = 'identity' AND table_schema = $2 AND table_name = $3 AND object = $4".into()
        };
        client.execute(&sql, &key).await.map_err(|e| wrap(doing, &e))?;
    }
    Ok(())
}

/// An empty table with its columns; keys and indexes come with statements of their own.
pub(super) fn create_statement(t: &Table) -> String {
    let mut columns: Vec<(i32, String)> = t.columns.iter().map(|c| (c.number, definition(c, true))).collect();
    columns.extend(t.generated.iter().map(|c| (c.number, generated(c))));
    columns.sort();
    let columns: Vec<String> = columns.into_iter().map(|c| c.1).collect();
    format!("CREATE TABLE {} ({})", qualified(&t.name), columns.join(", "))
}

fn typed(c: &Column) -> String {
    let collate = c.collation.as_ref().map(|c| format!(" COLLATE {c}")).unwrap_or_default();
    format!("{}{collate}", c.type_name)
}

fn definition(c: &Column, with_default: bool) -> String {
    let mut sql = format!("{} {}", quoted(&c.name), typed(c));
    match (&c.identity, &c.default) {
        (Some(_), _) => sql.push_str(" GENERATED BY DEFAULT AS IDENTITY"),
        (None, Some(d)) if with_default => sql.push_str(&format!(" DEFAULT {d}")),
        _ => {}
    }
    if !c.nullable {
        sql.push_str(" NOT NULL");
    }
    sql
}

fn generated(c: &Column) -> String {
    format!("{} {} GENERATED ALWAYS AS ({}) STORED", quoted(&c.name), typed(c), c.default.as_deref().unwrap_or("NULL"))
}

/// What brings the target's table `have` from `before` to `after`. Pure. `rewritten` says that rows which the target
/// has may have got values that no log shows.
pub fn plan(
    statement: &str,
    before: Option<&Table>,
    after: &Table,
    have: &Table,
    missing: &[(String, String)],
    rewritten: bool,
) -> Result<Steps, Stop> {
    let mut steps = Steps::default();
    let t = qualified(&after.name);
    let Some(before) = before else {
        let lacking: Vec<&str> =
            after.columns.iter().map(|c| c.name.as_str()).filter(|c| have.column(c).is_none()).collect();
        if lacking.is_empty() {
            steps.had.push("the table exists".into());
            return Ok(steps);
        }
        return Err(format!("the target has a table of that name that lacks the columns {}", lacking.join(", ")));
    };
    let mut explained = !rewritten;
    // What the target will have by name while the steps run.
    let mut now: Vec<Column> = have.columns.iter().chain(&have.generated).cloned().collect();
    let all = |t: &Table| -> Vec<(Column, bool)> {
        t.columns.iter().map(|c| (c.clone(), false)).chain(t.generated.iter().map(|c| (c.clone(), true))).collect()
    };
    let (old, new) = (all(before), all(after));
    for (o, _) in old.iter().filter(|(o, _)| !new.iter().any(|(n, _)| n.number == o.number)) {
        // If a new column has the name already, a person may have been here: the type decides below.
        match now.iter().position(|c| c.name == o.name) {
            Some(i) => {
                now.remove(i);
                steps.run.push(format!("ALTER TABLE {t} DROP COLUMN {}", quoted(&o.name)));
            }
            None => steps.had.push(format!("column {} is gone", o.name)),
        }
    }
    for (n, is_generated) in &new {
        let Some((o, was_generated)) = old.iter().find(|(o, _)| o.number == n.number) else { continue };
        if o.name != n.name {
            let from = now.iter().position(|c| c.name == o.name);
            let to = now.iter().any(|c| c.name == n.name);
            match (from, to) {
                (Some(i), false) => {
                    steps.run.push(format!("ALTER TABLE {t} RENAME COLUMN {} TO {}", quoted(&o.name), quoted(&n.name)));
                    now[i].name = n.name.clone();
                }
                (None, true) => steps.had.push(format!("column {} is called {}", o.name, n.name)),
                (Some(_), true) => {
                    return Err(format!("the target has both the column {} and the column {}", o.name, n.name));
                }
                (None, false) => {
                    return Err(format!("the target has neither the column {} nor the column {}", o.name, n.name));
                }
            }
        }
        let alter = format!("ALTER TABLE {t} ALTER COLUMN {}", quoted(&n.name));
        let there = now.iter().find(|c| c.name == n.name).cloned();
        let Some(there) = there else { return Err(format!("the target lacks the column {}", n.name)) };
        if *was_generated && !is_generated {
            steps.run.push(format!("{alter} DROP EXPRESSION IF EXISTS"));
        } else if was_generated != is_generated || (*is_generated && o.default != n.default) {
            return Err(format!("the generated column {} changed its nature", n.name));
        }
        if o.type_name != n.type_name || o.collation != n.collation {
            if !widens(&o.type_name, &n.type_name) {
                if there.type_name != n.type_name {
                    return Err(format!(
                        "column {} changed from {} to {}, which can change values",
                        n.name, o.type_name, n.type_name
                    ));
                }
                steps.had.push(format!("column {} is {}", n.name, n.type_name));
                // Whoever changed the type here saw to the rows as well.
                explained = true;
            } else if there.type_name == n.type_name && there.collation == n.collation {
                steps.had.push(format!("column {} is {}", n.name, n.type_name));
                explained = true;
            } else {
                steps.run.push(format!("{alter} TYPE {}", typed(n)));
                // The cast keeps every value, unless the statement brought an expression of its own.
                explained |= mentions(statement, "type") && !mentions(statement, "using");
            }
        }
        if o.nullable != n.nullable && there.nullable != n.nullable {
            steps.run.push(format!("{alter} {} NOT NULL", if n.nullable { "DROP" } else { "SET" }));
        }
        if *is_generated {
            continue;
        }
        match (o.identity, n.identity) {
            (None, Some(_)) if there.identity.is_none() => {
                if there.default.is_some() {
                    steps.run.push(format!("{alter} DROP DEFAULT"));
                }
                steps.run.push(format!("{alter} ADD GENERATED BY DEFAULT AS IDENTITY"));
            }
            (Some(_), None) => steps.run.push(format!("{alter} DROP IDENTITY IF EXISTS")),
            _ => {}
        }
        if n.identity.is_none() && o.default != n.default && there.default != n.default {
            steps.run.push(match &n.default {
                Some(d) => format!("{alter} SET DEFAULT {d}"),
                None => format!("{alter} DROP DEFAULT"),
            });
        }
    }
    for (n, is_generated) in new.iter().filter(|(n, _)| !old.iter().any(|(o, _)| o.number == n.number)) {
        if let Some(c) = now.iter().find(|c| c.name == n.name) {
            if c.type_name != n.type_name {
                return Err(format!(
                    "the target has a column {} of type {}, the source of type {}",
                    n.name, c.type_name, n.type_name
                ));
            }
            steps.had.push(format!("column {}", n.name));
            explained = true;
            continue;
        }
        if *is_generated {
            steps.run.push(format!("ALTER TABLE {t} ADD COLUMN {}", generated(n)));
            explained = true;
            continue;
        }
        let value = missing.iter().find(|(c, _)| *c == n.name);
        let fills = n.identity.is_some() || (n.default.is_some() && value.is_none());
        if rewritten && fills {
            return Err(format!(
                "existing rows got values in the new column {} that are computed row by row and not in the log",
                n.name
            ));
        }
        match value {
            // The value of that moment for the rows that are there, then the expression for those to come.
            Some((_, text)) => {
                let mut first = n.clone();
                first.default = Some(format!("{}::{}", literal(text).trim_start(), n.type_name));
                steps.run.push(format!("ALTER TABLE {t} ADD COLUMN {}", definition(&first, true)));
                steps.run.push(match &n.default {
                    Some(d) => format!("ALTER TABLE {t} ALTER COLUMN {} SET DEFAULT {d}", quoted(&n.name)),
                    None => format!("ALTER TABLE {t} ALTER COLUMN {} DROP DEFAULT", quoted(&n.name)),
                });
            }
            None => steps.run.push(format!("ALTER TABLE {t} ADD COLUMN {}", definition(n, true))),
        }
    }
    let storage_only = ["logged", "unlogged", "access", "tablespace"].iter().any(|w| mentions(statement, w));
    if !explained && (!storage_only || mentions(statement, "using")) {
        return Err("the source rewrote the table's rows, and the definitions do not say how".into());
    }
    Ok(steps)
}

/// Whether the statement holds the word.
pub(super) fn mentions(statement: &str, word: &str) -> bool {
    statement.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w.eq_ignore_ascii_case(word))
}

/// Whether every value of the one type is the same value, printed the same, in the other.
pub fn widens(from: &str, to: &str) -> bool {
    let (a, a_args) = modifiers(from);
    let (b, b_args) = modifiers(to);
    let first = |args: &[u32]| args.first().copied();
    match (a.as_str(), b.as_str()) {
        ("smallint", "integer" | "bigint") | ("integer", "bigint") => true,
        ("smallint" | "integer" | "bigint", "numeric") => b_args.is_empty(),
        ("character varying", "text") => true,
        ("text", "character varying") => b_args.is_empty(),
        ("character varying" | "bit varying", _) if a == b => match (first(&a_args), first(&b_args)) {
            (_, None) => true,
            (Some(x), Some(y)) => x <= y,
            (None, Some(_)) => false,
        },
        ("numeric", "numeric") => match (a_args.as_slice(), b_args.as_slice()) {
            (_, []) => true,
            ([p, s], [q, r]) => p <= q && s == r,
            _ => false,
        },
        (
            "timestamp without time zone"
            | "timestamp with time zone"
            | "time without time zone"
            | "time with time zone"
            | "interval",
            _,
        ) if a == b => match (first(&a_args), first(&b_args)) {
            (_, None) => true,
            (Some(x), Some(y)) => x <= y,
            // Without modifier it is six digits.
            (None, Some(y)) => y >= 6,
        },
        _ => a == b && a_args == b_args,
    }
}

/// `timestamp(3) without time zone` → (`timestamp without time zone`, [3]).
fn modifiers(t: &str) -> (String, Vec<u32>) {
    let Some((head, rest)) = t.split_once('(') else { return (t.to_owned(), Vec::new()) };
    let Some((args, tail)) = rest.split_once(')') else { return (t.to_owned(), Vec::new()) };
    let parsed: Option<Vec<u32>> = args.split(',').map(|a| a.trim().parse().ok()).collect();
    match parsed {
        Some(p) => (format!("{}{tail}", head.trim_end()), p),
        None => (t.to_owned(), Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_type_changes_when_judged_then_only_value_preserving_ones_widen() {
        for (a, b) in [
            ("character varying(10)", "character varying(20)"),
            ("character varying(10)", "text"),
            ("text", "character varying"),
            ("integer", "bigint"),
            ("numeric(10,2)", "numeric(12,2)"),
            ("numeric(10,2)", "numeric"),
            ("timestamp(3) without time zone", "timestamp without time zone"),
            ("timestamp(0) with time zone", "timestamp(3) with time zone"),
        ] {
            assert!(widens(a, b), "{a} → {b}");
        }
        for (a, b) in [
            ("character varying(20)", "character varying(10)"),
            ("text", "character varying(10)"),
            ("bigint", "integer"),
            ("numeric(10,2)", "numeric(12,4)"),
            ("numeric", "numeric(10,2)"),
            ("timestamp without time zone", "timestamp with time zone"),
            ("timestamp without time zone", "timestamp(3) without time zone"),
            ("text", "integer"),
            ("character varying(10)[]", "text[]"),
        ] {
            assert!(!widens(a, b), "{a} → {b}");
        }
    }
}
