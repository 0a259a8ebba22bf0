//! Reads the bodies of events that are more than a number.

use std::sync::Arc;

use bytes::Bytes;

use crate::change::Op;
use crate::gtid::{DomainGtid, Gtid, MariaGtidPos, SourceId, Tag};

use super::cursor::{Cursor, Parsed, bit};
use super::event::{Body, GtidEvent, Header, MariaGtid, Query, kind};
use super::payload;
use super::rows::RowsEvent;

/// QUERY and MariaDB's QUERY_COMPRESSED.
pub(super) fn query(header: &Header, body: &Bytes) -> Parsed<Query> {
    let mut c = Cursor::new(body);
    c.take(8)?;
    let schema_len = usize::from(c.u8()?);
    let error_code = c.u16()?;
    let vars_len = usize::from(c.u16()?);
    let mut vars = Cursor::new(c.take(vars_len)?);
    let schema = String::from_utf8_lossy(c.take(schema_len)?).into_owned();
    if c.u8()? != 0 {
        return Err("no zero behind a statement's database".into());
    }
    let statement = match header.kind {
        kind::QUERY_COMPRESSED => payload::inflate(c.rest())?.into(),
        _ => body.slice(body.len() - c.len()..),
    };
    let (mut collation, mut sql_mode) = (None, None);
    // The first few have fixed places; what comes behind them is not needed (`Query_event_status_vars`).
    while !vars.is_empty() && (collation.is_none() || sql_mode.is_none()) {
        match vars.u8()? {
            0 | 3 => drop(vars.take(4)?),
            1 => sql_mode = Some(vars.u64()?),
            2 => {
                let len = usize::from(vars.u8()?);
                vars.take(len + 1)?;
            }
            4 => {
                collation = Some(vars.u16()?);
                vars.take(4)?;
            }
            5 | 6 => {
                let len = usize::from(vars.u8()?);
                vars.take(len)?;
            }
            _ => break,
        }
    }
    Ok(Query { schema, statement, collation, sql_mode, error_code })
}

/// GTID and ANONYMOUS_GTID.
pub(super) fn gtid(header: &Header, body: &[u8]) -> Parsed<GtidEvent> {
    let mut c = Cursor::new(body);
    c.u8()?;
    let source = SourceId(c.array()?);
    let number = c.u64()?;
    let gtid = (header.kind == kind::GTID).then(|| Gtid { source, tag: Tag::default(), number });
    if gtid.is_some() && number == 0 {
        return Err("a transaction with number 0".into());
    }
    let mut event = GtidEvent { gtid, committed_at: 0, transaction_length: None };
    // Since MySQL 5.7.
    if c.is_empty() || c.u8()? != 2 {
        return Ok(event);
    }
    c.take(16)?;
    // Since 8.0.1 and 8.0.2.
    if c.len() < 7 {
        return Ok(event);
    }
    let committed_at = c.uint(7)?;
    if committed_at >> 55 == 1 {
        c.take(7)?;
    }
    event.committed_at = committed_at & ((1 << 55) - 1);
    if !c.is_empty() {
        event.transaction_length = Some(c.packed()?);
    }
    Ok(event)
}

