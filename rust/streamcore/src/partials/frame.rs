//! Frames: the records that a lane's partial windows travel in.
//!
//! Of each epoch in which a lane moved every partition gets the frames with its part, which may be none, and then one
//! marker: how far the lane is, and what it closes. Layout of a value, all integers little-endian:
//!
//! ```text
//! "SCPRT"  u8 version  u8 kind  u8 codec  u64 fingerprint  u32 partitions  u32 partition  i32 lane  u64 generation
//! u64 number  u64 seal  u32 raw length  u32 CRC32C of everything else  payload
//! ```
//!
//! Invariant: a value that was changed, cut, or belongs to another pipeline or partition is an error, found before anything
//! of it is used; and a payload never grows beyond [`CHUNK_BYTES`].

use crate::codec::{Reader, Write};
use crate::error::{Error, Result};
use crate::packed::{pack, unpack};

const MAGIC: &[u8; 5] = b"SCPRT";
/// Of the frame and of the partial windows in it.
pub const VERSION: u8 = 1;
const HEAD_BYTES: usize = 5 + 3 + 8 + 4 + 4 + 4 + 8 + 8 + 8 + 4;
const CHECKSUM_BYTES: usize = 4;
/// Bytes of a part in one frame before compression, at most.
pub const CHUNK_BYTES: usize = 512 << 10;

/// Whose epoch it is, of all that one frame can be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochOf {
    /// Fingerprint of the pipeline, whatever the phase.
    pub fingerprint: u64,
    /// Partitions that its parts are cut into.
    pub partitions: u32,
    /// The lane of the input.
    pub lane: i32,
    /// Of the state of the input's lanes: parts of different ones are of different lanes.
    pub generation: u64,
    /// Of the lane's epochs that were handed over, from 1.
    pub number: u64,
    /// Tells it from another epoch of the same number.
    pub seal: u64,
}

/// How far a lane was at the end of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Its watermark, ms.
    pub watermark_ms: i64,
    /// Newest event time it has seen, ms.
    pub max_event_time_ms: Option<i64>,
    /// How long nothing had come, ms, where it was idle.
    pub quiet_ms: Option<i64>,
    /// Whether its input had ended.
    pub ended: bool,
    /// Lanes of the input.
    pub lanes: u32,
}

impl Told {
    /// Whether the lane had read everything, and nothing came for long.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.quiet_ms.is_some()
    }

    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let flags = [self.max_event_time_ms.is_some(), self.quiet_ms.is_some(), self.ended];
        out.put_u8(flags.iter().enumerate().map(|(bit, is_set)| u8::from(*is_set) << bit).sum());
        out.put_i64(self.watermark_ms);
        out.put_i64(self.max_event_time_ms.unwrap_or_default());
        out.put_i64(self.quiet_ms.unwrap_or_default());
        out.put_varint(u64::from(self.lanes));
    }

    /// Reads what `encode` wrote.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let flags = reader.u8()?;
        let (watermark_ms, max_ms, quiet_ms) = (reader.i64()?, reader.i64()?, reader.i64()?);
        let Some(lanes) = u32::try_from(reader.varint()?).ok().filter(|_| flags < 8) else {
            return Err(Error::state("it says of a lane what none can say"));
        };
        let given = |bit: u8, value| (flags >> bit & 1 == 1).then_some(value);
        Ok(Self {
            watermark_ms,
            max_event_time_ms: given(0, max_ms),
            quiet_ms: given(1, quiet_ms),
            ended: flags >> 2 == 1,
            lanes,
        })
    }
}

/// The end of what an epoch of a lane hands over to one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    /// How far the lane was.
    pub told: Told,
    /// Frames before it.
    pub frames: u32,
    /// Bytes of the part in them.
    pub bytes: u64,
    /// Records counted in the part.
    pub events: u64,
}

/// What a frame has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'v> {
    /// The next bytes of a part.
    Partial(Packed<'v>),
    /// The end of it.
    Marker(Marker),
}

/// Bytes of a part, as they are in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed<'v> {
    codec: u8,
    len: usize,
    payload: &'v [u8],
}

