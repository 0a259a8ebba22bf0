//! Applies batches: set-based statements in one transaction with the checkpoint.
//!
//! A batch is two round trips: everything up to the checkpoint row is sent at once and looked at, then COMMIT. The
//! commit is asynchronous; what is on disk is learnt from the flush position ([`Applier::durable`]), and only that is
//! confirmed to the source.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join_all;
use futures_util::{SinkExt, pin_mut};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Statement};

use super::merge::Notes;
use super::statements as st;
use crate::error::{Error, Result};
use crate::pgwire::conninfo::ConnInfo;
use crate::pgwire::control;
use crate::pgwire::errors::wrap;
use crate::pipeline::batch::{Batch, Sets, Step, TableSet};
use crate::pipeline::dead::Dead;
use crate::position::{Lsn, Position};
use crate::schema::{Table, TableName};
use crate::target::{Applied, Applier, BatchEnd, DdlOutcome};
use crate::transform::rules::OnExisting;
use crate::value::{Datum, Row};

/// From so many rows on, inserts go through COPY: it saves the executor's work, but costs a round trip more.
const COPY_FROM_ROWS: usize = 256;
/// Rows in one statement. More make no statement cheaper, and the server would wait longer for the first.
const ROWS_PER_STATEMENT: usize = 20_000;
/// Bytes that COPY is fed at once.
const COPY_CHUNK: usize = 256 * 1024;
/// Keys named in an error about rows that are not there.
const KEYS_IN_ERROR: usize = 5;

/// The session that applies the stream.
pub struct PgApplier {
    pub(super) client: Client,
    name: String,
    epoch: i64,
    statements: HashMap<String, Statement>,
    /// How tables' keys are compared, as far as it was asked for.
    equality: HashMap<TableName, Arc<st::KeyEquality>>,
    /// A transaction is open on the server.
    open: bool,
    /// Commits whose log may not be flushed yet: the log's insert position after the commit, and what was committed.
    unflushed: VecDeque<(Lsn, Position)>,
    durable: Option<Position>,
    /// Rows whose changes were refused and set aside, by this session's commits, and in the open transaction.
    pub(super) dead: Dead,
    pub(super) dying: Dead,
    /// Where another session can be had, for what must commit before the batch.
    server: Option<ConnInfo>,
}

/// What a statement is expected to have done.
#[derive(Clone, Copy)]
enum Expect {
    EveryRow,
    Anything,
}

/// A set on its way.
struct Call<'a> {
    statement: Statement,
    set: st::SetStatement,
    table: &'a Arc<Table>,
    rows: Vec<&'a Row>,
    expect: Expect,
    /// `update`, for messages.
    what: &'static str,
}

/// Updates that give back which of their rows they found: the statement, its parameters, the table, the rows.
type Searched<'a> = (Statement, Vec<st::Param>, Arc<Table>, Vec<&'a Row>);

impl PgApplier {
    /// A session of `client`, which has the canonical settings. Sets what apply needs; `replica` says whether the role
    /// may set `session_replication_role`.
    pub async fn new(client: Client, name: &str, epoch: i64, replica: bool) -> Result<PgApplier> {
        // Generic plans with nested loops: a set joins its table by the key's index, however large the set is said
        // to be and whatever the statistics of a table that was just filled.
        let mut settings = String::from(
            "SET synchronous_commit = off; SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; \
             SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off; SET check_function_bodies = off; ",
        );
        if replica {
            settings.push_str("SET session_replication_role = replica; ");
        }
        settings.push_str(&super::bookkeeping::name_session(name));
        client.batch_execute(&settings).await.map_err(|e| wrap("preparing the apply session", &e))?;
        Ok(PgApplier {
            client,
            name: name.to_owned(),
            epoch,
            statements: HashMap::new(),
            equality: HashMap::new(),
            open: false,
            unflushed: VecDeque::new(),
            durable: None,
            dead: Dead::default(),
            dying: Dead::default(),
            server: None,
        })
    }

    /// Says where to connect for what cannot be done in a batch's transaction.
    pub fn beside(mut self, server: &ConnInfo) -> Self {
        self.server = Some(server.clone());
        self
    }

