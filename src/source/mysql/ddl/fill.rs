//! What rows that are there already get in a new column, and how `information_schema` prints defaults. Pure.
//!
//! Values are in canonical text form.

use std::borrow::Cow;

use super::{ColumnText, DefaultText, Session};
use crate::definition::DataType;
use crate::mywire::quote;
use crate::source::mysql::columns;

/// What existing rows get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fill {
    /// NULL.
    Null,
    /// This value, in canonical text form.
    Value(String),
    /// Something that the text does not tell.
    Computed,
}

/// What existing rows get in a column that is defined so and `nullable` or not.
pub fn of(column: &ColumnText, nullable: bool, session: &Session) -> Fill {
    if column.numbered || column.generated.is_some() {
        return Fill::Computed;
    }
    match &column.default {
        None if nullable => Fill::Null,
        None => implicit(&column.type_name, &column.data, session).map_or(Fill::Computed, Fill::Value),
        Some(d) => value(d, &column.type_name, &column.data, session).map_or(Fill::Computed, Fill::Value),
    }
}

/// What NOT NULL columns without a default get (manual, "Data Type Default Values"; both families store it on ADD COLUMN
/// in every sql_mode, or refuse the statement).
fn implicit(type_name: &str, data: &DataType, session: &Session) -> Option<String> {
    if !possible(data) {
        return None;
    }
    let zeros = |n: u32| "0".repeat(n as usize);
    Some(match data {
        DataType::Int { .. } | DataType::Float { .. } => "0".into(),
        DataType::Decimal { scale: 0, .. } => "0".into(),
        DataType::Decimal { scale, .. } => format!("0.{}", zeros(*scale)),
        DataType::Char { .. } | DataType::Varchar { .. } | DataType::Text { .. } | DataType::Set { .. } => {
            String::new()
        }
        DataType::Bytes { .. } if type_name.starts_with("vector") => return None,
        DataType::Bytes { length: Some(n), fixed: true } => format!("\\x{}", zeros(u32::try_from(*n).ok()? * 2)),
        DataType::Bytes { .. } => "\\x".into(),
        DataType::Bits { length, .. } => zeros(length.unwrap_or(1)),
        DataType::Date => "0000-00-00".into(),
        DataType::Timestamp { .. } | DataType::TimestampTz { .. } => "0000-00-00 00:00:00".into(),
        DataType::Time { .. } => "00:00:00".into(),
        DataType::Year => "0000".into(),
        DataType::Enum { labels, .. } => labels.first()?.clone(),
        DataType::Json { .. } if !session.mariadb => "null".into(),
        DataType::Uuid => "00000000-0000-0000-0000-000000000000".into(),
        _ => return None,
    })
}

/// A default's value in canonical text form, if it is a constant whose meaning for the type is certain.
fn value(default: &DefaultText, type_name: &str, data: &DataType, session: &Session) -> Option<String> {
    if !possible(data) {
        return None;
    }
    let inner;
    let default = match default {
        DefaultText::Now(_) => return None,
        DefaultText::Expression(e) => match empty_document(e, data) {
            Some(document) => return Some(document),
            None => {
                inner = super::column::constant(e, session)?;
                &inner
            }
        },
        d => d,
    };
    let text: Cow<'_, str> = match default {
        DefaultText::Text(t) | DefaultText::Number(t) => t.into(),
        DefaultText::Bits(b) => match data {
            DataType::Bits { length, .. } => return bits(b, length.unwrap_or(1)),
            DataType::Int { .. } => u64::from_str_radix(b, 2).ok()?.to_string().into(),
            _ => return None,
        },
        DefaultText::Hex(h) => match data {
            DataType::Bytes { length, fixed } => return bytes(h, *length, *fixed),
            _ => return None,
        },
        _ => return None,
    };
    let quoted = matches!(default, DefaultText::Text(_));
    let text = text.as_ref();
    match data {
        DataType::Int { .. } => integer(text),
        DataType::Year => (text.len() == 4 && digits(text) && text >= "1901").then(|| text.to_owned()),
        DataType::Decimal { scale, .. } => decimal(text, *scale as usize),
        // Digits behind the point would be cut by the type.
        DataType::Float { .. } if !columns::read(type_name).arguments.is_empty() => None,
        DataType::Float { bits } => float(text, *bits),
        DataType::Char { .. } if quoted => Some(text.trim_end_matches(' ').to_owned()),
        DataType::Varchar { .. } | DataType::Text { .. } if quoted => Some(text.to_owned()),
        DataType::Char { .. } | DataType::Varchar { .. } => integer(text).filter(|i| i == text),
        // Beyond ASCII the bytes are those of the session's character set.
        DataType::Bytes { length, fixed } if quoted && text.is_ascii() && !type_name.starts_with("vector") => {
            bytes(text.as_bytes(), *length, *fixed)
        }
        DataType::Bits { length, .. } if !quoted => {
            bits(&format!("{:b}", text.parse::<u64>().ok()?), length.unwrap_or(1))
        }
        DataType::Date => date(text).then(|| text.to_owned()),
        DataType::Timestamp { fraction } => timestamp(text, *fraction),
        DataType::TimestampTz { fraction } => instant(text, *fraction, session),
        DataType::Time { fraction, .. } => time(text, *fraction),
        DataType::Enum { labels, .. } if quoted => label(text.trim_end_matches(' '), labels),
        DataType::Set { labels } if quoted => {
            let members: Option<Vec<String>> =
                text.split(',').filter(|m| !m.is_empty()).map(|m| label(m.trim_end_matches(' '), labels)).collect();
            let members = members?;
            let ordered: Vec<&str> = labels.iter().filter(|l| members.contains(l)).map(String::as_str).collect();
            Some(ordered.join(","))
        }
        DataType::Uuid if quoted => {
            let lower = text.to_ascii_lowercase();
            let shape = lower.len() == 36
                && lower
                    .bytes()
                    .enumerate()
                    .all(|(i, b)| if matches!(i, 8 | 13 | 18 | 23) { b == b'-' } else { b.is_ascii_hexdigit() });
            shape.then_some(lower)
        }
        DataType::Json { .. } if matches!(text, "{}" | "[]" | "null" | "true" | "false") => Some(text.to_owned()),
        _ => None,
    }
}

