//! Compiles a join: what each side brings, which rows belong together, and the columns of the result.
//!
//! `inputs.rs` compiles the right side first, then the left one with it. Invariant: the names of the result's columns
//! are distinct, and both keys have the same types.

use super::inputs::HandOver;
use super::room::join_rooms;
use super::scope::VisibleColumn;
use super::steps::{Compiler, groups_by_record_key, record_keys, undecided};
use super::{Before, Output, StagePlan};
use crate::batch::DataType;
use crate::error::Problem;
use crate::expr::{Expression, Field, last_segment};
use crate::group::key::KeyCodec;
use crate::join::{JoinKind, JoinPlan, JoinType};
use crate::results::OutputType;
use crate::room::Room;
use crate::spec::{CombineSpec, InputSpec, JoinKindSpec, JoinSpec, JoinTypeSpec, Spec, StepSpec};
use std::sync::Arc;

/// A join, compiled.
#[derive(Debug)]
pub struct JoinStep {
    /// Which rows belong together.
    pub plan: Arc<JoinPlan>,
    /// Where the columns of the result come from, in order.
    pub columns: Vec<JoinedColumn>,
    /// Each column's type.
    pub types: Vec<DataType>,
    /// How many rows of either side a lane may bring, where rows are shed.
    pub rooms: [Option<Room>; 2],
}

/// Where a column of joined rows comes from: a place among those that a side carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinedColumn {
    /// The left side.
    Left(usize),
    /// The right side.
    Right(usize),
    /// A key, of whichever side there is.
    Key(usize, usize),
    /// The start of the window both rows are in.
    WindowStart,
    /// Its end.
    WindowEnd,
}

/// What one side brings.
#[derive(Debug, Clone)]
pub struct Side {
    /// Place and type of each of the key's columns.
    keys: Vec<(usize, DataType)>,
    /// Which of the key's types are certain: declared, computed, or of a record part.
    settled: Vec<bool>,
    /// The columns carried along.
    carried: Vec<Carried>,
    /// For each of the key's columns its place among those carried, where it is one.
    carried_keys: Vec<Option<usize>>,
    /// The key is that of the record.
    of_record: bool,
    is_table: bool,
}

#[derive(Debug, Clone)]
struct Carried {
    name: String,
    place: usize,
    data_type: DataType,
}

impl Side {
    /// How a lane hands its rows over.
    pub fn hand_over(self) -> HandOver {
        let types: Vec<DataType> = self.keys.iter().map(|(_, data_type)| *data_type).collect();
        HandOver {
            is_table: self.is_table,
            record_key: types.first().copied().filter(|_| self.is_table && self.of_record),
            keys: self.keys.iter().map(|(place, _)| *place).collect(),
            key: KeyCodec::new(types),
            carried: self.carried.iter().map(|column| column.place).collect(),
        }
    }

    fn types(&self) -> Vec<DataType> {
        self.carried.iter().map(|column| column.data_type).collect()
    }
}

/// The other input and the join that names it. Says what is wrong with joins as such.
pub fn other_input<'s>(spec: &'s Spec, problems: &mut Vec<Problem>) -> Option<(&'s InputSpec, (usize, &'s JoinSpec))> {
    let joins: Vec<_> = joins_of(&spec.steps).collect();
    for (number, _) in joins.iter().skip(1) {
        let message = "a pipeline has one join, and this is another";
        let hint = "join first, write the rows to a topic, and join that in a second pipeline";
        problems.push(Problem::new(format!("steps[{number}].join"), message).hint(hint));
    }
    let named = joins.first().map(|(_, join)| join.input.as_str());
    for input in spec.inputs.iter().filter(|input| Some(input.name.as_str()) != named) {
        let message = "no step joins this input";
        let hint = format!("add a step with join = \"{}\", or leave the input out", input.name);
        problems.push(Problem::new(format!("sources.{}", input.name), message).hint(hint));
    }
    let (number, join) = *joins.first()?;
    if let Some(window) = spec.steps[..number].iter().position(|step| matches!(step, StepSpec::Window(_))) {
        let message = "a join stands before the first window, and this window is before it";
        let hint = "write the rows of the window to a topic, and join that in a second pipeline";
        problems.push(Problem::new(format!("steps[{window}].window"), message).hint(hint));
        return None;
    }
    let input = spec.inputs.iter().find(|input| input.name == join.input);
    if input.is_none() {
        let message = format!("there is no input called {}", join.input);
        problems
            .push(Problem::new(format!("steps[{number}].join"), message).hint(format!("add [sources.{}]", join.input)));
    }
    let input = input.filter(|input| !has_steps_apart(input, problems));
    Some((input?, (number, join)))
}

