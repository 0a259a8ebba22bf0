//! From one type to another, as PostgreSQL's casts do, and from a value to its canonical text.

use std::borrow::Cow;

use bumpalo::Bump;

use super::node::{Fun, V, fail, fun, truth};
use super::numeric::Dec;
use super::ops::{in_range, int, joined, parse_int, str_in, text, unpadded, utf8};
use super::types::Base::{self, *};
use super::{EvalError, array, datetime, float, json, jsonb};

/// What a cast does.
pub(super) enum Step {
    /// Nothing: the value is the same.
    Same,
    Do(Fun),
    Missing,
}

/// Names that the server has by itself and that are only carried here: their text must come from a server.
pub(super) fn is_built_in(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "money",
        "inet",
        "cidr",
        "macaddr",
        "macaddr8",
        "bit",
        "bit varying",
        "varbit",
        "point",
        "line",
        "lseg",
        "box",
        "path",
        "polygon",
        "circle",
        "tsvector",
        "tsquery",
        "int4range",
        "int8range",
        "numrange",
        "tsrange",
        "tstzrange",
        "daterange",
        "pg_lsn",
        "xml",
        "oid",
        "name",
        "time with time zone",
        "timetz",
        "regclass",
        "xid",
        "jsonpath",
        "string",
    ];
    NAMES.contains(&name)
}

/// The canonical text of a value.
pub(super) fn render<'a>(bump: &'a Bump, v: V<'a>, base: &Base) -> Result<Option<&'a [u8]>, EvalError> {
    Ok(Some(match v {
        V::Null => return Ok(None),
        V::Str(t) => t,
        V::Bool(b) => {
            if b {
                b"t"
            } else {
                b"f"
            }
        }
        V::Int(n) => match base {
            Date => datetime::print_date(bump, n),
            Time => datetime::print_time(bump, n),
            Timestamp => datetime::print_timestamp(bump, n, false),
            TimestampTz => datetime::print_timestamp(bump, n, true),
            _ => print_int(bump, n),
        },
        V::Float(x) => bump.alloc_str(&float::print(x, *base == Float4)).as_bytes(),
    }))
}

fn print_int(bump: &Bump, n: i64) -> &[u8] {
    // The longest is the smallest 64-bit number with its sign.
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = n.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if n < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    bump.alloc_slice_copy(&digits[at..])
}

/// The cast between two types. Whether it may happen is decided elsewhere.
pub(super) fn between(from: &Base, to: &Base) -> Step {
    if from == to {
        return Step::Same;
    }
    match (from, to) {
        (Unknown, Other(name)) if is_built_in(name) => Step::Missing,
        (Unknown | Text | Varchar, Text | Varchar | Bpchar) | (Unknown, Unknown) => Step::Same,
        (Bpchar, Text | Varchar) => done(|_, v| Ok(V::Str(unpadded(text(v[0])?)))),
        (Int2 | Int4 | Int8, Int2 | Int4 | Int8) => match (from, to) {
            (Int2, _) | (Int4, Int8) => Step::Same,
            _ => {
                let to = to.clone();
                done(move |_, v| Ok(V::Int(in_range(Some(int(v[0])?), &to)?)))
            }
        },
        (Int2 | Int4 | Int8, Numeric) => Step::Same,
        (Int2 | Int4 | Int8, Float4) => done(|_, v| Ok(V::Float(f64::from(int(v[0])? as f32)))),
        (Int2 | Int4 | Int8, Float8) => done(|_, v| Ok(V::Float(int(v[0])? as f64))),
        (Numeric, Int2 | Int4 | Int8) => {
            let to = to.clone();
            done(move |_, v| Ok(V::Int(in_range(Some(Dec::of(v[0])?.to_int()?), &to)?)))
        }
        (Numeric, Float4 | Float8) => {
            let single = *to == Float4;
            done(move |_, v| Ok(V::Float(float::parse(Dec::of(v[0])?.print().as_bytes(), single)?)))
        }
        (Float4 | Float8, Int2 | Int4 | Int8) => {
            let (single, to) = (*from == Float4, to.clone());
            done(move |_, v| Ok(V::Int(in_range(Some(float::to_int(float::of(v[0], single)?)?), &to)?)))
        }
        (Float4 | Float8, Numeric) => {
            let single = *from == Float4;
            done(move |bump, v| Ok(float::to_numeric(float::of(v[0], single)?, single)?.value(bump)))
        }
        (Float4, Float8) => done(|_, v| Ok(V::Float(float::of(v[0], true)?))),
        (Float8, Float4) => done(|_, v| {
            let x = float::of(v[0], false)?;
            let y = f64::from(x as f32);
            if (y.is_infinite() && !x.is_infinite()) || (y == 0.0 && x != 0.0) {
                return fail("value out of range for type real");
            }
            Ok(V::Float(y))
        }),
        (Bool, Text | Varchar | Bpchar) => {
            done(|_, v| Ok(V::Str(if truth(v[0])? == Some(true) { b"true" } else { b"false" })))
        }
        (Bool, Int4) => done(|_, v| Ok(V::Int(i64::from(truth(v[0])? == Some(true))))),
        (Int4, Bool) => done(|_, v| Ok(V::Bool(int(v[0])? != 0))),
        (Json, Jsonb) => done(|bump, v| json::normalize(bump, text(v[0])?)),
        (Jsonb, Json) => Step::Same,
        (Jsonb, Bool) => done(|_, v| jsonb::scalar(text(v[0])?, "boolean")),
        (Jsonb, Numeric) => done(|_, v| jsonb::scalar(text(v[0])?, "numeric")),
        (Jsonb, Int2 | Int4 | Int8 | Float4 | Float8) => {
            let to = to.clone();
            done(move |bump, v| match jsonb::scalar(text(v[0])?, "numeric")? {
                V::Null => Ok(V::Null),
                n => match between(&Numeric, &to) {
                    Step::Do(f) => f(bump, &[n]),
                    _ => Ok(n),
                },
            })
        }
        (Date | Time | Timestamp | TimestampTz | Interval, Date | Time | Timestamp | TimestampTz | Interval) => {
            datetime::between(from, to).map_or(Step::Missing, Step::Do)
        }
        (Array(_), Array(element)) if matches!(**element, Text | Varchar) => Step::Same,
        // The one output that a cast to text does not keep: an address gets its length.
        (Other(name), Text | Varchar | Bpchar) if name == "inet" => done(|bump, v| {
            let t = text(v[0])?;
            Ok(match (t.contains(&b'/'), t.contains(&b':')) {
                (true, _) => v[0],
                (false, true) => joined(bump, &[t, b"/128"]),
                (false, false) => joined(bump, &[t, b"/32"]),
            })
        }),
        (_, Text | Varchar | Bpchar) => {
            let from = from.clone();
            done(move |bump, v| Ok(render(bump, v[0], &from)?.map_or(V::Null, V::Str)))
        }
        (Unknown | Text | Varchar | Bpchar, _) => input(to),
        (Other(_), Other(_)) => Step::Same,
        _ => Step::Missing,
    }
}

