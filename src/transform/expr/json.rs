//! JSON texts: checked, normalized as `jsonb` prints them, taken apart without being copied.

use bumpalo::Bump;

use super::EvalError;
use super::array;
use super::node::{R, V, fail};
use super::numeric::Dec;
use super::types::Base::{self, *};

/// Deeper texts are refused, so that none can exhaust the stack.
const DEEPEST: usize = 500;
pub(super) const BAD: &str = "invalid input syntax for type json";

/// A JSON value in memory.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(Dec),
    String(String),
    Array(Vec<Value>),
    /// In `jsonb`'s order: shorter keys first, then by bytes; each key once.
    Object(Vec<(String, Value)>),
}

/// Makes members an object: the last of equal keys stays.
pub(super) fn object(mut members: Vec<(String, Value)>) -> Value {
    members.reverse();
    members.sort_by(|(a, _), (b, _)| (a.len(), a.as_bytes()).cmp(&(b.len(), b.as_bytes())));
    members.dedup_by(|later, first| later.0 == first.0);
    Value::Object(members)
}

/// Reads along a text.
pub(super) struct Reader<'t> {
    pub text: &'t [u8],
    pub at: usize,
}

impl<'t> Reader<'t> {
    fn space(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }
    fn peek(&mut self) -> u8 {
        self.space();
        self.text.get(self.at).copied().unwrap_or(0)
    }
    pub fn take(&mut self, b: u8) -> bool {
        let found = self.peek() == b && self.at < self.text.len();
        self.at += usize::from(found);
        found
    }
    fn word(&mut self, word: &[u8]) -> Result<(), EvalError> {
        if !self.text[self.at..].starts_with(word) {
            return fail(BAD);
        }
        self.at += word.len();
        Ok(())
    }
    fn end(&mut self) -> Result<(), EvalError> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { fail(BAD) }
    }

    fn number(&mut self) -> Result<&'t [u8], EvalError> {
        let start = self.at;
        let digits = |r: &mut Self| {
            let from = r.at;
            while r.text.get(r.at).is_some_and(u8::is_ascii_digit) {
                r.at += 1;
            }
            r.at - from
        };
        if self.text.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        let zero = self.text.get(self.at) == Some(&b'0');
        let whole = digits(self);
        if whole == 0 || (zero && whole > 1) {
            return fail(BAD);
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            if digits(self) == 0 {
                return fail(BAD);
            }
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.text.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if digits(self) == 0 {
                return fail(BAD);
            }
        }
        if self.text.get(self.at).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_') {
            return fail(BAD);
        }
        Ok(&self.text[start..self.at])
    }

    /// Over a string, whose inside is returned as it is written.
    pub fn raw_string(&mut self) -> Result<&'t [u8], EvalError> {
        self.space();
        self.word(b"\"")?;
        let start = self.at;
        loop {
            match self.text.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(&self.text[start..self.at - 1]);
                }
                Some(b'\\') => {
                    let length = match self.text.get(self.at + 1) {
                        Some(b'u') => {
                            let hex = self.text.get(self.at + 2..self.at + 6);
                            if !hex.is_some_and(|h| h.iter().all(u8::is_ascii_hexdigit)) {
                                return fail(BAD);
                            }
                            6
                        }
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
                        _ => return fail(BAD),
                    };
                    self.at += length;
                }
                Some(b) if *b >= 0x20 => self.at += 1,
                _ => return fail(BAD),
            }
        }
    }

    /// Over any value, checking it.
    pub fn skip(&mut self, depth: usize) -> Result<&'t [u8], EvalError> {
        if depth > DEEPEST {
            return fail("a JSON text is nested too deeply");
        }
        let first = self.peek();
        let start = self.at;
        match first {
            b'{' => {
                self.at += 1;
                if !self.take(b'}') {
                    loop {
                        self.raw_string()?;
                        if !self.take(b':') {
                            return fail(BAD);
                        }
                        self.skip(depth + 1)?;
                        if self.take(b'}') {
                            break;
                        }
                        if !self.take(b',') {
                            return fail(BAD);
                        }
                    }
                }
            }
            b'[' => {
                self.at += 1;
                if !self.take(b']') {
                    loop {
                        self.skip(depth + 1)?;
                        if self.take(b']') {
                            break;
                        }
                        if !self.take(b',') {
                            return fail(BAD);
                        }
                    }
                }
            }
            b'"' => drop(self.raw_string()?),
            b't' => self.whole_word(b"true")?,
            b'f' => self.whole_word(b"false")?,
            b'n' => self.whole_word(b"null")?,
            _ => drop(self.number()?),
        }
        Ok(&self.text[start..self.at])
    }

    fn whole_word(&mut self, word: &[u8]) -> Result<(), EvalError> {
        self.word(word)?;
        if self.text.get(self.at).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_' || *b >= 0x80) {
            return fail(BAD);
        }
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<Value, EvalError> {
        if depth > DEEPEST {
            return fail("a JSON text is nested too deeply");
        }
        Ok(match self.peek() {
            b'{' => {
                self.at += 1;
                let mut members = Vec::new();
                if !self.take(b'}') {
                    loop {
                        let key = unescape(self.raw_string()?)?;
                        if !self.take(b':') {
                            return fail(BAD);
                        }
                        members.push((key, self.value(depth + 1)?));
                        if self.take(b'}') {
                            break;
                        }
                        if !self.take(b',') {
                            return fail(BAD);
                        }
                    }
                }
                object(members)
            }
            b'[' => {
                self.at += 1;
                let mut items = Vec::new();
                if !self.take(b']') {
                    loop {
                        items.push(self.value(depth + 1)?);
                        if self.take(b']') {
                            break;
                        }
                        if !self.take(b',') {
                            return fail(BAD);
                        }
                    }
                }
                Value::Array(items)
            }
            b'"' => Value::String(unescape(self.raw_string()?)?),
            b't' => {
                self.whole_word(b"true")?;
                Value::Bool(true)
            }
            b'f' => {
                self.whole_word(b"false")?;
                Value::Bool(false)
            }
            b'n' => {
                self.whole_word(b"null")?;
                Value::Null
            }
            _ => Value::Number(Dec::parse(self.number()?)?),
        })
    }
}

