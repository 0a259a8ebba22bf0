//! Our own thin connection: what mysql_async cannot do (rows without a copy, LOAD DATA and the binary log at the wire's
//! speed) and no more.
//!
//! Source: MySQL internals manual, "Client/Server Protocol".

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncReadExt;

use super::conninfo::WORDS;
use super::errors;
use super::packet::text_fields;
use super::packet::{self, ColumnDef, Done, IN_TRANSACTION, MAX_PAYLOAD, MORE_RESULTS, Reader, ServerError};
pub use super::server::{Flavour, Server};
pub use super::session::Preset;
use crate::error::{Error, Result};
use crate::transport::{Transport, tls};

/// One read of the socket, and what a buffer holds beside a packet that is larger.
pub const READ_SIZE: usize = 256 * 1024;
/// Commands up to this size are put together with their header before they are written.
const COPIED: usize = 256 * 1024;
/// No row is larger: `max_allowed_packet` cannot be.
const LARGEST: usize = 1 << 30;
/// How long a last word of the server is waited for after it stopped to listen.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Commands of the protocol.
pub(super) mod command {
    pub const QUIT: u8 = 0x01;
    pub const QUERY: u8 = 0x03;
    pub const PING: u8 = 0x0e;
    pub const BINLOG_DUMP: u8 = 0x12;
    pub const REGISTER_REPLICA: u8 = 0x15;
    pub const BINLOG_DUMP_GTID: u8 = 0x1e;
}

/// What the server expects next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// A command.
    Idle,
    /// Nothing: a command runs, or was left in its middle.
    Busy,
    /// Rows are on their way.
    Rows,
    /// The file that it asked for.
    Loading,
    /// The socket failed, or what came over it made no sense.
    Lost,
}

/// A row of a small result, fields as text.
pub type SmallRow = Vec<Option<Bytes>>;

/// A connection. Every method must be awaited to its end; a connection that was left in the middle of a command, or
/// whose socket failed, refuses everything that follows.
#[derive(Debug)]
pub struct MyConn {
    pub(super) stream: Transport,
    /// What was read and not yet looked at.
    pub(super) buf: BytesMut,
    /// The pieces, so far, of a packet that is longer than 16 MiB.
    pub(super) large: Vec<u8>,
    /// What is to be written.
    pub(super) out: Vec<u8>,
    /// The number of the next packet, in either direction; every command begins at 0.
    pub(super) sequence: u8,
    pub(super) state: State,
    pub(super) rows: super::rows::Scan,
    /// `source at host:port`, for messages.
    pub(super) name: String,
    pub(super) host: String,
    pub(super) server: Server,
    pub(super) connection_id: u32,
    pub(super) max_allowed_packet: usize,
    /// Rows end in an OK packet, and nothing follows columns.
    pub(super) deprecate_eof: bool,
    pub(super) in_transaction: bool,
}

impl MyConn {
    /// `source at host:port`, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Whose server it is and of which version.
    pub fn server(&self) -> &Server {
        &self.server
    }
    /// Whose server it is.
    pub fn flavour(&self) -> Flavour {
        self.server.flavour
    }
    /// The connection's number, for `KILL` and in the server's list of connections.
    pub fn connection_id(&self) -> u32 {
        self.connection_id
    }
    /// The server's limit in bytes: a statement or packet has to be smaller than this, a statement by two.
    pub fn max_allowed_packet(&self) -> usize {
        self.max_allowed_packet
    }
    /// Whether the connection is over TLS.
    pub fn is_tls(&self) -> bool {
        self.stream.is_tls()
    }
    /// Whether a transaction is open, as far as the last answer told.
    pub fn in_transaction(&self) -> bool {
        self.in_transaction
    }
    /// Whether nothing more can be done over it: lost, or left in the middle of a command.
    pub fn is_closed(&self) -> bool {
        self.state != State::Idle
    }

    /// Runs one or more statements and adds up what they did. Rows are dropped.
    ///
    /// # Errors
    /// The server's own, by its number; the statements before the failed one have taken effect. `Retry` when the
    /// connection fails.
    pub async fn execute(&mut self, sql: impl AsRef<[u8]>) -> Result<Done> {
        let mut sum = Done::default();
        for done in self.execute_each(sql).await? {
            sum.affected += done.affected;
            sum.warnings += done.warnings;
            (sum.last_insert_id, sum.info, sum.status) = (done.last_insert_id, done.info, done.status);
        }
        Ok(sum)
    }

