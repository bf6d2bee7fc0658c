//! The conservation ledger: where every record of a lane went.
//!
//! `lane` counts, `pipeline` asserts the balance at every checkpoint. Invariant:
//! `read = applied + filtered + duplicate + late + future + rejected + tombstone`.

use crate::codec::{Reader, Write};
use crate::error::{Error, ErrorKind, Result};

/// Plain counters of one lane. A record is counted once, where the first stage takes it out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Records that entered the lane.
    pub read: u64,
    /// Records that reached the end: counted in a window, or left as rows.
    pub applied: u64,
    /// Removed by `where` or `filter`, by `null_keys = "drop"`, or in no window.
    pub filtered: u64,
    /// Removed by `dedupe`.
    pub duplicate: u64,
    /// Too late for every window they belong to, or older than what `dedupe` remembers.
    pub late: u64,
    /// Event time too far ahead of the record's timestamp.
    pub future: u64,
    /// Dead letters.
    pub rejected: u64,
    /// Records without a value.
    pub tombstone: u64,
    /// Of `filtered`: belonged to no window.
    pub no_window: u64,
    /// Of `rejected`: shed, since a step had no room for what they would have added.
    pub shed: u64,
    /// Windows missed by records that were late for some of theirs and `applied` to the others.
    pub late_windows: u64,
}

impl Ledger {
    /// Every counter with its name, main ones first.
    #[must_use]
    pub const fn entries(&self) -> [(&'static str, u64); 11] {
        [
            ("read", self.read),
            ("applied", self.applied),
            ("filtered", self.filtered),
            ("duplicate", self.duplicate),
            ("late", self.late),
            ("future", self.future),
            ("rejected", self.rejected),
            ("tombstone", self.tombstone),
            ("no_window", self.no_window),
            ("shed", self.shed),
            ("late_windows", self.late_windows),
        ]
    }

    /// Checks the balance.
    pub fn check(&self, lane: i32) -> Result<()> {
        let out =
            self.applied + self.filtered + self.duplicate + self.late + self.future + self.rejected + self.tombstone;
        if out == self.read {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Internal,
            format!(
                "the ledger of lane {lane} does not balance: read {}, accounted for {out} ({self:?}); \
                 nothing of this epoch was committed; please report this",
                self.read
            ),
        ))
    }

    /// Appends the counters.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for (_, value) in self.entries() {
            out.put_varint(value);
        }
    }

    /// Reads what `encode` wrote.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let mut ledger = Self::default();
        for field in ledger.entries_mut() {
            *field = reader.varint()?;
        }
        Ok(ledger)
    }

    /// Adds the counters of another.
    pub fn add(&mut self, other: &Self) {
        for (field, (_, value)) in self.entries_mut().into_iter().zip(other.entries()) {
            *field += value;
        }
    }

    /// Every counter, in the order of `entries`.
    const fn entries_mut(&mut self) -> [&mut u64; 11] {
        [
            &mut self.read,
            &mut self.applied,
            &mut self.filtered,
            &mut self.duplicate,
            &mut self.late,
            &mut self.future,
            &mut self.rejected,
            &mut self.tombstone,
            &mut self.no_window,
            &mut self.shed,
            &mut self.late_windows,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unbalanced_ledger_is_an_error_that_names_the_lane() {
        let ledger = Ledger { read: 3, applied: 1, late: 1, ..Ledger::default() };
        let error = ledger.check(7).expect_err("one record is missing");
        assert!(error.message.contains("lane 7"), "{error}");
        Ledger { rejected: 1, ..ledger }.check(7).expect("balanced");
    }

    #[test]
    fn counters_survive_saving() {
        let ledger = Ledger { read: 300, applied: 299, late_windows: 7, rejected: 1, ..Ledger::default() };
        let mut saved = Vec::new();
        ledger.encode(&mut saved);
        assert_eq!(Ledger::decode(&mut Reader::new(&saved)).expect("whole"), ledger);
        let mut twice = ledger;
        twice.add(&ledger);
        assert_eq!((twice.read, twice.late_windows, twice.late), (600, 14, 0));
    }
}
