//! Compiles `dedupe`.
//!
//! Called by `plan/steps.rs`. Invariant: filters are planned for the horizon and the rate as they are described.

use super::{Compiler, Step};
use crate::batch::DataType;
use crate::dedupe::{BloomPlan, CAPACITY_MAX, DedupePlan, RATE_DEFAULT, RATE_MAX, RATE_MIN};
use crate::error::Problem;
use crate::expr::Expression;
use crate::plan::kinds::check_length;
use crate::spec::BloomSpec;

impl Compiler<'_> {
    /// `of_records`: not of rows of a window, which are not out of order.
    pub(super) fn dedupe(&mut self, field: &str, plan: DedupePlan, at: &str, of_records: bool) -> Option<Step> {
        let (within_ms, at) = (plan.within_ms, format!("{at}.dedupe"));
        check_length(within_ms, &at.replace(".dedupe", ".within"), "within", self.problems);
        if of_records && self.input.source.out_of_orderness_ms.is_some_and(|bound| within_ms < bound) {
            let message = "within is shorter than out_of_orderness, so copies that are on time could pass";
            self.problems.push(Problem::new(at.replace(".dedupe", ".within"), message).hint("make it longer"));
        }
        at.clone_into(&mut self.columns.used_at);
        let none = std::collections::BTreeMap::new();
        let compiled = Expression::compile(field, &none, self.columns, Some(DataType::Scalar), &at);
        let id = self.keep(compiled)?;
        Some(Step::Dedupe { id, field: field.to_owned(), name: at.replace(".dedupe", ""), plan })
    }

    /// Filters for a horizon of `within_ms`, where event times are ahead of the clock by `ahead_ms` at most, if it moves.
    pub(super) fn bloom(&mut self, bloom: BloomSpec, within_ms: i64, ahead_ms: Option<i64>, at: &str) -> BloomPlan {
        let rate = bloom.false_drop_rate.unwrap_or(RATE_DEFAULT);
        let mut refuse = |field: &str, message: String, hint: &str| {
            self.problems.push(Problem::new(format!("{at}.{field}"), message).hint(hint));
        };
        if !(RATE_MIN..=RATE_MAX).contains(&rate) {
            let message = format!("false_drop_rate is a share from {RATE_MIN} to {RATE_MAX}, and {rate} is none");
            refuse("false_drop_rate", message, "0.001: of a thousand new events one may be dropped as a copy");
        }
        if bloom.capacity.is_some_and(|ids| !(1..=CAPACITY_MAX).contains(&ids)) {
            let message = format!("capacity is a number of ids from 1 to {CAPACITY_MAX}");
            refuse("capacity", message, "leave it out: filters are made for as many ids as came before");
        }
        let rate = if (RATE_MIN..=RATE_MAX).contains(&rate) { rate } else { RATE_DEFAULT };
        let capacity = bloom.capacity.filter(|ids| (1..=CAPACITY_MAX).contains(ids));
        let plan = BloomPlan::new(within_ms.max(1), ahead_ms, rate, capacity);
        let (bytes, limit) = (plan.byte_len().unwrap_or_default(), self.spec.limits.state_bytes_max);
        if bytes > limit {
            let message =
                format!("the filters of a partition take {bytes} bytes, more than limits.max_state_bytes = {limit}");
            let hint = "plan for fewer ids, or a higher false_drop_rate, or raise the limit";
            self.problems.push(Problem::new(format!("{at}.capacity"), message).hint(hint));
        }
        plan
    }
}
