//! Everything outside the workers: the clock, the network, the broker, the inputs, what was published, and what was found
//! wrong.
//!
//! Invariant: nothing happens but by an event of the queue, in order of time, then of scheduling.

use crate::broker::{Broker, Effects};
use crate::disk::Disk;
use crate::faults::Weather;
use crate::oracle::Oracle;
use crate::random::Random;
use crate::requests::{Layout, Process, Reply, Request, Time};
use crate::transactions::Marker;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use streamcore::checkpoint::machine::Event as News;

pub const SESSION_MS: Time = 2_000;
pub const TRANSACTION_TIMEOUT_MS: Time = 3_000;
/// After so long a client sends a request again, and takes the connection for lost.
pub const REQUEST_TIMEOUT_MS: Time = 250;

/// What happens.
pub enum Event {
    Request { from: Process, id: u64, request: Request },
    Reply { to: Process, id: u64, reply: Reply },
    Wake { process: Process, wake: Wake },
    Mark(Marker),
    Scan,
    Input,
    Read,
    Fault(usize),
    Resume { worker: usize, life: u32 },
    Restart { worker: usize },
    Check,
}

/// What a worker waits for.
pub enum Wake {
    Step,
    Answer(News),
    Timeout(u64),
    Again,
    Resend,
    Heartbeat,
}

/// A worker's connection: cut until, slow until, and then how many of a thousand messages are lost, how many late.
#[derive(Clone, Copy, Default)]
pub struct Link {
    pub cut_until: Time,
    pub slow_until: Time,
    pub lost: u64,
    pub late: u64,
}

pub struct World {
    pub now: Time,
    pub layout: Layout,
    pub random: Random,
    pub broker: Broker,
    pub oracle: Oracle,
    pub disk: Disk,
    pub links: Vec<Link>,
    pub weather: Weather,
    /// No more faults, no more input: everything is to come to rest.
    pub is_quiet: bool,
    pub is_verbose: bool,
    queue: BinaryHeap<Reverse<(Time, u64)>>,
    events: BTreeMap<u64, Event>,
    next_event: u64,
    next_request: u64,
}

impl World {
    pub fn new(seed: u64, layout: Layout, workers: usize, weather: Weather, is_verbose: bool) -> Self {
        Self {
            now: 0,
            layout,
            random: Random::new(seed),
            broker: Broker::new(layout),
            oracle: Oracle::new(layout),
            disk: Disk::default(),
            links: vec![Link::default(); workers],
            weather,
            is_quiet: false,
            is_verbose,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            next_request: 0,
        }
    }

    pub fn schedule(&mut self, after: Time, event: Event) {
        self.next_event += 1;
        self.queue.push(Reverse((self.now + after, self.next_event)));
        self.events.insert(self.next_event, event);
    }

    pub fn next(&mut self) -> Option<Event> {
        let Reverse((time, id)) = self.queue.pop()?;
        self.now = time;
        self.events.remove(&id)
    }

    pub fn note(&self, who: impl std::fmt::Display, what: impl std::fmt::Display) {
        if self.is_verbose {
            use std::io::Write;
            let _ = writeln!(std::io::stdout(), "{:>7} {who}: {what}", self.now);
        }
    }

    /// Sends a request: it may be late, and it may be lost, as may its reply.
    pub fn send(&mut self, from: Process, request: Request) -> u64 {
        self.next_request += 1;
        let id = self.next_request;
        let is_end = matches!(request, Request::EndTransaction { .. });
        let is_held = is_end && !self.is_quiet && self.random.chance(self.weather.held_ends);
        let held = if is_held { self.random.between(REQUEST_TIMEOUT_MS, 2_500) } else { 0 };
        if let Some(delay) = self.delay(from.worker) {
            let delay = delay + held;
            self.schedule(delay, Event::Request { from, id, request });
        }
        id
    }

    /// How long a message takes; none: it is lost.
    fn delay(&mut self, worker: usize) -> Option<Time> {
        let link = self.links[worker];
        let is_slow = self.now < link.slow_until;
        if self.now < link.cut_until || (is_slow && self.random.chance(link.lost)) {
            return None;
        }
        // What is late has left the connection that its sender gave up: it arrives all the same.
        if is_slow && self.random.chance(link.late) {
            return Some(self.random.between(50, 2_500));
        }
        Some(self.random.between(1, 4))
    }

    pub fn at_broker(&mut self, from: Process, id: u64, request: Request) {
        if self.now < self.broker.down_until {
            return;
        }
        let lost = match request {
            Request::EndTransaction { .. } => self.weather.lost_ends,
            Request::Join { .. } => self.weather.lost_joins,
            _ => 0,
        };
        let is_lost = !self.is_quiet && self.random.chance(lost);
        let mut effects = self.broker.handle(from, id, request, self.now);
        if is_lost {
            effects.replies.retain(|(to, ..)| *to != from);
        }
        self.follow(effects);
    }

    /// Sends replies, schedules markers.
    pub fn follow(&mut self, effects: Effects) {
        for (to, id, reply) in effects.replies {
            if let Some(delay) = self.delay(to.worker) {
                self.schedule(delay, Event::Reply { to, id, reply });
            }
        }
        for marker in effects.markers {
            let late = !self.is_quiet && self.random.chance(self.weather.late_markers);
            let delay = if late { self.random.between(100, 2_500) } else { self.random.between(0, 8) };
            self.schedule(delay, Event::Mark(marker));
        }
    }

    pub fn mark(&mut self, marker: Marker) {
        if self.now < self.broker.down_until {
            let wait = self.broker.down_until - self.now;
            self.schedule(wait + 1, Event::Mark(marker));
        } else {
            self.broker.mark(marker);
        }
    }

    pub fn scan(&mut self) {
        if self.now >= self.broker.down_until {
            let effects = self.broker.scan(self.now, SESSION_MS, TRANSACTION_TIMEOUT_MS);
            self.follow(effects);
        }
        self.schedule(200, Event::Scan);
    }

    /// Whether a worker can fetch input now.
    pub fn reaches(&self, worker: usize) -> bool {
        self.now >= self.links[worker].cut_until && self.now >= self.broker.down_until
    }
}
