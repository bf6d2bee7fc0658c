//! Carries one worker's actions out: each is a few requests, one after the other, sent again when they time out.
//!
//! It is what `event.rs` and `action.rs` of the machine ask of an executor, against the model broker. Invariant: an action
//! is answered once.

use crate::requests::{Layout, MEETING, Partition, Process, Refusal, Reply, Request, Time};
use crate::worker::Worker;
use crate::world::{Event, REQUEST_TIMEOUT_MS, Wake, World};
use std::collections::{BTreeMap, VecDeque};
use streamcore::checkpoint::machine::{
    Action, ErrorClass, Event as News, GroupMetadata, GroupOffsets, Lane, LaneOffsets, Part, ReadEnd, RestoreLane,
    RestoredLane, StateFound,
};

/// Between two attempts at what the broker cannot do yet.
const AGAIN_AFTER_MS: Time = 15;

/// An action that waits for the broker.
pub struct Call {
    action: Action,
    requests: VecDeque<Request>,
    /// The request that is out.
    id: u64,
    until: Time,
    /// Whether it had requests at all: rows may wait for the flush.
    delivers: bool,
    /// Where each state partition is to be read to.
    ends: Vec<(Partition, usize)>,
}

impl Worker {
    /// Begins an action; an answer that is there at once is returned.
    pub fn perform(&mut self, action: Action, world: &mut World) -> Option<News> {
        let requests: VecDeque<Request> = match &action {
            Action::NewProducer { .. } => {
                self.renew_producer();
                VecDeque::from([Request::InitProducer { name: self.process.worker }])
            }
            Action::FetchCommitted { lanes, stable, .. } => {
                let lanes: Vec<Lane> = lanes.iter().copied().filter(|lane| *lane != MEETING).collect();
                if lanes.is_empty() {
                    return Some(fetched(&action, &[]));
                }
                VecDeque::from([Request::FetchOffsets { lanes, stable: *stable }])
            }
            Action::ReadState { lanes, until, .. } => {
                self.fall_silent(lanes, world);
                let partitions = lanes.iter().map(|lane| world.layout.state(*lane)).collect();
                VecDeque::from([Request::Ends { partitions, stable: *until == ReadEnd::LastStable }])
            }
            Action::Produce { part, lanes } => {
                self.produce(*part, lanes, world);
                if world.random.chance(100) {
                    // The client's queue is full for a while.
                    let pause = world.random.between(5, 60);
                    world.schedule(pause, self.wake(Wake::Answer(News::Produced)));
                    return None;
                }
                match world.random.between(0, 9) {
                    0..3 if self.flight.is_none() => self.producer.deliver(),
                    3..7 if self.flight.is_none() => {
                        self.take_off(world);
                        VecDeque::new()
                    }
                    _ => VecDeque::new(),
                }
            }
            Action::SendOffsets { lanes, member, group, .. } => match self.offsets(lanes, member, *group, world) {
                Some(requests) => requests,
                None => return Some(failed(ErrorClass::Abortable, "the membership is another one")),
            },
            Action::Flush { .. } => VecDeque::new(),
            Action::Commit { .. } => self.end(true),
            Action::Abort { .. } => self.end(false),
            Action::Wait { wait_ms } => {
                world.schedule(*wait_ms, self.wake(Wake::Answer(News::Done)));
                return None;
            }
            local => return Some(self.perform_here(local, world)),
        };
        let until = world.now + timeout_ms(&action);
        let delivers = !requests.is_empty();
        let call = Call { action, requests, id: 0, until, delivers, ends: Vec::new() };
        self.go_on(call, world)
    }

    /// Sends the next request of an action, or answers it.
    fn go_on(&mut self, mut call: Call, world: &mut World) -> Option<News> {
        if self.flight.is_some() && waits_for_records(&call.action) {
            self.call = Some(Call { id: 0, ..call });
            world.schedule(AGAIN_AFTER_MS, self.wake(Wake::Again));
            return None;
        }
        if let Some(class) = self.producer.failure.filter(|_| fails_with_records(&call.action)) {
            return Some(failed(class, "records were refused"));
        }
        if matches!(call.action, Action::Flush { .. }) && !call.delivers {
            call.requests = self.producer.deliver();
            call.delivers = true;
        }
        let Some(request) = call.requests.front() else { return Some(self.finish(call, world)) };
        call.id = world.send(self.process, request.clone());
        let timeout = self.wake(Wake::Timeout(call.id));
        self.call = Some(call);
        world.schedule(REQUEST_TIMEOUT_MS, timeout);
        None
    }

