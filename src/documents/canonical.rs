//! A document's values as the canonical text of a column's type: only what is kept without loss. Pure.

use super::cursor::{Doc, Value};
use super::decimal::Decimal;
use super::ejson::{self, Numbers, Style, Why};
use super::{double, moment};
use crate::exchange::NulText;

/// What a column takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Strings and ObjectIds, of at most so many characters.
    Text(Option<u32>),
    /// ObjectIds.
    ObjectId,
    /// Whole numbers, whatever their type, of 16, 32 or 64 bits.
    Integer(u8),
    /// Numbers; with so many digits, and of those so many behind the point.
    Numeric(Option<(u32, u32)>),
    /// Numbers that a float of 32 bits is.
    Real,
    /// Numbers that a double is, or whose digits a double prints.
    Double,
    /// Booleans.
    Bool,
    /// Dates, as an instant or as a time without zone (UTC).
    Timestamp {
        /// An instant.
        zoned: bool,
    },
    /// Dates at midnight UTC.
    Date,
    /// Binary data of subtype 4, of subtype 3 in an order of bytes that was said, and strings that are UUIDs.
    Uuid(Option<ByteOrder>),
    /// Binary data.
    Bytes,
    /// Everything.
    Json,
    /// Arrays of scalars; null and undefined among them are NULL.
    Array(Box<Wanted>),
}

/// How drivers laid out UUIDs in binary data of subtype 3, before subtype 4 was made (specification "Handling of Native UUID
/// Types").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteOrder {
    /// As subtype 4 has them.
    Python,
    /// Each half from its last byte to its first.
    Java,
    /// The first three groups from their last byte to their first.
    CSharp,
}

/// Why a value has no place in a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// What is found there: `a string`.
    pub found: &'static str,
    /// What is wrong with it, beside its type: ` with a fraction`.
    pub detail: &'static str,
    /// Names and places of items below the column's own value, from the top.
    pub below: String,
}

type Put = Result<(), Unfit>;

const RANGE: &str = " out of its range";
const FRACTION: &str = " with a fraction";
const INEXACT: &str = " that it cannot hold exactly";
const LONG: &str = " that is too long";
const ZERO: &str = " with the character U+0000";
const UTF8: &str = " that is not UTF-8";

