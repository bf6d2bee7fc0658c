//! The thread of one broker: asks it for records, and walks them while it looks for the next ones.
//!
//! `leaders.rs` starts it, `partitions.rs` says what to ask for and takes what comes. Invariants: one request is under way at most, and the
//! next one goes out before the answer is walked; what fails is told to the partitions, and tried again after a pause.

use super::answer;
use super::partitions::{Outcome, Plan, Rest, Set, Shared, scanned};
use super::session::{Applied, Session, Terms};
use crate::aborted::AbortedTransaction;
use crate::cluster::Isolation;
use crate::connection::{Backoff, Connection, Dialer, Sent};
use crate::failure::{Cause, Failure, Result};
use crate::records::{Asked, Course, End, Walked, Walker};
use crate::shape::Answered as _;
use kafka_protocol::messages::FetchRequest;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use streamcore::buffer::Buffer;
use streamcore::raw::PADDING;

/// What is behind the last record set of a frame.
const BLANKS: [u8; PADDING] = [b' '; PADDING];

/// A piece of a set ends once this part of the queue was decompressed: one in four bytes.
const PIECE_SHARE: usize = 4;

/// Fetches from one broker.
#[derive(Debug)]
pub struct Fetching<'a> {
    shared: &'a Shared,
    dialer: &'a Dialer,
    broker: i32,
    walker: Walker,
    link: Option<Link>,
    backoff: Backoff,
    /// Failures one after the other that will not pass.
    refusals: u32,
    /// When the broker wants to hear from us again.
    not_before: Option<Instant>,
}

/// A connection and what was agreed over it.
#[derive(Debug)]
struct Link {
    connection: Connection,
    session: Session,
    /// Whether the last answer was that the session is over.
    is_anew: bool,
}

/// A request under way.
#[derive(Debug)]
struct Flight {
    sent: Sent<FetchRequest>,
    version: i16,
    /// How long its answer may take from when it is waited for: until then a full queue may have kept us.
    patience: Duration,
}

/// What came.
#[derive(Debug)]
struct Arrived {
    frame: Buffer,
    sets: Vec<Set>,
}

/// What comes behind a piece of a set.
#[derive(Debug)]
enum Turn {
    /// The next one.
    GoesOn,
    /// Nothing: it was the last, and its records stay in the frame.
    Stays(Box<Walked>),
    /// Nothing.
    Over,
}

impl<'a> Fetching<'a> {
    /// Nothing is asked for yet.
    pub fn new(shared: &'a Shared, dialer: &'a Dialer, broker: i32) -> Self {
        let settings = &shared.settings;
        let piece_bytes_max = settings.records.piece_bytes_max.min(settings.queued_bytes_max / PIECE_SHARE);
        let walker = Walker::new(crate::records::Settings { piece_bytes_max, ..settings.records });
        let backoff = Backoff::new(dialer.config());
        Self { shared, dialer, broker, walker, link: None, backoff, refusals: 0, not_before: None }
    }

    /// Goes on until nobody needs it.
    pub fn run(&mut self) {
        let mut under_way = None;
        loop {
            let flight = under_way.take().map_or_else(|| self.begin(), |flight| Some(Ok(flight)));
            let arrived = match flight {
                None => return,
                Some(flight) => flight.and_then(|flight| self.receive(flight)),
            };
            match arrived.and_then(|arrived| self.go_on(arrived)) {
                Ok(flight) => under_way = flight,
                Err(failure) if self.fail(&failure) => {}
                Err(_) => return,
            }
        }
    }

    /// Waits for something to ask for, and asks; none where the thread is to end.
    fn begin(&mut self) -> Option<Result<Flight>> {
        let left = self.not_before.take().map(|at| at.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| !self.dialer.stop().sleep(left)) {
            return None;
        }
        let plan = self.shared.wait_for_plan(self.broker)?;
        Some(self.send(plan))
    }

    /// Asks for what comes next, and walks what came.
    fn go_on(&mut self, arrived: Arrived) -> Result<Option<Flight>> {
        let plan = if self.not_before.is_none() { self.shared.plan(self.broker) } else { None };
        let flight = plan.map(|plan| self.send(plan)).transpose();
        self.walk(arrived);
        flight
    }

    fn send(&mut self, plan: Plan) -> Result<Flight> {
        let unknown = || Failure::new(format!("number {}", self.broker), Cause::Name("it is not listed".to_owned()));
        let address = plan.address.ok_or_else(unknown)?;
        let link = match &mut self.link {
            Some(link) => link,
            none => {
                let connection = self.dialer.open(&address)?;
                none.insert(Link { connection, session: Session::default(), is_anew: false })
            }
        };
        let version = link.connection.version_upto::<FetchRequest>(Session::version_max(&plan.wanted))?;
        let (settings, config) = (&self.shared.settings, self.dialer.config());
        let terms = Terms {
            wait_max: plan.wait_max,
            bytes_max: i32::try_from(plan.bytes_max).unwrap_or(i32::MAX),
            committed: settings.isolation == Isolation::Committed,
            rack: config.rack.clone().filter(|_| !plan.avoids_replicas).unwrap_or_default(),
        };
        let request = link.session.request(plan.wanted, &terms, version);
        let patience = terms.wait_max + config.request_timeout;
        let sent = link.connection.send(&request, version, Instant::now() + patience)?;
        Ok(Flight { sent, version, patience })
    }

