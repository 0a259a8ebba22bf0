//! Cluster times, and the tokens of change streams that hold one. Pure.

use std::sync::Arc;

use bson::Timestamp;

use crate::position::OplogPosition;

/// A place in the oplog: seconds and a counter, in one number that sorts as the two do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Time {
    /// Of seconds since the Unix epoch and the counter within the second.
    pub fn new(seconds: u32, increment: u32) -> Time {
        Time(u64::from(seconds) << 32 | u64::from(increment))
    }
    /// Seconds since the Unix epoch.
    pub fn seconds(self) -> u32 {
        (self.0 >> 32) as u32
    }
    /// The counter within the second.
    pub fn increment(self) -> u32 {
        self.0 as u32
    }
    /// The first place behind this one.
    pub fn next(self) -> Time {
        Time(self.0.saturating_add(1))
    }
    /// As the server's own type.
    pub fn timestamp(self) -> Timestamp {
        Timestamp { time: self.seconds(), increment: self.increment() }
    }
    /// As a position without a token.
    pub fn position(self) -> OplogPosition {
        OplogPosition { seconds: self.seconds(), increment: self.increment(), token: None }
    }
    /// As a position with the token of an event at this place; without one where it is empty.
    pub fn with_token(self, token: &str) -> OplogPosition {
        OplogPosition { token: Some(token).filter(|t| !t.is_empty()).map(Arc::from), ..self.position() }
    }
    /// Microseconds since the Unix epoch, to the second.
    pub fn micros(self) -> i64 {
        i64::from(self.seconds()) * 1_000_000
    }
}

impl From<Timestamp> for Time {
    fn from(t: Timestamp) -> Time {
        Time::new(t.time, t.increment)
    }
}

impl From<&OplogPosition> for Time {
    fn from(p: &OplogPosition) -> Time {
        Time::new(p.seconds, p.increment)
    }
}

/// The cluster time that a token begins with. It is a key string (`key_string.h`): the byte 130 for a timestamp, then its
/// eight bytes, most significant first, and what tells events of one time apart.
pub fn time_of(token: &str) -> Option<Time> {
    let digits = token.strip_prefix("82")?.get(..16)?;
    // `from_str_radix` would take a sign.
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u64::from_str_radix(digits, 16).ok().map(Time))?
}

/// Whether everything of the token's cluster time lies before it, where times are unique (a replica set): it is an event's.
/// The other kind says that the stream came as far as that time, and an operation of that very time may lie behind it.
/// Source: `resume_token.cpp`: behind the time stand the version (a number, `2B` and one byte) and the kind, 0 (`29`) for a
/// mark of how far the stream is, 128 (`2C0100`) for an event.
pub fn is_events(token: &str) -> bool {
    let version = token.get(18..20) == Some("2B");
    time_of(token).is_some() && version && token.get(22..28) == Some("2C0100")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_tokens_of_both_kinds_when_asked_then_an_events_is_told_from_a_mark() {
        assert!(is_events("826B01B7D20000001C2B022C0100296E04"));
        for other in ["826B01B7D20000001C2B0229296E04", "826B01B7D20000001C", "", "826B01B7D20000001C2B02é"] {
            assert!(!is_events(other), "{other}");
        }
    }

    #[test]
    fn given_tokens_when_read_then_their_cluster_time_is_there() {
        let token = "826B01B7D20000001C2B022C0100296E04";
        assert_eq!(time_of(token), Some(Time::new(0x6B01_B7D2, 0x1C)));
        for bad in
            ["", "82", "826B01B7D2000000", "836B01B7D20000001C2B", "82+B01B7D20000001C2B", "82é01B7D20000001C2B00"]
        {
            assert_eq!(time_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn given_times_when_compared_then_seconds_come_first() {
        assert!(Time::new(2, 0) > Time::new(1, u32::MAX));
        assert_eq!(Time::new(1, u32::MAX).next(), Time::new(2, 0));
        let p = Time::new(7, 9).with_token("82AA");
        assert_eq!(Time::from(&p), Time::new(7, 9));
    }
}
