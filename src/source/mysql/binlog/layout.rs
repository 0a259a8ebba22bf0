//! How the rows of a table lie in the log, and what each column holds: made once for a TABLE_MAP, used for every row.

use std::sync::Arc;

use crate::error::{Error, Result};

use super::cursor::{Cursor, Parsed, Wrong, big, bit, little};
use super::decoder::Flavour;
use super::json;
use super::table_map::{MapColumn, TableMap, code};
use crate::mywire::types::charset::Charset;
use crate::mywire::types::{Address, ColumnType, render};

/// A column that is known from elsewhere, the catalog for instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownColumn {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub ty: ColumnType,
}

/// A table's columns, ready to decode rows.
#[derive(Clone, Debug)]
pub struct TableLayout {
    /// Database.
    pub schema: String,
    /// Table.
    pub table: String,
    /// Columns in the log's order.
    pub columns: Vec<LayoutColumn>,
    /// See [`TableMap::primary_key`].
    pub primary_key: Option<Vec<usize>>,
    /// See [`TableMap::key_has_prefix`].
    pub key_has_prefix: bool,
}

/// One column.
#[derive(Clone, Debug)]
pub struct LayoutColumn {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub ty: ColumnType,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// Whether `SELECT *` shows it; taken for shown where the log does not tell.
    pub visible: bool,
    /// Its values are not wanted: decoded rows are without it.
    pub skipped: bool,
    pub(super) wire: Wire,
}

/// How a value lies in a row.
#[derive(Clone, Debug)]
pub(super) enum Wire {
    Tiny(bool),
    Short(bool),
    Int24(bool),
    Long(bool),
    LongLong(bool),
    Float,
    Double,
    Decimal {
        precision: u8,
        scale: u8,
        size: u8,
    },
    Year,
    Bit {
        bits: u8,
    },
    Date,
    OldTime,
    OldDateTime,
    OldTimestamp,
    Time(u8),
    DateTime(u8),
    Timestamp(u8),
    Enum {
        size: u8,
        labels: Arc<[Box<str>]>,
    },
    Set {
        size: u8,
        labels: Arc<[Box<str>]>,
    },
    /// A length of `prefix` bytes, and so many bytes.
    Sized {
        prefix: u8,
        form: Form,
    },
}

/// What the bytes of a [`Wire::Sized`] are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    Text(Charset),
    /// Zeros at the end are not in the log up to this length.
    Hex {
        width: u32,
    },
    Json,
    Address(Address),
}

impl TableLayout {
    /// Puts together what the log says and what is known otherwise. Known columns must be all of the table's, in its
    /// order; they are needed where the log has no names and labels (`binlog_row_metadata` is not FULL), and for
    /// MariaDB's UUID and INET types, which the log shows as BINARY.
    ///
    /// # Errors
    /// Known columns that are not the log's, and columns of which too little is known.
    pub fn new(map: &TableMap, known: Option<&[KnownColumn]>) -> Result<TableLayout> {
        let place = format!("{}.{} in the binary log", map.schema, map.table);
        if let Some(known) = known {
            let same = known.len() == map.columns.len()
                && known.iter().zip(&map.columns).all(|(k, m)| m.name.as_ref().is_none_or(|n| *n == k.name));
            if !same {
                return Err(Error::fatal(format!("{place}: its columns are not those that are known of the table"))
                    .hint("the table was changed in a way that was not followed"));
            }
        }
        let mut columns = Vec::with_capacity(map.columns.len());
        for (i, column) in map.columns.iter().enumerate() {
            let known = known.and_then(|k| k.get(i));
            let name = column.name.clone().or_else(|| known.map(|k| k.name.clone())).ok_or_else(|| {
                Error::fatal(format!("{place}: the log has no column names"))
                    .hint("SET GLOBAL binlog_row_metadata = 'FULL', then start the copy again")
            })?;
            let (ty, wire) = resolve(map.flavour, column, known.map(|k| &k.ty)).map_err(|e| {
                Error::fatal(format!("{place}: column {name}: {e}"))
                    .hint("SET GLOBAL binlog_row_metadata = 'FULL' if it is not; or leave the table out")
            })?;
            columns.push(LayoutColumn {
                name,
                ty,
                nullable: column.nullable,
                visible: column.visible.unwrap_or(true),
                skipped: false,
                wire,
            });
        }
        Ok(TableLayout {
            schema: map.schema.clone(),
            table: map.table.clone(),
            columns,
            primary_key: map.primary_key.clone(),
            key_has_prefix: map.key_has_prefix,
        })
    }
}

