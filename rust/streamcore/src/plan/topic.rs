//! Where lanes meet through a topic: whether they can, and which part of the pipeline runs here.
//!
//! Each partition of the topic has the partials of some group keys, and is merged by itself, with the steps behind the
//! window. Invariant: rows that a later step must see together come out of one partition.

use super::{emission, joins};
use crate::error::Problem;
use crate::spec::{CombineSpec, PhaseSpec, Spec, StepSpec};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Seeds, so that state is taken for no other part's.
const BY_TOPIC: u64 = 0x0074_6f70_6963;
const PARTIAL: u64 = 1;
const FINAL: u64 = 2;

/// The fingerprint of a pipeline, less that its lanes meet through a topic, with that.
pub(super) fn fingerprint_by_topic(fingerprint: u64) -> u64 {
    xxh3_64_with_seed(&fingerprint.to_le_bytes(), BY_TOPIC)
}

/// The fingerprint of a part of the pipeline whose fingerprint is `shared`.
pub(super) fn fingerprint_of(shared: u64, phase: Option<PhaseSpec>) -> u64 {
    let seed = match phase {
        None => return shared,
        Some(PhaseSpec::Partial) => PARTIAL,
        Some(PhaseSpec::Final) => FINAL,
    };
    xxh3_64_with_seed(&shared.to_le_bytes(), seed)
}

/// A part is named where there are parts, and nowhere else.
pub(super) fn check_phase(spec: &Spec, problems: &mut Vec<Problem>) {
    if spec.phase.is_some() && spec.combine != CombineSpec::Topic {
        let message = "there are phases only where lanes meet through a topic";
        problems.push(Problem::new("phase", message).hint("leave phase out, or use combine = \"topic\""));
    }
}

/// Why lanes cannot meet through a topic.
pub(super) fn problems(spec: &Spec) -> Vec<Problem> {
    let mut problems = Vec::new();
    if joins::joins_of(&spec.steps).next().is_some() {
        let message = "a join takes the rows of all partitions together, in one process: no topic is in between";
        problems.push(Problem::new("combine", message).hint("leave combine out"));
        return problems;
    }
    if !spec.steps.iter().any(|step| matches!(step, StepSpec::Window(_))) {
        let message = "there is no window whose parts could be handed over through a topic";
        problems.push(Problem::new("combine", message).hint("leave combine out"));
        return problems;
    }
    emission::check_combine(spec, &mut problems);
    check_later_keys(spec, &mut problems);
    problems
}

/// What stands behind the first window and keeps rows must see no two groups of it together.
fn check_later_keys(spec: &Spec, problems: &mut Vec<Problem>) {
    let mut steps = spec.steps.iter().enumerate();
    let first = steps.by_ref().find_map(|(_, step)| match step {
        StepSpec::Window(window) => Some(window),
        _ => None,
    });
    // The columns that hold the group key, one a key; `None` once one of them is gone.
    let Some(first) = first.filter(|window| !window.by.is_empty()) else { return };
    let mut keys: Option<Vec<String>> = Some(first.by.iter().map(|key| key.name.clone()).collect());
    let hint = "group by all keys of the first window, or use combine = \"local\"";
    for (number, step) in steps {
        let kept = |columns: &[crate::spec::NamedSpec]| {
            let named =
                |key: &String| columns.iter().find(|column| column.text.trim() == key).map(|it| it.name.clone());
            keys.as_ref().and_then(|keys| keys.iter().map(named).collect::<Option<Vec<String>>>())
        };
        match step {
            StepSpec::Select { columns } => keys = kept(columns),
            StepSpec::MapBatches { .. } | StepSpec::Join(_) => keys = None,
            StepSpec::Filter { .. } => {}
            StepSpec::Dedupe { .. } => {
                let message = "dedupe behind a window compares the rows of all groups, and those of a topic's partitions are apart";
                problems.push(Problem::new(format!("steps[{number}].dedupe"), message).hint("use combine = \"local\""));
            }
            StepSpec::Window(window) => {
                keys = kept(&window.by);
                if keys.is_none() {
                    let message = "this window counts groups of the first one together, and those of a topic's partitions are apart";
                    problems.push(Problem::new(format!("steps[{number}].by"), message).hint(hint));
                    return;
                }
            }
        }
    }
}
