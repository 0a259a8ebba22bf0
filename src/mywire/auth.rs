//! The client's half of authentication, plugin by plugin.
//!
//! Source: MySQL internals manual, "Authentication Methods"; MariaDB, "Authentication Plugin - ed25519". A password never
//! leaves in clear text except inside TLS; without TLS it is encrypted with the server's RSA key, as MySQL's own clients do
//! under `get-server-public-key`: who could exchange that key could read it, which `ssl-mode=verify_ca` rules out.

use mysql_common::scramble::{create_response_for_ed25519, scramble_native, scramble_sha256};

use super::packet::Reader;
use crate::error::{Error, Result};

const NATIVE: &str = "mysql_native_password";
const CACHING: &str = "caching_sha2_password";
const SHA256: &str = "sha256_password";
const CLEAR: &str = "mysql_clear_password";
const ED25519: &str = "client_ed25519";

/// Answers one server's questions.
#[derive(Debug)]
pub struct Authenticator {
    password: Vec<u8>,
    tls: bool,
    plugin: String,
    nonce: Vec<u8>,
    /// The server's RSA key was asked for.
    key_asked: bool,
}

/// What to do after a packet of the server.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this.
    Send(Vec<u8>),
    /// Wait for the next packet.
    Wait,
}

impl Authenticator {
    /// For a password (empty if there is none) and the plugin and nonce of the server's greeting.
    pub fn new(password: &[u8], tls: bool, plugin: &str, nonce: &[u8]) -> Self {
        // The server assumes a plugin for a user that it has not looked up yet; for one that is not known here the first
        // answer is of another, and the server asks to switch.
        let plugin = match plugin {
            NATIVE | CACHING | ED25519 => plugin,
            _ => CACHING,
        };
        Authenticator {
            password: password.to_vec(),
            tls,
            plugin: plugin.to_owned(),
            nonce: nonce.to_vec(),
            key_asked: false,
        }
    }

    /// The plugin that the answers are of.
    pub fn plugin(&self) -> &str {
        &self.plugin
    }

    /// The plugin's first answer.
    ///
    /// # Errors
    /// `Fatal` for a plugin that is not known here, or that would show the password.
    pub fn first(&self) -> Result<Vec<u8>> {
        let password = &self.password[..];
        Ok(match self.plugin.as_str() {
            NATIVE => scramble_native(&self.nonce, password).map(Vec::from).unwrap_or_default(),
            CACHING => scramble_sha256(&self.nonce, password).map(Vec::from).unwrap_or_default(),
            ED25519 => create_response_for_ed25519(password, &self.nonce).to_vec(),
            // An empty password is one zero byte; without TLS the key is asked for first.
            SHA256 if password.is_empty() => vec![0],
            SHA256 if self.tls => self.clear(),
            SHA256 => vec![1],
            CLEAR if self.tls => self.clear(),
            CLEAR => {
                return Err(Error::fatal("the server asks for the password in clear text, without TLS")
                    .hint("use ssl-mode=required, or an account with another authentication plugin"));
            }
            "mysql_old_password" => {
                return Err(Error::fatal("the account has a password of before MySQL 4.1, which is not secure")
                    .hint("set its password again on that server"));
            }
            other => {
                return Err(Error::fatal(format!("the account authenticates with {other:?}, which is not known here"))
                    .hint("use an account with caching_sha2_password, mysql_native_password or ed25519"));
            }
        })
    }

    /// The request to switch to another plugin: 0xFE, its name, its nonce.
    ///
    /// # Errors
    /// As [`Authenticator::first`].
    pub fn switch(&mut self, payload: &[u8]) -> Result<Step> {
        let mut r = Reader(payload.get(1..).unwrap_or(&[]));
        let plugin = String::from_utf8_lossy(r.until_nul()).into_owned();
        self.plugin = if plugin.is_empty() { "mysql_old_password".into() } else { plugin };
        self.nonce = r.0.strip_suffix(&[0]).unwrap_or(r.0).to_vec();
        self.key_asked = self.plugin == SHA256 && !self.tls && !self.password.is_empty();
        self.first().map(Step::Send)
    }

    /// What the plugin says further: 0x01 and its data.
    ///
    /// # Errors
    /// `Fatal` if it says what it must not say.
    pub fn more(&mut self, payload: &[u8]) -> Result<Step> {
        let data = payload.get(1..).unwrap_or(&[]);
        match (self.plugin.as_str(), data) {
            (CACHING | SHA256, key) if self.key_asked => {
                self.key_asked = false;
                self.encrypted(key).map(Step::Send)
            }
            // The server has this password's hash in its cache and is satisfied.
            (CACHING, [3]) => Ok(Step::Wait),
            (CACHING, [4]) if self.tls => Ok(Step::Send(self.clear())),
            (CACHING, [4]) => {
                self.key_asked = true;
                Ok(Step::Send(vec![2]))
            }
            (plugin, _) => Err(Error::fatal(format!("the server's {plugin} asks what is not known here"))),
        }
    }

    fn clear(&self) -> Vec<u8> {
        let mut answer = self.password.clone();
        answer.push(0);
        answer
    }

