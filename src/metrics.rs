//! Counters that the pipeline raises. Cheap to clone and to raise; how they are printed is [`crate::http::metrics`]'s matter.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::error::Class;

type Labels = Vec<(&'static str, String)>;

/// Upper bounds of the buckets for how long a server took, in seconds: 1 ms to 10 s.
const QUERY_BUCKETS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Which server a session belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where rows come from.
    Source,
    /// Where they go.
    Target,
}

type Durations = Family<Labels, Histogram, fn() -> Histogram>;

/// What is known of one server: its places in the families, looked up once.
struct Server {
    durations: Histogram,
    size: Gauge,
    available: Gauge,
    waiting: Gauge,
}

impl Server {
    fn new(side: &str, durations: &Durations, connections: &Family<Labels, Gauge>) -> Server {
        let side = ("side", side.to_owned());
        let state = |state: &str| connections.get_or_create(&vec![side.clone(), ("state", state.to_owned())]).clone();
        Server {
            size: state("size"),
            available: state("available"),
            waiting: state("waiting"),
            durations: durations.get_or_create(&vec![side]).clone(),
        }
    }
}

/// The counters of one daemon. Every clone raises the same ones.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    rows_copied: Family<Labels, Counter>,
    rows_applied: Family<Labels, Counter>,
    transactions_applied: Counter,
    batch_rows: Histogram,
    durations: Durations,
    connections: Family<Labels, Gauge>,
    source: Server,
    target: Server,
    errors: Family<Labels, Counter>,
}

/// Applied rows of one table, by what happened to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppliedRows {
    /// Inserted.
    pub inserts: u64,
    /// Updated, changed keys included.
    pub updates: u64,
    /// Deleted.
    pub deletes: u64,
    /// Truncates of the table.
    pub truncates: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All zero.
    pub fn new() -> Metrics {
        let errors = Family::<Labels, Counter>::default();
        for class in [Class::Retry, Class::Fatal, Class::Fenced, Class::Config] {
            // Present from the start, so that an alert on their rate sees the first one.
            drop(errors.get_or_create(&vec![("class", class.label().to_owned())]));
        }
        let durations: Durations = Family::new_with_constructor(|| Histogram::new(QUERY_BUCKETS));
        let connections = Family::default();
        Metrics {
            inner: Arc::new(Inner {
                rows_copied: Family::default(),
                rows_applied: Family::default(),
                transactions_applied: Counter::default(),
                batch_rows: Histogram::new(exponential_buckets(1.0, 4.0, 10)),
                source: Server::new("source", &durations, &connections),
                target: Server::new("target", &durations, &connections),
                durations,
                connections,
                errors,
            }),
        }
    }

    /// Rows of a table's copy that were committed.
    pub fn rows_copied(&self, table: &str, rows: u64) {
        self.inner.rows_copied.get_or_create(&vec![("table", table.to_owned())]).inc_by(rows);
    }

    /// Rows of a table that a committed batch changed.
    pub fn rows_applied(&self, table: &str, rows: AppliedRows) {
        let ops = [
            ("insert", rows.inserts),
            ("update", rows.updates),
            ("delete", rows.deletes),
            ("truncate", rows.truncates),
        ];
        for (op, n) in ops {
            if n > 0 {
                let labels = vec![("table", table.to_owned()), ("op", op.to_owned())];
                self.inner.rows_applied.get_or_create(&labels).inc_by(n);
            }
        }
    }

    /// A batch was committed.
    pub fn batch_applied(&self, transactions: u64, rows: u64) {
        self.inner.transactions_applied.inc_by(transactions);
        self.inner.batch_rows.observe(rows as f64);
    }

    fn server(&self, side: Side) -> &Server {
        match side {
            Side::Source => &self.inner.source,
            Side::Target => &self.inner.target,
        }
    }

    /// How long a server took for something that was asked of it: a batch, a chunk, a question.
    pub fn asked(&self, side: Side, took: Duration) {
        self.server(side).durations.observe(took.as_secs_f64());
    }

    /// Awaits a session that is being opened, and counts it: as waiting until it is there, and as open until what comes
    /// with it is dropped.
    ///
    /// # Errors
    /// Those of `opening`.
    pub async fn open<T, E>(
        &self,
        side: Side,
        opening: impl Future<Output = Result<T, E>>,
    ) -> Result<(T, OpenSession), E> {
        let waiting = Raised::by_one(&self.server(side).waiting);
        let opened = opening.await?;
        drop(waiting);
        Ok((opened, self.opened(side)))
    }

    /// Counts a session that was opened.
    pub fn opened(&self, side: Side) -> OpenSession {
        let server = self.server(side);
        let (available, durations) = (server.available.clone(), server.durations.clone());
        available.inc();
        OpenSession { size: Raised::by_one(&server.size), available, durations }
    }

    /// Something failed, also if it is tried again.
    pub fn error(&self, class: Class) {
        self.inner.errors.get_or_create(&vec![("class", class.label().to_owned())]).inc();
    }

    /// Adds the counters to what will be printed.
    pub fn register(&self, registry: &mut Registry) {
        let m = &self.inner;
        registry.register("rows_copied", "Rows of the copy committed at the target", m.rows_copied.clone());
        registry.register("rows_applied", "Row changes committed at the target", m.rows_applied.clone());
        registry.register(
            "transactions_applied",
            "Source transactions committed at the target",
            m.transactions_applied.clone(),
        );
        registry.register("apply_batch_rows", "Row changes in one target transaction", m.batch_rows.clone());
        registry.register("errors", "Errors by class, those that were tried again included", m.errors.clone());
        registry.register(
            "query_duration_seconds",
            "How long a batch, a chunk or a question took at a server",
            m.durations.clone(),
        );
        registry.register(
            "pool_connections",
            "Sessions that are open, of these the ones without work, and those that are being opened",
            m.connections.clone(),
        );
    }
}

/// A gauge that is higher by one as long as this lives.
struct Raised(Gauge);

impl Raised {
    fn by_one(gauge: &Gauge) -> Raised {
        gauge.inc();
        Raised(gauge.clone())
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// An open session, counted as long as this lives.
pub struct OpenSession {
    #[expect(dead_code, reason = "it counts until it is dropped")]
    size: Raised,
    available: Gauge,
    durations: Histogram,
}

impl OpenSession {
    /// The session has work until what is given back is dropped.
    pub fn work(&self) -> Working<'_> {
        self.available.dec();
        Working { session: self }
    }

    /// The session has a question to answer until what is given back is dropped; how long that takes is noted.
    pub fn ask(&self) -> Asked<'_> {
        Asked { since: Instant::now(), work: self.work() }
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.available.dec();
    }
}

/// A session at work.
pub struct Working<'a> {
    session: &'a OpenSession,
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.session.available.inc();
    }
}

/// A session at work on one question.
pub struct Asked<'a> {
    since: Instant,
    work: Working<'a>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.work.session.durations.observe(self.since.elapsed().as_secs_f64());
    }
}
