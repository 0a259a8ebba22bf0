//! The lock that one running daemon holds: a lease in `switchyard.lock`, renewed for as long as the daemon lives.
//!
//! MongoDB has no locks that end with their session. So the holder's note says until when it holds, by the server's clock,
//! and is renewed long before. A newcomer watches whether it is: a holder that renews is alive. One that does not, and has
//! no connection to the server any more, is dead, and its lease is taken at once; one that has connections (it stands still,
//! or its machine vanished) keeps it until it lapses. Whoever holds the lease wrongly is harmless: the raised epoch refuses
//! every write of a predecessor.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bson::{Document, doc};
use mongodb::Client;
use tokio::sync::watch;

use super::bookkeeping::DATABASE;
use super::command::number;
use super::session::majority;
use crate::error::{Error, Result};
use crate::mongowire::command::run;
use crate::target::SessionLock;

/// How often the holder says that it lives.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// How long a lease holds without being renewed.
const LAPSE: Duration = Duration::from_secs(10);
/// How long a newcomer watches for a renewal before it takes the holder for dead or stopped.
const WATCH: Duration = Duration::from_secs(3);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const COLLECTION: &str = "lock";

/// Who holds a lease.
#[derive(Clone, Debug)]
pub struct Holder {
    /// The process, as the program's name at the server holds it, too.
    pub owner: String,
    /// For people: host and process id.
    pub place: String,
}

struct HeldLease {
    lost: watch::Receiver<bool>,
    renewer: tokio::task::JoinHandle<()>,
    client: Client,
    filter: Document,
}

#[async_trait]
impl SessionLock for HeldLease {
    async fn lost(&self) {
        let mut lost = self.lost.clone();
        // An error means that the renewer is gone, and the lease with it.
        let _ = lost.wait_for(|l| *l).await;
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.renewer.abort();
        // A courtesy: what is not released lapses, or is found to be of the dead.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (client, filter) = (self.client.clone(), self.filter.clone());
            runtime.spawn(async move {
                let delete = doc! { "delete": COLLECTION, "deletes": [{ "q": filter, "limit": 1 }] };
                let _ = run(&client, DATABASE, "releasing the lock", delete).await;
            });
        }
    }
}

fn renewed(name: &str, holder: &Holder, term: &str) -> Vec<Document> {
    let lapse = i64::try_from(LAPSE.as_millis()).unwrap_or(i64::MAX);
    vec![doc! { "$replaceWith": {
    "_id": { "$literal": name }, "owner": { "$literal": &holder.owner }, "place": { "$literal": &holder.place }, "term": { "$literal": term },
    "renewals": { "$add": [{ "$ifNull": ["$renewals", 0_i64] }, 1_i64] },
    "until": { "$add": ["$$NOW", lapse] } } }]
}

