//! The `switchyard` process: configuration, start, status, stop, peak memory.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::rig::run;

/// How often the status is asked.
const POLL: Duration = Duration::from_millis(10);

/// One migration: its configuration file and where its daemon answers.
pub struct Migration {
    /// Its name in the configuration.
    pub name: String,
    config: PathBuf,
    log: PathBuf,
    port: u16,
}

impl Migration {
    /// Writes the configuration: addresses only, everything else as it is by itself.
    pub fn new(folder: &Path, name: &str, source: &str, target: &str) -> Result<Migration> {
        Migration::with(folder, name, source, target, "", "")
    }

    /// The same with lines of `[target]` and further sections.
    pub fn with(
        folder: &Path,
        name: &str,
        source: &str,
        target: &str,
        of_target: &str,
        extra: &str,
    ) -> Result<Migration> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let config = folder.join(format!("{name}.toml"));
        let text = format!(
            "name = \"{name}\"\n[source]\nurl = \"{source}\"\n[target]\nurl = \"{target}\"\n{of_target}\n[api]\nlisten = \"127.0.0.1:{port}\"\n{extra}\n"
        );
        fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
        Ok(Migration { name: name.to_owned(), config, log: folder.join(format!("{name}.log")), port })
    }

    /// A command of the program with this configuration.
    pub fn command(&self, command: &str) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_switchyard"));
        c.arg(command).arg("-c").arg(&self.config).stdin(Stdio::null());
        c
    }

    /// Starts `switchyard run`.
    pub fn start(&self) -> Result<Daemon> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = self.command("run");
        command.args(["--no-progress"]).stdout(log.try_clone()?).stderr(log);
        let begun = Instant::now();
        let child = command.spawn().context("starting switchyard")?;
        let agent =
            ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).proxy(None).build().into();
        Ok(Daemon {
            child,
            begun,
            agent,
            url: format!("http://127.0.0.1:{}/api/v1/status", self.port),
            log: self.log.clone(),
        })
    }

    /// Removes what the migration made on both servers.
    pub fn finish(&self) -> Result<()> {
        run(self.command("finish").arg("--yes")).map(drop)
    }
}

/// A running daemon. It is killed if it is dropped before it was stopped.
pub struct Daemon {
    child: Child,
    /// When its process was started.
    pub begun: Instant,
    agent: ureq::Agent,
    url: String,
    log: PathBuf,
}

impl Daemon {
    fn status(&self) -> Option<Value> {
        let body = self.agent.get(&self.url).call().ok()?.body_mut().read_to_string().ok()?;
        serde_json::from_str(&body).ok()
    }

    /// Asks for the status until `wanted` holds; when it did.
    pub fn wait_until(&mut self, what: &str, patience: Duration, wanted: impl Fn(&Value) -> bool) -> Result<Instant> {
        let deadline = Instant::now() + patience;
        loop {
            let status = self.status();
            let now = Instant::now();
            if let Some(status) = &status {
                if wanted(status) {
                    return Ok(now);
                }
                if status["phase"] == "failed" {
                    bail!("switchyard failed while waiting until it is {what}:\n{}", self.log_tail());
                }
            }
            self.alive(what)?;
            if now > deadline {
                let phase = status.map_or("unknown".into(), |s| s["phase"].to_string());
                bail!(
                    "switchyard is not {what} after {patience:?}; its phase is {phase}; its log:\n{}",
                    self.log_tail()
                );
            }
            sleep(POLL);
        }
    }

    /// Waits until the target is consistent and level with an idle source.
    pub fn wait_until_ready(&mut self, patience: Duration) -> Result<Instant> {
        self.wait_until("ready", patience, |s| s["phase"] == "ready" && s["stream"]["consistent"] == true)
    }

    /// Fails if the process has ended.
    pub fn alive(&mut self, what: &str) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => {
                bail!("switchyard ended with {status} instead of being {what}; its log:\n{}", self.log_tail())
            }
            None => Ok(()),
        }
    }

    /// The largest resident memory so far, in bytes (proc(5), `VmHWM`).
    pub fn peak_memory(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:")).context("no VmHWM in the process's status")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib * 1024)
    }

    /// Processor time used so far, in seconds.
    pub fn processor_seconds(&self) -> Result<f64> {
        processor_seconds(self.child.id())
    }

    /// Stops it as an operator does, and waits until it is gone.
    pub fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id())?;
        // SAFETY: kill has no memory preconditions, and the child was not waited for yet, so its id is still its own.
        unsafe {
            libc::kill(pid, libc::SIGTERM);
        }
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("switchyard ended with {status} when stopped; its log:\n{}", self.log_tail()),
                None => sleep(Duration::from_millis(5)),
            }
        }
        bail!("switchyard did not stop within 30 seconds; its log:\n{}", self.log_tail())
    }

    fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time that a process used so far, user and system together, in seconds (proc(5), `/proc/pid/stat`).
pub fn processor_seconds(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after = text.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after.split_ascii_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
    // SAFETY: sysconf has no memory preconditions.
    let a_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Ok(ticks as f64 / a_second as f64)
}
