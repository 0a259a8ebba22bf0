//! Turns the log's events into jobs for the applier: whole transactions grouped, larger ones cut into pieces. Pure.
//!
//! The open transaction's events wait in `current` until its commit is seen, then join the batch; so a batch can be
//! handed over at any moment and always ends at a commit. A transaction that outgrows [`Limits::piece`] is handed over
//! in pieces without an end, which the applier keeps in one open target transaction.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::batch::{Batch, BatchEnd, Sets, Single, Step};
use super::dead::{Dead, FOLLOWS, refusal};
use crate::change::{Begin, Change, Ddl, DdlEffect, DeadLetter, Event, Refused};
use crate::error::{Error, Result};
use crate::position::Position;
use crate::schema::{Column, Table, TableId, TableName};
use crate::transform::Compiled;
use crate::transform::expr::Scratch;
use crate::transform::rules::{OnExisting, RuleSet};
use crate::transform::select::Selection;

/// Bounds in bytes of events.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A batch is closed at this size.
    pub batch: usize,
    /// A single transaction larger than this is applied in pieces of this size.
    pub piece: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { batch: 6 << 20, piece: 4 << 20 }
    }
}

/// A batch with its end.
#[derive(Debug, Default)]
pub struct Job {
    /// The changes.
    pub batch: Batch,
    /// Where it ends; `None` for a piece of a transaction that goes on.
    pub end: Option<BatchEnd>,
    /// Tokens of markers that are applied once this job has committed.
    pub markers: Vec<String>,
}

#[derive(Debug)]
struct Route {
    compiled: Arc<Compiled>,
    /// Transactions whose commit starts before this place are in the table's copy already.
    skip_before: Option<Position>,
}

/// A source's table as the target has it: its name, and the types of its columns.
pub type Adopt = Arc<dyn Fn(&Table) -> Result<Table> + Send + Sync>;

/// What the collector has to know before the first event.
#[derive(Default)]
pub struct Knowledge {
    /// Target tables by their name there.
    pub targets: HashMap<TableName, Table>,
    /// The source's tables.
    pub sources: Vec<TableName>,
    /// What becomes of their rows on the way.
    pub rules: RuleSet,
    /// Tables whose whole copy was made at a later snapshot than the log's start.
    pub skip_before: HashMap<TableName, Position>,
    /// Tables of the migration.
    pub selection: Selection,
    /// Where rows that a rule cannot carry, or that the target refuses, are set aside instead of stopping the stream: those
    /// that were.
    pub dead: Option<Dead>,
    /// How the target has a table of the source; `None` if as the source has it.
    pub adopt: Option<Adopt>,
    /// Whether the target is of another engine, which understands no statement of the source's.
    pub foreign: bool,
}

impl std::fmt::Debug for Knowledge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Knowledge").field("sources", &self.sources).finish_non_exhaustive()
    }
}

/// See the module.
#[derive(Debug)]
pub struct Collector {
    limits: Limits,
    knowledge: Knowledge,
    routes: HashMap<TableId, Route>,
    sources: HashMap<TableName, Arc<Table>>,
    /// Tables as a schema change left them, until the log describes them again.
    altered: HashMap<TableName, Arc<Table>>,
    /// Described by the log, and not on the target.
    absent: HashMap<TableId, TableName>,
    consistent_at: Position,
    begun: Option<Begin>,
    current: Vec<Event>,
    current_bytes: usize,
    /// The open transaction is applied in pieces.
    large: bool,
    building: Job,
    ready: VecDeque<Job>,
    ready_bytes: usize,
    heartbeat: Option<Position>,
    scratch: Scratch,
}

impl Collector {
    /// A collector for a stream that becomes strict at `consistent_at`.
    pub fn new(limits: Limits, knowledge: Knowledge, consistent_at: Position) -> Self {
        Collector {
            limits,
            knowledge,
            routes: HashMap::new(),
            sources: HashMap::new(),
            altered: HashMap::new(),
            absent: HashMap::new(),
            consistent_at,
            begun: None,
            current: Vec::new(),
            current_bytes: 0,
            large: false,
            building: Job::default(),
            ready: VecDeque::new(),
            ready_bytes: 0,
            heartbeat: None,
            scratch: Scratch::default(),
        }
    }

