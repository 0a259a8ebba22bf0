//! TRUNCATE of a part of a partitioned table, which the server does not publish.

use crate::support::{Config, Daemon, Database, Sql, assert_equal};

const TREE: &str = "
    create table m (id int, at date, v text, primary key (id, at)) partition by range (at);
    create table m_1 partition of m for values from ('2024-01-01') to ('2024-02-01');
    create table m_2 partition of m for values from ('2024-02-01') to ('2024-03-01') partition by hash (id);
    create table m_2_0 partition of m_2 for values with (modulus 2, remainder 0);
    create schema \"Odd one\"; create table \"Odd one\".\"m 2 1\" partition of m_2 for values with (modulus 2, remainder 1);
    create table m_rest partition of m default;
    insert into m select n, date '2024-01-01' + n, 'v' from generate_series(0, 80) n;
    create table r (id int primary key, m_id int, m_at date, foreign key (m_id, m_at) references m);
    create table plain (id int primary key)";

struct Life {
    db: Database,
    config: Config,
    daemon: Daemon,
    source: Sql,
    target: Sql,
}

impl Life {
    fn start(what: &str, extra: &str) -> Life {
        let db = Database::shared(what);
        let mut source = db.on_source();
        source.run(TREE);
        let config = db.config().extra(extra);
        let mut daemon = Daemon::spawn(&config);
        daemon.ready();
        Life { source, target: db.on_target(), config, daemon, db }
    }
    fn follow(&mut self, sql: &str) {
        self.source.run(sql);
        self.daemon.wait_level(&self.db.source);
        assert_equal(&self.db.source, &self.db.target);
    }
    fn triggers(sql: &mut Sql) -> i64 {
        sql.number("select count(*) from pg_trigger where tgname like '%switchyard%'")
    }
}

#[test]
fn given_partitions_when_some_are_truncated_then_exactly_these_are_empty_on_the_target() {
    let mut l = Life::start("truncate", "");
    assert_eq!(Life::triggers(&mut l.source), 6);
    assert_eq!(Life::triggers(&mut l.target), 0);
    // Truncating what a foreign key refers to needs CASCADE; the referring rows go as well.
    l.follow("insert into r values (1, 0, '2024-01-01'); truncate m_1 cascade");
    assert_eq!(l.target.one("select count(*) from m where at < '2024-02-01'"), "0");
    assert_eq!(l.target.one("select count(*) from r"), "0");
    // Between rows of one transaction, and with what is taken back.
    l.follow("begin; insert into m values (100, '2024-01-02', 'before'), (101, '2024-02-02', 'before'); truncate m_1 cascade; insert into m values (102, '2024-01-03', 'after');
        savepoint s; truncate m_2 cascade; insert into m values (103, '2024-01-04', 'lost'); rollback to s; update m set v = 'w' where id = 102; commit");
    assert_eq!(l.target.one("select v from m where at < '2024-02-01'"), "w");
    l.follow("truncate \"Odd one\".\"m 2 1\", plain cascade; insert into plain values (1)");
    // What is divided further, and a default partition.
    l.follow("truncate m_2, m_rest cascade; insert into m values (200, '2024-02-05', 'x'), (201, '2030-01-01', 'y')");
    // The whole, in both orders, with a trigger that puts something back.
    l.source.run("create function seed() returns trigger language plpgsql as 'begin insert into m values (1, ''2024-01-01'', ''seed''); return null; end'");
    l.follow("create trigger seed after truncate on m execute function seed(); truncate m cascade; insert into m values (2, '2024-01-02', 'x')");
    assert_eq!(l.target.one("select count(*) from m"), "2");
    l.follow("truncate m_1, m cascade");
    l.follow("truncate m cascade; truncate m_1 cascade; insert into m values (3, '2024-02-02', 'x')");
    // Partitions and trees that are made, attached and taken off while the stream runs.
    l.follow("create table m_3 partition of m for values from ('2024-03-01') to ('2024-04-01'); insert into m values (5, '2024-03-05', 'x')");
    l.follow("truncate m_3 cascade; insert into m values (6, '2024-03-06', 'x')");
    l.follow("create table m_4 (id int not null, at date not null, v text, primary key (id, at)); alter table m attach partition m_4 for values from ('2024-04-01') to ('2024-05-01'); insert into m values (7, '2024-04-05', 'x')");
    l.follow("truncate m_4 cascade");
    l.follow("create table n (id int primary key) partition by list (id); create table n_1 partition of n for values in (1); create table n_2 partition of n for values in (2); insert into n values (1), (2); truncate n_2");
    assert_eq!(l.target.one("select count(*) from n"), "1");
    // While nobody looks.
    assert_eq!(l.daemon.sigterm(), 0);
    l.source.run("insert into n values (2)");
    l.source.run("truncate n_1");
    l.source.run("insert into n values (1)");
    l.daemon = Daemon::spawn(&l.config);
    l.daemon.wait_level(&l.db.source);
    assert_equal(&l.db.source, &l.db.target);
    let warnings = l.daemon.says("/warnings").to_string();
    assert!(!warnings.contains("TRUNCATE"), "{warnings}");
    assert_eq!(l.daemon.sigterm(), 0);
    let out = Daemon::command(&l.config, &["finish", "--yes"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(Life::triggers(&mut l.source), 0);
    assert_eq!(Life::triggers(&mut l.target), 0);
    l.source.run("truncate m_1 cascade; truncate n");
    l.db.drop();
}

#[test]
fn given_a_target_that_is_divided_otherwise_when_a_partition_is_truncated_then_it_stops_with_a_way_on() {
    let mut l = Life::start("truncate_other", "[tables]\ninclude = [\"public.m\", \"public.plain\"]");
    assert_eq!(Life::triggers(&mut l.target), 0);
    l.target.run("alter table m detach partition m_1; alter table m_1 rename to m_one; alter table m attach partition m_one for values from ('2024-01-01') to ('2024-02-01')");
    let equal = |l: &mut Life| {
        l.daemon.wait_level(&l.db.source);
        let all = "select string_agg(m::text, ' ' order by id, at) from m";
        assert_eq!(l.source.one(all), l.target.one(all));
    };
    // The whole needs no partition of the same name.
    l.source
        .run("truncate m cascade; insert into m select n, date '2024-01-01' + n, 'v' from generate_series(0, 80) n");
    equal(&mut l);
    l.source.run("truncate m_2 cascade");
    equal(&mut l);
    l.source.run("truncate m_1 cascade; insert into m values (500, '2024-01-01', 'after')");
    assert_eq!(l.daemon.exit_status(), 1);
    let log = l.daemon.log();
    for s in ["it empties public.m_1", "FOR VALUES FROM ('2024-01-01') TO ('2024-02-01')", "To go on:"] {
        assert!(log.contains(s), "{s:?} is not in:\n{log}");
    }
    l.target.run("delete from m where at < '2024-02-01'");
    let from = log.find("INSERT INTO switchyard.restore").expect("the statement is told");
    let to = log[from..].find(", then start").unwrap();
    l.target.run(&log[from..from + to]);
    l.daemon = Daemon::spawn(&l.config);
    equal(&mut l);
    // A default partition holds what the others do not: it is another one where the others differ.
    l.target.run("alter table m detach partition m_2");
    l.source.run("truncate m_rest cascade");
    assert_eq!(l.daemon.exit_status(), 1);
    assert!(l.daemon.log().contains("it empties public.m_rest"));
    l.db.drop();
}
