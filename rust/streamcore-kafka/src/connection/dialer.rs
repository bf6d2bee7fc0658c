//! Connections of a cluster, as they are opened.
//!
//! Made of the settings, once; `cluster.rs` and whoever fetches open connections by it. Invariant: a connection that is given is
//! logged in and knows its versions.

use super::{Connection, Stage, Stop, stream, stream::Stream};
use crate::config::{Address, Config};
use crate::failure::{Failure, Result};
use crate::tls::TlsClient;
use bytes::BytesMut;
use rustls::StreamOwned;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Opens connections of a cluster: its certificates are read once.
#[derive(Debug, Clone)]
pub struct Dialer {
    config: Arc<Config>,
    tls: Option<TlsClient>,
    stop: Stop,
}

impl Dialer {
    /// Reads certificates and keys.
    ///
    /// # Errors
    /// Those that cannot be used.
    pub fn new(config: Config) -> Result<Self> {
        let named = |cause| Failure::new("(settings)", cause);
        let tls = config.tls.as_ref().map(TlsClient::new).transpose().map_err(named)?;
        Ok(Self { config: Arc::new(config), tls, stop: Stop::default() })
    }

    /// The same, whose connections from now on are ended by `stop`.
    #[must_use]
    pub fn with_stop(self, stop: Stop) -> Self {
        Self { stop, ..self }
    }

    /// What ends its connections.
    #[must_use]
    pub const fn stop(&self) -> &Stop {
        &self.stop
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Connects, shakes hands, learns versions, logs in: all within the time that the settings have for it.
    ///
    /// # Errors
    /// Any of these that fails. Nothing is tried again here.
    pub fn open(&self, address: &Address) -> Result<Connection> {
        self.open_until(address, Instant::now() + self.config.setup_timeout)
    }

    /// The same until a deadline.
    ///
    /// # Errors
    /// As [`Dialer::open`].
    pub fn open_until(&self, address: &Address, deadline: Instant) -> Result<Connection> {
        let named = |cause| Failure::new(address, cause);
        let timed = stream::connect(address, self.config.family, &self.stop, deadline).map_err(named)?;
        let stream = match &self.tls {
            None => Stream::Plain(timed),
            Some(tls) => {
                let session = tls.session(&address.host).map_err(named)?;
                Stream::Tls(Box::new(StreamOwned::new(session, timed)))
            }
        };
        let mut connection = Connection {
            broker: address.to_string(),
            config: Arc::clone(&self.config),
            stream,
            has_certificate: self.tls.as_ref().is_some_and(|tls| tls.has_certificate),
            versions: BTreeMap::new(),
            correlation: 0,
            outstanding: 0,
            request: BytesMut::new(),
            stage: Stage::New,
            renew_at: None,
        };
        connection.set_up(deadline).map_err(named)?;
        Ok(connection)
    }
}
