//! Blocks: the records that a lane's state is kept in.
//!
//! What one save wrote (`saving`) is cut into chunks, each compressed by itself into the value of one record. `log` writes
//! them, `recovery` reads them. Layout of a value, all integers little-endian:
//!
//! ```text
//! "SCBLK"  u8 version  u8 kind  u8 codec  u64 fingerprint  i32 lane  u16 part  u64 epoch  u32 chunk  u32 raw length
//! u32 CRC32C of everything else  payload
//! ```
//!
//! Invariant: a value that was changed, cut, or belongs to another lane, part or epoch than its key says is an error, found
//! before anything is decompressed; and a payload never grows beyond [`CHUNK_BYTES`].

use crate::error::{Error, Result};
use crate::packed::{pack, unpack};

const MAGIC: &[u8; 5] = b"SCBLK";
/// Of the block and of the state in it.
pub const VERSION: u8 = 1;
const HEAD_BYTES: usize = 5 + 3 + 8 + 4 + 2 + 8 + 4 + 4;
const CHECKSUM_BYTES: usize = 4;

/// Bytes of a chunk before compression, at most.
pub const CHUNK_BYTES: usize = 512 << 10;

/// Where in a head the codec stands.
const CODEC_AT: usize = MAGIC.len() + 2;

/// What a block has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// What changed in an epoch.
    Changes,
    /// Everything of one part.
    Part(u16),
}

/// A block of one lane, chunk by chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockKey {
    /// What it has.
    pub kind: Kind,
    /// The lane's epoch it is of.
    pub epoch: u64,
    /// The chunk's number.
    pub chunk: u32,
}

/// Whose blocks they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Fingerprint of the pipeline.
    pub fingerprint: u64,
    /// The lane.
    pub lane: i32,
}

impl BlockKey {
    /// The key of its record: `D/<epoch>/<chunk>` or `B/<part>/<epoch>/<chunk>`.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        let Self { kind, epoch, chunk } = self;
        match kind {
            Kind::Changes => format!("D/{epoch}/{chunk}"),
            Kind::Part(part) => format!("B/{part}/{epoch}/{chunk}"),
        }
        .into_bytes()
    }

    /// Undoes [`to_bytes`](Self::to_bytes); `None` for any other key.
    #[must_use]
    pub fn from_bytes(key: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(key).ok()?;
        let mut fields = text.split('/');
        let kind = match fields.next()? {
            "D" => Kind::Changes,
            "B" => Kind::Part(fields.next()?.parse().ok()?),
            _ => return None,
        };
        let found = Self { kind, epoch: fields.next()?.parse().ok()?, chunk: fields.next()?.parse().ok()? };
        (found.to_bytes() == key).then_some(found)
    }
}

impl std::fmt::Display for BlockKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_bytes()))
    }
}

/// The chunks of `bytes`; none of no bytes.
pub fn chunks(bytes: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    bytes.chunks(CHUNK_BYTES).enumerate().map(|(number, chunk)| (number as u32, chunk))
}

/// The value of the record `key` with `raw`, which has at most [`CHUNK_BYTES`]. Memory in `spare` is used again.
#[must_use]
pub fn encode(owner: Owner, key: BlockKey, raw: &[u8], spare: &mut Vec<u8>) -> Vec<u8> {
    let (codec, payload) = pack(raw, spare);
    let start = HEAD_BYTES + CHECKSUM_BYTES;
    let mut out = Vec::with_capacity(start + payload.len());
    put_head(owner, key, codec, raw.len() as u32, &mut out);
    out.resize(start, 0);
    out.extend_from_slice(payload);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&out[..HEAD_BYTES]), &out[start..]);
    out[HEAD_BYTES..start].copy_from_slice(&checksum.to_le_bytes());
    out
}

/// The bytes in the record `key`, appended to `raw`.
pub fn decode(owner: Owner, key: BlockKey, value: &[u8], raw: &mut Vec<u8>) -> Result<()> {
    let refused = |what: &str| Error::state(format!("record {key} of the state of lane {}: {what}", owner.lane));
    if !value.starts_with(MAGIC) {
        return Err(refused("it is no block of streamcore; somebody else has written to the topic or file"));
    }
    let Some((head, payload)) = value.split_at_checked(HEAD_BYTES + CHECKSUM_BYTES) else {
        return Err(refused("it was cut"));
    };
    let (head, checksum) = head.split_at(HEAD_BYTES);
    if crc32c::crc32c_append(crc32c::crc32c(head), payload).to_le_bytes() != *checksum {
        return Err(refused("it is damaged: its checksum is of other bytes"));
    }
    if head[MAGIC.len()] != VERSION {
        let (found, age) = (head[MAGIC.len()], if head[MAGIC.len()] > VERSION { "a newer" } else { "an older" });
        return Err(refused(&format!(
            "it has format {found} and was written by {age} streamcore; this one reads {VERSION}"
        )));
    }
    let raw_len = head.last_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let codec = head[CODEC_AT];
    let mut expected = Vec::with_capacity(HEAD_BYTES);
    put_head(owner, key, codec, raw_len, &mut expected);
    if expected != head {
        return Err(refused("it is of another pipeline, lane or epoch than its key says"));
    }
    let len = raw_len as usize;
    if len > CHUNK_BYTES {
        return Err(refused("it claims more bytes than a chunk has"));
    }
    unpack(codec, payload, len, raw).map_err(refused)
}

