//! The streamcore engine.
#![warn(missing_docs)]
pub mod batch;
pub mod buffer;
pub mod checkpoint;
pub mod codec;
pub mod combine;
pub mod decode;
pub mod dedupe;
pub mod encode;
pub mod error;
pub mod expr;
pub mod generate;
pub mod group;
pub mod infer;
pub mod lane;
pub mod metrics;
pub mod partition;
pub mod pipeline;
pub mod plan;
mod prefetch;
pub mod raw;
pub mod results;
pub mod spec;
pub mod state;
pub mod table;
pub mod time_text;
pub mod watermark;
pub mod window;
