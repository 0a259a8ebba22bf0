//! Values that a column of the target cannot hold, found before they are sent: the server would name neither row nor way on. Pure.

use super::foreign_types::{is_beyond_a_day, is_zero_date};
use crate::error::Error;
use crate::schema::{Ident, Kind, Table};
use crate::value::{Datum, Row};

/// Why a value does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// It is no number of the column's width, or no number.
    Number,
    /// A number that is neither 0 nor 1, for a boolean.
    Truth,
    /// Text with a NUL byte.
    Nul,
    /// A date with a month or day of zero.
    ZeroDate,
    /// A span of time that is no time of day.
    Span,
}

/// What is known to be wrong with `text` for a column of that kind. Everything else is left to the server's own input
/// function.
#[inline]
pub fn misfit(kind: Kind, text: &[u8]) -> Option<Misfit> {
    match kind {
        Kind::Bool => {
            let number = text.first().is_some_and(|b| b.is_ascii_digit() || *b == b'-');
            (number && !matches!(text, b"0" | b"1")).then_some(Misfit::Truth)
        }
        Kind::Date | Kind::Timestamp | Kind::TimestampTz if is_zero_date(text) => Some(Misfit::ZeroDate),
        Kind::Time if is_beyond_a_day(text) => Some(Misfit::Span),
        // Never in what a PostgreSQL server sent, and found by memchr elsewhere.
        _ if text.contains(&0) => Some(Misfit::Nul),
        _ => None,
    }
}

/// The error: table, column and key, never the value.
pub fn error(table: &Table, column: usize, row: Option<&Row>, why: Misfit) -> Error {
    let (name, type_name) = match table.columns.get(column) {
        Some(c) => (c.name.as_str(), c.type_name.as_str()),
        None => ("?", "?"),
    };
    let what = match why {
        Misfit::Number => "a value does not fit the target's type",
        Misfit::Truth => "a number other than 0 and 1 is no truth value",
        Misfit::Nul => "a text holds a NUL byte, which PostgreSQL cannot store",
        Misfit::ZeroDate => "a date with a zero in it (0000-00-00) does not exist in PostgreSQL",
        Misfit::Span => "a time below zero or beyond 24:00:00 is no time of day",
    };
    let alter = |to: &str| format!("ALTER TABLE {} ALTER COLUMN {} TYPE {to}", table.name, Ident(name));
    let hint = match why {
        Misfit::Number => "make the target's column of the type that the source has".to_owned(),
        Misfit::Truth => format!(
            "on the target: {} USING {}::int; or, to begin anew: [[rule]] types = {{ {name} = \"smallint\" }}",
            alter("smallint"),
            Ident(name)
        ),
        Misfit::Nul => "take the NUL byte out of the row at the source, then start again".to_owned(),
        Misfit::ZeroDate => "correct the row at the source, or set source.zero_dates = \"null\"".to_owned(),
        Misfit::Span => format!(
            "on the target: {}; or, to begin anew: [[rule]] types = {{ {name} = \"interval\" }}",
            alter("interval")
        ),
    };
    Error::fatal(format!(
        "{}, {}column {} ({type_name}): {what} (value not shown)",
        table.name,
        row.map(|r| key(table, r)).unwrap_or_default(),
        Ident(name)
    ))
    .with_code("switchyard:value")
    .hint(hint)
}

/// `row id=7, `; empty without a key.
fn key(table: &Table, row: &Row) -> String {
    let parts: Vec<String> = table
        .key()
        .iter()
        .map(|&k| {
            let value = match row.get(k) {
                Datum::Text(t) => String::from_utf8_lossy(t).replace('\0', "\\0"),
                _ => "NULL".to_owned(),
            };
            format!("{}={value}", table.columns.get(k).map_or("?", |c| c.name.as_str()))
        })
        .collect();
    if parts.is_empty() { String::new() } else { format!("row {}, ", parts.join(",")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_values_of_another_engine_when_looked_at_then_only_what_cannot_be_held_is_found() {
        for (kind, text, want) in [
            (Kind::Bool, "2", Some(Misfit::Truth)),
            (Kind::Bool, "-1", Some(Misfit::Truth)),
            (Kind::Bool, "1", None),
            (Kind::Bool, "t", None),
            (Kind::Date, "0000-00-00", Some(Misfit::ZeroDate)),
            (Kind::TimestampTz, "2020-01-00 00:00:00+00", Some(Misfit::ZeroDate)),
            (Kind::Date, "infinity", None),
            (Kind::Time, "838:59:59", Some(Misfit::Span)),
            (Kind::Time, "24:00:00", None),
            (Kind::Text, "a\0b", Some(Misfit::Nul)),
            (Kind::Text, "0000-00-00", None),
        ] {
            assert_eq!(misfit(kind, text.as_bytes()), want, "{text:?}");
        }
    }
}
