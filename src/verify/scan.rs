//! Reads a range on both sides, compares the sums of its buckets, and reads it again for the keys of those that differ.

use std::collections::{HashMap, HashSet};

use super::digest::{Buckets, Keyed, Sum};
use super::pair::{Pair, Workspace, by};
use super::report::TableReport;
use super::{Pace, Run};
use crate::error::{Error, Result, ResultExt};
use crate::exchange::{ScanBlock, Scanner, Span};
use crate::transform::key_of;
use crate::value::Row;

/// Rows whose keys are held at once, of both sides together: about 40 MB with keys of ordinary length.
const HELD_ROWS: u64 = 200_000;

/// A key whose rows were not equal when they were read.
pub struct Suspect {
    /// The key's comparable form.
    pub key: Box<[u8]>,
    /// The target's key: its columns, others NULL.
    pub row: Row,
    /// The feed and the source's key that make it, if any was seen.
    pub source: Option<(usize, Row)>,
}

/// Compares a range, and names what was not equal.
pub async fn range(
    run: &mut Run<'_>,
    pair: &Pair,
    span: &Option<(Span, Span)>,
    rows: u64,
    report: &mut TableReport,
) -> Result<Vec<Suspect>> {
    let rows = if span.is_some() { rows.min(super::RANGE_ROWS) } else { rows };
    let raw = match pair.passes_bytes() {
        true => {
            let known = run.target.raw_forms(&pair.target);
            let forms = run.source.raw_forms(&pair.feeds[0].compiled.source);
            forms.into_iter().find(|f| known.contains(f))
        }
        false => None,
    };
    let (mut theirs, mut ours) = sums(run, pair, span, rows, raw).await?;
    let (source_total, target_total) = (theirs.total(), ours.total());
    report.source_rows += source_total.rows;
    report.target_rows += target_total.rows;
    report.compared += source_total.rows.max(target_total.rows);
    if raw.is_some() && !theirs.differing(&ours).is_empty() {
        // Bytes that differ may mean the same, and their hashes say nothing about the keys' values.
        (theirs, ours) = sums(run, pair, span, rows, None).await?;
    }
    let mut suspects = Vec::new();
    let mut left = theirs.differing(&ours);
    while !left.is_empty() {
        let mut held = 0;
        let fits = left.iter().take_while(|(_, n)| {
            held += n;
            held <= HELD_ROWS
        });
        let later = left.split_off(fits.count().max(1));
        let wanted: HashSet<u32> = left.iter().map(|(bucket, _)| *bucket).collect();
        suspects.extend(keys(run, pair, span, &theirs, &wanted).await?);
        left = later;
    }
    Ok(suspects)
}

/// Reads a range on both sides, side by side.
async fn sums(
    run: &mut Run<'_>,
    pair: &Pair,
    span: &Option<(Span, Span)>,
    rows: u64,
    raw: Option<&'static str>,
) -> Result<(Buckets, Buckets)> {
    let (source_span, target_span) = (span.as_ref().map(|s| &s.0), span.as_ref().map(|s| &s.1));
    let mut theirs = Buckets::for_rows(rows);
    let mut ours = theirs.alike();
    let source_key: Vec<usize> = match pair.feeds.as_slice() {
        [feed] if raw.is_some() => pair.key.iter().filter_map(|&k| feed.source_column(k)).collect(),
        _ => Vec::new(),
    };
    let Run { source, target, work, pace, .. } = run;
    let mut other = Workspace::default();
    let read_source = async {
        for feed in &pair.feeds {
            source.open(&feed.compiled.source, source_span, raw.map(|r| (r, source_key.as_slice()))).await?;
            while let Some(block) = source.next().await? {
                match block {
                    ScanBlock::Hashes(hashes) => {
                        hashes.iter().for_each(|h| theirs.add(*h));
                        pace.read(hashes.len()).await;
                    }
                    ScanBlock::Rows(rows) => {
                        for row in &rows {
                            carried(pair.source_row(feed, row, work, |c, _| theirs.add(c.hashes())))?;
                        }
                        pace.read(rows.len()).await;
                    }
                }
            }
        }
        Ok::<_, Error>(())
    };
    let read_target = async {
        target.open(&pair.target, target_span, raw.map(|r| (r, pair.key.as_slice()))).await?;
        while let Some(block) = target.next().await? {
            match block {
                ScanBlock::Hashes(hashes) => hashes.iter().for_each(|h| ours.add(*h)),
                ScanBlock::Rows(rows) => {
                    rows.iter().for_each(|r| ours.add(pair.target_row(r, &mut other, |c| c.hashes())));
                }
            }
        }
        Ok::<_, Error>(())
    };
    tokio::try_join!(read_source, read_target).with_context(|| format!("comparing {}", pair.target.name))?;
    Ok((theirs, ours))
}

/// A row that the rules cannot carry is not on the target: it was set aside, and is told of there.
pub fn carried(made: Result<()>) -> Result<()> {
    match made {
        Err(e) if e.code() == Some("switchyard:rule") => Ok(()),
        other => other,
    }
}

