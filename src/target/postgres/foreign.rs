//! The schema of a source of another engine as statements for PostgreSQL. Pure.
//!
//! Objects look as those that a PostgreSQL source's catalog gives (source/postgres/script.sql), so that `create.rs` makes
//! them in the same way. What cannot be said here is left out with a remark; rows are never left out.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::foreign_types::{self as types, Placed};
use crate::definition::{
    ColumnDef, DataType, DefaultValue, ForeignAction, ForeignKeyDef, IndexDef, KeyColumn, TableDef,
};
use crate::error::{Error, Result};
use crate::pgwire::quote::{literal, qualified, quoted};
use crate::schema::{Kind, SchemaObject, SchemaScript, Stage, Table, TableName};
use crate::transform::rules::Homes;

/// Bytes of a name (`NAMEDATALEN`, less the end).
const LONGEST_NAME: usize = 63;
/// Characters of a column that is indexed whole although the source indexes only its beginning: at four bytes each they fit
/// into an index's row (2704 bytes, `BTMaxItemSize`).
const INDEXED_WHOLE: u32 = 600;

/// Whether schemas of that dialect are understood here.
pub fn understands(dialect: &str) -> bool {
    matches!(dialect, "mysql" | "mariadb" | "mongo")
}

/// Statements that make the tables of `script` here.
///
/// # Errors
/// `Fatal` for names that are too long, and for types that rules give to columns that do not exist.
pub fn adopt(script: SchemaScript, homes: &Homes) -> Result<SchemaScript> {
    let tables = &script.tables;
    for (name, chosen) in &homes.types {
        let Some(t) = tables.iter().find(|t| t.name == *name) else { continue };
        if let Some(column) = chosen.keys().find(|c| t.column(c).is_none()) {
            return Err(no_column(name, column));
        }
    }
    let mut writer = Writer::new(tables, homes, types::place_all(tables, homes));
    writer.remarks = script.remarks.clone();
    writer.all()?;
    writer.said_once();
    let (objects, remarks) = (writer.objects, writer.remarks);
    Ok(SchemaScript { dialect: "postgres".into(), preamble: PREAMBLE.into(), objects, remarks, ..script })
}

/// What sessions that run such statements set.
pub(super) const PREAMBLE: &str = "SET client_encoding = 'UTF8';\nSET standard_conforming_strings = on;";

/// Objects that make the tables with these types, and what is to be said about them.
///
/// # Errors
/// `Fatal` for names that are too long.
pub(super) fn objects<'a>(
    tables: &'a [TableDef],
    homes: &'a Homes,
    placed: HashMap<(&'a TableName, &'a str), Placed>,
) -> Result<(Vec<SchemaObject>, Vec<String>)> {
    let mut writer = Writer::new(tables, homes, placed);
    writer.exact = true;
    writer.all()?;
    Ok((writer.objects, writer.remarks))
}

/// The table as [`adopt`] makes it here, as far as one table by itself tells: a column that refers to a counter may be
/// narrower there.
///
/// # Errors
/// As [`adopt`].
pub fn adopt_table(table: &Table, homes: &Homes) -> Result<Table> {
    if let Some(chosen) = homes.types.get(&table.name)
        && let Some(column) =
            chosen.keys().find(|name| !table.columns.iter().chain(&table.generated).any(|c| c.name == **name))
    {
        return Err(no_column(&table.name, column));
    }
    let mut out = Table { name: homes.table(&table.name), ..table.clone() };
    // What the source computes is an ordinary column here, or none.
    out.generated.clear();
    fits(&table.name, &table.name.name)?;
    for c in &mut out.columns {
        fits(&table.name, &c.name)?;
        let placed = types::place(&c.data, c.identity.is_some(), homes.type_of(&table.name, &c.name));
        if c.identity.is_some() && !counts(&placed) {
            c.identity = None;
        }
        c.type_name = placed.type_name;
        c.kind = placed.kind;
        c.data = placed.data;
        c.default = None;
        c.collation = None;
        c.portable_binary = false;
    }
    Ok(out)
}