impl Packed<'_> {
    /// Appends the bytes to `raw`.
    pub fn unpack(&self, raw: &mut Vec<u8>) -> Result<()> {
        unpack(self.codec, self.payload, self.len, raw).map_err(Error::state)
    }
}

/// A frame that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'v> {
    /// Whose epoch it is of.
    pub epoch: EpochOf,
    /// The partition that it is for.
    pub partition: u32,
    /// What it has.
    pub content: Content<'v>,
}

/// The value of a record with `raw`, which has at most [`CHUNK_BYTES`].
#[must_use]
pub fn encode_partial(epoch: &EpochOf, partition: u32, raw: &[u8]) -> Vec<u8> {
    encode(epoch, partition, b'P', raw)
}

/// The value of a record with a marker.
#[must_use]
pub fn encode_marker(epoch: &EpochOf, partition: u32, marker: &Marker) -> Vec<u8> {
    let mut raw = Vec::new();
    marker.told.encode(&mut raw);
    raw.put_varint(u64::from(marker.frames));
    raw.put_varint(marker.bytes);
    raw.put_varint(marker.events);
    encode(epoch, partition, b'M', &raw)
}

fn encode(epoch: &EpochOf, partition: u32, kind: u8, raw: &[u8]) -> Vec<u8> {
    let (start, mut spare) = (HEAD_BYTES + CHECKSUM_BYTES, Vec::new());
    let (codec, payload) = pack(raw, &mut spare);
    let mut out = Vec::with_capacity(start + payload.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[VERSION, kind, codec]);
    out.put_u64(epoch.fingerprint);
    out.extend_from_slice(&epoch.partitions.to_le_bytes());
    out.extend_from_slice(&partition.to_le_bytes());
    out.extend_from_slice(&epoch.lane.to_le_bytes());
    [epoch.generation, epoch.number, epoch.seal].into_iter().for_each(|number| out.put_u64(number));
    out.extend_from_slice(&(raw.len() as u32).to_le_bytes());
    debug_assert_eq!(out.len(), HEAD_BYTES);
    out.resize(start, 0);
    out.extend_from_slice(payload);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&out[..HEAD_BYTES]), &out[start..]);
    out[HEAD_BYTES..start].copy_from_slice(&checksum.to_le_bytes());
    out
}

/// Reads the value of a record.
pub fn decode(value: &[u8]) -> Result<Frame<'_>> {
    if !value.starts_with(MAGIC) {
        return Err(Error::state("it is no partial of streamcore; somebody else has written to the topic"));
    }
    let Some((head, payload)) = value.split_at_checked(HEAD_BYTES + CHECKSUM_BYTES) else {
        return Err(Error::state("it was cut"));
    };
    let (head, checksum) = head.split_at(HEAD_BYTES);
    if crc32c::crc32c_append(crc32c::crc32c(head), payload).to_le_bytes() != *checksum {
        return Err(Error::state("it is damaged: its checksum is of other bytes"));
    }
    let mut reader = Reader::new(&head[MAGIC.len()..]);
    let (version, kind, codec) = (reader.u8()?, reader.u8()?, reader.u8()?);
    if version != VERSION {
        let age = if version > VERSION { "a newer" } else { "an older" };
        let message = format!("it has format {version} and was written by {age} streamcore; this one reads {VERSION}");
        return Err(Error::state(message));
    }
    let fingerprint = reader.u64()?;
    let (partitions, partition, lane) = (u32_of(&mut reader)?, u32_of(&mut reader)?, u32_of(&mut reader)? as i32);
    let (generation, number, seal) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let len = u32_of(&mut reader)? as usize;
    if len > CHUNK_BYTES || partition >= partitions || lane < 0 || number == 0 {
        return Err(Error::state("it says of itself what none can say"));
    }
    let packed = Packed { codec, len, payload };
    let content = match kind {
        b'P' => Content::Partial(packed),
        b'M' => Content::Marker(marker_of(packed)?),
        _ => return Err(Error::state("it is of a kind that is not known")),
    };
    let epoch = EpochOf { fingerprint, partitions, lane, generation, number, seal };
    Ok(Frame { epoch, partition, content })
}

