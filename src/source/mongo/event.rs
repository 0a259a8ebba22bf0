//! What a reply of the server and a change stream's event say, read from their bytes. Pure.
//!
//! Source: MongoDB manual, "Change Events" and "getMore"; what 6.0.5 sends.

use super::token::Time;
use crate::documents::cursor::{Doc, Fields, Malformed, Value};
use crate::documents::{ejson, write};

/// A reply to `find`, `aggregate` or `getMore`.
#[derive(Clone, Debug)]
pub struct Reply<'a> {
    batch: Doc<'a>,
    /// The place behind everything that the stream has said so far, where it says one.
    pub token: Option<&'a str>,
    /// What the reply has seen of the oplog.
    pub operation_time: Option<Time>,
}

impl<'a> Reply<'a> {
    /// Reads a reply.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(bytes: &'a [u8]) -> Result<Reply<'a>, Malformed> {
        let (mut batch, mut token, mut operation_time) = (None, None, None);
        for field in Doc::new(bytes)?.fields() {
            match field? {
                (b"cursor", Value::Document(cursor)) => {
                    for field in cursor.fields() {
                        match field? {
                            (b"firstBatch" | b"nextBatch", Value::Array(docs)) => batch = Some(docs),
                            (b"postBatchResumeToken", Value::Document(d)) => token = data(d)?,
                            _ => {}
                        }
                    }
                }
                (b"operationTime", Value::Timestamp { seconds, increment }) => {
                    operation_time = Some(Time::new(seconds, increment));
                }
                _ => {}
            }
        }
        Ok(Reply { batch: batch.ok_or(Malformed("a reply without documents"))?, token, operation_time })
    }
    /// The documents, in their order.
    pub fn documents(&self) -> Documents<'a> {
        Documents(self.batch.fields())
    }
    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }
    /// Bytes of all documents together, a little more than they are.
    pub fn bytes(&self) -> usize {
        self.batch.bytes().len()
    }
}

/// The documents of a reply.
#[derive(Clone, Debug)]
pub struct Documents<'a>(Fields<'a>);

impl<'a> Iterator for Documents<'a> {
    type Item = Result<Doc<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        Some(match self.0.next()? {
            Ok((_, Value::Document(d))) => Ok(d),
            Ok(_) => Err(Malformed("a batch holds something else than documents")),
            Err(e) => Err(e),
        })
    }
}

/// The token in `{ _data: "82…" }`.
fn data(doc: Doc<'_>) -> Result<Option<&str>, Malformed> {
    match doc.get("_data")? {
        Some(Value::String(t)) => Ok(Some(text(t)?)),
        _ => Ok(None),
    }
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed("a name that is not UTF-8"))
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A new document.
    Insert,
    /// Fields of a document changed.
    Update,
    /// A document has another content.
    Replace,
    /// A document went away.
    Delete,
    /// A collection was made; a view, too.
    Create,
    /// A collection was dropped.
    Drop,
    /// A collection got another name.
    Rename,
    /// A database was dropped, after its collections.
    DropDatabase,
    /// The stream ends here: what it watches is gone.
    Invalidate,
    /// Something else, by its own name.
    Other(&'a str),
    /// A command, by its name, that may have changed documents which no entry of the oplog tells.
    Unsaid(&'a str),
}

/// One event of a change stream.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// What happened.
    pub kind: Kind<'a>,
    /// The event's token; empty where the oplog itself is read.
    pub token: &'a str,
    /// Its place in the oplog. Events of one transaction share it.
    pub time: Time,
    /// When it happened by the server's clock, milliseconds since the Unix epoch (6.0 and newer).
    pub wall: Option<i64>,
    /// The database, and the collection unless the event is of the whole database.
    pub database: &'a str,
    /// The collection.
    pub collection: &'a str,
    /// The new name, of a renamed collection.
    pub to: Option<(&'a str, &'a str)>,
    /// `_id`, and the shard key's fields.
    pub key: Option<Doc<'a>>,
    /// The document afterwards.
    pub full: Option<Doc<'a>>,
    /// The document before.
    pub before: Option<Doc<'a>>,
    /// Whether the event belongs to a transaction of several operations.
    pub in_transaction: bool,
    /// What was made, changed or removed, where that is no document.
    pub description: Option<Doc<'a>>,
    /// Number, from 1, and count of the pieces of an event that was too large for one document.
    pub piece: Option<(i32, i32)>,
}

