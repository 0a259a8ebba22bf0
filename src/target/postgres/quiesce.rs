//! Gets triggers, rules, foreign keys, identity columns and forced row security out of the applier's way, and puts them back.
//!
//! Two modes, found by trial. A session that may set `session_replication_role = replica` is past ordinary triggers, rules and
//! foreign keys, so only those marked ALWAYS or REPLICA are disabled. One that may not has everything disabled or, as foreign keys
//! cannot be disabled by an ordinary owner, dropped. Every change commits together with the statement that undoes it
//! (`switchyard.restore`), so that a crash anywhere loses neither.

use tokio_postgres::{Client, Transaction};

use super::bookkeeping;
use crate::error::{Error, Result};
use crate::pgwire::errors::wrap;
use crate::pgwire::quote::{literal, qualified, quoted};
use crate::schema::TableName;

/// How the applier gets past triggers and foreign keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It sets `session_replication_role = replica`.
    Replica,
    /// It may not; what would fire is disabled or dropped.
    Ordinary,
}

/// How long a lock on a table is waited for before the whole step is tried again later.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '10s'";

/// Whether this role may set `session_replication_role` (superuser, or PostgreSQL 15's `GRANT SET ON PARAMETER`).
pub async fn replication_role_allowed(client: &Client) -> Result<bool> {
    // Local to a transaction that ends with this statement: nothing stays set.
    match client.batch_execute("SELECT pg_catalog.set_config('session_replication_role', 'replica', true)").await {
        Ok(()) => Ok(true),
        Err(e) if e.code().is_some_and(|c| c.code() == "42501") => Ok(false),
        Err(e) => Err(wrap("trying session_replication_role on the target", &e)),
    }
}

/// The mode that this role has.
pub async fn mode(client: &Client) -> Result<Mode> {
    Ok(if replication_role_allowed(client).await? { Mode::Replica } else { Mode::Ordinary })
}

/// One thing to change, and how to undo it.
struct Step {
    kind: &'static str,
    table: TableName,
    object: String,
    change: String,
    undo: String,
}

/// Quiesces tables, each in one transaction. A table that is not there is passed over. Repeating it is harmless, and adds
/// what has appeared since. The bookkeeping must exist.
pub async fn quiesce(client: &mut Client, name: &str, tables: &[TableName]) -> Result<()> {
    let mode = mode(client).await?;
    for t in tables {
        let doing = || format!("quiescing {t} on the target");
        let tx = client.transaction().await.map_err(|e| wrap(doing(), &e))?;
        quiesce_in(&tx, name, t, mode).await?;
        tx.commit().await.map_err(|e| wrap(doing(), &e))?;
    }
    Ok(())
}

/// The same for one table inside the caller's transaction.
pub(super) async fn quiesce_in(tx: &Transaction<'_>, name: &str, table: &TableName, mode: Mode) -> Result<()> {
    let doing = || format!("quiescing {table} on the target");
    tx.batch_execute(LOCK_TIMEOUT).await.map_err(|e| wrap(doing(), &e))?;
    let mut steps = firing(tx, table, mode).await?;
    steps.extend(columns_and_policies(tx, table).await?);
    if mode == Mode::Ordinary {
        steps.extend(foreign_keys(tx, table).await?);
    }
    for s in steps {
        note(tx, name, &s.table, s.kind, &s.object, &s.undo).await?;
        tx.batch_execute(&s.change).await.map_err(|e| {
            let e = wrap(format!("quiescing {}: {}", s.table, s.change), &e);
            if e.code() == Some("42501") {
                e.hint(format!(
                    "connect to the target as the owner of {}, or make this role a member of the owner",
                    s.table
                ))
            } else {
                e
            }
        })?;
    }
    Ok(())
}

/// Notes how something is put back. A note that is there already stays: it holds the older truth.
pub(super) async fn note(
    tx: &Transaction<'_>,
    name: &str,
    table: &TableName,
    kind: &str,
    object: &str,
    undo: &str,
) -> Result<()> {
    tx.execute(
        "INSERT INTO switchyard.restore (name, kind, table_schema, table_name, object, statement)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (name, kind, table_schema, table_name, object) DO NOTHING",
        &[&name, &kind, &table.schema, &table.name, &object, &undo],
    )
    .await
    .map_err(|e| wrap(format!("noting how to restore {object} of {table}"), &e))?;
    Ok(())
}

/// Notes a foreign key that is to be made when the migration is finished. Undone in reverse order: first added, then validated.
pub(super) async fn note_foreign_key(
    tx: &Transaction<'_>,
    name: &str,
    table: &TableName,
    constraint: &str,
    add: &str,
    validate: bool,
) -> Result<()> {
    if validate {
        let sql = format!("ALTER TABLE {} VALIDATE CONSTRAINT {}", qualified(table), quoted(constraint));
        note(tx, name, table, "validate", constraint, &sql).await?;
    }
    note(tx, name, table, "foreign key", constraint, add).await
}

