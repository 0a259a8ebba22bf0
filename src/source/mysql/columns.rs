//! What a column's type, as `information_schema.columns.column_type` and DDL print it, means. Pure.
//!
//! `int(11) unsigned zerofill`, `decimal(10,2)`, `enum('a','it''s')`: manual, "Data Types".

use crate::definition::DataType;
use crate::mywire::quote::read_printed;
use crate::schema::Kind;

/// What makes the log hold whole old rows, for people. Sessions that are open keep what they had.
pub const WHOLE_ROWS_BY: &str =
    "SET GLOBAL binlog_row_image = 'FULL'; then let the application's sessions connect anew";

/// A type as it is written: its word, what stands in brackets, and the words behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Lower case: `int`, `double`, `enum`.
    pub word: String,
    /// Numbers or labels in the brackets, unquoted.
    pub arguments: Vec<String>,
    /// `unsigned` stands behind (or `zerofill`, which implies it).
    pub unsigned: bool,
}

/// Takes a type apart; words that other databases use are MySQL's own: `integer` is `int`, `bool` is `tinyint(1)`.
pub fn read(text: &str) -> Written {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let mut word = word.to_ascii_lowercase();
    let mut rest = rest.trim_start();
    if word == "double"
        && let Some(head) = rest.get(.."precision".len())
        && head.eq_ignore_ascii_case("precision")
    {
        rest = rest["precision".len()..].trim_start();
    }
    let mut arguments = Vec::new();
    if let Some(inner) = rest.strip_prefix('(') {
        let (read, left) = bracket(inner);
        (arguments, rest) = (read, left);
    }
    let behind = rest.to_ascii_lowercase();
    let unsigned = behind.split_whitespace().any(|w| w == "unsigned" || w == "zerofill");
    let same = match word.as_str() {
        "integer" | "int4" => "int",
        "bool" | "boolean" => {
            arguments = vec!["1".into()];
            "tinyint"
        }
        "int1" => "tinyint",
        "int2" => "smallint",
        "int3" | "middleint" => "mediumint",
        "int8" => "bigint",
        "dec" | "numeric" | "fixed" => "decimal",
        "real" | "float8" => "double",
        "float4" => "float",
        "character" | "nchar" => "char",
        "nvarchar" => "varchar",
        "long" => "mediumtext",
        other => other,
    };
    if same != word {
        word = same.to_owned();
    }
    // FLOAT(p) chooses by precision (manual, "Floating-Point Types").
    if word == "float" && arguments.len() == 1 && arguments[0].parse::<u32>().is_ok_and(|p| p > 24) {
        word = "double".into();
    }
    Written { word, arguments, unsigned }
}

/// What stands between brackets: `10,2` or `'a','it''s'`; and what follows them.
fn bracket(text: &str) -> (Vec<String>, &str) {
    let mut out = vec![String::new()];
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let last = out.len() - 1;
        let behind = &rest[c.len_utf8()..];
        rest = match c {
            '\'' => match read_printed(rest) {
                Some((label, more)) => {
                    out[last].push_str(&label);
                    more
                }
                // Not closed.
                None => break,
            },
            ',' => {
                out.push(String::new());
                behind
            }
            ')' => return (out, behind),
            c => {
                if !c.is_whitespace() {
                    out[last].push(c);
                }
                behind
            }
        };
    }
    (out, "")
}

