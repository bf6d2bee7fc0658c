//! Saved state on disk.
//!
//! [`file`] is the format of one checkpoint: a header of the caller's and the state of each lane.
//! Invariant: what does not read back exactly as it was written is refused.

pub mod file;

pub use file::{decode, encode};
