//! What the threads of a fetcher share: the partitions, and what is queued of them.
//!
//! `fetch.rs` assigns and takes, `leaders.rs` says who leads, `broker.rs` asks what to fetch and brings what came. One lock for all of it:
//! it is taken a few times for each answer, never for each record. Invariant: what comes of a request is taken only where the
//! partition still has the token and the position that were asked for, so nothing is handed out twice, and nothing of an
//! assignment that is over.

mod arrival;
mod partition;
mod taking;

pub use arrival::{Outcome, Rest, Set, scanned};
pub use partition::Partition;
#[cfg(test)]
pub use partition::add;
pub use taking::{Limits, Moved, Progress, Taken};

use super::session::Wanted;
use super::trouble::TroubleFault;
use super::{Assignment, Settings, TopicPartition};
use crate::cluster::View;
use crate::config::Address;
use crate::connection::Backoff;
use crate::failure::{Cause, Failure};
use kafka_protocol::ResponseError;
use partition::Standing;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the thread of a broker stays that has nothing to do.
const LINGER: Duration = Duration::from_secs(30);

/// How much sooner a broker answers that has no records, where partitions are left out of the request.
const HASTE: u32 = 20;

/// What the threads share.
#[derive(Debug)]
pub struct Shared {
    /// What holds for all.
    pub settings: Settings,
    state: Mutex<State>,
    /// Says that there is something to take.
    ready: Condvar,
    /// Says that there may be something to fetch, or room.
    work: Condvar,
    /// Says that a leader has to be found, or a thread started.
    errands: Condvar,
    /// Says that a thread ended.
    ended: Condvar,
}

/// What is behind the lock.
#[derive(Debug)]
pub struct State {
    partitions: BTreeMap<TopicPartition, Partition>,
    /// Those that have something queued and are not paused, the next to be taken from at the front.
    ready: VecDeque<TopicPartition>,
    /// The last token.
    token: u64,
    /// Pauses as they begin.
    backoff: Backoff,
    /// Where brokers listen.
    addresses: BTreeMap<i32, Address>,
    /// Brokers that have a thread.
    running: BTreeSet<i32>,
    /// Threads that did not end.
    threads: usize,
    /// Since when the queue has room.
    room_since: Instant,
    /// Whether the next `take` ends at once.
    is_woken: bool,
    is_stopped: bool,
}

/// What the broker is to be asked for.
#[derive(Debug)]
pub struct Plan {
    /// Partitions and from where on.
    pub wanted: Vec<Wanted>,
    /// Where it listens.
    pub address: Option<Address>,
    /// Most bytes of the answer.
    pub bytes_max: usize,
    /// How long it may wait for records.
    pub wait_max: Duration,
    /// Whether it must not send us to a replica.
    pub avoids_replicas: bool,
}

/// What the control thread has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Errand {
    /// Start the threads of these brokers.
    Start(Vec<i32>),
    /// Ask for the leaders of these topics.
    Look(Vec<Arc<str>>),
    /// End.
    Stop,
}

