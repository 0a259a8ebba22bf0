//! Tables that are made on the target from the source's.

use switchyard::sandbox::Flavour;

use super::Mixed;
use crate::support::Daemon;

/// What an application in Rails has: a fleet's alarms, contents, feedback, groups and operators.
const RAILS: &str = "
create table line_groups (id bigserial primary key, line_group_id varchar not null, name varchar, enabled boolean default true not null,
    created_at timestamp(6) not null default now(), updated_at timestamp(6) not null default now());
create unique index index_line_groups_on_line_group_id on line_groups (line_group_id);
create table operators (id bigserial primary key, email varchar(255) default '' not null, name text, roles text[] default '{}',
    settings jsonb default '{}' not null, sign_in_count integer default 0 not null, last_ip inet, token uuid default gen_random_uuid(),
    line_group_id bigint references line_groups (id) on delete set null, created_at timestamptz not null default now());
create unique index index_operators_on_email on operators (email);
create index index_operators_on_name on operators (name);
create index index_operators_lower on operators (lower(name));
create table contents (id bigserial primary key, title varchar not null, body text, kind varchar(20) default 'text', price numeric(12,4),
    published_on date, position smallint, weight real, ratio double precision, raw bytea, created_at timestamp(6) not null);
comment on table contents is 'What is sent'; comment on column contents.body is 'It''s text';
create table alarm_contents (id bigserial primary key, content_id bigint not null references contents (id) on delete cascade, sent_at time(3), level int not null default 1);
create unique index index_alarm_contents on alarm_contents (content_id, level);
create table feedbacks (id uuid primary key default gen_random_uuid(), operator_id bigint references operators (id), comment text, rating int check (rating between 1 and 5), meta json);
";

const ROWS: &str = "
insert into line_groups (line_group_id, name) select 'C' || md5(i::text), 'グループ ' || i || ' 👩‍👩‍👧' from generate_series(1, 200) i;
insert into operators (email, name, roles, settings, last_ip, line_group_id, created_at)
  select 'user' || i || '@example.com', case when i % 9 = 0 then null else 'Öperätor ' || i || e'\\t\\n\\\\''' end, array['a', 'b ' || i, null],
    jsonb_build_object('n', i, 'é', '😀', 'deep', jsonb_build_array(1, 2.5, null, true)), ('10.0.0.' || i % 250)::inet, 1 + i % 200,
    timestamptz '2024-02-29 23:59:59.123456+09' + i * interval '1 hour 1 microsecond' from generate_series(1, 3000) i;
insert into contents (title, body, price, published_on, position, weight, ratio, raw, created_at)
  select 'title ' || i, repeat('本文 ' || i, 50), i / 7.0, date '2000-01-01' + i, i % 1000, i / 3.0, i / 7.0, decode(md5(i::text), 'hex'),
    timestamp '2024-01-01 00:00:00.000001' + i * interval '1 s' from generate_series(1, 3000) i;
insert into alarm_contents (content_id, sent_at, level) select i, time '00:00:00.5' + i * interval '1 s', 1 + i % 3 from generate_series(1, 3000) i;
insert into feedbacks (operator_id, comment, rating, meta) select 1 + i % 3000, 'c ' || i, 1 + i % 5, '{\"a\": 1.5, \"b\": [1,2]}' from generate_series(1, 1000) i;
";

fn compare_rails(m: &Mixed) {
    let us = "'YYYY-MM-DD HH24:MI:SS.US'";
    m.assert_same(
        &format!(
            "select id, line_group_id, name, enabled::int, to_char(created_at, {us}) from line_groups order by id"
        ),
        "select id, line_group_id, name, enabled, created_at from line_groups order by id",
    );
    m.assert_same(
        &format!("select id, email, name, array_length(roles, 1), roles[2], settings->>'n', settings->>'é', settings->'deep'->>1, sign_in_count, host(last_ip), token, line_group_id, to_char(created_at at time zone 'UTC', {us}) from operators order by id"),
        "select id, email, name, json_length(roles), json_unquote(json_extract(roles, '$[1]')), json_extract(settings, '$.n'), json_unquote(json_extract(settings, '$.\"é\"')), json_extract(settings, '$.deep[1]'), sign_in_count, last_ip, token, line_group_id, created_at from operators order by id",
    );
    m.assert_same(
        &format!("select id, title, body, kind, price, published_on, position, upper(encode(raw, 'hex')), to_char(created_at, {us}) from contents order by id"),
        "select id, title, body, kind, price, published_on, position, hex(raw), created_at from contents order by id",
    );
    m.assert_same(
        "select id, content_id, to_char(sent_at, 'HH24:MI:SS.MS'), level from alarm_contents order by id",
        "select id, content_id, sent_at, level from alarm_contents order by id",
    );
    m.assert_same(
        "select id, operator_id, comment, rating from feedbacks order by id::text",
        "select id, operator_id, comment, rating from feedbacks order by id",
    );
}

