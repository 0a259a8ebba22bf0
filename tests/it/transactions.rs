//! Transactions that are hard to follow: huge, with rolled-back savepoints, prepared, and with keys and unique values that
//! change places.

use std::time::Duration;

use switchyard::sandbox::StopMode;

use crate::support::{Daemon, Database, Pair, assert_equal};

const TABLE: &str = "create table t (id int primary key, u int unique, n int not null default 0, pad text);
    insert into t select i, i, 0, repeat('x', 50) from generate_series(1, 1000) i; analyze t;";

/// The most memory a process ever had, in megabytes.
fn peak(daemon: &Daemon) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = text.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn given_a_transaction_of_200_000_rows_when_applied_then_memory_stays_small() {
    let db = Database::shared("huge");
    let mut source = db.on_source();
    source.run(TABLE);
    let mut daemon = Daemon::spawn(&db.config());
    daemon.ready();
    source.run(
        "begin;
         insert into t select i, i, 1, repeat(md5(i::text), 6) from generate_series(1001, 201000) i;
         update t set n = n + 1 where id % 10 = 0;
         delete from t where id % 10 = 1;
         update t set id = id + 1000000, u = -u where id % 1000 = 5;
         commit",
    );
    daemon.wait_level(&db.source);
    assert_equal(&db.source, &db.target);
    let peak = peak(&daemon);
    assert!(peak <= 128, "{peak} MB");
}

#[test]
fn given_a_kill_in_the_middle_of_a_huge_transaction_then_it_is_applied_once() {
    let db = Database::shared("huge_kill");
    let mut source = db.on_source();
    source.run(TABLE);
    source.run("create table log (i int); alter table log replica identity full");
    // The second piece of the transaction is never reached by the first run.
    let mut daemon = Daemon::spawn(&db.config().crash_at("stream.before_apply", 3));
    daemon.ready();
    source.run(
        "begin; insert into log select generate_series(1, 20000);
         insert into t select i, i, 1, repeat(md5(i::text), 6) from generate_series(1001, 101000) i;
         insert into log select generate_series(1, 20000); commit",
    );
    daemon.wait_crash();
    assert_eq!(db.on_target().number("select count(*) from log"), 0, "half a transaction is visible");
    let mut daemon = Daemon::spawn(&db.config());
    daemon.wait_level(&db.source);
    assert_equal(&db.source, &db.target);
}

#[test]
fn given_rolled_back_savepoints_when_followed_then_only_what_stayed_is_applied() {
    let db = Database::shared("savepoints");
    let mut source = db.on_source();
    source.run(TABLE);
    let mut daemon = Daemon::spawn(&db.config());
    daemon.ready();
    source.run(
        "begin;
         update t set n = 1 where id <= 10;
         savepoint a; delete from t where id <= 20; insert into t values (5000, 5000, 9, 'gone');
         savepoint b; update t set u = -u; rollback to savepoint b;
         rollback to savepoint a;
         insert into t values (5001, 5001, 9, 'stays');
         savepoint c; insert into t values (5002, 5002, 9, 'stays'); release savepoint c;
         savepoint d; insert into t select i, i, 0, repeat('y', 900) from generate_series(10000, 40000) i; rollback to savepoint d;
         commit;
         begin; delete from t; rollback",
    );
    daemon.wait_level(&db.source);
    assert_equal(&db.source, &db.target);
    assert_eq!(db.on_target().number("select count(*) from t where pad = 'stays'"), 2);
}

