//! Saving and loading a partition of the topic.
//!
//! What input lanes hold is saved in sections, one a lane, as there may be more of them than there were when an older part
//! was saved. Invariant: what is loaded is sealed to the digest of what was saved.

use super::{Facts, Held, Merging, Next};
use crate::codec::Write;
use crate::error::Result;
use crate::saving::{Loading, Saving};
use crate::window::WindowKind;

impl Merging {
    /// Appends the sealed state.
    pub fn save(&self, saving: &mut Saving) {
        self.facts.encode(&mut saving.out);
        self.combine.save(saving);
        self.stages.save(saving);
        if !self.keeps_inputs() {
            return;
        }
        saving.out.put_varint(self.held.len() as u64);
        for (lane, held) in &self.held {
            saving.out.put_varint(*lane as u64);
            saving.put_section(|saving| held.save(saving));
        }
    }

    /// Reads what `save` wrote, into a new one of the same plan.
    pub fn load(&mut self, saved: &mut Loading<'_>) -> Result<()> {
        self.facts = saved.newest(Facts::decode)?;
        self.committed.clone_from(&self.facts);
        self.combine.load(saved)?;
        self.stages.load(saved)?;
        if self.keeps_inputs() {
            for (lane, mut section) in saved.sections()? {
                let mut held = Held::of_input(&self.window);
                held.load(&mut section)?;
                section.finish()?;
                self.held.insert(lane, held);
                self.committed_lanes.insert(lane);
            }
        }
        self.next = Next::Due;
        Ok(())
    }

    /// Whether something is held of input lanes between epochs: open sessions are.
    fn keeps_inputs(&self) -> bool {
        matches!(self.window.kind, WindowKind::Session(_))
    }
}
