//! Checks an expression's types: names become columns, operands of mixed types are converted.
//!
//! `parse` comes before, `eval` after; `calls` is the part about functions. Invariant: every mistake
//! is noted once and where it is; a node with a mistake gives no type, and nothing above it complains.

use super::convert::parse_decimal;
use super::lexer::Mistake;
use super::tree::{Kind, Literal, Node};
use super::typed::{Constant, Operation, Typed};
use super::{Parameters, Scope, did_you_mean, functions};
use crate::batch::DataType;

/// An int64 as a decimal.
pub(super) const INTEGER_DECIMAL: DataType = DataType::Decimal { precision: 19, scale: 0 };

/// Gathers the mistakes of one expression.
pub(super) struct Checker<'c> {
    parameters: &'c Parameters,
    scope: &'c mut dyn Scope,
    pub mistakes: Vec<Mistake>,
}

impl<'c> Checker<'c> {
    /// A checker that has found nothing yet.
    pub fn new(parameters: &'c Parameters, scope: &'c mut dyn Scope) -> Self {
        Self { parameters, scope, mistakes: Vec::new() }
    }

    /// The typed tree of `node`, or nothing after a mistake. `hint` is the type that the place
    /// suggests for a field or a null that has none of its own.
    pub fn check(&mut self, node: &Node, hint: Option<DataType>) -> Option<Typed> {
        let typed = match &node.kind {
            Kind::Literal(Literal::Null) => self.null(node, hint),
            Kind::Literal(literal) => Some(constant(literal)),
            Kind::Parameter(_) => self.parameter(node).map(|literal| constant(&literal)),
            Kind::Field(field) => match self.scope.resolve(field, hint) {
                Ok((index, data_type)) => Some(Typed { operation: Operation::Column(index), data_type }),
                Err(message) => self.refuse(Mistake::new(node.span, message)),
            },
            Kind::List(_) => self.refuse(Mistake::new(node.span, "a list can only stand after `in`")),
            Kind::Negate(operand) => self.negate(operand),
            Kind::Not(operand) => self.condition(operand).map(|operand| bool_of(Operation::Not(Box::new(operand)))),
            Kind::And(operands) => self.logic(false, operands),
            Kind::Or(operands) => self.logic(true, operands),
            Kind::Compare { comparison, left, right } => self.compare(node, *comparison, left, right),
            Kind::Arithmetic { operator, left, right } => self.arithmetic(node, *operator, left, right),
            Kind::In { value, list, negated } => self.membership(value, list, *negated),
            Kind::IsNull { value, negated } => {
                let value = Box::new(self.check(value, Some(DataType::Scalar))?);
                Some(bool_of(Operation::IsNull { value, negated: *negated }))
            }
            Kind::Call { name, arguments } => self.call(node, name, arguments, hint),
        };
        self.fold(node, typed?)
    }

    /// Notes a mistake.
    pub fn refuse<T>(&mut self, mistake: Mistake) -> Option<T> {
        self.mistakes.push(mistake);
        None
    }

    /// Computes now what needs no row.
    fn fold(&mut self, node: &Node, typed: Typed) -> Option<Typed> {
        let operands = typed.operation.operands();
        if operands.is_empty() || operands.iter().any(|operand| operand.as_constant().is_none()) {
            return Some(typed);
        }
        let computed = typed.evaluate(&[], 1);
        if !computed.overflowed.is_empty() {
            let message = format!("`{}` does not fit {}", node.excerpt(), typed.data_type);
            return self.refuse(Mistake::new(node.span, message));
        }
        let column = computed.value.into_column(typed.data_type, 1);
        Some(Typed::constant(Constant::from_scalar(column.get(0)), typed.data_type))
    }

    fn null(&mut self, node: &Node, hint: Option<DataType>) -> Option<Typed> {
        match hint {
            Some(data_type) => Some(Typed::constant(Constant::Null, data_type)),
            None => self.refuse(
                Mistake::new(node.span, "the type of this null is not known").hint("write `string(null)` or the like"),
            ),
        }
    }

    /// The value of `$name`, which must be a single one.
    fn parameter(&mut self, node: &Node) -> Option<Literal> {
        let Kind::Parameter(name) = &node.kind else { return None };
        let value = self.parameter_value(node)?;
        let literal = literal_of(value);
        if literal.is_none() {
            let (message, hint) = match value {
                serde_json::Value::Array(_) => (
                    format!("parameter `{name}` is a list"),
                    format!("a list can only stand after `in`: `x in ${name}`"),
                ),
                other => not_a_literal(name, other),
            };
            return self.refuse(Mistake::new(node.span, message).hint(hint));
        }
        literal
    }

