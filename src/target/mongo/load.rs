//! Loads copied rows in bounded transactions, the last of which notes the chunk as done (docs/adr/0008).
//!
//! A transaction as large as a chunk asks much of the server's cache and may outlive its limit of 60 seconds. So a chunk
//! goes in pieces; each is refused if the epoch was raised. Rows of a chunk that was cut short are brought in again over
//! themselves, by their key; where `_id` is made up, what it begins with is noted and those rows are removed first.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::Client;
use tokio::task::JoinHandle;

use super::bookkeeping::{self, DATABASE, Writer};
use super::command::{self, Statements, Verb};
use super::create::remove_some;
use super::session::{Durable, Session};
use super::shape::Shape;
use super::{catalog, copies, merge, trouble, values};
use crate::change::DeadLetter;
use crate::documents::BSON;
use crate::error::{Error, Result};
use crate::exchange::{CopyBlock, CopyFormat};
use crate::faults;
use crate::schema::{Table, TableName};
use crate::target::{LoadMode, Loader};
use crate::transform::output::ParentKey;
use crate::value::Row;

/// Bytes of rows in one transaction.
const PIECE_BYTES: usize = 8 << 20;
/// How often a piece that lost against something else on the server is tried again.
const RETRIES: u32 = 8;

fn piece_bytes() -> usize {
    faults::number("SWITCHYARD_PIECE_BYTES").and_then(|n| usize::try_from(n).ok()).unwrap_or(PIECE_BYTES)
}

/// A command that is ready, and how many documents it must report.
#[derive(Clone)]
struct Ready {
    shape: Arc<Shape>,
    verb: Verb,
    raw: RawDocumentBuf,
    /// `None`: any number.
    expect: Option<u64>,
}

/// The work of one transaction.
#[derive(Default)]
struct Piece {
    commands: Vec<Ready>,
    /// Commands on the bookkeeping.
    notes: Vec<Document>,
    bytes: usize,
}

/// A session that loads chunks.
pub struct MongoLoader {
    client: Client,
    name: String,
    epoch: i64,
    writer: Arc<Writer>,
    /// Away while a piece is under way.
    session: Option<Session>,
    running: Option<JoinHandle<(Session, Result<()>)>>,
    piece: Piece,
    now: Option<Loading>,
    /// Rows of the chunk so far.
    rows: u64,
    /// Pieces of the chunk were sent before its last one: the marks that are noted, one a target table.
    marks: Vec<(TableName, String)>,
    noted: usize,
    letters: Vec<DeadLetter>,
    /// What is known of target tables.
    shapes: HashMap<TableName, Option<Table>>,
    /// Source tables whose unfinished chunks were looked for; whether there were any.
    repaired: HashMap<TableName, bool>,
}

struct Loading {
    shape: Arc<Shape>,
    source: TableName,
    mode: LoadMode,
    /// Rows may be there already: they are replaced.
    over: bool,
    statements: Statements,
    /// Deletes that come before the inserts.
    deletes: Option<Statements>,
    /// The fields that find the rows of the list that came last.
    owner: Vec<u8>,
    /// Keys of the statements, where what is there already is noted.
    keys: Vec<Vec<u8>>,
    /// What made-up keys begin with, and how many were made.
    mark: [u8; 8],
    made: u32,
    scratch: Vec<u8>,
}

impl MongoLoader {
    /// Makes a writer of a new session.
    ///
    /// # Errors
    /// [`crate::error::Class::Fenced`] if the epoch was raised meanwhile.
    pub async fn new(client: &Client, name: &str, epoch: i64) -> Result<MongoLoader> {
        let session = Session::start(client).await?;
        let writer = Writer::register(&session, name, epoch).await?;
        Ok(MongoLoader {
            client: client.clone(),
            name: name.to_owned(),
            epoch,
            writer: Arc::new(writer),
            session: Some(session),
            running: None,
            piece: Piece::default(),
            now: None,
            rows: 0,
            marks: Vec::new(),
            noted: 0,
            letters: Vec::new(),
            shapes: HashMap::new(),
            repaired: HashMap::new(),
        })
    }

