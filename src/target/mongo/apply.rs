//! Applies batches: commands of many statements in one transaction with the checkpoint.
//!
//! A refused statement ends the transaction, and MongoDB has no savepoints: where sets meet in a unique index in an order
//! that the source never saw, the whole batch begins anew, in the source's order. Pieces of a large transaction, whose
//! beginning is gone by then, go in the source's order from the start where a collection has such an index.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bson::doc;
use mongodb::Client;

use super::bookkeeping::{self, DATABASE, Writer};
use super::catalog::{self, Described};
use super::command::{self, Statements, Verb};
use super::embed::Touched;
use super::lists::Fitted;
use super::session::{Durable, Session};
use super::shape::Shape;
use super::{merge, trouble};
use crate::error::{Class, Error, Result};
use crate::pipeline::batch::{Batch, Sets, Step, TableSet};
use crate::position::Position;
use crate::schema::{Table, TableName};
use crate::target::{Applied, Applier, BatchEnd, DdlOutcome};
use crate::transform::embed::EmbeddedList;
use crate::transform::rules::OnExisting;
use crate::value::{Datum, Row};

/// Bytes of statements that wait to be sent.
const WAITING: usize = 4 << 20;
/// The server ends transactions that are older (`transactionLifetimeLimitSeconds`), unless it is set otherwise.
const LIFETIME: Duration = Duration::from_secs(60);

/// What an answer must say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    Anything,
    EveryRow,
}

/// A command in the making, and the rows that it is for.
struct Call<'a> {
    shape: Arc<Shape>,
    statements: Statements,
    rows: Vec<&'a Row>,
    expect: Expect,
    what: &'static str,
}

/// Commands that wait, in order.
#[derive(Default)]
pub(super) struct Pipe<'a> {
    calls: Vec<Call<'a>>,
    bytes: usize,
    scratch: Vec<u8>,
}

/// What a statement is.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    verb: Verb,
    expect: Expect,
    what: &'static str,
}

impl<'a> Pipe<'a> {
    /// Adds a statement behind all that are there; to the last command if that is alike.
    pub fn push(
        &mut self,
        shape: &Arc<Shape>,
        kind: Kind,
        row: &'a Row,
        write: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        self.scratch.clear();
        write(&mut self.scratch)?;
        self.bytes += self.scratch.len();
        let alike = self.calls.last().is_some_and(|c| {
            c.statements.verb() == kind.verb
                && c.expect == kind.expect
                && c.what == kind.what
                && Arc::ptr_eq(&c.shape, shape)
                && !c.statements.is_full(self.scratch.len())
        });
        if !alike {
            let statements = Statements::new(kind.verb, &shape.table.name)?;
            let (expect, what) = (kind.expect, kind.what);
            self.calls.push(Call { shape: shape.clone(), statements, rows: Vec::new(), expect, what });
        }
        if let Some(call) = self.calls.last_mut() {
            call.statements.push(&self.scratch);
            call.rows.push(row);
        }
        Ok(())
    }

    fn append(&mut self, other: Pipe<'a>) {
        self.calls.extend(other.calls);
        self.bytes += other.bytes;
    }
}

pub(super) const fn kind(verb: Verb, expect: Expect, what: &'static str) -> Kind {
    Kind { verb, expect, what }
}

/// The session that applies the stream.
pub struct MongoApplier {
    pub(super) client: Client,
    pub(super) session: Session,
    pub(super) name: String,
    pub(super) epoch: i64,
    /// Known so that a successor can end the session.
    _writer: Writer,
    tables: HashMap<TableName, Arc<Described>>,
    shapes: Vec<(Arc<Table>, Arc<Shape>)>,
    /// When the open transaction began.
    begun: Option<Instant>,
    durable: Option<Position>,
    /// Lists that are made of rows, as the rules say.
    pub(super) lists: Arc<Vec<EmbeddedList>>,
    /// The same, fitted to the tables.
    pub(super) fitted: Option<Arc<Vec<Fitted>>>,
    /// What of them the open transaction touched.
    pub(super) touched: Vec<Touched>,
}

