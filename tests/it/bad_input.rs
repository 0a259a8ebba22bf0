//! What an operator may get wrong: each with the documented exit status, and a message that says what to do.

use switchyard::sandbox::{self, PgServer};

use crate::scenario::{Roles, database, with_user};
use crate::support::{Config, Daemon, Database, Sql, assert_equal, fresh_name, with_port};

/// What a command said, all of it.
fn told(config: &Config, args: &[&str]) -> (i32, String) {
    let o = Daemon::command(config, args);
    let text = String::from_utf8_lossy(&[&o.stdout[..], &o.stderr[..]].concat()).into_owned();
    (o.status.code().expect("an exit status"), text)
}

/// Both `check` and `run` end with 1 and say all of `words`.
#[track_caller]
fn refused(config: &Config, words: &[&str]) {
    for args in [&["check"][..], &["run", "--no-progress"]] {
        let (status, said) = told(config, args);
        assert_eq!(status, 1, "{args:?}: {said}");
        for w in words {
            assert!(said.contains(w), "{args:?} does not say {w:?}: {said}");
        }
        assert!(!said.contains("not-the-password"), "{said}");
    }
}

/// Nothing of a refused migration is left on either side.
#[track_caller]
fn nothing_left(db: &Database) {
    let mut source = db.on_source();
    assert_eq!(source.number("select count(*) from pg_publication"), 0);
    assert_eq!(source.number("select count(*) from pg_replication_slots where database = current_database()"), 0);
    for mut side in [source, db.on_target()] {
        assert_eq!(side.number("select count(*) from pg_namespace where nspname = 'switchyard'"), 0);
    }
}

#[test]
fn given_addresses_that_lead_nowhere_when_started_then_it_says_which_and_why() {
    let db = database(Roles::Superuser);
    db.on_source().run("create table t (id int primary key)");
    let nowhere = db.source.replace(&db.name, "no_such_db");
    refused(&db.config().source(&nowhere), &["source", "no_such_db", "does not exist"]);
    refused(
        &db.config().target(&db.target.replace(&db.name, "no_such_db")),
        &["target", "no_such_db", "does not exist"],
    );
    refused(&db.config().source(&with_user(&db.source, "no_such_role")), &["no_such_role"]);
    // The same address is a slip in the file.
    let (status, said) = told(&db.config().target(&db.source), &["check"]);
    assert_eq!(status, 2, "{said}");
    assert!(said.contains("target.url") && said.contains("source's own database"), "{said}");
    // A host that does not answer may come back: `check` says so, `run` waits and says for what.
    let dead = with_port(&db.target, 1);
    let (status, said) = told(&db.config().target(&dead), &["check"]);
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("target") && said.contains("127.0.0.1:1"), "{said}");
    let mut daemon = Daemon::spawn(&db.config().target(&dead));
    assert!(daemon.wait_waiting("target").contains("127.0.0.1:1"));
    assert_eq!(daemon.sigterm(), 0);
    nothing_left(&db);
    // The same server by another way shows only when both are asked.
    let proxy = sandbox::Proxy::start(url::Url::parse(&db.source).unwrap().port().unwrap()).unwrap();
    let by_proxy = with_port(&db.source, proxy.port());
    refused(&db.config().target(&by_proxy), &["source and target are the same database", "target.url"]);
    nothing_left(&db);
}

