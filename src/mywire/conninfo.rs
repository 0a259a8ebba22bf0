//! A MySQL or MariaDB connection URL.

use std::path::PathBuf;

use secrecy::SecretString;

use crate::error::{Error, Result};
use crate::transport::tls::{self, TlsSettings, Verify, Wanted, Words};
use crate::transport::url;

/// `ssl-mode` as MySQL's own clients define it (manual, "Command Options for Encrypted Connections").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never TLS.
    Disabled,
    /// TLS if the server offers it, unverified.
    Preferred,
    /// TLS, unverified unless `ssl-ca` is given.
    Required,
    /// TLS, the certificate's chain verified.
    VerifyCa,
    /// TLS, chain and host name verified.
    VerifyIdentity,
}

/// Where and how to connect.
#[derive(Clone, Debug)]
pub struct MyConnInfo {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Account, without its host part.
    pub user: String,
    /// Password, if the URL has one.
    pub password: Option<SecretString>,
    /// Database, if the URL names one.
    pub database: Option<String>,
    /// TLS mode.
    pub ssl_mode: SslMode,
    /// PEM file of certificate authorities, or `system`; the system's if absent.
    pub ssl_ca: Option<PathBuf>,
    /// PEM file of the client's certificate.
    pub ssl_cert: Option<PathBuf>,
    /// PEM file of the client's key.
    pub ssl_key: Option<PathBuf>,
    /// Seconds to wait for a connection; 0 waits for ever.
    pub connect_timeout: u64,
}

pub(super) const WORDS: Words = Words {
    ca: "ssl-ca",
    cert: "ssl-cert",
    key: "ssl-key",
    chain_only: "ssl-mode=verify_ca",
    offer: "set ssl_cert and ssl_key on that server, or use ssl-mode=preferred or disabled on a trusted network",
};

