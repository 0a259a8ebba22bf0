//! Schema changes at the source while the stream runs, between real servers, through the built program.

use crate::support::daemon::PATIENCE;
use crate::support::{Config, Daemon, Database, Pair, Sql, assert_equal, wait_until};

/// A migration that follows, and a session on each side.
struct Life {
    db: Database,
    config: Config,
    daemon: Daemon,
    source: Sql,
    target: Sql,
}

impl Life {
    fn start(what: &str, setup: &str) -> Life {
        Life::start_with(what, setup, |c| c)
    }
    fn start_with(what: &str, setup: &str, configure: impl FnOnce(Config) -> Config) -> Life {
        let db = Database::shared(what);
        let mut source = db.on_source();
        source.run(setup);
        let config = configure(db.config());
        let mut daemon = Daemon::spawn(&config);
        daemon.ready();
        Life { source, target: db.on_target(), config, daemon, db }
    }
    /// Runs it at the source, in one implicit transaction where it does not say otherwise, and waits until the target
    /// has the same rows.
    fn follow(&mut self, sql: &str) {
        self.source.run(sql);
        self.level();
        assert_equal(&self.db.source, &self.db.target);
    }
    fn level(&mut self) {
        self.daemon.wait_level(&self.db.source);
    }
    /// Runs it at the source; the daemon must stop, naming the statement and a way on. Its log since.
    fn stops(&mut self, sql: &str, says: &[&str]) {
        self.source.run(sql);
        self.ended(says);
    }
    fn ended(&mut self, says: &[&str]) {
        assert_eq!(self.daemon.exit_status(), 1);
        let log = self.daemon.log();
        for s in says.iter().chain(&["To go on:"]) {
            assert!(log.contains(s), "{s:?} is not in the log:\n{log}");
        }
    }
    /// Says on the target what the daemon told to say there.
    fn acknowledge(&mut self) {
        let log = self.daemon.log();
        let from = log.find("INSERT INTO switchyard.restore").expect("the statement is told");
        let to = log[from..].find(" (or leave").unwrap();
        self.target.run(&log[from..from + to]);
    }
    fn again(&mut self) {
        self.daemon = Daemon::spawn(&self.config);
        self.level();
    }
    fn both(&mut self, sql: &str) -> String {
        let (a, b) = (self.source.one(sql), self.target.one(sql));
        assert_eq!(a, b, "{sql}");
        a
    }
    fn end(mut self) {
        self.daemon.kill9();
        self.db.drop();
    }
}

#[test]
fn given_new_tables_when_the_stream_runs_then_every_row_of_them_is_followed() {
    let mut l =
        Life::start("ddl_new", "create table items (id int primary key, v text); insert into items values (1, 'a')");
    // Statements of one string are one transaction: rows follow the table's making within it.
    l.follow("create table fresh (id bigserial primary key, v text default 'd' not null check (v <> ''), unique (v)); insert into fresh (v) values ('x'), ('y'); insert into items values (2, 'b')");
    l.follow(
        "insert into fresh (v) values ('z'); update fresh set v = 'xx' where id = 1; delete from fresh where id = 2",
    );
    l.follow(
        "create table ident (id int generated always as identity primary key, v int); insert into ident (v) values (1)",
    );
    // The key comes by a statement of its own, in the same transaction and in another one.
    l.follow(
        "create table keyed (a int, b text); alter table keyed add primary key (a); insert into keyed values (1, 'x')",
    );
    l.source.run("create table later (a int, b text)");
    l.follow("alter table later add constraint later_pk primary key (a)");
    l.follow("insert into later values (1, 'x')");
    l.follow("create schema other; create table other.\"Odd \"\"one\" (\"K\" uuid primary key, v int[]); insert into other.\"Odd \"\"one\" values ('00000000-0000-0000-0000-000000000001', '{1}')");
    l.follow("create type mood as enum ('sad', 'ok'); create table moods (id int primary key, m mood default 'ok'); insert into moods values (1)");
    l.follow("create table whole (a int, b text); alter table whole replica identity full; insert into whole values (1, 'x'), (1, 'x')");
    l.follow("create temp table tmp (a int); insert into tmp values (1); create table gone (a int primary key); drop table gone");
    for t in ["fresh", "keyed", "later", "ident", "moods"] {
        let keys = l.both(&format!("select string_agg(conname || ' ' || pg_get_constraintdef(oid), '; ' order by conname) from pg_constraint where conrelid = '{t}'::regclass and contype in ('p', 'u', 'c')"));
        assert!(keys.contains("PRIMARY KEY"), "{t}: {keys}");
    }
    // While nobody looks.
    assert_eq!(l.daemon.sigterm(), 0);
    l.source.run("create table meanwhile (id int primary key, v text); insert into meanwhile values (1, 'x'); alter table meanwhile add w int default 5; insert into meanwhile values (2, 'y', 6)");
    l.again();
    assert_equal(&l.db.source, &l.db.target);
    // The application's role has no right on anything of ours, and is not disturbed.
    l.follow("create role ddl_app; grant create, usage on schema public to ddl_app; set role ddl_app; create table apps (id int primary key); insert into apps values (1); reset role");
    l.source.run("drop owned by ddl_app cascade");
    l.ended(&["apps"]);
    l.source.run("drop role ddl_app");
    l.end();
}

