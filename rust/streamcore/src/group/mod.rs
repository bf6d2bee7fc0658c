//! Group keys of a batch, each distinct one held once: rows carry dense ids.
//!
//! Decoding interns where every record is on its way to the windows, `lane` where some leave before; the windows
//! then look a key up once for each slice instead of once for each row. Invariant: rows of one id have one key;
//! where most keys are met once, which interning would only make slower, one key may have several ids.

pub mod key;

use crate::batch::{Bytes, Column, Groups, Values};
use crate::state::{key_hash, same};
use hashbrown::HashTable;
use key::KeyCodec;

/// Interning rests for a while after a batch with more than one distinct key in so many rows.
const ROWS_PER_KEY_MIN: usize = 2;

/// A smaller batch says little of how often keys are met: it is always interned, and judged by nothing.
const ROWS_JUDGED_MIN: usize = 512;

/// How many batches it rests for.
const REST_BATCHES: u32 = 15;

/// Columns that the group key of every record comes from.
#[derive(Debug, Clone)]
pub struct GroupPlan {
    /// Their places in the batch.
    pub columns: Vec<usize>,
    /// How they make a key.
    pub key: KeyCodec,
}

/// Makes groups, batch by batch. What it keeps only saves time.
#[derive(Debug, Default)]
pub struct Interner {
    /// Groups of the batch by the hash of their text, or of their key where that is more than one text.
    index: HashTable<u32>,
    /// That hash, of each group.
    hashes: Vec<u64>,
    /// Batches to pass over.
    rest: u32,
    /// Batches passed over.
    rested: u64,
    scratch: Vec<u8>,
}

impl Interner {
    /// How many batches were not interned, because of those before them.
    #[must_use]
    pub fn rested(&self) -> u64 {
        self.rested
    }

    /// The groups of `rows`, which rise, of `columns`.
    pub fn groups(
        &mut self,
        columns: &[&Column],
        key: &KeyCodec,
        rows: impl ExactSizeIterator<Item = usize>,
    ) -> Groups {
        let count = rows.len();
        let is_judged = count >= ROWS_JUDGED_MIN;
        if is_judged && self.rest > 0 {
            self.rest -= 1;
            self.rested += 1;
            return one_each(columns, key, rows);
        }
        let groups = self.intern(columns, key, rows);
        if is_judged && groups.hashes.len() * ROWS_PER_KEY_MIN > count {
            self.rest = REST_BATCHES;
        }
        groups
    }

    fn intern(&mut self, columns: &[&Column], key: &KeyCodec, rows: impl ExactSizeIterator<Item = usize>) -> Groups {
        let mut groups = Groups::default();
        groups.of_row.reserve(rows.len());
        self.index.clear();
        self.hashes.clear();
        match columns {
            [Column { values: Values::Bytes(texts), validity, .. }] if validity.no_nulls() => {
                self.intern_texts(texts, rows, &mut groups);
            }
            _ => self.intern_keys(columns, key, rows, &mut groups),
        }
        groups
    }

    /// Where the key is one text without nulls, only that of a new group is encoded.
    fn intern_texts(&mut self, texts: &Bytes, rows: impl Iterator<Item = usize>, groups: &mut Groups) {
        for row in rows {
            groups.of_row.resize(row, 0);
            let text = texts.get(row);
            let hash = key_hash(text);
            let known = self.index.find(hash, |group| same(KeyCodec::text_of(groups.keys.get(*group as usize)), text));
            let group = known.copied().unwrap_or_else(|| {
                groups.keys.push_with(|out| KeyCodec::encode_text(text, out));
                self.insert(hash, add(groups, false))
            });
            groups.of_row.push(group);
        }
    }

    fn intern_keys(
        &mut self,
        columns: &[&Column],
        key: &KeyCodec,
        rows: impl Iterator<Item = usize>,
        groups: &mut Groups,
    ) {
        let mut scratch = std::mem::take(&mut self.scratch);
        for row in rows {
            groups.of_row.resize(row, 0);
            scratch.clear();
            let any_null = key.encode(columns, row, &mut scratch);
            let hash = key_hash(&scratch);
            let known = self.index.find(hash, |group| same(groups.keys.get(*group as usize), &scratch));
            let group = known.copied().unwrap_or_else(|| {
                groups.keys.push(&scratch);
                self.insert(hash, add(groups, any_null))
            });
            groups.of_row.push(group);
        }
        self.scratch = scratch;
    }

    fn insert(&mut self, hash: u64, group: u32) -> u32 {
        self.hashes.push(hash);
        self.index.insert_unique(hash, group, |group| self.hashes[*group as usize]);
        group
    }
}

