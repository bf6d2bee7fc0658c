//! What the machine wants done.
//!
//! Before it: [`Machine::handle`](super::Machine::handle). After it: the executor, which carries actions out against the
//! transactional producer, the consumer, the engine and the sinks. In JSON an action is an object whose `action` names
//! it: `{"action": "flush", "timeout_ms": 5000}`.
//!
//! Invariant: of the actions that one event gives, at most one is answered, and it is the last. The others are reports.
//! So the executor is one loop:
//!
//! ```text
//! run(event):                      # news, given while the machine rests
//!     loop:
//!         for action in machine.handle(event, now_ms):
//!             report       -> write a log line                  (no answer)
//!             rest         -> remember it, return               (no answer)
//!             exit         -> end the run                       (no answer)
//!             anything else -> event = carry it out             (one answer)
//! ```
//!
//! Every answered action is bounded: it returns within its `timeout_ms`, or at once where it has none. Whatever takes
//! longer is given again later, so that the executor polls in between.

use super::event::{Lane, Manifest};
use serde::{Deserialize, Serialize};

/// What to do next. The answer to each is named; any of them may be answered with
/// [`Failed`](super::Event::Failed) instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Destroy the producer if there is one, without a flush (purge its queue, wait for nothing); create one with the same
    /// `transactional.id`; `init_transactions(timeout)`. Rows waiting to be produced are thrown away. Answer:
    /// `producer_ready`.
    NewProducer {
        /// Bound on `init_transactions`.
        timeout_ms: u64,
    },
    /// `consumer.committed(partitions, timeout)`: what the group has committed. Answer: `committed_fetched`.
    FetchCommitted {
        /// For these lanes (every input topic of each).
        lanes: Vec<Lane>,
        /// Whether to ask for stable offsets (librdkafka does with `isolation.level=read_committed`). Offsets that are
        /// not stable yet: `failed` with `retriable`. Always true, but for a seeded bug.
        stable: bool,
        /// Bound.
        timeout_ms: u64,
    },
    /// Take the end of the state partitions as `until` says, now; then read them with a `read_committed` reader from the
    /// beginning (or from where the last such action for this lane stopped) until `position >= end`. Answer:
    /// `state_read`, also when the time was too short.
    ReadState {
        /// For these lanes.
        lanes: Vec<Lane>,
        /// Which end.
        until: ReadEnd,
        /// Bound for all of them together. Reading goes on at the next such action.
        timeout_ms: u64,
    },
    /// Put the state of these lanes in place of what memory holds of them, undo log included. Answer: `restored`.
    Restore {
        /// Each with what to restore.
        lanes: Vec<RestoreLane>,
    },
    /// Seek the inputs of these lanes and forget what was fetched of them before; state and outputs stay as they are. From
    /// the next `rest` on they are fed. Answer: `sought`.
    Seek {
        /// Each with where to.
        lanes: Vec<Start>,
    },
    /// `begin_transaction()`. Answer: `began`.
    Begin,
    /// Seal the epoch in the engine, for all lanes that are fed: output rows, dead letters, deltas, digests. Answer:
    /// `sealed`. May be followed by nothing, when no lane moved; sealing again without input in between then gives the same.
    Seal,
    /// Produce records in the open transaction. Answer: `produced`.
    Produce {
        /// Which records.
        part: Part,
        /// The lanes of this epoch with the epochs they get, for `state` and `manifests`. For `outputs` the list is
        /// empty: all rows and dead letters that wait, of whatever lane.
        lanes: Vec<LaneEpoch>,
    },
    /// `producer.flush(timeout)`. Records left: `failed` with `indeterminate`. A failed delivery: `abortable`, or what
    /// the error says. Answer: `flushed`.
    Flush {
        /// Bound.
        timeout_ms: u64,
    },
    /// `send_offsets_to_transaction(offsets, group metadata, timeout)`. Answer: `offsets_sent`.
    ///
    /// The metadata is that which was taken in the last `on_assign`, not what the client has now: librdkafka takes over a
    /// new generation when the coordinator answers its join, in the background, long before the callback that takes lanes
    /// away is polled, and with the new generation the coordinator would let everything through. With `group = fresh`
    /// (inside `on_revoke`) the executor takes `consumer.memberid()`, then `consumer_group_metadata()`, then `memberid()`
    /// again; unless both are `member`, it sends nothing and answers `failed` with `abortable`. (The client forgets its
    /// member id in the background too, and metadata without a member is accepted from anybody.)
    SendOffsets {
        /// Exactly the lanes of this epoch, each with its next offsets.
        lanes: Vec<LaneOffsets>,
        /// The member that owns these lanes.
        member: String,
        /// Which metadata.
        group: GroupMetadata,
        /// Bound.
        timeout_ms: u64,
    },
    /// `commit_transaction(timeout)`. Answer: `transaction_committed`.
    Commit {
        /// Bound.
        timeout_ms: u64,
    },
    /// `abort_transaction(timeout)`, after purging the producer's queue. Rows waiting to be produced are thrown away. Answer:
    /// `aborted`.
    Abort {
        /// Bound.
        timeout_ms: u64,
    },
    /// Take the engine's state of these lanes back to the last kept epoch with the undo log (what was sealed and not kept
    /// included), throw their waiting rows and unpublished files of this epoch away. An engine with one way back for all lanes
    /// takes all of them back, and reads those that are fed and are not among these from their last kept epoch on. Answer: `done`.
    Rollback {
        /// These lanes.
        lanes: Vec<Lane>,
    },
    /// The sealed epoch is committed: drop its undo log. Nothing was fed since the seal, and no lane of the epoch is left whose
    /// outcome is not known. Answer: `done`.
    Keep {
        /// The lanes, each with the epoch it now has.
        lanes: Vec<LaneEpoch>,
    },
    /// Append the kept epoch to the local cache. What fails costs a slower restart only. Answer: `done`.
    WriteCache {
        /// The lanes, each with its epoch.
        lanes: Vec<LaneEpoch>,
    },
    /// Release post-commit sinks: publish every file that the committed manifests of these lanes name and that is not
    /// published, delete those of later epochs. May be asked for again. Answer: `done`.
    Publish {
        /// The lanes, each with its last committed epoch.
        lanes: Vec<LaneEpoch>,
    },
    /// Forget lanes that are not ours any more, and their waiting rows and unpublished files. Answer: `done`.
    Drop {
        /// These lanes.
        lanes: Vec<Lane>,
        /// Whether their state is exactly the last kept epoch, so that it may stay in memory as a cache. A later
        /// `restore` says whether it is still good.
        keep_cache: bool,
    },
    /// Sleep, without polling the consumer. Answer: `done`.
    Wait {
        /// For so long; at most a second.
        wait_ms: u64,
    },
    /// A line for the log. Not answered.
    Report {
        /// How bad.
        level: Level,
        /// One sentence, with the evidence.
        message: String,
    },
    /// Go on with the loop: poll the consumer (callbacks are events), push input. Always the last action. Not answered.
    Rest {
        /// The lanes whose input may be pushed, and whose timers may fire; all others are paused, and what was fetched of
        /// them is thrown away.
        feed: Vec<Lane>,
        /// Give a `tick` after this time, not from inside a callback; null: none is needed.
        tick_ms: Option<u64>,
    },
    /// End the run: throw everything away that is not committed, close the consumer, end with this code. Later events are
    /// answered with nothing. Not answered.
    Exit {
        /// The process's exit code.
        code: ExitCode,
        /// What happened and what to do, with the evidence.
        message: String,
    },
}