#[test]
fn given_a_new_table_that_cannot_be_followed_then_it_stops_and_both_ways_on_work() {
    let mut l = Life::start("ddl_unfollowed", "create table items (id int primary key, v text)");
    l.stops(
        "create table copy_of as select i as id, 'x' as v from generate_series(1, 10) i",
        &["create table copy_of as", "public.copy_of is selected", "tables.exclude", "ADD PRIMARY KEY"],
    );
    // Again, and nothing changed: it stops again.
    l.daemon = Daemon::spawn(&l.config);
    l.ended(&["public.copy_of"]);
    // The way that is told: the table is made afresh within one transaction.
    l.source.run("begin; create temp table kept as table copy_of; truncate copy_of; alter table copy_of add primary key (id); insert into copy_of table kept; commit; insert into copy_of values (11, 'y')");
    l.again();
    assert_equal(&l.db.source, &l.db.target);
    assert_eq!(l.both("select count(*) from copy_of"), "11");

    l.stops("create table keyless (v text); insert into keyless values ('x')", &["public.keyless", "no primary key"]);
    l.config = l.config.clone().extra("[tables]\nexclude = [\"public.keyless\"]");
    l.again();
    l.source.run("insert into keyless values ('y'); insert into items values (7, 'after')");
    l.level();
    assert_eq!(l.target.one("select v from items"), "after");
    // A table that was followed may be excluded as well.
    l.daemon.sigterm();
    l.config = l.db.config().extra("[tables]\nexclude = [\"public.keyless\", \"public.copy_*\"]");
    l.again();
    l.source.run("insert into copy_of values (12, 'z'); insert into items values (8, 'last')");
    l.level();
    assert_eq!(l.target.one("select max(id) from items"), "8");
    // What is new and excluded is not published.
    l.source.run("create table copy_2 (id int primary key); insert into copy_2 values (1)");
    l.level();
    assert_eq!(l.source.one("select count(*) from pg_publication_tables where tablename = 'copy_2'"), "0");
    l.end();
}

#[test]
fn given_a_commit_that_nobody_sees_yet_when_its_table_is_looked_up_then_it_is_waited_for() {
    let pair = Pair::start();
    let db = pair.database("ddl_unseen");
    let (mut source, mut target) = (db.on_source(), db.on_target());
    source.run("create table items (id int primary key)");
    let mut daemon = Daemon::spawn(&db.config());
    daemon.ready();
    // A commit that waits for a synchronous standby is in the log, and other sessions do not see it.
    source.run("alter system set synchronous_standby_names = 'nobody'");
    source.run("select pg_reload_conf()");
    let url = db.source.clone();
    let maker = std::thread::spawn(move || {
        let mut sql = Sql::connect(&url);
        sql.run("create table whole (a int, b text); alter table whole replica identity full; insert into whole values (1, 'x'), (1, 'x')");
    });
    wait_until("the commit waits for its standby", PATIENCE, || {
        source.one("select count(*) from pg_stat_activity where wait_event = 'SyncRep'") == "1"
    });
    // The daemon looks all the while, longer than a key is waited for.
    wait_until("the daemon looks the table up", PATIENCE, || {
        source.one("select count(*) from pg_stat_activity where query like '%pg_visible_in_snapshot%' and pid <> pg_backend_pid()") == "1"
    });
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert!(daemon.is_running());
    source.run("alter system reset synchronous_standby_names");
    source.run("select pg_reload_conf()");
    maker.join().unwrap();
    daemon.wait_level(&db.source);
    assert_equal(&db.source, &db.target);
    assert_eq!(target.one("select count(*) from whole"), "2");
}

