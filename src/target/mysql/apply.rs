//! Applies batches: set-based statements in one transaction with the checkpoint.
//!
//! Statements go out many at a time, in packets of a few MiB; a small batch with its checkpoint is one packet, and its
//! COMMIT another. The server makes a commit durable by itself where it is set so (`durable_at_once`).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::catalog::{self, Described};
use super::ddl::Place;
use super::merge::{self, Notes};
use super::pipe::{Call, Expect, Pipe, by_sent_columns};
use super::session::Session;
use super::statements::{Limits, Shape, sort_by_key};
use super::{bookkeeping, trouble};
use crate::change::{Change, Op};
use crate::error::{Error, Result};
use crate::mywire::packet::Done;
use crate::mywire::quote::{literal, optional_literal, qualified};
use crate::pipeline::batch::{Batch, Sets, Step, TableSet};
use crate::position::Position;
use crate::schema::{RowIdentity, Table, TableName};
use crate::target::{Applied, Applier, BatchEnd, DdlOutcome};
use crate::transform::rules::OnExisting;
use crate::value::{Datum, Row};

/// Rows in a statement that joins its rows to the table: measured, MySQL 9.7 and MariaDB 10.11.
const ROWS_PER_JOIN: usize = 500;
/// Rows in a plain INSERT.
const ROWS_PER_INSERT: usize = 1000;
/// Bytes of statements that are sent together.
const PACKET: usize = 2 << 20;
/// A server that flushes its log once a second only is taken at its word after this.
const FLUSHED_AFTER: Duration = Duration::from_secs(3);

/// Updates that must say which of their rows they found: the table, the columns that were sent, the rows, the batch's table.
type Searched<'a> = (Arc<Shape>, Vec<usize>, Vec<&'a Row>, Arc<Table>);

/// The session that applies the stream.
pub struct MyApplier {
    pub(super) session: Session,
    pub(super) name: String,
    pub(super) epoch: i64,
    /// The target's tables as its catalog has them, as far as they were asked for.
    tables: HashMap<TableName, Arc<Described>>,
    /// A transaction is open on the server.
    pub(super) open: bool,
    /// Of the transaction that ends here everything before its schema change of that number (from 1) is committed.
    pub(super) partial: Option<(String, u32)>,
    durable_at_once: bool,
    /// Commits that may not be on the disk yet.
    unflushed: VecDeque<(Instant, Position)>,
    durable: Option<Position>,
}

impl MyApplier {
    /// Makes a writer of `session`.
    pub async fn new(mut session: Session, name: &str, epoch: i64) -> Result<MyApplier> {
        session.become_writer(name).await?;
        let doing = "looking at how the target keeps its commits";
        let flush = session.one(doing, "SELECT @@GLOBAL.innodb_flush_log_at_trx_commit").await?;
        // With a binary log, what it lacks after a crash is rolled back.
        let log = session.one(doing, "SELECT @@GLOBAL.log_bin = 0 OR @@GLOBAL.sync_binlog = 1").await?;
        let asked =
            format!("SELECT partial_end, partial_ddl FROM switchyard.checkpoint WHERE name = {}", literal(name));
        let partial = session.rows("reading the checkpoint", asked).await?.pop().unwrap_or_default();
        let partial = match partial.as_slice() {
            [Some(end), Some(n)] => n.parse().ok().map(|n| (end.clone(), n)),
            _ => None,
        };
        Ok(MyApplier {
            session,
            partial,
            name: name.to_owned(),
            epoch,
            tables: HashMap::new(),
            open: false,
            durable_at_once: flush.as_deref() == Some("1") && log.as_deref() == Some("1"),
            unflushed: VecDeque::new(),
            durable: None,
        })
    }

    fn limits(&self, rows: usize) -> Limits {
        Limits { rows, bytes: (self.session.conn.max_allowed_packet() / 4).clamp(16 * 1024, 1 << 20) }
    }

    /// Bytes of statements that go in one packet.
    fn packet(&self) -> usize {
        PACKET.min(self.session.conn.max_allowed_packet() / 2)
    }