    pub(super) async fn prepare(&mut self, sql: &str, types: &[Type]) -> Result<Statement> {
        if let Some(s) = self.statements.get(sql) {
            return Ok(s.clone());
        }
        let s = self
            .client
            .prepare_typed(sql, types)
            .await
            .map_err(|e| wrap(format_args!("preparing a statement for the target ({})", head(sql)), &e))?;
        self.statements.insert(sql.to_owned(), s.clone());
        Ok(s)
    }

    pub(super) async fn equality(&mut self, table: &Table) -> Result<Arc<st::KeyEquality>> {
        if let Some(e) = self.equality.get(&table.name) {
            return Ok(e.clone());
        }
        let e: Arc<st::KeyEquality> = super::catalog::key_equality(&self.client, table).await?.into();
        self.equality.insert(table.name.clone(), e.clone());
        Ok(e)
    }

    async fn begin(&mut self) -> Result<()> {
        if !self.open {
            self.client.batch_execute("BEGIN").await.map_err(|e| wrap("beginning a transaction on the target", &e))?;
            self.open = true;
        }
        Ok(())
    }

    /// Applies one step's sets. Everything is sent before the first answer is awaited.
    pub(super) async fn sets(
        &mut self,
        sets: &Sets,
        convergent: bool,
        missing: &mut Vec<(Arc<Table>, Row)>,
    ) -> Result<()> {
        if !sets.tables.iter().any(|t| t.table.has_secondary_unique && !t.original.is_empty()) {
            let all: Vec<&TableSet> = sets.tables.iter().collect();
            return self.table_sets(&all, convergent, missing).await;
        }
        self.simple("SAVEPOINT sets").await?;
        let missing_before = missing.len();
        let all: Vec<&TableSet> = sets.tables.iter().collect();
        match self.table_sets(&all, convergent, missing).await {
            Ok(()) => self.simple("RELEASE SAVEPOINT sets").await,
            Err(e) if matches!(e.code(), Some("23505" | "23P01")) => {
                // Two keys met in a unique or exclusion constraint in an order that the source never saw.
                tracing::debug!("sets collided in a unique constraint; replaying in the source's order");
                // Those of earlier steps stay: they are not replayed.
                missing.truncate(missing_before);
                self.simple("ROLLBACK TO SAVEPOINT sets; RELEASE SAVEPOINT sets").await?;
                for t in &sets.tables {
                    if t.table.has_secondary_unique && t.on_existing == OnExisting::Error && !t.items {
                        for change in t.original.iter().chain(&t.ordered) {
                            self.single(&t.table, change, convergent, missing).await?;
                        }
                    } else if !sets.tables.iter().any(|p| belongs(t, p)) {
                        // Its items are looked at by the same notes, in the same turn.
                        let together: Vec<&TableSet> =
                            std::iter::once(t).chain(sets.tables.iter().filter(|c| belongs(c, t))).collect();
                        self.table_sets(&together, convergent, missing).await?;
                    }
                }
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    async fn table_sets(
        &mut self,
        tables: &[&TableSet],
        convergent: bool,
        missing: &mut Vec<(Arc<Table>, Row)>,
    ) -> Result<()> {
        // Before other deletes, which forget what was left out: an item is left alone by what its parent's key was.
        let mut items: Vec<Call<'_>> = Vec::new();
        let mut deletes: Vec<Call<'_>> = Vec::new();
        let mut updates: Vec<Call<'_>> = Vec::new();
        let mut inserted: Vec<(OnExisting, Call<'_>)> = Vec::new();
        let mut copies: Vec<(&TableSet, Vec<&Row>)> = Vec::new();
        let mut searched: Vec<Searched<'_>> = Vec::new();
        for &t in tables {
            let table = &t.table;
            let equality = self.equality(table).await?;
            // Rows that belong to others are left out with those: their notes are the parents'.
            let noted = t.parent.as_ref().map_or(&table.name, |p| &p.table);
            let notes = (t.on_existing == OnExisting::Skip).then(|| Notes::new(&self.name, &t.source, noted));
            let exclusion = match (&notes, &t.parent) {
                (None, _) => String::new(),
                (Some(n), None) => n.exclusion(table),
                (Some(n), Some(parent)) => n.exclusion_of_items(parent, table),
            };
            if notes.is_some() && !t.ordered.is_empty() {
                return Err(unsent_key(&t.source, table));
            }
            // Where tables merge, a row may have become another's, or may not have been taken over.
            let merging = t.shared || t.on_existing != OnExisting::Error;
            let convergent_rows = convergent && notes.is_none() && !t.items;
            let mut strict: Vec<&Row> = Vec::new();
            let mut loose: Vec<&Row> = Vec::new();
            // What came and went within the batch is not there, and the row of that key is another table's.
            let never_there = (notes.is_some() && !t.items)
                || (t.shared && t.on_existing == OnExisting::Error && !t.items && !convergent);
            for (key, must) in t.deletes().filter(|(_, must)| *must || !never_there) {
                if must && !convergent && !merging { strict.push(key) } else { loose.push(key) }
            }
            for (mut rows, must) in [(strict, true), (loose, false)] {
                st::sort_by_key(table, &mut rows);
                for rows in rows.chunks(ROWS_PER_STATEMENT) {
                    let expect = if must { Expect::EveryRow } else { Expect::Anything };
                    let mut set = st::delete(table, &equality);
                    set.sql.push_str(&exclusion);
                    let forget = notes.iter().filter(|_| !t.items).map(|n| n.forget(table));
                    for set in std::iter::once(set).chain(forget) {
                        let statement = self.prepare(&set.sql, &set.types).await?;
                        let rows = rows.to_vec();
                        let calls = if t.items { &mut items } else { &mut deletes };
                        calls.push(Call { statement, set, table, rows, expect, what: "delete" });
                    }
                }
            }
            let mut upserts: Vec<&Row> = Vec::new();
            for (sent, mut rows) in by_sent_columns(t.updates()) {
                let upsert = convergent_rows || (t.on_existing == OnExisting::Replace && !table.key().is_empty());
                if upsert && sent.len() == table.columns.len() {
                    upserts.append(&mut rows);
                    continue;
                }
                st::sort_by_key(table, &mut rows);
                let mut s = st::update(table, &sent, convergent_rows, &equality);
                s.sql.push_str(&exclusion);
                let statement = self.prepare(&s.sql, &s.types).await?;
                for rows in rows.chunks(ROWS_PER_STATEMENT) {
                    if convergent_rows {
                        searched.push((statement.clone(), params(&s, table, rows)?, table.clone(), rows.to_vec()));
                    } else {
                        let (statement, set, rows) = (statement.clone(), s.clone(), rows.to_vec());
                        let expect = if merging || convergent { Expect::Anything } else { Expect::EveryRow };
                        updates.push(Call { statement, set, table, rows, expect, what: "update" });
                    }
                }
            }
            let mut inserts: Vec<&Row> = t.inserts().collect();
            let upsert = !table.key().is_empty() && (convergent_rows || t.on_existing == OnExisting::Replace);
            if upsert {
                inserts.append(&mut upserts);
            } else if notes.is_none()
                && !t.shared
                && (inserts.len() >= COPY_FROM_ROWS || (table.columns.is_empty() && !inserts.is_empty()))
            {
                copies.push((t, inserts));
                continue;
            }
            st::sort_by_key(table, &mut inserts);
            for rows in inserts.chunks(ROWS_PER_STATEMENT) {
                let set = match (&notes, &t.parent) {
                    (Some(notes), Some(parent)) => notes.insert_items(parent, table),
                    (Some(notes), None) => notes.insert(table),
                    (None, _) => st::insert(table, upsert),
                };
                let statement = self.prepare(&set.sql, &set.types).await?;
                let rows = rows.to_vec();
                let call = Call { statement, set, table, rows, expect: Expect::Anything, what: "insert" };
                inserted.push((t.on_existing, call));
            }
        }
        // Tables that merge into one may hand a key over: all deletes come before all inserts. Of those, what must not find
        // a row comes before what looks for one.
        inserted.sort_by_key(|(on_existing, _)| *on_existing);
        let mut calls = items;
        calls.append(&mut deletes);
        calls.append(&mut updates);
        calls.extend(inserted.into_iter().map(|(_, call)| call));
        self.call(calls).await?;
        for (statement, p, table, rows) in searched {
            let found =
                self.client.query(&statement, &refs(&p)).await.map_err(|e| apply_error(&table, "updating", &e))?;
            let mut hit = vec![false; rows.len()];
            for r in found {
                let n: i64 = r.get(0);
                if let Some(h) = usize::try_from(n - 1).ok().and_then(|n| hit.get_mut(n)) {
                    *h = true;
                }
            }
            missing.extend(rows.iter().zip(hit).filter(|(_, hit)| !hit).map(|(r, _)| (table.clone(), (*r).clone())));
        }
        for (t, rows) in copies {
            self.copy(&t.table, &rows).await?;
        }
        for t in tables {
            for change in &t.ordered {
                self.single(&t.table, change, convergent, missing).await?;
            }
        }
        Ok(())
    }

    /// Sends all, then looks at all answers. The first failure is the cause; later ones only say that the transaction
    /// is aborted.
    async fn call(&mut self, calls: Vec<Call<'_>>) -> Result<()> {
        let client = &self.client;
        // Encoding one statement while the server works on the one before was tried, and was slower.
        let encoded =
            calls.iter().map(|c| Ok((&c.statement, params(&c.set, c.table, &c.rows)?))).collect::<Result<Vec<_>>>()?;
        let answers = join_all(encoded.iter().map(|(statement, params)| async move {
            let refs = refs(params);
            client.execute_raw(*statement, refs.iter().copied()).await
        }))
        .await;
        drop(encoded);
        for (call, answer) in calls.iter().zip(&answers) {
            if let Err(e) = answer {
                return Err(apply_error(call.table, call.what, e));
            }
        }
        for (call, answer) in calls.iter().zip(answers) {
            let want = call.rows.len() as u64;
            if let (Expect::EveryRow, Ok(got)) = (&call.expect, answer)
                && got != want
            {
                let p = params(&call.set, call.table, &call.rows)?;
                return Err(self.diverged(call.table, call.what, want, got, p).await);
            }
        }
        Ok(())
    }

    /// An update or delete that did not find its row: the target is not what the source thinks. Names some keys.
    pub(super) async fn diverged(
        &mut self,
        table: &Table,
        what: &str,
        want: u64,
        got: u64,
        params: Vec<st::Param>,
    ) -> Error {
        let key = table.key();
        let mut shown = String::new();
        // The key's own comparison, so that it is looked up in the index: the table may be large.
        let equality = self.equality(table).await.unwrap_or_else(|_| Vec::new().into());
        let s = st::absent(table, &equality, KEYS_IN_ERROR);
        if let Ok(statement) = self.client.prepare_typed(&s.sql, &s.types).await {
            let refs = refs(&params[..key.len()]);
            if let Ok(rows) = self.client.query(&statement, &refs).await {
                let keys: Vec<_> = rows
                    .iter()
                    .map(|r| {
                        let parts: Vec<_> = (0..key.len())
                            .map(|i| {
                                let v: Option<String> = r.get(i);
                                format!("{}={}", table.columns[key[i]].name, v.unwrap_or_else(|| "NULL".into()))
                            })
                            .collect();
                        parts.join(",")
                    })
                    .collect();
                shown = keys.join("; ");
            }
        }
        Error::fatal(format!(
            "{}: {what} of {want} rows found only {got} on the target{}",
            table.name,
            if shown.is_empty() { String::new() } else { format!("; not there: {shown}") }
        ))
        .with_code("switchyard:diverged")
        .hint("somebody else wrote to the target, or it is not the one that was copied: compare these rows, mend them and start again, or copy anew")
    }

    async fn copy(&mut self, table: &Arc<Table>, rows: &[&Row]) -> Result<()> {
        let doing = |e: &tokio_postgres::Error| apply_error(table, "inserting", e);
        let sql = st::copy_in(table, "FORMAT text");
        let statement = self.prepare(&sql, &[]).await?;
        let sink = self.client.copy_in::<_, bytes::Bytes>(&statement).await.map_err(|e| doing(&e))?;
        pin_mut!(sink);
        let mut chunk = Vec::with_capacity(COPY_CHUNK + 4096);
        for row in rows {
            st::copy_text(&mut chunk, row, table)?;
            if chunk.len() >= COPY_CHUNK {
                let full = std::mem::replace(&mut chunk, Vec::with_capacity(COPY_CHUNK + 4096));
                sink.send(full.into()).await.map_err(|e| doing(&e))?;
            }
        }
        if !chunk.is_empty() {
            sink.send(chunk.into()).await.map_err(|e| doing(&e))?;
        }
        let n = sink.as_mut().finish().await.map_err(|e| doing(&e))?;
        if n != rows.len() as u64 {
            return Err(Error::fatal(format!("{}: COPY took {n} of {} rows", table.name, rows.len())));
        }
        Ok(())
    }

    pub(super) async fn simple(&mut self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).await.map_err(|e| wrap("applying changes", &e))
    }

    async fn steps(&mut self, batch: &Batch, applied: &mut Applied) -> Result<()> {
        for step in &batch.steps {
            match step {
                Step::Sets(sets) if batch.apart && !batch.convergent => self.sets_apart(sets, applied).await?,
                Step::Sets(sets) => self.sets(sets, batch.convergent, &mut applied.missing).await?,
                Step::Truncate { tables, restart_identity } => {
                    self.simple(&st::truncate(tables, *restart_identity)).await?;
                }
                Step::Ddl { ddl, before } => {
                    if let (Some(labels), Some(server)) = (super::ddl_objects::enumeration(ddl), &self.server) {
                        let beside = control::connect(server, "target").await?;
                        super::ddl_objects::add_labels(&beside, labels).await?;
                    }
                    let outcome = super::ddl::apply_ddl(&self.client, &self.name, ddl, before.as_deref()).await?;
                    self.statements.clear();
                    self.equality.clear();
                    if let DdlOutcome::Unsafe(why) = &outcome {
                        return Err(Error::fatal(why.clone()).with_code("switchyard:ddl"));
                    }
                    applied.ddl.push(outcome);
                }
            }
        }
        Ok(())
    }

    async fn finish_batch(&mut self, end: &BatchEnd) -> Result<()> {
        let sql = "UPDATE switchyard.checkpoint SET position = $3, committed_at = coalesce($4, committed_at), \
                   consistent_at = coalesce($5, consistent_at), updated_at = now() WHERE name = $1 AND epoch = $2";
        let statement = self.prepare(sql, &[Type::TEXT, Type::INT8, Type::TEXT, Type::INT8, Type::TEXT]).await?;
        let (position, consistent) = (end.position.to_string(), end.consistent_at.as_ref().map(|p| p.to_string()));
        let n = self
            .client
            .execute(&statement, &[&self.name, &self.epoch, &position, &end.committed_at, &consistent])
            .await
            .map_err(|e| wrap("storing the checkpoint", &e))?;
        if n != 1 {
            return Err(super::bookkeeping::fenced(&self.name, self.epoch));
        }
        Ok(())
    }

    /// Commits. A deferred constraint may still refuse; a lost answer is `Retry`, and the checkpoint tells what became of it.
    async fn commit(&mut self, position: &Position) -> Result<()> {
        let lsn = self.prepare("SELECT pg_current_wal_insert_lsn()::text", &[]).await?;
        let (done, at) = tokio::join!(self.client.batch_execute("COMMIT"), self.client.query_one(&lsn, &[]));
        self.open = false;
        done.map_err(|e| wrap("committing a batch", &e))?;
        self.dead.merge(std::mem::take(&mut self.dying));
        let at = at.map_err(|e| wrap("reading the target's log position", &e))?;
        let at: String = at.get(0);
        if let Ok(at) = at.parse::<Lsn>() {
            self.unflushed.push_back((at, position.clone()));
        }
        Ok(())
    }

    async fn attempt(&mut self, batch: &Batch, end: Option<&BatchEnd>) -> Result<Applied> {
        let mut applied = Applied::default();
        self.begin().await?;
        self.steps(batch, &mut applied).await?;
        for letter in applied.refused.iter().chain(&batch.set_aside) {
            self.simple(&super::notes::set_aside_sql(&self.name, letter)).await?;
        }
        if let (Some(end), true) = (end, applied.missing.is_empty()) {
            self.finish_batch(end).await?;
            crate::faults::point("apply.before_commit");
            self.commit(&end.position).await?;
        }
        Ok(applied)
    }
}

#[async_trait]
impl Applier for PgApplier {
    async fn apply(&mut self, batch: &Batch, end: Option<&BatchEnd>) -> Result<Applied> {
        let result = self.attempt(batch, end).await;
        if result.is_err() {
            // Only tidiness: a session in a failed transaction can do nothing else.
            let _ = self.rollback().await;
        }
        result
    }

    async fn rollback(&mut self) -> Result<()> {
        self.open = false;
        self.dying = Dead::default();
        self.client.batch_execute("ROLLBACK").await.map_err(|e| wrap("rolling back on the target", &e))
    }

    async fn durable(&mut self) -> Result<Option<Position>> {
        if !self.unflushed.is_empty() && !self.open {
            let flushed = self.prepare("SELECT pg_current_wal_flush_lsn()::text", &[]).await?;
            let row = self
                .client
                .query_one(&flushed, &[])
                .await
                .map_err(|e| wrap("reading the target's flush position", &e))?;
            let flushed: String = row.get(0);
            let flushed: Lsn =
                flushed.parse().map_err(|e: String| Error::fatal(format!("the target's flush position: {e}")))?;
            while self.unflushed.front().is_some_and(|(at, _)| *at <= flushed) {
                self.durable = self.unflushed.pop_front().map(|(_, p)| p);
            }
        }
        Ok(self.durable.clone())
    }
}

/// Whether rows of `items` are taken out of lists of `parent`'s rows, which a merge may leave out.
fn belongs(items: &TableSet, parent: &TableSet) -> bool {
    items.source == parent.source
        && items.parent.as_ref().is_some_and(|p| p.table == parent.table.name && !parent.items)
}

fn head(sql: &str) -> &str {
    let end = sql.char_indices().nth(120).map_or(sql.len(), |(i, _)| i);
    &sql[..end]
}

pub(super) fn params(s: &st::SetStatement, table: &Table, rows: &[&Row]) -> Result<Vec<st::Param>> {
    s.columns.iter().map(|&c| st::array(table, c, rows)).collect()
}

pub(super) fn scalars(table: &Table, row: &Row, columns: impl Iterator<Item = usize>) -> Result<Vec<st::Param>> {
    columns.map(|c| st::scalar(table, c, row)).collect()
}

pub(super) fn refs(params: &[st::Param]) -> Vec<&(dyn ToSql + Sync)> {
    params.iter().map(|p| p as &(dyn ToSql + Sync)).collect()
}

/// Groups rows by which columns were sent; there are few such sets.
fn by_sent_columns<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<(Vec<usize>, Vec<&'a Row>)> {
    let mut whole: Vec<&Row> = Vec::new();
    let mut groups: Vec<(Vec<usize>, Vec<&Row>)> = Vec::new();
    for row in rows {
        if !row.has_unsent() {
            whole.push(row);
            continue;
        }
        let sent: Vec<usize> = (0..row.len()).filter(|&i| row.get(i) != Datum::Unsent).collect();
        match groups.iter_mut().find(|(s, _)| *s == sent) {
            Some((_, g)) => g.push(row),
            None => groups.push((sent, vec![row])),
        }
    }
    if let Some(first) = whole.first() {
        groups.push(((0..first.len()).collect(), whole));
    }
    groups
}

/// A merge that skips must know what a row that changes its key is as a whole: under the new key it is looked at anew.
fn unsent_key(source: &TableName, table: &Table) -> Error {
    Error::fatal(format!(
        "{source} → {}: the key of a row changed, and a large value of it that did not change was not sent",
        table.name
    ))
    .hint(format!(
        "on the source: ALTER TABLE {source} REPLICA IDENTITY FULL; the log before that lacks the value, so begin anew: `switchyard finish`, empty the target's tables of what came, run"
    ))
}

pub(super) fn apply_error(table: &Table, doing: &str, e: &tokio_postgres::Error) -> Error {
    let wrapped = wrap(format_args!("{}: {doing} rows on the target", table.name), e);
    match wrapped.code() {
        Some("23505") => wrapped.hint("a row with this key is on the target already: somebody else wrote there, two tables that rules merge have the same key (on_existing says what then), or two source rows are equal under the target's collation"),
        Some("23502" | "23503" | "23514") => wrapped.hint("the target has a constraint that the source has not, or a trigger changed the row: drop or relax it, then start again"),
        Some("42P10") => wrapped.hint("until the target is consistent rows are found by a key, and the target's table has none over these columns: add a primary key or a unique constraint, then start again"),
        Some("22P02" | "22007" | "22008" | "22003" | "22001" | "22021" | "22P03" | "22P05") => wrapped.hint(st::MISFIT),
        Some("54000") => wrapped.hint(st::TOO_WIDE),
        Some("42P01" | "42703") => wrapped.hint("the target's table is not as it was: make it as the source has it, then start again"),
        _ => wrapped,
    }
}
