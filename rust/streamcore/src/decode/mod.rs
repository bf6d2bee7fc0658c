//! Records to columns: validates every record whole, extracts the fields the plan needs, reads the
//! event time. A bad record becomes a [`Reject`] and never harms its neighbours.
//!
//! Comes after `raw`, before `lane`. Decoding is stateless, so one batch may be cut into ranges
//! decoded side by side. Invariant: every row of the range is in exactly one of
//! `Batch::{raw_rows, rejects, tombstones}`.

mod block;
pub mod convert;
pub mod json;
mod record;
pub mod time;

use crate::batch::{Batch, Column, DataType};
use crate::error::{Reject, RejectKind};
use crate::group::{GroupPlan, Interner};
use crate::raw::{PADDING, Part, RawBatch};
use crate::spec::{FormatSpec, TimeUnitSpec};
use json::kernel::Kernel;
use json::layouts::Layouts;
use json::marks::{Marks, Record};
use json::{Located, Projection};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Bytes marked at once: few enough to be near still when they are decoded.
const BLOCK_BYTES: usize = 16 << 10;

/// Length of texts for which room is made where none was seen yet.
const TEXT_BYTES: usize = 12;

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
    /// Rows need no time: where the record has no timestamp they count as of 1970.
    pub timeless: bool,
    /// Field that the record key must equal.
    pub keyed_by: Option<FieldPlan>,
    /// What the rows are grouped by, where that is known of all of them.
    pub group: Option<GroupPlan>,
    /// Largest value, bytes.
    pub record_bytes_max: u64,
    /// Deepest nesting.
    pub depth_max: u32,
}

/// What looking for the wanted fields of records needs, and what was learned from earlier ones.
#[derive(Debug)]
struct Search {
    /// Where they are: of one record, or of those of a block one after the other.
    found: Vec<Located>,
    /// The records of a block that are good so far.
    records: Vec<Record>,
    /// The quotes and the like of a block.
    marks: Marks,
    /// Layouts of the records before it.
    layouts: Layouts,
    /// The minute of the event time before.
    minute: time::LastMinute,
    /// Mean length of the texts of each column in the range before.
    text_bytes: Vec<usize>,
    /// Group keys.
    interner: Interner,
}

/// Decodes by a plan. What it keeps only saves time: the same bytes always give the same columns.
#[derive(Debug)]
pub struct Decoder {
    plan: DecodePlan,
    projection: Projection,
    /// Place of each field of the plan among the projection's paths.
    places: Vec<usize>,
    event_time_place: Option<usize>,
    keyed_by_place: Option<usize>,
    kernel: Kernel,
    /// Searches that no range uses at the moment, at most one for each range ever decoded at once.
    idle: Mutex<Vec<Search>>,
    /// How often a search met more layouts than it keeps and forgot them all.
    layouts_forgotten: AtomicU64,
    /// Batches whose group keys were not interned.
    batches_not_interned: AtomicU64,
}

impl Decoder {
    /// A decoder for `plan`, with the widest kernel of this CPU.
    #[must_use]
    pub fn new(plan: DecodePlan) -> Self {
        Self::with_kernel(plan, Kernel::chosen())
    }

    /// A decoder for `plan` with a given kernel, for comparing them.
    #[must_use]
    pub fn with_kernel(plan: DecodePlan, kernel: Kernel) -> Self {
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
        let (idle, layouts_forgotten, batches_not_interned) = Default::default();
        Self {
            plan,
            projection,
            places,
            event_time_place,
            keyed_by_place,
            kernel,
            idle,
            layouts_forgotten,
            batches_not_interned,
        }
    }

    /// Decodes the records `rows` of `raw`.
    #[must_use]
    pub fn decode(&self, raw: &RawBatch, rows: Range<usize>) -> Batch {
        let attempt = catch_unwind(AssertUnwindSafe(|| self.decode_range(raw, rows.clone())));
        attempt.unwrap_or_else(|_| self.decode_singly_slow(raw, rows))
    }

