//! Dates, times and intervals.
use super::EvalError;
use super::node::{Fun, V, fail};
use super::resolve::Signature;
use super::types::Base;
use bumpalo::Bump;
pub(super) struct Span;
impl Span {
    pub fn of(_: V<'_>) -> Result<Span, EvalError> {
        fail("not yet")
    }
    pub fn order(&self) -> i128 {
        0
    }
    pub fn negated(self) -> Result<Span, EvalError> {
        fail("not yet")
    }
    pub fn value<'a>(&self, _: &'a Bump) -> V<'a> {
        V::Null
    }
}
pub(super) fn micros(_: V<'_>, _: &Base) -> Result<i64, EvalError> {
    fail("not yet")
}
pub(super) fn time(_: V<'_>) -> Result<i64, EvalError> {
    fail("not yet")
}
pub(super) fn arithmetic(_: char) -> Vec<Signature> {
    vec![]
}
pub(super) fn print_date(_: &Bump, _: i64) -> &[u8] {
    b""
}
pub(super) fn print_time(_: &Bump, _: i64) -> &[u8] {
    b""
}
pub(super) fn print_timestamp(_: &Bump, _: i64, _: bool) -> &[u8] {
    b""
}
pub(super) fn between(_: &Base, _: &Base) -> Option<Fun> {
    None
}
pub(super) fn input(_: &Base) -> Option<Fun> {
    None
}
pub(super) fn rounding(_: &Base, _: i32) -> Option<Fun> {
    None
}
