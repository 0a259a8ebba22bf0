//! Rows of child tables as lists in their parents' documents.

use bson::{Bson, Document, doc};

use super::{Mongo, PATIENCE, Pair, mongo};
use crate::mysql_source::{installs, quick};
use crate::support::{Config, Daemon, Sql, fresh_name, poll};

const TABLES: &str = "
    create table orders (id int primary key, note text, big text);
    create table items (id bigint primary key, order_id int not null references orders on update cascade on delete cascade deferrable initially deferred,
        pos int, tag text, big text);
    create table tags (order_id int not null references orders on update cascade on delete cascade, tag text, primary key (order_id, tag));
    alter table items alter big set storage external; alter table orders alter big set storage external;
    insert into orders select g, 'n' || g, repeat('o', case when g % 20 = 0 then 9000 else 10 end) from generate_series(1, 300) g;
    insert into items select g, 1 + (g * 7) % 250, nullif(g % 5, 0), 't' || g, repeat('i', case when g % 50 = 0 then 9000 else 5 end) from generate_series(1, 2000) g;
    insert into tags select g, 'tag' || g % 3 from generate_series(1, 200) g; insert into tags values (1, 'more'), (1, 'a');";

const RULES: &str = "[[rule]]\nfrom = \"public.items\"\nrename = { tag = \"label\" }\n\
    [rule.embed]\nin = \"orders\"\nas = \"items\"\non = { order_id = \"id\" }\norder_by = \"pos\"\n\
    [[rule]]\nfrom = \"public.tags\"\n[rule.embed]\nin = \"orders\"\nas = \"tags\"\non = { order_id = \"id\" }\nvalue = \"tag\"\n";

/// What the source says of every order, its lists in their order.
const WANTED: &str = "select o.id, o.note, length(o.big), \
    coalesce((select string_agg(concat_ws(':', i.id, coalesce(i.pos::text, '-'), i.tag, length(i.big)), ',' order by i.pos nulls first, i.id) from items i where i.order_id = o.id), ''), \
    coalesce((select string_agg(t.tag, ',' order by t.tag collate \"C\") from tags t where t.order_id = o.id), '') from orders o";

fn text(v: Option<&Bson>) -> String {
    match v {
        Some(Bson::Null) => "-".to_owned(),
        Some(Bson::String(s)) => s.clone(),
        Some(other) => other.to_string(),
        None => "missing".to_owned(),
    }
}

fn lists_of(d: &Document) -> Vec<String> {
    let item = |i: &Bson| {
        let i = i.as_document().expect("an element is a document");
        assert!(i.len() == 4 && !i.contains_key("order_id"), "{i}");
        format!("{}:{}:{}:{}", text(i.get("id")), text(i.get("pos")), text(i.get("label")), text(i.get("big")).len())
    };
    let list = |name: &str| d.get_array(name).unwrap_or_else(|e| panic!("{name} of {d}: {e}")).clone();
    vec![
        text(d.get("_id")),
        text(d.get("note")),
        text(d.get("big")).len().to_string(),
        list("items").iter().map(item).collect::<Vec<_>>().join(","),
        list("tags").iter().map(|t| text(Some(t))).collect::<Vec<_>>().join(","),
    ]
}

fn assert_same(target: &Mongo, want: impl Fn() -> Vec<Vec<String>>) {
    let mut want = want();
    want.sort();
    let mut have = Vec::new();
    let same = poll(PATIENCE, || {
        have = target.all("orders").iter().map(lists_of).collect();
        have.sort();
        (have == want).then_some(())
    });
    if same.is_none() {
        let only = |a: &[Vec<String>], b: &[Vec<String>]| {
            a.iter().filter(|r| !b.contains(r)).take(3).cloned().collect::<Vec<_>>()
        };
        panic!(
            "{} and {}; only at the source {:?}; only on the target {:?}",
            want.len(),
            have.len(),
            only(&want, &have),
            only(&have, &want)
        );
    }
}

fn wanted(sql: &mut Sql) -> Vec<Vec<String>> {
    let rows = sql.rows(WANTED).into_iter();
    rows.map(|r| r.into_iter().map(Option::unwrap_or_default).collect()).collect()
}

