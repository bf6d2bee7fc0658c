//! Checks the types of operators: comparisons, membership, arithmetic.
//!
//! A part of `types`. Invariant: every refusal names both types and says how to go on.

use super::convert::rescale;
use super::lexer::Mistake;
use super::tree::{Comparison, Kind, Literal, Node, Operator};
use super::typed::{Constant, Operation, Set, Typed};
use super::types::{Checker, INTEGER_DECIMAL, bool_of, declare, is_number, literal_of, not_a_literal};
use crate::batch::DataType;

/// Digits that a decimal can have.
const DECIMAL_DIGITS_MAX: u8 = 38;

impl Checker<'_> {
    pub fn compare(&mut self, node: &Node, comparison: Comparison, left: &Node, right: &Node) -> Option<Typed> {
        for (null, other) in [(left, right), (right, left)] {
            if null.is_null_literal() {
                let test = if comparison == Comparison::NotEqual { "is not null" } else { "is null" };
                let mistake = Mistake::new(node.span, "a comparison with null is never true");
                return self.refuse(mistake.hint(format!("write `{} {test}`", other.excerpt())));
            }
        }
        let nodes = [left, right];
        let operands = self.together(&nodes, None)?;
        let types = [operands[0].data_type, operands[1].data_type];
        let Some([left, right]) = self.comparable(&nodes, operands) else {
            let (message, hint) = mismatch(nodes, types, "compared");
            return self.refuse(Mistake::new(node.span, message).hint(hint));
        };
        if left.data_type == DataType::Bool && comparison.is_ordering() {
            let message = format!("bools have no order, so `{comparison}` does not apply");
            return self.refuse(Mistake::new(node.span, message).hint("use `==`, `!=`, `and`, `or`, `not`"));
        }
        Some(bool_of(Operation::Compare { comparison, left: Box::new(left), right: Box::new(right) }))
    }

    /// Two operands held in a way that one kernel compares; scales of decimals may differ.
    fn comparable(&mut self, nodes: &[&Node; 2], operands: Vec<Typed>) -> Option<[Typed; 2]> {
        use DataType::{Binary, Decimal, Float64, Int64, Scalar, String};
        let operands = self.as_decimals(nodes, operands);
        let [left, right] = <[Typed; 2]>::try_from(operands).ok()?;
        match (left.data_type, right.data_type) {
            (Scalar, _) | (_, Scalar) => None,
            (left_type, right_type) if left_type == right_type => Some([left, right]),
            (String, Binary) | (Binary, String) | (Decimal { .. }, Decimal { .. }) => Some([left, right]),
            (Int64, Float64) | (Float64, Int64) => Some([left.converted(Float64), right.converted(Float64)]),
            (Int64, Decimal { .. }) => Some([left.converted(INTEGER_DECIMAL), right]),
            (Decimal { .. }, Int64) => Some([left, right.converted(INTEGER_DECIMAL)]),
            _ => None,
        }
    }

    pub fn membership(&mut self, value: &Node, list: &Node, negated: bool) -> Option<Typed> {
        let elements = self.elements(list)?;
        let hint = elements.first().and_then(|(element, _)| self.suggested(element));
        let checked = self.check(value, hint)?;
        let typed: Option<Vec<Typed>> =
            elements.iter().map(|(element, shown)| self.element(element, shown, checked.data_type)).collect();
        let typed = typed?;
        let floats = typed.iter().any(|element| element.data_type == DataType::Float64);
        let wanted = match checked.data_type {
            DataType::Int64 if floats => DataType::Float64,
            other => other,
        };
        let mut constants = Vec::with_capacity(typed.len());
        for (element, (node, shown)) in typed.iter().zip(&elements) {
            match element_as(element, wanted) {
                Element::Same(constant) => constants.push(constant),
                Element::Unequal => {}
                Element::Unlike => {
                    let (message, hint) = mismatch([value, node], [wanted, element.data_type], "compared");
                    return self.refuse(Mistake::new(shown.span, message).hint(hint));
                }
            }
        }
        let (value, set) = (Box::new(checked.converted(wanted)), Set::new(wanted, constants));
        Some(bool_of(Operation::In { value, set, negated }))
    }

    /// One element of a list, a constant that is not null.
    fn element(&mut self, node: &Node, shown: &Node, wanted: DataType) -> Option<Typed> {
        let element = self.check(node, Some(wanted))?;
        if matches!(element.as_constant(), Some(constant) if *constant != Constant::Null) {
            let decimal = if matches!(wanted, DataType::Decimal { .. }) { self.decimal_literal(node) } else { None };
            return Some(decimal.unwrap_or(element));
        }
        let mistake = Mistake::new(shown.span, "the elements of a list are constants, and none is null");
        self.refuse(mistake.hint("join comparisons with `or` instead"))
    }

    /// The elements of a list, each with the node to point at.
    fn elements<'n>(&mut self, list: &'n Node) -> Option<Vec<(Node, &'n Node)>> {
        let Kind::Parameter(name) = &list.kind else {
            let Kind::List(elements) = &list.kind else { return None };
            return Some(elements.iter().map(|element| (element.clone(), element)).collect());
        };
        let value = self.parameter_value(list)?;
        let serde_json::Value::Array(values) = value else {
            let hint = format!("pass a list, or write `== ${name}`");
            return self.refuse(Mistake::new(list.span, format!("parameter `{name}` is not a list")).hint(hint));
        };
        let mut elements = Vec::with_capacity(values.len());
        for value in values {
            let Some(literal) = literal_of(value) else {
                let (message, hint) = not_a_literal(name, value);
                return self.refuse(Mistake::new(list.span, message).hint(hint));
            };
            elements.push((Node::new(Kind::Literal(literal), list.span).ok()?, list));
        }
        Some(elements)
    }

    pub fn arithmetic(&mut self, node: &Node, operator: Operator, left: &Node, right: &Node) -> Option<Typed> {
        let nodes = [left, right];
        if let Some(null) = nodes.iter().find(|node| node.is_null_literal()) {
            return self.refuse(Mistake::new(null.span, "arithmetic with null is always null"));
        }
        let integral = matches!(operator, Operator::FloorDivide | Operator::Modulo);
        let hint = if integral { DataType::Int64 } else { DataType::Float64 };
        let operands = if integral {
            // `n % 2` says more about n than that it is a number.
            let checked = nodes.map(|node| self.check(node, Some(hint)));
            checked.into_iter().collect::<Option<Vec<_>>>()?
        } else {
            self.together(&nodes, Some(hint))?
        };
        let operands = if operator == Operator::Divide { operands } else { self.as_decimals(&nodes, operands) };
        let types = [operands[0].data_type, operands[1].data_type];
        let [left, right] = <[Typed; 2]>::try_from(operands).ok()?;
        let Some((operand_types, data_type)) = result_type(operator, types[0], types[1]) else {
            let (message, hint) = arithmetic_mismatch(operator, nodes, types);
            return self.refuse(Mistake::new(node.span, message).hint(hint));
        };
        let left = Box::new(rescaled(left, operand_types[0]));
        let right = Box::new(rescaled(right, operand_types[1]));
        Some(Typed { operation: Operation::Arithmetic { operator, left, right }, data_type })
    }

    pub fn negate(&mut self, operand: &Node) -> Option<Typed> {
        let value = self.check(operand, Some(DataType::Float64))?;
        let data_type = value.data_type;
        if is_number(data_type) {
            return Some(Typed { operation: Operation::Negate(Box::new(value)), data_type });
        }
        let message = format!("`{}` is {data_type}, and only numbers can be negated", operand.excerpt());
        self.refuse(Mistake::new(operand.span, message).hint(match data_type {
            DataType::Bool => "write `not`".to_owned(),
            DataType::Scalar => declare(),
            _ => format!("write `-float({})`", operand.excerpt()),
        }))
    }
}

