//! Applies changes one by one, in the source's order; and rows of a merge that may be left out.

use std::collections::HashSet;
use std::sync::Arc;

use bson::RawDocumentBuf;

use super::apply::{Expect, MongoApplier, Pipe, kind, made_up, with};
use super::bookkeeping::DATABASE;
use super::command::{self, Statements, Verb};
use super::shape::Shape;
use super::{merge, trouble};
use crate::change::{Change, Op};
use crate::documents::cursor::{Doc, Value};
use crate::documents::write;
use crate::error::{Error, Result};
use crate::mongowire::server::first_batch;
use crate::pipeline::batch::TableSet;
use crate::schema::{RowIdentity, Table};
use crate::value::{Datum, Row};

/// Keys that are asked for at once.
const KEYS: usize = 2000;

impl MongoApplier {
    /// Applies one change by itself, behind what waits in `pipe`.
    pub(super) async fn single<'a>(
        &mut self,
        table: &Arc<Table>,
        change: &'a Change,
        convergent: bool,
        pipe: &mut Pipe<'a>,
        missing: &mut Vec<(Arc<Table>, Row)>,
    ) -> Result<()> {
        let keyed = matches!(table.identity, RowIdentity::Key(_));
        let shape = self.shape(table).await?;
        let expect = if convergent { Expect::Anything } else { Expect::EveryRow };
        match (change.op, &change.old, &change.new) {
            (Op::Insert, _, Some(row)) if convergent && keyed => {
                self.clear_the_way(&shape, &[row], pipe).await?;
                self.upsert(&shape, row, false, pipe)
            }
            (Op::Insert, _, Some(row)) => pipe.push(&shape, kind(Verb::Insert, Expect::EveryRow, "insert"), row, |o| {
                shape.document(o, row, made_up())
            }),
            (Op::Delete, Some(old), _) => pipe.push(&shape, kind(Verb::Delete, expect, "delete"), old, |o| {
                command::delete(o, |o| shape.filter(o, old), false)
            }),
            (Op::Update, old, Some(new)) => {
                if new.iter().all(|d| d == Datum::Unsent) {
                    // Every column is a large value that stayed as it was.
                    return Ok(());
                }
                let key_row = match (old, keyed) {
                    (Some(old), _) => old,
                    (None, true) => new,
                    (None, false) => {
                        return Err(Error::fatal(format!(
                            "{}: the log holds an update without its old row",
                            table.name
                        )));
                    }
                };
                if !keyed {
                    return pipe.push(&shape, kind(Verb::Update, expect, "update"), key_row, |o| {
                        command::update(
                            o,
                            |o| shape.filter(o, key_row),
                            |o| with(&shape, o, new, false),
                            false,
                            shape.holds_whole_documents(),
                        )
                    });
                }
                let moved = table.key().iter().any(|&k| key_row.get(k) != new.get(k));
                if convergent {
                    return self.converge(&shape, key_row, new, moved, pipe, missing).await;
                }
                if moved || !shape.is_found_by_id() {
                    return self.patch(table, key_row, new, pipe).await;
                }
                let whole = !new.has_unsent();
                pipe.push(&shape, kind(Verb::Update, expect, "update"), new, |o| {
                    command::update(
                        o,
                        |o| shape.filter(o, new),
                        |o| with(&shape, o, new, whole),
                        false,
                        shape.holds_whole_documents(),
                    )
                })
            }
            _ => Err(Error::fatal(format!("{}: the log holds a change without its row", table.name))),
        }
    }

    /// One update where rows may be there already, or not yet.
    async fn converge<'a>(
        &mut self,
        shape: &Arc<Shape>,
        key_row: &'a Row,
        new: &'a Row,
        moved: bool,
        pipe: &mut Pipe<'a>,
        missing: &mut Vec<(Arc<Table>, Row)>,
    ) -> Result<()> {
        if moved {
            // Both keys may be there already, and the one under the old key may be a row that came after this one: its
            // large values are not this row's.
            pipe.push(shape, kind(Verb::Delete, Expect::Anything, "update"), key_row, |o| {
                command::delete(o, |o| shape.filter(o, key_row), false)
            })?;
            if new.has_unsent() {
                missing.push((shape.table.clone(), new.clone()));
                return Ok(());
            }
        } else if new.has_unsent() {
            self.flush(pipe).await?;
            self.started().await?;
            if !trouble::absent(&mut self.session, shape, &[key_row], 1).await?.is_empty() {
                missing.push((shape.table.clone(), new.clone()));
                return Ok(());
            }
            return pipe.push(shape, kind(Verb::Update, Expect::Anything, "update"), new, |o| {
                command::update(
                    o,
                    |o| shape.filter(o, new),
                    |o| with(shape, o, new, false),
                    false,
                    shape.holds_whole_documents(),
                )
            });
        }
        self.clear_the_way(shape, &[new], pipe).await?;
        self.upsert(shape, new, false, pipe)
    }

    /// Strict apply: a row whose `_id` changes, or may: the document is taken out, changed, and put in again.
    pub(super) async fn patch<'a>(
        &mut self,
        table: &Arc<Table>,
        key_row: &'a Row,
        new: &'a Row,
        pipe: &mut Pipe<'a>,
    ) -> Result<()> {
        let shape = self.shape(table).await?;
        let doing = format!("{}: updating rows on the target", table.name);
        self.flush(pipe).await?;
        self.started().await?;
        let mut o = Vec::new();
        let start = write::open(&mut o);
        write::field(&mut o, b"find", &Value::String(table.name.name.as_bytes())).map_err(Error::fatal)?;
        write::name(&mut o, 0x03, b"filter").map_err(Error::fatal)?;
        shape.filter(&mut o, key_row)?;
        write::field(&mut o, b"limit", &Value::Int32(1)).map_err(Error::fatal)?;
        write::field(&mut o, b"singleBatch", &Value::Bool(true)).map_err(Error::fatal)?;
        write::close(&mut o, start);
        let find = RawDocumentBuf::from_bytes(o).map_err(|e| Error::fatal(format!("{doing}: {e}")))?;
        let reply = self.session.raw(&doing, &table.name.schema, find).await?;
        let Some(found) = first_batch(&reply).next() else {
            return Err(trouble::diverged(&self.client, &shape, "update", &[key_row], 0).await);
        };
        let there = found.to_vec().map_err(|e| Error::fatal(format!("{doing}: {e}")))?;
        let there = Doc::new(&there).map_err(|e| Error::fatal(format!("{doing}: {}", e.0)))?;
        let mut document = Vec::new();
        shape.patched(&mut document, there, new)?;
        for (verb, statement) in [
            (Verb::Delete, {
                let mut s = Vec::new();
                command::delete(&mut s, |o| shape.filter(o, key_row), false)?;
                s
            }),
            (Verb::Insert, document),
        ] {
            let mut statements = Statements::new(verb, &table.name)?;
            statements.push(&statement);
            let raw = statements.finish()?;
            let w = command::written(&self.session.raw(&doing, &table.name.schema, raw.clone()).await?);
            if let Some(r) = &w.refused {
                return Err(trouble::refused(&self.client, &shape, verb, r, Some(&raw)).await);
            }
        }
        Ok(())
    }
}

