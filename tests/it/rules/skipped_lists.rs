//! Lists of rows that a merge may leave out: the items of a row that was left out stay away, and another's items stay.

use super::{Ruled, has};
use crate::support::{Daemon, Database, assert_same_rows};

const SOURCE: &str = "create table a (id int primary key, v text, tags text[]);
    create table b (id int primary key, v text, tags text[], n int);
    insert into a select i, 'a' || i, array['a', i::text] from generate_series(1, 10) i;
    insert into b select i, 'b' || i, array['b', i::text, 'more'], i from generate_series(6, 15) i;
    insert into b values (16, 'none', null, 1), (17, 'none', '{}', 1)";
/// Row 1000 and its items are the target's own.
const TARGET: &str = "create table t (id bigint primary key, v text);
    create table tags (t_id int, n int, tag text, primary key (t_id, n));
    insert into t values (1000, 'own'); insert into tags values (1000, 1, 'own')";
const A: &str = "[[rule]]\nfrom = \"public.a\"\nto = \"t\"\ndrop = [\"tags\"]\n[[rule.explode]]\npath = \"tags\"\nto = \"tags\"\nset = { t_id = \"parent.id\", n = \"position\", tag = \"item\" }\n";

fn rules() -> String {
    // Its own rows of a are made by a rule that skips, too: the target's table holds rows before.
    let skip = "on_existing = \"skip\"\n[[rule.explode]]";
    let a = A.replace("[[rule.explode]]", skip);
    let b = a.replace("public.a", "public.b").replace("[\"tags\"]", "[\"tags\", \"n\"]");
    a + &b
}

const ROWS: &str = "select id, v from a union all select id, v from b where id not in (select id from a) and id <> 1000 union all select 1000, 'own'";
const ITEMS: &str = "select id, n, tag from a, unnest(tags) with ordinality u (tag, n)
    union all select id, u.n, tag from b, unnest(tags) with ordinality u (tag, n) where id not in (select id from a) and id <> 1000
    union all select 1000, 1, 'own'";

fn look(r: &mut Ruled) {
    r.same(ROWS, "select id, v from t");
    r.same(ITEMS, "select t_id, n, tag from tags");
}

#[test]
fn given_lists_of_skipped_rows_when_copied_and_followed_then_their_items_stay_away_and_others_stay() {
    let mut r = Ruled::start("skip_lists", SOURCE, TARGET, &rules());
    look(&mut r);
    assert_eq!(r.target("select count(*) from switchyard.skipped"), ["5"]);
    r.change(&[
        // Of skipped rows, and of own ones.
        "update b set tags = '{x}' where id in (7, 14); update b set tags = null where id = 6; update b set v = 'z' where id in (8, 15)",
        "update a set tags = '{y,z}' where id = 9; update a set tags = '{}' where id = 2",
        "delete from b where id in (8, 13)",
        // A new row that is skipped, one whose key the target had, and own ones.
        "insert into b values (2, 'x', '{no}', 1), (1000, 'x', '{no,no}', 1), (20, 'own', '{p,q}', 1), (21, 'own', null, 1)",
        "update b set tags = '{still no}' where id in (2, 1000); update b set tags = '{now}' where id in (16, 17, 21)",
        // Made and changed within one transaction, with every kind of list between.
        "begin; insert into b values (3, 'x', '{}', 1); update b set tags = '{a,b}' where id = 3; update b set tags = null where id = 3; commit",
        "begin; insert into b values (30, 'x', '{}', 1); update b set tags = '{a,b}' where id = 30; commit",
        "begin; insert into b values (4, 'x', '{n}', 1); delete from b where id = 4; insert into b values (4, 'y', '{n,o}', 1); commit",
        "begin; insert into b values (31, 'x', '{n}', 1); delete from b where id = 31; insert into b values (31, 'y', '{n,o}', 1); commit",
        "begin; delete from b where id = 14; insert into b values (14, 'again', '{again}', 1); commit",
        // Keys move: an own row onto another's, a skipped one to a free place, both ways with another list.
        "update b set id = 5 where id = 12; update b set id = 40 where id = 9; update b set id = 41, tags = '{m}' where id = 10",
        "update b set id = 1, tags = '{m}' where id = 11; update b set id = 42 where id = 20",
    ]);
    look(&mut r);
    // A skipped row is deleted while its item list changes in the same batch, and comes again.
    r.change(&[
        "begin; update b set tags = '{q}' where id = 7; delete from b where id = 7; commit",
        "begin; delete from b where id = 3; insert into b values (3, 'x', '{again}', 1); commit",
    ]);
    look(&mut r);
    // The row in the way goes, and its items with it; what was skipped stays away until it is made anew.
    r.change(&["delete from a where id = 5", "update b set tags = '{late}' where id = 5"]);
    assert_eq!(r.target("select count(*) from tags where t_id = 5"), ["0"]);
    r.change(&["delete from b where id = 5", "insert into b values (5, 'new', '{new}', 1)"]);
    look(&mut r);
}

