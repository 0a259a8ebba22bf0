//! Rows at the wire's speed: packets are walked by their headers, and handed on many at a time without a copy.

use bytes::Bytes;

use super::conn::{Head, MyConn, READ_SIZE, State, command};
use super::packet::{self, ColumnDef, MAX_PAYLOAD, MORE_RESULTS};
use crate::error::{Error, Result};

/// Whole rows in the text protocol, in the buffer they were read into.
#[derive(Clone, Debug)]
pub struct RowBlock {
    bytes: Bytes,
    /// Where each row's payload starts and ends.
    rows: Vec<(u32, u32)>,
}

impl RowBlock {
    /// How many rows it holds; never none.
    pub fn len(&self) -> usize {
        self.rows.len()
    }
    /// Whether it holds no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
    /// What the block takes in memory.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
    /// The rows' payloads, for [`packet::text_fields`].
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.rows.iter().map(|&(start, end)| &self.bytes[start as usize..end as usize])
    }
    /// The rows' payloads as slices that keep the block's buffer.
    pub fn slices(&self) -> impl ExactSizeIterator<Item = Bytes> + '_ {
        self.rows.iter().map(|&(start, end)| self.bytes.slice(start as usize..end as usize))
    }
}

/// How far the buffer has been walked.
#[derive(Debug, Default)]
pub(super) struct Scan {
    at: usize,
    rows: Vec<(u32, u32)>,
}

impl MyConn {
    /// Sends one statement that returns rows, and reads its columns. [`MyConn::next_block`] reads the rows.
    ///
    /// # Errors
    /// As [`MyConn::execute`]; `Fatal` if the statement returns no rows.
    pub async fn query_start(&mut self, sql: impl AsRef<[u8]>) -> Result<Vec<ColumnDef>> {
        self.send(command::QUERY, sql.as_ref()).await?;
        match self.result_head().await? {
            Head::Rows(columns) => {
                self.state = State::Rows;
                self.rows = Scan::default();
                Ok(columns)
            }
            Head::Done(_) => Err(self.broken("no rows for a statement that should have some")),
            Head::File => Err(self.broken("a request for a file, which was not offered")),
        }
    }

    /// The next rows, about 256 KiB of them or one larger row; `None` once all are read. Cancel-safe.
    ///
    /// # Errors
    /// The server's own, by its number; `Retry` when the connection fails.
    pub async fn next_block(&mut self) -> Result<Option<RowBlock>> {
        if self.state != State::Rows {
            return Err(Error::retry(format!("{}: no rows are on their way", self.name())));
        }
        loop {
            match self.scan()? {
                Scanned::Block(block) => return Ok(Some(block)),
                Scanned::More => self.read_some().await?,
                Scanned::Alone => {
                    // The end, an error, or a row of more than 16 MiB.
                    let packet = loop {
                        if let Some(packet) = self.buffered_packet()? {
                            break packet;
                        }
                        self.read_some().await?;
                    };
                    if packet.first() == Some(&0xff) {
                        return Err(self.failed(&packet));
                    }
                    let Some(end) = self.end_of_rows(&packet)? else {
                        let rows = vec![(0, packet.len() as u32)];
                        return Ok(Some(RowBlock { bytes: packet, rows }));
                    };
                    if end.status & MORE_RESULTS != 0 {
                        return Err(self.broken("a second result for one statement"));
                    }
                    self.finished(&end);
                    return Ok(None);
                }
            }
        }
    }

    /// Walks the packets in the buffer from where it stopped last.
    fn scan(&mut self) -> Result<Scanned> {
        if !self.large.is_empty() {
            return Ok(Scanned::Alone);
        }
        loop {
            let rest = &self.buf[self.rows.at..];
            let head = packet::header(rest);
            let (len, sequence) = head.unwrap_or((0, 0));
            if head.is_none() || rest.len() < 4 + len && len < MAX_PAYLOAD {
                // A block is full, or the next row does not fit beside it.
                if !self.rows.rows.is_empty() && (self.rows.at >= READ_SIZE / 2 || self.rows.at + 4 + len > READ_SIZE) {
                    return Ok(Scanned::Block(self.take_block()));
                }
                // A block begins a chunk of its own: carrying the first few rows over costs less than cutting a block short.
                let block = if self.rows.rows.is_empty() { READ_SIZE } else { 0 };
                self.make_room((self.rows.at + 4 + len).max(block));
                return Ok(Scanned::More);
            }
            let first = rest.get(4).copied();
            if len == MAX_PAYLOAD || matches!(first, Some(0xfe | 0xff)) {
                return Ok(if self.rows.rows.is_empty() { Scanned::Alone } else { Scanned::Block(self.take_block()) });
            }
            self.expect(sequence)?;
            let start = self.rows.at + 4;
            self.rows.rows.push((start as u32, (start + len) as u32));
            self.rows.at = start + len;
        }
    }

    fn take_block(&mut self) -> RowBlock {
        let scan = std::mem::take(&mut self.rows);
        self.rows.rows.reserve(scan.rows.len());
        RowBlock { bytes: self.buf.split_to(scan.at).freeze(), rows: scan.rows }
    }
}

enum Scanned {
    /// Rows to hand on.
    Block(RowBlock),
    /// More has to be read first.
    More,
    /// The next packet is not a row among many.
    Alone,
}
