//! Values on their way into statements and LOAD DATA: canonical text in, MySQL's spelling out. Pure.
//!
//! MySQL loses what does not fit without a word in places where its strict mode does not look (digits behind the point,
//! blanks at the end, a label's number in place of the label, numbers in JSON), and LOAD DATA LOCAL turns every error
//! into a warning. What would be lost is refused here, before anything is sent.

use super::forms::Form;
use crate::mywire::quote::put_literal;
use crate::mywire::server::Flavour;

/// A value in the form in which it can be written.
#[derive(Debug, PartialEq, Eq)]
pub enum Cooked<'a> {
    /// Digits, with point and exponent where the type has them: needs no quotes.
    Number(&'a [u8]),
    /// A binary floating-point number: in a statement it must not be taken for a decimal.
    Float(&'a [u8]),
    /// Text.
    Text(&'a [u8]),
    /// Pairs of hexadecimal digits that stand for bytes.
    Hex(&'a [u8]),
    /// A string of `0` and `1`.
    Bits(&'a [u8]),
}

/// Why a value cannot be written, in words that follow the column's name.
pub type Misfit = &'static str;

const NO_NUMBER: Misfit = "holds a value that is no number of MySQL's (NaN, infinity, or no number at all)";
const RANGE: Misfit = "holds a number that is too large for the target's column";
const DIGITS: Misfit = "holds a number with more digits behind the point than the target's column keeps";
const LENGTH: Misfit = "holds a text that is longer than the target's column";
const NO_DATE: Misfit =
    "holds a date or time that MySQL does not have (infinity, before the year 0, after 9999, or with an offset)";
const FRACTION: Misfit = "holds a time with more digits behind the second than the target's column keeps";
const NO_BYTES: Misfit = "holds a text where the target's column takes bytes";
const LABEL: Misfit = "holds a label that the target's column does not have";
const EXACT: Misfit = "holds a number that the target's binary floating point cannot hold exactly";
const JSON_NUMBER: Misfit = "holds JSON with a number that MySQL would round (a whole number beyond 64 bits, or more digits than a double keeps)";

/// Brings a value into the form's spelling. `room` is used where the text has to be rewritten.
///
/// # Errors
/// Why it would not arrive as it is.
pub fn cook<'a>(form: &Form, flavour: Flavour, text: &'a [u8], room: &'a mut Vec<u8>) -> Result<Cooked<'a>, Misfit> {
    match form {
        Form::Int { bits, unsigned } => int(text, *bits, *unsigned),
        Form::Decimal { precision, scale, unsigned } => decimal(text, *precision, *scale, *unsigned),
        Form::Float => {
            let n = float(text)?;
            let narrow = n as f32;
            // A double whose shortest form is that of a float is that float.
            if !narrow.is_finite() || narrow.to_string().parse::<f64>() != Ok(n) {
                return Err(if narrow.is_finite() { EXACT } else { RANGE });
            }
            Ok(Cooked::Float(text))
        }
        Form::Double => {
            let n = float(text)?;
            if !exactly(text, n) {
                return Err(EXACT);
            }
            Ok(Cooked::Float(text))
        }
        Form::Char(n) => {
            // A blank-padded text of the source has all its characters, blanks included; the server takes them off.
            let kept = text.trim_ascii_end_blanks();
            if kept.len() > *n as usize && chars(kept) > *n as usize {
                return Err(LENGTH);
            }
            if kept.len() != text.len() && chars(text) < *n as usize {
                return Err("holds a text that ends in blanks, which a column of type char does not keep");
            }
            Ok(Cooked::Text(kept))
        }
        Form::Varchar(n) => {
            // The server cuts blanks at the end with no more than a note.
            if text.len() > *n as usize && chars(text) > *n as usize {
                return Err(LENGTH);
            }
            Ok(Cooked::Text(text))
        }
        Form::Text(bytes) => {
            if text.len() as u64 > *bytes {
                return Err(LENGTH);
            }
            Ok(Cooked::Text(text))
        }
        Form::Binary(n) => {
            let digits = match text.strip_prefix(b"\\x") {
                Some(digits) => digits,
                None => uuid_digits(text, room).ok_or(NO_BYTES)?,
            };
            if digits.len() != 2 * *n as usize {
                return Err("holds a number of bytes other than that of the target's column of type binary");
            }
            hex(digits)
        }
        Form::Blob(most) => {
            let digits = match text.strip_prefix(b"\\x") {
                Some(digits) => digits,
                None if *most == 16 => uuid_digits(text, room).ok_or(NO_BYTES)?,
                None => return Err(NO_BYTES),
            };
            if digits.len() as u64 / 2 > *most {
                return Err("holds more bytes than the target's column takes");
            }
            hex(digits)
        }
        Form::Geometry => hex(text.strip_prefix(b"\\x").ok_or(NO_BYTES)?),
        Form::Bit(n) => {
            let bits = match text {
                b"t" => b"1",
                b"f" => b"0",
                other => other,
            };
            if bits.is_empty() || !bits.iter().all(|b| matches!(b, b'0' | b'1')) {
                return Err("holds something else than bits");
            }
            if bits.len() > *n as usize && bits[..bits.len() - *n as usize].contains(&b'1') {
                return Err("holds more bits than the target's column takes");
            }
            Ok(Cooked::Bits(&bits[bits.len().saturating_sub(*n as usize)..]))
        }
        Form::Date => {
            let rest = date(text).ok_or(NO_DATE)?;
            if rest.is_empty() { Ok(Cooked::Text(text)) } else { Err(NO_DATE) }
        }
        Form::Datetime(fraction) | Form::Timestamp(fraction) => {
            let text = utc(text);
            let rest = date(text).ok_or(NO_DATE)?;
            if !rest.is_empty() {
                let rest = rest.strip_prefix(b" ").ok_or(NO_DATE)?;
                clock(rest, *fraction, false)?;
            }
            Ok(Cooked::Text(text))
        }
        Form::Time(fraction) => {
            clock(text.strip_prefix(b"-").unwrap_or(text), *fraction, true)?;
            Ok(Cooked::Text(text))
        }
        Form::Year => match text {
            // As text `0` would be the year 2000.
            b"0" | b"0000" => Ok(Cooked::Text(b"0000")),
            t if t.len() == 4 && t.iter().all(u8::is_ascii_digit) => Ok(Cooked::Text(t)),
            _ => Err("holds a year that MySQL does not have"),
        },
        Form::Enum(labels) => {
            // The server takes a text of digits that is no label for a label's number.
            if labels.iter().any(|l| l.as_bytes() == text) { Ok(Cooked::Text(text)) } else { Err(LABEL) }
        }
        Form::Set(labels) => {
            let known = |part: &[u8]| labels.iter().any(|l| l.as_bytes() == part);
            if text.is_empty() || text.split(|b| *b == b',').all(known) { Ok(Cooked::Text(text)) } else { Err(LABEL) }
        }
        Form::Json => {
            if flavour == Flavour::Mysql && !json_numbers_survive(text) {
                return Err(JSON_NUMBER);
            }
            Ok(Cooked::Text(text))
        }
        Form::Other => Ok(Cooked::Text(text)),
    }
}

trait Blanks {
    fn trim_ascii_end_blanks(&self) -> &[u8];
}

impl Blanks for [u8] {
    fn trim_ascii_end_blanks(&self) -> &[u8] {
        let end = self.iter().rposition(|b| *b != b' ').map_or(0, |at| at + 1);
        &self[..end]
    }
}

/// Characters of a UTF-8 text.
fn chars(text: &[u8]) -> usize {
    text.iter().filter(|b| (**b as i8) >= -0x40).count()
}

fn hex(digits: &[u8]) -> Result<Cooked<'_>, Misfit> {
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(NO_BYTES);
    }
    Ok(Cooked::Hex(digits))
}

/// The digits of a UUID without what stands between them.
fn uuid_digits<'a>(text: &[u8], room: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    if text.len() != 36 {
        return None;
    }
    room.clear();
    room.extend(text.iter().filter(|b| **b != b'-'));
    (room.len() == 32).then_some(room.as_slice())
}

