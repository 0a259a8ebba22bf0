//! MySQL and MariaDB as sources.

pub mod binlog;
pub mod types;
