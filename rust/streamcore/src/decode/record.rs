//! One record at a time: everything that can be wrong with it, and its row of the columns.
//!
//! `block.rs` does the same for many good records at once and leaves to this file those that layouts do
//! not know, and those of which one does not fit its columns. Invariant: a refused record leaves the columns as they were.

use super::convert::push_value;
use super::json::Located;
use super::json::scan::{Kind, Value};
use super::json::text::unescape;
use super::{Decoder, Search, time, truncate};
use crate::batch::{Batch, DataType, Scalar};
use crate::error::{Reject, RejectKind};
use crate::raw::{Fault, Part, RawBatch};
use crate::spec::{FormatSpec, TimeUnitSpec};

impl Decoder {
    /// Decodes record `row` with the full parser: a row of the columns, a refusal or a tombstone.
    pub(super) fn decode_row(&self, raw: &RawBatch, row: usize, search: &mut Search, batch: &mut Batch) {
        let Some(value) = raw.value(row) else {
            batch.tombstones.push(row as u32);
            return;
        };
        let found = &mut search.found;
        found.clear();
        found.resize(self.projection.len(), None);
        let located = self.check_size(raw, row, value.len()).and_then(|()| self.locate(row, value, false, found));
        match located {
            Ok(()) => self.fill_row(raw, row, value, found, &mut search.minute, batch),
            Err(reject) => batch.rejects.push(reject),
        }
    }