/// GTID_TAGGED: fields by number (`libs/mysql/serialization`, `Gtid_event::define_fields`).
pub(super) fn tagged_gtid(body: &[u8]) -> Parsed<GtidEvent> {
    let mut c = Cursor::new(body);
    let (version, _size, _last) = (varint(&mut c)?, varint(&mut c)?, varint(&mut c)?);
    if version != 1 {
        return Err("a tagged transaction id in an unknown form".into());
    }
    let (mut source, mut number, mut tag, mut committed_at, mut transaction_length) = (None, None, None, 0, None);
    while !c.is_empty() {
        match varint(&mut c)? {
            // Flags.
            0 => drop(varint(&mut c)?),
            1 => {
                let mut id = [0; 16];
                for b in &mut id {
                    *b = varint(&mut c)?.try_into().map_err(|_| "a source id with a byte beyond 255")?;
                }
                source = Some(SourceId(id));
            }
            2 => number = Some(signed(varint(&mut c)?)?),
            3 => {
                let len = varint(&mut c)? as usize;
                let text = std::str::from_utf8(c.take(len)?).map_err(|_| "a tag that is no text")?;
                tag = Some(Tag::new(text)?);
            }
            // The group commit's numbers.
            4 | 5 => drop(signed(varint(&mut c)?)?),
            6 => committed_at = varint(&mut c)?,
            7 | 9 | 10 | 11 => drop(varint(&mut c)?),
            8 => transaction_length = Some(varint(&mut c)?),
            // Later fields come last.
            _ => break,
        }
    }
    let source = source.ok_or("a transaction id without source")?;
    let number = number.filter(|n| *n > 0).ok_or("a transaction id without number")?;
    let tag = tag.ok_or("a tagged transaction id without tag")?;
    Ok(GtidEvent { gtid: Some(Gtid { source, tag, number }), committed_at, transaction_length })
}

/// As many bytes more as the first one has ones at its low end; the number follows them, little endian.
fn varint(c: &mut Cursor<'_>) -> Parsed<u64> {
    let first = c.u8()?;
    let more = first.trailing_ones();
    if more == 8 {
        return c.u64();
    }
    let rest = c.uint(more as usize)?;
    Ok(rest << (7 - more) | u64::from(first) >> (more + 1))
}

/// A signed number has its sign in the lowest bit; none of those here is negative.
fn signed(n: u64) -> Parsed<u64> {
    if n & 1 == 0 { Ok(n >> 1) } else { Err("a negative number in a transaction id".into()) }
}

/// MariaDB's GTID (`Gtid_log_event`).
pub(super) fn maria_gtid(header: &Header, body: &[u8]) -> Parsed<MariaGtid> {
    let mut c = Cursor::new(body);
    let sequence = c.u64()?;
    let domain = c.u32()?;
    let flags = c.u8()?;
    Ok(MariaGtid {
        gtid: DomainGtid { domain, server: header.server_id, sequence },
        standalone: flags & 1 != 0,
        ddl: flags & 32 != 0,
        prepared_xa: flags & 64 != 0,
        completed_xa: flags & 128 != 0,
    })
}

/// MariaDB's GTID_LIST: the count is in the low 28 bits.
pub(super) fn maria_gtid_list(body: &[u8]) -> Parsed<MariaGtidPos> {
    let mut c = Cursor::new(body);
    let mut pos = MariaGtidPos::new();
    for _ in 0..c.u32()? & 0x0fff_ffff {
        let (domain, server, sequence) = (c.u32()?, c.u32()?, c.u64()?);
        // Several servers of one domain: the one that wrote last comes last.
        pos.advance(DomainGtid { domain, server, sequence });
    }
    Ok(pos)
}

/// HEARTBEAT_V2: fields by number.
pub(super) fn heartbeat_v2(body: &[u8]) -> Parsed<Body> {
    let mut c = Cursor::new(body);
    let (mut file, mut position) = (None, None);
    while !c.is_empty() {
        let field = c.packed()?;
        if field == 0 {
            break;
        }
        let mut v = Cursor::new(c.packed_bytes()?);
        match field {
            1 => file = Some(file_name(v.rest())?),
            2 => position = Some(v.packed()?),
            _ => {}
        }
    }
    let file = file.ok_or("a heartbeat without file")?;
    Ok(Body::Heartbeat { file, position: position.ok_or("a heartbeat without position")? })
}

/// A log file's name.
pub(super) fn file_name(bytes: &[u8]) -> Parsed<String> {
    let name = std::str::from_utf8(bytes).map_err(|_| "a log file's name that is not UTF-8")?;
    if name.is_empty() || name.contains(|c: char| c.is_control()) {
        return Err("a log file's name that is none".into());
    }
    Ok(name.to_owned())
}

