//! Rows of the text protocol in canonical text form, and what must be selected so that they are whole.

use super::packet;
use super::quote::quoted;
use super::rows::RowBlock;
use super::types::{ColumnType, TOO_LARGE, is_zero_date};
use crate::error::{Error, Result};
use crate::schema::TableName;
use crate::value::{Row, RowsBuilder};

/// What is being read.
#[derive(Clone, Debug)]
pub struct Reading {
    /// `source` or `target`, for messages.
    pub side: &'static str,
    /// The table.
    pub name: TableName,
    /// Names and types of the columns, in the order of the rows' fields.
    pub columns: Vec<(String, ColumnType)>,
    /// Which of them find a row, for messages.
    pub key: Vec<usize>,
    /// NULL stands for dates that are none.
    pub null_dates: bool,
}

impl Reading {
    /// The list of a SELECT that reads the columns; `before` stands before each name (`t.`).
    pub fn select_list(&self, before: &str) -> String {
        let exprs: Vec<String> =
            self.columns.iter().map(|(n, t)| t.select_expr(&format!("{before}{}", quoted(n)))).collect();
        // A table may have no column that is read.
        if exprs.is_empty() { "1".to_owned() } else { exprs.join(", ") }
    }

    /// `id=42`, of a row as it came.
    fn key_text(&self, row: &[u8]) -> String {
        let fields: Vec<_> = packet::text_fields(row).map_while(|f| f.ok()).collect();
        let value = |k: &usize| {
            let text = fields.get(*k).cloned().flatten().and_then(|place| row.get(place));
            let text = text.map_or("NULL".into(), String::from_utf8_lossy);
            format!("{}={text}", self.columns.get(*k).map_or("", |(name, _)| name))
        };
        match self.key.is_empty() {
            true => "(the table has no key)".to_owned(),
            false => self.key.iter().map(value).collect::<Vec<_>>().join(","),
        }
    }

    /// Rows of a block in canonical text form, all in one buffer.
    ///
    /// # Errors
    /// `Fatal` with table, column and key for a value that is none of its column's type; `Retry` for a broken row.
    pub fn rows(&self, block: &RowBlock) -> Result<Vec<Row>> {
        let mut made = RowsBuilder::with_capacity(block.len(), block.bytes() + block.bytes() / 4);
        for row in block.iter() {
            made.begin(self.columns.len());
            let mut fields = packet::text_fields(row);
            for (name, kind) in &self.columns {
                match fields.next() {
                    Some(Ok(Some(place))) => {
                        let text = row.get(place).unwrap_or_default();
                        if self.null_dates && kind.is_date() && is_zero_date(text) {
                            made.null();
                            continue;
                        }
                        kind.render_text(text, made.buffer()).map_err(|e| self.unreadable(name, row, e))?;
                        made.text();
                    }
                    Some(Ok(None)) => made.null(),
                    _ => return Err(Error::retry(format!("{}: the {} sent a broken row", self.name, self.side))),
                }
            }
            made.end();
        }
        let rows = made.finish().ok_or_else(|| Error::fatal(format!("{}: a row of 4 GiB or more", self.name)))?;
        Ok(rows.collect())
    }

    fn unreadable(&self, column: &str, row: &[u8], why: &'static str) -> Error {
        let row = self.key_text(row);
        let what = format!("{}: column {column} of the row {row} cannot be read: {why}", self.name);
        Error::fatal(what).hint(match why == TOO_LARGE {
            true => format!("SET GLOBAL max_allowed_packet = 1073741824 at the {}, then start again", self.side),
            false => format!("mend the row at the {}, or exclude the table", self.side),
        })
    }
}
