//! PostgreSQL connections: URLs, TLS, authentication and framing, shared by source, target and router.

pub mod auth;
pub mod conn;
pub mod conninfo;
pub mod control;
pub mod copy;
pub mod copytext;
pub mod errors;
pub mod quote;
pub mod scan;
pub mod tls;
pub mod transport;
pub mod types;
