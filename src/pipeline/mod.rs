//! Copy, then tail.

pub mod batch;
