//! A place in the source's log.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

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
pub enum Gtid {
    /// MySQL's: `uuid[:tag]:number`.
    Mysql {
        /// The server that it was first committed on.
        source: [u8; 16],
        /// The tag of servers that give such.
        tag: Option<Arc<str>>,
        /// Its number.
        number: u64,
    },
    /// MariaDB's: `domain-server-sequence`.
    Maria {
        /// Replication domain.
        domain: u32,
        /// The server that it was first committed on.
        server: u32,
        /// Its number within the domain.
        sequence: u64,
    },
}

/// A place in the source's log. Not `Ord`: GTID sets are only partly ordered, so there is only [`Position::reached`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// A write-ahead log address: the end of a commit, so that everything up to and including it was seen.
    Lsn(Lsn),
}

impl Position {
    /// Whether everything up to `stop` has been passed.
    pub fn reached(&self, stop: &Position) -> bool {
        match (self, stop) {
            (Position::Lsn(a), Position::Lsn(b)) => a >= b,
        }
    }
    /// Bytes of log between `self` and a later position; `None` where the log does not count bytes.
    pub fn bytes_until(&self, later: &Position) -> Option<u64> {
        match (self, later) {
            (Position::Lsn(a), Position::Lsn(b)) => Some(b.0.saturating_sub(a.0)),
        }
    }
    /// Whether a transaction is among those that were passed; `None` if this place does not name them one by one.
    pub fn contains(&self, gtid: &Gtid) -> Option<bool> {
        let (Position::Lsn(_), _) = (self, gtid);
        None
    }
    /// The log address.
    pub fn lsn(&self) -> Option<Lsn> {
        match self {
            Position::Lsn(l) => Some(*l),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Position::Lsn(l) => l.fmt(f),
        }
    }
}

impl FromStr for Position {
    type Err = String;
    /// Reads what `Display` printed.
    fn from_str(s: &str) -> Result<Self, String> {
        s.parse().map(Position::Lsn)
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
}
