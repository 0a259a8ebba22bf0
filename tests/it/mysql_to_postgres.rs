//! MySQL and MariaDB copied and followed into PostgreSQL, through the daemon.

use std::time::Duration;

use switchyard::sandbox::{self, MyServer, PgServer};

use crate::mysql_source::{installs, quick};
use crate::support::{Config, Daemon, Sql, fresh_name, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);

pub struct Pair {
    pub source: MyServer,
    pub target: PgServer,
    pub name: String,
}

impl Pair {
    pub fn start(install: &sandbox::MyInstall) -> Pair {
        Pair::of(quick(install))
    }
    pub fn of(source: MyServer) -> Pair {
        let pg = sandbox::find_postgres(None).unwrap();
        let target = PgServer::builder(&pg).setting("fsync", "off").start().unwrap();
        let name = fresh_name("m");
        target.psql(&format!("create database {name}")).unwrap();
        source.sql("create database if not exists shop character set utf8mb4").unwrap();
        Pair { source, target, name }
    }
    pub fn config(&self) -> Config {
        Config::new(&self.name, &self.source.url("shop"), &self.target.url(&self.name))
    }
    pub fn on_target(&self) -> Sql {
        Sql::connect(&self.target.url(&self.name))
    }
    pub fn at_source(&self, sql: &str) -> String {
        self.source.sql_in("shop", sql).unwrap_or_else(|e| panic!("{sql}: {e:#}"))
    }
    /// Waits until everything that was committed at the source so far is on the target.
    pub fn level(&self, daemon: &mut Daemon) {
        daemon.ready();
        let token = fresh_name("level");
        self.at_source(&format!(
            "create table if not exists level (token varchar(60) primary key); insert into level values ('{token}')"
        ));
        let mut sql = self.on_target();
        wait_until("the target is level", PATIENCE, || {
            assert!(daemon.is_running(), "the daemon ended while the test waited for the target");
            sql.try_rows(&format!("select 1 from level where token = '{token}'")).is_ok_and(|r| r.len() == 1)
        });
    }
}

const RAILS: &str = "
    create table operators (id bigint auto_increment primary key, email varchar(255) not null, active tinyint(1) not null default 1,
        created_at datetime(6) not null, updated_at datetime(6) not null, unique key index_operators_on_email (email));
    create table line_groups (id bigint auto_increment primary key, name varchar(255), settings json, operator_id bigint,
        created_at datetime(6) not null, key index_line_groups_on_operator_id (operator_id),
        constraint fk_rails_1 foreign key (operator_id) references operators (id));
    create table contents (id bigint auto_increment primary key, title varchar(255), body longtext, price decimal(12,2) default '0.00',
        kind enum('text','image') not null default 'text', data mediumblob, views int unsigned not null default 0, published_on date,
        at timestamp(6) null);
    insert into operators (email, active, created_at, updated_at) values ('a@example.com', 1, '2024-01-01 10:00:00.123456', now(6)),
        ('B@example.com', 0, now(6), now(6));
    insert into line_groups (name, settings, operator_id, created_at) values ('🚂 group', '{\"a\": [1, 2]}', 1, now(6)), (null, null, null, now(6));
    insert into contents (title, body, price, kind, data, views, published_on, at) values
        ('tïtle', repeat('émoji 🚂 ', 1000), 12.30, 'image', x'00ff', 4294967295, '2024-02-29', '2024-02-29 12:00:00.5');";

