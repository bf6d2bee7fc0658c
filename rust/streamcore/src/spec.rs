//! The description of a pipeline, as Python hands it over: JSON with every default filled in.
//!
//! `config.py` has read the file, replaced variables and turned durations into milliseconds; this
//! file gives the shape, `plan.rs` checks the meaning and finds all mistakes at once.

mod limits;
mod meeting;

pub use limits::{LimitsSpec, OnFullSpec};
pub use meeting::{CombineSpec, PhaseSpec};

use crate::error::{Error, Problem, Result};
use crate::function::Functions;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A whole pipeline: where records come from, and the steps in the order they run.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The source.
    pub source: SourceSpec,
    /// Other inputs, which a join step names.
    #[serde(default)]
    pub inputs: Vec<InputSpec>,
    /// The steps, in the order written.
    #[serde(default)]
    pub steps: Vec<StepSpec>,
    /// How lanes' windows meet.
    #[serde(default)]
    pub combine: CombineSpec,
    /// Which part of the pipeline runs here, where they meet through a topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<PhaseSpec>,
    /// Bounds.
    #[serde(default)]
    pub limits: LimitsSpec,
    /// What the names of functions mean; handed over beside the description.
    #[serde(skip)]
    pub functions: Functions,
}

impl Spec {
    /// Reads the JSON that Python writes.
    pub fn from_json(text: &[u8]) -> Result<Self> {
        serde_json::from_slice(text).map_err(|error| {
            Error::config(vec![Problem::new("pipeline", format!("the engine cannot read the description: {error}"))])
        })
    }
}

/// An input beside the pipeline's own.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// What a join step calls it.
    pub name: String,
    /// How its records are read.
    pub source: SourceSpec,
    /// What happens to them before the join.
    #[serde(default)]
    pub steps: Vec<StepSpec>,
}

/// How record values are read, and the clock they drive.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    /// `json` (one object a record) or `raw` (values are opaque).
    #[serde(default)]
    pub format: FormatSpec,
    /// Field that holds the event time; absent: the record's own timestamp.
    #[serde(default)]
    pub event_time: Option<String>,
    /// How a number in `event_time` counts; text is always ISO-8601 with a zone.
    #[serde(default)]
    pub event_time_unit: TimeUnitSpec,
    /// Condition that a record must meet to be seen at all, also by the clock.
    #[serde(default, rename = "where")]
    pub where_: Option<ExpressionSpec>,
    /// How far behind the newest event a record may arrive, ms; absent: unbounded, windows close
    /// at the end of the input.
    #[serde(default)]
    pub out_of_orderness_ms: Option<i64>,
    /// A caught-up lane with no record for this long is idle, ms.
    #[serde(default = "default_idle_timeout_ms")]
    pub idle_timeout_ms: i64,
    /// What the clock does while all lanes are idle.
    #[serde(default)]
    pub on_idle: OnIdleSpec,
    /// An event time further than this ahead of its record's timestamp is `future`, ms; absent: no bound.
    #[serde(default)]
    pub max_future_skew_ms: Option<i64>,
    /// How far a lane's clock may run ahead of the slowest active lane, ms; absent: no bound.
    #[serde(default)]
    pub max_lead_ms: Option<i64>,
    /// The field that is the record key.
    #[serde(default)]
    pub keyed_by: Option<String>,
    /// Declared types, by field path.
    #[serde(default)]
    pub schema: BTreeMap<String, String>,
}

const fn default_idle_timeout_ms() -> i64 {
    30_000
}

/// Value formats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FormatSpec {
    /// One JSON object a record.
    #[default]
    Json,
    /// Values are opaque bytes; only record parts (`_key`, `_timestamp`, ...) can be used.
    Raw,
}

/// Units of a numeric event time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnitSpec {
    /// ISO-8601 text with a zone; a number is refused.
    #[default]
    Iso,
    /// Seconds.
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
}

/// The clock while all lanes are idle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnIdleSpec {
    /// It runs with the wall clock from where it stood.
    #[default]
    Advance,
    /// It stands still.
    Hold,
}

