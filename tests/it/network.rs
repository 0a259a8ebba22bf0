//! Networks that are cut, slow or half open on either side: noticed within a bounded time, waited for, and gone on from.

use std::time::{Duration, Instant};

use switchyard::sandbox::Proxy;

use crate::support::{Config, Daemon, Database, Ledger, assert_equal, wait_until, with_port};

/// A migration through a proxy on each side.
struct Net {
    db: Database,
    source: Proxy,
    target: Proxy,
}

impl Net {
    fn new(what: &str) -> Net {
        let db = Database::shared(what);
        let port = |url: &str| url::Url::parse(url).unwrap().port().unwrap();
        let source = Proxy::start(port(&db.source)).unwrap();
        let target = Proxy::start(port(&db.target)).unwrap();
        Net { db, source, target }
    }
    fn config(&self) -> Config {
        self.db
            .config()
            .source(&with_port(&self.db.source, self.source.port()))
            .target(&with_port(&self.db.target, self.target.port()))
    }
    fn side(&self, name: &str) -> &Proxy {
        if name == "source" { &self.source } else { &self.target }
    }
}

#[test]
fn given_a_stream_when_connections_are_cut_then_it_goes_on() {
    let net = Net::new("cut");
    let ledger = Ledger::start(&net.db.source, 2, Duration::from_millis(3), 11);
    ledger.wait_for(10);
    let mut daemon = Daemon::spawn(&net.config());
    daemon.ready();
    for name in ["source", "target", "source", "target"] {
        ledger.wait_for(30);
        wait_until("there was a connection to cut", Duration::from_secs(30), || net.side(name).cut() > 0);
        ledger.wait_for(10);
        daemon.ready();
    }
    for name in ["source", "target"] {
        net.side(name).refuse(true).unwrap();
        net.side(name).cut();
        daemon.wait_waiting(name);
        net.side(name).refuse(false).unwrap();
        daemon.ready();
    }
    let written = ledger.stop();
    daemon.wait_level(&net.db.source);
    written.assert_kept(&net.db.target);
    assert_equal(&net.db.source, &net.db.target);
}

#[test]
fn given_a_copy_when_connections_are_cut_then_it_goes_on() {
    let net = Net::new("cut_copy");
    net.db.on_source().run(
        "create table t (id int primary key, pad text not null);
         insert into t select i, repeat('x', 400) from generate_series(1, 20000) i; analyze t;",
    );
    let config = net.config().env("SWITCHYARD_CHUNK_BYTES", 8 * 8192).env("SWITCHYARD_WHOLE_TABLE_BYTES", 0);
    for name in ["source", "target"] {
        net.side(name).slow(Some(2_000_000));
    }
    let mut daemon = Daemon::spawn(&config);
    for (name, rows) in [("source", 2000), ("target", 6000), ("source", 10000)] {
        daemon.wait_status("some rows are copied", Duration::from_secs(60), |s| {
            s.pointer("/snapshot/rows_copied").and_then(|v| v.as_u64()).is_some_and(|n| n >= rows)
        });
        net.side(name).cut();
    }
    for name in ["source", "target"] {
        net.side(name).slow(None);
    }
    daemon.wait_level(&net.db.source);
    assert_equal(&net.db.source, &net.db.target);
}

#[test]
fn given_a_slow_network_when_a_burst_comes_then_it_is_passed_on_whole() {
    let net = Net::new("slow");
    let mut source = net.db.on_source();
    source.run("create table t (id int primary key, pad text not null)");
    let mut daemon = Daemon::spawn(&net.config());
    daemon.ready();
    for name in ["source", "target"] {
        net.side(name).slow(Some(1_000_000));
        source.run(&format!("insert into t select i, '{name}' || repeat('x', 200) from generate_series(1, 10000) i on conflict (id) do update set pad = excluded.pad"));
        daemon.wait_level(&net.db.source);
        net.side(name).slow(None);
    }
    assert_equal(&net.db.source, &net.db.target);
}

