//! What the machine is told: the worker's news, and the answers to its actions.
//!
//! Before it: whoever runs the machine (the executor), which makes these from the consumer's callbacks, the clients'
//! results and the engine. After it: [`Machine::handle`](super::Machine::handle). In JSON an event is an object whose
//! `event` names it: `{"event": "assigned", "lanes": [0, 3], "member": "m-1"}`.
//!
//! Invariant: between an action that is answered and its answer no other event comes, with one exception that is none:
//! callbacks run inside the executor's own poll, which it makes only while the machine rests.

use super::action::LaneOffsets;
use serde::{Deserialize, Serialize};

/// An input partition (of a join: of each co-partitioned input), and the state that belongs to it.
pub type Lane = i32;

/// What happened. The first group is news, given while the machine rests; the others answer one action each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// The first event of a run, before the consumer subscribes.
    Start,
    /// Time has passed: at least the `tick_ms` of the last [`Rest`](super::Action::Rest), or less. Never given inside
    /// a callback of the consumer, for what follows may take a while.
    Tick,
    /// `on_assign`, from inside the callback. The executor first takes `consumer_group_metadata()` and keeps it for
    /// `send_offsets`, then assigns the partitions paused (with explicit offsets, any), then gives this. Given for an
    /// empty list too: the generation is another one.
    Assigned {
        /// Only the lanes that are new.
        lanes: Vec<Lane>,
        /// `consumer.memberid()` now.
        member: String,
        /// Whether this member is known to have taken part in every generation since the last `on_assign`: the generation
        /// is the next one. What it claims to own is passed over by the others when it is of an older generation, and
        /// may have been theirs meanwhile, though no callback says so. (The Python client's metadata are bytes:
        /// `CGMDv2:`, then the generation as a little-endian i32.) Not known: false; then all lanes are looked up again.
        #[serde(default)]
        continuous: bool,
    },
    /// `on_revoke`, from inside the callback, before the executor unassigns. Everything that the machine answers with is
    /// carried out inside the callback too. Not given again while the consumer closes after an [`Exit`](super::Action::Exit).
    Revoked {
        /// The lanes that go.
        lanes: Vec<Lane>,
        /// How long the callback may take: `min(10 s, 0.2 * max.poll.interval.ms)`.
        within_ms: u64,
        /// As in `assigned`; with an eager protocol true, for the generation has not moved yet. Not known: false; then the
        /// epoch is not committed but taken back.
        #[serde(default)]
        continuous: bool,
    },
    /// `on_lost`, from inside the callback: others may own these lanes already.
    Lost {
        /// The lanes that are gone.
        lanes: Vec<Lane>,
    },
    /// The engine has handed over rows, and the executor would like to send them before the epoch ends (memory).
    /// Optional: rows that wait until the epoch is sealed need no event.
    OutputReady,
    /// The epoch should end: the commit interval is over, or enough bytes or records wait. Ignored where the machine
    /// cannot commit now; it is given again at the next interval.
    Due,
    /// The run should end (SIGTERM): commit within a bound, then [`Exit`](super::Action::Exit) with code 0. Given
    /// outside callbacks.
    Stop {
        /// How long that commit may take.
        within_ms: u64,
    },

    /// Answers `new_producer`: `init_transactions` has returned.
    ProducerReady,
    /// Answers `fetch_committed`.
    CommittedFetched {
        /// One entry for each lane that was asked for.
        lanes: Vec<GroupOffsets>,
    },
    /// Answers `read_state`.
    StateRead {
        /// One entry for each lane that was asked for.
        lanes: Vec<StateFound>,
    },
    /// Answers `restore`.
    Restored {
        /// One entry for each lane that was asked for: the state as it is now in memory.
        lanes: Vec<RestoredLane>,
    },
    /// Answers `seek`, with the offsets that were in fact taken (the same, but for those by policy).
    Sought {
        /// One entry for each lane that was asked for.
        lanes: Vec<LaneOffsets>,
    },
    /// Answers `begin`.
    Began,
    /// Answers `seal`.
    Sealed {
        /// Every lane that the machine lets be fed, moved or not.
        lanes: Vec<SealedLane>,
    },
    /// Answers `produce`: all records are in the producer's queue. (Not: delivered.)
    Produced,
    /// Answers `flush`: every record of the transaction has been acknowledged.
    Flushed,
    /// Answers `send_offsets`.
    OffsetsSent,
    /// Answers `commit`: `commit_transaction` has returned without an error.
    TransactionCommitted {
        /// Whether a connection to a broker has been lost since `begin` (librdkafka: `_TRANSPORT` or `_ALL_BROKERS_DOWN`
        /// in the error callback, or a `disconnects` counter that moved): the client may have sent a request twice. When not
        /// known: false; the machine measures the time by itself.
        disconnected: bool,
    },
    /// Answers `abort`: `abort_transaction` has returned without an error.
    Aborted {
        /// As for `transaction_committed`: an abort that arrives late strikes a later epoch just as well.
        disconnected: bool,
    },
    /// Answers the local actions, which have nothing to say: `rollback`, `keep`, `write_cache`, `publish`, `drop`,
    /// `wait`.
    Done,
    /// Answers any action that did not succeed. The executor repeats nothing by itself. A failed `write_cache` or `publish` is
    /// reported and lived with; a failed `seal`, `rollback`, `keep` or `drop` ends the run, whatever the class.
    Failed {
        /// What kind of error.
        error: ErrorClass,
        /// The client's own words, for reports.
        message: String,
    },
}

