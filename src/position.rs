//! A place in the source's log.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::gtid::{self, GtidSet, MariaGtidPos};

/// A write-ahead log address: a byte offset, printed as two hexadecimal halves (`0/1DC7C420`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 as u32)
    }
}

impl FromStr for Lsn {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let bad = || format!("{s:?} is not a log sequence number such as 0/1DC7C420");
        let (hi, lo) = s.split_once('/').ok_or_else(bad)?;
        let hi = u32::from_str_radix(hi, 16).map_err(|_| bad())?;
        let lo = u32::from_str_radix(lo, 16).map_err(|_| bad())?;
        Ok(Lsn(u64::from(hi) << 32 | u64::from(lo)))
    }
}

/// A transaction's own name in a binary log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransactionId {
    /// By the server that it was first committed on.
    Source(#[serde(with = "text")] gtid::Gtid),
    /// By its replication domain.
    Domain(#[serde(with = "text")] gtid::DomainGtid),
}

/// The transactions before a place of a binary log, where the server numbers them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Passed {
    /// It does not number them.
    #[default]
    Unnumbered,
    /// As a set of ids by the servers that gave them.
    Sources(GtidSet),
    /// As the last id of every replication domain.
    Domains(MariaGtidPos),
}

/// A place in a binary log: behind a whole transaction, or at the beginning of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinlogPosition {
    /// The file's name, `binlog.000012`; its number goes on past `.999999`.
    pub file: Arc<str>,
    /// Bytes from the file's beginning.
    pub offset: u64,
    /// The transactions before it. Where they are numbered, they say what was passed, and the file only where it was seen.
    pub passed: Passed,
}

impl BinlogPosition {
    /// The file's number.
    fn number(&self) -> Option<(&str, u64)> {
        let (base, number) = self.file.rsplit_once('.')?;
        Some((base, number.parse().ok()?))
    }
    fn reached(&self, stop: &BinlogPosition) -> bool {
        match (&self.passed, &stop.passed) {
            (Passed::Sources(a), Passed::Sources(b)) => a.is_superset(b),
            (Passed::Domains(a), Passed::Domains(b)) => a.reached(b),
            _ => match (self.number(), stop.number()) {
                (Some((a, n)), Some((b, m))) => a == b && (n, self.offset) >= (m, stop.offset),
                _ => false,
            },
        }
    }
    fn contains(&self, id: &TransactionId) -> Option<bool> {
        match (&self.passed, id) {
            (Passed::Sources(set), TransactionId::Source(g)) => Some(set.contains(&g.source, &g.tag, g.number)),
            (Passed::Domains(p), TransactionId::Domain(g)) => {
                Some(p.get(g.domain).is_some_and(|(_, last)| last >= g.sequence))
            }
            _ => None,
        }
    }
}

impl fmt::Display for BinlogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.offset)?;
        match &self.passed {
            Passed::Unnumbered => Ok(()),
            Passed::Sources(set) => write!(f, ";set={set}"),
            Passed::Domains(p) => write!(f, ";domains={p}"),
        }
    }
}

impl FromStr for BinlogPosition {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let bad = || format!("{s:?} is no place in a binary log such as binlog.000001:157");
        let (place, passed) = match s.split_once(';') {
            None => (s, Passed::Unnumbered),
            Some((place, ids)) => match ids.split_once('=').ok_or_else(bad)? {
                ("set", ids) => (place, Passed::Sources(ids.parse()?)),
                ("domains", ids) => (place, Passed::Domains(ids.parse()?)),
                _ => return Err(bad()),
            },
        };
        let (file, offset) = place.rsplit_once(':').ok_or_else(bad)?;
        if file.is_empty() {
            return Err(bad());
        }
        Ok(BinlogPosition { file: file.into(), offset: offset.parse().map_err(|_| bad())?, passed })
    }
}