#[test]
fn given_a_rails_schema_when_copied_and_followed_then_rows_keys_and_defaults_are_there() {
    for install in installs() {
        let pair = Pair::start(&install);
        pair.source.sql_in("shop", RAILS).unwrap();
        let mut daemon = Daemon::spawn(&pair.config());
        daemon.ready();
        pair.source
            .sql_in(
                "shop",
                "insert into operators (email, created_at, updated_at) values ('c@example.com', now(6), now(6)); \
                 update contents set views = views - 1, title = 'new 🚃', at = null where id = 1; \
                 update operators set email = 'b@example.com' where id = 2; delete from line_groups where id = 2; \
                 insert into line_groups (name, operator_id, created_at) values ('late', 3, '2024-05-05 05:05:05.050505')",
            )
            .unwrap();
        let mut sql = pair.on_target();
        wait_until("the last row has come", PATIENCE, || {
            sql.try_rows("select 1 from line_groups where name = 'late'").is_ok_and(|r| r.len() == 1)
        });
        assert_eq!(
            sql.rows("select id, email, active, created_at from operators order by id")[0],
            ["1", "a@example.com", "t", "2024-01-01 10:00:00.123456"].map(|t| Some(t.to_owned()))
        );
        assert_eq!(
            sql.one("select string_agg(email || active, ' ' order by id) from operators"),
            "a@example.comtrue b@example.comfalse c@example.comtrue"
        );
        assert_eq!(
            sql.one("select title || views || kind || price || encode(data, 'hex') || length(body) from contents"),
            "new 🚃4294967294image12.3000ff8000"
        );
        assert_eq!(
            sql.one("select string_agg(name || coalesce(settings::text, '-'), ' ' order by id) from line_groups"),
            "🚂 group{\"a\": [1, 2]} late-"
        );
        // Keys and defaults hold.
        assert!(
            sql.try_run("insert into operators (email, created_at, updated_at) values ('a@example.com', now(), now())")
                .is_err()
        );
        assert!(sql.rows("select conname from pg_constraint where contype = 'f'").len() == 1);
        assert_eq!(daemon.sigterm(), 0);
    }
}

#[test]
fn given_schema_changes_when_followed_then_the_target_has_them() {
    for install in installs() {
        let pair = Pair::start(&install);
        pair.source
            .sql_in(
                "shop",
                "create table t (id int primary key, a varchar(20)); insert into t values (1, 'x'), (2, 'y')",
            )
            .unwrap();
        let mut daemon = Daemon::spawn(&pair.config());
        daemon.ready();
        pair.source
            .sql_in(
                "shop",
                "alter table t add column n int not null default 7, add column d datetime(6) null; insert into t values (3, 'z', 8, '2024-01-01'); \
                 alter table t rename column a to label; update t set label = 'w' where id = 1; alter table t drop column d; \
                 create table u (id int auto_increment primary key, j json); insert into u (j) values ('[1]'); truncate table u; insert into u (id, j) values (9, '{}'); \
                 alter table t modify label varchar(60); insert into t (id, label) values (4, repeat('l', 50))",
            )
            .unwrap();
        let mut sql = pair.on_target();
        wait_until("the last row has come", PATIENCE, || {
            sql.try_rows("select 1 from t where id = 4").is_ok_and(|r| r.len() == 1)
        });
        assert_eq!(sql.one("select string_agg(id || label || n, ' ' order by id) from t where id < 4"), "1w7 2y7 3z8");
        assert_eq!(sql.one("select string_agg(id::text || j, ' ') from u"), "9{}");
        assert_eq!(daemon.sigterm(), 0);
    }
}

