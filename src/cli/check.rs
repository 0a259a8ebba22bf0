//! `switchyard check`: looks at both servers and says what stands in the way.

use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::Global;
use super::output::{print_json, print_text, thousands};
use crate::config::Config;
use crate::config::units::{show_seconds, show_size};
use crate::error::{Class, Error, Result};
use crate::finding::{Finding, Severity};
use crate::pipeline::{made, ruled};
use crate::schema::Table;
use crate::source::{Source, SourceFacts};
use crate::target::{CopyStage, Target};

/// Look at both servers and say what stands in the way, with what to do about it
#[derive(Args, Clone, Debug)]
#[command(after_help = "Nothing is changed on either server.

Examples:
  switchyard check -c switchyard.toml
  switchyard check -c switchyard.toml --json | jq '.findings[] | select(.severity == \"problem\")'

Exit statuses: 0 ready; 1 problems, each with what to do (a server that cannot be reached is one);
2 wrong usage or configuration.")]
pub struct CheckArgs {
    /// Show what is as it should be, too
    #[arg(long)]
    all: bool,
}

/// Bytes of table that one worker copies a second, for the estimate: what two ordinary cores and a local disk do. The copy
/// itself shows what it really does.
const BYTES_PER_SECOND_AND_WORKER: u64 = 30_000_000;

/// What a check found.
pub struct Report {
    /// Everything, in the order of looking.
    pub findings: Vec<Finding>,
    /// Selected tables.
    pub tables: Vec<Arc<Table>>,
}

impl Report {
    fn ready(&self) -> bool {
        self.findings.iter().all(|f| f.severity < Severity::Problem)
    }
    fn bytes(&self) -> u64 {
        self.tables.iter().map(|t| t.bytes).sum()
    }
    fn rows(&self) -> u64 {
        self.tables.iter().map(|t| t.estimated_rows).sum()
    }
}

pub async fn run(global: &Global, args: &CheckArgs) -> Result<u8> {
    let config = global.load()?;
    global.log_to_stderr()?;
    let report = look(&config).await?;
    let seconds = report.bytes() / (BYTES_PER_SECOND_AND_WORKER * config.snapshot.workers.max(1) as u64);
    if global.json {
        print_json(&json!({
            "name": config.name, "ready": report.ready(), "findings": report.findings, "tables": report.tables.len(),
            "rows_estimated": report.rows(), "bytes": report.bytes(), "estimated_copy_seconds": seconds,
        }));
    } else {
        print_text(&text(&report, seconds, args.all));
    }
    Ok(u8::from(!report.ready()))
}

/// Looks at both sides. An error of the configuration is an error; anything else becomes a finding.
pub async fn look(config: &Config) -> Result<Report> {
    let mut findings = Vec::new();
    let mut tables = Vec::new();
    let source = crate::source::open(config.source_options()?)?;
    let target = crate::target::open(config.target_options())?;
    for notice in config.notices() {
        findings.push(Finding::new(Severity::Note, "switchyard", "not_used", notice));
    }
    let mut reached = false;
    let mut facts = SourceFacts::default();
    match source.server().await {
        Ok(s) => {
            reached = true;
            findings.push(Finding::new(
                Severity::Ok,
                "source",
                "server",
                format!("{} {} at {}/{}", s.engine, s.version, s.address, s.database),
            ));
        }
        Err(e) => findings.push(problem("source", "connect", e)?),
    }
    if reached {
        match source.check().await {
            Ok(f) => findings.extend(f),
            Err(e) => findings.push(problem("source", "check", e)?),
        }
        match source.facts().await {
            Ok(f) => facts = f,
            Err(e) => findings.push(problem("source", "facts", e)?),
        }
        match source.tables().await {
            Ok(t) => tables = t,
            Err(e) => findings.push(problem("source", "tables", e)?),
        }
        let names: Vec<_> = tables.iter().map(|t| t.name.clone()).collect();
        for pattern in config.selection()?.unmatched(&names) {
            findings.push(
                Finding::new(
                    Severity::Warning,
                    "source",
                    "pattern",
                    format!("tables.include {pattern:?} matches no table"),
                )
                .fix("correct the pattern, or remove it"),
            );
        }
        if tables.is_empty() {
            let f = Finding::new(Severity::Problem, "source", "no_tables", "no table is selected");
            findings.push(f.fix("look at [tables] include and exclude, and at the database in source.url"));
        }
    }
    match target.server().await {
        Ok(s) => {
            findings.push(Finding::new(
                Severity::Ok,
                "target",
                "server",
                format!("{} {} at {}/{}", s.engine, s.version, s.address, s.database),
            ));
            match target.checkpoint().await {
                Ok(checkpoint) => {
                    let fresh = checkpoint.as_ref().is_none_or(|c| c.stage < CopyStage::Copying);
                    if !fresh {
                        findings.push(Finding::new(
                            Severity::Note,
                            "target",
                            "checkpoint",
                            "this migration has begun already: `run` resumes it",
                        ));
                    }
                    let mut expected = tables.clone();
                    let (rules, makes) = (config.rules()?, config.target.create_schema);
                    let mut makes_some = false;
                    match ruled::look(&rules, source.as_ref(), &tables, target.as_ref(), makes).await {
                        Ok(looked) => {
                            findings.extend(looked.findings);
                            expected = looked.expected;
                            makes_some = !looked.made.is_empty();
                        }
                        Err(e) => findings.push(problem("target", "rules", e)?),
                    }
                    if (source.engine() != target.engine() && makes) || makes_some {
                        match remarks(config, source.as_ref(), target.as_ref()).await {
                            Ok(said) => findings.extend(said),
                            Err(e) => findings.push(problem("target", "schema", e)?),
                        }
                    }
                    match target.check(&facts, &expected, fresh).await {
                        Ok(f) => findings.extend(f),
                        Err(e) => findings.push(problem("target", "check", e)?),
                    }
                }
                Err(e) => findings.push(problem("target", "checkpoint", e)?),
            }
        }
        Err(e) => findings.push(problem("target", "connect", e)?),
    }
    Ok(Report { findings, tables })
}

