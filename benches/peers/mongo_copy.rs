//! A copy of MongoDB into typed columns of PostgreSQL: reading alone, Switchyard, and the memory that it held.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Args;
use super::daemon::Migration;
use super::mongo_rig::{self, FINGERPRINT, RULE, version};
use super::report::{Series, Table, cells};
use super::rig::{self, DATABASE, Rig, say};

const PATIENCE: Duration = Duration::from_secs(1800);
const MIB: f64 = 1024.0 * 1024.0;

pub fn run(rig: &Rig, args: &Args) -> Result<Table> {
    let source = mongo_rig::server()?;
    mongo_rig::fill(&source, args.documents)?;
    let target = rig.server()?;
    let wanted = mongo_rig::fingerprint(&source)?;
    let mut raw = Series::new("raw batches read alone, one cursor");
    let mut ours = Series::new("Switchyard, from the start until consistent");
    let mut copied = Series::new("  the copy alone: from its first row until its last");
    let mut processor = Series::new("  processor seconds of the switchyard process");
    let mut memory = Series::new("  largest resident memory, MiB");
    // A round that is not counted warms the source's cache and the files' space.
    for round in 0..=args.rounds {
        let database = format!("mongo_copy_{round}");
        target.psql(&format!("CREATE DATABASE {database}"))?;
        rig::settle(&[&target])?;
        mongo_rig::settle(&source)?;
        let (_, alone) = mongo_rig::read_alone(&source)?;
        let migration = Migration::with(
            &rig.folder,
            &database,
            &source.url(DATABASE),
            &target.url(&database),
            "create_schema = true",
            RULE,
        )?;
        let mut daemon = migration.start()?;
        let first = daemon.wait_until("copying", PATIENCE, |s| s["snapshot"]["rows_copied"].as_u64() > Some(0))?;
        let all = args.documents;
        let last = daemon.wait_until("copied", PATIENCE, |s| s["snapshot"]["rows_copied"].as_u64() >= Some(all))?;
        let done = daemon.wait_until("consistent", PATIENCE, |s| {
            (s["phase"] == "tailing" || s["phase"] == "ready") && s["stream"]["consistent"] == true
        })?;
        let (took, copy) = (done - daemon.begun, last - first);
        let (seconds, peak) = (daemon.processor_seconds()?, daemon.peak_memory()? as f64 / MIB);
        daemon.stop()?;
        migration.finish()?;
        let got = target.psql_in(&database, FINGERPRINT)?;
        ensure!(got == wanted, "the copy holds {got} instead of {wanted}");
        target.psql(&format!("DROP DATABASE {database}"))?;
        say(&format!(
            "mongo-copy, round {round}: read alone {:.2} s, Switchyard {:.2} s, of it the copy {:.2} s, {seconds:.2} s of processor, {peak:.0} MiB",
            alone.as_secs_f64(),
            took.as_secs_f64(),
            copy.as_secs_f64()
        ));
        if round > 0 {
            raw.values.push(alone.as_secs_f64());
            ours.values.push(took.as_secs_f64());
            copied.values.push(copy.as_secs_f64());
            processor.values.push(seconds);
            memory.values.push(peak);
        }
    }
    let title = format!(
        "mongo-copy: {} into PostgreSQL, {} documents of {} bytes, {} rounds, seconds",
        version(source.install()),
        args.documents,
        mongo_rig::bytes(args.documents)? / args.documents.max(1),
        args.rounds
    );
    let mut table = Table::new(title, &["", "median", "min–max", "documents/s, median"]);
    for series in [&raw, &ours, &copied] {
        let rates: Vec<f64> = series.values.iter().map(|s| args.documents as f64 / s).collect();
        let rate = cells(&rates);
        let rate = rate.split(" | ").next().unwrap_or_default();
        table.row(format!("{} | {} | {rate}", series.name, cells(&series.values)));
    }
    for series in [&processor, &memory] {
        table.row(format!("{} | {} | ", series.name, cells(&series.values)));
    }
    table
        .note("Target: at least 300 000 documents/s; at most 128 MB of memory, plus three times the largest document.");
    Ok(table)
}
