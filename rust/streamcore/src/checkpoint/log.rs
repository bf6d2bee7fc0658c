//! One lane's log: which records an epoch writes, and which of those before are over.
//!
//! `pipeline` asks for an epoch's records when it is sealed, and they are written in one transaction, or followed by one
//! sync. Each epoch writes what changed in it; and as much again, part by part, of everything, the parts that were not
//! written for longest first, so that changes before the oldest part are over. So a commit writes in proportion to what
//! changed, a recovery reads about twice the state, and there is never a snapshot of all of it (the log cleaning of
//! log-structured file systems, M. Rosenblum and J. Ousterhout, 1991). Invariant: the records that are not over are those
//! that the last manifest names; one that is over is deleted [`SLOTS`] epochs later, so a torn epoch does not harm
//! those whose manifests are still there.

use super::block::{self, BlockKey, Kind, Owner};
use super::manifest::{Facts, Manifest, SLOTS, Saved, hex};
use crate::saving::{Extent, PARTS, Saving};
use std::collections::{BTreeMap, VecDeque};

/// Bytes of changes that are kept without writing parts.
const CHANGES_MIN: u64 = 256 << 10;
/// Epochs of changes that are kept without writing parts.
const EPOCHS_MIN: usize = 64;
/// Bytes that a manifest takes for each epoch of changes, about.
const ENTRY_BYTES: u64 = 32;

/// A record: a key, and a value or a deletion.
pub type Record = (Vec<u8>, Option<Vec<u8>>);

/// What the engine knows of a lane at the end of an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Digest of the lane's state.
    pub digest: u64,
    /// See [`Manifest::watermark_ms`].
    pub watermark_ms: i64,
    /// See [`Manifest::ledger`].
    pub ledger: BTreeMap<String, u64>,
}

/// What is live, as of one epoch.
#[derive(Debug, Clone, Default)]
struct Live {
    epoch: u64,
    parts: BTreeMap<u16, Saved>,
    changes: VecDeque<Saved>,
    /// The part that is written next.
    next_part: u16,
    /// Bytes that parts may take for what has been written beside them.
    credit: i64,
    /// Keys that are over since an epoch, not deleted yet.
    over: VecDeque<(u64, Vec<Vec<u8>>)>,
}

/// The records of an epoch, as they are written.
struct Records<'a> {
    owner: Owner,
    written: Vec<Record>,
    /// Memory to compress in.
    spare: &'a mut Vec<u8>,
}

/// The log of one lane.
#[derive(Debug)]
pub struct LaneLog {
    owner: Owner,
    committed: Live,
    /// The epoch that was sealed and is not committed yet.
    pending: Option<Live>,
    /// Memory that the last epoch's saves took, for those of the next one.
    spare: Vec<u8>,
}

impl LaneLog {
    /// Of a lane without saved state.
    #[must_use]
    pub fn new(owner: Owner) -> Self {
        Self { owner, committed: Live::default(), pending: None, spare: Vec::new() }
    }

    /// Of a lane whose state is written anew behind all epochs up to `epoch`, whose records are deleted in time.
    #[must_use]
    pub fn behind(owner: Owner, epoch: u64) -> Self {
        Self { owner, committed: Live { epoch, ..Live::default() }, pending: None, spare: Vec::new() }
    }

    /// Of a lane whose state was recovered by `manifest`. `stray` are keys of blocks that are there and that it does not
    /// name: they are deleted in time.
    #[must_use]
    pub fn recovered(owner: Owner, manifest: &Manifest, stray: Vec<Vec<u8>>) -> Self {
        let oldest = |(_, saved): &(&u16, &Saved)| saved.epoch;
        let next_part = match manifest.parts.len() {
            PARTS => manifest.parts.iter().min_by_key(oldest).map_or(0, |(part, _)| *part),
            _ => (0..PARTS as u16).find(|part| !manifest.parts.contains_key(part)).unwrap_or(0),
        };
        let mut over = VecDeque::new();
        if !stray.is_empty() {
            over.push_back((manifest.epoch, stray));
        }
        let committed = Live {
            epoch: manifest.epoch,
            parts: manifest.parts.clone(),
            changes: manifest.changes.iter().copied().collect(),
            next_part,
            credit: 0,
            over,
        };
        Self { owner, committed, pending: None, spare: Vec::new() }
    }

