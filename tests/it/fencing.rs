//! Who may not run: a second daemon, a stale one that wakes up, and one whose log or target is not what its checkpoint says.

use std::time::Duration;

use crate::support::{Daemon, Database, Ledger, Pair, assert_equal, poll, wait_until};

#[test]
fn given_a_second_daemon_when_started_then_it_exits_with_3_and_the_first_goes_on() {
    let db = Database::shared("second");
    let ledger = Ledger::start(&db.source, 1, Duration::from_millis(3), 3);
    let mut first = Daemon::spawn(&db.config());
    first.ready();
    let epoch = db.checkpoint("epoch");
    for _ in 0..2 {
        let mut second = Daemon::spawn(&db.config());
        assert_eq!(second.exit_status(), 3, "{}", second.log());
        assert!(second.log().contains("already run by another daemon"), "{}", second.log());
        assert!(second.log().contains("hint"), "{}", second.log());
    }
    assert_eq!(db.checkpoint("epoch"), epoch, "the second daemon touched the checkpoint");
    ledger.wait_for(20);
    let written = ledger.stop();
    first.wait_level(&db.source);
    written.assert_kept(&db.target);
    assert_eq!(first.sigterm(), 0);
}

#[test]
fn given_a_stale_daemon_when_it_wakes_up_then_it_is_refused_and_applies_nothing() {
    let db = Database::shared("stale");
    let ledger = Ledger::start(&db.source, 2, Duration::from_millis(4), 4);
    let mut stale = Daemon::spawn(&db.config());
    stale.ready();
    ledger.wait_for(10);
    stale.signal(libc::SIGSTOP);
    // As a network that forgot the connection would: the lock's session ends, the daemon does not know.
    let ended = db.on_target().number(&format!(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'switchyard lock {}'",
        db.name
    ));
    assert_eq!(ended, 1);
    let mut newcomer = Daemon::spawn(&db.config());
    newcomer.ready();
    ledger.wait_for(20);
    stale.signal(libc::SIGCONT);
    assert_eq!(stale.exit_status(), 3, "{}", stale.log());
    ledger.wait_for(20);
    let written = ledger.stop();
    newcomer.wait_level(&db.source);
    written.assert_kept(&db.target);
    assert_equal(&db.source, &db.target);
    assert_eq!(newcomer.sigterm(), 0);
}

#[test]
fn given_a_stale_daemon_in_the_middle_of_a_batch_when_it_wakes_up_then_its_commit_is_refused() {
    let db = Database::shared("stale_batch");
    let mut source = db.on_source();
    source.run("create table t (id int primary key, n int not null); create table log (n int); alter table log replica identity full");
    let mut stale = Daemon::spawn(&db.config().stop_at("apply.before_commit", 2));
    stale.ready();
    source.run("insert into t values (1, 1); insert into log values (1)");
    wait_until("the first is on the target", Duration::from_secs(30), || {
        db.on_target().number("select count(*) from log") == 1
    });
    source.run("insert into t values (2, 1); insert into log values (2)");
    stale.wait_stopped();
    db.on_target().run(&format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'switchyard lock {}'",
        db.name
    ));
    let mut newcomer = Daemon::spawn(&db.config());
    newcomer.wait_level(&db.source);
    source.run("insert into t values (3, 1); insert into log values (3)");
    newcomer.wait_level(&db.source);
    stale.signal(libc::SIGCONT);
    assert_eq!(stale.exit_status(), 3, "{}", stale.log());
    newcomer.wait_level(&db.source);
    assert_equal(&db.source, &db.target);
}

/// Stops a daemon that follows the given pair, after something was written and applied.
fn stopped(db: &Database) {
    let mut daemon = Daemon::spawn(&db.config());
    daemon.ready();
    db.on_source().run("insert into t select max(id) + 1 from t");
    daemon.wait_level(&db.source);
    wait_confirmed(db);
    assert_eq!(daemon.sigterm(), 0);
}

/// Starts a daemon that must refuse; its log.
fn refused(db: &Database, words: &str) -> String {
    let mut daemon = Daemon::spawn(&db.config());
    assert_eq!(daemon.exit_status(), 1, "{}", daemon.log());
    let log = daemon.log();
    assert!(log.contains(words), "{words:?} is not in:\n{log}");
    assert!(log.contains("hint"), "no hint in:\n{log}");
    log
}

const TABLE: &str = "create table t (id int primary key); insert into t select generate_series(1, 100)";

#[test]
fn given_a_target_restored_from_an_older_backup_then_it_is_refused() {
    let mut pair = Pair::start();
    let db = pair.database("restored");
    db.on_source().run(TABLE);
    stopped(&db);
    let backup = pair.target.copy_data_dir_offline().unwrap();
    stopped(&db);
    pair.target.restore(&backup).unwrap();
    let log = refused(&db, "older backup");
    assert!(log.contains("switchyard finish"), "{log}");
    // Nothing was touched: the same answer again.
    refused(&db, "older backup");
}

