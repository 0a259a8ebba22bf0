//! Our own thin connection: what tokio-postgres cannot do (replication, COPY at the wire's speed) and no more.
//!
//! Source: PostgreSQL manual, "Frontend/Backend Protocol" 3.0.

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::auth::Authenticator;
use super::conninfo::ConnInfo;
use super::transport::{self, Transport};
use super::{errors, tls};
use crate::error::{Error, Result, ResultExt};

/// One read of the socket, and what a buffer holds beside a frame that is larger.
pub const READ_SIZE: usize = 256 * 1024;

/// Server settings that every connection asks for at its start, the same as [`super::control::SESSION_SETTINGS`].
pub const STARTUP_SETTINGS: &[(&str, &str)] = &[
    ("datestyle", "ISO"),
    ("intervalstyle", "postgres"),
    ("timezone", "UTC"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "1"),
    ("lc_monetary", "C"),
    ("search_path", ""),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("row_security", "off"),
    ("xmloption", "content"),
    ("jit", "off"),
];

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// SQL and COPY.
    Sql,
    /// A walsender of one database: SQL and replication commands.
    Replication,
}

/// A connection. Every method must be awaited to its end; a connection that was left in the middle of a command, or
/// whose socket failed, refuses everything that follows.
#[derive(Debug)]
pub struct PgConn {
    pub(super) stream: Transport,
    /// What was read and not yet looked at.
    pub(super) buf: BytesMut,
    /// What is to be written.
    pub(super) out: BytesMut,
    /// `source at host:port`, for messages.
    name: String,
    host: String,
    parameters: HashMap<String, String>,
    backend_pid: i32,
    /// A command was sent and its ReadyForQuery has not come yet.
    pub(super) busy: bool,
    pub(super) copy: super::copy::CopyState,
}

/// One message: its tag and body.
pub(super) type Message = (u8, Bytes);

impl PgConn {
    /// Connects and authenticates, within the URL's `connect_timeout`. `who` is the side in messages.
    ///
    /// # Errors
    /// `Retry` when nobody answers or the server is starting; `Fatal` when it refuses.
    pub async fn connect(info: &ConnInfo, who: &str, purpose: Purpose) -> Result<PgConn> {
        let doing = format!("connecting to the {who} at {}", info.address());
        let patience = match info.connect_timeout {
            0 => Duration::from_secs(365 * 24 * 3600),
            s => Duration::from_secs(s),
        };
        let opening = async {
            let stream = transport::open(info, &doing).await?;
            let mut conn = PgConn {
                stream,
                buf: BytesMut::with_capacity(8 * 1024),
                out: BytesMut::new(),
                name: format!("{who} at {}", info.address()),
                host: info.host.clone(),
                parameters: HashMap::new(),
                backend_pid: 0,
                busy: true,
                copy: Default::default(),
            };
            conn.start(info, who, purpose, &doing).await.map(|()| conn)
        };
        tokio::time::timeout(patience, opening).await.unwrap_or_else(|_| {
            Err(Error::retry(format!("{doing}: no answer within {} seconds", info.connect_timeout)))
        })
    }

    async fn start(&mut self, info: &ConnInfo, who: &str, purpose: Purpose, doing: &str) -> Result<()> {
        let application = format!("switchyard {who}");
        let options = startup_options();
        let mut parameters = vec![
            ("user", info.user.as_str()),
            ("database", &info.database),
            ("application_name", &application),
            ("client_encoding", "UTF8"),
            ("options", &options),
        ];
        if purpose == Purpose::Replication {
            parameters.push(("replication", "database"));
        }
        frontend::startup_message(parameters, &mut self.out)?;
        let over_tls = matches!(self.stream, Transport::Tls(_));
        let mut authenticator = Authenticator::new(info, over_tls, self.stream.server_end_point());
        loop {
            self.flush().await.context(doing)?;
            let (tag, mut body) = self.message().await.context(doing)?;
            match tag {
                // What follows the last step (parameters, key, ready) needs no answer.
                b'R' => {
                    authenticator.step(&body, &mut self.out).context(doing)?;
                }
                b'K' if body.len() >= 4 => self.backend_pid = body.get_i32(),
                b'E' => return Err(server_error(doing, &body)),
                b'Z' => {
                    self.busy = false;
                    return Ok(());
                }
                // NegotiateProtocolVersion and notices.
                _ => {}
            }
        }
    }

