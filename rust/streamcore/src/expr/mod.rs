//! The expression language of `filter`, `select`, `where`, group keys and aggregates.
//!
//! `decode` fills the columns before; the steps use the results. Invariant: an expression that
//! compiles cannot fail at run time, except that a row's arithmetic may overflow, and those rows are
//! named.
//!
//! ```
//! use std::collections::BTreeMap;
//! use streamcore::batch::{Column, DataType, Scalar};
//! use streamcore::expr::{Condition, Field, Scope};
//!
//! struct Fields;
//! impl Scope for Fields {
//!     fn resolve(&mut self, field: &Field, _: Option<DataType>) -> Result<(usize, DataType), String> {
//!         match field.to_string().as_str() {
//!             "country" => Ok((0, DataType::String)),
//!             other => Err(format!("there is no field `{other}`")),
//!         }
//!     }
//! }
//!
//! let parameters = BTreeMap::from([("c".to_owned(), serde_json::json!(["GB", "IE"]))]);
//! let condition = Condition::compile("country in $c", &parameters, &mut Fields, "steps[0].filter").unwrap();
//! let mut countries = Column::new(DataType::String);
//! ["GB", "FR"].iter().for_each(|country| countries.push(Scalar::Bytes(country.as_bytes())));
//! let mut keep = [true, true];
//! assert!(condition.retain(&[countries], &mut keep).is_empty());
//! assert_eq!(keep, [true, false]);
//!
//! let problems = Condition::compile("country > 5", &parameters, &mut Fields, "steps[0].filter").unwrap_err();
//! assert_eq!(problems[0].to_string(), "steps[0].filter: `country` is string and `5` is int64: they cannot be compared
//!   country > 5
//!   ^^^^^^^^^^^
//!   hint: write `float(country)`");
//! ```
//!
//! # Grammar
//!
//! ```text
//! expression  = and { "or" and }
//! and         = not { "and" not }
//! not         = "not" not | test
//! test        = sum [ ( "==" | "!=" | "<" | "<=" | ">" | ">=" ) sum
//!                   | [ "not" ] "in" ( "[" [ expression { "," expression } ] "]" | "$" name )
//!                   | "is" [ "not" ] "null" ]
//! sum         = product { ( "+" | "-" ) product }
//! product     = signed { ( "*" | "/" | "//" | "%" ) signed }
//! signed      = "-" signed | primary
//! primary     = "(" expression ")" | "null" | "true" | "false" | number | string | "$" name
//!             | name "(" [ expression { "," expression } ] ")" | field
//! field       = segment { "." segment } | "_key" | "_value" | "_topic" | "_partition" | "_offset"
//!             | "_timestamp" | "_headers" "[" string "]"
//! segment     = name | "`" any characters, a backquote doubled "`"
//! string      = "'" characters "'" | '"' characters '"'       with \\ \' \" \n \r \t \u0041
//! aggregate   = name "(" [ expression { "," expression } ] ")" [ "where" expression ]
//! ```
//!
//! # Meaning
//!
//! - **Null.** An operator or function of a null is null, except: `is null`, `coalesce`, the branches
//!   of `if` (whose condition counts as false when null), and `and`/`or`, where a false or true operand
//!   decides whatever the others are. A filter keeps the rows for which its condition is true.
//! - **Order.** As if row by row, from left to right: `and`, `or`, `if` and `coalesce` do not look at
//!   what they do not need, so `if(n < 1000, n * n, 0)` cannot overflow.
//! - **Numbers.** Integers are int64, and exact: a result that does not fit makes the row a dead
//!   letter `NUMBER_RANGE`. An int64 meeting a float64 becomes float64; meeting a decimal, a decimal.
//!   A number literal meeting a decimal is taken digit by digit. A float64 column never meets a decimal
//!   without `float(...)`. `/` is float64 division, `//` rounds down, `%` has the divisor's sign; these
//!   two take int64. Dividing by zero gives null. Float64 results are finite or an overflow.
//! - **Time.** Timestamps are ms since 1970 UTC; `t - t` is int64 ms, `t + n` and `t - n` take ms.
//! - **Text** compares by its UTF-8 bytes; binary (such as `_key`) compares with text as it is.
//! - **Casts** `int float string timestamp` give null for a value that the type cannot hold: `int('x')`,
//!   `int(1e300)`, `timestamp('yesterday')`. `int` cuts off what is after the point.
//! - **Functions.** `lower upper trim length starts_with ends_with contains substring(text, start,
//!   length?)` (from 0; negative: from the end) `concat`, `abs floor ceil round` (halves away from zero),
//!   `min_of max_of coalesce if`, `year month day hour minute second day_of_week` (Monday is 1)
//!   `date_trunc(unit, time)`.

