//! The packets of the MySQL client/server protocol, taken apart and put together. Pure.
//!
//! Source: MySQL internals manual, "Client/Server Protocol" (the doxygen pages `page_protocol_*`), and MariaDB's
//! "Clientserver protocol" where the two differ. Every reader here returns `None` for bytes that are not such a packet.

/// The payload of a packet that another one continues: 16 MiB - 1.
pub const MAX_PAYLOAD: usize = 0x00ff_ffff;

/// Capability flags that are asked for or looked at.
pub mod capability {
    #![allow(missing_docs, reason = "the protocol's own names")]
    pub const LONG_PASSWORD: u32 = 1;
    pub const FOUND_ROWS: u32 = 1 << 1;
    pub const LONG_FLAG: u32 = 1 << 2;
    pub const CONNECT_WITH_DB: u32 = 1 << 3;
    pub const LOCAL_FILES: u32 = 1 << 7;
    pub const PROTOCOL_41: u32 = 1 << 9;
    pub const SSL: u32 = 1 << 11;
    pub const TRANSACTIONS: u32 = 1 << 13;
    pub const SECURE_CONNECTION: u32 = 1 << 15;
    pub const MULTI_STATEMENTS: u32 = 1 << 16;
    pub const MULTI_RESULTS: u32 = 1 << 17;
    pub const PLUGIN_AUTH: u32 = 1 << 19;
    pub const CONNECT_ATTRS: u32 = 1 << 20;
    pub const PLUGIN_AUTH_LENENC: u32 = 1 << 21;
    pub const DEPRECATE_EOF: u32 = 1 << 24;
}

/// In the status word of an OK packet: a transaction is open.
pub const IN_TRANSACTION: u16 = 0x0001;
/// In the status word of an OK packet: another result follows.
pub const MORE_RESULTS: u16 = 0x0008;

/// Takes a packet apart from front to back.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(front)
    }
    /// A little-endian integer of `n` ≤ 8 bytes.
    pub fn int(&mut self, n: usize) -> Option<u64> {
        Some(self.take(n)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
    /// One byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }
    /// A length-encoded integer.
    pub fn lenenc(&mut self) -> Option<u64> {
        match self.u8()? {
            n @ 0..=0xfa => Some(n.into()),
            0xfc => self.int(2),
            0xfd => self.int(3),
            0xfe => self.int(8),
            _ => None,
        }
    }
    /// A length-encoded string.
    pub fn lenenc_bytes(&mut self) -> Option<&'a [u8]> {
        let n = self.lenenc()?;
        self.take(usize::try_from(n).ok()?)
    }
    /// A string up to a zero byte, or to the end where there is none.
    pub fn until_nul(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|b| *b == 0);
        let text = &self.0[..end.unwrap_or(self.0.len())];
        self.0 = &self.0[end.map_or(self.0.len(), |end| end + 1)..];
        text
    }
}

/// Appends a length-encoded integer.
pub fn put_lenenc(out: &mut Vec<u8>, n: u64) {
    match n {
        0..=0xfa => out.push(n as u8),
        0xfb..=0xffff => {
            out.push(0xfc);
            out.extend_from_slice(&(n as u16).to_le_bytes());
        }
        0x1_0000..=0xff_ffff => {
            out.push(0xfd);
            out.extend_from_slice(&(n as u32).to_le_bytes()[..3]);
        }
        _ => {
            out.push(0xfe);
            out.extend_from_slice(&n.to_le_bytes());
        }
    }
}

fn put_lenenc_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_lenenc(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Payload length and sequence number of the packet at the start of `buf`; `None` if less than four bytes are there.
pub fn header(buf: &[u8]) -> Option<(usize, u8)> {
    let &[a, b, c, sequence] = buf.get(..4)? else { return None };
    Some((usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16, sequence))
}

/// What a server says first.
#[derive(Debug, PartialEq, Eq)]
pub struct Greeting {
    /// `9.7.4`, `5.5.5-10.11.19-MariaDB`.
    pub version: String,
    /// The connection's number at the server.
    pub connection_id: u32,
    /// What the password is hashed with.
    pub nonce: Vec<u8>,
    /// What the server can do.
    pub capabilities: u32,
    /// The plugin that the server assumes for a user it has not heard of yet.
    pub plugin: String,
}

impl Greeting {
    /// Reads protocol version 10.
    pub fn parse(payload: &[u8]) -> Option<Greeting> {
        let mut r = Reader(payload);
        if r.u8()? != 10 {
            return None;
        }
        let version = String::from_utf8_lossy(r.until_nul()).into_owned();
        let connection_id = r.int(4)? as u32;
        let mut nonce = r.take(8)?.to_vec();
        r.take(1)?;
        let low = r.int(2)? as u32;
        // Character set and status.
        r.take(3)?;
        let capabilities = low | (r.int(2)? as u32) << 16;
        let nonce_len = usize::from(r.u8()?);
        r.take(10)?;
        let second = r.take(nonce_len.saturating_sub(8).max(13).min(r.0.len()))?;
        nonce.extend_from_slice(second.strip_suffix(&[0]).unwrap_or(second));
        let plugin = String::from_utf8_lossy(r.until_nul()).into_owned();
        Some(Greeting { version, connection_id, nonce, capabilities, plugin })
    }
}

/// What a client answers to the greeting; the first 32 bytes of it alone are the request for TLS.
#[derive(Debug)]
pub struct Response<'a> {
    /// What both sides can do.
    pub capabilities: u32,
    /// Account.
    pub user: &'a str,
    /// The plugin's first answer.
    pub answer: &'a [u8],
    /// Database, if any.
    pub database: Option<&'a str>,
    /// Whose answer it is.
    pub plugin: &'a str,
    /// What `performance_schema.session_connect_attrs` shows of the client.
    pub attributes: &'a [(&'a str, &'a str)],
}

