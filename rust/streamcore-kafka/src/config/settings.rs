//! librdkafka's settings of a connection, read as ours.
//!
//! The caller has them for quixstreams already. A setting that would change how brokers are reached or what is read, and that is
//! not here, is named, so that the caller takes librdkafka instead. Invariant: no setting is left out in silence, but for those
//! that say nothing about reading.

use super::{Address, Authorities, Config, Family, Identity, Login, Pem, ScramHash, Tls, TokenSource, User};
use crate::failure::{Cause, Failure, Result};
use crate::secret::Secret;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// Settings of groups, producers, logs and fetches, which say nothing about how a broker is reached.
const ELSEWHERE: [&str; 41] = [
    "acks",
    "allow.auto.create.topics",
    "api.version.request",
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "batch.num.messages",
    "batch.size",
    "check.crcs",
    "compression.codec",
    "compression.level",
    "compression.type",
    "debug",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "heartbeat.interval.ms",
    "isolation.level",
    "linger.ms",
    "log_level",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "max.poll.interval.ms",
    "message.max.bytes",
    "message.timeout.ms",
    "metadata.max.age.ms",
    "partition.assignment.strategy",
    "partitioner",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queue.buffering.max.ms",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "session.timeout.ms",
    "statistics.interval.ms",
    "topic.metadata.refresh.interval.ms",
    "transaction.timeout.ms",
    "transactional.id",
];

/// The bounds that librdkafka has for the bytes of an answer.
const ANSWER_BYTES: std::ops::RangeInclusive<usize> = 1_000..=2_147_483_647;

/// Which client the settings take.
#[derive(Debug, Clone)]
pub enum Choice {
    /// This one.
    Native(Box<Config>),
    /// librdkafka, for these settings, in order.
    Librdkafka(BTreeSet<String>),
}

/// Reads librdkafka's settings. `tokens` is for OAUTHBEARER, where the caller has a callback.
///
/// # Errors
/// A setting that is ours and has a value that neither client can use.
pub fn from_librdkafka(settings: &BTreeMap<String, String>, tokens: Option<TokenSource>) -> Result<Choice> {
    let mut reader = Reader { left: settings.clone(), missing: BTreeSet::new() };
    let mut config = Config::default();
    let protocol = reader.take("security.protocol").unwrap_or_default().to_ascii_lowercase();
    let (has_tls, has_login) = match protocol.as_str() {
        "" | "plaintext" => (false, false),
        "ssl" => (true, false),
        "sasl_plaintext" => (false, true),
        "sasl_ssl" => (true, true),
        _ => return Err(wrong("security.protocol", "use plaintext, ssl, sasl_plaintext or sasl_ssl")),
    };
    reader.read_addresses(&mut config)?;
    reader.read_limits(&mut config)?;
    let tls = reader.read_tls()?;
    config.tls = has_tls.then_some(tls);
    config.login = reader.read_login(has_login, tokens)?;
    let Reader { left, mut missing } = reader;
    missing.extend(left.into_keys().filter(|name| ELSEWHERE.binary_search(&name.as_str()).is_err()));
    Ok(if missing.is_empty() { Choice::Native(Box::new(config)) } else { Choice::Librdkafka(missing) })
}

/// The settings that are not read yet.
struct Reader {
    /// By name.
    left: BTreeMap<String, String>,
    /// Those with values that we do not have.
    missing: BTreeSet<String>,
}

impl Reader {
    /// Empty settings are none, as in librdkafka.
    fn take(&mut self, name: &str) -> Option<String> {
        self.left.remove(name).filter(|value| !value.is_empty())
    }

    /// Takes a setting that has two names.
    fn take_either(&mut self, name: &str, alias: &str) -> Option<String> {
        let (first, second) = (self.take(name), self.take(alias));
        first.or(second)
    }

    fn take_number(&mut self, name: &'static str) -> Result<Option<u64>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        value.trim().parse().map(Some).map_err(|_| wrong(name, "use a whole number"))
    }

