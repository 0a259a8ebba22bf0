//! Capture alone and COPY alone, against private servers: `cargo bench --bench wire [-- transactions [rows]]`.
//!
//! Capture: a backlog of pgbench transactions (`-N`: one update of an account and one insert into the history each) is
//! decoded by the server and turned into events here, and dropped. COPY: pgbench's accounts through
//! `COPY … BINARY` to `COPY … BINARY`, one connection on each side.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_util::future::BoxFuture;
use switchyard::change::{Ddl, Event};
use switchyard::pgwire::conn::{PgConn, Purpose};
use switchyard::pgwire::conninfo::ConnInfo;
use switchyard::position::Position;
use switchyard::sandbox::{self, PgServer};
use switchyard::schema::{Column, Kind, RowIdentity, Table, TableId, TableName};
use switchyard::source::postgres::pgoutput::Relation;
use switchyard::source::postgres::replication::{RelationResolver, ReplicationStream};
use switchyard::source::queue;
use tokio::sync::watch;

/// Believes what the log says about a table.
struct Believer;

impl RelationResolver for Believer {
    fn resolve<'a>(&'a mut self, relation: &'a Relation) -> BoxFuture<'a, switchyard::Result<Arc<Table>>> {
        let columns = relation.columns.iter().map(|c| Column {
            name: c.name.clone(),
            number: 0,
            type_name: c.type_oid.to_string(),
            kind: Kind::Other,
            nullable: true,
            identity: None,
            default: None,
            collation: None,
            portable_binary: true,
        });
        let table = Table {
            id: TableId(relation.oid),
            name: TableName::new(&relation.schema, &relation.name),
            columns: columns.collect(),
            generated: Vec::new(),
            identity: RowIdentity::None,
            full_old_rows: false,
            has_secondary_unique: false,
            estimated_rows: 0,
            bytes: 0,
        };
        Box::pin(async move { Ok(Arc::new(table)) })
    }
    fn ddl<'a>(&'a mut self, _: &'a [u8]) -> BoxFuture<'a, switchyard::Result<Option<Ddl>>> {
        Box::pin(async { Ok(None) })
    }
}

fn info(server: &PgServer) -> anyhow::Result<ConnInfo> {
    Ok(ConnInfo::parse("url", &server.url("postgres").into())?)
}

fn pgbench(server: &PgServer, args: &[&str]) -> anyhow::Result<()> {
    let status = Command::new(server.install().bin.join("pgbench"))
        .env("PGPASSWORD", server.password())
        .args(["-h", "127.0.0.1", "-U", "postgres", "-p", &server.port().to_string(), "--quiet"])
        .args(args)
        .arg("postgres")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()?;
    anyhow::ensure!(status.success(), "pgbench ended with {status}");
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let mut numbers = std::env::args().skip(1).filter_map(|a| a.parse::<u64>().ok());
    let transactions = numbers.next().unwrap_or(200_000);
    let rows = numbers.next().unwrap_or(3_000_000);
    let install = sandbox::find_postgres(Some(14))?;
    let quick = |b: sandbox::PgServerBuilder| b.setting("fsync", "off").setting("max_wal_size", "8GB");
    let source = quick(PgServer::builder(&install)).setting("logical_decoding_work_mem", "64MB").start()?;
    let target = quick(PgServer::builder(&install)).setting("wal_level", "minimal").setting("max_wal_senders", "0").start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;

    pgbench(&source, &["-i", "-s", &(rows / 100_000).max(1).to_string(), "-I", "dtgp"])?;
    target.psql("create table pgbench_accounts (aid int not null, bid int, abalance int, filler char(84))")?;
    for round in 1..=3 {
        let (copied, took, out_only) = runtime.block_on(copy(&source, &target))?;
        println!(
            "copy, round {round}: {copied} rows in {:.2} s, {:.2} million rows/s; reading alone {:.2} million rows/s",
            took.as_secs_f64(),
            copied as f64 / took.as_secs_f64() / 1e6,
            copied as f64 / out_only.as_secs_f64() / 1e6
        );
    }

    source.psql("create publication p for all tables")?;
    let from = runtime.block_on(async {
        let mut stream = ReplicationStream::connect(&info(&source)?, "source").await?;
        anyhow::Ok(stream.create_slot("s", false, false).await?.consistent_point)
    })?;
    pgbench(&source, &["-n", "-N", "-c", "8", "-j", "2", "-M", "prepared", "-t", &(transactions / 8).to_string()])?;
    source.psql("select pg_logical_emit_message(true, 'switchyard', '{\"marker\":\"end\"}')")?;
    for round in 1..=3 {
        let (changes, took) = runtime.block_on(async {
            let mut stream = ReplicationStream::connect(&info(&source)?, "source").await?;
            let (out, mut events) = queue::channel(8 << 20);
            let (_confirmed, watching) = watch::channel(Position::Lsn(from));
            let start = Instant::now();
            stream.start("s", from, "p").await?;
            let task = tokio::spawn(async move { stream.run(&mut Believer, out, watching).await });
            let mut changes = 0_u64;
            'all: while let Some(received) = events.recv().await {
                for event in &received.events {
                    match event {
                        Event::Change(_) => changes += 1,
                        Event::Marker { .. } => break 'all,
                        _ => {}
                    }
                }
            }
            let took = start.elapsed();
            drop(events);
            task.await??;
            anyhow::Ok((changes, took))
        })?;
        println!(
            "capture, round {round}: {changes} row changes in {:.2} s, {:.0} changes/s",
            took.as_secs_f64(),
            changes as f64 / took.as_secs_f64()
        );
    }
    Ok(())
}

/// Rows, the time from table to table, and the time of reading alone.
async fn copy(source: &PgServer, target: &PgServer) -> anyhow::Result<(u64, Duration, Duration)> {
    let mut from = PgConn::connect(&info(source)?, "source", Purpose::Sql).await?;
    let mut to = PgConn::connect(&info(target)?, "target", Purpose::Sql).await?;
    let mut block = BytesMut::new();
    let start = Instant::now();
    from.copy_out_start("copy public.pgbench_accounts to stdout (format binary)").await?;
    while from.copy_out_next(&mut block).await?.is_some() {
        block.clear();
    }
    let out_only = start.elapsed();
    let start = Instant::now();
    to.execute("begin; truncate public.pgbench_accounts").await?;
    to.copy_in_start("copy public.pgbench_accounts from stdin (format binary, freeze)", true).await?;
    from.copy_out_start("copy public.pgbench_accounts to stdout (format binary)").await?;
    let (blocks, mut arriving) = tokio::sync::mpsc::channel::<BytesMut>(4);
    let reader = async move {
        while from.copy_out_next(&mut block).await?.is_some() {
            if blocks.send(block.split()).await.is_err() {
                break;
            }
        }
        anyhow::Ok(())
    };
    let reader = tokio::spawn(reader);
    while let Some(block) = arriving.recv().await {
        to.copy_in_write(&block).await?;
    }
    let rows = to.copy_in_finish().await?;
    reader.await??;
    to.execute("commit").await?;
    Ok((rows, start.elapsed(), out_only))
}
