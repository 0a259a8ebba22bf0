//! Rules that are others at the next start, where tables merge: what has to be copied again is, and nothing else.

use super::{Ruled, has};
use crate::support::{Daemon, Database};

const SOURCE: &str = "create table a (id int primary key, v text); create table b (id int primary key, v text, tags text[]);
    create table c (id int primary key, v text); create table alone (id int primary key, v text);
    insert into a select i, 'a' || i from generate_series(1, 100) i; insert into b select i, 'b' || i, array['x', i::text] from generate_series(51, 150) i;
    insert into c select i, 'c' || i from generate_series(1, 30) i; insert into alone select * from a";
const TARGET: &str = "create table t (id int primary key, v text, origin text); create table tags (t int, tag text);
    create table u (id int primary key, v text); create table alone (id int primary key, v text)";

fn rules(of_a: &str) -> String {
    format!(
        "[[rule]]\nfrom = \"public.a\"\nto = \"t\"\nset = {{ origin = \"'a'\" }}\n{of_a}
         [[rule]]\nfrom = \"public.b\"\nto = \"t\"\ndrop = [\"tags\"]\nset = {{ origin = \"'b'\" }}\non_existing = \"skip\"
         [[rule.explode]]\npath = \"tags\"\nto = \"tags\"\nset = {{ t = \"parent.id\", tag = \"item\" }}
         [[rule]]\nfrom = \"public.c\"\nto = \"u\"\n"
    )
}

/// What `t` holds where a's rows are those of a condition.
fn merged(of_a: &str) -> String {
    format!(
        "select id, v, 'a' from a where {of_a} union all select id, v, 'b' from b where id not in (select id from a where {of_a})"
    )
}

#[track_caller]
fn look(r: &mut Ruled, of_a: &str) {
    r.same(&merged(of_a), "select * from t");
    r.same(
        &format!("select id, unnest(tags) from b where id not in (select id from a where {of_a})"),
        "select * from tags",
    );
    r.same("select * from c", "select * from u");
    r.same("select * from alone", "select * from alone");
}

/// Starts with other rules, until both sides are level.
fn restart(r: &mut Ruled, rules: &str) {
    r.daemon = Daemon::spawn(&r.config.clone().without_extra().extra(rules));
    r.daemon.wait_level(&r.url);
}

#[test]
fn given_a_changed_rule_of_a_merge_when_started_then_all_tables_of_the_merge_are_copied_again() {
    let mut r = Ruled::start("changed_merge", SOURCE, TARGET, &rules(""));
    look(&mut r, "true");
    r.change(&[
        "insert into b values (10, 'skipped', '{no}'), (200, 'own', '{yes}'); update a set v = 'x' where id = 60",
    ]);
    assert_eq!(r.daemon.sigterm(), 0);
    r.source.run("update b set v = 'while it stood still' where id in (60, 70, 140); delete from a where id = 55; delete from b where id = 141; insert into c values (31, 'c')");
    // Half of a's rows: b's of those keys are not skipped any more.
    let half = rules("where = \"id % 2 = 0\"");
    restart(&mut r, &half);
    look(&mut r, "id % 2 = 0");
    let copied = |t: &str| r.daemon.metric("switchyard_rows_copied_total", &format!("\"public.{t}\""));
    assert_eq!((copied("a"), copied("b"), copied("c"), copied("alone")), (99.0, 101.0, 0.0, 0.0));
    has(
        &r.daemon.log(),
        &["the rules of public.a changed: the table is copied again", "public.b is copied again: it shares"],
    );
    r.change(&[
        "update b set tags = '{later}' where id in (60, 61); update b set v = 'y' where id in (62, 63); delete from b where id in (64, 65)",
        "delete from a where id = 66; update a set v = 'z' where id in (67, 68); insert into c values (32, 'c')",
    ]);
    // What was skipped stays skipped: a's row 66 is gone, and b's does not come by itself.
    r.source.run("delete from b where id = 66");
    r.change(&["insert into b values (66, 'again', '{again}')"]);
    look(&mut r, "id % 2 = 0");
    // A table leaves the merge, and goes to a place of its own.
    assert_eq!(r.daemon.sigterm(), 0);
    r.target.run("create table own (id int primary key, v text, origin text)");
    restart(&mut r, &rules("").replacen("to = \"t\"", "to = \"own\"", 1));
    r.same("select id, v, 'b' from b", "select * from t");
    r.same("select id, v, 'a' from a", "select * from own");
    r.same("select id, unnest(tags) from b", "select * from tags");
}

