//! Who reads the records, each in the way its documentation recommends for a few known fields.
//!
//! Every contestant validates the whole record and fills the same columns; the rivals fill them in buffers
//! that are used again, while streamcore makes new ones for each range, as it does in a pipeline.

use crate::columns::{empty, push_float, push_int, push_text};
use crate::corpora::{Kind, Shape};
use crate::wanted::{Click, GitHub, Note, Traced, Wanted, Wide};
use serde_json::json;
use simd_json::Tape;
use simd_json::prelude::ValueAsScalar as _;
use sonic_rs::JsonValueTrait;
use std::mem;
use std::ops::Range;
use streamcore::batch::{Batch, Column};
use streamcore::decode::Decoder;
use streamcore::pipeline::Pipeline;
use streamcore::raw::RawBatch;
use streamcore::spec::Spec;

/// One that reads records into columns.
pub trait Contestant {
    /// The wanted fields of the records `rows`; `None` where one of them is not valid.
    fn read(&mut self, raw: &RawBatch, rows: Range<usize>) -> Option<&[Column]>;
}

/// A parser of single records.
struct Rival<R> {
    columns: Vec<Column>,
    /// Appends the wanted fields of a record to the columns; `None` where it is not valid.
    read: R,
}

impl<R: FnMut(&[u8], &mut [Column]) -> Option<()>> Contestant for Rival<R> {
    fn read(&mut self, raw: &RawBatch, mut rows: Range<usize>) -> Option<&[Column]> {
        self.columns.iter_mut().for_each(|column| column.truncate(0));
        rows.try_for_each(|row| (self.read)(raw.value(row)?, &mut self.columns))?;
        Some(&self.columns)
    }
}

fn rival<R>(shape: Shape, read: R) -> Box<dyn Contestant>
where
    R: FnMut(&[u8], &mut [Column]) -> Option<()> + 'static,
{
    Box::new(Rival { columns: empty(shape), read })
}

/// A rival that reads a record into the struct of its shape.
macro_rules! into_struct {
    ($shape:expr, $record:ident => $read:expr) => {
        match $shape {
            Shape::Click => into_struct!(Click, $shape, $record => $read),
            Shape::Traced => into_struct!(Traced, $shape, $record => $read),
            Shape::Wide => into_struct!(Wide, $shape, $record => $read),
            Shape::GitHub => into_struct!(GitHub, $shape, $record => $read),
            Shape::Note => into_struct!(Note, $shape, $record => $read),
        }
    };
    ($wanted:ident, $shape:expr, $record:ident => $read:expr) => {
        rival($shape, move |$record, columns| {
            let wanted: $wanted<'_> = $read?;
            wanted.push(columns);
            Some(())
        })
    };
}

/// All of them by name, streamcore first: the name of the crate, and its way where there are several.
#[must_use]
pub fn all(shape: Shape) -> Vec<(&'static str, Box<dyn Contestant>)> {
    vec![
        ("streamcore", Box::new(Streamcore::new(shape))),
        ("simd-json", simd_json(shape)),
        ("sonic-rs struct", into_struct!(shape, record => sonic_rs::from_slice(record).ok())),
        ("sonic-rs get_many", sonic_rs_get_many(shape)),
        ("sonic-rs value", sonic_rs_value(shape)),
        ("jiter", into_struct!(shape, record => jiter::serde::from_str(utf8(record)?).ok())),
        ("serde_json", into_struct!(shape, record => serde_json::from_str(utf8(record)?).ok())),
    ]
}

/// For parsers that do not look at the UTF-8 of text they skip.
fn utf8(record: &[u8]) -> Option<&str> {
    simdutf8::basic::from_utf8(record).ok()
}

/// The wanted fields: the names that lead to each, and its kind.
fn paths(shape: Shape) -> Vec<(Vec<&'static str>, Kind)> {
    shape.fields().iter().map(|(path, kind)| (path.split('.').collect(), *kind)).collect()
}

