//! Looks at keys that were not equal again, after the stream has passed, until each is equal or proved different.
//!
//! Every look reads the source, waits until all that was committed is applied, reads the target, and reads the source again. The
//! target is never ahead, so what it has is a state of the source from between the two reads. If both show one state and the
//! target another, either the row differs, or it changed and changed back meanwhile: the same must be seen several times in a
//! row, at irregular times. A row that changes all the time is equal if the target has any of the states in which the source
//! was seen; or, for every change brings the whole row, if the target's row moves as well and its columns that stood still
//! are the source's.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Map, Value};

use super::Run;
use super::digest::Sum;
use super::pair::{Pair, Workspace};
use super::report::{Difference, Kind, LISTED, TableReport};
use super::scan::{Seen, Side, Suspect, at_source, at_target, search_source};
use crate::change::DeadLetter;
use crate::definition::DataType;
use crate::error::Result;
use crate::schema::Column;
use crate::value::{Datum, Row};

/// Keys that one question asks for.
const BATCH: usize = 500;
/// How often in a row the same must be seen of a row that differs. One that comes and goes as fast as it is looked at passes
/// for standing still in less than half of all looks, and its other state is then remembered.
const PROOFS: u32 = 6;
/// Looks at a row that never stands still, before it is said that it could not be compared.
const LOOKS: u32 = 40;
/// Pauses between looks, in milliseconds: at random, and longer once the first looks did not settle a row.
const PAUSE: std::ops::Range<u64> = 3..60;
const PATIENT: u32 = 12;

/// A suspect while it is looked at.
struct Case {
    suspect: Suspect,
    /// What was seen: the source's state, the target's, and how often in a row.
    proof: Option<(Sum, Sum, u32)>,
    /// States of the source, sums of none where the rows were gone.
    states: HashSet<(u64, u128)>,
    /// What the target had when it was looked at before.
    target: Option<Sum>,
}

/// Settles all of them; what is proved different is reported.
pub async fn settle(run: &mut Run<'_>, pair: &Pair, suspects: Vec<Suspect>, report: &mut TableReport) -> Result<()> {
    let mut open: Vec<Case> = suspects
        .into_iter()
        .map(|suspect| Case { suspect, proof: None, states: HashSet::new(), target: None })
        .collect();
    let mut looks = 0;
    while !open.is_empty() {
        if looks == LOOKS {
            report.obstacle =
                Some(format!("{} rows changed all the time and were never seen equal; verify again", open.len()));
            break;
        }
        looks += 1;
        // The fields of each case's suspect are asked for in three rounds: what is read first is not newer than what the
        // stream has brought when the target is read, and what is read last not older.
        let suspects: Vec<Suspect> = open.iter().map(|c| c.suspect.again()).collect();
        let before = look(run, pair, &suspects).await?;
        run.v.passed().await?;
        let keys: Vec<Row> = suspects.iter().map(|s| s.row.clone()).collect();
        let there = at_target(run.target.as_mut(), pair, &mut run.work, &keys, BATCH).await?;
        let after = look(run, pair, &suspects).await?;
        let sum = |seen: &Seen, key: &[u8]| seen.get(key).map_or_else(Sum::default, |s| s.0);
        let mut left = Vec::new();
        for mut case in open {
            let key = &case.suspect.key;
            let (b, t, a) = (sum(&before, key), sum(&there, key), sum(&after, key));
            case.states.extend([(b.rows, b.hashes), (a.rows, a.hashes)]);
            if t == b || t == a || case.states.contains(&(t.rows, t.hashes)) {
                continue;
            }
            let moved = case.target.replace(t).is_some_and(|earlier| earlier != t);
            if a != b && moved && stands(pair, key, &before, &there, &after) {
                continue;
            }
            case.proof = match case.proof {
                _ if a != b => None,
                Some((source, target, n)) if (source, target) == (a, t) => Some((a, t, n + 1)),
                _ => Some((a, t, 1)),
            };
            if case.proof.is_none_or(|(.., n)| n < PROOFS) {
                left.push(case);
                continue;
            }
            if run.is_set_aside(pair, &case.suspect) {
                report.set_aside += 1;
                continue;
            }
            report.differing += 1;
            if report.differences.len() < LISTED {
                let sides = (before.get(key), there.get(key));
                report.differences.push(difference(pair, &case.suspect, sides, run.v.show_values));
            }
        }
        open = left;
        if !open.is_empty() {
            let more = if looks < PATIENT { 1 } else { 10 };
            tokio::time::sleep(Duration::from_millis(rand::random_range(PAUSE) * more)).await;
        }
    }
    Ok(())
}

