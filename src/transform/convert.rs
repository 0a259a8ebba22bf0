//! Values on their way between columns of different types: what one engine's text form becomes in another's. Pure.
//!
//! A pair of types has a conversion only where the target's own input function would refuse every value as it is, so that
//! pairs that passed before still do.

use serde_json::value::RawValue;

use crate::definition::DataType;
use crate::schema::{Column, Kind};

/// What becomes of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conversion {
    /// PostgreSQL's array text (`{1,NULL,"a b"}`) becomes a JSON list. Numbers and truth values of such elements are JSON's
    /// own, JSON elements stay JSON, everything else (NaN, too) is a string. Lower bounds are left out.
    ArrayToJson(DataType),
    /// A JSON list becomes an array's text; lists in it become further dimensions, unless the elements are JSON.
    JsonToArray(DataType),
    /// `\x` and 32 hexadecimal digits become a UUID.
    BytesToUuid,
    /// The inverse.
    UuidToBytes,
    /// `t` and `f` become `1` and `0`.
    BoolToNumber,
    /// The inverse; other numbers than these are refused.
    NumberToBool,
    /// `a,b` becomes `{"a","b"}`.
    SetToArray,
}

/// The conversion from one column to another; `None` where values go as they are.
pub fn between(from: &Column, to: &Column) -> Option<Conversion> {
    let to_json = matches!(to.kind, Kind::Json | Kind::Jsonb) || matches!(to.data, DataType::Json { .. });
    let from_json = matches!(from.kind, Kind::Json | Kind::Jsonb) || matches!(from.data, DataType::Json { .. });
    let to_uuid = to.kind == Kind::Uuid || to.data == DataType::Uuid;
    let number = matches!(to.kind, Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Numeric | Kind::Float4 | Kind::Float8)
        || matches!(to.data, DataType::Int { .. } | DataType::Decimal { .. } | DataType::Bits { .. });
    match (&from.data, &to.data) {
        (DataType::Array { element }, _) if to_json => Some(Conversion::ArrayToJson(innermost(element))),
        (_, DataType::Array { element }) if from_json => Some(Conversion::JsonToArray(innermost(element))),
        (DataType::Set { .. }, DataType::Array { .. }) => Some(Conversion::SetToArray),
        (DataType::Bytes { .. }, _) if to_uuid => Some(Conversion::BytesToUuid),
        _ if from.kind == Kind::Bool && to.kind != Kind::Bool && number => Some(Conversion::BoolToNumber),
        _ => None,
    }
}

/// PostgreSQL's arrays of any dimension are of one type.
fn innermost(element: &DataType) -> DataType {
    match element {
        DataType::Array { element } => innermost(element),
        other => other.clone(),
    }
}

impl Conversion {
    /// What brings the value back, if anything does.
    pub fn inverse(&self) -> Option<Conversion> {
        match self {
            Conversion::ArrayToJson(e) => Some(Conversion::JsonToArray(e.clone())),
            Conversion::JsonToArray(e) => Some(Conversion::ArrayToJson(e.clone())),
            Conversion::BytesToUuid => Some(Conversion::UuidToBytes),
            Conversion::UuidToBytes => Some(Conversion::BytesToUuid),
            Conversion::BoolToNumber => Some(Conversion::NumberToBool),
            Conversion::NumberToBool => Some(Conversion::BoolToNumber),
            Conversion::SetToArray => None,
        }
    }

    /// Writes what `text` becomes. On an error `out` holds nothing that may be used.
    ///
    /// # Errors
    /// Why the value cannot become one of the target's, without the value.
    pub fn apply(&self, text: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
        match self {
            Conversion::ArrayToJson(element) => array_to_json(text, element, out),
            Conversion::JsonToArray(element) => {
                let text = std::str::from_utf8(text).map_err(|_| "the JSON value is not UTF-8")?;
                json_to_array(text, element, 1, out)
            }
            Conversion::BytesToUuid => match text.strip_prefix(b"\\x") {
                Some(hex) if hex.len() == 32 && hex.iter().all(u8::is_ascii_hexdigit) => {
                    for (i, digit) in hex.iter().enumerate() {
                        if matches!(i, 8 | 12 | 16 | 20) {
                            out.push(b'-');
                        }
                        out.push(digit.to_ascii_lowercase());
                    }
                    Ok(())
                }
                _ => Err("a UUID has 16 bytes, and the value has not"),
            },
            Conversion::UuidToBytes => {
                out.extend_from_slice(b"\\x");
                out.extend(text.iter().filter(|b| b.is_ascii_hexdigit()).map(u8::to_ascii_lowercase));
                if out.len() == 34 { Ok(()) } else { Err("the value is no UUID") }
            }
            Conversion::BoolToNumber => match text {
                b"t" | b"f" => {
                    out.push(if text == b"t" { b'1' } else { b'0' });
                    Ok(())
                }
                _ => Err("the value is no truth value"),
            },
            Conversion::NumberToBool => match text {
                b"1" | b"0" => {
                    out.push(if text == b"1" { b't' } else { b'f' });
                    Ok(())
                }
                _ => Err("a number other than 0 and 1 is no truth value"),
            },
            Conversion::SetToArray => {
                out.push(b'{');
                if !text.is_empty() {
                    for (i, label) in text.split(|b| *b == b',').enumerate() {
                        if i > 0 {
                            out.push(b',');
                        }
                        quote_element(label, out);
                    }
                }
                out.push(b'}');
                Ok(())
            }
        }
    }
}

