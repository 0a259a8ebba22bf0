//! Keeps lists in documents what the rows' collections say, in the transactions of the rows (docs/adr/0009).
//!
//! A batch notes the parents of every row that it touches, as they are before and after it, and the parents that it brings
//! in. Before the checkpoint is written, in the same transaction, the lists of these are read and written anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bson::{Bson, Document, RawDocumentBuf, doc};

use super::apply::{MongoApplier, Pipe};
use super::command::{self, Statements, Verb, Written, number};
use super::lists::{self, Fitted};
use super::session::Session;
use super::shape::{LARGEST, Shape};
use super::trouble;
use crate::error::{Error, Result};
use crate::mongowire::server::first_batch;
use crate::pipeline::batch::{Sets, TableSet};
use crate::schema::TableName;
use crate::value::Row;

/// Rows that are looked for at once.
const ROWS: usize = 2000;
/// Parents whose lists are read at once.
const PARENTS: usize = 200;
/// Parents that are noted before their lists are made, although the transaction goes on.
const NOTED: usize = 50_000;
/// Keys that an error names.
const SHOWN: usize = 5;

/// What of one list is to be made anew: by the bytes of the key, so that each is there once.
#[derive(Default)]
pub(super) struct Touched {
    parents: BTreeMap<Vec<u8>, Bson>,
    /// Rows that had no parent's key when they were looked at.
    loose: BTreeMap<Vec<u8>, Bson>,
    /// The parents' collection was emptied.
    emptied: bool,
}

fn bytes_of(value: &Bson) -> Vec<u8> {
    doc! { "": value.clone() }.to_vec().unwrap_or_default()
}

/// A cursor, read to its end.
pub(super) struct Cursor {
    database: String,
    collection: String,
    id: i64,
    waiting: Vec<Document>,
}

impl Cursor {
    /// Opens it. `find` or `aggregate`.
    ///
    /// # Errors
    /// As [`Session::raw`].
    pub async fn open(s: &mut Session, doing: &str, of: &TableName, command: Document) -> Result<Cursor> {
        let reply = s.run(doing, &of.schema, command).await?;
        let mut cursor =
            Cursor { database: of.schema.clone(), collection: of.name.clone(), id: 0, waiting: Vec::new() };
        cursor.take(doing, reply, "firstBatch")?;
        Ok(cursor)
    }

    fn take(&mut self, doing: &str, mut reply: Document, field: &str) -> Result<()> {
        let broken = || Error::fatal(format!("{doing}: the answer holds no documents"));
        let cursor = reply.get_document_mut("cursor").map_err(|_| broken())?;
        self.id = number(cursor.get("id")).ok_or_else(broken)?;
        let Some(Bson::Array(batch)) = cursor.remove(field) else { return Err(broken()) };
        self.waiting = batch
            .into_iter()
            .map(|d| match d {
                Bson::Document(d) => Ok(d),
                _ => Err(broken()),
            })
            .collect::<Result<_>>()?;
        Ok(())
    }

    /// The next documents; none at the end.
    ///
    /// # Errors
    /// As [`Session::raw`].
    pub async fn next(&mut self, s: &mut Session, doing: &str) -> Result<Vec<Document>> {
        while self.waiting.is_empty() && self.id != 0 {
            let more = doc! { "getMore": self.id, "collection": &self.collection };
            let reply = s.run(doing, &self.database, more).await?;
            self.take(doing, reply, "nextBatch")?;
        }
        Ok(std::mem::take(&mut self.waiting))
    }
}

/// Statements that set lists, and whose they are.
pub(super) struct Setting<'f> {
    fitted: &'f Fitted,
    statements: Option<Statements>,
    keys: Vec<Bson>,
    /// The list in the making: its parent's key and its bytes, and the elements.
    open: Option<(Vec<u8>, Bson, Vec<Bson>, usize)>,
}

