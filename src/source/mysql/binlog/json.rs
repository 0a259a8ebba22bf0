//! MySQL's binary JSON, printed exactly as the server prints it.
//!
//! Source: `sql-common/json_binary.h` (the form), `json_dom.cc` (`wrapper_to_string`, `double_quote`), `dtoa.cc` (`my_gcvt`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::cursor::{Cursor, Parsed, Wrong, little};
use crate::mywire::types::render;

/// `JSON_DOCUMENT_MAX_DEPTH`: what a server refuses to store.
pub(super) const MAX_DEPTH: usize = 100;

const OBJECT: u8 = 0;
const LARGE_OBJECT: u8 = 1;
const ARRAY: u8 = 2;
const LARGE_ARRAY: u8 = 3;
pub(super) const LITERAL: u8 = 4;
const INT16: u8 = 5;
const UINT16: u8 = 6;
const INT32: u8 = 7;
const UINT32: u8 = 8;
const INT64: u8 = 9;
const UINT64: u8 = 10;
const DOUBLE: u8 = 11;
const STRING: u8 = 12;
const OPAQUE: u8 = 15;

/// One value: its type and the bytes from its beginning on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value<'a> {
    pub kind: u8,
    pub bytes: &'a [u8],
}

/// How much a document may still yield. Offsets can point anywhere, so that a few bytes could name each other's content
/// again and again; in a real document nothing is visited twice.
pub(super) struct Budget {
    left: usize,
}

impl Budget {
    pub fn of(document: usize) -> Budget {
        Budget { left: document.saturating_mul(2).saturating_add(16) }
    }
    pub fn spend(&mut self, n: usize) -> Parsed<()> {
        self.left = self.left.checked_sub(n).ok_or("a JSON document refers to parts of itself twice")?;
        Ok(())
    }
}

/// A container opened: how many entries it has and where they lie.
pub(super) struct Container<'a> {
    bytes: &'a [u8],
    pub object: bool,
    large: bool,
    pub count: usize,
}

impl<'a> Value<'a> {
    /// A whole document.
    pub fn document(bytes: &'a [u8]) -> Parsed<Value<'a>> {
        let (kind, bytes) = bytes.split_first().ok_or("an empty JSON value")?;
        Ok(Value { kind: *kind, bytes })
    }
    /// The container that it is, or `None` for a scalar.
    pub fn container(&self) -> Parsed<Option<Container<'a>>> {
        let (object, large) = match self.kind {
            OBJECT => (true, false),
            LARGE_OBJECT => (true, true),
            ARRAY => (false, false),
            LARGE_ARRAY => (false, true),
            _ => return Ok(None),
        };
        let width = if large { 4 } else { 2 };
        let mut c = Cursor::new(self.bytes);
        let count = c.uint(width)? as usize;
        let size = c.uint(width)? as usize;
        let bytes = self.bytes.get(..size).ok_or("a JSON container is larger than its value")?;
        let entry = 1 + width + if object { width + 2 } else { 0 };
        if count.saturating_mul(entry) > size.saturating_sub(2 * width) {
            return Err("a JSON container has more entries than room".into());
        }
        Ok(Some(Container { bytes, object, large, count }))
    }
}

impl<'a> Container<'a> {
    fn width(&self) -> usize {
        if self.large { 4 } else { 2 }
    }
    fn number(&self, at: usize, width: usize) -> Parsed<usize> {
        let end = at.checked_add(width).ok_or("a JSON offset overflows")?;
        Ok(little(self.bytes.get(at..end).ok_or("a JSON offset lies outside its container")?) as usize)
    }
    /// The name of entry `i` of an object.
    pub fn key(&self, i: usize) -> Parsed<&'a [u8]> {
        let w = self.width();
        let entry = 2 * w + i * (w + 2);
        let (at, len) = (self.number(entry, w)?, self.number(entry + w, 2)?);
        self.bytes.get(at..at.saturating_add(len)).ok_or_else(|| "a JSON key lies outside its object".into())
    }
    /// The value of entry `i`.
    pub fn value(&self, i: usize) -> Parsed<Value<'a>> {
        let w = self.width();
        let keys = if self.object { self.count * (w + 2) } else { 0 };
        let entry = 2 * w + keys + i * (1 + w);
        let kind = self.number(entry, 1)? as u8;
        let inline = matches!(kind, LITERAL | INT16 | UINT16) || (self.large && matches!(kind, INT32 | UINT32));
        let at = if inline { entry + 1 } else { self.number(entry + 1, w)? };
        // Every value lies behind the container's own header, so that none contains itself.
        if at < 2 * w {
            return Err("a JSON offset points back".into());
        }
        Ok(Value { kind, bytes: self.bytes.get(at..).ok_or("a JSON value lies outside its container")? })
    }
}

