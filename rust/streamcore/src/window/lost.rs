//! Values that aggregates could not give: sums beyond their type, failing functions of the user.
//!
//! `rows` notes them, `pipeline` tells of them. The value is null in its row, which leaves all the same: neither its
//! other values nor other groups pay for it. Invariant: no null of a sum but for these and groups without a value.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many values of one aggregate were not to be had since the pipeline was made.
#[derive(Debug, Default)]
pub struct LostValues {
    count: AtomicU64,
    first: OnceLock<String>,
}

impl LostValues {
    /// Notes one, and of the first why.
    pub fn note(&self, why: impl FnOnce() -> String) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.first.get_or_init(why);
    }

    /// How many, and why the first was.
    #[must_use]
    pub fn told(&self) -> Option<(u64, &str)> {
        let count = self.count.load(Ordering::Relaxed);
        self.first.get().map(|first| (count, first.as_str()))
    }

    /// One for each of `count` aggregates.
    #[must_use]
    pub fn of(count: usize) -> std::sync::Arc<[Self]> {
        (0..count).map(|_| Self::default()).collect()
    }
}
