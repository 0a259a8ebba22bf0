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
//! | `copy.rs` `stream.rs` `capture.rs` `latency.rs` `rules.rs` `memory.rs` `verify.rs` | one sub-benchmark each |
//! | `my_rig.rs` | MySQL and MariaDB servers with the same settings, SQL sessions, and the `mysql` program |
//! | `my_table.rs` | the table of the copies between engines |
//! | `my_load.rs` | the load of sysbench's `oltp_write_only` |
//! | `my_copy.rs` | `my-copy` and `pg-my-copy` |
//! | `my_stream.rs` `my_capture.rs` `my_memory.rs` | one sub-benchmark each, with MySQL as source |
//! | `mongo_rig.rs` | MongoDB servers with the same settings, documents, change streams read raw |
//! | `mongo_copy.rs` `mongo_stream.rs` `mongo_capture.rs` | one sub-benchmark each, with MongoDB as source |

mod capture;
mod copy;
mod daemon;
mod latency;
mod memory;
mod mongo_capture;
mod mongo_copy;
mod mongo_rig;
mod mongo_stream;
mod my_capture;
mod my_copy;
mod my_load;
mod my_memory;
mod my_rig;
mod my_stream;
mod my_table;
mod pair;
mod report;
mod rig;
mod rules;
mod stream;
mod verify;

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
    /// Comparing two equal databases row by row: COPY of the rows, pgcopydb compare data, Switchyard
    Verify,
    /// A copy of MariaDB into PostgreSQL: pgloader, Switchyard
    MyCopy,
    /// A copy of PostgreSQL into MySQL: LOAD DATA LOCAL, Switchyard
    PgMyCopy,
    /// A backlog of MySQL until another MySQL is level: a native replica, Switchyard
    MyStream,
    /// Decoding a backlog of MySQL without a target
    MyCapture,
    /// The largest memory that Switchyard held between MySQL and PostgreSQL
    MyMemory,
    /// A copy of MongoDB into typed columns of PostgreSQL, and the memory that it held
    MongoCopy,
    /// A backlog of updates of MongoDB until PostgreSQL is level
    MongoStream,
    /// Reading a backlog of MongoDB's change stream without a target
    MongoCapture,
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
    /// Rows of the table that is copied between engines, and of the one transaction from MySQL whose memory is measured
    #[arg(long, default_value_t = 1_000_000)]
    my_rows: u64,
    /// Rows of each of MySQL's four tables that transactions change
    #[arg(long, default_value_t = 100_000)]
    my_table_rows: u64,
    /// Transactions of a backlog of MySQL: four row changes each
    #[arg(long, default_value_t = 60_000)]
    my_transactions: u64,
    /// Documents of the collection that is copied from MongoDB: about 170 bytes each
    #[arg(long, default_value_t = 1_000_000)]
    documents: u64,
    /// Events of a backlog of MongoDB
    #[arg(long, default_value_t = 200_000)]
    mongo_events: u64,
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
            Work::Verify => verify::run(&rig, &args)?,
            Work::MyCopy => my_copy::into_postgres(&rig, &args)?,
            Work::PgMyCopy => my_copy::into_mysql(&rig, &args)?,
            Work::MyStream => my_stream::run(&rig, &args)?,
            Work::MyCapture => my_capture::run(&rig, &args)?,
            Work::MyMemory => my_memory::run(&rig, &args)?,
            Work::MongoCopy => mongo_copy::run(&rig, &args)?,
            Work::MongoStream => mongo_stream::run(&rig, &args)?,
            Work::MongoCapture => mongo_capture::run(&rig, &args)?,
        };
        println!("{table}\nLoad average before {before}, after {}.\n", report::load());
    }
    Ok(())
}
