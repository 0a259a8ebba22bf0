//! How documents become rows: two columns for a document as a whole, or a column a field that a rule names. Pure.

pub mod fields;
mod paths;
#[cfg(test)]
mod tests;

use crate::change::{Op, Refused};
use crate::definition::{ColumnDef, DataType, DefaultValue, KeyColumn, TableDef};
use crate::documents::canonical::Wanted;
use crate::documents::cursor::{Doc, Malformed, Value};
use crate::documents::ejson::{self, Fault, Numbers, Style, Why};
use crate::documents::values::{Choices, Form};
use crate::documents::{BSON, KEY, key, write};
use crate::exchange::{CollectionFields, DocumentForm, NulText};
use crate::schema::{Column, Kind, RowIdentity, Table, TableId, TableName};
use crate::value::{Datum, Row, RowBuilder, RowsBuilder};
use fields::FieldSpec;
use paths::Node;

/// The key of every collection.
pub const ID: &str = "_id";
/// The column of a whole document.
pub const DOC: &str = "doc";

/// What all collections of a migration have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The form of documents that no rule takes apart.
    pub documents: DocumentForm,
    /// What becomes of U+0000.
    pub nul_text: NulText,
}

/// A document that does not fit its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// The field's path; empty for the document as a whole.
    pub path: String,
    /// What is wrong, in words that follow the field.
    pub what: String,
}

impl std::fmt::Display for Misfit {
    /// `field address.zip holds a string, and the rule says integer`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.path.as_str() {
            "" => write!(f, "the document {}", self.what),
            path => write!(f, "field {path} {}", self.what),
        }
    }
}

impl Misfit {
    fn new(path: impl Into<String>, what: impl Into<String>) -> Misfit {
        Misfit { path: path.into(), what: what.into() }
    }
}

impl From<Malformed> for Misfit {
    fn from(m: Malformed) -> Misfit {
        Misfit::new("", format!("cannot be read: {m}"))
    }
}

impl From<Fault> for Misfit {
    fn from(fault: Fault) -> Misfit {
        let what = match fault.why {
            Why::Nul => "holds the character U+0000, which PostgreSQL's texts and jsonb do not have; source.nul_text = \"replace\" sends U+2400 in its place".to_owned(),
            Why::Utf8 => "holds a text that is not UTF-8".to_owned(),
            Why::Deep => "holds documents that are nested too deeply".to_owned(),
            Why::Malformed(m) => format!("cannot be read: {m}"),
        };
        Misfit::new(fault.path, what)
    }
}

/// A column that a field becomes.
#[derive(Clone, Debug)]
struct FieldColumn {
    path: String,
    wanted: Wanted,
    /// The type as messages say it.
    says: String,
    not_null: bool,
    default: Option<Box<[u8]>>,
}

#[derive(Clone, Debug)]
enum Way {
    /// `_id` as a text and `doc` as JSON.
    Json,
    /// Both as BSON.
    Bson,
    /// A column a field.
    Fields {
        /// `_id` comes first, without a type of its own unless it is named.
        id: Option<FieldColumn>,
        columns: Vec<FieldColumn>,
        /// Places in `columns`, and one more for `_id` at their end.
        root: Node,
        style: Style,
    },
}

/// What becomes of a collection's documents.
#[derive(Clone, Debug)]
pub struct Mapping {
    table: Table,
    def: TableDef,
    way: Way,
    options: Options,
}