const NO_ARRAY: &str = "the value is no array";

/// Reads what `array_out` (arrayfuncs.c) writes: braces, commas, elements that are quoted wherever they need it.
fn array_to_json(text: &[u8], element: &DataType, out: &mut Vec<u8>) -> Result<(), &'static str> {
    // `[0:1]={1,2}`: lower bounds other than one.
    let text = match text.first() {
        Some(b'[') => text.iter().position(|b| *b == b'=').and_then(|at| text.get(at + 1..)).ok_or(NO_ARRAY)?,
        _ => text,
    };
    let (mut at, mut open) = (0, 0_usize);
    // The last thing that was read: nothing yet, `{`, `,`, `}`, or an element.
    let mut before = b' ';
    let mut value = Vec::new();
    while let Some(&b) = text.get(at) {
        match b {
            b'{' if at == 0 || matches!(before, b'{' | b',') => {
                out.push(b'[');
                open += 1;
                (before, at) = (b'{', at + 1);
            }
            b'}' if open > 0 && before != b',' => {
                out.push(b']');
                open -= 1;
                (before, at) = (b'}', at + 1);
                if open == 0 {
                    break;
                }
            }
            b',' if open > 0 && matches!(before, b'e' | b'}') => {
                // As jsonb prints it.
                out.extend_from_slice(b", ");
                (before, at) = (b',', at + 1);
            }
            _ if open > 0 && matches!(before, b'{' | b',') => {
                value.clear();
                let quoted = b == b'"';
                at = read_element(text, at, &mut value).ok_or(NO_ARRAY)?;
                if !quoted && value.eq_ignore_ascii_case(b"null") {
                    out.extend_from_slice(b"null");
                } else {
                    put_json(&value, element, out)?;
                }
                before = b'e';
            }
            _ => return Err(NO_ARRAY),
        }
    }
    if open == 0 && before == b'}' && at == text.len() { Ok(()) } else { Err(NO_ARRAY) }
}

/// Reads one element into `value`; gives back where it ends.
fn read_element(text: &[u8], mut at: usize, value: &mut Vec<u8>) -> Option<usize> {
    if text.get(at) == Some(&b'"') {
        loop {
            at += 1;
            match text.get(at)? {
                b'"' => return Some(at + 1),
                b'\\' => {
                    at += 1;
                    value.push(*text.get(at)?);
                }
                &b => value.push(b),
            }
        }
    }
    loop {
        match text.get(at)? {
            b',' | b'}' => return (!value.is_empty()).then_some(at),
            b'{' | b'"' => return None,
            b'\\' => {
                at += 1;
                value.push(*text.get(at)?);
            }
            &b => value.push(b),
        }
        at += 1;
    }
}

/// An element as a JSON value.
fn put_json(value: &[u8], element: &DataType, out: &mut Vec<u8>) -> Result<(), &'static str> {
    let text = std::str::from_utf8(value).map_err(|_| "the array is not UTF-8")?;
    let is_json = || serde_json::from_str::<&RawValue>(text).is_ok();
    match element {
        DataType::Bool if text == "t" => out.extend_from_slice(b"true"),
        DataType::Bool if text == "f" => out.extend_from_slice(b"false"),
        DataType::Int { .. } | DataType::Decimal { .. } | DataType::Float { .. }
            if text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) && is_json() =>
        {
            out.extend_from_slice(value);
        }
        DataType::Json { .. } => {
            if !is_json() {
                return Err("an element is no JSON");
            }
            out.extend_from_slice(value);
        }
        _ => serde_json::to_writer(out, text).map_err(|_| "an element cannot be written as JSON")?,
    }
    Ok(())
}

/// Dimensions that an array can have (`MAXDIM`, array.h). It bounds the recursion, too: the parser itself does not.
const DEEPEST: usize = 6;

fn json_to_array(text: &str, element: &DataType, depth: usize, out: &mut Vec<u8>) -> Result<(), &'static str> {
    if depth > DEEPEST {
        return Err("the JSON list is nested deeper than an array can be");
    }
    let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| "the JSON value is no list")?;
    out.push(b'{');
    for (i, item) in items.into_iter().map(RawValue::get).enumerate() {
        if i > 0 {
            out.push(b',');
        }
        match (item.as_bytes().first(), element) {
            _ if item == "null" => out.extend_from_slice(b"NULL"),
            (_, DataType::Json { .. }) => quote_element(item.as_bytes(), out),
            (Some(b'['), _) => json_to_array(item, element, depth + 1, out)?,
            (Some(b'"'), _) => {
                let text: String =
                    serde_json::from_str(item).map_err(|_| "the list holds a text that is no Unicode")?;
                quote_element(text.as_bytes(), out);
            }
            (Some(b't'), DataType::Bool) => out.push(b't'),
            (Some(b'f'), DataType::Bool) => out.push(b'f'),
            // Numbers and words need no quotes, objects do.
            _ => quote_element(item.as_bytes(), out),
        }
    }
    out.push(b'}');
    Ok(())
}

