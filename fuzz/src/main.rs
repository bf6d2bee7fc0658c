//! The entrance of libFuzzer: runs a batch, and changes one.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use streamcore_fuzz::batch::{Batch, write};
use streamcore_fuzz::{mutate, property};

fuzz_target!(|text: &[u8]| {
    let batch = Batch::read(text);
    assert_eq!(Batch::read(write(&batch).as_bytes()).records, batch.records, "a batch comes back as it was written");
    property::check(&batch);
});

fuzz_mutator!(|text: &mut [u8], size: usize, max_size: usize, seed: u32| {
    if seed.is_multiple_of(4) {
        return fuzzer_mutate(text, size, max_size);
    }
    let mut batch = Batch::read(&text[..size]);
    mutate::mutate(&mut batch, seed);
    let changed = write(&batch);
    let len = changed.len().min(text.len());
    text[..len].copy_from_slice(&changed.as_bytes()[..len]);
    len
});