    /// Whether there is room for more events.
    pub fn wants_more(&self) -> bool {
        self.ready_bytes + self.building.batch.counts.bytes + self.current_bytes < self.limits.batch + self.limits.piece
            && self.ready.len() < 4
    }

    /// Whether received changes wait here.
    pub fn has_pending(&self) -> bool {
        !self.ready.is_empty() || self.building.end.is_some() || self.begun.is_some() || !self.building.batch.is_empty()
    }

    /// Takes one event.
    ///
    /// # Errors
    /// `Fatal` where the log cannot be followed: a table that the target has not, a broken change.
    pub fn event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Begin(b) => {
                self.begun = Some(b);
                Ok(())
            }
            Event::Heartbeat { position, .. } => {
                if self.begun.is_none() {
                    match &mut self.building.end {
                        Some(end) if position.reached(&end.position) => end.position = position,
                        Some(_) => {}
                        None => self.heartbeat = Some(position),
                    }
                }
                Ok(())
            }
            Event::Commit(c) => {
                // A transaction that may change a table is a batch of its own: where such a change cannot be one
                // transaction with rows, what was committed is told by the transaction.
                let alone = self.current.iter().any(|e| match e {
                    Event::Ddl(_) => true,
                    Event::Schema(table) => self.announces(table),
                    _ => false,
                });
                if alone && !self.large && self.building.end.is_some() {
                    self.close();
                }
                self.drain()?;
                self.begun = None;
                self.heartbeat = None;
                self.building.batch.counts.transactions += 1;
                self.building.end =
                    Some(BatchEnd { position: c.end, committed_at: Some(c.committed_at), consistent_at: None });
                if alone || self.large || self.building.batch.counts.bytes >= self.limits.batch {
                    self.close();
                }
                self.large = false;
                Ok(())
            }
            other => {
                self.current_bytes += other.bytes();
                self.current.push(other);
                if self.current_bytes < self.limits.piece {
                    return Ok(());
                }
                if !self.large {
                    // What is complete must not wait for the large transaction's commit.
                    if self.building.end.is_some() {
                        self.close();
                    }
                    self.large = true;
                }
                self.drain()?;
                self.close();
                Ok(())
            }
        }
    }

    /// The next job, if a whole batch or a piece is there.
    pub fn take(&mut self) -> Option<Job> {
        if let Some(job) = self.ready.pop_front() {
            self.ready_bytes -= job.batch.counts.bytes;
            return Some(job);
        }
        if self.building.end.is_some() {
            return Some(std::mem::take(&mut self.building));
        }
        None
    }

    /// A place in the log that was reached without anything to apply, if nothing waits before it.
    pub fn idle_at(&self) -> Option<&Position> {
        if self.has_pending() { None } else { self.heartbeat.as_ref() }
    }

    /// A re-read row is newer than its place in the log: stay convergent until there.
    pub fn stay_convergent_until(&mut self, at: &Position) {
        if !self.consistent_at.reached(at) {
            self.consistent_at = at.clone();
        }
        for job in &mut self.ready {
            job.batch.convergent = true;
        }
        self.building.batch.convergent = true;
    }

    /// The target refused changes of these rows: what follows is set aside, too.
    pub fn follow(&mut self, refused: Dead) {
        if let Some(dead) = &mut self.knowledge.dead {
            dead.merge(refused);
        }
    }

    /// From here on apply is strict.
    pub fn consistent_at(&self) -> &Position {
        &self.consistent_at
    }

    fn close(&mut self) {
        let job = std::mem::take(&mut self.building);
        self.ready_bytes += job.batch.counts.bytes;
        self.ready.push_back(job);
    }

    fn drain(&mut self) -> Result<()> {
        let Some(begun) = self.begun.clone() else {
            if self.current.is_empty() {
                return Ok(());
            }
            return Err(Error::fatal("the log holds changes outside a transaction"));
        };
        let convergent = !begun.commit_start.reached(&self.consistent_at);
        if self.building.end.is_some() && self.building.batch.convergent != convergent {
            self.close();
        }
        self.building.batch.convergent = convergent;
        self.building.batch.counts.bytes += self.current_bytes;
        self.current_bytes = 0;
        let mut events = std::mem::take(&mut self.current);
        let at = Arc::new(begun.commit_start.clone());
        for event in events.drain(..) {
            self.join(event, &begun, &at)?;
        }
        self.current = events;
        Ok(())
    }

    /// A row that does not fit: set aside with what follows it, or a stop.
    fn refused(&mut self, refused: Refused, begun: &Begin, at: &Arc<Position>) -> Result<()> {
        let Some(route) = self.routes.get(&refused.table) else { return Ok(()) };
        if route.skip_before.as_ref().is_some_and(|at| begun.is_in(at)) {
            return Ok(());
        }
        let source = &route.compiled.source;
        let Some(dead) = &mut self.knowledge.dead else { return Err(refusal(source, &refused)) };
        let letter = DeadLetter::refused(source, refused, at.to_string());
        if let Some(key) = &letter.key {
            dead.insert(source.name.clone(), key.clone());
        }
        self.building.batch.set_aside.push(letter);
        Ok(())
    }

    fn join(&mut self, event: Event, begun: &Begin, at: &Arc<Position>) -> Result<()> {
        let in_copy = |r: &Route| r.skip_before.as_ref().is_some_and(|at| begun.is_in(at));
        match event {
            Event::Change(change) => {
                let Some(route) = self.routes.get(&change.table) else {
                    if let Some(name) = self.absent.get(&change.table) {
                        if !self.knowledge.selection.selects(name) {
                            // Excluded after it was published.
                            return Ok(());
                        }
                        return Err(Error::fatal(format!(
                            "{name}: the log holds changes of this table, but the target has no such table"
                        ))
                        .hint("exclude the table, or make it on the target as the source has it; then start again"));
                    }
                    return Err(Error::fatal(format!(
                        "the log changes table number {} before describing it",
                        change.table.0
                    )));
                };
                if in_copy(route) {
                    return Ok(());
                }
                let batch = &mut self.building.batch;
                match &mut self.knowledge.dead {
                    Some(dead) => carry_or_set_aside(batch, &route.compiled, change, &mut self.scratch, dead, at),
                    None => batch.change(&route.compiled, change, &mut self.scratch),
                }
            }
            Event::Refused(refused) => self.refused(*refused, begun, at),
            Event::Schema(table) => self.schema(table),
            Event::Truncate { tables, restart_identity } => {
                let mut emptied: Vec<Arc<Table>> = Vec::new();
                for route in tables.iter().filter_map(|t| self.routes.get(t)).filter(|r| !in_copy(r)) {
                    for output in &route.compiled.outputs {
                        if !output.alone || output.on_existing != OnExisting::Error {
                            return Err(merged_truncate(&route.compiled.source.name, &output.target.name));
                        }
                        emptied.push(output.target.clone());
                    }
                }
                let tables = emptied;
                if !tables.is_empty() {
                    self.building.batch.barrier(Step::Truncate { tables, restart_identity });
                }
                Ok(())
            }
            Event::Ddl(ddl) => {
                if let DdlEffect::Emptied { path, .. } = &ddl.effect
                    && let Some(root) = path.last()
                    && let Some(at) = self.knowledge.skip_before.get(&root.parent)
                    && begun.is_in(at)
                {
                    return Ok(());
                }
                self.ddl(ddl)
            }
            Event::Marker { token } => {
                self.building.markers.push(token);
                Ok(())
            }
            Event::Begin(_) | Event::Commit(_) | Event::Heartbeat { .. } => Ok(()),
        }
    }

    /// Whether the log's description of a table is the first that says of some column.
    fn announces(&self, table: &Table) -> bool {
        let target = self.knowledge.targets.get(&self.knowledge.rules.homes().table(&table.name));
        target.is_some_and(|t| {
            let known = |c: &str| t.column(c).is_some() || t.generated.iter().any(|g| g.name == c);
            table.columns.iter().any(|c| !known(&c.name))
        })
    }

    /// The log describes a table. Where nobody announced a column that the target lacks (no DDL trigger at the source),
    /// the description itself is the announcement.
    fn schema(&mut self, table: Arc<Table>) -> Result<()> {
        let name = table.name.clone();
        let unchanged =
            self.sources.get(&name).is_some_and(|t| t.columns == table.columns && t.identity == table.identity);
        if unchanged && self.routes.contains_key(&table.id) {
            return Ok(());
        }
        let selected = self.knowledge.selection.selects(&name);
        if selected && self.knowledge.rules.concern(&name) {
            return self.reshaped(table);
        }
        let home = self.knowledge.rules.homes().table(&name);
        let Some(target) = self.knowledge.targets.get(&home).filter(|_| selected) else {
            // No error yet: pgoutput describes a partition, too, before it sends the partition's changes as its root's.
            self.absent.insert(table.id, name);
            return Ok(());
        };
        let known = |c: &str| target.column(c).is_some() || target.generated.iter().any(|g| g.name == c);
        if table.columns.iter().any(|c| !known(&c.name)) {
            // With the table as it is taken for what it was, the target judges by what it has itself.
            self.altered.remove(&name);
            self.sources.insert(name.clone(), table.clone());
            let has_default = table.columns.iter().any(|c| !known(&c.name) && c.default.is_some());
            let before = self.building.batch.steps.len();
            self.ddl(Box::new(Ddl {
                tag: "ALTER TABLE".into(),
                statement: format!("ALTER TABLE {name} … (seen in the log only: the source has no DDL trigger)"),
                object: name.to_string(),
                // What existing rows got for a default is told by the trigger alone.
                effect: DdlEffect::Table { after: table.clone(), missing_values: Vec::new(), rewritten: has_default },
                before: None,
            }))?;
            // Rows before it do without the columns. In front of them it leaves nothing half done where it commits by
            // itself, and nobody announces it again after a crash.
            let steps = &mut self.building.batch.steps;
            if steps.len() == before + 1 && !steps[..before].iter().any(|s| matches!(s, Step::Ddl { .. })) {
                steps.rotate_right(1);
            }
        }
        let Some(target) = self.knowledge.targets.get(&home) else { return Ok(()) };
        let known = &self.knowledge;
        let compiled = Compiled::new(&table, target)?.beside(&known.rules, &home, &known.sources);
        self.route(table, compiled);
        Ok(())
    }

    /// A table whose rows rules reshape. Where the target cannot hold what they make of it now, the stream stops here.
    fn reshaped(&mut self, table: Arc<Table>) -> Result<()> {
        let known = &self.knowledge;
        let targets = |name: &TableName| known.targets.get(name).cloned().map(Arc::new);
        let compiled = Compiled::with_rules(&known.rules, &table, &known.sources, &targets)?;
        self.route(table, compiled);
        Ok(())
    }

    fn route(&mut self, table: Arc<Table>, compiled: Compiled) {
        // Rows of the old shape and rows of the new shape must not share a set.
        self.building.batch.barrier(Step::Sets(Sets::default()));
        let skip_before = self.knowledge.skip_before.get(&table.name).cloned();
        self.routes.insert(table.id, Route { compiled: Arc::new(compiled), skip_before });
        self.altered.remove(&table.name);
        self.sources.insert(table.name.clone(), table);
    }

    fn ddl(&mut self, ddl: Box<Ddl>) -> Result<()> {
        let name = match &ddl.effect {
            DdlEffect::Table { after, .. } => Some(after.name.clone()),
            DdlEffect::Index { table, .. } | DdlEffect::Dropped { table } | DdlEffect::Unfollowed { table, .. } => {
                Some(table.clone())
            }
            DdlEffect::Partitions { root, .. } => Some(root.clone()),
            DdlEffect::Emptied { path, .. } => path.last().map(|p| p.parent.clone()),
            DdlEffect::Undone { table, .. } => table.clone(),
            DdlEffect::PartitionDropped { .. }
            | DdlEffect::Type { .. }
            | DdlEffect::Sequence { .. }
            | DdlEffect::Other => None,
        };
        if name.as_ref().is_some_and(|n| !self.knowledge.selection.selects(n)) {
            return Ok(());
        }
        if let Some(name) = name.as_ref().filter(|n| self.knowledge.rules.concern(n)) {
            return self.reshaped_ddl(name, &ddl);
        }
        let known = |n: &TableName| self.altered.get(n).or_else(|| self.sources.get(n)).cloned();
        let before = name.as_ref().and_then(known);
        // Where nothing was seen of the table since the start, the source's own idea is taken if the target agrees with it; else
        // the target's columns say what was there at this place of the log.
        let before = match (&ddl.effect, before) {
            (DdlEffect::Table { after, .. }, None) if self.consistent_at.lsn().is_none() => {
                match self.knowledge.targets.get(&self.knowledge.rules.homes().table(&after.name)) {
                    None => None,
                    Some(target) => {
                        Some(Arc::new(by_names(ddl.before.as_deref().unwrap_or(after), after, target, &ddl)?))
                    }
                }
            }
            (_, Some(known)) => Some(known),
            (_, None) => name.as_ref().and_then(|n| self.as_source(n)),
        };
        if let DdlEffect::Table { after, .. } = &ddl.effect {
            // Two changes without a row between them: the second begins where the first ended.
            self.altered.insert(after.name.clone(), after.clone());
        }
        let (ddl, before) = match &self.knowledge.adopt {
            Some(adopt) => adopted(adopt, self.knowledge.foreign, &self.knowledge.rules, ddl, before)?,
            None => (ddl, before),
        };
        let before = match (&ddl.effect, before) {
            // A column that the catalog had lost when it was described cannot be told from a renamed one by its number.
            (DdlEffect::Table { after, .. }, Some(b)) if b.columns.iter().any(|c| c.number < 0) => Some(after.clone()),
            (_, before) => before,
        };
        if let DdlEffect::Table { after, .. } = &ddl.effect {
            // The target will have these columns by the time anything is written into them.
            let partitioned = self.knowledge.targets.get(&after.name).map_or(after.partitioned, |t| t.partitioned);
            self.knowledge.targets.insert(after.name.clone(), Table { partitioned, ..(**after).clone() });
        }
        self.building.batch.barrier(Step::Ddl { ddl, before });
        Ok(())
    }

    /// A schema change of a table whose rows rules reshape: the target's table has a shape of its own, so nothing is
    /// repeated there. What the rules cannot carry any more is told by the table's next description; what gave rows new
    /// values without saying so in the log must be told here.
    fn reshaped_ddl(&self, name: &TableName, ddl: &Ddl) -> Result<()> {
        if let DdlEffect::Emptied { table, .. } = &ddl.effect {
            return Err(Error::fatal(format!(
                "partition {table} of {name} was truncated, and rules reshape the table's rows"
            ))
            .with_code("switchyard:truncate")
            .hint(
                "delete the partition's rows with DELETE at the source instead; to go on here, copy the migration anew",
            ));
        }
        let DdlEffect::Table { missing_values, rewritten, .. } = &ddl.effect else { return Ok(()) };
        let carried = |c: &String| self.knowledge.rules.of(name).any(|r| !r.rule.drop.contains(c));
        let added = missing_values.iter().map(|(c, _)| c).find(|c| carried(c));
        if !rewritten && added.is_none() {
            return Ok(());
        }
        let what = match added {
            Some(c) => format!("column {c:?} got a default that rows which are there already have, too"),
            None => "its rows were rewritten".to_owned(),
        };
        Err(Error::fatal(format!("{name}: {what}, and rules reshape this table ({})", ddl.tag))
            .with_code("switchyard:ddl")
            .hint("drop the column in the table's rules if it is not wanted; else copy the migration anew"))
    }

    /// A table that the log has not described yet looks as the target has it.
    fn as_source(&self, name: &TableName) -> Option<Arc<Table>> {
        self.knowledge.targets.get(name).cloned().map(Arc::new)
    }
}

