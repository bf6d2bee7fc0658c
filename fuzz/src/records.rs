//! The entrance of libFuzzer for record sets that were fetched: any bytes, batches whose checksums fit whatever they hold, and
//! such batches compressed.
//!
//! What must hold: nothing panics; what is handed out lies within the offsets that were passed; between values there are spaces
//! alone; and what is outside the set is left alone.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use streamcore::buffer::Buffer;
use streamcore::raw::{PADDING, RawBatch};
use streamcore_kafka::aborted::AbortedTransaction;
use streamcore_kafka::records::{Asked, Course, End, Settings, Walked, Walker};

/// Most bytes of a batch once it is decompressed: libFuzzer is told that a gigabyte is too much.
const BYTES_MAX: usize = 1 << 20;

/// Bytes of a head, and where the checksum begins and ends in it.
const HEAD_BYTES: usize = 61;
const CHECKSUM: std::ops::Range<usize> = 17..21;

/// Bytes of another partition behind the set.
const BEHIND: u8 = 0xfe;

fuzz_target!(|input: &[u8]| {
    let [flags, offset, rest @ ..] = input else { return };
    let set = if flags.is_multiple_of(4) { rest.to_vec() } else { forged(rest) };
    let settings = Settings {
        keys: flags & 4 > 0,
        headers: flags & 8 > 0,
        record_bytes_max: (flags & 16 > 0).then_some(5),
        batch_bytes_max: BYTES_MAX,
        piece_bytes_max: if flags & 64 > 0 { usize::from(*offset) } else { 2 * BYTES_MAX },
    };
    let aborted = [AbortedTransaction { producer_id: i64::from(flags >> 5), first_offset: i64::from(*offset) / 2 }];
    let aborted = (flags & 32 > 0).then_some(&aborted[..]);
    walk(settings, &set, i64::from(*offset), aborted);
});

fn walk(settings: Settings, set: &[u8], offset: i64, aborted: Option<&[AbortedTransaction]>) {
    let mut frame = Buffer::default();
    frame.push_bytes(set);
    frame.push_bytes(&[BEHIND; PADDING]);
    let topic = Arc::from("t");
    let asked = Asked { topic: &topic, partition: 0, offset, aborted };
    let (mut walker, mut course, mut offset) = (Walker::new(settings), Course::new(&asked), offset);
    loop {
        let walked = walker.walk_on(&mut frame, 0..set.len(), &asked, &mut course);
        assert!(frame[set.len()..].iter().all(|byte| *byte == BEHIND), "bytes of others");
        if walked.end != End::Full {
            return check(settings, set.len(), offset, walked, &frame.into());
        }
        assert!(walked.is_unpacked() && walked.next_offset > offset);
        let next_offset = walked.next_offset;
        check(settings, set.len(), offset, walked, &bytes::Bytes::new());
        offset = next_offset;
    }
}

/// A piece, of records from `offset` on.
fn check(settings: Settings, set_bytes: usize, offset: i64, walked: Walked, frame: &bytes::Bytes) {
    if let End::Refused(error) = &walked.end {
        assert!(!error.to_string().is_empty());
    }
    let (next_offset, records) = (walked.next_offset, walked.counts.records);
    assert!(next_offset >= offset);
    let Some(raw) = walked.into_raw(frame).expect("there is padding") else {
        assert_eq!(records, 0);
        return;
    };
    assert_eq!(raw.len() as u64, records);
    let mut last = offset - 1;
    for row in 0..raw.len() {
        let record = raw.record(row);
        assert!(record.offset > last && record.offset < next_offset);
        assert!(record.value.is_none_or(|value| value.len() <= BYTES_MAX.max(set_bytes)));
        last = record.offset;
    }
    if settings.record_bytes_max.is_none() {
        check_gaps(&raw);
    }
}

fn check_gaps(raw: &RawBatch) {
    let places: Vec<_> = raw.places(0..raw.len()).flatten().collect();
    let Some((bytes, start)) = raw.padded_bytes(0..raw.len()) else { return };
    for two in places.windows(2) {
        assert!(bytes[two[0].end - start..two[1].start - start].iter().all(|byte| *byte == b' '));
    }
}

/// Batches of what `input` says, each behind a head that is right; the first byte of each chooses its codec.
fn forged(input: &[u8]) -> Vec<u8> {
    let (mut set, mut base_offset) = (Vec::new(), 0_i64);
    let mut rest = input;
    while let [len, kind, count, last, body @ ..] = rest {
        let (body, behind) = body.split_at(usize::from(*len).min(body.len()));
        let (codec, packed) = packed(kind & 7, body);
        let start = set.len();
        set.extend_from_slice(&base_offset.to_be_bytes());
        set.extend_from_slice(&((packed.len() + HEAD_BYTES - 12) as i32).to_be_bytes());
        set.extend_from_slice(&[0, 0, 0, 1, 2, 0, 0, 0, 0, 0, codec | kind & 0xf8]);
        set.extend_from_slice(&i32::from(*last).to_be_bytes());
        set.extend_from_slice(&[0; 16]);
        set.extend_from_slice(&i64::from(count % 4).to_be_bytes());
        set.extend_from_slice(&[0; 6]);
        set.extend_from_slice(&i32::from(*count).to_be_bytes());
        set.extend_from_slice(&packed);
        let checksum = crc32c::crc32c(&set[start + CHECKSUM.end..]);
        set[start + CHECKSUM.start..start + CHECKSUM.end].copy_from_slice(&checksum.to_be_bytes());
        base_offset += i64::from(*last) + 1;
        rest = behind;
    }
    set
}

/// The number of a codec, and `body` as it is or compressed by it: what is in a frame is reached only through the frame.
fn packed(kind: u8, body: &[u8]) -> (u8, Vec<u8>) {
    match kind {
        // As it is, as a frame of any bytes.
        0..=4 => (kind, body.to_vec()),
        5 => (2, snap::raw::Encoder::new().compress_vec(body).expect("small")),
        6 => (3, lz4(body)),
        _ => (4, zstd::bulk::compress(body, 1).expect("small")),
    }
}

/// A frame of one block, the bytes of which are compressed already, whatever they are.
fn lz4(body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0];
    frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
    frame.extend_from_slice(body);
    frame.extend_from_slice(&[0; 4]);
    frame
}
