//! Functions of the user: the engine calls them by name and knows nothing else of them.
//!
//! Whoever starts a pipeline hands them over beside its description; `flow` calls them. Invariant: a function that
//! fails costs the rows it failed for, never the run.

use arrow_array::RecordBatch;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

/// A function of whole batches. It may be called by several threads at once.
pub trait BatchFunction: Debug + Send + Sync {
    /// What the function makes of the rows of `batch`: as many rows, in their order, in one batch or several.
    ///
    /// # Errors
    /// What went wrong and where in the user's code, in one line that quotes no value.
    fn call(&self, batch: &RecordBatch) -> Result<Vec<RecordBatch>, String>;
}

/// Functions by the names that a description has for them.
#[derive(Debug, Clone, Default)]
pub struct Functions(BTreeMap<String, Arc<dyn BatchFunction>>);

impl Functions {
    /// Adds a function, in the place of one of the same name.
    pub fn insert(&mut self, name: impl Into<String>, function: Arc<dyn BatchFunction>) {
        self.0.insert(name.into(), function);
    }

    /// The function called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<dyn BatchFunction>> {
        self.0.get(name).cloned()
    }
}

/// Calls a function with all `items`, or with halves of them until those alone are left that it fails for: `failed` is
/// told each of these and why, `done` the others and what came of them.
pub fn halving<'i, T, R>(
    items: &'i [T],
    mut call: impl FnMut(&'i [T]) -> Result<R, String>,
    mut done: impl FnMut(&'i [T], R),
    mut failed: impl FnMut(&'i T, String),
) {
    let mut open = vec![items];
    while let Some(items) = open.pop() {
        if items.is_empty() {
            continue;
        }
        match (call(items), items) {
            (Ok(result), _) => done(items, result),
            (Err(detail), [item]) => failed(item, detail),
            (Err(_), _) => {
                let (left, right) = items.split_at(items.len() / 2);
                open.extend([right, left]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_tried_until_what_fails_is_alone() {
        let (mut calls, mut done, mut failed) = (0, Vec::new(), Vec::new());
        let call = |items: &[u32]| {
            calls += 1;
            if items.iter().any(|item| item % 10 == 3) { Err(format!("{items:?}")) } else { Ok(items.len()) }
        };
        halving(
            &(0..20).collect::<Vec<u32>>(),
            call,
            |items, len| {
                assert_eq!(items.len(), len);
                done.extend(items.iter().copied());
            },
            |item, why| failed.push((*item, why)),
        );
        assert_eq!(failed, [(3, "[3]".to_owned()), (13, "[13]".to_owned())]);
        assert_eq!(done, (0..20).filter(|item| item % 10 != 3).collect::<Vec<u32>>());
        assert!(calls < 20, "{calls}");
        halving(&[], |_: &[u32]| Err::<(), _>("never called".to_owned()), |_, ()| (), |_, _| ());
    }
}
