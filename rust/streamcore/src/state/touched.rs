//! Which slots have been changed since the last commit: a bit each, so that of ten million it fits in a cache.
//!
//! `state.rs` asks before every change. Invariant: no bit is set behind a commit or a rollback.

/// As many words are looked through in the time that one slot of many takes to be sorted.
const WORDS_A_SLOT: usize = 8;

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

    /// All that are in it, in order: `slots`, which are `len`, and no other. Bits are in order already; few are sorted sooner.
    #[must_use]
    pub fn in_order(&self, slots: impl Iterator<Item = u32>, len: usize) -> Vec<u32> {
        if len * WORDS_A_SLOT < self.0.len() {
            let mut sorted: Vec<u32> = slots.collect();
            sorted.sort_unstable();
            return sorted;
        }
        let mut ordered = Vec::with_capacity(len);
        for (at, mut word) in (0_u32..).zip(self.0.iter().copied()) {
            while word != 0 {
                ordered.push(at * 64 + word.trailing_zeros());
                word &= word - 1;
            }
        }
        ordered
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
    fn few_slots_and_many_come_in_order() {
        for count in [0, 1, 10, 100, 1_000, 20_000] {
            let mut slots: Vec<u32> = (0..count).map(|number| number * 7_919 % 100_003).collect();
            let mut touched = Touched::default();
            assert!(touched.add(200_000));
            slots.push(200_000);
            assert!(slots[..count as usize].iter().all(|slot| touched.add(*slot)));
            let ordered = touched.in_order(slots.iter().copied(), slots.len());
            slots.sort_unstable();
            assert_eq!(ordered, slots);
        }
    }

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
