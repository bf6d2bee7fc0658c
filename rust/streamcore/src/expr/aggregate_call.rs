//! An aggregate as written: `count() where status >= 500`.
//!
//! `window` gives the function its meaning; here its arguments and condition become expressions.
//! Invariant: names, arity and argument types of aggregates are not judged here, so that the list of
//! aggregates stands in one place.

use super::lexer::Span;
use super::types::Checker;
use super::{Condition, Expression, Parameters, Scope, functions, parse, problems};
use crate::batch::DataType;
use crate::error::Problem;

/// A call of an aggregate function over rows.
///
/// ```
/// use streamcore::batch::DataType;
/// use streamcore::expr::{AggregateCall, Field, Scope};
///
/// struct Status;
/// impl Scope for Status {
///     fn resolve(&mut self, _: &Field, _: Option<DataType>) -> Result<(usize, DataType), String> {
///         Ok((0, DataType::Int64))
///     }
/// }
///
/// let call = AggregateCall::compile("sum(status * 2) where status >= 500", &Default::default(), &mut Status, "views");
/// let call = call.unwrap();
/// assert_eq!(call.function, "sum");
/// assert_eq!(call.arguments[0].data_type(), DataType::Int64);
/// assert!(call.condition.is_some());
/// ```
#[derive(Debug, Clone)]
pub struct AggregateCall {
    /// The function's name as written.
    pub function: String,
    /// Bytes of the text that hold the name: first, and one past the last.
    pub function_span: (usize, usize),
    /// The arguments.
    pub arguments: Vec<Expression>,
    /// Bytes of the text that hold each argument.
    pub argument_spans: Vec<(usize, usize)>,
    /// Only rows for which this is true count.
    pub condition: Option<Condition>,
}

impl AggregateCall {
    /// Reads and checks `text`. Every type mistake is reported at once, with `path` and a caret.
    pub fn compile(
        text: &str,
        parameters: &Parameters,
        scope: &mut dyn Scope,
        path: &str,
    ) -> Result<Self, Vec<Problem>> {
        Self::compile_hinted(text, parameters, scope, path, &|_, _| None)
    }

    /// The same, where `declared` knows which types the arguments of a function have.
    pub fn compile_hinted(
        text: &str,
        parameters: &Parameters,
        scope: &mut dyn Scope,
        path: &str,
        declared: &dyn Fn(&str, usize) -> Option<DataType>,
    ) -> Result<Self, Vec<Problem>> {
        let call = parse::aggregate(text).map_err(|mistake| vec![mistake.into_problem(path, text)])?;
        let mut checker = Checker::new(parameters, scope);
        let hint = functions::aggregate_hint(&call.function);
        // The condition says more about a field's type than being counted does.
        let condition = call.condition.as_ref().map(|condition| checker.condition(condition));
        let hinted = |number| declared(&call.function, number).or(hint);
        let arguments: Vec<_> = call
            .arguments
            .iter()
            .enumerate()
            .map(|(number, argument)| checker.check(argument, hinted(number)))
            .collect();
        if !checker.mistakes.is_empty() {
            return Err(problems(checker.mistakes, path, text));
        }
        let bytes = |span: Span| (span.start, span.end);
        Ok(Self {
            function: call.function,
            function_span: bytes(call.function_span),
            arguments: arguments.into_iter().flatten().map(Expression::from_typed).collect(),
            argument_spans: call.arguments.iter().map(|argument| bytes(argument.span)).collect(),
            condition: condition.flatten().map(Condition::from_typed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::Field;

    /// Gives every field the suggested type.
    struct Suggested(Vec<(String, Option<DataType>)>);

    impl Scope for Suggested {
        fn resolve(&mut self, field: &Field, hint: Option<DataType>) -> Result<(usize, DataType), String> {
            self.0.push((field.to_string(), hint));
            Ok((0, hint.unwrap_or(DataType::String)))
        }
    }

    #[test]
    fn the_condition_is_asked_before_the_arguments() {
        let mut scope = Suggested(Vec::new());
        let call = AggregateCall::compile("count(a) where b > 1", &Parameters::new(), &mut scope, "views").unwrap();
        assert_eq!(call.arguments[0].data_type(), DataType::Scalar);
        assert_eq!(scope.0, [("b".into(), Some(DataType::Float64)), ("a".into(), Some(DataType::Scalar))]);
    }

    #[test]
    fn an_unknown_aggregate_is_left_to_the_window() {
        let call =
            AggregateCall::compile("median(a)", &Parameters::new(), &mut Suggested(Vec::new()), "views").unwrap();
        assert_eq!((call.function.as_str(), call.argument_spans), ("median", vec![(7, 8)]));
    }
}
