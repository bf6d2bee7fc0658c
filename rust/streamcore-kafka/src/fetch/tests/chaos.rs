//! Everything at once, drawn from a seed: leaders move, connections are cut, answers are damaged, and the owner seeks, pauses and revokes.
//!
//! What must hold: of each partition every record comes once, in order, from the offset on that was asked for last.

use super::*;
use crate::scripted::Reply;

const PARTITIONS: i32 = 5;
const BROKERS: i32 = 3;
const STEPS: usize = 150;

/// Numbers by chance, the same for the same seed.
#[derive(Debug, Clone)]
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn partition(&mut self) -> i32 {
        self.below(PARTITIONS as u64) as i32
    }
}

/// What should come next, by partition.
type Next = BTreeMap<i32, i64>;

fn check(taken: &Taken, next: &mut Next, seed: u64) {
    assert_eq!(taken.troubles, [], "seed {seed}");
    for batch in &taken.batches {
        let expected = next.get_mut(&batch.lane).expect("assigned");
        for row in 0..batch.len() {
            assert_eq!(batch.offset(row), *expected, "seed {seed}, partition {}", batch.lane);
            let value = batch.value(row).and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
            assert_eq!(value, Some(*expected));
            *expected += 1;
        }
    }
    for moved in &taken.moved {
        assert_eq!(next[&moved.place.partition], moved.next_offset);
    }
}

/// Something happens to the brokers.
fn harm(model: &Model, chance: &mut Chance) {
    use kafka_protocol::records::Compression;
    let partition = chance.partition();
    match chance.below(3) {
        0 => {
            let mut world = model.world();
            let log = world.logs.get_mut(&partition).expect("there");
            (log.leader, log.epoch) = (chance.below(BROKERS as u64) as i32, log.epoch + 1);
        }
        1 => model.world().logs.get_mut(&partition).expect("there").errors.push(ResponseError::OffsetNotAvailable),
        _ => {
            let codecs = [Compression::None, Compression::Lz4, Compression::Zstd];
            let kind = Kind { compression: codecs[chance.below(3) as usize], ..Kind::default() };
            model.append_as(partition, 1 + chance.below(50) as i64, kind);
        }
    }
}

/// The owner does something.
fn act(fetcher: &Fetcher, next: &mut Next, chance: &mut Chance) {
    let partition = chance.partition();
    let back = |next: &Next, chance: &mut Chance| (next[&partition] - chance.below(20) as i64).max(0);
    match chance.below(4) {
        0 => {
            let offset = back(next, chance);
            assert!(fetcher.seek(&at(partition), offset));
            next.insert(partition, offset);
        }
        1 => {
            fetcher.revoke(&[at(partition)]);
            let offset = back(next, chance);
            fetcher.assign(&[from(partition, offset)]);
            next.insert(partition, offset);
        }
        2 => fetcher.pause(&[at(partition)]),
        _ => fetcher.resume(&[at(partition)]),
    }
}

fn run(seed: u64) {
    let model = Model::start(BROKERS, PARTITIONS);
    (0..PARTITIONS).for_each(|partition| model.append(partition, 30));
    let mut luck = Chance(seed);
    model.hook(move |_, mut bytes| match luck.below(30) {
        0 => Reply::SayAndClose(bytes[..bytes.len() / 2].to_vec()),
        1 => Reply::SayAndClose(Vec::new()),
        2 => {
            // Nothing of the answer can be read.
            bytes[4] ^= 1;
            Reply::Say(bytes)
        }
        _ => Reply::Say(bytes),
    });
    let settings = Settings {
        wait_max: Duration::from_millis(20),
        queued_bytes_max: 4_000,
        partition_bytes_max: 700,
        ..Settings::default()
    };
    let fetcher = fetcher(&model, settings);
    let mut next: Next = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
    fetcher.assign(&(0..PARTITIONS).map(|partition| from(partition, 0)).collect::<Vec<_>>());
    let mut chance = Chance(seed ^ 0xabcd);
    for _ in 0..STEPS {
        match chance.below(8) {
            0 | 1 => harm(&model, &mut chance),
            2 => act(&fetcher, &mut next, &mut chance),
            _ => {
                let records_max = 1 + chance.below(60) as usize;
                let limits = Limits { records_max, ..Limits::default() };
                check(&fetcher.take(Duration::from_millis(5), limits), &mut next, seed);
            }
        }
    }
    fetcher.resume(&(0..PARTITIONS).map(at).collect::<Vec<_>>());
    let ends: Next = model.world().logs.iter().map(|(partition, log)| (*partition, log.end())).collect();
    let deadline = Instant::now() + LONG;
    while next != ends {
        assert!(Instant::now() < deadline, "seed {seed}: {next:?} {ends:?} {:?}", fetcher.progress());
        check(&fetcher.take(Duration::from_millis(50), Limits::default()), &mut next, seed);
    }
}

#[test]
fn every_record_comes_once_and_in_order_whatever_happens() {
    (1..=6).for_each(run);
}
