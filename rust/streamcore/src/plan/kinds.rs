//! Compiles the kind of a window step, and checks its lengths.
//!
//! Called by `plan/steps.rs`; `window` does what it describes. Invariant: lengths, offsets and floors that
//! pass here are so small that sums of times cannot overflow.

use crate::decode::time::{TIME_MAX_MS, TIME_MIN_MS};
use crate::error::Problem;
use crate::expr::did_you_mean;
use crate::spec::{EmitSpec, WindowKindSpec, WindowSpec};
use crate::window::WindowKind;
use crate::window::assign::{Aligned, Shape};
use crate::window::calendar::{self, Calendar, Period, WEEKDAYS};
use crate::window::session::Gaps;
use crate::window::sliding::Trailing;

/// The longest window, gap, horizon or delay: 100 years, so that sums of times cannot overflow.
pub const LENGTH_MAX_MS: i64 = 100 * 366 * 86_400_000;

const DAY_MS: i64 = 86_400_000;

/// Most months of a window: a hundred years.
const MONTHS_MAX: i64 = 1200;

/// Most windows an event may belong to.
const WINDOWS_PER_EVENT_MAX: i64 = 10_000;

/// The kind of `window`, whose step is at `at`; or its mistakes.
pub fn window_kind(window: &WindowSpec, at: &str, problems: &mut Vec<Problem>) -> Option<WindowKind> {
    let mut kinds = Kinds { window, at, problems: Vec::new() };
    let kind = kinds.compile();
    let sound = kinds.problems.is_empty();
    problems.append(&mut kinds.problems);
    sound.then_some(kind)
}

/// Adds a problem at `at` where `length_ms`, called `name`, is no length.
pub fn check_length(length_ms: i64, at: &str, name: &str, problems: &mut Vec<Problem>) {
    if !(1..=LENGTH_MAX_MS).contains(&length_ms) {
        problems.push(Problem::new(at, format!("{name} must be longer than 0 and at most 100 years")));
    }
}

struct Kinds<'k> {
    window: &'k WindowSpec,
    at: &'k str,
    problems: Vec<Problem>,
}

