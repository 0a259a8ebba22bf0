//! Verification on real servers: what differs is found exactly, under write load, and nothing else is reported.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::support::{Config, Daemon, Database, Sql};

const SCHEMA: &str = "
    create table items (id int primary key, v text, at timestamptz, n numeric, f float8, j jsonb, c char(4), b boolean);
    insert into items select i, 'v' || i, '2024-01-01 00:00:00.123456+00'::timestamptz + i * interval '1 s', i / 4.0, i / 3.0,
        jsonb_build_object('i', i), 'c', i % 2 = 0 from generate_series(1, 3000) i;
    create table names (name text primary key, v int);
    insert into names select 'näme ' || i || case when i % 3 = 0 then ' ' else '' end, i from generate_series(1, 2000) i;
    create table pairs (a int, b text, v text, primary key (a, b));
    insert into pairs select i % 50, 'b' || i, 'v' from generate_series(1, 1000) i;
    create table log (at int, line text);
    alter table log replica identity full;
    insert into log select i % 10, 'line ' || i % 7 from generate_series(1, 500) i;
    create table hot (id int primary key, n bigint not null);
    insert into hot select i, 0 from generate_series(1, 20) i;
    create table nothing (id int primary key)";

/// Runs `verify` with these arguments; the status and the document.
fn verify(config: &Config, args: &[&str]) -> (i32, Value) {
    let all: Vec<&str> = ["verify", "--json"].iter().chain(args).copied().collect();
    let o = Daemon::command(config, &all);
    let text = String::from_utf8_lossy(&o.stdout).into_owned();
    let document =
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text} {}", String::from_utf8_lossy(&o.stderr)));
    (o.status.code().unwrap(), document)
}

/// Every difference as `table key kind columns`, sorted.
fn found(document: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for table in document["tables"].as_array().unwrap() {
        for d in table["differences"].as_array().unwrap() {
            let columns = d.get("columns").map(|c| c.to_string()).unwrap_or_default();
            out.push(format!(
                "{} {} {} {columns}",
                table["table"].as_str().unwrap(),
                d["key"],
                d["kind"].as_str().unwrap()
            ));
        }
    }
    out.sort();
    out
}

/// Writers that go on until it is dropped.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<u64>>,
}

impl Load {
    fn on(db: &Database, statements: &[&'static str]) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = statements
            .iter()
            .map(|sql| {
                let (url, stop, sql) = (db.source.clone(), stop.clone(), *sql);
                std::thread::spawn(move || {
                    let mut source = Sql::connect(&url);
                    let mut n = 0;
                    while !stop.load(Ordering::Relaxed) {
                        n += 1;
                        source.run(&sql.replace("$n", &n.to_string()));
                        std::thread::sleep(std::time::Duration::from_millis(3));
                    }
                    n
                })
            })
            .collect();
        Load { stop, threads }
    }
    fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).map(|t| t.join().unwrap()).sum()
    }
}

/// Writes around the applier, as a stray hand would.
fn tamper(db: &Database, sql: &str) {
    db.on_target().run(&format!("set session_replication_role = replica; {sql}"));
}

#[test]
fn given_a_target_that_is_level_when_verified_under_load_then_nothing_differs() {
    let db = Database::shared("verify_equal");
    db.on_source().run(SCHEMA);
    let config = db.config();
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_level(&db.source);
    let load = Load::on(
        &db,
        &[
            "update hot set n = n + 1 where id = 1 + $n % 5",
            "update items set n = n + 0.25, at = now() where id = 1 + ($n * 7) % 3000; insert into names values ('new ' || $n, $n); delete from pairs where a = $n % 50 and b = 'b' || $n",
            "insert into log values ($n, 'x'); delete from log where at = $n - 20; update hot set n = -n where id > 15",
        ],
    );
    for _ in 0..3 {
        let (status, document) = verify(&config, &[]);
        assert_eq!(found(&document), Vec::<String>::new());
        assert_eq!((status, &document["result"]), (0, &json!("equal")), "{document}");
        assert!(document["verified_to"].is_string(), "{document}");
        let items = document["tables"].as_array().unwrap().iter().find(|t| t["table"] == "public.items").unwrap();
        assert_eq!((&items["source_rows"], &items["target_rows"]), (&json!(3000), &json!(3000)));
    }
    assert!(load.end() > 100);
}

