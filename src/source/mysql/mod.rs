//! MySQL and MariaDB as a source: a consistent snapshot in chunks by key, and the binary log.

pub mod columns;
pub mod ddl;
