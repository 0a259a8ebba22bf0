//! Decodes pgoutput, protocol version 1 with logical messages. Pure: bytes in, a message out, never a panic.
//!
//! Source: PostgreSQL manual, "Logical Replication Message Formats"; `src/backend/replication/logical/proto.c`.
//! Rows stay slices of the frame. What is said here about times: microseconds since 2000-01-01 on the wire, since the
//! Unix epoch in what is returned.

use std::fmt;

use bytes::Bytes;

use crate::change::Micros;
use crate::position::Lsn;
use crate::value::{Row, RowSlicer};

/// 2000-01-01 in microseconds since the Unix epoch.
const EPOCH: i64 = 946_684_800_000_000;

/// A wire time as microseconds since the Unix epoch.
pub fn unix_micros(wire: i64) -> Micros {
    wire.saturating_add(EPOCH)
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A transaction begins.
    Begin {
        /// Where its commit record starts.
        final_lsn: Lsn,
        /// When it committed.
        committed_at: Micros,
        /// Its id.
        xid: u32,
    },
    /// It ends.
    Commit {
        /// Where its commit record starts.
        commit_lsn: Lsn,
        /// Where its commit record ends.
        end_lsn: Lsn,
        /// When it committed.
        committed_at: Micros,
    },
    /// The transaction came from elsewhere.
    Origin {
        /// Where its commit lies there.
        lsn: Lsn,
        /// The origin's name.
        name: String,
    },
    /// A table as it is from here on.
    Relation(Relation),
    /// A type that is not built in.
    Type {
        /// Its oid.
        oid: u32,
        /// Its schema.
        schema: String,
        /// Its name.
        name: String,
    },
    /// A new row.
    Insert {
        /// The table's oid.
        relation: u32,
        /// The row.
        new: Row,
    },
    /// A row changed.
    Update {
        /// The table's oid.
        relation: u32,
        /// The old key, other fields NULL, if the key changed; or the whole old row under REPLICA IDENTITY FULL.
        old: Option<Row>,
        /// The row; fields that did not change and lie out of line are unsent.
        new: Row,
    },
    /// A row went away.
    Delete {
        /// The table's oid.
        relation: u32,
        /// The old key or row, as in [`Message::Update`].
        old: Row,
    },
    /// Tables were emptied.
    Truncate {
        /// Their oids.
        relations: Vec<u32>,
        /// CASCADE was said.
        cascade: bool,
        /// RESTART IDENTITY was said.
        restart_identity: bool,
    },
    /// `pg_logical_emit_message`.
    Logical {
        /// Whether it belongs to the open transaction.
        transactional: bool,
        /// Where it lies.
        lsn: Lsn,
        /// The prefix.
        prefix: String,
        /// The content.
        content: Bytes,
    },
}

/// A table as the log describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Its oid.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `pg_class.relreplident`: `d`, `n`, `f`, `i`.
    pub replica_identity: u8,
    /// The published columns in order.
    pub columns: Vec<RelationColumn>,
}

/// A column as the log describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationColumn {
    /// Whether it is part of the replica identity.
    pub key: bool,
    /// Its name.
    pub name: String,
    /// Its type's oid.
    pub type_oid: u32,
    /// Its type's modifier.
    pub type_modifier: i32,
}

/// What is wrong with a message, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// The kind of message.
    pub message: &'static str,
    /// Bytes from its beginning.
    pub offset: usize,
    /// What is wrong.
    pub what: &'static str,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pgoutput {} message, byte {}: {}", self.message, self.offset, self.what)
    }
}

impl std::error::Error for DecodeError {}

impl From<DecodeError> for crate::Error {
    fn from(e: DecodeError) -> Self {
        crate::Error::fatal(e.to_string()).hint("this is a defect here or on the wire; nothing after it was applied")
    }
}

/// Decodes one message: the payload of one XLogData.
///
/// # Errors
/// Anything that is not exactly one message of protocol version 1.
pub fn decode(frame: Bytes) -> Result<Message, DecodeError> {
    let kind = frame.first().copied().unwrap_or(0);
    let mut c = Cursor { bytes: &frame, at: 1, message: name_of(kind) };
    let message = match kind {
        b'I' => {
            let relation = c.u32()?;
            c.expect(b'N')?;
            let new = c.tuple()?;
            c.end()?;
            return Ok(Message::Insert { relation, new: c.row(new, frame.clone())? });
        }
        b'U' => {
            let relation = c.u32()?;
            let (old, marker) = match c.u8()? {
                b'K' | b'O' => (Some(c.tuple()?), c.u8()?),
                marker => (None, marker),
            };
            if marker != b'N' {
                return Err(c.wrong_before("not the mark of a new row"));
            }
            let new = c.tuple()?;
            c.end()?;
            let old = old.map(|o| c.row(o, frame.clone())).transpose()?;
            return Ok(Message::Update { relation, old, new: c.row(new, frame.clone())? });
        }
        b'D' => {
            let relation = c.u32()?;
            if !matches!(c.u8()?, b'K' | b'O') {
                return Err(c.wrong_before("not the mark of an old row"));
            }
            let old = c.tuple()?;
            c.end()?;
            return Ok(Message::Delete { relation, old: c.row(old, frame.clone())? });
        }
        b'B' => Message::Begin { final_lsn: c.lsn()?, committed_at: c.time()?, xid: c.u32()? },
        b'C' => {
            // Flags: none is defined.
            c.u8()?;
            Message::Commit { commit_lsn: c.lsn()?, end_lsn: c.lsn()?, committed_at: c.time()? }
        }
        b'O' => Message::Origin { lsn: c.lsn()?, name: c.string()? },
        b'R' => Message::Relation(c.relation()?),
        b'Y' => Message::Type { oid: c.u32()?, schema: c.string()?, name: c.string()? },
        b'T' => {
            let count = c.count(4)?;
            let flags = c.u8()?;
            let relations = (0..count).map(|_| c.u32()).collect::<Result<_, _>>()?;
            Message::Truncate { relations, cascade: flags & 1 != 0, restart_identity: flags & 2 != 0 }
        }
        b'M' => {
            let transactional = c.u8()? & 1 != 0;
            let (lsn, prefix) = (c.lsn()?, c.string()?);
            let len = c.u32()? as usize;
            let start = c.at;
            c.take(len)?;
            Message::Logical { transactional, lsn, prefix, content: frame.slice(start..start + len) }
        }
        _ => return Err(DecodeError { message: "unknown", offset: 0, what: "not a message of protocol version 1" }),
    };
    c.end()?;
    Ok(message)
}

