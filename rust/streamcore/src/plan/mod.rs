//! From the description of a pipeline to the plan its lanes run, or to all its mistakes at once.
//!
//! `spec` comes before, `lane` and `pipeline` after. Invariant: a plan never fails for a reason that
//! could have been known here.

mod emission;
mod explain;
mod functions;
mod inputs;
mod joins;
mod kinds;
mod room;
mod routing;
mod scope;
mod stages;
mod steps;
mod topic;

use crate::batch::DataType;
use crate::decode::json::scan::DEPTH_MAX;
use crate::dedupe::DedupePlan;
use crate::error::Problem;
use crate::expr::{Condition, Expression};
use crate::function::BatchFunction;
use crate::results::OutputType;
use crate::spec::{CombineSpec, InputSpec, LimitsSpec, NullKeysSpec, PhaseSpec, SourceSpec, Spec};
use crate::window::WindowPlan;
use inputs::{Described, Settled};
pub use inputs::{HandOver, InputPlan};
pub use joins::{JoinStep, JoinedColumn};
pub use room::{StatefulKind, StatefulStep};
pub use scope::Undeclared;
pub use stages::{Before, StagePlan};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Everything a lane and the combine stage need, fixed for a pipeline's life.
#[derive(Debug)]
pub struct Plan {
    /// The pipeline's own input with the steps up to the first window, and the other one of a join.
    pub inputs: Vec<InputPlan>,
    /// Where the two meet.
    pub join: Option<JoinStep>,
    /// The steps behind the first window, or behind the join.
    pub stages: Vec<StagePlan>,
    /// What leaves as `result`.
    pub output: Output,
    /// Lanes' windows are merged where they meet.
    pub combine: bool,
    /// Partition by partition of both inputs a join by itself; otherwise one of all their rows.
    pub apart: bool,
    /// Where they do through a topic: the fingerprint of the pipeline whose partials are in it.
    pub topic: Option<u64>,
    /// The part of such a pipeline that runs here.
    pub phase: Option<PhaseSpec>,
    /// For each window of the pipeline's own steps which column of its group key is the record key.
    pub record_keys: Vec<Option<usize>>,
    /// The steps that keep state, in their order.
    pub stateful: Vec<StatefulStep>,
    /// Bounds.
    pub limits: LimitsSpec,
    /// Identifies the state this plan can use.
    pub fingerprint: u64,
}

/// Settings of the lanes' clocks, all ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockPlan {
    /// See [`crate::watermark::OutOfOrderness`].
    pub out_of_orderness_ms: Option<i64>,
    /// Silence after which a caught-up lane is idle.
    pub idle_timeout_ms: i64,
    /// Idle clocks run with the wall clock.
    pub advance_when_idle: bool,
    /// Beyond this ahead of its record's timestamp an event time is in the future.
    pub max_future_skew_ms: Option<i64>,
    /// Event time comes from the record timestamp, so only `now` can tell the future.
    pub time_is_record_time: bool,
    /// How far a lane may run ahead.
    pub max_lead_ms: Option<i64>,
}

/// One step, compiled.
#[derive(Debug)]
pub enum Step {
    /// Keeps rows.
    Filter(Condition),
    /// Replaces columns.
    Select(Vec<Expression>),
    /// Drops seen ids.
    Dedupe {
        /// The id.
        id: Expression,
        /// As written, for details.
        field: String,
        /// The step, as `steps[0]`.
        name: String,
        /// The horizon, and how ids are remembered.
        plan: DedupePlan,
    },
    /// Replaces columns by what a function makes of them.
    MapBatches(MapStep),
    /// Windows; always the last step of a stage.
    Window(WindowStep),
}

impl Step {
    /// Whether it remembers rows.
    #[must_use]
    pub const fn keeps_state(&self) -> bool {
        matches!(self, Self::Dedupe { .. } | Self::Window(_))
    }
}

/// A `map_batches` step, compiled.
#[derive(Debug)]
pub struct MapStep {
    /// The function's name.
    pub name: String,
    /// The function; none while a description is only looked at.
    pub function: Option<Arc<dyn BatchFunction>>,
    /// The columns it is given.
    pub input: Vec<MapInput>,
    /// The columns it gives.
    pub output: Vec<(String, DataType)>,
}

/// A column that a function is given.
#[derive(Debug)]
pub struct MapInput {
    /// Its name.
    pub name: String,
    /// Its type.
    pub output: OutputType,
    /// Its place among the columns.
    pub place: usize,
    /// For one of lists, the column of the window's rows that holds them.
    pub lists: Option<usize>,
}

impl MapStep {
    /// What a dead letter says where the function fails.
    #[must_use]
    pub fn detail(&self, wrong: &str) -> String {
        format!("{}: {wrong}", self.name)
    }
}