/// What a column of that type holds.
pub fn describe(text: &str) -> (DataType, Kind) {
    let w = read(text);
    let number = |i: usize| w.arguments.get(i).and_then(|a| a.parse::<u32>().ok());
    let fraction = || number(0).unwrap_or(0).min(6) as u8;
    let int = |bits: u8| {
        let truth = bits == 8 && !w.unsigned && number(0) == Some(1);
        let kind = match (bits, w.unsigned) {
            (8, _) | (16, false) => Kind::Int2,
            (64, true) => Kind::Numeric,
            (64, false) | (32, true) => Kind::Int8,
            _ => Kind::Int4,
        };
        (DataType::Int { bits, unsigned: w.unsigned, truth }, kind)
    };
    let text = |bytes: u64| (DataType::Text { bytes: Some(bytes) }, Kind::Text);
    let blob = |bytes: u64| (DataType::Bytes { length: Some(bytes), fixed: false }, Kind::Bytes);
    match w.word.as_str() {
        "tinyint" => int(8),
        "smallint" => int(16),
        "mediumint" => int(24),
        "int" => int(32),
        "bigint" => int(64),
        "serial" => (DataType::Int { bits: 64, unsigned: true, truth: false }, Kind::Numeric),
        "decimal" => {
            let (precision, scale) = (number(0).unwrap_or(10), number(1).unwrap_or(0));
            (DataType::Decimal { precision: Some(precision), scale }, Kind::Numeric)
        }
        "float" => (DataType::Float { bits: 32 }, Kind::Float4),
        "double" => (DataType::Float { bits: 64 }, Kind::Float8),
        "bit" => (DataType::Bits { length: Some(number(0).unwrap_or(1)), varying: false }, Kind::Other),
        "date" => (DataType::Date, Kind::Date),
        "time" => (DataType::Time { fraction: fraction(), span: true, zone: false }, Kind::Time),
        "datetime" => (DataType::Timestamp { fraction: fraction() }, Kind::Timestamp),
        "timestamp" => (DataType::TimestampTz { fraction: fraction() }, Kind::TimestampTz),
        "year" => (DataType::Year, Kind::Int2),
        "char" => (DataType::Char { length: number(0).unwrap_or(1) }, Kind::Text),
        "varchar" | "varchar2" => (DataType::Varchar { length: number(0).unwrap_or(1) }, Kind::Text),
        "tinytext" => text(0xff),
        "text" => text(number(0).map_or(0xffff, u64::from)),
        "mediumtext" => text(0xff_ffff),
        "longtext" => text(0xffff_ffff),
        "binary" => (DataType::Bytes { length: Some(number(0).unwrap_or(1).into()), fixed: true }, Kind::Bytes),
        "varbinary" => blob(number(0).unwrap_or(1).into()),
        "tinyblob" => blob(0xff),
        "blob" => blob(number(0).map_or(0xffff, u64::from)),
        "mediumblob" => blob(0xff_ffff),
        "longblob" => blob(0xffff_ffff),
        "vector" => (DataType::Bytes { length: None, fixed: false }, Kind::Bytes),
        "json" => (DataType::Json { verbatim: false }, Kind::Json),
        "enum" => (DataType::Enum { name: None, labels: w.arguments }, Kind::Text),
        "set" => (DataType::Set { labels: w.arguments }, Kind::Text),
        "uuid" => (DataType::Uuid, Kind::Uuid),
        "inet4" | "inet6" => (DataType::Network, Kind::Other),
        "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring" | "multipolygon"
        | "geometrycollection" | "geomcollection" => (DataType::Geometry, Kind::Bytes),
        _ => (DataType::Other, Kind::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_written_types_when_described_then_widths_and_signs_are_kept() {
        let int = |t: &str| match describe(t) {
            (DataType::Int { bits, unsigned, truth }, kind) => (bits, unsigned, truth, kind),
            other => panic!("{t}: {other:?}"),
        };
        assert_eq!(int("tinyint(1)"), (8, false, true, Kind::Int2));
        assert_eq!(int("BOOLEAN"), (8, false, true, Kind::Int2));
        assert_eq!(int("tinyint(1) unsigned"), (8, true, false, Kind::Int2));
        assert_eq!(int("int(10) unsigned zerofill"), (32, true, false, Kind::Int8));
        assert_eq!(int("bigint unsigned"), (64, true, false, Kind::Numeric));
        assert_eq!(int("mediumint"), (24, false, false, Kind::Int4));
        assert_eq!(describe("decimal(65,30)").0, DataType::Decimal { precision: Some(65), scale: 30 });
        assert_eq!(describe("double precision unsigned").0, DataType::Float { bits: 64 });
        assert_eq!(describe("float(30)").0, DataType::Float { bits: 64 });
        assert_eq!(describe("float(7,3)").0, DataType::Float { bits: 32 });
        assert_eq!(describe("datetime(6)").0, DataType::Timestamp { fraction: 6 });
        let labels = vec!["a,b".to_owned(), "it's".to_owned(), ")".to_owned(), " x ".to_owned()];
        assert_eq!(describe("enum('a,b','it''s',')',' x ')").0, DataType::Enum { name: None, labels });
    }

    #[test]
    fn given_broken_types_when_described_then_nothing_panics() {
        for t in ["", "(", "enum('a", "decimal(,)", "double ü", "bit()", "'"] {
            let _ = describe(t);
        }
    }
}
