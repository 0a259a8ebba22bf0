//! Counters that the pipeline raises. Cheap to clone and to raise; how they are printed is [`crate::http::metrics`]'s matter.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::error::Class;

type Labels = Vec<(&'static str, String)>;

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
        Metrics {
            inner: Arc::new(Inner {
                rows_copied: Family::default(),
                rows_applied: Family::default(),
                transactions_applied: Counter::default(),
                batch_rows: Histogram::new(exponential_buckets(1.0, 4.0, 10)),
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
    }
}
