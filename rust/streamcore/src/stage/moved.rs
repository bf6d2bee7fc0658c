//! The stages behind the windows of some lanes, as those of others.
//!
//! `lane/moved.rs` calls it. Invariant: what a stage has been told of in every lane is all that one of a new lane has been told of, so
//! that rows still to come from windows that have not left find it in time.

use super::{Stage, Stages};
use crate::error::Result;
use crate::flow::Held;
use crate::plan::StagePlan;
use crate::state::{Contents, RouteOf};

impl Stages {
    /// What the windows' rows come to.
    #[must_use]
    pub fn contents(&self) -> Contents {
        let mut contents = Contents::default();
        self.stages.iter().for_each(|stage| contents += stage.held.contents());
        contents
    }

    /// Those of `count` lanes, with the keys of `olds`. `route` is given the number of the stage too.
    pub fn moved(
        olds: &[&Self],
        plans: &[StagePlan],
        count: usize,
        route: &mut RouteOf<'_>,
        contents: &mut Contents,
    ) -> Result<Vec<Self>> {
        let mut news: Vec<Self> = (0..count).map(|lane| Self::new(plans, lane as i32)).collect();
        for (number, plan) in plans.iter().enumerate() {
            let stages: Vec<&Stage> = olds.iter().map(|old| &old.stages[number]).collect();
            let held: Vec<&Held> = stages.iter().map(|stage| &stage.held).collect();
            let mut of_stage = |lane: usize, key: &[u8]| route(number, lane, key);
            let moved = Held::moved(&held, (&plan.steps, false), count, &mut of_stage, contents)?;
            let told = stages.iter().map(|stage| stage.watermark_ms).filter(|watermark_ms| *watermark_ms > i64::MIN);
            let watermark_ms = told.min().unwrap_or(i64::MIN);
            for (new, held) in news.iter_mut().zip(moved) {
                let stage = &mut new.stages[number];
                (stage.held, stage.watermark_ms) = (held, watermark_ms);
            }
            for (lane, old) in stages.iter().enumerate() {
                news[lane % count].stages[number].ledger.add(&old.ledger);
            }
        }
        Ok(news)
    }
}
