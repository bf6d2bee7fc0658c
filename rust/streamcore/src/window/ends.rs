//! The windows that are open: what answers "why is the window that ends then still open".
//!
//! Each kind of window shows its open ones to [`Ends`], on request and never on the way of a record. Invariant: nothing
//! is changed, and of windows that are not asked for no more than a few ends are kept.

use hashbrown::HashSet;
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// Ends of other open windows that are told, before and after the one asked for.
const NEAREST_MAX: usize = 3;

/// An open window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// Where it begins, ms; of several sessions, the first.
    pub start_ms: i64,
    /// The watermark from which on it is over; of several sessions, the last.
    pub over_at_ms: i64,
    /// Groups in it.
    pub keys: u64,
}

/// Takes the groups of a window.
pub type Keys<'k> = &'k mut dyn FnMut(&[u8]);

/// The open windows with one end, and the ends of those nearest to it.
#[derive(Debug, Clone)]
pub struct Ends {
    end_ms: i64,
    /// The one asked for, without its groups.
    open: Option<Open>,
    /// Its groups, which may be shown by several lanes and by where these meet.
    keys: HashSet<Box<[u8]>>,
    before: BTreeSet<i64>,
    after: BTreeSet<i64>,
}

impl Ends {
    /// Looks for windows that end at `end_ms`.
    #[must_use]
    pub fn new(end_ms: i64) -> Self {
        Self { end_ms, open: None, keys: HashSet::new(), before: BTreeSet::new(), after: BTreeSet::new() }
    }

    /// The window asked for, if it is open.
    #[must_use]
    pub fn found(&self) -> Option<Open> {
        self.open.map(|open| Open { keys: self.keys.len() as u64, ..open })
    }

    /// Shows an open window with its bounds; `keys` is asked only of the one that is looked for.
    pub fn see(&mut self, (start_ms, end_ms): (i64, i64), over_at_ms: i64, keys: impl FnOnce(Keys<'_>)) {
        match end_ms.cmp(&self.end_ms) {
            Ordering::Equal => {
                let open = self.open.unwrap_or(Open { start_ms, over_at_ms, keys: 0 });
                let (start_ms, over_at_ms) = (open.start_ms.min(start_ms), open.over_at_ms.max(over_at_ms));
                self.open = Some(Open { start_ms, over_at_ms, keys: 0 });
                keys(&mut |key| {
                    self.keys.get_or_insert_with(key, |key| key.into());
                });
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
        assert_eq!(ends.found(), Some(Open { start_ms: 5, over_at_ms: 60, keys: 3 }));
        assert_eq!(ends.nearest().collect::<Vec<_>>(), [20, 30, 40, 60, 70, 80]);
    }
}