fn done<F>(f: F) -> Step
where
    F: for<'a> Fn(&'a Bump, &[V<'a>]) -> super::node::R<'a> + Send + Sync + 'static,
{
    Step::Do(fun(f))
}

/// Reads a text as the type's input function does.
fn input(to: &Base) -> Step {
    match to {
        Bool => done(|_, v| Ok(V::Bool(read_bool(text(v[0])?)?))),
        Int2 | Int4 | Int8 => {
            let to = to.clone();
            done(move |_, v| {
                let t = text(v[0])?.trim_ascii();
                let digits = t.strip_prefix(b"+").or_else(|| t.strip_prefix(b"-")).unwrap_or(t);
                if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                    return fail(format!("invalid input syntax for type {to}"));
                }
                Ok(V::Int(in_range(parse_int(t), &to)?))
            })
        }
        Numeric => done(|bump, v| Ok(Dec::parse(text(v[0])?)?.value(bump))),
        Float4 => done(|_, v| Ok(V::Float(float::parse(text(v[0])?, true)?))),
        Float8 => done(|_, v| Ok(V::Float(float::parse(text(v[0])?, false)?))),
        Bytes => done(|bump, v| {
            let bytes = read_bytes(text(v[0])?)?;
            Ok(hex_in(bump, &bytes))
        }),
        Uuid => done(|bump, v| Ok(str_in(bump, &read_uuid(text(v[0])?)?))),
        Json => done(|_, v| {
            json::validate(text(v[0])?)?;
            Ok(v[0])
        }),
        Jsonb => done(|bump, v| json::normalize(bump, text(v[0])?)),
        Date | Time | Timestamp | TimestampTz | Interval => datetime::input(to).map_or(Step::Missing, Step::Do),
        Array(element) => {
            let Some(element_input) = element_input(element) else { return Step::Missing };
            done(move |bump, v| array::read(bump, text(v[0])?, &element_input))
        }
        Other(name) if is_built_in(name) => Step::Missing,
        Other(_) => Step::Same,
        _ => Step::Missing,
    }
}

/// How an array's elements are read: text to canonical text.
fn element_input(element: &Base) -> Option<Fun> {
    let element = element.clone();
    if element.is_text() {
        return Some(fun(|_, v| Ok(v[0])));
    }
    match input(&element) {
        Step::Do(f) => Some(fun(move |bump, v| Ok(render(bump, f(bump, v)?, &element)?.map_or(V::Null, V::Str)))),
        _ => None,
    }
}

/// `boolin`: any beginning of true, false, yes, no; on, off; 1, 0.
fn read_bool(t: &[u8]) -> Result<bool, EvalError> {
    let t = t.trim_ascii().to_ascii_lowercase();
    let begins = |word: &str| !t.is_empty() && word.as_bytes().starts_with(&t);
    if begins("true") || begins("yes") || t == b"on" || t == b"1" {
        Ok(true)
    } else if begins("false") || begins("no") || t == b"off" || t == b"of" || t == b"0" {
        Ok(false)
    } else {
        fail("invalid input syntax for type boolean")
    }
}

