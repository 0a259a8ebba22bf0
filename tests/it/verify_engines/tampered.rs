//! Rows that change, and rows that were changed: under write load, at random, and where collations take two keys for one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Engine, MARIADB, MYSQL, POSTGRES, Sides};
use crate::support::Daemon;

/// Tables with keys of several kinds, one without any, and one that changes all the time.
fn tables(from: Engine) -> String {
    let rows = |count: u32, row: &str| match from {
        POSTGRES => format!("select {} from generate_series(1, {count}) i", row.replace("$i", "i")),
        _ => format!(
            "with recursive s (i) as (select 1 union all select i + 1 from s where i < {count}) select {} from s",
            row.replace("$i", "i")
        ),
    };
    let (text, moment, keyless) = match from {
        POSTGRES => ("text", "timestamptz", "alter table log replica identity full; "),
        // Texts that differ in case alone are different keys in PostgreSQL.
        _ => ("varchar(50) character set utf8mb4 collate utf8mb4_bin", "datetime(6)", ""),
    };
    let limit = if from == POSTGRES { "" } else { "set cte_max_recursion_depth = 10000; " };
    let limit = if from == MARIADB { "set max_recursive_iterations = 10000; " } else { limit };
    let at = match from {
        POSTGRES => "timestamptz '2024-01-01 00:00:00.123456+00' + $i * interval '1 s'",
        _ => "timestampadd(second, $i, '2024-01-01 00:00:00.123456')",
    };
    let concat = |a: &str, b: &str| format!("concat({a}, {b})");
    format!(
        "{limit}create table items (id int primary key, v varchar(50), at {moment}, n decimal(20,4), f double precision, b boolean);
         insert into items {};
         create table names (name {text} primary key, v int);
         insert into names {};
         create table pairs (a int, b {text}, v varchar(20), primary key (a, b));
         insert into pairs {};
         create table log (at int, line varchar(50), n decimal(10,3), f double precision); {keyless}
         insert into log {};
         create table hot (id int primary key, n bigint not null);
         insert into hot {};
         create table nothing (id int primary key)",
        rows(1500, &format!("$i, {}, {at}, $i / 4.0, $i / 3.0, $i % 2 = 0", concat("'v'", "$i"))),
        rows(800, &format!("{}, $i", concat("'näme '", "$i"))),
        rows(500, &format!("$i % 50, {}, 'v'", concat("'b'", "$i"))),
        rows(300, &format!("$i % 10, {}, $i % 3 + 0.5, $i % 4 / 3.0", concat("'line '", "$i % 7"))),
        rows(20, "$i, 0"),
    )
}

/// Writers that go on until it is dropped.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<u64>>,
}

impl Load {
    fn on(sides: &Arc<Sides>, statements: &[&'static str]) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = statements.iter().map(|sql| {
            let (sides, stop, sql) = (sides.clone(), stop.clone(), *sql);
            std::thread::spawn(move || {
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    sides.source(&sql.replace("$n", &n.to_string()));
                    std::thread::sleep(Duration::from_millis(3));
                }
                n
            })
        });
        Load { threads: threads.collect(), stop }
    }
    fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).map(|t| t.join().unwrap()).sum()
    }
}

const LOAD: [&str; 3] = [
    "update hot set n = n + 1 where id = 1 + $n % 5; update hot set n = -n where id > 15",
    "update items set n = n + 0.25, v = concat('w', $n) where id = 1000 + ($n * 7) % 500; insert into names values (concat('new ', $n), $n); delete from names where name = concat('new ', $n - 15)",
    "insert into log values ($n, 'x', 1, 0.1); delete from log where at = $n - 20 and line = 'x'; update pairs set v = concat('p', $n) where a = 40 + $n % 10",
];