/// Prints a document. An empty one is what the server takes for `null`.
pub fn print(document: &[u8], out: &mut Vec<u8>) -> Parsed<()> {
    if document.is_empty() {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    value(Value::document(document)?, 0, &mut Budget::of(document.len()), out)
}

fn value(v: Value<'_>, depth: usize, budget: &mut Budget, out: &mut Vec<u8>) -> Parsed<()> {
    budget.spend(1)?;
    let Some(c) = v.container()? else { return scalar(v, budget, out) };
    if depth >= MAX_DEPTH {
        return Err("a JSON document is nested deeper than servers permit".into());
    }
    out.push(if c.object { b'{' } else { b'[' });
    for i in 0..c.count {
        if i > 0 {
            out.extend_from_slice(b", ");
        }
        if c.object {
            let key = c.key(i)?;
            budget.spend(key.len())?;
            quote(key, out)?;
            out.extend_from_slice(b": ");
        }
        value(c.value(i)?, depth + 1, budget, out)?;
    }
    out.push(if c.object { b'}' } else { b']' });
    Ok(())
}

/// Bytes of a scalar from its beginning on: what [`scalar`] prints.
pub(super) fn scalar(v: Value<'_>, budget: &mut Budget, out: &mut Vec<u8>) -> Parsed<()> {
    let mut c = Cursor::new(v.bytes);
    match v.kind {
        LITERAL => out.extend_from_slice(match c.u8()? {
            0 => b"null",
            1 => b"true",
            2 => b"false",
            _ => return Err("a JSON literal that is none of three".into()),
        }),
        INT16 => render::integer(out, c.u16()? as i16),
        UINT16 => render::integer(out, c.u16()?),
        INT32 => render::integer(out, c.u32()? as i32),
        UINT32 => render::integer(out, c.u32()?),
        INT64 => render::integer(out, c.u64()? as i64),
        UINT64 => render::integer(out, c.u64()?),
        DOUBLE => double(f64::from_bits(c.u64()?), out)?,
        STRING => {
            let text = variable(&mut c)?;
            budget.spend(text.len())?;
            quote(text, out)?;
        }
        OPAQUE => {
            let field_type = c.u8()?;
            let data = variable(&mut c)?;
            budget.spend(data.len())?;
            opaque(field_type, data, out)?;
        }
        kind => return Err(format!("JSON values of type {kind} are not known").into()),
    }
    Ok(())
}

/// Length in groups of seven bits, the lowest first, and as many bytes.
fn variable<'a>(c: &mut Cursor<'a>) -> Parsed<&'a [u8]> {
    let mut len = 0_u64;
    for shift in (0..35).step_by(7) {
        let b = c.u8()?;
        len |= u64::from(b & 0x7f) << shift;
        if b & 0x80 == 0 {
            return c.take(usize::try_from(len).map_err(|_| "a JSON length beyond all memory")?);
        }
    }
    Err("a JSON length of more than five bytes".into())
}

