//! `switchyard verify`: compares both sides, row by row, while the stream runs.

use std::io::IsTerminal;
use std::sync::Mutex;

use clap::Args;

use super::Global;
use super::output::{columns, print_json, print_text, thousands};
use crate::config::AssertSide;
use crate::error::{Error, Result};
use crate::schema::TableName;
use crate::transform::select;
use crate::verify::report::{Difference, Kind, Outcome, Report};
use crate::verify::{Question, Verification};

/// Compare source and target, row by row, while the stream runs
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Both sides are read as they are, in ranges; nothing is locked and nothing is paused. A row that differs is looked at
again after the stream has passed, until it is equal or proved different, so the daemon has to run. Tables are compared
after the rules.

Examples:
  switchyard verify -c switchyard.toml
  switchyard verify -c switchyard.toml --table public.orders --show-values
  switchyard verify -c switchyard.toml --json | jq '.tables[].differences[]'

Exit statuses: 0 equal; 1 differences; 2 something could not be compared, or wrong usage or configuration."
)]
pub struct VerifyArgs {
    /// Only this table, by its name on either side; several times for several
    #[arg(long, value_name = "TABLE")]
    table: Vec<String>,
    /// Show the values that differ, of both sides
    #[arg(long)]
    show_values: bool,
    /// Rows per second to read at most on each side; 0: no bound [default: verify.max_rate of the configuration]
    #[arg(long, value_name = "ROWS")]
    max_rate: Option<u64>,
}

pub async fn run(global: &Global, args: &VerifyArgs) -> Result<u8> {
    let config = global.load()?;
    global.log_to_stderr()?;
    let homes = config.homes();
    let mut only: Vec<TableName> = Vec::new();
    for name in &args.table {
        let read = |home: &str| {
            select::table_name(name, Some(home).filter(|h| !h.is_empty()))
                .map_err(|e| Error::config(format!("--table: {e}")))
        };
        only.push(read(&homes.target)?);
    }
    let bar = std::io::stderr().is_terminal() && !global.json;
    let shown = Mutex::new(String::new());
    let verification = Verification {
        source: crate::source::open(config.source_options()?)?,
        target: crate::target::open(config.target_options())?,
        rules: config.rules()?,
        schema_made: config.target.create_schema,
        only,
        questions: config
            .verify
            .asserts
            .iter()
            .map(|a| Question { target: a.side == AssertSide::Target, sql: a.sql.clone(), expect: a.expect.clone() })
            .collect(),
        max_rate: args.max_rate.unwrap_or(config.verify.max_rate),
        show_values: args.show_values,
        progress: Box::new(move |table, done, all| {
            if bar {
                let percent = 100.0 * done as f64 / all.max(1) as f64;
                let mut shown = shown.lock().unwrap_or_else(|e| e.into_inner());
                if *shown != table && !shown.is_empty() {
                    eprintln!();
                }
                table.clone_into(&mut shown);
                eprint!("\r{table}: {} rows compared, {percent:.0} %  ", thousands(done));
            }
        }),
    };
    let result = verification.run().await;
    if bar {
        eprintln!();
    }
    let report = match result {
        Ok(report) => report,
        Err(e) => {
            super::output::print_error(&e, global.json);
            return Ok(2);
        }
    };
    if global.json {
        print_json(&report);
    } else {
        print_text(&text(&report));
    }
    Ok(match report.result {
        Outcome::Equal => 0,
        Outcome::Different => 1,
        Outcome::Incomplete => 2,
    })
}

/// The report for people.
fn text(report: &Report) -> String {
    let mut rows = vec![["table", "source", "target", "differ", ""].map(str::to_owned).to_vec()];
    for t in &report.tables {
        rows.push(vec![
            t.table.clone(),
            thousands(t.source_rows),
            thousands(t.target_rows),
            thousands(t.differing),
            match (&t.obstacle, t.set_aside) {
                (Some(o), _) => format!("not compared: {o}"),
                (None, 0) => String::new(),
                (None, n) => format!("{} more were set aside (switchyard.dead_letter on the target)", thousands(n)),
            },
        ]);
    }
    let mut out = columns(&rows, &[1, 2, 3]);
    out.push('\n');
    for t in report.tables.iter().filter(|t| t.differing > 0) {
        out.push_str(&format!("\n{}\n", t.table));
        for d in &t.differences {
            out.push_str(&format!("  {}\n", line(d)));
        }
        let more = t.differing - t.differences.len() as u64;
        if more > 0 {
            out.push_str(&format!("  and {} more\n", thousands(more)));
        }
    }
    for d in &report.schema {
        let (what, kind) = d.kind.split_once('_').unwrap_or(("", &d.kind));
        let kind = kind.replace('_', " ");
        out.push_str(&match what {
            "missing" => format!("\n{}: the target lacks the {kind} {}", d.table, d.name),
            "extra" => format!("\n{}: only the target has the {kind} {}", d.table, d.name),
            "invalid" => format!("\n{}: the {kind} {} is not valid on the target", d.table, d.name),
            _ => format!("\n{}: the {kind} {} differs", d.table, d.name),
        });
    }
    if let Some(o) = &report.schema_obstacle {
        out.push_str(&format!("\nSchemas were not compared: {o}"));
    }
    for o in &report.relationships {
        out.push_str(&format!("\n{} {}: it refers by {} to a row that is not there", o.table, o.key, o.constraint));
    }
    if !report.schema.is_empty() || !report.relationships.is_empty() {
        out.push('\n');
    }
    for a in &report.asserts {
        out.push_str(&match (&a.error, a.ok) {
            (Some(e), _) => format!("\n{}: {}\n  could not be asked: {e}\n", a.side, a.sql),
            (None, true) => format!("\n{}: {}\n  {}, as expected\n", a.side, a.sql, a.expect),
            (None, false) => {
                let got = a.got.as_deref().unwrap_or("nothing");
                format!("\n{}: {}\n  {got}, and {} was expected\n", a.side, a.sql, a.expect)
            }
        });
    }
    out.push_str(&match (report.result, &report.verified_to) {
        (Outcome::Equal, Some(to)) => {
            format!("\nEqual: everything that the source had committed at {to} is on the target.")
        }
        (Outcome::Equal, None) => "\nEqual, as far as was asked for.".to_owned(),
        (Outcome::Different, _) => "\nThe sides DIFFER.".to_owned(),
        (Outcome::Incomplete, _) => "\nNo row was found to differ, but not everything could be compared.".to_owned(),
    });
    out
}

fn line(d: &Difference) -> String {
    let kind = match d.kind {
        Kind::Missing => "missing on the target",
        Kind::Extra => "only on the target",
        Kind::Different => "different",
    };
    let key = match &d.key {
        serde_json::Value::Object(fields) => {
            fields.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(", ")
        }
        _ => "a row without a key".to_owned(),
    };
    let columns = if d.columns.is_empty() { String::new() } else { format!(": {}", d.columns.join(", ")) };
    let values = d.values.as_ref().map(|v| format!("  {v}")).unwrap_or_default();
    format!("{key}  {kind}{columns}{values}")
}
