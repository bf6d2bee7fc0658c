//! Lanes whose keys become those of other lanes.
//!
//! `pipeline/rescaled.rs` calls it, and says which key goes where and what the clocks show. Invariant: the sum of the ledgers is what it was.

use super::Lane;
use crate::error::Result;
use crate::flow::Held;
use crate::plan::Plan;
use crate::stage::Stages;
use crate::state::{Contents, RouteOf};
use crate::watermark::Clock;

impl Lane {
    /// What the rows of the lane's own windows come to, and those of the stages behind.
    #[must_use]
    pub fn contents(&self) -> Contents {
        let mut contents = self.held.contents();
        contents += self.stages.contents();
        contents
    }

    /// `count` lanes, from 0, with the keys of `olds`. `route` is given the number of the window, the place of the old lane and the
    /// key. What a lane counted goes to the one with its number, or where they are counted through from 0 again.
    pub fn moved(
        olds: &[&Self],
        plan: &Plan,
        (count, clock): (usize, &Clock),
        route: &mut RouteOf<'_>,
        contents: &mut Contents,
    ) -> Result<Vec<Self>> {
        let held: Vec<&Held> = olds.iter().map(|old| &old.held).collect();
        let stages: Vec<&Stages> = olds.iter().map(|old| &old.stages).collect();
        let steps = &plan.inputs[0].steps;
        let mut of_first = |lane: usize, key: &[u8]| route(0, lane, key);
        let held = Held::moved(&held, (steps, plan.combine), count, &mut of_first, contents)?;
        let mut of_stage = |stage: usize, lane: usize, key: &[u8]| route(stage + 1, lane, key);
        let stages = Stages::moved(&stages, plan.lane_stages(), count, &mut of_stage, contents)?;
        let mut news: Vec<Self> = (0..count).map(|lane| Self::new(lane as i32, plan)).collect();
        for ((new, held), stages) in news.iter_mut().zip(held).zip(stages) {
            (new.held, new.stages, new.clock) = (held, stages, clock.clone());
        }
        for (lane, old) in olds.iter().enumerate() {
            news[lane % count].ledger.add(&old.ledger);
        }
        news.iter_mut().for_each(Self::commit);
        Ok(news)
    }
}
