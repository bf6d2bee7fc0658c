//! Rows that leave a pipeline before its end, and why.
//!
//! `mod.rs` tells which, `table` shows them. Invariant: each is counted in exactly one class of a ledger.

/// Why a row left before the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// Too late; by how much more lateness allowed it would have been in time, ms.
    Late {
        /// `WINDOW`, `DEDUPE_HORIZON` or `REVISION`.
        reason: &'static str,
        /// Event time, ms.
        event_time_ms: i64,
        /// The missing allowance, ms.
        lateness_ms: i64,
    },
    /// Event time too far ahead, ms.
    Future {
        /// Event time, ms.
        event_time_ms: i64,
        /// Distance to the record's timestamp, ms.
        ahead_ms: i64,
    },
    /// Refused.
    Rejected {
        /// The class.
        reason: &'static str,
        /// What was wrong; quotes no payload.
        detail: String,
        /// Byte in the value.
        at: u32,
    },
}

/// A record that left before the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftRow {
    /// Row in the raw batch.
    pub raw_row: u32,
    /// Why.
    pub left: Left,
}
