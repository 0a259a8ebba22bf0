//! Takes events off the stream: framing, checksums, and where in the log each of them lies.

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::gtid::GtidSet;

use super::bodies;
use super::cursor::{Cursor, Parsed, Wrong};
use super::event::{Body, HEADER, Header, LogEvent, kind};
use super::payload::{Payload, PayloadReader};
use super::table_map::TableMapEvent;

/// Which family of servers writes the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// MySQL, and what shares its log.
    MySql,
    /// MariaDB.
    MariaDb,
}

/// Bytes of a checksum.
const CHECKSUM: usize = 4;

/// Decodes the events of one connection.
#[derive(Clone, Debug)]
pub struct Decoder {
    flavour: Flavour,
    /// Whether events end with a CRC32: what the connection asked for, then what the FORMAT_DESCRIPTION says.
    checksums: bool,
    /// Bytes of each event type's fixed part; nothing before a FORMAT_DESCRIPTION.
    post_header: Option<std::sync::Arc<[u8]>>,
    file: String,
    position: u64,
}

impl Decoder {
    /// For a connection that has told the server it knows checksums (`@source_binlog_checksum = 'CRC32'`).
    pub fn new(flavour: Flavour) -> Self {
        Decoder { flavour, checksums: true, post_header: None, file: String::new(), position: 4 }
    }
    /// For a connection or a file whose first events have no checksums.
    pub fn without_checksums(mut self) -> Self {
        self.checksums = false;
        self
    }
    /// Which family writes the log.
    pub fn flavour(&self) -> Flavour {
        self.flavour
    }
    /// The file that events lie in; empty before the first ROTATE.
    pub fn file(&self) -> &str {
        &self.file
    }
    /// The end of the last event in that file. 64 bits: the log's own 32 are counted on.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Decodes one event as the server sent it: header, body, checksum.
    ///
    /// # Errors
    /// *Retry* for a wrong checksum: what was damaged on its way arrives whole the next time, and what is damaged on the
    /// server's disk is named again and again. *Fatal* for everything that no connection can mend: events that are not
    /// known and may not be ignored, INCIDENT, statements' files, bytes that are no event.
    pub fn event(&mut self, bytes: &Bytes) -> Result<LogEvent> {
        let mut header = None;
        let place = |d: &Decoder, h: Option<Header>| {
            let kind = h.map_or(String::new(), |h| format!(", event of type {}", h.kind));
            format!("binary log {}, behind position {}{kind}", d.file, d.position)
        };
        let outcome = self.framed(bytes, &mut header);
        match outcome {
            Ok(event) => Ok(event),
            Err(Failure::Checksum) => Err(Error::retry(format!("{}: its checksum is wrong", place(self, header)))
                .hint(
                    "a damaged read mends itself; if it is the same place again, the file on the source is damaged: \
                       mysqlbinlog --verify-binlog-checksum names it, and the copy has to start again behind it",
                )),
            Err(Failure::Stop(what, hint)) => Err(Error::fatal(format!("{}: {what}", place(self, header))).hint(hint)),
            Err(Failure::Wrong(what)) => Err(Error::fatal(format!("{}: {what}", place(self, header)))
                .hint("this is a defect here or on the wire; nothing after it was applied")),
        }
    }

    /// The next event of a compressed transaction; `None` after its last.
    ///
    /// # Errors
    /// *Fatal*: what cannot be decompressed, or is no event.
    pub fn inner(&mut self, reader: &mut PayloadReader) -> Result<Option<LogEvent>> {
        let place = format!("binary log {}, compressed transaction that ends at {}", self.file, self.position);
        let wrong = |e: &dyn std::fmt::Display| {
            Error::fatal(format!("{place}: {e}"))
                .hint("nothing of the transaction was applied; mysqlbinlog shows whether the source can read it")
        };
        let Some(bytes) = reader.next_event().map_err(|e| wrong(&e))? else { return Ok(None) };
        let mut c = Cursor::new(&bytes);
        let header = Header::parse(&mut c).map_err(|e| wrong(&e))?;
        match self.body(&header, &bytes.slice(HEADER..)) {
            Ok(Body::Payload(_) | Body::FormatDescription { .. } | Body::Rotate { .. } | Body::Gtid(_)) => {
                Err(wrong(&"an event that cannot be in a transaction"))
            }
            Ok(body) => Ok(Some(LogEvent { header, end: None, body })),
            Err(Failure::Stop(what, _)) => Err(wrong(&what)),
            Err(Failure::Wrong(e)) => Err(wrong(&e)),
            Err(Failure::Checksum) => Err(wrong(&"its checksum is wrong")),
        }
    }

