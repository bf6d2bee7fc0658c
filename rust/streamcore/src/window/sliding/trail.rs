//! What a group's next row counts: a queue of times that only grows at its end and shrinks at its front, with its total.
//!
//! `window/sliding.rs` adds the times as their rows leave. The total of a long queue is kept by the two stacks of
//! functional queues: those at the front know the total from each of them to the last of the front, those at the
//! back only one total; when the front is used up, the back becomes it. A time is merged at most three times in its
//! life, however long the window is. (Tangwongsan, Hirzel, Schneider: "Low-latency sliding-window
//! aggregation in worst-case constant time", DEBS 2017, which starts from them.) Aggregates that hold sets of
//! values would be held once for each time of the front, so they are merged anew for each row.
//! Invariant: `times` rise, and `front` has a total for each of the first of them, or there is none.

use super::EventsOf;
use crate::state::Slots;
use crate::window::aggregate::Accumulators;
use crate::window::{WindowPlan, no_accumulators};
use std::collections::VecDeque;

/// A queue of at most so many times is merged anew for each row: that takes less memory, and no more time.
const SHORT_MAX: usize = 8;

/// Times of a group and, where there are many, their totals.
#[derive(Debug, Clone, Default)]
pub struct Trail {
    times: VecDeque<i64>,
    totals: Option<Box<Totals>>,
}

/// Totals of a queue.
#[derive(Debug, Clone)]
struct Totals {
    /// Slot `i`: of the last `i + 1` times of the front, so the last slot is of all of it.
    front: Accumulators,
    /// Slot 0: of the times behind the front.
    back: Accumulators,
}

impl Totals {
    fn new(plan: &WindowPlan) -> Self {
        let mut back = no_accumulators(plan);
        back.push_empty();
        Self { front: no_accumulators(plan), back }
    }

    /// Makes all of `times` the front.
    fn turn(times: &VecDeque<i64>, events: &EventsOf<'_>, plan: &WindowPlan) -> Self {
        let (mut totals, mut running, mut key) = (Self::new(plan), no_accumulators(plan), Vec::new());
        running.push_empty();
        for (slot, time_ms) in (0..).zip(times.iter().rev()) {
            events.merge(*time_ms, &mut running, 0, &mut key);
            totals.front.push_empty();
            totals.front.merge(slot, &running, 0);
        }
        totals
    }
}

impl Trail {
    /// Adds a time whose row has left, later than all others.
    pub fn note(&mut self, time_ms: i64) {
        self.times.push_back(time_ms);
    }

    /// Lets the window go on to `[start_ms, time_ms]`, and adds its total to slot 0 of `total`, which is empty.
    pub fn advance(
        &mut self,
        (start_ms, time_ms): (i64, i64),
        events: &EventsOf<'_>,
        plan: &WindowPlan,
        total: &mut Accumulators,
    ) {
        self.begin(start_ms, events, plan);
        self.times.push_back(time_ms);
        let mut key = Vec::new();
        if let Some(totals) = &mut self.totals {
            events.merge(time_ms, &mut totals.back, 0, &mut key);
        } else if self.times.len() > SHORT_MAX && plan.aggregates.iter().all(|it| it.function.is_small()) {
            self.totals = Some(Box::new(Totals::turn(&self.times, events, plan)));
        }
        let Some(totals) = &self.totals else {
            return self.times.iter().for_each(|time_ms| events.merge(*time_ms, total, 0, &mut key));
        };
        if let Some(last) = (totals.front.len() as u32).checked_sub(1) {
            total.merge(0, &totals.front, last);
        }
        total.merge(0, &totals.back, 0);
    }

    /// Forgets the times before `start_ms`; tells whether none is left.
    pub fn begin(&mut self, start_ms: i64, events: &EventsOf<'_>, plan: &WindowPlan) -> bool {
        let gone = self.times.partition_point(|time_ms| *time_ms < start_ms);
        let front = self.totals.as_ref().map_or(0, |totals| totals.front.len());
        self.times.drain(..gone);
        if self.times.len() <= SHORT_MAX / 2 {
            self.totals = None;
        }
        match &mut self.totals {
            Some(totals) if gone < front => totals.front.truncate(front - gone),
            Some(totals) if gone > 0 => **totals = Totals::turn(&self.times, events, plan),
            _ => {}
        }
        self.times.is_empty()
    }

    /// Bytes held beside the struct, roughly.
    pub fn byte_len(&self) -> usize {
        let totals = self.totals.as_ref().map_or(0, |totals| totals.front.byte_len() + totals.back.byte_len());
        self.times.capacity() * size_of::<i64>() + totals
    }
}
