//! Windows of lanes that become those of other lanes, key by key.
//!
//! Old lanes have let their windows go up to clocks of their own. A new lane lets them go from the earliest of these on, so
//! that none is forgotten, and a key that comes from a lane that was further counts only for the windows that had not left there.
//! Invariant: the row of a key and window that has left for good does not leave again, and no other is lost.

use super::{AlignedWindows, BucketKey};
use crate::error::Result;
use crate::state::{Buckets, Contents, Route};
use crate::window::Windows;

const SLICES: u64 = 1;
const REVISIONS: u64 = 2;
const CHANGED: u64 = 3;

impl AlignedWindows {
    /// What the rows come to.
    #[must_use]
    pub fn contents(&self) -> Contents {
        let mut contents = self.slices.contents(SLICES);
        contents += self.revisions.contents(REVISIONS);
        self.changed.iter().for_each(|changed| contents += changed.contents(CHANGED));
        contents
    }

    /// Windows of `count` lanes with the keys of `olds`, which fire in their lanes.
    pub fn moved(olds: &[&Self], count: usize, route: &mut Route<'_>, contents: &mut Contents) -> Result<Vec<Self>> {
        if olds.iter().any(|old| old.cursor.is_some()) {
            return Err(Windows::still_leaving());
        }
        let told = || olds.iter().filter(|old| old.fired_ms > i64::MIN || !old.slices.is_empty());
        let fired_ms = told().map(|old| old.fired_ms).min().unwrap_or(i64::MIN);
        let purged_ms = told().map(|old| old.purged_ms).min().unwrap_or(i64::MIN);
        let ends = olds.iter().map(|old| old.ends).max().unwrap_or_default();
        let new = || Self::firing(olds[0].plan.clone(), olds[0].windows.clone());
        let mut news: Vec<Self> = (0..count).map(|_| new()).collect();
        for (lane, old) in olds.iter().enumerate() {
            old.move_rows(fired_ms, &mut news, &mut |key| route(lane, key), contents)?;
        }
        for new in &mut news {
            (new.fired_ms, new.purged_ms, new.ends) = (fired_ms, purged_ms, ends);
            new.slices.settle();
            new.revisions.settle();
            new.changed.iter_mut().for_each(Buckets::settle);
            new.committed = (fired_ms, purged_ms, ends, None);
            new.find_next_fire();
        }
        Ok(news)
    }

    fn move_rows(
        &self,
        fired_ms: i64,
        news: &mut [Self],
        route: &mut dyn FnMut(&[u8]) -> Result<usize>,
        contents: &mut Contents,
    ) -> Result<()> {
        let to = |bucket: BucketKey| {
            if self.fired_ms <= fired_ms {
                return Some(bucket);
            }
            let since = self.windows.next_window(bucket, self.fired_ms)?;
            Some(BucketKey { since, ..bucket })
        };
        for (old, rows) in self.slices.iter() {
            let Some(bucket) = to(old) else { continue };
            for slot in rows.filled() {
                contents.cut += u64::from(bucket != old);
                let new = &mut news[route(rows.key(slot))?];
                let merge = |mine: &mut _, at, other: &_, slot| super::Accumulators::merge(mine, at, other, slot);
                new.slices.take_row(bucket, (rows, slot), merge, (SLICES, contents))?;
            }
        }
        for (bucket, rows) in self.revisions.iter() {
            for slot in rows.filled() {
                let new = &mut news[route(rows.key(slot))?];
                let merge = |mine: &mut super::Revisions, at: u32, other: &super::Revisions, slot: u32| {
                    mine.counts[at as usize] += other.counts[slot as usize];
                };
                new.revisions.take_row(bucket, (rows, slot), merge, (REVISIONS, contents))?;
            }
        }
        for (old, rows) in self.changed.iter().flat_map(Buckets::iter) {
            let Some(bucket) = to(old) else { continue };
            for slot in rows.filled() {
                contents.cut += u64::from(bucket != old);
                let new = &mut news[route(rows.key(slot))?];
                let changed = new.changed.as_mut().expect("of one plan");
                changed.take_row(bucket, (rows, slot), |_, _, _, _| (), (CHANGED, contents))?;
            }
        }
        Ok(())
    }
}
