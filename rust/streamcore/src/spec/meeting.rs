//! Where lanes meet, as it is described.
//!
//! Part of `spec`; `plan` finds out whether they need to. Invariant: there is a phase only where they meet through a topic.

use serde::{Deserialize, Serialize};

/// How lanes' windows meet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CombineSpec {
    /// `none` where the group key is the record key, else `local`.
    #[default]
    Auto,
    /// Merge in this process, at the minimum watermark.
    Local,
    /// Each lane's windows are final by themselves.
    None,
    /// Lanes hand over partial windows through a topic, by group key; whoever reads it merges them.
    Topic,
}

/// The two parts of a pipeline whose lanes meet through a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseSpec {
    /// The steps up to the first window, over the lanes of the input.
    Partial,
    /// The merging of their windows and the steps behind, over the lanes of the topic.
    Final,
}
