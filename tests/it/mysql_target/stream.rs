//! Copy and stream into tables that exist.

use std::time::Duration;

use switchyard::sandbox::Flavour;

use super::Mixed;
use crate::support::{Daemon, Ledger};

fn simple(flavour: Flavour) {
    let m = Mixed::start(flavour);
    let mut sql = m.on_source();
    sql.run(
        "create table items (id bigint primary key, name varchar(50), price numeric(10,2), at timestamp(6), active boolean, big text, raw bytea);
         create table pairs (a int, b text, n int, primary key (a, b));
         create table loose (n int, t text); alter table loose replica identity full;
         insert into items select i, 'näme 😀 ' || i, i / 4.0, timestamp '2024-01-01' + i * interval '1.000001 s', i % 2 = 0, repeat(md5(i::text), 3), decode(md5(i::text), 'hex') from generate_series(1, 20000) i;
         insert into items values (20001, null, null, null, null, null, null), (20002, e'tab\\tnl\\nback\\\\slash''quote', -0.01, '0001-01-01', false, '', '\\x00090a5c27');
         insert into pairs select i, 'k' || i, i from generate_series(1, 500) i;
         insert into loose select i % 10, 'x ' || (i % 3) from generate_series(1, 50) i;",
    );
    m.on_target(
        "create table items (id bigint primary key, name varchar(50), price decimal(10,2), at datetime(6), active tinyint(1), big longtext, raw longblob);
         create table pairs (a int, b varchar(100) collate utf8mb4_bin, n int, primary key (a, b));
         create table loose (n int, t text)",
    );
    let mut daemon = Daemon::spawn(&m.config().schema_exists());
    daemon.ready();
    let compare = || {
        m.assert_same(
            "select id, name, price, to_char(at, 'YYYY-MM-DD HH24:MI:SS.US'), active::int, big, upper(encode(raw, 'hex')) from items order by id",
            "select id, name, price, at, active, big, hex(raw) from items order by id",
        );
        m.assert_same("select * from pairs order by a, b", "select * from pairs order by a, b");
        m.assert_same(
            "select n, t, count(*) from loose group by 1, 2 order by 1, 2",
            "select n, t, count(*) from loose group by 1, 2 order by 1, 2",
        );
    };
    compare();
    sql.run("update items set price = price + 1, name = 'new ' || id where id % 3 = 0; delete from items where id % 7 = 0; insert into items select i, 'later', 1, now(), true, null, null from generate_series(30001, 31000) i;");
    sql.run("update pairs set b = b || 'x', n = n + 1 where a % 2 = 0; delete from pairs where a % 5 = 0;");
    sql.run("update loose set t = 'y' where n = 3; delete from loose where ctid in (select min(ctid) from loose group by n, t);");
    sql.run("update items set id = id + 100000 where id % 11 = 0");
    sql.run("begin; truncate pairs; insert into pairs values (1, 'after', 1); commit");
    daemon.wait_level(&m.source_url());
    compare();
    assert_eq!(daemon.sigterm(), 0);
    // Again from the checkpoint.
    sql.run("update items set active = not active; insert into pairs values (2, 'while down', 2)");
    let mut daemon = Daemon::spawn(&m.config().schema_exists());
    daemon.wait_level(&m.source_url());
    compare();
}

#[test]
fn given_simple_tables_when_copied_and_followed_into_mysql_then_rows_are_the_same() {
    simple(Flavour::Mysql);
}

#[test]
fn given_simple_tables_when_copied_and_followed_into_mariadb_then_rows_are_the_same() {
    simple(Flavour::Mariadb);
}

/// Both sides hold the same rows of the ledger.
fn assert_kept(m: &Mixed) {
    m.assert_same(
        "select id, writer, n, length(big), split_part(big, ' ', 1), right(big, 32) from ledger order by id",
        "select id, writer, n, length(big), substring_index(big, ' ', 1), right(big, 32) from ledger order by id",
    );
    m.assert_same(
        "select writer, count(*), count(distinct seq), max(seq) from ledger_log group by 1 order by 1",
        "select writer, count(*), count(distinct seq), max(seq) from ledger_log group by 1 order by 1",
    );
}

