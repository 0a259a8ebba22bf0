//! What one rule makes of rows and of changes. Pure.

use std::sync::Arc;

use super::convert::Conversion;
use super::expr::{EvalError, Expr, Scratch};
use super::items::Items;
use super::rules::OnExisting;
use crate::change::{Change, Op};
use crate::error::{Error, Result};
use crate::schema::{RowIdentity, Table, TableName};
use crate::value::{Datum, Row, RowBuilder};

/// Where one source table's rows go, and as what.
#[derive(Clone, Debug)]
pub struct Output {
    /// The table that changes go to: its columns are exactly the fields of the rows that this step gives out.
    pub target: Arc<Table>,
    /// What happens to an inserted row whose key is there already.
    pub on_existing: OnExisting,
    /// Whether no other source table's rows go there, so that the table may be emptied with its source.
    pub alone: bool,
    /// Items of a list whose parents may be left out: what tells which parent a row belongs to. Such rows come and go with
    /// a parent that was taken over, and those of another's row are let be.
    pub parent: Option<Arc<ParentKey>>,
    /// `None`: rows pass as they are, field by field.
    pub(super) program: Option<Program>,
}

/// The key of the target's row that a row of a child table belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentKey {
    /// The target's table that holds the parents.
    pub table: TableName,
    /// For each column of that table's key, in its order: the child table's column that holds the same value, and the
    /// parent's type.
    pub columns: Vec<(usize, String)>,
}

/// A rule, compiled.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// `rule 2 (public.a → public.b)`.
    pub label: String,
    pub source: TableName,
    /// Names of the source's columns, for messages.
    pub names: Vec<String>,
    pub source_key: Vec<usize>,
    /// Old rows are whole.
    pub full: bool,
    pub filter: Option<Expr>,
    /// One a column of the target; over an item's fields where `items` is there.
    pub fields: Vec<FieldFrom>,
    /// The list whose items become rows. The target's identity is then what finds all rows of one parent.
    pub items: Option<Items>,
}

/// Where a field comes from.
#[derive(Clone, Debug)]
pub(super) enum FieldFrom {
    /// The source's field, as it is.
    Column(usize),
    /// The source's field in the form of the target's type.
    Converted(usize, Conversion),
    /// Computed.
    Computed(Box<Expr>),
}

/// What a change becomes.
#[derive(Debug)]
pub enum Produced {
    /// A change of one row.
    Change(Change),
    /// The rows of one parent: all that are there go, these come.
    Replace {
        /// A row with the fields that find them; the others NULL.
        owner: Row,
        /// What comes instead.
        rows: Vec<Row>,
        /// Whether the parent was there before the change, under this key.
        was_there: bool,
    },
}

impl Output {
    /// Whether fields pass as they are.
    pub fn is_same(&self) -> bool {
        self.program.is_none()
    }

    /// The source's column whose values are this field's, as they are.
    pub fn plain(&self, field: usize) -> Option<usize> {
        match &self.program {
            None => Some(field),
            Some(p) if p.items.is_some() => None,
            Some(p) => match p.fields.get(field) {
                Some(FieldFrom::Column(c)) => Some(*c),
                _ => None,
            },
        }
    }

    /// Whether rows are items of a list, several to a row of the source.
    pub fn is_items(&self) -> bool {
        self.program.as_ref().is_some_and(|p| p.items.is_some())
    }

    /// Whether copied bytes may pass without being looked at: the same fields of the same types in the same order.
    pub fn passes_bytes(&self, source: &Table) -> bool {
        let in_place = match &self.program {
            None => true,
            Some(p) => {
                p.filter.is_none()
                    && p.items.is_none()
                    && p.fields.iter().enumerate().all(|(i, f)| matches!(f, FieldFrom::Column(c) if *c == i))
            }
        };
        in_place
            && source.columns.len() == self.target.columns.len()
            && source.columns.iter().zip(&self.target.columns).all(|(s, t)| s.type_name == t.type_name)
    }

    /// What a row of the copy becomes; appended to `out`.
    ///
    /// # Errors
    /// `Fatal` when the row cannot be carried; names the rule, the column and the row's key.
    pub fn rows(&self, row: &Row, scratch: &mut Scratch, out: &mut Vec<Row>) -> Result<()> {
        let Some(p) = &self.program else {
            out.push(row.clone());
            return Ok(());
        };
        if p.passes(row, scratch)? {
            p.made(&self.target, row, scratch, out)?;
        }
        Ok(())
    }

