//! What the binary log says, event by event: kinds and bodies, without decoding rows.
//!
//! Source: `libs/mysql/binlog/event/*.h`; for MariaDB `sql/log_event.h` and its protocol documentation.

use bytes::Bytes;

use crate::gtid::{DomainGtid, Gtid, GtidSet, MariaGtidPos};

use super::cursor::{Cursor, Parsed};
use super::payload::Payload;
use super::rows::RowsEvent;
use super::table_map::TableMapEvent;
use crate::mywire::types::charset::Charset;

/// Bytes of an event's header.
pub const HEADER: usize = 19;

/// Event types, by the servers' names.
#[allow(missing_docs)]
pub mod kind {
    pub const QUERY: u8 = 2;
    pub const STOP: u8 = 3;
    pub const ROTATE: u8 = 4;
    pub const INTVAR: u8 = 5;
    pub const LOAD: u8 = 6;
    pub const SLAVE: u8 = 7;
    pub const CREATE_FILE: u8 = 8;
    pub const APPEND_BLOCK: u8 = 9;
    pub const EXEC_LOAD: u8 = 10;
    pub const DELETE_FILE: u8 = 11;
    pub const NEW_LOAD: u8 = 12;
    pub const RAND: u8 = 13;
    pub const USER_VAR: u8 = 14;
    pub const FORMAT_DESCRIPTION: u8 = 15;
    pub const XID: u8 = 16;
    pub const BEGIN_LOAD_QUERY: u8 = 17;
    pub const EXECUTE_LOAD_QUERY: u8 = 18;
    pub const TABLE_MAP: u8 = 19;
    pub const WRITE_ROWS_V1: u8 = 23;
    pub const UPDATE_ROWS_V1: u8 = 24;
    pub const DELETE_ROWS_V1: u8 = 25;
    pub const INCIDENT: u8 = 26;
    pub const HEARTBEAT: u8 = 27;
    pub const IGNORABLE: u8 = 28;
    pub const ROWS_QUERY: u8 = 29;
    pub const WRITE_ROWS: u8 = 30;
    pub const UPDATE_ROWS: u8 = 31;
    pub const DELETE_ROWS: u8 = 32;
    pub const GTID: u8 = 33;
    pub const ANONYMOUS_GTID: u8 = 34;
    pub const PREVIOUS_GTIDS: u8 = 35;
    pub const TRANSACTION_CONTEXT: u8 = 36;
    pub const VIEW_CHANGE: u8 = 37;
    pub const XA_PREPARE: u8 = 38;
    pub const PARTIAL_UPDATE_ROWS: u8 = 39;
    pub const TRANSACTION_PAYLOAD: u8 = 40;
    pub const HEARTBEAT_V2: u8 = 41;
    pub const GTID_TAGGED: u8 = 42;
    pub const ANNOTATE_ROWS: u8 = 160;
    pub const BINLOG_CHECKPOINT: u8 = 161;
    pub const MARIA_GTID: u8 = 162;
    pub const MARIA_GTID_LIST: u8 = 163;
    pub const START_ENCRYPTION: u8 = 164;
    pub const QUERY_COMPRESSED: u8 = 165;
    pub const WRITE_ROWS_COMPRESSED_V1: u8 = 166;
    pub const UPDATE_ROWS_COMPRESSED_V1: u8 = 167;
    pub const DELETE_ROWS_COMPRESSED_V1: u8 = 168;
    pub const WRITE_ROWS_COMPRESSED: u8 = 169;
    pub const UPDATE_ROWS_COMPRESSED: u8 = 170;
    pub const DELETE_ROWS_COMPRESSED: u8 = 171;
}

/// An event's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Seconds since the Unix epoch, when the statement began.
    pub timestamp: u32,
    /// One of [`kind`].
    pub kind: u8,
    /// The server that wrote it first.
    pub server_id: u32,
    /// Bytes with header and checksum.
    pub size: u32,
    /// The lower half of where it ends in its file; 0 for what lies in no file.
    pub log_pos: u32,
    /// `LOG_EVENT_…_F`.
    pub flags: u16,
}

