//! TLS for every engine's connections, on rustls with the ring provider: who is trusted, and what a failure means.
//!
//! A name is matched against subject alternative names only (webpki does not read the common name).

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::{Error, Result};

/// How a connection is to be protected.
#[derive(Clone)]
pub struct TlsSettings {
    /// The client's side of the handshake, verification included.
    pub config: Arc<ClientConfig>,
    /// Whether a server without TLS is refused.
    pub required: bool,
}

/// What is asked of the server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// Nothing.
    Nobody,
    /// That a trusted authority signed it.
    Chain,
    /// That, and that it is for the host's name.
    Name,
}

/// How an engine's URLs call what messages speak of.
#[derive(Debug)]
pub struct Words {
    /// The parameter with the authorities' file.
    pub ca: &'static str,
    /// The parameter with the client's certificate.
    pub cert: &'static str,
    /// The parameter with the client's key.
    pub key: &'static str,
    /// The mode that checks the authority only, as it is written in a URL.
    pub chain_only: &'static str,
    /// What to do about a server without TLS.
    pub offer: &'static str,
}

/// What a connection wants of TLS.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Whether a server without TLS is refused.
    pub required: bool,
    /// What is asked of the server's certificate.
    pub verify: Verify,
    /// PEM file of authorities; the system's if absent.
    pub ca: Option<&'a Path>,
    /// PEM files of the client's certificate and key.
    pub client: Option<(&'a Path, &'a Path)>,
    /// The words of messages.
    pub words: &'static Words,
}

/// Reads the certificates that `wanted` names.
///
/// # Errors
/// `Fatal`, naming the file and what is wrong with it.
pub fn settings(wanted: &Wanted<'_>) -> Result<TlsSettings> {
    let words = wanted.words;
    let provider = Arc::new(ring::default_provider());
    let verifier = match wanted.verify {
        Verify::Nobody => Verifier::trusting(&provider),
        Verify::Chain => Verifier::of(wanted.ca, words, false, &provider)?,
        Verify::Name => Verifier::of(wanted.ca, words, true, &provider)?,
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::fatal(format!("setting up TLS: {e}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let config = match wanted.client {
        Some((cert, key)) => {
            let chain = read_certificates(words.cert, cert)?;
            let key = read_key(words.key, key)?;
            builder.with_client_auth_cert(chain, key).map_err(|e| {
                Error::fatal(format!("{} {}: {e}", words.cert, cert.display()))
                    .hint(format!("{} and {} must belong to each other", words.cert, words.key))
            })?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(TlsSettings { config: Arc::new(config), required: wanted.required })
}

/// The name that the server's certificate is to have.
///
/// # Errors
/// `Config` if it cannot be a host's name.
pub fn server_name(doing: impl std::fmt::Display, host: &str) -> Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).map_err(|_| Error::config(format!("{doing}: {host:?} is not a host name")))
}

/// The error for a server that speaks no TLS where it is required.
pub fn not_offered(doing: impl std::fmt::Display, words: &Words) -> Error {
    Error::fatal(format!("{doing}: the server does not offer TLS, and the URL asks for it")).hint(words.offer)
}

/// If a failed handshake (or a broken TLS connection) lies beneath `e`, says what to do about it. Nothing here mends
/// itself, so it is `Fatal`; a connection that just ended is not a TLS error.
pub fn explain(
    doing: impl std::fmt::Display,
    host: &str,
    e: &(dyn std::error::Error + 'static),
    words: &Words,
) -> Option<Error> {
    let tls = find(e)?;
    let rustls::Error::InvalidCertificate(bad) = tls else {
        return Some(match tls {
            rustls::Error::AlertReceived(alert) => {
                Error::fatal(format!("{doing}: the server refused the TLS connection ({alert:?})")).hint(format!(
                    "it may ask for a client certificate ({} and {} in the URL) that it trusts",
                    words.cert, words.key
                ))
            }
            other => Error::fatal(format!("{doing}: TLS failed: {other}")),
        });
    };
    Some(match bad {
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<_> = presented.iter().map(|n| readable_name(n)).collect();
            let has =
                if names.is_empty() { "names no host".to_owned() } else { format!("is for {}", names.join(", ")) };
            Error::fatal(format!("{doing}: the server's certificate {has}, not for {host:?}")).hint(format!(
                "use a host name that the certificate has as subject alternative name, or {} to check the authority only",
                words.chain_only
            ))
        }
        CertificateError::NotValidForName => {
            Error::fatal(format!("{doing}: the server's certificate is not for {host:?}")).hint(format!(
                "use the host name that the certificate has, or {} to check the authority only",
                words.chain_only
            ))
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            Error::fatal(format!("{doing}: the server's certificate was not signed by an authority in {}", words.ca))
                .hint(format!("give the certificate authority of that server as {} (a PEM file)", words.ca))
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            Error::fatal(format!("{doing}: the server's certificate has expired"))
                .hint("renew the certificate, or set this machine's clock right")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Error::fatal(format!("{doing}: the server's certificate is not valid yet"))
                .hint("set the clocks of both machines right")
        }
        other => Error::fatal(format!("{doing}: the server's certificate is not acceptable: {other:?}"))
            .hint("it must be an X.509 version 3 certificate for server authentication"),
    })
}

/// The rustls error beneath an error; `io::Error::source` skips the error it holds, so it is looked into.
pub(crate) fn find<'a>(e: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(e);
    while let Some(e) = next {
        if let Some(tls) = e.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        next = match e.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref()) {
            Some(inner) => Some(inner),
            None => e.source(),
        };
    }
    None
}