/// The tables as [`adopt`] makes all of them together, in the order of `tables`.
///
/// # Errors
/// As [`adopt`].
pub fn adopted(defs: &[TableDef], tables: &[Arc<Table>], homes: &Homes) -> Result<Vec<Table>> {
    let placed = types::place_all(defs, homes);
    let mut out = Vec::with_capacity(tables.len());
    for table in tables {
        let mut made = adopt_table(table, homes)?;
        if let Some(def) = defs.iter().find(|d| d.name == table.name) {
            for c in &mut made.columns {
                let Some((d, p)) = def.column(&c.name).zip(placed.get(&(&def.name, c.name.as_str()))) else { continue };
                (c.type_name, c.kind) = (p.type_name.clone(), p.kind);
                c.data = if p.chosen { DataType::Other } else { p.data.clone() };
                c.nullable = permits_null(def, d, p);
            }
        }
        out.push(made);
    }
    Ok(out)
}

/// Whether NULL is permitted here: in a key or a counter it is not, and where the default is a date that is none it is, because
/// with `source.zero_dates = "null"` such rows come as NULL.
fn permits_null(t: &TableDef, c: &ColumnDef, placed: &Placed) -> bool {
    let is_key = t.primary_key.iter().any(|k| k.name == c.name);
    if is_key || (c.numbered && counts(placed)) {
        return false;
    }
    let zero = matches!(&c.default, DefaultValue::Literal(v) if types::is_zero_date(v.as_bytes()));
    c.nullable || (zero && types::default_of(c, placed).is_err())
}

fn no_column(table: &TableName, column: &str) -> Error {
    Error::fatal(format!(
        "the rule that gives types to {table} names column {column:?}, which the source does not have"
    ))
    .hint("correct or remove it in the rule's types")
}

/// Tables and columns keep their names: rows find them by these.
pub(super) fn fits(table: &TableName, name: &str) -> Result<()> {
    if name.len() <= LONGEST_NAME {
        return Ok(());
    }
    Err(Error::fatal(format!(
        "{table}: the name {name:?} is longer than the {LONGEST_NAME} bytes that PostgreSQL keeps"
    ))
    .hint("make the table on the target under another name, and write a rule: [[rule]] from, to, rename"))
}

pub(super) fn counts(placed: &Placed) -> bool {
    matches!(placed.kind, Kind::Int2 | Kind::Int4 | Kind::Int8)
}

struct Writer<'a> {
    homes: &'a Homes,
    tables: &'a [TableDef],
    placed: HashMap<(&'a TableName, &'a str), Placed>,
    /// Names of relations, by schema: tables, indexes and sequences share them.
    taken: HashSet<(String, String)>,
    /// Names of indexes are what they should be here.
    exact: bool,
    objects: Vec<SchemaObject>,
    remarks: Vec<String>,
}

