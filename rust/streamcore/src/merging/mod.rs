//! One partition of the topic of partials: what the input's lanes handed over for its group keys, merged.
//!
//! Before it: `lane`, in this or another process, which hands over an epoch as frames and a marker (`partials`). After it: the
//! stages behind the window. There is what each input lane would hold that meets others in its own process, and the same
//! `Combine` merges it. Frames wait for their marker, so an epoch of a lane is merged as a whole, and rows leave at every marker
//! that moves the minimum: what leaves follows from the records of the partition alone, but for clocks that run on with
//! the clock on the wall. Invariants: an epoch of a lane is merged once, and those of a lane in their order; the minimum is held until
//! all lanes were heard of; records in partials = merged + too late.

mod facts;
mod saved;

use crate::combine::{Combine, Meeting};
use crate::decode::time::TIME_MAX_MS;
use crate::error::{Error, Result};
use crate::flow::Held;
use crate::partials::frame::{self, Content, EpochOf, Frame, Marker, Told};
use crate::plan::Plan;
use crate::raw::RawBatch;
use crate::room::Usage;
use crate::stage::{Fired, StageOutput, Stages};
use crate::state::Contents;
use crate::watermark::{Minimum, minimum_of};
use crate::window::WindowPlan;
use crate::window::ends::Ends;
use crate::window::rows::ResultRows;
use facts::Waiting;
pub use facts::{Counts, Facts, InputFacts};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What leaves.
#[derive(Debug, Default)]
pub struct MergedOutput {
    /// Rows of windows that fired, where nothing stands behind them.
    pub windows: Vec<ResultRows>,
    /// What came of them in the stages behind.
    pub stages: StageOutput,
    /// Rows that are due are still to leave.
    pub more: bool,
}

impl MergedOutput {
    fn rows(&self) -> usize {
        self.windows.iter().map(ResultRows::len).sum::<usize>() + self.stages.rows()
    }
}

/// What is to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Nothing, as far as is known.
    Nothing,
    /// Clocks may have moved since rows last left.
    Due,
    /// The end of the input is under way.
    End,
}

/// The state of one partition of the topic.
#[derive(Debug)]
pub struct Merging {
    /// The partition.
    pub id: i32,
    window: Arc<WindowPlan>,
    combine: Combine,
    stages: Stages,
    /// What each input lane holds, by lane.
    held: BTreeMap<i32, Held>,
    /// All else that is saved; the same at the last commit.
    facts: Facts,
    committed: Facts,
    /// Input lanes of which something was held then.
    committed_lanes: BTreeSet<i32>,
    /// When each input lane was last heard of, by this process, ms.
    heard_at_ms: BTreeMap<i32, i64>,
    /// What is to leave next.
    next: Next,
    /// The latest time told, ms, and whether the partition was read to its end then.
    now_ms: i64,
    is_caught_up: bool,
    /// Epochs that are missing are passed over.
    accepts_gaps: bool,
    /// What the topic is called in errors.
    topic: Arc<str>,
}

impl Merging {
    /// Nothing yet. The plan has a window.
    #[must_use]
    pub fn new(id: i32, plan: &Plan, window: &Arc<WindowPlan>) -> Self {
        Self {
            id,
            window: window.clone(),
            combine: Combine::new(window),
            stages: Stages::new(&plan.stages, id),
            held: BTreeMap::new(),
            facts: Facts::default(),
            committed: Facts::default(),
            committed_lanes: BTreeSet::new(),
            heard_at_ms: BTreeMap::new(),
            next: Next::Nothing,
            now_ms: i64::MIN,
            is_caught_up: false,
            accepts_gaps: false,
            topic: "the topic of partials".into(),
        }
    }

    /// Epochs that are missing are passed over, and counted.
    pub fn accept_gaps(&mut self) {
        self.accepts_gaps = true;
    }

    /// Takes records in, and lets rows leave. Where `output` says that there is more, [`go_on`](Self::go_on) is to be called before
    /// others come.
    pub fn push(&mut self, plan: &Plan, raw: &RawBatch, now_ms: i64, output: &mut MergedOutput) -> Result<()> {
        self.now_ms = self.now_ms.max(now_ms);
        self.is_caught_up = false;
        self.topic.clone_from(&raw.topic);
        for row in 0..raw.len() {
            let Some(value) = raw.value(row) else {
                return Err(
                    self.at(raw.offset(row), &Error::state("a record without a value, which no lane hands over"))
                );
            };
            self.facts.inbox.push_back((raw.offset(row), value.into()));
        }
        self.go_on(plan, output)
    }

