//! The value of `_id` as a text that the value of no other document's `_id` has, and back. Pure.
//!
//! | `_id` | text |
//! |---|---|
//! | ObjectId | 24 hexadecimal digits |
//! | numbers | digits; numbers that are equal are one `_id` and have one text: `1` for 1, 1.0 and NumberLong(1) |
//! | string | itself; as a JSON string, in quotes, where it could be taken for another line of this table |
//! | true, false, null | these words |
//! | everything else | relaxed extended JSON, which begins with `{`; numbers in it as above |

use super::cursor::Value;
use super::decimal::Decimal;
use super::ejson::{self, Fault, Numbers, Style, equal_double};
use super::read::{self, Misfit};
use super::{double, write};
use crate::exchange::NulText;

/// A replaced character could make one text of two keys.
const STYLE: Style = Style { nul: NulText::Refuse, numbers: Numbers::Equal };

/// Appends the text.
///
/// # Errors
/// What has none: U+0000, text that is not UTF-8.
pub fn text(out: &mut Vec<u8>, value: &Value<'_>) -> Result<(), Fault> {
    match *value {
        Value::ObjectId(id) => ejson::hex(out, id),
        Value::Int32(n) => out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes()),
        Value::Int64(n) => out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes()),
        Value::Double(x) => number(out, x),
        Value::Decimal(bytes) => {
            let d = Decimal::decode(bytes);
            match (d.integer(), d.exact_double()) {
                (Some(n), _) => out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes()),
                (None, Some(x)) => number(out, x),
                (None, None) => ejson::value(out, value, STYLE)?,
            }
        }
        Value::String(t) => {
            let from = out.len();
            ejson::string(out, t, STYLE)?;
            if !ambiguous(t) {
                out.truncate(from);
                out.extend_from_slice(t);
            }
        }
        _ => ejson::value(out, value, STYLE)?,
    }
    Ok(())
}

fn number(out: &mut Vec<u8>, x: f64) {
    if x.is_finite() { equal_double(out, x) } else { double::canonical(out, x) }
}

