//! `LOAD DATA LOCAL`: the server asks for a file, and gets what the caller writes.
//!
//! No file is ever opened here, whatever name the server asks for: only [`MyConn::load_local_start`] permits the request,
//! and its answer is what [`MyConn::load_local_write`] is given.
//!
//! LOCAL makes the server lenient whatever `sql_mode` says (manual, "LOAD DATA Statement": it acts as under IGNORE, because
//! it cannot stop the client in the middle of the file): duplicate rows are skipped and values that do not fit are
//! changed, with warnings. So a warning is an error here, and the load has to be in a transaction that can be rolled back.

use bytes::Bytes;

use super::conn::{Head, MyConn, State, command};
use super::errors;
use super::packet::{Done, MORE_RESULTS, ServerError};
use crate::error::{Class, Error, Result};

/// The largest packet that is sent; the server reads a packet whole before it looks into it.
const PIECE: usize = 1 << 20;

/// Warnings that a word of the statement is going out of use: deprecated syntax, character sets' names.
const ABOUT_SYNTAX: &[u16] = &[1287, 1681, 3719, 3778, 3779];

/// How many rows the server read from the file, by the words at its end.
pub fn records(done: &Done) -> Option<u64> {
    let rest = done.info.strip_prefix("Records: ")?;
    rest.split(' ').next()?.parse().ok()
}

impl MyConn {
    /// Sends a `LOAD DATA LOCAL INFILE 'any name' …` statement, inside a transaction.
    ///
    /// # Errors
    /// The server's own, by its number: `local_infile` off, no such table. `Fatal` without a transaction.
    pub async fn load_local_start(&mut self, sql: impl AsRef<[u8]>) -> Result<()> {
        if self.state == State::Idle && !self.in_transaction() {
            return Err(Error::fatal(format!("{}: LOAD DATA LOCAL without a transaction around it", self.name())));
        }
        self.send(command::QUERY, sql.as_ref()).await?;
        match self.result_head().await? {
            Head::File => {
                self.state = State::Loading;
                Ok(())
            }
            _ => Err(self.broken("no request for the rows of LOAD DATA LOCAL")),
        }
    }

    /// Sends more of the file, best 256 KiB or more at a time; rows may be cut anywhere. The server reads on after a row
    /// that it refuses, so its error comes from [`MyConn::load_local_finish`].
    ///
    /// # Errors
    /// `Retry` when the connection fails.
    pub async fn load_local_write(&mut self, data: &[u8]) -> Result<()> {
        self.check_loading()?;
        // Left in the middle it must not be finished: the rows so far would count as the whole file.
        self.state = State::Busy;
        // What is as large as max_allowed_packet is too large (`net_realloc`, net_serv.cc).
        let piece = PIECE.min(self.max_allowed_packet().saturating_sub(1)).max(1);
        for piece in data.chunks(piece) {
            self.put_header(piece.len());
            self.write_with(piece).await?;
        }
        self.flush().await?;
        self.state = State::Loading;
        Ok(())
    }

    /// Ends the file; `affected` is how many rows were loaded, with what they replaced; see [`records`] for how many
    /// were read. After an error the transaction has to be rolled back.
    ///
    /// # Errors
    /// The server's own, by its number; what it merely warned of, the same way: a row that was skipped, a value that was
    /// changed. `Retry` when the connection fails.
    pub async fn load_local_finish(&mut self) -> Result<Done> {
        self.check_loading()?;
        self.state = State::Busy;
        self.put_header(0);
        self.flush().await?;
        let done = match self.result_head().await? {
            Head::Done(done) if done.status & MORE_RESULTS == 0 => done,
            _ => return Err(self.broken("no end of LOAD DATA LOCAL")),
        };
        self.finished(&done);
        if done.warnings > 0 {
            self.refuse_warnings(done.warnings).await?;
        }
        Ok(done)
    }

    async fn refuse_warnings(&mut self, count: u32) -> Result<()> {
        let rows = self.query("SHOW WARNINGS").await?;
        let text = |field: Option<&Option<Bytes>>| {
            field.and_then(Option::as_ref).map(|f| String::from_utf8_lossy(f).into_owned()).unwrap_or_default()
        };
        for row in &rows {
            let (level, code, message) = (text(row.first()), text(row.get(1)), text(row.get(2)));
            let code = code.parse().unwrap_or(0);
            if level == "Note" || ABOUT_SYNTAX.contains(&code) {
                continue;
            }
            let said = ServerError { code, sqlstate: String::new(), message };
            let doing = format!("{}: loading rows ({count} warnings, the first of which counts)", self.name());
            return Err(errors::from_server(doing, &said).with_class(Class::Fatal));
        }
        // The server keeps `max_error_count` of them.
        if rows.len() < count as usize {
            return Err(Error::fatal(format!(
                "{}: loading rows: {count} warnings, not all of which can be seen",
                self.name()
            )));
        }
        Ok(())
    }

    /// Gives up: the connection is cut in the middle of the file, and the server rolls the statement and its
    /// transaction back. The protocol has no other way; the end of the file would mean that all rows were sent.
    pub fn load_local_abort(mut self) {
        self.state = State::Lost;
    }

    fn check_loading(&self) -> Result<()> {
        match self.state {
            State::Loading => Ok(()),
            _ => Err(Error::retry(format!("{}: no LOAD DATA LOCAL is under way", self.name()))),
        }
    }
}
