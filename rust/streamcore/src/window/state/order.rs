//! The slots of a table in the order of their keys.
//!
//! Windows leave in it. A slot and as much of its key as tells most keys apart are one number, eight bytes for each key while
//! all leave; few keys are read a second time. Invariant: the order is that of the keys' bytes.

use crate::state::{Slots, StateTable};

/// Bytes of a key, behind those that all keys begin with, that are looked at.
const HEAD: usize = 8;

/// Slots in key order.
#[derive(Debug)]
pub struct KeyOrder {
    /// The head of the key, above the slot.
    packed: Vec<u64>,
    /// Bits of a number that are the slot's.
    slot_bits: u32,
}

impl KeyOrder {
    /// All slots of `table`.
    pub fn new<S: Slots>(table: &StateTable<S>) -> Self {
        let slot_bits = u32::BITS - (table.len() as u32).saturating_sub(1).leading_zeros();
        let packed = table.short_keys().map_or_else(
            || {
                let shared = table.shared_key_len();
                let heads = (0..table.len() as u32).map(|slot| head(&table.key(slot)[shared..]));
                let (least, greatest) = extremes(heads.clone());
                pack(&Scale::new(least, greatest, slot_bits), heads, table.len())
            },
            |keys| {
                let (least, greatest) = extremes(keys.clone());
                let shared = least.iter().zip(&greatest).take_while(|(least, greatest)| least == greatest).count();
                let head = |key: &[u8]| head(&key[shared..]);
                pack(&Scale::new(head(&least), head(&greatest), slot_bits), keys.map(|key| head(&key)), table.len())
            },
        );
        let mut order = Self { packed, slot_bits };
        order.packed.sort_unstable();
        let alike = |left: &u64, right: &u64| left >> slot_bits == right >> slot_bits;
        let slot = |packed: &u64| slot_of(*packed, slot_bits);
        for alike in order.packed.chunk_by_mut(alike).filter(|alike| alike.len() > 1) {
            alike.sort_unstable_by(|left, right| table.key(slot(left)).cmp(table.key(slot(right))));
        }
        order
    }

    /// Number of slots.
    pub const fn len(&self) -> usize {
        self.packed.len()
    }

    /// The slot at `at`.
    pub fn slot(&self, at: usize) -> u32 {
        slot_of(self.packed[at], self.slot_bits)
    }

    /// The slots from `at` on, `count` or as many as there are.
    pub fn slots(&self, at: usize, count: usize) -> impl Iterator<Item = u32> {
        self.packed.iter().skip(at).take(count).map(|packed| slot_of(*packed, self.slot_bits))
    }

    /// How many slots have keys for which `is_before`, which is true of the first of all keys and then no more.
    pub fn partition_point(&self, is_before: impl Fn(u32) -> bool) -> usize {
        self.packed.partition_point(|packed| is_before(slot_of(*packed, self.slot_bits)))
    }

    /// Bytes held.
    pub const fn byte_len(&self) -> usize {
        self.packed.capacity() * size_of::<u64>()
    }
}

const fn slot_of(packed: u64, slot_bits: u32) -> u32 {
    (packed & ((1 << slot_bits) - 1)) as u32
}

/// The first bytes of `key`, zeros where it has ended.
#[inline]
fn head(key: &[u8]) -> [u8; HEAD] {
    key.first_chunk().copied().unwrap_or_else(|| {
        let mut head = [0; HEAD];
        head[..key.len()].copy_from_slice(key);
        head
    })
}

/// The least and the greatest byte at each place; the greatest is the lesser one where there are none.
fn extremes<const PLACES: usize>(keys: impl Iterator<Item = [u8; PLACES]>) -> ([u8; PLACES], [u8; PLACES]) {
    keys.fold(([u8::MAX; PLACES], [0; PLACES]), |(mut least, mut greatest), key| {
        for place in 0..PLACES {
            least[place] = least[place].min(key[place]);
            greatest[place] = greatest[place].max(key[place]);
        }
        (least, greatest)
    })
}

/// The numbers of `heads`, which are those of the slots from 0 to `len`, above the slots.
fn pack(scale: &Scale, heads: impl Iterator<Item = [u8; HEAD]>, len: usize) -> Vec<u64> {
    let mut packed = Vec::with_capacity(len);
    heads.for_each(|head| packed.push(scale.number(head) << scale.slot_bits | packed.len() as u64));
    packed
}

/// Numbers that rise with heads: of each place only as many values count as occur between the least and the greatest
/// byte there, so that a number tells of more places than it has bytes.
struct Scale {
    least: [u8; HEAD],
    /// What a step of one at each place is worth; 0 at places that are not counted.
    weights: [u64; HEAD],
    /// Bits of a slot, which leave the others to a number.
    slot_bits: u32,
}

impl Scale {
    /// For heads with bytes from `least` to `greatest`.
    fn new(least: [u8; HEAD], greatest: [u8; HEAD], slot_bits: u32) -> Self {
        let values = |place: usize| u64::from(greatest[place].saturating_sub(least[place])) + 1;
        // As many places as there are numbers for: `numbers - 1` is the greatest.
        let (mut counted, mut numbers) = (0, 1_u64);
        while let Some(more) = (counted < HEAD).then(|| numbers.checked_mul(values(counted))).flatten() {
            if more - 1 > u64::MAX >> slot_bits {
                break;
            }
            (counted, numbers) = (counted + 1, more);
        }
        let mut weights = [0; HEAD];
        let mut weight = 1;
        for place in (0..counted).rev() {
            weights[place] = weight;
            weight *= values(place);
        }
        Self { least, weights, slot_bits }
    }

    #[inline]
    fn number(&self, head: [u8; HEAD]) -> u64 {
        let step = |place: usize| u64::from(head[place].wrapping_sub(self.least[place])) * self.weights[place];
        (0..HEAD).map(step).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{NoValue, key_hash};
    use proptest::prelude::*;

    fn ordered(keys: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut table = StateTable::new(NoValue);
        for key in keys {
            table.slot_for_update(key_hash(key), key);
        }
        let order = KeyOrder::new(&table);
        let slots: Vec<u32> = (0..order.len()).map(|at| order.slot(at)).collect();
        assert!(order.slots(0, usize::MAX).eq(slots.iter().copied()));
        slots.into_iter().map(|slot| table.key(slot).to_vec()).collect()
    }

    fn sorted(mut keys: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        keys.sort();
        keys.dedup();
        keys
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_the_keys(
            prefix in "[ab]{0,3}|[a]{9,17}", keys in proptest::collection::vec("[ab\u{0}\u{1}\u{7f}]{0,11}", 0..200),
        ) {
            let keys: Vec<Vec<u8>> = keys.iter().map(|key| format!("{prefix}{key}").into_bytes()).collect();
            prop_assert_eq!(ordered(&keys), sorted(keys));
        }

        /// As numbers are encoded: all bytes in all places, so that a number tells of few of them.
        #[test]
        fn keys_of_any_bytes_are_in_order(keys in proptest::collection::vec(any::<[u8; 9]>(), 0..300)) {
            let keys: Vec<Vec<u8>> = keys.iter().flat_map(|key| [key.to_vec(), key[..4].to_vec()]).collect();
            prop_assert_eq!(ordered(&keys), sorted(keys));
        }
    }
}
