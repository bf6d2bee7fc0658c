//! Which aggregate a call means, what it takes and what it gives.
//!
//! The planner asks here once for each aggregate column; `table` lays out one column of cells for
//! each answer. Invariant: a resolved plan's argument type is one its function can take.

use crate::batch::{DataType, Scalar};
use crate::results::OutputType;

/// An aggregate function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Function {
    /// Rows, or the values that are present.
    Count,
    /// The exact sum, rounded once at the end for floats.
    Sum,
    /// The least value.
    Min,
    /// The greatest value.
    Max,
    /// The exact sum divided by the number of values, rounded once.
    Mean,
    /// The sample variance (over n - 1), from exact sums, rounded once.
    Var,
    /// The square root of the sample variance.
    Stddev,
    /// Whether one value is true.
    Any,
    /// Whether every value is true.
    All,
    /// The present value with the least (event time, partition, offset).
    First,
    /// The present value with the greatest (event time, partition, offset).
    Last,
    /// The value that goes with the least of another; of equal ones the first.
    ArgMin,
    /// The value that goes with the greatest of another; of equal ones the first.
    ArgMax,
    /// The present values in order, the first so many.
    CollectList,
    /// The most frequent values, with how often they occurred.
    TopK,
    /// The value below or at which a share of all values lies, within 1/128 of it.
    Quantile,
    /// How many different values there are, exactly.
    CountDistinct,
    /// How many different values there are, within about 1.6 % (one standard deviation).
    ApproxDistinct,
    /// Functions of the user; see `user.rs`.
    User,
}

impl Function {
    const ALL: [(&'static str, Self); 18] = [
        ("count", Self::Count),
        ("sum", Self::Sum),
        ("min", Self::Min),
        ("max", Self::Max),
        ("mean", Self::Mean),
        ("var", Self::Var),
        ("stddev", Self::Stddev),
        ("any", Self::Any),
        ("all", Self::All),
        ("first", Self::First),
        ("last", Self::Last),
        ("arg_min", Self::ArgMin),
        ("arg_max", Self::ArgMax),
        ("collect_list", Self::CollectList),
        ("top_k", Self::TopK),
        ("quantile", Self::Quantile),
        ("count_distinct", Self::CountDistinct),
        ("approx_distinct", Self::ApproxDistinct),
    ];

    /// The function called `name` in pipeline files.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, function)| *function)
    }

