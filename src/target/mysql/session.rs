//! Sessions at the target: their settings, their names, and how a successor finds them.
//!
//! Whoever writes rows holds named locks (`GET_LOCK`) that say so. A newcomer asks who holds them (`IS_USED_LOCK`) and
//! ends those sessions before and after it raises the epoch: an account may always end its own sessions.

use super::grants;
use bytes::Bytes;

use super::names::lock_name;
use crate::error::{Error, Result, ResultExt};
use crate::mywire::conn::MyConn;
use crate::mywire::conninfo::MyConnInfo;
use crate::mywire::quote::literal;
use crate::mywire::server::Flavour;
use crate::mywire::session::Preset;

/// How many sessions of one migration can write at a time.
const WRITERS: u32 = 64;

/// A session for questions and bookkeeping, or for rows.
#[derive(Debug)]
pub struct Session {
    /// The connection.
    pub conn: MyConn,
}

/// Fields of a row as text.
pub type TextRow = Vec<Option<String>>;

impl Session {
    /// Connects.
    pub async fn connect(info: &MyConnInfo, name: &str) -> Result<Session> {
        let program = format!("switchyard:{name}");
        let connected = MyConn::connect(info, "target", &program, Preset::TargetOfSameEngine).await;
        let mut conn = connected.map_err(|e| grants::unseen(e, info.database.as_deref()))?;
        // A session never waits for a lock as long as the server's default: the caller tries again.
        // READ COMMITTED, because ranges need no locks where nobody else writes; foreign keys are made once all rows
        // are there, and checked then.
        conn.execute(
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; SET SESSION innodb_lock_wait_timeout = 20, \
             lock_wait_timeout = 60, foreign_key_checks = 0, unique_checks = 1",
        )
        .await
        .context("preparing a session on the target")?;
        Ok(Session { conn })
    }

    /// Whose server it is.
    pub fn flavour(&self) -> Flavour {
        self.conn.flavour()
    }

    /// Runs statements; how many rows they wrote or found.
    pub async fn run(&mut self, doing: impl std::fmt::Display, sql: impl AsRef<[u8]>) -> Result<u64> {
        Ok(self.conn.execute(sql).await.context(doing)?.affected)
    }

    /// The rows of a query.
    pub async fn rows(&mut self, doing: impl std::fmt::Display, sql: impl AsRef<[u8]>) -> Result<Vec<TextRow>> {
        let text = |b: Bytes| String::from_utf8_lossy(&b).into_owned();
        let rows = self.conn.query(sql).await.context(doing)?;
        Ok(rows.into_iter().map(|r| r.into_iter().map(|f| f.map(text)).collect()).collect())
    }

    /// The first row's first field, if there is one and it is not NULL.
    pub async fn one(&mut self, doing: impl std::fmt::Display, sql: impl AsRef<[u8]>) -> Result<Option<String>> {
        Ok(self.rows(doing, sql).await?.into_iter().next().and_then(|r| r.into_iter().next().flatten()))
    }

    /// Marks the session as one that writes rows of migration `name`.
    ///
    /// # Errors
    /// `Retry` if there are too many already: predecessors' sessions that are about to go.
    pub async fn become_writer(&mut self, name: &str) -> Result<()> {
        for n in 0..WRITERS {
            let sql = format!("SELECT GET_LOCK({}, 0)", literal(&writer_lock(name, n)));
            if self.one("naming a session on the target", sql).await?.as_deref() == Some("1") {
                return Ok(());
            }
        }
        Err(Error::retry(format!("the target has {WRITERS} sessions that write rows of migration {name:?}")))
    }

    /// Ends sessions that a predecessor left behind (a stopped process, a host that vanished): they hold locks, and the
    /// epoch would refuse their commits anyway. The caller holds the migration's lock.
    pub async fn end_predecessors(&mut self, name: &str) -> Result<()> {
        let doing = "ending sessions of a former run on the target";
        let asked: Vec<String> =
            (0..WRITERS).map(|n| format!("IS_USED_LOCK({})", literal(&writer_lock(name, n)))).collect();
        let row = self.rows(doing, format!("SELECT {}", asked.join(", "))).await?;
        for id in row.into_iter().flatten().flatten() {
            match self.run(doing, format!("KILL {id}")).await {
                Ok(_) => {}
                // Gone meanwhile.
                Err(e) if e.code() == Some("1094") => {}
                Err(e) if e.code() == Some("1095") => {
                    return Err(e.hint(
                        "a former run connected with another account: end its sessions on the target, or use that account",
                    ));
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

fn writer_lock(name: &str, n: u32) -> String {
    lock_name(&format!("writes/{n}"), name)
}
