//! Notes about rows and tables: what was set aside, what merges left out, which tables held no row before, and which the
//! migration makes for its rules.

use tokio_postgres::Client;

use super::bookkeeping::{exists, fenced};
use crate::change::DeadLetter;
use crate::error::Result;
use crate::pgwire::errors::wrap;
use crate::pgwire::quote::{literal, qualified};
use crate::schema::TableName;

/// The statement that sets a change aside, in the transaction of what could be carried.
pub fn set_aside_sql(name: &str, letter: &DeadLetter) -> String {
    // JSON has a way to write NUL, which the server's type has not.
    let json = |text: &str| format!("{}::jsonb", literal(&text.replace("\\u0000", "\\ufffd")));
    format!(
        "INSERT INTO switchyard.dead_letter (name, table_schema, table_name, op, position, message, row_key, row_data) \
         VALUES ({}, {}, {}, {}, {}, {}, {}, {})",
        literal(name),
        literal(&letter.table.schema),
        literal(&letter.table.name),
        literal(letter.op.label()),
        literal(&letter.position),
        literal(&letter.message),
        letter.key.as_deref().map_or("NULL".to_owned(), json),
        json(&letter.row)
    )
}

/// The changes that were set aside: the source table, and the row's keys before and after.
pub async fn dead_letters(client: &Client, name: &str) -> Result<Vec<(TableName, Vec<String>)>> {
    let sql = "SELECT table_schema, table_name, row_key::text,
                      (SELECT jsonb_object_agg(k, row_data->k) FROM jsonb_object_keys(row_key) AS k)::text
               FROM switchyard.dead_letter WHERE name = $1 ORDER BY seq";
    let rows = client.query(sql, &[&name]).await.map_err(|e| wrap("reading what was set aside", &e))?;
    let keys = |r: &tokio_postgres::Row| {
        [r.get::<_, Option<String>>(2), r.get(3)].into_iter().flatten().collect::<Vec<String>>()
    };
    Ok(rows.iter().map(|r| (TableName::new(r.get::<_, String>(0), r.get::<_, String>(1)), keys(r))).collect())
}

/// Forgets which rows of these source tables a merge left out.
pub async fn forget_skipped(client: &Client, name: &str, epoch: i64, sources: &[TableName]) -> Result<()> {
    let sources: Vec<String> = sources.iter().map(ToString::to_string).collect();
    let ours: i64 = client
        .query_one(
            "WITH fence AS (SELECT FROM switchyard.checkpoint WHERE name = $1 AND epoch = $2 FOR SHARE),
             gone AS (DELETE FROM switchyard.skipped WHERE name = $1 AND source = ANY ($3::text[]) AND EXISTS (SELECT FROM fence))
             SELECT count(*) FROM fence",
            &[&name, &epoch, &sources],
        )
        .await
        .map_err(|e| wrap("forgetting which rows a merge left out", &e))?
        .get(0);
    if ours == 1 { Ok(()) } else { Err(fenced(name, epoch)) }
}

/// Notes which of these tables hold no row, and forgets older notes of those that do.
pub async fn note_empty(client: &Client, name: &str, epoch: i64, tables: &[TableName]) -> Result<()> {
    for (t, found) in tables.iter().zip(super::catalog::tables(client, tables).await?) {
        if found.is_none() {
            continue;
        }
        let sql = format!(
            "WITH fence AS (SELECT FROM switchyard.checkpoint WHERE name = $1 AND epoch = $2 FOR SHARE),
             gone AS (DELETE FROM switchyard.was_empty WHERE name = $1 AND table_schema = $3 AND table_name = $4
                      AND EXISTS (SELECT FROM fence) AND EXISTS (SELECT FROM {0}))
             INSERT INTO switchyard.was_empty (name, table_schema, table_name)
             SELECT $1, $3, $4 FROM fence WHERE NOT EXISTS (SELECT FROM {0}) ON CONFLICT DO NOTHING",
            qualified(t)
        );
        client
            .execute(&sql, &[&name, &epoch, &t.schema, &t.name])
            .await
            .map_err(|e| wrap(format!("looking whether {t} holds rows"), &e))?;
    }
    Ok(())
}

/// The tables that held no row when they were looked at.
pub async fn noted_empty(client: &Client, name: &str) -> Result<Vec<TableName>> {
    let sql = "SELECT table_schema, table_name FROM switchyard.was_empty WHERE name = $1 ORDER BY 1, 2";
    let rows = client.query(sql, &[&name]).await.map_err(|e| wrap("reading which tables held no rows before", &e))?;
    Ok(rows.iter().map(|r| TableName::new(r.get::<_, String>(0), r.get::<_, String>(1))).collect())
}

/// Notes that the migration makes these tables.
pub async fn note_made(client: &Client, name: &str, epoch: i64, tables: &[TableName]) -> Result<()> {
    let (schemas, names): (Vec<&str>, Vec<&str>) = tables.iter().map(|t| (t.schema.as_str(), t.name.as_str())).unzip();
    let ours: i64 = client
        .query_one(
            "WITH fence AS (SELECT FROM switchyard.checkpoint WHERE name = $1 AND epoch = $2 FOR SHARE),
             noted AS (INSERT INTO switchyard.made (name, table_schema, table_name)
                       SELECT $1, s, t FROM fence, unnest($3::text[], $4::text[]) AS w (s, t) ON CONFLICT DO NOTHING)
             SELECT count(*) FROM fence",
            &[&name, &epoch, &schemas, &names],
        )
        .await
        .map_err(|e| wrap("noting which tables the rules make", &e))?
        .get(0);
    if ours == 1 { Ok(()) } else { Err(fenced(name, epoch)) }
}

/// The tables that the migration makes for its rules; none before there is any bookkeeping.
pub async fn noted_made(client: &Client, name: &str) -> Result<Vec<TableName>> {
    if !exists(client, "made").await? {
        return Ok(Vec::new());
    }
    let sql = "SELECT table_schema, table_name FROM switchyard.made WHERE name = $1 ORDER BY 1, 2";
    let rows = client.query(sql, &[&name]).await.map_err(|e| wrap("reading which tables the rules made", &e))?;
    Ok(rows.iter().map(|r| TableName::new(r.get::<_, String>(0), r.get::<_, String>(1))).collect())
}
