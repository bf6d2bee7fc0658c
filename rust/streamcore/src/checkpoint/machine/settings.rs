//! Budgets of the machine, and the seeded bugs.
//!
//! Before it: the pipeline's configuration. After it: the machine, which waits and repeats only as long as these say.
//! Invariant: no bug can be switched on without the crate's feature `faults`; the field that would do it is not there.

use serde::{Deserialize, Serialize};
#[cfg(feature = "faults")]
use std::collections::BTreeSet;

/// Bounds and choices. Times are the executor's monotonic milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How many input topics the pipeline has: the length of every list of offsets.
    pub inputs: usize,
    /// Fall back to the newest complete epoch where a manifest names blocks that are missing, instead of stopping.
    pub repair: bool,
    /// One call of `flush`, `send_offsets`, `commit` or `abort`.
    pub call_timeout_ms: u64,
    /// All calls of one kind in one commit together, repeats included. Then rule 7.
    pub commit_budget_ms: u64,
    /// A commit that took longer than this may have been sent twice: rule 7.
    pub slow_commit_ms: u64,
    /// One `init_transactions`.
    pub producer_timeout_ms: u64,
    /// From the first attempt at a new producer to giving up.
    pub producer_budget_ms: u64,
    /// One call that reads in recovery. The consumer is polled between two.
    pub read_timeout_ms: u64,
    /// From a lane's assignment, or its last sign of progress, to giving up.
    pub recovery_budget_ms: u64,
    /// How often the state is read again when the group is ahead of it.
    pub rereads_max: u32,
    /// Epochs in a row that failed before giving up.
    pub failures_max: u32,
    /// First pause after an error; doubles with each one in a row.
    pub backoff_min_ms: u64,
    /// Longest pause.
    pub backoff_max_ms: u64,
    /// Bugs that the machine commits on purpose.
    #[cfg(feature = "faults")]
    pub bugs: BTreeSet<Bug>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            inputs: 1,
            repair: false,
            call_timeout_ms: 5_000,
            commit_budget_ms: 10_000,
            slow_commit_ms: 2_000,
            producer_timeout_ms: 10_000,
            producer_budget_ms: 120_000,
            read_timeout_ms: 500,
            recovery_budget_ms: 300_000,
            rereads_max: 10,
            failures_max: 30,
            backoff_min_ms: 100,
            backoff_max_ms: 2_000,
            #[cfg(feature = "faults")]
            bugs: BTreeSet::new(),
        }
    }
}

impl Settings {
    /// Whether a bug is switched on: never, without the feature `faults`.
    #[cfg(feature = "faults")]
    pub(super) fn has(&self, bug: Bug) -> bool {
        self.bugs.contains(&bug)
    }

    /// Whether a bug is switched on: never, without the feature `faults`.
    #[cfg(not(feature = "faults"))]
    #[expect(clippy::unused_self, reason = "with the feature it reads a field")]
    pub(super) const fn has(&self, _bug: Bug) -> bool {
        false
    }
}

/// A mistake that a commit protocol could make, each of which the simulator and the runs against a real broker must
/// notice: otherwise what they do not find proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bug {
    /// Offsets are committed in a transaction of their own, before the outputs.
    OffsetsBeforeOutputs,
    /// After an abort the inputs are sought back, but the state keeps what it had.
    NoRollbackOnAbort,
    /// After an abort the state goes back, but the inputs go on.
    NoSeekAfterAbort,
    /// Recovery reads the state up to the last stable offset of that moment, and does not wait for what is pending.
    RestoreToLastStable,
    /// Lanes that gave rows without new input send no offsets.
    TimerOutputWithoutOffsets,
    /// After a timeout the transaction is aborted and the producer used on.
    ReuseProducerAfterTimeout,
    /// After a commit that took long or lost its connection the producer is used on.
    ReuseProducerAfterSlowCommit,
    /// Manifests go in a transaction before the rest of their epoch.
    ManifestNotLast,
    /// Recovery takes the group's offsets though a transaction is pending on them, and does not wait for the state
    /// either (that alone would hide it).
    SkipStableOffsets,
    /// `on_lost` changes nothing: the epoch goes on and is committed with the next membership.
    KeepStateOnLost,
    /// Files are published when the epoch is sealed.
    PublishBeforeCommit,
    /// The group metadata of the first epoch is used for ever.
    GroupMetadataStale,
    /// The group metadata is taken when the offsets are sent, though a callback may wait that takes lanes away, and a
    /// rebalance that this member has missed counts as continuous.
    GroupMetadataFresh,
    /// Offsets are sent without group metadata.
    GroupMetadataMissing,
    /// A commit whose outcome is unknown counts as committed.
    SuccessOnTimeout,
    /// A recovered lane goes on from the group's offset, not the manifest's.
    ResumeAtGroupOffset,
    /// A lane that comes back goes on from the state in memory, whatever others have committed since.
    TrustCache,
    /// Each lane of an epoch whose outcome was unknown is kept or taken back as soon as its own manifest is read.
    DecideLaneByLane,
    /// Where lanes meet, each is fed as soon as its own state is back, whatever is still being read of the others or of what
    /// they share.
    FeedBeforeMeeting,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::OffsetsBeforeOutputs,
        Self::NoRollbackOnAbort,
        Self::NoSeekAfterAbort,
        Self::RestoreToLastStable,
        Self::TimerOutputWithoutOffsets,
        Self::ReuseProducerAfterTimeout,
        Self::ReuseProducerAfterSlowCommit,
        Self::ManifestNotLast,
        Self::SkipStableOffsets,
        Self::KeepStateOnLost,
        Self::PublishBeforeCommit,
        Self::GroupMetadataStale,
        Self::GroupMetadataFresh,
        Self::GroupMetadataMissing,
        Self::SuccessOnTimeout,
        Self::ResumeAtGroupOffset,
        Self::TrustCache,
        Self::DecideLaneByLane,
        Self::FeedBeforeMeeting,
    ];
}
