//! The plan of one input: how its records are read, the clock they drive, and the steps until its rows meet others.
//!
//! `mod.rs` asks for one an input. Invariant: all of an input's mistakes are found at once, each under the path that
//! the input has in the pipeline file.

use super::joins::Side;
use super::scope::{Columns, Undeclared};
use super::steps::{Compiled, Compiler, TYPES_HINT};
use super::{ClockPlan, Step, kinds};
use crate::batch::DataType;
use crate::decode::json::CHILDREN_MAX;
use crate::decode::{DecodePlan, FieldPlan};
use crate::error::Problem;
use crate::expr::{Condition, Expression, Field, split_path};
use crate::group::GroupPlan;
use crate::group::key::KeyCodec;
use crate::raw::{LANES_PER_INPUT, Part};
use crate::spec::{FormatSpec, InputSpec, JoinKindSpec, JoinSpec, OnIdleSpec, SourceSpec, Spec, StepSpec};
use std::collections::BTreeMap;

/// What the lanes of an input do.
#[derive(Debug)]
pub struct InputPlan {
    /// Its name; none for the pipeline's own.
    pub name: Option<String>,
    /// What to extract from each record.
    pub decode: DecodePlan,
    /// Condition before the clock.
    pub where_: Option<Condition>,
    /// The steps up to the first window or the join.
    pub steps: Vec<Step>,
    /// The clock's settings.
    pub clock: ClockPlan,
    /// How rows go to the join, where there is one.
    pub hand_over: Option<HandOver>,
    /// Record keys are used by a step, a check or the output.
    pub needs_keys: bool,
    /// Record headers are used by a step or the output.
    pub needs_headers: bool,
}

/// How a lane's rows go to a join.
#[derive(Debug)]
pub struct HandOver {
    /// Places of the key's columns.
    pub keys: Vec<usize>,
    /// The key.
    pub key: KeyCodec,
    /// Places of the columns carried along.
    pub carried: Vec<usize>,
    /// The rows are those of a table: one that a filter takes out deletes the row of its key.
    pub is_table: bool,
    /// The key of the table is that of the record, of this type: a record without a value deletes the row of its key.
    pub record_key: Option<DataType>,
}

impl super::Plan {
    /// The pipeline's own input.
    #[must_use]
    pub fn own(&self) -> &InputPlan {
        &self.inputs[0]
    }

    /// Which input a lane is of.
    #[must_use]
    pub fn input_of(&self, lane: i32) -> usize {
        ((lane.max(0) / LANES_PER_INPUT) as usize).min(self.inputs.len() - 1)
    }

    /// The plan of the input that a lane is of.
    #[must_use]
    pub fn input(&self, lane: i32) -> &InputPlan {
        &self.inputs[self.input_of(lane)]
    }
}

/// An input as it is described.
#[derive(Debug, Clone, Copy)]
pub struct Described<'s> {
    /// Its name; none for the pipeline's own.
    pub name: Option<&'s str>,
    /// How its records are read.
    pub source: &'s SourceSpec,
    /// Its steps.
    pub steps: &'s [StepSpec],
    /// The join that the steps of another input end in, and its number.
    pub join: Option<(usize, &'s JoinSpec)>,
}

impl<'s> Described<'s> {
    /// The pipeline's own.
    pub fn own(spec: &'s Spec) -> Self {
        Self { name: None, source: &spec.source, steps: &spec.steps, join: None }
    }

    /// The right side of `join`.
    pub fn other(input: &'s InputSpec, join: (usize, &'s JoinSpec)) -> Self {
        Self { name: Some(&input.name), source: &input.source, steps: &input.steps, join: Some(join) }
    }

    /// The path of the source.
    pub fn at(&self) -> String {
        self.name.map_or_else(|| "source".to_owned(), |name| format!("sources.{name}"))
    }

    /// The path of a step.
    pub fn step_at(&self, number: usize) -> String {
        match self.name {
            None => format!("steps[{number}]"),
            Some(name) => format!("sources.{name}.steps[{number}]"),
        }
    }
}

/// An input whose fields have types.
pub struct Settled<'s> {
    described: Described<'s>,
    columns: Columns,
    pub compiled: Compiled,
    /// What it brings to the join, if that could be found out.
    pub side: Option<Side>,
    pub undeclared: Vec<Undeclared>,
    pub problems: Vec<Problem>,
    event_time: Option<FieldPlan>,
    keyed_by: Option<FieldPlan>,
}

impl<'s> Settled<'s> {
    /// Compiles `described`; `right` is what the other input brings to its join.
    pub fn new(spec: &Spec, described: Described<'s>, right: Option<&Side>) -> Self {
        let (mut problems, source, at) = (Vec::new(), described.source, described.at());
        let declared = declared_types(source, &at, &mut problems);
        let opaque = source.format == FormatSpec::Raw;
        let mut columns = Columns::new(declared, opaque, described.name);
        // The first pass only gathers uses; its complaints rest on guessed types.
        Compiler::new(spec, described, right, &mut columns, &mut Vec::new()).compile();
        let (columns, undeclared, mut compiled, mistakes) = settle(spec, described, right, &columns);
        problems.extend(mistakes);
        let event_time = event_time_field(source, opaque, &at, &mut problems);
        let keyed_by = value_field(source.keyed_by.as_deref(), &format!("{at}.keyed_by"), &mut problems);
        check_source(source, &at, &mut problems);
        if columns.fields.len() > CHILDREN_MAX - 2 {
            let most = CHILDREN_MAX - 2;
            let message = format!("the pipeline uses {} fields of {at}; the most is {most}", columns.fields.len());
            problems.push(Problem::new("steps", message));
        }
        let side = compiled.side.take();
        Self { described, columns, compiled, side, undeclared, problems, event_time, keyed_by }
    }

