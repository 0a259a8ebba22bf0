//! Reads a table's rows as they are now, by COPY: whole, in ranges of a number, or by keys.

use async_trait::async_trait;
use bytes::BytesMut;

use super::conn::{PgConn, Purpose};
use super::conninfo::ConnInfo;
use super::copy;
use super::copytext;
use super::quote::{literal, qualified, quoted};
use crate::error::{Error, Result, ResultExt};
use crate::exchange::{Hashes, Reference, ScanBlock, Scanner, Span};
use crate::schema::{Kind, Table};
use crate::value::{Datum, Row};

/// A session that scans.
pub struct PgScanner {
    conn: PgConn,
    buffer: BytesMut,
    fields: usize,
    /// The key's columns, where hashes of the binary form are asked for.
    key: Option<Vec<usize>>,
}

impl PgScanner {
    /// Connects. `who` is `source` or `target`.
    ///
    /// # Errors
    /// As [`PgConn::connect`].
    pub async fn connect(info: &ConnInfo, who: &str) -> Result<PgScanner> {
        let mut conn = PgConn::connect(info, who, Purpose::Sql).await?;
        // A reader that is slow because it was told to be must not be ended, nor hold a snapshot of more than one statement.
        conn.execute("SET statement_timeout = 0; SET default_transaction_isolation = 'read committed'").await?;
        Ok(PgScanner { conn, buffer: BytesMut::new(), fields: 0, key: None })
    }

    async fn start(&mut self, table: &Table, condition: &str, binary: bool) -> Result<()> {
        let columns: Vec<_> = table.columns.iter().map(|c| format!("t.{}", quoted(&c.name))).collect();
        // Rows of partitions are the table's, those of tables that inherit from it are not.
        let only = if table.partitioned { "" } else { "ONLY " };
        let form = if binary { "binary" } else { "text" };
        let sql = format!(
            "COPY (SELECT {} FROM {only}{} t{condition}) TO STDOUT WITH (FORMAT {form})",
            columns.join(", "),
            qualified(&table.name)
        );
        self.fields = table.columns.len();
        self.conn.copy_out_start(&sql).await.with_context(|| format!("reading {}", table.name))
    }
}

#[async_trait]
impl Scanner for PgScanner {
    fn raw_forms(&self, table: &Table) -> Vec<&'static str> {
        // The text of a json value is the value's own; numerics say their scale, and are looked at again as text.
        if table.columns.iter().all(|c| c.portable_binary) { vec![copy::BINARY] } else { Vec::new() }
    }

    async fn extent(&mut self, table: &Table, column: usize) -> Result<Option<(i128, i128)>> {
        let Some(c) = table.columns.get(column) else { return Ok(None) };
        let only = if table.partitioned { "" } else { "ONLY " };
        let sql =
            format!("SELECT min({0})::text, max({0})::text FROM {only}{1}", quoted(&c.name), qualified(&table.name));
        let rows = self.conn.simple_query(&sql).await.with_context(|| format!("reading {}", table.name))?;
        let number = |at: usize| -> Option<i128> { rows.first()?.get(at)?.as_ref()?.parse().ok() };
        Ok(number(0).zip(number(1)))
    }

    async fn open(&mut self, table: &Table, span: Option<&Span>, raw: Option<(&'static str, &[usize])>) -> Result<()> {
        let mut conditions = Vec::new();
        if let Some((span, c)) = span.and_then(|s| Some((s, table.columns.get(s.column)?))) {
            if let Some(from) = span.from {
                conditions.push(format!("t.{} >= {from}", quoted(&c.name)));
            }
            if let Some(to) = span.to {
                conditions.push(format!("t.{} < {to}", quoted(&c.name)));
            }
        }
        let condition =
            if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        self.key = raw.map(|(_, key)| key.to_vec());
        self.start(table, &condition, raw.is_some()).await
    }

    async fn next(&mut self) -> Result<Option<ScanBlock>> {
        let mut bytes = std::mem::take(&mut self.buffer);
        let Some(rows) = self.conn.copy_out_next(&mut bytes).await? else {
            return Ok(None);
        };
        let Some(key) = &self.key else {
            return Ok(Some(ScanBlock::Rows(copytext::rows(bytes.freeze(), self.fields)?)));
        };
        let mut hashes = Vec::with_capacity(rows as usize);
        hash_tuples(&bytes, self.fields, key, &mut hashes)?;
        bytes.clear();
        self.buffer = bytes;
        Ok(Some(ScanBlock::Hashes(hashes)))
    }

    async fn orphans(&mut self, reference: &Reference, limit: usize) -> Result<(u64, Vec<Row>)> {
        let r = reference;
        let given: Vec<String> = r.columns.iter().map(|c| format!("t.{} IS NOT NULL", quoted(c))).collect();
        let pairs = r.columns.iter().zip(&r.referenced);
        let same: Vec<String> = pairs.map(|(c, p)| format!("p.{} = t.{}", quoted(p), quoted(c))).collect();
        let lost = format!(
            "FROM {} t WHERE {} AND NOT EXISTS (SELECT FROM {} p WHERE {})",
            qualified(&r.table),
            given.join(" AND "),
            qualified(&r.to),
            same.join(" AND ")
        );
        let doing = || format!("looking for rows of {} that {} leaves without a row of {}", r.table, r.name, r.to);
        let counted = self.conn.simple_query(&format!("SELECT count(*) {lost}")).await.with_context(doing)?;
        let count = counted.first().and_then(|row| row.first()?.as_ref()?.parse().ok()).unwrap_or(0);
        if count == 0 {
            return Ok((0, Vec::new()));
        }
        let key: Vec<String> = r.key.iter().map(|c| format!("t.{}::text", quoted(c))).collect();
        let sql = format!("SELECT {} {lost} ORDER BY {} LIMIT {limit}", key.join(", "), key.join(", "));
        let rows = self.conn.simple_query(&sql).await.with_context(doing)?;
        Ok((count, rows.iter().map(|row| Row::from_texts(row.iter().map(Option::as_deref))).collect()))
    }

    async fn ask(&mut self, question: &str) -> Result<Option<String>> {
        // Whatever it says, it changes nothing. Names without a schema are found where most people have theirs.
        self.conn.execute("BEGIN TRANSACTION READ ONLY; SET LOCAL search_path = \"$user\", public").await?;
        let answer = self.conn.simple_query(question).await;
        self.conn.execute("ROLLBACK").await?;
        Ok(answer?.into_iter().next().and_then(|row| row.into_iter().next()).flatten())
    }

    async fn find(&mut self, table: &Table, columns: &[usize], keys: &[Row]) -> Result<Vec<Row>> {
        if keys.is_empty() || columns.is_empty() {
            return Ok(Vec::new());
        }
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            let fields: Vec<String> = columns.iter().map(|&c| value(table, c, key.get(c))).collect();
            values.push(format!("({})", fields.join(", ")));
        }
        let names: Vec<String> = (0..columns.len()).map(|n| format!("c{n}")).collect();
        // A key's columns have an index, and are not NULL; others are compared as texts, for not every type has equality.
        let is_key = table.key() == columns;
        let conditions: Vec<String> = columns
            .iter()
            .zip(&names)
            .map(|(&c, n)| {
                let name = quoted(&table.columns[c].name);
                if is_key {
                    format!("t.{name} = v.{n}")
                } else {
                    format!("t.{name}::text IS NOT DISTINCT FROM v.{n}::text")
                }
            })
            .collect();
        let condition = format!(
            " WHERE EXISTS (SELECT FROM (VALUES {}) v ({}) WHERE {})",
            values.join(", "),
            names.join(", "),
            conditions.join(" AND ")
        );
        self.key = None;
        self.start(table, &condition, false).await?;
        let mut found = Vec::new();
        while let Some(block) = self.next().await? {
            if let ScanBlock::Rows(rows) = block {
                found.extend(rows);
            }
        }
        Ok(found)
    }
}

