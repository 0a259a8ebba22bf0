//! Every type of `docs/engines.md`: level is equal, and of one changed cell a column each exactly that cell is found.

use super::{Engine, MARIADB, MYSQL, POSTGRES, Sides};
use crate::support::Daemon;

/// A column: its type at the source, a value there, and another value that its nearest neighbour on the target has.
type Cell = (&'static str, &'static str, &'static str);

/// A row a column, all rows alike; in row n the nth column is changed on the target.
fn every_type(from: Engine, to: Engine, cells: &[Cell], before: &str, target: Option<&[&str]>) {
    let s = Sides::start(from, to);
    s.prepare();
    s.source(before);
    let columns: Vec<String> = cells.iter().enumerate().map(|(n, (kind, ..))| format!("c{n} {kind}")).collect();
    s.source(&format!("create table a (id int primary key, {})", columns.join(", ")));
    let mut config = s.config.clone().zero_dates_as_null();
    if let Some(types) = target {
        if to == POSTGRES {
            s.target("create type mood as enum ('sad', 'ok')");
        }
        let columns: Vec<String> = types.iter().enumerate().map(|(n, kind)| format!("c{n} {kind}")).collect();
        s.target(&format!("create table a (id int primary key, {})", columns.join(", ")));
        s.target("create table level (token varchar(60) primary key)");
        config = config.schema_exists();
    }
    let s = Sides { config, ..s };
    let values: Vec<&str> = cells.iter().map(|(_, value, _)| *value).collect();
    let insert = |rows: std::ops::Range<usize>| {
        let rows: Vec<String> = rows.map(|n| format!("({n}, {})", values.join(", "))).collect();
        s.source(&format!("insert into a values {}", rows.join(", ")));
    };
    let half = cells.len() / 2;
    insert(0..half);
    s.source("insert into a (id) values (1000)");
    let mut daemon = Daemon::spawn(&s.config);
    daemon.ready();
    insert(half..cells.len());
    s.source("insert into a (id) values (1001)");
    s.level(&mut daemon);
    s.assert_equal();
    for (n, (_, _, other)) in cells.iter().enumerate() {
        s.target(&format!("update a set c{n} = {other} where id = {n}"));
    }
    s.assert_found((0..cells.len()).map(|n| format!("a {{\"id\":{n}}} different [\"c{n}\"]")).collect());
    assert_eq!(daemon.sigterm(), 0);
}

const FROM_POSTGRES: &[Cell] = &[
    ("boolean", "true", "0"),
    ("smallint", "-32768", "-32767"),
    ("integer", "2147483647", "2147483646"),
    ("bigint", "-9223372036854775808", "-9223372036854775807"),
    ("numeric(12,3)", "1234.500", "1234.501"),
    ("numeric", "0.000000000000000000000000000001", "0.000000000000000000000000000002"),
    ("numeric", "12345678901234567890.5", "12345678901234567890.6"),
    ("real", "0.1", "0.10000001"),
    ("double precision", "0.1", "0.10000000000000002"),
    ("char(5)", "'ab'", "'abc'"),
    ("char(300)", "'ab'", "concat(c10, '') || 1"),
    ("varchar(20)", "'tëxt 😀'", "'tëxt 😀 '"),
    ("text", "''", "null"),
    ("text", "'Case'", "'case'"),
    ("bytea", "'\\x00ff27'", "x'00ff28'"),
    ("bit(9)", "B'000000101'", "b'000000100'"),
    ("bit varying(9)", "B'0010'", "'010'"),
    ("date", "'2024-02-29'", "'2024-03-01'"),
    ("time(6)", "'23:59:59.999999'", "'23:59:59.999998'"),
    ("timestamp(6)", "'2024-02-29 12:00:00.5'", "'2024-02-29 12:00:00.500001'"),
    ("timestamptz(6)", "'2024-02-29 12:00:00+02'", "'2024-02-29 10:00:00.000001'"),
    ("timetz", "'12:00:00+02'", "'12:00:00+03'"),
    ("interval", "'1 day 02:03:04.5'", "'1 day 02:03:04.6'"),
    ("inet", "'10.0.0.1/24'", "'10.0.0.1/25'"),
    ("cidr", "'10.0.0.0/8'", "'10.0.0.0/9'"),
    ("macaddr", "'08:00:2b:01:02:03'", "'08:00:2b:01:02:04'"),
    ("uuid", "'00112233-4455-6677-8899-aabbccddeeff'", "'00112233-4455-6677-8899-aabbccddeefe'"),
    ("json", "'{\"b\": 1.50, \"a\": [1, 1e2, \"é\\n\"]}'", "'{\"b\": 1.5, \"a\": [1, 101, \"é\\\\n\"]}'"),
    ("jsonb", "'{\"b\": 1.50, \"a\": {}}'", "'{\"b\": 1.5, \"a\": null}'"),
    ("mood", "'it''s'", "'sad'"),
    ("integer[]", "'{1,NULL,3}'", "'[1, null, 4]'"),
    ("text[]", "'{a,\"b c\",NULL}'", "'[\"a\", \"b c\", \"null\"]'"),
    ("boolean[]", "'{t,f}'", "'[true, true]'"),
    ("int4range", "'[1,5)'", "'[1,6)'"),
    ("tsvector", "'a b'", "'a c'"),
];

fn from_postgres(to: Engine) {
    // In row 10 one blank of 298 is taken away, by an expression of either flavour.
    let cells: Vec<Cell> = FROM_POSTGRES
        .iter()
        .map(
            |&(kind, value, other)| {
                if kind == "char(300)" { (kind, value, "left(c10, 299)") } else { (kind, value, other) }
            },
        )
        .collect();
    every_type(POSTGRES, to, &cells, "create type mood as enum ('sad', 'it''s')", None);
}

#[test]
fn given_every_type_from_postgres_into_mysql_when_verified_then_one_changed_cell_of_each_is_found() {
    from_postgres(MYSQL);
}

#[test]
fn given_every_type_from_postgres_into_mariadb_when_verified_then_one_changed_cell_of_each_is_found() {
    from_postgres(MARIADB);
}

#[test]
fn given_postgres_types_in_columns_of_ones_own_when_verified_then_one_changed_cell_of_each_is_found() {
    let cells: &[Cell] = &[
        ("uuid", "'00112233-4455-6677-8899-aabbccddeeff'", "x'00112233445566778899aabbccddeefe'"),
        ("uuid", "'00112233-4455-6677-8899-aabbccddeeff'", "x'00112233445566778899aabbccddeefe'"),
        ("timestamptz(6)", "'2024-02-29 12:00:00.000001+02'", "'2024-02-29 10:00:00.000002'"),
        ("date", "'2024-02-29'", "'2024-02-29 00:00:00.000001'"),
        ("boolean", "true", "b'0'"),
        ("bit(5)", "B'00101'", "b'100'"),
        ("numeric(6,3)", "1.500", "1.75"),
        ("integer", "7", "7.5"),
        ("varchar(10)", "'a'", "'b'"),
        ("bytea", "'\\x0001'", "x'0002'"),
        ("char(3)", "'a'", "'a'"),
        ("integer", "2024", "2025"),
        ("boolean", "false", "'t'"),
        ("jsonb", "'[1, 2.0]'", "'[1, 2.5]'"),
    ];
    let types = [
        "binary(16)",
        "varbinary(16)",
        "timestamp(6) null",
        "datetime(6)",
        "bit(1)",
        "bit(9)",
        "double",
        "decimal(8,2)",
        "enum('a','b')",
        "binary(2)",
        "varchar(3)",
        "year",
        "varchar(5)",
        "longtext",
    ];
    every_type(POSTGRES, MYSQL, cells, "", Some(&types));
}

const FROM_MYSQL: &[(&str, &str, &str, &str)] = &[
    // Type, value, another value in PostgreSQL, and in MySQL.
    ("tinyint(1)", "1", "false", "0"),
    ("tinyint", "-128", "-127", "-127"),
    ("tinyint unsigned", "255", "254", "254"),
    ("smallint", "-32768", "-32767", "-32767"),
    ("smallint unsigned", "65535", "65534", "65534"),
    ("mediumint", "-8388608", "-8388607", "-8388607"),
    ("mediumint unsigned", "16777215", "16777214", "16777214"),
    ("int", "-2147483648", "-2147483647", "-2147483647"),
    ("int unsigned", "4294967295", "4294967294", "4294967294"),
    ("bigint", "-9223372036854775808", "-9223372036854775807", "-9223372036854775807"),
    ("bigint unsigned", "18446744073709551615", "18446744073709551614", "18446744073709551614"),
    ("decimal(10,2)", "-12345678.90", "-12345678.91", "-12345678.91"),
    ("decimal(65,30)", "0.000000000000000000000000000001", "0", "0"),
    ("float", "0.1", "0.10000001", "0.10000001"),
    ("double", "0.1", "0.10000000000000002", "0.10000000000000002"),
    ("float(7,3)", "1.5", "1.501", "1.501"),
    ("year", "2024", "2025", "2025"),
    ("bit(1)", "b'1'", "B'0'", "b'0'"),
    ("bit(20)", "b'101'", "B'00000000000000000100'", "b'100'"),
    ("date", "'2024-02-29'", "'2024-03-01'", "'2024-03-01'"),
    ("time", "'12:34:56'", "'12:34:57'", "'12:34:57'"),
    ("time(6)", "'12:34:56.789012'", "'12:34:56.789013'", "'12:34:56.789013'"),
    ("datetime", "'9999-12-31 23:59:59'", "'9999-12-31 23:59:58'", "'9999-12-31 23:59:58'"),
    ("datetime(3)", "'2024-02-29 12:34:56.780'", "'2024-02-29 12:34:56.781'", "'2024-02-29 12:34:56.781'"),
    ("datetime(6)", "'2024-02-29 12:34:56.5'", "'2024-02-29 12:34:56.500001'", "'2024-02-29 12:34:56.500001'"),
    (
        "timestamp(6) null",
        "'2038-01-19 03:14:07.999999'",
        "'2038-01-19 03:14:07.999998+00'",
        "'2038-01-19 03:14:07.999998'",
    ),
    ("char(10)", "'pad  '", "'pad '", "'pa'"),
    ("varchar(100)", "'émoji 🚂'", "'émoji 🚂 '", "'émoji 🚂 '"),
    ("varchar(100) character set latin1", "'café €'", "'cafe €'", "'cafe €'"),
    ("tinytext", "''", "null", "null"),
    ("text", "null", "''", "''"),
    ("mediumtext", "'Case'", "'case'", "'case'"),
    ("longtext", "'tab\\t nl\\n'", "'tab'", "'tab'"),
    ("binary(4)", "'ab'", "'\\x61620001'", "x'61620001'"),
    ("varbinary(20)", "x'00ff10'", "'\\x00ff11'", "x'00ff11'"),
    ("blob", "x''", "null", "null"),
    ("longblob", "x'5c27'", "'\\x5c'", "x'5c'"),
    ("enum('a','b,c','it''s')", "'it''s'", "'a'", "'a'"),
    ("set('x','y','z')", "'x,z'", "'x,y'", "'x,y'"),
    (
        "json",
        "'{\"b\": [1, 2.50, true, null, \"q\\\\\"\"], \"a\": {\"é\": 1e300}, \"big\": 18446744073709551615}'",
        "'{\"b\": [1, 2.51, true, null, \"q\\\"\"], \"a\": {\"é\": 1e300}, \"big\": 18446744073709551615}'",
        "'{\"b\": [1, 2.50, true, null, \"q\\\\\"\"], \"a\": {\"é\": 1e300}, \"big\": 18446744073709551614}'",
    ),
    ("geometry", "st_geomfromtext('POINT(1.5 -2)')", "'\\x00'", "st_geomfromtext('POINT(1.5 -3)')"),
];

fn from_mysql(from: Engine, to: Engine) {
    let mut cells: Vec<Cell> = FROM_MYSQL
        .iter()
        .map(|(kind, value, in_postgres, in_mysql)| {
            (*kind, *value, if to == POSTGRES { *in_postgres } else { *in_mysql })
        })
        .collect();
    if from == MARIADB {
        let uuid = "'00112233-4455-6677-8899-aabbccddeeff'";
        cells.push(("uuid", uuid, "'00112233-4455-6677-8899-aabbccddeefe'"));
        cells.push(("inet6", "'2001:db8::ff00:42:8329'", "'2001:db8::ff00:42:832a'"));
        cells.push(("inet4", "'10.1.2.3'", "'10.1.2.4'"));
    } else if to == POSTGRES || to == MYSQL {
        let other = if to == POSTGRES { "'\\x0000803f00000041'" } else { "to_vector('[1, 9]')" };
        cells.push(("vector(2)", "to_vector('[1, 2]')", other));
    }
    every_type(from, to, &cells, "select 1", None);
}

#[test]
fn given_every_type_from_mysql_into_postgres_when_verified_then_one_changed_cell_of_each_is_found() {
    from_mysql(MYSQL, POSTGRES);
}

#[test]
fn given_every_type_from_mariadb_into_postgres_when_verified_then_one_changed_cell_of_each_is_found() {
    from_mysql(MARIADB, POSTGRES);
}

#[test]
fn given_every_type_from_mysql_into_mysql_when_verified_then_one_changed_cell_of_each_is_found() {
    from_mysql(MYSQL, MYSQL);
}

#[test]
fn given_every_type_from_mariadb_into_mysql_when_verified_then_one_changed_cell_of_each_is_found() {
    from_mysql(MARIADB, MYSQL);
}

#[test]
fn given_every_type_from_mysql_into_mariadb_when_verified_then_one_changed_cell_of_each_is_found() {
    from_mysql(MYSQL, MARIADB);
}

#[test]
fn given_mysql_types_in_columns_of_ones_own_when_verified_then_one_changed_cell_of_each_is_found() {
    let cells: &[Cell] = &[
        ("binary(16)", "x'00112233445566778899aabbccddeeff'", "'00112233-4455-6677-8899-aabbccddeefe'"),
        ("char(36)", "'00112233-4455-6677-8899-AABBCCDDEEFF'", "'00112233-4455-6677-8899-aabbccddeefe'"),
        ("set('x','y z')", "'x,y z'", "'{x}'"),
        ("json", "'[1, 2.50]'", "'{1,2.51}'"),
        ("json", "'[[\"a\",\"b c\"]]'", "'{{a,b}}'"),
        ("time(6)", "'-838:59:58.5'", "'-838:59:58.6'"),
        ("datetime(6)", "'2024-02-29 12:00:00'", "'2024-02-29 12:00:01+00'"),
        ("date", "'2024-02-29'", "'2024-02-29 00:00:01'"),
        ("date", "'0000-00-00'", "'2024-01-01'"),
        ("tinyint(1)", "3", "4"),
        ("decimal(6,3)", "1.500", "1.6"),
        ("char(4)", "'ab'", "'abc'"),
        ("varchar(20)", "'10.1.2.3'", "'10.1.2.4'"),
        ("int unsigned", "7", "8"),
        ("enum('sad','ok')", "'sad'", "'ok'"),
    ];
    let types = [
        "uuid",
        "uuid",
        "text[]",
        "numeric[]",
        "text[]",
        "interval",
        "timestamptz",
        "timestamp",
        "date",
        "smallint",
        "numeric",
        "char(6)",
        "inet",
        "text",
        "mood",
    ];
    every_type(MYSQL, POSTGRES, cells, "select 1", Some(&types));
}
