//! Kills, stops, restarts, and who may write.

use bson::doc;

use super::{Pair, mongo, postgres};
use crate::support::Daemon;

const TABLES: &str = "create table a (id int primary key, v int, pad text); create table b (k text primary key, v int unique); create table k (v int, pad text); \
    alter table k replica identity full; \
    insert into a select g, g, repeat('p', 100) from generate_series(1, 3000) g; insert into b select 'k' || g, g from generate_series(1, 500) g; \
    insert into k select g, repeat('q', 100) from generate_series(1, 2000) g";

fn assert_same(pair: &Pair) {
    let (target, mut sql) = (pair.target(), pair.source());
    target.wait_same(&mut sql, "a", "select id, v, pad from a");
    target.wait_same(&mut sql, "b", "select k, v from b");
    let mut want: Vec<String> = sql.rows("select v || pad from k").into_iter().map(|r| r[0].clone().unwrap()).collect();
    want.sort();
    let mut have = Vec::new();
    let same = crate::support::poll(super::PATIENCE, || {
        have =
            target.all("k").iter().map(|d| format!("{}{}", d.get("v").unwrap(), d.get_str("pad").unwrap())).collect();
        have.sort();
        (have == want).then_some(())
    });
    assert!(same.is_some(), "k: {} rows, {} documents", want.len(), have.len());
}

#[test]
fn given_kills_at_every_named_point_when_started_again_then_nothing_is_lost_or_twice() {
    for (point, nth) in [
        ("copy.before_begin", 1),
        ("copy.log_kept", 1),
        ("copy.schema_made", 1),
        ("copy.planned", 1),
        ("copy.chunk_read", 2),
        ("load.before_piece", 3),
        ("load.before_piece", 8),
        ("load.before_commit", 2),
        ("copy.chunk_committed", 1),
        ("copy.chunk_committed", 4),
        ("copy.indexed", 1),
        ("copy.loaded", 1),
        ("copy.done", 1),
        ("stream.applied", 2),
        ("apply.before_commit", 2),
        ("stream.constraints_made", 1),
    ] {
        let pair = Pair::shared("kill", TABLES);
        // Small chunks, and pieces smaller than those.
        let config = pair
            .config()
            .env("SWITCHYARD_CHUNK_BYTES", 64 << 10)
            .env("SWITCHYARD_WHOLE_TABLE_BYTES", 0)
            .env("SWITCHYARD_PIECE_BYTES", 8 << 10);
        let mut daemon = Daemon::spawn(&config.clone().crash_at(point, nth));
        let mut sql = pair.source();
        let change = |sql: &mut crate::support::Sql, n: i32| {
            sql.run(&format!(
                "update a set v = v + 1 where id % 7 = {n}; delete from a where id = {n}; insert into a values ({}, 0, 'new'); \
                 update b set v = v + 1000 where v % 5 = {n}; update k set pad = 'changed' where v = {n} * 3; delete from k where v = {n} * 5; insert into k values (-{n}, 'new')",
                5000 + n
            ));
        };
        if point.starts_with("stream") || point.starts_with("apply") {
            crate::support::poll(super::PATIENCE, || {
                (!daemon.is_running() || matches!(daemon.status(), Some(s) if s["phase"] == "ready")).then_some(())
            });
        }
        for n in 1..4 {
            change(&mut sql, n);
            std::thread::sleep(std::time::Duration::from_millis(30));
        }
        daemon.wait_crash();
        change(&mut sql, 4);
        let mut daemon = Daemon::spawn(&config);
        daemon.ready();
        change(&mut sql, 5);
        assert_same(&pair);
        assert_eq!(pair.target().find_in("switchyard", "unfinished", doc! { "name": &pair.name }).len(), 0, "{point}");
        assert_eq!(daemon.sigterm(), 0, "{point}");
    }
}

