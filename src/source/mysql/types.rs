//! Column types: what they hold, how to read them without loss, and the text protocol's values in canonical text form.
//!
//! A row that is copied and the same row from the log must be the same bytes. The rules, beyond those of `src/value.rs`:
//!
//! | type | canonical form |
//! |---|---|
//! | integers, DECIMAL | digits, without ZEROFILL's zeros; DECIMAL keeps its scale |
//! | YEAR | four digits, `0000` for zero (a target's `0` would be 2000) |
//! | BIT(n) | n digits 0 and 1 |
//! | FLOAT, DOUBLE | the shortest digits that read back, in PostgreSQL's style |
//! | DATE, DATETIME, TIME, TIMESTAMP | ISO; the fraction without trailing zeros, zero dates as the server prints them; TIMESTAMP in UTC with `+00`, except for the zero date |
//! | CHAR, VARCHAR, TEXT, ENUM, SET | UTF-8; an ENUM's invalid value is empty |
//! | BINARY, VARBINARY, BLOB, GEOMETRY, VECTOR | `\x` and hexadecimal digits of the server's own bytes |
//! | JSON | exactly what the server prints |
//!
//! The session that reads has `character_set_results = utf8mb4`, `time_zone = '+00:00'` and no `PAD_CHAR_TO_FULL_LENGTH`.

pub mod charset;
mod charset_tables;
pub mod render;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::mywire::quote::read_printed;
use crate::schema::Kind;
use charset::Charset;
use render::Rendered;

/// What a column holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// TINYINT to BIGINT: 1, 2, 3, 4 or 8 bytes.
    Int {
        /// Bytes.
        width: u8,
        /// UNSIGNED was said.
        unsigned: bool,
    },
    /// DECIMAL(precision, scale).
    Decimal {
        /// All digits, 1 to 65.
        precision: u8,
        /// Digits behind the point, up to 38.
        scale: u8,
    },
    /// Single precision.
    Float,
    /// Double precision.
    Double,
    /// YEAR.
    Year,
    /// BIT(n), 1 to 64.
    Bit(u8),
    /// DATE.
    Date,
    /// TIME with so many digits of a second.
    Time(u8),
    /// DATETIME with so many digits of a second.
    DateTime(u8),
    /// TIMESTAMP with so many digits of a second.
    Timestamp(u8),
    /// CHAR, VARCHAR, TEXT of every size; MariaDB's JSON.
    Text(Charset),
    /// ENUM and its labels.
    Enum(Arc<[Box<str>]>),
    /// SET and its labels.
    Set(Arc<[Box<str>]>),
    /// BINARY(n).
    FixedBytes(u32),
    /// VARBINARY, BLOB of every size.
    Bytes,
    /// MySQL's JSON.
    Json,
    /// GEOMETRY and its subtypes.
    Geometry,
    /// VECTOR.
    Vector,
    /// MariaDB's UUID, INET6 and INET4: 16, 16 and 4 bytes in the log, which does not tell them from BINARY.
    Address(Address),
}

/// MariaDB's types that the log shows as BINARY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// UUID.
    Uuid,
    /// INET6.
    Inet6,
    /// INET4.
    Inet4,
}

impl Address {
    /// Bytes in the log.
    pub fn width(self) -> u32 {
        if self == Address::Inet4 { 4 } else { 16 }
    }
}