    /// The request that is out was not answered in time: again, on a new connection.
    pub fn timed_out(&mut self, id: u64, world: &mut World) -> Option<News> {
        if self.is_flying(id) {
            self.resend(world);
            return None;
        }
        let call = self.call.take_if(|call| call.id == id)?;
        self.producer.disconnected = true;
        self.again(call, world)
    }

    /// The broker could not do it yet.
    pub fn again(&mut self, call: Call, world: &mut World) -> Option<News> {
        if world.now < call.until {
            return self.go_on(call, world);
        }
        match call.action {
            Action::ReadState { .. } => Some(self.finish(call, world)),
            _ => Some(failed(ErrorClass::Indeterminate, "timed out")),
        }
    }

    /// A reply has come; one to a request that was given up changes nothing.
    pub fn replied(&mut self, id: u64, reply: Reply, world: &mut World) -> Option<News> {
        if self.is_flying(id) {
            let refusal = if let Reply::Refused(refusal) = reply { Some(refusal) } else { None };
            self.landed(refusal, world);
            return None;
        }
        let mut call = self.call.take_if(|call| call.id == id)?;
        match reply {
            Reply::Refused(refusal) => return self.refused(call, refusal, world),
            Reply::Producer(identity) => self.producer.identity = Some(identity),
            Reply::Offsets(offsets) => return Some(fetched(&call.action, &offsets)),
            Reply::Ends(ends) => {
                call.requests.push_back(self.fetch(&ends, world.layout));
                call.ends = ends;
            }
            Reply::Records(read) => {
                let (now, is_quiet, layout) = (world.now, world.is_quiet, world.layout);
                let speaks =
                    |partition: &Partition| is_quiet || self.silent.get(partition).is_none_or(|until| now >= *until);
                for (partition, next, records) in read.into_iter().filter(|(partition, ..)| speaks(partition)) {
                    let view = self.views.entry(layout.lane(partition)).or_default();
                    view.position = next;
                    records.into_iter().for_each(|record| view.add(record));
                }
                let is_short =
                    |(partition, end): &(Partition, usize)| self.views[&layout.lane(*partition)].position < *end;
                if call.ends.iter().any(is_short) && world.now < call.until {
                    call.requests = VecDeque::from([self.fetch(&call.ends, layout)]);
                    call.id = 0;
                    self.call = Some(call);
                    world.schedule(AGAIN_AFTER_MS, self.wake(Wake::Again));
                    return None;
                }
            }
            Reply::Done | Reply::Joined { .. } | Reply::Members(_) => {}
        }
        call.requests.pop_front();
        self.go_on(call, world)
    }

    fn refused(&mut self, call: Call, refusal: Refusal, world: &mut World) -> Option<News> {
        let is_abort = matches!(call.action, Action::Abort { .. });
        let is_end = is_abort || matches!(call.action, Action::Commit { .. });
        let class = match refusal {
            Refusal::Concurrent => {
                self.call = Some(Call { id: 0, ..call });
                world.schedule(AGAIN_AFTER_MS, self.wake(Wake::Again));
                return None;
            }
            Refusal::Fenced => ErrorClass::Fenced,
            Refusal::Unstable => ErrorClass::Retriable,
            Refusal::InvalidState if is_end => ErrorClass::Fatal,
            _ => ErrorClass::Abortable,
        };
        Some(failed(class, &format!("{refusal:?}")))
    }

    /// Every request of an action was answered.
    fn finish(&mut self, call: Call, world: &mut World) -> News {
        let disconnected = self.producer.disconnected;
        match call.action {
            Action::NewProducer { .. } => News::ProducerReady,
            Action::Flush { .. } => {
                self.producer.delivered();
                News::Flushed
            }
            Action::Produce { .. } => {
                if call.delivers {
                    self.producer.delivered();
                }
                News::Produced
            }
            Action::SendOffsets { .. } => News::OffsetsSent,
            Action::Commit { .. } => News::TransactionCommitted { disconnected },
            Action::Abort { .. } => News::Aborted { disconnected },
            Action::ReadState { lanes, .. } => {
                let found = |lane: &Lane| {
                    let view = self.views.entry(*lane).or_default();
                    let end = call.ends.iter().find(|(partition, _)| world.layout.lane(*partition) == *lane);
                    let reached = end.is_some_and(|(_, end)| view.position >= *end);
                    StateFound { lane: *lane, reached, manifests: view.manifests() }
                };
                News::StateRead { lanes: lanes.iter().map(found).collect() }
            }
            other => {
                world.oracle.fail(format!("{other:?} is no call"));
                News::Done
            }
        }
    }

