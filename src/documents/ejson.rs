//! Values as extended JSON text: the relaxed form of the specification "MongoDB Extended JSON (v2)", laid out as `jsonb`
//! prints it, except that a double always shows that it is one (`1.0`). Pure.

use base64::Engine;

use super::DEEPEST;
use super::cursor::{Doc, Malformed, Value};
use super::decimal::Decimal;
use super::{double, moment};
use crate::exchange::NulText;

/// How numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// So that each is read again as what it was, except that a long within 32 bits is an int then.
    Kept,
    /// So that numbers that are equal have one text, whatever their types: for keys.
    Equal,
}

/// What the text is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// What becomes of the character U+0000.
    pub nul: NulText,
    /// How numbers are written.
    pub numbers: Numbers,
}

/// A text that people read, or that keeps a row which was refused: nothing in a document stops it.
pub const SHOWN: Style = Style { nul: NulText::Replace, numbers: Numbers::Kept };

/// Why a value has no JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The character U+0000, which PostgreSQL's texts and `jsonb` do not have.
    Nul,
    /// A text or name that is not UTF-8.
    Utf8,
    /// Nested too deeply.
    Deep,
    /// Bytes that are no BSON.
    Malformed(Malformed),
}

/// Why a value has no JSON text, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Why.
    pub why: Why,
    /// Names and places of items below the value, from the top: `a.b.0`; empty for the value itself.
    pub path: String,
}

impl Fault {
    fn new(why: Why) -> Fault {
        Fault { why, path: String::new() }
    }
    /// The same fault, seen from the document that holds it in a field of that name.
    pub fn below(mut self, name: &[u8]) -> Fault {
        let name = String::from_utf8_lossy(name);
        self.path = if self.path.is_empty() { name.into_owned() } else { format!("{name}.{}", self.path) };
        self
    }
}

impl From<Malformed> for Fault {
    fn from(m: Malformed) -> Fault {
        Fault::new(Why::Malformed(m))
    }
}

/// Appends the text of a value. After an error `out` holds part of it.
///
/// # Errors
/// Why there is none, and where.
pub fn value(out: &mut Vec<u8>, value: &Value<'_>, style: Style) -> Result<(), Fault> {
    nested(out, value, style, 0)
}

/// Appends the text of a document.
///
/// # Errors
/// As [`value`].
pub fn document(out: &mut Vec<u8>, doc: Doc<'_>, style: Style) -> Result<(), Fault> {
    object(out, doc, style, 0)
}

