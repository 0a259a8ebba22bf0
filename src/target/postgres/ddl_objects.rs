//! Repeats schema changes other than of a table's columns: partitions, constraints, types, sequences. Each message tells
//! what there is afterwards; it is compared with what the target has, and only what is lacking is made.

use tokio_postgres::Client;

use super::ddl::{mentions, refused, stop};
use crate::change::{Ddl, DdlEffect, Division, Partition, UserType};
use crate::error::Result;
use crate::pgwire::errors::wrap;
use crate::pgwire::quote::{literal, qualified, quoted};
use crate::schema::{Table, TableName};
use crate::target::DdlOutcome;

/// As the source's trigger describes a partition (`switchyard.partition_path`).
const PARTITION_PATH: &str = include_str!("partition_path.sql");

/// Makes the schema if there is none of that name.
pub(super) async fn ensure_schema(client: &Client, name: &str) -> Result<()> {
    let doing = || format!("making schema {} on the target", quoted(name));
    let there = client.query_opt("SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1", &[&name]).await;
    if there.map_err(|e| wrap(doing(), &e))?.is_some() {
        return Ok(());
    }
    // Without IF NOT EXISTS, which asks for the right to make one even where there is nothing to do.
    client.batch_execute(&format!("CREATE SCHEMA {}", quoted(name))).await.map_err(|e| wrap(doing(), &e))
}

/// A table whose rows are not in the log.
pub(super) fn unfollowed(ddl: &Ddl, table: &TableName, why: &str) -> DdlOutcome {
    let t = qualified(table);
    stop(
        ddl,
        format!("{table} is selected, but {why}, so its rows are not in the log"),
        format!(
            "leave {table} out with tables.exclude; or let it be followed: at the source run ALTER TABLE {t} ADD PRIMARY KEY (…) \
             (or, with a key, ALTER TABLE {t} REPLICA IDENTITY DEFAULT) while it is empty, and if it is not: BEGIN; \
             CREATE TEMP TABLE kept AS TABLE {t}; TRUNCATE {t}; that ALTER TABLE; INSERT INTO {t} TABLE kept; COMMIT"
        ),
    )
}

/// Names one schema change. The same statement said again later is the same one, so its note is used up.
fn fingerprint(ddl: &Ddl) -> String {
    format!("{:08x}", crc32fast::hash(ddl.statement.as_bytes()))
}

/// What an operator runs on the target to say that a change, of which the definitions do not tell whether it was
/// repeated, was repeated by hand.
pub(super) fn acknowledgement(name: &str, ddl: &Ddl, table: &TableName) -> String {
    format!(
        "INSERT INTO switchyard.restore (name, kind, table_schema, table_name, object, statement) VALUES ({}, 'schema change', {}, {}, {}, '')",
        literal(name),
        literal(&table.schema),
        literal(&table.name),
        literal(&fingerprint(ddl))
    )
}

/// Whether the operator said so. Takes the note away with the transaction.
pub(super) async fn acknowledged(client: &Client, name: &str, ddl: &Ddl, table: &TableName) -> Result<bool> {
    let sql = "DELETE FROM switchyard.restore WHERE name = $1 AND kind = 'schema change' AND table_schema = $2 AND table_name = $3 AND object = $4";
    let n = client.execute(sql, &[&name, &table.schema, &table.name, &fingerprint(ddl)]).await;
    Ok(n.map_err(|e| wrap("looking for an operator's note on the target", &e))? > 0)
}

/// A dropped table that no pattern names.
pub(super) async fn partition_dropped(client: &Client, ddl: &Ddl, table: &TableName) -> Result<DdlOutcome> {
    let sql = "SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND c.relname = $2 AND c.relispartition";
    let there = client.query_opt(sql, &[&table.schema, &table.name]).await;
    Ok(match there.map_err(|e| wrap(format!("looking for {table} on the target"), &e))? {
        None => DdlOutcome::Applied(format!("{table} is no partition on the target (any more): already so")),
        Some(_) => super::ddl::dropped(client, ddl, table).await?,
    })
}

