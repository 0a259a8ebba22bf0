//! TLS as libpq's `sslmode` and `sslrootcert` define it.
//!
//! Source of the rules: PostgreSQL manual, "SSL Support" (libpq). Two differences, both stricter: `prefer` never falls
//! back to plain text once the server said yes to TLS, and a name is matched against subject alternative names only.

use super::conninfo::{ConnInfo, SslMode};
use crate::error::{Error, Result};
use crate::transport::tls::{self, Verify, Wanted, Words};
pub use crate::transport::tls::{TlsSettings, server_end_point};

const WORDS: Words = Words {
    ca: "sslrootcert",
    cert: "sslcert",
    key: "sslkey",
    chain_only: "sslmode=verify-ca",
    offer: "set ssl = on with a certificate on that server, or use sslmode=prefer or disable on a trusted network",
};

/// Reads the certificates that `info` names. `None` under `sslmode=disable`.
///
/// # Errors
/// `Fatal`, naming the file and what is wrong with it.
pub fn settings(info: &ConnInfo) -> Result<Option<TlsSettings>> {
    let verify = match info.sslmode {
        SslMode::Disable => return Ok(None),
        SslMode::Prefer => Verify::Nobody,
        // With a root certificate `require` verifies it, for compatibility with libpq.
        SslMode::Require if info.sslrootcert.is_some() => Verify::Chain,
        SslMode::Require => Verify::Nobody,
        SslMode::VerifyCa => Verify::Chain,
        SslMode::VerifyFull => Verify::Name,
    };
    tls::settings(&Wanted {
        required: info.sslmode >= SslMode::Require,
        verify,
        ca: info.sslrootcert.as_deref().filter(|_| !info.system_roots()),
        client: info.sslcert.as_deref().zip(info.sslkey.as_deref()),
        words: &WORDS,
    })
    .map(Some)
}

/// The error for a server that speaks no TLS where it is required.
pub fn not_offered(doing: impl std::fmt::Display) -> Error {
    tls::not_offered(doing, &WORDS)
}

/// If a failed handshake (or a broken TLS connection) lies beneath `e`, says what to do about it.
pub fn explain(doing: impl std::fmt::Display, host: &str, e: &(dyn std::error::Error + 'static)) -> Option<Error> {
    tls::explain(doing, host, e, &WORDS)
}
