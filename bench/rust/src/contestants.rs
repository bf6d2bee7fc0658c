//! Who reads the records, each in the way its documentation recommends for a few known fields.
//!
//! Every contestant validates the whole record and gives a sum over the wanted values, so that none can
//! leave work out: the sums must be equal before anything is measured.

use crate::corpora::{Corpus, Kind, Shape};
use jiter::JsonValue;
use serde::Deserialize;
use simd_json::prelude::ValueAsScalar as _;
use std::borrow::Cow;
use std::fmt::Write as _;
use streamcore::batch::Scalar;
use streamcore::decode::Decoder;
use streamcore::pipeline::Pipeline;
use streamcore::raw::RawBatch;
use streamcore::spec::Spec;

/// What a missing value adds to the sum.
const MISSING: u64 = 7;

/// Records decoded in one go, as the engine cuts them.
const RANGE_ROWS: usize = 4096;

fn text(value: &[u8]) -> u64 {
    let edge = |byte: Option<&u8>| u64::from(byte.copied().unwrap_or(0));
    value.len() as u64 * 31 + edge(value.first()) * 7 + edge(value.last())
}

fn int(value: i64) -> u64 {
    value as u64
}

fn float(value: f64) -> u64 {
    value.to_bits() >> 8
}

/// The wanted values of a record, as serde fills them.
trait Wanted {
    fn sum(&self) -> u64;
}

#[derive(Deserialize)]
struct Click<'a> {
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    payload: Payload<'a>,
}

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    page_id: Cow<'a, str>,
}

impl Wanted for Click<'_> {
    fn sum(&self) -> u64 {
        text(self.timestamp.as_bytes()).wrapping_add(text(self.payload.page_id.as_bytes()))
    }
}

#[derive(Deserialize)]
struct Wide<'a> {
    #[serde(borrow)]
    f00: Cow<'a, str>,
    #[serde(borrow)]
    f04: Cow<'a, str>,
    f07: i64,
    f11: f64,
    #[serde(borrow)]
    f19: Cow<'a, str>,
}

impl Wanted for Wide<'_> {
    fn sum(&self) -> u64 {
        let texts = [&self.f00, &self.f04, &self.f19].map(|value| text(value.as_bytes()));
        texts.into_iter().fold(int(self.f07).wrapping_add(float(self.f11)), u64::wrapping_add)
    }
}

#[derive(Deserialize)]
struct GitHub<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    actor: Actor<'a>,
    repo: Repo,
    #[serde(borrow)]
    payload: Action<'a>,
    #[serde(borrow)]
    created_at: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Actor<'a> {
    #[serde(borrow)]
    login: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Repo {
    id: i64,
}

#[derive(Deserialize)]
struct Action<'a> {
    #[serde(borrow)]
    action: Cow<'a, str>,
}

impl Wanted for GitHub<'_> {
    fn sum(&self) -> u64 {
        let texts = [&self.kind, &self.actor.login, &self.payload.action, &self.created_at];
        texts.map(|value| text(value.as_bytes())).into_iter().fold(int(self.repo.id), u64::wrapping_add)
    }
}

#[derive(Deserialize)]
struct Note<'a> {
    id: i64,
    #[serde(borrow)]
    text: Cow<'a, str>,
}

impl Wanted for Note<'_> {
    fn sum(&self) -> u64 {
        int(self.id).wrapping_add(text(self.text.as_bytes()))
    }
}

/// `$read` of every record into the struct of its shape.
macro_rules! with_serde {
    ($corpus:expr, $read:expr) => {
        match $corpus.shape {
            Shape::Click => total($corpus, |record| {
                let wanted: Click<'_> = $read(record);
                wanted.sum()
            }),
            Shape::Wide => total($corpus, |record| {
                let wanted: Wide<'_> = $read(record);
                wanted.sum()
            }),
            Shape::GitHub => total($corpus, |record| {
                let wanted: GitHub<'_> = $read(record);
                wanted.sum()
            }),
            Shape::Note => total($corpus, |record| {
                let wanted: Note<'_> = $read(record);
                wanted.sum()
            }),
        }
    };
}

fn total(corpus: &Corpus, mut sum: impl FnMut(&[u8]) -> u64) -> u64 {
    corpus.records.iter().fold(0, |all, record| all.wrapping_add(sum(record)))
}

/// `serde_json` into a struct.
#[must_use]
pub fn serde_json(corpus: &Corpus) -> u64 {
    with_serde!(corpus, |record| serde_json::from_slice(record).expect("valid"))
}