fn rails(flavour: Flavour) {
    let m = Mixed::start(flavour);
    let mut sql = m.on_source();
    sql.run(RAILS);
    sql.run(ROWS);
    let mut daemon = Daemon::spawn(&m.config());
    daemon.ready();
    compare_rails(&m);
    let keys = m.on_target("select concat(table_name, '.', index_name) from information_schema.statistics where table_schema = database() and seq_in_index = 1 order by 1");
    for key in [
        "line_groups.index_line_groups_on_line_group_id",
        "operators.index_operators_on_email",
        "operators.index_operators_on_name",
        "alarm_contents.index_alarm_contents",
    ] {
        assert!(keys.lines().any(|l| l == key), "{key} is missing: {keys}");
    }
    let foreign = m.on_target("select concat(table_name, ' ', referenced_table_name, ' ', delete_rule) from information_schema.referential_constraints where constraint_schema = database() order by 1");
    // MariaDB has one word for both.
    let foreign = foreign.replace("RESTRICT", "NO ACTION");
    assert_eq!(
        foreign,
        "alarm_contents contents CASCADE\nfeedbacks operators NO ACTION\noperators line_groups SET NULL"
    );
    sql.run("update operators set name = 'later ' || id, settings = settings || '{\"x\": 1}' where id % 2 = 0; delete from feedbacks where rating = 3; delete from contents where id % 10 = 0;");
    sql.run("update operators set email = 'moved' || id || '@example.com' where id < 50; update alarm_contents set level = 4 - level where level <> 2;");
    sql.run("begin; update operators set email = 'tmp' where id = 1; update operators set email = 'moved1@example.com' where id = 2; update operators set email = 'moved2@example.com' where id = 1; commit");
    sql.run(ROWS.replace("'C' ||", "'D' ||").replace("'user'", "'second'").split("insert into alarm").next().unwrap());
    daemon.wait_level(&m.source_url());
    compare_rails(&m);
    // The application can go on writing here: numbers go on where the rows end.
    m.on_target("insert into contents (title, created_at) values ('by the application', now(6))");
    assert_eq!(
        m.on_target("select count(*) from contents where title = 'by the application' and kind = 'text' and id > 6000"),
        "1"
    );
}

#[test]
fn given_an_application_in_rails_when_moved_to_mysql_then_tables_keys_and_rows_are_there() {
    rails(Flavour::Mysql);
}

#[test]
fn given_an_application_in_rails_when_moved_to_mariadb_then_tables_keys_and_rows_are_there() {
    rails(Flavour::Mariadb);
}

