//! Copy, then tail: carries a migration from whatever its checkpoint says to a target that is kept level.

pub mod batch;
mod changed;
pub mod collect;
pub mod copy;
pub mod dead;
pub mod made;
pub mod ruled;
pub mod stream;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::change::DeadLetter;
use crate::error::{Class, Error, Result, ResultExt};
use crate::faults;
use crate::finding::Severity;
use crate::metrics::{Metrics, OpenSession, Side};
use crate::schema::TableName;
use crate::source::Source;
use crate::status::{Phase, StatusHandle};
use crate::target::{Checkpoint, CopyStage, SessionLock, Target};
use crate::transform::rules::RuleSet;
use crate::transform::select::Selection;

/// What a pipeline works with.
#[derive(Clone)]
pub struct Pipeline {
    /// Where from.
    pub source: Arc<dyn Source>,
    /// Where to.
    pub target: Arc<dyn Target>,
    /// Which tables.
    pub selection: Selection,
    /// What becomes of rows on their way.
    pub rules: RuleSet,
    /// Parallel copy sessions.
    pub workers: usize,
    /// Extra wait to fill a batch.
    pub max_delay: Duration,
    /// Whether rows that a rule cannot carry are set aside, instead of stopping.
    pub set_aside: bool,
    /// Whether tables and what belongs to them are made.
    pub create_schema: bool,
    /// What people see.
    pub status: StatusHandle,
    /// What machines see.
    pub metrics: Metrics,
    /// Ends everything.
    pub stop: CancellationToken,
}

/// Waiting times between attempts.
const BACKOFF_FIRST: Duration = Duration::from_millis(250);
const BACKOFF_MOST: Duration = Duration::from_secs(10);
/// An attempt that lived so long starts the waiting times anew.
const HEALTHY: Duration = Duration::from_secs(30);

