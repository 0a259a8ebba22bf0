//! MongoDB copied and followed into MySQL and MariaDB, through the daemon: whole documents, and columns that rules make.

use std::time::Duration;

use bson::{Bson, Document, doc, oid::ObjectId};
use switchyard::documents::cursor::Doc;
use switchyard::documents::ejson;
use switchyard::sandbox::{self, Flavour, MongoServer, MyServer};

use crate::support::{Config, Daemon, fresh_name, wait_until};

const BOTH: [Flavour; 2] = [Flavour::Mysql, Flavour::Mariadb];
const NAMESPACE: &str = "1f0a4c1e-0000-4000-8000-000000000001";

/// A replica set, and a server with an empty database to bring its documents to.
struct Pair {
    source: MongoServer,
    target: MyServer,
    name: String,
}

impl Pair {
    fn start(flavour: Flavour) -> Pair {
        let install = match flavour {
            Flavour::Mysql => sandbox::find_mysql().unwrap(),
            Flavour::Mariadb => sandbox::find_mariadb().unwrap(),
        };
        let target = MyServer::builder(&install)
            .setting("innodb_flush_log_at_trx_commit", "0")
            .setting("sync_binlog", "0")
            .start()
            .unwrap();
        let name = fresh_name("docs");
        target.sql(&format!("create database {name}")).unwrap();
        Pair { source: MongoServer::builder(&sandbox::find_mongo().unwrap()).start().unwrap(), target, name }
    }
    fn config(&self) -> Config {
        Config::new(&self.name, &self.source.url("shop"), &self.target.url(&self.name))
    }
    fn run(&self, command: Document) {
        let mut command = command;
        command.insert("writeConcern", doc! { "w": "majority" });
        let reply = self.source.run("shop", command).unwrap();
        assert!(reply.get("writeErrors").is_none(), "{reply}");
    }
    fn insert(&self, collection: &str, documents: Vec<Document>) {
        self.run(doc! { "insert": collection, "documents": documents });
    }
    fn update(&self, collection: &str, id: impl Into<Bson>, change: Document) {
        self.run(doc! { "update": collection, "updates": [{ "q": { "_id": id.into() }, "u": change }] });
    }
    fn delete(&self, collection: &str, id: impl Into<Bson>) {
        self.run(doc! { "delete": collection, "deletes": [{ "q": { "_id": id.into() }, "limit": 1 }] });
    }
    /// Rows by lines, fields by `|`.
    fn rows(&self, sql: &str) -> String {
        self.target.sql_in(&self.name, sql).unwrap_or_else(|e| panic!("{sql}: {e}"))
    }
    /// Waits until a document that is written now has come.
    fn level(&self, daemon: &Daemon) {
        let id = fresh_name("level");
        self.insert("level", vec![doc! { "_id": &id }]);
        let asked = format!("select count(*) from level where _id = '{id}'");
        let patience = Duration::from_secs(60);
        let there = || self.target.sql_in(&self.name, &asked).is_ok_and(|n| n == "1");
        if crate::support::poll(patience, || there().then_some(())).is_none() {
            panic!("the document {id} did not come: {}", daemon.log());
        }
    }
}

fn id(n: u8) -> ObjectId {
    ObjectId::from_bytes([n; 12])
}

fn uuid5(of: &str) -> String {
    uuid::Uuid::new_v5(&NAMESPACE.parse().unwrap(), of.as_bytes()).to_string()
}

fn document() -> Document {
    doc! {
        "double": 0.1 + 0.2, "whole": 1.0, "large": 1e300, "text": "tïtle 🚂 \"q\" \\ \n\t", "empty": "", "list": [1, [Bson::Null, {}], "x"],
        "nested": { "a.b": { "c": [true, false] } }, "long": i64::MAX, "least": i64::MIN, "oid": id(7),
        "date": bson::DateTime::from_millis(1_709_208_000_123), "decimal": "1.50".parse::<bson::Decimal128>().unwrap(),
        "binary": Bson::Binary(bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![0, 255, 7] }),
        "null": null, "nan": f64::NAN, "minkey": Bson::MinKey,
    }
}

fn with_id(id: impl Into<Bson>, rest: Document) -> Document {
    let mut d = doc! { "_id": id.into() };
    d.extend(rest);
    d
}