fn under_load(from: Engine, to: Engine) {
    let s = Arc::new(Sides::start(from, to));
    s.prepare();
    s.source(&tables(from));
    let mut daemon = Daemon::spawn(&s.config);
    s.level(&mut daemon);
    let load = Load::on(&s, &LOAD);
    for _ in 0..2 {
        s.assert_equal();
    }
    let (micro, blank, exact) = match to {
        POSTGRES => ("at + interval '1 microsecond'", "v || ' '", "trim_scale(n)"),
        _ => ("at + interval 1 microsecond", "concat(v, ' ')", "n + 0"),
    };
    for sql in [
        "update items set v = 'w' where id = 10",
        "update items set v = '' where id = 11",
        "update items set v = null where id = 12",
        &format!("update items set at = {micro} where id = 13"),
        &format!("update items set v = {blank} where id = 14"),
        &format!("update items set n = {exact} where id = 15"),
        "update items set f = f + 1e-9, b = not b where id = 17",
        "delete from items where id = 18",
        "insert into items (id) values (5001)",
        "update names set v = 0 where name = 'näme 3'",
        "delete from names where name = 'näme 7'",
        "insert into names values ('NÄME 8 ', 3)",
        "update pairs set v = 'w' where a = 7 and b = 'b57'",
        "insert into nothing values (1)",
    ] {
        s.target(sql);
    }
    let wanted = [
        r#"items {"id":10} different ["v"]"#,
        r#"items {"id":11} different ["v"]"#,
        r#"items {"id":12} different ["v"]"#,
        r#"items {"id":13} different ["at"]"#,
        r#"items {"id":14} different ["v"]"#,
        r#"items {"id":17} different ["f","b"]"#,
        r#"items {"id":18} missing "#,
        r#"items {"id":5001} extra "#,
        r#"names {"name":"näme 3"} different ["v"]"#,
        r#"names {"name":"näme 7"} missing "#,
        r#"names {"name":"NÄME 8 "} extra "#,
        r#"nothing {"id":1} extra "#,
        r#"pairs {"a":7,"b":"b57"} different ["v"]"#,
    ];
    s.assert_found(wanted.map(str::to_owned).to_vec());
    // Rows without a key, once nothing else is changed there: one too many, one too few.
    assert!(load.end() > 50);
    s.level(&mut daemon);
    let one = match to {
        POSTGRES => "delete from log where ctid = (select min(ctid) from log where at = 4)",
        _ => "delete from log where at = 4 limit 1",
    };
    s.target(one);
    s.target("insert into log values (3, 'line 3', 1.5, 0)");
    let (status, document) = s.verify(&["--table", "log"]);
    let found = super::found(&document);
    assert_eq!((status, found.len()), (1, 2), "{found:?}");
    assert_eq!(daemon.sigterm(), 0);
}

#[test]
fn given_postgres_and_mysql_when_verified_under_load_then_exactly_what_was_tampered_with_is_found() {
    under_load(POSTGRES, MYSQL);
}

#[test]
fn given_mysql_and_postgres_when_verified_under_load_then_exactly_what_was_tampered_with_is_found() {
    under_load(MYSQL, POSTGRES);
}

#[test]
fn given_mariadb_and_postgres_when_verified_under_load_then_exactly_what_was_tampered_with_is_found() {
    under_load(MARIADB, POSTGRES);
}

#[test]
fn given_mysql_and_mysql_when_verified_under_load_then_exactly_what_was_tampered_with_is_found() {
    under_load(MYSQL, MYSQL);
}

/// A generator of numbers that a seed repeats (xorshift64*).
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }
}

