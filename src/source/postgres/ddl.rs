//! Schema changes: the event trigger at the source that writes them into the log, and reading what it wrote.

use tokio_postgres::Client;

use crate::change::Ddl;
use crate::error::{Error, Result};

/// Removes the trigger.
pub async fn uninstall(_client: &Client) -> Result<Vec<String>> {
    Ok(Vec::new())
}

/// Installs the trigger.
pub async fn install(_client: &Client, _names: &super::slot::Names) -> Result<()> {
    Ok(())
}

/// Reads a message.
pub fn parse(_json: &[u8], _ids: &super::catalog::TableIds) -> Result<Ddl> {
    Err(Error::fatal("no DDL trigger"))
}