    /// Tells the time, and whether the partition was read to its end.
    pub fn advance(&mut self, plan: &Plan, now_ms: i64, is_caught_up: bool, output: &mut MergedOutput) -> Result<()> {
        self.now_ms = self.now_ms.max(now_ms);
        self.is_caught_up = is_caught_up;
        for lane in self.facts.inputs.keys() {
            self.heard_at_ms.entry(*lane).or_insert(now_ms);
        }
        if self.next == Next::Nothing {
            self.next = Next::Due;
        }
        self.go_on(plan, output)
    }

    /// Lets the next rows leave, and takes in the records that waited for them.
    pub fn go_on(&mut self, plan: &Plan, output: &mut MergedOutput) -> Result<()> {
        loop {
            if !self.let_leave(plan, output)? {
                output.more = true;
                return Ok(());
            }
            if self.facts.inbox.front().is_some() && output.rows() >= plan.limits.piece_rows.max(1) {
                output.more = true;
                return Ok(());
            }
            let Some((offset, value)) = self.facts.inbox.pop_front() else { return Ok(()) };
            self.take(plan, &value, output).map_err(|error| self.at(offset, &error))?;
        }
    }

    /// Lets all rows leave as if the input had ended, whatever lanes have told.
    pub fn end(&mut self, plan: &Plan, output: &mut MergedOutput) -> Result<()> {
        self.next = Next::End;
        self.go_on(plan, output)
    }

    fn at(&self, offset: i64, error: &Error) -> Error {
        Error::state(format!("partition {} of {} at offset {offset}: {}", self.id, self.topic, error.message))
    }

    /// Takes one record in.
    fn take(&mut self, plan: &Plan, value: &Arc<[u8]>, output: &mut MergedOutput) -> Result<()> {
        let Frame { epoch, partition, content } = frame::decode(value)?;
        self.check_address(plan, &epoch, partition)?;
        self.facts.counts.frames += 1;
        let known = self.facts.inputs.get(&epoch.lane);
        if known.is_some_and(|known| known.has_merged(&epoch)) {
            if known.is_some_and(|known| known.is_other(&epoch)) {
                let message =
                    format!("epoch {} of lane {} was handed over before, as another", epoch.number, epoch.lane);
                return Err(Error::state(message));
            }
            self.facts.counts.repeated += 1;
            return Ok(());
        }
        let waiting = self.facts.waiting.entry(epoch.lane).or_default();
        if waiting.epoch != Some(epoch) {
            if waiting.epoch.is_some() && !self.accepts_gaps {
                return Err(deleted(&format!("an epoch of lane {} has no marker before the next one", epoch.lane)));
            }
            *waiting = Waiting { epoch: Some(epoch), frames: Vec::new() };
        }
        let Content::Marker(marker) = content else {
            waiting.frames.push(value.clone());
            return Ok(());
        };
        let waiting = self.facts.waiting.remove(&epoch.lane).unwrap_or_default();
        let body = waiting.body(&marker)?;
        check_told(&epoch, &marker)?;
        self.check_order(&epoch)?;
        match body {
            Ok(body) => self.merge(plan, &epoch, &marker, &body, output),
            Err(_) if self.accepts_gaps => {
                // How far the lane was is known, and nothing else of the epoch.
                self.facts.counts.missing += 1;
                let marker = Marker { frames: 0, bytes: 0, events: 0, ..marker };
                self.merge(plan, &epoch, &marker, &[], output)
            }
            Err(message) => Err(deleted(&message)),
        }
    }

    /// A frame is of this pipeline, and for this partition of as many as all others.
    fn check_address(&mut self, plan: &Plan, epoch: &EpochOf, partition: u32) -> Result<()> {
        if plan.topic != Some(epoch.fingerprint) {
            return Err(Error::state(format!(
                "it is of another pipeline (fingerprint {:016x}, this one is {:016x}): its source, schema or steps differ",
                epoch.fingerprint,
                plan.topic.unwrap_or_default()
            )));
        }
        let partitions = *self.facts.partitions.get_or_insert(epoch.partitions);
        if partition as i32 != self.id || partitions != epoch.partitions {
            return Err(Error::state(format!(
                "it is for partition {partition} of {}, and here is {} of {partitions}: group keys would part",
                epoch.partitions, self.id
            )));
        }
        Ok(())
    }

    /// The epochs of a lane come one by one.
    fn check_order(&mut self, epoch: &EpochOf) -> Result<()> {
        let last = match self.facts.inputs.get(&epoch.lane) {
            Some(known) if known.generation == epoch.generation => known.number,
            // Lanes of another generation go on with numbers of others.
            Some(_) => return Ok(()),
            None => 0,
        };
        let missing = epoch.number - last - 1;
        if missing == 0 || self.accepts_gaps {
            self.facts.counts.missing += missing;
            return Ok(());
        }
        Err(deleted(&format!("epochs {} to {} of lane {} are missing", last + 1, epoch.number - 1, epoch.lane)))
    }