#[test]
fn given_passwords_and_tls_names_that_are_wrong_when_started_then_it_says_so() {
    let install = sandbox::find_postgres(None).unwrap();
    let server = PgServer::builder(&install)
        .setting("wal_level", "logical")
        .setting("fsync", "off")
        .tls(true)
        .password_auth(true)
        .start()
        .unwrap();
    server.psql("create database a").unwrap();
    server.psql("create database b").unwrap();
    server.psql_in("a", "create table t (id int primary key); insert into t values (1)").unwrap();
    let name = fresh_name("secret");
    let good = Config::new(&name, &server.url("a"), &server.url("b"));
    let wrong = server.url_as("postgres", "not-the-password", "a");
    refused(&good.clone().source(&wrong), &["source", "password"]);
    refused(&good.clone().target(&server.url_as("postgres", "not-the-password", "b")), &["target", "password"]);
    let ca = server.tls_ca().unwrap().display().to_string();
    let strict =
        |url: &str, host: &str| format!("{}?sslmode=verify-full&sslrootcert={ca}", url.replace("127.0.0.1", host));
    // The certificate is for localhost alone.
    refused(
        &good.clone().source(&strict(&server.url("a"), "127.0.0.1")),
        &["source", "127.0.0.1", "certificate", "sslmode"],
    );
    refused(&good.clone().target(&strict(&server.url("b"), "127.0.0.1")), &["target", "127.0.0.1", "certificate"]);
    let other_ca = format!("{}?sslmode=verify-full", server.url("a").replace("127.0.0.1", "localhost"));
    refused(&good.clone().source(&other_ca), &["source", "certificate", "sslrootcert"]);
    let right = good.source(&strict(&server.url("a"), "localhost")).target(&strict(&server.url("b"), "localhost"));
    assert_eq!(told(&right, &["check"]).0, 0, "{}", told(&right, &["check"]).1);
    let mut daemon = Daemon::spawn(&right);
    daemon.ready();
    assert_eq!(server.psql_in("b", "select count(*) from t").unwrap(), "1");
    assert_eq!(daemon.sigterm(), 0);
}

#[test]
fn given_a_source_without_logical_log_or_a_free_slot_when_started_then_the_setting_is_named() {
    let db = database(Roles::Superuser);
    let install = sandbox::find_postgres(None).unwrap();
    let mut server = PgServer::builder(&install)
        .setting("wal_level", "replica")
        .setting("max_replication_slots", "1")
        .setting("fsync", "off")
        .start()
        .unwrap();
    server.psql("create table t (id int primary key)").unwrap();
    let config = db.config().source(&server.url("postgres"));
    refused(&config, &["wal_level is replica", "ALTER SYSTEM SET wal_level = logical", "restart"]);
    server.psql("select pg_create_physical_replication_slot('taken')").unwrap();
    refused(&config, &["all 1 replication slots are in use", "ALTER SYSTEM SET max_replication_slots = 5"]);
    server.psql("select pg_drop_replication_slot('taken')").unwrap();
    server.psql("alter system set wal_level = logical").unwrap();
    server.set("wal_level", "logical");
    server.restart(sandbox::StopMode::Fast).unwrap();
    let mut daemon = Daemon::spawn(&config);
    daemon.ready();
    assert_eq!(daemon.sigterm(), 0);
}

#[test]
fn given_missing_privileges_when_started_then_the_exact_statements_mend_it() {
    let db = database(Roles::Superuser);
    let (s, t) = (fresh_name("src"), fresh_name("tgt"));
    let mut source = db.on_source();
    source.run(&format!(
        "create role {s} login; create role {s}_owner; create schema shop; create table shop.\"Orders\" (id int primary key); alter table shop.\"Orders\" owner to {s}_owner;
         insert into shop.\"Orders\" values (1); revoke create on database {} from public",
        db.name
    ));
    let mut target = db.on_target();
    target.run(&format!("create role {t} login"));
    let config = db.config().source(&with_user(&db.source, &s)).target(&with_user(&db.target, &t));
    let on_source = [
        format!("ALTER ROLE {s} REPLICATION"),
        format!("GRANT CREATE ON DATABASE {} TO {s}", db.name),
        format!("GRANT USAGE ON SCHEMA shop TO {s}"),
        format!("GRANT SELECT ON shop.\"Orders\" TO {s}"),
        format!("GRANT {s}_owner TO {s}"),
    ];
    let on_target = [format!("GRANT CREATE ON DATABASE \"{}\" TO \"{t}\"", db.name)];
    let words: Vec<&str> = on_source.iter().chain(&on_target).map(String::as_str).collect();
    let (status, said) = told(&config, &["check"]);
    assert_eq!(status, 1);
    for w in &words {
        assert!(said.contains(w), "{w} is not in: {said}");
    }
    // `run` needs its books first, then looks at everything else.
    let (status, said) = told(&config, &["run", "--no-progress"]);
    assert!(status == 1 && said.contains(&on_target[0]), "{said}");
    for sql in &on_target {
        target.run(sql);
    }
    refused(&config, &words[..on_source.len()]);
    nothing_left(&db);
    for sql in &on_source {
        source.run(sql);
    }
    let mut daemon = Daemon::spawn(&config);
    daemon.ready();
    source.run("insert into shop.\"Orders\" values (2)");
    daemon.wait_level(&db.source);
    assert_equal(&db.source, &db.target);
    assert_eq!(daemon.sigterm(), 0);
}