impl<'a> Seen<'a> {
    /// Reads an event, or a piece of one.
    ///
    /// # Errors
    /// When it is none: without token, time or kind.
    pub fn read(doc: Doc<'a>) -> Result<Seen<'a>, Malformed> {
        let mut kind = None;
        let mut token = None;
        let mut time = None;
        let mut seen = Seen {
            kind: Kind::Invalidate,
            token: "",
            time: Time::default(),
            wall: None,
            database: "",
            collection: "",
            to: None,
            key: None,
            full: None,
            before: None,
            in_transaction: false,
            description: None,
            piece: None,
        };
        for field in doc.fields() {
            match field? {
                (b"_id", Value::Document(d)) => token = data(d)?,
                (b"operationType", Value::String(t)) => {
                    kind = Some(match t {
                        b"insert" => Kind::Insert,
                        b"update" => Kind::Update,
                        b"replace" => Kind::Replace,
                        b"delete" => Kind::Delete,
                        b"create" => Kind::Create,
                        b"drop" => Kind::Drop,
                        b"rename" => Kind::Rename,
                        b"dropDatabase" => Kind::DropDatabase,
                        b"invalidate" => Kind::Invalidate,
                        other => Kind::Other(text(other)?),
                    });
                }
                (b"clusterTime", Value::Timestamp { seconds, increment }) => time = Some(Time::new(seconds, increment)),
                (b"wallTime", Value::Date(ms)) => seen.wall = Some(ms),
                (b"fullDocument", Value::Document(d)) => seen.full = Some(d),
                (b"fullDocumentBeforeChange", Value::Document(d)) => seen.before = Some(d),
                (b"documentKey", Value::Document(d)) => seen.key = Some(d),
                (b"ns", Value::Document(d)) => (seen.database, seen.collection) = namespace(d)?,
                (b"to", Value::Document(d)) => seen.to = Some(namespace(d)?),
                (b"operationDescription", Value::Document(d)) => seen.description = Some(d),
                (b"txnNumber", _) => seen.in_transaction = true,
                (b"splitEvent", Value::Document(d)) => {
                    if let (Some(Value::Int32(n)), Some(Value::Int32(of))) = (d.get("fragment")?, d.get("of")?) {
                        seen.piece = Some((n, of));
                    }
                }
                _ => {}
            }
        }
        // Only the first piece of a large event says everything; the others are read for their number.
        let later = seen.piece.is_some_and(|(n, _)| n > 1);
        seen.token = token.ok_or(Malformed("an event without a token"))?;
        seen.time = match time {
            Some(time) => time,
            None => super::token::time_of(seen.token).ok_or(Malformed("an event without a time"))?,
        };
        seen.kind = match kind {
            Some(kind) => kind,
            None if later => Kind::Other(""),
            None => return Err(Malformed("an event that says not what happened")),
        };
        Ok(seen)
    }
    /// The document, by its key, for messages.
    pub fn document(&self) -> String {
        let unnamed = || "a document".to_owned();
        if let Some(key) = self.key {
            return format!("document {}", ejson::shown(key));
        }
        // Never more than its `_id`.
        let Ok(id) = self.id() else { return unnamed() };
        let mut key = Vec::new();
        let start = write::open(&mut key);
        let written = write::field(&mut key, b"_id", &id);
        write::close(&mut key, start);
        match (written, Doc::new(&key)) {
            (Ok(()), Ok(key)) => format!("document {}", ejson::shown(key)),
            _ => unnamed(),
        }
    }
    /// The document's `_id`.
    ///
    /// # Errors
    /// When there is none.
    pub fn id(&self) -> Result<Value<'a>, Malformed> {
        // The oplog of older servers has no key beside a document that is inserted.
        let key = self.key.or(self.full).ok_or(Malformed("an event without its document's key"))?;
        key.get("_id")?.ok_or(Malformed("an event without its document's _id"))
    }
}

