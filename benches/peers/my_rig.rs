//! MySQL and MariaDB servers with the same settings, SQL sessions, and the `mysql` program.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use secrecy::SecretString;
use switchyard::mywire::conn::{MyConn, Preset};
use switchyard::mywire::conninfo::MyConnInfo;
use switchyard::sandbox::{Flavour, MyInstall, MyServer};

use super::rig::DATABASE;

/// What every MySQL and MariaDB server is set to, peers' and Switchyard's alike. `sync_binlog` and
/// `innodb_flush_log_at_trx_commit` stay 1: each commit is on the disk before it is answered.
const SETTINGS: [(&str, &str); 3] =
    [("innodb_buffer_pool_size", "1G"), ("max_allowed_packet", "64M"), ("max_binlog_size", "1G")];

/// How long dirty pages may take to be written.
const SETTLE_PATIENCE: Duration = Duration::from_secs(120);

/// A server with the common settings, and these.
pub fn server(install: &MyInstall, more: &[(&str, &str)]) -> Result<MyServer> {
    let log = match install.flavour {
        Flavour::Mysql => ("innodb_redo_log_capacity", "2G"),
        Flavour::Mariadb => ("innodb_log_file_size", "2G"),
    };
    let mut builder = MyServer::builder(install);
    for (name, value) in SETTINGS.iter().chain([&log]).chain(more) {
        builder = builder.setting(name, value);
    }
    builder.start()
}

/// The same with an empty [`DATABASE`].
pub fn server_with_database(install: &MyInstall, more: &[(&str, &str)]) -> Result<MyServer> {
    let server = server(install, more)?;
    server.sql(&format!("CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4"))?;
    Ok(server)
}

/// `MySQL 9.7.4`, for a table's title.
pub fn version(install: &MyInstall) -> String {
    let number = install.version.split('-').next().unwrap_or_default();
    format!("{:?} {number}", install.flavour).replace("Mysql", "MySQL").replace("Mariadb", "MariaDB")
}

/// Every changed page is on disk, so that writing those of one contender does not fall into the turn of the other.
pub fn settle(servers: &[&MyServer]) -> Result<()> {
    for server in servers {
        let sql = MySql::connect(server, "")?;
        let usual = sql.text("SELECT CONCAT(@@innodb_max_dirty_pages_pct, ' ', @@innodb_max_dirty_pages_pct_lwm)")?;
        let (most, low) = usual.split_once(' ').context("no answer about dirty pages")?;
        sql.execute("SET GLOBAL innodb_max_dirty_pages_pct_lwm = 0; SET GLOBAL innodb_max_dirty_pages_pct = 0")?;
        let begun = Instant::now();
        loop {
            let dirty = "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'Innodb_buffer_pool_pages_dirty'";
            let dirty = match server.flavour() {
                Flavour::Mariadb => sql.text(dirty)?,
                Flavour::Mysql => sql.field("SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'", 1)?,
            };
            // A few are made again by the server's own work.
            if dirty.parse::<u64>().is_ok_and(|n| n < 64) {
                break;
            }
            ensure!(begun.elapsed() < SETTLE_PATIENCE, "{dirty} pages are still not on disk after {SETTLE_PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        sql.execute(&format!(
            "SET GLOBAL innodb_max_dirty_pages_pct = {most}; SET GLOBAL innodb_max_dirty_pages_pct_lwm = {low}"
        ))?;
    }
    Ok(())
}

/// Throws away the log of what was done so far; nobody reads it any more.
pub fn forget_log(server: &MyServer) -> Result<()> {
    server.sql("FLUSH BINARY LOGS; PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY").map(drop)
}

/// The `mysql` program, connected to a database, permitted to send files.
pub fn client(server: &MyServer, database: &str) -> Command {
    // The one that came with the server, where there is one: others may not know its authentication.
    let beside = server.install().server.with_file_name("mysql");
    let mut command = Command::new(if beside.exists() { beside.as_path() } else { Path::new("mysql") });
    command.args(["--no-defaults", "--protocol=TCP", "--host=127.0.0.1", "--user=root", "--local-infile=1"]);
    command.arg(format!("--port={}", server.port())).env("MYSQL_PWD", server.password());
    if server.flavour() == Flavour::Mysql {
        command.arg("--get-server-public-key");
    }
    command.arg("--default-character-set=utf8mb4").arg(database).stdin(Stdio::null());
    command
}

/// One SQL session, asked from an ordinary thread.
pub struct MySql {
    runtime: tokio::runtime::Runtime,
    conn: std::cell::RefCell<MyConn>,
}

impl MySql {
    pub fn connect(server: &MyServer, database: &str) -> Result<MySql> {
        MySql::open(&server.url(database))
    }

    /// The same by URL, for another thread.
    pub fn open(url: &str) -> Result<MySql> {
        let info = MyConnInfo::parse("bench", &SecretString::from(url.to_owned()))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let conn = runtime.block_on(MyConn::connect(&info, "bench", "bench", Preset::Target))?;
        Ok(MySql { runtime, conn: conn.into() })
    }

    /// The first field of the first row; empty if there is none.
    pub fn text(&self, sql: &str) -> Result<String> {
        self.field(sql, 0)
    }

    /// A field of the first row, counted from 0; empty if there is none.
    pub fn field(&self, sql: &str, n: usize) -> Result<String> {
        let rows = self.runtime.block_on(self.conn.borrow_mut().query(sql)).with_context(|| sql.to_owned())?;
        let field = rows.first().and_then(|r| r.get(n)).and_then(Option::as_ref);
        Ok(field.map(|f| String::from_utf8_lossy(f).into_owned()).unwrap_or_default())
    }

    /// Runs statements.
    pub fn execute(&self, sql: &str) -> Result<()> {
        self.run(sql).with_context(|| sql.chars().take(200).collect::<String>())
    }

    /// The same with the engine's own error.
    pub fn run(&self, sql: &str) -> switchyard::Result<()> {
        self.runtime.block_on(self.conn.borrow_mut().execute(sql)).map(drop)
    }

    /// Asks again every `pause` until the answer is `wanted`; when it was. `alive` is asked beside.
    pub fn wait_for(
        &self,
        sql: &str,
        wanted: &str,
        pause: Duration,
        patience: Duration,
        mut alive: impl FnMut() -> Result<()>,
    ) -> Result<Instant> {
        let begun = Instant::now();
        loop {
            let answer = self.text(sql)?;
            let now = Instant::now();
            if answer == wanted {
                return Ok(now);
            }
            alive()?;
            ensure!(begun.elapsed() < patience, "{sql} was still {answer:?} instead of {wanted:?} after {patience:?}");
            std::thread::sleep(pause);
        }
    }
}
