//! Loads copied rows through LOAD DATA LOCAL, each commit together with the note of which chunks it held.
//!
//! LOAD DATA LOCAL turns every error into a warning and goes on (the server cannot stop the client's file). So the
//! values are checked before they are sent, and a warning, or a row less than was sent, fails the chunk.

use std::sync::Arc;

use async_trait::async_trait;

use super::bookkeeping;
use super::merge;
use super::session::Session;
use super::statements::{Limits, Shape};
use super::trouble::{self, TOO_LARGE};
use crate::change::DeadLetter;
use crate::error::{Error, Result};
use crate::exchange::{CopyBlock, CopyFormat};
use crate::mywire::quote::qualified;
use crate::schema::{Table, TableName};
use crate::target::{LoadMode, Loader};
use crate::transform::output::ParentKey;
use crate::value::Row;

/// Rows go here first where they have to be brought in among others.
const STAGE: &str = "switchyard.stage";
/// Bytes that are sent at once.
const PIECE: usize = 256 * 1024;
/// Warnings named in an error.
const WARNINGS: usize = 3;

/// A session that loads chunks.
pub struct MyLoader {
    session: Session,
    name: String,
    epoch: i64,
    /// Whether the server takes LOAD DATA LOCAL; else rows go as statements.
    local: bool,
    now: Option<Loading>,
    letters: Vec<DeadLetter>,
}

struct Loading {
    shape: Shape,
    mode: LoadMode,
    /// What rows are written into, the stage or the table.
    into: String,
    buffer: Vec<u8>,
    /// Rows sent.
    sent: u64,
    /// Rows that the server says it has, where they go as statements.
    taken: u64,
    /// The file is being sent.
    started: bool,
    /// Rows of tables that were loaded before in the same transaction.
    before: u64,
}

fn is_staged(mode: LoadMode) -> bool {
    matches!(mode, LoadMode::Upsert | LoadMode::Skip | LoadMode::ReplaceAll)
}

impl MyLoader {
    /// Makes a writer of `session`.
    pub async fn new(mut session: Session, name: &str, epoch: i64) -> Result<MyLoader> {
        session.become_writer(name).await?;
        let local = session.one("looking at local_infile on the target", "SELECT @@GLOBAL.local_infile").await?;
        Ok(MyLoader {
            session,
            name: name.to_owned(),
            epoch,
            local: local.as_deref() == Some("1"),
            now: None,
            letters: Vec::new(),
        })
    }

    fn limits(&self) -> Limits {
        Limits { rows: 1000, bytes: (self.session.conn.max_allowed_packet() / 4).clamp(16 * 1024, 1 << 20) }
    }

    /// Ends the load under way and brings staged rows into their table. Gives back all rows of the transaction so far.
    async fn finish(&mut self, mut now: Loading, source: &TableName) -> Result<u64> {
        let name = now.shape.table.name.clone();
        let doing = format!("loading {name}");
        if now.started {
            if !now.buffer.is_empty() {
                self.session.conn.load_local_write(&now.buffer).await.map_err(|e| load_error(&name, e))?;
                now.buffer.clear();
            }
            let done = self.session.conn.load_local_finish().await.map_err(|e| load_error(&name, e))?;
            if done.warnings > 0 || done.affected != now.sent {
                return Err(self.changed(&now, done.warnings, done.affected).await);
            }
        } else if now.taken != now.sent {
            return Err(Error::fatal(format!("{name}: the server took {} of {} rows", now.taken, now.sent)));
        }
        if is_staged(now.mode) {
            let table = &now.shape.table;
            let mut sql = Vec::new();
            if now.mode == LoadMode::Skip {
                sql.push(merge::Notes::new(&self.name, source, &name).note_staged(&now.shape, STAGE));
                sql.push(merge::insert_absent_from(table, STAGE));
            } else {
                sql.push(merge::replace_from(table, STAGE));
            }
            sql.push(format!("DROP TEMPORARY TABLE {STAGE}"));
            self.session.run(doing, sql.join("; ")).await.map_err(load_hint)?;
        }
        Ok(now.before + now.sent)
    }

    /// The server did not take the rows as they are.
    async fn changed(&mut self, now: &Loading, warnings: u32, taken: u64) -> Error {
        let table = &now.shape.table.name;
        let rows = self.session.rows("asking for warnings", format!("SHOW WARNINGS LIMIT {WARNINGS}")).await;
        let said: Vec<String> = rows
            .unwrap_or_default()
            .iter()
            .filter_map(|r| {
                let code: u16 = r.get(1)?.as_deref()?.parse().ok()?;
                let message = r.get(2)?.as_deref()?.to_owned();
                let e = crate::mywire::packet::ServerError { code, sqlstate: String::new(), message };
                Some(
                    crate::mywire::errors::from_server("target", &e)
                        .message()
                        .trim_start_matches("target: ")
                        .to_owned(),
                )
            })
            .collect();
        let duplicate = said.iter().any(|s| s.contains("(error 1062)"));
        let e = Error::fatal(format!(
            "loading {table}: the target did not take every row as it is ({taken} of {} rows, {warnings} warnings: {})",
            now.sent,
            said.join("; ")
        ))
        .with_code(if duplicate { "1062" } else { "switchyard:value" });
        load_hint(e)
    }

