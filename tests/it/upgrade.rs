//! Moves between major versions, the commonest reason to move at all; and a `pg_dump` that is too old for the source.

use switchyard::sandbox::{self, PgInstall, PgServer};

use crate::scenario::{Case, assert_same_rows, finish};
use crate::support::{Config, Daemon, Database, fresh_name};

fn server(install: &PgInstall) -> PgServer {
    PgServer::builder(install)
        .setting("wal_level", "logical")
        .setting("fsync", "off")
        .setting("shared_buffers", "32MB")
        .start()
        .unwrap()
}

/// What every version since 14 knows.
fn cases() -> Vec<Case> {
    vec![
        Case::new("types and constraints")
            .before("create extension hstore; create extension citext; create type mood as enum ('sad', 'ok'); create domain posint as int check (value > 0); create type pair as (a int, b text);
                     create table customers (id bigint generated always as identity primary key, email citext unique, mood mood, tags text[], attrs hstore, doc jsonb, balance numeric(20, 5), born date, p pair, r int4multirange, big text);
                     create table orders (id uuid primary key default gen_random_uuid(), customer bigint not null references customers on delete cascade, n posint, placed timestamptz not null, total float8, sum numeric generated always as (n * 2) stored) ;
                     create index on orders (customer, placed desc); create index on customers using gin (doc); create view busy as select customer, count(*) from orders group by 1;
                     create function touch() returns trigger language plpgsql as $$ begin new.placed := coalesce(new.placed, now()); return new; end $$; create trigger touch before insert on orders for each row execute function touch();
                     insert into customers (email, mood, tags, attrs, doc, balance, born, p, r, big) select 'U' || n || '@x', 'ok', array['a', null, 'b \"c'], 'k=>\"v w\"', '{\"a\": 1.10}', n / 7.0, date '0044-03-15 BC' + n, row(n, 'x,\"y'::text)::pair, '{[1,3),[5,9)}', repeat('x', n * 10) from generate_series(1, 2000) n;
                     insert into orders (customer, n, placed, total) select 1 + n % 2000, 1 + n, timestamptz '2024-01-01 00:00+00' + n * interval '1 s', n / 3.0 from generate_series(1, 10000) n;
                     create table events (id int, at timestamptz, what text, primary key (id, at)) partition by range (at); create table events_1 partition of events for values from (minvalue) to ('2024-06-01'); create table events_2 partition of events default;
                     insert into events select n, timestamptz '2024-01-01 00:00+00' + n * interval '1 h', 'e' from generate_series(1, 8000) n;
                     create table nokey (a int, x xml, i interval); alter table nokey replica identity full; insert into nokey values (1, '<a/>', '-1 day'), (1, '<a/>', '-1 day')")
            .change("update customers set mood = 'sad', balance = 'NaN' where id % 3 = 0; delete from customers where id % 10 = 0; insert into customers (email) values ('new@x')")
            .change("update events set at = at + interval '4 months' where id % 50 = 0; delete from nokey where ctid = (select min(ctid) from nokey); update orders set n = n + 1, total = 'Infinity' where n % 100 = 0")
            .same("select count(*) from busy")
            .same("select count(*) from pg_indexes where schemaname = 'public'"),
    ]
}

/// Moves a database from one version to another and compares everything.
fn moves(from: &PgInstall, to: &PgInstall) {
    eprintln!("moving from PostgreSQL {} to {}", from.version, to.version);
    let (source, target) = (server(from), server(to));
    let name = fresh_name("upgrade");
    source.psql(&format!("create database {name}")).unwrap();
    target.psql(&format!("create database {name}")).unwrap();
    let db = Database { source: source.url(&name), target: target.url(&name), name };
    let mut sql = db.on_source();
    let cases = cases();
    Case::run_before(&cases, &mut sql);
    let mut daemon = Daemon::spawn(&db.config());
    daemon.ready();
    Case::run_changes(&cases, &mut sql);
    daemon.wait_level(&db.source);
    assert_same_rows(&db, &cases, false);
    // Sooner or later somebody stops it for a while.
    assert_eq!(daemon.sigterm(), 0);
    sql.run("update customers set tags = null where id < 100; insert into nokey values (9, '<b/>', '1 year')");
    let mut daemon = Daemon::spawn(&db.config());
    daemon.wait_level(&db.source);
    assert_same_rows(&db, &cases, false);
    assert_eq!(daemon.sigterm(), 0);
    finish(&db.config());
}

/// Every version that is here, and all pairs of neighbours and of the oldest and the newest, up and down.
#[test]
fn soak_upgrade_given_all_versions_when_moved_between_them_then_every_row_is_equal() {
    let all = sandbox::all_postgres();
    assert!(all.len() > 1, "one version is not enough: run `make servers` as root");
    let (oldest, newest) = (&all[0], &all[all.len() - 1]);
    for to in &all[1..] {
        moves(oldest, to);
    }
    // Down again: every pg_dump on this machine is too old for this source, so the catalog's script is used.
    moves(newest, oldest);
    moves(newest, newest);
}

#[test]
fn soak_upgrade_given_a_view_and_a_source_that_no_pg_dump_can_read_when_checked_then_it_is_said_what_stays_behind() {
    let all = sandbox::all_postgres();
    let newest = &all[all.len() - 1];
    let dumps = std::fs::read_dir("/usr/lib/postgresql")
        .map(|d| d.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).max());
    let newest_dump: Option<u32> = dumps.ok().flatten();
    if newest_dump.is_some_and(|v| v >= newest.version_major) {
        // This machine has the newest pg_dump itself; nothing stays behind.
        return;
    }
    let (source, target) = (server(newest), server(newest));
    source
        .psql("create table t (id int primary key); create view v as select * from t; insert into t values (1)")
        .unwrap();
    let config = Config::new(&fresh_name("old_dump"), &source.url("postgres"), &target.url("postgres"));
    let mut daemon = Daemon::spawn(&config);
    daemon.ready();
    let log = daemon.log();
    assert!(log.contains("pg_dump") && log.contains("views"), "{log}");
    assert_eq!(target.psql("select count(*) from t").unwrap(), "1");
    assert_eq!(daemon.sigterm(), 0);
}
