//! Our own thin connection: what mysql_async cannot do (rows without a copy, LOAD DATA and the binary log at the wire's
//! speed) and no more.
//!
//! Source: MySQL internals manual, "Client/Server Protocol".

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use secrecy::ExposeSecret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::auth::{Authenticator, Step};
use super::conninfo::{MyConnInfo, WORDS};
use super::errors;
use super::packet::{self, ColumnDef, Done, Greeting, MAX_PAYLOAD, MORE_RESULTS, Reader, Response, ServerError};
use super::packet::{capability, text_fields};
pub use super::server::{Flavour, Server};
pub use super::session::Preset;
use crate::error::{Error, Result, ResultExt};
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
    name: String,
    host: String,
    server: Server,
    connection_id: u32,
    /// The session's own, for KILL and for `processlist`.
    max_allowed_packet: usize,
    /// Rows end in an OK packet, and nothing follows columns.
    pub(super) deprecate_eof: bool,
}

impl MyConn {
    /// Connects, authenticates and says [`super::session::settings`], within the URL's `connect_timeout`. `side` is the
    /// side in messages (`source`, `target`), `program` what the server's list of connections shows as `program_name`.
    ///
    /// UPDATE counts rows that it found, whether it changed them or not (CLIENT_FOUND_ROWS).
    ///
    /// # Errors
    /// `Retry` when nobody answers or the server is starting; `Fatal` when it refuses.
    pub async fn connect(info: &MyConnInfo, side: &'static str, program: &str, preset: Preset) -> Result<MyConn> {
        let doing = format!("connecting to the {side} at {}", info.address());
        let patience = match info.connect_timeout {
            0 => Duration::from_secs(365 * 24 * 3600),
            s => Duration::from_secs(s),
        };
        let opening = async {
            let mut conn = Self::open(info, side, program).await.context(&doing)?;
            conn.set_up(preset).await.context(&doing)?;
            Ok(conn)
        };
        tokio::time::timeout(patience, opening).await.unwrap_or_else(|_| {
            Err(Error::retry(format!("{doing}: no answer within {} seconds", info.connect_timeout)))
        })
    }

    async fn open(info: &MyConnInfo, side: &str, program: &str) -> Result<MyConn> {
        let tls = info.tls()?;
        let mut stream = Transport::connect(&info.host, info.port, "TCP").await?;
        let first = first_packet(&mut stream).await?;
        if let Some(e) = ServerError::parse(&first) {
            return Err(errors::from_server("refused", &e));
        }
        let Some(greeting) = Greeting::parse(&first) else {
            return Err(
                Error::fatal("what answers there is not MySQL or MariaDB").hint("check host and port in the URL")
            );
        };
        let needed = capability::PROTOCOL_41
            | capability::SECURE_CONNECTION
            | capability::PLUGIN_AUTH
            | capability::PLUGIN_AUTH_LENENC
            | capability::CONNECT_ATTRS;
        if greeting.capabilities & needed != needed {
            return Err(Error::fatal(format!("the server, {}, is too old", greeting.version)));
        }
        let optional = capability::DEPRECATE_EOF | capability::LOCAL_FILES | capability::CONNECT_WITH_DB;
        let mut wanted = needed
            | capability::FOUND_ROWS
            | capability::LONG_PASSWORD
            | capability::LONG_FLAG
            | capability::TRANSACTIONS
            | capability::MULTI_STATEMENTS
            | capability::MULTI_RESULTS
            | (optional & greeting.capabilities);
        if info.database.is_none() {
            wanted &= !capability::CONNECT_WITH_DB;
        }
        let mut sequence = 1;
        if let Some(tls) = tls {
            if greeting.capabilities & capability::SSL != 0 {
                wanted |= capability::SSL;
                let head = Response::head(wanted);
                stream.write_all(&[&[head.len() as u8, 0, 0, sequence], &head[..]].concat()).await?;
                sequence += 1;
                let name = tls::server_name("TLS", &info.host)?;
                // Nothing was read ahead: what somebody put after the greeting in clear text fails the handshake.
                stream = stream.secure(tls.config, name).await.map_err(|e| {
                    tls::explain("TLS", &info.host, &e, &WORDS).unwrap_or_else(|| Error::retry(format!("TLS: {e}")))
                })?;
            } else if tls.required {
                return Err(tls::not_offered("TLS", &WORDS));
            }
        }
        let mut conn = MyConn {
            stream,
            buf: BytesMut::with_capacity(16 * 1024),
            large: Vec::new(),
            out: Vec::new(),
            sequence,
            state: State::Busy,
            rows: Default::default(),
            name: format!("{side} at {}", info.address()),
            host: info.host.clone(),
            server: Server::named(&greeting.version),
            connection_id: greeting.connection_id,
            max_allowed_packet: MAX_PAYLOAD,
            deprecate_eof: wanted & capability::DEPRECATE_EOF != 0,
        };
        conn.authenticate(info, program, wanted, &greeting).await?;
        Ok(conn)
    }

