//! `locate_toml`: where each key of a pipeline file stands.
//!
//! The configuration asks for it only once it has found a mistake. Invariant: a path is written as
//! `streamcore.config.paths` writes it: keys that are not bare are quoted.

use crate::error::{Failure, enter};
use pyo3::prelude::*;
use std::collections::BTreeMap;
use toml::de::{DeTable, DeValue};

/// 1-based line and column (in characters) of each path.
type Positions = BTreeMap<String, (usize, usize)>;

/// Maps each path of a TOML document (`steps[1].aggregate.views`) to its 1-based (line, column).
#[pyfunction]
pub fn locate_toml(py: Python<'_>, text: &str) -> PyResult<Positions> {
    enter(py, || {
        let lines = Lines::new(text);
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(text.len(), |span| span.start);
            let (line, column) = lines.position(at);
            Failure::Toml(error.message().trim_end().replace('\n', ", "), line, column)
        })?;
        let mut positions = Positions::new();
        locate_table(table.get_ref(), "", &lines, &mut positions);
        Ok(positions)
    })
}

/// Deep enough for any pipeline; the parser itself refuses deeper nesting.
fn locate_table(table: &DeTable<'_>, path: &str, lines: &Lines<'_>, positions: &mut Positions) {
    for (key, value) in table {
        let mut path = path.to_owned();
        if !path.is_empty() {
            path.push('.');
        }
        push_key(&mut path, key.get_ref());
        positions.insert(path.clone(), lines.position(key.span().start));
        locate_value(value.get_ref(), &path, lines, positions);
    }
}

fn locate_value(value: &DeValue<'_>, path: &str, lines: &Lines<'_>, positions: &mut Positions) {
    match value {
        DeValue::Table(table) => locate_table(table, path, lines, positions),
        DeValue::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                let path = format!("{path}[{place}]");
                positions.insert(path.clone(), lines.position(item.span().start));
                locate_value(item.get_ref(), &path, lines, positions);
            }
        }
        _ => {}
    }
}

fn push_key(path: &mut String, key: &str) {
    let bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if bare {
        path.push_str(key);
    } else {
        path.push('"');
        path.push_str(key);
        path.push('"');
    }
}

/// The starts of a text's lines.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    fn position(&self, at: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= at);
        let before = self.text.get(self.starts[line - 1]..at).unwrap_or_default();
        (line, before.chars().count() + 1)
    }
}
