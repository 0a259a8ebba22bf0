//! MongoDB into PostgreSQL, a backlog of updates until the target is level.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Args;
use super::daemon::Migration;
use super::mongo_rig::{self, FINGERPRINT, RULE, UPDATED, version};
use super::report::{Series, Table, cells};
use super::rig::{self, DATABASE, Rig, Sql, say};

const PATIENCE: Duration = Duration::from_secs(900);

pub fn run(rig: &Rig, args: &Args) -> Result<Table> {
    let source = mongo_rig::server()?;
    mongo_rig::fill(&source, UPDATED)?;
    let target = rig.server()?;
    target.psql(&format!("CREATE DATABASE {DATABASE}"))?;
    let (from, to) = (source.url(DATABASE), target.url(DATABASE));
    let migration = Migration::with(&rig.folder, "mongo_stream", &from, &to, "create_schema = true", RULE)?;
    mongo_rig::probe(&source, 1_000_000)?;
    let mut daemon = migration.start()?;
    daemon.wait_until_ready(PATIENCE)?;
    daemon.stop()?;
    let mut ours = Series::new("Switchyard, from the start until level");
    let mut processor = Series::new("processor seconds of the switchyard process");
    let mut raw = Series::new("the change stream's raw batches read alone");
    // The first round is not counted: tables and buffers are cold.
    for round in 0..=args.rounds as u64 {
        say(&format!("mongo-stream, round {round}: making a backlog of {} updates", args.mongo_events));
        let begin = mongo_rig::now(&source)?;
        mongo_rig::update(&source, args.mongo_events, round + 1)?;
        mongo_rig::probe(&source, round)?;
        rig::settle(&[&target])?;
        mongo_rig::settle(&source)?;
        let alone = mongo_rig::stream_alone(&source, begin, args.mongo_events)?;
        let sql = Sql::connect(&target, DATABASE)?;
        let mut daemon = migration.start()?;
        let probe = format!("SELECT count(*) FROM public.probes WHERE _id = 'probe {round}'");
        let level = sql.wait_for(&probe, "1", Duration::from_millis(5), PATIENCE);
        daemon.alive("applying a backlog")?;
        let took = level? - daemon.begun;
        let seconds = daemon.processor_seconds()?;
        daemon.stop()?;
        let (wanted, got) = (mongo_rig::fingerprint(&source)?, target.psql_in(DATABASE, FINGERPRINT)?);
        ensure!(got == wanted, "the target holds {got} instead of {wanted}");
        target.psql_in(DATABASE, "VACUUM ANALYZE public.things")?;
        say(&format!(
            "mongo-stream, round {round}: stream alone {:.2} s, Switchyard {:.2} s, {seconds:.2} s of processor",
            alone.as_secs_f64(),
            took.as_secs_f64()
        ));
        if round > 0 {
            raw.values.push(alone.as_secs_f64());
            ours.values.push(took.as_secs_f64());
            processor.values.push(seconds);
        }
    }
    migration.finish()?;
    let title = format!(
        "mongo-stream: {} into PostgreSQL, {} updates of {UPDATED} documents, {} warm rounds",
        version(source.install()),
        args.mongo_events,
        args.rounds
    );
    let mut table = Table::new(title, &["", "seconds, median", "min–max", "updates/s, median", "min–max"]);
    for series in [&raw, &ours] {
        let rates: Vec<f64> = series.values.iter().map(|s| args.mongo_events as f64 / s).collect();
        table.row(format!("{} | {} | {}", series.name, cells(&series.values), cells(&rates)));
    }
    table.row(format!("{} | {} | | ", processor.name, cells(&processor.values)));
    Ok(table)
}
