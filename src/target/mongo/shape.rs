//! A table's rows as documents: what is `_id`, what is a field, and how a document is found again. Pure.
//!
//! The key's one column is `_id` and stands nowhere else; a key of several columns is a document under `_id`, its fields in
//! the key's order. Every other column is a field of its name; points in a name lead into nested documents. NULL is null.

use std::sync::Arc;

use bson::Document;

use super::values;
use super::words;
use crate::documents::cursor::{Doc, Value};
use crate::documents::values::{Choices, Form};
use crate::documents::write;
use crate::error::{Error, Result};
use crate::schema::Table;
use crate::value::{Datum, Row};

/// The largest document that the server takes (`BSONObjMaxUserSize`, bson/util/builder.h).
pub const LARGEST: usize = 16 << 20;

/// A field, or a document of fields.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Leaf { name: String, column: usize },
    Within { name: String, nodes: Vec<Node> },
}

/// What `_id` is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Id {
    /// Nothing of the row: it is made up.
    Generated,
    One(usize),
    Several(Vec<Node>),
}

/// Prepared for a table.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The target's table; rows have its columns.
    pub table: Arc<Table>,
    forms: Vec<(Form, Choices)>,
    id: Id,
    /// The columns that `_id` is made of, in its order.
    id_columns: Vec<usize>,
    nodes: Vec<Node>,
    /// The column that holds the whole document.
    document: Option<usize>,
    /// Whether the table's identity is what `_id` is made of.
    by_id: bool,
    /// Documents hold fields besides the columns'.
    keeps_others: bool,
}

impl Shape {
    /// Of a table as a batch or a copy has it. `known` is the collection's own definition: its key, in its order, is `_id`
    /// whatever else finds rows.
    ///
    /// # Errors
    /// Why the rows cannot be documents, in words.
    pub fn new(table: &Arc<Table>, known: Option<&Table>) -> Result<Shape, String> {
        let named = |t: &Table| -> Vec<String> {
            t.key().iter().filter_map(|&k| t.columns.get(k)).map(|c| c.name.clone()).collect()
        };
        let id_names = named(known.unwrap_or(table));
        let id_columns = id_names
            .iter()
            .map(|n| table.column(n).ok_or_else(|| format!("nothing gives column {n}, which is the document's _id")))
            .collect::<Result<Vec<usize>, String>>()?;
        let forms: Vec<(Form, Choices)> =
            table.columns.iter().enumerate().map(|(i, c)| words::form(c, id_columns.contains(&i))).collect();
        let document = forms.iter().position(|(f, _)| *f == Form::Document);
        let id = match id_columns.as_slice() {
            [] => Id::Generated,
            &[one] => Id::One(one),
            several => Id::Several(tree(several.iter().map(|&c| (c, table.columns[c].name.as_str())))?),
        };
        let rest = (0..table.columns.len()).filter(|c| !id_columns.contains(c));
        let nodes = tree(rest.map(|c| (c, table.columns[c].name.as_str())))?;
        if document.is_none() && nodes.iter().any(|n| n.name() == "_id") {
            return Err("a column that is not the key is called _id".into());
        }
        let mut finds = table.key().to_vec();
        let mut ids = id_columns.clone();
        finds.sort_unstable();
        ids.sort_unstable();
        Ok(Shape {
            table: table.clone(),
            forms,
            id,
            nodes,
            document,
            by_id: !ids.is_empty() && finds == ids,
            id_columns,
            keeps_others: false,
        })
    }

    /// Whether `_id` is made of nothing in the row.
    pub fn is_generated(&self) -> bool {
        self.id == Id::Generated
    }
    /// Whether rows are found by `_id`.
    pub fn is_found_by_id(&self) -> bool {
        self.by_id
    }
    /// Whether a document may hold fields that no column is made of and that must stay.
    pub fn holds_whole_documents(&self) -> bool {
        self.document.is_some()
    }
    /// The same for documents that hold lists of other tables' rows: they are never replaced as a whole.
    pub fn keeping_others(self) -> Shape {
        Shape { keeps_others: true, ..self }
    }
    /// Whether documents hold fields that no column is made of and that must stay.
    pub fn keeps_others(&self) -> bool {
        self.keeps_others
    }
    /// The path of a column's value in a document.
    pub fn path(&self, column: usize) -> String {
        let name = self.table.columns.get(column).map_or("", |c| c.name.as_str());
        match (&self.id, self.id_columns.contains(&column)) {
            (_, false) => name.to_owned(),
            (Id::Several(_), true) => format!("_id.{name}"),
            (_, true) => "_id".to_owned(),
        }
    }
    /// The path of the column of that name.
    pub fn path_of(&self, name: &str) -> Option<String> {
        self.table.column(name).map(|c| self.path(c))
    }
    /// The form of a column's values.
    pub fn form(&self, column: usize) -> Option<&Form> {
        self.forms.get(column).map(|(f, _)| f)
    }

