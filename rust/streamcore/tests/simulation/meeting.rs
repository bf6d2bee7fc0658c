//! What a worker tells its machine where lanes share state: of all lanes and what they share, or of none (`Meeting` in
//! `membership.py`).
//!
//! Invariant: the machine is never told of a part of what meets.

use crate::requests::{Layout, Time};
use streamcore::checkpoint::machine::{Event as News, Lane};

/// Workers that each have some of the lanes wait for each other, and nothing ends that but somebody who stops one after so long.
const PATIENCE_MS: Time = 5_000;

#[derive(Default)]
pub struct Meeting {
    /// Whether the machine was told of the lanes.
    has_met: bool,
    /// Whether another member has taken some, which ends this worker.
    pub is_taken: bool,
    /// Since when this worker has had some lanes, not all.
    partial_since: Option<Time>,
}

impl Meeting {
    /// What the machine is told instead of what the group says, when it has given this worker `owned` lanes.
    pub fn tell(&mut self, news: News, owned: usize, layout: Layout, now: Time) -> News {
        if !layout.meets {
            return news;
        }
        let all = |when: bool| -> Vec<Lane> { if when { layout.all().collect() } else { Vec::new() } };
        let since = self.partial_since.take();
        match news {
            News::Assigned { member, continuous, .. } => {
                let has_all = owned == layout.lanes;
                self.partial_since = (!has_all).then(|| since.unwrap_or(now));
                let are_new = has_all && !self.has_met;
                self.has_met |= are_new;
                News::Assigned { lanes: all(are_new), member, continuous }
            }
            News::Revoked { within_ms, continuous, .. } => {
                self.is_taken = true;
                News::Revoked { lanes: all(std::mem::take(&mut self.has_met)), within_ms, continuous }
            }
            News::Lost { .. } => News::Lost { lanes: all(std::mem::take(&mut self.has_met)) },
            news => news,
        }
    }

    /// Whether somebody has seen this worker wait for so long that they stop it.
    pub fn is_stuck(&self, now: Time) -> bool {
        self.partial_since.is_some_and(|since| now > since + PATIENCE_MS)
    }
}
