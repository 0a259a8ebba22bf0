//! Array texts: `{a,"b c",NULL}`.

use bumpalo::Bump;

use super::EvalError;
use super::node::{Fun, R, V, fail, fun};
use super::types::Base;

/// One element's text; `None` is NULL.
pub(super) type Element<'a> = Option<&'a [u8]>;

/// A parsed array: its elements in order, and how long each dimension is.
pub(super) struct Array<'a> {
    pub elements: bumpalo::collections::Vec<'a, Element<'a>>,
    pub dimensions: Vec<(i64, i64)>,
}

const BAD: &str = "malformed array literal";

/// The elements of an array of any number of dimensions.
pub(super) fn elements<'a>(
    bump: &'a Bump,
    text: &'a [u8],
) -> Result<bumpalo::collections::Vec<'a, Element<'a>>, EvalError> {
    Ok(parse(bump, text)?.elements)
}

/// `array_in`, without the element type's own reading.
pub(super) fn parse<'a>(bump: &'a Bump, text: &'a [u8]) -> Result<Array<'a>, EvalError> {
    let mut rest = text.trim_ascii();
    let mut bounds = Vec::new();
    if rest.first() == Some(&b'[') {
        let Some(at) = rest.iter().position(|b| *b == b'=') else { return fail(BAD) };
        let head = std::str::from_utf8(&rest[..at]).or_else(|_| fail(BAD))?;
        for part in head.trim().trim_start_matches('[').trim_end_matches(']').split("][") {
            let ends = part.split_once(':').map(|(a, b)| (a.parse::<i32>(), b.parse::<i32>()));
            let Some((Ok(low), Ok(high))) = ends else { return fail(BAD) };
            bounds.push((i64::from(low), i64::from(high) - i64::from(low) + 1));
        }
        rest = rest[at + 1..].trim_ascii_start();
    }
    let mut reader = Reader { bump, rest, elements: bumpalo::collections::Vec::new_in(bump), lengths: Vec::new() };
    reader.level(0)?;
    if !reader.rest.trim_ascii().is_empty() {
        return fail(BAD);
    }
    let lengths: Vec<i64> = reader.lengths.iter().map(|l| l.unwrap_or(0)).collect();
    let dimensions = if reader.elements.is_empty() {
        Vec::new()
    } else if bounds.is_empty() {
        lengths.iter().map(|l| (1, *l)).collect()
    } else if bounds.iter().map(|b| b.1).eq(lengths.iter().copied()) {
        bounds
    } else {
        return fail(BAD);
    };
    Ok(Array { elements: reader.elements, dimensions })
}

struct Reader<'a> {
    bump: &'a Bump,
    rest: &'a [u8],
    elements: bumpalo::collections::Vec<'a, Element<'a>>,
    lengths: Vec<Option<i64>>,
}

/// The server's `MAXDIM`.
const MOST_DIMENSIONS: usize = 6;

impl<'a> Reader<'a> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    /// One pair of braces.
    fn level(&mut self, depth: usize) -> Result<(), EvalError> {
        self.skip();
        let Some(rest) = self.rest.strip_prefix(b"{") else { return fail(BAD) };
        if depth == MOST_DIMENSIONS {
            return fail("number of array dimensions exceeds the maximum allowed");
        }
        self.rest = rest;
        if self.lengths.len() == depth {
            self.lengths.push(None);
        }
        let mut count = 0;
        let mut nested = None;
        self.skip();
        if self.rest.first() == Some(&b'}') && depth == 0 {
            self.rest = &self.rest[1..];
            self.lengths[depth] = Some(0);
            return Ok(());
        }
        loop {
            self.skip();
            let inner = self.rest.first() == Some(&b'{');
            if *nested.get_or_insert(inner) != inner {
                return fail(BAD);
            }
            if inner {
                self.level(depth + 1)?;
            } else {
                let element = self.element()?;
                self.elements.push(element);
            }
            count += 1;
            self.skip();
            match self.rest.split_first() {
                Some((b',', rest)) => self.rest = rest,
                Some((b'}', rest)) => {
                    self.rest = rest;
                    break;
                }
                _ => return fail(BAD),
            }
        }
        if *self.lengths[depth].get_or_insert(count) != count
            || (nested == Some(false) && self.lengths.len() > depth + 1)
        {
            return fail("multidimensional arrays must have sub-arrays with matching dimensions");
        }
        Ok(())
    }

    fn element(&mut self) -> Result<Element<'a>, EvalError> {
        if let Some(rest) = self.rest.strip_prefix(b"\"") {
            let mut out = bumpalo::collections::Vec::new_in(self.bump);
            let mut at = 0;
            loop {
                match rest.get(at) {
                    Some(b'"') => break,
                    Some(b'\\') => {
                        let Some(b) = rest.get(at + 1) else { return fail(BAD) };
                        out.push(*b);
                        at += 2;
                    }
                    Some(b) => {
                        out.push(*b);
                        at += 1;
                    }
                    None => return fail(BAD),
                }
            }
            self.rest = &rest[at + 1..];
            return Ok(Some(out.into_bump_slice()));
        }
        let mut end = 0;
        let mut escaped = false;
        while let Some(b) = self.rest.get(end) {
            match b {
                b',' | b'}' => break,
                b'{' | b'"' => return fail(BAD),
                b'\\' => {
                    escaped = true;
                    end += 2;
                }
                _ => end += 1,
            }
        }
        if end > self.rest.len() {
            return fail(BAD);
        }
        let word = self.rest[..end].trim_ascii_end();
        self.rest = &self.rest[end..];
        if word.is_empty() {
            return fail(BAD);
        }
        if !escaped {
            return Ok(if word.eq_ignore_ascii_case(b"null") { None } else { Some(word) });
        }
        let mut out = bumpalo::collections::Vec::new_in(self.bump);
        let mut bytes = word.iter();
        while let Some(b) = bytes.next() {
            match b {
                b'\\' => out.extend(bytes.next().copied()),
                b => out.push(*b),
            }
        }
        Ok(Some(out.into_bump_slice()))
    }
}

