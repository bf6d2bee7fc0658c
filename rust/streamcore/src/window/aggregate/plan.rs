//! Which aggregate a call means, what it takes and what it gives.
//!
//! The planner asks here once for each aggregate column; `table` lays out one column of cells for
//! each answer. Invariant: a resolved plan's argument type is one its function can take.

use crate::batch::DataType;

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
    /// The present value with the least (event time, partition, offset).
    First,
    /// The present value with the greatest (event time, partition, offset).
    Last,
    /// How many different values there are, exactly.
    CountDistinct,
    /// How many different values there are, within about 1.6 % (one standard deviation).
    ApproxDistinct,
}

impl Function {
    const ALL: [(&'static str, Self); 9] = [
        ("count", Self::Count),
        ("sum", Self::Sum),
        ("min", Self::Min),
        ("max", Self::Max),
        ("mean", Self::Mean),
        ("first", Self::First),
        ("last", Self::Last),
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
            Self::First => "first",
            Self::Last => "last",
            Self::CountDistinct => "count_distinct",
            Self::ApproxDistinct => "approx_distinct",
        }
    }

    /// The type of the result over arguments of type `argument`; `Err` says what it takes instead.
    fn output(self, argument: DataType) -> Result<DataType, &'static str> {
        let number = matches!(argument, DataType::Int64 | DataType::Float64 | DataType::Decimal { .. });
        match (self, argument) {
            (Self::Count | Self::CountDistinct | Self::ApproxDistinct, _) => Ok(DataType::Int64),
            (Self::Sum, DataType::Decimal { scale, .. }) => Ok(DataType::Decimal { precision: 38, scale }),
            (Self::Sum, _) if number => Ok(argument),
            (Self::Mean, _) if number => Ok(DataType::Float64),
            (Self::Sum | Self::Mean, _) => Err("a number (int64, float64 or decimal)"),
            (Self::Min | Self::Max | Self::First | Self::Last, DataType::Scalar) => Err("a field with a declared type"),
            (Self::Min | Self::Max | Self::First | Self::Last, _) => Ok(argument),
        }
    }
}

/// One resolved aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AggregatePlan {
    /// What is computed.
    pub function: Function,
    /// The type of its argument; `None` for `count()`.
    pub argument: Option<DataType>,
    /// The type of its result. `mean` is float64 also over decimals.
    pub output: DataType,
}

impl AggregatePlan {
    /// Resolves a call from its name and the types of its arguments.
    ///
    /// # Errors
    /// One sentence for a [`Problem`](crate::error::Problem): an unknown name, a wrong number of
    /// arguments, or an argument of a type the function cannot take.
    pub fn resolve(name: &str, arguments: &[DataType]) -> Result<Self, String> {
        let function = Function::parse(name).ok_or_else(|| unknown(name))?;
        match (function, arguments) {
            (Function::Count, []) => Ok(Self { function, argument: None, output: DataType::Int64 }),
            (_, [argument]) => match function.output(*argument) {
                Ok(output) => Ok(Self { function, argument: Some(*argument), output }),
                Err(takes) => Err(format!("{name} takes {takes}, and its argument is {argument}")),
            },
            (Function::Count, _) => Err(format!("count takes at most one argument, and has {}", arguments.len())),
            (_, []) => Err(format!("{name} takes one argument, and has none")),
            (_, _) => Err(format!("{name} takes one argument, and has {}", arguments.len())),
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

/// Names that other systems use for the same thing.
const SYNONYMS: [(&str, &str); 9] = [
    ("avg", "mean"),
    ("average", "mean"),
    ("total", "sum"),
    ("minimum", "min"),
    ("maximum", "max"),
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
        let output = |name: &str, argument| AggregatePlan::resolve(name, &[argument]).expect("resolves").output;
        assert_eq!(output("count", DataType::Scalar), DataType::Int64);
        assert_eq!(output("sum", DataType::Int64), DataType::Int64);
        assert_eq!(output("sum", DataType::Float64), DataType::Float64);
        assert_eq!(output("sum", MONEY), DataType::Decimal { precision: 38, scale: 2 });
        assert_eq!(output("mean", MONEY), DataType::Float64);
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
        let declared = "min takes a field with a declared type, and its argument is scalar";
        assert_eq!(refused("min", &[DataType::Scalar]), declared);
        assert_eq!(refused("max", &[]), "max takes one argument, and has none");
        let two = [DataType::Int64, DataType::Int64];
        assert_eq!(refused("max", &two), "max takes one argument, and has 2");
        assert_eq!(refused("count", &two), "count takes at most one argument, and has 2");
    }

    #[test]
    fn unknown_names_get_the_nearest() {
        assert_eq!(refused("cuont", &[]), "there is no aggregate `cuont`; did you mean `count`?");
        assert_eq!(refused("AVG", &[]), "there is no aggregate `AVG`; did you mean `mean`?");
        assert!(refused("aprox_distinct", &[]).ends_with("did you mean `approx_distinct`?"));
        assert!(refused("median", &[]).contains("there are count, sum, min"));
        assert!(refused("percentile", &[]).contains("there are count, sum, min"));
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
