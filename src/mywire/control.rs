//! Ordinary SQL sessions (mysql_async), with our TLS modes and the settings of our sessions.
//!
//! TLS follows the same rules as [`super::conn`] with one exception: mysql_async does not accept a self-signed server
//! certificate that is itself given as `ssl-ca`.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{ClientIdentity, Conn, DriverError, Opts, OptsBuilder, SslOpts};
use secrecy::ExposeSecret;

use super::conninfo::{MyConnInfo, SslMode, WORDS};
use super::errors::from_server;
use super::packet::ServerError;
use super::server::Server;
use super::session::{Preset, settings};
use crate::error::{Error, Result};
use crate::transport::tls;

/// Connects and says the session's settings. `side` is the side in messages (`source`, `target`), `program` what the
/// server's list of connections shows. UPDATE counts rows that it found, whether it changed them or not.
///
/// # Errors
/// `Retry` when nobody answers; `Fatal` when the server refuses (password, database, TLS name).
pub async fn connect(info: &MyConnInfo, side: &'static str, program: &str, preset: Preset) -> Result<Conn> {
    let doing = format!("connecting to the {side} at {}", info.address());
    let patience = match info.connect_timeout {
        0 => Duration::from_secs(365 * 24 * 3600),
        s => Duration::from_secs(s),
    };
    let opening = async {
        let mut conn = open(info, program, &doing).await?;
        let version: Option<String> = conn.query_first("SELECT VERSION()").await.map_err(|e| wrap(&doing, &e))?;
        let server = Server::named(version.as_deref().unwrap_or(""));
        // Both of its results are read here: dropping a query reads it to its end.
        conn.query_drop(settings(preset, server.flavour)).await.map_err(|e| wrap(&doing, &e))?;
        Ok(conn)
    };
    tokio::time::timeout(patience, opening)
        .await
        .unwrap_or_else(|_| Err(Error::retry(format!("{doing}: no answer within {} seconds", info.connect_timeout))))
}

/// Name and version of the server behind a session.
///
/// # Errors
/// As any statement.
pub async fn server(conn: &mut Conn, info: &MyConnInfo) -> Result<crate::schema::ServerInfo> {
    let row: Option<(String, Option<String>)> = conn
        .query_first("SELECT VERSION(), DATABASE()")
        .await
        .map_err(|e| wrap(format!("asking {} for its version", info.address()), &e))?;
    let (version, database) = row.unwrap_or_default();
    Ok(crate::schema::ServerInfo {
        engine: "mysql".into(),
        version: Server::named(&version).version,
        database: database.unwrap_or_default(),
        address: info.address(),
    })
}

/// A query's rows as texts.
///
/// # Errors
/// As any statement.
pub async fn rows(conn: &mut Conn, doing: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
    let rows: Vec<mysql_async::Row> = conn.query(sql).await.map_err(|e| wrap(doing, &e))?;
    // The text protocol has nothing but texts.
    let text = |value: mysql_async::Value| match value {
        mysql_async::Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        _ => None,
    };
    // No column was taken out of a row before, which is all that `unwrap` asks for.
    Ok(rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect())
}

/// An error from a mysql_async call, with what was being done.
pub fn wrap(doing: impl std::fmt::Display, e: &mysql_async::Error) -> Error {
    use mysql_async::Error as E;
    match e {
        E::Server(said) => {
            let (code, sqlstate, message) = (said.code, said.state.clone(), said.message.clone());
            from_server(doing, &ServerError { code, sqlstate, message })
        }
        E::Io(io) => Error::retry(format!("{doing}: connection lost: {io}")),
        E::Driver(DriverError::ConnectionClosed | DriverError::PoolDisconnected) => {
            Error::retry(format!("{doing}: the server closed the connection"))
        }
        // Their texts name the kind of thing that went wrong, and never hold a row.
        E::Driver(driver) => Error::fatal(format!("{doing}: {driver}")),
        E::Url(url) => Error::config(format!("{doing}: {url}")),
        E::Other(_) => Error::fatal(format!("{doing}: the MySQL client library failed")),
    }
}

