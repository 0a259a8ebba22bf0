//! Values of every type into PostgreSQL, by copy and by stream, and those that need a word of the operator.

use switchyard::sandbox::Flavour::{self, Mariadb, Mysql};

use super::stopped;
use crate::mysql_pairs::quick;
use crate::mysql_source::{COLUMNS, ROWS};
use crate::mysql_to_postgres::Pair;
use crate::support::Daemon;

const BOTH: [Flavour; 2] = [Mysql, Mariadb];

/// Types for what PostgreSQL's usual ones do not hold.
const TYPES: &str = "[[rule]]\nfrom = \"shop.a\"\ntypes = { b1 = \"smallint\", t0 = \"interval\", t6 = \"interval\", c = \"text\" }\n\
                     [[rule]]\nfrom = \"shop.b\"\ntypes = { b1 = \"smallint\", t0 = \"interval\", t6 = \"interval\", c = \"text\" }";

fn values() -> Vec<String> {
    // NUL has no place in PostgreSQL's text.
    ROWS.iter().map(|r| format!("({})", r.replace(" \\0'", "'").replace("\\\\u0000", ""))).collect()
}

#[test]
fn given_every_type_when_copied_and_when_streamed_into_postgres_then_the_rows_are_the_same() {
    for flavour in BOTH {
        let pair = Pair::of(quick(flavour).start().unwrap());
        pair.at_source(&format!(
            "create table a ({COLUMNS}) charset utf8mb4; create table b like a; set sql_mode = ''; insert into a values {}",
            values().join(", ")
        ));
        let config = pair.config().zero_dates_as_null().extra(TYPES);
        let mut daemon = Daemon::spawn(&config);
        daemon.ready();
        pair.at_source("set sql_mode = ''; insert into b select * from a");
        pair.level(&mut daemon);
        let mut target = pair.on_target();
        let whole = |table: &str| format!("select to_jsonb({table})::text from {table} order by id");
        let (copied, streamed) = (target.rows(&whole("a")), target.rows(&whole("b")));
        assert_eq!(copied.len(), ROWS.len());
        assert_eq!(copied, streamed, "{flavour:?}");
        // By updates, too: every column gets another row's value, and its own again.
        pair.at_source(
            "set sql_mode = ''; delete from b where id > 2; update b set id = 10 where id = 1; insert into b select * from a where id in (1, 3, 4); delete from b where id = 10; update b set i1 = 5",
        );
        pair.at_source("set sql_mode = ''; replace into b select * from a");
        pair.level(&mut daemon);
        assert_eq!(copied, target.rows(&whole("b")), "{flavour:?}");
        // Some by hand.
        for (sql, value) in [
            ("select u8 || ' ' || i8 from a where id = 1", "18446744073709551615 -9223372036854775808"),
            (
                "select f || ' ' || f2 || ' ' || d || ' ' || dd from a where id = 1",
                "0.1 0.1 -12345678.90 0.000000000000000000000000000001",
            ),
            ("select t0 || ' ' || t6 from a where id = 1", "-838:59:59 12:34:56.789012"),
            ("select concat_ws(' ', bb, bi, y) from a where id = 1", "10101010101010101010 1 2024"),
            (
                "select ts6 at time zone 'utc' || ' ' || dt3 from a where id = 1",
                "2038-01-19 03:14:07.999999 2024-02-29 12:34:56.78",
            ),
            ("select concat_ws(' ', bn, vb, bl) from a where id = 1", "\\x61620000 \\x00ff10 \\x5c27"),
            ("select e || '/' || s || '/' || v || '/' || vl from a where id = 1", "it's/x,z/émoji 🚂/café €"),
            (
                "select concat_ws(' ', (j->'a'->>'é')::float8, j->'big') from a where id = 1",
                "1e+300 18446744073709551615",
            ),
            (
                "select count(*) from a where da is null and dt is null and dt3 is null and dt6 is null and b1 = 2 and id = 4",
                "1",
            ),
        ] {
            let got = target.one(sql);
            assert_eq!(got, value, "{flavour:?} {sql}");
        }
        assert_eq!(daemon.sigterm(), 0);
    }
}

