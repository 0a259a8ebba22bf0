//! The tables that rules write and that the target has not: what they look like when they are made. Pure.
//!
//! A table of the target is made of parts, one for each rule, and each list of a rule, whose rows go there. A part's columns
//! come from the compiled assignments, so that what a rule cannot carry fails here with the same words.

mod defs;

pub use defs::MadeSchema;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::compile::{Assigned, Listed, Scope, nearest};
use super::expr::Expr;
use super::output::FieldFrom;
use super::rules::{Named, OnExisting, RuleSet};
use super::typename;
use crate::definition::{DataType, ForeignAction, ForeignKeyDef, IndexDef, KeyColumn};
use crate::error::{Error, Result};
use crate::schema::{Column, Kind, RowIdentity, Table, TableId, TableName};

/// Where the values of a made table's column come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// They pass from these source tables' columns as they are. None of them: nothing but the type is the source's, because
    /// other rows of the table are without.
    Passes(Vec<(TableName, String)>),
    /// They are computed: the type is one of the expression language's, by its own name.
    Computed,
}

/// A table that rules write and that is made on the target.
#[derive(Clone, Debug)]
pub struct MadeTable {
    /// Its name on the target, and its columns: of the source's types where they pass, of an expression's where they are
    /// computed. What finds a row is its key.
    pub table: Table,
    /// One for each column.
    pub origins: Vec<Origin>,
    /// Types that the rules choose, in the target's words, by column.
    pub types: BTreeMap<String, String>,
    /// Indexes besides the key.
    pub indexes: Vec<IndexDef>,
    /// What it refers to, by names on the target.
    pub foreign_keys: Vec<ForeignKeyDef>,
    /// The source tables whose rows go there.
    pub writers: Vec<TableName>,
    /// Whether rows of several tables, or rows that may be there already, meet in it: then the key must be there before them.
    pub merged: bool,
    /// The one source table of whose rows it holds one each.
    pub stands_for: Option<TableName>,
}

/// What came of the rules.
#[derive(Debug, Default)]
pub struct Derived {
    /// The tables to make.
    pub tables: Vec<MadeTable>,
    /// Target tables that cannot be made, or whose rules name columns that do not exist, and why.
    pub errors: Vec<(TableName, Error)>,
}

/// A column as one part writes it.
#[derive(Clone, Debug)]
struct Written {
    column: Column,
    origin: Origin,
    /// The rule's key that says so.
    by: String,
}

/// A rule, or a list of a rule, whose rows go into a table.
struct Part<'a> {
    named: &'a Named,
    nth: Option<usize>,
    columns: Vec<Written>,
    /// What the source's key became, if it became something; of a list nothing.
    key: Option<Vec<String>>,
    /// Of a list: what finds the rows of one parent.
    owner: Vec<String>,
}

