//! The lists that `explode` takes apart: PostgreSQL arrays and JSON lists, in canonical text form. Pure.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::expr::{Fields, Input};
use crate::schema::{Column, Kind, Table};
use crate::value::{Datum, Row};

/// How a list's items are read.
#[derive(Clone, Debug)]
pub(super) struct Items {
    /// The source's column with the list.
    pub column: usize,
    json: bool,
    /// Paths below an item that expressions name: `a`, `a.b`.
    paths: Vec<Vec<String>>,
    /// How many columns the parent has.
    parents: usize,
}

/// One item of a list.
#[derive(Debug)]
pub(super) enum Item<'a> {
    Null,
    /// An array's element, unquoted.
    Text(Cow<'a, str>),
    /// A JSON value.
    Json(&'a str),
}

/// What expressions over an item read: `item`, `position`, the parent's columns, paths below the item.
pub(super) struct ItemFields<'a> {
    item: Option<Cow<'a, [u8]>>,
    position: String,
    parent: &'a Row,
    parents: usize,
    below: Vec<Option<Vec<u8>>>,
}

impl Items {
    /// The list in `column`, read by expressions that hold `texts`, and what they may name.
    ///
    /// # Errors
    /// When the column is no list.
    pub fn new(table: &Table, column: usize, texts: &[&str]) -> Result<(Items, Vec<Input>), String> {
        let c = &table.columns[column];
        let (json, item) = match (c.kind, c.type_name.strip_suffix("[]")) {
            (Kind::Json | Kind::Jsonb, _) => (true, (Kind::Jsonb, "jsonb".to_owned())),
            (_, Some(element)) => (false, (element_kind(element), element.to_owned())),
            _ => return Err(format!("column {:?} is {}, no array and no JSON", c.name, c.type_name)),
        };
        let paths: Vec<Vec<String>> = if json { paths_below_item(texts) } else { Vec::new() };
        let input =
            |name: String, kind, type_name: &str| Input { name, kind, type_name: type_name.into(), nullable: true };
        let mut inputs = vec![input("item".into(), item.0, &item.1), input("position".into(), Kind::Int4, "integer")];
        let parent = |c: &Column| Input {
            name: format!("parent.{}", c.name),
            kind: c.kind,
            type_name: c.type_name.clone(),
            nullable: c.nullable,
        };
        inputs.extend(table.columns.iter().map(parent));
        inputs.extend(paths.iter().map(|p| input(format!("item.{}", p.join(".")), Kind::Text, "text")));
        Ok((Items { column, json, paths, parents: table.columns.len() }, inputs))
    }

    /// Which of the parent's columns an input is.
    pub fn parent_of(&self, input: usize) -> Option<usize> {
        (2..2 + self.parents).contains(&input).then(|| input - 2)
    }

    /// The items of a list. JSON `null` is an empty list.
    ///
    /// # Errors
    /// When the text is no list.
    pub fn list<'a>(&self, text: &'a [u8]) -> Result<Vec<Item<'a>>, &'static str> {
        let text = std::str::from_utf8(text).map_err(|_| "the list is not UTF-8")?;
        if !self.json {
            return array(text).ok_or("the value is no array");
        }
        if text.trim() == "null" {
            return Ok(Vec::new());
        }
        let raw: Vec<&'a RawValue> = serde_json::from_str(text).map_err(|_| "the JSON value is no list")?;
        Ok(raw.into_iter().map(|r| if r.get() == "null" { Item::Null } else { Item::Json(r.get()) }).collect())
    }

    /// What expressions read of one item.
    pub fn fields<'a>(&self, item: &'a Item<'a>, position: usize, parent: &'a Row) -> Result<ItemFields<'a>, String> {
        let (bytes, below) = match item {
            Item::Null => (None, vec![None; self.paths.len()]),
            Item::Text(t) => (Some(Cow::Borrowed(t.as_bytes())), Vec::new()),
            Item::Json(j) => {
                let below = self.paths.iter().map(|p| below(j, p)).collect();
                (Some(Cow::Borrowed(j.as_bytes())), below)
            }
        };
        Ok(ItemFields { item: bytes, position: position.to_string(), parent, parents: self.parents, below })
    }

    /// The parent's fields without any item.
    pub fn parent_only<'a>(&self, parent: &'a Row) -> ItemFields<'a> {
        let below = vec![None; self.paths.len()];
        ItemFields { item: None, position: String::new(), parent, parents: self.parents, below }
    }
}

impl Fields for ItemFields<'_> {
    fn get(&self, index: usize) -> Datum<'_> {
        match index {
            0 => self.item.as_deref().map_or(Datum::Null, Datum::Text),
            1 if self.position.is_empty() => Datum::Null,
            1 => Datum::Text(self.position.as_bytes()),
            i if i < 2 + self.parents => self.parent.get(i - 2),
            i => self.below.get(i - 2 - self.parents).and_then(|b| b.as_deref()).map_or(Datum::Null, Datum::Text),
        }
    }
}

