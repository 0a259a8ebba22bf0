//! The stream: capture, collect and apply as tasks that overlap. A batch forms while the previous one commits.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Pipeline;
use super::batch::{Batch, Step};
use super::collect::{self, Collector, Job, Knowledge, Limits};
use super::dead::Dead;
use super::made::Script;
use crate::change::{Change, DeadLetter, Event, Op};
use crate::error::{Error, Result, ResultExt};
use crate::faults;
use crate::metrics::{AppliedRows, OpenSession, Side};
use crate::position::Position;
use crate::schema::{Table, TableName};
use crate::source::{LogIdentity, queue};
use crate::status::{Phase, StreamUpdate};
use crate::target::{Applied, Applier, BatchEnd, Checkpoint, CopyStage, DdlOutcome};
use crate::transform::expr::Scratch;
use crate::transform::{Compiled, key_of};

/// Bytes of events between capture and collector.
const QUEUE_BYTES: usize = 4 << 20;
/// How often an idle applier asks what is on disk.
const DURABLE_EVERY: Duration = Duration::from_millis(200);
/// How often the source's log is looked at.
const HEALTH_EVERY: Duration = Duration::from_secs(1);
/// How often tables are looked for that nobody announced.
const NEW_TABLES_EVERY: Duration = Duration::from_secs(15);
/// How often a place without anything to apply is stored, so that the source can let go of its log.
const IDLE_CHECKPOINT_EVERY: Duration = Duration::from_secs(5);
/// A batch that takes longer than this is said in the status.
const SLOW_BATCH: Duration = Duration::from_secs(10);
/// How often a batch that lost against a concurrent transaction is tried again before the session is made anew.
const CONFLICT_RETRIES: u32 = 5;
/// How long a stop waits for the running batch.
const STOP_BUDGET: Duration = Duration::from_secs(10);
/// How long the capture may take to part from the source.
const GOODBYE_BUDGET: Duration = Duration::from_secs(4);
/// Log kept at the source for us: from here on it is said.
const RETAINED_WARNING: u64 = 10 << 30;

/// A job on its way back from the applier.
struct Done {
    end: Option<BatchEnd>,
    rows: u64,
    transactions: u64,
    by_table: Vec<(TableName, [u64; 3])>,
    set_aside: Vec<DeadLetter>,
    /// Rows whose changes the target refused.
    dead: Dead,
    ddl: Vec<DdlOutcome>,
}

/// Follows the log until stopped (Ok) or until something fails. `script` is the schema, where a copy has just made it.
pub async fn run(p: &Pipeline, mut checkpoint: Checkpoint, script: Option<Arc<Script>>) -> Result<()> {
    let broken = || {
        Error::fatal("the checkpoint says that the stream runs, but not from where")
            .hint("the bookkeeping in schema switchyard on the target was changed by hand: copy anew")
    };
    let identity = checkpoint.log.clone().ok_or_else(broken)?;
    let start = checkpoint.position.clone().ok_or_else(broken)?;
    let consistent_at = checkpoint.consistent_at.clone().unwrap_or_else(|| start.clone());
    let prepare = async {
        p.source.verify_log(&identity, &start).await?;
        if checkpoint.stage == CopyStage::Streaming && start.reached(&consistent_at) {
            p.complete(&mut checkpoint, script.clone()).await?;
        }
        let tables = p.source.tables().await?;
        let knowledge = knowledge(p, &tables).await?;
        let applier = p.metrics.open(Side::Target, p.target.applier(checkpoint.epoch)).await?;
        Ok::<_, Error>((tables, knowledge, applier))
    };
    let prepared = tokio::select! {
        r = prepare => r?,
        () = p.stop.cancelled() => return Ok(()),
    };
    let (tables, knowledge, (applier, session)) = prepared;
    let (confirm, confirmed) = watch::channel(start.clone());
    let (events, received) = queue::channel(QUEUE_BYTES);
    let (source, from, id) = (p.source.clone(), start.clone(), identity.clone());
    let follower = p.metrics.opened(Side::Source);
    let mut capture = tokio::spawn(async move {
        // It has work as long as it lives.
        let _work = follower.work();
        source.tail(&id, from, &tables, events, confirmed).await
    });
    let (jobs, jobs_in) = mpsc::channel(1);
    let (done_out, done) = mpsc::channel(2);
    let mut apply = tokio::spawn(apply_jobs(ApplyTask {
        pipeline: p.clone(),
        applier,
        session,
        jobs: jobs_in,
        done: done_out,
        confirm,
        pieces: false,
        reread_at: None,
    }));
    p.status.clear_waiting();
    p.status.set_stream(StreamUpdate {
        applied_position: Some(start.clone()),
        consistent: Some(start.reached(&consistent_at)),
        level: Some(false),
        committed_at: checkpoint.committed_at,
        ..Default::default()
    });
    let flow = Flow {
        p,
        collector: Collector::new(Limits::default(), knowledge, consistent_at),
        received,
        jobs,
        done,
        applied: start,
        stored_at: Instant::now(),
        last_level: None,
        checkpoint,
        script,
        in_pieces: false,
        running: None,
    };
    let result = tokio::select! {
        r = flow.run() => r,
        r = health(p, &identity) => r,
    };
    // The flow's ends of the channels are gone: the applier finishes its batch and confirms it, then the capture tells
    // the source and says goodbye. What ended the flow is most often that one of them failed: that one knows why.
    let applied = tokio::time::timeout(STOP_BUDGET, &mut apply).await;
    apply.abort();
    let captured = tokio::time::timeout(GOODBYE_BUDGET, &mut capture).await;
    capture.abort();
    for r in [applied.ok(), captured.ok()].into_iter().flatten() {
        match r {
            Ok(Err(e)) => return Err(e),
            Err(join) if join.is_panic() => {
                return Err(Error::fatal("a task of the stream panicked").hint("this is a bug in Switchyard"));
            }
            _ => {}
        }
    }
    result
}

