//! Functions over text. Lengths and places count characters.

use bumpalo::Bump;

use super::EvalError;
use super::node::{R, V, fail};
use super::ops::{int, joined, str_in, text, unpadded, utf8};
use super::resolve::Signature;
use super::types::Base::{self, *};

/// What no function makes longer: the server's own limit on a field, about.
const LONGEST: usize = 256 * 1024 * 1024;

/// One pattern piece: any run, any character, or this character.
enum Piece {
    Run,
    Any,
    Char(char),
    /// An escape with nothing behind it.
    Open,
}

fn pieces(pattern: &str) -> Vec<Piece> {
    let mut all = Vec::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        all.push(match c {
            '%' => Piece::Run,
            '_' => Piece::Any,
            '\\' => chars.next().map_or(Piece::Open, Piece::Char),
            c => Piece::Char(c),
        });
    }
    all
}

/// `like`, with `\` as the escape; `ilike` when case is folded.
pub(super) fn like(subject: &[u8], pattern: &[u8], folded: bool) -> Result<bool, EvalError> {
    let read = |t| std::str::from_utf8(t).or_else(|_| fail("a text is not valid UTF-8"));
    let (subject, pattern) = (read(subject)?, read(pattern)?);
    let lowered;
    let (subject, pattern) = if folded {
        lowered = (lower(subject), lower(pattern));
        (lowered.0.as_str(), lowered.1.as_str())
    } else {
        (subject, pattern)
    };
    let pieces = pieces(pattern);
    let (mut at, mut piece) = (0, 0);
    // Where the last run began to match, and the piece behind it: the only place to go back to.
    let mut back: Option<(usize, usize)> = None;
    loop {
        let next = subject[at..].chars().next();
        match (pieces.get(piece), next) {
            (Some(Piece::Run), _) => {
                piece += 1;
                back = Some((at, piece));
                continue;
            }
            (Some(Piece::Open), Some(_)) => return fail("LIKE pattern must not end with escape character"),
            (Some(Piece::Any), Some(c)) => {
                at += c.len_utf8();
                piece += 1;
                continue;
            }
            (Some(Piece::Char(p)), Some(c)) if *p == c => {
                at += c.len_utf8();
                piece += 1;
                continue;
            }
            (None, None) => return Ok(true),
            _ => {}
        }
        let Some((from, behind)) = back else { return Ok(false) };
        let Some(c) = subject[from..].chars().next() else { return Ok(false) };
        at = from + c.len_utf8();
        piece = behind;
        back = Some((at, behind));
    }
}

/// A pattern with another escape character, in terms of `\`.
fn like_escape(pattern: &str, escape: &str) -> Result<String, EvalError> {
    let mut chars = escape.chars();
    let escape = chars.next();
    if chars.next().is_some() {
        return fail("the escape of LIKE must be one character or none");
    }
    if escape == Some('\\') {
        return Ok(pattern.to_owned());
    }
    let mut out = String::new();
    let mut escaped = false;
    for c in pattern.chars() {
        if Some(c) == escape && !escaped {
            out.push('\\');
            escaped = true;
            continue;
        }
        if c == '\\' && !escaped {
            out.push('\\');
        }
        out.push(c);
        escaped = false;
    }
    Ok(out)
}

fn lower_char(c: char) -> char {
    let mut to = c.to_lowercase();
    match (to.next(), to.next()) {
        (Some(l), None) => l,
        _ if c == 'İ' => 'i',
        _ => c,
    }
}
fn upper_char(c: char) -> char {
    let mut to = c.to_uppercase();
    match (to.next(), to.next()) {
        (Some(u), None) => u,
        _ => c,
    }
}
fn lower(t: &str) -> String {
    t.chars().map(lower_char).collect()
}

fn initcap(t: &str) -> String {
    let mut inside = false;
    t.chars()
        .map(|c| {
            let changed = if inside { lower_char(c) } else { upper_char(c) };
            inside = c.is_alphanumeric();
            changed
        })
        .collect()
}

/// The byte range of `count` characters from the 1-based `start`; without a count, to the end.
fn substring(t: &str, start: i64, count: Option<i64>) -> Result<&str, EvalError> {
    let end = match count {
        Some(n) if n < 0 => return fail("negative substring length not allowed"),
        Some(n) => Some(start.saturating_add(n)),
        None => None,
    };
    let skip = (start.max(1) - 1) as usize;
    let take = end.map(|e| (e - start.max(1)).max(0) as usize);
    let from = t.char_indices().nth(skip).map_or(t.len(), |(at, _)| at);
    let rest = &t[from..];
    Ok(match take {
        None => rest,
        Some(n) => &rest[..rest.char_indices().nth(n).map_or(rest.len(), |(at, _)| at)],
    })
}