/// An expression and the values of its `$parameters`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ExpressionSpec {
    /// The text.
    pub text: String,
    /// Values of `$name`.
    #[serde(default)]
    pub parameters: BTreeMap<String, serde_json::Value>,
}

/// A named expression: an output column, a group key or an aggregate.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NamedSpec {
    /// The column's name.
    pub name: String,
    /// The expression or aggregate call.
    pub text: String,
    /// Values of `$name`.
    #[serde(default)]
    pub parameters: BTreeMap<String, serde_json::Value>,
}

/// One step; `path` in problems is `steps[i]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub enum StepSpec {
    /// Keeps the rows for which the condition is true.
    Filter {
        /// The condition.
        condition: ExpressionSpec,
    },
    /// Replaces the columns.
    Select {
        /// The new columns, in order.
        columns: Vec<NamedSpec>,
    },
    /// Drops records whose field was seen before.
    Dedupe {
        /// The field compared.
        field: String,
        /// How long an id is remembered past its event time, ms.
        within_ms: i64,
        /// Filters instead of the ids themselves.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bloom: Option<BloomSpec>,
    },
    /// Replaces the columns by what a function of the user makes of whole batches.
    MapBatches {
        /// The function's name.
        function: String,
        /// The columns it gives, in order.
        schema: Vec<TypedSpec>,
    },
    /// Groups and aggregates per window.
    Window(WindowSpec),
    /// Joins the rows with those of another input.
    Join(JoinSpec),
}

/// A join step.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct JoinSpec {
    /// Name of the other input, the right side.
    pub input: String,
    /// Key columns of the left side.
    pub left_on: Vec<String>,
    /// Key columns of the right side, as many.
    pub right_on: Vec<String>,
    /// Which rows belong together.
    pub kind: JoinKindSpec,
    /// Which rows leave without a partner.
    #[serde(default)]
    pub how: JoinTypeSpec,
    /// Appended to the name of a right column whose name a left one has.
    pub suffix: String,
    /// How far behind its input's watermark a row may be, ms.
    #[serde(default)]
    pub allowed_lateness_ms: i64,
}

/// Which rows of both sides belong together, beside their keys; all times in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum JoinKindSpec {
    /// `left time + from <= right time <= left time + to`.
    Interval {
        /// How far back, as a negative number.
        from_ms: i64,
        /// How far ahead.
        to_ms: i64,
    },
    /// Both in one tumbling window.
    Window {
        /// Length.
        size_ms: i64,
        /// Shift of the alignment from the epoch.
        #[serde(default)]
        offset_ms: i64,
    },
    /// The latest right row not after the left one.
    AsOf {
        /// How far back it may lie.
        #[serde(default)]
        tolerance_ms: Option<i64>,
    },
    /// The row of a table.
    Table {
        /// As of the left row's time; otherwise as it is when the left row comes.
        #[serde(default)]
        versioned: bool,
    },
}

/// Which rows leave without a partner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JoinTypeSpec {
    /// None.
    #[default]
    Inner,
    /// Those of the left side.
    Left,
    /// Those of both.
    Outer,
}

/// The filters of a `dedupe` step.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BloomSpec {
    /// Share of new ids that may be taken for copies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub false_drop_rate: Option<f64>,
    /// Ids of one lane that are expected within the horizon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u64>,
}

/// An aggregate of the user.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AggregateSpec {
    /// What calls name it.
    pub name: String,
    /// Its functions are handed over under this name, with `.init`, `.merge` and `.finish` behind it.
    pub function: String,
    /// The arguments it takes.
    pub arguments: Vec<TypedSpec>,
    /// The columns of a state.
    pub state: Vec<TypedSpec>,
    /// Type of the result.
    pub returns: String,
    /// Of its state: saved state of another version is refused.
    pub version: u32,
}

impl AggregateSpec {
    /// The parts of an aggregate, as they stand behind its name.
    pub const PARTS: [&'static str; 3] = ["init", "merge", "finish"];

    /// What a part is handed over as.
    #[must_use]
    pub fn part(&self, part: &str) -> String {
        format!("{}.{part}", self.function)
    }
}

/// A column with its type.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TypedSpec {
    /// The column's name.
    pub name: String,
    /// The type, as `[source.schema]` names it.
    #[serde(rename = "type")]
    pub type_: String,
}