/// A window step, compiled.
#[derive(Debug)]
pub struct WindowStep {
    /// Kind, keys and aggregates.
    pub plan: Arc<WindowPlan>,
    /// Group keys.
    pub keys: Vec<Expression>,
    /// Arguments and condition of each aggregate.
    pub inputs: Vec<(Vec<Expression>, Option<Condition>)>,
    /// What a null group key means.
    pub null_keys: NullKeysSpec,
}

/// What leaves as `result`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Rows of windows.
    Windows(Vec<(String, OutputType)>),
    /// Rows of `select`.
    Rows(Vec<(String, OutputType)>),
    /// The records that remain, as they came.
    Records,
}

/// What came of looking at a description.
#[derive(Debug)]
pub struct Analysis {
    /// Every mistake.
    pub problems: Vec<Problem>,
    /// Fields that a named run must declare and an ephemeral one infers.
    pub undeclared: Vec<Undeclared>,
    /// Why lanes could not meet through a topic, whether or not they are to.
    pub topic_problems: Vec<Problem>,
    /// The plan, when there is no mistake. Undeclared fields have placeholder types in it.
    pub plan: Option<Plan>,
}

/// Looks at a whole description.
#[must_use]
pub fn analyse(spec: &Spec) -> Analysis {
    let mut problems = Vec::new();
    let other = joins::other_input(spec, &mut problems);
    let other = other.map(|(input, join)| Settled::new(spec, Described::other(input, join), None));
    let side = other.as_ref().and_then(|other| other.side.as_ref());
    let own = Settled::new(spec, Described::own(spec), side);
    if spec.limits.depth_max > DEPTH_MAX {
        problems.push(Problem::new("limits.max_depth", format!("must be at most {DEPTH_MAX}")));
    }
    let combine = steps::needs_combine(spec, &mut problems);
    let apart = joins::joins_apart(spec);
    emission::check_chained(spec, &mut problems);
    let mut topic_problems = topic::problems(spec);
    stages::check_parts(&own.compiled.steps, &own.compiled.stages, &mut topic_problems);
    if spec.combine == CombineSpec::Topic {
        problems.extend(topic_problems.iter().cloned());
    } else if combine {
        stages::check_parts(&own.compiled.steps, &own.compiled.stages, &mut problems);
        emission::check_combine(spec, &mut problems);
    }
    topic::check_phase(spec, &mut problems);
    let (mut settled, mut undeclared) = (vec![own], Vec::new());
    settled.extend(other);
    for input in &mut settled {
        undeclared.append(&mut input.undeclared);
        problems.splice(..0, input.problems.drain(..));
    }
    if !problems.is_empty() {
        return Analysis { problems, undeclared, topic_problems, plan: None };
    }
    let (mut inputs, mut compiled) = (Vec::new(), Vec::new());
    for input in settled {
        let (plan, rest) = input.into_plan(spec);
        inputs.push(plan);
        compiled.push(rest);
    }
    let rest = compiled.swap_remove(0);
    let shared = fingerprint(spec, &inputs, combine, apart);
    let topic = (spec.combine == CombineSpec::Topic).then_some(shared);
    let plan = Plan {
        fingerprint: topic::fingerprint_of(shared, spec.phase),
        topic,
        phase: spec.phase,
        inputs,
        join: rest.join,
        stages: rest.stages,
        output: rest.output,
        combine,
        apart,
        record_keys: routing::record_keys(spec),
        stateful: room::stateful_steps(spec),
        limits: spec.limits.clone(),
    };
    Analysis { problems, undeclared, topic_problems, plan: Some(plan) }
}

/// Hash of all that decides what state means: not of limits, idle times and leads.
fn fingerprint(spec: &Spec, inputs: &[InputPlan], combine: bool, apart: bool) -> u64 {
    let read = |source: &SourceSpec, plan: &InputPlan| {
        let fields = plan.decode.fields.iter().map(|field| format!("{}:{}", field.path, field.data_type));
        let clock =
            (source.event_time.clone(), source.event_time_unit, source.out_of_orderness_ms, source.keyed_by.clone());
        (source.format, clock, source.where_.clone(), fields.collect::<Vec<_>>())
    };
    let (format, clock, where_, fields) = read(&spec.source, &inputs[0]);
    let own = (format, clock, where_, fields, &spec.steps, combine);
    let by_topic = spec.combine == CombineSpec::Topic;
    let other = |(input, plan): (&'_ InputSpec, &InputPlan)| {
        (input.name.clone(), read(&input.source, plan), input.steps.clone())
    };
    let others: Vec<_> = spec.inputs.iter().zip(&inputs[1..]).map(other).collect();
    let meaning = match (others.is_empty(), apart) {
        (true, _) => serde_json::to_vec(&own),
        (false, false) => serde_json::to_vec(&(own, others)),
        (false, true) => serde_json::to_vec(&(own, others, "apart")),
    };
    let meaning = xxh3_64(&meaning.expect("a description is plain data"));
    if by_topic { topic::fingerprint_by_topic(meaning) } else { meaning }
}