    /// Epochs of the lane that were committed.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.committed.epoch
    }

    /// The records of an epoch that is sealed, the manifest last. `save` saves the lane's state. Whether a lane moved, so
    /// that there is anything to write, whoever commits decides. `save` may use the memory it is given; blocks are compressed
    /// in `spare`.
    pub fn seal(
        &mut self,
        sealed: Sealed,
        facts: Facts,
        spare: &mut Vec<u8>,
        save: impl Fn(Extent, Vec<u8>) -> Saving,
    ) -> Vec<Record> {
        self.seal_epoch(sealed, facts, spare, save, false)
    }

    /// The records of an epoch that is sealed and has everything, so that none before is needed.
    pub fn seal_whole(
        &mut self,
        sealed: Sealed,
        facts: Facts,
        save: impl Fn(Extent, Vec<u8>) -> Saving,
    ) -> Vec<Record> {
        self.seal_epoch(sealed, facts, &mut Vec::new(), save, true)
    }

    fn seal_epoch(
        &mut self,
        sealed: Sealed,
        facts: Facts,
        spare: &mut Vec<u8>,
        save: impl Fn(Extent, Vec<u8>) -> Saving,
        is_whole: bool,
    ) -> Vec<Record> {
        let changes = save(Extent::Changes, std::mem::take(&mut self.spare));
        let mut live = self.committed.clone();
        live.epoch += 1;
        let mut records = Records { owner: self.owner, written: Vec::new(), spare };
        let saved = records.write(Kind::Changes, live.epoch, &changes);
        live.changes.push_back(saved);
        let longest = changes.out.len();
        self.spare = changes.out;
        if is_whole {
            (0..PARTS).for_each(|_| drop(self.write_part(&mut live, &save, &mut records)));
        } else {
            self.write_parts(&mut live, saved.bytes, &save, &mut records);
        }
        let over = live.drop_changes();
        live.delete(over, &mut records.written);
        let manifest = live.manifest(self.owner, sealed, facts);
        records.written.push((manifest.key(), Some(manifest.encode())));
        self.pending = Some(live);
        self.spare.clear();
        // One long epoch does not keep its memory for ever.
        self.spare.shrink_to(2 * longest);
        records.written
    }

    /// The sealed epoch is durable.
    pub fn commit(&mut self) {
        if let Some(live) = self.pending.take() {
            self.committed = live;
        }
    }

    /// The sealed epoch, if there is one, is taken back.
    pub fn rollback(&mut self) {
        self.pending = None;
    }

    /// Writes parts while more changes are kept than need be, as many bytes in all as are written beside them.
    fn write_parts(
        &mut self,
        live: &mut Live,
        changed: u64,
        save: &impl Fn(Extent, Vec<u8>) -> Saving,
        records: &mut Records<'_>,
    ) {
        if !live.has_old_changes() {
            return;
        }
        let (first, mut over) = (live.next_part, Vec::new());
        live.credit += (changed + ENTRY_BYTES * live.changes.len() as u64) as i64;
        while live.credit > 0 && live.has_old_changes() {
            let (bytes, keys) = self.write_part(live, save, records);
            live.credit -= bytes as i64;
            over.extend(keys);
            if live.next_part == first {
                live.credit = 0;
            }
        }
        if !over.is_empty() {
            live.over.push_back((live.epoch, over));
        }
    }

    /// Writes the next part. Gives how many bytes it took, and the keys of the part before it.
    fn write_part(
        &mut self,
        live: &mut Live,
        save: &impl Fn(Extent, Vec<u8>) -> Saving,
        records: &mut Records<'_>,
    ) -> (u64, Vec<Vec<u8>>) {
        let part = live.next_part;
        live.next_part = (part + 1) % PARTS as u16;
        let saving = save(Extent::Part(usize::from(part)), std::mem::take(&mut self.spare));
        let mut saved = Saved { epoch: live.epoch, chunks: 0, rows: 0, bytes: 0, crc: 0 };
        if saving.rows() > 0 {
            saved = records.write(Kind::Part(part), live.epoch, &saving);
        }
        self.spare = saving.out;
        let before = live.parts.insert(part, saved);
        (saved.bytes, before.iter().flat_map(|before| keys_of(Kind::Part(part), before)).collect())
    }
}

impl Records<'_> {
    fn write(&mut self, kind: Kind, epoch: u64, saving: &Saving) -> Saved {
        let (mut chunks, mut bytes) = (0, 0);
        for (chunk, raw) in block::chunks(&saving.out) {
            let key = BlockKey { kind, epoch, chunk };
            let value = block::encode(self.owner, key, raw, self.spare);
            (chunks, bytes) = (chunk + 1, bytes + value.len() as u64);
            self.written.push((key.to_bytes(), Some(value)));
        }
        Saved { epoch, chunks, rows: saving.rows(), bytes, crc: crc32c::crc32c(&saving.out) }
    }
}

impl Live {
    /// Whether parts are to be written, so that changes may go.
    fn has_old_changes(&self) -> bool {
        let bytes: u64 = self.changes.iter().map(|saved| saved.bytes).sum();
        let parts: u64 = self.parts.values().map(|saved| saved.bytes).sum();
        self.changes.len() > 1 && (bytes > CHANGES_MIN + parts / 2 || self.changes.len() > EPOCHS_MIN)
    }

    /// Drops the changes that every part has; gives their keys. The last stay: they have what is saved beside rows.
    fn drop_changes(&mut self) -> Vec<Vec<u8>> {
        let mut over = Vec::new();
        let oldest = self.parts.values().map(|saved| saved.epoch).min().unwrap_or(0);
        if self.parts.len() < PARTS {
            return over;
        }
        while self.changes.len() > 1 && self.changes[0].epoch <= oldest {
            over.extend(self.changes.pop_front().iter().flat_map(|saved| keys_of(Kind::Changes, saved)));
        }
        over
    }

    /// Deletes what has been over for [`SLOTS`] epochs; `over` is so from this one on.
    fn delete(&mut self, over: Vec<Vec<u8>>, records: &mut Vec<Record>) {
        if !over.is_empty() {
            self.over.push_back((self.epoch, over));
        }
        while self.over.front().is_some_and(|(since, _)| since + SLOTS <= self.epoch) {
            let keys = self.over.pop_front().map(|(_, keys)| keys).unwrap_or_default();
            records.extend(keys.into_iter().map(|key| (key, None)));
        }
    }

    fn manifest(&self, owner: Owner, sealed: Sealed, facts: Facts) -> Manifest {
        Manifest {
            lane: owner.lane,
            epoch: self.epoch,
            fingerprint: hex(owner.fingerprint),
            digest: hex(sealed.digest),
            watermark_ms: sealed.watermark_ms,
            ledger: sealed.ledger,
            facts,
            parts: self.parts.clone(),
            changes: self.changes.iter().copied().collect(),
        }
    }
}

/// The keys of the records of a save.
pub fn keys_of(kind: Kind, saved: &Saved) -> impl Iterator<Item = Vec<u8>> {
    let epoch = saved.epoch;
    (0..saved.chunks).map(move |chunk| BlockKey { kind, epoch, chunk }.to_bytes())
}
