//! The streamcore engine.
#![warn(missing_docs)]
pub mod batch;
pub mod codec;
pub mod error;
pub mod expr;
pub mod raw;
pub mod spec;
pub mod state;