async fn open(info: &MyConnInfo, program: &str, doing: &str) -> Result<Conn> {
    let plain = OptsBuilder::default()
        .ip_or_hostname(info.host.clone())
        .tcp_port(info.port)
        .user(Some(info.user.clone()))
        .pass(info.password.as_ref().map(|p| p.expose_secret().to_owned()))
        .db_name(info.database.clone())
        // A socket of this machine may be another server's.
        .prefer_socket(false)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(Duration::from_secs(15)))
        .client_found_rows(true)
        .connect_attribute("program_name", format!("switchyard:{program}"));
    let Some(tls) = tls_options(info)? else {
        return Conn::new(Opts::from(plain)).await.map_err(|e| refused(info, doing, &e));
    };
    let names_matter = info.ssl_mode == SslMode::VerifyIdentity;
    match Conn::new(Opts::from(plain.clone().ssl_opts(tls.clone()))).await {
        // mysql_async skips the name by looking for "NotValidForName" in the error's text; rustls 0.23 says there which
        // name was looked for, so this name lets the check find what it looks for. Chains are verified before names.
        Err(e) if !names_matter && wrong_name(&e) => {
            let tls = tls.with_danger_tls_hostname_override(Some("NotValidForName"));
            Conn::new(Opts::from(plain.ssl_opts(tls))).await.map_err(|e| refused(info, doing, &e))
        }
        Err(mysql_async::Error::Driver(DriverError::NoClientSslFlagFromServer))
            if info.ssl_mode == SslMode::Preferred =>
        {
            Conn::new(Opts::from(plain)).await.map_err(|e| refused(info, doing, &e))
        }
        opened => opened.map_err(|e| refused(info, doing, &e)),
    }
}

/// Whether the certificate was good, for another name.
fn wrong_name(e: &mysql_async::Error) -> bool {
    use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
    matches!(tls::find(e), Some(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })))
}

/// The rules of [`MyConnInfo::tls`] in mysql_async's words.
fn tls_options(info: &MyConnInfo) -> Result<Option<SslOpts>> {
    // Reads every file that is named, so that errors are the same as the other connection's.
    if info.tls()?.is_none() {
        return Ok(None);
    }
    let verified = info.ssl_mode >= SslMode::VerifyCa || info.ssl_mode == SslMode::Required && info.ssl_ca.is_some();
    let mut options = SslOpts::default()
        // Where nothing is verified it still wants to have some authority.
        .with_disable_built_in_roots(verified)
        .with_danger_accept_invalid_certs(!verified)
        .with_danger_skip_domain_validation(info.ssl_mode < SslMode::VerifyIdentity);
    let roots = match &info.ssl_ca {
        Some(path) if !info.system_roots() => vec![path.clone().into()],
        _ if !verified => Vec::new(),
        _ => rustls_native_certs::load_native_certs().certs.into_iter().map(|c| c.to_vec().into()).collect(),
    };
    options = options.with_root_certs(roots);
    if let (Some(cert), Some(key)) = (&info.ssl_cert, &info.ssl_key) {
        let identity = ClientIdentity::new(cert.clone().into(), key.clone().into());
        options = options.with_client_identity(Some(identity));
    }
    Ok(Some(options))
}

/// Why there is no connection.
fn refused(info: &MyConnInfo, doing: &str, e: &mysql_async::Error) -> Error {
    use mysql_async::Error as E;
    if let Some(tls) = tls::explain(doing, &info.host, e, &WORDS) {
        return tls;
    }
    match e {
        E::Driver(DriverError::NoClientSslFlagFromServer) => tls::not_offered(doing, &WORDS),
        E::Driver(DriverError::CleartextPluginDisabled) => {
            Error::fatal(format!("{doing}: the server asks for the password in clear text"))
                .hint("use an account with caching_sha2_password, mysql_native_password or ed25519")
        }
        E::Driver(DriverError::UnknownAuthPlugin { name }) => {
            Error::fatal(format!("{doing}: the account authenticates with {name:?}, which is not known here"))
                .hint("use an account with caching_sha2_password, mysql_native_password or ed25519")
        }
        E::Io(io) => Error::retry(format!("{doing}: {io}"))
            .hint("check that the server runs and that host and port in the URL are right"),
        _ => wrap(doing, e),
    }
}
