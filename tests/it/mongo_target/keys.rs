//! What is `_id`, what finds a row, and what keeps rows apart.

use bson::{Bson, doc};

use super::{PATIENCE, Pair};
use crate::support::{Daemon, wait_until};

#[test]
fn given_keys_of_every_kind_when_followed_then_documents_are_found_by_them() {
    let pair = Pair::shared(
        "keys",
        "create table one (code text primary key, n int);
         create table two (b int, a uuid, n int, primary key (a, b));
         create table none (v int, w text); alter table none replica identity full;
         create table other (id int primary key, email text not null unique, n int); alter table other replica identity using index other_email_key;
         create table nested (id int primary key, \"address.city\" text, \"address.zip\" int, name text);
         insert into one values ('x', 1), ('', 2); insert into two values (1, '0190d2a4-1111-4222-8333-444455556666', 1);
         insert into none values (1, 'a'), (1, 'a'), (2, null); insert into other values (1, 'e@x', 1);
         insert into nested values (1, 'Köln', 50667, 'n')",
    );
    let (mut daemon, mut sql) = pair.ready();
    let target = pair.target();
    sql.run(
        "insert into one values ('y', 3); update one set code = 'z' where code = ''; delete from one where code = 'x'",
    );
    sql.run("insert into two values (2, '0190d2a4-1111-4222-8333-444455556666', 2); update two set b = 9 where b = 1; update two set n = 5 where b = 2");
    sql.run("delete from none where ctid = (select min(ctid) from none); update none set w = 'b' where v = 2; insert into none values (3, 'c')");
    sql.run("update other set n = 2, id = 7; update other set email = 'f@x'; insert into other values (2, 'g@x', 1); update other set n = 4 where id = 2");
    sql.run("update nested set \"address.zip\" = 1 where id = 1; insert into nested values (2, null, null, 'last')");
    target.wait_for("nested", doc! { "_id": 2 });
    let uuid = bson::Uuid::parse_str("0190d2a4-1111-4222-8333-444455556666").unwrap();
    assert_eq!(target.all("one"), [doc! { "_id": "y", "n": 3 }, doc! { "_id": "z", "n": 2 }]);
    assert_eq!(
        target.all("two"),
        [doc! { "_id": { "a": uuid, "b": 2 }, "n": 5 }, doc! { "_id": { "a": uuid, "b": 9 }, "n": 1 }]
    );
    let mut rows: Vec<_> =
        target.all("none").iter().map(|d| (d.get_i32("v").unwrap(), d.get_str("w").unwrap().to_owned())).collect();
    rows.sort();
    assert_eq!(rows, [(1, "a".into()), (2, "b".into()), (3, "c".into())]);
    assert!(target.all("none").iter().all(|d| d.get_object_id("_id").is_ok()));
    let mut rows: Vec<_> = target
        .all("other")
        .iter()
        .map(|d| (d.get_str("_id").unwrap().to_owned(), d.get_i32("id").unwrap(), d.get_i32("n").unwrap()))
        .collect();
    rows.sort();
    assert_eq!(rows, [("f@x".into(), 7, 2), ("g@x".into(), 2, 4)]);
    assert_eq!(
        target.all("nested"),
        [
            doc! { "_id": 1, "address": { "city": "Köln", "zip": 1 }, "name": "n" },
            doc! { "_id": 2, "address": { "city": Bson::Null, "zip": Bson::Null }, "name": "last" }
        ]
    );
    assert_eq!(daemon.sigterm(), 0);
}

#[test]
fn given_unique_values_that_change_places_when_applied_then_they_do_and_nulls_are_no_duplicates() {
    let pair = Pair::shared(
        "uniques",
        "create table u (id int primary key, a int, b text, unique (a), unique (a, b)); create index on u (b desc);
         insert into u values (1, 1, 'x'), (2, 2, 'y'), (3, null, null), (4, null, null)",
    );
    let (mut daemon, mut sql) = pair.ready();
    let target = pair.target();
    // In one batch: 1 and 2 change places by way of 0, and a value is handed from a row that goes to one that comes.
    sql.run("begin; update u set a = 0 where id = 1; update u set a = 1 where id = 2; update u set a = 2 where id = 1; \
             delete from u where id = 2; insert into u values (9, 1, 'z'); update u set a = 77 where id = 3; insert into u values (5, null, 'n'); commit");
    target.wait_same(&mut sql, "u", "select id, a, b from u");
    let names: Vec<String> = {
        let reply = target.run(doc! { "listIndexes": "u" });
        let list = reply.get_document("cursor").unwrap().get_array("firstBatch").unwrap().clone();
        list.iter().map(|i| i.as_document().unwrap().get_str("name").unwrap().to_owned()).collect()
    };
    assert_eq!(names, ["_id_", "u_a_b_key", "u_a_key", "u_b_idx"]);
    // Somebody else's document stands in the way: both keys are named.
    target.run(doc! { "insert": "u", "documents": [{ "_id": 100, "a": 500 }] });
    sql.run("insert into u values (11, 500, 'q')");
    assert_eq!(daemon.exit_status(), 1);
    let log = daemon.log();
    assert!(
        log.contains("duplicate key in index u_a_key") && log.contains("_id 11") && log.contains("_id 100"),
        "{log}"
    );
    target.run(doc! { "delete": "u", "deletes": [{ "q": { "_id": 100 }, "limit": 1 }] });
    let mut daemon = Daemon::spawn(&pair.config());
    daemon.ready();
    target.wait_same(&mut sql, "u", "select id, a, b from u");
    assert_eq!(daemon.sigterm(), 0);
}

#[test]
fn given_a_document_that_somebody_removed_when_its_row_changes_then_the_stream_stops_and_names_it() {
    let pair = Pair::shared(
        "diverged",
        "create table t (id int primary key, v int); insert into t select g, g from generate_series(1, 10) g",
    );
    let (mut daemon, mut sql) = pair.ready();
    let target = pair.target();
    target.run(doc! { "delete": "t", "deletes": [{ "q": { "_id": { "$in": [4, 7] } }, "limit": 0 }] });
    sql.run("update t set v = v + 1");
    assert_eq!(daemon.exit_status(), 1);
    let log = daemon.log();
    assert!(log.contains("update of 10 rows found only 8") && log.contains("id=4") && log.contains("id=7"), "{log}");
    assert_eq!(target.one("t", 1).get_i32("v").unwrap(), 1, "nothing of the batch is there");
    sql.run("insert into t values (99, 1)");
    let mut again = Daemon::spawn(&pair.config());
    assert_eq!(again.exit_status(), 1, "{}", again.log());
}

#[test]
fn given_rules_that_merge_tables_when_copied_and_followed_then_rows_are_skipped_and_replaced() {
    let pair = Pair::shared(
        "merge",
        "create table a (id int primary key, v text); create table b (id int primary key, v text);
         insert into a select g, 'a' || g from generate_series(1, 10) g; insert into b select g, 'b' || g from generate_series(6, 15) g",
    );
    pair.target().run(doc! { "create": "both" });
    pair.target().run(doc! { "insert": "both", "documents": [{ "_id": 5, "v": "x" }] });
    let rules = "[[rule]]\nfrom = \"public.a\"\nto = \"both\"\nrename = { id = \"_id\" }\non_existing = \"replace\"\n\
                 [[rule]]\nfrom = \"public.b\"\nto = \"both\"\nrename = { id = \"_id\" }\non_existing = \"skip\"";
    let mut daemon = Daemon::spawn(&pair.config().extra(rules));
    daemon.ready();
    let target = pair.target();
    let mut sql = pair.source();
    assert_eq!(target.count("both"), 15);
    assert_eq!(target.one("both", 5).get_str("v").unwrap(), "a5");
    assert_eq!(target.one("both", 6).get_str("v").unwrap(), "a6");
    sql.run("update b set v = 'new' where id in (6, 12); delete from b where id in (7, 13); insert into b values (3, 'b3'), (20, 'b20')");
    target.wait_for("both", doc! { "_id": 20 });
    assert_eq!(target.one("both", 6).get_str("v").unwrap(), "a6");
    assert_eq!(target.one("both", 12).get_str("v").unwrap(), "new");
    assert_eq!(target.one("both", 7).get_str("v").unwrap(), "a7");
    assert_eq!(target.one("both", 3).get_str("v").unwrap(), "a3");
    wait_until("13 is gone", PATIENCE, || target.find_in(&pair.name, "both", doc! { "_id": 13 }).is_empty());
    sql.run("delete from b where id = 3; insert into a values (30, 'a30'); update a set v = 'a1+' where id = 1");
    target.wait_for("both", doc! { "_id": 1, "v": "a1+" });
    assert_eq!(target.one("both", 3).get_str("v").unwrap(), "a3");
    assert_eq!(daemon.sigterm(), 0);
}
