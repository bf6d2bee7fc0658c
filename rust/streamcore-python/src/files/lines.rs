//! Records that each are a line.
//!
//! `Input` gives the bytes, `RawBatch::from_lines` makes the batch. Invariant: of a line over the limit no more
//! than its beginning is held, however long it is.

use super::Piece;
use super::input::{Input, piece_bytes};
use crate::error::Failure;
use streamcore::buffer::Buffer;
use streamcore::raw::lines::whole;
use streamcore::raw::{Fault, PADDING, RawBatch, kept_bytes};

/// Cuts pieces at their last newline.
pub struct Lines {
    /// The line that is being passed over because it is too long.
    long: Option<Long>,
    /// True where the file may be read on when it has grown, so that JSON it ends within is left to then.
    grows: bool,
}

/// A line over the limit, as far as it was read.
struct Long {
    /// Its beginning.
    head: Vec<u8>,
    /// Its bytes so far.
    len: u64,
    /// The last of them: a carriage return before the newline is none of its value's.
    last: u8,
}

impl Long {
    fn new(data: &[u8], record_bytes_max: u64) -> Self {
        let kept = kept_bytes(data.len() as u64, record_bytes_max);
        let mut long = Self { head: data[..kept].to_vec(), len: 0, last: 0 };
        long.add(data);
        long
    }

    fn add(&mut self, data: &[u8]) {
        self.len += data.len() as u64;
        self.last = data.last().copied().unwrap_or(self.last);
    }
}

impl Lines {
    /// For a file that may grow, or not.
    pub fn new(grows: bool) -> Self {
        Self { long: None, grows }
    }

    /// Bytes of a line over the limit whose end has not come.
    pub fn passed_over(&self) -> u64 {
        self.long.as_ref().map_or(0, |long| long.len)
    }

    /// The next whole lines. None at all, but a batch, while a line over the limit goes on.
    pub fn read(&mut self, input: &mut Input, bytes_max: usize) -> Piece {
        let piece = piece_bytes(bytes_max);
        if let Some(long) = self.long.take() {
            return self.pass_over(long, input, piece);
        }
        let mut data = input.buffer(piece);
        let mut searched = 0;
        loop {
            let ended = input.fill(&mut data, piece)?;
            let newline = memchr::memrchr(b'\n', &data[searched..]).map(|at| searched + at + 1);
            let end = if ended { Some(whole(&data, self.grows)) } else { newline };
            if let Some(end) = end {
                input.rest.extend_from_slice(&data[end..]);
                data.truncate(end);
                return take(input, data);
            }
            // One byte more may be the carriage return behind a value of the largest size.
            if data.len() as u64 > input.record_bytes_max.saturating_add(1) {
                self.long = Some(Long::new(&data, input.record_bytes_max));
                return Ok(Some(input.batch()));
            }
            searched = data.len();
        }
    }

    /// Reads a piece on in a line over the limit, which is a record once its end has come.
    fn pass_over(&mut self, mut long: Long, input: &mut Input, piece: usize) -> Piece {
        let mut data = Buffer::with_capacity(piece + PADDING);
        let ended = input.fill(&mut data, piece)?;
        let newline = memchr::memchr(b'\n', &data);
        let end = newline.unwrap_or(data.len());
        long.add(&data[..end]);
        let mut batch = input.batch();
        if newline.is_none() && (!ended || self.grows) {
            self.long = Some(long);
            return Ok((!ended).then_some(batch));
        }
        let len = long.len - u64::from(long.last == b'\r');
        batch.push_fault(&long.head, Fault::TooLong(len), input.position as i64)?;
        batch.seal();
        let behind = newline.map_or(end, |newline| newline + 1);
        input.rest.extend_from_slice(&data[behind..]);
        input.position += long.len + u64::from(newline.is_some());
        Ok(Some(batch))
    }
}

fn take(input: &mut Input, data: Buffer) -> Result<Option<RawBatch>, Failure> {
    if data.is_empty() {
        return Ok(None);
    }
    let length = data.len() as u64;
    let (topic, base) = (input.topic.clone(), input.position as i64);
    let mut batch = RawBatch::from_lines(input.lane, topic, data, base, Some(input.record_bytes_max))?;
    batch.seal();
    input.position += length;
    Ok(Some(batch))
}