    async fn described(&mut self, table: &Table) -> Result<Arc<Described>> {
        if let Some(d) = self.tables.get(&table.name) {
            return Ok(d.clone());
        }
        let found = catalog::described(&mut self.session, std::slice::from_ref(&table.name)).await?;
        let found = found.into_iter().next().flatten().ok_or_else(|| {
            Error::fatal(format!("the target has no table {} (any more)", table.name))
                .hint("make it as the source has it, or leave it out with tables.exclude; then start again")
        })?;
        let found = Arc::new(found);
        self.tables.insert(table.name.clone(), found.clone());
        Ok(found)
    }

    /// The table of a batch with the types and collations that the catalog has.
    async fn shape(&mut self, table: &Arc<Table>) -> Result<Arc<Shape>> {
        let described = self.described(table).await?;
        let mut known = (**table).clone();
        for c in &mut known.columns {
            if let Some(there) = described.table.columns.iter().find(|t| t.name == c.name) {
                (c.collation, c.type_name) = (there.collation.clone(), there.type_name.clone());
            }
        }
        Ok(Arc::new(Shape::new(&Arc::new(known), self.session.flavour())))
    }

    /// Forgets what the catalog said.
    pub(super) fn forget_tables(&mut self) {
        self.tables.clear();
    }

    /// Sends what waits, and looks at all answers.
    async fn flush(&mut self, pipe: &mut Pipe<'_>) -> Result<()> {
        let calls = std::mem::take(&mut pipe.calls);
        pipe.bytes = 0;
        let most = self.packet();
        let mut from = 0;
        while from < calls.len() {
            let mut end = from;
            let mut sql: Vec<u8> = Vec::new();
            while end < calls.len() && (end == from || sql.len() + calls[end].sql.len() < most) {
                if end > from {
                    sql.push(b';');
                }
                sql.extend_from_slice(&calls[end].sql);
                end += 1;
            }
            match self.session.conn.execute_each(&sql).await {
                Ok(done) => self.look(&calls[from..end], &done).await?,
                Err(e) => {
                    let (nth, _) = trouble::place(&e);
                    let Some(Call { shape: Some(shape), rows, what, .. }) = calls[from..end].get(nth) else {
                        let e = e.context("applying changes to the target");
                        return Err(if matches!(e.code(), Some("1213" | "1205")) { e.conflicting() } else { e });
                    };
                    let e = if e.code() == Some("1062") {
                        let described = self.described(&shape.table).await?;
                        trouble::collision(&mut self.session, &described, shape, rows, e).await
                    } else {
                        e
                    };
                    return Err(trouble::hinted(shape, rows, what, e));
                }
            }
            from = end;
        }
        Ok(())
    }

    async fn look(&mut self, calls: &[Call<'_>], done: &[Done]) -> Result<()> {
        if done.len() != calls.len() {
            return Err(Error::fatal(format!("the target answered {} statements of {}", done.len(), calls.len()))
                .hint("this is a bug in Switchyard"));
        }
        for (call, done) in calls.iter().zip(done) {
            match (call.expect, &call.shape) {
                (Expect::Anything, _) => {}
                (Expect::Fence, _) if done.affected == 1 => {}
                (Expect::Fence, _) => return Err(bookkeeping::fenced(&self.name, self.epoch)),
                (Expect::EveryRow, Some(shape)) if done.affected != call.rows.len() as u64 => {
                    return Err(trouble::diverged(&mut self.session, shape, call.what, &call.rows, done.affected).await);
                }
                (Expect::EveryRow, _) => {}
            }
        }
        Ok(())
    }

    fn begin(&mut self, pipe: &mut Pipe<'_>) {
        if !self.open {
            pipe.plain("BEGIN");
            self.open = true;
        }
    }

    /// Applies one step's sets.
    async fn sets<'a>(
        &mut self,
        sets: &'a Sets,
        convergent: bool,
        pipe: &mut Pipe<'a>,
        missing: &mut Vec<(Arc<Table>, Row)>,
    ) -> Result<()> {
        if !sets.tables.iter().any(|t| t.table.has_secondary_unique && !t.original.is_empty()) {
            return self.table_sets(&sets.tables, convergent, pipe, missing).await;
        }
        self.flush(pipe).await?;
        pipe.plain("SAVEPOINT sets");
        let missing_before = missing.len();
        let done = match self.table_sets(&sets.tables, convergent, pipe, missing).await {
            Ok(()) => self.flush(pipe).await,
            Err(e) => Err(e),
        };
        match done {
            Err(e) if e.code() == Some("1062") => {
                // Two keys met in a unique key in an order that the source never saw.
                tracing::debug!("sets collided in a unique key; replaying in the source's order");
                missing.truncate(missing_before);
                *pipe = Pipe::default();
                self.session.run("going back to before a set", "ROLLBACK TO SAVEPOINT sets").await?;
                for t in &sets.tables {
                    if t.table.has_secondary_unique && t.on_existing == OnExisting::Error && !t.items {
                        for change in t.original.iter().chain(&t.ordered) {
                            self.single(&t.table, change, convergent, pipe, missing).await?;
                        }
                    } else {
                        self.table_sets(std::slice::from_ref(t), convergent, pipe, missing).await?;
                    }
                }
                self.flush(pipe).await
            }
            other => other,
        }
    }

