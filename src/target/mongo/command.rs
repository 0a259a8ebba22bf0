//! Write commands as bytes, many statements in each, and what the server answers. Pure.
//!
//! Source of limits: `maxBsonObjectSize`, `maxWriteBatchSize` of `hello` (16 MiB, 100 000).

use bson::{Bson, Document, RawDocumentBuf};

use crate::documents::cursor::Doc;
use crate::documents::write;
use crate::error::{Error, Result};
use crate::schema::TableName;

/// Bytes of statements in a command. Larger ones save nothing, and are copied on their way.
const BYTES: usize = 2 << 20;
/// Statements in a command.
const STATEMENTS: usize = 20_000;

/// The database that holds the bookkeeping.
pub const DATABASE: &str = "switchyard";

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Documents.
    Insert,
    /// `{ q, u, upsert }`.
    Update,
    /// `{ q, limit }`.
    Delete,
}

impl Verb {
    /// As messages say it.
    pub fn word(self) -> &'static str {
        match self {
            Verb::Insert => "insert",
            Verb::Update => "update",
            Verb::Delete => "delete",
        }
    }
    fn list(self) -> &'static [u8] {
        match self {
            Verb::Insert => b"documents",
            Verb::Update => b"updates",
            Verb::Delete => b"deletes",
        }
    }
}

/// A command in the making.
#[derive(Debug)]
pub struct Statements {
    verb: Verb,
    bytes: Vec<u8>,
    start: usize,
    list: usize,
    /// Statements so far.
    pub count: usize,
}

impl Statements {
    /// An empty one for a collection.
    ///
    /// # Errors
    /// `Fatal` for a name with a zero.
    pub fn new(verb: Verb, collection: &TableName) -> Result<Statements> {
        let mut bytes = Vec::with_capacity(4096);
        let start = write::open(&mut bytes);
        let failed = |why: &'static str| Error::fatal(format!("{collection}: the name {why}"));
        write::name(&mut bytes, 0x02, verb.word().as_bytes()).map_err(failed)?;
        let name = collection.name.as_bytes();
        bytes.extend_from_slice(&i32::try_from(name.len() + 1).unwrap_or(i32::MAX).to_le_bytes());
        bytes.extend_from_slice(name);
        bytes.push(0);
        write::name(&mut bytes, 0x08, b"ordered").map_err(failed)?;
        bytes.push(1);
        write::name(&mut bytes, 0x04, verb.list()).map_err(failed)?;
        let list = write::open(&mut bytes);
        Ok(Statements { verb, bytes, start, list, count: 0 })
    }

    /// Whether `more` bytes should rather go with the next command.
    pub fn is_full(&self, more: usize) -> bool {
        self.count > 0 && (self.count >= STATEMENTS || self.bytes.len() + more > BYTES)
    }

    /// Adds a statement, a document as bytes.
    pub fn push(&mut self, statement: &[u8]) {
        let mut number = itoa::Buffer::new();
        // Numbers hold no zero.
        let _ = write::name(&mut self.bytes, 0x03, number.format(self.count).as_bytes());
        self.bytes.extend_from_slice(statement);
        self.count += 1;
    }

    /// Bytes so far.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
    /// What they do.
    pub fn verb(&self) -> Verb {
        self.verb
    }

    /// The whole command.
    ///
    /// # Errors
    /// `Fatal` where what was pushed were no documents.
    pub fn finish(mut self) -> Result<RawDocumentBuf> {
        write::close(&mut self.bytes, self.list);
        write::close(&mut self.bytes, self.start);
        RawDocumentBuf::from_bytes(self.bytes).map_err(|e| {
            Error::fatal(format!("a command of {}s cannot be written: {e}", self.verb.word()))
                .hint("this is a bug in Switchyard")
        })
    }
}

/// What an update does with a document, appended to `out` as a statement. `any_names`: what replaces the document may have
/// fields whose names begin with a dollar, which the server takes only where they cannot be operators.
pub fn update(
    out: &mut Vec<u8>,
    query: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    with: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    upsert: bool,
    any_names: bool,
) -> Result<()> {
    let start = write::open(out);
    write::name(out, 0x03, b"q").map_err(Error::fatal)?;
    query(out)?;
    let tag = write::name(out, 0x03, b"u").map_err(Error::fatal)?;
    let at = out.len();
    with(out)?;
    if any_names && out.get(at..).is_some_and(has_dollars) {
        let document = out.split_off(at);
        if let Some(tag) = out.get_mut(tag) {
            *tag = 0x04;
        }
        let list = write::open(out);
        write::name(out, 0x03, b"0").map_err(Error::fatal)?;
        let stage = write::open(out);
        write::name(out, 0x03, b"$replaceWith").map_err(Error::fatal)?;
        let literal = write::open(out);
        write::name(out, 0x03, b"$literal").map_err(Error::fatal)?;
        out.extend_from_slice(&document);
        for open in [literal, stage, list] {
            write::close(out, open);
        }
    }
    if upsert {
        write::name(out, 0x08, b"upsert").map_err(Error::fatal)?;
        out.push(1);
    }
    write::close(out, start);
    Ok(())
}

/// Whether a whole document has a field whose name begins with a dollar. What holds operators has no `_id`.
fn has_dollars(document: &[u8]) -> bool {
    let Ok(doc) = Doc::new(document) else { return false };
    let (mut id, mut dollars) = (false, false);
    for (name, _) in doc.fields().map_while(Result::ok) {
        id |= name == b"_id";
        dollars |= name.first() == Some(&b'$');
    }
    id && dollars
}

