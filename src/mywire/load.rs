//! `LOAD DATA LOCAL`: the server asks for a file, and gets what the caller writes.
//!
//! No file is ever opened here, whatever name the server asks for: only [`MyConn::load_local_start`] permits the request,
//! and its answer is what [`MyConn::load_local_write`] is given.

use super::conn::{Head, MyConn, State, command};
use super::packet::{Done, MAX_PAYLOAD, MORE_RESULTS};
use crate::error::{Error, Result};

/// The largest packet that is sent; the server reads a packet whole before it looks into it.
const PIECE: usize = 1 << 20;

impl MyConn {
    /// Sends a `LOAD DATA LOCAL INFILE 'any name' …` statement.
    ///
    /// # Errors
    /// The server's own, by its number: `local_infile` off, no such table.
    pub async fn load_local_start(&mut self, sql: impl AsRef<[u8]>) -> Result<()> {
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
        let piece = PIECE.min(self.max_allowed_packet()).min(MAX_PAYLOAD - 1).max(1);
        for piece in data.chunks(piece) {
            self.put_header(piece.len());
            self.write_with(piece).await?;
        }
        self.flush().await?;
        self.state = State::Loading;
        Ok(())
    }

    /// Ends the file; says how many rows were loaded, and `Records: … Warnings: …` in `info`.
    ///
    /// # Errors
    /// The server's own, by its number; `Retry` when the connection fails.
    pub async fn load_local_finish(&mut self) -> Result<Done> {
        self.check_loading()?;
        self.state = State::Busy;
        self.put_header(0);
        self.flush().await?;
        match self.result_head().await? {
            Head::Done(done) if done.status & MORE_RESULTS == 0 => {
                self.state = State::Idle;
                Ok(done)
            }
            _ => Err(self.broken("no end of LOAD DATA LOCAL")),
        }
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
