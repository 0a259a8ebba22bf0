//! The copy: schema, chunks in parallel, keys and indexes. Resumable between any two commits.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::Pipeline;
use super::dead::refusal;
use super::made::Script;
use crate::change::{Change, DeadLetter, Op, Refused};
use crate::error::{Error, Result, ResultExt};
use crate::faults;
use crate::metrics::{OpenSession, Side};
use crate::schema::{RowIdentity, Table, TableName};
use crate::source::{Chunk, ChunkReader, CopyBlock, CopyFormat, SnapshotSession};
use crate::status::TableState;
use crate::target::{Checkpoint, CopyStage, LoadMode, Loader, TableCopy};
use crate::transform::Compiled;
use crate::transform::expr::Scratch;
use crate::transform::output::Output;
use crate::transform::rules::OnExisting;

/// Bytes of a chunk. Small enough that a kill repeats little, large enough that its commit does not matter.
const CHUNK_BYTES: u64 = 64 << 20;
/// A snapshot that takes longer than this to open is looked into, as often.
const LOOK_AFTER: Duration = Duration::from_secs(2);
/// How often the session that holds the snapshot is asked whether it lives, and how long it may take to answer.
const PING_EVERY: Duration = Duration::from_secs(2);
const PING_PATIENCE: Duration = Duration::from_secs(30);
/// Tables up to this size load in one transaction, with frozen rows. A kill repeats at most this much of each worker's
/// table.
const WHOLE_TABLE_BYTES: u64 = 64 << 20;

fn chunk_bytes() -> u64 {
    faults::number("SWITCHYARD_CHUNK_BYTES").unwrap_or(CHUNK_BYTES)
}

fn whole_table_bytes() -> u64 {
    faults::number("SWITCHYARD_WHOLE_TABLE_BYTES").unwrap_or(WHOLE_TABLE_BYTES)
}

/// Carries the copy from where the checkpoint says to [`CopyStage::Streaming`]. Gives back the schema that it made, for
/// what is left of it to make once the target is consistent.
pub async fn run(p: &Pipeline, checkpoint: &mut Checkpoint) -> Result<Arc<Script>> {
    let (source, target) = (&p.source, &p.target);
    let ((session, _held), tables) = match (checkpoint.stage, &checkpoint.log, &checkpoint.position) {
        (CopyStage::Started, ..) | (_, None, _) | (_, _, None) => {
            let tables = source.tables().await?;
            faults::point("copy.before_begin");
            let (session, held) = p.metrics.open(Side::Source, patiently(p, source.begin(&tables))).await?;
            faults::point("copy.log_kept");
            checkpoint.log = Some(session.identity().clone());
            checkpoint.position = Some(session.start().clone());
            checkpoint.consistent_at = Some(session.at().clone());
            // Lag counts from here until a later commit is applied.
            checkpoint.committed_at = Some(session.taken_at());
            checkpoint.stage = CopyStage::LogKept;
            target.save(checkpoint).await?;
            ((session, held), tables)
        }
        (_, Some(identity), Some(position)) => {
            source.verify_log(identity, position).await?;
            let mut tables = source.tables().await?;
            if checkpoint.stage == CopyStage::Copying {
                // Tables made since then come with the stream.
                let copies = target.copies().await?;
                tables.retain(|t| copies.iter().any(|c| c.table == t.name));
            }
            let again = patiently(p, source.snapshot_again(identity, &tables));
            (p.metrics.open(Side::Source, again).await?, tables)
        }
    };
    let session: Arc<dyn SnapshotSession> = Arc::from(session);
    let script = Arc::new(p.script(checkpoint, &tables, session.exported()).await?);
    if checkpoint.stage == CopyStage::LogKept {
        if p.create_schema {
            script.begin(p).await?;
        }
        faults::point("copy.schema_made");
        target.quiesce(&p.target_names(tables.iter().map(|t| &t.name))).await?;
        // Where rules let rows be there: whether all that is in a table later came from here is known only now.
        target
            .note_empty(checkpoint.epoch, &p.target_names(tables.iter().map(|t| &t.name).filter(|t| merges(p, t))))
            .await?;
        for t in &tables {
            let copy = fresh(p, session.as_ref(), t).await?;
            target.plan_copy(checkpoint.epoch, &copy).await?;
        }
        checkpoint.stage = CopyStage::Copying;
        target.save(checkpoint).await?;
        faults::point("copy.planned");
    } else {
        script.begin_missing(p).await?;
    }
    super::changed::one_moment(p, checkpoint, session.at()).await?;
    let copies = plan_rest(p, checkpoint, session.as_ref(), &tables, &script).await?;
    let consistent_at = copies
        .iter()
        .map(|c| c.resumed_at.as_ref().unwrap_or(&c.snapshot_at))
        .fold(session_floor(checkpoint, session.as_ref()), |a, b| if a.reached(b) { a } else { b.clone() });
    // A merge that looks for rows of earlier tables comes after them.
    let mut turns: BTreeMap<usize, Vec<TableCopy>> = BTreeMap::new();
    for copy in copies {
        turns.entry(p.rules.turn(&copy.table)).or_default().push(copy);
    }
    let compiled = Arc::new(compile(p, &tables, &script).await?);
    for copies in turns.into_values() {
        copy_tables(p, checkpoint.epoch, session.clone(), &tables, compiled.clone(), copies, script.clone()).await?;
    }
    let ended = session.ended().await?;
    let consistent_at = if consistent_at.reached(&ended) { consistent_at } else { ended };
    faults::point("copy.loaded");
    // Chunks commit asynchronously. Saving brings them to the disk; what a crash of the target took before is missing here.
    target.save(checkpoint).await?;
    let mut stored = target.copies().await?;
    stored.retain(|c| tables.iter().any(|t| t.name == c.table));
    if let Some(c) = stored.iter().find(|c| c.done.len() < c.plan.chunks.len()) {
        return Err(Error::retry(format!(
            "the target lost copied rows of {} (did it crash?): they are copied again",
            c.table
        )));
    }
    checkpoint.consistent_at = Some(consistent_at);
    checkpoint.stage = CopyStage::Streaming;
    target.save(checkpoint).await?;
    faults::point("copy.done");
    Ok(script)
}