/// Triggers and rules that would fire, of the table and its partitions.
async fn firing(tx: &Transaction<'_>, table: &TableName, mode: Mode) -> Result<Vec<Step>> {
    let fires: &[&str] = if mode == Mode::Replica { &["A", "R"] } else { &["O", "A"] };
    let rows = tx
        .query(
            "WITH root AS (SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                           WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')),
                  rel AS (SELECT oid FROM root UNION SELECT p.relid FROM root, pg_catalog.pg_partition_tree(root.oid) p),
                  thing AS (SELECT 'TRIGGER' AS kind, tgrelid AS relid, tgname AS name, tgenabled AS enabled FROM pg_catalog.pg_trigger
                            WHERE NOT tgisinternal
                            UNION ALL SELECT 'RULE', ev_class, rulename, ev_enabled FROM pg_catalog.pg_rewrite WHERE ev_type IN ('2', '3', '4'))
             SELECT n.nspname::text, c.relname::text, t.kind, t.name::text, t.enabled::text
             FROM rel JOIN thing t ON t.relid = rel.oid JOIN pg_catalog.pg_class c ON c.oid = rel.oid
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE t.enabled::text = ANY ($3) ORDER BY 1, 2, 3, 4",
            &[&table.schema, &table.name, &fires],
        )
        .await
        .map_err(|e| wrap(format!("listing triggers and rules of {table} on the target"), &e))?;
    Ok(rows
        .iter()
        .map(|r| {
            let on = TableName::new(r.get::<_, String>(0), r.get::<_, String>(1));
            let (word, object): (String, String) = (r.get(2), r.get(3));
            let how = match r.get::<_, String>(4).as_str() {
                "A" => "ENABLE ALWAYS",
                "R" => "ENABLE REPLICA",
                _ => "ENABLE",
            };
            // ONLY: partitions have their own entries, each with its own state.
            let only = if word == "TRIGGER" { "ONLY " } else { "" };
            Step {
                kind: if word == "TRIGGER" { "trigger" } else { "rule" },
                change: format!("ALTER TABLE {only}{} DISABLE {word} {}", qualified(&on), quoted(&object)),
                undo: format!("ALTER TABLE {only}{} {how} {word} {}", qualified(&on), quoted(&object)),
                table: on,
                object,
            }
        })
        .collect())
}

/// `GENERATED ALWAYS` identity columns, which refuse given values, and row security that binds even the owner.
async fn columns_and_policies(tx: &Transaction<'_>, table: &TableName) -> Result<Vec<Step>> {
    let rows = tx
        .query(
            "SELECT a.attname::text, c.relforcerowsecurity
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attidentity = 'a'
             WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p') ORDER BY a.attnum",
            &[&table.schema, &table.name],
        )
        .await
        .map_err(|e| wrap(format!("listing identity columns of {table} on the target"), &e))?;
    let mut steps = Vec::new();
    for (i, r) in rows.iter().enumerate() {
        let t = qualified(table);
        if let Some(column) = r.get::<_, Option<String>>(0) {
            let alter = format!("ALTER TABLE {t} ALTER COLUMN {} SET GENERATED", quoted(&column));
            steps.push(Step {
                kind: "identity",
                table: table.clone(),
                object: column,
                change: format!("{alter} BY DEFAULT"),
                undo: format!("{alter} ALWAYS"),
            });
        }
        if i == 0 && r.get::<_, bool>(1) {
            steps.push(Step {
                kind: "row security",
                table: table.clone(),
                object: String::new(),
                change: format!("ALTER TABLE {t} NO FORCE ROW LEVEL SECURITY"),
                undo: format!("ALTER TABLE {t} FORCE ROW LEVEL SECURITY"),
            });
        }
    }
    Ok(steps)
}

