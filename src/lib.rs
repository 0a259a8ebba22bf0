//! Switchyard: change-data-capture replication and fenced cutover for live databases.

pub mod change;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod definition;
pub mod documents;
pub mod error;
pub mod exchange;
pub mod faults;
pub mod finding;
pub mod gtid;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod mongowire;
pub mod mywire;
pub mod pgwire;
pub mod pipeline;
pub mod position;
pub mod sandbox;
pub mod schema;
pub mod source;
pub mod status;
pub mod target;
pub mod transform;
pub mod transport;
pub mod value;
pub mod verify;

pub use error::{Class, Error, Result, ResultExt};
