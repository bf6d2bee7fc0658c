//! The right side as a table: a row replaces the one of its key, a delete removes it.
//!
//! Without versions a key has one row, and a left row is looked up when it comes. With versions (`add_versions`) rows
//! are kept by time and looked up as of the left row's time, as in an as-of join; one that comes late, which for a
//! table must not be lost, counts from the clock on. Invariant: what is done with a version depends on its own input
//! alone.

use super::joined::{JoinedBatch, gather, rows_that_fit};
use super::keys::Entry;
use super::rows::{Head, RowId, longest_text};
use super::{Arrivals, Join, Joined, Outcomes, Side};

/// How long a delete is remembered, ms of event time, so that a row that it deletes does not come back when it is read
/// late: Kafka keeps the deletes of a compacted topic for as long.
pub const DELETE_KEPT_MS: i64 = 24 * 3_600_000;

impl Join {
    /// Looks left rows up in the table as it is now.
    pub(super) fn look_up(&self, arrivals: &Arrivals<'_>, out: &mut Joined) -> Outcomes {
        let mut outcomes = Outcomes::default();
        let (mut rows, mut found): (Vec<u32>, Vec<Option<RowId>>) = (Vec::new(), Vec::new());
        for (place, row) in arrivals.rows.iter().enumerate() {
            self.fetch_keys(Side::Right, arrivals, place);
            let id = self.table_row(arrivals, *row);
            if id.is_none() && !self.plan.keeps_alone(Side::Left) {
                outcomes.unmatched += 1;
                continue;
            }
            rows.push(*row);
            found.push(id);
        }
        outcomes.applied = rows.len() as u64;
        let longest = self.rows[1].longest_text() + longest_text(arrivals.columns, &rows);
        let (mut rows, mut found) = (&rows[..], &found[..]);
        while !rows.is_empty() {
            let len = rows_that_fit(rows.len(), longest, |place| {
                let of_table = found[place].map_or(0, |id| self.rows[1].text_bytes(id));
                of_table + longest_text(arrivals.columns, &rows[place..=place])
            });
            let (now, later) = rows.split_at(len);
            let (now_found, later_found) = found.split_at(len);
            out.push_batch(JoinedBatch {
                times_ms: now.iter().map(|row| arrivals.event_times_ms[*row as usize]).collect(),
                watermarks_ms: now.iter().map(|row| arrivals.watermarks_ms[*row as usize]).collect(),
                left: arrivals.columns.iter().map(|column| column.gather(now)).collect(),
                right: gather(&self.rows[1], now_found.iter().copied()),
                left_matched: vec![true; len],
                right_matched: now_found.iter().map(Option::is_some).collect(),
            });
            (rows, found) = (later, later_found);
        }
        outcomes
    }

    /// The table's row for row `row`.
    fn table_row(&self, arrivals: &Arrivals<'_>, row: u32) -> Option<RowId> {
        if arrivals.has_null_key(row) {
            return None;
        }
        let (key, hash) = arrivals.key(row);
        let slot = self.keys.find(hash, key)?;
        self.keys.entries(slot, Side::Right).back().map(|entry| entry.id)
    }

    /// Takes rows into the table, in order of arrival.
    pub(super) fn replace(&mut self, arrivals: &Arrivals<'_>) -> Outcomes {
        let mut outcomes = Outcomes::default();
        let (mut changes, mut rows, mut heads) = (Vec::new(), Vec::new(), Vec::new());
        for (place, row) in arrivals.rows.iter().enumerate() {
            self.fetch_keys(Side::Right, arrivals, place);
            let head = self.head(arrivals, *row);
            if head.has_null_key {
                // A delete without a key deletes nothing; it is no row without a partner.
                *(if head.is_delete { &mut outcomes.applied } else { &mut outcomes.unmatched }) += 1;
                continue;
            }
            outcomes.applied += 1;
            let (key, hash) = arrivals.key(*row);
            let slot = if head.is_delete { self.keys.find(hash, key) } else { Some(self.keys.slot(hash, key)) };
            // What is not there need not be deleted.
            let Some(key) = slot else { continue };
            let head = Head { key, ..head };
            changes.push(head);
            if !head.is_delete {
                rows.push(*row);
                heads.push(head);
            }
        }
        let mut ids = Vec::with_capacity(rows.len());
        self.rows[1].append(arrivals.columns, &rows, &heads, |id, _| ids.push(id));
        let mut ids = ids.into_iter();
        for head in changes {
            if let Some(old) = self.keys.entries(head.key, Side::Right).back().copied() {
                self.free_row(Side::Right, old);
            }
            if !head.is_delete
                && let Some(id) = ids.next()
            {
                self.keys.add(head.key, Side::Right, Entry::new(&head, id));
            }
        }
        self.keys.forget_new();
        outcomes
    }

    /// Takes versions into the table.
    pub(super) fn add_versions(&mut self, arrivals: &Arrivals<'_>) -> Outcomes {
        let mut outcomes = Outcomes::default();
        let (mut rows, mut heads) = (Vec::new(), Vec::new());
        for row in arrivals.rows {
            let mut head = self.head(arrivals, *row);
            if head.has_null_key {
                // A delete without a key deletes nothing; it is no row without a partner.
                *(if head.is_delete { &mut outcomes.applied } else { &mut outcomes.unmatched }) += 1;
                continue;
            }
            let lateness_ms = self.plan.allowed_lateness_ms;
            let over_at_ms = head.time_ms.saturating_add(lateness_ms);
            let clock_ms = self.own_clock_ms(Side::Right, arrivals, *row);
            if over_at_ms <= clock_ms {
                // Those before it must be there to compare it with.
                self.add(Side::Right, arrivals.columns, &std::mem::take(&mut rows), &std::mem::take(&mut heads));
                head.time_ms = clock_ms.saturating_sub(lateness_ms).saturating_add(1);
                if self.is_outdated(arrivals, *row, &head, clock_ms) {
                    outcomes.late.push((*row, over_at_ms));
                    continue;
                }
            }
            outcomes.applied += 1;
            head.key = self.slot(arrivals, *row);
            rows.push(*row);
            heads.push(head);
        }
        self.add(Side::Right, arrivals.columns, &rows, &heads);
        outcomes
    }

    /// True when the table knows a newer version than the late one of `row`.
    fn is_outdated(&self, arrivals: &Arrivals<'_>, row: u32, late: &Head, clock_ms: i64) -> bool {
        let (key, hash) = arrivals.key(row);
        let Some(slot) = self.keys.find(hash, key) else { return false };
        let entries = self.keys.entries(slot, Side::Right);
        let before = entries.partition_point(|entry| entry.time_ms <= late.time_ms);
        let Some(known) = before.checked_sub(1).map(|place| self.rows[1].head(entries[place].id)) else { return false };
        // A delete this old may be gone or not, which the other input decides: it does not count either way.
        let is_forgotten = known.is_delete && known.time_ms.saturating_add(DELETE_KEPT_MS) <= clock_ms;
        known.event_time_ms > late.event_time_ms && !is_forgotten
    }
}
