//! Compiles the steps of a description in their order.
//!
//! Called twice by `plan/mod.rs`, see `scope.rs`. Invariant: it goes on after a mistake, so that one
//! run finds them all.

mod dedupe;

use super::emission::{early, retracts};
use super::functions::{check_call, user_aggregates};
use super::inputs::Described;
use super::joins::{self, JoinStep, Side};
use super::kinds::window_kind;
use super::room::{dedupe_room, window_room};
use super::scope::{Columns, VisibleColumn};
use super::stages::{Before, StagePlan};
use super::{MapInput, MapStep, Output, Step, WindowStep};
use crate::batch::DataType;
use crate::dedupe::DedupePlan;
use crate::error::Problem;
use crate::expr::{AggregateCall, Condition, Expression, Field, Scope};
use crate::group::key::KeyCodec;
use crate::results::OutputType;
use crate::spec::{
    CombineSpec, EmitSpec, ExpressionSpec, NamedSpec, SourceSpec, Spec, StepSpec, TypedSpec, WindowKindSpec, WindowSpec,
};
use crate::window::WindowPlan;
use crate::window::aggregate::{AggregatePlan, Argument, Function, UserAggregate};
use crate::window::lost::LostValues;
use std::sync::Arc;

/// Columns every windowed result has.
const WINDOW_COLUMNS: [(&str, DataType); 2] =
    [("window_start", DataType::Timestamp), ("window_end", DataType::Timestamp)];
const EMISSION_COLUMNS: [(&str, DataType); 2] = [("revision", DataType::Int64), ("is_final", DataType::Bool)];
const RETRACTION_COLUMN: (&str, DataType) = ("retracted", DataType::Bool);

/// What to say where a type is none.
pub const TYPES_HINT: &str = "types are bool int64 float64 string binary timestamp decimal(precision,scale), of a precision up to 38 and a scale up to that";

/// An aggregate, its functions where it is the user's, and its arguments and condition.
type Aggregate = (AggregatePlan, Option<UserAggregate>, (Vec<Expression>, Option<Condition>));

/// The compiled part of a plan.
pub struct Compiled {
    /// What the input brings to a join.
    pub side: Option<Side>,
    pub join: Option<JoinStep>,
    pub where_: Option<Condition>,
    pub steps: Vec<Step>,
    pub stages: Vec<StagePlan>,
    pub output: Output,
}

/// One pass over a description.
pub struct Compiler<'c> {
    pub(super) spec: &'c Spec,
    /// What is compiled.
    pub(super) input: Described<'c>,
    /// What the other input brings to its join.
    pub(super) right: Option<&'c Side>,
    pub(super) side: Option<Side>,
    pub(super) columns: &'c mut Columns,
    pub(super) problems: &'c mut Vec<Problem>,
}

impl<'c> Compiler<'c> {
    pub fn new(
        spec: &'c Spec,
        input: Described<'c>,
        right: Option<&'c Side>,
        columns: &'c mut Columns,
        problems: &'c mut Vec<Problem>,
    ) -> Self {
        Self { spec, input, right, side: None, columns, problems }
    }