/// Opens a snapshot, and says in the status what the source waits for if that takes its time.
async fn patiently<T>(p: &Pipeline, opening: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::pin!(opening);
    let mut said = false;
    loop {
        tokio::select! {
            opened = &mut opening => {
                if said {
                    p.status.clear_waiting();
                }
                return opened;
            }
            () = tokio::time::sleep(LOOK_AFTER) => {
                // A failure to look says nothing about the opening.
                if let Ok(Ok(Some(why))) = tokio::time::timeout(LOOK_AFTER, p.source.held_up()).await {
                    p.status.set_waiting("source", &Error::retry(why));
                    said = true;
                }
            }
        }
    }
}

fn session_floor(checkpoint: &Checkpoint, session: &dyn SnapshotSession) -> crate::position::Position {
    checkpoint.position.clone().unwrap_or_else(|| session.start().clone())
}

async fn fresh(p: &Pipeline, session: &dyn SnapshotSession, table: &Table) -> Result<TableCopy> {
    Ok(TableCopy {
        table: table.name.clone(),
        plan: session.plan(table, chunk_bytes()).await?,
        snapshot_at: session.at().clone(),
        resumed_at: None,
        done: Vec::new(),
        rows: 0,
        indexed: false,
        rules: p.rules.text_of(&table.name),
    })
}

