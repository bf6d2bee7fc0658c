//! The head of a record batch: 61 bytes that say what is in it.
//!
//! `records.rs` goes from head to head. Invariant: what is read of a [`Head`] fits its batch, and the offsets it spans are numbers.
//! The checksum covers what comes behind it, not the first offset, the length and the leader's epoch, which brokers write anew.

use crate::error::Fault;
use std::ops::Range;

/// Bytes of a head.
pub const HEAD_BYTES: usize = 61;

/// Bytes in front of those that the length counts: the first offset and the length.
const LENGTH_END: usize = 12;

/// Where the number of the message format is, in all of them.
const MAGIC_AT: usize = 16;

/// The message format since Kafka 0.11.
const MAGIC: u8 = 2;

/// Where the bytes begin that the checksum is of.
const CHECKED_FROM: usize = 21;

/// Who writes without being known to the broker.
const NO_PRODUCER: i64 = -1;

/// What a batch says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Offset of the first record that it was written with.
    pub base_offset: i64,
    /// Bytes of the whole batch, head included.
    pub bytes: usize,
    /// The leader's epoch when it was written.
    pub leader_epoch: i32,
    /// The checksum that was written with it.
    pub checksum: u32,
    /// How it is compressed and whose it is.
    attributes: u16,
    /// How far the last offset is behind the first; compaction leaves both.
    pub last_offset_delta: i32,
    /// Time that those of records are relative to, ms.
    pub base_timestamp_ms: i64,
    /// The latest time, or that of the append, ms.
    pub max_timestamp_ms: i64,
    /// Who wrote it, -1 for nobody in particular.
    producer_id: i64,
    /// How many records it has.
    pub count: i32,
}

/// What is at a place of a record set.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A whole batch.
    Whole(Head),
    /// Part of one: a fetch ends where its bytes do. It takes at least so many.
    Cut(usize),
    /// The end.
    End,
}

impl Head {
    /// What is at the beginning of `rest`. A fault comes with the offset at which the batch says that it begins.
    pub fn read(rest: &[u8]) -> Result<Next, (i64, Fault)> {
        if rest.is_empty() {
            return Ok(Next::End);
        }
        let Some(bytes) = rest.first_chunk::<HEAD_BYTES>() else { return Self::read_cut(rest) };
        let base_offset = i64_at(bytes, 0);
        let fault = |fault| (base_offset, fault);
        check_magic(bytes[MAGIC_AT]).map_err(fault)?;
        let whole = whole_bytes(bytes).map_err(fault)?;
        if rest.len() < whole {
            return Ok(Next::Cut(whole));
        }
        let head = Self {
            base_offset,
            bytes: whole,
            leader_epoch: i32_at(bytes, 12),
            checksum: i32_at(bytes, 17).cast_unsigned(),
            attributes: u16::from_be_bytes([bytes[21], bytes[22]]),
            last_offset_delta: i32_at(bytes, 23),
            base_timestamp_ms: i64_at(bytes, 27),
            max_timestamp_ms: i64_at(bytes, 35),
            producer_id: i64_at(bytes, 43),
            count: i32_at(bytes, 57),
        };
        Ok(Next::Whole(head))
    }

    /// The same of what is shorter than a head.
    fn read_cut(rest: &[u8]) -> Result<Next, (i64, Fault)> {
        let Some(length) = rest.first_chunk::<LENGTH_END>() else { return Ok(Next::Cut(HEAD_BYTES)) };
        let fault = |fault| (i64_at(length, 0), fault);
        if let Some(magic) = rest.get(MAGIC_AT) {
            check_magic(*magic).map_err(fault)?;
        }
        Ok(Next::Cut(whole_bytes(length).map_err(fault)?))
    }

    /// Compares the checksum of the batch that begins with `rest`; then its offsets must be numbers as well.
    pub fn check(&self, rest: &[u8]) -> Result<(), Fault> {
        let computed = crc32c::crc32c(&rest[CHECKED_FROM..self.bytes]);
        if computed != self.checksum {
            return Err(Fault::Checksum { written: self.checksum, computed });
        }
        let last_offset = self.base_offset.checked_add(i64::from(self.last_offset_delta));
        // The offset behind the last one is a position.
        if self.base_offset < 0 || self.last_offset_delta < 0 || last_offset.is_none_or(|last| last == i64::MAX) {
            return Err(Fault::Offsets { last_delta: self.last_offset_delta });
        }
        if self.count < 0 {
            return Err(Fault::Count { count: self.count, bytes: self.bytes - HEAD_BYTES });
        }
        Ok(())
    }