#[test]
fn given_rows_that_were_tampered_with_when_verified_under_load_then_exactly_these_are_found() {
    let db = Database::shared("verify_tampered");
    db.on_source().run(SCHEMA);
    let config = db.config();
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_level(&db.source);
    tamper(
        &db,
        "update items set v = 'w' where id = 10; update items set v = '' where id = 11; update items set v = null where id = 12;
         update items set at = at + interval '1 microsecond' where id = 13; update items set v = v || ' ' where id = 14;
         update items set n = trim_scale(n) + 0.000 where id = 16; update items set b = not b, f = f + 1e-9 where id = 17;
         delete from items where id = 18; insert into items (id) values (5001);
         update items set j = j || '{\"i\": null}' where id = 19; update items set j = '{\"i\": 20.0}' where id = 20;
         update names set v = 0 where name = 'näme 3 '; delete from names where v = 7; insert into names values ('näme 3', 3);
         update pairs set v = 'w' where a = 7 and b = 'b57'; insert into nothing values (1);
         insert into log values (3, 'line 3'); delete from log where ctid = (select min(ctid) from log where at = 4)",
    );
    let load = Load::on(
        &db,
        &[
            "update hot set n = n + 1 where id = 1 + $n % 5",
            "update items set c = 'd' || $n % 9 where id = 100 + $n % 2000",
        ],
    );
    let (status, document) = verify(&config, &[]);
    let moved = load.end();
    let mut wanted = vec![
        r#"public.items {"id":10} different ["v"]"#,
        r#"public.items {"id":11} different ["v"]"#,
        r#"public.items {"id":12} different ["v"]"#,
        r#"public.items {"id":13} different ["at"]"#,
        r#"public.items {"id":14} different ["v"]"#,
        r#"public.items {"id":17} different ["f","b"]"#,
        r#"public.items {"id":18} missing "#,
        r#"public.items {"id":19} different ["j"]"#,
        r#"public.items {"id":5001} extra "#,
        r#"public.names {"name":"näme 3 "} different ["v"]"#,
        r#"public.names {"name":"näme 3"} extra "#,
        r#"public.names {"name":"näme 7"} missing "#,
        r#"public.nothing {"id":1} extra "#,
        r#"public.pairs {"a":7,"b":"b57"} different ["v"]"#,
    ];
    wanted.sort();
    let (keyless, keyed): (Vec<String>, Vec<String>) =
        found(&document).into_iter().partition(|f| f.starts_with("public.log "));
    assert_eq!(keyed, wanted);
    // Rows without a key: one too many, one too few.
    assert_eq!(keyless.len(), 2, "{keyless:?}");
    assert_eq!((status, &document["result"]), (1, &json!("different")));
    assert_eq!(document["verified_to"], Value::Null);
    assert!(moved > 50);
    // Values only where they are asked for.
    assert!(
        !document.to_string().contains("näme 3 \",\"v\"")
            && document["tables"][0]["differences"][0].get("values").is_none()
    );
    let (_, document) = verify(&config, &["--table", "items", "--show-values"]);
    let first = &document["tables"][0]["differences"]
        .as_array()
        .unwrap()
        .iter()
        .find(|d| d["key"]["id"] == 10)
        .unwrap()
        .clone();
    assert_eq!(first["values"], json!({"v": ["v10", "w"]}));
    // For people.
    let o = Daemon::command(&config, &["verify", "--table", "public.nothing"]);
    let text = String::from_utf8_lossy(&o.stdout).into_owned();
    assert!(text.contains("id=1  only on the target") && text.contains("The sides DIFFER."), "{text}");
    let o = Daemon::command(&config, &["verify", "--table", "nowhere"]);
    assert_eq!(o.status.code(), Some(2));
    // Questions of the operator's own are asked in any case, and change nothing.
    let asks = r#"
[[verify.assert]]
side = "target"
sql = "select count(*) from nothing where id < 0"
expect = "0"
[[verify.assert]]
side = "source"
sql = "select max(id) from items"
expect = "12"
[[verify.assert]]
side = "target"
sql = "delete from nothing"
expect = "0""#;
    let (status, document) = verify(&config.extra(asks), &["--table", "pairs"]);
    let asserts = document["asserts"].as_array().unwrap();
    let ok: Vec<bool> = asserts.iter().map(|a| a["ok"].as_bool().unwrap()).collect();
    assert_eq!((status, ok), (1, vec![true, false, false]), "{document}");
    assert_eq!(asserts[1]["got"], "3000");
    assert!(asserts[2]["error"].as_str().unwrap().contains("read-only"), "{document}");
    assert_eq!(db.on_target().number("select count(*) from nothing"), 1);
}