/// A list's element seen from the type of the value it is compared with.
enum Element {
    /// As that type.
    Same(Constant),
    /// No value of that type equals it.
    Unequal,
    /// The types do not go together.
    Unlike,
}

fn element_as(element: &Typed, wanted: DataType) -> Element {
    use DataType::{Binary, Decimal, Float64, Scalar, String};
    let Some(constant) = element.as_constant() else { return Element::Unlike };
    let exact = |value: i128, written: u8, scale: u8| {
        let fitting = scale.checked_sub(written).and_then(|more| rescale(value, more, DECIMAL_DIGITS_MAX));
        fitting.map_or(Element::Unequal, |value| Element::Same(Constant::Decimal(value)))
    };
    match (wanted, element.data_type, constant) {
        (Scalar, ..) => Element::Unlike,
        (Float64, _, Constant::Int64(value)) => Element::Same(Constant::Float64(*value as f64)),
        (Decimal { scale, .. }, Decimal { scale: written, .. }, Constant::Decimal(value)) => {
            exact(*value, written, scale)
        }
        (Decimal { scale, .. }, DataType::Int64, Constant::Int64(value)) => exact((*value).into(), 0, scale),
        (Binary, String, _) | (String, Binary, _) => Element::Same(constant.clone()),
        (wanted, found, _) if wanted == found => Element::Same(constant.clone()),
        _ => Element::Unlike,
    }
}

