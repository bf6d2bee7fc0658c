//! `Decoding`: records being decoded on a thread of their own.
//!
//! `engine.rs` starts it and pushes the result. Invariant: decoding has no state, so when it runs cannot
//! matter.

use std::sync::Arc;
use std::thread::{JoinHandle, spawn};
use streamcore::batch::Batch;
use streamcore::decode::Decoder;
use streamcore::pipeline::work;
use streamcore::raw::RawBatch;

/// Records with their columns, batch by batch.
type Decoded = (Vec<RawBatch>, Vec<Vec<Batch>>);

/// Records being decoded.
pub struct Decoding(JoinHandle<Decoded>);

impl Decoding {
    /// Begins to decode `raws`, on `threads`.
    pub fn start(decoder: Arc<Decoder>, raws: Vec<RawBatch>, threads: usize) -> Self {
        Self(spawn(move || {
            let decoded = work::decode(&decoder, &raws, threads);
            (raws, decoded)
        }))
    }

    /// Waits for the columns.
    pub fn finish(self) -> Decoded {
        // A panic of that thread goes on here, where the door catches it.
        self.0.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