#[test]
fn given_a_second_daemon_when_started_then_it_exits_with_3_and_a_killed_one_is_succeeded_at_once() {
    let pair = Pair::shared("second", TABLES);
    let (mut first, mut sql) = pair.ready();
    let mut second = Daemon::spawn(&pair.config());
    assert_eq!(second.exit_status(), 3, "{}", second.log());
    assert!(second.log().contains("already run by another daemon"), "{}", second.log());
    sql.run("update a set v = 0");
    assert_same(&pair);
    first.kill9();
    let began = std::time::Instant::now();
    let mut third = Daemon::spawn(&pair.config());
    third.ready();
    assert!(began.elapsed() < std::time::Duration::from_secs(9), "{:?}", began.elapsed());
    assert_eq!(third.sigterm(), 0);
}

#[test]
fn given_a_daemon_that_stands_still_in_a_batch_when_it_wakes_up_then_its_commit_is_refused() {
    let pair = Pair::shared(
        "stale",
        "create table t (id int primary key, v int); create table log (n int); alter table log replica identity full",
    );
    let mut stale = Daemon::spawn(&pair.config().stop_at("apply.before_commit", 2));
    stale.ready();
    let mut sql = pair.source();
    let target = pair.target();
    sql.run("insert into t values (1, 1); insert into log values (1)");
    target.wait_for("log", doc! { "n": 1 });
    sql.run("insert into t values (2, 1); insert into log values (2)");
    stale.wait_stopped();
    let mut newcomer = Daemon::spawn(&pair.config());
    // The lease lapses first: the stopped one is still connected.
    target.wait_for("log", doc! { "n": 2 });
    sql.run("insert into log values (3)");
    target.wait_for("log", doc! { "n": 3 });
    stale.signal(libc::SIGCONT);
    assert_eq!(stale.exit_status(), 3, "{}", stale.log());
    sql.run("insert into log values (4)");
    target.wait_for("log", doc! { "n": 4 });
    assert_eq!((target.count("log"), target.count("t")), (4, 2));
    assert_eq!(newcomer.sigterm(), 0);
}

#[test]
fn given_a_daemon_that_stands_still_in_a_copy_when_it_wakes_up_then_its_rows_are_refused() {
    let pair = Pair::shared("stale_copy", TABLES);
    let config = pair
        .config()
        .env("SWITCHYARD_CHUNK_BYTES", 64 << 10)
        .env("SWITCHYARD_WHOLE_TABLE_BYTES", 0)
        .env("SWITCHYARD_PIECE_BYTES", 8 << 10);
    let mut stale = Daemon::spawn(&config.clone().stop_at("load.before_commit", 3));
    stale.wait_stopped();
    pair.source().run("delete from a where id < 1000; delete from k where v < 1000");
    let mut newcomer = Daemon::spawn(&config);
    newcomer.ready();
    assert_same(&pair);
    stale.signal(libc::SIGCONT);
    assert_eq!(stale.exit_status(), 3, "{}", stale.log());
    assert_same(&pair);
    assert_eq!(newcomer.sigterm(), 0);
}

#[test]
fn given_a_target_that_restarts_and_fails_over_when_it_is_back_then_the_stream_goes_on() {
    let pg = postgres();
    let mut server = mongo();
    let pair = Pair::on(&pg, &server, "restart", TABLES);
    let (mut daemon, mut sql) = pair.ready();
    sql.run("update a set v = v + 1 where id < 1000");
    server.kill9();
    sql.run("update a set v = v + 1 where id < 500; insert into k values (-1, 'while it was away')");
    daemon.wait_waiting("target");
    server.start_again().unwrap();
    sql.run("insert into k values (-2, 'back')");
    assert_same(&pair);
    server.pause();
    sql.run("insert into k values (-3, 'paused')");
    std::thread::sleep(std::time::Duration::from_secs(2));
    server.resume();
    assert_same(&pair);
    assert_eq!(daemon.sigterm(), 0);
}
