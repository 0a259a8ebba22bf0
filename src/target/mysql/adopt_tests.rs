//! Cases of `adopt.rs`.