    fn framed(&mut self, bytes: &Bytes, seen: &mut Option<Header>) -> Result<LogEvent, Failure> {
        let mut c = Cursor::new(bytes);
        let header = Header::parse(&mut c)?;
        if header.size as usize != bytes.len() {
            return Err(Wrong::from(format!("{} bytes, but its header says {}", bytes.len(), header.size)).into());
        }
        *seen = Some(header);
        let mut format = None;
        if header.kind == kind::FORMAT_DESCRIPTION {
            format = Some(bodies::format(c.rest())?);
        }
        let checksums = format.as_ref().map_or(self.checksums, |f| f.checksums);
        // A format description has the room for a checksum in any case.
        let tail = if checksums || format.is_some() { CHECKSUM } else { 0 };
        let end = bytes
            .len()
            .checked_sub(tail)
            .filter(|end| *end >= HEADER)
            .ok_or(Wrong::from("no room for its checksum"))?;
        if checksums && !checksum_holds(bytes, &header) {
            return Err(Failure::Checksum);
        }
        if let Some(format) = format {
            self.checksums = format.checksums;
            self.post_header = Some(format.post_header);
            let end = (header.log_pos != 0 && self.position <= u64::from(header.log_pos) && self.position <= 4)
                .then(|| self.pass(header.log_pos))
                .flatten();
            let body = Body::FormatDescription { server_version: format.server_version };
            return Ok(LogEvent { header, end, body });
        }
        if self.post_header.is_none() && !matches!(header.kind, kind::ROTATE | kind::HEARTBEAT | kind::HEARTBEAT_V2) {
            return Err(Wrong::from("an event before the format description").into());
        }
        let body = self.body(&header, &bytes.slice(HEADER..end))?;
        let artificial = header.flags & Header::ARTIFICIAL != 0 || header.log_pos == 0;
        let end = match &body {
            Body::Rotate { file, position, .. } => {
                let end = if artificial { None } else { self.pass(header.log_pos) };
                self.file.clone_from(file);
                self.position = *position;
                end
            }
            Body::Heartbeat { file, position } => {
                if *file == self.file {
                    self.position = self.position.max(*position);
                }
                None
            }
            _ if artificial => None,
            _ => self.pass(header.log_pos),
        };
        Ok(LogEvent { header, end, body })
    }

    /// Moves on to the first place behind the last one whose lower half is this: headers have 32 bits, files more.
    /// `None` for an event that lies further back: it was sent for the occasion.
    fn pass(&mut self, log_pos: u32) -> Option<u64> {
        self.position = widen(self.position, log_pos)?;
        Some(self.position)
    }

