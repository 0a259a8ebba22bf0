//! Ordinary SQL sessions (tokio-postgres), with our TLS modes and the settings that fix text forms.

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::config::SslMode as Mode;
use tokio_postgres::{Client, Connection};

use super::conninfo::ConnInfo;
use super::errors::wrap;
use super::types::{UserType, UserTypes};
use crate::error::{Error, Result};
use crate::schema::TableName;

/// Settings under which values have canonical text form; see [`crate::value`]. Every session says them first.
/// `search_path` is empty so that a name in a catalog's expression is always printed with its schema. Queries of the
/// catalog look costly to the planner: compiling them would take longer than they do.
pub const SESSION_SETTINGS: &str = "SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; SET timezone = 'UTC'; \
     SET bytea_output = 'hex'; SET extra_float_digits = 1; SET lc_monetary = 'C'; SET xmloption = content; SET search_path = ''; \
     SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET row_security = off; SET jit = off";

/// Connects, applies [`SESSION_SETTINGS`], and keeps the connection running in a task of its own until the client is dropped.
/// `who` is the side in messages (`source`, `target`); it is also part of `application_name`.
///
/// # Errors
/// `Retry` when nobody answers; `Fatal` when the server refuses (password, database, TLS name).
pub async fn connect(info: &ConnInfo, who: &str) -> Result<Client> {
    let doing = format!("connecting to the {who} at {}", info.address());
    let mut config = tokio_postgres::Config::new();
    config
        .host(&info.host)
        .port(info.port)
        .user(&info.user)
        .dbname(&info.database)
        .application_name(format!("switchyard {who}"))
        .connect_timeout(std::time::Duration::from_secs(info.connect_timeout))
        .keepalives_idle(std::time::Duration::from_secs(15))
        .tcp_user_timeout(std::time::Duration::from_secs(30))
        .options("-c client_encoding=UTF8");
    if let Some(p) = &info.password {
        use secrecy::ExposeSecret;
        config.password(p.expose_secret());
    }
    let client = match super::tls::settings(info).map_err(|e| e.context(&doing))? {
        None => run(config.ssl_mode(Mode::Disable).connect(tokio_postgres::NoTls).await, info, &doing)?,
        Some(tls) => {
            config.ssl_mode(if tls.required { Mode::Require } else { Mode::Prefer });
            let make = tokio_postgres_rustls::MakeRustlsConnect::new(ClientConfig::clone(&tls.config));
            run(config.connect(make).await, info, &doing)?
        }
    };
    client.batch_execute(SESSION_SETTINGS).await.map_err(|e| wrap(&doing, &e))?;
    if client.is_closed() {
        return Err(Error::retry(format!("{doing}: the connection was closed at once")));
    }
    Ok(client)
}

/// Keeps the connection running in a task of its own.
fn run<S, T>(
    connected: Result<(Client, Connection<S, T>), tokio_postgres::Error>,
    info: &ConnInfo,
    doing: &str,
) -> Result<Client>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (client, connection) = connected.map_err(|e| refused(info, doing, &e))?;
    tokio::spawn(async move {
        // The client's own calls report the failure; here it would only be said twice.
        let _ = connection.await;
    });
    Ok(client)
}

/// Why there is no connection.
fn refused(info: &ConnInfo, doing: &str, e: &tokio_postgres::Error) -> Error {
    if let Some(tls) = super::tls::explain(doing, &info.host, e) {
        return tls;
    }
    // tokio-postgres has no public kinds for these; its words are stable (error/mod.rs, connect_tls.rs, connect_raw.rs).
    let text = std::error::Error::source(e).map(ToString::to_string).unwrap_or_default();
    if text.contains("server does not support TLS") {
        return super::tls::not_offered(doing);
    }
    let words = e.to_string();
    if e.as_db_error().is_none()
        && (words.starts_with("invalid configuration") || words.starts_with("authentication error"))
    {
        let e = Error::fatal(format!("{doing}: {words}"));
        return match text.contains("password missing") || words.contains("password missing") {
            true => e.hint("the server asks for a password: write postgres://user:${PASSWORD}@host/database"),
            false => e,
        };
    }
    wrap(doing, e)
}

/// Name and version of the server behind a session.
pub async fn server(client: &Client, info: &ConnInfo) -> Result<crate::schema::ServerInfo> {
    let row = client
        .query_one("SELECT pg_catalog.current_setting('server_version'), pg_catalog.current_database()::text", &[])
        .await
        .map_err(|e| wrap(format!("asking {} for its version", info.address()), &e))?;
    let version: String = row.get(0);
    Ok(crate::schema::ServerInfo {
        engine: "postgres".into(),
        // Debian adds its package's version after a blank.
        version: version.split(' ').next().unwrap_or("").to_owned(),
        database: row.get(1),
        address: info.address(),
    })
}

/// The database's types that are not built in, as far as columns are read by them: enums, domains, text by another name,
/// and arrays of these. `who` is the side in messages.
///
/// # Errors
/// As the query.
pub async fn user_types(client: &Client, who: &str) -> Result<UserTypes> {
    const SQL: &str = "
        SELECT t.oid, n.nspname::text, t.typname::text,
               CASE WHEN t.typname = 'citext' THEN 't' WHEN t.typtype IN ('e', 'd') THEN t.typtype::text ELSE 'a' END,
               t.typbasetype, t.typtypmod, t.typelem,
               ARRAY(SELECT l.enumlabel::text FROM pg_catalog.pg_enum l WHERE l.enumtypid = t.oid ORDER BY l.enumsortorder)
          FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
          LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
         WHERE t.typtype IN ('e', 'd') OR t.typname = 'citext'
            OR e.oid >= 16384 AND (e.typtype IN ('e', 'd') OR e.typname = 'citext')";
    let rows = client.query(SQL, &[]).await.map_err(|e| wrap(format!("reading the {who}'s types"), &e))?;
    Ok(rows
        .iter()
        .map(|r| {
            let kind = r.get::<_, &str>(3).chars().next().unwrap_or(' ');
            let name = TableName::new(r.get::<_, String>(1), r.get::<_, String>(2));
            (r.get(0), user_type(kind, name, r.get(4), r.get(5), r.get(6), r.get(7)))
        })
        .collect())
}

/// A type as [`user_types`] and the DDL trigger describe it: `kind` is `e` enum, `d` domain, `a` array, `t` text.
pub fn user_type(kind: char, name: TableName, base: u32, modifier: i32, element: u32, labels: Vec<String>) -> UserType {
    match kind {
        'e' => UserType::Enum { name: Some(name), labels },
        'd' => UserType::Domain { base, modifier },
        'a' => UserType::Array(element),
        't' => UserType::Text,
        _ => UserType::Other,
    }
}
