//! The socket of a running replication stream: frames in, status updates out, in every state on time.
//!
//! Source: PostgreSQL manual, "Streaming Replication Protocol"; `walsender.c`. The server cuts a stream from which it
//! heard nothing for `wal_sender_timeout`, and its keepalives lie behind the rows in TCP's order, so updates are sent by
//! the clock and not only when asked for.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::AsyncWrite;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;

use super::pgoutput::unix_micros;
use crate::change::Micros;
use crate::error::{Error, Result};
use crate::pgwire::conn::{PgConn, READ_SIZE, frame_len, server_error};
use crate::pgwire::transport::Transport;
use crate::position::{Lsn, Position};

/// A newly confirmed position is told to the server at most this often.
const CONFIRM_EVERY: Duration = Duration::from_millis(200);
/// While data pours in, the socket wakes us only for this much: the server flushes every message by itself, and waking
/// for each costs both sides more than the message does (measured on a busy machine: some 15 % of a backlog).
const GATHER: i32 = 32 << 10;
/// How long less than that may lie in the socket. A quiet stream is never gathered, so its latency does not know this.
const GATHER_AT_MOST: Duration = Duration::from_millis(1);
/// And once the socket was nearly empty it rests for so long: meanwhile the window closes, and what the server sends is
/// added up in its kernel, which costs it less than to send each message by itself (docs/benchmarks.md, capture).
const REST: Duration = Duration::from_millis(2);
/// A read of less found the socket nearly empty.
const NEARLY_EMPTY: usize = 192 << 10;
/// For that the window has to be small, which on a connection of a shorter round trip than `NEAR` slows nothing down.
const NEAR_WINDOW: usize = 128 << 10;
const NEAR: Duration = Duration::from_millis(1);
/// How fast data arrives is gauged over at least this long.
const GAUGE: Duration = Duration::from_millis(1);
/// Data pours in from so many bytes a millisecond.
const POURING: usize = 8 << 10;
/// A CopyData message with XLogData: tag, length, `w`, start, end, time.
const DATA_HEAD: usize = 5 + 25;
/// `k`, end, time, reply wanted.
const KEEPALIVE: usize = 5 + 18;
/// The server measures times from 2000-01-01.
const EPOCH: i64 = 946_684_800_000_000;

/// What the server sends.
pub(super) enum Frame {
    /// One pgoutput message.
    Data(Bytes),
    /// A sign of life.
    Keepalive {
        /// Everything before this place has been sent.
        end: Lsn,
        /// The server's clock.
        at: Micros,
        /// The server wants an answer (a status update is on its way already).
        urgent: bool,
    },
}

/// The socket and its clocks.
pub(super) struct Wire {
    conn: PgConn,
    /// A chunk of about 256 KiB whose front becomes frames. It is never grown while anything in it waits: a stalled
    /// receiver stops the reading when the chunk is full.
    buf: BytesMut,
    outgoing: BytesMut,
    flushing: bool,
    confirmed: watch::Receiver<Position>,
    /// The other end of `confirmed` is there.
    confirming: bool,
    reported: Lsn,
    last_status: Instant,
    last_received: Instant,
    /// Since `gauge_since`, so many bytes have arrived.
    gauge: usize,
    gauge_since: Instant,
    /// The socket gathers, until this time at most.
    gathering: Option<Instant>,
    /// The socket is not read before this time.
    rests: Option<Instant>,
    /// Updates are sent at least this often.
    pub interval: Duration,
    /// Nothing from the server for so long: the connection is dead.
    pub silence_limit: Duration,
    /// `step` returns at this time even if nothing happened.
    pub wake_at: Option<Instant>,
}

impl Wire {
    pub(super) fn new(mut conn: PgConn, confirmed: watch::Receiver<Position>) -> Self {
        let mut buf = BytesMut::with_capacity(READ_SIZE);
        let (stream, read_already) = conn.parts();
        buf.extend_from_slice(read_already);
        read_already.clear();
        stream.bound_when_near(NEAR_WINDOW, NEAR);
        let now = Instant::now();
        Wire {
            conn,
            buf,
            outgoing: BytesMut::with_capacity(256),
            flushing: false,
            confirmed,
            confirming: true,
            reported: Lsn(0),
            last_status: now,
            last_received: now,
            gauge: 0,
            gauge_since: now,
            gathering: None,
            rests: None,
            interval: Duration::from_secs(5),
            silence_limit: Duration::from_secs(60),
            wake_at: None,
        }
    }

