//! Which MySQL or MariaDB type holds what a column of another engine holds. Pure.

use crate::definition::DataType;
use crate::mywire::quote::literal;
use crate::mywire::server::Flavour;

/// A type, and what is to be said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The type as the server's catalog spells it, `varchar(20)`.
    pub sql: String,
    /// Character set and collation, where they are not the table's.
    pub charset: &'static str,
    /// What is lost or different, for people.
    pub remark: Option<&'static str>,
}

impl Chosen {
    /// The type, and its character set and collation as they are written behind it; those of the table are none.
    pub fn parts(&self) -> (&str, &str) {
        match self.sql.find(" CHARACTER SET ") {
            Some(at) => self.sql.split_at(at),
            None => (&self.sql, self.charset),
        }
    }
}

/// Characters of a `varchar` that stay in the row. Beyond, MySQL has `text`.
const VARCHAR: u32 = 16_383;
const ZONES: &str = "is kept as UTC without zone (datetime); every session of Switchyard runs at +00:00";

fn plain(sql: impl Into<String>) -> Chosen {
    Chosen { sql: sql.into(), charset: "", remark: None }
}

fn remarked(sql: impl Into<String>, remark: &'static str) -> Chosen {
    Chosen { remark: Some(remark), ..plain(sql) }
}

/// A text type for so many bytes.
fn text(bytes: u64) -> &'static str {
    match bytes {
        0..=0xff => "tinytext",
        0x100..=0xffff => "text",
        0x1_0000..=0xff_ffff => "mediumtext",
        _ => "longtext",
    }
}

fn blob(bytes: u64) -> &'static str {
    match bytes {
        0..=0xff => "tinyblob",
        0x100..=0xffff => "blob",
        0x1_0000..=0xff_ffff => "mediumblob",
        _ => "longblob",
    }
}

fn varchar(length: u32) -> Chosen {
    plain(if length <= VARCHAR { format!("varchar({length})") } else { text(u64::from(length) * 4).to_owned() })
}

fn fraction(word: &str, digits: u8) -> String {
    match digits.min(6) {
        0 => word.to_owned(),
        n => format!("{word}({n})"),
    }
}

