//! Values of every type, and changes of every kind.

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Decimal128, doc};

use super::{PATIENCE, Pair, mongo};
use crate::mysql_source::{installs, quick};
use crate::support::{Config, Daemon, fresh_name, wait_until};

const TYPES: &str = "
    create type mood as enum ('sad', 'ok');
    create table t (id bigint primary key, b boolean, i2 smallint, i4 integer, i8 bigint, n numeric(12,2), big numeric, f4 real, f8 double precision,
        c char(5), v varchar(20), x text, by bytea, u uuid, d date, ts timestamp(3), tz timestamptz(3), tm time, iv interval, j json, jb jsonb,
        m mood, ip inet, a integer[], ta text[], ja jsonb[], bits bit(3), r int4range);
    insert into t values (1, true, -2, 4, 9007199254740993, 12.30, 1234567890123456789012345678901234, 0.1, 1e300,
        'ab', 'vär', E'text \\n 🚂', '\\x00ff', '0190d2a4-1111-4222-8333-444455556666', '2024-02-29', '2024-02-29 12:00:00.123',
        '1969-12-31 23:59:59.999+00', '12:34:56.123456', '1 mon 2 days', '{\"b\": [1, 2.5, null, {\"$x\": 1}]}', '{\"k\": {\"n\": 12345678901}}',
        'ok', '10.0.0.1', '{1,NULL,3}', '{\"a,b\",\"q\\\"\",NULL,\"\"}', '{\"{\\\"a\\\": 1}\"}', '101', '[1,5)');
    insert into t (id) values (2);";

#[test]
fn given_every_type_when_copied_and_followed_then_documents_hold_its_values() {
    let pair = Pair::shared("types", TYPES);
    let (mut daemon, mut sql) = pair.ready();
    let target = pair.target();
    sql.run("insert into t select 3, b, i2, i4, i8, n, big, f4, f8, c, v, x, by, u, d, ts, tz, tm, iv, j, jb, m, ip, a, ta, ja, bits, r from t where id = 1");
    sql.run("update t set x = 'changed', n = 'NaN', f8 = '-Infinity' where id = 2");
    target.wait_for("t", doc! { "_id": 2, "x": "changed" });
    let uuid = bson::Uuid::parse_str("0190d2a4-1111-4222-8333-444455556666").unwrap();
    let date = |ms: i64| DateTime::from_millis(ms);
    let decimal = |t: &str| Bson::Decimal128(t.parse::<Decimal128>().unwrap());
    let want = doc! {
        "_id": 1_i64, "b": true, "i2": -2, "i4": 4, "i8": 9_007_199_254_740_993_i64, "n": decimal("12.30"),
        "big": decimal("1234567890123456789012345678901234"), "f4": 0.1, "f8": 1e300, "c": "ab   ", "v": "vär", "x": "text \n 🚂",
        "by": Binary { subtype: BinarySubtype::Generic, bytes: vec![0, 255] }, "u": uuid,
        "d": date(1_709_164_800_000), "ts": date(1_709_208_000_123), "tz": date(-1), "tm": "12:34:56.123456", "iv": "1 mon 2 days",
        "j": { "b": [1, 2.5, Bson::Null, { "$x": 1 }] }, "jb": { "k": { "n": 12_345_678_901_i64 } }, "m": "ok", "ip": "10.0.0.1",
        "a": [1, Bson::Null, 3], "ta": ["a,b", "q\"", Bson::Null, ""], "ja": [{ "a": 1 }], "bits": "101", "r": "[1,5)",
    };
    assert_eq!(target.one("t", 1), want);
    let mut again = want.clone();
    again.insert("_id", 3_i64);
    assert_eq!(target.one("t", 3), again);
    let second = target.one("t", 2);
    assert_eq!(second.get("n"), Some(&decimal("NaN")));
    assert_eq!(second.get("f8"), Some(&Bson::Double(f64::NEG_INFINITY)));
    assert_eq!(second.get("by"), Some(&Bson::Null));
    assert_eq!(daemon.sigterm(), 0);
}

