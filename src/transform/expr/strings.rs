//! Functions over text.
use super::EvalError;
use super::node::fail;
pub(super) fn like(_: &[u8], _: &[u8], _: bool) -> Result<bool, EvalError> {
    fail("not yet")
}