/// The type for `data` of a source of the engine `from`.
pub fn choose(data: &DataType, from: &str) -> Chosen {
    match data {
        DataType::Bool | DataType::Int { truth: true, .. } => plain("tinyint(1)"),
        DataType::Int { bits, unsigned, .. } => {
            let word = match bits {
                0..=8 => "tinyint",
                9..=16 => "smallint",
                17..=24 => "mediumint",
                25..=32 => "int",
                _ => "bigint",
            };
            plain(if *unsigned { format!("{word} unsigned") } else { word.to_owned() })
        }
        DataType::Decimal { precision: Some(p), scale } if (*p).max(*scale) <= 65 && *scale <= 30 => {
            plain(format!("decimal({},{scale})", (*p).max(*scale).max(1)))
        }
        DataType::Decimal { .. } => remarked(
            "decimal(65,30)",
            "has no precision that MySQL knows: it becomes decimal(65,30), and a value with more digits stops the migration",
        ),
        DataType::Float { bits: 32 } => plain("float"),
        DataType::Float { .. } => plain("double"),
        DataType::Char { length } if *length <= 255 => plain(format!("char({})", (*length).max(1))),
        DataType::Char { length } | DataType::Varchar { length } => varchar(*length),
        DataType::Text { bytes } => plain(text(bytes.unwrap_or(u64::MAX))),
        DataType::Bytes { length: Some(n), fixed: true } if (1..=255).contains(n) => plain(format!("binary({n})")),
        DataType::Bytes { length: Some(n), .. } if *n <= 16_384 && *n != 0xff => plain(format!("varbinary({n})")),
        DataType::Bytes { length, .. } => plain(blob(length.unwrap_or(u64::MAX))),
        DataType::Bits { length: Some(n), varying: false } if (1..=64).contains(n) => plain(format!("bit({n})")),
        DataType::Bits { length: Some(n), .. } => Chosen { remark: Some("is kept as text of 0 and 1"), ..varchar(*n) },
        DataType::Bits { length: None, .. } => remarked("longtext", "is kept as text of 0 and 1"),
        DataType::Date => plain("date"),
        DataType::Time { zone: true, .. } => {
            remarked("varchar(32)", "has an offset, which MySQL's time has not: it is kept as text")
        }
        DataType::Time { fraction: n, .. } => plain(fraction("time", *n)),
        DataType::Timestamp { fraction: n } => plain(fraction("datetime", *n)),
        // Of this engine it has the range of this engine; others' instants reach beyond 2038, where `timestamp` ends.
        DataType::TimestampTz { fraction: n } if from == "mysql" => plain(fraction("timestamp", *n)),
        DataType::TimestampTz { fraction: n } => remarked(fraction("datetime", *n), ZONES),
        DataType::Year => plain("year"),
        DataType::Interval => remarked("varchar(64)", "is kept as text"),
        DataType::Uuid => Chosen { charset: " CHARACTER SET ascii COLLATE ascii_bin", ..plain("char(36)") },
        DataType::Json { .. } => plain("json"),
        DataType::Enum { labels, .. } => labelled("enum", labels, 65_535),
        DataType::Set { labels } => labelled("set", labels, 64),
        DataType::Array { .. } => remarked("json", "is an array, which becomes a JSON list"),
        DataType::Geometry if from == "postgres" => remarked("longtext", "is kept as text"),
        DataType::Geometry => plain("geometry"),
        DataType::Network => plain("varchar(43)"),
        DataType::Other => remarked("longtext", "is of a type that MySQL has not: it is kept as the source prints it"),
    }
}

/// `enum` or `set`. Its labels compare by their bytes, so that none meet; the server cuts blanks at their ends.
fn labelled(word: &str, labels: &[String], most: usize) -> Chosen {
    let longest = labels.iter().map(|l| l.chars().count()).max().unwrap_or(0);
    let odd = labels.iter().any(|l| l.ends_with(' ') || (word == "set" && l.contains(',')));
    if labels.is_empty() || labels.len() > most || longest > 255 || odd {
        let length = if word == "set" { labels.iter().map(|l| l.chars().count() + 1).sum() } else { longest.max(64) };
        let kept = varchar(u32::try_from(length).unwrap_or(u32::MAX));
        return Chosen { remark: Some("has labels that MySQL cannot have: it is kept as text"), ..kept };
    }
    let list: Vec<String> = labels.iter().map(|l| literal(l)).collect();
    Chosen { charset: " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", ..plain(format!("{word}({})", list.join(","))) }
}

/// Character set and collation of text in the keys of tables of a source of the engine `from`; empty for the table's own.
/// Keys of documents are of one column for all types, differ by case, and end in blanks: only a collation by bytes that
/// pads nothing keeps them apart (`utf8mb4_bin` takes `a` and `a ` for equal).
pub fn key_text(from: &str, flavour: Flavour) -> &'static str {
    match (from, flavour) {
        ("mongo", Flavour::Mysql) => " CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin",
        ("mongo", Flavour::Mariadb) => " CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
        _ => "",
    }
}

/// Whether the type is text whose collation nobody has written.
pub fn collates_as_table(chosen: &Chosen) -> bool {
    use super::forms::form;
    let bare =
        chosen.charset.is_empty() && !chosen.sql.contains(" CHARACTER SET ") && !chosen.sql.contains(" COLLATE ");
    bare && form(&chosen.sql).is_text()
}

