//! Global transaction ids: sets of them as one server family prints them, positions by replication domain as the other does.
//!
//! Sets are what `gtid_executed` and `GTID_SUBTRACT` print (manual, "GTID Format and Storage"; `sql/rpl_gtid_set.cc`):
//! `uuid[:tag]:first-last:…`, sources in the order of their bytes, each tag after its source's plain numbers. Positions
//! are what `gtid_binlog_pos` prints: `domain-server-sequence`, joined by commas.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The largest number of a transaction (`GNO_END - 1`).
const LAST: u64 = i64::MAX as u64 - 1;
/// Longest tag (`mysql::gtid::tag_max_length`).
const TAG_LENGTH: usize = 32;

/// Which server numbered a transaction: its 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub [u8; 16]);

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).hyphenated().fmt(f)
    }
}

impl FromStr for SourceId {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        uuid::Uuid::try_parse(s).map(|u| SourceId(u.into_bytes())).map_err(|_| format!("{s:?} is not a UUID"))
    }
}

/// A tag, lower case; empty for transactions without one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Option<Arc<str>>);

impl Tag {
    /// Checks and lowers a tag: a letter or underscore, then up to 31 letters, digits and underscores. Empty is none.
    ///
    /// # Errors
    /// Anything else.
    pub fn new(text: &str) -> Result<Tag, String> {
        if text.is_empty() {
            return Ok(Tag(None));
        }
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if !first || text.len() > TAG_LENGTH || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(format!("{text:?} is not a tag of a transaction id"));
        }
        Ok(Tag(Some(text.to_ascii_lowercase().into())))
    }
    /// The tag's text, empty for none.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or("")
    }
}

/// One transaction's id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Gtid {
    /// Who numbered it.
    pub source: SourceId,
    /// Its tag.
    pub tag: Tag,
    /// Its number, from 1.
    pub number: u64,
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.source)?;
        if !self.tag.as_str().is_empty() {
            write!(f, "{}:", self.tag.as_str())?;
        }
        write!(f, "{}", self.number)
    }
}

impl FromStr for Gtid {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let bad = || format!("{s:?} is not a transaction id");
        let (before, number) = s.rsplit_once(':').ok_or_else(bad)?;
        let (source, tag) = before.split_once(':').unwrap_or((before, ""));
        let number = number.parse().map_err(|_| bad())?;
        Ok(Gtid { source: source.parse()?, tag: Tag::new(tag)?, number })
    }
}

/// Inclusive, sorted, apart from each other by at least one number. Shared until changed.
type Intervals = Arc<Vec<(u64, u64)>>;

/// A set of transaction ids. Cloning costs one reference count, adding the number after a range's end changes one field.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct GtidSet {
    /// A server knows few sources: a sorted list is found through faster than a tree, and copied in one piece when it is
    /// shared with an older position.
    sources: Arc<Vec<(SourceId, Tag, Intervals)>>,
}

