//! Schema changes at the source while it is followed: the safe ones arrive, the others stop with a way on.

use crate::scenario::{Case, Roles, assert_same_schema, carry, database, finish};
use crate::support::{Daemon, Database, Sql, assert_equal};

#[test]
fn given_safe_schema_changes_when_followed_then_the_target_has_them_and_every_row() {
    let case = Case::new("safe changes")
        .before("create type mood as enum ('a', 'b'); create table t (id int primary key, v varchar(10), n int, w text, gone int); insert into t select n, 'v' || n, n, 'w', n from generate_series(1, 100) n;
                 create table u (id int primary key); insert into u values (1); create table p (id int primary key, k int) partition by range (id); create table p1 partition of p default; insert into p values (1, 1)")
        .change("alter table t add column c1 int default 7")
        .change("insert into t (id, v) values (1000, 'x')")
        .change("begin; update t set n = 0 where id = 1; alter table t add column c2 timestamptz default now(), add column c3 text not null default 'it''s \"x\" \\'; update t set c3 = 'y' where id = 2; insert into t (id) values (1001); commit")
        .change("alter table t add column c4 numeric(10, 2), add column c5 mood default 'b', add column \"C 6\" int[] default '{1,NULL}'; update t set c4 = 1.5, \"C 6\" = '[0:0]={5}' where id < 5")
        .change("alter table t rename column w to w2; update t set w2 = 'renamed' where id = 3")
        .change("alter table t alter column v type varchar(40); update t set v = repeat('x', 40) where id = 4; alter table t alter column v type text; update t set v = repeat('x', 100) where id = 5")
        .change("alter table t alter column c3 set default 'other', alter column n drop default")
        .change("update t set n = 1 where n is null; alter table t alter column n set not null; alter table t alter column n drop not null; insert into t (id, n) values (1002, null)")
        .change("create table made (id int primary key, v text default 'd', at date); insert into made values (1), (2)")
        .change("create table made_full (a int, b text); alter table made_full replica identity full; insert into made_full values (1, 'x'), (1, 'x')")
        .change("update made set v = 'e' where id = 1; insert into made_full values (2, 'y'); delete from made_full where ctid = (select min(ctid) from made_full)")
        .change("create index on t (n desc) where n > 0; create unique index made_u on made (v, id)")
        .change("create index concurrently t_conc on t (lower(v))")
        .change("alter table p add column extra text default 'e'; insert into p values (2, 2)")
        .change("begin; create table rolled_back (id int primary key); alter table t add column rolled_back int; rollback")
        .change("create temp table tmp (id int); insert into tmp values (1); drop table tmp")
        .change("do $$ begin for i in 1..20 loop execute format('alter table u add column a%s int default %s', i, i); execute format('insert into u (id) values (%s)', i * 10); end loop; end $$")
        .same("select indexdef from pg_indexes where schemaname = 'public' order by 1")
        .same("select table_name, column_name, data_type, is_nullable, column_default from information_schema.columns where table_schema = 'public' and (table_name, column_name) not in (values ('t', 'c2')) order by 1, ordinal_position");
    carry(Roles::Superuser, &[case]);
}

/// Runs `unsafe_change` under a daemon, which must end with 1 and name it; then `by_hand` on the target makes it go on.
fn stops_and_goes_on(before: &str, unsafe_change: &str, words: &[&str], by_hand: &str, after: &str) -> Database {
    let db = database(Roles::Superuser);
    let mut source = db.on_source();
    source.run(before);
    let mut daemon = Daemon::spawn(&db.config());
    daemon.ready();
    source.run(unsafe_change);
    source.run(after);
    assert_eq!(daemon.exit_status(), 1, "{unsafe_change}: {}", daemon.log());
    let log = daemon.log();
    for w in words {
        assert!(log.contains(w), "{unsafe_change}: {w:?} is not in: {log}");
    }
    // Started again without a word it stops at the same place.
    let again = Daemon::command(&db.config(), &["run", "--no-progress"]);
    assert_eq!(again.status.code(), Some(1), "{unsafe_change}");
    Sql::connect(&db.target).run(by_hand);
    let mut daemon = Daemon::spawn(&db.config());
    daemon.wait_level(&db.source);
    assert_equal(&db.source, &db.target);
    assert_eq!(daemon.sigterm(), 0);
    finish(&db.config());
    assert_same_schema(&db);
    db
}

const T: &str = "create table t (id int primary key, v int, gone text); insert into t select n, n, 'g' from generate_series(1, 20) n";

#[test]
fn given_unsafe_schema_changes_when_followed_then_it_stops_with_the_statement_and_goes_on_after_it_was_done_by_hand() {
    stops_and_goes_on(
        T,
        "alter table t alter column v type text using 'x' || v",
        &["alter table t alter column v type text using", "To go on"],
        "alter table t alter column v type text using 'x' || v",
        "insert into t values (100, 'after', 'g'); update t set v = 'z' where id = 1",
    );
    stops_and_goes_on(
        T,
        "drop table t; create table t2 (id int primary key)",
        &["drop table t", "To go on", "DROP TABLE"],
        "drop table t",
        "insert into t2 values (1)",
    );
}
