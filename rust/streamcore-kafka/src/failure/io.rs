//! What an error of a socket or of TLS means for a broker.
//!
//! `wire.rs` and `connection.rs` give the error and what they were doing. rustls hides its own errors in those of the socket: an
//! alert of the broker may come with any later read, since a client of TLS 1.3 is done before its certificate was looked at.

use super::{Cause, TlsFault, said};
use rustls::{AlertDescription, CertificateError, Error as TlsError};
use std::io::{Error, ErrorKind};
use std::time::Duration;

/// The cause of an error on a connection, while `doing`, which `waited` at most. `hint` is for a broker that hangs up.
#[must_use]
pub fn of_io(error: &Error, doing: &'static str, waited: Duration, hint: &'static str, has_certificate: bool) -> Cause {
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        return of_tls(tls, has_certificate);
    }
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Cause::Timeout { doing, waited },
        ErrorKind::ConnectionRefused => Cause::Refused,
        ErrorKind::UnexpectedEof
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::NotConnected => Cause::Closed { doing, hint },
        _ => Cause::Unreachable(said(&error.to_string())),
    }
}

/// The cause of an error of TLS.
#[must_use]
pub fn of_tls(error: &TlsError, has_certificate: bool) -> Cause {
    Cause::Tls(match error {
        TlsError::InvalidCertificate(error) => of_certificate(error),
        TlsError::AlertReceived(alert) => of_alert(*alert, has_certificate),
        TlsError::InvalidMessage(_) => TlsFault::NotTls,
        error => TlsFault::Other(said(&error.to_string())),
    })
}

fn of_certificate(error: &CertificateError) -> TlsFault {
    match error {
        // A bad signature is that of an authority which has the name of one that we trust, and another key: one made anew.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsFault::UnknownAuthority,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFault::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => TlsFault::NotYetValid,
        CertificateError::Revoked => TlsFault::Revoked,
        CertificateError::NotValidForName => TlsFault::WrongHost(String::new()),
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<_> = presented.iter().map(|name| bare(name)).collect();
            TlsFault::WrongHost(format!(" but of {}", said(&names.join(", "))))
        }
        error => TlsFault::Other(format!("its certificate cannot be used: {}", said(&error.to_string()))),
    }
}

/// The name in `DnsName("kafka-1")`, as rustls writes it.
fn bare(name: &str) -> &str {
    name.split('"').nth(1).unwrap_or(name)
}

fn of_alert(alert: AlertDescription, has_certificate: bool) -> TlsFault {
    use AlertDescription as Alert;
    match alert {
        Alert::CertificateRequired => TlsFault::CertificateWanted,
        // What Java says to a client without one, by its version and that of TLS.
        Alert::BadCertificate | Alert::HandshakeFailure if !has_certificate => TlsFault::CertificateWanted,
        // Of rustls, for a certificate that an authority signed which has the right name alone.
        Alert::DecryptError if has_certificate => TlsFault::CertificateRefused(format!("{alert:?}")),
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied => TlsFault::CertificateRefused(format!("{alert:?}")),
        alert => TlsFault::Other(format!("the broker says {alert:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_found_inside_of_io() {
        let cause = |error: TlsError, has_certificate| {
            of_io(&Error::new(ErrorKind::InvalidData, error), "reading", Duration::ZERO, "", has_certificate)
        };
        let expired = TlsError::InvalidCertificate(CertificateError::Expired);
        assert_eq!(cause(expired, false), Cause::Tls(TlsFault::Expired));
        let bad = TlsError::AlertReceived(AlertDescription::BadCertificate);
        assert_eq!(cause(bad.clone(), false), Cause::Tls(TlsFault::CertificateWanted));
        assert_eq!(cause(bad, true), Cause::Tls(TlsFault::CertificateRefused("BadCertificate".into())));
    }

    #[test]
    fn a_socket_that_waits_too_long_is_a_timeout_on_every_system() {
        for kind in [ErrorKind::WouldBlock, ErrorKind::TimedOut] {
            let waited = Duration::from_secs(3);
            let cause = of_io(&kind.into(), "reading", waited, "", false);
            assert_eq!(cause, Cause::Timeout { doing: "reading", waited });
        }
    }
}
