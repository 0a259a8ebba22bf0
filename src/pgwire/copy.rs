//! COPY at the wire's speed: frames are walked by their headers, payloads are moved in large blocks.
//!
//! Source: PostgreSQL manual, "COPY Operations" and "COPY: File Formats"; the server sends one row a CopyData message
//! (`CopySendEndOfRow`, copyto.c), in binary form the file header lies before the first row in the same message.

use std::pin::Pin;
use std::task::Poll;

use bytes::{Buf, BufMut, BytesMut};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::conn::{PgConn, READ_SIZE, frame_len};
use crate::error::{Error, Result};
use crate::exchange::CopyFormat;
use crate::schema::Table;

/// A COPY IN message is at most this long.
const WRITE_SIZE: usize = 256 * 1024;
/// Smaller pieces are collected up to this size before they are sent.
const COLLECT: usize = 128 * 1024;
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, length of the (empty) extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: &[u8] = &[0xff, 0xff];

/// The raw forms that PostgreSQL servers hand to each other, named for [`CopyFormat::Raw`].
pub const BINARY: &str = "postgres copy binary";
/// See [`BINARY`].
pub const TEXT: &str = "postgres copy text";

/// The forms in which a table's rows can be copied, best first. Binary only where no value holds a server's own ids.
pub fn formats(table: &Table) -> Vec<CopyFormat> {
    let mut formats = vec![CopyFormat::Raw(TEXT), CopyFormat::Rows];
    if table.columns.iter().all(|c| c.portable_binary) {
        formats.insert(0, CopyFormat::Raw(BINARY));
    }
    formats
}

/// The COPY that runs on a connection.
#[derive(Debug, Default)]
pub(super) enum CopyState {
    /// None.
    #[default]
    Idle,
    /// COPY TO STDOUT.
    Out {
        /// Binary rows.
        binary: bool,
        /// The file header was taken off already.
        begun: bool,
        /// Bytes of the current row that are still to come.
        rest: usize,
    },
    /// COPY FROM STDIN.
    In {
        /// Header and trailer are ours to add.
        framed: bool,
    },
}

impl PgConn {
    /// Starts a `COPY … TO STDOUT`, text or binary; then call [`PgConn::copy_out_next`] until it says `None`.
    pub async fn copy_out_start(&mut self, sql: &str) -> Result<()> {
        let binary = self.start_copy(sql, b'H', "COPY TO STDOUT").await?;
        self.copy = CopyState::Out { binary, begun: !binary, rest: 0 };
        Ok(())
    }

    /// Appends whole rows to `out` until it holds about 256 KiB, and says how many; `None` after the last one. The
    /// header and the trailer of the binary form are left out.
    pub async fn copy_out_next(&mut self, out: &mut BytesMut) -> Result<Option<u64>> {
        let CopyState::Out { binary, mut begun, mut rest } = self.copy else {
            return Err(Error::fatal(format!("{}: no COPY TO STDOUT runs", self.name())));
        };
        out.reserve(READ_SIZE);
        let mut rows = 0;
        loop {
            if rest > 0 {
                // A row that is larger than the buffer goes through it in pieces.
                let n = rest.min(self.buf.len());
                out.extend_from_slice(&self.buf[..n]);
                self.buf.advance(n);
                rest -= n;
                if rest > 0 {
                    self.fill(1).await?;
                    continue;
                }
                rows += 1;
            }
            // The fast path: whole rows that lie in the buffer.
            let mut at = 0;
            let mut other = None;
            while out.len() < READ_SIZE {
                let here = &self.buf[at..];
                let len = match frame_len(here) {
                    Ok(Some(len)) => len,
                    Ok(None) => break,
                    Err(what) => return Err(self.broken(what)),
                };
                if here[0] != b'd' {
                    other = Some((here[0], len));
                    break;
                }
                if !begun || here.len() < len {
                    break;
                }
                if !(binary && len == 7 && here[5..7] == *TRAILER) {
                    out.extend_from_slice(&here[5..len]);
                    rows += 1;
                }
                at += len;
            }
            self.buf.advance(at);
            if out.len() >= READ_SIZE {
                self.copy = CopyState::Out { binary, begun, rest };
                return Ok(Some(rows));
            }
            if let Some((b'N' | b'S', len)) = other {
                self.fill_to(len).await?;
                self.buf.advance(len);
                continue;
            }
            if other.is_some() {
                let (tag, body) = self.message().await?;
                match tag {
                    b'c' | b'C' => {}
                    b'E' => {
                        self.copy = CopyState::Idle;
                        return Err(self.failed("copying out", &body).await);
                    }
                    b'Z' if rows > 0 => {
                        // Say the end with the next call.
                        self.busy = false;
                        self.copy = CopyState::Out { binary, begun, rest: 0 };
                        return Ok(Some(rows));
                    }
                    b'Z' => {
                        self.busy = false;
                        self.copy = CopyState::Idle;
                        return Ok(None);
                    }
                    _ => {}
                }
                continue;
            }
            if !self.busy {
                self.copy = CopyState::Idle;
                return Ok(None);
            }
            let Some(len) = frame_len(&self.buf).map_err(|what| self.broken(what))? else {
                self.fill(1).await?;
                continue;
            };
            if !begun {
                self.fill_to(len.min(5 + SIGNATURE.len() + 8)).await?;
                let skip = file_header(&self.buf[5..]).filter(|n| 5 + n <= len);
                let Some(skip) = skip else { return Err(self.broken("a COPY without the binary form's header")) };
                begun = true;
                // What follows the header is a frame of its own: write its head over the header's end.
                let left = len - 5 - skip;
                self.fill_to(5 + skip).await?;
                self.buf.advance(5 + skip);
                if left == 0 {
                    continue;
                }
                self.fill_to(left.min(2)).await?;
                if left == 2 && self.buf[..2] == *TRAILER {
                    self.buf.advance(2);
                    continue;
                }
                rest = left;
                continue;
            }
            if len > READ_SIZE {
                // Grow `out` once, exactly, instead of by doubling.
                out.reserve(len - 5);
                self.buf.advance(5);
                rest = len - 5;
                continue;
            }
            self.fill_to(len).await?;
        }
    }

