//! Rows that did not leave yet, by time.
//!
//! `mod.rs` adds them and takes those that are due, moment by moment. A radix heap (Ahuja, Mehlhorn, Orlin, Tarjan: "Faster
//! algorithms for the shortest path problem", 1990): a row lies by the highest bit in which its time differs from that of
//! the last moment taken, and moves at most once a bit, a whole bucket at a time; nothing is compared with its neighbours
//! in memory far away. Invariant: no row is of a moment before the last one taken.

use super::rows::RowId;

/// Bucket 0 holds the rows of the last moment, bucket b those that differ from it in bit b - 1 and none above.
const BUCKETS: usize = 65;

#[derive(Debug, Clone, Copy)]
struct Waiting {
    time_ms: i64,
    id: RowId,
}

/// Rows of one side that wait.
#[derive(Debug)]
pub struct Pending {
    buckets: [Vec<Waiting>; BUCKETS],
    /// The earliest time in each bucket, ms.
    earliest_ms: [i64; BUCKETS],
    /// Which buckets hold rows, one bit each.
    filled: u128,
    /// The last moment taken, ms.
    last_ms: i64,
    len: usize,
}

impl Default for Pending {
    fn default() -> Self {
        Self {
            buckets: [const { Vec::new() }; BUCKETS],
            earliest_ms: [i64::MAX; BUCKETS],
            filled: 0,
            last_ms: i64::MIN,
            len: 0,
        }
    }
}

impl Pending {
    /// Number of rows.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes held, roughly.
    pub fn byte_len(&self) -> usize {
        self.len * size_of::<Waiting>()
    }

    /// All rows, with their times, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (i64, RowId)> {
        self.buckets.iter().flatten().map(|row| (row.time_ms, row.id))
    }

    /// Adds a row of a time not before the last moment taken.
    pub fn push(&mut self, time_ms: i64, id: RowId) {
        debug_assert!(time_ms >= self.last_ms);
        self.place(Waiting { time_ms, id });
        self.len += 1;
    }

    fn place(&mut self, row: Waiting) {
        let bucket = (u64::BITS - (row.time_ms ^ self.last_ms).leading_zeros()) as usize;
        self.buckets[bucket].push(row);
        self.earliest_ms[bucket] = self.earliest_ms[bucket].min(row.time_ms);
        self.filled |= 1 << bucket;
    }

    /// The time of the earliest row, ms.
    pub fn next_ms(&self) -> Option<i64> {
        // A difference in a higher bit is a later time: of the rows, none is before `last_ms`.
        (self.filled != 0).then(|| self.earliest_ms[self.filled.trailing_zeros() as usize])
    }

    /// Takes the rows of `time_ms` into `due`, which is emptied; no row is earlier.
    pub fn take(&mut self, time_ms: i64, due: &mut Vec<RowId>) {
        due.clear();
        if self.next_ms() != Some(time_ms) {
            return;
        }
        let bucket = self.filled.trailing_zeros() as usize;
        self.filled &= !(1 << bucket);
        self.earliest_ms[bucket] = i64::MAX;
        self.last_ms = time_ms;
        for row in std::mem::take(&mut self.buckets[bucket]) {
            if row.time_ms == time_ms {
                due.push(row.id);
            } else {
                self.place(row);
            }
        }
        self.len -= due.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn rows_are_taken_moment_by_moment_whenever_they_come(
            turns in proptest::collection::vec((proptest::collection::vec(0_i64..5000, 0..20), 0_usize..4), 0..40),
            base in prop_oneof![Just(i64::MIN), Just(-2000), Just(0), Just(i64::MAX - 300_000)],
        ) {
            let (mut pending, mut model) = (Pending::default(), BTreeMap::<i64, Vec<RowId>>::new());
            let (mut now_ms, mut id, mut due) = (base, 0, Vec::new());
            for (rows, takes) in turns {
                for ahead_ms in rows {
                    pending.push(now_ms + ahead_ms, id);
                    model.entry(now_ms + ahead_ms).or_default().push(id);
                    id += 1;
                }
                for _ in 0..takes {
                    let Some((time_ms, expected)) = model.pop_first() else { break };
                    prop_assert_eq!(pending.next_ms(), Some(time_ms));
                    pending.take(time_ms, &mut due);
                    due.sort_unstable();
                    prop_assert_eq!(&due, &expected);
                    now_ms = time_ms;
                }
                prop_assert_eq!(pending.len(), model.values().map(Vec::len).sum::<usize>());
                prop_assert_eq!(pending.iter().count(), pending.len());
            }
        }
    }
}
