//! The shared status of a running daemon: the pipeline writes, the API and the progress display read.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use super::{Direction, LastError, Phase, Server, Status, TableState, TableStatus, Waiting, lag_seconds, summarize};
use crate::error::Error;
use crate::position::Position;
use crate::schema::ServerInfo;

/// Speeds are averages over this long.
const WINDOW: Duration = Duration::from_secs(5);
/// Speed of the copy, for the ETA: longer, so that it does not jump.
const COPY_WINDOW: Duration = Duration::from_secs(30);
/// Warnings kept.
const WARNINGS: usize = 50;

/// Cheap to clone; every clone is the same status.
#[derive(Clone)]
pub struct StatusHandle {
    shared: Arc<Shared>,
}

struct Shared {
    state: RwLock<State>,
    started: Instant,
    paused: watch::Sender<bool>,
}

struct State {
    status: Status,
    tables: BTreeMap<String, TableStatus>,
    level: bool,
    committed_at: Option<i64>,
    clock_offset: i64,
    copied: Rate,
    applied: Rate,
}

/// What the pipeline knows about the stream. Fields that are `None` keep their value.
#[derive(Clone, Debug, Default)]
pub struct StreamUpdate {
    /// The log's end at the source.
    pub source_position: Option<Position>,
    /// What the target has.
    pub applied_position: Option<Position>,
    /// Whether the target is a state that the source once had.
    pub consistent: Option<bool>,
    /// Whether everything that the source committed to selected tables is applied.
    pub level: Option<bool>,
    /// When the newest applied transaction committed; microseconds since the Unix epoch by the source's clock.
    pub committed_at: Option<i64>,
    /// Log that the source keeps for us, bytes.
    pub retained_log_bytes: Option<u64>,
}

impl StatusHandle {
    /// The status of a migration that has not begun.
    pub fn new(name: &str) -> StatusHandle {
        let state = State {
            status: Status::new(name),
            tables: BTreeMap::new(),
            level: false,
            committed_at: None,
            clock_offset: 0,
            copied: Rate::new(COPY_WINDOW),
            applied: Rate::new(WINDOW),
        };
        let shared = Shared { state: RwLock::new(state), started: Instant::now(), paused: watch::Sender::new(false) };
        StatusHandle { shared: Arc::new(shared) }
    }

    /// The whole document as it is now.
    pub fn get(&self) -> Status {
        let now = Instant::now();
        let state = self.read();
        let mut out = state.status.clone();
        out.uptime_seconds = now.duration_since(self.shared.started).as_secs_f64();
        out.paused = *self.shared.paused.borrow();
        out.snapshot = summarize(state.tables.values().cloned().collect(), state.copied.per_second(now));
        out.stream.rows_per_second = state.applied.per_second(now).unwrap_or(0.0);
        out.stream.lag_seconds = match out.phase {
            // Nothing is being followed yet.
            Phase::Starting | Phase::Copying if state.committed_at.is_none() => None,
            _ => lag_seconds(state.level, state.committed_at, unix_micros() + state.clock_offset),
        };
        out
    }

    /// Where the migration is now. Leaving [`Phase::Failed`] is possible only by starting again.
    pub fn set_phase(&self, phase: Phase) {
        self.write().status.phase = phase;
    }

    /// Where the migration is.
    pub fn phase(&self) -> Phase {
        self.read().status.phase
    }

    /// Which way changes flow.
    pub fn set_direction(&self, direction: Direction) {
        self.write().status.direction = direction;
    }

    /// The checkpoint's epoch.
    pub fn set_epoch(&self, epoch: i64) {
        self.write().status.epoch = epoch;
    }

    /// Who the source is.
    pub fn set_source(&self, server: &ServerInfo) {
        self.write().status.source = server.into();
    }

    /// Who the target is.
    pub fn set_target(&self, server: &ServerInfo) {
        self.write().status.target = server.into();
    }

    /// One table's copy. Unknown names are added. `rows_copied` is the total, rows of earlier runs included.
    pub fn update_table(&self, name: &str, rows_copied: u64, rows_estimated: u64, state: TableState) {
        let mut guard = self.write();
        let inner = &mut *guard;
        let new = TableStatus { name: name.to_owned(), rows_copied, rows_estimated, state };
        let before = inner.tables.insert(name.to_owned(), new);
        // Rows of an earlier run, told by the first update, are no speed of this one.
        let more = before.map_or(0, |b| rows_copied.saturating_sub(b.rows_copied));
        inner.copied.add(more, Instant::now());
    }

