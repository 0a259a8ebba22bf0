//! What a MongoDB server says of itself: version, replica set, clock, privileges.

use bson::{Bson, Document, Timestamp, doc};
use mongodb::Client;

use super::command;
use crate::error::{Error, Result};

/// What a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// As it prints it: `6.0.5`.
    pub version: String,
    /// The same as numbers.
    pub number: (u32, u32, u32),
    /// The replica set's name; `None` for a server without one, and for a router of shards.
    pub set: Option<String>,
    /// Whether it is `mongos`, the router of a sharded cluster.
    pub is_router: bool,
}

impl Server {
    /// Asks the primary (or the router).
    ///
    /// # Errors
    /// As [`command::run`].
    pub async fn ask(client: &Client, doing: &str) -> Result<Server> {
        let build = command::run(client, "admin", doing, doc! { "buildInfo": 1 }).await?;
        let hello = command::run(client, "admin", doing, doc! { "hello": 1 }).await?;
        let version = build.get_str("version").unwrap_or_default().to_owned();
        Ok(Server {
            number: number(&version),
            version,
            set: hello.get_str("setName").ok().map(str::to_owned),
            is_router: hello.get_str("msg").is_ok_and(|m| m == "isdbgrid"),
        })
    }
}

/// `6.0.5-rc1` as numbers; what is missing is 0.
fn number(version: &str) -> (u32, u32, u32) {
    let mut parts = version.split(['.', '-', '+']).map(|p| p.parse().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next())
}

/// The place in the oplog that a reply speaks of: what the command read or wrote, and everything before it.
pub fn operation_time(reply: &Document) -> Option<Timestamp> {
    reply.get_timestamp("operationTime").ok()
}

/// The server's clock in microseconds since the Unix epoch, as its reply to `hello` says it.
pub fn local_time(hello: &Document) -> Option<i64> {
    Some(hello.get_datetime("localTime").ok()?.timestamp_millis().saturating_mul(1000))
}

/// What names a replica set or a sharded cluster for good: an id that was made with it, and that a copy of its files shares
/// only until it is initiated anew.
///
/// # Errors
/// As [`command::run`]; `Fatal` for a server that is neither.
pub async fn cluster_id(client: &Client, server: &Server, doing: &str) -> Result<String> {
    if server.is_router {
        let found =
            command::run(client, "config", doing, doc! { "find": "version", "limit": 1, "singleBatch": true }).await?;
        if let Some(id) = first(&found).and_then(|d| d.get_object_id("clusterId").ok()) {
            return Ok(id.to_hex());
        }
    }
    let config = command::run(client, "admin", doing, doc! { "replSetGetConfig": 1 }).await;
    let id = match config {
        Ok(reply) => reply
            .get_document("config")
            .and_then(|c| c.get_document("settings"))
            .and_then(|s| s.get_object_id("replicaSetId"))
            .ok(),
        // Without the privilege (clusterMonitor) the members' own collection tells it, where that may be read.
        Err(e) if e.code() == Some("13") => {
            let command = doc! { "find": "system.replset", "limit": 1, "singleBatch": true };
            let found = command::run(client, "local", doing, command).await?;
            first(&found).and_then(|d| d.get_document("settings").ok()?.get_object_id("replicaSetId").ok())
        }
        Err(e) => return Err(e),
    };
    match id {
        Some(id) => Ok(id.to_hex()),
        None => Err(Error::fatal(format!("{doing}: the server belongs to no replica set"))
            .hint("make it a replica set of one member: start mongod with --replSet rs0, then run rs.initiate() once")),
    }
}

/// The documents of the first batch of a reply to `find` or `aggregate`.
pub fn first_batch(reply: &Document) -> impl Iterator<Item = &Document> {
    let batch = reply.get_document("cursor").and_then(|c| c.get_array("firstBatch")).map(Vec::as_slice);
    batch.unwrap_or_default().iter().filter_map(Bson::as_document)
}

fn first(reply: &Document) -> Option<&Document> {
    first_batch(reply).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_versions_when_read_then_their_numbers_are_there() {
        assert_eq!(number("6.0.5"), (6, 0, 5));
        assert_eq!(number("7.0.0-rc3"), (7, 0, 0));
        assert_eq!(number(""), (0, 0, 0));
    }
}
