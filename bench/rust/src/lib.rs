//! What `benches/decode.rs` measures: the corpora, and who reads them into columns.

pub mod columns;
pub mod contestants;
pub mod corpora;
pub mod draw;
mod wanted;