/// The types that the operands are converted to, and that of the result.
fn result_type(operator: Operator, left: DataType, right: DataType) -> Option<([DataType; 2], DataType)> {
    use DataType::{Float64, Int64, Timestamp};
    use Operator::{Add, Divide, FloorDivide, Modulo, Subtract};
    let all = |data_type| Some(([data_type; 2], data_type));
    match (operator, left, right) {
        (Subtract, Timestamp, Timestamp) => Some(([Timestamp; 2], Int64)),
        (Add | Subtract, Timestamp, Int64) => Some(([Timestamp, Int64], Timestamp)),
        (Add, Int64, Timestamp) => Some(([Int64, Timestamp], Timestamp)),
        _ if !is_number(left) || !is_number(right) => None,
        (FloorDivide | Modulo, Int64, Int64) => all(Int64),
        (FloorDivide | Modulo, ..) => None,
        (Divide, ..) => all(Float64),
        (_, Int64, Int64) => all(Int64),
        (_, Int64 | Float64, Int64 | Float64) => all(Float64),
        (_, Float64, _) | (_, _, Float64) => None,
        _ => decimal_result(operator, left, right),
    }
}

/// Sums have one digit more before the point, products the digits of both, up to what there can be.
fn decimal_result(operator: Operator, left: DataType, right: DataType) -> Option<([DataType; 2], DataType)> {
    let [left, right] = [left, right].map(|side| if side == DataType::Int64 { INTEGER_DECIMAL } else { side });
    let digits = |side| match side {
        DataType::Decimal { precision, scale } => Some((precision, scale)),
        _ => None,
    };
    let ((left_precision, left_scale), (right_precision, right_scale)) = (digits(left)?, digits(right)?);
    let decimal = |precision: u8, scale| DataType::Decimal { precision: precision.min(DECIMAL_DIGITS_MAX), scale };
    if operator == Operator::Multiply {
        let scale = left_scale + right_scale;
        let product = decimal(left_precision + right_precision, scale);
        return (scale <= DECIMAL_DIGITS_MAX).then_some(([left, right], product));
    }
    let scale = left_scale.max(right_scale);
    let whole = (left_precision - left_scale).max(right_precision - right_scale);
    let sum = decimal(whole + scale + 1, scale);
    Some(([sum, sum], sum))
}

/// `operand` converted, unless it is a decimal held in the same way already.
fn rescaled(operand: Typed, wanted: DataType) -> Typed {
    match (operand.data_type, wanted) {
        (DataType::Decimal { scale: old, .. }, DataType::Decimal { scale, .. }) if old == scale => operand,
        _ => operand.converted(wanted),
    }
}