    /// Runs one or more statements, separated by `;`, and says of each what it did. Rows are dropped.
    ///
    /// # Errors
    /// As [`MyConn::execute`].
    pub async fn execute_each(&mut self, sql: impl AsRef<[u8]>) -> Result<Vec<Done>> {
        self.send(command::QUERY, sql.as_ref()).await?;
        self.results(|_| true).await
    }

    /// Runs one or more statements and returns the rows of all of them, as text in utf8mb4. For small results.
    ///
    /// # Errors
    /// As [`MyConn::execute`].
    pub async fn query(&mut self, sql: impl AsRef<[u8]>) -> Result<Vec<SmallRow>> {
        let mut rows = Vec::new();
        self.send(command::QUERY, sql.as_ref()).await?;
        self.results(|packet| match small_row(packet) {
            Some(row) => {
                rows.push(row);
                true
            }
            None => false,
        })
        .await?;
        Ok(rows)
    }

    /// Asks the server for a sign of life.
    ///
    /// # Errors
    /// `Retry` when the connection fails.
    pub async fn ping(&mut self) -> Result<()> {
        self.send(command::PING, &[]).await?;
        self.results(|_| true).await.map(drop)
    }

    /// Reads all results of a command. `row` says whether it could read the row.
    pub(super) async fn results(&mut self, mut row: impl FnMut(&Bytes) -> bool) -> Result<Vec<Done>> {
        let mut all = Vec::new();
        loop {
            let done = match self.result_head().await.map_err(|e| nth(e, all.len()))? {
                Head::Done(done) => done,
                Head::Rows(_) => loop {
                    let packet = self.packet().await?;
                    if packet.first() == Some(&0xff) {
                        return Err(nth(self.failed(&packet), all.len()));
                    }
                    if let Some(done) = self.end_of_rows(&packet)? {
                        break done;
                    }
                    if !row(&packet) {
                        return Err(self.broken("a row that cannot be read"));
                    }
                },
                Head::File => return Err(self.broken("a request for a file, which was not offered")),
            };
            let more = done.status & MORE_RESULTS != 0;
            if !more {
                self.finished(&done);
            }
            all.push(done);
            if !more {
                return Ok(all);
            }
        }
    }

    /// The server is done with a command.
    pub(super) fn finished(&mut self, done: &Done) {
        self.state = State::Idle;
        self.in_transaction = done.status & IN_TRANSACTION != 0;
    }

