//! Tables that refer to each other in a circle, of two, of three and of one, however the target's tables came to be.

use crate::scenario::{Roles, assert_same_schema, database, finish};
use crate::support::{Config, Daemon, Database, assert_same_rows};

/// a → b → a; x → y → z → x, none of it NULL; tree → tree. KEY is the type of keys.
const TABLES: &str = "create table a (id KEY primary key, b KEY, v text); create table b (id KEY primary key, a KEY not null, v text);
    create table x (id KEY primary key, y KEY not null, v text); create table y (id KEY primary key, z KEY not null, v text);
    create table z (id KEY primary key, x KEY not null, v text); create table tree (id KEY primary key, parent KEY, v text)";
const REFERENCES: &str = "alter table a add constraint a_b foreign key (b) references b on delete set null;
    alter table b add constraint b_a foreign key (a) references a on delete cascade;
    alter table x add constraint x_y foreign key (y) references y on delete cascade on update cascade deferrable initially deferred;
    alter table y add constraint y_z foreign key (z) references z on delete cascade on update cascade deferrable initially deferred;
    alter table z add constraint z_x foreign key (x) references x on delete cascade on update cascade deferrable initially deferred;
    alter table tree add constraint tree_tree foreign key (parent) references tree on delete cascade";
const ROWS: &str = "insert into a select i, null, 'a' from generate_series(1, 2000) i; insert into b select i, i, 'b' from generate_series(1, 2000) i;
    update a set b = 2001 - id; begin; insert into x select i, 1 + i % 500, 'x' from generate_series(1, 500) i;
    insert into y select i, 1 + i % 500, 'y' from generate_series(1, 500) i; insert into z select i, 1 + i % 500, 'z' from generate_series(1, 500) i; commit;
    insert into tree select i, nullif(i / 3, 0), 't' from generate_series(1, 3000) i";
const CHANGES: [&str; 6] = [
    "begin; insert into a values (5000, null, 'n'); insert into b values (5000, 5000, 'n'); update a set b = 5000 where id = 5000; commit",
    "begin; insert into x values (900, 901, 'n'); insert into y values (901, 902, 'n'); insert into z values (902, 900, 'n'); commit",
    "delete from a where id in (7, 8); delete from b where id in (9, 10); update a set v = 'u' where id % 5 = 0",
    // The cascade runs once around the circle.
    "update x set id = 10001 where id = 100; update y set id = 10002 where id = 200",
    "delete from tree where id in (50, 1000); update tree set parent = 2 where id = 2999; insert into tree values (4000, 2, 'n'), (4001, 4000, 'n')",
    "delete from z where id = 902",
];

const PLAIN: [(&str, &str); 6] = [
    ("select * from a", "select * from a"),
    ("select * from b", "select * from b"),
    ("select * from x", "select * from x"),
    ("select * from y", "select * from y"),
    ("select * from z", "select * from z"),
    ("select * from tree", "select * from tree"),
];

/// Copies, also across a kill in the middle with changes meanwhile, follows, finishes; then all keys of others hold again.
fn carried(db: &Database, config: &Config, same: &[(String, String)]) {
    let (mut source, mut target) = (db.on_source(), db.on_target());
    let mut look = |source: &mut crate::support::Sql| {
        for (on_source, on_target) in same {
            assert_same_rows(source, on_source, &mut target, on_target);
        }
    };
    let small = config.clone().env("SWITCHYARD_CHUNK_BYTES", 4 * 8192).env("SWITCHYARD_WHOLE_TABLE_BYTES", 0);
    let mut daemon = Daemon::spawn(&small.clone().crash_at("copy.chunk_committed", 9));
    daemon.wait_crash();
    for sql in &CHANGES[..3] {
        source.run(sql);
    }
    let mut daemon = Daemon::spawn(&small);
    daemon.wait_level(&db.source);
    look(&mut source);
    for sql in &CHANGES[3..] {
        source.run(sql);
    }
    daemon.wait_level(&db.source);
    look(&mut source);
    assert_eq!(daemon.sigterm(), 0);
    finish(config);
    let held = "select string_agg(conname || ' ' || convalidated, ', ' order by conname) from pg_constraint where contype = 'f'";
    let all = "a_b true, b_a true, tree_tree true, x_y true, y_z true, z_x true";
    assert_eq!(db.on_target().one(held), all);
}

fn plain() -> Vec<(String, String)> {
    PLAIN.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

fn prepared(roles: Roles, target: bool) -> Database {
    let db = database(roles);
    let tables = TABLES.replace("KEY", "int");
    let mut source = db.on_source();
    for sql in [tables.as_str(), REFERENCES, ROWS] {
        source.run(sql);
    }
    if target {
        let mut target = db.on_target();
        target.run(&tables);
        target.run(REFERENCES);
    }
    db
}

#[test]
fn given_circles_of_references_when_the_schema_is_made_then_rows_and_references_arrive() {
    for roles in [Roles::Superuser, Roles::Plain] {
        let db = prepared(roles, false);
        carried(&db, &db.config(), &plain());
        assert_same_schema(&db);
    }
}

#[test]
fn given_circles_of_references_when_the_targets_tables_are_there_then_rows_arrive_and_references_hold() {
    for roles in [Roles::Superuser, Roles::Plain] {
        let db = prepared(roles, true);
        carried(&db, &db.config().schema_exists(), &plain());
        assert_same_schema(&db);
    }
}

#[test]
fn given_circles_of_references_when_keys_are_mapped_then_references_follow() {
    const NAMESPACE: &str = "7f0a4c1e-0000-4000-8000-000000000007";
    let links = [("a", "b"), ("b", "a"), ("x", "y"), ("y", "z"), ("z", "x"), ("tree", "parent")];
    let mut rules = String::new();
    let mut same = Vec::new();
    for (table, column) in links {
        let to = if column == "parent" { "tree" } else { column };
        let map = |kind: &str, column: &str| format!("uuid5('{NAMESPACE}', '{kind}/' || {column})");
        rules.push_str(&format!(
            "[[rule]]\nfrom = \"public.{table}\"\nset = {{ id = \"{}\", {column} = \"{}\" }}\n",
            map(table, "id"),
            map(to, column)
        ));
        let there = |kind: &str, column: &str| format!("uuid_generate_v5('{NAMESPACE}', '{kind}/' || {column})");
        same.push((
            format!("select {}, {}, v from {table}", there(table, "id"), there(to, column)),
            format!("select * from {table}"),
        ));
    }
    for roles in [Roles::Superuser, Roles::Plain] {
        let db = prepared(roles, false);
        db.on_source().run("create extension \"uuid-ossp\"");
        let mut target = db.on_target();
        target.run(&TABLES.replace("KEY", "uuid"));
        target.run(REFERENCES);
        // Whether Switchyard makes the chosen tables without rules (here: none) makes no difference.
        let config = if roles == Roles::Plain {
            db.config().extra("[tables]\ninclude = [\"public.*\"]")
        } else {
            db.config().schema_exists()
        };
        carried(&db, &config.extra(&rules), &same);
    }
}
