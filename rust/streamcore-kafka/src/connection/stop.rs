//! An end to what connections wait for, from another thread.
//!
//! A [`Dialer`](super::Dialer) may have one: its sockets are entered here as soon as they are connected, and pauses between two tries
//! are slept here. Invariant: once stopped, no socket that was or is to be entered can be read, and no sleep lasts.

use std::collections::BTreeMap;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Ends the reads, writes and pauses of all who share it.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Says that it is stopped.
    stopped: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_stopped: bool,
    /// The number of the next socket.
    next: u64,
    /// Those that are open, by number.
    sockets: BTreeMap<u64, TcpStream>,
}

/// A socket that is entered, for as long as this is kept.
#[derive(Debug)]
pub(super) struct Watched {
    stop: Stop,
    number: u64,
}

impl Stop {
    /// Ends all for good.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.is_stopped = true;
        for socket in std::mem::take(&mut state.sockets).into_values() {
            // One that the broker closed is ended already.
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.0.stopped.notify_all();
    }

    /// Whether it was stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.lock().is_stopped
    }

    /// Waits; false where it was stopped instead.
    pub fn sleep(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut state = self.lock();
        while !state.is_stopped {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            state = self.0.stopped.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }

    /// Enters a socket.
    pub(super) fn watch(&self, socket: &TcpStream) -> io::Result<Watched> {
        let socket = socket.try_clone()?;
        let mut state = self.lock();
        if state.is_stopped {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let number = state.next;
        state.next += 1;
        state.sockets.insert(number, socket);
        Ok(Watched { stop: self.clone(), number })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.stop.lock().sockets.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    #[test]
    fn who_reads_and_who_sleeps_is_woken() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let mut socket = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let stop = Stop::default();
        let watched = stop.watch(&socket).expect("entered");
        assert!(stop.sleep(Duration::from_millis(1)));
        let sleeper = stop.clone();
        let slept = std::thread::spawn(move || sleeper.sleep(Duration::from_mins(1)));
        let read = std::thread::spawn(move || (socket.read(&mut [0]).ok(), socket));
        stop.stop();
        assert!(!slept.join().expect("no panic"));
        let (bytes, socket) = read.join().expect("no panic");
        assert!(bytes.is_none_or(|bytes| bytes == 0));
        assert!(stop.is_stopped() && stop.watch(&socket).is_err());
        drop(watched);
    }

    #[test]
    fn a_socket_that_is_dropped_is_forgotten() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let socket = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let stop = Stop::default();
        drop(stop.watch(&socket).expect("entered"));
        assert!(stop.lock().sockets.is_empty());
    }
}
