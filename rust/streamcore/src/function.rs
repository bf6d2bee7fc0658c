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
