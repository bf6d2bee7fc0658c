//! Which slots have been changed since the last commit: a bit each, so that of ten million it fits in a cache.
//!
//! `state.rs` asks before every change. Invariant: no bit is set behind a commit or a rollback.

/// A set of slots.
#[derive(Debug, Clone, Default)]
pub struct Touched(Vec<u64>);

impl Touched {
    /// Adds `slot`; true when it was not in the set.
    #[inline]
    pub fn add(&mut self, slot: u32) -> bool {
        let (word, bit) = (slot as usize / 64, 1 << (slot % 64));
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let was = self.0[word];
        self.0[word] |= bit;
        was & bit == 0
    }

    /// Has the bit of `slot` fetched.
    #[inline]
    pub fn prefetch(&self, slot: u32) {
        self.0.get(slot as usize / 64).into_iter().for_each(crate::prefetch::prefetch);
    }

    /// Takes out all that are in it: `slots`, which are `len`, and no other.
    pub fn clear(&mut self, slots: impl Iterator<Item = u32>, len: usize) {
        if len > self.0.len() {
            self.0.fill(0);
        } else {
            slots.for_each(|slot| self.0[slot as usize / 64] = 0);
        }
    }

    /// Bytes held.
    pub const fn byte_len(&self) -> usize {
        self.0.len() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_new_once_until_the_set_is_cleared() {
        let mut touched = Touched::default();
        for slots in [vec![5, 64, 63, 1_000, 0], vec![64, 5], vec![], (0..200).collect()] {
            assert!(slots.iter().all(|slot| touched.add(*slot)));
            assert!(slots.iter().all(|slot| !touched.add(*slot)));
            let len = slots.len();
            touched.clear(slots.into_iter(), len);
        }
        assert_eq!(touched.byte_len(), (1_000 / 64 + 1) * 8);
    }
}
