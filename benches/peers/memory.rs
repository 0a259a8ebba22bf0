//! The largest memory that Switchyard held: a large table's copy, one large transaction, a backlog of small ones.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Args;
use super::daemon::{Daemon, Migration};
use super::report::{Series, Table, cells};
use super::rig::{DATABASE, Rig, Sql, say};
use super::stream::backlog;

const PATIENCE: Duration = Duration::from_secs(3600);
const MIB: f64 = 1024.0 * 1024.0;

pub fn run(rig: &Rig, args: &Args) -> Result<Table> {
    let mut all = Vec::new();
    let rounds = if args.gigabytes > 0 { 1 } else { args.rounds };
    for _ in 0..rounds {
        for (n, (name, bytes)) in once(rig, args)?.into_iter().enumerate() {
            if all.len() <= n {
                all.push(Series::new(name.clone()));
            }
            say(&format!("memory: {name}: {:.0} MiB", bytes as f64 / MIB));
            all[n].values.push(bytes as f64 / MIB);
        }
    }
    let title = format!("memory: largest resident set of the switchyard process, {rounds} rounds, MiB");
    let mut table = Table::new(title, &["", "median", "min–max"]);
    for series in &all {
        table.row(format!("{} | {}", series.name, cells(&series.values)));
    }
    table.note("Target: at most 128 MB plus three times the largest row.");
    Ok(table)
}

fn once(rig: &Rig, args: &Args) -> Result<Vec<(String, u64)>> {
    let source = rig.source(args.scale)?;
    let target = rig.server()?;
    target.psql(&format!("CREATE DATABASE {DATABASE}"))?;
    let sql = Sql::connect(&source, DATABASE)?;
    sql.execute("CREATE TABLE bench_big (id bigint PRIMARY KEY, number integer, payload text)")?;
    sql.execute("CREATE TABLE bench_probe (id bigint PRIMARY KEY)")?;
    if args.gigabytes > 0 {
        say(&format!("making a table of {} GB", args.gigabytes));
        // About a kibibyte a row, and too short to be compressed.
        sql.execute(&format!(
            "CREATE TABLE bench_large AS SELECT i AS id, repeat(md5(i::text), 30) AS payload FROM generate_series(1, {}::bigint) i",
            args.gigabytes * 1_000_000
        ))?;
        sql.execute("ALTER TABLE bench_large ADD PRIMARY KEY (id)")?;
        // It runs in no transaction with others.
        sql.execute("VACUUM ANALYZE bench_large")?;
    }
    let migration = Migration::new(&rig.folder, "memory", &source.url(DATABASE), &target.url(DATABASE))?;
    let mut figures = Vec::new();
    let mut daemon = migration.start()?;
    daemon.wait_until_ready(PATIENCE)?;
    let what = match args.gigabytes {
        0 => format!("copy of pgbench scale {}", args.scale),
        n => format!("copy of pgbench scale {} and a table of {n} GB", args.scale),
    };
    figures.push((what, daemon.peak_memory()?));
    daemon.stop()?;
    let target_sql = Sql::connect(&target, DATABASE)?;
    let insert =
        format!("INSERT INTO bench_big SELECT i, i, 'row number ' || i FROM generate_series(1, {}) i", args.rows);
    let rows = args.rows;
    let mut probe = 0;
    // A process of its own each: the peak is the process's, not the work's.
    let mut stream = |what: String, work: &dyn Fn() -> Result<()>| -> Result<()> {
        let mut daemon = migration.start()?;
        daemon.wait_until_ready(PATIENCE)?;
        work()?;
        probe += 1;
        sql.execute(&format!("INSERT INTO bench_probe VALUES ({probe})"))?;
        wait(&mut daemon, &target_sql, probe)?;
        figures.push((what, daemon.peak_memory()?));
        daemon.stop()
    };
    stream(format!("one transaction that inserts {rows} rows"), &|| sql.execute(&insert))?;
    stream(format!("one transaction that updates {rows} rows"), &|| {
        sql.execute("UPDATE bench_big SET number = number + 1")
    })?;
    stream(format!("one transaction that deletes {rows} rows"), &|| sql.execute("DELETE FROM bench_big"))?;
    stream(format!("{} pgbench transactions, 8 clients", args.transactions), &|| backlog(&source, args.transactions))?;
    let count = "SELECT (SELECT count(*) FROM bench_big), (SELECT sum(aid::bigint * abalance) FROM pgbench_accounts)";
    ensure!(
        source.psql_in(DATABASE, count)? == target.psql_in(DATABASE, count)?,
        "the target does not hold what the source holds"
    );
    migration.finish()?;
    Ok(figures)
}

fn wait(daemon: &mut Daemon, target: &Sql, probe: u64) -> Result<()> {
    let begun = Instant::now();
    while target.text(&format!("SELECT EXISTS (SELECT FROM bench_probe WHERE id = {probe})"))? != "t" {
        daemon.alive("applying a large transaction")?;
        ensure!(begun.elapsed() < PATIENCE, "the target is not level after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
