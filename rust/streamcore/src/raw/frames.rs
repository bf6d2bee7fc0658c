//! Records that each stand behind their length.
//!
//! The files source reads with it, as `RawBatch::from_lines` reads lines. Nothing marks where a record begins, so
//! a length that is wrong makes everything behind it unreadable: it is told apart from one that is only cut.
//! Invariant: nothing is allocated or waited for because a length says so, unless the limit allows it.

use super::data::Data;
use super::{Fault, RawBatch, check_len, kept_bytes};
use crate::buffer::Buffer;
use crate::error::Result;
use std::sync::Arc;

/// Most bytes of a varint that holds 64 bits.
const VARINT_BYTES_MAX: usize = 10;

/// In the place of a length in data that is decoded, as in that of what separates lines.
const BLANK: u8 = b' ';

/// How the length before a record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    /// Seven bits a byte, the lowest first, as in `writeDelimitedTo` of Protobuf.
    Varint,
    /// Four bytes, the highest first.
    U32Be,
}

/// The length before a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// It is written in `prefix` bytes and says that the record has `bytes`.
    Known {
        /// Bytes of the length itself.
        prefix: usize,
        /// Bytes of the record behind it.
        bytes: u64,
    },
    /// Part of it is still to come.
    Cut,
    /// It is none: what comes behind cannot be read.
    Broken,
}

impl Prefix {
    /// The length at the beginning of `data`.
    #[must_use]
    #[inline]
    pub fn read(self, data: &[u8]) -> Length {
        match self {
            Self::U32Be => data.first_chunk().map_or(Length::Cut, |bytes| Length::Known {
                prefix: bytes.len(),
                bytes: u64::from(u32::from_be_bytes(*bytes)),
            }),
            Self::Varint => read_varint(data),
        }
    }

    /// What the data holds at its beginning; `record_bytes_max` bounds a record.
    #[must_use]
    pub fn first(self, data: &[u8], record_bytes_max: u64) -> First {
        match self.read(data) {
            Length::Cut => First::Partial,
            Length::Broken => First::Broken,
            Length::Known { prefix, bytes } => {
                let wanted = kept_bytes(bytes, record_bytes_max);
                if data.len() - prefix >= wanted { First::Ready } else { First::Partial }
            }
        }
    }
}

#[inline]
fn read_varint(data: &[u8]) -> Length {
    let mut bytes = 0_u64;
    for (place, byte) in data.iter().take(VARINT_BYTES_MAX).enumerate() {
        // Of the tenth byte only one bit is left.
        if place == VARINT_BYTES_MAX - 1 && *byte > 1 {
            return Length::Broken;
        }
        bytes |= u64::from(byte & 0x7f) << (7 * place);
        if *byte < 0x80 {
            return Length::Known { prefix: place + 1, bytes };
        }
    }
    Length::Cut
}

/// What the data holds at its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// A whole record, or what is kept of one over the limit.
    Ready,
    /// Part of one.
    Partial,
    /// No record.
    Broken,
}

/// What became of a piece of a file.
#[derive(Debug)]
pub struct Frames {
    /// The records that begin the piece.
    pub batch: RawBatch,
    /// Bytes they take, lengths included.
    pub taken: usize,
    /// Bytes of the first record, as its length says.
    pub first_bytes: u64,
    /// How many of them lie behind the piece, where the only record is one over the limit; otherwise none.
    pub beyond: u64,
    /// The bytes behind `taken`.
    pub rest: Vec<u8>,
}

