//! Kills, cut and silent networks, restarts, failover and large transactions between MySQL servers.

use std::time::Duration;

use switchyard::sandbox::Flavour::{Mariadb, Mysql};
use switchyard::sandbox::{MyServer, Proxy};

use super::{PATIENCE, Twins, quick};
use crate::support::{Daemon, wait_until, with_port};

const TABLES: &str = "
    create table a (id int auto_increment primary key, v int, pad varchar(200));
    create table b (k varchar(30) primary key, v int, unique key (v));
    insert into a (v, pad) with recursive s(n) as (select 1 union all select n + 1 from s where n < 999) select n, repeat('p', 100) from s;
    insert into b select concat('k', id), id from a; analyze table a, b";

fn prepared(twins: &Twins) {
    twins.at_source(TABLES);
}

/// Some transactions of which the result tells whether all of them came once and in order.
fn work(twins: &Twins, round: i32) {
    twins.at_source(&format!(
        "insert into a (v, pad) select v + {round}, pad from a where id % 7 = {round} % 7 limit 200; \
         update b set v = v + 100000 where v % 20 = {round} % 20; delete from a where id % 50 = {round} % 50 limit 5; \
         update b set k = concat('m', k) where v % 33 = {round} % 33; \
         begin; delete from b where k = 'k{round}'; insert into b values ('k{round}', -{round}); update a set v = v * 2 % 1000003; commit"
    ));
}

fn assert_level(twins: &Twins, daemon: &mut Daemon) {
    twins.level(daemon);
    twins.assert_same("a");
    twins.assert_same("b");
}

#[test]
fn given_kills_at_named_points_when_started_again_then_mysql_has_every_row_once() {
    let twins = Twins::start(Mysql, Mysql);
    for (n, point) in [
        ("copy.log_kept", 1),
        ("copy.schema_made", 1),
        ("copy.chunk_read", 2),
        ("copy.chunk_committed", 2),
        ("copy.indexed", 1),
        ("copy.done", 1),
        ("stream.before_apply", 2),
        ("apply.before_commit", 2),
        ("stream.applied", 2),
    ]
    .into_iter()
    .enumerate()
    {
        twins.source.sql("drop database shop; create database shop").unwrap();
        twins.target.sql("drop database store; create database store").unwrap();
        prepared(&twins);
        let config = twins.config().name(&format!("{}_{n}", twins.name));
        let config = config.env("SWITCHYARD_CHUNK_BYTES", 20_000).env("SWITCHYARD_WHOLE_TABLE_BYTES", 1000);
        let mut daemon = Daemon::spawn(&config.clone().crash_at(point.0, point.1));
        for round in 0..8 {
            work(&twins, round);
        }
        if !point.0.starts_with("copy") {
            wait_until("the daemon has died", PATIENCE, || {
                work(&twins, 9);
                !daemon.is_running()
            });
        }
        daemon.wait_crash();
        work(&twins, 10);
        let mut daemon = Daemon::spawn(&config);
        assert_level(&twins, &mut daemon);
        assert_eq!(daemon.sigterm(), 0, "{}", point.0);
    }
}

#[test]
fn given_cut_and_silent_networks_and_restarted_servers_when_they_are_back_then_nothing_is_lost() {
    let durable = |b: switchyard::sandbox::MyServerBuilder| {
        b.setting("sync_binlog", "1").setting("innodb_flush_log_at_trx_commit", "1")
    };
    for flavour in [Mysql, Mariadb] {
        let mut twins = Twins::start_with(durable(quick(flavour)), durable(quick(flavour)));
        prepared(&twins);
        let (source, target) = (Proxy::start(twins.source.port()).unwrap(), Proxy::start(twins.target.port()).unwrap());
        let config = twins
            .config()
            .source(&with_port(&twins.source.url("shop"), source.port()))
            .target(&with_port(&twins.target.url("store"), target.port()))
            .env("SWITCHYARD_CHUNK_BYTES", 20_000)
            .env("SWITCHYARD_WHOLE_TABLE_BYTES", 1000);
        // Cut in the copy.
        let mut daemon = Daemon::spawn(&config.clone().stop_at("copy.chunk_committed", 1));
        daemon.wait_stopped();
        assert!(source.cut() > 0 && target.cut() > 0);
        work(&twins, 1);
        daemon.signal(libc::SIGCONT);
        assert_level(&twins, &mut daemon);
        // Cut in the stream.
        for side in [&source, &target, &source, &target] {
            work(&twins, 2);
            side.cut();
            work(&twins, 3);
        }
        assert_level(&twins, &mut daemon);
        // Killed and started again.
        work(&twins, 4);
        twins.target.kill9();
        work(&twins, 5);
        twins.target.start_again().unwrap();
        assert_level(&twins, &mut daemon);
        twins.source.restart().unwrap();
        work(&twins, 6);
        twins.source.kill9();
        twins.source.start_again().unwrap();
        work(&twins, 7);
        assert_level(&twins, &mut daemon);
        // Half open: noticed within the limit, and gone on from.
        let sides = [("source", &source), ("target", &target)];
        for (name, side) in if flavour == Mysql { &sides[..1] } else { &sides[1..] } {
            side.stall(true);
            work(&twins, 8);
            daemon.wait_status(&format!("the silent {name} is noticed"), Duration::from_secs(60), |s| {
                s.pointer("/waiting_for/side").is_some_and(|v| v == *name)
            });
            side.stall(false);
            assert_level(&twins, &mut daemon);
        }
        assert_eq!(daemon.sigterm(), 0);
    }
}

