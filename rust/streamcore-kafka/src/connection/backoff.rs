//! Pauses before something is tried again.
//!
//! `cluster.rs` keeps one for each broker. Invariant: a pause is between the least and the most of the settings, give or take a
//! fifth, so that clients which lost the same broker do not come back all at once.

use crate::config::Config;
use ring::rand::{SecureRandom, SystemRandom};
use std::time::Duration;

/// How far a pause is off at most, in percent.
const JITTER_PERCENT: u32 = 20;

/// Pauses that double.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// Those of the settings.
    #[must_use]
    pub const fn new(config: &Config) -> Self {
        Self { min: config.backoff_min, max: config.backoff_max, next: config.backoff_min }
    }

    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        let mut chance = [0x80];
        // Without chance it is a pause all the same.
        let _ = SystemRandom::new().fill(&mut chance);
        self.pause_by(chance[0])
    }

    fn pause_by(&mut self, chance: u8) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.max);
        let percent = 100 - JITTER_PERCENT + 2 * JITTER_PERCENT * u32::from(chance) / u32::from(u8::MAX);
        pause * percent / 100
    }

    /// Begins anew, after a success.
    pub const fn reset(&mut self) {
        self.next = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_most() {
        let milliseconds = |number| Duration::from_millis(number);
        let config = Config { backoff_min: milliseconds(100), backoff_max: milliseconds(350), ..Config::default() };
        let mut backoff = Backoff::new(&config);
        let pauses: Vec<_> = (0..4).map(|_| backoff.pause_by(128).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 350, 350]);
        assert_eq!(backoff.pause_by(0), milliseconds(280));
        assert_eq!(backoff.pause_by(255), milliseconds(420));
        backoff.reset();
        assert!((80..=120).contains(&backoff.pause().as_millis()));
    }
}
