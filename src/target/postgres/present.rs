//! What of a schema script the target has, and what its tables have beyond it: by name, and whether it is valid.

use std::collections::{HashMap, HashSet};

use tokio_postgres::Client;

use crate::error::Result;
use crate::exchange::SchemaDifference;
use crate::pgwire::errors::wrap;
use crate::schema::{SchemaObject, SchemaScript, TableName};

/// Indexes, constraints and triggers of tables: table's schema and name, kind, name, whether it is valid, and whether something
/// else made it (an index its constraint, a partition's its parent's).
const OBJECTS: &str = "
WITH t AS (SELECT c.oid, w.s, w.r FROM unnest($1::text[], $2::text[]) AS w (s, r)
           JOIN pg_catalog.pg_namespace n ON n.nspname = w.s
           JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.r AND c.relkind IN ('r', 'p'))
SELECT t.s, t.r, 'table', t.r, true, false FROM t
UNION ALL
SELECT t.s, t.r, 'index', x.relname::text, i.indisvalid,
       EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conindid = i.indexrelid AND k.conrelid = t.oid)
         OR x.relispartition
FROM t JOIN pg_catalog.pg_index i ON i.indrelid = t.oid JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
UNION ALL
SELECT t.s, t.r, CASE k.contype WHEN 'f' THEN 'foreign_key' ELSE 'constraint' END, k.conname::text, k.convalidated,
       k.conparentid <> 0 OR k.contype NOT IN ('p', 'u', 'x', 'f', 'c')
FROM t JOIN pg_catalog.pg_constraint k ON k.conrelid = t.oid
UNION ALL
SELECT t.s, t.r, 'trigger', g.tgname::text, true, g.tgisinternal OR g.tgname LIKE 'switchyard%'
FROM t JOIN pg_catalog.pg_trigger g ON g.tgrelid = t.oid";

/// Compares the objects of these tables of the script, by the target's names.
pub async fn differences(
    client: &Client,
    script: &SchemaScript,
    tables: &[TableName],
) -> Result<Vec<SchemaDifference>> {
    let schemas: Vec<&str> = tables.iter().map(|t| t.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|t| t.name.as_str()).collect();
    let rows = client
        .query(OBJECTS, &[&schemas, &names])
        .await
        .map_err(|e| wrap("listing what belongs to the target's tables", &e))?;
    let mut there: HashMap<(TableName, String, String), (bool, bool)> = HashMap::new();
    for r in rows {
        let table = TableName::new(r.get::<_, String>(0), r.get::<_, String>(1));
        there.insert((table, r.get(2), r.get(3)), (r.get(4), r.get(5)));
    }
    let mut out = Vec::new();
    let mut expected = HashSet::new();
    for object in &script.objects {
        let Some((table, kind, name)) = expect(object, tables) else { continue };
        let found = there.get(&(table.clone(), kind.to_owned(), name.clone()));
        let what = match found {
            None => "missing",
            Some((false, _)) => "invalid",
            Some((true, _)) => "",
        };
        if !what.is_empty() {
            out.push(SchemaDifference { table: table.to_string(), kind: format!("{what}_{kind}"), name: name.clone() });
        }
        expected.insert((table, kind.to_owned(), name));
    }
    for (key, (_, derived)) in there {
        if !derived && !expected.contains(&key) {
            let (table, kind, name) = key;
            out.push(SchemaDifference { table: table.to_string(), kind: format!("extra_{kind}"), name });
        }
    }
    out.sort();
    Ok(out)
}

/// The table, kind and name of an object that is looked for.
fn expect(o: &SchemaObject, tables: &[TableName]) -> Option<(TableName, &'static str, String)> {
    // Constraints and triggers are named `table name` in a dump.
    let of_table = || {
        let of = |t: &&TableName| t.schema == o.schema && o.name.starts_with(&format!("{} ", t.name));
        // The longest: names may begin with each other's.
        let table = tables.iter().filter(of).max_by_key(|t| t.name.len())?;
        Some((table.clone(), o.name[table.name.len() + 1..].to_owned()))
    };
    let kind = match o.kind.as_str() {
        "TABLE" => {
            let table = tables.iter().find(|t| t.schema == o.schema && t.name == o.name)?;
            return Some((table.clone(), "table", o.name.clone()));
        }
        "INDEX" => {
            // Its table is known by the source's name, which is the target's unless the schema is another one.
            let table = o.table.as_ref()?;
            let table = tables.iter().find(|t| t.name == table.name && t.schema == o.schema)?;
            return Some((table.clone(), "index", o.name.clone()));
        }
        "CONSTRAINT" | "CHECK CONSTRAINT" => "constraint",
        "FK CONSTRAINT" => "foreign_key",
        "TRIGGER" => "trigger",
        _ => return None,
    };
    of_table().map(|(table, name)| (table, kind, name))
}
