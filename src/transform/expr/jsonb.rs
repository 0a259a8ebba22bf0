//! What operators and functions do with JSON texts: parts of them are found without being copied.

use std::cmp::Ordering;

use bumpalo::Bump;

use super::EvalError;
use super::array;
use super::json::{BAD, Reader, Value, object, unescape};
use super::node::{R, V, fail};
use super::ops::{int, text};
use super::resolve::Signature;
use super::types::Base::{self, *};

/// Equal or not; there is no order here.
pub(super) fn compare_equal(a: &[u8], b: &[u8]) -> Result<Ordering, EvalError> {
    let equal = a == b || Value::parse(a)?.same(&Value::parse(b)?);
    Ok(if equal { Ordering::Equal } else { Ordering::Less })
}

/// `jsonb || jsonb`.
pub(super) fn concat<'a>(bump: &'a Bump, a: &[u8], b: &[u8]) -> R<'a> {
    let joined = match (Value::parse(a)?, Value::parse(b)?) {
        (Value::Object(mut a), Value::Object(b)) => {
            a.extend(b);
            object(a)
        }
        (a, b) => {
            let items = |v| match v {
                Value::Array(items) => items,
                other => vec![other],
            };
            let mut all = items(a);
            all.extend(items(b));
            Value::Array(all)
        }
    };
    Ok(joined.value(bump))
}

/// A `jsonb` scalar as boolean or numeric.
pub(super) fn scalar<'a>(text: &'a [u8], wanted: &str) -> R<'a> {
    match (text.first(), wanted) {
        (Some(b't'), "boolean") => Ok(V::Bool(true)),
        (Some(b'f'), "boolean") => Ok(V::Bool(false)),
        (Some(b'-' | b'0'..=b'9'), "numeric") => Ok(V::Str(text)),
        _ => fail(format!("cannot cast this jsonb value to type {wanted}")),
    }
}

/// The value of a key: the last one, as the server takes it.
fn member<'t>(text: &'t [u8], key: &[u8]) -> Result<Option<&'t [u8]>, EvalError> {
    let mut r = Reader { text, at: 0 };
    if !r.take(b'{') || r.take(b'}') {
        return Ok(None);
    }
    let mut found = None;
    loop {
        let raw = r.raw_string()?;
        if !r.take(b':') {
            return fail(BAD);
        }
        let same = if raw.contains(&b'\\') { unescape(raw)?.as_bytes() == key } else { raw == key };
        let value = r.skip(0)?;
        if same {
            found = Some(value);
        }
        if !r.take(b',') {
            return Ok(found);
        }
    }
}

fn items(text: &[u8]) -> Result<Option<Vec<&[u8]>>, EvalError> {
    let mut r = Reader { text, at: 0 };
    if !r.take(b'[') {
        return Ok(None);
    }
    let mut all = Vec::new();
    if !r.take(b']') {
        loop {
            all.push(r.skip(0)?);
            if !r.take(b',') {
                break;
            }
        }
    }
    Ok(Some(all))
}

fn item(text: &[u8], index: i64) -> Result<Option<&[u8]>, EvalError> {
    let Some(all) = items(text)? else { return Ok(None) };
    let at = if index < 0 { index + all.len() as i64 } else { index };
    Ok(usize::try_from(at).ok().and_then(|at| all.get(at).copied()))
}

/// What a found value is: itself, or as text.
fn given<'a>(bump: &'a Bump, found: Option<&'a [u8]>, as_text: bool) -> R<'a> {
    Ok(match found {
        None => V::Null,
        Some(b"null") if as_text => V::Null,
        Some([b'"', inside @ .., b'"']) if as_text => {
            if inside.contains(&b'\\') {
                V::Str(bump.alloc_str(&unescape(inside)?).as_bytes())
            } else {
                V::Str(inside)
            }
        }
        Some(value) => V::Str(value),
    })
}

/// `->` and `->>`.
pub(super) fn arrows(as_text: bool) -> Vec<Signature> {
    let mut all = Vec::new();
    for base in [Json, Jsonb] {
        let result = if as_text { Text } else { base.clone() };
        all.push(
            Signature::new(&[base.clone(), Text], result.clone(), move |bump, v| {
                given(bump, member(text(v[0])?, text(v[1])?)?, as_text)
            })
            .or_null(),
        );
        all.push(
            Signature::new(&[base.clone(), Int4], result, move |bump, v| {
                let (t, index) = (text(v[0])?, int(v[1])?);
                // A scalar of `jsonb` is stored as an array of one, and can be taken out of it.
                let alone = base == Jsonb && matches!(index, 0 | -1) && !matches!(t.first(), Some(b'{' | b'['));
                given(bump, if alone { Some(t) } else { item(t, index)? }, as_text)
            })
            .or_null(),
        );
    }
    all
}

/// `#>` and `#>>`.
pub(super) fn paths(as_text: bool) -> Vec<Signature> {
    let make = |base: Base| {
        let result = if as_text { Text } else { base.clone() };
        Signature::new(&[base, Array(Box::new(Text))], result, move |bump, v| {
            let mut at = text(v[0])?.trim_ascii();
            for step in array::elements(bump, text(v[1])?)? {
                let Some(step) = step else { return Ok(V::Null) };
                let found = match at.first() {
                    Some(b'{') => member(at, step)?,
                    Some(b'[') => match super::ops::parse_int(step) {
                        Some(index) => item(at, index)?,
                        None => None,
                    },
                    _ => None,
                };
                let Some(found) = found else { return Ok(V::Null) };
                at = found;
            }
            given(bump, Some(at), as_text)
        })
        .or_null()
    };
    vec![make(Json), make(Jsonb)]
}

/// `jsonb_array_length`, `json_array_length`.
pub(super) fn length<'a>(_: &'a Bump, v: &[V<'a>]) -> R<'a> {
    match items(text(v[0])?)? {
        Some(all) => Ok(V::Int(all.len() as i64)),
        None => fail("cannot get the array length of what is no array"),
    }
}

/// `jsonb_typeof`.
pub(super) fn type_of<'a>(_: &'a Bump, v: &[V<'a>]) -> R<'a> {
    Ok(V::Str(match text(v[0])?.trim_ascii_start().first() {
        Some(b'{') => b"object",
        Some(b'[') => b"array",
        Some(b'"') => b"string",
        Some(b't' | b'f') => b"boolean",
        Some(b'n') => b"null",
        _ => b"number",
    }))
}
