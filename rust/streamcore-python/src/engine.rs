//! `Engine`: the engine's pipeline, at hand or away on a thread of its own while Python polls.
//!
//! `pipeline.rs` asks it for the pipeline; `decoding.rs` prepares what is pushed behind. Invariant: pushes
//! happen in the order in which records were handed in, and whoever asks for the pipeline, or for rows,
//! waits for those under way: nobody can tell that they went on in the background.

use crate::decoding::Decoding;
use crate::error::Failure;
use std::sync::Arc;
use std::thread::{JoinHandle, available_parallelism, spawn};
use streamcore::decode::Decoder;
use streamcore::error::Error;
use streamcore::pipeline::{OutputBatch, Pipeline};
use streamcore::raw::RawBatch;

/// A pipeline that comes back, and what pushing has brought.
type Pushed = (Box<Pipeline>, Result<Vec<OutputBatch>, Error>);

enum Place {
    Here(Box<Pipeline>),
    Away {
        thread: JoinHandle<Pushed>,
        /// The epoch being filled; a push does not change it.
        epoch: u64,
    },
    /// A panic took it along.
    Lost,
}

/// Threads for work in the background: all cores but the one that polls.
fn threads_behind() -> usize {
    available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1))
}

/// The pipeline with the pushes under way.
pub struct Engine {
    place: Place,
    decoder: Arc<Decoder>,
    /// Records being decoded, and the time they were handed in: they are pushed next.
    next: Option<(Decoding, i64)>,
    /// Rows of finished pushes, until someone takes them.
    outputs: Vec<OutputBatch>,
}

impl Engine {
    pub fn new(pipeline: Pipeline) -> Self {
        let decoder = pipeline.decoder();
        Self { place: Place::Here(Box::new(pipeline)), decoder, next: None, outputs: Vec::new() }
    }

    /// The pipeline with all pushes done that have begun.
    pub fn pipeline(&mut self) -> Result<&mut Pipeline, Failure> {
        if let Place::Away { .. } = self.place {
            let Place::Away { thread, .. } = std::mem::replace(&mut self.place, Place::Lost) else { unreachable!() };
            // A panic of that thread goes on here, where the door catches it.
            let (pipeline, pushed) = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            self.place = Place::Here(pipeline);
            self.outputs.extend(pushed?);
        }
        match &mut self.place {
            Place::Here(pipeline) => Ok(pipeline),
            Place::Away { .. } | Place::Lost => {
                Err(Failure::Misuse("the pipeline was lost in an internal error".into()))
            }
        }
    }

    /// The pipeline with everything pushed that was handed in; [`take`](Self::take) has the rows.
    pub fn settled(&mut self) -> Result<&mut Pipeline, Failure> {
        self.pipeline()?;
        if let Some((decoding, now_ms)) = self.next.take() {
            let (raws, decoded) = decoding.finish();
            let rows = self.pipeline()?.push_decoded(&raws, decoded, now_ms, threads_behind())?;
            self.outputs.extend(rows);
        }
        self.pipeline()
    }

    /// Rows of the pushes that are done.
    pub fn take(&mut self) -> Vec<OutputBatch> {
        std::mem::take(&mut self.outputs)
    }

    /// Hands in records to be decoded, then pushed, in the background. Waits for the push before the last.
    pub fn push_behind(&mut self, raws: Vec<RawBatch>, now_ms: i64) -> Result<(), Failure> {
        let next = Decoding::start(self.decoder.clone(), raws, threads_behind());
        self.pipeline()?;
        if let Some((decoding, now_ms)) = self.next.replace((next, now_ms)) {
            self.leave(decoding, now_ms);
        }
        Ok(())
    }

    fn leave(&mut self, decoding: Decoding, now_ms: i64) {
        let Place::Here(mut pipeline) = std::mem::replace(&mut self.place, Place::Lost) else { return };
        let epoch = pipeline.epoch();
        let push = move || {
            let (raws, decoded) = decoding.finish();
            let rows = pipeline.push_decoded(&raws, decoded, now_ms, threads_behind());
            (pipeline, rows)
        };
        self.place = Place::Away { thread: spawn(push), epoch };
    }

    /// The pipeline as the last commit left it: what is under way is dropped, with its rows and its failure.
    pub fn roll_back(&mut self) -> Result<(), Failure> {
        self.next = None;
        // A failed push is part of what is taken back; asked again, the pipeline is there.
        let _ = self.pipeline();
        self.pipeline()?.rollback();
        self.outputs.clear();
        Ok(())
    }

    /// The epoch being filled. Waits for nothing.
    pub fn epoch(&mut self) -> Result<u64, Failure> {
        if let Place::Away { epoch, .. } = self.place {
            return Ok(epoch);
        }
        Ok(self.pipeline()?.epoch())
    }
}