    fn decode_range(&self, raw: &RawBatch, rows: Range<usize>) -> Batch {
        let mut search = self.search();
        let (forgotten, rested) = (search.layouts.forgotten(), search.interner.rested());
        let mut batch = self.empty_batch();
        reserve(&mut batch, raw, rows.clone(), &search);
        let mut next = rows.start;
        while next < rows.end {
            let block = raw.rows_within(next..rows.end, BLOCK_BYTES);
            next = block.end;
            match raw.padded_bytes(block.clone()) {
                Some((bytes, start)) if self.plan.format == FormatSpec::Json => {
                    self.decode_block(raw, block, (bytes, start), &mut search, &mut batch);
                }
                _ => block.for_each(|row| self.decode_row(raw, row, &mut search, &mut batch)),
            }
        }
        for (bytes, column) in search.text_bytes.iter_mut().zip(&batch.columns) {
            *bytes = column.text_bytes().div_ceil(batch.len().max(1));
        }
        // A block refuses first what is too long, then what is no JSON; what leaves is in the order of the records.
        batch.rejects.sort_by_key(|reject| reject.row);
        self.layouts_forgotten.fetch_add(search.layouts.forgotten() - forgotten, Ordering::Relaxed);
        batch.groups = self.plan.group.as_ref().map(|group| {
            let columns: Vec<&Column> = group.columns.iter().map(|place| &batch.columns[*place]).collect();
            search.interner.groups(&columns, &group.key, 0..batch.len())
        });
        self.batches_not_interned.fetch_add(search.interner.rested() - rested, Ordering::Relaxed);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(search);
        batch
    }

    /// How often records had more layouts than are kept, so that all were forgotten and learned anew. It costs
    /// time and changes no answer; how often depends on how records are spread over threads.
    #[must_use]
    pub fn layouts_forgotten(&self) -> u64 {
        self.layouts_forgotten.load(Ordering::Relaxed)
    }

    /// How many batches' group keys were not interned while decoding, since most keys of those before were met once.
    #[must_use]
    pub fn batches_not_interned(&self) -> u64 {
        self.batches_not_interned.load(Ordering::Relaxed)
    }

    /// One that is idle, or a new one. A panic loses it, with whatever it had learned.
    fn search(&self) -> Search {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(|| self.new_search())
    }

    fn new_search(&self) -> Search {
        Search {
            found: Vec::new(),
            records: Vec::new(),
            marks: Marks::default(),
            layouts: Layouts::new(self.kernel),
            minute: time::LastMinute::default(),
            text_bytes: vec![TEXT_BYTES; self.plan.fields.len() + self.plan.parts.len()],
            interner: Interner::default(),
        }
    }

    /// After a panic: each record by itself, so that only the one that causes it is refused.
    fn decode_singly_slow(&self, raw: &RawBatch, rows: Range<usize>) -> Batch {
        let mut batch = self.empty_batch();
        for row in rows {
            let mut search = self.new_search();
            let len = batch.len();
            let attempt = catch_unwind(AssertUnwindSafe(|| {
                self.decode_row(raw, row, &mut search, &mut batch);
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
}

/// Makes room for the records `rows`, with texts as long as those of the range before.
fn reserve(batch: &mut Batch, raw: &RawBatch, rows: Range<usize>, search: &Search) {
    batch.raw_rows.reserve(rows.len());
    batch.event_times_ms.reserve(rows.len());
    let bytes_max = raw.padded_bytes(rows.clone()).map_or(0, |(bytes, _)| bytes.len());
    for (column, bytes) in batch.columns.iter_mut().zip(&search.text_bytes) {
        column.reserve(rows.len(), (rows.len() * bytes + PADDING).min(bytes_max));
    }
}

fn truncate(batch: &mut Batch, len: usize) {
    batch.raw_rows.truncate(len);
    batch.event_times_ms.truncate(len);
    for column in &mut batch.columns {
        column.truncate(len);
    }
}
