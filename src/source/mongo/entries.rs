//! The oplog itself, where change streams are not permitted: opened at a place that must still be there, read ahead, and handed
//! on as what it means.
//!
//! An entry of a large or prepared transaction says nothing until the last one of its chain: then the chain is walked back,
//! and its entries are read again from the first on. So nothing of a transaction is held here while it is open, and one that
//! began before the place where the reading began is as whole as any other.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bson::{Document, doc};
use mongodb::Client;
use mongodb::raw_batch_cursor::RawBatch;

use super::batches::{Batches, Opening};
use super::event::Reply;
use super::follow::Follower;
use super::lookup::{Sink, Window, unreadable};
use super::oplog::{self, Entry, OPLOG, What};
use super::place;
use super::tail::{self, GOODBYE, HISTORY_LOST, QUIET, Tailing};
use super::token::{self, Time};
use crate::change::Parcel;
use crate::documents::cursor::{Doc, Malformed};
use crate::error::{Error, Result};
use crate::faults;
use crate::mongowire::command;
use crate::source::queue::EventSender;

/// How long the server waits for an entry before it says that there is none.
const WAIT: Duration = Duration::from_millis(500);
/// After so much silence the server is asked whether it lives: it may be reading through much of no interest.
const SILENCE: Duration = Duration::from_secs(15);
/// So much silence is a dead connection, whatever the server says on others.
const DEAD: Duration = Duration::from_secs(600);
/// How often an idle source's clock is handed on.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Entries of one transaction, at most: each is of about 16 MB.
const CHAIN: usize = 1 << 20;

struct Reader {
    client: Client,
    follower: Follower,
    parcel: Parcel,
    /// How far the source's clock is ahead of ours.
    ahead: i64,
    /// Entries of a reply.
    batch: usize,
}

/// Follows the oplog until the connection fails or `out` is closed.
///
/// # Errors
/// `Retry` for lost connections; `Fatal` for what cannot be followed.
pub async fn run(t: Tailing, out: EventSender) -> Result<()> {
    let ahead = place::now(&t.client).await?.clock - clock();
    let mut follower = t.follower;
    let from = follower.position().clone();
    // A change stream's mark of how far it is leaves the operation of that very time to come.
    let whole = from.token.as_deref().is_none_or(token::is_events);
    if whole {
        follower.pass_until(Time::from(&from));
    }
    let batch = tail::batch(t.document_bytes);
    let command = oplog::following(&t.known, Time::from(&from), batch);
    let mut batches = Batches::open(&t.client, opening(command, batch, Some(WAIT)));
    let reading = batches.task();
    let mut reader = Reader { client: t.client, follower, parcel: Parcel::default(), ahead, batch: batch as usize };
    let done = tokio::select! {
        r = reader.read(batches, Time::from(&from), &out) => r,
        () = out.closed() => Ok(()),
    };
    if let (Ok(()), Some(reading)) = (&done, reading) {
        let _ = tokio::time::timeout(GOODBYE, reading).await;
    }
    done
}

/// Fails unless the oplog may be read here, at this place.
///
/// # Errors
/// As [`Batches::next`].
pub async fn prove(client: &Client, at: Time) -> Result<()> {
    read_at(client, at, false).await.map(drop)
}

fn clock() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}

fn opening(command: Document, batch: u32, wait: Option<Duration>) -> Opening {
    Opening { database: OPLOG.0.to_owned(), command, batch, wait, doing: "reading the source's oplog".into() }
}

fn passed(time: Time) -> Error {
    let at = time.position();
    place::lost(format!("the source's oplog does not hold its entry of {at} any more"))
}

/// The reply that holds the entry at a place.
async fn read_at(client: &Client, at: Time, whole: bool) -> Result<RawBatch> {
    let mut batches = Batches::open(client, opening(oplog::entry_at(at, whole), 1, None));
    let ended = || Error::retry("the source's oplog ends before an entry that was in it: another member answered");
    batches.next(command::PATIENCE).await?.ok_or_else(ended)
}

/// The document of such a reply.
fn only(reply: &RawBatch) -> Result<Doc<'_>> {
    let reply = Reply::read(reply.as_raw_document().as_bytes()).map_err(unreadable)?;
    let behind = || Error::retry("the source's oplog ends before an entry that was in it: another member answered");
    reply.documents().next().ok_or_else(behind)?.map_err(unreadable)
}

