//! Makes collections and indexes of tables that a source describes, as commands in JSON. Pure.
//!
//! Keys of indexes are written by the columns' names; where those lie in documents is known when the collection is made.
//! What MongoDB has no counterpart for (foreign keys, checks, expressions) is left out and said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bson::Document;
use serde::{Deserialize, Serialize};

use super::shape::Shape;
use super::words;
use crate::definition::{ColumnDef, DataType, IndexDef, TableDef};
use crate::documents::values::Form;
use crate::documents::{BSON, KEY, OBJECT_ID};
use crate::error::{Error, Result};
use crate::exchange::Microseconds;
use crate::schema::{Column, RowIdentity, SchemaObject, SchemaScript, Stage, Table, TableId, TableName};
use crate::transform::rules::Homes;
use crate::transform::typename;

/// `{ "create": … }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Create {
    /// The collection.
    pub create: String,
    /// How rows become its documents.
    pub table: Table,
}

/// `{ "createIndexes": … }` for one index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateIndex {
    /// The collection.
    #[serde(rename = "createIndexes")]
    pub collection: String,
    /// Its name.
    pub name: String,
    /// Column and direction (1 or -1), in order.
    pub key: Vec<(String, i32)>,
    /// Whether no two documents may be equal in it.
    pub unique: bool,
    /// Columns in which NULL keeps a row out of the index: to the source no two NULLs are equal, to MongoDB they are.
    pub not_null: Vec<String>,
    /// Whether it is the primary key: nothing to do where that is `_id`.
    pub primary: bool,
    /// The whole definition as extended JSON, where the source is a MongoDB; then nothing above but its name counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
}

/// The script of a source's tables as collections.
///
/// # Errors
/// `Fatal` where a table's rows cannot be documents, or two tables would be one collection.
pub fn adopt(script: SchemaScript, engine: &str, homes: &Homes, micros: Microseconds) -> Result<SchemaScript> {
    let mut out = SchemaScript {
        dialect: "mongo".into(),
        made_by: script.made_by.clone(),
        remarks: script.remarks.clone(),
        ..SchemaScript::default()
    };
    let mut seen: BTreeMap<TableName, &TableName> = BTreeMap::new();
    for def in &script.tables {
        let home = homes.table(&def.name);
        if let Some(other) = seen.insert(home.clone(), &def.name) {
            return Err(Error::fatal(format!("{other} and {} would be one collection on the target", def.name))
                .hint("leave one out with tables.exclude, or send it elsewhere with a [[rule]]"));
        }
        carried(&script, def, &home, &mut out)?;
        one(def, (engine, homes, micros), home, &mut out)?;
    }
    Ok(out)
}

/// Indexes of a source that is a MongoDB, too: it describes as objects those that fit its documents as they are.
fn carried(script: &SchemaScript, def: &TableDef, home: &TableName, out: &mut SchemaScript) -> Result<()> {
    let own = script.dialect == out.dialect;
    for o in script.objects.iter().filter(|o| own && o.kind == "INDEX" && o.table.as_ref() == Some(&def.name)) {
        let index = CreateIndex {
            collection: home.name.clone(),
            name: o.name.clone(),
            key: Vec::new(),
            unique: defined(&o.sql).is_some_and(|d| d.get_bool("unique").unwrap_or(false)),
            not_null: Vec::new(),
            primary: false,
            definition: Some(o.sql.clone()),
        };
        out.objects.push(object("INDEX", home, &o.name, &def.name, written(&index)?, Stage::TableCopied));
    }
    Ok(())
}

/// A definition that a source of the same engine has written.
pub fn defined(json: &str) -> Option<Document> {
    let bytes = crate::documents::read::document(json.as_bytes()).ok()?;
    Document::from_reader(&*bytes).ok()
}

/// What decides what columns become: the source's engine, what rules say, and what becomes of microseconds.
type By<'a> = (&'a str, &'a Homes, Microseconds);

pub(super) fn object(
    kind: &str,
    home: &TableName,
    name: &str,
    source: &TableName,
    sql: String,
    stage: Stage,
) -> SchemaObject {
    SchemaObject {
        kind: kind.into(),
        schema: home.schema.clone(),
        name: name.to_owned(),
        table: Some(source.clone()),
        sql,
        stage,
    }
}