fn element_kind(name: &str) -> Kind {
    match name {
        "boolean" => Kind::Bool,
        "smallint" => Kind::Int2,
        "integer" => Kind::Int4,
        "bigint" => Kind::Int8,
        "real" => Kind::Float4,
        "double precision" => Kind::Float8,
        "text" | "name" | "objectid" => Kind::Text,
        "uuid" => Kind::Uuid,
        "date" => Kind::Date,
        "bytea" => Kind::Bytes,
        "json" => Kind::Json,
        "jsonb" => Kind::Jsonb,
        n if n.starts_with("numeric") => Kind::Numeric,
        n if n.starts_with("character") => Kind::Text,
        n if n.starts_with("timestamp") && n.ends_with("with time zone") => Kind::TimestampTz,
        n if n.starts_with("timestamp") => Kind::Timestamp,
        n if n.starts_with("time") && n.ends_with("without time zone") => Kind::Time,
        _ => Kind::Other,
    }
}

/// `item.a.b` in expressions, outside string literals.
fn paths_below_item(texts: &[&str]) -> Vec<Vec<String>> {
    let mut out: Vec<Vec<String>> = Vec::new();
    for text in texts {
        for (i, part) in text.split('\'').enumerate() {
            if i % 2 == 1 {
                continue;
            }
            let mut rest = part;
            while let Some(at) = rest.find("item.") {
                let word = |c: char| c.is_alphanumeric() || c == '_';
                let whole = !rest[..at].ends_with(|c: char| word(c) || c == '.');
                let after = &rest[at + 5..];
                let end = after.find(|c: char| !word(c) && c != '.').unwrap_or(after.len());
                let path: Vec<String> = after[..end].split('.').map(str::to_owned).collect();
                if whole && !path.iter().any(String::is_empty) && !out.contains(&path) {
                    out.push(path);
                }
                rest = &after[end..];
            }
        }
    }
    out
}

/// The text of a value below a JSON object, as `#>>` gives it.
fn below(json: &str, path: &[String]) -> Option<Vec<u8>> {
    let mut at: &str = json;
    for name in path {
        let object: std::collections::HashMap<String, &RawValue> = serde_json::from_str(at).ok()?;
        at = object.get(name)?.get();
    }
    match at {
        "null" => None,
        t if t.starts_with('"') => serde_json::from_str::<String>(t).ok().map(String::into_bytes),
        t => Some(t.as_bytes().to_vec()),
    }
}

/// The elements of a one-dimensional array's text, `{a,"b,c",NULL}` (PostgreSQL manual, "Array Input and Output Syntax").
fn array(text: &str) -> Option<Vec<Item<'_>>> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    let mut out = Vec::new();
    if inner.is_empty() {
        return Some(out);
    }
    let mut rest = inner;
    loop {
        let (item, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let mut text = String::new();
                let mut chars = quoted.char_indices();
                let end = loop {
                    match chars.next()? {
                        (_, '\\') => text.push(chars.next()?.1),
                        (i, '"') => break i,
                        (_, c) => text.push(c),
                    }
                };
                (Item::Text(Cow::Owned(text)), &quoted[end + 1..])
            }
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let word = &rest[..end];
                // A nested array: only lists of scalars have items.
                if word.starts_with('{') {
                    return None;
                }
                let item = if word == "NULL" { Item::Null } else { Item::Text(Cow::Borrowed(word)) };
                (item, &rest[end..])
            }
        };
        out.push(item);
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None if after.is_empty() => return Some(out),
            None => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(items: Vec<Item<'_>>) -> Vec<String> {
        let show = |i: Item<'_>| match i {
            Item::Null => "NULL!".to_owned(),
            Item::Text(t) => t.into_owned(),
            Item::Json(j) => j.to_owned(),
        };
        items.into_iter().map(show).collect()
    }

    #[test]
    fn given_array_texts_when_read_then_quotes_escapes_and_nulls_are_understood() {
        assert_eq!(shown(array("{}").unwrap()), Vec::<String>::new());
        assert_eq!(shown(array(r#"{1,NULL,"NULL","a,\"b\\c","ü"}"#).unwrap()), ["1", "NULL!", "NULL", "a,\"b\\c", "ü"]);
        for bad in ["", "{", "{\"a}", "{{1},{2}}", "[0:1]={1,2}", "{\"a\"b}"] {
            assert!(array(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn given_expressions_when_searched_then_paths_below_the_item_are_found_once() {
        let found = paths_below_item(&["item.a || item.b.c", "'item.no' || item.a", "my_item.x + parent.item.y"]);
        assert_eq!(found, [vec!["a".to_owned()], vec!["b".to_owned(), "c".to_owned()]]);
    }

    #[test]
    fn given_json_when_looked_below_then_texts_are_unquoted_and_null_is_nothing() {
        let p = |s: &str| s.split('.').map(str::to_owned).collect::<Vec<_>>();
        let json = r#"{"a": {"b": "x\"y", "n": 1.50}, "z": null}"#;
        assert_eq!(below(json, &p("a.b")).unwrap(), b"x\"y");
        assert_eq!(below(json, &p("a.n")).unwrap(), b"1.50");
        assert!(below(json, &p("z")).is_none() && below(json, &p("a.q")).is_none() && below("3", &p("a")).is_none());
    }
}
