//! Kills at every named point and at random times: the target ends equal to the source, nothing is applied twice, and
//! nobody helps.

use std::time::Duration;

use crate::support::{Config, Daemon, Database, Ledger, Sql, assert_equal};

/// Where a first run may die, and which time it passes there. The stream's points are passed once for every batch.
const POINTS: [(&str, u64); 15] = [
    ("copy.before_begin", 1),
    ("copy.log_kept", 1),
    ("copy.schema_made", 1),
    ("copy.planned", 1),
    ("copy.chunk_read", 1),
    ("copy.chunk_read", 7),
    ("copy.chunk_committed", 1),
    ("copy.chunk_committed", 7),
    ("copy.indexed", 2),
    ("copy.loaded", 1),
    ("copy.done", 1),
    ("stream.constraints_made", 1),
    ("stream.before_apply", 4),
    ("apply.before_commit", 4),
    ("stream.applied", 4),
];

/// Tables beside the ledger: one of several small chunks, one without a key, one that refers to another.
const TABLES: &str = "
    create table item (id int primary key, name text not null, price numeric, unique (name));
    create table part (id int primary key, item int not null references item, note text);
    create table nokey (a int, b text);
    alter table nokey replica identity full;
    insert into item select i, 'item ' || i, i / 7.0 from generate_series(1, 3000) i;
    insert into part select i, 1 + i % 3000, repeat('x', i % 200) from generate_series(1, 2000) i;
    insert into nokey select i % 50, 'same' from generate_series(1, 500) i;
    analyze;";

/// Chunks of a few pages, and no table small enough to be loaded whole.
fn small_chunks(config: Config) -> Config {
    config.env("SWITCHYARD_CHUNK_BYTES", 4 * 8192).env("SWITCHYARD_WHOLE_TABLE_BYTES", 0)
}

/// Runs a daemon that dies at a point while a ledger is written, then one that must bring everything to a good end.
fn survives(point: &str, nth: u64, config: impl Fn(Config) -> Config) {
    let db = Database::shared("point");
    Sql::connect(&db.source).run(TABLES);
    let ledger = Ledger::start(&db.source, 2, Duration::from_millis(4), nth);
    ledger.wait_for(20);
    let mut daemon = Daemon::spawn(&config(db.config()).crash_at(point, nth));
    daemon.wait_crash();
    let mut daemon = Daemon::spawn(&config(db.config()));
    daemon.ready();
    ledger.wait_for(20);
    let written = ledger.stop();
    daemon.wait_level(&db.source);
    written.assert_kept(&db.target);
    assert_equal(&db.source, &db.target);
    assert_eq!(daemon.sigterm(), 0, "after a crash at {point}:{nth}");
    db.drop();
}

#[test]
fn given_a_kill_at_any_named_point_when_started_again_then_nothing_is_lost_or_doubled() {
    let failed = in_parallel(2, &POINTS, |(point, nth)| survives(point, *nth, small_chunks));
    assert!(failed.is_empty(), "failed after a crash at {failed:?}");
}

#[test]
fn given_whole_tables_when_killed_at_copy_points_then_nothing_is_lost_or_doubled() {
    let points = [("copy.chunk_read", 2), ("copy.chunk_committed", 2)];
    let failed = in_parallel(2, &points, |(point, nth)| survives(point, *nth, |c| c));
    assert!(failed.is_empty(), "failed after a crash at {failed:?}");
}

/// Runs every case, `at_once` at a time; those that panicked.
fn in_parallel<C: Sync + std::fmt::Debug>(at_once: usize, cases: &[C], run: impl Fn(&C) + Sync) -> Vec<&C> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let failed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, std::sync::atomic::Ordering::SeqCst)) {
                    eprintln!("case {case:?}");
                    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(case))).is_err() {
                        eprintln!("case {case:?} failed");
                        failed.lock().unwrap().push(case);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap()
}
