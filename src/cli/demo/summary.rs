//! The figures at the end of the demo: pure arithmetic and text.

use std::time::Duration;

use crate::cli::output::thousands;

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Rows that the copy brought.
    pub rows_copied: u64,
    /// From the start of the daemon until the copy was complete.
    pub copy: Duration,
    /// Tables that took part.
    pub tables: usize,
    /// Row changes that the stream applied, by the daemon's count.
    pub changes: u64,
    /// Source transactions that the stream applied, by the daemon's count.
    pub transactions: u64,
    /// How long it followed.
    pub tail: Duration,
    /// Commit at the source to visible at the target, outside the outage.
    pub lags: Vec<Duration>,
    /// What the daemon said of its own lag, seconds, outside the outage.
    pub said: Vec<f64>,
    /// From the kill until the target was level again.
    pub outage: Option<Duration>,
    /// Transactions acknowledged to the application.
    pub committed: u64,
    /// Transactions that the application rolled back.
    pub rolled_back: u64,
    /// Ledger entries that were looked up at the target.
    pub looked_up: usize,
    /// Rows compared.
    pub rows_compared: u64,
    /// Tables that differ.
    pub tables_different: usize,
    /// Definitions compared, and differing.
    pub definitions: (usize, usize),
    /// What the migration left on the servers after it was finished.
    pub leftovers: Vec<String>,
    /// Acknowledged and not there, one line each.
    pub lost: Vec<String>,
    /// Not acknowledged and there, one line each.
    pub phantoms: Vec<String>,
}

impl Figures {
    /// Whether nothing was lost, nothing differs, and nothing is there that should not be.
    pub fn clean(&self) -> bool {
        self.lost.is_empty()
            && self.phantoms.is_empty()
            && self.tables_different == 0
            && self.definitions.1 == 0
            && self.leftovers.is_empty()
    }

    /// The summary, aligned.
    pub fn text(&self) -> String {
        let rate = |n: u64, over: Duration| thousands((n as f64 / over.as_secs_f64().max(0.001)).round() as u64);
        let seconds = |d: Duration| format!("{:.1} s", d.as_secs_f64());
        let mut out = Vec::new();
        let mut line = |name: &str, value: String| out.push(format!("{name:<18}{value}"));
        let (n, d) = (self.rows_copied, self.copy);
        line("copied", format!("{} rows in {}, {} rows/s, while being written", thousands(n), seconds(d), rate(n, d)));
        line(
            "streamed",
            format!("{} changes in {} transactions", thousands(self.changes), thousands(self.transactions)),
        );
        line("lag", percentiles(&self.lags));
        let said: Vec<Duration> = self.said.iter().map(|s| Duration::from_secs_f64(s.max(0.0))).collect();
        line("lag by `status`", percentiles(&said));
        if let Some(outage) = self.outage {
            line("killed", format!("level again {} after kill -9, without anybody's help", seconds(outage)));
        }
        line(
            "application",
            format!(
                "{} transactions acknowledged, {} rolled back",
                thousands(self.committed),
                thousands(self.rolled_back)
            ),
        );
        let different = match self.tables_different {
            0 => "all equal".to_owned(),
            n => format!("{n} tables DIFFERENT"),
        };
        line("compared", format!("{} rows in {} tables: {different}", thousands(self.rows_compared), self.tables));
        let (count, differing) = self.definitions;
        let same = if differing == 0 { "all equal".to_owned() } else { format!("{differing} DIFFERENT") };
        let left = match self.leftovers.len() {
            0 => "nothing left behind".to_owned(),
            n => format!("{n} things LEFT BEHIND"),
        };
        line("finished", format!("{} definitions: {same}; {left}", thousands(count as u64)));
        line("looked up", format!("{} ids and keys from the application's memory", thousands(self.looked_up as u64)));
        out.push(format!("rolled-back writes that appeared: {}", self.phantoms.len()));
        out.push(format!("lost writes: {}", self.lost.len()));
        for l in self.lost.iter().chain(&self.phantoms).take(20) {
            out.push(format!("  {l}"));
        }
        out.join("\n")
    }
}

fn percentiles(lags: &[Duration]) -> String {
    let mut sorted = lags.to_vec();
    sorted.sort();
    let at = |share: f64| percentile(&sorted, share).map_or("-".to_owned(), millis);
    format!(
        "p50 {}, p95 {}, p99 {}, max {} ({} samples)",
        at(0.5),
        at(0.95),
        at(0.99),
        at(1.0),
        thousands(sorted.len() as u64)
    )
}

/// The smallest value that at least `share` of the values do not exceed.
pub fn percentile(sorted: &[Duration], share: f64) -> Option<Duration> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

/// `0.8 ms`, `24 ms`, `3.1 s`.
pub fn millis(d: Duration) -> String {
    let ms = d.as_secs_f64() * 1000.0;
    match ms {
        ms if ms >= 1000.0 => format!("{:.1} s", ms / 1000.0),
        ms if ms >= 10.0 => format!("{ms:.0} ms"),
        ms => format!("{ms:.1} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_samples_when_ranked_then_percentiles_are_values_that_were_measured() {
        let ms: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile(&ms, 0.5), Some(Duration::from_millis(50)));
        assert_eq!(percentile(&ms, 0.99), Some(Duration::from_millis(99)));
        assert_eq!(percentile(&ms, 1.0), Some(Duration::from_millis(100)));
        assert_eq!(percentile(&ms[..1], 0.5), Some(Duration::from_millis(1)));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn given_figures_when_something_was_lost_then_it_is_said_with_its_id() {
        let mut figures = Figures { rows_copied: 1000, copy: Duration::from_secs(2), ..Figures::default() };
        assert!(figures.clean());
        assert!(figures.text().contains("1 000 rows in 2.0 s, 500 rows/s"));
        assert!(figures.text().ends_with("lost writes: 0"));
        figures.lost.push("write 17".into());
        assert!(!figures.clean());
        assert!(figures.text().ends_with("lost writes: 1\n  write 17"));
        assert!(figures.text().lines().all(|l| l.chars().count() < 90));
    }
}