impl MyConnInfo {
    /// Reads `mysql://user:password@host:port/database?ssl-mode=…` (or `mariadb://`). `key` names the configuration key
    /// in errors. Parameters: `ssl-mode`, `ssl-ca`, `ssl-cert`, `ssl-key`, `connect_timeout`; what libpq calls
    /// `sslmode`, `sslrootcert`, `sslcert`, `sslkey` is understood, too. `ssl-ca` alone means `verify_ca`.
    ///
    /// # Errors
    /// [`crate::error::Class::Config`]; the message never holds the URL, because it holds a password.
    pub fn parse(key: &str, url: &SecretString) -> Result<MyConnInfo> {
        let bad = |what: String| {
            Error::config(format!("{key}: {what}"))
                .hint("write mysql://user:password@host:3306/database?ssl-mode=verify_identity&ssl-ca=/path/ca.pem")
        };
        let parts = url::parse(url, &["mysql", "mariadb"]).map_err(bad)?;
        let mut info = MyConnInfo {
            host: parts.host,
            port: parts.port.unwrap_or(3306),
            user: parts.user,
            password: parts.password,
            database: Some(parts.database).filter(|d| !d.is_empty()),
            ssl_mode: SslMode::Preferred,
            ssl_ca: None,
            ssl_cert: None,
            ssl_key: None,
            connect_timeout: 10,
        };
        let mut mode = None;
        for (name, value) in parts.parameters {
            match name.replace('_', "-").as_str() {
                "ssl-mode" | "sslmode" => {
                    mode = Some(match value.to_lowercase().replace('-', "_").as_str() {
                        "disabled" | "disable" => SslMode::Disabled,
                        "preferred" | "prefer" | "allow" => SslMode::Preferred,
                        "required" | "require" => SslMode::Required,
                        "verify_ca" => SslMode::VerifyCa,
                        "verify_identity" | "verify_full" => SslMode::VerifyIdentity,
                        _ => return Err(bad(format!("{name} {value:?} is unknown"))),
                    });
                }
                "ssl-ca" | "sslrootcert" => info.ssl_ca = Some(PathBuf::from(value)),
                "ssl-cert" | "sslcert" => info.ssl_cert = Some(PathBuf::from(value)),
                "ssl-key" | "sslkey" => info.ssl_key = Some(PathBuf::from(value)),
                "connect-timeout" => {
                    info.connect_timeout = value.parse().map_err(|_| bad("connect_timeout is not a number".into()))?;
                }
                _ => return Err(bad(format!("parameter {name:?} is unknown"))),
            }
        }
        info.ssl_mode = match (mode, &info.ssl_ca) {
            // The system's authorities sign for anybody, so only the name makes them mean something.
            (None, Some(_)) if info.system_roots() => SslMode::VerifyIdentity,
            (Some(m), Some(_)) if info.system_roots() && m != SslMode::VerifyIdentity => {
                return Err(bad("ssl-ca=system needs ssl-mode=verify_identity".into()));
            }
            (None, Some(_)) => SslMode::VerifyCa,
            (Some(m), Some(_)) if m < SslMode::Required => {
                return Err(bad("ssl-ca means nothing without TLS: leave it out, or write ssl-mode=verify_ca".into()));
            }
            (mode, _) => mode.unwrap_or(SslMode::Preferred),
        };
        if info.ssl_cert.is_some() != info.ssl_key.is_some() {
            return Err(bad("ssl-cert and ssl-key belong together: give both".into()));
        }
        Ok(info)
    }
    /// Whether `ssl-ca=system` asks for the system's authorities.
    pub fn system_roots(&self) -> bool {
        self.ssl_ca.as_deref() == Some(std::path::Path::new("system"))
    }
    /// `host:port`, for messages.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
    /// Reads the certificates that the URL names. `None` under `ssl-mode=disabled`.
    ///
    /// # Errors
    /// `Fatal`, naming the file and what is wrong with it.
    pub fn tls(&self) -> Result<Option<TlsSettings>> {
        let verify = match self.ssl_mode {
            SslMode::Disabled => return Ok(None),
            SslMode::Preferred => Verify::Nobody,
            SslMode::Required if self.ssl_ca.is_some() => Verify::Chain,
            SslMode::Required => Verify::Nobody,
            SslMode::VerifyCa => Verify::Chain,
            SslMode::VerifyIdentity => Verify::Name,
        };
        tls::settings(&Wanted {
            required: self.ssl_mode >= SslMode::Required,
            verify,
            ca: self.ssl_ca.as_deref().filter(|_| !self.system_roots()),
            client: self.ssl_cert.as_deref().zip(self.ssl_key.as_deref()),
            words: &WORDS,
        })
        .map(Some)
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn parse(url: &str) -> Result<MyConnInfo> {
        MyConnInfo::parse("source.url", &SecretString::from(url.to_owned()))
    }

    #[test]
    fn given_escapes_and_parameters_when_parsed_then_each_is_read() {
        let info = parse("mysql://re%40pl:p%3Aw%2F@[::1]:3307/sh%20op?ssl-mode=VERIFY_CA&ssl-ca=/a+b/ca.pem").unwrap();
        assert_eq!((&*info.host, info.port, &*info.user), ("::1", 3307, "re@pl"));
        assert_eq!(info.database.as_deref(), Some("sh op"));
        assert_eq!(info.password.unwrap().expose_secret(), "p:w/");
        assert_eq!((info.ssl_mode, info.ssl_ca), (SslMode::VerifyCa, Some(PathBuf::from("/a+b/ca.pem"))));
        let info = parse("mariadb://u@h").unwrap();
        assert_eq!((info.port, info.database, info.ssl_mode), (3306, None, SslMode::Preferred));
        assert_eq!(parse("mysql://u@h?sslmode=verify-full").unwrap().ssl_mode, SslMode::VerifyIdentity);
    }

    #[test]
    fn given_authorities_when_parsed_then_they_are_looked_at() {
        assert_eq!(parse("mysql://u@h?ssl-ca=/x").unwrap().ssl_mode, SslMode::VerifyCa);
        assert_eq!(parse("mysql://u@h?ssl-ca=system").unwrap().ssl_mode, SslMode::VerifyIdentity);
        for bad in ["ssl-ca=/x&ssl-mode=preferred", "ssl-ca=system&ssl-mode=verify_ca", "ssl-cert=/x"] {
            assert!(parse(&format!("mysql://u@h?{bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn given_a_broken_url_when_parsed_then_the_password_is_not_in_the_error() {
        for url in ["mysql://u:sesame@h:x/d", "http://u:sesame@h/d", "mysql://u:sesame@h/d?ssl-mode=1", "u:sesame"] {
            let e = parse(url).unwrap_err();
            assert!(!format!("{e} {:?}", e.hint_text()).contains("sesame"), "{e}");
        }
    }
}
