//! "Did you mean": the known name nearest to a mistyped one.
//!
//! Used wherever a name is looked up. Invariant: the answer depends on the names alone, not on
//! their order, unless two are equally near.

/// The candidate nearest to `name`, if near enough to be what was meant: at most a third of its
/// characters inserted, removed, replaced or swapped with a neighbour; case does not count.
///
/// ```
/// use streamcore::expr::did_you_mean;
///
/// assert_eq!(did_you_mean("lenght", ["lower", "length"]), Some("length"));
/// assert_eq!(did_you_mean("speed", ["lower", "length"]), None);
/// ```
pub fn did_you_mean<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let wanted: Vec<char> = name.to_lowercase().chars().collect();
    let bound = (wanted.len() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(&wanted, &candidate.to_lowercase().chars().collect::<Vec<_>>()), candidate))
        .filter(|(distance, _)| *distance <= bound)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits between two words, a swap of neighbours counting as one.
fn distance(left: &[char], right: &[char]) -> usize {
    let mut row_before_last = vec![0; right.len() + 1];
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    for (row, wanted) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, found) in right.iter().enumerate() {
            let replaced = previous[column] + usize::from(wanted != found);
            let mut edits = replaced.min(previous[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && *wanted == right[column - 1] && left[row - 1] == *found {
                edits = edits.min(row_before_last[column - 1] + 1);
            }
            current.push(edits);
        }
        row_before_last = std::mem::replace(&mut previous, current);
    }
    previous[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edits(left: &str, right: &str) -> usize {
        distance(&left.chars().collect::<Vec<_>>(), &right.chars().collect::<Vec<_>>())
    }

    #[test]
    fn edits_are_counted() {
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("lenght", "length"), 1);
        assert_eq!(edits("same", "same"), 0);
    }

    #[test]
    fn only_a_near_name_is_suggested() {
        assert_eq!(did_you_mean("Payload.page", ["payload.pages", "payload.user"]), Some("payload.pages"));
        assert_eq!(did_you_mean("x", ["payload"]), None);
        assert_eq!(did_you_mean("ab", ["ba", "cd"]), Some("ba"));
    }
}