impl Wanted {
    /// Appends the text of a value other than null. After an error `out` holds part of it.
    ///
    /// # Errors
    /// Why it has none.
    #[inline]
    pub fn put(&self, out: &mut Vec<u8>, value: &Value<'_>, nul: NulText) -> Put {
        let unfit = |detail: &'static str| Err(Unfit { found: value.name(), detail, below: String::new() });
        match (self, *value) {
            (Wanted::Text(most), Value::String(t)) => match text(out, t, *most, nul) {
                Ok(()) => Ok(()),
                Err(detail) => unfit(detail),
            },
            (Wanted::Text(most), Value::ObjectId(id)) => {
                if most.is_some_and(|most| most < 24) {
                    return unfit(LONG);
                }
                ejson::hex(out, id);
                Ok(())
            }
            (Wanted::ObjectId, Value::ObjectId(id)) => {
                ejson::hex(out, id);
                Ok(())
            }
            (Wanted::Integer(bits), _) => match integer(value) {
                Some(Ok(n)) if in_bits(n, *bits) => {
                    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
                    Ok(())
                }
                Some(Ok(_)) => unfit(RANGE),
                Some(Err(detail)) => unfit(detail),
                None => unfit(""),
            },
            (Wanted::Double, Value::Double(x)) => {
                double::canonical(out, x);
                Ok(())
            }
            (Wanted::Double, _) => match number(value) {
                Some(d) => match nearest(value, d) {
                    Some(x) => {
                        double::canonical(out, x);
                        Ok(())
                    }
                    None => unfit(INEXACT),
                },
                None => unfit(""),
            },
            (Wanted::Real, _) => match number(value) {
                Some(d) => match nearest(value, d) {
                    Some(x) if x.is_nan() || f64::from(x as f32) == x => {
                        double::single(out, x as f32);
                        Ok(())
                    }
                    _ => unfit(INEXACT),
                },
                None => unfit(""),
            },
            (Wanted::Numeric(limits), _) => match number(value) {
                Some(d) => match numeric(out, d, *limits) {
                    Ok(()) => Ok(()),
                    Err(detail) => unfit(detail),
                },
                None => unfit(""),
            },
            (Wanted::Bool, Value::Bool(b)) => {
                out.push(if b { b't' } else { b'f' });
                Ok(())
            }
            (Wanted::Timestamp { zoned }, Value::Date(ms)) => match moment::timestamp(out, ms, *zoned) {
                true => Ok(()),
                false => unfit(" before 4713 BC or after 294276 AD"),
            },
            (Wanted::Date, Value::Date(ms)) => match moment::date(out, ms) {
                true => Ok(()),
                false if moment::in_range(ms) => unfit(" that is no midnight (UTC)"),
                false => unfit(" before 4713 BC or after 294276 AD"),
            },
            (Wanted::Uuid(_), Value::Binary { subtype: 4, bytes }) => match <[u8; 16]>::try_from(bytes) {
                Ok(bytes) => {
                    uuid(out, bytes);
                    Ok(())
                }
                Err(_) => unfit(" of other than 16 bytes"),
            },
            (Wanted::Uuid(order), Value::Binary { subtype: 3, bytes }) => match (<[u8; 16]>::try_from(bytes), order) {
                (Ok(bytes), Some(order)) => {
                    uuid(out, order.straight(bytes));
                    Ok(())
                }
                (Ok(_), None) => unfit(
                    " of subtype 3, whose order of bytes depends on the driver that wrote it; write uuid(python), uuid(java) or uuid(csharp)",
                ),
                (Err(_), _) => unfit(" of other than 16 bytes"),
            },
            (Wanted::Uuid(_), Value::Binary { .. }) => unfit(" of another subtype than 4"),
            (Wanted::Uuid(_), Value::String(t)) => match uuid::Uuid::try_parse_ascii(t) {
                Ok(id) => {
                    uuid(out, *id.as_bytes());
                    Ok(())
                }
                Err(_) => unfit(" that is no UUID"),
            },
            (Wanted::Bytes, Value::Binary { bytes, .. }) => {
                out.extend_from_slice(b"\\x");
                ejson::hex(out, bytes);
                Ok(())
            }
            (Wanted::Json, _) => {
                let style = Style { nul, numbers: Numbers::Kept };
                ejson::value(out, value, style).map_err(|fault| {
                    let (found, detail) = match fault.why {
                        Why::Nul => ("a string", ZERO),
                        Why::Utf8 => ("a string", UTF8),
                        Why::Deep => (value.name(), " that is nested too deeply"),
                        Why::Malformed(_) => (value.name(), " with bytes that are no BSON"),
                    };
                    Unfit { found, detail, below: fault.path }
                })
            }
            (Wanted::Array(element), Value::Array(items)) => element.array(out, items, nul),
            _ => unfit(""),
        }
    }

    /// Whether a value may be a key of the type: no key of a type that is left out could have the same text. Numbers that are
    /// equal are one key.
    pub fn keeps_apart(&self, value: &Value<'_>) -> bool {
        match (self, *value) {
            (Wanted::Text(_), Value::String(_))
            | (Wanted::ObjectId, Value::ObjectId(_))
            | (Wanted::Bool, Value::Bool(_))
            | (Wanted::Timestamp { .. } | Wanted::Date, Value::Date(_))
            | (Wanted::Uuid(None), Value::Binary { subtype: 4, .. })
            | (Wanted::Uuid(Some(_)), Value::Binary { subtype: 3, .. })
            | (Wanted::Bytes, Value::Binary { subtype: 0, .. })
            | (Wanted::Numeric(_) | Wanted::Real | Wanted::Double, Value::Int32(_) | Value::Int64(_))
            | (Wanted::Numeric(_), Value::Decimal(_))
            | (Wanted::Real | Wanted::Double, Value::Double(_)) => true,
            (Wanted::Integer(_), _) => integer(value).is_some(),
            // A decimal 0.1 and a double 0.1 are two keys.
            (Wanted::Numeric(_), Value::Double(x)) => !x.is_finite() || (x.fract() == 0.0 && x.abs() <= 9e15),
            (Wanted::Real | Wanted::Double, Value::Decimal(bytes)) => Decimal::decode(bytes).exact_double().is_some(),
            _ => false,
        }
    }