    /// What a change becomes; appended to `out`.
    ///
    /// # Errors
    /// As [`Output::rows`].
    pub fn change(&self, change: Change, scratch: &mut Scratch, out: &mut Vec<Produced>) -> Result<()> {
        let Some(p) = &self.program else {
            out.push(Produced::Change(change));
            return Ok(());
        };
        let Change { table, op, old, new } = change;
        // With whole old rows nothing is left unsent.
        let new = match (new, &old) {
            (Some(n), Some(o)) if p.full => Some(n.fill_unsent(o)),
            (n, _) => n,
        };
        let before = match (op, &old, &new) {
            (Op::Insert, ..) => None,
            // Without an old row the key is the new row's.
            (_, Some(o), _) => Some(o),
            (_, None, Some(n)) => Some(n),
            (_, None, None) => None,
        };
        let was = match before {
            Some(row) => p.passes(row, scratch)?,
            None => false,
        };
        let is = match &new {
            Some(row) => p.passes(row, scratch)?,
            None => false,
        };
        if p.items.is_some() {
            return self.children(p, before.filter(|_| was), new.as_ref().filter(|_| is), old.is_some(), scratch, out);
        }
        let old_row = match before.filter(|_| was) {
            Some(row) => Some(self.old(p, row, scratch)?),
            None => None,
        };
        let new_row = match new.as_ref().filter(|_| is) {
            Some(row) => {
                let mut made = Vec::with_capacity(1);
                p.made(&self.target, row, scratch, &mut made)?;
                made.pop()
            }
            None => None,
        };
        if let (Some(old), Some(new), Some(made)) = (&old, &new, &new_row) {
            p.follows_its_key(old, new, made)?;
        }
        let change = match (old_row, new_row) {
            (None, None) => return Ok(()),
            (None, Some(new)) => Change { table, op: Op::Insert, old: None, new: Some(new) },
            (Some(old), None) => Change { table, op: Op::Delete, old: Some(old), new: None },
            (Some(old), Some(new)) => Change { table, op: Op::Update, old: Some(old), new: Some(new) },
        };
        out.push(Produced::Change(change));
        Ok(())
    }

    /// Rows of a list: those of the old parent go, those of the new one come.
    fn children(
        &self,
        p: &Program,
        before: Option<&Row>,
        after: Option<&Row>,
        old_is_whole: bool,
        scratch: &mut Scratch,
        out: &mut Vec<Produced>,
    ) -> Result<()> {
        let Some(items) = &p.items else { return Ok(()) };
        let gone = |owner| Produced::Replace { owner, rows: Vec::new(), was_there: true };
        let owner_before = before.map(|r| self.old(p, r, scratch)).transpose()?;
        let Some(after) = after else {
            out.extend(owner_before.map(gone));
            return Ok(());
        };
        let owner = self.old(p, after, scratch)?;
        let moved = owner_before.as_ref().is_some_and(|o| *o != owner);
        if after.get(items.column) == Datum::Unsent {
            // The list did not change, and only the list and the parent's key make the rows.
            if before.is_some() && !moved {
                return Ok(());
            }
            return Err(p.unsent(after, items.column));
        }
        let mut rows = Vec::new();
        p.made(&self.target, after, scratch, &mut rows)?;
        if let (Some(before), true, true) = (before, p.full && old_is_whole, !moved) {
            let mut was = Vec::new();
            p.made(&self.target, before, scratch, &mut was)?;
            if was == rows {
                return Ok(());
            }
        }
        let was_there = owner_before.is_some() && !moved;
        if moved {
            out.extend(owner_before.map(gone));
        }
        out.push(Produced::Replace { owner, rows, was_there });
        Ok(())
    }

    /// The target's row with the fields that find it, from an old row that may hold no more than the source's key.
    fn old(&self, p: &Program, row: &Row, scratch: &mut Scratch) -> Result<Row> {
        let mut b = RowBuilder::with_capacity(p.fields.len(), 64);
        for (i, field) in p.fields.iter().enumerate() {
            let wanted = match &self.target.identity {
                RowIdentity::Key(k) => k.contains(&i),
                _ => true,
            };
            if wanted { p.field(&self.target, i, field, row, None, scratch, &mut b)? } else { b.push(Datum::Null) }
        }
        Ok(b.finish())
    }
}

impl Program {
    /// Every field goes to its own place, converted where there is a conversion for it.
    pub(super) fn converting(source: &Table, target: &Table, conversions: &[Option<Conversion>]) -> Program {
        let field = |(i, c): (usize, &Option<Conversion>)| match c {
            Some(c) => FieldFrom::Converted(i, c.clone()),
            None => FieldFrom::Column(i),
        };
        Program {
            label: format!("{} → {}", source.name, target.name),
            source: source.name.clone(),
            names: source.columns.iter().map(|c| c.name.clone()).collect(),
            source_key: source.key().to_vec(),
            full: source.full_old_rows,
            filter: None,
            fields: conversions.iter().enumerate().map(field).collect(),
            items: None,
        }
    }

    fn passes(&self, row: &Row, scratch: &mut Scratch) -> Result<bool> {
        match &self.filter {
            None => Ok(true),
            Some(f) => f.test(row, scratch).map_err(|e| self.failed(e, "where", row)),
        }
    }

