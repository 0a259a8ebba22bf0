//! Lists in documents that are made of other collections' rows: where key, order and values lie, and what an element is. Pure.
//!
//! Keys are compared as bytes, with whole numbers as 64 bits. So only columns take part whose equal values have equal bytes.

use std::collections::BTreeSet;
use std::sync::Arc;

use bson::{Bson, Document, doc};

use super::shape::Shape;
use crate::documents::values::Form;
use crate::schema::{RowIdentity, Table};
use crate::transform::embed::EmbeddedList;

/// A list, fitted to the tables as the two collections have them.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// What the rule says.
    pub list: EmbeddedList,
    /// Of each column of the parent's key, in its order: its name in a key of several columns, and the path of its value in a row.
    key: Vec<(String, String)>,
    order: Option<String>,
    value: Option<String>,
    /// Columns of an element, and their paths in a row.
    fields: Vec<(String, String)>,
}

impl Fitted {
    /// Fits a list to the tables of its rows and of the parents.
    ///
    /// # Errors
    /// The rule's key and what does not fit, in words.
    pub fn new(list: &EmbeddedList, rows: &Table, parent: &Table) -> Result<Fitted, String> {
        let shaped = |t: &Table| Shape::new(&Arc::new(t.clone()), None);
        let (of_rows, of_parent) = (shaped(rows)?, shaped(parent)?);
        for (t, shape) in [(rows, &of_rows), (parent, &of_parent)] {
            if shape.holds_whole_documents() {
                return Err(format!("in: {} takes documents as they are, and lists are made of rows", t.name));
            }
            if !matches!(t.identity, RowIdentity::Key(_)) || t.key().is_empty() {
                return Err(format!("in: {} has no key", t.name));
            }
        }
        if parent.columns.iter().any(|c| c.name.split('.').next() == Some(list.field.as_str())) {
            return Err(format!("as: {} has a column {}; choose another field", parent.name, list.field));
        }
        let path =
            |key: &str, c: &str| of_rows.path_of(c).ok_or_else(|| format!("{key}: {} has no column {c:?}", rows.name));
        let named: BTreeSet<&str> = list.on.values().map(String::as_str).collect();
        let keys: Vec<&str> =
            parent.key().iter().filter_map(|&k| parent.columns.get(k)).map(|c| c.name.as_str()).collect();
        if named != keys.iter().copied().collect() {
            return Err(format!(
                "on: it must name the whole key of {} ({}), and nothing else",
                parent.name,
                keys.join(", ")
            ));
        }
        let mut key = Vec::with_capacity(keys.len());
        for k in &keys {
            // It was looked for just above.
            let Some(c) = list.on.iter().find(|(_, of)| of == k).map(|(c, _)| c) else { continue };
            let at = path("on", c)?;
            let class = |shape: &Shape, c: &str| shape.table.column(c).and_then(|i| shape.form(i)).and_then(class);
            match (class(&of_rows, c), class(&of_parent, k)) {
                (Some(a), Some(b)) if a == b => {}
                (Some(_), Some(_)) => {
                    return Err(format!("on: {c} of {} and {k} of {} are of different types", rows.name, parent.name));
                }
                _ => {
                    return Err(format!(
                        "on: {c} of {} or {k} of {} is of a type whose values can be written in several ways",
                        rows.name, parent.name
                    ));
                }
            }
            if keys.len() > 1 && k.contains('.') {
                return Err(format!("on: the name of {k} holds a point, which keys of several columns must not"));
            }
            key.push(((*k).to_owned(), at));
        }
        let order = list.order_by.as_deref().map(|c| path("order_by", c)).transpose()?;
        let value = list.value.as_deref().map(|c| path("value", c)).transpose()?;
        let fields = (rows.columns.iter())
            .filter(|c| !list.on.contains_key(&c.name))
            .map(|c| Ok((c.name.clone(), path("as", &c.name)?)))
            .collect::<Result<_, String>>()?;
        Ok(Fitted { list: list.clone(), key, order, value, fields })
    }

    /// The key of a row's parent, or `None` where a part of it is NULL.
    pub fn parent_of(&self, row: &Document) -> Option<Bson> {
        match self.key.as_slice() {
            [(_, path)] => at(row, path).filter(|v| **v != Bson::Null).map(plain),
            several => {
                let mut id = Document::new();
                for (name, path) in several {
                    id.insert(name.clone(), at(row, path).filter(|v| **v != Bson::Null).map(plain)?);
                }
                Some(Bson::Document(id))
            }
        }
    }

