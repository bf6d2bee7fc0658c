//! `Decoding`: records being decoded in the background while Python polls for the next ones.
//!
//! `raw.rs` comes before, `pipeline.rs` takes the result. Decoding is stateless, so nothing of an
//! epoch is in flight. Invariant: a batch is decoded by the decoder of the pipeline it was given to.

use crate::error::{Failure, lock};
use crate::raw::{Contents, Raw};
use pyo3::prelude::*;
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, spawn};
use streamcore::batch::Batch;
use streamcore::decode::Decoder;
use streamcore::pipeline::work;

/// Records with their columns, batch by batch.
type Decoded = (Contents, Vec<Vec<Batch>>);

/// Records being decoded; to be pushed once.
#[pyclass(frozen, module = "streamcore._core")]
pub struct Decoding(Mutex<Option<JoinHandle<Decoded>>>);

/// What can be pushed.
#[derive(FromPyObject)]
pub enum Records<'py> {
    /// Records as they came.
    Raw(Bound<'py, Raw>),
    /// Records being decoded.
    Decoding(Bound<'py, Decoding>),
}

impl Decoding {
    /// Decodes `contents` on a thread of its own: the other threads are busy polling.
    pub fn start(decoder: Arc<Decoder>, contents: Contents) -> Self {
        let work = move || {
            let decoded = work::decode(&decoder, &contents.batches, 1);
            (contents, decoded)
        };
        Self(Mutex::new(Some(spawn(work))))
    }

    /// Waits for the columns.
    pub fn finish(&self) -> Result<Decoded, Failure> {
        let Some(thread) = lock(&self.0, "the decoding")?.take() else {
            return Err(Failure::Misuse("these decoded records were pushed already; each batch is pushed once".into()));
        };
        // A panic of that thread goes on here, where the door catches it.
        Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }
}
