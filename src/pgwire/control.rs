//! Ordinary SQL sessions (tokio-postgres), with our TLS modes and the settings that fix text forms.

use tokio_postgres::Client;

use super::conninfo::ConnInfo;
use super::errors::wrap;
use crate::error::{Error, Result};

/// Settings under which values have canonical text form; see [`crate::value`]. Every session says them first.
/// `search_path` is empty so that a name in a catalog's expression is always printed with its schema.
pub const SESSION_SETTINGS: &str = "SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; SET timezone = 'UTC'; \
     SET bytea_output = 'hex'; SET extra_float_digits = 1; SET lc_monetary = 'C'; SET search_path = ''; \
     SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET row_security = off";

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
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.map_err(|e| wrap(&doing, &e))?;
    tokio::spawn(async move {
        // The client's own calls report the failure; here it would only be said twice.
        let _ = connection.await;
    });
    client.batch_execute(SESSION_SETTINGS).await.map_err(|e| wrap(&doing, &e))?;
    if client.is_closed() {
        return Err(Error::retry(format!("{doing}: the connection was closed at once")));
    }
    Ok(client)
}