/// The column's type and its form in the log.
fn resolve(flavour: Flavour, column: &MapColumn, known: Option<&ColumnType>) -> Parsed<(ColumnType, Wire)> {
    const DIFFERS: &str = "its type in the log is not the one that is known of it";
    let [low, high] = column.meta.to_le_bytes();
    let sign = |width: u8| match (column.unsigned, known) {
        (Some(unsigned), _) => Ok(unsigned),
        (None, Some(ColumnType::Int { width: w, unsigned })) if *w == width => Ok(*unsigned),
        (None, Some(_)) => Err(Wrong::from(DIFFERS)),
        (None, None) => Err(Wrong::from("the log does not tell whether it is unsigned")),
    };
    let int = |width: u8, wire: fn(bool) -> Wire| {
        let unsigned = sign(width)?;
        Ok((ColumnType::Int { width, unsigned }, wire(unsigned)))
    };
    let digits = |n: u16| if n <= 6 { Ok(n as u8) } else { Err(Wrong::from("more than six digits of a second")) };
    let found: Parsed<(ColumnType, Wire)> = match column.code {
        code::TINY => int(1, Wire::Tiny),
        code::SHORT => int(2, Wire::Short),
        code::INT24 => int(3, Wire::Int24),
        code::LONG => int(4, Wire::Long),
        code::LONGLONG => int(8, Wire::LongLong),
        code::FLOAT if column.meta == 4 => Ok((ColumnType::Float, Wire::Float)),
        code::DOUBLE if column.meta == 8 => Ok((ColumnType::Double, Wire::Double)),
        code::NEWDECIMAL => {
            let (precision, scale) = (low, high);
            let size = render::decimal_size(precision, scale).ok_or("a decimal of impossible precision")? as u8;
            Ok((ColumnType::Decimal { precision, scale }, Wire::Decimal { precision, scale, size }))
        }
        code::YEAR => Ok((ColumnType::Year, Wire::Year)),
        code::BIT => {
            let bits = u16::from(high) * 8 + u16::from(low);
            let bits =
                u8::try_from(bits).ok().filter(|b| (1..=64).contains(b)).ok_or("a bit field of more than 64 bits")?;
            Ok((ColumnType::Bit(bits), Wire::Bit { bits }))
        }
        code::DATE | code::NEWDATE => Ok((ColumnType::Date, Wire::Date)),
        // With fractions their length depends on digits that the log does not have.
        code::TIME | code::DATETIME | code::TIMESTAMP if flavour == Flavour::MariaDb => {
            Err("the old form of dates and times cannot be read; ALTER TABLE … FORCE under mysql56_temporal_format=ON \
                 rewrites it"
                .into())
        }
        code::TIME => Ok((ColumnType::Time(0), Wire::OldTime)),
        code::DATETIME => Ok((ColumnType::DateTime(0), Wire::OldDateTime)),
        code::TIMESTAMP => Ok((ColumnType::Timestamp(0), Wire::OldTimestamp)),
        code::TIME2 => digits(column.meta).map(|n| (ColumnType::Time(n), Wire::Time(n))),
        code::DATETIME2 => digits(column.meta).map(|n| (ColumnType::DateTime(n), Wire::DateTime(n))),
        code::TIMESTAMP2 => digits(column.meta).map(|n| (ColumnType::Timestamp(n), Wire::Timestamp(n))),
        code::ENUM | code::SET => {
            let size = low;
            let labels = match (&column.labels, known) {
                (Some(l), _) => l.clone().into(),
                (None, Some(ColumnType::Enum(l) | ColumnType::Set(l))) => l.clone(),
                (None, Some(_)) => return Err(DIFFERS.into()),
                (None, None) => return Err("the log does not tell its labels".into()),
            };
            if column.code == code::ENUM && matches!(size, 1 | 2) {
                Ok((ColumnType::Enum(labels.clone()), Wire::Enum { size, labels }))
            } else if column.code == code::SET && (1..=8).contains(&size) {
                Ok((ColumnType::Set(labels.clone()), Wire::Set { size, labels }))
            } else {
                Err("an enumeration of impossible size".into())
            }
        }
        code::JSON => sized(column.meta, ColumnType::Json, Form::Json),
        code::GEOMETRY => sized(column.meta, ColumnType::Geometry, Form::Hex { width: 0 }),
        code::VECTOR => sized(column.meta, ColumnType::Vector, Form::Hex { width: 0 }),
        code::BLOB_COMPRESSED | code::VARCHAR_COMPRESSED => Err("compressed columns are not supported".into()),
        _ if column.is_text() => text(column, known),
        other => Err(format!("type {other} is not supported").into()),
    };
    let (mut ty, wire) = found?;
    // MariaDB's VECTOR is a VARBINARY in its log.
    if (known, &ty) == (Some(&ColumnType::Vector), &ColumnType::Bytes) {
        ty = ColumnType::Vector;
    }
    let agrees = match (known, &ty) {
        (None, _) => true,
        (Some(ColumnType::Enum(_)), ColumnType::Enum(_)) | (Some(ColumnType::Set(_)), ColumnType::Set(_)) => true,
        // The log tells the character set, and whoever knows the column from a statement may not.
        (Some(ColumnType::Text(_)), ColumnType::Text(_)) => true,
        (Some(known), ty) => known == ty,
    };
    if agrees { Ok((ty, wire)) } else { Err(DIFFERS.into()) }
}

