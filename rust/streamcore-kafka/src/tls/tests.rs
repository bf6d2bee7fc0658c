//! Handshakes in memory: right, wrong authority, wrong host, expired, client certificates.

use super::*;
use crate::secret::Secret;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, ServerConnection};

struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

fn authority(name: &str) -> Authority {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("params");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).expect("signed");
    let (pem, der) = (certificate.pem(), certificate.der().clone());
    Authority { pem, der, issuer: Issuer::new(params, key) }
}

impl Authority {
    /// A certificate for `host` that is valid up to a year, and its key in PEM.
    fn certify(&self, host: &str, until: i32) -> (CertificateDer<'static>, String, String) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("params");
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        (certificate.der().clone(), certificate.pem(), key.serialize_pem())
    }
}

fn text(pem: &str) -> Pem {
    Pem::Text(Secret::new(pem))
}

fn trusting(authority: &Authority) -> Tls {
    Tls { authorities: Authorities::Pem(text(&authority.pem)), identity: None, checks_host: true }
}

/// A broker with a certificate of `signer`; `clients` is who signs those of its clients, if it wants any.
fn server(signer: &Authority, host: &str, until: i32, clients: Option<&Authority>) -> ServerConnection {
    let (certificate, _, key) = signer.certify(host, until);
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add(clients.der.clone()).expect("a root");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        }
    };
    let config = builder.with_single_cert(vec![certificate], key).expect("a certificate");
    ServerConnection::new(Arc::new(config)).expect("a session")
}

/// Carries bytes to and fro until both are done, or the fault of the client.
fn shake(client: &TlsClient, host: &str, mut server: ServerConnection) -> Result<(), Cause> {
    let mut session = client.session(host)?;
    for _ in 0..10 {
        let mut wire = Vec::new();
        while session.wants_write() {
            session.write_tls(&mut wire).expect("memory");
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).expect("memory");
            // What it does not like, it says by an alert.
            let _ = server.process_new_packets();
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("memory");
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            session.read_tls(&mut rest).expect("memory");
            session.process_new_packets().map_err(|error| of_tls(&error, client.has_certificate))?;
        }
    }
    assert!(!session.is_handshaking() && !server.is_handshaking());
    Ok(())
}

fn fault(tls: &Tls, host: &str, server: ServerConnection) -> TlsFault {
    match shake(&TlsClient::new(tls).expect("settings"), host, server) {
        Err(Cause::Tls(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_certificate_is_verified_up_to_its_authority() {
    let [ours, theirs, namesake] = ["ours", "theirs", "ours"].map(authority);
    let client = TlsClient::new(&trusting(&ours)).expect("settings");
    assert_eq!(shake(&client, "kafka.test", server(&ours, "kafka.test", 2100, None)), Ok(()));
    let tls = trusting(&ours);
    for signer in [&theirs, &namesake] {
        assert_eq!(fault(&tls, "kafka.test", server(signer, "kafka.test", 2100, None)), TlsFault::UnknownAuthority);
    }
    assert_eq!(fault(&tls, "kafka.test", server(&ours, "kafka.test", 2001, None)), TlsFault::Expired);
    let host = fault(&tls, "other.test", server(&ours, "kafka.test", 2100, None));
    assert!(matches!(&host, TlsFault::WrongHost(_)) && host.to_string().contains("host but of kafka.test;"), "{host}");
}

#[test]
fn without_the_check_of_the_host_all_else_is_checked() {
    let [ours, theirs, namesake] = ["ours", "theirs", "ours"].map(authority);
    let tls = Tls { checks_host: false, ..trusting(&ours) };
    let client = TlsClient::new(&tls).expect("settings");
    assert_eq!(shake(&client, "other.test", server(&ours, "kafka.test", 2100, None)), Ok(()));
    for signer in [&theirs, &namesake] {
        assert_eq!(fault(&tls, "other.test", server(signer, "kafka.test", 2100, None)), TlsFault::UnknownAuthority);
    }
    assert_eq!(fault(&tls, "other.test", server(&ours, "kafka.test", 2001, None)), TlsFault::Expired);
}

#[test]
fn a_client_certificate_is_shown_where_it_is_wanted() {
    let [ours, theirs, namesake] = ["ours", "theirs", "ours"].map(authority);
    let wants = || server(&ours, "kafka.test", 2100, Some(&ours));
    assert_eq!(fault(&trusting(&ours), "kafka.test", wants()), TlsFault::CertificateWanted);
    let identity = |signer: &Authority| {
        let (_, certificate, key) = signer.certify("client", 2100);
        Tls { identity: Some(Identity { certificate: text(&certificate), key: text(&key) }), ..trusting(&ours) }
    };
    let client = TlsClient::new(&identity(&ours)).expect("settings");
    assert_eq!(shake(&client, "kafka.test", wants()), Ok(()));
    for signer in [&theirs, &namesake] {
        let refused = fault(&identity(signer), "kafka.test", wants());
        assert!(matches!(refused, TlsFault::CertificateRefused(_)), "{refused}");
    }
}

#[test]
fn settings_that_cannot_be_used_are_named_and_show_no_key() {
    let ours = authority("ours");
    let (_, certificate, key) = ours.certify("client", 2100);
    let line = |tls: Tls| TlsClient::new(&tls).map(|_| ()).expect_err("refused").to_string();
    let with = |certificate: &str, key: &str| {
        line(Tls { identity: Some(Identity { certificate: text(certificate), key: text(key) }), ..trusting(&ours) })
    };
    assert!(with(&certificate, "canary").contains("ssl.key.location cannot be used: there is no private key"));
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    assert!(with(&certificate, &encrypted).contains("the key is encrypted; decrypt it"));
    assert!(with("canary", &key).contains("ssl.certificate.location cannot be used: there is no certificate"));
    let (_, _, other) = ours.certify("client", 2100);
    assert!(with(&certificate, &other).contains("ssl.certificate.location"));
    let authorities = Authorities::Pem(Pem::File("no/such/file.pem".into()));
    assert!(line(Tls { authorities, ..trusting(&ours) }).contains("no/such/file.pem cannot be read"));
}