    async fn rows(&mut self, rows: &[Row]) -> Result<()> {
        let limits = self.limits();
        let Some(now) = &mut self.now else {
            return Err(Error::fatal("a block was written before its chunk was begun"));
        };
        let name = now.shape.table.name.clone();
        now.sent += rows.len() as u64;
        if !self.local {
            let refs: Vec<&Row> = rows.iter().collect();
            for mut s in now.shape.insert(&refs, limits)? {
                if is_staged(now.mode) {
                    let head = format!("INSERT INTO {} ", qualified(&name));
                    s.sql.splice(..head.len(), format!("INSERT INTO {} ", now.into).into_bytes());
                }
                let of = refs.get(s.rows.clone()).unwrap_or_default();
                let done = self.session.run(format!("loading {name}"), &s.sql).await;
                now.taken += done.map_err(|e| match e.code() {
                    Some(TOO_LARGE) => trouble::too_large(&now.shape, of, "insert", e),
                    _ => load_hint(e),
                })?;
            }
            return Ok(());
        }
        if !now.started {
            let sql = now.shape.load(&now.into);
            self.session.conn.load_local_start(&sql).await.map_err(|e| load_error(&name, e))?;
            now.started = true;
        }
        let mut room = Vec::new();
        for row in rows {
            now.shape.put_line(&mut now.buffer, row, &mut room)?;
            if now.buffer.len() >= PIECE {
                self.session.conn.load_local_write(&now.buffer).await.map_err(|e| load_error(&name, e))?;
                now.buffer.clear();
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Loader for MyLoader {
    fn formats(&self, _: &Table) -> Vec<CopyFormat> {
        vec![CopyFormat::Rows]
    }

    async fn begin(&mut self, source: &TableName, table: &Table, _: CopyFormat, mode: LoadMode) -> Result<()> {
        let doing = format!("loading {}", table.name);
        let before = match self.now.take() {
            Some(now) => self.finish(now, source).await?,
            None => {
                self.session.run(&doing, "BEGIN").await?;
                0
            }
        };
        let shape = Shape::new(&Arc::new(table.clone()), self.session.flavour());
        let into = if is_staged(mode) {
            self.session.run(&doing, merge::make_stage(table, STAGE)).await?;
            STAGE.to_owned()
        } else {
            qualified(&table.name)
        };
        if mode == LoadMode::WholeTable {
            // Not TRUNCATE, which commits by itself: a daemon that was fenced must not empty anything. A table that an
            // interrupted load left is empty already, because it was one transaction.
            self.session.run(&doing, format!("DELETE FROM {}", qualified(&table.name))).await?;
        }
        self.now = Some(Loading { shape, mode, into, buffer: Vec::new(), sent: 0, taken: 0, started: false, before });
        Ok(())
    }

    async fn begin_items(&mut self, _: &TableName, table: &Table, _: &ParentKey) -> Result<()> {
        Err(merge::no_skipped_lists(&table.name))
    }

    async fn write(&mut self, block: CopyBlock) -> Result<()> {
        match block {
            CopyBlock::Refused(_) => {
                Err(Error::fatal("a row that its source refused came to the loader")
                    .hint("this is a bug in Switchyard"))
            }
            CopyBlock::Rows(rows) => self.rows(&rows).await,
            CopyBlock::Raw { .. } => Err(Error::fatal("a block in a form that this target does not know")),
        }
    }

    fn set_aside(&mut self, letters: Vec<DeadLetter>) {
        self.letters = letters;
    }

    async fn commit(&mut self, source: &TableName, chunks: &[u32]) -> Result<u64> {
        let Some(now) = self.now.take() else {
            return Err(Error::fatal("a chunk was committed before it was begun"));
        };
        let doing = format!("loading {}", now.shape.table.name);
        let rows = self.finish(now, source).await?;
        for letter in std::mem::take(&mut self.letters) {
            self.session.run(&doing, bookkeeping::set_aside_sql(&self.name, &letter)).await?;
        }
        // Refused if a newcomer has raised the epoch; else the newcomer waits for this commit.
        let sql = bookkeeping::chunks_done_sql(&self.name, self.epoch, source, chunks, rows);
        if self.session.run(&doing, sql).await? != chunks.len() as u64 {
            return Err(bookkeeping::fenced(&self.name, self.epoch));
        }
        self.session.run(&doing, "COMMIT").await?;
        Ok(rows)
    }

    async fn abort(&mut self) -> Result<()> {
        self.letters.clear();
        if self.now.take().is_some_and(|n| n.started) {
            // The protocol cannot end a file but by its end: the connection is given up, and the server rolls back.
            return Ok(());
        }
        self.session.run("rolling back on the target", "ROLLBACK").await.map(drop)
    }
}

fn load_error(table: &TableName, e: Error) -> Error {
    load_hint(e.context(format!("loading {table}")))
}

fn load_hint(e: Error) -> Error {
    match e.code() {
        Some("1062") => e.hint("two source rows are equal under the target's collation, or the target's table held rows before the copy: give the key's columns a collation that tells them apart (utf8mb4_bin, or target.collation), or empty the table; then start again"),
        Some("1048" | "1364" | "3819" | "4025" | "1452") => {
            e.hint("the target has a constraint that the source has not: drop or relax it, then start again")
        }
        _ => e,
    }
}
