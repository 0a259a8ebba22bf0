//! The one channel between capture and apply, bounded in bytes. All the backpressure there is.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::change::{Event, Parcel};

/// Makes a channel that holds at most `bytes` bytes of events (one larger event passes alone).
pub fn channel(bytes: usize) -> (EventSender, EventReceiver) {
    let bytes = bytes.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
    let (tx, rx) = mpsc::unbounded_channel();
    (EventSender { tx, room: Arc::new(Semaphore::new(bytes)), limit: bytes }, EventReceiver { rx })
}

/// The capture's end.
#[derive(Clone, Debug)]
pub struct EventSender {
    tx: mpsc::UnboundedSender<(Parcel, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    limit: usize,
}

/// The receiver is gone: stop capturing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl EventSender {
    /// Waits for room and sends. Cancel-safe only in that nothing was sent; callers that must answer keepalives
    /// meanwhile keep the future and poll it beside the socket.
    pub async fn send(&self, parcel: Parcel) -> Result<(), Closed> {
        if parcel.events.is_empty() {
            return Ok(());
        }
        let permits = parcel.bytes.clamp(1, self.limit) as u32;
        let room = tokio::select! {
            room = self.room.clone().acquire_many_owned(permits) => room.map_err(|_| Closed)?,
            () = self.tx.closed() => return Err(Closed),
        };
        self.tx.send((parcel, room)).map_err(|_| Closed)
    }
    /// Waits until nobody listens any more.
    pub async fn closed(&self) {
        self.tx.closed().await;
    }
}

/// The apply's end.
#[derive(Debug)]
pub struct EventReceiver {
    rx: mpsc::UnboundedReceiver<(Parcel, OwnedSemaphorePermit)>,
}

impl EventReceiver {
    /// The next events; `None` when the capture ended and everything it sent was received. The room is given back when
    /// the returned [`Received`] is dropped, so hold it as long as the events' bytes are held.
    pub async fn recv(&mut self) -> Option<Received> {
        self.rx.recv().await.map(Received::new)
    }
}

/// Events and the room they take.
#[derive(Debug)]
pub struct Received {
    /// The events.
    pub events: Vec<Event>,
    /// Their bytes.
    pub bytes: usize,
    /// Given back on drop.
    pub room: OwnedSemaphorePermit,
}

impl Received {
    fn new((parcel, room): (Parcel, OwnedSemaphorePermit)) -> Self {
        Received { events: parcel.events, bytes: parcel.bytes, room }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::{Lsn, Position};

    fn parcel(bytes: usize) -> Parcel {
        let mut p = Parcel::default();
        p.push(Event::Heartbeat { position: Position::Lsn(Lsn(1)), at: 0 });
        p.bytes = bytes;
        p
    }

    #[tokio::test]
    async fn given_a_full_channel_when_sending_then_it_waits_for_the_receiver_to_drop() {
        let (tx, mut rx) = channel(100);
        tx.send(parcel(100)).await.unwrap();
        let mut second = Box::pin(tx.send(parcel(1)));
        assert!(futures_util::poll!(&mut second).is_pending());
        let held = rx.recv().await.unwrap();
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(held);
        second.await.unwrap();
    }

    #[tokio::test]
    async fn given_a_parcel_larger_than_the_channel_when_alone_then_it_passes() {
        let (tx, mut rx) = channel(10);
        tx.send(parcel(1000)).await.unwrap();
        assert_eq!(rx.recv().await.unwrap().bytes, 1000);
    }

    #[tokio::test]
    async fn given_a_dropped_receiver_when_waiting_for_room_then_the_sender_learns_it() {
        let (tx, rx) = channel(10);
        tx.send(parcel(10)).await.unwrap();
        let waiting = tx.send(parcel(10));
        drop(rx);
        assert_eq!(waiting.await, Err(Closed));
    }
}