/// What is left to copy of each table, after a look at what a former run left behind.
async fn plan_rest(
    p: &Pipeline,
    checkpoint: &Checkpoint,
    session: &dyn SnapshotSession,
    tables: &[Arc<Table>],
    script: &Script,
) -> Result<Vec<TableCopy>> {
    let mut copies = p.target.copies().await?;
    copies.retain(|c| tables.iter().any(|t| t.name == c.table));
    let untouched = super::changed::untouched(p, &copies)?;
    for copy in &mut copies {
        let Some(table) = tables.iter().find(|t| t.name == copy.table) else { continue };
        let complete = copy.done.len() == copy.plan.chunks.len();
        let same_snapshot = session.at() == copy.resumed_at.as_ref().unwrap_or(&copy.snapshot_at);
        // A table that is copied anew because its rules changed may meet the same snapshot on an idle source.
        let other_rules = copy.rules != p.rules.text_of(&copy.table);
        if !complete && (!same_snapshot || other_rules) {
            let now = session.plan(table, chunk_bytes()).await?;
            let keyed = matches!(table.identity, RowIdentity::Key(_));
            let ruled = p.rules.concern(&copy.table);
            let keep = !copy.done.is_empty()
                && now.storage == copy.plan.storage
                && keyed
                && (ruled || two_moments_can_meet(p, table).await?);
            let apart = can_be_emptied(p, tables, &copy.table);
            if skips(p, &copy.table) || (!apart && untouched.contains(&copy.table)) {
                // Nothing of it is there, nor of those that it lies among, or of one that skips, which is loaded in one
                // transaction. What the log says of the time before this
                // snapshot must not come again: rows of its own would be taken for another's.
                *copy = fresh(p, session, table).await?;
                p.target.plan_copy(checkpoint.epoch, copy).await?;
            } else if !apart {
                // The rows lie among others. What is there stays, what is left is loaded over it, and the log from the
                // first snapshot on tells what went away meanwhile.
                if !keep {
                    copy.plan = now;
                    copy.done.clear();
                    copy.rows = 0;
                }
                copy.resumed_at = Some(session.at().clone());
                script.resume(p, &copy.table).await?;
                p.target.plan_copy(checkpoint.epoch, copy).await?;
            } else if keep {
                // Rows may have moved between pages since the first snapshot: what is left is loaded over what is there.
                copy.resumed_at = Some(session.at().clone());
                // Without the schema's own key, what is there finds the rows: the key that the target's table came with.
                if !ruled && p.create_schema {
                    p.target.create_key(&script.own, &copy.table).await?;
                }
                script.resume(p, &copy.table).await?;
                p.target.plan_copy(checkpoint.epoch, copy).await?;
                faults::point("copy.resumed");
            } else {
                *copy = TableCopy { plan: now, ..fresh(p, session, table).await? };
                // First the plan, which forgets the chunks, then the rows: a crash between the two comes here again.
                p.target.plan_copy(checkpoint.epoch, copy).await?;
                faults::point("copy.replanned");
                for target in p.rules.targets_of(&copy.table) {
                    p.target.empty(&target).await?;
                }
            }
        }
        let state = if copy.indexed { TableState::Done } else { TableState::Waiting };
        let estimated = table.estimated_rows.max(copy.rows);
        p.status.update_table(
            &copy.table.to_string(),
            copy.rows,
            if copy.indexed { copy.rows } else { estimated },
            state,
        );
    }
    Ok(copies)
}

/// Whether rows of a table as they were at two moments can lie in its target table together: by its key they find each
/// other, and no other constraint that is there already could refuse a row because of one that is gone at the source.
async fn two_moments_can_meet(p: &Pipeline, table: &Table) -> Result<bool> {
    let found = p.target.tables(&[p.rules.homes().table(&table.name)]).await?;
    let Some(there) = found.into_iter().next().flatten() else { return Ok(true) };
    let names = |t: &Table| t.key().iter().map(|&k| t.columns[k].name.clone()).collect::<BTreeSet<_>>();
    // A schema that is made gets the key before anything is loaded over rows that are there.
    let keyed = p.create_schema || names(&there) == names(table);
    Ok(keyed && !there.has_secondary_unique)
}

/// A piece of work for one worker.
struct Work {
    table: Arc<Table>,
    chunks: Vec<Chunk>,
    mode: LoadMode,
}

/// How one of a table's outputs is loaded, where the table as a whole is loaded in `mode`.
fn output_mode(output: &Output, mode: LoadMode) -> LoadMode {
    match (output.on_existing, mode) {
        (OnExisting::Skip, _) => LoadMode::Skip,
        // Its neighbours skip; it is loaded in the same transaction, so nothing of it can be there.
        (OnExisting::Error, LoadMode::Skip) => LoadMode::Append,
        (OnExisting::Replace, _) => LoadMode::Upsert,
        (OnExisting::Error, LoadMode::Upsert) if output.is_items() => LoadMode::ReplaceAll,
        (OnExisting::Error, mode) => mode,
    }
}

