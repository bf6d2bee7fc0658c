//! From a lane's records back to its state.
//!
//! Whoever recovers a lane hands over the records of its log in order, then asks what they hold; `pipeline` loads it.
//! Invariant: a state comes from one manifest, with every block that it names whole and no manifest that is missing
//! gone unnoticed; or it does not come, and the error says what was found.

use super::block::{self, BlockKey, Kind, Owner};
use super::log::keys_of;
use super::manifest::{Manifest, Saved, hex};
use crate::error::{Error, Result};
use crate::saving::Loading;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Keys of records that are of the topic as a whole, not of a lane: how it began, and, where its state has gone to another one,
/// which. They are no state, and stay when that is discarded.
pub const MARKS: [&[u8]; 2] = [b"G/begin", NEXT];

/// The mark of a topic whose state has gone to another one.
const NEXT: &[u8] = b"G/next";

/// Keys told in an error, at most.
const TOLD_MAX: usize = 5;

/// The records of a lane's log, the newest of each key.
#[derive(Debug)]
pub struct Recovery {
    owner: Owner,
    manifests: BTreeMap<Vec<u8>, Vec<u8>>,
    blocks: BTreeMap<BlockKey, Vec<u8>>,
    /// What was said of the topic as a whole; see [`MARKS`].
    marks: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Keys that no record of ours has.
    aliens: BTreeSet<Vec<u8>>,
    /// New epochs are behind this one, whatever is there.
    behind: u64,
}

/// What a lane's log holds, whole or not, to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// The manifests, newest first, each with what is wrong with what it names.
    pub manifests: Vec<(Manifest, Option<String>)>,
    /// What is wrong beside them.
    pub problems: Vec<String>,
    /// Records that are there.
    pub records: u64,
    /// Their bytes, without keys.
    pub bytes: u64,
}

/// A lane's state, ready to be loaded.
#[derive(Debug)]
pub struct Recovered {
    /// What it was put together by.
    pub manifest: Manifest,
    /// Keys of blocks that are there and not named.
    pub stray: Vec<Vec<u8>>,
    parts: Vec<(usize, u64, Vec<u8>)>,
    changes: Vec<(u64, Vec<u8>)>,
}

impl Recovered {
    /// For `Pipeline::restore_lane`.
    pub fn loading(&self) -> Result<Loading<'_>> {
        let parts: Vec<_> = self.parts.iter().map(|(part, epoch, bytes)| (*part, *epoch, &bytes[..])).collect();
        let changes: Vec<_> = self.changes.iter().map(|(epoch, bytes)| (*epoch, &bytes[..])).collect();
        Loading::parts(&parts, &changes)
    }
}

impl Recovery {
    /// Of a log without records.
    #[must_use]
    pub fn new(owner: Owner) -> Self {
        let (manifests, blocks, marks, aliens) = Default::default();
        Self { owner, manifests, blocks, marks, aliens, behind: 0 }
    }

    /// Takes the next record of the log.
    pub fn add(&mut self, key: &[u8], value: Option<&[u8]>) {
        match (BlockKey::from_bytes(key), value) {
            (Some(block), Some(value)) => drop(self.blocks.insert(block, value.to_vec())),
            (Some(block), None) => drop(self.blocks.remove(&block)),
            (None, value) if Manifest::is_key(key) => match value {
                Some(value) => drop(self.manifests.insert(key.to_vec(), value.to_vec())),
                None => drop(self.manifests.remove(key)),
            },
            (None, value) if MARKS.contains(&key) => match value {
                Some(value) => drop(self.marks.insert(key.to_vec(), value.to_vec())),
                None => drop(self.marks.remove(key)),
            },
            (None, Some(_)) => drop(self.aliens.insert(key.to_vec())),
            (None, None) => drop(self.aliens.remove(key)),
        }
    }

    /// The state of the newest epoch, or `None` where there never was one. With `repair` that of the newest epoch that is
    /// whole; else anything missing or damaged is an error that says what it is.
    pub fn newest(&self, repair: bool) -> Result<Option<Recovered>> {
        self.check_current()?;
        if let (Some(error), false) = (self.alien(), repair) {
            return Err(error);
        }
        let mut errors = Vec::new();
        for manifest in self.newest_first(repair)? {
            match self.recover(&manifest, repair) {
                Ok(recovered) => return Ok(Some(recovered)),
                Err(error) if repair => errors.push(error),
                Err(error) => return Err(error),
            }
        }
        match errors.into_iter().next() {
            Some(error) => Err(error),
            None if self.blocks.is_empty() => Ok(None),
            None => Err(self.refused("it has blocks and no manifest: the records that say what they are were removed")),
        }
    }