    /// The last offset, which compaction leaves though its record is gone.
    pub const fn last_offset(&self) -> i64 {
        self.base_offset + self.last_offset_delta as i64
    }

    /// Where the records are in a set, of which the batch begins at `at`.
    pub const fn body(&self, at: usize) -> Range<usize> {
        at + HEAD_BYTES..at + self.bytes
    }

    /// The number of the codec.
    pub const fn codec(&self) -> u8 {
        (self.attributes & 7) as u8
    }

    /// True where all records have the time of their append, which is the latest.
    pub const fn is_append_time(&self) -> bool {
        self.attributes & 1 << 3 != 0
    }

    /// True for part of a transaction.
    pub const fn is_transactional(&self) -> bool {
        self.attributes & 1 << 4 != 0
    }

    /// True for what the broker wrote for consumers and nobody else, such as the end of a transaction.
    pub const fn is_control(&self) -> bool {
        self.attributes & 1 << 5 != 0
    }

    // Bit 6 says that the base timestamp is also the time until which a tombstone is kept: times are relative to it all the same.

    /// Who wrote it, if the broker knows them.
    pub const fn producer_id(&self) -> Option<i64> {
        if self.producer_id > NO_PRODUCER { Some(self.producer_id) } else { None }
    }
}

/// Whether some batch of the set is compressed, as far as heads follow each other. Nothing else of them is looked at.
pub fn any_packed(set: &[u8]) -> bool {
    let mut at = 0;
    while let Some(Ok(Next::Whole(head))) = set.get(at..).map(Head::read) {
        if head.codec() != 0 && head.count != 0 {
            return true;
        }
        at += head.bytes;
    }
    false
}

fn check_magic(magic: u8) -> Result<(), Fault> {
    match magic {
        MAGIC => Ok(()),
        ..MAGIC => Err(Fault::OldFormat { magic }),
        _ => Err(Fault::NewFormat { magic }),
    }
}

/// Bytes of the whole batch.
fn whole_bytes<const N: usize>(head: &[u8; N]) -> Result<usize, Fault> {
    let bytes = i32_at(head, 8);
    let whole = usize::try_from(bytes).ok().map(|bytes| bytes + LENGTH_END);
    whole.filter(|whole| *whole >= HEAD_BYTES).ok_or(Fault::Length { bytes })
}

fn i32_at<const N: usize>(bytes: &[u8; N], at: usize) -> i32 {
    bytes[at..].first_chunk().map_or(0, |number| i32::from_be_bytes(*number))
}

fn i64_at<const N: usize>(bytes: &[u8; N], at: usize) -> i64 {
    bytes[at..].first_chunk().map_or(0, |number| i64::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(length: i32, magic: u8) -> Vec<u8> {
        let mut bytes = vec![0; HEAD_BYTES];
        bytes[7] = 9;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[16] = magic;
        bytes
    }

    #[test]
    fn a_cut_batch_says_how_many_bytes_it_takes_as_soon_as_that_is_there() {
        let bytes = bytes(100, 2);
        assert_eq!(Head::read(&[]), Ok(Next::End));
        for len in 1..=HEAD_BYTES {
            let least = if len < 12 { HEAD_BYTES } else { 112 };
            assert_eq!(Head::read(&bytes[..len]), Ok(Next::Cut(least)), "{len} bytes");
        }
        let whole = [&bytes[..], &[0; 51]].concat();
        assert!(matches!(Head::read(&whole), Ok(Next::Whole(Head { base_offset: 9, bytes: 112, .. }))));
    }

    #[test]
    fn other_formats_and_lengths_are_refused_though_the_batch_is_cut() {
        for len in [17, 40, HEAD_BYTES] {
            let fault = |bytes: Vec<u8>| Head::read(&bytes[..len]).expect_err("refused");
            assert_eq!(fault(bytes(100, 1)), (9, Fault::OldFormat { magic: 1 }));
            assert_eq!(fault(bytes(100, 3)), (9, Fault::NewFormat { magic: 3 }));
            assert_eq!(fault(bytes(48, 2)), (9, Fault::Length { bytes: 48 }));
            assert_eq!(fault(bytes(-1, 2)), (9, Fault::Length { bytes: -1 }));
            assert_eq!(fault(bytes(20, 0)), (9, Fault::OldFormat { magic: 0 }), "these may be short");
        }
    }
}