impl Mapping {
    /// For a collection of that name. `fields`: what its rule says; `pre_images`: whether the log has the documents as they
    /// were before a change.
    ///
    /// # Errors
    /// The rule's key and what is wrong with it; [`fields::check`] finds the same.
    pub fn new(
        name: TableName,
        fields: Option<&CollectionFields>,
        options: Options,
        pre_images: bool,
    ) -> Result<Mapping, (String, String)> {
        let style = Style { nul: options.nul_text, numbers: Numbers::Kept };
        let json = |name: &str| made(name, "json", Kind::Json, DataType::Json { verbatim: false }, true);
        let id_text = || made(ID, KEY, Kind::Text, DataType::Text { bytes: None }, false);
        let (columns, way) = match (fields, options.documents) {
            (None, DocumentForm::Json) => {
                (vec![id_text(), made(DOC, "json", Kind::Json, DataType::Json { verbatim: false }, false)], Way::Json)
            }
            (None, DocumentForm::Bson) => {
                let bson = |name: &str| made(name, BSON, Kind::Other, DataType::Other, false);
                (vec![bson(ID), bson(DOC)], Way::Bson)
            }
            (Some(fields), _) => {
                fields::check(fields)?;
                let mut id = None;
                let mut made_columns = vec![id_text()];
                let mut columns = Vec::new();
                let mut root = Node::default();
                for (path, text) in &fields.fields {
                    let spec = FieldSpec::parse(text).map_err(|e| (fields::key(path), e))?;
                    let is_id = path == ID;
                    let mut column =
                        made(path, &spec.type_name, spec.kind, spec.data.clone(), !spec.not_null && !is_id);
                    column.1.default = spec.default_value();
                    let field = FieldColumn {
                        path: path.clone(),
                        says: says(text),
                        not_null: spec.not_null || is_id,
                        default: spec.default.map(|d| d.into_bytes().into_boxed_slice()),
                        wanted: spec.wanted,
                    };
                    if is_id {
                        if let Some(first) = made_columns.first_mut() {
                            *first = column;
                        }
                        id = Some(field);
                    } else {
                        made_columns.push(column);
                        root.insert(&fields::steps(path).map_err(|e| (fields::key(path), e))?, columns.len());
                        columns.push(field);
                    }
                }
                root.insert(&[ID], columns.len());
                root.finish();
                made_columns.push(json(fields.rest.as_deref().unwrap_or(fields::REST)));
                (made_columns, Way::Fields { id, columns, root, style })
            }
        };
        let (mut columns, defs): (Vec<Column>, Vec<ColumnDef>) = columns.into_iter().unzip();
        for (column, number) in columns.iter_mut().zip(1..) {
            column.number = number;
        }
        let table = Table {
            id: TableId(0),
            name: name.clone(),
            columns,
            generated: Vec::new(),
            identity: RowIdentity::Key(vec![0]),
            full_old_rows: pre_images,
            full_old_rows_by: images_by(&name),
            has_secondary_unique: false,
            partitioned: false,
            estimated_rows: 0,
            bytes: 0,
        };
        let def = TableDef {
            name,
            columns: defs,
            primary_key: vec![KeyColumn { name: ID.into(), descending: false, prefix: None }],
            indexes: Vec::new(),
            foreign_keys: Vec::new(),
            checks: Vec::new(),
            comment: None,
            left_behind: Vec::new(),
        };
        Ok(Mapping { table, def, way, options })
    }

    /// The table that its rows are of. Its number, size and number of rows are the caller's to set.
    pub fn table(&self) -> &Table {
        &self.table
    }
    /// The table for targets of other engines.
    pub fn definition(&self) -> &TableDef {
        &self.def
    }
    /// Whether a row is the document's own bytes, so that nothing of it can be refused.
    pub fn is_raw(&self) -> bool {
        matches!(self.way, Way::Bson)
    }

    /// Appends the row of a document. After an error nothing was appended.
    ///
    /// # Errors
    /// What does not fit.
    pub fn render(&self, doc: Doc<'_>, out: &mut RowsBuilder) -> Result<(), Misfit> {
        let from = out.bytes();
        out.begin(self.table.columns.len());
        let done = match &self.way {
            Way::Json => self.whole(doc, out),
            Way::Bson => raw(doc, out),
            Way::Fields { id, columns, root, style } => {
                // As a rule the places fit the stack; no document pays for the widest table.
                match columns.len() {
                    0..16 => self.parts(doc, id.as_ref(), columns, root, *style, &mut [None; 16], out),
                    16..64 => self.parts(doc, id.as_ref(), columns, root, *style, &mut [None; 64], out),
                    n => self.parts(doc, id.as_ref(), columns, root, *style, &mut vec![None; n + 1], out),
                }
            }
        };
        match done {
            Ok(()) => out.end(),
            Err(_) => out.buffer().truncate(from),
        }
        done
    }