/// Type at the source, a value, the type here, and the value here.
const TYPES: &[(&str, &str, &str, &str)] = &[
    ("boolean", "true", "tinyint(1)", "1"),
    ("smallint", "-32768", "smallint", "-32768"),
    ("integer", "2147483647", "int", "2147483647"),
    ("bigint", "-9223372036854775808", "bigint", "-9223372036854775808"),
    ("numeric(10,2)", "-12345678.90", "decimal(10,2)", "-12345678.90"),
    (
        "numeric(65,30)",
        "12345678901234567890123456789012345.123456789012345678901234567890",
        "decimal(65,30)",
        "12345678901234567890123456789012345.123456789012345678901234567890",
    ),
    ("numeric", "0.5", "decimal(65,30)", "0.500000000000000000000000000000"),
    ("real", "1.1", "float", "1.1"),
    ("double precision", "1.7976931348623157e308", "double", "1.7976931348623157e308"),
    ("double precision", "5e-324", "double", "5e-324"),
    ("double precision", "0.1", "double", "0.1"),
    ("char(5)", "'ab'", "char(5)", "ab"),
    ("varchar(10)", "'añ😀  '", "varchar(10)", "añ😀  "),
    ("text", "e'tab\\t nl\\n back\\\\ quote'' \\r \\x1a'", "longtext", "tab\t nl\n back\\ quote' \r \u{1a}"),
    ("date", "'0001-02-03'", "date", "0001-02-03"),
    ("date", "'9999-12-31'", "date", "9999-12-31"),
    ("time", "'23:59:59.999999'", "time(6)", "23:59:59.999999"),
    ("time(0)", "'24:00:00'", "time", "24:00:00"),
    ("timestamp", "'2024-01-31 12:00:00.000001'", "datetime(6)", "2024-01-31 12:00:00.000001"),
    ("timestamp(0)", "'1970-01-01'", "datetime", "1970-01-01 00:00:00"),
    ("timestamptz", "'2024-07-01 12:00:00.5+09:30'", "datetime(6)", "2024-07-01 02:30:00.500000"),
    ("timetz", "'12:00:00+02'", "varchar(32)", "12:00:00+02"),
    ("interval", "'1 year 2 mons -3 days 04:05:06.5'", "varchar(64)", "1 year 2 mons -3 days +04:05:06.5"),
    ("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "char(36)", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("bit(10)", "B'1010101010'", "bit(10)", "\u{2}\u{fffd}"),
    ("varbit(20)", "B'101'", "varchar(20)", "101"),
    ("inet", "'2001:db8::1/64'", "varchar(43)", "2001:db8::1/64"),
    ("macaddr", "'08:00:2b:01:02:03'", "varchar(43)", "08:00:2b:01:02:03"),
    ("mood", "'it''s'", "enum('sad','ok','it''s')", "it's"),
    ("int4range", "'[1,5)'", "longtext", "[1,5)"),
    ("tsvector", "'a b'", "longtext", "'a' 'b'"),
    ("point", "'(1,2)'", "longtext", "(1,2)"),
    ("xml", "'<a/>'", "longtext", "<a/>"),
    ("money", "'12.34'", "longtext", "$12.34"),
];

fn types(flavour: Flavour) {
    let m = Mixed::start(flavour);
    let mut sql = m.on_source();
    sql.run("create type mood as enum ('sad', 'ok', 'it''s')");
    let columns: Vec<String> = TYPES.iter().enumerate().map(|(i, t)| format!("c{i} {}", t.0)).collect();
    let values: Vec<String> = TYPES.iter().map(|t| format!("({})::{}", t.1, t.0)).collect();
    let nulls = vec!["null"; TYPES.len()].join(", ");
    sql.run(&format!(
        "create table t (id int primary key, {}); insert into t values (1, {}), (2, {nulls})",
        columns.join(", "),
        values.join(", ")
    ));
    sql.run("create table b (id int primary key, raw bytea, j jsonb, a int[], f float8); insert into b select 1, string_agg(set_byte('\\x00'::bytea, 0, i), '' order by i), '{\"k\": 18446744073709551615}', '{{1,null},{3,4}}', '-0'::float8 from generate_series(0, 255) i");
    let mut daemon = Daemon::spawn(&m.config());
    daemon.ready();
    sql.run(&format!("insert into t values (3, {}), (4, {nulls})", values.join(", ")));
    sql.run(&format!(
        "insert into t values (5, {nulls}); update t set {} where id = 5",
        values.iter().enumerate().map(|(i, v)| format!("c{i} = {v}")).collect::<Vec<_>>().join(", ")
    ));
    sql.run("insert into b select 2, raw, j, a, f from b where id = 1; insert into b (id) values (3); update b set raw = o.raw, j = o.j, a = o.a, f = o.f from b o where b.id = 3 and o.id = 1");
    daemon.wait_level(&m.source_url());
    let mut wrong = Vec::new();
    for (i, (source, _, want_type, want)) in TYPES.iter().enumerate() {
        let have = m.on_target(&format!("select column_type from information_schema.columns where table_schema = database() and table_name = 't' and column_name = 'c{i}'"));
        // MariaDB says how wide a number is shown.
        let plain = match have.split_once('(') {
            Some((word, _)) if !want_type.contains('(') && word.ends_with("int") => word,
            _ => &have,
        };
        if plain != *want_type {
            wrong.push(format!("{source} became {have}, not {want_type}"));
        }
        for (id, want) in [(1, *want), (2, "NULL"), (3, *want), (4, "NULL"), (5, *want)] {
            let have = m.on_target(&format!("select c{i} from t where id = {id}"));
            let same_number = || matches!((have.parse::<f64>(), want.parse::<f64>()), (Ok(a), Ok(b)) if a == b);
            if have != want && !(source.starts_with("double") && same_number()) {
                wrong.push(format!("{source}, row {id}: {have:?} is there, not {want:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // MariaDB has one zero.
    let zero = if flavour == Flavour::Mysql { "-0" } else { "0" };
    let all: String = (0..=255).map(|b| format!("{b:02X}")).collect();
    for id in 1..=3 {
        let have = m.on_target(&format!("select hex(raw), json_extract(j, '$.k'), json_extract(a, '$[0][1]'), json_extract(a, '$[1][0]'), f from b where id = {id}"));
        assert_eq!(have, format!("{all}|18446744073709551615|null|3|{zero}"), "row {id}");
    }
}

#[test]
fn given_every_type_when_moved_to_mysql_then_values_arrive_as_they_are() {
    types(Flavour::Mysql);
}

#[test]
fn given_every_type_when_moved_to_mariadb_then_values_arrive_as_they_are() {
    types(Flavour::Mariadb);
}