/// A partition that was emptied. It is emptied here if it holds the same part of the same table.
pub(super) async fn emptied(
    client: &Client,
    name: &str,
    ddl: &Ddl,
    table: &TableName,
    path: &[Division],
) -> Result<DdlOutcome> {
    let Some(root) = path.last().map(|p| &p.parent) else {
        return Ok(DdlOutcome::Ignored(format!("{table} is no partition")));
    };
    let doing = format!("emptying the partition {table} on the target");
    let sql = "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind = 'r' AND c.relispartition";
    let mut have: Vec<Division> = Vec::new();
    if let Some(row) = client.query_opt(sql, &[&table.schema, &table.name]).await.map_err(|e| wrap(&doing, &e))? {
        let oid: u32 = row.get(0);
        let sql = format!("SELECT ({PARTITION_PATH})::text");
        let row = client.query_one(&sql, &[&oid]).await.map_err(|e| wrap(&doing, &e))?;
        have = row.get::<_, Option<String>>(0).and_then(|t| serde_json::from_str(&t).ok()).unwrap_or_default();
        have.truncate(have.iter().position(|p| p.parent == *root).map_or(0, |at| at + 1));
    }
    let part = |p: &Division| (p.key.clone(), p.bound.clone(), p.beside.clone());
    if have.is_empty() || !have.iter().map(part).eq(path.iter().map(part)) {
        if acknowledged(client, name, ddl, table).await? {
            return Ok(DdlOutcome::Applied(format!("{table}: its rows were removed by hand")));
        }
        return Ok(stop(
            ddl,
            format!(
                "it empties {table}, and the target has no partition of {root} by this name that holds the same rows ({})",
                path.iter().map(|p| p.bound.as_str()).collect::<Vec<_>>().join(" of ")
            ),
            format!(
                "remove these rows from {root} on the target, and say so there: {}",
                acknowledgement(name, ddl, table)
            ),
        ));
    }
    let only = format!("ONLY {}", qualified(table));
    let said = DdlOutcome::Applied(format!("emptied {table}"));
    client.batch_execute("SAVEPOINT switchyard_empty").await.map_err(|e| wrap(&doing, &e))?;
    match client.batch_execute(&format!("TRUNCATE {only}; RELEASE SAVEPOINT switchyard_empty")).await {
        Ok(()) => Ok(said),
        // A foreign key refers to the root. The source has truncated what referred to these rows, too.
        Err(e) if e.code().is_some_and(|c| c.code() == "0A000") => {
            let sql = format!(
                "ROLLBACK TO SAVEPOINT switchyard_empty; RELEASE SAVEPOINT switchyard_empty; DELETE FROM {only}"
            );
            client.batch_execute(&sql).await.map_err(|e| wrap(&doing, &e))?;
            Ok(said)
        }
        Err(e) => Err(wrap(&doing, &e)),
    }
}