    /// PostgreSQL's array text (`array_out`).
    fn array(&self, out: &mut Vec<u8>, items: Doc<'_>, nul: NulText) -> Put {
        out.push(b'{');
        let mut room = Vec::new();
        for (i, field) in items.fields().enumerate() {
            let (_, value) = field.map_err(|_| Unfit {
                found: "an array",
                detail: " with bytes that are no BSON",
                below: String::new(),
            })?;
            if i > 0 {
                out.push(b',');
            }
            if matches!(value, Value::Null | Value::Undefined) {
                out.extend_from_slice(b"NULL");
                continue;
            }
            room.clear();
            self.put(&mut room, &value, nul).map_err(|unfit| Unfit {
                below: if unfit.below.is_empty() { i.to_string() } else { format!("{i}.{}", unfit.below) },
                ..unfit
            })?;
            element(out, &room);
        }
        out.push(b'}');
        Ok(())
    }
}

/// An item of an array's text, in quotes where it needs them.
fn element(out: &mut Vec<u8>, text: &[u8]) {
    let odd = |b: &u8| matches!(b, b'"' | b'\\' | b'{' | b'}' | b',' | b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c);
    if !text.is_empty() && !text.eq_ignore_ascii_case(b"null") && !text.iter().any(odd) {
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    for &b in text {
        if matches!(b, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(b);
    }
    out.push(b'"');
}

#[inline]
fn text(out: &mut Vec<u8>, text: &[u8], most: Option<u32>, nul: NulText) -> Result<(), &'static str> {
    let Ok(utf8) = std::str::from_utf8(text) else { return Err(UTF8) };
    if let Some(most) = most
        && text.len() > most as usize
        && utf8.chars().count() > most as usize
    {
        return Err(LONG);
    }
    if memchr::memchr(0, text).is_none() {
        out.extend_from_slice(text);
        return Ok(());
    }
    if nul == NulText::Refuse {
        return Err(ZERO);
    }
    for (i, part) in text.split(|b| *b == 0).enumerate() {
        if i > 0 {
            out.extend_from_slice("␀".as_bytes());
        }
        out.extend_from_slice(part);
    }
    Ok(())
}

fn in_bits(n: i64, bits: u8) -> bool {
    match bits {
        ..=16 => i16::try_from(n).is_ok(),
        17..=32 => i32::try_from(n).is_ok(),
        _ => true,
    }
}

/// A number as a whole one, or what is against it; `None` for what is no number.
#[inline]
fn integer(value: &Value<'_>) -> Option<Result<i64, &'static str>> {
    match *value {
        Value::Int32(n) => Some(Ok(i64::from(n))),
        Value::Int64(n) => Some(Ok(n)),
        Value::Double(x) => Some(match x.fract() == 0.0 {
            true if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&x) => Ok(x as i64),
            true => Err(RANGE),
            false if x.is_finite() => Err(FRACTION),
            false => Err(" that is no number (NaN or infinity)"),
        }),
        Value::Decimal(bytes) => Some(match Decimal::decode(bytes) {
            d @ Decimal::Finite { .. } => d.integer().ok_or_else(|| match d.normal() {
                Decimal::Finite { exponent: ..0, .. } => FRACTION,
                _ => RANGE,
            }),
            _ => Err(" that is no number (NaN or infinity)"),
        }),
        _ => None,
    }
}

fn number(value: &Value<'_>) -> Option<Decimal> {
    match *value {
        Value::Int32(n) => Some(Decimal::of_integer(i64::from(n))),
        Value::Int64(n) => Some(Decimal::of_integer(n)),
        Value::Double(x) => Some(Decimal::of_double(x)),
        Value::Decimal(bytes) => Some(Decimal::decode(bytes)),
        _ => None,
    }
}

/// The double that is a number; of a decimal, also the one that has its digits.
fn nearest(value: &Value<'_>, d: Decimal) -> Option<f64> {
    match *value {
        Value::Double(x) => return Some(x),
        Value::Decimal(_) => {}
        _ => return d.exact_double(),
    }
    if let Decimal::Finite { negative: true, coefficient: 0, .. } = d {
        return Some(-0.0);
    }
    let mut text = Vec::new();
    d.scientific(&mut text);
    match d {
        Decimal::Finite { .. } => {
            let x: f64 = std::str::from_utf8(&text).ok()?.parse().ok()?;
            (x.is_finite() && Decimal::of_double(x).normal() == d.normal()).then_some(x).or_else(|| d.exact_double())
        }
        _ => d.exact_double(),
    }
}

fn numeric(out: &mut Vec<u8>, d: Decimal, limits: Option<(u32, u32)>) -> Result<(), &'static str> {
    let Some((precision, scale)) = limits else {
        return if d.plain(out, None) { Ok(()) } else { Err(RANGE) };
    };
    match d {
        Decimal::Infinity { .. } => return Err(RANGE),
        Decimal::Finite { .. } if d.whole_digits() > i64::from(precision) - i64::from(scale) => return Err(RANGE),
        _ => {}
    }
    if d.plain(out, Some(scale)) { Ok(()) } else { Err(" with more digits behind the point") }
}