impl<'f> Setting<'f> {
    pub fn new(fitted: &'f Fitted) -> Setting<'f> {
        Setting { fitted, statements: None, keys: Vec::new(), open: None }
    }

    /// Takes a row; rows of one parent come one after the other. Says the key of a parent whose list is whole with that.
    ///
    /// # Errors
    /// `Fatal` for a list that no document can hold.
    pub fn row(&mut self, row: &Document) -> Result<Option<Vec<u8>>> {
        let Some(parent) = self.fitted.parent_of(row) else { return Ok(None) };
        let key = bytes_of(&parent);
        let done = match &self.open {
            Some((open, ..)) if *open != key => self.end()?,
            _ => None,
        };
        let element = self.fitted.element(row);
        let (_, parent, elements, bytes) = self.open.get_or_insert_with(|| (key, parent, Vec::new(), 0));
        *bytes += bytes_of(&element).len();
        elements.push(element);
        if *bytes > LARGEST {
            return Err(too_large(self.fitted, parent, elements.len()));
        }
        Ok(done)
    }

    /// Closes the list in the making.
    ///
    /// # Errors
    /// As [`Setting::row`].
    pub fn end(&mut self) -> Result<Option<Vec<u8>>> {
        let Some((key, parent, elements, _)) = self.open.take() else { return Ok(None) };
        self.set(&parent, elements)?;
        Ok(Some(key))
    }

    /// Adds the statement for one parent.
    ///
    /// # Errors
    /// `Fatal` if it cannot be written.
    pub fn set(&mut self, parent: &Bson, elements: Vec<Bson>) -> Result<()> {
        let mut with = Document::new();
        let count = elements.len();
        with.insert(self.fitted.list.field.clone(), elements);
        let one = doc! { "q": { "_id": { "$eq": parent.clone() } }, "u": { "$set": with } };
        let bytes = one.to_vec().map_err(|e| Error::fatal(format!("writing a list: {e}")))?;
        if bytes.len() > LARGEST {
            return Err(too_large(self.fitted, parent, count));
        }
        let statements = match &mut self.statements {
            Some(s) => s,
            None => self.statements.insert(Statements::new(Verb::Update, &self.fitted.list.parent)?),
        };
        statements.push(&bytes);
        self.keys.push(parent.clone());
        Ok(())
    }

    /// Whether what waits should be sent.
    pub fn is_full(&self) -> bool {
        self.statements.as_ref().is_some_and(|s| s.is_full(1 << 20))
    }

    /// What waits, as a command, and whose lists it sets.
    ///
    /// # Errors
    /// `Fatal` if it cannot be written.
    pub fn command(&mut self) -> Result<Option<(RawDocumentBuf, Vec<Bson>)>> {
        let keys = std::mem::take(&mut self.keys);
        self.statements.take().map(|s| Ok((s.finish()?, keys))).transpose()
    }

    /// What the answer to such a command says.
    ///
    /// # Errors
    /// The server's own; `Fatal` for a document that becomes too large.
    pub fn judge(&self, doing: &str, w: &Written, keys: &[Bson]) -> Result<()> {
        let Some(r) = &w.refused else { return Ok(()) };
        // BSONObjectTooLarge, and the document that an update would make.
        Err(match (r.code, keys.get(r.place)) {
            (10334 | 17280 | 17419 | 17420, Some(key)) => too_large(self.fitted, key, 0),
            _ => super::session::refused(doing, r),
        })
    }

    /// Sends what waits, in the open transaction. Gives back the keys of parents that are not there.
    async fn send(&mut self, s: &mut Session) -> Result<Vec<Bson>> {
        let Some((command, keys)) = self.command()? else { return Ok(Vec::new()) };
        let parent = &self.fitted.list.parent;
        let doing = format!("{parent}: writing lists of {} on the target", self.fitted.list.rows);
        let w = command::written(&s.raw(&doing, &parent.schema, command).await?);
        self.judge(&doing, &w, &keys)?;
        if w.n == keys.len() as u64 {
            return Ok(Vec::new());
        }
        let find = doc! { "find": &parent.name, "filter": { "_id": { "$in": &keys } }, "projection": { "_id": 1 } };
        let mut cursor = Cursor::open(s, &doing, parent, find).await?;
        let mut there: BTreeSet<Vec<u8>> = BTreeSet::new();
        loop {
            let some = cursor.next(s, &doing).await?;
            if some.is_empty() {
                break;
            }
            there.extend(some.iter().filter_map(|d| d.get("_id")).map(|id| bytes_of(&lists::plain(id))));
        }
        Ok(keys.into_iter().filter(|k| !there.contains(&bytes_of(k))).collect())
    }
}

fn too_large(fitted: &Fitted, parent: &Bson, rows: usize) -> Error {
    let list = &fitted.list;
    let of = if rows == 0 { "all its rows".to_owned() } else { format!("{rows} rows") };
    Error::fatal(format!(
        "{}: the document with _id {} and {of} of {} as its {} is larger than the {LARGEST} bytes that MongoDB takes",
        list.parent,
        trouble::plain(parent),
        list.rows,
        list.field
    ))
    .with_code("switchyard:value")
    .hint("leave large columns of the rows out (drop), or leave [rule.embed] out: the rows are then documents of their own")
}

/// Rows that are in no document.
pub(super) fn without_parent(fitted: &Fitted, keys: &[Bson], rows: &[Bson]) -> Error {
    let list = &fitted.list;
    let shown = |of: &[Bson]| of.iter().take(SHOWN).map(trouble::plain).collect::<Vec<_>>().join(", ");
    let what = match (keys, rows) {
        ([], _) => format!(
            "rows of {} refer to no document of {}: a column of `on` is NULL; their _id: {}",
            list.rows,
            list.parent,
            shown(rows)
        ),
        _ => format!(
            "rows of {} refer to documents of {} that are not there; their _id: {}",
            list.rows,
            list.parent,
            shown(keys)
        ),
    };
    Error::fatal(what).with_code("switchyard:without_parent").hint(
        "say in [rule.embed] without_parent = \"wait\": such rows then wait in their own collection until the document comes; rows that never have one can be left out (where = \"order_id is not null\")",
    )
}

fn keys_of(t: &TableSet) -> impl Iterator<Item = &Row> {
    let ordered = t.ordered.iter().flat_map(|c| [&c.old, &c.new]).flatten();
    t.deletes().map(|(k, _)| k).chain(t.updates()).chain(t.inserts()).chain(ordered)
}

/// `_id` of a row's document.
fn id_of(shape: &Shape, row: &Row) -> Result<Option<Bson>> {
    let mut element = Vec::with_capacity(32);
    shape.id_as(&mut element, row, b"_id")?;
    let mut bytes = (i32::try_from(element.len() + 5).unwrap_or(i32::MAX)).to_le_bytes().to_vec();
    bytes.extend(element);
    bytes.push(0);
    let d = Document::from_reader(bytes.as_slice()).map_err(|e| Error::fatal(format!("reading a key: {e}")))?;
    Ok(d.get("_id").cloned())
}

impl MongoApplier {
    /// Whether documents of a table hold lists that its rows do not tell.
    pub(super) fn holds_lists(&self, table: &TableName) -> bool {
        self.lists.iter().any(|l| l.parent == *table)
    }