fn sized(prefix: u16, ty: ColumnType, form: Form) -> Parsed<(ColumnType, Wire)> {
    match prefix {
        1..=4 => Ok((ty, Wire::Sized { prefix: prefix as u8, form })),
        _ => Err("a length of impossible size".into()),
    }
}

fn text(column: &MapColumn, known: Option<&ColumnType>) -> Parsed<(ColumnType, Wire)> {
    let by_length = |len: u16| if len > 255 { 2 } else { 1 };
    let fixed = column.code == code::STRING;
    let prefix = match column.code {
        code::VARCHAR | code::VAR_STRING | code::STRING => by_length(column.meta),
        _ => column.meta,
    };
    if let Some(ColumnType::Address(address)) = known {
        if fixed && u32::from(column.meta) == address.width() {
            return sized(prefix, ColumnType::Address(*address), Form::Address(*address));
        }
        return Err("its type in the log is not the one that is known of it".into());
    }
    let charset = match (column.collation, known) {
        (Some(id), _) => Charset::of_collation(id)?,
        (None, Some(ColumnType::Text(set))) => *set,
        (None, Some(ColumnType::FixedBytes(_) | ColumnType::Bytes)) => Charset::Binary,
        (None, Some(_)) => return Err("its type in the log is not the one that is known of it".into()),
        (None, None) => return Err("the log does not tell its character set".into()),
    };
    match (charset, fixed) {
        (Charset::Binary, true) => {
            let width = u32::from(column.meta);
            sized(prefix, ColumnType::FixedBytes(width), Form::Hex { width })
        }
        (Charset::Binary, false) => sized(prefix, ColumnType::Bytes, Form::Hex { width: 0 }),
        (set, _) => sized(prefix, ColumnType::Text(set), Form::Text(set)),
    }
}

fn fraction_size(digits: u8) -> usize {
    usize::from(digits).div_ceil(2)
}

