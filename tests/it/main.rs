//! Everything that is tested from outside, in one binary.

mod check;
mod cli;
mod cli_life;
mod config;
mod copy_wire;
mod ddl_stream;
mod demo;
mod http;
mod layering;
mod network;
mod outage;
mod pgoutput;
mod resume;
mod resume_copy;
mod sandbox;
mod scenario;
mod source_catalog;
mod source_ddl;
mod stream;
mod support;
mod target_schema;
mod types;
