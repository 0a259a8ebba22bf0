//! What tests on real servers stand on: a pair of private servers, SQL sessions, the daemon, comparison, a ledger.
//!
//! | file | responsibility |
//! |---|---|
//! | `mod.rs` | source and target servers, fresh databases on them, SQL sessions, waiting |
//! | `daemon.rs` | the built program as a child: configuration, status, signals, its log |
//! | `compare.rs` | two databases row by row, in text form |
//! | `ledger.rs` | writers that remember what was acknowledged, and the check that nothing of it is lost |
//!
//! Nothing here sleeps for a fixed time: everything polls for what it waits for, and panics with what it saw.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod compare;
pub mod daemon;
pub mod ledger;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use switchyard::position::Lsn;
use switchyard::sandbox::{self, PgServer, PgServerBuilder};
use tokio_postgres::SimpleQueryMessage;

#[allow(unused_imports, reason = "as above")]
pub use compare::{assert_equal, assert_same_rows, compare};
pub use daemon::{Config, Daemon};
pub use ledger::Ledger;

/// A source and a target server of one test's own.
pub struct Pair {
    pub source: PgServer,
    pub target: PgServer,
}

impl Pair {
    /// Two small servers of the newest installed version, without fsync.
    pub fn start() -> Pair {
        Pair::start_with(|b| b, |b| b)
    }

    /// The same with further settings of the source and of the target.
    pub fn start_with(
        source: impl FnOnce(PgServerBuilder) -> PgServerBuilder,
        target: impl FnOnce(PgServerBuilder) -> PgServerBuilder,
    ) -> Pair {
        let install = sandbox::find_postgres(None).unwrap();
        let small = || {
            PgServer::builder(&install)
                .setting("fsync", "off")
                .setting("full_page_writes", "off")
                .setting("shared_buffers", "32MB")
                .setting("max_connections", "200")
                .setting("max_wal_senders", "100")
                .setting("max_replication_slots", "200")
                .setting("max_prepared_transactions", "20")
                .setting("wal_sender_timeout", "10s")
                .setting("autovacuum_naptime", "10min")
        };
        Pair { source: source(small()).start().unwrap(), target: target(small()).start().unwrap() }
    }

    /// Makes an empty database of one name on both servers.
    pub fn database(&self, what: &str) -> Database {
        let name = fresh_name(what);
        self.source.psql(&format!("create database {name}")).unwrap();
        self.target.psql(&format!("create database {name}")).unwrap();
        Database { source: self.source.url(&name), target: self.target.url(&name), name }
    }
}

/// A name no other test of any process uses.
pub fn fresh_name(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{what}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A database of the same name on both servers of a [`Pair`].
#[derive(Clone, Debug)]
pub struct Database {
    pub name: String,
    /// The URLs of the superuser.
    pub source: String,
    pub target: String,
}

impl Database {
    /// On the pair of servers that the tests of this process share, for tests that disturb only their own database.
    pub fn shared(what: &str) -> Database {
        // A static is never dropped: the servers end with the process, and the next ones sweep their folders.
        static SHARED: OnceLock<Mutex<Pair>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| Mutex::new(Pair::start()));
        shared.lock().unwrap_or_else(|e| e.into_inner()).database(what)
    }

    pub fn on_source(&self) -> Sql {
        Sql::connect(&self.source)
    }
    pub fn on_target(&self) -> Sql {
        Sql::connect(&self.target)
    }
    /// Removes both databases with everything in them, so that a long run does not fill the disk.
    pub fn drop(self) {
        for url in [&self.source, &self.target] {
            let mut elsewhere = url::Url::parse(url).unwrap();
            elsewhere.set_path("/postgres");
            let mut sql = Sql::connect(elsewhere.as_str());
            // A logical slot keeps its database.
            let _ = sql.try_rows(&format!(
                "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = '{}'",
                self.name
            ));
            let _ = sql.try_run(&format!("drop database {} with (force)", self.name));
        }
    }
    /// A configuration for this migration.
    pub fn config(&self) -> Config {
        Config::new(&self.name, &self.source, &self.target)
    }
    /// The checkpoint row's column `what` in text form, or what stands for a missing one.
    pub fn checkpoint(&self, what: &str) -> Option<String> {
        let mut sql = Sql::try_connect(&self.target).ok()?;
        sql.try_rows(&format!("select {what} from switchyard.checkpoint where name = '{}'", self.name))
            .ok()?
            .pop()?
            .swap_remove(0)
    }
}

