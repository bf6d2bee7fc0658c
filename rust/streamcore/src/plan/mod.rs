//! From the description of a pipeline to the plan its lanes run, or to all its mistakes at once.
//!
//! `spec` comes before, `lane` and `pipeline` after. Invariant: a plan never fails for a reason that
//! could have been known here.

mod emission;
mod explain;
mod functions;
mod kinds;
mod scope;
mod stages;
mod steps;

use crate::batch::DataType;
use crate::decode::json::CHILDREN_MAX;
use crate::decode::json::scan::DEPTH_MAX;
use crate::decode::{DecodePlan, FieldPlan};
use crate::dedupe::DedupePlan;
use crate::error::Problem;
use crate::expr::{Condition, Expression, Field, split_path};
use crate::function::BatchFunction;
use crate::group::GroupPlan;
use crate::raw::Part;
use crate::results::OutputType;
use crate::spec::{FormatSpec, LimitsSpec, NullKeysSpec, SourceSpec, Spec};
use crate::window::WindowPlan;
use scope::Columns;
pub use scope::Undeclared;
pub use stages::StagePlan;
use std::collections::BTreeMap;
use std::sync::Arc;
use steps::{Compiled, Compiler, TYPES_HINT};
use xxhash_rust::xxh3::xxh3_64;

/// Everything a lane and the combine stage need, fixed for a pipeline's life.
#[derive(Debug)]
pub struct Plan {
    /// What to extract from each record.
    pub decode: DecodePlan,
    /// Condition before the clock.
    pub where_: Option<Condition>,
    /// The steps up to the first window.
    pub steps: Vec<Step>,
    /// The steps behind it.
    pub stages: Vec<StagePlan>,
    /// What leaves as `result`.
    pub output: Output,
    /// The clock's settings.
    pub clock: ClockPlan,
    /// Lanes' windows are merged here.
    pub combine: bool,
    /// Bounds.
    pub limits: LimitsSpec,
    /// Identifies the state this plan can use.
    pub fingerprint: u64,
    /// Record keys are used by a step, a check or the output.
    pub needs_keys: bool,
    /// Record headers are used by a step or the output.
    pub needs_headers: bool,
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
    /// The plan, when there is no mistake. Undeclared fields have placeholder types in it.
    pub plan: Option<Plan>,
}

/// Looks at a whole description.
#[must_use]
pub fn analyse(spec: &Spec) -> Analysis {
    let mut problems = Vec::new();
    let declared = declared_types(&spec.source, &mut problems);
    let opaque = spec.source.format == FormatSpec::Raw;
    let mut columns = Columns::new(declared, opaque);
    // The first pass only gathers uses; its complaints rest on guessed types.
    Compiler::new(spec, &mut columns, &mut Vec::new()).compile();
    let (columns, undeclared, compiled, mistakes) = compile_settled(spec, &columns);
    problems.extend(mistakes);
    let event_time = event_time_field(&spec.source, opaque, &mut problems);
    let keyed_by = value_field(spec.source.keyed_by.as_deref(), "source.keyed_by", &mut problems);
    check_source(&spec.source, &mut problems);
    if spec.limits.depth_max > DEPTH_MAX {
        problems.push(Problem::new("limits.max_depth", format!("must be at most {DEPTH_MAX}")));
    }
    let combine = steps::needs_combine(spec, &mut problems);
    emission::check_chained(spec, &mut problems);
    if combine {
        stages::check_parts(&compiled.steps, &compiled.stages, &mut problems);
        emission::check_combine(spec, &mut problems);
    }
    if columns.fields.len() > CHILDREN_MAX - 2 {
        let message = format!("the pipeline uses {} fields; the most is {}", columns.fields.len(), CHILDREN_MAX - 2);
        problems.push(Problem::new("steps", message));
    }
    if !problems.is_empty() {
        return Analysis { problems, undeclared, plan: None };
    }
    let decode = DecodePlan {
        format: spec.source.format,
        fields: columns.fields,
        parts: columns.parts,
        event_time,
        event_time_unit: spec.source.event_time_unit,
        keyed_by,
        group: group_plan(&compiled),
        record_bytes_max: spec.limits.record_bytes_max,
        depth_max: spec.limits.depth_max,
    };
    let forwards = compiled.output == Output::Records;
    let used = |wanted: fn(&Part) -> bool| decode.parts.iter().any(|(part, _)| wanted(part));
    let needs_keys = forwards || decode.keyed_by.is_some() || used(|part| matches!(part, Part::Key));
    let needs_headers = forwards || used(|part| matches!(part, Part::Header(_)));
    let plan = Plan {
        clock: clock_plan(&spec.source, decode.event_time.is_none()),
        fingerprint: fingerprint(spec, &decode, combine),
        decode,
        where_: compiled.where_,
        steps: compiled.steps,
        stages: compiled.stages,
        output: compiled.output,
        combine,
        limits: spec.limits.clone(),
        needs_keys,
        needs_headers,
    };
    Analysis { problems, undeclared, plan: Some(plan) }
}

