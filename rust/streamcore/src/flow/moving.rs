//! What the steps of a stage remember in some lanes, as that of others.
//!
//! `lane/moved.rs` and `stage/moved.rs` call it. Ids that `dedupe` has seen are known by their fingerprints, which tell nothing of a record's key: every
//! lane gets all of them. Invariant: a record that was a copy in its old lane is one in its new lane.

use super::Held;
use super::held::HeldWindows;
use crate::error::{Error, Result};
use crate::plan::Step;
use crate::state::{Contents, Route};
use crate::window::Windows;

impl Held {
    /// What the windows' rows come to, where they fire in the lane, and sessions that wait in it for those of others.
    #[must_use]
    pub fn contents(&self) -> Contents {
        match &self.windows {
            Some(HeldWindows::Own(windows)) => windows.contents(),
            Some(HeldWindows::Sessions { open, .. } | HeldWindows::SessionsByTopic { open, .. }) => open.contents(),
            _ => Contents::default(),
        }
    }

    /// That of `count` lanes, with the keys of `olds`. `combine` as for [`new`](Self::new).
    pub fn moved(
        olds: &[&Self],
        (steps, combine): (&[Step], bool),
        count: usize,
        route: &mut Route<'_>,
        contents: &mut Contents,
    ) -> Result<Vec<Self>> {
        let mut news: Vec<Self> = (0..count).map(|_| Self::new(steps, combine)).collect();
        for new in &mut news {
            for (place, dedupe) in new.dedupes.iter_mut().enumerate() {
                olds.iter().try_for_each(|old| dedupe.learn(&old.dedupes[place]))?;
            }
        }
        if olds.iter().any(|old| matches!(old.windows, Some(HeldWindows::Sessions { .. }))) {
            return Err(Error::state(
                "sessions that are merged from several partitions cannot be moved to others: they know one another by them; group \
                 by the record key (keyed_by)",
            ));
        }
        let own = |old: &&&Self| matches!(old.windows, Some(HeldWindows::Own(_)));
        let windows: Vec<&Windows> = olds
            .iter()
            .filter(own)
            .filter_map(|old| if let Some(HeldWindows::Own(windows)) = &old.windows { Some(&**windows) } else { None })
            .collect();
        for (new, windows) in news.iter_mut().zip(Windows::moved(&windows, count, route, contents)?) {
            new.windows = Some(HeldWindows::Own(Box::new(windows)));
        }
        Ok(news)
    }
}