    fn take_duration(&mut self, name: &'static str, into: &mut Duration) -> Result<()> {
        match self.take_number(name)? {
            Some(0) => Err(wrong(name, "use at least 1 ms")),
            Some(milliseconds) => {
                *into = Duration::from_millis(milliseconds.min(u64::from(u32::MAX)));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Names the setting as missing unless it has a value that means what we do anyway.
    fn expect(&mut self, name: &str, ours: &[&str]) {
        if let Some(value) = self.take(name)
            && !ours.contains(&value.trim().to_ascii_lowercase().as_str())
        {
            self.missing.insert(name.to_owned());
        }
    }

    fn read_addresses(&mut self, config: &mut Config) -> Result<()> {
        const NAME: &str = "bootstrap.servers";
        let Some(text) = self.take_either(NAME, "metadata.broker.list") else {
            return Err(wrong(NAME, "it is empty; write host:port"));
        };
        let not_one = |entry| wrong(NAME, &format!("{entry:?} is no host:port; IPv6 addresses stand in brackets"));
        config.bootstrap = Address::parse_list(&text).map_err(not_one)?;
        if config.bootstrap.is_empty() {
            return Err(wrong(NAME, "it is empty; write host:port"));
        }
        config.family = match self.take("broker.address.family").as_deref() {
            None | Some("any") => Family::Any,
            Some("v4") => Family::V4,
            Some("v6") => Family::V6,
            Some(_) => return Err(wrong("broker.address.family", "use any, v4 or v6")),
        };
        self.expect("client.dns.lookup", &["use_all_dns_ips"]);
        Ok(())
    }

    fn read_limits(&mut self, config: &mut Config) -> Result<()> {
        config.client_id = self.take("client.id").unwrap_or_else(|| config.client_id.clone());
        config.rack = self.take("client.rack");
        self.take_duration("socket.connection.setup.timeout.ms", &mut config.setup_timeout)?;
        self.take_duration("socket.timeout.ms", &mut config.request_timeout)?;
        self.take_duration("reconnect.backoff.ms", &mut config.backoff_min)?;
        self.take_duration("reconnect.backoff.max.ms", &mut config.backoff_max)?;
        config.backoff_max = config.backoff_max.max(config.backoff_min);
        if let Some(bytes) = self.take_number("receive.message.max.bytes")? {
            let bytes = usize::try_from(bytes).ok().filter(|bytes| ANSWER_BYTES.contains(bytes));
            config.answer_bytes_max =
                bytes.ok_or_else(|| wrong("receive.message.max.bytes", "use 1000 to 2147483647"))?;
        }
        // Every request has its deadline, which finds a dead peer as well; small requests are never held back here.
        self.expect("socket.keepalive.enable", &["false", "true"]);
        self.expect("socket.nagle.disable", &["false", "true"]);
        Ok(())
    }

    fn read_tls(&mut self) -> Result<Tls> {
        let authorities = self.read_pem("ssl.ca.pem", "ssl.ca.location");
        let authorities = match authorities {
            Some(Pem::File(path)) if path.as_os_str() == "probe" => Authorities::System,
            Some(pem) => Authorities::Pem(pem),
            None => Authorities::System,
        };
        let certificate = self.read_pem("ssl.certificate.pem", "ssl.certificate.location");
        let key = self.read_pem("ssl.key.pem", "ssl.key.location");
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
            (None, None) => None,
            (Some(_), None) => return Err(wrong("ssl.key.location", "a client certificate needs its key")),
            (None, Some(_)) => return Err(wrong("ssl.certificate.location", "a client key needs its certificate")),
        };
        let checks_host = match self.take("ssl.endpoint.identification.algorithm").as_deref() {
            None | Some("https") => true,
            Some("none") => false,
            Some(_) => return Err(wrong("ssl.endpoint.identification.algorithm", "use https or none")),
        };
        self.expect("enable.ssl.certificate.verification", &["true"]);
        Ok(Tls { authorities, identity, checks_host })
    }

    /// The text goes before the file, as in librdkafka.
    fn read_pem(&mut self, text: &str, file: &str) -> Option<Pem> {
        let (text, file) = (self.take(text), self.take(file));
        text.map(|text| Pem::Text(Secret::new(text))).or(file.map(|path| Pem::File(PathBuf::from(path))))
    }

    fn read_login(&mut self, is_wanted: bool, tokens: Option<TokenSource>) -> Result<Option<Login>> {
        let mechanism = self.take_either("sasl.mechanism", "sasl.mechanisms").map(|name| name.to_ascii_uppercase());
        let (name, password) = (self.take("sasl.username"), self.take("sasl.password").map(Secret::new));
        if !is_wanted {
            return Ok(None);
        }
        let user = || match (name, password) {
            (Some(name), Some(password)) => Ok(User { name, password }),
            (None, _) => Err(wrong("sasl.username", "the mechanism needs it")),
            (_, None) => Err(wrong("sasl.password", "the mechanism needs it")),
        };
        Ok(Some(match mechanism.as_deref() {
            Some("PLAIN") => Login::Plain(user()?),
            Some("SCRAM-SHA-256") => Login::Scram(ScramHash::Sha256, user()?),
            Some("SCRAM-SHA-512") => Login::Scram(ScramHash::Sha512, user()?),
            Some("OAUTHBEARER") if tokens.is_some() => return Ok(tokens.map(Login::OAuthBearer)),
            Some(other) => {
                self.missing.insert(format!("sasl.mechanism = {}", crate::failure::said(other)));
                return Ok(None);
            }
            // librdkafka's own default.
            None => {
                self.missing.insert("sasl.mechanism = GSSAPI".to_owned());
                return Ok(None);
            }
        }))
    }
}

fn wrong(name: &'static str, fault: &str) -> Failure {
    Failure::new("(settings)", Cause::Setting { name, fault: fault.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Choice> {
        let settings = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        from_librdkafka(&settings.collect(), None)
    }

    fn native(pairs: &[(&str, &str)]) -> Config {
        match read(pairs) {
            Ok(Choice::Native(config)) => *config,
            other => panic!("{other:?}"),
        }
    }

    fn missing(pairs: &[(&str, &str)]) -> Vec<String> {
        match read(pairs) {
            Ok(Choice::Librdkafka(names)) => names.into_iter().collect(),
            other => panic!("{other:?}"),
        }
    }

    fn refused(pairs: &[(&str, &str)]) -> String {
        read(pairs).map(|_| ()).expect_err("refused").to_string()
    }

    const SERVERS: (&str, &str) = ("bootstrap.servers", "a:1,[::1]:2");

    #[test]
    fn the_settings_elsewhere_are_in_order() {
        assert!(ELSEWHERE.is_sorted());
    }

    #[test]
    fn a_login_over_tls_is_read_whole() {
        let config = native(&[
            SERVERS,
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanisms", "SCRAM-SHA-512"),
            ("sasl.username", "alice"),
            ("sasl.password", "secret"),
            ("ssl.ca.location", "ca.pem"),
            ("ssl.endpoint.identification.algorithm", "none"),
            ("client.rack", "r1"),
            ("socket.timeout.ms", "7000"),
            ("group.id", "g"),
        ]);
        assert_eq!(config.bootstrap, [Address::new("a", 1), Address::new("::1", 2)]);
        let tls = config.tls.expect("TLS");
        assert_eq!(tls.authorities, Authorities::Pem(Pem::File("ca.pem".into())));
        assert!(!tls.checks_host);
        assert!(matches!(config.login, Some(Login::Scram(ScramHash::Sha512, user)) if user.name == "alice"));
        assert_eq!((config.rack.as_deref(), config.request_timeout), (Some("r1"), Duration::from_secs(7)));
    }

    #[test]
    fn a_setting_that_we_do_not_have_is_named() {
        assert_eq!(
            missing(&[SERVERS, ("ssl.key.password", "p"), ("ssl.crl.location", "f")]),
            ["ssl.crl.location", "ssl.key.password"]
        );
        let sasl = ("security.protocol", "sasl_plaintext");
        assert_eq!(missing(&[SERVERS, sasl, ("sasl.mechanism", "GSSAPI")]), ["sasl.mechanism = GSSAPI"]);
        assert_eq!(
            missing(&[SERVERS, sasl, ("sasl.mechanism", "OAUTHBEARER"), ("sasl.oauthbearer.method", "oidc")]),
            ["sasl.mechanism = OAUTHBEARER", "sasl.oauthbearer.method"]
        );
        let unchecked = ("enable.ssl.certificate.verification", "false");
        assert_eq!(missing(&[SERVERS, unchecked]), ["enable.ssl.certificate.verification"]);
    }

    #[test]
    fn a_wrong_value_is_an_error_that_names_its_setting() {
        assert!(refused(&[]).contains("bootstrap.servers"));
        assert!(refused(&[("bootstrap.servers", "a:x")]).contains("\"a:x\""));
        assert!(refused(&[SERVERS, ("socket.timeout.ms", "soon")]).contains("socket.timeout.ms"));
        assert!(refused(&[SERVERS, ("receive.message.max.bytes", "5")]).contains("receive.message.max.bytes"));
        assert!(refused(&[SERVERS, ("ssl.certificate.location", "c")]).contains("ssl.key.location"));
        let login = [SERVERS, ("security.protocol", "sasl_ssl"), ("sasl.mechanism", "PLAIN"), ("sasl.username", "u")];
        assert!(refused(&login).contains("sasl.password"));
    }

    #[test]
    fn tokens_come_from_the_callback() {
        let tokens = TokenSource::new(|| Err("Offline".to_owned()));
        let pairs = [SERVERS, ("security.protocol", "sasl_ssl"), ("sasl.mechanism", "OAUTHBEARER")];
        let settings = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let choice = from_librdkafka(&settings, Some(tokens)).expect("read");
        assert!(matches!(choice, Choice::Native(config) if matches!(config.login, Some(Login::OAuthBearer(_)))));
    }
}
