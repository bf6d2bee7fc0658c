//! Copies read back as they were written, no other bytes do, and one is followed by its own log alone.

use super::*;
use crate::checkpoint::block::Owner;
use crate::checkpoint::log::{LaneLog, Sealed};
use crate::checkpoint::manifest::{Facts, counts};
use crate::metrics::Ledger;
use crate::saving::Saving;
use proptest::prelude::*;

const FACTS: &[u8] = br#"{"lane":0,"topic":"t"}"#;

fn end(epoch: u64) -> End {
    End { epoch, manifest_offset: 10 * epoch as i64 }
}

fn record(key: &str, value: &str) -> Record {
    (key.into(), Some(value.into()))
}

/// Three epochs, in which a key is written anew and one is deleted; with the length of each.
fn written() -> (LogCopy, Vec<u8>, Vec<usize>) {
    let epochs = [
        vec![record("a", "one"), record("b", "two"), record("M/1", "first")],
        vec![record("a", "anew"), ("b".into(), None), record("M/2", "second")],
        vec![record("c", ""), record("M/3", "third")],
    ];
    let (mut copy, mut file, mut lens) = (LogCopy::new(FACTS), Vec::new(), Vec::new());
    for (number, records) in epochs.iter().enumerate() {
        file.extend(copy.append(slices(records), end(number as u64 + 1)));
        lens.push(file.len());
    }
    (copy, file, lens)
}

fn keys<'a>(contents: &Contents<'a>) -> Vec<&'a str> {
    contents.records.keys().map(|key| std::str::from_utf8(key).expect("text")).collect()
}

#[test]
fn a_copy_has_the_newest_of_each_key_up_to_its_last_epoch() {
    let (copy, file, _) = written();
    let contents = read(FACTS, &file).expect("whole");
    assert_eq!(keys(&contents), ["M/1", "M/2", "M/3", "a", "c"]);
    assert_eq!((contents.records[&b"a"[..]], contents.records[&b"c"[..]]), (&b"anew"[..], &b""[..]));
    assert_eq!((contents.end, contents.len, copy.end()), (end(3), file.len(), Some(end(3))));
    assert_eq!(contents.end.manifest_key(), b"M/3");
}

#[test]
fn every_changed_byte_is_noticed_and_a_cut_file_is_one_of_an_earlier_epoch() {
    let (_, file, lens) = written();
    for place in 0..file.len() {
        for change in [1, 0x20, 0x80, 0xff] {
            let mut damaged = file.clone();
            damaged[place] ^= change;
            let message = read(FACTS, &damaged).expect_err("damaged").message;
            assert!(!message.is_empty());
        }
        match (lens.iter().rposition(|len| *len <= place), read(FACTS, &file[..place])) {
            (None, found) => drop(found.expect_err("no whole epoch")),
            (Some(number), found) => {
                let found = found.expect("an earlier epoch");
                assert_eq!((found.end, found.len), (end(number as u64 + 1), lens[number]));
            }
        }
    }
}

