//! Operators: comparison, arithmetic, and what `||`, `~~` and the JSON arrows stand for.

use std::cmp::Ordering;

use bumpalo::Bump;

use super::datetime::{self, Span};
use super::float;
use super::node::{R, V, fail, truth};
use super::numeric::Dec;
use super::resolve::Signature;
use super::types::Base::{self, *};
use super::{EvalError, jsonb, strings};

/// An integer's value.
pub(super) fn int(v: V<'_>) -> Result<i64, EvalError> {
    match v {
        V::Int(n) => Ok(n),
        V::Str(t) => parse_int(t).map_or_else(|| fail("an integer was expected"), Ok),
        _ => fail("an integer was expected"),
    }
}

/// Plain decimal digits with a sign, nothing else; `None` also when it does not fit 64 bits.
pub(super) fn parse_int(t: &[u8]) -> Option<i64> {
    std::str::from_utf8(t).ok()?.parse().ok()
}

/// The bytes of a text value.
pub(super) fn text<'a>(v: V<'a>) -> Result<&'a [u8], EvalError> {
    match v {
        V::Str(t) => Ok(t),
        V::Null | V::Bool(_) | V::Int(_) | V::Float(_) => fail("a text was expected"),
    }
}

/// The same as UTF-8.
pub(super) fn utf8<'a>(v: V<'a>) -> Result<&'a str, EvalError> {
    std::str::from_utf8(text(v)?).or_else(|_| fail("a text is not valid UTF-8"))
}

pub(super) fn str_in<'a>(bump: &'a Bump, text: &str) -> V<'a> {
    V::Str(bump.alloc_str(text).as_bytes())
}

/// Trailing blanks mean nothing in `character(n)`.
pub(super) fn unpadded(t: &[u8]) -> &[u8] {
    let end = t.iter().rposition(|b| *b != b' ').map_or(0, |at| at + 1);
    &t[..end]
}

/// Compares two values of one type, or of two types on one scale.
pub(super) fn compare(a: V<'_>, b: V<'_>, left: &Base, right: &Base) -> Result<Ordering, EvalError> {
    Ok(match left {
        Bool => truth(a)?.cmp(&truth(b)?),
        Int2 | Int4 | Int8 => int(a)?.cmp(&int(b)?),
        Float4 | Float8 => float::compare(float::of(a, *left == Float4)?, float::of(b, *right == Float4)?),
        Numeric => match (a, b) {
            (V::Str(x), V::Str(y)) if x == y => Ordering::Equal,
            _ => Dec::of(a)?.compare(&Dec::of(b)?),
        },
        Bpchar => unpadded(text(a)?).cmp(unpadded(text(b)?)),
        Date | Timestamp | TimestampTz => datetime::order(a, left)?.cmp(&datetime::order(b, right)?),
        Time => datetime::time(a)?.cmp(&datetime::time(b)?),
        Interval => Span::of(a)?.order().cmp(&Span::of(b)?.order()),
        Jsonb => jsonb::compare_equal(text(a)?, text(b)?)?,
        // Hexadecimal digits sort as the bytes they stand for; text sorts by bytes, as under collation "C".
        _ => text(a)?.cmp(text(b)?),
    })
}

/// Whether values of the type have an order here, and not only equality.
fn ordered(base: &Base) -> bool {
    !matches!(base, Jsonb | Json | Other(_) | Array(_))
}

/// The comparison of that name over `left` and `right`.
pub(super) fn comparison(name: &str, left: &Base, right: &Base) -> Option<Signature> {
    let test: fn(Ordering) -> bool = match name {
        "=" => Ordering::is_eq,
        "<>" => Ordering::is_ne,
        "<" if ordered(left) => Ordering::is_lt,
        "<=" if ordered(left) => Ordering::is_le,
        ">" if ordered(left) => Ordering::is_gt,
        ">=" if ordered(left) => Ordering::is_ge,
        _ => return None,
    };
    let (l, r) = (left.clone(), right.clone());
    Some(Signature::new(&[left.clone(), right.clone()], Bool, move |_, v| {
        Ok(V::Bool(test(compare(v[0], v[1], &l, &r)?)))
    }))
}

/// All comparisons of a name that could be meant between these two.
pub(super) fn comparisons(name: &str, left: &Base, right: &Base) -> Vec<Signature> {
    const ALIKE: &[Base] = &[Bool, Numeric, Text, Bpchar, Bytes, Uuid, Time, Interval, Jsonb];
    let mut pairs: Vec<(Base, Base)> = ALIKE.iter().map(|b| (b.clone(), b.clone())).collect();
    for group in [&[Int2, Int4, Int8][..], &[Float4, Float8], &[Date, Timestamp, TimestampTz]] {
        for l in group {
            for r in group {
                pairs.push((l.clone(), r.clone()));
            }
        }
    }
    // Types that are only carried are equal to themselves.
    for side in [left, right] {
        if matches!(side, Other(_) | Array(_)) {
            pairs.push((side.clone(), side.clone()));
        }
    }
    pairs.iter().filter_map(|(l, r)| comparison(name, l, r)).collect()
}

fn bounded(n: Option<i64>, base: &Base) -> Result<V<'static>, EvalError> {
    in_range(n, base).map(V::Int)
}

/// Refuses what the integer type cannot hold.
pub(super) fn in_range(n: Option<i64>, base: &Base) -> Result<i64, EvalError> {
    let fits = |n: &i64| match base {
        Int2 => i16::try_from(*n).is_ok(),
        Int4 => i32::try_from(*n).is_ok(),
        _ => true,
    };
    n.filter(fits).map_or_else(|| fail(format!("{base} out of range")), Ok)
}

