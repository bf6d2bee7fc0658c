//! What is wanted of the records: a handful of plans, as pipelines make them.

use std::sync::LazyLock;
use streamcore::batch::DataType;
use streamcore::decode::{DecodePlan, FieldPlan};
use streamcore::group::GroupPlan;
use streamcore::group::key::KeyCodec;
use streamcore::raw::Part;
use streamcore::spec::{FormatSpec, TimeUnitSpec};

/// The deepest nesting, as `limits.depth_max` has it by default.
pub const DEPTH_MAX: u32 = 64;

/// The key of every record, where keys are looked at.
pub const KEY: &[u8] = b"u7";

/// The timestamp of every record, ms.
pub const TIMESTAMP_MS: i64 = 1_000;

/// A plan and its name.
#[derive(Debug)]
pub struct Wanted {
    /// The name.
    pub name: &'static str,
    /// The plan.
    pub plan: DecodePlan,
}

static ALL: LazyLock<Vec<Wanted>> = LazyLock::new(all);

fn all() -> Vec<Wanted> {
    use DataType::{Bool, Decimal, Float64, Int64, Scalar, String, Timestamp};
    let mut clicks = wanted(
        "clicks",
        &[("timestamp", String), ("payload.page_id", String), ("payload.user_id", String), ("payload.dwell_ms", Int64)],
    );
    clicks.plan.event_time = Some(field("timestamp", Timestamp));
    clicks.plan.group = Some(GroupPlan { columns: vec![1], key: KeyCodec::new(vec![String]) });
    let mut keyed = wanted("keyed", &[("text", String), ("int", Int64)]);
    keyed.plan.keyed_by = Some(field("text", String));
    keyed.plan.parts = vec![(Part::Key, String), (Part::Offset, Int64)];
    keyed.plan.record_bytes_max = 120;
    keyed.plan.group = Some(GroupPlan { columns: vec![1, 0], key: KeyCodec::new(vec![Int64, String]) });
    let events = [
        ("type", String),
        ("actor.login", String),
        ("repo.id", Int64),
        ("payload.action", String),
        ("created_at", String),
    ];
    let typed = [
        ("text", String),
        ("int", Int64),
        ("float", Float64),
        ("bool", Bool),
        ("decimal", Decimal { precision: 18, scale: 2 }),
        ("time", Timestamp),
        ("any", Scalar),
        ("sub.text", String),
        ("sub.sub.int", Int64),
    ];
    vec![clicks, keyed, wanted("events", &events), wanted("typed", &typed), wanted("nothing", &[])]
}

fn wanted(name: &'static str, fields: &[(&str, DataType)]) -> Wanted {
    let plan = DecodePlan {
        format: FormatSpec::Json,
        fields: fields.iter().map(|(path, data_type)| field(path, *data_type)).collect(),
        parts: vec![],
        event_time: None,
        event_time_unit: TimeUnitSpec::Iso,
        timeless: false,
        keyed_by: None,
        group: None,
        record_bytes_max: 1 << 20,
        depth_max: DEPTH_MAX,
    };
    Wanted { name, plan }
}

fn field(path: &str, data_type: DataType) -> FieldPlan {
    FieldPlan { path: path.to_owned(), segments: path.split('.').map(str::to_owned).collect(), data_type }
}

/// The plan of that name; of any other, one chosen by its letters.
#[must_use]
pub fn named(name: &[u8]) -> &'static Wanted {
    let sum: usize = name.iter().map(|byte| usize::from(*byte)).sum();
    ALL.iter().find(|wanted| wanted.name.as_bytes() == name).unwrap_or(&ALL[sum % ALL.len()])
}