    /// `id=5,shop=7`, for messages.
    pub fn key_text(&self, row: &Row) -> String {
        let key = if self.table.key().is_empty() { &self.id_columns } else { self.table.key() };
        let parts: Vec<String> = key
            .iter()
            .filter_map(|&k| {
                let name = &self.table.columns.get(k)?.name;
                Some(match row.get(k) {
                    Datum::Text(_) if self.form(k) == Some(&Form::Key) => format!("{name}=…"),
                    Datum::Text(t) => format!("{name}={}", String::from_utf8_lossy(t)),
                    _ => format!("{name}=NULL"),
                })
            })
            .collect();
        if parts.is_empty() { "a row without a key".to_owned() } else { format!("the row with {}", parts.join(",")) }
    }

    fn misfit(&self, row: &Row, column: usize, why: &str) -> Error {
        let name = self.table.columns.get(column).map_or("", |c| c.name.as_str());
        Error::fatal(format!("{}: column {name} of {} {why}", self.table.name, self.key_text(row)))
            .with_code("switchyard:value")
            .hint(values::hint(self.form(column)))
    }

    fn put(&self, out: &mut Vec<u8>, name: &str, row: &Row, column: usize) -> Result<()> {
        let Some((form, choices)) = self.forms.get(column) else { return Ok(()) };
        form.field(out, name.as_bytes(), row.get(column), *choices).map_err(|why| self.misfit(row, column, why))
    }

    fn put_nodes(&self, out: &mut Vec<u8>, row: &Row, nodes: &[Node]) -> Result<()> {
        for node in nodes {
            match node {
                Node::Leaf { name, column } => self.put(out, name, row, *column)?,
                Node::Within { name, nodes } => {
                    // Names of columns hold no zero.
                    write::name(out, 0x03, name.as_bytes()).map_err(Error::fatal)?;
                    let start = write::open(out);
                    self.put_nodes(out, row, nodes)?;
                    write::close(out, start);
                }
            }
        }
        Ok(())
    }

    /// `_id` as a field.
    fn put_id(&self, out: &mut Vec<u8>, row: &Row, generated: [u8; 12]) -> Result<()> {
        match &self.id {
            Id::Generated => {
                write::name(out, 0x07, b"_id").map_err(Error::fatal)?;
                out.extend_from_slice(&generated);
                Ok(())
            }
            Id::One(column) => self.put(out, "_id", row, *column),
            Id::Several(nodes) => {
                write::name(out, 0x03, b"_id").map_err(Error::fatal)?;
                let start = write::open(out);
                self.put_nodes(out, row, nodes)?;
                write::close(out, start);
                Ok(())
            }
        }
    }

    /// Appends a row's document. `generated` becomes `_id` where no column does.
    ///
    /// # Errors
    /// `Fatal` (`switchyard:value`) with column and key for what documents cannot hold, or a document that is too large.
    pub fn document(&self, out: &mut Vec<u8>, row: &Row, generated: [u8; 12]) -> Result<()> {
        let begin = out.len();
        if let Some(column) = self.document {
            let Datum::Text(bytes) = row.get(column) else { return Err(self.misfit(row, column, "holds no document")) };
            Doc::new(bytes).map_err(|_| self.misfit(row, column, "holds no document"))?;
            out.extend_from_slice(bytes);
        } else {
            let start = write::open(out);
            self.put_id(out, row, generated)?;
            self.put_nodes(out, row, &self.nodes)?;
            write::close(out, start);
        }
        let length = out.len() - begin;
        if length > LARGEST {
            return Err(Error::fatal(format!(
                "{}: {} makes a document of {length} bytes; MongoDB's have {LARGEST} at most",
                self.table.name,
                self.key_text(row)
            ))
            .with_code("switchyard:value")
            .hint("keep large values elsewhere (GridFS), and leave the column out with a rule (drop), or the row with a rule (where)"));
        }
        Ok(())
    }