    /// The value given for `$name`.
    pub fn parameter_value(&mut self, node: &Node) -> Option<&'c serde_json::Value> {
        let Kind::Parameter(name) = &node.kind else { return None };
        let parameters = self.parameters;
        if let Some(value) = parameters.get(name) {
            return Some(value);
        }
        let mistake = Mistake::new(node.span, format!("no value is given for parameter `{name}`"));
        let meant = did_you_mean(name, parameters.keys().map(String::as_str));
        self.refuse(match meant {
            Some(meant) => mistake.hint(format!("did you mean `${meant}`?")),
            None => mistake.hint(format!("pass `{name}` along with the expression")),
        })
    }

    /// A bool, or the mistake of giving something else where a condition belongs.
    pub fn condition(&mut self, node: &Node) -> Option<Typed> {
        let typed = self.check(node, Some(DataType::Bool))?;
        if typed.data_type == DataType::Bool {
            return Some(typed);
        }
        let (excerpt, data_type) = (node.excerpt(), typed.data_type);
        let mistake = Mistake::new(node.span, format!("a condition is needed here, and `{excerpt}` is {data_type}"));
        self.refuse(mistake.hint(match data_type {
            DataType::Scalar => declare(),
            _ => format!("compare it with something, or test it: `{excerpt} is not null`"),
        }))
    }

    /// Tests for null come last: any other use of a field says more about its type.
    fn logic(&mut self, decisive: bool, nodes: &[Node]) -> Option<Typed> {
        let mut operands: Vec<Option<Typed>> = nodes.iter().map(|_| None).collect();
        for null_tests in [false, true] {
            for (node, operand) in nodes.iter().zip(&mut operands) {
                if matches!(node.kind, Kind::IsNull { .. }) == null_tests {
                    *operand = self.condition(node);
                }
            }
        }
        let operands = operands.into_iter().collect::<Option<Vec<_>>>()?;
        Some(bool_of(Operation::Logic { decisive, operands }))
    }

    /// Checks operands that share a type; what one is suggests what the others are.
    pub fn together(&mut self, nodes: &[&Node], hint: Option<DataType>) -> Option<Vec<Typed>> {
        let suggested = nodes.iter().find_map(|node| self.suggested(node)).or(hint);
        // Those that say their type by themselves go first, so that a bare null can follow them.
        let mut checked: Vec<Option<Typed>> = nodes.iter().map(|_| None).collect();
        let mut known = suggested;
        let mut failed = false;
        for nulls in [false, true] {
            for (node, typed) in nodes.iter().zip(&mut checked) {
                if node.is_null_literal() == nulls {
                    *typed = self.check(node, if nulls { known.or(hint) } else { suggested.or(known) });
                    failed |= typed.is_none();
                    known = typed.as_ref().map(|typed| typed.data_type).or(known);
                }
            }
        }
        if failed {
            return None;
        }
        let mut operands = checked.into_iter().collect::<Option<Vec<_>>>()?;
        // A field asked for without a suggestion is asked for again, now that the others are known.
        let other =
            operands.iter().skip(1).map(|operand| operand.data_type).find(|other| *other != operands[0].data_type);
        if let (Kind::Field(_), None, Some(other)) = (&nodes[0].kind, suggested, other) {
            operands[0] = self.check(nodes[0], Some(other))?;
        }
        Some(operands)
    }

    /// Brings operands to one type, or says which two do not go together.
    pub fn unify(&mut self, nodes: &[&Node], operands: Vec<Typed>) -> Result<Vec<Typed>, (usize, usize)> {
        let operands = self.as_decimals(nodes, operands);
        let mut target = operands[0].data_type;
        let mut giver = 0;
        for (place, operand) in operands.iter().enumerate() {
            let wider = common(target, operand.data_type).ok_or((giver, place))?;
            if wider != target {
                giver = place;
            }
            target = wider;
        }
        Ok(operands.into_iter().map(|operand| operand.converted(target)).collect())
    }

    /// Where a decimal is among the operands, the number literals become exact decimals.
    pub fn as_decimals(&mut self, nodes: &[&Node], operands: Vec<Typed>) -> Vec<Typed> {
        if !operands.iter().any(|operand| matches!(operand.data_type, DataType::Decimal { .. })) {
            return operands;
        }
        let each = nodes.iter().zip(operands);
        each.map(|(node, operand)| self.decimal_literal(node).unwrap_or(operand)).collect()
    }

    /// The exact decimal that a number literal is.
    pub fn decimal_literal(&self, node: &Node) -> Option<Typed> {
        let written = match self.literal(node)? {
            Literal::Int64(value) => value.to_string(),
            Literal::Float(written) => written,
            _ => return None,
        };
        let (value, precision, scale) = parse_decimal(&written)?;
        Some(Typed::constant(Constant::Decimal(value), DataType::Decimal { precision, scale }))
    }

    /// The literal that `node` is or stands for.
    pub fn literal(&self, node: &Node) -> Option<Literal> {
        match &node.kind {
            Kind::Literal(literal) => Some(literal.clone()),
            Kind::Parameter(name) => literal_of(self.parameters.get(name)?),
            _ => None,
        }
    }

    /// The type that `node` suggests for what it is compared with: numbers suggest float64, because
    /// a float64 column takes integers too.
    pub fn suggested(&self, node: &Node) -> Option<DataType> {
        let own = match &node.kind {
            Kind::Literal(_) | Kind::Parameter(_) => match self.literal(node)? {
                Literal::Null => return None,
                Literal::Bool(_) => DataType::Bool,
                Literal::Int64(_) | Literal::Float(_) => DataType::Float64,
                Literal::String(_) => DataType::String,
            },
            Kind::Negate(_) | Kind::Arithmetic { .. } => DataType::Float64,
            Kind::Call { name, .. } => functions::find(&name.text)?.result?,
            Kind::Field(_) | Kind::List(_) => return None,
            _ => DataType::Bool,
        };
        Some(if own == DataType::Int64 { DataType::Float64 } else { own })
    }
}

