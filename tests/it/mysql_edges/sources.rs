//! Sources that are set up, or written to, in ways that cannot be followed.

use switchyard::sandbox::Flavour::{self, Mariadb, Mysql};

use super::{checked, refused, stopped, twins};
use crate::mysql_pairs::{Twins, quick};
use crate::support::Daemon;

const BOTH: [Flavour; 2] = [Mysql, Mariadb];

fn with_rows(flavour: Flavour) -> Twins {
    let twins = twins(quick(flavour), quick(Mariadb));
    twins.at_source("create table t (id int primary key, v int); insert into t values (1, 1)");
    twins
}

#[test]
fn given_a_log_that_does_not_hold_whole_rows_when_checked_then_each_setting_is_named() {
    for flavour in BOTH {
        let twins = with_rows(flavour);
        for (name, wrong) in [
            ("binlog_format", "STATEMENT"),
            ("binlog_format", "MIXED"),
            ("binlog_row_image", "MINIMAL"),
            ("binlog_row_image", "NOBLOB"),
            ("binlog_row_metadata", "MINIMAL"),
        ] {
            let right = twins.source.sql(&format!("select @@global.{name}")).unwrap();
            twins.source.sql(&format!("set global {name} = '{wrong}'")).unwrap();
            refused(
                &twins.config(),
                &[&format!("{name} is {wrong}"), &format!("SET GLOBAL {name} = '{right}'"), "sessions connect anew"],
            );
            let mut daemon = Daemon::spawn(&twins.config());
            stopped(&mut daemon, &[name]);
            twins.source.sql(&format!("set global {name} = '{right}'")).unwrap();
        }
        let there =
            twins.target.sql("select count(*) from information_schema.schemata where schema_name = 'switchyard'");
        assert_eq!(there.unwrap(), "0");
        assert_eq!(checked(&twins.config()).0, Some(0));
    }
}

#[test]
fn given_no_binary_log_when_checked_then_it_says_so() {
    for flavour in BOTH {
        let mut source = quick(flavour).setting("log_bin", "OFF");
        if flavour == Mysql {
            source = source.setting("gtid_mode", "OFF").setting("enforce_gtid_consistency", "OFF");
        }
        let twins = twins(source, quick(Mysql));
        twins.at_source("create table t (id int primary key)");
        refused(&twins.config(), &["the source writes no binary log", "log_bin"]);
    }
}

#[test]
fn given_a_session_that_logs_statements_when_it_writes_then_the_stream_stops_and_names_the_table() {
    for flavour in BOTH {
        for (statement, what) in [
            ("update t set v = v + 1", "UPDATE of shop.t"),
            ("insert into shop.t select 2, 2", "INSERT of shop.t"),
            ("delete t from t join t u on u.id = t.id", "statement in database \"shop\""),
            // By a trigger.
            ("insert into elsewhere.log values (1)", "INSERT of elsewhere.log"),
        ] {
            let twins = with_rows(flavour);
            twins.at_source("create database elsewhere; create table elsewhere.log (id int); create trigger elsewhere.logged after insert on elsewhere.log for each row insert into shop.t values (new.id + 100, 0)");
            let mut daemon = Daemon::spawn(&twins.config());
            daemon.ready();
            // What servers write for themselves goes by.
            let own = "create table if not exists heart (id int primary key, at datetime) engine = InnoDB; set session binlog_format = 'STATEMENT'; \
                       insert into heart values (1, now()) on duplicate key update at = now(); update heart set id = 2; delete from heart where id = 2";
            twins.source.sql_in("mysql", own).unwrap();
            twins.level(&mut daemon);
            twins.at_source(&format!("set session binlog_format = 'STATEMENT'; {statement}"));
            stopped(&mut daemon, &["logged a statement instead of the rows", what, "binlog_format", "copy anew"]);
        }
    }
}

#[test]
fn given_a_session_that_logs_parts_of_rows_when_it_writes_then_the_stream_stops_and_names_the_table() {
    for flavour in BOTH {
        let twins = with_rows(flavour);
        let mut daemon = Daemon::spawn(&twins.config());
        daemon.ready();
        twins.at_source("set session binlog_row_image = 'MINIMAL'; update t set v = 2");
        stopped(&mut daemon, &["shop.t: the source logged rows that are not whole", "binlog_row_image", "copy anew"]);
    }
}