fn put_head(owner: Owner, key: BlockKey, codec: u8, raw_len: u32, out: &mut Vec<u8>) {
    let (kind, part) = match key.kind {
        Kind::Changes => (b'D', 0),
        Kind::Part(part) => (b'B', part),
    };
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[VERSION, kind, codec]);
    out.extend_from_slice(&owner.fingerprint.to_le_bytes());
    out.extend_from_slice(&owner.lane.to_le_bytes());
    out.extend_from_slice(&part.to_le_bytes());
    out.extend_from_slice(&key.epoch.to_le_bytes());
    out.extend_from_slice(&key.chunk.to_le_bytes());
    out.extend_from_slice(&raw_len.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packed::PLAIN;
    use proptest::prelude::*;

    const OWNER: Owner = Owner { fingerprint: 7, lane: 3 };
    const KEY: BlockKey = BlockKey { kind: Kind::Part(9), epoch: 5, chunk: 1 };

    fn read(owner: Owner, key: BlockKey, value: &[u8]) -> Result<Vec<u8>> {
        let mut raw = b"before".to_vec();
        decode(owner, key, value, &mut raw)?;
        Ok(raw.split_off(6))
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        for raw in [&[5_u8; 200][..], b"short"] {
            let value = encode(OWNER, KEY, raw, &mut Vec::new());
            assert_eq!(read(OWNER, KEY, &value).expect("whole"), raw);
            for place in 0..value.len() {
                for change in 1..=255 {
                    let mut damaged = value.clone();
                    damaged[place] ^= change;
                    read(OWNER, KEY, &damaged).expect_err("damaged");
                }
                read(OWNER, KEY, &value[..place]).expect_err("cut");
            }
        }
    }

    #[test]
    fn a_block_of_something_else_is_refused_whole_as_it_is() {
        let value = encode(OWNER, KEY, b"bytes", &mut Vec::new());
        let others = [
            (Owner { fingerprint: 8, ..OWNER }, KEY),
            (Owner { lane: 4, ..OWNER }, KEY),
            (OWNER, BlockKey { kind: Kind::Part(8), ..KEY }),
            (OWNER, BlockKey { kind: Kind::Changes, ..KEY }),
            (OWNER, BlockKey { epoch: 6, ..KEY }),
            (OWNER, BlockKey { chunk: 0, ..KEY }),
        ];
        for (owner, key) in others {
            let message = read(owner, key, &value).expect_err("of something else").message;
            assert!(message.contains("another pipeline, lane or epoch"), "{message}");
        }
    }

    /// A value whose head was changed and whose checksum fits.
    fn forged(change: impl Fn(&mut [u8])) -> String {
        let mut value = encode(OWNER, KEY, &[5; 200], &mut Vec::new());
        change(&mut value);
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&value[..HEAD_BYTES]), &value[HEAD_BYTES + 4..]);
        value[HEAD_BYTES..HEAD_BYTES + 4].copy_from_slice(&checksum.to_le_bytes());
        read(OWNER, KEY, &value).expect_err("refused").message
    }

    #[test]
    fn what_is_written_otherwise_is_named() {
        assert!(forged(|value| value[5] = VERSION + 1).contains("a newer streamcore"));
        assert!(forged(|value| value[5] = VERSION - 1).contains("an older streamcore"));
        assert!(forged(|value| value[HEAD_BYTES - 1] = 1).contains("more bytes than a chunk has"));
        assert!(forged(|value| value[HEAD_BYTES - 4] = 1).contains("cannot be decompressed"));
        assert!(forged(|value| value[7] = PLAIN).contains("a way that is not known"));
        assert!(forged(|value| value[7] = 9).contains("a way that is not known"));
        assert!(read(OWNER, KEY, b"another record").expect_err("alien").message.contains("somebody else"));
    }

    #[test]
    fn keys_are_read_in_their_one_form() {
        for kind in [Kind::Changes, Kind::Part(63)] {
            let key = BlockKey { kind, epoch: u64::MAX, chunk: 12 };
            assert_eq!(BlockKey::from_bytes(&key.to_bytes()), Some(key));
        }
        for other in ["D/1", "D/1/2/3", "D/01/2", "B/1/2", "B/1/2/3/4", "M/1", "D/-1/2", "", "B/65536/1/1", "D/+1/2"] {
            assert_eq!(BlockKey::from_bytes(other.as_bytes()), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(raw in proptest::collection::vec(0_u8..4, 0..3000), noise in any::<Vec<u8>>()) {
            let mut spare = noise.clone();
            prop_assert_eq!(read(OWNER, KEY, &encode(OWNER, KEY, &raw, &mut spare)).expect("whole"), &raw[..]);
            prop_assert_eq!(chunks(&raw).flat_map(|(_, chunk)| chunk.to_vec()).collect::<Vec<u8>>(), raw);
            prop_assert!(read(OWNER, KEY, &noise).is_err());
            prop_assert!(read(OWNER, KEY, &[&MAGIC[..], &noise].concat()).is_err());
        }
    }
}
