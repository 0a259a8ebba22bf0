//! The load of sysbench's `oltp_write_only`, made by our own code: the same tables and statements.

use std::thread;

use anyhow::{Context, Result, anyhow};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use switchyard::sandbox::MyServer;

use super::my_rig::MySql;
use super::rig::{DATABASE, say};

/// Tables that the load is spread over, as sysbench names them.
pub const TABLES: u64 = 4;
/// Sessions that make it.
const SESSIONS: u64 = 8;
/// Row changes in each transaction: two updates, a deletion, an insertion.
pub const CHANGES: u64 = 4;
/// Rows that are filled in by one statement.
const FILL: u64 = 1000;

/// Groups of eleven digits, as sysbench fills its texts.
fn digits(rng: &mut StdRng, groups: usize) -> String {
    let group = |rng: &mut StdRng| format!("{:011}", rng.random_range(0..100_000_000_000u64));
    (0..groups).map(|_| group(rng)).collect::<Vec<_>>().join("-")
}

/// Makes and fills the tables.
pub fn make_tables(server: &MyServer, rows: u64) -> Result<()> {
    say(&format!("making {TABLES} tables of {rows} rows"));
    let sql = MySql::connect(server, DATABASE)?;
    let mut rng = StdRng::seed_from_u64(1);
    for t in 1..=TABLES {
        sql.execute(&format!(
            "CREATE TABLE sbtest{t} (id INT NOT NULL AUTO_INCREMENT, k INT NOT NULL DEFAULT 0, c CHAR(120) NOT NULL DEFAULT '', \
             pad CHAR(60) NOT NULL DEFAULT '', PRIMARY KEY (id), KEY k_{t} (k))"
        ))?;
        for from in (1..=rows).step_by(FILL as usize) {
            let to = (from + FILL - 1).min(rows);
            let values: Vec<String> = (from..=to)
                .map(|id| {
                    let k = rng.random_range(1..=rows);
                    format!("({id},{k},'{}','{}')", digits(&mut rng, 10), digits(&mut rng, 5))
                })
                .collect();
            sql.execute(&format!("INSERT INTO sbtest{t} (id, k, c, pad) VALUES {}", values.join(",")))?;
        }
        sql.execute(&format!("ANALYZE TABLE sbtest{t}"))?;
    }
    sql.execute("CREATE TABLE bench_probe (id BIGINT NOT NULL PRIMARY KEY)")
}

/// Runs `transactions` of them: an update of an indexed column, one of another, a row deleted and inserted again, of rows
/// that are evenly drawn. `seed` makes each backlog another one. How many were made: the sessions share them evenly.
pub fn backlog(server: &MyServer, rows: u64, transactions: u64, seed: u64) -> Result<u64> {
    let each = transactions / SESSIONS;
    let sessions: Vec<_> = (0..SESSIONS)
        .map(|n| {
            let url = server.url(DATABASE);
            thread::spawn(move || session(&url, rows, each, seed * SESSIONS + n))
        })
        .collect();
    for s in sessions {
        s.join().map_err(|_| anyhow!("a session of the load panicked"))??;
    }
    Ok(each * SESSIONS)
}

fn session(url: &str, rows: u64, transactions: u64, seed: u64) -> Result<()> {
    let sql = MySql::open(url)?;
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..transactions {
        let mut id = || rng.random_range(1..=rows);
        let (indexed, other, moved) = (id(), id(), id());
        let mut table = || rng.random_range(1..=TABLES);
        let (a, b, c) = (table(), table(), table());
        let k = rng.random_range(1..=rows);
        let transaction = format!(
            "BEGIN; UPDATE sbtest{a} SET k = k + 1 WHERE id = {indexed}; UPDATE sbtest{b} SET c = '{}' WHERE id = {other}; \
             DELETE FROM sbtest{c} WHERE id = {moved}; INSERT INTO sbtest{c} (id, k, c, pad) VALUES ({moved}, {k}, '{}', '{}'); COMMIT",
            digits(&mut rng, 10),
            digits(&mut rng, 10),
            digits(&mut rng, 5),
        );
        loop {
            match sql.run(&transaction) {
                Ok(()) => break,
                // A deadlock: as sysbench does, once more.
                Err(e) if e.code() == Some("1213") => sql.run("ROLLBACK")?,
                Err(e) => return Err(e).context("making a backlog"),
            }
        }
    }
    Ok(())
}

/// Counts and sums of all tables.
pub fn fingerprint(server: &MyServer) -> Result<String> {
    let one = |t: u64| {
        format!("SELECT count(*), sum(id), sum(k), sum(crc32(concat(id, ',', k, ',', c, ',', pad))) FROM sbtest{t}")
    };
    let all: Vec<String> = (1..=TABLES).map(one).collect();
    server.sql_in(DATABASE, &all.join("; "))
}
