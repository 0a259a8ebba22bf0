//! JSON text as BSON: extended JSON in the relaxed and the canonical form, and any other JSON. Numbers become what holds
//! them without loss. Pure.

use base64::Engine;

use super::cursor::{Doc, Value};
use super::decimal::Decimal;
use super::write;
use super::{DEEPEST, moment};

/// Why a text has no BSON, in words that follow the column's name.
pub type Misfit = &'static str;

const NO_JSON: Misfit = "holds a text that is no JSON";
const DEEP: Misfit = "holds JSON that is nested too deeply";
const SURROGATE: Misfit = "holds JSON with half of a surrogate pair, which no UTF-8 text has";
const NUMBER: Misfit = "holds JSON with a number of more digits than a decimal of 128 bits keeps (34)";

/// Appends a field of that name with the value of a JSON text.
///
/// # Errors
/// Why it has none. `out` may then hold part of it.
pub fn field(out: &mut Vec<u8>, name: &[u8], json: &[u8]) -> Result<(), Misfit> {
    std::str::from_utf8(json).map_err(|_| "holds JSON that is not UTF-8")?;
    let tag = write::name(out, 0, name)?;
    let mut reader = Reader { text: json, at: 0 };
    reader.space();
    reader.value(out, tag, 0)?;
    reader.space();
    if reader.at == json.len() { Ok(()) } else { Err(NO_JSON) }
}

/// A JSON object as a whole document.
///
/// # Errors
/// As [`field`]; other JSON than objects, too, and an object that stands for a value of another type.
pub fn document(json: &[u8]) -> Result<Vec<u8>, Misfit> {
    let mut out = Vec::with_capacity(json.len());
    field(&mut out, b"", json)?;
    // A byte for the type and one for the empty name.
    match (out.first(), out.get(2..)) {
        (Some(0x03), Some(document)) => Ok(document.to_vec()),
        _ => Err("holds JSON that is no object"),
    }
}

