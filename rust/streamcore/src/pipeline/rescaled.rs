//! An input with another number of partitions: the state of its lanes becomes that of as many others.
//!
//! Whoever rescales has recovered all lanes, and writes those that come out of it; what lanes share stays as it is. Each key goes
//! where the topic's producers send it from now on. Invariant: what the rows of all lanes come to is the same before and after,
//! but for rows of one key that become one, and rows of windows that overlap of which some have left.

use super::{COMBINE_LANE, Pipeline};
use crate::error::{Error, Result};
use crate::group::key::KeyCodec;
use crate::lane::Lane;
use crate::partition::Partitioner;
use crate::state::Contents;
use crate::watermark::Clock;
use serde::Serialize;

/// What was moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rescaled {
    /// Lanes before.
    pub before: u32,
    /// Lanes now.
    pub after: u32,
    /// Rows of windows, those that lanes share among them.
    pub rows: u64,
    /// What they come to; the same as before where none was `merged` or `cut`.
    pub digest: u64,
    /// Rows that became one with another of their key; see [`Contents::merged`].
    pub merged: u64,
    /// Rows that count for fewer windows than before; see [`Contents::cut`].
    pub cut: u64,
    /// Rows in the lane where the key goes now, not where it went: of records that came after the topic grew.
    pub early: u64,
}

/// Finds the lane of a key.
struct Router<'p> {
    /// For each window the key's form, and which column is the record key.
    windows: Vec<Option<(&'p KeyCodec, usize)>>,
    partitioner: Option<Partitioner>,
    before: u32,
    after: u32,
    text: Vec<u8>,
    keyed: u64,
    early: u64,
    /// Rows that are where no rule puts them, and of the first of them the record key and the lane.
    misplaced: u64,
    first: Option<(String, usize)>,
}

impl Router<'_> {
    fn route(&mut self, window: usize, lane: usize, key: &[u8]) -> Result<usize> {
        let Some((codec, place)) = self.windows.get(window).copied().flatten() else {
            return Err(Error::state("windows of lanes are not by record key, so their keys cannot be moved"));
        };
        let partitioner = self.partitioner.ok_or_else(|| {
            Error::state(format!(
                "it has to be said how the producers choose the partition of a key: {}",
                Partitioner::NAMES.join(", ")
            ))
        })?;
        self.text.clear();
        let anywhere = lane % self.after as usize;
        if !codec.text(key, place, &mut self.text) {
            return Ok(anywhere);
        }
        let (Some(old), Some(new)) =
            (partitioner.partition(&self.text, self.before), partitioner.partition(&self.text, self.after))
        else {
            return Ok(anywhere);
        };
        self.keyed += 1;
        if old as usize != lane {
            if self.after > self.before && new as usize == lane {
                self.early += 1;
            } else {
                self.misplaced += 1;
                self.first.get_or_insert_with(|| (String::from_utf8_lossy(&self.text).into_owned(), lane));
            }
        }
        Ok(new as usize)
    }

    /// Every key was where the partitioner puts it.
    fn check(&self) -> Result<()> {
        let Some((key, lane)) = &self.first else { return Ok(()) };
        let (misplaced, keyed, before) = (self.misplaced, self.keyed, self.before);
        let said = self.partitioner.map_or(String::new(), |it| format!("{it:?}").to_lowercase());
        Err(Error::state(format!(
            "{misplaced} of {keyed} rows are not in the partition where {said} puts their key among {before} (the first has the key \
             {key:?} and is in lane {lane}): the producers choose partitions otherwise; say how, or, where they are chosen by \
             hand, begin anew"
        )))
    }
}

fn sum(lanes: &[&Lane]) -> Contents {
    let mut contents = Contents::default();
    lanes.iter().for_each(|lane| contents += lane.contents());
    contents
}

/// The rows that are there are those that were moved, and these are those of before where none changed on the way.
fn check_moved(before: &Contents, moved: &Contents, there: &Contents) -> Result<()> {
    let is_same = moved.merged == 0 && moved.cut == 0;
    let arrived = (there.rows, there.digest) == (moved.rows, moved.digest);
    if arrived && moved.rows + moved.merged == before.rows && (!is_same || moved.digest == before.digest) {
        return Ok(());
    }
    Err(Error::state(format!(
        "{} rows were there, {} were moved and {} are there now, or they differ; nothing was changed; please report this",
        before.rows,
        moved.rows + moved.merged,
        there.rows
    )))
}