struct Shared {
    queue: Mutex<VecDeque<Work>>,
    /// Pieces of work not finished yet, by table.
    left: Mutex<HashMap<TableName, usize>>,
}

/// Whether any of the table's rows are left out where others are already.
fn skips(p: &Pipeline, source: &TableName) -> bool {
    p.rules.of(source).any(|r| r.rule.on_existing == OnExisting::Skip)
}

/// Whether the table's rows may meet rows that are there already.
fn merges(p: &Pipeline, source: &TableName) -> bool {
    p.rules.of(source).any(|r| r.rule.on_existing != OnExisting::Error)
}

/// Whether all that is in the target's tables came from this source table.
fn can_be_emptied(p: &Pipeline, tables: &[Arc<Table>], source: &TableName) -> bool {
    p.rules.of(source).all(|r| r.rule.on_existing == OnExisting::Error)
        && p.rules.targets_of(source).iter().all(|t| p.rules.writers_of(t, tables.iter().map(|t| &t.name)).len() <= 1)
}

async fn compile(p: &Pipeline, tables: &[Arc<Table>], script: &Script) -> Result<HashMap<TableName, Compiled>> {
    let sources: Vec<TableName> = tables.iter().map(|t| t.name.clone()).collect();
    let names = p.target_names(sources.iter());
    let found = names.iter().cloned().zip(p.target.tables(&names).await?);
    let there: HashMap<TableName, Arc<Table>> = found.filter_map(|(n, t)| t.map(|t| (n, script.keyed(t)))).collect();
    let mut compiled = HashMap::new();
    for source in tables {
        let step = Compiled::with_rules(&p.rules, source, &sources, &|name| there.get(name).cloned())?;
        compiled.insert(source.name.clone(), step);
    }
    Ok(compiled)
}

async fn copy_tables(
    p: &Pipeline,
    epoch: i64,
    session: Arc<dyn SnapshotSession>,
    tables: &[Arc<Table>],
    compiled: Arc<HashMap<TableName, Compiled>>,
    copies: Vec<TableCopy>,
    script: Arc<Script>,
) -> Result<()> {
    let mut queue: Vec<Work> = Vec::new();
    let mut left = HashMap::new();
    let mut to_index = Vec::new();
    let resumed: Arc<HashSet<TableName>> =
        Arc::new(copies.iter().filter(|c| c.resumed_at.is_some()).map(|c| c.table.clone()).collect());
    for copy in copies {
        let Some(table) = tables.iter().find(|t| t.name == copy.table) else { continue };
        let chunks: Vec<Chunk> = copy.plan.chunks.iter().filter(|c| !copy.done.contains(&c.number)).cloned().collect();
        if chunks.is_empty() {
            if !copy.indexed {
                to_index.push(copy.table.clone());
            }
            continue;
        }
        let untouched = copy.done.is_empty();
        let apart = can_be_emptied(p, tables, &copy.table);
        let mode = match (&copy.resumed_at, untouched) {
            _ if skips(p, &copy.table) => LoadMode::Skip,
            (None, _) if !apart => LoadMode::Append,
            (Some(_), _) => LoadMode::Upsert,
            (None, true) if table.bytes <= whole_table_bytes() || chunks.len() == 1 => LoadMode::WholeTable,
            (None, _) => LoadMode::Append,
        };
        let before = queue.len();
        if matches!(mode, LoadMode::WholeTable | LoadMode::Skip) {
            queue.push(Work { table: table.clone(), chunks, mode });
        } else {
            queue.extend(chunks.into_iter().map(|c| Work { table: table.clone(), chunks: vec![c], mode }));
        }
        left.insert(copy.table.clone(), queue.len() - before);
    }
    // Large tables first: their indexes take longest, and are made while smaller tables are copied.
    queue.sort_by_key(|w| std::cmp::Reverse(w.table.bytes));
    let shared = Arc::new(Shared { queue: Mutex::new(queue.into()), left: Mutex::new(left) });
    let (indexes, mut indexed) = tokio::sync::mpsc::unbounded_channel::<TableName>();
    for t in to_index {
        let _ = indexes.send(t);
    }
    let mut tasks: JoinSet<Result<()>> = JoinSet::new();
    for _ in 0..p.workers.max(1) {
        let worker = Worker {
            p: p.clone(),
            epoch,
            session: session.clone(),
            shared: shared.clone(),
            compiled: compiled.clone(),
            indexes: indexes.clone(),
        };
        tasks.spawn(worker.run());
    }
    drop(indexes);
    let indexer = p.clone();
    tasks.spawn(async move {
        let mut running: JoinSet<Result<()>> = JoinSet::new();
        while let Some(table) = indexed.recv().await {
            while running.len() >= indexer.workers.max(1) {
                join_next(&mut running).await?;
            }
            let (p, script, later) = (indexer.clone(), script.clone(), resumed.contains(&table));
            running.spawn(async move { index(&p, epoch, &script, &table, later).await });
        }
        while !running.is_empty() {
            join_next(&mut running).await?;
        }
        Ok(())
    });
    let work = async {
        // The first failure ends the others: dropping the set aborts them, and their servers roll back.
        while !tasks.is_empty() {
            join_next(&mut tasks).await?;
        }
        Ok(())
    };
    tokio::select! {
        r = work => r,
        e = silence(session.as_ref()) => Err(e),
    }
}