    /// Appends a document that finds the row by its key, or by all of its fields where it has none.
    ///
    /// # Errors
    /// As [`Shape::document`].
    pub fn filter(&self, out: &mut Vec<u8>, row: &Row) -> Result<()> {
        if self.table.key().is_empty() {
            let all: Vec<usize> = (0..self.table.columns.len()).collect();
            return self.filter_by(out, row, &all);
        }
        if !self.by_id {
            return self.filter_by(out, row, self.table.key());
        }
        let start = write::open(out);
        let (id, value) = (out.len(), out.len() + 5);
        self.put_id(out, row, [0; 12])?;
        // A document whose first name begins with a dollar would be taken for an operator.
        if out.get(id) == Some(&0x03) && out.get(value + 5) == Some(&b'$') {
            let bytes = out.split_off(value);
            let within = write::open(out);
            write::name(out, 0x03, b"$eq").map_err(Error::fatal)?;
            out.extend_from_slice(&bytes);
            write::close(out, within);
        }
        write::close(out, start);
        Ok(())
    }

    /// Appends a document that finds rows equal in these columns.
    ///
    /// # Errors
    /// As [`Shape::document`].
    pub fn filter_by(&self, out: &mut Vec<u8>, row: &Row, columns: &[usize]) -> Result<()> {
        let start = write::open(out);
        for &c in columns {
            self.equals(out, row, c)?;
        }
        write::close(out, start);
        Ok(())
    }

    /// Appends `path: { $eq: value }`.
    fn equals(&self, out: &mut Vec<u8>, row: &Row, column: usize) -> Result<()> {
        write::name(out, 0x03, self.path(column).as_bytes()).map_err(Error::fatal)?;
        let start = write::open(out);
        self.put(out, "$eq", row, column)?;
        write::close(out, start);
        Ok(())
    }

    /// Appends the value of `_id` as an element of that name.
    pub(super) fn id_as(&self, out: &mut Vec<u8>, row: &Row, name: &[u8]) -> Result<()> {
        let at = out.len();
        self.put_id(out, row, [0; 12])?;
        out.splice(at + 1..at + 4, name.iter().copied());
        Ok(())
    }

    /// Appends a document that is there, with what a row says of it; what was not sent stays, and fields that no column is
    /// made of.
    ///
    /// # Errors
    /// As [`Shape::document`].
    pub fn patched(&self, out: &mut Vec<u8>, there: Doc<'_>, row: &Row) -> Result<()> {
        let start = write::open(out);
        if self.is_generated() {
            let id = there.get("_id").ok().flatten().unwrap_or(Value::Null);
            write::field(out, b"_id", &id).map_err(Error::fatal)?;
        } else {
            self.put_id(out, row, [0; 12])?;
        }
        self.patch_nodes(out, there, row, &self.nodes)?;
        for field in there.fields() {
            let Ok((name, value)) = field else { break };
            let known = |n: &Node| n.name().as_bytes() == name;
            if name != b"_id" && !self.nodes.iter().any(known) {
                write::field(out, name, &value).map_err(Error::fatal)?;
            }
        }
        write::close(out, start);
        Ok(())
    }

    fn patch_nodes(&self, out: &mut Vec<u8>, there: Doc<'_>, row: &Row, nodes: &[Node]) -> Result<()> {
        for node in nodes {
            let old = there.get(node.name()).ok().flatten();
            match node {
                Node::Leaf { name, column } if row.get(*column) == Datum::Unsent => {
                    if let Some(old) = old {
                        write::field(out, name.as_bytes(), &old).map_err(Error::fatal)?;
                    }
                }
                Node::Leaf { name, column } => self.put(out, name, row, *column)?,
                Node::Within { name, nodes } => {
                    write::name(out, 0x03, name.as_bytes()).map_err(Error::fatal)?;
                    let start = write::open(out);
                    let empty = Doc::new(&[5, 0, 0, 0, 0]);
                    match (old, empty) {
                        (Some(Value::Document(d)), _) | (_, Ok(d)) => self.patch_nodes(out, d, row, nodes)?,
                        _ => {}
                    }
                    write::close(out, start);
                }
            }
        }
        Ok(())
    }

