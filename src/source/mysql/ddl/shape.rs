//! A table as it is at one place of the log, and what ALTER TABLE makes of it. Pure.

use super::fill::{self, Fill};
use super::written::keeps;
use super::{AlterOp, ColumnText, CreateTable, DefaultText, KeyKind, KeyText, Place, Session};
use crate::definition::{DataType, TableDef};
use crate::schema::{Column, Identity, Kind, RowIdentity, Table, TableId, TableName};
use crate::source::mysql::columns;

/// A key of a table, by its columns' names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name; `PRIMARY` is the primary key's.
    pub name: String,
    /// Whether no two rows are equal in it.
    pub unique: bool,
    /// Its columns, and whether the key holds them whole.
    pub columns: Vec<(String, bool)>,
    /// It holds something other than columns.
    pub computed: bool,
}

/// The keys of a table as a source's catalog describes them.
pub fn keys_of(def: &TableDef) -> Vec<Key> {
    let columns = |c: &[crate::definition::KeyColumn]| c.iter().map(|c| (c.name.clone(), c.prefix.is_none())).collect();
    let mut keys = Vec::new();
    if !def.primary_key.is_empty() {
        keys.push(Key { name: "PRIMARY".into(), unique: true, columns: columns(&def.primary_key), computed: false });
    }
    keys.extend(def.indexes.iter().map(|i| Key {
        name: i.name.clone(),
        unique: i.unique,
        columns: columns(&i.columns),
        computed: i.peculiar.is_some(),
    }));
    keys
}

#[derive(Clone, Debug)]
struct Held {
    column: Column,
    /// It stands in [`Table::generated`].
    apart: bool,
    /// What rows get that are there when the column comes, as far as a statement said.
    fill: Option<Fill>,
    /// A statement added it, and it was known already: the catalog was read after the statement.
    foretold: bool,
}

#[derive(Clone, Debug)]
struct HeldKey {
    name: String,
    unique: bool,
    /// Column numbers, so that a rename changes nothing.
    columns: Vec<(i32, bool)>,
    computed: bool,
}

