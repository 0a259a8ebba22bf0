//! Rows that are looked for again are found by their key's index, whatever its type.

use switchyard::mywire::lookup::{self, Found};
use switchyard::mywire::types::ColumnType;
use switchyard::sandbox::Flavour::{Mariadb, Mysql};
use switchyard::value::Row;

use crate::mysql_pairs::quick;

/// A key's type, three of its values as SQL, and the same in canonical text form.
const KEYS: [(&str, [&str; 3], [&str; 3]); 20] = [
    ("int", ["-5", "7", "9"], ["-5", "7", "9.0"]),
    ("bigint unsigned", ["18446744073709551615", "0", "5"], ["18446744073709551615", "0", "5"]),
    ("decimal(20,4)", ["1.5", "-2", "3"], ["1.5000", "-2", "3.0"]),
    ("double", ["0.1", "-1e300", "3"], ["0.1", "-1e+300", "3"]),
    ("float", ["0.1", "-1.5", "3"], ["0.1", "-1.5", "3"]),
    ("year", ["2024", "1901", "'0000'"], ["2024", "1901", "0000"]),
    ("bit(20)", ["b'101'", "b'0'", "b'11111111111111111111'"], ["00000000000000000101", "0", "11111111111111111111"]),
    ("date", ["'2024-02-29'", "'1000-01-01'", "'0000-00-00'"], ["2024-02-29", "1000-01-01", "0000-00-00"]),
    ("time(3)", ["'-838:59:59'", "'12:00:00.5'", "'00:00:00'"], ["-838:59:59", "12:00:00.5", "00:00:00"]),
    (
        "datetime(6)",
        ["'2024-02-29 12:00:00.000001'", "'9999-12-31 23:59:59.999999'", "'2024-01-01'"],
        ["2024-02-29 12:00:00.000001+00", "9999-12-31 23:59:59.999999", "2024-01-01 00:00:00"],
    ),
    (
        "timestamp(6)",
        ["'2024-02-29 12:00:00.000001'", "'2001-01-01'", "'0000-00-00 00:00:00'"],
        ["2024-02-29 12:00:00.000001+00", "2001-01-01 00:00:00+00", "0000-00-00 00:00:00"],
    ),
    ("varchar(50)", ["'Ada'", "'it''s \\\\'", "''"], ["Ada", "it's \\", ""]),
    ("varchar(50) collate utf8mb4_bin", ["'Ada'", "'ada'", "'😀'"], ["Ada", "ada", "😀"]),
    ("varchar(50) character set latin1", ["'café'", "'x'", "'y'"], ["café", "x", "y"]),
    (
        "char(36) character set ascii collate ascii_bin",
        ["'00112233-4455-6677-8899-aabbccddeeff'", "'b'", "'c'"],
        ["00112233-4455-6677-8899-aabbccddeeff", "b", "c"],
    ),
    ("varbinary(50)", ["x'00ff'", "x''", "x'5c27'"], ["\\x00ff", "\\x", "\\x5c27"]),
    (
        "binary(16)",
        ["x'00112233445566778899aabbccddeeff'", "x'00'", "x'ff'"],
        [
            "00112233-4455-6677-8899-aabbccddeeff",
            "\\x00000000000000000000000000000000",
            "\\xff000000000000000000000000000000",
        ],
    ),
    ("enum('a','it''s','c')", ["'a'", "'it''s'", "'c'"], ["a", "it's", "c"]),
    ("set('x','y')", ["'x'", "'x,y'", "''"], ["x", "x,y", ""]),
    ("tinyint(1)", ["1", "0", "2"], ["t", "f", "2"]),
];

#[test]
fn given_keys_of_every_type_when_looked_for_then_their_index_finds_exactly_them() {
    for flavour in [Mysql, Mariadb] {
        let server = quick(flavour).start().unwrap();
        let run = |sql: &str| {
            let all = format!("set sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00'; {sql}");
            server.sql_in("d", &all).unwrap_or_else(|e| panic!("{sql}: {e:#}"))
        };
        server.sql("create database d character set utf8mb4; create table d.n (i int primary key); insert into d.n values (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)").unwrap();
        for (number, (kind, values, texts)) in KEYS.iter().enumerate() {
            let table = format!("t{number}");
            // With a second column, so that there may be rows enough for an index to be worth it.
            run(&format!(
                "create table {table} (k {kind} not null, n int not null, pad varchar(200), primary key (k, n))"
            ));
            for v in values {
                run(&format!(
                    "insert into {table} select {v}, a.i * 100 + b.i * 10 + c.i, repeat('p', 200) from n a, n b, n c"
                ));
            }
            run(&format!("analyze table {table}"));
            let written = run(&format!(
                "select column_type from information_schema.columns where table_schema = 'd' and table_name = '{table}' and column_name = 'k'"
            ));
            let kind = ColumnType::parse(&written, Some("utf8mb4")).unwrap();
            let int = ColumnType::Int { width: 4, unsigned: false };
            let rows: Vec<Row> = texts.iter().map(|t| Row::from_texts([Some(*t), Some("500")])).collect();
            let Found::Where(sql) = lookup::condition(&[(0, "k", &kind), (1, "n", &int)], &rows) else {
                panic!("{written}: no condition")
            };
            assert_eq!(
                run(&format!("select count(*) from {table} t where {sql}")),
                "3",
                "{flavour:?} {written}: {sql}"
            );
            let plan = run(&format!("explain format=traditional select * from {table} t where {sql}")
                .replace("format=traditional ", if flavour == Mysql { "format=traditional " } else { "" }));
            assert!(plan.contains("|range|"), "{flavour:?} {written}: {sql}: {plan}");
            // By the first column alone, as a key of one.
            let Found::Where(sql) = lookup::condition(&[(0, "k", &kind)], &rows) else {
                panic!("{written}: no condition")
            };
            assert_eq!(
                run(&format!("select count(*) from {table} t where {sql}")),
                "3000",
                "{flavour:?} {written}: {sql}"
            );
        }
    }
}