fn as_json(d: &Document) -> serde_json::Value {
    let bytes = d.to_vec().unwrap();
    serde_json::from_str(&ejson::shown(Doc::new(&bytes).unwrap())).unwrap()
}

#[test]
fn given_whole_documents_when_copied_and_followed_then_none_is_lost_and_no_two_keys_meet() {
    for flavour in BOTH {
        let pair = Pair::start(flavour);
        // Keys that differ in case, in accents, in blanks at their ends, in form, in type.
        let keys = || -> Vec<Bson> {
            let texts = ["a", "A", "a ", "ä", "á", "a\u{301}", "ß", "ss", " a", "", " ", "\u{200b}"];
            let others: [Bson; 6] = [
                1.into(),
                "1".into(),
                1.5.into(),
                id(1).into(),
                id(1).to_hex().into(),
                Bson::Document(doc! { "a": 1, "b": "x" }),
            ];
            texts.into_iter().map(Bson::from).chain(others).collect()
        };
        let (copied, streamed) =
            keys().into_iter().partition::<Vec<_>, _>(|k| matches!(k, Bson::String(s) if s.len() % 2 == 1));
        let plain = |keys: Vec<Bson>| keys.into_iter().map(|k| with_id(k.clone(), doc! { "k": k })).collect::<Vec<_>>();
        pair.insert("things", plain(copied));
        pair.insert(
            "things",
            vec![with_id("gone", document()), with_id("full", document()), with_id("changed", doc! {})],
        );
        let mut daemon = Daemon::spawn(&pair.config());
        daemon.ready();
        pair.insert("things", plain(streamed));
        pair.insert("things", vec![with_id("late", document())]);
        pair.update("things", "changed", doc! { "$set": document() });
        pair.delete("things", "gone");
        // One of each kind of neighbours alone.
        pair.delete("things", "A");
        pair.update("things", "a ", doc! { "$set": { "by": "blank" } });
        pair.update("things", "ä", doc! { "$set": { "by": "umlaut" } });
        pair.update("things", "1", doc! { "$set": { "by": "text" } });
        pair.delete("things", 1);
        // A collection that is made while the stream runs.
        pair.insert("later", vec![doc! { "_id": "x" }, doc! { "_id": "X" }, doc! { "_id": "x " }]);
        pair.level(&daemon);
        let mut expected: Vec<Document> = plain(keys());
        expected.retain(|d| d.get("_id") != Some(&"A".into()) && d.get("_id") != Some(&1.into()));
        for d in &mut expected {
            let by = match d.get("_id").unwrap() {
                Bson::String(s) if s == "a " => "blank",
                Bson::String(s) if s == "ä" => "umlaut",
                Bson::String(s) if s == "1" => "text",
                _ => continue,
            };
            d.insert("by", by);
        }
        expected.extend(["full", "changed", "late"].map(|k| with_id(k, document())));
        let mut want: Vec<serde_json::Value> = expected.iter().map(as_json).collect();
        let rows = pair.rows("select hex(doc) from things");
        let text = |hex: &str| -> String {
            let byte = |i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap();
            String::from_utf8((0..hex.len()).step_by(2).map(byte).collect()).unwrap()
        };
        let mut have: Vec<serde_json::Value> = rows.lines().map(|r| serde_json::from_str(&text(r)).unwrap()).collect();
        let order = |v: &serde_json::Value| v.to_string();
        want.sort_by_key(order);
        have.sort_by_key(order);
        assert_eq!(have.len(), want.len(), "{flavour:?}: {have:#?}");
        for (h, w) in have.iter().zip(&want) {
            assert_eq!(h, w, "{flavour:?}");
        }
        assert_eq!(pair.rows("select count(distinct _id) from later"), "3");
        for table in ["things", "later"] {
            let made = pair.rows(&format!(
                "select group_concat(column_name, ' ', column_type, ' ', coalesce(collation_name, '-') order by 1 separator '; ') \
                 from information_schema.columns where table_schema = database() and table_name = '{table}'"
            ));
            let collation = if flavour == Flavour::Mysql { "utf8mb4_0900_bin" } else { "utf8mb4_nopad_bin" };
            assert!(made.contains(&format!("_id varchar(768) {collation}")), "{flavour:?} {table}: {made}");
        }
        assert_eq!(daemon.sigterm(), 0);
    }
}

