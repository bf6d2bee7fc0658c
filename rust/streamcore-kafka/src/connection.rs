//! A connection to one broker: connected, encrypted, logged in, and at the versions that both sides speak.
//!
//! `cluster.rs` and whoever fetches make requests through it, one after the other or one ahead, from one thread. Invariant: after a failure of
//! the stream nothing more is sent or read, since nobody knows where an answer begins; and with a login nothing but the login is
//! sent once the broker's session is about to end (KIP-368).

mod backoff;
mod dialer;
mod stop;
mod stream;

pub use backoff::Backoff;
pub use dialer::Dialer;
pub use stop::Stop;

use crate::config::{Config, Login};
use crate::failure::{Cause, Failure, LoginFault, Result, of_io, said};
use crate::sasl::Exchange;
use crate::shape::Answered;
use crate::wire::{self, Unread};
use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
};
use kafka_protocol::protocol::{Message, StrBytes, VersionRange};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stream::Stream;
use streamcore::buffer::Buffer;
use streamcore::raw::PADDING;

/// Messages of a login; more would be a broker that keeps us busy.
const LOGIN_ROUNDS_MAX: usize = 5;

/// Bytes of an answer before the login: until then anybody may be answering.
const EARLY_BYTES_MAX: usize = 1 << 20;

/// Part of a session after which the login is renewed, in percent, so that it is done before the end.
const RENEWED_AFTER_PERCENT: u32 = 85;

/// Brokers refuse to renew a login sooner.
const RENEWED_AFTER_MIN: Duration = Duration::from_secs(1);

/// The longest session that is counted; longer ones are renewed as well.
const SESSION_MAX: Duration = Duration::from_hours(7 * 24);

const TLS_HANDSHAKE: &str = "the TLS handshake";
const CONNECTING: &str = "a connection attempt";

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Without versions and login.
    New,
    /// Set up, and no request was answered since.
    Unused,
    /// It answered a request.
    Used,
    /// Its stream failed.
    Broken,
}

/// A connection to one broker.
#[derive(Debug)]
pub struct Connection {
    broker: String,
    config: Arc<Config>,
    stream: Stream,
    has_certificate: bool,
    /// The versions that the broker speaks, by request.
    versions: BTreeMap<i16, VersionRange>,
    /// The number of the last request.
    correlation: i32,
    /// How many requests are not answered yet.
    outstanding: usize,
    /// The frame of the last request, for its memory.
    request: BytesMut,
    stage: Stage,
    /// When the login must be renewed; never, where sessions do not end.
    renew_at: Option<Instant>,
}

/// A request that is not answered yet.
#[derive(Debug)]
#[must_use = "what comes next would be taken for its answer"]
pub struct Sent<R> {
    correlation: i32,
    version: i16,
    /// For how long it may take.
    waited: Duration,
    request: PhantomData<fn() -> R>,
}

impl Connection {
    /// Where it leads, as `host:port`.
    #[must_use]
    pub fn broker(&self) -> &str {
        &self.broker
    }

