//! The epoch commit of one worker: events in, actions out.
//!
//! Before it: the executor (`python/streamcore`), which polls, pushes and knows the clients. After it: the same, which
//! carries out the [`Action`]s. Nothing here knows Kafka's client or the engine; time is an argument. Inside, [`recovery`]
//! brings lanes to their last committed epoch, [`commit`] ends epochs, [`failure`] decides what an error means, and
//! [`rebalance`] gives lanes away. Each puts steps in a queue; one step is out at a time.
//!
//! Invariant: the machine is a function of the events it was given. The same events give the same actions, so a recorded
//! trace can be replayed ([`trace`]), and what the simulator ran is what runs against a broker.

pub mod action;
mod choice;
mod commit;
pub mod event;
mod failure;
mod lanes;
mod rebalance;
mod recovery;
pub mod settings;
#[cfg(test)]
mod tests;
pub mod trace;

pub use action::{Action, ExitCode, GroupMetadata, LaneEpoch, LaneOffsets, Level, Part, ReadEnd, RestoreLane, Start};
pub use event::{ErrorClass, Event, GroupOffsets, Lane, Manifest, RestoredLane, SealedLane, StateFound};
pub use settings::{Bug, Settings};

use lanes::{Lanes, Stage, in_stage, is_meeting};
use std::collections::{BTreeSet, VecDeque};

/// The commit machine of one worker, for one run of the process.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Budgets and seeded bugs.
    settings: Settings,
    /// The time of the last event; never falls.
    now_ms: u64,
    /// The lanes of this worker.
    lanes: Lanes,
    /// The member that owns them; empty before the first assignment.
    member: String,
    /// Since when a new producer is needed; none: there is one.
    producer_needed_ms: Option<u64>,
    /// Whether a transaction is open in the producer.
    begun: bool,
    /// Steps that are to come, and the one that is out.
    queue: VecDeque<Action>,
    current: Option<Action>,
    /// When the step that is out was first given, and whether the next one is that step again.
    call_started_ms: u64,
    repeats: bool,
    /// Epochs in a row that failed.
    failures: u32,
    /// Nothing is fed or committed before.
    backoff_until_ms: u64,
    /// Recovery takes no step before.
    recover_at_ms: u64,
    /// A recovery that takes long is not told of before.
    warn_at_ms: u64,
    /// Inside `Revoked` or `Stop`: when it must be over.
    deadline_ms: Option<u64>,
    /// Revoked lanes that go when the queue is empty.
    leaving: Vec<Lane>,
    /// Lanes with committed files that could not be published, and when that is tried again.
    unpublished: BTreeSet<Lane>,
    publish_at_ms: u64,
    /// Set by `Stop`: what to exit with when the queue is empty.
    stopping: Option<ExitCode>,
    /// `Exit` was given.
    ended: bool,
    /// Lines that go out before the next step.
    reports: Vec<Action>,
}