/// A document as text for people and dead letters, whatever it holds: what cannot be text is in hexadecimal.
pub fn shown(doc: Doc<'_>) -> String {
    let mut out = Vec::with_capacity(doc.bytes().len() * 2);
    if document(&mut out, doc, SHOWN).is_err() {
        out.clear();
        out.extend_from_slice(b"{\"$bson\": \"");
        hex(&mut out, doc.bytes());
        out.extend_from_slice(b"\"}");
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn object(out: &mut Vec<u8>, doc: Doc<'_>, style: Style, depth: usize) -> Result<(), Fault> {
    if depth > DEEPEST {
        return Err(Fault::new(Why::Deep));
    }
    out.push(b'{');
    let mut first = true;
    for field in doc.fields() {
        let (name, value) = field?;
        if !first {
            out.extend_from_slice(b", ");
        }
        first = false;
        string(out, name, style).map_err(|f| f.below(name))?;
        out.extend_from_slice(b": ");
        nested(out, &value, style, depth + 1).map_err(|f| f.below(name))?;
    }
    out.push(b'}');
    Ok(())
}

fn array(out: &mut Vec<u8>, items: Doc<'_>, style: Style, depth: usize) -> Result<(), Fault> {
    if depth > DEEPEST {
        return Err(Fault::new(Why::Deep));
    }
    out.push(b'[');
    for (i, field) in items.fields().enumerate() {
        let (_, value) = field?;
        if i > 0 {
            out.extend_from_slice(b", ");
        }
        nested(out, &value, style, depth + 1).map_err(|f| f.below(i.to_string().as_bytes()))?;
    }
    out.push(b']');
    Ok(())
}

fn nested(out: &mut Vec<u8>, value: &Value<'_>, style: Style, depth: usize) -> Result<(), Fault> {
    match *value {
        Value::Document(d) => return object(out, d, style, depth),
        Value::Array(a) => return array(out, a, style, depth),
        Value::String(t) => return string(out, t, style),
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(b) => out.extend_from_slice(if b { b"true" } else { b"false" }),
        Value::Int32(n) => integer(out, i64::from(n)),
        Value::Int64(n) => integer(out, n),
        Value::Double(x) => number(out, x, style),
        Value::Decimal(bytes) => decimal(out, Decimal::decode(bytes), style),
        Value::ObjectId(id) => {
            out.extend_from_slice(b"{\"$oid\": \"");
            hex(out, id);
            out.extend_from_slice(b"\"}");
        }
        Value::Date(ms) => {
            out.extend_from_slice(b"{\"$date\": ");
            out.push(b'"');
            if moment::iso(out, ms) {
                out.extend_from_slice(b"\"}");
            } else {
                out.pop();
                out.extend_from_slice(b"{\"$numberLong\": \"");
                integer(out, ms);
                out.extend_from_slice(b"\"}}");
            }
        }
        Value::Binary { subtype, bytes } => {
            out.extend_from_slice(b"{\"$binary\": {\"base64\": \"");
            base64(out, bytes);
            out.extend_from_slice(b"\", \"subType\": \"");
            hex(out, &[subtype]);
            out.extend_from_slice(b"\"}}");
        }
        Value::Timestamp { seconds, increment } => {
            out.extend_from_slice(b"{\"$timestamp\": {\"t\": ");
            integer(out, i64::from(seconds));
            out.extend_from_slice(b", \"i\": ");
            integer(out, i64::from(increment));
            out.extend_from_slice(b"}}");
        }
        Value::Regex { pattern, options } => {
            out.extend_from_slice(b"{\"$regularExpression\": {\"pattern\": ");
            string(out, pattern, style)?;
            out.extend_from_slice(b", \"options\": ");
            string(out, options, style)?;
            out.extend_from_slice(b"}}");
        }
        Value::Code(code) => {
            out.extend_from_slice(b"{\"$code\": ");
            string(out, code, style)?;
            out.push(b'}');
        }
        Value::CodeWithScope { code, scope } => {
            out.extend_from_slice(b"{\"$code\": ");
            string(out, code, style)?;
            out.extend_from_slice(b", \"$scope\": ");
            object(out, scope, style, depth + 1)?;
            out.push(b'}');
        }
        Value::Symbol(text) => {
            out.extend_from_slice(b"{\"$symbol\": ");
            string(out, text, style)?;
            out.push(b'}');
        }
        Value::DbPointer { namespace, id } => {
            out.extend_from_slice(b"{\"$dbPointer\": {\"$ref\": ");
            string(out, namespace, style)?;
            out.extend_from_slice(b", \"$id\": {\"$oid\": \"");
            hex(out, id);
            out.extend_from_slice(b"\"}}}");
        }
        Value::Undefined => out.extend_from_slice(b"{\"$undefined\": true}"),
        Value::MinKey => out.extend_from_slice(b"{\"$minKey\": 1}"),
        Value::MaxKey => out.extend_from_slice(b"{\"$maxKey\": 1}"),
    }
    Ok(())
}

fn number(out: &mut Vec<u8>, x: f64, style: Style) {
    if !x.is_finite() {
        out.extend_from_slice(b"{\"$numberDouble\": \"");
        double::canonical(out, x);
        out.extend_from_slice(b"\"}");
        return;
    }
    match style.numbers {
        Numbers::Kept => double::json(out, x),
        Numbers::Equal => equal_double(out, x),
    }
}

/// A finite double in the one text that all numbers of its value have.
pub(super) fn equal_double(out: &mut Vec<u8>, x: f64) {
    // From -2^63 to below 2^63 a whole number is one of 64 bits.
    if x.fract() == 0.0 && (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&x) {
        integer(out, x as i64);
    } else {
        double::canonical(out, x);
    }
}

fn decimal(out: &mut Vec<u8>, d: Decimal, style: Style) {
    if style.numbers == Numbers::Equal {
        if let Some(n) = d.integer() {
            return integer(out, n);
        }
        // Equal to a double: its text. A decimal 0.1 is no double; the double of that name is another number.
        if let Some(x) = d.exact_double() {
            return number(out, x, style);
        }
    }
    out.extend_from_slice(b"{\"$numberDecimal\": \"");
    (if style.numbers == Numbers::Equal { d.normal() } else { d }).scientific(out);
    out.extend_from_slice(b"\"}");
}

fn integer(out: &mut Vec<u8>, n: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// Appends two hexadecimal digits a byte.
pub fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(2 * bytes.len());
    // Both indexes are below 16.
    out.extend(bytes.iter().flat_map(|&b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]));
}

fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let engine = &base64::engine::general_purpose::STANDARD;
    // In multiples of three bytes the parts' texts make the whole's.
    for part in bytes.chunks(3 * 256) {
        let mut text = [0; 1024];
        // 768 bytes are 1024 characters.
        let length = engine.encode_slice(part, &mut text).unwrap_or(0);
        out.extend_from_slice(text.get(..length).unwrap_or_default());
    }
}

