//! Decoding a backlog of MySQL without a target: the server alone, Switchyard.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use secrecy::SecretString;
use switchyard::change::Event;
use switchyard::mywire::binlog::{BinlogFrom, BinlogOptions};
use switchyard::mywire::conn::{MyConn, Preset};
use switchyard::mywire::conninfo::MyConnInfo;
use switchyard::position::{BinlogPosition, Position};
use switchyard::sandbox::{self, MyServer};
use switchyard::source::{self, LogIdentity, Source, SourceOptions, queue};
use tokio::sync::watch;

use super::Args;
use super::my_load::{self, backlog};
use super::my_rig::{self, forget_log, version};
use super::my_stream::SOURCE;
use super::report::{Series, Table, cells};
use super::rig::{DATABASE, Rig, say};

/// As between capture and apply in the daemon.
const QUEUE_BYTES: usize = 8 << 20;

pub fn run(_rig: &Rig, args: &Args) -> Result<Table> {
    let install = sandbox::find_mysql()?;
    let server = my_rig::server_with_database(&install, &SOURCE)?;
    my_load::make_tables(&server, args.my_table_rows)?;
    // Who reads from a set of transactions on has the server look through the file from its beginning: without the tables'.
    forget_log(&server)?;
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
    let place = from.binlog().context("the source's place is none in a binary log")?.clone();
    say(&format!("my-capture: making a backlog of {} transactions", args.my_transactions));
    backlog(&server, args.my_table_rows, args.my_transactions, 1)?;
    runtime.block_on(source.mark("end of the backlog"))?;
    let mut raw = Series::new("the log's events read, not decoded");
    let mut ours = Series::new("Switchyard, events dropped");
    let mut processor = Series::new("  processor seconds of this process for it");
    let mut changes = 0;
    for round in 0..=args.rounds {
        let (events, alone) = runtime.block_on(read_only(&server, &place))?;
        let before = own_seconds()?;
        let (counted, took) = runtime.block_on(tail(source.as_ref(), &identity, from.clone()))?;
        let seconds = own_seconds()? - before;
        changes = counted;
        let (alone, took) = (alone.as_secs_f64(), took.as_secs_f64());
        say(&format!(
            "my-capture, round {round}: {changes} changes in {events} events, read alone {alone:.2} s, Switchyard {took:.2} s, {seconds:.2} s of processor"
        ));
        if round > 0 {
            raw.values.push(changes as f64 / alone);
            ours.values.push(changes as f64 / took);
            processor.values.push(seconds);
        }
    }
    runtime.block_on(source.finish())?;
    let title = format!(
        "my-capture: {}, {changes} row changes, {} rounds, row changes a second",
        version(&install),
        args.rounds
    );
    let mut table = Table::new(title, &["", "median", "min–max"]);
    for series in [&raw, &ours, &processor] {
        table.row(format!("{} | {}", series.name, cells(&series.values)));
    }
    table.note("Target: at least 350 000.");
    Ok(table)
}

/// Processor time of this process, in which the capture runs.
fn own_seconds() -> Result<f64> {
    super::daemon::processor_seconds(std::process::id())
}

/// Reads the log to its end and looks into nothing; how many events there were, and how long it took.
async fn read_only(server: &MyServer, from: &BinlogPosition) -> Result<(u64, Duration)> {
    let info = MyConnInfo::parse("bench", &SecretString::from(server.url("")))?;
    let begun = Instant::now();
    let conn = MyConn::connect(&info, "bench", "bench", Preset::Source).await?;
    let second = Duration::from_secs(1);
    let options = BinlogOptions {
        server_id: 4_000_000_001,
        uuid: "00000000-0000-4000-8000-000000000001",
        heartbeat: second,
        silence_limit: second * 15,
        wait: false,
    };
    let from = BinlogFrom::File { name: &from.file, position: from.offset };
    let mut stream = conn.binlog_dump(from, &options).await?;
    let mut events = 0;
    while stream.next().await?.is_some() {
        events += 1;
    }
    Ok((events, begun.elapsed()))
}

/// Follows the log to the mark: how many row changes there were, and how long it took.
async fn tail(source: &dyn Source, identity: &LogIdentity, from: Position) -> Result<(u64, Duration)> {
    let tables = source.tables().await?;
    let (out, mut events) = queue::channel(QUEUE_BYTES);
    let (_confirm, confirmed) = watch::channel(from.clone());
    let begun = Instant::now();
    let drop_all = async {
        let mut changes = 0;
        while let Some(received) = events.recv().await {
            for event in &received.events {
                match event {
                    Event::Change(_) => changes += 1,
                    Event::Marker { .. } => return Ok((changes, begun.elapsed())),
                    _ => {}
                }
            }
        }
        bail!("the stream ended before the mark")
    };
    tokio::select! {
        counted = drop_all => counted,
        ended = source.tail(identity, from, &tables, out, confirmed) => {
            ended?;
            bail!("the stream ended before the mark")
        }
    }
}