/// A string's inside as the text that it means.
pub(super) fn unescape(raw: &[u8]) -> Result<String, EvalError> {
    let Ok(raw) = std::str::from_utf8(raw) else { return fail(BAD) };
    if !raw.contains('\\') {
        return Ok(raw.to_owned());
    }
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.as_bytes().get(at + 1).copied().unwrap_or(0);
        rest = rest.get(at + 2..).unwrap_or("");
        out.push(match code {
            b'n' => '\n',
            b't' => '\t',
            b'r' => '\r',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'u' => {
                let unit = |t: &str| t.get(..4).and_then(|h| u32::from_str_radix(h, 16).ok());
                let Some(first) = unit(rest) else { return fail(BAD) };
                rest = &rest[4..];
                let code = if (0xd800..0xdc00).contains(&first) {
                    let second = rest.strip_prefix("\\u").and_then(unit).filter(|s| (0xdc00..0xe000).contains(s));
                    let Some(second) = second else { return fail("a Unicode surrogate stands alone") };
                    rest = &rest[6..];
                    0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                } else {
                    first
                };
                match char::from_u32(code) {
                    Some('\0') => return fail("\\u0000 cannot be converted to text"),
                    Some(c) => c,
                    None => return fail("a Unicode surrogate stands alone"),
                }
            }
            other => char::from(other),
        });
    }
    out.push_str(rest);
    Ok(out)
}

/// Appends a JSON string.
fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

impl Value {
    pub fn parse(text: &[u8]) -> Result<Value, EvalError> {
        let mut r = Reader { text, at: 0 };
        let value = r.value(0)?;
        r.end()?;
        Ok(value)
    }

