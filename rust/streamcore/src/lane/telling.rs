//! What a lane tells of itself where it hands its windows over through a topic.
//!
//! An epoch in which it moved is one that it tells of: it counted records, or there is other news, as that it is idle or that its
//! input ended. Its number is part of the lane's state, so a lane has another digest whenever it has told something. Invariant:
//! the numbers of a lane's epochs that are committed rise one by one.

use super::Lane;
use crate::codec::{Reader, Write};
use crate::error::{Error, Result};
use crate::partials::frame::{EpochOf, Told};
use crate::partials::{PartialRecord, Parts};
use crate::plan::Plan;

/// Where lanes hand over to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialsTopic {
    /// Partitions of the topic, at least one.
    pub partitions: u32,
    /// Of the state of all lanes.
    pub generation: u64,
    /// Lanes of the input, those of other workers included.
    pub lanes: u32,
}

/// What was told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Said {
    /// Epochs that were told of.
    number: u64,
    generation: u64,
    partitions: u32,
    lanes: u32,
    idle: bool,
    ended: bool,
    /// How often the input ended.
    ends: u64,
}

/// What there is to tell of an epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum News {
    /// Nothing.
    #[default]
    Nothing,
    /// Something that nobody has asked for.
    Untold,
    /// Something, and somebody has asked for it.
    Told,
}

/// What a lane tells.
#[derive(Debug, Default)]
pub struct Telling {
    said: Said,
    committed: Said,
    /// What there is to tell of the sealed epoch.
    news: News,
    /// How long nothing came, ms, where the lane is idle.
    quiet_ms: Option<i64>,
    /// The input ended, and nothing came since; the same at the last commit, and how often it did since.
    ended: bool,
    ended_committed: bool,
    ends: u64,
}

impl Telling {
    /// A record has come.
    pub fn goes_on(&mut self) {
        self.ended = false;
    }

    /// The input ended.
    pub fn end(&mut self) {
        self.ended = true;
        self.ends += 1;
    }

    /// Epochs that were told of and are committed.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.committed.number
    }

    /// What would be said now of the lane, if nothing else had happened.
    fn saying(&self, over: &PartialsTopic, idle: bool) -> Said {
        let PartialsTopic { partitions, generation, lanes } = *over;
        let (number, ends) = (self.committed.number, self.committed.ends + self.ends);
        Said { number, generation, partitions, lanes, idle, ended: self.ended, ends }
    }

    /// Whether that is news.
    #[must_use]
    pub fn has_news(&self, over: &PartialsTopic, idle: bool) -> bool {
        self.committed.number == 0 || self.saying(over, idle) != self.committed
    }

    /// An epoch was sealed that was told of, and nobody asked.
    #[must_use]
    pub const fn was_missed(&self) -> bool {
        matches!(self.news, News::Untold)
    }

    /// Keeps the epoch.
    pub fn commit(&mut self) {
        (self.committed, self.ended_committed, self.ends) = (self.said, self.ended, 0);
        // What was missed stays so, to be noticed.
        if self.news == News::Told {
            self.news = News::Nothing;
        }
    }

    /// Takes the epoch back.
    pub fn rollback(&mut self) {
        (self.said, self.ended, self.ends) = (self.committed, self.ended_committed, 0);
        self.news = News::Nothing;
    }

    /// Appends what was told.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Said { number, generation, partitions, lanes, idle, ended, ends } = self.said;
        for fact in [number, generation, u64::from(partitions), u64::from(lanes), ends] {
            out.put_varint(fact);
        }
        out.put_u8(u8::from(idle) | u8::from(ended) << 1);
    }

    /// Reads what `encode` wrote.
    pub fn decode(saved: &mut Reader<'_>) -> Result<Self> {
        let small = |number: u64| u32::try_from(number).map_err(|_| Error::state("a lane has told what none can"));
        let (number, generation) = (saved.varint()?, saved.varint()?);
        let (partitions, lanes) = (small(saved.varint()?)?, small(saved.varint()?)?);
        let (ends, flags) = (saved.varint()?, saved.u8()?);
        let (idle, ended) = (flags & 1 == 1, flags & 2 == 2);
        let said = Said { number, generation, partitions, lanes, idle, ended, ends };
        Ok(Self { said, committed: said, ..Self::default() })
    }
}

impl Lane {
    /// What the lane tells, where it does.
    #[must_use]
    pub fn telling(&self) -> Option<&Telling> {
        self.telling.as_ref()
    }

    /// The input ended.
    pub fn note_end(&mut self) {
        self.telling.iter_mut().for_each(Telling::end);
    }

    /// Decides what to tell of the epoch that is about to be sealed; `quiet_ms` where the lane is idle.
    pub fn tell(&mut self, over: &PartialsTopic, quiet_ms: Option<i64>) {
        let has_counted = self.ledger != self.committed.1 || self.held.has_partials();
        let Some(telling) = &mut self.telling else { return };
        (telling.news, telling.said, telling.quiet_ms) = (News::Nothing, telling.committed, quiet_ms);
        if has_counted || telling.has_news(over, quiet_ms.is_some()) {
            let saying = telling.saying(over, quiet_ms.is_some());
            (telling.news, telling.said) = (News::Untold, Said { number: saying.number + 1, ..saying });
        }
    }

    /// The epoch that is about to be sealed is not one of this lane.
    pub fn tell_nothing(&mut self) {
        if let Some(telling) = &mut self.telling {
            (telling.news, telling.said, telling.quiet_ms) = (News::Nothing, telling.committed, None);
        }
    }

    /// The records that the sealed epoch hands over; none of a lane that has nothing to tell.
    pub fn partials(&mut self, plan: &Plan, over: &PartialsTopic, seal: u64) -> Vec<PartialRecord> {
        let Some(telling) = self.telling.as_mut().filter(|telling| telling.news != News::Nothing) else {
            return Vec::new();
        };
        telling.news = News::Told;
        let (number, ended, quiet_ms) = (telling.said.number, telling.said.ended, telling.quiet_ms);
        let mut parts = Parts::new(over.partitions);
        self.held.hand_over(&mut parts);
        if !self.held.counts_parts() {
            // Nothing of them is ever too late, so which partition is told does not matter.
            parts.at(0).events = self.ledger.applied - self.committed.1.applied;
        }
        let PartialsTopic { partitions, generation, lanes } = *over;
        let fingerprint = plan.topic.unwrap_or_default();
        let epoch = EpochOf { fingerprint, partitions, lane: self.id, generation, number, seal };
        let told = Told {
            watermark_ms: self.clock.watermark_ms(),
            max_event_time_ms: self.clock.max_event_time_ms(),
            quiet_ms,
            ended,
            lanes,
        };
        parts.into_records(&epoch, told)
    }
}