    /// Merges an epoch of a lane that is whole.
    fn merge(
        &mut self,
        plan: &Plan,
        epoch: &EpochOf,
        marker: &Marker,
        body: &[u8],
        output: &mut MergedOutput,
    ) -> Result<()> {
        let Some(mut rows) = plan.result_rows() else { return Ok(()) };
        let held = self.held.entry(epoch.lane).or_insert_with(|| Held::of_input(&self.window));
        let counts = &mut self.facts.counts;
        held.take_in(epoch.lane, body, self.accepts_gaps.then_some(&mut counts.incomplete))?;
        held.advance(marker.told.watermark_ms, None)?;
        let late_before = self.combine.late_after_combine();
        self.combine.take(std::iter::once(held), &mut rows)?;
        let late = self.combine.late_after_combine() - late_before;
        let counts = &mut self.facts.counts;
        counts.partials += marker.events;
        counts.late_after_combine += late;
        let Some(merged) = marker.events.checked_sub(late) else {
            return Err(Error::state("it counts fewer records than its windows have"));
        };
        counts.merged += merged;
        let retired = self.facts.hear(epoch, marker);
        self.heard_at_ms.insert(epoch.lane, self.now_ms);
        for lane in retired {
            // Nothing more comes of it.
            let Some(held) = self.held.get_mut(&lane) else { continue };
            held.advance(i64::MAX, None)?;
            self.combine.take(std::iter::once(held), &mut rows)?;
        }
        self.next = Next::Due;
        if rows.is_empty() { Ok(()) } else { self.pass_on(plan, rows, output).map(drop) }
    }

    /// Lets rows leave that are due; whether all have.
    fn let_leave(&mut self, plan: &Plan, output: &mut MergedOutput) -> Result<bool> {
        if self.next == Next::Due {
            let (Some(minimum), Some(mut rows)) = (self.minimum(plan), plan.result_rows()) else {
                self.next = Next::Nothing;
                return Ok(true);
            };
            let told = &self.facts.inputs;
            let is_idle = |lane: i32| !minimum.all_idle && told.get(&lane).is_some_and(|input| input.told.is_idle());
            let lanes = self.held.iter_mut().map(|(lane, held)| Meeting { held, is_idle: is_idle(*lane) });
            let has_left = self.combine.advance(&mut lanes.collect::<Vec<_>>(), minimum, &mut rows)?;
            if !self.pass_on(plan, rows, output)? || !has_left {
                return Ok(false);
            }
            self.next = Next::Nothing;
            if self.facts.is_ended() && self.facts.has_news {
                self.next = Next::End;
            } else if self.facts.is_ended() {
                // Lanes that end once more, with nothing new, let no row leave again.
                self.facts.note_end();
            }
        }
        Ok(self.next != Next::End || self.end_piece(plan, output)?)
    }

    /// Takes rows through the stages behind; whether all that came of them has left.
    fn pass_on(&mut self, plan: &Plan, rows: ResultRows, output: &mut MergedOutput) -> Result<bool> {
        if self.stages.is_empty() {
            output.windows.push(rows);
            return Ok(true);
        }
        let fired = Fired::Windows { rows: Box::new(rows), ends: self.combine.ends() };
        self.stages.advance(&plan.stages, fired, self.combine.left_ms(), &mut output.stages)
    }

    /// The next rows of the end of the input; whether all have left.
    fn end_piece(&mut self, plan: &Plan, output: &mut MergedOutput) -> Result<bool> {
        let Some(mut rows) = plan.result_rows() else { return Ok(true) };
        let (combine, held) = (&mut self.combine, &self.held);
        let is_over = if self.stages.is_empty() {
            let is_over = combine.end(held.values(), &mut rows)?;
            output.windows.push(rows);
            is_over
        } else {
            let ends = combine.ends();
            let fire = || {
                let have_left = combine.end(held.values(), &mut rows)?;
                Ok((vec![Fired::Windows { rows: Box::new(rows), ends }], have_left))
            };
            self.stages.end(&plan.stages, fire, &mut output.stages)?
        };
        if is_over {
            self.next = Next::Nothing;
            self.facts.note_end();
        }
        Ok(is_over)
    }

    /// The minimum over the input's lanes, once all were heard of.
    fn minimum(&self, plan: &Plan) -> Option<Minimum> {
        if !self.facts.is_complete() {
            return None;
        }
        let told = self.facts.inputs.values().map(|input| &input.told);
        let mut minimum =
            minimum_of(told.map(|told| (told.watermark_ms, told.max_event_time_ms.is_some(), told.is_idle())));
        if minimum.all_idle && self.is_caught_up && plan.own().clock.advance_when_idle {
            let running_on = self.facts.inputs.iter().filter_map(|(lane, input)| {
                let (max_ms, bound_ms) = (input.told.max_event_time_ms?, plan.own().clock.out_of_orderness_ms?);
                let since_ms = self.heard_at_ms.get(lane).map_or(0, |heard_ms| (self.now_ms - heard_ms).max(0));
                let quiet_ms = input.told.quiet_ms.unwrap_or(0).saturating_add(since_ms);
                Some(input.told.watermark_ms.max((max_ms - bound_ms - 1).saturating_add(quiet_ms).min(TIME_MAX_MS)))
            });
            minimum.active_ms = running_on.min().map_or(minimum.active_ms, |least| least.max(minimum.active_ms));
        }
        Some(minimum)
    }

