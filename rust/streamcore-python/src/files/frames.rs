//! Records that each stand behind their length.
//!
//! `Input` gives the bytes, `streamcore::raw::frames` cuts them. Invariant: a record over the limit is passed over by
//! seeking, and only where the file goes on behind it; a length that cannot be true ends the reading.

use super::Piece;
use super::input::{Input, piece_bytes};
use crate::error::Failure;
use streamcore::buffer::Buffer;
use streamcore::raw::Fault;
use streamcore::raw::frames::{First, Frames, Length, Prefix};

/// Cuts pieces behind their last whole record.
pub struct FrameCutter {
    prefix: Prefix,
    /// True where the file may be read on when it has grown, so that a record it ends within is left to then.
    grows: bool,
}

impl FrameCutter {
    /// For lengths written as `prefix`.
    pub fn new(prefix: Prefix, grows: bool) -> Self {
        Self { prefix, grows }
    }

    /// The next whole records.
    pub fn read(&self, input: &mut Input, bytes_max: usize) -> Piece {
        let piece = piece_bytes(bytes_max);
        let mut data = input.buffer(piece);
        let mut ended = false;
        loop {
            match self.prefix.first(&data, input.record_bytes_max) {
                First::Ready => return self.take(input, data),
                First::Broken => return Err(broken(input)),
                First::Partial if ended => return self.end(input, &data),
                First::Partial => ended = input.fill(&mut data, piece)?,
            }
        }
    }

    fn take(&self, input: &mut Input, data: Buffer) -> Piece {
        let (place, base) = ((input.lane, input.topic.clone()), input.position as i64);
        let mut frames = Frames::take(self.prefix, place, data, base, input.record_bytes_max)?;
        let behind = (input.position + frames.taken as u64).saturating_add(frames.beyond);
        if frames.beyond > 0 {
            let file_bytes = input.file_bytes()?;
            if behind > file_bytes {
                return Err(too_long(input, frames.first_bytes, file_bytes));
            }
            input.seek(behind)?;
        }
        (input.position, input.rest) = (behind, frames.rest);
        frames.batch.seal();
        Ok(Some(frames.batch))
    }

    /// The file ends within a record, or before one.
    fn end(&self, input: &mut Input, data: &Buffer) -> Piece {
        let (behind_length, whole) = match self.prefix.read(data) {
            Length::Known { prefix, bytes } => (prefix, Some(bytes)),
            Length::Cut | Length::Broken => (0, None),
        };
        if let Some(bytes) = whole.filter(|bytes| *bytes > input.record_bytes_max) {
            return Err(too_long(input, bytes, input.position + data.len() as u64));
        }
        if data.is_empty() || self.grows {
            input.rest.extend_from_slice(data);
            return Ok(None);
        }
        let mut batch = input.batch();
        batch.push_fault(&data[behind_length..], Fault::Incomplete(whole), input.position as i64)?;
        batch.seal();
        input.position += data.len() as u64;
        Ok(Some(batch))
    }
}

fn broken(input: &Input) -> Failure {
    Failure::Source(format!(
        "{}: at byte {} there is no length of a record (a varint of more than 64 bits), so nothing from there on can \
         be told apart; check that the file is written so from its first byte on (`framing`), and restore it",
        input.path, input.position
    ))
}

fn too_long(input: &Input, bytes: u64, file_bytes: u64) -> Failure {
    Failure::Source(format!(
        "{}: the record at byte {} is said to have {bytes} bytes, more than limits.max_record_bytes = {} and more than \
         the {} that are left of the file; nothing from there on can be told apart: check `framing`, restore the file, \
         or, if it is still being written, start again when the record is whole",
        input.path,
        input.position,
        input.record_bytes_max,
        file_bytes.saturating_sub(input.position),
    ))
}