impl<'a> Writer<'a> {
    fn new(tables: &'a [TableDef], homes: &'a Homes, placed: HashMap<(&'a TableName, &'a str), Placed>) -> Writer<'a> {
        let (taken, objects, remarks) = (HashSet::new(), Vec::new(), Vec::new());
        Writer { homes, tables, placed, taken, exact: false, objects, remarks }
    }

    fn all(&mut self) -> Result<()> {
        self.schemas();
        for t in self.tables {
            self.table(t)?;
        }
        for t in self.tables {
            self.keys(t);
        }
        for t in self.tables {
            self.foreign_keys(t);
        }
        Ok(())
    }

    fn push(&mut self, kind: &str, here: &TableName, name: String, of: &TableName, stage: Stage, sql: String) {
        self.objects.push(SchemaObject {
            kind: kind.to_owned(),
            schema: here.schema.clone(),
            name,
            table: Some(of.clone()),
            sql: sql + ";",
            stage,
        });
    }

    fn remark(&mut self, table: &TableName, what: impl std::fmt::Display) {
        self.remarks.push(format!("{table}: {what}"));
    }

    fn placed(&self, table: &'a TableName, column: &'a str) -> Option<&Placed> {
        self.placed.get(&(table, column))
    }

    fn schemas(&mut self) {
        let mut names: Vec<&str> = self.tables.iter().map(|t| self.homes.schema(&t.name.schema)).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            // Asked for before: without the right to make schemas, IF NOT EXISTS is refused even where it exists.
            let there = format!("SELECT FROM pg_catalog.pg_namespace WHERE nspname = {}", literal(name));
            let make = format!("CREATE SCHEMA {}", quoted(name));
            self.objects.push(SchemaObject {
                kind: "SCHEMA".into(),
                schema: String::new(),
                name: name.to_owned(),
                table: None,
                sql: format!("DO $switchyard$ BEGIN IF NOT EXISTS ({there}) THEN {make}; END IF; END $switchyard$;"),
                stage: Stage::BeforeCopy,
            });
        }
    }

    fn table(&mut self, t: &'a TableDef) -> Result<()> {
        let here = self.homes.table(&t.name);
        fits(&t.name, &here.name)?;
        self.taken.insert((here.schema.clone(), here.name.clone()));
        let mut parts = Vec::new();
        for c in &t.columns {
            fits(&t.name, &c.name)?;
            if !c.travels {
                let how = c.generated.as_deref().unwrap_or("the source computes it");
                self.remark(&t.name, format!("column {:?} is left out: it is computed there ({how})", c.name));
                continue;
            }
            let part = self.column(t, c);
            parts.push(part);
        }
        let sql = format!("CREATE TABLE {} ({})", qualified(&here), parts.join(", "));
        self.push("TABLE", &here, here.name.clone(), &t.name, Stage::BeforeCopy, sql);
        if let Some(comment) = t.comment.as_deref().filter(|c| !c.is_empty()) {
            let sql = format!("COMMENT ON TABLE {} IS {}", qualified(&here), literal(comment));
            self.push("COMMENT", &here, format!("TABLE {}", here.name), &t.name, Stage::BeforeCopy, sql);
        }
        for c in t.columns.iter().filter(|c| c.travels) {
            if let Some(comment) = c.comment.as_deref().filter(|c| !c.is_empty()) {
                let sql = format!("COMMENT ON COLUMN {}.{} IS {}", qualified(&here), quoted(&c.name), literal(comment));
                let name = format!("COLUMN {}.{}", here.name, c.name);
                self.push("COMMENT", &here, name, &t.name, Stage::BeforeCopy, sql);
            }
        }
        for (name, condition) in &t.checks {
            self.remark(&t.name, format!("check {name} is left out: it is written in the source's SQL ({condition})"));
        }
        for what in &t.left_behind {
            self.remark(&t.name, format!("{what} is left behind"));
        }
        Ok(())
    }

    /// A column of CREATE TABLE.
    fn column(&mut self, t: &'a TableDef, c: &'a ColumnDef) -> String {
        let Some(placed) = self.placed(&t.name, &c.name).cloned() else { return String::new() };
        let mut sql = format!("{} {}", quoted(&c.name), placed.type_name);
        if let Some(collation) = &placed.collation {
            sql.push_str(&format!(" COLLATE {collation}"));
        }
        let name = &c.name;
        if c.generated.is_some() {
            self.remark(&t.name, format!("column {name:?} is computed at the source and an ordinary column here"));
        }
        match &c.data {
            DataType::Geometry => {
                let what = "holds shapes as the source's bytes (SRID and WKB)";
                self.remark(&t.name, format!("column {name:?} ({}) {what}", c.type_name));
            }
            DataType::Other if !placed.chosen => {
                self.remark(&t.name, format!("column {name:?} ({}) becomes text", c.type_name));
            }
            DataType::Int { bits: 64, unsigned: true, .. } if placed.kind == Kind::Int8 => {
                let what = "becomes bigint: values beyond 9223372036854775807 are refused";
                self.remark(&t.name, format!("column {name:?} ({}) {what}", c.type_name));
            }
            _ => {}
        }
        if c.default == (DefaultValue::Now { on_update: true }) {
            self.remark(
                &t.name,
                format!("column {name:?} is not set by every update any more (ON UPDATE): use a trigger"),
            );
        }
        let counted = c.numbered && counts(&placed);
        if c.numbered && !counted {
            self.remark(&t.name, format!("column {name:?} is not numbered by itself: {} cannot be", placed.type_name));
        }
        let nullable = permits_null(t, c, &placed);
        if counted {
            let sequence = format!("{}_{name}_seq", self.homes.table(&t.name).name);
            self.claim(self.homes.schema(&t.name.schema).to_owned(), &sequence);
            sql.push_str(" GENERATED BY DEFAULT AS IDENTITY");
        } else {
            match types::default_of(c, &placed) {
                Ok(None) => {}
                Ok(Some(expression)) => sql.push_str(&format!(" DEFAULT {expression}")),
                Err(why) => {
                    if nullable && !c.nullable {
                        self.remark(&t.name, format!("column {name:?} gets no default and permits NULL: {why}"));
                    } else {
                        self.remark(&t.name, format!("column {name:?} gets no default: {why}"));
                    }
                }
            }
        }
        if !nullable {
            sql.push_str(" NOT NULL");
        }
        let check = types::check_of(c, &placed);
        if !check.is_empty() {
            let name = shortened(&format!("{}_{name}_check", self.homes.table(&t.name).name));
            sql.push_str(&format!(" CONSTRAINT {}{check}", quoted(&name)));
        }
        sql
    }

    /// A name for an index or sequence that nothing else of the schema has.
    fn claim(&mut self, schema: String, wanted: &str) -> String {
        let mut name = shortened(wanted);
        let mut n = 1;
        while !self.taken.insert((schema.clone(), name.clone())) {
            n += 1;
            name = shortened(&format!("{wanted}_{n}"));
        }
        name
    }

    /// An index is a table's own at the source and its schema's here.
    fn index_name(&mut self, t: &TableDef, here: &TableName, name: &str) -> String {
        let begins = name.strip_prefix(&here.name).is_some_and(|rest| rest.starts_with('_'));
        let wanted = if begins || self.exact { name.to_owned() } else { format!("{}_{name}", here.name) };
        let name = self.claim(here.schema.clone(), &wanted);
        if wanted.len() > LONGEST_NAME {
            self.remark(&t.name, format!("index {wanted} is called {name} here"));
        }
        name
    }

    fn keys(&mut self, t: &'a TableDef) {
        let here = self.homes.table(&t.name);
        let on = qualified(&here);
        if !t.primary_key.is_empty() {
            if t.primary_key.iter().any(|k| k.prefix.is_some()) {
                // MySQL permits it; the whole columns are unique, too, and find the row.
                self.remark(
                    &t.name,
                    "the primary key holds whole columns here, and beginnings of columns at the source",
                );
            }
            let name = self.claim(here.schema.clone(), &format!("{}_pkey", here.name));
            let columns: Vec<String> = t.primary_key.iter().map(|k| quoted(&k.name)).collect();
            let sql =
                format!("ALTER TABLE ONLY {on} ADD CONSTRAINT {} PRIMARY KEY ({})", quoted(&name), columns.join(", "));
            self.push("CONSTRAINT", &here, format!("{} {name}", here.name), &t.name, Stage::TableCopied, sql);
        }
        for i in &t.indexes {
            if let Some(why) = self.unsayable(t, i) {
                let what = if i.unique { "unique index" } else { "index" };
                self.remark(&t.name, format!("{what} {} is left out: {why}", i.name));
                continue;
            }
            let prefixed = |k: &KeyColumn| k.prefix.is_some() && (i.unique || !self.whole(t, k));
            let whole = !i.columns.iter().any(prefixed);
            let columns: Vec<String> = i
                .columns
                .iter()
                .map(|k| {
                    let column = match k.prefix.filter(|_| prefixed(k)) {
                        None => quoted(&k.name),
                        Some(n) => self.beginning(t, k, n),
                    };
                    if k.descending { format!("{column} DESC") } else { column }
                })
                .collect();
            let columns = columns.join(", ");
            let name = self.index_name(t, &here, &i.name);
            if i.unique && whole && !i.columns.iter().any(|k| k.descending) && !i.nulls_equal {
                let sql = format!("ALTER TABLE ONLY {on} ADD CONSTRAINT {} UNIQUE ({columns})", quoted(&name));
                self.push("CONSTRAINT", &here, format!("{} {name}", here.name), &t.name, Stage::TableCopied, sql);
            } else {
                let unique = if i.unique { "UNIQUE " } else { "" };
                let sql = format!("CREATE {unique}INDEX {} ON {on} USING btree ({columns})", quoted(&name));
                self.push("INDEX", &here, name, &t.name, Stage::TableCopied, sql);
            }
        }
    }

    /// Why an index cannot be made here.
    fn unsayable(&self, t: &'a TableDef, i: &'a IndexDef) -> Option<String> {
        if let Some(what) = &i.peculiar {
            return Some(format!("it is computed in the source's SQL ({what})"));
        }
        match i.method.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("btree" | "hash") => {}
            Some("fulltext") => return Some("use a GIN index over to_tsvector(…)".into()),
            Some("spatial") => return Some("shapes are bytes here".into()),
            Some(other) => return Some(format!("there is no {other} here")),
        }
        if let Some(k) = i.columns.iter().find(|k| !t.column(&k.name).is_some_and(|c| c.travels)) {
            return Some(format!("column {:?} is not brought", k.name));
        }
        if i.columns.is_empty() {
            return Some("it has no columns".into());
        }
        let wide = |k: &&KeyColumn| k.prefix.is_some() && !i.unique && !self.whole(t, k);
        i.columns
            .iter()
            .find(wide)
            .map(|k| format!("it holds only beginnings of {:?}, which is too wide to index whole", k.name))
    }

    /// Whether a column of which the source indexes the beginning can be indexed whole.
    fn whole(&self, t: &'a TableDef, k: &'a KeyColumn) -> bool {
        let Some(c) = t.column(&k.name) else { return false };
        match &c.data {
            DataType::Char { length } | DataType::Varchar { length } => *length <= INDEXED_WHOLE,
            DataType::Bytes { length, .. } => length.is_some_and(|l| l <= u64::from(INDEXED_WHOLE) * 4),
            DataType::Text { bytes } => bytes.is_some_and(|l| l <= u64::from(INDEXED_WHOLE)),
            _ => true,
        }
    }

    /// The beginning of a column as an expression.
    fn beginning(&self, t: &'a TableDef, k: &'a KeyColumn, n: u32) -> String {
        let name = quoted(&k.name);
        match self.placed(&t.name, &k.name).map(|p| p.kind) {
            Some(Kind::Bytes) => format!("pg_catalog.substring({name}, 1, {n})"),
            Some(Kind::Text) => format!("pg_catalog.\"left\"({name}, {n})"),
            _ => name,
        }
    }

    fn foreign_keys(&mut self, t: &'a TableDef) {
        let here = self.homes.table(&t.name);
        let mut names: HashSet<String> = HashSet::new();
        for f in &t.foreign_keys {
            if let Some(why) = self.unjoinable(t, f) {
                self.remark(&t.name, format!("foreign key {} is left out: {why}", f.name));
                continue;
            }
            let mut name = shortened(&f.name);
            while !names.insert(name.clone()) {
                name = shortened(&format!("{name}_{}", names.len()));
            }
            let list = |of: &[String]| of.iter().map(|c| quoted(c)).collect::<Vec<_>>().join(", ");
            let add = format!(
                "ALTER TABLE {} ADD CONSTRAINT {} FOREIGN KEY ({}) REFERENCES {} ({}) ON DELETE {} ON UPDATE {} NOT VALID",
                qualified(&here),
                quoted(&name),
                list(&f.columns),
                qualified(&self.homes.table(&f.references)),
                list(&f.referenced),
                action(f.on_delete),
                action(f.on_update)
            );
            let object = format!("{} {name}", here.name);
            self.push("FK CONSTRAINT", &here, object.clone(), &t.name, Stage::Consistent, add);
            // By itself, because rows may refer to nothing: the source compared text by a collation of its own, and
            // perhaps without checking.
            let there = format!(
                "SELECT FROM pg_catalog.pg_constraint WHERE conrelid = {}::pg_catalog.regclass AND conname = {}",
                literal(&qualified(&here)),
                literal(&name)
            );
            let validate = format!("ALTER TABLE {} VALIDATE CONSTRAINT {}", qualified(&here), quoted(&name));
            let sql = format!("DO $switchyard$ BEGIN IF EXISTS ({there}) THEN {validate}; END IF; END $switchyard$");
            self.push("FK VALIDATION", &here, object, &t.name, Stage::Consistent, sql);
        }
    }

    /// Why a foreign key cannot be made here.
    fn unjoinable(&self, t: &'a TableDef, f: &'a ForeignKeyDef) -> Option<String> {
        let Some(other) = self.tables.iter().find(|o| o.name == f.references) else {
            return Some(format!("{} is not made here", f.references));
        };
        for (own, theirs) in f.columns.iter().zip(&f.referenced) {
            let (Some(a), Some(b)) = (self.placed(&t.name, own), self.placed(&other.name, theirs)) else {
                return Some(format!("column {own:?} or {theirs:?} is not known"));
            };
            if !types::comparable(a, b) {
                return Some(format!("{own:?} is {} and {theirs:?} is {}", a.type_name, b.type_name));
            }
            let brought = |d: &TableDef, c: &str| d.column(c).is_some_and(|c| c.travels);
            if !brought(t, own) || !brought(other, theirs) {
                return Some(format!("column {own:?} or {theirs:?} is not brought"));
            }
        }
        let wanted: HashSet<&str> = f.referenced.iter().map(String::as_str).collect();
        let is_key = |columns: &[KeyColumn]| {
            columns.len() == wanted.len()
                && columns.iter().all(|k| wanted.contains(k.name.as_str()) && k.prefix.is_none())
        };
        let unique = is_key(&other.primary_key)
            || other.indexes.iter().any(|i| i.unique && is_key(&i.columns) && self.unsayable(other, i).is_none());
        (!unique || wanted.len() != f.referenced.len())
            .then(|| format!("the columns of {} that it refers to are not unique", f.references))
    }

    /// What holds for all tables.
    fn said_once(&mut self) {
        let text = |t: &TableDef, k: &KeyColumn| {
            self.placed.get(&(&t.name, k.name.as_str())).is_some_and(|p| p.kind == Kind::Text)
        };
        let keyed = self.tables.iter().find(|t| {
            let unique = t.indexes.iter().filter(|i| i.unique).flat_map(|i| &i.columns);
            t.primary_key.iter().chain(unique).any(|k| text(t, k))
        });
        if let Some(t) = keyed {
            let name = t.name.clone();
            self.remark(
                &name,
                "and other tables have text in unique keys: it is compared exactly here, and by the source's collation (perhaps 'a' = 'A') there",
            );
        }
    }
}

fn action(a: ForeignAction) -> &'static str {
    match a {
        ForeignAction::NoAction => "NO ACTION",
        ForeignAction::Restrict => "RESTRICT",
        ForeignAction::Cascade => "CASCADE",
        ForeignAction::SetNull => "SET NULL",
        ForeignAction::SetDefault => "SET DEFAULT",
    }
}

/// A name of at most [`LONGEST_NAME`] bytes: a long one keeps its beginning, and a checksum of the whole tells it from others.
fn shortened(name: &str) -> String {
    if name.len() <= LONGEST_NAME {
        return name.to_owned();
    }
    let end = (0..=LONGEST_NAME - 9).rev().find(|&i| name.is_char_boundary(i)).unwrap_or(0);
    format!("{}_{:08x}", &name[..end], crc32fast::hash(name.as_bytes()))
}

#[cfg(test)]
#[path = "foreign_tests.rs"]
mod tests;