impl Header {
    /// `LOG_EVENT_IGNORABLE_F`.
    pub const IGNORABLE: u16 = 0x80;
    /// `LOG_EVENT_ARTIFICIAL_F`.
    pub const ARTIFICIAL: u16 = 0x20;
    /// `LOG_EVENT_BINLOG_IN_USE_F`: changes while the file is open, so no checksum covers it.
    pub const IN_USE: u16 = 0x1;

    /// Reads a header off the front.
    pub fn parse(c: &mut Cursor<'_>) -> Parsed<Header> {
        Ok(Header {
            timestamp: c.u32()?,
            kind: c.u8()?,
            server_id: c.u32()?,
            size: c.u32()?,
            log_pos: c.u32()?,
            flags: c.u16()?,
        })
    }
}

/// One event.
#[derive(Clone, Debug)]
pub struct LogEvent {
    /// Its header.
    pub header: Header,
    /// Where it ends in its file; `None` for what lies in no file, or inside of a compressed transaction.
    pub end: Option<u64>,
    /// What it says.
    pub body: Body,
}

/// What an event says.
#[derive(Clone, Debug)]
pub enum Body {
    /// A file begins.
    FormatDescription {
        /// The server's version.
        server_version: String,
    },
    /// What follows lies in another file.
    Rotate {
        /// The file.
        file: String,
        /// Where in it.
        position: u64,
        /// Sent for the occasion, not read from the log.
        artificial: bool,
    },
    /// The server ended; another file follows.
    Stop,
    /// A transaction's id and length.
    Gtid(GtidEvent),
    /// A transaction without id (`gtid_mode` OFF).
    Anonymous(GtidEvent),
    /// What was in the log before this file.
    PreviousGtids(GtidSet),
    /// A MariaDB transaction's id.
    MariaGtid(MariaGtid),
    /// What was in MariaDB's log before this file.
    MariaGtidList(MariaGtidPos),
    /// A statement.
    Query(Query),
    /// COMMIT of transactional tables.
    Xid(u64),
    /// XA PREPARE, which ends the transaction's first part.
    XaPrepare {
        /// XA COMMIT … ONE PHASE: it is a commit.
        one_phase: bool,
    },
    /// A table that the row events behind it refer to.
    TableMap(TableMapEvent),
    /// Rows.
    Rows(RowsEvent),
    /// A whole transaction, compressed; [`Payload::reader`] has its events.
    Payload(Payload),
    /// Nothing new; the server is at this place.
    Heartbeat {
        /// The file.
        file: String,
        /// Where in it.
        position: u64,
    },
    /// Values that the next statement refers to: what follows was logged as a statement.
    StatementContext,
    /// Read past: it is known and says nothing about rows, or says of itself that it may be ignored.
    Ignored,
}

/// GTID, ANONYMOUS_GTID and GTID_TAGGED.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GtidEvent {
    /// The id; `None` for an anonymous transaction.
    pub gtid: Option<Gtid>,
    /// When it committed on this server, microseconds since the Unix epoch; 0 before MySQL 8.0.
    pub committed_at: u64,
    /// Bytes of the transaction with this event; `None` before MySQL 8.0.2.
    pub transaction_length: Option<u64>,
}

/// MariaDB's GTID event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MariaGtid {
    /// The id.
    pub gtid: DomainGtid,
    /// No COMMIT follows: one statement, or one event group of DDL, ends with its query.
    pub standalone: bool,
    /// A schema change.
    pub ddl: bool,
    /// XA PREPARE.
    pub prepared_xa: bool,
    /// XA COMMIT or ROLLBACK of what was prepared before.
    pub completed_xa: bool,
}

/// A statement.
#[derive(Clone, Debug)]
pub struct Query {
    /// The session's database.
    pub schema: String,
    /// Its bytes, in the client's character set.
    pub statement: Bytes,
    /// The client's collation; `None` where the log does not tell.
    pub collation: Option<u16>,
    /// The session's `sql_mode` as a number: what quotes mean.
    pub sql_mode: Option<u64>,
    /// Error with which it ended; not 0 if it left something behind all the same.
    pub error_code: u16,
}

