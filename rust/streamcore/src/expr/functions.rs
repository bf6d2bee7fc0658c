//! The functions of the language: names, how many arguments, what comes out.
//!
//! `calls` checks a call against this table. Invariant: names are unique, and each is spelled the
//! way its usage shows.

use super::text::TextFunction;
use super::time::TimePart;
use super::tree::Comparison;
use super::typed::NumberFunction;
use crate::batch::DataType;
use std::ops::RangeInclusive;

/// What a call means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    If,
    Coalesce,
    Extreme(Comparison),
    Cast(DataType),
    Number(NumberFunction),
    Text(TextFunction),
    TimePart(TimePart),
    DateTrunc,
}

/// One function.
pub(super) struct Signature {
    pub name: &'static str,
    pub function: Function,
    /// As shown in an error.
    pub usage: &'static str,
    /// How many arguments.
    pub arguments: RangeInclusive<usize>,
    /// The result's type, where the name alone tells.
    pub result: Option<DataType>,
}

const MANY: usize = usize::MAX;

const fn signature(
    usage: &'static str,
    name_length: usize,
    function: Function,
    arguments: RangeInclusive<usize>,
    result: Option<DataType>,
) -> Signature {
    Signature { name: usage.split_at(name_length).0, function, usage, arguments, result }
}

macro_rules! functions {
    ($($name:literal $rest:literal $function:expr, $arguments:expr, $result:expr;)*) => {
        [$(signature(concat!($name, $rest), $name.len(), $function, $arguments, $result)),*]
    };
}

/// Every function.
pub(super) static FUNCTIONS: [Signature; 29] = {
    use DataType::{Bool, Float64, Int64, String, Timestamp};
    use Function::{Cast, Coalesce, DateTrunc, Extreme, If, Number, Text};
    functions! {
        "if" "(condition, then, otherwise)" If, 3..=3, None;
        "coalesce" "(value, ...)" Coalesce, 1..=MANY, None;
        "min_of" "(value, ...)" Extreme(Comparison::LessOrEqual), 1..=MANY, None;
        "max_of" "(value, ...)" Extreme(Comparison::GreaterOrEqual), 1..=MANY, None;
        "int" "(value)" Cast(Int64), 1..=1, Some(Int64);
        "float" "(value)" Cast(Float64), 1..=1, Some(Float64);
        "string" "(value)" Cast(String), 1..=1, Some(String);
        "timestamp" "(value)" Cast(Timestamp), 1..=1, Some(Timestamp);
        "abs" "(number)" Number(NumberFunction::Abs), 1..=1, Some(Float64);
        "floor" "(number)" Number(NumberFunction::Floor), 1..=1, Some(Float64);
        "ceil" "(number)" Number(NumberFunction::Ceil), 1..=1, Some(Float64);
        "round" "(number)" Number(NumberFunction::Round), 1..=1, Some(Float64);
        "lower" "(text)" Text(TextFunction::Lower), 1..=1, Some(String);
        "upper" "(text)" Text(TextFunction::Upper), 1..=1, Some(String);
        "trim" "(text)" Text(TextFunction::Trim), 1..=1, Some(String);
        "length" "(text)" Text(TextFunction::Length), 1..=1, Some(Int64);
        "starts_with" "(text, prefix)" Text(TextFunction::StartsWith), 2..=2, Some(Bool);
        "ends_with" "(text, suffix)" Text(TextFunction::EndsWith), 2..=2, Some(Bool);
        "contains" "(text, part)" Text(TextFunction::Contains), 2..=2, Some(Bool);
        "substring" "(text, start, length?)" Text(TextFunction::Substring), 2..=3, Some(String);
        "concat" "(text, ...)" Text(TextFunction::Concat), 1..=MANY, Some(String);
        "year" "(time)" Function::TimePart(TimePart::Year), 1..=1, Some(Int64);
        "month" "(time)" Function::TimePart(TimePart::Month), 1..=1, Some(Int64);
        "day" "(time)" Function::TimePart(TimePart::Day), 1..=1, Some(Int64);
        "hour" "(time)" Function::TimePart(TimePart::Hour), 1..=1, Some(Int64);
        "minute" "(time)" Function::TimePart(TimePart::Minute), 1..=1, Some(Int64);
        "second" "(time)" Function::TimePart(TimePart::Second), 1..=1, Some(Int64);
        "day_of_week" "(time)" Function::TimePart(TimePart::DayOfWeek), 1..=1, Some(Int64);
        "date_trunc" "(unit, time)" DateTrunc, 2..=2, Some(Timestamp);
    }
};

/// Functions that take many rows, and so belong in a window's aggregates; with the type to expect
/// of an argument that nobody declared.
const AGGREGATES: [(&str, Option<DataType>); 18] = [
    ("count", Some(DataType::Scalar)),
    ("count_distinct", Some(DataType::Scalar)),
    ("approx_distinct", Some(DataType::Scalar)),
    ("sum", None),
    ("mean", Some(DataType::Float64)),
    ("var", Some(DataType::Float64)),
    ("stddev", Some(DataType::Float64)),
    ("any", Some(DataType::Bool)),
    ("all", Some(DataType::Bool)),
    ("min", None),
    ("max", None),
    ("first", None),
    ("last", None),
    ("arg_min", None),
    ("arg_max", None),
    ("collect_list", None),
    ("top_k", None),
    ("quantile", Some(DataType::Float64)),
];

/// The function called `name`.
pub(super) fn find(name: &str) -> Option<&'static Signature> {
    FUNCTIONS.iter().find(|signature| signature.name == name)
}

/// True when `name` is an aggregate and so no function of one row.
pub(super) fn is_aggregate(name: &str) -> bool {
    AGGREGATES.iter().any(|(known, _)| *known == name)
}

/// The type to expect of an undeclared argument of the aggregate `name`.
pub(super) fn aggregate_hint(name: &str) -> Option<DataType> {
    AGGREGATES.iter().find(|(known, _)| *known == name).and_then(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for signature in &FUNCTIONS {
            let found = find(signature.name).unwrap();
            assert_eq!(found.usage, signature.usage);
            assert_eq!(found.usage[found.name.len()..].chars().next(), Some('('));
            assert!(!is_aggregate(signature.name));
        }
    }

    #[test]
    fn aggregates_are_told_apart_from_functions() {
        assert!(is_aggregate("count") && find("count").is_none());
        assert_eq!(aggregate_hint("approx_distinct"), Some(DataType::Scalar));
        assert_eq!(aggregate_hint("last"), None);
    }
}