impl GtidSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }
    /// How many transactions it holds.
    pub fn count(&self) -> u64 {
        self.sources
            .iter()
            .flat_map(|(_, _, intervals)| intervals.iter())
            .fold(0, |sum, (a, b)| sum.saturating_add(b - a + 1))
    }
    fn find(&self, source: &SourceId, tag: &Tag) -> Result<usize, usize> {
        self.sources.binary_search_by(|(s, t, _)| (s, t).cmp(&(source, tag)))
    }
    fn intervals(&self, source: &SourceId, tag: &Tag) -> &[(u64, u64)] {
        self.find(source, tag)
            .ok()
            .and_then(|i| self.sources.get(i))
            .map_or(&[], |(_, _, intervals)| intervals.as_slice())
    }
    /// Whether the transaction is in it.
    pub fn contains(&self, source: &SourceId, tag: &Tag, number: u64) -> bool {
        holds(self.intervals(source, tag), number, number)
    }
    /// Adds one transaction. Number 0 is no transaction and is left out.
    pub fn add(&mut self, gtid: &Gtid) {
        self.add_range(&gtid.source, &gtid.tag, gtid.number, gtid.number);
    }
    /// Adds the transactions from `first` to `last`. What lies outside 1 to 2^63 - 2 is left out.
    pub fn add_range(&mut self, source: &SourceId, tag: &Tag, first: u64, last: u64) {
        let (first, last) = (first.max(1), last.min(LAST));
        if first > last {
            return;
        }
        let sources = Arc::make_mut(&mut self.sources);
        match sources.binary_search_by(|(s, t, _)| (s, t).cmp(&(source, tag))) {
            Ok(i) => {
                if let Some((_, _, intervals)) = sources.get_mut(i) {
                    insert(Arc::make_mut(intervals), first, last);
                }
            }
            Err(i) => sources.insert(i, (*source, tag.clone(), Arc::new(vec![(first, last)]))),
        }
    }
    /// Whether every transaction of `other` is in it: the server's `GTID_SUBSET(other, self)`.
    pub fn is_superset(&self, other: &GtidSet) -> bool {
        if Arc::ptr_eq(&self.sources, &other.sources) {
            return true;
        }
        other.sources.iter().all(|(source, tag, theirs)| {
            let mine = self.intervals(source, tag);
            theirs.iter().all(|&(a, b)| holds(mine, a, b))
        })
    }
    /// What is in it and not in `other`: the server's `GTID_SUBTRACT(self, other)`.
    pub fn subtract(&self, other: &GtidSet) -> GtidSet {
        let mut left = Vec::new();
        for (source, tag, mine) in self.sources.iter() {
            let kept = without(mine, other.intervals(source, tag));
            if !kept.is_empty() {
                left.push((*source, tag.clone(), Arc::new(kept)));
            }
        }
        GtidSet { sources: Arc::new(left) }
    }
    /// What is in either.
    pub fn union(&self, other: &GtidSet) -> GtidSet {
        let mut all = self.clone();
        for (source, tag, intervals) in other.sources.iter() {
            for &(a, b) in intervals.iter() {
                all.add_range(source, tag, a, b);
            }
        }
        all
    }
    /// Whether any id has a tag: such a set needs the tagged form of [`GtidSet::encode`], which servers know from 8.3 on.
    pub fn has_tags(&self) -> bool {
        self.sources.iter().any(|(_, tag, _)| tag.0.is_some())
    }
    /// The form of COM_BINLOG_DUMP_GTID and PREVIOUS_GTIDS (`Gtid_set::encode`): plain, or with tags where there are any.
    /// Numbers are little endian and an interval's end is exclusive.
    pub fn encode(&self) -> Vec<u8> {
        let tagged = self.has_tags();
        let count = self.sources.len() as u64;
        let mut out = Vec::with_capacity(64);
        if tagged {
            // `Gtid_set::encode_nsids_format`: the format's number in the first and in the last byte, the count between.
            let header = 1 | count << 8 | 1 << 56;
            out.extend_from_slice(&header.to_le_bytes());
        } else {
            out.extend_from_slice(&count.to_le_bytes());
        }
        for (source, tag, intervals) in self.sources.iter() {
            out.extend_from_slice(&source.0);
            if tagged {
                // A variable-length integer of at most 32: one byte, shifted past its length bit.
                out.push((tag.as_str().len() as u8) << 1);
                out.extend_from_slice(tag.as_str().as_bytes());
            }
            out.extend_from_slice(&(intervals.len() as u64).to_le_bytes());
            for &(a, b) in intervals.iter() {
                out.extend_from_slice(&a.to_le_bytes());
                out.extend_from_slice(&(b + 1).to_le_bytes());
            }
        }
        out
    }
    /// Reads what [`GtidSet::encode`] writes.
    ///
    /// # Errors
    /// Anything that is not exactly one set.
    pub fn decode(bytes: &[u8]) -> Result<GtidSet, String> {
        let mut rest = bytes;
        let header = take_u64(&mut rest)?;
        let tagged = header >> 56 == 1;
        let count = if tagged { header >> 8 & 0xFFFF_FFFF_FFFF } else { header };
        let mut set = GtidSet::new();
        for _ in 0..count {
            let id: [u8; 16] = take(&mut rest, 16)?.try_into().map_err(|_| "a source id of another length")?;
            let mut tag = Tag::default();
            if tagged {
                let length = take(&mut rest, 1)?.first().copied().unwrap_or(0);
                if length & 1 != 0 || usize::from(length >> 1) > TAG_LENGTH {
                    return Err("a tag of a transaction id is too long".into());
                }
                let text =
                    std::str::from_utf8(take(&mut rest, usize::from(length >> 1))?).map_err(|e| e.to_string())?;
                tag = Tag::new(text)?;
            }
            for _ in 0..take_u64(&mut rest)? {
                let (first, end) = (take_u64(&mut rest)?, take_u64(&mut rest)?);
                if first == 0 || end <= first || end > LAST + 1 {
                    return Err(format!("{first} to {end} (exclusive) is no interval of transaction numbers"));
                }
                set.add_range(&SourceId(id), &tag, first, end - 1);
            }
        }
        if rest.is_empty() { Ok(set) } else { Err(format!("{} bytes behind a set of transaction ids", rest.len())) }
    }
}

