//! The document that `status --json` and `GET /api/v1/status` print, and the arithmetic in it. Pure but for [`handle`].
//!
//! Dashboards and scripts depend on these names. Add fields freely; do not rename or remove one.

pub mod handle;

use serde::{Deserialize, Serialize};

pub use handle::{StatusHandle, StreamUpdate};

/// Where a migration is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Connecting, checking, making the schema.
    #[default]
    Starting,
    /// Rows are being copied.
    Copying,
    /// The stream is being applied; the target is behind, or not yet consistent.
    Tailing,
    /// The target is consistent and level.
    Ready,
    /// Writes at the source are being stopped.
    Fencing,
    /// What was written before the fence is being applied.
    Draining,
    /// Both sides are being compared.
    Verifying,
    /// Past the point of no return.
    Switching,
    /// The target is in service.
    Switched,
    /// Nothing is left to do.
    Done,
    /// A cutover is being given up.
    Aborting,
    /// A cutover was given up; the source is in service.
    Aborted,
    /// Stopped by an error that waiting does not mend; see `last_error`.
    Failed,
}

impl Phase {
    /// Every phase, in the order of a migration's life.
    pub const ALL: [Phase; 13] = [
        Phase::Starting,
        Phase::Copying,
        Phase::Tailing,
        Phase::Ready,
        Phase::Fencing,
        Phase::Draining,
        Phase::Verifying,
        Phase::Switching,
        Phase::Switched,
        Phase::Done,
        Phase::Aborting,
        Phase::Aborted,
        Phase::Failed,
    ];
    /// Its name in documents and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Copying => "copying",
            Phase::Tailing => "tailing",
            Phase::Ready => "ready",
            Phase::Fencing => "fencing",
            Phase::Draining => "draining",
            Phase::Verifying => "verifying",
            Phase::Switching => "switching",
            Phase::Switched => "switched",
            Phase::Done => "done",
            Phase::Aborting => "aborting",
            Phase::Aborted => "aborted",
            Phase::Failed => "failed",
        }
    }
}

/// Which way changes flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Source to target.
    #[default]
    Forward,
    /// Target to source, after a switch.
    Reverse,
}

/// Engine and version of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// `postgres`, `mysql`, `mongo`; empty until connected.
    pub engine: String,
    /// As the server prints it.
    pub version: String,
    /// `host:port`, never credentials.
    #[serde(default)]
    pub address: String,
    /// The database within it.
    #[serde(default)]
    pub database: String,
}

/// How far one table's copy is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableState {
    /// Its turn has not come.
    #[default]
    Waiting,
    /// Rows are being copied.
    Copying,
    /// Its keys and indexes are being made.
    Indexing,
    /// Nothing is left to do.
    Done,
}

/// One table's copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableStatus {
    /// `schema.table`.
    pub name: String,
    /// Rows in the target.
    pub rows_copied: u64,
    /// Rows that the source's statistics promise; once done, what was copied.
    pub rows_estimated: u64,
    /// How far it is.
    pub state: TableState,
}

/// The copy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// 0 to 100. 100 only when every table is done.
    pub percent: f64,
    /// Sum over tables.
    pub rows_copied: u64,
    /// Sum over tables.
    pub rows_estimated: u64,
    /// Seconds left at the speed so far; `null` while that is unknown.
    pub eta_seconds: Option<u64>,
    /// Every table, in name order.
    pub tables: Vec<TableStatus>,
}

/// The stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    /// The log's end at the source.
    pub source_position: Option<String>,
    /// What the target has.
    pub applied_position: Option<String>,
    /// Whether the target is a state that the source once had.
    pub consistent: bool,
    /// See [`lag_seconds`].
    pub lag_seconds: Option<f64>,
    /// Bytes of log between the two positions.
    pub lag_bytes: Option<u64>,
    /// Applied over the last seconds.
    pub rows_per_second: f64,
    /// Since this daemon started.
    pub transactions_applied: u64,
    /// Since this daemon started.
    pub rows_applied: u64,
    /// Log that the source keeps for us.
    pub retained_log_bytes: u64,
    /// Changes that rules could not carry, set aside on the target.
    #[serde(default)]
    pub dead_letters: u64,
}

