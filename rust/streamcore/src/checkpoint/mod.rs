//! Saved state, and the commit that makes it durable.
//!
//! [`file`] is the format of one checkpoint on disk: a header of the caller's and the state of each lane. [`machine`]
//! decides what a worker does to commit an epoch as one Kafka transaction, and to recover.
//! Invariant: what does not read back exactly as it was written is refused.

pub mod file;
pub mod machine;

pub use file::{decode, encode};
