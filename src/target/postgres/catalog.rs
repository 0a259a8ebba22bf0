//! Tables as the target's catalog describes them.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::Client;

use super::statements::Equality;
use crate::error::{Error, Result};
use crate::pgwire::{control, errors::wrap, types};
use crate::schema::{Column, Identity, RowIdentity, Table, TableId, TableName};

/// Columns of tables. (`unnest` of two arrays is grammar, not a function: it must stand without schema.)
const COLUMNS: &str = "
SELECT c.oid, n.nspname::text, c.relname::text, c.relreplident::text, a.attname::text, a.attnum::int4,
       pg_catalog.format_type(a.atttypid, a.atttypmod), a.atttypid, a.atttypmod,
       a.attnotnull, a.attidentity::text, a.attgenerated::text, pg_catalog.pg_get_expr(d.adbin, d.adrelid),
       (SELECT pg_catalog.quote_ident(cn.nspname) || '.' || pg_catalog.quote_ident(co.collname)
        FROM pg_catalog.pg_collation co JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace
        WHERE co.oid = a.attcollation AND a.attcollation <> t.typcollation),
       c.relkind = 'p'
FROM unnest($1::text[], $2::text[]) AS w (s, r)
JOIN pg_catalog.pg_namespace n ON n.nspname = w.s
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.r AND c.relkind IN ('r', 'p')
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
ORDER BY c.oid, a.attnum";

/// Unique and exclusion indexes: whether each could find a row (valid, immediate, whole, plain columns, none nullable).
const KEYS: &str = "
SELECT i.indrelid, i.indisprimary,
       i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
         AND NOT EXISTS (SELECT FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) k
             JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k] WHERE NOT a.attnotnull),
       (SELECT pg_catalog.array_agg(i.indkey[k]::int4 ORDER BY k) FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) k)
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
WHERE i.indrelid = ANY ($1) AND (i.indisunique OR i.indisexclusion)
ORDER BY i.indrelid, i.indisprimary DESC, i.indisreplident DESC, i.indnkeyatts, x.relname";

/// Rows and bytes, partitions counted with their root.
const SIZES: &str = "
SELECT r.oid, COALESCE(pg_catalog.sum(GREATEST(c.reltuples, 0)), 0)::float8, COALESCE(pg_catalog.sum(pg_catalog.pg_relation_size(c.oid)), 0)::int8,
       EXISTS (SELECT FROM pg_catalog.pg_partition_tree(r.oid) p JOIN pg_catalog.pg_index i ON i.indrelid = p.relid
               JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
               WHERE p.relid <> r.oid AND (i.indisunique OR i.indisexclusion) AND NOT x.relispartition)
FROM pg_catalog.unnest($1::oid[]) AS r (oid)
JOIN LATERAL (SELECT r.oid AS relid UNION SELECT p.relid::oid FROM pg_catalog.pg_partition_tree(r.oid) p) t ON true
JOIN pg_catalog.pg_class c ON c.oid = t.relid
GROUP BY r.oid";

/// The tables of these names as the target has them, in the same order; a missing one is `None`. Each table's id is its
/// place in `names`. What finds a row is the primary key, else the replica identity's index, else the smallest usable
/// unique index.
pub async fn tables(client: &Client, names: &[TableName]) -> Result<Vec<Option<Arc<Table>>>> {
    let doing = "reading the target's tables";
    let schemas: Vec<&str> = names.iter().map(|t| t.schema.as_str()).collect();
    let tables: Vec<&str> = names.iter().map(|t| t.name.as_str()).collect();
    let rows = client.query(COLUMNS, &[&schemas, &tables]).await.map_err(|e| wrap(doing, &e))?;
    let user = control::user_types(client, "target").await?;
    let mut found: HashMap<u32, Table> = HashMap::new();
    for r in &rows {
        let oid: u32 = r.get(0);
        let table = found.entry(oid).or_insert_with(|| Table {
            id: TableId(0),
            name: TableName::new(r.get::<_, String>(1), r.get::<_, String>(2)),
            columns: Vec::new(),
            generated: Vec::new(),
            identity: RowIdentity::None,
            full_old_rows: r.get::<_, String>(3) == "f",
            full_old_rows_by: String::new(),
            has_secondary_unique: false,
            partitioned: r.get::<_, bool>(14),
            estimated_rows: 0,
            bytes: 0,
        });
        // A table may have no columns at all.
        let Some(name) = r.get::<_, Option<String>>(4) else { continue };
        // A column that was dropped since the query began has no type.
        let type_oid = r.get::<_, Option<u32>>(7).unwrap_or(0);
        let column = Column {
            name,
            number: r.get(5),
            type_name: r.get(6),
            kind: types::kind(type_oid, &user),
            nullable: !r.get::<_, Option<bool>>(9).unwrap_or(false),
            identity: match r.get::<_, String>(10).as_str() {
                "a" => Some(Identity::Always),
                "d" => Some(Identity::ByDefault),
                _ => None,
            },
            default: r.get(12),
            collation: r.get(13),
            data: types::data_type(type_oid, r.get::<_, Option<i32>>(8).unwrap_or(-1), &user),
            portable_binary: types::portable_binary(type_oid, &user),
        };
        if r.get::<_, String>(11).is_empty() {
            table.columns.push(column);
        } else {
            table.generated.push(column);
        }
    }
    let oids: Vec<u32> = found.keys().copied().collect();
    for t in found.values_mut().filter(|t| t.full_old_rows) {
        t.identity = RowIdentity::AllColumns;
    }
    let mut keyed: HashMap<u32, usize> = HashMap::new();
    for r in client.query(KEYS, &[&oids]).await.map_err(|e| wrap(doing, &e))? {
        let (oid, usable): (u32, bool) = (r.get(0), r.get(2));
        let numbers: Vec<i32> = r.get(3);
        let Some(t) = found.get_mut(&oid) else { continue };
        let columns: Option<Vec<usize>> =
            numbers.iter().map(|n| t.columns.iter().position(|c| c.number == *n)).collect();
        match columns {
            Some(columns) if usable && !keyed.contains_key(&oid) => {
                t.identity = RowIdentity::Key(columns);
                keyed.insert(oid, 1);
            }
            _ => t.has_secondary_unique = true,
        }
    }
    for r in client.query(SIZES, &[&oids]).await.map_err(|e| wrap(doing, &e))? {
        let Some(t) = found.get_mut(&r.get::<_, u32>(0)) else { continue };
        t.estimated_rows = r.get::<_, f64>(1) as u64;
        t.bytes = r.get::<_, i64>(2) as u64;
        t.has_secondary_unique |= r.get::<_, bool>(3);
    }
    let mut by_name: HashMap<TableName, Table> = found.into_values().map(|t| (t.name.clone(), t)).collect();
    Ok(names
        .iter()
        .enumerate()
        .map(|(i, n)| {
            let t = by_name.get_mut(n)?;
            t.id = TableId(i as u32);
            Some(Arc::new(t.clone()))
        })
        .collect())
}

