//! Which manifest a lane goes on from, and how it stands to the group's offsets.
//!
//! Before it: what was read of the state partition and fetched of the group. After it: `recovery`, which acts on the
//! choice. Invariant: an incomplete epoch is never chosen, and never passed over unless `repair` says so.

use super::event::Manifest;

/// What to go on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    /// Nothing was ever committed.
    Empty,
    /// The newest epoch.
    Newest(Manifest),
    /// An older one, because of `repair`; what is written from here on has a higher owner epoch.
    Older {
        /// The newest complete epoch.
        chosen: Manifest,
        /// The newest, which is torn.
        torn: Manifest,
    },
    /// The newest epoch names blocks that are not there.
    Torn(Manifest),
}

/// Chooses among the committed manifests of one lane.
pub(super) fn choose(mut manifests: Vec<Manifest>, repair: bool) -> Choice {
    manifests.sort_by_key(|one| (one.owner_epoch, one.epoch));
    let Some(newest) = manifests.pop() else { return Choice::Empty };
    if newest.complete {
        return Choice::Newest(newest);
    }
    match manifests.into_iter().rev().find(|one| one.complete) {
        Some(chosen) if repair => Choice::Older { chosen, torn: newest },
        _ => Choice::Torn(newest),
    }
}

/// Where the group stands, seen from a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    /// Past it in one input at least.
    Ahead,
    /// Nowhere past it, and before it or unknown in one input at least.
    Behind,
    /// At it.
    Equal,
}

/// The group's offsets for a person.
pub(super) fn shown(group: &[Option<i64>]) -> String {
    let offset = |offset: &Option<i64>| offset.map_or_else(|| "none".to_owned(), |offset| offset.to_string());
    group.iter().map(offset).collect::<Vec<_>>().join(", ")
}

/// Compares the group's offsets with a manifest's.
pub(super) fn compare(group: &[Option<i64>], manifest: &Manifest) -> Group {
    let pairs =
        || manifest.offsets.iter().enumerate().map(|(input, offset)| (group.get(input).copied().flatten(), *offset));
    if pairs().any(|(group, offset)| group.is_some_and(|group| group > offset)) {
        Group::Ahead
    } else if pairs().any(|(group, offset)| group != Some(offset)) {
        Group::Behind
    } else {
        Group::Equal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(owner_epoch: u64, epoch: u64, complete: bool) -> Manifest {
        Manifest { owner_epoch, epoch, offsets: vec![5, 7], clock_ms: 0, digest: epoch, seal: epoch, complete }
    }

    #[test]
    fn the_newest_manifest_is_that_of_the_last_owner_epoch() {
        let all = vec![manifest(1, 3, true), manifest(0, 9, true), manifest(1, 2, true)];
        assert_eq!(choose(all, false), Choice::Newest(manifest(1, 3, true)));
        assert_eq!(choose(Vec::new(), false), Choice::Empty);
    }

    #[test]
    fn a_torn_epoch_is_passed_over_only_by_repair_and_only_for_a_complete_one() {
        let all = || vec![manifest(0, 4, false), manifest(0, 3, false), manifest(0, 2, true)];
        assert_eq!(choose(all(), false), Choice::Torn(manifest(0, 4, false)));
        assert_eq!(choose(all(), true), Choice::Older { chosen: manifest(0, 2, true), torn: manifest(0, 4, false) });
        assert_eq!(choose(vec![manifest(0, 4, false)], true), Choice::Torn(manifest(0, 4, false)));
    }

    #[test]
    fn one_input_ahead_is_ahead_and_one_unknown_is_behind() {
        let at = manifest(0, 1, true);
        assert_eq!(compare(&[Some(5), Some(7)], &at), Group::Equal);
        assert_eq!(compare(&[Some(6), None], &at), Group::Ahead);
        assert_eq!(compare(&[Some(5), None], &at), Group::Behind);
        assert_eq!(compare(&[], &at), Group::Behind);
    }
}
