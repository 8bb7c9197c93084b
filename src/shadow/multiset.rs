//! Results as multisets of rows, or as sequences where their order counts, by fingerprints.
//!
//! Owns how two runs of a statement are compared without keeping a row. Must never say equal of results
//! that differ: fingerprints are 128 bits under keys that nobody knows. Pure.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// How many distinct rows are told apart; beyond, how many were lost is known as a minimum.
const DISTINCT: usize = 1 << 16;

/// What multiplies a sequence before the next row: the prime of the 128-bit FNV hash.
const NEXT: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013B;

/// One run: how many rows, the sum of their fingerprints, which knows no order, and a polynomial of them,
/// which does.
#[derive(Debug, Clone, Copy, Default)]
pub struct Digest {
    pub rows: u64,
    sum: u128,
    sequence: u128,
}

impl Digest {
    /// One row more.
    pub fn add(&mut self, fingerprint: u128) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(fingerprint);
        self.sequence = self.sequence.wrapping_mul(NEXT).wrapping_add(fingerprint);
    }

    /// Whether both runs gave the same rows; in the same order where that counts.
    pub fn is_same(&self, other: &Self, is_ordered: bool) -> bool {
        (self.rows, self.sum) == (other.rows, other.sum)
            && (!is_ordered || self.sequence == other.sequence)
    }
}

/// The rows of one run less those of another.
#[derive(Debug, Default)]
pub struct Difference {
    net: HashMap<u128, i64>,
    is_full: bool,
}

impl Difference {
    /// A row of the first run (`1`) or of the other (`-1`).
    pub fn count(&mut self, fingerprint: u128, times: i64) {
        let room = self.net.len() < DISTINCT;
        match self.net.entry(fingerprint) {
            Entry::Occupied(mut known) => {
                *known.get_mut() += times;
                if *known.get() == 0 {
                    known.remove();
                }
            }
            Entry::Vacant(new) if room => {
                new.insert(times);
            }
            Entry::Vacant(_) => self.is_full = true,
        }
    }

    /// How many rows only the first run had; the least that it can be, where not all were told apart.
    pub fn lost(&self, first: Digest, other: Digest) -> i64 {
        if self.is_full {
            return i64::try_from(first.rows.saturating_sub(other.rows)).unwrap_or(i64::MAX);
        }
        self.net.values().filter(|times| **times > 0).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(rows: &[u128]) -> Digest {
        let mut digest = Digest::default();
        rows.iter().for_each(|row| digest.add(*row));
        digest
    }

    fn lost(first: &[u128], other: &[u128]) -> i64 {
        let mut difference = Difference::default();
        first.iter().for_each(|row| difference.count(*row, 1));
        other.iter().for_each(|row| difference.count(*row, -1));
        difference.lost(digest(first), digest(other))
    }

    fn is_same(one: &[u128], other: &[u128]) -> [bool; 2] {
        [false, true].map(|is_ordered| digest(one).is_same(&digest(other), is_ordered))
    }

    #[test]
    fn the_number_of_rows_counts_and_their_order_where_it_was_asked_for() {
        assert_eq!(is_same(&[1, 2, 2], &[2, 1, 2]), [true, false]);
        assert_eq!(is_same(&[1, 2, 2], &[1, 2, 2]), [true, true]);
        assert_eq!(is_same(&[1, 2, 2], &[1, 2]), [false, false]);
        assert_eq!(is_same(&[1, 2, 2], &[1, 1, 2]), [false, false]);
        assert_eq!(is_same(&[0], &[]), [false, false]);
        assert_eq!(digest(&[u128::MAX, 2]).rows, 2);
    }

    #[test]
    fn lost_are_the_rows_that_only_the_first_had() {
        assert_eq!(lost(&[], &[]), 0);
        assert_eq!(lost(&[1, 2, 2, 3], &[3, 2]), 2);
        assert_eq!(lost(&[1], &[1, 4]), 0);
        assert_eq!(lost(&[5], &[6]), 1);
    }

    #[test]
    fn memory_is_bounded() {
        let first: Vec<u128> = (0..DISTINCT as u128 + 10).collect();
        assert_eq!(lost(&first, &first[20..]), 20);
        let mut difference = Difference::default();
        first.iter().for_each(|row| difference.count(*row, 1));
        assert_eq!(difference.net.len(), DISTINCT);
    }
}