    /// The lists, fitted to the tables as they are now.
    async fn fitted(&mut self) -> Result<Arc<Vec<Fitted>>> {
        if let Some(fitted) = &self.fitted {
            return Ok(fitted.clone());
        }
        let mut all = Vec::with_capacity(self.lists.len());
        for list in self.lists.clone().iter() {
            let (rows, parent) = (self.described(&list.rows).await?, self.described(&list.parent).await?);
            if let Some(unique) = rows.uniques.first() {
                return Err(Error::fatal(format!(
                    "{}: the unique index {} is in the way of rows that become lists",
                    list.rows, unique.name
                ))
                .hint("drop the index: the source keeps the rows apart"));
            }
            all.push(Fitted::new(list, &rows.table, &parent.table).map_err(|why| misfit(&list.rows, &why))?);
        }
        let all = Arc::new(all);
        self.fitted = Some(all.clone());
        Ok(all)
    }

    /// Forgets what was touched: the transaction was given up, or is committed.
    pub(super) fn untouch(&mut self) {
        self.touched.clear();
    }

    /// Notes whose lists a step touches: once before and once `after` it.
    pub(super) async fn touch(
        &mut self,
        sets: &Sets,
        convergent: bool,
        after: bool,
        pipe: &mut Pipe<'_>,
    ) -> Result<()> {
        let concerned = |t: &TableSet| self.lists.iter().any(|l| l.rows == t.table.name || l.parent == t.table.name);
        if !sets.tables.iter().any(concerned) {
            return Ok(());
        }
        self.flush(pipe).await?;
        let fitted = self.fitted().await?;
        self.touched.resize_with(fitted.len(), Touched::default);
        for t in &sets.tables {
            for (n, f) in fitted.iter().enumerate() {
                if f.list.rows == t.table.name {
                    if t.shared || t.items {
                        return Err(misfit(&t.table.name, "in: other rules or tables write the rows' collection, too"));
                    }
                    let shape = self.found_by_id(t).await?;
                    let mut ids = BTreeMap::new();
                    for row in keys_of(t) {
                        if let Some(id) = id_of(&shape, row)? {
                            ids.insert(bytes_of(&id), id);
                        }
                    }
                    let ids: Vec<Bson> = ids.into_values().collect();
                    self.touch_rows(n, f, &ids, after).await?;
                } else if f.list.parent == t.table.name && !after {
                    let shape = self.found_by_id(t).await?;
                    let updates = t.updates().filter(|_| convergent);
                    let ordered = t.ordered.iter().flat_map(|c| [&c.old, &c.new]).flatten();
                    for row in t.deletes().map(|(k, _)| k).chain(updates).chain(t.inserts()).chain(ordered) {
                        if let (Some(id), Some(touched)) = (id_of(&shape, row)?, self.touched.get_mut(n)) {
                            let id = lists::plain(&id);
                            touched.parents.insert(bytes_of(&id), id);
                        }
                    }
                }
            }
        }
        if after && self.touched.iter().any(|t| t.parents.len() > NOTED) {
            self.refresh_noted(&fitted).await?;
        }
        Ok(())
    }

