//! What a partial selection leaves behind of the schema, by name: the dump takes tables and what they need, nothing that
//! needs them.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::catalog::{Catalog, get};
use crate::error::Result;
use crate::pgwire::errors::wrap;

/// Names of one kind that are said; more are counted.
const NAMED: usize = 20;

/// What stays behind where `catalog` holds the chosen tables, in one sentence; `None` if nothing does. Views only where they
/// show something of a chosen table: the others belong to what was not chosen.
///
/// # Errors
/// As the queries.
pub async fn left_behind(client: &Client, catalog: &Catalog) -> Result<Option<String>> {
    // `t` are the chosen tables with their partitions, `need` what these need, as dump_text.rs chooses it, `v` what shows
    // them. A function's body says nothing of what it needs.
    const SQL: &str = "
        WITH RECURSIVE t AS (
          SELECT o AS oid FROM pg_catalog.unnest($1::oid[]) o
          UNION SELECT p.relid FROM pg_catalog.unnest($1::oid[]) o CROSS JOIN LATERAL pg_catalog.pg_partition_tree(o) p),
        need (classid, objid) AS (
          SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::oid, oid FROM t
          UNION
          SELECT x.classid, x.objid FROM need n CROSS JOIN LATERAL (
            SELECT d.refclassid AS classid, d.refobjid AS objid FROM pg_catalog.pg_depend d
             WHERE d.classid = n.classid AND d.objid = n.objid
            UNION ALL
            SELECT d.classid, d.objid FROM pg_catalog.pg_depend d
             WHERE d.refclassid = n.classid AND d.refobjid = n.objid AND d.classid IN ('pg_catalog.pg_attrdef'::pg_catalog.regclass,
               'pg_catalog.pg_constraint'::pg_catalog.regclass, 'pg_catalog.pg_trigger'::pg_catalog.regclass, 'pg_catalog.pg_policy'::pg_catalog.regclass, 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass)
            UNION ALL
            SELECT d.classid, d.objid FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relkind IN ('i', 'I', 'S')
             WHERE d.refclassid = n.classid AND d.refobjid = n.objid AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass) x
           WHERE x.objid >= 16384 AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE x.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = x.objid
                                AND c.relkind IN ('r', 'p', 'f') AND c.oid NOT IN (SELECT oid FROM t))
             AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint f WHERE x.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND f.oid = x.objid
                                AND f.contype = 'f' AND (f.confrelid NOT IN (SELECT oid FROM t) OR f.conrelid NOT IN (SELECT oid FROM t)))),
        v AS (
          SELECT oid FROM t
          UNION SELECT r.ev_class FROM v JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = v.oid
                  AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid)
        SELECT CASE c.relkind WHEN 'm' THEN 'materialized views' ELSE 'views' END, pg_catalog.format('%I.%I', s.nspname, c.relname)
          FROM v JOIN pg_catalog.pg_class c USING (oid) JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace WHERE c.relkind IN ('v', 'm')
           AND NOT EXISTS (SELECT FROM need WHERE classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND objid = c.oid) AND s.nspname <> 'switchyard'
        UNION ALL
        SELECT 'foreign keys', pg_catalog.format('%I of %s', f.conname, f.conrelid::pg_catalog.regclass)
          FROM pg_catalog.pg_constraint f WHERE f.contype = 'f' AND f.conparentid = 0 AND f.conrelid IN (SELECT oid FROM t) AND f.confrelid NOT IN (SELECT oid FROM t)
        UNION ALL
        SELECT 'functions', pg_catalog.format('%I.%I', s.nspname, p.proname)
          FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace s ON s.oid = p.pronamespace
         WHERE s.nspname NOT IN ('information_schema', 'switchyard') AND s.nspname !~ '^pg_'
           AND NOT EXISTS (SELECT FROM need WHERE classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND objid = p.oid)
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND e.objid = p.oid AND e.deptype = 'e')";
    let doing = "looking for what the selection leaves behind at the source";
    let chosen: Vec<u32> = catalog.tables.iter().map(|d| d.oid).collect();
    let sql = format!("SELECT DISTINCT w.kind, w.name FROM ({SQL}) w (kind, name) ORDER BY 1, 2");
    let mut by_kind: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in client.query(&sql, &[&chosen]).await.map_err(|e| wrap(doing, &e))? {
        by_kind.entry(get(&row, 0)?).or_default().push(get(&row, 1)?);
    }
    if by_kind.is_empty() {
        return Ok(None);
    }
    let kinds: Vec<String> = by_kind
        .iter()
        .map(|(kind, names)| {
            let more = names.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{kind} {}{more}", names[..names.len().min(NAMED)].join(", "))
        })
        .collect();
    Ok(Some(format!("only chosen tables and what they need come along; these stay behind: {}", kinds.join("; "))))
}