#[test]
fn given_a_running_daemon_when_its_target_is_restored_underneath_then_it_stops() {
    let mut pair = Pair::start();
    let db = pair.database("restored_running");
    let mut source = db.on_source();
    source.run(TABLE);
    stopped(&db);
    let backup = pair.target.copy_data_dir_offline().unwrap();
    let mut daemon = Daemon::spawn(&db.config());
    daemon.ready();
    source.run("insert into t select generate_series(1000, 1100)");
    daemon.wait_level(&db.source);
    wait_confirmed(&db);
    pair.target.restore(&backup).unwrap();
    assert_eq!(daemon.exit_status(), 1, "{}", daemon.log());
    assert!(daemon.log().contains("older backup"), "{}", daemon.log());
}

/// Waits until the slot has been told what the target has.
fn wait_confirmed(db: &Database) {
    let position = db.checkpoint("position").unwrap();
    wait_until("the slot is confirmed up to the checkpoint", Duration::from_secs(30), || {
        db.on_source().one(&format!(
            "select bool_and(confirmed_flush_lsn >= '{position}') from pg_replication_slots where database = '{}'",
            db.name
        )) == "t"
    });
}

#[test]
fn given_a_source_restored_from_an_older_backup_then_it_is_refused() {
    let mut pair = Pair::start();
    let db = pair.database("source_restored");
    db.on_source().run(TABLE);
    stopped(&db);
    let backup = pair.source.copy_data_dir_offline().unwrap();
    db.on_source().run("insert into t select generate_series(1000, 20000)");
    stopped(&db);
    pair.source.restore(&backup).unwrap();
    refused(&db, "restored");
}

#[test]
fn given_a_slot_that_lost_its_log_then_it_is_refused_with_what_to_do() {
    let pair = Pair::start_with(
        |b| b.setting("max_slot_wal_keep_size", "1MB").setting("max_wal_size", "32MB").setting("min_wal_size", "32MB"),
        |b| b,
    );
    let db = pair.database("lost");
    let mut source = db.on_source();
    source.run(TABLE);
    stopped(&db);
    let status = format!("select wal_status from pg_replication_slots where database = '{}'", db.name);
    let lost = poll(Duration::from_secs(60), || {
        source.run("create table if not exists ballast (i int); insert into ballast select generate_series(1, 50000)");
        source.run("select pg_switch_wal()");
        source.run("checkpoint");
        (source.one(&status) == "lost").then_some(())
    });
    assert!(lost.is_some(), "the slot was not lost");
    let log = refused(&db, "lost");
    assert!(log.contains("max_slot_wal_keep_size"), "{log}");
}

#[test]
fn given_a_slot_that_was_dropped_or_made_anew_then_it_is_refused() {
    let db = Database::shared("slot");
    let mut source = db.on_source();
    source.run(TABLE);
    stopped(&db);
    let slot = source.one(&format!("select slot_name from pg_replication_slots where database = '{}'", db.name));
    source.run(&format!("select pg_drop_replication_slot('{slot}')"));
    source.run("insert into t select generate_series(1000, 1010)");
    refused(&db, "does not exist any more");
    source.run(&format!("select pg_create_logical_replication_slot('{slot}', 'pgoutput')"));
    source.run("insert into t select generate_series(2000, 2010)");
    refused(&db, "made anew");
    source.run(&format!("select pg_drop_replication_slot('{slot}')"));
    source.run(&format!("select pg_create_logical_replication_slot('{slot}', 'test_decoding')"));
    refused(&db, "test_decoding");
}

#[test]
fn given_a_slot_that_is_dropped_under_a_running_daemon_then_it_stops_and_says_so() {
    let db = Database::shared("slot_running");
    let mut source = db.on_source();
    source.run(TABLE);
    let mut daemon = Daemon::spawn(&db.config());
    daemon.ready();
    let asked = source.rows(&format!(
        "select slot_name, pg_terminate_backend(active_pid) from pg_replication_slots where database = '{}'",
        db.name
    ));
    let slot = asked[0][0].clone().unwrap();
    wait_until("the slot is dropped", Duration::from_secs(20), || {
        if source.try_rows(&format!("select pg_drop_replication_slot('{slot}')")).is_ok() {
            return true;
        }
        // The daemon was quicker to come back.
        let _ = source.try_rows(&format!(
            "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = '{slot}'"
        ));
        false
    });
    assert_eq!(daemon.exit_status(), 1, "{}", daemon.log());
    assert!(daemon.log().contains("does not exist any more"), "{}", daemon.log());
}
