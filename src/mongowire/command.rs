//! Commands with a time limit.
//!
//! A future of the driver that is dropped half-way costs its connection, so each runs to its end in a task of its own; and
//! the driver reads without any limit of time, so the limit is here: a half-open connection must not be waited on for ever.

use std::time::Duration;

use bson::Document;
use mongodb::Client;
use mongodb::options::SelectionCriteria;

use super::errors;
use crate::error::{Error, Result};

/// How long the answer to a command may take that does no work on many documents.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a command on the primary and gives its reply.
///
/// # Errors
/// See [`errors::wrap`]; `Retry` where no answer comes within [`PATIENCE`].
pub async fn run(client: &Client, database: &str, doing: &str, command: Document) -> Result<Document> {
    let db = client.database(database);
    let primary = SelectionCriteria::ReadPreference(mongodb::options::ReadPreference::Primary);
    finished(doing, async move { db.run_command(command).selection_criteria(primary).await }).await
}

/// Waits for a future of the driver, in a task of its own, for at most [`PATIENCE`].
///
/// # Errors
/// As [`run`].
pub async fn finished<T: Send + 'static>(
    doing: &str,
    work: impl Future<Output = mongodb::error::Result<T>> + Send + 'static,
) -> Result<T> {
    finished_within(PATIENCE, doing, work).await
}

/// [`finished`] with another limit.
///
/// # Errors
/// As [`run`].
pub async fn finished_within<T: Send + 'static>(
    patience: Duration,
    doing: &str,
    work: impl Future<Output = mongodb::error::Result<T>> + Send + 'static,
) -> Result<T> {
    match tokio::time::timeout(patience, tokio::spawn(work)).await {
        Ok(Ok(done)) => done.map_err(|e| errors::wrap(doing, &e)),
        Ok(Err(e)) if e.is_panic() => {
            Err(Error::fatal(format!("{doing}: the driver failed")).hint("this is a bug; its words are in the log"))
        }
        Ok(Err(_)) => Err(Error::retry(format!("{doing}: the program is about to end"))),
        Err(_) => Err(Error::retry(format!("{doing}: no answer within {} s", patience.as_secs()))),
    }
}