/// Foreign keys of the table and towards it. Drops them here, because the notes need two entries each.
async fn foreign_keys(tx: &Transaction<'_>, table: &TableName) -> Result<Vec<Step>> {
    let rows = tx
        .query(
            "SELECT n.nspname::text, c.relname::text, k.conname::text, pg_catalog.pg_get_constraintdef(k.oid), k.convalidated,
                    c.relkind = 'p', pg_catalog.obj_description(k.oid, 'pg_constraint')
             FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE k.contype = 'f' AND k.conparentid = 0 AND EXISTS (
                SELECT FROM pg_catalog.pg_class x JOIN pg_catalog.pg_namespace xn ON xn.oid = x.relnamespace
                WHERE xn.nspname = $1 AND x.relname = $2 AND x.oid IN (k.conrelid, k.confrelid))
             ORDER BY 1, 2, 3",
            &[&table.schema, &table.name],
        )
        .await
        .map_err(|e| wrap(format!("listing foreign keys of {table} on the target"), &e))?;
    let mut steps = Vec::new();
    for r in &rows {
        let on = TableName::new(r.get::<_, String>(0), r.get::<_, String>(1));
        let (constraint, mut definition): (String, String) = (r.get(2), r.get(3));
        let (validated, partitioned): (bool, bool) = (r.get(4), r.get(5));
        let t = qualified(&on);
        // A partitioned table cannot have an unvalidated foreign key before PostgreSQL 18.
        if validated && !partitioned {
            definition.push_str(" NOT VALID");
            let validate = format!("ALTER TABLE {t} VALIDATE CONSTRAINT {}", quoted(&constraint));
            steps.push(Step {
                kind: "validate",
                table: on.clone(),
                object: constraint.clone(),
                change: String::new(),
                undo: validate,
            });
        }
        let mut undo = format!("ALTER TABLE {t} ADD CONSTRAINT {} {definition}", quoted(&constraint));
        if let Some(comment) = r.get::<_, Option<String>>(6) {
            undo.push_str(&format!("; COMMENT ON CONSTRAINT {} ON {t} IS {}", quoted(&constraint), literal(&comment)));
        }
        steps.push(Step {
            kind: "foreign key",
            change: format!("ALTER TABLE {t} DROP CONSTRAINT {}", quoted(&constraint)),
            table: on,
            object: constraint,
            undo,
        });
    }
    Ok(steps)
}

/// Puts back, newest first, what was taken away, then removes the bookkeeping of migration `name`. Says what it did. Each
/// item is one transaction with its note, so that repeating it after a crash is harmless. Sequences are not touched: they are
/// set at cutover.
///
/// # Errors
/// `Fatal` naming every item that could not be put back (a foreign key that does not hold); the rest is back, and the
/// bookkeeping stays for the next attempt.
pub async fn finish(client: &mut Client, name: &str) -> Result<Vec<String>> {
    if bookkeeping::layout(client).await? == 0 {
        return Ok(vec![]);
    }
    let (mut said, failed) = restore(client, name).await?;
    if !failed.is_empty() {
        return Err(Error::fatal(format!("the target is not yet as it should be: {}", failed.join("; ")))
            .hint("mend what is named on the target, then run finish again; the rest is put back already"));
    }
    let forgotten = bookkeeping::forget(client, name).await?;
    if !forgotten.is_empty() {
        said.push("sequences on the target were left as they are: a cutover sets them, finish does not".into());
    }
    said.extend(forgotten);
    Ok(said)
}

/// Puts back what was taken away; the bookkeeping stays. Returns what was done, and what could not be done.
pub async fn restore(client: &mut Client, name: &str) -> Result<(Vec<String>, Vec<String>)> {
    let doing = "restoring triggers and constraints on the target";
    let notes = client
        .query(
            "SELECT seq, kind, table_schema, table_name, object, statement FROM switchyard.restore WHERE name = $1 ORDER BY seq DESC",
            &[&name],
        )
        .await
        .map_err(|e| wrap(doing, &e))?;
    let (mut said, mut failed) = (Vec::new(), Vec::new());
    let mut missing_keys = Vec::new();
    for r in &notes {
        let (seq, kind, statement): (i64, String, String) = (r.get(0), r.get(1), r.get(5));
        let on = TableName::new(r.get::<_, String>(2), r.get::<_, String>(3));
        let object: String = r.get(4);
        let what = format!("{kind} {object} of {on}");
        if kind == "validate" && missing_keys.contains(&(on.clone(), object.clone())) {
            // Its constraint could not be added, so it waits too.
            continue;
        }
        let delete = format!("DELETE FROM switchyard.restore WHERE name = {} AND seq = {seq}", literal(name));
        let tx = client.transaction().await.map_err(|e| wrap(doing, &e))?;
        tx.batch_execute(LOCK_TIMEOUT).await.map_err(|e| wrap(doing, &e))?;
        let outcome = tx.batch_execute(&statement).await;
        let outcome = match outcome {
            Ok(()) => {
                tx.batch_execute(&delete).await.map_err(|e| wrap(doing, &e))?;
                tx.commit().await.map_err(|e| wrap(doing, &e))?;
                said.push(format!("restored {what}"));
                continue;
            }
            Err(e) => {
                let _ = tx.rollback().await;
                e
            }
        };
        let error = wrap(format!("restoring {what}"), &outcome);
        let gone = match error.code() {
            // The table, trigger or constraint was dropped meanwhile.
            Some("42P01" | "42704" | "42703") => "is gone",
            // Somebody has put it back by hand.
            Some("42710") => "is there already",
            _ if error.is_retry() => return Err(error),
            _ => {
                if kind == "foreign key" {
                    missing_keys.push((on, object));
                }
                failed.push(format!("{} (statement: {statement})", error.message()));
                continue;
            }
        };
        client.batch_execute(&delete).await.map_err(|e| wrap(doing, &e))?;
        said.push(format!("{what} {gone}; left alone"));
    }
    Ok((said, failed))
}