/// `array_out` of elements in the given dimensions.
pub(super) fn print<'a>(bump: &'a Bump, elements: &[Element<'_>], dimensions: &[(i64, i64)]) -> V<'a> {
    let mut out = bumpalo::collections::Vec::new_in(bump);
    if elements.is_empty() {
        return V::Str(b"{}");
    }
    if dimensions.iter().any(|d| d.0 != 1) {
        for (low, length) in dimensions {
            out.extend_from_slice(format!("[{low}:{}]", low + length - 1).as_bytes());
        }
        out.push(b'=');
    }
    let mut at = 0;
    level(&mut out, elements, &mut at, dimensions);
    V::Str(out.into_bump_slice())
}

fn level(
    out: &mut bumpalo::collections::Vec<'_, u8>,
    elements: &[Element<'_>],
    at: &mut usize,
    dimensions: &[(i64, i64)],
) {
    let Some(((_, length), inner)) = dimensions.split_first() else { return };
    out.push(b'{');
    for i in 0..*length {
        if i > 0 {
            out.push(b',');
        }
        if !inner.is_empty() {
            level(out, elements, at, inner);
            continue;
        }
        match elements.get(*at).copied().flatten() {
            None => out.extend_from_slice(b"NULL"),
            Some(text) => quoted(out, text),
        }
        *at += 1;
    }
    out.push(b'}');
}

fn quoted(out: &mut bumpalo::collections::Vec<'_, u8>, text: &[u8]) {
    let special = |b: &u8| matches!(b, b'"' | b'\\' | b'{' | b'}' | b',') || b.is_ascii_whitespace() || *b == 0x0b;
    if !text.is_empty() && !text.eq_ignore_ascii_case(b"null") && !text.iter().any(special) {
        return out.extend_from_slice_copy(text);
    }
    out.push(b'"');
    for b in text {
        if matches!(b, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*b);
    }
    out.push(b'"');
}

/// Reads an array literal whose elements `input` reads.
pub(super) fn read<'a>(bump: &'a Bump, text: &'a [u8], input: &Fun) -> R<'a> {
    let array = parse(bump, text)?;
    let mut elements = Vec::with_capacity(array.elements.len());
    for element in &array.elements {
        elements.push(match element {
            None => None,
            Some(t) => match input(bump, &[V::Str(t)])? {
                V::Str(t) => Some(t),
                _ => None,
            },
        });
    }
    Ok(print(bump, &elements, &array.dimensions))
}

/// `array[a, b, …]` of one dimension.
pub(super) fn builder(element: Base) -> Fun {
    fun(move |bump, v| {
        let mut elements = Vec::with_capacity(v.len());
        for item in v {
            elements.push(super::casts::render(bump, *item, &element)?);
        }
        Ok(print(bump, &elements, &[(1, v.len() as i64)]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(text: &str) -> Option<String> {
        let bump = Bump::new();
        let array = parse(&bump, text.as_bytes()).ok()?;
        match print(&bump, &array.elements, &array.dimensions) {
            V::Str(t) => String::from_utf8(t.to_vec()).ok(),
            _ => None,
        }
    }

    #[test]
    fn given_array_texts_when_read_and_printed_then_they_are_canonical() {
        for text in [r#"{}"#, r#"{1,NULL,"NULL"}"#, r#"{"a b","\"q\"",""}"#, "{{1,2},{3,4}}", "[0:1]={5,6}"] {
            assert_eq!(again(text).as_deref(), Some(text));
        }
        assert_eq!(again(r#" { a , "b" } "#).as_deref(), Some("{a,b}"));
        for text in ["{1", "1,2", "{{1},{2,3}}", "{1,{2}}", "{,}"] {
            assert_eq!(again(text), None, "{text}");
        }
    }
}
