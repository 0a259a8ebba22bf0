//! The command line: one file a command, exit statuses, and what a bug looks like.

mod check;
mod client;
pub mod demo;
mod finish;
mod init;
mod output;
mod progress;
mod run;
mod status;
mod transform;
mod verify;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config::{Config, LogConfig, LogFormat};
use crate::error::{Error, Result};

/// Move a live database to another server while the application keeps running.
///
/// Switchyard copies a consistent snapshot, follows the source's own log, and keeps the target level: between PostgreSQL,
/// MySQL, MariaDB and MongoDB servers, in any direction.
#[derive(Debug, Parser)]
#[command(name = "switchyard", version, about)]
#[command(after_help = "Start here:
  switchyard init --source postgres://… --target postgres://… > switchyard.toml
  switchyard check -c switchyard.toml
  switchyard run -c switchyard.toml

Or watch it work on private servers of its own: switchyard demo

Exit statuses: 0 success; 1 an error, or something was found; 2 wrong usage or configuration;
3 another daemon holds the migration. Each command's --help says more.")]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options that every command takes.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Configuration file (TOML); see config/example.toml for every key
    #[arg(short, long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// Print one JSON document on stdout; texts for people go to stderr
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// Address of the running daemon's API [default: api.listen of the configuration, else http://127.0.0.1:7654]
    #[arg(long, global = true, value_name = "URL", env = "SWITCHYARD_API", help_heading = "Global options")]
    pub api: Option<String>,
    /// Token for the API [default: from the configuration]
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        env = "SWITCHYARD_TOKEN",
        hide_env_values = true,
        help_heading = "Global options"
    )]
    pub token: Option<String>,
    /// Log more; twice: everything. RUST_LOG, if set, wins
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
    /// Form of log lines on stderr [default: log.format of the configuration, else text]
    #[arg(long, global = true, value_name = "FORMAT", value_enum, help_heading = "Global options")]
    pub log_format: Option<LogFormat>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print a commented configuration, made by looking at the source
    Init(init::InitArgs),
    /// Look at both servers and say what stands in the way, with what to do about it
    Check(check::CheckArgs),
    /// Run the migration: schema, copy, follow; stop with Ctrl-C, start again to resume
    Run(run::RunArgs),
    /// Show how the running daemon is doing
    Status(status::StatusArgs),
    /// Show a row before and after the rules, and what reverse would make of it
    Transform(transform::TransformArgs),
    /// Compare source and target, row by row, while the stream runs
    Verify(verify::VerifyArgs),
    /// Remove what the migration made on both servers, when it is over
    Finish(finish::FinishArgs),
    /// Watch the whole story on private servers of its own
    Demo(demo::DemoArgs),
}

/// Runs the program; the exit status is the documented one of the command.
pub fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|info| {
        // What was being held when it happened may be a row's value, and the panic's text may quote it: after the first
        // quote nothing is shown.
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("");
        let text = text.split(['"', '`']).next().unwrap_or("").trim();
        let place = info.location().map(|l| format!(" at {}:{}", l.file(), l.line())).unwrap_or_default();
        eprintln!("error: this is a bug in switchyard {}: {text}{place}", env!("CARGO_PKG_VERSION"));
        eprintln!(
            "  hint: the target is what its checkpoint says: starting again resumes there. Please report the line above"
        );
    }));
    match catch_unwind(AssertUnwindSafe(dispatch)) {
        Ok(status) => ExitCode::from(status),
        Err(_) => ExitCode::from(1),
    }
}

fn dispatch() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let usage_error = e.use_stderr();
            // Printing fails only when nobody reads any more.
            let _ = e.print();
            if usage_error && std::env::args().any(|a| a == "--json") {
                let text = e.to_string();
                let first = text.lines().next().unwrap_or("").trim_start_matches("error: ").to_owned();
                output::print_json(&output::error_document(&Error::config(first).hint("see --help")));
            }
            return if usage_error { 2 } else { 0 };
        }
    };
    // One provider for all TLS; a second installation in one process is refused, which changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let json = cli.global.json;
    match execute(cli) {
        Ok(status) => status,
        Err(e) => {
            output::print_error(&e, json);
            e.exit_status()
        }
    }
}

fn execute(cli: Cli) -> Result<u8> {
    let global = &cli.global;
    match &cli.command {
        Command::Init(args) => block_on(init::run(global, args)),
        Command::Check(args) => block_on(check::run(global, args)),
        Command::Run(args) => block_on(run::run(global, args)),
        Command::Status(args) => status::run(global, args),
        Command::Transform(args) => block_on(transform::run(global, args)),
        Command::Verify(args) => block_on(verify::run(global, args)),
        Command::Finish(args) => block_on(finish::run(global, args)),
        Command::Demo(args) => block_on(demo::run(args.clone())),
    }
}

fn block_on(command: impl Future<Output = Result<u8>>) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::fatal(format!("starting threads: {e}")))?;
    let result = runtime.block_on(command);
    // Connections that are being closed in the background need not be waited for.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    result
}

impl Global {
    /// The configuration that `-c` names.
    fn load(&self) -> Result<Config> {
        match &self.config {
            Some(path) => Config::load(path),
            None => Err(Error::config("no configuration file was given")
                .hint("give one with -c FILE; `switchyard init --source URL --target URL` prints one to start from")),
        }
    }

    /// Logging for commands that have no `[log]` section or do not follow it into its file.
    fn log_to_stderr(&self) -> Result<()> {
        let log = LogConfig { format: self.log_format.unwrap_or_default(), ..LogConfig::default() };
        // Short commands print their own result: only what is unusual is logged, unless -v asks.
        if self.verbose == 0 && std::env::var_os("RUST_LOG").is_none() {
            return Ok(());
        }
        crate::logging::init(&log, self.verbose.saturating_sub(1), None)
    }
}

/// The definition of the command line, for documentation and tests.
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    #[test]
    fn given_the_definition_when_checked_then_it_is_sound() {
        super::command().debug_assert();
    }
}