fn take<'a>(rest: &mut &'a [u8], n: usize) -> Result<&'a [u8], String> {
    let (head, tail) = rest.split_at_checked(n).ok_or("a set of transaction ids is cut off")?;
    *rest = tail;
    Ok(head)
}

fn take_u64(rest: &mut &[u8]) -> Result<u64, String> {
    let bytes: [u8; 8] = take(rest, 8)?.try_into().map_err(|_| "a number is cut off")?;
    Ok(u64::from_le_bytes(bytes))
}

fn holds(intervals: &[(u64, u64)], first: u64, last: u64) -> bool {
    let after = intervals.partition_point(|&(a, _)| a <= first);
    after.checked_sub(1).and_then(|i| intervals.get(i)).is_some_and(|&(_, b)| b >= last)
}

fn insert(intervals: &mut Vec<(u64, u64)>, first: u64, last: u64) {
    // The stream's case: the number after the last one.
    if let Some(end) = intervals.last_mut()
        && first > end.0
        && first <= end.1 + 1
    {
        end.1 = end.1.max(last);
        return;
    }
    let from = intervals.partition_point(|&(_, b)| b + 1 < first);
    let to = intervals.partition_point(|&(a, _)| a <= last + 1);
    let met = intervals.get(from..to).unwrap_or(&[]);
    let a = met.first().map_or(first, |m| m.0.min(first));
    let b = met.last().map_or(last, |m| m.1.max(last));
    intervals.splice(from..to.max(from), [(a, b)]);
}

fn without(mine: &[(u64, u64)], theirs: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut kept = Vec::new();
    for &(mut a, b) in mine {
        let from = theirs.partition_point(|&(_, end)| end < a);
        for &(c, d) in theirs.get(from..).unwrap_or(&[]) {
            if c > b || a > b {
                break;
            }
            if c > a {
                kept.push((a, c - 1));
            }
            a = d + 1;
        }
        if a <= b {
            kept.push((a, b));
        }
    }
    kept
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before: Option<&SourceId> = None;
        for (source, tag, intervals) in self.sources.iter() {
            if before != Some(source) {
                if before.is_some() {
                    f.write_str(",")?;
                }
                source.fmt(f)?;
            }
            if tag.0.is_some() {
                write!(f, ":{}", tag.as_str())?;
            }
            for (a, b) in intervals.iter() {
                if a == b { write!(f, ":{a}")? } else { write!(f, ":{a}-{b}")? }
            }
            before = Some(source);
        }
        Ok(())
    }
}

impl fmt::Debug for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GtidSet({self})")
    }
}

