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
    /// Messages of the worker are late, and lost now and then.
    Slow { worker: usize, away_ms: Time },
    /// The broker is gone, and comes back with all it acknowledged.
    Broker { away_ms: Time },
    /// SIGTERM; started again after a while.
    Stop { worker: usize },
    /// The group's offset of a lane is moved back or deleted by hand.
    Reset { lane: usize, back: Option<i64> },
}

/// Draws the faults of a run: when, and what.
pub fn draw(random: &mut Random, count: u64, until: Time, workers: usize, lanes: usize) -> Vec<(Time, Fault)> {
    let mut faults: Vec<(Time, Fault)> = (0..count)
        .map(|_| {
            let at = random.between(300, until);
            let worker = random.next() as usize % workers;
            let fault = match random.between(0, 99) {
                0..18 => Fault::Kill { worker, away_ms: random.between(50, 1_500) },
                18..36 => Fault::Pause { worker, away_ms: random.between(200, 4_500) },
                36..50 => Fault::Cut { worker, away_ms: random.between(100, 3_500) },
                50..78 => Fault::Slow { worker, away_ms: random.between(500, 4_000) },
                78..86 => Fault::Broker { away_ms: random.between(50, 1_500) },
                86..94 => Fault::Stop { worker },
                _ => {
                    let back = random.chance(500).then(|| random.between(0, 100) as i64);
                    Fault::Reset { lane: random.next() as usize % lanes, back }
                }
            };
            (at, fault)
        })
        .collect();
    faults.sort_by_key(|(at, _)| *at);
    faults
}
