//! How much steps hold, and whether there is room for more.
//!
//! `state`, `dedupe` and `window` count what they hold as it changes; `pipeline` adds it up and stops a run that holds
//! too much. Where rows are shed instead, a step asks its [`Room`] before it keeps another entry. Invariant: the
//! answer follows from the entries that live at the clock before the row: not from batches, commits, other lanes, or
//! what the values of the entries have grown to.

use std::ops::{Add, AddAssign, Sub, SubAssign};

/// What is held. An entry is what a row can add: a group key in a window (in a slice of time, where windows overlap),
/// a session, a group's event of a time in `sliding`, an id that `dedupe` remembers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Entries.
    pub entries: u64,
    /// Bytes of the entries' keys.
    pub key_bytes: u64,
    /// Bytes in all, roughly: keys, values, and what finds them.
    pub bytes: u64,
    /// Bytes, beside those, that go with the next commit: what it takes to go back to the last one.
    pub undo_bytes: u64,
}

impl Usage {
    /// What takes `bytes` and is no entry.
    #[must_use]
    pub const fn bytes(bytes: usize) -> Self {
        Self { entries: 0, key_bytes: 0, bytes: bytes as u64, undo_bytes: 0 }
    }

    /// The same without its entries: what is kept beside those that count.
    #[must_use]
    pub const fn beside(self) -> Self {
        Self { entries: 0, key_bytes: 0, ..self }
    }

    /// One entry with a key of so many bytes.
    #[must_use]
    pub const fn entry(key_len: usize) -> Self {
        Self { entries: 1, key_bytes: key_len as u64, bytes: 0, undo_bytes: 0 }
    }
}

impl Add for Usage {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            entries: self.entries + other.entries,
            key_bytes: self.key_bytes + other.key_bytes,
            bytes: self.bytes + other.bytes,
            undo_bytes: self.undo_bytes + other.undo_bytes,
        }
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Usage {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self {
            entries: self.entries - other.entries,
            key_bytes: self.key_bytes - other.key_bytes,
            bytes: self.bytes - other.bytes,
            undo_bytes: self.undo_bytes - other.undo_bytes,
        }
    }
}

impl SubAssign for Usage {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl std::iter::Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(usages: I) -> Self {
        usages.fold(Self::default(), Add::add)
    }
}

/// How many entries one step of one lane may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Most entries; no bound where it is not given.
    pub entries_max: Option<u64>,
    /// Most bytes of entries, by the two below.
    pub bytes_max: u64,
    /// What an entry takes beside its key, bytes.
    pub entry_bytes: u64,
    /// How often its key is held.
    pub key_copies: u64,
}

impl Room {
    /// Whether `usage`, of which entries and their keys count, fits.
    #[must_use]
    pub fn fits(&self, usage: Usage) -> bool {
        let bytes = usage.entries * self.entry_bytes + usage.key_bytes * self.key_copies;
        self.entries_max.is_none_or(|most| usage.entries <= most) && bytes <= self.bytes_max
    }

    /// Whether so many more entries fit, each with the longest key of all.
    #[must_use]
    pub fn fits_any(&self, usage: Usage, more: usize, key_len_max: usize) -> bool {
        let (more, key_len) = (more as u64, key_len_max as u64);
        self.fits(Usage { entries: usage.entries + more, key_bytes: usage.key_bytes + more * key_len, ..usage })
    }

    /// The bounds, as a dead letter tells them.
    #[must_use]
    pub fn limit(&self) -> String {
        let bytes = format!("its share of limits.max_state_bytes is {} bytes", self.bytes_max);
        self.entries_max.map_or(bytes.clone(), |most| format!("limits.max_keys is {most}, {bytes}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_fits_while_neither_bound_is_passed() {
        let room = Room { entries_max: Some(3), bytes_max: 100, entry_bytes: 20, key_copies: 2 };
        let held = |entries, key_bytes| Usage { entries, key_bytes, ..Usage::default() };
        assert!(room.fits(held(3, 20)) && !room.fits(held(4, 0)) && !room.fits(held(3, 21)));
        assert!(room.fits(Usage { bytes: 1 << 40, ..held(1, 1) }), "values do not count");
        assert!(
            room.fits_any(held(1, 5), 2, 7) && !room.fits_any(held(1, 5), 2, 8) && !room.fits_any(held(1, 5), 3, 0)
        );
        assert_eq!(room.limit(), "limits.max_keys is 3, its share of limits.max_state_bytes is 100 bytes");
        let unbounded = Room { entries_max: None, ..room };
        assert!(unbounded.fits(held(5, 0)) && !unbounded.fits(held(6, 0)));
    }

    #[test]
    fn loads_add_up() {
        let usage = Usage::entry(3) + Usage::bytes(10);
        assert_eq!(usage + usage - usage, usage);
        assert_eq!([usage, usage].into_iter().sum::<Usage>().beside(), Usage::bytes(20));
    }
}
