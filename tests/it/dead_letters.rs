//! Rows that a rule cannot carry: the migration stops and names the row, or sets it aside with all that follow it.

use crate::support::{Config, Daemon, Database};

const SCHEMA: &str = "create table items (id int primary key, v text, tags text[]);
    insert into items select n, n::text, array['a', n::text] from generate_series(1, 500) n;
    update items set v = 'seven' where id = 7";
const TARGET: &str = "create table numbers (id int primary key, n int);
    create table tags (id int not null, tag text); create index on tags (id)";
const RULES: &str = r#"
[[rule]]
from = "public.items"
to = "numbers"
drop = ["v", "tags"]
set = { n = "v::int" }
[[rule.explode]]
path = "tags"
to = "tags"
set = { id = "parent.id", tag = "item" }
"#;

fn migration(what: &str) -> (Database, Config) {
    let db = Database::shared(what);
    db.on_source().run(SCHEMA);
    db.on_target().run(TARGET);
    let config = db.config().extra(RULES);
    (db, config)
}

#[test]
fn given_a_row_that_cannot_be_cast_when_copied_then_it_stops_and_names_the_row_without_its_value() {
    let (db, config) = migration("dead_stop");
    let mut daemon = Daemon::spawn(&config);
    assert_eq!(daemon.exit_status(), 1);
    let log = daemon.log();
    assert!(log.contains("rule 1 (public.items → public.numbers), column n, row id=7:"), "{log}");
    assert!(!log.contains("seven"), "{log}");
    assert_eq!(db.on_target().number("select count(*) from numbers"), 0);
    // Once the row is mended, the next start goes on.
    db.on_source().run("update items set v = '7' where id = 7");
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_level(&db.source);
    assert_eq!(db.on_target().number("select count(*) from numbers where n = id"), 500);
}

#[test]
fn given_dead_letters_when_rows_cannot_be_carried_then_they_and_what_follows_them_are_set_aside_once() {
    let (db, config) = migration("dead_aside");
    let config = config.extra("[apply]\non_error = \"dead-letter\"");
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_level(&db.source);
    let (mut source, mut target) = (db.on_source(), db.on_target());
    assert_eq!(target.number("select count(*) from numbers"), 499);
    // In the copy each of a table's outputs is carried by itself.
    source.run(
        "begin; update items set v = 'eight' where id = 8; update items set v = '80' where id = 8; commit;
         update items set v = '900' where id = 9; delete from items where id = 8; update items set v = '70' where id = 7",
    );
    daemon.wait_level(&db.source);
    assert_eq!(target.one("select n from numbers where id = 9"), "900");
    assert_eq!(target.one("select n from numbers where id = 8"), "8", "it stays as it was before it was set aside");
    let letters = "select op, row_key->>'id', row_data->>'v' from switchyard.dead_letter order by seq";
    let row =
        |op: &str, id: &str, v: Option<&str>| vec![Some(op.to_owned()), Some(id.to_owned()), v.map(str::to_owned)];
    let wanted = vec![
        row("insert", "7", Some("seven")),
        row("update", "8", Some("eight")),
        row("update", "8", Some("80")),
        row("delete", "8", None),
        row("update", "7", Some("70")),
    ];
    assert_eq!(target.rows(letters), wanted);
    assert_eq!(daemon.says("/stream/dead_letters"), 5);
    assert!(!daemon.log().contains("eighty") && !daemon.log().contains("'seven'"), "{}", daemon.log());
    // A later start knows them.
    drop(daemon);
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_level(&db.source);
    source.run("update items set v = '71' where id = 7; update items set v = '901' where id = 9");
    daemon.wait_level(&db.source);
    assert_eq!(target.one("select n from numbers where id = 9"), "901");
    assert_eq!(daemon.says("/stream/dead_letters"), 6);
    assert_eq!(target.number("select count(*) from numbers where id = 7"), 0);
}