/// The narrowest type that holds both, if there is one without loss of meaning.
fn common(left: DataType, right: DataType) -> Option<DataType> {
    use DataType::{Decimal, Float64, Int64};
    match (left, right) {
        (left, right) if left == right => Some(left),
        (Int64, Float64) | (Float64, Int64) => Some(Float64),
        (Int64, decimal @ Decimal { .. }) | (decimal @ Decimal { .. }, Int64) => common(decimal, INTEGER_DECIMAL),
        (Decimal { precision: left, scale: left_scale }, Decimal { precision: right, scale: right_scale }) => {
            let scale = left_scale.max(right_scale);
            let whole = (left - left_scale).max(right - right_scale);
            Some(Decimal { precision: (whole + scale).min(38), scale })
        }
        _ => None,
    }
}

/// A bool that comes about by `operation`.
pub(super) fn bool_of(operation: Operation) -> Typed {
    Typed { operation, data_type: DataType::Bool }
}

/// What to do about a field that could be anything.
pub(super) fn declare() -> String {
    "declare the field's type in `[source.schema]`".to_owned()
}

/// True for int64, float64 and decimals.
pub(super) fn is_number(data_type: DataType) -> bool {
    matches!(data_type, DataType::Int64 | DataType::Float64 | DataType::Decimal { .. })
}

fn constant(literal: &Literal) -> Typed {
    match literal {
        Literal::Null => Typed::constant(Constant::Null, DataType::Scalar),
        Literal::Bool(value) => Typed::constant(Constant::Bool(*value), DataType::Bool),
        Literal::Int64(value) => Typed::constant(Constant::Int64(*value), DataType::Int64),
        Literal::Float(written) => {
            let value = written.parse().expect("the parser takes only numbers that fit float64");
            Typed::constant(Constant::Float64(value), DataType::Float64)
        }
        Literal::String(text) => Typed::constant(Constant::Bytes(text.as_bytes().into()), DataType::String),
    }
}

/// A parameter's value as a literal: bool, number or string.
pub(super) fn literal_of(value: &serde_json::Value) -> Option<Literal> {
    match value {
        serde_json::Value::Bool(value) => Some(Literal::Bool(*value)),
        serde_json::Value::String(text) => Some(Literal::String(text.clone())),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(value) => Some(Literal::Int64(value)),
            None if number.is_f64() => number.as_f64().map(|value| Literal::Float(format!("{value:?}"))),
            None => None,
        },
        _ => None,
    }
}

/// Message and hint for a parameter's value that is no literal.
pub(super) fn not_a_literal(name: &str, value: &serde_json::Value) -> (String, String) {
    let what = match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Object(_) => "an object",
        serde_json::Value::Number(_) => "an integer that does not fit int64",
        _ => "a list",
    };
    (format!("parameter `{name}` holds {what}"), "pass a bool, a number, a string, or a list of those".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_type_holds_both_sides() {
        let decimal = |precision, scale| DataType::Decimal { precision, scale };
        assert_eq!(common(DataType::Int64, DataType::Float64), Some(DataType::Float64));
        assert_eq!(common(decimal(10, 2), DataType::Int64), Some(decimal(21, 2)));
        assert_eq!(common(decimal(10, 2), decimal(5, 4)), Some(decimal(12, 4)));
        assert_eq!(common(decimal(38, 0), decimal(5, 4)), Some(decimal(38, 4)));
        assert_eq!(common(DataType::Float64, decimal(10, 2)), None);
        assert_eq!(common(DataType::String, DataType::Binary), None);
    }

    #[test]
    fn a_parameter_is_a_literal_or_none() {
        let literal = |text: &str| literal_of(&serde_json::from_str(text).unwrap());
        assert_eq!(literal("9223372036854775807"), Some(Literal::Int64(i64::MAX)));
        assert_eq!(literal("9223372036854775808"), None);
        assert_eq!(literal("1e300"), Some(Literal::Float("1e300".into())));
        assert_eq!(literal("true"), Some(Literal::Bool(true)));
        assert_eq!(literal("null"), None);
    }
}