/// Always quoted: the server reads it the same, and no text needs a second look.
fn quote_element(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &b in text {
        if matches!(b, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(b);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int() -> DataType {
        DataType::Int { bits: 32, unsigned: false, truth: false }
    }

    fn text() -> DataType {
        DataType::Text { bytes: None }
    }

    fn apply(c: &Conversion, text: &str) -> Result<String, &'static str> {
        let mut out = Vec::new();
        c.apply(text.as_bytes(), &mut out).map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn given_arrays_when_converted_then_they_are_json_lists_as_jsonb_prints_them() {
        let json = DataType::Json { verbatim: false };
        for (array, element, list) in [
            ("{}", int(), "[]"),
            ("{1,-2,NULL}", int(), "[1, -2, null]"),
            ("{{1,2},{3,4}}", int(), "[[1, 2], [3, 4]]"),
            ("[0:1]={1,2}", int(), "[1, 2]"),
            ("{t,f,NULL}", DataType::Bool, "[true, false, null]"),
            ("{1.50,NaN,Infinity,1e+20}", DataType::Float { bits: 64 }, r#"[1.50, "NaN", "Infinity", 1e+20]"#),
            (
                r#"{a,"b c","NULL",null,"","q\"\\","ü,{}"}"#,
                text(),
                r#"["a", "b c", "NULL", null, "", "q\"\\", "ü,{}"]"#,
            ),
            ("{\"a\nb\t\u{1}\"}", text(), "[\"a\\nb\\t\\u0001\"]"),
            (r#"{"{\"a\": [1, 2]}",1,NULL}"#, json, r#"[{"a": [1, 2]}, 1, null]"#),
            ("{2020-01-01,infinity}", DataType::Date, r#"["2020-01-01", "infinity"]"#),
        ] {
            assert_eq!(apply(&Conversion::ArrayToJson(element), array), Ok(list.to_owned()), "{array}");
        }
        for bad in [
            "", "{", "}", "{1", "{1,}", "{,1}", "{1}}", "{1}x", "{\"a}", "{a{b}}", "{\"a\"b}", "[1]", "{}{}", "{{1}2}",
            "{a\\",
        ] {
            assert!(apply(&Conversion::ArrayToJson(text()), bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn given_json_lists_when_converted_then_they_are_arrays() {
        for (list, element, array) in [
            ("[]", int(), "{}"),
            ("[1, null, 2]", int(), r#"{"1",NULL,"2"}"#),
            ("[[1,2],[3,4]]", int(), r#"{{"1","2"},{"3","4"}}"#),
            ("[true,false]", DataType::Bool, "{t,f}"),
            ("[true]", text(), r#"{"true"}"#),
            (r#"["a", "q\"\\", "null", "", "ü\n"]"#, text(), "{\"a\",\"q\\\"\\\\\",\"null\",\"\",\"ü\n\"}"),
            (r#"[{"a": 1}, [1]]"#, DataType::Json { verbatim: false }, r#"{"{\"a\": 1}","[1]"}"#),
        ] {
            assert_eq!(apply(&Conversion::JsonToArray(element), list), Ok(array.to_owned()), "{list}");
        }
        let deep = "[".repeat(500) + &"]".repeat(500);
        for bad in ["", "{}", "1", "null", "[1", r#"["\ud800"]"#, &deep] {
            assert!(apply(&Conversion::JsonToArray(text()), bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn given_small_types_when_converted_and_back_then_the_value_is_the_same() {
        let uuid = "00112233-4455-6677-8899-aabbccddeeff";
        let bytes = "\\x00112233445566778899aabbccddeeff";
        assert_eq!(apply(&Conversion::BytesToUuid, bytes), Ok(uuid.into()));
        assert_eq!(apply(&Conversion::UuidToBytes, uuid), Ok(bytes.into()));
        assert!(apply(&Conversion::BytesToUuid, "\\x00").is_err() && apply(&Conversion::UuidToBytes, "x").is_err());
        assert_eq!(apply(&Conversion::BoolToNumber, "t"), Ok("1".into()));
        assert_eq!(apply(&Conversion::NumberToBool, "0"), Ok("f".into()));
        assert!(apply(&Conversion::NumberToBool, "2").is_err() && apply(&Conversion::BoolToNumber, "x").is_err());
        assert_eq!(apply(&Conversion::SetToArray, "a,b c"), Ok(r#"{"a","b c"}"#.into()));
        assert_eq!(apply(&Conversion::SetToArray, ""), Ok("{}".into()));
        for c in [Conversion::BytesToUuid, Conversion::BoolToNumber, Conversion::ArrayToJson(int())] {
            assert_eq!(c.inverse().and_then(|i| i.inverse()), Some(c));
        }
    }
}
