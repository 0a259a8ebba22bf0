//! What a preflight finds.

use serde::{Deserialize, Serialize};

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// Works, but will surprise somebody.
    Warning,
    /// `run` would fail or lose something: it refuses to start.
    Problem,
}

/// One thing that a preflight looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// `source`, `target` or `switchyard`.
    pub side: String,
    /// A stable short name, `wal_level`, `replica_identity`.
    pub code: String,
    /// What is so, and where.
    pub message: String,
    /// What to do; for privileges and settings the exact statement.
    pub fix: Option<String>,
}

impl Finding {
    /// A finding without a fix.
    pub fn new(severity: Severity, side: &str, code: &str, message: impl Into<String>) -> Self {
        Finding { severity, side: side.into(), code: code.into(), message: message.into(), fix: None }
    }
    /// Says what to do.
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}