/// A delete, appended to `out` as a statement. `all`: of every document that is found, not of one.
pub fn delete(out: &mut Vec<u8>, query: impl FnOnce(&mut Vec<u8>) -> Result<()>, all: bool) -> Result<()> {
    let start = write::open(out);
    write::name(out, 0x03, b"q").map_err(Error::fatal)?;
    query(out)?;
    write::name(out, 0x10, b"limit").map_err(Error::fatal)?;
    out.extend_from_slice(&i32::from(!all).to_le_bytes());
    write::close(out, start);
    Ok(())
}

/// A statement that was refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// Its place in the command.
    pub place: usize,
    /// The server's code.
    pub code: i32,
    /// The server's words, which may hold values.
    pub message: String,
    /// Of a duplicate: the index's fields.
    pub pattern: Option<Document>,
    /// Of a duplicate: the values in them.
    pub value: Option<Document>,
}

/// The answer to a write command.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written {
    /// Documents inserted, found or deleted; those that an upsert made among them.
    pub n: u64,
    /// The places of statements whose upsert made a document.
    pub made: Vec<usize>,
    /// The first statement that was refused.
    pub refused: Option<Refusal>,
    /// What the write concern did not get.
    pub concern: Option<(i32, String)>,
}

/// A whole number of any type.
pub fn number(value: Option<&Bson>) -> Option<i64> {
    match value? {
        Bson::Int32(n) => Some(i64::from(*n)),
        Bson::Int64(n) => Some(*n),
        #[allow(clippy::cast_possible_truncation, reason = "counts are whole")]
        Bson::Double(n) => Some(*n as i64),
        _ => None,
    }
}

/// Reads the answer to a write command.
pub fn written(reply: &Document) -> Written {
    let count = |name: &str| u64::try_from(number(reply.get(name)).unwrap_or(0)).unwrap_or(0);
    let of = |d: &Document| Refusal {
        place: number(d.get("index")).and_then(|n| usize::try_from(n).ok()).unwrap_or(0),
        code: number(d.get("code")).and_then(|n| i32::try_from(n).ok()).unwrap_or(0),
        message: d.get_str("errmsg").unwrap_or("").to_owned(),
        pattern: d.get_document("keyPattern").ok().cloned(),
        value: d.get_document("keyValue").ok().cloned(),
    };
    let place = |u: &Bson| usize::try_from(number(u.as_document()?.get("index"))?).ok();
    let concern = reply.get_document("writeConcernError").ok();
    Written {
        n: count("n"),
        made: reply.get_array("upserted").map_or_else(|_| Vec::new(), |u| u.iter().filter_map(place).collect()),
        refused: reply.get_array("writeErrors").ok().and_then(|e| e.first()).and_then(Bson::as_document).map(of),
        concern: concern.map(|c| {
            let code = number(c.get("code")).and_then(|n| i32::try_from(n).ok()).unwrap_or(0);
            (code, c.get_str("errmsg").unwrap_or("").to_owned())
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{doc, rawdoc};

    #[test]
    fn given_statements_when_finished_then_the_command_is_what_the_manual_says() {
        let mut s = Statements::new(Verb::Update, &TableName::new("shop", "orders")).unwrap();
        let mut one = Vec::new();
        let raw = |d: RawDocumentBuf| {
            move |out: &mut Vec<u8>| {
                out.extend_from_slice(d.as_bytes());
                Ok(())
            }
        };
        update(&mut one, raw(rawdoc! { "_id": 1 }), raw(rawdoc! { "_id": 1, "a": "x" }), true, true).unwrap();
        s.push(&one);
        one.clear();
        delete(&mut one, raw(rawdoc! { "_id": 2 }), false).unwrap();
        s.push(&one);
        let read: Document = s.finish().unwrap().try_into().unwrap();
        assert_eq!(
            read,
            doc! { "update": "orders", "ordered": true, "updates": [
            { "q": { "_id": 1 }, "u": { "_id": 1, "a": "x" }, "upsert": true }, { "q": { "_id": 2 }, "limit": 1 } ] }
        );
    }

    #[test]
    fn given_names_that_begin_with_a_dollar_when_replaced_then_they_are_no_operators() {
        let raw = |d: Document| {
            move |out: &mut Vec<u8>| {
                out.extend(d.to_vec().unwrap());
                Ok(())
            }
        };
        let with = |d: Document| {
            let mut one = Vec::new();
            update(&mut one, raw(doc! { "_id": 1 }), raw(d), false, true).unwrap();
            Document::from_reader(one.as_slice()).unwrap()
        };
        let odd = doc! { "_id": 1, "$a": 2 };
        assert_eq!(with(odd.clone()), doc! { "q": { "_id": 1 }, "u": [{ "$replaceWith": { "$literal": odd } }] });
        let set = doc! { "$set": { "a": 1 } };
        assert_eq!(with(set.clone()), doc! { "q": { "_id": 1 }, "u": set });
    }

    #[test]
    fn given_answers_when_read_then_counts_and_the_first_refusal_are_there() {
        let w = written(&doc! { "n": 3, "upserted": [{ "index": 0, "_id": 1 }], "writeErrors": [
        { "index": 2, "code": 11000, "errmsg": "E11000", "keyPattern": { "email": 1 }, "keyValue": { "email": "x" } } ] });
        assert_eq!((w.n, w.made), (3, vec![0]));
        let r = w.refused.unwrap();
        assert_eq!((r.place, r.code, r.pattern), (2, 11000, Some(doc! { "email": 1 })));
    }
}
