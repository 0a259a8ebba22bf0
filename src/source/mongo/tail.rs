//! The change stream: opened, read ahead, opened anew where it ends, and handed on as what it means.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bson::doc;
use mongodb::Client;
use tokio::task::JoinHandle;

use super::batches::{Batches, Opening};
use super::event::{Kind, Pieces, Reply, Seen};
use super::follow::Follower;
use super::known::Known;
use super::lookup::{Sink, Window, unreadable};
use super::place;
use super::watch::{self, From, Wanted};
use crate::change::Parcel;
use crate::documents::cursor::Doc;
use crate::error::{Error, Result};
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
pub const QUIET: Duration = Duration::from_millis(3);
/// How often an idle source's clock is handed on.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long is waited for a read under way when nobody listens any more.
pub const GOODBYE: Duration = Duration::from_secs(2);
/// Events after one that was too large, until which the stream is read one by one.
const CAREFUL: u32 = 1_000;

/// The stream cannot go on behind its token: the event is not in this stream, because the selection is another one now
/// (`ChangeStreamFatalError`).
const TOKEN_UNKNOWN: &str = "280";
/// `ChangeStreamHistoryLost`, and the oplog's end that overtook its reader (`CappedPositionLost`, `OplogQueryMinTsMissing`).
pub const HISTORY_LOST: [&str; 3] = ["286", "136", "326"];
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

/// How many events of a batch, by the average size of documents.
pub fn batch(document_bytes: u64) -> u32 {
    (BATCH_BYTES / document_bytes.max(1)).clamp(LEAST, u64::from(BATCH)) as u32
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
        batch: batch(t.document_bytes),
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
        let mut sink = Sink { client: &self.client, follower: &mut self.follower, parcel: &mut self.parcel, out };
        let mut window = Window::default();
        for document in reply.documents() {
            let document = document.map_err(unreadable)?;
            let seen = Seen::read(document).map_err(unreadable)?;
            count += 1;
            if let Some(piece) = seen.piece {
                window.hand(&mut sink).await?;
                if let Some(whole) = self.pieces.add(document, piece).map_err(unreadable)? {
                    let whole = Doc::new(&whole).and_then(Seen::read).map_err(unreadable)?;
                    let mut alone = Window::default();
                    alone.push(whole, &mut sink).await?;
                    alone.hand(&mut sink).await?;
                }
                continue;
            }
            ended |= seen.kind == Kind::Invalidate;
            window.push(seen, &mut sink).await?;
        }
        window.hand(&mut sink).await?;
        Ok((ended, count))
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