    /// The name in pipeline files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Min => "min",
            Self::Max => "max",
            Self::Mean => "mean",
            Self::Var => "var",
            Self::Stddev => "stddev",
            Self::Any => "any",
            Self::All => "all",
            Self::First => "first",
            Self::Last => "last",
            Self::ArgMin => "arg_min",
            Self::ArgMax => "arg_max",
            Self::CollectList => "collect_list",
            Self::TopK => "top_k",
            Self::Quantile => "quantile",
            Self::CountDistinct => "count_distinct",
            Self::ApproxDistinct => "approx_distinct",
            Self::User => "a function of yours",
        }
    }

    /// True when the argument must be a number, so that an undeclared field is taken for one.
    #[must_use]
    pub const fn takes_numbers(self) -> bool {
        matches!(self, Self::Sum | Self::Mean | Self::Var | Self::Stddev | Self::Quantile)
    }

    /// True when what is kept of many rows is not much larger than of one.
    #[must_use]
    pub const fn is_small(self) -> bool {
        let holds_values = matches!(self, Self::CollectList | Self::TopK | Self::Quantile | Self::User);
        !holds_values && !matches!(self, Self::CountDistinct | Self::ApproxDistinct)
    }

    /// True when the result depends on the order of rows.
    #[must_use]
    pub const fn is_ordered(self) -> bool {
        matches!(self, Self::First | Self::Last | Self::ArgMin | Self::ArgMax | Self::CollectList)
    }

    /// The fewest and the most arguments, and how to say it.
    const fn arity(self) -> (usize, usize, &'static str) {
        match self {
            Self::Count => (0, 1, "at most one argument"),
            Self::ArgMin | Self::ArgMax | Self::TopK | Self::Quantile => (2, 2, "two arguments"),
            Self::CollectList => (1, 2, "one or two arguments"),
            _ => (1, 1, "one argument"),
        }
    }

    /// What the argument after the value says; `Err` says what it must be.
    fn setting(self, written: Option<&Argument<'_>>) -> Result<Setting, String> {
        let name = self.as_str();
        let whole = |what: &str, end: u32| {
            let value = written.and_then(|written| whole_number(written, end));
            let message = || format!("{what} of {name} must be a whole number from 1 to {end}, written out");
            value.map(Setting::Most).ok_or_else(message)
        };
        match self {
            Self::CollectList if written.is_none() => Ok(Setting::Most(LIST_DEFAULT)),
            Self::CollectList => whole("the limit", LIST_MAX),
            Self::TopK => whole("the k", TOP_MAX),
            Self::Quantile => {
                let share = match written.and_then(|written| written.constant) {
                    Some(Scalar::Float64(share)) if (0.0..=1.0).contains(&share) => Some(share),
                    Some(Scalar::Int64(share @ 0..=1)) => Some(share as f64),
                    _ => None,
                };
                share.map(Setting::Share).ok_or_else(|| {
                    format!("the share of {name} must be a number from 0 to 1, written out: quantile(x, 0.95)")
                })
            }
            _ => Ok(Setting::None),
        }
    }

    /// The type of the result over arguments of type `argument`; `Err` says what it takes instead.
    fn output(self, argument: DataType) -> Result<OutputType, &'static str> {
        let value = match self {
            Self::Count | Self::CountDistinct | Self::ApproxDistinct => DataType::Int64,
            Self::Sum | Self::Mean | Self::Var | Self::Stddev | Self::Quantile => match argument {
                DataType::Decimal { scale, .. } if self == Self::Sum => DataType::Decimal { precision: 38, scale },
                DataType::Int64 | DataType::Float64 if self == Self::Sum => argument,
                DataType::Int64 | DataType::Float64 | DataType::Decimal { .. } => DataType::Float64,
                _ => return Err("a number (int64, float64 or decimal)"),
            },
            Self::Any | Self::All if argument == DataType::Bool => DataType::Bool,
            Self::Any | Self::All => return Err("a condition (bool)"),
            _ if argument == DataType::Scalar => return Err(DECLARED),
            Self::CollectList => return Ok(OutputType::List(argument)),
            Self::TopK => return Ok(OutputType::Counts(argument)),
            Self::Min | Self::Max | Self::First | Self::Last | Self::ArgMin | Self::ArgMax | Self::User => argument,
        };
        Ok(OutputType::Value(value))
    }
}

const DECLARED: &str = "a field with a declared type";

/// What a call may say besides its arguments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Setting {
    /// Nothing.
    None,
    /// How many values to keep, or to give.
    Most(u32),
    /// A share of the values, 0 to 1.
    Share(f64),
}

/// One argument of a call.
#[derive(Debug, Clone, Copy)]
pub struct Argument<'a> {
    /// Its type.
    pub data_type: DataType,
    /// Its value, when that is written out.
    pub constant: Option<Scalar<'a>>,
}

/// Why a call is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// One sentence for a [`Problem`](crate::error::Problem).
    pub message: String,
    /// Number of the argument that it is about.
    pub argument: usize,
}

/// Values that `collect_list` keeps when the call does not say.
pub const LIST_DEFAULT: u32 = 1_000;
/// Most values that it can be asked to keep.
pub const LIST_MAX: u32 = 100_000;
/// Most values that `top_k` can be asked for.
pub const TOP_MAX: u32 = 1_000;

/// One resolved aggregate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AggregatePlan {
    /// What is computed.
    pub function: Function,
    /// The type of its argument; `None` for `count()`.
    pub argument: Option<DataType>,
    /// The type of what decides, for `arg_min` and `arg_max`.
    pub second: Option<DataType>,
    /// What else the call says.
    pub setting: Setting,
    /// The type of its result. `mean` is float64 also over decimals.
    pub output: OutputType,
}

