//! Measures lag as an application would: a row is committed at the source, and the target is asked until it has it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::side::{self, Origin, Session};
use crate::error::{Error, Result};

/// Between two probes.
const EVERY: Duration = Duration::from_millis(25);

/// One probe that arrived.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When the source acknowledged its commit.
    pub committed: Instant,
    /// When the target was first seen to have it.
    pub visible: Instant,
}

impl Sample {
    /// From the acknowledgement at the source until it was seen at the target.
    pub fn lag(&self) -> Duration {
        self.visible.saturating_duration_since(self.committed)
    }
}

#[derive(Debug, Default)]
struct Shared {
    /// Committed and not seen yet, in commit order.
    waiting: Vec<(i64, Instant)>,
    arrived: Vec<Sample>,
    /// The last probe on whose arrival nothing else was waiting.
    level: Option<Sample>,
}

/// Probes that are being sent and watched for. They are sent on a schedule that does not wait for their arrival: a stall
/// delays many of them, not one.
#[derive(Debug)]
pub struct Probe {
    shared: Arc<Mutex<Shared>>,
    stop_sending: CancellationToken,
    sender: JoinHandle<Result<()>>,
    watcher: JoinHandle<Result<()>>,
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.sender.abort();
        self.watcher.abort();
    }
}

impl Probe {
    /// Starts sending and watching; the target's table must exist.
    pub fn start(source: Origin, target: Session) -> Probe {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let stop_sending = CancellationToken::new();
        let sender = tokio::spawn(send(source, shared.clone(), stop_sending.clone()));
        let watcher = tokio::spawn(watch(target, shared.clone()));
        Probe { shared, stop_sending, sender, watcher }
    }

    fn locked<T>(&self, look: impl FnOnce(&Shared) -> T) -> T {
        look(&self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Everything that arrived so far.
    pub fn samples(&self) -> Vec<Sample> {
        self.locked(|s| s.arrived.clone())
    }

    /// The lags of the last `n` arrivals that were committed after `since`.
    pub fn recent(&self, n: usize, since: Instant) -> Vec<Duration> {
        self.locked(|s| {
            s.arrived.iter().rev().take(n).filter(|sample| sample.committed > since).map(Sample::lag).collect()
        })
    }

    /// How long the oldest probe has been waiting for.
    pub fn oldest(&self) -> Option<Duration> {
        self.locked(|s| s.waiting.first().map(|(_, at)| at.elapsed()))
    }

    /// When a probe that was committed after `since` arrived and nothing else was waiting.
    pub fn level_since(&self, since: Instant) -> Option<Instant> {
        self.locked(|s| s.level.filter(|sample| sample.committed > since).map(|sample| sample.visible))
    }

    /// Whether it can go on.
    ///
    /// # Errors
    /// If a connection broke.
    pub async fn check(&mut self) -> Result<()> {
        for task in [&mut self.sender, &mut self.watcher] {
            if task.is_finished() && !self.stop_sending.is_cancelled() {
                task.await.map_err(|e| Error::fatal(format!("measuring the lag: {e}")))??;
                return Err(Error::fatal("measuring the lag ended early"));
            }
        }
        Ok(())
    }

    /// Sends one last probe, after everything that was committed before, and waits until the target has it.
    ///
    /// # Errors
    /// If it does not arrive within `patience`.
    pub async fn finish(mut self, patience: Duration) -> Result<Vec<Sample>> {
        self.stop_sending.cancel();
        (&mut self.sender).await.map_err(|e| Error::fatal(format!("measuring the lag: {e}")))??;
        let begin = Instant::now();
        while self.locked(|s| !s.waiting.is_empty()) {
            if self.watcher.is_finished() {
                (&mut self.watcher).await.map_err(|e| Error::fatal(format!("measuring the lag: {e}")))??;
            }
            if begin.elapsed() > patience {
                return Err(Error::fatal(format!(
                    "the target was not level {} seconds after the application had stopped",
                    patience.as_secs()
                )));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(self.samples())
    }
}

async fn send(mut source: Origin, shared: Arc<Mutex<Shared>>, stop: CancellationToken) -> Result<()> {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    for n in 1_i64.. {
        // Asked before the insert: after a stop one last probe follows whatever was committed before the stop.
        let last = stop.is_cancelled();
        source.pulse(n).await?;
        let committed = Instant::now();
        {
            shared.lock().unwrap_or_else(PoisonError::into_inner).waiting.push((n, committed));
        }
        if last {
            break;
        }
        tokio::select! {
            _ = tick.tick() => {}
            () = stop.cancelled() => {}
        }
    }
    Ok(())
}

async fn watch(mut target: Session, shared: Arc<Mutex<Shared>>) -> Result<()> {
    let doing = "looking for a probe at the target";
    let sql = "SELECT coalesce(max(n), 0) FROM pulse";
    loop {
        let oldest = {
            let s = shared.lock().unwrap_or_else(PoisonError::into_inner);
            s.waiting.first().map(|(_, at)| at.elapsed())
        };
        let Some(oldest) = oldest else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        let rows = target.rows(doing, sql).await?;
        let visible = Instant::now();
        let newest = side::number(&rows.into_iter().next().unwrap_or_default(), 0)?;
        {
            let mut s = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let here = s.waiting.iter().take_while(|(n, _)| *n <= newest).count();
            let arrived: Vec<_> = s.waiting.drain(..here).map(|(_, committed)| Sample { committed, visible }).collect();
            if s.waiting.is_empty() {
                s.level = arrived.last().copied().or(s.level);
            }
            s.arrived.extend(arrived);
        }
        // Closely while it may come any moment; asking costs the machine that is being measured.
        let pause = match oldest.as_millis() {
            0..5 => 0,
            5..100 => 1,
            _ => 5,
        };
        if pause > 0 {
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }
}