    pub fn compile(mut self) -> Compiled {
        let spec = self.spec;
        let (input, mut join) = (self.input, None);
        let where_at = format!("{}.where", input.at());
        let where_ = input.source.where_.as_ref().and_then(|text| self.condition(text, &where_at));
        let (mut steps, mut stages): (Vec<Step>, Vec<StagePlan>) = (Vec::new(), Vec::new());
        let mut output = Output::Records;
        let mut before: Option<&WindowSpec> = None;
        for (number, step) in input.steps.iter().enumerate() {
            let at = input.step_at(number);
            if let (Output::Windows(columns), Some(window)) = (&output, before.take()) {
                self.check_chained(spec, number, window);
                stages.push(stage_of(&at, columns, window, spec));
            }
            let compiled = match step {
                StepSpec::Filter { condition } => self.condition(condition, &format!("{at}.filter")).map(Step::Filter),
                StepSpec::Select { columns } => self.select(columns, &at, &mut output),
                StepSpec::Dedupe { field, within_ms, bloom } => {
                    let of_rows = stages.last().map(|_| StagePlan::AHEAD_MAX_MS);
                    let ahead_ms = of_rows.or(input.source.out_of_orderness_ms.map(|bound_ms| bound_ms + 1));
                    let bloom = bloom.map(|bloom| self.bloom(bloom, *within_ms, ahead_ms, &at));
                    let clock_moves = ahead_ms.is_some();
                    let mut plan = DedupePlan { within_ms: *within_ms, clock_moves, bloom, room: None };
                    plan.room = dedupe_room(spec, &plan);
                    self.dedupe(field, plan, &at, stages.is_empty())
                }
                StepSpec::MapBatches { function, schema } => Some(self.map_batches(function, schema, &at, &mut output)),
                StepSpec::Window(window) => {
                    before = Some(window);
                    self.window(window, !stages.is_empty(), &at, &mut output)
                }
                StepSpec::Join(described) => {
                    if join.is_none() && input.name.is_none() && stages.is_empty() {
                        join = self.join(described, &at, &mut output);
                        stages.extend(join.as_ref().map(|_| joins::stage_of(&at, &output, spec)));
                    }
                    None
                }
            };
            stages.last_mut().map_or(&mut steps, |stage| &mut stage.steps).extend(compiled);
            self.settle_lists(stages.last_mut(), &mut output);
        }
        if let Some(stage) = stages.last_mut() {
            stage.is_last = true;
        }
        if let Some((number, join)) = input.join {
            let hints = self.declared_left(number, join);
            self.side = self.side(join, &join.right_on, &format!("steps[{number}].right_on"), &hints);
        }
        Compiled { side: self.side, join, where_, steps, stages, output }
    }

    /// A stage behind a window knows which lists its columns are, and the result of a stage without one its columns.
    fn settle_lists(&self, stage: Option<&mut StagePlan>, output: &mut Output) {
        let (Some(stage), Some(shown)) = (stage, self.columns.shown()) else { return };
        if matches!(stage.steps.last(), Some(Step::Window(_))) {
            return;
        }
        stage.lists = shown.iter().map(|column| column.lists).collect();
        *output = Output::Rows(shown.iter().map(|column| (column.name.clone(), column.output)).collect());
    }

    /// What stands behind `window` can follow it: `spec.steps[number]` and on, up to the next window.
    fn check_chained(&mut self, spec: &Spec, number: usize, window: &WindowSpec) {
        if window.emit == EmitSpec::Updates {
            let message = "a step behind a window takes only rows that are final";
            let at = format!("steps[{}].emit", number - 1);
            self.problems
                .push(Problem::new(at, message).hint("use emit = \"final\", or make the window the last step"));
        }
        if !matches!(window.kind, WindowKindSpec::Whole { .. }) {
            return;
        }
        for (number, step) in spec.steps.iter().enumerate().skip(number) {
            let (verb, at) = match step {
                StepSpec::Dedupe { .. } => ("dedupe", format!("steps[{number}].dedupe")),
                StepSpec::Window(WindowSpec { kind: WindowKindSpec::Whole { min_start_ms: None }, .. }) => return,
                StepSpec::Window(_) => ("window", format!("steps[{number}].window")),
                StepSpec::Filter { .. } | StepSpec::Select { .. } | StepSpec::MapBatches { .. } | StepSpec::Join(_) => {
                    continue;
                }
            };
            let message = format!("{verb} goes by time, and the rows of a whole window have none");
            self.problems.push(Problem::new(at, message).hint("a whole window can follow, without min_start"));
            return;
        }
    }