    /// Whether it may be used on: no failure of its stream so far.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.stage != Stage::Broken
    }

    /// The newest version of a request that both sides speak.
    ///
    /// # Errors
    /// There is none.
    pub fn version<R: Answered>(&self) -> Result<i16> {
        self.version_upto::<R>(i16::MAX)
    }

    /// The same up to `version_max`.
    ///
    /// # Errors
    /// There is none.
    pub fn version_upto<R: Answered>(&self, version_max: i16) -> Result<i16> {
        let ours = VersionRange { min: R::VERSIONS.min, max: R::VERSIONS.max.min(version_max) };
        let theirs = self.versions.get(&R::KEY);
        let both = theirs.map(|theirs| theirs.intersect(&ours)).filter(|both| !both.is_empty());
        both.map(|both| both.max).ok_or_else(|| {
            let theirs = theirs.map_or_else(|| "none".to_owned(), ToString::to_string);
            self.failure(Cause::Versions { request: R::NAME, theirs, ours: ours.to_string() })
        })
    }

    /// Makes a request at the newest version and within the time that the settings have for one.
    ///
    /// # Errors
    /// No answer, or none that can be read. Errors inside of the answer are the caller's to look for.
    pub fn call<R: Answered>(&mut self, request: &R) -> Result<R::Response> {
        let version = self.version::<R>()?;
        self.call_at(request, version, Instant::now() + self.config.request_timeout)
    }

    /// The same at a version, for requests with fields that not all have, and until a deadline.
    ///
    /// # Errors
    /// As [`Connection::call`].
    pub fn call_at<R: Answered>(&mut self, request: &R, version: i16, deadline: Instant) -> Result<R::Response> {
        let mut frame = Buffer::default();
        let sent = self.send(request, version, deadline)?;
        let received = self.receive_frame(&sent, deadline, &mut frame);
        let begin = received.map_err(|cause| self.fail(cause))?;
        self.stage = Stage::Used;
        let mut body = Bytes::from(frame).split_off(begin);
        wire::decode::<R>(&mut body, version).map_err(|cause| self.fail(cause))
    }

    /// Sends a request and waits for its answer, which stays as it came: [`Connection::send`] and [`Connection::receive`].
    ///
    /// # Errors
    /// As [`Connection::call`].
    pub fn exchange<R: Answered>(
        &mut self,
        request: &R,
        version: i16,
        deadline: Instant,
        frame: &mut Buffer,
    ) -> Result<usize> {
        let sent = self.send(request, version, deadline)?;
        self.receive(sent, deadline, frame)
    }

    /// Sends a request, and leaves its answer to [`Connection::receive`], so that something else may be done meanwhile. A login
    /// that is due is renewed before, unless an answer is outstanding: what comes then would be taken for that of the login.
    ///
    /// # Errors
    /// A stream or a login that fails.
    pub fn send<R: Answered>(&mut self, request: &R, version: i16, deadline: Instant) -> Result<Sent<R>> {
        if self.outstanding == 0 && self.renew_at.is_some_and(|renew_at| Instant::now() >= renew_at) {
            self.renew(deadline)?;
        }
        self.send_frame(request, version, deadline).map_err(|cause| self.fail(cause))
    }

    /// Reads the frame of an answer behind what `frame` has; gives where its body begins. Room is made at once for all of it and
    /// [`PADDING`] bytes more, once its length was found to be within the bound. Answers come in the order of requests.
    ///
    /// # Errors
    /// As [`Connection::call`].
    #[expect(clippy::needless_pass_by_value, reason = "a request is answered once")]
    pub fn receive<R: Answered>(&mut self, sent: Sent<R>, deadline: Instant, frame: &mut Buffer) -> Result<usize> {
        let bytes = self.receive_length(&sent, deadline).map_err(|cause| self.fail(cause))?;
        if frame.is_empty() {
            // Of about that size: one that grows may be given a much larger one.
            *frame = Buffer::with_capacity(bytes + PADDING);
        }
        frame.make_room(bytes + PADDING);
        let begin = self.receive_body(&sent, bytes, frame).map_err(|cause| self.fail(cause))?;
        self.stage = Stage::Used;
        Ok(begin)
    }

    /// Logs in again before the session ends.
    fn renew(&mut self, deadline: Instant) -> Result<()> {
        let config = Arc::clone(&self.config);
        self.renew_at = None;
        match &config.login {
            Some(login) => self.log_in(login, deadline).map_err(|cause| self.fail(cause)),
            None => Ok(()),
        }
    }

    fn set_up(&mut self, deadline: Instant) -> std::result::Result<(), Cause> {
        self.stream.shake_hands().map_err(|error| self.of_io(&error, TLS_HANDSHAKE, self.config.setup_timeout))?;
        self.learn_versions(deadline)?;
        let config = Arc::clone(&self.config);
        if let Some(login) = &config.login {
            self.log_in(login, deadline)?;
        }
        self.stage = Stage::Unused;
        Ok(())
    }

    /// Asks for the versions of all requests. A broker that does not know ours of this one answers in the oldest.
    fn learn_versions(&mut self, deadline: Instant) -> std::result::Result<(), Cause> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("streamcore"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let newest = self.api_versions(&request, ApiVersionsRequest::VERSIONS.max, deadline)?;
        let answer = match ResponseError::try_from_code(newest.error_code) {
            Some(ResponseError::UnsupportedVersion) => {
                self.api_versions(&ApiVersionsRequest::default(), 0, deadline)?
            }
            _ => newest,
        };
        if let Some(error) = ResponseError::try_from_code(answer.error_code) {
            return Err(Cause::Answer { what: "ApiVersions".to_owned(), error });
        }
        let versions = answer.api_keys.iter();
        self.versions =
            versions.map(|key| (key.api_key, VersionRange { min: key.min_version, max: key.max_version })).collect();
        Ok(())
    }

    fn api_versions(
        &mut self,
        request: &ApiVersionsRequest,
        version: i16,
        deadline: Instant,
    ) -> std::result::Result<ApiVersionsResponse, Cause> {
        let mut frame = Buffer::default();
        let begin = self.exchange_frame(request, version, deadline, &mut frame)?;
        let mut body = Bytes::from(frame).split_off(begin);
        let is_unsupported = body.starts_with(&ResponseError::UnsupportedVersion.code().to_be_bytes());
        wire::decode::<ApiVersionsRequest>(&mut body, if is_unsupported { 0 } else { version })
    }

    fn log_in(&mut self, login: &Login, deadline: Instant) -> std::result::Result<(), Cause> {
        let mechanism = login.mechanism();
        let fail = |fault| Cause::Login { mechanism, fault };
        self.choose_mechanism(mechanism, deadline)?;
        let (mut exchange, mut message) = Exchange::begin(login).map_err(fail)?;
        for _ in 0..LOGIN_ROUNDS_MAX {
            let answer = self.authenticate(message, deadline)?;
            if let Some(error) = ResponseError::try_from_code(answer.error_code) {
                let said = answer.error_message.map(|text| format!(" ({})", said(&blotted(login, &text))));
                return Err(match error {
                    ResponseError::SaslAuthenticationFailed => fail(LoginFault::Refused(said.unwrap_or_default())),
                    error => Cause::Answer { what: "SaslAuthenticate".to_owned(), error },
                });
            }
            let Some(next) = exchange.answer(&answer.auth_bytes).map_err(fail)? else {
                self.renew_at = renewal(answer.session_lifetime_ms).map(|after| Instant::now() + after);
                return Ok(());
            };
            message = next;
        }
        Err(fail(LoginFault::Broken("it goes on without an end")))
    }

    fn choose_mechanism(&mut self, mechanism: &'static str, deadline: Instant) -> std::result::Result<(), Cause> {
        let version = self.version::<SaslHandshakeRequest>().map_err(|failure| *failure.cause)?;
        let request = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(mechanism));
        let answer = self.answer_at(&request, version, deadline)?;
        let offered = || said(&answer.mechanisms.iter().map(StrBytes::as_str).collect::<Vec<_>>().join(", "));
        match ResponseError::try_from_code(answer.error_code) {
            // Before version 1 the messages of a login had no frame that says how it went.
            None if version >= 1 => Ok(()),
            None => Err(Cause::Versions { request: "SaslHandshake", theirs: "0".to_owned(), ours: "1".to_owned() }),
            Some(ResponseError::UnsupportedSaslMechanism) => {
                Err(Cause::Login { mechanism, fault: LoginFault::NotOffered(offered()) })
            }
            Some(ResponseError::IllegalSaslState) => Err(Cause::Login { mechanism, fault: LoginFault::NotWanted }),
            Some(error) => Err(Cause::Answer { what: "SaslHandshake".to_owned(), error }),
        }
    }

    fn authenticate(
        &mut self,
        message: Vec<u8>,
        deadline: Instant,
    ) -> std::result::Result<SaslAuthenticateResponse, Cause> {
        let version = self.version::<SaslAuthenticateRequest>().map_err(|failure| *failure.cause)?;
        let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(message));
        self.answer_at(&request, version, deadline)
    }

    /// A request of the set-up, read.
    fn answer_at<R: Answered>(
        &mut self,
        request: &R,
        version: i16,
        deadline: Instant,
    ) -> std::result::Result<R::Response, Cause> {
        let mut frame = Buffer::default();
        let begin = self.exchange_frame(request, version, deadline, &mut frame)?;
        wire::decode::<R>(&mut Bytes::from(frame).split_off(begin), version)
    }

    /// Sends a request and reads the frame of its answer behind what `frame` has; gives where its body begins.
    fn exchange_frame<R: Answered>(
        &mut self,
        request: &R,
        version: i16,
        deadline: Instant,
        frame: &mut Buffer,
    ) -> std::result::Result<usize, Cause> {
        let sent = self.send_frame(request, version, deadline)?;
        self.receive_frame(&sent, deadline, frame)
    }

    fn send_frame<R: Answered>(
        &mut self,
        request: &R,
        version: i16,
        deadline: Instant,
    ) -> std::result::Result<Sent<R>, Cause> {
        let waited = deadline.saturating_duration_since(Instant::now());
        if self.stage == Stage::Broken {
            return Err(Cause::Closed { doing: R::NAME, hint: "a request before this one failed" });
        }
        self.stream.set_deadline(deadline);
        self.correlation = self.correlation.wrapping_add(1);
        let encoded = wire::encode(request, version, self.correlation, &self.config.client_id, &mut self.request);
        let sent = encoded.map(|()| wire::send(&mut self.stream, &self.request));
        // A login's has a password or a token.
        self.request.clear();
        sent?.map_err(|error| self.of_io(&error, R::NAME, waited))?;
        self.outstanding += 1;
        Ok(Sent { correlation: self.correlation, version, waited, request: PhantomData })
    }

    /// Reads an answer, with memory as its bytes come.
    fn receive_frame<R: Answered>(
        &mut self,
        sent: &Sent<R>,
        deadline: Instant,
        frame: &mut Buffer,
    ) -> std::result::Result<usize, Cause> {
        let bytes = self.receive_length(sent, deadline)?;
        self.receive_body(sent, bytes, frame)
    }

    fn receive_length<R: Answered>(&mut self, sent: &Sent<R>, deadline: Instant) -> std::result::Result<usize, Cause> {
        if self.stage == Stage::Broken {
            return Err(Cause::Closed { doing: R::NAME, hint: "a request before this one failed" });
        }
        self.stream.set_deadline(deadline);
        let bytes_max = if self.stage == Stage::New { EARLY_BYTES_MAX } else { self.config.answer_bytes_max };
        let bytes_max = bytes_max.min(self.config.answer_bytes_max);
        wire::receive_length(&mut self.stream, bytes_max).map_err(|unread| self.of_unread::<R>(unread, sent.waited))
    }

    fn receive_body<R: Answered>(
        &mut self,
        sent: &Sent<R>,
        bytes: usize,
        frame: &mut Buffer,
    ) -> std::result::Result<usize, Cause> {
        let Sent { correlation, version, waited, .. } = *sent;
        let begin = frame.len();
        let found = wire::receive_body(&mut self.stream, bytes, frame);
        let found = found.map_err(|unread| self.of_unread::<R>(unread, waited))?;
        self.outstanding = self.outstanding.saturating_sub(1);
        if found != correlation {
            return Err(Cause::Correlation { sent: correlation, found });
        }
        let head = wire::header_bytes::<R>(frame.get(begin..).unwrap_or_default(), version)?;
        Ok(begin + head)
    }

    fn of_unread<R: Answered>(&self, unread: Unread, waited: Duration) -> Cause {
        match unread {
            Unread::Stream(error) => self.of_io(&error, R::NAME, waited),
            Unread::Frame(cause) => cause,
        }
    }

    fn of_io(&self, error: &std::io::Error, doing: &'static str, waited: Duration) -> Cause {
        let is_plain = matches!(self.stream, Stream::Plain(_));
        let hint = match (self.stage, self.config.login.is_some()) {
            _ if doing == TLS_HANDSHAKE => {
                "look whether that is a TLS listener (security_protocol), and whether it wants a client certificate"
            }
            (Stage::New, _) if doing == ApiVersionsRequest::NAME && is_plain => {
                "look whether that listener wants TLS (security_protocol)"
            }
            (Stage::Unused, false) => "look whether that listener wants a login (security_protocol)",
            _ => "look at the broker's log, unless it is restarting",
        };
        of_io(error, doing, waited, hint, self.has_certificate)
    }

    fn failure(&self, cause: Cause) -> Failure {
        Failure::new(&self.broker, cause)
    }

    /// The failure of a request, after which nothing of the stream can be trusted.
    fn fail(&mut self, cause: Cause) -> Failure {
        self.stage = Stage::Broken;
        self.failure(cause)
    }
}

/// The cause of a failed attempt to connect.
fn of_connect(error: &std::io::Error, waited: Duration) -> Cause {
    of_io(error, CONNECTING, waited, "look whether a firewall is in between", false)
}

/// What a broker says of a login, without what it was told.
fn blotted(login: &Login, text: &str) -> String {
    match login {
        Login::Plain(user) | Login::Scram(_, user) => user.password.blot(text),
        // A token is not kept: whatever could be one goes.
        Login::OAuthBearer(_) => {
            let is_short = |word: &&str| word.len() < 40;
            text.split_inclusive([' ', '"', ',']).filter(is_short).collect()
        }
    }
}

/// After which time a login is renewed whose session lasts `lifetime_ms`; 0 is for ever.
fn renewal(lifetime_ms: i64) -> Option<Duration> {
    let lifetime = u64::try_from(lifetime_ms).ok().filter(|lifetime| *lifetime > 0).map(Duration::from_millis)?;
    Some((lifetime.min(SESSION_MAX) * RENEWED_AFTER_PERCENT / 100).max(RENEWED_AFTER_MIN))
}

#[cfg(test)]
mod tests;
