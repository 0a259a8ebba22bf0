//! Loads copied rows through COPY, each commit together with the note of which chunks it held.

use async_trait::async_trait;

use super::bookkeeping;
use super::merge;
use super::statements as st;
use crate::change::DeadLetter;
use crate::error::{Error, Result};
use crate::exchange::{CopyBlock, CopyFormat};
use crate::pgwire::conn::PgConn;
use crate::pgwire::copy;
use crate::schema::{Table, TableName};
use crate::target::{LoadMode, Loader};
use crate::transform::output::ParentKey;

const STAGE: &str = "pg_temp.switchyard_stage";

/// A session that loads chunks.
pub struct PgLoader {
    conn: PgConn,
    name: String,
    epoch: i64,
    now: Option<Loading>,
    letters: Vec<DeadLetter>,
}

struct Loading {
    table: Table,
    mode: LoadMode,
    /// Of rows of a child table: what tells which parent they belong to.
    parent: Option<ParentKey>,
    buffer: Vec<u8>,
    /// Rows of tables that were loaded before in the same transaction.
    before: u64,
}

impl Loading {
    /// Rows go through a table of their own first.
    fn staged(&self) -> bool {
        is_staged(self.mode)
    }
}

fn is_staged(mode: LoadMode) -> bool {
    matches!(mode, LoadMode::Upsert | LoadMode::Skip | LoadMode::ReplaceAll)
}

impl PgLoader {
    /// A session of `conn`; `replica` says whether the role may set `session_replication_role`.
    pub async fn new(mut conn: PgConn, name: &str, epoch: i64, replica: bool) -> Result<PgLoader> {
        conn.execute("SET synchronous_commit = off").await?;
        conn.execute(&bookkeeping::name_session(name)).await?;
        if replica {
            conn.execute("SET session_replication_role = replica").await?;
        }
        Ok(PgLoader { conn, name: name.to_owned(), epoch, now: None, letters: Vec::new() })
    }
}

impl PgLoader {
    /// Ends the COPY under way and brings staged rows into their table. Gives back all rows of the transaction so far.
    async fn finish(&mut self, now: Loading, source: &TableName) -> Result<u64> {
        let name = &now.table.name;
        let rows = self.conn.copy_in_finish().await.map_err(|e| load_error(name, e))?;
        if now.staged() {
            let sql = match (now.mode, &now.parent) {
                (LoadMode::Skip, Some(parent)) => {
                    merge::Notes::new(&self.name, source, &parent.table).load_items(parent, &now.table, STAGE)
                }
                (LoadMode::Skip, None) => merge::Notes::new(&self.name, source, name).load(&now.table, STAGE),
                (LoadMode::ReplaceAll, _) => merge::replace_from(&now.table, STAGE),
                _ => merge::upsert_from(&now.table, STAGE),
            };
            self.conn.execute(&format!("{sql}; DROP TABLE {STAGE}")).await.map_err(|e| load_error(name, e))?;
        }
        Ok(now.before + rows)
    }
}

#[async_trait]
impl Loader for PgLoader {
    fn formats(&self, table: &Table) -> Vec<CopyFormat> {
        copy::formats(table)
    }

    async fn begin(&mut self, source: &TableName, table: &Table, format: CopyFormat, mode: LoadMode) -> Result<()> {
        let doing = || format!("loading {}", table.name);
        let before = match self.now.take() {
            Some(now) => self.finish(now, source).await?,
            None => {
                self.conn.execute("BEGIN").await.map_err(|e| e.context(doing()))?;
                0
            }
        };
        let binary = format == CopyFormat::Raw(copy::BINARY);
        let mut options = format!("FORMAT {}", if binary { "binary" } else { "text" });
        let sql = match mode {
            LoadMode::Upsert | LoadMode::Skip | LoadMode::ReplaceAll => {
                // Not LIKE, which brings NOT NULL along: generated columns stay empty here.
                self.conn
                    .execute(&format!(
                        "CREATE TEMP TABLE switchyard_stage ON COMMIT DROP AS TABLE {} WITH NO DATA",
                        st::qualified(&table.name)
                    ))
                    .await
                    .map_err(|e| e.context(doing()))?;
                st::copy_in(table, &options).replacen(&st::qualified(&table.name), STAGE, 1)
            }
            LoadMode::WholeTable => {
                let one = [std::sync::Arc::new(table.clone())];
                self.conn.execute("SAVEPOINT empty").await?;
                match self.conn.execute(&st::truncate(&one, false)).await {
                    // FREEZE wants the table emptied in the same subtransaction, so the savepoint stays open.
                    Ok(()) if !table.partitioned => options.push_str(", FREEZE"),
                    Ok(()) => {}
                    // A table that a foreign key refers to cannot be truncated alone.
                    Err(e) if e.code() == Some("0A000") => {
                        self.conn.execute("ROLLBACK TO SAVEPOINT empty").await?;
                        self.conn
                            .execute(&format!("DELETE FROM {}", st::only(table)))
                            .await
                            .map_err(|e| e.context(doing()))?;
                    }
                    Err(e) => return Err(e.context(doing())),
                }
                st::copy_in(table, &options)
            }
            LoadMode::Append => st::copy_in(table, &options),
        };
        self.conn.copy_in_start(&sql, binary).await.map_err(|e| e.context(doing()))?;
        self.now = Some(Loading { table: table.clone(), mode, parent: None, buffer: Vec::new(), before });
        Ok(())
    }