impl Reader {
    /// Reads to the end: `Ok` when nobody listens any more.
    async fn read(&mut self, mut batches: Batches, from: Time, out: &EventSender) -> Result<()> {
        let mut proven = false;
        let mut silent = Duration::ZERO;
        let mut heartbeat = Instant::now();
        let mut level = false;
        loop {
            let patience = if level { QUIET } else { SILENCE };
            let reply = match batches.try_next(patience).await {
                Ok(Some(Some(batch))) => batch,
                Ok(Some(None)) => return Err(Error::retry("the source ended its cursor on the oplog")),
                Ok(None) if level => {
                    level = false;
                    self.follower.beat(clock() + self.ahead, &mut self.parcel);
                    if self.sink(out).hand_on().await.is_err() {
                        return Ok(());
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
                        return Err(Error::retry("the source's oplog has been silent for too long"));
                    }
                    continue;
                }
                Err(e) if e.code().is_some_and(|code| HISTORY_LOST.contains(&code)) => {
                    return Err(passed(Time::from(self.follower.position())));
                }
                Err(e) => return Err(e),
            };
            silent = Duration::ZERO;
            let reply = Reply::read(reply.as_raw_document().as_bytes()).map_err(unreadable)?;
            if !proven && let Some(first) = reply.documents().next() {
                self.holds(first.map_err(unreadable)?, from).await?;
                proven = true;
            }
            let count = self.entries(&reply, out).await?;
            // A full batch may have been cut short.
            level = count > 0 && count < self.batch;
            if proven && count == 0 && heartbeat.elapsed() >= HEARTBEAT {
                heartbeat = Instant::now();
                self.follower.beat(clock() + self.ahead, &mut self.parcel);
            }
            for what in self.follower.said() {
                tracing::warn!("{what}");
            }
            if self.sink(out).hand_on().await.is_err() {
                return Ok(());
            }
        }
    }

    fn sink<'t>(&'t mut self, out: &'t EventSender) -> Sink<'t> {
        Sink { client: &self.client, follower: &mut self.follower, parcel: &mut self.parcel, out }
    }

    /// Fails unless the oplog reaches back to where it is read from.
    async fn holds(&self, first: Doc<'_>, from: Time) -> Result<()> {
        let (found, ..) = oplog::link(first).map_err(unreadable)?;
        if found == from {
            return Ok(());
        }
        // A place that is no entry's: a stream of several databases may have said it.
        let oldest = oplog::link(only(&read_at(&self.client, Time::new(0, 1), false).await?)?).map_err(unreadable)?.0;
        if oldest > from { Err(passed(from)) } else { Ok(()) }
    }

    /// Takes a reply's entries; how many there were.
    async fn entries(&mut self, reply: &Reply<'_>, out: &EventSender) -> Result<usize> {
        let mut window = Window::default();
        let (mut count, mut last) = (0, None);
        for document in reply.documents() {
            let entry = Entry::read(document.map_err(unreadable)?).map_err(unreadable)?;
            count += 1;
            last = Some(entry.time);
            match entry.what {
                What::Nothing | What::Part(_) => {}
                What::One(seen) => window.push(seen, &mut self.sink(out)).await?,
                What::Together(operations) => {
                    if let Some(previous) = entry.previous {
                        window.hand(&mut self.sink(out)).await?;
                        self.parts(previous, &entry, out).await?;
                    }
                    for seen in operations.events() {
                        window.push(seen.map_err(unreadable)?, &mut self.sink(out)).await?;
                    }
                }
                What::Committed => {
                    window.hand(&mut self.sink(out)).await?;
                    let what = Malformed("a prepared transaction that was committed, and has no operations");
                    let previous = entry.previous.ok_or_else(|| unreadable(what))?;
                    self.parts(previous, &entry, out).await?;
                }
            }
        }
        window.hand(&mut self.sink(out)).await?;
        if let Some(last) = last {
            self.follower.through(last, &mut self.parcel);
        }
        Ok(count)
    }

    /// Hands on the operations of the entries that a transaction's last one ends, unless it was seen before.
    async fn parts(&mut self, mut previous: Time, end: &Entry<'_>, out: &EventSender) -> Result<()> {
        if self.follower.has_passed(end.time) {
            return Ok(());
        }
        faults::point("mongo.chain");
        let mut places = Vec::new();
        loop {
            let reply = read_at(&self.client, previous, false).await?;
            let (found, before, part) = oplog::link(only(&reply)?).map_err(unreadable)?;
            if found != previous {
                return Err(passed(previous));
            }
            let alone = places.is_empty() && matches!(end.what, What::Together(_));
            if !part && alone {
                // It points to something that took effect by itself.
                return Ok(());
            }
            if !part || places.len() >= CHAIN || before.is_some_and(|b| b >= previous) {
                return Err(unreadable(Malformed("a transaction's entry that leads to no other of it")));
            }
            places.push(previous);
            match before {
                Some(before) => previous = before,
                None => break,
            }
        }
        for place in places.into_iter().rev() {
            let reply = read_at(&self.client, place, true).await?;
            let entry = Entry::read(only(&reply)?).map_err(unreadable)?;
            let What::Part(operations) = entry.what else { return Err(passed(place)) };
            let mut window = Window::default();
            for seen in operations.at(end.time, end.wall).events() {
                window.push(seen.map_err(unreadable)?, &mut self.sink(out)).await?;
            }
            window.hand(&mut self.sink(out)).await?;
        }
        Ok(())
    }
}