/// Whether a server has such a type: sizes decide here how much is written.
fn possible(data: &DataType) -> bool {
    match data {
        DataType::Bits { length, .. } => length.is_none_or(|n| n <= 64),
        DataType::Bytes { length, fixed: true } => length.is_none_or(|n| n <= 255),
        DataType::Decimal { scale, .. } => *scale <= 38,
        _ => true,
    }
}

/// The functions that make a document without anything in it.
fn empty_document(expression: &str, data: &DataType) -> Option<String> {
    let bare: String = expression.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
    let json = matches!(data, DataType::Json { .. });
    match bare.trim_matches(|c| c == '(' || c == ')') {
        "json_object" if json => Some("{}".into()),
        "json_array" if json => Some("[]".into()),
        _ => None,
    }
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Sign and digits, without zeros in front.
fn integer(text: &str) -> Option<String> {
    let text = text.trim();
    let (sign, body) = match text.strip_prefix('-') {
        Some(b) => ("-", b),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = body.split_once('.').unwrap_or((body, "0"));
    if !digits(whole) || !fraction.bytes().all(|b| b == b'0') {
        return None;
    }
    let bare = whole.trim_start_matches('0');
    Some(if bare.is_empty() { "0".into() } else { format!("{sign}{bare}") })
}

/// With exactly `scale` digits behind the point; more of them would be rounded.
fn decimal(text: &str, scale: usize) -> Option<String> {
    let text = text.trim();
    let (sign, body) = match text.strip_prefix('-') {
        Some(b) => ("-", b),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = body.split_once('.').unwrap_or((body, ""));
    let fraction = fraction.trim_end_matches('0');
    let plain = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty() && !body.contains('0'))
        || !plain(whole)
        || !plain(fraction)
        || fraction.len() > scale
    {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    let zero = whole.is_empty() && fraction.is_empty();
    let whole = if whole.is_empty() { "0" } else { whole };
    let sign = if zero { "" } else { sign };
    Some(if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction:0<scale$}") })
}

/// Where the shortest form that reads back has no exponent in any notation.
fn float(text: &str, bits: u8) -> Option<String> {
    let text = text.trim();
    let x = text.parse::<f64>().ok()?;
    let plain = x == 0.0 || (1e-4..1e6).contains(&x.abs());
    let printed = if bits == 32 { format!("{}", x as f32) } else { format!("{x}") };
    plain.then(|| if x == 0.0 { "0".into() } else { printed })
}

fn bits(text: &str, length: u32) -> Option<String> {
    let bare = text.trim_start_matches('0');
    let length = length as usize;
    (bare.len() <= length).then(|| format!("{bare:0>length$}"))
}

fn bytes(bytes: &[u8], length: Option<u64>, fixed: bool) -> Option<String> {
    let mut out = String::from("\\x");
    bytes.iter().for_each(|b| out.push_str(&format!("{b:02x}")));
    if fixed {
        let length = usize::try_from(length?).ok()?;
        out.push_str(&"00".repeat(length.checked_sub(bytes.len())?));
    }
    Some(out)
}

/// `2024-01-31`, also with zeros.
fn date(text: &str) -> bool {
    let b = text.as_bytes();
    let part = |from: usize, to: usize| text.get(from..to).filter(|t| digits(t));
    b.len() == 10
        && b[4] == b'-'
        && b[7] == b'-'
        && part(0, 4).is_some()
        && part(5, 7).is_some()
        && part(8, 10).is_some()
}

/// Hours, minutes and seconds, whole, and the fraction's digits without zeros at the end, no more than `fraction` of them.
fn clock(text: &str, hours: usize, fraction: u8) -> Option<String> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let pieces: Vec<&str> = whole.split(':').collect();
    let two = |t: &str| t.len() == 2 && digits(t) && t < "60";
    let fits =
        matches!(pieces.as_slice(), [h, m, s] if (2..=hours).contains(&h.len()) && digits(h) && two(m) && two(s));
    let part = part.trim_end_matches('0');
    if !fits || !part.bytes().all(|b| b.is_ascii_digit()) || part.len() > usize::from(fraction) {
        return None;
    }
    Some(if part.is_empty() { whole.to_owned() } else { format!("{whole}.{part}") })
}

fn time(text: &str, fraction: u8) -> Option<String> {
    let (sign, body) = text.strip_prefix('-').map_or(("", text), |b| ("-", b));
    clock(body, 3, fraction).map(|c| format!("{sign}{c}"))
}

fn timestamp(text: &str, fraction: u8) -> Option<String> {
    if date(text) {
        return Some(format!("{text} 00:00:00"));
    }
    let (day, rest) = (text.get(..10)?, text.get(11..)?);
    let parted = matches!(text.as_bytes().get(10), Some(b' ' | b'T'));
    (parted && date(day)).then(|| clock(rest, 2, fraction)).flatten().map(|c| format!("{day} {c}"))
}

/// A literal in the session's time zone, as an instant in UTC.
fn instant(text: &str, fraction: u8, session: &Session) -> Option<String> {
    let local = timestamp(text, fraction)?;
    if local.starts_with("0000-00-00 00:00:00") {
        return Some("0000-00-00 00:00:00".into());
    }
    let offset = session.utc_offset?;
    let (whole, part) = local.split_once('.').map_or((local.as_str(), None), |(w, p)| (w, Some(p)));
    let moment: jiff::civil::DateTime = whole.replacen(' ', "T", 1).parse().ok()?;
    let utc = moment.checked_sub(jiff::SignedDuration::from_secs(i64::from(offset))).ok()?;
    let part = part.map(|p| format!(".{p}")).unwrap_or_default();
    Some(format!("{}{part}+00", utc.strftime("%Y-%m-%d %H:%M:%S")))
}

/// The label as it is defined. The server compares by the column's collation; beyond a difference of ASCII case nothing
/// is certain here.
fn label(text: &str, labels: &[String]) -> Option<String> {
    let same = labels.iter().find(|l| *l == text);
    same.or_else(|| labels.iter().find(|l| l.eq_ignore_ascii_case(text))).cloned()
}

/// A default as `information_schema.columns.column_default` prints it: MariaDB quotes strings, MySQL does not.
pub fn printed(default: &DefaultText, type_name: &str, data: &DataType, session: &Session) -> String {
    let quoted = |t: &str| {
        if session.mariadb { quote::printed(t) } else { t.to_owned() }
    };
    // Fractions are printed with all digits of the type.
    let padded = |v: String, fraction: u8| {
        let v = v.strip_suffix("+00").unwrap_or(&v);
        let (whole, part) = v.split_once('.').unwrap_or((v, ""));
        let wide = usize::from(fraction);
        if fraction == 0 { whole.to_owned() } else { format!("{whole}.{part:0<wide$}") }
    };
    match default {
        DefaultText::Now(n) => return n.clone(),
        // A call stands bare, anything else in brackets.
        DefaultText::Expression(e) => {
            let called = e.ends_with(')') && e.starts_with(|c: char| c.is_ascii_alphabetic());
            return if called { e.clone() } else { format!("({e})") };
        }
        _ => {}
    }
    // As the session wrote it: the server prints a TIMESTAMP's default in the zone of whoever asks, here UTC.
    let canonical = value(default, type_name, data, session);
    match (data, canonical) {
        (DataType::Int { .. } | DataType::Decimal { .. } | DataType::Float { .. } | DataType::Year, Some(v)) => v,
        (DataType::Bits { .. }, Some(v)) => {
            let bare = v.trim_start_matches('0');
            format!("b'{}'", if bare.is_empty() { "0" } else { bare })
        }
        (
            DataType::Timestamp { fraction } | DataType::TimestampTz { fraction } | DataType::Time { fraction, .. },
            Some(v),
        ) => quoted(&padded(v, *fraction)),
        (DataType::Bytes { .. }, Some(v)) if !session.mariadb => {
            format!("0x{}", v.trim_start_matches("\\x").to_uppercase())
        }
        (DataType::Bytes { .. }, _) => match default {
            DefaultText::Text(t) | DefaultText::Number(t) => quoted(t),
            DefaultText::Hex(h) => quoted(&String::from_utf8_lossy(h)),
            DefaultText::Bits(b) => format!("b'{b}'"),
            DefaultText::Now(n) | DefaultText::Expression(n) => n.clone(),
        },
        (_, Some(v)) => quoted(&v),
        (_, None) => match default {
            DefaultText::Text(t) => quoted(t),
            DefaultText::Number(n) | DefaultText::Now(n) | DefaultText::Expression(n) => n.clone(),
            DefaultText::Hex(h) => quoted(&String::from_utf8_lossy(h)),
            DefaultText::Bits(b) => format!("b'{b}'"),
        },
    }
}
