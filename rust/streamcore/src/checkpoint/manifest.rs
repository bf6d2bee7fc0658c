//! Manifests: what a lane's state is made of, as of one epoch.
//!
//! The last record of a lane's epoch; `log` writes it, `recovery` goes by it. It lies in one of [`SLOTS`] records that are
//! overwritten in turn: the highest epoch is the truth, and a torn one does not harm those before it. It is JSON, so that
//! people can read it, framed by a magic, a version and a checksum. Invariant: it names every block of the state and nothing
//! else does.

use crate::error::{Error, Result};
use crate::metrics::Ledger;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const MAGIC: &[u8; 5] = b"SCMAN";
/// Of the manifest.
pub const VERSION: u8 = 1;
const HEAD_BYTES: usize = MAGIC.len() + 1 + 4;

/// Records that manifests of a lane lie in.
pub const SLOTS: u64 = 4;

/// Blocks of one save; in JSON the list of its numbers, as there may be many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "SavedNumbers", into = "SavedNumbers")]
pub struct Saved {
    /// The lane's epoch they are of.
    pub epoch: u64,
    /// How many chunks; none where there were no rows.
    pub chunks: u32,
    /// Rows.
    pub rows: u64,
    /// Bytes as written.
    pub bytes: u64,
    /// CRC32C of the bytes before compression.
    pub crc: u32,
}

type SavedNumbers = (u64, u32, u64, u64, u32);

impl From<SavedNumbers> for Saved {
    fn from((epoch, chunks, rows, bytes, crc): SavedNumbers) -> Self {
        Self { epoch, chunks, rows, bytes, crc }
    }
}

impl From<Saved> for SavedNumbers {
    fn from(saved: Saved) -> Self {
        (saved.epoch, saved.chunks, saved.rows, saved.bytes, saved.crc)
    }
}

/// What whoever commits knows of a lane's epoch, and the engine does not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Facts {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Seconds since 1970 when the state began; grows when it is reset.
    pub generation: u64,
    /// Grows when an abandoned history must not be taken for this one.
    pub owner: u64,
    /// Drawn when the epoch was sealed: tells it from another's of the same state.
    pub seal: u64,
    /// The next offset to read, by topic (or what the source has in its place).
    pub positions: BTreeMap<String, i64>,
    /// Files that the epoch publishes, by folder.
    pub files: BTreeMap<String, Vec<String>>,
    /// What the source said of itself.
    pub source: BTreeMap<String, serde_json::Value>,
    /// The epoch ends with the end of a bounded input.
    pub ended: bool,
}

/// A lane's state as of one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The lane.
    pub lane: i32,
    /// How many epochs of the lane were committed, this one included.
    pub epoch: u64,
    /// Fingerprint of the pipeline, as 16 hexadecimal digits.
    pub fingerprint: String,
    /// Digest of the lane's state, as 16 hexadecimal digits.
    pub digest: String,
    /// Watermark of the lane, ms; of lanes that meet their minimum.
    pub watermark_ms: i64,
    /// Where its records went, since the state began.
    pub ledger: BTreeMap<String, u64>,
    /// What whoever commits knows.
    pub facts: Facts,
    /// The newest save of each part, by number.
    pub parts: BTreeMap<u16, Saved>,
    /// What changed in epochs since the oldest of the parts, by epoch.
    pub changes: Vec<Saved>,
}

/// A number as it stands in a manifest: JSON's own do not hold 64 bits everywhere.
#[must_use]
pub fn hex(number: u64) -> String {
    format!("{number:016x}")
}

/// The counts of a ledger by name.
#[must_use]
pub fn counts(ledger: &Ledger) -> BTreeMap<String, u64> {
    ledger.entries().into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

impl Manifest {
    /// The key of its record: `M/<slot>`.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        format!("M/{}", self.epoch % SLOTS).into_bytes()
    }

    /// Whether a record's key is one of a manifest.
    #[must_use]
    pub fn is_key(key: &[u8]) -> bool {
        (0..SLOTS).any(|slot| key == format!("M/{slot}").as_bytes())
    }

    /// The value of its record.
    ///
    /// # Panics
    ///
    /// Never: a manifest is plain data.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let json = serde_json::to_vec(self).expect("a manifest is plain data");
        let mut out = Vec::with_capacity(HEAD_BYTES + json.len());
        out.extend_from_slice(MAGIC);
        out.push(VERSION);
        out.extend_from_slice(&crc32c::crc32c(&json).to_le_bytes());
        out.extend_from_slice(&json);
        out
    }

    /// Undoes [`encode`](Self::encode).
    pub fn decode(value: &[u8]) -> Result<Self> {
        let refused = |what: String| Error::state(format!("a manifest of the state cannot be used: {what}"));
        if !value.starts_with(MAGIC) {
            return Err(refused("it is none of streamcore; somebody else has written to the topic or file".into()));
        }
        let Some((head, json)) = value.split_at_checked(HEAD_BYTES) else { return Err(refused("it was cut".into())) };
        if head[MAGIC.len() + 1..] != crc32c::crc32c(json).to_le_bytes() {
            return Err(refused("it is damaged: its checksum is of other bytes".into()));
        }
        if head[MAGIC.len()] != VERSION {
            let age = if head[MAGIC.len()] > VERSION { "a newer" } else { "an older" };
            let found = head[MAGIC.len()];
            return Err(refused(format!(
                "it has format {found} and was written by {age} streamcore; this one reads {VERSION}"
            )));
        }
        serde_json::from_slice(json).map_err(|error| refused(format!("it is not as this version writes it: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let saved = Saved { epoch: 5, chunks: 1, rows: 2, bytes: 30, crc: u32::MAX };
        Manifest {
            lane: -1,
            epoch: 6,
            fingerprint: hex(u64::MAX),
            digest: hex(1),
            watermark_ms: i64::MIN,
            ledger: counts(&Ledger { read: 3, applied: 3, ..Ledger::default() }),
            facts: Facts { positions: [("clicks".to_owned(), 4)].into(), ..Facts::default() },
            parts: [(0, saved)].into(),
            changes: vec![Saved { epoch: 6, ..saved }],
        }
    }

    #[test]
    fn a_manifest_reads_back_and_no_other_bytes_do() {
        let value = manifest().encode();
        assert_eq!(Manifest::decode(&value).expect("whole"), manifest());
        for place in 0..value.len() {
            Manifest::decode(&value[..place]).expect_err("cut");
            let mut damaged = value.clone();
            damaged[place] ^= 0x20;
            Manifest::decode(&damaged).expect_err("damaged");
        }
    }

    #[test]
    fn another_version_and_another_form_are_named() {
        let mut value = manifest().encode();
        value[MAGIC.len()] = VERSION + 1;
        assert!(Manifest::decode(&value).expect_err("newer").message.contains("a newer streamcore"));
        let json = br#"{"lane":0}"#;
        let value = [&MAGIC[..], &[VERSION], &crc32c::crc32c(json).to_le_bytes(), json].concat();
        assert!(Manifest::decode(&value).expect_err("another form").message.contains("missing field"));
        assert!(Manifest::decode(b"{}").expect_err("alien").message.contains("somebody else"));
    }

    #[test]
    fn slots_are_overwritten_in_turn() {
        let key = |epoch| Manifest { epoch, ..manifest() }.key();
        assert_eq!((key(3), key(4), key(7)), (b"M/3".to_vec(), b"M/0".to_vec(), b"M/3".to_vec()));
        assert!(Manifest::is_key(&key(9)) && !Manifest::is_key(b"M/4") && !Manifest::is_key(b"D/1/0"));
    }
}
