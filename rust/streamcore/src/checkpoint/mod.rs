//! Saved state: on disk as one file, or as a log of records for each lane; and when an epoch counts.
//!
//! [`file`] is the format of one checkpoint: a header of the caller's and the whole state of each lane. A [`log`] has
//! [`block`]s, each of what changed or of a part, and [`manifest`]s that say which of them count; [`recovery`] reads it. A [`copy`]
//! of a log is a file on the worker's own disk.
//! [`machine`] decides when an epoch of a worker is committed, and what is gone back to when it is not. Invariant: what does
//! not read back exactly as it was written is refused.

pub mod block;
pub mod copy;
pub mod file;
pub mod log;
pub mod machine;
pub mod manifest;
pub mod recovery;

pub use file::{decode, frame};
