//! The oplog's own entries, read from their bytes as what a change stream would have said of them, and the command that
//! reads them. Pure.
//!
//! Source: `oplog_entry.idl`, `oplog.cpp` (`kOpsMap`) and `document_source_change_stream_unwind_transaction.cpp` of the server;
//! what 6.0.5 writes.

use bson::{Bson, Document, doc};

use super::event::{Kind, Seen};
use super::known::Known;
use super::token::Time;
use crate::documents::cursor::{Doc, Fields, Malformed, Value};

/// The database and collection of the oplog.
pub const OPLOG: (&str, &str) = ("local", "oplog.rs");

/// One entry.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its place.
    pub time: Time,
    /// When it was written by the server's clock, milliseconds since the Unix epoch.
    pub wall: Option<i64>,
    /// The entry before it of the same transaction, or of the same session's retryable writes.
    pub previous: Option<Time>,
    /// What it says.
    pub what: What<'a>,
}

/// What an entry says.
#[derive(Clone, Copy, Debug)]
pub enum What<'a> {
    /// Nothing about documents or collections that a change stream would tell.
    Nothing,
    /// One operation.
    One(Seen<'a>),
    /// Operations of a transaction that takes effect later, if at all: with the last entry of its chain.
    Part(Operations<'a>),
    /// Operations that take effect together, with those of all [`What::Part`]s before it where it ends a chain.
    Together(Operations<'a>),
    /// The operations of a prepared transaction take effect: all parts before it.
    Committed,
}

impl<'a> Entry<'a> {
    /// Reads an entry.
    ///
    /// # Errors
    /// When it is none, or says what no version is known to say: leaving it out might leave documents out.
    pub fn read(doc: Doc<'a>) -> Result<Entry<'a>, Malformed> {
        let (mut time, mut wall, mut previous, mut multi) = (None, None, None, None);
        for field in doc.fields() {
            match field? {
                (b"ts", Value::Timestamp { seconds, increment }) => time = Some(Time::new(seconds, increment)),
                (b"wall", Value::Date(ms)) => wall = Some(ms),
                (b"prevOpTime", Value::Document(at)) => {
                    if let Some(Value::Timestamp { seconds, increment }) = at.get("ts")? {
                        // The first of a chain has none before it, written as 0.
                        previous = Some(Time::new(seconds, increment)).filter(|t| t.0 != 0);
                    }
                }
                (b"multiOpType", Value::Int32(n)) => multi = Some(n),
                _ => {}
            }
        }
        let time = time.ok_or(Malformed("an entry of the oplog without a time"))?;
        let op = Operation::read(doc)?;
        let command = match (op.op, op.object) {
            (b"c", Some(o)) => o.fields().next().transpose()?.map(|(name, _)| name),
            _ => None,
        };
        let what = match command {
            Some(b"commitTransaction") => What::Committed,
            Some(b"abortTransaction") => What::Nothing,
            Some(b"applyOps" | b"partialTxn" | b"prepare" | b"count") => op.together(time, wall)?,
            _ => op.seen(time, wall, false)?.map_or(What::Nothing, What::One),
        };
        // Retryable inserts that were written as one entry point to the session's write before, which took effect by itself.
        let previous = previous.filter(|_| multi != Some(1) || matches!(what, What::Part(_)));
        Ok(Entry { time, wall, previous, what })
    }
}

/// The fields that an operation has, whether it is an entry or in a transaction's list.
#[derive(Clone, Copy)]
struct Operation<'a> {
    op: &'a [u8],
    namespace: &'a str,
    object: Option<Doc<'a>>,
    /// Which document, of an update; since 5.1 of others, too.
    key: Option<Doc<'a>>,
    /// Moved between shards: it was told of where it was written.
    moved: bool,
}

impl<'a> Operation<'a> {
    fn read(doc: Doc<'a>) -> Result<Operation<'a>, Malformed> {
        let mut op = Operation { op: b"", namespace: "", object: None, key: None, moved: false };
        for field in doc.fields() {
            match field? {
                (b"op", Value::String(t)) => op.op = t,
                (b"ns", Value::String(t)) => op.namespace = text(t)?,
                (b"o", Value::Document(d)) => op.object = Some(d),
                (b"o2", Value::Document(d)) => op.key = Some(d),
                (b"fromMigrate", Value::Bool(moved)) => op.moved = moved,
                _ => {}
            }
        }
        Ok(op)
    }

    /// A list of operations, and when it takes effect.
    fn together(&self, time: Time, wall: Option<i64>) -> Result<What<'a>, Malformed> {
        let (mut list, mut part) = (None, false);
        for field in self.object.ok_or(Malformed("an operation without its object"))?.fields() {
            match field? {
                (b"applyOps", Value::Array(ops)) => list = Some(ops),
                (b"partialTxn" | b"prepare", Value::Bool(yes)) => part |= yes,
                _ => {}
            }
        }
        let list = list.ok_or(Malformed("a transaction without operations"))?;
        let operations = Operations { list, time, wall };
        Ok(match part {
            _ if self.moved => What::Nothing,
            true => What::Part(operations),
            false => What::Together(operations),
        })
    }

    /// The same as a change stream's event; `None` for what no stream tells.
    fn seen(&self, time: Time, wall: Option<i64>, in_transaction: bool) -> Result<Option<Seen<'a>>, Malformed> {
        if self.op == b"n" || self.moved {
            return Ok(None);
        }
        let o = self.object.ok_or(Malformed("an operation without its object"))?;
        let (database, collection) = self.namespace.split_once('.').unwrap_or((self.namespace, ""));
        let mut seen = Seen {
            kind: Kind::Insert,
            token: "",
            time,
            wall,
            database,
            collection,
            to: None,
            key: self.key,
            full: None,
            before: None,
            in_transaction,
            description: None,
            piece: None,
        };
        match self.op {
            b"i" if collection == "system.views" => {
                // A view that is made; time-series collections are views of their buckets.
                seen.kind = Kind::Create;
                seen.description = Some(o);
                let id = match o.get("_id")? {
                    Some(Value::String(name)) => text(name)?,
                    _ => return Ok(None),
                };
                let Some((_, view)) = id.split_once('.') else { return Ok(None) };
                seen.collection = view;
                seen.key = None;
            }
            b"i" => seen.full = Some(o),
            b"u" => {
                if self.key.is_none() {
                    return Err(Malformed("an update that says not of which document"));
                }
                // A replacement is the document itself; modifiers (`$v: 1`) and differences (`$v: 2`) have no `_id`.
                match o.get("_id")? {
                    Some(_) => (seen.kind, seen.full) = (Kind::Replace, Some(o)),
                    None => seen.kind = Kind::Update,
                }
            }
            b"d" => (seen.kind, seen.key) = (Kind::Delete, Some(o)),
            b"c" => return command(seen, o),
            _ => return Err(Malformed("an operation of an unknown kind")),
        }
        Ok(Some(seen))
    }
}

/// What a command did: its name is the first field's.
fn command<'a>(mut seen: Seen<'a>, o: Doc<'a>) -> Result<Option<Seen<'a>>, Malformed> {
    let Some((name, value)) = o.fields().next().transpose()? else {
        return Err(Malformed("a command without a name"));
    };
    let of = match value {
        Value::String(t) => text(t)?,
        _ => "",
    };
    seen.collection = of;
    seen.description = Some(o);
    seen.kind = match name {
        b"create" => Kind::Create,
        b"drop" => Kind::Drop,
        b"dropDatabase" => Kind::DropDatabase,
        b"renameCollection" => {
            let to = match o.get("to")? {
                Some(Value::String(t)) => text(t)?.split_once('.'),
                _ => None,
            };
            seen.to = Some(to.ok_or(Malformed("a collection that was renamed to nothing"))?);
            (seen.database, seen.collection) = of.split_once('.').ok_or(Malformed("a name without a database"))?;
            Kind::Rename
        }
        b"collMod" => Kind::Other("modify"),
        b"createIndexes" | b"commitIndexBuild" => Kind::Other("createIndexes"),
        b"dropIndexes" | b"dropIndex" | b"deleteIndex" | b"deleteIndexes" => Kind::Other("dropIndexes"),
        // They change nothing by themselves.
        b"startIndexBuild" | b"abortIndexBuild" | b"dbCheck" | b"dbCheckStop" | b"abortTransaction" => return Ok(None),
        b"applyOps" | b"commitTransaction" => return Err(Malformed("a transaction inside a transaction")),
        // `convertToCapped`, `emptycapped`, `importCollection`, and what later versions may know.
        other => {
            if let Some((database, collection)) = of.split_once('.')
                && database == seen.database
            {
                seen.collection = collection;
            }
            Kind::Unsaid(text(other)?)
        }
    };
    Ok(Some(seen))
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed("a name that is not UTF-8"))
}

