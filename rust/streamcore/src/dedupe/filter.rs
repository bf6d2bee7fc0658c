//! A blocked bloom filter, of so many ids at a stated rate of false positives.
//!
//! An id sets one bit in each of the eight words of one block, which is one cache line (F. Putze, P. Sanders and
//! J. Singler, "Cache-, Hash- and Space-Efficient Bloom Filters", 2007; the one bit a word is that of Parquet's
//! split-block filters). How many ids share a block follows the Poisson distribution, and from that the rate is worked
//! out, not from the formula of filters without blocks, which promises too much. Additions, multiplications and
//! divisions alone, so that every machine makes the same filters. Invariant: after `rollback` the bits are those of the
//! last `commit`.

use crate::codec::{Reader, Write};
use crate::error::{Error, Result};
use crate::prefetch::prefetch;

/// Words of a block, and bits that an id sets.
const WORDS: usize = 8;
/// Bits of a hash that choose the bit of a word.
const BIT_BITS: usize = 6;
/// Rates are worked out anew whenever a filter is fuller by one of so many parts.
const RATE_STEPS: u64 = 64;
/// Spreads digests; odd.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A share of 1 in units of 2^-64.
pub type Rate = u64;

/// What of an id a filter looks at.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// Chooses the block.
    place: u64,
    /// One bit in each word.
    mask: [u64; WORDS],
}

impl Probe {
    /// Of an id's fingerprint.
    #[inline]
    pub fn new(fingerprint: u128) -> Self {
        let low = fingerprint as u64;
        let mask = std::array::from_fn(|word| 1 << (low >> (word * BIT_BITS) & 63));
        Self { place: (fingerprint >> 64) as u64, mask }
    }
}

#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Block([u64; WORDS]);

impl Block {
    /// What it adds to the digest, as block `number`: linear in the words, so that bits can be added one by one.
    fn digest(self, number: usize) -> u64 {
        let mixed = (number as u64 + 1).wrapping_mul(SPREAD);
        let place = (mixed ^ mixed >> 29) | 1;
        let (mut factor, mut sum) = (place, 0_u64);
        for word in self.0 {
            sum = sum.wrapping_add(word.wrapping_mul(factor));
            factor = factor.wrapping_mul(SPREAD);
        }
        sum
    }
}

/// The filter.
#[derive(Debug)]
pub struct Filter {
    blocks: Vec<Block>,
    /// Ids for which it was made.
    planned: u64,
    /// Ids in it.
    len: u64,
    /// How likely another id is taken for one of them; an upper bound up to `rate_until` ids.
    rate: Rate,
    rate_until: u64,
    /// Ids at the last commit, and the digest of the blocks then.
    committed_len: u64,
    committed_digest: u64,
    /// Ids that came since, and which of each one's bits it was the first to set.
    new: Vec<u128>,
    first_to_set: Vec<u8>,
    /// Digest of the blocks without the ids behind the first `digested` new ones.
    digest: u64,
    digested: usize,
}

/// How many ids a block is for, on average, so that another is taken for one of them with a likelihood of `rate` at
/// most; `rate` is above 0 and below 1.
pub fn ids_a_block(rate: f64) -> f64 {
    let (mut few, mut many) = (0.0, 1024.0);
    for _ in 0..64 {
        let middle = f64::midpoint(few, many);
        if rate_of(middle) <= rate { few = middle } else { many = middle }
    }
    few
}

/// How likely an id is taken for another where blocks hold `ids_a_block` on average.
pub fn rate_of(ids_a_block: f64) -> f64 {
    /// Part of the mode's share below which a number of ids does not matter.
    const SHARE_MIN: f64 = 1e-30;
    let free = 1.0 - 1.0 / 64.0;
    let hit = |free: f64| {
        let (bit, mut all) = (1.0 - free, 1.0);
        (0..WORDS).for_each(|_| all *= bit);
        all
    };
    let mode = ids_a_block as u32;
    let free_at_mode = (0..mode).fold(1.0, |all, _| all * free);
    let (mut total, mut sum) = (0.0, 0.0);
    let (mut count, mut share, mut all_free) = (f64::from(mode), 1.0, free_at_mode);
    while share > SHARE_MIN {
        total += share;
        sum += share * hit(all_free);
        count += 1.0;
        share *= ids_a_block / count;
        all_free *= free;
    }
    (count, share, all_free) = (f64::from(mode), 1.0, free_at_mode);
    while count > 0.0 && share > SHARE_MIN {
        share *= count / ids_a_block;
        count -= 1.0;
        all_free /= free;
        total += share;
        sum += share * hit(all_free);
    }
    sum / total
}

/// `share` in units of 2^-64, rounded up.
fn rate_up(share: f64) -> Rate {
    ((share * 2.0_f64.powi(64)) as u64).saturating_add(1)
}

