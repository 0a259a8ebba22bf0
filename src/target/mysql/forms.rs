//! Column types as MySQL and MariaDB print them (`COLUMN_TYPE`), as far as writing a value depends on them. Pure.

use crate::definition::DataType;
use crate::mywire::quote::read_labels;
use crate::schema::{Column, Kind};

/// What a column takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// A whole number.
    Int {
        /// 8, 16, 24, 32 or 64.
        bits: u8,
        /// Without sign.
        unsigned: bool,
    },
    /// An exact number.
    Decimal {
        /// All digits.
        precision: u32,
        /// Digits behind the point.
        scale: u32,
        /// Without sign.
        unsigned: bool,
    },
    /// 32 bits, binary.
    Float,
    /// 64 bits, binary.
    Double,
    /// Padded text of so many characters.
    Char(u32),
    /// Text of at most so many characters.
    Varchar(u32),
    /// Text of at most so many bytes.
    Text(u64),
    /// Bytes, always so many.
    Binary(u32),
    /// Bytes, at most so many.
    Blob(u64),
    /// So many bits.
    Bit(u32),
    /// A date.
    Date,
    /// A span of time with so many digits behind the point.
    Time(u8),
    /// Date and time, likewise.
    Datetime(u8),
    /// An instant, likewise. All sessions run at `+00:00`.
    Timestamp(u8),
    /// A year.
    Year,
    /// One of these.
    Enum(Vec<String>),
    /// Any of these.
    Set(Vec<String>),
    /// JSON. MariaDB keeps its text; MySQL parses it.
    Json,
    /// A shape, as SRID and WKB.
    Geometry,
    /// Anything else, written as text.
    Other,
}

/// Reads a type with its modifiers, in the server's own spelling.
pub fn form(type_name: &str) -> Form {
    let lower = type_name.trim().to_ascii_lowercase();
    let word = lower.split(['(', ' ']).next().unwrap_or("");
    let inner = type_name.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).map(|(inner, _)| inner);
    let numbers: Vec<u32> =
        inner.map(|i| i.split(',').filter_map(|n| n.trim().parse().ok()).collect()).unwrap_or_default();
    let first = numbers.first().copied();
    let unsigned = lower.split(' ').any(|w| w == "unsigned");
    let int = |bits| Form::Int { bits, unsigned };
    let fraction = first.unwrap_or(0).min(6) as u8;
    match word {
        "tinyint" | "bool" | "boolean" => int(8),
        "smallint" => int(16),
        "mediumint" => int(24),
        "int" | "integer" => int(32),
        "bigint" => int(64),
        "decimal" | "numeric" => {
            Form::Decimal { precision: first.unwrap_or(10), scale: numbers.get(1).copied().unwrap_or(0), unsigned }
        }
        "float" => Form::Float,
        "double" | "real" => Form::Double,
        "char" => Form::Char(first.unwrap_or(1)),
        "varchar" => Form::Varchar(first.unwrap_or(0)),
        "tinytext" => Form::Text(0xff),
        "text" => Form::Text(0xffff),
        "mediumtext" => Form::Text(0xff_ffff),
        "longtext" => Form::Text(0xffff_ffff),
        "binary" => Form::Binary(first.unwrap_or(1)),
        "varbinary" => Form::Blob(u64::from(first.unwrap_or(0))),
        "tinyblob" => Form::Blob(0xff),
        "blob" => Form::Blob(0xffff),
        "mediumblob" => Form::Blob(0xff_ffff),
        "longblob" => Form::Blob(0xffff_ffff),
        "bit" => Form::Bit(first.unwrap_or(1)),
        "date" => Form::Date,
        "time" => Form::Time(fraction),
        "datetime" => Form::Datetime(fraction),
        "timestamp" => Form::Timestamp(fraction),
        "year" => Form::Year,
        "enum" => Form::Enum(read_labels(inner.unwrap_or(""))),
        "set" => Form::Set(read_labels(inner.unwrap_or(""))),
        "json" => Form::Json,
        "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring" | "multipolygon"
        | "geometrycollection" | "geomcollection" => Form::Geometry,
        _ => Form::Other,
    }
}

