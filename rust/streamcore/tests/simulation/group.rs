//! The group coordinator: members, generations, cooperative assignment, offsets committed in transactions.
//!
//! Invariant: a lane is given to a member only when no other member that is still in the group holds it; and offsets of a
//! transaction count only from its marker on.

use crate::requests::{Process, Refusal, Reply, Time};
use std::collections::{BTreeMap, BTreeSet};
use streamcore::checkpoint::machine::Lane;

struct Member {
    heard: Time,
    owned: BTreeSet<Lane>,
    /// The join that waits for the others.
    waiting: Option<(Process, u64)>,
}

/// The one group.
pub struct Group {
    lanes: usize,
    generation: i64,
    members: BTreeMap<u64, Member>,
    next_member: u64,
    /// While joins are awaited: until when.
    rebalance_until: Option<Time>,
    committed: BTreeMap<Lane, i64>,
    /// Offsets of transactions without a marker, by producer id.
    pending: BTreeMap<u64, BTreeMap<Lane, i64>>,
}

/// Replies to joins.
pub type Replies = Vec<(Process, u64, Reply)>;

impl Group {
    pub fn new(lanes: usize) -> Self {
        Self {
            lanes,
            generation: 0,
            members: BTreeMap::new(),
            next_member: 0,
            rebalance_until: None,
            committed: BTreeMap::new(),
            pending: BTreeMap::new(),
        }
    }

    /// A member wants a place in the next generation; it is answered when the others have come too.
    pub fn join(&mut self, from: (Process, u64), member: u64, generation: i64, owned: &[Lane], now: Time) -> Replies {
        let rebalance_ms = 800;
        let is_known = self.members.contains_key(&member);
        if member != 0 && !is_known {
            return vec![(from.0, from.1, Reply::Refused(Refusal::UnknownMember))];
        }
        let member = if member == 0 {
            self.next_member += 1;
            self.next_member
        } else {
            member
        };
        let claims =
            if is_known && generation == self.generation { owned.iter().copied().collect() } else { BTreeSet::new() };
        self.members.insert(member, Member { heard: now, owned: claims, waiting: Some(from) });
        self.rebalance_until.get_or_insert(now + rebalance_ms);
        self.finish_if_complete(now)
    }

    /// Ends the rebalance if everybody has joined, or those who have not are late.
    pub fn finish_if_complete(&mut self, now: Time) -> Replies {
        let Some(until) = self.rebalance_until else { return Vec::new() };
        if now >= until {
            self.members.retain(|_, member| member.waiting.is_some());
        }
        if self.members.values().any(|member| member.waiting.is_none()) {
            return Vec::new();
        }
        self.rebalance_until = None;
        self.generation += 1;
        self.assign();
        let generation = self.generation;
        let answer = |(id, member): (&u64, &mut Member)| {
            member.heard = now;
            let (process, request) = member.waiting.take()?;
            let lanes = member.owned.iter().copied().collect();
            Some((process, request, Reply::Joined { member: *id, generation, lanes }))
        };
        self.members.iter_mut().filter_map(answer).collect()
    }

    /// Everybody keeps what is theirs up to a fair share; what nobody held goes to those with less.
    fn assign(&mut self) {
        let held: BTreeSet<Lane> = self.members.values().flat_map(|member| member.owned.iter().copied()).collect();
        let mut free: Vec<Lane> = (0..self.lanes as Lane).rev().filter(|lane| !held.contains(lane)).collect();
        let count = self.members.len().max(1);
        for (place, member) in self.members.values_mut().enumerate() {
            // Who has one more changes with every newcomer, so that lanes move between workers that live on.
            let place = (place + self.next_member as usize) % count;
            let share = self.lanes / count + usize::from(place < self.lanes % count);
            while member.owned.len() > share {
                member.owned.pop_last();
            }
            while member.owned.len() < share {
                let Some(lane) = free.pop() else { break };
                member.owned.insert(lane);
            }
        }
    }

    pub fn heartbeat(&mut self, member: u64, generation: i64, now: Time) -> Result<(), Refusal> {
        let known = self.members.get_mut(&member).ok_or(Refusal::UnknownMember)?;
        known.heard = now;
        if self.rebalance_until.is_some() {
            return Err(Refusal::Rebalance);
        }
        if generation == self.generation { Ok(()) } else { Err(Refusal::IllegalGeneration) }
    }

    pub fn leave(&mut self, member: u64, now: Time) {
        if self.members.remove(&member).is_some() {
            self.rebalance_until.get_or_insert(now + 800);
        }
    }

    /// How many are in it, whether they are there or not.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// Members that were not heard of for a session are out.
    pub fn scan(&mut self, now: Time, session: Time) -> Replies {
        let before = self.members.len();
        self.members.retain(|_, member| member.waiting.is_some() || now <= member.heard + session);
        if self.members.len() < before {
            self.rebalance_until.get_or_insert(now + 800);
        }
        self.finish_if_complete(now)
    }

    /// The coordinator has moved: sessions begin anew, joins are forgotten.
    pub fn restart(&mut self, now: Time) {
        for member in self.members.values_mut() {
            member.heard = now;
            member.waiting = None;
        }
        if self.rebalance_until.is_some() {
            self.rebalance_until = Some(now + 1600);
        }
    }

    /// Offsets of a transaction. Without a member and a generation nobody is refused, as by a real coordinator.
    pub fn commit(
        &mut self,
        producer: u64,
        member: u64,
        generation: i64,
        offsets: &[(Lane, i64)],
    ) -> Result<(), Refusal> {
        if member != 0 || generation >= 0 {
            self.members.get(&member).ok_or(Refusal::UnknownMember)?;
            if generation != self.generation {
                return Err(Refusal::IllegalGeneration);
            }
        }
        self.pending.entry(producer).or_default().extend(offsets.iter().copied());
        Ok(())
    }

    /// The marker of a transaction.
    pub fn mark(&mut self, producer: u64, commit: bool) {
        let offsets = self.pending.remove(&producer).unwrap_or_default();
        if commit {
            self.committed.extend(offsets);
        }
    }

    pub fn fetch(&self, lanes: &[Lane], stable: bool) -> Result<Vec<(Lane, Option<i64>)>, Refusal> {
        let is_pending = |lane: &Lane| self.pending.values().any(|offsets| offsets.contains_key(lane));
        if stable && lanes.iter().any(is_pending) {
            return Err(Refusal::Unstable);
        }
        Ok(lanes.iter().map(|lane| (*lane, self.committed.get(lane).copied())).collect())
    }

    /// An operator moves a lane's offset, or deletes it.
    pub fn reset(&mut self, lane: Lane, to: Option<i64>) {
        match to {
            Some(offset) if self.committed.get(&lane).is_some_and(|at| *at > offset) => {
                self.committed.insert(lane, offset);
            }
            _ => {
                self.committed.remove(&lane);
            }
        }
    }
}