    fn condition(&mut self, text: &ExpressionSpec, at: &str) -> Option<Condition> {
        at.clone_into(&mut self.columns.used_at);
        let compiled = Condition::compile(&text.text, &text.parameters, self.columns, at);
        self.keep(compiled)
    }

    fn expression(&mut self, text: &NamedSpec, at: &str) -> Option<Expression> {
        at.clone_into(&mut self.columns.used_at);
        let compiled = Expression::compile(&text.text, &text.parameters, self.columns, None, at);
        self.keep(compiled)
    }

    pub(super) fn keep<T>(&mut self, compiled: Result<T, Vec<Problem>>) -> Option<T> {
        compiled.map_err(|problems| self.problems.extend(problems)).ok()
    }

    fn select(&mut self, columns: &[NamedSpec], at: &str, output: &mut Output) -> Option<Step> {
        let at = format!("{at}.select");
        self.check_names(columns.iter().map(|column| column.name.as_str()), &at);
        let mut visible = Vec::new();
        let mut expressions = Vec::new();
        for column in columns {
            let at = format!("{at}.{}", column.name);
            if let Some((expression, output, lists)) = self.selected(column, &at) {
                visible.push(VisibleColumn { name: column.name.clone(), output, lists });
                expressions.push(expression);
            }
        }
        if visible.is_empty() && columns.is_empty() {
            self.problems.push(Problem::new(&at, "must name at least one column"));
        }
        for VisibleColumn { name, output, .. } in &visible {
            if *output == OutputType::Value(DataType::Scalar) {
                self.problems.push(undecided(&format!("{at}.{name}"), name));
            }
        }
        *output = Output::Rows(visible.iter().map(|column| (column.name.clone(), column.output)).collect());
        self.columns.show("select", visible);
        (expressions.len() == columns.len()).then_some(Step::Select(expressions))
    }

    /// The expression of a column, its type, and which lists it passes on.
    fn selected(&mut self, column: &NamedSpec, at: &str) -> Option<(Expression, OutputType, Option<usize>)> {
        let passed = self.columns.visible(&column.text).filter(|(_, visible)| visible.lists.is_some());
        if let Some((place, visible)) = passed {
            return Some((Expression::column(place, DataType::Int64), visible.output, visible.lists));
        }
        let expression = self.expression(column, at)?;
        let output = expression.data_type().into();
        Some((expression, output, None))
    }

    fn map_batches(&mut self, function: &str, schema: &[TypedSpec], at: &str, output: &mut Output) -> Step {
        let input = self.map_inputs(&format!("{at}.map_batches"));
        let at = format!("{at}.schema");
        self.check_names(schema.iter().map(|column| column.name.as_str()), &at);
        if schema.is_empty() {
            self.problems.push(Problem::new(&at, "must name at least one column"));
        }
        let mut given = Vec::new();
        for TypedSpec { name, type_ } in schema {
            let data_type = DataType::parse(type_);
            if data_type.is_none() {
                let problem = Problem::new(format!("{at}.{name}"), format!("there is no type {type_}"));
                self.problems.push(problem.hint(TYPES_HINT));
            }
            given.push((name.clone(), data_type.unwrap_or(DataType::String)));
        }
        let shown = given.iter().map(|(name, data_type)| (name.clone(), OutputType::from(*data_type)));
        *output = Output::Rows(shown.clone().collect());
        let visible = shown.map(|(name, output)| VisibleColumn { name, output, lists: None });
        self.columns.show("map_batches", visible.collect());
        let step =
            MapStep { name: function.to_owned(), function: self.spec.functions.get(function), input, output: given };
        Step::MapBatches(step)
    }