impl MongoApplier {
    /// Makes a writer of a new session.
    ///
    /// # Errors
    /// [`crate::error::Class::Fenced`] if the epoch was raised meanwhile.
    pub async fn new(client: &Client, name: &str, epoch: i64, lists: Arc<Vec<EmbeddedList>>) -> Result<MongoApplier> {
        let session = Session::start(client).await?;
        let writer = Writer::register(&session, name, epoch).await?;
        Ok(MongoApplier {
            client: client.clone(),
            session,
            name: name.to_owned(),
            epoch,
            _writer: writer,
            tables: HashMap::new(),
            shapes: Vec::new(),
            begun: None,
            durable: None,
            lists,
            fitted: None,
            touched: Vec::new(),
        })
    }

    pub(super) async fn described(&mut self, table: &TableName) -> Result<Arc<Described>> {
        if let Some(d) = self.tables.get(table) {
            return Ok(d.clone());
        }
        let found = catalog::described(&self.client, &self.name, std::slice::from_ref(table)).await?;
        let found = found.into_iter().next().flatten().ok_or_else(|| {
            Error::fatal(format!("the target has no collection {table} (any more)"))
                .hint("make it, or leave the table out with tables.exclude; then start again")
        })?;
        let found = Arc::new(found);
        self.tables.insert(table.clone(), found.clone());
        Ok(found)
    }

    pub(super) async fn shape(&mut self, table: &Arc<Table>) -> Result<Arc<Shape>> {
        if let Some((_, shape)) = self.shapes.iter().find(|(t, _)| Arc::ptr_eq(t, table)) {
            return Ok(shape.clone());
        }
        let described = self.described(&table.name).await?;
        let known = Some(&described.table).filter(|_| described.known);
        let shape = Shape::new(table, known).map_err(|why| trouble::no_documents(&table.name, &why))?;
        let shape = Arc::new(if self.holds_lists(&table.name) { shape.keeping_others() } else { shape });
        self.shapes.push((table.clone(), shape.clone()));
        Ok(shape)
    }

    /// Forgets what is known of the target.
    pub(super) fn forget_tables(&mut self) {
        self.tables.clear();
        self.shapes.clear();
        self.fitted = None;
    }

    /// Begins the transaction if none is open.
    pub(super) async fn started(&mut self) -> Result<()> {
        if !self.session.is_open() {
            self.session.begin(Durable::Majority).await?;
            self.begun = Some(Instant::now());
        }
        Ok(())
    }

    /// Sends what waits, and looks at all answers.
    pub(super) async fn flush(&mut self, pipe: &mut Pipe<'_>) -> Result<()> {
        pipe.bytes = 0;
        for call in std::mem::take(&mut pipe.calls) {
            self.started().await?;
            let verb = call.statements.verb();
            let raw = call.statements.finish()?;
            let table = &call.shape.table.name;
            let doing = format!("{table}: {} rows on the target", call.what);
            // The command is looked into only where it is refused.
            let kept = raw.clone();
            let w = command::written(&self.session.raw(&doing, &table.schema, raw).await?);
            if let Some(r) = &w.refused {
                return Err(trouble::refused(&self.client, &call.shape, verb, r, Some(&kept)).await);
            }
            if call.expect == Expect::EveryRow && w.n != call.rows.len() as u64 {
                return Err(trouble::diverged(&self.client, &call.shape, call.what, &call.rows, w.n).await);
            }
        }
        Ok(())
    }

    pub(super) async fn flush_if_large(&mut self, pipe: &mut Pipe<'_>) -> Result<()> {
        if pipe.bytes > WAITING { self.flush(pipe).await } else { Ok(()) }
    }

