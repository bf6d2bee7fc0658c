//! Bounds on what a pipeline may use, as they are described.
//!
//! Part of `spec`; `plan` takes them over as they are. Invariant: the defaults are those of the pipeline file.

use serde::{Deserialize, Serialize};

/// What happens when the state has reached a bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFullSpec {
    /// The run ends.
    #[default]
    Stop,
    /// Rows that would add a key, or a row to a join, are dead letters `STATE_FULL`; the others count.
    Shed,
}

/// Bounds on what a pipeline may use.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSpec {
    /// Largest record value, bytes.
    pub record_bytes_max: u64,
    /// Longest group key, bytes.
    pub key_bytes_max: u64,
    /// Deepest nesting of a JSON value.
    pub depth_max: u32,
    /// Most state, bytes: of all lanes together, or, where rows are shed, of each.
    pub state_bytes_max: u64,
    /// Most entries of a window step or join, likewise; absent: no bound.
    pub keys_max: Option<u64>,
    /// What happens to rows beyond either.
    pub on_full: OnFullSpec,
    /// Threads used inside one call; 0: as many as the machine has.
    pub threads_max: usize,
    /// Most rows of windows that leave a lane, or the stage where lanes meet, at once; at least 1.
    pub piece_rows: usize,
}

/// Enough for what it costs to begin a piece not to matter, and little beside what windows hold.
const PIECE_ROWS: usize = 64 << 10;

impl Default for LimitsSpec {
    fn default() -> Self {
        Self {
            record_bytes_max: 16 << 20,
            key_bytes_max: 4096,
            depth_max: 64,
            state_bytes_max: 4 << 30,
            keys_max: None,
            on_full: OnFullSpec::Stop,
            threads_max: 0,
            piece_rows: PIECE_ROWS,
        }
    }
}
