//! Several hundred expressions over rows with awkward values.

use super::*;

const COLUMNS: &[Column] = &[
    ("b", "boolean", Kind::Bool),
    ("i2", "smallint", Kind::Int2),
    ("i4", "integer", Kind::Int4),
    ("i8", "bigint", Kind::Int8),
    ("f4", "real", Kind::Float4),
    ("f8", "double precision", Kind::Float8),
    ("n", "numeric", Kind::Numeric),
    ("m", "numeric(12,3)", Kind::Numeric),
    ("s", "text", Kind::Text),
    ("v", "character varying(20)", Kind::Text),
    ("c", "character(6)", Kind::Text),
    ("y", "bytea", Kind::Bytes),
    ("u", "uuid", Kind::Uuid),
    ("d", "date", Kind::Date),
    ("h", "time without time zone", Kind::Time),
    ("ts", "timestamp without time zone", Kind::Timestamp),
    ("tz", "timestamp with time zone", Kind::TimestampTz),
    ("j", "json", Kind::Json),
    ("jb", "jsonb", Kind::Jsonb),
    ("ai", "integer[]", Kind::Other),
    ("at", "text[]", Kind::Other),
    ("net", "inet", Kind::Other),
];

const ROWS: &[[Option<&str>; 22]] = &[
    [
        Some("t"),
        Some("7"),
        Some("42"),
        Some("9007199254740993"),
        Some("1.5"),
        Some("0.1"),
        Some("12.3400"),
        Some("-5.5"),
        Some("Hello, Wörld"),
        Some("a,b,,c"),
        Some("ab"),
        Some("\\x00ff10"),
        Some("6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
        Some("2024-02-29"),
        Some("13:14:15.5"),
        Some("2024-02-29 23:59:59.999999"),
        Some("2024-10-27 00:30:00+00"),
        Some(r#"{ "a" : [1, 2.50, "x\ty"], "b":null, "a":{"z":1}}"#),
        Some(r#"{"bb":{"c":[1,2,{"d":"e"}]},"a":"q\"r","n":1.500}"#),
        Some("{1,2,NULL,3}"),
        Some(r#"{a,"b c",NULL,"NULL",""}"#),
        Some("10.0.0.1"),
    ],
    [
        Some("f"),
        Some("-32768"),
        Some("-2147483648"),
        Some("-9223372036854775808"),
        Some("-1e20"),
        Some("1e300"),
        Some("-0.00"),
        Some("999999999.999"),
        Some(""),
        Some("  pad  "),
        Some("xyz   "),
        Some("\\x"),
        Some("00000000-0000-0000-0000-000000000000"),
        Some("0044-03-15 BC"),
        Some("00:00:00"),
        Some("-infinity"),
        Some("infinity"),
        Some("[]"),
        Some("[1, \"two\", null, true]"),
        Some("{}"),
        Some("{}"),
        Some("::1"),
    ],
    [None; 22],
    [
        None,
        Some("0"),
        Some("0"),
        Some("0"),
        Some("0"),
        Some("NaN"),
        Some("NaN"),
        Some("0"),
        Some("100%_\\x"),
        Some("ß"),
        Some("a"),
        Some("\\xdeadbeef"),
        Some("ffffffff-ffff-ffff-ffff-ffffffffffff"),
        Some("1900-01-01"),
        Some("24:00:00"),
        Some("1900-01-01 12:00:00"),
        Some("1969-12-31 23:59:59.5+00"),
        Some("\"str\""),
        Some("\"s\\u00e9\\n\""),
        Some("[2:3]={7,8}"),
        Some("{{a,b},{c,d}}"),
        None,
    ],
    [
        Some("t"),
        Some("3"),
        Some("-7"),
        Some("1000000000000"),
        Some("0.1"),
        Some("-2.5"),
        Some("123456789012345678901234567890.5"),
        Some("0.001"),
        Some("12"),
        Some("2024-05-06"),
        Some("true"),
        Some("\\x61626364"),
        Some("11111111-2222-3333-4444-555555555555"),
        Some("12024-12-31"),
        Some("23:59:59.999999"),
        Some("12024-07-01 00:00:00"),
        Some("0001-01-01 00:00:00+00"),
        Some("null"),
        Some("-12.50"),
        Some("{5}"),
        Some("{x}"),
        Some("192.168.0.0/16"),
    ],
];

/// One expression a line; each is tried over every row.
const EXPRESSIONS: &str = include_str!("cases.sql");

#[test]
fn given_hundreds_of_expressions_when_evaluated_then_every_result_is_the_servers() {
    let (database, mut sql) = session("expressions");
    let rows: Vec<Vec<Option<String>>> =
        ROWS.iter().map(|r| r.iter().map(|v| v.map(str::to_owned)).collect()).collect();
    prepare(&mut sql, COLUMNS, &rows);
    let stored = stored(&mut sql, COLUMNS);
    let tried: Vec<(String, usize)> = EXPRESSIONS
        .lines()
        .filter(|l| !l.trim().is_empty() && !l.starts_with("--"))
        .flat_map(|l| (0..ROWS.len()).map(move |row| (l.to_owned(), row)))
        .collect();
    let wrong: Vec<String> = compare(&mut sql, COLUMNS, &stored, &tried).into_iter().map(|d| d.shown).collect();
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), tried.len(), wrong.join("\n"));
    drop(sql);
    database.drop();
}