#[test]
fn given_a_table_that_got_its_key_late_and_is_gone_when_its_log_is_read_then_it_goes_on() {
    let mut l = Life::start("ddl_gone", "create table items (id int primary key)");
    l.daemon.sigterm();
    for sql in [
        "create table a (v text)",
        "alter table a replica identity full",
        "insert into a values ('x'); update a set v = 'y'; truncate a",
        "create table b (id int, v text)",
        "alter table b add primary key (id)",
        "create table c (v text)",
        "drop table a, b, c",
        "create table a (id int primary key); insert into a values (1), (2)",
    ] {
        l.source.run(sql);
    }
    l.again();
    assert_equal(&l.db.source, &l.db.target);
    assert_eq!(l.both("select count(*) from a"), "2");
    l.end();
}

#[test]
fn given_partitions_when_made_then_they_follow_and_when_moved_then_it_stops() {
    let setup = "create table m (id int, at date, v text, primary key (id, at)) partition by range (at);
        create table m_1 partition of m for values from ('2024-01-01') to ('2024-02-01');
        insert into m values (1, '2024-01-05', 'x')";
    let mut l = Life::start("ddl_parts", setup);
    l.follow("create table m_2 partition of m for values from ('2024-02-01') to ('2024-03-01'); insert into m values (2, '2024-02-05', 'y')");
    l.follow("create table m_3 partition of m for values from ('2024-03-01') to ('2024-04-01') partition by hash (id); create table m_3_0 partition of m_3 for values with (modulus 1, remainder 0); insert into m values (3, '2024-03-05', 'z')");
    l.follow("create table n (id int primary key, v text) partition by list (id); create table n_1 partition of n for values in (1); create table n_d partition of n default; create index on n (v); insert into n values (1, 'a'), (2, 'b')");
    l.follow("alter table m add w int default 3; update m set v = 'moved', at = '2024-02-07' where id = 1");
    l.follow("create table m_4 (id int not null, at date not null, v text, w int, primary key (id, at)); alter table m attach partition m_4 for values from ('2024-04-01') to ('2024-05-01'); insert into m values (4, '2024-04-05', 'w')");
    let tree = "select string_agg(relid::regclass || ' ' || coalesce(pg_get_expr(c.relpartbound, c.oid), ''), '; ' order by relid::regclass::text) from pg_partition_tree('m') join pg_class c on c.oid = relid";
    l.both(tree);
    l.both("select count(*) from pg_index where indrelid in (select relid from pg_partition_tree('n')) and indisvalid");

    l.stops("alter table m detach partition m_2", &["detach partition m_2"]);
    l.target.run("alter table m detach partition m_2");
    l.config = l.config.clone().extra("[tables]\nexclude = [\"public.m_2\"]");
    l.again();
    l.follow("insert into m values (11, '2024-01-11', 'stays')");
    l.stops("drop table m_1", &["drop table m_1", "DROP TABLE"]);
    l.target.run("drop table m_1");
    l.again();
    l.source.run("create table m_9 (like m including all); insert into m_9 values (9, '2024-09-09', 'n')");
    l.level();
    l.stops(
        "alter table m attach partition m_9 for values from ('2024-09-01') to ('2024-10-01')",
        &["attach partition m_9", "ATTACH PARTITION"],
    );
    l.target.run("alter table m attach partition m_9 for values from ('2024-09-01') to ('2024-10-01')");
    l.again();
    l.follow("insert into m values (10, '2024-09-10', 'end')");
    l.both(tree);
    l.end();
}

