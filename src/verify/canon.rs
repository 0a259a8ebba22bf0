//! The form in which values of both sides are compared: equal exactly if they mean the same. Pure.
//!
//! | what the column holds | what is compared |
//! |---|---|
//! | numbers | the digits without leading or trailing zeros, and the power of ten: 1.50, 1.5 and 15e-1 are equal |
//! | floating-point numbers | the bits, of the narrower of the two sides |
//! | truth values | `t`, `true` and 1 are equal |
//! | dates and times | zeros at the fraction's end left out, `+00` left out; a day beside a moment is its midnight |
//! | `char(n)` on the target | without blanks at the end, which such a column adds or takes away |
//! | JSON | members sorted by name, the last of a name; numbers as above; no blanks |
//! | UUIDs | the digits, whether they are kept as a UUID, as text or as 16 bytes |
//! | fields of bits | between fields of two lengths, the number |
//! | network addresses | the address, however it is written |
//! | arrays that were made of lists | the elements, each as its type |
//! | all else | the bytes |
//!
//! NULL and the empty text differ, and so do texts that differ in a blank at the end. Source and target may be different
//! engines: the source's rows are those that the target's loader gets, and these forms undo what it makes of them.

use crate::definition::DataType;
use crate::schema::{Column, Kind};
use crate::value::Datum;

/// What a column's values are compared as.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// As days or times of day.
    Moment,
    /// As days with a time of day.
    Instant,
    /// Without blanks at the end.
    Padded,
    /// As JSON.
    Json,
    /// As UUIDs.
    Uuid,
    /// As numbers written in digits 0 and 1.
    Bits,
    /// As network addresses.
    Network,
    /// As arrays of such elements.
    Array(Box<Form>),
}

/// Deeper nesting than this is compared by its bytes.
const DEPTH: usize = 128;

impl Form {
    /// The form for a column of the target whose values come from `source`; `None` where a rule computes them, or they are
    /// brought into the target's form on the way.
    pub fn of(source: Option<&Column>, target: &Column) -> Form {
        let either = |is: fn(&Column) -> bool| is(target) || source.is_some_and(is);
        if either(|c| c.kind == Kind::Bool || c.data == DataType::Bool) {
            return Form::Truth;
        }
        if either(|c| c.kind == Kind::Float4 || matches!(c.data, DataType::Float { bits: 32 })) {
            return Form::Float4;
        }
        if either(|c| c.kind == Kind::Float8 || matches!(c.data, DataType::Float { .. })) {
            return Form::Float8;
        }
        if either(|c| matches!(c.kind, Kind::Json | Kind::Jsonb) || matches!(c.data, DataType::Json { .. })) {
            return Form::Json;
        }
        if either(|c| c.kind == Kind::Uuid || c.data == DataType::Uuid) {
            return Form::Uuid;
        }
        if either(|c| c.data == DataType::Network) && source.is_none_or(|s| s.data != target.data) {
            return Form::Network;
        }
        match target.kind {
            Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Numeric => return Form::Number,
            Kind::Timestamp | Kind::TimestampTz => return Form::Instant,
            Kind::Date | Kind::Time => return Form::Moment,
            _ => {}
        }
        match (&target.data, source.map(|s| &s.data)) {
            (DataType::Int { .. } | DataType::Decimal { .. } | DataType::Year, _) => Form::Number,
            (DataType::Timestamp { .. } | DataType::TimestampTz { .. }, _) => Form::Instant,
            (DataType::Date | DataType::Time { .. }, _) => Form::Moment,
            // A time that is a span becomes an interval, whose fraction has no zeros at its end either.
            (DataType::Interval, Some(DataType::Time { .. })) => Form::Moment,
            (DataType::Char { .. }, _) => Form::Padded,
            // A UUID that a rule computes is kept as its bytes.
            (DataType::Bytes { length: Some(16), .. }, None) => Form::Uuid,
            (DataType::Bits { length, varying: false }, from) => match from {
                Some(DataType::Bits { length: other, varying: false }) if other == length => Form::Bytes,
                _ => Form::Bits,
            },
            (DataType::Array { element }, from) if from != Some(&target.data) => {
                Form::Array(Box::new(Form::of_element(element)))
            }
            _ => Form::Bytes,
        }
    }

    /// The form of an array's elements.
    fn of_element(data: &DataType) -> Form {
        match data {
            DataType::Array { element } => Form::of_element(element),
            DataType::Bool => Form::Truth,
            DataType::Int { .. } | DataType::Decimal { .. } | DataType::Year => Form::Number,
            DataType::Float { bits: 32 } => Form::Float4,
            DataType::Float { .. } => Form::Float8,
            DataType::Timestamp { .. } | DataType::TimestampTz { .. } => Form::Instant,
            DataType::Date | DataType::Time { .. } => Form::Moment,
            DataType::Json { .. } => Form::Json,
            DataType::Uuid => Form::Uuid,
            DataType::Network => Form::Network,
            DataType::Char { .. } => Form::Padded,
            _ => Form::Bytes,
        }
    }

