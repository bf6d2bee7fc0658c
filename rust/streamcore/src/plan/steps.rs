//! Compiles the steps of a description in their order.
//!
//! Called twice by `plan/mod.rs`, see `scope.rs`. Invariant: it goes on after a mistake, so that one
//! run finds them all.

use super::kinds::{check_length, window_kind};
use super::scope::Columns;
use super::{Output, Step, WindowStep};
use crate::batch::DataType;
use crate::error::Problem;
use crate::expr::{AggregateCall, Condition, Expression};
use crate::group::key::KeyCodec;
use crate::results::OutputType;
use crate::spec::{CombineSpec, EmitSpec, ExpressionSpec, NamedSpec, Spec, StepSpec, WindowSpec};
use crate::window::WindowPlan;
use crate::window::aggregate::{AggregatePlan, Argument, Function};
use std::sync::Arc;

/// Columns every windowed result has.
const WINDOW_COLUMNS: [(&str, DataType); 2] =
    [("window_start", DataType::Timestamp), ("window_end", DataType::Timestamp)];
const EMISSION_COLUMNS: [(&str, DataType); 2] = [("revision", DataType::Int64), ("is_final", DataType::Bool)];

/// An aggregate with its argument and condition.
type Aggregate = (AggregatePlan, (Vec<Expression>, Option<Condition>));

/// The compiled part of a plan.
pub struct Compiled {
    pub where_: Option<Condition>,
    pub steps: Vec<Step>,
    pub output: Output,
}

/// One pass over a description.
pub struct Compiler<'c> {
    spec: &'c Spec,
    columns: &'c mut Columns,
    problems: &'c mut Vec<Problem>,
}

impl<'c> Compiler<'c> {
    pub fn new(spec: &'c Spec, columns: &'c mut Columns, problems: &'c mut Vec<Problem>) -> Self {
        Self { spec, columns, problems }
    }

