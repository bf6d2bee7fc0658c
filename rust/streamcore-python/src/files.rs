//! `LineReader`: whole lines of a file, in large pieces, without a Python object a line.
//!
//! The files source reads with it; `raw.rs` carries the lines on. Invariant: `position` is the byte
//! after the last line handed out, whatever was read ahead, so a reader opened there goes on exactly.

use crate::error::{Failure, enter, held, lock};
use crate::raw::Raw;
use pyo3::prelude::*;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, spawn};
use streamcore::buffer::Buffer;
use streamcore::raw::{PADDING, RawBatch};

/// Longest line, bytes; one that ends within the piece in which the bound is passed is still taken.
const LINE_BYTES_MAX: usize = 64 << 20;

/// Least and most bytes of one piece.
const PIECE_BYTES: (usize, usize) = (1, 256 << 20);

/// Reads an NDJSON file in large pieces, straight into a `Raw`, with the GIL released.
#[pyclass(frozen, module = "streamcore._core")]
pub struct LineReader(Mutex<Reader>);

struct Reader {
    state: State,
    /// Byte after the last line handed out.
    position: u64,
}

/// Where the lines are.
enum State {
    Here(Lines),
    /// With the thread that reads the next piece.
    Ahead(JoinHandle<(Lines, Piece)>),
    /// Nowhere: that thread panicked.
    Lost,
}

/// The next lines, or `None` at the end.
type Piece = Result<Option<RawBatch>, Failure>;

struct Lines {
    file: File,
    path: String,
    lane: i32,
    topic: Arc<str>,
    /// Byte after the last line read.
    position: u64,
    /// The beginning of a line whose end was not read yet.
    partial: Vec<u8>,
}

impl Lines {
    fn open(path: String, lane: i32, topic: &str, position: u64) -> Result<Self, Failure> {
        let failed = |error| Failure::Source(format!("cannot open {path}: {error}; check the path and its rights"));
        let mut file = File::open(&path).map_err(failed)?;
        let length = file.seek(SeekFrom::End(0)).map_err(failed)?;
        if position > length {
            return Err(Failure::Source(format!(
                "{path} has {length} bytes, but reading had reached byte {position}; the file was cut or replaced: \
                 restore it, or reset the state and read it again"
            )));
        }
        file.seek(SeekFrom::Start(position)).map_err(failed)?;
        Ok(Self { file, path, lane, topic: topic.into(), position, partial: Vec::new() })
    }

    fn read(&mut self, bytes_max: usize) -> Piece {
        let piece = bytes_max.clamp(PIECE_BYTES.0, PIECE_BYTES.1);
        let mut data = Buffer::with_capacity(self.partial.len() + piece + PADDING);
        data.append(&mut self.partial);
        let mut searched = 0;
        loop {
            let ended = self.fill(&mut data, piece)?;
            let newline = memchr::memrchr(b'\n', &data[searched..]).map(|at| searched + at + 1);
            if newline.is_none() && data.len() > LINE_BYTES_MAX {
                return Err(Failure::Source(format!(
                    "{} has a line of more than {LINE_BYTES_MAX} bytes at byte {}; is it newline-separated JSON?",
                    self.path, self.position
                )));
            }
            // At the end of the file a last line without a newline is whole.
            let end = if ended { Some(data.len()) } else { newline };
            if let Some(end) = end {
                self.partial.extend_from_slice(&data[end..]);
                data.truncate(end);
                return self.take(data);
            }
            searched = data.len();
        }
    }

    /// Appends the next bytes of the file, up to `piece`; true at its end.
    fn fill(&mut self, data: &mut Vec<u8>, piece: usize) -> Result<bool, Failure> {
        let before = data.len();
        data.reserve(piece + PADDING);
        match self.file.by_ref().take(piece as u64).read_to_end(data) {
            Ok(_) => Ok(data.len() - before < piece),
            Err(error) => {
                let at = self.position + before as u64;
                Err(Failure::Source(format!("cannot read {} at byte {at}: {error}; check the disk", self.path)))
            }
        }
    }

    fn take(&mut self, data: Buffer) -> Piece {
        if data.is_empty() {
            return Ok(None);
        }
        let length = data.len() as u64;
        let mut batch = RawBatch::from_lines(self.lane, self.topic.clone(), data, self.position as i64, None)?;
        batch.seal();
        self.position += length;
        Ok(Some(batch))
    }
}

impl Reader {
    fn read(&mut self, bytes_max: usize) -> Piece {
        let (lines, piece) = match std::mem::replace(&mut self.state, State::Lost) {
            State::Here(mut lines) => {
                let piece = lines.read(bytes_max);
                (lines, piece)
            }
            // A panic of that thread goes on here, where the door catches it.
            State::Ahead(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            State::Lost => return Err(Failure::Source("reading failed before; open the file again".into())),
        };
        self.position = lines.position;
        self.state = State::Here(lines);
        piece
    }

    fn read_ahead(&mut self, bytes_max: usize) {
        self.state = match std::mem::replace(&mut self.state, State::Lost) {
            State::Here(mut lines) => State::Ahead(spawn(move || {
                let piece = lines.read(bytes_max);
                (lines, piece)
            })),
            other => other,
        };
    }
}

#[pymethods]
impl LineReader {
    #[new]
    #[pyo3(signature = (path, lane, topic, position = 0))]
    fn new(py: Python<'_>, path: String, lane: i32, topic: &str, position: u64) -> PyResult<Self> {
        enter(py, || {
            let state = State::Here(Lines::open(path, lane, topic, position)?);
            Ok(Self(Mutex::new(Reader { state, position })))
        })
    }

    /// The next whole lines (at least one, though it be longer than `bytes_max`), or None at the end.
    fn read(&self, py: Python<'_>, bytes_max: usize) -> PyResult<Option<Raw>> {
        enter(py, || {
            let batch = lock(&self.0, "the line reader")?.read(bytes_max)?;
            Ok(batch.map(|batch| Raw::from_batches(vec![batch])))
        })
    }

    /// Starts reading what the next `read` returns, in the background.
    fn read_ahead(&self, py: Python<'_>, bytes_max: usize) -> PyResult<()> {
        held(py, || {
            lock(&self.0, "the line reader")?.read_ahead(bytes_max);
            Ok(())
        })
    }

    /// Byte after the last line handed out.
    #[getter]
    fn position(&self, py: Python<'_>) -> PyResult<u64> {
        held(py, || Ok(lock(&self.0, "the line reader")?.position))
    }
}
