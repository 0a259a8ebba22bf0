//! A private MongoDB replica set, or a server alone: start, stop, kill, pause, fail over.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bson::{Document, doc};
use mongodb::Client;
use mongodb::options::ClientOptions;

use super::folder::{ServerFolder, set_mode};
use super::mongo_install::MongoInstall;
use super::postgres::encode;
use super::process::Kept;
use super::{port, tls};

/// How long a server may take to accept connections, and a set to have a primary.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// How long a server may take to stop before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(60);
const SET: &str = "rs0";
/// `mongod` ends with this status when its port is taken (`ExitCode::netError`, exit_code.h).
const PORT_TAKEN: &str = "exit status: 48";

/// What a private server is to be like; see [`MongoServer::builder`].
#[derive(Debug, Clone)]
pub struct MongoServerBuilder {
    install: MongoInstall,
    settings: BTreeMap<String, String>,
    parameters: BTreeMap<String, String>,
    members: usize,
    alone: bool,
    auth: bool,
    tls: bool,
}

impl MongoServerBuilder {
    /// Sets an option of the command line, without its two dashes: `oplogSize`, `wiredTigerCacheSizeGB`. An empty value is an
    /// option without one.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }
    /// Sets a server parameter (`--setParameter`).
    pub fn parameter(mut self, name: &str, value: &str) -> Self {
        self.parameters.insert(name.to_owned(), value.to_owned());
        self
    }
    /// So many members of the set; 1 unless said otherwise.
    pub fn members(mut self, members: usize) -> Self {
        self.members = members.max(1);
        self
    }
    /// A server that belongs to no set.
    pub fn standalone(mut self) -> Self {
        self.alone = true;
        self.members = 1;
        self
    }
    /// Asks for credentials: [`MongoServer::url`] then has those of an account `root` with the role of that name.
    pub fn auth(mut self, on: bool) -> Self {
        self.auth = on;
        self
    }
    /// Makes the server speak nothing but TLS, with a certificate for the name `localhost`; the authority to trust is
    /// [`MongoServer::tls_ca`].
    pub fn tls(mut self, on: bool) -> Self {
        self.tls = on;
        self
    }
    /// Makes the data directories, starts the servers, and waits until they accept writes.
    pub fn start(self) -> Result<MongoServer> {
        let folder = ServerFolder::create(None)?;
        let data = folder.path().join("data");
        fs::create_dir(&data).with_context(|| format!("creating {}", data.display()))?;
        let ca = if self.tls {
            tls::make(folder.path(), &data, None)?;
            let both = [data.join("server.crt"), data.join("server.key")].map(fs::read);
            let [certificate, key] = both.map(Result::unwrap_or_default);
            write_private(&data.join("server.pem"), &[certificate, key].concat())?;
            Some(folder.path().join("ca.crt"))
        } else {
            None
        };
        let key_file = data.join("members.key");
        if self.auth {
            write_private(
                &key_file,
                format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>()).as_bytes(),
            )?;
        }
        let members =
            (0..self.members).map(|n| Member { running: None, port: 0, data: data.join(n.to_string()) }).collect();
        let mut server = MongoServer {
            runtime: Some(
                tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(1)
                    .thread_name("sandbox-mongo")
                    .enable_all()
                    .build()
                    .context("starting the private server's runtime")?,
            ),
            members,
            install: self.install,
            password: self.auth.then(|| format!("{:032x}", rand::random::<u128>())),
            settings: self.settings,
            parameters: self.parameters,
            alone: self.alone,
            key_file,
            ca,
            folder,
        };
        for n in 0..server.members.len() {
            server.start_on_a_free_port(n)?;
        }
        server.prepare()?;
        Ok(server)
    }
}

/// One `mongod`.
#[derive(Debug)]
struct Member {
    running: Option<Kept>,
    port: u16,
    data: PathBuf,
}

/// Private servers on 127.0.0.1. Dropping the value kills them and removes their folder; killing the owning process kills
/// them too, and the next private server sweeps the folder away.
#[derive(Debug)]
pub struct MongoServer {
    /// Drives the clients that the methods here use; taken when dropped.
    runtime: Option<tokio::runtime::Runtime>,
    // Declared before `folder`: the servers must be gone before their files are.
    members: Vec<Member>,
    install: MongoInstall,
    password: Option<String>,
    settings: BTreeMap<String, String>,
    parameters: BTreeMap<String, String>,
    alone: bool,
    key_file: PathBuf,
    ca: Option<PathBuf>,
    folder: ServerFolder,
}