/// The tables that the rules write and the target has not. `there` gives the tables that the target has, among them those
/// that [`super::rules::Wishes::references`] name; a table that is to be counted among the made ones is not.
///
/// What rules say of tables in case that they are made is looked at for tables that exist, too: as far as it names columns.
pub fn derive(rules: &RuleSet, sources: &[Arc<Table>], there: &dyn Fn(&TableName) -> Option<Arc<Table>>) -> Derived {
    let mut out = Derived::default();
    let mut parts: Vec<(TableName, Vec<Part<'_>>)> = Vec::new();
    for named in rules.iter() {
        let Some(source) = sources.iter().find(|s| s.name == named.from) else { continue };
        for (nth, target) in named.parts() {
            match Part::new(named, nth, source) {
                Ok(part) => match parts.iter_mut().find(|(t, _)| t == target) {
                    Some((_, of_it)) => of_it.push(part),
                    None => parts.push((target.clone(), vec![part])),
                },
                Err(e) => out.errors.push((target.clone(), e)),
            }
        }
    }
    let as_they_are: Vec<(TableName, &Arc<Table>)> =
        (sources.iter()).filter(|s| !rules.concern(&s.name)).map(|s| (rules.homes().table(&s.name), s)).collect();
    let beside = |name: &TableName| as_they_are.iter().find(|(n, _)| n == name).map(|(_, s)| (*s).clone());
    let mut made = Vec::new();
    for (target, parts) in &parts {
        if out.errors.iter().any(|(t, _)| t == target) {
            continue;
        }
        let had = there(target).or_else(|| beside(target));
        let merged = match had {
            Some(had) => parts.iter().try_for_each(|p| p.names_exist(target, parts, Some(&had))).map(|()| None),
            None => merge(target, parts, rules, sources).map(Some),
        };
        match merged {
            Ok(Some(table)) => made.push((table, parts)),
            Ok(None) => {}
            Err(e) => out.errors.push((target.clone(), e)),
        }
    }
    // Once every table is known that can be referred to.
    let known: Vec<Table> = made.iter().map(|(m, _)| m.table.clone()).collect();
    let other = |name: &TableName| {
        let own = known.iter().find(|t| t.name == *name).cloned().map(Arc::new);
        // One that passes as it is has its key only once it was copied, and the source knows it before.
        own.or_else(|| beside(name)).or_else(|| there(name))
    };
    for (mut table, parts) in made {
        match parts.iter().try_for_each(|p| p.references(&mut table, &other)) {
            Ok(()) => out.tables.push(table),
            Err(e) => out.errors.push((table.table.name, e)),
        }
    }
    out
}

impl<'a> Part<'a> {
    fn new(named: &'a Named, nth: Option<usize>, source: &'a Table) -> Result<Part<'a>> {
        let scope = Scope { named, source, alone: true };
        match nth {
            None => {
                let (_, assigned) = scope.assign()?;
                let assigned = in_order(named, source, assigned);
                let kept = scope.kept(assigned.iter().map(|(_, a)| &a.from));
                let key = kept.filter(|k| !k.is_empty()).map(|k| names_at(&assigned, &k));
                let columns = assigned.into_iter().map(|(name, a)| written(name, a, source)).collect();
                Ok(Part { named, nth, columns, key, owner: Vec::new() })
            }
            Some(n) => {
                let Listed { items, assigned } = scope.assign_items(n)?;
                let assigned: Vec<(String, Assigned)> = assigned.into_iter().collect();
                let owns = |a: &Assigned| scope.of_parents_key(&items, &a.from).is_some();
                let owner: Vec<String> =
                    assigned.iter().filter(|(_, a)| owns(a)).map(|(name, _)| name.clone()).collect();
                let columns = assigned.into_iter().map(|(name, a)| written(name, a, source)).collect();
                Ok(Part { named, nth, columns, key: None, owner })
            }
        }
    }

    fn error(&self, key: &str, what: impl std::fmt::Display) -> Error {
        let key = match self.nth {
            Some(n) => format!("explode[{n}].{key}"),
            None => key.to_owned(),
        };
        Error::fatal(format!("{}: {key}: {what}", self.named.label())).with_code("switchyard:rule")
    }

    fn column(&self, name: &str) -> Option<&Written> {
        self.columns.iter().find(|c| c.column.name == name)
    }

    /// Every column that the part names for the case that the table is made is one that somebody writes, or that is there.
    fn names_exist(&self, target: &TableName, parts: &[Part<'_>], had: Option<&Table>) -> Result<()> {
        let written = || parts.iter().flat_map(|p| &p.columns).map(|c| c.column.name.as_str());
        let there = || had.into_iter().flat_map(|t| t.columns.iter().chain(&t.generated)).map(|c| c.name.as_str());
        let wishes = self.named.wishes(self.nth);
        let mut named: Vec<(String, &str)> = Vec::new();
        named.extend(wishes.key.iter().map(|c| ("key".to_owned(), c.as_str())));
        for (i, index) in wishes.indexes.iter().enumerate() {
            named.extend(index.columns.iter().map(|c| (format!("indexes[{i}].columns"), c.as_str())));
        }
        for (i, reference) in wishes.references.iter().enumerate() {
            named.extend(reference.columns.iter().map(|c| (format!("references[{i}].columns"), c.as_str())));
        }
        named.extend(wishes.types.keys().map(|c| ("types".to_owned(), c.as_str())));
        named.extend(wishes.not_null.iter().map(|c| ("not_null".to_owned(), c.as_str())));
        let unknown = named.iter().find(|(_, name)| !written().chain(there()).any(|w| w == *name));
        let Some((key, name)) = unknown else { return Ok(()) };
        let near = nearest(name, written().chain(there()));
        Err(self
            .error(key, format!("{target} gets no column {name:?}{near}"))
            .hint("write a column of the target's table: one that the rule passes, renames or sets"))
    }

    /// Adds the part's foreign keys to its table.
    fn references(&self, made: &mut MadeTable, other: &dyn Fn(&TableName) -> Option<Arc<Table>>) -> Result<()> {
        let wishes = self.named.wishes(self.nth);
        for (i, (wish, references)) in wishes.references.iter().zip(self.named.referenced(self.nth)).enumerate() {
            let by = |key: &str| format!("references[{i}].{key}");
            let Some(parent) = other(&references) else {
                return Err(self
                    .error(&by("table"), format!("the target has no table {references}, and nothing here makes it"))
                    .hint("correct the name, include the table, make it on the target, or leave the reference out"));
            };
            let referenced: Vec<String> = match wish.to.is_empty() {
                true => parent.key().iter().map(|&k| parent.columns[k].name.clone()).collect(),
                false => wish.to.clone(),
            };
            if let Some(unknown) = referenced.iter().find(|c| parent.column(c).is_none()) {
                let near = nearest(unknown, parent.columns.iter().map(|c| c.name.as_str()));
                return Err(self.error(&by("to"), format!("{references} has no column {unknown:?}{near}")));
            }
            if referenced.len() != wish.columns.len() {
                let key = if referenced.is_empty() { "no key".into() } else { format!("the key {referenced:?}") };
                return Err(self
                    .error(&by("columns"), format!("{:?} refer to {references}, which has {key}", wish.columns))
                    .hint(
                        "write as many columns as that key has, or the unique columns that are meant: to = [\"…\"]",
                    ));
            }
            let must = |c: &&String| made.table.column(c).is_some_and(|i| !made.table.columns[i].nullable);
            if wish.on_delete == ForeignAction::SetNull
                && let Some(column) = wish.columns.iter().find(must)
            {
                return Err(self.error(&by("on_delete"), format!("column {column:?} cannot become NULL")));
            }
            let name = format!("{}_{}_fkey", made.table.name.name, wish.columns.join("_"));
            let key = ForeignKeyDef {
                name,
                columns: wish.columns.clone(),
                references,
                referenced,
                on_delete: wish.on_delete,
                on_update: ForeignAction::NoAction,
            };
            if !made.foreign_keys.contains(&key) {
                made.foreign_keys.push(key);
            }
        }
        Ok(())
    }
}

/// The assignments in the source's order; what the rule sets under a name of its own comes behind.
fn in_order(named: &Named, source: &Table, mut assigned: BTreeMap<String, Assigned>) -> Vec<(String, Assigned)> {
    let mut out = Vec::with_capacity(assigned.len());
    for c in &source.columns {
        // What takes a column's place, then where that column went.
        for name in [Some(&c.name), named.rule.rename.get(&c.name)].into_iter().flatten() {
            out.extend(assigned.remove_entry(name));
        }
    }
    out.extend(assigned);
    out
}

fn names_at(assigned: &[(String, Assigned)], places: &[usize]) -> Vec<String> {
    places.iter().filter_map(|&i| assigned.get(i)).map(|(name, _)| name.clone()).collect()
}

/// The column that an assignment needs.
fn written(name: String, assigned: Assigned, source: &Table) -> Written {
    let by = assigned.by;
    match assigned.from {
        FieldFrom::Column(i) | FieldFrom::Converted(i, _) => {
            let from = &source.columns[i];
            let origin = Origin::Passes(vec![(source.name.clone(), from.name.clone())]);
            Written { column: Column { name, ..from.clone() }, origin, by }
        }
        FieldFrom::Computed(e) => {
            let (type_name, kind, data) = computed(&e, source);
            let column = Column {
                name,
                number: 0,
                type_name,
                kind,
                data,
                nullable: true,
                identity: None,
                default: None,
                collation: None,
                portable_binary: false,
            };
            Written { column, origin: Origin::Computed, by }
        }
    }
}

/// An expression's type: its name, and what it holds.
fn computed(e: &Expr, source: &Table) -> (String, Kind, DataType) {
    let (name, kind) = (e.type_name().to_owned(), e.kind());
    let told = match typename::named(&name) {
        (k, data) if k == kind && data != DataType::Other => Some(data),
        _ => None,
    };
    // What the name does not tell (an enum, another engine's type) a column of that type does, or a list of such.
    let element = |c: &Column| match &c.data {
        DataType::Array { element } if c.type_name.strip_suffix("[]") == Some(name.as_str()) => {
            Some((**element).clone())
        }
        _ if c.type_name == name => Some(c.data.clone()),
        _ => None,
    };
    let like = source.columns.iter().find_map(element);
    let is_input = e.as_column().is_some();
    match (told, like) {
        // Its labels may be others now.
        (_, Some(DataType::Enum { .. } | DataType::Set { .. })) if !is_input => {
            let data = DataType::Text { bytes: None };
            let (name, kind) = typename::of(&data);
            (name, kind, data)
        }
        (told, Some(like)) if is_input || told.is_none() => (name, kind, like),
        (Some(data), _) => (name, kind, data),
        (None, _) => (name, kind, DataType::Other),
    }
}

/// The table that all parts together need.
fn merge(target: &TableName, parts: &[Part<'_>], rules: &RuleSet, sources: &[Arc<Table>]) -> Result<MadeTable> {
    let mut types: BTreeMap<String, (String, &Part<'_>)> = BTreeMap::new();
    for p in parts {
        p.names_exist(target, parts, None)?;
        for (column, chosen) in p.named.wishes(p.nth).types {
            match types.get(column) {
                Some((other, by)) if other != chosen => {
                    let what = format!(
                        "column {column:?} of {target} is {chosen} here and {other} in rule {}",
                        by.named.number + 1
                    );
                    return Err(p.error("types", what).hint("write one type"));
                }
                _ => types.insert(column.clone(), (chosen.clone(), p)),
            };
        }
    }
    let wishes = || parts.iter().map(|p| p.named.wishes(p.nth));
    let mut columns: Vec<Written> = Vec::new();
    for p in parts {
        for c in &p.columns {
            match columns.iter_mut().find(|o| o.column.name == c.column.name) {
                None => columns.push(c.clone()),
                Some(other) => other.join(c, p, parts, types.contains_key(&c.column.name))?,
            }
        }
    }
    let key = key_of(target, parts)?;
    for (i, c) in columns.iter_mut().enumerate() {
        let missing = parts.iter().find(|p| p.column(&c.column.name).is_none());
        let must = key.contains(&c.column.name) || wishes().any(|w| w.not_null.contains(&c.column.name));
        if let (Some(p), true) = (missing, must) {
            let what =
                format!("column {:?} of {target} cannot be NULL, and this rule does not write it", c.column.name);
            return Err(p.error("set", what).hint("set it in every rule that writes the table"));
        }
        c.column.nullable = !must && (c.column.nullable || missing.is_some());
        c.column.number = i32::try_from(i + 1).unwrap_or(i32::MAX);
        if missing.is_some() {
            // Its rows of other rules are NULL, and no default.
            (c.column.identity, c.column.default) = (None, None);
            if let Origin::Passes(from) = &mut c.origin {
                from.clear();
            }
        }
    }
    // The key comes first, as people write it, then what finds a parent's rows.
    let first: Vec<&String> = key.iter().chain(parts.iter().flat_map(|p| &p.owner)).collect();
    columns.sort_by_key(|c| first.iter().position(|k| **k == c.column.name).unwrap_or(first.len()));
    let writers: BTreeSet<&TableName> = parts.iter().map(|p| &p.named.from).collect();
    let indexes = indexes_of(target, parts, &key);
    let merged = rules.writers_of(target, sources.iter().map(|s| &s.name)).len() > 1
        || parts.iter().any(|p| p.named.rule.on_existing != OnExisting::Error);
    let stands_for = match parts {
        [one] if one.nth.is_none() => Some(one.named.from.clone()),
        _ => None,
    };
    let (origins, columns): (Vec<Origin>, Vec<Column>) = columns.into_iter().map(|c| (c.origin, c.column)).unzip();
    let places: Vec<usize> = (0..key.len()).collect();
    Ok(MadeTable {
        table: Table {
            id: TableId(0),
            name: target.clone(),
            columns,
            generated: Vec::new(),
            identity: if places.is_empty() { RowIdentity::AllColumns } else { RowIdentity::Key(places) },
            full_old_rows: false,
            full_old_rows_by: String::new(),
            has_secondary_unique: indexes.iter().any(|i| i.unique),
            partitioned: false,
            estimated_rows: 0,
            bytes: 0,
        },
        origins,
        types: types.into_iter().map(|(c, (t, _))| (c, t)).collect(),
        indexes,
        foreign_keys: Vec::new(),
        writers: writers.into_iter().cloned().collect(),
        merged,
        stands_for,
    })
}

impl Written {
    /// The same column, written by another part, too.
    fn join(&mut self, other: &Written, part: &Part<'_>, parts: &[Part<'_>], chosen: bool) -> Result<()> {
        let (a, b) = (&mut self.column, &other.column);
        let same = a.type_name == b.type_name || (a.data == b.data && a.data != DataType::Other);
        if !chosen && !same {
            let first = parts.iter().find(|p| p.column(&a.name).is_some());
            let what = format!(
                "column {:?} is {} here and {} in rule {}",
                b.name,
                b.type_name,
                a.type_name,
                first.map_or(0, |p| p.named.number + 1)
            );
            return Err(part
                .error(&other.by, what)
                .hint(format!("write what both become: types = {{ {} = \"…\" }}, or cast one of them", b.name)));
        }
        a.nullable |= b.nullable;
        a.identity = a.identity.and(b.identity);
        a.default = a.default.take().filter(|d| Some(d) == b.default.as_ref());
        a.collation = a.collation.take().filter(|c| Some(c) == b.collation.as_ref());
        match (&mut self.origin, &other.origin) {
            (Origin::Passes(all), Origin::Passes(more)) => all.extend(more.iter().cloned()),
            // Both are of one type; the expression's name for it may be none of the source's.
            (Origin::Passes(_), Origin::Computed) => self.origin = Origin::Computed,
            (Origin::Computed, _) => {}
        }
        Ok(())
    }
}

/// The key that the rules say, else what the sources' keys became.
fn key_of(target: &TableName, parts: &[Part<'_>]) -> Result<Vec<String>> {
    let mut said: Option<(&[String], &Part<'_>)> = None;
    for p in parts {
        let key = p.named.wishes(p.nth).key;
        match said {
            _ if key.is_empty() => {}
            Some((other, by)) if other != key => {
                let what = format!("the key of {target} is {key:?} here and {other:?} in rule {}", by.named.number + 1);
                return Err(p.error("key", what).hint("write one key"));
            }
            _ => said = Some((key, p)),
        }
    }
    if let Some((key, _)) = said {
        return Ok(key.to_vec());
    }
    let mut keys = parts.iter().map(|p| p.key.as_deref().unwrap_or_default());
    let first = keys.next().unwrap_or_default();
    let Some(other) = parts.iter().skip(1).find(|p| p.key.as_deref().unwrap_or_default() != first) else {
        return Ok(first.to_vec());
    };
    let none = |k: &[String]| if k.is_empty() { "none".to_owned() } else { format!("{k:?}") };
    let what = format!(
        "the source's key becomes {} here and {} in rule {}",
        none(other.key.as_deref().unwrap_or_default()),
        none(first),
        parts.first().map_or(0, |p| p.named.number + 1)
    );
    Err(other.error("key", what).hint(format!("say which columns are the key of {target}: key = [\"…\"]")))
}

/// The indexes that the rules say, and those that find the rows of one parent.
fn indexes_of(target: &TableName, parts: &[Part<'_>], key: &[String]) -> Vec<IndexDef> {
    let mut out: Vec<IndexDef> = Vec::new();
    let mut add = |name: Option<&String>, columns: &[String], unique: bool| {
        let columns: Vec<KeyColumn> =
            columns.iter().map(|c| KeyColumn { name: c.clone(), descending: false, prefix: None }).collect();
        if out.iter().any(|i| i.columns == columns && i.unique == unique) {
            return;
        }
        let list: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
        let usual = format!("{}_{}_{}", target.name, list.join("_"), if unique { "key" } else { "idx" });
        let name = name.cloned().unwrap_or(usual);
        out.push(IndexDef { name, columns, unique, nulls_equal: false, method: None, peculiar: None });
    };
    for p in parts {
        for i in p.named.wishes(p.nth).indexes {
            add(i.name.as_ref(), &i.columns, i.unique);
        }
    }
    for p in parts.iter().filter(|p| !p.owner.is_empty()) {
        let begins = |columns: &[String]| {
            columns.len() >= p.owner.len() && p.owner.iter().all(|o| columns[..p.owner.len()].contains(o))
        };
        let said = parts.iter().flat_map(|p| p.named.wishes(p.nth).indexes).any(|i| begins(&i.columns));
        if !begins(key) && !said {
            add(None, &p.owner, false);
        }
    }
    out
}

impl MadeTable {
    /// The primary key's columns.
    pub fn key(&self) -> Vec<&str> {
        self.table.key().iter().map(|&k| self.table.columns[k].name.as_str()).collect()
    }

    /// A column with where it comes from.
    pub fn column(&self, name: &str) -> Option<(&Column, &Origin)> {
        let i = self.table.column(name)?;
        Some((&self.table.columns[i], self.origins.get(i)?))
    }

    /// The table as the target has it, with the key that it is going to have.
    pub fn keyed(&self, has: &Table) -> Table {
        let places: Option<Vec<usize>> = self.key().iter().map(|c| has.column(c)).collect();
        match (&has.identity, places) {
            (RowIdentity::Key(_), _) | (_, None) => has.clone(),
            (_, Some(places)) if places.is_empty() => has.clone(),
            (_, Some(places)) => Table { identity: RowIdentity::Key(places), ..has.clone() },
        }
    }
}

#[cfg(test)]
mod tests;
