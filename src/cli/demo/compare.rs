//! Compares source and target of the demo, on its own and not by Switchyard's verification: a second opinion.

use std::collections::{BTreeMap, BTreeSet};

use super::side::{self, Engine, Session, TextRow};
use crate::error::{Error, Result};
use crate::pgwire::quote::qualified;
use crate::schema::TableName;

/// How many differing rows of a table are named.
const NAMED: usize = 5;

/// A table on both sides.
#[derive(Debug)]
pub struct Compared {
    /// Its name.
    pub table: String,
    /// Rows at the source.
    pub source_rows: i64,
    /// Rows at the target.
    pub target_rows: i64,
    /// What differs, a line each; empty if both sides are equal.
    pub differences: Vec<String>,
}

/// Every table of the source, partitioned ones as a whole, compared by the md5 of every row's text form. `tell` is told of
/// each as soon as it was compared.
///
/// # Errors
/// If a side cannot be read; a table that the target does not have is a difference.
pub async fn tables(
    source: &mut Session,
    target: &mut Session,
    mut tell: impl FnMut(&Compared),
) -> Result<Vec<Compared>> {
    let sql = "SELECT n.nspname::text, c.relname::text,
            array_to_string(ARRAY(
                  SELECT format('whole_row.%I::text', a.attname)
                  FROM pg_catalog.pg_index i, unnest(i.indkey) WITH ORDINALITY k(n, o)
                  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.n
                  WHERE i.indrelid = c.oid AND i.indisprimary ORDER BY k.o), ', ')
          FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p'
           AND n.nspname NOT IN ('information_schema', 'switchyard') AND n.nspname !~ '^pg_' ORDER BY 1, 2";
    for side in [&mut *source, &mut *target] {
        // Rows are compared in order; sorted in memory they are compared sooner.
        side.run("preparing to compare", "SET work_mem = '128MB'").await?;
    }
    let mut out = Vec::new();
    for row in ask(source, "source", sql).await? {
        let table = TableName::new(side::text(&row, 0)?, side::text(&row, 1)?);
        let compared = one(source, target, table, side::text(&row, 2)?).await?;
        tell(&compared);
        out.push(compared);
    }
    Ok(out)
}

async fn one(source: &mut Session, target: &mut Session, table: TableName, key: &str) -> Result<Compared> {
    // The order of md5s is the same everywhere; equal rows stay as many as they are.
    let sql = format!(
        "SELECT count(*), coalesce(md5(string_agg(h, '' ORDER BY h COLLATE \"C\")), '') \
         FROM (SELECT md5(whole_row::text) AS h FROM {} AS whole_row) AS hashes",
        qualified(&table)
    );
    let (left, right) = tokio::join!(ask(source, "source", &sql), ask(target, "target", &sql));
    let left = first(left?)?;
    let (source_rows, source_hash): (i64, &str) = (side::number(&left, 0)?, side::text(&left, 1)?);
    let right = match right {
        Ok(rows) => first(rows)?,
        Err(e) if e.code() == Some("42P01") => {
            let differences = vec!["the target has no such table".to_owned()];
            return Ok(Compared { table: table.to_string(), source_rows, target_rows: 0, differences });
        }
        Err(e) => return Err(e),
    };
    let (target_rows, target_hash): (i64, &str) = (side::number(&right, 0)?, side::text(&right, 1)?);
    let mut differences = Vec::new();
    if (source_rows, source_hash) != (target_rows, target_hash) {
        differences = name_rows(source, target, &table, key).await?;
        // Different by digest, and no row was found: the sides changed meanwhile. That is a difference, too.
        if differences.is_empty() {
            differences.push("the digests differ".to_owned());
        }
    }
    Ok(Compared { table: table.to_string(), source_rows, target_rows, differences })
}

/// Which rows differ, by key.
async fn name_rows(source: &mut Session, target: &mut Session, table: &TableName, key: &str) -> Result<Vec<String>> {
    let columns = match key {
        "" => "'(no key)'".to_owned(),
        key => format!("concat_ws(', ', {key})"),
    };
    let sql = format!("SELECT md5(whole_row::text), {columns} FROM {} AS whole_row", qualified(table));
    let (left, right) = tokio::join!(ask(source, "source", &sql), ask(target, "target", &sql));
    let mut balance = Balance::new();
    for (rows, one) in [(left?, 1), (right?, -1)] {
        for row in rows {
            *balance.entry((side::text(&row, 1)?.to_owned(), side::text(&row, 0)?.to_owned())).or_default() += one;
        }
    }
    Ok(named(&balance))
}

/// Rows by key and digest: those of the source less those of the target.
pub type Balance = BTreeMap<(String, String), i64>;

/// The first few keys that are out of balance, a line each.
pub fn named(balance: &Balance) -> Vec<String> {
    let mut by_key: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for ((key, _), n) in balance.iter().filter(|(_, n)| **n != 0) {
        let (source, target) = by_key.entry(key).or_default();
        *source += n.max(&0);
        *target -= n.min(&0);
    }
    let mut out: Vec<String> = by_key
        .iter()
        .take(NAMED)
        .map(|(key, sides)| match sides {
            (n, 0) => format!("{key}: missing at the target, {n}"),
            (0, n) => format!("{key}: only at the target, {n}"),
            _ => format!("{key}: different"),
        })
        .collect();
    if by_key.len() > NAMED {
        out.push(format!("and {} more keys", by_key.len() - NAMED));
    }
    out
}