    /// Appends the row of a record whose fields were `found`, or its refusal.
    pub(super) fn fill_row(
        &self,
        raw: &RawBatch,
        row: usize,
        value: &[u8],
        found: &[Located],
        minute: &mut time::LastMinute,
        batch: &mut Batch,
    ) {
        let len = batch.len();
        match self.accept(raw, row, value, found, minute, batch) {
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
    fn accept(
        &self,
        raw: &RawBatch,
        row: usize,
        value: &[u8],
        found: &[Located],
        minute: &mut time::LastMinute,
        batch: &mut Batch,
    ) -> Result<i64, Reject> {
        for (column, (field, place)) in batch.columns.iter_mut().zip(self.plan.fields.iter().zip(&self.places)) {
            push_value(column, value, found[*place], &field.path).map_err(|misfit| {
                let at = found[*place].map_or(0, |value| value.start as usize);
                Reject::new(row as u32, misfit.kind, at, misfit.detail)
            })?;
        }
        self.check_key(raw, row, value, found)?;
        self.push_parts(raw, row, batch)?;
        self.event_time(raw, row, value, found, minute)
    }

    /// Refuses a record whose value, of which `len` bytes are here, is too long or not all there.
    #[inline]
    pub(super) fn check_size(&self, raw: &RawBatch, row: usize, len: usize) -> Result<(), Reject> {
        let fits = len as u64 <= self.plan.record_bytes_max && raw.fault(row).is_none();
        if fits { Ok(()) } else { Err(self.bad_size(raw, row, len)) }
    }

    #[inline(never)]
    fn bad_size(&self, raw: &RawBatch, row: usize, len: usize) -> Reject {
        let limit = self.plan.record_bytes_max;
        let (kind, at, detail) = match raw.fault(row) {
            None => (RejectKind::SizeLimit, 0, too_long(len as u64, limit)),
            Some(Fault::TooLong(len)) => (RejectKind::SizeLimit, 0, too_long(len, limit)),
            Some(Fault::Incomplete(whole)) => {
                let detail = whole.map_or_else(
                    || "the file ends within the length of this record".to_owned(),
                    |whole| format!("the file ends within this record: {len} of its {whole} bytes are there"),
                );
                (RejectKind::DecodeSyntax, len, detail)
            }
        };
        Reject::new(row as u32, kind, at, detail)
    }

    /// Validates a record with the full parser and locates the wanted fields; `found` has room for them
    /// and holds nothing. `valid_utf8`: it lies within bytes that are valid as a whole.
    pub(super) fn locate(
        &self,
        row: usize,
        value: &[u8],
        valid_utf8: bool,
        found: &mut [Located],
    ) -> Result<(), Reject> {
        if self.plan.format != FormatSpec::Json {
            return Ok(());
        }
        let refuse = |kind, at, detail: &str| Reject::new(row as u32, kind, at, detail);
        let bad_utf8 = || {
            let fault = simdutf8::compat::from_utf8(value).err()?;
            Some(refuse(RejectKind::DecodeUtf8, fault.valid_up_to(), "the value is not valid UTF-8"))
        };
        if !valid_utf8 && let Some(reject) = bad_utf8() {
            return Err(reject);
        }
        // Two records may be valid only end to end, a character being cut between them.
        self.projection
            .locate(value, found)
            .map_err(|fault| bad_utf8().unwrap_or_else(|| refuse(fault.kind, fault.at, fault.message)))
    }

    /// Refuses a record whose key is not what `keyed_by` says.
    pub(super) fn check_key(&self, raw: &RawBatch, row: usize, value: &[u8], found: &[Located]) -> Result<(), Reject> {
        let (Some(place), Some(field)) = (self.keyed_by_place, &self.plan.keyed_by) else { return Ok(()) };
        let mut unescaped = Vec::new();
        let declared = found[place].filter(|value| value.kind != Kind::Null).map(|located| {
            let text = &value[located.start as usize..located.end as usize];
            if located.kind == Kind::EscapedText {
                unescape(text, &mut unescaped);
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

    /// Appends the parts of record `row` that are columns.
    pub(super) fn push_parts(&self, raw: &RawBatch, row: usize, batch: &mut Batch) -> Result<(), Reject> {
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

    /// The event time of a record whose fields were `found`, ms; or why it has none.
    fn event_time(
        &self,
        raw: &RawBatch,
        row: usize,
        record: &[u8],
        found: &[Located],
        minute: &mut time::LastMinute,
    ) -> Result<i64, Reject> {
        self.known_event_time(raw, row, record, found, minute).ok_or_else(|| self.no_event_time(row, record, found))
    }

    /// The event time of a record whose fields were `found`, ms.
    #[inline]
    pub(super) fn known_event_time(
        &self,
        raw: &RawBatch,
        row: usize,
        record: &[u8],
        found: &[Located],
        minute: &mut time::LastMinute,
    ) -> Option<i64> {
        match self.event_time_place {
            None => raw.timestamp_ms(row).filter(|time| in_years(*time)).or(self.plan.timeless.then_some(0)),
            Some(place) => parse_event_time(record, found[place]?, self.plan.event_time_unit, minute),
        }
    }

    /// Why a record whose fields were `found` has no event time.
    fn no_event_time(&self, row: usize, record: &[u8], found: &[Located]) -> Reject {
        let refuse = |kind, at: u32, detail: String| Reject::new(row as u32, kind, at as usize, detail);
        let (Some(place), Some(field)) = (self.event_time_place, &self.plan.event_time) else {
            return refuse(RejectKind::BadTimestamp, 0, "the record has no timestamp".to_owned());
        };
        let path = &field.path;
        let Some(value) = found[place].filter(|value| value.kind != Kind::Null) else {
            return refuse(RejectKind::MissingField, 0, format!("{path}, the event time, is absent or null"));
        };
        let wanted = if self.plan.event_time_unit == TimeUnitSpec::Iso {
            "ISO-8601 text with a zone; for a number set event_time_unit"
        } else {
            "a number of the declared event_time_unit or ISO-8601 text with a zone, in the years 1 to 9999"
        };
        let wrong = match value.kind {
            Kind::Text => time::what_is_wrong(&record[value.start as usize..value.end as usize]),
            Kind::Integer | Kind::Fraction if self.plan.event_time_unit != TimeUnitSpec::Iso => {
                Some("counted in that unit it is in no such year")
            }
            _ => None,
        };
        let detail = wrong.map_or_else(String::new, |wrong| format!(": {wrong}"));
        refuse(RejectKind::BadTimestamp, value.start, format!("{path} is not {wanted}{detail}"))
    }
}

fn too_long(len: u64, limit: u64) -> String {
    format!("the value has {len} bytes; limits.max_record_bytes is {limit}")
}

fn in_years(time_ms: i64) -> bool {
    (time::TIME_MIN_MS..=time::TIME_MAX_MS).contains(&time_ms)
}

#[inline]
fn parse_event_time(record: &[u8], value: Value, unit: TimeUnitSpec, minute: &mut time::LastMinute) -> Option<i64> {
    let text = &record[value.start as usize..value.end as usize];
    match value.kind {
        Kind::Text => minute.parse_iso(text),
        Kind::EscapedText => {
            let mut unescaped = Vec::with_capacity(text.len());
            unescape(text, &mut unescaped);
            minute.parse_iso(&unescaped)
        }
        Kind::Integer | Kind::Fraction => time::parse_number(std::str::from_utf8(text).ok()?, unit),
        _ => None,
    }
}