fn same(pair: &Pair) {
    let target = pair.target();
    let mut sql = pair.source();
    let want = wanted(&mut sql);
    assert_same(&target, || want.clone());
}

fn told(config: &Config, args: &[&str]) -> String {
    let out = Daemon::command(config, args);
    assert!(out.status.success(), "{out:?}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// One transaction of several random changes.
fn change(dice: &mut Dice) -> String {
    let mut sql = "begin;".to_owned();
    for _ in 0..=dice.roll(4) {
        let (o, p, i) = (1 + dice.roll(320), 1 + dice.roll(320), 1 + dice.roll(2500));
        let there = |o: u64| format!("exists (select from orders where id = {o})");
        sql += &match dice.roll(15) {
            0 => format!("insert into orders values ({o}, 'new', repeat('b', 20)) on conflict do nothing;"),
            1 => format!("delete from orders where id = {o};"),
            2 => format!("update orders set note = note || '+' where id = {o};"),
            3 => format!(
                "update orders set id = id + 1000 where id = {o} and not exists (select from orders where id = {o} + 1000);"
            ),
            4 => format!("update orders set id = id - 1000 where id = {o} + 1000 and not {};", there(o)),
            5 | 6 => format!(
                "insert into items select {i}, {o}, {}, 'new', repeat('n', 30) where {} on conflict do nothing;",
                i % 4,
                there(o)
            ),
            7 | 8 => format!("update items set tag = tag || '+' where id = {i};"),
            9 => format!("update items set order_id = {o} where id between {i} and {i} + 5 and {};", there(o)),
            10 => format!(
                "update items set id = id + 5000 where id = {i} and not exists (select from items where id = {i} + 5000);"
            ),
            11 => format!("delete from items where id between {i} and {i} + 3;"),
            12 => format!("update items set pos = {} where order_id = {o};", o % 7),
            13 => format!(
                "insert into tags select {o}, 'x{p}' where {} on conflict do nothing; delete from tags where order_id = {p};",
                there(o)
            ),
            _ => format!(
                "update tags set tag = tag || '+' where order_id = {o}; update tags set order_id = {p} where order_id = {o} and {} and not exists (select from tags where order_id = {p});",
                there(p)
            ),
        };
    }
    sql + "commit"
}

#[test]
fn given_child_tables_when_copied_and_changed_at_random_then_documents_hold_the_lists_that_the_source_says() {
    let pair = Pair::shared("lists", TABLES);
    let mut daemon = Daemon::spawn(&pair.config().extra(RULES));
    daemon.ready();
    same(&pair);
    let mut sql = pair.source();
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut dice = Dice(seed);
    for n in 0..400 {
        sql.run(&change(&mut dice));
        if n % 100 == 99 {
            same(&pair);
        }
    }
    // More than a piece in one transaction, then none at all, then some again.
    sql.run("begin; update items set tag = tag || repeat('z', 3000); update orders set note = 'all'; insert into orders values (900, 'last', 'b'); update items set order_id = 900 where id % 3 = 0; commit");
    same(&pair);
    sql.run("truncate items; insert into items values (1, 900, null, 'one', 'x')");
    same(&pair);
    sql.run("truncate orders cascade; insert into orders values (5, 'five', 'x'); insert into tags values (5, 'b'), (5, 'a')");
    same(&pair);
    assert_eq!(pair.target().find_in(&pair.name, "orders.items", doc! {}).len(), 0);
    assert_eq!(daemon.sigterm(), 0);
}

#[test]
fn given_kills_at_every_named_point_when_started_again_then_lists_are_what_the_source_says() {
    for (point, nth) in [
        ("copy.planned", 1),
        ("load.before_piece", 3),
        ("copy.chunk_committed", 2),
        ("copy.chunk_committed", 3),
        ("copy.loaded", 1),
        ("copy.done", 1),
        ("lists.before_piece", 1),
        ("lists.made", 1),
        ("lists.made", 2),
        ("stream.applied", 1),
        ("apply.before_commit", 1),
        ("apply.before_commit", 3),
        ("stream.constraints_made", 1),
    ] {
        let pair = Pair::shared("lists_kill", TABLES);
        if point == "lists.before_piece" {
            pair.source().run("update items set tag = tag || repeat('y', 2000)");
        }
        let config = pair
            .config()
            .extra(RULES)
            .env("SWITCHYARD_CHUNK_BYTES", 64 << 10)
            .env("SWITCHYARD_WHOLE_TABLE_BYTES", 0)
            .env("SWITCHYARD_PIECE_BYTES", 8 << 10);
        let mut daemon = Daemon::spawn(&config.clone().crash_at(point, nth));
        let mut sql = pair.source();
        let mut dice = Dice(nth * 77 + point.len() as u64);
        if point.starts_with("stream") || point.starts_with("apply") {
            poll(PATIENCE, || {
                (!daemon.is_running() || matches!(daemon.status(), Some(s) if s["phase"] == "ready")).then_some(())
            });
        }
        for _ in 0..30 {
            sql.run(&change(&mut dice));
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        daemon.wait_crash();
        (0..30).for_each(|_| sql.run(&change(&mut dice)));
        let mut daemon = Daemon::spawn(&config);
        daemon.ready();
        same(&pair);
        (0..30).for_each(|_| sql.run(&change(&mut dice)));
        same(&pair);
        assert_eq!(daemon.sigterm(), 0, "{point}");
    }
}

#[test]
fn given_rows_without_a_document_when_they_come_then_it_stops_or_they_wait_as_the_rule_says() {
    let tables = "create table p (a int, b text, v int, primary key (b, a)); create table c (id int primary key, a int, b text, v text);
        insert into p values (1, 'x', 1), (2, 'x', 1); insert into c values (1, 1, 'x', 'one'), (2, 1, 'x', 'two')";
    let rule =
        "[[rule]]\nfrom = \"public.c\"\n[rule.embed]\nin = \"p\"\nas = \"rows\"\non = { a = \"a\", b = \"b\" }\n";
    let pair = Pair::shared("lists_alone", tables);
    let target = pair.target();
    let mut daemon = Daemon::spawn(&pair.config().extra(rule));
    daemon.ready();
    let mut sql = pair.source();
    let id = |a: i32| doc! { "b": "x", "a": a };
    let rows = |d: Document| d.get_array("rows").unwrap().clone();
    assert_eq!(
        rows(target.one("p", id(1))),
        [Bson::from(doc! { "id": 1, "v": "one" }), Bson::from(doc! { "id": 2, "v": "two" })]
    );
    assert!(rows(target.one("p", id(2))).is_empty());
    // Within one transaction the order does not matter.
    sql.run("begin; insert into c values (3, 3, 'x', 'early'); insert into p values (3, 'x', 0); commit");
    target.wait_for("p", doc! { "rows.v": "early" });
    sql.run("insert into c values (4, 4, 'x', 'alone')");
    assert_eq!(daemon.exit_status(), 1);
    let log = daemon.log();
    assert!(log.contains("refer to documents of") && log.contains("without_parent"), "{log}");
    assert_eq!(target.count("p.rows"), 3, "nothing of the batch is there");
    let mut daemon = Daemon::spawn(&pair.config().extra(&format!("{rule}without_parent = \"wait\"\n")));
    daemon.ready();
    sql.run("insert into c values (5, null, 'x', 'null'); insert into p values (4, 'x', 0)");
    target.wait_for("p", doc! { "rows.v": "alone" });
    // A document that goes takes its list along; its rows come and go behind it.
    sql.run("delete from p where a = 1; update c set v = 'moved', a = 2 where id = 2");
    target.wait_for("p", doc! { "rows.v": "moved" });
    sql.run("delete from c where id = 1; insert into p values (1, 'x', 9)");
    target.wait_for("p", doc! { "v": 9, "rows": [] });
    assert_eq!(daemon.sigterm(), 0);
    // A copy that finds such rows.
    let other = Pair::shared("lists_orphan", &format!("{tables}; insert into c values (9, 9, 'x', 'orphan')"));
    let mut stops = Daemon::spawn(&other.config().extra(rule));
    assert_eq!(stops.exit_status(), 1);
    assert!(stops.log().contains("refer to documents of"), "{}", stops.log());
    let mut waits = Daemon::spawn(&other.config().extra(&format!("{rule}without_parent = \"wait\"\n")));
    waits.ready();
    assert!(waits.log().contains("which wait for it"), "{}", waits.log());
    assert_eq!(waits.sigterm(), 0);
    let finish = told(&pair.config().extra(rule), &["finish", "--yes"]);
    assert!(finish.contains("stays: it has rows that are in no document"), "{finish}");
}

#[test]
fn given_changed_rules_when_started_again_then_lists_follow_them_and_finish_drops_the_rows() {
    let tables = "create table p (id int primary key, v int); create table c (id int primary key, p int not null references p, v text);
        insert into p values (1, 1), (2, 1); insert into c values (1, 1, 'one'), (2, 1, 'two')";
    let rule = |more: &str| {
        format!("[[rule]]\nfrom = \"public.c\"\n[rule.embed]\nin = \"p\"\non = {{ p = \"id\" }}\n{more}\n")
    };
    let pair = Pair::shared("lists_rules", tables);
    let target = pair.target();
    let mut daemon = Daemon::spawn(&pair.config().extra(&rule("as = \"rows\"")));
    daemon.ready();
    assert_eq!(daemon.sigterm(), 0);
    let mut daemon = Daemon::spawn(&pair.config().extra(&rule("as = \"values\"\nvalue = \"v\"")));
    daemon.ready();
    assert_eq!(target.one("p", 1), doc! { "_id": 1, "v": 1, "values": ["one", "two"] });
    pair.source().run("update p set v = 2; insert into c values (3, 2, 'three')");
    target.wait_for("p", doc! { "_id": 2, "v": 2, "values": ["three"] });
    assert_eq!(daemon.sigterm(), 0);
    let finish = told(&pair.config().extra(&rule("as = \"values\"\nvalue = \"v\"")), &["finish", "--yes"]);
    assert!(finish.contains("dropped"), "{finish}");
    let left = target.run(doc! { "listCollections": 1, "nameOnly": true });
    assert!(!format!("{left}").contains("p.values") && !format!("{left}").contains("p.rows"), "{left}");
}

#[test]
fn given_lists_that_cannot_be_made_when_checked_or_applied_then_it_says_why() {
    let tables = "create table p (id int primary key, v int); create table c (id int primary key, p int, v text);
        create table n (id numeric primary key); insert into p values (1, 1)";
    let rule = |more: &str| format!("[[rule]]\nfrom = \"public.c\"\n[rule.embed]\n{more}\n");
    let pair = Pair::shared("lists_check", tables);
    for (embed, word) in [
        ("in = \"p\"\nas = \"v\"\non = { p = \"id\" }", "choose another field"),
        ("in = \"p\"\nas = \"l\"\non = { v = \"id\" }", "different types"),
        ("in = \"p\"\nas = \"l\"\non = { p = \"v\" }", "whole key"),
        ("in = \"n\"\nas = \"l\"\non = { p = \"id\" }", "several ways"),
        ("in = \"q\"\nas = \"l\"\non = { p = \"id\" }", "no table of this migration"),
    ] {
        let mut daemon = Daemon::spawn(&pair.config().extra(&rule(embed)));
        assert_eq!(daemon.exit_status(), 1, "{embed}");
        assert!(daemon.log().contains(word), "{embed}: {}", daemon.log());
    }
    let good = rule("in = \"p\"\nas = \"l\"\non = { p = \"id\" }");
    let tables_only = Config::new(&pair.name, &pair.source, "postgres://u@127.0.0.1:1/x").extra(&good);
    let mut daemon = Daemon::spawn(&tables_only);
    assert_eq!(daemon.exit_status(), 2);
    assert!(daemon.log().contains("the target holds tables, not documents"), "{}", daemon.log());
    // Larger than a document.
    let mut daemon = Daemon::spawn(&pair.config().extra(&good));
    daemon.ready();
    pair.source().run("insert into c select g, 1, repeat('x', 1000000) from generate_series(1, 17) g");
    assert_eq!(daemon.exit_status(), 1);
    assert!(daemon.log().contains("is larger than the 16777216 bytes"), "{}", daemon.log());
}

#[test]
fn given_mysql_when_child_rows_change_then_documents_hold_their_lists() {
    let server = mongo();
    for install in installs() {
        let source = quick(&install);
        source.sql("create database shop character set utf8mb4").unwrap();
        source
            .sql_in(
                "shop",
                "create table orders (id bigint unsigned primary key, note varchar(50), big int);
                 create table items (order_id bigint unsigned not null, pos int not null, label varchar(20), big varchar(20), primary key (order_id, pos));
                 insert into orders values (18446744073709551615, 'max', 1), (2, 'two', 2), (3, 'three', 3);
                 insert into items values (18446744073709551615, 2, 'b', 'x'), (18446744073709551615, 1, 'a', 'x'), (3, 1, 'c', 'x');",
            )
            .unwrap();
        let name = fresh_name("mylists");
        let rules = "[[rule]]\nfrom = \"shop.items\"\n[rule.embed]\nin = \"orders\"\nas = \"items\"\non = { order_id = \"id\" }\norder_by = \"pos\"\n";
        let mut daemon = Daemon::spawn(&Config::new(&name, &source.url("shop"), &server.url(&name)).extra(rules));
        daemon.ready();
        let target = Mongo::connect(&server.url("admin"), &name);
        let item = |pos: i32, label: &str| Bson::from(doc! { "pos": pos, "label": label, "big": "x" });
        let of = |note: &str| {
            let found = target.find_in(&name, "orders", doc! { "note": note });
            found[0].get_array("items").unwrap().clone()
        };
        assert_eq!(of("max"), [item(1, "a"), item(2, "b")]);
        assert_eq!((of("two"), of("three")), (vec![], vec![item(1, "c")]));
        source
            .sql_in(
                "shop",
                "update items set order_id = 2 where label = 'b'; update items set label = 'A' where pos = 1 and label = 'a'; \
                 delete from items where label = 'c'; delete from orders where id = 3; insert into orders values (4, 'four', 0); \
                 insert into items values (4, 9, 'z', 'x'), (4, 3, 'y', 'x'); update orders set big = 7 where id = 2; insert into orders values (9, 'last', 0)",
            )
            .unwrap();
        target.wait_for("orders", doc! { "note": "last", "items": [] });
        assert_eq!((of("max"), of("two")), (vec![item(1, "A")], vec![item(2, "b")]));
        assert_eq!(of("four"), [item(3, "y"), item(9, "z")]);
        assert_eq!(target.count("orders"), 4);
        assert_eq!(daemon.sigterm(), 0);
    }
}

#[test]
fn given_a_rule_into_a_collection_that_is_not_there_when_run_then_it_is_made_with_its_indexes() {
    let pair = Pair::shared(
        "made",
        "create table a (id int primary key, mail text, n int); insert into a values (1, 'x', 1), (2, 'y', 2)",
    );
    let rule = "[[rule]]\nfrom = \"public.a\"\nto = \"people\"\nrename = { mail = \"email\" }\nset = { twice = \"n * 2\" }\ntypes = { n = \"long\" }\n\
        indexes = [{ columns = [\"email\"], unique = true }, { columns = [\"n\"] }]\n";
    let target = pair.target();
    let mut daemon = Daemon::spawn(&pair.config().extra(rule));
    daemon.ready();
    let mut sql = pair.source();
    sql.run("insert into a values (3, 'z', 3); update a set n = 5 where id = 1; delete from a where id = 2");
    target.wait_for("people", doc! { "_id": 3 });
    assert_eq!(target.one("people", 1), doc! { "_id": 1, "email": "x", "n": 5_i64, "twice": 10 });
    assert_eq!(target.count("people"), 2);
    let indexes = format!("{}", target.run(doc! { "listIndexes": "people" }));
    assert!(indexes.contains("\"unique\": true") && indexes.contains("people_n_idx"), "{indexes}");
    daemon.kill9();
    let mut daemon = Daemon::spawn(&pair.config().extra(rule));
    daemon.ready();
    sql.run("update a set mail = 'changed' where id = 3");
    target.wait_for("people", doc! { "_id": 3, "email": "changed" });
    assert_eq!(daemon.sigterm(), 0);
}