impl FromStr for GtidSet {
    type Err = String;
    /// Reads what a server prints: line breaks and blanks anywhere between the parts, sources and tags in any order.
    fn from_str(s: &str) -> Result<Self, String> {
        let mut set = GtidSet::new();
        for part in s.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let mut pieces = part.split(':').map(str::trim);
            let source: SourceId = pieces.next().unwrap_or("").parse()?;
            let mut tag = Tag::default();
            let mut any = false;
            for piece in pieces {
                if !piece.starts_with(|c: char| c.is_ascii_digit()) {
                    if piece.is_empty() {
                        return Err(format!("{part:?}: nothing between two colons"));
                    }
                    tag = Tag::new(piece)?;
                    any = false;
                    continue;
                }
                let bad = || format!("{piece:?} is not a range of transaction numbers");
                let (a, b) = piece.split_once('-').unwrap_or((piece, piece));
                let (a, b) = (number(a.trim()).ok_or_else(bad)?, number(b.trim()).ok_or_else(bad)?);
                if a == 0 || b > LAST || a > b {
                    return Err(bad());
                }
                set.add_range(&source, &tag, a, b);
                any = true;
            }
            if !any {
                return Err(format!("{part:?} names a source without numbers"));
            }
        }
        Ok(set)
    }
}

fn number(digits: &str) -> Option<u64> {
    if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
}

impl Serialize for GtidSet {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GtidSet {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The last transaction of one replication domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DomainGtid {
    /// The domain.
    pub domain: u32,
    /// The server that wrote it.
    pub server: u32,
    /// Its number in the domain.
    pub sequence: u64,
}

impl fmt::Display for DomainGtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server, self.sequence)
    }
}

impl FromStr for DomainGtid {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let bad = || format!("{s:?} is not a transaction id such as 0-1-5");
        let mut parts = s.split('-').map(number);
        let mut next = || parts.next().flatten().ok_or_else(bad);
        let (domain, server, sequence) = (next()?, next()?, next()?);
        if parts.next().is_some() {
            return Err(bad());
        }
        Ok(DomainGtid {
            domain: domain.try_into().map_err(|_| bad())?,
            server: server.try_into().map_err(|_| bad())?,
            sequence,
        })
    }
}

/// A position by replication domains: the last transaction of each. Cloning costs one reference count.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct MariaGtidPos {
    domains: Arc<BTreeMap<u32, (u32, u64)>>,
}

impl MariaGtidPos {
    /// Before everything.
    pub fn new() -> Self {
        Self::default()
    }
    /// Whether it names no domain.
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }
    /// Moves the transaction's domain on to it, whatever was there: within a domain the log is in order.
    pub fn advance(&mut self, gtid: DomainGtid) {
        Arc::make_mut(&mut self.domains).insert(gtid.domain, (gtid.server, gtid.sequence));
    }
    /// The last transaction of a domain: server and number.
    pub fn get(&self, domain: u32) -> Option<(u32, u64)> {
        self.domains.get(&domain).copied()
    }
    /// Whether in every domain of `stop` at least its number has been passed. Numbers count within a domain, whichever
    /// server wrote them.
    pub fn reached(&self, stop: &MariaGtidPos) -> bool {
        stop.domains.iter().all(|(domain, (_, there))| self.domains.get(domain).is_some_and(|(_, here)| here >= there))
    }
    /// The last transactions, domain by domain.
    pub fn iter(&self) -> impl Iterator<Item = DomainGtid> + '_ {
        self.domains.iter().map(|(&domain, &(server, sequence))| DomainGtid { domain, server, sequence })
    }
}

impl fmt::Display for MariaGtidPos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, gtid) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            gtid.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Debug for MariaGtidPos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MariaGtidPos({self})")
    }
}

impl FromStr for MariaGtidPos {
    type Err = String;
    /// Reads what a server prints; a domain named twice is refused, as the server refuses it in `gtid_slave_pos`.
    fn from_str(s: &str) -> Result<Self, String> {
        let mut pos = MariaGtidPos::new();
        for part in s.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let gtid: DomainGtid = part.parse()?;
            if pos.get(gtid.domain).is_some() {
                return Err(format!("domain {} is named twice in {s:?}", gtid.domain));
            }
            pos.advance(gtid);
        }
        Ok(pos)
    }
}

impl Serialize for MariaGtidPos {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MariaGtidPos {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