/// The second pass. A mistake that only a placeholder's type makes is none: of text and number, the
/// placeholder that suits the uses of the undeclared fields better is taken.
fn compile_settled(spec: &Spec, gathered: &Columns) -> (Columns, Vec<Undeclared>, Compiled, Vec<Problem>) {
    let attempt = |placeholder| {
        let (mut columns, mut mistakes) = (gathered.clone(), Vec::new());
        let undeclared = columns.settle(placeholder);
        let compiled = Compiler::new(spec, &mut columns, &mut mistakes).compile();
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

fn declared_types(source: &SourceSpec, problems: &mut Vec<Problem>) -> BTreeMap<String, DataType> {
    let mut declared = BTreeMap::new();
    for (path, name) in &source.schema {
        let at = format!("source.schema.{path}");
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

fn event_time_field(source: &SourceSpec, opaque: bool, problems: &mut Vec<Problem>) -> Option<FieldPlan> {
    let path = source.event_time.as_deref().filter(|path| *path != "_timestamp");
    if path.is_some() && opaque {
        let message = "with format = \"raw\" the event time can only be the record's timestamp";
        problems.push(Problem::new("source.event_time", message).hint("leave event_time out"));
        return None;
    }
    value_field(path, "source.event_time", problems)
}

fn check_source(source: &SourceSpec, problems: &mut Vec<Problem>) {
    let lengths = [
        ("out_of_orderness", source.out_of_orderness_ms),
        ("idle_timeout", Some(source.idle_timeout_ms)),
        ("max_future_skew", source.max_future_skew_ms),
        ("max_lead", source.max_lead_ms),
    ];
    for (name, length) in lengths {
        if length.is_some_and(|length| !(0..=kinds::LENGTH_MAX_MS).contains(&length)) {
            problems.push(Problem::new(format!("source.{name}"), "must lie between 0 and 100 years"));
        }
    }
}

fn clock_plan(source: &SourceSpec, time_is_record_time: bool) -> ClockPlan {
    ClockPlan {
        out_of_orderness_ms: source.out_of_orderness_ms,
        idle_timeout_ms: source.idle_timeout_ms,
        advance_when_idle: source.on_idle == crate::spec::OnIdleSpec::Advance,
        max_future_skew_ms: source.max_future_skew_ms,
        time_is_record_time,
        max_lead_ms: source.max_lead_ms,
    }
}

/// Hash of all that decides what state means: not of limits, idle times and leads.
fn fingerprint(spec: &Spec, decode: &DecodePlan, combine: bool) -> u64 {
    let source = &spec.source;
    let fields: Vec<String> = decode.fields.iter().map(|field| format!("{}:{}", field.path, field.data_type)).collect();
    let clock = (&source.event_time, source.event_time_unit, source.out_of_orderness_ms, &source.keyed_by);
    let meaning = (source.format, clock, &source.where_, fields, &spec.steps, combine);
    xxh3_64(&serde_json::to_vec(&meaning).expect("a description is plain data"))
}
