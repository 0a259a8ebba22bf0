//! A consistent snapshot: several sessions that see one moment, and the place of that moment in the log.
//!
//! A session cannot join another's snapshot here, so all of them are opened while nothing commits into the selected tables:
//! under `LOCK TABLES … READ`, which waits for every transaction that wrote to them, and is held for as long as it takes
//! to open them (milliseconds). One session then touches every table inside its snapshot: its metadata locks keep the
//! tables' shapes until the copy ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::bounds;
use super::catalog::Described;
use super::place;
use super::types::{ColumnType, TOO_LARGE, is_zero_date};
use crate::error::{Error, Result, ResultExt};
use crate::mywire::conn::MyConn;
use crate::mywire::conninfo::MyConnInfo;
use crate::mywire::packet;
use crate::mywire::quote::{qualified, quoted};
use crate::mywire::rows::RowBlock;
use crate::mywire::session::Preset;
use crate::position::Position;
use crate::schema::{Kind, RowIdentity, Table, TableName};
use crate::source::{Chunk, ChunkReader, CopyBlock, CopyFormat, LogIdentity, SnapshotSession, TablePlan, ZeroDates};
use crate::value::{Row, RowsBuilder};

/// How long the lock may be waited for: as long, newcomers wait behind us. Then they get a turn.
const LOCK_WAIT_SECONDS: u32 = 2;
const LOCK_PAUSE: Duration = Duration::from_millis(500);
/// How often the lock is asked for before the attempt is given up (a later one begins anew).
const LOCK_ATTEMPTS: u32 = 20;
/// `ER_LOCK_WAIT_TIMEOUT`.
const LOCK_WAIT_TIMEOUT: &str = "1205";
/// Fewest rows in a chunk that is cut by counting, so that planning does not cost more than reading.
const ROWS_COUNTED: u64 = 100;

/// Sessions that are not reading.
type Idle = Arc<Mutex<Vec<MyConn>>>;

/// An open snapshot.
pub struct MySnapshot {
    start: Position,
    at: Position,
    identity: LogIdentity,
    taken_at: i64,
    /// Plans, holds the metadata locks, and is asked whether it lives.
    leader: tokio::sync::Mutex<MyConn>,
    idle: Idle,
    tables: HashMap<TableName, Described>,
    zero_dates: ZeroDates,
}

/// What is known before the snapshot is opened.
pub struct Opening<'a> {
    /// Where to connect.
    pub info: &'a MyConnInfo,
    /// The migration's name, for the server's process list.
    pub name: &'a str,
    /// How many sessions will read at once.
    pub readers: usize,
    /// The tables.
    pub tables: Vec<Described>,
    /// What becomes of dates that are none.
    pub zero_dates: ZeroDates,
    /// Tail from here; `None` from the snapshot on.
    pub start: Option<LogIdentity>,
    /// What is waited for, for the status.
    pub waiting: &'a Mutex<Option<String>>,
}

impl MySnapshot {
    /// Opens the sessions.
    pub async fn open(o: Opening<'_>) -> Result<MySnapshot> {
        let doing = "opening the snapshot at the source";
        let mut locker = MyConn::connect(o.info, "source", o.name, Preset::Source).await?;
        let mut leader = MyConn::connect(o.info, "source", o.name, Preset::Source).await?;
        let mut readers = Vec::with_capacity(o.readers.max(1));
        for _ in 0..o.readers.max(1) {
            readers.push(MyConn::connect(o.info, "source", o.name, Preset::Source).await?);
        }
        lock(&mut locker, &o).await?;
        let opened = async {
            let at = place::now(&mut locker).await?;
            for conn in std::iter::once(&mut leader).chain(&mut readers) {
                conn.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ").await.context(doing)?;
                conn.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT").await.context(doing)?;
            }
            // Before the lock goes: no table can change its shape between the snapshot and its first reader.
            for d in &o.tables {
                let sql = format!("SELECT 1 FROM {} LIMIT 0", qualified(&d.table.name));
                leader.query(&sql).await.context(doing)?;
            }
            Ok::<_, Error>(at)
        }
        .await;
        // Ending the session releases the lock in any case; this says it at once.
        let unlocked = locker.execute("UNLOCK TABLES").await;
        let at = opened?;
        unlocked.context(doing)?;
        let (identity, taken_at) = place::identity(&mut locker, &at).await?;
        let identity = match o.start {
            Some(first) => first,
            None => identity,
        };
        let start = identity.start.clone();
        Ok(MySnapshot {
            start,
            at,
            identity,
            taken_at,
            leader: tokio::sync::Mutex::new(leader),
            idle: Arc::new(Mutex::new(readers)),
            zero_dates: o.zero_dates,
            tables: o.tables.into_iter().map(|d| (d.table.name.clone(), d)).collect(),
        })
    }

