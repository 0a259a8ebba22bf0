//! What is compressed in the log: MySQL's whole transactions (zstd), MariaDB's statements and rows (zlib).
//!
//! Source: `libs/mysql/binlog/event/control_events.h` (`Transaction_payload_event`), MariaDB's `sql/log_event.cc`
//! (`binlog_buf_uncompress`). Anything that does not come out whole is an error.

use std::io::{Cursor as IoCursor, Read};

use bytes::Bytes;

use super::cursor::{Cursor, Parsed};
use super::event::HEADER;

/// A compressed transaction: TRANSACTION_PAYLOAD.
#[derive(Clone, Debug)]
pub struct Payload {
    compressed: bool,
    size: u64,
    bytes: Bytes,
}

impl Payload {
    /// Reads the event's body.
    pub(super) fn parse(body: &Bytes) -> Parsed<Payload> {
        let mut c = Cursor::new(body);
        let (mut size, mut kind, mut uncompressed) = (None, None, None);
        loop {
            let field = c.packed()?;
            if field == 0 {
                break;
            }
            let mut v = Cursor::new(c.packed_bytes()?);
            match field {
                1 => size = Some(v.packed_len()?),
                2 => kind = Some(v.packed()?),
                3 => uncompressed = Some(v.packed()?),
                // Later fields say nothing that reading needs.
                _ => {}
            }
        }
        let bytes = body.slice(body.len() - c.len()..);
        if size != Some(bytes.len()) {
            return Err("a compressed transaction of another size than it says".into());
        }
        match kind {
            Some(0) => {
                let size = uncompressed.ok_or("a compressed transaction that does not say its size")?;
                Ok(Payload { compressed: true, size, bytes })
            }
            Some(255) => Ok(Payload { compressed: false, size: bytes.len() as u64, bytes }),
            _ => Err("a transaction in an unknown compression".into()),
        }
    }

    /// Bytes of all events together, by what the event says.
    pub fn uncompressed_size(&self) -> u64 {
        self.size
    }

    /// Reads its events one after the other; never more than one is in memory.
    ///
    /// # Errors
    /// The decompressor cannot be set up.
    pub fn reader(&self) -> Parsed<PayloadReader> {
        let bytes = IoCursor::new(self.bytes.clone());
        let inner = if self.compressed {
            let decoder = zstd::stream::read::Decoder::with_buffer(bytes).map_err(|e| format!("zstd: {e}"))?;
            Inner::Zstd(Box::new(decoder))
        } else {
            Inner::Plain(bytes)
        };
        Ok(PayloadReader { inner, left: self.size })
    }
}

/// See [`Payload::reader`].
pub struct PayloadReader {
    inner: Inner,
    left: u64,
}

enum Inner {
    Zstd(Box<zstd::stream::read::Decoder<'static, IoCursor<Bytes>>>),
    Plain(IoCursor<Bytes>),
}

impl std::fmt::Debug for PayloadReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PayloadReader({} bytes left)", self.left)
    }
}

impl Read for Inner {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Inner::Zstd(d) => d.read(out),
            Inner::Plain(c) => c.read(out),
        }
    }
}

impl PayloadReader {
    /// The next event with its header; `None` after the last. It has no checksum of its own.
    ///
    /// # Errors
    /// What cannot be decompressed, and an end that comes earlier or later than the transaction said.
    pub fn next_event(&mut self) -> Parsed<Option<Bytes>> {
        let broken = |e: std::io::Error| format!("a compressed transaction cannot be read: {e}");
        if self.left == 0 {
            // Reading on also has the decompressor check what it checks at its end.
            return match self.inner.read(&mut [0]).map_err(broken)? {
                0 => Ok(None),
                _ => Err("a compressed transaction is longer than it says".into()),
            };
        }
        let mut header = [0; HEADER];
        self.inner.read_exact(&mut header).map_err(broken)?;
        let mut c = Cursor::new(&header);
        c.take(9)?;
        let size = c.u32()? as usize;
        if size < HEADER || size as u64 > self.left {
            return Err("an event of impossible size in a compressed transaction".into());
        }
        // The size may be made up: memory is taken as bytes arrive.
        let mut event = Vec::with_capacity(size.min(1 << 20));
        event.extend_from_slice(&header);
        let body = (size - HEADER) as u64;
        let read = (&mut self.inner).take(body).read_to_end(&mut event).map_err(broken)?;
        if read as u64 != body {
            return Err("a compressed transaction ends in the middle of an event".into());
        }
        self.left -= size as u64;
        Ok(Some(event.into()))
    }
}

/// MariaDB's compressed part of an event: a byte with the length's length, the length, big endian, and a zlib stream.
pub(super) fn inflate(bytes: &[u8]) -> Parsed<Vec<u8>> {
    let mut c = Cursor::new(bytes);
    let head = c.u8()?;
    // Bit 7: compressed; bits 4 to 6: the algorithm, of which there is one.
    if head & 0xf0 != 0x80 || !(1..=4).contains(&(head & 7)) {
        return Err("a compressed event in an unknown compression".into());
    }
    let size = super::cursor::big(c.take(usize::from(head & 7))?);
    let mut out = Vec::with_capacity((size as usize).min(1 << 20));
    flate2::read::ZlibDecoder::new(c.rest())
        .take(size + 1)
        .read_to_end(&mut out)
        .map_err(|e| format!("a compressed event cannot be read: {e}"))?;
    if out.len() as u64 != size {
        return Err("a compressed event of another size than it says".into());
    }
    Ok(out)
}
