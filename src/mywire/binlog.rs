//! The binary log as a replica gets it: raw events, many from one read of the socket, and a limit on silence.
//!
//! Source: MySQL internals manual, "Replication Protocol"; `rpl_replica.cc` (what a replica says before it asks);
//! MariaDB, "Replica Protocol". What the events mean is decoded elsewhere.

use std::time::Duration;

use bytes::{Buf, Bytes};

use super::conn::{Flavour, MyConn, command};
use super::packet::{MAX_PAYLOAD, ServerError};
use super::{errors, quote};
use crate::error::{Error, Result, ResultExt};

/// Where to begin.
#[derive(Clone, Copy, Debug)]
pub enum BinlogFrom<'a> {
    /// At an event's start in a file of the log. The protocol has 32 bits for the place.
    File {
        /// `binlog.000001`
        name: &'a str,
        /// 4 is a file's first event.
        position: u64,
    },
    /// MySQL: with everything that is not in this set, in the binary form of COM_BINLOG_DUMP_GTID (`Gtid_set::encode`).
    GtidSet(&'a [u8]),
    /// MariaDB: after these, `0-1-100,1-2-7`, one a domain.
    ConnectState(&'a str),
}

/// How the stream is read.
#[derive(Clone, Copy, Debug)]
pub struct BinlogOptions<'a> {
    /// A number that no server of the replication topology has; a second reader with it throws the first one out.
    pub server_id: u32,
    /// The same as a UUID, which MySQL goes by: the server ends an older stream of the same reader at once.
    pub uuid: &'a str,
    /// The server sends a heartbeat when it had nothing to send for so long.
    pub heartbeat: Duration,
    /// Nothing for so long, and the connection is dead; some heartbeats at least.
    pub silence_limit: Duration,
    /// Wait for new events at the log's end, instead of ending there.
    pub wait: bool,
}

/// A running stream. Dropping it closes the connection.
#[derive(Debug)]
pub struct BinlogStream {
    conn: MyConn,
    silence_limit: Duration,
    ended: bool,
}

impl MyConn {
    /// Turns the connection into a stream of binary log events.
    ///
    /// # Errors
    /// The server's own, by its number; some come with the first event only. `Fatal` for a place beyond the protocol.
    pub async fn binlog_dump(mut self, from: BinlogFrom<'_>, options: &BinlogOptions<'_>) -> Result<BinlogStream> {
        let doing = "starting to read the binary log";
        self.execute(greetings(self.flavour(), from, options)).await.context(doing)?;
        self.send(command::REGISTER_REPLICA, &registration(options.server_id)).await?;
        self.results(|_| true).await.context(doing)?;
        let (command, body) = request(self.flavour(), from, options).context(doing)?;
        self.send(command, &body).await?;
        Ok(BinlogStream { conn: self, silence_limit: options.silence_limit, ended: false })
    }
}

/// What a replica sets before it asks: it knows checksums (the events then have what the server's setting says), and
/// when it wants heartbeats. MariaDB: it knows all that MariaDB 10 writes (capability 4, GTID events), and a place that
/// the log does not have is an error, not a guess.
fn greetings(flavour: Flavour, from: BinlogFrom<'_>, options: &BinlogOptions<'_>) -> String {
    let period = options.heartbeat.as_nanos();
    match flavour {
        Flavour::Mysql => {
            let uuid = quote::literal(options.uuid);
            // The first of each pair is what servers before 8.0.26 look at.
            format!(
                "SET @master_heartbeat_period = {period}, @source_heartbeat_period = {period}, \
                 @master_binlog_checksum = @@global.binlog_checksum, @source_binlog_checksum = @@global.binlog_checksum, \
                 @slave_uuid = {uuid}, @replica_uuid = {uuid}"
            )
        }
        Flavour::Mariadb => {
            let state = match from {
                BinlogFrom::ConnectState(state) => format!(
                    ", @slave_connect_state = {}, @slave_gtid_strict_mode = 1, @slave_gtid_ignore_duplicates = 0",
                    quote::literal(state)
                ),
                _ => String::new(),
            };
            format!(
                "SET @master_heartbeat_period = {period}, @master_binlog_checksum = @@global.binlog_checksum, \
                 @mariadb_slave_capability = 4{state}"
            )
        }
    }
}