/// Operations that stand in one entry, in their order, as events of a transaction.
#[derive(Clone, Copy, Debug)]
pub struct Operations<'a> {
    list: Doc<'a>,
    time: Time,
    wall: Option<i64>,
}

impl<'a> Operations<'a> {
    /// The same with the place and the clock of the entry that makes them take effect.
    pub fn at(self, time: Time, wall: Option<i64>) -> Operations<'a> {
        Operations { time, wall, ..self }
    }
    /// One after the other; what no stream would tell is left out.
    pub fn events(self) -> Events<'a> {
        Events { rest: self.list.fields(), of: self }
    }
}

/// [`Operations::events`].
#[derive(Clone, Debug)]
pub struct Events<'a> {
    rest: Fields<'a>,
    of: Operations<'a>,
}

impl<'a> Iterator for Events<'a> {
    type Item = Result<Seen<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let read = match self.rest.next()? {
                Ok((_, Value::Document(d))) => {
                    Operation::read(d).and_then(|op| op.seen(self.of.time, self.of.wall, true))
                }
                Ok(_) => Err(Malformed("a transaction holds something else than operations")),
                Err(e) => Err(e),
            };
            if let Some(event) = read.transpose() {
                return Some(event);
            }
        }
    }
}

/// The command that reads the oplog from a place on, that place's own entry first, and waits for what comes. Operations on
/// single documents are those of the selection, or a few more; parts of transactions are left out: they are read again
/// when their transaction takes effect, and then they are known to be whole.
pub fn following(known: &Known, from: Time, batch: u32) -> Document {
    let commands = doc! { "op": "c", "o.partialTxn": { "$ne": true }, "o.prepare": { "$ne": true } };
    let mut one = doc! { "op": { "$in": ["i", "u", "d"] } };
    if let Some(namespaces) = namespaces(known) {
        one.insert("$or", namespaces);
    }
    let wanted: [Bson; 5] = [
        // Its coming first is the proof that nothing behind it was thrown away.
        doc! { "ts": from.timestamp() }.into(),
        // Notes, every ten seconds of silence: they say how far the oplog was read.
        doc! { "op": "n" }.into(),
        commands.into(),
        one.into(),
        // What nobody knows must not be passed over.
        doc! { "op": { "$nin": ["n", "c", "i", "u", "d"] } }.into(),
    ];
    doc! { "find": OPLOG.1, "filter": { "ts": { "$gte": from.timestamp() }, "$or": wanted.to_vec() }, "tailable": true,
    "awaitData": true, "batchSize": batch, "readConcern": { "level": "majority" } }
}

