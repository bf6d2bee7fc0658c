//! Checks the types of function calls.
//!
//! A part of `types`; the table is in `functions`. Invariant: a call that passes has its number of
//! arguments and each of the type its kernel takes.

use super::did_you_mean;
use super::functions::{self, FUNCTIONS, Function, Signature};
use super::lexer::{Mistake, Span};
use super::operators::mismatch;
use super::text::TextFunction;
use super::time::TimeUnit;
use super::tree::{Comparison, Kind, Literal, Name, Node};
use super::typed::{NumberFunction, Operation, Typed};
use super::types::{Checker, declare, is_number};
use crate::batch::DataType;

impl Checker<'_> {
    pub fn call(&mut self, node: &Node, name: &Name, arguments: &[Node], hint: Option<DataType>) -> Option<Typed> {
        let Some(signature) = functions::find(&name.text) else { return self.unknown_function(&name.text, name.span) };
        let name = signature.name;
        if !signature.arguments.contains(&arguments.len()) {
            let message = format!("`{name}` takes {}, not {}", takes(signature), arguments.len());
            return self.refuse(Mistake::new(node.span, message).hint(format!("write `{}`", signature.usage)));
        }
        match signature.function {
            Function::If => self.if_call(node, arguments, hint),
            Function::Coalesce => {
                let operands = self.unified(node, &arguments.iter().collect::<Vec<_>>(), hint)?;
                let data_type = operands[0].data_type;
                Some(Typed { operation: Operation::Coalesce(operands), data_type })
            }
            Function::Extreme(comparison) => self.extreme_call(node, comparison, arguments, hint),
            Function::Cast(to) => self.cast(name, &arguments[0], to),
            Function::Number(function) => self.number_call(name, function, &arguments[0]),
            Function::Text(function) => self.text_call(signature, function, arguments),
            Function::TimePart(part) => {
                let time = Box::new(self.argument(name, &arguments[0], DataType::Timestamp)?);
                Some(Typed { operation: Operation::TimePart(part, time), data_type: DataType::Int64 })
            }
            Function::DateTrunc => self.date_trunc(name, &arguments[0], &arguments[1]),
        }
    }

    fn unknown_function(&mut self, name: &str, name_span: Span) -> Option<Typed> {
        let mistake = Mistake::new(name_span, format!("there is no function `{name}`"));
        if functions::is_aggregate(name) {
            return self.refuse(mistake.hint(format!("`{name}` is an aggregate: it belongs in a window's aggregates")));
        }
        let meant = did_you_mean(name, FUNCTIONS.iter().map(|signature| signature.name));
        self.refuse(if let Some(meant) = meant {
            mistake.hint(format!("did you mean `{meant}`?"))
        } else {
            let known: Vec<&str> = FUNCTIONS.iter().map(|signature| signature.name).collect();
            mistake.hint(format!("there are {}", known.join(", ")))
        })
    }

    /// An argument that must be of one type.
    fn argument(&mut self, name: &str, node: &Node, wanted: DataType) -> Option<Typed> {
        let typed = self.check(node, Some(wanted))?;
        if typed.data_type == wanted {
            return Some(typed);
        }
        let (excerpt, found) = (node.excerpt(), typed.data_type);
        let message = format!("`{name}` takes {wanted} here, and `{excerpt}` is {found}");
        self.refuse(Mistake::new(node.span, message).hint(match (wanted, found) {
            (_, DataType::Scalar) => declare(),
            (DataType::String, _) => format!("write `string({excerpt})`"),
            (DataType::Int64, _) => format!("write `int({excerpt})`"),
            (DataType::Timestamp, DataType::String | DataType::Int64) => format!("write `timestamp({excerpt})`"),
            _ => format!("the argument must be {wanted}"),
        }))
    }

    /// Arguments brought to one type.
    fn unified(&mut self, node: &Node, arguments: &[&Node], hint: Option<DataType>) -> Option<Vec<Typed>> {
        let operands = self.together(arguments, hint)?;
        let types: Vec<_> = operands.iter().map(|operand| operand.data_type).collect();
        self.unify(arguments, operands).map_or_else(
            |(left, right)| {
                let nodes = [arguments[left], arguments[right]];
                let (message, hint) = mismatch(nodes, [types[left], types[right]], "brought to one type");
                self.refuse(Mistake::new(node.span, message).hint(hint))
            },
            Some,
        )
    }

    fn if_call(&mut self, node: &Node, arguments: &[Node], hint: Option<DataType>) -> Option<Typed> {
        let condition = self.condition(&arguments[0]);
        let mut choices = self.unified(node, &[&arguments[1], &arguments[2]], hint)?;
        let otherwise = Box::new(choices.pop()?);
        let then = Box::new(choices.pop()?);
        let data_type = then.data_type;
        let condition = Box::new(condition?);
        Some(Typed { operation: Operation::If { condition, then, otherwise }, data_type })
    }

    fn extreme_call(
        &mut self,
        node: &Node,
        comparison: Comparison,
        arguments: &[Node],
        hint: Option<DataType>,
    ) -> Option<Typed> {
        let hint = hint.or(Some(DataType::Float64));
        let operands = self.unified(node, &arguments.iter().collect::<Vec<_>>(), hint)?;
        let data_type = operands[0].data_type;
        if matches!(data_type, DataType::Bool | DataType::Scalar) {
            let message = format!("values of type {data_type} have no order");
            let hint = if data_type == DataType::Bool { "use `and` and `or`".to_owned() } else { declare() };
            return self.refuse(Mistake::new(node.span, message).hint(hint));
        }
        Some(Typed { operation: Operation::Extreme { comparison, operands }, data_type })
    }

    fn cast(&mut self, name: &str, argument: &Node, to: DataType) -> Option<Typed> {
        use DataType::{Binary, Bool, Decimal, Float64, Int64, Scalar, String, Timestamp};
        let value = self.check(argument, Some(to))?;
        let castable = match (value.data_type, to) {
            (Scalar, _) => false,
            (_, String)
            | (Bool | Int64 | Float64 | Decimal { .. } | Timestamp | String, Int64)
            | (Int64 | Float64 | Decimal { .. } | String, Float64)
            | (Int64 | String | Timestamp, Timestamp) => true,
            _ => false,
        };
        let (excerpt, from) = (argument.excerpt(), value.data_type);
        if !castable {
            let message = format!("`{name}` does not take {from}, which `{excerpt}` is");
            return self.refuse(Mistake::new(argument.span, message).hint(match from {
                Scalar => declare(),
                Binary => format!("write `{name}(string({excerpt}))`"),
                _ => format!("write `{name}(int({excerpt}))`"),
            }));
        }
        if to == Timestamp
            && matches!(&argument.kind, Kind::Literal(Literal::String(text)) if super::time::parse(text.as_bytes()).is_none())
        {
            let message = format!("{excerpt} is not an ISO-8601 time with a zone");
            return self.refuse(Mistake::new(argument.span, message).hint("write it like '2026-01-01T00:00:00Z'"));
        }
        Some(value.converted(to))
    }

    fn number_call(&mut self, name: &str, function: NumberFunction, argument: &Node) -> Option<Typed> {
        let value = self.check(argument, Some(DataType::Float64))?;
        let found = value.data_type;
        if !is_number(found) {
            let excerpt = argument.excerpt();
            let message = format!("`{name}` takes a number, and `{excerpt}` is {found}");
            let hint = if found == DataType::Scalar { declare() } else { format!("write `float({excerpt})`") };
            return self.refuse(Mistake::new(argument.span, message).hint(hint));
        }
        let data_type = match (function, found) {
            (NumberFunction::Abs, _) => found,
            // Rounding up may need one digit more than stood before the point.
            (_, DataType::Decimal { precision, scale }) if scale > 0 => {
                DataType::Decimal { precision: precision - scale + 1, scale: 0 }
            }
            _ => found,
        };
        Some(Typed { operation: Operation::Number(function, Box::new(value)), data_type })
    }

    fn text_call(&mut self, signature: &Signature, function: TextFunction, arguments: &[Node]) -> Option<Typed> {
        let name = signature.name;
        let data_type = signature.result?;
        if function == TextFunction::Length {
            let value = self.check(&arguments[0], Some(DataType::String))?;
            if value.data_type == DataType::Binary {
                return Some(Typed { operation: Operation::Text(TextFunction::ByteLength, vec![value]), data_type });
            }
        }
        let wanted = |place| match function {
            TextFunction::Substring if place > 0 => DataType::Int64,
            _ => DataType::String,
        };
        let checked: Vec<Option<Typed>> = arguments
            .iter()
            .enumerate()
            .map(|(place, argument)| self.argument(name, argument, wanted(place)))
            .collect();
        let operands = checked.into_iter().collect::<Option<Vec<_>>>()?;
        Some(Typed { operation: Operation::Text(function, operands), data_type })
    }

    fn date_trunc(&mut self, name: &str, unit: &Node, time: &Node) -> Option<Typed> {
        let found = match self.literal(unit) {
            Some(Literal::String(text)) => {
                TimeUnit::ALL.iter().find(|(known, _)| *known == text).map(|(_, unit)| *unit)
            }
            _ => None,
        };
        let time = self.argument(name, time, DataType::Timestamp);
        let Some(found) = found else {
            let known = TimeUnit::ALL.map(|(known, _)| format!("'{known}'")).join(" ");
            let message = format!("`{}` is not a unit that `{name}` knows", unit.excerpt());
            return self.refuse(Mistake::new(unit.span, message).hint(format!("the units are {known}")));
        };
        Some(Typed { operation: Operation::Truncate(found, Box::new(time?)), data_type: DataType::Timestamp })
    }
}

/// How many arguments a function takes, in words.
fn takes(signature: &Signature) -> String {
    let (least, most) = (*signature.arguments.start(), *signature.arguments.end());
    let noun = if most == 1 { "argument" } else { "arguments" };
    match most {
        usize::MAX => format!("{least} or more arguments"),
        _ if least == most => format!("{least} {noun}"),
        _ => format!("{least} to {most} {noun}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arity_is_told_in_words() {
        let words = |name: &str| takes(functions::find(name).unwrap());
        assert_eq!(words("lower"), "1 argument");
        assert_eq!(words("if"), "3 arguments");
        assert_eq!(words("substring"), "2 to 3 arguments");
        assert_eq!(words("coalesce"), "1 or more arguments");
    }
}
