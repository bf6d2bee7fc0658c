//! What goes wrong in a run, and when: drawn from the seed before it begins.
//!
//! Invariant: a run's faults end before it is asked whether everything is right.

use crate::random::Random;
use crate::requests::Time;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL; started again after a while.
    Kill { worker: usize, away_ms: Time },
    /// SIGSTOP and SIGCONT.
    Pause { worker: usize, away_ms: Time },
    /// Nothing passes between the worker and the broker.
    Cut { worker: usize, away_ms: Time },
    /// So many of a thousand messages of the worker are lost, so many late.
    Slow { worker: usize, away_ms: Time, lost: u64, late: u64 },
    /// The broker is gone, and comes back with all it acknowledged.
    Broker { away_ms: Time },
    /// SIGTERM; started again after a while.
    Stop { worker: usize },
    /// The group's offset of a lane is moved back or deleted by hand.
    Reset { lane: usize, back: Option<i64> },
}

/// Which faults a run has most of. Every kind of bug has a weather that it cannot hide in for long.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    pub workers_min: u64,
    pub workers_max: u64,
    pub lanes_min: u64,
    /// Whether lanes share state: one worker has all of them, and another that waits may take its place.
    pub meets: bool,
    /// Of a thousand: markers that are late, moments in which a lane gets a record, in which its timer fires.
    pub late_markers: u64,
    pub inputs: u64,
    pub timers: u64,
    /// Of a thousand: requests that end a transaction and are held back for long, their replies and those to joins that
    /// are lost.
    pub held_ends: u64,
    pub lost_ends: u64,
    pub lost_joins: u64,
    /// Of a thousand: partitions of the state whose leader is silent for a while when they are to be read.
    pub silences: u64,
    /// Of a hundred faults: kills, pauses, cuts, slow links, broker restarts, stops; the rest are resets.
    shares: [u64; 6],
    /// How long a pause is, from and to.
    pause_ms: (Time, Time),
    /// Lost and late messages of a slow link, and how long it is slow, from and to.
    slow: (u64, u64),
    slow_ms: (Time, Time),
    /// How many faults, from and to.
    count: (u64, u64),
}

impl Weather {
    pub const COUNT: u64 = 6;
    /// Everything, now and then.
    pub const MIXED: u64 = 0;
    /// The network loses and delays, for moments: long enough for one call, too short for a session. Ends of transactions
    /// above all (the case that Jepsen describes).
    pub const NETWORK: u64 = 1;
    /// Workers sleep about as long as a session, and wake up as somebody else's.
    pub const SLEEPERS: u64 = 2;
    /// Lanes move while markers are on their way.
    pub const MARKERS: u64 = 3;
    /// Workers come and go, and answers to joins are lost.
    pub const CHURN: u64 = 4;
    /// Ends of transactions are held back or lost, and some partitions of the state answer later than others, while only some lanes
    /// get records: epochs whose outcome is unknown, and is known of one lane before it is of another.
    pub const DOUBTS: u64 = 5;

    /// By turns; in every fourth round lanes meet, and there partitions of the state often answer later than others.
    pub fn of(seed: u64) -> Self {
        let apart = Self::of_lanes_apart(seed);
        if !Self::has_meeting(seed) {
            return apart;
        }
        // One worker reads all of it; one that sleeps has to do so for longer until its place is taken.
        let (inputs, silences) = (apart.inputs.min(200), apart.silences.max(200));
        let pause_ms = (apart.pause_ms.0, apart.pause_ms.1 + 2_500);
        Self { meets: true, workers_min: 1, workers_max: 2, inputs, silences, pause_ms, ..apart }
    }

    /// Whether lanes meet in the run of a seed.
    pub fn has_meeting(seed: u64) -> bool {
        seed / Self::COUNT % 4 == 3
    }

    fn of_lanes_apart(seed: u64) -> Self {
        let mixed = Self {
            workers_min: 1,
            workers_max: 4,
            meets: false,
            lanes_min: 2,
            late_markers: 8,
            inputs: 600,
            timers: 40,
            held_ends: 5,
            lost_ends: 5,
            lost_joins: 5,
            silences: 0,
            shares: [18, 18, 14, 28, 8, 8],
            pause_ms: (200, 4_500),
            slow: (80, 150),
            slow_ms: (500, 4_000),
            count: (12, 24),
        };
        let sparse = Self { workers_min: 2, inputs: 100, timers: 120, ..mixed };
        match seed % Self::COUNT {
            Self::NETWORK => Self {
                shares: [10, 3, 3, 74, 4, 6],
                held_ends: 450,
                lost_ends: 150,
                slow: (200, 300),
                slow_ms: (60, 600),
                count: (20, 40),
                ..mixed
            },
            Self::SLEEPERS => Self {
                shares: [6, 70, 4, 10, 4, 6],
                pause_ms: (1_700, 3_000),
                count: (14, 24),
                inputs: 40,
                timers: 150,
                ..sparse
            },
            Self::MARKERS => Self { shares: [30, 10, 4, 10, 6, 38], late_markers: 300, ..sparse },
            Self::CHURN => Self {
                shares: [38, 5, 2, 8, 3, 38],
                slow_ms: (200, 1_500),
                count: (20, 36),
                workers_min: 3,
                lanes_min: 4,
                lost_joins: 650,
                ..mixed
            },
            Self::DOUBTS => Self {
                shares: [10, 4, 4, 66, 4, 12],
                held_ends: 450,
                lost_ends: 100,
                silences: 350,
                slow: (100, 300),
                slow_ms: (60, 600),
                lanes_min: 3,
                workers_min: 1,
                ..sparse
            },
            _ => mixed,
        }
    }

    /// Draws the faults of a run: when, and what.
    pub fn draw(&self, random: &mut Random, until: Time, workers: usize, lanes: usize) -> Vec<(Time, Fault)> {
        let count = random.between(self.count.0, self.count.1);
        let mut faults: Vec<(Time, Fault)> = (0..count)
            .map(|_| {
                let at = random.between(300, until);
                (at, self.fault(random, workers, lanes))
            })
            .collect();
        faults.sort_by_key(|(at, _)| *at);
        faults
    }

    fn fault(&self, random: &mut Random, workers: usize, lanes: usize) -> Fault {
        let worker = random.next() as usize % workers;
        let mut draw = random.between(0, 99);
        let kind = self.shares.iter().position(|share| {
            let is_it = draw < *share;
            draw = draw.saturating_sub(*share);
            is_it
        });
        match kind {
            Some(0) => Fault::Kill { worker, away_ms: random.between(50, 1_500) },
            Some(1) => Fault::Pause { worker, away_ms: random.between(self.pause_ms.0, self.pause_ms.1) },
            Some(2) => Fault::Cut { worker, away_ms: random.between(100, 3_500) },
            Some(3) => {
                let (lost, late) = self.slow;
                Fault::Slow { worker, away_ms: random.between(self.slow_ms.0, self.slow_ms.1), lost, late }
            }
            Some(4) => Fault::Broker { away_ms: random.between(50, 1_500) },
            Some(_) => Fault::Stop { worker },
            None => {
                let back = random.chance(500).then(|| random.between(0, 100) as i64);
                Fault::Reset { lane: random.next() as usize % lanes, back }
            }
        }
    }
}