/// What the target's schema will not have of the source's.
async fn remarks(config: &Config, source: &dyn Source, target: &dyn Target) -> Result<Vec<Finding>> {
    let everything = config.selection()?.is_everything();
    let script = made::preview(source, target, &config.rules()?, everything).await?;
    let remarks = script.own.remarks.into_iter().chain(script.made.remarks);
    Ok(remarks.map(|r| Finding::new(Severity::Warning, "target", "schema", r)).collect())
}

fn problem(side: &str, code: &str, e: Error) -> Result<Finding> {
    if e.class() == Class::Config {
        return Err(e);
    }
    let finding = Finding::new(Severity::Problem, side, code, e.message());
    Ok(match (e.hint_text(), e.class()) {
        (Some(h), _) => finding.fix(h),
        (None, Class::Retry) => {
            finding.fix("is the server running, and can it be reached from here? Check host, port and firewall")
        }
        (None, _) => finding,
    })
}

fn text(report: &Report, seconds: u64, all: bool) -> String {
    let mut out = String::new();
    for side in ["source", "target", "switchyard"] {
        let mut of_side: Vec<&Finding> = report
            .findings
            .iter()
            .filter(|f| f.side == side && (all || f.severity > Severity::Ok || f.code == "server"))
            .collect();
        of_side.sort_by_key(|f| f.severity);
        if of_side.is_empty() {
            continue;
        }
        out.push_str(side);
        out.push('\n');
        for f in of_side.iter().filter(|f| f.severity < Severity::Problem) {
            out.push_str(&line(f));
        }
        out.push('\n');
    }
    if !report.tables.is_empty() {
        out.push_str(&format!(
            "{} tables, about {} rows, {}; the copy will take about {} here, more over a slow network\n\n",
            thousands(report.tables.len() as u64),
            thousands(report.rows()),
            show_size(report.bytes()),
            show_seconds(seconds.max(1) as f64)
        ));
    }
    let problems: Vec<&Finding> = report.findings.iter().filter(|f| f.severity == Severity::Problem).collect();
    if problems.is_empty() {
        out.push_str("Ready.");
        return out;
    }
    let plural = if problems.len() == 1 { "" } else { "s" };
    out.push_str(&format!("{} problem{plural}:\n", problems.len()));
    for f in problems {
        out.push_str(&line(f));
    }
    out
}

fn line(f: &Finding) -> String {
    let mark = match f.severity {
        Severity::Ok => "ok     ",
        Severity::Note => "note   ",
        Severity::Warning => "warning",
        Severity::Problem => "problem",
    };
    let side = if f.severity == Severity::Problem { format!("{}: ", f.side) } else { String::new() };
    let mut out = format!("  {mark}  {side}{}\n", f.message);
    if let Some(fix) = &f.fix {
        for (i, l) in fix.lines().enumerate() {
            out.push_str(&format!("           {} {l}\n", if i == 0 { "→" } else { " " }));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_findings_when_printed_then_problems_come_last_with_their_fix() {
        let report = Report {
            findings: vec![
                Finding::new(Severity::Problem, "source", "wal_level", "wal_level is replica").fix("ALTER SYSTEM …"),
                Finding::new(Severity::Ok, "target", "server", "postgres 18"),
                Finding::new(Severity::Ok, "target", "quiet", "all well"),
            ],
            tables: Vec::new(),
        };
        let out = text(&report, 0, false);
        assert!(!report.ready());
        assert!(out.find("postgres 18").unwrap() < out.find("1 problem:").unwrap(), "{out}");
        assert!(out.ends_with("problem  source: wal_level is replica\n           → ALTER SYSTEM …\n"), "{out}");
        assert!(!out.contains("all well"));
    }
}
