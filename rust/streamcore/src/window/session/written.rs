//! The rows that a session has left behind, to be taken back when its bounds change.
//!
//! `session/slots.rs` keeps them with the session; `session/leave.rs` compares them with what the session has
//! become. Invariant: no two of a session's rows have the same bounds.

use crate::codec::{Reader, Write};
use crate::error::Result;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A row that a reader holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenRow {
    /// Bounds of its window, ms.
    pub bounds: (i64, i64),
    /// Digest of its aggregates.
    pub digest: u64,
}

/// The rows of a session, or of those it was made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// The rows.
    pub rows: Vec<WrittenRow>,
    /// The revision of the next row; higher than those of all rows so far.
    pub revision: i64,
}

impl Written {
    /// The row with these bounds.
    pub fn row(&self, bounds: (i64, i64)) -> Option<&WrittenRow> {
        self.rows.iter().find(|row| row.bounds == bounds)
    }

    /// Takes in the rows of a session that became one with this.
    pub fn merge(&mut self, other: &Self) {
        self.revision = self.revision.max(other.revision);
        self.rows.extend(other.rows.iter().filter(|row| self.row(row.bounds).is_none()).copied().collect::<Vec<_>>());
    }

    /// Takes out the rows that begin before `cut_ms`; both parts go on with the same revision.
    pub fn split_before(&mut self, cut_ms: i64) -> Self {
        let (before, rows) = self.rows.drain(..).partition(|row| row.bounds.0 < cut_ms);
        self.rows = rows;
        Self { rows: before, revision: self.revision }
    }

    /// Appends the rows.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.rows.len() as u64);
        for row in &self.rows {
            out.put_i64(row.bounds.0);
            out.put_i64(row.bounds.1);
            out.put_u64(row.digest);
        }
        out.put_i64(self.revision);
    }

    /// Reads what `encode` wrote.
    pub fn decode(saved: &mut Reader<'_>) -> Result<Self> {
        let mut rows = Vec::new();
        for _ in 0..saved.count(24)? {
            rows.push(WrittenRow { bounds: (saved.i64()?, saved.i64()?), digest: saved.u64()? });
        }
        Ok(Self { rows, revision: saved.i64()? })
    }

    /// A digest of the rows, in whatever order.
    pub fn digest(&self) -> u64 {
        let digest = |row: &WrittenRow| {
            let bounds = [row.bounds.0.to_le_bytes(), row.bounds.1.to_le_bytes()].concat();
            xxh3_64_with_seed(&bounds, row.digest)
        };
        let rows = self.rows.iter().map(digest).fold(0, u64::wrapping_add);
        xxh3_64_with_seed(&self.revision.to_le_bytes(), rows)
    }

    /// Bytes held, roughly.
    pub fn byte_len(&self) -> usize {
        size_of::<Self>() + self.rows.len() * size_of::<WrittenRow>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_two_sessions_become_those_of_one_and_are_split_at_a_cut() {
        let row = |from, to| WrittenRow { bounds: (from, to), digest: 7 };
        let mut written = Written { rows: vec![row(0, 10)], revision: 2 };
        let other = Written { rows: vec![row(20, 30), row(0, 10)], revision: 1 };
        written.merge(&other);
        assert_eq!(written, Written { rows: vec![row(0, 10), row(20, 30)], revision: 2 });
        let mut saved = Vec::new();
        written.encode(&mut saved);
        assert_eq!(Written::decode(&mut Reader::new(&saved)).expect("whole"), written);
        assert_eq!(written.split_before(20), Written { rows: vec![row(0, 10)], revision: 2 });
        assert_eq!(written.rows, [row(20, 30)]);
    }
}