#[test]
fn given_a_changed_rule_of_a_merge_when_killed_at_every_step_of_copying_again_then_it_ends_level() {
    let mut r = Ruled::start("changed_killed", SOURCE, TARGET, &rules(""));
    r.change(&["insert into b values (10, 'skipped', '{no}'), (200, 'own', '{yes}')"]);
    assert_eq!(r.daemon.sigterm(), 0);
    let half = rules("where = \"id % 2 = 0\"");
    let config = r.config.clone().without_extra().extra(&half).extra("[snapshot]\nworkers = 1");
    let points = [("changed.emptied", 1), ("copy.chunk_committed", 1), ("copy.chunk_committed", 1), ("copy.loaded", 1)];
    for (n, (point, nth)) in points.into_iter().enumerate() {
        r.source.run(&format!(
            "update b set v = 'n{n}', tags = '{{n{n}}}' where id % 3 = {0}; delete from a where id = 40 + {n}; delete from b where id = 80 + {n}; insert into b values (300 + {n}, 'new', '{{z}}'), (40 + {n}, 'new', '{{z}}')",
            n % 3
        ));
        let mut daemon = Daemon::spawn(&config.clone().crash_at(point, nth));
        daemon.wait_crash();
    }
    restart(&mut r, &half);
    r.change(&["update b set v = 'end' where id % 4 = 0; update a set v = 'end' where id % 4 = 0; delete from b where id = 100"]);
    look(&mut r, "id % 2 = 0");
}

#[test]
fn given_a_changed_rule_when_a_target_held_rows_of_its_own_then_it_is_refused_and_nothing_is_emptied() {
    let db = Database::shared("changed_own");
    db.on_source().run(SOURCE);
    let mut target = db.on_target();
    target.run(TARGET);
    target.run("insert into tags values (1000, 'own')");
    let config = db.config().schema_exists();
    let mut daemon = Daemon::spawn(&config.clone().extra(&rules("")));
    daemon.wait_level(&db.source);
    assert_eq!(daemon.sigterm(), 0);
    let rows = target.number("select count(*) from t");
    let mut daemon = Daemon::spawn(&config.clone().extra(&rules("where = \"id > 3\"")));
    assert_eq!(daemon.exit_status(), 1);
    has(
        &daemon.log(),
        &["public.tags held rows before the migration", "put the rules back as they were, or begin anew"],
    );
    assert_eq!((target.number("select count(*) from t"), target.number("select count(*) from tags")), (rows, 101));
    // A new place of a rule that holds rows is not emptied either.
    target.run("create table kept (id int primary key, v text); insert into kept values (-1, 'kept')");
    let moved = rules("").replace("to = \"u\"", "to = \"kept\"");
    let mut daemon = Daemon::spawn(&config.clone().extra(&moved));
    assert_eq!(daemon.exit_status(), 1);
    has(
        &daemon.log(),
        &["the rules write public.kept now, and it holds rows already", "empty the table, or name another one"],
    );
    assert_eq!(target.number("select count(*) from kept"), 1);
    // Where the rule lets rows be there they stay.
    let skips = format!("{moved}on_existing = \"skip\"\n");
    let mut daemon = Daemon::spawn(&config.clone().extra(&skips));
    daemon.wait_level(&db.source);
    assert_eq!((target.number("select count(*) from kept"), target.number("select count(*) from u")), (31, 0));
    // With the old rules for the rest it goes on; that table now holds rows of its own and cannot be emptied.
    assert_eq!(daemon.sigterm(), 0);
    let mut daemon = Daemon::spawn(&config.clone().extra(&rules("")));
    assert_eq!(daemon.exit_status(), 1);
    has(&daemon.log(), &["public.kept held rows before the migration"]);
    let mut daemon = Daemon::spawn(&config.extra(&skips));
    daemon.wait_level(&db.source);
}
