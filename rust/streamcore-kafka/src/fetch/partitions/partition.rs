//! One partition: how far it was fetched, who has it, and what is queued of it.
//!
//! `partitions.rs` keeps them under its lock. Invariants: `taken <= position <= planned`, unless the broker's answer was short of what its
//! heads said, and `planned` goes back; a new token comes with an empty queue.

use super::super::session::Wanted;
use super::super::trouble::{Trouble, TroubleFault};
use super::super::{Assignment, Settings, TopicPartition};
use crate::connection::Backoff;
use crate::error::RecordsError;
use crate::failure::Failure;
use crate::records::Counts;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use streamcore::raw::RawBatch;
use uuid::Uuid;

/// How long a replica that failed is left alone.
const REPLICA_AVOIDED: Duration = Duration::from_secs(30);

/// What is asked for of a partition before anything of it came: nobody knows yet how far that is compressed, and unless brokers are told
/// otherwise no batch has more (`message.max.bytes`).
const FIRST_BYTES: usize = 1 << 20;

/// Parts of a byte in which [`Expansion`] counts.
const PARTS: usize = 16;

/// Memory of a record beside its bytes: span, offset and time.
const RECORD_BYTES: usize = 24;

/// Something fetched that nobody took yet.
#[derive(Debug)]
pub struct Queued {
    /// The records; none where all of them were passed over.
    pub batch: Option<RawBatch>,
    /// What to fetch behind it.
    pub next_offset: i64,
    /// The epoch of the last record before that.
    pub leader_epoch: Option<i32>,
    /// What was met.
    pub counts: Counts,
}

impl Queued {
    /// Memory that it takes, about.
    pub fn bytes(&self) -> usize {
        let of_batch = |batch: &RawBatch| {
            // Headers are copied, and as large as the rest at most.
            let copies = if batch.has_headers() { 2 } else { 1 };
            batch.byte_len() * copies + batch.key_bytes() + batch.len() * RECORD_BYTES
        };
        self.batch.as_ref().map_or(0, of_batch)
    }
}

/// How many bytes of memory become of one that is fetched.
#[derive(Debug, Default)]
struct Expansion {
    /// As the last sets had it, in sixteenths; none before the first.
    parts: Option<usize>,
    /// Memory of the pieces so far of the set that is being walked.
    walked_bytes: usize,
}

impl Expansion {
    /// A set was walked to its end, whose whole batches have `bytes`. More than before is believed at once, less bit by bit.
    fn end(&mut self, bytes: usize) {
        let walked_bytes = std::mem::take(&mut self.walked_bytes);
        if let Some(now) = walked_bytes.saturating_mul(PARTS).checked_div(bytes) {
            // Where little comes of it, since it was aborted or is in front of what is wanted, it counts for itself.
            self.parts = Some(now.max(PARTS).max(self.parts.map_or(0, slowly)));
        }
    }

    /// Bytes to fetch, of which these become; none where that is not known yet.
    fn packed(&self, bytes: usize) -> Option<usize> {
        self.parts.map(|parts| bytes.saturating_mul(PARTS) / parts)
    }

    /// What becomes of `bytes`, as far as that is known.
    fn unpacked(&self, bytes: usize) -> usize {
        bytes.saturating_mul(self.parts.unwrap_or(PARTS)) / PARTS
    }
}

/// What is left of a figure that is not seen again.
const fn slowly(before: usize) -> usize {
    before - before / 4
}

/// Whether a partition can be fetched.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing {
    /// From its leader, or the replica that it prefers.
    Led,
    /// Not before the cluster was asked for its leader, which is not done before that time.
    Lost(Instant),
    /// Not at all; the trouble, until it is handed out.
    Stopped(Option<Trouble>),
}

