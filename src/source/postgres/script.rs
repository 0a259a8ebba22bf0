//! The schema from the catalog alone, for where no `pg_dump` is new enough: tables and all that belongs to them, but no
//! views, functions, triggers, rules or policies.

use std::collections::HashMap;

use tokio_postgres::Client;

use super::catalog::{Catalog, get};
use crate::error::Result;
use crate::pgwire::errors::wrap;
use crate::schema::{SchemaObject, SchemaScript, Stage, TableName};

const SQL: &str = include_str!("script.sql");

/// What such a script leaves behind, for people.
pub const NOT_BROUGHT: &str =
    "views, materialized views, functions, triggers, rules, policies and statistics objects were not brought";

/// Writes the schema of the selected tables. `everything`: sequences that belong to no table, too.
pub async fn script(client: &Client, catalog: &Catalog, everything: bool) -> Result<SchemaScript> {
    let doing = "writing the source's schema from its catalog";
    let mut wanted: Vec<u32> = catalog.tables.iter().map(|t| t.oid).collect();
    // Partitions below, and the tables that columns are inherited from.
    const TREE: &str = "WITH RECURSIVE down AS (SELECT unnest($1::oid[]) AS oid UNION \
           SELECT i.inhrelid FROM down JOIN pg_catalog.pg_inherits i ON i.inhparent = down.oid \
             JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid AND c.relispartition), \
         up AS (SELECT oid FROM down UNION SELECT i.inhparent FROM up JOIN pg_catalog.pg_inherits i ON i.inhrelid = up.oid \
             JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid AND NOT c.relispartition) \
         SELECT up.oid, n.nspname::text, c.relname::text, \
                (SELECT i.inhparent FROM pg_catalog.pg_inherits i WHERE c.relispartition AND i.inhrelid = c.oid) \
           FROM up JOIN pg_catalog.pg_class c ON c.oid = up.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
          WHERE c.relkind IN ('r', 'p')";
    let rows = client.query(TREE, &[&wanted]).await.map_err(|e| wrap(doing, &e))?;
    let mut names: HashMap<u32, TableName> = HashMap::new();
    let mut parent: HashMap<u32, u32> = HashMap::new();
    for row in &rows {
        let oid = get(row, 0)?;
        names.insert(oid, TableName::new(get::<String>(row, 1)?, get::<String>(row, 2)?));
        if let Some(p) = get::<Option<u32>>(row, 3)? {
            parent.insert(oid, p);
        }
    }
    let roots: HashMap<&TableName, &TableName> = names
        .iter()
        .map(|(oid, name)| {
            let mut at = *oid;
            while let Some(p) = parent.get(&at).filter(|p| names.contains_key(p)) {
                at = *p;
            }
            (name, names.get(&at).unwrap_or(name))
        })
        .collect();
    wanted = names.keys().copied().collect();
    wanted.sort_unstable();
    let mut objects = Vec::new();
    for row in client.query(SQL, &[&wanted, &everything]).await.map_err(|e| wrap(doing, &e))? {
        let table = match (get::<Option<String>>(&row, 3)?, get::<Option<String>>(&row, 4)?) {
            (Some(schema), Some(name)) => {
                let name = TableName { schema, name };
                Some(roots.get(&name).map_or(name.clone(), |r| (*r).clone()))
            }
            _ => None,
        };
        objects.push(SchemaObject {
            kind: get(&row, 0)?,
            schema: get(&row, 1)?,
            name: get(&row, 2)?,
            table,
            stage: match get::<&str>(&row, 5)? {
                "t" => Stage::TableCopied,
                "c" => Stage::Consistent,
                _ => Stage::BeforeCopy,
            },
            sql: get(&row, 6)?,
        });
    }
    Ok(SchemaScript {
        dialect: "postgres".into(),
        preamble:
            "SET client_encoding = 'UTF8';\nSET standard_conforming_strings = on;\nSET check_function_bodies = false;\n\
             SELECT pg_catalog.set_config('search_path', '', false);"
                .into(),
        objects,
        made_by: "catalog".into(),
        ..SchemaScript::default()
    })
}
