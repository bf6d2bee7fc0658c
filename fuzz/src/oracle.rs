//! What a record is by `serde_json`, and by what docs/decisions/0009-json.md has chosen beyond it.
//!
//! `serde_json` alone says what JSON is, what a text says and what a number is near to. The choices are
//! written here anew: duplicates, depth, the length of numbers, surrogates, and what a column can hold.

use crate::numbers::{decimal, is_exact};
use crate::plans::{DEPTH_MAX, KEY};
use crate::property::{Outcome, Owned};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use streamcore::batch::DataType;
use streamcore::decode::{DecodePlan, FieldPlan};
use streamcore::error::RejectKind;

/// Most characters of a number.
const NUMBER_BYTES_MAX: usize = 1024;

/// Reasons for which a record may be refused; when `must` holds, it has to be for one of them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Faults {
    kinds: Vec<RejectKind>,
    must: bool,
}

impl Faults {
    fn must(&mut self, kind: RejectKind) {
        self.kinds.push(kind);
        self.must = true;
    }
}

/// Whether the outcome of `record` is right; if not, what is expected.
pub fn agrees(plan: &DecodePlan, record: &[u8], outcome: &Outcome) -> Result<(), String> {
    let mut faults = Faults::default();
    let values = judge(plan, record, &mut faults);
    match outcome {
        Outcome::Row(_, found) if !faults.must => {
            let differing =
                found.iter().zip(&values).position(|(found, value)| value.as_ref().is_some_and(|value| found != value));
            differing.map_or(Ok(()), |at| Err(format!("column {at} is {:?}", values[at])))
        }
        Outcome::Refused(reject) if faults.kinds.contains(&reject.kind) => Ok(()),
        _ => Err(format!("expected {faults:?}")),
    }
}

/// The values of a good record's columns, `None` for one that is not foretold.
fn judge(plan: &DecodePlan, record: &[u8], faults: &mut Faults) -> Vec<Option<Owned>> {
    if record.len() as u64 > plan.record_bytes_max {
        faults.must(RejectKind::SizeLimit);
        return vec![];
    }
    let Ok(text) = str::from_utf8(record) else {
        faults.must(RejectKind::DecodeUtf8);
        return vec![];
    };
    if serde_json::from_str::<IgnoredAny>(text).is_err() {
        no_json(plan, text, faults);
        return vec![];
    }
    let raw: &RawValue = serde_json::from_str(text).expect("JSON");
    let mut walk = Walk { wanted: wanted(plan), found: vec![], faults };
    walk.value(raw.get(), 0, Some(&[]));
    if !raw.get().starts_with('{') {
        walk.faults.must(RejectKind::TypeMismatch);
    }
    let found = walk.found;
    if faults.must {
        return vec![];
    }
    let located = |field: &FieldPlan| {
        let value = found.iter().find(|(path, _)| *path == field.segments).map(|(_, raw)| *raw);
        value.filter(|raw| *raw != "null")
    };
    let mut values = Vec::new();
    for field in &plan.fields {
        values.push(located(field).map_or(Some(Owned::Null), |raw| convert(raw, field.data_type, faults)));
        if faults.must {
            return values;
        }
    }
    if let Some(field) = &plan.keyed_by
        && located(field).map(plain).as_deref() != Some(KEY)
    {
        faults.must(RejectKind::KeyMismatch);
    } else if let Some(field) = &plan.event_time {
        match located(field) {
            None => faults.must(RejectKind::MissingField),
            Some(raw) if raw.starts_with('"') => faults.kinds.push(RejectKind::BadTimestamp),
            Some(_) => faults.must(RejectKind::BadTimestamp),
        }
    }
    values
}

/// Of several faults the first one in the record is named, which need not be that of `serde_json`.
fn no_json(plan: &DecodePlan, text: &str, faults: &mut Faults) {
    faults.must(RejectKind::DecodeSyntax);
    let brackets = text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count();
    let possible = [
        (RejectKind::DecodeUtf8, text.contains("\\u")),
        (RejectKind::DepthLimit, brackets > DEPTH_MAX as usize),
        (RejectKind::NumberRange, text.len() > NUMBER_BYTES_MAX),
        (RejectKind::DupField, !plan.fields.is_empty()),
        (RejectKind::TypeMismatch, plan.fields.iter().any(|field| field.segments.len() > 1)),
    ];
    faults.kinds.extend(possible.into_iter().filter(|(_, possible)| *possible).map(|(kind, _)| kind));
}

fn wanted(plan: &DecodePlan) -> Vec<Vec<String>> {
    let fields = plan.fields.iter().chain(&plan.event_time).chain(&plan.keyed_by);
    fields.map(|field| field.segments.clone()).collect()
}