    /// Ends the epoch: changed rows leave, and all of an end under way. Gives the digest.
    pub fn seal(&mut self, plan: &Plan, output: &mut MergedOutput) -> Result<u64> {
        while self.next == Next::End && !self.end_piece(plan, output)? {}
        let mut digest = 0_u64;
        if let Some(mut rows) = plan.result_rows() {
            digest = self.combine.seal(&mut rows)?;
            if !rows.is_empty() {
                output.windows.push(rows);
            }
        }
        digest ^= self.stages.seal(&plan.stages, &mut output.stages)?.rotate_left(3);
        for (lane, held) in &mut self.held {
            let place = (*lane as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            digest = digest.wrapping_add(held.seal(None)?.wrapping_mul(place | 1));
        }
        self.facts.counts.check(self.id)?;
        Ok(digest.wrapping_add(self.facts.digest()))
    }

    /// Keeps the epoch.
    pub fn commit(&mut self) {
        self.committed.clone_from(&self.facts);
        self.committed_lanes = self.held.keys().copied().collect();
        self.combine.commit();
        self.stages.commit();
        self.held.values_mut().for_each(Held::commit);
    }

    /// Takes the epoch back.
    pub fn rollback(&mut self) {
        self.facts.clone_from(&self.committed);
        self.combine.rollback();
        self.stages.rollback();
        let lanes = &self.committed_lanes;
        self.held.retain(|lane, _| lanes.contains(lane));
        self.held.values_mut().for_each(Held::rollback);
        self.next = Next::Due;
    }

    /// What is known of the input's lanes.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Where the records went.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.facts.counts
    }

    /// The minimum watermark fired at, ms.
    #[must_use]
    pub fn watermark_ms(&self) -> i64 {
        self.combine.watermark_ms()
    }

    /// Whether the partition had been read to its end when the time was last told.
    #[must_use]
    pub const fn is_caught_up(&self) -> bool {
        self.is_caught_up
    }

    /// The stages behind.
    #[must_use]
    pub fn stages(&self) -> &Stages {
        &self.stages
    }

    /// Windows that have rows and are not over.
    #[must_use]
    pub fn open_windows(&self) -> usize {
        let held: usize = self.held.values().map(Held::open_windows).sum();
        held + self.combine.open_windows() + self.stages.open_windows()
    }

    /// Shows the open windows: the first of `ends` those that are merged here, the others those of the stages behind.
    pub fn see_open(&self, ends: &mut [Ends]) {
        let Some((first, behind)) = ends.split_first_mut() else { return };
        self.held.values().for_each(|held| held.see_open(first));
        self.combine.see_open(first);
        self.stages.see_open(behind.iter_mut());
    }

    /// What the rows of windows come to.
    #[must_use]
    pub fn contents(&self) -> Contents {
        let mut contents = self.combine.contents();
        self.held.values().for_each(|held| contents += held.contents());
        contents += self.stages.contents();
        contents
    }

    /// What is held: of the window, and of each step behind it.
    pub fn usages(&mut self) -> Vec<Usage> {
        let held: Usage = self.held.values_mut().flat_map(Held::usages).sum();
        let window = self.combine.usage() + held + Usage::bytes(self.facts.byte_len());
        let mut usages = vec![window];
        usages.extend(self.stages.usages());
        usages
    }
}

/// Something is missing that was handed over.
fn deleted(what: &str) -> Error {
    Error::state(format!(
        "{what}: partials were deleted before they were read, so windows would lack their records; --accept-gap goes on \
         without them"
    ))
}

/// A marker tells what a lane can.
fn check_told(epoch: &EpochOf, marker: &Marker) -> Result<()> {
    let Told { watermark_ms, max_event_time_ms, quiet_ms, lanes, .. } = marker.told;
    let is_time = |time_ms: i64| (-TIME_MAX_MS..=TIME_MAX_MS).contains(&time_ms);
    let is_possible = watermark_ms <= TIME_MAX_MS
        && max_event_time_ms.is_none_or(is_time)
        && quiet_ms.is_none_or(|quiet_ms| quiet_ms >= 0);
    if is_possible && (epoch.lane as u32) < lanes {
        return Ok(());
    }
    Err(Error::state(format!("it tells of lane {} of {lanes} what none can: {:?}", epoch.lane, marker.told)))
}
