//! Events of an online auction by the rules of Nexmark: people, auctions and bids in the proportion 1 to 3 to 46.
//!
//! The rules and their numbers are those of <https://github.com/nexmark/nexmark> (after Tucker, Tufte, Papadimos and Maier,
//! "`NEXMark`: a benchmark for queries over data streams", 2010, and Apache Beam): which auctions and people are hot, how
//! far ids lead, how prices are spread, how long events are. Numbers by chance are this bench's own. Invariant: an event
//! depends on its number alone.

use crate::clicks::START_MS;
use crate::draw::Draw;
use std::io::Write as _;
use streamcore::raw::RawBatch;
use streamcore::time_text::write_iso;

/// Events of each fifty that are people, and auctions; the others are bids.
const PEOPLE: u64 = 1;
const AUCTIONS: u64 = 3;
const ALL: u64 = 50;

/// The first id of people and of auctions.
const FIRST_ID: u64 = 1_000;

/// Of so many people or auctions one is hot.
const HOT_OF: u64 = 100;

/// One bid in so many is for an auction that is not hot, by a bidder who is not; one auction of a seller who is not.
const COLD_AUCTION: u64 = 2;
const COLD_BIDDER: u64 = 4;
const COLD_SELLER: u64 = 4;

/// Auctions that go on at once, people who are active, and ids that are used before their time.
const AUCTIONS_OPEN: u64 = 100;
const PEOPLE_ACTIVE: u64 = 1_000;
const LEAD: u64 = 10;

/// Bytes of an event, as the rules count them.
const BID_BYTES: u64 = 100;
const AUCTION_BYTES: u64 = 500;
const PERSON_BYTES: u64 = 200;

/// Most bytes of records in one push.
const PIECE_BYTES: usize = 1 << 20;

/// The feed.
#[derive(Debug, Clone, Copy)]
pub struct Nexmark {
    /// Events.
    pub events: u64,
    /// Events for each second of event time: ten thousand by the rules.
    pub per_second: u64,
}

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Somebody new.
    Person {
        /// Who.
        id: u64,
    },
    /// A new auction.
    Auction {
        /// Which.
        id: u64,
        /// Whose.
        seller: u64,
    },
    /// A bid.
    Bid {
        /// For which auction.
        auction: u64,
        /// Whose.
        bidder: u64,
        /// How much, in cents.
        price: i64,
    },
}

impl Nexmark {
    /// Event time of the event called `number`, ms.
    #[must_use]
    pub fn time_ms(&self, number: u64) -> i64 {
        START_MS + (number * 1_000 / self.per_second) as i64
    }

    /// All events, with their times.
    pub fn all(&self) -> impl Iterator<Item = (i64, Event)> + '_ {
        (0..self.events).map(|number| (self.time_ms(number), event(number, &mut draw(number))))
    }

    /// The name of the person that the event called `number` is about, or what its bid has in its place for more.
    #[must_use]
    pub fn text(&self, number: u64) -> String {
        let mut draw = draw(number);
        match event(number, &mut draw) {
            Event::Person { .. } => person_text(&mut draw).1,
            Event::Auction { .. } => String::new(),
            Event::Bid { .. } => bid_extra(&mut draw),
        }
    }

    /// All events in pieces.
    ///
    /// # Panics
    ///
    /// Never: pieces are small.
    pub fn pieces(&self) -> impl Iterator<Item = RawBatch> + '_ {
        let (mut next, mut value) = (0, Vec::new());
        std::iter::from_fn(move || {
            let mut batch = RawBatch::new(0, "nexmark".into(), PIECE_BYTES / 150, PIECE_BYTES);
            while next < self.events && batch.byte_len() + 2_000 < PIECE_BYTES {
                value.clear();
                let mut draw = draw(next);
                write(event(next, &mut draw), self.time_ms(next), &mut draw, &mut value);
                batch.push(Some(&value), next as i64, None).expect("small");
                next += 1;
            }
            batch.seal();
            (!batch.is_empty()).then_some(batch)
        })
    }
}

fn draw(number: u64) -> Draw {
    Draw(number.wrapping_mul(0xd1b5_4a32_d192_ed03))
}

/// What the event called `number` is about.
fn event(number: u64, draw: &mut Draw) -> Event {
    match number % ALL {
        0..PEOPLE => Event::Person { id: FIRST_ID + last_person(number) },
        PEOPLE..4 => {
            let seller = match draw.below(COLD_SELLER) {
                0 => person(number, draw),
                _ => last_person(number) / HOT_OF * HOT_OF,
            };
            Event::Auction { id: FIRST_ID + last_auction(number), seller: FIRST_ID + seller }
        }
        _ => {
            let auction = match draw.below(COLD_AUCTION) {
                0 => auction(number, draw),
                _ => last_auction(number) / HOT_OF * HOT_OF,
            };
            let bidder = match draw.below(COLD_BIDDER) {
                0 => person(number, draw),
                // Not the one who is hot among sellers.
                _ => last_person(number) / HOT_OF * HOT_OF + 1,
            };
            Event::Bid { auction: FIRST_ID + auction, bidder: FIRST_ID + bidder, price: price(draw) }
        }
    }
}