/// The first `n` characters; all but the last `-n` when negative.
fn left(t: &str, n: i64) -> &str {
    let n = if n < 0 { (t.chars().count() as i64 + n).max(0) } else { n };
    &t[..t.char_indices().nth(n as usize).map_or(t.len(), |(at, _)| at)]
}
fn right(t: &str, n: i64) -> &str {
    let length = t.chars().count() as i64;
    let skip = if n < 0 { n.saturating_neg() } else { (length - n).max(0) };
    &t[t.char_indices().nth(skip as usize).map_or(t.len(), |(at, _)| at)..]
}

fn padded(t: &str, length: i64, fill: &str, before: bool) -> Result<String, EvalError> {
    let length = length.max(0) as usize;
    if length > LONGEST / 4 {
        return fail("requested length too large");
    }
    let own = t.chars().count();
    if own >= length || fill.is_empty() {
        return Ok(left(t, length as i64).to_owned());
    }
    let filling: String = fill.chars().cycle().take(length - own).collect();
    Ok(if before { filling + t } else { t.to_owned() + &filling })
}

fn split_part<'t>(t: &'t str, by: &str, n: i64) -> Result<&'t str, EvalError> {
    if n == 0 {
        return fail("field position must not be zero");
    }
    if by.is_empty() || t.is_empty() {
        return Ok(if n == 1 || n == -1 { t } else { "" });
    }
    let at = (n.unsigned_abs() - 1) as usize;
    if n > 0 {
        return Ok(t.split(by).nth(at).unwrap_or(""));
    }
    let parts: Vec<&str> = t.split(by).collect();
    Ok(parts.len().checked_sub(at + 1).map_or("", |i| parts[i]))
}

fn trimmed<'t>(t: &'t str, set: &str, start: bool, end: bool) -> &'t str {
    let mut t = t;
    if start {
        t = t.trim_start_matches(|c| set.contains(c));
    }
    if end {
        t = t.trim_end_matches(|c| set.contains(c));
    }
    t
}

/// A function of one text.
fn over<F>(result: Base, f: F) -> Vec<Signature>
where
    F: for<'a> Fn(&'a Bump, &'a str) -> R<'a> + Send + Sync + 'static,
{
    vec![Signature::new(&[Text], result, move |bump, v| f(bump, utf8(v[0])?))]
}

fn count(n: usize) -> V<'static> {
    V::Int(n as i64)
}