/// What the collector must know: the target's tables, and which tables were copied at a later snapshot.
async fn knowledge(p: &Pipeline, tables: &[Arc<Table>]) -> Result<Knowledge> {
    let copies = p.target.copies().await?;
    let mut sources: Vec<TableName> = tables.iter().map(|t| t.name.clone()).collect();
    // Tables that the source has no more may still be in the log.
    sources.extend(copies.iter().map(|c| c.table.clone()).filter(|n| !tables.iter().any(|t| t.name == *n)));
    let mut names: Vec<TableName> = sources.iter().flat_map(|s| p.rules.targets_of(s)).collect();
    names.sort();
    names.dedup();
    let targets = p.target.tables(&names).await?;
    let mut targets: HashMap<_, _> =
        names.into_iter().zip(targets).filter_map(|(n, t)| t.map(|t| (n, (*t).clone()))).collect();
    for t in tables.iter().filter(|t| !p.rules.concern(&t.name)) {
        // A unique index that the source has may come to the target while the stream runs: when it is consistent.
        if let Some(target) = targets.get_mut(&p.rules.homes().table(&t.name)) {
            target.has_secondary_unique |= t.has_secondary_unique;
        }
    }
    for rule in p.rules.iter() {
        // The same of one that a rule wishes for.
        for (_, table) in rule.parts().filter(|(part, _)| rule.wishes(*part).indexes.iter().any(|i| i.unique)) {
            if let Some(target) = targets.get_mut(table) {
                target.has_secondary_unique = true;
            }
        }
    }
    let dead = match p.set_aside {
        true => {
            let dead = p.target.dead_letters().await?;
            p.status.set_dead_letters(dead.len() as u64);
            let mut known = Dead::default();
            dead.into_iter().for_each(|(table, keys)| keys.into_iter().for_each(|k| known.insert(table.clone(), k)));
            Some(known)
        }
        false => None,
    };
    let skip_before = copies.into_iter().map(|c| (c.table, c.snapshot_at)).collect();
    // Also between servers of one engine: the log says defaults as one server prints them, not as another reads them.
    let (engine, target, homes) = (p.source.engine(), p.target.clone(), p.rules.homes().clone());
    let adopt: collect::Adopt = Arc::new(move |table: &Table| target.adopt_table(engine, table, &homes));
    let adopt = Some(adopt);
    let foreign = p.source.engine() != p.target.engine();
    let (rules, selection) = (p.rules.clone(), p.selection.clone());
    Ok(Knowledge { targets, sources, rules, skip_before, selection, dead, adopt, foreign })
}

/// The middle of the stream.
struct Flow<'a> {
    p: &'a Pipeline,
    collector: Collector,
    received: queue::EventReceiver,
    jobs: mpsc::Sender<Job>,
    done: mpsc::Receiver<Done>,
    applied: Position,
    /// When the checkpoint was last written.
    stored_at: Instant,
    /// When the target was last level, by the source's clock.
    last_level: Option<i64>,
    checkpoint: Checkpoint,
    script: Option<Arc<Script>>,
    /// The last job was a piece of a transaction that goes on.
    in_pieces: bool,
    /// Since when the applier has had a job.
    running: Option<Instant>,
}