    /// Applies one step's sets.
    async fn sets<'a>(
        &mut self,
        sets: &'a Sets,
        how: How,
        pipe: &mut Pipe<'a>,
        missing: &mut Vec<(Arc<Table>, Row)>,
    ) -> Result<()> {
        let replayed = |t: &&TableSet| t.table.has_secondary_unique && t.on_existing == OnExisting::Error && !t.items;
        if !how.in_order || !sets.tables.iter().any(|t| replayed(&t)) {
            return self.table_sets(&sets.tables, how, pipe, missing).await;
        }
        for t in &sets.tables {
            if replayed(&t) {
                for change in t.original.iter().chain(&t.ordered) {
                    self.single(&t.table, change, how.convergent, pipe, missing).await?;
                    self.flush_if_large(pipe).await?;
                }
            } else {
                self.table_sets(std::slice::from_ref(t), how, pipe, missing).await?;
            }
        }
        Ok(())
    }

    async fn table_sets<'a>(
        &mut self,
        tables: &'a [TableSet],
        how: How,
        pipe: &mut Pipe<'a>,
        missing: &mut Vec<(Arc<Table>, Row)>,
    ) -> Result<()> {
        let convergent = how.convergent;
        let mut updates: Pipe<'a> = Pipe::default();
        let mut inserted: Vec<(OnExisting, Pipe<'a>)> = Vec::new();
        let mut searched: Vec<(Arc<Shape>, Arc<Table>, &'a Row)> = Vec::new();
        let mut patched: Vec<(Arc<Table>, &'a Row)> = Vec::new();
        let mut skipping: Vec<&'a TableSet> = Vec::new();
        for t in tables {
            let table = &t.table;
            if t.parent.is_some() {
                return Err(merge::no_skipped_lists(&table.name));
            }
            if t.on_existing == OnExisting::Skip {
                skipping.push(t);
                continue;
            }
            let shape = self.shape(table).await?;
            // Where tables merge, a row may have become another's, or may not have been taken over.
            let merging = t.shared || t.on_existing != OnExisting::Error;
            let convergent_rows = convergent && !t.items;
            let keyed = !table.key().is_empty();
            // What came and went within the batch is not there, and the row of that key is another table's.
            let never_there = t.shared && t.on_existing == OnExisting::Error && !t.items && !convergent;
            for (key, must) in t.deletes().filter(|(_, must)| *must || !never_there) {
                let strict = must && !convergent && !merging;
                let expect = if strict { Expect::EveryRow } else { Expect::Anything };
                pipe.push(&shape, kind(Verb::Delete, expect, "delete"), key, |o| {
                    command::delete(o, |o| shape.filter(o, key), t.items)
                })?;
            }
            let upsert = keyed && !t.items && (convergent_rows || t.on_existing == OnExisting::Replace);
            let mut upserts: Vec<&'a Row> = Vec::new();
            for row in t.updates() {
                if !row.has_unsent() && upsert {
                    upserts.push(row);
                } else if convergent_rows {
                    searched.push((shape.clone(), table.clone(), row));
                } else if !shape.is_found_by_id() {
                    patched.push((table.clone(), row));
                } else {
                    let expect = if merging || convergent { Expect::Anything } else { Expect::EveryRow };
                    // A document that others write into keeps what they wrote.
                    let whole = !row.has_unsent() && !merging;
                    updates.push(&shape, kind(Verb::Update, expect, "update"), row, |o| {
                        command::update(
                            o,
                            |o| shape.filter(o, row),
                            |o| with(&shape, o, row, whole),
                            false,
                            shape.holds_whole_documents(),
                        )
                    })?;
                }
            }
            let mut calls: Pipe<'a> = Pipe::default();
            let inserts = t.inserts();
            if upsert {
                upserts.extend(inserts);
                if convergent_rows {
                    self.clear_the_way(&shape, &upserts, &mut calls).await?;
                }
                for &row in &upserts {
                    self.upsert(&shape, row, merging, &mut calls)?;
                }
            } else {
                for row in inserts {
                    calls.push(&shape, kind(Verb::Insert, Expect::EveryRow, "insert"), row, |o| {
                        shape.document(o, row, made_up())
                    })?;
                }
            }
            inserted.push((t.on_existing, calls));
            self.flush_if_large(pipe).await?;
        }
        for t in &skipping {
            self.skip_deletes(t, pipe).await?;
        }
        // Tables that merge into one may hand a key over: all deletes come before all inserts. Of those, what must not find
        // a row comes before what looks for one.
        pipe.append(updates);
        for (table, row) in patched {
            self.patch(&table, row, row, pipe).await?;
        }
        for t in &skipping {
            self.skip_updates(t, pipe).await?;
        }
        inserted.sort_by_key(|(on_existing, _)| *on_existing);
        for (_, calls) in inserted.drain(..) {
            pipe.append(calls);
            self.flush_if_large(pipe).await?;
        }
        for t in &skipping {
            self.skip_inserts(t, pipe).await?;
        }
        if !searched.is_empty() {
            self.flush(pipe).await?;
            self.search(&searched, pipe, missing).await?;
        }
        for t in tables {
            for change in &t.ordered {
                self.single(&t.table, change, convergent, pipe, missing).await?;
                self.flush_if_large(pipe).await?;
            }
        }
        Ok(())
    }

    /// Convergent updates of which some fields were not sent: rows that are not there are read again by the caller.
    async fn search<'a>(
        &mut self,
        searched: &[(Arc<Shape>, Arc<Table>, &'a Row)],
        pipe: &mut Pipe<'a>,
        missing: &mut Vec<(Arc<Table>, Row)>,
    ) -> Result<()> {
        let mut at = 0;
        while let Some((shape, table, _)) = searched.get(at) {
            let rest = searched.get(at..).unwrap_or_default();
            let end = at + rest.iter().take_while(|(_, t, _)| Arc::ptr_eq(t, table)).count();
            let rows: Vec<&Row> = searched.get(at..end).unwrap_or_default().iter().map(|(_, _, r)| *r).collect();
            self.started().await?;
            let gone = trouble::absent(&mut self.session, shape, &rows, usize::MAX).await?;
            for row in rows {
                if gone.iter().any(|g| std::ptr::eq(*g, row)) {
                    missing.push((table.clone(), row.clone()));
                } else {
                    pipe.push(shape, kind(Verb::Update, Expect::Anything, "update"), row, |o| {
                        command::update(
                            o,
                            |o| shape.filter(o, row),
                            |o| with(shape, o, row, false),
                            false,
                            shape.holds_whole_documents(),
                        )
                    })?;
                }
            }
            at = end;
        }
        Ok(())
    }

    /// Brings a row in over the one that is there.
    pub(super) fn upsert<'a>(
        &self,
        shape: &Arc<Shape>,
        row: &'a Row,
        keeps_others: bool,
        pipe: &mut Pipe<'a>,
    ) -> Result<()> {
        if !shape.is_found_by_id() {
            // Another key than _id finds it: it goes, and comes as what it is.
            pipe.push(shape, kind(Verb::Delete, Expect::Anything, "insert"), row, |o| {
                command::delete(o, |o| shape.filter(o, row), false)
            })?;
            return pipe.push(shape, kind(Verb::Insert, Expect::EveryRow, "insert"), row, |o| {
                shape.document(o, row, made_up())
            });
        }
        pipe.push(shape, kind(Verb::Update, Expect::EveryRow, "insert"), row, |o| {
            command::update(
                o,
                |o| shape.filter(o, row),
                |o| with(shape, o, row, !keeps_others),
                true,
                shape.holds_whole_documents(),
            )
        })
    }

    /// Convergent apply only: documents that are equal to those to come in another unique index are of a later time, in
    /// which they have taken the value over; the log will bring them again.
    pub(super) async fn clear_the_way<'a>(
        &mut self,
        shape: &Arc<Shape>,
        rows: &[&'a Row],
        pipe: &mut Pipe<'a>,
    ) -> Result<()> {
        let described = self.described(&shape.table.name).await?;
        for unique in &described.uniques {
            let columns: Option<Vec<usize>> =
                unique.paths.iter().map(|p| (0..shape.table.columns.len()).find(|&c| shape.path(c) == *p)).collect();
            let Some(columns) = columns.filter(|c| !c.is_empty()) else { continue };
            for &row in rows {
                if shape.is_generated() || columns.iter().any(|&c| row.get(c) == Datum::Unsent) {
                    continue;
                }
                pipe.push(shape, kind(Verb::Delete, Expect::Anything, "insert"), row, |o| {
                    command::delete(o, |o| shape.others(o, row, &columns, unique.partial.as_ref()), true)
                })?;
            }
        }
        Ok(())
    }

    async fn steps<'a>(
        &mut self,
        batch: &'a Batch,
        how: How,
        pipe: &mut Pipe<'a>,
        applied: &mut Applied,
    ) -> Result<()> {
        for step in &batch.steps {
            match step {
                Step::Sets(sets) => {
                    self.touch(sets, how.convergent, false, pipe).await?;
                    self.sets(sets, how, pipe, &mut applied.missing).await?;
                    self.touch(sets, how.convergent, true, pipe).await?;
                }
                Step::Truncate { tables, .. } => {
                    self.flush(pipe).await?;
                    self.started().await?;
                    for t in tables {
                        let all = doc! { "delete": &t.name.name, "deletes": [{ "q": {}, "limit": 0 }] };
                        self.session.write(&format!("emptying {}", t.name), &t.name.schema, all).await?;
                        self.emptied(&t.name).await?;
                    }
                }
                Step::Ddl { ddl, before } => {
                    self.flush(pipe).await?;
                    self.started().await?;
                    let outcome = super::ddl::apply(self, ddl, before.as_deref()).await?;
                    self.forget_tables();
                    if let DdlOutcome::Unsafe(why) = &outcome {
                        return Err(Error::fatal(why.clone()).with_code("switchyard:ddl"));
                    }
                    applied.ddl.push(outcome);
                }
            }
        }
        Ok(())
    }

    async fn attempt(&mut self, batch: &Batch, end: Option<&BatchEnd>, how: How) -> Result<Applied> {
        let mut applied = Applied::default();
        let mut pipe = Pipe::default();
        self.steps(batch, how, &mut pipe, &mut applied).await?;
        self.flush(&mut pipe).await?;
        self.started().await?;
        if !batch.set_aside.is_empty() {
            let letters = bookkeeping::set_aside(&self.name, &batch.set_aside);
            self.session.write("setting changes aside on the target", DATABASE, letters).await?;
        }
        let Some(end) = end.filter(|_| applied.missing.is_empty()) else { return Ok(applied) };
        self.refresh(how.convergent).await?;
        let doing = "storing the checkpoint on the target";
        let mut set = doc! { "position": end.position.to_string() };
        if let Some(at) = end.committed_at {
            set.insert("committed_at", at);
        }
        if let Some(at) = &end.consistent_at {
            set.insert("consistent_at", at.to_string());
        }
        let stored =
            self.session.write(doing, DATABASE, bookkeeping::checkpoint_command(&self.name, self.epoch, set)).await?;
        if stored.n != 1 {
            return Err(bookkeeping::fenced(&self.name, self.epoch));
        }
        crate::faults::point("apply.before_commit");
        self.session.commit("committing a batch on the target").await?;
        self.durable = Some(end.position.clone());
        Ok(applied)
    }

    /// An error of a transaction that the server ended because of its age or size says so.
    fn explained(&self, e: Error) -> Error {
        let old = self.begun.is_some_and(|b| b.elapsed() + Duration::from_secs(2) > LIFETIME);
        match e.code() {
            Some("251" | "290") if old => Error::retry(format!(
                "{} (the server ends transactions after transactionLifetimeLimitSeconds, 60 unless it was set otherwise; this one took longer)",
                e.message()
            ))
            .with_code("290")
            .hint("db.adminCommand({ setParameter: 1, transactionLifetimeLimitSeconds: 3600 }) on the target, until the large transaction of the source is applied; Switchyard goes on by itself"),
            // TransactionTooLargeForCache: more than three quarters of the fifth of the cache that may be dirty.
            Some("388") => e.with_class(Class::Retry).hint("give the target's server a larger cache (storage.wiredTiger.engineConfig.cacheSizeGB): the open transaction may take about a seventh of it; Switchyard goes on by itself"),
            _ => e,
        }
    }
}

/// How a batch is applied.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    convergent: bool,
    /// Change by change where there are further unique indexes.
    in_order: bool,
}