#[test]
fn given_a_key_that_is_too_long_when_copied_or_followed_then_it_stops_and_nothing_is_cut() {
    for flavour in BOTH {
        let pair = Pair::start(flavour);
        pair.insert("things", vec![doc! { "_id": "ü".repeat(768) }, doc! { "_id": "x".repeat(769) }]);
        let mut daemon = Daemon::spawn(&pair.config());
        assert_eq!(daemon.exit_status(), 1);
        let log = daemon.log();
        assert!(log.contains("shop.things") || log.contains(".things"), "{log}");
        assert!(log.contains("holds a text that is longer than the target's column"), "{log}");
        assert!(log.contains("column _id (key) stands in a key and holds 768 characters at most"), "{log}");
        pair.delete("things", "x".repeat(769));
        // The log tells of that delete, and the copy's stream would meet the key again: a new one has to begin behind it, and it
        // begins with the last thing that happened.
        pair.insert("noise", vec![doc! { "_id": 1 }]);
        let finished = Daemon::command(&pair.config(), &["finish", "--yes"]);
        assert_eq!(finished.status.code(), Some(0), "{}", String::from_utf8_lossy(&finished.stderr));
        pair.rows("drop table things");
        let mut daemon = Daemon::spawn(&pair.config());
        daemon.ready();
        pair.insert("things", vec![doc! { "_id": "y".repeat(800) }]);
        assert_eq!(daemon.exit_status(), 1);
        let log = daemon.log();
        assert!(log.contains("holds a text that is longer than the target's column"), "{log}");
        assert_eq!(pair.rows("select count(*), min(char_length(_id)) from things"), "1|768");
    }
}

#[test]
fn given_a_table_whose_keys_are_not_told_apart_when_checked_then_the_collation_is_named_and_with_it_the_migration_runs()
{
    for flavour in BOTH {
        let pair = Pair::start(flavour);
        pair.insert("things", vec![doc! { "_id": "a" }, doc! { "_id": "A" }, doc! { "_id": "a " }]);
        pair.rows("create table things (_id varchar(100) character set utf8mb4 collate utf8mb4_bin primary key, doc json not null)");
        let config = pair.config();
        let said = Daemon::command(&config, &["check"]);
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        assert_eq!(said.status.code(), Some(1), "{text}");
        assert!(text.contains("is of the collation utf8mb4_bin on the target, under which keys that differ"), "{text}");
        let fix = text.lines().find_map(|l| l.split_once("ALTER TABLE")).expect("a statement").1;
        pair.rows(&format!("ALTER TABLE{}", fix.trim_end_matches(';')));
        let mut daemon = Daemon::spawn(&config);
        daemon.ready();
        assert_eq!(pair.rows("select count(*) from things"), "3");
        assert_eq!(daemon.sigterm(), 0);
    }
}

const FIELDS: &str = r#"
[[rule]]
from = "shop.things"
rest = "others"
[rule.fields]
_id = "objectid"
t = "text"
v = "varchar(5) default 'none'"
i2 = "smallint"
i4 = "integer not null default 7"
i8 = "bigint"
n = "numeric"
n2 = "numeric(10,2)"
f4 = "real"
f8 = "double precision"
b = "boolean"
ts = "timestamptz default '2024-01-31 12:00:00+00'"
tz = "timestamp"
d = "date"
u = "uuid"
legacy = "uuid(java)"
o = "objectid"
raw = "bytea"
j = "jsonb"
"a.b.c" = "integer"
texts = "text[]"
moments = "timestamptz[]"
numbers = "bigint[]"
ids = "objectid[]"
"#;

fn binary(subtype: u8, bytes: Vec<u8>) -> Bson {
    Bson::Binary(bson::Binary { subtype: subtype.into(), bytes })
}

