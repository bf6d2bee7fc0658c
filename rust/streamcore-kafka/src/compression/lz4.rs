//! The frame around blocks of LZ4.
//!
//! Part of `compression.rs`. The blocks are decompressed right where their bytes belong. The crate's own reader of frames is as fast,
//! but makes room for whatever a head says, and takes a frame that is cut between two blocks for a whole one. Checksums are passed
//! over, as that of the batch, which was right, is over the same bytes. Invariant: no more is taken of a block than the frame
//! says a block has at most, and no more room is made than so many bytes can need.

use super::{Output, Refusal};
use lz4_flex::block::{DecompressError, decompress_into, decompress_into_with_dict};

const MAGIC: u32 = 0x184D_2204;

/// The one version of the format, in the upper bits of the first byte of flags.
const VERSION: u8 = 1;

/// How far back a block reaches into those before it.
const WINDOW_BYTES: usize = 64 << 10;

/// Most bytes that one compressed byte stands for: 255 more of a match.
const RATIO_MAX: usize = 255;

/// In the length of a block: it is not compressed.
const PLAIN: u32 = 1 << 31;

/// Bytes of a checksum.
const CHECKSUM_BYTES: usize = 4;

/// What the head of a frame says.
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    /// Blocks may reach into those before them.
    linked: bool,
    /// A checksum is behind each block.
    checked: bool,
    /// Most bytes of a block.
    block_bytes_max: usize,
}

pub(super) fn unpack(packed: &[u8], output: &mut Output<'_>) -> Result<(), Refusal> {
    let mut rest = packed;
    let frame = read_head(&mut rest)?;
    loop {
        let len = u32::from_le_bytes(*take_chunk(&mut rest)?);
        if len == 0 {
            // What may follow is the checksum of the frame.
            return Ok(());
        }
        let block = take(&mut rest, (len & !PLAIN) as usize)?;
        if block.len() > frame.block_bytes_max {
            return Err(Refusal::Broken("a block is longer than its frame allows".into()));
        }
        if len & PLAIN == 0 {
            unpack_block(&frame, block, output)?;
        } else {
            output.push(block)?;
        }
        if frame.checked {
            take(&mut rest, CHECKSUM_BYTES)?;
        }
    }
}

fn unpack_block(frame: &Frame, block: &[u8], output: &mut Output<'_>) -> Result<(), Refusal> {
    let left = output.left();
    let bytes_max = frame.block_bytes_max.min(block.len().saturating_mul(RATIO_MAX));
    output.fill(bytes_max.min(left), |before, room| {
        let written = if frame.linked {
            let window = &before[before.len().saturating_sub(WINDOW_BYTES)..];
            decompress_into_with_dict(block, room, window)
        } else {
            decompress_into(block, room)
        };
        written.map_err(|error| match error {
            DecompressError::OutputTooSmall { .. } if left < bytes_max => Refusal::TooLarge,
            _ => error.into(),
        })
    })
}

/// Takes the head of a frame from what is left.
fn read_head(rest: &mut &[u8]) -> Result<Frame, Refusal> {
    if u32::from_le_bytes(*take_chunk(rest)?) != MAGIC {
        return Err(Refusal::Broken("it is no frame".into()));
    }
    let [flags, sizes] = *take_chunk(rest)?;
    if flags >> 6 != VERSION {
        return Err(Refusal::Broken("it is a frame of another version".into()));
    }
    let flag = |bit: u8| flags & 1 << bit != 0;
    let block_bytes_max = match sizes >> 4 & 7 {
        size @ 4..=7 => 1 << (8 + 2 * size),
        _ => return Err(Refusal::Broken("it has blocks of no known size".into())),
    };
    if flag(0) {
        return Err(Refusal::Broken("it needs a dictionary".into()));
    }
    // The length of the whole, where it is there, and a byte of the head's checksum.
    take(rest, if flag(3) { 8 } else { 0 } + 1)?;
    Ok(Frame { linked: !flag(5), checked: flag(4), block_bytes_max })
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], Refusal> {
    rest.split_off(..len).ok_or_else(cut)
}

fn take_chunk<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], Refusal> {
    let (chunk, behind) = rest.split_first_chunk().ok_or_else(cut)?;
    *rest = behind;
    Ok(chunk)
}

fn cut() -> Refusal {
    Refusal::Broken("it ends within a frame".into())
}