/// Takes the lease of migration `name`.
///
/// # Errors
/// [`crate::error::Class::Fenced`] with the holder while another daemon renews it.
pub async fn lock(client: &Client, name: &str, holder: &Holder) -> Result<Box<dyn SessionLock>> {
    let doing = format!("taking the lock of migration {name:?} on the target");
    let term = bson::oid::ObjectId::new().to_hex();
    let mut watched: Option<(Instant, i64, String)> = None;
    let mut dead: Option<String> = None;
    loop {
        let mut free = vec![doc! { "owner": &holder.owner }, doc! { "$expr": { "$lt": ["$until", "$$NOW"] } }];
        if let Some(owner) = &dead {
            free.push(doc! { "owner": owner });
        }
        // The second makes it where there is none; beside another's it meets the same `_id`. Together they cannot be one
        // statement: an upsert takes no `$expr`.
        let take = doc! {
            "update": COLLECTION,
            "updates": [
                { "q": { "_id": name, "$or": free }, "u": renewed(name, holder, &term) },
                { "q": { "_id": name, "owner": &holder.owner }, "u": renewed(name, holder, &term), "upsert": true },
            ],
            "writeConcern": majority(),
        };
        match super::command::written(&run(client, DATABASE, &doing, take).await?).refused {
            None => break,
            Some(r) if r.code == 11000 => {}
            Some(r) => return Err(super::session::refused(&doing, &r)),
        }
        let find = doc! { "find": COLLECTION, "filter": { "_id": name }, "limit": 1, "singleBatch": true };
        let reply = run(client, DATABASE, &doing, find).await?;
        let Some(held) = crate::mongowire::server::first_batch(&reply).next() else { continue };
        let renewals = number(held.get("renewals")).unwrap_or(0);
        let owner = held.get_str("owner").unwrap_or("").to_owned();
        match &watched {
            Some((since, seen, of)) if *seen == renewals && *of == owner => {
                if since.elapsed() >= WATCH && dead.is_none() && !is_connected(client, &owner).await {
                    tracing::warn!(
                        "the daemon that held the lock of migration {name:?} ({}) is gone: it is taken over",
                        held.get_str("place").unwrap_or("")
                    );
                    dead = Some(owner);
                    continue;
                }
            }
            None => {
                watched = Some((Instant::now(), renewals, owner));
            }
            Some(_) => {
                return Err(Error::fenced(format!(
                    "migration {name:?} is already run by another daemon ({})",
                    held.get_str("place").unwrap_or("unknown")
                ))
                .hint("only one daemon can run a migration; stop the other one first"));
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let (tell, lost) = watch::channel(false);
    let filter = doc! { "_id": name, "owner": &holder.owner, "term": &term };
    let renewer = tokio::spawn(renew(client.clone(), name.to_owned(), holder.clone(), term, tell));
    Ok(Box::new(HeldLease { lost, renewer, client: client.clone(), filter }))
}

/// Renews until the lease is lost.
async fn renew(client: Client, name: String, holder: Holder, term: String, tell: watch::Sender<bool>) {
    let mut at = Instant::now();
    while at.elapsed() < LAPSE {
        tokio::time::sleep(RENEW_EVERY).await;
        let update = doc! {
            "update": COLLECTION,
            "updates": [{
                "q": { "_id": &name, "owner": &holder.owner, "term": &term },
                "u": renewed(&name, &holder, &term),
            }],
        };
        let asked = Instant::now();
        let left = LAPSE.saturating_sub(at.elapsed());
        match tokio::time::timeout(left, run(&client, DATABASE, "renewing the lock on the target", update)).await {
            Ok(Ok(reply)) if super::command::written(&reply).n == 1 => at = asked,
            // It is another's now.
            Ok(Ok(_)) => break,
            Ok(Err(e)) => tracing::debug!("{e}"),
            Err(_) => break,
        }
    }
    let _ = tell.send(true);
}

/// Whether the server has a connection of that process. What cannot be told counts as yes.
async fn is_connected(client: &Client, owner: &str) -> bool {
    let ask = |all: bool| {
        doc! {
            "aggregate": 1,
            "pipeline": [
                { "$currentOp": { "allUsers": all, "idleConnections": true, "idleSessions": false } },
                { "$match": { "appName": { "$regex": owner } } },
                { "$limit": 1 },
            ],
            "cursor": {},
        }
    };
    // Sessions of other accounts are seen with a privilege only; a daemon's account is mostly the same.
    for all in [true, false] {
        if let Ok(reply) = run(client, "admin", "looking for the lock's holder", ask(all)).await {
            return !matches!(
                reply.get_document("cursor").and_then(|c| c.get_array("firstBatch")).map(Vec::as_slice),
                Ok([])
            );
        }
    }
    true
}

/// How this process is told from others.
pub fn holder() -> Holder {
    let owner = bson::oid::ObjectId::new().to_hex();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let place = format!("process {} on {}", std::process::id(), if host.is_empty() { "?" } else { host.trim() });
    Holder { owner, place }
}
