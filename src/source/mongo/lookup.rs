//! Events on their way to the follower: documents that an update came without are looked up, many at once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use bson::{Bson, Document, doc};
use mongodb::Client;

use super::batches::{Batches, Opening};
use super::event::{Reply, Seen};
use super::follow::{Follower, Lookup};
use super::token::Time;
use crate::change::Parcel;
use crate::documents::cursor::{Doc, Malformed};
use crate::documents::write;
use crate::error::{Error, Result};
use crate::faults;
use crate::schema::TableName;
use crate::source::queue::{Closed, EventSender};

/// Documents that are looked up at once, and about how many bytes of them.
const LOOKUPS: usize = 1_000;
const LOOKUP_BYTES: u64 = 4 << 20;
/// Events that wait for one lookup.
const EVENTS: usize = 4_000;
/// Documents of a reply.
const BATCH: u32 = 2_000;
/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// Bytes of events that are handed on together.
const PARCEL_BYTES: usize = 256 << 10;

/// Where events go.
pub struct Sink<'t> {
    /// The source, for lookups.
    pub client: &'t Client,
    /// What makes sense of them.
    pub follower: &'t mut Follower,
    /// What was made of them and not handed on yet.
    pub parcel: &'t mut Parcel,
    /// Where that goes.
    pub out: &'t EventSender,
}

impl Sink<'_> {
    /// Hands on what there is.
    ///
    /// # Errors
    /// When nobody listens any more.
    pub async fn hand_on(&mut self) -> Result<(), Closed> {
        self.out.send(std::mem::take(self.parcel)).await
    }
}

/// Events that were read and not handed to the follower yet.
#[derive(Default)]
pub struct Window<'a> {
    events: Vec<Seen<'a>>,
    asked: usize,
    bytes: u64,
}

impl<'a> Window<'a> {
    /// Takes an event, and hands all on once they are many.
    ///
    /// # Errors
    /// As [`Window::hand`].
    pub async fn push(&mut self, seen: Seen<'a>, sink: &mut Sink<'_>) -> Result<()> {
        if sink.follower.asks(&seen) {
            self.asked += 1;
            self.bytes += sink.follower.document_bytes(&seen);
        }
        self.events.push(seen);
        if self.asked >= LOOKUPS || self.bytes >= LOOKUP_BYTES || self.events.len() >= EVENTS {
            self.hand(sink).await?;
        }
        Ok(())
    }

    /// Looks up what has to be, then hands the events to the follower.
    ///
    /// # Errors
    /// `Retry` for lost connections; `Fatal` for what cannot be followed.
    pub async fn hand(&mut self, sink: &mut Sink<'_>) -> Result<()> {
        (self.asked, self.bytes) = (0, 0);
        let found = look_up(sink.client, sink.follower, &self.events).await?;
        let mut key = Vec::new();
        for seen in self.events.drain(..) {
            let lookup = match found.get(&(seen.database, seen.collection)) {
                Some(documents) if sink.follower.asks(&seen) => {
                    id_bytes(&mut key, &seen)?;
                    match documents.get(&key) {
                        Some(bytes) => Lookup::Found(Doc::new(bytes).map_err(unreadable)?),
                        None => Lookup::Gone,
                    }
                }
                _ => Lookup::NotAsked,
            };
            sink.follower.event(&seen, lookup, sink.parcel)?;
            if sink.parcel.bytes >= PARCEL_BYTES && sink.hand_on().await.is_err() {
                // Whoever reads the next batch notices.
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Documents by database and collection, and there by the bytes of their `_id`.
type Found<'a> = HashMap<(&'a str, &'a str), HashMap<Vec<u8>, Vec<u8>>>;

/// Documents of updates that came without them, as they are now.
async fn look_up<'a>(client: &Client, follower: &Follower, events: &[Seen<'a>]) -> Result<Found<'a>> {
    let mut wanted: HashMap<(&'a str, &'a str), HashMap<Vec<u8>, Bson>> = HashMap::new();
    let mut until = Time::default();
    for seen in events.iter().filter(|s| follower.asks(s)) {
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
        let mut batches = Batches::open(client, opening);
        // By the bytes of `_id`, not by what the server takes for equal: another document may have come in its place.
        let documents = found.entry((database, collection)).or_insert_with(|| HashMap::with_capacity(count));
        while let Some(batch) = batches.next(PATIENCE).await? {
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

/// The error of bytes that the source should not have sent.
pub fn unreadable(why: Malformed) -> Error {
    Error::fatal(format!("the source's stream of changes sent what cannot be read: {why}"))
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
