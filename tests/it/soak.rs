//! Random work and random blows, from a seed: a ledger is written by several connections while the daemon, the servers and
//! the network are killed, restarted and cut, and in the end nothing is lost and nothing is there twice.
//!
//! `SWITCHYARD_SEED` replays a run's decisions (not its timing). The short run is part of the tests; `make soak` lets the
//! long one go on for `SWITCHYARD_SOAK_SECONDS`.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use switchyard::sandbox::{PgServer, Proxy, StopMode};

use crate::support::{Config, Daemon, Ledger, Pair, Sql, assert_equal, with_port};

/// Points where a daemon may die, over the whole of its life.
const POINTS: [&str; 14] = [
    "copy.before_begin",
    "copy.log_kept",
    "copy.schema_made",
    "copy.planned",
    "copy.resumed",
    "copy.replanned",
    "copy.chunk_read",
    "copy.chunk_committed",
    "copy.indexed",
    "copy.loaded",
    "copy.done",
    "stream.before_apply",
    "apply.before_commit",
    "stream.applied",
];

fn seed() -> u64 {
    let given = std::env::var("SWITCHYARD_SEED").ok().and_then(|s| s.parse().ok());
    let seed = given.unwrap_or_else(|| rand::random::<u32>().into());
    eprintln!("SWITCHYARD_SEED={seed}");
    seed
}

/// One migration from nothing to a good end, with blows for about `time`.
fn one_life(seed: u64, time: Duration, servers_too: bool) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut pair = Pair::start();
    let db = pair.database("life");
    let (source, target) = (Proxy::start(pair.source.port()).unwrap(), Proxy::start(pair.target.port()).unwrap());
    let config = db
        .config()
        .source(&with_port(&db.source, source.port()))
        .target(&with_port(&db.target, target.port()))
        .env("SWITCHYARD_CHUNK_BYTES", [2, 8, 64].choose(&mut random).unwrap() * 8192)
        .env("SWITCHYARD_WHOLE_TABLE_BYTES", [0, 1 << 20].choose(&mut random).unwrap());
    Sql::connect(&db.source).run(
        "create table fixed (id int primary key, u int not null unique, pad text);
         insert into fixed select i, i, repeat('x', i % 300) from generate_series(1, 5000) i; analyze;",
    );
    let ledger = Ledger::start(&db.source, 3, Duration::from_millis(4), seed);
    ledger.wait_for(random.random_range(1..200));
    let until = Instant::now() + time;
    let mut blows = Vec::new();
    while Instant::now() < until {
        let mut config: Config = config.clone();
        let dies_at_a_point = random.random_bool(0.5);
        if dies_at_a_point {
            let (point, nth) = (*POINTS.choose(&mut random).unwrap(), random.random_range(1..20));
            blows.push(format!("{point}:{nth}"));
            config = config.crash_at(point, nth);
        }
        let mut daemon = Daemon::spawn(&config);
        for _ in 0..random.random_range(1..4) {
            let alive = Duration::from_millis(random.random_range(20..1500));
            let _ = crate::support::poll(alive, || (!daemon.is_running()).then_some(()));
            match random.random_range(0..6) {
                0 => {
                    blows.push("cut source".into());
                    source.cut();
                }
                1 => {
                    blows.push("cut target".into());
                    target.cut();
                }
                2 if servers_too => {
                    blows.push("source down".into());
                    blow(&mut pair.source, &mut random);
                }
                3 if servers_too => {
                    blows.push("target down".into());
                    blow(&mut pair.target, &mut random);
                }
                _ => {}
            }
        }
        if daemon.is_running() {
            match random.random_range(0..3) {
                0 => {
                    blows.push("sigterm".into());
                    assert_eq!(daemon.sigterm(), 0, "after {blows:?}");
                }
                _ => {
                    blows.push("kill -9".into());
                    daemon.kill9();
                }
            }
        } else if !dies_at_a_point || daemon.exit_status() != -libc::SIGKILL {
            panic!("the daemon ended by itself with {} after {blows:?}", daemon.exit_status());
        }
    }
    eprintln!("{} blows: {}", blows.len(), blows.join(", "));
    let mut daemon = Daemon::spawn(&config);
    daemon.ready();
    let written = ledger.stop();
    daemon.wait_level(&db.source);
    eprintln!("{} commits acknowledged, {} with unknown outcome", written.acknowledged, written.unknown);
    written.assert_kept(&db.source);
    written.assert_kept(&db.target);
    assert_equal(&db.source, &db.target);
    assert_eq!(daemon.sigterm(), 0);
}

fn blow(server: &mut PgServer, random: &mut StdRng) {
    match random.random_range(0..3) {
        0 => server.stop(StopMode::Fast).unwrap(),
        1 => server.stop(StopMode::Immediate).unwrap(),
        _ => server.kill9(),
    }
    server.start_again().unwrap();
}

#[test]
fn resume_random_given_blows_from_a_seed_then_nothing_is_lost_or_doubled() {
    one_life(seed(), Duration::from_secs(15), true);
}

#[test]
fn soak_given_blows_for_a_long_time_then_nothing_is_lost_or_doubled() {
    let seconds = std::env::var("SWITCHYARD_SOAK_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(600);
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut life = seed();
    while Instant::now() < until {
        eprintln!("--- a life with SWITCHYARD_SEED={life}");
        one_life(life, Duration::from_secs(40), true);
        life = life.wrapping_add(1);
    }
}