#[test]
fn given_a_value_that_no_document_holds_when_it_comes_then_the_stream_stops_and_says_where_and_what_to_do() {
    let pair = Pair::shared("micros", "create table e (id int primary key, at timestamptz)");
    let (mut daemon, mut sql) = pair.ready();
    sql.run("insert into e values (1, '2024-01-01 00:00:00.5+00'), (2, '2024-01-01 00:00:00.123456+00')");
    assert_eq!(daemon.exit_status(), 1);
    let log = daemon.log();
    assert!(log.contains("column at of the row with id=2") && log.contains("microseconds"), "{log}");
    assert!(log.contains("types = {"), "{log}");
    assert_eq!(pair.target().count("e"), 0);
    // A rule says that they may be cut off.
    let pair = Pair::shared(
        "micros",
        "create table e (id int primary key, at timestamptz, day timestamp); insert into e values (1, '2024-01-01 00:00:00.123456+00', '2024-01-01 00:00:00.123456')",
    );
    let rules = "[[rule]]\nfrom = \"public.e\"\ntypes = { at = \"date\", day = \"string\" }";
    let mut daemon = Daemon::spawn(&pair.config().extra(rules));
    daemon.ready();
    let d = pair.target().one("e", 1);
    assert_eq!(d.get_datetime("at").unwrap().timestamp_millis(), 1_704_067_200_123);
    assert_eq!(d.get_str("day").unwrap(), "2024-01-01 00:00:00.123456");
    assert_eq!(daemon.sigterm(), 0);
}

#[test]
fn given_times_with_microseconds_when_they_are_to_be_cut_then_only_keys_refuse_them() {
    let pair = Pair::shared(
        "cut",
        "create table e (id int primary key, at timestamptz default now(), day timestamp, list timestamptz[], low timestamptz);
         create table k (at timestamptz primary key);
         insert into e values (1, '2024-01-01 00:00:00.123456+00', '1969-12-31 23:59:59.999999', '{2024-01-01 00:00:00.000999+00,NULL}');
         insert into e (id) select generate_series(2, 200)",
    );
    let config = pair.config().microseconds_cut();
    let mut daemon = Daemon::spawn(&config);
    daemon.ready();
    let mut sql = pair.source();
    sql.run("insert into e select 201, at, day, list, low from e where id = 1; insert into e (id) values (202)");
    sql.run("update e set low = now() where id < 50");
    let target = pair.target();
    let in_ms = "select id, (floor(extract(epoch from at) * 1000))::bigint, (floor(extract(epoch from low) * 1000))::bigint from e order by id";
    let want: Vec<Vec<Option<String>>> = sql.rows(in_ms);
    let ms = |d: &bson::Document, name: &str| d.get_datetime(name).ok().map(|t| t.timestamp_millis().to_string());
    let have = || -> Vec<Vec<Option<String>>> {
        let row = |d: &bson::Document| vec![Some(d.get_i32("_id").unwrap().to_string()), ms(d, "at"), ms(d, "low")];
        target.all("e").iter().map(row).collect()
    };
    wait_until("all times have come", PATIENCE, || have() == want);
    for id in [1, 201] {
        let d = target.one("e", id);
        assert_eq!(d.get_datetime("day").unwrap().timestamp_millis(), -1);
        let list = d.get_array("list").unwrap();
        assert_eq!(list, &vec![Bson::DateTime(DateTime::from_millis(1_704_067_200_000)), Bson::Null]);
    }
    assert!(daemon.log().contains("column at (timestamp with time zone) loses its microseconds"), "{}", daemon.log());
    // Two keys would become one.
    sql.run("insert into k values ('2024-01-01 00:00:00.123456+00')");
    assert_eq!(daemon.exit_status(), 1);
    assert!(daemon.log().contains("microseconds"), "{}", daemon.log());
    assert_eq!(target.count("k"), 0);
    // Without it `check` names it, and for other targets there is no such thing.
    let said = Daemon::command(&pair.config(), &["check"]);
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(text.contains("may hold microseconds") && text.contains("target.microseconds = \"cut\""), "{text}");
    let said = Daemon::command(&config.target("postgres://a@127.0.0.1:1/b"), &["check"]);
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(text.contains("target.microseconds: is for MongoDB"), "{text}");
}