/// The partitions of a root as the source has them. `root_table` is the root's definition.
pub(super) async fn partitions(
    client: &Client,
    ddl: &Ddl,
    root: &TableName,
    key: &str,
    want: &[Partition],
    root_table: Option<&Table>,
) -> Result<DdlOutcome> {
    let doing = format!("comparing the partitions of {root}");
    let rows = client
        .query(
            "SELECT pn.nspname::text, p.relname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             CROSS JOIN LATERAL pg_catalog.pg_partition_tree(c.oid) t JOIN pg_catalog.pg_class p ON p.oid = t.relid \
             JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace WHERE n.nspname = $1 AND c.relname = $2",
            &[&root.schema, &root.name],
        )
        .await
        .map_err(|e| wrap(&doing, &e))?;
    let have: Vec<TableName> =
        rows.iter().map(|r| TableName::new(r.get::<_, String>(0), r.get::<_, String>(1))).collect();
    let mut run = Vec::new();
    if have.is_empty() {
        if super::catalog::table(client, root).await?.is_some() {
            return Ok(DdlOutcome::Ignored(format!(
                "{root} is one table on the target; its partitions at the source do not concern it"
            )));
        }
        let Some(t) = root_table else {
            return Ok(stop(
                ddl,
                format!("{root} does not exist on the target"),
                "create it there as the source has it",
            ));
        };
        ensure_schema(client, &root.schema).await?;
        run.push(format!("{} PARTITION BY {key}", super::ddl::create_statement(t)));
    }
    let extra: Vec<String> =
        have.iter().filter(|h| *h != root && !want.iter().any(|w| w.name == **h)).map(ToString::to_string).collect();
    if !extra.is_empty() && mentions(&ddl.statement, "detach") {
        return Ok(stop(
            ddl,
            format!("it detaches {}, whose rows would no longer be {root}'s", extra.join(", ")),
            format!(
                "run the same on the target, and leave {} out with tables.exclude: its rows are not followed any more",
                extra.join(", ")
            ),
        ));
    }
    for p in want.iter().filter(|p| !have.contains(&p.name)) {
        let divided = p.key.as_ref().map(|k| format!(" PARTITION BY {k}")).unwrap_or_default();
        let create =
            format!("CREATE TABLE {} PARTITION OF {} {}{divided}", qualified(&p.name), qualified(&p.parent), p.bound);
        if !p.empty {
            return Ok(stop(
                ddl,
                format!("it makes {}, which holds rows already, a partition of {}", p.name, p.parent),
                format!(
                    "bring {} with its rows to the target and run ALTER TABLE {} ATTACH PARTITION {} {} there",
                    p.name,
                    qualified(&p.parent),
                    qualified(&p.name),
                    p.bound
                ),
            ));
        }
        if super::catalog::table(client, &p.name).await?.is_some() {
            run.push(format!(
                "ALTER TABLE {} ATTACH PARTITION {} {}",
                qualified(&p.parent),
                qualified(&p.name),
                p.bound
            ));
        } else {
            ensure_schema(client, &p.name.schema).await?;
            run.push(create);
        }
    }
    for sql in &run {
        if let Err(e) = client.batch_execute(sql).await {
            return refused(ddl, sql, wrap(format!("changing the partitions of {root} on the target"), &e));
        }
    }
    Ok(DdlOutcome::Applied(match run.is_empty() {
        true => format!("partitions of {root}: already so"),
        false => run.join("; "),
    }))
}

/// A constraint, by its `ALTER TABLE … ADD CONSTRAINT …`.
pub(super) async fn constraint(
    client: &Client,
    ddl: &Ddl,
    table: &TableName,
    name: &str,
    definition: &str,
) -> Result<DdlOutcome> {
    let doing = format!("adding constraint {name} to {table} on the target");
    let there = client
        .query_opt(
            "SELECT pg_catalog.pg_get_constraintdef(k.oid) FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2 AND k.conname = $3",
            &[&table.schema, &table.name, &name],
        )
        .await
        .map_err(|e| wrap(&doing, &e))?;
    if let Some(r) = there {
        let have: String = r.get(0);
        return Ok(if definition.ends_with(&format!(" {have}")) {
            DdlOutcome::Applied(format!("constraint {name} of {table}: already so"))
        } else {
            stop(
                ddl,
                format!("the target has another constraint {name} on {table}"),
                format!(
                    "run ALTER TABLE {} DROP CONSTRAINT {}; {definition} on the target",
                    qualified(table),
                    quoted(name)
                ),
            )
        });
    }
    match client.batch_execute(definition).await {
        Ok(()) => Ok(DdlOutcome::Applied(definition.to_owned())),
        Err(e) => refused(ddl, definition, wrap(&doing, &e)),
    }
}

/// A constraint or an index that the source has no more: kept, it could refuse rows that the source has.
pub(super) async fn undone(
    client: &Client,
    ddl: &Ddl,
    table: Option<&TableName>,
    name: &TableName,
) -> Result<DdlOutcome> {
    let doing = format!("dropping {name} on the target");
    let n = quoted(&name.name);
    let (sql, there) = match table {
        Some(t) => (
            format!("ALTER TABLE {} DROP CONSTRAINT {n}", qualified(t)),
            client
                .query_opt(
                    "SELECT FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                     WHERE n.nspname = $1 AND c.relname = $2 AND k.conname = $3",
                    &[&t.schema, &t.name, &name.name],
                )
                .await,
        ),
        // A constraint's index goes with the constraint.
        None => (
            format!("DROP INDEX {}.{n}", quoted(&name.schema)),
            client
                .query_opt(
                    "SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                     WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('i', 'I') AND NOT c.relispartition \
                       AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conindid = c.oid)",
                    &[&name.schema, &name.name],
                )
                .await,
        ),
    };
    if there.map_err(|e| wrap(&doing, &e))?.is_none() {
        return Ok(DdlOutcome::Applied(format!("{name} is not on the target (any more): already so")));
    }
    match client.batch_execute(&sql).await {
        Ok(()) => Ok(DdlOutcome::Applied(sql)),
        Err(e) => refused(ddl, &sql, wrap(&doing, &e)),
    }
}

