//! Why a broker cannot be used, in one line for whoever runs the job.
//!
//! Every file that talks to brokers uses this one. Invariant: a message says what, which broker and what to do next, is one line,
//! and has no secret in it: what a broker says is shown by [`said`] alone, and a token callback gives only the name of its
//! failure.

mod io;

pub use io::{of_io, of_tls};
use kafka_protocol::ResponseError;
use std::fmt;
use std::time::Duration;

/// Most characters that are repeated of what a broker says.
const SAID_CHARS_MAX: usize = 256;

/// A result that names the broker where it fails.
pub type Result<T> = std::result::Result<T, Failure>;

/// A broker that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Kafka broker {broker}: {cause}")]
pub struct Failure {
    /// Its `host:port`; where it is none in particular, those to begin with.
    pub broker: String,
    /// What is wrong.
    pub cause: Box<Cause>,
}

impl Failure {
    /// Says that `broker` has `cause`.
    pub fn new(broker: impl fmt::Display, cause: Cause) -> Self {
        Self { broker: broker.to_string(), cause: Box::new(cause) }
    }

    /// Whether it may pass by itself, so that the same is worth trying again after a while.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        self.cause.is_passing()
    }

    /// Whether a right is missing.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(*self.cause, Cause::NotAllowed { .. })
    }
}

/// Whether what a broker answers may be other after a while. What it cannot name may be a disk of its, or a release that is being
/// rolled out.
#[must_use]
pub fn may_pass(error: ResponseError) -> bool {
    error.is_retriable() || error == ResponseError::UnknownServerError
}

/// What is wrong with a broker, or with what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// Its name has no address.
    #[error("its name cannot be found ({0}); correct bootstrap_servers, or the advertised.listeners of the brokers")]
    Name(String),
    /// Nothing listens there.
    #[error("it refuses connections; start the broker, or correct its port in bootstrap_servers")]
    Refused,
    /// The network does not lead there.
    #[error("it cannot be reached ({0}); look at the network and its firewalls")]
    Unreachable(String),
    /// It was silent for too long.
    #[error("it gave no answer to {doing} within {} ms; look whether the broker is overloaded or a firewall in between", .waited.as_millis())]
    Timeout {
        /// What was asked for.
        doing: &'static str,
        /// For how long.
        waited: Duration,
    },
    /// It hung up.
    #[error("it closed the connection during {doing}; {hint}")]
    Closed {
        /// What was asked for.
        doing: &'static str,
        /// What that mostly means there.
        hint: &'static str,
    },
    /// TLS failed.
    #[error("TLS failed: {0}")]
    Tls(TlsFault),
    /// A login failed.
    #[error("the login by {mechanism} failed: {fault}")]
    Login {
        /// How it was tried.
        mechanism: &'static str,
        /// What is wrong.
        fault: LoginFault,
    },
    /// A right is missing.
    #[error("{what} is not allowed to this user; grant it: {right}")]
    NotAllowed {
        /// What was asked for.
        what: String,
        /// The right that it takes.
        right: String,
    },
    /// It speaks no version of a request that we do.
    #[error(
        "it speaks {request} {theirs} and this client {ours}; upgrade the broker, or use transport = \"librdkafka\""
    )]
    Versions {
        /// The name of the request.
        request: &'static str,
        /// Versions of the broker, `none` where it does not know the request.
        theirs: String,
        /// Ours.
        ours: String,
    },
    /// An answer is longer than it may be.
    #[error("its answer would have {bytes} bytes, more than the {bytes_max} allowed; {hint}")]
    Oversized {
        /// What it says.
        bytes: i64,
        /// The bound.
        bytes_max: usize,
        /// What that mostly means there.
        hint: &'static str,
    },
    /// An answer cannot be read.
    #[error("its answer to {request} cannot be read: {fault}; look whether that is a Kafka broker")]
    Malformed {
        /// The name of the request.
        request: &'static str,
        /// What is wrong.
        fault: String,
    },
    /// An answer belongs to another request.
    #[error("it answered request {found} instead of {sent}; look whether a proxy is in between")]
    Correlation {
        /// The number sent.
        sent: i32,
        /// The number found.
        found: i32,
    },
    /// It answered with an error.
    #[error("{what} failed: {error:?}, {error}")]
    Answer {
        /// What was asked for.
        what: String,
        /// The error.
        error: ResponseError,
    },
    /// A topic that is not there.
    #[error("topic {topic} does not exist; create it, or correct its name")]
    NoTopic {
        /// Its name.
        topic: String,
    },
    /// A partition that is not there.
    #[error("topic {topic} has no partition {partition}")]
    NoPartition {
        /// The name of the topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// A partition that nobody leads.
    #[error("partition {partition} of topic {topic} has no leader; look whether its brokers are up")]
    NoLeader {
        /// The name of the topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// A setting that cannot be used.
    #[error("the setting {name} cannot be used: {fault}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// What is wrong, and what would be right.
        fault: String,
    },
}

