//! Killed between two steps of making tables, and gone on with.

use super::{CHANGES, OBJECTS, objects, prepared, same};
use crate::support::Daemon;

#[test]
fn given_a_kill_at_every_step_when_started_again_then_everything_is_made_once() {
    for (point, nth) in [
        ("copy.schema_made", 1),
        ("copy.planned", 1),
        ("copy.indexed", 1),
        ("copy.indexed", 4),
        ("copy.loaded", 1),
        ("stream.constraints_made", 1),
    ] {
        let (db, mut source, mut target, config) = prepared("made_killed");
        let mut daemon = Daemon::spawn(&config.clone().crash_at(point, nth));
        daemon.wait_crash();
        for sql in CHANGES {
            source.run(sql);
        }
        let mut daemon = Daemon::spawn(&config);
        daemon.wait_level(&db.source);
        same(&mut source, &mut target);
        assert_eq!(objects(&mut target).join("\n"), OBJECTS, "{point}");
        assert_eq!(daemon.sigterm(), 0);
        drop((source, target, daemon));
        db.drop();
    }
}

#[test]
fn given_a_kill_in_the_middle_of_tables_when_the_source_changes_meanwhile_then_rows_and_objects_are_right() {
    for nth in [3, 20, 45] {
        let (db, mut source, mut target, config) = prepared("made_middle");
        let config = config.env("SWITCHYARD_CHUNK_BYTES", 2 * 8192).env("SWITCHYARD_WHOLE_TABLE_BYTES", 0);
        let mut daemon = Daemon::spawn(&config.clone().crash_at("copy.chunk_committed", nth));
        daemon.wait_crash();
        for sql in CHANGES {
            source.run(sql);
        }
        // Two rows exchange what is unique: both moments are on the target until the stream has passed.
        source.run("begin; update users set mail = 'w@w' where id = 100; update users set mail = '100@x.org' where id = 1900; update users set mail = '1900@x.org' where id = 100; commit");
        let mut daemon = Daemon::spawn(&config);
        daemon.wait_level(&db.source);
        same(&mut source, &mut target);
        assert_eq!(objects(&mut target).join("\n"), OBJECTS, "{nth}");
        source.run("update users set tags = '{last}' where id % 100 = 0; delete from orders where id % 100 = 5");
        daemon.wait_level(&db.source);
        same(&mut source, &mut target);
    }
}

#[test]
fn given_a_rule_that_writes_another_table_now_when_started_then_that_one_is_made_and_filled() {
    let (db, mut source, mut target, config) = prepared("made_changed");
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_level(&db.source);
    assert_eq!(daemon.sigterm(), 0);
    let other = config.clone().edited("to = \"app.lines\"", "to = \"app.items\"");
    let mut daemon = Daemon::spawn(&other);
    daemon.wait_level(&db.source);
    source.run("update orders set lines = '[{\"sku\": \"new\"}]' where id % 7 = 0");
    daemon.wait_level(&db.source);
    assert_eq!(target.number("select count(*) from app.lines"), 0);
    assert_eq!(
        target.number("select count(*) from app.items"),
        source.number("select sum(jsonb_array_length(lines)) from orders")
    );
    assert!(
        objects(&mut target)
            .contains(&"CREATE INDEX items_order_id_idx ON app.items USING btree (order_id)".to_owned())
    );
    assert_eq!(
        target.number("select count(*) from pg_constraint where conname = 'orders_account_fkey' and convalidated"),
        1
    );
    // Another rule of a merge: the table that the migration made may be emptied.
    assert_eq!(daemon.sigterm(), 0);
    let mut daemon =
        Daemon::spawn(&other.edited("on_existing = \"skip\"", "where = \"id % 2 = 0\"\non_existing = \"skip\""));
    // The filter reads the key alone.
    daemon.wait_level(&db.source);
    assert_eq!(target.number("select count(*) from app.olds where origin = 'b'"), 200);
    // A table that somebody dropped is not made again: its rows would be missing.
    assert_eq!(daemon.sigterm(), 0);
    target.run("drop table app.items");
    let mut daemon = Daemon::spawn(&config.edited("to = \"app.lines\"", "to = \"app.items\""));
    assert_eq!(daemon.exit_status(), 1);
    assert!(daemon.log().contains("app.items: the target has no such table"), "{}", daemon.log());
}

#[test]
fn given_a_new_rule_that_passes_a_type_which_was_left_behind_when_started_then_the_type_comes_too() {
    let (db, mut source, mut target, config) = prepared("made_type");
    let of = |more: &str| {
        let rule = "[tables]\ninclude = [\"public.old_a\", \"public.users\"]\n[[rule]]\nfrom = \"public.users\"\nto = \"app.TO\"\ndrop = [\"secret\", \"tags\"MORE]\n";
        let (to, drop) = if more.is_empty() { ("people", "") } else { ("moodless", more) };
        config.clone().without_extra().extra(&rule.replace("TO", to).replace("MORE", drop))
    };
    let mut daemon = Daemon::spawn(&of(", \"mood\""));
    daemon.wait_level(&db.source);
    let types = "select coalesce(string_agg(typname, ' ' order by typname), '') from pg_type where typtype in ('e', 'd') and oid >= 16384";
    assert_eq!(target.one(types), "email");
    assert_eq!(daemon.sigterm(), 0);
    let mut daemon = Daemon::spawn(&of(""));
    daemon.wait_level(&db.source);
    source.run("update users set mood = 'sad' where id = 1");
    daemon.wait_level(&db.source);
    assert_eq!(target.one(types), "email mood");
    assert_eq!(target.one("select mood from app.people where id = 1"), "sad");
    assert_eq!(target.number("select count(*) from app.people"), 2000);
    assert_eq!(target.number("select count(*) from app.moodless"), 0);
}