    /// The plan, and what is not of this input alone.
    pub fn into_plan(self, spec: &Spec) -> (InputPlan, Compiled) {
        let Self { described, columns, mut compiled, side, event_time, keyed_by, .. } = self;
        let decode = DecodePlan {
            format: described.source.format,
            fields: columns.fields,
            parts: columns.parts,
            event_time,
            event_time_unit: described.source.event_time_unit,
            timeless: described.join.is_some_and(|(_, join)| join.kind == JoinKindSpec::Table { versioned: false }),
            keyed_by,
            group: group_plan(&compiled),
            record_bytes_max: spec.limits.record_bytes_max,
            depth_max: spec.limits.depth_max,
        };
        let forwards = described.name.is_none() && compiled.output == super::Output::Records;
        let hand_over = side.map(Side::hand_over);
        let deletes = hand_over.as_ref().is_some_and(|it| it.record_key.is_some());
        let used = |wanted: fn(&Part) -> bool| decode.parts.iter().any(|(part, _)| wanted(part));
        let plan = InputPlan {
            name: described.name.map(str::to_owned),
            where_: compiled.where_.take(),
            steps: std::mem::take(&mut compiled.steps),
            clock: clock_plan(described.source, decode.event_time.is_none()),
            needs_keys: forwards || deletes || decode.keyed_by.is_some() || used(|part| matches!(part, Part::Key)),
            needs_headers: forwards || used(|part| matches!(part, Part::Header(_))),
            hand_over,
            decode,
        };
        (plan, compiled)
    }
}

/// The second pass. A mistake that only a placeholder's type makes is none: of text and number, the
/// placeholder that suits the uses of the undeclared fields better is taken.
fn settle(
    spec: &Spec,
    described: Described<'_>,
    right: Option<&Side>,
    gathered: &Columns,
) -> (Columns, Vec<Undeclared>, Compiled, Vec<Problem>) {
    let attempt = |placeholder| {
        let (mut columns, mut mistakes) = (gathered.clone(), Vec::new());
        let undeclared = columns.settle(placeholder);
        let compiled = Compiler::new(spec, described, right, &mut columns, &mut mistakes).compile();
        (columns, undeclared, compiled, mistakes)
    };
    let text = attempt(DataType::String);
    if text.1.is_empty() || text.3.is_empty() {
        return text;
    }
    let number = attempt(DataType::Float64);
    if number.3.len() < text.3.len() { number } else { text }
}

/// What to group by while decoding: where no step before the window changes columns or, but for copies, drops rows.
fn group_plan(compiled: &Compiled) -> Option<GroupPlan> {
    if compiled.where_.is_some() {
        return None;
    }
    let window = compiled.steps.iter().find(|step| !matches!(step, Step::Dedupe { .. }))?;
    let Step::Window(window) = window else { return None };
    let columns = window.keys.iter().map(Expression::as_column).collect::<Option<_>>()?;
    Some(GroupPlan { columns, key: window.plan.key.clone() })
}

fn declared_types(source: &SourceSpec, at: &str, problems: &mut Vec<Problem>) -> BTreeMap<String, DataType> {
    let mut declared = BTreeMap::new();
    for (path, name) in &source.schema {
        let at = format!("{at}.schema.{path}");
        match (Field::parse(path), DataType::parse(name)) {
            (Err(message), _) => problems.push(Problem::new(at, message)),
            (_, None) => {
                problems.push(Problem::new(at, format!("there is no type {name}")).hint(TYPES_HINT));
            }
            (Ok(field), Some(data_type)) => {
                declared.insert(field.to_string(), data_type);
            }
        }
    }
    declared
}

fn value_field(path: Option<&str>, at: &str, problems: &mut Vec<Problem>) -> Option<FieldPlan> {
    match Field::parse(path?) {
        Ok(Field::Path(path)) => Some(FieldPlan { segments: split_path(&path), path, data_type: DataType::Scalar }),
        Ok(Field::Part(part)) => {
            problems.push(Problem::new(at, format!("{part} is not a field of the value")));
            None
        }
        Err(message) => {
            problems.push(Problem::new(at, message));
            None
        }
    }
}

fn event_time_field(source: &SourceSpec, opaque: bool, at: &str, problems: &mut Vec<Problem>) -> Option<FieldPlan> {
    let path = source.event_time.as_deref().filter(|path| *path != "_timestamp");
    if path.is_some() && opaque {
        let message = "with format = \"raw\" the event time can only be the record's timestamp";
        problems.push(Problem::new(format!("{at}.event_time"), message).hint("leave event_time out"));
        return None;
    }
    value_field(path, &format!("{at}.event_time"), problems)
}

fn check_source(source: &SourceSpec, at: &str, problems: &mut Vec<Problem>) {
    let lengths = [
        ("out_of_orderness", source.out_of_orderness_ms),
        ("idle_timeout", Some(source.idle_timeout_ms)),
        ("max_future_skew", source.max_future_skew_ms),
        ("max_lead", source.max_lead_ms),
    ];
    for (name, length) in lengths {
        if length.is_some_and(|length| !(0..=kinds::LENGTH_MAX_MS).contains(&length)) {
            problems.push(Problem::new(format!("{at}.{name}"), "must lie between 0 and 100 years"));
        }
    }
}

fn clock_plan(source: &SourceSpec, time_is_record_time: bool) -> ClockPlan {
    ClockPlan {
        out_of_orderness_ms: source.out_of_orderness_ms,
        idle_timeout_ms: source.idle_timeout_ms,
        advance_when_idle: source.on_idle == OnIdleSpec::Advance,
        max_future_skew_ms: source.max_future_skew_ms,
        time_is_record_time,
        max_lead_ms: source.max_lead_ms,
    }
}
