//! Where the record key is in the group keys of windows.
//!
//! `pipeline/rescaled.rs` moves keys by it. Invariant: it is there in each window of lanes that need no other, since that is what
//! `steps::needs_combine` asks for.

use crate::spec::{Spec, StepSpec};

/// For each window the column of its group key that is the record key, whatever `select` calls it.
pub fn record_keys(spec: &Spec) -> Vec<Option<usize>> {
    let mut names: Vec<&str> = spec.source.keyed_by.as_deref().into_iter().chain(["_key"]).collect();
    let mut places = Vec::new();
    for step in &spec.steps {
        match step {
            StepSpec::Select { columns } => {
                let kept = columns.iter().filter(|column| names.contains(&column.text.trim()));
                names = kept.map(|column| column.name.as_str()).collect();
            }
            StepSpec::Window(window) => {
                let is_key = |text: &str| names.contains(&text.trim());
                places.push(window.by.iter().position(|key| is_key(&key.text)));
                names = window.by.iter().filter(|key| is_key(&key.text)).map(|key| key.name.as_str()).collect();
            }
            StepSpec::MapBatches { .. } | StepSpec::Join(_) => names.clear(),
            StepSpec::Filter { .. } | StepSpec::Dedupe { .. } => {}
        }
    }
    places
}
