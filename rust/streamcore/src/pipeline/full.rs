//! What a pipeline holds, step by step, and the end of a run that would hold too much.
//!
//! `pipeline.rs` asks after whatever adds state. Where rows are shed, each lane keeps within the bound by itself; what is
//! asked here is then only whether values, or windows that wait for other lanes, have outgrown what all lanes may hold.
//! Invariant: an epoch after which the state is beyond its bound is never sealed.

use super::meeting::Meeting;
use super::{OutputBatch, Pipeline};
use crate::combine::Combine;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{StatefulKind, StatefulStep};
use crate::room::Usage;
use crate::spec::OnFullSpec;

/// Part of the bound on bytes that undoing the epoch may take before it is to be committed.
const UNDO_SHARE: u64 = 4;

impl Pipeline {
    /// What each step that keeps state holds, in all lanes and where they meet.
    pub fn usages(&mut self) -> Vec<(StatefulStep, Usage)> {
        let usages = self.sums();
        self.plan.stateful.iter().cloned().zip(usages).collect()
    }

    /// The same without the steps.
    fn sums(&mut self) -> Vec<Usage> {
        let mut usages = vec![Usage::default(); self.plan.stateful.len()];
        let of_own = self.plan.own().steps.iter().filter(|step| step.keeps_state()).count();
        for (id, lane) in &mut self.lanes {
            let first = if self.plan.input_of(*id) == 0 { 0 } else { of_own };
            usages[first..].iter_mut().zip(lane.usages()).for_each(|(sum, usage)| *sum += usage);
        }
        for merging in self.merging.values_mut() {
            // Nothing is held of the steps before the window.
            let first = of_own.saturating_sub(1);
            usages[first..].iter_mut().zip(merging.usages()).for_each(|(sum, usage)| *sum += usage);
        }
        let behind = self.stages.usages();
        let meeting = usages.len() - behind.len();
        usages[meeting..].iter_mut().zip(behind).for_each(|(sum, usage)| *sum += usage);
        if let Some(usage) = self.combine.as_mut().map(Combine::usage) {
            usages[meeting - 1] += usage;
        }
        for (joined, behind) in self.meetings.values_mut().map(Meeting::usages) {
            let first = usages.len() - behind.len();
            usages[first - 1] += joined;
            usages[first..].iter_mut().zip(behind).for_each(|(sum, usage)| *sum += usage);
        }
        usages
    }

    /// Bytes of state of all lanes, roughly.
    pub fn state_bytes(&mut self) -> u64 {
        self.sums().iter().map(|usage| usage.bytes).sum()
    }

    /// Whether going back to the last commit takes so much that the epoch is to be committed.
    pub fn is_due(&mut self) -> bool {
        let undo_bytes: u64 = self.sums().iter().map(|usage| usage.undo_bytes).sum();
        undo_bytes > self.plan.limits.state_bytes_max / UNDO_SHARE
    }

    /// Bytes of state that the epoch has changed or added, roughly: what a commit of the changes writes, before it is
    /// compressed. Windows on their way to where lanes meet in a topic count twice, as they go with the commit.
    pub fn changed_bytes(&mut self) -> u64 {
        self.held_bytes().saturating_sub(self.committed_bytes)
    }

    /// Bytes of state, and of what it takes to go back to the last commit.
    pub(super) fn held_bytes(&mut self) -> u64 {
        self.sums().iter().map(|usage| usage.bytes + usage.undo_bytes).sum()
    }

    /// Lanes that come or go with their state are no change of the epoch.
    pub(super) fn beside_changes<T>(&mut self, change: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.held_bytes();
        let done = change(self);
        self.committed_bytes = (self.committed_bytes + self.held_bytes()).saturating_sub(before);
        done
    }

    /// Makes sure that the state is within its bounds; an error is of kind `Full`. Appends rows that leave meanwhile. While
    /// rows are still to leave nothing is asked: windows that go with the last of them are still there.
    pub(super) fn check_full(&mut self, outputs: &mut Vec<OutputBatch>) -> Result<()> {
        if self.has_more() || self.excess().is_none() {
            return Ok(());
        }
        // What a lane has not handed over yet may be counted there and where lanes meet.
        outputs.extend(self.merge()?);
        self.excess().map_or(Ok(()), |message| Err(Error::new(ErrorKind::Full, message)))
    }