impl Response<'_> {
    /// The fixed part, which is also the request for TLS.
    pub fn head(capabilities: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        out.extend_from_slice(&capabilities.to_le_bytes());
        // The largest packet that we take: as large as the protocol's rows get.
        out.extend_from_slice(&(1u32 << 30).to_le_bytes());
        // utf8mb4_general_ci, which every server knows.
        out.push(45);
        out.resize(32, 0);
        out
    }
    /// The whole packet's payload.
    pub fn payload(&self) -> Vec<u8> {
        let mut out = Self::head(self.capabilities);
        out.extend_from_slice(self.user.as_bytes());
        out.push(0);
        put_lenenc_bytes(&mut out, self.answer);
        if let Some(database) = self.database {
            out.extend_from_slice(database.as_bytes());
            out.push(0);
        }
        out.extend_from_slice(self.plugin.as_bytes());
        out.push(0);
        let mut attributes = Vec::new();
        for (name, value) in self.attributes {
            put_lenenc_bytes(&mut attributes, name.as_bytes());
            put_lenenc_bytes(&mut attributes, value.as_bytes());
        }
        put_lenenc_bytes(&mut out, &attributes);
        out
    }
}

/// What an OK packet says about one statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Rows that were written, or found by an UPDATE whether it changed them or not.
    pub affected: u64,
    /// The AUTO_INCREMENT value that was made first.
    pub last_insert_id: u64,
    /// How many warnings there are to ask for.
    pub warnings: u32,
    /// The server's words, `Records: 3  Deleted: 0  Skipped: 0  Warnings: 0`.
    pub info: String,
    /// The status word; see [`MORE_RESULTS`].
    pub status: u16,
}

impl Done {
    /// Reads an OK packet: header 0x00, or 0xFE where it ends rows.
    pub fn parse(payload: &[u8]) -> Option<Done> {
        let mut r = Reader(payload);
        if !matches!(r.u8()?, 0 | 0xfe) {
            return None;
        }
        let (affected, last_insert_id) = (r.lenenc()?, r.lenenc()?);
        let (status, warnings) = (r.int(2)? as u16, r.int(2)? as u32);
        // The manual says that the words run to the end; `net_send_ok` (protocol_classic.cc) writes their length first.
        let mut words = r;
        let info = words.lenenc_bytes().filter(|_| words.0.is_empty()).unwrap_or(r.0);
        Some(Done { affected, last_insert_id, warnings, info: String::from_utf8_lossy(info).into_owned(), status })
    }
    /// Reads an EOF packet, which older servers send after columns and rows.
    pub fn parse_eof(payload: &[u8]) -> Option<Done> {
        let mut r = Reader(payload);
        if r.u8()? != 0xfe {
            return None;
        }
        let (warnings, status) = (r.int(2)? as u32, r.int(2)? as u16);
        Some(Done { warnings, status, ..Done::default() })
    }
}

/// What an ERR packet says.
#[derive(Debug, PartialEq, Eq)]
pub struct ServerError {
    /// The server's error number.
    pub code: u16,
    /// Its SQLSTATE; empty before the session exists.
    pub sqlstate: String,
    /// Its message, values included.
    pub message: String,
}

impl ServerError {
    /// Reads an ERR packet.
    pub fn parse(payload: &[u8]) -> Option<ServerError> {
        let mut r = Reader(payload);
        if r.u8()? != 0xff {
            return None;
        }
        let code = r.int(2)? as u16;
        let mut sqlstate = String::new();
        if r.0.first() == Some(&b'#') {
            sqlstate = String::from_utf8_lossy(r.take(6)?.get(1..)?).into_owned();
        }
        Some(ServerError { code, sqlstate, message: String::from_utf8_lossy(r.0).into_owned() })
    }
}

