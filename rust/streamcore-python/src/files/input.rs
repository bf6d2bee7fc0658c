//! `Input`: a file read in large pieces, and what was read of it but not yet handed out.
//!
//! `lines.rs` and `frames.rs` cut the pieces into records. Invariant: `position` is the byte after the last
//! record handed out, `rest` what was read from there on, and the file stands behind `rest`.

use crate::error::Failure;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::sync::Arc;
use streamcore::buffer::Buffer;
use streamcore::raw::{PADDING, RawBatch};

/// Least and most bytes of one piece.
const PIECE_BYTES: (usize, usize) = (1, 256 << 20);

/// A file and how far it was read.
pub struct Input {
    file: File,
    /// Its name, for errors.
    pub path: String,
    /// The lane of its records.
    pub lane: i32,
    /// The topic of its records.
    pub topic: Arc<str>,
    /// Largest record, bytes.
    pub record_bytes_max: u64,
    /// Byte after the last record handed out.
    pub position: u64,
    /// What was read behind it.
    pub rest: Vec<u8>,
    /// The next byte to read.
    next: u64,
}

impl Input {
    /// Opens the file to go on at `position`.
    pub fn open(path: String, lane: i32, topic: &str, position: u64, record_bytes_max: u64) -> Result<Self, Failure> {
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
        let topic = topic.into();
        Ok(Self { file, path, lane, topic, record_bytes_max, position, rest: Vec::new(), next: position })
    }

    /// A buffer that begins with what was read before, with room for `piece` bytes more.
    pub fn buffer(&mut self, piece: usize) -> Buffer {
        let mut data = Buffer::with_capacity(self.rest.len() + piece + PADDING);
        data.push_bytes(&self.rest);
        self.rest.clear();
        data
    }

    /// Appends the next bytes of the file, up to `piece`; true at its end.
    pub fn fill(&mut self, data: &mut Buffer, piece: usize) -> Result<bool, Failure> {
        data.make_room(piece + PADDING);
        match data.read_from(&mut self.file, piece) {
            Ok(read) => {
                self.next += read as u64;
                Ok(read < piece)
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Bytes of the file now.
    pub fn file_bytes(&self) -> Result<u64, Failure> {
        Ok(self.file.metadata().map_err(|error| self.failed(&error))?.len())
    }

    /// Goes on at byte `position`, whatever was read behind it.
    pub fn seek(&mut self, position: u64) -> Result<(), Failure> {
        self.file.seek(SeekFrom::Start(position)).map_err(|error| self.failed(&error))?;
        self.rest.clear();
        (self.position, self.next) = (position, position);
        Ok(())
    }

    /// An empty batch of its records.
    pub fn batch(&self) -> RawBatch {
        RawBatch::new(self.lane, self.topic.clone(), 0, 0).within(Some(self.record_bytes_max))
    }

    fn failed(&self, error: &std::io::Error) -> Failure {
        Failure::Source(format!("cannot read {} at byte {}: {error}; check the disk", self.path, self.next))
    }
}

/// Bytes of a piece where `bytes_max` are asked for.
pub fn piece_bytes(bytes_max: usize) -> usize {
    bytes_max.clamp(PIECE_BYTES.0, PIECE_BYTES.1)
}
