//! The binary log's stream: reads events as they come, and hands on what they mean.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::binlog::{self, Body, Decoder};
use super::catalog::{Catalog, Described};
use super::ddl::{self, Session};
use super::follow::{Follower, Keyed, Known};
use super::place;
use crate::change::Parcel;
use crate::error::{Error, Result};
use crate::mywire::binlog::{BinlogFrom, BinlogOptions, BinlogStream};
use crate::mywire::conn::{Flavour, MyConn};
use crate::position::{BinlogPosition, Passed};
use crate::source::queue::{Closed, EventSender};

/// The server says that it is there when it had nothing to say for so long.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Silence for so long is a dead connection.
const SILENCE: Duration = Duration::from_secs(15);
/// Bytes of events that are handed on together.
const PARCEL_BYTES: usize = 256 << 10;
/// What committed within so much of now is taken for the log's end when nothing more has come.
const FRESH_MICROS: i64 = 2_000_000;

fn clock() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}

/// What a reader of this migration calls itself: the same after a restart, so that the server lets go of the former one.
fn reader(program: &str) -> (u32, String) {
    let id = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, format!("switchyard:{program}").as_bytes());
    let [a, b, c, d, ..] = *id.as_bytes();
    // Above what people give their servers.
    (u32::from_be_bytes([a, b, c, d]) | 0x8000_0000, id.to_string())
}

/// Follows the log from `from` until the connection fails or `out` is closed.
///
/// # Errors
/// `Retry` for lost connections; `Fatal` for what cannot be followed.
pub async fn run(
    mut conn: MyConn,
    program: &str,
    from: BinlogPosition,
    known: Known,
    catalog: &Catalog,
    out: EventSender,
) -> Result<()> {
    // How far the source's clock is ahead of ours.
    let ahead = place::clock(&mut conn).await? - clock();
    let flavour = match conn.flavour() {
        Flavour::Mysql => binlog::Flavour::MySql,
        Flavour::Mariadb => binlog::Flavour::MariaDb,
    };
    let (major, minor, patch) = conn.server().number;
    let session = Session {
        mariadb: conn.flavour() == Flavour::Mariadb,
        version: u32::from(major) * 10_000 + u32::from(minor) * 100 + u32::from(patch),
        ..Session::default()
    };
    let (server_id, uuid) = reader(program);
    let options = BinlogOptions { server_id, uuid: &uuid, heartbeat: HEARTBEAT, silence_limit: SILENCE, wait: true };
    let stream = match &from.passed {
        Passed::Sources(set) => conn.binlog_dump(BinlogFrom::GtidSet(&set.encode()), &options).await,
        Passed::Domains(domains) => conn.binlog_dump(BinlogFrom::ConnectState(&domains.to_string()), &options).await,
        Passed::Unnumbered => {
            conn.binlog_dump(BinlogFrom::File { name: &from.file, position: from.offset }, &options).await
        }
    };
    let tail = Tail {
        stream: stream.map_err(place::reading)?,
        decoder: Decoder::new(flavour),
        follower: Follower::new(known, session, from, keyed(&catalog.tables), keyed(&catalog.shadows)),
        parcel: Parcel::default(),
        ahead,
    };
    tail.run(out).await
}

fn keyed(described: &[Described]) -> Vec<Keyed> {
    described.iter().map(|d| (d.table.clone(), ddl::keys_of(&d.def))).collect()
}

struct Tail {
    stream: BinlogStream,
    decoder: Decoder,
    follower: Follower,
    parcel: Parcel,
    ahead: i64,
}

impl Tail {
    async fn run(mut self, out: EventSender) -> Result<()> {
        loop {
            let next = match self.stream.next_buffered()? {
                Some(event) => event,
                None => {
                    // Nothing more was read: what is there goes on before we wait.
                    self.level();
                    if self.hand_on(&out).await.is_err() {
                        return Ok(());
                    }
                    tokio::select! {
                        next = self.stream.next() => match next.map_err(place::reading)? {
                            Some(event) => event,
                            None => return Err(Error::retry("the source ended its log's stream")),
                        },
                        () = out.closed() => return Ok(()),
                    }
                }
            };
            let event = self.decoder.event(&next)?;
            let idle = matches!(event.body, Body::Heartbeat { .. });
            match &event.body {
                Body::Payload(payload) => {
                    let mut reader = payload.reader().map_err(|e| Error::fatal(e.to_string()))?;
                    self.follower.event(event, &mut self.parcel)?;
                    while let Some(inner) = self.decoder.inner(&mut reader)? {
                        self.follower.event(inner, &mut self.parcel)?;
                        if self.parcel.bytes >= PARCEL_BYTES && self.hand_on(&out).await.is_err() {
                            return Ok(());
                        }
                    }
                }
                _ => self.follower.event(event, &mut self.parcel)?,
            }
            for what in self.follower.said() {
                tracing::warn!("{what}");
            }
            if idle && let Some(heartbeat) = self.follower.heartbeat(clock() + self.ahead, true) {
                self.parcel.push(heartbeat);
            }
            if self.parcel.bytes >= PARCEL_BYTES && self.hand_on(&out).await.is_err() {
                return Ok(());
            }
        }
    }

    /// Says that everything was seen, where what was read last is so fresh that it must be the log's end.
    fn level(&mut self) {
        let now = clock() + self.ahead;
        if now - self.follower.committed_at() < FRESH_MICROS
            && let Some(heartbeat) = self.follower.heartbeat(now, false)
        {
            self.parcel.push(heartbeat);
        }
    }

    async fn hand_on(&mut self, out: &EventSender) -> Result<(), Closed> {
        out.send(std::mem::take(&mut self.parcel)).await
    }
}