/// What a change did to rows that were there, beside the new shape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deed {
    /// Added columns with the value that rows got.
    pub missing_values: Vec<(String, String)>,
    /// Rows got values that the definitions do not tell.
    pub rewritten: bool,
    /// Something about columns or what finds a row was said.
    pub reshaped: bool,
    /// Keys that were made: name, and definition as ADD takes it.
    pub keys_made: Vec<(String, String)>,
    /// Keys that were dropped.
    pub keys_dropped: Vec<String>,
    /// Rows came or went that no row event tells: what happened, and the other table that it concerns.
    pub unlogged: Vec<(&'static str, Option<TableName>)>,
    /// The table's new name.
    pub renamed: Option<TableName>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Shape {
    id: TableId,
    held: Vec<Held>,
    keys: Vec<HeldKey>,
    /// There are unique keys that `keys` does not name.
    more_unique: bool,
    /// Columns that found a row last.
    finds: Vec<i32>,
    full_old_rows: bool,
    partitioned: bool,
    estimated_rows: u64,
    bytes: u64,
    next: i32,
}

fn same(a: &str, b: &str) -> bool {
    a == b || a.to_lowercase() == b.to_lowercase()
}

impl Shape {
    /// The shape of a table that the catalog described; columns are in the order of their numbers.
    pub fn of(table: &Table, keys: &[Key]) -> Shape {
        let held = |apart: bool| move |c: &Column| Held { column: c.clone(), apart, fill: None, foretold: false };
        let mut all: Vec<Held> = table.columns.iter().map(held(false)).collect();
        // Computed columns lie between the others by their number; the others keep the log's order.
        for computed in &table.generated {
            let at = all.iter().position(|h| h.column.number > computed.number).unwrap_or(all.len());
            all.insert(at, held(true)(computed));
        }
        let next = all.iter().map(|h| h.column.number).max().unwrap_or(0).saturating_add(1);
        let mut shape = Shape {
            id: table.id,
            held: all,
            keys: Vec::new(),
            more_unique: false,
            finds: table.key().iter().filter_map(|k| table.columns.get(*k)).map(|c| c.number).collect(),
            full_old_rows: table.full_old_rows,
            partitioned: table.partitioned,
            estimated_rows: table.estimated_rows,
            bytes: table.bytes,
            next,
        };
        for k in keys {
            shape.push_key(&k.name, k.unique, &k.columns, k.computed);
        }
        if !shape.finds.is_empty() && !shape.keys.iter().any(|k| shape.is_key(k) && shape.numbers(k) == shape.finds) {
            let columns = shape.finds.iter().map(|n| (*n, true)).collect();
            shape.keys.push(HeldKey { name: "PRIMARY".into(), unique: true, columns, computed: false });
        }
        shape.more_unique = table.has_secondary_unique && !shape.secondary_unique();
        shape
    }

    /// The shape of a table that a statement creates.
    ///
    /// # Errors
    /// What cannot be.
    pub fn created(id: TableId, text: &CreateTable, full_old_rows: bool, session: &Session) -> Result<Shape, String> {
        let mut shape = Shape {
            id,
            held: Vec::new(),
            keys: Vec::new(),
            more_unique: false,
            finds: Vec::new(),
            full_old_rows,
            partitioned: text.partitioned,
            estimated_rows: 0,
            bytes: 0,
            next: 1,
        };
        let mut ignored = Deed::default();
        for c in &text.columns {
            shape.add(c, &Place::Last, session, &mut ignored)?;
        }
        for k in &text.keys {
            shape.add_key(k, &mut ignored);
        }
        Ok(shape)
    }

    /// The same columns and keys for another table, without rows (CREATE TABLE … LIKE).
    pub fn like(&self, id: TableId) -> Shape {
        Shape { id, estimated_rows: 0, bytes: 0, ..self.clone() }
    }

    /// Numbers columns anew, from one.
    pub fn renumber(&mut self) {
        let old: Vec<i32> = self.held.iter().map(|h| h.column.number).collect();
        let new = |n: i32| old.iter().position(|o| *o == n).map_or(n, |p| p as i32 + 1);
        self.held.iter_mut().for_each(|h| h.column.number = new(h.column.number));
        self.keys.iter_mut().flat_map(|k| &mut k.columns).for_each(|(n, _)| *n = new(*n));
        self.finds.iter_mut().for_each(|n| *n = new(*n));
        self.next = old.len() as i32 + 1;
    }

    /// As the vocabulary has it.
    pub fn table(&self, name: &TableName) -> Table {
        let columns: Vec<Column> = self.held.iter().filter(|h| !h.apart).map(|h| h.column.clone()).collect();
        let identity = match self.finder() {
            Some(numbers) => {
                let at = |n: &i32| columns.iter().position(|c| c.number == *n);
                match numbers.iter().map(at).collect::<Option<Vec<usize>>>() {
                    Some(k) => RowIdentity::Key(k),
                    None => self.without_key(),
                }
            }
            None => self.without_key(),
        };
        Table {
            id: self.id,
            name: name.clone(),
            generated: self.held.iter().filter(|h| h.apart).map(|h| h.column.clone()).collect(),
            identity,
            full_old_rows: self.full_old_rows,
            full_old_rows_by: columns::WHOLE_ROWS_BY.to_owned(),
            has_secondary_unique: self.more_unique || self.secondary_unique(),
            partitioned: self.partitioned,
            estimated_rows: self.estimated_rows,
            bytes: self.bytes,
            columns,
        }
    }

    fn without_key(&self) -> RowIdentity {
        if self.full_old_rows { RowIdentity::AllColumns } else { RowIdentity::None }
    }

    fn numbers(&self, key: &HeldKey) -> Vec<i32> {
        key.columns.iter().map(|(n, _)| *n).collect()
    }

    /// Whether a row is found by the key: unique, of whole columns that are never NULL and travel.
    fn is_key(&self, key: &HeldKey) -> bool {
        let fits = |n: i32| self.held.iter().any(|h| h.column.number == n && !h.column.nullable && !h.apart);
        key.unique
            && !key.computed
            && !key.columns.is_empty()
            && key.columns.iter().all(|(n, whole)| *whole && fits(*n))
    }

    /// The primary key, else what found rows before, else any other key.
    fn finder(&self) -> Option<Vec<i32>> {
        let keys: Vec<&HeldKey> = self.keys.iter().filter(|k| self.is_key(k)).collect();
        let primary = keys.iter().find(|k| k.name == "PRIMARY");
        let chosen = primary.or_else(|| keys.iter().find(|k| self.numbers(k) == self.finds)).or(keys.first())?;
        Some(self.numbers(chosen))
    }

    fn secondary_unique(&self) -> bool {
        let finder = self.finder().unwrap_or_default();
        let mut unique = self.keys.iter().filter(|k| k.unique);
        // The finder itself, once.
        unique.any(|k| k.computed || k.columns.iter().any(|(_, whole)| !whole) || self.numbers(k) != finder)
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.held.iter().position(|h| same(&h.column.name, name))
    }

    fn push_key(&mut self, name: &str, unique: bool, columns: &[(String, bool)], computed: bool) {
        let number = |n: &str| self.position(n).and_then(|p| self.held.get(p)).map(|h| h.column.number);
        let known: Option<Vec<(i32, bool)>> = columns.iter().map(|(c, whole)| Some((number(c)?, *whole))).collect();
        // A column that is not known makes the key one that finds nothing.
        let computed = computed || known.is_none();
        let columns = known.unwrap_or_default();
        self.keys.push(HeldKey { name: name.to_owned(), unique, columns, computed });
    }

    fn key_position(&self, name: &str) -> Option<usize> {
        self.keys.iter().position(|k| same(&k.name, name))
    }

    /// The name that the server gives to a key without one: its first column's, with a number where that is taken.
    fn key_name(&self, key: &KeyText) -> String {
        if key.kind == KeyKind::Primary {
            return "PRIMARY".into();
        }
        if let Some(n) = &key.name {
            return n.clone();
        }
        let first = key.columns.first().filter(|_| !key.computed).map_or("functional_index", |(c, _)| c.as_str());
        let taken = |n: &str| self.key_position(n).is_some();
        let mut names = std::iter::once(first.to_owned()).chain((2..).map(|i| format!("{first}_{i}")));
        names.find(|n| !taken(n)).unwrap_or_else(|| first.to_owned())
    }

    fn add_key(&mut self, key: &KeyText, deed: &mut Deed) {
        let name = self.key_name(key);
        if key.kind == KeyKind::Primary {
            for (c, _) in &key.columns {
                if let Some(h) = self.position(c).and_then(|p| self.held.get_mut(p)) {
                    deed.reshaped |= h.column.nullable;
                    h.column.nullable = false;
                }
            }
        }
        // There already: the statement is older than what is known, or said IF NOT EXISTS.
        if self.key_position(&name).is_none() {
            self.push_key(&name, key.kind != KeyKind::Plain, &key.columns, key.computed);
        }
        deed.reshaped |= key.kind != KeyKind::Plain;
        deed.keys_made.push((name, key.text.clone()));
    }

    fn held_of(&self, text: &ColumnText, number: i32, session: &Session) -> Held {
        let mut nullable = text.null.unwrap_or(true);
        let mut fill = None;
        if text.numbered || (text.null.is_none() && self.implied_not_null(text, session)) {
            nullable = false;
        }
        let default = match &text.default {
            Some(d) => Some(fill::printed(d, &text.type_name, &text.data, session)),
            None if text.null.is_none() && self.implied_not_null(text, session) => {
                // Its default depends on which TIMESTAMP column it is (manual, "explicit_defaults_for_timestamp").
                fill = Some(Fill::Computed);
                None
            }
            None => None,
        };
        let column = Column {
            name: text.name.clone(),
            number,
            type_name: text.type_name.clone(),
            kind: match text.data {
                DataType::Json { .. } => Kind::Json,
                _ => columns::describe(&text.type_name).1,
            },
            data: text.data.clone(),
            nullable,
            identity: text.numbered.then_some(Identity::ByDefault),
            default: text.generated.clone().or(if text.numbered { None } else { default }),
            collation: text.collation.clone(),
            portable_binary: false,
        };
        let fill = fill.or_else(|| Some(fill::of(text, nullable, session)));
        Held { column, apart: text.generated.is_some(), fill, foretold: false }
    }

    fn implied_not_null(&self, text: &ColumnText, session: &Session) -> bool {
        !session.explicit_timestamps && matches!(text.data, DataType::TimestampTz { .. })
    }

    fn insert(&mut self, held: Held, place: &Place, otherwise: usize) -> Result<(), String> {
        let at = match place {
            Place::Last => otherwise.min(self.held.len()),
            Place::First => 0,
            Place::After(c) => {
                self.position(c)
                    .ok_or_else(|| format!("its column {c:?}, after which another is to stand, is not known"))?
                    + 1
            }
        };
        self.held.insert(at, held);
        Ok(())
    }

    fn add(&mut self, text: &ColumnText, place: &Place, session: &Session, deed: &mut Deed) -> Result<(), String> {
        let number = self.next;
        let held = self.held_of(text, number, session);
        match held.fill.as_ref() {
            Some(Fill::Value(v)) => deed.missing_values.push((text.name.clone(), v.clone())),
            Some(Fill::Null) => {}
            // What stands apart is computed by whoever holds it.
            Some(Fill::Computed) | None => deed.rewritten |= !held.apart,
        }
        // There already: what is known is newer than the statement.
        if let Some(there) = self.position(&text.name).and_then(|p| self.held.get_mut(p)) {
            (there.fill, there.foretold) = (held.fill, true);
            return Ok(());
        }
        self.next = self.next.saturating_add(1);
        self.insert(held, place, usize::MAX)
    }

    /// What ALTER TABLE makes of it.
    ///
    /// # Errors
    /// What cannot be of the table as it is known. The shape is then as it was.
    pub fn alter(&mut self, ops: &[AlterOp], ignore: bool, session: &Session) -> Result<Deed, String> {
        let mut after = self.clone();
        let deed = after.apply(ops, ignore, session)?;
        after.finds = after.finder().unwrap_or_default();
        *self = after;
        Ok(deed)
    }

    fn apply(&mut self, ops: &[AlterOp], ignore: bool, session: &Session) -> Result<Deed, String> {
        let mut deed = Deed::default();
        // The server first drops and changes in place, by the names that were; then it moves and adds in the order of the
        // text, by the names that are (`mysql_prepare_alter_table`, sql_table.cc). Tried on both families.
        let before = self.clone();
        let was = |name: &str| before.position(name).and_then(|p| before.held.get(p)).map(|h| h.column.number);
        for op in ops {
            match op {
                AlterOp::Drop { name } => {
                    deed.reshaped = true;
                    if let Some(n) = was(name) {
                        self.held.retain(|h| h.column.number != n);
                        self.keys.iter_mut().for_each(|k| k.columns.retain(|(c, _)| *c != n));
                        self.keys.retain(|k| !k.columns.is_empty() || k.computed);
                    }
                }
                AlterOp::RenameColumn { from, to } => {
                    deed.reshaped = true;
                    if let Some(h) = was(from).and_then(|n| self.held.iter_mut().find(|h| h.column.number == n)) {
                        h.column.name = to.clone();
                    }
                }
                AlterOp::Change { from, column, .. } => {
                    deed.reshaped = true;
                    match was(from).and_then(|n| self.held.iter().position(|h| h.column.number == n)) {
                        Some(at) => deed.rewritten |= self.change(at, column, session),
                        // Either the change is known already, or it was of nothing (IF EXISTS).
                        None if before.position(&column.name).is_some() || column.conditional => {}
                        None => return Err(format!("its column {from:?} is not known")),
                    }
                }
                AlterOp::SetDefault { name, default } => {
                    deed.reshaped = true;
                    if let Some(n) = was(name) {
                        self.set_default(n, default.as_ref(), session);
                    }
                }
                AlterOp::DropKey { name } => {
                    if let Some(at) = self.key_position(name) {
                        let key = self.keys.remove(at);
                        deed.reshaped |= key.unique;
                    }
                    deed.keys_dropped.push(name.clone());
                }
                AlterOp::RenameKey { from, to } => {
                    if let Some(k) = self.key_position(from).and_then(|p| self.keys.get_mut(p)) {
                        k.name = to.clone();
                    }
                }
                AlterOp::RenameTo(name) => deed.renamed = Some(name.clone()),
                AlterOp::Convert { charset } => {
                    deed.reshaped = true;
                    deed.rewritten |= !holds_all(charset.as_deref(), session);
                    if charset.as_deref() == Some("binary") {
                        return Err("its text columns become bytes".into());
                    }
                }
                AlterOp::Partitioned(yes) => self.partitioned = *yes,
                AlterOp::Unlogged { what, other } => deed.unlogged.push((*what, other.clone())),
                AlterOp::AddForeign(_) | AlterOp::DropForeign { .. } => {}
                AlterOp::Add { .. } | AlterOp::AddKey(_) | AlterOp::Nothing => {}
            }
        }
        for op in ops {
            match op {
                AlterOp::Add { column, place } => {
                    deed.reshaped = true;
                    self.add(column, place, session, &mut deed)?;
                }
                AlterOp::Change { column, place, .. } if *place != Place::Last => {
                    if let Some(at) = self.position(&column.name) {
                        let held = self.held.remove(at);
                        self.insert(held, place, at)?;
                    }
                }
                _ => {}
            }
        }
        for op in ops {
            if let AlterOp::AddKey(key) = op {
                self.add_key(key, &mut deed);
                if ignore && key.kind != KeyKind::Plain {
                    deed.unlogged.push(("rows that a new key does not permit were thrown away (ALTER IGNORE)", None));
                }
            }
        }
        deed.rewritten |= ignore && ops.iter().any(|op| matches!(op, AlterOp::Change { .. }));
        Ok(deed)
    }

    /// Changes a column in place, and says whether rows may have got other values.
    fn change(&mut self, at: usize, text: &ColumnText, session: &Session) -> bool {
        let Some(old) = self.held.get(at).cloned() else { return true };
        let mut held = self.held_of(text, old.column.number, session);
        let (from, to) = (&old.column, &mut held.column);
        if from.type_name == to.type_name {
            // The catalog may know more of it than the word says (MariaDB's JSON).
            (to.kind, to.data) = (from.kind, from.data.clone());
        }
        if to.collation.is_none() && to.kind == from.kind {
            to.collation.clone_from(&from.collation);
        }
        // A key's columns are never NULL, whatever the definition leaves out.
        let in_primary =
            self.keys.iter().any(|k| k.name == "PRIMARY" && k.columns.iter().any(|(n, _)| *n == to.number));
        to.nullable &= !in_primary;
        // What rows hold comes out of the expression, or did: the new one is their value only if it was computed before.
        let computed = text.generated.is_none() && old.apart;
        let rewritten = !keeps(&from.type_name, &from.data, &to.type_name, &to.data)
            || (from.nullable && !to.nullable && !session.strict)
            || (text.charset.is_some() && !holds_all(text.charset.as_deref(), session))
            // Its rows may get numbers for 0 and NULL.
            || (from.identity.is_none() && to.identity.is_some())
            || computed;
        if let Some(place) = self.held.get_mut(at) {
            *place = held;
        }
        rewritten
    }

    fn set_default(&mut self, number: i32, default: Option<&DefaultText>, session: &Session) {
        let Some(h) = self.held.iter_mut().find(|h| h.column.number == number) else { return };
        let c = &mut h.column;
        c.default = default.map(|d| fill::printed(d, &c.type_name, &c.data, session));
        if h.fill.is_some() {
            let text = ColumnText {
                name: c.name.clone(),
                type_name: c.type_name.clone(),
                data: c.data.clone(),
                null: Some(c.nullable),
                default: default.cloned(),
                numbered: c.identity.is_some(),
                generated: None,
                charset: None,
                collation: None,
                conditional: false,
            };
            h.fill = Some(fill::of(&text, c.nullable, session));
        }
    }

    /// The table in the place of `old`, whose rows a tool has copied into it column by column, by name: what became of
    /// `old`'s columns and rows. `base` holds the numbers of columns that this one began with, when `old` had the same.
    pub fn replaces(&self, old: &Shape, base: &[i32]) -> (Shape, Deed) {
        let mut after = self.clone();
        after.id = old.id;
        (after.estimated_rows, after.bytes) = (old.estimated_rows, old.bytes);
        let mut deed = Deed { reshaped: true, ..Deed::default() };
        let mut next = old.next;
        let mut moved = Vec::new();
        for h in &mut after.held {
            let was = h.column.number;
            let by_name = old.held.iter().find(|o| same(&o.column.name, &h.column.name));
            // Renamed on the way. Whether the tool carried its values is not in the text.
            let renamed = || {
                old.held
                    .iter()
                    .find(|o| o.column.number == was && base.contains(&was) && self.position(&o.column.name).is_none())
            };
            let from = by_name.or_else(renamed);
            if h.foretold {
                match &h.fill {
                    Some(Fill::Value(v)) => deed.missing_values.push((h.column.name.clone(), v.clone())),
                    Some(Fill::Null) => {}
                    Some(Fill::Computed) | None => deed.rewritten |= !h.apart,
                }
            }
            match from {
                Some(o) => {
                    h.column.number = o.column.number;
                    if o.column.type_name == h.column.type_name {
                        (h.column.kind, h.column.data) = (o.column.kind, o.column.data.clone());
                    }
                    let (a, b) = (&o.column, &h.column);
                    deed.rewritten |= !same(&a.name, &b.name)
                        || !keeps(&a.type_name, &a.data, &b.type_name, &b.data)
                        // Tools insert with IGNORE, which turns NULL into something else.
                        || (a.nullable && !b.nullable);
                }
                None => {
                    h.column.number = next;
                    next = next.saturating_add(1);
                    match &h.fill {
                        Some(Fill::Null) => {}
                        Some(Fill::Value(v)) => deed.missing_values.push((h.column.name.clone(), v.clone())),
                        Some(Fill::Computed) => deed.rewritten |= !h.apart,
                        None => deed.rewritten |= !h.column.nullable || h.column.default.is_some(),
                    }
                }
            }
            moved.push((was, h.column.number));
            // From here on it is a column like any other.
            (h.fill, h.foretold) = (None, false);
        }
        after.next = next;
        let new = |n: i32| moved.iter().find(|(was, _)| *was == n).map_or(n, |(_, is)| *is);
        after.keys.iter_mut().flat_map(|k| &mut k.columns).for_each(|(n, _)| *n = new(*n));
        after.finds = after.finder().unwrap_or_default();
        (after, deed)
    }

    /// All columns as the server orders them, computed ones too.
    pub fn columns(&self) -> impl Iterator<Item = &Column> {
        self.held.iter().map(|h| &h.column)
    }

    /// The numbers of its columns.
    pub fn column_numbers(&self) -> Vec<i32> {
        self.held.iter().map(|h| h.column.number).collect()
    }

    /// Gives columns the numbers that columns of the same name have in `other` (a table written out anew for it).
    pub fn number_like(&mut self, other: &Shape) {
        let mut moved = Vec::new();
        let mut next = other.next;
        for h in &mut self.held {
            let is = other.held.iter().find(|o| same(&o.column.name, &h.column.name)).map_or_else(
                || {
                    next += 1;
                    next - 1
                },
                |o| o.column.number,
            );
            moved.push((h.column.number, is));
            h.column.number = is;
        }
        self.next = next;
        let new = |n: i32| moved.iter().find(|(was, _)| *was == n).map_or(n, |(_, is)| *is);
        self.keys.iter_mut().flat_map(|k| &mut k.columns).for_each(|(n, _)| *n = new(*n));
        self.finds.iter_mut().for_each(|n| *n = new(*n));
    }
}

/// Whether every text is the same text in that character set, or is refused.
fn holds_all(charset: Option<&str>, session: &Session) -> bool {
    session.strict || matches!(charset, Some("utf8mb4" | "utf16" | "utf16le" | "utf32" | "gb18030"))
}
