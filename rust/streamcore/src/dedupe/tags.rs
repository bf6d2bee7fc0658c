//! Tags of entries, and what their owner says of them.
//!
//! `generations` owns them, `table` and `part` ask. Invariant: 0 is no tag, so it is in every set of those that may be
//! dropped.

use super::line::TAGS_MAX;

/// A set of tags. A byte each: they are asked for six at a time, and lie in the cache nearest to the processor.
#[derive(Debug, Clone)]
pub struct TagSet([bool; TAGS_MAX + 1]);

impl TagSet {
    /// That of 0, which is none.
    pub const fn of_none() -> Self {
        let mut tags = [false; TAGS_MAX + 1];
        tags[0] = true;
        Self(tags)
    }

    pub const fn insert(&mut self, tag: u16) {
        self.0[tag as usize] = true;
    }

    pub const fn remove(&mut self, tag: u16) {
        self.0[tag as usize] = false;
    }

    #[inline]
    pub const fn contains(&self, tag: u16) -> bool {
        self.0[tag as usize]
    }
}

/// What the owner of the tags says of them.
pub trait Tags {
    /// The tags whose entries may be dropped; that of 0, which is none, is one.
    fn droppable(&self) -> &TagSet;
    /// One entry with `tag` was dropped; with 0, none was: whoever took the place need not ask which it was.
    fn dropped(&mut self, tag: u16);
    /// Whether entries may be dropped with any other tag than 0, or once could: as many go as come, as a rule.
    fn slide(&self) -> bool;
    /// How many of `used` entries may not be dropped, if they are as many as among all.
    fn kept_among(&self, used: usize) -> usize;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in_and_always_that_of_no_entry() {
        let mut tags = TagSet::of_none();
        (1..=TAGS_MAX as u16).filter(|tag| tag % 3 == 0).for_each(|tag| tags.insert(tag));
        (1..=TAGS_MAX as u16).filter(|tag| tag % 2 == 0).for_each(|tag| tags.remove(tag));
        assert!(tags.contains(0));
        assert!((1..=TAGS_MAX as u16).all(|tag| tags.contains(tag) == (tag % 6 == 3)));
    }
}
