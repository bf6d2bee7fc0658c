//! `describe`: what a pipeline needs and gives, without running it.
//!
//! The configuration asks before anything is started. Invariant: a wrong pipeline is an answer here
//! (its `problems`), never an exception.

use crate::error::enter;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use streamcore::error::Problem;
use streamcore::plan::{Analysis, InputPlan, Output, Plan, analyse};
use streamcore::spec::{PhaseSpec, Spec};
use streamcore::table::RECORD_COLUMNS;

/// Checks a pipeline description and says what it needs and gives.
#[pyfunction]
pub fn describe<'py>(py: Python<'py>, spec: &[u8]) -> PyResult<Bound<'py, PyDict>> {
    let (analysis, explained) = enter(py, || {
        let spec = match Spec::from_json(spec) {
            Ok(spec) => spec,
            Err(error) => return Ok((unreadable(error.problems), String::new())),
        };
        let analysis = analyse(&spec);
        let explained = analysis.plan.as_ref().map(|plan| plan.explain(&spec).to_string());
        Ok((analysis, explained.unwrap_or_default()))
    })?;
    let described = PyDict::new(py);
    described.set_item("problems", problems(py, &analysis.problems)?)?;
    described.set_item("topic_problems", problems(py, &analysis.topic_problems)?)?;
    let undeclared = PyList::empty(py);
    for field in &analysis.undeclared {
        let item = PyDict::new(py);
        item.set_item("path", &field.path)?;
        item.set_item("input", field.input.as_deref())?;
        item.set_item("used_at", &field.used_at)?;
        item.set_item("takes_number", field.takes_number)?;
        undeclared.append(item)?;
    }
    described.set_item("undeclared", undeclared)?;
    add_plan(&described, analysis.plan.as_ref())?;
    described.set_item("plan", explained)?;
    Ok(described)
}

/// The answer for a description that is not even readable.
fn unreadable(problems: Vec<Problem>) -> Analysis {
    Analysis { problems, undeclared: Vec::new(), topic_problems: Vec::new(), plan: None }
}

fn problems<'py>(py: Python<'py>, problems: &[Problem]) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for problem in problems {
        let caret = problem.caret.as_ref();
        let item = PyDict::new(py);
        item.set_item("path", &problem.path)?;
        item.set_item("message", &problem.message)?;
        item.set_item("hint", problem.hint.as_deref())?;
        item.set_item("text", caret.map(|caret| &caret.text))?;
        item.set_item("start", caret.map(|caret| caret.start))?;
        item.set_item("end", caret.map(|caret| caret.end))?;
        list.append(item)?;
    }
    Ok(list)
}

/// What only a plan knows; empty answers while there is none.
fn add_plan(described: &Bound<'_, PyDict>, plan: Option<&Plan>) -> PyResult<()> {
    let columns = plan.map_or_else(Vec::new, columns);
    let window = plan.and_then(Plan::result_window);
    let emit = window.map(|window| if window.updates { "updates" } else { "final" });
    described.set_item("fingerprint", plan.map(fingerprint))?;
    described.set_item("columns", columns)?;
    described.set_item("fields", plan.map_or_else(Vec::new, |plan| fields(plan.own())))?;
    described.set_item("needs_keys", plan.is_some_and(|plan| plan.own().needs_keys))?;
    described.set_item("needs_headers", plan.is_some_and(|plan| plan.own().needs_headers))?;
    let others = PyDict::new(described.py());
    for input in plan.iter().flat_map(|plan| &plan.inputs[1..]) {
        let needs = PyDict::new(described.py());
        needs.set_item("fields", fields(input))?;
        needs.set_item("needs_keys", input.needs_keys)?;
        needs.set_item("needs_headers", input.needs_headers)?;
        others.set_item(input.name.as_deref(), needs)?;
    }
    described.set_item("inputs", others)?;
    let combine = match plan {
        Some(plan) if plan.topic.is_some() => "topic",
        Some(plan) if plan.combine => "local",
        _ => "none",
    };
    described.set_item("combine", combine)?;
    let phase = plan.and_then(|plan| plan.phase).map(|phase| match phase {
        PhaseSpec::Partial => "partial",
        PhaseSpec::Final => "final",
    });
    described.set_item("phase", phase)?;
    described.set_item("windowed", window.is_some())?;
    described.set_item("emit", emit)?;
    described.set_item("retracts", window.is_some_and(|window| window.retracts()))
}

/// Path and type of each field that the decoder extracts from an input.
fn fields(input: &InputPlan) -> Vec<(&str, String)> {
    input.decode.fields.iter().map(|field| (field.path.as_str(), field.data_type.to_string())).collect()
}

/// A plan's fingerprint as users see it.
pub fn fingerprint(plan: &Plan) -> String {
    format!("{:016x}", plan.fingerprint)
}

/// Name and type of each column of the result.
fn columns(plan: &Plan) -> Vec<(&str, String)> {
    let known = match &plan.output {
        Output::Windows(columns) | Output::Rows(columns) => columns.as_slice(),
        Output::Records => return RECORD_COLUMNS.iter().map(|(name, kind)| (*name, kind.to_string())).collect(),
    };
    known.iter().map(|(name, kind)| (name.as_str(), kind.to_string())).collect()
}
