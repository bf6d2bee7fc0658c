//! A worker's place in the group: joins and heartbeats in the background, callbacks only when polled.
//!
//! It forgets its member id in the background once the coordinator does not know it, as librdkafka does: metadata taken
//! then vouches for nobody. Invariant: what it owns changes only in `poll`.

use crate::requests::{Process, Refusal, Reply, Request, Time};
use crate::world::{REQUEST_TIMEOUT_MS, SESSION_MS, World};
use std::collections::BTreeSet;
use streamcore::checkpoint::machine::{Event as News, Lane};

/// How long a revocation may take.
const REVOKE_WITHIN_MS: u64 = 1_000;
const JOIN_TIMEOUT_MS: Time = 500;
/// Who needs all lanes waits so long for the group to be empty: a session, for a member that is dead.
const LOOK_MS: Time = SESSION_MS + 500;
const LOOK_AGAIN_MS: Time = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// It is asked whether the group is empty: the question that is out, when it was put, and when the first one was.
    Looking(u64, Time, Option<Time>),
    /// A join is to be sent.
    Outside,
    /// A join was sent: its request, and since when.
    Joining(u64, Time),
    /// The answer to the join is here, and not polled yet.
    Joined(BTreeSet<Lane>),
    /// The revocation is out; what is ours afterwards, and whether it was continuous.
    Revoked(BTreeSet<Lane>, bool),
    Stable,
}

pub struct Consumer {
    stage: Stage,
    /// 0: none.
    pub member: u64,
    pub generation: i64,
    pub owned: BTreeSet<Lane>,
    /// Member and generation of the last assignment.
    pub assigned: (u64, i64),
    /// Whether the executor can tell a generation's number.
    knows_generations: bool,
    is_lost: bool,
    /// Somebody else is in the group, which this worker needs to itself.
    pub is_refused: bool,
    heartbeat: u64,
}

impl Consumer {
    /// `is_alone`: it joins only a group that is empty.
    pub fn new(knows_generations: bool, is_alone: bool) -> Self {
        Self {
            stage: if is_alone { Stage::Looking(0, 0, None) } else { Stage::Outside },
            member: 0,
            generation: -1,
            owned: BTreeSet::new(),
            assigned: (0, -1),
            knows_generations,
            is_lost: false,
            is_refused: false,
            heartbeat: 0,
        }
    }

    fn is_continuous(&self) -> bool {
        self.knows_generations && self.assigned == (self.member, self.generation - 1)
    }

    /// The name the machine knows the member by.
    pub fn name(&self) -> String {
        self.member.to_string()
    }

    /// In the background, now and then.
    pub fn beat(&mut self, process: Process, world: &mut World) {
        if self.member != 0 && !self.is_lost && !matches!(self.stage, Stage::Joining(..)) {
            let (member, generation) = (self.member, self.generation);
            self.heartbeat = world.send(process, Request::Heartbeat { member, generation });
        }
    }

    /// In the background: whether the reply was for the consumer.
    pub fn reply(&mut self, id: u64, reply: &Reply, now: Time) -> bool {
        let is_join = matches!(self.stage, Stage::Joining(join, _) if join == id);
        if let (Stage::Looking(look, _, first), Reply::Members(count)) = (&mut self.stage, reply) {
            if *look == id {
                let first = *first;
                self.stage = if *count == 0 { Stage::Outside } else { Stage::Looking(0, now, first) };
            }
            return true;
        }
        if !is_join && id != self.heartbeat {
            return false;
        }
        match reply {
            Reply::Joined { member, generation, lanes } if is_join => {
                (self.member, self.generation) = (*member, *generation);
                self.stage = Stage::Joined(lanes.iter().copied().collect());
            }
            Reply::Refused(Refusal::UnknownMember) => {
                (self.member, self.generation) = (0, -1);
                self.is_lost = true;
            }
            Reply::Refused(Refusal::IllegalGeneration) => self.is_lost = true,
            Reply::Refused(Refusal::Rebalance) if self.stage == Stage::Stable => self.stage = Stage::Outside,
            _ => {}
        }
        true
    }

    /// What a poll brings: at most one callback.
    pub fn poll(&mut self, process: Process, world: &mut World) -> Option<News> {
        if self.is_lost {
            self.is_lost = false;
            self.stage = Stage::Outside;
            let lanes: Vec<Lane> = std::mem::take(&mut self.owned).into_iter().collect();
            return (!lanes.is_empty()).then_some(News::Lost { lanes });
        }
        match std::mem::replace(&mut self.stage, Stage::Stable) {
            Stage::Looking(look, at, first) => self.look((look, at, first), process, world),
            Stage::Outside => self.join(process, world),
            Stage::Joining(_, since) if world.now > since + JOIN_TIMEOUT_MS => self.join(process, world),
            Stage::Joined(lanes) => {
                let gone: Vec<Lane> = self.owned.difference(&lanes).copied().collect();
                if gone.is_empty() {
                    let continuous = self.is_continuous();
                    return Some(self.take(&lanes, continuous));
                }
                let continuous = self.is_continuous();
                self.stage = Stage::Revoked(lanes, continuous);
                return Some(News::Revoked { lanes: gone, within_ms: REVOKE_WITHIN_MS, continuous });
            }
            Stage::Revoked(lanes, continuous) => {
                let news = self.take(&lanes, continuous);
                self.stage = Stage::Outside;
                return Some(news);
            }
            stage => self.stage = stage,
        }
        None
    }

    /// Asks again who is in the group, once the last question is old enough.
    fn look(&mut self, (look, at, first): (u64, Time, Option<Time>), process: Process, world: &mut World) {
        let since = first.unwrap_or(world.now);
        let pause = if look == 0 { LOOK_AGAIN_MS } else { REQUEST_TIMEOUT_MS };
        self.is_refused = world.now > since + LOOK_MS;
        self.stage = if first.is_none() || world.now > at + pause {
            Stage::Looking(world.send(process, Request::Members), world.now, Some(since))
        } else {
            Stage::Looking(look, at, first)
        };
    }

    fn take(&mut self, lanes: &BTreeSet<Lane>, continuous: bool) -> News {
        self.assigned = (self.member, self.generation);
        let new = lanes.difference(&self.owned).copied().collect();
        self.owned.clone_from(lanes);
        News::Assigned { lanes: new, member: self.name(), continuous }
    }

    fn join(&mut self, process: Process, world: &mut World) {
        let owned = self.owned.iter().copied().collect();
        let request = Request::Join { member: self.member, generation: self.generation, owned };
        self.stage = Stage::Joining(world.send(process, request), world.now);
    }
}