fn full(n: u8) -> Document {
    let date = bson::DateTime::from_millis;
    doc! {
        "_id": id(n), "t": "tïtle 🚂 \\ \"q\"", "v": "äöüßx", "i2": -32768_i64, "i4": 5.0, "i8": i64::MIN,
        "n": "-12345678901234567890.12345".parse::<bson::Decimal128>().unwrap(), "n2": 12.5, "f4": 0.5, "f8": 0.1 + 0.2, "b": false,
        // After 2038, and before 1970, where a `timestamp` has no values.
        "ts": date(4_102_444_800_001), "tz": date(-2_208_988_800_120), "d": date(1_709_164_800_000),
        "u": binary(4, (0..16).collect()), "legacy": binary(3, (0..16).collect()), "o": id(9), "raw": binary(5, vec![0, 255]),
        "j": { "z": 1, "a": [1.5, "x", null] }, "a": { "b": { "c": 3, "d": 4 }, "e": {} },
        "texts": ["a,b", "", "NULL", "q\"\\", "{x}", Bson::Null, " y "], "moments": [date(1500)], "numbers": [1_i64, i64::MAX],
        "ids": [id(1), id(2)], "more": [1, { "deep": true }],
    }
}

#[test]
fn given_fields_of_every_type_when_copied_and_followed_then_columns_hold_them() {
    for flavour in BOTH {
        let pair = Pair::start(flavour);
        pair.insert(
            "things",
            vec![full(1), doc! { "_id": id(2) }, doc! { "_id": id(3), "t": null, "v": null, "i4": 1 }],
        );
        let mut daemon = Daemon::spawn(&pair.config().extra(FIELDS));
        daemon.ready();
        let row = |n: u8| {
            pair.rows(&format!(
                "select t, v, i2, i4, i8, n, n2, f4, f8, b, ts, tz, d, u, legacy, o, hex(raw), json_extract(j, '$.a[0]'), `a.b.c`, \
                 json_extract(texts, '$[3]'), json_length(texts), json_extract(texts, '$[5]'), json_extract(moments, '$[0]'), \
                 json_extract(numbers, '$[1]'), json_extract(ids, '$[1]'), json_extract(others, '$.more[1].deep') from things where _id = '{}'",
                id(n).to_hex()
            ))
        };
        let want = "tïtle 🚂 \\ \"q\"|äöüßx|-32768|5|-9223372036854775808|-12345678901234567890.123450000000000000000000000000|12.50|0.5|\
             0.30000000000000004|0|2100-01-01 00:00:00.001|1899-12-31 23:59:59.880|2024-02-29|00010203-0405-0607-0809-0a0b0c0d0e0f|\
             07060504-0302-0100-0f0e-0d0c0b0a0908|090909090909090909090909|00FF|1.5|3|\"q\\\"\\\\\"|7|null|\"1970-01-01 00:00:01.5+00\"|\
             9223372036854775807|\"020202020202020202020202\"|true";
        assert_eq!(row(1), want, "{flavour:?}");
        let missing = |v: &str, i4: &str, ts: &str| {
            let mut all = ["NULL"; 26];
            (all[1], all[3], all[10]) = (v, i4, ts);
            all.join("|")
        };
        assert_eq!(row(2), missing("none", "7", "2024-01-31 12:00:00.000"), "{flavour:?}");
        assert_eq!(row(3), missing("NULL", "1", "2024-01-31 12:00:00.000"), "{flavour:?}");
        let types = pair.rows(
            "select column_name, column_type, is_nullable from information_schema.columns where table_schema = database() \
             and table_name = 'things' and column_name in ('_id', 'i4', 'ts', 'tz', 'n', 'u') order by binary column_name",
        );
        let int = if flavour == Flavour::Mysql { "int" } else { "int(11)" };
        assert_eq!(
            types,
            format!(
                "_id|char(24)|NO\ni4|{int}|NO\nn|decimal(65,30)|YES\nts|datetime(3)|YES\ntz|datetime(3)|YES\nu|char(36)|YES"
            )
        );
        let mut changed = full(2);
        changed.remove("_id");
        pair.update("things", id(2), doc! { "$set": changed.clone() });
        pair.update("things", id(3), changed);
        pair.insert("things", vec![full(4), doc! { "_id": id(5) }]);
        pair.delete("things", id(1));
        pair.level(&daemon);
        for n in [2, 3, 4] {
            assert_eq!(row(n), want, "{flavour:?} {n}");
        }
        assert_eq!(row(5), missing("none", "7", "2024-01-31 12:00:00.000"), "{flavour:?}");
        assert_eq!(pair.rows("select count(*) from things"), "4");
        // A number with more digits than decimal(65,30) has is refused, not rounded.
        pair.insert("things", vec![doc! { "_id": id(6), "n": "1E-31".parse::<bson::Decimal128>().unwrap() }]);
        assert_eq!(daemon.exit_status(), 1);
        let log = daemon.log();
        assert!(log.contains("column n") || log.contains("'n'"), "{log}");
        assert_eq!(pair.rows("select count(*) from things"), "4");
    }
}

