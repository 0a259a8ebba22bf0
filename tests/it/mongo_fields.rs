//! Collections whose fields become columns, from a real MongoDB into a real PostgreSQL; and the rules that `init` suggests.

use std::process::Command;
use std::time::Duration;

use bson::{Bson, Document, doc};

use crate::mongo_source::Pair;
use crate::support::{Config, Daemon, wait_until};

const RULE: &str = r#"
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
ts = "timestamptz"
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
blobs = "bytea[]"
ids = "objectid[]"
"#;

fn id(n: u8) -> bson::oid::ObjectId {
    bson::oid::ObjectId::from_bytes([n; 12])
}

fn binary(subtype: u8, bytes: Vec<u8>) -> Bson {
    Bson::Binary(bson::Binary { subtype: subtype.into(), bytes })
}

/// A value in every column, chosen where forms are delicate.
fn full(n: u8) -> Document {
    let date = |ms| bson::DateTime::from_millis(ms);
    doc! {
        "_id": id(n), "t": "tïtle 🚂 \\ \"q\"\n\t", "v": "äöüßx", "i2": -32768_i64, "i4": 5.0, "i8": i64::MIN,
        "n": "1.500E-10".parse::<bson::Decimal128>().unwrap(), "n2": 12.5, "f4": 0.5, "f8": 0.1 + 0.2, "b": false,
        "ts": date(-62_135_596_800_001), "tz": date(1_709_208_000_120), "d": date(1_709_164_800_000),
        "u": binary(4, (0..16).collect()), "legacy": binary(3, (0..16).collect()), "o": id(9), "raw": binary(5, vec![0, 255]),
        "j": { "z": 1, "a": [1.0, "x", null, date(0)] }, "a": { "b": { "c": 3, "d": 4 }, "e": {} },
        "texts": ["a,b", "", "NULL", "q\"\\", "{x}", Bson::Null, " y "], "moments": [date(1500)], "blobs": [binary(0, vec![1])],
        "ids": [id(1), id(2)], "more": [1, { "deep": true }],
    }
}

const EXPECTED: &str = r#"select t, v, i2::text, i4::text, i8::text, n::text, n2::text, f4::text, f8::text, b::text,
    ts::text, tz::text, d::text, u::text, legacy::text, o, raw::text, j::text, "a.b.c"::text, texts::text, moments::text, blobs::text,
    ids::text, others::text from things where _id = '"#;

