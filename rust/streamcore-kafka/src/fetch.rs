//! A reader of partitions: batches of the engine, fetched ahead of whoever takes them.
//!
//! Made of a [`Dialer`]; the binding assigns partitions with the offsets to begin at, and takes batches. A thread asks the cluster who leads
//! what (`leaders.rs`), and one for each broker fetches and walks (`broker.rs`, by `session.rs` and `answer.rs`); what they share
//! is in `partitions.rs`. Groups, commits and what to do about a [`Trouble`] are the owner's. Invariants: of a partition each
//! record is handed out once, in order, and none of an assignment that is over; fetching stops while the queue is full, and
//! nothing else does; what may pass by itself is tried for ever and seen in [`Fetcher::progress`] alone.

pub mod answer;
mod broker;
mod leaders;
mod partitions;
mod session;
mod trouble;

pub use partitions::{Limits, Moved, Progress, Taken};
pub use trouble::{Trouble, TroubleFault};

use crate::cluster::Isolation;
use crate::connection::{Backoff, Dialer, Stop};
use crate::records;
use partitions::Shared;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How long the end of a fetcher waits for its threads. Their sockets are shut down; who looks up a name or asks for a token then ends by
/// itself, later.
const END_MAX: Duration = Duration::from_secs(1);

/// The longest `take`.
const TAKE_MAX: Duration = Duration::from_hours(24);

/// Part of the bytes of an answer that its records may have, in percent: the rest is for what is around them.
const RECORDS_PERCENT: usize = 90;

/// Bytes that a piece has of a set which was compressed: some ten thousand records of the usual size, which are still in the cache of the
/// processor when they are decoded.
const PIECE_BYTES: usize = 4 << 20;

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Arc<str>,
    /// The number of the partition.
    pub partition: i32,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.topic, self.partition)
    }
}

/// A partition that is to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Which one.
    pub place: TopicPartition,
    /// The first record that is wanted.
    pub offset: i64,
    /// The epoch of the record in front of it, where it is known ([`Moved::leader_epoch`]): a log that was cut is noticed by it.
    pub leader_epoch: Option<i32>,
    /// Records from here on are not wanted.
    pub stop: Option<i64>,
    /// Whether it waits until it is resumed.
    pub is_paused: bool,
}

impl Assignment {
    /// All from `offset` on, at once.
    #[must_use]
    pub const fn new(place: TopicPartition, offset: i64) -> Self {
        Self { place, offset, leader_epoch: None, stop: None, is_paused: false }
    }
}

/// How records are fetched.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Which records are handed out.
    pub isolation: Isolation,
    /// What is handed out of them.
    pub records: records::Settings,
    /// How long a broker waits for records where there are none: what being idle costs is a request in that time.
    pub wait_max: Duration,
    /// Most bytes of an answer, unless its first batch has more.
    pub fetch_bytes_max: usize,
    /// The same of each partition in it; less is asked for where its share of the queue has no room for what becomes of them.
    pub partition_bytes_max: usize,
    /// Most bytes of a batch as it is fetched: a larger one is a [`Trouble`]. What an answer may have counts as well.
    pub batch_bytes_max: usize,
    /// Most bytes that are queued, and of each partition its share. Half of it is for answers under way. What is paused comes on top,
    /// and so does what a set that was begun has once it is decompressed.
    pub queued_bytes_max: usize,
    /// After which time leaders are asked for though nobody misses one.
    pub metadata_age_max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            isolation: Isolation::Committed,
            records: records::Settings { piece_bytes_max: PIECE_BYTES, ..records::Settings::default() },
            wait_max: Duration::from_millis(500),
            fetch_bytes_max: 16 << 20,
            partition_bytes_max: 4 << 20,
            batch_bytes_max: 256 << 20,
            queued_bytes_max: 128 << 20,
            metadata_age_max: Duration::from_mins(5),
        }
    }
}

/// Fetches partitions until it is dropped.
#[derive(Debug)]
pub struct Fetcher {
    shared: Arc<Shared>,
    stop: Stop,
}

impl Fetcher {
    /// Starts without partitions. Connections that `dialer` opened before are left alone.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn new(dialer: Dialer, settings: Settings) -> io::Result<Self> {
        let stop = Stop::default();
        let dialer = dialer.with_stop(stop.clone());
        let answer_bytes_max = dialer.config().answer_bytes_max / 100 * RECORDS_PERCENT;
        let settings = Settings {
            fetch_bytes_max: settings.fetch_bytes_max.min(answer_bytes_max).max(1),
            batch_bytes_max: settings.batch_bytes_max.min(answer_bytes_max).max(1),
            ..settings
        };
        let shared = Arc::new(Shared::new(settings, Backoff::new(dialer.config())));
        leaders::start(&shared, &dialer)?;
        Ok(Self { shared, stop })
    }

    /// Takes on partitions. One that is there already begins anew, as by [`Fetcher::seek`].
    pub fn assign(&self, assignments: &[Assignment]) {
        self.shared.assign(assignments);
    }

    /// Lets go of partitions: nothing of them is handed out from now on, whatever was fetched.
    pub fn revoke(&self, places: &[TopicPartition]) {
        self.shared.revoke(places);
    }

    /// Begins a partition at `offset` anew: nothing that was fetched before is handed out, and a trouble is over. False where it is not
    /// assigned.
    #[must_use = "of a partition that is not assigned nothing comes"]
    pub fn seek(&self, place: &TopicPartition, offset: i64) -> bool {
        self.shared.seek(place, offset)
    }

    /// Records of a partition from `stop` on are not wanted. False where it is not assigned.
    #[must_use]
    pub fn stop_at(&self, place: &TopicPartition, stop: Option<i64>) -> bool {
        self.shared.stop_at(place, stop)
    }

    /// Hands out nothing of these partitions, and fetches no more of them. What was fetched is kept.
    pub fn pause(&self, places: &[TopicPartition]) {
        self.shared.pause(places, true);
    }

    /// Goes on with partitions that were paused.
    pub fn resume(&self, places: &[TopicPartition]) {
        self.shared.pause(places, false);
    }

    /// Takes what is there, of each partition the next piece; where there is nothing, waits for the first that comes, up to
    /// `timeout`.
    #[must_use]
    pub fn take(&self, timeout: Duration, limits: Limits) -> Taken {
        self.shared.take(timeout.min(TAKE_MAX), limits)
    }

    /// Ends a [`Fetcher::take`] that waits on another thread, or the next one.
    pub fn wake(&self) {
        self.shared.wake();
    }

    /// How far all partitions are.
    #[must_use]
    pub fn progress(&self) -> BTreeMap<TopicPartition, Progress> {
        self.shared.progress()
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.shared.stop();
        self.stop.stop();
        self.shared.wait_for_threads(END_MAX);
    }
}

#[cfg(test)]
mod tests;