impl Flow<'_> {
    async fn run(mut self) -> Result<()> {
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut paused = self.p.status.paused();
        let mut delay_until: Option<Instant> = None;
        loop {
            let hold = *paused.borrow_and_update();
            // A transaction that is applied in pieces is open on the target: it is not left open by a pause.
            if self.running.is_none() && (!hold || self.in_pieces) {
                let waited = delay_until.is_none_or(|t| t <= Instant::now());
                if self.p.max_delay.is_zero() || waited || !self.collector.wants_more() {
                    delay_until = None;
                    if let Some(job) = self.next_job() {
                        self.running = Some(Instant::now());
                        self.in_pieces = job.end.is_none();
                        if self.jobs.send(job).await.is_err() {
                            return Err(Error::retry("the applier ended"));
                        }
                    }
                }
            }
            tokio::select! {
                biased;
                done = self.done.recv() => match done {
                    Some(done) => {
                        self.running = None;
                        self.done(done).await?;
                    }
                    None => return Err(Error::retry("the applier ended")),
                },
                got = self.received.recv(), if self.collector.wants_more() => match got {
                    Some(got) => {
                        if !self.collector.has_pending() && !self.p.max_delay.is_zero() {
                            delay_until = Some(Instant::now() + self.p.max_delay);
                        }
                        // What the collector holds is bounded by itself; the room is given back here, so that a
                        // transaction of any size can never wait for room that its own beginning takes.
                        drop(got.room);
                        for event in got.events {
                            if let Event::Heartbeat { at, .. } = &event {
                                self.p.status.set_source_clock(*at);
                            }
                            self.collector.event(event)?;
                        }
                    }
                    None => return Err(Error::retry("the capture ended")),
                },
                _ = tick.tick() => self.say(),
                _ = paused.changed() => {}
                () = self.p.stop.cancelled() => return Ok(()),
            }
        }
    }

    fn next_job(&mut self) -> Option<Job> {
        if let Some(job) = self.collector.take() {
            return Some(job);
        }
        let position = self.collector.idle_at()?.clone();
        self.level(&position);
        let at = self.collector.consistent_at();
        let completes = position.reached(at) && !self.applied.reached(at);
        if position == self.applied || (self.stored_at.elapsed() < IDLE_CHECKPOINT_EVERY && !completes) {
            return None;
        }
        let end = BatchEnd { position, committed_at: None, consistent_at: None };
        Some(Job { end: Some(end), ..Job::default() })
    }

    /// Nothing waits anywhere and the source said that it has sent everything.
    fn level(&mut self, position: &Position) {
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64);
        self.last_level = Some(now);
        self.p.status.set_stream(StreamUpdate {
            // There was nothing to apply up to here; the checkpoint follows more slowly.
            applied_position: Some(position.clone()),
            level: Some(true),
            committed_at: Some(now),
            ..Default::default()
        });
        if self.p.status.phase() == Phase::Tailing && self.checkpoint.stage == CopyStage::Complete {
            self.p.status.set_phase(Phase::Ready);
        }
    }

    async fn done(&mut self, done: Done) -> Result<()> {
        for outcome in &done.ddl {
            match outcome {
                DdlOutcome::Applied(what) => tracing::info!("schema change applied: {what}"),
                DdlOutcome::Ignored(what) => self.p.warn(format!("schema change not carried over: {what}")),
                DdlOutcome::Unsafe(_) => {}
            }
        }
        self.p.set_aside(&done.set_aside);
        self.collector.follow(done.dead);
        self.p.status.add_applied(done.transactions, done.rows);
        if done.end.is_some() || done.rows > 0 {
            self.p.metrics.batch_applied(done.transactions, done.rows);
        }
        for (table, [inserts, updates, deletes]) in &done.by_table {
            let rows = AppliedRows { inserts: *inserts, updates: *updates, deletes: *deletes, truncates: 0 };
            self.p.metrics.rows_applied(&table.to_string(), rows);
        }
        let Some(end) = done.end else { return Ok(()) };
        self.stored_at = Instant::now();
        if let Some(at) = &end.consistent_at {
            self.collector.stay_convergent_until(at);
        }
        let consistent = end.position.reached(self.collector.consistent_at());
        let pending = self.collector.has_pending();
        self.p.status.set_stream(StreamUpdate {
            applied_position: Some(end.position.clone()),
            consistent: Some(consistent),
            level: Some(!pending),
            // Between two commits of a quiet source nothing was late: the lag begins where the target was last level.
            committed_at: end.committed_at.max(self.last_level),
            ..Default::default()
        });
        self.applied = end.position;
        if consistent && self.checkpoint.stage == CopyStage::Streaming {
            // No job runs now, so nothing is applied while constraints and triggers are made.
            self.checkpoint.position = Some(self.applied.clone());
            self.checkpoint.consistent_at = Some(self.collector.consistent_at().clone());
            self.checkpoint.committed_at = end.committed_at.or(self.checkpoint.committed_at);
            self.p.complete(&mut self.checkpoint, self.script.take()).await?;
        }
        Ok(())
    }

    fn say(&mut self) {
        match self.running {
            Some(since) if since.elapsed() > SLOW_BATCH => {
                let e = Error::retry(format!(
                    "the target has been working on one batch for {} s",
                    since.elapsed().as_secs()
                ));
                self.p.status.set_waiting("target", &e);
            }
            _ => self.p.status.clear_waiting(),
        }
        if self.running.is_some() || self.collector.has_pending() {
            self.p.status.set_stream(StreamUpdate { level: Some(false), ..Default::default() });
        }
    }
}