    /// The manifests, each with whether all that it names is there. One that is damaged is an error.
    pub fn manifests(&self) -> Result<Vec<(Manifest, bool)>> {
        self.check_current()?;
        // Manifests that follow each other name nearly the same blocks, of which each is looked into once.
        let mut whole = BTreeMap::new();
        let manifests = self.newest_first(false)?.into_iter();
        Ok(manifests
            .map(|manifest| (self.is_whole(&manifest, &mut whole), manifest))
            .map(|(is, it)| (it, is))
            .collect())
    }

    /// The newest manifest, whole or not. One that is damaged is an error.
    pub fn newest_manifest(&self) -> Result<Option<Manifest>> {
        Ok(self.newest_first(false)?.into_iter().next())
    }

    /// The value of the manifest that has this key.
    #[must_use]
    pub fn manifest(&self, key: &[u8]) -> Option<&[u8]> {
        self.manifests.get(key).map(Vec::as_slice)
    }

    /// Blocks and manifests, in no order.
    pub fn records(&self) -> impl Iterator<Item = (Vec<u8>, &[u8])> {
        let blocks = self.blocks.iter().map(|(key, value)| (key.to_bytes(), &value[..]));
        blocks.chain(self.manifests.iter().map(|(key, value)| (key.clone(), &value[..])))
    }

    fn is_whole(&self, manifest: &Manifest, whole: &mut BTreeMap<(Kind, u64), Saved>) -> bool {
        if manifest.lane != self.owner.lane || manifest.fingerprint != hex(self.owner.fingerprint) {
            return false;
        }
        let parts = manifest.parts.iter().map(|(part, saved)| (Kind::Part(*part), saved));
        let changes = manifest.changes.iter().map(|saved| (Kind::Changes, saved));
        let mut of_part_or_changes = parts.filter(|(_, saved)| saved.chunks > 0).chain(changes);
        of_part_or_changes.all(|(kind, saved)| {
            let place = (kind, saved.epoch);
            let is_known = whole.get(&place) == Some(saved);
            let is_whole = is_known || self.raw(kind, saved).is_ok();
            if is_whole && !is_known {
                whole.insert(place, *saved);
            }
            is_whole
        })
    }

    /// What there is, whatever is wrong with it.
    #[must_use]
    pub fn inspect(&self) -> Inspection {
        let gone = self.check_current().err();
        let mut problems: Vec<_> = gone.into_iter().chain(self.alien()).map(|error| error.message).collect();
        problems.extend(self.damaged().map(|(_, error)| error.message));
        let newest_first = self.newest_first(true).unwrap_or_default();
        if newest_first.is_empty() && !self.blocks.is_empty() {
            problems.extend(self.newest(true).err().map(|error| error.message));
        }
        let problem = |(number, manifest): (usize, &Manifest)| self.recover(manifest, number > 0).err();
        let found: Vec<_> =
            newest_first.iter().enumerate().map(|one| problem(one).map(|error| error.message)).collect();
        let values = self.blocks.values().chain(self.manifests.values());
        Inspection {
            manifests: newest_first.into_iter().zip(found).collect(),
            problems,
            records: (self.blocks.len() + self.manifests.len() + self.aliens.len()) as u64,
            bytes: values.map(|value| value.len() as u64).sum(),
        }
    }

    /// What a mark of the topic says; see [`MARKS`].
    #[must_use]
    pub fn mark(&self, key: &[u8]) -> Option<&[u8]> {
        self.marks.get(key).map(|value| &value[..])
    }

    /// Has new epochs written behind `epoch`.
    pub fn write_behind(&mut self, epoch: u64) {
        self.behind = epoch;
    }

    /// The state has not gone elsewhere.
    fn check_current(&self) -> Result<()> {
        let Some(next) = self.mark(NEXT) else { return Ok(()) };
        let next = String::from_utf8_lossy(next);
        Err(self.refused(&format!("it has gone to another topic ({next}); start again, and that one is used")))
    }

    /// Keys of all records that are there, but for marks.
    pub fn keys(&self) -> impl Iterator<Item = Vec<u8>> {
        let blocks = self.blocks.keys().map(|key| key.to_bytes());
        blocks.chain(self.manifests.keys().cloned()).chain(self.aliens.iter().cloned())
    }

    /// The last epoch that any record speaks of, or that was said; 0 without records.
    #[must_use]
    pub fn last_epoch(&self) -> u64 {
        let of_blocks = self.blocks.keys().map(|key| key.epoch);
        let of_manifests = self.manifests.values().filter_map(|value| Manifest::decode(value).ok());
        of_blocks.chain(of_manifests.map(|manifest| manifest.epoch)).max().unwrap_or_default().max(self.behind)
    }