fn int(text: &[u8], bits: u8, unsigned: bool) -> Result<Cooked<'_>, Misfit> {
    let text = match text {
        b"t" => b"1",
        b"f" => b"0",
        other => other,
    };
    // An exact decimal may say its zeros.
    let (whole, zeros) = match text.iter().position(|b| *b == b'.') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &text[..0]),
    };
    if zeros.iter().any(|b| *b != b'0') {
        return Err(if zeros.iter().all(u8::is_ascii_digit) { DIGITS } else { NO_NUMBER });
    }
    let (negative, digits) = match whole {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(NO_NUMBER);
    }
    let digits = &digits[digits.iter().take_while(|b| **b == b'0').count()..];
    if digits.len() > 20 {
        return Err(RANGE);
    }
    let n = digits.iter().fold(0_i128, |n, d| n * 10 + i128::from(d - b'0'));
    let n = if negative { -n } else { n };
    let (least, most) =
        if unsigned { (0, (1_i128 << bits) - 1) } else { (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1) };
    if n < least || n > most { Err(RANGE) } else { Ok(Cooked::Number(whole)) }
}

fn decimal(text: &[u8], precision: u32, scale: u32, unsigned: bool) -> Result<Cooked<'_>, Misfit> {
    let text = match text {
        b"t" => b"1",
        b"f" => b"0",
        other => other,
    };
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let (whole, behind) = match digits.iter().position(|b| *b == b'.') {
        Some(at) => (&digits[..at], &digits[at + 1..]),
        None => (digits, &digits[..0]),
    };
    if whole.len() + behind.len() == 0 || !whole.iter().chain(behind).all(u8::is_ascii_digit) {
        return Err(NO_NUMBER);
    }
    let leading = whole.iter().take_while(|b| **b == b'0').count();
    if whole.len() - leading > (precision.saturating_sub(scale)) as usize {
        return Err(RANGE);
    }
    if unsigned && negative && whole.iter().chain(behind).any(|b| *b != b'0') {
        return Err(RANGE);
    }
    if behind.len() > scale as usize {
        if behind[scale as usize..].iter().any(|b| *b != b'0') {
            return Err(DIGITS);
        }
        // Digits that say nothing are left out: the server would speak of truncation.
        let cut = text.len() - (behind.len() - scale as usize);
        let cut = if scale == 0 { cut - 1 } else { cut };
        return Ok(Cooked::Number(&text[..cut]));
    }
    Ok(Cooked::Number(text))
}