#[test]
fn given_a_large_transaction_when_followed_then_memory_stays_small() {
    for flavour in [Mysql, Mariadb] {
        let twins = Twins::start(flavour, flavour);
        prepared(&twins);
        let mut daemon = Daemon::spawn(&twins.config());
        daemon.ready();
        twins.at_source(
            "begin; insert into a (v, pad) select x.v, x.pad from a x, (select id from a limit 200) y; update a set v = v + 1; commit",
        );
        twins.level(&mut daemon);
        let digest = "select concat_ws(' ', count(*), sum(id), sum(v), sum(length(pad))) from a";
        twins.assert_digest(digest);
        let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
        let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        eprintln!("{flavour:?}: 400 000 changes in one transaction, {} MB at most", kilobytes / 1024);
        assert!(kilobytes < 200 * 1024, "{kilobytes} kB");
        assert_eq!(daemon.sigterm(), 0);
    }
}

#[test]
fn given_a_second_daemon_when_started_then_it_exits_with_3_and_a_stale_one_is_refused() {
    for flavour in [Mysql, Mariadb] {
        let twins = Twins::start(flavour, flavour);
        prepared(&twins);
        let mut first = Daemon::spawn(&twins.config());
        first.ready();
        let mut second = Daemon::spawn(&twins.config());
        assert_eq!(second.exit_status(), 3, "{}", second.log());
        let epoch = "select epoch from switchyard.checkpoint";
        let before = twins.on_target(epoch);
        // It stands still while the network forgets its sessions.
        first.signal(libc::SIGSTOP);
        let mine = "select group_concat('kill ', id separator ';') from information_schema.processlist where id <> connection_id() and (user = 'root' and command in ('Sleep', 'Query'))";
        let kill = twins.on_target(mine);
        for one in kill.split(';').filter(|k| k.starts_with("kill")) {
            let _ = twins.target.sql(one);
        }
        work(&twins, 1);
        let mut newcomer = Daemon::spawn(&twins.config());
        newcomer.ready();
        assert!(twins.on_target(epoch) > before);
        first.signal(libc::SIGCONT);
        assert_eq!(first.exit_status(), 3, "{}", first.log());
        work(&twins, 2);
        assert_level(&twins, &mut newcomer);
        assert_eq!(newcomer.sigterm(), 0);
    }
}

#[test]
fn given_gtids_when_the_source_fails_over_then_the_new_primary_is_followed_without_loss() {
    let replica = |id: &str| quick(Mysql).setting("server_id", id).setting("log_replica_updates", "ON");
    let mut twins = Twins::start_with(replica("11"), quick(Mysql));
    let second: MyServer = replica("12").start().unwrap();
    // What either was set up with is in no other's log.
    twins.source.sql("drop database shop; reset binary logs and gtids; create database shop").unwrap();
    second.sql("reset binary logs and gtids").unwrap();
    second
        .sql(&format!(
            "change replication source to source_host = '127.0.0.1', source_port = {}, source_user = 'root', source_password = '{}', \
             source_auto_position = 1, get_source_public_key = 1, source_ssl = 0; start replica",
            twins.source.port(),
            twins.source.password()
        ))
        .unwrap();
    prepared(&twins);
    let mut daemon = Daemon::spawn(&twins.config());
    assert_level(&twins, &mut daemon);
    assert_eq!(daemon.sigterm(), 0);
    // Written while nobody follows, and seen by the replica alone.
    work(&twins, 1);
    let set = twins.source.sql("select @@global.gtid_executed").unwrap();
    second.sql(&format!("do wait_for_executed_gtid_set('{set}', 30)")).unwrap();
    twins.source.stop().unwrap();
    second.sql("stop replica; reset replica all; flush binary logs").unwrap();
    twins.source = second;
    work(&twins, 2);
    let mut daemon = Daemon::spawn(&twins.config());
    assert_level(&twins, &mut daemon);
    assert_eq!(daemon.sigterm(), 0);
    // Logs that are gone are said to be.
    work(&twins, 3);
    twins.source.sql("flush binary logs").unwrap();
    let last = twins.source.sql("show binary logs").unwrap();
    let last = last.lines().last().unwrap().split('|').next().unwrap().to_owned();
    wait_until("the old logs are gone", Duration::from_secs(30), || {
        twins.source.sql(&format!("purge binary logs to '{last}'")).unwrap();
        twins.source.sql("show binary logs").unwrap().lines().count() == 1
    });
    let mut daemon = Daemon::spawn(&twins.config());
    assert_eq!(daemon.exit_status(), 1);
    assert!(daemon.log().contains("thrown away log") && daemon.log().contains("anew"), "{}", daemon.log());
}

#[test]
fn given_no_gtids_when_followed_then_files_and_offsets_do() {
    let without = quick(Mysql).setting("gtid_mode", "OFF").setting("enforce_gtid_consistency", "OFF");
    let twins = Twins::start_with(without, quick(Mysql));
    prepared(&twins);
    let mut daemon = Daemon::spawn(&twins.config());
    assert_level(&twins, &mut daemon);
    assert_eq!(daemon.sigterm(), 0);
    for round in 0..3 {
        work(&twins, round);
        twins.at_source("flush binary logs");
    }
    let mut daemon = Daemon::spawn(&twins.config());
    assert_level(&twins, &mut daemon);
    daemon.kill9();
    work(&twins, 5);
    let mut daemon = Daemon::spawn(&twins.config());
    assert_level(&twins, &mut daemon);
    assert_eq!(daemon.sigterm(), 0);
}
