//! The change stream: opened, read ahead, opened anew where it ends, and handed on as what it means.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bson::{Bson, Document, doc};
use mongodb::Client;
use tokio::task::JoinHandle;

use super::batches::{Batches, Opening};
use super::event::{Kind, Pieces, Reply, Seen};
use super::follow::{Follower, Lookup};
use super::known::Known;
use super::place;
use super::token::Time;
use super::watch::{self, From, Wanted};
use crate::change::Parcel;
use crate::documents::cursor::{Doc, Malformed};
use crate::documents::write;
use crate::error::{Error, Result};
use crate::faults;
use crate::mongowire::command;
use crate::schema::TableName;
use crate::source::queue::{Closed, EventSender};

/// Events of a batch, at most: enough that the server is not asked too often, few enough that the first are here soon.
const BATCH: u32 = 2_000;
/// Bytes of a batch, about.
const BATCH_BYTES: u64 = 4 << 20;
/// Events of a batch, at least.
const LEAST: u64 = 64;
/// How long the server waits for an event before it says that there is none. A transaction that nothing follows is known to
/// be whole by such an answer alone, so this is what its last event waits for.
const WAIT: Duration = Duration::from_millis(50);
/// After so much silence the server is asked whether it lives: it may be reading through much of no interest.
const SILENCE: Duration = Duration::from_secs(15);
/// So much silence is a dead connection, whatever the server says on others.
const DEAD: Duration = Duration::from_secs(600);
/// The source has said all there is, and nothing more came for so long: the target may be level.
const QUIET: Duration = Duration::from_millis(3);
/// How often an idle source's clock is handed on.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Bytes of events that are handed on together.
const PARCEL_BYTES: usize = 256 << 10;
/// How long is waited for a read under way when nobody listens any more.
const GOODBYE: Duration = Duration::from_secs(2);
/// Documents that are looked up at once, and about how many bytes of them.
const LOOKUPS: usize = 1_000;
const LOOKUP_BYTES: u64 = 4 << 20;
/// Events after one that was too large, until which the stream is read one by one.
const CAREFUL: u32 = 1_000;

/// The stream cannot go on behind its token: the event is not in this stream, because the selection is another one now
/// (`ChangeStreamFatalError`).
const TOKEN_UNKNOWN: &str = "280";
/// `ChangeStreamHistoryLost`, and the oplog's end that overtook its reader (`CappedPositionLost`, `OplogQueryMinTsMissing`).
const HISTORY_LOST: [&str; 3] = ["286", "136", "326"];
/// `BSONObjectTooLarge`: an event is larger than 16 MiB.
const TOO_LARGE: &str = "10334";

/// What a tail is begun with.
pub struct Tailing {
    /// The source.
    pub client: Client,
    /// Which collections take part.
    pub known: Known,
    /// The server's version.
    pub version: (u32, u32, u32),
    /// What events mean, from its place on.
    pub follower: Follower,
    /// Bytes of a document, on average, of the collection where that is most.
    pub document_bytes: u64,
}

struct Tail {
    client: Client,
    known: Known,
    version: (u32, u32, u32),
    follower: Follower,
    parcel: Parcel,
    /// How far the source's clock is ahead of ours.
    ahead: i64,
    heartbeat: Instant,
    from: From,
    /// Events of a batch.
    batch: u32,
    /// Events left to be read one by one.
    careful: u32,
    pieces: Pieces,
    /// What reads the stream.
    reading: Option<JoinHandle<()>>,
}

/// Why a stream is opened anew.
enum Again {
    /// What it watched was dropped, or it goes back to large batches.
    Ended,
    /// Its token is not known there.
    ByTime,
    /// An event is too large.
    TooLarge(Error),
}

fn clock() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}

