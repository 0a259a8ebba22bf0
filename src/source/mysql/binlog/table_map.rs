//! TABLE_MAP events: a table as the log describes it, types and optional metadata.
//!
//! Source: `libs/mysql/binlog/event/rows_event.h` (`Table_map_event`), MariaDB's `sql/log_event_server.cc`.

use bytes::Bytes;

use super::cursor::{Cursor, Parsed, bit};
use super::decoder::Flavour;
use crate::mywire::types::charset::Charset;

/// `enum_field_types`, as far as the log has them.
pub(super) mod code {
    #![allow(missing_docs)]
    pub const DECIMAL: u8 = 0;
    pub const TINY: u8 = 1;
    pub const SHORT: u8 = 2;
    pub const LONG: u8 = 3;
    pub const FLOAT: u8 = 4;
    pub const DOUBLE: u8 = 5;
    pub const NULL: u8 = 6;
    pub const TIMESTAMP: u8 = 7;
    pub const LONGLONG: u8 = 8;
    pub const INT24: u8 = 9;
    pub const DATE: u8 = 10;
    pub const TIME: u8 = 11;
    pub const DATETIME: u8 = 12;
    pub const YEAR: u8 = 13;
    pub const NEWDATE: u8 = 14;
    pub const VARCHAR: u8 = 15;
    pub const BIT: u8 = 16;
    pub const TIMESTAMP2: u8 = 17;
    pub const DATETIME2: u8 = 18;
    pub const TIME2: u8 = 19;
    pub const BLOB_COMPRESSED: u8 = 140;
    pub const VARCHAR_COMPRESSED: u8 = 141;
    pub const VECTOR: u8 = 242;
    pub const JSON: u8 = 245;
    pub const NEWDECIMAL: u8 = 246;
    pub const ENUM: u8 = 247;
    pub const SET: u8 = 248;
    pub const TINY_BLOB: u8 = 249;
    pub const MEDIUM_BLOB: u8 = 250;
    pub const LONG_BLOB: u8 = 251;
    pub const BLOB: u8 = 252;
    pub const VAR_STRING: u8 = 253;
    pub const STRING: u8 = 254;
    pub const GEOMETRY: u8 = 255;
}

/// A TABLE_MAP event, its body not yet read: equal bodies describe equal tables, so that a cache can compare bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableMapEvent {
    /// The number that row events refer to. Numbers are given anew when a table's definition was reloaded.
    pub table_id: u64,
    /// Who wrote it: the families count columns differently.
    pub flavour: Flavour,
    /// Everything behind the number and the flags.
    pub body: Bytes,
}

/// A table as the log describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableMap {
    /// Who wrote it.
    pub flavour: Flavour,
    /// Database.
    pub schema: String,
    /// Table.
    pub table: String,
    /// Its columns in order.
    pub columns: Vec<MapColumn>,
    /// Indexes of the primary key's columns in the key's order, where the log tells them (`binlog_row_metadata = FULL`).
    /// A key over prefixes is listed, too; `key_has_prefix` says so.
    pub primary_key: Option<Vec<usize>>,
    /// Whether a column of the key counts by a prefix only.
    pub key_has_prefix: bool,
}

/// A column as the log describes it. What the optional metadata leaves out is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapColumn {
    /// Its type; for CHAR, ENUM and SET the real one.
    pub(super) code: u8,
    /// Length, precision and scale and the like, by type.
    pub(super) meta: u16,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// Its name.
    pub name: Option<String>,
    /// Whether it is unsigned, for numbers.
    pub unsigned: Option<bool>,
    /// Its collation, for text, ENUM and SET.
    pub collation: Option<u64>,
    /// Its labels, for ENUM and SET.
    pub labels: Option<Vec<Box<str>>>,
    /// Whether `SELECT *` shows it; `None` where the log does not tell.
    pub visible: Option<bool>,
}