/// The same URL with another port: through a proxy.
pub fn with_port(url: &str, port: u16) -> String {
    let mut url = url::Url::parse(url).unwrap();
    url.set_port(Some(port)).unwrap();
    url.into()
}

/// A blocking SQL session with the simple protocol: every value is text.
pub struct Sql {
    runtime: tokio::runtime::Runtime,
    client: tokio_postgres::Client,
}

impl Sql {
    pub fn connect(url: &str) -> Sql {
        Sql::try_connect(url).unwrap_or_else(|e| panic!("connecting: {e}"))
    }

    pub fn try_connect(url: &str) -> Result<Sql, tokio_postgres::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
            tokio::spawn(connection);
            Ok::<_, tokio_postgres::Error>(client)
        })?;
        Ok(Sql { runtime, client })
    }

    /// Runs statements, in one implicit transaction where they do not say otherwise.
    pub fn run(&mut self, sql: &str) {
        self.try_run(sql).unwrap_or_else(|e| panic!("{}: {}", head(sql), describe(&e)));
    }

    pub fn try_run(&mut self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.runtime.block_on(self.client.batch_execute(sql))
    }

    /// The rows of one query.
    pub fn rows(&mut self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.try_rows(sql).unwrap_or_else(|e| panic!("{}: {}", head(sql), describe(&e)))
    }

    pub fn try_rows(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, tokio_postgres::Error> {
        let messages = self.runtime.block_on(self.client.simple_query(sql))?;
        Ok(messages
            .iter()
            .filter_map(|m| match m {
                SimpleQueryMessage::Row(r) => Some((0..r.len()).map(|i| r.get(i).map(str::to_owned)).collect()),
                _ => None,
            })
            .collect())
    }

    /// The one value of a query; NULL is the empty text.
    pub fn one(&mut self, sql: &str) -> String {
        let mut rows = self.rows(sql);
        assert_eq!(rows.len(), 1, "{}: one row was expected", head(sql));
        rows.swap_remove(0).swap_remove(0).unwrap_or_default()
    }

    /// The one value of a query as a number.
    pub fn number(&mut self, sql: &str) -> i64 {
        let text = self.one(sql);
        text.parse().unwrap_or_else(|_| panic!("{}: {text:?} is no number", head(sql)))
    }

    /// The end of the server's log, behind everything that was committed before.
    pub fn log_end(&mut self) -> Lsn {
        self.one("select pg_current_wal_insert_lsn()").parse().unwrap()
    }
}

/// The pairs of queries in a page of `docs/`: what stands in ```sql blocks as `-- source: what` and `-- target: what`, each
/// followed by one statement. Pairs have the same `what`.
pub fn documented_pairs(page: &str) -> Vec<(String, String, String)> {
    let path = format!("{}/docs/{page}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let statement = |side: &str, what: &str| {
        let at = text.split_once(&format!("-- {side}: {what}\n"))?.1;
        Some(at.split_once(';')?.0.to_owned())
    };
    let names = text.lines().filter_map(|l| l.strip_prefix("-- source: "));
    names
        .map(|what| {
            let of = |side: &str| statement(side, what).unwrap_or_else(|| panic!("{page}: no {side} query for {what}"));
            (what.to_owned(), of("source"), of("target"))
        })
        .collect()
}

fn head(sql: &str) -> String {
    sql.chars().take(200).collect()
}

/// A server's message, or what happened to the connection.
pub fn describe(e: &tokio_postgres::Error) -> String {
    match e.as_db_error() {
        Some(db) => format!("{} ({})", db.message(), db.code().code()),
        None => format!("{e}: {}", std::error::Error::source(e).map(ToString::to_string).unwrap_or_default()),
    }
}

/// Polls until `check` gives a value; `None` when `patience` is over.
pub fn poll<T>(patience: Duration, mut check: impl FnMut() -> Option<T>) -> Option<T> {
    let until = Instant::now() + patience;
    let mut pause = Duration::from_millis(5);
    loop {
        if let Some(value) = check() {
            return Some(value);
        }
        if Instant::now() >= until {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Polls until `check` is true, or panics with `what` was waited for.
pub fn wait_until(what: &str, patience: Duration, mut check: impl FnMut() -> bool) {
    if poll(patience, || check().then_some(())).is_none() {
        panic!("waited {} s in vain until {what}", patience.as_secs());
    }
}