/// A sequence that a default may refer to. One that cannot be made is missed, if at all, by the table that needs it.
pub(super) async fn sequence(client: &Client, name: &TableName, definition: &str) -> Result<DdlOutcome> {
    let doing = || format!("making sequence {name} on the target");
    let there = client
        .query_one("SELECT pg_catalog.to_regclass($1) IS NOT NULL", &[&qualified(name)])
        .await
        .map_err(|e| wrap(doing(), &e))?;
    let (exists, create): (bool, bool) = (there.get(0), definition.starts_with("CREATE"));
    if exists == create {
        return Ok(DdlOutcome::Applied(format!("sequence {name}: nothing to do")));
    }
    if create {
        ensure_schema(client, &name.schema).await?;
    }
    Ok(match attempt(client, definition).await? {
        None => DdlOutcome::Applied(definition.to_owned()),
        Some(why) => DdlOutcome::Ignored(format!("sequence {name}: the target refused {definition}: {why}")),
    })
}

/// Tries a statement that replication can do without. Why it was refused, if it was.
async fn attempt(client: &Client, sql: &str) -> Result<Option<String>> {
    let doing = "changing the target's schema";
    client.batch_execute("SAVEPOINT switchyard_try").await.map_err(|e| wrap(doing, &e))?;
    let tried = client.batch_execute(sql).await.map_err(|e| wrap(doing, &e));
    let end = match &tried {
        Ok(()) => "RELEASE SAVEPOINT switchyard_try",
        Err(_) => "ROLLBACK TO SAVEPOINT switchyard_try; RELEASE SAVEPOINT switchyard_try",
    };
    client.batch_execute(end).await.map_err(|e| wrap(doing, &e))?;
    match tried {
        Err(e) if e.is_retry() => Err(e),
        Err(e) => Ok(Some(e.message().to_owned())),
        Ok(()) => Ok(None),
    }
}

/// A type of the user.
pub(super) async fn user_type(client: &Client, ddl: &Ddl, after: &UserType, used: bool) -> Result<DdlOutcome> {
    let t = qualified(&after.name);
    let Some(have) = type_on_target(client, &after.name).await? else {
        let sql = match after.kind {
            'e' => {
                let labels: Vec<String> = after.labels.iter().map(|l| literal(l)).collect();
                format!("CREATE TYPE {t} AS ENUM ({})", labels.join(", "))
            }
            'c' => {
                let fields: Vec<String> =
                    after.attributes.iter().map(|(n, ty)| format!("{} {ty}", quoted(n))).collect();
                format!("CREATE TYPE {t} AS ({})", fields.join(", "))
            }
            _ => {
                return Ok(DdlOutcome::Ignored(format!(
                    "{} {}: make it on the target before a selected table uses it",
                    ddl.tag, ddl.object
                )));
            }
        };
        ensure_schema(client, &after.name.schema).await?;
        return Ok(match attempt(client, &sql).await? {
            None => DdlOutcome::Applied(sql),
            Some(why) => DdlOutcome::Ignored(format!("type {}: the target refused {sql}: {why}", after.name)),
        });
    };
    let already = || Ok(DdlOutcome::Applied(format!("type {}: already so", after.name)));
    match after.kind {
        'e' if have.labels == after.labels => already(),
        'e' => {
            let Some(run) = enum_steps(&after.name, &have.labels, &after.labels) else {
                return Ok(stop(
                    ddl,
                    format!("the target's {} has other labels than the source's", after.name),
                    format!("make the labels of {t} on the target ({})", after.labels.join(", ")),
                ));
            };
            for sql in &run {
                if let Err(e) = client.batch_execute(sql).await {
                    return refused(ddl, sql, wrap(format!("changing type {} on the target", after.name), &e));
                }
            }
            Ok(DdlOutcome::Applied(run.join("; ")))
        }
        'c' if have.attributes == after.attributes => already(),
        'c' if used => Ok(stop(
            ddl,
            format!("it changes the type {}, which columns of selected tables have", after.name),
            format!("make {t} on the target what it is on the source"),
        )),
        _ => Ok(DdlOutcome::Ignored(format!(
            "{} {}: run the same on the target if it should have it: {}",
            ddl.tag, ddl.object, ddl.statement
        ))),
    }
}

