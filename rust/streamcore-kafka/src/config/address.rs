//! Where a broker listens.
//!
//! `settings.rs` reads addresses to begin with, `cluster.rs` those that brokers tell. Invariant: the port is not 0, and `Display`
//! is what [`Address::parse`] reads.

use std::fmt;

/// The port of Kafka where none is written.
pub const PORT: u16 = 9092;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// A name, or an IP address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Address {
    /// `host` at `port`.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Reads `host:port`, `host`, `[v6]:port` or `[v6]`, each with or without librdkafka's `PROTOCOL://` in front.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.split_once("://").map_or(text, |(_, rest)| rest);
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, behind) = rest.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, if behind.is_empty() { None } else { Some(behind.strip_prefix(':')?) })
            }
            // Without brackets nobody knows where an IPv6 address ends.
            None if text.matches(':').count() > 1 => return None,
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Ok(PORT), str::parse).ok().filter(|port| *port > 0)?;
        let is_name = |letter: char| !letter.is_whitespace() && !letter.is_control() && !"/@[]".contains(letter);
        (!host.is_empty() && host.chars().all(is_name)).then(|| Self::new(host, port))
    }

    /// Reads a list with commas. Empty entries are left out, as in librdkafka.
    ///
    /// # Errors
    /// The entry that is none.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        entries.map(|entry| Self::parse(entry).ok_or_else(|| entry.to_owned())).collect()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_shown_alike() {
        let read = |text: &str| Address::parse(text).map(|address| address.to_string());
        assert_eq!(read("kafka-1.example:9093").as_deref(), Some("kafka-1.example:9093"));
        assert_eq!(read(" kafka ").as_deref(), Some("kafka:9092"));
        assert_eq!(read("[::1]:9094").as_deref(), Some("[::1]:9094"));
        assert_eq!(read("[2001:db8::7]").as_deref(), Some("[2001:db8::7]:9092"));
        assert_eq!(read("SASL_SSL://10.0.0.1:1").as_deref(), Some("10.0.0.1:1"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in
            ["", ":9092", "a:", "a:0", "a:65536", "a:b", "::1", "[::1", "[kafka]:1", "[::1]9092", "a b:1", "u@h"]
        {
            assert_eq!(Address::parse(text), None, "{text}");
        }
        assert_eq!(Address::parse_list("a, b:1,,").map(|list| list.len()), Ok(2));
        assert_eq!(Address::parse_list("a,b:x"), Err("b:x".to_owned()));
    }
}
