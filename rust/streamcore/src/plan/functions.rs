//! Compiles aggregates of the user: their types, and the calls of them.
//!
//! Called by `plan/steps.rs`; `window/aggregate/user.rs` is what comes out. Invariant: a call gives an aggregate the
//! types it declares, or is a problem with a caret.

use super::steps::TYPES_HINT;
use crate::batch::DataType;
use crate::error::Problem;
use crate::expr::AggregateCall;
use crate::spec::{AggregateSpec, NamedSpec, Spec, TypedSpec, WindowSpec};
use crate::window::aggregate::{Function, GROUP, UserAggregate};

/// The aggregates that `window`, whose step is at `at`, may call.
pub fn user_aggregates(spec: &Spec, window: &WindowSpec, at: &str, problems: &mut Vec<Problem>) -> Vec<UserAggregate> {
    let one = |function: &AggregateSpec| {
        let at = format!("{at}.functions.{}", function.name);
        check(function, &at, problems);
        let mut types = |part: &str, columns: &[TypedSpec]| -> Vec<(String, DataType)> {
            let typed = |column: &TypedSpec| {
                let data_type = type_of(&column.type_, &format!("{at}.{part}.{}", column.name), problems);
                (column.name.clone(), data_type)
            };
            columns.iter().map(typed).collect()
        };
        let (arguments, state) = (types("arguments", &function.arguments), types("state", &function.state));
        let returns = type_of(&function.returns, &format!("{at}.returns"), problems);
        let [init, merge, finish] = AggregateSpec::PARTS.map(|part| spec.functions.get(&function.part(part)));
        UserAggregate { name: function.name.clone(), arguments, state, returns, init, merge, finish }
    };
    window.functions.iter().map(one).collect()
}

fn check(function: &AggregateSpec, at: &str, problems: &mut Vec<Problem>) {
    if Function::parse(&function.name).is_some() {
        let message = format!("{} is an aggregate already", function.name);
        problems.push(Problem::new(at, message).hint("give the function another name"));
    }
    for (part, columns) in [("arguments", &function.arguments), ("state", &function.state)] {
        if columns.is_empty() {
            problems.push(Problem::new(format!("{at}.{part}"), "must name at least one column"));
        }
    }
    if function.state.iter().any(|column| column.name == GROUP) {
        let message = format!("{GROUP} is the column that tells groups apart");
        problems.push(Problem::new(format!("{at}.state"), message).hint("give the state's column another name"));
    }
}

fn type_of(name: &str, at: &str, problems: &mut Vec<Problem>) -> DataType {
    DataType::parse(name).unwrap_or_else(|| {
        problems.push(Problem::new(at, format!("there is no type {name}")).hint(TYPES_HINT));
        DataType::String
    })
}

/// Whether `call`, written as `named` at `at`, gives `user` what it takes.
pub fn check_call(
    call: &AggregateCall,
    user: &UserAggregate,
    named: &NamedSpec,
    at: &str,
    problems: &mut Vec<Problem>,
) -> bool {
    let takes = || user.arguments.iter().map(|(name, data_type)| format!("{name} {data_type}")).collect::<Vec<_>>();
    if call.arguments.len() != user.arguments.len() {
        let message = format!("{} takes {} ({})", user.name, counted(user.arguments.len()), takes().join(", "));
        let (start, end) = call.function_span;
        problems.push(Problem::new(at, message).caret(&named.text, start, end));
        return false;
    }
    let mut fits = true;
    let arguments = call.arguments.iter().zip(&call.argument_spans).zip(&user.arguments);
    for ((argument, (start, end)), (name, declared)) in arguments {
        let given = argument.data_type();
        if given == *declared || (given == DataType::Int64 && *declared == DataType::Float64) {
            continue;
        }
        let message = format!("{} takes {declared} as its {name}, and this is {given}", user.name);
        problems.push(Problem::new(at, message).caret(&named.text, *start, *end));
        fits = false;
    }
    fits
}

fn counted(arguments: usize) -> String {
    if arguments == 1 { "one argument".to_owned() } else { format!("{arguments} arguments") }
}
