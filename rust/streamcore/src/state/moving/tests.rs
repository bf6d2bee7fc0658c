//! What is added up while rows move is told by the rows, so a copy that is another is noticed.

use super::*;
use crate::codec::Write;

/// Numbers, of which a copy may lack the last bit.
#[derive(Debug, Clone)]
struct Numbers {
    values: Vec<u64>,
    is_exact: bool,
}

impl Slots for Numbers {
    fn push_empty(&mut self) {
        self.values.push(0);
    }
    fn truncate(&mut self, len: usize) {
        self.values.truncate(len);
    }
    fn mark(&self, slot: u32, out: &mut Vec<u8>) {
        self.encode(slot, out);
    }
    fn restore(&mut self, slot: u32, mark: &mut Reader<'_>) {
        self.values[slot as usize] = mark.varint().expect("a mark");
    }
    fn digest(&self, slot: u32) -> u64 {
        self.values[slot as usize]
    }
    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        out.put_varint(self.values[slot as usize]);
    }
    fn decode(&mut self, slot: u32, saved: &mut Reader<'_>) -> Result<()> {
        let value = saved.varint()?;
        self.values[slot as usize] = if self.is_exact { value } else { value & !1 };
        Ok(())
    }
    fn byte_len(&self) -> usize {
        self.values.len() * 8
    }
}

const TABLE: u64 = 1;
const BUCKET: BucketKey = BucketKey { time: 10, since: 10 };

fn tables(rows: &[(&str, u64)], is_exact: bool) -> Buckets<Numbers> {
    let mut tables = Buckets::new(Numbers { values: Vec::new(), is_exact });
    for (key, value) in rows {
        let rows = tables.bucket(BUCKET);
        let (slot, _) = rows.slot_for_update(key_hash(key.as_bytes()), key.as_bytes());
        rows.slots_mut().values[slot as usize] = *value;
    }
    tables
}

/// What is told of rows that are moved to tables with one row, and what these come to.
fn moved(is_exact: bool) -> (Contents, Contents, Contents) {
    let old = tables(&[("a", 3), ("b", 4), ("c", 5)], true);
    let mut new = tables(&[], is_exact);
    let mut told = Contents::default();
    for (bucket, rows) in old.iter() {
        for slot in rows.filled() {
            let merge = |mine: &mut Numbers, at: u32, other: &Numbers, slot: u32| {
                mine.values[at as usize] += other.values[slot as usize];
            };
            new.take_row(bucket, (rows, slot), merge, (TABLE, &mut told)).expect("a row");
        }
    }
    (old.contents(TABLE), told, new.contents(TABLE))
}

#[test]
fn rows_that_are_moved_come_to_what_they_did() {
    let (before, told, after) = moved(true);
    assert_eq!((before, told), (told, after));
    assert_eq!(told.rows, 3);
}

#[test]
fn a_copy_that_is_not_what_it_was_made_of_is_noticed() {
    let (before, told, after) = moved(false);
    assert_eq!(told, before, "told by the rows that were moved");
    assert_eq!(after.rows, told.rows);
    assert_ne!(after.digest, told.digest);
}

#[test]
fn rows_of_one_key_that_meet_come_to_what_they_have_become() {
    let (one, other) = (tables(&[("a", 3), ("b", 4)], true), tables(&[("b", 6)], true));
    let (mut new, mut told) = (tables(&[], true), Contents::default());
    for (bucket, rows) in one.iter().chain(other.iter()) {
        for slot in rows.filled() {
            let merge = |mine: &mut Numbers, at: u32, other: &Numbers, slot: u32| {
                mine.values[at as usize] += other.values[slot as usize];
            };
            new.take_row(bucket, (rows, slot), merge, (TABLE, &mut told)).expect("a row");
        }
    }
    assert_eq!((told.rows, told.merged), (2, 1));
    assert_eq!(told.digest, new.contents(TABLE).digest);
    assert_eq!(new.contents(TABLE).digest, tables(&[("a", 3), ("b", 10)], true).contents(TABLE).digest);
}
