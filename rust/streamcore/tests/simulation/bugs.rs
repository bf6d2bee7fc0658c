//! The checker is checked: each bug that the machine can be told to commit is found.

use crate::run::{run, settings};
use streamcore::checkpoint::machine::Bug;

/// A bug is found within so many seeds.
const SEEDS: u64 = 20;

#[test]
fn every_seeded_bug_is_found_within_twenty_seeds() {
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        let mut buggy = settings();
        buggy.bugs.insert(bug);
        let found = (0..SEEDS).find_map(|seed| run(seed, &buggy, false, false).wrong.map(|wrong| (seed, wrong)));
        match found {
            Some((seed, wrong)) => {
                use std::io::Write;
                let _ = writeln!(std::io::stdout(), "{bug:?}: seed {seed}: {}", wrong.chars().take(150).collect::<String>());
            }
            None => missed.push(bug),
        }
    }
    assert_eq!(missed, Vec::new());
}
