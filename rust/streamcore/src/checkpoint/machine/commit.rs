//! Ends an epoch: from `Due` to the release of post-commit sinks.
//!
//! Before it: lanes that are fed. After it: `failure`, when a step does not succeed, or the next epoch. The order: seal, outputs,
//! state, manifests last, offsets, flush, commit, keep, cache, publish. Records are on their way while the offsets are sent, as in
//! Kafka Streams, whose commit flushes; all of it is one transaction.
//!
//! Invariant: an epoch is committed with the offsets of every lane that is in it, under the member that fed them; a
//! transaction without offsets would be let through from anybody.

use super::action::{Action, ExitCode, GroupMetadata, LaneEpoch, LaneOffsets, Level, Part};
use super::event::{Lane, Manifest, SealedLane};
use super::lanes::Stage;
use super::settings::Bug;
use super::{Machine, new_producer};

impl Machine {
    /// The epoch should end.
    pub(super) fn due(&mut self) {
        if !self.fed().is_empty() {
            self.queue.push_back(Action::Seal);
        }
    }

    /// Rows should be sent before the epoch ends.
    pub(super) fn send_early(&mut self) {
        if !self.fed().is_empty() {
            self.begin_if_needed();
            self.queue.push_back(Action::Produce { part: Part::Outputs, lanes: Vec::new() });
        }
    }

    /// Commit and end the run.
    pub(super) fn stop(&mut self, within_ms: u64) {
        self.stopping = Some(ExitCode::Stopped);
        self.deadline_ms = Some(self.now_ms + within_ms);
        if self.lanes.values().any(|lane| lane.sealed.is_some()) {
            self.stopping = Some(ExitCode::Failed);
        } else {
            self.due();
        }
    }

    /// The epoch is sealed: which lanes moved, and so, what is to be done.
    pub(super) fn sealed(&mut self, lanes: Vec<SealedLane>) {
        let mut moved = Vec::new();
        for lane in lanes {
            let Some(owned) = self.lanes.get_mut(&lane.lane) else { continue };
            let Some(kept) = owned.kept.as_ref().filter(|_| owned.stage == Stage::Live) else { continue };
            if lane.offsets.len() != self.settings.inputs || falls(kept, &lane) {
                let message =
                    format!("lane {} went from {kept:?} to {lane:?}: offsets and epochs only rise", lane.lane);
                return self.exit(ExitCode::Failed, message);
            }
            if has_moved(kept, &lane) {
                let owner_epoch = owned.repaired.unwrap_or(kept.owner_epoch);
                owned.sealed = Some(manifest(owner_epoch, kept.epoch + 1, lane.clone()));
                moved.push(lane.lane);
            }
        }
        if !moved.is_empty() {
            self.queue_commit(&moved);
        } else if self.begun {
            // Nothing was sent after all, or by lanes that have gone since.
            self.queue.push_back(Action::Abort { timeout_ms: 0 });
        }
    }

    /// Queues all steps of one commit. The seeded bugs are other orders of the same steps.
    fn queue_commit(&mut self, moved: &[Lane]) {
        let epochs = self.sealed_epochs(moved);
        let produce =
            |part| Action::Produce { part, lanes: if part == Part::Outputs { Vec::new() } else { epochs.clone() } };
        let flush = || Action::Flush { timeout_ms: 0 };
        let commit = || Action::Commit { timeout_ms: 0 };
        let offsets = self.send_offsets(moved);
        let publish = Action::Publish { lanes: epochs.clone() };
        let is_early = self.settings.has(Bug::PublishBeforeCommit);
        if is_early {
            self.queue.push_back(publish.clone());
        }
        self.begin_if_needed();
        if self.settings.has(Bug::OffsetsBeforeOutputs) {
            self.queue.extend(offsets.clone());
            self.queue.extend([commit(), Action::Begin]);
        }
        if self.settings.has(Bug::ManifestNotLast) {
            self.queue.extend([produce(Part::Manifests), flush(), commit(), Action::Begin]);
        }
        self.queue.extend([produce(Part::Outputs), produce(Part::State)]);
        if !self.settings.has(Bug::ManifestNotLast) {
            self.queue.push_back(produce(Part::Manifests));
        }
        if !self.settings.has(Bug::OffsetsBeforeOutputs) {
            self.queue.extend(offsets);
        }
        self.queue.extend([
            flush(),
            commit(),
            Action::Keep { lanes: epochs.clone() },
            Action::WriteCache { lanes: epochs },
        ]);
        if !is_early {
            self.queue.push_back(publish);
        }
    }

