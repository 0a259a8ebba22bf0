//! Switchyard beside its peers, in turn, on the same data and on servers of their own.
//!
//! `cargo bench --bench peers -- copy --rounds 5`; without a name everything runs but the large table of `memory`.
//! What each figure means and how to read it: docs/benchmarks.md.
//!
//! | file | responsibility |
//! |---|---|
//! | `rig.rs` | servers with the same settings, pgbench and other programs, SQL sessions |
//! | `daemon.rs` | the `switchyard` process: configuration, start, status, stop, peak memory |
//! | `pair.rs` | one source with two targets kept level: native logical replication's and Switchyard's |
//! | `report.rs` | medians, spreads, ratios, tables that can be pasted |
//! | `copy.rs` `stream.rs` `capture.rs` `latency.rs` `rules.rs` `memory.rs` | one sub-benchmark each |

mod capture;
mod copy;
mod daemon;
mod latency;
mod memory;
mod pair;
mod report;
mod rig;
mod rules;
mod stream;

use clap::{Parser, ValueEnum};

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Work {
    /// A copy from empty to the same tables, keys and sequences: pgcopydb, COPY by hand, Switchyard
    Copy,
    /// A backlog of transactions until the target is level: native logical replication, Switchyard
    Stream,
    /// Decoding a backlog without a target: the server alone, Switchyard
    Capture,
    /// From commit at the source to visible at the target, at a steady rate
    Latency,
    /// What rules cost, in copy and stream
    Rules,
    /// The largest memory that Switchyard held
    Memory,
}

/// Measure Switchyard beside its peers.
#[derive(Debug, Parser)]
struct Args {
    /// What to measure [default: everything]
    #[arg(value_enum)]
    work: Vec<Work>,
    /// How often each is measured
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// pgbench scale factor: 100 000 rows each
    #[arg(long, default_value_t = 30)]
    scale: u32,
    /// Transactions of a backlog
    #[arg(long, default_value_t = 200_000)]
    transactions: u64,
    /// Transactions a second while latency is measured
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    /// How long each measurement of latency lasts
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Rows of the one transaction whose memory is measured
    #[arg(long, default_value_t = 2_000_000)]
    rows: u64,
    /// Size of the table whose copy's memory is measured; 0 leaves it out. Needs 2.5 times that on disk
    #[arg(long, default_value_t = 0)]
    gigabytes: u64,
    /// Leave the peers out: for work on Switchyard's own time
    #[arg(long)]
    alone: bool,
    /// What cargo passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let work = match args.work.as_slice() {
        [] => Work::value_variants(),
        some => some,
    };
    let rig = rig::Rig::new()?;
    println!("{}\n", report::machine(&rig));
    for work in work {
        let before = report::load();
        let table = match work {
            Work::Copy => copy::run(&rig, &args)?,
            Work::Stream => stream::run(&rig, &args)?,
            Work::Capture => capture::run(&rig, &args)?,
            Work::Latency => latency::run(&rig, &args)?,
            Work::Rules => rules::run(&rig, &args)?,
            Work::Memory => memory::run(&rig, &args)?,
        };
        println!("{table}\nLoad average before {before}, after {}.\n", report::load());
    }
    Ok(())
}
