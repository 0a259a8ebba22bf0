//! Partial updates of JSON columns: the differences that PARTIAL_UPDATE_ROWS events carry, applied to the old document.
//!
//! Source: `sql-common/json_diff.h`, `json_diff.cc`. Logged with `binlog_row_value_options = PARTIAL_JSON`.

use std::collections::BTreeMap;

use super::cursor::{Cursor, Parsed};
use super::json::{Budget, MAX_DEPTH, Value, quote, scalar};

/// A document taken apart, scalars still as they are in the log.
enum Node<'a> {
    /// Members in the server's order: shorter names first, then by their bytes.
    Object(BTreeMap<(usize, Vec<u8>), Node<'a>>),
    Array(Vec<Node<'a>>),
    Scalar(Value<'a>),
}

/// One step of a path.
enum Leg {
    Member(Vec<u8>),
    Cell(usize),
}

/// Applies `diffs` to `document` and prints the outcome as the server prints it.
///
/// # Errors
/// Bytes that are no document or no differences, and differences that do not fit the document.
pub fn apply(document: &[u8], diffs: &[u8], out: &mut Vec<u8>) -> Parsed<()> {
    let mut budget = Budget::of(document.len() + diffs.len());
    let mut root = parse(Value::document(document)?, 0, &mut budget)?;
    let mut c = Cursor::new(diffs);
    while !c.is_empty() {
        let operation = c.u8()?;
        let path = legs(c.packed_bytes()?)?;
        let value = match operation {
            0 | 1 => Some(parse(Value::document(c.packed_bytes()?)?, path.len(), &mut budget)?),
            2 => None,
            _ => return Err("a JSON difference of an unknown kind".into()),
        };
        change(&mut root, &path, operation, value)?;
    }
    let mut budget = Budget::of(document.len() + diffs.len());
    print(&root, &mut budget, out)
}

fn parse<'a>(v: Value<'a>, depth: usize, budget: &mut Budget) -> Parsed<Node<'a>> {
    budget.spend(1)?;
    let Some(c) = v.container()? else { return Ok(Node::Scalar(v)) };
    if depth >= MAX_DEPTH {
        return Err("a JSON document is nested deeper than servers permit".into());
    }
    if c.object {
        let mut members = BTreeMap::new();
        for i in 0..c.count {
            let key = c.key(i)?;
            budget.spend(key.len())?;
            members.insert((key.len(), key.to_vec()), parse(c.value(i)?, depth + 1, budget)?);
        }
        return Ok(Node::Object(members));
    }
    (0..c.count).map(|i| parse(c.value(i)?, depth + 1, budget)).collect::<Parsed<_>>().map(Node::Array)
}

fn print(node: &Node<'_>, budget: &mut Budget, out: &mut Vec<u8>) -> Parsed<()> {
    match node {
        Node::Scalar(v) => scalar(*v, budget, out)?,
        Node::Array(cells) => {
            out.push(b'[');
            for (i, cell) in cells.iter().enumerate() {
                if i > 0 {
                    out.extend_from_slice(b", ");
                }
                print(cell, budget, out)?;
            }
            out.push(b']');
        }
        Node::Object(members) => {
            out.push(b'{');
            for (i, ((_, key), value)) in members.iter().enumerate() {
                if i > 0 {
                    out.extend_from_slice(b", ");
                }
                quote(key, out)?;
                out.extend_from_slice(b": ");
                print(value, budget, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn change<'a>(root: &mut Node<'a>, path: &[Leg], operation: u8, value: Option<Node<'a>>) -> Parsed<()> {
    const MISSING: &str = "a JSON difference whose path is not in the old document";
    let Some((last, before)) = path.split_last() else {
        return match (operation, value) {
            (0, Some(value)) => {
                *root = value;
                Ok(())
            }
            _ => Err("a JSON difference adds or removes the whole document".into()),
        };
    };
    let mut node = root;
    for leg in before {
        node = match (leg, node) {
            (Leg::Member(key), Node::Object(m)) => m.get_mut(&(key.len(), key.clone())),
            (Leg::Cell(i), Node::Array(cells)) => cells.get_mut(*i),
            // A scalar is an array of one cell to a path.
            (Leg::Cell(0), node) => Some(node),
            _ => None,
        }
        .ok_or(MISSING)?;
    }
    match (last, node, value) {
        (Leg::Member(key), Node::Object(members), value) => {
            let name = (key.len(), key.clone());
            if members.contains_key(&name) != (operation != 1) {
                return Err(MISSING.into());
            }
            match value {
                Some(value) => drop(members.insert(name, value)),
                None => drop(members.remove(&name)),
            }
        }
        (Leg::Cell(i), Node::Array(cells), Some(value)) if operation == 1 => {
            // Behind the end is the end.
            let at = (*i).min(cells.len());
            cells.insert(at, value);
        }
        (Leg::Cell(i), Node::Array(cells), value) => {
            let cell = cells.get_mut(*i).ok_or(MISSING)?;
            match value {
                Some(value) => *cell = value,
                None => drop(cells.remove(*i)),
            }
        }
        (Leg::Cell(0), node, Some(value)) if operation == 0 => *node = value,
        _ => return Err(MISSING.into()),
    }
    Ok(())
}

/// `$.a[0]."b c"`: as `Json_path::to_string` writes it, without wildcards.
fn legs(path: &[u8]) -> Parsed<Vec<Leg>> {
    const BAD: &str = "a JSON path that cannot be read";
    // The log leaves the dollar out.
    let mut rest = path.strip_prefix(b"$").unwrap_or(path);
    let mut found = Vec::new();
    while let Some((first, tail)) = rest.split_first() {
        if found.len() > MAX_DEPTH {
            return Err("a JSON path is longer than documents are deep".into());
        }
        match first {
            b'[' => {
                let end = tail.iter().position(|&b| b == b']').ok_or(BAD)?;
                let digits = tail.get(..end).and_then(|d| std::str::from_utf8(d).ok()).ok_or(BAD)?;
                found.push(Leg::Cell(digits.trim().parse().map_err(|_| BAD)?));
                rest = tail.get(end + 1..).unwrap_or(&[]);
            }
            b'.' if tail.first() == Some(&b'"') => {
                let mut end = 1;
                loop {
                    match tail.get(end).ok_or(BAD)? {
                        b'"' => break,
                        b'\\' => end += 2,
                        _ => end += 1,
                    }
                }
                let quoted = tail.get(..=end).ok_or(BAD)?;
                let key: String = serde_json::from_slice(quoted).map_err(|_| BAD)?;
                found.push(Leg::Member(key.into_bytes()));
                rest = tail.get(end + 1..).unwrap_or(&[]);
            }
            b'.' => {
                let end = tail.iter().position(|b| matches!(b, b'.' | b'[')).unwrap_or(tail.len());
                let key = tail.get(..end).filter(|k| !k.is_empty()).ok_or(BAD)?;
                found.push(Leg::Member(key.to_vec()));
                rest = tail.get(end..).unwrap_or(&[]);
            }
            _ => return Err(BAD.into()),
        }
    }
    Ok(found)
}