/// Bytes that a column of the type takes in a key, or `None` where it can stand there with a length only.
pub fn key_bytes(sql: &str, charset: &str) -> Option<u32> {
    use super::forms::{Form, form};
    let width = if charset.contains("ascii") { 1 } else { 4 };
    Some(match form(sql) {
        Form::Int { bits, .. } => u32::from(bits / 8),
        Form::Decimal { precision, .. } => precision / 2 + 4,
        Form::Float => 4,
        Form::Double => 8,
        Form::Char(n) => n * width,
        Form::Varchar(n) => n.saturating_mul(width) + 2,
        Form::Binary(n) => n,
        Form::Blob(n) if sql.starts_with("varbinary") => u32::try_from(n).unwrap_or(u32::MAX) + 2,
        Form::Bit(_) | Form::Datetime(_) | Form::Timestamp(_) | Form::Set(_) => 8,
        Form::Date | Form::Year | Form::Enum(_) => 3,
        Form::Time(_) => 6,
        Form::Text(_) | Form::Blob(_) | Form::Json | Form::Geometry | Form::Other => return None,
    })
}

/// Bytes that a column of the type takes of a row's 65535.
pub fn row_bytes(sql: &str, charset: &str) -> u32 {
    key_bytes(sql, charset).unwrap_or(12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_types_of_other_engines_when_chosen_then_every_value_has_room() {
        let int = |bits, unsigned| DataType::Int { bits, unsigned, truth: false };
        for (data, want) in [
            (DataType::Bool, "tinyint(1)"),
            (int(16, false), "smallint"),
            (int(24, true), "mediumint unsigned"),
            (int(64, true), "bigint unsigned"),
            (DataType::Decimal { precision: Some(10), scale: 2 }, "decimal(10,2)"),
            (DataType::Decimal { precision: Some(2), scale: 5 }, "decimal(5,5)"),
            (DataType::Decimal { precision: Some(80), scale: 2 }, "decimal(65,30)"),
            (DataType::Decimal { precision: None, scale: 0 }, "decimal(65,30)"),
            (DataType::Float { bits: 32 }, "float"),
            (DataType::Char { length: 84 }, "char(84)"),
            (DataType::Char { length: 300 }, "varchar(300)"),
            (DataType::Varchar { length: 255 }, "varchar(255)"),
            (DataType::Varchar { length: 20_000 }, "mediumtext"),
            (DataType::Text { bytes: None }, "longtext"),
            (DataType::Text { bytes: Some(65_535) }, "text"),
            (DataType::Bytes { length: Some(16), fixed: true }, "binary(16)"),
            (DataType::Bytes { length: Some(100), fixed: false }, "varbinary(100)"),
            (DataType::Bytes { length: None, fixed: false }, "longblob"),
            (DataType::Bits { length: Some(10), varying: false }, "bit(10)"),
            (DataType::Bits { length: Some(100), varying: false }, "varchar(100)"),
            (DataType::Bits { length: Some(10), varying: true }, "varchar(10)"),
            (DataType::Time { fraction: 6, span: false, zone: false }, "time(6)"),
            (DataType::Time { fraction: 6, span: false, zone: true }, "varchar(32)"),
            (DataType::Timestamp { fraction: 0 }, "datetime"),
            (DataType::TimestampTz { fraction: 6 }, "datetime(6)"),
            (DataType::Uuid, "char(36)"),
            (DataType::Array { element: Box::new(DataType::Bool) }, "json"),
            (DataType::Enum { name: None, labels: vec!["a".into(), "it's".into()] }, "enum('a','it''s')"),
            (DataType::Enum { name: None, labels: vec!["a ".into()] }, "varchar(64)"),
            (DataType::Other, "longtext"),
        ] {
            assert_eq!(choose(&data, "postgres").sql, want, "{data:?}");
        }
        assert_eq!(choose(&DataType::TimestampTz { fraction: 3 }, "mysql").sql, "timestamp(3)");
        assert_eq!(choose(&DataType::TimestampTz { fraction: 3 }, "mongo").sql, "datetime(3)");
    }
}