impl AggregatePlan {
    /// True when what is held of many rows takes exactly as much as of none: no exact sum of floats, no text.
    #[must_use]
    pub fn is_of_one_size(&self) -> bool {
        let fixed = |data_type: &DataType| matches!(data_type, DataType::Bool | DataType::Int64 | DataType::Timestamp);
        self.function == Function::Count
            || self.function.is_small() && self.argument.iter().chain(&self.second).all(fixed)
    }

    /// Resolves a call from its name and the types of its arguments, none of them written out.
    ///
    /// # Errors
    /// One sentence, as [`AggregatePlan::resolve_call`].
    pub fn resolve(name: &str, arguments: &[DataType]) -> Result<Self, String> {
        let argument = |data_type: &DataType| Argument { data_type: *data_type, constant: None };
        let arguments: Vec<Argument<'_>> = arguments.iter().map(argument).collect();
        Self::resolve_call(name, &arguments).map_err(|refusal| refusal.message)
    }

    /// Resolves a call from its name and its arguments.
    ///
    /// # Errors
    /// An unknown name, a wrong number of arguments, or an argument that the function cannot take.
    pub fn resolve_call(name: &str, arguments: &[Argument<'_>]) -> Result<Self, Refusal> {
        let refuse = |argument, message| Refusal { message, argument };
        let function = Function::parse(name).ok_or_else(|| refuse(0, unknown(name)))?;
        let (least, most, takes) = function.arity();
        if !(least..=most).contains(&arguments.len()) {
            let has = if arguments.is_empty() { "none".to_owned() } else { arguments.len().to_string() };
            return Err(refuse(0, format!("{name} takes {takes}, and has {has}")));
        }
        let mut plan =
            Self { function, argument: None, second: None, setting: Setting::None, output: DataType::Int64.into() };
        if let Some(first) = arguments.first() {
            plan.argument = Some(first.data_type);
            plan.output = function
                .output(first.data_type)
                .map_err(|takes| refuse(0, format!("{name} takes {takes}, and its argument is {}", first.data_type)))?;
        }
        match (function, arguments.get(1)) {
            (Function::ArgMin | Function::ArgMax, Some(by)) if by.data_type == DataType::Scalar => {
                let message = format!("{name} takes {DECLARED} to decide by, and its second argument is scalar");
                return Err(refuse(1, message));
            }
            (Function::ArgMin | Function::ArgMax, by) => plan.second = by.map(|by| by.data_type),
            (_, second) => plan.setting = function.setting(second).map_err(|message| refuse(1, message))?,
        }
        Ok(plan)
    }

    /// The plan of an aggregate of the user with results of type `returns`; its argument is the states of rows.
    #[must_use]
    pub fn user(returns: DataType) -> Self {
        let (argument, output) = (Some(DataType::Binary), returns.into());
        Self { function: Function::User, argument, second: None, setting: Setting::None, output }
    }

    /// How many of the call's arguments are values of rows; the others are settings.
    #[must_use]
    pub fn inputs(&self) -> usize {
        usize::from(self.argument.is_some()) + usize::from(self.second.is_some())
    }

    /// How many values to keep or to give.
    pub(super) fn most(&self) -> usize {
        match self.setting {
            Setting::Most(most) => most as usize,
            Setting::None | Setting::Share(_) => usize::MAX,
        }
    }

    /// The share of the values.
    pub(super) fn share(&self) -> f64 {
        match self.setting {
            Setting::Share(share) => share,
            Setting::None | Setting::Most(_) => 1.0,
        }
    }

    /// The type to read an argument as that nobody declared: functions that only tell values apart
    /// take any JSON scalar, the others need to be told.
    #[must_use]
    pub fn argument_hint(name: &str) -> Option<DataType> {
        match Function::parse(name)? {
            Function::Count | Function::CountDistinct | Function::ApproxDistinct => Some(DataType::Scalar),
            _ => None,
        }
    }
}

/// The value of an argument that is a whole number from 1 to `end`, written out.
fn whole_number(argument: &Argument<'_>, end: u32) -> Option<u32> {
    let Some(Scalar::Int64(value)) = argument.constant else { return None };
    u32::try_from(value).ok().filter(|value| (1..=end).contains(value))
}

/// Names that other systems use for the same thing.
const SYNONYMS: &[(&str, &str)] = &[
    ("avg", "mean"),
    ("average", "mean"),
    ("total", "sum"),
    ("minimum", "min"),
    ("maximum", "max"),
    ("variance", "var"),
    ("var_samp", "var"),
    ("std", "stddev"),
    ("stddev_samp", "stddev"),
    ("bool_or", "any"),
    ("some", "any"),
    ("bool_and", "all"),
    ("every", "all"),
    ("min_by", "arg_min"),
    ("argmin", "arg_min"),
    ("max_by", "arg_max"),
    ("argmax", "arg_max"),
    ("array_agg", "collect_list"),
    ("list", "collect_list"),
    ("mode", "top_k"),
    ("topk", "top_k"),
    ("median", "quantile"),
    ("percentile", "quantile"),
    ("approx_quantile", "quantile"),
    ("first_value", "first"),
    ("last_value", "last"),
    ("nunique", "count_distinct"),
    ("approx_count_distinct", "approx_distinct"),
];

fn unknown(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let meant = SYNONYMS.iter().find(|(synonym, _)| *synonym == lower).map(|(_, meant)| *meant);
    let meant = meant.or_else(|| {
        let ranked = Function::ALL.iter().map(|(known, _)| (edits(&lower, known), *known));
        ranked.min().filter(|(edits, known)| *edits <= known.len() / 3).map(|(_, known)| known)
    });
    if let Some(meant) = meant {
        return format!("there is no aggregate `{name}`; did you mean `{meant}`?");
    }
    let known: Vec<&str> = Function::ALL.iter().map(|(known, _)| *known).collect();
    format!("there is no aggregate `{name}`; there are {}", known.join(", "))
}

/// Letters to insert, drop, replace or swap with their neighbour to turn `from` into `to`.
fn edits(from: &str, to: &str) -> usize {
    let (from, to) = (from.as_bytes(), to.as_bytes());
    let mut rows = vec![(0..=to.len()).collect::<Vec<usize>>()];
    for above in 0..from.len() {
        let mut row = vec![above + 1];
        for left in 0..to.len() {
            let replaced = rows[above][left] + usize::from(from[above] != to[left]);
            let mut least = replaced.min(rows[above][left + 1] + 1).min(row[left] + 1);
            if above > 0 && left > 0 && from[above] == to[left - 1] && from[above - 1] == to[left] {
                least = least.min(rows[above - 1][left - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const MONEY: DataType = DataType::Decimal { precision: 18, scale: 2 };

    fn refused(name: &str, arguments: &[DataType]) -> String {
        AggregatePlan::resolve(name, arguments).expect_err("refused")
    }

    #[test]
    fn names_go_back_and_forth() {
        for (name, function) in Function::ALL {
            assert_eq!(function.as_str(), name);
            assert_eq!(Function::parse(name), Some(function));
        }
    }

    #[test]
    fn result_types() {
        let output =
            |name: &str, argument| AggregatePlan::resolve(name, &[argument]).expect("resolves").output.values();
        assert_eq!(output("count", DataType::Scalar), DataType::Int64);
        assert_eq!(output("sum", DataType::Int64), DataType::Int64);
        assert_eq!(output("sum", DataType::Float64), DataType::Float64);
        assert_eq!(output("sum", MONEY), DataType::Decimal { precision: 38, scale: 2 });
        assert_eq!(output("mean", MONEY), DataType::Float64);
        assert_eq!(output("stddev", MONEY), DataType::Float64);
        assert_eq!(output("any", DataType::Bool), DataType::Bool);
        assert_eq!(output("max", DataType::Timestamp), DataType::Timestamp);
        assert_eq!(output("first", DataType::String), DataType::String);
        assert_eq!(output("count_distinct", DataType::Scalar), DataType::Int64);
        assert_eq!(AggregatePlan::resolve("count", &[]).expect("resolves").argument, None);
    }

    #[test]
    fn refusals_say_what_to_do() {
        let number = "sum takes a number (int64, float64 or decimal), and its argument is string";
        assert_eq!(refused("sum", &[DataType::String]), number);
        assert_eq!(
            refused("mean", &[DataType::Timestamp]),
            number.replace("sum", "mean").replace("string", "timestamp")
        );
        assert!(refused("all", &[DataType::Int64]).starts_with("all takes a condition (bool), and"));
        let declared = "min takes a field with a declared type, and its argument is scalar";
        assert_eq!(refused("min", &[DataType::Scalar]), declared);
        assert_eq!(refused("max", &[]), "max takes one argument, and has none");
        let two = [DataType::Int64, DataType::Int64];
        assert_eq!(refused("arg_min", &two[..1]), "arg_min takes two arguments, and has 1");
        let by = refused("arg_min", &[DataType::Int64, DataType::Scalar]);
        assert_eq!(by, "arg_min takes a field with a declared type to decide by, and its second argument is scalar");
        assert_eq!(refused("max", &two), "max takes one argument, and has 2");
        assert_eq!(refused("count", &two), "count takes at most one argument, and has 2");
    }

    #[test]
    fn settings_are_written_out_and_within_their_bounds() {
        let call = |name: &str, written: Option<Scalar<'static>>| {
            let written = Argument { data_type: DataType::Int64, constant: written };
            AggregatePlan::resolve_call(name, &[Argument { constant: None, ..written }, written])
        };
        let setting = |name, written| call(name, Some(written)).map(|plan| (plan.setting, plan.inputs()));
        assert_eq!(setting("collect_list", Scalar::Int64(7)), Ok((Setting::Most(7), 1)));
        assert_eq!(setting("top_k", Scalar::Int64(1_000)), Ok((Setting::Most(1_000), 1)));
        assert_eq!(setting("quantile", Scalar::Float64(0.25)), Ok((Setting::Share(0.25), 1)));
        assert_eq!(setting("quantile", Scalar::Int64(1)), Ok((Setting::Share(1.0), 1)));
        assert_eq!(call("arg_max", None).map(|plan| plan.inputs()), Ok(2));
        let one = AggregatePlan::resolve("collect_list", &[DataType::String]).expect("resolves");
        assert_eq!((one.setting, one.output), (Setting::Most(LIST_DEFAULT), OutputType::List(DataType::String)));
        let refused = |name, written| call(name, written).map_err(|refusal| (refusal.argument, refusal.message));
        let limit = "the limit of collect_list must be a whole number from 1 to 100000, written out";
        assert_eq!(refused("collect_list", Some(Scalar::Int64(0))), Err((1, limit.to_owned())));
        assert_eq!(refused("collect_list", None), Err((1, limit.to_owned())));
        assert!(refused("top_k", Some(Scalar::Float64(3.0))).is_err());
        assert!(refused("quantile", Some(Scalar::Float64(1.5))).is_err());
        assert!(refused("quantile", None).is_err());
    }

    #[test]
    fn unknown_names_get_the_nearest() {
        assert_eq!(refused("cuont", &[]), "there is no aggregate `cuont`; did you mean `count`?");
        assert_eq!(refused("AVG", &[]), "there is no aggregate `AVG`; did you mean `mean`?");
        assert!(refused("aprox_distinct", &[]).ends_with("did you mean `approx_distinct`?"));
        assert_eq!(refused("median", &[]), "there is no aggregate `median`; did you mean `quantile`?");
        assert!(refused("kurtosis", &[]).contains("there are count, sum, min"));
        assert!(refused("", &[]).contains("there are count, sum, min"));
    }

    #[test]
    fn only_functions_that_tell_values_apart_take_undeclared_fields() {
        assert_eq!(AggregatePlan::argument_hint("count_distinct"), Some(DataType::Scalar));
        assert_eq!(AggregatePlan::argument_hint("count"), Some(DataType::Scalar));
        assert_eq!(AggregatePlan::argument_hint("sum"), None);
        assert_eq!(AggregatePlan::argument_hint("cuont"), None);
    }
}
