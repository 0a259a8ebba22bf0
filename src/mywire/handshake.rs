//! How a connection begins: greeting, TLS, authentication, and the session's settings.
//!
//! Source: MySQL internals manual, "Connection Phase".

use std::time::Duration;

use bytes::BytesMut;
use secrecy::ExposeSecret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::auth::{Authenticator, Step};
use super::conn::{MyConn, Preset, Server, State};
use super::conninfo::{MyConnInfo, WORDS};
use super::errors;
use super::packet::{self, Greeting, MAX_PAYLOAD, Response, ServerError, capability};
use crate::error::{Error, Result, ResultExt};
use crate::transport::{Transport, tls};

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
            in_transaction: false,
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