/// Adds an enumeration's new labels in transactions of their own, because a label cannot be used in the transaction that
/// adds it. `client` has none open. What a failed batch leaves behind does no harm.
pub(super) async fn add_labels(client: &Client, after: &UserType) -> Result<()> {
    let Some(have) = type_on_target(client, &after.name).await? else { return Ok(()) };
    let steps = enum_steps(&after.name, &have.labels, &after.labels).unwrap_or_default();
    for sql in steps.iter().filter(|s| s.contains(" ADD VALUE ")) {
        // Whatever is wrong with it is told when the change itself is repeated.
        if let Err(e) = client.batch_execute(sql).await {
            tracing::debug!("adding a label ahead: {}", wrap("adding a label", &e));
            break;
        }
    }
    Ok(())
}

/// Whether the schema change is an enumeration's.
pub(super) fn enumeration(ddl: &Ddl) -> Option<&UserType> {
    match &ddl.effect {
        DdlEffect::Type { after, .. } if after.kind == 'e' => Some(after),
        _ => None,
    }
}

/// What makes the labels `have` the labels `want`; `None` if renaming and adding do not. Pure.
fn enum_steps(name: &TableName, have: &[String], want: &[String]) -> Option<Vec<String>> {
    let t = qualified(name);
    let mut run = Vec::new();
    let mut now: Vec<String> = have.to_vec();
    if have.len() == want.len() {
        for (i, w) in want.iter().enumerate().filter(|(_, w)| !have.contains(w)) {
            if want.contains(&have[i]) {
                return None;
            }
            run.push(format!("ALTER TYPE {t} RENAME VALUE {} TO {}", literal(&have[i]), literal(w)));
            now[i] = w.clone();
        }
        return (now == want).then_some(run);
    }
    for (i, w) in want.iter().enumerate().filter(|(_, w)| !have.contains(w)) {
        let place = match i.checked_sub(1) {
            Some(before) => format!("AFTER {}", literal(&want[before])),
            None => format!("BEFORE {}", literal(now.first()?)),
        };
        run.push(format!("ALTER TYPE {t} ADD VALUE IF NOT EXISTS {} {place}", literal(w)));
        now.insert(i.min(now.len()), w.clone());
    }
    (now == want).then_some(run)
}

async fn type_on_target(client: &Client, name: &TableName) -> Result<Option<UserType>> {
    let doing = format!("looking at type {name} on the target");
    let sql = "SELECT t.typtype::text, \
         ARRAY(SELECT e.enumlabel::text FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder), \
         ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum), \
         ARRAY(SELECT pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) \
         FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname = $1 AND t.typname = $2";
    let row = client.query_opt(sql, &[&name.schema, &name.name]).await.map_err(|e| wrap(&doing, &e))?;
    Ok(row.map(|r| {
        let (names, types): (Vec<String>, Vec<String>) = (r.get(2), r.get(3));
        UserType {
            name: name.clone(),
            labels: r.get(1),
            attributes: names.into_iter().zip(types).collect(),
            kind: r.get::<_, String>(0).chars().next().unwrap_or(' '),
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_labels_when_compared_then_only_renaming_and_adding_are_done() {
        let steps = |have: &[&str], want: &[&str]| {
            let own = |l: &[&str]| l.iter().map(|s| s.to_string()).collect::<Vec<_>>();
            enum_steps(&TableName::new("public", "mood"), &own(have), &own(want))
        };
        assert_eq!(steps(&["b", "d"], &["a", "b", "c", "d", "e"]).map(|s| s.len()), Some(3));
        assert!(steps(&["b"], &["a", "b"]).unwrap()[0].ends_with("'a' BEFORE 'b'"));
        assert!(steps(&["a", "b"], &["a", "c"]).unwrap()[0].ends_with("RENAME VALUE 'b' TO 'c'"));
        assert_eq!(steps(&["a", "b"], &["b", "a"]), None);
        assert_eq!(steps(&["a", "x"], &["a", "b", "c"]), None);
        assert_eq!(steps(&["a", "b"], &["a"]), None);
    }
}