/// Blocks of a filter for `planned` ids at `rate`.
fn blocks_for(planned: u64, rate: f64) -> usize {
    (planned as f64 / ids_a_block(rate)) as usize + 1
}

/// Bytes of a filter for `planned` ids at `rate`.
pub fn bytes_for(planned: u64, rate: f64) -> u64 {
    (blocks_for(planned, rate) as u64).saturating_mul(size_of::<Block>() as u64)
}

impl Filter {
    /// An empty one for `planned` ids, of which there is at least one, at `rate`.
    pub fn new(planned: u64, rate: f64) -> Self {
        Self {
            blocks: vec![Block([0; WORDS]); blocks_for(planned, rate)],
            planned,
            len: 0,
            rate: 0,
            rate_until: 0,
            committed_len: 0,
            committed_digest: 0,
            new: Vec::new(),
            first_to_set: Vec::new(),
            digest: 0,
            digested: 0,
        }
    }

    /// Ids in it.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Ids at the last commit.
    pub fn committed_len(&self) -> u64 {
        self.committed_len
    }

    /// Ids for which it was made.
    pub fn planned(&self) -> u64 {
        self.planned
    }

    /// Whether it holds as many ids as it was made for.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.len >= self.planned
    }

    /// How likely an id that is not in it is taken for one that is; an upper bound.
    #[inline]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    #[inline]
    fn place(&self, probe: &Probe) -> usize {
        ((u128::from(probe.place) * self.blocks.len() as u128) >> 64) as usize
    }

    /// Has the block fetched that `probe` looks at.
    #[inline]
    pub fn prefetch(&self, probe: &Probe) {
        prefetch(&self.blocks[self.place(probe)]);
    }

    /// Whether the id may be in it; it is not, if not.
    #[inline]
    pub fn may_hold(&self, probe: &Probe) -> bool {
        let block = &self.blocks[self.place(probe)].0;
        let missing = probe.mask.iter().zip(block).fold(0, |missing, (bit, word)| missing | (bit & !word));
        missing == 0
    }

    /// Adds an id, which may not be held. True when the rate is another one now.
    #[inline]
    pub fn insert(&mut self, fingerprint: u128, probe: &Probe) -> bool {
        let place = self.place(probe);
        let mut first_to_set = 0;
        for (number, (bit, word)) in probe.mask.iter().zip(&mut self.blocks[place].0).enumerate() {
            first_to_set |= u8::from(*word & bit == 0) << number;
            *word |= bit;
        }
        self.new.push(fingerprint);
        self.first_to_set.push(first_to_set);
        self.len += 1;
        let changes = self.len > self.rate_until;
        if changes {
            self.work_out_rate();
        }
        changes
    }

    /// A function of `len` alone, however the ids came.
    fn work_out_rate(&mut self) {
        let step = (self.planned / RATE_STEPS).max(1);
        self.rate_until = self.len.next_multiple_of(step).min(self.planned).max(self.len);
        self.rate = match self.rate_until {
            0 => 0,
            ids => rate_up(rate_of(ids as f64 / self.blocks.len() as f64)),
        };
    }

    /// The bits that new id `number` was the first to set, and their block.
    fn first_bits(&self, number: usize) -> (usize, Block) {
        let probe = Probe::new(self.new[number]);
        let first = self.first_to_set[number];
        let bits = std::array::from_fn(|word| if first >> word & 1 == 1 { probe.mask[word] } else { 0 });
        (self.place(&probe), Block(bits))
    }

    /// Digest of the ids in it, as far as its bits tell them.
    pub fn seal(&mut self) -> u64 {
        for number in self.digested..self.new.len() {
            let (place, bits) = self.first_bits(number);
            self.digest = self.digest.wrapping_add(bits.digest(place));
        }
        self.digested = self.new.len();
        let sized = self.digest ^ self.len.wrapping_mul(SPREAD).rotate_left(17) ^ self.planned.rotate_left(40);
        let mixed = sized.wrapping_mul(SPREAD);
        mixed ^ mixed >> 32
    }

    /// Everything since the last commit is kept for good.
    pub fn commit(&mut self) {
        self.seal();
        (self.committed_len, self.committed_digest) = (self.len, self.digest);
        (self.new, self.first_to_set, self.digested) = (Vec::new(), Vec::new(), 0);
    }

    /// Everything since the last commit is taken back.
    pub fn rollback(&mut self) {
        for number in 0..self.new.len() {
            let (place, bits) = self.first_bits(number);
            self.blocks[place].0.iter_mut().zip(bits.0).for_each(|(word, bit)| *word &= !bit);
        }
        (self.len, self.digest) = (self.committed_len, self.committed_digest);
        (self.new, self.first_to_set, self.digested) = (Vec::new(), Vec::new(), 0);
        self.work_out_rate();
    }

    /// Bytes held.
    pub fn byte_len(&self) -> usize {
        self.blocks.len() * size_of::<Block>() + self.new.capacity() * size_of::<u128>() + self.first_to_set.capacity()
    }

    /// Of those bytes, those that go with the next commit.
    pub fn undo_len(&self) -> usize {
        self.new.capacity() * size_of::<u128>() + self.first_to_set.capacity()
    }

    /// Appends the filter.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.planned);
        out.put_varint(self.len);
        out.put_varint(self.blocks.len() as u64);
        out.reserve(self.blocks.len() * size_of::<Block>());
        self.blocks.iter().flat_map(|block| &block.0).for_each(|word| out.put_u64(*word));
    }

    /// Reads what `encode` wrote, of a filter for `rate`; it counts as committed.
    pub fn decode(saved: &mut Reader<'_>, rate: f64) -> Result<Self> {
        let (planned, len) = (saved.varint()?, saved.varint()?);
        let count = saved.count(size_of::<Block>())?;
        if planned == 0 || len > planned || count != blocks_for(planned, rate) {
            return Err(Error::state("saved state holds a filter of another size; it was overwritten"));
        }
        let mut filter = Self { len, committed_len: len, ..Self::new(planned, rate) };
        for (number, block) in filter.blocks.iter_mut().enumerate() {
            for word in &mut block.0 {
                *word = saved.u64()?;
            }
            filter.digest = filter.digest.wrapping_add(block.digest(number));
        }
        filter.committed_digest = filter.digest;
        filter.work_out_rate();
        Ok(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedupe::fingerprint;

    fn id(number: u64) -> (u128, Probe) {
        let fingerprint = fingerprint(&number.to_le_bytes());
        (fingerprint, Probe::new(fingerprint))
    }

    fn filled(planned: u64, rate: f64, len: u64) -> Filter {
        let mut filter = Filter::new(planned, rate);
        for (fingerprint, probe) in (0..len).map(id) {
            filter.insert(fingerprint, &probe);
        }
        filter
    }

    #[test]
    fn what_was_put_in_is_held_and_other_ids_rarely() {
        // The bounds are four standard deviations of as many draws above what is expected.
        for (planned, rate, draws) in [(20_000, 0.01, 200_000), (200_000, 0.001, 500_000), (3_000, 0.05, 100_000)] {
            let filter = filled(planned, rate, planned);
            assert!(filter.is_full() && (0..planned).all(|number| filter.may_hold(&id(number).1)));
            let held = (planned..planned + draws).filter(|number| filter.may_hold(&id(*number).1)).count() as f64;
            let expected = rate * draws as f64;
            assert!(held < expected + 4.0 * expected.sqrt(), "{held} of {draws} at {rate}");
            assert!(held > 0.7 * expected, "{held} of {draws} at {rate}: larger than it must be");
            let stated = filter.rate() as f64 / 2.0_f64.powi(64);
            assert!(stated <= rate && stated > 0.9 * rate, "{stated} at {rate}");
        }
    }

    #[test]
    fn the_rate_grows_with_the_ids() {
        let filter = filled(64_000, 0.001, 16_000);
        let draws = 2_000_000;
        let held = (64_000..64_000 + draws).filter(|number| filter.may_hold(&id(*number).1)).count() as f64;
        let expected = filter.rate() as f64 / 2.0_f64.powi(64) * draws as f64;
        assert!(held <= expected + 4.0 * expected.sqrt().max(1.0), "{held}, expected {expected}");
        assert!(expected < 2.0 && filter.rate() > 0, "{expected}");
    }

    #[test]
    fn few_ids_a_block_are_rarely_taken_for_one_another() {
        let bits = |rate| 512.0 / ids_a_block(rate);
        assert!((15.0..18.0).contains(&bits(0.001)), "{}", bits(0.001));
        assert!((20.0..26.0).contains(&bits(0.0001)), "{}", bits(0.0001));
        for rate in [1e-12, 1e-9, 1e-6, 0.001, 0.1, 0.5] {
            let found = rate_of(ids_a_block(rate));
            assert!(found <= rate && found > 0.99 * rate, "{found} for {rate}");
        }
    }

    #[test]
    fn undo_is_the_identity_and_saving_keeps_everything() {
        let mut filter = filled(5_000, 0.001, 3_000);
        let (digest, saved) = (filter.seal(), encoded(&filter));
        filter.commit();
        for (fingerprint, probe) in (2_500..5_000).map(id) {
            filter.insert(fingerprint, &probe);
        }
        assert_ne!(filter.seal(), digest);
        filter.rollback();
        assert_eq!((filter.seal(), encoded(&filter)), (digest, saved.clone()));
        let mut loaded = Filter::decode(&mut Reader::new(&saved), 0.001).expect("whole");
        assert_eq!((loaded.seal(), loaded.rate(), encoded(&loaded)), (digest, filter.rate(), saved));
    }

    fn encoded(filter: &Filter) -> Vec<u8> {
        let mut out = Vec::new();
        filter.encode(&mut out);
        out
    }
}
