//! TLS: whom we trust, and who we are.
//!
//! Read from a [`Tls`] once; `connection.rs` takes a session for each connection. Invariant: a broker's certificate is always
//! verified up to an authority; only the name in it may go unchecked, where the settings say so.

use crate::config::{Authorities, Identity, Pem, Tls};
use crate::failure::{Cause, TlsFault, of_tls, said};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::Arc;

const CA: &str = "ssl.ca.location";
const CERTIFICATE: &str = "ssl.certificate.location";
const KEY: &str = "ssl.key.location";

/// Makes sessions of TLS.
#[derive(Debug, Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    /// Whether a broker that wants to know us can.
    pub has_certificate: bool,
}

impl TlsClient {
    /// Reads what the settings name.
    ///
    /// # Errors
    /// Files and texts that cannot be used.
    pub fn new(tls: &Tls) -> Result<Self, Cause> {
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(roots(&tls.authorities)?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
        let verifier = verifier.map_err(|error| wrong(CA, error.to_string()))?;
        let verifier: Arc<dyn ServerCertVerifier> =
            if tls.checks_host { verifier } else { Arc::new(AnyHost { inner: verifier }) };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| of_tls(&error, false))?;
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let config = match &tls.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = read_identity(identity, &provider)?;
                builder.with_client_auth_cert(chain, key).map_err(|error| wrong(CERTIFICATE, error.to_string()))?
            }
        };
        Ok(Self { config: Arc::new(config), has_certificate: tls.identity.is_some() })
    }

    /// A session with `host`.
    ///
    /// # Errors
    /// A host that no certificate can name.
    pub fn session(&self, host: &str) -> Result<ClientConnection, Cause> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|_| Cause::Tls(TlsFault::WrongHost(": no certificate can name it".to_owned())))?;
        ClientConnection::new(Arc::clone(&self.config), name).map_err(|error| of_tls(&error, self.has_certificate))
    }
}

fn roots(authorities: &Authorities) -> Result<RootCertStore, Cause> {
    let certificates = match authorities {
        Authorities::System => rustls_native_certs::load_native_certs().certs,
        Authorities::Pem(Pem::File(path)) if path.is_dir() => {
            rustls_native_certs::load_certs_from_paths(None, Some(path)).certs
        }
        Authorities::Pem(pem) => certificates(pem, CA)?,
    };
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(certificates);
    match (added, authorities) {
        (0, Authorities::System) => Err(wrong(CA, "the system has no authorities; name a file")),
        (0, Authorities::Pem(_)) => Err(wrong(CA, format!("no certificate can be used ({ignored} cannot be read)"))),
        _ => Ok(roots),
    }
}

/// A client's certificate and key, which must belong together.
fn read_identity(
    identity: &Identity,
    provider: &CryptoProvider,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Cause> {
    let chain = certificates(&identity.certificate, CERTIFICATE)?;
    let bytes = read(&identity.key, KEY)?;
    if is_encrypted(&bytes) {
        let fault = "the key is encrypted; decrypt it (openssl pkey), or use transport = \"librdkafka\"";
        return Err(wrong(KEY, fault));
    }
    // What the parser says may have part of a key in it.
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| wrong(KEY, "there is no private key in PEM"))?;
    provider.key_provider.load_private_key(key.clone_key()).map_err(|_| wrong(KEY, "the kind of key is not known"))?;
    Ok((chain, key))
}

/// The two ways of PEM to say it: PKCS #8, and OpenSSL's own.
fn is_encrypted(pem: &[u8]) -> bool {
    let has = |mark: &[u8]| pem.windows(mark.len()).any(|window| window == mark);
    has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED")
}

fn certificates(pem: &Pem, name: &'static str) -> Result<Vec<CertificateDer<'static>>, Cause> {
    let bytes = read(pem, name)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = certificates.map_err(|_| wrong(name, "it is damaged: that is no PEM"))?;
    if certificates.is_empty() { Err(wrong(name, "there is no certificate in PEM")) } else { Ok(certificates) }
}

fn read(pem: &Pem, name: &'static str) -> Result<Vec<u8>, Cause> {
    match pem {
        Pem::Text(text) => Ok(text.expose().as_bytes().to_vec()),
        Pem::File(path) => {
            std::fs::read(path).map_err(|error| wrong(name, format!("{} cannot be read: {error}", path.display())))
        }
    }
}

fn wrong(name: &'static str, fault: impl Into<String>) -> Cause {
    Cause::Setting { name, fault: said(&fault.into()) }
}

/// Verifies all but the name, for `ssl.endpoint.identification.algorithm = none`.
#[derive(Debug)]
struct AnyHost {
    inner: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for AnyHost {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        // The name is looked at last: who gets as far has a certificate that is good in all else.
        match self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests;