/// Which end of a state partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadEnd {
    /// Of a `read_uncommitted` reader (the high watermark): waits for what is pending.
    HighWatermark,
    /// Of a `read_committed` reader. Only as a seeded bug.
    LastStable,
}

/// Which group metadata goes with the offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupMetadata {
    /// Taken in the last `on_assign`. The usual one.
    Assigned,
    /// Taken now. Inside an `on_revoke` that is continuous, where the generation has just moved.
    Fresh,
    /// Taken at the first `begin` of the run, member not compared. Only as a seeded bug.
    First,
    /// Of a consumer with the same group id that never subscribed, member not compared. Only as a seeded bug.
    Missing,
}

/// Which records of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Output rows and dead letters.
    Outputs,
    /// Deltas, bases, tombstones.
    State,
    /// Manifests.
    Manifests,
}

/// How bad a report is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Part of normal life.
    Info,
    /// Something was undone or repeated.
    Warning,
    /// The run ends, or a promise is in doubt.
    Error,
}

/// Exit codes, in JSON the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum ExitCode {
    /// 0: asked to stop, everything committed.
    Stopped,
    /// 1: an error of the engine, or a stop that could not commit; a restart goes on.
    Failed,
    /// 4: the broker did not answer within the budget; a restart goes on.
    Unreachable,
    /// 6: the saved state cannot be used.
    State,
    /// 7: fenced, or fatal for the producer; a restart goes on.
    Fenced,
}

impl From<ExitCode> for u8 {
    fn from(code: ExitCode) -> Self {
        match code {
            ExitCode::Stopped => 0,
            ExitCode::Failed => 1,
            ExitCode::Unreachable => 4,
            ExitCode::State => 6,
            ExitCode::Fenced => 7,
        }
    }
}

impl TryFrom<u8> for ExitCode {
    type Error = String;

    fn try_from(code: u8) -> Result<Self, String> {
        let all = [Self::Stopped, Self::Failed, Self::Unreachable, Self::State, Self::Fenced];
        all.into_iter().find(|one| u8::from(*one) == code).ok_or_else(|| format!("{code} is not an exit code"))
    }
}

/// A lane and next offsets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaneOffsets {
    /// The lane.
    pub lane: Lane,
    /// Next offset of each input topic, in the pipeline's order.
    pub offsets: Vec<i64>,
}

/// A lane and one of its epochs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaneEpoch {
    /// The lane.
    pub lane: Lane,
    /// Goes into the manifest, and before the epoch into every key.
    pub owner_epoch: u64,
    /// The epoch.
    pub epoch: u64,
}

/// A lane and what to restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreLane {
    /// The lane.
    pub lane: Lane,
    /// The state at the end of this epoch: from memory or the local cache where theirs is the same epoch, owner epoch
    /// and digest (or an older one on the manifest's list, plus deltas), else from the topic. Null: empty state.
    pub manifest: Option<Manifest>,
    /// Take what memory holds, whatever it is. Only as a seeded bug.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trust_cache: bool,
}

/// A lane and where its input starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The lane.
    pub lane: Lane,
    /// Next offset of each input topic, in the pipeline's order; null: by the pipeline's policy (earliest, latest, a
    /// time), asked of the broker with `ListOffsets`.
    pub offsets: Vec<Option<i64>>,
}