/// Stalls one side while the stream runs. The connection is half open: nothing arrives and nothing is closed.
fn half_open(name: &str, bound: Duration) {
    let net = Net::new("half_open");
    let mut source = net.db.on_source();
    source.run("create table t (id int primary key, n int not null default 0)");
    source.run("insert into t select i from generate_series(1, 100) i");
    let mut daemon = Daemon::spawn(&net.config());
    daemon.ready();
    net.side(name).stall(true);
    let began = Instant::now();
    source.run("update t set n = n + 1");
    let said = daemon.wait_status(&format!("the silent {name} is noticed"), bound, |s| {
        s.pointer("/waiting_for/side").is_some_and(|v| v == name)
    });
    eprintln!("the silent {name} was noticed after {:?}: {}", began.elapsed(), said["waiting_for"]);
    net.side(name).stall(false);
    daemon.wait_level(&net.db.source);
    source.run("update t set n = n + 1");
    daemon.wait_level(&net.db.source);
    assert_equal(&net.db.source, &net.db.target);
}

#[test]
fn given_a_half_open_source_then_it_is_noticed_and_gone_on_from() {
    half_open("source", Duration::from_secs(60));
}

#[test]
fn given_a_half_open_target_then_it_is_noticed_and_gone_on_from() {
    half_open("target", Duration::from_secs(60));
}

/// The same while rows are copied.
fn half_open_copy(name: &str, bound: Duration) {
    let net = Net::new("half_open_copy");
    net.db.on_source().run(
        "create table t (id int primary key, pad text not null);
         insert into t select i, repeat('x', 400) from generate_series(1, 20000) i; analyze t;",
    );
    let config = net.config().env("SWITCHYARD_CHUNK_BYTES", 8 * 8192).env("SWITCHYARD_WHOLE_TABLE_BYTES", 0);
    let mut daemon = Daemon::spawn(&config.stop_at("copy.chunk_committed", 20));
    daemon.wait_stopped();
    net.side(name).stall(true);
    daemon.signal(libc::SIGCONT);
    let said = daemon.wait_status(&format!("the silent {name} is noticed"), bound, |s| {
        s.pointer("/waiting_for/side").is_some_and(|v| v == name)
    });
    eprintln!("the silent {name} was noticed: {}", said["waiting_for"]);
    net.side(name).stall(false);
    daemon.wait_level(&net.db.source);
    assert_equal(&net.db.source, &net.db.target);
}

#[test]
fn given_a_half_open_source_during_the_copy_then_it_is_noticed_and_gone_on_from() {
    half_open_copy("source", Duration::from_secs(60));
}

#[test]
fn given_a_half_open_target_during_the_copy_then_it_is_noticed_and_gone_on_from() {
    half_open_copy("target", Duration::from_secs(60));
}

#[test]
fn given_a_stalled_target_when_the_source_asks_for_a_sign_of_life_then_it_gets_one() {
    // The servers' wal_sender_timeout is 10 s: a capture that waits for the target must answer all the same.
    let net = Net::new("keepalive");
    let mut source = net.db.on_source();
    source.run("create table t (id int primary key, pad text not null)");
    let mut daemon = Daemon::spawn(&net.config());
    daemon.ready();
    let ask = format!("select active_pid from pg_replication_slots where database = '{}'", net.db.name);
    let before = source.one(&ask);
    let mut lock = net.db.on_target();
    lock.run("begin; lock table t in access exclusive mode");
    // Far more than the queue holds.
    source.run("insert into t select i, repeat('x', 1000) from generate_series(1, 30000) i");
    let until = Instant::now() + Duration::from_secs(25);
    wait_until("25 s have passed with the same walsender", Duration::from_secs(40), || {
        assert_eq!(source.one(&ask), before, "the source gave the connection up");
        Instant::now() >= until
    });
    let waits = daemon.says("/waiting_for/side");
    assert_eq!(waits, "target", "the status should name the stalled target");
    lock.run("commit");
    daemon.wait_level(&net.db.source);
    assert_equal(&net.db.source, &net.db.target);
}
