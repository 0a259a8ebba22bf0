//! Decoding a backlog without a target: the server alone, PostgreSQL's own client of the same protocol, Switchyard.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use switchyard::change::Event;
use switchyard::position::Position;
use switchyard::sandbox::PgServer;
use switchyard::source::{self, LogIdentity, Source, SourceOptions, queue};
use tokio::sync::watch;

use super::Args;
use super::daemon::processor_seconds;
use super::report::{Series, Table, cells};
use super::rig::{DATABASE, Rig, Sql, program, run as run_to_end, say, settle};
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
        whole_rows: Vec::new(),
        zero_dates: Default::default(),
        collections: Default::default(),
        documents: Default::default(),
        nul_text: Default::default(),
        follow: Default::default(),
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
    let end = sql.text("SELECT pg_current_wal_lsn()")?;
    let mut client = Series::new("pg_recvlogical into /dev/null");
    let mut walsender = Series::new("  processor seconds of the server's walsender for it");
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
        let received = match args.alone {
            true => f64::NAN,
            false => recvlogical(&server, &sql, &slot, &publication, &end)?,
        };
        let captured = runtime.block_on(tail(source.as_ref(), &identity, from.clone(), &server))?;
        let (took, seconds) = (captured.took.as_secs_f64(), captured.walsender_seconds);
        changes = captured.changes;
        say(&format!(
            "capture, round {round}: {changes} changes, server alone {alone:.2} s, pg_recvlogical {received:.2} s, Switchyard {took:.2} s, walsender {seconds:.2} s of processor"
        ));
        if round > 0 {
            server_alone.values.push(changes as f64 / alone);
            client.values.push(changes as f64 / received);
            ours.values.push(changes as f64 / took);
            walsender.values.push(seconds);
        }
        // The walsender of this round must be gone before the slot is read again.
        let active = format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'");
        sql.wait_for(&active, "f", Duration::from_millis(10), Duration::from_secs(30))?;
    }
    runtime.block_on(source.finish())?;
    let title = format!("capture alone: {changes} row changes, {} rounds, row changes a second", args.rounds);
    let mut table = Table::new(title, &["", "median", "min–max"]);
    for series in [&server_alone, &client, &ours] {
        if !args.alone || std::ptr::eq(series, &ours) {
            table.row(format!("{} | {}", series.name, cells(&series.values)));
        }
    }
    table.row(format!("{} | {}", walsender.name, cells(&walsender.values)));
    table.note("Target: at least 350 000. The server sends every message by itself: pg_recvlogical shows what that allows here.");
    Ok(table)
}

/// How long PostgreSQL's own client needs for the same messages over the same protocol, doing nothing with them: what the
/// server's side of the protocol allows on this machine. It confirms what it got, so it reads a copy of the slot.
fn recvlogical(server: &PgServer, sql: &Sql, slot: &str, publication: &str, end: &str) -> Result<f64> {
    sql.text(&format!("SELECT pg_copy_logical_replication_slot('{slot}', 'bench_client')"))?;
    let mut command = program(server, "pg_recvlogical");
    command.args(["--start", "--slot=bench_client", "--file=/dev/null", "--no-loop"]);
    command.args(["-o", "proto_version=1", "-o", "messages=true", "-o", &format!("publication_names={publication}")]);
    command.arg(format!("--endpos={end}")).arg(format!("--dbname={}", server.url(DATABASE)));
    let took = run_to_end(&mut command)?;
    let idle = "SELECT active FROM pg_replication_slots WHERE slot_name = 'bench_client'";
    sql.wait_for(idle, "f", Duration::from_millis(10), Duration::from_secs(30))?;
    sql.text("SELECT pg_drop_replication_slot('bench_client')")?;
    Ok(took.as_secs_f64())
}

/// What one pass over the backlog took.
struct Captured {
    changes: u64,
    took: Duration,
    /// The server's part of it, which other work on the machine does not lengthen as it does the clock's time.
    walsender_seconds: f64,
}

/// Follows the log to the mark and counts the row changes.
async fn tail(source: &dyn Source, identity: &LogIdentity, from: Position, server: &PgServer) -> Result<Captured> {
    let tables = source.tables().await?;
    let (out, mut events) = queue::channel(QUEUE_BYTES);
    // Nothing is confirmed, so that the next round finds the same backlog.
    let (_confirm, confirmed) = watch::channel(from.clone());
    let begun = Instant::now();
    let drop_all = async {
        let mut changes = 0;
        while let Some(received) = events.recv().await {
            for event in &received.events {
                match event {
                    Event::Change(_) => changes += 1,
                    Event::Marker { .. } => {
                        let took = begun.elapsed();
                        return Ok(Captured { changes, took, walsender_seconds: walsender(server)? });
                    }
                    _ => {}
                }
            }
        }
        bail!("the stream ended before the mark")
    };
    tokio::select! {
        captured = drop_all => captured,
        ended = source.tail(identity, from, &tables, out, confirmed) => {
            ended?;
            bail!("the stream ended before the mark")
        }
    }
}

/// Processor seconds of the one walsender of the server. A session of this kind cannot be asked inside a runtime.
fn walsender(server: &PgServer) -> Result<f64> {
    let url = server.url(DATABASE);
    let asked = std::thread::spawn(move || -> Result<f64> {
        let pid = Sql::open(&url)?.text("SELECT pid FROM pg_stat_replication")?;
        processor_seconds(pid.parse().context("the walsender is gone already")?)
    });
    asked.join().map_err(|_| anyhow!("asking for the walsender's time panicked"))?
}