    async fn authenticate(&mut self, info: &MyConnInfo, program: &str, wanted: u32, greeting: &Greeting) -> Result<()> {
        let password = info.password.as_ref().map_or("", |p| p.expose_secret());
        let mut auth = Authenticator::new(password.as_bytes(), self.stream.is_tls(), &greeting.plugin, &greeting.nonce);
        let program = format!("switchyard:{program}");
        let pid = std::process::id().to_string();
        let attributes = [("program_name", &*program), ("_client_name", "switchyard"), ("_pid", &*pid)];
        let answer = auth.first()?;
        let response = Response {
            capabilities: wanted,
            user: &info.user,
            answer: &answer,
            database: info.database.as_deref(),
            plugin: auth.plugin(),
            attributes: &attributes,
        };
        let payload = response.payload();
        self.put_packet(&payload);
        self.flush().await?;
        loop {
            let packet = self.packet().await?;
            let step = match packet.first() {
                Some(0) => break,
                Some(0xff) => {
                    let e = ServerError::parse(&packet).ok_or_else(|| self.broken("an error that cannot be read"))?;
                    return Err(errors::from_server("refused", &e));
                }
                Some(0xfe) => auth.switch(&packet)?,
                Some(1) => auth.more(&packet)?,
                _ => return Err(self.broken("an answer to the password that is not known here")),
            };
            if let Step::Send(answer) = step {
                self.put_packet(&answer);
                self.flush().await?;
            }
        }
        self.state = State::Idle;
        Ok(())
    }

    async fn set_up(&mut self, preset: Preset) -> Result<()> {
        let settings = super::session::settings(preset, self.server.flavour);
        let rows = self.query(&format!("{settings}; SELECT @@max_allowed_packet")).await?;
        let size = rows.first().and_then(|row| row.first()?.as_deref()).and_then(|n| std::str::from_utf8(n).ok());
        let size = size.and_then(|n| n.parse().ok());
        self.max_allowed_packet = size.ok_or_else(|| self.broken("no number as its max_allowed_packet"))?;
        Ok(())
    }

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
    /// The largest statement or packet that the server takes, in bytes.
    pub fn max_allowed_packet(&self) -> usize {
        self.max_allowed_packet
    }
    /// Whether the connection is over TLS.
    pub fn is_tls(&self) -> bool {
        self.stream.is_tls()
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
            all.push(done);
            if !more {
                self.state = State::Idle;
                return Ok(all);
            }
        }
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
        if body.len() >= self.max_allowed_packet {
            return Err(Error::fatal(format!(
                "{}: a statement of {} bytes is larger than the server's max_allowed_packet, {} bytes",
                self.name,
                body.len(),
                self.max_allowed_packet
            ))
            .hint("raise max_allowed_packet on that server: it must hold the largest row"));
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
        let written = async {
            self.stream.write_all(&self.out).await?;
            self.stream.write_all(rest).await
        };
        let written = written.await;
        self.out.clear();
        match written {
            Ok(()) => Ok(()),
            Err(e) => Err(self.last_word(e).await),
        }
    }

    /// Writes everything that waits to be written.
    pub(super) async fn flush(&mut self) -> Result<()> {
        let done = async {
            self.stream.write_all(&self.out).await?;
            self.stream.flush().await
        };
        let done = done.await;
        self.out.clear();
        match done {
            Ok(()) => Ok(()),
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

/// The server's first packet, and not a byte more.
async fn first_packet(stream: &mut Transport) -> Result<Vec<u8>> {
    let mut head = [0; 4];
    let lost = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::retry("the server closed the connection at once"),
        _ => Error::retry(e.to_string()),
    };
    stream.read_exact(&mut head).await.map_err(lost)?;
    match packet::header(&head) {
        // A greeting has about a hundred bytes.
        Some((len, 0)) if len <= 4096 => {
            let mut payload = vec![0; len];
            stream.read_exact(&mut payload).await.map_err(lost)?;
            Ok(payload)
        }
        _ => Err(Error::fatal("what answers there is not MySQL or MariaDB").hint("check host and port in the URL")),
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
