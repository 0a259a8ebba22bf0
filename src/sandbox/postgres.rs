//! One private PostgreSQL server: start, stop, kill, pause, replicate, back up and restore.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::folder::{ServerFolder, copy_tree, give_to, set_mode};
use super::install::{Identity, PgInstall, run};
use super::process::{Kept, ProcessId, children, outlive};
use super::{port, template, tls};

/// How long a server may take to accept connections; crash recovery is part of it.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// How long a server may take to stop before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// How a server is stopped (PostgreSQL manual, "Shutting Down the Server").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Roll back what runs, write a checkpoint, wait for walsenders to have sent everything.
    Fast,
    /// Drop everything at once; the next start recovers from the log.
    Immediate,
}

/// What a private server is to be like; see [`PgServer::builder`].
#[derive(Debug, Clone)]
pub struct PgServerBuilder {
    install: PgInstall,
    settings: BTreeMap<String, String>,
    hba: Vec<String>,
    tls: bool,
    password_auth: bool,
}

impl PgServerBuilder {
    /// Sets a server setting, over the defaults that [`PgServer::builder`] lists.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Puts lines of `pg_hba.conf` before the ones that let everybody in from loopback.
    pub fn hba<L: Into<String>>(mut self, lines: impl IntoIterator<Item = L>) -> Self {
        self.hba.extend(lines.into_iter().map(Into::into));
        self
    }

    /// Makes the server speak TLS, with a certificate for the name `localhost` only; the authority
    /// to trust is [`PgServer::tls_ca`]. Connections without TLS stay possible unless `hba` forbids.
    pub fn tls(mut self, on: bool) -> Self {
        self.tls = on;
        self
    }

    /// Asks everybody for a password, SCRAM-SHA-256. Without it everybody is trusted. The superuser's
    /// password is random and part of [`PgServer::url`] either way.
    pub fn password_auth(mut self, on: bool) -> Self {
        self.password_auth = on;
        self
    }

    /// Makes the data directory, starts the server and waits until it accepts connections.
    pub fn start(self) -> Result<PgServer> {
        let folder = ServerFolder::create(self.install.chroot.as_deref())?;
        let data = folder.path().join("data");
        let password = template::new_data_dir(&self.install, &data)?;
        let owner = self.install.server_owner()?;
        let ca = if self.tls {
            tls::make(folder.path(), &data, owner)?;
            Some(folder.path().join("ca.crt"))
        } else {
            None
        };
        let mut server = PgServer {
            running: None,
            install: self.install,
            data,
            port: 0,
            password,
            settings: self.settings,
            hba: self.hba,
            password_auth: self.password_auth,
            ca,
            paused: Vec::new(),
            folder,
        };
        if server.ca.is_some() {
            server.settings.insert("ssl".into(), "on".into());
        }
        server.write_hba()?;
        server.start_on_a_free_port()?;
        Ok(server)
    }
}

/// A private PostgreSQL server on 127.0.0.1. Dropping it stops it and removes its folder; killing
/// the owning process stops it too, and the next private server sweeps the folder away.
#[derive(Debug)]
pub struct PgServer {
    // Declared before `folder`: the server must be gone before its files are.
    running: Option<Kept>,
    install: PgInstall,
    data: PathBuf,
    port: u16,
    password: String,
    settings: BTreeMap<String, String>,
    hba: Vec<String>,
    password_auth: bool,
    ca: Option<PathBuf>,
    /// The processes that [`PgServer::sigstop`] stopped.
    paused: Vec<ProcessId>,
    folder: ServerFolder,
}

/// A copy of a data directory that was made while its server stood still.
#[derive(Debug)]
pub struct OfflineBackup {
    path: PathBuf,
}

impl PgServer {
    /// A server of the given installation: UTF-8, locale C.UTF-8, time zone UTC, superuser
    /// `postgres`, `wal_level = logical`, 20 walsenders and slots, `shared_buffers = 128MB`,
    /// `fsync = on`, listening on 127.0.0.1 only. Any of it can be set otherwise.
    pub fn builder(install: &PgInstall) -> PgServerBuilder {
        PgServerBuilder {
            install: install.clone(),
            settings: BTreeMap::new(),
            hba: Vec::new(),
            tls: false,
            password_auth: false,
        }
    }