/// Ends when the source's snapshot is lost, or when the source has stopped answering (a connection that is half open
/// would otherwise be read from for ever). The target's lock session does the same for the target.
async fn silence(session: &dyn SnapshotSession) -> Error {
    loop {
        tokio::time::sleep(PING_EVERY).await;
        match tokio::time::timeout(PING_PATIENCE, session.still_held()).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return e,
            Err(_) => {
                return Error::retry(format!("the source has not answered for {} seconds", PING_PATIENCE.as_secs()));
            }
        }
    }
}

async fn join_next(tasks: &mut JoinSet<Result<()>>) -> Result<()> {
    match tasks.join_next().await {
        Some(Ok(r)) => r,
        Some(Err(e)) => Err(Error::fatal(format!("a copy task ended: {e}")).hint("this is a bug in Switchyard")),
        None => Ok(()),
    }
}

/// `later`: the table holds rows of two snapshots, which may meet in a unique index until the stream has passed both. It
/// has its key, and gets the rest once it is consistent ([`Pipeline::complete`]).
async fn index(p: &Pipeline, epoch: i64, script: &Script, table: &TableName, later: bool) -> Result<()> {
    let name = table.to_string();
    p.status.set_table_state(&name, TableState::Indexing);
    if p.create_schema {
        script.follow(p, table, later).await?;
    }
    faults::point("copy.indexed");
    p.target.mark_indexed(epoch, table).await?;
    p.status.set_table_state(&name, TableState::Done);
    Ok(())
}

/// A session that the metrics count.
type Counted<S> = (Box<S>, OpenSession);

struct Worker {
    p: Pipeline,
    epoch: i64,
    session: Arc<dyn SnapshotSession>,
    shared: Arc<Shared>,
    compiled: Arc<HashMap<TableName, Compiled>>,
    indexes: tokio::sync::mpsc::UnboundedSender<TableName>,
}

impl Worker {
    async fn run(self) -> Result<()> {
        // Sessions are opened only by workers that find something to do.
        let mut sessions: Option<(Counted<dyn ChunkReader>, Counted<dyn Loader>)> = None;
        loop {
            let next = self.shared.queue.lock().unwrap_or_else(|e| e.into_inner()).pop_front();
            let Some(work) = next else { return Ok(()) };
            let (reader, loader) = match &mut sessions {
                Some(s) => (&mut s.0, &mut s.1),
                None => {
                    let metrics = &self.p.metrics;
                    let reader = metrics.open(Side::Source, self.session.reader()).await?;
                    let opened = (reader, metrics.open(Side::Target, self.p.target.loader(self.epoch)).await?);
                    let s = sessions.insert(opened);
                    (&mut s.0, &mut s.1)
                }
            };
            let name = work.table.name.clone();
            self.one(&work, reader, loader).await.with_context(|| format!("copying {name}"))?;
            let done = {
                let mut left = self.shared.left.lock().unwrap_or_else(|e| e.into_inner());
                let n = left.entry(name.clone()).or_insert(1);
                *n -= 1;
                *n == 0
            };
            if done {
                let _ = self.indexes.send(name);
            }
        }
    }

