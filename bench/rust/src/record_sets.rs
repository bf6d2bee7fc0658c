//! Events of the reference job as a broker's answer to a fetch has them: record batches of one partition.
//!
//! Who counts independently reads [`RecordSet::values`], which were never in a batch. Invariant: batches have what Java's producer
//! writes at a linger of some milliseconds, records keyed by user and no headers.

use crate::clicks::{Clicks, START_MS};

/// Records of a batch: 256 KB or so, of which LZ4 makes 64.
const BATCH_RECORDS: usize = 1_000;

/// Bytes of a batch in front of its records.
const HEAD_BYTES: usize = 61;

/// How the batches are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// They are not.
    None,
    /// In a frame of blocks of 64 KB.
    Lz4,
    /// At level 3, as producers do.
    Zstd,
}

/// The records of one partition.
#[derive(Debug)]
pub struct RecordSet {
    /// As fetched.
    pub bytes: Vec<u8>,
    /// How many there are.
    pub records: usize,
    /// Their values, one after the other.
    pub values: Vec<u8>,
}

impl RecordSet {
    /// The first `records` events, from offset 0 on.
    ///
    /// # Panics
    ///
    /// When a compressor fails to write to memory.
    #[must_use]
    pub fn of(records: usize, codec: Codec) -> Self {
        let clicks = Clicks { events: records as u64, keys: 100_000, per_second: 1_000, copies: false };
        let mut set = Self { bytes: Vec::new(), records, values: Vec::new() };
        let (mut body, mut count, mut base) = (Vec::new(), 0, 0);
        for piece in clicks.pieces() {
            for row in 0..piece.len() {
                let (key, value) = (piece.key(row).unwrap_or_default(), piece.value(row).unwrap_or_default());
                set.values.extend_from_slice(value);
                write_record(&mut body, count as i64, key, value);
                count += 1;
                if count == BATCH_RECORDS || base + count == records {
                    write_batch(&mut set.bytes, base as i64, count as i32, &packed(&body, codec), codec);
                    base += count;
                    (count, body) = (0, Vec::new());
                }
            }
        }
        set
    }
}

fn packed(body: &[u8], codec: Codec) -> Vec<u8> {
    match codec {
        Codec::None => body.to_vec(),
        Codec::Lz4 => {
            use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
            let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
            let mut writer = FrameEncoder::with_frame_info(info, Vec::new());
            std::io::Write::write_all(&mut writer, body).expect("a Vec takes every write");
            writer.finish().expect("a Vec takes every write")
        }
        Codec::Zstd => zstd::bulk::compress(body, 3).expect("a Vec takes every write"),
    }
}

fn write_batch(out: &mut Vec<u8>, base_offset: i64, count: i32, packed: &[u8], codec: Codec) {
    let start = out.len();
    let attributes: u16 = match codec {
        Codec::None => 0,
        Codec::Lz4 => 3,
        Codec::Zstd => 4,
    };
    out.extend_from_slice(&base_offset.to_be_bytes());
    out.extend_from_slice(&((HEAD_BYTES - 12 + packed.len()) as i32).to_be_bytes());
    // The leader's epoch, the format, and the checksum that is still to come.
    out.extend_from_slice(&[0, 0, 0, 0, 2, 0, 0, 0, 0]);
    out.extend_from_slice(&attributes.to_be_bytes());
    out.extend_from_slice(&(count - 1).to_be_bytes());
    out.extend_from_slice(&(START_MS + base_offset).to_be_bytes());
    out.extend_from_slice(&(START_MS + base_offset + i64::from(count) - 1).to_be_bytes());
    // No producer that is known, no epoch of one, no sequence.
    out.extend_from_slice(&[0xff; 14]);
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(packed);
    let checksum = crc32c::crc32c(&out[start + 21..]);
    out[start + 17..start + 21].copy_from_slice(&checksum.to_be_bytes());
}

/// A record a millisecond behind the one before.
fn write_record(out: &mut Vec<u8>, number: i64, key: &[u8], value: &[u8]) {
    let mut record = vec![0];
    write_varint(&mut record, number);
    write_varint(&mut record, number);
    for part in [key, value] {
        write_varint(&mut record, part.len() as i64);
        record.extend_from_slice(part);
    }
    write_varint(&mut record, 0);
    write_varint(out, record.len() as i64);
    out.extend_from_slice(&record);
}

fn write_varint(out: &mut Vec<u8>, number: i64) {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