/// webpki writes names as `DnsName("localhost")`.
fn readable_name(presented: &str) -> String {
    presented.split('"').nth(1).unwrap_or(presented).to_owned()
}

/// `tls-server-end-point` (RFC 5929): the certificate's hash, by the hash function of its signature, MD5 and SHA-1
/// replaced by SHA-256. `None` where that is not defined (Ed25519) or the hash is not at hand (SHA-512).
pub fn server_end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    use rustls::crypto::ring::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384};
    let suite = match signature_algorithm(certificate)? {
        // 1.2.840.113549.1.1.{4,5,11}: RSA with MD5, SHA-1, SHA-256; 1.2.840.10045.4.{1,3.2}: ECDSA with SHA-1, SHA-256.
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04 | 0x05 | 0x0b]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02] => TLS13_AES_128_GCM_SHA256,
        // RSA and ECDSA with SHA-384.
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03] => {
            TLS13_AES_256_GCM_SHA384
        }
        _ => return None,
    };
    Some(suite.tls13()?.common.hash_provider.hash(certificate).as_ref().to_vec())
}

/// The object identifier of a certificate's signature: `SEQUENCE { tbs SEQUENCE, SEQUENCE { OID … }, … }`.
fn signature_algorithm(der: &[u8]) -> Option<&[u8]> {
    let (0x30, certificate, _) = element(der)? else { return None };
    let (0x30, _, rest) = element(certificate)? else { return None };
    let (0x30, algorithm, _) = element(rest)? else { return None };
    let (0x06, oid, _) = element(algorithm)? else { return None };
    Some(oid)
}

/// Tag, content and what follows of one DER element.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut len = usize::from(first);
    if first & 0x80 != 0 {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 || rest.len() < count {
            return None;
        }
        len = rest[..count].iter().fold(0, |n, b| n << 8 | usize::from(*b));
        rest = &rest[count..];
    }
    (len <= rest.len()).then(|| (tag, &rest[..len], &rest[len..]))
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| {
        Error::fatal(format!("{key} {}: cannot be read: {e}", path.display()))
            .hint("give the path of a PEM file that the user of this process may read")
    })
}

fn read_certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = read(key, path)?;
    let certificates = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| Error::fatal(format!("{key} {}: not a PEM file: {e}", path.display())))?;
    if certificates.is_empty() {
        return Err(Error::fatal(format!("{key} {}: there is no certificate in it", path.display()))
            .hint("a PEM certificate begins with -----BEGIN CERTIFICATE-----"));
    }
    Ok(certificates)
}

fn read_key(parameter: &str, path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(&read(parameter, path)?).map_err(|_| {
        Error::fatal(format!("{parameter} {}: there is no usable private key in it", path.display()))
            .hint("it must be a PEM key without passphrase (-----BEGIN PRIVATE KEY-----)")
    })
}

/// Verifies what [`Verify`] asks for: nothing, the chain, or chain and name.
#[derive(Debug)]
struct Verifier {
    /// `None`: nobody is asked who they are.
    chain: Option<Arc<WebPkiServerVerifier>>,
    /// Certificates of the authorities' file. A server may show one of them itself (a self-signed certificate); OpenSSL accepts
    /// that, webpki refuses an authority as a server.
    trusted: Vec<CertificateDer<'static>>,
    names: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn trusting(provider: &CryptoProvider) -> Self {
        let algorithms = provider.signature_verification_algorithms;
        Verifier { chain: None, trusted: Vec::new(), names: false, algorithms }
    }

    fn of(ca: Option<&Path>, words: &Words, names: bool, provider: &Arc<CryptoProvider>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        let mut trusted = Vec::new();
        match ca {
            Some(path) => {
                trusted = read_certificates(words.ca, path)?;
                let (_, bad) = roots.add_parsable_certificates(trusted.iter().cloned());
                if roots.is_empty() {
                    return Err(Error::fatal(format!(
                        "{} {}: {bad} certificates in it, none can be read",
                        words.ca,
                        path.display()
                    )));
                }
            }
            None => {
                let system = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(system.certs);
                if roots.is_empty() {
                    return Err(Error::fatal(
                        "this machine has no certificate authorities of its own to verify the server with",
                    )
                    .hint(format!(
                        "install the package ca-certificates, or give the server's authority as {}",
                        words.ca
                    )));
                }
            }
        }
        let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|e| Error::fatal(format!("setting up TLS: {e}")))?;
        Ok(Verifier { chain: Some(chain), trusted, names, algorithms: provider.signature_verification_algorithms })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use rustls::Error::InvalidCertificate;
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is looked at after the chain was found good.
            Err(InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.names => Ok(ServerCertVerified::assertion()),
            // "CaUsedAsEndEntity" has no variant of its own; validity in time was looked at before it.
            Err(InvalidCertificate(CertificateError::Other(_))) if self.trusted.contains(end_entity) => {
                if self.names {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