    /// Actions that need no broker.
    fn perform_here(&mut self, action: &Action, world: &mut World) -> News {
        match action {
            Action::Restore { lanes } => return self.restore(lanes, world),
            Action::Seek { lanes } => {
                let seek = |start: &streamcore::checkpoint::machine::Start| {
                    let offset = start.offsets[0].unwrap_or(0);
                    if start.lane != MEETING {
                        self.positions.insert(start.lane, offset);
                    }
                    LaneOffsets { lane: start.lane, offsets: vec![offset] }
                };
                return News::Sought { lanes: lanes.iter().map(seek).collect() };
            }
            Action::Begin => {
                self.producer.begin();
                self.first_metadata.get_or_insert((self.consumer.generation, self.consumer.member));
                return News::Began;
            }
            Action::Seal => {
                let seal = world.random.next();
                return News::Sealed { lanes: self.engine.seal(&self.feed, seal, world.layout.meets) };
            }
            Action::Rollback { lanes } => self.roll_back(lanes, world),
            Action::Keep { lanes } => {
                self.engine.keep(lanes);
                self.undecided.clear();
                self.written.clear();
            }
            Action::Publish { lanes } => {
                if world.random.chance(20) {
                    return failed(ErrorClass::Retriable, "no space left");
                }
                for lane in lanes {
                    if !self.engine.publish(lane, &mut world.disk) {
                        world.oracle.fail(format!("a file of {lane:?} is gone, and its epoch is committed"));
                    }
                    world.disk.sweep(lane.lane, lane.epoch, &[]);
                }
            }
            Action::Drop { lanes, keep_cache } => {
                self.undecided.retain(|lane| !lanes.contains(lane));
                // Theirs may be committed, which whoever has the lane next finds out.
                self.written.retain(|(lane, ..)| !lanes.contains(lane));
                if self.undecided.is_empty() {
                    self.roll_back(lanes, world);
                }
                for lane in lanes {
                    self.engine.forget(*lane, *keep_cache);
                    self.views.remove(lane);
                }
            }
            _ => {}
        }
        News::Done
    }

    /// All lanes are taken back; those that are fed and not among `lanes`, of which it is said later, are read again.
    fn roll_back(&mut self, lanes: &[Lane], world: &mut World) {
        self.engine.roll_back();
        self.undecided.clear();
        world.disk.remove(&std::mem::take(&mut self.written));
        for lane in self.feed.iter().filter(|lane| **lane != MEETING && !lanes.contains(lane)) {
            if let Some(state) = self.engine.lanes.get(lane) {
                self.positions.insert(*lane, state.kept.next);
            }
        }
    }

    fn restore(&mut self, lanes: &[RestoreLane], world: &mut World) -> News {
        let mut restored = Vec::new();
        for ask in lanes {
            let view = self.views.entry(ask.lane).or_default();
            let manifest = ask.manifest.as_ref().and_then(|found| view.find(found.owner_epoch, found.epoch));
            let (epoch, files) = manifest.map_or((0, [].as_slice()), |record| (record.manifest.epoch, &record.files));
            if world.disk.is_behind(ask.lane, epoch) {
                return failed(ErrorClass::Retriable, "files are of later epochs");
            }
            if let Some(gone) = world.disk.gone(files) {
                world.oracle.fail(format!("the file {gone:?} is gone, and its epoch is committed"));
            }
            world.disk.sweep(ask.lane, epoch, files);
            self.written.retain(|(lane, ..)| *lane != ask.lane);
            let Some(()) = self.engine.restore(ask.lane, ask.manifest.as_ref(), ask.trust_cache, view) else {
                return failed(ErrorClass::Fatal, "a block is missing");
            };
            let state = &self.engine.lanes[&ask.lane].now;
            restored.push(RestoredLane { lane: ask.lane, clock_ms: state.clock_ms(ask.lane), digest: state.digest() });
        }
        if self.engine.lacks_shared() {
            return failed(ErrorClass::Fatal, "lanes have committed epochs, and what they share has none");
        }
        News::Restored { lanes: restored }
    }

    fn renew_producer(&mut self) {
        self.producer = crate::producer::Producer::default();
        self.flight = None;
        self.engine.take_rows();
    }

    fn produce(&mut self, part: Part, lanes: &[streamcore::checkpoint::machine::LaneEpoch], world: &mut World) {
        use crate::requests::Record;
        match part {
            Part::Outputs => {
                let mut batches: BTreeMap<Partition, Vec<Record>> = BTreeMap::new();
                for row in self.engine.take_rows() {
                    batches.entry(world.layout.output(row.key())).or_default().push(Record::Row(row));
                }
                batches.into_iter().for_each(|(partition, records)| self.producer.queue(partition, records));
            }
            Part::State => {
                self.undecided = lanes.iter().map(|of| of.lane).collect();
                self.written.extend(world.disk.write(lanes, |lane| self.engine.seal_of(lane)));
                lanes.iter().for_each(|of| self.producer.queue(world.layout.state(of.lane), self.engine.blocks(of)));
            }
            Part::Manifests => {
                for of in lanes {
                    let record = Record::Manifest(Box::new(self.engine.manifest(of)));
                    self.producer.queue(world.layout.state(of.lane), vec![record]);
                }
            }
        }
    }