    async fn one(
        &self,
        work: &Work,
        (reader, reads): &mut Counted<dyn ChunkReader>,
        (loader, loads): &mut Counted<dyn Loader>,
    ) -> Result<()> {
        let _working = (reads.work(), loads.work());
        let (mut reading, mut loading) = (Duration::ZERO, Duration::ZERO);
        let source = &work.table.name;
        let name = source.to_string();
        let Some(compiled) = self.compiled.get(source) else {
            return Err(Error::fatal(format!("{source}: no compiled step")));
        };
        let mut scratch = Scratch::default();
        let mut letters = Vec::new();
        for (n, output) in compiled.outputs.iter().enumerate() {
            let format = if output.passes_bytes(&compiled.source) {
                let theirs = loader.formats(&output.target);
                reader.formats(&compiled.source).into_iter().find(|f| theirs.contains(f)).unwrap_or(CopyFormat::Rows)
            } else {
                CopyFormat::Rows
            };
            let mode = output_mode(output, work.mode);
            match &output.parent {
                Some(parent) => loader.begin_items(source, &output.target, parent).await?,
                None => loader.begin(source, &output.target, format, mode).await?,
            }
            // The snapshot stands still: every output reads the chunks anew, and nothing has to be kept for it.
            for chunk in &work.chunks {
                let mut since = Instant::now();
                reader.open(&work.table, chunk, format).await?;
                while let Some(block) = reader.next().await? {
                    reading += since.elapsed();
                    since = Instant::now();
                    let rows = match &block {
                        CopyBlock::Raw { rows, .. } => *rows,
                        CopyBlock::Rows(r) => r.len() as u64,
                        CopyBlock::Refused(r) => r.len() as u64,
                    };
                    let block = match block {
                        CopyBlock::Refused(refused) => {
                            self.refused(&work.table, refused, n == 0, &mut letters)?;
                            continue;
                        }
                        CopyBlock::Rows(rows) if !output.is_same() => {
                            let mut made = Vec::with_capacity(rows.len());
                            for row in &rows {
                                match output.rows(row, &mut scratch, &mut made) {
                                    Ok(()) => {}
                                    Err(e) if self.p.set_aside && e.code() == Some("switchyard:rule") => {
                                        let change = Change {
                                            table: work.table.id,
                                            op: Op::Insert,
                                            old: None,
                                            new: Some(row.clone()),
                                        };
                                        let at = self.session.at().to_string();
                                        letters.push(DeadLetter::new(&work.table, &change, at, e.message().to_owned()));
                                    }
                                    Err(e) => return Err(e),
                                }
                            }
                            CopyBlock::Rows(made)
                        }
                        as_it_is => as_it_is,
                    };
                    loader.write(block).await?;
                    loading += since.elapsed();
                    since = Instant::now();
                    if n == 0 {
                        self.p.status.add_rows_copied(&name, rows);
                        self.p.metrics.rows_copied(&name, rows);
                    }
                }
                reading += since.elapsed();
            }
        }
        faults::point("copy.chunk_read");
        let numbers: Vec<u32> = work.chunks.iter().map(|c| c.number).collect();
        let since = Instant::now();
        self.p.set_aside(&letters);
        loader.set_aside(letters);
        loader.commit(source, &numbers).await?;
        self.p.metrics.asked(Side::Source, reading);
        self.p.metrics.asked(Side::Target, loading + since.elapsed());
        faults::point("copy.chunk_committed");
        // Whoever was waited for is back.
        self.p.status.clear_waiting();
        self.session.still_held().await
    }

    /// Rows that do not fit: set aside, once however many tables they go to, or a stop.
    fn refused(&self, table: &Table, refused: Vec<Refused>, first: bool, letters: &mut Vec<DeadLetter>) -> Result<()> {
        let at = self.session.at().to_string();
        for one in refused {
            if !self.p.set_aside {
                return Err(refusal(table, &one));
            }
            if first {
                letters.push(DeadLetter::refused(table, one, at.clone()));
            }
        }
        Ok(())
    }
}