impl Frames {
    /// The whole records of `data`, those over `record_bytes_max` cut to their beginning; the offset of a record
    /// is `base` plus the place of its length. One over the limit that `data` does not hold whole is taken if it
    /// is the first.
    pub fn take(
        prefix: Prefix,
        (lane, topic): (i32, Arc<str>),
        mut data: Buffer,
        base: i64,
        record_bytes_max: u64,
    ) -> Result<Self> {
        check_len(data.len())?;
        let mut batch = RawBatch::new(lane, topic, data.len() / 128 + 1, 0).within(Some(record_bytes_max));
        let (mut taken, mut first_bytes, mut beyond) = (0, 0, 0);
        while let Length::Known { prefix, bytes } = prefix.read(&data[taken..]) {
            let start = taken + prefix;
            let here = (data.len() - start) as u64;
            if batch.is_empty() {
                first_bytes = bytes;
            }
            if bytes <= here {
                batch.place_value(start, bytes as usize, base + taken as i64);
            } else if bytes > record_bytes_max && batch.is_empty() {
                let kept = kept_bytes(bytes, record_bytes_max).min(here as usize);
                batch.place_fault(start, kept, Fault::TooLong(bytes), base + taken as i64);
                beyond = bytes - here;
            } else {
                break;
            }
            // Lengths are no text: the block of records they stand in would not be.
            data[taken..start].fill(BLANK);
            taken = start + bytes.min(here) as usize;
        }
        let rest = data.split_off(taken);
        batch.data = Data::Own(data);
        Ok(Self { batch, taken, first_bytes, beyond, rest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Prefix {
        fn write(self, len: usize, out: &mut Vec<u8>) {
            match self {
                Self::U32Be => out.extend_from_slice(&(len as u32).to_be_bytes()),
                Self::Varint => {
                    let mut rest = len;
                    while rest >= 0x80 {
                        out.push(rest as u8 | 0x80);
                        rest >>= 7;
                    }
                    out.push(rest as u8);
                }
            }
        }
    }

    fn take(prefix: Prefix, data: &[u8], limit: u64) -> Frames {
        Frames::take(prefix, (0, "f".into()), data.to_vec().into(), 100, limit).expect("small")
    }

    #[test]
    fn lengths_are_read_or_cut_or_broken() {
        let known = |prefix, bytes| Length::Known { prefix, bytes };
        for (prefix, data, expected) in [
            (Prefix::U32Be, &[][..], Length::Cut),
            (Prefix::U32Be, &[0, 0, 1], Length::Cut),
            (Prefix::U32Be, &[0, 0, 1, 2, 9], known(4, 258)),
            (Prefix::U32Be, &[255; 4], known(4, u64::from(u32::MAX))),
            (Prefix::Varint, &[], Length::Cut),
            (Prefix::Varint, &[0], known(1, 0)),
            (Prefix::Varint, &[0x7f], known(1, 127)),
            (Prefix::Varint, &[0x80], Length::Cut),
            (Prefix::Varint, &[0x80, 0x01], known(2, 128)),
            (Prefix::Varint, &[0x81, 0x80, 0x00], known(3, 1)),
            (Prefix::Varint, &[0xff; 9], Length::Cut),
            (Prefix::Varint, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], known(10, u64::MAX)),
            (Prefix::Varint, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], Length::Broken),
            (Prefix::Varint, &[0xff; 10], Length::Broken),
        ] {
            assert_eq!(prefix.read(data), expected, "{prefix:?} {data:?}");
        }
    }

    #[test]
    fn a_record_over_the_limit_is_cut_and_its_neighbours_are_whole() {
        let frames = take(Prefix::Varint, b"\x02{}\x05xxxxx\x00\x01y\x02z", 3);
        let batch = &frames.batch;
        assert_eq!(
            (0..batch.len()).map(|row| (batch.offset(row), batch.value(row), batch.fault(row))).collect::<Vec<_>>(),
            [
                (100, Some(&b"{}"[..]), None),
                (103, Some(&b"xxx"[..]), Some(Fault::TooLong(5))),
                (109, Some(&b""[..]), None),
                (110, Some(&b"y"[..]), None),
            ]
        );
        assert_eq!((frames.taken, frames.beyond, &frames.rest[..]), (12, 0, &b"\x02z"[..]));
    }

    #[test]
    fn one_over_the_limit_that_goes_on_behind_the_piece_comes_alone() {
        let data = b"\x00\x00\x00\x01y\xff\xff\xff\xff0123";
        let frames = take(Prefix::U32Be, data, 3);
        assert_eq!((frames.batch.len(), frames.taken, frames.beyond), (1, 5, 0));
        let frames = take(Prefix::U32Be, &frames.rest, 3);
        assert_eq!((frames.batch.len(), frames.batch.value(0)), (1, Some(&b"012"[..])));
        assert_eq!((frames.taken, frames.beyond), (8, u64::from(u32::MAX) - 4));
        assert_eq!(Prefix::U32Be.first(&data[5..11], 3), First::Partial, "its beginning is not all here");
        assert_eq!(Prefix::U32Be.first(&data[5..12], 3), First::Ready);
    }

    proptest! {
        #[test]
        fn records_are_what_was_written_wherever_the_data_is_cut(
            records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..20),
            prefix in prop::sample::select(vec![Prefix::Varint, Prefix::U32Be]),
            limit in 1_u64..400,
            cut in any::<prop::sample::Index>(),
        ) {
            let (mut data, mut offsets) = (Vec::new(), Vec::new());
            for record in &records {
                offsets.push(100 + data.len() as i64);
                prefix.write(record.len(), &mut data);
                data.extend_from_slice(record);
            }
            let first = take(prefix, &data[..cut.index(data.len() + 1)], limit);
            let behind = first.taken + first.beyond as usize;
            let second = take(prefix, &data[behind..], limit);
            prop_assert_eq!((second.beyond, second.rest.len()), (0, 0));
            let mut row = 0;
            for (batch, base) in [(&first.batch, 0), (&second.batch, behind as i64)] {
                for own in 0..batch.len() {
                    let record = &records[row];
                    let kept = kept_bytes(record.len() as u64, limit);
                    let value = batch.value(own).expect("no null");
                    prop_assert_eq!(base + batch.offset(own), offsets[row]);
                    prop_assert!(record.starts_with(value));
                    prop_assert_eq!(
                        batch.fault(own),
                        (kept < record.len()).then_some(Fault::TooLong(record.len() as u64))
                    );
                    prop_assert!(value.len() == kept || kept < record.len() && batch.len() == 1);
                    row += 1;
                }
            }
            prop_assert_eq!(row, records.len());
        }

        #[test]
        fn no_bytes_whatever_make_it_panic(data in proptest::collection::vec(any::<u8>(), 0..64), limit in 1_u64..40) {
            for prefix in [Prefix::Varint, Prefix::U32Be] {
                let frames = take(prefix, &data, limit);
                prop_assert_eq!(frames.taken + frames.rest.len(), data.len());
                prop_assert_eq!(frames.batch.is_empty(), frames.taken == 0);
            }
        }
    }
}