    /// The columns that a function is given: those of the step before, or the declared fields of the record.
    fn map_inputs(&mut self, at: &str) -> Vec<MapInput> {
        if let Some(shown) = self.columns.shown() {
            let input = |(place, column): (usize, &VisibleColumn)| {
                let VisibleColumn { name, output, lists } = column.clone();
                MapInput { name, output, place, lists }
            };
            return shown.iter().enumerate().map(input).collect();
        }
        let declared = self.columns.declared();
        if declared.is_empty() {
            let problem = Problem::new(at, "it is not known which columns the function is given");
            self.problems.push(problem.hint("put a select before it, or declare fields in [source.schema]"));
        }
        let input = |(field, name): (Field, String)| {
            let (place, data_type) = self.columns.resolve(&field, None).ok()?;
            Some(MapInput { name, output: data_type.into(), place, lists: None })
        };
        declared.into_iter().filter_map(input).collect()
    }

    fn window(&mut self, window: &WindowSpec, is_chained: bool, at: &str, output: &mut Output) -> Option<Step> {
        let kind = window_kind(window, at, self.problems);
        let keys: Vec<Option<Expression>> =
            window.by.iter().map(|key| self.expression(key, &format!("{at}.by.{}", key.name))).collect();
        let users = user_aggregates(self.spec, window, at, self.problems);
        let aggregates: Vec<_> =
            window.aggregates.iter().map(|aggregate| self.aggregate(aggregate, &users, at)).collect();
        if aggregates.is_empty() {
            let hint = "count what falls into the window: views = \"count()\"";
            self.problems.push(Problem::new(format!("{at}.aggregate"), "must name at least one aggregate").hint(hint));
        }
        let names = || window.by.iter().chain(&window.aggregates).map(|column| column.name.as_str());
        let retracts = retracts(window);
        let taken = WINDOW_COLUMNS.iter().chain(&EMISSION_COLUMNS).chain(retracts.then_some(&RETRACTION_COLUMN));
        let fixed = taken.map(|(name, _)| *name);
        self.check_names(names().chain(fixed), at);
        let keys: Vec<Expression> = keys.into_iter().collect::<Option<_>>()?;
        let aggregates: Vec<_> = aggregates.into_iter().collect::<Option<_>>()?;
        for (key, named) in keys.iter().zip(&window.by) {
            if key.data_type() == DataType::Scalar {
                self.problems.push(undecided(&format!("{at}.by.{}", named.name), &named.text));
            }
        }
        let key_types: Vec<DataType> = keys.iter().map(Expression::data_type).collect();
        let mut columns = result_columns(window, &key_types, &aggregates);
        let counted = &columns[..columns.len() - EMISSION_COLUMNS.len()];
        let early = early(window, counted, is_chained, at, self.problems);
        let (name, data_type) = RETRACTION_COLUMN;
        columns.extend(retracts.then(|| (name.to_owned(), data_type.into())));
        self.columns.show("window", columns.iter().enumerate().map(visible_column).collect());
        *output = Output::Windows(columns);
        let (mut plans, mut users, mut inputs) = (Vec::new(), Vec::new(), Vec::new());
        for (plan, user, input) in aggregates {
            plans.push(plan);
            users.push(user);
            inputs.push(input);
        }
        let mut plan = WindowPlan {
            kind: kind?,
            key: KeyCodec::new(key_types),
            aggregates: plans,
            users: users.iter().any(Option::is_some).then(|| users.into()),
            names: window.aggregates.iter().map(|aggregate| aggregate.name.clone()).collect(),
            lost: LostValues::of(window.aggregates.len()),
            updates: window.emit == EmitSpec::Updates,
            early,
            room: None,
            piece_rows: self.spec.limits.piece_rows.max(1),
        };
        let is_merged = !is_chained && needs_combine(self.spec, &mut Vec::new());
        plan.room = window_room(self.spec, window, &plan, is_merged);
        Some(Step::Window(WindowStep { plan: Arc::new(plan), keys, inputs, null_keys: window.null_keys }))
    }

