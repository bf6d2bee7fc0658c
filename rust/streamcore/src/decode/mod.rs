//! Records to columns: validates every record whole, extracts the fields the plan needs, reads the
//! event time. A bad record becomes a [`Reject`] and never harms its neighbours.
//!
//! Comes after `raw`, before `lane`. Decoding is stateless, so one batch may be cut into ranges
//! decoded side by side. Invariant: every row of the range is in exactly one of
//! `Batch::{raw_rows, rejects, tombstones}`.

pub mod convert;
pub mod json;
pub mod time;

use crate::batch::{Batch, Column, DataType, Scalar};
use crate::error::{Reject, RejectKind};
use crate::raw::{Part, RawBatch};
use crate::spec::{FormatSpec, TimeUnitSpec};
use convert::push_value;
use json::layout::Layouts;
use json::scan::{Kind, Value};
use json::{Located, Projection};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A field to extract: where it is and the type of its column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPlan {
    /// As written: `payload.page_id`.
    pub path: String,
    /// Its segments.
    pub segments: Vec<String>,
    /// Type of the column.
    pub data_type: DataType,
}

/// What the engine needs of every record.
#[derive(Debug, Clone)]
pub struct DecodePlan {
    /// How values are read.
    pub format: FormatSpec,
    /// Fields, the first columns of a batch.
    pub fields: Vec<FieldPlan>,
    /// Record parts, the columns after them.
    pub parts: Vec<(Part, DataType)>,
    /// Field of the event time; `None`: the record's timestamp.
    pub event_time: Option<FieldPlan>,
    /// How a number there counts.
    pub event_time_unit: TimeUnitSpec,
    /// Field that the record key must equal.
    pub keyed_by: Option<FieldPlan>,
    /// Largest value, bytes.
    pub record_bytes_max: u64,
    /// Deepest nesting.
    pub depth_max: u32,
}

/// What looking for the wanted fields of a range of records needs.
struct Search {
    /// Where they are in the record at hand.
    found: Vec<Located>,
    /// Layouts of the records before it.
    layouts: Layouts,
}

/// Decodes by a plan. Holds no state: the same bytes always give the same columns.
#[derive(Debug)]
pub struct Decoder {
    plan: DecodePlan,
    projection: Projection,
    /// Place of each field of the plan among the projection's paths.
    places: Vec<usize>,
    event_time_place: Option<usize>,
    keyed_by_place: Option<usize>,
}

impl Decoder {
    /// A decoder for `plan`.
    #[must_use]
    pub fn new(plan: DecodePlan) -> Self {
        let mut paths: Vec<Vec<String>> = Vec::new();
        let mut place = |field: &FieldPlan| {
            paths.iter().position(|path| *path == field.segments).unwrap_or_else(|| {
                paths.push(field.segments.clone());
                paths.len() - 1
            })
        };
        let places = plan.fields.iter().map(&mut place).collect();
        let event_time_place = plan.event_time.as_ref().map(&mut place);
        let keyed_by_place = plan.keyed_by.as_ref().map(&mut place);
        let projection = Projection::new(&paths, plan.depth_max);
        Self { plan, projection, places, event_time_place, keyed_by_place }
    }

    /// Decodes the records `rows` of `raw`.
    #[must_use]
    pub fn decode(&self, raw: &RawBatch, rows: Range<usize>) -> Batch {
        let attempt = catch_unwind(AssertUnwindSafe(|| self.decode_range(raw, rows.clone())));
        attempt.unwrap_or_else(|_| self.decode_singly_slow(raw, rows))
    }

    fn decode_range(&self, raw: &RawBatch, rows: Range<usize>) -> Batch {
        let mut batch = self.empty_batch();
        let mut search = self.search();
        let valid_utf8 =
            self.plan.format != FormatSpec::Json || simdutf8::basic::from_utf8(raw.bytes_of(rows.clone())).is_ok();
        for row in rows {
            self.decode_row(raw, row, valid_utf8, &mut search, &mut batch);
        }
        batch
    }

    fn search(&self) -> Search {
        Search { found: vec![None; self.projection.len()], layouts: Layouts::default() }
    }