#[test]
fn given_kills_at_every_named_point_when_started_again_then_nothing_is_lost_or_twice() {
    let install = &installs()[0];
    for point in [
        "copy.log_kept",
        "copy.schema_made",
        "copy.planned",
        "copy.chunk_read",
        "copy.chunk_committed",
        "copy.loaded",
        "copy.done",
        "stream.applied",
        "apply.before_commit",
    ] {
        let pair = Pair::start(install);
        pair.source
            .sql_in("shop", "create table a (id int auto_increment primary key, v int, pad varchar(200)); create table b (k varchar(30) primary key, v int)")
            .unwrap();
        let rows = |from: i32| {
            let values: Vec<String> = (from..from + 500).map(|i| format!("({i}, {i}, repeat('p', 100))")).collect();
            format!("insert into a values {}", values.join(", "))
        };
        pair.source.sql_in("shop", &rows(1)).unwrap();
        pair.source.sql_in("shop", "insert into b select concat('k', id), id from a").unwrap();
        let config = pair.config().env("SWITCHYARD_CHUNK_BYTES", 10_000).env("SWITCHYARD_WHOLE_TABLE_BYTES", 1000);
        let mut daemon = Daemon::spawn(
            &config
                .clone()
                .crash_at(point, if point.starts_with("copy.chunk") || point.contains("appl") { 2 } else { 1 }),
        );
        for i in 0..20 {
            pair.source
                .sql_in("shop", &format!("{}; update b set v = v + 1 where v % 20 = {i}; delete from a where id = {}; update b set k = concat('m', {i}) where k = 'k{}'", rows(1000 + 500 * i), i + 1, i + 1))
                .unwrap();
        }
        daemon.wait_crash();
        let mut daemon = Daemon::spawn(&config);
        daemon.ready();
        pair.source.sql_in("shop", "insert into b values ('end', 0)").unwrap();
        let mut sql = pair.on_target();
        wait_until("the last row has come", PATIENCE, || {
            sql.try_rows("select 1 from b where k = 'end'").is_ok_and(|r| r.len() == 1)
        });
        let digest = "select concat(count(*), ' ', sum(id), ' ', sum(v)) from a";
        assert_eq!(sql.one(digest), pair.source.sql_in("shop", digest).unwrap(), "{point}");
        let digest = "select concat(count(*), ' ', count(distinct k), ' ', sum(v)) from b";
        assert_eq!(sql.one(digest), pair.source.sql_in("shop", digest).unwrap(), "{point}");
        assert_eq!(daemon.sigterm(), 0);
    }
}

#[test]
fn given_schema_changes_while_stopped_when_started_again_then_the_target_gets_them_in_order() {
    for install in installs() {
        let pair = Pair::start(&install);
        pair.source
            .sql_in(
                "shop",
                "create table t (id int primary key, a varchar(20)); insert into t values (1, 'x'), (2, 'y')",
            )
            .unwrap();
        let config = pair.config();
        let mut daemon = Daemon::spawn(&config);
        daemon.ready();
        assert_eq!(daemon.sigterm(), 0);
        // The catalog that the next start reads is later than the log's place.
        pair.source
            .sql_in(
                "shop",
                "create table fresh (id int primary key, s varchar(10) default 'd'); insert into fresh (id) values (1); alter table fresh add column m int; \
                 update t set a = 'xx' where id = 1; alter table t add column n int not null default 7; insert into t values (3, 'z', 8); \
                 alter table t drop column a; insert into t values (4, 9); alter table t add column b json; insert into t values (5, 1, '[]')",
            )
            .unwrap();
        let mut daemon = Daemon::spawn(&config);
        daemon.ready();
        let mut sql = pair.on_target();
        wait_until("the last row has come", PATIENCE, || {
            sql.try_rows("select 1 from t where id = 5").is_ok_and(|r| r.len() == 1)
        });
        assert_eq!(sql.one("select string_agg(id || ':' || n, ' ' order by id) from t"), "1:7 2:7 3:8 4:9 5:1");
        assert_eq!(sql.one("select string_agg(id || s || coalesce(m, 0), ' ') from fresh"), "1d0");
        assert_eq!(daemon.sigterm(), 0);
        // The first thing after a start is the change itself.
        pair.source.sql_in("shop", "alter table fresh add column c varchar(5) not null default 'c', rename column s to label; insert into fresh (id, label) values (2, 'x')").unwrap();
        let mut daemon = Daemon::spawn(&config);
        daemon.ready();
        wait_until("the last row has come", PATIENCE, || {
            sql.try_rows("select 1 from fresh where id = 2 and c = 'c'").is_ok_and(|r| r.len() == 1)
        });
        assert_eq!(sql.one("select string_agg(id || label || c, ' ' order by id) from fresh"), "1dc 2xc");
        assert_eq!(sql.one("select string_agg(column_name, ' ' order by ordinal_position) from information_schema.columns where table_name = 't'"), "id n b");
        assert_eq!(daemon.sigterm(), 0);
    }
}
