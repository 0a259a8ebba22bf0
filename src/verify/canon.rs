//! The form in which values of both sides are compared: equal exactly if they mean the same. Pure.
//!
//! | what the column holds | what is compared |
//! |---|---|
//! | numbers | the digits without leading or trailing zeros, and the power of ten: 1.50, 1.5 and 15e-1 are equal |
//! | floating-point numbers | the bits, of the narrower of the two sides |
//! | truth values | `t`, `true` and 1 are equal |
//! | dates and times | zeros at the fraction's end left out, `+00` left out |
//! | `char(n)` | without blanks at the end |
//! | JSON | members sorted by name, the last of a name; numbers as above; no blanks |
//! | all else | the bytes |
//!
//! NULL and the empty text differ, and so do texts that differ in a blank at the end.

use crate::definition::DataType;
use crate::schema::{Column, Kind};
use crate::value::Datum;

/// What a column's values are compared as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Byte by byte.
    Bytes,
    /// As decimal numbers of any length.
    Number,
    /// As floating-point numbers of 32 bits.
    Float4,
    /// As floating-point numbers of 64 bits.
    Float8,
    /// As truth values.
    Truth,
    /// As moments, days or times of day.
    Moment,
    /// Without blanks at the end.
    Padded,
    /// As JSON.
    Json,
}

/// Deeper nesting than this is compared by its bytes.
const DEPTH: usize = 128;

impl Form {
    /// The form for a column of the target whose values come from `source`; `None` where a rule computes them.
    pub fn of(source: Option<&Column>, target: &Column) -> Form {
        let either = |is: fn(&Column) -> bool| is(target) || source.is_some_and(is);
        let truth = |c: &Column| c.kind == Kind::Bool || matches!(c.data, DataType::Bool);
        if either(truth) {
            return Form::Truth;
        }
        if either(|c| c.kind == Kind::Float4 || matches!(c.data, DataType::Float { bits: 32 })) {
            return Form::Float4;
        }
        if either(|c| c.kind == Kind::Float8 || matches!(c.data, DataType::Float { .. })) {
            return Form::Float8;
        }
        let json = |c: &Column| matches!(c.kind, Kind::Json | Kind::Jsonb) || matches!(c.data, DataType::Json { .. });
        if either(json) {
            return Form::Json;
        }
        match target.kind {
            Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Numeric => Form::Number,
            Kind::Date | Kind::Time | Kind::Timestamp | Kind::TimestampTz => Form::Moment,
            _ => match target.data {
                DataType::Int { .. } | DataType::Decimal { .. } => Form::Number,
                DataType::Date | DataType::Time { .. } | DataType::Timestamp { .. } | DataType::TimestampTz { .. } => {
                    Form::Moment
                }
                DataType::Char { .. } => Form::Padded,
                _ if matches!(source.map(|s| &s.data), Some(DataType::Char { .. })) => Form::Padded,
                _ => Form::Bytes,
            },
        }
    }

    /// Appends the comparable form of a value: a mark whether there is one, its length and its bytes, so that no two rows
    /// run together.
    pub fn append(self, value: Datum<'_>, out: &mut Vec<u8>) {
        let Datum::Text(text) = value else {
            out.push(0);
            return;
        };
        out.push(1);
        let length = out.len();
        out.extend_from_slice(&[0; 4]);
        match self {
            Form::Bytes => out.extend_from_slice(text),
            Form::Number => number(text, out),
            Form::Float4 => float(text, out, |t| t.parse::<f32>().ok().map(|f| u64::from(narrow(f)))),
            Form::Float8 => float(text, out, |t| t.parse::<f64>().ok().map(wide)),
            Form::Truth => match text {
                b"t" | b"true" | b"1" => out.push(b'1'),
                b"f" | b"false" | b"0" => out.push(b'0'),
                other => number(other, out),
            },
            Form::Moment => moment(text, out),
            Form::Padded => {
                let end = text.iter().rposition(|&b| b != b' ').map_or(0, |i| i + 1);
                out.extend_from_slice(&text[..end]);
            }
            Form::Json => {
                let start = out.len();
                let mut reader = Reader { text, at: 0 };
                if reader.value(out, DEPTH).is_none() || !reader.is_at_end() {
                    out.truncate(start);
                    out.extend_from_slice(text);
                }
            }
        }
        let written = (out.len() - length - 4) as u32;
        out[length..length + 4].copy_from_slice(&written.to_le_bytes());
    }
}

fn narrow(f: f32) -> u32 {
    if f == 0.0 { 0 } else { f.to_bits() }
}

fn wide(f: f64) -> u64 {
    if f == 0.0 { 0 } else { f.to_bits() }
}

fn float(text: &[u8], out: &mut Vec<u8>, bits: impl Fn(&str) -> Option<u64>) {
    match std::str::from_utf8(text).ok().and_then(bits) {
        Some(bits) => out.extend_from_slice(&bits.to_be_bytes()),
        None => out.extend_from_slice(text),
    }
}