    /// The requests of `send_offsets`; none: somebody else's membership.
    fn offsets(
        &mut self,
        lanes: &[LaneOffsets],
        member: &str,
        group: GroupMetadata,
        world: &World,
    ) -> Option<VecDeque<Request>> {
        let producer = self.producer.identity?;
        let (generation, id) = match group {
            GroupMetadata::Assigned => (self.consumer.assigned.1, self.consumer.assigned.0),
            GroupMetadata::Fresh if self.consumer.name() != member => return None,
            GroupMetadata::Fresh => (self.consumer.generation, self.consumer.member),
            GroupMetadata::First => self.first_metadata?,
            GroupMetadata::Missing => (-1, 0),
        };
        let of_inputs = lanes.iter().filter(|of| of.lane != MEETING);
        let mut offsets: Vec<(Lane, i64)> = of_inputs.map(|of| (of.lane, of.offsets[0])).collect();
        if offsets.is_empty() {
            // What lanes share has no offset, and a transaction without any is not fenced.
            let fed = self.feed.iter().filter(|lane| **lane != MEETING);
            offsets = fed.filter_map(|lane| Some((*lane, *self.positions.get(lane)?))).collect();
        }
        let partitions = vec![world.layout.offsets()];
        self.producer.added.extend(&partitions);
        Some(VecDeque::from([
            Request::AddPartitions { producer, partitions },
            Request::CommitOffsets { producer, generation, member: id, offsets },
        ]))
    }

    /// The request that ends a transaction; none where the broker knows of none.
    fn end(&mut self, commit: bool) -> VecDeque<Request> {
        if !commit {
            self.stop_sending();
            self.producer.failure = None;
            self.engine.take_rows();
        }
        match self.producer.identity {
            Some(producer) if !self.producer.added.is_empty() => {
                VecDeque::from([Request::EndTransaction { producer, commit }])
            }
            _ => VecDeque::new(),
        }
    }

    /// Leaders of some of the partitions do not answer for a while.
    fn fall_silent(&mut self, lanes: &[Lane], world: &mut World) {
        if world.is_quiet || world.weather.silences == 0 {
            return;
        }
        for lane in lanes {
            if world.random.chance(world.weather.silences) {
                let until = world.now + world.random.between(200, 2_000);
                self.silent.insert(world.layout.state(*lane), until);
            }
        }
    }

    fn fetch(&mut self, ends: &[(Partition, usize)], layout: Layout) -> Request {
        let position = |(partition, _): &(Partition, usize)| {
            (*partition, self.views.entry(layout.lane(*partition)).or_default().position)
        };
        Request::Fetch { partitions: ends.iter().map(position).collect() }
    }

    pub fn wake(&self, wake: Wake) -> Event {
        let process: Process = self.process;
        Event::Wake { process, wake }
    }
}

fn timeout_ms(action: &Action) -> u64 {
    match action {
        Action::NewProducer { timeout_ms }
        | Action::FetchCommitted { timeout_ms, .. }
        | Action::ReadState { timeout_ms, .. }
        | Action::Flush { timeout_ms }
        | Action::SendOffsets { timeout_ms, .. }
        | Action::Commit { timeout_ms }
        | Action::Abort { timeout_ms } => *timeout_ms,
        _ => 1_000,
    }
}

/// Whether it begins only when no record is on its way any more.
const fn waits_for_records(action: &Action) -> bool {
    matches!(action, Action::Flush { .. } | Action::Commit { .. } | Action::Abort { .. })
}

/// Whether the client refuses it once a record was refused.
const fn fails_with_records(action: &Action) -> bool {
    matches!(action, Action::Produce { .. } | Action::SendOffsets { .. } | Action::Flush { .. } | Action::Commit { .. })
}

/// What the group has of the lanes that were asked for: nothing, of what they share.
fn fetched(asked: &Action, offsets: &[(Lane, Option<i64>)]) -> News {
    let Action::FetchCommitted { lanes, .. } = asked else { return failed(ErrorClass::Fatal, "nothing was asked") };
    let known = |lane: &Lane| offsets.iter().find(|(one, _)| one == lane).and_then(|(_, offset)| *offset);
    News::CommittedFetched {
        lanes: lanes.iter().map(|lane| GroupOffsets { lane: *lane, offsets: vec![known(lane)] }).collect(),
    }
}

fn failed(error: ErrorClass, message: &str) -> News {
    News::Failed { error, message: message.to_owned() }
}