    fn aggregate(&mut self, named: &NamedSpec, users: &[UserAggregate], at: &str) -> Option<Aggregate> {
        let at = format!("{at}.aggregate.{}", named.name);
        at.clone_into(&mut self.columns.used_at);
        let declared = |name: &str, argument: usize| {
            let user = users.iter().find(|user| user.name == name)?;
            user.arguments.get(argument).map(|(_, data_type)| *data_type)
        };
        let compiled = AggregateCall::compile_hinted(&named.text, &named.parameters, self.columns, &at, &declared);
        let mut call = self.keep(compiled)?;
        if let Some(user) = users.iter().find(|user| user.name == call.function) {
            let fits = check_call(&call, user, named, &at, self.problems);
            let input = (call.arguments, call.condition);
            return fits.then(|| (AggregatePlan::user(user.returns), Some(user.clone()), input));
        }
        let function = Function::parse(&call.function);
        if function.is_some_and(Function::takes_numbers) {
            self.columns.take_numbers(&at);
        }
        let arguments: Vec<_> = call.arguments.iter().map(argument_of).collect();
        match AggregatePlan::resolve_call(&call.function, &arguments) {
            Ok(plan) => {
                call.arguments.truncate(plan.inputs());
                Some((plan, None, (call.arguments, call.condition)))
            }
            Err(refusal) => {
                let argument = call.argument_spans.get(refusal.argument).filter(|_| function.is_some());
                let (start, end) = argument.copied().unwrap_or(call.function_span);
                self.problems.push(Problem::new(at, refusal.message).caret(&named.text, start, end));
                None
            }
        }
    }

    pub(super) fn check_names<'n>(&mut self, names: impl Iterator<Item = &'n str>, at: &str) {
        let mut seen: Vec<&str> = Vec::new();
        for name in names {
            if name.is_empty() {
                self.problems.push(Problem::new(at, "a column has no name").hint("name it, as in n = \"count()\""));
            } else if name.starts_with('_') {
                let message = format!("`{name}` cannot name a column: names beginning with _ are record parts");
                self.problems.push(Problem::new(at, message));
            }
            if seen.contains(&name) {
                let hint = format!("rename one of them: by = {{ {name}_2 = \"...\" }}");
                self.problems.push(Problem::new(at, format!("two columns are called {name}")).hint(hint));
            }
            seen.push(name);
        }
    }
}

fn argument_of(expression: &Expression) -> Argument<'_> {
    Argument { data_type: expression.data_type(), constant: expression.as_constant() }
}

pub fn undecided(at: &str, name: &str) -> Problem {
    Problem::new(at, format!("{name} has no declared type, and the result shows it"))
        .hint(format!("declare it in [source.schema]: \"{name}\" = \"string\""))
}