/// Whether `input` has steps that an input which is joined cannot have.
fn has_steps_apart(input: &InputSpec, problems: &mut Vec<Problem>) -> bool {
    let before = problems.len();
    for (number, step) in input.steps.iter().enumerate() {
        let verb = match step {
            StepSpec::Window(_) => "window",
            StepSpec::Join(_) => "join",
            _ => continue,
        };
        let message = format!("an input that is joined cannot have a {verb} of its own");
        let at = format!("sources.{}.steps[{number}].{verb}", input.name);
        let hint = "write those rows to a topic with another pipeline, and join that topic";
        problems.push(Problem::new(at, message).hint(hint));
    }
    problems.len() > before
}

/// The join steps, and which steps they are.
pub fn joins_of(steps: &[StepSpec]) -> impl Iterator<Item = (usize, &JoinSpec)> {
    steps.iter().enumerate().filter_map(|(number, step)| match step {
        StepSpec::Join(join) => Some((number, join)),
        _ => None,
    })
}

impl Compiler<'_> {
    /// What the left side declares the columns of its key to be, where no step made others of them.
    pub(super) fn declared_left(&self, number: usize, join: &JoinSpec) -> Vec<Option<DataType>> {
        let changes = |step: &StepSpec| matches!(step, StepSpec::Select { .. } | StepSpec::MapBatches { .. });
        if self.spec.steps[..number].iter().any(changes) {
            return Vec::new();
        }
        join.left_on.iter().map(|text| DataType::parse(self.spec.source.schema.get(text)?)).collect()
    }

    /// What this input brings to a join by the key `on`, which stands at `at`. `hints`: types of the other side's key.
    pub(super) fn side(
        &mut self,
        join: &JoinSpec,
        on: &[String],
        at: &str,
        hints: &[Option<DataType>],
    ) -> Option<Side> {
        let is_right = self.input.name.is_some();
        let carried = self.carried(on, at);
        let (mut keys, mut settled, mut carried_keys) = (Vec::new(), Vec::new(), Vec::new());
        for (number, text) in on.iter().enumerate() {
            let hint = hints.get(number).copied().flatten();
            let key = self.key(text, at, hint)?;
            settled.push(hint.is_some() || self.columns.is_settled(text));
            carried_keys.push(carried.iter().position(|column| column.place == key.0));
            keys.push(key);
        }
        let record_keys = record_keys(self.input.source, self.input.steps);
        let of_record = on.len() == 1 && record_keys.contains(&on[0].trim());
        let is_table = is_right && matches!(join.kind, JoinKindSpec::Table { .. });
        if is_table && of_record && !matches!(keys[0].1, DataType::String | DataType::Int64) {
            let message = format!("the key of a table is text or an integer, and {} is {}", on[0], keys[0].1);
            self.problems.push(Problem::new(at, message).hint("declare it as string"));
        }
        Some(Side { keys, settled, carried, carried_keys, of_record, is_table })
    }

    /// The columns of the step before, or the key and the declared fields of the record.
    fn carried(&mut self, on: &[String], at: &str) -> Vec<Carried> {
        if let Some(shown) = self.columns.shown() {
            let values = shown.iter().enumerate().map(|(place, column)| Carried {
                name: column.name.clone(),
                place,
                data_type: column.output.values(),
            });
            return values.collect();
        }
        let keys = on.iter().filter_map(|text| Field::parse(text).ok());
        let declared = self.columns.declared().into_iter().map(|(field, _)| field);
        let mut fields: Vec<Field> = Vec::new();
        for field in keys.chain(declared) {
            if !fields.contains(&field) {
                fields.push(field);
            }
        }
        let mut carried: Vec<Carried> = Vec::new();
        for field in fields {
            at.clone_into(&mut self.columns.used_at);
            let name = last_segment(&field);
            let text = field.to_string();
            let Some((place, data_type)) = self.key(&text, at, None) else { continue };
            if carried.iter().any(|known| known.name == name) {
                let message = format!("two columns of {} would be called {name}", self.input.at());
                let hint = format!("put a select before the join, as select = {{ {name}_2 = \"{text}\" }}");
                self.problems.push(Problem::new(at, message).hint(hint));
            }
            carried.push(Carried { name, place, data_type });
        }
        carried
    }

    /// Place and type of a column of the key.
    fn key(&mut self, text: &str, at: &str, hint: Option<DataType>) -> Option<(usize, DataType)> {
        at.clone_into(&mut self.columns.used_at);
        let none = std::collections::BTreeMap::new();
        let compiled = Expression::compile(text, &none, self.columns, hint, at);
        let key = self.keep(compiled)?;
        let Some(place) = key.as_column() else {
            let problem = Problem::new(at, format!("{text} is computed, and a join goes by columns"));
            self.problems.push(problem.hint("compute it in a select before the join"));
            return None;
        };
        if key.data_type() == DataType::Scalar {
            self.problems.push(undecided(at, text));
        }
        Some((place, key.data_type()))
    }

    /// The join at `at` of this input's rows with those of the other.
    pub(super) fn join(&mut self, join: &JoinSpec, at: &str, output: &mut Output) -> Option<JoinStep> {
        let right = self.right;
        let hints: Vec<Option<DataType>> = right.map_or_else(Vec::new, |right| {
            right.keys.iter().zip(&right.settled).map(|(key, settled)| settled.then_some(key.1)).collect()
        });
        self.side = self.side(join, &join.left_on, &format!("{at}.left_on"), &hints);
        let (left, right) = (self.side.clone()?, right?);
        self.check_keys(join, &left, right, at);
        let plan = JoinPlan {
            kind: kind_of(join.kind),
            how: match join.how {
                JoinTypeSpec::Inner => JoinType::Inner,
                JoinTypeSpec::Left => JoinType::Left,
                JoinTypeSpec::Outer => JoinType::Outer,
            },
            key: KeyCodec::new(left.keys.iter().map(|(_, data_type)| *data_type).collect()),
            types: [left.types(), right.types()],
            allowed_lateness_ms: join.allowed_lateness_ms,
        };
        if let Some(problem) = plan.problem() {
            self.problems.push(Problem::new(format!("{at}.join"), problem));
        }
        let named = joined_columns(join, &left, right);
        let names: Vec<String> = named.iter().map(|(name, ..)| name.clone()).collect();
        self.check_names(names.iter().map(String::as_str), &format!("{at}.join"));
        let visible = |(name, _, data_type): &(String, JoinedColumn, DataType)| VisibleColumn {
            name: name.clone(),
            output: OutputType::Value(*data_type),
            lists: None,
        };
        self.columns.show("join", named.iter().map(visible).collect());
        *output = Output::Rows(named.iter().map(|(name, _, data_type)| (name.clone(), (*data_type).into())).collect());
        let (columns, types) = named.into_iter().map(|(_, column, data_type)| (column, data_type)).unzip();
        let rooms = join_rooms(self.spec, &plan);
        Some(JoinStep { plan: Arc::new(plan), columns, types, rooms })
    }

    fn check_keys(&mut self, join: &JoinSpec, left: &Side, right: &Side, at: &str) {
        for (number, ((_, one), (_, other))) in left.keys.iter().zip(&right.keys).enumerate() {
            if one != other {
                let (left_on, right_on) = (&join.left_on[number], &join.right_on[number]);
                let message =
                    format!("{left_on} is {one}, and {right_on} of {} is {other}: they are never equal", join.input);
                let hint = "declare the same type for both in their [...schema]";
                self.problems.push(Problem::new(format!("{at}.left_on"), message).hint(hint));
            }
        }
    }
}

