//! The partition of a key, as producers choose it.
//!
//! `generate` places its events as Kafka's Java client does, `pipeline/rescaled.rs` moves state to where a topic's producers
//! send its keys, and tests compare with theirs. Invariant: the answer never changes, or records of one key would part
//! from those already written.

const SEED: u32 = 0x9747_b28c;
const MULTIPLIER: u32 = 0x5bd1_e995;
const SHIFT: u32 = 24;

/// `MurmurHash2` with Kafka's seed.
#[must_use]
pub fn murmur2(key: &[u8]) -> u32 {
    let mut hash = SEED ^ key.len() as u32;
    let (words, rest) = key.as_chunks();
    for word in words {
        let mut word = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        word ^= word >> SHIFT;
        hash = hash.wrapping_mul(MULTIPLIER) ^ word.wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

/// The partition of `key` among `partitions`, which is at least 1.
#[must_use]
pub fn partition(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions
}

/// How producers choose the partition of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partitioner {
    /// Java's clients, and librdkafka's with `murmur2` or `murmur2_random`.
    Murmur2,
    /// librdkafka's clients where nothing else is said: `consistent_random`, or `consistent`.
    Consistent,
}

impl Partitioner {
    /// The names that [`named`](Self::named) knows, as librdkafka has them.
    pub const NAMES: [&'static str; 4] = ["murmur2_random", "murmur2", "consistent_random", "consistent"];

    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "murmur2_random" | "murmur2" => Some(Self::Murmur2),
            "consistent_random" | "consistent" => Some(Self::Consistent),
            _ => None,
        }
    }

    /// The partition of `key` among `partitions`, which is at least 1; `None` for a key that may go to any.
    #[must_use]
    pub fn partition(self, key: &[u8], partitions: u32) -> Option<u32> {
        match self {
            Self::Murmur2 => Some(partition(key, partitions)),
            Self::Consistent => (!key.is_empty()).then(|| crc32fast::hash(key) % partitions),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_partitioner_and_keys_go_where_it_says() {
        assert!(Partitioner::NAMES.iter().all(|name| Partitioner::named(name).is_some()));
        assert_eq!(Partitioner::named("fnv1a"), None);
        assert_eq!(Partitioner::Murmur2.partition(b"21", 7), Some(3));
        // The check value of CRC-32, of "123456789", is 0xcbf43926.
        assert_eq!(Partitioner::Consistent.partition(b"123456789", 1000), Some(0xcbf4_3926 % 1000));
        assert_eq!(Partitioner::Consistent.partition(b"", 7), None, "librdkafka sends it anywhere");
    }

    /// The vectors of `UtilsTest.testMurmur2` in Apache Kafka.
    #[test]
    fn hashes_are_those_of_the_java_client() {
        let vectors: [(&[u8], i32); 7] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
            (b"", 275_646_681),
        ];
        for (key, hash) in vectors {
            assert_eq!(murmur2(key) as i32, hash, "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn a_negative_hash_still_gives_a_partition() {
        // -973_932_308 without its sign bit is 1_173_551_340.
        assert_eq!(partition(b"21", 7), 3);
        assert_eq!(partition(b"anything", 1), 0);
    }
}