/// A window step.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WindowSpec {
    /// The kind with its lengths.
    pub kind: WindowKindSpec,
    /// Group keys.
    #[serde(default)]
    pub by: Vec<NamedSpec>,
    /// Aggregate columns.
    pub aggregates: Vec<NamedSpec>,
    /// Aggregates of the user that they call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<AggregateSpec>,
    /// When rows leave.
    #[serde(default)]
    pub emit: EmitSpec,
    /// With `updates`: rows leave early when the clock passes a multiple of it, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emit_every_ms: Option<i64>,
    /// With `updates`: only rows for which it is true leave early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emit_when: Option<ExpressionSpec>,
    /// How long past its end a window still takes records, ms.
    #[serde(default)]
    pub allowed_lateness_ms: i64,
    /// What a null group key means.
    #[serde(default)]
    pub null_keys: NullKeysSpec,
}

/// Window kinds; all times in ms.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum WindowKindSpec {
    /// `[start, start + size)`, one after the other.
    Tumbling {
        /// Length.
        size_ms: i64,
        /// Shift of the alignment from the epoch.
        #[serde(default)]
        offset_ms: i64,
        /// No window starts earlier.
        #[serde(default)]
        min_start_ms: Option<i64>,
    },
    /// `[start, start + size)`, one every `slide`.
    Hopping {
        /// Length.
        size_ms: i64,
        /// Distance between starts.
        slide_ms: i64,
        /// Shift of the alignment from the epoch.
        #[serde(default)]
        offset_ms: i64,
        /// No window starts earlier.
        #[serde(default)]
        min_start_ms: Option<i64>,
    },
    /// `[start, start + step)`, `[start, start + 2 step)`, ... `[start, start + size)`, one `start` every `size`.
    Cumulate {
        /// Length of the longest.
        size_ms: i64,
        /// Distance between ends; divides `size`.
        step_ms: i64,
        /// Shift of the alignment from the epoch.
        #[serde(default)]
        offset_ms: i64,
        /// No window starts earlier.
        #[serde(default)]
        min_start_ms: Option<i64>,
    },
    /// Days, weeks or months of a time zone, one after the other. Of the two sizes one is given.
    Calendar {
        /// Length, whole days or weeks.
        #[serde(default)]
        size_ms: Option<i64>,
        /// Length in months.
        #[serde(default)]
        size_months: Option<i64>,
        /// IANA name of the zone.
        #[serde(default)]
        timezone: Option<String>,
        /// The first day of a week; Monday if not given.
        #[serde(default)]
        week_start: Option<String>,
        /// How long after midnight, by the clock on the wall, a window begins.
        #[serde(default)]
        offset_ms: i64,
        /// No window starts earlier.
        #[serde(default)]
        min_start_ms: Option<i64>,
    },
    /// `[t - size, t]` for each event of a group, `t` being its time.
    Sliding {
        /// Length.
        size_ms: i64,
    },
    /// One window for ever.
    Whole {
        /// Events before it are in no window.
        #[serde(default)]
        min_start_ms: Option<i64>,
    },
    /// Events no further apart than `gap`.
    Session {
        /// The largest silence inside a session.
        gap_ms: i64,
        /// Whether two events exactly `gap` apart are one session.
        #[serde(default = "default_true")]
        gap_inclusive: bool,
        /// The longest window: a longer session is cut at the multiples of it since the epoch.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_length_ms: Option<i64>,
        /// Events before it are in no session.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min_start_ms: Option<i64>,
    },
}

const fn default_true() -> bool {
    true
}

/// When result rows leave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EmitSpec {
    /// One row a window, when it closes.
    #[default]
    Final,
    /// Changed rows before the close (at each commit, if nothing else is said), and the last at the close.
    Updates,
}

/// What a null group key means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NullKeysSpec {
    /// A group of its own.
    #[default]
    Group,
    /// The row counts as filtered.
    Drop,
    /// The row is a dead letter `KEY_NULL`.
    Reject,
}