/// What has to be escaped in a JSON string, and how: 0 not at all, 1 by `\u00xx`, else by that character.
const ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 0x20 {
        table[i] = 1;
        i += 1;
    }
    table[0x08] = b'b';
    table[0x09] = b't';
    table[0x0a] = b'n';
    table[0x0c] = b'f';
    table[0x0d] = b'r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

/// How many bytes at a text's beginning need no escape.
#[inline]
fn plain(text: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let mut at = 0;
    // Eight bytes at once: a byte below n makes its high bit, and perhaps those of bytes behind it ("Bit Twiddling Hacks",
    // hasless), so that a set bit says where to look and none says that nothing is there.
    while let Some((chunk, _)) = text.get(at..).and_then(|t| t.split_first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let below = |w: u64, n: u64| w.wrapping_sub(ONES * n) & !w & HIGH;
        let quote = below(word ^ (ONES * u64::from(b'"')), 1);
        let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
        if below(word, 0x20) | quote | backslash != 0 {
            break;
        }
        at += 8;
    }
    let rest = text.get(at..).unwrap_or_default();
    at + rest.iter().position(|b| ESCAPES[usize::from(*b)] != 0).unwrap_or(rest.len())
}

/// Appends a JSON string, escaped as `jsonb` prints it.
///
/// # Errors
/// What is no UTF-8, and U+0000 where the style refuses it.
pub fn string(out: &mut Vec<u8>, text: &[u8], style: Style) -> Result<(), Fault> {
    if std::str::from_utf8(text).is_err() {
        return Err(Fault::new(Why::Utf8));
    }
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut rest = text;
    while let (unescaped, Some((&b, after))) = next(rest) {
        out.extend_from_slice(unescaped);
        rest = after;
        match ESCAPES[usize::from(b)] {
            _ if b == 0 => match style.nul {
                NulText::Refuse => return Err(Fault::new(Why::Nul)),
                NulText::Replace => out.extend_from_slice("␀".as_bytes()),
            },
            1 => {
                out.extend_from_slice(b"\\u00");
                hex(out, &[b]);
            }
            escaped => out.extend_from_slice(&[b'\\', escaped]),
        }
    }
    out.extend_from_slice(rest);
    out.push(b'"');
    Ok(())
}

