//! What a connection to a cluster needs.
//!
//! [`settings`] makes a [`Config`] of the settings that librdkafka has for the same connection, so that one configuration serves
//! both clients; `tls.rs`, `sasl.rs` and `connection.rs` read it. Invariant: a [`Config`] has an address to begin with, and
//! shows no secret.

mod address;
mod settings;

pub use address::Address;
pub use settings::{Choice, from_librdkafka};

use crate::secret::Secret;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How a cluster is reached. `Default` is librdkafka's, for a broker on this machine.
#[derive(Debug, Clone)]
pub struct Config {
    /// Brokers to begin with; the others are told by them.
    pub bootstrap: Vec<Address>,
    /// What brokers know us by in their logs and quotas.
    pub client_id: String,
    /// Where we are, for brokers that let us read from a replica nearby.
    pub rack: Option<String>,
    /// Protection of the wire; none for plain text.
    pub tls: Option<Tls>,
    /// The login; none where brokers want none.
    pub login: Option<Login>,
    /// How long a connection may take until it can be used, name, handshake and login included.
    pub setup_timeout: Duration,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// The first pause before a connection is tried again; it doubles.
    pub backoff_min: Duration,
    /// The longest.
    pub backoff_max: Duration,
    /// Most bytes of an answer.
    pub answer_bytes_max: usize,
    /// Which addresses of a name are used.
    pub family: Family,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bootstrap: vec![Address::new("localhost", address::PORT)],
            client_id: "streamcore".to_owned(),
            rack: None,
            tls: None,
            login: None,
            setup_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_mins(1),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            answer_bytes_max: 100_000_000,
            family: Family::Any,
        }
    }
}

/// Addresses of a name that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// All.
    Any,
    /// Those of IPv4.
    V4,
    /// Those of IPv6.
    V6,
}

/// Protection of the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Who may sign a broker's certificate.
    pub authorities: Authorities,
    /// Who we are, where brokers want to know it by certificate.
    pub identity: Option<Identity>,
    /// Whether a broker's certificate must be of the host that was asked for.
    pub checks_host: bool,
}

/// Who may sign a broker's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authorities {
    /// Those that the system trusts.
    System,
    /// Those of a file or text.
    Pem(Pem),
}

/// A client's certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, then those of its authorities.
    pub certificate: Pem,
    /// The key, which must not be encrypted.
    pub key: Pem,
}

/// Where something in PEM is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pem {
    /// In a file.
    File(PathBuf),
    /// Here.
    Text(Secret),
}

/// A login.
#[derive(Debug, Clone)]
pub enum Login {
    /// The password as it is.
    Plain(User),
    /// A proof that each side knows the password.
    Scram(ScramHash, User),
    /// A token.
    OAuthBearer(TokenSource),
}

impl Login {
    /// The name of the mechanism, as brokers know it.
    #[must_use]
    pub const fn mechanism(&self) -> &'static str {
        match self {
            Self::Plain(_) => "PLAIN",
            Self::Scram(ScramHash::Sha256, _) => "SCRAM-SHA-256",
            Self::Scram(ScramHash::Sha512, _) => "SCRAM-SHA-512",
            Self::OAuthBearer(_) => "OAUTHBEARER",
        }
    }
}

/// The hash of a SCRAM login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScramHash {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// Who logs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The password.
    pub password: Secret,
}

/// A token, as its callback gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The token.
    pub value: Secret,
    /// SASL extensions (RFC 7628), by name.
    pub extensions: BTreeMap<String, String>,
}

/// Asks for a token whenever a login needs one. What it gives instead of one is shown to people: the kind of the failure, never
/// its text, in which a token may be.
#[derive(Clone)]
pub struct TokenSource(Arc<dyn Fn() -> Result<Token, String> + Send + Sync>);

impl TokenSource {
    /// Tokens of `callback`.
    pub fn new(callback: impl Fn() -> Result<Token, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(callback))
    }

    /// A token that is valid now, or the kind of failure.
    pub fn token(&self) -> Result<Token, String> {
        (self.0)()
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        let user = User { name: "alice".into(), password: Secret::new("canary") };
        let key = Pem::Text(Secret::new("canary"));
        let tls = Tls {
            authorities: Authorities::System,
            identity: Some(Identity { certificate: key.clone(), key }),
            checks_host: true,
        };
        let login = Login::Scram(ScramHash::Sha512, user);
        let config = Config { tls: Some(tls), login: Some(login), ..Config::default() };
        let shown = format!("{config:?} {config:#?}");
        assert!(shown.contains("alice") && !shown.contains("canary"), "{shown}");
    }
}
