//! What a lane's windows hand over through a topic, and what is made of it where lanes meet.
//!
//! `lane` asks for it when an epoch is sealed, `merging` puts it in again. Invariant: what is held of an input lane where
//! lanes meet is what the lane would hold that meets others in its own process.

use super::held::{Held, HeldWindows};
use crate::codec::Reader;
use crate::error::{Error, Result};
use crate::group::Interner;
use crate::partials::{PartialRows, Parts};
use crate::window::session::SessionWindows;
use crate::window::state::AlignedWindows;
use crate::window::{WindowKind, WindowPlan};
use std::sync::Arc;

impl Held {
    /// The same, whose windows are handed over through a topic.
    #[must_use]
    pub fn handing_over(mut self) -> Self {
        self.windows = self.windows.map(|windows| match windows {
            HeldWindows::Partial(partial) => HeldWindows::PartialByTopic(Box::new(partial.handing_over())),
            HeldWindows::Sessions { open, closed } => HeldWindows::SessionsByTopic {
                open: Box::new(open.handing_over()),
                closed,
                rows: PartialRows::default(),
            },
            // Refused by the planner.
            others => others,
        });
        self
    }

    /// What is held of an input lane where lanes meet: nothing yet.
    #[must_use]
    pub fn of_input(plan: &Arc<WindowPlan>) -> Self {
        let windows = match &plan.kind {
            // Refused by the planner.
            WindowKind::Sliding(_) => None,
            WindowKind::Aligned(aligned) => {
                let partial = AlignedWindows::new(plan.clone(), aligned.clone()).taking_in();
                Some(HeldWindows::Partial(Box::new(partial)))
            }
            WindowKind::Session(gaps) => {
                let open = Box::new(SessionWindows::new(plan.clone(), *gaps, false));
                Some(HeldWindows::Sessions { open, closed: Vec::new() })
            }
        };
        Self::of_windows(windows, Interner::default())
    }

    /// Whether the windows have something to hand over, of the epoch under way or sealed.
    #[must_use]
    pub fn has_partials(&self) -> bool {
        match &self.windows {
            Some(HeldWindows::PartialByTopic(partial)) => partial.has_rows(),
            Some(HeldWindows::SessionsByTopic { closed, rows, .. }) => !closed.is_empty() || !rows.is_empty(),
            _ => false,
        }
    }

    /// Adds what the sealed epoch hands over to `parts`.
    pub fn hand_over(&self, parts: &mut Parts) {
        match &self.windows {
            Some(HeldWindows::PartialByTopic(partial)) => partial.hand_over(parts),
            Some(HeldWindows::SessionsByTopic { rows, .. }) => rows.put_into(parts),
            _ => {}
        }
    }

    /// Whether what is handed over says how many records each part counts.
    #[must_use]
    pub fn counts_parts(&self) -> bool {
        matches!(&self.windows, Some(HeldWindows::PartialByTopic(_)))
    }

    /// Takes in what `lane` handed over in one epoch; see [`SessionWindows::take_in`] for `incomplete`.
    pub fn take_in(&mut self, lane: i32, body: &[u8], mut incomplete: Option<&mut u64>) -> Result<()> {
        let mut reader = Reader::new(body);
        while reader.remaining() > 0 {
            match &mut self.windows {
                Some(HeldWindows::Partial(partial)) => {
                    partial.take_in(&mut reader)?;
                }
                Some(HeldWindows::Sessions { open, .. }) => {
                    open.take_in(lane, &mut reader, incomplete.as_deref_mut())?;
                }
                _ => return Err(Error::state("it holds windows, and the pipeline has none")),
            }
        }
        Ok(())
    }
}
