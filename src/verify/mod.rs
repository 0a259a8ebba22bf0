//! Verification while the stream runs: both sides are read, digested by key, compared, and what differs is looked at again
//! after the stream has passed, until it is equal or proved different. Nothing is paused and nothing is locked.
//!
//! | file | responsibility |
//! |---|---|
//! | `pair.rs` | what is compared with what, after the rules |
//! | `canon.rs` | the form in which values are compared |
//! | `digest.rs` | sums of hashes by buckets of keys |
//! | `scan.rs` | reads a range on both sides and finds the keys that differ |
//! | `settle.rs` | looks at those again until each is equal or proved different |
//! | `schema.rs` | what the target's schema lacks, and rows that refer to none |
//! | `report.rs` | what was found, as a document |

pub mod canon;
pub mod digest;
pub mod pair;
pub mod report;
mod scan;
mod schema;
mod settle;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::exchange::{Scanner, Span};
use crate::schema::{Table, TableName};
use crate::source::Source;
use crate::target::{Checkpoint, CopyStage, Target};
use crate::transform::Compiled;
use crate::transform::rules::RuleSet;
use pair::{Pair, Workspace};
use report::{Assertion, Report, TableReport};

/// Rows of a range that is compared in one go: few enough that little changes meanwhile, many enough that asking costs
/// nothing.
const RANGE_ROWS: u64 = 500_000;
/// How long the stream may stand still while it is waited for.
const STREAM_PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked at.
const STREAM_LOOK: Duration = Duration::from_millis(20);

/// Told of a table, how many of its rows were compared, and how many there are.
pub type Progress = Box<dyn Fn(&str, u64, u64) + Send + Sync>;

/// What is verified, and how.
pub struct Verification {
    /// Where from.
    pub source: Arc<dyn Source>,
    /// Where to.
    pub target: Arc<dyn Target>,
    /// What becomes of rows on their way.
    pub rules: RuleSet,
    /// Whether the target's tables are made as the source has them, so that names of indexes and constraints can be compared.
    pub schema_made: bool,
    /// Only these tables, by their names at either side; empty: all.
    pub only: Vec<TableName>,
    /// The operator's own questions.
    pub questions: Vec<Question>,
    /// Rows per second that are read on each side at most; 0: no bound.
    pub max_rate: u64,
    /// Whether differing values are reported.
    pub show_values: bool,
    /// Told of each table and how many of its rows were compared so far, and how many there are, estimated.
    pub progress: Progress,
}

/// A question with one value for an answer.
#[derive(Clone, Debug)]
pub struct Question {
    /// Whether the target is asked, or the source.
    pub target: bool,
    /// The question, in that server's words.
    pub sql: String,
    /// The answer that is right, as text.
    pub expect: String,
}

/// What the parts of a run share.
struct Run<'a> {
    v: &'a Verification,
    source: Box<dyn Scanner>,
    target: Box<dyn Scanner>,
    work: Workspace,
    pace: Pace,
    /// Rows that were set aside: their tables and keys at the source.
    dead: HashSet<(TableName, String)>,
}

impl Verification {
    /// Compares everything once.
    ///
    /// # Errors
    /// Where a side cannot be read, the migration has not come so far, or its stream stands still while rows wait for it.
    /// A table that cannot be compared is no error: the report says so.
    pub async fn run(&self) -> Result<Report> {
        let started_at = now();
        let checkpoint = self.checkpoint().await?;
        if checkpoint.stage < CopyStage::Streaming {
            return Err(Error::fatal("the copy has not ended yet: there is nothing to compare")
                .hint("wait for phase ready in `switchyard status`, then verify again"));
        }
        let dead = self.target.dead_letters().await?;
        let dead = dead.into_iter().flat_map(|(t, keys)| keys.into_iter().map(move |k| (t.clone(), k))).collect();
        let mut run = Run {
            dead,
            v: self,
            source: self.source.scanner().await?,
            target: self.target.scanner().await?,
            work: Workspace::default(),
            pace: Pace { rate: self.max_rate, since: Instant::now(), rows: 0 },
        };
        let place = self.source.mark("switchyard:verify").await?;
        let mut tables = Vec::new();
        let pairs = self.pairs().await?;
        for pair in &pairs {
            tables.push(run.table(pair).await?);
        }
        tables.sort_by(|a, b| a.table.cmp(&b.table));
        for t in &mut tables {
            t.differences.sort_by_cached_key(|d| d.key.to_string());
        }
        let asserts = run.asserts().await;
        let mut report = Report { asserts, started_at, tables, ..Report::default() };
        run.schema(&pairs, &mut report).await?;
        report.finished_at = now();
        report.result = report.outcome();
        if report.result == report::Outcome::Equal && self.only.is_empty() {
            report.verified_to = Some(place.to_string());
        }
        Ok(report)
    }

