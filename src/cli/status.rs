//! `switchyard status`: how the running daemon is doing.

use clap::Args;

use super::Global;
use super::client::Client;
use super::output::{columns, print_json, print_text, thousands};
use crate::config::units::{show_seconds, show_size};
use crate::error::{Error, Result};
use crate::status::{Status, TableState, table_percent};

/// Show how the running daemon is doing
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  switchyard status -c switchyard.toml
  switchyard status --api http://127.0.0.1:7654 --json | jq .stream.lag_seconds

Lag is now minus the commit time of the newest applied commit while behind, and 0 when level.

Exit statuses: 0; 1 no daemon answers; 2 wrong usage or configuration.")]
pub struct StatusArgs {
    /// Show every table, finished ones too
    #[arg(long)]
    all: bool,
}

pub fn run(global: &Global, args: &StatusArgs) -> Result<u8> {
    global.log_to_stderr()?;
    let body = Client::new(global)?.get("/api/v1/status")?;
    if global.json {
        let document: serde_json::Value = serde_json::from_str(&body).map_err(|e| not_ours(&e))?;
        print_json(&document);
        return Ok(0);
    }
    let status: Status = serde_json::from_str(&body).map_err(|e| not_ours(&e))?;
    print_text(&screen(&status, args.all));
    Ok(0)
}

fn not_ours(e: &serde_json::Error) -> Error {
    Error::fatal(format!("the answer is not a status: {e}"))
        .hint("daemon and command must be of the same version, and the address a Switchyard daemon's")
}

/// The status for people.
pub fn screen(s: &Status, all: bool) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |a: &str, b: String| rows.push(vec![a.to_owned(), b]);
    let paused = if s.paused { " (paused)" } else { "" };
    row("migration", format!("{}, epoch {}, up {}", s.name, s.epoch, show_seconds(s.uptime_seconds)));
    row("phase", format!("{}{paused}", s.phase.label()));
    row("source", server(&s.source));
    row("target", server(&s.target));
    if !s.snapshot.tables.is_empty() {
        let eta = match s.snapshot.eta_seconds {
            Some(0) | None => String::new(),
            Some(n) => format!(", about {} left", show_seconds(n as f64)),
        };
        row(
            "copy",
            format!(
                "{:.1} %, {} of about {} rows{eta}",
                s.snapshot.percent,
                thousands(s.snapshot.rows_copied),
                thousands(s.snapshot.rows_estimated)
            ),
        );
    }
    let st = &s.stream;
    if let Some(p) = &st.applied_position {
        row("stream", format!("at {p}, source at {}", st.source_position.as_deref().unwrap_or("?")));
        let behind = st.lag_bytes.map(|b| format!(", {} of log", show_size(b))).unwrap_or_default();
        let lag = st.lag_seconds.map_or("unknown".to_owned(), |l| format!("{l:.3} s"));
        row("lag", format!("{lag}{behind}"));
        row(
            "applied",
            format!(
                "{} rows in {} transactions, {} rows/s",
                thousands(st.rows_applied),
                thousands(st.transactions_applied),
                thousands(st.rows_per_second.round() as u64)
            ),
        );
        row("consistent", if st.consistent { "yes".into() } else { "not yet".into() });
        row("log kept", show_size(st.retained_log_bytes));
        if st.dead_letters > 0 {
            row(
                "set aside",
                format!("{} changes, in switchyard.dead_letter on the target", thousands(st.dead_letters)),
            );
        }
    }
    let mut out = columns(&rows, &[]);
    let tables: Vec<_> = s.snapshot.tables.iter().filter(|t| all || t.state != TableState::Done).collect();
    if !tables.is_empty() {
        let rows: Vec<Vec<String>> = tables
            .iter()
            .map(|t| {
                let state = format!("{:?}", t.state).to_lowercase();
                vec![t.name.clone(), state, format!("{:.1} %", table_percent(t)), thousands(t.rows_copied)]
            })
            .collect();
        out.push_str("\n\n");
        out.push_str(&columns(&rows, &[2, 3]));
    }
    if let Some(w) = &s.waiting_for {
        out.push_str(&format!("\n\nwaiting for the {} ({} attempts): {}", w.side, w.attempts, w.reason));
    }
    for w in &s.warnings {
        out.push_str(&format!("\n\nwarning: {w}"));
    }
    if let Some(e) = &s.last_error {
        out.push_str(&format!("\n\nlast error: {}", e.message));
        if let Some(h) = &e.hint {
            out.push_str(&format!("\n  hint: {h}"));
        }
    }
    out
}

fn server(s: &crate::status::Server) -> String {
    if s.engine.is_empty() {
        return "not connected yet".into();
    }
    let mut out = format!("{} {}", s.engine, s.version);
    if !s.address.is_empty() {
        out.push_str(&format!(" at {}/{}", s.address, s.database));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_status_when_shown_then_lag_and_waiting_are_said() {
        let mut s = Status::new("shop");
        s.stream.applied_position = Some("0/10".into());
        s.stream.lag_seconds = Some(0.25);
        s.warnings.push("careful".into());
        let text = screen(&s, false);
        assert!(text.contains("0.250 s") && text.contains("shop") && text.contains("warning: careful"), "{text}");
    }
}
