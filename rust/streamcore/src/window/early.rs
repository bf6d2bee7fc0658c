//! When rows of `updates` windows leave before the last one.
//!
//! `plan` makes it; `window/state/early.rs` and `window/session/early.rs` ask. The times are those of the clock,
//! which follows the events. Invariant: but for rows at commits, which rows leave early depends on the
//! records and their order alone.

use crate::batch::Column;
use std::fmt::Debug;
use std::sync::Arc;

/// A condition over result rows: `n >= 10`.
pub trait RowCondition: Debug + Send + Sync {
    /// Clears `keep[i]` unless it is set and the condition is true in row `i` of `rows`: group keys,
    /// `window_start`, `window_end` and aggregates, in this order; a column of lists is empty.
    fn retain(&self, rows: &[Column], keep: &mut [bool]);
}

/// When early rows leave: with neither set, at each commit.
#[derive(Debug, Clone, Default)]
pub struct Early {
    /// Each time that the clock passes a multiple of it since the epoch, ms.
    pub every_ms: Option<i64>,
    /// Only rows for which it is true; without `every_ms`, with the record that makes it true.
    pub when: Option<Arc<dyn RowCondition>>,
    /// Behind a window the clock is told in jumps, which batch cuts decide: each multiple on the way counts as if it
    /// had been told. In a lane the records alone decide how far it jumps.
    pub is_chained: bool,
}

impl Early {
    /// Whether changed rows leave at commits.
    #[must_use]
    pub fn at_commit(&self) -> bool {
        self.every_ms.is_none() && self.when.is_none()
    }

    /// The condition that every record is weighed by.
    #[must_use]
    pub fn each_record(&self) -> Option<&dyn RowCondition> {
        if self.every_ms.is_some() { None } else { self.when.as_deref() }
    }

    /// The watermark at which the next multiple of `every_ms` is passed: all events before it have come.
    /// A clock that has not seen an event passes none.
    #[must_use]
    pub fn next_ms(&self, watermark_ms: i64) -> Option<i64> {
        let every_ms = self.every_ms.filter(|_| watermark_ms != i64::MIN)?;
        Some(((watermark_ms + 1).div_euclid(every_ms) + 1) * every_ms - 1)
    }

    /// The multiple to stop at on the way from one watermark to another.
    #[must_use]
    pub fn stop_ms(&self, from_ms: i64, to_ms: i64) -> Option<i64> {
        self.next_ms(from_ms).filter(|next_ms| self.is_chained && *next_ms < to_ms)
    }

    /// Whether a multiple of `every_ms` lies between two watermarks.
    #[must_use]
    pub fn passes(&self, from_ms: i64, to_ms: i64) -> bool {
        self.next_ms(from_ms).is_some_and(|next_ms| next_ms <= to_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_multiple_is_passed_when_all_events_before_it_have_come() {
        let early = Early { every_ms: Some(10), ..Early::default() };
        assert!(!early.at_commit());
        assert_eq!(early.next_ms(i64::MIN), None, "a clock that has seen nothing");
        assert_eq!([-11, -2, -1, 8, 9].map(|at| early.next_ms(at)), [-1, -1, 9, 9, 19].map(Some));
        assert!(early.passes(8, 9) && !early.passes(9, 18) && early.passes(9, 1_000));
        assert!(!early.passes(i64::MIN, 1_000));
        assert!(!Early::default().passes(8, 9));
        let chained = Early { is_chained: true, ..early.clone() };
        assert_eq!([(8, 9), (8, 10), (9, 100)].map(|(from, to)| chained.stop_ms(from, to)), [None, Some(9), Some(19)]);
        assert_eq!(early.stop_ms(8, 100), None);
        assert!(Early::default().at_commit());
    }
}