/// Follows the stream until the connection fails or `out` is closed.
///
/// # Errors
/// `Retry` for lost connections; `Fatal` for what cannot be followed.
pub async fn run(t: Tailing, out: EventSender) -> Result<()> {
    let ahead = place::now(&t.client).await?.clock - clock();
    let mut tail = Tail {
        client: t.client,
        known: t.known,
        version: t.version,
        follower: t.follower,
        parcel: Parcel::default(),
        ahead,
        heartbeat: Instant::now(),
        from: From::Token,
        batch: (BATCH_BYTES / t.document_bytes.max(1)).clamp(LEAST, u64::from(BATCH)) as u32,
        careful: 0,
        pieces: Pieces::default(),
        reading: None,
    };
    loop {
        let again = tokio::select! {
            again = tail.stream(&out) => again?,
            () = out.closed() => None,
        };
        match again {
            None => {
                if let Some(reading) = tail.reading.take() {
                    let _ = tokio::time::timeout(GOODBYE, reading).await;
                }
                return Ok(());
            }
            Some(Again::Ended) => tail.from = From::Token,
            Some(Again::ByTime) => {
                tracing::info!(
                    "the change stream begins anew by time: its token is not known to it, because the selection was changed"
                );
                tail.follower.pass_what_was_seen();
                tail.from = From::Time;
            }
            Some(Again::TooLarge(e)) if tail.careful > 0 => return Err(tail.too_large(e).await),
            Some(Again::TooLarge(_)) => tail.careful = CAREFUL,
        }
    }
}

impl Tail {
    fn wanted(&self) -> Wanted {
        let (major, minor, patch) = self.version;
        let splits = major >= 7 || (major, minor) == (6, 0) && patch >= 9;
        let new = major >= 6;
        Wanted {
            from: self.from,
            expanded: new,
            // Where events cannot come in pieces, one that is too large with its images may fit without.
            images: new && (self.careful == 0 || splits),
            pieces: splits && self.careful > 0,
            keys_only: false,
        }
    }

    fn opening(&self, wanted: Wanted, batch: u32) -> Opening {
        let (database, command) = watch::command(&self.known, self.follower.position(), wanted, batch);
        Opening { database, command, batch, wait: Some(WAIT), doing: "reading the source's change stream".into() }
    }

    /// Reads one stream to its end. `None`: nobody listens any more.
    async fn stream(&mut self, out: &EventSender) -> Result<Option<Again>> {
        let batch = if self.careful > 0 { 1 } else { self.batch };
        let by_token = self.from == From::Token && self.follower.position().token.is_some();
        let mut batches = Batches::open(&self.client, self.opening(self.wanted(), batch));
        self.reading = batches.task();
        let mut silent = Duration::ZERO;
        let mut level = false;
        loop {
            let patience = if level { QUIET } else { SILENCE };
            let reply = match batches.try_next(patience).await {
                Ok(Some(Some(batch))) => batch,
                Ok(Some(None)) => return Err(Error::retry("the source ended its change stream")),
                Ok(None) if level => {
                    level = false;
                    self.follower.level(clock() + self.ahead, &mut self.parcel);
                    if self.hand_on(out).await.is_err() {
                        return Ok(None);
                    }
                    continue;
                }
                Ok(None) => {
                    silent += SILENCE;
                    let doing = "asking the source whether it is there";
                    let db = self.client.database("admin");
                    let ping = async move { db.run_command(doc! { "ping": 1 }).await };
                    command::finished_within(SILENCE, doing, ping).await?;
                    if silent >= DEAD {
                        return Err(Error::retry("the source's change stream has been silent for too long"));
                    }
                    continue;
                }
                Err(e) => match e.code() {
                    Some(TOKEN_UNKNOWN) if by_token => return Ok(Some(Again::ByTime)),
                    Some(TOO_LARGE) => return Ok(Some(Again::TooLarge(e))),
                    Some(code) if HISTORY_LOST.contains(&code) => {
                        let at = self.follower.position();
                        return Err(place::lost(format!(
                            "the source's oplog does not reach back to {}.{} any more: {}",
                            at.seconds,
                            at.increment,
                            e.message()
                        )));
                    }
                    _ => return Err(e),
                },
            };
            silent = Duration::ZERO;
            let reply = Reply::read(reply.as_raw_document().as_bytes()).map_err(unreadable)?;
            let idle = reply.is_empty();
            let (mut ended, count) = self.events(&reply, out).await?;
            // A full batch may have been cut short.
            level = count > 0 && count < batch;
            if let Some(token) = reply.token {
                let now = clock() + self.ahead;
                let due = self.heartbeat.elapsed() >= HEARTBEAT;
                self.follower.reached(token, idle && (due || self.follower.is_open()), now, &mut self.parcel);
                if due {
                    self.heartbeat = Instant::now();
                }
            }
            for what in self.follower.said() {
                tracing::warn!("{what}");
            }
            if self.hand_on(out).await.is_err() {
                return Ok(None);
            }
            if self.careful > 0 && !idle {
                self.careful -= 1;
                ended |= self.careful == 0;
            }
            if ended {
                return Ok(Some(Again::Ended));
            }
        }
    }

