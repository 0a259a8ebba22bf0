//! Everything that is tested from outside, in one binary.

mod check;
mod cli;
mod cli_life;
mod config;
mod copy_wire;
mod http;
mod layering;
mod pgoutput;
mod sandbox;
mod source_catalog;
mod source_ddl;
mod stream;
mod target_schema;
