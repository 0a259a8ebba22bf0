//! Schema changes while the stream runs, the preflight, and what is removed at the end.

use bson::{Bson, doc};
use switchyard::sandbox::{self, MongoServer};

use super::{Pair, postgres};
use crate::support::Daemon;

#[test]
fn given_schema_changes_when_followed_then_documents_have_them() {
    let pair = Pair::shared(
        "ddl",
        "create table t (id int primary key, a varchar(20), n int); insert into t select g, 'x' || g, g from generate_series(1, 30) g",
    );
    let (mut daemon, mut sql) = pair.ready();
    let target = pair.target();
    sql.run("alter table t add column c int not null default 7; insert into t values (31, 'y', 31, 8); update t set c = 9 where id = 1");
    sql.run("begin; insert into t values (32, 'z', 32, 8); alter table t rename column a to label; insert into t values (33, 'w', 33, 8); commit");
    sql.run(
        "alter table t drop column n; alter table t add column d timestamptz; update t set label = 'v' where id = 2",
    );
    sql.run("create table u (id int primary key, j jsonb); insert into u values (1, '[1]'); alter table t alter label type text; insert into u values (2, '{}')");
    target.wait_for("u", doc! { "_id": 2 });
    assert_eq!(target.all("u"), [doc! { "_id": 1, "j": [1] }, doc! { "_id": 2, "j": {} }]);
    let all = target.all("t");
    assert_eq!(all.len(), 33);
    assert!(
        all.iter()
            .all(|d| d.contains_key("label") && !d.contains_key("a") && !d.contains_key("n") && d.contains_key("c")),
        "{all:?}"
    );
    assert_eq!((all[0].get_i32("c").unwrap(), all[2].get_i32("c").unwrap()), (9, 7));
    assert_eq!((all[1].get_str("label").unwrap(), all[1].get("d")), ("v", Some(&Bson::Null)));
    assert_eq!(all[31].get_str("label").unwrap(), "z");
    assert_eq!(daemon.sigterm(), 0);
    // What would change values without a word in the log stops the stream.
    let mut daemon = Daemon::spawn(&pair.config());
    daemon.ready();
    sql.run("alter table t alter c type text using 'c' || c");
    assert_eq!(daemon.exit_status(), 1);
    assert!(daemon.log().contains("To go on"), "{}", daemon.log());
}

#[test]
fn given_a_target_with_accounts_when_checked_then_what_lacks_is_named_and_with_it_the_migration_runs() {
    let mongo = MongoServer::builder(&sandbox::find_mongo().unwrap()).auth(true).start().unwrap();
    let pg = postgres();
    let pair = Pair::on(
        &pg,
        &mongo,
        "grants",
        "create table t (id int primary key, at timestamptz); insert into t values (1, null)",
    );
    let db = pair.name.clone();
    mongo
        .run("admin", doc! { "createUser": "mover", "pwd": "pässword", "roles": [{ "role": "read", "db": &db }] })
        .unwrap();
    let config = pair.config().target(&mongo.url_as("mover", "pässword", &db));
    let output = Daemon::command(&config, &["check"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("grantRolesToUser(\"mover\"") && text.contains("microseconds"), "{text}");
    let roles = doc! { "grantRolesToUser": "mover", "roles": [
    { "role": "readWrite", "db": &db }, { "role": "readWrite", "db": "switchyard" }, { "role": "dbAdmin", "db": "switchyard" }] };
    mongo.run("admin", roles).unwrap();
    let output = Daemon::command(&config, &["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let mut daemon = Daemon::spawn(&config);
    daemon.ready();
    assert_eq!(daemon.sigterm(), 0);
    let output = Daemon::command(&config, &["finish", "--yes"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let left = pair.target().run_in("admin", doc! { "listDatabases": 1, "nameOnly": true });
    assert!(!left.to_string().contains("\"switchyard\""), "{left}");
    assert_eq!(pair.target().count("t"), 1);
}

#[test]
fn given_targets_that_cannot_be_when_checked_then_each_is_refused_with_what_to_do() {
    let pair = Pair::shared(
        "refused",
        "create table t (id int primary key); create table v (id int primary key); create table c (id int primary key, \"a\" int, \"a.b\" int)",
    );
    let target = pair.target();
    target.run(doc! { "insert": "t", "documents": [{ "_id": 1 }] });
    target.run(doc! { "create": "v", "viewOn": "t", "pipeline": [] });
    let output = Daemon::command(&pair.config(), &["check"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("holds documents already") && text.contains("is a view"), "{text}");
    assert!(text.contains("make one field of the document"), "{text}");
    let alone = MongoServer::builder(&sandbox::find_mongo().unwrap()).standalone().start().unwrap();
    let output = Daemon::command(&pair.config().target(&alone.url("x")), &["check"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("rs.initiate()"), "{text}");
}
