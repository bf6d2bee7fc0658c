//! What an answer and the walk of it mean for the partitions.
//!
//! Part of `partitions.rs`. `broker.rs` brings each answer before it is walked, so that the next request can be made, and each set
//! behind its walk. Invariant: only the walk moves a position; what the heads of batches say is a guess at what comes next.

use super::super::TopicPartition;
use super::super::answer::Told;
use super::super::session::{Answered, Wanted};
use super::super::trouble::TroubleFault;
use super::partition::{Partition, Queued, Standing};
use super::{Shared, State};
use crate::aborted::AbortedTransaction;
use crate::batch_head::{Head, Next};
use crate::failure::{Cause, Failure, may_pass};
use crate::records::{Counts, End};
use kafka_protocol::ResponseError;
use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Instant;
use streamcore::raw::RawBatch;

/// Records that arrived and are to be walked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// The partition.
    pub place: TopicPartition,
    /// The assignment that they were fetched for.
    pub token: u64,
    /// What was asked for.
    pub offset: i64,
    /// Records from here on are not wanted.
    pub stop: Option<i64>,
    /// Transactions that were aborted.
    pub aborted: Vec<AbortedTransaction>,
    /// Where they are in the frame.
    pub records: Range<usize>,
}

/// What is left of a set behind what was walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Nothing.
    None,
    /// More: it is walked next.
    Follows,
}

/// What came of the walk of a set.
#[derive(Debug)]
pub struct Outcome {
    /// The records, if any.
    pub batch: Option<RawBatch>,
    /// What to fetch next.
    pub next_offset: i64,
    /// The epoch of the last record.
    pub leader_epoch: Option<i32>,
    /// What was met.
    pub counts: Counts,
    /// Where the walk ended.
    pub end: End,
    /// Bytes of the set in front of that.
    pub whole_bytes: usize,
    /// Whether it goes on.
    pub rest: Rest,
}

/// What the heads of the batches of a set tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan {
    /// What comes behind it.
    pub next_offset: i64,
    /// Bytes of its largest batch, also of one at the end that is not all there.
    pub batch_bytes: usize,
}

/// What the heads of its batches tell of a set that was asked for from `offset` on: they are not checked yet.
#[must_use]
pub fn scanned(set: &[u8], offset: i64) -> Scan {
    let (mut at, mut scan) = (0, Scan { next_offset: offset, batch_bytes: 0 });
    loop {
        match set.get(at..).map(Head::read) {
            Some(Ok(Next::Whole(head))) => {
                let end = head.base_offset.saturating_add(i64::from(head.last_offset_delta)).saturating_add(1);
                scan.next_offset = scan.next_offset.max(end);
                scan.batch_bytes = scan.batch_bytes.max(head.bytes);
                at += head.bytes;
            }
            Some(Ok(Next::Cut(bytes))) => return Scan { batch_bytes: scan.batch_bytes.max(bytes), ..scan },
            _ => return scan,
        }
    }
}