#[test]
fn given_lists_of_skipped_rows_when_the_copy_is_killed_then_nothing_comes_twice_or_is_another_ones() {
    let db = Database::shared("skip_lists_killed");
    let (mut source, mut target) = (db.on_source(), db.on_target());
    source.run(SOURCE);
    target.run(TARGET);
    let config = db.config().schema_exists().extra(&rules()).extra("[snapshot]\nworkers = 1");
    for at in ["copy.chunk_read", "copy.chunk_committed"] {
        let mut daemon = Daemon::spawn(&config.clone().crash_at(at, 1));
        daemon.wait_crash();
        source.run("update b set tags = tags || '{later}', n = n + 1 where id in (7, 14); insert into b select max(id) + 1, 'new', '{i,j}', 1 from b; delete from b where id = 6");
    }
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_level(&db.source);
    source.run("update b set tags = '{end}' where id in (7, 8, 14, 18); delete from b where id in (9, 13)");
    daemon.wait_level(&db.source);
    assert_same_rows(&mut source, ROWS, &mut target, "select id, v from t");
    assert_same_rows(&mut source, ITEMS, &mut target, "select t_id, n, tag from tags");
}

#[test]
fn given_lists_under_a_mapped_key_when_rows_are_skipped_then_their_items_are_known_by_it() {
    let key = "uuid5('9f0a4c1e-0000-4000-8000-000000000009', PARENTid || ':' || PARENTpart)";
    let of = |parent: &str| key.replace("PARENT", parent);
    let rules = format!(
        "[[rule]]\nfrom = \"public.s\"\nto = \"t\"\ndrop = [\"id\", \"part\", \"l\"]\nset = {{ key = \"{}\", part2 = \"part\" }}\non_existing = \"skip\"
         [[rule.explode]]\npath = \"l\"\nto = \"items\"\nset = {{ part = \"parent.part\", t = \"{}\", who = \"item.who\" }}\n",
        of(""),
        of("parent.")
    );
    let mut r = Ruled::start(
        "skip_lists_uuid",
        "create extension \"uuid-ossp\"; create table s (id int, part text, v text, l jsonb, primary key (id, part));
         insert into s select i, 'é', 'v', jsonb_build_array(jsonb_build_object('who', i), '{}'::jsonb) from generate_series(1, 400) i",
        "create extension \"uuid-ossp\"; create table t (key uuid, part2 text, v text, primary key (part2, key));
         create table items (part text, t text, who text);
         insert into t select uuid_generate_v5('9f0a4c1e-0000-4000-8000-000000000009', i || ':é'), 'é', 'own' from generate_series(1, 50) i",
        &rules,
    );
    let items = "select uuid_generate_v5('9f0a4c1e-0000-4000-8000-000000000009', id || ':' || part)::text, part, i->>'who' from s, jsonb_array_elements(l) i where id > 50";
    r.same(items, "select t, part, who from items");
    r.change(&[
        "update s set l = l || '[{\"who\": \"more\"}]' where id % 7 = 0; delete from s where id % 11 = 0",
        "update s set l = '[]' where id % 13 = 0; insert into s select i, 'é', 'v', '[{\"who\": 1}]' from generate_series(401, 900) i",
    ]);
    r.same(items, "select t, part, who from items");
    assert_eq!(r.target("select count(*) from t where v = 'own'"), ["50"]);
}