impl Cause {
    /// [`Failure::is_passing`].
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Login { fault, .. } => matches!(fault, LoginFault::Token(_)),
            Self::Answer { error, .. } => may_pass(*error),
            Self::Tls(fault) => matches!(fault, TlsFault::Other(_)),
            Self::Name(_)
            | Self::Refused
            | Self::Unreachable(_)
            | Self::Timeout { .. }
            | Self::Closed { .. }
            | Self::Correlation { .. }
            | Self::NoLeader { .. } => true,
            Self::NotAllowed { .. }
            | Self::Versions { .. }
            | Self::Oversized { .. }
            | Self::Malformed { .. }
            | Self::NoTopic { .. }
            | Self::NoPartition { .. }
            | Self::Setting { .. } => false,
        }
    }

    /// The cause of an error that a broker answered with.
    pub fn of_answer(what: impl Into<String>, right: impl Into<String>, error: ResponseError) -> Self {
        let what = what.into();
        match error {
            ResponseError::TopicAuthorizationFailed | ResponseError::ClusterAuthorizationFailed => {
                Self::NotAllowed { what, right: right.into() }
            }
            error => Self::Answer { what, error },
        }
    }
}

/// What is wrong with TLS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsFault {
    /// Its certificate is of somebody we do not know.
    #[error("no known authority signed its certificate; set ssl_ca_location to the file of the one that did")]
    UnknownAuthority,
    /// Its certificate is over.
    #[error("its certificate has expired; renew it, or correct the clock of this machine")]
    Expired,
    /// Its certificate is not valid yet.
    #[error("its certificate is not valid yet; correct the clock of this machine")]
    NotYetValid,
    /// Its certificate is of another host.
    #[error("its certificate is not of this host{0}; use a name that is in its subjectAltName")]
    WrongHost(String),
    /// Its certificate was taken back.
    #[error("its certificate was revoked; renew it")]
    Revoked,
    /// It wants to know us.
    #[error("it wants a client certificate; set ssl_certificate_location and ssl_key_location")]
    CertificateWanted,
    /// It does not like our certificate.
    #[error("it refuses our client certificate ({0}); use one that its authority signed")]
    CertificateRefused(String),
    /// It does not speak TLS.
    #[error("that is no TLS listener; correct security_protocol or the port")]
    NotTls,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// What is wrong with a login.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginFault {
    /// It does not know the user, or the password is another.
    #[error("the broker refuses the credentials{0}; correct the user, password or token")]
    Refused(String),
    /// It has no such mechanism.
    #[error("the broker offers {0} alone; set sasl_mechanism to one of these")]
    NotOffered(String),
    /// It wants no login at all.
    #[error("that listener has no login; correct security_protocol or the port")]
    NotWanted,
    /// It cannot prove that it knows the password.
    #[error("the broker does not prove that it knows the password: it may be an impostor, and no data was sent")]
    NotProven,
    /// What it says is not by the rules.
    #[error("the broker breaks the rules of the mechanism: {0}")]
    Broken(&'static str),
    /// It asks for too little or too much work.
    #[error(
        "the broker asks for {asked} rounds of hashing, and between {min} and {max} are allowed; set the credentials anew"
    )]
    Iterations {
        /// What it asks for.
        asked: u64,
        /// The least.
        min: u32,
        /// The most.
        max: u32,
    },
    /// The user or the password has characters that no login may have.
    #[error("the {0} has characters that SASL forbids")]
    Characters(&'static str),
    /// The callback gave no token.
    #[error("there is no token: {0}; look at what the token callback logs")]
    Token(String),
}

/// What a broker says, fit for a line of ours: short, without control characters.
#[must_use]
pub fn said(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(SAID_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_and_where_and_what_to_do() {
        let failure = Failure::new("kafka-1:9092", Cause::Refused);
        let line = "Kafka broker kafka-1:9092: it refuses connections; start the broker, or correct its port in \
                    bootstrap_servers";
        assert_eq!(failure.to_string(), line);
        assert!(failure.is_passing());
    }

    #[test]
    fn what_a_broker_says_is_one_short_line() {
        assert_eq!(said("a\nb\u{1b}[31m"), "a b [31m");
        assert_eq!(said(&"ä".repeat(1000)).chars().count(), SAID_CHARS_MAX);
    }

    #[test]
    fn a_missing_right_is_not_tried_again_and_a_moved_leader_is() {
        let cause = |error| Cause::of_answer("reading topic t", "READ on topic t", error);
        let denied = cause(ResponseError::TopicAuthorizationFailed);
        assert_eq!(denied.to_string(), "reading topic t is not allowed to this user; grant it: READ on topic t");
        assert!(!denied.is_passing());
        assert!(cause(ResponseError::NotLeaderOrFollower).is_passing());
        assert!(cause(ResponseError::UnknownServerError).is_passing());
        assert!(!cause(ResponseError::Unknown(999)).is_passing());
    }
}