    pub fn compile(mut self) -> Compiled {
        let spec = self.spec;
        let where_ = spec.source.where_.as_ref().and_then(|text| self.condition(text, "source.where"));
        let mut steps = Vec::new();
        let mut output = Output::Records;
        for (number, step) in spec.steps.iter().enumerate() {
            let at = format!("steps[{number}]");
            if matches!(output, Output::Windows(_)) {
                let message = "a window is the last step; a step after it is not built yet";
                self.problems.push(Problem::new(&at, message).hint("filter the result in its reader"));
                break;
            }
            let compiled = match step {
                StepSpec::Filter { condition } => self.condition(condition, &format!("{at}.filter")).map(Step::Filter),
                StepSpec::Select { columns } => self.select(columns, &at, &mut output),
                StepSpec::Dedupe { field, within_ms } => self.dedupe(field, *within_ms, &at),
                StepSpec::Window(window) => self.window(window, &at, &mut output),
            };
            steps.extend(compiled);
        }
        Compiled { where_, steps, output }
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

    fn keep<T>(&mut self, compiled: Result<T, Vec<Problem>>) -> Option<T> {
        compiled.map_err(|problems| self.problems.extend(problems)).ok()
    }

    fn select(&mut self, columns: &[NamedSpec], at: &str, output: &mut Output) -> Option<Step> {
        let at = format!("{at}.select");
        self.check_names(columns.iter().map(|column| column.name.as_str()), &at);
        let mut visible = Vec::new();
        let mut expressions = Vec::new();
        for column in columns {
            let at = format!("{at}.{}", column.name);
            if let Some(expression) = self.expression(column, &at) {
                visible.push((column.name.clone(), expression.data_type()));
                expressions.push(expression);
            }
        }
        if visible.is_empty() && columns.is_empty() {
            self.problems.push(Problem::new(&at, "must name at least one column"));
        }
        for (name, data_type) in &visible {
            if *data_type == DataType::Scalar {
                self.problems.push(undecided(&format!("{at}.{name}"), name));
            }
        }
        self.columns.select(visible.clone());
        *output = Output::Rows(visible.into_iter().map(|(name, data_type)| (name, data_type.into())).collect());
        (expressions.len() == columns.len()).then_some(Step::Select(expressions))
    }

    fn dedupe(&mut self, field: &str, within_ms: i64, at: &str) -> Option<Step> {
        let at = format!("{at}.dedupe");
        check_length(within_ms, &at.replace(".dedupe", ".within"), "within", self.problems);
        if self.spec.source.out_of_orderness_ms.is_some_and(|bound| within_ms < bound) {
            let message = "within is shorter than out_of_orderness, so copies that are on time could pass";
            self.problems.push(Problem::new(at.replace(".dedupe", ".within"), message).hint("make it longer"));
        }
        at.clone_into(&mut self.columns.used_at);
        let none = std::collections::BTreeMap::new();
        let compiled = Expression::compile(field, &none, self.columns, Some(DataType::Scalar), &at);
        let id = self.keep(compiled)?;
        Some(Step::Dedupe { id, field: field.to_owned(), within_ms })
    }

    fn window(&mut self, window: &WindowSpec, at: &str, output: &mut Output) -> Option<Step> {
        let kind = window_kind(window, at, self.problems);
        let keys: Vec<Option<Expression>> =
            window.by.iter().map(|key| self.expression(key, &format!("{at}.by.{}", key.name))).collect();
        let aggregates: Vec<_> = window.aggregates.iter().map(|aggregate| self.aggregate(aggregate, at)).collect();
        if aggregates.is_empty() {
            let hint = "count what falls into the window: views = \"count()\"";
            self.problems.push(Problem::new(format!("{at}.aggregate"), "must name at least one aggregate").hint(hint));
        }
        let names = || window.by.iter().chain(&window.aggregates).map(|column| column.name.as_str());
        let fixed = WINDOW_COLUMNS.iter().chain(&EMISSION_COLUMNS).map(|(name, _)| *name);
        self.check_names(names().chain(fixed), at);
        let keys: Vec<Expression> = keys.into_iter().collect::<Option<_>>()?;
        let aggregates: Vec<_> = aggregates.into_iter().collect::<Option<_>>()?;
        for (key, named) in keys.iter().zip(&window.by) {
            if key.data_type() == DataType::Scalar {
                self.problems.push(undecided(&format!("{at}.by.{}", named.name), &named.text));
            }
        }
        let key_types: Vec<DataType> = keys.iter().map(Expression::data_type).collect();
        *output = Output::Windows(result_columns(window, &key_types, &aggregates));
        let (plans, inputs): (Vec<_>, Vec<_>) = aggregates.into_iter().unzip();
        let plan = WindowPlan {
            kind: kind?,
            key: KeyCodec::new(key_types),
            aggregates: plans,
            names: window.aggregates.iter().map(|aggregate| aggregate.name.clone()).collect(),
            updates: window.emit == EmitSpec::Updates,
        };
        Some(Step::Window(WindowStep { plan: Arc::new(plan), keys, inputs, null_keys: window.null_keys }))
    }

    fn aggregate(&mut self, named: &NamedSpec, at: &str) -> Option<Aggregate> {
        let at = format!("{at}.aggregate.{}", named.name);
        at.clone_into(&mut self.columns.used_at);
        let compiled = AggregateCall::compile(&named.text, &named.parameters, self.columns, &at);
        let mut call = self.keep(compiled)?;
        let function = Function::parse(&call.function);
        if function.is_some_and(Function::takes_numbers) {
            self.columns.take_numbers(&at);
        }
        let arguments: Vec<_> = call.arguments.iter().map(argument_of).collect();
        match AggregatePlan::resolve_call(&call.function, &arguments) {
            Ok(plan) => {
                call.arguments.truncate(plan.inputs());
                Some((plan, (call.arguments, call.condition)))
            }
            Err(refusal) => {
                let argument = call.argument_spans.get(refusal.argument).filter(|_| function.is_some());
                let (start, end) = argument.copied().unwrap_or(call.function_span);
                self.problems.push(Problem::new(at, refusal.message).caret(&named.text, start, end));
                None
            }
        }
    }

    fn check_names<'n>(&mut self, names: impl Iterator<Item = &'n str>, at: &str) {
        let mut seen: Vec<&str> = Vec::new();
        for name in names {
            if name.is_empty() || name.starts_with('_') {
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

fn undecided(at: &str, name: &str) -> Problem {
    Problem::new(at, format!("{name} has no declared type, and the result shows it"))
        .hint(format!("declare it in [source.schema]: \"{name}\" = \"string\""))
}

fn result_columns(window: &WindowSpec, key_types: &[DataType], aggregates: &[Aggregate]) -> Vec<(String, OutputType)> {
    let keys = window.by.iter().zip(key_types).map(|(key, data_type)| (key.name.clone(), OutputType::from(*data_type)));
    let fixed = |columns: [(&'static str, DataType); 2]| {
        columns.map(|(name, data_type)| (name.to_owned(), OutputType::from(data_type)))
    };
    let values = window.aggregates.iter().zip(aggregates).map(|(named, (plan, _))| (named.name.clone(), plan.output));
    keys.chain(fixed(WINDOW_COLUMNS)).chain(values).chain(fixed(EMISSION_COLUMNS)).collect()
}

/// Whether lanes' windows must be merged: there is a window, and its key is not the record key.
pub fn needs_combine(spec: &Spec, problems: &mut Vec<Problem>) -> bool {
    let Some(keyed) = groups_by_record_key(spec) else { return false };
    match spec.combine {
        CombineSpec::Auto => !keyed,
        CombineSpec::Local => true,
        CombineSpec::None if keyed => false,
        CombineSpec::None => {
            let message = "combine = \"none\" needs a group key that is the record key";
            problems
                .push(Problem::new("combine", message).hint("set source.keyed_by, group by _key, or use \"local\""));
            false
        }
    }
}

/// Whether a group key of the window is the record key, whatever `select` calls it; `None` without a
/// window.
fn groups_by_record_key(spec: &Spec) -> Option<bool> {
    let mut record_keys: Vec<&str> = spec.source.keyed_by.as_deref().into_iter().chain(["_key"]).collect();
    for step in &spec.steps {
        match step {
            StepSpec::Select { columns } => {
                let kept = columns.iter().filter(|column| record_keys.contains(&column.text.trim()));
                record_keys = kept.map(|column| column.name.as_str()).collect();
            }
            StepSpec::Window(window) => {
                return Some(window.by.iter().any(|key| record_keys.contains(&key.text.trim())));
            }
            StepSpec::Filter { .. } | StepSpec::Dedupe { .. } => {}
        }
    }
    None
}