#[test]
fn given_fields_of_every_type_when_copied_and_followed_then_columns_hold_them_and_the_rest_is_kept() {
    let pair = Pair::start();
    pair.insert("things", vec![full(1), doc! { "_id": id(2) }, doc! { "_id": id(3), "t": null, "v": null, "i4": 1 }]);
    let mut daemon = Daemon::spawn(&pair.config().extra(RULE));
    daemon.ready();
    let mut sql = pair.on_target();
    sql.run("set time zone 'UTC'");
    let row = |sql: &mut crate::support::Sql, n: u8| {
        let rows = sql.rows(&format!("{EXPECTED}{}'", id(n).to_hex()));
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows[0].iter().map(|f| f.clone().unwrap_or_else(|| "NULL!".into())).collect::<Vec<_>>()
    };
    let want = [
        "tïtle 🚂 \\ \"q\"\n\t",
        "äöüßx",
        "-32768",
        "5",
        "-9223372036854775808",
        "0.0000000001500",
        "12.50",
        "0.5",
        "0.30000000000000004",
        "false",
        "0001-12-31 23:59:59.999+00 BC",
        "2024-02-29 12:00:00.12",
        "2024-02-29",
        "00010203-0405-0607-0809-0a0b0c0d0e0f",
        "07060504-0302-0100-0f0e-0d0c0b0a0908",
        "090909090909090909090909",
        "\\x00ff",
        r#"{"a": [1.0, "x", null, {"$date": "1970-01-01T00:00:00Z"}], "z": 1}"#,
        "3",
        r#"{"a,b","","NULL","q\"\\","{x}",NULL," y "}"#,
        r#"{"1970-01-01 00:00:01.5+00"}"#,
        r#"{"\\x01"}"#,
        "{010101010101010101010101,020202020202020202020202}",
        r#"{"a": {"b": {"d": 4}, "e": {}}, "more": [1, {"deep": true}]}"#,
    ];
    assert_eq!(row(&mut sql, 1), want);
    let mut missing = vec!["NULL!"; 24];
    (missing[1], missing[3]) = ("none", "7");
    assert_eq!(row(&mut sql, 2), missing);
    // Null is no missing field: it takes no default.
    (missing[1], missing[3]) = ("NULL!", "1");
    assert_eq!(row(&mut sql, 3), missing);
    let columns = sql.rows(
        "select column_name, data_type, is_nullable, coalesce(column_default, '-') from information_schema.columns
         where table_schema = 'public' and table_name = 'things' and column_name in ('_id', 'i4', 'v', 'j', 'ts') order by 1",
    );
    let columns: Vec<String> =
        columns.into_iter().map(|c| c.into_iter().flatten().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        columns,
        [
            "_id character varying NO -",
            "i4 integer NO 7",
            "j jsonb YES -",
            "ts timestamp with time zone YES -",
            "v character varying YES 'none'::character varying",
        ]
    );
    // The stream gives the same: an update that is looked up, a replacement, an insert, a delete.
    let mut changed = full(2);
    changed.remove("_id");
    pair.update("things", id(2), doc! { "$set": changed.clone() });
    pair.update("things", id(3), changed);
    pair.insert("things", vec![full(4), doc! { "_id": id(5) }]);
    pair.delete("things", id(1));
    pair.update("things", id(5), doc! { "$set": { "a.b": 1 }, "$unset": { "v": 1 } });
    pair.level();
    for n in [2, 3, 4] {
        assert_eq!(row(&mut sql, n), want, "{n}");
    }
    (missing[1], missing[3]) = ("none", "7");
    missing[23] = r#"{"a": {"b": 1}}"#;
    assert_eq!(row(&mut sql, 5), missing);
    assert_eq!(sql.number("select count(*) from things"), 4);
}

#[test]
fn given_rules_that_this_source_cannot_follow_when_checked_or_run_then_its_own_remedy_is_named() {
    let pair = Pair::start();
    pair.insert("users", vec![doc! { "_id": 1, "age": 5 }]);
    pair.insert("members", vec![doc! { "_id": 1, "age": 6 }]);
    let fields = "[rule.fields]\n_id = \"integer\"\nage = \"integer\"\n";
    let skips = format!(
        "[[rule]]\nfrom = \"shop.users\"\nto = \"public.people\"\n{fields}[[rule]]\nfrom = \"shop.members\"\nto = \"public.people\"\non_existing = \"skip\"\n{fields}"
    );
    let filters = format!("[[rule]]\nfrom = \"shop.users\"\nwhere = \"age > 3\"\n{fields}");
    let collmod =
        "db.getSiblingDB(\"shop\").runCommand({ collMod: \"users\", changeStreamPreAndPostImages: { enabled: true } })";
    for (rules, what, remedy) in [
        (&skips, "on_existing: \"skip\" cannot be followed from a source of engine mongo", "on_existing = \"replace\""),
        (&filters, "it reads column \"age\", whose old value is not in the source's log", collmod),
    ] {
        let config = pair.config().extra(rules);
        for command in ["check", "run"] {
            let said = Daemon::command(&config, &[command]);
            let text = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
            assert_eq!(said.status.code(), Some(1), "{text}");
            assert!(
                text.contains(what) && text.contains(remedy) && !text.contains("REPLICA IDENTITY"),
                "{command}: {text}"
            );
        }
    }
    let mut sql = pair.on_target();
    assert_eq!(sql.number("select count(*) from pg_class where relname in ('people', 'users', 'checkpoint')"), 0);
    // What is named helps.
    pair.run(doc! { "collMod": "users", "changeStreamPreAndPostImages": { "enabled": true } });
    let mut daemon = Daemon::spawn(&pair.config().extra(&filters));
    daemon.ready();
    pair.update("users", 1, doc! { "$set": { "age": 2 } });
    pair.level();
    assert_eq!(sql.number("select count(*) from users"), 0);
    pair.update("users", 1, doc! { "$set": { "age": 9 } });
    pair.level();
    assert_eq!(sql.one("select age::text from users"), "9");
    // Rules that change later are looked at, too.
    assert_eq!(daemon.sigterm(), 0);
    let said = Daemon::command(&pair.config().extra(&skips), &["run"]);
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.status.code() == Some(1) && text.contains("cannot be followed"), "{text}");
}