mod aggregate_call;
mod arithmetic;
mod calls;
mod convert;
mod eval;
mod field;
mod functions;
mod kernels;
mod lexer;
mod operators;
mod parse;
mod suggest;
mod text;
mod time;
mod tree;
mod typed;
mod types;
mod value;

pub use crate::raw::Part;
pub use aggregate_call::AggregateCall;
pub use field::{Field, join_path, last_segment, split_path};
pub use suggest::did_you_mean;

use crate::batch::{Column, DataType, Scalar};
use crate::error::Problem;
use lexer::Mistake;
use std::borrow::Cow;
use std::collections::BTreeMap;
use typed::{Constant, Operation, Typed};
use types::Checker;

/// How deep an expression may be nested.
pub const DEPTH_MAX: usize = 64;

/// How long an expression may be, bytes.
pub const TEXT_BYTES_MAX: usize = 16 << 10;

/// Values of `$name`: bools, numbers, strings, or lists of those.
pub type Parameters = BTreeMap<String, serde_json::Value>;

/// The names an expression may use.
pub trait Scope {
    /// Column index and type of `field`, or what to tell the user when there is no such field.
    ///
    /// `hint` is the type that the place suggests, for a field that nobody declared: that of a literal
    /// it is compared with (any number suggests float64), bool for a condition, `Scalar` where only
    /// being null or being the same matters; nothing where any type would do. The same field may be
    /// asked for repeatedly, with other hints.
    fn resolve(&mut self, field: &Field, hint: Option<DataType>) -> Result<(usize, DataType), String>;
}

/// A compiled expression.
#[derive(Debug, Clone)]
pub struct Expression {
    root: Typed,
}

/// The value of an expression in every row.
#[derive(Debug, Clone)]
pub struct Evaluated<'a> {
    /// One value a row; borrowed when the expression is just a column.
    pub column: Cow<'a, Column>,
    /// Rows whose arithmetic overflowed, rising. They are null in `column`, and belong among the
    /// dead letters (`NUMBER_RANGE`).
    pub overflowed: Vec<u32>,
}

impl Expression {
    /// Reads and checks `text`. Every type mistake is reported at once, with `path` and a caret.
    /// `hint` is the type to expect of a field that nobody declared.
    pub fn compile(
        text: &str,
        parameters: &Parameters,
        scope: &mut dyn Scope,
        hint: Option<DataType>,
        path: &str,
    ) -> Result<Self, Vec<Problem>> {
        compile(text, path, |node| {
            let mut checker = Checker::new(parameters, scope);
            checker.check(node, hint).ok_or(checker.mistakes)
        })
        .map(Self::from_typed)
    }

    fn from_typed(root: Typed) -> Self {
        Self { root }
    }

    /// The column at `place`, which is of `data_type`.
    #[must_use]
    pub fn column(place: usize, data_type: DataType) -> Self {
        Self { root: Typed { operation: Operation::Column(place), data_type } }
    }

    /// The type of the value.
    #[must_use]
    pub fn data_type(&self) -> DataType {
        self.root.data_type
    }

