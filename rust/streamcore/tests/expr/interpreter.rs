//! A second implementation of the language: one row at a time, over its own tree, in the plainest way.

use std::fmt;
use streamcore::batch::Scalar;

/// A value of one row.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    /// Ms.
    Time(i64),
    /// Value and scale.
    Decimal(i128, u8),
}

/// The row's arithmetic overflowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow;

/// An expression of the tests.
#[derive(Debug, Clone)]
pub enum Tree {
    /// Name and place of a column.
    Column(&'static str, usize),
    Literal(Cell),
    /// `not x`, `-x`.
    Prefix(&'static str, Box<Tree>),
    Infix(&'static str, Box<Tree>, Box<Tree>),
    /// `and`, `or`.
    Chain(&'static str, Vec<Tree>),
    Call(&'static str, Vec<Tree>),
    /// Negated or not.
    In(Box<Tree>, Vec<Cell>, bool),
    IsNull(Box<Tree>, bool),
    /// Unit and time.
    Truncate(&'static str, Box<Tree>),
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Text(text) => write!(f, "\"{text}\""),
            Self::Time(ms) => write!(f, "timestamp({ms})"),
            Self::Decimal(value, scale) => {
                let unit = 10_i128.pow((*scale).into());
                let sign = if *value < 0 { "-" } else { "" };
                write!(f, "{sign}{}.{:0width$}", value.abs() / unit, value.abs() % unit, width = usize::from(*scale))
            }
        }
    }
}

/// With all the parentheses there can be, so that the parser's idea of binding plays no part.
impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined =
            |trees: &[Tree], between: &str| trees.iter().map(Tree::to_string).collect::<Vec<_>>().join(between);
        match self {
            Self::Column(name, _) => f.write_str(name),
            Self::Literal(cell) => write!(f, "{cell}"),
            Self::Prefix(operator, operand) => write!(f, "({operator} ({operand}))"),
            Self::Infix(operator, left, right) => write!(f, "({left} {operator} {right})"),
            Self::Chain(word, operands) => write!(f, "({})", joined(operands, &format!(" {word} "))),
            Self::Call(name, operands) => write!(f, "{name}({})", joined(operands, ", ")),
            Self::In(value, list, negated) => {
                let list: Vec<_> = list.iter().map(Cell::to_string).collect();
                write!(f, "({value} {} [{}])", if *negated { "not in" } else { "in" }, list.join(", "))
            }
            Self::IsNull(value, negated) => write!(f, "({value} is {})", if *negated { "not null" } else { "null" }),
            Self::Truncate(unit, time) => write!(f, "date_trunc('{unit}', {time})"),
        }
    }
}

type Outcome = Result<Cell, Overflow>;

impl Tree {
    /// The value in the row of `cells`.
    pub fn value(&self, cells: &[Cell]) -> Outcome {
        match self {
            Self::Column(_, place) => Ok(cells[*place].clone()),
            Self::Literal(cell) => Ok(cell.clone()),
            Self::Prefix(_, operand) => Ok(match operand.value(cells)? {
                Cell::Null => Cell::Null,
                Cell::Bool(truth) => Cell::Bool(!truth),
                Cell::Integer(number) => Cell::Integer(number.checked_neg().ok_or(Overflow)?),
                Cell::Float(number) => Cell::Float(-number),
                Cell::Decimal(number, scale) => Cell::Decimal(-number, scale),
                other => panic!("negated {other:?}"),
            }),
            Self::Infix(operator, left, right) => infix(operator, &left.value(cells)?, &right.value(cells)?),
            Self::Chain(word, operands) => chain(*word == "or", operands, cells),
            Self::Call(name, operands) => call(name, operands, cells),
            Self::In(value, list, negated) => Ok(match value.value(cells)? {
                Cell::Null => Cell::Null,
                value => Cell::Bool(list.iter().any(|element| order(&value, element).is_eq()) != *negated),
            }),
            Self::IsNull(value, negated) => Ok(Cell::Bool((value.value(cells)? == Cell::Null) != *negated)),
            Self::Truncate(unit, time) => Ok(match time.value(cells)? {
                Cell::Time(ms) => {
                    let unit_ms = if *unit == "hour" { 3_600_000 } else { 86_400_000 };
                    Cell::Time(ms.div_euclid(unit_ms).checked_mul(unit_ms).ok_or(Overflow)?)
                }
                other => other,
            }),
        }
    }
}

fn chain(decisive: bool, operands: &[Tree], cells: &[Cell]) -> Outcome {
    let mut known = true;
    for operand in operands {
        match operand.value(cells)? {
            Cell::Null => known = false,
            Cell::Bool(truth) if truth == decisive => return Ok(Cell::Bool(decisive)),
            _ => {}
        }
    }
    Ok(if known { Cell::Bool(!decisive) } else { Cell::Null })
}

fn order(left: &Cell, right: &Cell) -> std::cmp::Ordering {
    match (left, right) {
        (Cell::Bool(left), Cell::Bool(right)) => left.cmp(right),
        (Cell::Integer(left), Cell::Integer(right)) | (Cell::Time(left), Cell::Time(right)) => left.cmp(right),
        (Cell::Text(left), Cell::Text(right)) => left.as_bytes().cmp(right.as_bytes()),
        (Cell::Decimal(..), _) | (_, Cell::Decimal(..)) => {
            let scale = scale(left).max(scale(right));
            at_scale(left, scale).cmp(&at_scale(right, scale))
        }
        _ => float(left).partial_cmp(&float(right)).expect("no float here is NaN"),
    }
}

fn scale(cell: &Cell) -> u8 {
    if let Cell::Decimal(_, scale) = cell { *scale } else { 0 }
}

fn at_scale(cell: &Cell, wanted: u8) -> i128 {
    match cell {
        Cell::Decimal(value, scale) => value * 10_i128.pow((wanted - scale).into()),
        Cell::Integer(value) => i128::from(*value) * 10_i128.pow(wanted.into()),
        other => panic!("{other:?} is no decimal"),
    }
}

fn float(cell: &Cell) -> f64 {
    match cell {
        Cell::Integer(number) => *number as f64,
        Cell::Float(number) => *number,
        Cell::Decimal(..) => cell.to_string().parse().expect("a decimal is a number"),
        other => panic!("{other:?} is no number"),
    }
}

fn finite(number: f64) -> Outcome {
    if number.is_finite() { Ok(Cell::Float(number)) } else { Err(Overflow) }
}

fn infix(operator: &str, left: &Cell, right: &Cell) -> Outcome {
    if *left == Cell::Null || *right == Cell::Null {
        return Ok(Cell::Null);
    }
    let ordering = || order(left, right);
    Ok(match (operator, left, right) {
        ("==", ..) => Cell::Bool(ordering().is_eq()),
        ("!=", ..) => Cell::Bool(ordering().is_ne()),
        ("<", ..) => Cell::Bool(ordering().is_lt()),
        ("<=", ..) => Cell::Bool(ordering().is_le()),
        (">", ..) => Cell::Bool(ordering().is_gt()),
        (">=", ..) => Cell::Bool(ordering().is_ge()),
        ("/", ..) if float(right) == 0.0 => Cell::Null,
        ("/", ..) => finite(float(left) / float(right))?,
        ("-", Cell::Time(left), Cell::Time(right)) => integer(i128::from(*left) - i128::from(*right))?,
        ("+", Cell::Time(left), Cell::Integer(right)) => time(i128::from(*left) + i128::from(*right))?,
        (_, Cell::Integer(left), Cell::Integer(right)) => integers(operator, (*left).into(), (*right).into())?,
        (_, Cell::Decimal(..), _) | (_, _, Cell::Decimal(..)) => decimals(operator, left, right),
        ("+", ..) => finite(float(left) + float(right))?,
        ("-", ..) => finite(float(left) - float(right))?,
        ("*", ..) => finite(float(left) * float(right))?,
        other => panic!("{other:?}"),
    })
}

fn integer(number: i128) -> Outcome {
    number.try_into().map(Cell::Integer).map_err(|_| Overflow)
}

fn time(number: i128) -> Outcome {
    number.try_into().map(Cell::Time).map_err(|_| Overflow)
}

fn integers(operator: &str, left: i128, right: i128) -> Outcome {
    match operator {
        "+" => integer(left + right),
        "-" => integer(left - right),
        "*" => integer(left * right),
        "//" | "%" if right == 0 => Ok(Cell::Null),
        "//" => integer((left - integer_rest(left, right)) / right),
        "%" => integer(integer_rest(left, right)),
        other => panic!("{other}"),
    }
}

/// The remainder that has the divisor's sign.
fn integer_rest(left: i128, right: i128) -> i128 {
    ((left % right) + right) % right
}

fn decimals(operator: &str, left: &Cell, right: &Cell) -> Cell {
    if operator == "*" {
        let (left_scale, right_scale) = (scale(left), scale(right));
        return Cell::Decimal(at_scale(left, left_scale) * at_scale(right, right_scale), left_scale + right_scale);
    }
    let scale = scale(left).max(scale(right));
    let (left, right) = (at_scale(left, scale), at_scale(right, scale));
    Cell::Decimal(if operator == "+" { left + right } else { left - right }, scale)
}

fn call(name: &str, operands: &[Tree], cells: &[Cell]) -> Outcome {
    if name == "if" {
        let chosen = if operands[0].value(cells)? == Cell::Bool(true) { &operands[1] } else { &operands[2] };
        return chosen.value(cells);
    }
    let mut values = Vec::new();
    for operand in operands {
        let value = operand.value(cells)?;
        if name == "coalesce" && value != Cell::Null {
            return Ok(value);
        }
        values.push(value);
    }
    if values.contains(&Cell::Null) {
        return Ok(Cell::Null);
    }
    Ok(match (name, values.as_slice()) {
        ("min_of", values) => values[1..]
            .iter()
            .fold(&values[0], |best, next| if order(best, next).is_le() { best } else { next })
            .clone(),
        ("max_of", values) => values[1..]
            .iter()
            .fold(&values[0], |best, next| if order(best, next).is_ge() { best } else { next })
            .clone(),
        ("abs", [Cell::Integer(number)]) => integer(i128::from(*number).abs())?,
        ("abs", [Cell::Float(number)]) => Cell::Float(number.abs()),
        ("floor", [Cell::Float(number)]) => Cell::Float(number.floor()),
        ("int", [Cell::Float(number)]) => (number.trunc() as i128).try_into().map_or(Cell::Null, Cell::Integer),
        ("int", [Cell::Text(text)]) => text.parse().map_or(Cell::Null, Cell::Integer),
        ("int", [Cell::Bool(truth)]) => Cell::Integer((*truth).into()),
        ("float", [number]) => Cell::Float(float(number)),
        ("string", [Cell::Float(number)]) => Cell::Text(format!("{number:?}")),
        ("string", [other]) => Cell::Text(other.to_string()),
        ("hour", [Cell::Time(ms)]) => Cell::Integer(ms.rem_euclid(86_400_000) / 3_600_000),
        ("lower", [Cell::Text(text)]) => Cell::Text(text.to_lowercase()),
        ("upper", [Cell::Text(text)]) => Cell::Text(text.to_uppercase()),
        ("trim", [Cell::Text(text)]) => Cell::Text(text.trim().to_owned()),
        ("length", [Cell::Text(text)]) => Cell::Integer(text.chars().count() as i64),
        ("concat", texts) => Cell::Text(texts.iter().map(plain).collect()),
        ("starts_with", [Cell::Text(text), Cell::Text(part)]) => Cell::Bool(text.starts_with(part)),
        ("ends_with", [Cell::Text(text), Cell::Text(part)]) => Cell::Bool(text.ends_with(part)),
        ("contains", [Cell::Text(text), Cell::Text(part)]) => Cell::Bool(text.contains(part)),
        ("substring", [Cell::Text(text), Cell::Integer(start), Cell::Integer(length)]) => {
            let count = text.chars().count() as i128;
            let start = if *start < 0 { (count + i128::from(*start)).max(0) } else { i128::from(*start) };
            let kept = text.chars().skip(start.min(count) as usize).take((*length).max(0) as usize);
            Cell::Text(kept.collect())
        }
        other => panic!("{other:?}"),
    })
}

fn plain(cell: &Cell) -> &str {
    if let Cell::Text(text) = cell { text } else { panic!("{cell:?} is no text") }
}

impl Cell {
    /// As a column holds it.
    pub fn scalar(&self) -> Scalar<'_> {
        match self {
            Self::Null => Scalar::Null,
            Self::Bool(value) => Scalar::Bool(*value),
            Self::Integer(value) | Self::Time(value) => Scalar::Int64(*value),
            Self::Float(value) => Scalar::Float64(*value),
            Self::Text(text) => Scalar::Bytes(text.as_bytes()),
            Self::Decimal(value, _) => Scalar::Decimal(*value),
        }
    }
}