/// What a statement is to the stream of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryKind {
    /// BEGIN, or XA START.
    Begin,
    /// COMMIT.
    Commit,
    /// ROLLBACK of the whole transaction.
    Rollback,
    /// SAVEPOINT, RELEASE SAVEPOINT.
    Savepoint,
    /// ROLLBACK TO: what was logged since the savepoint did not happen. Only logged where tables without transactions
    /// are mixed in.
    RollbackTo,
    /// XA END, before an XA_PREPARE event.
    XaEnd,
    /// XA COMMIT of what was prepared in an earlier transaction of the log.
    XaCommit,
    /// XA ROLLBACK of such.
    XaRollback,
    /// It changes rows: the log is not row by row.
    Rows,
    /// Anything else: schema changes, grants. Ends its transaction by itself.
    Other,
}

impl Query {
    /// The statement as text.
    ///
    /// # Errors
    /// Bytes that are no text of the client's character set.
    pub fn text(&self) -> Result<String, String> {
        let charset = self.collation.map_or(Ok(Charset::Utf8), |id| Charset::of_collation(id.into()))?;
        let charset = if charset == Charset::Binary { Charset::Utf8 } else { charset };
        let mut out = Vec::with_capacity(self.statement.len());
        charset.decode(&self.statement, &mut out)?;
        String::from_utf8(out).map_err(|e| e.to_string())
    }

    /// What it is, by its first words; comments before them are passed over.
    pub fn kind(&self) -> QueryKind {
        let mut words = Words { rest: &self.statement };
        let first = words.next().unwrap_or_default();
        match first.as_str() {
            "BEGIN" => QueryKind::Begin,
            "START" if words.next().as_deref() == Some("TRANSACTION") => QueryKind::Begin,
            "COMMIT" => QueryKind::Commit,
            "ROLLBACK" => {
                let mut word = words.next();
                if word.as_deref() == Some("WORK") {
                    word = words.next();
                }
                if word.as_deref() == Some("TO") { QueryKind::RollbackTo } else { QueryKind::Rollback }
            }
            "SAVEPOINT" | "RELEASE" => QueryKind::Savepoint,
            "XA" => match words.next().unwrap_or_default().as_str() {
                "START" | "BEGIN" => QueryKind::Begin,
                "END" => QueryKind::XaEnd,
                "COMMIT" => QueryKind::XaCommit,
                "ROLLBACK" => QueryKind::XaRollback,
                _ => QueryKind::Other,
            },
            "INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "LOAD" | "SELECT" | "WITH" | "CALL" | "DO" | "VALUES"
            | "TABLE" | "MERGE" | "EXECUTE" | "HANDLER" => QueryKind::Rows,
            _ => QueryKind::Other,
        }
    }
}

/// Words in capitals, comments and blanks between them left out.
struct Words<'a> {
    rest: &'a [u8],
}

impl Iterator for Words<'_> {
    type Item = String;
    fn next(&mut self) -> Option<String> {
        loop {
            self.rest = self.rest.trim_ascii_start();
            if let Some(tail) = self.rest.strip_prefix(b"/*") {
                // What stands in a comment for servers is part of the statement.
                let versioned = tail.strip_prefix(b"!").or_else(|| tail.strip_prefix(b"M!"));
                self.rest = match versioned {
                    Some(inside) => inside.get(inside.iter().take_while(|b| b.is_ascii_digit()).count()..)?,
                    None => tail.get(memchr::memmem::find(tail, b"*/")? + 2..)?,
                };
            } else if self.rest.starts_with(b"#") || self.rest.starts_with(b"--") {
                self.rest = self.rest.get(memchr::memchr(b'\n', self.rest)?..)?;
            } else if let Some(tail) = self.rest.strip_prefix(b"*/").or_else(|| self.rest.strip_prefix(b"(")) {
                self.rest = tail;
            } else {
                break;
            }
        }
        let n = self.rest.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
        let (word, rest) = self.rest.split_at_checked(n.max(1))?;
        self.rest = rest;
        Some(String::from_utf8_lossy(word).to_ascii_uppercase())
    }
}

#[cfg(test)]
impl Query {
    pub(super) fn of(statement: &'static str) -> Query {
        let statement = Bytes::from_static(statement.as_bytes());
        Query { schema: String::new(), statement, collation: None, sql_mode: None, error_code: 0 }
    }
}
