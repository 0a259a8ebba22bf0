//! The selected tables in words that no engine owns, for targets of another engine, in a fixed number of queries.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio_postgres::Client;

use super::catalog::get;
use super::default_value::classify;
use crate::definition::{ColumnDef, DefaultValue, ForeignAction, ForeignKeyDef, IndexDef, KeyColumn, TableDef};
use crate::error::Result;
use crate::pgwire::errors::wrap;
use crate::schema::{Table, TableName};

/// What belongs to a table besides columns and keys: its comment, and what no other engine can make of it.
const TABLES: &str = "
SELECT c.oid, n.nspname::text, c.relname::text, pg_catalog.obj_description(c.oid, 'pg_class'),
       ARRAY(
         SELECT 'it is partitioned by ' || pg_catalog.pg_get_partkeydef(c.oid) WHERE c.relkind = 'p'
         UNION ALL SELECT 'it inherits from ' || pg_catalog.string_agg(i.inhparent::pg_catalog.regclass::text, ', ' ORDER BY i.inhseqno)
           FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid AND NOT c.relispartition HAVING count(*) > 0
         UNION ALL (SELECT pg_catalog.format('trigger %I', g.tgname) FROM pg_catalog.pg_trigger g
           WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgname <> 'switchyard_truncate' ORDER BY g.tgname)
         UNION ALL (SELECT pg_catalog.format('rule %I', r.rulename) FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid ORDER BY r.rulename)
         UNION ALL (SELECT pg_catalog.format('policy %I', p.polname) FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid ORDER BY p.polname)
         UNION ALL SELECT 'row security' WHERE c.relrowsecurity)
FROM unnest($1::text[], $2::text[]) AS w (s, r)
JOIN pg_catalog.pg_namespace n ON n.nspname = w.s
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.r AND c.relkind IN ('r', 'p')";

const COMMENTS: &str = "
SELECT d.objoid, a.attname::text, d.description FROM pg_catalog.pg_description d
JOIN pg_catalog.pg_attribute a ON a.attrelid = d.objoid AND a.attnum = d.objsubid
WHERE d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objsubid > 0 AND d.objoid = ANY ($1::oid[])";

/// Indexes and the constraints that they carry. `indoption` has a bit for DESC; `indnullsnotdistinct` came with 15.
const INDEXES: &str = "
SELECT i.indrelid, x.relname::text, i.indisprimary, i.indisunique, m.amname::text, k.contype::text, k.condeferrable,
       ARRAY(SELECT COALESCE(a.attname::text, '') FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) n
             LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[n] AND a.attnum > 0 ORDER BY n),
       ARRAY(SELECT i.indoption[n] & 1 = 1 FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) n ORDER BY n),
       COALESCE((pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false),
       pg_catalog.pg_get_expr(i.indpred, i.indrelid), i.indexprs IS NOT NULL, pg_catalog.pg_get_indexdef(i.indexrelid)
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid JOIN pg_catalog.pg_am m ON m.oid = x.relam
LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u', 'x')
JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
WHERE i.indrelid = ANY ($1::oid[]) AND i.indislive AND (i.indisvalid OR t.relkind = 'p')
ORDER BY i.indrelid, NOT i.indisunique, x.relname";

const CONSTRAINTS: &str = "
SELECT k.conrelid, k.conname::text, k.contype::text, pg_catalog.pg_get_expr(k.conbin, k.conrelid), fn.nspname::text, f.relname::text,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u (n, o)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n ORDER BY u.o),
       ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u (n, o)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.n ORDER BY u.o),
       k.confdeltype::text, k.confupdtype::text, k.convalidated
FROM pg_catalog.pg_constraint k LEFT JOIN pg_catalog.pg_class f ON f.oid = k.confrelid
LEFT JOIN pg_catalog.pg_namespace fn ON fn.oid = f.relnamespace
WHERE k.conrelid = ANY ($1::oid[]) AND k.contype IN ('f', 'c') AND k.conparentid = 0
ORDER BY k.conrelid, k.contype, k.conname";

