//! Compiled rules. Pure.

pub mod select;
