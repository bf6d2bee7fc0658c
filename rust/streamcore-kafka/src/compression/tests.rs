//! What compressors wrote comes back behind what was there; what grows too large, is cut or lies takes no memory.

use super::*;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use proptest::prelude::*;
use std::io::Write as _;

/// Frames and streams of `bytes` in all the ways that are written.
fn all_packed(bytes: &[u8]) -> Vec<(Codec, Vec<u8>)> {
    let snappy = |bytes: &[u8]| snap::raw::Encoder::new().compress_vec(bytes).expect("small");
    let mut stream = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    for block in bytes.chunks(32 << 10) {
        let packed = snappy(block);
        stream.extend_from_slice(&(packed.len() as i32).to_be_bytes());
        stream.extend_from_slice(&packed);
    }
    let gzip = |bytes: &[u8]| {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(bytes).expect("a Vec takes every write");
        writer.finish().expect("a Vec takes every write")
    };
    let (first, second) = bytes.split_at(bytes.len() / 3);
    let mut packed = vec![
        (Codec::None, bytes.to_vec()),
        (Codec::Gzip, gzip(bytes)),
        (Codec::Gzip, [gzip(first), gzip(second)].concat()),
        (Codec::Snappy, snappy(bytes)),
        (Codec::Snappy, stream),
        (Codec::Zstd, zstd::bulk::compress(bytes, 1).expect("small")),
        (Codec::Zstd, zstd::stream::encode_all(bytes, 1).expect("small")),
        (Codec::Zstd, [first, second].map(|part| zstd::bulk::compress(part, 1).expect("small")).concat()),
    ];
    for (size, mode) in [
        (BlockSize::Max64KB, BlockMode::Independent),
        (BlockSize::Max64KB, BlockMode::Linked),
        (BlockSize::Max4MB, BlockMode::Linked),
    ] {
        let info = FrameInfo::new().block_size(size).block_mode(mode).content_checksum(mode == BlockMode::Linked);
        let info = info.block_checksums(size == BlockSize::Max4MB).content_size(Some(bytes.len() as u64));
        let mut writer = FrameEncoder::with_frame_info(info, Vec::new());
        writer.write_all(bytes).expect("a Vec takes every write");
        packed.push((Codec::Lz4, writer.finish().expect("a Vec takes every write")));
    }
    packed
}

/// Bytes that compress here and there, more than a window of LZ4.
fn bytes(len: usize) -> Vec<u8> {
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 24
    };
    (0..len).map(|at| if at / 5_000 % 2 == 0 { next() as u8 } else { b'a' + (at % 7) as u8 }).collect()
}

#[test]
fn what_was_compressed_comes_back_behind_what_was_there() {
    let mut unpacker = Unpacker::default();
    for len in [1, 100, 70_000, 300_000] {
        let bytes = bytes(len);
        for (codec, packed) in all_packed(&bytes) {
            let mut buffer = Buffer::from(b"before".to_vec());
            unpacker.unpack(codec, &packed, &mut buffer, len).expect("whole");
            assert!(buffer.starts_with(b"before") && buffer[6..] == bytes, "{codec:?}, {len} bytes");
            let fault = unpacker.unpack(codec, &packed, &mut buffer, len - 1);
            assert_eq!(fault, Err(Fault::TooLarge { bytes_max: len - 1 }), "{codec:?}, {len} bytes");
            assert_eq!(buffer.len(), 6 + len, "nothing is left of it");
        }
    }
}

#[test]
fn what_is_cut_is_refused_or_ends_where_a_part_does() {
    let bytes = bytes(2_000);
    let mut unpacker = Unpacker::default();
    for (codec, packed) in all_packed(&bytes).into_iter().filter(|(codec, _)| *codec != Codec::None) {
        for len in 0..packed.len() {
            let mut buffer = Buffer::default();
            if unpacker.unpack(codec, &packed[..len], &mut buffer, 1 << 20).is_ok() {
                assert!(bytes.starts_with(&buffer), "{codec:?} cut to {len} of {}", packed.len());
                // A member, a block or a frame was whole; or only checksums are gone, which are passed over.
                let at_end = packed.len() - len <= 4;
                assert!(buffer.len() < bytes.len() || codec == Codec::Lz4 && at_end, "{codec:?} cut to {len}");
            } else {
                assert!(buffer.is_empty());
            }
        }
    }
}