#[test]
fn given_a_session_that_logs_nothing_when_it_writes_then_a_later_change_of_its_rows_stops() {
    for flavour in BOTH {
        let twins = with_rows(flavour);
        let mut daemon = Daemon::spawn(&twins.config());
        daemon.ready();
        twins.at_source("set session sql_log_bin = 0; insert into t values (5, 5)");
        twins.level(&mut daemon);
        twins.at_source("update t set v = 6 where id = 5");
        stopped(&mut daemon, &["store.t", "id=5", "not there"]);
    }
}

#[test]
fn given_tables_without_transactions_when_checked_then_both_sides_name_them() {
    for flavour in BOTH {
        let twins = twins(quick(flavour), quick(flavour));
        twins.at_source("create table t (id int primary key, v int) engine = MyISAM; insert into t values (1, 1)");
        refused(&twins.config(), &["shop.t: its engine is MyISAM", "ALTER TABLE `shop`.`t` ENGINE = InnoDB"]);
        twins.at_source("alter table t engine = InnoDB");
        twins.on_target("create table t (id int primary key, v int) engine = MyISAM");
        refused(
            &twins.config().schema_exists(),
            &["table store.t on the target is of the engine MyISAM", "ALTER TABLE `store`.`t` ENGINE=InnoDB"],
        );
        twins.on_target("alter table t engine = InnoDB");
        let mut daemon = Daemon::spawn(&twins.config().schema_exists());
        daemon.ready();
        // One that comes while it is followed: its rows are followed as long as nothing rolls back.
        twins.at_source(
            "create table m (id int primary key, v int) engine = MyISAM; insert into m values (1, 1), (2, 2)",
        );
        twins.level(&mut daemon);
        twins.assert_same("m");
        let _ =
            twins.source.sql_in("shop", "begin; insert into m values (3, 3); insert into t values (3, 3); rollback");
        let _ = twins.source.sql_in("shop", "insert into m values (4, 4), (1, 1)");
        assert_eq!(twins.at_source("select count(*) from m"), "4");
        twins.level(&mut daemon);
        twins.assert_same("m");
        twins.assert_same("t");
    }
}

#[test]
fn given_transactions_of_two_phases_when_they_change_selected_tables_then_they_are_named() {
    for flavour in BOTH {
        let twins = with_rows(flavour);
        twins.at_source("create database elsewhere; create table elsewhere.log (id int primary key)");
        twins.at_source("xa start 'open'; insert into t values (8, 8); xa end 'open'; xa prepare 'open'");
        refused(&twins.config(), &["1 prepared XA transactions", "XA COMMIT or XA ROLLBACK"]);
        twins.at_source("xa rollback 'open'");
        let mut daemon = Daemon::spawn(&twins.config());
        daemon.ready();
        // In one phase, and of other tables, it is a transaction like any other.
        twins.at_source("xa start 'a'; insert into t values (2, 2); xa end 'a'; xa commit 'a' one phase");
        twins
            .at_source("xa start 'b'; insert into elsewhere.log values (2); xa end 'b'; xa prepare 'b'; xa commit 'b'");
        twins.level(&mut daemon);
        twins.assert_same("t");
        twins.at_source("xa start 'c'; insert into t values (3, 3); xa end 'c'; xa prepare 'c'");
        stopped(&mut daemon, &["XA transaction", "copy anew"]);
        let _ = twins.source.sql("xa rollback 'c'");
    }
}

#[test]
fn given_missing_privileges_at_the_source_when_checked_then_the_printed_statements_mend_it() {
    for flavour in BOTH {
        let twins = with_rows(flavour);
        twins.at_source("create table `odd name` (id int primary key); insert into `odd name` values (1)");
        twins.source.sql("create user 'reader'@'%' identified by 'not-the-password'").unwrap();
        let config = twins.config().source(&twins.source.url_as("reader", "not-the-password", "shop"));
        for _ in 0..6 {
            let (status, said) = checked(&config);
            assert!(!said.contains("not-the-password"), "{said}");
            if status == Some(0) {
                break;
            }
            let grants: Vec<&str> = said.split("GRANT ").skip(1).filter_map(|g| g.split([';', '\n']).next()).collect();
            for g in &grants {
                let g = g.trim_end_matches(';');
                twins.source.sql(&format!("GRANT {g}")).unwrap_or_else(|e| panic!("{g}: {e}"));
            }
            assert!(!grants.is_empty(), "{said}");
        }
        let mut daemon = Daemon::spawn(&config);
        daemon.ready();
        twins.at_source("insert into t values (2, 2)");
        twins.level(&mut daemon);
        twins.assert_same("t");
        assert_eq!(daemon.sigterm(), 0);
    }
}