fn crashes(flavour: Flavour, points: &[&str]) {
    let m = Mixed::start(flavour);
    for (seed, point) in points.iter().enumerate() {
        let seed = seed as u64;
        let mut sql = m.on_source();
        sql.run("drop table if exists ledger, ledger_log, filled");
        m.on_target("drop table if exists ledger, ledger_log, filled");
        sql.run("create table filled (id int primary key, t text); insert into filled select i, repeat('x', 500) from generate_series(1, 3000) i");
        // Not more than what is applied on a busy machine: one of its tables has no key, and every change reads all of it.
        let ledger = Ledger::start(&m.source_url(), 2, Duration::from_millis(10), seed);
        ledger.wait_for(50);
        let config = m
            .config()
            .name(&format!("{}_{seed}", m.name))
            .env("SWITCHYARD_CHUNK_BYTES", 200_000)
            .env("SWITCHYARD_WHOLE_TABLE_BYTES", 100_000);
        let mut daemon = Daemon::spawn(
            &config.clone().crash_at(point, 2 - u64::from(point.starts_with("copy") && !point.contains("chunk"))),
        );
        if point.contains("ddl") {
            daemon.ready();
            sql.run("alter table ledger add column extra int default 7");
            ledger.wait_for(20);
            sql.run(
                "alter table ledger add column more varchar(10) default 'x'; update filled set t = 'y' where id = 1; ",
            );
        }
        daemon.wait_crash();
        ledger.wait_for(50);
        let mut daemon = Daemon::spawn(&config);
        daemon.ready();
        ledger.wait_for(50);
        let written = ledger.stop();
        daemon.wait_level(&m.source_url());
        written.assert_kept(&m.source_url());
        assert_kept(&m);
        m.assert_same("select * from filled order by id", "select * from filled order by id");
        assert_eq!(daemon.sigterm(), 0, "{point}");
        let finished = Daemon::command(&config, &["finish", "--yes"]);
        assert!(finished.status.success(), "{}", String::from_utf8_lossy(&finished.stderr));
    }
}

const COPY_POINTS: &[&str] = &[
    "copy.before_begin",
    "copy.log_kept",
    "copy.schema_made",
    "copy.planned",
    "copy.chunk_read",
    "copy.chunk_committed",
    "copy.indexed",
    "copy.loaded",
    "copy.done",
];
const STREAM_POINTS: &[&str] =
    &["stream.before_apply", "apply.before_commit", "stream.applied", "apply.before_ddl", "apply.after_ddl"];

#[test]
fn given_a_kill_anywhere_in_the_copy_when_started_again_then_mysql_has_every_row_once() {
    crashes(Flavour::Mysql, COPY_POINTS);
}

#[test]
fn given_a_kill_anywhere_in_the_stream_when_started_again_then_mysql_has_every_row_once() {
    crashes(Flavour::Mysql, STREAM_POINTS);
}

#[test]
fn given_a_kill_anywhere_when_started_again_then_mariadb_has_every_row_once() {
    crashes(
        Flavour::Mariadb,
        &["copy.planned", "copy.chunk_committed", "copy.loaded", "apply.before_commit", "apply.after_ddl"],
    );
}

#[test]
fn given_a_target_that_is_killed_when_it_is_back_then_nothing_is_lost() {
    for flavour in [Flavour::Mysql, Flavour::Mariadb] {
        let mut m = Mixed::start_with(flavour, |b| {
            b.setting("innodb_flush_log_at_trx_commit", "1").setting("sync_binlog", "1")
        });
        let ledger = Ledger::start(&m.source_url(), 2, Duration::from_millis(1), 7);
        let mut daemon = Daemon::spawn(&m.config());
        daemon.ready();
        for _ in 0..3 {
            ledger.wait_for(100);
            m.target.kill9();
            m.target.start_again().unwrap();
        }
        ledger.wait_for(50);
        ledger.stop();
        daemon.wait_level(&m.source_url());
        assert_kept(&m);
    }
}

#[test]
fn given_large_transactions_when_followed_then_they_arrive_whole() {
    for flavour in [Flavour::Mysql, Flavour::Mariadb] {
        let m = Mixed::start(flavour);
        let mut sql = m.on_source();
        sql.run("create table t (id int primary key, n int, t text)");
        let mut daemon = Daemon::spawn(&m.config());
        daemon.ready();
        sql.run("insert into t select i, i, repeat('x', 300) from generate_series(1, 60000) i");
        sql.run("begin; update t set n = n + 1; delete from t where id % 2 = 0; update t set id = -id where id % 3 = 0; commit");
        daemon.wait_level(&m.source_url());
        m.assert_same("select id, n, length(t) from t order by id", "select id, n, length(t) from t order by id");
    }
}

/// Runs statements while the daemon follows, and gives back what it ends with.
fn ends_with(m: &Mixed, before: &str, then: &str) -> String {
    let mut sql = m.on_source();
    sql.run(before);
    let mut daemon = Daemon::spawn(&m.config());
    if !then.is_empty() {
        daemon.ready();
        sql.run(then);
    }
    assert_eq!(daemon.exit_status(), 1);
    daemon.log()
}

#[test]
fn given_values_that_do_not_fit_when_they_come_then_it_stops_and_names_table_key_and_column() {
    for flavour in [Flavour::Mysql, Flavour::Mariadb] {
        let m = Mixed::start(flavour);
        let log = ends_with(&m, "create table t (id int primary key, f float8); insert into t values (42, 'NaN')", "");
        assert!(log.contains("column f of the row id=42") && log.contains("NaN"), "{log}");
        let m = Mixed::start(flavour);
        let log = ends_with(
            &m,
            "create table t (id int primary key, d timestamptz)",
            "insert into t values (1, now()), (43, 'infinity')",
        );
        assert!(log.contains("column d of the row id=43"), "{log}");
    }
}

