//! Labels and defaults that catalogs print otherwise than they are: characters beyond U+FFFF, and escapes.

use switchyard::sandbox::Flavour::{self, Mariadb, Mysql};

use super::{checked, twins};
use crate::mysql_pairs::quick;
use crate::mysql_to_postgres::Pair;
use crate::support::Daemon;

const BOTH: [Flavour; 2] = [Mysql, Mariadb];

const TABLE: &str = "create table t (id int auto_increment primary key, e enum('a😀','b','it''s 🚂, x)','?','back\\\\slash','n\\nl') not null default 'a😀',
        f enum('?','c') default '?', s set('x🎉','y','z\\\\') default 'x🎉,y', v varchar(30) default 'd 🚂 ''q'' \\\\ b', n varchar(30) not null default '?!\\n', \
        plain varchar(10) default 'a\\\\b', l enum('é','😀') character set utf8mb4 comment 'DEFAULT ''?'' 😀');
    create table parts (id int primary key, e enum('🙂','🙃') collate utf8mb4_bin) partition by hash (id) partitions 2;
    insert into t (id) values (1); insert into t (e, f, s, l) values ('it''s 🚂, x)', 'c', 'z\\\\,x🎉', '😀'), ('n\\nl', '?', '', 'é'), ('?', null, 'y', null), ('back\\\\slash', null, 'x🎉,y,z\\\\', null);
    insert into parts values (1, '🙃'), (2, '🙂')";

const STREAMED: &str = "insert into t (id) values (100); update t set e = 'a😀', s = 'x🎉' where id = 4; delete from t where id = 3; update parts set e = '🙂' where id = 1;
    create table later (id int primary key, e enum('🦀','b') default '🦀'); insert into later (id) values (1); alter table t add column k set('⛵','🚀') default '🚀'; insert into t (id, k) values (101, '⛵')";

#[test]
fn given_labels_and_defaults_beyond_the_catalogs_characters_when_moved_then_all_of_them_are_there() {
    for from in BOTH {
        for to in BOTH {
            let twins = twins(quick(from), quick(to));
            twins.at_source(TABLE);
            let (status, said) = checked(&twins.config());
            assert_eq!(status, Some(0), "{said}");
            assert!(!said.contains("labels"), "{said}");
            let mut daemon = Daemon::spawn(&twins.config());
            twins.level(&mut daemon);
            let same = |sql: &str| assert_eq!(twins.at_source(sql), twins.on_target(sql), "{from:?} {to:?} {sql}");
            same("select id, hex(e), f, hex(s), hex(v), hex(n), hex(plain), hex(l) from t order by id");
            same("select id, hex(e) from parts order by id");
            twins.at_source(STREAMED);
            twins.level(&mut daemon);
            same("select id, hex(e), f, hex(s), hex(v), hex(n), hex(plain), hex(l), hex(k) from t order by id");
            same("select id, hex(e) from parts order by id");
            same("select id, hex(e) from later order by id");
            assert_eq!(daemon.sigterm(), 0);
            // What the target gives by itself.
            for side in [&twins.source, &twins.target] {
                let database = if std::ptr::eq(side, &twins.source) { "shop" } else { "store" };
                side.sql_in(database, "insert into t (id, k) values (500, '🚀'); insert into later (id) values (500)")
                    .unwrap();
            }
            same("select hex(e), hex(f), hex(s), hex(v), hex(n), hex(plain) from t where id = 500");
            same("select hex(e) from later where id = 500");
            // No trace of having looked.
            let made = "select count(*) from information_schema.tables where table_name like 'switchyard\\_labels%'";
            assert_eq!(twins.at_source(made), "0");
            daemon = Daemon::spawn(&twins.config());
            twins.at_source("update t set e = 'n\\nl' where id = 1");
            twins.target.sql_in("store", "delete from t where id = 500; delete from later where id = 500").unwrap();
            twins.level(&mut daemon);
            same("select hex(e) from t where id = 1");
            assert_eq!(daemon.sigterm(), 0);
        }
    }
}

#[test]
fn given_labels_and_defaults_beyond_the_catalogs_characters_when_moved_to_postgres_then_checks_and_defaults_have_them()
{
    for from in BOTH {
        let pair = Pair::of(quick(from).start().unwrap());
        pair.at_source(TABLE);
        let mut daemon = Daemon::spawn(&pair.config());
        pair.level(&mut daemon);
        pair.at_source(STREAMED);
        pair.level(&mut daemon);
        let mut target = pair.on_target();
        let ours =
            target.one("select string_agg(concat_ws('|', id, e, f, s, v, n, plain, l, k), E'\\n' order by id) from t");
        let theirs = pair.at_source(
            "select group_concat(concat_ws('|', id, e, f, s, v, n, plain, l, k) order by id separator '\\n') from t",
        );
        assert_eq!(ours, theirs);
        target.run("insert into t (id) values (500); insert into t (id, e) values (501, E'n\\nl'); insert into parts values (9, '🙂')");
        assert_eq!(
            target.one("select concat_ws('|', e, f, s, v, n, plain) from t where id = 500"),
            "a😀|?|x🎉,y|d 🚂 'q' \\ b|?!\n|a\\b"
        );
        assert!(target.try_run("insert into t (id, e) values (502, 'a?')").is_err());
        assert_eq!(daemon.sigterm(), 0);
    }
}

#[test]
fn given_an_account_that_may_not_look_at_labels_when_checked_then_it_is_told_how() {
    for from in BOTH {
        let twins = twins(quick(from), quick(Mysql));
        twins.at_source("create table t (id int primary key, e enum('a😀','b') default 'a😀', v varchar(20) default '😀'); insert into t values (1, 'b', '')");
        twins.source.sql("create user 'reader'@'%' identified by 'pw'; grant select, lock tables on shop.* to 'reader'@'%'; grant replication slave, replication client on *.* to 'reader'@'%'").unwrap();
        let config = twins.config().source(&twins.source.url_as("reader", "pw", "shop"));
        let (status, said) = checked(&config);
        assert_eq!(status, Some(0), "{said}");
        assert!(
            said.contains("shop.t: the server prints the labels of column e with \"?\"")
                && said.contains("GRANT CREATE TEMPORARY TABLES ON `shop`.*"),
            "{said}"
        );
        twins.source.sql("grant create temporary tables on shop.* to 'reader'@'%'").unwrap();
        let (_, said) = checked(&config);
        assert!(!said.contains("labels"), "{said}");
        let mut daemon = Daemon::spawn(&config);
        daemon.ready();
        twins.at_source("insert into t (id) values (2)");
        twins.level(&mut daemon);
        assert_eq!(twins.on_target("select e, v from t order by id"), "b|\na😀|😀");
        assert_eq!(daemon.sigterm(), 0);
    }
}