fn namespace(doc: Doc<'_>) -> Result<(&str, &str), Malformed> {
    let part = |name| {
        Ok(match doc.get(name)? {
            Some(Value::String(t)) => text(t)?,
            _ => "",
        })
    };
    Ok((part("db")?, part("coll")?))
}

/// Puts an event together that came in pieces (`$changeStreamSplitLargeEvent`): their fields one after the other, the last
/// piece's token.
#[derive(Debug, Default)]
pub struct Pieces {
    fields: Vec<u8>,
    seen: i32,
}

impl Pieces {
    /// Takes a piece, number and count as it says; the whole event's bytes once the last one is there.
    ///
    /// # Errors
    /// When a piece is missing.
    pub fn add(&mut self, doc: Doc<'_>, (number, of): (i32, i32)) -> Result<Option<Vec<u8>>, Malformed> {
        if number == 1 {
            *self = Pieces::default();
        }
        if number != self.seen + 1 || number > of {
            return Err(Malformed("a piece of a large event is missing"));
        }
        self.seen = number;
        let bytes = doc.bytes();
        let mut rest = bytes.get(4..bytes.len().saturating_sub(1)).unwrap_or_default();
        // A field's bytes are what the reader has moved on by.
        for field in doc.fields() {
            let (key, value) = field?;
            let behind = rest_behind(rest, key)?;
            let length = rest.len() - behind.len();
            let whole = match value {
                // The last token is the one to go on from, and it comes last of all.
                Value::Document(_) if key == b"_id" && number < of => false,
                Value::Document(_) if key == b"splitEvent" => false,
                _ => true,
            };
            if whole {
                self.fields.extend_from_slice(rest.get(..length).unwrap_or_default());
            }
            rest = behind;
        }
        if number < of {
            return Ok(None);
        }
        let fields = std::mem::take(self).fields;
        let length = i32::try_from(fields.len() + 5).map_err(|_| Malformed("an event of 2 GiB or more"))?;
        let mut whole = length.to_le_bytes().to_vec();
        whole.extend(fields);
        whole.push(0);
        Ok(Some(whole))
    }
}

/// What follows the first field of `fields`, whose name is `key`.
fn rest_behind<'a>(fields: &'a [u8], key: &[u8]) -> Result<&'a [u8], Malformed> {
    let head = 2 + key.len();
    let (tag, body) = match (fields.first(), fields.get(head..)) {
        (Some(tag), Some(body)) => (*tag, body),
        _ => return Err(Malformed("a value is cut off")),
    };
    let four = || -> Result<usize, Malformed> {
        let (n, _) = body.split_first_chunk::<4>().ok_or(Malformed("a value is cut off"))?;
        usize::try_from(i32::from_le_bytes(*n)).map_err(|_| Malformed("a negative length"))
    };
    let zero = |from: usize| -> Result<usize, Malformed> {
        let tail = body.get(from..).unwrap_or_default();
        Ok(from + 1 + memchr::memchr(0, tail).ok_or(Malformed("a name without an end"))?)
    };
    let length = match tag {
        0x01 | 0x09 | 0x11 | 0x12 => 8,
        0x02 | 0x0d | 0x0e => 4 + four()?,
        0x03 | 0x04 | 0x0f => four()?,
        0x05 => 5 + four()?,
        0x07 => 12,
        0x08 => 1,
        0x0b => zero(zero(0)?)?,
        0x0c => 16 + four()?,
        0x10 => 4,
        0x13 => 16,
        _ => 0,
    };
    body.get(length..).ok_or(Malformed("a value is cut off"))
}