/// `sonic-rs` into a struct.
#[must_use]
pub fn sonic_rs(corpus: &Corpus) -> u64 {
    with_serde!(corpus, |record| sonic_rs::from_slice(record).expect("valid"))
}

/// `simd-json` into its tape, with buffers used again; it needs a copy that it may change.
#[must_use]
pub fn simd_json(corpus: &Corpus) -> u64 {
    let (mut buffers, mut copy) = (simd_json::Buffers::default(), Vec::new());
    let fields = paths(corpus.shape);
    total(corpus, |record| {
        copy.clear();
        copy.extend_from_slice(record);
        let tape = simd_json::to_tape_with_buffers(&mut copy, &mut buffers).expect("valid");
        let value = tape.as_value();
        fields.iter().fold(0, |sum, (path, kind)| {
            let found = path.iter().try_fold(value, |value, name| value.get(*name));
            sum.wrapping_add(found.map_or(MISSING, |found| match kind {
                Kind::Text => text(found.as_str().expect("text").as_bytes()),
                Kind::Int => int(found.as_i64().expect("whole")),
                Kind::Float => float(found.as_f64().expect("number")),
            }))
        })
    })
}

/// `jiter`, the parser of pydantic, into its value.
#[must_use]
pub fn jiter(corpus: &Corpus) -> u64 {
    let fields = paths(corpus.shape);
    total(corpus, |record| {
        let value = JsonValue::parse(record, false).expect("valid");
        fields.iter().fold(0, |sum, (path, _)| {
            let found = path.iter().try_fold(&value, |value, name| match value {
                JsonValue::Object(members) => members.iter().find(|(key, _)| key == name).map(|(_, value)| value),
                _ => None,
            });
            sum.wrapping_add(match found {
                Some(JsonValue::Str(value)) => text(value.as_bytes()),
                Some(JsonValue::Int(value)) => int(*value),
                Some(JsonValue::Float(value)) => float(*value),
                _ => MISSING,
            })
        })
    })
}

fn paths(shape: Shape) -> Vec<(Vec<&'static str>, Kind)> {
    shape.fields().iter().map(|(path, kind)| (path.split('.').collect(), *kind)).collect()
}

/// streamcore: the records of a poll into columns.
pub struct Streamcore {
    decoder: Decoder,
    raw: RawBatch,
}

impl Streamcore {
    /// The decoder for what is wanted of `corpus`, and its records as a source hands them over.
    #[must_use]
    pub fn new(corpus: &Corpus) -> Self {
        let (mut schema, mut columns) = (String::new(), String::new());
        for (path, kind) in corpus.shape.fields() {
            let comma = if schema.is_empty() { "" } else { "," };
            let kind = match kind {
                Kind::Text => "string",
                Kind::Int => "int64",
                Kind::Float => "float64",
            };
            let name = path.replace('.', "_");
            let written = write!(schema, "{comma}\"{path}\":\"{kind}\"")
                .and_then(|()| write!(columns, "{comma}{{\"name\":\"{name}\",\"text\":\"{path}\"}}"));
            written.expect("memory");
        }
        let spec = format!(
            "{{\"source\":{{\"schema\":{{{schema}}},\"out_of_orderness_ms\":0}},\
             \"steps\":[{{\"verb\":\"select\",\"columns\":[{columns}]}}]}}"
        );
        let spec = Spec::from_json(spec.as_bytes()).expect("a description");
        let decoder = Decoder::new(Pipeline::new(&spec, 1).expect("a pipeline").plan().decode.clone());
        let mut raw = RawBatch::new(0, "bench".into(), corpus.records.len(), corpus.bytes());
        for (offset, record) in corpus.records.iter().enumerate() {
            raw.push(Some(record), offset as i64, Some(0)).expect("small");
        }
        raw.seal();
        Self { decoder, raw }
    }

    /// Decodes all records.
    #[must_use]
    pub fn read(&self) -> u64 {
        let (mut sum, mut start) = (0_u64, 0);
        while start < self.raw.len() {
            let end = (start + RANGE_ROWS).min(self.raw.len());
            let batch = self.decoder.decode(&self.raw, start..end);
            assert_eq!(batch.len(), end - start, "{:?}", batch.rejects.first());
            for column in &batch.columns {
                for row in 0..batch.len() {
                    sum = sum.wrapping_add(match column.get(row) {
                        Scalar::Bytes(value) => text(value),
                        Scalar::Int64(value) => int(value),
                        Scalar::Float64(value) => float(value),
                        _ => MISSING,
                    });
                }
            }
            start = end;
        }
        sum
    }
}