#[test]
fn given_documents_that_do_not_fit_when_copied_and_followed_then_they_stop_it_or_are_set_aside() {
    let rule = "[[rule]]\nfrom = \"shop.users\"\n[rule.fields]\n_id = \"integer\"\nage = \"integer\"\n\"address.zip\" = \"text\"\n";
    let pair = Pair::start();
    pair.insert("users", vec![doc! { "_id": 1, "age": 5 }, doc! { "_id": 2, "age": "a secret" }]);
    let config = pair.config().extra(rule);
    let mut daemon = Daemon::spawn(&config);
    assert_eq!(daemon.exit_status(), 1);
    let log = daemon.log();
    assert!(log.contains("_id 2: field age holds a string, and the rule says integer"), "{log}");
    assert!(!log.contains("a secret"), "{log}");
    let config = config.extra("[apply]\non_error = \"dead-letter\"");
    let mut daemon = Daemon::spawn(&config);
    daemon.ready();
    pair.insert(
        "users",
        vec![doc! { "_id": 3, "address": { "zip": 12345 } }, doc! { "_id": 4, "age": 1.5 }, doc! { "_id": 5 }],
    );
    // What was set aside stays aside, also when it would fit again.
    pair.update("users", 2, doc! { "$set": { "age": 3 } });
    pair.level();
    let mut sql = pair.on_target();
    assert_eq!(sql.one("select string_agg(_id::text, ',' order by _id) from users"), "1,5");
    let aside = sql.rows("select row_key::text, message from switchyard.dead_letter order by seq");
    let aside: Vec<String> = aside.into_iter().map(|r| r.into_iter().flatten().collect::<Vec<_>>().join(" ")).collect();
    assert!(
        aside.iter().any(|a| a.contains("_id 3: field address.zip holds an int, and the rule says text")),
        "{aside:#?}"
    );
    assert!(aside.iter().any(|a| a.contains("_id 4: field age holds a double with a fraction")), "{aside:#?}");
}

fn init(pair: &Pair) -> String {
    let o = Command::new(env!("CARGO_BIN_EXE_switchyard"))
        .args(["init", "--source", &pair.source.url("shop"), "--target", &pair.target.url(&pair.name)])
        .output()
        .unwrap();
    assert!(o.status.success(), "{}", String::from_utf8_lossy(&o.stderr));
    String::from_utf8(o.stdout).unwrap()
}

/// The suggested rules without their signs, and without what reshapes rows.
fn switched_on(text: &str) -> String {
    let from = text.find("#[[rule]]").expect("a rule");
    let on = text[from..].lines().filter(|l| l.starts_with('#') && !l.starts_with("# "));
    let parts: String = on.map(|l| format!("{}\n", &l[1..])).collect();
    let fields = |part: &str| {
        let lines = part.lines().take_while(|l| !l.starts_with("[[rule.explode]]"));
        let reshapes = ["to =", "rename =", "drop =", "set ="];
        let kept = lines.filter(|l| !reshapes.iter().any(|r| l.starts_with(r)));
        kept.map(|l| format!("{l}\n")).collect::<String>()
    };
    parts.split("[[rule]]\n").filter(|p| !p.is_empty()).map(|p| format!("[[rule]]\n{}", fields(p))).collect()
}