    fn body(&self, header: &Header, body: &Bytes) -> Result<Body, Failure> {
        use kind::*;
        let mut c = Cursor::new(body);
        let maria = self.flavour == Flavour::MariaDb;
        Ok(match header.kind {
            ROTATE => {
                let position = c.u64()?;
                let file = bodies::file_name(c.rest())?;
                let artificial = header.flags & Header::ARTIFICIAL != 0 || header.log_pos == 0;
                Body::Rotate { file, position, artificial }
            }
            QUERY => Body::Query(bodies::query(header, body)?),
            XID => Body::Xid(c.u64()?),
            TABLE_MAP => {
                self.fixed_part(header, 8)?;
                let table_id = c.u48()?;
                c.u16()?;
                Body::TableMap(TableMapEvent { table_id, flavour: self.flavour, body: body.slice(8..) })
            }
            WRITE_ROWS_V1 | UPDATE_ROWS_V1 | DELETE_ROWS_V1 => {
                self.fixed_part(header, 8)?;
                Body::Rows(bodies::rows(header, body)?)
            }
            WRITE_ROWS | UPDATE_ROWS | DELETE_ROWS | PARTIAL_UPDATE_ROWS => {
                self.fixed_part(header, 10)?;
                Body::Rows(bodies::rows(header, body)?)
            }
            WRITE_ROWS_COMPRESSED_V1
            | UPDATE_ROWS_COMPRESSED_V1
            | DELETE_ROWS_COMPRESSED_V1
            | WRITE_ROWS_COMPRESSED
            | UPDATE_ROWS_COMPRESSED
            | DELETE_ROWS_COMPRESSED
                if maria =>
            {
                Body::Rows(bodies::rows(header, body)?)
            }
            GTID if !maria => Body::Gtid(bodies::gtid(header, body)?),
            GTID_TAGGED if !maria => Body::Gtid(bodies::tagged_gtid(body)?),
            ANONYMOUS_GTID if !maria => Body::Anonymous(bodies::gtid(header, body)?),
            PREVIOUS_GTIDS if !maria => Body::PreviousGtids(GtidSet::decode(body).map_err(Wrong::from)?),
            TRANSACTION_PAYLOAD if !maria => Body::Payload(Payload::parse(body)?),
            MARIA_GTID if maria => Body::MariaGtid(bodies::maria_gtid(header, body)?),
            MARIA_GTID_LIST if maria => Body::MariaGtidList(bodies::maria_gtid_list(body)?),
            QUERY_COMPRESSED if maria => Body::Query(bodies::query(header, body)?),
            HEARTBEAT => {
                let file = bodies::file_name(c.rest())?;
                let position = if file == self.file { widen(self.position, header.log_pos) } else { None };
                let position = position.unwrap_or(header.log_pos.into());
                Body::Heartbeat { file, position }
            }
            HEARTBEAT_V2 if !maria => bodies::heartbeat_v2(body)?,
            XA_PREPARE => Body::XaPrepare { one_phase: c.u8()? != 0 },
            STOP => Body::Stop,
            INTVAR | RAND | USER_VAR => Body::StatementContext,
            ROWS_QUERY | TRANSACTION_CONTEXT | VIEW_CHANGE | IGNORABLE => Body::Ignored,
            ANNOTATE_ROWS | BINLOG_CHECKPOINT | START_ENCRYPTION if maria => Body::Ignored,
            INCIDENT => {
                return Err(Failure::Stop(
                    "the source lost changes on their way into its log (INCIDENT)".into(),
                    "what was lost can only be had by copying again: switchyard finish, then run",
                ));
            }
            LOAD | NEW_LOAD | CREATE_FILE | APPEND_BLOCK | EXEC_LOAD | DELETE_FILE | BEGIN_LOAD_QUERY
            | EXECUTE_LOAD_QUERY => {
                return Err(Failure::Stop(
                    "LOAD DATA was logged as a statement, its rows are not in the log".into(),
                    "SET GLOBAL binlog_format = 'ROW', end all sessions, then copy again",
                ));
            }
            _ if header.flags & Header::IGNORABLE != 0 => Body::Ignored,
            other => {
                return Err(Failure::Stop(
                    format!("events of type {other} are not known"),
                    "the source is newer than this program, or wrote something that it cannot follow",
                ));
            }
        })
    }

    /// Table numbers had four bytes before MySQL 5.1.4; later servers may lengthen the fixed part.
    fn fixed_part(&self, header: &Header, expected: u8) -> Parsed<()> {
        let index = usize::from(header.kind).checked_sub(1);
        let length = index.and_then(|i| self.post_header.as_ref()?.get(i)).copied();
        if length == Some(expected) { Ok(()) } else { Err(format!("a fixed part of {length:?} bytes").into()) }
    }
}

/// The smallest position from `base` on whose lower half is `low`; `None` if that would pass over 2 GiB or more to the
/// next 4 GiB, which no event does.
fn widen(base: u64, low: u32) -> Option<u64> {
    let same = base & !0xffff_ffff | u64::from(low);
    if same >= base {
        return Some(same);
    }
    if base as u32 >= 1 << 31 { same.checked_add(1 << 32) } else { None }
}

fn checksum_holds(bytes: &[u8], header: &Header) -> bool {
    let Some((content, checksum)) = bytes.split_last_chunk::<CHECKSUM>() else { return false };
    let expected = u32::from_le_bytes(*checksum);
    if header.kind != kind::FORMAT_DESCRIPTION || header.flags & Header::IN_USE == 0 {
        return crc32fast::hash(content) == expected;
    }
    // The mark of an open file is set and taken away without the checksum.
    let (Some(before), Some(after)) = (content.get(..HEADER - 2), content.get(HEADER..)) else { return false };
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(before);
    hasher.update(&(header.flags & !Header::IN_USE).to_le_bytes());
    hasher.update(after);
    hasher.finalize() == expected
}

enum Failure {
    Checksum,
    Wrong(Wrong),
    Stop(String, &'static str),
}

impl From<Wrong> for Failure {
    fn from(e: Wrong) -> Self {
        Failure::Wrong(e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_positions_beyond_32_bits_when_widened_then_they_only_grow() {
        assert_eq!(widen(4, 126), Some(126));
        assert_eq!(widen(0xffff_fff0, 0x10), Some(0x1_0000_0010));
        assert_eq!(widen(0x1_0000_0010, 0x20), Some(0x1_0000_0020));
        assert_eq!(widen(0x1_0000_0010, 0x10), Some(0x1_0000_0010));
        assert_eq!(widen(u64::MAX, 1), None);
        assert_eq!(widen(500, 400), None);
    }
}
