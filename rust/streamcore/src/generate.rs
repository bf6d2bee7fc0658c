//! Seeded clickstream events for the demo, tests and benchmarks.
//!
//! Nothing comes before it: it fills [`RawBatch`]es as a topic would. Invariant: event `i` is a
//! pure function of the settings and `i`, so reading on from a position gives the same bytes as
//! reading from the start.

use crate::error::{Error, Problem, Result};
use crate::partition::partition;
use crate::raw::RawBatch;
use crate::time_text::write_iso;
use std::io::Write as _;
use std::sync::Arc;

/// Names of the generators there are.
pub const NAMES: [&str; 1] = ["clickstream"];

/// Most lanes of a generator.
pub const LANES_MAX: u32 = 10_000;

const USERS: u64 = 100_000;
const PAGES: u64 = 1000;
const PAGE_SHAPE: f64 = 1.1;
const DWELL_MS_MAX: u64 = 60_000;
const EVENT_BYTES: usize = 256;
/// A repeated event lies at most this many events back, and at most a second of event time.
const REPEAT_DISTANCE_MAX: u64 = 1000;

/// What to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// One of [`NAMES`]; it is also the topic.
    pub name: String,
    /// Another seed gives other events.
    pub seed: u64,
    /// Lanes, 1 to [`LANES_MAX`]; a user's lane is the partition of its id.
    pub lanes: u32,
    /// Event time of event 0, ms.
    pub start_ms: i64,
    /// Event time grows by `1000 / events_per_second` ms an event.
    pub events_per_second: f64,
    /// Event times lie up to this far back, ms.
    pub out_of_order_ms: u32,
    /// Share of events, 0 to 1, that repeat an earlier one byte for byte.
    pub duplicate_rate: f64,
}

/// Makes events from a position on.
#[derive(Debug, Clone)]
pub struct Generator {
    settings: Settings,
    topic: Arc<str>,
    /// Events made so far, of all lanes: the number of the next one.
    position: u64,
}

impl Generator {
    /// Starts at event `position`. Errors list every setting out of its range.
    pub fn new(settings: Settings, position: u64) -> Result<Self> {
        let mut problems = Vec::new();
        let mut check = |fine: bool, path: &str, message: &str, hint: &str| {
            if !fine {
                problems.push(Problem::new(path, message).hint(hint));
            }
        };
        let known = format!("the generators are: {}", NAMES.join(", "));
        let unknown = format!("there is no generator {:?}", settings.name);
        let (rate, share) = (settings.events_per_second, settings.duplicate_rate);
        check(NAMES.contains(&settings.name.as_str()), "name", &unknown, &known);
        check((1..=LANES_MAX).contains(&settings.lanes), "lanes", "lanes out of range", "use 1 to 10000");
        check(rate.is_finite() && rate > 0.0, "events_per_second", "not a positive number", "use 20000, for example");
        check((0.0..=1.0).contains(&share), "duplicate_rate", "not a share", "use a number from 0 to 1");
        if !problems.is_empty() {
            return Err(Error { message: "the generator's settings are wrong".into(), ..Error::config(problems) });
        }
        let topic = settings.name.as_str().into();
        Ok(Self { settings, topic, position })
    }

    /// Events made so far, of all lanes.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Event time of the next event before disorder, ms.
    #[must_use]
    pub fn event_time_ms(&self) -> i64 {
        self.ordered_time_ms(self.position)
    }

    /// The next `count` events, one batch for each lane that has any; offsets are event numbers.
    pub fn read(&mut self, count: u64) -> Result<Vec<RawBatch>> {
        let lanes = self.settings.lanes;
        let mut batches: Vec<Option<RawBatch>> = (0..lanes).map(|_| None).collect();
        let mut value = Vec::with_capacity(EVENT_BYTES);
        let room = count.min(1 << 16) as usize / lanes as usize + 1;
        for number in self.position..self.position + count {
            let event = Event::draw(self, self.original(number));
            let key = format!("u{}", event.user);
            let lane = partition(key.as_bytes(), lanes);
            value.clear();
            event.write(&key, &mut value);
            let batch = batches[lane as usize]
                .get_or_insert_with(|| RawBatch::new(lane as i32, self.topic.clone(), room, room * EVENT_BYTES));
            batch.push(Some(&value), number as i64, Some(event.time_ms))?;
            batch.push_key(Some(key.as_bytes()));
        }
        self.position += count;
        let mut batches: Vec<RawBatch> = batches.into_iter().flatten().collect();
        batches.iter_mut().for_each(RawBatch::seal);
        Ok(batches)
    }