    /// The row of one document.
    ///
    /// # Errors
    /// As [`Mapping::render`].
    pub fn row(&self, doc: Doc<'_>) -> Result<Row, Misfit> {
        let mut rows = RowsBuilder::with_capacity(1, doc.bytes().len() * 2);
        self.render(doc, &mut rows)?;
        let row = rows.finish().and_then(|mut rows| rows.next());
        row.ok_or_else(|| Misfit::new("", "makes a row of 4 GiB or more"))
    }

    /// A row of the key alone, for deletes: `id` is the value of `_id`.
    ///
    /// # Errors
    /// A value that no row could have had.
    pub fn key_row(&self, id: &Value<'_>) -> Result<Row, Misfit> {
        let mut text = Vec::new();
        match &self.way {
            Way::Bson => id_document(&mut text, id),
            Way::Fields { id: Some(column), .. } => column.put_key(&mut text, id)?,
            Way::Json | Way::Fields { .. } => key::text(&mut text, id).map_err(|f| f.below(ID.as_bytes()))?,
        }
        Ok(self.only_key(&text))
    }

    fn only_key(&self, text: &[u8]) -> Row {
        let mut row = RowBuilder::with_capacity(self.table.columns.len(), text.len());
        row.push(Datum::Text(text));
        for _ in 1..self.table.columns.len() {
            row.push(Datum::Null);
        }
        row.finish()
    }

    /// A document of `_id` alone, for finding a row's document again.
    ///
    /// # Errors
    /// A key that this mapping does not make.
    pub fn filter(&self, key: &Row) -> Result<Vec<u8>, Misfit> {
        let misfit = |what: &str| Misfit::new(ID, what);
        let (Some(column), Datum::Text(text)) = (self.table.columns.first(), key.get(0)) else {
            return Err(misfit("is not known"));
        };
        let form = match &self.way {
            Way::Bson => Form::Key,
            Way::Json | Way::Fields { id: None, .. } => Form::KeyText,
            Way::Fields { .. } => Form::of(column),
        };
        let mut out = Vec::new();
        let start = write::open(&mut out);
        form.field(&mut out, ID.as_bytes(), Datum::Text(text), Choices::default()).map_err(misfit)?;
        write::close(&mut out, start);
        Ok(out)
    }

    /// A document that was refused, for the log of what was set aside. `table` is its number in this run.
    pub fn refused(&self, table: TableId, op: Op, doc: Doc<'_>, misfit: &Misfit) -> Refused {
        let id = doc.get(ID).ok().flatten();
        let mut shown = Vec::new();
        if let Some(id) = &id
            && key::text(&mut shown, id).is_err()
        {
            // A key that has no text of its own still has to be told from others.
            shown.clear();
            if ejson::value(&mut shown, id, ejson::SHOWN).is_err() {
                shown.clear();
                ejson::hex(&mut shown, doc.bytes());
            }
        }
        let key = id.as_ref().and_then(|id| self.key_row(id).ok()).unwrap_or_else(|| self.only_key(&shown));
        let message = format!("_id {}: {misfit}", String::from_utf8_lossy(&shown));
        Refused { table, op, key, row: ejson::shown(doc), message }
    }

