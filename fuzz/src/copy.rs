//! The entrance of libFuzzer for local copies of the state: files of any bytes, whole files that are changed, and files whose
//! checksums fit whatever they hold.
//!
//! What must hold: nothing panics; a file that was changed is refused, or gives exactly one of the epochs that it had.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use streamcore::checkpoint::copy::{Contents, End, LogCopy, read};

const FACTS: &[u8] = br#"{"lane":3,"topic":"t"}"#;

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

fuzz_target!(|input: &[u8]| {
    let _ = read(FACTS, input);
    let Some((kind, rest)) = input.split_first() else { return };
    match kind % 3 {
        0 => changed(rest),
        1 => drop(read(FACTS, &forged(rest))),
        _ => drop(read(FACTS, &[head(), rest.to_vec()].concat())),
    }
});

/// Writes epochs of what `input` says, checks them, and then changes the file as its last bytes say.
fn changed(input: &[u8]) {
    let (script, change) = input.split_at(input.len().saturating_sub(6));
    let (mut copy, mut file, mut live) = (LogCopy::new(FACTS), Vec::new(), Records::new());
    let mut epochs: Vec<(usize, Records)> = Vec::new();
    for (number, epoch) in script.chunks(12).enumerate() {
        let records: Vec<(&[u8], Option<&[u8]>)> = epoch
            .chunks(3)
            .map(|record| {
                (&record[..1], (record.len() > 1).then(|| &script[..usize::from(record[1]).min(script.len())]))
            })
            .collect();
        for (key, value) in &records {
            match value {
                Some(value) => drop(live.insert(key.to_vec(), value.to_vec())),
                None => drop(live.remove(*key)),
            }
        }
        file.extend(copy.append(records, End { epoch: number as u64, manifest_offset: 7 }));
        epochs.push((file.len(), live.clone()));
    }
    if let Some((len, records)) = epochs.last() {
        let contents = read(FACTS, &file).expect("a whole file");
        assert_eq!((contents.len, owned(&contents)), (*len, records.clone()));
        assert_eq!(owned(&read(FACTS, &copy.shrunk(FACTS, &file).expect("the same")).expect("whole")), *records);
    }
    let [.., a, b, c, bits, cut, flags] = *change else { return };
    let whole = file.len().max(1);
    let place = |number: u32| number as usize % whole;
    let at = place(u32::from_le_bytes([a, b, c, 0]));
    let before = file.clone();
    if !file.is_empty() {
        file[at] ^= bits;
    }
    if flags & 1 == 1 {
        file.truncate(place(u32::from(cut) * 97));
    }
    if flags & 2 == 2 {
        file.extend_from_slice(&before[at..]);
    }
    if let Ok(contents) = read(FACTS, &file) {
        let (_, records) = epochs.iter().find(|(len, _)| *len == contents.len).expect("the end of an epoch");
        assert_eq!(owned(&contents), *records);
        assert_eq!(file[..contents.len], before[..contents.len]);
    }
}

fn owned(contents: &Contents<'_>) -> Records {
    contents.records.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

/// The head of a file.
fn head() -> Vec<u8> {
    let mut file = b"SCCOPY\x01".to_vec();
    file.extend_from_slice(&(FACTS.len() as u32).to_le_bytes());
    file.extend_from_slice(FACTS);
    let checksum = crc32c::crc32c(&file);
    file.extend_from_slice(&checksum.to_le_bytes());
    file
}

/// Frames of any kind and with any lengths, the checksums of which fit.
fn forged(input: &[u8]) -> Vec<u8> {
    let mut file = head();
    let mut checksum = crc32c::crc32c(&file[..file.len() - 4]);
    for frame in input.chunks(24) {
        let (fields, content) = frame.split_at(frame.len().min(9));
        let start = file.len();
        file.extend_from_slice(fields);
        file.resize(start + 9, 0);
        // As long as it says, where that is short: then it is looked into.
        let len = |at: usize| u32::from_le_bytes(file[start + at..start + at + 4].try_into().expect("four")) as usize;
        let len = (len(1).saturating_add(len(5))).min(64);
        checksum = crc32c::crc32c_append(checksum, &file[start..]);
        file.extend_from_slice(&checksum.to_le_bytes());
        let body = file.len();
        file.extend(content.iter().copied().chain(std::iter::repeat(0)).take(len));
        checksum = crc32c::crc32c_append(checksum, &file[body..]);
        file.extend_from_slice(&checksum.to_le_bytes());
    }
    file
}