#[test]
fn given_types_when_changed_then_labels_follow_and_the_rest_stops() {
    let setup =
        "create type mood as enum ('sad', 'ok'); create type pair as (a int, b text); create type unused as (a int);
        create table t (id int primary key, m mood, p pair); insert into t values (1, 'sad', '(1,x)')";
    let mut l = Life::start("ddl_types", setup);
    l.source.run("alter type mood add value 'happy' after 'ok'");
    l.follow("insert into t values (2, 'happy', null)");
    l.source.run("alter type mood add value 'awful' before 'sad'; alter type mood add value 'so-so' before 'ok'");
    l.follow("insert into t values (3, 'awful', null), (4, 'so-so', null)");
    l.follow("alter type mood rename value 'sad' to 'blue'; update t set m = 'blue' where id = 2");
    assert_eq!(l.both("select enum_range(null::mood)"), "{awful,blue,so-so,ok,happy}");
    // While the daemon is away, so that the label and its rows may come in one batch.
    l.daemon.sigterm();
    l.source.run("insert into t values (5, 'ok', null)");
    l.source.run("alter type mood add value 'new'");
    l.source.run("insert into t values (6, 'new', null)");
    l.again();
    assert_equal(&l.db.source, &l.db.target);
    l.follow("create type size as enum ('s'); create table sized (id int primary key, s size[]); insert into sized values (1, '{s}')");
    l.source.run("alter type unused add attribute b int");
    l.level();
    l.stops("alter type pair add attribute c int", &["alter type pair add attribute c int", "public.pair"]);
    l.target.run("alter type pair add attribute c int");
    l.again();
    l.follow("insert into t values (7, 'ok', '(1,y,2)')");
    l.end();
}

