//! Nexmark's window queries over event time, on one core.
//!
//! `make bench-windows` runs it; `bench/README.md` says what each query leaves out of the published one. Queries have
//! their turns one after the other, round after round. Invariant: no time is taken before the rows of a query were
//! those of an independent count (`streamcore_bench::nexmark_answers`).

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMillisecondType};
use serde_json::{Value, json};
use streamcore_bench::nexmark::Nexmark;
use streamcore_bench::nexmark_answers::{self as answers, Events, Row, number_of};
use streamcore_bench::rounds::Rounds;
use streamcore_bench::run::{self, OUT_OF_ORDERNESS_MS, Run};

/// As in the binding.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// 300 s at the generator's own rate.
const FEED: Nexmark = Nexmark { events: 3_000_000, per_second: 10_000 };

/// A query, and what must come out of it.
struct Query {
    /// The engine's description.
    spec: Value,
    /// The columns compared.
    columns: &'static [&'static str],
    /// The rows, in any order.
    answer: fn(&Events) -> Vec<Row>,
}

fn main() {
    let rounds = Rounds::from_environment();
    let events = Events::of(&FEED);
    let queries: Vec<_> = queries().into_iter().filter(|(name, _)| rounds.wants(name)).collect();
    queries.iter().for_each(|(name, query)| query.check(name, &events));
    let times = rounds.measure("nexmark", &queries, |query| {
        let run = query.run(|_| ());
        (FEED.events, run.counting + run.ending)
    });
    rounds.leave("nexmark", &json!({"events": FEED.events, "ns": times}));
}

fn queries() -> Vec<(&'static str, Query)> {
    let tumble = json!({"type": "tumbling", "size_ms": 10_000});
    let session = json!({"type": "session", "gap_ms": 10_000});
    let counted = |kind: &Value| bids(&[], &[window(kind, &[("bidder", "bid.bidder")], &[("num", "count()")])]);
    vec![
        (
            "q5 (one of equals)",
            Query { spec: hottest(), columns: &["started", "num", "auction"], answer: answers::hottest },
        ),
        (
            "q7 (one of equals)",
            Query {
                spec: highest(&tumble),
                columns: &["window_start", "price", "auction", "bidder", "at", "extra"],
                answer: answers::highest,
            },
        ),
        (
            "q8",
            Query { spec: new_users(&tumble), columns: &["id", "name", "window_start"], answer: answers::new_users },
        ),
        (
            "q11",
            Query {
                spec: counted(&session),
                columns: &["bidder", "window_start", "window_end", "num"],
                answer: answers::sessions,
            },
        ),
        (
            "q12 in event time",
            Query {
                spec: counted(&tumble),
                columns: &["bidder", "window_start", "window_end", "num"],
                answer: answers::tumbles,
            },
        ),
    ]
}

/// q5: bids by auction in each 10 s, every 2 s; of the auctions of each, one with the most. Windows end 2 s apart, so
/// those of one end are alone in 2 s.
fn hottest() -> Value {
    let hop = json!({"type": "hopping", "size_ms": 10_000, "slide_ms": 2_000});
    let each = json!({"type": "tumbling", "size_ms": 2_000});
    let most = [("num", "max(num)"), ("auction", "arg_max(auction, num)"), ("started", "max(window_start)")];
    let counts = window(&hop, &[("auction", "bid.auction")], &[("num", "count()")]);
    let most = window(&each, &[], &most);
    bids(&[], &[counts, most])
}

/// q7: one of the highest bids of each 10 s.
fn highest(tumble: &Value) -> Value {
    let aggregates = [
        ("price", "max(bid.price)"),
        ("auction", "arg_max(bid.auction, bid.price)"),
        ("bidder", "arg_max(bid.bidder, bid.price)"),
        ("at", "arg_max(dateTime, bid.price)"),
        ("extra", "arg_max(bid.extra, bid.price)"),
    ];
    bids(&[("bid.extra", "string"), ("dateTime", "timestamp")], &[window(tumble, &[], &aggregates)])
}