impl Form {
    /// What rules and decoders call it.
    pub fn kind(&self) -> Kind {
        match self {
            Form::Int { bits: 8 | 16, unsigned: false } | Form::Int { bits: 8, unsigned: true } | Form::Year => {
                Kind::Int2
            }
            Form::Int { bits: 24 | 32, unsigned: false } | Form::Int { bits: 16 | 24, unsigned: true } => Kind::Int4,
            Form::Int { bits: 64, unsigned: true } | Form::Decimal { .. } => Kind::Numeric,
            Form::Int { .. } => Kind::Int8,
            Form::Float => Kind::Float4,
            Form::Double => Kind::Float8,
            Form::Char(_) | Form::Varchar(_) | Form::Text(_) | Form::Enum(_) | Form::Set(_) => Kind::Text,
            Form::Binary(_) | Form::Blob(_) => Kind::Bytes,
            Form::Date => Kind::Date,
            Form::Time(_) => Kind::Time,
            Form::Datetime(_) => Kind::Timestamp,
            Form::Timestamp(_) => Kind::TimestampTz,
            Form::Json => Kind::Json,
            Form::Bit(_) | Form::Geometry | Form::Other => Kind::Other,
        }
    }

    /// Whether values are text with a collation.
    pub fn is_text(&self) -> bool {
        matches!(self, Form::Char(_) | Form::Varchar(_) | Form::Text(_) | Form::Enum(_) | Form::Set(_))
    }
}

/// What each of the columns takes.
pub fn forms(columns: &[Column]) -> Vec<Form> {
    columns.iter().map(|c| form(&c.type_name)).collect()
}

/// What a column holds, in words that no engine owns.
pub fn data(form: &Form) -> DataType {
    match form {
        Form::Int { bits, unsigned } => DataType::Int { bits: *bits, unsigned: *unsigned, truth: false },
        Form::Decimal { precision, scale, .. } => DataType::Decimal { precision: Some(*precision), scale: *scale },
        Form::Float => DataType::Float { bits: 32 },
        Form::Double => DataType::Float { bits: 64 },
        Form::Char(n) => DataType::Char { length: *n },
        Form::Varchar(n) => DataType::Varchar { length: *n },
        Form::Text(n) => DataType::Text { bytes: Some(*n) },
        Form::Binary(n) => DataType::Bytes { length: Some(u64::from(*n)), fixed: true },
        Form::Blob(n) => DataType::Bytes { length: Some(*n), fixed: false },
        Form::Bit(n) => DataType::Bits { length: Some(*n), varying: false },
        Form::Date => DataType::Date,
        Form::Time(n) => DataType::Time { fraction: *n, span: true, zone: false },
        Form::Datetime(n) => DataType::Timestamp { fraction: *n },
        Form::Timestamp(n) => DataType::TimestampTz { fraction: *n },
        Form::Year => DataType::Year,
        Form::Enum(labels) => DataType::Enum { name: None, labels: labels.clone() },
        Form::Set(labels) => DataType::Set { labels: labels.clone() },
        Form::Json => DataType::Json { verbatim: false },
        Form::Geometry => DataType::Geometry,
        Form::Other => DataType::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_types_as_the_server_prints_them_when_read_then_modifiers_are_known() {
        for (text, want) in [
            ("tinyint(1)", Form::Int { bits: 8, unsigned: false }),
            ("bigint(20) unsigned", Form::Int { bits: 64, unsigned: true }),
            ("decimal(65,30)", Form::Decimal { precision: 65, scale: 30, unsigned: false }),
            ("double", Form::Double),
            ("varchar(20)", Form::Varchar(20)),
            ("datetime(6)", Form::Datetime(6)),
            ("datetime", Form::Datetime(0)),
            ("enum('a','it''s','x,y','')", Form::Enum(vec!["a".into(), "it's".into(), "x,y".into(), String::new()])),
            ("varbinary(16)", Form::Blob(16)),
            ("enum('a\\\\b','n\\n')", Form::Enum(vec!["a\\b".into(), "n\n".into()])),
            ("uuid", Form::Other),
        ] {
            assert_eq!(form(text), want, "{text}");
        }
    }
}