/// `-15e-1`: what is no number stays as it is (`NaN`, `Infinity`).
fn number(text: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    if read_number(text, out) != Some(text.len()) {
        out.truncate(start);
        out.extend_from_slice(text);
    }
}

/// Appends the normal form of the number that `text` begins with; says how long it was.
fn read_number(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    let negative = text.first() == Some(&b'-');
    if negative || text.first() == Some(&b'+') {
        at += 1;
    }
    let begun = out.len();
    if negative {
        out.push(b'-');
    }
    let digits = out.len();
    let (mut any, mut exponent, mut fraction) = (false, 0i64, false);
    while let Some(&b) = text.get(at) {
        match b {
            b'0'..=b'9' => {
                any = true;
                if fraction {
                    exponent -= 1;
                }
                if b != b'0' || out.len() > digits {
                    out.push(b);
                }
            }
            b'.' if !fraction => fraction = true,
            _ => break,
        }
        at += 1;
    }
    if !any {
        return None;
    }
    if let Some(b'e' | b'E') = text.get(at) {
        let rest = &text[at + 1..];
        let signed = usize::from(matches!(rest.first(), Some(b'-' | b'+')));
        let len = signed + rest[signed..].iter().take_while(|b| b.is_ascii_digit()).count();
        if len > signed {
            let power: i64 = std::str::from_utf8(&rest[..len]).ok()?.parse().ok()?;
            exponent = exponent.checked_add(power)?;
            at += 1 + len;
        }
    }
    while out.len() > digits && out.last() == Some(&b'0') {
        out.pop();
        exponent += 1;
    }
    if out.len() == digits {
        out.truncate(begun);
        out.push(b'0');
        return Some(at);
    }
    if exponent != 0 {
        out.push(b'e');
        out.extend_from_slice(exponent.to_string().as_bytes());
    }
    Some(at)
}

/// Without `+00`, and without zeros at the end of a second's fraction.
fn moment(text: &[u8], out: &mut Vec<u8>) {
    let (text, era) = match text.strip_suffix(b" BC") {
        Some(before) => (before, &b" BC"[..]),
        None => (text, &b""[..]),
    };
    let text = text.strip_suffix(b"+00").unwrap_or(text);
    let end = match text.iter().rposition(|&b| b == b'.') {
        Some(point) if text[point + 1..].iter().all(u8::is_ascii_digit) => {
            let end = text.iter().rposition(|&b| b != b'0').map_or(0, |i| i + 1);
            end.max(point + 1) - usize::from(end <= point + 1)
        }
        _ => text.len(),
    };
    out.extend_from_slice(&text[..end]);
    out.extend_from_slice(era);
}

