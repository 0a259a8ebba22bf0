//! What happens at the source between a kill in the middle of the copy and its resume: the copy goes on where it was, or
//! begins a table anew where its rows may have moved, and the target ends equal to the source either way.

use std::time::Duration;

use crate::scenario::{Roles, owned};
use crate::support::{Config, Daemon, Database, Sql, assert_equal, assert_same_rows, wait_until};

/// One worker, so that chunks are committed in order; chunks of 8 pages; every table in chunks.
fn one_by_one(config: Config) -> Config {
    config
        .extra("[snapshot]\nworkers = 1")
        .env("SWITCHYARD_CHUNK_BYTES", 8 * 8192)
        .env("SWITCHYARD_WHOLE_TABLE_BYTES", 0)
}

/// A table of some 40 chunks with a unique column, a value stored outside the row, and no room in its pages.
const TABLE: &str = "
    create table t (id int primary key, u int not null unique, pad text not null, n int not null default 0, big text);
    alter table t alter big set storage external;
    alter table t set (autovacuum_enabled = off);
    insert into t select i, i, repeat('x', 400), 0, case when i % 100 = 0 then repeat(md5(i::text), 90) end
      from generate_series(1, 6000) i;
    analyze t;";

/// Kills the copy once half of the chunks are on the target, lets `between` change the source, and starts again.
fn interrupted(what: &str, schema: &str, between: impl FnOnce(&mut Sql)) -> (Database, Daemon) {
    let db = Database::shared(what);
    let mut source = db.on_source();
    source.run(schema);
    let mut daemon = Daemon::spawn(&one_by_one(db.config()).crash_at("copy.chunk_committed", 20));
    daemon.wait_crash();
    assert_eq!(db.on_target().number("select count(*) from switchyard.chunk"), 20);
    between(&mut source);
    let mut daemon = Daemon::spawn(&one_by_one(db.config()));
    daemon.wait_level(&db.source);
    assert_equal(&db.source, &db.target);
    // The stream goes on as it should after whatever the resume did.
    source.run("update t set n = n + 1 where id % 7 = 0; delete from t where id % 11 = 0");
    daemon.wait_level(&db.source);
    assert_equal(&db.source, &db.target);
    (db, daemon)
}

/// Makes room in the table's pages. What a killed daemon's sessions could still see stays until they have noticed.
fn vacuum(source: &mut Sql) {
    let others = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() \
        and backend_type in ('client backend', 'walsender')";
    wait_until("the killed daemon's sessions are gone", Duration::from_secs(30), || source.number(others) == 0);
    // A snapshot that another test's slot exports holds back dead rows of the whole server for a while.
    wait_until("dead rows are gone", Duration::from_secs(60), || {
        source.run("vacuum t");
        source.number("select pg_stat_get_dead_tuples('t'::regclass)") == 0
    });
}

/// Rows that the running daemon read from the source for its copy.
fn copied(daemon: &Daemon) -> f64 {
    daemon.metric("switchyard_rows_copied_total", "\"public.t\"")
}

#[test]
fn given_a_killed_copy_when_resumed_then_less_than_five_percent_is_copied_again() {
    let db = Database::shared("five_percent");
    db.on_source().run(&TABLE.replace("6000", "60000"));
    let fast = |c: Config| c.env("SWITCHYARD_CHUNK_BYTES", 8 * 8192).env("SWITCHYARD_WHOLE_TABLE_BYTES", 0);
    let mut daemon = Daemon::spawn(&fast(db.config()).crash_at("copy.chunk_committed", 200));
    daemon.wait_crash();
    let done = db.on_target().number("select sum(rows) from switchyard.chunk") as f64;
    assert!((10_000.0..60_000.0).contains(&done), "{done} rows were done");
    let mut daemon = Daemon::spawn(&fast(db.config()));
    daemon.wait_level(&db.source);
    let again = copied(&daemon) - (60_000.0 - done);
    assert!(again < 0.05 * done, "{again} of {done} rows that were done were copied again");
    assert_equal(&db.source, &db.target);
}

#[test]
fn given_vacuum_full_between_kill_and_resume_then_the_table_is_copied_afresh() {
    let (_db, daemon) = interrupted("vacuum_full", TABLE, |source| {
        source.run("delete from t where id % 3 = 0");
        source.run("vacuum full t");
    });
    assert!(copied(&daemon) >= 4000.0, "only {} rows were copied afresh", copied(&daemon));
}

#[test]
fn given_cluster_between_kill_and_resume_then_the_table_is_copied_afresh() {
    let schema = format!("{TABLE} create index by_n on t (n desc); update t set n = id;");
    let (_db, daemon) = interrupted("cluster", &schema, |source| source.run("cluster t using by_n"));
    assert!(copied(&daemon) >= 6000.0, "only {} rows were copied afresh", copied(&daemon));
}

