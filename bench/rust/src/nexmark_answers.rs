//! What must come out of Nexmark's queries, counted from the numbers drawn and not from the JSON.
//!
//! `benches/nexmark.rs` compares. Invariant: nothing here is shared with the engine.

use crate::nexmark::{Event, Nexmark};
use std::collections::{BTreeMap, BTreeSet};

/// A row: numbers in the order of the columns, times in ms, texts as [`number_of`] has them.
pub type Row = Vec<i64>;

/// A bid.
#[derive(Debug, Clone, Copy)]
struct Bid {
    /// Number of the event.
    number: u64,
    time_ms: i64,
    auction: i64,
    bidder: i64,
    price: i64,
}

/// The events of a feed, by what they are about.
pub struct Events {
    feed: Nexmark,
    bids: Vec<Bid>,
    /// Number of the event, time (ms) and id.
    people: Vec<(u64, i64, i64)>,
    /// Time (ms) and seller.
    auctions: Vec<(i64, i64)>,
}

impl Events {
    /// All of `feed`.
    #[must_use]
    pub fn of(feed: &Nexmark) -> Self {
        let mut events = Self { feed: *feed, bids: Vec::new(), people: Vec::new(), auctions: Vec::new() };
        for (number, (time_ms, event)) in (0..).zip(feed.all()) {
            match event {
                Event::Person { id } => events.people.push((number, time_ms, id as i64)),
                Event::Auction { seller, .. } => events.auctions.push((time_ms, seller as i64)),
                Event::Bid { auction, bidder, price } => {
                    let (auction, bidder) = (auction as i64, bidder as i64);
                    events.bids.push(Bid { number, time_ms, auction, bidder, price });
                }
            }
        }
        events
    }
}

/// A number that tells texts apart: FNV-1a (Fowler, Noll and Vo).
#[must_use]
pub fn number_of(text: &str) -> i64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    text.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step) as i64
}

fn floor(time_ms: i64, size: i64) -> i64 {
    time_ms.div_euclid(size) * size
}

/// q5: the most bids of an auction in each 10 s, every 2 s, and the first of the auctions that have as many.
#[must_use]
pub fn hottest(events: &Events) -> Vec<Row> {
    let mut counts = BTreeMap::<(i64, i64), i64>::new();
    for bid in &events.bids {
        let last = floor(bid.time_ms, 2_000);
        for start in (0..5).map(|back| last - back * 2_000) {
            *counts.entry((start, bid.auction)).or_default() += 1;
        }
    }
    let mut most = BTreeMap::<i64, (i64, i64)>::new();
    for ((start, auction), count) in counts {
        let known = most.entry(start).or_insert((count, auction));
        if count > known.0 {
            *known = (count, auction);
        }
    }
    most.into_iter().map(|(start, (count, auction))| vec![start, count, auction]).collect()
}

/// q7: the highest bid of each 10 s, the first of equal ones.
#[must_use]
pub fn highest(events: &Events) -> Vec<Row> {
    let mut highest = BTreeMap::<i64, Bid>::new();
    for bid in &events.bids {
        let known = highest.entry(floor(bid.time_ms, 10_000)).or_insert(*bid);
        if bid.price > known.price {
            *known = *bid;
        }
    }
    let row = |(start, bid): (i64, Bid)| {
        let extra = number_of(&events.feed.text(bid.number));
        vec![start, bid.price, bid.auction, bid.bidder, bid.time_ms, extra]
    };
    highest.into_iter().map(row).collect()
}

/// q8: people who are new in the same 10 s in which an auction is theirs.
#[must_use]
pub fn new_users(events: &Events) -> Vec<Row> {
    let sellers: BTreeSet<(i64, i64)> =
        events.auctions.iter().map(|(time, who)| (*who, floor(*time, 10_000))).collect();
    let mut rows = Vec::new();
    for (number, time_ms, id) in &events.people {
        let start = floor(*time_ms, 10_000);
        if sellers.contains(&(*id, start)) {
            rows.push(vec![*id, number_of(&events.feed.text(*number)), start]);
        }
    }
    rows
}

/// q11: bids by bidder, in sessions of a gap of 10 s.
#[must_use]
pub fn sessions(events: &Events) -> Vec<Row> {
    let mut times = BTreeMap::<i64, Vec<i64>>::new();
    events.bids.iter().for_each(|bid| times.entry(bid.bidder).or_default().push(bid.time_ms));
    let mut rows = Vec::new();
    for (bidder, times) in times {
        let runs = times.chunk_by(|left, right| right - left <= 10_000);
        rows.extend(runs.map(|run| vec![bidder, run[0], run[run.len() - 1] + 10_000, run.len() as i64]));
    }
    rows
}

/// q12 in event time: bids by bidder in each 10 s.
#[must_use]
pub fn tumbles(events: &Events) -> Vec<Row> {
    let mut counts = BTreeMap::<(i64, i64), i64>::new();
    for bid in &events.bids {
        *counts.entry((bid.bidder, floor(bid.time_ms, 10_000))).or_default() += 1;
    }
    counts.into_iter().map(|((bidder, start), count)| vec![bidder, start, start + 10_000, count]).collect()
}