#[test]
fn given_tables_that_cannot_come_along_when_started_then_each_is_named_with_what_to_do() {
    let db = database(Roles::Superuser);
    let mut source = db.on_source();
    // No table at all, then none that is selected, then a pattern that matches none.
    refused(&db.config(), &["no table is selected", "tables.include"]);
    source.run(
        "create table t (id int primary key, v int); insert into t values (1, 1); create table u (id int primary key)",
    );
    refused(&db.config().extra("[tables]\nexclude = ['public.*']"), &["no table is selected"]);
    refused(&db.config().extra("[tables]\ninclude = ['public.*', 'publik.*']"), &["publik.*", "matches no table"]);
    // Rows at the target.
    let mut target = db.on_target();
    target.run("create table t (id int primary key, v int); insert into t values (7, 7)");
    refused(&db.config(), &["public.t on the target holds rows already", "TRUNCATE \"public\".\"t\""]);
    assert_eq!(target.one("select string_agg(id::text, ',') from t"), "7");
    target.run("drop table t");
    // Tables that are not there, where they should be.
    let no_schema = "create_schema = false";
    let with_target = |db: &Database| {
        let config = db.config();
        // The key belongs to [target], which `Config` writes itself: the API's section comes after it.
        config.target(&format!("{}\"\n{no_schema}\n# \"", db.target))
    };
    refused(&with_target(&db), &["public.t", "does not exist", "create_schema = true"]);
    // Large objects would be lost without a word.
    source.run("select lo_from_bytea(0, 'x')");
    refused(&db.config(), &["large objects"]);
    source.run("select lo_unlink(oid) from pg_largeobject_metadata");
    // Tables whose rows are elsewhere, or not in the log, are left out with a warning.
    source.run("create unlogged table quick (id int primary key); create extension postgres_fdw; create server elsewhere foreign data wrapper postgres_fdw; create foreign table far (id int) server elsewhere");
    let (status, said) = told(&db.config(), &["check"]);
    assert_eq!(status, 0, "{said}");
    for w in ["public.quick is unlogged", "SET LOGGED", "public.far is a foreign table", "tables.exclude"] {
        assert!(said.contains(w), "{w}: {said}");
    }
    nothing_left(&db);
}

#[test]
fn given_a_running_daemon_when_a_second_is_started_then_it_ends_with_3_and_finish_too() {
    let db = database(Roles::Superuser);
    db.on_source().run("create table t (id int primary key)");
    let mut first = Daemon::spawn(&db.config());
    first.ready();
    let (status, said) = told(&db.config(), &["run", "--no-progress"]);
    assert_eq!(status, 3, "{said}");
    let (status, said) = told(&db.config(), &["finish", "--yes"]);
    assert_eq!(status, 3, "{said}");
    db.on_source().run("insert into t values (1)");
    first.wait_level(&db.source);
    assert_eq!(first.sigterm(), 0);
    assert_eq!(told(&db.config(), &["finish", "--yes"]).0, 0);
    nothing_left(&db);
    assert_eq!(Sql::connect(&db.target).number("select count(*) from pg_namespace where nspname = 'switchyard'"), 0);
    assert_equal(&db.source, &db.target);
}
