//! Decoding a backlog without a target: the server alone, Switchyard.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use switchyard::change::Event;
use switchyard::position::Position;
use switchyard::source::{self, LogIdentity, Source, SourceOptions, queue};
use tokio::sync::watch;

use super::Args;
use super::report::{Series, Table, cells};
use super::rig::{DATABASE, Rig, Sql, say, settle};
use super::stream::backlog;

/// As between capture and apply in the daemon.
const QUEUE_BYTES: usize = 8 << 20;

pub fn run(rig: &Rig, args: &Args) -> Result<Table> {
    let server = rig.source(args.scale)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let options = SourceOptions {
        name: "capture".into(),
        url: server.url(DATABASE).into(),
        selection: Default::default(),
        workers: 1,
    };
    let source = source::open(options)?;
    let (identity, from) = runtime.block_on(async {
        let tables = source.tables().await?;
        let session = source.begin(&tables).await?;
        anyhow::Ok((session.identity().clone(), session.start().clone()))
    })?;
    say(&format!("capture: making a backlog of {} transactions", args.transactions));
    backlog(&server, args.transactions)?;
    runtime.block_on(source.mark("end of the backlog"))?;
    let sql = Sql::connect(&server, DATABASE)?;
    let slot = identity.handle.clone().context("the source has no slot")?;
    let publication = sql.text("SELECT pubname FROM pg_publication")?;
    let peek = format!(
        "SELECT count(*) FROM pg_logical_slot_peek_binary_changes('{slot}', NULL, NULL, \
         'proto_version', '1', 'publication_names', '{publication}', 'messages', 'true')"
    );
    let (mut server_alone, mut ours) =
        (Series::new("the server alone (peek)"), Series::new("Switchyard, events dropped"));
    let mut changes = 0;
    for round in 0..=args.rounds {
        settle(&[&server])?;
        let begun = Instant::now();
        if !args.alone {
            sql.text(&peek)?;
        }
        let alone = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        changes = runtime.block_on(tail(source.as_ref(), &identity, from.clone()))?;
        let captured = begun.elapsed().as_secs_f64();
        say(&format!(
            "capture, round {round}: {changes} changes, server alone {alone:.2} s, Switchyard {captured:.2} s"
        ));
        if round > 0 {
            server_alone.values.push(changes as f64 / alone);
            ours.values.push(changes as f64 / captured);
        }
        // The walsender of this round must be gone before the slot is read again.
        let active = format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'");
        sql.wait_for(&active, "f", std::time::Duration::from_millis(10), std::time::Duration::from_secs(30))?;
    }
    runtime.block_on(source.finish())?;
    let title = format!("capture alone: {changes} row changes, {} rounds, row changes a second", args.rounds);
    let mut table = Table::new(title, &["", "median", "min–max"]);
    for series in [&server_alone, &ours] {
        if !(args.alone && std::ptr::eq(series, &server_alone)) {
            table.row(format!("{} | {}", series.name, cells(&series.values)));
        }
    }
    table.note("Target: at least 350 000.");
    Ok(table)
}

/// Follows the log to the mark and counts the row changes.
async fn tail(source: &dyn Source, identity: &LogIdentity, from: Position) -> Result<u64> {
    let tables = source.tables().await?;
    let (out, mut events) = queue::channel(QUEUE_BYTES);
    // Nothing is confirmed, so that the next round finds the same backlog.
    let (_confirm, confirmed) = watch::channel(from.clone());
    let drop_all = async {
        let mut changes = 0;
        while let Some(received) = events.recv().await {
            for event in &received.events {
                match event {
                    Event::Change(_) => changes += 1,
                    Event::Marker { .. } => return Ok(changes),
                    _ => {}
                }
            }
        }
        bail!("the stream ended before the mark")
    };
    tokio::select! {
        changes = drop_all => changes,
        ended = source.tail(identity, from, &tables, out, confirmed) => {
            ended?;
            bail!("the stream ended before the mark")
        }
    }
}