fn value(table: &Table, column: usize, datum: Datum<'_>) -> String {
    let type_name = table.columns.get(column).map_or("text", |c| match c.kind {
        // A blank at the end counts where the column's own type would leave it out.
        Kind::Text if c.type_name.starts_with("character(") => "bpchar",
        _ => c.type_name.as_str(),
    });
    match datum {
        Datum::Text(t) => format!("{}::{type_name}", literal(&String::from_utf8_lossy(t))),
        _ => format!("NULL::{type_name}"),
    }
}

/// Hashes of the rows of COPY's binary form, header and trailer left out: 16 bits of number of fields, and each field's
/// length in 32 bits (-1 for NULL) before its bytes.
///
/// # Errors
/// `Fatal` if a row is cut off, or has another number of fields.
fn hash_tuples(mut bytes: &[u8], fields: usize, key: &[usize], out: &mut Vec<Hashes>) -> Result<()> {
    let broken = || Error::fatal("COPY sent a row that has not the table's fields").hint("this is a bug in Switchyard");
    let mut key_bytes = Vec::new();
    while !bytes.is_empty() {
        let (count, rest) = bytes.split_first_chunk::<2>().ok_or_else(broken)?;
        if usize::from(u16::from_be_bytes(*count)) != fields {
            return Err(broken());
        }
        let row = rest;
        let mut at = 0;
        key_bytes.clear();
        for field in 0..fields {
            let start = at;
            let length = row.get(at..at + 4).and_then(|l| l.first_chunk::<4>()).ok_or_else(broken)?;
            let length = i32::from_be_bytes(*length);
            at += 4 + usize::try_from(length).unwrap_or(0);
            if key.contains(&field) {
                key_bytes.extend_from_slice(row.get(start..at).ok_or_else(broken)?);
            }
        }
        let whole = row.get(..at).ok_or_else(broken)?;
        out.push(Hashes::of(&key_bytes, whole));
        bytes = &row[at..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(fields: &[Option<&[u8]>]) -> Vec<u8> {
        let mut out = (fields.len() as u16).to_be_bytes().to_vec();
        for f in fields {
            out.extend_from_slice(&f.map_or(-1, |f| f.len() as i32).to_be_bytes());
            out.extend_from_slice(f.unwrap_or_default());
        }
        out
    }

    #[test]
    fn given_binary_rows_when_hashed_then_null_and_empty_differ_and_cut_rows_are_refused() {
        let mut bytes = tuple(&[Some(b"1"), None]);
        bytes.extend(tuple(&[Some(b"1"), Some(b"")]));
        bytes.extend(tuple(&[Some(b"2"), Some(b"")]));
        let mut out = Vec::new();
        hash_tuples(&bytes, 2, &[0], &mut out).unwrap();
        assert_eq!(out.len(), 3);
        assert_eq!(out[0].key, out[1].key);
        assert_ne!(out[1].key, out[2].key);
        assert_ne!(out[0].row, out[1].row);
        let ends = [11, 22, 33];
        for cut in 1..bytes.len() {
            assert_eq!(hash_tuples(&bytes[..cut], 2, &[0], &mut Vec::new()).is_ok(), ends.contains(&cut), "{cut}");
        }
        assert!(hash_tuples(&bytes, 3, &[0], &mut Vec::new()).is_err());
    }
}