fn integer_op(name: char, a: i64, b: i64, base: &Base) -> Result<V<'static>, EvalError> {
    if b == 0 && matches!(name, '/' | '%') {
        return fail("division by zero");
    }
    bounded(
        match name {
            '+' => a.checked_add(b),
            '-' => a.checked_sub(b),
            '*' => a.checked_mul(b),
            '/' => a.checked_div(b),
            _ => Some(a.wrapping_rem(b)),
        },
        base,
    )
}

/// `+ - * / %` over numbers, dates and intervals.
pub(super) fn arithmetic(name: char) -> Vec<Signature> {
    let mut all = Vec::new();
    let ints = [Int2, Int4, Int8];
    for l in &ints {
        for r in &ints {
            if name == '%' && l != r {
                continue;
            }
            let wide = if ints.iter().position(|b| b == l) > ints.iter().position(|b| b == r) { l } else { r }.clone();
            let result = wide.clone();
            all.push(Signature::new(&[l.clone(), r.clone()], result, move |_, v| {
                integer_op(name, int(v[0])?, int(v[1])?, &wide)
            }));
        }
    }
    all.push(Signature::new(&[Numeric, Numeric], Numeric, move |bump, v| {
        let (a, b) = (Dec::of(v[0])?, Dec::of(v[1])?);
        let result = match name {
            '+' => a.add(&b),
            '-' => a.add(&b.negated()),
            '*' => a.mul(&b),
            '/' => a.div(&b),
            _ => a.rem(&b),
        }?;
        Ok(result.value(bump))
    }));
    let op = match name {
        '+' => Some(float::Op::Add),
        '-' => Some(float::Op::Sub),
        '*' => Some(float::Op::Mul),
        '/' => Some(float::Op::Div),
        _ => None,
    };
    if let Some(op) = op {
        for l in [Float4, Float8] {
            for r in [Float4, Float8] {
                let (ls, rs) = (l == Float4, r == Float4);
                let result = if ls && rs { Float4 } else { Float8 };
                all.push(Signature::new(&[l.clone(), r], result, move |_, v| {
                    let x = float::arithmetic(op, float::of(v[0], ls)?, float::of(v[1], rs)?, ls && rs)?;
                    Ok(V::Float(x))
                }));
            }
        }
    }
    all.extend(datetime::arithmetic(name));
    all
}

/// `-x` and `+x`.
pub(super) fn sign(minus: bool) -> Vec<Signature> {
    let mut all = Vec::new();
    for base in [Int2, Int4, Int8] {
        let b = base.clone();
        all.push(Signature::new(std::slice::from_ref(&base), base.clone(), move |_, v| {
            let n = int(v[0])?;
            bounded(if minus { n.checked_neg() } else { Some(n) }, &b)
        }));
    }
    all.push(Signature::new(&[Numeric], Numeric, move |bump, v| {
        let n = Dec::of(v[0])?;
        Ok(if minus { n.negated() } else { n }.value(bump))
    }));
    for base in [Float4, Float8] {
        let single = base == Float4;
        all.push(Signature::new(std::slice::from_ref(&base), base.clone(), move |_, v| {
            let x = float::of(v[0], single)?;
            Ok(V::Float(if minus { -x } else { x }))
        }));
    }
    if minus {
        all.push(Signature::new(&[Interval], Interval, |bump, v| Ok(Span::of(v[0])?.negated()?.value(bump))));
    }
    all
}

/// The bytes of two texts behind one another.
pub(super) fn joined<'a>(bump: &'a Bump, parts: &[&[u8]]) -> V<'a> {
    let mut out = bumpalo::collections::Vec::with_capacity_in(parts.iter().map(|p| p.len()).sum(), bump);
    parts.iter().for_each(|p| out.extend_from_slice_copy(p));
    V::Str(out.into_bump_slice())
}

fn concat_text<'a>(bump: &'a Bump, v: &[V<'a>]) -> R<'a> {
    Ok(joined(bump, &[text(v[0])?, text(v[1])?]))
}

/// Operators by name, beside comparison, arithmetic, and `||` with something that is no text on one side.
pub(super) fn named(name: &str) -> Vec<Signature> {
    match name {
        "||" => vec![
            Signature::new(&[Text, Text], Text, concat_text),
            Signature::new(&[Bytes, Bytes], Bytes, |bump, v| {
                let right = text(v[1])?;
                Ok(joined(bump, &[text(v[0])?, right.strip_prefix(b"\\x").unwrap_or(right)]))
            }),
            Signature::new(&[Jsonb, Jsonb], Jsonb, |bump, v| jsonb::concat(bump, text(v[0])?, text(v[1])?)),
        ],
        "~~" | "!~~" | "~~*" | "!~~*" => {
            let (negated, folded) = (name.starts_with('!'), name.ends_with('*'));
            [Text, Bpchar]
                .iter()
                .map(|base| {
                    Signature::new(&[base.clone(), Text], Bool, move |_, v| {
                        Ok(V::Bool(strings::like(text(v[0])?, text(v[1])?, folded)? != negated))
                    })
                })
                .collect()
        }
        "^@" => vec![Signature::new(&[Text, Text], Bool, |_, v| Ok(V::Bool(text(v[0])?.starts_with(text(v[1])?))))],
        "->" | "->>" => jsonb::arrows(name == "->>"),
        "#>" | "#>>" => jsonb::paths(name == "#>>"),
        _ => Vec::new(),
    }
}
