//! Conditions that find rows again by values of their columns. Pure.
//!
//! A condition finds every row that has the values, and may find more: texts are compared by the column's own collation, so
//! that its index is used, and what the server has no exact equality for (JSON, shapes) is left out. The caller compares what
//! comes.

use super::quote::{literal, quoted};
use super::types::{Address, ColumnType};
use crate::value::{Datum, Row};

/// Longer values are not looked for: statements stay small, and no key is that long (InnoDB: 3072 bytes).
const LONGEST: usize = 4096;

/// Which rows are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// No row can have such values.
    None,
    /// Those that this condition holds for.
    Where(String),
    /// Nothing narrows them down.
    All,
}

/// What one column's value says of a row.
enum Term {
    Holds(String),
    Never,
    Nothing,
}

/// The condition for the rows that have the values of one of `keys` in `columns`: each column's place in the rows, name and
/// type. Values are in canonical text form, as any engine prints them.
pub fn condition(columns: &[(usize, &str, &ColumnType)], keys: &[Row]) -> Found {
    let mut all: Vec<String> = Vec::with_capacity(keys.len());
    'keys: for key in keys {
        let mut terms = Vec::with_capacity(columns.len());
        for (place, name, kind) in columns {
            match term(name, kind, key.get(*place)) {
                Term::Holds(sql) => terms.push(sql),
                Term::Never => continue 'keys,
                Term::Nothing => {}
            }
        }
        if terms.is_empty() {
            return Found::All;
        }
        all.push(format!("({})", terms.join(" AND ")));
    }
    if all.is_empty() { Found::None } else { Found::Where(all.join(" OR ")) }
}

fn term(name: &str, kind: &ColumnType, value: Datum<'_>) -> Term {
    let column = format!("t.{}", quoted(name));
    let text = match value {
        Datum::Null => return Term::Holds(format!("{column} IS NULL")),
        Datum::Unsent => return Term::Nothing,
        Datum::Text(text) if text.len() > LONGEST => return Term::Nothing,
        Datum::Text(text) => text,
    };
    let Ok(text) = std::str::from_utf8(text) else { return Term::Nothing };
    let written = match kind {
        ColumnType::Json | ColumnType::Geometry | ColumnType::Vector => return Term::Nothing,
        ColumnType::Int { .. } | ColumnType::Decimal { .. } | ColumnType::Year => number(text),
        // As a decimal it would not be equal to any binary number but the few that are exact.
        ColumnType::Float => text.parse::<f32>().ok().filter(|f| f.is_finite()).map(|f| format!("{:e}", f64::from(f))),
        ColumnType::Double => text.parse::<f64>().ok().filter(|f| f.is_finite()).map(|f| format!("{f:e}")),
        ColumnType::Bit(_) => bits(text),
        ColumnType::Date | ColumnType::DateTime(_) | ColumnType::Timestamp(_) => {
            let text = text.strip_suffix("+00").unwrap_or(text);
            is_moment(text).then(|| literal(text))
        }
        ColumnType::Time(_) => is_clock(text.strip_prefix('-').unwrap_or(text), 2..=3).then(|| literal(text)),
        ColumnType::Text(_) | ColumnType::Enum(_) | ColumnType::Set(_) => Some(literal(text)),
        ColumnType::FixedBytes(_) | ColumnType::Bytes => bytes(text),
        ColumnType::Address(Address::Uuid) => uuid::Uuid::try_parse(text).ok().map(|_| literal(text)),
        ColumnType::Address(_) => text.parse::<core::net::IpAddr>().ok().map(|_| literal(text)),
    };
    // What is no value of the type makes the server fail rather than find nothing.
    written.map_or(Term::Never, |w| Term::Holds(format!("{column} = {w}")))
}

fn number(text: &str) -> Option<String> {
    let text = match text {
        "t" => "1",
        "f" => "0",
        other => other,
    };
    let plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E'));
    (plain && text.parse::<f64>().is_ok()).then(|| text.to_owned())
}

/// A field of bits as the number that it is compared as.
fn bits(text: &str) -> Option<String> {
    let text = match text {
        "t" => "1",
        "f" => "0",
        other => other.trim_start_matches('0'),
    };
    if text.is_empty() { Some("0".into()) } else { u64::from_str_radix(text, 2).ok().map(|n| n.to_string()) }
}

/// `\x00ff`, or a UUID's digits.
fn bytes(text: &str) -> Option<String> {
    let digits = match text.strip_prefix("\\x") {
        Some(digits) => digits.to_owned(),
        None => uuid::Uuid::try_parse(text).ok()?.simple().to_string(),
    };
    let even = digits.len().is_multiple_of(2) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    even.then(|| format!("x'{digits}'"))
}

