//! Servers that go away underneath: restarted, stopped at once, killed, out of disk. The status says who is waited for and
//! why, nothing is fatal by itself, and when they are back it goes on.

use std::time::Duration;

use switchyard::sandbox::{PgServer, StopMode};

use crate::support::{Config, Daemon, Ledger, Pair, assert_equal};

const TABLES: &str = "create table t (id int primary key, n int not null default 0, pad text not null);
    insert into t select i, 0, repeat('x', 400) from generate_series(1, 6000) i; analyze t;";

fn in_chunks(config: Config) -> Config {
    config
        .extra("[snapshot]\nworkers = 1")
        .env("SWITCHYARD_CHUNK_BYTES", 8 * 8192)
        .env("SWITCHYARD_WHOLE_TABLE_BYTES", 0)
}

#[derive(Clone, Copy, Debug)]
enum Blow {
    Fast,
    Immediate,
    Kill9,
}

fn take_down(server: &mut PgServer, blow: Blow) {
    match blow {
        Blow::Fast => server.stop(StopMode::Fast).unwrap(),
        Blow::Immediate => server.stop(StopMode::Immediate).unwrap(),
        Blow::Kill9 => server.kill9(),
    }
}

fn side<'a>(pair: &'a mut Pair, name: &str) -> &'a mut PgServer {
    if name == "source" { &mut pair.source } else { &mut pair.target }
}

/// Takes one server down in each way while rows stream, waits until the status says so, and brings it back.
fn streams_through(name: &str) {
    let mut pair = Pair::start();
    let db = pair.database("outage");
    let ledger = Ledger::start(&db.source, 2, Duration::from_millis(4), 7);
    ledger.wait_for(20);
    let mut daemon = Daemon::spawn(&db.config());
    daemon.ready();
    for blow in [Blow::Fast, Blow::Immediate, Blow::Kill9] {
        ledger.wait_for(20);
        take_down(side(&mut pair, name), blow);
        let reason = daemon.wait_waiting(name);
        assert!(!reason.is_empty(), "no reason after {blow:?}");
        side(&mut pair, name).start_again().unwrap();
        daemon.wait_status("nobody is waited for", Duration::from_secs(60), |s| s["waiting_for"].is_null());
        ledger.wait_for(20);
        daemon.ready();
    }
    let written = ledger.stop();
    daemon.wait_level(&db.source);
    written.assert_kept(&db.source);
    written.assert_kept(&db.target);
    assert_equal(&db.source, &db.target);
    assert_eq!(daemon.sigterm(), 0);
}

#[test]
fn given_a_stream_when_the_source_goes_away_then_it_is_waited_for() {
    streams_through("source");
}

#[test]
fn given_a_stream_when_the_target_goes_away_then_it_is_waited_for() {
    streams_through("target");
}

/// Takes one server down while the copy stands at a named point.
fn copies_through(name: &str) {
    let mut pair = Pair::start();
    for (blow, point, nth) in [
        (Blow::Fast, "copy.chunk_committed", 10),
        (Blow::Immediate, "copy.chunk_read", 10),
        (Blow::Kill9, "copy.schema_made", 1),
        (Blow::Immediate, "copy.loaded", 1),
    ] {
        let db = pair.database("outage");
        db.on_source().run(TABLES);
        let mut daemon = Daemon::spawn(&in_chunks(db.config()).stop_at(point, nth));
        daemon.wait_stopped();
        take_down(side(&mut pair, name), blow);
        daemon.signal(libc::SIGCONT);
        let reason = daemon.wait_waiting(name);
        assert!(!reason.is_empty(), "no reason after {blow:?} at {point}");
        side(&mut pair, name).start_again().unwrap();
        daemon.wait_level(&db.source);
        assert_equal(&db.source, &db.target);
        assert_eq!(daemon.sigterm(), 0);
    }
}

#[test]
fn given_a_copy_when_the_source_goes_away_then_it_is_waited_for() {
    copies_through("source");
}

#[test]
fn given_a_copy_when_the_target_goes_away_then_it_is_waited_for() {
    copies_through("target");
}

#[test]
fn given_servers_that_are_down_when_started_then_they_are_waited_for() {
    let mut pair = Pair::start();
    let db = pair.database("down");
    db.on_source().run(TABLES);
    pair.source.stop(StopMode::Fast).unwrap();
    pair.target.stop(StopMode::Fast).unwrap();
    let mut daemon = Daemon::spawn(&db.config());
    daemon.wait_waiting("source");
    pair.source.start_again().unwrap();
    daemon.wait_waiting("target");
    pair.target.start_again().unwrap();
    daemon.wait_level(&db.source);
    assert_equal(&db.source, &db.target);
}

