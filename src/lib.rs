//! Switchyard: change-data-capture replication and fenced cutover for live databases.

pub mod change;
pub mod error;
pub mod finding;
pub mod pgwire;
pub mod pipeline;
pub mod position;
pub mod sandbox;
pub mod schema;
pub mod source;
pub mod target;
pub mod transform;
pub mod value;

pub use error::{Class, Error, Result, ResultExt};
