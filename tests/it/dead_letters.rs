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

/// The target's tables want more of rows than the source's do.
const STRICT: &str =
    "create table t (id int primary key, v varchar(5), n int check (n < 1000), u int unique, must int not null);
    create table plain (id int primary key, v text)";

fn strict(what: &str) -> (Database, Config) {
    let db = Database::shared(what);
    db.on_source().run(
        "create table t (id int primary key, v text, n int, u int, must int); create table plain (id int primary key, v text);
         insert into t select i, 'v' || i, i, i, 0 from generate_series(1, 500) i; insert into plain select id, v from t",
    );
    db.on_target().run(STRICT);
    let config = db.config().schema_exists().extra("[apply]\non_error = \"dead-letter\"");
    (db, config)
}

/// Operation, key, and whether it only follows an earlier one, in the order of the log.
fn letters(db: &Database) -> Vec<String> {
    let sql = "select concat_ws(' ', op, row_key->>'id', case when message like 'an earlier change%' then 'follows' end) from switchyard.dead_letter order by seq";
    db.on_target().rows(sql).into_iter().map(|mut r| r.swap_remove(0).unwrap_or_default()).collect()
}

#[test]
fn given_dead_letters_when_the_target_refuses_rows_then_they_and_what_follows_them_are_set_aside_and_the_rest_arrives()
{
    let (db, config) = strict("dead_target");
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_level(&db.source);
    let (mut source, mut target) = (db.on_source(), db.on_target());
    source.run("begin; update t set n = n + 1; update plain set v = 'one'; update t set v = 'too long' where id = 7; update t set n = 5000 where id = 8;
        insert into t values (600, 'x', 1, 600, null), (601, 'x', 1, 601, 1), (604, 'x', 1, 604, null); update t set must = 1 where id = 600; update t set n = -1 where id = 7;
        update t set id = 700, v = 'far too long' where id = 9; insert into t values (602, 'x', 1, 20, 1), (603, 'x', 1, 21, 1); update t set u = -20 where id = 20; commit");
    source.run("update t set n = -2 where id in (7, 10, 700); delete from t where id = 600; update plain set v = 'two' where id < 5");
    daemon.wait_level(&db.source);
    let mut said = letters(&db);
    // What lay in one batch is not known beforehand: a row that another change of its batch mends may arrive at once.
    said.sort();
    said.dedup();
    for wanted in ["update 7", "update 8", "insert 604", "update 9", "insert 603"] {
        assert!(said.iter().any(|s| s == wanted || *s == format!("{wanted} follows")), "{wanted}: {said:?}");
    }
    // The row whose place another one leaves later in its transaction: together they arrive, apart the first is refused. Which
    // of both it is depends on where the halves of the batch end.
    let mended = target.number("select count(*) from t where id = 602") == 1;
    assert_eq!(mended, !said.iter().any(|s| s == "insert 602"), "{said:?}");
    let dead = if mended { "(7, 8, 9, 600, 603, 604, 700)" } else { "(7, 8, 9, 600, 602, 603, 604, 700)" };
    let rows = |set: &str| format!("select * from t where id not in {dead} {set}");
    crate::support::assert_same_rows(&mut source, &rows(""), &mut target, &rows(""));
    crate::support::assert_same_rows(&mut source, "select * from plain", &mut target, "select * from plain");
    // As they were before the first change that was refused, or before all of its batch.
    assert_eq!(target.one("select v from t where id = 7"), "v7");
    assert_eq!(target.number("select count(*) from t where id in (600, 603, 604, 700)"), 0);
    let log = daemon.log();
    assert!(!log.contains("too long'") && !log.contains("5000"), "{log}");
    let messages = target.one("select string_agg(message, E'\\n') from switchyard.dead_letter");
    assert!(messages.contains("value too long for type character varying(5) (SQLSTATE 22001)"), "{messages}");
    assert!(
        messages.contains("violates not-null constraint") && messages.contains("violates unique constraint"),
        "{messages}"
    );
    // A later start knows them, by their new keys, too.
    let before = letters(&db).len();
    drop(daemon);
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_level(&db.source);
    source.run("update t set v = 'fine' where id in (7, 700); update t set v = 'fine' where id = 11; delete from t where id = 8");
    daemon.wait_level(&db.source);
    assert_eq!(letters(&db)[before..], ["update 7 follows", "update 700 follows", "delete 8 follows"]);
    assert_eq!(target.one("select v from t where id = 11"), "fine");
    assert_eq!(daemon.says("/stream/dead_letters"), letters(&db).len());
}

#[test]
fn given_dead_letters_when_one_of_many_rows_is_refused_in_a_large_transaction_then_only_it_is_missing() {
    let (db, config) = strict("dead_large");
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_level(&db.source);
    let (mut source, mut target) = (db.on_source(), db.on_target());
    // More than one piece; refused in several of them, a row that follows in another, and batches that are on their way.
    source.run("insert into t select i, case when i % 20000 = 0 then 'too long' else 'v' end, 1, i, 1 from generate_series(1001, 120000) i");
    source.run("update t set n = 2 where id % 10000 = 0; update plain set v = repeat('p', 5000)");
    daemon.wait_level(&db.source);
    let rows = "select * from t where id % 20000 <> 0";
    crate::support::assert_same_rows(&mut source, rows, &mut target, rows);
    crate::support::assert_same_rows(&mut source, "select * from plain", &mut target, "select * from plain");
    let mut said = letters(&db);
    // The server updates in an order of its own.
    let mut follow = said.split_off(6);
    follow.sort_by_key(|s| s.len());
    follow[..4].sort();
    assert_eq!(follow, (1..=6).map(|n| format!("update {} follows", n * 20000)).collect::<Vec<_>>());
    assert_eq!(said, (1..=6).map(|n| format!("insert {}", n * 20000)).collect::<Vec<_>>());
}

#[test]
fn given_dead_letters_when_the_applier_is_killed_then_what_was_set_aside_is_there_once() {
    let (db, config) = strict("dead_killed");
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_level(&db.source);
    drop(daemon);
    let (mut source, mut target) = (db.on_source(), db.on_target());
    source.run("update t set v = 'too long' where id % 100 = 0; update t set n = 0 where id % 50 = 0");
    for _ in 0..2 {
        let mut daemon = Daemon::spawn(&config.clone().crash_at("apply.before_commit", 1));
        daemon.wait_crash();
        assert_eq!(letters(&db), Vec::<String>::new());
    }
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_level(&db.source);
    let mut said = letters(&db);
    said.sort();
    let of = |n: u32| [format!("update {n}"), format!("update {n} follows")];
    assert_eq!(said, [100, 200, 300, 400, 500].into_iter().flat_map(of).collect::<Vec<_>>());
    assert_eq!(target.number("select count(*) from t where n = 0"), 5);
}

#[test]
fn given_dead_letters_under_rules_when_the_target_refuses_a_row_or_an_item_then_all_of_the_row_is_set_aside() {
    let (db, config) = migration("dead_rules");
    db.on_target().run("alter table numbers add check (n < 10000); alter table tags add check (tag <> 'bad'); alter table tags add unique (id, tag)");
    db.on_source().run("update items set v = '7' where id = 7");
    let mut daemon = Daemon::spawn(&config.extra("[apply]\non_error = \"dead-letter\""));
    daemon.wait_level(&db.source);
    let (mut source, mut target) = (db.on_source(), db.on_target());
    source.run("update items set v = '99999', tags = '{new}' where id = 1; update items set tags = '{bad}', v = '22' where id = 2;
        update items set tags = '{x,x}' where id = 3; update items set v = 'word' where id = 4; update items set v = '55', tags = '{y}' where id = 5");
    // In one batch with the first, it would mend what is refused before anybody sees it.
    daemon.wait_level(&db.source);
    source.run("update items set v = '0', tags = '{}' where id < 10");
    daemon.wait_level(&db.source);
    let wanted: Vec<String> =
        (1..=4).map(|n| format!("update {n}")).chain((1..=4).map(|n| format!("update {n} follows"))).collect();
    let mut said = letters(&db);
    said.sort_by_key(|s| s.contains("follows"));
    let (first, rest) = (&mut said[..4].to_vec(), &mut said[4..].to_vec());
    first.sort();
    rest.sort();
    assert_eq!([first.clone(), rest.clone()].concat(), wanted);
    assert_eq!(target.number("select count(*) from numbers where id < 5 and n = id"), 4);
    assert_eq!(target.number("select count(*) from tags where id < 5"), 8);
    assert_eq!(target.number("select count(*) from numbers where n = 0"), 5);
    assert_eq!(target.number("select count(*) from tags where id between 5 and 9"), 0);
}

#[test]
fn given_dead_letters_when_the_target_refuses_a_row_of_the_copy_then_it_stops_and_says_what_it_can_do() {
    let (db, config) = strict("dead_copy");
    db.on_source().run("update t set must = null where id = 100");
    let mut daemon = Daemon::spawn(&config);
    assert_eq!(daemon.exit_status(), 1);
    let log = daemon.log();
    for words in [
        "copying public.t",
        "null value in column \"must\"",
        "sets aside what the target refuses in the stream, not in the copy",
    ] {
        assert!(log.contains(words), "{words:?} is not in\n{log}");
    }
    db.on_source().run("update t set must = 0 where id = 100");
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_level(&db.source);
    assert_eq!(db.on_target().number("select count(*) from t"), 500);
}
