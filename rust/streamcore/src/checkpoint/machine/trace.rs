//! Replays a recorded run through a fresh machine.
//!
//! Before it: an executor that wrote one JSON line for each call of [`Machine::handle`], the first line being the
//! settings: `{"settings": {..}}`, then `{"now_ms": 0, "event": {..}, "actions": [{..}]}`. After it: whoever asks whether
//! this machine decides what the recorded one did.
//! Invariant: a trace replays only if every action of every line is the same.

use super::{Action, Event, Machine, Settings};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// The first line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Of the recorded machine.
    pub settings: Settings,
}

/// Any other line: one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// When.
    pub now_ms: u64,
    /// What the machine was told.
    pub event: Event,
    /// What it answered.
    pub actions: Vec<Action>,
}

/// Reads a trace.
pub fn parse(text: &str) -> Result<(Settings, Vec<Call>)> {
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let (_, first) = lines.next().ok_or_else(|| Error::state("the trace is empty"))?;
    let head: Head = serde_json::from_str(first).map_err(|error| unreadable(1, &error))?;
    let calls = lines.map(|(row, line)| serde_json::from_str(line).map_err(|error| unreadable(row + 1, &error)));
    Ok((head.settings, calls.collect::<Result<_>>()?))
}

fn unreadable(line: usize, error: &serde_json::Error) -> Error {
    Error::state(format!("line {line} of the trace cannot be read: {error}"))
}

/// Gives the events of a trace to a fresh machine and returns how many there were. The first call whose actions differ is
/// an error that shows both.
pub fn replay(text: &str) -> Result<usize> {
    let (settings, calls) = parse(text)?;
    let mut machine = Machine::new(settings);
    for (row, call) in calls.iter().enumerate() {
        let actions = machine.handle(call.event.clone(), call.now_ms);
        if actions != call.actions {
            let recorded = serde_json::to_string(&call.actions).expect("actions are plain data");
            let now = serde_json::to_string(&actions).expect("actions are plain data");
            return Err(Error::state(format!("call {row} of the trace: recorded {recorded}, now {now}")));
        }
    }
    Ok(calls.len())
}