/// The stage behind the join at `at`, without its steps.
pub fn stage_of(at: &str, output: &Output, spec: &Spec) -> StagePlan {
    let input = match output {
        Output::Rows(columns) | Output::Windows(columns) => columns.clone(),
        Output::Records => Vec::new(),
    };
    StagePlan {
        steps: Vec::new(),
        name: at.to_owned(),
        lists: vec![None; input.len()],
        input,
        before: Before::Join,
        key_bytes_max: spec.limits.key_bytes_max as usize,
        is_last: false,
    }
}

const fn kind_of(kind: JoinKindSpec) -> JoinKind {
    match kind {
        JoinKindSpec::Interval { from_ms, to_ms } => JoinKind::Interval { from_ms, to_ms },
        JoinKindSpec::Window { size_ms, offset_ms } => JoinKind::Window { size_ms, offset_ms },
        JoinKindSpec::AsOf { tolerance_ms } => JoinKind::AsOf { tolerance_ms },
        JoinKindSpec::Table { versioned } => JoinKind::Table { versioned },
    }
}

/// Name, origin and type of each column: those of the left side, then of the right one. A key called the same on both
/// sides is one column; another name that both have gets the suffix on the right.
fn joined_columns(join: &JoinSpec, left: &Side, right: &Side) -> Vec<(String, JoinedColumn, DataType)> {
    let pairs = left.carried_keys.iter().zip(&right.carried_keys).filter_map(|(one, other)| Some(((*one)?, (*other)?)));
    let same: Vec<(usize, usize)> =
        pairs.filter(|(one, other)| left.carried[*one].name == right.carried[*other].name).collect();
    let mut columns: Vec<(String, JoinedColumn, DataType)> = Vec::new();
    for (place, column) in left.carried.iter().enumerate() {
        let key = same.iter().find(|(one, _)| *one == place);
        let from = key.map_or(JoinedColumn::Left(place), |(one, other)| JoinedColumn::Key(*one, *other));
        columns.push((column.name.clone(), from, column.data_type));
    }
    for (place, column) in right.carried.iter().enumerate().filter(|(place, _)| !same.iter().any(|it| it.1 == *place)) {
        let clashes = left.carried.iter().any(|known| known.name == column.name);
        let name = if clashes { format!("{}{}", column.name, join.suffix) } else { column.name.clone() };
        columns.push((name, JoinedColumn::Right(place), column.data_type));
    }
    if matches!(join.kind, JoinKindSpec::Window { .. }) {
        columns.push(("window_start".to_owned(), JoinedColumn::WindowStart, DataType::Timestamp));
        columns.push(("window_end".to_owned(), JoinedColumn::WindowEnd, DataType::Timestamp));
    }
    columns
}

