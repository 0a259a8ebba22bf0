//! Statements that wait to be sent together, each with what it is expected to do.

use std::sync::Arc;

use super::statements::{Shape, Statement};
use crate::value::{Datum, Row};

/// What a statement is expected to have done.
#[derive(Clone, Copy)]
pub(super) enum Expect {
    EveryRow,
    Anything,
    /// The checkpoint's row.
    Fence,
}

/// A statement on its way.
pub(super) struct Call<'a> {
    pub(super) sql: Vec<u8>,
    pub(super) shape: Option<Arc<Shape>>,
    pub(super) rows: Vec<&'a Row>,
    pub(super) expect: Expect,
    /// `update`, for messages.
    pub(super) what: &'static str,
}

/// Statements that wait to be sent together.
#[derive(Default)]
pub(super) struct Pipe<'a> {
    pub(super) calls: Vec<Call<'a>>,
    pub(super) bytes: usize,
}

impl<'a> Pipe<'a> {
    pub(super) fn push(&mut self, call: Call<'a>) {
        self.bytes += call.sql.len() + 1;
        self.calls.push(call);
    }
    pub(super) fn plain(&mut self, sql: impl Into<Vec<u8>>) {
        self.push(Call { sql: sql.into(), shape: None, rows: Vec::new(), expect: Expect::Anything, what: "work" });
    }
    pub(super) fn all(
        &mut self,
        statements: Vec<Statement>,
        shape: &Arc<Shape>,
        rows: &[&'a Row],
        expect: Expect,
        what: &'static str,
    ) {
        for s in statements {
            let rows = rows.get(s.rows).unwrap_or_default().to_vec();
            self.push(Call { sql: s.sql, shape: Some(shape.clone()), rows, expect, what });
        }
    }
}

/// Groups rows by which columns were sent; there are few such sets.
pub(super) fn by_sent_columns<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<(Vec<usize>, Vec<&'a Row>)> {
    let mut whole: Vec<&Row> = Vec::new();
    let mut groups: Vec<(Vec<usize>, Vec<&Row>)> = Vec::new();
    for row in rows {
        if !row.has_unsent() {
            whole.push(row);
            continue;
        }
        let sent: Vec<usize> = (0..row.len()).filter(|&i| row.get(i) != Datum::Unsent).collect();
        match groups.iter_mut().find(|(s, _)| *s == sent) {
            Some((_, g)) => g.push(row),
            None => groups.push((sent, vec![row])),
        }
    }
    if let Some(first) = whole.first() {
        groups.push(((0..first.len()).collect(), whole));
    }
    groups
}
