//! Events like those of the reference job, with as many group keys as wanted, made while they are read.
//!
//! Whoever counts independently asks for [`Clicks::click`], which holds the numbers drawn and not the JSON. Invariant: an
//! event depends on its number alone, so a feed of any length takes no memory.

use crate::draw::Draw;
use std::io::Write as _;
use streamcore::raw::RawBatch;
use streamcore::time_text::write_iso;

/// Event time of the first event, ms: as in `bench/python/clickstream.py`, but on the full hour.
pub const START_MS: i64 = 1_790_002_800_000;

/// Most bytes of records in one push.
pub const PIECE_BYTES: usize = 1 << 20;

/// Pages, and lengths of stay (ms): the page and the stay of a click are a digit each of one number drawn.
const PAGES: u64 = 1_000;
const DWELLS_MS: u64 = 60_000;

/// One event in so many is a copy of an earlier one, where there are copies.
const COPY_EVERY: u64 = 100;

/// How many events the original of a copy lies back; it is no copy itself.
const COPY_BACK: u64 = 37;

/// A feed of events in the order of their times.
#[derive(Debug, Clone, Copy)]
pub struct Clicks {
    /// Events.
    pub events: u64,
    /// Group keys, at most ten million. The first events have each of them once; the others draw one evenly.
    pub keys: u64,
    /// Events for each second of event time.
    pub per_second: u64,
    /// Whether some events are copies of earlier ones.
    pub copies: bool,
}

/// What the feed drew for an event.
#[derive(Debug, Clone, Copy)]
pub struct Click {
    /// Number of the group key.
    pub key: u64,
    /// Event time, ms.
    pub time_ms: i64,
    /// True for a copy.
    pub is_copy: bool,
    /// Random bits of the rest.
    draw: [u64; 3],
}

impl Clicks {
    /// The event called `number`.
    #[must_use]
    pub fn click(&self, number: u64) -> Click {
        let is_copy = self.copies && number % COPY_EVERY == COPY_EVERY - 1;
        let number = if is_copy { number - COPY_BACK } else { number };
        let mut draw = Draw(number.wrapping_mul(0xd1b5_4a32_d192_ed03));
        let drawn = [draw.number(), draw.number(), draw.number()];
        // Coprime to every power of ten, so that the first events meet every key.
        let key = if number < self.keys { number * 7_368_787 % self.keys } else { draw.below(self.keys) };
        Click { key, time_ms: START_MS + (number * 1_000 / self.per_second) as i64, is_copy, draw: drawn }
    }

    /// All events, as drawn.
    pub fn clicks(&self) -> impl Iterator<Item = Click> + '_ {
        (0..self.events).map(|number| self.click(number))
    }

    /// All events in pieces, keyed by group key, as a Kafka source hands them over.
    ///
    /// # Panics
    ///
    /// Never: pieces are small.
    pub fn pieces(&self) -> impl Iterator<Item = RawBatch> + '_ {
        let (mut next, mut value) = (0, Vec::new());
        std::iter::from_fn(move || {
            let mut batch = RawBatch::new(0, "clicks".into(), PIECE_BYTES / 200, PIECE_BYTES);
            while next < self.events && batch.byte_len() + 300 < PIECE_BYTES {
                let click = self.click(next);
                value.clear();
                click.write(&mut value);
                batch.push(Some(&value), next as i64, None).expect("small");
                batch.push_key(Some(&key_name(click.key)));
                next += 1;
            }
            batch.seal();
            (!batch.is_empty()).then_some(batch)
        })
    }
}

/// The name of a group key, as records write it: `u` and seven digits.
#[must_use]
pub fn key_name(key: u64) -> [u8; 8] {
    let mut name = [b'u'; 8];
    let mut rest = key;
    for digit in name[1..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    name
}

/// The number of the group key called `name`.
#[must_use]
pub fn key_number(name: &str) -> Option<u32> {
    name.strip_prefix('u')?.parse().ok()
}

impl Click {
    /// Appends its `event_id`, a UUID.
    pub fn write_id(&self, out: &mut Vec<u8>) {
        write_uuid(out, [self.draw[0], self.draw[1]]);
    }

    /// How long the user stayed, ms.
    #[must_use]
    pub fn dwell_ms(&self) -> i64 {
        (self.draw[2] / PAGES % DWELLS_MS) as i64
    }

    /// JSON of the shape of the reference event, of about 236 bytes.
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"event_id":""#);
        self.write_id(out);
        out.extend_from_slice(br#"","event_type":"page.view.click.v1","timestamp":""#);
        write_iso(out, self.time_ms);
        out.extend_from_slice(br#"","payload":{"user_id":""#);
        out.extend_from_slice(&key_name(self.key));
        let [page, dwell_ms, a, b, c] = [PAGES, DWELLS_MS, 256, 256, 256].map({
            let mut rest = self.draw[2];
            move |below| {
                let part = rest % below;
                rest /= below;
                part
            }
        });
        write!(
            out,
            "\",\"page_id\":\"p{page}\",\"dwell_ms\":{dwell_ms}}},\"metadata\":{{\"source\":\"web\",\"ip\":\"10.{a}.{b}.{c}\"}}}}"
        )
        .expect("a Vec takes every write");
    }
}

fn write_uuid(out: &mut Vec<u8>, id: [u64; 2]) {
    for (at, byte) in id.iter().flat_map(|half| half.to_be_bytes()).enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.extend([byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]));
    }
}
