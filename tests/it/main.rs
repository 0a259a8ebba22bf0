//! Everything that is tested from outside, in one binary.

mod bad_input;
mod check;
mod cli;
mod cli_life;
mod config;
mod constraints;
mod copy_wire;
mod demo;
mod http;
mod identities;
mod layering;
mod partitions;
mod pgoutput;
mod resume;
mod resume_copy;
mod sandbox;
mod scenario;
mod schema_changes;
mod source_catalog;
mod source_ddl;
mod stream;
mod support;
mod target_schema;
mod types;
mod upgrade;
