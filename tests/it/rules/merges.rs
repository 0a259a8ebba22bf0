//! Several tables into one: what happens where keys meet.

use super::Ruled;
use crate::support::{Daemon, Database, assert_same_rows};

const MERGE: &str = "create table a (id int primary key, v text); create table b (id int primary key, v text);
    insert into a select i, 'a' || i from generate_series(1, 10) i;
    insert into b select i, 'b' || i from generate_series(FROM, 15) i";
const MERGED: &str = "create table t (id int primary key, v text, origin text not null)";

fn merge(what: &str, first: u32, mode: &str) -> Ruled {
    let rules = format!(
        "[[rule]]\nfrom = \"public.a\"\nto = \"t\"\nset = {{ origin = \"'a'\" }}
         [[rule]]\nfrom = \"public.b\"\nto = \"t\"\nset = {{ origin = \"'b'\" }}\non_existing = \"{mode}\""
    );
    Ruled::start(what, &MERGE.replace("FROM", &first.to_string()), MERGED, &rules)
}

#[test]
fn given_a_merge_of_distinct_keys_when_two_meet_then_it_stops() {
    let mut r = merge("merge_error", 11, "error");
    let both = "select id, v, 'a' from a union all select id, v, 'b' from b";
    r.same(both, "select id, v, origin from t");
    r.change(&[
        "update a set v = 'changed' where id = 3; update b set v = 'changed' where id = 13",
        "delete from a where id = 4; insert into b values (4, 'was a''s')",
        "delete from b where id = 12",
    ]);
    r.same(both, "select id, v, origin from t");
    r.stops(
        "insert into b values (5, 'taken')",
        &[
            "public.t: insert rows on the target",
            "two tables that rules merge have the same key (on_existing says what then)",
        ],
    );
}

#[test]
fn given_a_merge_that_skips_when_skipped_rows_change_then_the_others_stay_as_they_are() {
    let mut r = merge("merge_skip", 6, "skip");
    let first_wins = "select id, v, 'a' from a union all select id, v, 'b' from b where id not in (select id from a)";
    r.same(first_wins, "select id, v, origin from t");
    r.change(&[
        "update b set v = 'skipped' where id = 7; update b set v = 'own' where id = 14",
        "delete from b where id = 8; delete from b where id = 15; delete from a where id = 1",
        "insert into b values (2, 'skipped'), (20, 'own')",
        "update b set v = 'still skipped' where id = 2",
        "begin; insert into b values (3, 'x'); update b set v = 'y' where id = 3; delete from b where id = 3; commit",
        "begin; insert into b values (50, 'own'); insert into a values (51, 'first'); insert into b values (51, 'skipped'); commit",
        // The key of a row of its own moves onto a's, and the key of a skipped row to a free place.
        "update b set id = 5 where id = 13; update b set id = 30 where id = 9",
    ]);
    r.same(first_wins, "select id, v, origin from t");
    // What was left out stays left out, also when the row that was in its way goes; once deleted it may come again.
    r.change(&["delete from a where id = 6", "update b set v = 'late' where id = 6"]);
    assert_eq!(r.target("select v from t where id = 6"), Vec::<String>::new());
    r.change(&["delete from b where id = 6", "insert into b values (6, 'again')"]);
    assert_eq!(r.target("select v from t where id = 6"), ["again"]);
}

#[test]
fn given_a_merge_that_replaces_when_rows_meet_then_the_later_wins() {
    let mut r = merge("merge_replace", 6, "replace");
    let second_wins = "select id, v, 'b' from b union all select id, v, 'a' from a where id not in (select id from b)";
    r.same(second_wins, "select id, v, origin from t");
    r.change(&[
        "insert into b values (2, 'wins'), (21, 'own'); update b set v = 'wins again' where id = 7",
        "update b set id = 3 where id = 11",
        "insert into a values (40, 'own'); delete from a where id = 1",
    ]);
    r.same(second_wins, "select id, v, origin from t");
}

#[test]
fn given_merged_tables_when_one_is_truncated_then_it_stops_and_says_why() {
    let r = merge("merge_truncate", 11, "error");
    let mut r =
        r.stops("truncate b", &["public.b was truncated at the source, and public.t holds rows of other tables"]);
    assert_eq!(r.target("select count(*) from t"), ["15"]);
}

#[test]
fn given_a_merge_that_skips_when_killed_before_its_turn_then_its_own_rows_stay_its_own() {
    let rules =
        "[[rule]]\nfrom = \"public.a\"\nto = \"t\"\n[[rule]]\nfrom = \"public.b\"\nto = \"t\"\non_existing = \"skip\"";
    let db = Database::shared("skip_killed");
    let (mut source, mut target) = (db.on_source(), db.on_target());
    source.run(&MERGE.replace("FROM", "6"));
    target.run("create table t (id int primary key, v text)");
    let config = db.config().schema_exists().extra(rules).extra("[snapshot]\nworkers = 1");
    let mut daemon = Daemon::spawn(&config.clone().crash_at("copy.chunk_committed", 1));
    daemon.wait_crash();
    // Both the log and the later snapshot have these.
    source.run("insert into b values (20, 'own'), (3, 'skipped'); update b set v = 'own' where id = 14; delete from b where id = 15");
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_level(&db.source);
    source.run("update b set v = 'changed' where id in (3, 7, 14, 20); delete from b where id in (3, 8, 13)");
    daemon.wait_level(&db.source);
    let first_wins = "select * from a union all select * from b where id not in (select id from a)";
    assert_same_rows(&mut source, first_wins, &mut target, "select * from t");
}

#[test]
fn given_a_table_without_rules_that_another_merges_into_when_killed_in_the_copy_then_both_have_their_rows() {
    let db = Database::shared("merge_unruled");
    let (mut source, mut target) = (db.on_source(), db.on_target());
    source.run(
        "create table t (id int primary key, v text); create table b (id int primary key, v text);
         insert into t select i, 't' from generate_series(1, 500) i; insert into b select i, 'b' from generate_series(1001, 1500) i",
    );
    target.run("create table t (id int primary key, v text)");
    let config =
        db.config().schema_exists().extra("[[rule]]\nfrom = \"public.b\"\nto = \"t\"").extra("[snapshot]\nworkers = 1");
    let mut daemon = Daemon::spawn(&config.clone().crash_at("copy.chunk_committed", 1));
    daemon.wait_crash();
    source.run("update t set v = 'later' where id % 2 = 0; update b set v = 'later' where id % 2 = 0; delete from t where id = 7; delete from b where id = 1007");
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_level(&db.source);
    let both = "select * from t union all select * from b";
    assert_same_rows(&mut source, both, &mut target, "select * from t");
    source.run("begin; delete from t where id = 8; insert into b values (8, 'took over'); commit; update t set v = 'end' where id < 5");
    daemon.wait_level(&db.source);
    assert_same_rows(&mut source, both, &mut target, "select * from t");
    source.run("truncate t");
    assert_eq!(daemon.exit_status(), 1);
    assert!(daemon.log().contains("public.t was truncated at the source, and public.t holds rows of other tables"));
    assert_eq!(target.number("select count(*) from t where id > 1000"), 499);
}