#[test]
fn given_collections_when_initialized_then_the_suggested_rules_bring_all_of_their_documents() {
    let pair = Pair::start();
    let order = |i: i32| {
        doc! {
            "_id": i, "customerId": id((i % 200) as u8), "state": if i % 2 == 0 { "open" } else { "paid" },
            "total": format!("{}.50", i).parse::<bson::Decimal128>().unwrap(),
            "at": bson::DateTime::from_millis(1_700_000_000_000 + i64::from(i)),
            "address": { "city": "X", "geo": { "lat": 1.5 } },
            "lines": [{ "sku": "a", "n": i }], "mixed": if i % 100 == 0 { Bson::Int32(i) } else { Bson::String("x".into()) },
        }
    };
    for from in (0..3000).step_by(500) {
        pair.insert("orders", (from..from + 500).map(order).collect());
    }
    pair.insert(
        "customers",
        (0..200).map(|i| doc! { "_id": id(i), "name": format!("c{i}"), "friends": [id(1)] }).collect(),
    );
    pair.insert("empty names", vec![doc! { "_id": "x" }]);
    let text = init(&pair);
    for line in [
        "# shop.orders: 1000 documents were looked at.",
        "#from = \"shop.orders\"",
        "#rename = { \"address.city\" = \"address_city\", \"address.geo.lat\" = \"address_geo_lat\" }",
        "#_id = \"objectid\"",
        "#customerId = \"objectid\"",
        "#total = \"numeric\"",
        "#mixed = \"jsonb\"",
        "#path = \"lines\"",
        "#set = { orders_id = \"parent._id\", position = \"position\", sku = \"item.sku\", n = \"item.n::integer\" }",
        "#path = \"friends\"",
    ] {
        assert!(text.lines().any(|l| l.starts_with(line)), "{line}\n{text}");
    }
    assert!(text.contains("only open, paid"), "{text}");
    // As it stands it is a configuration, and with its rules on another.
    let name = pair.name.clone();
    let bare = Config::new(&name, &pair.source.url("shop"), &pair.target.url(&name));
    let mut daemon = Daemon::spawn(&bare.extra(&switched_on(&text)));
    daemon.ready();
    let mut sql = pair.on_target();
    wait_until("all rows are there", Duration::from_secs(30), || sql.number("select count(*) from orders") == 3000);
    assert_eq!(sql.number("select count(*) from orders o join customers c on c._id = o.\"customerId\""), 3000);
    assert_eq!(sql.one("select sum(total)::text from orders"), "4500000.00");
    assert_eq!(sql.number("select count(*) from customers where rest is null"), 200);
}

/// All that is suggested, without its signs. `hashed`: with the keys of another kind, as the comments say it.
fn all_on(text: &str, hashed: bool) -> String {
    let from = text.find("#[[rule]]").expect("a rule");
    let on = text[from..].lines().filter(|l| l.starts_with('#') && !l.starts_with("# "));
    let mut out = String::new();
    for line in on.map(|l| &l[1..]) {
        let line = match () {
            () if line.starts_with("set = { id = ") && !hashed => continue,
            () if line.starts_with("drop = [") && hashed => line.replace("drop = [", "drop = [\"_id\", "),
            () if hashed => {
                line.replace("\"parent._id\"", "\"uuid5('00000000-0000-0000-0000-000000000000', parent._id)\"")
            }
            () => line.to_owned(),
        };
        out.push_str(&line);
        out.push('\n');
    }
    out
}

