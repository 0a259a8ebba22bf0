//! The copy's side of the source: collections in ranges of `_id`, read by several cursors, each as the set's majority has
//! the documents at that moment.
//!
//! There is no view of one moment that would last for a copy. What stands for it is a place in the oplog from before the first
//! document was read: everything behind it is replayed over the copy, and once the place is passed at which the last document
//! was read ([`SnapshotSession::ended`]), the target is what the source was there.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bson::{Document, doc};
use mongodb::Client;

use super::batches::{Batches, Opening};
use super::event::Reply;
use super::known::Described;
use super::place::{self, Moment};
use super::token::Time;
use super::{bounds, mark};
use crate::change::Op;
use crate::documents::cursor::{Doc, Malformed};
use crate::documents::write;
use crate::error::{Error, Result};
use crate::position::Position;
use crate::schema::{Table, TableName};
use crate::source::{Chunk, ChunkReader, CopyBlock, CopyFormat, LogIdentity, SnapshotSession, TablePlan};
use crate::value::RowsBuilder;

/// Bytes of documents that a cursor is asked for at once. The server's own limit is 16 MiB, and one batch is on its way while
/// another is rendered.
const BATCH_BYTES: u64 = 2 << 20;
/// Documents of a batch, at most.
const BATCH_DOCUMENTS: u64 = 20_000;
/// Bytes of a block that is handed on.
const BLOCK_BYTES: usize = 256 << 10;
/// Samples for every bound between two chunks: their errors cancel each other.
const SAMPLES: u64 = 10;
/// How long a batch may take. The server may have to read all of it from a slow disk.
const BATCH_PATIENCE: Duration = Duration::from_secs(120);

/// A copy's hold on the source.
pub struct MongoSnapshot {
    /// Everything that readers share.
    shared: Arc<Shared>,
    at: Position,
    identity: LogIdentity,
    taken_at: i64,
    /// The oplog has to reach back to here until the copy ends.
    needed: Time,
    /// Where markers are written, and whether that is permitted.
    markers: (String, String),
}

struct Shared {
    client: Client,
    tables: HashMap<TableName, Described>,
    /// Documents are read as they are at this place or later.
    since: Time,
    /// The latest place that any reply has seen.
    seen: AtomicU64,
}

impl Shared {
    fn saw(&self, time: Time) {
        self.seen.fetch_max(time.0, Ordering::Relaxed);
    }
    /// What a majority has, not before the copy began: an election must not show an older state.
    fn read_concern(&self) -> Document {
        doc! { "level": "majority", "afterClusterTime": self.since.timestamp() }
    }
}

/// What a copy is begun with.
pub struct Beginning {
    /// The source.
    pub client: Client,
    /// The tables.
    pub tables: Vec<Described>,
    /// The log and the place in it that is tailed from.
    pub identity: LogIdentity,
    /// A place before anything is read.
    pub now: Moment,
    /// The oplog has to reach back to here until the copy ends.
    pub needed: Time,
    /// Where markers are written.
    pub markers: (String, String),
}

impl MongoSnapshot {
    /// Begins.
    pub fn new(b: Beginning) -> MongoSnapshot {
        MongoSnapshot {
            at: b.identity.start.clone(),
            identity: b.identity,
            taken_at: b.now.clock,
            needed: b.needed,
            markers: b.markers,
            shared: Arc::new(Shared {
                client: b.client,
                tables: b.tables.into_iter().map(|d| (d.table.name.clone(), d)).collect(),
                since: b.now.time,
                seen: AtomicU64::new(b.now.time.0),
            }),
        }
    }

    /// `_id`s that lie about evenly, in their order.
    async fn sampled(&self, d: &Described, pieces: u64) -> Result<Vec<String>> {
        let name = &d.table.name;
        let doing = format!("planning the copy of {name}");
        // Up to a twentieth of the documents the server looks at random places of its index; more would be a whole scan.
        let size = (pieces * SAMPLES).min(d.table.estimated_rows / 20).max(1);
        let pipeline = vec![
            doc! { "$sample": { "size": i64::try_from(size).unwrap_or(i64::MAX) } },
            doc! { "$project": { "_id": 1 } },
            doc! { "$sort": { "_id": 1 } },
        ];
        let command = doc! { "aggregate": &*name.name, "pipeline": pipeline, "cursor": { "batchSize": 20_000 },
        "allowDiskUse": true, "readConcern": self.shared.read_concern() };
        let opening =
            Opening { database: name.schema.clone(), command, batch: 20_000, wait: None, doing: doing.clone() };
        let mut batches = Batches::open(&self.shared.client, opening);
        let mut ids = Vec::new();
        while let Some(batch) = batches.next(BATCH_PATIENCE).await? {
            let reply = Reply::read(batch.as_raw_document().as_bytes()).map_err(|e| unreadable(name, e))?;
            for found in reply.documents() {
                let found = found.map_err(|e| unreadable(name, e))?;
                // An `_id` that has no text is no bound; the others are enough.
                let id = found.get("_id").map_err(|e| unreadable(name, e))?;
                ids.extend(id.as_ref().and_then(bounds::text));
            }
        }
        Ok(ids)
    }
}

