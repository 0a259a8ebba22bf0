//! Opens the byte stream beneath a PostgreSQL connection: TCP, and TLS over it after an `SSLRequest`.

use std::io;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::conninfo::ConnInfo;
use super::tls;
use crate::error::{Error, Result};
pub use crate::transport::Transport;
use crate::transport::tls::server_name;

/// Opens TCP and, as the sslmode says, TLS.
///
/// # Errors
/// `Retry` when nobody answers; `Fatal` when TLS is refused or the certificate is wrong.
pub async fn open(info: &ConnInfo, doing: &str) -> Result<Transport> {
    let tls = tls::settings(info).map_err(|e| e.context(doing))?;
    let mut tcp = Transport::connect(&info.host, info.port, doing).await?;
    let Some(tls) = tls else { return Ok(tcp) };
    let failed =
        |e: io::Error| tls::explain(doing, &info.host, &e).unwrap_or_else(|| Error::retry(format!("{doing}: {e}")));
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    tcp.write_all(&request).await.map_err(failed)?;
    match tcp.read_u8().await.map_err(failed)? {
        b'S' => {}
        b'N' if !tls.required => return Ok(tcp),
        b'N' => return Err(tls::not_offered(doing)),
        // A server that cannot even fork answers with an error at once; the next attempt may find it better.
        _ => return Err(Error::retry(format!("{doing}: the server did not answer the TLS request"))),
    }
    let name = server_name(doing, &info.host)?;
    tcp.secure(tls.config, name).await.map_err(failed)
}