    async fn begin_items(&mut self, source: &TableName, table: &Table, parent: &ParentKey) -> Result<()> {
        self.begin(source, table, CopyFormat::Rows, LoadMode::Skip).await?;
        if let Some(now) = &mut self.now {
            now.parent = Some(parent.clone());
        }
        Ok(())
    }

    async fn write(&mut self, block: CopyBlock) -> Result<()> {
        let Some(now) = &mut self.now else {
            return Err(Error::fatal("a block was written before its chunk was begun"));
        };
        let result =
            match block {
                CopyBlock::Raw { bytes, .. } => self.conn.copy_in_write(&bytes).await,
                CopyBlock::Refused(_) => Err(Error::fatal("a row that its source refused came to the loader")
                    .hint("this is a bug in Switchyard")),
                CopyBlock::Rows(rows) => {
                    now.buffer.clear();
                    for row in &rows {
                        st::copy_text(&mut now.buffer, row, &now.table)?;
                    }
                    self.conn.copy_in_write(&now.buffer).await
                }
            };
        result.map_err(|e| load_error(&now.table.name, e))
    }

    fn set_aside(&mut self, letters: Vec<DeadLetter>) {
        self.letters = letters;
    }

    async fn commit(&mut self, source: &TableName, chunks: &[u32]) -> Result<u64> {
        let Some(now) = self.now.take() else {
            return Err(Error::fatal("a chunk was committed before it was begun"));
        };
        let name = now.table.name.clone();
        let rows = self.finish(now, source).await?;
        for letter in std::mem::take(&mut self.letters) {
            let sql = super::notes::set_aside_sql(&self.name, &letter);
            self.conn.execute(&sql).await.map_err(|e| load_error(&name, e))?;
        }
        // Refused if a newcomer has raised the epoch; else the newcomer waits for this commit.
        let noted = self
            .conn
            .simple_query(&format!(
                "{} RETURNING 1",
                bookkeeping::chunks_done_sql(&self.name, self.epoch, source, chunks, rows)
            ))
            .await
            .map_err(|e| load_error(&name, e))?;
        if noted.len() != chunks.len() {
            return Err(bookkeeping::fenced(&self.name, self.epoch));
        }
        self.conn.execute("COMMIT").await.map_err(|e| load_error(&name, e))?;
        Ok(rows)
    }

    async fn abort(&mut self) -> Result<()> {
        self.letters.clear();
        if self.now.take().is_some() {
            let _ = self.conn.copy_in_fail("given up").await;
        }
        self.conn.execute("ROLLBACK").await
    }
}

fn load_error(table: &TableName, e: Error) -> Error {
    let e = e.context(format!("loading {table}"));
    match e.code() {
        Some("23505") => e.hint("two rows met in a unique constraint of the target: its table held rows before, the source's rows are not unique in it, or, after an interruption, they are of two moments. Empty the table, or drop the constraint until the target is consistent; then start again"),
        Some("42P10") => e.hint("the copy was interrupted, and the target's table has no unique key over the columns that find its rows: add one, then start again"),
        Some("22P02" | "22007" | "22008" | "22003" | "22001" | "22021" | "22P03" | "22P05") => e.hint(st::MISFIT),
        Some("54000") => e.hint(st::TOO_WIDE),
        Some("23502" | "23514") => {
            e.hint("the target has a constraint that the source has not: drop or relax it, or correct the row at the source, then start again (apply.on_error = \"dead-letter\" sets aside what the target refuses in the stream, not in the copy)")
        }
        _ => e,
    }
}