/// The last person there is, from 0.
const fn last_person(number: u64) -> u64 {
    number / ALL * PEOPLE
}

/// The last auction there is, from 0.
const fn last_auction(number: u64) -> u64 {
    let (round, place) = (number / ALL, number % ALL);
    let of_round = if place < PEOPLE + AUCTIONS { place + 1 - PEOPLE } else { AUCTIONS };
    (round * AUCTIONS + of_round).saturating_sub(1)
}

/// Some person who is active, or will be there soon.
fn person(number: u64, draw: &mut Draw) -> u64 {
    let people = last_person(number) + 1;
    let active = people.min(PEOPLE_ACTIVE);
    people - active + draw.below(active + LEAD)
}

/// Some auction that goes on, or will be there soon.
fn auction(number: u64, draw: &mut Draw) -> u64 {
    let last = last_auction(number);
    let first = last.saturating_sub(AUCTIONS_OPEN);
    first + draw.below(last - first + 1 + LEAD)
}

/// Between a dollar and a million, evenly by their logarithms; in cents.
fn price(draw: &mut Draw) -> i64 {
    let share = (draw.number() >> 11) as f64 / (1_u64 << 53) as f64;
    (10_f64.powf(share * 6.0) * 100.0).round() as i64
}

/// The event as JSON.
fn write(event: Event, time_ms: i64, draw: &mut Draw, out: &mut Vec<u8>) {
    let mut time = Vec::new();
    write_iso(&mut time, time_ms);
    let time = String::from_utf8_lossy(&time);
    let text = match event {
        Event::Person { id } => {
            let (card, name) = person_text(draw);
            let mail = letters(draw, 12);
            let (city, state) = (draw.one_of(&CITIES), draw.one_of(&STATES));
            let extra = extra(draw, 8 + 12 + 17 + 19 + 10, PERSON_BYTES);
            format!(
                "{{\"type\":\"person\",\"dateTime\":\"{time}\",\"person\":{{\"id\":{id},\"name\":\"{name}\",\"emailAddress\":\"{mail}@mail.com\",\
                 \"creditCard\":\"{card}\",\"city\":\"{city}\",\"state\":\"{state}\",\"extra\":\"{extra}\"}}}}"
            )
        }
        Event::Auction { id, seller } => {
            let (initial, more) = (price(draw), price(draw));
            let (reserve, category) = (initial + more, 10 + draw.below(5));
            let (item, about) = (letters(draw, 20), letters(draw, 100));
            let extra = extra(draw, 8 + 20 + 100 + 40, AUCTION_BYTES);
            format!(
                "{{\"type\":\"auction\",\"dateTime\":\"{time}\",\"auction\":{{\"id\":{id},\"itemName\":\"{item}\",\"description\":\"{about}\",\
                 \"initialBid\":{initial},\"reserve\":{reserve},\"expires\":{},\"seller\":{seller},\"category\":{category},\
                 \"extra\":\"{extra}\"}}}}",
                time_ms + 1 + draw.below(333) as i64
            )
        }
        Event::Bid { auction, bidder, price } => {
            let extra = bid_extra(draw);
            return write!(
                out,
                "{{\"type\":\"bid\",\"dateTime\":\"{time}\",\"bid\":{{\"auction\":{auction},\"bidder\":{bidder},\"price\":{price},\
                 \"extra\":\"{extra}\"}}}}"
            )
            .expect("a Vec takes every write");
        }
    };
    out.extend_from_slice(text.as_bytes());
}

/// A person's credit card and name.
fn person_text(draw: &mut Draw) -> (String, String) {
    let card = [0; 4].map(|_| format!("{:04}", draw.below(10_000))).join(" ");
    (card, letters(draw, 12))
}

fn bid_extra(draw: &mut Draw) -> String {
    extra(draw, 8 + 8 + 8 + 8, BID_BYTES)
}

const CITIES: [&str; 10] =
    ["Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"];
const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];

/// Letters that bring an event of `bytes` to about `wanted`, a fifth more or less.
fn extra(draw: &mut Draw, bytes: u64, wanted: u64) -> String {
    let missing = wanted.saturating_sub(bytes);
    let fifth = missing / 5;
    let length = missing - fifth + draw.below(2 * fifth + 1);
    letters(draw, length as usize)
}

fn letters(draw: &mut Draw, length: usize) -> String {
    let mut text = String::with_capacity(length + 8);
    while text.len() < length {
        let bits = draw.number();
        text.extend((0..8).map(|at| char::from(b'a' + (bits >> (8 * at) & 15) as u8)));
    }
    text.truncate(length);
    text
}
