//! Records that are on their way while their worker goes on: what a client's own thread sends.
//!
//! Invariant: an end of the transaction is asked for only when none is on its way any more; what was not sent by then is not sent.

use crate::requests::{Refusal, Request, Time};
use crate::worker::Worker;
use crate::world::{REQUEST_TIMEOUT_MS, Wake, World};
use std::collections::VecDeque;
use streamcore::checkpoint::machine::ErrorClass;

/// Between two attempts at what the broker cannot do yet.
const AGAIN_AFTER_MS: Time = 15;

/// Requests, one after the other; the first one is out.
pub struct Flight {
    requests: VecDeque<Request>,
    /// Of the request that is out; 0 while it waits to be sent again.
    id: u64,
}

impl Worker {
    /// What is queued is sent, and not waited for.
    pub fn take_off(&mut self, world: &mut World) {
        let requests = self.producer.deliver();
        self.producer.delivered();
        self.send_first(requests, world);
    }

    fn send_first(&mut self, requests: VecDeque<Request>, world: &mut World) {
        self.flight = None;
        let Some(request) = requests.front() else { return };
        let id = world.send(self.process, request.clone());
        world.schedule(REQUEST_TIMEOUT_MS, self.wake(Wake::Timeout(id)));
        self.flight = Some(Flight { requests, id });
    }

    /// Whether this request is of the flight.
    pub fn is_flying(&self, id: u64) -> bool {
        self.flight.as_ref().is_some_and(|flight| flight.id == id)
    }

    /// The request that is out was answered.
    pub fn landed(&mut self, refusal: Option<Refusal>, world: &mut World) {
        let Some(mut flight) = self.flight.take() else { return };
        let class = match refusal {
            None => {
                flight.requests.pop_front();
                return self.send_first(flight.requests, world);
            }
            Some(Refusal::Concurrent) => {
                self.flight = Some(Flight { id: 0, ..flight });
                return world.schedule(AGAIN_AFTER_MS, self.wake(Wake::Resend));
            }
            Some(Refusal::Fenced) => ErrorClass::Fenced,
            Some(_) => ErrorClass::Abortable,
        };
        self.producer.drop_unsent(&mut flight.requests, 0);
        self.producer.failure = Some(class);
    }

    /// The request that is out is sent again, on a new connection where it was not answered in time.
    pub fn resend(&mut self, world: &mut World) {
        let Some(flight) = self.flight.take() else { return };
        self.producer.disconnected |= flight.id != 0;
        self.send_first(flight.requests, world);
    }

    /// An abort: what is on its way arrives, the rest is not sent.
    pub fn stop_sending(&mut self) {
        self.producer.purge();
        if let Some(flight) = &mut self.flight {
            self.producer.drop_unsent(&mut flight.requests, 1);
        }
    }
}