impl Wire {
    /// Takes the value's bytes, without their length.
    #[inline]
    pub fn take<'a>(&self, c: &mut Cursor<'a>) -> Parsed<&'a [u8]> {
        let n = match self {
            Wire::Tiny(_) | Wire::Year => 1,
            Wire::Short(_) => 2,
            Wire::Int24(_) | Wire::Date | Wire::OldTime => 3,
            Wire::Long(_) | Wire::Float | Wire::OldTimestamp => 4,
            Wire::LongLong(_) | Wire::Double | Wire::OldDateTime => 8,
            Wire::Decimal { size, .. } | Wire::Enum { size, .. } | Wire::Set { size, .. } => usize::from(*size),
            Wire::Bit { bits } => usize::from(*bits).div_ceil(8),
            Wire::Time(digits) => 3 + fraction_size(*digits),
            Wire::DateTime(digits) => 5 + fraction_size(*digits),
            Wire::Timestamp(digits) => 4 + fraction_size(*digits),
            Wire::Sized { prefix: 1, .. } => usize::from(c.u8()?),
            Wire::Sized { prefix: 2, .. } => usize::from(c.u16()?),
            Wire::Sized { prefix, .. } => c.uint(usize::from(*prefix))? as usize,
        };
        c.take(n)
    }

    /// Appends the value in canonical text form.
    #[inline]
    pub fn render(&self, b: &[u8], out: &mut Vec<u8>) -> Parsed<()> {
        let n = || little(b);
        match self {
            Wire::Tiny(true) | Wire::Short(true) | Wire::Int24(true) | Wire::Long(true) | Wire::LongLong(true) => {
                render::integer(out, n());
            }
            Wire::Tiny(false) => render::integer(out, n() as i8),
            Wire::Short(false) => render::integer(out, n() as i16),
            // The sign is moved up, and down again.
            Wire::Int24(false) => render::integer(out, (n() as i32) << 8 >> 8),
            Wire::Long(false) => render::integer(out, n() as i32),
            Wire::LongLong(false) => render::integer(out, n() as i64),
            Wire::Float => render::single(out, f32::from_bits(n() as u32)),
            Wire::Double => render::double(out, f64::from_bits(n())),
            Wire::Decimal { precision, scale, .. } => render::decimal(out, b, *precision, *scale)?,
            Wire::Year => match n() as u32 {
                0 => out.extend_from_slice(b"0000"),
                y => render::integer(out, y + 1900),
            },
            Wire::Bit { bits } => render::bits(out, b, *bits)?,
            Wire::Date => {
                let n = n() as u32;
                render::date(out, n >> 9, n >> 5 & 15, n & 31)?;
            }
            Wire::OldTime => {
                let n = (n() as i32) << 8 >> 8;
                let size = n.unsigned_abs();
                sign(out, n < 0);
                render::clock(out, size / 10_000, size / 100 % 100, size % 100, 0)?;
            }
            Wire::OldDateTime => {
                let (day, clock) = ((n() / 1_000_000) as u32, (n() % 1_000_000) as u32);
                let hms = (clock / 10_000, clock / 100 % 100, clock % 100);
                render::datetime(out, (day / 10_000, day / 100 % 100, day % 100), hms, 0)?;
            }
            Wire::OldTimestamp => render::timestamp(out, n() as u32, 0)?,
            Wire::Time(_) => time(b, out)?,
            Wire::DateTime(_) => {
                let (whole, fraction) = b.split_at_checked(5).ok_or("a date and time is cut off")?;
                let n = big(whole).checked_sub(1 << 39).ok_or("a negative date and time")?;
                let (ymd, clock) = (n >> 17, n as u32 & 0x1_ffff);
                let (ym, day) = (ymd >> 5, (ymd & 31) as u32);
                let date = ((ym / 13) as u32, (ym % 13) as u32, day);
                render::datetime(out, date, (clock >> 12, clock >> 6 & 63, clock & 63), micros(fraction))?;
            }
            Wire::Timestamp(_) => {
                let (whole, fraction) = b.split_at_checked(4).ok_or("a timestamp is cut off")?;
                render::timestamp(out, big(whole) as u32, micros(fraction))?;
            }
            Wire::Enum { labels, .. } => {
                // Number 0 is the value of what was no label.
                if let Some(i) = n().checked_sub(1) {
                    let label = labels.get(i as usize).ok_or("an ENUM with a number beyond its labels")?;
                    out.extend_from_slice(label.as_bytes());
                }
            }
            Wire::Set { size, labels } => {
                let mut first = true;
                for i in (0..usize::from(*size) * 8).filter(|&i| bit(b, i)) {
                    let label = labels.get(i).ok_or("a SET with a bit beyond its labels")?;
                    if !first {
                        out.push(b',');
                    }
                    first = false;
                    out.extend_from_slice(label.as_bytes());
                }
            }
            Wire::Sized { form, .. } => match form {
                Form::Text(set) => set.decode(b, out)?,
                Form::Hex { width } => render::hex(out, b, *width as usize),
                Form::Json => json::print(b, out)?,
                Form::Address(address) => render::address(out, b, *address)?,
            },
        }
        Ok(())
    }
}

fn sign(out: &mut Vec<u8>, negative: bool) {
    if negative {
        out.push(b'-');
    }
}

/// Microseconds from one to three big-endian bytes: hundredths, ten-thousandths, millionths.
fn micros(bytes: &[u8]) -> u32 {
    let n = big(bytes) as u32;
    match bytes.len() {
        1 => n * 10_000,
        2 => n * 100,
        _ => n,
    }
}

/// TIME (`my_time_packed_from_binary`): one number of whole and fraction, offset so that it sorts; negative values count
/// down from zero as one number.
fn time(b: &[u8], out: &mut Vec<u8>) -> Parsed<()> {
    let fraction_bits = b.len().checked_sub(3).ok_or("a time is cut off")? * 8;
    let n = big(b) as i64 - (0x80_0000_i64 << fraction_bits);
    let size = n.unsigned_abs();
    sign(out, n < 0);
    let whole = (size >> fraction_bits) as u32;
    let fraction = (size & ((1 << fraction_bits) - 1)) as u32;
    let micros = match fraction_bits {
        8 => fraction * 10_000,
        16 => fraction * 100,
        _ => fraction,
    };
    Ok(render::clock(out, whole >> 12 & 1023, whole >> 6 & 63, whole & 63, micros)?)
}