struct Reader<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Reader<'t> {
    fn space(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }
    fn take(&mut self, b: u8) -> bool {
        self.space();
        let found = self.text.get(self.at) == Some(&b);
        self.at += usize::from(found);
        found
    }
    fn rest(&self) -> &'t [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }
    fn word(&mut self, word: &[u8]) -> Result<(), Misfit> {
        if !self.rest().starts_with(word) {
            return Err(NO_JSON);
        }
        self.at += word.len();
        Ok(())
    }

    /// A value; its type is written at `tag`.
    fn value(&mut self, out: &mut Vec<u8>, tag: usize, depth: usize) -> Result<(), Misfit> {
        if depth > DEEPEST {
            return Err(DEEP);
        }
        self.space();
        let kind = match self.text.get(self.at) {
            Some(b'{') => return self.object(out, tag, depth),
            Some(b'[') => {
                self.array(out, depth)?;
                0x04
            }
            Some(b'"') => {
                let start = out.len();
                out.extend_from_slice(&[0; 4]);
                self.string(out)?;
                let length = i32::try_from(out.len() - start - 4 + 1).map_err(|_| "holds a text of 2 GiB or more")?;
                if let Some(head) = out.get_mut(start..start + 4) {
                    head.copy_from_slice(&length.to_le_bytes());
                }
                out.push(0);
                0x02
            }
            Some(b't') => {
                self.word(b"true")?;
                out.push(1);
                0x08
            }
            Some(b'f') => {
                self.word(b"false")?;
                out.push(0);
                0x08
            }
            Some(b'n') => {
                self.word(b"null")?;
                0x0a
            }
            _ => {
                let digits = self.digits()?;
                number(digits, |value| {
                    write::value(out, &value);
                    value.tag()
                })?
            }
        };
        set(out, tag, kind);
        Ok(())
    }

    fn array(&mut self, out: &mut Vec<u8>, depth: usize) -> Result<(), Misfit> {
        self.at += 1;
        let start = write::open(out);
        if !self.take(b']') {
            let mut place = 0_u32;
            loop {
                let tag = write::name(out, 0, itoa::Buffer::new().format(place).as_bytes())?;
                self.value(out, tag, depth + 1)?;
                place += 1;
                if self.take(b']') {
                    break;
                }
                if !self.take(b',') {
                    return Err(NO_JSON);
                }
            }
        }
        write::close(out, start);
        Ok(())
    }

    fn object(&mut self, out: &mut Vec<u8>, tag: usize, depth: usize) -> Result<(), Misfit> {
        self.at += 1;
        let start = write::open(out);
        let (mut members, mut words) = (0, 0);
        if !self.take(b'}') {
            loop {
                self.space();
                let field = out.len();
                out.push(0);
                let name = out.len();
                self.string(out)?;
                let named = out.get(name..).unwrap_or_default();
                if memchr::memchr(0, named).is_some() {
                    return Err(write::NUL_IN_NAME);
                }
                members += 1;
                words += usize::from(named.first() == Some(&b'$'));
                out.push(0);
                if !self.take(b':') {
                    return Err(NO_JSON);
                }
                self.value(out, field, depth + 1)?;
                if self.take(b'}') {
                    break;
                }
                if !self.take(b',') {
                    return Err(NO_JSON);
                }
            }
        }
        write::close(out, start);
        // Values of other types are objects of one or two members whose names begin with a dollar.
        if members == words && (1..=2).contains(&members) {
            let mut value = Vec::new();
            let written = out.get(start..).and_then(|d| Doc::new(d).ok());
            if let Some(kind) = written.and_then(|d| typed(d, &mut value)) {
                out.truncate(start);
                out.extend_from_slice(&value);
                set(out, tag, kind);
                return Ok(());
            }
        }
        set(out, tag, 0x03);
        Ok(())
    }

    /// Appends what a string means.
    fn string(&mut self, out: &mut Vec<u8>) -> Result<(), Misfit> {
        if self.text.get(self.at) != Some(&b'"') {
            return Err(NO_JSON);
        }
        self.at += 1;
        loop {
            let rest = self.rest();
            let plain = rest.iter().position(|b| *b == b'"' || *b == b'\\' || *b < 0x20).ok_or(NO_JSON)?;
            out.extend_from_slice(rest.get(..plain).unwrap_or_default());
            self.at += plain + 1;
            match rest.get(plain) {
                Some(b'"') => return Ok(()),
                Some(b'\\') => {
                    let code = self.text.get(self.at).copied().ok_or(NO_JSON)?;
                    self.at += 1;
                    out.push(match code {
                        b'"' | b'\\' | b'/' => code,
                        b'b' => 0x08,
                        b'f' => 0x0c,
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'u' => {
                            let c = self.escaped()?;
                            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                            continue;
                        }
                        _ => return Err(NO_JSON),
                    });
                }
                _ => return Err(NO_JSON),
            }
        }
    }

    fn unit(&mut self) -> Result<u32, Misfit> {
        let hex = self.text.get(self.at..self.at + 4).ok_or(NO_JSON)?;
        self.at += 4;
        hex.iter().try_fold(0, |n, b| Some(n * 16 + char::from(*b).to_digit(16)?)).ok_or(NO_JSON)
    }
    fn escaped(&mut self) -> Result<char, Misfit> {
        let first = self.unit()?;
        let code = match first {
            0xd800..0xdc00 => {
                self.word(b"\\u").map_err(|_| SURROGATE)?;
                match self.unit()? {
                    second @ 0xdc00..0xe000 => 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00),
                    _ => return Err(SURROGATE),
                }
            }
            other => other,
        };
        char::from_u32(code).ok_or(SURROGATE)
    }

    /// Over a number, as JSON has them.
    fn digits(&mut self) -> Result<&'t [u8], Misfit> {
        let start = self.at;
        let skip = |r: &mut Self| {
            let from = r.at;
            while r.text.get(r.at).is_some_and(u8::is_ascii_digit) {
                r.at += 1;
            }
            r.at - from
        };
        self.at += usize::from(self.text.get(self.at) == Some(&b'-'));
        let zero = self.text.get(self.at) == Some(&b'0');
        let whole = skip(self);
        if whole == 0 || (zero && whole > 1) {
            return Err(NO_JSON);
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            if skip(self) == 0 {
                return Err(NO_JSON);
            }
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.text.get(self.at), Some(b'+' | b'-')));
            if skip(self) == 0 {
                return Err(NO_JSON);
            }
        }
        self.text.get(start..self.at).ok_or(NO_JSON)
    }
}

fn set(out: &mut [u8], tag: usize, kind: u8) {
    if let Some(place) = out.get_mut(tag) {
        *place = kind;
    }
}

