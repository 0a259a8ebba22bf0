//! A session at the target: commands one after the other, transactions, and what their answers mean.

use std::fmt::Display;
use std::time::Duration;

use bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::options::{ReadPreference, SelectionCriteria, TransactionOptions, WriteConcern};
use mongodb::{Client, ClientSession};

use super::command::{self, Refusal, Written};
use crate::error::{Error, Result};
use crate::mongowire::command::finished_within;
use crate::mongowire::errors;

/// How long a command that writes may take.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How durable a commit is when it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durable {
    /// On the disks of most members.
    Majority,
    /// In the primary's memory. A later majority write brings it to the disks, too.
    Later,
}

/// A logical session, and the transaction in it.
pub struct Session {
    client: Client,
    /// Taken out while a command runs in it; one whose caller was dropped meanwhile is not used again.
    session: Option<ClientSession>,
    open: bool,
}

impl Session {
    /// A new one.
    ///
    /// # Errors
    /// `Retry` where the server does not answer.
    pub async fn start(client: &Client) -> Result<Session> {
        let from = client.clone();
        let session =
            finished_within(PATIENCE, "opening a session on the target", async move { from.start_session().await })
                .await?;
        Ok(Session { client: client.clone(), session: Some(session), open: false })
    }

    /// The client that it belongs to.
    pub fn client(&self) -> &Client {
        &self.client
    }
    /// What the server knows it by.
    pub fn id(&self) -> Option<Bson> {
        self.session.as_ref().and_then(|s| s.id().get("id").cloned())
    }
    /// Whether a transaction is open.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Runs `work` on the driver's session, in a task of its own.
    async fn with<T: Send + 'static, F>(
        &mut self,
        doing: &str,
        work: impl FnOnce(Client, ClientSession) -> F,
    ) -> Result<T>
    where
        F: Future<Output = (ClientSession, mongodb::error::Result<T>)> + Send + 'static,
    {
        let Some(session) = self.session.take() else {
            return Err(Error::retry(format!("{doing}: the session was given up in the middle of a command")));
        };
        let work = work(self.client.clone(), session);
        let (session, done) = finished_within(PATIENCE, doing, async move { Ok(work.await) }).await?;
        self.session = Some(session);
        done.map_err(|e| errors::wrap(doing, &e))
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// `Retry` where the server does not answer; `Fatal` where it has no transactions.
    pub async fn begin(&mut self, durable: Durable) -> Result<()> {
        let concern = match durable {
            Durable::Majority => WriteConcern::majority(),
            Durable::Later => WriteConcern::nodes(1),
        };
        let options = TransactionOptions::builder()
            .write_concern(concern)
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .build();
        self.with("beginning a transaction on the target", |_, mut s| async move {
            let done = s.start_transaction().with_options(options).await;
            (s, done)
        })
        .await?;
        self.open = true;
        Ok(())
    }

    /// Runs a command, inside the transaction if one is open.
    ///
    /// # Errors
    /// See [`errors::wrap`]. Inside a transaction every error has ended it on the server.
    pub async fn raw(&mut self, doing: &str, database: &str, command: RawDocumentBuf) -> Result<Document> {
        let database = database.to_owned();
        self.with(doing, |client, mut s| async move {
            let done = client.database(&database).run_raw_command(command).session(&mut s).await;
            (s, done)
        })
        .await
    }

    /// [`Session::raw`] for a command as a document.
    ///
    /// # Errors
    /// As there.
    pub async fn run(&mut self, doing: &str, database: &str, command: Document) -> Result<Document> {
        let raw = RawDocumentBuf::try_from(&command)
            .map_err(|e| Error::fatal(format!("{doing}: the command cannot be written: {e}")))?;
        self.raw(doing, database, raw).await
    }

    /// Runs a write command; a statement that is refused is an error here.
    ///
    /// # Errors
    /// As [`Session::raw`].
    pub async fn write(&mut self, doing: &str, database: &str, command: Document) -> Result<Written> {
        let w = command::written(&self.run(doing, database, command).await?);
        match (&w.refused, &w.concern) {
            (Some(r), _) => Err(refused(doing, r)),
            (None, Some((code, message))) => Err(errors::from_server(doing, *code, message)),
            (None, None) => Ok(w),
        }
    }

    /// Commits. A lost answer is `Retry`: what became of it is told by what the transaction wrote.
    ///
    /// # Errors
    /// As [`Session::raw`].
    pub async fn commit(&mut self, doing: &str) -> Result<()> {
        self.open = false;
        self.with(doing, |_, mut s| async move {
            let done = s.commit_transaction().await;
            (s, done)
        })
        .await
    }

    /// Gives up the transaction, if one is open. Errors do not matter: the server ends it by itself.
    pub async fn abort(&mut self) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        let done: Result<()> = self
            .with("rolling back on the target", |_, mut s| async move {
                let done = s.abort_transaction().await;
                (s, done)
            })
            .await;
        if let Err(e) = done {
            tracing::debug!("{e}");
        }
    }

    /// The documents that a query finds, as the first batch of one cursor: for few.
    ///
    /// # Errors
    /// As [`Session::raw`].
    pub async fn find(&mut self, doing: &str, database: &str, mut find: Document) -> Result<Vec<Document>> {
        find.insert("singleBatch", true);
        find.insert("batchSize", find.get("limit").cloned().unwrap_or(Bson::Int32(100_000)));
        let mut reply = self.run(doing, database, find).await?;
        let batch = match reply.get_document_mut("cursor") {
            Ok(cursor) => cursor.remove("firstBatch"),
            Err(_) => None,
        };
        match batch {
            Some(Bson::Array(found)) => Ok(found
                .into_iter()
                .filter_map(|d| match d {
                    Bson::Document(d) => Some(d),
                    _ => None,
                })
                .collect()),
            _ => Err(Error::fatal(format!("{doing}: the answer holds no documents"))),
        }
    }
}

/// A statement that the server refused, as an error.
pub fn refused(doing: impl Display, r: &Refusal) -> Error {
    errors::from_server(&doing.to_string(), r.code, &r.message)
}

/// The write concern of commands that stand outside transactions.
pub fn majority() -> Document {
    doc! { "w": "majority" }
}