/// What the schemas have that the other one has not: columns, keys, indexes, views, functions, triggers, comments.
#[derive(Debug)]
pub struct Definitions {
    /// Objects that were compared.
    pub count: usize,
    /// At the source only.
    pub missing: Vec<String>,
    /// At the target only.
    pub extra: Vec<String>,
}

/// Compares definitions, as each server prints them.
///
/// # Errors
/// If a side cannot be read.
pub async fn definitions(source: &mut Session, target: &mut Session) -> Result<Definitions> {
    const SQL: &str = "
        WITH s AS (SELECT oid FROM pg_catalog.pg_namespace
                   WHERE nspname NOT IN ('information_schema', 'switchyard') AND nspname !~ '^pg_'),
             t AS (SELECT c.* FROM pg_catalog.pg_class c JOIN s ON s.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v'))
        SELECT 'column ' || t.oid::regclass || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) ||
               CASE WHEN a.attnotnull THEN ' not null' ELSE '' END || ' ' || a.attidentity::text || a.attgenerated::text ||
               coalesce(' ' || pg_get_expr(d.adbin, d.adrelid), '')
          FROM t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
          LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = t.oid AND d.adnum = a.attnum
        UNION ALL SELECT 'identity ' || t.oid::regclass || ' ' || t.relreplident::text FROM t WHERE t.relkind <> 'v'
        UNION ALL SELECT 'constraint ' || coalesce(t.oid::regclass::text, '') || ' ' || k.conname || ' ' || pg_get_constraintdef(k.oid)
          FROM pg_catalog.pg_constraint k JOIN s ON s.oid = k.connamespace LEFT JOIN t ON t.oid = k.conrelid
        UNION ALL SELECT 'index ' || pg_get_indexdef(i.indexrelid) FROM pg_catalog.pg_index i JOIN t ON t.oid = i.indrelid
        UNION ALL SELECT 'trigger ' || t.oid::regclass || ' ' || pg_get_triggerdef(g.oid)
          FROM pg_catalog.pg_trigger g JOIN t ON t.oid = g.tgrelid WHERE NOT g.tgisinternal
        UNION ALL SELECT 'view ' || t.oid::regclass || ' ' || pg_get_viewdef(t.oid) FROM t WHERE t.relkind = 'v'
        UNION ALL SELECT 'function ' || pg_get_functiondef(p.oid) FROM pg_catalog.pg_proc p JOIN s ON s.oid = p.pronamespace
        UNION ALL SELECT 'comment on ' || pg_describe_object(d.classoid, d.objoid, d.objsubid) || ': ' || d.description
          FROM pg_catalog.pg_description d WHERE d.objoid IN (SELECT oid FROM t UNION ALL
               SELECT p.oid FROM pg_catalog.pg_proc p JOIN s ON s.oid = p.pronamespace)";
    let (left, right) = tokio::join!(ask(source, "source", SQL), ask(target, "target", SQL));
    held(left?, right?)
}

/// Compares lists of definitions.
///
/// # Errors
/// If a row is empty.
pub fn held(left: Vec<TextRow>, right: Vec<TextRow>) -> Result<Definitions> {
    let set = |rows: Vec<TextRow>| rows.iter().map(|row| Ok(side::text(row, 0)?.to_owned())).collect::<Result<_>>();
    let (left, right): (BTreeSet<String>, BTreeSet<String>) = (set(left)?, set(right)?);
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| {
        let first_line = |text: &String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        a.difference(b).map(first_line).collect::<Vec<_>>()
    };
    Ok(Definitions { count: left.len(), missing: only(&left, &right), extra: only(&right, &left) })
}

/// What of a migration is still there: slots, publications, event triggers, the bookkeeping. (A reader of a
/// binary log is not looked for: the server notices only with the next event that it has gone.)
///
/// # Errors
/// If the server cannot be asked.
pub async fn leftovers(session: &mut Session, side: &str) -> Result<Vec<String>> {
    const PG: &str = "SELECT 'replication slot ' || slot_name FROM pg_catalog.pg_replication_slots
        UNION ALL SELECT 'publication ' || pubname FROM pg_catalog.pg_publication
        UNION ALL SELECT 'event trigger ' || evtname FROM pg_catalog.pg_event_trigger
        UNION ALL SELECT 'schema ' || nspname FROM pg_catalog.pg_namespace WHERE nspname = 'switchyard'";
    const MY: &str =
        "SELECT CONCAT('database ', schema_name) FROM information_schema.schemata WHERE schema_name = 'switchyard'";
    let sql = if session.engine() == Engine::Postgres { PG } else { MY };
    ask(session, side, sql).await?.iter().map(|row| Ok(format!("{side}: {}", side::text(row, 0)?))).collect()
}

/// The rows of a query; in an error `side` says where.
///
/// # Errors
/// As the server says.
pub async fn ask(session: &mut Session, side: &str, sql: &str) -> Result<Vec<TextRow>> {
    session.rows(&format!("comparing: reading the {side}"), sql).await
}

fn first(rows: Vec<TextRow>) -> Result<TextRow> {
    rows.into_iter().next().ok_or_else(|| Error::fatal("comparing: a count came back without a row"))
}
