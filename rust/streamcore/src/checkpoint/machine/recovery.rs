//! Brings lanes to their last committed epoch: after an assignment, and after rule 7.
//!
//! Before it: `rebalance` and `failure`, which leave lanes in [`Stage::Offsets`]. After it: lanes are live. The steps are
//! those of the design: stable offsets of the group, the state partition up to its `read_uncommitted` end, the newest
//! complete manifest, the comparison, the state, its digest, the seek.
//!
//! Invariant: a lane becomes live only at a manifest that was read after its producer was new, with a state whose digest
//! is that manifest's; what memory holds is used only where it is exactly that. Memory has one way back for all lanes, so a sealed
//! epoch is kept or taken back in one step, and until its outcome is known of every lane that is in it, no lane goes on.

use super::Machine;
use super::action::{Action, ExitCode, LaneEpoch, LaneOffsets, Level, ReadEnd, RestoreLane, Start};
use super::choice::{Choice, Group, choose, compare, shown};
use super::event::{ErrorClass, GroupOffsets, Lane, Manifest, RestoredLane, StateFound};
use super::failure::name;
use super::lanes::{Stage, in_stage};
use super::settings::Bug;

/// A recovery that takes so long is told of, again and again.
const SLOW_MS: u64 = 30_000;

/// What keeps a lane in a stage of its recovery, and where to look.
const fn hindrance(stage: Stage) -> &'static str {
    match stage {
        Stage::Offsets => {
            "the group's offsets are not told: no broker answers, or a transaction on them stays open (kafka-transactions.sh find-hanging)"
        }
        Stage::Reading => {
            "its state is not read to the end: there is much of it, no broker answers, or a transaction in its topic stays open (kafka-transactions.sh find-hanging)"
        }
        Stage::Restoring | Stage::Live => "its state is not put together yet",
    }
}

/// Steps that bring lanes to their manifests, gathered lane by lane.
#[derive(Default)]
struct Plan {
    keep: Vec<LaneEpoch>,
    roll_back: Vec<Lane>,
    restore: Vec<RestoreLane>,
    publish: Vec<LaneEpoch>,
    seek: Vec<Start>,
    /// Those of `roll_back` that were in the sealed epoch.
    undone: Vec<Lane>,
}

impl Machine {
    /// Queues the next step of recovery; false: no lane needs one.
    pub(super) fn recover(&mut self) -> bool {
        let waiting = self.lanes.iter().filter(|(_, owned)| owned.stage != Stage::Live);
        if let Some((lane, owned)) = waiting.min_by_key(|(_, owned)| owned.since_ms) {
            let (spent_ms, why) = (self.now_ms - owned.since_ms, hindrance(owned.stage));
            let what = format!("lane {lane} was not recovered within {spent_ms} ms: {why}");
            if spent_ms > self.settings.recovery_budget_ms {
                self.exit(ExitCode::Unreachable, format!("{what}; start again"));
                return true;
            }
            if spent_ms >= SLOW_MS && self.now_ms >= self.warn_at_ms {
                self.warn_at_ms = self.now_ms + SLOW_MS;
                self.report(Level::Warning, what);
            }
        }
        let unasked = in_stage(&self.lanes, Stage::Offsets);
        let unread = in_stage(&self.lanes, Stage::Reading);
        if !unasked.is_empty() {
            let stable = !self.settings.has(Bug::SkipStableOffsets);
            self.queue.push_back(Action::FetchCommitted { lanes: unasked, stable, timeout_ms: 0 });
        } else if !unread.is_empty() {
            self.queue.push_back(self.read_state(unread));
        } else {
            return false;
        }
        true
    }

    fn read_state(&self, lanes: Vec<Lane>) -> Action {
        let is_hasty = self.settings.has(Bug::RestoreToLastStable) || self.settings.has(Bug::SkipStableOffsets);
        let until = if is_hasty { ReadEnd::LastStable } else { ReadEnd::HighWatermark };
        Action::ReadState { lanes, until, timeout_ms: 0 }
    }

    /// The group's offsets are there: read the state.
    pub(super) fn fetched(&mut self, lanes: Vec<GroupOffsets>) {
        for GroupOffsets { lane, offsets } in lanes {
            if let Some(owned) = self.lanes.get_mut(&lane) {
                owned.group = offsets;
                owned.stage = Stage::Reading;
            }
        }
        let unread = in_stage(&self.lanes, Stage::Reading);
        if !unread.is_empty() {
            self.queue.push_back(self.read_state(unread));
        }
    }

    /// The state was read, or some of it: bring the lanes that can be to their manifests.
    pub(super) fn read(&mut self, lanes: Vec<StateFound>) {
        if !self.is_decided(&lanes) {
            return;
        }
        let mut plan = Plan::default();
        for found in lanes {
            if found.reached && self.lanes.contains_key(&found.lane) && !self.decide(found, &mut plan) {
                return;
            }
        }
        if let (Some(kept), false) = (plan.keep.first(), plan.undone.is_empty()) {
            let message = format!(
                "epoch {} of lane {} was committed, and that of lanes {:?} was not, though both were in one transaction: records of \
                 the state are lost. streamcore state verify FILE shows all lanes",
                kept.epoch, kept.lane, plan.undone
            );
            return self.exit(ExitCode::State, message);
        }
        self.queue_plan(plan);
    }

