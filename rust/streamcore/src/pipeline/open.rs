//! Which windows with a given end are open, step by step, and what clock each waits for.
//!
//! `streamcore why` asks. Invariant: `over_at_ms` is a reading of the clock that the first window goes by, the lane's or
//! the one where lanes meet, also for windows behind others.

use super::Pipeline;
use super::meeting::Meeting;
use crate::combine::Combine;
use crate::lane::Lane;
use crate::merging::Merging;
use crate::plan::{StagePlan, StatefulKind, StatefulStep};
use crate::window::ends::{Ends, Open};

/// The open windows of one step with the end asked for, and the ends of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenWindow {
    /// The step.
    pub step: StatefulStep,
    /// The lane whose windows they are; none where lanes meet.
    pub lane: Option<i32>,
    /// The window, if it is open.
    pub found: Option<Open>,
    /// For each input the watermark that its lanes must reach for that window to be over, ms; none: nothing waits for them.
    pub inputs_ms: Vec<Option<i64>>,
    /// Ends of open windows nearest to it, ms, rising.
    pub nearest_ms: Vec<i64>,
}

impl Pipeline {
    /// Looks for windows that end at `end_ms`: in each window step of each lane, or of all where they meet.
    #[must_use]
    pub fn open_at(&self, end_ms: i64) -> Vec<OpenWindow> {
        let stateful = self.plan.stateful.iter().cloned();
        let windows: Vec<StatefulStep> = stateful.filter(|step| step.kind == StatefulKind::Window).collect();
        let none = || windows.iter().map(|_| Ends::new(end_ms)).collect::<Vec<_>>();
        // Behind a join all windows are of stages.
        let in_lanes = usize::from(self.plan.window().is_some());
        let see_lane =
            |lane: &Lane, ends: &mut [Ends]| ends.iter_mut().take(in_lanes).for_each(|ends| lane.held.see_open(ends));
        if windows.is_empty() {
            return Vec::new();
        }
        if self.plan.apart {
            let of_meeting = |(id, meeting): (&i32, &Meeting)| {
                let mut ends = none();
                meeting.stages().see_open(ends[in_lanes..].iter_mut());
                self.told(&windows, Some(*id), ends)
            };
            return self.meetings.iter().flat_map(of_meeting).collect();
        }
        if self.plan.hands_over() {
            // What is gathered leaves where it is handed over to.
            return Vec::new();
        }
        if self.plan.merges() {
            let of_partition = |merging: &Merging| {
                let mut ends = none();
                merging.see_open(&mut ends);
                self.told(&windows, Some(merging.id), ends)
            };
            return self.merging.values().flat_map(of_partition).collect();
        }
        if !self.plan.meets() {
            let of_lane = |lane: &Lane| {
                let mut ends = none();
                see_lane(lane, &mut ends);
                lane.stages().see_open(ends[in_lanes..].iter_mut());
                self.told(&windows, Some(lane.id), ends)
            };
            return self.lanes.values().flat_map(of_lane).collect();
        }
        let mut ends = none();
        self.lanes.values().for_each(|lane| see_lane(lane, &mut ends));
        self.combine.iter().for_each(|combine: &Combine| combine.see_open(&mut ends[0]));
        self.stages.see_open(ends[in_lanes..].iter_mut());
        self.meetings.values().for_each(|meeting| meeting.stages().see_open(ends[in_lanes..].iter_mut()));
        self.told(&windows, None, ends)
    }

    fn told(&self, windows: &[StatefulStep], lane: Option<i32>, ends: Vec<Ends>) -> Vec<OpenWindow> {
        let mut behind_ms = 0;
        let behind = |stage: &StagePlan| {
            behind_ms += stage.before.behind_ms() + stage.lag_ms();
            behind_ms
        };
        let first = self.plan.window().map(|_| 0);
        let behind: Vec<i64> = first.into_iter().chain(self.plan.stages.iter().map(behind)).collect();
        let told = |((step, mut ends), behind_ms): ((&StatefulStep, Ends), i64)| {
            let found = ends.found().map(|open| Open { over_at_ms: open.over_at_ms.saturating_add(behind_ms), ..open });
            let inputs_ms = found.map_or_else(Vec::new, |open| self.inputs_ms(open.over_at_ms));
            OpenWindow { step: step.clone(), lane, found, inputs_ms, nearest_ms: ends.nearest().collect() }
        };
        windows.iter().zip(ends).zip(behind).map(told).collect()
    }

    /// For each input the watermark that its lanes must reach for the clock where they meet to be at `over_at_ms`.
    fn inputs_ms(&self, over_at_ms: i64) -> Vec<Option<i64>> {
        match &self.plan.join {
            Some(step) => step.plan.asked_ms(over_at_ms).to_vec(),
            None => vec![Some(over_at_ms)],
        }
    }
}
