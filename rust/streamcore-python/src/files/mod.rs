//! `FileReader`: whole records of a file, in large pieces, without a Python object a record.
//!
//! The files source reads with it; `raw.rs` carries the records on. Invariant: `position` is the byte
//! after the last record handed out, whatever was read ahead, so a reader opened there goes on exactly.

mod ahead;
mod frames;
mod input;
mod lines;

use crate::error::{Failure, enter, held, lock};
use crate::raw::Raw;
use ahead::{Ahead, Place};
use frames::FrameCutter;
use input::Input;
use lines::Lines;
use pyo3::prelude::*;
use std::sync::Mutex;
use streamcore::raw::RawBatch;
use streamcore::raw::frames::Prefix;

/// Largest record that may be allowed at all, bytes.
const RECORD_BYTES_MAX: u64 = 1 << 30;

/// Reads a file in large pieces, straight into a `Raw`, with the GIL released.
#[pyclass(frozen, module = "streamcore._core")]
pub struct FileReader(Mutex<Reader>);

struct Reader {
    ahead: Ahead,
    /// Behind the last record handed out.
    place: Place,
}

/// The next records, or `None` at the end.
type Piece = Result<Option<RawBatch>, Failure>;

/// A file and how it is cut into records.
struct Records {
    input: Input,
    cutter: Cutter,
}

enum Cutter {
    Lines(Lines),
    Frames(FrameCutter),
}

impl Records {
    fn read(&mut self, bytes_max: usize) -> Piece {
        match &mut self.cutter {
            Cutter::Lines(lines) => lines.read(&mut self.input, bytes_max),
            Cutter::Frames(frames) => frames.read(&mut self.input, bytes_max),
        }
    }

    fn place(&self) -> Place {
        let passed_over = if let Cutter::Lines(lines) = &self.cutter { lines.passed_over() } else { 0 };
        Place { position: self.input.position, left: self.input.rest.len() as u64 + passed_over }
    }
}

impl Cutter {
    fn new(framing: &str, grows: bool) -> Result<Self, Failure> {
        match framing {
            "lines" => Ok(Self::Lines(Lines::new(grows))),
            "varint" => Ok(Self::Frames(FrameCutter::new(Prefix::Varint, grows))),
            "u32be" => Ok(Self::Frames(FrameCutter::new(Prefix::U32Be, grows))),
            other => Err(Failure::Misuse(format!("there is no framing {other}; it is lines, varint or u32be"))),
        }
    }
}

#[pymethods]
impl FileReader {
    #[new]
    #[pyo3(signature = (path, lane, topic, position = 0, *, framing = "lines", record_bytes_max = RECORD_BYTES_MAX, grows = false))]
    #[expect(clippy::too_many_arguments, reason = "all but the first four have a default")]
    fn new(
        py: Python<'_>,
        path: String,
        lane: i32,
        topic: &str,
        position: u64,
        framing: &str,
        record_bytes_max: u64,
        grows: bool,
    ) -> PyResult<Self> {
        enter(py, || {
            let cutter = Cutter::new(framing, grows)?;
            let input = Input::open(path, lane, topic, position, record_bytes_max)?;
            let ahead = Ahead::new(Records { input, cutter });
            Ok(Self(Mutex::new(Reader { ahead, place: Place { position, left: 0 } })))
        })
    }

    /// The next whole records, or None at the end: at least one, though it be longer than `bytes_max`, except
    /// while a line over the limit is passed over.
    fn read(&self, py: Python<'_>, bytes_max: usize) -> PyResult<Option<Raw>> {
        enter(py, || {
            let mut reader = lock(&self.0, "the file reader")?;
            let (piece, place) = reader.ahead.read(bytes_max)?;
            reader.place = place;
            Ok(piece?.map(|batch| Raw::from_batches(vec![batch])))
        })
    }

    /// Reads what the next `pieces` calls of `read` return, in the background.
    #[pyo3(signature = (bytes_max, pieces = 1))]
    fn read_ahead(&self, py: Python<'_>, bytes_max: usize, pieces: usize) -> PyResult<()> {
        held(py, || {
            lock(&self.0, "the file reader")?.ahead.ask(bytes_max, pieces);
            Ok(())
        })
    }

    /// Bytes read behind it and not handed out: at the end, of a record that the file ends within.
    #[getter]
    fn left(&self, py: Python<'_>) -> PyResult<u64> {
        held(py, || Ok(lock(&self.0, "the file reader")?.place.left))
    }

    /// Byte after the last record handed out.
    #[getter]
    fn position(&self, py: Python<'_>) -> PyResult<u64> {
        held(py, || Ok(lock(&self.0, "the file reader")?.place.position))
    }
}