    async fn shape(&mut self, table: &Table) -> Result<Arc<Shape>> {
        if !self.shapes.contains_key(&table.name) {
            let found = catalog::described(&self.client, &self.name, std::slice::from_ref(&table.name)).await?;
            let Some(found) = found.into_iter().next().flatten() else {
                return Err(Error::fatal(format!("the target has no collection {} (any more)", table.name))
                    .hint("make it, or leave the table out with tables.exclude; then start again"));
            };
            self.shapes.insert(table.name.clone(), Some(found.table).filter(|_| found.known));
        }
        let known = self.shapes.get(&table.name).and_then(Option::as_ref);
        Shape::new(&Arc::new(table.clone()), known)
            .map(Arc::new)
            .map_err(|why| trouble::no_documents(&table.name, &why))
    }

    /// The session, once the piece under way is done.
    async fn free(&mut self) -> Result<Session> {
        if let Some(running) = self.running.take() {
            let (session, done) = running.await.map_err(|e| {
                Error::fatal(format!("a task of the loader ended: {e}")).hint("this is a bug in Switchyard")
            })?;
            self.session = Some(session);
            done?;
        }
        match self.session.take() {
            Some(s) => Ok(s),
            None => Err(Error::retry("the loader's session on the target was given up")),
        }
    }

    /// Sends what was collected as a transaction of its own, and goes on collecting meanwhile.
    async fn send_piece(&mut self) -> Result<()> {
        let session = self.free().await?;
        faults::point("load.before_piece");
        let mut piece = std::mem::take(&mut self.piece);
        // The first piece notes that rows are there which belong to no done chunk.
        let Some(now) = &self.now else { return Ok(()) };
        for (target, mark) in self.marks.iter().skip(self.noted) {
            piece.notes.push(copies::begin_unfinished(&self.name, self.epoch, &now.source, target, mark));
        }
        self.noted = self.marks.len();
        let doing = format!("loading {}", now.shape.table.name);
        self.running = Some(tokio::spawn(transact(session, self.writer.clone(), doing, piece)));
        Ok(())
    }

    /// Closes the commands of the table under way.
    fn close(&mut self) -> Result<()> {
        let Some(now) = &mut self.now else { return Ok(()) };
        if let Some(deletes) = now.deletes.take_if(|d| d.count > 0) {
            let raw = deletes.finish()?;
            self.piece.bytes += raw.as_bytes().len();
            self.piece.commands.push(Ready { shape: now.shape.clone(), verb: Verb::Delete, raw, expect: None });
        }
        if now.statements.count > 0 {
            let verb = now.statements.verb();
            let next = Statements::new(verb, &now.shape.table.name)?;
            let full = std::mem::replace(&mut now.statements, next);
            let expect = Some(full.count as u64);
            let raw = full.finish()?;
            self.piece.bytes += raw.as_bytes().len();
            self.piece.commands.push(Ready { shape: now.shape.clone(), verb, raw, expect });
        }
        Ok(())
    }

    /// In the one transaction of a merge that skips: brings rows in whose key is not there, and notes the others.
    async fn skip_full(&mut self) -> Result<()> {
        let Some(now) = &mut self.now else { return Ok(()) };
        if now.statements.count == 0 {
            return Ok(());
        }
        let next = Statements::new(Verb::Update, &now.shape.table.name)?;
        let full = std::mem::replace(&mut now.statements, next);
        let keys = std::mem::take(&mut now.keys);
        let table = now.shape.table.name.clone();
        let (source, shape) = (now.source.clone(), now.shape.clone());
        let doing = format!("loading {table}");
        let mut s = self.free().await?;
        let done = async {
            if !s.is_open() {
                s.begin(Durable::Later).await?;
            }
            let reply = s.raw(&doing, &table.schema, full.finish()?).await?;
            let w = command::written(&reply);
            if let Some(r) = &w.refused {
                return Err(trouble::refused(&self.client, &shape, Verb::Insert, r, None).await);
            }
            let there = keys.iter().enumerate().filter(|(n, _)| !w.made.contains(n)).map(|(_, k)| k.as_slice());
            for note in merge::note(&self.name, &source, &table, there)? {
                let w = command::written(&s.raw(&doing, DATABASE, note).await?);
                if let Some(r) = &w.refused {
                    return Err(super::session::refused(&doing, r));
                }
            }
            Ok(())
        }
        .await;
        self.session = Some(s);
        done
    }

