//! A row as it travels: one buffer, and where each field lies in it.
//!
//! Every field is in *canonical text form*: PostgreSQL's output under `DateStyle=ISO`, `IntervalStyle=postgres`,
//! `TimeZone=UTC`, `bytea_output=hex`, `extra_float_digits=1`, `lc_monetary=C`. A source renders what its wire says
//! into that form once; every target reads that form. Fields stay slices of the frame they arrived in until something
//! must look at them (docs/adr/0001).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

const NULL: u32 = u32::MAX;
const UNSENT: u32 = u32::MAX - 1;

/// One field of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datum<'a> {
    /// SQL NULL.
    Null,
    /// The source did not send the field because it did not change (an out-of-line TOAST value). Never NULL, never written.
    Unsent,
    /// The field in canonical text form.
    Text(&'a [u8]),
}

/// A row: cheap to clone (one reference count), eight bytes a field beside the frame.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    buf: Bytes,
    fields: Box<[Field]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Field {
    start: u32,
    /// Length in bytes, or one of the two marks above.
    len: u32,
}

impl std::fmt::Debug for Row {
    /// Shows the shape only: row values never reach logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Row({} fields, {} bytes)", self.fields.len(), self.bytes())
    }
}

impl Row {
    /// How many fields the row has.
    pub fn len(&self) -> usize {
        self.fields.len()
    }
    /// Whether the row has no field at all (PostgreSQL permits such tables).
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
    /// The field at `index`; [`Datum::Null`] past the end, so that a row from before an added column reads as such.
    #[inline]
    pub fn get(&self, index: usize) -> Datum<'_> {
        match self.fields.get(index) {
            None => Datum::Null,
            Some(Field { len: NULL, .. }) => Datum::Null,
            Some(Field { len: UNSENT, .. }) => Datum::Unsent,
            Some(f) => Datum::Text(&self.buf[f.start as usize..f.start as usize + f.len as usize]),
        }
    }
    /// The fields in order.
    pub fn iter(&self) -> impl Iterator<Item = Datum<'_>> {
        (0..self.fields.len()).map(|i| self.get(i))
    }
    /// Whether any field was not sent.
    pub fn has_unsent(&self) -> bool {
        self.fields.iter().any(|f| f.len == UNSENT)
    }
    /// Bytes that the row's fields hold, without overhead.
    pub fn bytes(&self) -> usize {
        self.fields.iter().map(|f| if f.len < UNSENT { f.len as usize } else { 0 }).sum()
    }
    /// This row with every unsent field taken from `older` where that one has it.
    pub fn fill_unsent(&self, older: &Row) -> Row {
        if !self.has_unsent() {
            return self.clone();
        }
        let mut b = RowBuilder::with_capacity(self.fields.len(), self.bytes() + older.bytes());
        for i in 0..self.fields.len() {
            b.push(match self.get(i) {
                Datum::Unsent => older.get(i),
                d => d,
            });
        }
        b.finish()
    }
    /// A row of one field, the one at `index` of `row`.
    pub fn clone_field(row: &Row, index: usize) -> Row {
        let mut b = RowBuilder::with_capacity(1, 32);
        b.push(row.get(index));
        b.finish()
    }
    /// A row made of `fields`, mostly for tests.
    pub fn from_texts<'a>(fields: impl IntoIterator<Item = Option<&'a str>>) -> Row {
        let mut b = RowBuilder::with_capacity(4, 64);
        for f in fields {
            b.push(f.map_or(Datum::Null, |t| Datum::Text(t.as_bytes())));
        }
        b.finish()
    }
}

/// Builds a [`Row`] that owns its bytes.
#[derive(Default)]
pub struct RowBuilder {
    buf: Vec<u8>,
    fields: Vec<Field>,
}

impl RowBuilder {
    /// Room for `fields` fields and `bytes` bytes.
    pub fn with_capacity(fields: usize, bytes: usize) -> Self {
        RowBuilder { buf: Vec::with_capacity(bytes), fields: Vec::with_capacity(fields) }
    }
    /// Appends a field.
    pub fn push(&mut self, datum: Datum<'_>) {
        let start = self.buf.len() as u32;
        let len = match datum {
            Datum::Null => NULL,
            Datum::Unsent => UNSENT,
            Datum::Text(t) => {
                self.buf.extend_from_slice(t);
                t.len() as u32
            }
        };
        self.fields.push(Field { start, len });
    }
    /// Whether the field that was appended last is NULL.
    pub fn last_is_null(&self) -> bool {
        self.fields.last().is_some_and(|f| f.len == NULL)
    }
    /// The finished row.
    pub fn finish(self) -> Row {
        Row { buf: self.buf.into(), fields: self.fields.into_boxed_slice() }
    }
}

/// Describes fields inside a frame that already lies in memory, without copying them.
#[derive(Default)]
pub struct RowSlicer {
    fields: Vec<Field>,
}