/// The command that reads the entry at a place, or the first behind it. `whole`: with its operations.
pub fn entry_at(place: Time, whole: bool) -> Document {
    let mut command = doc! { "find": OPLOG.1, "filter": { "ts": { "$gte": place.timestamp() } }, "limit": 1,
    "singleBatch": true, "readConcern": { "level": "majority" } };
    if !whole {
        command.insert("projection", doc! { "ts": 1, "prevOpTime": 1, "o.partialTxn": 1, "o.prepare": 1 });
    }
    command
}

/// The place of an entry that was read without its operations, the one before it, and whether it is a transaction's part.
///
/// # Errors
/// When it is none.
pub fn link(doc: Doc<'_>) -> Result<(Time, Option<Time>, bool), Malformed> {
    let time = |doc: Doc<'_>| -> Result<Option<Time>, Malformed> {
        Ok(match doc.get("ts")? {
            Some(Value::Timestamp { seconds, increment }) => Some(Time::new(seconds, increment)),
            _ => None,
        })
    };
    let previous = match doc.get("prevOpTime")? {
        Some(Value::Document(at)) => time(at)?.filter(|t| t.0 != 0),
        _ => None,
    };
    let part = match doc.get("o")? {
        Some(Value::Document(o)) => {
            let yes = |name| Ok::<bool, Malformed>(o.get(name)? == Some(Value::Bool(true)));
            yes("partialTxn")? || yes("prepare")?
        }
        _ => false,
    };
    Ok((time(doc)?.ok_or(Malformed("an entry of the oplog without a time"))?, previous, part))
}

