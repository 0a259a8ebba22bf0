//! Row events: which rows, undecoded, and their decoding by a table's layout.
//!
//! Source: `libs/mysql/binlog/event/rows_event.h` (`Rows_event`), `sql/rpl_record.cc` (`unpack_row`).

use bytes::Bytes;

use crate::change::Op;
use crate::error::{Error, Result};
use crate::value::{Row, RowsBuilder};

use super::cursor::{Cursor, Parsed, bit, count};
use super::json_diff;
use super::layout::{Form, TableLayout, Wire};

/// Rows of one table that one statement changed; several events may follow each other.
#[derive(Clone, Debug)]
pub struct RowsEvent {
    /// The table, as an earlier TABLE_MAP of the same statement numbered it.
    pub table_id: u64,
    /// What happened to the rows.
    pub op: Op,
    /// Whether this is the statement's last event: table numbers end with it.
    pub statement_end: bool,
    /// The session had `foreign_key_checks = 0`.
    pub no_foreign_key_checks: bool,
    /// What foreign keys changed by themselves is in the log, too (`USE_SQL_FOREIGN_KEY_F`, MySQL from 9.6 on).
    pub cascades_logged: bool,
    /// How many columns the table has.
    pub(super) columns: usize,
    /// Which of them the old rows have, or the new ones of an insert.
    pub(super) present: Bytes,
    /// Which of them the new rows of an update have.
    pub(super) present_after: Bytes,
    /// New rows may hold differences of JSON documents.
    pub(super) partial: bool,
    /// The rows.
    pub(super) rows: Bytes,
}

/// What of the old rows of updates is wanted. Old rows of deletes are always whole.
#[derive(Clone, Copy, Debug)]
pub enum OldRows<'a> {
    /// All columns.
    Whole,
    /// These columns, the others NULL, and no old row at all where none of them changed.
    KeyIfChanged(&'a [usize]),
}

/// One row's change, as [`crate::change::Change`] has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowChange {
    /// The old row, of updates and deletes.
    pub old: Option<Row>,
    /// The new row, of inserts and updates.
    pub new: Option<Row>,
}

