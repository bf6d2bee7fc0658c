//! Lanes come and go: assignments, revocations, and lanes that were lost.
//!
//! Before it: the consumer's callbacks. After it: `recovery` for lanes that came, `commit` for those that go.
//!
//! Invariant: an epoch is bound to the assignment it began with. Whatever takes a lane away without a commit ends the
//! epoch before any later metadata of the group could vouch for it: the coordinator checks who asks, not what is theirs.

use super::Machine;
use super::action::{Action, Level};
use super::event::Lane;
use super::lanes::{Owned, Stage, in_stage};
use super::settings::Bug;

impl Machine {
    /// New lanes: recovery begins at the next tick.
    pub(super) fn assigned(&mut self, lanes: Vec<Lane>, member: String, continuous: bool) {
        let keeps = self.settings.has(Bug::KeepStateOnLost);
        let is_other = !self.member.is_empty() && self.member != member;
        let unsaid: Vec<Lane> = if is_other {
            self.lanes.keys().copied().collect()
        } else {
            lanes.iter().copied().filter(|lane| self.lanes.contains_key(lane)).collect()
        };
        if !unsaid.is_empty() && !keeps {
            self.report(Level::Warning, format!("lanes {unsaid:?} were lost without a word: they are assigned anew"));
            self.lost(&unsaid);
        }
        if !continuous && !keeps && !self.settings.has(Bug::GroupMetadataFresh) {
            self.look_up_again();
        }
        self.member = member;
        self.recover_at_ms = self.now_ms;
        for lane in lanes {
            let now_ms = self.now_ms;
            self.lanes.entry(lane).or_insert_with(|| Owned::new(now_ms));
        }
    }

    /// The lanes may have been somebody else's for a while: take the epoch back and read their manifests. (Back at once:
    /// rows that wait would go out with the next epoch of other lanes.) Of lanes that are still being read the group's offsets
    /// are asked for anew too: what another has pending there, and may commit yet, began after they were.
    fn look_up_again(&mut self) {
        let live = in_stage(&self.lanes, Stage::Live);
        if !live.is_empty() {
            if self.begun {
                self.queue.push_back(Action::Abort { timeout_ms: 0 });
            }
            self.queue.push_back(Action::Rollback { lanes: live });
        }
        let now_ms = self.now_ms;
        let is_read = |owned: &&mut Owned| owned.stage != Stage::Offsets;
        self.lanes.values_mut().filter(is_read).for_each(|owned| owned.recover(now_ms));
    }

    /// Lanes are to go: commit within the bound, then let them.
    pub(super) fn revoked(&mut self, lanes: Vec<Lane>, within_ms: u64, continuous: bool) {
        self.leaving = lanes.into_iter().filter(|lane| self.lanes.contains_key(lane)).collect();
        if self.leaving.is_empty() {
            return;
        }
        self.deadline_ms = Some(self.now_ms + within_ms);
        let has_live = self.leaving.iter().any(|lane| self.lanes[lane].stage == Stage::Live);
        if !has_live || self.producer_needed_ms.is_some() {
            return;
        }
        if continuous || self.settings.has(Bug::GroupMetadataFresh) {
            self.queue.push_back(Action::Seal);
        } else {
            self.take_back();
        }
    }

    /// What could be committed of lanes that go is: forget them.
    pub(super) fn let_go(&mut self) {
        let leaving = std::mem::take(&mut self.leaving);
        let (clean, unknown): (Vec<Lane>, Vec<Lane>) = leaving.into_iter().partition(|lane| {
            self.lanes.get(lane).is_some_and(|owned| owned.stage == Stage::Live && owned.sealed.is_none())
        });
        for lane in clean.iter().chain(&unknown) {
            self.lanes.remove(lane);
            self.unpublished.remove(lane);
        }
        for (lanes, keep_cache) in [(clean, true), (unknown, false)] {
            if !lanes.is_empty() {
                self.queue.push_back(Action::Drop { lanes, keep_cache });
            }
        }
    }

    /// Lanes are gone already: nothing of them is committed.
    pub(super) fn lost(&mut self, lanes: &[Lane]) {
        if self.settings.has(Bug::KeepStateOnLost) {
            return;
        }
        let gone: Vec<Lane> = lanes.iter().copied().filter(|lane| self.lanes.contains_key(lane)).collect();
        if gone.is_empty() {
            return;
        }
        let was_begun = self.begun;
        let had_live = !in_stage(&self.lanes, Stage::Live).is_empty();
        for lane in &gone {
            self.lanes.remove(lane);
            self.unpublished.remove(lane);
        }
        if had_live {
            self.renew();
        }
        self.queue.push_back(Action::Drop { lanes: gone, keep_cache: false });
        if was_begun {
            self.queue.push_back(Action::Abort { timeout_ms: 0 });
        }
    }
}