#[test]
fn given_rows_that_are_equal_under_the_targets_collation_when_they_meet_then_both_are_named() {
    for flavour in [Flavour::Mysql, Flavour::Mariadb] {
        let m = Mixed::start(flavour);
        let log = ends_with(
            &m,
            "create table t (name varchar(20) primary key, n int)",
            "insert into t values ('Ada', 1); insert into t values ('x', 1), ('ADA', 2)",
        );
        assert!(log.contains("equal under the target's unique key PRIMARY"), "{log}");
        assert!(log.contains("name=Ada") && log.contains("name=ADA"), "{log}");
        let m = Mixed::start(flavour);
        let log = ends_with(
            &m,
            "create table t (id int primary key, mail varchar(20) unique)",
            "insert into t values (1, 'ada'); insert into t values (2, 'x'), (3, 'ADA')",
        );
        assert!(log.contains("id=1") && log.contains("id=3") && log.contains("mail"), "{log}");
        let m = Mixed::start(flavour);
        let log = ends_with(
            &m,
            "create table t (name varchar(20) primary key, n int); insert into t values ('Ada', 1), ('ADA', 2)",
            "",
        );
        assert!(log.contains("utf8mb4_bin"), "{log}");
    }
}

#[test]
fn given_schema_changes_when_followed_then_the_target_has_them() {
    for flavour in [Flavour::Mysql, Flavour::Mariadb] {
        let m = Mixed::start(flavour);
        let mut sql = m.on_source();
        sql.run("create table t (id int primary key, a varchar(10)); insert into t select i, 'a' || i from generate_series(1, 100) i");
        let mut daemon = Daemon::spawn(&m.config());
        daemon.ready();
        sql.run("begin; insert into t values (101, 'x'); alter table t add column b int not null default 5; insert into t values (102, 'y', 6); commit");
        sql.run("alter table t add column c timestamptz; update t set c = '2024-01-01 00:00:00+00' where id < 10; alter table t alter column a type varchar(50); update t set a = repeat('z', 50) where id = 1; alter table t rename column c to d");
        sql.run("alter table t drop column d; insert into t values (103, 'after', 7)");
        sql.run("create table made (id bigint generated always as identity primary key, t text default 'x'); insert into made (t) values ('a'), (default)");
        daemon.wait_level(&m.source_url());
        m.assert_same("select id, a, b from t order by id", "select id, a, b from t order by id");
        m.assert_same("select id, t from made order by id", "select id, t from made order by id");
        assert_eq!(
            m.on_target(
                "select count(*) from information_schema.columns where table_schema = database() and table_name = 't'"
            ),
            "3"
        );
    }
}

#[test]
fn given_triggers_on_the_target_when_migrated_then_they_do_not_fire_and_come_back() {
    let m = Mixed::start(Flavour::Mysql);
    let mut sql = m.on_source();
    sql.run("create table t (id int primary key, n int); insert into t values (1, 1)");
    m.on_target("create table t (id int primary key, n int); create trigger plus before insert on t for each row set new.n = new.n + 100");
    let config = m.config().schema_exists();
    let mut daemon = Daemon::spawn(&config);
    daemon.ready();
    sql.run("insert into t values (2, 2)");
    daemon.wait_level(&m.source_url());
    assert_eq!(m.on_target("select id, n from t order by id"), "1|1\n2|2");
    assert_eq!(daemon.sigterm(), 0);
    let finished = Daemon::command(&config, &["finish", "--yes"]);
    assert!(finished.status.success(), "{}", String::from_utf8_lossy(&finished.stderr));
    m.on_target("insert into t values (3, 3)");
    assert_eq!(m.on_target("select n from t where id = 3"), "103");
    assert_eq!(m.on_target("select count(*) from information_schema.schemata where schema_name = 'switchyard'"), "0");
}

#[test]
fn given_a_row_that_somebody_deleted_on_the_target_when_it_changes_then_it_stops_and_names_the_key() {
    for flavour in [Flavour::Mysql, Flavour::Mariadb] {
        let m = Mixed::start(flavour);
        let mut sql = m.on_source();
        sql.run("create table t (id int, k text, n int, primary key (id, k)); insert into t select i, 'k' || i, i from generate_series(1, 100) i");
        let mut daemon = Daemon::spawn(&m.config());
        daemon.ready();
        m.on_target("delete from t where id = 77");
        sql.run("update t set n = n + 1 where id > 50");
        assert_eq!(daemon.exit_status(), 1);
        let log = daemon.log();
        assert!(log.contains("update of 50 rows found only 49 on the target") && log.contains("id=77,k=k77"), "{log}");
    }
}