    /// `begin_transaction` comes with the first output of an epoch, not with its first input.
    fn begin_if_needed(&mut self) {
        if !self.begun {
            self.queue.push_back(Action::Begin);
        }
    }

    /// What the lanes of the sealed epoch will be.
    fn sealed_epochs(&self, moved: &[Lane]) -> Vec<LaneEpoch> {
        let sealed = moved.iter().filter_map(|lane| self.lanes[lane].sealed.as_ref().map(|sealed| (*lane, sealed)));
        sealed.map(|(lane, m)| LaneEpoch { lane, owner_epoch: m.owner_epoch, epoch: m.epoch }).collect()
    }

    /// The step that fences: none only where a bug leaves nothing to send.
    fn send_offsets(&self, moved: &[Lane]) -> Option<Action> {
        let only_new_input = self.settings.has(Bug::TimerOutputWithoutOffsets);
        let mut lanes = Vec::new();
        for lane in moved {
            let owned = &self.lanes[lane];
            let (Some(kept), Some(sealed)) = (&owned.kept, &owned.sealed) else { continue };
            if !only_new_input || kept.offsets != sealed.offsets {
                lanes.push(LaneOffsets { lane: *lane, offsets: sealed.offsets.clone() });
            }
        }
        let group = if self.settings.has(Bug::GroupMetadataStale) {
            GroupMetadata::First
        } else if self.settings.has(Bug::GroupMetadataMissing) {
            GroupMetadata::Missing
        } else if self.leaving.is_empty() && !self.settings.has(Bug::GroupMetadataFresh) {
            GroupMetadata::Assigned
        } else {
            GroupMetadata::Fresh
        };
        let step = Action::SendOffsets { lanes, member: self.member.clone(), group, timeout_ms: 0 };
        let is_empty = matches!(&step, Action::SendOffsets { lanes, .. } if lanes.is_empty());
        (!is_empty).then_some(step)
    }

    /// `commit_transaction` has returned without an error. That is an end only where no late twin of it can exist.
    pub(super) fn committed(&mut self, disconnected: bool) {
        self.begun = false;
        let is_last = !self.queue.contains(&Action::Begin);
        if self.may_have_twin(disconnected) {
            self.report(Level::Info, "a commit succeeded, but took long or lost its connection: new producer");
            self.renew();
        } else if is_last {
            self.advance();
        }
    }

    /// The sealed epoch is the last committed one.
    fn advance(&mut self) {
        self.failures = 0;
        for owned in self.lanes.values_mut() {
            if let Some(sealed) = owned.sealed.take() {
                owned.kept = Some(sealed);
                owned.repaired = None;
            }
        }
    }

    /// A seeded bug: what is not known counts as done.
    pub(super) fn assume_committed(&mut self) {
        self.begun = false;
        self.advance();
        self.queue.push_back(new_producer());
    }
}

/// Whether anything of the lane is to be committed.
fn has_moved(kept: &Manifest, lane: &SealedLane) -> bool {
    lane.outputs > 0 || lane.offsets != kept.offsets || lane.clock_ms != kept.clock_ms || lane.digest != kept.digest
}

/// Whether the lane went back, which nothing may do but a rollback.
fn falls(kept: &Manifest, lane: &SealedLane) -> bool {
    lane.clock_ms < kept.clock_ms || lane.offsets.iter().zip(&kept.offsets).any(|(now, before)| now < before)
}

fn manifest(owner_epoch: u64, epoch: u64, lane: SealedLane) -> Manifest {
    let SealedLane { offsets, clock_ms, digest, seal, .. } = lane;
    Manifest { owner_epoch, epoch, offsets, clock_ms, digest, seal, complete: true }
}