impl Shared {
    /// Takes an answer of a broker: gives the sets that are to be walked. `asked`: all that the session asks for; `told`: what is new,
    /// with what [`scanned`] says of it.
    pub fn arrive<'a>(
        &self,
        broker: i32,
        name: &str,
        asked: impl Iterator<Item = &'a Wanted>,
        told: Vec<(Answered, Scan)>,
    ) -> Vec<Set> {
        let (now, mut state) = (Instant::now(), self.lock());
        // What is told with an error says nothing of where the partition ends, and a partition of which nothing else is told is silent.
        let failed = told
            .iter()
            .map(|(answered, _)| answered)
            .filter(|one| one.told.error.is_some() || one.told.diverging.is_some());
        let failed: BTreeSet<_> = failed.map(|one| one.asked.place.clone()).collect();
        for wanted in asked.filter(|wanted| !failed.contains(&wanted.place)) {
            let partition = state.partitions.get_mut(&wanted.place);
            if let Some(partition) = partition.filter(|partition| partition.token == wanted.token) {
                partition.silent_since = now;
                partition.answered_at = Some(now);
            }
        }
        let replica_until = now + self.settings.metadata_age_max;
        let (mut sets, mut is_changed) = (Vec::new(), false);
        for (answered, scan) in told {
            let Answered { asked, told } = answered;
            let State { partitions, addresses, .. } = &mut *state;
            let Some(partition) = partitions.get_mut(&asked.place) else { continue };
            if partition.token != asked.token {
                continue;
            }
            if partition.position != asked.offset {
                // A guess was wrong, unless what comes in front is being walked.
                if partition.arrived_bytes == 0 {
                    partition.planned = partition.position;
                }
                continue;
            }
            if told.error.is_some() || told.diverging.is_some() {
                let is_known = |id: i32| addresses.contains_key(&id);
                is_changed = true;
                partition.refuse(broker, name, &asked, &told, is_known, now);
                continue;
            }
            partition.tell(&told, now);
            match told.preferred_replica.filter(|id| *id != broker) {
                Some(replica) if addresses.contains_key(&replica) => {
                    is_changed |= partition.prefer(replica, replica_until, now);
                }
                Some(_) => {
                    // The leader would name it again and again, at once and without records.
                    partition.leave_replica(now);
                    is_changed = true;
                }
                None => {}
            }
            sets.extend(partition.arrive(broker, asked, told, scan));
        }
        if is_changed {
            self.changed();
        }
        sets
    }

    /// Lets go of a set that is not walked.
    pub fn drop_set(&self, set: &Set) {
        let mut state = self.lock();
        if let Some(partition) = state.partitions.get_mut(&set.place).filter(|one| one.token == set.token) {
            partition.set_went(set.records.len());
        }
        self.work.notify_all();
    }

    /// A set cannot be used, by no fault of its bytes.
    pub fn break_down(&self, set: &Set, message: &str) {
        self.drop_set(set);
        let mut state = self.lock();
        if let Some(partition) = state.partitions.get_mut(&set.place).filter(|one| one.token == set.token) {
            partition.stop_for(TroubleFault::Panicked(message.to_owned()));
        }
        self.ready.notify_all();
    }

    /// Queues what came of a set.
    pub fn settle(&self, set: &Set, outcome: Outcome) {
        let (now, mut state) = (Instant::now(), self.lock());
        let is_current = state.is_current(set);
        let State { partitions, ready, .. } = &mut *state;
        let Some(partition) = partitions.get_mut(&set.place).filter(|one| one.token == set.token) else { return };
        // One that is not wanted any more is dropped before its next piece.
        if outcome.rest == Rest::None {
            partition.set_went(set.records.len());
        }
        if is_current {
            let was_empty = partition.queue.is_empty();
            partition.settle(outcome, self.settings.batch_bytes_max, now);
            if was_empty && !partition.queue.is_empty() && !partition.is_paused {
                ready.push_back(set.place.clone());
            }
        }
        // Where all was passed over there is room now for the threads of others; where it failed, something to do.
        self.changed();
    }
}

impl Partition {
    /// What an answer says beside records.
    fn tell(&mut self, told: &Told, now: Instant) {
        self.answered(now);
        self.high_watermark = told.high_watermark.or(self.high_watermark);
        self.last_stable_offset = told.last_stable_offset.or(self.last_stable_offset);
        self.log_start = told.log_start.or(self.log_start);
    }

    fn arrive(&mut self, broker: i32, asked: Wanted, told: Told, scan: Scan) -> Option<Set> {
        self.planned = scan.next_offset.max(asked.offset);
        if told.records.is_empty() {
            return None;
        }
        self.set_came(broker, told.records.len(), scan.batch_bytes);
        let Wanted { place, token, offset, .. } = asked;
        Some(Set { place, token, offset, stop: self.stop, aborted: told.aborted, records: told.records })
    }