    /// Appends the comparable form of a value: a mark whether there is one, its length and its bytes, so that no two rows
    /// run together.
    pub fn append(&self, value: Datum<'_>, out: &mut Vec<u8>) {
        let Datum::Text(text) = value else {
            out.push(0);
            return;
        };
        out.push(1);
        let length = out.len();
        out.extend_from_slice(&[0; 4]);
        self.write(text, out);
        let written = (out.len() - length - 4) as u32;
        out[length..length + 4].copy_from_slice(&written.to_le_bytes());
    }

    fn write(&self, text: &[u8], out: &mut Vec<u8>) {
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
            Form::Moment => moment(text, false, out),
            Form::Instant => moment(text, true, out),
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
            Form::Uuid => {
                let start = out.len();
                let digits = text.strip_prefix(b"\\x").unwrap_or(text);
                out.extend(digits.iter().filter(|b| b.is_ascii_hexdigit()).map(u8::to_ascii_lowercase));
                if out.len() != start + 32 || !digits.iter().all(|b| b.is_ascii_hexdigit() || *b == b'-') {
                    out.truncate(start);
                    out.extend_from_slice(text);
                }
            }
            Form::Bits => {
                let zeros = text.iter().take_while(|b| **b == b'0').count();
                out.extend_from_slice(match &text[zeros.min(text.len().saturating_sub(1))..] {
                    b"t" => b"1",
                    b"f" => b"0",
                    bits => bits,
                });
            }
            Form::Network => network(text, out),
            Form::Array(element) => {
                let start = out.len();
                if array(text, element, out).is_none() {
                    out.truncate(start);
                    out.extend_from_slice(text);
                }
            }
        }
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
        // A truth value that a rule computes is kept as a number.
        out.extend_from_slice(match text {
            b"t" => b"1",
            b"f" => b"0",
            other => other,
        });
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

/// Without `+00`, and without zeros at the end of a second's fraction. With `midnight`, a day has that time.
fn moment(text: &[u8], midnight: bool, out: &mut Vec<u8>) {
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
    if midnight && text.contains(&b'-') && text.iter().all(|b| b.is_ascii_digit() || *b == b'-') {
        out.extend_from_slice(b" 00:00:00");
    }
    out.extend_from_slice(era);
}

/// The address, and how many of its bits count if not all of them do.
fn network(text: &[u8], out: &mut Vec<u8>) {
    let read = |text: &[u8]| -> Option<String> {
        let text = std::str::from_utf8(text).ok()?;
        let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let address: core::net::IpAddr = address.parse().ok()?;
        let all = if address.is_ipv4() { "32" } else { "128" };
        Some(match bits.filter(|b| *b != all) {
            Some(bits) => format!("{address}/{bits}"),
            None => address.to_string(),
        })
    };
    match read(text) {
        Some(address) => out.extend_from_slice(address.as_bytes()),
        None => out.extend_from_slice(text),
    }
}

/// `{1,"a b",NULL}` with every element in its own form; `None` if it is no array.
fn array(text: &[u8], element: &Form, out: &mut Vec<u8>) -> Option<()> {
    // `[0:1]={1,2}`: lower bounds other than one.
    let from = if text.first() == Some(&b'[') { text.iter().position(|b| *b == b'=')? + 1 } else { 0 };
    let mut rest = text.get(from..)?.iter().copied().peekable();
    let mut value = Vec::new();
    let mut deep = 0_usize;
    while let Some(b) = rest.next() {
        match b {
            b'{' => deep += 1,
            b'}' => deep = deep.checked_sub(1)?,
            b',' => {}
            first => {
                value.clear();
                let quoted = first == b'"';
                let mut next = if quoted { rest.next() } else { Some(first) };
                loop {
                    match next? {
                        b'"' if quoted => break,
                        b'\\' => value.push(rest.next()?),
                        b => value.push(b),
                    }
                    if !quoted && matches!(rest.peek(), None | Some(b',' | b'}')) {
                        break;
                    }
                    next = rest.next();
                }
                let null = !quoted && value.eq_ignore_ascii_case(b"null");
                element.append(if null { Datum::Null } else { Datum::Text(&value) }, out);
                continue;
            }
        }
        out.push(b);
    }
    (deep == 0).then_some(())
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
#[path = "canon_tests.rs"]
mod tests;