    /// More rows of a table that [`StatusHandle::update_table`] told of before.
    pub fn add_rows_copied(&self, name: &str, rows: u64) {
        let mut guard = self.write();
        let inner = &mut *guard;
        if let Some(t) = inner.tables.get_mut(name) {
            t.rows_copied += rows;
            if t.state == TableState::Waiting {
                t.state = TableState::Copying;
            }
            inner.copied.add(rows, Instant::now());
        }
    }

    /// How far a table is; its rows stay as they are.
    pub fn set_table_state(&self, name: &str, state: TableState) {
        if let Some(t) = self.write().tables.get_mut(name) {
            t.state = state;
        }
    }

    /// A table that no longer takes part.
    pub fn remove_table(&self, name: &str) {
        self.write().tables.remove(name);
    }

    /// Positions and what follows from them.
    pub fn set_stream(&self, update: StreamUpdate) {
        let mut guard = self.write();
        let inner = &mut *guard;
        let lag_bytes = match (&update.applied_position, &update.source_position) {
            (Some(a), Some(s)) => a.bytes_until(s),
            (Some(a), None) => bytes_between(&a.to_string(), inner.status.stream.source_position.as_deref()),
            (None, Some(s)) => bytes_between_text(inner.status.stream.applied_position.as_deref(), &s.to_string()),
            (None, None) => inner.status.stream.lag_bytes,
        };
        let stream = &mut inner.status.stream;
        stream.lag_bytes = lag_bytes;
        if let Some(p) = update.source_position {
            stream.source_position = Some(p.to_string());
        }
        if let Some(p) = update.applied_position {
            stream.applied_position = Some(p.to_string());
        }
        if let Some(c) = update.consistent {
            stream.consistent = c;
        }
        if let Some(b) = update.retained_log_bytes {
            stream.retained_log_bytes = b;
        }
        inner.level = update.level.unwrap_or(inner.level);
        inner.committed_at = update.committed_at.or(inner.committed_at);
    }

    /// Rows and transactions of a batch that was committed.
    pub fn add_applied(&self, transactions: u64, rows: u64) {
        let mut guard = self.write();
        guard.status.stream.transactions_applied += transactions;
        guard.status.stream.rows_applied += rows;
        guard.applied.add(rows, Instant::now());
    }

    /// So many changes lie aside on the target.
    pub fn set_dead_letters(&self, all: u64) {
        self.write().status.stream.dead_letters = all;
    }

    /// So many more were set aside.
    pub fn add_dead_letters(&self, more: u64) {
        self.write().status.stream.dead_letters += more;
    }

    /// The source's clock (microseconds since the Unix epoch) read just now, so that lag is measured by one clock.
    pub fn set_source_clock(&self, now: i64) {
        self.write().clock_offset = now - unix_micros();
    }

    /// A server does not answer and is being waited for. Repeated calls for the same side count attempts.
    pub fn set_waiting(&self, side: &str, reason: &Error) {
        let mut guard = self.write();
        let waiting = &mut guard.status.waiting_for;
        match waiting {
            Some(w) if w.side == side => {
                w.attempts += 1;
                w.reason = reason.message().to_owned();
            }
            _ => {
                *waiting = Some(Waiting {
                    side: side.to_owned(),
                    reason: reason.message().to_owned(),
                    since: unix_micros() as f64 / 1e6,
                    attempts: 1,
                });
            }
        }
        guard.status.last_error = Some(last_error(reason));
    }

    /// The server that was waited for is back.
    pub fn clear_waiting(&self) {
        let mut guard = self.write();
        if guard.status.waiting_for.is_some() {
            guard.status.waiting_for = None;
        }
    }

    /// Notes an error. The phase becomes [`Phase::Failed`] unless the error is of class `Retry`.
    pub fn set_error(&self, e: &Error) {
        let mut guard = self.write();
        guard.status.last_error = Some(last_error(e));
        if !e.is_retry() {
            guard.status.phase = Phase::Failed;
        }
    }

    /// Something that an operator should know. The same sentence is kept once; the oldest go first.
    pub fn add_warning(&self, warning: impl Into<String>) {
        let warning = warning.into();
        let warnings = &mut self.write().status.warnings;
        if !warnings.contains(&warning) {
            warnings.push(warning);
            if warnings.len() > WARNINGS {
                warnings.remove(0);
            }
        }
    }

    /// Whether an operator wants the daemon to hold still: `true` while paused. The pipeline awaits changes of it.
    pub fn paused(&self) -> watch::Receiver<bool> {
        self.shared.paused.subscribe()
    }

