//! Digests of rows that do not depend on their order: sums of 128-bit hashes, by buckets of the keys. Pure.
//!
//! Two sides hold the same rows if every bucket has the same count and the same sum; a bucket that differs says which keys
//! to look at. Sorting would have to agree with each server's collation, and a sum does not.

use std::collections::HashMap;

use crate::exchange::Hashes;

/// The rows of one key, or of one bucket of keys: how many, and the sum of their hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Rows.
    pub rows: u64,
    /// Wrapping sum.
    pub hashes: u128,
}

impl Sum {
    /// Counts a row in.
    #[inline]
    pub fn add(&mut self, hash: u128) {
        self.rows += 1;
        self.hashes = self.hashes.wrapping_add(hash);
    }
}

/// Many rows of one side, in a bounded number of sums.
#[derive(Clone, Debug)]
pub struct Buckets {
    sums: Vec<Sum>,
    shift: u32,
}

impl Buckets {
    /// Buckets for about `rows` rows: so many that one that differs leads to few rows, and never more than 2^16 (1.5 MB).
    pub fn for_rows(rows: u64) -> Buckets {
        let bits = (64 - (rows / 16).leading_zeros()).clamp(4, 16);
        Buckets { sums: vec![Sum::default(); 1 << bits], shift: 64 - bits }
    }
    /// The same number of empty ones.
    pub fn alike(&self) -> Buckets {
        Buckets { sums: vec![Sum::default(); self.sums.len()], shift: self.shift }
    }
    /// The bucket of a key.
    #[inline]
    pub fn of(&self, key: u64) -> u32 {
        (key >> self.shift) as u32
    }
    /// Counts a row in.
    #[inline]
    pub fn add(&mut self, h: Hashes) {
        let bucket = self.of(h.key) as usize;
        self.sums[bucket].add(h.row);
    }
    /// All rows.
    pub fn total(&self) -> Sum {
        let mut all = Sum::default();
        for s in &self.sums {
            all.rows += s.rows;
            all.hashes = all.hashes.wrapping_add(s.hashes);
        }
        all
    }
    /// The buckets whose sums differ, with how many rows both sides have in them.
    pub fn differing(&self, other: &Buckets) -> Vec<(u32, u64)> {
        let pairs = self.sums.iter().zip(&other.sums).enumerate();
        pairs.filter(|(_, (a, b))| a != b).map(|(i, (a, b))| (i as u32, a.rows + b.rows)).collect()
    }
}

/// What one side has under each key, of some buckets alone.
#[derive(Clone, Debug)]
pub struct Keyed<K> {
    /// The key's own bytes to its rows, and something that finds them again.
    pub keys: HashMap<Box<[u8]>, (Sum, K)>,
}

impl<K> Default for Keyed<K> {
    fn default() -> Self {
        Keyed { keys: HashMap::new() }
    }
}

impl<K> Keyed<K> {
    /// Counts a row in.
    pub fn add(&mut self, key: &[u8], row: u128, find: impl FnOnce() -> K) {
        match self.keys.get_mut(key) {
            Some((sum, _)) => sum.add(row),
            None => {
                let mut sum = Sum::default();
                sum.add(row);
                self.keys.insert(key.into(), (sum, find()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn buckets(rows: &[(u8, u8)]) -> Buckets {
        let mut b = Buckets::for_rows(1000);
        for (k, v) in rows {
            b.add(Hashes::of(&[*k], &[*k, *v]));
        }
        b
    }

    proptest! {
        #[test]
        fn given_rows_in_any_order_when_summed_then_the_sums_differ_exactly_where_the_rows_do(
            rows in proptest::collection::vec((any::<u8>(), any::<u8>()), 0..200), seed: u64, change in any::<Option<u8>>()
        ) {
            let mut other = rows.clone();
            let n = other.len().max(1) as u64;
            for i in 0..other.len() {
                let j = (seed.wrapping_mul(i as u64 + 7) % n) as usize;
                other.swap(i, j);
            }
            prop_assert_eq!(buckets(&rows).differing(&buckets(&other)), vec![]);
            if let (Some(by), false) = (change.filter(|c| *c != 0), other.is_empty()) {
                let at = (seed % n) as usize;
                other[at].1 ^= by;
                let a = buckets(&rows);
                let bucket = a.of(Hashes::of(&[other[at].0], b"").key);
                let differing = a.differing(&buckets(&other));
                prop_assert_eq!(differing.iter().map(|d| d.0).collect::<Vec<_>>(), vec![bucket]);
            }
        }
    }

    #[test]
    fn given_numbers_of_rows_when_buckets_are_made_then_they_are_bounded() {
        for rows in [0, 1, 1000, 1 << 20, u64::MAX] {
            let b = Buckets::for_rows(rows);
            assert!((16..=1 << 16).contains(&b.sums.len()), "{rows}");
            assert!((b.of(u64::MAX) as usize) < b.sums.len());
        }
    }
}
