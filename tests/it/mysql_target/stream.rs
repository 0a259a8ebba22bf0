//! Copy and stream into tables that exist.

use switchyard::sandbox::Flavour;

use super::Mixed;
use crate::support::Daemon;

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
        m.assert_same("select n, t, count(*) from loose group by 1, 2 order by 1, 2", "select n, t, count(*) from loose group by 1, 2 order by 1, 2");
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