#[cfg(test)]
mod tests {
    use bson::{Document, doc};

    use super::*;

    fn bytes(d: &Document) -> Vec<u8> {
        d.to_vec().unwrap()
    }

    #[test]
    fn given_a_reply_when_read_then_documents_token_and_time_are_there() {
        let reply = bytes(&doc! {
            "cursor": { "nextBatch": [{ "a": 1 }, { "a": 2 }], "postBatchResumeToken": { "_data": "82AA" }, "id": 7_i64 },
            "ok": 1.0, "operationTime": bson::Timestamp { time: 5, increment: 6 },
        });
        let read = Reply::read(&reply).unwrap();
        assert_eq!((read.token, read.operation_time), (Some("82AA"), Some(Time::new(5, 6))));
        assert_eq!(read.documents().map(|d| d.unwrap().get("a").unwrap()).collect::<Vec<_>>().len(), 2);
        assert!(Reply::read(&bytes(&doc! { "ok": 1 })).is_err());
    }

    #[test]
    fn given_bytes_that_are_cut_or_changed_when_read_then_nothing_panics() {
        let event = bytes(&doc! {
            "_id": { "_data": "826B01B7D20000001C2B" }, "operationType": "insert",
            "clusterTime": bson::Timestamp { time: 5, increment: 6 }, "ns": { "db": "d", "coll": "c" },
            "documentKey": { "_id": 1 }, "fullDocument": { "_id": 1, "t": "x", "r": bson::Regex { pattern: bson::raw::cstr!("a").into(), options: bson::raw::cstr!("i").into() } },
        });
        let read = |b: &[u8]| Doc::new(b).and_then(Seen::read).map(|s| s.id().is_ok());
        assert_eq!(read(&event), Ok(true));
        for at in 0..event.len() {
            for by in [0x01, 0x7f, 0xff] {
                let mut other = event.clone();
                other[at] ^= by;
                let _ = read(&other);
                let _ = Doc::new(&other).and_then(|d| Pieces::default().add(d, (1, 2)));
                let _ = Reply::read(&other);
            }
        }
    }

    #[test]
    fn given_an_event_in_pieces_when_put_together_then_it_is_whole_and_has_the_last_token() {
        let first = bytes(&doc! {
            "_id": { "_data": "826B01B7D20000001C01" }, "splitEvent": { "fragment": 1, "of": 2 },
            "operationType": "update", "clusterTime": bson::Timestamp { time: 5, increment: 6 },
            "ns": { "db": "d", "coll": "c" }, "documentKey": { "_id": "x" }, "fullDocument": { "_id": "x", "n": 1 },
        });
        let second = bytes(&doc! {
            "_id": { "_data": "826B01B7D20000001C02" }, "splitEvent": { "fragment": 2, "of": 2 },
            "fullDocumentBeforeChange": { "_id": "x", "n": 0 },
        });
        let mut pieces = Pieces::default();
        let (first, second) = (Doc::new(&first).unwrap(), Doc::new(&second).unwrap());
        assert_eq!(Seen::read(second).unwrap().piece, Some((2, 2)));
        assert_eq!(pieces.add(first, (1, 2)), Ok(None));
        let whole = pieces.add(second, (2, 2)).unwrap().unwrap();
        let seen = Seen::read(Doc::new(&whole).unwrap()).unwrap();
        assert_eq!((seen.kind, seen.token, seen.piece), (Kind::Update, "826B01B7D20000001C02", None));
        assert!(seen.full.is_some() && seen.before.is_some() && seen.collection == "c");
        assert!(pieces.add(second, (2, 2)).is_err());
    }
}
