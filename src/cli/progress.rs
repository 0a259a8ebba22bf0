//! The progress of `run`: bars on a terminal, a log line every few seconds otherwise.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

use super::output::thousands;
use crate::config::units::{show_seconds, show_size};
use crate::status::{Phase, Status, StatusHandle, TableState};

/// Tables whose bars are shown at once; more would not fit a terminal.
const BARS: usize = 8;
/// Between two lines while something moves.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Between two lines while nothing does.
const QUIET_EVERY: Duration = Duration::from_secs(60);

/// Shows progress until `end`.
pub async fn show(status: StatusHandle, bars: Option<MultiProgress>, end: CancellationToken) {
    let mut bars = bars.map(Bars::new);
    let mut lines = Lines::default();
    let mut ticks = tokio::time::interval(Duration::from_millis(if bars.is_some() { 200 } else { 500 }));
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = end.cancelled() => break,
        }
        let now = status.get();
        match &mut bars {
            Some(b) => b.update(&now),
            None => lines.update(&now),
        }
    }
    if let Some(b) = &mut bars {
        b.clear();
    }
}

/// One sentence about now.
fn sentence(s: &Status) -> String {
    if let Some(w) = &s.waiting_for {
        return format!("{}: waiting for the {}, {} attempts: {}", s.phase.label(), w.side, w.attempts, w.reason);
    }
    if s.paused {
        return format!("{}: paused by an operator", s.phase.label());
    }
    match s.phase {
        Phase::Starting => "starting: looking at both servers".into(),
        Phase::Copying => {
            let eta = s.snapshot.eta_seconds.map(|e| format!(", about {} left", show_seconds(e as f64)));
            format!(
                "copying: {:.1} %, {} of about {} rows{}",
                s.snapshot.percent,
                thousands(s.snapshot.rows_copied),
                thousands(s.snapshot.rows_estimated),
                eta.unwrap_or_default()
            )
        }
        _ => {
            let lag = s.stream.lag_seconds.map_or("unknown".into(), |l| format!("{l:.3} s"));
            let bytes = match s.stream.lag_bytes {
                Some(b) if b > 0 => format!(", {} behind", show_size(b)),
                _ => String::new(),
            };
            format!(
                "{}: lag {lag}{bytes}, {} rows/s, {} rows in {} transactions applied",
                s.phase.label(),
                thousands(s.stream.rows_per_second.round() as u64),
                thousands(s.stream.rows_applied),
                thousands(s.stream.transactions_applied)
            )
        }
    }
}

/// A line when the phase changes, when something is waited for, and every few seconds.
#[derive(Default)]
struct Lines {
    last: Option<(Instant, Phase, bool, u64)>,
}

impl Lines {
    fn update(&mut self, s: &Status) {
        let moved = s.snapshot.rows_copied + s.stream.rows_applied;
        let due = match self.last {
            None => true,
            Some((at, phase, waiting, rows)) => {
                let every = if rows == moved { QUIET_EVERY } else { LINE_EVERY };
                phase != s.phase || waiting != s.waiting_for.is_some() || at.elapsed() >= every
            }
        };
        if due {
            tracing::info!("{}", sentence(s));
            self.last = Some((Instant::now(), s.phase, s.waiting_for.is_some(), moved));
        }
    }
}

struct Bars {
    all: MultiProgress,
    tables: HashMap<String, ProgressBar>,
    total: Option<ProgressBar>,
    line: ProgressBar,
}

impl Bars {
    fn new(all: MultiProgress) -> Bars {
        let line = all.add(ProgressBar::new_spinner());
        line.set_style(style("{spinner} {msg}"));
        Bars { all, tables: HashMap::new(), total: None, line }
    }

    fn update(&mut self, s: &Status) {
        let running = |st: TableState| matches!(st, TableState::Copying | TableState::Indexing);
        let shown: Vec<_> = s.snapshot.tables.iter().filter(|t| running(t.state)).take(BARS).collect();
        let gone: Vec<String> = self.tables.keys().filter(|n| !shown.iter().any(|t| t.name == **n)).cloned().collect();
        for name in gone {
            if let Some(bar) = self.tables.remove(&name) {
                bar.finish_and_clear();
                self.all.remove(&bar);
            }
        }
        for t in shown {
            let bar = self.tables.entry(t.name.clone()).or_insert_with(|| {
                let bar = self.all.insert(0, ProgressBar::new(0));
                bar.set_style(style("  {prefix:<32!} {bar:30} {percent:>3} %  {msg}"));
                // A table's name is the application's: it must not steer the terminal.
                bar.set_prefix(t.name.replace(char::is_control, "?"));
                bar
            });
            bar.set_length(t.rows_estimated.max(t.rows_copied).max(1));
            bar.set_position(t.rows_copied);
            let indexing = t.state == TableState::Indexing;
            bar.set_message(if indexing {
                "making keys and indexes".into()
            } else {
                format!("{} rows", thousands(t.rows_copied))
            });
        }
        if s.phase == Phase::Copying {
            let total = self.total.get_or_insert_with(|| {
                let bar = self.all.insert_before(&self.line, ProgressBar::new(1000));
                bar.set_style(style("  {prefix:<32!} {bar:30} {percent:>3} %  {msg}"));
                bar.set_prefix("all tables");
                bar
            });
            total.set_position((s.snapshot.percent * 10.0) as u64);
            let done = s.snapshot.tables.iter().filter(|t| t.state == TableState::Done).count();
            let eta = s.snapshot.eta_seconds.map(|e| format!(", {} left", show_seconds(e as f64))).unwrap_or_default();
            total.set_message(format!("{done} of {} tables{eta}", s.snapshot.tables.len()));
        } else if let Some(total) = self.total.take() {
            total.finish_and_clear();
            self.all.remove(&total);
        }
        self.line.set_message(sentence(s).replace(char::is_control, " "));
        self.line.tick();
    }

    fn clear(&mut self) {
        // A terminal that went away is no reason to fail.
        let _ = self.all.clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    // Templates are the ones of this file; a mistake in one shows the plain bar.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_phase_when_told_then_the_sentence_fits_it() {
        let mut s = Status::new("shop");
        s.phase = Phase::Copying;
        s.snapshot.eta_seconds = Some(90);
        assert!(sentence(&s).contains("1m 30s left"));
        s.phase = Phase::Tailing;
        s.stream.lag_seconds = Some(0.5);
        assert!(sentence(&s).starts_with("tailing: lag 0.500 s"));
    }

    #[test]
    fn given_templates_when_parsed_then_they_are_right() {
        for t in ["{spinner} {msg}", "  {prefix:<32!} {bar:30} {percent:>3} %  {msg}"] {
            assert!(ProgressStyle::with_template(t).is_ok());
        }
    }
}