/// Errors, as the machine tells them apart. The executor derives one from the client's error, in this order:
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// Somebody else has this `transactional.id` (`_FENCED`, `PRODUCER_FENCED`, `INVALID_PRODUCER_EPOCH`), or the static
    /// seat (`FENCED_INSTANCE_ID`): also when the client calls it fatal, which is how a transaction timeout arrives.
    Fenced,
    /// `KafkaError.fatal()`, or what no repetition mends: not authorised, unsupported, the state's blocks refused, an
    /// error of our own engine.
    Fatal,
    /// Whether it happened is unknown: the call timed out (`_TIMED_OUT`, `_TIMED_OUT_QUEUE`; a flush that left records
    /// behind; also where the client calls the timeout retriable), or an exception that is none of the client's.
    Indeterminate,
    /// `KafkaError.txn_requires_abort()`; a delivery that failed; and for `send_offsets`: the membership is not the one
    /// the action names, or generation or member are unknown to the coordinator.
    Abortable,
    /// `KafkaError.retriable()`, and offsets that are not stable yet (`UNSTABLE_OFFSET_COMMIT`). Nothing was changed, and
    /// the same call may succeed.
    Retriable,
}

/// What the group has committed for a lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupOffsets {
    /// The lane.
    pub lane: Lane,
    /// Next offset of each input topic, in the pipeline's order; null where the group has none.
    pub offsets: Vec<Option<i64>>,
}

/// How far the state partition of a lane has been read, and what was found in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateFound {
    /// The lane.
    pub lane: Lane,
    /// Whether the target of this action was reached. If not, the action is given again later, and reading may go on
    /// from where it stopped (to a target taken anew).
    pub reached: bool,
    /// Every committed manifest that was read and not replaced or tombstoned since, in any order: at most four, one
    /// a slot. All of them each time, not those since the last answer.
    pub manifests: Vec<Manifest>,
}

/// A committed manifest, as far as it concerns the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Which of those who gave up a history wrote it; 0 until a `repair`.
    pub owner_epoch: u64,
    /// Counts per lane, from 1. Of two manifests the one with the higher (owner epoch, epoch) is newer.
    pub epoch: u64,
    /// Next offset of each input topic, in the pipeline's order.
    pub offsets: Vec<i64>,
    /// The lane's clock at the end of the epoch.
    pub clock_ms: i64,
    /// Digest of the lane's state at the end of the epoch.
    pub digest: u64,
    /// The `seal` of the lane when this epoch was sealed, written with it.
    #[serde(default)]
    pub seal: u64,
    /// Whether every block it names was read with the count and checksum it names.
    pub complete: bool,
}

/// A lane's state in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoredLane {
    /// The lane.
    pub lane: Lane,
    /// Its clock.
    pub clock_ms: i64,
    /// Digest of its state, counted from the rows, not copied from the manifest.
    pub digest: u64,
}

/// A lane at the end of a sealed epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedLane {
    /// The lane.
    pub lane: Lane,
    /// Next offset of each input topic, in the pipeline's order.
    pub offsets: Vec<i64>,
    /// The lane's clock.
    pub clock_ms: i64,
    /// Digest of the lane's state.
    pub digest: u64,
    /// Output rows and dead letters of this lane in the epoch, those sent before the seal included.
    pub outputs: u64,
    /// A number that no other seal of any worker has (drawn at random at each `seal`). It goes into the manifest: somebody
    /// else may have committed an epoch with the very same state and other rows or files.
    #[serde(default)]
    pub seal: u64,
}
