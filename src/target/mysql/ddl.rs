//! Repeats a schema change of the source on the target, as far as that is safe.

use super::apply::MyApplier;
use crate::change::Ddl;
use crate::error::Result;
use crate::schema::Table;
use crate::target::{BatchEnd, DdlOutcome};

/// Carries out what is safe.
pub async fn apply(_: &mut MyApplier, ddl: &Ddl, _: Option<&Table>, _: &BatchEnd) -> Result<DdlOutcome> {
    Ok(DdlOutcome::Unsafe(format!("{} {}: not yet", ddl.tag, ddl.object)))
}