    pub(super) fn name(&self) -> &str {
        self.conn.name()
    }

    /// The next whole frame that was read already.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame>> {
        loop {
            let len = match frame_len(&self.buf) {
                Ok(Some(len)) if len <= self.buf.len() => len,
                Ok(wanted) => {
                    self.make_room(wanted.unwrap_or(5));
                    return Ok(None);
                }
                Err(what) => return Err(self.broken(what)),
            };
            let mut frame = self.buf.split_to(len).freeze();
            match (frame[0], frame.get(5)) {
                (b'd', Some(b'w')) if len > DATA_HEAD => {
                    frame.advance(DATA_HEAD);
                    return Ok(Some(Frame::Data(frame)));
                }
                (b'd', Some(b'k')) if len == KEEPALIVE => {
                    frame.advance(6);
                    let (end, at) = (Lsn(frame.get_u64()), unix_micros(frame.get_i64()));
                    let urgent = frame.get_u8() != 0;
                    if urgent {
                        self.report(false);
                    }
                    return Ok(Some(Frame::Keepalive { end, at, urgent }));
                }
                (b'E', _) => return Err(server_error(format_args!("streaming from the {}", self.name()), &frame[5..])),
                (b'c' | b'C', _) => {
                    return Err(Error::retry(format!("the {} ended the stream (is it shutting down?)", self.name())));
                }
                (b'N' | b'S' | b'A' | b'Z', _) => {}
                _ => return Err(self.broken("a message that does not belong into a replication stream")),
            }
        }
    }

    /// Waits for `work`, and meanwhile reads what fits and tells the server that we live.
    pub(super) async fn wait<T>(&mut self, work: impl Future<Output = T>) -> Result<T> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                stepped = self.step() => stepped?,
            }
        }
    }

    /// Waits until something was read, or a clock or a confirmation wants attention, and gives it. Cancel-safe.
    pub(super) async fn step(&mut self) -> Result<()> {
        enum Woken {
            Socket(std::io::Result<usize>),
            Confirmed(bool),
            Clock,
        }
        if let Some(until) = self.rests {
            tokio::time::sleep_until(until).await;
            self.rests = None;
        }
        let at = self.deadline();
        let (stream, _) = self.conn.parts();
        let woken = tokio::select! {
            biased;
            n = exchange(stream, &mut self.buf, &mut self.outgoing, &mut self.flushing) => Woken::Socket(n),
            changed = self.confirmed.changed(), if self.confirming => Woken::Confirmed(changed.is_ok()),
            () = tokio::time::sleep_until(at) => Woken::Clock,
        };
        let now = Instant::now();
        match woken {
            Woken::Socket(Ok(0)) => {
                return Err(Error::retry(format!("the {} closed the replication connection", self.name())));
            }
            Woken::Socket(Ok(n)) => {
                self.last_received = now;
                self.arrived(n, now);
            }
            Woken::Socket(Err(e)) => {
                return Err(Error::retry(format!("the replication connection to the {} was lost: {e}", self.name())));
            }
            Woken::Confirmed(alive) => self.confirming = alive,
            Woken::Clock if self.gathering.is_some_and(|until| until <= now) => self.gather(None),
            Woken::Clock => {}
        }
        if self.is_full() {
            // We do not listen, so silence proves nothing.
            self.last_received = now;
        } else if now.duration_since(self.last_received) >= self.silence_limit {
            return Err(Error::retry(format!(
                "heard nothing from the {} for {} seconds",
                self.name(),
                self.silence_limit.as_secs()
            )));
        }
        let since = now.duration_since(self.last_status);
        if since >= self.interval {
            // Every update by the clock asks for an answer: on an idle server that is how we know that it lives.
            self.report(true);
        } else if since >= CONFIRM_EVERY && self.confirmed_lsn() > self.reported {
            self.report(false);
        }
        Ok(())
    }

    /// Says goodbye: the last confirmed position, CopyDone, and what the server still sends is dropped until it has
    /// agreed or `patience` is over.
    pub(super) async fn finish(&mut self, patience: Duration) {
        self.report(false);
        // CopyDone: tag and length.
        self.outgoing.put_slice(&[b'c', 0, 0, 0, 4]);
        let leaving = async {
            loop {
                match self.next_frame() {
                    Ok(Some(_)) => {}
                    Ok(None) if self.step().await.is_err() => return,
                    Ok(None) => {}
                    Err(_) => return,
                }
            }
        };
        let _ = tokio::time::timeout(patience, leaving).await;
    }

    /// Gauges how fast data arrives, and gathers it while that is fast.
    fn arrived(&mut self, bytes: usize, now: Instant) {
        self.gauge += bytes;
        let since = now.duration_since(self.gauge_since);
        if since >= GAUGE {
            let pours = self.gauge as u128 * 1000 >= POURING as u128 * since.as_micros();
            (self.gauge, self.gauge_since) = (0, now);
            self.gather(pours.then_some(now));
        } else if self.gathering.is_some() {
            self.gather(Some(now));
        }
        self.rests = (self.gathering.is_some() && bytes < NEARLY_EMPTY).then_some(now + REST);
    }

    fn gather(&mut self, from: Option<Instant>) {
        if self.gathering.is_some() != from.is_some() {
            let (stream, _) = self.conn.parts();
            stream.wake_at(if from.is_some() { GATHER } else { 1 });
        }
        self.gathering = from.map(|from| from + REST + GATHER_AT_MOST);
    }

    fn is_full(&self) -> bool {
        self.buf.capacity() == self.buf.len()
    }

    /// Frames keep their chunk alive, so a chunk that is nearly used up is left behind, with what is in it of the next
    /// frame carried over. A frame larger than a chunk gets one of exactly its size.
    fn make_room(&mut self, needed: usize) {
        if self.buf.capacity() - self.buf.len() < READ_SIZE / 16 && self.buf.capacity() < needed.max(READ_SIZE / 2)
            || self.buf.capacity() < needed
        {
            let mut fresh = BytesMut::with_capacity(needed.max(READ_SIZE));
            fresh.extend_from_slice(&self.buf);
            self.buf = fresh;
        }
    }

    fn confirmed_lsn(&self) -> Lsn {
        self.confirmed.borrow().lsn().unwrap_or_default()
    }

    fn deadline(&self) -> Instant {
        let mut at = self.last_status + self.interval;
        if self.confirmed_lsn() > self.reported {
            at = at.min(self.last_status + CONFIRM_EVERY);
        }
        if !self.is_full() {
            at = at.min(self.last_received + self.silence_limit);
        }
        if let Some(until) = self.gathering {
            at = at.min(until);
        }
        self.wake_at.map_or(at, |wake| at.min(wake))
    }

    /// Queues a Standby status update: written, flushed and applied are all what the target has committed, no more.
    fn report(&mut self, answer_wanted: bool) {
        self.last_status = Instant::now();
        if self.outgoing.len() > 4096 {
            // The server takes nothing any more; saying it again helps nobody.
            return;
        }
        self.reported = self.reported.max(self.confirmed_lsn());
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX));
        self.outgoing.put_u8(b'd');
        self.outgoing.put_u32(4 + 34);
        self.outgoing.put_u8(b'r');
        for _ in 0..3 {
            self.outgoing.put_u64(self.reported.0);
        }
        self.outgoing.put_i64(now - EPOCH);
        self.outgoing.put_u8(answer_wanted.into());
    }

    fn broken(&self, what: &str) -> Error {
        Error::fatal(format!("streaming from the {}: it sent {what}", self.name()))
    }
}

/// Writes what waits and reads into the room of `buf`; ready when something was read (0: the end).
async fn exchange(
    stream: &mut Transport,
    buf: &mut BytesMut,
    outgoing: &mut BytesMut,
    flushing: &mut bool,
) -> std::io::Result<usize> {
    poll_fn(|cx| {
        while !outgoing.is_empty() {
            match Pin::new(&mut *stream).poll_write(cx, outgoing) {
                Poll::Ready(Ok(n)) => outgoing.advance(n),
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => break,
            }
            *flushing = true;
        }
        if *flushing {
            match Pin::new(&mut *stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => *flushing = false,
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => {}
            }
        }
        if buf.capacity() == buf.len() {
            // Full: woken by the clocks, or by whoever we wait for.
            return Poll::Pending;
        }
        poll_read_buf(Pin::new(&mut *stream), cx, buf)
    })
    .await
}
