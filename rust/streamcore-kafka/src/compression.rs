//! Records that were compressed together, as bytes again.
//!
//! `records.rs` has one batch decompressed after the other, into one buffer. Invariant: no batch takes more than it may, and at no
//! time more memory than twice that (and a window of 128 MiB in zstd); what a frame says of its length is believed only within
//! that bound.

mod lz4;
mod snappy;

use crate::error::Fault;
use flate2::bufread::MultiGzDecoder;
use std::fmt;
use std::io::{BufRead, BufReader};
use streamcore::buffer::Buffer;
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

/// Bytes that are decompressed at a time where nobody knows how many there are.
const STEP_BYTES: usize = 64 << 10;

/// How many times as long as its bytes a frame of zstd is believed to be, where it says so.
const RATIO_BELIEVED: usize = 64;

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// They are not.
    None,
    /// In gzip.
    Gzip,
    /// In Snappy, as one block or as what Java calls a stream.
    Snappy,
    /// In LZ4, as a frame.
    Lz4,
    /// In Zstandard.
    Zstd,
}

impl Codec {
    /// The codec of that number.
    pub const fn known(number: u8) -> Result<Self, Fault> {
        match number {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            codec => Err(Fault::Codec { codec }),
        }
    }

    /// Its name, as in Kafka's settings.
    const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// Why bytes cannot be decompressed.
#[derive(Debug)]
enum Refusal {
    /// They are more than they may be.
    TooLarge,
    /// What the codec says.
    Broken(String),
}

impl<E: fmt::Display> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Broken(error.to_string())
    }
}

/// Bytes that are decompressed, behind those that are there already.
struct Output<'a> {
    buffer: &'a mut Buffer,
    /// Where they begin.
    start: usize,
    /// Most of them.
    bytes_max: usize,
}

impl Output<'_> {
    /// How many more there may be.
    fn left(&self) -> usize {
        self.bytes_max - (self.buffer.len() - self.start)
    }

    /// Appends bytes that were not compressed.
    fn push(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if bytes.len() > self.left() {
            return Err(Refusal::TooLarge);
        }
        self.buffer.push_bytes(bytes);
        Ok(())
    }

    /// Has `fill` write up to `len` bytes; it is told those from before, and says how many it wrote.
    fn fill(
        &mut self,
        len: usize,
        fill: impl FnOnce(&[u8], &mut [u8]) -> Result<usize, Refusal>,
    ) -> Result<(), Refusal> {
        let (before, room) = self.buffer.room(len);
        let written = fill(&before[self.start..], room)?;
        self.buffer.advance(written.min(len));
        Ok(())
    }
}

/// What decompresses, with memory that is kept from batch to batch.
#[derive(Default)]
pub struct Unpacker {
    zstd: Option<Decoder<'static>>,
    snappy: snap::raw::Decoder,
}

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacker").field("zstd", &self.zstd.is_some()).finish_non_exhaustive()
    }
}

impl Unpacker {
    /// Appends what `packed` holds to `buffer`, at most `bytes_max` bytes; where that fails nothing is appended.
    pub fn unpack(&mut self, codec: Codec, packed: &[u8], buffer: &mut Buffer, bytes_max: usize) -> Result<(), Fault> {
        let start = buffer.len();
        let mut output = Output { buffer, start, bytes_max };
        let outcome = match codec {
            Codec::None => output.push(packed),
            Codec::Gzip => pump(BufReader::with_capacity(STEP_BYTES, MultiGzDecoder::new(packed)), &mut output),
            Codec::Snappy => snappy::unpack(&mut self.snappy, packed, &mut output),
            Codec::Lz4 => lz4::unpack(packed, &mut output),
            Codec::Zstd => self.unpack_zstd(packed, &mut output),
        };
        outcome.map_err(|refusal| {
            buffer.truncate(start);
            match refusal {
                Refusal::TooLarge => Fault::TooLarge { bytes_max },
                Refusal::Broken(reason) => Fault::Packed { codec: codec.name(), reason },
            }
        })
    }

    /// One frame or more.
    fn unpack_zstd(&mut self, packed: &[u8], output: &mut Output<'_>) -> Result<(), Refusal> {
        let decoder = match &mut self.zstd {
            Some(decoder) => {
                decoder.reinit()?;
                decoder
            }
            none => none.insert(Decoder::new()?),
        };
        // A frame says how long it is where its producer had all of it at once; with room for that it is decompressed in one go.
        let mut told = 0;
        if let Ok(Some(bytes)) = zstd::zstd_safe::get_frame_content_size(packed) {
            let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= output.left()).ok_or(Refusal::TooLarge)?;
            told = bytes.min(packed.len().saturating_mul(RATIO_BELIEVED));
        }
        let mut input = InBuffer::around(packed);
        let mut wanted = 1;
        while input.pos < packed.len() || wanted > 0 {
            let spare = output.buffer.capacity() - output.buffer.len();
            let step = output.buffer.written().max(told).max(spare.min(STEP_BYTES));
            let (read, step) = (input.pos, if step == 0 { STEP_BYTES } else { step });
            let mut room = OutBuffer::around(output.buffer.room(step).1);
            wanted = decoder.run(&mut input, &mut room)?;
            let written = room.pos();
            if written > output.left() {
                return Err(Refusal::TooLarge);
            }
            output.buffer.advance(written);
            told = told.saturating_sub(written);
            // There was room, so it waits for bytes that are not there.
            if (input.pos, written) == (read, 0) {
                return Err(Refusal::Broken("it ends within a frame".into()));
            }
        }
        Ok(())
    }
}

/// Appends all that `reader` gives.
fn pump(mut reader: impl BufRead, output: &mut Output<'_>) -> Result<(), Refusal> {
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return Ok(());
        }
        let len = bytes.len();
        output.push(bytes)?;
        reader.consume(len);
    }
}

#[cfg(test)]
mod tests;