    /// After a panic: each record by itself, so that only the one that causes it is refused.
    fn decode_singly_slow(&self, raw: &RawBatch, rows: Range<usize>) -> Batch {
        let mut batch = self.empty_batch();
        for row in rows {
            let mut search = self.search();
            let len = batch.len();
            let attempt = catch_unwind(AssertUnwindSafe(|| {
                self.decode_row(raw, row, false, &mut search, &mut batch);
            }));
            if attempt.is_err() {
                truncate(&mut batch, len);
                batch.rejects.retain(|reject| reject.row != row as u32);
                let detail = "decoding this record panicked; please report it with the record";
                batch.rejects.push(Reject::new(row as u32, RejectKind::InternalPanic, 0, detail));
            }
        }
        batch
    }

    fn empty_batch(&self) -> Batch {
        let types = self.plan.fields.iter().map(|field| field.data_type);
        let parts = self.plan.parts.iter().map(|(_, data_type)| *data_type);
        Batch { columns: types.chain(parts).map(Column::new).collect(), ..Batch::default() }
    }

    #[inline]
    fn decode_row(&self, raw: &RawBatch, row: usize, valid_utf8: bool, search: &mut Search, batch: &mut Batch) {
        let Some(value) = raw.value(row) else {
            batch.tombstones.push(row as u32);
            return;
        };
        let len = batch.len();
        match self.accept(raw, row, value, valid_utf8, search, batch) {
            Ok(event_time_ms) => {
                batch.raw_rows.push(row as u32);
                batch.event_times_ms.push(event_time_ms);
            }
            Err(reject) => {
                truncate(batch, len);
                batch.rejects.push(reject);
            }
        }
    }

    /// Fills the columns for one record and gives its event time. On an error columns may be half
    /// filled; the caller cuts them back.
    #[inline]
    fn accept(
        &self,
        raw: &RawBatch,
        row: usize,
        value: &[u8],
        valid_utf8: bool,
        search: &mut Search,
        batch: &mut Batch,
    ) -> Result<i64, Reject> {
        let refuse = |kind, at, detail: String| Reject::new(row as u32, kind, at, detail);
        if value.len() as u64 > self.plan.record_bytes_max {
            let limit = self.plan.record_bytes_max;
            let detail = format!("the value has {} bytes; limits.max_record_bytes is {limit}", value.len());
            return Err(refuse(RejectKind::SizeLimit, 0, detail));
        }
        if self.plan.format == FormatSpec::Json {
            self.locate(row, value, valid_utf8, search)?;
            let found = &search.found;
            for (column, (field, place)) in batch.columns.iter_mut().zip(self.plan.fields.iter().zip(&self.places)) {
                push_value(column, value, found[*place], &field.path).map_err(|misfit| {
                    refuse(misfit.kind, found[*place].map_or(0, |value| value.start as usize), misfit.detail)
                })?;
            }
            self.check_key(raw, row, value, &search.found)?;
        }
        self.push_parts(raw, row, batch)?;
        self.event_time(raw, row, value, &search.found)
    }

    #[inline]
    fn locate(&self, row: usize, value: &[u8], valid_utf8: bool, search: &mut Search) -> Result<(), Reject> {
        let refuse = |kind, at, detail: &str| Reject::new(row as u32, kind, at, detail);
        if !valid_utf8 && let Err(error) = simdutf8::compat::from_utf8(value) {
            return Err(refuse(RejectKind::DecodeUtf8, error.valid_up_to(), "the value is not valid UTF-8"));
        }
        let Search { found, layouts } = search;
        found.fill(None);
        if layouts.locate(value, found) {
            return Ok(());
        }
        found.fill(None);
        self.projection.locate(value, found).map_err(|fault| refuse(fault.kind, fault.at, fault.message))?;
        layouts.learn(value, found);
        Ok(())
    }