fn reshaping() -> String {
    r#"
[[rule]]
from = "shop.users"
to = "shop.members"
drop = ["_id", "tags", "visits", "friend"]
set = { id = "uuid5('NS', _id)", legacy_id = "_id", friend_id = "uuid5('NS', friend)" }
indexes = [{ columns = ["legacy_id"], unique = true }, { columns = ["email"], unique = true }]
[rule.fields]
_id = "objectid"
email = "text not null"
created = "timestamptz"
friend = "objectid"
tags = "text[]"
visits = "jsonb"
[[rule.explode]]
path = "tags"
to = "shop.member_tags"
set = { member_id = "uuid5('NS', parent._id)", n = "position", tag = "item" }
key = ["member_id", "n"]
references = [{ columns = ["member_id"], table = "members", on_delete = "cascade" }]
[[rule.explode]]
path = "visits"
to = "shop.visits"
set = { member_id = "uuid5('NS', parent._id)", n = "position", page = "item.page", at = "(item->'at'->>'$date')::timestamptz", paid = "item.paid::numeric(10,2)" }
key = ["member_id", "n"]
references = [{ columns = ["member_id"], table = "members" }]

[[rule]]
from = "shop.orders"
drop = ["lines"]
[rule.fields]
_id = "text"
state = "varchar(10)"
lines = "jsonb"
[[rule.explode]]
path = "lines"
to = "shop.order_lines"
set = { order_id = "parent._id", n = "position", sku = "item.sku", quantity = "item.quantity::int" }
key = ["order_id", "n"]
references = [{ columns = ["order_id"], table = "orders" }]
"#
    .replace("NS", NAMESPACE)
}

