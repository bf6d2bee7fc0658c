//! The plan as text, for `streamcore explain`.
//!
//! One line a stage, in the order a record meets them. Invariant: what it says is read off the plan
//! that runs; only the text of expressions comes from the description.

use super::{InputPlan, JoinStep, Output, Plan, Step};
use crate::dedupe::{DedupePlan, ID_BYTES};
use crate::join::Join;
use crate::spec::{
    EmitSpec, FormatSpec, JoinKindSpec, JoinSpec, JoinTypeSpec, NamedSpec, OnFullSpec, PhaseSpec, Spec, StepSpec,
    WindowSpec,
};
use crate::window::aggregate::AggregatePlan;
use crate::window::assign::{Aligned, Shape};
use crate::window::calendar::Period;
use crate::window::{WindowKind, WindowPlan};
use std::fmt::{self, Display, Formatter};

/// A plan with the description it was made from, to be displayed.
pub struct Explained<'p> {
    plan: &'p Plan,
    spec: &'p Spec,
}

impl Plan {
    /// The plan as text; `spec` is the description it was made from.
    #[must_use]
    pub fn explain<'p>(&'p self, spec: &'p Spec) -> Explained<'p> {
        Explained { plan: self, spec }
    }
}

impl Display for Explained<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let plan = self.plan;
        plan.own().lines(f)?;
        let mut specs = self.spec.steps.iter();
        plan.own().steps.iter().zip(&mut specs).try_for_each(|(step, spec)| step_line(step, spec, f))?;
        plan.combine_line(f)?;
        if let Some(StepSpec::Join(join)) = plan.join.as_ref().and_then(|_| specs.next()) {
            for (input, other) in self.spec.inputs.iter().zip(&plan.inputs[1..]) {
                writeln!(f, "input    {}", input.name)?;
                other.lines(f)?;
                other.steps.iter().zip(&input.steps).try_for_each(|(step, spec)| step_line(step, spec, f))?;
            }
            join_line(join, f)?;
            plan.lanes_line(f)?;
            plan.join.iter().try_for_each(|step| holds_line(step, f))?;
        }
        for stage in &plan.stages {
            stage.steps.iter().zip(&mut specs).try_for_each(|(step, spec)| step_line(step, spec, f))?;
        }
        plan.state_line(f)?;
        plan.result_line(f)
    }
}

impl Plan {
    /// Where lanes' windows meet, behind the first window.
    fn combine_line(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.window().is_none() {
            return Ok(());
        }
        let line = match (self.topic, self.phase, self.combine) {
            (Some(_), None, _) => {
                "topic: lanes hand over partial windows by group key, workers share the partitions and fire at the minimum watermark"
            }
            (Some(_), Some(PhaseSpec::Partial), _) => "topic: hand over partial windows by group key (phase partial)",
            (Some(_), Some(PhaseSpec::Final), _) => {
                "topic: merge the partial windows of a partition, fire at the minimum watermark (phase final)"
            }
            (None, _, true) => "merge all lanes' windows in this process, fire at the minimum watermark",
            (None, _, false) => "each lane's windows are final (the group key is the record key)",
        };
        writeln!(f, "combine  {line}")
    }

    /// Which partitions a join is of, where it is not of all.
    fn lanes_line(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if !self.apart {
            return Ok(());
        }
        writeln!(
            f,
            "lanes    partition by partition of both topics (the key is the record key): they need as many, filled alike"
        )
    }

    /// What the steps that keep state may hold together.
    fn state_line(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.stateful.is_empty() {
            return Ok(());
        }
        let bytes = format!("{} bytes", self.limits.state_bytes_max);
        let joins = self.join.is_some();
        let steps_bounded = if joins { "keys a window step and rows a join" } else { "keys a window step" };
        let keys = self.limits.keys_max.map(|most| format!(" and {most} {steps_bounded}")).unwrap_or_default();
        match self.limits.on_full {
            OnFullSpec::Stop => writeln!(f, "state    at most {bytes}{keys} in all; then the run stops"),
            OnFullSpec::Shed => {
                let what = if joins { "records that would add to it" } else { "records of new keys" };
                let steps =
                    if self.stateful.len() > 1 { ", in equal shares for each step that keeps state" } else { "" };
                writeln!(f, "state    at most {bytes}{keys} a lane{steps}; then {what} are dead letters")
            }
        }
    }

    fn result_line(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let columns = match &self.output {
            Output::Windows(columns) | Output::Rows(columns) => {
                columns.iter().map(|(name, data_type)| format!("{name} {data_type}")).collect::<Vec<_>>().join(", ")
            }
            Output::Records => "the records that remain: key, value and headers as they came".to_owned(),
        };
        write!(f, "result   {columns}")
    }
}