    async fn found_by_id(&mut self, t: &TableSet) -> Result<Arc<Shape>> {
        let shape = self.shape(&t.table).await?;
        if shape.is_found_by_id() {
            return Ok(shape);
        }
        Err(misfit(&t.table.name, "in: its rows are found by other columns than those of the primary key"))
    }

    async fn touch_rows(&mut self, n: usize, f: &Fitted, ids: &[Bson], after: bool) -> Result<()> {
        let doing = format!("{}: looking whose rows they are on the target", f.list.rows);
        for some in ids.chunks(ROWS) {
            self.started().await?;
            let find =
                doc! { "find": &f.list.rows.name, "filter": { "_id": { "$in": some } }, "projection": f.projection() };
            let mut cursor = Cursor::open(&mut self.session, &doing, &f.list.rows, find).await?;
            loop {
                let rows = cursor.next(&mut self.session, &doing).await?;
                if rows.is_empty() {
                    break;
                }
                let Some(touched) = self.touched.get_mut(n) else { break };
                for row in rows {
                    match f.parent_of(&row) {
                        Some(parent) => drop(touched.parents.insert(bytes_of(&parent), parent)),
                        None if after && !f.list.waits => {
                            let id = row.get("_id").cloned().unwrap_or(Bson::Null);
                            touched.loose.insert(bytes_of(&id), id);
                        }
                        None => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// A collection was emptied, in the open transaction.
    pub(super) async fn emptied(&mut self, table: &TableName) -> Result<()> {
        if !self.lists.iter().any(|l| l.rows == *table || l.parent == *table) {
            return Ok(());
        }
        let fitted = self.fitted().await?;
        self.touched.resize_with(fitted.len(), Touched::default);
        for (n, f) in fitted.iter().enumerate() {
            if f.list.parent == *table
                && let Some(touched) = self.touched.get_mut(n)
            {
                touched.emptied = true;
            }
            if f.list.rows == *table {
                let (mut some, mut none) = (Document::new(), Document::new());
                some.insert(f.list.field.clone(), doc! { "$ne": [] });
                none.insert(f.list.field.clone(), Bson::Array(Vec::new()));
                let all = doc! { "update": &f.list.parent.name,
                "updates": [{ "q": some, "u": { "$set": none }, "multi": true }] };
                self.session.write(&format!("emptying lists of {table}"), &f.list.parent.schema, all).await?;
            }
        }
        Ok(())
    }

    /// Makes the lists anew that were touched, and keeps those in mind whose parents are not there.
    async fn refresh_noted(&mut self, fitted: &[Fitted]) -> Result<()> {
        for (n, f) in fitted.iter().enumerate() {
            let Some(touched) = self.touched.get_mut(n) else { continue };
            let parents: Vec<Bson> = std::mem::take(&mut touched.parents).into_values().collect();
            for some in parents.chunks(PARENTS) {
                let absent = self.refresh_some(f, some).await?;
                if let Some(touched) = self.touched.get_mut(n) {
                    touched.parents.extend(absent.into_iter().map(|k| (bytes_of(&k), k)));
                }
            }
        }
        Ok(())
    }

    /// The lists of these parents. Gives back those that have rows and are not there.
    async fn refresh_some(&mut self, f: &Fitted, parents: &[Bson]) -> Result<Vec<Bson>> {
        self.started().await?;
        let doing = format!("{}: reading rows for lists on the target", f.list.rows);
        let find = doc! { "find": &f.list.rows.name, "filter": f.of_parents(parents), "sort": f.sorted(), "allowDiskUse": true };
        let mut cursor = Cursor::open(&mut self.session, &doing, &f.list.rows, find).await?;
        let mut setting = Setting::new(f);
        let mut with_rows: BTreeSet<Vec<u8>> = BTreeSet::new();
        let mut absent = Vec::new();
        loop {
            let rows = cursor.next(&mut self.session, &doing).await?;
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                with_rows.extend(setting.row(row)?);
                if setting.is_full() {
                    absent.extend(setting.send(&mut self.session).await?);
                }
            }
        }
        with_rows.extend(setting.end()?);
        absent.extend(setting.send(&mut self.session).await?);
        for parent in parents.iter().filter(|p| !with_rows.contains(&bytes_of(p))) {
            setting.set(parent, Vec::new())?;
        }
        // A parent that is gone has no list, and no row asks for one.
        setting.send(&mut self.session).await?;
        Ok(absent)
    }

    /// Makes all lists anew that the transaction touched: the last that happens in it before the checkpoint.
    ///
    /// # Errors
    /// `Fatal` where a row has no parent and must have one, or a document becomes too large.
    pub(super) async fn refresh(&mut self, convergent: bool) -> Result<()> {
        if self.touched.is_empty() {
            return Ok(());
        }
        let fitted = self.fitted().await?;
        self.refresh_noted(&fitted).await?;
        for (f, touched) in fitted.iter().zip(std::mem::take(&mut self.touched)) {
            if convergent || f.list.waits {
                continue;
            }
            if !touched.parents.is_empty() {
                let keys: Vec<Bson> = touched.parents.into_values().collect();
                return Err(without_parent(f, &keys, &[]));
            }
            let loose: Vec<Bson> = touched.loose.into_values().collect();
            for some in loose.chunks(ROWS) {
                let doing = format!("{}: looking for rows without a document", f.list.rows);
                let find = doc! { "find": &f.list.rows.name, "filter": { "_id": { "$in": some } }, "projection": f.projection() };
                let found = self.session.find(&doing, &f.list.rows.schema, find).await?;
                let still: Vec<Bson> =
                    found.iter().filter(|d| f.parent_of(d).is_none()).filter_map(|d| d.get("_id").cloned()).collect();
                if !still.is_empty() {
                    return Err(without_parent(f, &[], &still));
                }
            }
            if touched.emptied {
                let doing = format!("{}: looking for rows without a document", f.list.rows);
                let stages = doc! { "aggregate": &f.list.rows.name, "pipeline": f.without_parents(5), "cursor": {} };
                let reply = self.session.run(&doing, &f.list.rows.schema, stages).await?;
                let keys: Vec<Bson> = first_batch(&reply).filter_map(|d| d.get("_id").cloned()).collect();
                if !keys.is_empty() {
                    return Err(without_parent(f, &keys, &[]));
                }
            }
        }
        Ok(())
    }
}

/// A list does not fit the tables.
pub(super) fn misfit(rows: &TableName, why: &str) -> Error {
    Error::fatal(format!("rows of {rows} cannot become lists: [rule.embed] {why}"))
        .with_code("switchyard:rule")
        .hint("correct the rule, or leave its embed part out")
}
