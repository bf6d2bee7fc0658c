//! Compiles when rows of a window step leave before the last one.
//!
//! Called by `plan/steps.rs`; `window/early.rs` is what comes out. Invariant: a condition sees the columns of the
//! result that say what was counted, and those alone.

use super::kinds::check_length;
use crate::batch::{Column, DataType};
use crate::error::Problem;
use crate::expr::{Condition, Field, Scope, did_you_mean};
use crate::results::OutputType;
use crate::spec::{EmitSpec, Spec, StepSpec, WindowKindSpec, WindowSpec};
use crate::window::early::{Early, RowCondition};
use std::sync::Arc;

/// When early rows of `window`, whose step is at `at`, leave. `columns` are the group keys, the bounds and the
/// aggregates of its result; `is_chained`: it stands behind a window.
pub fn early(
    window: &WindowSpec,
    columns: &[(String, OutputType)],
    is_chained: bool,
    at: &str,
    problems: &mut Vec<Problem>,
) -> Early {
    let given = [("emit_every", window.emit_every_ms.is_some()), ("emit_when", window.emit_when.is_some())];
    for (name, _) in given.iter().filter(|(_, given)| *given && window.emit == EmitSpec::Final) {
        let problem = Problem::new(format!("{at}.{name}"), format!("{name} is about early rows, and there are none"));
        problems.push(problem.hint("add emit = \"updates\", or leave it out"));
    }
    if let Some(every_ms) = window.emit_every_ms {
        check_length(every_ms, &format!("{at}.emit_every"), "emit_every", problems);
    }
    if is_session(window) && window.emit_when.is_some() && window.emit_every_ms.is_none() {
        let problem =
            Problem::new(format!("{at}.emit_when"), "sessions are looked at every emit_every, not every record");
        problems.push(problem.hint("add emit_every = \"10s\", or how often to look"));
    }
    let when = window.emit_when.as_ref().and_then(|text| {
        let (mut scope, at) = (ResultScope { columns }, format!("{at}.emit_when"));
        let compiled = Condition::compile(&text.text, &text.parameters, &mut scope, &at);
        compiled.map_err(|mistakes| problems.extend(mistakes)).ok()
    });
    let when = when.map(|condition| Arc::new(EmitWhen(condition)) as Arc<dyn RowCondition>);
    Early { every_ms: window.emit_every_ms.map(|every_ms| every_ms.max(1)), when, is_chained }
}

/// What cannot be done behind a window: rows that come at the end of the input are not kept there, so no session could
/// tell later which of its rows to take back.
pub fn check_chained(spec: &Spec, problems: &mut Vec<Problem>) {
    let first = usize::from(super::joins::joins_of(&spec.steps).next().is_none());
    for (number, _) in windows(spec).skip(first).filter(|(_, window)| retracts(window)) {
        let message = "sessions behind a window leave final rows alone: none of theirs can be taken back";
        problems.push(Problem::new(format!("steps[{number}].emit"), message).hint("use emit = \"final\""));
    }
}

/// The window steps, and which steps they are.
fn windows(spec: &Spec) -> impl Iterator<Item = (usize, &WindowSpec)> {
    spec.steps.iter().enumerate().filter_map(|(number, step)| match step {
        StepSpec::Window(window) => Some((number, window)),
        _ => None,
    })
}

/// What cannot be done where lanes' windows are merged: those of the first window step.
pub fn check_combine(spec: &Spec, problems: &mut Vec<Problem>) {
    for (number, window) in windows(spec).take(1) {
        let (key, message) = if window.emit_when.is_some() {
            ("emit_when", "emit_when looks at every record, and lanes hand over windows, not records, to be merged")
        } else if matches!(window.kind, WindowKindSpec::Sliding { .. }) {
            ("window", "a sliding window needs all events of its group in one lane")
        } else if retracts(window) {
            ("emit", "sessions leave their lanes when they are over, so where lanes' windows are merged none is early")
        } else {
            continue;
        };
        let hint = "group by the record key: set source.keyed_by, or use by = \"_key\"";
        problems.push(Problem::new(format!("steps[{number}].{key}"), message).hint(hint));
    }
}

/// Whether rows of `window` may be taken back.
pub fn retracts(window: &WindowSpec) -> bool {
    is_session(window) && window.emit == EmitSpec::Updates
}

fn is_session(window: &WindowSpec) -> bool {
    matches!(window.kind, WindowKindSpec::Session { .. })
}

#[derive(Debug)]
struct EmitWhen(Condition);

impl RowCondition for EmitWhen {
    fn retain(&self, rows: &[Column], keep: &mut [bool]) {
        // A row whose arithmetic overflowed is none for which the condition is true; it is no record to refuse.
        self.0.retain(rows, keep);
    }
}

/// Columns of a result.
struct ResultScope<'c> {
    columns: &'c [(String, OutputType)],
}

impl Scope for ResultScope<'_> {
    fn resolve(&mut self, field: &Field, _: Option<DataType>) -> Result<(usize, DataType), String> {
        let name = field.to_string();
        let Some(place) = self.columns.iter().position(|(known, _)| *known == name) else {
            let names = self.columns.iter().map(|(known, _)| known.as_str());
            let near = did_you_mean(&name, names).map(|near| format!("; did you mean {near}?"));
            return Err(format!("the result has no column {name}{}", near.unwrap_or_default()));
        };
        match self.columns[place].1 {
            OutputType::Value(data_type) => Ok((place, data_type)),
            list => Err(format!("{name} is {list}, and lists cannot be compared")),
        }
    }
}