#[test]
fn given_values_that_change_places_when_followed_then_both_sides_are_equal() {
    let db = Database::shared("swaps");
    let mut source = db.on_source();
    source.run(TABLE);
    source.run("create table pair (a int primary key deferrable initially deferred, v text); alter table pair replica identity full; insert into pair select i, 'v' || i from generate_series(1, 100) i");
    let mut daemon = Daemon::spawn(&db.config());
    daemon.ready();
    for round in 0..3 {
        // Unique values change places between rows.
        source.run("begin; update t set u = -u where id <= 100; update t set u = 101 - id where id <= 100; commit");
        source.run("begin; update t set u = -u where id <= 100; update t set u = id where id <= 100; commit");
        // Keys change places.
        source.run(
            "begin; update t set id = -id where id in (7, 8); update t set id = 15 + id where id in (-7, -8); commit",
        );
        // Deleted and inserted again in one transaction, also with a unique value that another row had.
        source.run(&format!(
            "begin; delete from t where id in (201, 202); insert into t values (201, 202, {round}, 'again'), (202, 201, {round}, 'again'); commit;
             begin; delete from t where id = 203; insert into t values (203, 203, {round}, null); delete from t where id = 203; insert into t values (203, 203, {round}, 'last'); commit"
        ));
        // A chain: each row takes the next one's key, in one statement.
        source.run("begin; update pair set a = a + 1; update pair set a = 1 where a = 101; commit");
        // A row is made, changes its key and goes, within one transaction.
        source.run("begin; insert into t values (900000, 900000, 0, 'brief'); update t set id = 900001 where id = 900000; rollback");
        source.run("begin; insert into t values (900000, 900000, 0, 'brief'); update t set id = 900001 where id = 900000; delete from t where id = 900001; commit");
        daemon.wait_level(&db.source);
        assert_equal(&db.source, &db.target);
    }
}

#[test]
fn given_prepared_transactions_when_the_source_and_the_daemon_restart_then_they_are_applied_once_committed() {
    let mut pair = Pair::start();
    let db = pair.database("prepared");
    let mut source = db.on_source();
    source.run(TABLE);
    let mut daemon = Daemon::spawn(&db.config());
    daemon.ready();
    source.run("begin; update t set n = 5 where id <= 10; insert into t values (7001, 7001, 0, 'kept'); prepare transaction 'kept'");
    source.run("begin; delete from t where id > 900; prepare transaction 'lost'");
    source.run("update t set n = 6 where id = 500");
    daemon.wait_level(&db.source);
    assert_eq!(
        db.on_target().number("select count(*) from t where n = 5 or id = 7001"),
        0,
        "applied before its commit"
    );
    assert_eq!(daemon.sigterm(), 0);
    pair.source.restart(StopMode::Immediate).unwrap();
    let mut daemon = Daemon::spawn(&db.config());
    let mut source = db.on_source();
    source.run("commit prepared 'kept'");
    source.run("rollback prepared 'lost'");
    source.run("update t set n = 7 where id = 501");
    daemon.wait_level(&db.source);
    assert_equal(&db.source, &db.target);
    assert_eq!(db.on_target().number("select count(*) from t where n = 5"), 10);
    // Prepared under one daemon, committed under the next, which is killed in the middle.
    source.run("begin; update t set n = n + 1; prepare transaction 'again'");
    daemon.kill9();
    source.run("commit prepared 'again'");
    let mut daemon = Daemon::spawn(&db.config().crash_at("apply.before_commit", 1));
    daemon.wait_crash();
    let mut daemon = Daemon::spawn(&db.config());
    daemon.wait_level(&db.source);
    assert_equal(&db.source, &db.target);
}

#[test]
fn given_an_idle_source_when_left_alone_then_the_slot_moves_on() {
    let db = Database::shared("idle");
    let mut source = db.on_source();
    source.run(TABLE);
    let mut daemon = Daemon::spawn(&db.config());
    daemon.ready();
    // Log that is none of ours: the slot must not keep it.
    source.run("create temp table x as select generate_series(1, 10)");
    source.run("select pg_switch_wal()");
    let end = source.log_end();
    crate::support::wait_until("the slot has moved past foreign log", Duration::from_secs(40), || {
        source.one(&format!(
            "select confirmed_flush_lsn >= '{end}' from pg_replication_slots where database = '{}'",
            db.name
        )) == "t"
    });
}