/// Walks over JSON text.
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn blanks(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn is_at_end(&mut self) -> bool {
        self.blanks();
        self.at == self.text.len()
    }

    fn take(&mut self, b: u8) -> bool {
        self.blanks();
        let there = self.text.get(self.at) == Some(&b);
        self.at += usize::from(there);
        there
    }

    /// Appends the normal form of the value that comes next; `None` if there is none.
    fn value(&mut self, out: &mut Vec<u8>, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        self.blanks();
        match *self.text.get(self.at)? {
            b'{' => {
                self.at += 1;
                let mut members: Vec<(String, Vec<u8>)> = Vec::new();
                if !self.take(b'}') {
                    loop {
                        self.blanks();
                        let name = self.string()?;
                        if !self.take(b':') {
                            return None;
                        }
                        let mut value = Vec::new();
                        self.value(&mut value, depth)?;
                        members.push((name, value));
                        if !self.take(b',') {
                            break;
                        }
                    }
                    if !self.take(b'}') {
                        return None;
                    }
                }
                // A stable sort keeps the last of a name last.
                members.sort_by(|a, b| a.0.cmp(&b.0));
                out.push(b'{');
                let mut members = members.into_iter().peekable();
                while let Some((name, value)) = members.next() {
                    if members.peek().is_some_and(|next| next.0 == name) {
                        continue;
                    }
                    text(&name, out);
                    out.push(b':');
                    out.extend_from_slice(&value);
                    out.push(b',');
                }
                out.push(b'}');
            }
            b'[' => {
                self.at += 1;
                out.push(b'[');
                if !self.take(b']') {
                    loop {
                        self.value(out, depth)?;
                        out.push(b',');
                        if !self.take(b',') {
                            break;
                        }
                    }
                    if !self.take(b']') {
                        return None;
                    }
                }
                out.push(b']');
            }
            b'"' => {
                let s = self.string()?;
                text(&s, out);
            }
            b't' | b'f' | b'n' => {
                let word =
                    [&b"true"[..], b"false", b"null"].into_iter().find(|w| self.text[self.at..].starts_with(w))?;
                self.at += word.len();
                out.extend_from_slice(word);
            }
            _ => self.at += read_number(&self.text[self.at..], out)?,
        }
        Some(())
    }

    fn string(&mut self) -> Option<String> {
        let start = self.at;
        if self.text.get(start) != Some(&b'"') {
            return None;
        }
        let mut at = start + 1;
        loop {
            match self.text.get(at)? {
                b'"' => break,
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
        self.at = at + 1;
        serde_json::from_slice(&self.text[start..=at]).ok()
    }
}

fn text(s: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(serde_json::Value::from(s).to_string().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(f: Form, t: &str) -> Vec<u8> {
        let mut out = Vec::new();
        f.append(Datum::Text(t.as_bytes()), &mut out);
        out
    }

    fn equal(f: Form, texts: &[&str]) {
        for t in texts {
            assert_eq!(form(f, t), form(f, texts[0]), "{f:?}: {t} and {}", texts[0]);
        }
    }

    fn apart(f: Form, texts: &[&str]) {
        for (i, a) in texts.iter().enumerate() {
            for b in &texts[i + 1..] {
                assert_ne!(form(f, a), form(f, b), "{f:?}: {a} and {b}");
            }
        }
    }

    #[test]
    fn given_numbers_when_compared_then_scale_and_spelling_do_not_count() {
        equal(Form::Number, &["1.5", "1.50", "15e-1", "+1.5", "01.5", "0.15E+1"]);
        equal(Form::Number, &["0", "-0", "0.000", "0e5", "00"]);
        equal(Form::Number, &["1500", "1.5e3", "1500.0"]);
        apart(Form::Number, &["1.5", "1.51", "-1.5", "15", "150", "0.15", "NaN", "Infinity", "-Infinity", ""]);
        apart(Form::Number, &["123456789012345678901234567890.1", "123456789012345678901234567890.2"]);
    }

    #[test]
    fn given_moments_when_compared_then_the_last_microsecond_counts() {
        equal(
            Form::Moment,
            &["2024-02-29 12:00:00", "2024-02-29 12:00:00+00", "2024-02-29 12:00:00.000", "2024-02-29 12:00:00.0+00"],
        );
        equal(Form::Moment, &["2024-02-29 12:00:00.5", "2024-02-29 12:00:00.500000+00"]);
        equal(Form::Moment, &["0044-03-15 00:00:00 BC", "0044-03-15 00:00:00+00 BC"]);
        apart(
            Form::Moment,
            &["2024-02-29 12:00:00", "2024-02-29 12:00:00.000001", "2024-02-29 12:00:10", "2024-02-29", "infinity"],
        );
        apart(Form::Moment, &["0044-03-15", "0044-03-15 BC", "2020-10-10", "2020-10-1"]);
    }

    #[test]
    fn given_texts_when_compared_then_blanks_count_but_for_padding() {
        apart(Form::Bytes, &["a", "a ", "", " a", "A"]);
        equal(Form::Padded, &["a", "a  "]);
        apart(Form::Padded, &["a", " a"]);
        let mut null = Vec::new();
        Form::Bytes.append(Datum::Null, &mut null);
        assert_ne!(null, form(Form::Bytes, ""));
        equal(Form::Truth, &["t", "true", "1"]);
        apart(Form::Truth, &["t", "f", "2"]);
    }

    #[test]
    fn given_floats_when_compared_then_their_bits_decide() {
        equal(Form::Float8, &["0.1", "0.10000000000000001", "1e-1"]);
        equal(Form::Float8, &["0", "-0"]);
        apart(Form::Float8, &["0.1", "0.10000000000000002", "NaN", "Infinity"]);
        equal(Form::Float4, &["0.1", "0.10000000149011612"]);
    }

    #[test]
    fn given_json_when_compared_then_order_blanks_and_scale_do_not_count() {
        equal(
            Form::Json,
            &[
                r#"{"b": 1.0, "a": [1, "é\n"]}"#,
                r#"{"a":[1e0,"\u00e9\u000a"],"b":1}"#,
                r#"{"b":2,"a":[1,"é\n"],"b":1}"#,
            ],
        );
        apart(
            Form::Json,
            &[
                "{}",
                "[]",
                "null",
                "\"\"",
                "0",
                "[0]",
                "[[]]",
                r#"{"a":null}"#,
                r#"["a","b"]"#,
                r#"["b","a"]"#,
                "no json",
            ],
        );
        apart(Form::Json, &["12345678901234567890123", "12345678901234567890124"]);
    }

    #[test]
    fn given_fields_when_appended_then_rows_do_not_run_together() {
        let row = |a: &str, b: &str| {
            let mut out = form(Form::Bytes, a);
            out.extend(form(Form::Bytes, b));
            out
        };
        assert_ne!(row("ab", "c"), row("a", "bc"));
    }
}