fn random(from: Engine, to: Engine) {
    let seed = std::env::var("SWITCHYARD_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("SWITCHYARD_SEED={seed}");
    let mut chance = Chance(seed | 1);
    let s = Sides::start(from, to);
    s.prepare();
    s.source(&tables(from));
    let mut daemon = Daemon::spawn(&s.config);
    s.level(&mut daemon);
    let (mut wanted, mut sql, mut touched) = (Vec::new(), Vec::new(), BTreeSet::new());
    while touched.len() < 60 {
        let id = 1 + chance.below(1500);
        if !touched.insert(id) {
            continue;
        }
        match chance.below(9) {
            0 => {
                sql.push(format!("delete from items where id = {id}"));
                wanted.push(format!(r#"items {{"id":{id}}} missing "#));
            }
            1 => {
                let id = 10_000 + id;
                sql.push(format!("insert into items (id, n) values ({id}, {})", chance.below(1000)));
                wanted.push(format!(r#"items {{"id":{id}}} extra "#));
            }
            2 => {
                // Another key is one row too few and one too many.
                let new = 20_000 + id;
                sql.push(format!("update items set id = {new} where id = {id}"));
                wanted.push(format!(r#"items {{"id":{id}}} missing "#));
                wanted.push(format!(r#"items {{"id":{new}}} extra "#));
            }
            other => {
                let (column, value) = match other {
                    3 => ("v", format!("'{}'", chance.below(1_000_000))),
                    4 => ("v", "null".to_owned()),
                    5 => ("n", format!("n + {}.0001", chance.below(5))),
                    6 => ("f", format!("f * 1.{:09}1", chance.below(1000))),
                    7 => ("b", "not b".to_owned()),
                    _ => ("at", "'2001-01-01 00:00:00.000001'".to_owned()),
                };
                sql.push(format!("update items set {column} = {value} where id = {id}"));
                wanted.push(format!(r#"items {{"id":{id}}} different ["{column}"]"#));
            }
        }
    }
    for statement in sql {
        s.target(&statement);
    }
    s.assert_found(wanted);
    assert_eq!(daemon.sigterm(), 0);
}

#[test]
fn given_cells_changed_at_random_between_engines_when_verified_then_exactly_these_are_found() {
    for (from, to) in [(POSTGRES, MYSQL), (MYSQL, POSTGRES), (POSTGRES, MARIADB), (MARIADB, MYSQL)] {
        random(from, to);
    }
}

#[test]
fn given_keys_that_a_collation_takes_for_one_when_verified_then_their_bytes_decide() {
    for (from, to) in [(POSTGRES, MYSQL), (MYSQL, POSTGRES), (MYSQL, MARIADB)] {
        let s = Sides::start(from, to);
        s.prepare();
        s.source(
            "create table words (w varchar(20) primary key, n int); insert into words values ('ada', 1), ('bob', 2), ('eve', 3);
             create table loose (w varchar(20), n int); insert into loose values ('a', 1), ('A', 1), ('a', 1), ('b', null)",
        );
        if from == POSTGRES {
            s.source("alter table loose replica identity full");
        }
        let mut daemon = Daemon::spawn(&s.config);
        s.level(&mut daemon);
        s.assert_equal();
        // The target's key is another one, to the byte, and the same to a collation that does not look at case.
        s.target("update words set w = 'Ada' where n = 1");
        s.target("update words set w = 'eve ' where n = 3");
        s.target("update loose set w = 'B' where w = 'b'");
        let wanted = [
            r#"words {"w":"ada"} missing "#,
            r#"words {"w":"Ada"} extra "#,
            r#"words {"w":"eve"} missing "#,
            r#"words {"w":"eve "} extra "#,
            "loose null missing ",
            "loose null extra ",
        ];
        s.assert_found(wanted.map(str::to_owned).to_vec());
        assert_eq!(daemon.sigterm(), 0);
    }
}

#[test]
fn given_accounts_that_may_only_read_when_verified_then_the_stream_is_waited_for_all_the_same() {
    let s = Sides::start(MYSQL, POSTGRES);
    s.prepare();
    s.source(
        "create table t (id int primary key, v int); insert into t values (1, 1), (2, 2);
         create user reader identified by 'r'; grant replication slave, replication client on *.* to reader; grant select, lock tables on shop.* to reader",
    );
    let url = s.source("select concat('mysql://reader:r@127.0.0.1:', @@port, '/shop')");
    let s = Sides { config: s.config.clone().source(&url), ..s };
    let mut daemon = Daemon::spawn(&s.config);
    s.level(&mut daemon);
    s.assert_equal();
    s.target("update t set v = 3 where id = 2");
    s.assert_found(vec![r#"t {"id":2} different ["v"]"#.to_owned()]);
    assert_eq!(daemon.sigterm(), 0);
}

#[test]
fn given_questions_of_the_operators_own_when_asked_of_mysql_then_they_change_nothing() {
    let s = Sides::start(MYSQL, MARIADB);
    s.prepare();
    s.source("create table t (id int primary key); insert into t values (1), (2)");
    let mut daemon = Daemon::spawn(&s.config);
    s.level(&mut daemon);
    let asks: String = [
        ("target", "select count(*) from t", "2"),
        ("source", "select max(id) from t", "7"),
        ("target", "delete from t", "0"),
        ("target", "commit; delete from t", "0"),
        ("source", "create table made (id int)", ""),
        ("source", "select null", ""),
    ]
    .iter()
    .map(|(side, sql, expect)| {
        format!("[[verify.assert]]\nside = \"{side}\"\nsql = \"{sql}\"\nexpect = \"{expect}\"\n")
    })
    .collect();
    let (status, document) = super::verify(&s.config.clone().extra(&asks), &[]);
    let ok: Vec<bool> = document["asserts"].as_array().unwrap().iter().map(|a| a["ok"].as_bool().unwrap()).collect();
    assert_eq!((status, ok), (1, vec![true, false, false, false, false, false]), "{document:#}");
    assert_eq!(s.target("select count(*) from t"), "2");
    assert_eq!(s.source("show tables like 'made'"), "");
    s.assert_equal();
    assert_eq!(daemon.sigterm(), 0);
}

#[test]
fn given_rules_between_engines_when_verified_then_rows_are_compared_after_them() {
    const RULES: &str = r#"
[[rule]]
from = "HOME.people"
to = "users"
where = "status < 2"
drop = ["first", "last", "tags"]
rename = { id = "legacy_id", status = "state" }
map = { state = { 0 = "new", 1 = "old" } }
set = { id = "uuid5('6ba7b810-9dad-11d1-80b4-00c04fd430c8', id::text)", name = "first || ' ' || last", is_new = "NEW" }
[[rule.explode]]
path = "tags"
to = "user_tags"
set = { user_id = "uuid5('6ba7b810-9dad-11d1-80b4-00c04fd430c8', parent.id::text)", position = "position", tag = "item" }
"#;
    for (from, to) in [(POSTGRES, MYSQL), (MARIADB, POSTGRES), (MYSQL, MARIADB)] {
        let s = Sides::start(from, to);
        s.prepare();
        let (tags, list) = match from {
            POSTGRES => ("text[]", "array[concat('t', i), 'u']"),
            _ => ("json", "json_array(concat('t', i), 'u')"),
        };
        s.source(&format!(
            "create table people (id int primary key, first varchar(20), last varchar(20), tags {tags}, status int)"
        ));
        if from == POSTGRES {
            s.source("alter table people replica identity full");
        }
        let numbers = if from == POSTGRES { "generate_series(1, 300) i" } else { "s" };
        let with = if from == POSTGRES {
            ""
        } else {
            "with recursive s (i) as (select 1 union all select i + 1 from s where i < 300) "
        };
        s.source(&format!(
            "insert into people {with}select i, concat('f', i), concat('l', i), {list}, i % 3 from {numbers}"
        ));
        let (uuid, truth) = if to == POSTGRES { ("uuid", "boolean") } else { ("char(36)", "tinyint(1)") };
        s.target(&format!("create table users (id {uuid} primary key, legacy_id int, name varchar(50), state varchar(10), is_new {truth})"));
        s.target(&format!("create table user_tags (user_id {uuid} not null, position int, tag varchar(20))"));
        s.target("create index by_user on user_tags (user_id)");
        let home = if from == POSTGRES { "public" } else { "shop" };
        let truth = if to == POSTGRES { "status = 0" } else { "case when status = 0 then 1 else 0 end" };
        let s = Sides { config: s.config.clone().extra(&RULES.replace("HOME", home).replace("NEW", truth)), ..s };
        let mut daemon = Daemon::spawn(&s.config);
        s.level(&mut daemon);
        s.source("update people set first = 'new', status = 1 where id < 50");
        s.level(&mut daemon);
        s.assert_equal();
        s.target("update users set name = 'x' where legacy_id = 12");
        s.target("delete from users where legacy_id = 13");
        s.target("update users set is_new = not is_new where legacy_id = 60");
        // JSON's texts are in quotes.
        s.target("delete from user_tags where tag in ('t10', '\"t10\"')");
        let (status, document) = s.verify(&[]);
        let home = s.home.as_str();
        let found: Vec<String> = super::found(&document)
            .iter()
            .map(|f| {
                format!("{}{}", f.split(" {").next().unwrap().trim_start_matches(home), f.split('}').nth(1).unwrap())
            })
            .collect();
        let wanted =
            ["user_tags different ", "users different [\"is_new\"]", "users different [\"name\"]", "users missing "];
        let mut sorted = found.clone();
        sorted.sort();
        assert_eq!((status, sorted), (1, wanted.map(str::to_owned).to_vec()), "{from:?} to {to:?}: {document:#}");
        assert_eq!(daemon.sigterm(), 0);
    }
}