#[test]
fn given_truncate_and_refill_between_kill_and_resume_then_both_sides_are_equal() {
    interrupted("refill", TABLE, |source| {
        source.run("truncate t");
        source.run("insert into t select i, -i, repeat('y', 300), 0, null from generate_series(3000, 9000) i");
    });
}

#[test]
fn given_rows_that_moved_across_chunks_unsent_values_then_they_are_read_again() {
    interrupted("moved", TABLE, |source| {
        // Room in the early pages, which were copied; the late pages are full, so a new version moves to the front.
        source.run("delete from t where id < 1000 and id % 2 = 0");
        vacuum(source);
        source.run("update t set n = n + 1 where id > 5000 and big is not null");
        source.run("update t set n = n + 1, pad = repeat('z', 400) where id > 5000 and id % 3 = 0");
        let moved = source.number("select count(*) from t where id > 5000 and (ctid::text::point)[0] < 100");
        assert!(moved > 10, "only {moved} rows moved");
    });
}

#[test]
fn given_large_transactions_of_moved_rows_that_are_deleted_then_both_sides_are_equal() {
    interrupted("moved_large", TABLE, |source| {
        source.run("delete from t where id < 2000 and id % 2 = 0");
        vacuum(source);
        // More than one piece, so that the rows to read again are met before the transaction's end.
        source.run("begin; update t set n = n + 1 where id > 4000; insert into t select i, i, repeat('p', 900), 1, null from generate_series(100000, 125000) i; commit");
        source.run("update t set n = n + 1 where id > 5000");
        source.run("delete from t where id > 5500 and id < 100000");
    });
}

/// Rows are read again at the source because an update came without its large value, and are gone there by then: their
/// DELETE, later in the log, must not be taken for divergence.
fn reread_rows_are_gone(what: &str, filler: &str) {
    let db = Database::shared(what);
    let mut source = db.on_source();
    source.run(TABLE);
    let mut daemon = Daemon::spawn(&one_by_one(db.config()).crash_at("copy.chunk_committed", 20));
    daemon.wait_crash();
    source.run("delete from t where id < 2000 and id % 2 = 0");
    vacuum(&mut source);
    source.run(&format!("begin; update t set n = n + 1 where id > 5000; {filler} commit"));
    let moved =
        source.number("select count(*) from t where id > 5000 and big is not null and (ctid::text::point)[0] < 100");
    assert!(moved > 3, "only {moved} rows moved");
    let mut daemon = Daemon::spawn(&one_by_one(db.config()).crash_at("copy.done", 1));
    daemon.wait_crash();
    source.run("delete from t where id > 5000 and id < 5600; update t set n = n + 1 where id between 5600 and 6000");
    let mut daemon = Daemon::spawn(&one_by_one(db.config()));
    daemon.wait_level(&db.source);
    assert_equal(&db.source, &db.target);
}

#[test]
fn given_rows_read_again_after_they_are_gone_then_it_is_no_divergence() {
    reread_rows_are_gone("reread", "");
}

#[test]
fn given_rows_read_again_in_a_transaction_of_pieces_then_it_is_no_divergence() {
    reread_rows_are_gone(
        "reread_pieces",
        "insert into t select i, i, repeat('p', 900), 1, null from generate_series(100000, 125000) i;",
    );
}

#[test]
fn given_a_partitioned_table_when_killed_in_the_middle_then_both_sides_are_equal() {
    let schema = "create table t (id int, n int not null default 0, u int not null, pad text, primary key (id, u)) partition by range (id);
        create table t_a partition of t for values from (minvalue) to (2000);
        create table t_b partition of t for values from (2000) to (4000);
        create table t_c partition of t for values from (4000) to (maxvalue);
        create unique index on t (u, id);
        insert into t select i, 0, i, repeat('x', 400) from generate_series(1, 6000) i; analyze t;";
    interrupted("partitioned", schema, |source| {
        source.run("delete from t where id % 9 = 0; update t set id = id + 3000 where id in (1500, 2500); update t set n = 5 where id % 4 = 0");
    });
}

#[test]
fn given_deletes_and_key_changes_between_kill_and_resume_then_both_sides_are_equal() {
    interrupted("rekeyed", TABLE, |source| {
        source.run("delete from t where id % 5 = 0");
        source.run("update t set id = id + 100000 where id % 7 = 0");
        source.run("update t set id = -id where id % 13 = 0; update t set id = -id, n = 9 where id < 0");
        source.run("delete from t where id > 100000 and id % 2 = 0");
    });
}

