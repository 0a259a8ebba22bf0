//! Follows where transactions begin and end, and fails where one is not whole.
//!
//! A transaction's id is followed by exactly one end before the next id: COMMIT, XID, XA PREPARE, or a statement that
//! ends by itself. Anything else means that events were lost on their way.

use crate::error::{Error, Result};

use super::decoder::Flavour;
use super::event::{Body, LogEvent, QueryKind};

/// What an event means for the transaction that it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Not part of any transaction.
    Outside,
    /// A transaction's id; the first of its events.
    Begin,
    /// Inside of it.
    Inside,
    /// A statement inside of it that is no row change, `CREATE TABLE … SELECT` for instance: the transaction goes on.
    Statement,
    /// It ends, and what it holds is committed.
    Commit,
    /// It ends, and what it holds did not happen.
    Rollback,
    /// It was one statement, and ends with it.
    Single,
    /// XA PREPARE: it ends in the log, and is neither committed nor rolled back yet.
    Prepared,
    /// XA COMMIT of an earlier [`Step::Prepared`].
    PreparedCommit,
    /// XA ROLLBACK of an earlier [`Step::Prepared`].
    PreparedRollback,
}

/// See the module. One a connection: what a lost connection cut off is sent again.
#[derive(Clone, Debug)]
pub struct TransactionTracker {
    flavour: Flavour,
    state: State,
    /// The id, for messages.
    id: String,
    /// Where the last event of the open transaction ended.
    end: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// An id was read, and nothing yet that says what it is.
    Announced,
    /// MariaDB said that one statement follows.
    Standalone,
    Open,
    /// XA END was read: only XA_PREPARE may follow.
    Ending,
}

impl TransactionTracker {
    /// Before the first event of a connection.
    pub fn new(flavour: Flavour) -> Self {
        TransactionTracker { flavour, state: State::Idle, id: String::new(), end: None }
    }
    /// Whether a transaction is open: an end of the stream here loses nothing only if it is read again.
    pub fn is_open(&self) -> bool {
        self.state != State::Idle
    }

    /// Takes the next event; those of a compressed transaction one by one, behind the [`Body::Payload`] itself.
    ///
    /// # Errors
    /// *Retry* where the server left out events inside a transaction. *Fatal* where a transaction has no end, events
    /// stand outside of one, or rows were logged as statements.
    pub fn step(&mut self, event: &LogEvent) -> Result<Step> {
        self.no_gap(event)?;
        let open = self.is_open();
        match &event.body {
            Body::Gtid(_) | Body::Anonymous(_) | Body::MariaGtid(_) => {
                if open {
                    return Err(self.unfinished("the next one begins"));
                }
                self.id = match &event.body {
                    Body::Gtid(g) => g.gtid.as_ref().map_or(String::new(), ToString::to_string),
                    Body::MariaGtid(g) => g.gtid.to_string(),
                    _ => "without id".to_owned(),
                };
                self.end = event.end;
                self.state = match &event.body {
                    Body::MariaGtid(g) if g.standalone => State::Standalone,
                    Body::MariaGtid(_) => State::Open,
                    _ => State::Announced,
                };
                Ok(Step::Begin)
            }
            Body::FormatDescription { .. } | Body::Stop if open => Err(self.unfinished("the log's file ends")),
            Body::Rotate { .. } if open => Err(self.unfinished("the log goes on in another file")),
            Body::Query(query) => self.query(query.kind()),
            Body::Xid(_) => self.close(State::Open, Step::Commit),
            Body::XaPrepare { one_phase: true } => self.close(State::Ending, Step::Commit),
            Body::XaPrepare { one_phase: false } => self.close(State::Ending, Step::Prepared),
            Body::TableMap(_) | Body::Rows(_) => {
                if self.state == State::Open {
                    Ok(Step::Inside)
                } else {
                    Err(self.misplaced("rows"))
                }
            }
            Body::Payload(_) => {
                if self.state == State::Announced {
                    Ok(Step::Inside)
                } else {
                    Err(self.misplaced("a compressed transaction"))
                }
            }
            Body::StatementContext | Body::Ignored if open => Ok(Step::Inside),
            _ => Ok(Step::Outside),
        }
    }