impl InputPlan {
    fn lines(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.decode_lines(f)?;
        self.clock_line(f)
    }

    fn decode_lines(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let decode = &self.decode;
        let fields = decode.fields.iter().map(|field| format!("{} {}", field.path, field.data_type));
        let parts = decode.parts.iter().map(|(part, data_type)| format!("{part} {data_type}"));
        let columns: Vec<String> = fields.chain(parts).collect();
        let columns = if columns.is_empty() { "no columns".to_owned() } else { columns.join(", ") };
        let format = match decode.format {
            FormatSpec::Json => "JSON, whole record validated",
            FormatSpec::Raw => "opaque bytes",
        };
        writeln!(f, "decode   {format}; columns: {columns}")?;
        if let Some(field) = &decode.keyed_by {
            writeln!(f, "key      must equal {}", field.path)?;
        }
        if self.where_.is_some() {
            writeln!(f, "where    removes records before the clock")?;
        }
        Ok(())
    }

    fn clock_line(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let time = self.decode.event_time.as_ref().map_or("the record timestamp", |field| &field.path);
        let bound = self
            .clock
            .out_of_orderness_ms
            .map_or("unbounded: windows close at the end of the input".to_owned(), |bound| {
                format!("up to {}", duration(bound))
            });
        writeln!(f, "clock    event time {time}, out of orderness {bound}")
    }
}

fn join_line(join: &JoinSpec, f: &mut Formatter<'_>) -> fmt::Result {
    let how = match join.how {
        JoinTypeSpec::Inner => "pairs alone",
        JoinTypeSpec::Left => "every row of the left side",
        JoinTypeSpec::Outer => "every row of both sides",
    };
    let which = match join.kind {
        JoinKindSpec::Interval { from_ms, to_ms } => {
            format!("from {} to {} after it", signed(from_ms), signed(to_ms))
        }
        JoinKindSpec::Window { size_ms, .. } => format!("in the same {}", duration(size_ms)),
        JoinKindSpec::AsOf { tolerance_ms: None } => "the latest up to it".to_owned(),
        JoinKindSpec::AsOf { tolerance_ms: Some(most) } => {
            format!("the latest up to it, at most {} back", duration(most))
        }
        JoinKindSpec::Table { versioned: true } => "the row of its key at its time".to_owned(),
        JoinKindSpec::Table { versioned: false } => "the row its key has when it comes".to_owned(),
    };
    let keys = join.left_on.iter().zip(&join.right_on).map(|(left, right)| format!("{left} = {right}"));
    writeln!(f, "join     {} where {}: {which}; {how}", join.input, keys.collect::<Vec<_>>().join(" and "))
}

/// What the state of a join takes.
fn holds_line(step: &JoinStep, f: &mut Formatter<'_>) -> fmt::Result {
    let [left, right] = step.plan.types.each_ref().map(|types| Join::row_bytes(types));
    if step.plan.waits() {
        writeln!(
            f,
            "holds    about {left} bytes a row of the left side and {right} of the right one, beside keys and texts"
        )
    } else {
        writeln!(f, "holds    about {right} bytes a row of the table, beside keys and texts")
    }
}

fn signed(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    sign.to_owned() + &duration(ms.saturating_abs())
}

fn step_line(step: &Step, spec: &StepSpec, f: &mut Formatter<'_>) -> fmt::Result {
    match (step, spec) {
        (Step::Filter(_), StepSpec::Filter { condition }) => writeln!(f, "filter   {}", condition.text),
        (Step::Select(_), StepSpec::Select { columns }) => writeln!(f, "select   {}", texts(columns)),
        (Step::MapBatches(map), _) => {
            let given = map.output.iter().map(|(name, data_type)| format!("{name} {data_type}"));
            writeln!(f, "map      {} on whole batches, giving {}", map.name, given.collect::<Vec<_>>().join(", "))
        }
        (Step::Dedupe { field, plan, .. }, _) => {
            let (method, remembered) = (dedupe_method(plan), duration(plan.within_ms));
            writeln!(f, "dedupe   {field}, {method}, remembered {remembered} past its event time, per partition")
        }
        (Step::Window(window), StepSpec::Window(spec)) => {
            let kind = window_kind(&window.plan.kind);
            let emit = emission(spec);
            let by = if spec.by.is_empty() { "nothing (one group)".to_owned() } else { texts(&spec.by) };
            writeln!(f, "window   {kind}, by {by}, {emit}; {}", texts(&spec.aggregates))?;
            spec.functions.iter().try_for_each(|user| {
                writeln!(
                    f,
                    "call     {} is {}, version {}, giving {}",
                    user.name, user.function, user.version, user.returns
                )
            })?;
            writeln!(f, "holds    {}", entry_size(&window.plan))
        }
        _ => Ok(()),
    }
}

