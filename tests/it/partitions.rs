//! Partitioned tables of every kind, rows that move between partitions, and inheritance.

use crate::scenario::{Case, Roles, carry};

fn cases() -> Vec<Case> {
    vec![
        Case::new("range with sub-partitions and a default")
            .before("create table r (id int, at date, v text, primary key (id, at)) partition by range (at);
                     create table r_2023 partition of r for values from ('2023-01-01') to ('2024-01-01');
                     create table r_2024 partition of r for values from ('2024-01-01') to ('2025-01-01') partition by list (id);
                     create table r_2024_1 partition of r_2024 for values in (1, 3, 5, 7, 9);
                     create table r_2024_rest partition of r_2024 default;
                     create table r_rest partition of r default;
                     insert into r select n, date '2022-06-01' + n * 40, 'v' || n from generate_series(1, 60) n")
            .change("update r set v = v || '!' where id % 2 = 0; delete from r where id % 5 = 0; insert into r values (1000, '2024-05-05', 'new'), (1001, '1999-01-01', 'old')")
            .change("update r set at = '2023-03-03' where id in (1, 7, 20, 1000); update r set at = '2030-01-01', v = 'moved' where id = 20; update r set id = id + 1 where id = 1000")
            .change("begin; insert into r_2023 values (2000, '2023-02-02', 'direct'); update r_2023 set v = 'leaf' where id = 2000; update r set at = '2024-02-02' where id = 2000; update r set at = '2023-02-02' where id = 2000; commit"),
        Case::new("list, hash, and leaves that look otherwise than their parent")
            .before("create schema parts; create table h (id bigint primary key, v text) partition by hash (id);
                     create table parts.h0 partition of h for values with (modulus 3, remainder 0); create table parts.h1 partition of h for values with (modulus 3, remainder 1);
                     create table parts.\"H 2\" (junk int, v text, id bigint not null); alter table parts.\"H 2\" drop junk; alter table h attach partition parts.\"H 2\" for values with (modulus 3, remainder 2);
                     insert into h select n, 'v' || n from generate_series(1, 300) n;
                     create table l (kind text, id int, big text, u int, primary key (kind, id)) partition by list (kind);
                     create table l_a partition of l for values in ('a', 'b'); create table l_null partition of l for values in ('c');
                     create unique index on l_a (u); alter table l alter big set storage external;
                     insert into l select substr('abc', 1 + n % 3, 1), n, repeat('x', 5000), n from generate_series(1, 30) n")
            .change("update h set v = 'x' where id < 50; delete from h where id > 250; update h set id = id + 1000 where id between 100 and 120")
            .change("update l set kind = 'c' where id in (3, 6); update l set kind = 'a' where kind = 'c' and id > 20; update l set u = u + 1 where kind = 'a' and id = 30")
            .change("begin; update l_a set u = -1 where u = 7; update l_a set u = 7 where u = 9; update l_a set u = 9 where u = -1; commit"),
        Case::new("without a key, FULL on parent and leaves")
            .before("create table f (a int, b text) partition by range (a); create table f1 partition of f for values from (0) to (10); create table f2 partition of f default;
                     alter table f replica identity full; alter table f1 replica identity full; alter table f2 replica identity full;
                     insert into f select n % 20, 'x' from generate_series(1, 60) n")
            .change("update f set b = null where a < 5; update f set a = a + 10 where a between 5 and 9; delete from f where ctid = (select min(ctid) from f2) and tableoid = 'f2'::regclass"),
        Case::new("a partitioned table without partitions, and one without rows")
            .before("create table p0 (id int primary key) partition by list (id); create table p1 (id int primary key) partition by list (id); create table p1_d partition of p1 default")
            .change("insert into p1 values (1); delete from p1"),
        Case::new("TRUNCATE of a parent, of several tables, with RESTART IDENTITY and CASCADE")
            .before("create table tr (id int primary key, v int) partition by range (id); create table tr1 partition of tr for values from (0) to (10); create table tr2 partition of tr default;
                     insert into tr select n, n from generate_series(1, 20) n;
                     create table tx (id int generated always as identity primary key); insert into tx default values; insert into tx default values;
                     create table ty (id int primary key, x int references tx); insert into ty values (1, 1);
                     create table tz (id int primary key); insert into tz values (1)")
            .change("begin; update tr set v = 0; truncate tr; insert into tr values (1, 1), (50, 50); commit")
            .change("insert into tz values (2); truncate tx restart identity cascade; insert into tx default values")
            .change("insert into ty values (5, 1); truncate tx, ty, tz; insert into tz values (9)"),
        Case::new("foreign keys to and from partitions")
            .before("create table fp (id int primary key, v text) partition by range (id); create table fp1 partition of fp for values from (0) to (100); create table fp2 partition of fp default;
                     create table fc (id int, p int references fp on delete cascade, primary key (id)) partition by hash (id);
                     create table fc1 partition of fc for values with (modulus 2, remainder 0); create table fc2 partition of fc for values with (modulus 2, remainder 1);
                     insert into fp select n * 10, 'v' from generate_series(1, 20) n; insert into fc select n, n * 10 from generate_series(1, 20) n")
            .change("delete from fp where id < 50; update fp set id = id + 1 where id = 200 and not exists (select from fc where p = 200); insert into fc values (100, 150)")
            .change("begin; delete from fp where id = 150; insert into fp values (150, 'again'); insert into fc values (101, 150); commit"),
        Case::new("inheritance: parents and children with rows of the same key")
            .before("create table par (id int primary key, v text); create table chi (id int primary key, extra int) inherits (par); create table other_par (z int); alter table other_par replica identity full;
                     create table grand (primary key (id), more text) inherits (chi, other_par);
                     insert into par select n, 'par' from generate_series(1, 10) n; insert into chi select n, 'chi', n from generate_series(1, 10) n; insert into grand select n, 'grand', n, n, 'm' from generate_series(1, 10) n")
            .change("update par set v = v || '!' where id < 5; delete from only par where id = 7; delete from chi where id = 8; update only par set id = 100 where id = 1")
            .change("insert into grand values (50, 'x', 1, 2, 'y'); insert into par values (50, 'x'); update only chi set extra = 0; update other_par set z = 9; truncate only par; insert into par values (1, 'after')"),
    ]
}

#[test]
fn given_partitions_and_children_when_carried_then_every_leaf_is_equal() {
    carry(Roles::Superuser, &cases());
}

#[test]
fn given_partitions_and_plain_roles_when_carried_then_every_leaf_is_equal() {
    carry(Roles::Plain, &cases());
}

#[test]
fn given_a_leaf_that_is_truncated_when_followed_then_the_target_is_not_left_with_its_rows() {
    let case = Case::new("TRUNCATE of a leaf")
        .before("create table tl (id int primary key, v int) partition by range (id); create table tl1 partition of tl for values from (0) to (10); create table tl2 partition of tl default;
                 insert into tl select n, n from generate_series(1, 20) n")
        .change("truncate tl1")
        .change("insert into tl values (1, 1)");
    carry(Roles::Superuser, &[case]);
}