    /// An answer that is none.
    fn refuse(
        &mut self,
        broker: i32,
        name: &str,
        asked: &Wanted,
        told: &Told,
        is_known: impl Fn(i32) -> bool,
        now: Instant,
    ) {
        if self.source(now) != Some(broker) {
            // It was left in the meantime.
            return;
        }
        if let Some((epoch, end_offset)) = told.diverging.filter(|_| told.error.is_none()) {
            if self.is_from_replica(broker) {
                // Its log may be cut where the leader's is not.
                return self.leave_replica(now);
            }
            return self.stop_for(TroubleFault::Truncated { offset: asked.offset, epoch, end_offset });
        }
        let Some(error) = told.error else { return };
        let (topic, number) = (&self.place.topic, self.place.partition);
        let right = format!("READ on topic {topic}");
        let cause = Cause::of_answer(format!("fetching partition {number} of topic {topic}"), right, error);
        let failure = Failure::new(name, cause);
        if self.is_from_replica(broker) && error != ResponseError::TopicAuthorizationFailed {
            // Whatever it lacks, the leader may have.
            self.last_failure = Some(failure);
            return self.leave_replica(now);
        }
        match error {
            ResponseError::OffsetOutOfRange if asked.fetched_epoch.is_some() => {
                // It may only be that the broker does not remember that epoch.
                self.fetched_epoch = None;
            }
            ResponseError::OffsetOutOfRange => {
                self.stop_for(TroubleFault::OutOfRange { offset: asked.offset, log_start: self.log_start });
            }
            error if may_pass(error) => {
                self.fail(failure, now);
                if let Some((leader, epoch)) = told.leader.filter(|(leader, _)| is_known(*leader))
                    && self.leader_epoch < Some(epoch)
                    && self.lead(leader, Some(epoch))
                {
                    self.standing = Standing::Led;
                }
            }
            _ => self.stop_for(TroubleFault::Failed(failure)),
        }
    }

    /// What came of the walk of the set that it waited for.
    fn settle(&mut self, outcome: Outcome, bytes_cap: usize, now: Instant) {
        let Outcome { batch, next_offset, leader_epoch, counts, end, whole_bytes, rest } = outcome;
        let offset = self.position;
        let has_moved = next_offset > offset;
        if has_moved {
            self.fetched_epoch = leader_epoch.filter(|epoch| *epoch >= 0).or(self.fetched_epoch);
            self.push(Queued { batch, next_offset, leader_epoch, counts });
        }
        match end {
            End::Cut { bytes } if !has_moved => self.widen(offset, bytes, bytes_cap, now),
            End::Whole | End::Full | End::Cut { .. } => self.refused = None,
            End::Refused(error) => {
                let is_again = self.refused.as_ref().is_some_and(|known| known.offset == error.offset);
                if is_again {
                    self.stop_for(TroubleFault::Refused(error));
                } else {
                    self.refused = Some(error);
                }
            }
        }
        match rest {
            Rest::None => {
                self.set_ended(whole_bytes);
                self.planned = self.position;
            }
            Rest::Follows => self.planned = self.planned.max(self.position),
        }
    }

    /// Nothing of a batch can be used, because an answer has no room for it.
    fn widen(&mut self, offset: i64, bytes: usize, bytes_cap: usize, now: Instant) {
        if bytes > bytes_cap {
            self.stop_for(TroubleFault::TooLarge { offset, bytes, bytes_max: bytes_cap });
        } else if bytes > self.batch_bytes {
            self.batch_bytes = bytes;
        } else {
            // Brokers give the first batch of an answer whole, and its turn comes.
            let what = format!("fetching {}: a batch of {bytes} bytes", self.place);
            let cause = Cause::Answer { what, error: ResponseError::MessageTooLarge };
            self.fail_slowly(Failure::new("(any)", cause), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_tell_what_comes_next_as_far_as_they_can() {
        let batch = |base: i64, last: i32| {
            let mut bytes = vec![0; 61];
            bytes[..8].copy_from_slice(&base.to_be_bytes());
            bytes[8..12].copy_from_slice(&49_i32.to_be_bytes());
            bytes[16] = 2;
            bytes[23..27].copy_from_slice(&last.to_be_bytes());
            bytes
        };
        let set = [batch(5, 4), batch(12, 0), batch(13, 7)[..40].to_vec()].concat();
        let scan = |next_offset, batch_bytes| Scan { next_offset, batch_bytes };
        assert_eq!(scanned(&set, 6), scan(13, 61));
        assert_eq!(scanned(&set[..60], 6), scan(6, 61));
        assert_eq!(scanned(&set[..10], 6), scan(6, 61), "a head has as many");
        assert_eq!(scanned(&batch(i64::MAX, i32::MAX), 6), scan(i64::MAX, 61));
        assert_eq!(scanned(&batch(-5, -9), 6), scan(6, 61));
    }
}