/// Whether each partition of both inputs is joined by itself.
pub fn joins_apart(spec: &Spec) -> bool {
    let has_join = joins_of(&spec.steps).next().is_some();
    has_join && spec.combine == CombineSpec::None && groups_by_record_key(spec) == Some(true)
}

/// The columns behind `join` that are the record key and never null for want of a partner; `None` where it does not go by the
/// record keys of both sides. `left_keys` are those of the left side.
pub fn joined_keys<'s>(spec: &'s Spec, join: &'s JoinSpec, left_keys: &[&str]) -> Option<Vec<&'s str>> {
    let right = spec.inputs.iter().find(|input| input.name == join.input)?;
    let right_keys = record_keys(&right.source, &right.steps);
    let is_key =
        |(left, right): &(&String, &String)| left_keys.contains(&left.trim()) && right_keys.contains(&right.trim());
    let (left, right) = join.left_on.iter().zip(&join.right_on).find(is_key)?;
    let name = |text: &'s str| text.trim().rsplit('.').next().unwrap_or_default();
    let (left, right) = (name(left), name(right));
    Some(match join.how {
        _ if left == right => vec![left],
        JoinTypeSpec::Inner | JoinTypeSpec::Left => vec![left],
        JoinTypeSpec::Outer => Vec::new(),
    })
}