    /// Whether the outcome of the sealed epoch, if there is one, can be told of every lane that is in it.
    fn is_decided(&mut self, found: &[StateFound]) -> bool {
        let sealed = self.lanes.iter().filter(|(_, owned)| owned.sealed.is_some()).map(|(lane, _)| *lane);
        let sealed: Vec<Lane> = sealed.collect();
        if self.settings.has(Bug::DecideLaneByLane) {
            return true;
        }
        let mut ahead = false;
        for lane in sealed {
            let Some(of_lane) = found.iter().find(|found| found.lane == lane && found.reached) else { return false };
            if let Choice::Newest(newest) = choose(of_lane.manifests.clone(), self.settings.repair) {
                ahead |= self.is_read_again(lane, &newest);
            }
        }
        !ahead
    }

    /// Where the group is past the manifest, which may be read late: whether that is asked for once more.
    fn is_read_again(&mut self, lane: Lane, manifest: &Manifest) -> bool {
        let owned = self.lanes.get_mut(&lane).expect("asked by read");
        let again = compare(&owned.group, manifest) == Group::Ahead && owned.rereads < self.settings.rereads_max;
        if again {
            owned.rereads += 1;
            self.recover_at_ms = self.now_ms + self.settings.backoff_min_ms;
        }
        again
    }

    /// Decides what one lane goes on from; false: the run ends.
    fn decide(&mut self, found: StateFound, plan: &mut Plan) -> bool {
        let StateFound { lane, manifests, .. } = found;
        let evidence = format!("{manifests:?}");
        let manifest = match choose(manifests, self.settings.repair) {
            Choice::Empty => return self.decide_empty(lane, plan),
            Choice::Torn(torn) => {
                let message = format!(
                    "the state of lane {lane} is torn: epoch {} names blocks that are not there, though it was committed. \
                     Found: {evidence}. To go back to the newest complete epoch: streamcore state repair FILE",
                    torn.epoch
                );
                self.exit(ExitCode::State, message);
                return false;
            }
            Choice::Older { chosen, torn } => {
                let message = format!(
                    "lane {lane} is repaired: epoch {} is torn, {} is taken; rows of later epochs may come again",
                    torn.epoch, chosen.epoch
                );
                self.report(Level::Warning, message);
                self.lanes.get_mut(&lane).expect("asked by read").repaired = Some(torn.owner_epoch + 1);
                chosen
            }
            Choice::Newest(newest) => match self.check_group(lane, &newest, &evidence) {
                Ok(true) => newest,
                Ok(false) => return true,
                Err(()) => return false,
            },
        };
        self.plan_manifest(lane, manifest, plan);
        true
    }

    /// Holds a manifest against the group's offsets: `Ok(false)` reads again, `Err` ends the run.
    fn check_group(&mut self, lane: Lane, manifest: &Manifest, evidence: &str) -> Result<bool, ()> {
        if self.is_read_again(lane, manifest) {
            return Ok(false);
        }
        let group = self.lanes[&lane].group.clone();
        match compare(&group, manifest) {
            Group::Equal => Ok(true),
            Group::Behind => {
                let epoch = manifest.epoch;
                let group = shown(&group);
                let message = format!("lane {lane}: the group is at {group}, the manifest of epoch {epoch} wins");
                self.report(Level::Info, format!("{message}: {:?}", manifest.offsets));
                Ok(true)
            }
            Group::Ahead => {
                let group = shown(&group);
                let message = format!(
                    "lane {lane}: the group is at {group}, past every committed manifest. Found: {evidence}. State was lost, or \
                     the offsets were moved by hand"
                );
                self.exit(ExitCode::State, message);
                Err(())
            }
        }
    }

    /// A lane without a manifest begins empty, unless memory knows better.
    fn decide_empty(&mut self, lane: Lane, plan: &mut Plan) -> bool {
        let owned = self.lanes.get_mut(&lane).expect("asked by read");
        owned.stage = Stage::Restoring;
        match &owned.kept {
            Some(kept) if kept.epoch > 0 => {
                let message =
                    format!("lane {lane} had epoch {}, and its state partition holds no manifest now", kept.epoch);
                self.exit(ExitCode::State, message);
                return false;
            }
            Some(kept) => {
                plan.roll_back.push(lane);
                plan.undone.extend(owned.sealed.as_ref().map(|_| lane));
                plan.seek.push(Start { lane, offsets: kept.offsets.iter().copied().map(Some).collect() });
            }
            None if owned.group.iter().flatten().any(|offset| *offset > 0) => {
                let message = format!(
                    "lane {lane}: the group is at {}, and the state has no manifest: its topic was emptied or made again, or the group's \
                     offsets are of a run without it, under another delivery. Nothing was read; to go on from a savepoint: streamcore \
                     state restore FILE SAVEPOINT; to begin anew: streamcore state reset FILE",
                    shown(&owned.group)
                );
                self.exit(ExitCode::State, message);
                return false;
            }
            None => {
                plan.restore.push(RestoreLane { lane, manifest: None, trust_cache: false });
                let mut offsets = owned.group.clone();
                offsets.resize(self.settings.inputs, None);
                plan.seek.push(Start { lane, offsets });
            }
        }
        true
    }