    /// Pauses or resumes. Returns whether that changed anything.
    pub fn set_paused(&self, paused: bool) -> bool {
        self.shared.paused.send_replace(paused) != paused
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        // A writer that panicked half-way left numbers, not broken structures: they may still be shown.
        self.shared.state.read().unwrap_or_else(|e| e.into_inner())
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.shared.state.write().unwrap_or_else(|e| e.into_inner())
    }
}

impl From<&ServerInfo> for Server {
    fn from(s: &ServerInfo) -> Server {
        Server {
            engine: s.engine.clone(),
            version: s.version.clone(),
            address: s.address.clone(),
            database: s.database.clone(),
        }
    }
}

fn last_error(e: &Error) -> LastError {
    LastError {
        class: e.class().label().to_owned(),
        message: e.message().to_owned(),
        hint: e.hint_text().map(str::to_owned),
        at: unix_micros() as f64 / 1e6,
    }
}

fn bytes_between(applied: &str, source: Option<&str>) -> Option<u64> {
    bytes_between_text(Some(applied), source?)
}

fn bytes_between_text(applied: Option<&str>, source: &str) -> Option<u64> {
    let applied: Position = applied?.parse().ok()?;
    applied.bytes_until(&source.parse().ok()?)
}

fn unix_micros() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}

/// A moving average: totals at moments of the last seconds.
struct Rate {
    window: Duration,
    total: u64,
    samples: VecDeque<(Instant, u64)>,
}

impl Rate {
    fn new(window: Duration) -> Rate {
        Rate { window, total: 0, samples: VecDeque::new() }
    }

    fn add(&mut self, rows: u64, now: Instant) {
        if self.samples.is_empty() {
            self.samples.push_back((now, self.total));
        }
        self.total += rows;
        let step = self.window / 50;
        match self.samples.back_mut() {
            // Close samples become one, so that the list stays short however often it is called. The first stays: it is
            // where the window begins.
            Some((at, total)) if now.duration_since(*at) < step && *total != 0 => *total = self.total,
            _ => self.samples.push_back((now, self.total)),
        }
        while self.samples.len() > 2 && now.duration_since(self.samples[1].0) > self.window {
            self.samples.pop_front();
        }
    }

    /// `None` until there is something to divide.
    fn per_second(&self, now: Instant) -> Option<f64> {
        let first = self.samples.iter().find(|(at, _)| now.duration_since(*at) <= self.window);
        match first.or(self.samples.back()) {
            Some((at, total)) => {
                let seconds = now.duration_since(*at).as_secs_f64().max(0.2);
                Some((self.total - total) as f64 / seconds)
            }
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Lsn;

    #[test]
    fn given_rows_over_time_when_averaged_then_old_ones_do_not_count() {
        let t = Instant::now();
        let mut r = Rate::new(Duration::from_secs(5));
        assert_eq!(r.per_second(t), None);
        for i in 0..=20 {
            r.add(100, t + Duration::from_millis(500 * i));
        }
        let now = t + Duration::from_secs(10);
        let rate = r.per_second(now).unwrap();
        assert!((190.0..=210.0).contains(&rate), "{rate}");
        assert!(r.samples.len() < 20);
        assert_eq!(r.per_second(now + Duration::from_secs(60)), Some(0.0));
    }

    #[test]
    fn given_updates_when_read_then_the_document_holds_them() {
        let h = StatusHandle::new("shop");
        h.set_phase(Phase::Tailing);
        h.update_table("public.a", 5, 10, TableState::Copying);
        h.set_stream(StreamUpdate { source_position: Some(Position::Lsn(Lsn(100))), ..Default::default() });
        h.set_stream(StreamUpdate {
            applied_position: Some(Position::Lsn(Lsn(40))),
            committed_at: Some(unix_micros() - 2_000_000),
            ..Default::default()
        });
        h.add_applied(1, 7);
        h.set_waiting("source", &Error::retry("refused"));
        h.set_waiting("source", &Error::retry("refused again"));
        let s = h.get();
        assert_eq!(s.stream.lag_bytes, Some(60));
        assert!(s.stream.lag_seconds.is_some_and(|l| (1.9..10.0).contains(&l)));
        assert_eq!((s.stream.transactions_applied, s.stream.rows_applied), (1, 7));
        assert_eq!(s.waiting_for.as_ref().map(|w| w.attempts), Some(2));
        assert_eq!(s.snapshot.percent, 50.0);
        h.set_stream(StreamUpdate { level: Some(true), ..Default::default() });
        h.clear_waiting();
        let s = h.get();
        assert_eq!(s.stream.lag_seconds, Some(0.0));
        assert!(s.waiting_for.is_none() && s.last_error.is_some());
        assert!(h.set_paused(true) && !h.set_paused(true) && *h.paused().borrow());
    }
}