    /// What a result begins with.
    pub(super) async fn result_head(&mut self) -> Result<Head> {
        let packet = self.packet().await?;
        match packet.first() {
            Some(0) => {
                let done = Done::parse(&packet).ok_or_else(|| self.broken("an answer that cannot be read"))?;
                return Ok(Head::Done(done));
            }
            Some(0xff) => return Err(self.failed(&packet)),
            Some(0xfb) => return Ok(Head::File),
            _ => {}
        }
        let mut r = Reader(&packet);
        // A table has 4096 columns at most; a statement may list some more.
        let count = r.lenenc().filter(|n| *n <= 65_535 && r.0.is_empty());
        let count = count.ok_or_else(|| self.broken("an answer that cannot be read"))?;
        let mut columns = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let packet = self.packet().await?;
            if packet.first() == Some(&0xff) {
                return Err(self.failed(&packet));
            }
            columns.push(ColumnDef::parse(&packet).ok_or_else(|| self.broken("a column that cannot be read"))?);
        }
        if !self.deprecate_eof {
            let packet = self.packet().await?;
            Done::parse_eof(&packet).ok_or_else(|| self.broken("no end of its columns"))?;
        }
        Ok(Head::Rows(columns))
    }

    /// What the packet says if it ends rows, and is not one.
    pub(super) fn end_of_rows(&mut self, packet: &[u8]) -> Result<Option<Done>> {
        // A row may begin with 0xFE, too, but only where its first field is longer than a packet.
        if packet.first() != Some(&0xfe) || packet.len() >= MAX_PAYLOAD {
            return Ok(None);
        }
        let done = if self.deprecate_eof { Done::parse(packet) } else { Done::parse_eof(packet) };
        done.map(Some).ok_or_else(|| self.broken("an end of rows that cannot be read"))
    }

    /// Sends a command; the caller reads the answer.
    pub(super) async fn send(&mut self, command: u8, body: &[u8]) -> Result<()> {
        match self.state {
            State::Idle => {}
            State::Lost => return Err(Error::retry(format!("{}: the connection is lost", self.name))),
            _ => {
                return Err(Error::retry(format!("{}: the connection was left in the middle of a command", self.name)));
            }
        }
        // With the command's byte; and what is as large as the limit is too large (`net_realloc`, net_serv.cc).
        if body.len() + 1 >= self.max_allowed_packet {
            return Err(Error::fatal(format!(
                "{}: a statement of {} bytes is larger than the server's max_allowed_packet, {} bytes",
                self.name,
                body.len(),
                self.max_allowed_packet
            ))
            .with_code(errors::TOO_LARGE.to_string())
            .hint(errors::RAISE_PACKET));
        }
        self.state = State::Busy;
        self.sequence = 0;
        let (front, mut rest) = body.split_at(body.len().min(MAX_PAYLOAD - 1));
        self.put_header(front.len() + 1);
        self.out.push(command);
        self.write_with(front).await?;
        let mut full = front.len() + 1 == MAX_PAYLOAD;
        while full {
            let (piece, after) = rest.split_at(rest.len().min(MAX_PAYLOAD));
            self.put_header(piece.len());
            self.write_with(piece).await?;
            full = piece.len() == MAX_PAYLOAD;
            rest = after;
        }
        self.flush().await
    }

    /// Queues one whole packet of less than 16 MiB.
    pub(super) fn put_packet(&mut self, payload: &[u8]) {
        self.put_header(payload.len());
        self.out.extend_from_slice(payload);
    }

    pub(super) fn put_header(&mut self, len: usize) {
        self.out.extend_from_slice(&(len as u32).to_le_bytes()[..3]);
        self.out.push(self.sequence);
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// Writes what waits and then `piece`, without copying more of it than makes one good write.
    pub(super) async fn write_with(&mut self, piece: &[u8]) -> Result<()> {
        let (front, rest) = piece.split_at(piece.len().min(COPIED));
        self.out.extend_from_slice(front);
        if rest.is_empty() {
            return Ok(());
        }
        self.flush().await?;
        let written = self.stream.write_unless_heard(&mut self.buf, rest).await;
        self.written(written).await
    }

    /// Writes everything that waits to be written.
    pub(super) async fn flush(&mut self) -> Result<()> {
        // The command may be with the server already, and what it says now is its answer.
        if self.out.is_empty() {
            return Ok(());
        }
        let written = self.stream.write_unless_heard(&mut self.buf, &self.out).await;
        self.out.clear();
        self.written(written).await
    }

    async fn written(&mut self, written: std::io::Result<bool>) -> Result<()> {
        match written {
            Ok(false) => Ok(()),
            Ok(true) => Err(self.last_word(std::io::ErrorKind::ConnectionAborted.into()).await),
            Err(e) => Err(self.last_word(e).await),
        }
    }

    /// Writing failed. A server that shuts down or was told to kill the session says so before it closes the socket.
    async fn last_word(&mut self, e: std::io::Error) -> Error {
        let heard = tokio::time::timeout(LAST_WORD, self.any_packet()).await;
        let word = match heard {
            Ok(Ok(packet)) if packet.first() == Some(&0xff) => Some(self.server_error(&packet)),
            _ => None,
        };
        let lost = self.lost(e);
        word.unwrap_or(lost)
    }

    /// The next packet, its pieces put together.
    pub(super) async fn packet(&mut self) -> Result<Bytes> {
        loop {
            if let Some(packet) = self.buffered_packet()? {
                return Ok(packet);
            }
            self.read_some().await?;
        }
    }

    /// The next packet, whatever its number.
    async fn any_packet(&mut self) -> Result<Bytes> {
        loop {
            if let Some((_, sequence)) = packet::header(&self.buf) {
                self.sequence = sequence;
            }
            if let Some(packet) = self.buffered_packet()? {
                return Ok(packet);
            }
            if self.stream.read_buf(&mut self.buf).await.ok().filter(|n| *n > 0).is_none() {
                return Err(Error::retry("nothing was said"));
            }
        }
    }

    pub(super) async fn read_some(&mut self) -> Result<()> {
        match self.stream.read_buf(&mut self.buf).await {
            Ok(0) => Err(self.lost(std::io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => Ok(()),
            Err(e) => Err(self.lost(e)),
        }
    }

    /// The next packet that was read already.
    pub(super) fn buffered_packet(&mut self) -> Result<Option<Bytes>> {
        loop {
            let Some((len, sequence)) = packet::header(&self.buf) else {
                self.make_room(4);
                return Ok(None);
            };
            if self.buf.len() < 4 + len {
                self.make_room(4 + len);
                return Ok(None);
            }
            self.expect(sequence)?;
            let mut frame = self.buf.split_to(4 + len);
            if len == MAX_PAYLOAD || !self.large.is_empty() {
                if self.large.len() + len > LARGEST + MAX_PAYLOAD {
                    return Err(self.broken("a packet of more than 1 GiB"));
                }
                self.large.extend_from_slice(&frame[4..]);
                if len == MAX_PAYLOAD {
                    continue;
                }
                return Ok(Some(std::mem::take(&mut self.large).into()));
            }
            frame.advance(4);
            return Ok(Some(frame.freeze()));
        }
    }

    /// Packets are numbered; one that is missing or was put in between shows here.
    pub(super) fn expect(&mut self, sequence: u8) -> Result<()> {
        if sequence != self.sequence {
            return Err(self.broken("packets out of order"));
        }
        self.sequence = sequence.wrapping_add(1);
        Ok(())
    }

    /// Packets keep their chunk alive, so a chunk that is nearly used up is left behind, with what is in it of the next
    /// packet carried over. A packet larger than a chunk gets one of exactly its size.
    pub(super) fn make_room(&mut self, needed: usize) {
        if self.buf.capacity() - self.buf.len() < READ_SIZE / 16 && self.buf.capacity() < needed.max(READ_SIZE / 2)
            || self.buf.capacity() < needed
        {
            let mut fresh = BytesMut::with_capacity(needed.max(READ_SIZE));
            fresh.extend_from_slice(&self.buf);
            self.buf = fresh;
        }
    }

    /// The error in a packet that ends a command.
    pub(super) fn failed(&mut self, packet: &[u8]) -> Error {
        self.state = State::Idle;
        self.server_error(packet)
    }

    fn server_error(&mut self, packet: &[u8]) -> Error {
        match ServerError::parse(packet) {
            Some(e) => errors::from_server(&self.name, &e),
            None => self.broken("an error that cannot be read"),
        }
    }

    /// The socket failed.
    pub(super) fn lost(&mut self, e: std::io::Error) -> Error {
        self.state = State::Lost;
        if let Some(tls) = tls::explain(&self.name, &self.host, &e, &WORDS) {
            return tls;
        }
        match e.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                Error::retry(format!("{}: the server closed the connection", self.name))
            }
            _ => Error::retry(format!("{}: connection lost: {e}", self.name)),
        }
    }

    /// The server said what it must not say.
    pub(super) fn broken(&mut self, what: impl std::fmt::Display) -> Error {
        self.state = State::Lost;
        Error::fatal(format!("{}: the server sent {what}", self.name))
    }
}

/// What a result begins with.
#[derive(Debug)]
pub(super) enum Head {
    /// There are no rows.
    Done(Done),
    /// These columns; rows follow.
    Rows(Vec<ColumnDef>),
    /// The server wants the file of LOAD DATA LOCAL.
    File,
}

impl Drop for MyConn {
    fn drop(&mut self) {
        // Best effort: the server notices the closed socket anyway, this only spares its log a line.
        if self.state == State::Idle && self.out.is_empty() {
            self.stream.write_now(&[1, 0, 0, 0, command::QUIT]);
        }
    }
}

/// Says which of several statements it was.
fn nth(e: Error, before: usize) -> Error {
    if before == 0 { e } else { e.context(format!("statement {}", before + 1)) }
}

fn small_row(packet: &Bytes) -> Option<SmallRow> {
    text_fields(packet).map(|field| field.ok().map(|range| range.map(|range| packet.slice(range)))).collect()
}