    /// A lane goes on from a manifest: by what memory holds, where that is the same.
    fn plan_manifest(&mut self, lane: Lane, manifest: Manifest, plan: &mut Plan) {
        let at_group = self.settings.has(Bug::ResumeAtGroupOffset);
        let trust_cache = self.settings.has(Bug::TrustCache);
        let owned = self.lanes.get_mut(&lane).expect("asked by read");
        owned.stage = Stage::Restoring;
        let epoch = LaneEpoch { lane, owner_epoch: manifest.owner_epoch, epoch: manifest.epoch };
        let mut offsets: Vec<_> = manifest.offsets.iter().copied().map(Some).collect();
        if at_group && owned.group.len() == offsets.len() {
            offsets.clone_from(&owned.group);
        }
        plan.seek.push(Start { lane, offsets });
        plan.publish.push(epoch.clone());
        if owned.sealed.as_ref() == Some(&manifest) {
            owned.kept = owned.sealed.take();
            owned.repaired = None;
            self.failures = 0;
            plan.keep.push(epoch);
        } else if owned.kept.as_ref() == Some(&manifest) {
            plan.roll_back.push(lane);
            plan.undone.extend(owned.sealed.as_ref().map(|_| lane));
        } else {
            owned.kept = None;
            owned.sealed = None;
            plan.restore.push(RestoreLane { lane, manifest: Some(manifest), trust_cache });
        }
    }

    fn queue_plan(&mut self, plan: Plan) {
        let Plan { keep, roll_back, restore, publish, seek, .. } = plan;
        if self.begun && !roll_back.is_empty() {
            // Rows of live lanes that were sent early are taken back with the others, and come again.
            self.queue.push_back(Action::Abort { timeout_ms: 0 });
        }
        let steps = [
            (!keep.is_empty()).then_some(Action::Keep { lanes: keep }),
            (!roll_back.is_empty()).then_some(Action::Rollback { lanes: roll_back }),
            (!restore.is_empty()).then_some(Action::Restore { lanes: restore }),
            (!publish.is_empty()).then_some(Action::Publish { lanes: publish }),
            (!seek.is_empty()).then_some(Action::Seek { lanes: seek }),
        ];
        self.queue.extend(steps.into_iter().flatten());
    }

    /// The state is in place: it must be the one that was asked for.
    pub(super) fn restored(&mut self, asked: &[RestoreLane], restored: &[RestoredLane]) {
        for ask in asked {
            let Some(lane) = restored.iter().find(|lane| lane.lane == ask.lane) else {
                return self.misused(&format!("lane {} was not restored", ask.lane));
            };
            let empty = || Manifest {
                owner_epoch: 0,
                epoch: 0,
                offsets: Vec::new(),
                clock_ms: lane.clock_ms,
                digest: lane.digest,
                seal: 0,
                complete: true,
            };
            let manifest = ask.manifest.clone().unwrap_or_else(empty);
            if (manifest.digest, manifest.clock_ms) != (lane.digest, lane.clock_ms) && !ask.trust_cache {
                let message = format!(
                    "the restored state of lane {} is not that of its manifest: {lane:?}, {manifest:?}",
                    ask.lane
                );
                return self.exit(ExitCode::State, message);
            }
            if let Some(owned) = self.lanes.get_mut(&ask.lane) {
                owned.kept = Some(manifest);
            }
        }
    }

    /// Inputs are where they should be: these lanes are live.
    pub(super) fn sought(&mut self, lanes: Vec<LaneOffsets>) {
        for LaneOffsets { lane, offsets } in lanes {
            let Some(owned) = self.lanes.get_mut(&lane) else { continue };
            let Some(kept) = &mut owned.kept else { continue };
            if kept.epoch == 0 {
                kept.offsets = offsets;
            }
            owned.stage = Stage::Live;
        }
    }

    /// A step of recovery did not succeed: its lanes begin again, after a pause.
    pub(super) fn not_recovered(&mut self, step: &Action, error: ErrorClass, message: &str) {
        if matches!(error, ErrorClass::Fatal | ErrorClass::Fenced) {
            let code = if matches!(step, Action::Restore { .. }) { ExitCode::State } else { ExitCode::Failed };
            return self.exit(code, format!("{} failed ({error:?}): {message}", name(step)));
        }
        self.queue.clear();
        self.recover_at_ms = self.now_ms + self.settings.backoff_min_ms;
        let again: Vec<Lane> = match step {
            Action::Seek { lanes } => lanes.iter().map(|start| start.lane).collect(),
            _ => in_stage(&self.lanes, Stage::Restoring),
        };
        for lane in again {
            if let Some(owned) = self.lanes.get_mut(&lane) {
                owned.stage = Stage::Offsets;
            }
        }
    }
}