/// What a result says about one of its columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnDef {
    /// Database.
    pub schema: String,
    /// Alias of the table in the statement.
    pub table: String,
    /// The table's own name.
    pub org_table: String,
    /// Alias of the column in the statement.
    pub name: String,
    /// The column's own name.
    pub org_name: String,
    /// Number of its collation as sent; 63 is binary.
    pub charset: u16,
    /// Largest length.
    pub length: u32,
    /// Type byte (`enum_field_types`).
    pub kind: u8,
    /// Flags (`NOT_NULL_FLAG` …).
    pub flags: u16,
    /// Digits after the point.
    pub decimals: u8,
}

impl ColumnDef {
    /// Reads a column definition.
    pub fn parse(payload: &[u8]) -> Option<ColumnDef> {
        let mut r = Reader(payload);
        // Always "def".
        r.lenenc_bytes()?;
        let mut text = || Some(String::from_utf8_lossy(r.lenenc_bytes()?).into_owned());
        let (schema, table, org_table, name, org_name) = (text()?, text()?, text()?, text()?, text()?);
        let mut r = Reader(r.lenenc_bytes()?);
        let (charset, length) = (r.int(2)? as u16, r.int(4)? as u32);
        let (kind, flags, decimals) = (r.u8()?, r.int(2)? as u16, r.u8()?);
        Some(ColumnDef { schema, table, org_table, name, org_name, charset, length, kind, flags, decimals })
    }
}

/// The fields of a row in the text protocol: where each lies in the row's payload, `None` for NULL.
#[derive(Clone, Debug)]
pub struct TextFields<'a> {
    row: &'a [u8],
    at: usize,
}

/// The fields of a row packet's payload.
pub fn text_fields(row: &[u8]) -> TextFields<'_> {
    TextFields { row, at: 0 }
}

/// A field that does not fit into its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenRow;

impl Iterator for TextFields<'_> {
    type Item = Result<Option<std::ops::Range<usize>>, BrokenRow>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let first = *self.row.get(self.at)?;
        let (start, len) = match first {
            0xfb => {
                self.at += 1;
                return Some(Ok(None));
            }
            // Nearly every field is this short.
            n @ 0..=0xfa => (self.at + 1, Some(usize::from(n))),
            _ => {
                let mut r = Reader(&self.row[self.at..]);
                let len = r.lenenc().and_then(|n| usize::try_from(n).ok());
                (self.row.len() - r.0.len(), len)
            }
        };
        match len.and_then(|len| start.checked_add(len)).filter(|end| *end <= self.row.len()) {
            Some(end) => {
                self.at = end;
                Some(Ok(Some(start..end)))
            }
            None => {
                self.at = self.row.len();
                Some(Err(BrokenRow))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_integers_of_every_width_when_written_then_they_are_read_back() {
        for n in [0, 0xfa, 0xfb, 0xffff, 0x1_0000, 0xff_ffff, 0x100_0000, u64::MAX] {
            let mut out = Vec::new();
            put_lenenc(&mut out, n);
            let mut r = Reader(&out);
            assert_eq!((r.lenenc(), r.0.len()), (Some(n), 0));
        }
    }

    #[test]
    fn given_a_row_when_walked_then_each_field_is_found_and_no_cut_of_it_panics() {
        let mut row = vec![1, b'x', 0xfb, 0, 0xfc, 0x2c, 1];
        row.extend_from_slice(&[b'y'; 300]);
        let all: Vec<_> = text_fields(&row).map(Result::unwrap).collect();
        assert_eq!(all, [Some(1..2), None, Some(4..4), Some(7..307)]);
        for end in 5..row.len() {
            assert!(text_fields(&row[..end]).any(|f| f.is_err()), "{end}");
        }
        assert!(text_fields(&[0xfe, 255, 255, 255, 255, 255, 255, 255, 255, 1]).any(|f| f.is_err()));
    }

    #[test]
    fn given_packets_cut_anywhere_when_read_then_nothing_panics() {
        let mut greeting = b"\x0a9.7.4\0\x07\0\0\0abcdefgh\0\xff\xff\x2d\x02\0\xff\xff\x15".to_vec();
        greeting.extend_from_slice(&[0; 10]);
        greeting.extend_from_slice(b"ijklmnopqrst\0caching_sha2_password\0");
        let whole = Greeting::parse(&greeting).unwrap();
        assert_eq!((&*whole.nonce, &*whole.plugin), (&b"abcdefghijklmnopqrst"[..], "caching_sha2_password"));
        let ok = b"\0\x03\x00\x02\x00\x01\x00\x05words";
        assert_eq!(Done::parse(ok).unwrap().info, "words");
        let error = b"\xff\x26\x04#23000Duplicate";
        assert_eq!(ServerError::parse(error).unwrap().sqlstate, "23000");
        for packet in [&greeting[..], ok, error] {
            for end in 0..packet.len() {
                let cut = &packet[..end];
                let _ = (Greeting::parse(cut), Done::parse(cut), Done::parse_eof(cut));
                let _ = (ServerError::parse(cut), ColumnDef::parse(cut));
            }
        }
    }
}
