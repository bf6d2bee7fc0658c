//! What a partition of the topic knows of the input's lanes, and what of theirs waits.
//!
//! `merging/mod.rs` decides by it. All of it is saved whole with every epoch. Invariant: what waits of a lane is of one epoch, whose
//! marker is in the same transaction and comes with the next records, so it is at most one part a lane, and counts as state; or it
//! is what was read in one call, and waits while rows leave.

use crate::codec::{Reader, Write};
use crate::error::{Error, ErrorKind, Result};
use crate::partials::frame::{self, Content, EpochOf, Frame, Marker, Told};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Where the records that partials count went, and what else was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records counted in the partials that were taken in.
    pub partials: u64,
    /// Of these, merged.
    pub merged: u64,
    /// Of these, in windows that were gone for good.
    pub late_after_combine: u64,
    /// Frames that came.
    pub frames: u64,
    /// Frames of epochs that were merged before.
    pub repeated: u64,
    /// Epochs that are missing, or not whole, and were passed over.
    pub missing: u64,
    /// Sessions that were merged without what such an epoch had of them.
    pub incomplete: u64,
}

impl Counts {
    /// Every counter with its name.
    #[must_use]
    pub const fn entries(&self) -> [(&'static str, u64); 7] {
        [
            ("partials", self.partials),
            ("merged", self.merged),
            ("late_after_combine", self.late_after_combine),
            ("frames", self.frames),
            ("repeated", self.repeated),
            ("missing", self.missing),
            ("incomplete", self.incomplete),
        ]
    }

    /// Checks the balance.
    pub fn check(&self, lane: i32) -> Result<()> {
        if self.partials == self.merged + self.late_after_combine {
            return Ok(());
        }
        let message = format!(
            "the ledger of lane {lane} does not balance ({self:?}); nothing of this epoch was committed; please report this"
        );
        Err(Error::new(ErrorKind::Internal, message))
    }
}

/// What is known of a lane of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputFacts {
    /// Of the epoch that was merged last.
    pub generation: u64,
    /// Its number.
    pub number: u64,
    /// What tells it from another of that number.
    pub seal: u64,
    /// How far the lane was.
    pub told: Told,
    /// It was heard of since the end of the input last let all rows leave.
    pub is_new: bool,
}

impl InputFacts {
    /// Whether `epoch` was merged before, or is of lanes that are gone.
    #[must_use]
    pub const fn has_merged(&self, epoch: &EpochOf) -> bool {
        epoch.generation < self.generation || epoch.generation == self.generation && epoch.number <= self.number
    }

    /// Whether `epoch` has the number of the one merged last and is not that.
    #[must_use]
    pub const fn is_other(&self, epoch: &EpochOf) -> bool {
        epoch.generation == self.generation && epoch.number == self.number && epoch.seal != self.seal
    }
}

/// What waits for its marker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Whose it is.
    pub epoch: Option<EpochOf>,
    /// The records' values.
    pub frames: Vec<Arc<[u8]>>,
}

impl Waiting {
    /// The part that `marker` closes, or in words that frames of it are missing.
    pub fn body(&self, marker: &Marker) -> Result<std::result::Result<Vec<u8>, String>> {
        let mut body = Vec::new();
        for value in &self.frames {
            if let Frame { content: Content::Partial(packed), .. } = frame::decode(value)? {
                packed.unpack(&mut body)?;
            }
        }
        if self.frames.len() != marker.frames as usize || body.len() as u64 != marker.bytes {
            return Ok(Err(format!(
                "the marker closes {} frames with {} bytes, and {} with {} came before it",
                marker.frames,
                marker.bytes,
                self.frames.len(),
                body.len()
            )));
        }
        Ok(Ok(body))
    }
}

/// All that is saved beside tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Partitions of the topic, once one was heard of.
    pub partitions: Option<u32>,
    /// The newest generation of the input's lanes.
    pub generation: u64,
    /// How many there are, in that generation.
    pub lanes: Option<u32>,
    /// Something was merged since the end of the input last let all rows leave.
    pub has_news: bool,
    /// The lanes that were heard of.
    pub inputs: BTreeMap<i32, InputFacts>,
    /// What waits for its marker, by lane.
    pub waiting: BTreeMap<i32, Waiting>,
    /// Records that wait for rows to leave, with their offsets.
    pub inbox: VecDeque<(i64, Arc<[u8]>)>,
    /// Where records went.
    pub counts: Counts,
}