impl Machine {
    /// A machine that has seen nothing yet; the first event is [`Event::Start`].
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            now_ms: 0,
            lanes: Lanes::new(),
            member: String::new(),
            producer_needed_ms: Some(0),
            begun: false,
            queue: VecDeque::new(),
            current: None,
            call_started_ms: 0,
            repeats: false,
            failures: 0,
            backoff_until_ms: 0,
            recover_at_ms: 0,
            warn_at_ms: 0,
            deadline_ms: None,
            leaving: Vec::new(),
            unpublished: BTreeSet::new(),
            publish_at_ms: 0,
            stopping: None,
            ended: false,
            reports: Vec::new(),
        }
    }

    /// Takes what happened at `now_ms` (any monotonic clock) and says what to do: reports, then one step.
    pub fn handle(&mut self, event: Event, now_ms: u64) -> Vec<Action> {
        if self.ended {
            return Vec::new();
        }
        self.now_ms = self.now_ms.max(now_ms);
        match (self.current.take(), event) {
            (None, event) => self.news(event),
            (Some(step), Event::Failed { error, message }) => self.failed(step, error, &message),
            (Some(step), event) => self.succeeded(step, event),
        }
        let step = self.next_step();
        let mut actions = std::mem::take(&mut self.reports);
        actions.push(step);
        actions
    }

    /// Something happened to the worker.
    fn news(&mut self, event: Event) {
        match event {
            Event::Start => {
                self.producer_needed_ms = Some(self.now_ms);
                self.queue.push_back(new_producer());
            }
            Event::Tick => self.tick(),
            Event::Assigned { lanes, member, continuous } => self.assigned(lanes, member, continuous),
            Event::Revoked { lanes, within_ms, continuous } => self.revoked(lanes, within_ms, continuous),
            Event::Lost { lanes } => self.lost(&lanes),
            Event::OutputReady => self.send_early(),
            Event::Due => self.due(),
            Event::Stop { within_ms } => self.stop(within_ms),
            answer => self.misused(&format!("no action is out, but it was answered with {answer:?}")),
        }
    }

    /// A step was carried out.
    fn succeeded(&mut self, step: Action, event: Event) {
        match (step, event) {
            (Action::NewProducer { .. }, Event::ProducerReady) => self.producer_needed_ms = None,
            (Action::FetchCommitted { .. }, Event::CommittedFetched { lanes }) => self.fetched(lanes),
            (Action::ReadState { .. }, Event::StateRead { lanes }) => self.read(lanes),
            (Action::Restore { lanes: asked }, Event::Restored { lanes }) => self.restored(&asked, &lanes),
            (Action::Seek { .. }, Event::Sought { lanes }) => self.sought(lanes),
            (Action::Begin, Event::Began) => self.begun = true,
            (Action::Seal, Event::Sealed { lanes }) => self.sealed(lanes),
            (Action::Commit { .. }, Event::TransactionCommitted { disconnected }) => self.committed(disconnected),
            (Action::Abort { .. }, Event::Aborted { disconnected }) => self.aborted(disconnected),
            (Action::Rollback { lanes }, Event::Done) => self.rolled_back(&lanes),
            (Action::Publish { lanes }, Event::Done) => {
                for lane in lanes {
                    self.unpublished.remove(&lane.lane);
                }
            }
            (Action::SendOffsets { .. }, Event::OffsetsSent)
            | (Action::Produce { .. }, Event::Produced)
            | (Action::Flush { .. }, Event::Flushed)
            | (
                Action::Keep { .. } | Action::WriteCache { .. } | Action::Drop { .. } | Action::Wait { .. },
                Event::Done,
            ) => {}
            (step, event) => self.misused(&format!("{step:?} was answered with {event:?}")),
        }
    }

    /// The step to give now: from the queue, or what follows from there being none.
    fn next_step(&mut self) -> Action {
        if self.is_late() {
            self.doubt("the time for it was over before it was committed");
        }
        if self.queue.is_empty() && !self.leaving.is_empty() {
            self.let_go();
        }
        let Some(step) = self.queue.pop_front() else { return self.rest() };
        if let Action::Exit { .. } = step {
            self.ended = true;
            return step;
        }
        let step = self.bounded(step);
        let is_pause = matches!(step, Action::Wait { .. });
        if !is_pause && !std::mem::take(&mut self.repeats) {
            self.call_started_ms = self.now_ms;
        }
        self.current = Some(step.clone());
        step
    }

    /// Nothing is to be done: let the loop go on.
    fn rest(&mut self) -> Action {
        self.deadline_ms = None;
        if let Some(code) = self.stopping {
            self.ended = true;
            let (code, message) = match code {
                ExitCode::Stopped if self.unpublished.is_empty() => (code, "stopped, everything is committed"),
                ExitCode::Stopped => {
                    (ExitCode::Failed, "stopped, everything is committed; the next start gives files their names")
                }
                _ => (code, "stopped, the last epoch may be read again"),
            };
            return Action::Exit { code, message: message.to_owned() };
        }
        Action::Rest { feed: self.fed(), tick_ms: self.tick_ms() }
    }

    /// The lanes that are fed, of which an epoch is. Where they meet it is none before all are live: what one hands over would
    /// be added to nothing, and their common clock would not wait for the others.
    fn fed(&self) -> Vec<Lane> {
        let live = in_stage(&self.lanes, Stage::Live);
        let do_meet = self.lanes.keys().copied().any(is_meeting) && !self.settings.has(Bug::FeedBeforeMeeting);
        let is_early = do_meet && live.len() < self.lanes.len();
        if self.can_commit() && !is_early { live } else { Vec::new() }
    }

    /// How long until there is something to do unasked.
    fn tick_ms(&self) -> Option<u64> {
        let backoff = (self.now_ms < self.backoff_until_ms).then_some(self.backoff_until_ms);
        let producer = self.producer_needed_ms.map(|_| self.backoff_until_ms);
        let recovers = self.producer_needed_ms.is_none() && self.lanes.values().any(|lane| lane.stage != Stage::Live);
        let recovery = recovers.then_some(self.recover_at_ms.max(self.backoff_until_ms));
        let publish = (!self.unpublished.is_empty()).then_some(self.publish_at_ms);
        let soonest = [backoff, producer, recovery, publish].into_iter().flatten().min();
        soonest.map(|at| at.saturating_sub(self.now_ms))
    }

    /// Time has passed: a producer first, then recovery, then files that wait.
    fn tick(&mut self) {
        if self.now_ms < self.backoff_until_ms {
            return;
        }
        if self.producer_needed_ms.is_some() {
            self.queue.push_back(new_producer());
        } else if self.now_ms >= self.recover_at_ms && self.recover() {
        } else if !self.unpublished.is_empty() && self.now_ms >= self.publish_at_ms {
            let lanes = self.epochs(&self.unpublished.iter().copied().collect::<Vec<_>>());
            self.queue.push_back(Action::Publish { lanes });
        }
    }

    /// The last committed epochs of lanes.
    fn epochs(&self, lanes: &[Lane]) -> Vec<LaneEpoch> {
        let kept = |lane: &Lane| self.lanes.get(lane).and_then(|owned| owned.kept.as_ref());
        let epoch = |lane: &Lane| {
            kept(lane).map(|kept| LaneEpoch { lane: *lane, owner_epoch: kept.owner_epoch, epoch: kept.epoch })
        };
        lanes.iter().filter_map(epoch).collect()
    }

    /// Whether an epoch may be ended and committed now.
    fn can_commit(&self) -> bool {
        self.producer_needed_ms.is_none() && self.now_ms >= self.backoff_until_ms
    }

    fn report(&mut self, level: Level, message: impl Into<String>) {
        self.reports.push(Action::Report { level, message: message.into() });
    }

    /// Ends the run: nothing else is done.
    fn exit(&mut self, code: ExitCode, message: impl Into<String>) {
        self.queue.clear();
        self.leaving.clear();
        self.deadline_ms = None;
        self.queue.push_back(Action::Exit { code, message: message.into() });
    }

    /// The executor broke the protocol of `event.rs`.
    fn misused(&mut self, what: &str) {
        self.exit(ExitCode::Failed, format!("the commit machine was misused, this is a bug: {what}"));
    }
}

/// The timeout is filled in when the step is given.
fn new_producer() -> Action {
    Action::NewProducer { timeout_ms: 0 }
}