    /// Takes a reply's events; whether the stream says that it ends, and how many there were.
    async fn events(&mut self, reply: &Reply<'_>, out: &EventSender) -> Result<(bool, u32)> {
        let (mut ended, mut count) = (false, 0);
        let mut window: Vec<Seen<'_>> = Vec::new();
        let (mut asked, mut bytes) = (0, 0);
        for document in reply.documents() {
            let document = document.map_err(unreadable)?;
            let seen = Seen::read(document).map_err(unreadable)?;
            count += 1;
            if let Some(piece) = seen.piece {
                self.window(&mut window, out).await?;
                if let Some(whole) = self.pieces.add(document, piece).map_err(unreadable)? {
                    let whole = Doc::new(&whole).and_then(Seen::read).map_err(unreadable)?;
                    self.window(&mut vec![whole], out).await?;
                }
                continue;
            }
            ended |= seen.kind == Kind::Invalidate;
            if self.follower.asks(&seen) {
                asked += 1;
                bytes += self.follower.document_bytes(&seen);
            }
            window.push(seen);
            if asked >= LOOKUPS || bytes >= LOOKUP_BYTES {
                self.window(&mut window, out).await?;
                (asked, bytes) = (0, 0);
            }
        }
        self.window(&mut window, out).await?;
        Ok((ended, count))
    }