    fn check_key(&self, raw: &RawBatch, row: usize, value: &[u8], found: &[Located]) -> Result<(), Reject> {
        let (Some(place), Some(field)) = (self.keyed_by_place, &self.plan.keyed_by) else { return Ok(()) };
        let mut unescaped = Vec::new();
        let declared = found[place].filter(|value| value.kind != Kind::Null).map(|located| {
            let text = &value[located.start as usize..located.end as usize];
            if located.kind == Kind::EscapedText {
                json::text::unescape(text, &mut unescaped);
                return &unescaped[..];
            }
            text
        });
        if declared == raw.key(row) {
            return Ok(());
        }
        let detail = format!("the record key is not {}, which keyed_by names", field.path);
        Err(Reject::new(row as u32, RejectKind::KeyMismatch, 0, detail))
    }

    fn push_parts(&self, raw: &RawBatch, row: usize, batch: &mut Batch) -> Result<(), Reject> {
        let columns = batch.columns[self.plan.fields.len()..].iter_mut();
        for (column, (part, data_type)) in columns.zip(&self.plan.parts) {
            let value = match part {
                Part::Key => raw.key(row).map(Scalar::Bytes),
                Part::Value => raw.value(row).map(Scalar::Bytes),
                Part::Topic => Some(Scalar::Bytes(raw.topic.as_bytes())),
                Part::Partition => Some(Scalar::Int64(i64::from(raw.lane))),
                Part::Offset => Some(Scalar::Int64(raw.offset(row))),
                Part::Timestamp => raw.timestamp_ms(row).map(Scalar::Int64),
                Part::Header(name) => {
                    let header = raw.headers(row).iter().rev().find(|(known, _)| known == name);
                    header.and_then(|(_, value)| value.as_deref()).map(Scalar::Bytes)
                }
            };
            if let (Some(Scalar::Bytes(bytes)), DataType::String) = (value, data_type)
                && simdutf8::basic::from_utf8(bytes).is_err()
            {
                let detail = "a record part used as text is not valid UTF-8; declare it as binary in [source.schema]";
                return Err(Reject::new(row as u32, RejectKind::TypeMismatch, 0, detail));
            }
            column.push(value.unwrap_or(Scalar::Null));
        }
        Ok(())
    }

    #[inline]
    fn event_time(&self, raw: &RawBatch, row: usize, record: &[u8], found: &[Located]) -> Result<i64, Reject> {
        let refuse = |kind, at: u32, detail: String| Reject::new(row as u32, kind, at as usize, detail);
        let (Some(place), Some(field)) = (self.event_time_place, &self.plan.event_time) else {
            let missing = || refuse(RejectKind::BadTimestamp, 0, "the record has no timestamp".to_owned());
            return raw.timestamp_ms(row).filter(|time| in_years(*time)).ok_or_else(missing);
        };
        let path = &field.path;
        let Some(value) = found[place].filter(|value| value.kind != Kind::Null) else {
            return Err(refuse(RejectKind::MissingField, 0, format!("{path}, the event time, is absent or null")));
        };
        let unit = self.plan.event_time_unit;
        parse_event_time(record, value, unit).ok_or_else(|| {
            let wanted = if unit == TimeUnitSpec::Iso {
                "ISO-8601 text with a zone; for a number set event_time_unit"
            } else {
                "a number of the declared event_time_unit or ISO-8601 text with a zone, in the years 1 to 9999"
            };
            refuse(RejectKind::BadTimestamp, value.start, format!("{path} is not {wanted}"))
        })
    }
}

fn in_years(time_ms: i64) -> bool {
    (time::TIME_MIN_MS..=time::TIME_MAX_MS).contains(&time_ms)
}

#[inline]
fn parse_event_time(record: &[u8], value: Value, unit: TimeUnitSpec) -> Option<i64> {
    let text = &record[value.start as usize..value.end as usize];
    match value.kind {
        Kind::Text => time::parse_iso(text),
        Kind::Integer | Kind::Fraction => time::parse_number(std::str::from_utf8(text).ok()?, unit),
        _ => None,
    }
}

fn truncate(batch: &mut Batch, len: usize) {
    batch.raw_rows.truncate(len);
    batch.event_times_ms.truncate(len);
    for column in &mut batch.columns {
        column.truncate(len);
    }
}
