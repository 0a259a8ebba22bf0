//! `switchyard run`: the daemon, its API, its progress, and how it is stopped.

use std::io::IsTerminal;

use clap::Args;
use indicatif::{MultiProgress, ProgressDrawTarget};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Global;
use super::output::print_json;
use super::progress;
use crate::config::{Config, LogFormat};
use crate::error::{Class, Error, Result};
use crate::http::{self, Access, Api};
use crate::metrics::Metrics;
use crate::status::StatusHandle;

/// Run the migration: schema, copy, follow; stop with Ctrl-C, start again to resume
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "What it does: makes the schema on the target, copies all rows at one consistent moment, then applies
what was written since, and goes on doing so until it is stopped. The checkpoint lies in the target, in the same
transactions as the rows: whenever and however it is stopped, starting it again resumes, and nothing is applied twice.
A server that stops answering is waited for.

SIGTERM and Ctrl-C stop it after the transaction under way; a second signal stops it at once, which is safe too.

Examples:
  switchyard run -c switchyard.toml
  switchyard run -c switchyard.toml --no-progress --log-format json

Exit statuses: 0 stopped; 1 an error that waiting does not mend; 2 wrong usage or configuration;
3 another daemon holds this migration."
)]
pub struct RunArgs {
    /// Log lines instead of progress bars, also on a terminal
    #[arg(long)]
    no_progress: bool,
}

pub async fn run(global: &Global, args: &RunArgs) -> Result<u8> {
    let config = global.load()?;
    let on_terminal = std::io::stderr().is_terminal() && !args.no_progress && !global.json;
    let bars = on_terminal.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(5)));
    let mut log = config.log.clone();
    log.format = global.log_format.unwrap_or(log.format);
    crate::logging::init(&log, global.verbose, bars.clone())?;
    for notice in config.notices() {
        tracing::warn!("{notice}");
    }

    let status = StatusHandle::new(&config.name);
    let metrics = Metrics::new();
    let listener = match http::bind(&config.api.listen).await {
        Ok(listener) => listener,
        Err(e) => return Err(or_fenced(&config, e).await),
    };
    let address = listener.local_addr().map_err(|e| Error::fatal(format!("reading the API's address: {e}")))?;
    tracing::info!(name = %config.name, api = %format!("http://{address}"), version = env!("CARGO_PKG_VERSION"), "starting");
    let shutdown = CancellationToken::new();
    // Ends after the daemon, so that the last status can be asked for until the end.
    let api_stop = CancellationToken::new();
    let api = Api {
        status: status.clone(),
        metrics: metrics.clone(),
        access: Access { operator: config.api.tokens.operator.clone(), viewer: config.api.tokens.viewer.clone() },
    };
    let mut server = tokio::spawn(http::serve(listener, api, api_stop.clone().cancelled_owned()));
    let signals = tokio::spawn(stop_on_signals(shutdown.clone())?);
    let display = tokio::spawn(progress::show(status.clone(), bars, api_stop.clone()));

    let daemon = crate::daemon::run(config, status.clone(), metrics, shutdown.clone());
    tokio::pin!(daemon);
    let result = tokio::select! {
        result = &mut daemon => result,
        served = &mut server => {
            // Without its API nobody could see or stop it: stop it in order.
            shutdown.cancel();
            let stopped = daemon.await;
            let broken = served.unwrap_or_else(|e| Err(Error::fatal(format!("the API's task ended: {e}"))));
            broken.and(stopped)
        }
    };
    if let Err(e) = &result {
        status.set_error(e);
        // The caller prints it for people; who reads log lines by program, or later in a file, finds it there.
        if log.file.is_some() || log.format == LogFormat::Json {
            tracing::error!(class = e.class().label(), hint = e.hint_text(), "{e}");
        }
    }
    api_stop.cancel();
    signals.abort();
    let _ = display.await;
    if !server.is_finished() {
        // A client that keeps its connection open must not keep the process.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(500), &mut server).await;
        server.abort();
    }
    result?;
    if global.json {
        print_json(&status.get());
    }
    tracing::info!("stopped");
    Ok(0)
}

/// Why the API's address cannot be had. Started twice with one file, the port is taken because the migration is: that is
/// what to say then, with its exit status.
async fn or_fenced(config: &Config, bind: Error) -> Error {
    let Ok(target) = crate::target::open(config.target_options()) else { return bind };
    match target.lock().await {
        Err(e) if e.class() == Class::Fenced => e,
        _ => bind,
    }
}

/// The first signal asks, the second one insists.
fn stop_on_signals(shutdown: CancellationToken) -> Result<impl Future<Output = ()>> {
    let listen = |kind| signal(kind).map_err(|e| Error::fatal(format!("listening for signals: {e}")));
    let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        for again in [false, true] {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            if again {
                eprintln!("stopped at once; starting again resumes");
                std::process::exit(0);
            }
            tracing::info!("stopping after the transaction under way; once more to stop at once");
            shutdown.cancel();
        }
    })
}