/// A partition that is assigned.
#[derive(Debug)]
pub struct Partition {
    /// Which one.
    pub place: TopicPartition,
    /// Of this assignment; another one after each seek.
    pub token: u64,
    /// What was handed out ends here.
    pub taken: i64,
    /// What was walked and queued ends here.
    pub position: i64,
    /// What is fetched next: behind what is being walked.
    pub planned: i64,
    /// Records from here on are not wanted.
    pub stop: Option<i64>,
    /// Whether its owner wants none for now.
    pub is_paused: bool,
    /// Whether it can be fetched.
    pub standing: Standing,
    /// Failures since the last answer.
    failures: u32,
    /// Pauses between them.
    backoff: Backoff,
    /// The id of its topic.
    pub topic_id: Option<Uuid>,
    /// Who leads it.
    pub leader: Option<i32>,
    /// In which epoch.
    pub leader_epoch: Option<i32>,
    /// Who is nearer, until when that is believed.
    replica: Option<(i32, Instant)>,
    /// Until when it is fetched from the leader, though that knows somebody nearer.
    replica_avoided_until: Option<Instant>,
    /// The epoch of the record in front of `position`.
    pub fetched_epoch: Option<i32>,
    /// Most bytes of it in an answer, unless a batch needs more.
    bytes_max: usize,
    /// What the largest batch needs that did not fit into an answer, though it was the first.
    pub batch_bytes: usize,
    /// The largest batch of the last answers: a broker gives one that is not whole only where it comes first of all.
    seen_bytes: usize,
    /// What becomes of its bytes.
    expansion: Expansion,
    /// As the last answer told.
    pub high_watermark: Option<i64>,
    /// As the last answer told.
    pub last_stable_offset: Option<i64>,
    /// As the last answer told.
    pub log_start: Option<i64>,
    /// Fetched and not taken, in order.
    pub queue: VecDeque<Queued>,
    /// Bytes of these.
    pub queued_bytes: usize,
    /// Bytes that arrived and are not walked yet.
    pub arrived_bytes: usize,
    /// The broker that gave them.
    pub arrived_from: Option<i32>,
    /// The batch that could not be read, where it was fetched once.
    pub refused: Option<RecordsError>,
    /// The last answer, or since when one is wanted.
    pub silent_since: Instant,
    /// The last answer, if one came.
    pub answered_at: Option<Instant>,
    /// The last failure, until an answer.
    pub last_failure: Option<Failure>,
}

impl Partition {
    pub fn new(assignment: &Assignment, token: u64, backoff: Backoff, settings: &Settings, now: Instant) -> Self {
        let offset = assignment.offset;
        Self {
            place: assignment.place.clone(),
            token,
            taken: offset,
            position: offset,
            planned: offset,
            stop: assignment.stop,
            is_paused: assignment.is_paused,
            standing: Standing::Lost(now),
            failures: 0,
            backoff,
            topic_id: None,
            leader: None,
            leader_epoch: None,
            replica: None,
            replica_avoided_until: None,
            fetched_epoch: assignment.leader_epoch,
            bytes_max: settings.partition_bytes_max,
            batch_bytes: 0,
            seen_bytes: 0,
            expansion: Expansion::default(),
            high_watermark: None,
            last_stable_offset: None,
            log_start: None,
            queue: VecDeque::new(),
            queued_bytes: 0,
            arrived_bytes: 0,
            arrived_from: None,
            refused: None,
            silent_since: now,
            answered_at: None,
            last_failure: None,
        }
    }

    /// Begins at `offset` anew.
    pub fn seek(&mut self, offset: i64, token: u64, now: Instant) {
        self.token = token;
        (self.taken, self.position, self.planned) = (offset, offset, offset);
        self.queue.clear();
        (self.queued_bytes, self.arrived_bytes, self.expansion.walked_bytes) = (0, 0, 0);
        self.refused = None;
        self.fetched_epoch = None;
        self.silent_since = now;
        if let Standing::Stopped(_) = self.standing {
            // Another topic of that name is the one that is meant now.
            self.topic_id = None;
            (self.leader, self.leader_epoch, self.replica) = (None, None, None);
            self.standing = Standing::Lost(now);
            self.failures = 0;
        }
    }