impl Shared {
    pub fn new(settings: Settings, backoff: Backoff) -> Self {
        let state = State {
            partitions: BTreeMap::new(),
            ready: VecDeque::new(),
            token: 0,
            backoff,
            addresses: BTreeMap::new(),
            running: BTreeSet::new(),
            threads: 0,
            room_since: Instant::now(),
            is_woken: false,
            is_stopped: false,
        };
        let [ready, work, errands, ended] = std::array::from_fn(|_| Condvar::new());
        Self { settings, state: Mutex::new(state), ready, work, errands, ended }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes on partitions; those that are there already begin anew.
    pub fn assign(&self, assignments: &[Assignment]) {
        let (now, mut state) = (Instant::now(), self.lock());
        for assignment in assignments {
            let (token, backoff) = (state.next_token(), state.backoff.clone());
            let partition = Partition::new(assignment, token, backoff, &self.settings, now);
            state.ready.retain(|place| *place != assignment.place);
            state.partitions.insert(assignment.place.clone(), partition);
        }
        self.changed();
    }

    /// Lets go of partitions, and of what is queued of them.
    pub fn revoke(&self, places: &[TopicPartition]) {
        let mut state = self.lock();
        for place in places {
            state.partitions.remove(place);
            state.ready.retain(|ready| ready != place);
        }
        self.changed();
    }

    /// Begins a partition at `offset` anew; false where it is not assigned.
    pub fn seek(&self, place: &TopicPartition, offset: i64) -> bool {
        let mut state = self.lock();
        let token = state.next_token();
        let Some(partition) = state.partitions.get_mut(place) else { return false };
        partition.seek(offset, token, Instant::now());
        state.ready.retain(|ready| ready != place);
        self.changed();
        true
    }

    /// Says where a partition is to end; what is queued of it is fetched again where that goes further. False where it is not assigned.
    pub fn stop_at(&self, place: &TopicPartition, stop: Option<i64>) -> bool {
        let mut state = self.lock();
        let token = state.next_token();
        let Some(partition) = state.partitions.get_mut(place) else { return false };
        partition.stop = stop;
        if stop.is_some_and(|stop| partition.planned > stop) {
            partition.seek(partition.taken, token, Instant::now());
            state.ready.retain(|ready| ready != place);
        }
        self.changed();
        true
    }

    /// Pauses partitions, or resumes them.
    pub fn pause(&self, places: &[TopicPartition], is_paused: bool) {
        let mut state = self.lock();
        for place in places {
            let Some(partition) = state.partitions.get_mut(place) else { continue };
            partition.is_paused = is_paused;
            partition.silent_since = Instant::now();
            let is_ready = !is_paused && !partition.queue.is_empty();
            state.ready.retain(|ready| ready != place);
            if is_ready {
                state.ready.push_back(place.clone());
            }
        }
        self.changed();
    }

    /// Tells all threads that something may be other than it was.
    fn changed(&self) {
        self.ready.notify_all();
        self.work.notify_all();
        self.errands.notify_all();
    }

    /// Ends all threads.
    pub fn stop(&self) {
        self.lock().is_stopped = true;
        self.changed();
    }

    /// A thread begins.
    pub fn thread_began(&self) {
        self.lock().threads += 1;
    }

    /// A thread ends.
    pub fn thread_ended(&self) {
        let mut state = self.lock();
        state.threads = state.threads.saturating_sub(1);
        self.ended.notify_all();
    }

    /// A broker has no thread after all: who needs it has another one started.
    pub fn not_running(&self, broker: i32) {
        self.lock().running.remove(&broker);
        self.errands.notify_all();
    }

    /// Waits until all threads ended; false where that takes longer.
    pub fn wait_for_threads(&self, longest: Duration) -> bool {
        let is_on = |state: &mut State| state.threads > 0;
        let waited = self.ended.wait_timeout_while(self.lock(), longest, is_on);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Waits for something that a broker has to be asked for; none where its thread is to end.
    pub fn wait_for_plan(&self, broker: i32) -> Option<Plan> {
        let (mut state, mut needed_at) = (self.lock(), Instant::now());
        loop {
            if state.is_stopped {
                return None;
            }
            let now = Instant::now();
            if let Some(plan) = state.plan(broker, &self.settings, now) {
                return Some(plan);
            }
            if state.partitions.values().any(|partition| partition.source(now) == Some(broker)) {
                needed_at = now;
            }
            let left = (needed_at + LINGER).saturating_duration_since(now);
            if left.is_zero() {
                // Under the lock: whoever needs it from now on starts another one.
                state.running.remove(&broker);
                return None;
            }
            state = self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What a broker has to be asked for, if that is anything now.
    pub fn plan(&self, broker: i32) -> Option<Plan> {
        self.lock().plan(broker, &self.settings, Instant::now())
    }

    /// Waits until the queue has room for more of a set; false where that is not wanted any more.
    pub fn wait_for_room(&self, set: &Set) -> bool {
        let is_full = |state: &mut State| {
            !state.is_stopped && state.is_current(set) && state.queued_bytes() >= self.settings.queued_bytes_max
        };
        let state = self.work.wait_while(self.lock(), is_full).unwrap_or_else(PoisonError::into_inner);
        !state.is_stopped && state.is_current(set)
    }

    /// Waits for something to do for the control thread. `refresh_at`: when the leaders are asked for in any case.
    pub fn wait_for_errand(&self, refresh_at: Instant) -> Errand {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if state.is_stopped {
                return Errand::Stop;
            }
            let (is_left, replica_until) = state.expire_replicas(now);
            if is_left {
                self.work.notify_all();
            }
            let missing = state.missing(now);
            if !missing.is_empty() {
                state.running.extend(&missing);
                return Errand::Start(missing);
            }
            let lost = state.partitions.values().filter_map(|partition| match partition.standing {
                Standing::Lost(at) => Some(at),
                _ => None,
            });
            let due = lost.chain((!state.partitions.is_empty()).then_some(refresh_at)).min();
            if due.is_some_and(|due| due <= now) {
                return Errand::Look(state.topics());
            }
            let next = due.into_iter().chain(replica_until).min();
            let left = next.map_or(LINGER, |next| next - now);
            state = self.errands.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes over who leads. `faults`: topics of which the cluster told an error.
    pub fn lead(
        &self,
        view: &View,
        faults: &[(String, ResponseError)],
        of_topic: impl Fn(&str, ResponseError) -> Failure,
    ) {
        let (now, mut state) = (Instant::now(), self.lock());
        state.addresses = view.brokers.values().map(|broker| (broker.id, broker.address.clone())).collect();
        let State { partitions, addresses, .. } = &mut *state;
        for (place, partition) in partitions {
            let fault = faults.iter().find(|(topic, _)| **topic == *place.topic);
            match fault {
                Some((topic, error)) => partition.topic_fault(of_topic(topic, *error), now),
                None => partition.look(view, addresses, now),
            }
        }
        self.changed();
    }

    /// The cluster cannot be asked: who waits for a leader goes on to, or stops where that is for good.
    pub fn leaderless(&self, failure: &Failure, is_final: bool) {
        let (now, mut state) = (Instant::now(), self.lock());
        for partition in state.partitions.values_mut() {
            if matches!(partition.standing, Standing::Lost(at) if at <= now) {
                partition.fail(failure.clone(), now);
                if is_final {
                    partition.stop_for(TroubleFault::Failed(failure.clone()));
                }
            }
        }
        self.changed();
    }

    /// A broker cannot be used: who fetches from it looks for another, or stops where that is for good.
    pub fn fail(&self, broker: i32, failure: &Failure, is_final: bool) {
        let (now, mut state) = (Instant::now(), self.lock());
        for partition in state.partitions.values_mut().filter(|partition| partition.source(now) == Some(broker)) {
            if partition.is_from_replica(broker) {
                partition.last_failure = Some(failure.clone());
                partition.leave_replica(now);
            } else if is_final {
                partition.last_failure = Some(failure.clone());
                partition.stop_for(TroubleFault::Failed(failure.clone()));
            } else if partition.standing == Standing::Led {
                partition.fail(failure.clone(), now);
            }
        }
        self.changed();
    }

    /// A thread broke down: that of a broker, or the one that finds leaders.
    pub fn panicked(&self, broker: Option<i32>, message: &str) {
        let (now, mut state) = (Instant::now(), self.lock());
        let is_hit = |partition: &&mut Partition| broker.is_none() || partition.source(now) == broker;
        for partition in state.partitions.values_mut().filter(is_hit) {
            partition.stop_for(TroubleFault::Panicked(message.to_owned()));
        }
        self.changed();
    }
}

impl State {
    const fn next_token(&mut self) -> u64 {
        self.token += 1;
        self.token
    }

    /// Bytes that are queued. What is paused does not count: it would keep room from all others.
    fn queued_bytes(&self) -> usize {
        let active = self.partitions.values().filter(|partition| !partition.is_paused);
        active.map(|partition| partition.queued_bytes).sum()
    }

    /// Whether the queue has room for another answer of each broker: half of it is for those.
    fn has_room(&self, settings: &Settings) -> bool {
        let active = self.partitions.values().filter(|partition| !partition.is_paused);
        active.map(Partition::held_bytes).sum::<usize>() < settings.queued_bytes_max.div_ceil(2)
    }

    /// Most bytes of a partition: it is left out while it holds as many.
    fn share(&self, settings: &Settings) -> usize {
        (settings.queued_bytes_max / self.partitions.len().max(1)).max(1)
    }

    fn plan(&self, broker: i32, settings: &Settings, now: Instant) -> Option<Plan> {
        if self.is_stopped || !self.has_room(settings) {
            return None;
        }
        let share = self.share(settings);
        let is_of = |partition: &&Partition| {
            let is_led = partition.standing == Standing::Led && partition.source(now) == Some(broker);
            is_led && partition.is_wanted() && partition.follows(broker)
        };
        let (wanted, full): (Vec<_>, Vec<_>) =
            self.partitions.values().filter(is_of).partition(|partition| partition.held_bytes() < share);
        if wanted.is_empty() {
            return None;
        }
        Some(Plan {
            address: self.addresses.get(&broker).cloned(),
            bytes_max: (settings.queued_bytes_max / (2 * self.running.len().max(1))).clamp(1, settings.fetch_bytes_max),
            // What is left out now may be wanted soon, and an answer is waited for before it can be asked for.
            wait_max: if full.is_empty() { settings.wait_max } else { settings.wait_max / HASTE },
            avoids_replicas: wanted.iter().any(|partition| partition.avoids_replicas(now)),
            wanted: wanted.into_iter().map(|partition| partition.wanted(share)).collect(),
        })
    }

    /// Goes back to leaders where a replica was believed for long enough: whether that was so, and when it will be next.
    fn expire_replicas(&mut self, now: Instant) -> (bool, Option<Instant>) {
        let (mut is_left, mut next) = (false, None);
        for partition in self.partitions.values_mut() {
            let was_on = partition.replica_until();
            partition.expire_replica(now);
            let until = partition.replica_until();
            is_left |= was_on.is_some() && until.is_none();
            next = [next, until].into_iter().flatten().min();
        }
        (is_left, next)
    }

    /// Brokers that are fetched from and have no thread.
    fn missing(&self, now: Instant) -> Vec<i32> {
        let led = self.partitions.values().filter(|partition| partition.standing == Standing::Led);
        let sources: BTreeSet<_> = led.filter_map(|partition| partition.source(now)).collect();
        sources.difference(&self.running).copied().collect()
    }

    fn topics(&self) -> Vec<Arc<str>> {
        let topics: BTreeSet<_> = self.partitions.keys().map(|place| Arc::clone(&place.topic)).collect();
        topics.into_iter().collect()
    }

    /// Whether a set is still what the partition waits for.
    fn is_current(&self, set: &Set) -> bool {
        let partition = self.partitions.get(&set.place);
        partition.is_some_and(|partition| partition.token == set.token && partition.position == set.offset)
    }
}

impl Partition {
    /// Takes over what the cluster knows of it.
    fn look(&mut self, view: &View, addresses: &BTreeMap<i32, Address>, now: Instant) {
        let (name, number) = (self.place.topic.to_string(), self.place.partition);
        let topic = view.topics.get(&name);
        match (self.topic_id, topic.and_then(|topic| topic.id)) {
            (Some(known), Some(found)) if known != found => {
                return self.stop_for(TroubleFault::OtherTopic { known, found });
            }
            (None, found) => self.topic_id = found,
            _ => {}
        }
        let known = topic.and_then(|topic| topic.leaders.get(&number));
        let leader = known.and_then(|leader| Some((leader.broker?, leader.epoch)));
        let leader = leader.filter(|(broker, _)| addresses.contains_key(broker));
        let is_due = matches!(self.standing, Standing::Lost(at) if at <= now);
        match leader {
            Some((broker, epoch)) if self.lead(broker, epoch) => {
                if is_due {
                    self.standing = Standing::Led;
                }
            }
            _ if !is_due => {}
            _ => {
                let no_leader = Cause::NoLeader { topic: name.clone(), partition: number };
                let none = Cause::NoPartition { topic: name, partition: number };
                let cause = if topic.is_none() || known.is_some() { no_leader } else { none };
                self.fail(Failure::new("(any)", cause), now);
            }
        }
    }

    /// The cluster told an error of its topic.
    fn topic_fault(&mut self, failure: Failure, now: Instant) {
        let is_due = matches!(self.standing, Standing::Lost(at) if at <= now);
        if let Cause::NotAllowed { .. } = *failure.cause {
            self.stop_for(TroubleFault::Failed(failure));
        } else if is_due {
            self.fail(failure, now);
        }
    }
}

#[cfg(test)]
mod tests;