impl Pipeline {
    /// What the rows of windows come to, in whichever lanes.
    #[must_use]
    pub fn contents(&self) -> Contents {
        let mut contents = Contents::default();
        self.lanes.values().for_each(|lane| contents += lane.contents());
        self.combine.iter().for_each(|combine| contents += combine.contents());
        self.merging.values().for_each(|merging| contents += merging.contents());
        contents += self.stages.contents();
        contents
    }

    /// Makes `count` lanes of those there are, which are all of an input. Nothing is changed by an error.
    pub fn rescale(&mut self, count: u32, partitioner: Option<Partitioner>) -> Result<Rescaled> {
        self.check_movable(count)?;
        let olds: Vec<&Lane> = self.lanes.values().collect();
        let mut router = self.router(olds.len() as u32, count, partitioner)?;
        let (clock, mut moved) = (self.clock_of_all(), Contents::default());
        let mut route = |window: usize, lane: usize, key: &[u8]| router.route(window, lane, key);
        let news = Lane::moved(&olds, &self.plan, (count as usize, &clock), &mut route, &mut moved)?;
        router.check()?;
        let (before, early) = (router.before, router.early);
        check_moved(&sum(&olds), &moved, &sum(&news.iter().collect::<Vec<_>>()))?;
        self.lanes = news.into_iter().map(|lane| (lane.id, lane)).collect();
        self.logs.clear();
        self.digests.retain(|lane, _| *lane == COMBINE_LANE);
        // With what lanes share.
        let Contents { rows, digest, .. } = self.contents();
        Ok(Rescaled { before, after: count, rows, digest, merged: moved.merged, cut: moved.cut, early })
    }

    fn check_movable(&self, count: u32) -> Result<()> {
        if self.plan.join.is_some() {
            return Err(Error::state(
                "a join of several inputs cannot be rescaled: each input has partitions of its own",
            ));
        }
        if self.more && !self.plan.combine {
            return Err(Error::state(
                "rows of windows that are over are still to leave; let a worker run on until they have",
            ));
        }
        let are_all = self.lanes.keys().copied().eq(0..self.lanes.len() as i32);
        if count == 0 || self.lanes.is_empty() || !are_all {
            return Err(Error::state("lanes are rescaled together, to at least one"));
        }
        Ok(())
    }

    fn router(&self, before: u32, after: u32, partitioner: Option<Partitioner>) -> Result<Router<'_>> {
        let own = self.plan.window().into_iter().chain(self.plan.stages.iter().filter_map(|stage| stage.window()));
        let mut windows = Vec::new();
        for (window, place) in own.zip(&self.plan.record_keys) {
            let found = place.map(|place| (&window.key, place)).filter(|_| !self.plan.combine);
            if let Some((codec, place)) = found
                && !KeyCodec::has_text(codec.types()[place])
            {
                return Err(Error::state(format!(
                    "the record key is of type {}, of which one value may be written in several ways, so where it goes \
                     cannot be told",
                    codec.types()[place]
                )));
            }
            windows.push(found);
        }
        let (text, keyed, early, misplaced, first) = (Vec::new(), 0, 0, 0, None);
        Ok(Router { windows, partitioner, before, after, text, keyed, early, misplaced, first })
    }

    /// The clock of every new lane.
    ///
    /// Where windows leave in their lanes: that of the lane that is furthest, since a key may come from it, and what has left
    /// there must not come again. Where lanes meet: as far as all of them were, or as windows have left.
    fn clock_of_all(&self) -> Clock {
        let mut clock = Clock::new(self.plan.inputs[0].clock.out_of_orderness_ms);
        let told = || self.lanes.values().map(|lane| &lane.clock).filter(|clock| clock.max_event_time_ms().is_some());
        let (times_ms, shown_ms) = (told().filter_map(Clock::max_event_time_ms), told().map(Clock::watermark_ms));
        match &self.combine {
            None => clock.set(times_ms.max(), shown_ms.max().unwrap_or(i64::MIN)),
            Some(combine) => {
                clock.set(times_ms.min(), shown_ms.min().unwrap_or(i64::MIN).max(combine.watermark_ms()));
            }
        }
        clock
    }
}