/// `simd-json` into its tape, with tape and buffers used again; it needs a copy that it may change.
fn simd_json(shape: Shape) -> Box<dyn Contestant> {
    let (mut buffers, mut copy, mut idle) = (simd_json::Buffers::default(), Vec::new(), Tape(Vec::new()));
    let fields = paths(shape);
    rival(shape, move |record, columns| {
        copy.clear();
        copy.extend_from_slice(record);
        let mut tape = mem::replace(&mut idle, Tape(Vec::new())).reset();
        simd_json::fill_tape(&mut copy, &mut buffers, &mut tape).ok()?;
        for (column, (path, kind)) in columns.iter_mut().zip(&fields) {
            let found = path.iter().try_fold(tape.as_value(), |value, name| value.get(*name));
            match kind {
                Kind::Text => push_text(column, found.as_ref().and_then(|found| found.as_str())),
                Kind::Int => push_int(column, found.and_then(|found| found.as_i64())),
                Kind::Float => push_float(column, found.and_then(|found| found.as_f64())),
            };
        }
        idle = tape.reset();
        Some(())
    })
}

/// `sonic-rs` by its lazy values. It stops reading where all paths are found, so it also looks for one that no
/// record has.
fn sonic_rs_get_many(shape: Shape) -> Box<dyn Contestant> {
    let fields = paths(shape);
    let mut tree = sonic_rs::PointerTree::new();
    fields.iter().for_each(|(path, _)| tree.add_path(path));
    tree.add_path(["no record has it"]);
    rival(shape, move |record, columns| {
        let found = sonic_rs::get_many(record, &tree).ok()?;
        let mut wanted = columns.iter_mut().zip(&fields).zip(&found);
        wanted.try_for_each(|((column, (_, kind)), found)| push_found(column, *kind, found.as_ref()))
    })
}

/// `sonic-rs` into its value.
fn sonic_rs_value(shape: Shape) -> Box<dyn Contestant> {
    let fields = paths(shape);
    rival(shape, move |record, columns| {
        let value: sonic_rs::Value = sonic_rs::from_slice(record).ok()?;
        columns.iter_mut().zip(&fields).try_for_each(|(column, (path, kind))| {
            let found = path.iter().try_fold(&value, |value, name| value.get(*name));
            push_found(column, *kind, found)
        })
    })
}

/// Appends what `sonic-rs` found; `None` where a lazy value is not valid, which shows only when it is read.
fn push_found(column: &mut Column, kind: Kind, found: Option<&impl JsonValueTrait>) -> Option<()> {
    let is_read = match kind {
        Kind::Text => push_text(column, found.and_then(|found| found.as_str())),
        Kind::Int => push_int(column, found.and_then(JsonValueTrait::as_i64)),
        Kind::Float => push_float(column, found.and_then(JsonValueTrait::as_f64)),
    };
    (is_read || found.is_none_or(JsonValueTrait::is_null)).then_some(())
}

/// streamcore: the records of a poll into columns.
struct Streamcore {
    decoder: Decoder,
    batch: Batch,
}

impl Streamcore {
    /// The decoder of a pipeline that selects what is wanted of `shape`.
    fn new(shape: Shape) -> Self {
        let (mut schema, mut columns) = (serde_json::Map::new(), Vec::new());
        for (path, kind) in shape.fields() {
            let kind = match kind {
                Kind::Text => "string",
                Kind::Int => "int64",
                Kind::Float => "float64",
            };
            schema.insert((*path).to_owned(), kind.into());
            columns.push(json!({"name": path.replace('.', "_"), "text": path}));
        }
        let source = json!({"schema": schema, "out_of_orderness_ms": 0});
        let spec = json!({"source": source, "steps": [{"verb": "select", "columns": columns}]});
        let spec = Spec::from_json(spec.to_string().as_bytes()).expect("a description");
        let decoder = Decoder::new(Pipeline::new(&spec, 1).expect("a pipeline").plan().own().decode.clone());
        Self { decoder, batch: Batch::default() }
    }
}

impl Contestant for Streamcore {
    fn read(&mut self, raw: &RawBatch, rows: Range<usize>) -> Option<&[Column]> {
        self.batch = Batch::default(); // as in a pipeline, where one is gone before the next is made
        self.batch = self.decoder.decode(raw, rows.clone());
        (self.batch.len() == rows.len()).then_some(&*self.batch.columns)
    }
}