impl Run<'_> {
    fn is_set_aside(&self, pair: &Pair, suspect: &Suspect) -> bool {
        let Some((feed, row)) = suspect.source.as_ref().filter(|_| !self.dead.is_empty()) else { return false };
        let Some(feed) = pair.feeds.get(*feed) else { return false };
        let source = &feed.compiled.source;
        DeadLetter::key_of(source, row).is_some_and(|key| self.dead.contains(&(source.name.clone(), key)))
    }
}

/// Whether the columns that the source did not change between two looks are the target's as well.
fn stands(pair: &Pair, key: &[u8], before: &Seen, there: &Seen, after: &Seen) -> bool {
    match (before.get(key), there.get(key), after.get(key)) {
        (Some((b, before)), Some((t, there)), Some((a, after))) if b.rows == 1 && t.rows == 1 && a.rows == 1 => {
            let changed = pair.differing(before, after);
            pair.differing(before, there).iter().all(|c| changed.contains(c))
        }
        // They come and go, or share a key: only all of them together could be compared.
        _ => true,
    }
}

/// What the source makes of the suspects' keys now.
async fn look(run: &mut Run<'_>, pair: &Pair, suspects: &[Suspect]) -> Result<Seen> {
    let mut seen = at_source(run.source.as_mut(), pair, &mut run.work, suspects, BATCH).await?;
    // Of rows that only the target has, and whose key does not say where they came from.
    let unknown: HashSet<Box<[u8]>> = suspects.iter().filter(|s| s.source.is_none()).map(|s| s.key.clone()).collect();
    if !unknown.is_empty() {
        let mut work = Workspace::default();
        seen.extend(search_source(run.source.as_mut(), pair, &mut work, &mut run.pace, &unknown).await?);
    }
    Ok(seen)
}

impl Suspect {
    fn again(&self) -> Suspect {
        Suspect { key: self.key.clone(), row: self.row.clone(), source: self.source.clone() }
    }
}

fn difference(pair: &Pair, suspect: &Suspect, sides: (Option<&Side>, Option<&Side>), show: bool) -> Difference {
    let kind = match sides {
        (Some(_), None) => Kind::Missing,
        (None, Some(_)) => Kind::Extra,
        _ => Kind::Different,
    };
    let columns = match sides {
        (Some((a, source)), Some((b, target))) if a.rows == 1 && b.rows == 1 => pair.differing(source, target),
        // Several rows share the key: they differ as a whole.
        _ => Vec::new(),
    };
    let rows = (sides.0.map(|s| &s.1), sides.1.map(|s| &s.1));
    let key = match pair.keyed {
        true => {
            let fields = pair.key.iter().filter_map(|&k| Some((pair.target.columns.get(k)?, suspect.row.get(k))));
            Value::Object(fields.map(|(c, d)| (c.name.clone(), value(c, d))).collect())
        }
        // Without a key the row is all values.
        false => Value::Null,
    };
    let values = show.then(|| {
        let mut out = Map::new();
        for (i, c) in pair.target.columns.iter().enumerate() {
            if columns.is_empty() || columns.contains(&c.name) {
                let of = |row: Option<&Row>| row.map_or(Value::Null, |r| value(c, r.get(i)));
                out.insert(c.name.clone(), Value::from(vec![of(rows.0), of(rows.1)]));
            }
        }
        Value::Object(out)
    });
    Difference { kind, key, columns, values }
}

fn value(column: &Column, datum: Datum<'_>) -> Value {
    let Datum::Text(text) = datum else { return Value::Null };
    let text = String::from_utf8_lossy(text);
    let whole = matches!(column.data, DataType::Int { .. })
        || matches!(column.kind, crate::schema::Kind::Int2 | crate::schema::Kind::Int4 | crate::schema::Kind::Int8);
    match text.parse::<i64>() {
        Ok(n) if whole => Value::from(n),
        _ => Value::from(text.into_owned()),
    }
}
