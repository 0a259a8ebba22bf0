//! Servers that take less than they might: no LOAD DATA LOCAL, small packets.

use switchyard::sandbox::Flavour::{Mariadb, Mysql};

use super::{checked, stopped, twins};
use crate::mysql_pairs::quick;
use crate::mysql_source::{COLUMNS, ROWS};
use crate::mysql_to_postgres::Pair;
use crate::support::Daemon;

#[test]
fn given_a_target_without_local_infile_when_copied_then_it_says_so_and_the_rows_are_the_same() {
    for flavour in [Mysql, Mariadb] {
        let twins = twins(
            quick(flavour).setting("sort_buffer_size", "64M"),
            quick(flavour).setting("local_infile", "OFF").setting("sort_buffer_size", "64M"),
        );
        let values: Vec<String> = ROWS.iter().map(|r| format!("({r})")).collect();
        twins.at_source(&format!(
            "set sql_mode = ''; create table a ({COLUMNS}) charset utf8mb4; insert into a values {}; \
             create table many (id int auto_increment primary key, t longtext, b longblob); \
             insert into many (t, b) with recursive s(n) as (select 1 union all select n + 1 from s where n < 999) select concat('é😀\\\\''\"', n), unhex(sha2(n, 256)) from s; \
             insert into many (t, b) values (repeat('long 😀 ', 40000), repeat(x'00ff275c', 100000)), (null, ''), ('', null)",
            values.join(", ")
        ));
        let (status, said) = checked(&twins.config());
        assert_eq!(status, Some(0), "{said}");
        assert!(
            said.contains("local_infile is off on the target") && said.contains("SET GLOBAL local_infile = ON"),
            "{said}"
        );
        let mut daemon = Daemon::spawn(&twins.config());
        twins.level(&mut daemon);
        assert!(daemon.log().contains("local_infile is off"), "{}", daemon.log());
        twins.assert_same("a");
        twins.assert_same("many");
        assert_eq!(daemon.sigterm(), 0);
    }
}

/// A row of 3 MB beside small ones.
const LARGE: &str = "insert into t values (42, repeat('x', 3000000), null)";
const LENGTHS: &str = "select id, length(body), length(j) from t order by id";
const TABLE: &str =
    "create table t (id int primary key, body longtext, j json); insert into t values (1, 'small', '[1]')";

#[test]
fn given_a_target_that_takes_small_packets_when_a_larger_row_is_copied_then_the_row_and_the_setting_are_named() {
    for flavour in [Mysql, Mariadb] {
        for local in ["ON", "OFF"] {
            let small = quick(flavour).setting("max_allowed_packet", "1M").setting("local_infile", local);
            let twins = twins(quick(flavour), small);
            twins.at_source(TABLE);
            twins.at_source(LARGE);
            let (status, said) = checked(&twins.config());
            assert_eq!(status, Some(0), "{said}");
            assert!(said.contains("max_allowed_packet is 1048576 bytes on the target"), "{said}");
            let mut daemon = Daemon::spawn(&twins.config());
            // A file of rows has no such limit, a statement has.
            if local == "OFF" {
                stopped(
                    &mut daemon,
                    &["store.t: insert of the row id=42 (30000", "1048576", "max_allowed_packet", "SET GLOBAL"],
                );
                twins.target.sql("set global max_allowed_packet = 16777216").unwrap();
                daemon = Daemon::spawn(&twins.config());
            }
            twins.level(&mut daemon);
            assert_eq!(twins.on_target(LENGTHS), twins.at_source(LENGTHS));
            assert_eq!(daemon.sigterm(), 0);
        }
    }
}

#[test]
fn given_a_target_that_takes_small_packets_when_a_larger_row_is_streamed_then_the_row_and_the_setting_are_named() {
    for flavour in [Mysql, Mariadb] {
        let twins = twins(quick(flavour), quick(flavour).setting("max_allowed_packet", "1M"));
        twins.at_source(TABLE);
        let mut daemon = Daemon::spawn(&twins.config());
        twins.level(&mut daemon);
        twins.at_source("insert into t values (2, repeat('y', 400000), null), (3, repeat('y', 400000), null), (4, repeat('y', 400000), null)");
        twins.level(&mut daemon);
        twins.at_source(LARGE);
        stopped(
            &mut daemon,
            &["store.t: insert of the row id=42 (30000", "1048576", "max_allowed_packet", "SET GLOBAL"],
        );
        twins.target.sql("set global max_allowed_packet = 16777216").unwrap();
        let mut daemon = Daemon::spawn(&twins.config());
        twins.level(&mut daemon);
        assert_eq!(twins.on_target(LENGTHS), twins.at_source(LENGTHS));
        assert_eq!(daemon.sigterm(), 0);
    }
}

#[test]
fn given_a_source_that_takes_small_packets_when_larger_rows_are_read_then_they_come_whole_or_are_named() {
    for flavour in [Mysql, Mariadb] {
        let pair = Pair::of(quick(flavour).setting("max_allowed_packet", "64M").start().unwrap());
        pair.at_source(&format!("{TABLE}; create table u like t; {LARGE}"));
        pair.at_source("insert into t values (43, repeat('é', 2000000), concat('\"', repeat('j', 5000000), '\"'))");
        // The largest that one client had, the next may not have.
        pair.source.sql("set global max_allowed_packet = 1048576").unwrap();
        let mut daemon = Daemon::spawn(&pair.config());
        if flavour == Mysql {
            // Sent as nothing at all, with a warning: never taken for a value.
            let (_, said) = checked(&pair.config());
            assert!(said.contains("max_allowed_packet is 1048576 bytes at the source"), "{said}");
            stopped(
                &mut daemon,
                &["shop.t: column j of the row id=43", "max_allowed_packet", "SET GLOBAL", "at the source"],
            );
            pair.source.sql("set global max_allowed_packet = 16777216").unwrap();
            daemon = Daemon::spawn(&pair.config());
            daemon.ready();
            // The log holds documents as they are stored.
            pair.source.sql("set global max_allowed_packet = 1048576").unwrap();
        }
        pair.level(&mut daemon);
        pair.at_source("insert into u select * from t; update u set id = id + 100 where id > 42");
        pair.level(&mut daemon);
        let mut target = pair.on_target();
        for table in ["t", "u"] {
            assert_eq!(
                target.one(&format!(
                    "select string_agg(concat_ws(' ', length(body), length(j::text)), ',' order by id) from {table}"
                )),
                "5 3,3000000,2000000 5000002",
                "{table}"
            );
        }
        assert_eq!(daemon.sigterm(), 0);
    }
}