fn float(text: &[u8]) -> Result<f64, Misfit> {
    if !text.iter().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E')) {
        return Err(NO_NUMBER);
    }
    let n: f64 = std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()).ok_or(NO_NUMBER)?;
    if n.is_finite() { Ok(n) } else { Err(RANGE) }
}

/// Whether the double has all the digits of the text. Up to 15 digits it always has (IEEE 754).
fn exactly(text: &[u8], n: f64) -> bool {
    if text.iter().filter(|b| b.is_ascii_digit()).count() <= 15 {
        return true;
    }
    let shortest = n.to_string();
    significant(text) == significant(shortest.as_bytes())
}

/// The significant digits of a number, and the power of ten of the first one.
fn significant(text: &[u8]) -> (Vec<u8>, i64) {
    let (mantissa, exponent) = match text.iter().position(|b| matches!(b, b'e' | b'E')) {
        Some(at) => {
            let e = std::str::from_utf8(&text[at + 1..]).ok().and_then(|t| t.trim_start_matches('+').parse().ok());
            (&text[..at], e.unwrap_or(0))
        }
        None => (text, 0_i64),
    };
    let mut digits = Vec::new();
    let mut point: Option<i64> = None;
    let mut before = 0_i64;
    for b in mantissa {
        match b {
            b'.' => point = Some(before),
            b'0' if digits.is_empty() => before += 1,
            b if b.is_ascii_digit() => {
                if digits.is_empty() {
                    // Its own place counts from the first digit of the text.
                    digits.reserve(20);
                }
                digits.push(*b);
                before += 1;
            }
            _ => {}
        }
    }
    let point = point.unwrap_or(before);
    let leading = before - digits.len() as i64;
    while digits.last() == Some(&b'0') {
        digits.pop();
    }
    if digits.is_empty() { (digits, 0) } else { (digits, point - leading + exponent) }
}

/// `+00` is what an instant ends in.
fn utc(text: &[u8]) -> &[u8] {
    text.strip_suffix(b"+00").unwrap_or(text)
}

fn two(text: &[u8]) -> Option<(u8, &[u8])> {
    match text {
        [a, b, rest @ ..] if a.is_ascii_digit() && b.is_ascii_digit() => Some(((a - b'0') * 10 + b - b'0', rest)),
        _ => None,
    }
}

/// What follows a date of four, two and two digits. Whether there is such a day the server says.
fn date(text: &[u8]) -> Option<&[u8]> {
    let (_, rest) = two(text)?;
    let (_, rest) = two(rest)?;
    let (_, rest) = two(rest.strip_prefix(b"-")?)?;
    let (_, rest) = two(rest.strip_prefix(b"-")?)?;
    Some(rest)
}

