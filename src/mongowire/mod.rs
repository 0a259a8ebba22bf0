//! MongoDB connections: URLs, TLS, who the server is, commands with a time limit, and what errors mean; shared by source and
//! target.

pub mod command;
pub mod conninfo;
pub mod errors;
pub mod server;
