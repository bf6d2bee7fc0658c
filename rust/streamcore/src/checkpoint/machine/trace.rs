//! Replays a recorded run through a fresh machine.
//!
//! Before it: an executor that wrote one JSON line for each call of [`Machine::handle`], the first line being the
//! settings: `{"settings": {..}}`, then `{"now_ms": 0, "event": {..}, "actions": [{..}]}`. After it: whoever asks whether
//! this machine decides what the recorded one did.
//! Invariant: a trace replays only if every action of every line is the same.

use super::{Action, Event, Lane, Machine, Manifest, Part, Settings};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
            let recorded = &call.actions;
            return Err(Error::state(format!("call {row} of the trace: recorded {recorded:?}, now {actions:?}")));
        }
    }
    Ok(calls.len())
}

/// The epochs of a lane by owner epoch and epoch, each with digest and offsets.
type Epochs = BTreeMap<(u64, u64), (u64, Vec<i64>)>;

/// What the broker has said, held against what no broker of the model can say.
type Committed = BTreeMap<Lane, Epochs>;

/// What one worker has in hand.
#[derive(Default)]
struct Audit {
    sealed: BTreeMap<Lane, (u64, Vec<i64>)>,
    /// Lanes whose manifests are in the open transaction, with their epochs.
    produced: BTreeMap<Lane, (u64, u64)>,
}

/// Checks the broker's answers in a trace: see [`audit_together`].
pub fn audit(text: &str) -> Result<usize> {
    audit_together(&[text])
}

/// Checks the broker's answers in the traces of all workers of a pipeline, whose clock is the same: an epoch whose commit
/// succeeded is read back by whoever recovers the lane later, as it was sealed, and an epoch that was read once never
/// changes. Returns how many manifests were compared.
pub fn audit_together(texts: &[&str]) -> Result<usize> {
    let mut calls = Vec::new();
    for (worker, text) in texts.iter().enumerate() {
        calls.extend(parse(text)?.1.into_iter().enumerate().map(|(row, call)| (worker, row, call)));
    }
    // Stable: calls of one worker stay in their order.
    calls.sort_by_key(|(_, _, call)| call.now_ms);
    let (mut committed, mut compared) = (Committed::new(), 0);
    let mut audits: Vec<Audit> = texts.iter().map(|_| Audit::default()).collect();
    for (worker, row, call) in &calls {
        let audit = &mut audits[*worker];
        compared += audit
            .hear(&call.event, &mut committed)
            .map_err(|error| error.within(format!("call {row} of trace {worker}")))?;
        for action in &call.actions {
            if let Action::Produce { part: Part::Manifests, lanes } = action {
                audit.produced = lanes.iter().map(|one| (one.lane, (one.owner_epoch, one.epoch))).collect();
            }
        }
    }
    Ok(compared)
}

impl Audit {
    fn hear(&mut self, event: &Event, committed: &mut Committed) -> Result<usize> {
        match event {
            Event::Sealed { lanes } => {
                self.sealed = lanes.iter().map(|one| (one.lane, (one.digest, one.offsets.clone()))).collect();
            }
            Event::TransactionCommitted { .. } => {
                for (lane, epoch) in std::mem::take(&mut self.produced) {
                    let Some(sealed) = self.sealed.get(&lane).cloned() else { continue };
                    committed.entry(lane).or_default().insert(epoch, sealed);
                }
            }
            Event::Aborted { .. } | Event::ProducerReady => self.produced.clear(),
            Event::StateRead { lanes } => {
                let mut compared = 0;
                for found in lanes.iter().filter(|found| found.reached) {
                    compared += read_back(committed.entry(found.lane).or_default(), found.lane, &found.manifests)?;
                }
                return Ok(compared);
            }
            _ => {}
        }
        Ok(0)
    }
}

/// Takes what was read of a lane, where it agrees with what is known of it.
fn read_back(known: &mut Epochs, lane: Lane, manifests: &[Manifest]) -> Result<usize> {
    let newest = manifests.iter().map(|one| (one.owner_epoch, one.epoch)).max();
    if let Some((last, _)) = known.last_key_value().filter(|(last, _)| newest < Some(**last)) {
        return Err(Error::state(format!("lane {lane}: {last:?} was committed, but the newest read is {newest:?}")));
    }
    for one in manifests {
        let read = (one.digest, one.offsets.clone());
        let before = known.insert((one.owner_epoch, one.epoch), read.clone());
        if before.as_ref().is_some_and(|before| *before != read) {
            let epoch = one.epoch;
            return Err(Error::state(format!("lane {lane}: epoch {epoch} was {before:?}, and is read as {read:?}")));
        }
    }
    Ok(manifests.len())
}