fn unreadable(name: &TableName, why: Malformed) -> Error {
    Error::fatal(format!("{name}: the source sent what cannot be read: {why}"))
}

fn unknown(name: &TableName) -> Error {
    Error::retry(format!("{name}: the collection was not there when the copy began"))
}

#[async_trait]
impl SnapshotSession for MongoSnapshot {
    fn start(&self) -> &Position {
        &self.identity.start
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
        let d = self.shared.tables.get(&table.name).ok_or_else(|| unknown(&table.name))?;
        let pieces = d.table.bytes.div_ceil(chunk_bytes.max(1)).min(d.table.estimated_rows / 20).max(1);
        let cuts = match pieces {
            1 => Vec::new(),
            _ => bounds::cut(&self.sampled(d, pieces).await?, usize::try_from(pieces).unwrap_or(1)),
        };
        Ok(TablePlan { storage: d.uuid.clone(), chunks: bounds::chunks(cuts, d.table.estimated_rows) })
    }

    async fn reader(&self) -> Result<Box<dyn ChunkReader>> {
        Ok(Box::new(MongoReader { shared: self.shared.clone(), reading: None }))
    }

    async fn ended(&self) -> Result<Position> {
        let client = &self.shared.client;
        let (database, collection) = (self.markers.0.as_str(), self.markers.1.as_str());
        // A write of our own: whatever was read lies before it, and nothing of the copy is in it. So the target is
        // consistent exactly there, and the stream reaches it at once, also where nobody else writes.
        let written = mark::write(client, database, collection, "switchyard: the copy has ended").await;
        let at = match written {
            Ok(time) => time,
            Err(e) if e.is_retry() => return Err(e),
            // The account may not write there. The primary's last operation is none before what any chunk has seen, and what
            // lies at that very place may have been seen: consistent is what is behind it. The primary itself writes every ten
            // seconds (periodicNoopIntervalSecs).
            Err(_) => place::now(client).await?.time.next(),
        };
        let seen = Time(self.shared.seen.load(Ordering::Relaxed)).next();
        Ok(Position::Oplog(at.max(seen).position()))
    }

    async fn still_held(&self) -> Result<()> {
        place::still_holds(&self.shared.client, self.needed).await
    }
}

/// Reads chunks, one after the other.
struct MongoReader {
    shared: Arc<Shared>,
    reading: Option<Reading>,
}

/// A chunk that is being read.
struct Reading {
    described: Described,
    /// Whether documents pass as they are.
    raw: bool,
    batches: Batches,
    /// What is read when those are at their end.
    rest: Option<Opening>,
    /// Blocks of the reply that was read last.
    ready: VecDeque<CopyBlock>,
    /// The `_id` that was read last. A document that is deleted and inserted again with the same one while its range is read
    /// has a new place behind the old one in the index, and the server gives it out twice.
    last: Vec<u8>,
}

/// Notes the document's `_id`; whether it is that of the document before.
fn is_again(last: &mut Vec<u8>, document: Doc<'_>) -> Result<bool, Malformed> {
    let mut id = Vec::with_capacity(16);
    if let Some(value) = document.get("_id")? {
        // The tag, too: 1 and "1" are different keys.
        id.push(value.tag());
        write::value(&mut id, &value);
    }
    let again = !id.is_empty() && id == *last;
    *last = id;
    Ok(again)
}

#[async_trait]
impl ChunkReader for MongoReader {
    fn formats(&self, table: &Table) -> Vec<CopyFormat> {
        match self.shared.tables.get(&table.name).is_some_and(|d| d.mapping.is_raw()) {
            true => vec![CopyFormat::Raw("bson"), CopyFormat::Rows],
            false => vec![CopyFormat::Rows],
        }
    }

