//! What `benches/decode.rs` measures: the corpora, and who reads them.

pub mod contestants;
pub mod corpora;
pub mod draw;
