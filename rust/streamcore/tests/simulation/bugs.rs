//! The checker is checked: each bug that the machine can be told to commit is found, in the weather where it shows.

use crate::faults::Weather;
use crate::run::{run, settings};
use std::io::Write;
use streamcore::checkpoint::machine::Bug;

/// A bug is found within so many seeds.
const SEEDS: u64 = 20;

/// Seeds of the weather that a bug shows in, and with lanes that meet where it shows only there.
fn seeds(bug: Bug) -> impl Iterator<Item = u64> {
    let weather = match bug {
        Bug::OffsetsBeforeOutputs
        | Bug::NoRollbackOnAbort
        | Bug::NoSeekAfterAbort
        | Bug::ManifestNotLast
        | Bug::PublishBeforeCommit
        | Bug::ResumeAtGroupOffset => Weather::MIXED,
        Bug::ReuseProducerAfterTimeout | Bug::ReuseProducerAfterSlowCommit | Bug::SuccessOnTimeout => Weather::NETWORK,
        Bug::TimerOutputWithoutOffsets | Bug::KeepStateOnLost | Bug::GroupMetadataStale | Bug::GroupMetadataMissing => {
            Weather::SLEEPERS
        }
        Bug::RestoreToLastStable | Bug::SkipStableOffsets => Weather::MARKERS,
        Bug::DecideLaneByLane | Bug::FeedBeforeMeeting => Weather::DOUBTS,
        Bug::GroupMetadataFresh | Bug::TrustCache => Weather::CHURN,
    };
    let needs_meeting = bug == Bug::FeedBeforeMeeting;
    (0..).filter(move |seed| seed % Weather::COUNT == weather && (!needs_meeting || Weather::has_meeting(*seed)))
}

#[test]
fn every_seeded_bug_is_found_within_twenty_seeds() {
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        let mut buggy = settings();
        buggy.bugs.insert(bug);
        let most = crate::number("STREAMCORE_BUG_SEEDS").unwrap_or(SEEDS) as usize;
        let mut outcomes = seeds(bug)
            .take(most)
            .enumerate()
            .map(|(place, seed)| (place + 1, seed, run(seed, &buggy, false, false).wrong));
        match outcomes.find(|(.., wrong)| wrong.is_some()) {
            Some((place, seed, wrong)) => {
                let wrong: String = wrong.unwrap_or_default().chars().take(120).collect();
                let _ = writeln!(std::io::stdout(), "{bug:?}: run {place}, seed {seed}: {wrong}");
            }
            None => missed.push(bug),
        }
    }
    assert_eq!(missed, Vec::new());
}