/// What holds a JSON number: an int, a long, a double if it has all the digits, else a decimal.
fn number<R>(digits: &[u8], take: impl FnOnce(Value<'_>) -> R) -> Result<R, Misfit> {
    let text = std::str::from_utf8(digits).map_err(|_| NO_JSON)?;
    if let Ok(n) = text.parse::<i64>()
        && digits != b"-0"
    {
        return Ok(take(i32::try_from(n).map_or(Value::Int64(n), Value::Int32)));
    }
    let x: f64 = text.parse().map_err(|_| NO_JSON)?;
    if keeps(x, digits) {
        return Ok(take(Value::Double(x)));
    }
    match Decimal::parse(digits).and_then(Decimal::encode) {
        Some(bytes) => Ok(take(Value::Decimal(&bytes))),
        None => Err(NUMBER),
    }
}

/// Whether a double's value, written with as many digits as the text has, is the text's.
fn keeps(x: f64, text: &[u8]) -> bool {
    if !x.is_finite() {
        return false;
    }
    let (mut significant, mut power) = (String::new(), 0_i64);
    let (mut behind, mut exponent) = (false, 0_i64);
    for (i, b) in text.iter().enumerate() {
        match b {
            b'0'..=b'9' => {
                if *b != b'0' || !significant.is_empty() {
                    significant.push(char::from(*b));
                }
                power -= i64::from(behind);
            }
            b'.' => behind = true,
            b'e' | b'E' => {
                let written = text.get(i + 1..).and_then(|e| std::str::from_utf8(e).ok()?.parse::<i64>().ok());
                let Some(written) = written else { return false };
                exponent = written;
                break;
            }
            _ => {}
        }
    }
    let kept = significant.trim_end_matches('0');
    if kept.is_empty() {
        return x == 0.0;
    }
    // Nothing between two doubles has so many.
    if x == 0.0 || kept.len() > 766 {
        return false;
    }
    let top = exponent + power + significant.len() as i64 - 1;
    let same = |printed: String| {
        let (mantissa, power) = printed.trim_start_matches('-').split_once('e').unwrap_or_default();
        let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
        digits.trim_end_matches('0') == kept && power.parse() == Ok(top)
    };
    same(format!("{x:.*e}", kept.len() - 1)) || same(format!("{x:e}"))
}

/// The value of another type that a document stands for, whose members were read already: appends it, and returns its type's
/// byte. `None` for other documents.
fn typed(object: Doc<'_>, out: &mut Vec<u8>) -> Option<u8> {
    let mut fields = object.fields();
    let (name, value) = fields.next()?.ok()?;
    let second = fields.next().transpose().ok()?;
    let mut put = |value: Value<'_>| {
        write::value(out, &value);
        Some(value.tag())
    };
    // Order means nothing in JSON.
    let (name, value, scope) = match second {
        None => (name, value, None),
        Some((b"$scope", Value::Document(scope))) => (name, value, Some(scope)),
        Some((b"$code", code)) => match (name, value) {
            (b"$scope", Value::Document(scope)) => (&b"$code"[..], code, Some(scope)),
            _ => return None,
        },
        Some(_) => return None,
    };
    if scope.is_some() {
        return match (name, value) {
            (b"$code", Value::String(code)) => put(Value::CodeWithScope { code, scope: scope? }),
            _ => None,
        };
    }
    match (name, value) {
        (b"$oid", Value::String(hex)) => put(Value::ObjectId(&object_id(hex)?)),
        (b"$date", Value::String(text)) => put(Value::Date(moment::read_iso(text)?)),
        // `{"$numberLong": "…"}` was read already.
        (b"$date", Value::Int64(ms)) => put(Value::Date(ms)),
        (b"$numberInt", Value::String(digits)) => put(Value::Int32(parsed(digits)?)),
        (b"$numberLong", Value::String(digits)) => put(Value::Int64(parsed(digits)?)),
        (b"$numberDouble", Value::String(text)) => put(Value::Double(match text {
            b"NaN" => f64::NAN,
            b"Infinity" => f64::INFINITY,
            b"-Infinity" => f64::NEG_INFINITY,
            [b'-' | b'0'..=b'9', ..] => parsed(text)?,
            _ => return None,
        })),
        (b"$numberDecimal", Value::String(text)) => put(Value::Decimal(&Decimal::parse(text)?.encode()?)),
        (b"$binary", Value::Document(inner)) => match pair(inner, "base64", "subType")? {
            (Value::String(base64), Value::String(subtype)) if (1..=2).contains(&subtype.len()) => {
                let bytes = base64::engine::general_purpose::STANDARD.decode(base64).ok()?;
                let subtype = u8::from_str_radix(std::str::from_utf8(subtype).ok()?, 16).ok()?;
                put(Value::Binary { subtype, bytes: &bytes })
            }
            _ => None,
        },
        (b"$uuid", Value::String(text)) => {
            let id = uuid::Uuid::try_parse_ascii(text).ok()?;
            put(Value::Binary { subtype: 4, bytes: id.as_bytes() })
        }
        (b"$timestamp", Value::Document(inner)) => {
            let (t, i) = pair(inner, "t", "i")?;
            let number = |v| match v {
                Value::Int32(n) => u32::try_from(n).ok(),
                Value::Int64(n) => u32::try_from(n).ok(),
                _ => None,
            };
            put(Value::Timestamp { seconds: number(t)?, increment: number(i)? })
        }
        (b"$regularExpression", Value::Document(inner)) => match pair(inner, "pattern", "options")? {
            (Value::String(pattern), Value::String(options)) if !pattern.contains(&0) && !options.contains(&0) => {
                put(Value::Regex { pattern, options })
            }
            _ => None,
        },
        (b"$code", Value::String(code)) => put(Value::Code(code)),
        (b"$symbol", Value::String(text)) => put(Value::Symbol(text)),
        (b"$dbPointer", Value::Document(inner)) => match pair(inner, "$ref", "$id")? {
            (Value::String(namespace), Value::ObjectId(id)) => put(Value::DbPointer { namespace, id }),
            _ => None,
        },
        (b"$undefined", Value::Bool(true)) => put(Value::Undefined),
        (b"$minKey", Value::Int32(1)) => put(Value::MinKey),
        (b"$maxKey", Value::Int32(1)) => put(Value::MaxKey),
        _ => None,
    }
}

