//! A socket that keeps a deadline, with or without TLS on it.
//!
//! `connection.rs` sets the deadline of each request. Invariant: no read or write lasts beyond it, though bytes drip in one by one: the
//! time left is worked out anew for each call of the system.

use super::stop::{Stop, Watched};
use crate::config::{Address, Family};
use crate::failure::{Cause, said};
use rustls::{ClientConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// A socket and until when it may be used.
#[derive(Debug)]
pub struct Timed {
    socket: TcpStream,
    /// What another thread may end it by.
    _watched: Watched,
    /// When what is under way must be over.
    pub deadline: Instant,
}

impl Timed {
    /// The time left, or the error that it is none.
    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Timed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(self.left()?))?;
        self.socket.read(into)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(self.left()?))?;
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// What requests go through.
#[derive(Debug)]
pub enum Stream {
    /// Plain text.
    Plain(Timed),
    /// TLS.
    Tls(Box<StreamOwned<ClientConnection, Timed>>),
}

impl Stream {
    /// Moves the deadline.
    pub fn set_deadline(&mut self, deadline: Instant) {
        match self {
            Self::Plain(timed) => timed.deadline = deadline,
            Self::Tls(stream) => stream.sock.deadline = deadline,
        }
    }

    /// Ends the handshake of TLS, so that its faults are not those of the first request.
    pub fn shake_hands(&mut self) -> io::Result<()> {
        if let Self::Tls(stream) = self {
            while stream.conn.is_handshaking() {
                stream.conn.complete_io(&mut stream.sock)?;
            }
        }
        Ok(())
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(timed) => timed.read(into),
            Self::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(timed) => timed.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(timed) => timed.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// Connects to the first address of `address` that answers. Each gets its share of the time, so that a dead one in front does not use it up.
///
/// The look-up of the name is the system's, which has a deadline of its own.
pub fn connect(address: &Address, family: Family, stop: &Stop, deadline: Instant) -> Result<Timed, Cause> {
    let started = Instant::now();
    let found = resolve(address, family)?;
    let late = |waited| Cause::Timeout { doing: super::CONNECTING, waited };
    let mut last = match found.as_slice() {
        [] => Cause::Name("it has no address of that family".to_owned()),
        _ => late(deadline.saturating_duration_since(started)),
    };
    for (place, one) in found.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(found.len() - place).unwrap_or(u32::MAX);
        if share.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(one, share) {
            Ok(socket) => {
                // A request is one write: to hold it back for more would only cost time.
                let ready = socket.set_nodelay(true).and_then(|()| stop.watch(&socket));
                let watched = ready.map_err(|error| Cause::Unreachable(said(&error.to_string())))?;
                return Ok(Timed { socket, _watched: watched, deadline });
            }
            Err(error) => last = super::of_connect(&error, started.elapsed()),
        }
    }
    Err(last)
}

fn resolve(address: &Address, family: Family) -> Result<Vec<SocketAddr>, Cause> {
    let found = (address.host.as_str(), address.port).to_socket_addrs();
    let found = found.map_err(|error| Cause::Name(said(&error.to_string())))?;
    let fits = |one: &SocketAddr| match family {
        Family::Any => true,
        Family::V4 => one.is_ipv4(),
        Family::V6 => one.is_ipv6(),
    };
    Ok(found.filter(fits).collect())
}