/// One table, or `None`.
pub async fn table(client: &Client, name: &TableName) -> Result<Option<Arc<Table>>> {
    Ok(tables(client, std::slice::from_ref(name)).await?.pop().flatten())
}

/// How the columns of the table's key are compared; empty where a plain `=` does, which is asked for without a query.
pub async fn key_equality(client: &Client, table: &Table) -> Result<Vec<Option<Equality>>> {
    const SQL: &str = "
SELECT a.attname::text, pg_catalog.format_type(b.base, NULL),
       'OPERATOR(' || pg_catalog.quote_ident(o.nspname) || '.' || o.oprname || ')'
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = ANY ($3)
JOIN LATERAL (
    WITH RECURSIVE up (oid, typtype, below) AS (
        SELECT t.oid, t.typtype, t.typbasetype FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid
        UNION ALL SELECT p.oid, p.typtype, p.typbasetype FROM up JOIN pg_catalog.pg_type p ON p.oid = up.below AND up.typtype = 'd')
    SELECT oid AS base FROM up WHERE typtype <> 'd'
) b ON true
JOIN LATERAL (
    SELECT o.oprname, s.nspname
    FROM pg_catalog.pg_index i, unnest(i.indkey::int2[], i.indclass::oid[]) AS k (attnum, opclass)
    JOIN pg_catalog.pg_opclass f ON f.oid = k.opclass
    JOIN pg_catalog.pg_amop m ON m.amopfamily = f.opcfamily AND m.amopstrategy = 3
         AND m.amoplefttype = f.opcintype AND m.amoprighttype = f.opcintype
    JOIN pg_catalog.pg_operator o ON o.oid = m.amopopr JOIN pg_catalog.pg_namespace s ON s.oid = o.oprnamespace
    WHERE i.indrelid = c.oid AND i.indisunique AND k.attnum = a.attnum ORDER BY i.indisprimary DESC LIMIT 1
) o ON true
WHERE n.nspname = $1 AND c.relname = $2";
    let names: Vec<&str> = table.key().iter().map(|&k| table.columns[k].name.as_str()).collect();
    // Types that are built in are printed without schema, and are compared by operators that are always found.
    if !table.key().iter().any(|&k| table.columns[k].type_name.contains('.')) {
        return Ok(Vec::new());
    }
    let rows = client
        .query(SQL, &[&table.name.schema, &table.name.name, &names])
        .await
        .map_err(|e| wrap(format_args!("reading how the key of {} is compared on the target", table.name), &e))?;
    let mut by_name: HashMap<String, Equality> =
        rows.iter().map(|r| (r.get(0), Equality { base: r.get(1), operator: r.get(2) })).collect();
    Ok(names.iter().map(|n| by_name.remove(*n)).collect())
}

/// What `expected` has and the target lacks, in words; empty if nothing.
pub async fn missing(client: &Client, expected: &[Arc<Table>]) -> Result<Vec<String>> {
    let names: Vec<TableName> = expected.iter().map(|t| t.name.clone()).collect();
    let mut said = Vec::new();
    for (want, have) in expected.iter().zip(tables(client, &names).await?) {
        let Some(have) = have else {
            said.push(format!("table {} does not exist", want.name));
            continue;
        };
        let lacking: Vec<&str> =
            want.columns.iter().map(|c| c.name.as_str()).filter(|c| have.column(c).is_none()).collect();
        if !lacking.is_empty() {
            said.push(format!("table {} lacks the columns {}", want.name, crate::pgwire::quote::list(lacking)));
        }
    }
    Ok(said)
}

/// Fails with everything that `expected` has and the target lacks.
pub async fn require(client: &Client, expected: &[Arc<Table>]) -> Result<()> {
    let missing = missing(client, expected).await?;
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::fatal(format!("the target is not ready to be copied into: {}", missing.join("; ")))
        .hint("create what is missing, set target.create_schema = true, or leave the tables out with tables.exclude"))
}