    /// A libpq-style URL for the superuser.
    pub fn url(&self, database: &str) -> String {
        self.url_as("postgres", &self.password, database)
    }

    /// A libpq-style URL for any user; what needs it is percent-encoded.
    pub fn url_as(&self, user: &str, password: &str, database: &str) -> String {
        let (user, database) = (encode(user), encode(database));
        let password = if password.is_empty() { String::new() } else { format!(":{}", encode(password)) };
        format!("postgres://{user}{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// The port on 127.0.0.1; it stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The random password of the superuser `postgres`.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The data directory, as this process sees it.
    pub fn data_dir(&self) -> &Path {
        &self.data
    }

    /// The server's own log, all starts one after the other.
    pub fn log_file(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    /// The authority that signed the server's certificate, when it was built with TLS.
    pub fn tls_ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// The installation the server is of.
    pub fn install(&self) -> &PgInstall {
        &self.install
    }

    /// The postmaster's process id while it runs.
    pub fn pid(&self) -> Option<i32> {
        self.running.as_ref().map(Kept::pid)
    }

    /// Changes a setting; it holds from the next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.insert(name.to_owned(), value.to_owned());
    }

    /// Stops the server and waits until its processes are gone. One that is stopped stays so.
    pub fn stop(&mut self, mode: StopMode) -> Result<()> {
        let signal = match mode {
            StopMode::Fast => libc::SIGINT,
            StopMode::Immediate => libc::SIGQUIT,
        };
        let Some(mut kept) = self.running.take() else {
            return Ok(());
        };
        let children = children(kept.pid());
        kept.signal(signal);
        self.sigcont();
        if kept.ended_within(STOP_PATIENCE).is_none() {
            self.running = Some(kept);
            let log = self.log_tail();
            self.kill9();
            bail!(
                "the private server on port {} did not stop within {} seconds and was killed; its log ends with:\n{log}",
                self.port,
                STOP_PATIENCE.as_secs(),
            );
        }
        outlive(&children, Duration::from_secs(5));
        Ok(())
    }

    /// Stops the server and starts it again on the same port.
    pub fn restart(&mut self, mode: StopMode) -> Result<()> {
        self.stop(mode)?;
        self.start_again()
    }

    /// Kills the postmaster as `kill -9` does, and waits until its children have noticed and gone
    /// (a child that has not within ten seconds is killed, too).
    pub fn kill9(&mut self) {
        let Some(mut kept) = self.running.take() else {
            return;
        };
        // Standing still it cannot fork a child that the list below would miss.
        kept.signal(libc::SIGSTOP);
        let children = children(kept.pid());
        kept.signal(libc::SIGKILL);
        kept.ended_within(STOP_PATIENCE);
        self.sigcont();
        outlive(&children, Duration::from_secs(10));
    }

    /// Starts a stopped or killed server on the port it had.
    pub fn start_again(&mut self) -> Result<()> {
        if self.running.is_some() {
            bail!("the private server on port {} runs already", self.port);
        }
        match self.launch()? {
            Launch::Ready => Ok(()),
            Launch::PortTaken => bail!("another program took port {} while the private server was stopped", self.port),
        }
    }

    /// Makes every process of the server stand still: connections stay open and nothing answers.
    pub fn sigstop(&mut self) {
        let Some(kept) = &mut self.running else {
            return;
        };
        kept.signal(libc::SIGSTOP);
        // The postmaster stands still, so the list is complete.
        let children = children(kept.pid());
        for child in &children {
            child.signal(libc::SIGSTOP);
        }
        self.paused = children;
    }

    /// Lets a server that [`PgServer::sigstop`] stopped go on.
    pub fn sigcont(&mut self) {
        for child in self.paused.drain(..) {
            child.signal(libc::SIGCONT);
        }
        if let Some(kept) = &mut self.running {
            kept.signal(libc::SIGCONT);
        }
    }

    /// A running hot standby of this server, made by `pg_basebackup -R`, with further settings.
    pub fn base_backup(&self, settings: &[(&str, &str)]) -> Result<PgServer> {
        let folder = ServerFolder::create(self.install.chroot.as_deref())?;
        let owner = self.install.server_owner()?;
        let data = folder.path().join("data");
        fs::create_dir(&data).with_context(|| format!("creating {}", data.display()))?;
        set_mode(&data, 0o700)?;
        give_to(&data, owner)?;
        let mut command = self.install.command("pg_basebackup", Identity::Server)?;
        command
            .env("PGPASSWORD", &self.password)
            .arg("--pgdata")
            .arg(self.install.inside(&data)?)
            .args(["--host=127.0.0.1", "--username=postgres", "--no-password"])
            .arg(format!("--port={}", self.port))
            .args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast"])
            .arg("--no-sync");
        run(&mut command).with_context(|| format!("copying the private server on port {}", self.port))?;
        let mut all = self.settings.clone();
        all.extend(settings.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        let ca = match &self.ca {
            None => None,
            Some(ca) => {
                let own = folder.path().join("ca.crt");
                fs::copy(ca, &own).with_context(|| format!("copying {}", ca.display()))?;
                Some(own)
            }
        };
        let mut replica = PgServer {
            running: None,
            install: self.install.clone(),
            data,
            port: 0,
            password: self.password.clone(),
            settings: all,
            hba: self.hba.clone(),
            password_auth: self.password_auth,
            ca,
            paused: Vec::new(),
            folder,
        };
        replica.start_on_a_free_port()?;
        Ok(replica)
    }

    /// Stops the server, copies its data directory aside, and starts it again.
    pub fn copy_data_dir_offline(&mut self) -> Result<OfflineBackup> {
        self.stop(StopMode::Fast)?;
        let path = (1..)
            .map(|number| self.folder.path().join(format!("backup-{number}")))
            .find(|path| !path.exists())
            .context("no free name for a backup")?;
        copy_tree(&self.data, &path)?;
        self.start_again()?;
        Ok(OfflineBackup { path })
    }

    /// Puts an older copy of the data directory back, as an operator restoring a backup would, and
    /// starts the server on it. The backup can be restored again.
    pub fn restore(&mut self, backup: &OfflineBackup) -> Result<()> {
        self.stop(StopMode::Immediate)?;
        fs::remove_dir_all(&self.data).with_context(|| format!("removing {}", self.data.display()))?;
        copy_tree(&backup.path, &self.data)?;
        self.start_again()
    }

    /// Runs SQL as the superuser in `database` through `psql` and returns its rows, fields separated
    /// by `|`, without the last newline. An error stops it and becomes the error.
    pub fn psql_in(&self, database: &str, sql: &str) -> Result<String> {
        let mut command = self.install.command("psql", Identity::Current)?;
        command
            .env("PGPASSWORD", &self.password)
            .args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only"])
            .args(["--set=ON_ERROR_STOP=1", "--host=127.0.0.1", "--username=postgres"])
            .arg(format!("--port={}", self.port))
            .arg(format!("--dbname={database}"))
            .arg(format!("--command={sql}"));
        Ok(run(&mut command)?.trim_end_matches('\n').to_owned())
    }

    /// [`PgServer::psql_in`] in the database `postgres`.
    pub fn psql(&self, sql: &str) -> Result<String> {
        self.psql_in("postgres", sql)
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self) -> String {
        let text = fs::read(self.log_file()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn write_hba(&self) -> Result<()> {
        let method = if self.password_auth { "scram-sha-256" } else { "trust" };
        let mut text = self.hba.join("\n");
        text.push_str(&format!("\nhost all all 127.0.0.1/32 {method}\nhost replication all 127.0.0.1/32 {method}\n"));
        self.write_in_data("pg_hba.conf", &text)
    }

    fn write_conf(&self) -> Result<()> {
        let mut all: BTreeMap<&str, &str> = BTreeMap::from([
            ("listen_addresses", "127.0.0.1"),
            ("unix_socket_directories", ""),
            ("wal_level", "logical"),
            ("max_wal_senders", "20"),
            ("max_replication_slots", "20"),
            ("max_connections", "100"),
            ("shared_buffers", "128MB"),
            ("timezone", "UTC"),
            ("log_timezone", "UTC"),
            ("lc_messages", "C"),
            ("log_line_prefix", "%m [%p] %q%u@%d "),
            ("password_encryption", "scram-sha-256"),
        ]);
        if self.install.chroot.is_some() {
            // /dev/shm of a chroot is a plain folder that only root may write to; this one lies in
            // the data directory.
            all.insert("dynamic_shared_memory_type", "mmap");
        }
        all.extend(self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let mut text = String::from("# Written at every start; ALTER SYSTEM is kept apart from it.\n");
        for (name, value) in all {
            text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        text.push_str(&format!("port = {}\n", self.port));
        self.write_in_data("postgresql.conf", &text)
    }

    fn write_in_data(&self, name: &str, text: &str) -> Result<()> {
        let path = self.data.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        set_mode(&path, 0o600)?;
        give_to(&path, self.install.server_owner()?)
    }

    fn start_on_a_free_port(&mut self) -> Result<()> {
        for _ in 0..20 {
            self.port = port::free()?;
            match self.launch()? {
                Launch::Ready => return Ok(()),
                Launch::PortTaken => {}
            }
        }
        bail!("twenty free ports in a row were taken by other programs before a server could use them")
    }

    fn launch(&mut self) -> Result<Launch> {
        self.write_conf()?;
        let log_path = self.log_file();
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log_path)
            .with_context(|| format!("opening {}", log_path.display()))?;
        let log_start = log.metadata().map_or(0, |meta| meta.len());
        let both = log.try_clone().with_context(|| format!("opening {}", log_path.display()))?;
        let mut command = self.install.command("postgres", Identity::Server)?;
        command.arg("-D").arg(self.install.inside(&self.data)?).stdin(Stdio::null()).stdout(both).stderr(log);
        // SIGQUIT is an immediate shutdown: the postmaster takes its children with it.
        let mut kept = Kept::spawn(command, libc::SIGQUIT)?;
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            if let Some(status) = kept.ended_within(Duration::from_millis(10)) {
                let status = status.to_owned();
                if self.log_since(log_start).contains("could not bind") {
                    return Ok(Launch::PortTaken);
                }
                bail!(
                    "PostgreSQL {} ended with {status} while starting; its log ends with:\n{}",
                    self.install.version,
                    self.log_tail()
                );
            }
            if self.accepts_connections(kept.pid()) {
                self.running = Some(kept);
                return Ok(Launch::Ready);
            }
            if Instant::now() > deadline {
                self.running = Some(kept);
                let log = self.log_tail();
                self.kill9();
                bail!(
                    "PostgreSQL {} was not ready after {} seconds; its log ends with:\n{log}",
                    self.install.version,
                    START_PATIENCE.as_secs(),
                );
            }
        }
    }

    /// Whether the postmaster says so in its pid file: line 1 is its pid, line 8 its state
    /// (`src/include/utils/pidfile.h`); a file left by a killed one has another pid.
    fn accepts_connections(&self, pid: i32) -> bool {
        let Ok(text) = fs::read_to_string(self.data.join("postmaster.pid")) else {
            return false;
        };
        let mut lines = text.lines();
        let same = lines.next().is_some_and(|line| line.trim() == pid.to_string());
        same && lines.nth(6).is_some_and(|state| state.trim() == "ready")
    }

    fn log_since(&self, start: u64) -> String {
        let bytes = fs::read(self.log_file()).unwrap_or_default();
        let start = usize::try_from(start).unwrap_or(0).min(bytes.len());
        String::from_utf8_lossy(&bytes[start..]).into_owned()
    }
}

impl Drop for PgServer {
    fn drop(&mut self) {
        if let Some(mut kept) = self.running.take() {
            let children = children(kept.pid());
            kept.signal(libc::SIGQUIT);
            self.sigcont();
            kept.signal(libc::SIGCONT);
            if kept.ended_within(Duration::from_secs(10)).is_none() {
                kept.signal(libc::SIGKILL);
                kept.ended_within(Duration::from_secs(10));
            }
            outlive(&children, Duration::from_secs(5));
        }
    }
}

enum Launch {
    Ready,
    PortTaken,
}

/// Percent-encodes a part of a URL.
pub(super) fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
