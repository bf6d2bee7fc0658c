//! Snappy as Kafka's clients write it: one block, or, from Java, blocks behind their lengths.
//!
//! Part of `compression.rs`. Invariant: no room is made for more bytes than so many compressed ones can hold.

use super::{Output, Refusal};
use snap::raw::{Decoder, decompress_len};

/// What a stream of snappy-java begins with; a version and what it can be read by follow.
const STREAM_MAGIC: &[u8] = b"\x82SNAPPY\0";

/// Bytes in front of the blocks of a stream.
const STREAM_HEAD_BYTES: usize = 16;

/// Most bytes that one compressed byte stands for, rounded up: a copy of 64 bytes takes three.
const RATIO_MAX: usize = 22;

pub(super) fn unpack(decoder: &mut Decoder, packed: &[u8], output: &mut Output<'_>) -> Result<(), Refusal> {
    if !packed.starts_with(STREAM_MAGIC) {
        return unpack_block(decoder, packed, output);
    }
    let mut rest = packed.get(STREAM_HEAD_BYTES..).ok_or_else(cut)?;
    while !rest.is_empty() {
        let (len, behind) = rest.split_first_chunk().ok_or_else(cut)?;
        let len = usize::try_from(i32::from_be_bytes(*len)).ok().ok_or_else(cut)?;
        let (block, behind) = behind.split_at_checked(len).ok_or_else(cut)?;
        unpack_block(decoder, block, output)?;
        rest = behind;
    }
    Ok(())
}

fn unpack_block(decoder: &mut Decoder, block: &[u8], output: &mut Output<'_>) -> Result<(), Refusal> {
    let len = decompress_len(block)?;
    if len > block.len().saturating_mul(RATIO_MAX) {
        return Err(Refusal::Broken("it says that it is longer than it can be".into()));
    }
    if len > output.left() {
        return Err(Refusal::TooLarge);
    }
    output.fill(len, |_, room| Ok(decoder.decompress(block, room)?))
}

fn cut() -> Refusal {
    Refusal::Broken("it ends within a block".into())
}