/// One row, undecoded: for each column its bytes if it is there and not NULL.
type Raw<'a> = Vec<Slot<'a>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot<'a> {
    Null,
    Unsent,
    Bytes(&'a [u8]),
    /// Differences of a JSON document.
    Diffs(&'a [u8]),
}

impl RowsEvent {
    /// Decodes all rows. They share one buffer.
    ///
    /// # Errors
    /// Rows that the layout does not fit, and values that cannot be rendered; with table and column.
    pub fn decode(&self, layout: &TableLayout, old_rows: OldRows<'_>) -> Result<Vec<RowChange>> {
        self.decode_inner(layout, old_rows).map_err(|(what, column)| {
            let column = column.and_then(|i| layout.columns.get(i)).map_or(String::new(), |c| format!(", column {}", c.name));
            Error::fatal(format!("rows of {}.{}{column} in the binary log: {what}", layout.schema, layout.table))
                .hint("nothing of this transaction was applied; if the value is of a type or character set that is not supported, leave the table out")
        })
    }

    fn decode_inner(
        &self,
        layout: &TableLayout,
        old_rows: OldRows<'_>,
    ) -> Result<Vec<RowChange>, (String, Option<usize>)> {
        let whole = |e: &dyn std::fmt::Display| (e.to_string(), None);
        let n = layout.columns.len();
        if self.columns != n {
            return Err(whole(&format!("they have {} columns, the table has {n}", self.columns)));
        }
        let mut c = Cursor::new(&self.rows);
        let guess = self.rows.len() / (n * 2).max(1) + 1;
        let mut builder = RowsBuilder::with_capacity(guess.min(4096), self.rows.len() + self.rows.len().min(1 << 16));
        // Whether each change has an old row; the builder has the new one first.
        let mut shapes: Vec<(bool, bool)> = Vec::with_capacity(guess.min(4096));
        let (mut first, mut second): (Raw<'_>, Raw<'_>) = (Vec::with_capacity(n), Vec::with_capacity(n));
        while !c.is_empty() {
            let before = c.len();
            image(&mut c, layout, &self.present, false, &mut first)?;
            match self.op {
                Op::Insert => {
                    render(&mut builder, layout, &first, None, None)?;
                    shapes.push((false, true));
                }
                Op::Delete => {
                    render(&mut builder, layout, &first, None, None)?;
                    shapes.push((true, false));
                }
                Op::Update => {
                    image(&mut c, layout, &self.present_after, self.partial, &mut second)?;
                    render(&mut builder, layout, &second, Some(&first), None)?;
                    let only = match old_rows {
                        OldRows::Whole => None,
                        OldRows::KeyIfChanged(key) => Some(key),
                    };
                    // A column that was not sent did not change.
                    let changed = only.is_none_or(|key| {
                        key.iter().any(|&k| {
                            second.get(k).is_some_and(|s| *s != Slot::Unsent) && first.get(k) != second.get(k)
                        })
                    });
                    if changed {
                        render(&mut builder, layout, &first, None, only)?;
                    }
                    shapes.push((changed, true));
                }
            }
            if c.len() == before {
                return Err(whole(&"rows without any bytes"));
            }
        }
        let mut rows = builder.finish().ok_or_else(|| whole(&"their text is larger than 4 GiB"))?;
        Ok(shapes
            .into_iter()
            .map(|(old, new)| {
                let new = new.then(|| rows.next()).flatten();
                RowChange { old: old.then(|| rows.next()).flatten(), new }
            })
            .collect())
    }
}

/// Cuts one row into its columns.
fn image<'a>(
    c: &mut Cursor<'a>,
    layout: &TableLayout,
    present: &[u8],
    partial: bool,
    out: &mut Raw<'a>,
) -> Result<(), (String, Option<usize>)> {
    out.clear();
    let at = |i: usize| move |e: super::cursor::Wrong| (e.to_string(), Some(i));
    let row = |e: super::cursor::Wrong| (e.to_string(), None);
    let n = layout.columns.len();
    let is_json = |w: &Wire| matches!(w, Wire::Sized { form: Form::Json, .. });
    // With PARTIAL_JSON a bit for each JSON column of the table says whether it holds differences.
    let mut partial_bits: &[u8] = &[];
    if partial && c.packed().map_err(row)? & 1 == 1 {
        let documents = layout.columns.iter().filter(|c| is_json(&c.wire)).count();
        partial_bits = c.take(documents.div_ceil(8)).map_err(row)?;
    }
    let all = present.is_empty();
    let sent = if all { n } else { count(present, n) };
    let nulls = c.take(sent.div_ceil(8)).map_err(row)?;
    let (mut nth, mut document) = (0, 0);
    for (i, column) in layout.columns.iter().enumerate() {
        let differs = !partial_bits.is_empty() && is_json(&column.wire) && {
            document += 1;
            bit(partial_bits, document - 1)
        };
        if !all && !bit(present, i) {
            out.push(Slot::Unsent);
            continue;
        }
        let null = bit(nulls, nth);
        nth += 1;
        out.push(if null {
            Slot::Null
        } else {
            let bytes = column.wire.take(c).map_err(at(i))?;
            if differs { Slot::Diffs(bytes) } else { Slot::Bytes(bytes) }
        });
    }
    Ok(())
}

/// Adds a row to the builder: all columns, or `only` some and NULL for the others.
fn render(
    builder: &mut RowsBuilder,
    layout: &TableLayout,
    row: &Raw<'_>,
    old: Option<&Raw<'_>>,
    only: Option<&[usize]>,
) -> Result<(), (String, Option<usize>)> {
    builder.begin(row.len());
    for (i, (slot, column)) in row.iter().zip(&layout.columns).enumerate() {
        if column.skipped {
            continue;
        }
        if only.is_some_and(|only| !only.contains(&i)) {
            builder.null();
            continue;
        }
        match slot {
            Slot::Null => builder.null(),
            Slot::Unsent => builder.unsent(),
            Slot::Bytes(bytes) => {
                column.wire.render(bytes, builder.buffer()).map_err(|e| (e.to_string(), Some(i)))?;
                builder.text();
            }
            Slot::Diffs(diffs) => {
                let document = match old.and_then(|o| o.get(i)) {
                    Some(Slot::Bytes(document)) => Ok(*document),
                    _ => Err("a JSON difference without the old document".into()),
                };
                document
                    .and_then(|document| -> Parsed<()> { json_diff::apply(document, diffs, builder.buffer()) })
                    .map_err(|e| (e.to_string(), Some(i)))?;
                builder.text();
            }
        }
    }
    builder.end();
    Ok(())
}
