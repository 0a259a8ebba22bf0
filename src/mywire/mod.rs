//! MySQL and MariaDB connections: URLs, TLS, authentication, framing and quoting, shared by source, target and router.

pub mod auth;
pub mod conn;
pub mod conninfo;
pub mod errors;
pub mod packet;
pub mod quote;
pub mod rows;
pub mod server;
pub mod session;
