//! A backlog of transactions until the target is level: native logical replication, Switchyard.

use anyhow::Result;

use super::Args;
use super::pair::{Carrier, Pair};
use super::report::{Series, Table, cells, ratio};
use super::rig::{Rig, pgbench, say, settle};

/// Clients that make the backlog.
const CLIENTS: u64 = 8;

pub fn run(rig: &Rig, args: &Args) -> Result<Table> {
    let pair = Pair::new(rig, args.scale, !args.alone)?;
    let carriers = pair.carriers();
    // An update and an insert each.
    let changes = (args.transactions / CLIENTS * CLIENTS * 2) as f64;
    let mut from_start: Vec<Series> = carriers.iter().map(|c| Series::new(c.name())).collect();
    let mut from_stream = from_start.clone();
    let mut processor = Series::new("processor seconds of the switchyard process");
    // The first round is not counted: tables and buffers are cold.
    for round in 0..=args.rounds {
        say(&format!("stream, round {round}: making a backlog of {} transactions", args.transactions));
        make_backlog(&pair, args.transactions)?;
        pair.probe(round as u64)?;
        for turn in 0..carriers.len() {
            let i = (turn + round) % carriers.len();
            settle(&pair.servers())?;
            let mut running = pair.start(carriers[i])?;
            let streaming = pair.wait_until_slot(carriers[i], true)?;
            let level = pair.wait_for_probe(&mut running, round as u64)?;
            let whole = (level - running.begun).as_secs_f64();
            let stream = (level - streaming).as_secs_f64();
            say(&format!(
                "stream, round {round}: {} {whole:.2} s from start, {stream:.2} s from the stream's start",
                carriers[i].name()
            ));
            if let (Carrier::Switchyard, Some(daemon), true) = (carriers[i], &running.daemon, round > 0) {
                processor.values.push(daemon.processor_seconds()?);
            }
            pair.stop(running)?;
            if round > 0 {
                from_start[i].values.push(whole);
                from_stream[i].values.push(stream);
            }
        }
        pair.compare()?;
        pair.vacuum()?;
    }
    let title =
        format!("stream: {} transactions, {changes:.0} row changes, {} warm rounds", args.transactions, args.rounds);
    let mut table = Table::new(
        title,
        &[
            "",
            "seconds, median",
            "min–max",
            "row changes/s, median",
            "min–max",
            "Switchyard is faster by, median (min–max)",
        ],
    );
    for (from, all) in [("from the start", &from_start), ("from the stream's start", &from_stream)] {
        let ours = &all[all.len() - 1].values;
        for series in all {
            let rates: Vec<f64> = series.values.iter().map(|s| changes / s).collect();
            let ratio = ratio(&series.values, ours);
            table.row(format!("{}, {from} | {} | {} | {ratio}", series.name, cells(&series.values), cells(&rates)));
        }
    }
    table.row(format!("{} | {} | | | ", processor.name, cells(&processor.values)));
    table.note("Target: at least 1.60 times native logical replication, 2 as the aim.");
    Ok(table)
}

/// One update of an account and one insert into the history a transaction.
pub fn make_backlog(pair: &Pair, transactions: u64) -> Result<()> {
    backlog(&pair.source, transactions)
}

/// The same on any source.
pub fn backlog(source: &switchyard::sandbox::PgServer, transactions: u64) -> Result<()> {
    let each = (transactions / CLIENTS).to_string();
    pgbench(source, &["-n", "-N", "-c", &CLIENTS.to_string(), "-j", "2", "-M", "prepared", "-t", &each])
}