#[test]
fn given_keys_that_were_taken_by_other_rows_then_large_values_stay_with_their_rows() {
    interrupted("taken", TABLE, |source| {
        // The large value is not sent with the key's change, and another row has the old key by the time of the resume.
        source.run("update t set id = id + 100000 where big is not null");
        source.run(
            "insert into t select id - 100000, -u, 'new', 1, repeat('other', 700) from t where id > 100000 and id % 200 = 0",
        );
        source.run("update t set id = id + 200000 where id between 3000 and 4000 and big is not null");
        source.run("update t set n = 8 where id > 100000 and id % 300 = 0");
    });
}

#[test]
fn given_swapped_unique_values_between_kill_and_resume_then_both_sides_are_equal() {
    interrupted("swapped", TABLE, |source| {
        // A row that was copied and one that was not change their unique values with each other.
        source.run(
            "begin; update t set u = -u where id <= 300 or id > 5700; \
             update t set u = 6001 - id where id <= 300 or id > 5700; commit",
        );
    });
}

#[test]
fn given_a_table_without_a_key_when_killed_then_it_is_copied_afresh_and_exact() {
    let schema = "create table t (id int, n int, pad text); alter table t replica identity full;
        insert into t select i % 50, 0, repeat('x', 400) from generate_series(1, 6000) i; analyze t;";
    interrupted("keyless", schema, |source| {
        source.run(
            "update t set n = 1 where id = 3; delete from t where ctid in (select ctid from t where id = 4 limit 7)",
        );
    });
}

#[test]
fn given_repeated_kills_during_the_copy_then_it_still_ends() {
    let db = Database::shared("repeated");
    let mut source = db.on_source();
    source.run(TABLE);
    for round in 0..5 {
        let mut daemon = Daemon::spawn(&one_by_one(db.config()).crash_at("copy.chunk_committed", 8));
        daemon.wait_crash();
        source.run(&format!("update t set n = {round} where id % 5 = {round}; delete from t where id % 101 = {round}"));
    }
    let mut daemon = Daemon::spawn(&one_by_one(db.config()));
    daemon.wait_level(&db.source);
    assert_equal(&db.source, &db.target);
}

#[test]
fn given_kills_while_a_copy_is_being_resumed_then_it_still_ends() {
    // First in the middle of the table with a key, or of the one without, which comes after it.
    for (first, point) in [
        (20, "copy.resumed"),
        (50, "copy.replanned"),
        (20, "copy.chunk_committed"),
        (20, "copy.indexed"),
        (20, "stream.constraints_made"),
    ] {
        let db = Database::shared("resuming");
        let mut source = db.on_source();
        source.run(TABLE);
        source.run(
            "create table keyless (id int, pad text); alter table keyless replica identity full;
             insert into keyless select i % 70, repeat('x', 400) from generate_series(1, 3000) i;
             create table parent (id int primary key, u int unique); insert into parent select i, i from generate_series(1, 50) i;
             alter table t add constraint fk foreign key (n) references parent not valid; analyze;",
        );
        let config = || one_by_one(db.config());
        let mut daemon = Daemon::spawn(&config().crash_at("copy.chunk_committed", first));
        daemon.wait_crash();
        source.run("update t set id = id + 50000 where id % 9 = 0; delete from t where id % 10 = 1; update keyless set id = 3 where id = 4");
        let mut daemon = Daemon::spawn(&config().crash_at(point, 1));
        daemon.wait_crash();
        source.run("update t set u = -u where id % 8 = 0; delete from keyless where id = 5; truncate parent cascade; insert into parent values (1, 1)");
        let mut daemon = Daemon::spawn(&config());
        daemon.wait_level(&db.source);
        assert_equal(&db.source, &db.target);
        assert_eq!(daemon.sigterm(), 0, "after a second crash at {point}");
    }
}

/// Runs a rewriting statement on a table whose turn has not come while the copy stands at a named point: the statement
/// waits for the lock of the copy's leader, readers must not queue behind it for ever, and in the end both are done.
fn rewritten_during_the_copy(what: &str, point: &str, statement: &str) {
    let db = Database::shared(what);
    let mut source = db.on_source();
    source.run(&format!("{TABLE} create table other as select i as id from generate_series(1, 1000) i; alter table other add primary key (id);"));
    let mut daemon = Daemon::spawn(&one_by_one(db.config()).stop_at(point, 1));
    daemon.wait_stopped();
    let (url, sql) = (db.source.clone(), statement.to_owned());
    let rewriting = std::thread::spawn(move || Sql::connect(&url).run(&sql));
    let waits = "select count(*) from pg_locks where relation = 'other'::regclass and not granted";
    wait_until("the statement waits for the copy", Duration::from_secs(30), || source.number(waits) > 0);
    daemon.signal(libc::SIGCONT);
    daemon.wait_level(&db.source);
    rewriting.join().unwrap();
    daemon.wait_level(&db.source);
    assert_equal(&db.source, &db.target);
}