#[test]
fn what_a_copy_is_of_is_compared() {
    let (_, file, _) = written();
    let refusal = |facts: &[u8]| read(facts, &file).expect_err("of another").message;
    assert_eq!(refusal(br#"{"lane":1,"topic":"t"}"#), "it is of another state: its lane is 0, and should be 1");
    assert!(refusal(br#"{"lane":0}"#).contains("its topic is \"t\", and should be nothing"));
    let mut newer = file.clone();
    newer[MAGIC.len()] = VERSION + 1;
    assert!(read(FACTS, &newer).expect_err("not its checksum").message.contains("cut or damaged"));
    let head = PREFIX_BYTES + FACTS.len();
    let checksum = crc32c::crc32c(&newer[..head]);
    newer[head..head + CHECKSUM_BYTES].copy_from_slice(&checksum.to_le_bytes());
    assert!(read(FACTS, &newer).expect_err("newer").message.contains("a newer streamcore"));
    assert_eq!(read(FACTS, b"").expect_err("empty").message, "it is empty");
    assert!(read(FACTS, b"SCBLK and so on").expect_err("alien").message.contains("no copy"));
}

#[test]
fn frames_that_are_moved_left_out_or_of_another_file_are_noticed() {
    let (_, file, lens) = written();
    let left_out = [&file[..lens[0]], &file[lens[1]..]].concat();
    read(FACTS, &left_out).expect_err("an epoch is left out");
    let twice = [&file[..lens[1]], &file[lens[0]..lens[1]]].concat();
    read(FACTS, &twice).expect_err("an epoch comes twice");
    let other_facts = br#"{"lane":1,"topic":"t"}"#;
    let mut other = LogCopy::new(other_facts).append(slices(&[record("a", "x")]), end(1));
    other.truncate(PREFIX_BYTES + other_facts.len() + CHECKSUM_BYTES);
    other.extend_from_slice(&file[PREFIX_BYTES + FACTS.len() + CHECKSUM_BYTES..]);
    read(other_facts, &other).expect_err("its frames are of another file");
}

#[test]
fn a_copy_goes_on_behind_what_was_read_and_is_written_anew_when_half_is_over() {
    let (_, file, lens) = written();
    let earlier = read(FACTS, &file[..lens[1] + 7]).expect("two epochs");
    let mut copy = LogCopy::of(FACTS, &earlier);
    let mut again = file[..earlier.len].to_vec();
    again.extend(copy.append(slices(&[record("c", ""), record("M/3", "third")]), end(3)));
    assert_eq!(again, file);
    let large = "x".repeat(OVER_BYTES_MIN as usize);
    for epoch in 4..6 {
        assert!(!copy.is_long());
        again.extend(copy.append(slices(&[record("large", &large)]), end(epoch)));
    }
    again.extend(copy.append([(&b"large"[..], None)], end(6)));
    assert!(copy.is_long());
    copy.shrunk(FACTS, &again[..again.len() - 1]).expect_err("changed");
    let shrunk = copy.shrunk(FACTS, &again).expect("whole");
    let contents = read(FACTS, &shrunk).expect("whole");
    assert_eq!((keys(&contents), contents.end), (vec!["M/1", "M/2", "M/3", "a", "c"], end(6)));
    assert!(!copy.is_long() && shrunk.len() < 400);
    let more = copy.append([(&b"d"[..], None)], end(7));
    assert_eq!(read(FACTS, &[shrunk, more].concat()).expect("whole").end, end(7));
}

/// A log's records by epoch, of which each changes what it has.
fn log_of(epochs: u64, owner: u64, seal: u64) -> Vec<Vec<Record>> {
    let mut log = LaneLog::new(Owner { fingerprint: 7, lane: 0 });
    (1..=epochs)
        .map(|epoch| {
            let sealed = Sealed { digest: epoch, watermark_ms: 0, ledger: counts(&Ledger::default()) };
            let facts = Facts { owner, seal: seal + epoch, ..Facts::default() };
            let records = log.seal(sealed, facts, &mut Vec::new(), |extent, memory| {
                let mut saving = Saving::reusing(memory, extent);
                saving.out.extend_from_slice(&(epoch + seal).to_le_bytes());
                saving
            });
            log.commit();
            records
        })
        .collect()
}

fn followed(copied: &[Vec<Record>], behind: &[Vec<Record>], is_there: bool) -> Result<()> {
    let mut records = Recovery::new(Owner { fingerprint: 7, lane: 0 });
    for (key, value) in copied.iter().chain(behind).flatten() {
        records.add(key, value.as_deref());
    }
    let (_, manifest) = copied.last().and_then(|epoch| epoch.last()).expect("an epoch").clone();
    check_followed(&records, &manifest.expect("a manifest"), is_there)
}

#[test]
fn a_copy_is_followed_by_its_own_log_alone() {
    let log = log_of(9, 0, 0);
    followed(&log, &[], true).expect("nothing came after it");
    assert!(followed(&log, &[], false).expect_err("its manifest is gone").message.contains("is not the log's"));
    followed(&log[..3], &log[3..], true).expect("its manifest is there");
    followed(&log[..3], &log[3..], false).expect("its manifest is named by the newest");
    let other = log_of(9, 0, 100);
    let message = followed(&log[..3], &other[3..], false).expect_err("another history").message;
    assert!(message.contains("is not the log's"), "{message}");
    let message = followed(&log[..3], &other[2..3], true).expect_err("the same epoch of another history").message;
    assert!(message.contains("is not the log's"), "{message}");
    let repaired = log_of(9, 1, 0);
    let message = followed(&log[..3], &repaired[8..], true).expect_err("another owner").message;
    assert!(message.contains("repaired or put back"), "{message}");
    let deleted: Vec<Record> = (0..4).map(|slot| (format!("M/{slot}").into_bytes(), None)).collect();
    let message = followed(&log[..3], &[deleted], true).expect_err("a reset").message;
    assert!(message.contains("no manifest any more"), "{message}");
}

proptest! {
    #[test]
    fn any_records_read_back_and_no_noise_does(
        epochs in proptest::collection::vec(
            proptest::collection::vec((0_u8..6, proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40))), 0..6),
            1..6,
        ),
        noise in any::<Vec<u8>>(),
    ) {
        let (mut copy, mut file, mut expected) = (LogCopy::new(FACTS), Vec::new(), BTreeMap::new());
        for (number, epoch) in epochs.iter().enumerate() {
            let records: Vec<Record> = epoch.iter().map(|(key, value)| (vec![*key], value.clone())).collect();
            for (key, value) in &records {
                match value {
                    Some(value) => drop(expected.insert(key.clone(), value.clone())),
                    None => drop(expected.remove(key)),
                }
            }
            file.extend(copy.append(slices(&records), end(number as u64)));
        }
        let found = read(FACTS, &file).expect("whole");
        let records: BTreeMap<Vec<u8>, Vec<u8>> =
            found.records.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        prop_assert_eq!(records, expected);
        prop_assert!(read(FACTS, &noise).is_err());
        let head = PREFIX_BYTES + FACTS.len() + CHECKSUM_BYTES;
        prop_assert!(read(FACTS, &[&file[..head], &noise].concat()).is_err());
    }
}