/// The document, or what sets its fields.
pub(super) fn with(shape: &Shape, o: &mut Vec<u8>, row: &Row, whole: bool) -> Result<()> {
    if (whole && !shape.keeps_others()) || shape.holds_whole_documents() {
        return shape.document(o, row, made_up());
    }
    let sent: Vec<usize> = (0..row.len()).filter(|&i| row.get(i) != Datum::Unsent).collect();
    shape.set(o, row, &sent).map(drop)
}

/// A key for a row that has none.
pub(super) fn made_up() -> [u8; 12] {
    bson::oid::ObjectId::new().bytes()
}

#[async_trait]
impl Applier for MongoApplier {
    async fn apply(&mut self, batch: &Batch, end: Option<&BatchEnd>) -> Result<Applied> {
        let alone = !self.session.is_open();
        if alone {
            self.untouch();
            super::ddl::prepare(self, batch).await?;
        }
        let mut how = How { convergent: batch.convergent, in_order: !alone || end.is_none() };
        let mut result = self.attempt(batch, end, how).await;
        if alone && !how.in_order && result.as_ref().is_err_and(|e| e.code() == Some("11000")) {
            tracing::debug!("sets collided in a unique index; applying the batch in the source's order");
            self.session.abort().await;
            self.untouch();
            how.in_order = true;
            result = self.attempt(batch, end, how).await;
        }
        if result.is_err() {
            self.session.abort().await;
        }
        result.map_err(|e| self.explained(e))
    }

    async fn rollback(&mut self) -> Result<()> {
        self.session.abort().await;
        Ok(())
    }

    async fn durable(&mut self) -> Result<Option<Position>> {
        Ok(self.durable.clone())
    }
}
