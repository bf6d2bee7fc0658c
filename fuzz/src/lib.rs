//! Holds the JSON decoder to an oracle on changed batches of records; see README.md.

pub mod batch;
pub mod mutate;
mod numbers;
mod oracle;
pub mod plans;
pub mod property;