fn result_columns(window: &WindowSpec, key_types: &[DataType], aggregates: &[Aggregate]) -> Vec<(String, OutputType)> {
    let keys = window.by.iter().zip(key_types).map(|(key, data_type)| (key.name.clone(), OutputType::from(*data_type)));
    let fixed = |columns: [(&'static str, DataType); 2]| {
        columns.map(|(name, data_type)| (name.to_owned(), OutputType::from(data_type)))
    };
    let values = window.aggregates.iter().zip(aggregates).map(|(named, (plan, ..))| (named.name.clone(), plan.output));
    keys.chain(fixed(WINDOW_COLUMNS)).chain(values).chain(fixed(EMISSION_COLUMNS)).collect()
}

/// A column of a window's rows, as the steps behind see it.
fn visible_column((place, (name, output)): (usize, &(String, OutputType))) -> VisibleColumn {
    let lists = (!matches!(output, OutputType::Value(_))).then_some(place);
    VisibleColumn { name: name.clone(), output: *output, lists }
}

/// A stage that takes the rows of `window`, without its steps.
fn stage_of(at: &str, columns: &[(String, OutputType)], window: &WindowSpec, spec: &Spec) -> StagePlan {
    StagePlan {
        steps: Vec::new(),
        name: at.to_owned(),
        input: columns.to_vec(),
        before: Before::Window {
            end: window.by.len() + 1,
            revision: window.by.len() + WINDOW_COLUMNS.len() + window.aggregates.len(),
            open_end_ms: i64::from(!matches!(window.kind, WindowKindSpec::Sliding { .. })),
            behind_ms: window.allowed_lateness_ms,
        },
        lists: Vec::new(),
        key_bytes_max: spec.limits.key_bytes_max as usize,
        is_last: false,
    }
}

/// Whether lanes' windows must be merged: there is a window, and the key of one is not the record key.
pub fn needs_combine(spec: &Spec, problems: &mut Vec<Problem>) -> bool {
    if joins::joins_of(&spec.steps).next().is_some() {
        if spec.combine == CombineSpec::None && !joins::joins_apart(spec) {
            let message = "combine = \"none\" joins each partition by itself: that needs a join key that is the record key on \
                           both sides, and behind the join windows and dedupes that go by it";
            let hint =
                "set keyed_by in both sources, or leave combine out: then all partitions are joined in one process";
            problems.push(Problem::new("combine", message).hint(hint));
        }
        return false;
    }
    let Some(keyed) = groups_by_record_key(spec) else { return false };
    match spec.combine {
        CombineSpec::Auto => !keyed,
        CombineSpec::Local | CombineSpec::Topic => true,
        CombineSpec::None if keyed => false,
        CombineSpec::None => {
            let message = "combine = \"none\" needs a group key that is the record key, in every window";
            problems
                .push(Problem::new("combine", message).hint("set source.keyed_by, group by _key, or use \"local\""));
            false
        }
    }
}

/// What the columns are called that are the record key, at the join that an input's steps lead to.
pub fn record_keys<'s>(source: &'s SourceSpec, steps: &'s [StepSpec]) -> Vec<&'s str> {
    let mut keys: Vec<&str> = source.keyed_by.as_deref().into_iter().chain(["_key"]).collect();
    for step in steps {
        match step {
            StepSpec::Select { columns } => {
                let kept = columns.iter().filter(|column| keys.contains(&column.text.trim()));
                keys = kept.map(|column| column.name.as_str()).collect();
            }
            StepSpec::MapBatches { .. } => keys.clear(),
            StepSpec::Join(_) | StepSpec::Window(_) => break,
            StepSpec::Filter { .. } | StepSpec::Dedupe { .. } => {}
        }
    }
    keys
}

/// Whether a group key of each window is the record key, whatever `select` calls it, and what `dedupe` compares behind
/// one too, and the key of a join: then a lane needs no other. `None` without a window and a join.
pub(super) fn groups_by_record_key(spec: &Spec) -> Option<bool> {
    let mut record_keys: Vec<&str> = spec.source.keyed_by.as_deref().into_iter().chain(["_key"]).collect();
    let mut all_keyed = None;
    for step in &spec.steps {
        let is_key = |text: &str| record_keys.contains(&text.trim());
        match step {
            StepSpec::Select { columns } => {
                let kept = columns.iter().filter(|column| is_key(&column.text));
                record_keys = kept.map(|column| column.name.as_str()).collect();
            }
            StepSpec::Window(window) => {
                let kept: Vec<&str> =
                    window.by.iter().filter(|key| is_key(&key.text)).map(|key| key.name.as_str()).collect();
                all_keyed = Some(all_keyed.unwrap_or(true) && !kept.is_empty());
                record_keys = kept;
            }
            StepSpec::Dedupe { field, .. } => all_keyed = all_keyed.map(|keyed| keyed && is_key(field)),
            StepSpec::MapBatches { .. } => record_keys.clear(),
            StepSpec::Join(join) => {
                let keys = joins::joined_keys(spec, join, &record_keys);
                all_keyed = Some(keys.is_some());
                record_keys = keys.unwrap_or_default();
            }
            StepSpec::Filter { .. } => {}
        }
    }
    all_keyed
}
