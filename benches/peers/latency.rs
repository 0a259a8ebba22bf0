//! From commit at the source to visible at the target, at a steady rate.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Args;
use super::pair::{Pair, Running};
use super::report::{Table, cells, percentile};
use super::rig::{DATABASE, Rig, Sql, pgbench_command, say, settle};

/// Probe rows a second.
const PROBES: u64 = 100;
/// Enough that updates rarely meet; the size of the table does not matter otherwise.
const SCALE: u32 = 10;
/// A probe that is not visible after so long is an error.
const PATIENCE: Duration = Duration::from_secs(30);
/// Not counted: connections and caches are cold.
const WARM_UP: Duration = Duration::from_secs(2);

pub fn run(rig: &Rig, args: &Args) -> Result<Table> {
    let pair = Pair::new(rig, args.scale.min(SCALE), !args.alone)?;
    let carriers = pair.carriers();
    let mut figures: Vec<[Vec<f64>; 4]> = vec![Default::default(); carriers.len()];
    let mut next_id = 0;
    for round in 0..args.rounds {
        for turn in 0..carriers.len() {
            let i = (turn + round) % carriers.len();
            let mut running = pair.start(carriers[i])?;
            next_id += 1;
            pair.probe(next_id)?;
            pair.wait_for_probe(&mut running, next_id)?;
            settle(&pair.servers())?;
            let taken = measure(&pair, &running, args, carriers[i], &mut next_id)?;
            for (n, p) in [0.5, 0.95, 0.99, 1.0].into_iter().enumerate() {
                figures[i][n].push(percentile(&taken, p));
            }
            let [p50, p95, p99, max] = [0, 1, 2, 3].map(|n| figures[i][n].last().copied().unwrap_or_default());
            say(&format!(
                "latency, round {round}: {} {} probes, p50 {p50:.2} p95 {p95:.2} p99 {p99:.2} max {max:.1} ms",
                carriers[i].name(),
                taken.len()
            ));
            pair.stop(running)?;
        }
        pair.vacuum()?;
    }
    let title = format!(
        "latency: commit at the source to visible at the target, {} transactions/s for {} s, {PROBES} probes/s, {} rounds, milliseconds",
        args.rate, args.seconds, args.rounds
    );
    let head =
        ["", "p50, median", "min–max", "p95, median", "min–max", "p99, median", "min–max", "max, median", "min–max"];
    let mut table = Table::new(title, &head);
    for (carrier, figures) in carriers.iter().zip(&figures) {
        let cells: Vec<String> = figures.iter().map(|f| cells(f)).collect();
        table.row(format!("{} | {}", carrier.name(), cells.join(" | ")));
    }
    table.note("Target: p50 at most 2, p99 at most 10.");
    Ok(table)
}

/// Milliseconds of every probe.
fn measure(
    pair: &Pair,
    _running: &Running,
    args: &Args,
    carrier: super::pair::Carrier,
    next_id: &mut u64,
) -> Result<Vec<f64>> {
    let total = WARM_UP + Duration::from_secs(args.seconds);
    let mut load = pgbench_command(&pair.source)
        .args(["-n", "-N", "-c", "4", "-j", "1", "-M", "prepared"])
        .args(["-R", &args.rate.to_string(), "-T", &(total.as_secs() + 1).to_string()])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .context("starting pgbench")?;
    let writer = Sql::connect(&pair.source, DATABASE)?;
    let insert = writer.prepare("INSERT INTO bench_probe VALUES ($1) RETURNING id")?;
    let reader = Sql::connect(pair.target(carrier), DATABASE)?;
    let newest = reader.prepare("SELECT coalesce(max(id), 0) FROM bench_probe")?;
    let first = *next_id + 1;
    let (announce, announced) = mpsc::channel::<i64>();
    // Commits arrive in order, so the newest visible number says when each one before it became visible. It is asked
    // in a tight loop, but only while a probe is under way.
    let watcher = thread::spawn(move || -> Result<Vec<(i64, Instant)>> {
        let mut seen = Vec::new();
        let mut visible = first as i64 - 1;
        while let Ok(wanted) = announced.recv() {
            let begun = Instant::now();
            while visible < wanted {
                let now_visible = reader.number(&newest, None)?;
                let at = Instant::now();
                seen.extend((visible + 1..=now_visible).map(|id| (id, at)));
                visible = visible.max(now_visible);
                ensure!(begun.elapsed() < PATIENCE, "a probe is not visible at the target after {PATIENCE:?}");
            }
        }
        Ok(seen)
    });
    let begun = Instant::now();
    let mut committed = Vec::new();
    for n in 0.. {
        let due = begun + Duration::from_micros(n * 1_000_000 / PROBES);
        if due > begun + total {
            break;
        }
        if let Some(rest) = due.checked_duration_since(Instant::now()) {
            thread::sleep(rest);
        }
        *next_id += 1;
        let id = *next_id as i64;
        // The watcher looks before the commit's answer is here.
        if announce.send(id).is_err() {
            break;
        }
        writer.number(&insert, Some(id))?;
        committed.push((id, Instant::now(), due));
    }
    drop(announce);
    let seen = watcher.join().map_err(|_| anyhow::anyhow!("the watching thread panicked"))??;
    load.wait()?;
    let mut taken = Vec::with_capacity(committed.len());
    for ((id, at, due), (seen_id, seen_at)) in committed.iter().zip(&seen) {
        ensure!(id == seen_id, "probe {id} was not seen in its turn");
        if *due >= begun + WARM_UP {
            // Visible before the client's own COMMIT was answered counts as no time at all.
            taken.push(seen_at.saturating_duration_since(*at).as_secs_f64() * 1000.0);
        }
    }
    ensure!(!taken.is_empty(), "no probe was measured");
    Ok(taken)
}