    async fn table_sets<'a>(
        &mut self,
        tables: &'a [TableSet],
        convergent: bool,
        pipe: &mut Pipe<'a>,
        missing: &mut Vec<(Arc<Table>, Row)>,
    ) -> Result<()> {
        let (joins, inserts_of) = (self.limits(ROWS_PER_JOIN), self.limits(ROWS_PER_INSERT));
        let mut updates: Pipe<'a> = Pipe::default();
        let mut inserted: Vec<(OnExisting, Call<'a>)> = Vec::new();
        let mut searched: Vec<Searched<'a>> = Vec::new();
        for t in tables {
            let table = &t.table;
            if t.parent.is_some() {
                return Err(merge::no_skipped_lists(&table.name));
            }
            let shape = self.shape(table).await?;
            let notes = (t.on_existing == OnExisting::Skip).then(|| Notes::new(&self.name, &t.source, &table.name));
            let exclusion = notes.as_ref().map_or(String::new(), |n| n.exclusion(&shape));
            // Where tables merge, a row may have become another's, or may not have been taken over.
            let merging = t.shared || t.on_existing != OnExisting::Error;
            let convergent_rows = convergent && notes.is_none() && !t.items;
            let keyed = !table.key().is_empty();
            let mut strict: Vec<&Row> = Vec::new();
            let mut loose: Vec<&Row> = Vec::new();
            // What came and went within the batch is not there, and the row of that key is another table's.
            let never_there =
                notes.is_some() || (t.shared && t.on_existing == OnExisting::Error && !t.items && !convergent);
            for (key, must) in t.deletes().filter(|(_, must)| *must || !never_there) {
                if must && !convergent && !merging { strict.push(key) } else { loose.push(key) }
            }
            for (mut rows, expect) in [(strict, Expect::EveryRow), (loose, Expect::Anything)] {
                if rows.is_empty() {
                    continue;
                }
                sort_by_key(&shape, &mut rows);
                pipe.all(shape.delete(&rows, joins, &exclusion)?, &shape, &rows, expect, "delete");
                if let Some(notes) = &notes {
                    let (before, after) = notes.forget(&shape);
                    let forget = shape.over_keys(&rows, joins, (&before, &after))?;
                    pipe.all(forget, &shape, &rows, Expect::Anything, "delete");
                }
            }
            let mut upserts: Vec<&Row> = Vec::new();
            for (sent, mut rows) in by_sent_columns(t.updates()) {
                let upsert = convergent_rows || t.on_existing == OnExisting::Replace;
                if upsert && keyed && sent.len() == table.columns.len() {
                    upserts.append(&mut rows);
                    continue;
                }
                sort_by_key(&shape, &mut rows);
                if convergent_rows {
                    searched.push((shape.clone(), sent, rows, table.clone()));
                    continue;
                }
                let expect = if merging || convergent { Expect::Anything } else { Expect::EveryRow };
                updates.all(shape.update(&sent, &rows, joins, &exclusion)?, &shape, &rows, expect, "update");
            }
            let mut inserts: Vec<&Row> = t.inserts().collect();
            let mut calls: Pipe<'a> = Pipe::default();
            if keyed && (convergent_rows || t.on_existing == OnExisting::Replace) {
                inserts.append(&mut upserts);
                sort_by_key(&shape, &mut inserts);
                // Not ON DUPLICATE KEY UPDATE, which would change another row that is equal in another unique key.
                calls.all(shape.delete(&inserts, joins, "")?, &shape, &inserts, Expect::Anything, "insert");
                if convergent_rows && !inserts.is_empty() {
                    self.clear_the_way(&shape, &inserts, joins, &mut calls).await?;
                }
            }
            sort_by_key(&shape, &mut inserts);
            if let Some(notes) = &notes {
                let (before, after) = notes.note(&shape);
                calls.all(
                    shape.over_keys(&inserts, joins, (&before, &after))?,
                    &shape,
                    &inserts,
                    Expect::Anything,
                    "insert",
                );
                calls.all(shape.insert_absent(&inserts, joins)?, &shape, &inserts, Expect::Anything, "insert");
            } else {
                calls.all(shape.insert(&inserts, inserts_of)?, &shape, &inserts, Expect::EveryRow, "insert");
            }
            inserted.extend(calls.calls.into_iter().map(|c| (t.on_existing, c)));
            if pipe.bytes > self.packet() {
                self.flush(pipe).await?;
            }
        }
        // Tables that merge into one may hand a key over: all deletes come before all inserts. Of those, what must not find
        // a row comes before what looks for one.
        inserted.sort_by_key(|(on_existing, _)| *on_existing);
        for call in updates.calls.into_iter().chain(inserted.into_iter().map(|(_, call)| call)) {
            pipe.push(call);
        }
        for (shape, sent, rows, table) in searched {
            self.flush(pipe).await?;
            let doing = format!("{}: looking for rows to update", table.name);
            let mut gone = vec![false; rows.len()];
            for places in rows.chunks(ROWS_PER_JOIN).enumerate() {
                for r in self.session.rows(&doing, shape.absent_places(places.1)?).await? {
                    let n = r.first().and_then(Option::as_ref).and_then(|n| n.parse::<usize>().ok());
                    if let Some(g) = n.and_then(|n| gone.get_mut(places.0 * ROWS_PER_JOIN + n)) {
                        *g = true;
                    }
                }
            }
            pipe.all(shape.update(&sent, &rows, joins, "")?, &shape, &rows, Expect::Anything, "update");
            missing.extend(rows.iter().zip(gone).filter(|(_, gone)| *gone).map(|(r, _)| (table.clone(), (*r).clone())));
        }
        for t in tables {
            for change in &t.ordered {
                self.single(&t.table, change, convergent, pipe, missing).await?;
            }
        }
        Ok(())
    }

    /// Convergent apply only: rows that are equal to those to come in another unique key are of a later time, in which
    /// they have taken the value over; the log will bring them again.
    async fn clear_the_way<'a>(
        &mut self,
        shape: &Arc<Shape>,
        rows: &[&'a Row],
        limits: Limits,
        pipe: &mut Pipe<'a>,
    ) -> Result<()> {
        let described = self.described(&shape.table).await?;
        for (_, columns) in &described.uniques {
            let names = columns.iter().filter_map(|&c| described.table.columns.get(c)).map(|c| c.name.as_str());
            let places: Option<Vec<usize>> =
                names.map(|n| shape.table.columns.iter().position(|c| c.name == n)).collect();
            let Some(places) = places.filter(|p| !p.is_empty() && p.as_slice() != shape.table.key()) else { continue };
            pipe.all(shape.delete_by(&places, rows, limits)?, shape, rows, Expect::Anything, "insert");
        }
        Ok(())
    }

    /// Applies one change by itself, in the source's order.
    async fn single<'a>(
        &mut self,
        table: &Arc<Table>,
        change: &'a Change,
        convergent: bool,
        pipe: &mut Pipe<'a>,
        missing: &mut Vec<(Arc<Table>, Row)>,
    ) -> Result<()> {
        let keyed = matches!(table.identity, RowIdentity::Key(_));
        let shape = self.shape(table).await?;
        let limits = self.limits(ROWS_PER_JOIN);
        let expect = if convergent { Expect::Anything } else { Expect::EveryRow };
        match (change.op, &change.old, &change.new) {
            (Op::Insert, _, Some(row)) => {
                if convergent && keyed {
                    pipe.all(shape.delete(&[row], limits, "")?, &shape, &[row], Expect::Anything, "insert");
                    self.clear_the_way(&shape, &[row], limits, pipe).await?;
                }
                pipe.all(shape.insert(&[row], limits)?, &shape, &[row], Expect::EveryRow, "insert");
            }
            (Op::Delete, Some(old), _) if keyed => {
                pipe.all(shape.delete(&[old], limits, "")?, &shape, &[old], expect, "delete");
            }
            (Op::Delete, Some(old), _) => {
                let sql = shape.delete_whole_row(old)?;
                pipe.push(Call { sql, shape: Some(shape), rows: vec![old], expect, what: "delete" });
            }
            (Op::Update, old, Some(new)) => {
                let sent: Vec<usize> = (0..new.len()).filter(|&i| new.get(i) != Datum::Unsent).collect();
                if sent.is_empty() {
                    // Every column is a large value that stayed as it was.
                    return Ok(());
                }
                if !keyed {
                    let Some(old) = old else {
                        return Err(Error::fatal(format!(
                            "{}: the log holds an update without its old row",
                            table.name
                        )));
                    };
                    let sql = shape.update_whole_row(old, new, &sent)?;
                    pipe.push(Call { sql, shape: Some(shape), rows: vec![old], expect, what: "update" });
                    return self.flush_if_large(pipe).await;
                }
                let key_row = old.as_ref().unwrap_or(new);
                if !convergent {
                    let sql = shape.update_key(key_row, new, &sent)?;
                    pipe.push(Call { sql, shape: Some(shape), rows: vec![key_row], expect, what: "update" });
                    return self.flush_if_large(pipe).await;
                }
                let moved = table.key().iter().any(|&k| key_row.get(k) != new.get(k));
                if !moved && new.has_unsent() {
                    self.flush(pipe).await?;
                    let doing = format!("{}: looking for a row to update", table.name);
                    if self.session.one(doing, shape.absent_places(&[key_row])?).await?.is_some() {
                        missing.push((table.clone(), new.clone()));
                        return Ok(());
                    }
                    pipe.all(shape.update(&sent, &[new], limits, "")?, &shape, &[new], Expect::Anything, "update");
                    return Ok(());
                }
                // Both keys may be there already, and the one under the old key may be a row that came after this one:
                // its large values are not this row's.
                pipe.all(shape.delete(&[key_row], limits, "")?, &shape, &[key_row], Expect::Anything, "update");
                if new.has_unsent() {
                    missing.push((table.clone(), new.clone()));
                    return Ok(());
                }
                pipe.all(shape.delete(&[new], limits, "")?, &shape, &[new], Expect::Anything, "update");
                self.clear_the_way(&shape, &[new], limits, pipe).await?;
                pipe.all(shape.insert(&[new], limits)?, &shape, &[new], Expect::EveryRow, "update");
            }
            _ => return Err(Error::fatal(format!("{}: the log holds a change without its row", table.name))),
        }
        self.flush_if_large(pipe).await
    }

    async fn flush_if_large(&mut self, pipe: &mut Pipe<'_>) -> Result<()> {
        if pipe.bytes > self.packet() { self.flush(pipe).await } else { Ok(()) }
    }

    async fn steps<'a>(
        &mut self,
        batch: &'a Batch,
        end: Option<&BatchEnd>,
        pipe: &mut Pipe<'a>,
        applied: &mut Applied,
    ) -> Result<()> {
        let changes = batch.steps.iter().filter(|s| matches!(s, Step::Ddl { .. })).count();
        // What a schema change made durable before a crash, or before a conflict, is not applied again. Rows that are read
        // again come as a batch of their own with the same end.
        let done = match (&self.partial, end) {
            (Some((at, n)), Some(end)) if *at == end.position.to_string() && changes >= *n as usize => *n,
            _ => 0,
        };
        let mut number = 0;
        for step in &batch.steps {
            number += u32::from(matches!(step, Step::Ddl { .. }));
            if number < done {
                continue;
            }
            self.begin(pipe);
            match step {
                Step::Sets(sets) => self.sets(sets, batch.convergent, pipe, &mut applied.missing).await?,
                Step::Truncate { tables, .. } => {
                    // TRUNCATE would commit what was applied so far.
                    for t in tables {
                        pipe.plain(format!("DELETE FROM {}", qualified(&t.name)));
                    }
                }
                Step::Ddl { ddl, before } => {
                    self.flush(pipe).await?;
                    let Some(end) = end else {
                        return Err(Error::fatal(format!(
                            "{} {}: a schema change inside a transaction that is applied in pieces; MySQL cannot keep the two together",
                            ddl.tag, ddl.object
                        ))
                        .with_code("switchyard:ddl")
                        .hint("make the change on the target by hand, or begin anew"));
                    };
                    let place = Place { end, number, missing: !applied.missing.is_empty(), keyless: keyless(batch) };
                    let outcome = super::ddl::apply(self, ddl, before.as_deref(), place).await?;
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

    fn checkpoint_sql(&self, end: &BatchEnd) -> String {
        format!(
            "UPDATE switchyard.checkpoint SET position = {}, committed_at = coalesce({}, committed_at), \
             consistent_at = coalesce({}, consistent_at), partial_end = NULL, writes = writes + 1, \
             updated_at = CURRENT_TIMESTAMP WHERE name = {} AND epoch = {}",
            literal(&end.position.to_string()),
            end.committed_at.map_or_else(|| "NULL".into(), |a| a.to_string()),
            optional_literal(end.consistent_at.as_ref().map(|p| p.to_string()).as_deref()),
            literal(&self.name),
            self.epoch
        )
    }

    async fn attempt(&mut self, batch: &Batch, end: Option<&BatchEnd>) -> Result<Applied> {
        let mut applied = Applied::default();
        let mut pipe = Pipe::default();
        self.begin(&mut pipe);
        self.steps(batch, end, &mut pipe, &mut applied).await?;
        self.begin(&mut pipe);
        for letter in &batch.set_aside {
            pipe.plain(bookkeeping::set_aside_sql(&self.name, letter));
        }
        let Some(end) = end.filter(|_| applied.missing.is_empty()) else {
            self.flush(&mut pipe).await?;
            return Ok(applied);
        };
        let sql = self.checkpoint_sql(end).into_bytes();
        pipe.push(Call { sql, shape: None, rows: Vec::new(), expect: Expect::Fence, what: "work" });
        self.flush(&mut pipe).await?;
        crate::faults::point("apply.before_commit");
        self.commit().await?;
        if self.durable_at_once {
            self.durable = Some(end.position.clone());
        } else {
            self.unflushed.push_back((Instant::now(), end.position.clone()));
        }
        Ok(applied)
    }

    /// Commits. A lost answer is `Retry`, and the checkpoint tells what became of it.
    pub(super) async fn commit(&mut self) -> Result<()> {
        self.open = false;
        self.session.run("committing a batch on the target", "COMMIT").await.map(drop)
    }
}

#[async_trait]
impl Applier for MyApplier {
    async fn apply(&mut self, batch: &Batch, end: Option<&BatchEnd>) -> Result<Applied> {
        let result = self.attempt(batch, end).await;
        if result.is_err() {
            // Only tidiness: the caller does not go on in this transaction.
            let _ = self.rollback().await;
        }
        result
    }

    async fn rollback(&mut self) -> Result<()> {
        self.open = false;
        self.session.run("rolling back on the target", "ROLLBACK").await.map(drop)
    }

    async fn durable(&mut self) -> Result<Option<Position>> {
        while self.unflushed.front().is_some_and(|(at, _)| at.elapsed() > FLUSHED_AFTER) {
            self.durable = self.unflushed.pop_front().map(|(_, p)| p);
        }
        Ok(self.durable.clone())
    }
}

/// Whether the batch writes a table without a key, whose rows must not come twice.
fn keyless(batch: &Batch) -> bool {
    let sets = batch.steps.iter().filter_map(|s| if let Step::Sets(sets) = s { Some(sets) } else { None });
    sets.flat_map(|s| &s.tables).any(|t| t.table.key().is_empty())
}
