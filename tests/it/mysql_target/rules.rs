//! Rules with MySQL and MariaDB as target: merges, and lists that become rows.

use switchyard::sandbox::Flavour;

use super::Mixed;
use crate::support::Daemon;

fn merge(m: &Mixed, mode: &str, extra: &str) -> Daemon {
    m.on_source().run(
        "create table a (id int primary key, v text); create table b (id int primary key, v text);
         insert into a select i, 'a' || i from generate_series(1, 10) i; insert into b select i, 'b' || i from generate_series(6, 15) i",
    );
    m.on_target("create table t (id int primary key, v varchar(50), origin varchar(10) not null)");
    let rules = format!(
        "[[rule]]\nfrom = \"public.a\"\nto = \"t\"\nset = {{ origin = \"'a'\" }}\n\
         [[rule]]\nfrom = \"public.b\"\nto = \"t\"\nset = {{ origin = \"'b'\" }}\non_existing = \"{mode}\"\n{extra}"
    );
    let mut daemon =
        Daemon::spawn(&m.config().schema_exists().extra(&rules.replace("\"t\"", &format!("\"{}.t\"", m.name))));
    daemon.ready();
    daemon
}

#[test]
fn given_a_merge_that_skips_when_skipped_rows_change_then_the_others_stay_as_they_are() {
    for flavour in [Flavour::Mysql, Flavour::Mariadb] {
        let m = Mixed::start(flavour);
        let mut daemon = merge(&m, "skip", "");
        let first_wins =
            "select id, v, 'a' from a union all select id, v, 'b' from b where id not in (select id from a) order by 1";
        let ours = "select id, v, origin from t order by id";
        m.assert_same(first_wins, ours);
        let mut sql = m.on_source();
        for change in [
            "update b set v = 'skipped' where id = 7; update b set v = 'own' where id = 14",
            "delete from b where id = 8; delete from b where id = 15; delete from a where id = 1",
            "insert into b values (2, 'skipped'), (20, 'own')",
            "update b set v = 'still skipped' where id = 2",
            "begin; insert into b values (3, 'x'); update b set v = 'y' where id = 3; delete from b where id = 3; commit",
            "begin; insert into b values (50, 'own'); insert into a values (51, 'first'); insert into b values (51, 'skipped'); commit",
            "update b set id = 5 where id = 13; update b set id = 30 where id = 9",
        ] {
            sql.run(change);
        }
        daemon.wait_level(&m.source_url());
        m.assert_same(first_wins, ours);
        // What was left out stays left out, also when the row that was in its way goes; once deleted it may come again.
        sql.run("delete from a where id = 6");
        sql.run("update b set v = 'late' where id = 6");
        daemon.wait_level(&m.source_url());
        assert_eq!(m.on_target("select v from t where id = 6"), "");
        sql.run("delete from b where id = 6");
        sql.run("insert into b values (6, 'again')");
        daemon.wait_level(&m.source_url());
        assert_eq!(m.on_target("select v from t where id = 6"), "again");
    }
}

#[test]
fn given_a_merge_that_replaces_when_rows_meet_then_the_later_wins() {
    for flavour in [Flavour::Mysql, Flavour::Mariadb] {
        let m = Mixed::start(flavour);
        let mut daemon = merge(&m, "replace", "");
        let second_wins =
            "select id, v, 'b' from b union all select id, v, 'a' from a where id not in (select id from b) order by 1";
        m.assert_same(second_wins, "select id, v, origin from t order by id");
        let mut sql = m.on_source();
        sql.run("insert into b values (2, 'wins'), (21, 'own'); update b set v = 'wins again' where id = 7");
        sql.run("update b set id = 3 where id = 11");
        sql.run("insert into a values (40, 'own'); delete from a where id = 1");
        daemon.wait_level(&m.source_url());
        m.assert_same(second_wins, "select id, v, origin from t order by id");
    }
}

#[test]
fn given_an_account_without_privileges_when_checked_then_the_grants_are_named() {
    for flavour in [Flavour::Mysql, Flavour::Mariadb] {
        let m = Mixed::start(flavour);
        m.on_source().run("create table t (id int primary key); insert into t values (1)");
        m.on_target(&format!(
            "create user 'small'@'%' identified by 'secret'; grant select on {}.* to 'small'@'%'",
            m.name
        ));
        let config = m.config().target(&m.target.url_as("small", "secret", &m.name));
        let said = Daemon::command(&config, &["check"]);
        let text = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
        assert!(
            !said.status.success() && text.contains("GRANT SELECT, INSERT, UPDATE, DELETE, DROP, CREATE"),
            "{text}"
        );
        let grants: Vec<&str> = text.split("GRANT ").skip(1).filter_map(|g| g.split(';').next()).collect();
        for g in &grants {
            m.on_target(&format!("GRANT {g}"));
        }
        let mut daemon = Daemon::spawn(&config);
        daemon.ready();
        m.on_source().run("insert into t values (2)");
        daemon.wait_level(&m.source_url());
        assert_eq!(m.on_target("select id from t order by id"), "1\n2");
    }
}
