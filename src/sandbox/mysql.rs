//! One private MySQL or MariaDB server: start, stop, kill and pause.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use secrecy::SecretString;

use super::folder::ServerFolder;
use super::mysql_install::{Flavour, MyInstall, with_path};
use super::postgres::encode;
use super::process::Kept;
use super::{mysql_template, port, tls};
use crate::mywire::conn::{MyConn, Preset, SmallRow};
use crate::mywire::conninfo::MyConnInfo;

/// How long a server may take to accept connections; crash recovery is part of it.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// How long a server may take to stop before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// What a private server is to be like; see [`MyServer::builder`].
#[derive(Debug, Clone)]
pub struct MyServerBuilder {
    install: MyInstall,
    settings: BTreeMap<String, String>,
    tls: bool,
}

impl MyServerBuilder {
    /// Sets a server variable, over the defaults that [`MyServer::builder`] lists. `log_bin` takes `OFF`, too.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.replace('-', "_"), value.to_owned());
        self
    }

    /// Makes the server speak TLS, with a certificate for the name `localhost` only; the authority to trust is
    /// [`MyServer::tls_ca`]. Without it the server offers no TLS at all.
    pub fn tls(mut self, on: bool) -> Self {
        self.tls = on;
        self
    }

    /// Makes the data directory, starts the server and waits until it accepts connections.
    pub fn start(self) -> Result<MyServer> {
        let folder = ServerFolder::create(None)?;
        let data = folder.path().join("data");
        let password = mysql_template::new_data_dir(&self.install, &data)?;
        let ca = if self.tls {
            tls::make(folder.path(), &data, None)?;
            Some(folder.path().join("ca.crt"))
        } else {
            None
        };
        let mut server = MyServer {
            running: None,
            install: self.install,
            data,
            port: 0,
            server_id: rand::random_range(1_000..u32::MAX),
            password,
            settings: self.settings,
            ca,
            folder,
        };
        server.start_on_a_free_port()?;
        Ok(server)
    }
}

/// A private server on 127.0.0.1. Dropping it kills it and removes its folder; killing the owning process kills it too,
/// and the next private server sweeps the folder away.
#[derive(Debug)]
pub struct MyServer {
    // Declared before `folder`: the server must be gone before its files are.
    running: Option<Kept>,
    install: MyInstall,
    data: PathBuf,
    port: u16,
    server_id: u32,
    password: String,
    settings: BTreeMap<String, String>,
    ca: Option<PathBuf>,
    folder: ServerFolder,
}

impl MyServer {
    /// A server of the given installation: utf8mb4, time zone UTC, account `root` with a random password, binary log on
    /// with whole rows and their metadata, GTIDs enforced (MySQL), `innodb_flush_log_at_trx_commit = 1`,
    /// `sync_binlog = 1`, a buffer pool of 64 MB, no performance schema, listening on 127.0.0.1 only. Any of it can be
    /// set otherwise.
    pub fn builder(install: &MyInstall) -> MyServerBuilder {
        MyServerBuilder { install: install.clone(), settings: BTreeMap::new(), tls: false }
    }

    /// A URL for `root`; `database` may be empty.
    pub fn url(&self, database: &str) -> String {
        self.url_as("root", &self.password, database)
    }