    /// Keys of records that nothing can be read from: they keep a lane from being recovered.
    #[must_use]
    pub fn unusable(&self) -> Vec<Vec<u8>> {
        self.damaged().map(|(key, _)| key.clone()).chain(self.aliens.iter().cloned()).collect()
    }

    fn damaged(&self) -> impl Iterator<Item = (&Vec<u8>, Error)> {
        self.manifests.iter().filter_map(|(key, value)| {
            let error = Manifest::decode(value).err()?;
            Some((key, error.within(String::from_utf8_lossy(key))))
        })
    }

    fn alien(&self) -> Option<Error> {
        let key = String::from_utf8_lossy(self.aliens.first()?);
        Some(self.refused(&format!("it has a record {key:?} that streamcore did not write")))
    }

    fn newest_first(&self, repair: bool) -> Result<Vec<Manifest>> {
        let mut manifests = Vec::new();
        for (key, value) in &self.manifests {
            match Manifest::decode(value) {
                Ok(manifest) => manifests.push(manifest),
                Err(_) if repair => {}
                Err(error) => return Err(error.within(String::from_utf8_lossy(key))),
            }
        }
        manifests.sort_by_key(|manifest| std::cmp::Reverse(manifest.epoch));
        Ok(manifests)
    }

    fn recover(&self, manifest: &Manifest, repair: bool) -> Result<Recovered> {
        let (lane, fingerprint) = (self.owner.lane, hex(self.owner.fingerprint));
        if manifest.lane != lane || manifest.fingerprint != fingerprint {
            return Err(self.refused(&format!(
                "it is of lane {} of a pipeline with fingerprint {}, and this is lane {lane} of one with {fingerprint}: the \
                 source, schema or steps have changed",
                manifest.lane, manifest.fingerprint
            )));
        }
        let newer = self.blocks.keys().map(|key| key.epoch).max().filter(|epoch| *epoch > manifest.epoch);
        if let (Some(newer), false) = (newer, repair) {
            let epoch = manifest.epoch;
            return Err(self.refused(&format!(
                "it has blocks of epoch {newer} and no manifest of an epoch after {epoch}: the newest one was removed"
            )));
        }
        let mut named = BTreeSet::new();
        let parts = manifest.parts.iter().map(|(part, saved)| (Kind::Part(*part), saved));
        let changes = manifest.changes.iter().map(|saved| (Kind::Changes, saved));
        for (kind, saved) in parts.chain(changes) {
            named.extend(keys_of(kind, saved));
        }
        self.check_there(manifest, &named)?;
        let mut recovered = Recovered {
            manifest: manifest.clone(),
            stray: self.blocks.keys().map(|key| key.to_bytes()).filter(|key| !named.contains(key)).collect(),
            parts: Vec::new(),
            changes: Vec::new(),
        };
        for (part, saved) in manifest.parts.iter().filter(|(_, saved)| saved.chunks > 0) {
            recovered.parts.push((usize::from(*part), saved.epoch, self.raw(Kind::Part(*part), saved)?));
        }
        for saved in &manifest.changes {
            recovered.changes.push((saved.epoch, self.raw(Kind::Changes, saved)?));
        }
        Ok(recovered)
    }

    fn check_there(&self, manifest: &Manifest, named: &BTreeSet<Vec<u8>>) -> Result<()> {
        let is_there = |key: &[u8]| BlockKey::from_bytes(key).is_some_and(|key| self.blocks.contains_key(&key));
        let missing: Vec<_> =
            named.iter().filter(|key| !is_there(key)).map(|key| String::from_utf8_lossy(key)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let (epoch, count, told) = (manifest.epoch, missing.len(), missing[..missing.len().min(TOLD_MAX)].join(", "));
        Err(self.refused(&format!("the manifest of epoch {epoch} names {count} records that are not there ({told})")))
    }

    fn raw(&self, kind: Kind, saved: &Saved) -> Result<Vec<u8>> {
        let mut raw = Vec::new();
        for chunk in 0..saved.chunks {
            let key = BlockKey { kind, epoch: saved.epoch, chunk };
            let value = self.blocks.get(&key).map_or(&[][..], |value| value);
            block::decode(self.owner, key, value, &mut raw)?;
        }
        if crc32c::crc32c(&raw) != saved.crc {
            return Err(self.refused(&format!("the blocks of epoch {} are not those of its manifest", saved.epoch)));
        }
        Ok(raw)
    }

    fn refused(&self, what: &str) -> Error {
        Error::state(format!("the state of lane {} cannot be used: {what}", self.owner.lane))
    }
}