#[test]
fn given_a_target_that_becomes_read_only_when_it_is_writable_again_then_it_goes_on() {
    let pair = Pair::start();
    let db = pair.database("readonly");
    let mut source = db.on_source();
    source.run(TABLES);
    let mut daemon = Daemon::spawn(&db.config());
    daemon.ready();
    // As a former primary after a failover: it answers, and refuses to write.
    pair.target.psql("alter system set default_transaction_read_only = on").unwrap();
    pair.target.psql("select pg_reload_conf()").unwrap();
    source.run("update t set n = 1 where id < 100");
    let reason = daemon.wait_waiting("target");
    assert!(reason.contains("the target is read-only"), "{reason}");
    let hint = daemon.says("/last_error/hint").to_string();
    assert!(hint.contains("did it fail over? point target.url at the new primary"), "{hint}");
    // So it is, started anew.
    assert_eq!(daemon.sigterm(), 0);
    let mut daemon = Daemon::spawn(&db.config());
    assert!(daemon.wait_waiting("target").contains("the target is read-only"));
    pair.target.psql("alter system reset default_transaction_read_only").unwrap();
    pair.target.psql("select pg_reload_conf()").unwrap();
    daemon.wait_level(&db.source);
    assert_equal(&db.source, &db.target);
    assert_eq!(daemon.sigterm(), 0);
}

#[test]
fn given_old_transactions_when_the_copy_begins_then_they_are_named_and_waited_for() {
    let pair = Pair::start();
    let (db, other) = (pair.database("old"), pair.database("elsewhere"));
    db.on_source().run(TABLES);
    let (mut here, mut there) = (db.on_source(), other.on_source());
    there.run("create table x (v text); begin; insert into x values ('secret')");
    here.run("begin; insert into t values (-1, 0, 'secret'); prepare transaction 'left over'");
    let pid = there.one("select pg_backend_pid()");
    let mut daemon = Daemon::spawn(&db.config());
    let s = daemon.wait_status("the old transactions are named", Duration::from_secs(30), |s| {
        s.pointer("/waiting_for/reason").and_then(|r| r.as_str()).is_some_and(|r| r.contains("prepared transaction"))
    });
    assert_eq!((&s["waiting_for"]["side"], &s["phase"]), (&"source".into(), &"copying".into()));
    let reason = s["waiting_for"]["reason"].as_str().unwrap();
    assert!(reason.contains(&format!("session {pid} of database {} (open for ", other.name)), "{reason}");
    assert!(
        reason.contains(&format!("prepared transaction 'left over' of database {} (open for ", db.name)),
        "{reason}"
    );
    assert!(!s.to_string().contains("secret") && !daemon.log().contains("secret"), "{s:#}");
    here.run("commit prepared 'left over'");
    daemon.wait_status("only the other one is named", Duration::from_secs(30), |s| {
        s.pointer("/waiting_for/reason").and_then(|r| r.as_str()).is_some_and(|r| !r.contains("prepared"))
    });
    there.run("commit");
    daemon.wait_level(&db.source);
    assert!(daemon.says("/waiting_for").is_null());
    assert_equal(&db.source, &db.target);
    assert!(daemon.log().contains("waits for transactions"));
    assert_eq!(daemon.sigterm(), 0);
}

#[test]
fn given_a_target_out_of_disk_when_space_is_freed_then_it_goes_on() {
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("NOT RUN: a small file system can only be mounted by root");
        return;
    }
    let pair = Pair::start();
    let disk = SmallDisk::mount(24);
    pair.target.psql(&format!("create tablespace small location '{}'", disk.path.display())).unwrap();
    let db = pair.database("full");
    let mut source = db.on_source();
    source.run("create table t (id int primary key, pad text not null)");
    source.run("insert into t select i, repeat('x', 500) from generate_series(1, 2000) i");
    pair.target.psql(&format!("alter database {} set default_tablespace = small", db.name)).unwrap();
    let mut daemon = Daemon::spawn(&db.config());
    daemon.ready();
    let ballast = disk.path.join("ballast");
    std::fs::write(&ballast, vec![1u8; 12 << 20]).unwrap();
    source.run("insert into t select i, repeat('y', 500) from generate_series(10001, 30000) i");
    let reason = daemon.wait_waiting("target");
    assert!(reason.contains("No space left") || reason.contains("53100"), "{reason}");
    assert!(daemon.is_running());
    std::fs::remove_file(&ballast).unwrap();
    daemon.wait_level(&db.source);
    assert_equal(&db.source, &db.target);
    assert_eq!(daemon.sigterm(), 0);
    drop(daemon);
    drop(pair);
}

/// A file system in memory of so many megabytes, for a tablespace.
struct SmallDisk {
    path: std::path::PathBuf,
}

impl SmallDisk {
    fn mount(megabytes: u32) -> SmallDisk {
        let path = std::env::temp_dir().join(crate::support::fresh_name("switchyard-disk"));
        std::fs::create_dir(&path).unwrap();
        let disk = SmallDisk { path };
        let owner = |flag: &str| {
            let out = std::process::Command::new("id").args([flag, "postgres"]).output().unwrap();
            String::from_utf8(out.stdout).unwrap().trim().to_owned()
        };
        let options = format!("size={megabytes}m,mode=0700,uid={},gid={}", owner("-u"), owner("-g"));
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&disk.path)
            .status()
            .unwrap();
        assert!(mounted.success(), "mounting a small file system failed");
        disk
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.path).status();
        let _ = std::fs::remove_dir(&self.path);
    }
}