pub(super) fn written<T: Serialize>(what: &T) -> Result<String> {
    serde_json::to_string(what).map_err(|e| Error::fatal(format!("writing a command as JSON: {e}")))
}

fn one(def: &TableDef, by: By<'_>, home: TableName, out: &mut SchemaScript) -> Result<()> {
    let mut columns = Vec::new();
    for (n, c) in def.columns.iter().enumerate() {
        if !c.travels {
            out.remarks.push(format!("{}: column {} is computed by the source and left out", def.name, c.name));
            continue;
        }
        let key = def.primary_key.iter().any(|k| k.name == c.name);
        let placed = column(def, c, n, key, by)?;
        if placed.data != c.data && words::cut(&c.data) == placed.data {
            out.remarks.push(format!("{}: column {} ({}) loses its microseconds", def.name, c.name, c.type_name));
        }
        columns.push(placed);
    }
    let place = |name: &str| columns.iter().position(|c: &Column| c.name == name);
    let key: Option<Vec<usize>> = def.primary_key.iter().map(|k| place(&k.name)).collect();
    let identity = match key {
        Some(key) if !key.is_empty() => RowIdentity::Key(key),
        _ => RowIdentity::AllColumns,
    };
    let has_secondary_unique = def.indexes.iter().any(|i| i.unique);
    let table = Arc::new(Table {
        id: TableId(0),
        name: home.clone(),
        columns,
        generated: Vec::new(),
        identity,
        full_old_rows: false,
        full_old_rows_by: String::new(),
        has_secondary_unique,
        partitioned: false,
        estimated_rows: 0,
        bytes: 0,
    });
    let shape = shaped(&def.name, &table)?;
    if shape.is_generated() {
        out.remarks.push(format!(
            "{}: has no primary key: _id is made up, and updates and deletes look through the whole collection",
            def.name
        ));
    }
    let create = Create { create: home.name.clone(), table: (*table).clone() };
    out.objects.push(object("COLLECTION", &home, &home.name, &def.name, written(&create)?, Stage::BeforeCopy));
    if !def.primary_key.is_empty() {
        let index = CreateIndex {
            collection: home.name.clone(),
            name: "primary_key".into(),
            key: def.primary_key.iter().map(|k| (k.name.clone(), 1)).collect(),
            unique: true,
            not_null: Vec::new(),
            primary: true,
            definition: None,
        };
        out.objects.push(object("PRIMARY KEY", &home, "primary_key", &def.name, written(&index)?, Stage::TableCopied));
    }
    for i in &def.indexes {
        match index(def, i, &shape) {
            Ok(index) => {
                out.objects.push(object("INDEX", &home, &i.name, &def.name, written(&index)?, Stage::TableCopied));
            }
            Err(why) => {
                let what = if i.unique { "unique index" } else { "index" };
                let more = if i.unique { "; nothing on the target keeps rows apart in its columns" } else { "" };
                out.remarks.push(format!("{}: {what} {} is left out: {why}{more}", def.name, i.name));
            }
        }
    }
    for key in &def.foreign_keys {
        out.remarks.push(format!("{}: foreign key {} is left out: MongoDB has none", def.name, key.name));
    }
    for (name, _) in &def.checks {
        out.remarks.push(format!("{}: check {name} is left out: its expression is the source's", def.name));
    }
    out.remarks.extend(def.left_behind.iter().map(|l| format!("{}: left out: {l}", def.name)));
    for c in def.columns.iter().filter(|c| c.numbered && c.travels) {
        out.remarks.push(format!("{}: column {} does not number rows here: MongoDB counts nothing", def.name, c.name));
    }
    Ok(())
}

pub(super) fn shaped(source: &TableName, table: &Arc<Table>) -> Result<Shape> {
    Shape::new(table, None).map_err(|why| {
        Error::fatal(format!("{source}: its rows cannot be documents: {why}"))
            .with_code("switchyard:type")
            .hint("rename the column with a rule (rename = { … }), or leave it out (drop)")
    })
}

