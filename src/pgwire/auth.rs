//! The client's half of authentication: trust, clear text, MD5, SCRAM-SHA-256 with and without channel binding.
//!
//! Source: PostgreSQL manual, "Message Flow: Start-up" and "SASL Authentication".

use bytes::{Buf, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256};
use postgres_protocol::message::frontend;
use secrecy::ExposeSecret;

use super::conninfo::ConnInfo;
use crate::error::{Error, Result};

/// Answers one server's authentication requests.
pub struct Authenticator<'a> {
    info: &'a ConnInfo,
    end_point: Option<Vec<u8>>,
    tls: bool,
    scram: Option<ScramSha256>,
    /// SCRAM proves the server's identity too: "ok" before that proof is an impostor's.
    unproven: bool,
}

/// What to do after an authentication request.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The server is satisfied.
    Done,
    /// An answer was written, or none is due; more follows.
    Continue,
}

impl<'a> Authenticator<'a> {
    /// For the user and password of `info`, bound to the TLS certificate's hash where there is one.
    pub fn new(info: &'a ConnInfo, tls: bool, end_point: Option<Vec<u8>>) -> Self {
        Authenticator { info, end_point, tls, scram: None, unproven: false }
    }

    /// Reads the body of an `R` message and writes the answer to `out`.
    ///
    /// # Errors
    /// `Fatal`: the password is missing, the method is unknown, or the server does not know the password itself.
    pub fn step(&mut self, mut body: &[u8], out: &mut BytesMut) -> Result<Step> {
        let broken = || Error::fatal("the server's authentication request is malformed");
        if body.len() < 4 {
            return Err(broken());
        }
        let kind = body.get_u32();
        match kind {
            0 if self.unproven => {
                return Err(Error::fatal("the server did not prove that it knows the password's verifier"));
            }
            0 => return Ok(Step::Done),
            3 => {
                let loopback = self.info.host == "localhost"
                    || self.info.host.parse().is_ok_and(|a: std::net::IpAddr| a.is_loopback());
                if !self.tls && !loopback {
                    tracing::warn!(host = self.info.host, "the server asks for the password in clear text, without TLS");
                }
                frontend::password_message(self.password()?, out)?;
            }
            5 => {
                let salt: [u8; 4] = body.get(..4).and_then(|s| s.try_into().ok()).ok_or_else(broken)?;
                let hash = md5_hash(self.info.user.as_bytes(), self.password()?, salt);
                frontend::password_message(hash.as_bytes(), out)?;
            }
            10 => {
                let offered: Vec<&[u8]> = body.split(|b| *b == 0).filter(|m| !m.is_empty()).collect();
                let plus = offered.contains(&SCRAM_SHA_256_PLUS.as_bytes());
                let (mechanism, binding) = match self.end_point.take() {
                    Some(hash) if plus => (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(hash)),
                    // "We could have, you did not offer it": the server notices if somebody removed the offer.
                    Some(_) => (SCRAM_SHA_256, ChannelBinding::unrequested()),
                    None => (SCRAM_SHA_256, ChannelBinding::unsupported()),
                };
                if !offered.contains(&mechanism.as_bytes()) {
                    return Err(Error::fatal("the server offers no SASL mechanism that is known here"));
                }
                let scram = ScramSha256::new(self.password()?, binding);
                frontend::sasl_initial_response(mechanism, scram.message(), out)?;
                self.scram = Some(scram);
                self.unproven = true;
            }
            11 => {
                let scram = self.scram.as_mut().ok_or_else(broken)?;
                scram.update(body).map_err(|e| Error::fatal(format!("SCRAM failed: {e}")))?;
                frontend::sasl_response(scram.message(), out)?;
            }
            12 => {
                let scram = self.scram.as_mut().ok_or_else(broken)?;
                scram.finish(body).map_err(|e| Error::fatal(format!("SCRAM failed: {e}")))?;
                self.unproven = false;
            }
            other => {
                return Err(Error::fatal(format!("the server asks for authentication method {other}, which is not known here"))
                    .hint("use scram-sha-256 for this user in pg_hba.conf"));
            }
        }
        Ok(Step::Continue)
    }

    fn password(&self) -> Result<&'a [u8]> {
        match &self.info.password {
            Some(p) => Ok(p.expose_secret().as_bytes()),
            None => Err(Error::fatal("the server asks for a password, and the URL has none")
                .hint("write postgres://user:${PASSWORD}@host/database and set the variable")),
        }
    }
}
