//! PostgreSQL connections: URLs, TLS, authentication and framing, shared by source, target and router.

pub mod conninfo;
pub mod control;
pub mod errors;
pub mod types;