    async fn push(&mut self) -> Result<()> {
        let full = match &self.now {
            // A piece may be smaller than a command could be.
            Some(now) => {
                let s = &now.statements;
                s.is_full(now.scratch.len()) || (s.count > 0 && s.bytes() + now.scratch.len() > piece_bytes())
            }
            None => false,
        };
        if full {
            if self.now.as_ref().is_some_and(|n| n.mode == LoadMode::Skip) {
                self.skip_full().await?;
            } else {
                self.close()?;
                if self.piece.bytes >= piece_bytes() {
                    self.send_piece().await?;
                }
            }
        }
        if let Some(now) = &mut self.now {
            now.statements.push(&now.scratch);
        }
        self.rows += 1;
        Ok(())
    }

    async fn row(&mut self, row: &Row) -> Result<()> {
        let Some(now) = &mut self.now else { return Err(not_begun()) };
        let shape = now.shape.clone();
        now.scratch.clear();
        let mut id = [0; 12];
        if shape.is_generated() {
            id[..8].copy_from_slice(&now.mark);
            id[8..].copy_from_slice(&now.made.to_be_bytes());
            now.made =
                now.made.checked_add(1).ok_or_else(|| Error::fatal("a chunk has more rows than can be numbered"))?;
        }
        match now.mode {
            LoadMode::Skip => {
                let out = &mut now.scratch;
                command::update(
                    out,
                    |o| shape.filter(o, row),
                    |o| shape.set_on_insert(o, row),
                    true,
                    shape.holds_whole_documents(),
                )?;
                let mut key = Vec::with_capacity(32);
                shape.id_as(&mut key, row, b"key")?;
                now.keys.push(key);
            }
            LoadMode::ReplaceAll | LoadMode::Upsert if now.deletes.is_some() || !shape.is_found_by_id() => {
                let mut owner = Vec::with_capacity(64);
                shape.filter(&mut owner, row)?;
                if owner != now.owner || now.mode == LoadMode::Upsert {
                    if now.deletes.is_none() {
                        now.deletes = Some(Statements::new(Verb::Delete, &shape.table.name)?);
                    }
                    let mut delete = Vec::with_capacity(owner.len() + 32);
                    command::delete(
                        &mut delete,
                        |o| {
                            o.extend_from_slice(&owner);
                            Ok(())
                        },
                        true,
                    )?;
                    if let Some(deletes) = &mut now.deletes {
                        deletes.push(&delete);
                    }
                    now.owner = owner;
                }
                shape.document(&mut now.scratch, row, id)?;
            }
            _ if now.over => {
                let out = &mut now.scratch;
                command::update(
                    out,
                    |o| shape.filter(o, row),
                    |o| shape.document(o, row, id),
                    true,
                    shape.holds_whole_documents(),
                )?;
            }
            _ => shape.document(&mut now.scratch, row, id)?,
        }
        self.push().await
    }