/// The source's table before a change: as the source's catalog has it (`known`, which may be later than the log's place), as far
/// as the target, which is at that place, has its columns. Types are taken for what the catalog says.
///
/// # Errors
/// `Fatal` where a column may have been renamed, or dropped and another one added: the names do not say which.
fn by_names(known: &Table, after: &Table, target: &Table, ddl: &Ddl) -> Result<Table> {
    let later = known.columns.iter().find(|c| target.column(&c.name).is_none());
    let gone: Vec<&Column> = target.columns.iter().filter(|c| known.column(&c.name).is_none()).collect();
    if let (Some(new), Some(old)) = (later, gone.first()) {
        return Err(Error::fatal(format!(
            "{}: the table was changed more than once while nothing followed it, and the target's column {} may be what the source calls {} now",
            after.name, old.name, new.name
        ))
        .with_code("switchyard:ddl")
        .hint(format!(
            "rename or drop the target's columns that the source has no more, as the source did ({}), then start again; or copy the migration anew",
            ddl.tag
        )));
    }
    let mut columns: Vec<Column> = known.columns.iter().filter(|c| target.column(&c.name).is_some()).cloned().collect();
    let numbers = [known, after].into_iter().flat_map(|t| t.columns.iter().chain(&t.generated)).map(|c| c.number);
    let free = numbers.max().unwrap_or(0) + 1;
    columns.extend((free..).zip(gone).map(|(number, old)| Column { number, ..old.clone() }));
    Ok(Table { name: after.name.clone(), ..known.with_columns(columns) })
}