impl Serialize for BinlogPosition {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BinlogPosition {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Ids as their text.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<T: Display, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(value)
    }
    pub fn deserialize<'de, T: FromStr<Err = String>, D: Deserializer<'de>>(d: D) -> Result<T, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A place in a replica set's oplog: behind a whole transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OplogPosition {
    /// Seconds since the Unix epoch, of the cluster's own clock.
    pub seconds: u32,
    /// Counts operations within the second, from 1.
    pub increment: u32,
    /// The change stream's own token of the place, its `_data`: hexadecimal digits that sort as the stream does. `None` where
    /// only the cluster time is known.
    pub token: Option<Arc<str>>,
}

impl OplogPosition {
    fn reached(&self, stop: &OplogPosition) -> bool {
        let (a, b) = ((self.seconds, self.increment), (stop.seconds, stop.increment));
        match (a == b, &self.token, &stop.token) {
            // Shards may share a cluster time, and a transaction's events do.
            (true, Some(a), Some(b)) => a >= b,
            _ => a >= b,
        }
    }
}

impl fmt::Display for OplogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.seconds, self.increment)?;
        match &self.token {
            None => Ok(()),
            Some(token) => write!(f, ",{token}"),
        }
    }
}

impl FromStr for OplogPosition {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let bad = || format!("{s:?} is no cluster time such as 1700000000.1");
        let (time, token) = match s.split_once(',') {
            None => (s, None),
            Some((time, token)) => (time, Some(token)),
        };
        let (seconds, increment) = time.split_once('.').ok_or_else(bad)?;
        if token.is_some_and(|t| t.is_empty() || !t.bytes().all(|b| b.is_ascii_hexdigit())) {
            return Err(bad());
        }
        Ok(OplogPosition {
            seconds: seconds.parse().map_err(|_| bad())?,
            increment: increment.parse().map_err(|_| bad())?,
            token: token.map(Arc::from),
        })
    }
}

impl Serialize for OplogPosition {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for OplogPosition {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A place in the source's log. Not `Ord`: sets of transaction ids are only partly ordered, so there is only
/// [`Position::reached`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// A write-ahead log address: the end of a commit, so that everything up to and including it was seen.
    Lsn(Lsn),
    /// A place in a binary log.
    Binlog(BinlogPosition),
    /// A place in an oplog.
    Oplog(OplogPosition),
}

impl Position {
    /// Whether everything up to `stop` has been passed.
    pub fn reached(&self, stop: &Position) -> bool {
        match (self, stop) {
            (Position::Lsn(a), Position::Lsn(b)) => a >= b,
            (Position::Binlog(a), Position::Binlog(b)) => a.reached(b),
            (Position::Oplog(a), Position::Oplog(b)) => a.reached(b),
            _ => false,
        }
    }
    /// Bytes of log between `self` and a later position; `None` where they cannot be told from the places alone.
    pub fn bytes_until(&self, later: &Position) -> Option<u64> {
        match (self, later) {
            (Position::Lsn(a), Position::Lsn(b)) => Some(b.0.saturating_sub(a.0)),
            (Position::Binlog(a), Position::Binlog(b)) if a.file == b.file => Some(b.offset.saturating_sub(a.offset)),
            _ => None,
        }
    }
    /// Whether a transaction is among those that were passed; `None` if this place does not name them one by one.
    pub fn contains(&self, id: &TransactionId) -> Option<bool> {
        match self {
            Position::Binlog(b) => b.contains(id),
            _ => None,
        }
    }
    /// The log address.
    pub fn lsn(&self) -> Option<Lsn> {
        match self {
            Position::Lsn(l) => Some(*l),
            _ => None,
        }
    }
    /// The place in the binary log.
    pub fn binlog(&self) -> Option<&BinlogPosition> {
        match self {
            Position::Binlog(b) => Some(b),
            _ => None,
        }
    }
    /// The place in the oplog.
    pub fn oplog(&self) -> Option<&OplogPosition> {
        match self {
            Position::Oplog(o) => Some(o),
            _ => None,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Position::Lsn(l) => l.fmt(f),
            Position::Binlog(b) => b.fmt(f),
            Position::Oplog(o) => o.fmt(f),
        }
    }
}

impl FromStr for Position {
    type Err = String;
    /// Reads what `Display` printed.
    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            _ if s.contains(':') => s.parse().map(Position::Binlog),
            _ if s.contains('/') => s.parse().map(Position::Lsn),
            _ => s.parse().map(Position::Oplog),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_an_lsn_when_printed_and_parsed_then_it_is_the_same() {
        for n in [0, 1, 0x1DC7C420, u64::MAX, 1 << 32] {
            assert_eq!(Lsn(n).to_string().parse(), Ok(Lsn(n)));
        }
        assert!("1DC7C420".parse::<Lsn>().is_err());
        assert!("x/y".parse::<Position>().is_err());
    }