fn uuid(out: &mut Vec<u8>, bytes: [u8; 16]) {
    let mut room = [0; 36];
    out.extend_from_slice(uuid::Uuid::from_bytes(bytes).hyphenated().encode_lower(&mut room).as_bytes());
}

impl ByteOrder {
    /// The bytes in the order in which they are printed.
    fn straight(self, bytes: [u8; 16]) -> [u8; 16] {
        let mut out = bytes;
        let groups: &[std::ops::Range<usize>] = match self {
            ByteOrder::Python => &[],
            ByteOrder::Java => &[0..8, 8..16],
            ByteOrder::CSharp => &[0..4, 4..6, 6..8],
        };
        for group in groups {
            if let Some(group) = out.get_mut(group.clone()) {
                group.reverse();
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Bson, doc};

    fn put(wanted: &Wanted, value: impl Into<Bson>) -> Result<String, String> {
        let bytes = doc! {"v": value.into()}.to_vec().unwrap();
        let value = Doc::new(&bytes).unwrap().get("v").unwrap().unwrap();
        let mut out = Vec::new();
        match wanted.put(&mut out, &value, NulText::Refuse) {
            Ok(()) => Ok(String::from_utf8(out).unwrap()),
            Err(u) => Err(format!("{}{}@{}", u.found, u.detail, u.below)),
        }
    }
    fn decimal(text: &str) -> Bson {
        Bson::Decimal128(text.parse().unwrap())
    }
    fn date(ms: i64) -> Bson {
        Bson::DateTime(bson::DateTime::from_millis(ms))
    }
    fn binary(subtype: u8, bytes: Vec<u8>) -> Bson {
        Bson::Binary(bson::Binary { subtype: subtype.into(), bytes })
    }

    #[test]
    fn given_values_that_fit_when_put_then_they_are_canonical_text() {
        let id = bson::oid::ObjectId::parse_str("507f1f77bcf86cd799439011").unwrap();
        let timestamp = Wanted::Timestamp { zoned: true };
        let array = |w| Wanted::Array(Box::new(w));
        let bytes: Vec<u8> = (0..16).collect();
        for (wanted, value, want) in [
            (Wanted::Text(Some(3)), "äöü".into(), "äöü"),
            (Wanted::Text(None), id.into(), "507f1f77bcf86cd799439011"),
            (Wanted::ObjectId, id.into(), "507f1f77bcf86cd799439011"),
            (Wanted::Integer(16), Bson::Double(-0.0), "0"),
            (Wanted::Integer(16), Bson::Int64(-32768), "-32768"),
            (Wanted::Integer(32), decimal("1.5E+3"), "1500"),
            (Wanted::Integer(64), Bson::Double(-9_223_372_036_854_775_808.0), "-9223372036854775808"),
            (Wanted::Double, Bson::Int64(1 << 60), "1.152921504606847e+18"),
            (Wanted::Double, Bson::Double(-0.0), "-0"),
            (Wanted::Double, decimal("0.1"), "0.1"),
            (Wanted::Double, decimal("NaN"), "NaN"),
            (Wanted::Double, decimal("-0"), "-0"),
            (Wanted::Real, Bson::Double(0.5), "0.5"),
            (Wanted::Real, Bson::Double(f64::INFINITY), "Infinity"),
            (Wanted::Real, Bson::Int32(16_777_216), "1.6777216e+07"),
            (Wanted::Numeric(None), Bson::Double(0.1), "0.1"),
            (Wanted::Numeric(None), Bson::Double(-0.0), "0"),
            (Wanted::Numeric(None), decimal("-Infinity"), "-Infinity"),
            (Wanted::Numeric(None), decimal("1.500"), "1.500"),
            (Wanted::Numeric(Some((5, 2))), Bson::Int32(12), "12.00"),
            (Wanted::Numeric(Some((5, 2))), decimal("NaN"), "NaN"),
            (Wanted::Numeric(Some((5, 2))), Bson::Double(999.99), "999.99"),
            (Wanted::Numeric(Some((2, 2))), Bson::Double(0.25), "0.25"),
            (Wanted::Bool, true.into(), "t"),
            (timestamp.clone(), date(-1), "1969-12-31 23:59:59.999+00"),
            (Wanted::Timestamp { zoned: false }, date(0), "1970-01-01 00:00:00"),
            (Wanted::Date, date(86_400_000), "1970-01-02"),
            (Wanted::Uuid(None), binary(4, bytes.clone()), "00010203-0405-0607-0809-0a0b0c0d0e0f"),
            (Wanted::Uuid(Some(ByteOrder::Python)), binary(3, bytes.clone()), "00010203-0405-0607-0809-0a0b0c0d0e0f"),
            (Wanted::Uuid(Some(ByteOrder::Java)), binary(3, bytes.clone()), "07060504-0302-0100-0f0e-0d0c0b0a0908"),
            (Wanted::Uuid(Some(ByteOrder::CSharp)), binary(3, bytes), "03020100-0504-0706-0809-0a0b0c0d0e0f"),
            (Wanted::Uuid(None), "00010203-0405-0607-0809-0A0B0C0D0E0F".into(), "00010203-0405-0607-0809-0a0b0c0d0e0f"),
            (Wanted::Bytes, binary(0, vec![0, 255]), "\\x00ff"),
            (Wanted::Json, doc! {"a": 1.0}.into(), r#"{"a": 1.0}"#),
            (Wanted::Json, "x".into(), "\"x\""),
            (
                array(Wanted::Text(None)),
                vec!["a b", "", "null", "q\"\\", "{}", "x"].into(),
                r#"{"a b","","null","q\"\\","{}",x}"#,
            ),
            (array(Wanted::Integer(32)), Bson::Array(vec![1.into(), Bson::Null, 2.0.into()]), "{1,NULL,2}"),
            (array(timestamp), Bson::Array(vec![date(0)]), r#"{"1970-01-01 00:00:00+00"}"#),
            (array(Wanted::Bytes), Bson::Array(vec![binary(0, vec![1])]), r#"{"\\x01"}"#),
            (array(Wanted::Bool), Bson::Array(vec![]), "{}"),
        ] {
            assert_eq!(put(&wanted, value.clone()).as_deref(), Ok(want), "{wanted:?} {value:?}");
        }
    }

    #[test]
    fn given_values_that_would_lose_something_when_put_then_it_is_said_what() {
        let array = |w| Wanted::Array(Box::new(w));
        for (wanted, value, want) in [
            (Wanted::Text(None), Bson::Int32(1), "an int@"),
            (Wanted::Text(Some(2)), "abc".into(), "a string that is too long@"),
            (Wanted::Text(None), "a\0".into(), "a string with the character U+0000@"),
            (Wanted::ObjectId, "507f1f77bcf86cd799439011".into(), "a string@"),
            (Wanted::Integer(16), 32768.into(), "an int out of its range@"),
            (Wanted::Integer(64), 1e19.into(), "a double out of its range@"),
            (Wanted::Integer(64), 0.5.into(), "a double with a fraction@"),
            (Wanted::Integer(64), f64::NAN.into(), "a double that is no number (NaN or infinity)@"),
            (Wanted::Integer(64), decimal("0.5"), "a decimal with a fraction@"),
            (Wanted::Integer(64), decimal("1E+19"), "a decimal out of its range@"),
            (Wanted::Integer(64), "1".into(), "a string@"),
            (Wanted::Double, ((1_i64 << 60) + 1).into(), "a long that it cannot hold exactly@"),
            (Wanted::Double, 1_152_921_504_606_847_000_i64.into(), "a long that it cannot hold exactly@"),
            (Wanted::Double, decimal("0.12345678901234567890"), "a decimal that it cannot hold exactly@"),
            (Wanted::Real, 0.1.into(), "a double that it cannot hold exactly@"),
            (Wanted::Numeric(Some((5, 2))), 1000.into(), "an int out of its range@"),
            (Wanted::Numeric(Some((5, 2))), f64::INFINITY.into(), "a double out of its range@"),
            (Wanted::Numeric(Some((5, 2))), 0.125.into(), "a double with more digits behind the point@"),
            (Wanted::Bool, 1.into(), "an int@"),
            (Wanted::Timestamp { zoned: true }, date(i64::MAX), "a date before 4713 BC or after 294276 AD@"),
            (Wanted::Date, date(1), "a date that is no midnight (UTC)@"),
            (Wanted::Uuid(None), binary(4, vec![1]), "binary data of other than 16 bytes@"),
            (Wanted::Uuid(None), binary(0, vec![1; 16]), "binary data of another subtype than 4@"),
            (Wanted::Uuid(None), "x".into(), "a string that is no UUID@"),
            (Wanted::Json, doc! {"a": ["x", "\0"]}.into(), "a string with the character U+0000@a.1"),
            (array(Wanted::Integer(32)), Bson::Array(vec![1.into(), "x".into()]), "a string@1"),
            (array(Wanted::Text(None)), Bson::Array(vec![Bson::Array(vec![])]), "an array@0"),
            (array(Wanted::Text(None)), "x".into(), "a string@"),
        ] {
            assert_eq!(put(&wanted, value.clone()).unwrap_err(), want, "{wanted:?} {value:?}");
        }
        assert!(put(&Wanted::Uuid(None), binary(3, vec![1; 16])).unwrap_err().contains("uuid(java)"));
        let bytes = doc! {"v": "a\0b"}.to_vec().unwrap();
        let value = Doc::new(&bytes).unwrap().get("v").unwrap().unwrap();
        let mut out = Vec::new();
        Wanted::Text(None).put(&mut out, &value, NulText::Replace).unwrap();
        assert_eq!(out, "a␀b".as_bytes());
    }

    #[test]
    fn given_keys_of_a_type_when_they_could_be_taken_for_others_then_they_are_no_keys_of_it() {
        let apart = |wanted: &Wanted, value: Bson| {
            let bytes = doc! {"v": value}.to_vec().unwrap();
            wanted.keeps_apart(&Doc::new(&bytes).unwrap().get("v").unwrap().unwrap())
        };
        let id = bson::oid::ObjectId::from_bytes([1; 12]);
        assert!(apart(&Wanted::Text(None), "x".into()) && !apart(&Wanted::Text(None), id.into()));
        assert!(apart(&Wanted::Uuid(None), binary(4, vec![1; 16])) && !apart(&Wanted::Uuid(None), "x".into()));
        assert!(!apart(&Wanted::Uuid(Some(ByteOrder::Java)), binary(4, vec![1; 16])));
        assert!(apart(&Wanted::Bytes, binary(0, vec![])) && !apart(&Wanted::Bytes, binary(5, vec![])));
        assert!(apart(&Wanted::Numeric(None), decimal("0.1")) && !apart(&Wanted::Numeric(None), 0.1.into()));
        assert!(apart(&Wanted::Double, 0.1.into()) && !apart(&Wanted::Double, decimal("0.1")));
        assert!(apart(&Wanted::Integer(64), decimal("1.0")) && !apart(&Wanted::Integer(64), "1".into()));
        assert!(!apart(&Wanted::Json, 1.into()));
    }
}