/// A schema change in the target's names and types.
fn adopted(
    adopt: &Adopt,
    foreign: bool,
    rules: &RuleSet,
    mut ddl: Box<Ddl>,
    before: Option<Arc<Table>>,
) -> Result<(Box<Ddl>, Option<Arc<Table>>)> {
    let before = before.map(|b| adopt(&b).map(Arc::new)).transpose()?;
    let effect = std::mem::replace(&mut ddl.effect, DdlEffect::Other);
    ddl.effect = match effect {
        DdlEffect::Table { after, missing_values, rewritten } => {
            DdlEffect::Table { after: Arc::new(adopt(&after)?), missing_values, rewritten }
        }
        DdlEffect::Dropped { table } => DdlEffect::Dropped { table: rules.homes().table(&table) },
        DdlEffect::Unfollowed { table, why } if foreign => {
            return Err(Error::fatal(format!("{table}: {why}: the source ran {} {}", ddl.tag, ddl.object))
                .with_code("switchyard:ddl")
                .hint("leave the table out with tables.exclude and start again; to have it, begin anew: `switchyard finish`, empty the target's tables, run"));
        }
        DdlEffect::Unfollowed { table, why } => DdlEffect::Unfollowed { table, why },
        DdlEffect::Emptied { table, path } if foreign => {
            let root = path.last().map(|p| p.parent.to_string()).unwrap_or_default();
            return Err(Error::fatal(format!(
                "partition {table} of {root} was truncated, and the target knows no such partition"
            ))
            .with_code("switchyard:truncate")
            .hint(
                "delete the partition's rows with DELETE at the source instead; to go on here, copy the migration anew",
            ));
        }
        // Statements of the source's dialect: said, not repeated.
        _ if foreign => DdlEffect::Other,
        other => other,
    };
    Ok((ddl, before))
}

