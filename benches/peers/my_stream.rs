//! MySQL into MySQL, a backlog of transactions until the target is level: a native replica, Switchyard.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use switchyard::sandbox::{self, MyServer};

use super::Args;
use super::daemon::Migration;
use super::my_load::{self, CHANGES, backlog};
use super::my_rig::{self, MySql, forget_log, version};
use super::report::{Series, Table, cells, ratio};
use super::rig::{DATABASE, Rig, say};

const PATIENCE: Duration = Duration::from_secs(900);
/// Making the backlog is not what is measured, and the log that it writes is the same.
pub const SOURCE: [(&str, &str); 2] = [("sync_binlog", "0"), ("innodb_flush_log_at_trx_commit", "2")];
/// What MySQL's manual advises for a replica that has to keep up.
const REPLICA: [(&str, &str); 2] = [("replica_parallel_workers", "4"), ("replica_preserve_commit_order", "ON")];

pub fn run(rig: &Rig, args: &Args) -> Result<Table> {
    let install = sandbox::find_mysql()?;
    let source = my_rig::server_with_database(&install, &SOURCE)?;
    my_load::make_tables(&source, args.my_table_rows)?;
    let ours = my_rig::server_with_database(&install, &REPLICA)?;
    let migration = Migration::new(&rig.folder, "my_stream", &source.url(DATABASE), &ours.url(DATABASE))?;
    say("copying to the target of Switchyard");
    let mut daemon = migration.start()?;
    daemon.wait_until_ready(PATIENCE)?;
    daemon.stop()?;
    let native = match args.alone {
        true => None,
        // Without the database: its making is in the log, too.
        false => Some(my_rig::server(&install, &REPLICA)?),
    };
    if let Some(native) = &native {
        say("letting the native replica take in everything so far");
        begin_replica(native, &source)?;
    }
    let mut peer = Series::new("native replica, 4 workers, commit order kept");
    let mut own = Series::new("Switchyard");
    let mut processor = Series::new("processor seconds of the switchyard process");
    let mut made = 0;
    // The first round is not counted: tables and buffers are cold.
    for round in 0..=args.rounds as u64 {
        say(&format!("my-stream, round {round}: making a backlog of {} transactions", args.my_transactions));
        made = backlog(&source, args.my_table_rows, args.my_transactions, round + 1)?;
        source.sql_in(DATABASE, &format!("INSERT INTO bench_probe VALUES ({round})"))?;
        let probe = format!("SELECT count(*) FROM {DATABASE}.bench_probe WHERE id = {round}");
        for turn in 0..2 {
            let is_peer = (turn + round) % 2 == 0;
            // Each finds the source and its own target as the other one does.
            my_rig::settle(&[&source, &ours])?;
            let took = match (is_peer, &native) {
                (true, None) => continue,
                (true, Some(native)) => {
                    my_rig::settle(&[native])?;
                    let sql = MySql::connect(native, "")?;
                    let begun = Instant::now();
                    sql.execute("START REPLICA")?;
                    let level = sql.wait_for(&probe, "1", Duration::from_millis(5), PATIENCE, || running(native))?;
                    sql.execute("STOP REPLICA")?;
                    level - begun
                }
                (false, _) => {
                    let sql = MySql::connect(&ours, "")?;
                    let mut daemon = migration.start()?;
                    let alive = || daemon.alive("applying a backlog");
                    let mut alive = alive;
                    let level = sql.wait_for(&probe, "1", Duration::from_millis(5), PATIENCE, &mut alive)?;
                    let took = level - daemon.begun;
                    if round > 0 {
                        processor.values.push(daemon.processor_seconds()?);
                    }
                    daemon.stop()?;
                    took
                }
            };
            let series = if is_peer { &mut peer } else { &mut own };
            say(&format!("my-stream, round {round}: {} {:.2} s", series.name, took.as_secs_f64()));
            if round > 0 {
                series.values.push(took.as_secs_f64());
            }
        }
        let wanted = my_load::fingerprint(&source)?;
        for target in native.iter().chain([&ours]) {
            let got = my_load::fingerprint(target)?;
            ensure!(got == wanted, "a target holds\n{got}\ninstead of\n{wanted}");
            forget_log(target)?;
        }
    }
    migration.finish()?;
    let changes = made * CHANGES;
    let title = format!(
        "my-stream: {} into another, {made} transactions, {changes} row changes, {} warm rounds",
        version(&install),
        args.rounds
    );
    let head = [
        "",
        "seconds, median",
        "min–max",
        "row changes/s, median",
        "min–max",
        "Switchyard is faster by, median (min–max)",
    ];
    let mut table = Table::new(title, &head);
    for series in [&peer, &own].into_iter().filter(|s| !s.values.is_empty()) {
        let rates: Vec<f64> = series.values.iter().map(|s| changes as f64 / s).collect();
        let ratio = ratio(&series.values, &own.values);
        table.row(format!("{} | {} | {} | {ratio}", series.name, cells(&series.values), cells(&rates)));
    }
    table.row(format!("{} | {} | | | ", processor.name, cells(&processor.values)));
    table.note("Target: at least 4.00 times a native replica with 4 workers.");
    Ok(table)
}

/// Makes a replica that follows by GTID, lets it get level, and stops it.
fn begin_replica(replica: &MyServer, source: &MyServer) -> Result<()> {
    let sql = MySql::connect(replica, "")?;
    sql.execute(&format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {}, SOURCE_USER = 'root', \
         SOURCE_PASSWORD = '{}', SOURCE_AUTO_POSITION = 1, SOURCE_SSL = 0, GET_SOURCE_PUBLIC_KEY = 1; START REPLICA",
        source.port(),
        source.password()
    ))?;
    let there = source.sql("SELECT @@GLOBAL.gtid_executed")?.replace('\n', "");
    let level = format!("SELECT gtid_subset('{there}', @@GLOBAL.gtid_executed)");
    sql.wait_for(&level, "1", Duration::from_millis(50), PATIENCE, || running(replica))?;
    sql.execute("STOP REPLICA")
}

/// Fails if the replica has met an error.
fn running(replica: &MyServer) -> Result<()> {
    let sql = MySql::connect(replica, "")?;
    // Read by place, as SHOW REPLICA STATUS has had them since 8.0.22: `Last_Error` and `Last_IO_Error`.
    for place in [19, 35] {
        let said = sql.field("SHOW REPLICA STATUS", place)?;
        ensure!(said.is_empty(), "the native replica stopped: {said}");
    }
    Ok(())
}