    /// Appends a document that finds others than the row's which are equal in these columns, among those of `partial`.
    ///
    /// # Errors
    /// As [`Shape::document`].
    pub fn others(&self, out: &mut Vec<u8>, row: &Row, columns: &[usize], partial: Option<&Document>) -> Result<()> {
        let start = write::open(out);
        for &c in columns {
            self.equals(out, row, c)?;
        }
        write::name(out, 0x03, b"_id").map_err(Error::fatal)?;
        let within = write::open(out);
        let at = out.len();
        self.put_id(out, row, [0; 12])?;
        // The same value under another name.
        out.splice(at + 1..at + 4, *b"$ne");
        write::close(out, within);
        if let Some(partial) = partial {
            write::name(out, 0x04, b"$and").map_err(Error::fatal)?;
            let list = write::open(out);
            write::name(out, 0x03, b"0").map_err(Error::fatal)?;
            out.extend(partial.to_vec().map_err(|e| Error::fatal(format!("writing a filter: {e}")))?);
            write::close(out, list);
        }
        write::close(out, start);
        Ok(())
    }

    /// Appends `{ $setOnInsert: { … } }` with all fields but `_id`.
    ///
    /// # Errors
    /// As [`Shape::document`].
    pub fn set_on_insert(&self, out: &mut Vec<u8>, row: &Row) -> Result<()> {
        let start = write::open(out);
        write::name(out, 0x03, b"$setOnInsert").map_err(Error::fatal)?;
        let within = write::open(out);
        match self.document {
            Some(column) => {
                let Datum::Text(bytes) = row.get(column) else {
                    return Err(self.misfit(row, column, "holds no document"));
                };
                values::put_without_id(out, bytes).ok_or_else(|| self.misfit(row, column, "holds no document"))?;
            }
            None => self.put_nodes(out, row, &self.nodes)?,
        }
        write::close(out, within);
        write::close(out, start);
        Ok(())
    }

    /// Appends `{ $set: { … } }` with the fields of these columns; those of `_id` are left out. Whether any was left.
    ///
    /// # Errors
    /// As [`Shape::document`].
    pub fn set(&self, out: &mut Vec<u8>, row: &Row, sent: &[usize]) -> Result<bool> {
        let start = write::open(out);
        write::name(out, 0x03, b"$set").map_err(Error::fatal)?;
        let within = write::open(out);
        let mut any = false;
        for &c in sent.iter().filter(|c| !self.id_columns.contains(c)) {
            self.put(out, &self.path(c), row, c)?;
            any = true;
        }
        write::close(out, within);
        write::close(out, start);
        Ok(any)
    }
}

impl Node {
    fn name(&self) -> &str {
        match self {
            Node::Leaf { name, .. } | Node::Within { name, .. } => name,
        }
    }
}

/// Fields of these names, nested where the names hold points, in order of first appearance.
fn tree<'a>(columns: impl Iterator<Item = (usize, &'a str)>) -> Result<Vec<Node>, String> {
    let mut nodes = Vec::new();
    for (column, name) in columns {
        let mut into = &mut nodes;
        let mut parts = name.split('.').peekable();
        while let Some(part) = parts.next() {
            if part.is_empty() {
                return Err(format!("column {name:?} cannot be a field: a part of its name is empty"));
            }
            if part.starts_with('$') {
                return Err(format!("column {name:?} cannot be a field: names that begin with $ are operators"));
            }
            let found = into.iter().position(|n: &Node| n.name() == part);
            let last = parts.peek().is_none();
            let at = match (found, last) {
                (None, true) => {
                    into.push(Node::Leaf { name: part.to_owned(), column });
                    break;
                }
                (None, false) => {
                    into.push(Node::Within { name: part.to_owned(), nodes: Vec::new() });
                    into.len() - 1
                }
                (Some(_), true) => return Err(format!("column {name:?} and another make one field of the document")),
                (Some(at), false) => at,
            };
            match into.get_mut(at) {
                Some(Node::Within { nodes, .. }) => into = nodes,
                _ => return Err(format!("column {name:?} and another make one field of the document")),
            }
        }
    }
    Ok(nodes)
}

#[cfg(test)]
#[path = "shape_tests.rs"]
mod tests;