#[test]
fn given_large_values_that_did_not_change_when_rows_are_updated_then_they_stay() {
    let pair = Pair::shared(
        "toast",
        "create table d (id int primary key, n int, body text); alter table d alter body set storage external;
         insert into d select g, g, repeat('x', 20000) || g from generate_series(1, 5) g",
    );
    let (mut daemon, mut sql) = pair.ready();
    sql.run("update d set n = n + 100 where id <= 3; update d set id = 50 where id = 5");
    sql.run("update d set id = 40, n = 7 where id = 4");
    let target = pair.target();
    target.wait_same(&mut sql, "d", "select id, n, body from d");
    assert_eq!(daemon.sigterm(), 0);
}

#[test]
fn given_a_transaction_of_20000_rows_when_applied_then_all_of_it_or_nothing_is_seen() {
    let pair = Pair::shared(
        "large",
        "create table a (id int primary key, v int, u int unique, pad text); create table k (v int, pad text); alter table k replica identity full",
    );
    let (mut daemon, mut sql) = pair.ready();
    sql.run("begin; insert into a select g, g, g, repeat('p', 500) from generate_series(1, 20000) g; \
             insert into k select g, repeat('k', 100) from generate_series(1, 2000) g; update a set v = v + 1 where id % 2 = 0; \
             delete from a where id % 10 = 0; update a set u = -u; commit; insert into k values (0, 'last')");
    let target = pair.target();
    target.wait_for("k", doc! { "pad": "last" });
    target.wait_same(&mut sql, "a", "select id, v, u, pad from a");
    assert_eq!(target.count("k"), 2001);
    sql.run("truncate k; insert into k values (1, 'after')");
    wait_until("the collection was emptied", PATIENCE, || target.count("k") == 1);
    assert_eq!(daemon.sigterm(), 0);
}

#[test]
fn given_mysql_when_copied_and_followed_then_documents_hold_its_rows() {
    let server = mongo();
    for install in installs() {
        let source = quick(&install);
        source.sql("create database shop character set utf8mb4").unwrap();
        source
            .sql_in(
                "shop",
                "create table t (id bigint unsigned primary key, name varchar(50), active tinyint(1) not null, price decimal(10,2), j json, e enum('a','b'), s set('x','y'),
                    at datetime(3), y year, bin varbinary(10), unique key (name));
                 create table k (v int, w varchar(10));
                 insert into t values (18446744073709551615, 'größe 🚂', 1, 12.30, '{\"a\": [1]}', 'b', 'x,y', '2024-02-29 12:00:00.125', 2024, x'00ff'),
                    (2, null, 0, null, null, 'a', '', null, null, null), (3, null, 2, 0, '3', 'a', 'x', null, null, null);
                 insert into k values (1, 'one'), (1, 'one'), (2, null);",
            )
            .unwrap();
        let name = fresh_name("my");
        let mut daemon = Daemon::spawn(&Config::new(&name, &source.url("shop"), &server.url(&name)));
        daemon.ready();
        source
            .sql_in(
                "shop",
                "update t set price = price + 1 where id > 5; delete from t where id = 2; delete from k where v = 1 limit 1; \
                 update k set w = 'two' where w is null; insert into t (id, name, active) values (7, 'last', 0)",
            )
            .unwrap();
        let target = super::Mongo::connect(&server.url("admin"), &name);
        target.wait_for("t", doc! { "name": "last" });
        let first = target.one("t", "18446744073709551615".parse::<Decimal128>().unwrap());
        assert_eq!(first.get("price"), Some(&Bson::Decimal128("13.30".parse().unwrap())), "{first}");
        assert_eq!(
            (first.get_bool("active").unwrap(), first.get_str("s").unwrap(), first.get_i32("y").unwrap()),
            (true, "x,y", 2024)
        );
        assert_eq!(first.get_document("j").unwrap(), &doc! { "a": [1] });
        assert_eq!(target.count("t"), 3);
        let mut rest: Vec<String> =
            target.all("k").iter().map(|d| format!("{}{}", d.get("v").unwrap(), d.get("w").unwrap())).collect();
        rest.sort();
        assert_eq!(rest, ["1\"one\"", "2\"two\""]);
        assert_eq!(daemon.sigterm(), 0);
    }
}