impl ColumnType {
    /// The type as `information_schema.columns` describes it: COLUMN_TYPE and CHARACTER_SET_NAME.
    ///
    /// # Errors
    /// A type or character set that is not supported, by name.
    pub fn parse(column_type: &str, charset: Option<&str>) -> Result<ColumnType> {
        let unsupported = |why: &str| {
            Error::fatal(format!("columns of type {column_type} are not supported{why}"))
                .hint("leave the table out, or change the column's type")
        };
        if column_type.contains("mariadb-5.3") {
            return Err(unsupported(": the old form of fractional seconds")
                .hint("ALTER TABLE … FORCE under mysql56_temporal_format=ON rewrites the column"));
        }
        if column_type.contains("COMPRESSED") {
            return Err(unsupported(": compressed columns").hint("ALTER TABLE … MODIFY the column without COMPRESSED"));
        }
        let lower = column_type.to_ascii_lowercase();
        let name_end = lower.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(lower.len());
        let (name, rest) = lower.split_at_checked(name_end).unwrap_or((&lower, ""));
        let arguments = rest.strip_prefix('(').and_then(|r| r.split_once(')')).map_or("", |(a, _)| a);
        let mut numbers = arguments.split(',').map(|n| n.trim().parse::<u32>().ok());
        let (first, second) = (numbers.next().flatten(), numbers.next().flatten());
        let small = |n: Option<u32>, or: u8| n.map_or(Ok(or), |n| u8::try_from(n).map_err(|_| unsupported("")));
        let unsigned = rest.contains("unsigned");
        let int = |width| ColumnType::Int { width, unsigned };
        let text = || match charset {
            None => Err(unsupported(": its character set is not known")),
            Some(name) => Charset::named(name).map_err(|e| unsupported(&format!(": {e}"))),
        };
        Ok(match name {
            "tinyint" => int(1),
            "smallint" => int(2),
            "mediumint" => int(3),
            "int" | "integer" => int(4),
            "bigint" => int(8),
            "decimal" | "numeric" => ColumnType::Decimal { precision: small(first, 10)?, scale: small(second, 0)? },
            "float" => ColumnType::Float,
            "double" | "real" => ColumnType::Double,
            "year" => ColumnType::Year,
            "bit" => ColumnType::Bit(small(first, 1)?),
            "date" => ColumnType::Date,
            "time" => ColumnType::Time(small(first, 0)?),
            "datetime" => ColumnType::DateTime(small(first, 0)?),
            "timestamp" => ColumnType::Timestamp(small(first, 0)?),
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => ColumnType::Text(text()?),
            "enum" => {
                text()?;
                ColumnType::Enum(labels(column_type).ok_or_else(|| unsupported(": its labels cannot be read"))?)
            }
            "set" => {
                text()?;
                ColumnType::Set(labels(column_type).ok_or_else(|| unsupported(": its labels cannot be read"))?)
            }
            "binary" => ColumnType::FixedBytes(first.unwrap_or(1)),
            "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => ColumnType::Bytes,
            "json" => ColumnType::Json,
            "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring" | "multipolygon"
            | "geomcollection" | "geometrycollection" => ColumnType::Geometry,
            "vector" => ColumnType::Vector,
            "uuid" => ColumnType::Address(Address::Uuid),
            "inet6" => ColumnType::Address(Address::Inet6),
            "inet4" => ColumnType::Address(Address::Inet4),
            _ => return Err(unsupported("")),
        })
    }

    /// What the rest of the program takes the column for. Types whose values another engine may refuse (zero dates,
    /// times beyond a day) are named by what they mostly hold, except for TIME.
    pub fn kind(&self) -> Kind {
        match self {
            ColumnType::Int { width: 1, .. } | ColumnType::Int { width: 2, unsigned: false } | ColumnType::Year => {
                Kind::Int2
            }
            ColumnType::Int { width: 2 | 3, .. } | ColumnType::Int { width: 4, unsigned: false } => Kind::Int4,
            ColumnType::Int { width: 8, unsigned: true } => Kind::Numeric,
            ColumnType::Int { .. } => Kind::Int8,
            ColumnType::Decimal { .. } => Kind::Numeric,
            ColumnType::Float => Kind::Float4,
            ColumnType::Double => Kind::Float8,
            ColumnType::Date => Kind::Date,
            ColumnType::DateTime(_) => Kind::Timestamp,
            ColumnType::Timestamp(_) => Kind::TimestampTz,
            ColumnType::Text(Charset::Binary) => Kind::Bytes,
            ColumnType::Text(_) | ColumnType::Enum(_) | ColumnType::Set(_) => Kind::Text,
            ColumnType::FixedBytes(_) | ColumnType::Bytes | ColumnType::Geometry | ColumnType::Vector => Kind::Bytes,
            ColumnType::Json => Kind::Json,
            ColumnType::Address(Address::Uuid) => Kind::Uuid,
            ColumnType::Address(_) | ColumnType::Bit(_) | ColumnType::Time(_) => Kind::Other,
        }
    }

