//! A cluster: who leads what, and requests that find their way there.
//!
//! Made of a [`Dialer`]. Whoever fetches asks it for leaders and has connections of its own. Invariant: each call ends by its deadline,
//! with an answer or with the last failure; between two tries there is a pause.

mod offsets;
mod view;

pub use offsets::{At, Isolation, Listed};
pub use view::{Broker, Leader, Topic, View};

use crate::config::Address;
use crate::connection::{Backoff, Connection, Dialer};
use crate::failure::{Cause, Failure, Result, may_pass};
use crate::shape::Answered;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::MetadataRequest;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The first version of Metadata in which a request can say that no topic is to be made.
const NO_CREATION_FROM: i16 = 4;

/// Requests of control to a cluster, one after the other.
#[derive(Debug)]
pub struct Cluster {
    dialer: Dialer,
    /// Those that are open, by address.
    connections: BTreeMap<Address, Connection>,
    view: View,
    backoff: Backoff,
    /// Which of the brokers is asked first next time something is asked of any.
    turn: usize,
}

impl Cluster {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(dialer: Dialer) -> Self {
        let backoff = Backoff::new(dialer.config());
        Self { dialer, connections: BTreeMap::new(), view: View::default(), backoff, turn: 0 }
    }

    /// What is known, without asking.
    #[must_use]
    pub const fn view(&self) -> &View {
        &self.view
    }

    /// Opens a connection of the caller's own.
    #[must_use]
    pub const fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// Asks anew for brokers and the leaders of `topics`, until each of them is known. No topic is made by that, but by a broker of
    /// before 0.11 that makes topics for anyone.
    ///
    /// # Errors
    /// No broker answers by the deadline; a topic that is not there or may not be seen.
    pub fn refresh(&mut self, topics: &[&str], deadline: Instant) -> Result<&View> {
        let mut last = None;
        loop {
            let answer = match self.ask_any(|version| metadata_request(topics, version), deadline) {
                Ok(answer) => answer,
                // What is wrong with the topic says more than that the time was over.
                Err(failure) => return Err(last.filter(|_| failure.is_passing()).unwrap_or(failure)),
            };
            let faults = self.view.apply(&answer);
            let Some((topic, error)) = faults.into_iter().find(|(topic, _)| topics.contains(&topic.as_str())) else {
                self.backoff.reset();
                return Ok(&self.view);
            };
            let failure = self.failure(topic_cause(&topic, error));
            if !may_pass(error) || !self.pause_until(deadline) {
                return Err(failure);
            }
            last = Some(failure);
        }
    }

    /// The same by one answer: gives the topics of which it tells an error, and takes over what it tells of the others.
    ///
    /// # Errors
    /// No broker answers by the deadline.
    pub fn look(&mut self, topics: &[&str], deadline: Instant) -> Result<Vec<(String, ResponseError)>> {
        let answer = self.ask_any(|version| metadata_request(topics, version), deadline)?;
        self.backoff.reset();
        Ok(self.view.apply(&answer))
    }

    /// Forgets connections and asks those brokers first that the settings name, for a cluster that moved.
    pub fn forget(&mut self) {
        self.connections.clear();
        self.view.brokers.clear();
        self.turn = 0;
    }

    /// Makes a request to whoever answers: brokers that are known, then those to begin with.
    fn ask_any<R: Answered>(&mut self, request: impl Fn(i16) -> R, deadline: Instant) -> Result<R::Response> {
        let mut last = None;
        loop {
            for address in self.candidates() {
                match self.call(&address, &request, deadline) {
                    Ok((answer, _)) => return Ok(answer),
                    // What is wrong with one need not be wrong with the next, unless it is wrong with us.
                    Err(failure) if !failure.is_passing() => return Err(failure),
                    Err(failure) => last = later(last, failure, deadline),
                }
                self.turn = self.turn.wrapping_add(1);
            }
            if !self.pause_until(deadline) {
                let nobody = || self.failure(Cause::Timeout { doing: R::NAME, waited: Duration::ZERO });
                return Err(last.unwrap_or_else(nobody));
            }
        }
    }

    /// Whom to ask, beginning with another one each time that one failed.
    fn candidates(&self) -> Vec<Address> {
        let known = self.view.brokers.values().map(|broker| &broker.address);
        let mut all: Vec<Address> = Vec::new();
        for address in known.chain(&self.dialer.config().bootstrap) {
            if !all.contains(address) {
                all.push(address.clone());
            }
        }
        let turn = self.turn % all.len().max(1);
        all.rotate_left(turn);
        all
    }

    /// Makes a request to one broker; gives the version of the answer too. A connection that was closed while nobody used it is opened anew.
    fn call<R: Answered>(
        &mut self,
        address: &Address,
        request: impl Fn(i16) -> R,
        deadline: Instant,
    ) -> Result<(R::Response, i16)> {
        let config = self.dialer.config();
        let call_deadline = deadline.min(Instant::now() + config.request_timeout);
        if let Some(idle) = self.connections.remove(address) {
            match self.call_on(idle, address, &request, call_deadline) {
                Err(failure) if matches!(*failure.cause, Cause::Closed { .. }) => {}
                done => return done,
            }
        }
        let setup_deadline = deadline.min(Instant::now() + self.dialer.config().setup_timeout);
        let opened = self.dialer.open_until(address, setup_deadline)?;
        let call_deadline = deadline.min(Instant::now() + self.dialer.config().request_timeout);
        self.call_on(opened, address, &request, call_deadline)
    }

    fn call_on<R: Answered>(
        &mut self,
        mut connection: Connection,
        address: &Address,
        request: impl Fn(i16) -> R,
        deadline: Instant,
    ) -> Result<(R::Response, i16)> {
        let version = connection.version::<R>()?;
        let answer = connection.call_at(&request(version), version, deadline);
        if connection.is_usable() {
            self.connections.insert(address.clone(), connection);
        }
        answer.map(|answer| (answer, version))
    }

    /// Waits before the next try; false where that would be beyond the deadline.
    fn pause_until(&mut self, deadline: Instant) -> bool {
        let pause = self.backoff.pause();
        let is_in_time = Instant::now() + pause < deadline;
        is_in_time && self.dialer.stop().sleep(pause)
    }

    /// A failure of no broker in particular.
    pub(crate) fn failure(&self, cause: Cause) -> Failure {
        let names: Vec<_> = self.dialer.config().bootstrap.iter().map(ToString::to_string).collect();
        Failure::new(names.join(","), cause)
    }
}

/// The last failure that says something: what fails because the time is over says nothing of the broker.
fn later(last: Option<Failure>, failure: Failure, deadline: Instant) -> Option<Failure> {
    last.filter(|_| Instant::now() >= deadline).or(Some(failure))
}

fn metadata_request(topics: &[&str], version: i16) -> MetadataRequest {
    let topic = |name: &&str| {
        let name = StrBytes::from_string((*name).to_owned());
        MetadataRequestTopic::default().with_name(Some(name.into()))
    };
    let request = MetadataRequest::default().with_topics(Some(topics.iter().map(topic).collect()));
    if version >= NO_CREATION_FROM { request.with_allow_auto_topic_creation(false) } else { request }
}

/// The cause of an error that a broker tells of a topic.
pub(crate) fn topic_cause(topic: &str, error: ResponseError) -> Cause {
    match error {
        ResponseError::UnknownTopicOrPartition => Cause::NoTopic { topic: topic.to_owned() },
        error => Cause::of_answer(format!("describing topic {topic}"), format!("DESCRIBE on topic {topic}"), error),
    }
}

#[cfg(test)]
mod tests;
