//! Moves a live PostgreSQL database to another server while the application keeps running.

pub mod sandbox;
