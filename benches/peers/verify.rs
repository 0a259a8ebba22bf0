//! Comparing two equal databases row by row: COPY of the same rows from both sides, `pgcopydb compare data`, Switchyard.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use switchyard::sandbox::PgServer;

use super::Args;
use super::daemon::Migration;
use super::report::{Series, Table, cells, ratio};
use super::rig::{DATABASE, Rig, psql, run as run_program, say, settle};

const PATIENCE: Duration = Duration::from_secs(1800);
const TABLE: &str = "pgbench_accounts";

pub fn run(rig: &Rig, args: &Args) -> Result<Table> {
    let source = rig.source(args.scale)?;
    let target = rig.server()?;
    target.psql("CREATE DATABASE verified")?;
    let migration = Migration::new(&rig.folder, "verified", &source.url(DATABASE), &target.url("verified"))?;
    let mut daemon = migration.start()?;
    daemon.wait_until_ready(PATIENCE)?;
    // Not every version has it.
    let known =
        || Command::new("pgcopydb").args(["compare", "data", "--help"]).output().is_ok_and(|o| o.status.success());
    let peer = !args.alone && known();
    let mut copies = Series::new("COPY to /dev/null, the source's and then the target's");
    let mut compared = Series::new("pgcopydb compare data");
    let mut ours = Series::new("switchyard verify");
    let mut peak = 0;
    // A round that is not counted warms both servers' buffers.
    for round in 0..=args.rounds {
        settle(&[&source, &target])?;
        let copied = read(&source, DATABASE)? + read(&target, "verified")?;
        let theirs = if peer { Some(pgcopydb(rig, &source, &target)?) } else { None };
        let (took, memory) = verify(&migration)?;
        peak = peak.max(memory);
        say(&format!(
            "verify, round {round}: COPY {:.2} s, Switchyard {:.2} s",
            copied.as_secs_f64(),
            took.as_secs_f64()
        ));
        if round > 0 {
            copies.values.push(copied.as_secs_f64());
            compared.values.extend(theirs.map(|t| t.as_secs_f64()));
            ours.values.push(took.as_secs_f64());
        }
    }
    daemon.stop()?;
    migration.finish()?;
    let title = format!("verify: pgbench scale {}, {} rounds, seconds", args.scale, args.rounds);
    let mut table = Table::new(title, &["", "median", "min–max", "Switchyard ÷ it, median (min–max)"]);
    for series in [&copies, &compared, &ours].into_iter().filter(|s| !s.values.is_empty()) {
        table.row(format!("{} | {} | {}", series.name, cells(&series.values), ratio(&ours.values, &series.values)));
    }
    table.note(format!("Largest memory of `switchyard verify`: {:.1} MiB.", peak as f64 / (1 << 20) as f64));
    if !peer && !args.alone {
        table.note("The pgcopydb that is installed has no `compare data`: left out.");
    }
    table
        .note("Target: at most 1.5 of the two COPYs, 128 MB. All tables are verified, and only the largest is copied.");
    Ok(table)
}

fn read(server: &PgServer, database: &str) -> Result<Duration> {
    run_program(psql(server, database).arg(format!("--command=COPY {TABLE} TO STDOUT")).stdout(Stdio::null()))
}

fn pgcopydb(rig: &Rig, source: &PgServer, target: &PgServer) -> Result<Duration> {
    let folder = rig.folder.join("pgcopydb-compare");
    let mut path = vec![source.install().bin.clone()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let took = run_program(
        Command::new("pgcopydb")
            .env("PATH", std::env::join_paths(path)?)
            .env("PGCOPYDB_SOURCE_PGURI", source.url(DATABASE))
            .env("PGCOPYDB_TARGET_PGURI", target.url("verified"))
            .args(["compare", "data", "--dir"])
            .arg(&folder),
    )?;
    let _ = fs::remove_dir_all(&folder);
    Ok(took)
}

/// How long it took, and its largest resident memory in bytes.
fn verify(migration: &Migration) -> Result<(Duration, u64)> {
    let begun = Instant::now();
    let mut child = migration.command("verify").stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let path = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let kib: Option<u64> = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse().ok());
        peak = peak.max(kib.unwrap_or(0) * 1024);
        sleep(Duration::from_millis(5));
    };
    ensure!(status.success(), "`switchyard verify` ended with {status}");
    ensure!(peak > 0, "the process's memory was never seen");
    Ok((begun.elapsed(), peak))
}