/// Verification; idle until that command exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verify {
    /// `idle`.
    pub state: String,
    /// A position, once something was verified.
    pub verified_to: Option<String>,
    /// Rows that differ.
    pub differences: u64,
}

/// The router; closed until it exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Router {
    /// `off`: clients connect to the servers themselves.
    pub state: String,
    /// Of its routes.
    pub epoch: u64,
    /// Connected clients.
    pub sessions: u64,
    /// Where writes go.
    pub primary: String,
    /// Where reads may go.
    pub replicas: Vec<serde_json::Value>,
    /// Since the start.
    pub reads_on_replicas: u64,
    /// Since the start.
    pub reads_on_primary: u64,
    /// Since the start.
    pub writes: u64,
}

/// A server that is being waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// `source` or `target`.
    pub side: String,
    /// What went wrong last.
    pub reason: String,
    /// When the wait began, seconds since the Unix epoch.
    pub since: f64,
    /// Attempts so far.
    pub attempts: u64,
}

/// The last error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastError {
    /// `retry`, `fatal`, `fenced`, `config`.
    pub class: String,
    /// What happened.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// When, seconds since the Unix epoch.
    pub at: f64,
}

/// The whole document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The migration's name.
    pub name: String,
    /// Where it is.
    pub phase: Phase,
    /// Which way changes flow.
    pub direction: Direction,
    /// Of the checkpoint; 0 until it was taken over.
    pub epoch: i64,
    /// Of this daemon.
    pub uptime_seconds: f64,
    /// Whether an operator paused it.
    pub paused: bool,
    /// Where rows come from.
    pub source: Server,
    /// Where rows go.
    pub target: Server,
    /// The copy.
    pub snapshot: Snapshot,
    /// The stream.
    pub stream: Stream,
    /// Verification.
    pub verify: Verify,
    /// The router.
    pub router: Router,
    /// The cutover that is under way.
    pub cutover: Option<serde_json::Value>,
    /// A server that is being waited for.
    pub waiting_for: Option<Waiting>,
    /// What an operator should know, oldest first.
    pub warnings: Vec<String>,
    /// The last error, kept when it is over.
    pub last_error: Option<LastError>,
}

impl Status {
    /// The document of a migration that has not begun.
    pub fn new(name: &str) -> Status {
        Status {
            name: name.to_owned(),
            phase: Phase::Starting,
            direction: Direction::Forward,
            epoch: 0,
            uptime_seconds: 0.0,
            paused: false,
            source: Server::default(),
            target: Server::default(),
            snapshot: Snapshot::default(),
            stream: Stream::default(),
            verify: Verify { state: "idle".into(), verified_to: None, differences: 0 },
            router: Router {
                state: "off".into(),
                epoch: 0,
                sessions: 0,
                primary: "source".into(),
                replicas: Vec::new(),
                reads_on_replicas: 0,
                reads_on_primary: 0,
                writes: 0,
            },
            cutover: None,
            waiting_for: None,
            warnings: Vec::new(),
            last_error: None,
        }
    }
}

/// Sums up the copy. `rate` is rows per second, where one is known.
///
/// Estimates are the statistics' word, so a table that has more rows than promised counts as promised, and the percentage
/// stays below 100 until every table is done.
pub fn summarize(mut tables: Vec<TableStatus>, rate: Option<f64>) -> Snapshot {
    let done = |t: &TableStatus| t.state == TableState::Done;
    for t in tables.iter_mut().filter(|t| done(t)) {
        t.rows_estimated = t.rows_copied;
    }
    let all_done = !tables.is_empty() && tables.iter().all(done);
    let rows_copied = tables.iter().map(|t| t.rows_copied).sum();
    let rows_estimated: u64 = tables.iter().map(|t| t.rows_estimated.max(t.rows_copied)).sum();
    let left = rows_estimated.saturating_sub(rows_copied);
    let percent = match rows_estimated {
        _ if all_done => 100.0,
        0 => 0.0,
        n => (100.0 * (rows_copied as f64) / (n as f64)).min(99.9),
    };
    let eta_seconds = match rate {
        _ if all_done => Some(0),
        Some(r) if r > 0.0 => Some((left as f64 / r).ceil() as u64),
        _ => None,
    };
    Snapshot { percent, rows_copied, rows_estimated, eta_seconds, tables }
}

