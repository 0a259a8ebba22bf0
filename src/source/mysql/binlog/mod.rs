//! Decodes the binary log of MySQL and MariaDB. Pure: bytes in, events and rows out, never a panic.
//!
//! [`Decoder`] takes whole events, checks their checksums, and knows where in the log it is. Row events keep their rows
//! undecoded; [`TableLayout`], made once from a [`TableMap`], decodes them. [`TransactionTracker`] sees to it that
//! every transaction is whole.

mod bodies;
pub mod cursor;
mod decoder;
pub mod event;
mod json;
mod json_diff;
mod layout;
mod payload;
mod rows;
mod table_map;
#[cfg(test)]
mod tests;
mod tracker;

pub use cursor::{Parsed, Wrong};
pub use decoder::{Decoder, Flavour};
pub use event::{Body, GtidEvent, Header, LogEvent, MariaGtid, Query, QueryKind};
pub use layout::{KnownColumn, LayoutColumn, TableLayout};
pub use payload::{Payload, PayloadReader};
pub use rows::{OldRows, RowChange, RowsEvent};
pub use table_map::{MapColumn, TableMap, TableMapEvent};
pub use tracker::{Step, TransactionTracker};
