//! Foreign keys that change rows by themselves: followed where the log tells of it, refused and stopped at where not.

use switchyard::sandbox::Flavour::{self, Mariadb, Mysql};
use switchyard::sandbox::MyServerBuilder;

use super::{refused, stopped, twins};
use crate::mysql_pairs::quick;
use crate::mysql_to_postgres::Pair;
use crate::support::Daemon;

const FAMILY: &str = "
    create table p (id int primary key, k int);
    create table c (id int primary key, p int, constraint to_p foreign key (p) references p (id) on delete cascade on update cascade);
    create table s (id int primary key, p int, constraint s_to_p foreign key (p) references p (id) on delete set null on update set null);
    create table g (id int primary key, c int, constraint to_c foreign key (c) references c (id) on delete cascade);
    create table tree (id int primary key, up int, constraint upward foreign key (up) references tree (id) on delete cascade);
    insert into p values (1, 1), (2, 2), (3, 3), (4, 4); insert into c values (10, 1), (11, 1), (12, 2), (13, 4);
    insert into s values (20, 1), (21, 2), (22, 3); insert into g values (30, 10), (31, 12); insert into tree values (1, null), (2, 1), (3, 2), (4, null)";

/// What the keys do, also to rows of the same transaction and through two tables.
const WORK: &str = "delete from p where id = 1; update p set id = 5 where id = 2; delete from tree where id = 1;
    begin; insert into p values (7, 7); insert into c values (70, 7), (71, 7); insert into g values (72, 70); delete from p where id = 7; commit;
    update p set k = 33 where id = 3; delete p from p join c on c.p = p.id where c.id = 13";

const ROWS: [&str; 5] = [
    "select count(*), sum(id), sum(k) from p",
    "select count(*), sum(id), sum(p) from c",
    "select count(*), sum(id), sum(p), sum(case when p is null then 1 else 0 end) from s",
    "select count(*), sum(id), sum(c) from g",
    "select count(*), sum(id), sum(up) from tree",
];

fn native() -> MyServerBuilder {
    quick(Mysql).setting("innodb_native_foreign_keys", "ON")
}

#[test]
fn given_cascades_that_the_log_tells_when_rows_go_then_postgres_has_what_is_left() {
    let pair = Pair::of(quick(Mysql).start().unwrap());
    pair.at_source(FAMILY);
    let mut daemon = Daemon::spawn(&pair.config());
    daemon.ready();
    pair.at_source(WORK);
    pair.level(&mut daemon);
    let mut target = pair.on_target();
    for sql in ROWS {
        let row = target.rows(sql).remove(0);
        let row: Vec<String> = row.into_iter().map(|f| f.unwrap_or("NULL".into())).collect();
        assert_eq!(row.join("|"), pair.at_source(sql), "{sql}");
    }
    assert_eq!(pair.at_source("select group_concat(id order by id) from c"), "12");
    assert_eq!(target.rows("select 1 from pg_constraint where contype = 'f' and convalidated").len(), 4);
    assert_eq!(daemon.sigterm(), 0);
}

#[test]
fn given_cascades_that_the_log_tells_when_rows_go_then_mysql_and_mariadb_have_what_is_left() {
    for to in [Mysql, Mariadb] {
        let twins = twins(quick(Mysql), quick(to));
        twins.at_source(FAMILY);
        let mut daemon = Daemon::spawn(&twins.config());
        daemon.ready();
        twins.at_source(WORK);
        twins.level(&mut daemon);
        for sql in ROWS {
            assert_eq!(twins.at_source(sql), twins.on_target(sql), "{sql}");
        }
        assert_eq!(daemon.sigterm(), 0);
    }
}

#[test]
fn given_cascades_that_no_log_tells_when_checked_then_each_key_is_named_and_its_statement_mends_it() {
    for source in [native(), quick(Mariadb)] {
        let mariadb = matches!(source.clone().start().unwrap().flavour(), Flavour::Mariadb);
        let twins = twins(source, quick(Mysql));
        twins.at_source(FAMILY);
        let said = refused(
            &twins.config(),
            &[
                "shop.c: foreign key to_p changes rows by itself when rows of shop.p change",
                "shop.s: foreign key s_to_p",
                "shop.g: foreign key to_c",
                "shop.tree: foreign key upward",
                "ALTER TABLE `shop`.`c` ADD CONSTRAINT `to_p` FOREIGN KEY (`p`) REFERENCES `shop`.`p` (`id`)",
            ],
        );
        assert_eq!(said.contains("innodb_native_foreign_keys = OFF"), !mariadb, "{said}");
        for (_, rest) in said.match_indices("ALTER TABLE").map(|(at, w)| (w, &said[at..])) {
            let end = rest.find([';', '\n']).unwrap();
            twins.at_source(&rest[..end]);
        }
        let mut daemon = Daemon::spawn(&twins.config());
        daemon.ready();
        assert!(twins.source.sql_in("shop", "delete from p where id = 1").is_err(), "the key does not refuse");
        assert_eq!(daemon.sigterm(), 0);
    }
}

#[test]
fn given_a_cascading_key_that_is_made_while_followed_when_it_acts_unseen_then_the_stream_stops() {
    let acts = [
        (
            "alter table c add constraint late foreign key (p) references p (id) on delete cascade",
            "delete from p where id = 1",
        ),
        ("alter table c add foreign key (p) references p (id) on update cascade", "update p set id = 9 where id = 1"),
        (
            "create table c2 (id int primary key, p int references p (id) on delete set null); insert into c2 values (1, 1)",
            "delete from p where id = 1",
        ),
    ];
    for source in [native(), quick(Mariadb)] {
        for (made, act) in acts {
            let twins = twins(source.clone(), quick(Mariadb));
            twins.at_source("create table p (id int primary key, k int); create table c (id int primary key, p int); insert into p values (1, 1), (2, 2); insert into c values (10, 1)");
            let mut daemon = Daemon::spawn(&twins.config());
            daemon.ready();
            twins.at_source(made);
            // Nothing that acts: another column, checks that are off, rows that come.
            twins.at_source("update p set k = k + 1; insert into p values (3, 3); set foreign_key_checks = 0; delete from p where id = 3");
            twins.level(&mut daemon);
            twins.at_source(act);
            stopped(&mut daemon, &["shop.p were", "foreign key", "into no log", "copy anew"]);
            // It is not passed over later, either.
            let mut again = Daemon::spawn(&twins.config());
            assert_eq!(again.exit_status(), 1, "{}", again.log());
        }
    }
}
