//! Every family of types through the snapshot and through the stream: as a value, as a key, and in rows without a key.

use std::fmt::Write as _;

use crate::scenario::{Case, Roles, carry};

/// Types, functions and tables that the values need.
const WORLD: &str = r#"
create extension hstore;
create extension citext;
create schema other;
create schema "Odd ""Schema";
create type mood as enum ('sad', 'ok', 'happy', 'it''s "odd", \ {comma}', 'NULL', ' ');
create type other.mood as enum ('x', 'sad', 'y');
create type "Odd ""Schema"."We(ird) [] Type" as enum ('a', 'b');
create domain posint as int check (value > 0);
create domain email as varchar(20) check (value ~ '@');
create domain words as text[] check (array_length(value, 1) < 100);
create domain other.moods as mood[];
create domain sentiment as mood check (value <> 'NULL');
create domain deep as posint check (value < 1000);
create domain fixed as char(6);
create domain tag as citext;
create type point3 as (x int, "Y ""q""" text, z numeric);
create domain right_side as point3 check ((value).x > 0 or (value).x is null);
create type nested as (p point3, ps point3[], m mood, t timestamptz, r int4range, d posint);
create type floatrange as range (subtype = float8, subtype_diff = float8mi);
create type textrange as range (subtype = text, collation = "C");
create type moodrange as range (subtype = mood);
create table anchor (id int primary key);
create table other."Anchor 2" (id int primary key);
create function other.f(int) returns int language sql as 'select 1';
"#;