    async fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let broken = || Error::fatal("a block of documents that are none").hint("this is a bug in Switchyard");
            let length = rest.first_chunk::<4>().map(|l| i32::from_le_bytes(*l)).ok_or_else(broken)?;
            let length = usize::try_from(length).map_err(|_| broken())?;
            let document = rest.get(..length).filter(|d| d.len() > 4).ok_or_else(broken)?;
            rest = rest.get(length..).unwrap_or_default();
            let Some(now) = &mut self.now else { return Err(not_begun()) };
            now.scratch.clear();
            if now.over {
                let id = values::id_of(document).ok_or_else(broken)?;
                let query = |o: &mut Vec<u8>| values::find_by(o, &id).ok_or_else(broken);
                let with = |o: &mut Vec<u8>| {
                    o.extend_from_slice(document);
                    Ok(())
                };
                command::update(&mut now.scratch, query, with, true, true)?;
            } else {
                now.scratch.extend_from_slice(document);
            }
            self.push().await?;
        }
        Ok(())
    }

    /// What former runs left of unfinished chunks. Made-up keys could not be found again: those rows go. Others are
    /// loaded over. Whether there was anything.
    async fn repair(&mut self, source: &TableName) -> Result<bool> {
        if let Some(found) = self.repaired.get(source) {
            return Ok(*found);
        }
        let found = copies::unfinished(&self.client, &self.name, self.epoch, source).await?;
        for u in &found {
            // Other keys are never of this form and this prefix.
            let Some((from, to)) = range(&u.mark) else { continue };
            self.remove(&u.to, doc! { "_id": { "$gte": from, "$lte": to } }).await?;
        }
        self.repaired.insert(source.clone(), !found.is_empty());
        Ok(!found.is_empty())
    }

    /// Removes what matches, in transactions that only this writer can commit.
    async fn remove(&mut self, table: &TableName, filter: Document) -> Result<()> {
        let doing = format!("emptying {table} before its copy");
        let mut tries = 0;
        loop {
            let mut s = self.free().await?;
            let once = async {
                s.begin(Durable::Later).await?;
                let n = remove_some(&mut s, &doing, table, filter.clone()).await?;
                if n > 0 {
                    self.writer.hold(&mut s, &doing).await?;
                }
                s.commit(&doing).await?;
                Ok::<_, Error>(n)
            }
            .await;
            if once.is_err() {
                s.abort().await;
            }
            self.session = Some(s);
            match once {
                Ok(0) => return Ok(()),
                Ok(_) => tries = 0,
                Err(e) if e.is_conflict() && tries < RETRIES => {
                    tries += 1;
                    tokio::time::sleep(Duration::from_millis(10 << tries)).await;
                }
                Err(e) => return Err(e),
            }
        }
    }
}

/// The made-up keys that begin with a mark.
fn range(mark: &str) -> Option<(Bson, Bson)> {
    let id = |end: &str| bson::oid::ObjectId::parse_str(format!("{mark}{end}")).ok().map(Bson::ObjectId);
    Some((id("00000000")?, id("ffffffff")?))
}

fn not_begun() -> Error {
    Error::fatal("a block was written before its chunk was begun")
}

/// Runs a piece as one transaction, again where it lost against something else.
async fn transact(mut s: Session, writer: Arc<Writer>, doing: String, piece: Piece) -> (Session, Result<()>) {
    let mut tries = 0;
    loop {
        let done = once(&mut s, &writer, &doing, &piece).await;
        match done {
            Err(e) if e.is_conflict() && tries < RETRIES => {
                s.abort().await;
                tries += 1;
                tracing::debug!("{e}; loading the piece again");
                tokio::time::sleep(Duration::from_millis(10 << tries)).await;
            }
            Err(e) => {
                s.abort().await;
                return (s, Err(e));
            }
            Ok(()) => return (s, Ok(())),
        }
    }
}

async fn once(s: &mut Session, writer: &Writer, doing: &str, piece: &Piece) -> Result<()> {
    if !s.is_open() {
        s.begin(Durable::Later).await?;
    }
    for c in &piece.commands {
        let w = command::written(&s.raw(doing, &c.shape.table.name.schema, c.raw.clone()).await?);
        if let Some(r) = &w.refused {
            return Err(trouble::refused(s.client(), &c.shape, c.verb, r, Some(&c.raw)).await);
        }
        if c.expect.is_some_and(|n| n != w.n) {
            return Err(Error::fatal(format!("{doing}: the server took {} of {:?} rows", w.n, c.expect)));
        }
    }
    for note in &piece.notes {
        s.write(doing, DATABASE, note.clone()).await?;
    }
    writer.hold(s, doing).await?;
    s.commit(doing).await
}

#[async_trait]
impl Loader for MongoLoader {
    fn formats(&self, table: &Table) -> Vec<CopyFormat> {
        let whole = table.columns.len() == 2 && table.columns.iter().all(|c| c.type_name == BSON);
        if whole { vec![CopyFormat::Raw(BSON), CopyFormat::Rows] } else { vec![CopyFormat::Rows] }
    }