#[test]
fn given_all_that_init_suggests_when_switched_on_then_tables_keys_and_references_are_made_and_hold_the_documents() {
    for hashed in [false, true] {
        let pair = Pair::start();
        let line =
            |n: i32| doc! { "sku": format!("s{n}"), "n": n, "price": "1.50".parse::<bson::Decimal128>().unwrap() };
        let order = |i: i32| {
            doc! {
                "_id": id(i as u8), "customerId": id((i % 50) as u8), "total": format!("{i}.50").parse::<bson::Decimal128>().unwrap(),
                "at": bson::DateTime::from_millis(1_700_000_000_000 + i64::from(i)), "address": { "city": format!("c{i}"), "zip": i },
                "lines": (0..i % 4).map(line).collect::<Vec<_>>(), "marks": [id(1), id((i % 9) as u8)],
            }
        };
        pair.insert("orders", (0..200).map(order).collect());
        let text = init(&pair);
        let bare = Config::new(&pair.name, &pair.source.url("shop"), &pair.target.url(&pair.name));
        let mut daemon = Daemon::spawn(&bare.extra(&all_on(&text, hashed)));
        daemon.ready();
        pair.insert("orders", (200..220).map(order).collect());
        pair.update(
            "orders",
            id(3),
            doc! { "$set": { "lines": [line(7)], "address.city": "moved" }, "$pull": { "marks": id(1) } },
        );
        pair.delete("orders", id(7));
        pair.level();
        let mut sql = pair.on_target();
        let (mut orders, mut lines, mut marks) = (Vec::new(), Vec::new(), Vec::new());
        let space = uuid::Uuid::nil();
        let key = |d: &Document| {
            let hex = d.get_object_id("_id").unwrap().to_hex();
            if hashed { uuid::Uuid::new_v5(&space, hex.as_bytes()).to_string() } else { hex }
        };
        for d in pair.documents("orders") {
            let address = d.get_document("address").unwrap();
            let (city, zip) = (address.get_str("city").unwrap(), address.get_i32("zip").unwrap());
            let customer = d.get_object_id("customerId").unwrap().to_hex();
            orders.push(format!("{} {customer} {} {city} {zip}", key(&d), d.get_decimal128("total").unwrap()));
            for (at, l) in d.get_array("lines").unwrap().iter().map(|l| l.as_document().unwrap()).enumerate() {
                lines.push(format!(
                    "{} {} {} {} 1.50",
                    key(&d),
                    at + 1,
                    l.get_str("sku").unwrap(),
                    l.get_i32("n").unwrap()
                ));
            }
            for (at, m) in d.get_array("marks").unwrap().iter().enumerate() {
                marks.push(format!("{} {} {}", key(&d), at + 1, m.as_object_id().unwrap().to_hex()));
            }
        }
        let mut rows = |query: &str| {
            let rows = sql.rows(query).into_iter().map(|r| r.into_iter().flatten().collect::<Vec<_>>().join(" "));
            let mut rows: Vec<String> = rows.collect();
            rows.sort();
            rows
        };
        let own = if hashed { "id" } else { "_id" };
        let sorted = |mut v: Vec<String>| {
            v.sort();
            v
        };
        assert_eq!(
            rows(&format!("select {own}, \"customerId\", total, address_city, address_zip from orders")),
            sorted(orders),
            "{text}"
        );
        assert_eq!(rows("select orders_id, position, sku, n, price from orders_lines"), sorted(lines), "{text}");
        assert_eq!(rows("select orders_id, position, item_id from orders_marks"), sorted(marks), "{text}");
        let made = rows(
            "select conrelid::regclass || ' ' || pg_get_constraintdef(oid) from pg_constraint where connamespace = 'public'::regnamespace and conrelid::regclass::text like 'orders%' and contype <> 'n'",
        );
        let want = [
            format!("orders PRIMARY KEY ({own})"),
            format!("orders_lines FOREIGN KEY (orders_id) REFERENCES orders({own})"),
            "orders_lines PRIMARY KEY (orders_id, \"position\")".to_owned(),
            format!("orders_marks FOREIGN KEY (orders_id) REFERENCES orders({own})"),
            "orders_marks PRIMARY KEY (orders_id, \"position\")".to_owned(),
        ];
        assert_eq!(made, want, "{}", daemon.log());
        assert_eq!(daemon.sigterm(), 0);
    }
}