    /// Where rows of a table are cut, by a key that finds them in order. Without one, nowhere.
    async fn bounds(&self, d: &Described, chunk_bytes: u64) -> Result<Vec<Vec<String>>> {
        let pieces = d.table.bytes.div_ceil(chunk_bytes.max(1)).max(1);
        let key = key_of(d);
        if pieces < 2 || key.is_empty() {
            return Ok(Vec::new());
        }
        let doing = || format!("planning the copy of {}", d.table.name);
        let mut leader = self.leader.lock().await;
        let (first, _) = key[0];
        let whole = matches!(
            d.table.column(first).map(|c| d.table.columns[c].kind),
            Some(Kind::Int2 | Kind::Int4 | Kind::Int8)
        ) || matches!(key[0].1, ColumnType::Int { .. });
        let from = qualified(&d.table.name);
        if whole && key.len() == 1 {
            let sql = format!("SELECT MIN({0}), MAX({0}) FROM {from}", quoted(first));
            let row = leader.query(&sql).await.with_context(doing)?.into_iter().next().unwrap_or_default();
            let number = |at: usize| -> Option<i128> { std::str::from_utf8(row.get(at)?.as_ref()?).ok()?.parse().ok() };
            let (Some(least), Some(most)) = (number(0), number(1)) else { return Ok(Vec::new()) };
            return Ok(bounds::cut(least, most, pieces).into_iter().map(|b| vec![b.to_string()]).collect());
        }
        // The server walks its own index: no order of ours has to agree with a collation.
        let rows = (chunk_bytes / d.row_bytes.max(1)).max(ROWS_COUNTED);
        let names: Vec<String> = key.iter().map(|(n, _)| quoted(n)).collect();
        let exprs: Vec<String> = key.iter().map(|(n, t)| t.select_expr(&quoted(n))).collect();
        let mut found: Vec<Vec<String>> = Vec::new();
        while found.len() as u64 <= 4 * pieces {
            let last = Chunk { after: found.last().cloned(), ..Chunk::default() };
            let condition = bounds::condition(&key, &last);
            let filter = if condition.is_empty() { String::new() } else { format!(" WHERE {condition}") };
            let sql = format!(
                "SELECT {} FROM {from}{filter} ORDER BY {} LIMIT 1 OFFSET {}",
                exprs.join(", "),
                names.join(", "),
                rows - 1
            );
            let Some(row) = leader.query(&sql).await.with_context(doing)?.into_iter().next() else { break };
            let mut bound = Vec::with_capacity(key.len());
            for ((name, kind), field) in key.iter().zip(row) {
                let field =
                    field.ok_or_else(|| Error::fatal(format!("{}: NULL in key column {name}", d.table.name)))?;
                let mut text = Vec::new();
                kind.render_text(&field, &mut text).map_err(|e| unreadable(&d.table, name, e))?;
                bound.push(String::from_utf8_lossy(&text).into_owned());
            }
            found.push(bound);
        }
        Ok(found)
    }
}

fn unreadable(table: &Table, column: &str, why: &str) -> Error {
    Error::fatal(format!("{}: a value of column {column} cannot be read: {why}", table.name))
        .hint("exclude the table, or mend the row at the source")
}

/// The columns that cut a table: its key, where an index finds them in order and all of them can be compared.
fn key_of(d: &Described) -> Vec<bounds::KeyColumn<'_>> {
    let RowIdentity::Key(key) = &d.table.identity else { return Vec::new() };
    let prefixed = d.def.primary_key.iter().any(|c| c.prefix.is_some());
    let mut out = Vec::new();
    for &k in key {
        let (Some(c), Some(Ok(kind))) = (d.table.columns.get(k), d.types.get(k)) else { return Vec::new() };
        // Floating-point bounds are not written exactly enough; these sort otherwise than they compare.
        let odd = matches!(
            kind,
            ColumnType::Float | ColumnType::Double | ColumnType::Enum(_) | ColumnType::Set(_) | ColumnType::Json
        );
        if odd || prefixed {
            return Vec::new();
        }
        out.push((c.name.as_str(), kind));
    }
    out
}