fn clock(text: &[u8], fraction: u8, span: bool) -> Result<(), Misfit> {
    let hours = text.iter().take_while(|b| b.is_ascii_digit()).count();
    if hours < 2 || hours > if span { 3 } else { 2 } {
        return Err(NO_DATE);
    }
    let rest = text[hours..].strip_prefix(b":").and_then(two).ok_or(NO_DATE)?.1;
    let rest = rest.strip_prefix(b":").and_then(two).ok_or(NO_DATE)?.1;
    let Some(digits) = rest.strip_prefix(b".") else { return if rest.is_empty() { Ok(()) } else { Err(NO_DATE) } };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(NO_DATE);
    }
    if digits.iter().skip(fraction.into()).any(|b| *b != b'0') { Err(FRACTION) } else { Ok(()) }
}

/// Whether MySQL's JSON, which has 64-bit integers and doubles, keeps every number.
fn json_numbers_survive(text: &[u8]) -> bool {
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'"' => {
                at += 1;
                while at < text.len() && text[at] != b'"' {
                    at += if text[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let end = text[at..]
                    .iter()
                    .position(|b| !matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
                    .map_or(text.len(), |n| at + n);
                let number = &text[at..end];
                at = end;
                if number.len() <= 15 {
                    continue;
                }
                let whole = !number.iter().any(|b| matches!(b, b'.' | b'e' | b'E'));
                let Ok(t) = std::str::from_utf8(number) else { return false };
                let kept = if whole {
                    t.parse::<i64>().is_ok() || t.parse::<u64>().is_ok()
                } else {
                    t.parse::<f64>().is_ok_and(|n| n.is_finite() && exactly(number, n))
                };
                if !kept {
                    return false;
                }
            }
            _ => at += 1,
        }
    }
    true
}

impl Cooked<'_> {
    /// Appends it as a literal of a statement.
    pub fn put_sql(&self, out: &mut Vec<u8>) {
        match self {
            Cooked::Number(n) => out.extend_from_slice(n),
            Cooked::Float(n) => {
                out.extend_from_slice(n);
                // Without an exponent it would be an exact decimal.
                if !n.iter().any(|b| matches!(b, b'e' | b'E')) {
                    out.extend_from_slice(b"e0");
                }
            }
            Cooked::Text(t) => put_literal(out, t),
            Cooked::Hex(digits) => {
                out.extend_from_slice(b"x'");
                out.extend_from_slice(digits);
                out.push(b'\'');
            }
            Cooked::Bits(bits) => {
                out.extend_from_slice(b"b'");
                out.extend_from_slice(bits);
                out.push(b'\'');
            }
        }
    }

    /// Appends it as a field of LOAD DATA with `FIELDS TERMINATED BY '\t' ESCAPED BY '\\' LINES TERMINATED BY '\n'`.
    pub fn put_field(&self, out: &mut Vec<u8>) {
        match self {
            Cooked::Number(t) | Cooked::Float(t) => out.extend_from_slice(t),
            Cooked::Text(t) => put_escaped(out, t),
            Cooked::Hex(digits) => {
                let half = |d: u8| (d as char).to_digit(16).unwrap_or(0) as u8;
                for pair in digits.chunks_exact(2) {
                    put_byte(out, half(pair[0]) << 4 | half(pair[1]));
                }
            }
            Cooked::Bits(bits) => {
                let mut first = bits.len() % 8;
                if first == 0 {
                    first = 8.min(bits.len());
                }
                let byte = |bits: &[u8]| bits.iter().fold(0_u8, |n, b| n << 1 | (b & 1));
                put_byte(out, byte(&bits[..first]));
                for eight in bits[first..].chunks(8) {
                    put_byte(out, byte(eight));
                }
            }
        }
    }
}

fn put_byte(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'\t' => out.extend_from_slice(b"\\t"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\\' => out.extend_from_slice(b"\\\\"),
        0 => out.extend_from_slice(b"\\0"),
        other => out.push(other),
    }
}

fn put_escaped(out: &mut Vec<u8>, mut text: &[u8]) {
    while let Some(at) = text.iter().position(|b| matches!(b, b'\\' | b'\t' | b'\n' | b'\r' | 0)) {
        out.extend_from_slice(&text[..at]);
        put_byte(out, text[at]);
        text = &text[at + 1..];
    }
    out.extend_from_slice(text);
}

#[cfg(test)]
#[path = "values_tests.rs"]
mod tests;
