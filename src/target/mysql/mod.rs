//! MySQL and MariaDB as a target: LOAD DATA for the copy, set-based statements for the stream, bookkeeping beside the rows.

pub mod bookkeeping;
pub mod forms;
pub mod session;
pub mod statements;
pub mod values;