impl MapColumn {
    fn is_number(&self) -> bool {
        use code::*;
        // YEAR counts here in both families.
        matches!(self.code, DECIMAL | TINY | SHORT | LONG | FLOAT | DOUBLE | LONGLONG | INT24 | YEAR | NEWDECIMAL)
    }
    pub(super) fn is_text(&self) -> bool {
        use code::*;
        matches!(
            self.code,
            VARCHAR
                | VAR_STRING
                | STRING
                | BLOB
                | TINY_BLOB
                | MEDIUM_BLOB
                | LONG_BLOB
                | BLOB_COMPRESSED
                | VARCHAR_COMPRESSED
        )
    }
    /// Whether the lists of collations count it. Some types are BLOBs inside: VECTOR in MySQL, GEOMETRY in MariaDB.
    fn has_collation(&self, flavour: Flavour) -> bool {
        let inside = if flavour == Flavour::MySql { code::VECTOR } else { code::GEOMETRY };
        self.is_text() || self.code == inside
    }
    fn is_list(&self) -> bool {
        matches!(self.code, code::ENUM | code::SET)
    }
}

impl TableMapEvent {
    /// Reads the body.
    ///
    /// # Errors
    /// Bytes that are no table.
    pub fn parse(&self) -> Parsed<TableMap> {
        let mut c = Cursor::new(&self.body);
        let schema = name(&mut c)?;
        let table = name(&mut c)?;
        let count = c.packed_len()?;
        let types = c.take(count)?;
        let mut meta = Cursor::new(c.packed_bytes()?);
        let nulls = c.take(count.div_ceil(8))?;
        let mut columns = Vec::with_capacity(count);
        for (i, &code) in types.iter().enumerate() {
            let (code, meta) = metadata(code, &mut meta)?;
            columns.push(MapColumn {
                code,
                meta,
                nullable: bit(nulls, i),
                name: None,
                unsigned: None,
                collation: None,
                labels: None,
                visible: None,
            });
        }
        meta.end()?;
        let mut map =
            TableMap { flavour: self.flavour, schema, table, columns, primary_key: None, key_has_prefix: false };
        map.optional(self.flavour, c)?;
        Ok(map)
    }
}

/// A name with its length before and a zero behind.
fn name(c: &mut Cursor<'_>) -> Parsed<String> {
    let len = usize::from(c.u8()?);
    let text = std::str::from_utf8(c.take(len)?).map_err(|_| "a name that is not UTF-8")?.to_owned();
    if c.u8()? != 0 {
        return Err("no zero behind a name".into());
    }
    Ok(text)
}

/// The real type and its metadata (`Table_map_log_event::save_field_metadata`).
fn metadata(code: u8, meta: &mut Cursor<'_>) -> Parsed<(u8, u16)> {
    use code::*;
    Ok(match code {
        FLOAT | DOUBLE | BLOB | TINY_BLOB | MEDIUM_BLOB | LONG_BLOB | GEOMETRY | JSON | VECTOR | TIMESTAMP2
        | DATETIME2 | TIME2 | BLOB_COMPRESSED => (code, u16::from(meta.u8()?)),
        VARCHAR | VARCHAR_COMPRESSED | BIT | NEWDECIMAL => (code, meta.u16()?),
        ENUM | SET | STRING | VAR_STRING => {
            let (real, len) = (meta.u8()?, meta.u8()?);
            if code == VAR_STRING {
                return Ok((code, u16::from_le_bytes([real, len])));
            }
            // Lengths from 256 on put two bits into the type, turned over (bug 37426 of the server).
            if real & 0x30 == 0x30 {
                (real, u16::from(len))
            } else {
                (real | 0x30, u16::from(len) | u16::from((real & 0x30) ^ 0x30) << 4)
            }
        }
        DECIMAL | TINY | SHORT | LONG | LONGLONG | INT24 | NULL | TIMESTAMP | DATE | NEWDATE | TIME | DATETIME
        | YEAR => (code, 0),
        _ => return Err(format!("a column of type {code}, which is not known").into()),
    })
}