    fn ordered_time_ms(&self, number: u64) -> i64 {
        self.settings.start_ms.saturating_add((number as f64 * 1000.0 / self.settings.events_per_second) as i64)
    }

    /// The event that `number` repeats, or itself. An original is found for certain: each step
    /// goes back at least one event and event 0 repeats nothing.
    fn original(&self, mut number: u64) -> u64 {
        if self.settings.duplicate_rate == 0.0 {
            return number;
        }
        let distance_max = REPEAT_DISTANCE_MAX.min(self.settings.events_per_second as u64).max(1);
        while number > 0 {
            let mut random = Random::new(!self.settings.seed, number);
            if random.share() >= self.settings.duplicate_rate {
                return number;
            }
            number -= 1 + random.below(distance_max.min(number));
        }
        0
    }
}

/// The parts of one event that differ from others.
struct Event {
    id: [u64; 2],
    user: u64,
    page: u64,
    dwell_ms: u64,
    address: [u64; 3],
    time_ms: i64,
}

impl Event {
    fn draw(generator: &Generator, number: u64) -> Self {
        let mut random = Random::new(generator.settings.seed, number);
        let id = [random.next(), random.next()];
        let user = random.below(USERS);
        // 1 - share lies in (0, 1]: the power is finite.
        let page = (1.0 - random.share()).powf(-1.0 / PAGE_SHAPE) as u64 % PAGES;
        let dwell_ms = random.below(DWELL_MS_MAX);
        let address = [random.below(256), random.below(256), random.below(256)];
        let back_ms = random.below(u64::from(generator.settings.out_of_order_ms) + 1) as i64;
        let time_ms = generator.ordered_time_ms(number).saturating_sub(back_ms);
        Self { id, user, page, dwell_ms, address, time_ms }
    }

    fn write(&self, key: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"event_id":""#);
        write_uuid(out, self.id);
        out.extend_from_slice(br#"","event_type":"page.view.click.v1","timestamp":""#);
        write_iso(out, self.time_ms);
        let (page, dwell_ms, address) = (self.page, self.dwell_ms, self.address);
        write!(
            out,
            concat!(
                r#"","payload":{{"user_id":"{}","page_id":"p{}","dwell_ms":{}}},"#,
                r#""metadata":{{"source":"web","ip":"10.{}.{}.{}"}}}}"#
            ),
            key, page, dwell_ms, address[0], address[1], address[2]
        )
        .expect("a Vec takes every write");
    }
}

/// Writes 128 random bits as a UUID of version 4, variant 1 (RFC 9562).
fn write_uuid(out: &mut Vec<u8>, id: [u64; 2]) {
    let high = id[0] & !0xf000 | 0x4000;
    let low = id[1] & (u64::MAX >> 2) | (1 << 63);
    let bits = u128::from(high) << 64 | u128::from(low);
    for digit in 0..32 {
        if matches!(digit, 8 | 12 | 16 | 20) {
            out.push(b'-');
        }
        out.push(b"0123456789abcdef"[(bits >> (124 - 4 * digit) & 15) as usize]);
    }
}

/// `SplitMix64`, started afresh for each event.
struct Random {
    state: u64,
}

impl Random {
    fn new(seed: u64, number: u64) -> Self {
        // Mixed twice, so that neighbouring seeds and numbers share no stretch of the sequence.
        let mut random = Self { state: seed };
        let mut random = Self { state: random.next() ^ number.wrapping_mul(0xd1b5_4a32_d192_ed03) };
        Self { state: random.next() }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.state;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// 0 to `bound - 1`.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// In `[0, 1)`.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn settings() -> Settings {
        Settings {
            name: "clickstream".into(),
            seed: 1,
            lanes: 1,
            start_ms: 1_790_000_000_000,
            events_per_second: 20_000.0,
            out_of_order_ms: 0,
            duplicate_rate: 0.0,
        }
    }

