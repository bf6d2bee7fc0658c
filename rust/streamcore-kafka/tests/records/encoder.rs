//! A writer of record batches that shares nothing with the walk: every field can be set, also to what no producer writes.

use std::io::Write as _;

/// How a batch is compressed, and by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    None,
    Gzip,
    /// One block, as librdkafka writes it.
    Snappy,
    /// A stream of blocks of so many bytes, as snappy-java writes it.
    SnappyStream(usize),
    /// Blocks that do not know each other, as Java writes them.
    Lz4,
    /// Blocks that reach into those before them, with all the checksums there are.
    Lz4Linked,
    /// The length is in the frame.
    Zstd,
    /// It is not, as in a stream.
    ZstdStream,
}

/// All of them.
pub const CODECS: [Codec; 8] = [
    Codec::None,
    Codec::Gzip,
    Codec::Snappy,
    Codec::SnappyStream(100),
    Codec::Lz4,
    Codec::Lz4Linked,
    Codec::Zstd,
    Codec::ZstdStream,
];

impl Codec {
    fn number(self) -> u16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy | Self::SnappyStream(_) => 2,
            Self::Lz4 | Self::Lz4Linked => 3,
            Self::Zstd | Self::ZstdStream => 4,
        }
    }

    pub fn pack(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::None => bytes.to_vec(),
            Self::Gzip => {
                let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                writer.write_all(bytes).expect("a Vec takes every write");
                writer.finish().expect("a Vec takes every write")
            }
            Self::Snappy => snap::raw::Encoder::new().compress_vec(bytes).expect("small"),
            Self::SnappyStream(block) => {
                let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
                for block in bytes.chunks(block) {
                    let packed = snap::raw::Encoder::new().compress_vec(block).expect("small");
                    out.extend_from_slice(&(packed.len() as i32).to_be_bytes());
                    out.extend_from_slice(&packed);
                }
                out
            }
            Self::Lz4 | Self::Lz4Linked => lz4(bytes, self == Self::Lz4Linked),
            Self::Zstd => zstd::bulk::compress(bytes, 1).expect("a Vec takes every write"),
            Self::ZstdStream => zstd::stream::encode_all(bytes, 1).expect("a Vec takes every write"),
        }
    }
}

fn lz4(bytes: &[u8], linked: bool) -> Vec<u8> {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let info = FrameInfo::new().block_size(BlockSize::Max64KB);
    let info = if linked {
        let info = info.block_mode(BlockMode::Linked).block_checksums(true).content_checksum(true);
        info.content_size(Some(bytes.len() as u64))
    } else {
        info.block_mode(BlockMode::Independent)
    };
    let mut writer = FrameEncoder::with_frame_info(info, Vec::new());
    writer.write_all(bytes).expect("a Vec takes every write");
    writer.finish().expect("a Vec takes every write")
}

/// A header: name and value.
pub type Header = (String, Option<Vec<u8>>);

/// A record as it is written and as it should come back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row {
    pub offset: i64,
    pub time_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<Header>,
}

/// A batch to be written.
#[derive(Debug, Clone)]
pub struct Batch {
    pub base_offset: i64,
    /// Behind its records where compaction took the last ones.
    pub last_offset: i64,
    pub leader_epoch: i32,
    pub magic: u8,
    pub codec: Codec,
    /// Bits of the attributes beside the codec.
    pub flags: u16,
    pub base_time_ms: i64,
    pub max_time_ms: i64,
    pub producer_id: i64,
    pub count: i32,
    /// The records, not compressed.
    pub body: Vec<u8>,
}

pub const APPEND_TIME: u16 = 1 << 3;
pub const TRANSACTIONAL: u16 = 1 << 4;
pub const CONTROL: u16 = 1 << 5;
pub const DELETE_HORIZON: u16 = 1 << 6;

impl Batch {
    /// A batch of `rows` that begins at `base_offset`, where records before the first may be gone.
    pub fn of(base_offset: i64, rows: &[Row], codec: Codec) -> Self {
        let last_offset = rows.last().map_or(base_offset, |row| row.offset);
        let base_time_ms = rows.first().and_then(|row| row.time_ms).unwrap_or(-1);
        let mut body = Vec::new();
        for row in rows {
            let time_ms = row.time_ms.unwrap_or(-1);
            write_record(&mut body, row, time_ms - base_time_ms, row.offset - base_offset);
        }
        Self {
            base_offset,
            last_offset,
            leader_epoch: 0,
            magic: 2,
            codec,
            flags: 0,
            base_time_ms,
            max_time_ms: rows.iter().filter_map(|row| row.time_ms).max().unwrap_or(-1),
            producer_id: -1,
            count: rows.len() as i32,
            body,
        }
    }

    /// The end of a transaction.
    pub fn marker(offset: i64, producer_id: i64, commit: bool) -> Self {
        let key = Some(vec![0, 0, 0, u8::from(commit)]);
        let row = Row { offset, time_ms: Some(0), key, value: Some(vec![0; 6]), headers: Vec::new() };
        Self { producer_id, flags: TRANSACTIONAL | CONTROL, ..Self::of(offset, &[row], Codec::None) }
    }

    pub fn write(&self) -> Vec<u8> {
        let packed = if self.body.is_empty() { Vec::new() } else { self.codec.pack(&self.body) };
        let mut checked = Vec::new();
        checked.extend_from_slice(&(self.codec.number() | self.flags).to_be_bytes());
        checked.extend_from_slice(&((self.last_offset - self.base_offset) as i32).to_be_bytes());
        checked.extend_from_slice(&self.base_time_ms.to_be_bytes());
        checked.extend_from_slice(&self.max_time_ms.to_be_bytes());
        checked.extend_from_slice(&self.producer_id.to_be_bytes());
        checked.extend_from_slice(&0_i16.to_be_bytes());
        checked.extend_from_slice(&(-1_i32).to_be_bytes());
        checked.extend_from_slice(&self.count.to_be_bytes());
        checked.extend_from_slice(&packed);
        let mut out = self.base_offset.to_be_bytes().to_vec();
        out.extend_from_slice(&(checked.len() as i32 + 9).to_be_bytes());
        out.extend_from_slice(&self.leader_epoch.to_be_bytes());
        out.push(self.magic);
        out.extend_from_slice(&crc32c::crc32c(&checked).to_be_bytes());
        out.extend_from_slice(&checked);
        out
    }
}

/// Makes the checksum of the only batch in `bytes` right, whatever is in it.
pub fn forge_checksum(bytes: &mut [u8]) {
    let checksum = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&checksum.to_be_bytes());
}

pub fn write_record(out: &mut Vec<u8>, row: &Row, time_delta_ms: i64, offset_delta: i64) {
    let mut record = vec![0];
    varint(&mut record, time_delta_ms);
    varint(&mut record, offset_delta);
    part(&mut record, row.key.as_deref());
    part(&mut record, row.value.as_deref());
    varint(&mut record, row.headers.len() as i64);
    for (name, value) in &row.headers {
        part(&mut record, Some(name.as_bytes()));
        part(&mut record, value.as_deref());
    }
    varint(out, record.len() as i64);
    out.extend_from_slice(&record);
}

fn part(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    varint(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
    out.extend_from_slice(bytes.unwrap_or_default());
}

pub fn varint(out: &mut Vec<u8>, number: i64) {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    while rest > 0x7f {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
