//! COPY's text form to rows. Pure.

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::value::{Datum, Row, RowBuilder, RowSlicer};

/// Rows of a block of whole lines. A row without escapes stays a slice of the block.
///
/// # Errors
/// `Fatal` if a line has another number of fields, or an unfinished escape.
pub fn rows(block: Bytes, fields: usize) -> Result<Vec<Row>> {
    let mut out = Vec::new();
    let mut start = 0;
    while start < block.len() {
        let Some(len) = memchr::memchr(b'\n', &block[start..]) else {
            return Err(Error::fatal("COPY sent an unfinished line"));
        };
        let line = block.slice(start..start + len);
        start += len + 1;
        out.push(row(line, fields)?);
    }
    Ok(out)
}

fn row(line: Bytes, fields: usize) -> Result<Row> {
    let wrong = || Error::fatal(format!("COPY sent a line that has not {fields} fields"));
    if fields == 0 {
        return Ok(RowBuilder::default().finish());
    }
    if memchr::memchr(b'\\', &line).is_none() {
        let mut s = RowSlicer::with_capacity(fields);
        let mut start = 0;
        for _ in 1..fields {
            let len = memchr::memchr(b'\t', &line[start..]).ok_or_else(wrong)?;
            s.text(start, len);
            start += len + 1;
        }
        let len = line.len() - start;
        if memchr::memchr(b'\t', &line[start..]).is_some() {
            return Err(wrong());
        }
        s.text(start, len);
        return s.finish(line).ok_or_else(wrong);
    }
    let mut b = RowBuilder::with_capacity(fields, line.len());
    let mut n = 0;
    let mut field = Vec::new();
    for raw in line.split(|&c| c == b'\t') {
        n += 1;
        if raw == b"\\N" {
            b.push(Datum::Null);
            continue;
        }
        field.clear();
        let mut bytes = raw.iter();
        while let Some(&c) = bytes.next() {
            if c != b'\\' {
                field.push(c);
                continue;
            }
            field.push(match bytes.next() {
                Some(b'n') => b'\n',
                Some(b't') => b'\t',
                Some(b'r') => b'\r',
                Some(b'b') => 8,
                Some(b'f') => 12,
                Some(b'v') => 11,
                Some(&other) => other,
                None => return Err(Error::fatal("COPY sent an unfinished escape")),
            });
        }
        b.push(Datum::Text(&field));
    }
    if n == fields { Ok(b.finish()) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_lines_with_and_without_escapes_when_read_then_fields_are_as_they_were() {
        let got = rows(Bytes::from_static(b"1\tplain\t\n\\N\ta\\tb\\\\c\\nd\t\\\\N\n"), 3).unwrap();
        let first: Vec<_> = got[0].iter().collect();
        assert_eq!(first, [Datum::Text(b"1"), Datum::Text(b"plain"), Datum::Text(b"")]);
        let again: Vec<_> = got[1].iter().collect();
        assert_eq!(again, [Datum::Null, Datum::Text(b"a\tb\\c\nd"), Datum::Text(b"\\N")]);
        assert!(rows(Bytes::from_static(b"1\t2\n"), 3).is_err());
        assert!(rows(Bytes::from_static(b"1\t2\t3\t4\n"), 3).is_err());
        assert!(rows(Bytes::from_static(b"1\t2\\"), 2).is_err());
    }
}