impl MongoServer {
    /// A replica set `rs0` of one member of the given installation: 0.25 GB of cache, an oplog of 64 MB, no diagnostic data,
    /// no credentials, listening on 127.0.0.1 only. Any of it can be set otherwise.
    pub fn builder(install: &MongoInstall) -> MongoServerBuilder {
        MongoServerBuilder {
            install: install.clone(),
            settings: BTreeMap::new(),
            parameters: BTreeMap::new(),
            members: 1,
            alone: false,
            auth: false,
            tls: false,
        }
    }

    /// A URL for `root`, or without credentials where none are asked for; names all members. `database` may be empty.
    pub fn url(&self, database: &str) -> String {
        match &self.password {
            Some(password) => self.url_as("root", password, database),
            None => self.url_with("", database, ""),
        }
    }
    /// A URL for any account of the database `admin`; what needs it is percent-encoded.
    pub fn url_as(&self, user: &str, password: &str, database: &str) -> String {
        self.url_with(&format!("{}:{}@", encode(user), encode(password)), database, "authSource=admin")
    }
    fn url_with(&self, credentials: &str, database: &str, parameters: &str) -> String {
        let host = if self.ca.is_some() { "localhost" } else { "127.0.0.1" };
        let hosts: Vec<String> = self.members.iter().map(|m| format!("{host}:{}", m.port)).collect();
        let mut all: Vec<String> = Vec::new();
        // A set is found by its name; a server that is asked directly, as through a proxy, needs none.
        all.push(if self.alone { "directConnection=true".into() } else { format!("replicaSet={SET}") });
        all.extend((!parameters.is_empty()).then(|| parameters.to_owned()));
        if let Some(ca) = &self.ca {
            all.push(format!("tls=true&tlsCAFile={}", ca.display()));
        }
        format!("mongodb://{credentials}{}/{}?{}", hosts.join(","), encode(database), all.join("&"))
    }
    /// A URL that asks only the server at this port, whatever the set says of its members: for a proxy in front of one.
    pub fn url_through(&self, port: u16, database: &str) -> String {
        let credentials = self.password.as_ref().map_or(String::new(), |p| format!("root:{}@", encode(p)));
        let admin = if self.password.is_some() { "&authSource=admin" } else { "" };
        format!("mongodb://{credentials}127.0.0.1:{port}/{}?directConnection=true{admin}", encode(database))
    }
    /// The first member's port on 127.0.0.1; it stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.member_port(0)
    }
    /// A member's port.
    pub fn member_port(&self, member: usize) -> u16 {
        self.members.get(member).map_or(0, |m| m.port)
    }
    /// How many members there are.
    pub fn members(&self) -> usize {
        self.members.len()
    }
    /// The random password of `root`; empty where no credentials are asked for.
    pub fn password(&self) -> &str {
        self.password.as_deref().unwrap_or("")
    }
    /// The authority that signed the server's certificate, when it was built with TLS.
    pub fn tls_ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }
    /// The installation the server is of.
    pub fn install(&self) -> &MongoInstall {
        &self.install
    }
    /// A member's process id while it runs.
    pub fn pid(&self, member: usize) -> Option<i32> {
        self.members.get(member)?.running.as_ref().map(Kept::pid)
    }
    /// A member's own log, all starts one after the other.
    pub fn log_file(&self, member: usize) -> PathBuf {
        self.folder.path().join(format!("server{member}.log"))
    }
    /// Changes an option of the command line; it holds from the next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.insert(name.to_owned(), value.to_owned());
    }

    /// Stops all members cleanly and waits until they are gone.
    pub fn stop(&mut self) -> Result<()> {
        (0..self.members.len()).rev().try_for_each(|n| self.stop_member(n))
    }
    /// Stops one member cleanly.
    pub fn stop_member(&mut self, member: usize) -> Result<()> {
        let Some(mut kept) = self.members.get_mut(member).and_then(|m| m.running.take()) else { return Ok(()) };
        kept.signal(libc::SIGTERM);
        kept.signal(libc::SIGCONT);
        if kept.ended_within(STOP_PATIENCE).is_none() {
            kept.signal(libc::SIGKILL);
            kept.ended_within(STOP_PATIENCE);
            bail!(
                "the private server on port {} did not stop within {} seconds and was killed; its log ends with:\n{}",
                self.member_port(member),
                STOP_PATIENCE.as_secs(),
                self.log_tail(member)
            );
        }
        Ok(())
    }
    /// Kills all members as `kill -9` does.
    pub fn kill9(&mut self) {
        (0..self.members.len()).for_each(|n| self.kill9_member(n));
    }
    /// Kills one member.
    pub fn kill9_member(&mut self, member: usize) {
        if let Some(mut kept) = self.members.get_mut(member).and_then(|m| m.running.take()) {
            kept.signal(libc::SIGKILL);
            kept.ended_within(STOP_PATIENCE);
        }
    }
    /// Stops all members and starts them again on the same ports.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.start_again()
    }
    /// Starts the members that do not run, on the ports they had, and waits until there is a primary.
    pub fn start_again(&mut self) -> Result<()> {
        for n in 0..self.members.len() {
            if self.members[n].running.is_none() {
                self.start_member(n)?;
            }
        }
        self.await_primary().map(drop)
    }
    /// Starts one member that does not run, and waits until it accepts connections.
    pub fn start_member(&mut self, member: usize) -> Result<()> {
        match self.launch(member)? {
            Launch::Ready => Ok(()),
            Launch::PortTaken => {
                bail!("another program took port {} while the private server was stopped", self.member_port(member))
            }
        }
    }
    /// Makes all members stand still: connections stay open and nothing answers.
    pub fn pause(&mut self) {
        (0..self.members.len()).for_each(|n| self.signal(n, libc::SIGSTOP));
    }
    /// Makes one member stand still.
    pub fn pause_member(&mut self, member: usize) {
        self.signal(member, libc::SIGSTOP);
    }
    /// Lets members that were paused go on.
    pub fn resume(&mut self) {
        (0..self.members.len()).for_each(|n| self.signal(n, libc::SIGCONT));
    }
    fn signal(&mut self, member: usize, signal: libc::c_int) {
        if let Some(kept) = self.members.get_mut(member).and_then(|m| m.running.as_mut()) {
            kept.signal(signal);
        }
    }

    /// Waits until there is a primary, and says which member it is.
    pub fn await_primary(&self) -> Result<usize> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            for n in 0..self.members.len() {
                if self.members[n].running.is_some()
                    && self
                        .run_at(n, false, "admin", doc! { "hello": 1 })
                        .is_ok_and(|h| h.get_bool("isWritablePrimary").unwrap_or(false))
                {
                    return Ok(n);
                }
            }
            if Instant::now() > deadline {
                bail!(
                    "the private set has no primary after {} seconds; the first member's log ends with:\n{}",
                    START_PATIENCE.as_secs(),
                    self.log_tail(0)
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs a command as `root` on the primary, whichever member that is, and gives its reply.
    pub fn run(&self, database: &str, command: Document) -> Result<Document> {
        self.run_with(self.url(""), database, command)
    }
    /// [`MongoServer::run`] on one member.
    pub fn run_on(&self, member: usize, database: &str, command: Document) -> Result<Document> {
        self.run_at(member, true, database, command)
    }
    fn run_at(&self, member: usize, authorized: bool, database: &str, command: Document) -> Result<Document> {
        let credentials = match &self.password {
            Some(password) if authorized => format!("root:{}@", encode(password)),
            _ => String::new(),
        };
        let host = if self.ca.is_some() { "localhost" } else { "127.0.0.1" };
        let mut url = format!("mongodb://{credentials}{host}:{}/?directConnection=true", self.member_port(member));
        if let Some(ca) = &self.ca {
            url.push_str(&format!("&tls=true&tlsCAFile={}", ca.display()));
        }
        self.run_with(url, database, command)
    }
    fn run_with(&self, url: String, database: &str, command: Document) -> Result<Document> {
        self.wait_for(async {
            let mut options = ClientOptions::parse(url).await?;
            options.server_selection_timeout = Some(Duration::from_secs(20));
            let client = Client::with_options(options)?;
            let done = client.database(database).run_command(command).await;
            client.shutdown().immediate(true).await;
            Ok(done?)
        })
    }
    /// Waits for a future from any thread, also from inside another runtime.
    pub fn wait_for<T: Send>(&self, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let Some(runtime) = &self.runtime else { bail!("the private server is gone") };
        std::thread::scope(|scope| {
            scope
                .spawn(|| runtime.block_on(work))
                .join()
                .unwrap_or_else(|_| bail!("the thread that ran a command panicked"))
        })
    }

    /// The last lines of a member's log.
    pub fn log_tail(&self, member: usize) -> String {
        let text = fs::read(self.log_file(member)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Makes the set and the account.
    fn prepare(&self) -> Result<()> {
        if !self.alone {
            let host = if self.ca.is_some() { "localhost" } else { "127.0.0.1" };
            let members: Vec<Document> = (self.members.iter().enumerate())
                .map(|(n, m)| doc! { "_id": n as i32, "host": format!("{host}:{}", m.port) })
                .collect();
            // A failover within seconds, not within ten.
            let settings = doc! { "electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500 };
            let config = doc! { "_id": SET, "members": members, "settings": settings };
            self.run_at(0, false, "admin", doc! { "replSetInitiate": config }).context("initiating the private set")?;
        }
        let primary = self.await_primary()?;
        if let Some(password) = &self.password {
            // Without an account, a connection from the server's own machine may make the first one.
            let command = doc! { "createUser": "root", "pwd": password, "roles": ["root"] };
            self.run_at(primary, false, "admin", command).context("making the private server's account")?;
        }
        Ok(())
    }

    fn start_on_a_free_port(&mut self, member: usize) -> Result<()> {
        for _ in 0..20 {
            self.members[member].port = port::free()?;
            match self.launch(member)? {
                Launch::Ready => return Ok(()),
                Launch::PortTaken => {}
            }
        }
        bail!("twenty free ports in a row were taken by other programs before a server could use them")
    }

    fn launch(&mut self, member: usize) -> Result<Launch> {
        let log_path = self.log_file(member);
        let log = File::options().create(true).append(true).open(&log_path);
        let log = log.with_context(|| format!("opening {}", log_path.display()))?;
        let both = log.try_clone().with_context(|| format!("opening {}", log_path.display()))?;
        let Some(one) = self.members.get(member) else { bail!("there is no member {member}") };
        if one.running.is_some() {
            bail!("the private server on port {} runs already", one.port);
        }
        fs::create_dir_all(&one.data).with_context(|| format!("creating {}", one.data.display()))?;
        let mut options: BTreeMap<&str, String> =
            [("bind_ip", "127.0.0.1"), ("wiredTigerCacheSizeGB", "0.25"), ("nounixsocket", "")]
                .into_iter()
                .map(|(name, value)| (name, value.to_owned()))
                .collect();
        options.insert("port", one.port.to_string());
        options.insert("dbpath", one.data.display().to_string());
        if member == 0 {
            // Whoever sweeps orphaned folders looks for it.
            options.insert("pidfilepath", self.folder.path().join("data/server.pid").display().to_string());
        }
        if !self.alone {
            options.insert("replSet", SET.into());
            options.insert("oplogSize", "64".into());
        }
        match (&self.password, self.alone) {
            (Some(_), true) => drop(options.insert("auth", String::new())),
            (Some(_), false) => drop(options.insert("keyFile", self.key_file.display().to_string())),
            (None, _) => {}
        }
        if let Some(ca) = &self.ca {
            options.insert("tlsMode", "requireTLS".into());
            options.insert("tlsCAFile", ca.display().to_string());
            options.insert("tlsCertificateKeyFile", self.folder.path().join("data/server.pem").display().to_string());
            options.insert("tlsAllowConnectionsWithoutCertificates", String::new());
        }
        options.extend(self.settings.iter().map(|(name, value)| (name.as_str(), value.clone())));
        let mut command = self.install.command();
        for (name, value) in options {
            command.arg(format!("--{name}"));
            if !value.is_empty() {
                command.arg(value);
            }
        }
        let quiet = ("diagnosticDataCollectionEnabled".to_owned(), "false".to_owned());
        let mut parameters = BTreeMap::from([quiet]);
        parameters.extend(self.parameters.clone());
        for (name, value) in parameters {
            command.arg("--setParameter").arg(format!("{name}={value}"));
        }
        command.stdin(Stdio::null()).stdout(both).stderr(log);
        let mut kept = Kept::spawn(command, libc::SIGKILL)?;
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            if let Some(status) = kept.ended_within(Duration::from_millis(10)) {
                if status == PORT_TAKEN {
                    return Ok(Launch::PortTaken);
                }
                let status = status.to_owned();
                bail!(
                    "MongoDB {} ended with {status} while starting; its log ends with:\n{}",
                    self.install.version,
                    self.log_tail(member)
                );
            }
            let port = self.member_port(member);
            // It listens only once it has opened its files. Another program's port would have ended it by then.
            let listens = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
            if listens && self.run_at(member, false, "admin", doc! { "hello": 1 }).is_ok() {
                self.members[member].running = Some(kept);
                return Ok(Launch::Ready);
            }
            if Instant::now() > deadline {
                kept.signal(libc::SIGKILL);
                bail!(
                    "MongoDB {} was not ready after {} seconds; its log ends with:\n{}",
                    self.install.version,
                    START_PATIENCE.as_secs(),
                    self.log_tail(member)
                );
            }
        }
    }
}

impl Drop for MongoServer {
    fn drop(&mut self) {
        // Its files go with it, so there is nothing to close cleanly.
        self.kill9();
        if let Some(runtime) = self.runtime.take() {
            // Waiting for it is not permitted where the value is dropped inside another runtime.
            runtime.shutdown_background();
        }
    }
}

enum Launch {
    Ready,
    PortTaken,
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))?;
    set_mode(path, 0o600)
}
