//! MongoDB as a source: collections in ranges of `_id`, and change streams.

pub mod mapping;

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::source::{Source, SourceOptions};

/// Opens a MongoDB source.
///
/// # Errors
/// [`crate::error::Class::Config`] for a URL that cannot be meant.
pub fn open(_options: SourceOptions) -> Result<Arc<dyn Source>> {
    Err(Error::config("source.url: no engine for scheme \"mongodb\""))
}