    /// Whether it holds days of the calendar.
    pub fn is_date(&self) -> bool {
        matches!(self, ColumnType::Date | ColumnType::DateTime(_) | ColumnType::Timestamp(_))
    }

    /// What to select so that the text protocol has the whole value. `quoted` is the column's name in backquotes.
    pub fn select_expr(&self, quoted: &str) -> String {
        match self {
            // FLOAT is printed with six digits, FLOAT(m,d) and DOUBLE(m,d) with d decimals: as a plain double both have
            // all of theirs. A product keeps the sign of zero, a sum would not.
            ColumnType::Float | ColumnType::Double => format!("({quoted} * 1e0)"),
            _ => quoted.to_owned(),
        }
    }

    /// Appends a value of the text protocol in canonical text form.
    ///
    /// # Errors
    /// Bytes that are no value of this type. `out` may then hold part of it.
    pub fn render_text(&self, text: &[u8], out: &mut Vec<u8>) -> Rendered {
        match self {
            ColumnType::Int { .. } | ColumnType::Decimal { .. } => render::number_text(out, text),
            ColumnType::Year => {
                if text.len() != 4 || !text.iter().all(u8::is_ascii_digit) {
                    return Err("no year of four digits");
                }
                out.extend_from_slice(text);
                Ok(())
            }
            ColumnType::Float => {
                render::single(out, render::float_text(text)? as f32);
                Ok(())
            }
            ColumnType::Double => {
                render::double(out, render::float_text(text)?);
                Ok(())
            }
            ColumnType::Bit(bits) => render::bits(out, text, *bits),
            ColumnType::Date | ColumnType::Time(_) | ColumnType::DateTime(_) => render::temporal_text(out, text),
            ColumnType::Timestamp(_) => {
                render::temporal_text(out, text)?;
                if !text.starts_with(b"0000-00-00") {
                    out.extend_from_slice(b"+00");
                }
                Ok(())
            }
            ColumnType::Text(Charset::Binary) | ColumnType::Bytes | ColumnType::Geometry | ColumnType::Vector => {
                render::hex(out, text, 0);
                Ok(())
            }
            ColumnType::FixedBytes(width) => {
                render::hex(out, text, *width as usize);
                Ok(())
            }
            // What the server says with a warning (`ER_WARN_ALLOWED_PACKET_OVERFLOWED`) where the text would be too large for
            // it (`Field_json::val_str`); no document is without any text.
            ColumnType::Json if text.is_empty() => Err(TOO_LARGE),
            // Whatever the column's own set, the server has converted.
            ColumnType::Text(_)
            | ColumnType::Enum(_)
            | ColumnType::Set(_)
            | ColumnType::Json
            | ColumnType::Address(_) => Charset::Utf8.decode(text, out),
        }
    }
}

/// What [`ColumnType::render_text`] says of a document that the server did not send.
pub const TOO_LARGE: &str =
    "its text is larger than the source's max_allowed_packet, and the source sent nothing in its place";

/// Whether a date's text names no day: a year, month or day of zero, or all of it.
pub fn is_zero_date(text: &[u8]) -> bool {
    text.starts_with(b"0000") || text.get(5..7) == Some(b"00") || text.get(8..10) == Some(b"00")
}

/// The labels in `enum('a','b''c')`.
fn labels(column_type: &str) -> Option<Arc<[Box<str>]>> {
    let (_, list) = column_type.split_once('(')?;
    let mut found = Vec::new();
    let mut rest = list;
    loop {
        let (label, more) = read_printed(rest.trim_start())?;
        found.push(label.into_boxed_str());
        match more.trim_start().strip_prefix(',') {
            Some(more) => rest = more,
            None => return more.trim_start().starts_with(')').then(|| found.into()),
        }
    }
}
