//! Places in the oplog as the server tells them: where it ends, which set's it is, and how far it reaches back.

use bson::{Bson, Document, doc};
use mongodb::Client;

use super::token::Time;
use crate::error::{Error, Result, ResultExt};
use crate::mongowire::command;
use crate::mongowire::server::{self, Server, first_batch};
use crate::position::Position;
use crate::source::{LogHealth, LogIdentity};

/// What a person has to do when the oplog has moved on.
pub const RESYNC: &str = "the target cannot be brought level from here: make the source's oplog larger (db.adminCommand({ replSetResizeOplog: 1, size: <megabytes> })), run `switchyard finish`, empty the target's tables, and start the migration anew";
/// What errors of a lost log are recognized by.
pub const LOST: &str = "switchyard:log_lost";

/// A moment of the source.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The last operation of the oplog that the primary had applied.
    pub time: Time,
    /// The primary's clock, microseconds since the Unix epoch.
    pub clock: i64,
}

/// Where the oplog ends now.
///
/// # Errors
/// As [`command::run`].
pub async fn now(client: &Client) -> Result<Moment> {
    let doing = "asking where the source's oplog ends";
    let hello = command::run(client, "admin", doing, doc! { "hello": 1 }).await?;
    match server::operation_time(&hello) {
        Some(time) => Ok(Moment { time: time.into(), clock: server::local_time(&hello).unwrap_or(time_micros(time)) }),
        None => Err(Error::fatal(format!("{doing}: the server belongs to no replica set"))
            .hint("make it a replica set of one member: start mongod with --replSet rs0, then run rs.initiate() once")),
    }
}

fn time_micros(time: bson::Timestamp) -> i64 {
    Time::from(time).micros()
}

/// The end of what a majority of the set has: nothing up to there can be rolled back any more.
///
/// # Errors
/// As [`command::run`].
pub async fn majority(client: &Client, database: &str, collection: &str) -> Result<Moment> {
    let moment = now(client).await?;
    await_majority(client, database, collection, moment.time).await?;
    Ok(moment)
}

/// Waits until a majority has everything up to a place.
async fn await_majority(client: &Client, database: &str, collection: &str, time: Time) -> Result<()> {
    let doing = "waiting until a majority of the source's members has what the primary has";
    let concern = doc! { "level": "majority", "afterClusterTime": time.timestamp() };
    let read = doc! { "find": collection, "limit": 1, "singleBatch": true, "readConcern": concern };
    command::run(client, database, doing, read).await.map(drop)
}

/// How far the oplog reaches back and forth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its first operation.
    pub first: Time,
    /// Its last one.
    pub last: Time,
    /// Bytes of what is in it, where that could be asked.
    pub bytes: Option<u64>,
    /// Bytes that it may grow to.
    pub room: Option<u64>,
}

/// The oplog's first and last operation; `None` where the account may not ask (role `clusterMonitor`), or through a router.
///
/// # Errors
/// As [`command::run`], for lost connections only.
async fn ends(client: &Client) -> Result<Option<(Time, Time)>> {
    let doing = "asking how far the source's oplog reaches back";
    let mut ask = doc! { "serverStatus": 1, "oplog": 1 };
    for heavy in ["metrics", "wiredTiger", "locks", "tcmalloc", "network", "transactions", "opLatencies"] {
        ask.insert(heavy, 0);
    }
    let told = answered(command::run(client, "admin", doing, ask).await)?;
    let told = told.as_ref().and_then(|status| status.get_document("oplog").ok());
    let told = told.and_then(|o| o.get_timestamp("earliestOptime").ok().zip(o.get_timestamp("latestOptime").ok()));
    let both = match told {
        Some(both) => Some(both),
        None => end(client, doing, 1).await?.zip(end(client, doing, -1).await?),
    };
    Ok(both.map(|(first, last)| (first.into(), last.into())))
}

/// Asks how far the oplog reaches back, and how large it is; `None` as [`ends`].
///
/// # Errors
/// As [`ends`].
pub async fn window(client: &Client) -> Result<Option<Window>> {
    let Some((first, last)) = ends(client).await? else { return Ok(None) };
    let doing = "asking how large the source's oplog is";
    let size =
        answered(command::run(client, "local", doing, doc! { "collStats": "oplog.rs" }).await)?.unwrap_or_default();
    let number = |name| match size.get(name) {
        Some(Bson::Int32(n)) => u64::try_from(*n).ok(),
        Some(Bson::Int64(n)) => u64::try_from(*n).ok(),
        Some(Bson::Double(n)) => Some(*n as u64),
        _ => None,
    };
    Ok(Some(Window { first, last, bytes: number("size"), room: number("maxSize") }))
}

