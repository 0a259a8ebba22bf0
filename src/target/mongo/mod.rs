//! MongoDB as a target: tables as collections, rows as documents.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::target::{Target, TargetOptions};

/// Opens a MongoDB target.
///
/// # Errors
/// [`crate::error::Class::Config`] for a URL that cannot be meant.
pub fn open(_options: TargetOptions) -> Result<Arc<dyn Target>> {
    Err(Error::config("target.url: no engine for scheme \"mongodb\""))
}
