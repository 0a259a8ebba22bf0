//! A PostgreSQL connection URL, with the sslmodes that tokio-postgres does not parse.

use std::path::PathBuf;

use secrecy::SecretString;

use crate::error::{Error, Result};
use crate::transport::url;

/// `sslmode` as libpq defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS if the server offers it, unverified.
    Prefer,
    /// TLS, unverified unless a root certificate is given.
    Require,
    /// TLS, the certificate's chain verified.
    VerifyCa,
    /// TLS, chain and host name verified.
    VerifyFull,
}

/// Where and how to connect.
#[derive(Clone, Debug)]
pub struct ConnInfo {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Password, if the URL has one.
    pub password: Option<SecretString>,
    /// Database.
    pub database: String,
    /// TLS mode.
    pub sslmode: SslMode,
    /// PEM file of certificate authorities, or `system`; the system's if absent.
    pub sslrootcert: Option<PathBuf>,
    /// PEM file of the client's certificate.
    pub sslcert: Option<PathBuf>,
    /// PEM file of the client's key.
    pub sslkey: Option<PathBuf>,
    /// Seconds to wait for a connection.
    pub connect_timeout: u64,
}

impl ConnInfo {
    /// Reads `postgres://user:password@host:port/database?sslmode=…`. `key` names the configuration key in errors.
    ///
    /// # Errors
    /// [`crate::error::Class::Config`]; the message never holds the URL, because it holds a password.
    pub fn parse(key: &str, url: &SecretString) -> Result<ConnInfo> {
        let bad = |what: String| {
            Error::config(format!("{key}: {what}"))
                .hint("write postgres://user:password@host:5432/database?sslmode=verify-full&sslrootcert=/path/ca.pem")
        };
        let parts = url::parse(url, &["postgres", "postgresql"]).map_err(bad)?;
        let database = match parts.database {
            d if d.is_empty() => parts.user.clone(),
            d => d,
        };
        let mut info = ConnInfo {
            host: parts.host,
            port: parts.port.unwrap_or(5432),
            user: parts.user,
            password: parts.password,
            database,
            sslmode: SslMode::Prefer,
            sslrootcert: None,
            sslcert: None,
            sslkey: None,
            connect_timeout: 10,
        };
        let mut mode_given = false;
        for (name, value) in parts.parameters {
            match &*name {
                "sslmode" => {
                    mode_given = true;
                    info.sslmode = match &*value {
                        "disable" => SslMode::Disable,
                        "allow" | "prefer" => SslMode::Prefer,
                        "require" => SslMode::Require,
                        "verify-ca" => SslMode::VerifyCa,
                        "verify-full" => SslMode::VerifyFull,
                        other => return Err(bad(format!("sslmode {other:?} is unknown"))),
                    }
                }
                "sslrootcert" => info.sslrootcert = Some(PathBuf::from(&*value)),
                "sslcert" => info.sslcert = Some(PathBuf::from(&*value)),
                "sslkey" => info.sslkey = Some(PathBuf::from(&*value)),
                "connect_timeout" => {
                    info.connect_timeout = value.parse().map_err(|_| bad("connect_timeout is not a number".into()))?;
                }
                "application_name" => {}
                other => return Err(bad(format!("parameter {other:?} is unknown"))),
            }
        }
        if info.system_roots() {
            // As libpq: the system's authorities sign for anybody, so only the name makes them mean something.
            if !mode_given {
                info.sslmode = SslMode::VerifyFull;
            } else if info.sslmode != SslMode::VerifyFull {
                return Err(bad("sslrootcert=system needs sslmode=verify-full".into()));
            }
        }
        if info.sslcert.is_some() != info.sslkey.is_some() {
            return Err(bad("sslcert and sslkey belong together: give both".into()));
        }
        Ok(info)
    }
    /// Whether `sslrootcert=system` asks for the system's authorities.
    pub fn system_roots(&self) -> bool {
        self.sslrootcert.as_deref() == Some(std::path::Path::new("system"))
    }
    /// `host:port`, for messages.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn parse(url: &str) -> Result<ConnInfo> {
        ConnInfo::parse("source.url", &SecretString::from(url.to_owned()))
    }

    #[test]
    fn given_escapes_and_parameters_when_parsed_then_each_is_read_as_libpq_reads_it() {
        let info =
            parse("postgres://re%40pl:p%3Aw%2F@[::1]:5433/sh%20op?sslmode=verify-ca&sslrootcert=/a+b/ca.pem").unwrap();
        assert_eq!((&*info.host, info.port, &*info.user, &*info.database), ("::1", 5433, "re@pl", "sh op"));
        assert_eq!(info.password.unwrap().expose_secret(), "p:w/");
        assert_eq!(info.sslmode, SslMode::VerifyCa);
        assert_eq!(info.sslrootcert.unwrap(), PathBuf::from("/a+b/ca.pem"));
    }

    #[test]
    fn given_the_systems_authorities_when_parsed_then_the_name_must_be_verified() {
        assert_eq!(parse("postgres://u@h/d?sslrootcert=system").unwrap().sslmode, SslMode::VerifyFull);
        assert!(parse("postgres://u@h/d?sslrootcert=system&sslmode=require").is_err());
        assert!(parse("postgres://u@h/d?sslcert=/x").is_err());
    }

    #[test]
    fn given_a_broken_url_when_parsed_then_the_password_is_not_in_the_error() {
        for url in
            ["postgres://u:sesame@h:x/d", "mysql://u:sesame@h/d", "postgres://u:sesame@h/d?sslmode=full", "u:sesame"]
        {
            let e = parse(url).unwrap_err();
            assert!(!format!("{e} {:?}", e.hint_text()).contains("sesame"), "{e}");
        }
    }
}