#[test]
fn what_grows_beyond_its_limit_takes_little_memory() {
    let zeros = vec![0; 64 << 20];
    let mut unpacker = Unpacker::default();
    for (codec, packed) in all_packed(&zeros).into_iter().filter(|(codec, _)| *codec != Codec::None) {
        let (mut buffer, bytes_max) = (Buffer::default(), 1_000_003);
        assert_eq!(unpacker.unpack(codec, &packed, &mut buffer, bytes_max), Err(Fault::TooLarge { bytes_max }));
        assert!(buffer.capacity() <= 64 * bytes_max, "{codec:?} took {} bytes", buffer.capacity());
    }
}

#[test]
fn lengths_that_lie_are_refused_before_room_is_made() {
    let mut unpacker = Unpacker::default();
    let mut buffer = Buffer::default();
    // Two gigabytes in five bytes.
    let lies = unpacker.unpack(Codec::Snappy, &[0xff, 0xff, 0xff, 0xff, 0x07, 0], &mut buffer, usize::MAX);
    assert!(matches!(lies, Err(Fault::Packed { codec: "snappy", .. })), "{lies:?}");
    let mut stream = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    stream.extend_from_slice(&[0xff; 4]);
    assert!(matches!(unpacker.unpack(Codec::Snappy, &stream, &mut buffer, 100), Err(Fault::Packed { .. })));
    // A frame of zstd that says it has a terabyte.
    let terabyte = [0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    let lies = unpacker.unpack(Codec::Zstd, &terabyte, &mut buffer, 1 << 30);
    assert_eq!(lies, Err(Fault::TooLarge { bytes_max: 1 << 30 }));
    assert_eq!(buffer.capacity(), 0);
}

#[test]
fn heads_of_frames_that_nobody_reads_are_refused() {
    let head = |change: fn(&mut [u8])| {
        let mut frame = vec![0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0, 0, 0, 0, 0];
        change(&mut frame);
        match Unpacker::default().unpack(Codec::Lz4, &frame, &mut Buffer::default(), 100) {
            Err(Fault::Packed { reason, .. }) => reason,
            other => format!("{other:?}"),
        }
    };
    assert_eq!(head(|_| ()), "Ok(())");
    assert_eq!(head(|frame| frame[0] = 5), "it is no frame");
    assert_eq!(head(|frame| frame[4] = 0xa0), "it is a frame of another version");
    assert_eq!(head(|frame| frame[4] = 0x61), "it needs a dictionary");
    assert_eq!(head(|frame| frame[5] = 0x30), "it has blocks of no known size");
    assert_eq!(head(|frame| frame[7..].copy_from_slice(&[1, 0, 1, 0x80])), "it ends within a frame");
}

proptest! {
    #[test]
    fn no_bytes_whatever_make_it_panic(packed in proptest::collection::vec(any::<u8>(), 0..80), real in any::<bool>()) {
        let mut unpacker = Unpacker::default();
        let all = if real { all_packed(&packed) } else { Vec::new() };
        let random = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd].map(|codec| (codec, packed.clone()));
        for (codec, mut bytes) in all.into_iter().chain(random) {
            if let (true, Some(at)) = (real, packed.first()) {
                let at = usize::from(*at) % bytes.len();
                bytes[at] ^= 1 << (packed.len() % 8);
            }
            let mut buffer = Buffer::from(b"before".to_vec());
            let outcome = unpacker.unpack(codec, &bytes, &mut buffer, 50);
            prop_assert!(buffer.starts_with(b"before") && buffer.len() <= 56);
            prop_assert!(outcome.is_ok() || buffer.len() == 6);
        }
    }
}