/// Carries a change, or sets it aside with all that follow it for the same row: a later one would meet a row that is not
/// as the source has it.
fn carry_or_set_aside(
    batch: &mut Batch,
    compiled: &Arc<Compiled>,
    change: Change,
    scratch: &mut Scratch,
    dead: &mut Dead,
    at: &Arc<Position>,
) -> Result<()> {
    let source = &compiled.source;
    let message = if dead.holds(source, &change) {
        FOLLOWS.to_owned()
    } else {
        match batch.change(compiled, change.clone(), scratch) {
            Ok(()) => {
                batch.keep(Single { compiled: compiled.clone(), change, at: at.clone() });
                return Ok(());
            }
            Err(e) if e.code() == Some("switchyard:rule") => e.message().to_owned(),
            Err(e) => return Err(e),
        }
    };
    dead.add(source, &change);
    batch.set_aside.push(DeadLetter::new(source, &change, at.to_string(), message));
    Ok(())
}

fn merged_truncate(source: &TableName, target: &TableName) -> Error {
    Error::fatal(format!("{source} was truncated at the source, and {target} holds rows of other tables, too"))
        .with_code("switchyard:truncate")
        .hint("delete the rows with DELETE at the source instead; to go on here, delete what came from this table on the target by hand and copy the migration anew")
}

#[cfg(test)]
#[path = "collect_tests.rs"]
mod tests;