impl Facts {
    /// Notes that an epoch was merged. Gives the lanes that there are no longer.
    pub fn hear(&mut self, epoch: &EpochOf, marker: &Marker) -> Vec<i32> {
        let EpochOf { lane, generation, number, seal, .. } = *epoch;
        self.inputs.insert(lane, InputFacts { generation, number, seal, told: marker.told, is_new: true });
        self.has_news |= marker.frames > 0;
        let lanes = marker.told.lanes;
        if generation < self.generation {
            return Vec::new();
        }
        let is_later = generation > self.generation;
        self.generation = generation;
        self.lanes = Some(self.lanes.filter(|_| !is_later).map_or(lanes, |known| known.max(lanes)));
        let count = i64::from(self.lanes.unwrap_or_default());
        let is_gone = |(lane, input): &(&i32, &InputFacts)| i64::from(**lane) >= count && input.generation < generation;
        let gone: Vec<i32> = self.inputs.iter().filter(is_gone).map(|(lane, _)| *lane).collect();
        self.inputs.retain(|lane, _| !gone.contains(lane));
        gone
    }

    /// Whether all lanes of the newest generation were heard of.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let heard = self.inputs.values().filter(|input| input.generation == self.generation).count();
        self.lanes.is_some_and(|lanes| heard >= lanes as usize)
    }

    /// Whether all lanes are idle.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.is_complete() && self.inputs.values().all(|input| input.told.is_idle())
    }

    /// Whether the input of all lanes ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.is_complete() && self.inputs.values().all(|input| input.told.ended)
    }

    /// Whether it did, and all were heard of since rows last left for that.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.has_ended() && self.inputs.values().all(|input| input.is_new)
    }

    /// Whether it did, and rows have left of all that was merged. An end that a lane told in an earlier run counts, so rows may wait
    /// until it has told its next one.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.has_ended() && !self.has_news && self.inbox.is_empty()
    }

    /// All rows have left at the end of the input, or there was nothing new to leave.
    pub fn note_end(&mut self) {
        self.has_news = false;
        self.inputs.values_mut().for_each(|input| input.is_new = false);
    }

    /// Bytes of what waits.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        let waiting = self.waiting.values().flat_map(|waiting| &waiting.frames);
        waiting.chain(self.inbox.iter().map(|(_, value)| value)).map(|value| value.len()).sum()
    }

    /// Digest of all.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        xxh3_64(&bytes)
    }

    /// Appends all.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.partitions.map_or(0, u64::from));
        out.put_varint(self.generation);
        out.put_u8(u8::from(self.has_news));
        out.put_varint(self.lanes.map_or(0, |lanes| u64::from(lanes) + 1));
        out.put_varint(self.inputs.len() as u64);
        for (lane, input) in &self.inputs {
            for fact in [*lane as u64, input.generation, input.number] {
                out.put_varint(fact);
            }
            out.put_u64(input.seal);
            out.put_u8(u8::from(input.is_new));
            input.told.encode(out);
        }
        out.put_varint(self.waiting.len() as u64);
        for waiting in self.waiting.values() {
            out.put_varint(waiting.frames.len() as u64);
            waiting.frames.iter().for_each(|value| out.put_bytes(value));
        }
        out.put_varint(self.inbox.len() as u64);
        for (offset, value) in &self.inbox {
            out.put_i64(*offset);
            out.put_bytes(value);
        }
        self.counts.entries().iter().for_each(|(_, count)| out.put_varint(*count));
    }

    /// Reads what `encode` wrote.
    pub fn decode(saved: &mut Reader<'_>) -> Result<Self> {
        let small =
            |number: u64| u32::try_from(number).map_err(|_| Error::state("saved partials are of too many lanes"));
        let partitions = Some(small(saved.varint()?)?).filter(|partitions| *partitions > 0);
        let (generation, has_news) = (saved.varint()?, saved.u8()? == 1);
        let lanes = saved.varint()?.checked_sub(1).map(small).transpose()?;
        let mut facts = Self { partitions, generation, lanes, has_news, ..Self::default() };
        for _ in 0..saved.count(12)? {
            let lane = small(saved.varint()?)? as i32;
            let (generation, number, seal) = (saved.varint()?, saved.varint()?, saved.u64()?);
            let (is_new, told) = (saved.u8()? == 1, Told::decode(saved)?);
            facts.inputs.insert(lane, InputFacts { generation, number, seal, told, is_new });
        }
        for _ in 0..saved.count(1)? {
            let frames =
                (0..saved.count(1)?).map(|_| Ok(Arc::from(saved.bytes()?))).collect::<Result<Vec<Arc<[u8]>>>>()?;
            let Some(first) = frames.first() else { return Err(Error::state("saved partials wait without a frame")) };
            let epoch = frame::decode(first)?.epoch;
            facts.waiting.insert(epoch.lane, Waiting { epoch: Some(epoch), frames });
        }
        for _ in 0..saved.count(9)? {
            facts.inbox.push_back((saved.i64()?, saved.bytes()?.into()));
        }
        let counts = &mut facts.counts;
        for count in [&mut counts.partials, &mut counts.merged, &mut counts.late_after_combine] {
            *count = saved.varint()?;
        }
        for count in [&mut counts.frames, &mut counts.repeated, &mut counts.missing, &mut counts.incomplete] {
            *count = saved.varint()?;
        }
        Ok(facts)
    }
}