    #[test]
    fn given_cluster_times_when_compared_then_tokens_decide_where_they_are_equal() {
        let at = |s: &str| {
            let p: Position = s.parse().unwrap();
            assert_eq!(p.to_string(), s);
            assert_eq!(serde_json::from_str::<Position>(&serde_json::to_string(&p).unwrap()).unwrap(), p);
            p
        };
        assert!(at("10.2").reached(&at("10.1")) && at("11.1").reached(&at("10.9")) && !at("9.9").reached(&at("10.1")));
        assert!(at("10.1,82AA").reached(&at("10.1")) && at("10.1").reached(&at("10.1,82AA")));
        assert!(at("10.1,82AB").reached(&at("10.1,82AA")) && !at("10.1,82AA").reached(&at("10.1,82AB")));
        for bad in ["10", "10.x", "10.1,", "10.1,zz", "-1.1"] {
            assert!(bad.parse::<Position>().is_err(), "{bad}");
        }
    }

    fn binlog(s: &str) -> Position {
        let p: Position = s.parse().unwrap();
        assert_eq!(p.to_string(), s);
        assert_eq!(serde_json::from_str::<Position>(&serde_json::to_string(&p).unwrap()).unwrap(), p);
        p
    }

    #[test]
    fn given_places_in_files_when_compared_then_numbers_count_past_six_digits() {
        assert!(binlog("b.1000000:4").reached(&binlog("b.999999:900")));
        assert!(!binlog("b.000001:4").reached(&binlog("b.000001:5")));
        assert!(!binlog("a.000002:4").reached(&binlog("b.000001:5")));
        assert_eq!(binlog("b.000001:4").bytes_until(&binlog("b.000001:9")), Some(5));
        assert_eq!(binlog("b.000001:4").bytes_until(&binlog("b.000002:9")), None);
        for bad in ["b.000001:x", ":4", "b:4;set", "b:4;other=1", "b:4;set=zzz"] {
            assert!(bad.parse::<Position>().is_err(), "{bad}");
        }
    }

    #[test]
    fn given_numbered_transactions_when_compared_then_files_do_not_matter() {
        let one = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let a = binlog(&format!("b.000009:4;set={one}:1-5"));
        let b = binlog(&format!("other.000001:9;set={one}:1-3"));
        assert!(a.reached(&b) && !b.reached(&a));
        let id = TransactionId::Source(format!("{one}:4").parse().unwrap());
        assert_eq!((a.contains(&id), b.contains(&id)), (Some(true), Some(false)));
        let a = binlog("b.000009:4;domains=0-1-5,2-7-9");
        assert!(a.reached(&binlog("x.1:4;domains=0-3-5")) && !a.reached(&binlog("x.1:4;domains=0-1-6")));
        assert_eq!(a.contains(&TransactionId::Domain("0-2-5".parse().unwrap())), Some(true));
        assert_eq!(a.contains(&TransactionId::Domain("1-2-5".parse().unwrap())), Some(false));
    }
}
