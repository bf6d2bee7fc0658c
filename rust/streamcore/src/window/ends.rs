//! The windows that are open: what answers "why is the window that ends then still open".
//!
//! Each kind of window shows its open ones to [`Ends`], on request and never on the way of a record. Invariant: nothing
//! is changed; of windows that are not asked for no more than a few ends are kept, and of the one that is, at most a megabyte.

use datasketches::hash::value::raw_bytes;
use datasketches::theta::{ThetaSketch, ThetaSketchBuilder};
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// Ends of other open windows that are told, before and after the one asked for.
const NEAREST_MAX: usize = 3;

/// Groups are told apart by 64 bits of a hash, and counted one by one up to about twice `2^LG_K`. Of more, the least
/// `2^LG_K` hashes are kept and their number is estimated: with a relative standard error of `2^(-LG_K / 2)`, 0.4 %.
const LG_K: u8 = 16;

/// An open window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// Where it begins, ms; of several sessions, the first.
    pub start_ms: i64,
    /// The watermark from which on it is over; of several sessions, the last.
    pub over_at_ms: i64,
    /// Groups in it.
    pub keys: u64,
    /// Whether there are so many that their number is an estimate.
    pub keys_estimated: bool,
}

/// Takes the groups of a window.
pub type Keys<'k> = &'k mut dyn FnMut(&[u8]);

/// The open windows with one end, and the ends of those nearest to it.
#[derive(Debug)]
pub struct Ends {
    end_ms: i64,
    /// The one asked for, without its groups.
    open: Option<Open>,
    /// Its groups, which may be shown by several lanes and by where these meet.
    keys: ThetaSketch,
    before: BTreeSet<i64>,
    after: BTreeSet<i64>,
}

impl Ends {
    /// Looks for windows that end at `end_ms`.
    #[must_use]
    pub fn new(end_ms: i64) -> Self {
        Self { end_ms, open: None, keys: no_keys(), before: BTreeSet::new(), after: BTreeSet::new() }
    }

    /// The window asked for, if it is open.
    pub fn found(&mut self) -> Option<Open> {
        let keys_estimated = self.keys.is_estimation_mode();
        if keys_estimated {
            // How many are kept beyond `2^LG_K` depends on the order they came in.
            self.keys.trim();
        }
        self.open.map(|open| Open { keys: self.keys.estimate().round() as u64, keys_estimated, ..open })
    }

    /// Shows an open window with its bounds; `keys` is asked only of the one that is looked for.
    pub fn see(&mut self, (start_ms, end_ms): (i64, i64), over_at_ms: i64, keys: impl FnOnce(Keys<'_>)) {
        match end_ms.cmp(&self.end_ms) {
            Ordering::Equal => {
                let open = self.open.unwrap_or(Open { start_ms, over_at_ms, keys: 0, keys_estimated: false });
                let (start_ms, over_at_ms) = (open.start_ms.min(start_ms), open.over_at_ms.max(over_at_ms));
                self.open = Some(Open { start_ms, over_at_ms, ..open });
                keys(&mut |key| self.keys.update(raw_bytes::from_slice(key)));
            }
            Ordering::Less => {
                self.before.insert(end_ms);
                if self.before.len() > NEAREST_MAX {
                    self.before.pop_first();
                }
            }
            Ordering::Greater => {
                self.after.insert(end_ms);
                if self.after.len() > NEAREST_MAX {
                    self.after.pop_last();
                }
            }
        }
    }

    /// The ends nearest to the one looked for, rising.
    pub fn nearest(&self) -> impl Iterator<Item = i64> {
        self.before.iter().chain(&self.after).copied()
    }
}

fn no_keys() -> ThetaSketch {
    ThetaSketchBuilder::default().lg_k(LG_K).build().expect("16 is a size the sketch allows")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_one_end_are_taken_together_and_the_nearest_others_told() {
        let mut ends = Ends::new(50);
        for end_ms in (0..100).step_by(10) {
            ends.see((end_ms - 10, end_ms), end_ms - 1, |keys| [b"a", b"b"].into_iter().for_each(|key| keys(key)));
        }
        ends.see((5, 50), 60, |keys| [b"b", b"c"].into_iter().for_each(|key| keys(key)));
        assert_eq!(ends.found(), Some(Open { start_ms: 5, over_at_ms: 60, keys: 3, keys_estimated: false }));
        assert_eq!(ends.nearest().collect::<Vec<_>>(), [20, 30, 40, 60, 70, 80]);
    }

    /// A window with the groups `numbers`, each seen twice.
    fn counted(numbers: &[u32]) -> Open {
        let mut ends = Ends::new(10);
        for _ in 0..2 {
            ends.see((0, 10), 9, |keys| numbers.iter().for_each(|number| keys(&number.to_le_bytes())));
        }
        assert!(ends.keys.estimated_size() <= 2 << 20, "{} bytes", ends.keys.estimated_size());
        ends.found().expect("open")
    }

    #[test]
    fn groups_are_counted_one_by_one_until_they_are_many_then_estimated_in_bounded_memory() {
        let mut groups: Vec<u32> = (0..2_000_000).collect();
        let open = counted(&groups[..100_000]);
        assert_eq!((open.keys, open.keys_estimated), (100_000, false));
        let open = counted(&groups);
        let error = (open.keys as f64 / groups.len() as f64 - 1.0).abs();
        assert!(open.keys_estimated && error < 0.02, "{open:?}");
        groups.reverse();
        assert_eq!(counted(&groups), open, "whatever the order");
    }
}
