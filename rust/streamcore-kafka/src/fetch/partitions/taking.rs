//! What the owner of the partitions takes, and what is told of how far they are.
//!
//! Part of `partitions.rs`. Invariant: of a partition everything comes in order, one piece at once, and its trouble behind the last of it.

use super::super::TopicPartition;
use super::super::trouble::Trouble;
use super::partition::{self, Partition};
use super::{Shared, State};
use crate::failure::Failure;
use crate::records::Counts;
use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};
use streamcore::raw::RawBatch;

/// How much is taken at once: records that come first are taken whatever bytes they have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most records.
    pub records_max: usize,
    /// Most bytes.
    pub bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { records_max: usize::MAX, bytes_max: usize::MAX }
    }
}

/// A partition of which something was passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Which one.
    pub place: TopicPartition,
    /// What comes behind all that was handed out or passed over.
    pub next_offset: i64,
    /// The epoch of the record in front of that, for who begins there again.
    pub leader_epoch: Option<i32>,
}

/// What was taken.
#[derive(Debug, Default)]
pub struct Taken {
    /// Records, in order for each partition.
    pub batches: Vec<RawBatch>,
    /// How far that leads, also where nothing but markers, aborted records and holes was passed. In order of partitions.
    pub moved: Vec<Moved>,
    /// What was met on the way.
    pub counts: Counts,
    /// What its owner has to decide on.
    pub troubles: Vec<Trouble>,
}

impl Taken {
    /// Whether there is nothing in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.moved.is_empty() && self.troubles.is_empty()
    }
}

/// How far a partition is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Behind what was taken.
    pub next_offset: i64,
    /// Behind the last record that is replicated, as the last answer told.
    pub high_watermark: Option<i64>,
    /// Behind the last that a reader of committed records can have.
    pub last_stable_offset: Option<i64>,
    /// The first that is kept.
    pub log_start: Option<i64>,
    /// Bytes that are queued.
    pub queued_bytes: usize,
    /// How long ago an answer came, which told what is known of it.
    pub answered_for: Option<Duration>,
    /// For how long no answer came, where one is wanted: not while it is paused, full, at its stop or in trouble.
    pub silent_for: Option<Duration>,
    /// What failed last, until an answer comes.
    pub last_failure: Option<Failure>,
}

impl Shared {
    /// Waits until there is something to take, and takes it.
    pub fn take(&self, timeout: Duration, limits: Limits) -> Taken {
        let waits = |state: &mut State| !state.is_woken && !state.is_stopped && !state.has_something();
        let waited = self.ready.wait_timeout_while(self.lock(), timeout, waits);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.is_woken = false;
        let (now, had_room, share) = (Instant::now(), state.has_room(&self.settings), state.share(&self.settings));
        let taken = state.take(limits, share, now);
        if !taken.moved.is_empty() {
            if !had_room && state.has_room(&self.settings) {
                state.room_since = now;
            }
            self.work.notify_all();
        }
        taken
    }

    /// Ends a `take` that waits, or the next one.
    pub fn wake(&self) {
        self.lock().is_woken = true;
        self.ready.notify_all();
    }

    /// How far all partitions are.
    pub fn progress(&self) -> BTreeMap<TopicPartition, Progress> {
        let (now, state) = (Instant::now(), self.lock());
        let (share, has_room) = (state.share(&self.settings), state.has_room(&self.settings));
        let progress = |(place, partition): (&TopicPartition, &Partition)| {
            let is_asked_for = partition.is_wanted() && has_room && partition.held_bytes() < share;
            let since = partition.silent_since.max(state.room_since);
            let progress = Progress {
                next_offset: partition.taken,
                high_watermark: partition.high_watermark,
                last_stable_offset: partition.last_stable_offset,
                log_start: partition.log_start,
                queued_bytes: partition.queued_bytes,
                answered_for: partition.answered_at.map(|at| now.saturating_duration_since(at)),
                silent_for: is_asked_for.then(|| now.saturating_duration_since(since)),
                last_failure: partition.last_failure.clone(),
            };
            (place.clone(), progress)
        };
        state.partitions.iter().map(progress).collect()
    }
}

impl State {
    fn has_something(&self) -> bool {
        !self.ready.is_empty() || self.partitions.values().any(Partition::has_trouble)
    }

    fn take(&mut self, limits: Limits, share: usize, now: Instant) -> Taken {
        let (mut taken, mut again) = (Taken::default(), Vec::new());
        let (mut records, mut bytes) = (0, 0);
        while let Some(place) = self.ready.pop_front() {
            let Some(partition) = self.partitions.get_mut(&place) else { continue };
            let next = partition.queue.front().and_then(|queued| queued.batch.as_ref());
            let more_bytes = next.map_or(0, RawBatch::byte_len);
            let is_over = records >= limits.records_max || bytes + more_bytes > limits.bytes_max;
            if is_over && !taken.batches.is_empty() {
                self.ready.push_front(place);
                break;
            }
            if partition.held_bytes() >= share {
                partition.silent_since = now;
            }
            let Some(queued) = partition.pop(limits.records_max.saturating_sub(records).max(1)) else { continue };
            (records, bytes) = (records + queued.batch.as_ref().map_or(0, RawBatch::len), bytes + more_bytes);
            partition::add(&mut taken.counts, &queued.counts);
            taken.batches.extend(queued.batch);
            let (next_offset, leader_epoch) = (queued.next_offset, queued.leader_epoch);
            taken.moved.push(Moved { place: place.clone(), next_offset, leader_epoch });
            if !partition.queue.is_empty() {
                again.push(place);
            }
        }
        self.ready.extend(again);
        taken.moved.sort_by(|one, other| one.place.cmp(&other.place));
        taken.troubles = self.partitions.values_mut().filter_map(Partition::take_trouble).collect();
        taken
    }
}