    /// The column that this expression just passes on, if that is all it does.
    #[must_use]
    pub fn as_column(&self) -> Option<usize> {
        match self.root.operation {
            Operation::Column(index) => Some(index),
            _ => None,
        }
    }

    /// The value, when it is written out: null is none.
    #[must_use]
    pub fn as_constant(&self) -> Option<Scalar<'_>> {
        match self.root.as_constant()? {
            Constant::Null => None,
            Constant::Bool(value) => Some(Scalar::Bool(*value)),
            Constant::Int64(value) => Some(Scalar::Int64(*value)),
            Constant::Float64(value) => Some(Scalar::Float64(*value)),
            Constant::Decimal(value) => Some(Scalar::Decimal(*value)),
            Constant::Bytes(value) => Some(Scalar::Bytes(value)),
        }
    }

    /// The value in each of `rows` rows of `columns`, which are those that the scope gave indices of.
    #[must_use]
    pub fn evaluate<'a>(&self, columns: &'a [Column], rows: usize) -> Evaluated<'a> {
        let computed = self.root.evaluate(columns, rows);
        let column = computed.value.into_column(self.root.data_type, rows);
        Evaluated { column: value::nulled(column, &computed.overflowed), overflowed: computed.overflowed }
    }
}

/// A compiled condition: an expression that is true, false or null.
#[derive(Debug, Clone)]
pub struct Condition {
    /// All must be true.
    operands: Vec<Typed>,
}

impl Condition {
    /// Reads and checks `text`. Every type mistake is reported at once, with `path` and a caret.
    pub fn compile(
        text: &str,
        parameters: &Parameters,
        scope: &mut dyn Scope,
        path: &str,
    ) -> Result<Self, Vec<Problem>> {
        compile(text, path, |node| {
            let mut checker = Checker::new(parameters, scope);
            checker.condition(node).ok_or(checker.mistakes)
        })
        .map(Self::from_typed)
    }

    fn from_typed(root: Typed) -> Self {
        match root.operation {
            Operation::Logic { decisive: false, operands } => Self { operands },
            _ => Self { operands: vec![root] },
        }
    }

    /// Clears `keep[i]` unless it is set and the condition is true in row `i`; null is not true.
    ///
    /// Returns the rows whose arithmetic overflowed, rising; `keep` is cleared there too. A row that is
    /// out already, by `keep` or by an operand of the outermost `and` before, cannot overflow.
    pub fn retain(&self, columns: &[Column], keep: &mut [bool]) -> Vec<u32> {
        let mut overflowed = Vec::new();
        for operand in &self.operands {
            if !keep.contains(&true) {
                break;
            }
            let mut computed = operand.evaluate(columns, keep.len());
            computed.overflowed.retain(|row| keep[*row as usize]);
            let condition = computed.value.without_null_constant(DataType::Bool, keep.len());
            let truths = eval::truths(&condition, keep.len());
            keep.iter_mut().zip(truths).for_each(|(keep, truth)| *keep &= truth);
            computed.overflowed.iter().for_each(|row| keep[*row as usize] = false);
            overflowed = value::union(overflowed, computed.overflowed);
        }
        overflowed
    }
}

fn compile(
    text: &str,
    path: &str,
    check: impl FnOnce(&tree::Node) -> Result<Typed, Vec<Mistake>>,
) -> Result<Typed, Vec<Problem>> {
    let node = parse::expression(text).map_err(|mistake| vec![mistake.into_problem(path, text)])?;
    check(&node).map_err(|mistakes| problems(mistakes, path, text))
}

/// The mistakes of one text, in the order they stand in it.
fn problems(mut mistakes: Vec<Mistake>, path: &str, text: &str) -> Vec<Problem> {
    mistakes.sort_by_key(|mistake| mistake.span.start);
    mistakes.into_iter().map(|mistake| mistake.into_problem(path, text)).collect()
}