/// Locks the tables against writers, in turns, so that a long transaction does not make every newcomer wait with us.
async fn lock(conn: &mut MyConn, o: &Opening<'_>) -> Result<()> {
    let names: Vec<String> = o.tables.iter().map(|d| format!("{} READ", qualified(&d.table.name))).collect();
    if names.is_empty() {
        return Ok(());
    }
    let doing = "locking the source's tables for a moment";
    conn.execute(&format!("SET SESSION lock_wait_timeout = {LOCK_WAIT_SECONDS}")).await.context(doing)?;
    let sql = format!("LOCK TABLES {}", names.join(", "));
    for attempt in 1..=LOCK_ATTEMPTS {
        match conn.execute(&sql).await {
            Ok(_) => {
                *o.waiting.lock().unwrap_or_else(PoisonError::into_inner) = None;
                return Ok(());
            }
            Err(e) if e.code() == Some(LOCK_WAIT_TIMEOUT) && attempt < LOCK_ATTEMPTS => {
                *o.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!(
                    "the snapshot waits for a transaction of the source that wrote to a selected table and is still open (attempt {attempt}): SELECT * FROM information_schema.innodb_trx ORDER BY trx_started"
                ));
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            Err(e) if e.code() == Some(LOCK_WAIT_TIMEOUT) => {
                return Err(e.context(doing).with_class(crate::Class::Retry).hint(
                    "a transaction that wrote to a selected table stays open; end it: SELECT * FROM information_schema.innodb_trx ORDER BY trx_started",
                ));
            }
            Err(e) => return Err(e.context(doing)),
        }
    }
    Ok(())
}

#[async_trait]
impl SnapshotSession for MySnapshot {
    fn start(&self) -> &Position {
        &self.start
    }
    fn at(&self) -> &Position {
        &self.at
    }
    fn identity(&self) -> &LogIdentity {
        &self.identity
    }
    fn taken_at(&self) -> i64 {
        self.taken_at
    }
    fn exported(&self) -> Option<&str> {
        None
    }

    async fn plan(&self, table: &Table, chunk_bytes: u64) -> Result<TablePlan> {
        let Some(d) = self.tables.get(&table.name) else {
            return Err(Error::retry(format!("{}: the table was not there when the snapshot was opened", table.name)));
        };
        let bounds = self.bounds(d, chunk_bytes).await?;
        // Pieces are pieces of the key, wherever the rows lie: they keep their meaning as long as the key does.
        let storage = key_of(d).iter().map(|(n, t)| format!("{n}:{t:?}")).collect::<Vec<_>>().join(",");
        Ok(TablePlan { storage, chunks: bounds::chunks(bounds, table.estimated_rows) })
    }

    async fn reader(&self) -> Result<Box<dyn ChunkReader>> {
        let conn = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let conn = conn.ok_or_else(|| Error::retry("every session of the source's snapshot was lost or is in use"))?;
        Ok(Box::new(MyReader {
            conn: Some(conn),
            idle: self.idle.clone(),
            reading: None,
            tables: self.tables.clone(),
            zero_dates: self.zero_dates,
        }))
    }

    async fn still_held(&self) -> Result<()> {
        let lost = "holding the source's snapshot";
        let answer = self.leader.lock().await.query("SELECT 1").await;
        answer.map(|_| ()).map_err(|e| e.context(lost).with_class(crate::Class::Retry))
    }
}

/// A session that reads chunks; it goes back to the others when it is not needed any more.
struct MyReader {
    conn: Option<MyConn>,
    idle: Idle,
    reading: Option<Reading>,
    tables: HashMap<TableName, Described>,
    zero_dates: ZeroDates,
}

/// What is being read.
struct Reading {
    name: TableName,
    columns: Vec<(String, ColumnType)>,
    /// Which of them find a row.
    key: Vec<usize>,
    /// NULL stands for dates that are none.
    null_dates: bool,
}

impl Drop for MyReader {
    fn drop(&mut self) {
        // One that stopped in the middle of a result is of no use to anybody.
        if let (Some(conn), None) = (self.conn.take(), &self.reading) {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
        }
    }
}