/// What a row of a merge that skips is found by.
fn keys<'a>(shape: &Shape, rows: impl Iterator<Item = &'a Row>) -> Result<Vec<(Vec<u8>, &'a Row)>> {
    rows.map(|row| {
        let mut key = Vec::with_capacity(32);
        shape.id_as(&mut key, row, b"key")?;
        Ok((key, row))
    })
    .collect()
}

/// Rows of tables whose rule leaves out what is there already.
impl MongoApplier {
    /// Which of these keys were left out, and are another table's.
    async fn left_out(&mut self, t: &TableSet, keys: &[(Vec<u8>, &Row)]) -> Result<HashSet<Vec<u8>>> {
        let mut out = HashSet::new();
        for some in keys.chunks(KEYS) {
            let find = merge::find(&self.name, &t.source, &t.table.name, some.iter().map(|(k, _)| k.as_slice()))?;
            self.started().await?;
            let reply = self.session.raw("looking for rows that a merge left out", DATABASE, find).await?;
            out.extend(first_batch(&reply).filter_map(merge::key_of));
        }
        Ok(out)
    }

    pub(super) async fn skip_deletes<'a>(&mut self, t: &'a TableSet, pipe: &mut Pipe<'a>) -> Result<()> {
        if !t.ordered.is_empty() {
            return Err(Error::fatal(format!(
                "{} → {}: the key of a row changed, and a large value of it that did not change was not sent",
                t.source, t.table.name
            ))
            .hint(format!(
                "on the source: ALTER TABLE {} REPLICA IDENTITY FULL; the log before that lacks the value, so begin anew",
                t.source
            )));
        }
        let shape = self.shape(&t.table).await?;
        // What came and went within the batch is not there, and the row of that key is another table's.
        let keys = keys(&shape, t.deletes().filter(|(_, must)| *must).map(|(k, _)| k))?;
        let left_out = self.left_out(t, &keys).await?;
        for (key, row) in &keys {
            if !left_out.contains(key) {
                pipe.push(&shape, kind(Verb::Delete, Expect::Anything, "delete"), row, |o| {
                    command::delete(o, |o| shape.filter(o, row), false)
                })?;
            }
        }
        self.flush(pipe).await?;
        let gone = keys.iter().map(|(k, _)| k.as_slice()).filter(|k| left_out.contains(*k));
        for forget in merge::forget(&self.name, &t.source, &t.table.name, gone)? {
            self.started().await?;
            let doing = "forgetting rows that a merge left out";
            let w = command::written(&self.session.raw(doing, DATABASE, forget).await?);
            if let Some(r) = &w.refused {
                return Err(super::session::refused(doing, r));
            }
        }
        Ok(())
    }

    pub(super) async fn skip_updates<'a>(&mut self, t: &'a TableSet, pipe: &mut Pipe<'a>) -> Result<()> {
        let shape = self.shape(&t.table).await?;
        let keys = keys(&shape, t.updates())?;
        let left_out = self.left_out(t, &keys).await?;
        for (key, row) in keys {
            if !left_out.contains(&key) {
                pipe.push(&shape, kind(Verb::Update, Expect::Anything, "update"), row, |o| {
                    command::update(
                        o,
                        |o| shape.filter(o, row),
                        |o| with(&shape, o, row, false),
                        false,
                        shape.holds_whole_documents(),
                    )
                })?;
            }
        }
        Ok(())
    }

    pub(super) async fn skip_inserts<'a>(&mut self, t: &'a TableSet, pipe: &mut Pipe<'a>) -> Result<()> {
        self.flush(pipe).await?;
        let shape = self.shape(&t.table).await?;
        let keys = keys(&shape, t.inserts())?;
        let doing = format!("{}: insert rows on the target", t.table.name);
        for some in keys.chunks(KEYS) {
            let mut statements = Statements::new(Verb::Update, &t.table.name)?;
            let mut from = 0;
            for (n, (_, row)) in some.iter().enumerate() {
                let mut one = Vec::new();
                command::update(
                    &mut one,
                    |o| shape.filter(o, row),
                    |o| shape.set_on_insert(o, row),
                    true,
                    shape.holds_whole_documents(),
                )?;
                if statements.is_full(one.len()) {
                    let full = std::mem::replace(&mut statements, Statements::new(Verb::Update, &t.table.name)?);
                    self.skip_insert(t, &shape, &doing, full, some.get(from..n).unwrap_or_default()).await?;
                    from = n;
                }
                statements.push(&one);
            }
            self.skip_insert(t, &shape, &doing, statements, some.get(from..).unwrap_or_default()).await?;
        }
        Ok(())
    }

    async fn skip_insert(
        &mut self,
        t: &TableSet,
        shape: &Shape,
        doing: &str,
        statements: Statements,
        keys: &[(Vec<u8>, &Row)],
    ) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        self.started().await?;
        let raw = statements.finish()?;
        let w = command::written(&self.session.raw(doing, &t.table.name.schema, raw.clone()).await?);
        if let Some(r) = &w.refused {
            return Err(trouble::refused(&self.client, shape, Verb::Update, r, Some(&raw)).await);
        }
        let there = keys.iter().enumerate().filter(|(n, _)| !w.made.contains(n)).map(|(_, (k, _))| k.as_slice());
        for note in merge::note(&self.name, &t.source, &t.table.name, there)? {
            let w = command::written(&self.session.raw(doing, DATABASE, note).await?);
            if let Some(r) = &w.refused {
                return Err(super::session::refused(doing, r));
            }
        }
        Ok(())
    }
}