struct ApplyTask {
    pipeline: Pipeline,
    applier: Box<dyn Applier>,
    session: OpenSession,
    jobs: mpsc::Receiver<Job>,
    done: mpsc::Sender<Done>,
    confirm: watch::Sender<Position>,
    /// The last job was a piece of a transaction that is still open on the target.
    pieces: bool,
    /// Where rows were read again for pieces of the open transaction; its end takes it along.
    reread_at: Option<Position>,
}

/// Applies jobs one after the other, and confirms what is on the target's disk.
async fn apply_jobs(mut t: ApplyTask) -> Result<()> {
    let mut look = tokio::time::interval(DURABLE_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = look.tick() => t.confirm().await?,
            job = t.jobs.recv() => {
                let Some(job) = job else {
                    // A last look, so that a clean stop leaves little to send again.
                    return t.confirm().await;
                };
                faults::point("stream.before_apply");
                let (end, applied) = t.apply(&job).await?;
                faults::point("stream.applied");
                let mut set_aside = job.batch.set_aside;
                set_aside.extend(applied.refused);
                let done = Done {
                    end,
                    rows: job.batch.counts.rows,
                    transactions: job.batch.counts.transactions,
                    by_table: job.batch.counts.by_table,
                    set_aside,
                    dead: applied.dead,
                    ddl: applied.ddl,
                };
                if t.done.send(done).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

impl ApplyTask {
    /// Tells the source what is durable here, never more.
    async fn confirm(&mut self) -> Result<()> {
        if let Some(position) = self.applier.durable().await? {
            self.confirm.send_if_modified(|now| {
                let later = position != *now && position.reached(now);
                if later {
                    *now = position;
                }
                later
            });
        }
        Ok(())
    }

    async fn apply(&mut self, job: &Job) -> Result<(Option<BatchEnd>, Applied)> {
        let mut tries = 0;
        loop {
            match self.once(job).await {
                // Another session of the target got in the way; what is whole can be tried again at once. A piece's
                // predecessors are gone with the transaction: only a new attempt from the checkpoint brings them back.
                Err(e) if e.is_conflict() && job.end.is_some() && !self.pieces && tries < CONFLICT_RETRIES => {
                    tries += 1;
                    tracing::warn!("{e}; trying the batch again");
                    tokio::time::sleep(Duration::from_millis(20 << tries)).await;
                }
                other => {
                    self.pieces = job.end.is_none();
                    return other;
                }
            }
        }
    }

    async fn once(&mut self, job: &Job) -> Result<(Option<BatchEnd>, Applied)> {
        let mut end = job.end.clone();
        if let Some(end) = &mut end {
            end.consistent_at = self.reread_at.take();
        }
        let asked = self.session.ask();
        let applied = self.applier.apply(&job.batch, end.as_ref()).await?;
        drop(asked);
        if applied.missing.is_empty() {
            return Ok((end, applied));
        }
        let (found, at) = self.reread(&applied).await?;
        match &mut end {
            Some(end) => end.consistent_at = at,
            None => self.reread_at = at,
        }
        self.applier.apply(&found, end.as_ref()).await?;
        Ok((end, applied))
    }

    /// How rows of the target's `table` are read at the source, and what becomes of them on the way.
    fn as_source(&self, sources: &[Arc<Table>], table: &Arc<Table>) -> Result<Compiled> {
        let rules = &self.pipeline.rules;
        let found = sources.iter().find(|s| !rules.concern(&s.name) && rules.homes().table(&s.name) == table.name);
        match found.and_then(|s| narrowed(s, table)) {
            Some(source) => Compiled::new(&source, table),
            // Gone or renamed since: asked for under the name that the target has, it is an error that says so.
            None => Ok(Compiled::passing(table.clone(), table.clone())),
        }
    }

    /// Rows whose update came without a large value and that the target has not: read again at the source. They may
    /// be newer than the log's place, so consistency moves past the read.
    async fn reread(&mut self, applied: &Applied) -> Result<(Batch, Option<Position>)> {
        let mut batch = Batch { convergent: true, ..Batch::default() };
        let mut newest: Option<Position> = None;
        let sources = self.pipeline.source.tables().await.context("reading rows again")?;
        let mut scratch = Scratch::default();
        for (table, row) in &applied.missing {
            if self.pipeline.rules.iter().any(|r| r.to == table.name) {
                return Err(Error::fatal(format!(
                    "{}: a large value that did not change was not sent, and the row is not here yet",
                    table.name
                ))
                .hint("on the source, for the tables that rules reshape: ALTER TABLE … REPLICA IDENTITY FULL; then begin anew"));
            }
            let compiled = self.as_source(&sources, table)?;
            let source = &compiled.source;
            let undone = compiled.outputs.first().and_then(|o| o.undo(row, source.columns.len(), &mut scratch));
            let key = key_of(source, undone.as_ref().unwrap_or(row));
            let (found, at) = self.pipeline.source.reread(source, &key).await.context("reading a row again")?;
            if let Some(row) = found {
                let change = Change { table: source.id, op: Op::Insert, old: None, new: Some(row) };
                batch.change(&compiled, change, &mut scratch)?;
            }
            if newest.as_ref().is_none_or(|n| at.reached(n)) {
                newest = Some(at);
            }
        }
        if batch.is_empty() {
            batch.barrier(Step::Sets(Default::default()));
        }
        Ok((batch, newest))
    }
}

/// The source's table with exactly the columns of `table`, which is the target's and has them by the same names in the
/// log's order; `None` if it has not all of them any more.
fn narrowed(source: &Table, table: &Table) -> Option<Arc<Table>> {
    let columns: Option<Vec<_>> =
        table.columns.iter().map(|c| source.column(&c.name).and_then(|i| source.columns.get(i).cloned())).collect();
    let narrowed = Table { columns: columns?, identity: table.identity.clone(), ..source.clone() };
    Some(Arc::new(narrowed))
}

/// Looks at the source's log until that fails for good.
async fn health(p: &Pipeline, identity: &LogIdentity) -> Result<()> {
    let mut tick = tokio::time::interval(HEALTH_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut looked = Instant::now();
    let mut named = HashSet::new();
    loop {
        tick.tick().await;
        if looked.elapsed() > NEW_TABLES_EVERY {
            // A failure to look says nothing about the stream.
            if let Err(e) = new_tables(p, &mut named).await {
                tracing::debug!("looking for new tables: {e}");
            }
            looked = Instant::now();
        }
        let asked = Instant::now();
        let health = p.source.health(identity).await;
        p.metrics.asked(Side::Source, asked.elapsed());
        let h = match health {
            Ok(h) => h,
            // The capture's own connection decides whether the source is gone.
            Err(e) if e.is_retry() => continue,
            Err(e) => return Err(e),
        };
        p.status.set_source_clock(h.now);
        p.status.set_stream(StreamUpdate {
            source_position: Some(h.end),
            retained_log_bytes: Some(h.retained_bytes),
            ..Default::default()
        });
        if h.retained_bytes > RETAINED_WARNING || h.state == "unreserved" {
            p.warn(format!(
                "the source keeps {} MiB of log for this migration (state {}): it must not run out of disk",
                h.retained_bytes >> 20,
                h.state
            ));
        }
    }
}

/// Says which tables of the selection the target has not: without a DDL trigger at the source, their rows are not in the log.
async fn new_tables(p: &Pipeline, named: &mut HashSet<TableName>) -> Result<()> {
    let names: Vec<TableName> =
        p.source.tables().await?.iter().map(|t| t.name.clone()).filter(|n| !p.rules.concern(n)).collect();
    let homes: Vec<TableName> = names.iter().map(|n| p.rules.homes().table(n)).collect();
    let there = p.target.tables(&homes).await?;
    let lacking = names.into_iter().zip(there).filter(|(_, t)| t.is_none()).map(|(n, _)| n).collect::<HashSet<_>>();
    // Twice in a row: a table may be on its way.
    let mut said: Vec<String> = lacking.intersection(named).map(ToString::to_string).collect();
    said.sort();
    if !said.is_empty() {
        p.warn(format!(
            "tables of the selection that were made since are not on the target and not followed: {}; leave them out with tables.exclude, or begin anew to have them too",
            said.join(", ")
        ));
    }
    *named = lacking;
    Ok(())
}