#[test]
fn given_rules_when_verified_then_rows_are_compared_after_them_and_list_items_too() {
    let db = Database::shared("verify_rules");
    db.on_source().run(
        "create table people (id int primary key, first text, last text, tags text[], status int);
         insert into people select i, 'f' || i, 'l' || i, array['t' || i, 'u'], i % 3 from generate_series(1, 800) i;
         create table a (id int primary key, v text); create table b (id int primary key, v text);
         insert into a select i, 'a' from generate_series(1, 100) i; insert into b select i, 'b' from generate_series(101, 200) i",
    );
    db.on_target().run(
        "create table users (id uuid primary key, legacy_id int, name text, state text);
         create table user_tags (user_id uuid not null, position int, tag text); create index on user_tags (user_id);
         create table merged (id int primary key, v text)",
    );
    let rules = r#"
[[rule]]
from = "public.people"
to = "users"
where = "status < 2"
drop = ["first", "last", "tags"]
rename = { id = "legacy_id", status = "state" }
map = { state = { 0 = "new", 1 = "old" } }
set = { id = "uuid5('6ba7b810-9dad-11d1-80b4-00c04fd430c8', id::text)", name = "first || ' ' || last" }
[[rule.explode]]
path = "tags"
to = "user_tags"
set = { user_id = "uuid5('6ba7b810-9dad-11d1-80b4-00c04fd430c8', parent.id::text)", position = "position", tag = "item" }
[[rule]]
from = "public.a"
to = "merged"
[[rule]]
from = "public.b"
to = "merged"
"#;
    db.on_source().run("alter table people replica identity full");
    let config = db.config().extra(rules);
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_level(&db.source);
    let load = Load::on(&db, &["update people set tags = array['n' || $n, 'm'], status = $n % 3 where id > 700"]);
    let (status, document) = verify(&config, &[]);
    assert_eq!(found(&document), Vec::<String>::new());
    assert_eq!(status, 0, "{document}");
    tamper(
        &db,
        "delete from user_tags where tag = 't10'; update users set name = 'x' where legacy_id = 12; delete from users where legacy_id = 13;
         insert into users values ('00000000-0000-0000-0000-000000000001', 9999, 'n', 'new'); update merged set v = 'z' where id in (5, 150);
         insert into merged values (999, 'a')",
    );
    let (status, document) = verify(&config, &[]);
    load.end();
    assert_eq!(status, 1);
    let mut found: Vec<String> = found(&document)
        .iter()
        .map(|f| f.split(" {").next().unwrap().to_owned() + f.split('}').nth(1).unwrap())
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            "public.merged different [\"v\"]",
            "public.merged different [\"v\"]",
            "public.merged extra ",
            "public.user_tags different ",
            "public.users different [\"name\"]",
            "public.users extra ",
            "public.users missing ",
        ],
        "{document}"
    );
}

