//! The small HTTP server of a running daemon: health, metrics, status, pause and resume.

pub mod api;
pub mod metrics;

use std::future::Future;

use tokio::net::TcpListener;

pub use api::{Access, Api};

use crate::error::{Error, Result};

/// Takes the address. A port of 0 lets the system choose; ask the listener which it was.
///
/// # Errors
/// `Fatal` when the port is in use or the address is not this machine's.
pub async fn bind(address: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| {
        let hint = match e.kind() {
            std::io::ErrorKind::AddrInUse => {
                "another program listens there, perhaps another Switchyard: choose another port in [api] listen, or stop it"
            }
            std::io::ErrorKind::PermissionDenied => "ports below 1024 need privileges: choose a higher one in [api] listen",
            _ => "check [api] listen: it must be an address of this machine",
        };
        Error::fatal(format!("listening for the API on {address}: {e}")).hint(hint)
    })
}

/// Answers requests until `shutdown` resolves; requests under way are finished.
///
/// # Errors
/// `Fatal` when the listener breaks.
pub async fn serve(listener: TcpListener, api: Api, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<()> {
    axum::serve(listener, api::router(api))
        .with_graceful_shutdown(shutdown)
        .await
        .map_err(|e| Error::fatal(format!("serving the API: {e}")))
}
