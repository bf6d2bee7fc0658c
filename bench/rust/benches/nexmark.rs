//! Nexmark's window queries over event time, on one core.
//!
//! `make bench-windows` runs it; `bench/README.md` says what each query leaves out of the published one. Queries have
//! their turns one after the other, round after round. Invariant: no time is taken before the rows of a query were
//! those of an independent count.

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMillisecondType};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use streamcore_bench::nexmark::{Event, Nexmark};
use streamcore_bench::rounds::Rounds;
use streamcore_bench::run::{self, OUT_OF_ORDERNESS_MS, Run};

/// As in the binding.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// 300 s at the generator's own rate.
const FEED: Nexmark = Nexmark { events: 3_000_000, per_second: 10_000 };

/// A bid: event time (ms), auction, bidder, price.
type Bid = (i64, i64, i64, i64);

/// A row: numbers in the order of the columns, times in ms.
type Row = Vec<i64>;

/// A query, and what must come out of it.
struct Query {
    /// Kind of window.
    kind: Value,
    /// Group key.
    by: Value,
    /// Aggregates.
    aggregates: Value,
    /// Takes a row from a batch.
    read: fn(&RecordBatch, usize) -> Row,
    /// The rows that bids give, in any order.
    expected: fn(&[Bid]) -> Vec<Row>,
}

fn main() {
    let rounds = Rounds::from_environment();
    let bids = bids();
    let queries: Vec<_> = queries().into_iter().filter(|(name, _)| rounds.wants(name)).collect();
    queries.iter().for_each(|(name, query)| query.check(name, &bids));
    let times = rounds.measure("nexmark", &queries, |query| {
        let run = query.run(|_| ());
        (FEED.events, run.counting + run.ending)
    });
    rounds.leave("nexmark", &json!({"events": FEED.events, "ns": times}));
}

fn bids() -> Vec<Bid> {
    let bids = FEED.all().filter_map(|(time_ms, event)| match event {
        Event::Bid { auction, bidder, price } => Some((time_ms, auction as i64, bidder as i64, price)),
        _ => None,
    });
    bids.collect()
}

fn queries() -> Vec<(&'static str, Query)> {
    let (nothing, count) = (json!([]), json!([{"name": "num", "text": "count()"}]));
    let key = |name: &str| json!([{"name": name, "text": format!("bid.{name}")}]);
    let hop = json!({"type": "hopping", "size_ms": 10_000, "slide_ms": 2_000});
    let tumble = json!({"type": "tumbling", "size_ms": 10_000});
    let highest = json!([
        {"name": "price", "text": "max(bid.price)"},
        {"name": "auction", "text": "arg_max(bid.auction, bid.price)"},
        {"name": "bidder", "text": "arg_max(bid.bidder, bid.price)"},
    ]);
    let hottest = json!([{"name": "hot", "text": "top_k(bid.auction, 1)"}]);
    let query = |kind: &Value, by: &Value, aggregates: &Value, read, expected| Query {
        kind: kind.clone(),
        by: by.clone(),
        aggregates: aggregates.clone(),
        read,
        expected,
    };
    let session = json!({"type": "session", "gap_ms": 10_000});
    vec![
        ("q5 counts", query(&hop, &key("auction"), &count, counted, hops)),
        ("q5 one of the hottest", query(&hop, &nothing, &hottest, hottest_of, |bids| most(&hops(bids)))),
        ("q7 one of the highest", query(&tumble, &nothing, &highest, highest_of, dearest)),
        ("q11", query(&session, &key("bidder"), &count, counted, sessions)),
        ("q12 in event time", query(&tumble, &key("bidder"), &count, counted, tumbles)),
    ]
}

impl Query {
    fn spec(&self) -> Value {
        let source = json!({
            "event_time": "dateTime", "out_of_orderness_ms": OUT_OF_ORDERNESS_MS,
            "schema": {"type": "string", "bid.auction": "int64", "bid.bidder": "int64", "bid.price": "int64"},
        });
        let window = json!({"verb": "window", "kind": self.kind, "by": self.by, "aggregates": self.aggregates});
        let filter = json!({"verb": "filter", "condition": {"text": "type == 'bid'"}});
        json!({"source": source, "steps": [filter, window]})
    }

