//! Collects whole source transactions, compacts them by key, and says when to commit. Pure.

/// Changes ready to be applied.
#[derive(Debug, Default)]
pub struct Batch {}