/// A reply; `None` where the server refuses to say.
fn answered(reply: Result<Document>) -> Result<Option<Document>> {
    match reply {
        Ok(reply) => Ok(Some(reply)),
        Err(e) if e.is_retry() => Err(e),
        Err(_) => Ok(None),
    }
}

/// The first or the last entry of the oplog itself.
async fn end(client: &Client, doing: &str, direction: i32) -> Result<Option<bson::Timestamp>> {
    let command = doc! { "find": "oplog.rs", "sort": { "$natural": direction }, "limit": 1, "singleBatch": true,
    "projection": { "ts": 1 } };
    let reply = answered(command::run(client, "local", doing, command).await)?;
    Ok(reply.as_ref().and_then(|reply| first_batch(reply).next()?.get_timestamp("ts").ok()))
}

/// Fails unless the oplog still holds everything behind `from`, as far as that can be asked.
///
/// # Errors
/// `Fatal` with the code [`LOST`] where it does not.
pub async fn still_holds(client: &Client, from: Time) -> Result<()> {
    match ends(client).await? {
        Some((first, _)) if first > from => {
            let behind = first.seconds().saturating_sub(from.seconds());
            Err(lost(format!(
                "the source's oplog begins at {} now, {behind} s behind the place that is needed ({})",
                first.position(),
                from.position()
            )))
        }
        _ => Ok(()),
    }
}

/// The error of a log that has been thrown away.
pub fn lost(what: String) -> Error {
    Error::fatal(what).with_code(LOST).hint(RESYNC)
}

/// The log that `start` lies in.
///
/// # Errors
/// As [`server::cluster_id`].
pub async fn identity(client: &Client, server: &Server, start: Position) -> Result<LogIdentity> {
    let doing = "asking the source which replica set it is";
    let server_id = server::cluster_id(client, server, doing).await?;
    Ok(LogIdentity { server_id, timeline: None, handle: None, start })
}

/// Fails unless this is the set that `identity` describes, it has what the target has, and its oplog reaches back to `position`.
///
/// # Errors
/// `Fatal`, each with what to do, for everything that would leave a gap.
pub async fn verify(client: &Client, server: &Server, identity: &LogIdentity, position: &Position) -> Result<()> {
    let doing = "comparing the source's oplog with the target's checkpoint";
    let fatal = |what: String| Error::fatal(format!("{doing}: {what}"));
    let Some(at) = position.oplog() else {
        return Err(fatal(format!("the checkpoint speaks of another engine's log ({position})"))
            .hint("use another name for this migration, or point source.url at the server the copy came from"));
    };
    let is = server::cluster_id(client, server, doing).await?;
    if is != identity.server_id {
        return Err(fatal(format!("the source is another replica set ({is} instead of {})", identity.server_id))
            .hint("point source.url at the set the copy came from; if that one is gone, start the migration anew"));
    }
    let end = now(client).await?.time;
    if end < Time::from(at) {
        return Err(fatal(format!("the source's oplog ends at {}, before what the target has ({})", end.position(), at))
            .hint("it was restored from a backup, or is a member that is behind: point source.url at one that has it, or start the migration anew"));
    }
    still_holds(client, at.into()).await.context(doing)
}

/// How the oplog is doing. The server keeps nothing for us: it throws away what does not fit any more.
pub fn health(now: Moment, needed: Option<Time>, window: Option<Window>) -> LogHealth {
    let span = |from: Time, to: Time| u64::from(to.seconds().saturating_sub(from.seconds()));
    let safe_bytes = window.and_then(|w| {
        let (whole, left) = (span(w.first, w.last).max(1), span(w.first, needed.unwrap_or(w.last)));
        // As if it had been written evenly.
        Some((u128::from(w.bytes?) * u128::from(left) / u128::from(whole)) as u64)
    });
    let state = match window {
        // The capture itself finds out whether it has read what is gone; after a restart it would be missing.
        Some(w) if needed.is_some_and(|n| n < w.first) => "lost".to_owned(),
        Some(w) => {
            let seconds = span(w.first, w.last);
            format!("reaches back {} h {} min", seconds / 3600, seconds / 60 % 60)
        }
        None => "unknown".to_owned(),
    };
    LogHealth { end: Position::Oplog(now.time.position()), retained_bytes: 0, safe_bytes, state, now: now.clock }
}