    fn receive(&mut self, flight: Flight) -> Result<Arrived> {
        let Some(link) = &mut self.link else {
            return Err(Failure::new(
                self.broker,
                Cause::Closed { doing: FetchRequest::NAME, hint: "it is tried again" },
            ));
        };
        let mut frame = Buffer::default();
        let begin = link.connection.receive(flight.sent, Instant::now() + flight.patience, &mut frame)?;
        let name = link.connection.broker();
        let named = |cause| Failure::new(name, cause);
        let answer = answer::read(&frame, begin, flight.version)
            .map_err(|fault| named(Cause::Malformed { request: FetchRequest::NAME, fault: fault.to_owned() }))?;
        if answer.throttle > Duration::ZERO {
            self.not_before = Some(Instant::now() + answer.throttle.min(self.dialer.config().request_timeout));
        }
        let failed = |error| named(Cause::of_answer("fetching", "READ on its topics", error));
        let told = match link.session.apply(answer, flight.version) {
            Applied::Partitions(told) => told,
            Applied::Anew(error) if link.is_anew => return Err(failed(error)),
            Applied::Anew(_) => {
                link.is_anew = true;
                return Ok(Arrived { frame, sets: Vec::new() });
            }
            Applied::Failed(error) => return Err(failed(error)),
        };
        link.is_anew = false;
        self.backoff.reset();
        self.refusals = 0;
        let with_scan = told.into_iter().map(|one| {
            let scan = scanned(frame.get(one.told.records.clone()).unwrap_or_default(), one.asked.offset);
            (one, scan)
        });
        let with_scan = with_scan.collect();
        let sets = self.shared.arrive(self.broker, name, link.session.asked(), with_scan);
        Ok(Arrived { frame, sets })
    }

    /// Walks the sets that came, a piece of each in turn, so that none waits for all of another. Pieces that were compressed are queued one
    /// by one; what is in the frame, once all sets are walked, since that writes into the frame which they share.
    fn walk(&mut self, arrived: Arrived) {
        let Arrived { mut frame, sets } = arrived;
        if sets.is_empty() {
            return;
        }
        frame.push_bytes(&BLANKS);
        let is_committed = self.shared.settings.isolation == Isolation::Committed;
        let begin = |mut set: Set| {
            let aborted = std::mem::take(&mut set.aborted);
            let course = Course::new(&asked(&set, is_committed.then_some(&aborted)));
            (set, course)
        };
        let mut begun: VecDeque<_> = sets.into_iter().map(begin).collect();
        let mut in_frame = Vec::new();
        while let Some((mut set, mut course)) = begun.pop_front() {
            match self.turn(&mut frame, &mut set, &mut course) {
                Turn::GoesOn => begun.push_back((set, course)),
                Turn::Stays(walked) => in_frame.push((set, *walked)),
                Turn::Over => {}
            }
        }
        let frame = bytes::Bytes::from(frame);
        for (set, walked) in in_frame {
            self.settle(&set, walked, &frame, Rest::None);
        }
    }

    /// Walks the next piece of a set, once there is room for it.
    fn turn(&mut self, frame: &mut Buffer, set: &mut Set, course: &mut Course) -> Turn {
        if !self.shared.wait_for_room(set) {
            self.shared.drop_set(set);
            return Turn::Over;
        }
        let mut walked = self.walker.walk_on(frame, set.records.clone(), &asked(set, None), course);
        if let Some(stop) = set.stop {
            walked.stop_at(stop);
        }
        if !walked.is_unpacked() {
            return Turn::Stays(Box::new(walked));
        }
        let next_offset = walked.next_offset;
        let has_rest = walked.end == End::Full && set.stop.is_none_or(|stop| next_offset < stop);
        let rest = if has_rest { Rest::Follows } else { Rest::None };
        if !self.settle(set, walked, &bytes::Bytes::new(), rest) || !has_rest {
            return Turn::Over;
        }
        set.offset = next_offset;
        Turn::GoesOn
    }

    /// Queues what came of a walk; false where it cannot be used, and the set was let go of.
    fn settle(&self, set: &Set, walked: Walked, frame: &bytes::Bytes, rest: Rest) -> bool {
        let (next_offset, leader_epoch) = (walked.next_offset, walked.leader_epoch);
        let (counts, end, whole_bytes) = (walked.counts, walked.end.clone(), walked.whole_bytes);
        match walked.into_raw(frame) {
            Ok(batch) => {
                let outcome = Outcome { batch, next_offset, leader_epoch, counts, end, whole_bytes, rest };
                self.shared.settle(set, outcome);
                true
            }
            Err(error) => {
                self.shared.break_down(set, &error.to_string());
                false
            }
        }
    }

    /// The broker cannot be used: tells the partitions, and waits; false where the thread is to end.
    fn fail(&mut self, failure: &Failure) -> bool {
        self.link = None;
        // Once it may be an accident.
        self.refusals = if failure.is_passing() { 0 } else { self.refusals + 1 };
        self.shared.fail(self.broker, failure, self.refusals > 1);
        self.dialer.stop().sleep(self.backoff.pause())
    }
}

/// What was asked for.
fn asked<'a>(set: &'a Set, aborted: Option<&'a [AbortedTransaction]>) -> Asked<'a> {
    Asked { topic: &set.place.topic, partition: set.place.partition, offset: set.offset, aborted }
}