impl Kinds<'_> {
    fn compile(&mut self) -> WindowKind {
        let lateness_ms = self.window.allowed_lateness_ms;
        if !(0..=LENGTH_MAX_MS).contains(&lateness_ms) {
            self.problem("allowed_lateness", "must lie between 0 and 100 years");
        }
        match self.window.kind {
            WindowKindSpec::Tumbling { size_ms, offset_ms, min_start_ms } => {
                let size = self.length(size_ms, "size");
                let shape = Shape::hopping(size, size, self.offset(offset_ms));
                self.aligned(shape, min_start_ms)
            }
            WindowKindSpec::Hopping { size_ms, slide_ms, offset_ms, min_start_ms } => {
                let (size, slide) = (self.length(size_ms, "size"), self.length(slide_ms, "slide"));
                self.check_overlap(size / slide, "slide");
                let shape = Shape::hopping(size, slide, self.offset(offset_ms));
                self.aligned(shape, min_start_ms)
            }
            WindowKindSpec::Cumulate { size_ms, step_ms, offset_ms, min_start_ms } => {
                let (size_ms, step_ms) = (self.length(size_ms, "size"), self.length(step_ms, "step"));
                self.check_steps(size_ms, step_ms);
                let shape = Shape::Cumulate { size_ms, step_ms, offset_ms: self.offset(offset_ms) };
                self.aligned(shape, min_start_ms)
            }
            WindowKindSpec::Calendar { offset_ms, min_start_ms, .. } => {
                let offset_ms = self.offset(offset_ms);
                let shape = self.calendar(offset_ms).map_or(Shape::Whole, Shape::Calendar);
                self.aligned(shape, min_start_ms)
            }
            WindowKindSpec::Whole { min_start_ms } => {
                if lateness_ms > 0 {
                    let problem = Problem::new(self.place("allowed_lateness"), "the whole window is never over");
                    self.problems.push(problem.hint("leave allowed_lateness out: no event is late for it"));
                }
                self.aligned(Shape::Whole, min_start_ms)
            }
            WindowKindSpec::Sliding { size_ms } => {
                if self.window.emit == EmitSpec::Updates {
                    let message = "each event has a row of its own, which leaves once, when the clock has passed it";
                    self.problems.push(Problem::new(self.place("emit"), message).hint("use emit = \"final\""));
                }
                let size_ms = self.length(size_ms, "size");
                WindowKind::Sliding(Trailing { size_ms, allowed_lateness_ms: lateness_ms })
            }
            WindowKindSpec::Session { gap_ms, gap_inclusive: inclusive, max_length_ms, min_start_ms } => {
                let min_start_ms = self.floor(min_start_ms);
                self.session(Gaps { gap_ms, inclusive, allowed_lateness_ms: lateness_ms, max_length_ms, min_start_ms })
            }
        }
    }

    fn aligned(&mut self, shape: Shape, min_start_ms: Option<i64>) -> WindowKind {
        let floor = self.floor(min_start_ms);
        // A time before the year 1 is none that rows could hold for others to read.
        let floor = if matches!(shape, Shape::Whole) { floor } else { floor.or(Some(TIME_MIN_MS)) };
        WindowKind::Aligned(Aligned::new(shape, floor, self.window.allowed_lateness_ms))
    }

    fn session(&mut self, gaps: Gaps) -> WindowKind {
        self.length(gaps.gap_ms, "gap");
        if let Some(max_length_ms) = gaps.max_length_ms {
            let max_length_ms = self.length(max_length_ms, "max_length");
            if max_length_ms < gaps.gap_ms {
                let problem = Problem::new(self.place("max_length"), "max_length is shorter than gap");
                self.problems
                    .push(problem.hint("a session of one event is as long as the gap: make max_length longer"));
            }
        }
        WindowKind::Session(gaps)
    }

    /// `None` with a problem.
    fn calendar(&mut self, offset_ms: i64) -> Option<Calendar> {
        let WindowKindSpec::Calendar { timezone, .. } = &self.window.kind else { return None };
        let period = self.period();
        let Some(zone) = timezone else {
            let (key, what) =
                if self.months().is_some() { ("size", "a month") } else { ("week_start", "the first day of a week") };
            let problem = Problem::new(self.place(key), format!("{what} is of a calendar, and timezone is not given"));
            self.problems.push(problem.hint("add timezone = \"UTC\", or the IANA name of another zone"));
            return None;
        };
        let calendar = Calendar::new(zone, period?, offset_ms);
        if calendar.is_none() {
            let zones = calendar::zones();
            let near = did_you_mean(zone, zones.iter().map(String::as_str));
            let hint = near.map_or("use an IANA name, as \"Europe/Berlin\"".to_owned(), |near| {
                format!("did you mean \"{near}\"?")
            });
            self.problems
                .push(Problem::new(self.place("timezone"), format!("there is no time zone {zone}")).hint(hint));
        }
        calendar
    }

    fn months(&self) -> Option<i64> {
        let WindowKindSpec::Calendar { size_months, .. } = &self.window.kind else { return None };
        *size_months
    }

    /// The length of a calendar window; `None` with a problem.
    fn period(&mut self) -> Option<Period> {
        let WindowKindSpec::Calendar { size_ms, size_months, week_start, .. } = &self.window.kind else { return None };
        let days = size_ms.map_or(0, |size_ms| size_ms / DAY_MS);
        if week_start.is_some() && (days == 0 || days % 7 != 0) {
            let problem = Problem::new(self.place("week_start"), "only weeks have a first day");
            self.problems.push(problem.hint("make size whole weeks, as \"1w\", or leave week_start out"));
            return None;
        }
        if let Some(every) = *size_months {
            self.length(every.saturating_mul(28 * DAY_MS), "size");
            return Some(Period::Months { every: every.clamp(1, MONTHS_MAX) });
        }
        if days == 0 || size_ms.is_some_and(|size_ms| size_ms % DAY_MS != 0) {
            let problem = Problem::new(self.place("size"), "with a timezone, size is whole days, weeks or months");
            self.problems.push(problem.hint("leave timezone out; offset moves shorter windows"));
            return None;
        }
        self.length(days.saturating_mul(DAY_MS), "size");
        let days = days.min(LENGTH_MAX_MS / DAY_MS);
        if days % 7 != 0 {
            return Some(Period::days(days));
        }
        let first = week_start.as_deref().map_or(Some(0), |name| WEEKDAYS.iter().position(|day| *day == name));
        if first.is_none() {
            let problem = Problem::new(self.place("week_start"), "there is no such day");
            self.problems.push(problem.hint(format!("it is one of {}", WEEKDAYS.join(", "))));
        }
        Some(Period::weeks(days / 7, first? as i64))
    }

    fn check_steps(&mut self, size_ms: i64, step_ms: i64) {
        self.check_overlap(size_ms / step_ms, "step");
        if size_ms % step_ms != 0 {
            let problem = Problem::new(self.place("size"), "size must be a multiple of step");
            let (less, more) = (size_ms - size_ms % step_ms, size_ms - size_ms % step_ms + step_ms);
            let choice = if less > 0 { format!("{less}ms or {more}ms") } else { format!("{more}ms") };
            self.problems.push(problem.hint(format!("the nearest: {choice}")));
        }
    }

    fn check_overlap(&mut self, windows: i64, name: &str) {
        if windows > WINDOWS_PER_EVENT_MAX {
            let message = format!("an event would belong to {windows} windows; the most is 10,000");
            self.problems.push(Problem::new(self.place(name), message).hint(format!("make {name} longer")));
        }
    }

    /// `length_ms`, or where it is none a length to go on with.
    fn length(&mut self, length_ms: i64, name: &str) -> i64 {
        check_length(length_ms, &self.place(name), name, &mut self.problems);
        length_ms.clamp(1, LENGTH_MAX_MS)
    }

    fn offset(&mut self, offset_ms: i64) -> i64 {
        if offset_ms.unsigned_abs() > LENGTH_MAX_MS as u64 {
            self.problem("offset", "must lie within 100 years");
        }
        offset_ms.clamp(-LENGTH_MAX_MS, LENGTH_MAX_MS)
    }

    fn floor(&mut self, min_start_ms: Option<i64>) -> Option<i64> {
        if min_start_ms.is_some_and(|floor| !(TIME_MIN_MS..=TIME_MAX_MS).contains(&floor)) {
            self.problem("min_start", "must lie in the years 1 to 9999");
        }
        min_start_ms.map(|floor| floor.clamp(TIME_MIN_MS, TIME_MAX_MS))
    }

    fn problem(&mut self, key: &str, message: &str) {
        self.problems.push(Problem::new(self.place(key), message));
    }

    fn place(&self, key: &str) -> String {
        format!("{}.{key}", self.at)
    }
}