/// `uuid_in`: hyphens after any group of four digits, braces around.
pub(super) fn read_uuid(t: &[u8]) -> Result<String, EvalError> {
    let bad = || fail("invalid input syntax for type uuid");
    let t = match t {
        [b'{', inner @ .., b'}'] => inner,
        t => t,
    };
    let mut digits = String::with_capacity(36);
    let mut count = 0;
    for (at, &b) in t.iter().enumerate() {
        if b == b'-' {
            if count == 0 || count % 4 != 0 || count >= 32 || t[at - 1] == b'-' {
                return bad();
            }
            continue;
        }
        if !b.is_ascii_hexdigit() || count == 32 {
            return bad();
        }
        if matches!(count, 8 | 12 | 16 | 20) {
            digits.push('-');
        }
        digits.push(char::from(b.to_ascii_lowercase()));
        count += 1;
    }
    if count == 32 { Ok(digits) } else { bad() }
}

/// `byteain`: `\x` and digits, or the escape form.
fn read_bytes(t: &[u8]) -> Result<Vec<u8>, EvalError> {
    let bad = || fail("invalid input syntax for type bytea");
    if let Some(hex) = t.strip_prefix(b"\\x") {
        return unhex(hex);
    }
    let mut out = Vec::with_capacity(t.len());
    let mut rest = t;
    while let [b, tail @ ..] = rest {
        rest = tail;
        if *b != b'\\' {
            out.push(*b);
            continue;
        }
        match tail {
            [b'\\', after @ ..] => {
                out.push(b'\\');
                rest = after;
            }
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] => {
                out.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = after;
            }
            _ => return bad(),
        }
    }
    Ok(out)
}

/// Pairs of hexadecimal digits, white space between pairs.
pub(super) fn unhex(hex: &[u8]) -> Result<Vec<u8>, EvalError> {
    let mut out = Vec::with_capacity(hex.len() / 2);
    let mut high = None;
    for &b in hex {
        if high.is_none() && matches!(b, b' ' | b'\n' | b'\t' | b'\r') {
            continue;
        }
        let Some(digit) = char::from(b).to_digit(16) else { return fail("invalid hexadecimal digit") };
        match high.take() {
            None => high = Some(digit),
            Some(h) => out.push((h * 16 + digit) as u8),
        }
    }
    if high.is_some() { fail("invalid hexadecimal data: odd number of digits") } else { Ok(out) }
}

/// The bytes that a canonical `bytea` text stands for.
pub(super) fn bytes_of(v: V<'_>) -> Result<Vec<u8>, EvalError> {
    let t = text(v)?;
    unhex(t.strip_prefix(b"\\x").unwrap_or(t))
}

/// Canonical `bytea` text.
pub(super) fn hex_in<'a>(bump: &'a Bump, bytes: &[u8]) -> V<'a> {
    let mut out = bumpalo::collections::Vec::with_capacity_in(2 + bytes.len() * 2, bump);
    out.extend_from_slice_copy(b"\\x");
    hex_to(&mut out, bytes);
    V::Str(out.into_bump_slice())
}

/// Appends two digits a byte.
pub(super) fn hex_to(out: &mut bumpalo::collections::Vec<'_, u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for b in bytes {
        out.push(DIGITS[usize::from(b >> 4)]);
        out.push(DIGITS[usize::from(b & 15)]);
    }
}

/// Fits a value into a length, a precision and scale, or digits of a second; `None` where there is nothing to do.
pub(super) fn modifier(base: &Base, (a, b): (i32, i32), explicit: bool) -> Option<Fun> {
    let length = usize::try_from(a).unwrap_or(0);
    Some(match base {
        Numeric => fun(move |bump, v| Ok(Dec::of(v[0])?.fit(a, b)?.value(bump))),
        Varchar => fun(move |bump, v| cut(bump, utf8(v[0])?, length, explicit, false)),
        Bpchar => fun(move |bump, v| cut(bump, utf8(v[0])?, length, explicit, true)),
        Time | Timestamp | TimestampTz => return datetime::rounding(base, a),
        _ => return None,
    })
}

fn cut<'a>(bump: &'a Bump, t: &'a str, length: usize, explicit: bool, pad: bool) -> super::node::R<'a> {
    match t.char_indices().nth(length) {
        Some((end, _)) => {
            if !explicit && t[end..].bytes().any(|b| b != b' ') {
                let name = if pad { "character" } else { "character varying" };
                return fail(format!("value too long for type {name}({length})"));
            }
            Ok(V::Str(&t.as_bytes()[..end]))
        }
        None if pad => {
            let missing = length - t.chars().count();
            let padded: Cow<'_, str> =
                if missing == 0 { t.into() } else { format!("{t}{}", " ".repeat(missing)).into() };
            Ok(str_in(bump, &padded))
        }
        None => Ok(V::Str(t.as_bytes())),
    }
}