#[async_trait]
impl ChunkReader for MyReader {
    fn formats(&self, _table: &Table) -> Vec<CopyFormat> {
        vec![CopyFormat::Rows]
    }

    async fn open(&mut self, table: &Table, chunk: &Chunk, _format: CopyFormat) -> Result<()> {
        let doing = || format!("reading {}", table.name);
        let Some(d) = self.tables.get(&table.name) else {
            return Err(Error::retry(format!("{}: the table was not there when the snapshot was opened", table.name)));
        };
        let mut columns = Vec::with_capacity(table.columns.len());
        for c in &table.columns {
            let kind = d.table.column(&c.name).and_then(|i| d.types.get(i));
            match kind {
                Some(Ok(kind)) => columns.push((c.name.clone(), kind.clone())),
                Some(Err(why)) => return Err(Error::fatal(format!("{}: column {}: {why}", table.name, c.name))),
                None => return Err(Error::retry(format!("{}: column {} was not there", table.name, c.name))),
            }
        }
        let exprs: Vec<String> = columns.iter().map(|(n, t)| t.select_expr(&quoted(n))).collect();
        let condition = bounds::condition(&key_of(d), chunk);
        let filter = if condition.is_empty() { String::new() } else { format!(" WHERE {condition}") };
        let list = if exprs.is_empty() { "1".to_owned() } else { exprs.join(", ") };
        let sql = format!("SELECT {list} FROM {}{filter}", qualified(&table.name));
        let Some(conn) = &mut self.conn else { return Err(Error::retry("the reading session is gone")) };
        let null_dates = self.zero_dates == ZeroDates::Null;
        let key = table.key().to_vec();
        self.reading = Some(Reading { name: table.name.clone(), columns, key, null_dates });
        conn.query_start(&sql).await.with_context(doing)?;
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<CopyBlock>> {
        let (Some(conn), Some(reading)) = (&mut self.conn, &self.reading) else {
            return Err(Error::fatal("a block was asked for before its chunk was opened"));
        };
        let doing = || format!("reading {}", reading.name);
        match conn.next_block().await.with_context(doing)? {
            Some(block) => Ok(Some(CopyBlock::Rows(rows(reading, &block)?))),
            None => {
                self.reading = None;
                Ok(None)
            }
        }
    }
}

/// `id=42`, of a row as it came.
fn key_text(reading: &Reading, row: &[u8]) -> String {
    let fields: Vec<_> = packet::text_fields(row).map_while(|f| f.ok()).collect();
    let value = |k: &usize| {
        let text = fields.get(*k).cloned().flatten().and_then(|place| row.get(place));
        let text = text.map_or("NULL".into(), String::from_utf8_lossy);
        format!("{}={text}", reading.columns.get(*k).map_or("", |(name, _)| name))
    };
    match reading.key.is_empty() {
        true => "(the table has no key)".to_owned(),
        false => reading.key.iter().map(value).collect::<Vec<_>>().join(","),
    }
}

/// Rows of a block in canonical text form, all in one buffer.
fn rows(reading: &Reading, block: &RowBlock) -> Result<Vec<Row>> {
    let mut made = RowsBuilder::with_capacity(block.len(), block.bytes() + block.bytes() / 4);
    for row in block.iter() {
        made.begin(reading.columns.len());
        let mut fields = packet::text_fields(row);
        for (name, kind) in &reading.columns {
            match fields.next() {
                Some(Ok(Some(place))) => {
                    let text = row.get(place).unwrap_or_default();
                    if reading.null_dates && kind.is_date() && is_zero_date(text) {
                        made.null();
                        continue;
                    }
                    kind.render_text(text, made.buffer()).map_err(|e| {
                        let row = key_text(reading, row);
                        let what = format!("{}: column {name} of the row {row} cannot be read: {e}", reading.name);
                        Error::fatal(what).hint(match e == TOO_LARGE {
                            true => "SET GLOBAL max_allowed_packet = 1073741824 at the source, then start again",
                            false => "mend the row at the source, or exclude the table",
                        })
                    })?;
                    made.text();
                }
                Some(Ok(None)) => made.null(),
                _ => return Err(Error::retry(format!("{}: the source sent a broken row", reading.name))),
            }
        }
        made.end();
    }
    let rows = made.finish().ok_or_else(|| Error::fatal(format!("{}: a row of 4 GiB or more", reading.name)))?;
    Ok(rows.collect())
}