/// The share of one table's rows that are copied, 0 to 100.
pub fn table_percent(table: &TableStatus) -> f64 {
    match (table.state, table.rows_estimated.max(table.rows_copied)) {
        (TableState::Done, _) => 100.0,
        (_, 0) => 0.0,
        (_, n) => (100.0 * (table.rows_copied as f64) / (n as f64)).min(99.9),
    }
}

/// Lag: zero when level, also on an idle source; else now minus the source commit time of the newest applied commit.
///
/// `now` and `committed_at` are microseconds since the Unix epoch by the source's clock. `None` while behind with nothing
/// applied yet, because there is no commit to measure from.
pub fn lag_seconds(level: bool, committed_at: Option<i64>, now: i64) -> Option<f64> {
    if level {
        return Some(0.0);
    }
    committed_at.map(|at| (now.saturating_sub(at)).max(0) as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows_copied: u64, rows_estimated: u64, state: TableState) -> TableStatus {
        TableStatus { name: "public.t".into(), rows_copied, rows_estimated, state }
    }

    #[test]
    fn given_tables_when_summed_up_then_only_done_is_a_hundred() {
        let s = summarize(vec![table(50, 100, TableState::Copying), table(0, 100, TableState::Waiting)], Some(10.0));
        assert_eq!((s.percent, s.rows_copied, s.rows_estimated, s.eta_seconds), (25.0, 50, 200, Some(15)));
        let s = summarize(vec![table(500, 100, TableState::Copying)], None);
        assert_eq!((s.percent, s.rows_estimated, s.eta_seconds), (99.9, 500, None));
        let s = summarize(vec![table(7, 100, TableState::Done), table(0, 0, TableState::Done)], None);
        assert_eq!((s.percent, s.rows_estimated, s.eta_seconds), (100.0, 7, Some(0)));
        assert_eq!(summarize(vec![], None).percent, 0.0);
        assert_eq!(table_percent(&table(1, 2, TableState::Copying)), 50.0);
    }

    #[test]
    fn given_positions_when_lag_is_asked_then_level_is_zero() {
        assert_eq!(lag_seconds(true, Some(0), 9_000_000), Some(0.0));
        assert_eq!(lag_seconds(false, Some(1_000_000), 3_500_000), Some(2.5));
        assert_eq!(lag_seconds(false, Some(5_000_000), 1), Some(0.0));
        assert_eq!(lag_seconds(false, None, 1), None);
    }

    #[test]
    fn given_a_new_status_when_printed_then_every_documented_field_is_there() {
        let json = serde_json::to_value(Status::new("shop")).unwrap();
        for path in [
            "/name",
            "/phase",
            "/direction",
            "/epoch",
            "/uptime_seconds",
            "/source/engine",
            "/source/version",
            "/target/engine",
            "/target/version",
            "/snapshot/percent",
            "/snapshot/rows_copied",
            "/snapshot/rows_estimated",
            "/snapshot/eta_seconds",
            "/snapshot/tables",
            "/stream/source_position",
            "/stream/applied_position",
            "/stream/consistent",
            "/stream/lag_seconds",
            "/stream/lag_bytes",
            "/stream/rows_per_second",
            "/stream/transactions_applied",
            "/stream/rows_applied",
            "/stream/retained_log_bytes",
            "/verify/state",
            "/verify/verified_to",
            "/verify/differences",
            "/router/state",
            "/router/epoch",
            "/router/sessions",
            "/router/primary",
            "/router/replicas",
            "/router/reads_on_replicas",
            "/router/reads_on_primary",
            "/router/writes",
            "/cutover",
            "/last_error",
            "/waiting_for",
            "/warnings",
        ] {
            assert!(json.pointer(path).is_some(), "{path}");
        }
        assert_eq!(json["phase"], "starting");
        for p in Phase::ALL {
            assert_eq!(serde_json::to_value(p).unwrap(), p.label());
        }
    }
}
