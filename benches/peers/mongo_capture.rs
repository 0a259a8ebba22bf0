//! Reading a backlog of MongoDB's change stream without a target: the server alone, Switchyard.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use switchyard::change::Event;
use switchyard::position::Position;
use switchyard::sandbox::MongoServer;
use switchyard::source::{self, LogIdentity, Source, SourceOptions, queue};
use tokio::sync::watch;

use super::Args;
use super::mongo_rig::{self, UPDATED, version};
use super::report::{Series, Table, cells};
use super::rig::{DATABASE, Rig, say};

/// As between capture and apply in the daemon.
const QUEUE_BYTES: usize = 8 << 20;

/// A kind of event.
struct Kind {
    name: &'static str,
    raw: Series,
    ours: Series,
    processor: Series,
}

pub fn run(_rig: &Rig, args: &Args) -> Result<Table> {
    let server = mongo_rig::server()?;
    let kind = |name| Kind {
        name,
        raw: Series::new(format!("{name}: the change stream's raw batches read alone")),
        ours: Series::new(format!("{name}: Switchyard, events dropped")),
        processor: Series::new(format!("{name}: processor seconds of this process for it")),
    };
    let mut kinds = [kind("inserts"), kind("updates, looked up")];
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for kind in &mut kinds {
        let inserts = kind.name == "inserts";
        let source = open(&server)?;
        let (identity, from) = runtime.block_on(async {
            let tables = source.tables().await?;
            let session = source.begin(&tables).await?;
            anyhow::Ok((session.identity().clone(), session.start().clone()))
        })?;
        let begin = mongo_rig::now(&server)?;
        say(&format!("mongo-capture: making a backlog of {} {}", args.mongo_events, kind.name));
        match inserts {
            true => mongo_rig::fill(&server, args.mongo_events.max(UPDATED))?,
            false => mongo_rig::update(&server, args.mongo_events, 1)?,
        }
        runtime.block_on(source.mark("end of the backlog"))?;
        for round in 0..=args.rounds {
            let before = own_seconds()?;
            let (changes, took) = runtime.block_on(tail(source.as_ref(), &identity, from.clone()))?;
            let seconds = own_seconds()? - before;
            let alone = mongo_rig::stream_alone(&server, begin, changes)?;
            let (alone, took) = (alone.as_secs_f64(), took.as_secs_f64());
            say(&format!(
                "mongo-capture, round {round}: {changes} {}, read alone {alone:.2} s, Switchyard {took:.2} s, {seconds:.2} s of processor",
                kind.name
            ));
            if round > 0 {
                kind.raw.values.push(changes as f64 / alone);
                kind.ours.values.push(changes as f64 / took);
                kind.processor.values.push(seconds);
            }
        }
        runtime.block_on(source.finish())?;
    }
    let title = format!(
        "mongo-capture: {}, {} events each, {} rounds, events a second",
        version(server.install()),
        args.mongo_events,
        args.rounds
    );
    let mut table = Table::new(title, &["", "median", "min–max"]);
    for series in kinds.iter().flat_map(|k| [&k.raw, &k.ours, &k.processor]) {
        table.row(format!("{} | {}", series.name, cells(&series.values)));
    }
    table.note("Target: at least 100 000, or what the server gives.");
    Ok(table)
}

fn open(server: &MongoServer) -> Result<std::sync::Arc<dyn Source>> {
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
    Ok(source::open(options)?)
}

/// Processor time of this process, in which the capture runs.
fn own_seconds() -> Result<f64> {
    super::daemon::processor_seconds(std::process::id())
}

/// Follows the stream to the mark: how many changes there were, and how long it took.
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