/// Conditions on an entry's `ns` that all of the selection meet. `None`: all entries do.
fn namespaces(known: &Known) -> Option<Vec<Bson>> {
    let (schemas, tables) = known.selection.include_regexes();
    if schemas.is_empty() {
        return None;
    }
    let (database, collection) = known.markers();
    let mut any: Vec<Bson> = vec![doc! { "ns": format!("{database}.{collection}") }.into()];
    // A name may hold a newline, which a point does not match by itself.
    let mut regex = |r: String| any.push(doc! { "ns": { "$regex": r, "$options": "s" } }.into());
    for (schema, table) in schemas.iter().zip(&tables) {
        let bare = |r: &str| r.strip_prefix('^').and_then(|r| r.strip_suffix('$')).map(str::to_owned);
        let (schema, table) = (bare(schema)?, bare(table)?);
        regex(format!(r"^(?:{schema})\.(?:{table})$"));
        // Views that are made.
        regex(format!(r"^(?:{schema})\.system\.views$"));
    }
    Some(any)
}

#[cfg(test)]
mod tests {
    use bson::Timestamp;

    use super::*;
    use crate::source::mongo::known::tests::known;

    fn at(increment: u32) -> Timestamp {
        Timestamp { time: 7, increment }
    }
    fn bytes(d: &Document) -> Vec<u8> {
        d.to_vec().unwrap()
    }
    /// An entry with what every entry has.
    fn entry(increment: u32, rest: Document) -> Vec<u8> {
        let mut d = doc! { "ts": at(increment), "t": 1_i64, "v": 2_i64, "wall": bson::DateTime::from_millis(7_000) };
        d.extend(rest);
        bytes(&d)
    }
    fn read(bytes: &[u8]) -> Entry<'_> {
        Entry::read(Doc::new(bytes).unwrap()).unwrap()
    }
    fn one(bytes: &[u8]) -> Option<Seen<'_>> {
        match read(bytes).what {
            What::One(seen) => Some(seen),
            What::Nothing => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn given_operations_on_documents_when_read_then_they_are_a_streams_events() {
        let insert = entry(1, doc! { "op": "i", "ns": "shop.a.b", "o": { "_id": 1, "secret": "x" } });
        let seen = one(&insert).unwrap();
        assert_eq!((seen.kind, seen.database, seen.collection), (Kind::Insert, "shop", "a.b"));
        assert_eq!((seen.time, seen.wall, seen.in_transaction), (Time::new(7, 1), Some(7_000), false));
        // Named by its key alone.
        assert_eq!(seen.id().unwrap(), Value::Int32(1));
        assert!(seen.document().contains("_id") && !seen.document().contains("secret"), "{}", seen.document());
        for (o, kind) in [
            (doc! { "$v": 1, "$set": { "n": 2 } }, Kind::Update),
            (doc! { "$v": 2, "diff": { "u": { "n": 2 } } }, Kind::Update),
            (doc! { "_id": 1, "n": 2 }, Kind::Replace),
        ] {
            let update = entry(2, doc! { "op": "u", "ns": "shop.a", "o": o, "o2": { "_id": 1 } });
            let seen = one(&update).unwrap();
            assert_eq!((seen.kind, seen.full.is_some()), (kind, kind == Kind::Replace));
            assert_eq!(seen.id().unwrap(), Value::Int32(1));
        }
        let delete = entry(3, doc! { "op": "d", "ns": "shop.a", "o": { "_id": 1 } });
        assert_eq!(one(&delete).unwrap().kind, Kind::Delete);
        let moved = entry(4, doc! { "op": "d", "ns": "shop.a", "o": { "_id": 1 }, "fromMigrate": true });
        assert!(one(&moved).is_none());
        assert!(one(&entry(5, doc! { "op": "n", "ns": "", "o": { "msg": "periodic noop" } })).is_none());
        for bad in [
            doc! { "op": "u", "ns": "shop.a", "o": { "_id": 1 } },
            doc! { "op": "zz", "ns": "shop.a", "o": { "_id": 1 } },
            doc! { "op": "i", "ns": "shop.a" },
        ] {
            assert!(Entry::read(Doc::new(&entry(6, bad)).unwrap()).is_err());
        }
    }

    #[test]
    fn given_commands_when_read_then_each_is_of_its_collection() {
        let command = |o: Document| entry(1, doc! { "op": "c", "ns": "shop.$cmd", "o": o });
        for (o, kind, collection) in [
            (doc! { "create": "a", "idIndex": {} }, Kind::Create, "a"),
            (doc! { "drop": "a" }, Kind::Drop, "a"),
            (doc! { "dropDatabase": 1 }, Kind::DropDatabase, ""),
            (doc! { "renameCollection": "shop.a", "to": "shop.b.c", "stayTemp": false }, Kind::Rename, "a"),
            (doc! { "collMod": "a", "validator": {} }, Kind::Other("modify"), "a"),
            (doc! { "createIndexes": "a", "v": 2, "key": { "n": 1 } }, Kind::Other("createIndexes"), "a"),
            (doc! { "commitIndexBuild": "a", "indexes": [] }, Kind::Other("createIndexes"), "a"),
            (doc! { "dropIndexes": "a", "index": "n_1" }, Kind::Other("dropIndexes"), "a"),
            (doc! { "emptycapped": "a" }, Kind::Unsaid("emptycapped"), "a"),
            (doc! { "importCollection": "shop.a" }, Kind::Unsaid("importCollection"), "a"),
        ] {
            let bytes = command(o);
            let seen = one(&bytes).unwrap();
            assert_eq!((seen.kind, seen.database, seen.collection), (kind, "shop", collection));
            assert_eq!(seen.to, (kind == Kind::Rename).then_some(("shop", "b.c")));
        }
        for o in [doc! { "startIndexBuild": "a" }, doc! { "dbCheck": "a" }, doc! { "abortTransaction": 1 }] {
            assert!(one(&command(o)).is_none());
        }
        let view = entry(1, doc! { "op": "i", "ns": "shop.system.views", "o": { "_id": "shop.v", "viewOn": "a" } });
        let seen = one(&view).unwrap();
        assert_eq!((seen.kind, seen.collection, seen.description.is_some()), (Kind::Create, "v", true));
    }

    #[test]
    fn given_transactions_when_read_then_parts_lead_back_to_each_other_and_only_the_end_takes_effect() {
        let ops = vec![
            doc! { "op": "i", "ns": "shop.a", "o": { "_id": 1 }, "o2": { "_id": 1 } },
            doc! { "op": "n", "ns": "", "o": {} },
            doc! { "op": "u", "ns": "shop.b", "o": { "$v": 2, "diff": {} }, "o2": { "_id": 2 } },
        ];
        let none = doc! { "ts": Timestamp { time: 0, increment: 0 }, "t": -1_i64 };
        let transaction = |n: u32, o: Document, previous: Document| {
            entry(
                n,
                doc! { "op": "c", "ns": "admin.$cmd", "o": o, "lsid": {}, "txnNumber": 1_i64, "prevOpTime": previous },
            )
        };
        let after = |n: u32| doc! { "ts": at(n), "t": 1_i64 };
        let alone = transaction(1, doc! { "applyOps": ops.clone() }, none.clone());
        let (What::Together(list), None) = (read(&alone).what, read(&alone).previous) else { panic!() };
        let events: Vec<_> = list.events().map(|e| e.unwrap()).collect();
        assert_eq!(events.iter().map(|e| e.kind).collect::<Vec<_>>(), [Kind::Insert, Kind::Update]);
        assert!(events.iter().all(|e| e.in_transaction && e.time == Time::new(7, 1)));

        let first = transaction(2, doc! { "applyOps": ops.clone(), "partialTxn": true }, none.clone());
        let last = transaction(3, doc! { "applyOps": ops.clone(), "count": 4_i64 }, after(2));
        let What::Part(list) = read(&first).what else { panic!() };
        assert!(list.at(Time::new(7, 3), None).events().all(|e| e.unwrap().time == Time::new(7, 3)));
        assert!(
            matches!((read(&last).what, read(&last).previous), (What::Together(_), Some(p)) if p == Time::new(7, 2))
        );
        assert_eq!(link(Doc::new(&first).unwrap()), Ok((Time::new(7, 2), None, true)));
        assert_eq!(link(Doc::new(&last).unwrap()), Ok((Time::new(7, 3), Some(Time::new(7, 2)), false)));

        let prepared = transaction(4, doc! { "applyOps": ops.clone(), "prepare": true }, none);
        let committed = transaction(5, doc! { "commitTransaction": 1, "commitTimestamp": at(4) }, after(4));
        let aborted = transaction(5, doc! { "abortTransaction": 1 }, after(4));
        assert!(matches!(read(&prepared).what, What::Part(_)));
        assert!(
            matches!((read(&committed).what, read(&committed).previous), (What::Committed, Some(p)) if p == Time::new(7, 4))
        );
        assert!(matches!(read(&aborted).what, What::Nothing));

        // Retryable inserts in one entry (8.0): what they point to took effect by itself.
        let inserts = entry(
            6,
            doc! { "op": "c", "ns": "admin.$cmd", "o": { "applyOps": ops }, "multiOpType": 1, "prevOpTime": after(1) },
        );
        assert!(matches!((read(&inserts).what, read(&inserts).previous), (What::Together(_), None)));
        for whole in [alone, first, last, prepared, committed, aborted, inserts] {
            for place in 0..whole.len() {
                for by in [0x01, 0x7f, 0xff] {
                    let mut other = whole.clone();
                    other[place] ^= by;
                    let Ok(doc) = Doc::new(&other) else { continue };
                    let _ = link(doc);
                    if let Ok(Entry { what: What::Together(list) | What::Part(list), .. }) = Entry::read(doc) {
                        list.events().for_each(drop);
                    }
                }
            }
        }
    }

    #[test]
    fn given_a_selection_when_the_oplog_is_asked_then_its_namespaces_and_the_place_itself_come() {
        let command = following(&known(Some("shop"), &["shop.*"], &["shop.x"]), Time::new(7, 1), 10);
        let text = command.to_string();
        assert!(text.contains("(?:shop)") && text.contains("shop.switchyard.markers"), "{text}");
        assert!(command.get_bool("tailable").unwrap() && command.get_bool("awaitData").unwrap());
        assert!(!following(&known(None, &[], &[]), Time::new(7, 1), 10).to_string().contains("$regex"));
        assert!(entry_at(Time::new(7, 1), false).contains_key("projection"));
    }
}