    /// [`TransactionTracker::step`] for a statement that was logged in place of the rows that it changed, and of which it
    /// is known that it concerns nobody.
    ///
    /// # Errors
    /// As there.
    pub fn pass(&mut self, event: &LogEvent) -> Result<Step> {
        self.no_gap(event)?;
        if self.state == State::Open { Ok(Step::Inside) } else { self.single(Step::Single) }
    }

    fn query(&mut self, kind: QueryKind) -> Result<Step> {
        match kind {
            QueryKind::Begin if self.state == State::Announced => {
                self.state = State::Open;
                Ok(Step::Inside)
            }
            // MariaDB's id is a BEGIN, and XA START may still follow.
            QueryKind::Begin if self.state == State::Open && self.flavour == Flavour::MariaDb => Ok(Step::Inside),
            QueryKind::Begin => Err(self.misplaced("BEGIN")),
            QueryKind::Commit => self.close(State::Open, Step::Commit),
            QueryKind::Rollback => self.close(State::Open, Step::Rollback),
            QueryKind::XaEnd if self.state == State::Open => {
                self.state = State::Ending;
                Ok(Step::Inside)
            }
            QueryKind::XaEnd => Err(self.misplaced("XA END")),
            QueryKind::XaCommit => self.single(Step::PreparedCommit),
            QueryKind::XaRollback => self.single(Step::PreparedRollback),
            QueryKind::Savepoint if self.state == State::Open => Ok(Step::Inside),
            QueryKind::Savepoint => self.single(Step::Single),
            QueryKind::RollbackTo => Err(Error::fatal(format!(
                "transaction {} in the binary log holds changes that were rolled back to a savepoint",
                self.id
            ))
            .hint("this is logged where one transaction changes tables with and without transactions: ALTER TABLE … ENGINE=InnoDB, then copy again")),
            QueryKind::Rows => Err(Error::fatal(format!(
                "transaction {} in the binary log holds a statement instead of rows",
                self.id
            ))
            .hint("SET GLOBAL binlog_format = 'ROW', end all sessions that were there before, then copy again")),
            QueryKind::Other if self.state == State::Open => Ok(Step::Statement),
            QueryKind::Other => self.single(Step::Single),
        }
    }

    /// A statement that is a transaction of its own.
    fn single(&mut self, step: Step) -> Result<Step> {
        if matches!(self.state, State::Announced | State::Standalone | State::Open) {
            self.state = State::Idle;
            return Ok(step);
        }
        Err(self.misplaced("a statement"))
    }

    fn close(&mut self, from: State, step: Step) -> Result<Step> {
        if self.state != from {
            return Err(self.misplaced("an end of a transaction"));
        }
        self.state = State::Idle;
        Ok(step)
    }

    /// Inside of a transaction events lie one behind the other. MariaDB keeps back some that were not asked for.
    fn no_gap(&mut self, event: &LogEvent) -> Result<()> {
        let (Some(end), Some(before)) = (event.end, self.end) else { return Ok(()) };
        let start = end.saturating_sub(u64::from(event.header.size));
        if self.is_open() && self.flavour == Flavour::MySql && start != before {
            return Err(Error::retry(format!(
                "transaction {} in the binary log: an event begins at {start}, the one before it ended at {before}",
                self.id
            ))
            .hint("events were lost on their way; the transaction is read again"));
        }
        self.end = Some(end);
        Ok(())
    }

    fn unfinished(&self, what: &str) -> Error {
        Error::fatal(format!("transaction {} in the binary log has no end: {what}", self.id))
            .hint("nothing of it was applied. mysqlbinlog shows whether the source's own log is whole; if it is not, copy again")
    }

    fn misplaced(&self, what: &str) -> Error {
        let place = match self.state {
            State::Idle => "outside of any transaction".to_owned(),
            _ => format!("where it cannot be in transaction {}", self.id),
        };
        Error::fatal(format!("{what} in the binary log {place}"))
            .hint("nothing of it was applied. mysqlbinlog shows whether the source's own log is whole; if it is not, copy again")
    }
}
