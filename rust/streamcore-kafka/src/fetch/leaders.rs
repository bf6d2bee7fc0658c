//! The thread that knows who leads: it asks the cluster, and starts a thread for each broker that is fetched from.
//!
//! `fetch.rs` starts it; `partitions.rs` says when a leader is missing, and takes over what is found. Invariant: what the cluster cannot tell
//! is asked again after a pause, for as long as somebody waits for it.

use super::broker::Fetching;
use super::partitions::{Errand, Shared};
use crate::cluster::{self, Cluster};
use crate::connection::{Backoff, Dialer};
use crate::failure::{Cause, Failure, said};
use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::Builder;
use std::time::Instant;

/// Starts the thread.
pub fn start(shared: &Arc<Shared>, dialer: &Dialer) -> io::Result<()> {
    let (theirs, dialer) = (Arc::clone(shared), dialer.clone());
    spawn(shared, "kafka-leaders".to_owned(), move || {
        while let Err(message) = guarded(|| Leaders::new(&theirs, &dialer).run()) {
            theirs.panicked(None, &message);
            let mut backoff = Backoff::new(dialer.config());
            if !dialer.stop().sleep(backoff.pause()) {
                return;
            }
        }
    })
}

fn start_broker(shared: &Arc<Shared>, dialer: &Dialer, broker: i32) -> io::Result<()> {
    let (theirs, dialer) = (Arc::clone(shared), dialer.clone());
    spawn(shared, format!("kafka-fetch-{broker}"), move || {
        if let Err(message) = guarded(|| Fetching::new(&theirs, &dialer, broker).run()) {
            theirs.panicked(Some(broker), &message);
            theirs.not_running(broker);
        }
    })
}

/// Starts a thread that is counted until it ends.
fn spawn(shared: &Arc<Shared>, name: String, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    shared.thread_began();
    let theirs = Arc::clone(shared);
    let spawned = Builder::new().name(name).spawn(move || {
        body();
        theirs.thread_ended();
    });
    spawned.map(drop).inspect_err(|_| shared.thread_ended())
}

/// Runs `body`; a panic is its message.
fn guarded(body: impl FnOnce()) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(body)).map_err(|payload| said(message(&*payload)))
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a message")
}

/// Asks for leaders.
struct Leaders<'a> {
    shared: &'a Arc<Shared>,
    dialer: &'a Dialer,
    cluster: Cluster,
    backoff: Backoff,
    /// When leaders are asked for though nobody misses one.
    refresh_at: Instant,
    /// Failures one after the other that will not pass.
    refusals: u32,
}

impl<'a> Leaders<'a> {
    fn new(shared: &'a Arc<Shared>, dialer: &'a Dialer) -> Self {
        let refresh_at = Instant::now() + shared.settings.metadata_age_max;
        let backoff = Backoff::new(dialer.config());
        Self { shared, dialer, cluster: Cluster::new(dialer.clone()), backoff, refresh_at, refusals: 0 }
    }

    fn run(&mut self) {
        loop {
            match self.shared.wait_for_errand(self.refresh_at) {
                Errand::Stop => return,
                Errand::Start(brokers) => brokers.into_iter().for_each(|broker| self.start(broker)),
                Errand::Look(topics) => self.look(&topics),
            }
        }
    }

    fn start(&self, broker: i32) {
        if let Err(error) = start_broker(self.shared, self.dialer, broker) {
            let cause = Cause::Unreachable(said(&format!("no thread for it: {error}")));
            self.shared.fail(broker, &Failure::new(format!("number {broker}"), cause), false);
            self.shared.not_running(broker);
        }
    }

    fn look(&mut self, topics: &[Arc<str>]) {
        let names: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
        let deadline = Instant::now() + self.dialer.config().setup_timeout;
        match self.cluster.look(&names, deadline) {
            Ok(faults) => {
                self.backoff.reset();
                self.refusals = 0;
                self.refresh_at = Instant::now() + self.shared.settings.metadata_age_max;
                let of_topic = |topic: &str, error| self.cluster.failure(cluster::topic_cause(topic, error));
                self.shared.lead(self.cluster.view(), &faults, of_topic);
            }
            Err(failure) => {
                self.refusals = if failure.is_passing() { 0 } else { self.refusals + 1 };
                self.refresh_at = Instant::now() + self.backoff.pause();
                self.shared.leaderless(&failure, self.refusals > 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_message() {
        assert_eq!(guarded(|| ()), Ok(()));
        assert_eq!(guarded(|| panic!("number {}", 7)), Err("number 7".to_owned()));
        assert_eq!(guarded(|| panic!("plain")), Err("plain".to_owned()));
    }
}