#[test]
fn given_a_stream_that_stands_still_when_rows_differ_then_it_is_no_difference_but_an_error() {
    let db = Database::shared("verify_stopped");
    db.on_source()
        .run("create table t (id int primary key, v int); insert into t select i, 0 from generate_series(1, 10) i");
    let config = db.config();
    assert_eq!(verify(&config, &[]).0, 2, "nothing was begun");
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_level(&db.source);
    drop(daemon);
    let (status, document) = verify(&config, &[]);
    assert_eq!((status, &document["result"]), (0, &json!("equal")), "what is equal needs no stream");
    db.on_source().run("update t set v = 1 where id = 3");
    let (status, document) = verify(&config, &[]);
    assert_eq!(status, 2, "{document}");
    assert!(document["error"].as_str().unwrap().contains("the stream has stood still"), "{document}");
    assert!(document["hint"].as_str().unwrap().contains("switchyard run"), "{document}");
}

#[test]
fn given_changes_that_were_set_aside_when_verified_then_they_are_no_differences_but_are_told() {
    let db = Database::shared("verify_dead");
    db.on_source()
        .run("create table t (id int primary key, v text); insert into t select i, 'v' from generate_series(1, 50) i");
    db.on_target().run("create table t (id int primary key, v varchar(5))");
    let config = db.config().schema_exists().extra("[apply]\non_error = \"dead-letter\"");
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_level(&db.source);
    db.on_source().run("update t set v = 'too long' where id = 7");
    daemon.wait_level(&db.source);
    let (status, document) = verify(&config, &[]);
    assert_eq!((status, &document["result"]), (2, &json!("incomplete")), "{document}");
    assert_eq!((found(&document), &document["tables"][0]["set_aside"]), (vec![], &json!(1)));
}

#[test]
fn given_a_schema_that_lost_parts_when_verified_then_they_and_the_orphans_are_named() {
    let db = Database::shared("verify_schema");
    db.on_source().run(
        "create table people (id int primary key, email text unique, age int check (age > 0));
         create table orders (id int primary key, person_id int references people (id), note text, \"Odd name\" int);
         create index orders_note_idx on orders (note); create index \"Odd idx\" on orders (\"Odd name\");
         insert into people select i, 'e' || i, 1 from generate_series(1, 20) i; insert into orders select i, i, 'n', i from generate_series(1, 20) i",
    );
    let config = db.config();
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_level(&db.source);
    daemon.wait_phase("ready");
    let (status, document) = verify(&config, &[]);
    assert_eq!((status, &document["schema"], &document["relationships"]), (0, &json!([]), &json!([])), "{document}");
    tamper(
        &db,
        "drop index orders_note_idx; alter table orders drop constraint orders_person_id_fkey; alter table people drop constraint people_email_key;
         alter table people drop constraint people_age_check; create index extra_idx on people (age); alter table people alter email set not null;
         alter table orders alter note type varchar(100); alter table people add mine int;
         update orders set person_id = 77 where id = 5",
    );
    let (status, document) = verify(&config, &[]);
    assert_eq!(status, 1);
    let of = |d: &Value| {
        format!("{} {} {}", d["table"].as_str().unwrap(), d["kind"].as_str().unwrap(), d["name"].as_str().unwrap())
    };
    let schema: Vec<String> = document["schema"].as_array().unwrap().iter().map(of).collect();
    assert_eq!(
        schema,
        [
            "public.orders different_column note",
            "public.orders missing_foreign_key orders_person_id_fkey",
            "public.orders missing_index orders_note_idx",
            "public.people different_column email",
            "public.people extra_column mine",
            "public.people extra_index extra_idx",
            "public.people missing_constraint people_age_check",
            "public.people missing_constraint people_email_key",
        ]
    );
    assert_eq!(
        document["relationships"],
        json!([{"table": "public.orders", "constraint": "orders_person_id_fkey", "key": {"id": 5}}])
    );
    assert_eq!(found(&document), [r#"public.orders {"id":5} different ["person_id"]"#]);
    let o = Daemon::command(&config, &["verify"]);
    let text = String::from_utf8_lossy(&o.stdout).into_owned();
    for words in [
        "public.orders: the target lacks the index orders_note_idx",
        "public.people: only the target has the index extra_idx",
        "refers by orders_person_id_fkey to a row that is not there",
    ] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
}