/// A group for each row.
fn one_each(columns: &[&Column], key: &KeyCodec, rows: impl ExactSizeIterator<Item = usize>) -> Groups {
    let mut groups = Groups::default();
    groups.of_row.reserve(rows.len());
    for row in rows {
        groups.of_row.resize(row, 0);
        let mut any_null = false;
        groups.keys.push_with(|out| any_null = key.encode(columns, row, out));
        let group = add(&mut groups, any_null);
        groups.of_row.push(group);
    }
    groups
}

/// Makes a group of the last key.
fn add(groups: &mut Groups, any_null: bool) -> u32 {
    let group = groups.hashes.len() as u32;
    groups.hashes.push(key_hash(groups.keys.get(group as usize)));
    if any_null {
        groups.with_null.push(group);
    }
    group
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{DataType, Scalar};
    use proptest::prelude::*;

    const TYPES: [DataType; 2] = [DataType::String, DataType::Int64];

    type Row = (Option<String>, Option<i64>, bool);

    fn batches() -> impl Strategy<Value = Vec<Vec<Row>>> {
        let text = proptest::option::weighted(0.9, "[ab]{0,2}|[ab]{3,9}|[ab]{15,18}");
        let row = (text, proptest::option::of(0_i64..2), any::<bool>());
        proptest::collection::vec(proptest::collection::vec(row, 0..40), 1..24)
    }

    fn columns(batch: &[Row], types: &[DataType]) -> Vec<Column> {
        let mut columns: Vec<Column> = types.iter().copied().map(Column::new).collect();
        for (text, number, _) in batch {
            columns[0].push(text.as_deref().map_or(Scalar::Null, |text| Scalar::Bytes(text.as_bytes())));
            if let Some(column) = columns.get_mut(1) {
                column.push(number.map_or(Scalar::Null, Scalar::Int64));
            }
        }
        columns
    }

    proptest! {
        #[test]
        fn rows_of_a_group_have_its_key_and_interned_keys_are_distinct(
            batches in batches(), only_text in any::<bool>(),
        ) {
            let types = if only_text { &TYPES[..1] } else { &TYPES[..] };
            let codec = KeyCodec::new(types.to_vec());
            let mut interner = Interner::default();
            for batch in batches {
                let columns = columns(&batch, types);
                let columns: Vec<&Column> = columns.iter().collect();
                let rows: Vec<usize> = (0..batch.len()).filter(|row| batch[*row].2).collect();
                let interned = interner.intern(&columns, &codec, rows.iter().copied());
                let each = one_each(&columns, &codec, rows.iter().copied());
                for groups in [&interned, &each] {
                    prop_assert_eq!(groups.keys.len(), groups.hashes.len());
                    for row in &rows {
                        let mut key = Vec::new();
                        let any_null = codec.encode(&columns, *row, &mut key);
                        let group = groups.of_row[*row];
                        prop_assert_eq!(groups.keys.get(group as usize), &key[..]);
                        prop_assert_eq!(groups.hashes[group as usize], key_hash(&key));
                        prop_assert_eq!(groups.with_null.binary_search(&group).is_ok(), any_null);
                    }
                }
                let distinct: std::collections::BTreeSet<&[u8]> = each.keys.iter().collect();
                prop_assert_eq!(interned.keys.len(), distinct.len());
                prop_assert_eq!(each.keys.len(), rows.len());
            }
        }
    }

    #[test]
    fn interning_rests_after_a_large_batch_of_keys_met_once_and_small_ones_neither_begin_nor_end_it() {
        let codec = KeyCodec::new(TYPES[..1].to_vec());
        let mut interner = Interner::default();
        let mut groups = |rows: usize, keys: usize| {
            let batch: Vec<Row> = (0..rows).map(|row| (Some((row % keys).to_string()), None, true)).collect();
            let columns = columns(&batch, &TYPES[..1]);
            (interner.groups(&[&columns[0]], &codec, 0..rows).keys.len(), interner.rested())
        };
        assert_eq!(
            [groups(1, 1), groups(511, 511), groups(512, 256), groups(4096, 1000)].map(|(_, rested)| rested),
            [0; 4]
        );
        assert_eq!(groups(512, 257), (257, 0), "after this one");
        assert_eq!(groups(511, 5), (5, 0));
        for batch in 1..=u64::from(REST_BATCHES) {
            assert_eq!(groups(1000, 5), (1000, batch));
        }
        assert_eq!(groups(1000, 5), (5, u64::from(REST_BATCHES)));
    }
}