/// The definitions of `tables`, in their order. A table that is gone meanwhile is left out.
///
/// # Errors
/// As the queries.
pub async fn definitions(client: &Client, tables: &[Arc<Table>]) -> Result<Vec<TableDef>> {
    let doing = "reading the source's tables for a target of another engine";
    let selected: HashSet<&TableName> = tables.iter().map(|t| &t.name).collect();
    let schemas: Vec<&str> = tables.iter().map(|t| t.name.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|t| t.name.name.as_str()).collect();
    let by_name: HashMap<&TableName, &Arc<Table>> = tables.iter().map(|t| (&t.name, t)).collect();
    let mut defs: HashMap<u32, TableDef> = HashMap::new();
    for row in client.query(TABLES, &[&schemas, &names]).await.map_err(|e| wrap(doing, &e))? {
        let name = TableName::new(get::<String>(&row, 1)?, get::<String>(&row, 2)?);
        let Some(table) = by_name.get(&name) else { continue };
        defs.insert(
            get(&row, 0)?,
            TableDef {
                columns: columns(table),
                name,
                primary_key: Vec::new(),
                indexes: Vec::new(),
                foreign_keys: Vec::new(),
                checks: Vec::new(),
                comment: get(&row, 3)?,
                left_behind: get(&row, 4)?,
            },
        );
    }
    let oids: Vec<u32> = defs.keys().copied().collect();
    for row in client.query(COMMENTS, &[&oids]).await.map_err(|e| wrap(doing, &e))? {
        let (oid, column): (u32, String) = (get(&row, 0)?, get(&row, 1)?);
        let of = defs.get_mut(&oid).and_then(|d| d.columns.iter_mut().find(|c| c.name == column));
        if let Some(column) = of {
            column.comment = Some(get(&row, 2)?);
        }
    }
    for row in client.query(INDEXES, &[&oids]).await.map_err(|e| wrap(doing, &e))? {
        let Some(def) = defs.get_mut(&get(&row, 0)?) else { continue };
        let (name, primary): (String, bool) = (get(&row, 1)?, get(&row, 2)?);
        if get::<Option<&str>>(&row, 5)? == Some("x") {
            def.left_behind.push(format!("exclusion constraint {name}"));
            continue;
        }
        let (columns, down): (Vec<String>, Vec<bool>) = (get(&row, 7)?, get(&row, 8)?);
        let columns: Vec<KeyColumn> = (columns.into_iter().zip(down))
            .map(|(name, descending)| KeyColumn { name, descending, prefix: None })
            .collect();
        if primary {
            def.primary_key = columns;
            continue;
        }
        let (predicate, computes): (Option<String>, bool) = (get(&row, 10)?, get(&row, 11)?);
        let peculiar = match predicate {
            Some(p) => Some(format!("WHERE {p}")),
            None if computes => Some(get(&row, 12)?),
            None => get::<Option<bool>>(&row, 6)?.unwrap_or(false).then(|| "DEFERRABLE".to_owned()),
        };
        let method: String = get(&row, 4)?;
        def.indexes.push(IndexDef {
            name,
            columns,
            unique: get(&row, 3)?,
            nulls_equal: get(&row, 9)?,
            method: (method != "btree").then_some(method),
            peculiar,
        });
    }
    for row in client.query(CONSTRAINTS, &[&oids]).await.map_err(|e| wrap(doing, &e))? {
        let Some(def) = defs.get_mut(&get(&row, 0)?) else { continue };
        let name: String = get(&row, 1)?;
        if get::<&str>(&row, 2)? == "c" {
            match (get::<Option<String>>(&row, 3)?, get::<bool>(&row, 10)?) {
                (Some(condition), true) => def.checks.push((name, condition)),
                _ => def.left_behind.push(format!("check {name}, which was never validated")),
            }
            continue;
        }
        let (schema, table): (Option<String>, Option<String>) = (get(&row, 4)?, get(&row, 5)?);
        let references = TableName::new(schema.unwrap_or_default(), table.unwrap_or_default());
        if !selected.contains(&references) {
            def.left_behind.push(format!("foreign key {name} to {references}, which does not take part"));
            continue;
        }
        def.foreign_keys.push(ForeignKeyDef {
            name,
            columns: get(&row, 6)?,
            references,
            referenced: get(&row, 7)?,
            on_delete: action(get(&row, 8)?),
            on_update: action(get(&row, 9)?),
        });
    }
    let mut by_name: HashMap<TableName, TableDef> = defs.into_values().map(|d| (d.name.clone(), d)).collect();
    Ok(tables.iter().filter_map(|t| by_name.remove(&t.name)).collect())
}

/// `confdeltype`, `confupdtype`.
fn action(letter: &str) -> ForeignAction {
    match letter {
        "r" => ForeignAction::Restrict,
        "c" => ForeignAction::Cascade,
        "n" => ForeignAction::SetNull,
        "d" => ForeignAction::SetDefault,
        _ => ForeignAction::NoAction,
    }
}

fn columns(table: &Table) -> Vec<ColumnDef> {
    let mut all: Vec<(&crate::schema::Column, bool)> =
        table.columns.iter().map(|c| (c, true)).chain(table.generated.iter().map(|c| (c, false))).collect();
    all.sort_by_key(|(c, _)| c.number);
    all.into_iter()
        .map(|(c, travels)| {
            let (default, numbered) = match &c.default {
                Some(expression) if travels => classify(expression, &c.data),
                _ => (DefaultValue::None, false),
            };
            ColumnDef {
                name: c.name.clone(),
                data: c.data.clone(),
                type_name: c.type_name.clone(),
                nullable: c.nullable,
                default,
                numbered: numbered || c.identity.is_some(),
                generated: if travels { None } else { c.default.clone() },
                travels,
                comment: None,
            }
        })
        .collect()
}
