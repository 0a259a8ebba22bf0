//! Markers: documents of our own that come back in the change stream.

use bson::doc;
use mongodb::Client;

use super::place;
use super::token::Time;
use crate::error::{Error, Result};
use crate::mongowire::{command, server};

/// Writes a token, and waits until a majority has it. Gives its place in the oplog, or one behind it.
///
/// # Errors
/// As [`command::run`].
pub async fn write(client: &Client, database: &str, collection: &str, token: &str) -> Result<Time> {
    let doing = "writing a marker into the source's log";
    // The same token may be written again after an answer that got lost: each is a document of its own.
    let document = doc! { "token": token };
    let command = doc! { "insert": collection, "documents": [document], "writeConcern": { "w": "majority" } };
    let reply = command::run(client, database, doing, command).await?;
    if let Some(failed) = reply.get_array("writeErrors").ok().and_then(|w| w.first()?.as_document()) {
        let code = failed.get_i32("code").unwrap_or(0);
        let said = failed.get_str("errmsg").unwrap_or("refused");
        return Err(crate::mongowire::errors::from_server(doing, code, said));
    }
    if reply.get_document("writeConcernError").is_ok() {
        return Err(Error::retry(format!("{doing}: no majority of the set has it yet")));
    }
    match server::operation_time(&reply) {
        Some(time) => Ok(time.into()),
        None => Ok(place::now(client).await?.time),
    }
}