    /// Who is asked for it.
    pub fn source(&self, now: Instant) -> Option<i32> {
        let replica = self.replica.filter(|(_, until)| now < *until).map(|(id, _)| id);
        replica.or(self.leader)
    }

    /// Bytes that it holds.
    pub const fn held_bytes(&self) -> usize {
        self.queued_bytes + self.arrived_bytes
    }

    /// Whether more of it is wanted, if there is room.
    pub fn is_wanted(&self) -> bool {
        !self.is_paused
            && self.stop.is_none_or(|stop| self.planned < stop)
            && !matches!(self.standing, Standing::Stopped(_))
    }

    /// What is asked for, of a partition that may hold `share` bytes.
    pub fn wanted(&self, share: usize) -> Wanted {
        Wanted {
            place: self.place.clone(),
            topic_id: self.topic_id,
            token: self.token,
            offset: self.planned,
            leader_epoch: self.leader_epoch,
            // While something is walked nobody knows yet the epoch of its last record.
            fetched_epoch: self.fetched_epoch.filter(|_| self.planned == self.position),
            bytes_max: i32::try_from(self.asked_bytes(share)).unwrap_or(i32::MAX),
        }
    }

    /// An answer came that is no failure.
    pub fn answered(&mut self, now: Instant) {
        self.silent_since = now;
        self.failures = 0;
        self.backoff.reset();
        self.last_failure = None;
    }

    /// Its leader has to be found: at once the first time, then after pauses.
    pub fn fail(&mut self, failure: Failure, now: Instant) {
        self.last_failure = Some(failure);
        if let Standing::Stopped(_) = self.standing {
            return;
        }
        let pause = if self.failures == 0 { Duration::ZERO } else { self.backoff.pause() };
        self.failures = self.failures.saturating_add(1);
        self.planned = self.position;
        self.standing = Standing::Lost(now + pause);
    }

    /// The same, with a pause also the first time: for what came with an answer.
    pub fn fail_slowly(&mut self, failure: Failure, now: Instant) {
        self.failures = self.failures.max(1);
        self.fail(failure, now);
    }

    /// It is not fetched on.
    pub fn stop_for(&mut self, fault: TroubleFault) {
        if !matches!(self.standing, Standing::Stopped(_)) {
            self.planned = self.position;
            self.standing = Standing::Stopped(Some(Trouble { place: self.place.clone(), fault }));
        }
    }

    /// The trouble, once all that came before it is taken.
    pub fn has_trouble(&self) -> bool {
        self.queue.is_empty() && matches!(self.standing, Standing::Stopped(Some(_)))
    }

    /// The same, which then is handed out.
    pub fn take_trouble(&mut self) -> Option<Trouble> {
        let is_due = self.queue.is_empty();
        match &mut self.standing {
            Standing::Stopped(trouble) if is_due => trouble.take(),
            _ => None,
        }
    }

    /// Whether that broker is a replica which is fetched from instead of the leader.
    pub fn is_from_replica(&self, broker: i32) -> bool {
        self.replica.is_some_and(|(id, _)| id == broker)
    }

    /// Whether replicas are left alone.
    pub fn avoids_replicas(&self, now: Instant) -> bool {
        self.replica_avoided_until.is_some_and(|until| now < until)
    }

    /// The leader says who is nearer; says whether that is believed.
    pub fn prefer(&mut self, replica: i32, until: Instant, now: Instant) -> bool {
        let is_believed = !self.avoids_replicas(now) && Some(replica) != self.leader;
        if is_believed {
            self.replica = Some((replica, until));
        }
        is_believed
    }

    /// Until when a replica is believed to be nearer, if one is; from then on the leader is asked.
    pub fn replica_until(&self) -> Option<Instant> {
        self.replica.map(|(_, until)| until)
    }

    /// Forgets a replica that was believed for long enough.
    pub fn expire_replica(&mut self, now: Instant) {
        self.replica = self.replica.filter(|(_, until)| now < *until);
    }