fn column(def: &TableDef, c: &ColumnDef, n: usize, key: bool, by: By<'_>) -> Result<Column> {
    let kind = if c.data == DataType::Other { crate::schema::Kind::Other } else { typename::of(&c.data).1 };
    let plain = Column {
        name: c.name.clone(),
        number: i32::try_from(n + 1).unwrap_or(i32::MAX),
        type_name: c.type_name.clone(),
        kind,
        data: c.data.clone(),
        nullable: c.nullable,
        identity: None,
        default: None,
        collation: None,
        portable_binary: false,
    };
    placed(&def.name, plain, key, by)
}

/// A column with the word for what its values are here.
fn placed(source: &TableName, mut c: Column, key: bool, (engine, homes, micros): By<'_>) -> Result<Column> {
    if let Some(chosen) = homes.type_of(source, &c.name) {
        let named = words::named(chosen).map_err(|why| {
            Error::config(format!("the type of column {} of {source}: {why}", c.name))
                .hint("correct the rule's `types`, or leave the column out of them")
        })?;
        (c.type_name, c.kind, c.data) = named;
    } else if engine != "mongo" || ![BSON, KEY, OBJECT_ID].contains(&c.type_name.as_str()) {
        c.type_name = words::word(&c.data, c.kind, &c.type_name);
        // Of a key nothing is cut: two rows could become one.
        if micros == Microseconds::Cut && !key {
            c.data = words::cut(&c.data);
        }
    }
    c.default = None;
    c.collation = None;
    c.portable_binary = false;
    Ok(c)
}

pub(super) fn index(def: &TableDef, index: &IndexDef, shape: &Shape) -> Result<CreateIndex, String> {
    if let Some(p) = &index.peculiar {
        return Err(format!("its rows or expressions are said in the source's own words ({p})"));
    }
    if let Some(method) = index.method.as_deref().filter(|m| !matches!(*m, "btree" | "hash")) {
        return Err(format!("there is no such kind of index ({method})"));
    }
    let mut out = CreateIndex {
        collection: shape.table.name.name.clone(),
        name: index.name.clone(),
        key: Vec::new(),
        unique: index.unique,
        not_null: Vec::new(),
        primary: false,
        definition: None,
    };
    let mut lists = 0;
    for k in &index.columns {
        let Some(at) = shape.table.column(&k.name) else { return Err(format!("column {} is not here", k.name)) };
        if k.prefix.is_some() && index.unique {
            return Err(format!("only a part of column {} stands in it", k.name));
        }
        let listed = matches!(shape.form(at), Some(Form::Json | Form::Array(_) | Form::Document));
        lists += usize::from(listed);
        if listed && index.unique {
            return Err(format!("column {} may hold lists, whose members would be compared one by one", k.name));
        }
        if lists > 1 {
            return Err("two of its columns may hold lists, which cannot stand in one index".into());
        }
        if out.key.iter().any(|(n, _)| *n == k.name) {
            return Err(format!("column {} stands in it twice", k.name));
        }
        out.key.push((k.name.clone(), if k.descending { -1 } else { 1 }));
        let nullable = def.column(&k.name).is_some_and(|c| c.nullable);
        if index.unique && !index.nulls_equal && nullable && !def.primary_key.iter().any(|p| p.name == k.name) {
            out.not_null.push(k.name.clone());
        }
    }
    if out.key.is_empty() {
        return Err("it has no columns".into());
    }
    Ok(out)
}

/// A table with the names and types that [`adopt`] gives it, as far as the log describes it.
///
/// # Errors
/// As [`adopt`].
pub fn adopt_table(engine: &str, table: &Table, homes: &Homes, micros: Microseconds) -> Result<Table> {
    let mut out = table.clone();
    out.name = homes.table(&table.name);
    out.columns = (table.columns.iter().enumerate())
        .map(|(i, c)| placed(&table.name, c.clone(), table.key().contains(&i), (engine, homes, micros)))
        .collect::<Result<Vec<Column>>>()?;
    out.generated.clear();
    out.partitioned = false;
    shaped(&table.name, &Arc::new(out.clone()))?;
    Ok(out)
}

/// The collections' databases, for messages and privileges.
pub fn databases<'a>(tables: impl Iterator<Item = &'a TableName>) -> BTreeSet<&'a str> {
    tables.map(|t| t.schema.as_str()).collect()
}

#[cfg(test)]
#[path = "adopt_tests.rs"]
mod tests;