    async fn begin(&mut self, source: &TableName, table: &Table, _: CopyFormat, mode: LoadMode) -> Result<()> {
        if self.now.as_ref().is_some_and(|n| n.mode == LoadMode::Skip) {
            self.skip_full().await?;
        } else {
            self.close()?;
        }
        let shape = self.shape(table).await?;
        let unfinished = self.repair(source).await?;
        if mode == LoadMode::WholeTable {
            self.remove(&table.name, Document::new()).await?;
        }
        if mode == LoadMode::Upsert && shape.is_generated() {
            return Err(Error::fatal(format!(
                "{}: rows without a key cannot be loaded over others that are there",
                table.name
            ))
            .hint("begin the copy of these tables anew: `switchyard finish`, empty the collection, run"));
        }
        let over = match mode {
            LoadMode::Upsert => true,
            // Only where rows have keys of their own.
            LoadMode::Append => unfinished && shape.is_found_by_id(),
            LoadMode::WholeTable | LoadMode::Skip | LoadMode::ReplaceAll => false,
        };
        let verb = if (over && shape.is_found_by_id()) || mode == LoadMode::Skip { Verb::Update } else { Verb::Insert };
        let deletes = match mode {
            LoadMode::ReplaceAll => Some(Statements::new(Verb::Delete, &table.name)?),
            _ => None,
        };
        let mark = rand::random::<u64>().to_be_bytes();
        let text: String = mark.iter().map(|b| format!("{b:02x}")).collect();
        self.marks.push((table.name.clone(), text));
        self.now = Some(Loading {
            statements: Statements::new(verb, &table.name)?,
            shape,
            source: source.clone(),
            mode,
            over,
            deletes,
            owner: Vec::new(),
            keys: Vec::new(),
            mark,
            made: 0,
            scratch: Vec::new(),
        });
        Ok(())
    }

    async fn begin_items(&mut self, _: &TableName, table: &Table, _: &ParentKey) -> Result<()> {
        Err(merge::no_skipped_lists(&table.name))
    }

    async fn write(&mut self, block: CopyBlock) -> Result<()> {
        match block {
            CopyBlock::Rows(rows) => {
                for row in &rows {
                    self.row(row).await?;
                }
                Ok(())
            }
            CopyBlock::Raw { bytes, .. } => self.raw(&bytes).await,
            CopyBlock::Refused(_) => {
                Err(Error::fatal("a row that its source refused came to the loader")
                    .hint("this is a bug in Switchyard"))
            }
        }
    }

    fn set_aside(&mut self, letters: Vec<DeadLetter>) {
        self.letters = letters;
    }

    async fn commit(&mut self, source: &TableName, chunks: &[u32]) -> Result<u64> {
        if self.now.as_ref().is_some_and(|n| n.mode == LoadMode::Skip) {
            self.skip_full().await?;
        } else {
            self.close()?;
        }
        let Some(now) = self.now.take() else {
            return Err(Error::fatal("a chunk was committed before it was begun"));
        };
        let mut piece = std::mem::take(&mut self.piece);
        let letters = std::mem::take(&mut self.letters);
        if !letters.is_empty() {
            piece.notes.push(bookkeeping::set_aside(&self.name, &letters));
        }
        piece.notes.push(copies::chunks_done(&self.name, source, chunks, self.rows));
        for (_, mark) in self.marks.iter().take(self.noted) {
            piece.notes.push(copies::end_unfinished(mark));
        }
        let doing = format!("loading {}", now.shape.table.name);
        let session = self.free().await?;
        faults::point("load.before_commit");
        let writer = self.writer.clone();
        let (session, done) = if session.is_open() {
            // A merge that skips: what was done in the transaction cannot be done again by itself.
            let mut session = session;
            let done = once(&mut session, &writer, &doing, &piece).await;
            if done.is_err() {
                session.abort().await;
            }
            (session, done)
        } else {
            transact(session, writer, doing, piece).await
        };
        self.session = Some(session);
        done?;
        self.marks.clear();
        self.noted = 0;
        Ok(std::mem::take(&mut self.rows))
    }

    async fn abort(&mut self) -> Result<()> {
        self.letters.clear();
        self.now = None;
        self.piece = Piece::default();
        self.marks.clear();
        (self.rows, self.noted) = (0, 0);
        let mut session = self.free().await?;
        session.abort().await;
        self.session = Some(session);
        Ok(())
    }
}