    fn whole(&self, doc: Doc<'_>, out: &mut RowsBuilder) -> Result<(), Misfit> {
        let id = id_of(doc)?;
        key::text(out.buffer(), &id).map_err(|f| f.below(ID.as_bytes()))?;
        out.text();
        ejson::document(out.buffer(), doc, Style { nul: self.options.nul_text, numbers: Numbers::Kept })?;
        out.text();
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    #[inline]
    fn parts<'d>(
        &self,
        doc: Doc<'d>,
        id: Option<&FieldColumn>,
        columns: &[FieldColumn],
        root: &Node,
        style: Style,
        slots: &mut [Option<Value<'d>>],
        out: &mut RowsBuilder,
    ) -> Result<(), Misfit> {
        let left = root.locate(doc, slots, 0)?;
        let found_id = slots.get(columns.len()).copied().flatten().ok_or_else(|| Misfit::new(ID, "is missing"))?;
        match id {
            Some(column) => column.put_key(out.buffer(), &found_id)?,
            None => key::text(out.buffer(), &found_id).map_err(|f| f.below(ID.as_bytes()))?,
        }
        out.text();
        for (column, slot) in columns.iter().zip(slots.iter()) {
            match slot {
                None => match &column.default {
                    Some(default) => {
                        out.buffer().extend_from_slice(default);
                        out.text();
                    }
                    None if column.not_null => {
                        return Err(Misfit::new(&column.path, "is missing, and the rule says not null"));
                    }
                    None => out.null(),
                },
                // JSON has a null of its own, but the columns of such documents are asked for NULL.
                Some(Value::Null | Value::Undefined) => {
                    if column.not_null {
                        return Err(Misfit::new(&column.path, "is null, and the rule says not null"));
                    }
                    out.null();
                }
                Some(value) => {
                    column.put(out.buffer(), value, style.nul)?;
                    out.text();
                }
            }
        }
        if left {
            root.rest(doc, out.buffer(), style)?;
            out.text();
        } else {
            out.null();
        }
        Ok(())
    }
}

impl FieldColumn {
    /// A key: no other document's may have the same text, so nothing in it is replaced, and one type takes the place.
    fn put_key(&self, out: &mut Vec<u8>, value: &Value<'_>) -> Result<(), Misfit> {
        if !self.wanted.keeps_apart(value) {
            return Err(Misfit::new(ID, format!("holds {}, and the rule says {}", value.name(), self.says)));
        }
        self.put(out, value, NulText::Refuse)
    }

    #[inline]
    fn put(&self, out: &mut Vec<u8>, value: &Value<'_>, nul: NulText) -> Result<(), Misfit> {
        self.wanted.put(out, value, nul).map_err(|unfit| {
            let path = match unfit.below.as_str() {
                "" => self.path.clone(),
                below => format!("{}.{below}", self.path),
            };
            Misfit::new(path, format!("holds {}{}, and the rule says {}", unfit.found, unfit.detail, self.says))
        })
    }
}

fn id_of<'d>(doc: Doc<'d>) -> Result<Value<'d>, Misfit> {
    doc.get(ID)?.ok_or_else(|| Misfit::new(ID, "is missing"))
}

fn raw(doc: Doc<'_>, out: &mut RowsBuilder) -> Result<(), Misfit> {
    let id = id_of(doc)?;
    id_document(out.buffer(), &id);
    out.text();
    out.buffer().extend_from_slice(doc.bytes());
    out.text();
    Ok(())
}

fn id_document(out: &mut Vec<u8>, id: &Value<'_>) {
    let start = write::open(out);
    // The name has no zero in it.
    let _ = write::field(out, ID.as_bytes(), id);
    write::close(out, start);
}

/// A type as a rule has it, without what stands behind it.
fn says(text: &str) -> String {
    let lower = text.to_lowercase();
    let end = [" not null", " null", " default"].iter().filter_map(|w| lower.find(w)).min().unwrap_or(lower.len());
    lower.get(..end).unwrap_or(&lower).trim().to_owned()
}

fn made(name: &str, type_name: &str, kind: Kind, data: DataType, nullable: bool) -> (Column, ColumnDef) {
    let column = Column {
        name: name.to_owned(),
        number: 0,
        type_name: type_name.to_owned(),
        kind,
        data: data.clone(),
        nullable,
        identity: None,
        default: None,
        collation: None,
        portable_binary: false,
    };
    let def = ColumnDef {
        name: name.to_owned(),
        data,
        type_name: type_name.to_owned(),
        nullable,
        default: DefaultValue::None,
        numbered: false,
        generated: None,
        travels: true,
        comment: None,
    };
    (column, def)
}

/// What makes the log hold documents as they were before a change. Names are written as JSON writes texts.
fn images_by(collection: &TableName) -> String {
    format!(
        "db.getSiblingDB({:?}).runCommand({{ collMod: {:?}, changeStreamPreAndPostImages: {{ enabled: true }} }})",
        collection.schema, collection.name
    )
}