fn name_of(kind: u8) -> &'static str {
    match kind {
        b'B' => "Begin",
        b'C' => "Commit",
        b'O' => "Origin",
        b'R' => "Relation",
        b'Y' => "Type",
        b'I' => "Insert",
        b'U' => "Update",
        b'D' => "Delete",
        b'T' => "Truncate",
        b'M' => "Logical",
        _ => "unknown",
    }
}

/// Reads on, and knows where it is.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    message: &'static str,
}

impl<'a> Cursor<'a> {
    fn wrong(&self, what: &'static str) -> DecodeError {
        DecodeError { message: self.message, offset: self.at, what }
    }
    /// For what is wrong with the byte that was just read.
    fn wrong_before(&self, what: &'static str) -> DecodeError {
        DecodeError { message: self.message, offset: self.at - 1, what }
    }
    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        match self.bytes.get(self.at..).and_then(|rest| rest.get(..len)) {
            Some(taken) => {
                self.at += len;
                Ok(taken)
            }
            None => Err(self.wrong("it ends too early")),
        }
    }
    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>()) {
            Some(taken) => {
                self.at += N;
                Ok(*taken)
            }
            None => Err(self.wrong("it ends too early")),
        }
    }
    #[inline]
    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[b]| b)
    }
    #[inline]
    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }
    fn lsn(&mut self) -> Result<Lsn, DecodeError> {
        self.array().map(u64::from_be_bytes).map(Lsn)
    }
    fn time(&mut self) -> Result<Micros, DecodeError> {
        self.array().map(i64::from_be_bytes).map(unix_micros)
    }
    fn string(&mut self) -> Result<String, DecodeError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some(len) = memchr::memchr(0, rest) else { return Err(self.wrong("a string without end")) };
        let text = std::str::from_utf8(&rest[..len]).map_err(|_| self.wrong("a string that is not UTF-8"))?;
        self.at += len + 1;
        Ok(text.to_owned())
    }
    fn expect(&mut self, mark: u8) -> Result<(), DecodeError> {
        if self.u8()? == mark { Ok(()) } else { Err(self.wrong_before("not the mark of a new row")) }
    }
    /// A count of things of at least `each` bytes; more than can follow is refused before room is made for them.
    fn count(&mut self, each: usize) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        if count > (self.bytes.len() - self.at) / each {
            return Err(self.wrong("it announces more than it holds"));
        }
        Ok(count)
    }
    fn end(&self) -> Result<(), DecodeError> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.wrong("there is more than belongs to it")) }
    }
    fn relation(&mut self) -> Result<Relation, DecodeError> {
        let (oid, schema, name) = (self.u32()?, self.string()?, self.string()?);
        let replica_identity = self.u8()?;
        let count = u16::from_be_bytes(self.array()?);
        let mut columns = Vec::with_capacity(usize::from(count).min((self.bytes.len() - self.at) / 10));
        for _ in 0..count {
            columns.push(RelationColumn {
                key: self.u8()? & 1 != 0,
                name: self.string()?,
                type_oid: self.u32()?,
                type_modifier: self.array().map(i32::from_be_bytes)?,
            });
        }
        // The catalog's schema has no name on the wire (`logicalrep_write_namespace`).
        let schema = if schema.is_empty() { "pg_catalog".to_owned() } else { schema };
        Ok(Relation { oid, schema, name, replica_identity, columns })
    }
    /// The path of every row: one bounds check a field.
    #[inline]
    fn tuple(&mut self) -> Result<RowSlicer, DecodeError> {
        let count = usize::from(u16::from_be_bytes(self.array()?));
        if count > self.bytes.len() - self.at {
            return Err(self.wrong("it announces more than it holds"));
        }
        let mut slicer = RowSlicer::with_capacity(count);
        for _ in 0..count {
            match self.u8()? {
                b't' => {
                    let len = self.u32()? as usize;
                    let start = self.at;
                    self.take(len)?;
                    slicer.text(start, len);
                }
                b'n' => slicer.null(),
                b'u' => slicer.unsent(),
                b'b' => return Err(self.wrong_before("a field in binary form, which was not asked for")),
                _ => return Err(self.wrong_before("a field of unknown kind")),
            }
        }
        Ok(slicer)
    }
    fn row(&self, slicer: RowSlicer, frame: Bytes) -> Result<Row, DecodeError> {
        slicer.finish(frame).ok_or_else(|| self.wrong("a field lies outside of it"))
    }
}