    /// Looks up what has to be, then hands the events to the follower.
    async fn window(&mut self, window: &mut Vec<Seen<'_>>, out: &EventSender) -> Result<()> {
        let found = self.look_up(window).await?;
        let mut key = Vec::new();
        for seen in window.drain(..) {
            let lookup = match found.get(&(seen.database, seen.collection)) {
                Some(documents) if self.follower.asks(&seen) => {
                    id_bytes(&mut key, &seen)?;
                    match documents.get(&key) {
                        Some(bytes) => Lookup::Found(Doc::new(bytes).map_err(unreadable)?),
                        None => Lookup::Gone,
                    }
                }
                _ => Lookup::NotAsked,
            };
            self.follower.event(&seen, lookup, &mut self.parcel)?;
            if self.parcel.bytes >= PARCEL_BYTES && self.hand_on(out).await.is_err() {
                // Whoever reads the next batch notices.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Documents of updates that came without them, by collection and `_id`, as they are now.
    async fn look_up<'a>(&self, window: &[Seen<'a>]) -> Result<Found<'a>> {
        let mut wanted: HashMap<(&'a str, &'a str), HashMap<Vec<u8>, Bson>> = HashMap::new();
        let mut until = Time::default();
        for seen in window.iter().filter(|s| self.follower.asks(s)) {
            let mut key = Vec::new();
            id_bytes(&mut key, seen)?;
            let ids = wanted.entry((seen.database, seen.collection)).or_default();
            if let Entry::Vacant(new) = ids.entry(key) {
                new.insert(id_of(seen)?);
            }
            until = until.max(seen.time);
        }
        let mut found = Found::new();
        if wanted.is_empty() {
            return Ok(found);
        }
        faults::point("mongo.lookup");
        for ((database, collection), ids) in wanted {
            let name = TableName::new(database, collection);
            let count = ids.len();
            let ids: Vec<Bson> = ids.into_values().collect();
            let command = doc! { "find": collection, "filter": { "_id": { "$in": ids } }, "batchSize": BATCH,
            "readConcern": { "level": "majority", "afterClusterTime": until.timestamp() } };
            let doing = format!("looking up changed documents of {name} at the source");
            let opening = Opening { database: database.to_owned(), command, batch: BATCH, wait: None, doing };
            let mut batches = Batches::open(&self.client, opening);
            // By the bytes of `_id`, not by what the server takes for equal: another document may have come in its place.
            let documents = found.entry((database, collection)).or_insert_with(|| HashMap::with_capacity(count));
            while let Some(batch) = batches.next(SILENCE).await? {
                let reply = Reply::read(batch.as_raw_document().as_bytes()).map_err(unreadable)?;
                for document in reply.documents() {
                    let document = document.map_err(unreadable)?;
                    let mut key = Vec::new();
                    if let Some(id) = document.get("_id").map_err(unreadable)? {
                        write::field(&mut key, b"_id", &id).map_err(|e| unreadable(Malformed(e)))?;
                    }
                    documents.insert(key, document.bytes().to_vec());
                }
            }
        }
        Ok(found)
    }

    async fn hand_on(&mut self, out: &EventSender) -> Result<(), Closed> {
        out.send(std::mem::take(&mut self.parcel)).await
    }

    /// The error of an event that does not fit into a reply, with its document's key.
    async fn too_large(&self, e: Error) -> Error {
        let wanted = Wanted { images: false, pieces: false, keys_only: true, ..self.wanted() };
        let mut batches = Batches::open(&self.client, self.opening(wanted, 1));
        let mut named = None;
        if let Ok(Some(batch)) = batches.next(SILENCE).await
            && let Ok(reply) = Reply::read(batch.as_raw_document().as_bytes())
            && let Some(Ok(document)) = reply.documents().next()
            && let Ok(seen) = Seen::read(document)
        {
            named = Some(format!("{}: {}", TableName::new(seen.database, seen.collection), seen.document()));
        }
        let what = named.unwrap_or_else(|| "a document".into());
        Error::fatal(format!("{what}: the event of its change is larger than the 16 MiB that the server can send ({})", e.message()))
            .with_code("switchyard:too_large")
            .hint("6.0.9, 7.0 and newer send such events in pieces: upgrade the source; or make the document smaller, and leave its collection out (tables.exclude) until the stream has passed this place")
    }
}

type Found<'a> = HashMap<(&'a str, &'a str), HashMap<Vec<u8>, Vec<u8>>>;

fn unreadable(why: Malformed) -> Error {
    Error::fatal(format!("the source's change stream sent what cannot be read: {why}"))
        .hint("this is a bug in Switchyard, or a server of a version that it does not know")
}

/// The bytes of an event's `_id`, with its type.
fn id_bytes(out: &mut Vec<u8>, seen: &Seen<'_>) -> Result<()> {
    out.clear();
    let id = seen.id().map_err(unreadable)?;
    write::field(out, b"_id", &id).map_err(|e| unreadable(Malformed(e)))
}

/// The same as the driver's value.
fn id_of(seen: &Seen<'_>) -> Result<Bson> {
    let key = seen.key.and_then(|key| Document::from_reader(key.bytes()).ok());
    key.and_then(|mut key| key.remove("_id"))
        .ok_or_else(|| unreadable(Malformed("an _id that the driver does not know")))
}