    /// What is beyond its bound, if anything is.
    fn excess(&mut self) -> Option<String> {
        let usages = self.sums();
        let (limits, steps) = (&self.plan.limits, &self.plan.stateful);
        let shed = limits.on_full == OnFullSpec::Shed;
        let what = steps.iter().zip(&usages).find_map(|(step, usage)| self.many(step, usage));
        let what = what.or_else(|| self.large(usages.iter().map(|usage| usage.bytes).sum()))?;
        let told = |(step, usage): (&StatefulStep, &Usage)| {
            let entries = match self.join_rows().filter(|_| step.kind == StatefulKind::Join) {
                Some([left, right]) => format!("{left} rows of the left side of the join and {right} of the right one"),
                None => format!("{} {}", usage.entries, step.kind.entries()),
            };
            format!("{step}: {entries}, {} bytes", usage.bytes)
        };
        let held: Vec<String> = steps.iter().zip(&usages).map(told).collect();
        Some(format!("{what} ({}); {}", held.join(", "), advice(shed, self.plan.join.is_some())))
    }

    /// That `step` holds more entries than may be. Where rows are shed, only those of a side of a join are asked for that
    /// sheds none: its lanes may hold as many each.
    fn many(&self, step: &StatefulStep, usage: &Usage) -> Option<String> {
        let limits = &self.plan.limits;
        let keys_max = limits.keys_max?;
        let (held, lanes, what) = match (step.kind, limits.on_full) {
            (StatefulKind::Dedupe, _) | (StatefulKind::Window, OnFullSpec::Shed) => return None,
            (StatefulKind::Join, OnFullSpec::Shed) => {
                let (held, lanes) = self.kept_rows()?;
                (held, lanes, format!("rows of the right side for each of its {}", lanes_text(lanes)))
            }
            (kind, OnFullSpec::Stop) => (usage.entries, 1, kind.entries().to_owned()),
        };
        let is_over = held > keys_max.saturating_mul(lanes);
        is_over.then(|| format!("{step} would hold more than limits.max_keys = {keys_max} {what}"))
    }

    /// That `bytes` of state are more than may be. Where rows are shed, each lane has the bound, and what is not shed may
    /// take as much again.
    fn large(&self, bytes: u64) -> Option<String> {
        let (limit, lanes) = (self.plan.limits.state_bytes_max, (self.lanes.len() + self.merging.len()).max(1) as u64);
        let (times, what) = match self.plan.limits.on_full {
            OnFullSpec::Shed => (2 * lanes, format!(" for each of {}, and as much again", lanes_text(lanes))),
            OnFullSpec::Stop => (1, String::new()),
        };
        let is_over = bytes > limit.saturating_mul(times);
        is_over.then(|| format!("the state would take more than limits.max_state_bytes = {limit}{what}"))
    }
}

fn lanes_text(lanes: u64) -> String {
    if lanes == 1 { "1 lane".to_owned() } else { format!("{lanes} lanes") }
}

/// What to do about a state that is beyond its bound.
const fn advice(shed: bool, joins: bool) -> &'static str {
    match (shed, joins) {
        (true, false) => {
            "what the values of its keys grow to, or windows that wait for a slower lane, cannot be shed: raise the limit, \
             shorten windows and allowed_lateness, or bound the keys with limits.max_keys"
        }
        (true, true) => {
            "a table, rows that wait for a slower input, and what values grow to cannot be shed: raise the limit, make \
             max_lead shorter, or bound the rows with limits.max_keys"
        }
        (false, false) => {
            "raise the limit, shorten windows, allowed_lateness or within, group by fewer keys, or go on without the \
             records of new keys (limits.on_full = \"shed\")"
        }
        (false, true) => {
            "raise the limit, let the join reach less far, make max_lead shorter, set out_of_orderness so that rows can \
             leave before the end of the input, or go on without what there is no room for (limits.on_full = \"shed\")"
        }
    }
}