/// COM_REGISTER_SLAVE: number, then host, account and password (none of them given), port, rank, and the source's number.
fn registration(server_id: u32) -> Vec<u8> {
    let mut body = server_id.to_le_bytes().to_vec();
    body.resize(4 + 3 + 2 + 4 + 4, 0);
    body
}

fn request(flavour: Flavour, from: BinlogFrom<'_>, options: &BinlogOptions<'_>) -> Result<(u8, Vec<u8>)> {
    const NON_BLOCK: u16 = 1;
    const THROUGH_GTID: u16 = 4;
    let flags = if options.wait { 0 } else { NON_BLOCK };
    let mut body = Vec::new();
    let (name, position) = match (from, flavour) {
        (BinlogFrom::GtidSet(set), Flavour::Mysql) => {
            body.extend_from_slice(&(flags | THROUGH_GTID).to_le_bytes());
            body.extend_from_slice(&options.server_id.to_le_bytes());
            // No file: the server finds the first one that it needs.
            body.extend_from_slice(&0u32.to_le_bytes());
            body.extend_from_slice(&4u64.to_le_bytes());
            let len = u32::try_from(set.len()).map_err(|_| Error::fatal("a GTID set of more than 4 GiB"))?;
            body.extend_from_slice(&len.to_le_bytes());
            body.extend_from_slice(set);
            return Ok((command::BINLOG_DUMP_GTID, body));
        }
        (BinlogFrom::ConnectState(_), Flavour::Mariadb) => ("", 4),
        (BinlogFrom::File { name, position }, _) => (name, position),
        _ => return Err(Error::fatal("a position of MySQL asked of MariaDB, or the other way round")),
    };
    let position = u32::try_from(position).map_err(|_| {
        Error::fatal(format!("the place {name}:{position} lies behind 4 GiB, where the protocol cannot ask for it"))
            .hint("switch GTIDs on at the source, or begin at an earlier place in that file")
    })?;
    body.extend_from_slice(&position.to_le_bytes());
    body.extend_from_slice(&flags.to_le_bytes());
    body.extend_from_slice(&options.server_id.to_le_bytes());
    body.extend_from_slice(name.as_bytes());
    Ok((command::BINLOG_DUMP, body))
}

impl BinlogStream {
    /// The next event, header and checksum included, as the log holds it. Heartbeats and other events that no file of
    /// the log holds come as they are. `None` at the log's end, where the stream was not told to wait. Cancel-safe.
    ///
    /// # Errors
    /// `Retry` when the connection fails or nothing came for the silence limit; `Fatal` when the server has not the
    /// place any more (error 1236).
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.ended {
                return Ok(None);
            }
            if let Some(event) = self.next_buffered()? {
                return Ok(Some(event));
            }
            if !self.ended {
                let read = tokio::time::timeout(self.silence_limit, self.conn.read_some()).await;
                read.unwrap_or_else(|_| {
                    Err(Error::retry(format!(
                        "heard nothing from the {} for {:.1} seconds",
                        self.conn.name(),
                        self.silence_limit.as_secs_f64()
                    )))
                })?;
            }
        }
    }

    /// The next event that was read already; it waits for nothing.
    ///
    /// # Errors
    /// As [`BinlogStream::next`].
    pub fn next_buffered(&mut self) -> Result<Option<Bytes>> {
        if self.ended {
            return Ok(None);
        }
        let Some(mut packet) = self.conn.buffered_packet()? else { return Ok(None) };
        match packet.first() {
            Some(0) => {
                packet.advance(1);
                Ok(Some(packet))
            }
            Some(0xfe) if packet.len() < MAX_PAYLOAD => {
                self.ended = true;
                Ok(None)
            }
            Some(0xff) => {
                self.ended = true;
                let doing = format!("reading the binary log of the {}", self.conn.name());
                match ServerError::parse(&packet) {
                    Some(e) => Err(errors::from_server(doing, &e)),
                    None => Err(self.conn.broken("an error that cannot be read")),
                }
            }
            _ => Err(self.conn.broken("something that is no event")),
        }
    }

    /// `source at host:port`, for messages.
    pub fn name(&self) -> &str {
        self.conn.name()
    }
    /// The connection's number at the server.
    pub fn connection_id(&self) -> u32 {
        self.conn.connection_id()
    }
    /// Whose server it is and of which version.
    pub fn server(&self) -> &super::server::Server {
        self.conn.server()
    }
}
