//! What the account may do at the source, and which way of following that leaves.

use bson::{Bson, Document, doc};
use mongodb::Client;

use super::known::Known;
use super::oplog::OPLOG;
use crate::error::{Error, Result};
use crate::exchange::Follow;
use crate::mongowire::command;
use crate::mongowire::server::Server;

/// A way of following a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By change streams.
    Streams,
    /// By reading the oplog itself.
    Oplog,
}

/// The way that is taken.
///
/// # Errors
/// `Config` where the oplog was asked for and there is none; else as [`command::run`].
pub async fn way(client: &Client, server: &Server, known: &Known, follow: Follow) -> Result<Way> {
    match follow {
        Follow::Streams => Ok(Way::Streams),
        Follow::Oplog if server.is_router => Err(Error::config(
            "source.follow = \"oplog\": source.url leads to mongos, and a sharded cluster has no single oplog",
        )
        .hint("leave source.follow out, and let the account open change streams: db.getSiblingDB(\"admin\").grantRolesToUser(…, [{ role: \"readAnyDatabase\", db: \"admin\" }])")),
        Follow::Oplog => Ok(Way::Oplog),
        Follow::Auto if server.is_router || server.set.is_none() => Ok(Way::Streams),
        Follow::Auto => Ok(Rights::ask(client).await?.way(known)),
    }
}

/// What the account may do.
pub struct Rights {
    /// Nobody is asked who they are.
    open: bool,
    /// The account's name.
    pub user: String,
    privileges: Vec<Document>,
}

impl Rights {
    /// Asks the server.
    ///
    /// # Errors
    /// As [`command::run`].
    pub async fn ask(client: &Client) -> Result<Rights> {
        let ask = doc! { "connectionStatus": 1, "showPrivileges": true };
        Ok(Rights::read(&command::run(client, "admin", "asking the source what the account may do", ask).await?))
    }
    /// As a reply to `connectionStatus` with `showPrivileges` says.
    fn read(status: &Document) -> Rights {
        let info = status.get_document("authInfo").cloned().unwrap_or_default();
        let list = |name| info.get_array(name).cloned().unwrap_or_default();
        let users = list("authenticatedUsers");
        let user = users.first().and_then(|u| u.as_document()?.get_str("user").ok()).unwrap_or_default().to_owned();
        let privileges = list("authenticatedUserPrivileges").into_iter().filter_map(|p| p.as_document().cloned());
        Rights { open: users.is_empty(), user, privileges: privileges.collect() }
    }
    /// Whether the account may do it there; an empty name means everywhere.
    pub fn has(&self, action: &str, database: &str, collection: &str) -> bool {
        self.open
            || self.privileges.iter().any(|p| {
                let Ok(resource) = p.get_document("resource") else { return false };
                let covers = |name: &str, wanted: &str| {
                    resource.get_str(name).is_ok_and(|r| r.is_empty() || (!wanted.is_empty() && r == wanted))
                };
                let here = resource.get_bool("anyResource").unwrap_or(false)
                    || covers("db", database) && covers("collection", collection);
                here && acts(p, action)
            })
    }
    /// Whether the account may open the change stream that the selection needs.
    pub fn streams(&self, known: &Known) -> bool {
        self.has("changeStream", known.only().unwrap_or_default(), "")
    }
    /// Whether the account may read the oplog.
    pub fn oplog(&self) -> bool {
        self.has("find", OPLOG.0, OPLOG.1)
    }
    /// The way that the account may go; streams where it may go none, because their error says what is lacking.
    fn way(&self, known: &Known) -> Way {
        if !self.streams(known) && self.oplog() { Way::Oplog } else { Way::Streams }
    }
    /// Whether the account may do it to the cluster as a whole.
    pub fn on_cluster(&self, action: &str) -> bool {
        self.open
            || self.privileges.iter().any(|p| {
                let flag = |name| p.get_document("resource").is_ok_and(|r| r.get_bool(name).unwrap_or(false));
                (flag("cluster") || flag("anyResource")) && acts(p, action)
            })
    }
}

fn acts(privilege: &Document, action: &str) -> bool {
    let actions = privilege.get_array("actions").map(Vec::as_slice).unwrap_or_default();
    actions.iter().any(|a| matches!(a, Bson::String(a) if a == action || a == "anyAction"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::mongo::known::tests::known;

    fn rights(privileges: Vec<Document>) -> Rights {
        Rights::read(&doc! { "authInfo": {
        "authenticatedUsers": [{ "user": "repl", "db": "admin" }], "authenticatedUserPrivileges": privileges } })
    }

    #[test]
    fn given_privileges_when_a_way_is_chosen_then_streams_come_first_and_the_oplog_needs_its_own_right() {
        let k = known(Some("shop"), &["shop.*"], &[]);
        let on = |db: &str, collection: &str, actions: &[&str]| doc! { "resource": { "db": db, "collection": collection }, "actions": actions.to_vec() };
        let find = on("shop", "", &["find"]);
        let stream = on("shop", "", &["find", "changeStream"]);
        let oplog = on("local", "oplog.rs", &["find"]);
        assert_eq!(rights(vec![stream, oplog.clone()]).way(&k), Way::Streams);
        assert_eq!(rights(vec![find.clone(), oplog.clone()]).way(&k), Way::Oplog);
        assert_eq!(rights(vec![find.clone(), on("local", "", &["find"])]).way(&k), Way::Oplog);
        // Neither: the server's own words say what is lacking.
        assert_eq!(rights(vec![find]).way(&k), Way::Streams);
        assert_eq!(Rights::read(&doc! {}).way(&k), Way::Streams);
        // A stream of several databases is one of all.
        let k = known(None, &["a.*", "b.*"], &[]);
        let both = vec![on("a", "", &["changeStream"]), on("b", "", &["changeStream"]), oplog];
        assert_eq!(rights(both).way(&k), Way::Oplog);
    }
}
