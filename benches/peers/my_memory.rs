//! The largest memory that Switchyard held between MySQL and PostgreSQL: a copy, and one large transaction of each kind.

use std::time::Duration;

use anyhow::{Result, ensure};
use switchyard::sandbox;

use super::Args;
use super::daemon::Migration;
use super::my_rig::{self, MySql, version};
use super::my_stream::SOURCE;
use super::report::{Series, Table, cells};
use super::rig::{DATABASE, Rig, Sql, say};

const PATIENCE: Duration = Duration::from_secs(3600);
const MIB: f64 = 1024.0 * 1024.0;
/// Rows of the large table that one statement brings: about a kibibyte each.
const STEP: u64 = 100_000;
/// The columns of `digits`, joined with itself, count to a million.
const DIGITS: &str = "CREATE TABLE bench_digits (d INT NOT NULL PRIMARY KEY); \
                      INSERT INTO bench_digits VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)";

/// The numbers from `from + 1` on, `STEP` of them at most, as `n`.
fn numbers(from: u64) -> String {
    format!(
        "(SELECT {from} + 1 + a.d + b.d * 10 + c.d * 100 + d.d * 1000 + e.d * 10000 AS n FROM bench_digits a, bench_digits b, \
         bench_digits c, bench_digits d, bench_digits e) AS numbers"
    )
}

pub fn run(rig: &Rig, args: &Args) -> Result<Table> {
    let install = sandbox::find_mysql()?;
    let mut all: Vec<Series> = Vec::new();
    let rounds = if args.gigabytes > 0 { 1 } else { args.rounds };
    for round in 0..rounds {
        for (n, (name, bytes)) in once(rig, args, round)?.into_iter().enumerate() {
            if all.len() <= n {
                all.push(Series::new(name.clone()));
            }
            all[n].values.push(bytes as f64 / MIB);
        }
    }
    let title = format!(
        "my-memory: {} into PostgreSQL, largest resident set of the switchyard process, {rounds} rounds, MiB",
        version(&install)
    );
    let mut table = Table::new(title, &["", "median", "min–max"]);
    for series in &all {
        table.row(format!("{} | {}", series.name, cells(&series.values)));
    }
    table.note("Target: at most 128 MB plus three times the largest row.");
    Ok(table)
}

fn once(rig: &Rig, args: &Args, round: usize) -> Result<Vec<(String, u64)>> {
    let source = my_rig::server_with_database(&sandbox::find_mysql()?, &SOURCE)?;
    let target = rig.server()?;
    target.psql(&format!("CREATE DATABASE {DATABASE}"))?;
    let sql = MySql::connect(&source, DATABASE)?;
    sql.execute(DIGITS)?;
    sql.execute(
        "CREATE TABLE bench_big (id BIGINT NOT NULL PRIMARY KEY, number INT NOT NULL, payload VARCHAR(100) NOT NULL); \
         CREATE TABLE bench_probe (id BIGINT NOT NULL PRIMARY KEY); \
         CREATE TABLE bench_large (id BIGINT NOT NULL PRIMARY KEY, payload TEXT NOT NULL)",
    )?;
    // A table of a gibibyte is copied in any case.
    let large = args.my_rows.max(args.gigabytes * 1_000_000);
    say(&format!("my-memory: making a table of {large} rows of a kibibyte"));
    for from in (0..large).step_by(STEP as usize) {
        sql.execute(&format!(
            "INSERT INTO bench_large SELECT n, repeat(sha2(n, 256), 15) FROM {} WHERE n <= {large}",
            numbers(from)
        ))?;
    }
    sql.execute("ANALYZE TABLE bench_large")?;
    let name = format!("my_memory_{round}");
    let migration = Migration::new(&rig.folder, &name, &source.url(DATABASE), &target.url(DATABASE))?;
    let mut figures: Vec<(String, u64)> = Vec::new();
    let mut note = |what: String, bytes: u64| {
        say(&format!("my-memory, round {round}: {what}: {:.0} MiB", bytes as f64 / MIB));
        figures.push((what, bytes));
    };
    let mut daemon = migration.start()?;
    daemon.wait_until_ready(PATIENCE)?;
    note(format!("copy of a table of {:.1} GB", large as f64 / 1e6), daemon.peak_memory()?);
    daemon.stop()?;
    let there = Sql::connect(&target, DATABASE)?;
    let rows = args.my_rows;
    let inserts: Vec<String> = (0..rows)
        .step_by(STEP as usize)
        .map(|from| {
            format!(
                "INSERT INTO bench_big SELECT n, n, concat('row number ', n) FROM {} WHERE n <= {rows}",
                numbers(from)
            )
        })
        .collect();
    let work = [
        (format!("one transaction that inserts {rows} rows"), format!("BEGIN; {}; COMMIT", inserts.join("; "))),
        (format!("one transaction that updates {rows} rows"), "UPDATE bench_big SET number = number + 1".to_owned()),
        (format!("one transaction that deletes {rows} rows"), "DELETE FROM bench_big WHERE id % 10 > 0".to_owned()),
    ];
    // A process of its own each: the peak is the process's, not the work's.
    for (probe, (what, statement)) in work.into_iter().enumerate() {
        let mut daemon = migration.start()?;
        daemon.wait_until_ready(PATIENCE)?;
        sql.execute(&statement)?;
        sql.execute(&format!("INSERT INTO bench_probe VALUES ({probe})"))?;
        let begun = std::time::Instant::now();
        while there.text(&format!("SELECT EXISTS (SELECT FROM bench_probe WHERE id = {probe})"))? != "t" {
            daemon.alive("applying a large transaction")?;
            ensure!(begun.elapsed() < PATIENCE, "the target is not level after {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        note(what, daemon.peak_memory()?);
        daemon.stop()?;
        let count = "SELECT concat(count(*), ' ', sum(id), ' ', sum(number)) FROM bench_big";
        let (here, got) = (sql.text(count)?, there.text(count)?);
        ensure!(here == got, "the target holds {got} instead of {here}");
    }
    migration.finish()?;
    Ok(figures)
}
