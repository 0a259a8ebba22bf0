//! PostgreSQL as a target.

pub mod bookkeeping;
pub mod catalog;
pub mod check;
pub mod create;
pub mod ddl;
pub mod quiesce;

use crate::error::Result;
use crate::target::TargetOptions;

/// A PostgreSQL database that is copied into.
pub struct PostgresTarget {}

impl PostgresTarget {
    /// Reads the URL; connects to nothing yet.
    pub fn new(_options: TargetOptions) -> Result<Self> {
        Ok(PostgresTarget {})
    }
}

/// Opens a PostgreSQL target.
pub fn open(options: TargetOptions) -> Result<std::sync::Arc<dyn crate::target::Target>> {
    let _ = PostgresTarget::new(options)?;
    todo!()
}