/// How ids are remembered, and what that costs.
fn dedupe_method(plan: &DedupePlan) -> String {
    let Some(bloom) = plan.bloom else { return format!("exact, about {ID_BYTES} bytes an id") };
    let (rate, bits) = (bloom.false_drop_rate * 100.0, bloom.bits_an_id());
    let size = match (bloom.byte_len(), bloom.capacity) {
        (Some(bytes), Some(ids)) => format!("{} for {ids} ids within it, more if more come", bytes_text(bytes)),
        _ => "as much as the ids that come take".to_owned(),
    };
    format!("bloom, up to {rate} % of new ids dropped as copies, {bits:.0} bits an id and {size}")
}

/// In the largest unit of which there is one.
fn bytes_text(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let fits = units.iter().find(|(_, bits)| bytes >> bits > 0);
    fits.map_or_else(
        || format!("{bytes} bytes"),
        |(unit, bits)| format!("{:.1} {unit}", bytes as f64 / (1_u64 << bits) as f64),
    )
}

/// What the state of a window takes.
fn entry_size(plan: &WindowPlan) -> String {
    let entry = match &plan.kind {
        WindowKind::Aligned(Aligned { shape: Shape::Hopping { size_ms, slide_ms, .. }, .. }) if size_ms != slide_ms => {
            "a key in a slice of time"
        }
        WindowKind::Aligned(Aligned { shape: Shape::Cumulate { .. }, .. }) => "a key in a step of time",
        WindowKind::Aligned(_) => "a key in a window",
        WindowKind::Session(_) => "a session",
        WindowKind::Sliding(_) => "an event of a key",
    };
    let grows = plan.aggregates.iter().all(AggregatePlan::is_of_one_size);
    let values = if grows { "" } else { " and what its values grow to" };
    format!("about {} bytes {entry}, beside the key{values}", plan.entry_bytes())
}

fn emission(window: &WindowSpec) -> String {
    if window.emit == EmitSpec::Final {
        return "one final row a window".to_owned();
    }
    let when = window.emit_when.as_ref().map(|condition| &condition.text);
    match (window.emit_every_ms.map(duration), when) {
        (None, None) => "updates at each commit".to_owned(),
        (Some(every), None) => format!("updates every {every} of event time"),
        (None, Some(when)) => format!("an early row when it becomes true that {when}"),
        (Some(every), Some(when)) => format!("updates every {every} of event time where {when}"),
    }
}

fn window_kind(kind: &WindowKind) -> String {
    match kind {
        WindowKind::Aligned(aligned) => match &aligned.shape {
            Shape::Hopping { size_ms, slide_ms, .. } if size_ms == slide_ms => {
                format!("tumbling {}", duration(*size_ms))
            }
            Shape::Hopping { size_ms, slide_ms, .. } => {
                format!("hopping {} every {}", duration(*size_ms), duration(*slide_ms))
            }
            Shape::Cumulate { size_ms, step_ms, .. } => {
                format!("cumulate {} in steps of {}", duration(*size_ms), duration(*step_ms))
            }
            Shape::Calendar(calendar) => {
                let size = match calendar.period {
                    Period::Days { every, .. } => format!("{every}d"),
                    Period::Months { every } => format!("{every}mo"),
                };
                format!("tumbling {size} by the calendar of {}", calendar.zone())
            }
            Shape::Whole => "whole, over at the end of the input".to_owned(),
        },
        WindowKind::Sliding(trailing) => format!("sliding, the {} up to each event", duration(trailing.size_ms)),
        WindowKind::Session(gaps) => {
            let most = gaps.max_length_ms.map(|length_ms| format!(", cut at {}", duration(length_ms)));
            format!("session, gap {}{}", duration(gaps.gap_ms), most.unwrap_or_default())
        }
    }
}

/// `name = text` of each, the name left out where it says nothing new.
fn texts(columns: &[NamedSpec]) -> String {
    let text = |column: &NamedSpec| {
        let last = column.text.rsplit('.').next().unwrap_or_default();
        if last == column.name { column.text.clone() } else { format!("{} = {}", column.name, column.text) }
    };
    columns.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// As pipeline files write it: in the largest unit that needs no fraction.
fn duration(ms: i64) -> String {
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let fits = units.iter().find(|(_, size)| ms != 0 && ms % size == 0);
    fits.map_or_else(
        || if ms == 0 { "0s".to_owned() } else { format!("{ms}ms") },
        |(unit, size)| format!("{}{unit}", ms / size),
    )
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_read_as_they_are_written() {
        let texts = [0, 1, 1_500, 60_000, 90_000, 7_200_000, 86_400_000].map(duration);
        assert_eq!(texts, ["0s", "1ms", "1500ms", "1m", "90s", "2h", "1d"]);
    }
}
