//! Replies of a cursor as they come, one read ahead while the last one is worked on.
//!
//! The cursor lives in a task of its own: a future of the driver that is dropped half-way costs its connection, and the
//! server's next batch is on its way while ours is rendered.

use std::time::Duration;

use bson::Document;
use futures_util::StreamExt;
use mongodb::Client;
use mongodb::options::SelectionCriteria;
use mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::{Error, Result};
use crate::mongowire::errors;

/// How long a cursor that nobody reads any more may take to finish what it does.
const GRACE: Duration = Duration::from_secs(5);

/// What a cursor is opened with.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The database.
    pub database: String,
    /// `find` or `aggregate`, with its first batch's size and read concern.
    pub command: Document,
    /// Documents of every later batch, at most.
    pub batch: u32,
    /// How long the server waits for a first document of a later batch, where it waits (change streams).
    pub wait: Option<Duration>,
    /// What is being done, for errors.
    pub doing: String,
}

/// A cursor's replies.
#[derive(Debug)]
pub struct Batches {
    replies: mpsc::Receiver<mongodb::error::Result<RawBatch>>,
    doing: String,
    task: Option<JoinHandle<()>>,
}

impl Batches {
    /// Opens the cursor, in the background.
    pub fn open(client: &Client, opening: Opening) -> Batches {
        let (out, replies) = mpsc::channel(1);
        let doing = opening.doing.clone();
        let task = tokio::spawn(read(client.clone(), opening, out));
        Batches { replies, doing, task: Some(task) }
    }
    /// The task that the cursor lives in, to wait for its end once the value was dropped: what the driver is still asking
    /// for when the runtime ends, it panics about.
    pub fn task(&mut self) -> Option<JoinHandle<()>> {
        self.task.take()
    }
    /// The next reply; `None` at the cursor's end.
    ///
    /// # Errors
    /// As [`errors::wrap`]; `Retry` after `patience` without a reply.
    pub async fn next(&mut self, patience: Duration) -> Result<Option<RawBatch>> {
        match self.try_next(patience).await? {
            Some(next) => Ok(next),
            None => Err(Error::retry(format!("{}: nothing came for {} s", self.doing, patience.as_secs()))),
        }
    }
    /// The same; `None` after `patience` without a reply.
    ///
    /// # Errors
    /// As [`errors::wrap`].
    pub async fn try_next(&mut self, patience: Duration) -> Result<Option<Option<RawBatch>>> {
        match tokio::time::timeout(patience, self.replies.recv()).await {
            Ok(Some(Ok(batch))) => Ok(Some(Some(batch))),
            Ok(Some(Err(e))) => Err(errors::wrap(&self.doing, &e)),
            Ok(None) => Ok(Some(None)),
            Err(_) => Ok(None),
        }
    }
}

async fn read(client: Client, o: Opening, out: mpsc::Sender<mongodb::error::Result<RawBatch>>) {
    let mut cursor = match open(&client, o).await {
        Ok(cursor) => cursor,
        Err(e) => return drop(out.send(Err(e)).await),
    };
    loop {
        // One batch is worked on, and one is here or on its way: a third would only take memory.
        let Ok(room) = out.reserve().await else { return };
        let next = {
            let mut next = cursor.next();
            tokio::select! {
                next = &mut next => next,
                () = out.closed() => {
                    let _ = tokio::time::timeout(GRACE, next).await;
                    return;
                }
            }
        };
        let Some(reply) = next else { return };
        let failed = reply.is_err();
        room.send(reply);
        if failed {
            return;
        }
    }
}

async fn open(client: &Client, o: Opening) -> mongodb::error::Result<RawBatchCursor> {
    let db = client.database(&o.database);
    // The URL's own choice of a member; `runCommand` alone would not know it.
    let member = client.selection_criteria().cloned();
    let member = member.unwrap_or(SelectionCriteria::ReadPreference(mongodb::options::ReadPreference::Primary));
    let mut opened = db.run_cursor_command(o.command).batch_size(o.batch).selection_criteria(member);
    if let Some(wait) = o.wait {
        opened = opened.max_time(wait);
    }
    opened.batch().await
}