/// Functions by name.
pub(super) fn named(name: &str) -> Vec<Signature> {
    match name {
        "lower" => over(Text, |bump, t| Ok(str_in(bump, &lower(t)))),
        "upper" => over(Text, |bump, t| Ok(str_in(bump, &t.chars().map(upper_char).collect::<String>()))),
        "initcap" => over(Text, |bump, t| Ok(str_in(bump, &initcap(t)))),
        "reverse" => over(Text, |bump, t| Ok(str_in(bump, &t.chars().rev().collect::<String>()))),
        "length" | "char_length" | "character_length" => {
            let mut all = over(Int4, |_, t| Ok(count(t.chars().count())));
            all.push(Signature::new(&[Bpchar], Int4, |_, v| {
                let t = unpadded(text(v[0])?);
                Ok(count(std::str::from_utf8(t).map_or(t.len(), |t| t.chars().count())))
            }));
            if name == "length" {
                all.push(Signature::new(&[Bytes], Int4, |_, v| Ok(count(super::casts::bytes_of(v[0])?.len()))));
            }
            all
        }
        "octet_length" => {
            let mut all = over(Int4, |_, t| Ok(count(t.len())));
            all.push(Signature::new(&[Bpchar], Int4, |_, v| Ok(count(text(v[0])?.len()))));
            all.push(Signature::new(&[Bytes], Int4, |_, v| Ok(count(super::casts::bytes_of(v[0])?.len()))));
            all
        }
        "ascii" => over(Int4, |_, t| Ok(V::Int(t.chars().next().map_or(0, |c| i64::from(c as u32))))),
        "trim" | "btrim" | "ltrim" | "rtrim" => {
            let (start, end) = (name != "rtrim", name != "ltrim");
            vec![
                Signature::new(&[Text], Text, move |_, v| Ok(V::Str(trimmed(utf8(v[0])?, " ", start, end).as_bytes()))),
                Signature::new(&[Text, Text], Text, move |_, v| {
                    Ok(V::Str(trimmed(utf8(v[0])?, utf8(v[1])?, start, end).as_bytes()))
                }),
            ]
        }
        "substr" | "substring" => vec![
            Signature::new(&[Text, Int4], Text, |_, v| {
                Ok(V::Str(substring(utf8(v[0])?, int(v[1])?, None)?.as_bytes()))
            }),
            Signature::new(&[Text, Int4, Int4], Text, |_, v| {
                Ok(V::Str(substring(utf8(v[0])?, int(v[1])?, Some(int(v[2])?))?.as_bytes()))
            }),
        ],
        "left" | "right" => {
            let of: fn(&str, i64) -> &str = if name == "left" { left } else { right };
            vec![Signature::new(&[Text, Int4], Text, move |_, v| Ok(V::Str(of(utf8(v[0])?, int(v[1])?).as_bytes())))]
        }
        "lpad" | "rpad" => {
            let before = name == "lpad";
            vec![
                Signature::new(&[Text, Int4], Text, move |bump, v| {
                    Ok(str_in(bump, &padded(utf8(v[0])?, int(v[1])?, " ", before)?))
                }),
                Signature::new(&[Text, Int4, Text], Text, move |bump, v| {
                    Ok(str_in(bump, &padded(utf8(v[0])?, int(v[1])?, utf8(v[2])?, before)?))
                }),
            ]
        }
        "replace" => vec![Signature::new(&[Text, Text, Text], Text, |bump, v| {
            let (t, from) = (utf8(v[0])?, utf8(v[1])?);
            Ok(if from.is_empty() { v[0] } else { str_in(bump, &t.replace(from, utf8(v[2])?)) })
        })],
        "translate" => vec![Signature::new(&[Text, Text, Text], Text, |bump, v| {
            let (t, from, to) = (utf8(v[0])?, utf8(v[1])?, utf8(v[2])?);
            let changed: String = t
                .chars()
                .filter_map(|c| match from.chars().position(|f| f == c) {
                    None => Some(c),
                    Some(at) => to.chars().nth(at),
                })
                .collect();
            Ok(str_in(bump, &changed))
        })],
        "repeat" => vec![Signature::new(&[Text, Int4], Text, |bump, v| {
            let (t, n) = (text(v[0])?, int(v[1])?.max(0) as usize);
            match t.len().checked_mul(n) {
                Some(size) if size <= LONGEST => Ok(joined(bump, &vec![t; n])),
                _ => fail("requested length too large"),
            }
        })],
        "split_part" => vec![Signature::new(&[Text, Text, Int4], Text, |_, v| {
            Ok(V::Str(split_part(utf8(v[0])?, utf8(v[1])?, int(v[2])?)?.as_bytes()))
        })],
        "strpos" | "position" => vec![Signature::new(&[Text, Text], Int4, |_, v| {
            let (t, what) = (utf8(v[0])?, utf8(v[1])?);
            Ok(V::Int(t.find(what).map_or(0, |at| t[..at].chars().count() as i64 + 1)))
        })],
        "starts_with" => super::ops::named("^@"),
        "like_escape" => vec![Signature::new(&[Text, Text], Text, |bump, v| {
            Ok(str_in(bump, &like_escape(utf8(v[0])?, utf8(v[1])?)?))
        })],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_patterns_when_matched_then_runs_go_back_as_far_as_they_must() {
        let is = |t: &str, p: &str| like(t.as_bytes(), p.as_bytes(), false).unwrap();
        assert!(is("abcabd", "%ab_") && is("", "%") && is("a%c", "a\\%c") && is("größe", "gr__e"));
        assert!(!is("abc", "ab") && !is("abc", "b%") && !is("", "_") && !is("abXc", "ab\\_c"));
        assert!(like(b"abc", b"ABC", true).unwrap() && like(b"a", b"\\", false).is_err());
    }

    #[test]
    fn given_places_outside_of_a_text_when_cut_then_what_is_inside_remains() {
        assert_eq!(substring("hello", -1, Some(4)).unwrap(), "he");
        assert_eq!(substring("größe", 3, Some(2)).unwrap(), "öß");
        assert_eq!((left("abc", -1), right("abc", -1), right("abc", 9)), ("ab", "bc", "abc"));
        assert_eq!(split_part("a,b,c", ",", -1).unwrap(), "c");
        assert_eq!(padded("ab", 5, "xy", true).unwrap(), "xyxab");
    }
}