    /// The row, or the rows of its list.
    fn made(&self, target: &Table, row: &Row, scratch: &mut Scratch, out: &mut Vec<Row>) -> Result<()> {
        let Some(items) = &self.items else {
            let mut b = RowBuilder::with_capacity(self.fields.len(), row.bytes() + 32);
            for (i, field) in self.fields.iter().enumerate() {
                self.field(target, i, field, row, None, scratch, &mut b)?;
            }
            out.push(b.finish());
            return Ok(());
        };
        let list = match row.get(items.column) {
            Datum::Null => return Ok(()),
            Datum::Unsent => return Err(self.unsent(row, items.column)),
            Datum::Text(t) => items.list(t).map_err(|what| self.error(what, "path", row))?,
        };
        for (n, item) in list.iter().enumerate() {
            let fields = items.fields(item, n + 1, row).map_err(|what| self.error(&what, "path", row))?;
            let mut b = RowBuilder::with_capacity(self.fields.len(), 64);
            for (i, field) in self.fields.iter().enumerate() {
                self.field(target, i, field, row, Some(&fields), scratch, &mut b)?;
            }
            out.push(b.finish());
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn field(
        &self,
        target: &Table,
        index: usize,
        from: &FieldFrom,
        row: &Row,
        item: Option<&super::items::ItemFields<'_>>,
        scratch: &mut Scratch,
        out: &mut RowBuilder,
    ) -> Result<()> {
        match from {
            FieldFrom::Column(c) => out.push(row.get(*c)),
            FieldFrom::Converted(c, conversion) => match row.get(*c) {
                Datum::Text(text) => {
                    let mut made = Vec::with_capacity(text.len() + 16);
                    let done = conversion.apply(text, &mut made);
                    done.map_err(|what| self.error(what, &target.columns[index].name, row))?;
                    out.push(Datum::Text(&made));
                }
                nothing => out.push(nothing),
            },
            FieldFrom::Computed(e) => {
                // What finds a list's rows reads the parent's fields alone.
                let parent = if item.is_none() { self.items.as_ref().map(|i| i.parent_only(row)) } else { None };
                let got = match (item, &parent) {
                    (Some(fields), _) | (None, Some(fields)) => e.eval(fields, scratch),
                    (None, None) => e.eval(row, scratch),
                };
                match got {
                    Ok(d) => out.push(d),
                    Err(EvalError::Unsent { .. }) if self.unchanged(e, row) => out.push(Datum::Unsent),
                    Err(e) => return Err(self.failed(e, &target.columns[index].name, row)),
                }
            }
        }
        if self.items.is_none()
            && matches!(&target.identity, RowIdentity::Key(k) if k.contains(&index))
            && out.last_is_null()
        {
            return Err(self.error("the key is NULL", &target.columns[index].name, row));
        }
        Ok(())
    }

    /// Whether everything that the expression reads is as it was: what was not sent did not change, nor did the key of
    /// an update that came without an old row.
    fn unchanged(&self, e: &Expr, row: &Row) -> bool {
        // An item's inputs are not the row's.
        self.items.is_none() && e.inputs().iter().all(|i| row.get(*i) == Datum::Unsent || self.source_key.contains(i))
    }

    /// Refuses what was taken for unchanged, although a part of the key that it reads is another now.
    fn follows_its_key(&self, old: &Row, new: &Row, made: &Row) -> Result<()> {
        for (i, field) in self.fields.iter().enumerate() {
            let FieldFrom::Computed(e) = field else { continue };
            let moved = |c: &usize| self.source_key.contains(c) && old.get(*c) != new.get(*c);
            if made.get(i) == Datum::Unsent && e.inputs().iter().any(moved) {
                let unsent = e.inputs().iter().find(|c| new.get(**c) == Datum::Unsent);
                return Err(self.unsent(new, unsent.copied().unwrap_or(usize::MAX)));
            }
        }
        Ok(())
    }

    fn failed(&self, e: EvalError, column: &str, row: &Row) -> Error {
        match e {
            EvalError::Unsent { input } => {
                let column = self.items.as_ref().map_or(Some(input), |i| i.parent_of(input));
                self.unsent(row, column.unwrap_or(usize::MAX))
            }
            EvalError::Failed { message } => self.error(&message, column, row),
        }
    }

    fn unsent(&self, row: &Row, input: usize) -> Error {
        let column = self.names.get(input).map_or("?", String::as_str);
        self.failure("a large value that did not change was not sent, and the expression needs it", column, row).hint(format!(
            "on the source: ALTER TABLE {} REPLICA IDENTITY FULL; the log before that lacks the value, so begin anew: `switchyard finish`, empty the target's tables, run",
            self.source
        ))
    }

    fn error(&self, what: &str, column: &str, row: &Row) -> Error {
        self.failure(what, column, row)
            .hint("correct the row at the source or the rule, then start again; nothing of its transaction was applied")
    }

    fn failure(&self, what: &str, column: &str, row: &Row) -> Error {
        let key: Vec<String> = self
            .source_key
            .iter()
            .map(|&k| {
                let value = match row.get(k) {
                    Datum::Text(t) => String::from_utf8_lossy(t).into_owned(),
                    _ => "NULL".to_owned(),
                };
                format!("{}={value}", self.names.get(k).map_or("?", String::as_str))
            })
            .collect();
        let key = if key.is_empty() { "a row without key".to_owned() } else { key.join(",") };
        Error::fatal(format!("{}, column {column}, row {key}: {what}", self.label)).with_code("switchyard:rule")
    }
}