/// q8: people who are new and sell in the same 10 s, each once. Both inputs read all events.
fn new_users(tumble: &Value) -> Value {
    let select = |columns: &[(&str, &str)]| json!({"verb": "select", "columns": named(columns)});
    let join = json!({
        "verb": "join", "input": "auctions", "left_on": ["id"], "right_on": ["seller"], "suffix": "_right",
        "kind": {"type": "window", "size_ms": 10_000},
    });
    let auctions = json!({
        "name": "auctions", "source": source(&[("auction.seller", "int64")]),
        "steps": [filter("auction"), select(&[("seller", "auction.seller")])],
    });
    let once = window(tumble, &[("id", "id"), ("name", "name")], &[("auctions", "count()")]);
    json!({
        "source": source(&[("person.id", "int64"), ("person.name", "string")]),
        "inputs": [auctions],
        "steps": [filter("person"), select(&[("id", "person.id"), ("name", "person.name")]), join, once],
    })
}

/// A query of bids; `more`: fields beside the numbers.
fn bids(more: &[(&str, &str)], windows: &[Value]) -> Value {
    let numbers = ["bid.auction", "bid.bidder", "bid.price"].map(|name| (name, "int64"));
    let steps: Vec<Value> = [filter("bid")].into_iter().chain(windows.iter().cloned()).collect();
    json!({"source": source(&[&numbers, more].concat()), "steps": steps})
}

fn source(fields: &[(&str, &str)]) -> Value {
    let mut schema = json!({"type": "string"});
    fields.iter().for_each(|(name, data_type)| schema[*name] = (*data_type).into());
    json!({"event_time": "dateTime", "out_of_orderness_ms": OUT_OF_ORDERNESS_MS, "schema": schema})
}

fn filter(kind: &str) -> Value {
    json!({"verb": "filter", "condition": {"text": format!("type == '{kind}'")}})
}

fn window(kind: &Value, by: &[(&str, &str)], aggregates: &[(&str, &str)]) -> Value {
    json!({"verb": "window", "kind": kind, "by": named(by), "aggregates": named(aggregates)})
}

fn named(columns: &[(&str, &str)]) -> Vec<Value> {
    columns.iter().map(|(name, text)| json!({"name": name, "text": text})).collect()
}

impl Query {
    fn run(&self, output: impl FnMut(&RecordBatch)) -> Run {
        let pipeline = run::pipeline(&self.spec);
        match self.spec.get("inputs") {
            None => run::run(pipeline, run::alone(FEED.pieces()), output),
            Some(_) => run::run(pipeline, run::twice(FEED.pieces()), output),
        }
    }

    fn check(&self, name: &str, events: &Events) {
        let mut rows = Vec::new();
        self.run(|batch| rows.extend((0..batch.num_rows()).map(|row| self.row(batch, row))));
        let mut expected = (self.answer)(events);
        rows.sort_unstable();
        expected.sort_unstable();
        let wrong = rows.iter().zip(&expected).find(|(row, expected)| row != expected);
        assert_eq!((wrong, rows.len()), (None, expected.len()), "{name}: rows that differ, and how many there are");
    }

    fn row(&self, batch: &RecordBatch, row: usize) -> Row {
        self.columns.iter().map(|name| number(batch, name, row)).collect()
    }
}

/// A value as a number: a time in ms, a text as [`number_of`] has it.
fn number(batch: &RecordBatch, name: &str, row: usize) -> i64 {
    let column = batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}"));
    if let Some(numbers) = column.as_primitive_opt::<Int64Type>() {
        return numbers.value(row);
    }
    match column.as_string_opt::<i32>() {
        Some(texts) => number_of(texts.value(row)),
        None => column.as_primitive::<TimestampMillisecondType>().value(row),
    }
}