    /// The element that a row becomes.
    pub fn element(&self, row: &Document) -> Bson {
        if let Some(path) = &self.value {
            return at(row, path).cloned().unwrap_or(Bson::Null);
        }
        let mut out = Document::new();
        for (name, path) in &self.fields {
            if let Some(v) = at(row, path) {
                put(&mut out, name, v.clone());
            }
        }
        Bson::Document(out)
    }

    /// What finds all rows of these parents.
    pub fn of_parents(&self, keys: &[Bson]) -> Document {
        if let [(_, path)] = self.key.as_slice() {
            let mut filter = Document::new();
            filter.insert(path.clone(), doc! { "$in": keys });
            return filter;
        }
        let one = |k: &Bson| {
            let mut filter = Document::new();
            for (name, path) in &self.key {
                let v = k.as_document().and_then(|d| d.get(name)).cloned().unwrap_or(Bson::Null);
                filter.insert(path.clone(), doc! { "$eq": v });
            }
            filter
        };
        doc! { "$or": keys.iter().map(one).collect::<Vec<_>>() }
    }

    /// Rows of one parent one after the other, in the list's order; also the index that brings them so.
    pub fn sorted(&self) -> Document {
        let mut sort = Document::new();
        let paths = self.key.iter().map(|(_, p)| p.as_str()).chain(self.order.as_deref()).chain(["_id"]);
        for p in paths {
            if !sort.contains_key(p) {
                sort.insert(p, 1);
            }
        }
        sort
    }

    /// Only what tells a row's parent.
    pub fn projection(&self) -> Document {
        let mut only = Document::new();
        for (_, p) in self.key.iter().filter(|(_, p)| !p.starts_with("_id")) {
            only.insert(p.clone(), 1);
        }
        // `_id` comes by itself.
        only.insert("_id", 1);
        only
    }

    /// The stages that find parents' keys that rows have and no parent.
    pub fn without_parents(&self, most: i32) -> Vec<Document> {
        let id = match self.key.as_slice() {
            [(_, path)] => Bson::String(format!("${path}")),
            several => {
                Bson::Document(several.iter().map(|(n, p)| (n.clone(), Bson::String(format!("${p}")))).collect())
            }
        };
        let found = doc! { "from": &self.list.parent.name, "localField": "_id", "foreignField": "_id",
        "pipeline": [{ "$project": { "_id": 1 } }], "as": "parent" };
        vec![
            doc! { "$group": { "_id": id } },
            doc! { "$lookup": found },
            doc! { "$match": { "parent": [] } },
            doc! { "$limit": most },
            doc! { "$project": { "_id": 1 } },
        ]
    }
}

/// Types whose values are comparable by their bytes, and with each other.
fn class(form: &Form) -> Option<&'static str> {
    Some(match form {
        Form::Int32 | Form::Int64 => "number",
        Form::Bool => "bool",
        Form::Text => "string",
        Form::Bytes => "bytes",
        Form::Uuid => "uuid",
        Form::Date => "date",
        Form::ObjectId => "objectId",
        _ => return None,
    })
}

/// A value with whole numbers as 64 bits.
pub fn plain(value: &Bson) -> Bson {
    match value {
        Bson::Int32(n) => Bson::Int64(i64::from(*n)),
        Bson::Document(d) => Bson::Document(d.iter().map(|(k, v)| (k.clone(), plain(v))).collect()),
        other => other.clone(),
    }
}

/// The value at a path.
fn at<'d>(d: &'d Document, path: &str) -> Option<&'d Bson> {
    let mut parts = path.split('.');
    let mut value = d.get(parts.next()?)?;
    for part in parts {
        value = value.as_document()?.get(part)?;
    }
    Some(value)
}

/// Puts a value where a column of that name lies in a document.
fn put(into: &mut Document, name: &str, value: Bson) {
    match name.split_once('.') {
        None => {
            into.insert(name, value);
        }
        Some((first, rest)) => {
            if let Bson::Document(within) =
                into.entry(first.to_owned()).or_insert_with(|| Bson::Document(Document::new()))
            {
                put(within, rest, value);
            }
        }
    }
}

#[cfg(test)]
#[path = "lists_tests.rs"]
mod tests;