    /// Goes back to the leader.
    pub fn leave_replica(&mut self, now: Instant) {
        self.replica = None;
        self.replica_avoided_until = Some(now + REPLICA_AVOIDED);
        self.planned = self.position;
    }

    /// Somebody leads it, unless that is older than what is known; says whether it was taken over.
    pub fn lead(&mut self, leader: i32, epoch: Option<i32>) -> bool {
        if self.leader_epoch.zip(epoch).is_some_and(|(known, told)| told < known) {
            return false;
        }
        if self.leader != Some(leader) {
            self.replica = None;
        }
        (self.leader, self.leader_epoch) = (Some(leader), epoch);
        true
    }

    /// Most bytes to ask for: what its share has room for once it is decompressed, or half of a share, so that the broker's thread
    /// is not kept by one partition while the others have new records; but no less than a batch has.
    fn asked_bytes(&self, share: usize) -> usize {
        let held = self.queued_bytes + self.expansion.unpacked(self.arrived_bytes);
        let room = share.saturating_sub(held).max(share / 2);
        let unknown = FIRST_BYTES.min(self.bytes_max).saturating_sub(self.arrived_bytes);
        let asked = self.expansion.packed(room).unwrap_or(unknown).max(self.seen_bytes);
        asked.min(self.bytes_max).max(self.batch_bytes)
    }

    /// A set of `bytes` came from `broker`, whose largest batch has `batch_bytes`.
    pub fn set_came(&mut self, broker: i32, bytes: usize, batch_bytes: usize) {
        self.arrived_bytes += bytes;
        self.arrived_from = Some(broker);
        self.expansion.walked_bytes = 0;
        self.seen_bytes = batch_bytes.max(slowly(self.seen_bytes));
    }

    /// A set of `bytes` will not be walked further.
    pub const fn set_went(&mut self, bytes: usize) {
        self.arrived_bytes = self.arrived_bytes.saturating_sub(bytes);
    }

    /// It was walked to its end, of which `whole_bytes` are whole batches.
    pub fn set_ended(&mut self, whole_bytes: usize) {
        self.expansion.end(whole_bytes);
    }

    /// Whether `broker` may be asked for it: nobody else gave what is being walked, behind which the next records are.
    pub fn follows(&self, broker: i32) -> bool {
        self.arrived_bytes == 0 || self.arrived_from == Some(broker)
    }

    /// Adds what was walked. Where nothing was handed out, it only says that what is queued goes further.
    pub fn push(&mut self, queued: Queued) {
        self.position = queued.next_offset;
        match self.queue.back_mut() {
            Some(last) if queued.batch.is_none() => {
                last.next_offset = queued.next_offset;
                last.leader_epoch = queued.leader_epoch.or(last.leader_epoch);
                add(&mut last.counts, &queued.counts);
            }
            _ => {
                let bytes = queued.bytes();
                self.queued_bytes += bytes;
                self.expansion.walked_bytes += bytes;
                self.queue.push_back(queued);
            }
        }
    }

    /// Takes the next that is queued, of it at most `records_max`.
    pub fn pop(&mut self, records_max: usize) -> Option<Queued> {
        let mut queued = self.queue.pop_front()?;
        self.queued_bytes = self.queued_bytes.saturating_sub(queued.bytes());
        if let Some(rest) = queued.batch.as_mut().filter(|batch| batch.len() > records_max) {
            let batch = rest.split_first(records_max);
            let next_offset = rest.offset(0);
            // The epoch and the counts are those of the whole, which ends with the rest.
            let first = Queued { batch: Some(batch), next_offset, leader_epoch: None, counts: Counts::default() };
            self.queued_bytes += queued.bytes();
            self.queue.push_front(std::mem::replace(&mut queued, first));
        }
        self.taken = queued.next_offset;
        Some(queued)
    }
}

/// Adds what was met elsewhere.
pub fn add(counts: &mut Counts, more: &Counts) {
    counts.batches += more.batches;
    counts.records += more.records;
    counts.control_batches += more.control_batches;
    counts.aborted_records += more.aborted_records;
    counts.refetched_records += more.refetched_records;
}