#[test]
fn given_a_skipping_rule_whose_items_do_not_hold_the_parents_key_when_started_then_it_is_refused_with_the_remedy() {
    let db = Database::shared("skip_lists_bad");
    db.on_source().run(SOURCE);
    db.on_target().run(TARGET);
    let rules = rules().replacen("t_id = \"parent.id\"", "t_id = \"parent.id + 1\"", 1);
    let config = db.config().schema_exists().extra(&rules);
    let check = Daemon::command(&config, &["check"]);
    assert_eq!(check.status.code(), Some(1));
    has(
        &String::from_utf8_lossy(&check.stdout),
        &[
            "rule 1 (public.a → public.t): explode[0].set: the rule skips rows, and no column holds the key of public.t (id = id)",
            "set a column of the same type (bigint) to the same expression, with `parent.` before each column",
        ],
    );
}

#[test]
fn given_a_skipping_rule_when_a_key_changes_beside_a_value_that_was_not_sent_then_it_stops_instead_of_touching_anothers()
 {
    let mut r = Ruled::start(
        "skip_unsent",
        "create table s (id int primary key, big text); alter table s alter big set storage external;
         insert into s select i, repeat(md5(i::text), 120) from generate_series(1, 5) i",
        "create table t (id int primary key, big text); insert into t values (1, 'own'), (20, 'own')",
        "[[rule]]\nfrom = \"public.s\"\nto = \"t\"\non_existing = \"skip\"",
    );
    r.change(&["update s set id = 30, big = 'small' where id = 2"]);
    let mut r = r.stops(
        "update s set id = 20 where id = 1",
        &["public.s → public.t: the key of a row changed", "ALTER TABLE public.s REPLICA IDENTITY FULL"],
    );
    assert_eq!(r.target("select string_agg(id || '', ' ' order by id) from t where big = 'own'"), ["1 20"]);
}

#[test]
fn given_lists_of_skipped_rows_when_another_table_of_the_batch_collides_then_they_are_left_out_all_the_same() {
    let rules = format!("{}[[rule]]\nfrom = \"public.w\"\n", rules());
    let mut r = Ruled::start(
        "skip_lists_collide",
        &format!(
            "{SOURCE}; create table w (id int primary key, u int unique); insert into w select i, i from generate_series(1, 300) i"
        ),
        &format!("{TARGET}; create table w (id int primary key, u int unique)"),
        &rules,
    );
    // Values of a unique column go round in one transaction: the sets collide, and every table's changes are taken apart.
    let round = "update w set u = -u; update w set u = 301 + u";
    r.change(&[
        &format!("begin; {round}; delete from b where id in (7, 14); update b set tags = '{{x}}' where id in (8, 15); commit"),
        &format!("begin; insert into b values (7, 'back', '{{no}}', 1), (14, 'back', '{{yes}}', 1), (3, 'x', '{{no}}', 1), (60, 'x', '{{yes,yes2}}', 1); {round}; commit"),
        &format!("begin; update b set id = 4 where id = 12; {round}; update b set id = 70, tags = '{{m}}' where id = 9; delete from b where id = 3; commit"),
    ]);
    look(&mut r);
    r.same("select * from w", "select * from w");
    // The collisions were there: what is set in an order of its own cannot go round.
    assert!(r.daemon.log().contains("sets collided in a unique constraint"), "{}", r.daemon.log());
}