fn u32_of(reader: &mut Reader<'_>) -> Result<u32> {
    Ok(u32::from_le_bytes(reader.take(4)?.try_into().expect("take gives what is asked")))
}

fn marker_of(packed: Packed<'_>) -> Result<Marker> {
    let mut raw = Vec::new();
    packed.unpack(&mut raw)?;
    let mut reader = Reader::new(&raw);
    let told = Told::decode(&mut reader)?;
    let frames =
        u32::try_from(reader.varint()?).map_err(|_| Error::state("it closes more frames than there can be"))?;
    let marker = Marker { told, frames, bytes: reader.varint()?, events: reader.varint()? };
    reader.finish()?;
    Ok(marker)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EPOCH: EpochOf = EpochOf { fingerprint: 7, partitions: 9, lane: 3, generation: 2, number: 5, seal: u64::MAX };
    const TOLD: Told =
        Told { watermark_ms: i64::MIN, max_event_time_ms: Some(-7), quiet_ms: None, ended: true, lanes: 300 };
    const MARKER: Marker = Marker { told: TOLD, frames: 2, bytes: 1 << 40, events: 77 };

    fn body(frame: &Frame<'_>) -> Vec<u8> {
        let Content::Partial(packed) = frame.content else { panic!("a partial") };
        let mut raw = b"before".to_vec();
        packed.unpack(&mut raw).expect("whole");
        raw.split_off(6)
    }

    #[test]
    fn a_marker_reads_back() {
        let value = encode_marker(&EPOCH, 8, &MARKER);
        let frame = decode(&value).expect("whole");
        assert_eq!(frame, Frame { epoch: EPOCH, partition: 8, content: Content::Marker(MARKER) });
        let quiet = Told { quiet_ms: Some(30), max_event_time_ms: None, ended: false, ..TOLD };
        let value = encode_marker(&EPOCH, 0, &Marker { told: quiet, ..MARKER });
        let Content::Marker(marker) = decode(&value).expect("whole").content else { panic!("a marker") };
        assert_eq!(marker.told, quiet);
    }

    #[test]
    fn what_is_of_another_kind_or_version_is_refused_with_its_reason() {
        let value = encode_partial(&EPOCH, 0, b"bytes");
        let forged = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut value = value.clone();
            change(&mut value);
            let start = HEAD_BYTES + CHECKSUM_BYTES;
            if value.len() >= start {
                let checksum = crc32c::crc32c_append(crc32c::crc32c(&value[..HEAD_BYTES]), &value[start..]);
                value[HEAD_BYTES..start].copy_from_slice(&checksum.to_le_bytes());
            }
            decode(&value).map(|frame| body(&frame)).expect_err("refused").message
        };
        assert!(forged(&|value| value[0] = b'x').contains("somebody else"));
        assert!(forged(&|value| value.truncate(20)).contains("cut"));
        assert!(forged(&|value| value[5] = 2).contains("a newer streamcore"));
        assert!(forged(&|value| value[5] = 0).contains("an older streamcore"));
        assert!(forged(&|value| value[6] = b'x').contains("a kind that is not known"));
        assert!(forged(&|value| value[20] = 9).contains("none can say"), "partition 9 of 9");
        assert!(forged(&|value| value[HEAD_BYTES - 2] = 0xff).contains("none can say"), "too long");
    }

    proptest! {
        #[test]
        fn bytes_read_back_and_a_changed_or_cut_frame_is_refused(
            raw in proptest::collection::vec(prop_oneof![Just(7_u8), any::<u8>()], 0..4000),
            at in any::<prop::sample::Index>(), bit in 0_u8..8,
        ) {
            let mut value = encode_partial(&EPOCH, 1, &raw);
            prop_assert_eq!(body(&decode(&value).expect("whole")), raw);
            decode(&value[..at.index(value.len())]).expect_err("cut");
            let at = at.index(value.len());
            value[at] ^= 1 << bit;
            decode(&value).expect_err("changed");
        }
    }
}
