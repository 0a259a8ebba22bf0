//! The daemon of the demo: this same program as a child process, so that it can be killed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::cli::Global;
use crate::cli::client::Client;
use crate::error::{Error, Result, ResultExt};
use crate::status::{Phase, Status};

/// Where the program, its configuration and its log are, and what its configuration's variables stand for.
#[derive(Clone, Debug)]
pub struct Program {
    /// The configuration file.
    pub config: PathBuf,
    /// Where the daemon's log goes; every start adds to it.
    pub log: PathBuf,
    /// `http://127.0.0.1:port`.
    pub api: String,
    /// Passwords, which are in no file.
    pub variables: Vec<(&'static str, String)>,
}

impl Program {
    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let program = std::env::current_exe().map_err(|e| Error::fatal(format!("finding this program's file: {e}")))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .arg("-c")
            .arg(&self.config)
            .envs(self.variables.iter().map(|(k, v)| (k, v)))
            .env_remove("SWITCHYARD_API")
            .env_remove("SWITCHYARD_TOKEN")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            // A Ctrl-C at the terminal is this process's to handle.
            .process_group(0)
            .kill_on_drop(true);
        // SAFETY: prctl and raise are async-signal-safe and touch no memory. The signal comes when the thread ends that
        // started the child: the demo's, which lives as long as the process.
        unsafe {
            let owner = libc::getpid();
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                if libc::getppid() != owner {
                    libc::raise(libc::SIGKILL);
                }
                Ok(())
            });
        }
        Ok(command)
    }

    /// Runs a command to its end; what it printed, and whether its exit status was 0.
    pub async fn run(&self, arguments: &[&str]) -> Result<(String, bool)> {
        let out = self.command(arguments)?.output().await.context("starting this program again")?;
        let mut text = String::from_utf8_lossy(&out.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&out.stderr));
        Ok((text, out.status.success()))
    }

    /// Starts the daemon.
    pub fn start(&self) -> Result<Daemon> {
        let file = File::options().append(true).create(true).open(&self.log);
        let log = file.with_context(|| format!("opening {}", self.log.display()))?;
        let copy = log.try_clone().context("opening the daemon's log")?;
        let mut command = self.command(&["run"])?;
        command.stdout(log).stderr(copy);
        let child = command.spawn().context("starting the daemon")?;
        Ok(Daemon { child, program: self.clone() })
    }
}

/// A running daemon. Dropping it kills it.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    program: Program,
}

impl Daemon {
    /// Its process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Kills it as `kill -9` does and waits until it is gone.
    pub async fn kill9(mut self) -> Result<()> {
        self.child.kill().await.context("killing the daemon")
    }

    /// Asks it to stop (SIGTERM), and waits until it has.
    ///
    /// # Errors
    /// If it takes longer than 30 seconds, or ends with another status than 0.
    pub async fn stop(mut self) -> Result<()> {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            // SAFETY: kill has no memory to touch; the child was not waited for, so the pid is still its own.
            unsafe { libc::kill(pid, libc::SIGTERM) };
        }
        match tokio::time::timeout(Duration::from_secs(30), self.child.wait()).await {
            Ok(status) if status.as_ref().is_ok_and(|s| s.success()) => Ok(()),
            Ok(Ok(status)) => Err(Error::fatal(format!("the daemon was asked to stop and ended with {status}"))),
            Ok(Err(e)) => Err(Error::from(e).context("waiting for the daemon's end")),
            Err(_) => Err(Error::fatal("the daemon did not stop within 30 seconds of SIGTERM")),
        }
    }

    /// What `GET /api/v1/status` says; `None` while nobody answers yet.
    ///
    /// # Errors
    /// If the daemon has ended, or says that it has failed.
    pub async fn status(&mut self) -> Result<Option<Status>> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return Err(Error::fatal(format!("the daemon ended by itself with {status}")));
        }
        let api = self.program.api.clone();
        let asked = tokio::task::spawn_blocking(move || ask(api)).await;
        let Ok(Some(status)) = asked else { return Ok(None) };
        if status.phase == Phase::Failed {
            let why = status.last_error.map_or("no reason was given".to_owned(), |e| e.message);
            return Err(Error::fatal(format!("the daemon failed: {why}")));
        }
        Ok(Some(status))
    }
}

fn ask(api: String) -> Option<Status> {
    let global = Global { config: None, json: false, api: Some(api), token: None, verbose: 0, log_format: None };
    let body = Client::new(&global).ok()?.get("/api/v1/status").ok()?;
    serde_json::from_str(&body).ok()
}

/// The last lines of a log.
pub fn tail(log: &Path, lines: usize) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].iter().map(|l| (*l).to_owned()).collect()
}
