//! The table of the copies between engines: the same rows on every server, and what tells that they arrived.

use std::process::Stdio;

use anyhow::Result;
use switchyard::sandbox::{MyServer, PgServer};

use super::my_rig::MySql;
use super::rig::{DATABASE, Sql, psql, run, say};

/// Its name.
pub const TABLE: &str = "orders";

/// The table in a new MariaDB database: about 97 bytes a row.
pub fn make_in_mariadb(server: &MyServer, rows: u64) -> Result<()> {
    say(&format!("making a table of {rows} rows in MariaDB"));
    let sql = MySql::connect(server, DATABASE)?;
    sql.execute(&format!(
        "CREATE TABLE {TABLE} (id BIGINT NOT NULL PRIMARY KEY, quantity INT UNSIGNED NOT NULL, \
         customer VARCHAR(60) NOT NULL, price DECIMAL(12,2) NOT NULL, placed_at DATETIME(6) NOT NULL, \
         details JSON NOT NULL, KEY orders_quantity (quantity)) DEFAULT CHARSET=utf8mb4"
    ))?;
    sql.execute(&format!(
        "INSERT INTO {TABLE} SELECT seq, (seq * 2654435761) MOD 4294967296, CONCAT('Kundin Zoë 🚂 ', seq), \
         (seq MOD 1000000) / 100, '2024-01-01' + INTERVAL seq * 1000003 MICROSECOND, \
         CONCAT('{{\"n\": ', seq, ', \"note\": \"row \\\\\"', seq MOD 97, '\\\\\"\"}}') FROM seq_1_to_{rows}"
    ))?;
    // Statistics as a server that has been running for a while has them: tools plan by them.
    sql.execute(&format!("ANALYZE TABLE {TABLE}"))
}

/// The same rows in a new PostgreSQL database.
pub fn make_in_postgres(server: &PgServer, rows: u64) -> Result<()> {
    say(&format!("making a table of {rows} rows in PostgreSQL"));
    server.psql(&format!("CREATE DATABASE {DATABASE}"))?;
    let sql = Sql::connect(server, DATABASE)?;
    sql.execute(&format!(
        "CREATE TABLE {TABLE} (id bigint PRIMARY KEY, quantity bigint NOT NULL, customer varchar(60) NOT NULL, \
         price numeric(12,2) NOT NULL, placed_at timestamp(6) NOT NULL, details jsonb NOT NULL)"
    ))?;
    sql.execute(&format!(
        "INSERT INTO {TABLE} SELECT n, (n * 2654435761) % 4294967296, 'Kundin Zoë 🚂 ' || n, \
         (n % 1000000)::numeric / 100, timestamp '2024-01-01' + n * interval '1.000003 s', \
         jsonb_build_object('n', n, 'note', 'row \"' || n % 97 || '\"') FROM generate_series(1::bigint, {rows}) n"
    ))?;
    sql.execute(&format!("CREATE INDEX orders_quantity ON {TABLE} (quantity)"))?;
    // It runs in no transaction with others.
    sql.execute(&format!("VACUUM ANALYZE {TABLE}"))
}

/// The rows of a PostgreSQL database as a file that LOAD DATA reads as it is: COPY's text form is the one that it expects.
pub fn export(server: &PgServer, file: &std::path::Path) -> Result<()> {
    let to = std::fs::File::create(file)?;
    let mut command = psql(server, DATABASE);
    command.arg(format!("--command=COPY {TABLE} TO STDOUT")).stdout(Stdio::from(to));
    let ended = command.status()?;
    anyhow::ensure!(ended.success(), "psql ended with {ended} while writing {}", file.display());
    Ok(())
}

/// Rows and sums of a copy in PostgreSQL: text by its bytes, JSON by its fields.
pub fn in_postgres(server: &PgServer, database: &str, schema: &str) -> Result<String> {
    server.psql_in(
        database,
        &format!(
            "SELECT count(*), sum(id), sum(quantity), sum(octet_length(customer)), sum(price), \
             min(to_char(placed_at, 'YYYY-MM-DD HH24:MI:SS.US')), max(to_char(placed_at, 'YYYY-MM-DD HH24:MI:SS.US')), \
             sum((details::jsonb->>'n')::bigint), sum(length(details::jsonb->>'note')) FROM {schema}.{TABLE}"
        ),
    )
}

/// The same in MySQL or MariaDB.
pub fn in_mysql(server: &MyServer, database: &str) -> Result<String> {
    server.sql_in(
        database,
        &format!(
            "SELECT count(*), sum(id), sum(quantity), sum(octet_length(customer)), sum(price), \
             min(cast(placed_at AS char)), max(cast(placed_at AS char)), \
             sum(cast(json_unquote(json_extract(details, '$.n')) AS signed)), \
             sum(char_length(json_unquote(json_extract(details, '$.note')))) FROM {TABLE}"
        ),
    )
}

/// Runs `mysql` with one or more statements; how long it took.
pub fn by_client(server: &MyServer, database: &str, statements: &str) -> Result<std::time::Duration> {
    run(super::my_rig::client(server, database).arg(format!("--execute={statements}")))
}
