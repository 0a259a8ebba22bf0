//! A copy from empty to the same tables, keys and sequences: pgcopydb, COPY by hand, Switchyard.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use switchyard::sandbox::PgServer;

use super::Args;
use super::daemon::Migration;
use super::report::{Series, Table, cells, ratio};
use super::rig::{DATABASE, Rig, Sql, copy_schema, pipe, psql, run as run_program, say, settle};

const PATIENCE: Duration = Duration::from_secs(1800);
const TABLES: [&str; 4] = ["pgbench_accounts", "pgbench_branches", "pgbench_history", "pgbench_tellers"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contender {
    Pgcopydb,
    /// pgcopydb with several processes reading one table.
    PgcopydbSplit,
    Text,
    Binary,
    Switchyard,
}

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Contender::Pgcopydb => "pgcopydb clone, 2 table jobs, 2 index jobs",
            Contender::PgcopydbSplit => "the same, tables split at 64 MB",
            Contender::Text => "psql: COPY text pipe, then the keys",
            Contender::Binary => "psql: COPY binary pipe, then the keys",
            Contender::Switchyard => "Switchyard",
        }
    }
}

pub fn run(rig: &Rig, args: &Args) -> Result<Table> {
    let mut contenders = vec![Contender::Switchyard];
    if !args.alone {
        if Command::new("pgcopydb").arg("--version").output().is_err() {
            bail!("pgcopydb is not installed: run `scripts/servers.sh bench`, or leave the peers out with --alone");
        }
        contenders = vec![
            Contender::Pgcopydb,
            Contender::PgcopydbSplit,
            Contender::Text,
            Contender::Binary,
            Contender::Switchyard,
        ];
    }
    let source = rig.source(args.scale)?;
    let target = rig.server()?;
    let wanted = fingerprint(&source, DATABASE)?;
    let mut all: Vec<Series> = contenders.iter().map(|c| Series::new(c.name())).collect();
    let mut loaded = Series::new("until the rows and keys are there");
    // A round that is not counted warms the source's buffers and the files' space.
    for round in 0..=args.rounds {
        // In turn, each round beginning with another one.
        for turn in 0..contenders.len() {
            let i = (turn + round) % contenders.len();
            let database = format!("copy_{round}_{i}");
            target.psql(&format!("CREATE DATABASE {database}"))?;
            settle(&[&source, &target])?;
            let (took, first) = match contenders[i] {
                Contender::Pgcopydb => (pgcopydb(rig, &source, &target, &database, &[])?, None),
                Contender::PgcopydbSplit => {
                    let split = ["--split-tables-larger-than", "64MB"];
                    (pgcopydb(rig, &source, &target, &database, &split)?, None)
                }
                Contender::Text => (by_hand(&source, &target, &database, "text")?, None),
                Contender::Binary => (by_hand(&source, &target, &database, "binary")?, None),
                Contender::Switchyard => {
                    let (took, first) = switchyard(rig, &source, &target, &database)?;
                    (took, Some(first))
                }
            };
            say(&format!("copy, round {round}: {} {:.2} s", contenders[i].name(), took.as_secs_f64()));
            let got = fingerprint(&target, &database)?;
            ensure!(got == wanted, "{}: the copy holds {got} instead of {wanted}", contenders[i].name());
            target.psql(&format!("DROP DATABASE {database}"))?;
            if round > 0 {
                all[i].values.push(took.as_secs_f64());
                loaded.values.extend(first.map(|f| f.as_secs_f64()));
            }
        }
    }
    let title = format!("copy: pgbench scale {}, {} rounds, seconds", args.scale, args.rounds);
    let mut table = Table::new(title, &["", "median", "min–max", "Switchyard ÷ it, median (min–max)"]);
    let ours = all.last().context("Switchyard was not measured")?.clone();
    for series in &all {
        table.row(format!("{} | {} | {}", series.name, cells(&series.values), ratio(&ours.values, &series.values)));
    }
    table.row(format!("  {} | {} | ", loaded.name, cells(&loaded.values)));
    table.note("Target: at most 0.80 of pgcopydb.");
    Ok(table)
}

/// Rows, sums and keys, to be the same on both sides.
fn fingerprint(server: &PgServer, database: &str) -> Result<String> {
    server.psql_in(
        database,
        "SELECT (SELECT count(*) FROM pgbench_accounts), (SELECT sum(aid::bigint * 7 + abalance) FROM pgbench_accounts), \
         (SELECT count(*) FROM pgbench_branches), (SELECT count(*) FROM pgbench_tellers), \
         (SELECT count(*) FROM pgbench_history), \
         (SELECT string_agg(conname || ' ' || pg_get_constraintdef(oid), ', ' ORDER BY conname) FROM pg_constraint \
           WHERE connamespace = 'public'::regnamespace AND contype <> 'n')",
    )
}

fn pgcopydb(rig: &Rig, source: &PgServer, target: &PgServer, database: &str, more: &[&str]) -> Result<Duration> {
    let folder = rig.folder.join(format!("pgcopydb-{database}"));
    let mut path = vec![source.install().bin.clone()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let took = run_program(
        Command::new("pgcopydb")
            .env("PATH", std::env::join_paths(path)?)
            .env("PGCOPYDB_SOURCE_PGURI", source.url(DATABASE))
            .env("PGCOPYDB_TARGET_PGURI", target.url(database))
            .args(["clone", "--table-jobs", "2", "--index-jobs", "2", "--dir"])
            .arg(&folder)
            .args(more),
    )?;
    let _ = std::fs::remove_dir_all(&folder);
    Ok(took)
}

/// What a person with a shell does: the tables, each one's rows through a pipe, the keys.
fn by_hand(source: &PgServer, target: &PgServer, database: &str, format: &str) -> Result<Duration> {
    let begun = Instant::now();
    copy_schema(source, target, database, "pre-data")?;
    for table in TABLES {
        let out = format!("--command=COPY {table} TO STDOUT (FORMAT {format})");
        let into = format!("--command=COPY {table} FROM STDIN (FORMAT {format})");
        pipe(psql(source, DATABASE).arg(out), psql(target, database).arg(into))?;
    }
    copy_schema(source, target, database, "post-data")?;
    Ok(begun.elapsed())
}

/// From the start of the process until the target is consistent and followed; and until the copy itself was done.
fn switchyard(rig: &Rig, source: &PgServer, target: &PgServer, database: &str) -> Result<(Duration, Duration)> {
    let migration = Migration::new(&rig.folder, database, &source.url(DATABASE), &target.url(database))?;
    let mut daemon = migration.start()?;
    let copied = daemon.wait_until("past its copy", PATIENCE, |s| s["phase"] == "tailing" || s["phase"] == "ready")?;
    let done = daemon.wait_until("consistent", PATIENCE, |s| {
        (s["phase"] == "tailing" || s["phase"] == "ready") && s["stream"]["consistent"] == true
    })?;
    let sql = Sql::connect(target, database)?;
    let keys =
        sql.text("SELECT count(*) FROM pg_constraint WHERE contype = 'p' AND connamespace = 'public'::regnamespace")?;
    ensure!(keys == "3", "the copy is said to be done with {keys} of 3 primary keys");
    drop(sql);
    let took = (done - daemon.begun, copied - daemon.begun);
    daemon.stop()?;
    migration.finish()?;
    Ok(took)
}