    /// The password, with a zero at its end and under the nonce, encrypted with the server's key.
    fn encrypted(&self, pem: &[u8]) -> Result<Vec<u8>> {
        let modulus = rsa_modulus_len(pem)
            .ok_or_else(|| Error::fatal("the server's public key, for the password, cannot be read"))?;
        let mut answer = self.clear();
        // OAEP with SHA-1 takes 42 bytes of the block.
        if answer.len() + 42 > modulus || self.nonce.is_empty() {
            return Err(Error::fatal("the password is too long for the server's public key")
                .hint("use ssl-mode=required: inside TLS passwords of any length can be sent"));
        }
        for (byte, nonce) in answer.iter_mut().zip(self.nonce.iter().cycle()) {
            *byte ^= nonce;
        }
        Ok(mysql_common::crypto::encrypt(&answer, pem))
    }
}

/// The bytes of an RSA key's modulus, if `pem` is a public key that `mysql_common::crypto` can read: that one panics over
/// anything else, so every length is looked at here first.
fn rsa_modulus_len(pem: &[u8]) -> Option<usize> {
    use base64::Engine;
    const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
    let text = std::str::from_utf8(pem).ok()?;
    let (_, body) = text.split_once(BEGIN)?;
    let (body, _) = body.split_once("-----END PUBLIC KEY-----")?;
    if text.contains("RSA PUBLIC KEY") || body.contains('-') {
        return None;
    }
    let body: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(body).ok()?;
    let (key, _) = der_element(&der, 0x30)?;
    let (_algorithm, rest) = der_element(key, 0x30)?;
    let (bits, _) = der_element(rest, 0x03)?;
    let (0, numbers) = bits.split_first().map(|(unused, rest)| (*unused, rest))? else { return None };
    let (numbers, _) = der_element(numbers, 0x30)?;
    let (modulus, rest) = der_element(numbers, 0x02)?;
    let (exponent, _) = der_element(rest, 0x02)?;
    let significant = modulus.iter().skip_while(|b| **b == 0).count();
    (significant > 0 && !exponent.is_empty()).then_some(significant)
}

/// Content of a DER element with this tag, and what follows it.
fn der_element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let mut r = Reader(der);
    if r.u8()? != tag {
        return None;
    }
    let first = r.u8()?;
    let len = if first & 0x80 == 0 {
        usize::from(first)
    } else {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        r.take(count)?.iter().fold(0, |n, b| n << 8 | usize::from(*b))
    };
    let content = r.take(len)?;
    Some((content, r.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAxSKOcxiet8lLMn8ImyUE
bGGKob5EdRz/4wdiw12ED0GfKKTKhVnodFCfm1mdy7bKOX5QxL9skrvYodpW43eR
R5bfOzIgy1qIB8RYb6qOXRBw1oA4snBDqtUjDv/lbHLJN+IbzM4oU+e3Lt9rXyLX
VY289ewONPweXHqSCnTL91w+wkU1peIFV2QhZ+upUCdCtwOn5hnJPNgxtbklFoya
C8W3Z7Xx7He2QDJsEWAqX197efw0L6j8X8Tyd8Uwb7zUB1tfMGhHfm9EwejPAtzx
4GztQNtNMtGS2oGZLQBLV9hib4dDL92iiZeckg2LAf4GsJofLLR8mcHCRoqVbQJ1
YQIDAQAB
-----END PUBLIC KEY-----
";

    #[test]
    fn given_a_public_key_cut_or_changed_anywhere_when_used_then_nothing_panics() {
        let of = |pem: &[u8]| {
            let mut a = Authenticator::new(b"secret", false, CACHING, b"12345678901234567890");
            assert_eq!(a.more(&[1, 4]).unwrap(), Step::Send(vec![2]));
            a.more(&[&[1], pem].concat())
        };
        assert!(matches!(of(KEY.as_bytes()), Ok(Step::Send(block)) if block.len() == 256));
        for end in 0..KEY.len() - 2 {
            assert!(of(&KEY.as_bytes()[..end]).is_err(), "{end}");
        }
        for at in 0..KEY.len() {
            for byte in [b'A', b'/', b'-', 0, 255] {
                let mut pem = KEY.as_bytes().to_vec();
                pem[at] = byte;
                let _ = of(&pem);
            }
        }
    }

    #[test]
    fn given_a_switch_to_clear_text_when_there_is_no_tls_then_the_password_stays_here() {
        let mut a = Authenticator::new(b"secret", false, NATIVE, b"12345678901234567890");
        let e = a.switch(b"\xfemysql_clear_password\0").unwrap_err();
        assert!(e.message().contains("clear text") && !e.is_retry(), "{e}");
        let mut a = Authenticator::new(b"secret", true, NATIVE, b"12345678901234567890");
        assert_eq!(a.switch(b"\xfemysql_clear_password\0").unwrap(), Step::Send(b"secret\0".to_vec()));
        assert!(a.switch(b"\xfe").unwrap_err().message().contains("before MySQL 4.1"));
        assert!(a.switch(b"\xfedialog\0x").unwrap_err().message().contains("dialog"));
    }
}