impl RowSlicer {
    /// Room for `fields` fields.
    pub fn with_capacity(fields: usize) -> Self {
        RowSlicer { fields: Vec::with_capacity(fields) }
    }
    /// A NULL field.
    pub fn null(&mut self) {
        self.fields.push(Field { start: 0, len: NULL });
    }
    /// A field that was not sent.
    pub fn unsent(&mut self) {
        self.fields.push(Field { start: 0, len: UNSENT });
    }
    /// A field of `len` bytes at `start` of the frame.
    pub fn text(&mut self, start: usize, len: usize) {
        self.fields.push(Field { start: start as u32, len: len as u32 });
    }
    /// The row, or `None` if a field lies outside `frame`.
    pub fn finish(self, frame: Bytes) -> Option<Row> {
        let end = frame.len();
        if frame.len() >= UNSENT as usize
            || self.fields.iter().any(|f| f.len < UNSENT && f.start as usize + f.len as usize > end)
        {
            return None;
        }
        Some(Row { buf: frame, fields: self.fields.into_boxed_slice() })
    }
}

/// Builds many rows that share one buffer: one allocation of text for all of them, one of fields for each.
#[derive(Default)]
pub struct RowsBuilder {
    buf: Vec<u8>,
    rows: Vec<Box<[Field]>>,
    current: Vec<Field>,
    /// Where the field that is being written began.
    start: usize,
}

impl RowsBuilder {
    /// Room for `rows` rows of `bytes` bytes together.
    pub fn with_capacity(rows: usize, bytes: usize) -> Self {
        RowsBuilder { buf: Vec::with_capacity(bytes), rows: Vec::with_capacity(rows), ..Self::default() }
    }
    /// Begins a row of `fields` fields.
    pub fn begin(&mut self, fields: usize) {
        self.current = Vec::with_capacity(fields);
        self.start = self.buf.len();
    }
    /// Where the next field's text is appended to, before [`RowsBuilder::text`] closes it. What is there is not touched.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buf
    }
    /// The field ends that was appended to the buffer.
    pub fn text(&mut self) {
        // What does not fit 32 bits is refused by `finish`.
        let len = self.buf.len().saturating_sub(self.start) as u32;
        self.current.push(Field { start: self.start as u32, len });
        self.start = self.buf.len();
    }
    /// A NULL field.
    pub fn null(&mut self) {
        self.current.push(Field { start: 0, len: NULL });
    }
    /// A field that was not sent.
    pub fn unsent(&mut self) {
        self.current.push(Field { start: 0, len: UNSENT });
    }
    /// The row ends.
    pub fn end(&mut self) {
        self.rows.push(std::mem::take(&mut self.current).into_boxed_slice());
    }
    /// Bytes of text so far.
    pub fn bytes(&self) -> usize {
        self.buf.len()
    }
    /// The rows in order, or `None` if their text together is 4 GiB or more.
    pub fn finish(self) -> Option<impl Iterator<Item = Row>> {
        if self.buf.len() >= UNSENT as usize {
            return None;
        }
        let buf = Bytes::from(self.buf);
        Some(self.rows.into_iter().map(move |fields| Row { buf: buf.clone(), fields }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_unsent_fields_when_filled_then_only_those_come_from_the_older_row() {
        let older = Row::from_texts([Some("1"), Some("big"), None]);
        let mut b = RowBuilder::default();
        b.push(Datum::Text(b"2"));
        b.push(Datum::Unsent);
        b.push(Datum::Text(b"x"));
        let row = b.finish().fill_unsent(&older);
        assert_eq!(row.get(0), Datum::Text(b"2"));
        assert_eq!(row.get(1), Datum::Text(b"big"));
        assert_eq!(row.get(2), Datum::Text(b"x"));
    }

    #[test]
    fn given_a_field_outside_the_frame_when_sliced_then_there_is_no_row() {
        let mut s = RowSlicer::default();
        s.text(2, 9);
        assert!(s.finish(Bytes::from_static(b"abc")).is_none());
    }

    #[test]
    fn given_rows_in_one_buffer_when_finished_then_each_has_its_own_fields() {
        let mut b = RowsBuilder::with_capacity(2, 16);
        for texts in [["a", "bc"], ["", "d"]] {
            b.begin(4);
            for t in texts {
                b.buffer().extend_from_slice(t.as_bytes());
                b.text();
            }
            b.null();
            b.unsent();
            b.end();
        }
        let rows: Vec<Row> = b.finish().unwrap().collect();
        assert_eq!(rows[0].get(1), Datum::Text(b"bc"));
        assert_eq!(rows[1].get(0), Datum::Text(b""));
        assert_eq!(rows[1].get(1), Datum::Text(b"d"));
        assert_eq!((rows[1].get(2), rows[1].get(3)), (Datum::Null, Datum::Unsent));
    }
}