/// A type, and values as SQL expressions that are cast to it.
const FAMILIES: &[(&str, &[&str])] = &[
    ("boolean", &["true", "false"]),
    ("smallint", &["-32768", "32767", "0"]),
    ("int", &["-2147483648", "2147483647", "0", "-1"]),
    ("bigint", &["-9223372036854775808", "9223372036854775807", "0"]),
    (
        "real",
        &[
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "'-0'",
            "'1e-45'",
            "'1.17549435e-38'",
            "'3.4028235e38'",
            "'0.1'",
            "'1e10'",
        ],
    ),
    (
        "double precision",
        &[
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "'-0'",
            "'4.9e-324'",
            "'-2.2250738585072014e-308'",
            "'1.7976931348623157e308'",
            "'0.1'",
            "1::float8 / 3",
            "'1e15'",
            "'1e16'",
            "'123456789012345678'",
        ],
    ),
    (
        "numeric",
        &[
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "'0'",
            "'0.000'",
            "'1.10'",
            "'-1e-20'",
            "repeat('9', 1000)",
            "'-' || repeat('1', 500) || '.' || repeat('7', 500)",
            "'0.' || repeat('0', 998) || '1'",
            "'1e1000'",
        ],
    ),
    ("numeric(20,5)", &["'-1.5'", "'999999999999999.99999'", "'NaN'"]),
    ("numeric(3,-2)", &["'12345'", "'-99900'"]),
    ("money", &["'-92233720368547758.08'", "'92233720368547758.07'", "'0'", "'1234.56'"]),
    (
        "text",
        &[
            "''",
            r"'\'",
            r"'\\N'",
            r"'\N'",
            r"'\.'",
            r"E'tab\tnl\nret\r\b\f\v\x01 end'",
            r"E'\r\n'",
            "'😀 çŽ 漢字'",
            r#"'"quoted", ''single'''"#,
            "' lead and trail  '",
            "'NULL'",
            "'null'",
            r"E'\x7f\x1f'",
        ],
    ),
    ("varchar(10)", &["''", "'  blanks  '", "'ÄÖÜäöüß漢字😀'"]),
    ("char(8)", &["''", "'ab  '", "'12345678'", "'ä😀'", r"E'\\\t'"]),
    ("bpchar", &["'ab   '", "''", "'x'"]),
    ("name", &["'n'", "''", "repeat('x', 63)", "'Odd \"N\"'"]),
    (r#""char""#, &["'a'", "''", r"'\'", r"E'\t'", "' '"]),
    (
        "bytea",
        &[
            "''",
            r"'\x00'",
            r"'\x5c'",
            "decode((select string_agg(lpad(to_hex(i), 2, '0'), '') from generate_series(0, 255) i), 'hex')",
        ],
    ),
    (
        "uuid",
        &["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'", "gen_random_uuid()"],
    ),
    (
        "date",
        &[
            "'infinity'",
            "'-infinity'",
            "'4713-01-01 BC'",
            "'5874897-12-31'",
            "'0001-01-01'",
            "'0044-03-15 BC'",
            "'2024-02-29'",
        ],
    ),
    ("time", &["'00:00'", "'24:00:00'", "'23:59:59.999999'"]),
    ("time(3)", &["'12:00:00.123'", "'23:59:59.9994'"]),
    (
        "timetz",
        &["'00:00:00+15:59:59'", "'24:00:00-15:59'", "'12:34:56.789012+05:30'", "'12:00+00'", "'00:00-00:00:01'"],
    ),
    (
        "timestamp",
        &[
            "'infinity'",
            "'-infinity'",
            "'4714-11-24 00:00:00 BC'",
            "'294276-12-31 23:59:59.999999'",
            "'2000-01-01 00:00:00.000001'",
            "'1999-12-31 23:59:59.999999'",
            "'0001-12-31 23:59:59.5 BC'",
        ],
    ),
    (
        "timestamptz",
        &[
            "'infinity'",
            "'-infinity'",
            "'4714-11-24 00:00:00+00 BC'",
            "'294276-12-31 23:59:59.999999+00'",
            "'2000-01-01 00:00:00.000001+14'",
            "'1883-11-18 12:03:57 America/New_York'",
        ],
    ),
    ("timestamptz(0)", &["'2024-03-31 02:30:00.6 Europe/Berlin'"]),
    (
        "interval",
        &[
            "'-1 mon +2 days -03:04:05.678901'",
            "'178000000 years'",
            "'-178000000 years'",
            "'00:00:00.000001'",
            "'1 year 2 mons -3 days'",
            "'-00:00:01'",
            "'0'",
            "'24 hours'",
            "'1 day'",
        ],
    ),
    ("interval day to second(3)", &["'-1 day 02:03:04.567'"]),
    ("interval year to month", &["'-1-2'"]),
    (
        "json",
        &[
            r#"'{"a" :  1, "a":2}'"#,
            "' [1 , 2] '",
            "'null'",
            r#"'"\u0041\n\\ \""'"#,
            "'1.10'",
            r#"E'{\n "x":\t1}'"#,
            r#"'"\u0000"'"#,
        ],
    ),
    (
        "jsonb",
        &[
            "'1.10'",
            "'null'",
            r#"'{"b":1,"a":[null,true,"x\ty"]}'"#,
            r#"'"\\ \" \u001f 😀"'"#,
            "'1e400'",
            "'[]'",
            "'{}'",
            "'-0.0'",
        ],
    ),
    (
        "xml",
        &[
            "'<a b=\"1\">x &amp; y</a>'",
            "'text <b/>'",
            "''",
            "'<?xml version=\"1.0\" standalone=\"yes\"?><a/>'",
            "'<?xml version=\"1.1\"?><a>ä</a>'",
            "'<!DOCTYPE a><a/>'",
        ],
    ),
    ("jsonpath", &["'$.a[*] ? (@.b > 3)'", r#"'strict $."x y"'"#, r#"'$ ? (@ like_regex "^a\\d" flag "i")'"#]),
    ("inet", &["'::1'", "'10.0.0.1/8'", "'192.168.0.1'", "'::ffff:1.2.3.4'", "'2001:db8::/32'", "'0.0.0.0/0'"]),
    ("cidr", &["'10.0.0.0/8'", "'::/0'", "'192.168.1.1/32'", "'2001:db8::/32'"]),
    ("macaddr", &["'08:00:2b:01:02:03'", "'ff:ff:ff:ff:ff:ff'"]),
    ("macaddr8", &["'08:00:2b:01:02:03:04:05'", "'00:00:00:00:00:00:00:00'"]),
    (
        "tsvector",
        &[
            r"'''a b'':1A,2B c:3'",
            r"'''it''''s \\ x'':4'",
            "''",
            "to_tsvector('english', 'The quick brown foxes')",
            "'😀 x'",
        ],
    ),
    ("tsquery", &["'!a & (b | ''c d'':*AB) <-> e'", "''", "'a <3> b'", r"'''q''''\\'''"]),
    ("bit(5)", &["B'10101'", "B'00000'"]),
    ("bit varying", &["''", "B'0'", "repeat('10', 500)"]),
    ("varbit(7)", &["B'1'", "B'1111111'"]),
    ("point", &["'(NaN,Infinity)'", "'(-0,1e-300)'", "'(0.1,-123456.789)'"]),
    ("line", &["'{1,-1,0}'", "'{0.1,2,-1e-5}'"]),
    ("lseg", &["'[(0,0),(1.5,-2)]'"]),
    ("box", &["'(3,4),(1,2)'", "'(0.1,0.1),(-0,-0)'"]),
    ("path", &["'[(0,0),(1,1),(2,0)]'", "'((0,0),(1,1))'"]),
    ("polygon", &["'((0,0),(1,1),(2,0.5))'"]),
    ("circle", &["'<(1,2),3.5>'", "'<(0,0),0>'"]),
    ("int4range", &["'empty'", "'[1,10)'", "'(,)'", "'[5,)'", "'(,-2147483648)'"]),
    ("int8range", &["'[-9223372036854775808,9223372036854775807)'", "'empty'"]),
    ("numrange", &["'[1.10,2.200]'", "'(,NaN]'", "'(0,Infinity)'", "'empty'"]),
    ("tsrange", &["'[\"2000-01-01 00:00:00.000001\",infinity)'", "'(-infinity,)'"]),
    ("tstzrange", &["'[\"2000-01-01 12:00+14\",\"2000-01-02 00:00+00\"]'"]),
    ("daterange", &["'[2024-02-29,2024-03-01]'", "'[\"0044-03-15 BC\",)'", "'[,infinity]'"]),
    ("floatrange", &["'[-0,Infinity]'", "'(1e-300,0.1]'", "'empty'"]),
    ("textrange", &[r#"'["a ""q"" \\ b",zz)'"#, r#"'["",","]'"#, "'(,)'", r#"textrange(E'\t(', 'x]')"#]),
    ("moodrange", &["'[sad,happy)'", r#"moodrange('ok', 'it''s "odd", \ {comma}', '[]')"#]),
    ("int4multirange", &["'{}'", "'{[1,3),[5,8)}'", "'{(,)}'"]),
    ("nummultirange", &["'{[1.10,2.20],(5,6)}'"]),
    ("datemultirange", &["'{[2024-01-01,2024-02-01),[2025-01-01,)}'"]),
    ("textmultirange", &[r#"'{["a ""q""",b),[c,"d,e"]}'"#, "'{}'"]),
    ("mood", &["'sad'", "'happy'", r#"'it''s "odd", \ {comma}'"#, "'NULL'", "' '"]),
    ("other.mood", &["'sad'", "'x'", "'y'"]),
    (r#""Odd ""Schema"."We(ird) [] Type""#, &["'a'", "'b'"]),
    (r#""Odd ""Schema"."We(ird) [] Type"[]"#, &["'{a,NULL,b}'"]),
    ("posint", &["1", "2147483647"]),
    ("deep", &["1", "999"]),
    ("email", &["'a@b'", "'x y@\\z'"]),
    ("fixed", &["'ab'", "''"]),
    ("tag", &["'AbC'", "'x'"]),
    ("sentiment", &["'sad'", "' '"]),
    ("words", &["'{}'", r#"'{a,NULL,"x,y","\"q\"","\\"}'"#, "'[2:3]={a,b}'"]),
    ("other.moods", &["'{sad,NULL,happy}'", "'{}'"]),
    (
        "point3",
        &[
            r#"row(1, 'a "q" \ , ( ) ''', 1.10)"#,
            "row(null, null, null)",
            "row(null, '', null)",
            "row(-1, E'tab\\tnl\\n', 'NaN')",
            "row(2, ' ', '-Infinity')",
        ],
    ),
    ("right_side", &["row(1, 'x', 2.50)", "row(null, null, null)"]),
    ("point3[]", &[r#"array[row(1, 'a "q" \ ,', 1.10)::point3, null, row(null, null, null)::point3]"#, "'{}'"]),
    (
        "nested",
        &[
            r#"row(row(1, '"', 2.0), array[row(null, '{"', null)::point3, null], 'it''s "odd", \ {comma}', 'infinity', '[1,5)', 3)"#,
            "row(null, '{}', null, '0044-03-15 12:00:00+00 BC', 'empty', null)",
        ],
    ),
    ("int[]", &["'{}'", "'[0:2]={1,2,3}'", "'[-3:-2][5:6]={{1,NULL},{3,4}}'", "'{{{1},{2}},{{3},{4}}}'", "'{NULL}'"]),
    (
        "text[]",
        &[
            r#"array['a,b', '"q"', '\', 'NULL', null, '', '{x}', E'tab\tnl\n', ' sp ', '😀']"#,
            "'{}'",
            "'{{a,b},{c,NULL}}'",
        ],
    ),
    ("numeric[]", &["'{NaN,Infinity,1.10,0.000,NULL}'"]),
    ("float8[]", &["'{-0,NaN,-Infinity,4.9e-324}'"]),
    ("timestamptz[]", &["'{infinity,\"0044-03-15 12:00:00+00 BC\",NULL}'"]),
    ("bytea[]", &[r#"array['\x00ff'::bytea, '', null]"#]),
    ("json[]", &[r#"array['{"a" : "b,c"}'::json, 'null', null]"#]),
    ("jsonb[]", &[r#"array['{"a":"\"\\"}'::jsonb, null]"#]),
    ("box[]", &["'{(3,4),(1,2);(1,1),(0,0)}'"]),
    ("point[]", &["'{\"(1,2)\",\"(-0,NaN)\"}'"]),
    ("inet[]", &["'{10.0.0.1/8,::1,NULL}'"]),
    ("char(3)[]", &["'{a,\"b \",NULL}'", "'{}'"]),
    (r#""char"[]"#, &["array['a', '\\', '', null]::\"char\"[]"]),
    ("varchar(5)[]", &["'{abcde,\"\",NULL}'"]),
    ("name[]", &["'{a,\"B c\"}'"]),
    ("bit(3)[]", &["'{101,000}'"]),
    ("interval[]", &["'{\"1 day\",\"-00:00:01\",NULL}'"]),
    ("uuid[]", &["'{00000000-0000-0000-0000-000000000000,NULL}'"]),
    ("date[]", &["'{infinity,\"0001-01-01 BC\"}'"]),
    ("boolean[]", &["'{t,f,NULL}'"]),
    ("mood[]", &[r#"array['sad', 'it''s "odd", \ {comma}', 'NULL', null, ' ']::mood[]"#, "'[0:0]={ok}'"]),
    ("other.mood[]", &["'{sad,x}'"]),
    ("posint[]", &["'{1,2,NULL}'"]),
    ("fixed[]", &["'{ab,NULL,\"\"}'"]),
    ("xml[]", &["array['<a b=\"x\"/>'::xml, null]"]),
    ("int4range[]", &["'{\"[1,2)\",empty,NULL}'"]),
    ("int4multirange[]", &["'{\"{[1,2),[4,5)}\",\"{}\"}'"]),
    ("floatrange[]", &["'{\"[-0,1)\"}'"]),
    ("tsvector[]", &[r#"array['''a b'':1A'::tsvector, null]"#]),
    ("hstore", &[r#"'"a b"=>"x \"q\"", c=>NULL, ""=>"", d=>"NULL"'"#, "''", r#"hstore('\', E'\t')"#]),
    ("hstore[]", &[r#"array['a=>1'::hstore, null, '']"#]),
    ("citext", &["'AbC'", "''", "'ÄÖ'"]),
    ("citext[]", &["'{AbC,NULL}'"]),
    ("regclass", &["'pg_catalog.pg_class'", "'public.anchor'", "'other.\"Anchor 2\"'", "'-'"]),
    ("regtype", &["'integer'", "'public.mood'", "'other.mood'", "'public.point3[]'", "'timestamp with time zone'"]),
    ("regproc", &["'pg_catalog.now'", "'other.f'"]),
    ("regprocedure", &["'pg_catalog.abs(integer)'", "'other.f(integer)'"]),
    ("regoperator", &["'pg_catalog.+(integer,integer)'"]),
    ("regnamespace", &["'pg_catalog'", "'other'", "'\"Odd \"\"Schema\"'"]),
    ("regrole", &["'pg_monitor'"]),
    ("regconfig", &["'english'", "'simple'"]),
    ("regclass[]", &["'{public.anchor,pg_catalog.pg_class,NULL}'"]),
    ("oid", &["4294967295::bigint", "0"]),
    ("oid[]", &["'{4294967295,NULL}'"]),
    ("pg_lsn", &["'0/0'", "'FFFFFFFF/FFFFFFFF'", "'16/B374D848'"]),
    ("txid_snapshot", &["'10:20:10,14,15'"]),
    ("pg_snapshot", &["'10:20:10,14,15'"]),
    ("xid", &["'4294967295'", "'3'"]),
    ("xid8", &["'18446744073709551615'", "'0'"]),
    ("cid", &["'7'"]),
    ("tid", &["'(0,1)'", "'(4294967295,65535)'"]),
    ("int2vector", &["'1 2 -3'", "''"]),
    ("oidvector", &["'1 4294967295'"]),
    ("refcursor", &["'my cursor'"]),
    ("aclitem", &["'pg_monitor=r/pg_monitor'"]),
];

/// Tables of one family: `t` with a key of its own, `k` with the value as key, `f` without a key.
fn before(i: usize, of: &str, values: &[&str]) -> String {
    let mut sql = format!("create table t{i} (id int primary key, v {of}, n int);");
    for (n, v) in values.iter().enumerate() {
        let _ = write!(sql, "insert into t{i} values ({}, ({v})::{of}, 0);", n + 1);
    }
    let _ = write!(
        sql,
        "insert into t{i} values (0, null, 0);
         create table f{i} (v {of}, n int);
         alter table f{i} replica identity full;
         insert into f{i} select v, id % 2 from t{i} union all select v, id % 2 from t{i};
         do $$ begin
           perform count(distinct v) from t{i};
           create table k{i} (v {of} primary key, n int);
           insert into k{i} select v, id from t{i} where v is not null on conflict do nothing;
         exception when undefined_object or undefined_function then null;
         end $$;",
    );
    sql
}

/// What happens to them while they are followed, each a transaction.
fn changes(i: usize, of: &str, values: &[&str]) -> Vec<String> {
    let count = values.len();
    let mut insert = String::new();
    for (n, v) in values.iter().enumerate() {
        let _ = write!(insert, "insert into t{i} values ({}, ({v})::{of}, 1);", n + 1001);
    }
    vec![
        format!("{insert} insert into t{i} values (1000, null, 1);"),
        format!(
            "update t{i} a set v = b.v from t{i} b where b.id = (a.id + 1) % ({count} + 1) and a.id <= {count};
             update t{i} set n = n + 1 where id > 1000;
             update t{i} set v = null where id = 1001;
             delete from t{i} where id = 1000;
             insert into f{i} select v, 5 from t{i};
             update f{i} set n = 9 where ctid = (select min(ctid) from f{i} where n = 1);"
        ),
        format!(
            "update f{i} a set v = (select v from t{i} where id = 0) where n = 0;
             delete from f{i} where ctid in (select ctid from f{i} where n = 5 order by ctid limit {count});
             update f{i} set n = 6 where n = 5;"
        ),
        format!(
            "do $$ begin
               if to_regclass('k{i}') is null then return; end if;
               create temp table moved on commit drop as select * from k{i};
               update k{i} set n = n + 100;
               delete from k{i} where n = 101;
               update k{i} set v = (select v from moved where n = 1) where n = 102;
               update k{i} set n = -n where n in (102, 103);
             end $$;"
        ),
        format!(
            "do $$ begin
               if to_regclass('k{i}') is null then return; end if;
               create temp table moved on commit drop as select * from k{i};
               delete from k{i};
               insert into k{i} select v, n + 1000 from moved;
               delete from k{i} where n % 2 = 0;
             end $$;"
        ),
    ]
}

fn cases() -> Vec<Case> {
    let mut cases = vec![Case::new("world").before(WORLD)];
    for (i, (of, values)) in FAMILIES.iter().enumerate() {
        let mut case = Case::new(*of).before(before(i, of, values));
        for sql in changes(i, of, values) {
            case = case.change(sql);
        }
        cases.push(case);
    }
    cases
}

#[test]
fn given_every_type_when_copied_and_followed_then_all_are_equal_to_the_last_byte() {
    carry(Roles::Superuser, &cases());
}

#[test]
fn given_every_type_and_plain_roles_when_copied_and_followed_then_all_are_equal_to_the_last_byte() {
    carry(Roles::Plain, &cases());
}

#[test]
fn given_very_wide_very_narrow_and_very_large_rows_when_carried_then_they_are_equal() {
    let columns: Vec<String> = (0..1600).map(|n| format!("c{n} {}", ["int", "bool", "\"char\""][n % 3])).collect();
    let with_key: Vec<String> = (0..1599).map(|n| format!("c{n} {}", ["int2", "bool", "\"char\""][n % 3])).collect();
    let wide = Case::new("1 600 columns")
        .before(format!("create table wide ({}); alter table wide replica identity full;", columns.join(", ")))
        .before(format!("create table wide_key (id int primary key, {});", with_key.join(", ")))
        .before("insert into wide (c0, c1, c1598, c1599) values (1, true, 'x', 7), (2, null, null, null);")
        .before("insert into wide_key (id, c0, c1597) values (1, 1, true), (2, 2, null);")
        .change("insert into wide (c0, c1, c1598) values (3, true, 'x'), (3, true, 'x');")
        .change("update wide set c1596 = 5 where c0 = 1; delete from wide where c0 = 2;")
        .change("insert into wide_key (id, c0, c1597) values (3, 1, true); update wide_key set c3 = 8; delete from wide_key where id = 2;");
    let narrow = Case::new("no columns")
        .before("create table nothing (); alter table nothing replica identity full;")
        .before("insert into nothing default values; insert into nothing default values;")
        .change("insert into nothing default values;")
        .change("insert into nothing default values; delete from nothing where ctid = (select min(ctid) from nothing);")
        .change("insert into nothing select from generate_series(1, 600);");
    let dropped = Case::new("dropped columns")
        .before("create table dropped (a int, id int primary key, b text, c text); insert into dropped values (1, 1, 'b', 'c');")
        .before("alter table dropped drop column a; alter table dropped drop column b; insert into dropped values (2, 'two');")
        .change("insert into dropped values (3, 'three'); update dropped set c = c || '!'; delete from dropped where id = 1;");
    let large = Case::new("100 MB values")
        .before("create table large (id int primary key, t text, b bytea, n int);")
        .before("alter table large alter t set storage external, alter b set storage external;")
        .before("insert into large values (1, repeat(E'0123456\\\\9\\n', 10000000), null, 0);")
        .before("insert into large values (2, 'small', convert_to(repeat('x\u{1}yz', 5000000), 'utf8'), 0);")
        .change("update large set n = 1;")
        .change("insert into large values (3, repeat(E'\\t23456789\\n', 10000000), null, 0);")
        .change("update large set t = repeat('ab', 26000000) where id = 2;")
        .change("update large set id = 4 where id = 1;");
    carry(Roles::Superuser, &[wide, narrow, dropped, large]);
}