    /// As `json` functions print it: without blanks.
    pub fn compact<'a>(&self, bump: &'a Bump) -> V<'a> {
        let mut out = String::new();
        self.print(&mut out, false);
        V::Str(bump.alloc_str(&out).as_bytes())
    }

    fn print(&self, out: &mut String, spaced: bool) {
        match self {
            Value::Null => out.push_str("null"),
            Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Value::Number(n) => out.push_str(&n.print()),
            Value::String(s) => quote(out, s),
            Value::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i == 0 {
                        ""
                    } else if spaced {
                        ", "
                    } else {
                        ","
                    });
                    item.print(out, spaced);
                }
                out.push(']');
            }
            Value::Object(members) => {
                out.push('{');
                for (i, (key, value)) in members.iter().enumerate() {
                    out.push_str(if i == 0 {
                        ""
                    } else if spaced {
                        ", "
                    } else {
                        ","
                    });
                    quote(out, key);
                    out.push_str(if spaced { ": " } else { ":" });
                    value.print(out, spaced);
                }
                out.push('}');
            }
        }
    }

    pub fn value<'a>(&self, bump: &'a Bump) -> V<'a> {
        let mut out = String::new();
        self.print(&mut out, true);
        V::Str(bump.alloc_str(&out).as_bytes())
    }

    pub fn same(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Number(a), Value::Number(b)) => a.compare(b).is_eq(),
            (Value::String(a), Value::String(b)) => a == b,
            (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.same(y)),
            (Value::Object(a), Value::Object(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|((k, x), (l, y))| k == l && x.same(y))
            }
            _ => false,
        }
    }

    /// What `to_jsonb` makes of a value's canonical text.
    pub fn of(text: Option<&[u8]>, base: &Base) -> Result<Value, EvalError> {
        let Some(text) = text else { return Ok(Value::Null) };
        let Ok(words) = std::str::from_utf8(text) else { return fail("a text is not valid UTF-8") };
        Ok(match base {
            Bool => Value::Bool(text == b"t"),
            Int2 | Int4 | Int8 | Numeric | Float4 | Float8 => match Dec::parse(text)? {
                n @ Dec::Finite(..) => Value::Number(n),
                _ => Value::String(words.to_owned()),
            },
            Json | Jsonb => Value::parse(text)?,
            Timestamp => Value::String(words.replacen(' ', "T", 1)),
            TimestampTz if words.ends_with("infinity") => Value::String(words.to_owned()),
            TimestampTz => Value::String(words.replacen(' ', "T", 1).replacen("+00", "+00:00", 1)),
            Array(element) => {
                let bump = Bump::new();
                let array = array::parse(&bump, text)?;
                let mut elements = array.elements.iter();
                nested(&array.dimensions, &mut elements, element)?
            }
            _ => Value::String(words.to_owned()),
        })
    }
}

fn nested<'e>(
    dimensions: &[(i64, i64)],
    elements: &mut dyn Iterator<Item = &'e array::Element<'e>>,
    element: &Base,
) -> Result<Value, EvalError> {
    let Some(((_, length), inner)) = dimensions.split_first() else { return Ok(Value::Array(Vec::new())) };
    let mut items = Vec::new();
    for _ in 0..*length {
        items.push(if inner.is_empty() {
            Value::of(elements.next().copied().flatten(), element)?
        } else {
            nested(inner, elements, element)?
        });
    }
    Ok(Value::Array(items))
}

/// Checks a `json` text.
pub(super) fn validate(text: &[u8]) -> Result<(), EvalError> {
    let mut r = Reader { text, at: 0 };
    r.skip(0)?;
    r.end()
}

/// The text as `jsonb` prints it.
pub(super) fn normalize<'a>(bump: &'a Bump, text: &[u8]) -> R<'a> {
    Ok(Value::parse(text)?.value(bump))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_json_when_normalized_then_it_is_as_the_server_prints_it() {
        let bump = Bump::new();
        for (written, printed) in [
            (r#" {"bb":1,"a":2,"a":3.50} "#, Some(r#"{"a": 3.50, "bb": 1}"#)),
            (r#"[1e3,-0,"\u00e9\n",{}]"#, Some("[1000, 0, \"é\\n\", {}]")),
            (r#"{"a":[]}"#, Some(r#"{"a": []}"#)),
            (r#""\ud83d\ude00""#, Some("\"😀\"")),
            (r#""\u0000""#, None),
            ("01", None),
            ("[1,]", None),
            ("nulll", None),
            ("", None),
        ] {
            let found = normalize(&bump, written.as_bytes()).ok().map(|v| match v {
                V::Str(t) => std::str::from_utf8(t).unwrap().to_owned(),
                _ => String::new(),
            });
            assert_eq!(found.as_deref(), printed, "{written}");
        }
    }
}