/// The keys of some buckets that are not equal.
async fn keys(
    run: &mut Run<'_>,
    pair: &Pair,
    span: &Option<(Span, Span)>,
    buckets: &Buckets,
    wanted: &HashSet<u32>,
) -> Result<Vec<Suspect>> {
    let (source_span, target_span) = (span.as_ref().map(|s| &s.0), span.as_ref().map(|s| &s.1));
    let Run { source, target, work, pace, .. } = run;
    let mut other = Workspace::default();
    let here = |hash: u64| wanted.contains(&buckets.of(hash));
    let mut theirs: Keyed<(usize, Row, Row)> = Keyed::default();
    let mut ours: Keyed<Row> = Keyed::default();
    let read_source = async {
        for (n, feed) in pair.feeds.iter().enumerate() {
            let table = &feed.compiled.source;
            source.open(table, source_span, None).await?;
            while let Some(ScanBlock::Rows(rows)) = source.next().await? {
                for row in &rows {
                    let made = pair.source_row(feed, row, work, |c, made| {
                        let hashes = c.hashes();
                        if here(hashes.key) {
                            let key = || key_of(&pair.target, &pair.projected(feed, made));
                            theirs.add(c.key, hashes.row, || (n, key_of(table, row), key()));
                        }
                    });
                    carried(made)?;
                }
                pace.read(rows.len()).await;
            }
        }
        Ok::<_, Error>(())
    };
    let read_target = async {
        target.open(&pair.target, target_span, None).await?;
        while let Some(ScanBlock::Rows(rows)) = target.next().await? {
            for row in &rows {
                pair.target_row(row, &mut other, |c| {
                    let hashes = c.hashes();
                    if here(hashes.key) {
                        ours.add(c.key, hashes.row, || key_of(&pair.target, row));
                    }
                });
            }
        }
        Ok::<_, Error>(())
    };
    tokio::try_join!(read_source, read_target).with_context(|| format!("comparing {}", pair.target.name))?;
    let mut out = Vec::new();
    for (key, (sum, (feed, source_key, row))) in theirs.keys {
        let there = ours.keys.remove(&key);
        if there.is_none_or(|(s, _)| s != sum) {
            out.push(Suspect { key, row, source: Some((feed, source_key)) });
        }
    }
    for (key, (_, row)) in ours.keys {
        let back = pair.feeds.iter().enumerate().find_map(|(n, f)| Some((n, pair.source_key(f, &row, &mut other)?)));
        out.push(Suspect { key, row, source: back });
    }
    Ok(out)
}

/// What one side has under some keys now: sums, and one row of each for the report.
pub type Seen = HashMap<Box<[u8]>, Side>;

/// The rows that share a key: their sum, and one of them.
pub type Side = (Sum, Row);

/// Reads the rows of these source keys again, after the rules.
pub async fn at_source(
    source: &mut dyn Scanner,
    pair: &Pair,
    work: &mut Workspace,
    suspects: &[Suspect],
    batch: usize,
) -> Result<Seen> {
    let mut seen = Seen::new();
    for (n, feed) in pair.feeds.iter().enumerate() {
        let table = &feed.compiled.source;
        let keys: Vec<Row> =
            suspects.iter().filter_map(|s| s.source.as_ref()).filter(|s| s.0 == n).map(|s| s.1.clone()).collect();
        for keys in keys.chunks(batch) {
            for row in source.find(table, &by(table), keys).await? {
                let made = pair.source_row(feed, &row, work, |c, made| {
                    let hash = c.hashes().row;
                    let entry =
                        seen.entry(c.key.into()).or_insert_with(|| (Sum::default(), pair.projected(feed, made)));
                    entry.0.add(hash);
                });
                carried(made)?;
            }
        }
    }
    Ok(seen)
}

/// Reads the target's rows of these keys again.
pub async fn at_target(
    target: &mut dyn Scanner,
    pair: &Pair,
    work: &mut Workspace,
    keys: &[Row],
    batch: usize,
) -> Result<Seen> {
    let mut seen = Seen::new();
    for keys in keys.chunks(batch) {
        for row in target.find(&pair.target, &pair.key, keys).await? {
            pair.target_row(&row, work, |c| {
                let hash = c.hashes().row;
                let entry = seen.entry(c.key.into()).or_insert_with(|| (Sum::default(), row.clone()));
                entry.0.add(hash);
            });
        }
    }
    Ok(seen)
}

/// Reads a whole range of the source for rows whose source keys cannot be told from the target's.
pub async fn search_source(
    source: &mut dyn Scanner,
    pair: &Pair,
    work: &mut Workspace,
    pace: &mut Pace,
    wanted: &HashSet<Box<[u8]>>,
) -> Result<Seen> {
    let mut seen = Seen::new();
    for feed in &pair.feeds {
        source.open(&feed.compiled.source, None, None).await?;
        while let Some(ScanBlock::Rows(rows)) = source.next().await? {
            for row in &rows {
                let made = pair.source_row(feed, row, work, |c, made| {
                    if wanted.contains(c.key) {
                        let hash = c.hashes().row;
                        let entry =
                            seen.entry(c.key.into()).or_insert_with(|| (Sum::default(), pair.projected(feed, made)));
                        entry.0.add(hash);
                    }
                });
                carried(made)?;
            }
            pace.read(rows.len()).await;
        }
    }
    Ok(seen)
}