    /// Starts a `COPY … FROM STDIN`. With `framed`, header and trailer of the binary form are added here, and the
    /// caller writes rows only.
    pub async fn copy_in_start(&mut self, sql: &str, framed: bool) -> Result<()> {
        self.start_copy(sql, b'G', "COPY FROM STDIN").await?;
        self.copy = CopyState::In { framed };
        if framed {
            self.collect(HEADER);
        }
        Ok(())
    }

    /// Writes bytes; they need not end where a row ends.
    ///
    /// # Errors
    /// The server's own as soon as it says so (a row that does not fit, a full disk), not only at the end.
    pub async fn copy_in_write(&mut self, mut data: &[u8]) -> Result<()> {
        self.expect_copy_in()?;
        if self.out.len() + data.len() < COLLECT {
            self.collect(data);
            return Ok(());
        }
        if data.len() < COLLECT {
            self.collect(data);
            return self.send_collected().await;
        }
        self.send_collected().await?;
        while !data.is_empty() {
            let (piece, later) = data.split_at(data.len().min(WRITE_SIZE));
            let len = (piece.len() as u32 + 4).to_be_bytes();
            let head = [b'd', len[0], len[1], len[2], len[3]];
            self.send_watching(&head, piece).await?;
            data = later;
        }
        Ok(())
    }

    /// Ends the COPY and says how many rows the server took.
    pub async fn copy_in_finish(&mut self) -> Result<u64> {
        let framed = self.expect_copy_in()?;
        if framed {
            self.collect(TRAILER);
        }
        self.send_collected().await?;
        self.copy = CopyState::Idle;
        frontend::copy_done(&mut self.out);
        self.flush().await?;
        let mut rows = 0;
        loop {
            let (tag, body) = self.message().await?;
            match tag {
                b'C' => rows = command_rows(&body),
                b'Z' => {
                    self.busy = false;
                    return Ok(rows);
                }
                b'E' => return Err(self.failed("copying in", &body).await),
                _ => {}
            }
        }
    }

    /// Gives the COPY up; the server takes nothing of it.
    pub async fn copy_in_fail(&mut self, why: &str) -> Result<()> {
        self.expect_copy_in()?;
        self.copy = CopyState::Idle;
        self.out.clear();
        frontend::copy_fail(&why.replace('\0', " "), &mut self.out)?;
        self.flush().await?;
        loop {
            // The error that follows is our own wish.
            if let (b'Z', _) = self.message().await? {
                self.busy = false;
                return Ok(());
            }
        }
    }

    /// Whether it is binary.
    async fn start_copy(&mut self, sql: &str, answer: u8, what: &str) -> Result<bool> {
        self.send_query(sql).await?;
        loop {
            let (tag, body) = self.message().await?;
            match tag {
                t if t == answer => return Ok(body.first() == Some(&1)),
                b'E' => return Err(self.failed("starting a COPY", &body).await),
                b'G' | b'H' | b'W' | b'Z' => {
                    return Err(self.broken(format_args!("another answer than {what} has")));
                }
                _ => {}
            }
        }
    }

