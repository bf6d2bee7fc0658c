//! The open ones of the windows that the clock alone bounds.
//!
//! `pipeline` asks for them. Invariant: a window is open while it has rows and has not left.

use super::{AlignedWindows, parts};
use crate::window::ends::{Ends, Keys};

impl AlignedWindows {
    /// See [`crate::window::Windows::see_open`].
    pub fn see_open(&self, ends: &mut Ends) {
        for name in self.unfired(i64::MAX) {
            let Some(bounds) = self.windows.bounds(name) else { continue };
            ends.see(bounds, self.windows.over_at(name), |keys| self.each_key(name, keys));
        }
    }

    /// Hands out the groups of the window called `name`, those in several slices more than once.
    fn each_key(&self, name: i64, keys: Keys<'_>) {
        for table in parts(&self.slices, &self.windows, name) {
            (0..table.len() as u32).for_each(|slot| keys(table.key(slot)));
        }
    }
}