    /// A URL for any account; what needs it is percent-encoded.
    pub fn url_as(&self, user: &str, password: &str, database: &str) -> String {
        let (user, database) = (encode(user), encode(database));
        let password = if password.is_empty() { String::new() } else { format!(":{}", encode(password)) };
        format!("mysql://{user}{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// The port on 127.0.0.1; it stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The random password of `root`.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The server's `server_id`, unless a setting says another.
    pub fn server_id(&self) -> u32 {
        self.server_id
    }

    /// The data directory.
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

    /// Certificate and key of a client, signed by [`MyServer::tls_ca`].
    pub fn client_certificate(&self, name: &str) -> Result<(PathBuf, PathBuf)> {
        if self.ca.is_none() {
            bail!("the private server on port {} was built without TLS", self.port);
        }
        tls::client(self.folder.path(), name)
    }

    /// The installation the server is of.
    pub fn install(&self) -> &MyInstall {
        &self.install
    }

    /// Whose server it is.
    pub fn flavour(&self) -> Flavour {
        self.install.flavour
    }

    /// The server's process id while it runs.
    pub fn pid(&self) -> Option<i32> {
        self.running.as_ref().map(Kept::pid)
    }

    /// Changes a setting; it holds from the next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.insert(name.replace('-', "_"), value.to_owned());
    }

    /// Stops the server cleanly and waits until it is gone. One that is stopped stays so.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut kept) = self.running.take() else {
            return Ok(());
        };
        kept.signal(libc::SIGTERM);
        kept.signal(libc::SIGCONT);
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
        Ok(())
    }

    /// Stops the server and starts it again on the same port.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.start_again()
    }

    /// Kills the server as `kill -9` does.
    pub fn kill9(&mut self) {
        let Some(mut kept) = self.running.take() else {
            return;
        };
        kept.signal(libc::SIGKILL);
        kept.ended_within(STOP_PATIENCE);
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

    /// Makes the server stand still: connections stay open and nothing answers.
    pub fn sigstop(&mut self) {
        if let Some(kept) = &mut self.running {
            kept.signal(libc::SIGSTOP);
        }
    }

    /// Lets a server that [`MyServer::sigstop`] stopped go on.
    pub fn sigcont(&mut self) {
        if let Some(kept) = &mut self.running {
            kept.signal(libc::SIGCONT);
        }
    }

    /// Runs SQL as `root` and returns the rows of all statements, fields separated by `|`, NULL as `NULL`, rows by
    /// newlines. An error stops it and becomes the error.
    pub fn sql(&self, sql: &str) -> Result<String> {
        self.sql_in("", sql)
    }

    /// [`MyServer::sql`] in a database.
    pub fn sql_in(&self, database: &str, sql: &str) -> Result<String> {
        let info = MyConnInfo::parse("sandbox", &SecretString::from(self.url(database)))?;
        // A thread of its own, because the caller may be inside a runtime already.
        std::thread::scope(|scope| {
            let running = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async {
                    let mut conn = MyConn::connect(&info, "sandbox", "sandbox", Preset::Target).await?;
                    Ok(conn.query(sql).await?)
                })
            });
            let rows: Result<Vec<SmallRow>> =
                running.join().unwrap_or_else(|_| bail!("the thread that ran the SQL panicked"));
            let field = |f: &Option<bytes::Bytes>| match f {
                Some(text) => String::from_utf8_lossy(text).into_owned(),
                None => "NULL".to_owned(),
            };
            let line = |row: &SmallRow| row.iter().map(field).collect::<Vec<_>>().join("|");
            Ok(rows?.iter().map(line).collect::<Vec<_>>().join("\n"))
        })
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self) -> String {
        let text = fs::read(self.log_file()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn options(&self) -> BTreeMap<&str, String> {
        let mut all: BTreeMap<&str, String> = [
            ("bind_address", "127.0.0.1"),
            ("skip_name_resolve", "ON"),
            ("character_set_server", "utf8mb4"),
            ("default_time_zone", "+00:00"),
            ("log_bin", "binlog"),
            ("binlog_row_image", "FULL"),
            ("binlog_row_metadata", "FULL"),
            ("sync_binlog", "1"),
            ("innodb_flush_log_at_trx_commit", "1"),
            ("innodb_buffer_pool_size", "64M"),
            ("innodb_buffer_pool_load_at_startup", "OFF"),
            ("innodb_buffer_pool_dump_at_shutdown", "OFF"),
            ("local_infile", "ON"),
            ("max_connections", "200"),
            ("performance_schema", "OFF"),
        ]
        .into_iter()
        .map(|(name, value)| (name, value.to_owned()))
        .collect();
        match self.install.flavour {
            Flavour::Mysql => {
                all.insert("gtid_mode", "ON".into());
                all.insert("enforce_gtid_consistency", "ON".into());
                all.insert("mysqlx", "OFF".into());
                // The folder that was compiled in need not exist.
                all.insert("secure_file_priv", "NULL".into());
                all.insert("innodb_redo_log_capacity", "200M".into());
                if self.ca.is_none() {
                    // It would make itself certificates of its own.
                    all.insert("tls_version", String::new());
                }
            }
            Flavour::Mariadb => {
                // MySQL's only format by now, and MariaDB's default is another.
                all.insert("binlog_format", "ROW".into());
                all.insert("log_slave_updates", "ON".into());
                all.insert("innodb_log_file_size", "96M".into());
            }
        }
        if let Some(ca) = &self.ca {
            all.insert("ssl_ca", ca.display().to_string());
            all.insert("ssl_cert", self.data.join("server.crt").display().to_string());
            all.insert("ssl_key", self.data.join("server.key").display().to_string());
        }
        all.insert("server_id", self.server_id.to_string());
        all.extend(self.settings.iter().map(|(name, value)| (name.as_str(), value.clone())));
        all
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
        let log_path = self.log_file();
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log_path)
            .with_context(|| format!("opening {}", log_path.display()))?;
        let log_start = log.metadata().map_or(0, |meta| meta.len());
        let both = log.try_clone().with_context(|| format!("opening {}", log_path.display()))?;
        let mut command = self.install.server_command();
        command
            .arg(with_path("--datadir=", &self.data))
            .arg(with_path("--pid-file=", &self.data.join("server.pid")))
            .arg(with_path("--socket=", &self.folder.path().join("socket")))
            // A server that starts removes the temporary files of every other one that it shares the folder with.
            .arg(with_path("--tmpdir=", self.folder.path()))
            .arg(format!("--port={}", self.port));
        for (name, value) in self.options() {
            match (name, value.as_str()) {
                ("log_bin", "OFF" | "0") => command.arg("--skip-log-bin"),
                _ => command.arg(format!("--{name}={value}")),
            };
        }
        command.stdin(Stdio::null()).stdout(both).stderr(log);
        let mut kept = Kept::spawn(command, libc::SIGKILL)?;
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            if let Some(status) = kept.ended_within(Duration::from_millis(10)) {
                let status = status.to_owned();
                let said = self.log_since(log_start);
                if said.contains("Bind on TCP/IP port") || said.contains("Can't start server: can't bind") {
                    return Ok(Launch::PortTaken);
                }
                bail!(
                    "{:?} {} ended with {status} while starting; its log ends with:\n{}",
                    self.install.flavour,
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
                    "{:?} {} was not ready after {} seconds; its log ends with:\n{log}",
                    self.install.flavour,
                    self.install.version,
                    START_PATIENCE.as_secs(),
                );
            }
        }
    }

    /// Whether its pid file is there (written once it has its port; a file left by a killed one has another pid) and it
    /// greets: protocol version 10, not an error.
    fn accepts_connections(&self, pid: i32) -> bool {
        let said = fs::read_to_string(self.data.join("server.pid")).unwrap_or_default();
        if said.trim() != pid.to_string() {
            return false;
        }
        let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)) else {
            return false;
        };
        let mut head = [0; 5];
        let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
        stream.read_exact(&mut head).is_ok() && head[4] == 10
    }

    fn log_since(&self, start: u64) -> String {
        let bytes = fs::read(self.log_file()).unwrap_or_default();
        let start = usize::try_from(start).unwrap_or(0).min(bytes.len());
        String::from_utf8_lossy(&bytes[start..]).into_owned()
    }
}

impl Drop for MyServer {
    fn drop(&mut self) {
        // Its files go with it, so there is nothing to close cleanly.
        self.kill9();
    }
}

enum Launch {
    Ready,
    PortTaken,
}
