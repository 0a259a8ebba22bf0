//! PostgreSQL as a source.

pub mod catalog;
pub mod check;
pub mod ddl;
pub mod dump;
mod dump_text;
pub mod script;
pub mod slot;
pub mod types;
pub mod pgoutput;
pub mod replication;
mod walsender;

use crate::error::Result;
use crate::source::SourceOptions;

/// A PostgreSQL database that is copied from and followed.
pub struct PostgresSource {}

impl PostgresSource {
    /// Reads the URL; connects to nothing yet.
    pub fn new(_options: SourceOptions) -> Result<Self> {
        Ok(PostgresSource {})
    }
}

/// Opens a PostgreSQL source.
pub fn open(options: SourceOptions) -> Result<std::sync::Arc<dyn crate::source::Source>> {
    let _ = PostgresSource::new(options)?;
    todo!()
}