impl Pipeline {
    /// Runs until it is stopped (Ok) or something happens that waiting cannot mend. Lost connections, restarting and
    /// full servers are waited for, and said in the status.
    pub async fn run(&self) -> Result<()> {
        let mut wait = BACKOFF_FIRST;
        loop {
            let begun = tokio::time::Instant::now();
            let Err(e) = self.attempt().await else { return Ok(()) };
            self.metrics.error(e.class());
            if !e.is_retry() {
                self.status.set_error(&e);
                return Err(e);
            }
            if begun.elapsed() > HEALTHY {
                wait = BACKOFF_FIRST;
            }
            self.status.set_waiting(side(&e), &e);
            tracing::warn!(wait_ms = wait.as_millis() as u64, "waiting: {e}");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stop.cancelled() => return Ok(()),
            }
            wait = (wait * 2).min(BACKOFF_MOST);
        }
    }

    /// One life between two lost connections. A stop ends the copy at once (what is committed is noted), and the stream
    /// after the batch under way.
    async fn attempt(&self) -> Result<()> {
        let prepared = tokio::select! {
            r = self.take_over() => r?,
            () = self.stop.cancelled() => return Ok(()),
        };
        let (lock, mut checkpoint, _counted) = prepared;
        let work = async {
            changed::notice(self, &mut checkpoint).await?;
            let mut script = None;
            if checkpoint.stage < CopyStage::Streaming {
                self.status.set_phase(Phase::Copying);
                script = Some(tokio::select! {
                    r = copy::run(self, &mut checkpoint) => r?,
                    () = self.stop.cancelled() => return Ok(()),
                });
            }
            self.status.set_phase(Phase::Tailing);
            stream::run(self, checkpoint, script).await
        };
        tokio::select! {
            r = work => r,
            () = lock.lost() => Err(Error::retry("the session that holds the migration's lock on the target was lost")),
        }
    }

    async fn take_over(&self) -> Result<(Box<dyn SessionLock>, Checkpoint, [OpenSession; 3])> {
        // Rules may have changed since the migration began.
        ruled::possible(&self.rules, self.source.as_ref())?;
        // The first question opens the session for questions.
        let (server, source) = self.metrics.open(Side::Source, self.source.server()).await?;
        self.status.set_source(&server);
        let (server, target) = self.metrics.open(Side::Target, self.target.server()).await?;
        self.status.set_target(&server);
        let (lock, held) = self.metrics.open(Side::Target, self.target.lock()).await?;
        // Before anything is written: what is refused leaves no trace, and source and target may be the same database.
        if !self.target.checkpoint().await?.is_some_and(|c| c.has_begun()) {
            self.preflight().await?;
        }
        let checkpoint = self.target.take_over().await?;
        self.status.set_epoch(checkpoint.epoch);
        Ok((lock, checkpoint, [source, target, held]))
    }

    /// Makes what may exist only on a consistent target (foreign keys, triggers), gets it out of the applier's way, and
    /// notes that the target is complete.
    pub(crate) async fn complete(&self, checkpoint: &mut Checkpoint, script: Option<Arc<made::Script>>) -> Result<()> {
        self.settle(checkpoint).await?;
        self.target.consistent().await?.into_iter().for_each(|w| self.warn(w));
        if self.create_schema {
            let tables = self.source.tables().await?;
            let script = match script {
                Some(s) => s,
                None => Arc::new(self.script(checkpoint, &tables, None).await?),
            };
            script.complete(self).await?;
            self.target.quiesce(&self.target_names(tables.iter().map(|t| &t.name))).await?;
        }
        faults::point("stream.constraints_made");
        checkpoint.stage = CopyStage::Complete;
        self.target.save(&stage_alone(checkpoint)).await?;
        // Nothing waits for statistics: the stream's plans do not depend on them. If this is cut short, the target's own
        // autovacuum gathers them, as it does after every bulk load.
        let target = self.target.clone();
        let copies = self.target.copies().await?;
        let names = self.target_names(copies.iter().map(|c| &c.table));
        tokio::spawn(async move {
            if let Err(e) = target.analyze(&names).await {
                tracing::warn!("gathering statistics on the target: {e}");
            }
        });
        Ok(())
    }

    /// Makes sure that what was applied is on the target's disk. Rows commit asynchronously and the bookkeeping's own
    /// session is made anew when it was lost: after a crash of the target in between, it must not speak of rows that are gone.
    async fn settle(&self, checkpoint: &Checkpoint) -> Result<()> {
        self.target.save(&stage_alone(checkpoint)).await?;
        let stored = self.target.checkpoint().await?.and_then(|c| c.position);
        match (&stored, &checkpoint.position) {
            (Some(stored), Some(applied)) if stored.reached(applied) => Ok(()),
            (_, None) => Ok(()),
            _ => Err(Error::retry("the target lost its newest commits (did it crash?): they are applied again")),
        }
    }

    /// The target's tables that rows of these source tables go to.
    pub(crate) fn target_names<'a>(&self, sources: impl Iterator<Item = &'a TableName>) -> Vec<TableName> {
        let mut names: Vec<TableName> = sources.flat_map(|s| self.rules.targets_of(s)).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Says what was set aside.
    pub(crate) fn set_aside(&self, letters: &[DeadLetter]) {
        let Some(first) = letters.first() else { return };
        self.status.add_dead_letters(letters.len() as u64);
        tracing::warn!(changes = letters.len(), "set aside: {}", first.message);
        self.status.add_warning(format!(
            "changes of {} could not be carried and were set aside: see switchyard.dead_letter on the target",
            first.table
        ));
    }

    pub(crate) fn warn(&self, text: String) {
        tracing::warn!("{text}");
        self.status.add_warning(text);
    }

    /// Refuses to start where the preflight finds a problem. Called before anything is made.
    async fn preflight(&self) -> Result<()> {
        let mut findings = self.source.check().await.context("looking at the source")?;
        let tables = self.source.tables().await?;
        let looked =
            ruled::look(&self.rules, self.source.as_ref(), &tables, self.target.as_ref(), self.create_schema).await?;
        findings.extend(looked.findings);
        let facts = self.source.facts().await?;
        findings.extend(self.target.check(&facts, &looked.expected, true).await.context("looking at the target")?);
        let problems: Vec<_> = findings.iter().filter(|f| f.severity == Severity::Problem).collect();
        for f in &findings {
            match f.severity {
                Severity::Warning => self.warn(format!("{}: {}", f.side, f.message)),
                Severity::Note => tracing::info!("{}: {}", f.side, f.message),
                _ => {}
            }
        }
        let Some(first) = problems.first() else { return Ok(()) };
        let mut text = format!("{}: {}", first.side, first.message);
        for p in &problems[1..] {
            text.push_str(&format!("\n  {}: {}", p.side, p.message));
        }
        let fixes: Vec<_> = problems.iter().filter_map(|p| p.fix.clone()).collect();
        let e = Error::new(Class::Fatal, text).with_code("switchyard:preflight");
        Err(if fixes.is_empty() { e } else { e.hint(fixes.join("\n        ")) })
    }
}

/// The checkpoint with nothing but its stage to store: the position belongs to whoever applies rows.
fn stage_alone(checkpoint: &Checkpoint) -> Checkpoint {
    let Checkpoint { epoch, stage, .. } = *checkpoint;
    Checkpoint { epoch, stage, log: None, position: None, consistent_at: None, committed_at: None }
}

/// Which side an error speaks of, for the status.
fn side(e: &Error) -> &'static str {
    let m = e.message();
    match (m.find("target"), m.find("source")) {
        (Some(t), Some(s)) if t < s => "target",
        (Some(_), None) => "target",
        _ => "source",
    }
}