    /// `source at host:port`, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// A parameter that the server reported, `server_version`.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }
    /// The server's major version; 0 if it did not say.
    pub fn server_major(&self) -> u32 {
        let version = self.parameter("server_version").unwrap_or("");
        version.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).unwrap_or(0)
    }
    /// The process id of the server's side.
    pub fn backend_pid(&self) -> i32 {
        self.backend_pid
    }
    /// Whether the connection is over TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self.stream, Transport::Tls(_))
    }

    /// Runs one or more statements in the simple protocol and returns the rows of all of them, as text.
    ///
    /// # Errors
    /// The server's own, by its SQLSTATE; `Retry` when the connection fails.
    pub async fn simple_query(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        self.send_query(sql).await?;
        let mut rows = Vec::new();
        loop {
            let (tag, body) = self.message().await?;
            match tag {
                b'D' => match data_row(&body) {
                    Some(row) => rows.push(row),
                    None => return Err(self.broken("a row that cannot be read")),
                },
                b'Z' => {
                    self.busy = false;
                    return Ok(rows);
                }
                b'E' => return Err(self.failed("", &body).await),
                b'G' | b'H' | b'W' => return Err(self.broken("a COPY that was not asked for")),
                _ => {}
            }
        }
    }

    /// Like [`PgConn::simple_query`], for statements whose rows do not matter.
    pub async fn execute(&mut self, sql: &str) -> Result<()> {
        self.simple_query(sql).await.map(drop)
    }

    /// Sends a statement; the caller reads the answer.
    pub(super) async fn send_query(&mut self, sql: &str) -> Result<()> {
        if self.busy {
            return Err(Error::retry(format!("{}: the connection was left in the middle of a command", self.name)));
        }
        self.busy = true;
        frontend::query(sql, &mut self.out).context(&self.name)?;
        self.flush().await
    }

    /// Writes everything that waits to be written.
    pub(super) async fn flush(&mut self) -> Result<()> {
        let done = async {
            self.stream.write_all(&self.out).await?;
            self.stream.flush().await
        };
        let done = done.await;
        self.out.clear();
        done.map_err(|e| self.lost(e))
    }

    /// The next message; notices are dropped and parameters remembered on the way.
    pub(super) async fn message(&mut self) -> Result<Message> {
        loop {
            if let Some((tag, body)) = self.buffered_message()? {
                match tag {
                    b'N' => {}
                    b'S' => self.remember(&body),
                    _ => return Ok((tag, body)),
                }
                continue;
            }
            let read = self.stream.read_buf(&mut self.buf).await;
            match read {
                Ok(0) => return Err(self.lost(std::io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(e) => return Err(self.lost(e)),
            }
        }
    }

    fn buffered_message(&mut self) -> Result<Option<Message>> {
        let Some(len) = frame_len(&self.buf).map_err(|what| self.broken(what))? else { return Ok(None) };
        if self.buf.len() < len {
            self.buf.reserve((len - self.buf.len()).max(8 * 1024));
            return Ok(None);
        }
        let mut frame = self.buf.split_to(len).freeze();
        let tag = frame[0];
        frame.advance(5);
        Ok(Some((tag, frame)))
    }

    pub(super) fn remember(&mut self, body: &[u8]) {
        let mut parts = body.split(|b| *b == 0).map(|p| String::from_utf8_lossy(p).into_owned());
        if let (Some(name), Some(value)) = (parts.next(), parts.next()) {
            self.parameters.insert(name, value);
        }
    }

    /// The error in `body`, after reading on to the point where the next command may be sent.
    pub(super) async fn failed(&mut self, doing: &str, body: &[u8]) -> Error {
        let doing = if doing.is_empty() { self.name.clone() } else { format!("{}: {doing}", self.name) };
        let error = server_error(doing, body);
        loop {
            match self.message().await {
                Ok((b'Z', _)) => {
                    self.busy = false;
                    return error;
                }
                Ok(_) => {}
                // It ended the session with that error; `busy` stays.
                Err(_) => return error,
            }
        }
    }

    /// The socket failed.
    pub(super) fn lost(&mut self, e: std::io::Error) -> Error {
        self.busy = true;
        if let Some(tls) = tls::explain(&self.name, &self.host, &e) {
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
        self.busy = true;
        Error::fatal(format!("{}: the server sent {what}", self.name))
    }

    /// Gives up the parts for a reader with its own loop: the stream and what was read from it already.
    pub(crate) fn parts(&mut self) -> (&mut Transport, &mut BytesMut) {
        (&mut self.stream, &mut self.buf)
    }
    /// Sends a command and expects CopyBothResponse.
    pub(crate) async fn start_copy_both(&mut self, command: &str) -> Result<()> {
        self.send_query(command).await?;
        loop {
            let (tag, body) = self.message().await?;
            match tag {
                b'W' => return Ok(()),
                b'E' => return Err(self.failed("starting replication", &body).await),
                b'Z' | b'G' | b'H' => return Err(self.broken("no stream when replication was started")),
                _ => {}
            }
        }
    }
}

impl Drop for PgConn {
    fn drop(&mut self) {
        let mut bye = BytesMut::new();
        frontend::terminate(&mut bye);
        // Best effort: the server notices the closed socket anyway, this only spares its log a line.
        if self.out.is_empty() {
            self.stream.write_now(&bye);
        }
    }
}

/// Length of the frame at the start of `buf`, tag and length word included; `None` if less than five bytes are there.
pub(crate) fn frame_len(buf: &[u8]) -> Result<Option<usize>, &'static str> {
    let Some(&[_, a, b, c, d]) = buf.get(..5) else { return Ok(None) };
    match i32::from_be_bytes([a, b, c, d]) {
        // The server's own limit is 1 GiB and a little (MaxAllocSize, PQ_LARGE_MESSAGE_LIMIT).
        n if (4..=0x4100_0000).contains(&n) => Ok(Some(n as usize + 1)),
        _ => Err("a message with an impossible length"),
    }
}

/// The error that an ErrorResponse's body describes, without its DETAIL.
pub(crate) fn server_error(doing: impl std::fmt::Display, body: &[u8]) -> Error {
    let (mut code, mut message, mut hint, mut context) = ("", String::new(), None, None);
    for field in body.split(|b| *b == 0) {
        let Some((kind, value)) = field.split_first() else { break };
        match kind {
            b'C' => code = std::str::from_utf8(value).unwrap_or(""),
            b'M' => message = String::from_utf8_lossy(value).into_owned(),
            b'H' => hint = Some(String::from_utf8_lossy(value).into_owned()),
            b'W' => context = Some(String::from_utf8_lossy(value).into_owned()),
            _ => {}
        }
    }
    let message = errors::with_column(code, &message, context.as_deref());
    errors::from_server(doing, code, &message, hint.as_deref())
}

fn data_row(mut body: &[u8]) -> Option<Vec<Option<String>>> {
    let count = body.try_get_u16().ok()?;
    let mut row = Vec::with_capacity(count.into());
    for _ in 0..count {
        row.push(match body.try_get_i32().ok()? {
            -1 => None,
            len => {
                let value = body.get(..usize::try_from(len).ok()?)?;
                body.advance(value.len());
                Some(std::str::from_utf8(value).ok()?.to_owned())
            }
        });
    }
    Some(row)
}

/// `-c name=value …`; none of our values holds a blank or a backslash, which would need escapes here.
fn startup_options() -> String {
    STARTUP_SETTINGS.iter().map(|(n, v)| format!("-c {n}={v}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_both_kinds_of_session_when_compared_then_their_settings_are_the_same() {
        let said: Vec<_> = super::super::control::SESSION_SETTINGS
            .split(';')
            .filter_map(|s| s.trim().strip_prefix("SET ")?.split_once(" = "))
            .map(|(n, v)| (n.to_owned(), v.trim_matches('\'').to_owned()))
            .collect();
        let mut ours: Vec<_> = STARTUP_SETTINGS.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let mut said = said;
        ours.sort();
        said.sort();
        assert_eq!(ours, said);
    }

    #[test]
    fn given_a_row_cut_anywhere_when_read_then_it_is_refused() {
        let whole = [0, 2, 0, 0, 0, 1, b'x', 255, 255, 255, 255];
        assert_eq!(data_row(&whole), Some(vec![Some("x".into()), None]));
        for end in 0..whole.len() {
            assert_eq!(data_row(&whole[..end]), None);
        }
    }
}
