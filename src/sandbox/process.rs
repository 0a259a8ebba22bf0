//! A child process that dies with its owner, and signals to it and to its own children.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// A running child, kept by a thread of its own.
///
/// Linux delivers the parent-death signal when the *thread* that spawned a child ends, not when the
/// process does. Test threads and runtime workers come and go, so each child is spawned by a thread
/// that does nothing but wait for it.
#[derive(Debug)]
pub(super) struct Kept {
    pid: i32,
    ended: mpsc::Receiver<std::io::Result<ExitStatus>>,
    status: Option<String>,
}

impl Kept {
    /// Spawns `command` in a session of its own (a Ctrl-C at the terminal is the owner's to handle);
    /// `death_signal` reaches it when this process dies, however it dies.
    pub(super) fn spawn(mut command: Command, death_signal: libc::c_int) -> Result<Kept> {
        let program = command.get_program().to_string_lossy().into_owned();
        // SAFETY: getpid and, in the child between fork and exec, setsid, prctl, getppid and raise
        // are async-signal-safe and touch no memory.
        unsafe {
            let owner = libc::getpid();
            command.pre_exec(move || {
                libc::setsid();
                if libc::prctl(libc::PR_SET_PDEATHSIG, death_signal) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                // The owner may have died before the line above.
                if libc::getppid() != owner {
                    libc::raise(libc::SIGKILL);
                }
                Ok(())
            });
        }
        let (told, started) = mpsc::channel();
        let (tell_end, ended) = mpsc::channel();
        thread::Builder::new()
            .name("sandbox-keeper".into())
            .spawn(move || match command.spawn() {
                Err(error) => drop(told.send(Err(error))),
                Ok(mut child) => {
                    let _ = told.send(Ok(child.id()));
                    let _ = tell_end.send(child.wait());
                }
            })
            .context("starting the thread that keeps a private server")?;
        let pid = started
            .recv()
            .context("the thread that keeps a private server ended early")?
            .with_context(|| format!("starting {program}"))?;
        let pid = i32::try_from(pid).context("a process id beyond the kernel's range")?;
        Ok(Kept { pid, ended, status: None })
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// How the child ended, if it has, within `patience`.
    pub(super) fn ended_within(&mut self, patience: Duration) -> Option<&str> {
        if self.status.is_none() {
            self.status = match self.ended.recv_timeout(patience) {
                Ok(Ok(status)) => Some(status.to_string()),
                Ok(Err(error)) => Some(format!("an error while waiting for it: {error}")),
                Err(mpsc::RecvTimeoutError::Disconnected) => Some("an unknown status".into()),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
            };
        }
        self.status.as_deref()
    }

    /// Sends `signal` to the child unless it has ended.
    pub(super) fn signal(&mut self, signal: libc::c_int) {
        if self.ended_within(Duration::ZERO).is_none() {
            send(self.pid, signal);
        }
    }
}

/// A process named by its pid and start time, so that a pid given away again is not mistaken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProcessId {
    pid: i32,
    started: u64,
}

impl ProcessId {
    pub(super) fn alive(self) -> bool {
        stat(self.pid).is_some_and(|(_, started, state)| started == self.started && state != 'Z')
    }

    pub(super) fn signal(self, signal: libc::c_int) {
        if self.alive() {
            send(self.pid, signal);
        }
    }
}

/// The children of `parent` at this moment.
pub(super) fn children(parent: i32) -> Vec<ProcessId> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| {
            let (its_parent, started, _) = stat(pid)?;
            (its_parent == parent).then_some(ProcessId { pid, started })
        })
        .collect()
}

/// Waits until none of `processes` is alive; what is left after `patience` is killed.
pub(super) fn outlive(processes: &[ProcessId], patience: Duration) {
    let deadline = Instant::now() + patience;
    while processes.iter().any(|process| process.alive()) {
        if Instant::now() > deadline {
            for process in processes {
                process.signal(libc::SIGKILL);
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Parent, start time in clock ticks since boot, and state of a process (proc(5), `/proc/pid/stat`).
fn stat(pid: i32) -> Option<(i32, u64, char)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, and may hold anything.
    let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let started = fields.nth(17)?.parse().ok()?;
    Some((parent, started, state))
}

fn send(pid: i32, signal: libc::c_int) {
    // SAFETY: kill has no memory preconditions; a process that is gone is what the caller wants.
    unsafe {
        libc::kill(pid, signal);
    }
}