impl TableMap {
    fn optional(&mut self, flavour: Flavour, mut c: Cursor<'_>) -> Parsed<()> {
        let mut label_lists: [Option<Vec<Vec<&[u8]>>>; 2] = [None, None];
        while !c.is_empty() {
            let field = c.u8()?;
            let mut v = Cursor::new(c.packed_bytes()?);
            match field {
                1 => {
                    let numbers = self.columns.iter_mut().filter(|c| c.is_number());
                    for (i, column) in numbers.enumerate() {
                        let byte = v.rest().get(i / 8).ok_or("signedness of fewer columns than there are")?;
                        // Here the highest bit comes first.
                        column.unsigned = Some(byte >> (7 - i % 8) & 1 == 1);
                    }
                }
                2 => default_collations(self.columns.iter_mut().filter(|c| c.has_collation(flavour)), v)?,
                10 => default_collations(self.columns.iter_mut().filter(|c| c.is_list()), v)?,
                3 => each_collation(self.columns.iter_mut().filter(|c| c.has_collation(flavour)), v)?,
                11 => each_collation(self.columns.iter_mut().filter(|c| c.is_list()), v)?,
                4 => {
                    for column in &mut self.columns {
                        let text =
                            std::str::from_utf8(v.packed_bytes()?).map_err(|_| "a column name that is not UTF-8")?;
                        column.name = Some(text.to_owned());
                    }
                    v.end()?;
                }
                5 | 6 => {
                    let mut lists = Vec::new();
                    while !v.is_empty() {
                        let count = v.packed_len()?;
                        if count > v.len() {
                            return Err("more labels than bytes".into());
                        }
                        lists.push((0..count).map(|_| v.packed_bytes()).collect::<Parsed<Vec<_>>>()?);
                    }
                    label_lists[usize::from(field == 6)] = Some(lists);
                }
                8 | 9 => {
                    let mut key = Vec::new();
                    while !v.is_empty() {
                        let i = v.packed_len()?;
                        if i >= self.columns.len() {
                            return Err("a key of a column that there is not".into());
                        }
                        self.key_has_prefix |= field == 9 && v.packed()? != 0;
                        key.push(i);
                    }
                    self.primary_key = Some(key);
                }
                12 => {
                    for (i, column) in self.columns.iter_mut().enumerate() {
                        let byte = v.rest().get(i / 8).ok_or("visibility of fewer columns than there are")?;
                        column.visible = Some(byte >> (7 - i % 8) & 1 == 1);
                    }
                }
                // Geometry types, the length of vectors, and what later servers may add: nothing that decoding needs.
                _ => {}
            }
        }
        let [sets, enums] = label_lists;
        for (code, lists) in [(code::SET, sets), (code::ENUM, enums)] {
            let Some(lists) = lists else { continue };
            let columns = self.columns.iter_mut().filter(|c| c.code == code);
            for (column, list) in columns.zip(lists) {
                let Some(collation) = column.collation else { continue };
                let charset = Charset::of_collation(collation)?;
                column.labels = Some(list.into_iter().map(|l| label(charset, l)).collect::<Parsed<_>>()?);
            }
        }
        Ok(())
    }
}

fn label(charset: Charset, bytes: &[u8]) -> Parsed<Box<str>> {
    let mut out = Vec::new();
    charset.decode(bytes, &mut out)?;
    Ok(String::from_utf8(out).map_err(|_| "a label that is not text")?.into_boxed_str())
}

/// One collation for all, and exceptions by their number among the columns concerned.
fn default_collations<'a>(columns: impl Iterator<Item = &'a mut MapColumn>, mut v: Cursor<'_>) -> Parsed<()> {
    let default = v.packed()?;
    let mut columns: Vec<_> = columns.collect();
    for column in &mut columns {
        column.collation = Some(default);
    }
    while !v.is_empty() {
        let i = v.packed_len()?;
        columns.get_mut(i).ok_or("a collation of a column that there is not")?.collation = Some(v.packed()?);
    }
    Ok(())
}

fn each_collation<'a>(columns: impl Iterator<Item = &'a mut MapColumn>, mut v: Cursor<'_>) -> Parsed<()> {
    for column in columns {
        column.collation = Some(v.packed()?);
    }
    v.end()
}