/// The values of a document that has these two fields and no other.
fn pair<'a>(doc: Doc<'a>, a: &str, b: &str) -> Option<(Value<'a>, Value<'a>)> {
    (doc.fields().count() == 2).then_some((doc.get(a).ok()??, doc.get(b).ok()??))
}

fn parsed<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The 12 bytes of 24 hexadecimal digits.
pub fn object_id(hex: &[u8]) -> Option<[u8; 12]> {
    let mut id = [0; 12];
    if hex.len() != 24 {
        return None;
    }
    for (byte, pair) in id.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = pair.iter().try_fold(0_u8, |n, b| Some(n << 4 | char::from(*b).to_digit(16)? as u8))?;
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::super::ejson::{self, Numbers, Style};
    use super::super::{arbitrary, decimal};
    use super::*;
    use crate::exchange::NulText;
    use bson::{Bson, Document, doc};
    use proptest::prelude::*;

    fn read(json: &str) -> Result<Document, Misfit> {
        document(json.as_bytes()).map(|bytes| Document::from_reader(bytes.as_slice()).unwrap())
    }

    fn one(json: &str) -> Bson {
        read(&format!("{{\"v\": {json}}}")).unwrap().remove("v").unwrap()
    }

    #[test]
    fn given_numbers_when_read_then_each_is_what_holds_it() {
        for (text, want) in [
            ("0", Bson::Int32(0)),
            ("-2147483648", Bson::Int32(i32::MIN)),
            ("2147483648", Bson::Int64(2_147_483_648)),
            ("9223372036854775807", Bson::Int64(i64::MAX)),
            ("9223372036854775808", Bson::Double(9_223_372_036_854_775_808.0)),
            ("1.0", Bson::Double(1.0)),
            ("-0.0", Bson::Double(-0.0)),
            ("-0", Bson::Double(-0.0)),
            ("1e2", Bson::Double(100.0)),
            ("0.1", Bson::Double(0.1)),
            ("0.10000000000000001", Bson::Double(0.1)),
            ("1.10", Bson::Double(1.1)),
            ("1e300", Bson::Double(1e300)),
            ("5e-324", Bson::Double(5e-324)),
            ("12345678901234567890", Bson::Decimal128("12345678901234567890".parse().unwrap())),
            ("0.12345678901234567890123", Bson::Decimal128("0.12345678901234567890123".parse().unwrap())),
            ("1e400", Bson::Decimal128("1E+400".parse().unwrap())),
        ] {
            assert_eq!(one(text), want, "{text}");
        }
        let big = format!("1{}", "0".repeat(300));
        assert_eq!(one(&big), Bson::Double(1e300));
        assert_eq!(read(&format!("{{\"v\": {}}}", "123456789".repeat(5))), Err(NUMBER));
        assert_eq!(read("{\"v\": 1e99999}"), Err(NUMBER));
    }

    #[test]
    fn given_extended_json_in_any_order_when_read_then_it_is_the_typed_value() {
        assert_eq!(one(r#"{"$numberLong": "5"}"#), Bson::Int64(5));
        assert_eq!(
            one(r#"{"$binary": {"subType": "00", "base64": "AAE="}}"#),
            one(r#"{"$binary":{"base64":"AAE=","subType":"0"}}"#)
        );
        assert_eq!(
            one(r#"{"$timestamp": {"i": 7, "t": 5}}"#),
            Bson::Timestamp(bson::Timestamp { time: 5, increment: 7 })
        );
        assert!(matches!(one(r#"{"$scope": {"a": 1}, "$code": "f"}"#), Bson::JavaScriptCodeWithScope(_)));
        assert!(matches!(one(r#"{"$uuid": "00112233-4455-6677-8899-aabbccddeeff"}"#), Bson::Binary(_)));
        // What only looks like it is a document.
        for other in [
            r#"{"$oid": "xyz"}"#,
            r#"{"$oid": "507f1f77bcf86cd799439011", "a": 1}"#,
            r#"{"$date": 5}"#,
            r#"{"$ref": "c", "$id": 1}"#,
            r#"{"$minKey": 2}"#,
            r#"{"$binary": "AAE="}"#,
        ] {
            assert!(matches!(one(other), Bson::Document(_)), "{other}");
        }
    }

    #[test]
    fn given_texts_that_are_no_json_or_no_bson_when_read_then_they_are_refused() {
        for bad in ["", "{", "[1", "{\"a\"}", "{\"a\": 1,}", "01", "1.", "nul", "\"\n\"", "\"\\x\"", "{} {}", "tru e"] {
            assert_eq!(document(bad.as_bytes()), Err(NO_JSON), "{bad}");
        }
        assert_eq!(read(r#"{"a": "\ud800"}"#), Err(SURROGATE));
        assert_eq!(read("{\"a\\u0000b\": 1}"), Err(write::NUL_IN_NAME));
        assert!(read("[1]").is_err() && read(r#"{"$numberLong": "5"}"#).is_err());
        assert_eq!(document(&[b"[".repeat(5000)].concat()), Err(DEEP));
        assert_eq!(read(r#"{"a": "x\u0000\ud83d\ude00\/"}"#).unwrap(), doc! {"a": "x\0😀/"});
    }

    /// What the text does not keep: a long within 32 bits, and significands that the decimal's encoding has no use for.
    fn expected(value: Bson) -> Bson {
        match value {
            Bson::Int64(n) => i32::try_from(n).map_or(Bson::Int64(n), Bson::Int32),
            Bson::Double(x) if x.is_nan() => Bson::Double(f64::NAN),
            // Whole numbers beyond 64 bits are doubles.
            Bson::Decimal128(d) => {
                Bson::Decimal128(bson::Decimal128::from_bytes(decimal::Decimal::decode(&d.bytes()).encode().unwrap()))
            }
            Bson::Array(items) => Bson::Array(items.into_iter().map(expected).collect()),
            Bson::Document(d) => Bson::Document(document_expected(d)),
            Bson::JavaScriptCodeWithScope(c) => {
                let scope = document_expected(c.scope);
                Bson::JavaScriptCodeWithScope(bson::JavaScriptCodeWithScope { scope, ..c })
            }
            other => other,
        }
    }
    fn document_expected(document: Document) -> Document {
        document.into_iter().map(|(name, value)| (name, expected(value))).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn given_any_document_when_written_as_json_and_read_then_it_is_the_same(document in arbitrary::document()) {
            let bytes = document.to_vec().unwrap();
            let style = Style { nul: NulText::Refuse, numbers: Numbers::Kept };
            let mut text = Vec::new();
            ejson::document(&mut text, Doc::new(&bytes).unwrap(), style).unwrap();
            // Any other reader takes it for JSON as well.
            serde_json::from_slice::<serde::de::IgnoredAny>(&text).unwrap();
            let back = super::document(&text).unwrap();
            let want = document_expected(document).to_vec().unwrap();
            prop_assert_eq!(
                ejson::shown(Doc::new(&back).unwrap()),
                ejson::shown(Doc::new(&want).unwrap()),
            );
            prop_assert_eq!(back, want);
        }

        #[test]
        fn given_any_text_when_read_as_json_then_nothing_panics(text in "[\\[\\]{}\",:0-9a-f.eE\\\\u$-]{0,40}") {
            let _ = super::document(text.as_bytes());
        }
    }
}