    /// What is compared with what, as both sides are now.
    async fn pairs(&self) -> Result<Vec<Pair>> {
        let sources = self.source.tables().await?;
        let names: Vec<TableName> = sources.iter().map(|t| t.name.clone()).collect();
        let mut wanted: Vec<TableName> = names.iter().flat_map(|s| self.rules.targets_of(s)).collect();
        wanted.sort();
        wanted.dedup();
        let found = self.target.tables(&wanted).await?;
        let there: HashMap<TableName, Arc<Table>> =
            wanted.into_iter().zip(found).filter_map(|(n, t)| Some((n, t?))).collect();
        let mut compiled = Vec::new();
        for source in &sources {
            let step = Compiled::with_rules(&self.rules, source, &names, &|n| there.get(n).cloned())?;
            compiled.push(Arc::new(step));
        }
        let mut pairs = pair::pairs(&compiled);
        if let Some(unknown) = self.only.iter().find(|n| !pairs.iter().any(|p| concerns(p, n))) {
            return Err(Error::config(format!("--table: no table {unknown} takes part in the migration")));
        }
        pairs.retain(|p| self.only.is_empty() || self.only.iter().any(|n| concerns(p, n)));
        Ok(pairs)
    }

    async fn checkpoint(&self) -> Result<Checkpoint> {
        match self.target.checkpoint().await? {
            Some(c) => Ok(c),
            None => Err(Error::fatal("the target knows no such migration: nothing was copied there yet")
                .hint("start it with `switchyard run`")),
        }
    }

    /// Waits until everything that the source had committed before this call is in the target.
    async fn passed(&self) -> Result<()> {
        let place = self.source.mark("switchyard:verify").await?;
        let (mut last, mut moved) = (None, Instant::now());
        loop {
            let at = self.checkpoint().await?.position;
            if at.as_ref().is_some_and(|at| at.reached(&place)) {
                return Ok(());
            }
            if at != last {
                (last, moved) = (at, Instant::now());
            } else if moved.elapsed() > STREAM_PATIENCE {
                let at = last.map_or("nowhere".to_owned(), |p| p.to_string());
                return Err(Error::fatal(format!(
                    "rows differ that may be on their way, and the stream has stood still at {at} for {} seconds",
                    STREAM_PATIENCE.as_secs()
                ))
                .hint("start the daemon (`switchyard run`), or resume it, then verify again"));
            }
            tokio::time::sleep(STREAM_LOOK).await;
        }
    }
}

fn concerns(pair: &Pair, name: &TableName) -> bool {
    pair.target.name == *name || pair.feeds.iter().any(|f| f.compiled.source.name == *name)
}

impl Run<'_> {
    async fn asserts(&mut self) -> Vec<Assertion> {
        let mut out = Vec::new();
        for q in &self.v.questions {
            let asked = if q.target { self.target.ask(&q.sql).await } else { self.source.ask(&q.sql).await };
            let side = if q.target { "target" } else { "source" };
            let (got, error) = match asked {
                Ok(got) => (got, None),
                Err(e) => (None, Some(e.to_string())),
            };
            let ok = error.is_none() && got.as_deref() == Some(&q.expect);
            out.push(Assertion { side: side.to_owned(), sql: q.sql.clone(), expect: q.expect.clone(), got, ok, error });
        }
        out
    }

    async fn table(&mut self, pair: &Pair) -> Result<TableReport> {
        let name = pair.target.name.to_string();
        let mut report = TableReport { table: name.clone(), obstacle: pair.obstacle.clone(), ..TableReport::default() };
        if report.obstacle.is_some() {
            return Ok(report);
        }
        let estimated = pair.feeds.iter().map(|f| f.compiled.source.estimated_rows).sum::<u64>();
        let estimated = estimated.max(pair.target.estimated_rows);
        for span in self.spans(pair, estimated).await? {
            let suspects = scan::range(self, pair, &span, estimated, &mut report).await?;
            settle::settle(self, pair, suspects, &mut report).await?;
            (self.v.progress)(&name, report.compared, estimated.max(report.compared));
        }
        Ok(report)
    }

    /// Ranges that together hold every row, on both sides the same; the whole table where it cannot be cut.
    async fn spans(&mut self, pair: &Pair, rows: u64) -> Result<Vec<Option<(Span, Span)>>> {
        let pieces = rows.div_ceil(RANGE_ROWS) as i128;
        let Some((target, source)) = pair.span_columns().filter(|_| pieces > 1) else { return Ok(vec![None]) };
        let feed = &pair.feeds[0];
        let here = self.source.extent(&feed.compiled.source, source).await?;
        let there = self.target.extent(&pair.target, target).await?;
        let Some((least, most)) = here.into_iter().chain(there).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) else {
            return Ok(vec![None]);
        };
        let step = (most.saturating_sub(least) / pieces).max(1);
        let cuts: Vec<i128> = (1..pieces).map(|n| least.saturating_add(step * n)).filter(|c| *c <= most).collect();
        let from = std::iter::once(None).chain(cuts.iter().copied().map(Some));
        let to = cuts.iter().copied().map(Some).chain(std::iter::once(None));
        let span = |column, from, to| Span { column, from, to };
        Ok(from.zip(to).map(|(from, to)| Some((span(source, from, to), span(target, from, to)))).collect())
    }
}

/// Keeps reading below a rate.
struct Pace {
    rate: u64,
    since: Instant,
    rows: u64,
}

impl Pace {
    async fn read(&mut self, rows: usize) {
        if self.rate == 0 {
            return;
        }
        self.rows += rows as u64;
        let due = Duration::from_secs_f64(self.rows as f64 / self.rate as f64);
        if let Some(early) = due.checked_sub(self.since.elapsed()) {
            tokio::time::sleep(early).await;
        }
    }
}

fn now() -> String {
    jiff::Timestamp::now().round(jiff::Unit::Millisecond).map_or_else(|_| String::new(), |t| t.to_string())
}