#[test]
fn given_vacuum_full_during_the_copy_then_neither_waits_for_ever() {
    rewritten_during_the_copy("during_vacuum", "copy.chunk_committed", "vacuum full other");
}

#[test]
fn given_cluster_during_the_copy_then_neither_waits_for_ever() {
    rewritten_during_the_copy("during_cluster", "copy.chunk_committed", "cluster other using other_pkey");
}

#[test]
fn given_vacuum_full_before_the_readers_have_begun_then_neither_waits_for_ever() {
    rewritten_during_the_copy("before_readers", "copy.planned", "vacuum full other");
}

#[test]
fn given_a_generated_column_that_is_never_null_when_resumed_then_both_sides_are_equal() {
    let schema = TABLE.replace("big text)", "big text, g int generated always as (id * 2) stored not null)");
    let (db, _daemon) = interrupted("generated", &schema, |source| source.run("update t set n = 5 where id % 2 = 0"));
    assert_eq!(db.on_target().number("select count(*) from t where g is distinct from id * 2"), 0);
}

#[test]
fn given_a_table_made_between_crash_and_resume_when_it_is_copied_then_it_is_followed_too() {
    // Without a superuser there is no trigger that would publish it.
    let db = owned(Database::shared("late"), Roles::Plain);
    let mut source = db.on_source();
    source.run("create table t (id int primary key)");
    let mut daemon = Daemon::spawn(&db.config().crash_at("copy.schema_made", 1));
    daemon.wait_crash();
    source.run("create table late (id int primary key, v int); insert into late values (1, 1), (2, 2)");
    let mut daemon = Daemon::spawn(&db.config());
    daemon.wait_level(&db.source);
    source.run("insert into late values (3, 3); update late set v = 9 where id = 1; delete from late where id = 2");
    daemon.wait_level(&db.source);
    assert_equal(&db.source, &db.target);
    assert_eq!(db.on_target().number("select count(*) from late where v in (3, 9)"), 2);
}

#[test]
fn given_a_migration_called_copy_of_another_when_that_ones_copy_is_resumed_then_its_slot_stays() {
    let slot = std::cell::RefCell::new(String::new());
    let (db, mut daemon) = interrupted("neighbour", TABLE, |source| {
        let own = source.one(
            "select slot_name from pg_replication_slots where database = current_database() and slot_name like 'switchyard\\_%'",
        );
        *slot.borrow_mut() = format!("{own}_copy");
        source.run(&format!("select pg_create_logical_replication_slot('{}', 'pgoutput')", slot.borrow()));
    });
    let there = format!("select count(*) from pg_replication_slots where slot_name = '{}'", slot.borrow());
    assert_eq!(db.on_source().one(&there), "1");
    assert_eq!(daemon.sigterm(), 0);
    db.drop();
}

/// Values of a unique column change owners while the copy is interrupted.
#[test]
fn given_a_unique_constraint_on_the_target_when_a_copy_is_resumed_then_rows_of_two_moments_do_not_meet_in_it() {
    let db = Database::shared("resumed_unique");
    let (mut source, mut target) = (db.on_source(), db.on_target());
    source.run(
        "create table t (id int primary key, u int not null, pad text);
         insert into t select i, i, repeat('x', 100) from generate_series(1, 4000) i;
         create table keyless (id int primary key, pad text); insert into keyless select id, pad from t",
    );
    // The target's tables have a constraint that the source has not, and lack a key that it has.
    target.run(
        "create table t (id int primary key, u int not null unique, pad text); create table keyless (id int, pad text)",
    );
    let config = db
        .config()
        .schema_exists()
        .extra("[snapshot]\nworkers = 1")
        .env("SWITCHYARD_CHUNK_BYTES", 4 * 8192)
        .env("SWITCHYARD_WHOLE_TABLE_BYTES", 0);
    for at in [3, 20] {
        let mut daemon = Daemon::spawn(&config.clone().crash_at("copy.chunk_committed", at));
        daemon.wait_crash();
        // Whatever was copied so far, a row of it gives its value to one that was not, and the other way.
        source.run(
            "update t set u = -u; update t set u = 4001 + u; update t set id = id + 10000 where id % 100 = 0;
             update keyless set pad = 'later' where id % 7 = 0; delete from keyless where id % 11 = 0",
        );
    }
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_level(&db.source);
    source.run("begin; update t set u = -u where id < 50; update t set u = 100000 - u where id < 50; commit; delete from t where id between 60 and 70");
    daemon.wait_level(&db.source);
    assert_same_rows(&mut source, "select * from t", &mut target, "select * from t");
    assert_same_rows(&mut source, "select * from keyless", &mut target, "select * from keyless");
}