    async fn open(&mut self, table: &Table, chunk: &Chunk, format: CopyFormat) -> Result<()> {
        let name = &table.name;
        let described = self.shared.tables.get(name).ok_or_else(|| unknown(name))?.clone();
        let documents = BATCH_BYTES / described.document_bytes.max(1);
        let batch = documents.clamp(1, BATCH_DOCUMENTS) as u32;
        let command = bounds::find(&name.name, chunk, batch, self.shared.read_concern()).map_err(|why| {
            Error::fatal(format!("{name}: the plan of the copy cannot be read: {why}"))
                .hint("the bookkeeping in schema switchyard on the target was changed by hand: copy anew")
        })?;
        let doing = format!("reading {name} at the source");
        let opening = Opening { database: name.schema.clone(), command, batch, wait: None, doing };
        let largest = bounds::find_largest(&name.name, chunk, self.shared.read_concern());
        let rest = largest.map(|command| Opening { command, ..opening.clone() });
        let batches = Batches::open(&self.shared.client, opening);
        let raw = format != CopyFormat::Rows;
        self.reading = Some(Reading { described, raw, batches, rest, ready: VecDeque::new(), last: Vec::new() });
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<CopyBlock>> {
        let Some(reading) = &mut self.reading else {
            return Err(Error::fatal("a block was asked for before its chunk was opened"));
        };
        loop {
            if let Some(block) = reading.ready.pop_front() {
                return Ok(Some(block));
            }
            match reading.batches.next(BATCH_PATIENCE).await? {
                Some(batch) => {
                    let reply = Reply::read(batch.as_raw_document().as_bytes());
                    let reply = reply.map_err(|e| unreadable(&reading.described.table.name, e))?;
                    if let Some(time) = reply.operation_time {
                        self.shared.saw(time);
                    }
                    if reading.raw { reading.bytes(&reply)? } else { reading.rows(&reply)? }
                }
                None => match reading.rest.take() {
                    Some(opening) => reading.batches = Batches::open(&self.shared.client, opening),
                    None => {
                        self.reading = None;
                        return Ok(None);
                    }
                },
            }
        }
    }
}

impl Reading {
    /// A reply's documents as they are, one behind the other.
    fn bytes(&mut self, reply: &Reply<'_>) -> Result<()> {
        let name = &self.described.table.name;
        let room = (BLOCK_BYTES + BLOCK_BYTES / 4).min(reply.bytes());
        let (mut bytes, mut rows) = (Vec::with_capacity(room), 0);
        for found in reply.documents() {
            let found = found.map_err(|e| unreadable(name, e))?;
            if is_again(&mut self.last, found).map_err(|e| unreadable(name, e))? {
                continue;
            }
            bytes.extend_from_slice(found.bytes());
            rows += 1;
            if bytes.len() >= BLOCK_BYTES {
                let full = std::mem::replace(&mut bytes, Vec::with_capacity(room));
                self.ready.push_back(CopyBlock::Raw { bytes: full.into(), rows });
                rows = 0;
            }
        }
        if rows > 0 {
            self.ready.push_back(CopyBlock::Raw { bytes: bytes.into(), rows });
        }
        Ok(())
    }

    /// A reply's documents as rows.
    fn rows(&mut self, reply: &Reply<'_>) -> Result<()> {
        let Reading { described: d, ready, last, .. } = self;
        let name = &d.table.name;
        let new = || RowsBuilder::with_capacity(1024, (BLOCK_BYTES + BLOCK_BYTES / 4).min(2 * reply.bytes()));
        let (mut made, mut rows, mut misfits) = (new(), 0, Vec::new());
        let mut full = |made: RowsBuilder| {
            let rows = made.finish().ok_or_else(|| Error::fatal(format!("{name}: a row of 4 GiB or more")))?;
            ready.push_back(CopyBlock::Rows(rows.collect()));
            Ok::<_, Error>(())
        };
        for found in reply.documents() {
            let found = found.map_err(|e| unreadable(name, e))?;
            if is_again(last, found).map_err(|e| unreadable(name, e))? {
                continue;
            }
            match d.mapping.render(found, &mut made) {
                Ok(()) => rows += 1,
                Err(misfit) => misfits.push(d.mapping.refused(d.table.id, Op::Insert, found, &misfit)),
            }
            if made.bytes() >= BLOCK_BYTES {
                full(std::mem::replace(&mut made, new()))?;
                rows = 0;
            }
        }
        if rows > 0 {
            full(made)?;
        }
        if !misfits.is_empty() {
            ready.push_back(CopyBlock::Refused(misfits));
        }
        Ok(())
    }
}