/// `2024-01-31`, with ` 12:00:00.5` behind it or nothing.
fn is_moment(text: &str) -> bool {
    let (day, clock) = text.split_once(' ').map_or((text, None), |(d, c)| (d, Some(c)));
    let mut parts = day.split('-');
    let mut part = |n: usize| parts.next().is_some_and(|p| p.len() == n && p.bytes().all(|b| b.is_ascii_digit()));
    part(4) && part(2) && part(2) && parts.next().is_none() && clock.is_none_or(|c| is_clock(c, 2..=2))
}

/// `12:00:00.5`, with so many digits of hours.
fn is_clock(text: &str, hours: std::ops::RangeInclusive<usize>) -> bool {
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(w, f)| (w, Some(f)));
    let digits = |p: &str| p.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = whole.split(':').collect();
    let [h, m, s] = parts.as_slice() else { return false };
    hours.contains(&h.len())
        && m.len() == 2
        && s.len() == 2
        && [h, m, s].iter().all(|p| digits(p))
        && fraction.is_none_or(|f| (1..=6).contains(&f.len()) && digits(f))
}

#[cfg(test)]
mod tests {
    use super::super::types::charset::Charset;
    use super::*;

    fn one(kind: &ColumnType, text: &str) -> Found {
        condition(&[(0, "c`", kind)], &[Row::from_texts([Some(text)])])
    }

    #[test]
    fn given_values_of_any_engine_when_looked_for_then_the_server_compares_them_as_the_columns_type() {
        let int = ColumnType::Int { width: 4, unsigned: false };
        let text = ColumnType::Text(Charset::Utf8);
        for (kind, value, want) in [
            (&int, "-42", Some("-42")),
            (&int, "t", Some("1")),
            (&int, "NaN", None),
            (&int, "1 or 1", None),
            (&ColumnType::Decimal { precision: 5, scale: 2 }, "1.500", Some("1.500")),
            (&ColumnType::Float, "0.1", Some("1.0000000149011612e-1")),
            (&ColumnType::Double, "0.1", Some("1e-1")),
            (&ColumnType::Double, "Infinity", None),
            (&ColumnType::Bit(9), "000000101", Some("5")),
            (&ColumnType::Bit(1), "f", Some("0")),
            (&ColumnType::Bit(64), "2", None),
            (&ColumnType::DateTime(6), "2024-02-29 12:00:00.000001+00", Some("'2024-02-29 12:00:00.000001'")),
            (&ColumnType::Date, "0000-00-00", Some("'0000-00-00'")),
            (&ColumnType::Date, "infinity", None),
            (&ColumnType::Date, "0044-03-15 BC", None),
            (&ColumnType::Time(0), "-838:59:59", Some("'-838:59:59'")),
            (&ColumnType::Time(0), "1 day", None),
            (&text, "it's \\", Some("'it''s \\\\'")),
            (&ColumnType::Bytes, "\\x00ff", Some("x'00ff'")),
            (&ColumnType::Bytes, "\\x", Some("x''")),
            (
                &ColumnType::FixedBytes(16),
                "00112233-4455-6677-8899-aabbccddeeff",
                Some("x'00112233445566778899aabbccddeeff'"),
            ),
            (&ColumnType::Bytes, "\\x0", None),
            (&ColumnType::Address(Address::Inet6), "::1", Some("'::1'")),
            (&ColumnType::Address(Address::Inet6), "10.0.0.0/8", None),
        ] {
            let want = want.map_or(Found::None, |w| Found::Where(format!("(t.`c``` = {w})")));
            assert_eq!(one(kind, value), want, "{kind:?} {value}");
        }
        assert_eq!(one(&ColumnType::Json, "{}"), Found::All);
        assert_eq!(one(&text, &"x".repeat(LONGEST + 1)), Found::All);
    }

    #[test]
    fn given_several_keys_when_looked_for_then_each_has_its_part_and_impossible_ones_none() {
        let int = ColumnType::Int { width: 4, unsigned: false };
        let columns = [(0, "a", &int), (2, "b", &ColumnType::Json), (1, "c", &int)];
        let row = |a, c| Row::from_texts([a, c, Some("{}")]);
        let keys = [row(Some("1"), None), row(Some("x"), Some("1")), row(Some("2"), Some("3"))];
        let want = "(t.`a` = 1 AND t.`c` IS NULL) OR (t.`a` = 2 AND t.`c` = 3)";
        assert_eq!(condition(&columns, &keys), Found::Where(want.into()));
        assert_eq!(condition(&columns, &keys[1..2]), Found::None);
        assert_eq!(condition(&columns, &[]), Found::None);
    }
}