    fn values(settings: Settings, position: u64, count: u64) -> Vec<(i64, i32, Vec<u8>)> {
        let batches = Generator::new(settings, position).expect("settings").read(count).expect("small");
        let mut all: Vec<_> = batches
            .iter()
            .flat_map(|batch| {
                (0..batch.len()).map(|row| (batch.offset(row), batch.lane, batch.value(row).expect("value").to_vec()))
            })
            .collect();
        all.sort();
        all
    }

    #[test]
    fn an_event_has_the_reference_shape() {
        let all = values(settings(), 0, 2000);
        let event: serde_json::Value = serde_json::from_slice(&all[40].2).expect("JSON");
        assert_eq!(event["event_type"], "page.view.click.v1");
        assert_eq!(event["timestamp"], "2026-09-21T14:13:20.002Z");
        assert_eq!(event["metadata"]["source"], "web");
        let id = event["event_id"].as_str().expect("text");
        assert_eq!((id.len(), &id[14..15]), (36, "4"));
        assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"));
        let mean = all.iter().map(|(_, _, value)| value.len()).sum::<usize>() / all.len();
        assert!((232..=240).contains(&mean), "mean length {mean}");
        let names: BTreeSet<&str> = event.as_object().expect("object").keys().map(String::as_str).collect();
        assert_eq!(names, BTreeSet::from(["event_id", "event_type", "metadata", "payload", "timestamp"]));
    }

    #[test]
    fn pages_follow_the_pareto_law() {
        let all = values(settings(), 0, 10_000);
        let share = |page: &str| {
            let needle = format!("\"page_id\":\"{page}\"");
            all.iter().filter(|(_, _, value)| String::from_utf8_lossy(value).contains(&needle)).count()
        };
        // P(floor(X) = 1) = 1 - 2^-1.1 = 0.533; P(2) = 2^-1.1 - 3^-1.1 = 0.168.
        assert!((5100..=5600).contains(&share("p1")), "{}", share("p1"));
        assert!((1550..=1850).contains(&share("p2")), "{}", share("p2"));
    }

    #[test]
    fn repeats_are_copies_in_the_same_lane() {
        let all = values(Settings { duplicate_rate: 0.2, lanes: 4, out_of_order_ms: 500, ..settings() }, 0, 10_000);
        let distinct: BTreeSet<_> = all.iter().map(|(_, lane, value)| (lane, value)).collect();
        let values: BTreeSet<_> = all.iter().map(|(_, _, value)| value).collect();
        let repeated = all.len() - distinct.len();
        assert!((1800..=2200).contains(&repeated), "{repeated}");
        assert_eq!(distinct.len(), values.len(), "a copy is in its original's lane");
    }

    #[test]
    fn disorder_stays_within_its_bound() {
        let settings = Settings { out_of_order_ms: 100, ..settings() };
        let batch = Generator::new(settings, 0).expect("settings").read(5000).expect("small").remove(0);
        let backs: Vec<i64> = (0..batch.len())
            .map(|row| 1_790_000_000_000 + row as i64 / 20 - batch.timestamp_ms(row).expect("time"))
            .collect();
        assert!(backs.iter().all(|back| (0..=100).contains(back)));
        assert!(backs.contains(&0) && backs.contains(&100));
    }

    #[test]
    fn wrong_settings_are_listed_together() {
        let wrong = Settings { name: "clicks".into(), lanes: 0, duplicate_rate: f64::NAN, ..settings() };
        let error = Generator::new(wrong, 0).expect_err("wrong");
        let paths: Vec<&str> = error.problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, ["name", "lanes", "duplicate_rate"]);
        assert!(error.problems[0].hint.as_deref().expect("hint").contains("clickstream"));
    }

    proptest! {
        #[test]
        fn a_position_resumes_exactly(cut in 0_u64..300, lanes in 1_u32..5, seed in any::<u64>()) {
            let settings = Settings { seed, lanes, duplicate_rate: 0.1, out_of_order_ms: 50, ..settings() };
            let whole = values(settings.clone(), 0, 300);
            let mut parts = values(settings.clone(), 0, cut);
            parts.extend(values(settings, cut, 300 - cut));
            prop_assert_eq!(whole, parts);
        }
    }
}
