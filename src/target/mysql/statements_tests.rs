//! Cases of `statements.rs`.
