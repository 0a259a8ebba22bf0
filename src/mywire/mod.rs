//! MySQL and MariaDB connections: URLs, TLS, authentication, framing and quoting, shared by source, target and router.

pub mod auth;
pub mod binlog;
pub mod conn;
pub mod conninfo;
pub mod control;
pub mod errors;
mod handshake;
pub mod load;
pub mod misprint;
pub mod packet;
pub mod quote;
pub mod rows;
pub mod server;
pub mod session;
