//! Which batches belong to transactions that were aborted.
//!
//! The answer to a fetch of committed records lists such transactions by producer and first offset; `records.rs` asks batch by
//! batch, as Kafka's own consumer does. Invariant: a producer is taken for aborting from the first offset of such a
//! transaction up to the marker that ends it.

use std::collections::BTreeSet;

/// An aborted transaction of the answer to a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Who aborted it.
    pub producer_id: i64,
    /// Where it begins in the partition, which may be before what was fetched.
    pub first_offset: i64,
}

/// The aborted transactions of one partition, as far as its batches were walked.
#[derive(Debug)]
pub struct Aborted {
    /// Those that begin behind the batches so far, the next one last.
    waiting: Vec<AbortedTransaction>,
    /// Producers in one that began.
    begun: BTreeSet<i64>,
}

impl Aborted {
    /// Those of an answer, in any order.
    #[must_use]
    pub fn new(listed: &[AbortedTransaction]) -> Self {
        let mut waiting = listed.to_vec();
        waiting.sort_unstable_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
        Self { waiting, begun: BTreeSet::new() }
    }

    /// Says that a batch of a producer with an id comes, and where it ends.
    pub fn reach(&mut self, last_offset: i64) {
        while let Some(next) = self.waiting.pop_if(|next| next.first_offset <= last_offset) {
            self.begun.insert(next.producer_id);
        }
    }

    /// Whether what `producer_id` writes now in a transaction is aborted.
    #[must_use]
    pub fn is_aborted(&self, producer_id: i64) -> bool {
        self.begun.contains(&producer_id)
    }

    /// The marker of an abort: what the producer writes behind it belongs to another transaction.
    pub fn end(&mut self, producer_id: i64) {
        self.begun.remove(&producer_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_producer_aborts_from_the_first_offset_to_the_marker() {
        let listed = [(7, 20), (5, 3), (7, 4)];
        let listed = listed.map(|(producer_id, first_offset)| AbortedTransaction { producer_id, first_offset });
        let mut aborted = Aborted::new(&listed);
        let mut seen = |last_offset, ended: Option<i64>| {
            aborted.reach(last_offset);
            if let Some(producer_id) = ended {
                aborted.end(producer_id);
            }
            [5, 7].map(|producer_id| aborted.is_aborted(producer_id))
        };
        assert_eq!(seen(2, None), [false, false]);
        assert_eq!(seen(3, None), [true, false]);
        assert_eq!(seen(9, None), [true, true]);
        assert_eq!(seen(10, Some(7)), [true, false]);
        assert_eq!(seen(19, None), [true, false]);
        assert_eq!(seen(20, Some(5)), [false, true]);
    }
}