struct Walk<'a, 'f> {
    wanted: Vec<Vec<String>>,
    /// The path and text of each wanted field.
    found: Vec<(Vec<String>, &'a str)>,
    faults: &'f mut Faults,
}

impl<'a> Walk<'a, '_> {
    /// Looks through a value inside `depth` others; `path` is its own where wanted fields may be within.
    fn value(&mut self, raw: &'a str, depth: u32, path: Option<&[String]>) {
        let path = path.filter(|path| self.wanted.iter().any(|wanted| wanted.starts_with(path)));
        let is_field = path.is_some_and(|path| self.wanted.iter().any(|wanted| wanted == path));
        if let Some(path) = path {
            if is_field {
                self.found.push((path.to_vec(), raw));
            } else if !raw.starts_with('{') && raw != "null" {
                self.faults.must(RejectKind::TypeMismatch);
            }
        }
        match raw.as_bytes()[0] {
            b'{' | b'[' if depth == DEPTH_MAX => self.faults.must(RejectKind::DepthLimit),
            b'{' => self.members(raw, depth + 1, path.filter(|_| !is_field)),
            b'[' => {
                let items: Vec<&RawValue> = serde_json::from_str(raw).expect("an array");
                items.into_iter().for_each(|item| self.value(item.get(), depth + 1, None));
            }
            b'"' if serde_json::from_str::<String>(raw).is_err() => self.faults.must(RejectKind::DecodeUtf8),
            b'-' | b'0'..=b'9' if raw.len() > NUMBER_BYTES_MAX => self.faults.must(RejectKind::NumberRange),
            _ => {}
        }
    }

    fn members(&mut self, raw: &'a str, depth: u32, path: Option<&[String]>) {
        let members: Members<'a> = serde_json::from_str(raw).expect("an object");
        let mut entered: Vec<Vec<String>> = Vec::new();
        for (key, value) in members.0 {
            let Ok(name) = serde_json::from_str::<String>(key.get()) else {
                self.faults.must(RejectKind::DecodeUtf8);
                continue;
            };
            let within = path.map(|path| [path, &[name]].concat());
            if let Some(within) = &within
                && self.wanted.iter().any(|wanted| wanted.starts_with(within))
            {
                if entered.contains(within) {
                    self.faults.must(RejectKind::DupField);
                }
                entered.push(within.clone());
            }
            self.value(value.get(), depth, within.as_deref());
        }
    }
}

/// The members of an object as they are written, repeated ones too.
struct Members<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

/// A value as a column has it; otherwise why it cannot.
fn convert(raw: &str, data_type: DataType, faults: &mut Faults) -> Option<Owned> {
    let text = raw.starts_with('"').then(|| serde_json::from_str::<String>(raw).expect("text"));
    let number = raw.starts_with(['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
    let value = match (data_type, text) {
        (DataType::String, Some(text)) => Ok(Owned::Bytes(text.into_bytes())),
        (DataType::Int64, _) if number => raw.parse().map(Owned::Int).map_err(|_| RejectKind::NumberRange),
        (DataType::Float64, _) if number => float(raw).ok_or(RejectKind::NumberRange),
        (DataType::Bool, _) if raw == "true" || raw == "false" => Ok(Owned::Bool(raw == "true")),
        (DataType::Decimal { precision, scale }, Some(text)) => {
            decimal(&text, precision, scale).map(Owned::Decimal).ok_or(RejectKind::NumberRange)
        }
        (DataType::Decimal { precision, scale }, None) if number => {
            decimal(raw, precision, scale).map(Owned::Decimal).ok_or(RejectKind::NumberRange)
        }
        // Which texts are times is no question of JSON.
        (DataType::Timestamp, Some(_)) => {
            faults.kinds.push(RejectKind::BadTimestamp);
            return None;
        }
        (DataType::Scalar, Some(text)) => Ok(Owned::Bytes([b"s", text.as_bytes()].concat())),
        (DataType::Scalar, None) if !raw.starts_with(['{', '[']) => Ok(Owned::Bytes([b"j", raw.as_bytes()].concat())),
        _ => Err(RejectKind::TypeMismatch),
    };
    value.map_err(|kind| faults.must(kind)).ok()
}

fn float(raw: &str) -> Option<Owned> {
    let value: f64 = serde_json::from_str(raw).ok()?;
    let whole = !raw.contains(['.', 'e', 'E']);
    (!whole || is_exact(raw, value)).then_some(Owned::Float(value.to_bits()))
}

/// The bytes that are compared with the record's key.
fn plain(raw: &str) -> Vec<u8> {
    serde_json::from_str::<String>(raw).unwrap_or_else(|_| raw.to_owned()).into_bytes()
}