#[test]
fn given_columns_when_changed_then_rows_before_and_after_keep_their_shape() {
    let mut l = Life::start(
        "ddl_columns",
        "create table t (id int primary key, a text, b int); insert into t select i, 'r' || i, i from generate_series(1, 100) i; create table e (id int primary key)",
    );
    l.follow("begin; insert into t values (101, 'old', 1); alter table t add c int default 7; insert into t values (102, 'new', 2, 8);
        alter table t rename b to bb; update t set bb = 5 where id = 101; alter table t drop a; insert into t values (103, 3, 9);
        alter table t add d text; update t set d = 'x' where id < 10; delete from t where id = 50; commit");
    l.follow("alter table t add at timestamptz default now(), add n numeric default 1.50 not null; insert into t (id) values (104)");
    l.follow("alter table t alter bb type bigint; update t set bb = 5000000000 where id = 1");
    l.follow("alter table t alter n drop not null, alter d set default 'dd'; insert into t (id, n) values (105, null)");
    l.follow("update t set n = 0 where n is null; alter table t alter n set not null; create unique index t_c on t (id, c); create index concurrently_not on t (d)");
    l.source.run("create index concurrently t_conc on t (bb)");
    l.follow("insert into t (id) values (106)");
    assert_eq!(l.both("select count(*) from pg_index where indrelid = 't'::regclass and indisvalid"), "4");
    l.follow("alter table e add v float8 default random(); insert into e values (1)");
    l.follow("delete from e");
    // All of it while the daemon was down.
    l.daemon.sigterm();
    l.source.run("insert into t (id) values (107)");
    l.source.run("alter table t add late int default 1");
    l.source.run("update t set late = 2 where id = 107");
    l.source.run("alter table t rename late to later; alter table t drop d");
    l.source.run("insert into t (id, later) values (108, 5)");
    l.again();
    assert_equal(&l.db.source, &l.db.target);
    // What does not concern rows is said, and goes on.
    l.follow("create view v as select * from t; comment on table t is 'x'; create function f() returns int language sql as 'select 1'; grant select on t to public; insert into t (id) values (109)");
    let warnings = l.daemon.says("/warnings").to_string();
    assert!(warnings.contains("CREATE VIEW"), "{warnings}");
    l.source.run("drop view v; drop function f(); drop index t_conc");
    l.follow("insert into t (id) values (110)");
    l.stops("alter table t add r float8 default random()", &["default random()", "computed row by row"]);
    let mut rows = l.source.rows("select id, r from t");
    l.target.run("alter table t add r float8 default random()");
    for r in rows.drain(..) {
        let (id, r) = (r[0].clone().unwrap(), r[1].clone().unwrap());
        l.target.run(&format!("update t set r = {r} where id = {id}"));
    }
    l.acknowledge();
    l.again();
    l.follow("insert into t (id) values (111)");
    l.stops("alter table t alter later type text using 'v' || later", &["type text using", "can change values"]);
    l.target.run("alter table t alter later type text using 'v' || later");
    l.daemon = Daemon::spawn(&l.config);
    l.ended(&["type text using"]);
    l.acknowledge();
    l.again();
    l.follow("insert into t (id, later) values (112, 'w')");
    l.source.run("create table n (id int primary key); insert into n values (1)");
    l.stops("drop table e; drop table n", &["drop table n", "DROP TABLE"]);
    l.target.run("drop table n");
    l.again();
    l.stops("alter table t rename to tt; insert into tt (id) values (200)", &["rename to tt"]);
    // Not even to a daemon that knows it by its new name only is it a new table.
    l.daemon = Daemon::spawn(&l.config);
    l.ended(&["rename to tt"]);
    assert_eq!(l.target.one("select count(*) from pg_class where relname = 'tt'"), "0");
    l.end();
}

#[test]
fn given_a_table_without_key_when_it_gets_one_then_the_target_has_the_constraint() {
    let mut l = Life::start(
        "ddl_key",
        "create table t (id int, a text); alter table t replica identity full; insert into t values (1, 'x'), (2, 'y')",
    );
    l.follow("alter table t add constraint t_key primary key (id); update t set a = 'z' where id = 1");
    l.follow("alter table t replica identity default; update t set a = 'q' where id = 2; delete from t where id = 1");
    assert_eq!(
        l.both("select pg_get_constraintdef(oid) from pg_constraint where conname = 't_key'"),
        "PRIMARY KEY (id)"
    );
    l.follow("alter table t drop constraint t_key, add primary key (id, a); update t set a = 'r' where id = 2");
    l.end();
}

#[test]
fn given_no_trigger_when_the_schema_changes_then_the_log_tells_what_is_certain_and_the_rest_stops() {
    let db = Database::shared("ddl_plain");
    let role = format!("{}_role", db.name);
    let mut admin = db.on_source();
    admin.run(&format!("create role {role} login replication password 'p'; grant create on database {} to {role}; grant all on schema public to {role}", db.name));
    let mut url = url::Url::parse(&db.source).unwrap();
    url.set_username(&role).unwrap();
    url.set_password(Some("p")).unwrap();
    let config = db.config().source(url.as_str());
    let mut source = Sql::connect(url.as_str());
    source.run("create table t (id int primary key, a text); insert into t values (1, 'x'); create table p (id int primary key) partition by list (id); create table p_1 partition of p default");
    let mut daemon = Daemon::spawn(&config);
    daemon.ready();
    let warnings = daemon.says("/warnings").to_string();
    assert!(warnings.contains("public.p: TRUNCATE of a single partition"), "{warnings}");
    assert_eq!(admin.one("select count(*) from pg_event_trigger"), "0");
    source.run("alter table t add b int; insert into t values (2, 'y', 5); update t set b = 1 where id = 1");
    daemon.wait_level(&db.source);
    assert_equal(&db.source, &db.target);
    // Its rows are not in the log; at least it is said.
    source.run("create table fresh (id int primary key); insert into fresh values (1)");
    daemon.wait_status("the new table is named", std::time::Duration::from_secs(60), |s| {
        s["warnings"].to_string().contains("public.fresh")
    });
    source.run("alter table t rename b to c; insert into t values (3, 'z', 6)");
    assert_eq!(daemon.exit_status(), 1);
    let log = daemon.log();
    assert!(log.contains("public.t") && log.contains("renamed"), "{log}");
    db.drop();
    admin.try_run("select 1").unwrap_or_default();
}