    fn expect_copy_in(&self) -> Result<bool> {
        match self.copy {
            CopyState::In { framed } => Ok(framed),
            _ => Err(Error::fatal(format!("{}: no COPY FROM STDIN runs", self.name()))),
        }
    }

    /// Appends to the one CopyData message that waits in `out`; its length is written when it is sent.
    fn collect(&mut self, data: &[u8]) {
        if self.out.is_empty() {
            self.out.reserve(COLLECT + 5);
            self.out.put_slice(&[b'd', 0, 0, 0, 0]);
        }
        self.out.extend_from_slice(data);
    }

    async fn send_collected(&mut self) -> Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let mut message = std::mem::take(&mut self.out);
        let len = (message.len() as u32 - 1).to_be_bytes();
        message[1..5].copy_from_slice(&len);
        let sent = self.send_watching(&message, &[]).await;
        message.clear();
        self.out = message;
        sent
    }

    /// Writes a whole message (`head`, then `body`) and looks for what the server says meanwhile.
    async fn send_watching(&mut self, head: &[u8], body: &[u8]) -> Result<()> {
        let mut heard = self.stream.write_heard(&mut self.buf, head).await.map_err(|e| self.lost(e))?;
        heard |= self.stream.write_heard(&mut self.buf, body).await.map_err(|e| self.lost(e))?;
        if self.is_tls() {
            self.stream.flush().await.map_err(|e| self.lost(e))?;
        }
        if !heard && self.buf.is_empty() {
            return Ok(());
        }
        // Only whole messages are looked at; the message that we sent is whole too, so the connection stays usable.
        while let Some(len) = frame_len(&self.buf).map_err(|what| self.broken(what))? {
            match self.buf[0] {
                b'N' | b'S' if self.buf.len() >= len => self.buf.advance(len),
                b'N' | b'S' => break,
                _ => {
                    let (tag, body) = self.message().await?;
                    if tag == b'E' {
                        self.copy = CopyState::Idle;
                        self.out.clear();
                        return Err(self.failed("copying in", &body).await);
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads until at least `needed` bytes are there.
    async fn fill_to(&mut self, needed: usize) -> Result<()> {
        while self.buf.len() < needed {
            self.fill(needed - self.buf.len()).await?;
        }
        Ok(())
    }

    /// One large read.
    async fn fill(&mut self, at_least: usize) -> Result<()> {
        if self.buf.capacity() - self.buf.len() < at_least.max(READ_SIZE / 8) {
            // Nobody else holds a part of this buffer, so that this moves what is left to its front.
            self.buf.reserve(at_least.max(READ_SIZE - self.buf.len().min(READ_SIZE / 2)));
        }
        match self.stream.read_buf(&mut self.buf).await {
            Ok(0) => Err(self.lost(std::io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => Ok(()),
            Err(e) => Err(self.lost(e)),
        }
    }
}

impl super::transport::Transport {
    /// Writes all of `data`, and reads what comes meanwhile into `heard`: a server that fails early stops reading at
    /// some point, and then neither side would move. Says whether anything was read.
    async fn write_heard(&mut self, heard: &mut BytesMut, mut data: &[u8]) -> std::io::Result<bool> {
        use tokio::io::AsyncRead;
        let mut any = false;
        while !data.is_empty() {
            let written = std::future::poll_fn(|cx| {
                let mut piece = [0; 1024];
                let mut into = ReadBuf::new(&mut piece);
                match Pin::new(&mut *self).poll_read(cx, &mut into) {
                    Poll::Ready(Ok(())) if into.filled().is_empty() => {
                        return Poll::Ready(Err(std::io::ErrorKind::UnexpectedEof.into()));
                    }
                    Poll::Ready(Ok(())) => {
                        heard.extend_from_slice(into.filled());
                        any = true;
                        cx.waker().wake_by_ref();
                    }
                    Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                    Poll::Pending => {}
                }
                Pin::new(&mut *self).poll_write(cx, data)
            })
            .await?;
            if written == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            data = &data[written..];
        }
        Ok(any)
    }
}

/// Length of the binary form's header, its extension included.
fn file_header(buf: &[u8]) -> Option<usize> {
    let after = buf.strip_prefix(SIGNATURE)?;
    let extension = after.get(4..8)?;
    let extension = u32::from_be_bytes([extension[0], extension[1], extension[2], extension[3]]);
    Some(SIGNATURE.len() + 8 + usize::try_from(extension).ok()?)
}

/// `COPY 123` → 123.
fn command_rows(body: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(body);
    text.trim_end_matches('\0').rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}