#[test]
fn given_rules_that_reshape_when_copied_and_followed_then_made_tables_hold_what_the_documents_say() {
    for flavour in BOTH {
        let pair = Pair::start(flavour);
        let user = |n: u8, more: Document| {
            let mut d = doc! { "_id": id(n), "email": format!("U{n}@x.org"), "created": bson::DateTime::from_millis(4_102_444_800_000 + i64::from(n)) };
            d.extend(more);
            d
        };
        let visit = |page: &str, paid: f64| doc! { "page": page, "at": bson::DateTime::from_millis(1_709_208_000_123), "paid": paid };
        pair.insert(
            "users",
            vec![
                user(
                    1,
                    doc! { "tags": ["a", "A", "a "], "visits": [visit("/x", 1.5), visit("/y", 0.25)], "nick": "one" },
                ),
                user(2, doc! { "tags": [], "friend": id(1) }),
                user(3, doc! { "friend": id(2), "tags": ["z"], "visits": Bson::Null }),
            ],
        );
        pair.insert(
            "orders",
            vec![
                doc! { "_id": "o", "state": "open", "lines": [{ "sku": "s1", "quantity": 2 }, { "sku": null }] },
                doc! { "_id": "O", "lines": [{ "sku": "s2", "quantity": 3 }] },
                doc! { "_id": "o ", "lines": [] },
            ],
        );
        let rules = reshaping()
            .replace("\"shop.", &format!("\"{}.", pair.name))
            .replace(&format!("from = \"{}.", pair.name), "from = \"shop.");
        let mut daemon = Daemon::spawn(&pair.config().extra(&rules));
        daemon.ready();
        let all = || {
            let of = |sql: &str| format!("{}\n", pair.rows(sql));
            [
                of("select id, legacy_id, email, created, friend_id, json_unquote(json_extract(rest, '$.nick')) from members order by legacy_id"),
                of("select member_id, n, concat('<', tag, '>') from member_tags order by 1, 2"),
                of("select member_id, n, page, at, paid from visits order by 1, 2"),
                of("select concat('<', _id, '>'), state from orders order by 1"),
                of("select concat('<', order_id, '>'), n, sku, quantity from order_lines order by 1, 2"),
            ]
            .concat()
        };
        let u = |n: u8| uuid5(&id(n).to_hex());
        let hex = |n: u8| id(n).to_hex();
        let child = |rows: &[(u8, &str)]| {
            let mut lines: Vec<String> = rows.iter().map(|(n, rest)| format!("{}|{rest}\n", u(*n))).collect();
            lines.sort();
            lines.concat()
        };
        let want = format!(
            "{}|{}|U1@x.org|2100-01-01 00:00:00.001|NULL|one\n{}|{}|U2@x.org|2100-01-01 00:00:00.002|{}|NULL\n{}|{}|U3@x.org|2100-01-01 00:00:00.003|{}|NULL\n{}{}",
            u(1),
            hex(1),
            u(2),
            hex(2),
            u(1),
            u(3),
            hex(3),
            u(2),
            child(&[(1, "1|<a>"), (1, "2|<A>"), (1, "3|<a >"), (3, "1|<z>")]),
            child(&[(1, "1|/x|2024-02-29 12:00:00.123000|1.50"), (1, "2|/y|2024-02-29 12:00:00.123000|0.25")]),
        );
        assert_eq!(
            all(),
            format!("{want}<O>|NULL\n<o >|NULL\n<o>|open\n<O>|1|s2|3\n<o>|1|s1|2\n<o>|2|NULL|NULL\n"),
            "{flavour:?}"
        );
        let keys = pair.rows("select constraint_name from information_schema.referential_constraints where constraint_schema = database() order by 1");
        assert_eq!(
            keys,
            "member_tags_member_id_fkey\norder_lines_order_id_fkey\nvisits_member_id_fkey",
            "{flavour:?} {}",
            daemon.log()
        );
        // The stream.
        pair.update("users", id(1), doc! { "$set": { "tags": ["b"], "email": "new@x.org" }, "$push": { "visits": visit("/z", 3.0) }, "$unset": { "nick": 1 } });
        pair.update("users", id(2), doc! { "$unset": { "friend": 1 }, "$set": { "tags": ["t", "u"] } });
        pair.delete("users", id(3));
        pair.insert("users", vec![user(4, doc! { "friend": id(4), "tags": ["n"] })]);
        pair.delete("orders", "O");
        pair.update("orders", "o ", doc! { "$set": { "lines": [{ "sku": "blank", "quantity": 9 }] } });
        pair.insert("orders", vec![doc! { "_id": "ö", "lines": [{ "sku": "s3", "quantity": 1 }] }]);
        pair.level(&daemon);
        let want = format!(
            "{}|{}|new@x.org|2100-01-01 00:00:00.001|NULL|NULL\n{}|{}|U2@x.org|2100-01-01 00:00:00.002|NULL|NULL\n{}|{}|U4@x.org|2100-01-01 00:00:00.004|{}|NULL\n{}{}",
            u(1),
            hex(1),
            u(2),
            hex(2),
            u(4),
            hex(4),
            u(4),
            child(&[(1, "1|<b>"), (2, "1|<t>"), (2, "2|<u>"), (4, "1|<n>")]),
            child(&[
                (1, "1|/x|2024-02-29 12:00:00.123000|1.50"),
                (1, "2|/y|2024-02-29 12:00:00.123000|0.25"),
                (1, "3|/z|2024-02-29 12:00:00.123000|3.00")
            ]),
        );
        let orders = "<o >|NULL\n<o>|open\n<ö>|NULL\n<o >|1|blank|9\n<o>|1|s1|2\n<o>|2|NULL|NULL\n<ö>|1|s3|1\n";
        wait_until("orders are level", Duration::from_secs(5), || {
            all() == format!("{want}{orders}") || {
                daemon.phase();
                true
            }
        });
        assert_eq!(all(), format!("{want}{orders}"), "{flavour:?}");
        assert_eq!(daemon.sigterm(), 0);
    }
}