/// Row events of every version.
pub(super) fn rows(header: &Header, body: &Bytes) -> Parsed<RowsEvent> {
    use kind::*;
    let (op, second_version, compressed) = match header.kind {
        WRITE_ROWS_V1 => (Op::Insert, false, false),
        UPDATE_ROWS_V1 => (Op::Update, false, false),
        DELETE_ROWS_V1 => (Op::Delete, false, false),
        WRITE_ROWS => (Op::Insert, true, false),
        UPDATE_ROWS | PARTIAL_UPDATE_ROWS => (Op::Update, true, false),
        DELETE_ROWS => (Op::Delete, true, false),
        WRITE_ROWS_COMPRESSED_V1 => (Op::Insert, false, true),
        UPDATE_ROWS_COMPRESSED_V1 => (Op::Update, false, true),
        DELETE_ROWS_COMPRESSED_V1 => (Op::Delete, false, true),
        WRITE_ROWS_COMPRESSED => (Op::Insert, true, true),
        UPDATE_ROWS_COMPRESSED => (Op::Update, true, true),
        DELETE_ROWS_COMPRESSED => (Op::Delete, true, true),
        _ => return Err("not a row event".into()),
    };
    let mut c = Cursor::new(body);
    let table_id = c.u48()?;
    let flags = c.u16()?;
    if second_version {
        // Its own two bytes are counted.
        let extra = usize::from(c.u16()?).checked_sub(2).ok_or("extra data of a length below its own")?;
        c.take(extra)?;
    }
    let columns = c.packed_len()?;
    let bitmap = |c: &mut Cursor<'_>| -> Parsed<Bytes> {
        let from = body.len() - c.len();
        let bits = c.take(columns.div_ceil(8))?;
        // Nothing stands for everything, which is the rule.
        let all = (0..columns).all(|i| bit(bits, i));
        Ok(if all { Bytes::new() } else { body.slice(from..from + bits.len()) })
    };
    let present = bitmap(&mut c)?;
    let present_after = if op == Op::Update { bitmap(&mut c)? } else { Bytes::new() };
    let rows = if compressed { payload::inflate(c.rest())?.into() } else { body.slice(body.len() - c.len()..) };
    Ok(RowsEvent {
        table_id,
        op,
        statement_end: flags & 1 != 0,
        no_foreign_key_checks: flags & 2 != 0,
        cascades_logged: flags & 0x10 != 0,
        columns,
        present,
        present_after,
        partial: header.kind == PARTIAL_UPDATE_ROWS,
        rows,
    })
}

/// The server's version from a FORMAT_DESCRIPTION, its post-header lengths, and whether events have checksums.
pub(super) struct Format {
    pub server_version: String,
    pub post_header: Arc<[u8]>,
    pub checksums: bool,
}

pub(super) fn format(body_and_checksum: &[u8]) -> Parsed<Format> {
    let mut c = Cursor::new(body_and_checksum);
    if c.u16()? != 4 {
        return Err("a binary log of another version than 4 (MySQL before 5.0)".into());
    }
    let version = c.take(50)?;
    let end = version.iter().position(|b| *b == 0).unwrap_or(version.len());
    let server_version = String::from_utf8_lossy(version.get(..end).unwrap_or(version)).into_owned();
    c.u32()?;
    if usize::from(c.u8()?) != super::event::HEADER {
        return Err("event headers of another length than 19".into());
    }
    // One byte for the algorithm and four for the checksum, which is there in any case.
    let lengths = c.take(c.len().checked_sub(5).ok_or("a format description that is too short")?)?;
    let checksums = match c.u8()? {
        0 => false,
        1 => true,
        other => return Err(format!("checksum algorithm {other} is not known").into()),
    };
    Ok(Format { server_version, post_header: lengths.into(), checksums })
}