    fn run(&self, output: impl FnMut(&RecordBatch)) -> Run {
        run::run(run::pipeline(&self.spec()), FEED.pieces(), output)
    }

    fn check(&self, name: &str, bids: &[Bid]) {
        let mut rows = Vec::new();
        self.run(|batch| rows.extend((0..batch.num_rows()).map(|row| (self.read)(batch, row))));
        let mut expected = (self.expected)(bids);
        rows.sort_unstable();
        expected.sort_unstable();
        let wrong = rows.iter().zip(&expected).find(|(row, expected)| row != expected);
        assert_eq!((wrong, rows.len()), (None, expected.len()), "{name}: rows that differ, and how many there are");
    }
}

fn number(batch: &RecordBatch, name: &str, row: usize) -> i64 {
    let column = batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}"));
    match column.as_primitive_opt::<Int64Type>() {
        Some(numbers) => numbers.value(row),
        None => column.as_primitive::<TimestampMillisecondType>().value(row),
    }
}

/// Key, bounds and count.
fn counted(batch: &RecordBatch, row: usize) -> Row {
    let key = batch.column(0).as_primitive::<Int64Type>().value(row);
    let [start, end, count] = ["window_start", "window_end", "num"].map(|name| number(batch, name, row));
    vec![key, start, end, count]
}

/// Start of the window and the count of the value that occurred most: which of several that is, is not said.
fn hottest_of(batch: &RecordBatch, row: usize) -> Row {
    let lists = batch.column_by_name("hot").expect("a column").as_list::<i32>();
    let count = lists.value(row).as_struct().column(1).as_primitive::<Int64Type>().value(0);
    vec![number(batch, "window_start", row), count]
}

/// Start of the window, price, auction and bidder.
fn highest_of(batch: &RecordBatch, row: usize) -> Row {
    ["window_start", "price", "auction", "bidder"].map(|name| number(batch, name, row)).to_vec()
}

/// Bids by auction in windows of 10 s, every 2 s.
fn hops(bids: &[Bid]) -> Vec<Row> {
    let mut counts = BTreeMap::<(i64, i64), i64>::new();
    for (time, auction, ..) in bids {
        let last = time.div_euclid(2_000) * 2_000;
        for start in (0..5).map(|back| last - back * 2_000) {
            *counts.entry((*auction, start)).or_default() += 1;
        }
    }
    counts.into_iter().map(|((auction, start), count)| vec![auction, start, start + 10_000, count]).collect()
}

/// The greatest count of each window.
fn most(rows: &[Row]) -> Vec<Row> {
    let mut most = BTreeMap::<i64, i64>::new();
    for row in rows {
        let known = most.entry(row[1]).or_default();
        *known = row[3].max(*known);
    }
    most.into_iter().map(|(start, count)| vec![start, count]).collect()
}

/// The highest bid of each 10 s, the first of equal ones.
fn dearest(bids: &[Bid]) -> Vec<Row> {
    let mut dearest = BTreeMap::<i64, Bid>::new();
    for bid in bids {
        let known = dearest.entry(bid.0.div_euclid(10_000) * 10_000).or_insert(*bid);
        if bid.3 > known.3 {
            *known = *bid;
        }
    }
    dearest.into_iter().map(|(start, (_, auction, bidder, price))| vec![start, price, auction, bidder]).collect()
}

/// Bids by bidder, in sessions of a gap of 10 s.
fn sessions(bids: &[Bid]) -> Vec<Row> {
    let mut times = BTreeMap::<i64, Vec<i64>>::new();
    bids.iter().for_each(|(time, _, bidder, _)| times.entry(*bidder).or_default().push(*time));
    let mut rows = Vec::new();
    for (bidder, times) in times {
        let runs = times.chunk_by(|left, right| right - left <= 10_000);
        rows.extend(runs.map(|run| vec![bidder, run[0], run[run.len() - 1] + 10_000, run.len() as i64]));
    }
    rows
}

/// Bids by bidder in each 10 s.
fn tumbles(bids: &[Bid]) -> Vec<Row> {
    let mut counts = BTreeMap::<(i64, i64), i64>::new();
    for (time, _, bidder, _) in bids {
        *counts.entry((*bidder, time.div_euclid(10_000) * 10_000)).or_default() += 1;
    }
    counts.into_iter().map(|((bidder, start), count)| vec![bidder, start, start + 10_000, count]).collect()
}