#[test]
fn given_dates_that_are_none_when_they_come_then_they_stop_or_are_null_as_configured() {
    for flavour in BOTH {
        let pair = Pair::of(quick(flavour).start().unwrap());
        let table = "create table t (id int primary key, d date, dt datetime(3), ts timestamp null, must date not null default '0000-00-00')";
        pair.at_source(&format!("set sql_mode = ''; {table}; create table k (day date primary key, n int); insert into t values (1, '2024-01-31', '2024-01-31 01:02:03.5', '2024-01-31 00:00:00', '2024-01-01')"));
        let rows = "(2, '0000-00-00', '0000-00-00 00:00:00', '0000-00-00 00:00:00', '0000-00-00'), (3, '2024-00-10', '2024-05-00 01:00:00', null, '0000-01-01')";
        // As they are they stop the stream,
        let mut daemon = Daemon::spawn(&pair.config());
        daemon.ready();
        pair.at_source(&format!("set sql_mode = ''; insert into t values {rows}"));
        stopped(&mut daemon, &["row id=2, column d", "source.zero_dates"]);
        // and the copy.
        let again = Pair::of(quick(flavour).start().unwrap());
        again.at_source(&format!("set sql_mode = ''; {table}; insert into t values {rows}"));
        let mut daemon = Daemon::spawn(&again.config());
        stopped(&mut daemon, &["row id=2, column d", "source.zero_dates"]);
        // With the key set, the stream goes on where it stopped.
        let mut daemon = Daemon::spawn(&pair.config().zero_dates_as_null());
        pair.level(&mut daemon);
        let shown = "select concat_ws('|', id, d is null, dt is null, ts is null, must is null) from t order by id";
        let all = |pair: &Pair| pair.on_target().rows(shown).into_iter().flatten().flatten().collect::<Vec<_>>();
        assert_eq!(all(&pair), ["1|f|f|f|f", "2|t|t|t|t", "3|t|t|t|t"], "{flavour:?}");
        pair.at_source("set sql_mode = ''; update t set d = '0000-00-00' where id = 1; update t set d = '2024-02-29', must = '2024-02-29' where id = 2; delete from t where id = 3");
        pair.level(&mut daemon);
        assert_eq!(all(&pair), ["1|t|f|f|f", "2|f|t|t|f"], "{flavour:?}");
        assert_eq!(daemon.sigterm(), 0);
        let mut daemon = Daemon::spawn(&again.config().zero_dates_as_null());
        again.level(&mut daemon);
        assert_eq!(all(&again), ["2|t|t|t|t", "3|t|t|t|t"], "{flavour:?}");
        assert_eq!(daemon.sigterm(), 0);
    }
}

#[test]
fn given_a_tinyint_of_one_digit_that_holds_more_when_it_comes_then_it_stops_and_a_type_of_ones_own_holds_it() {
    for flavour in BOTH {
        let pair = Pair::of(quick(flavour).start().unwrap());
        pair.at_source("create table t (id int primary key, active tinyint(1) not null default 1); insert into t values (1, 1), (2, 0)");
        let mut daemon = Daemon::spawn(&pair.config());
        daemon.ready();
        pair.at_source("insert into t values (3, 0), (4, 2)");
        stopped(&mut daemon, &["row id=4, column active (boolean)", "types = { active = \"smallint\" }"]);
        let own = Pair::of(quick(flavour).start().unwrap());
        own.at_source("create table t (id int primary key, active tinyint(1) not null default 1); insert into t values (1, 1), (2, -128), (3, 2)");
        let mut daemon = Daemon::spawn(&own.config());
        stopped(&mut daemon, &["row id=2, column active (boolean)", "types = { active = \"smallint\" }"]);
        let own = Pair::of(own.source);
        let types = "[[rule]]\nfrom = \"shop.t\"\ntypes = { active = \"smallint\" }";
        let mut daemon = Daemon::spawn(&own.config().extra(types));
        daemon.ready();
        own.at_source("insert into t (id) values (4); update t set active = 127 where id = 1");
        own.level(&mut daemon);
        let mut target = own.on_target();
        assert_eq!(target.one("select string_agg(active::text, ',' order by id) from t"), "127,-128,2,1");
        assert_eq!(daemon.sigterm(), 0);
    }
}