/// Whether a string could be taken for a value of another type.
fn ambiguous(text: &[u8]) -> bool {
    match text.first() {
        Some(b'{' | b'[' | b'"') => true,
        Some(b'0'..=b'9' | b'-')
            if text.iter().all(|b| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')) =>
        {
            true
        }
        _ => {
            (text.len() == 24 && text.iter().all(u8::is_ascii_hexdigit))
                || matches!(text, b"true" | b"false" | b"null" | b"NaN" | b"Infinity" | b"-Infinity")
        }
    }
}

/// Appends a field of that name with the value that a text of [`text`] stands for.
///
/// # Errors
/// A text that [`text`] does not make.
pub fn field(out: &mut Vec<u8>, name: &[u8], text: &[u8]) -> Result<(), Misfit> {
    if let Some(id) = read::object_id(text) {
        return write::field(out, name, &Value::ObjectId(&id));
    }
    match text {
        b"NaN" => write::field(out, name, &Value::Double(f64::NAN)),
        b"Infinity" => write::field(out, name, &Value::Double(f64::INFINITY)),
        b"-Infinity" => write::field(out, name, &Value::Double(f64::NEG_INFINITY)),
        b"true" | b"false" | b"null" => read::field(out, name, text),
        _ if ambiguous(text) => read::field(out, name, text),
        _ if std::str::from_utf8(text).is_err() => Err("holds a text that is not UTF-8"),
        _ => write::field(out, name, &Value::String(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::arbitrary;
    use super::super::cursor::Doc;
    use super::*;
    use bson::{Bson, doc};
    use proptest::prelude::*;

    fn shown(value: impl Into<Bson>) -> String {
        let bytes = doc! {"_id": value.into()}.to_vec().unwrap();
        let mut out = Vec::new();
        text(&mut out, &Doc::new(&bytes).unwrap().get("_id").unwrap().unwrap()).unwrap();
        String::from_utf8(out).unwrap()
    }
    fn decimal(text: &str) -> Bson {
        Bson::Decimal128(text.parse().unwrap())
    }

    #[test]
    fn given_keys_when_written_then_equal_ones_have_one_text_and_others_never() {
        for one in [Bson::Int32(1), Bson::Int64(1), Bson::Double(1.0), decimal("1.00"), decimal("10E-1")] {
            assert_eq!(shown(one), "1");
        }
        for zero in [Bson::Int32(0), Bson::Double(-0.0), decimal("-0E+3")] {
            assert_eq!(shown(zero), "0");
        }
        assert_eq!((shown(0.5), shown(decimal("0.500"))), ("0.5".into(), "0.5".into()));
        // The double is 0.1000000000000000055…
        assert_eq!((shown(0.1), shown(decimal("0.1"))), ("0.1".into(), r#"{"$numberDecimal": "0.1"}"#.into()));
        assert_eq!(
            (shown(1e300), shown(f64::NAN), shown(decimal("NaN"))),
            ("1e+300".into(), "NaN".into(), "NaN".into())
        );
        assert_eq!(shown(2_f64.powi(63)), shown(decimal("9223372036854775808")));
        assert_eq!(shown(decimal("-Infinity")), "-Infinity");
        assert_eq!(shown("abc"), "abc");
        for quoted in ["1", "-5e3", "true", "null", "NaN", "{}", "[1", "\"a\"", "507f1f77bcf86cd799439011", "-"] {
            assert_eq!(shown(quoted), serde_json::to_string(quoted).unwrap());
        }
        assert_eq!(
            (shown(""), shown("1a"), shown("ünï"), shown("True")),
            ("".into(), "1a".into(), "ünï".into(), "True".into())
        );
        assert_eq!(
            shown(bson::oid::ObjectId::parse_str("507F1F77BCF86CD799439011").unwrap()),
            "507f1f77bcf86cd799439011"
        );
        assert_eq!(shown(doc! {"a": 1.0, "b": NumberLong(1)}), shown(doc! {"a": 1, "b": decimal("1.0")}));
        assert_eq!(shown(doc! {"a": 1.0, "b": "1"}), r#"{"a": 1, "b": "1"}"#);
    }

    #[allow(non_snake_case)]
    fn NumberLong(n: i64) -> Bson {
        Bson::Int64(n)
    }

    #[test]
    fn given_a_key_with_a_zero_when_written_then_it_is_refused() {
        let bytes = doc! {"_id": "a\0"}.to_vec().unwrap();
        let value = Doc::new(&bytes).unwrap().get("_id").unwrap().unwrap();
        assert!(text(&mut Vec::new(), &value).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1500))]
        #[test]
        fn given_any_key_when_written_and_read_then_its_text_is_the_same_again(value in arbitrary::value()) {
            let bytes = doc! {"_id": value}.to_vec().unwrap();
            let value = Doc::new(&bytes).unwrap().get("_id").unwrap().unwrap();
            let mut first = Vec::new();
            // Arrays and regular expressions are no keys, but do no harm.
            text(&mut first, &value).unwrap();
            let mut back = Vec::new();
            let start = write::open(&mut back);
            field(&mut back, b"_id", &first).unwrap();
            write::close(&mut back, start);
            let again = Doc::new(&back).unwrap().get("_id").unwrap().unwrap();
            let mut second = Vec::new();
            text(&mut second, &again).unwrap();
            prop_assert_eq!(String::from_utf8(first).unwrap(), String::from_utf8(second).unwrap());
            // The type stays, among types that are never equal to another.
            if !matches!(value, Value::Double(_) | Value::Int32(_) | Value::Int64(_) | Value::Decimal(_)) {
                prop_assert_eq!(value.tag(), again.tag());
            }
        }
    }
}