/// What needs no escape, and what follows it: the byte that does, and the rest.
#[inline]
fn next(text: &[u8]) -> (&[u8], Option<(&u8, &[u8])>) {
    let (unescaped, rest) = text.split_at_checked(plain(text)).unwrap_or((text, &[]));
    (unescaped, rest.split_first())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Bson, doc};

    const KEPT: Style = Style { nul: NulText::Refuse, numbers: Numbers::Kept };

    fn text(document: bson::Document) -> Result<String, Fault> {
        let bytes = document.to_vec().unwrap();
        let mut out = Vec::new();
        super::document(&mut out, Doc::new(&bytes).unwrap(), KEPT)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn given_every_type_when_written_as_json_then_it_is_the_relaxed_form() {
        let id = bson::oid::ObjectId::parse_str("507f1f77bcf86cd799439011").unwrap();
        let regex = bson::Regex { pattern: "a\"b".try_into().unwrap(), options: "im".try_into().unwrap() };
        let scope = bson::JavaScriptCodeWithScope { code: "f".into(), scope: doc! {"x": 1} };
        for (value, want) in [
            (Bson::Null, "null"),
            (Bson::Boolean(true), "true"),
            (Bson::Int32(-1), "-1"),
            (Bson::Int64(9_007_199_254_740_993), "9007199254740993"),
            (Bson::Double(1.0), "1.0"),
            (Bson::Double(f64::NAN), r#"{"$numberDouble": "NaN"}"#),
            (Bson::Double(f64::NEG_INFINITY), r#"{"$numberDouble": "-Infinity"}"#),
            (Bson::Decimal128("1.50".parse().unwrap()), r#"{"$numberDecimal": "1.50"}"#),
            (Bson::String("a\"\\\n\u{1}ü\u{7f}".into()), "\"a\\\"\\\\\\n\\u0001ü\u{7f}\""),
            (Bson::ObjectId(id), r#"{"$oid": "507f1f77bcf86cd799439011"}"#),
            (Bson::DateTime(bson::DateTime::from_millis(1)), r#"{"$date": "1970-01-01T00:00:00.001Z"}"#),
            (Bson::DateTime(bson::DateTime::MIN), r#"{"$date": {"$numberLong": "-9223372036854775808"}}"#),
            (
                Bson::Binary(bson::Binary { subtype: bson::spec::BinarySubtype::Uuid, bytes: vec![1; 16] }),
                r#"{"$binary": {"base64": "AQEBAQEBAQEBAQEBAQEBAQ==", "subType": "04"}}"#,
            ),
            (Bson::Timestamp(bson::Timestamp { time: 5, increment: 7 }), r#"{"$timestamp": {"t": 5, "i": 7}}"#),
            (Bson::RegularExpression(regex), r#"{"$regularExpression": {"pattern": "a\"b", "options": "im"}}"#),
            (Bson::JavaScriptCode("f()".into()), r#"{"$code": "f()"}"#),
            (Bson::JavaScriptCodeWithScope(scope), r#"{"$code": "f", "$scope": {"x": 1}}"#),
            (Bson::Symbol("s".into()), r#"{"$symbol": "s"}"#),
            (Bson::Undefined, r#"{"$undefined": true}"#),
            (Bson::MinKey, r#"{"$minKey": 1}"#),
            (Bson::MaxKey, r#"{"$maxKey": 1}"#),
            (Bson::Array(vec![1.into(), "x".into(), Bson::Null]), r#"[1, "x", null]"#),
            (Bson::Document(doc! {"b": 1, "a": {}}), r#"{"b": 1, "a": {}}"#),
        ] {
            assert_eq!(text(doc! {"v": value}).unwrap(), format!("{{\"v\": {want}}}"));
        }
    }

    #[test]
    fn given_a_zero_in_a_text_when_written_then_its_path_is_named_or_it_is_replaced() {
        let fault = text(doc! {"a": {"b": [1, {"c": "x\0y"}]}}).unwrap_err();
        assert_eq!(fault, Fault { why: Why::Nul, path: "a.b.1.c".into() });
        let bytes = doc! {"a": "x\0y"}.to_vec().unwrap();
        assert_eq!(shown(Doc::new(&bytes).unwrap()), "{\"a\": \"x␀y\"}");
    }

    #[test]
    fn given_texts_that_are_not_utf8_and_bytes_that_are_no_bson_when_shown_then_they_are_hexadecimal() {
        let bytes = b"\x0e\0\0\0\x02a\0\x02\0\0\0\xff\0\0";
        assert_eq!(shown(Doc::new(bytes).unwrap()), "{\"$bson\": \"0e0000000261000200000".to_owned() + "0ff0000\"}");
        assert_eq!(shown(Doc::new(b"\x06\0\0\0\x01\0").unwrap()), "{\"$bson\": \"060000000100\"}");
    }

    #[test]
    fn given_a_deep_document_when_written_then_100_levels_pass_and_a_thousand_are_refused() {
        let deep = |levels| (0..levels).fold(doc! {}, |inner, _| doc! {"a": inner});
        assert!(text(deep(150)).is_ok());
        // Too deep for the crate's own writer, so by hand.
        let mut bytes = b"\x05\0\0\0\0".to_vec();
        for _ in 0..1000 {
            let length = (bytes.len() + 8) as i32;
            bytes = [&length.to_le_bytes()[..], b"\x03a\0", &bytes, b"\0"].concat();
        }
        let mut out = Vec::new();
        let fault = document(&mut out, Doc::new(&bytes).unwrap(), KEPT).unwrap_err();
        assert_eq!(fault.why, Why::Deep);
    }

    #[test]
    fn given_long_binary_data_when_written_then_the_parts_make_one_text() {
        for length in [0, 1, 767, 768, 769, 5000] {
            let bytes: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let mut out = Vec::new();
            base64(&mut out, &bytes);
            assert_eq!(base64::engine::general_purpose::STANDARD.decode(&out).unwrap(), bytes);
        }
    }
}