/// A text in double quotes, escaped as `double_quote` does.
pub(super) fn quote(text: &[u8], out: &mut Vec<u8>) -> Parsed<()> {
    std::str::from_utf8(text).map_err(|_| Wrong::from("a JSON text that is not UTF-8"))?;
    out.push(b'"');
    for &b in text {
        let short = match b {
            b'"' => b'"',
            b'\\' => b'\\',
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0..0x20 => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                // Both are below 16.
                out.extend_from_slice(&[DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]);
                continue;
            }
            _ => {
                out.push(b);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
    }
    out.push(b'"');
    Ok(())
}

/// As `my_gcvt` does with all digits: plain from 1e-15 to below 1e15 and where digits reach beyond the point, else
/// `d.ddde±x`; and `.0` behind what would look like an integer.
fn double(x: f64, out: &mut Vec<u8>) -> Parsed<()> {
    if !x.is_finite() {
        return Err("a JSON number that is not finite".into());
    }
    let text = format!("{x:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |m| ("-", m));
    let digits: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
    let point = exponent + 1;
    out.extend_from_slice(sign.as_bytes());
    let plain = (-14..=15).contains(&point) || (point > 15 && digits.len() as i32 > point);
    if !plain {
        out.extend_from_slice(mantissa.as_bytes());
        out.push(b'e');
        render::integer(out, exponent);
    } else if point <= 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', point.unsigned_abs() as usize));
        out.extend_from_slice(&digits);
    } else {
        let point = point as usize;
        out.extend_from_slice(digits.get(..point).unwrap_or(&digits));
        match digits.get(point..).filter(|fraction| !fraction.is_empty()) {
            Some(fraction) => {
                out.push(b'.');
                out.extend_from_slice(fraction);
            }
            None => {
                out.extend(std::iter::repeat_n(b'0', point - digits.len()));
                out.extend_from_slice(b".0");
            }
        }
    }
    Ok(())
}

/// Values of SQL types that JSON has none for (`Json_opaque`, `Json_decimal`, `Json_datetime`).
fn opaque(field_type: u8, data: &[u8], out: &mut Vec<u8>) -> Parsed<()> {
    match field_type {
        246 => {
            let mut c = Cursor::new(data);
            let (precision, scale) = (c.u8()?, c.u8()?);
            render::decimal(out, c.rest(), precision, scale)?;
        }
        7 | 10 | 11 | 12 => {
            let bytes: [u8; 8] = data.try_into().map_err(|_| "a JSON date or time of another length")?;
            out.push(b'"');
            packed_time(field_type, i64::from_le_bytes(bytes), out)?;
            out.push(b'"');
        }
        _ => {
            out.extend_from_slice(b"\"base64:type");
            render::integer(out, field_type);
            out.push(b':');
            // The server breaks lines after 76 characters, and escapes the breaks.
            for (i, line) in STANDARD.encode(data).as_bytes().chunks(76).enumerate() {
                if i > 0 {
                    out.extend_from_slice(b"\\n");
                }
                out.extend_from_slice(line);
            }
            out.push(b'"');
        }
    }
    Ok(())
}

/// `TIME_from_longlong_…_packed`, printed with six digits of a second.
fn packed_time(field_type: u8, packed: i64, out: &mut Vec<u8>) -> Parsed<()> {
    let size = packed.unsigned_abs();
    let (micros, whole) = ((size & 0xff_ffff) as u32, size >> 24);
    let (second, minute) = ((whole & 63) as u32, (whole >> 6 & 63) as u32);
    if micros > 999_999 {
        return Err("microseconds of a JSON time out of range".into());
    }
    if packed < 0 {
        out.push(b'-');
    }
    if field_type == 11 {
        render::clock(out, (whole >> 12 & 1023) as u32, minute, second, 0)?;
    } else {
        let (ymd, hour) = (whole >> 17, (whole >> 12 & 31) as u32);
        let (ym, day) = (ymd >> 5, (ymd & 31) as u32);
        let (year, month) = ((ym / 13) as u32, (ym % 13) as u32);
        if field_type == 10 {
            return Ok(render::date(out, year, month, day)?);
        }
        render::datetime(out, (year, month, day), (hour, minute, second), 0)?;
    }
    out.push(b'.');
    for part in [micros / 10_000, micros / 100 % 100, micros % 100] {
        render::two(out, part);
    }
    Ok(())
}
