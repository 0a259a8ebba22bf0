//! `switchyard finish`: removes what the migration made on both servers.

use std::io::{BufRead, IsTerminal, Write};

use clap::Args;
use serde_json::json;

use super::Global;
use super::output::{print_json, print_text};
use crate::error::{Error, Result, ResultExt};

/// Remove what the migration made on both servers, when it is over
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "What goes: on the target the bookkeeping schema (triggers and constraints that were set aside are put
back first); on the source the replication slot, the publication and the DDL trigger. Rows stay where they are.
Afterwards the migration cannot be resumed: running it again would begin with a new copy.

Examples:
  switchyard finish -c switchyard.toml
  switchyard finish -c switchyard.toml --yes

Exit statuses: 0; 1 it could not be removed, repeat it; 2 wrong usage or configuration;
3 a daemon of this migration is still running: stop it first."
)]
pub struct FinishArgs {
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub async fn run(global: &Global, args: &FinishArgs) -> Result<u8> {
    let config = global.load()?;
    global.log_to_stderr()?;
    let source = crate::source::open(config.source_options()?)?;
    let target = crate::target::open(config.target_options())?;
    // Held until both sides are clean, so that no daemon starts in between.
    let lock = target.lock().await.map_err(|e| {
        if e.exit_status() == 3 {
            e.hint("a daemon of this migration is running: stop it (Ctrl-C or SIGTERM), then finish")
        } else {
            e
        }
    })?;
    if !args.yes {
        confirm(&config.name)?;
    }
    let on_target = target.finish().await.context("finishing on the target")?;
    let on_source = source.finish().await.context("finishing on the source")?;
    drop(lock);
    if global.json {
        print_json(&json!({"name": config.name, "target": on_target, "source": on_source}));
    } else {
        print_text(&format!("{}{}", told("target", &on_target), told("source", &on_source)));
    }
    Ok(0)
}

/// What was done on one side.
fn told(side: &str, lines: &[String]) -> String {
    if lines.is_empty() {
        return format!("{side}: nothing of this migration was left\n");
    }
    let lines: String = lines.iter().map(|l| format!("  {l}\n")).collect();
    format!("{side}:\n{lines}")
}

fn confirm(name: &str) -> Result<()> {
    let refused = |what: &str| Error::config(what.to_owned()).hint("give --yes to finish without being asked");
    if !std::io::stdin().is_terminal() {
        return Err(refused("finish asks before it removes anything, and there is no terminal to ask at"));
    }
    eprint!("Remove slot, publication and bookkeeping of migration {name:?}? It cannot be resumed afterwards. [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(|e| refused(&format!("reading the answer: {e}")))?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(refused("nothing was removed")),
    }
}