/// Message and hint for two operands whose types do not go together.
pub(super) fn mismatch(nodes: [&Node; 2], types: [DataType; 2], verb: &str) -> (String, String) {
    let [left, right] = nodes.map(Node::excerpt);
    let message = format!("`{left}` is {} and `{right}` is {}: they cannot be {verb}", types[0], types[1]);
    let side = |wanted: DataType| types.iter().position(|data_type| *data_type == wanted);
    let excerpt = |place: usize| nodes[place].excerpt();
    let literal = |place: usize| matches!(nodes[place].kind, Kind::Literal(Literal::String(_)));
    if side(DataType::Scalar).is_some() {
        return (message, declare());
    }
    let hint = match (side(DataType::String), side(DataType::Timestamp)) {
        (Some(text), Some(_)) if literal(text) => format!("write `timestamp({})`", excerpt(text)),
        (Some(text), Some(_)) => format!("write `timestamp({})`, or give both sides as text", excerpt(text)),
        (Some(text), None) if is_number(types[1 - text]) && literal(text) => {
            format!("write the number without quotes, or `string({})`", excerpt(1 - text))
        }
        (Some(text), None) if is_number(types[1 - text]) => format!("write `float({})`", excerpt(text)),
        (None, Some(time)) if is_number(types[1 - time]) => {
            format!("write `int({})` for milliseconds since 1970", excerpt(time))
        }
        _ if types.iter().all(|data_type| is_number(*data_type)) => {
            let decimal = types.iter().position(|data_type| matches!(data_type, DataType::Decimal { .. }));
            format!("write `float({})`, which may round", excerpt(decimal.unwrap_or(0)))
        }
        _ => "convert one side with `string(...)`, `int(...)` or `float(...)`".to_owned(),
    };
    (message, hint)
}

fn arithmetic_mismatch(operator: Operator, nodes: [&Node; 2], types: [DataType; 2]) -> (String, String) {
    let [left, right] = nodes.map(Node::excerpt);
    if types.contains(&DataType::Scalar) {
        return mismatch(nodes, types, "combined");
    }
    let message = format!("`{operator}` does not take {} and {}", types[0], types[1]);
    let text = types.contains(&DataType::String);
    let hint = match operator {
        Operator::Add if text => format!("text is joined with `concat({left}, {right})`"),
        Operator::FloorDivide if types.iter().all(|data_type| is_number(*data_type)) => {
            format!("write `floor({left} / {right})`, or convert to int64 with `int(...)`")
        }
        Operator::Modulo if types.iter().all(|data_type| is_number(*data_type)) => {
            "convert to int64 with `int(...)`".to_owned()
        }
        _ if text => "convert text to a number with `int(...)` or `float(...)`".to_owned(),
        _ if types.contains(&DataType::Timestamp) => {
            "a timestamp takes `+` and `-` with an int64 of milliseconds, and `-` with a timestamp".to_owned()
        }
        _ if types.iter().all(|data_type| is_number(*data_type)) => {
            "convert the decimal with `float(...)`, which may round".to_owned()
        }
        _ => "convert both sides to numbers".to_owned(),
    };
    (message, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(precision: u8, scale: u8) -> DataType {
        DataType::Decimal { precision, scale }
    }

    #[test]
    fn a_decimal_result_has_room_for_every_result() {
        let result = |operator, left, right| result_type(operator, left, right).map(|(_, data_type)| data_type);
        assert_eq!(result(Operator::Add, decimal(10, 2), decimal(8, 3)), Some(decimal(12, 3)));
        assert_eq!(result(Operator::Subtract, DataType::Int64, decimal(10, 2)), Some(decimal(22, 2)));
        assert_eq!(result(Operator::Multiply, decimal(10, 2), decimal(8, 3)), Some(decimal(18, 5)));
        assert_eq!(result(Operator::Multiply, decimal(38, 2), decimal(38, 2)), Some(decimal(38, 4)));
        assert_eq!(result(Operator::Multiply, decimal(38, 20), decimal(38, 20)), None);
        assert_eq!(result(Operator::Divide, decimal(10, 2), DataType::Int64), Some(DataType::Float64));
        assert_eq!(result(Operator::Modulo, decimal(10, 2), DataType::Int64), None);
    }

    #[test]
    fn an_element_that_no_value_equals_is_left_out() {
        let element = |value, precision, scale| Typed::constant(Constant::Decimal(value), decimal(precision, scale));
        assert!(matches!(element_as(&element(15, 2, 1), decimal(10, 2)), Element::Same(Constant::Decimal(150))));
        assert!(matches!(element_as(&element(15, 2, 1), decimal(10, 0)), Element::Unequal));
        let text = Typed::constant(Constant::Bytes(b"a"[..].into()), DataType::String);
        assert!(matches!(element_as(&text, DataType::Int64), Element::Unlike));
        assert!(matches!(element_as(&text, DataType::Binary), Element::Same(_)));
    }
}
