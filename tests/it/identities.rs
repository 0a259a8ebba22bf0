//! What finds a row again: replica identities, keys that change, values that are not sent, and tables that are refused.

use crate::scenario::{Case, Roles, carry, database};
use crate::support::{Daemon, Database};

fn identities() -> Vec<Case> {
    vec![
        Case::new("default, composite key in another order than the columns")
            .before("create table id_default (v text, b int, a text, primary key (a, b)); insert into id_default select 'v' || n, n, 'a' || n % 3 from generate_series(1, 50) n")
            .change("update id_default set v = v || '!' where b % 2 = 0; delete from id_default where b % 5 = 0;")
            .change("update id_default set b = b + 1000 where b % 7 = 0; update id_default set a = 'z' where b = 3;"),
        Case::new("using index, with included columns")
            .before("create table id_index (a int not null, b text not null, c int, d text);
                     create unique index id_index_u on id_index (b, a) include (c); alter table id_index replica identity using index id_index_u;
                     insert into id_index select n, 'b' || n, n, null from generate_series(1, 30) n")
            .change("update id_index set d = 'd', c = null where a < 10; update id_index set b = 'B' || b where a > 20; delete from id_index where a = 15;")
            .change("update id_index set a = -a; insert into id_index values (1, 'b1', 1, 'again')"),
        Case::new("using index beside a primary key")
            .before("create table id_beside (id int primary key, u text not null unique, v int);
                     alter table id_beside replica identity using index id_beside_u_key;
                     insert into id_beside select n, 'u' || n, n from generate_series(1, 30) n")
            .change("update id_beside set v = v + 1; update id_beside set id = id + 100 where id < 10; delete from id_beside where u = 'u20'")
            .change("update id_beside set u = 'x' || u where id > 25; update id_beside set id = id + 1000, u = u || 'y' where id = 22"),
        Case::new("full with a key")
            .before("create table full_key (id int primary key, v text, w text); alter table full_key replica identity full; alter table full_key alter w set storage external;
                     insert into full_key select n, 'v' || n, repeat('w', 5000) || n from generate_series(1, 30) n")
            .change("update full_key set v = 'x' where id < 10; update full_key set id = id + 100 where id > 20; delete from full_key where id = 15;")
            .change("update full_key set w = null where id = 5; update full_key set v = null, id = -id where id = 6; update full_key set v = v"),
        Case::new("full without a key, whole rows twice")
            .before("create table full_twice (a int, b text, c float8, d json, e text); alter table full_twice replica identity full; alter table full_twice alter e set storage external;
                     insert into full_twice select n % 3, case when n % 2 = 0 then 'b' end, 'NaN', '{\"a\" : 1}', repeat('e', 4000) from generate_series(1, 40) n")
            .change("delete from full_twice where ctid in (select ctid from full_twice where a = 1 limit 3);
                     update full_twice set b = 'once' where ctid = (select min(ctid) from full_twice where a = 2);")
            .change("update full_twice set c = '-0' where a = 0; update full_twice set e = e; update full_twice set a = a + 1, d = null where b is null;")
            .change("insert into full_twice select * from full_twice; delete from full_twice where a = 2; insert into full_twice default values; insert into full_twice default values;")
            .change("delete from full_twice where ctid = (select max(ctid) from full_twice where a is null)"),
        Case::new("full without a key, nothing but one large value")
            .before("create table full_one (e text); alter table full_one replica identity full; alter table full_one alter e set storage external;
                     insert into full_one select repeat('e', 4000) || n % 2 from generate_series(1, 4) n; insert into full_one values (null)")
            .change("update full_one set e = e; update full_one set e = 'small' where ctid = (select min(ctid) from full_one);")
            .change("delete from full_one where e is null; delete from full_one where ctid = (select max(ctid) from full_one)"),
        Case::new("full, a unique index with nullable columns")
            .before("create table full_null (a int unique, b text); alter table full_null replica identity full; insert into full_null values (1, 'x'), (null, 'y'), (null, 'y'), (2, null)")
            .change("update full_null set b = 'z' where a is null; update full_null set a = 3 where a = 1; update full_null set a = 1 where a = 2; insert into full_null values (2, 'n')")
            .change("delete from full_null where ctid = (select min(ctid) from full_null where a is null)"),
        Case::new("partial and expression indexes do not find rows")
            .before("create table part_u (id int not null, kind int not null, v text);
                     create unique index on part_u (id) where kind = 1; create unique index on part_u ((id + kind * 1000)); alter table part_u replica identity full;
                     insert into part_u select n, k, 'v' from generate_series(1, 10) n, generate_series(1, 3) k")
            .change("update part_u set v = 'two' where kind = 2; delete from part_u where kind = 3 and id < 5; update part_u set id = id + 100 where kind = 1"),
        Case::new("only inserts into a table whose rows are found by nothing but their key")
            .before("create table only_key (a int, b int, primary key (a, b)); insert into only_key values (1, 1), (2, 2)")
            .change("update only_key set a = a; update only_key set b = 3 where b = 2; insert into only_key values (2, 2); delete from only_key where a = 1"),
    ]
}

/// `tag` makes the names of prepared transactions, which a server has only once, the test's own.
fn keys_and_values(tag: &str) -> Vec<Case> {
    vec![
        Case::new("key changes in a chain")
            .before("create table chain (id int primary key, v int); insert into chain select n, n from generate_series(1, 100) n")
            .change("do $$ begin for n in reverse 100..1 loop update chain set id = n + 1 where id = n; end loop; end $$")
            .change("update chain set id = -id; update chain set id = -id + 5 where id < -50; update chain set id = 1000 where id = -3;")
            .change("begin; update chain set id = 2000 where id = 1000; update chain set id = 2001 where id = 2000; update chain set v = 7 where id = 2001; delete from chain where id = 2001; insert into chain values (1000, 1), (2000, 2), (2001, 3); commit"),
        Case::new("keys swapped through a third")
            .before("create table swap (id int primary key, v text); insert into swap values (1, 'one'), (2, 'two'), (3, 'three')")
            .change("begin; update swap set id = 0 where id = 1; update swap set id = 1 where id = 2; update swap set id = 2 where id = 0; commit")
            .change("begin; update swap set id = 0 where id = 1; update swap set id = 1 where id = 3; update swap set id = 3 where id = 0; update swap set v = v || '!'; commit"),
        Case::new("unique values swapped through a third")
            .before("create table swap_u (id int primary key, u int unique, w text unique); insert into swap_u select n, n, 'w' || n from generate_series(1, 20) n")
            .change("begin; update swap_u set u = -1 where id = 1; update swap_u set u = 1 where id = 2; update swap_u set u = 2 where id = 1; commit")
            .change("begin; delete from swap_u where id = 5; insert into swap_u values (105, 5, 'w5'); update swap_u set u = 105 where id = 105; update swap_u set u = 5 where id = 6; commit")
            .change("begin; update swap_u set w = null; update swap_u set w = 'w' || (id + 1); update swap_u set u = null where u > 10; update swap_u set u = id + 500 where u is null; commit")
            .change("begin; delete from swap_u; insert into swap_u select n, 20 - n, 'w' || (n * 7) % 20 from generate_series(0, 19) n; commit"),
        Case::new("deferrable constraints")
            .before("create table defer_u (id int primary key, u int unique deferrable initially immediate, d int unique deferrable initially deferred);
                     insert into defer_u select n, n, n from generate_series(1, 40) n")
            .change("update defer_u set u = 41 - u; update defer_u set d = 41 - d;")
            .change("begin; set constraints all deferred; update defer_u set u = 7 where id = 1; update defer_u set u = 100 where id <> 1 and u = 7; commit")
            .change("begin; update defer_u set d = 5; update defer_u set d = id + 3; commit"),
        Case::new("exclusion constraints")
            .before("create extension if not exists btree_gist;
                     create table booking (id int primary key, room int, during int4range, exclude using gist (room with =, during with &&));
                     create table booking_d (id int primary key, during int4range, exclude using gist (during with &&) deferrable);
                     insert into booking select n, n % 3, int4range(n, n + 3) from generate_series(1, 30) n where n % 3 = 0;
                     insert into booking_d select n, int4range(n * 10, n * 10 + 10) from generate_series(1, 10) n")
            .change("begin; delete from booking where id = 3; insert into booking values (100, 0, '[3,6)'); update booking set during = '[4,6)' where id = 100; insert into booking values (101, 0, '[3,4)'); commit")
            .change("begin; update booking set during = '[1000,1003)' where id = 6; update booking set during = '[6,9)' where id = 9; update booking set during = '[9,12)' where id = 6; commit")
            .change("update booking_d set during = int4range(lower(during) + 10, upper(during) + 10); update booking_d set during = int4range(lower(during) - 5, upper(during) - 5)"),
        Case::new("delete and insert again in one transaction")
            .before("create table again (id int primary key, v text, big text); alter table again alter big set storage external; insert into again select n, 'v', repeat('b', 3000) from generate_series(1, 20) n")
            .change("begin; delete from again where id < 10; insert into again select n, 'again', null from generate_series(1, 9) n; update again set v = 'once more' where id = 3; delete from again where id = 4; commit")
            .change("begin; insert into again values (50, 'new', 'x'); delete from again where id = 50; insert into again values (50, 'newer', 'y'); delete from again where id = 50; commit")
            .change("begin; insert into again values (51, 'a', null); update again set id = 52 where id = 51; update again set v = 'b' where id = 52; insert into again values (51, 'c', 'd'); delete from again where id = 20; insert into again values (20, 'e', null); commit"),
        Case::new("savepoints rolled back")
            .before("create table sp (id int primary key, v int)")
            .change("begin; insert into sp values (1, 1); savepoint a; insert into sp values (2, 2); update sp set v = 9; rollback to a; insert into sp values (3, 3); savepoint b; delete from sp where id = 1; release b; commit")
            .change("do $$ begin begin insert into sp values (4, 4), (3, 3); exception when unique_violation then insert into sp values (5, 5); end; end $$")
            .change("begin; insert into sp select n, n from generate_series(100, 200) n; rollback"),
        Case::new("large values that are not sent")
            .before("create table toast (id int primary key, a text, b text, n int, u int unique); alter table toast alter a set storage external, alter b set storage external;
                     insert into toast select n, repeat('a', 9000) || n, repeat('b', 9000) || n, n, n from generate_series(1, 40) n")
            .change("update toast set n = n + 1; update toast set a = 'small' where id = 1; update toast set b = repeat('B', 8000) where id = 2; update toast set n = 0 where id in (1, 2);")
            .change("update toast set id = id + 1000 where id between 3 and 6; update toast set id = id + 1000, n = -1 where id between 7 and 9; update toast set id = id + 1000, a = null where id = 10")
            .change("begin; update toast set n = 5 where id = 11; update toast set a = 'x' where id = 11; update toast set id = 2011 where id = 11; update toast set n = 6 where id = 2011; update toast set b = null where id = 2011; commit")
            .change("begin; update toast set id = 2012 where id = 12; update toast set id = 12 where id = 2012; update toast set id = 2013 where id = 13; insert into toast values (13, 'n', 'n', 1, 9013); update toast set n = 2 where id = 13; commit")
            .change("begin; insert into toast values (60, repeat('q', 9000), null, 1, 60); update toast set n = 2 where id = 60; update toast set id = 61 where id = 60; update toast set n = 3 where id = 61; commit")
            .change("begin; update toast set id = 3014 where id = 14; delete from toast where id = 3014; update toast set id = 3015 where id = 15; update toast set id = 3016 where id = 3015; delete from toast where id = 16; insert into toast values (16, repeat('r', 9000), 's', 1, 16); update toast set n = 9 where id = 16; commit")
            .change("begin; update toast set u = -u where id in (20, 21); update toast set u = 20 where id = 21; update toast set u = 21 where id = 20; update toast set n = 77 where id in (20, 21); commit")
            .change("begin; update toast set u = 9999, id = 4022 where id = 22; update toast set u = 22 where id = 23; update toast set u = 23, id = 22 where id = 4022; commit"),
        Case::new("a large value in the key")
            .before("create table toast_key (k text primary key, a text, n int); alter table toast_key alter k set storage external, alter a set storage external;
                     insert into toast_key select repeat('k', 2200) || n, repeat('a', 5000), n from generate_series(1, 12) n")
            .change("update toast_key set n = n + 100; update toast_key set n = n + 100 where n <= 106; delete from toast_key where n = 204;")
            .change("update toast_key set k = k || 'x' where n = 205; update toast_key set a = null where n = 107; update toast_key set k = 'small', n = 0 where n = 109")
            .change("begin; update toast_key set n = 1110 where n = 110; update toast_key set k = k || 'y' where n = 1110; update toast_key set n = n + 1 where n = 1110; commit; insert into toast_key values (repeat('z', 2200), null, -1); update toast_key set n = -2 where n = -1"),
        Case::new("a large transaction over a unique constraint")
            .before("create table many (id int primary key, u int unique, v text); insert into many select n, n, 'v' || n from generate_series(1, 3000) n")
            .change("begin; update many set u = -u; update many set u = -u + 1; commit; delete from many where id % 3 = 0; update many set id = id + 10000 where id % 3 = 1; insert into many select n, -n, 'new' from generate_series(1, 600) n where n % 3 = 0"),
        Case::new("two-phase commits")
            .before("create table tp (id int primary key)")
            .change(format!("begin; insert into tp values (1); prepare transaction '{tag}-a'"))
            .change(format!("begin; insert into tp values (2); prepare transaction '{tag}-b'"))
            .change("insert into tp values (3)")
            .change(format!("commit prepared '{tag}-a'"))
            .change(format!("rollback prepared '{tag}-b'")),
    ]
}

#[test]
fn given_replica_identities_and_changing_keys_when_followed_then_every_row_is_found_again() {
    carry(Roles::Superuser, &[identities(), keys_and_values("root")].concat());
}

#[test]
fn given_replica_identities_and_plain_roles_when_followed_then_every_row_is_found_again() {
    carry(Roles::Plain, &[identities(), keys_and_values("plain")].concat());
}

/// Runs `check` and `run`, which both must refuse, and gives back what they said.
fn refused(db: &Database) -> String {
    let checked = Daemon::command(&db.config(), &["check"]);
    assert_eq!(checked.status.code(), Some(1), "{}", String::from_utf8_lossy(&checked.stderr));
    let mut daemon = Daemon::spawn(&db.config());
    assert_eq!(daemon.exit_status(), 1, "{}", daemon.log());
    let said = [&checked.stdout[..], &checked.stderr[..]].concat();
    String::from_utf8_lossy(&said).into_owned() + &daemon.log()
}

#[test]
fn given_tables_without_identity_when_started_then_it_is_refused_and_the_application_can_still_update() {
    let db = database(Roles::Superuser);
    let mut source = db.on_source();
    source.run(
        "create table \"No Key\" (a int, v text); insert into \"No Key\" values (1, 'x');
         create table nothing (id int primary key, v int); alter table nothing replica identity nothing; insert into nothing values (1, 1);
         create table late (id int, v int, primary key (id) deferrable); insert into late values (1, 1);
         create table candidate (id int not null, v int); create unique index candidate_u on candidate (id); insert into candidate values (1, 1);
         create table gone (id int not null, v int); create unique index gone_u on gone (id); alter table gone replica identity using index gone_u; drop index gone_u; insert into gone values (1, 1);
         create table fine (id int primary key, v int); insert into fine values (1, 1);",
    );
    let said = refused(&db);
    for statement in [
        "ALTER TABLE public.\"No Key\" REPLICA IDENTITY FULL",
        "ALTER TABLE public.nothing REPLICA IDENTITY",
        "ALTER TABLE public.late REPLICA IDENTITY FULL",
        "ALTER TABLE public.candidate REPLICA IDENTITY USING INDEX candidate_u",
        "ALTER TABLE public.gone REPLICA IDENTITY FULL",
    ] {
        assert!(said.contains(statement), "{statement} is not in: {said}");
    }
    assert!(!said.contains("ALTER TABLE public.fine"), "{said}");
    // Nothing was left at the source that would forbid the application what it did before.
    source.run(
        "update \"No Key\" set v = 'y'; update nothing set v = 2; update late set v = 2; update candidate set v = 2; update gone set v = 2; delete from nothing;",
    );
    assert_eq!(source.number("select count(*) from pg_publication"), 0);
    assert_eq!(source.number(&format!("select count(*) from pg_replication_slots where database = '{}'", db.name)), 0);
    // What the message said is enough.
    source.run(
        "alter table \"No Key\" replica identity full; alter table nothing replica identity default; alter table late replica identity full;
         alter table candidate replica identity using index candidate_u; alter table gone replica identity full;",
    );
    let mut daemon = Daemon::spawn(&db.config());
    daemon.ready();
    source.run(
        "update \"No Key\" set v = 'z'; update candidate set id = 5; update late set id = 6; update gone set v = 7",
    );
    daemon.wait_level(&db.source);
    crate::support::assert_equal(&db.source, &db.target);
    assert_eq!(daemon.sigterm(), 0);
}
