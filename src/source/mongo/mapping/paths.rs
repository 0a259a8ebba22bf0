//! Paths of fields as a tree: which columns a document's fields go to, and what is left of it. Pure.
//!
//! `a.b` is a field named `a.b`, or a field `b` of a document `a`. Longer paths likewise, at every step.

use rustc_hash::FxHashMap;

use super::Misfit;
use crate::documents::DEEPEST;
use crate::documents::cursor::{Doc, Value};
use crate::documents::ejson::{self, Fault, Style, Why};

/// Up to so many names are compared one after the other, which is faster than hashing.
const FEW: usize = 6;

/// The names that matter in one document.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    names: Vec<(Box<[u8]>, Child)>,
    /// Where a name stands, once there are more than a few.
    places: FxHashMap<Box<[u8]>, usize>,
}

#[derive(Clone, Debug, Default)]
struct Child {
    /// The column that gets the value as a whole.
    column: Option<usize>,
    /// What is taken out of it, where it is a document.
    below: Option<Box<Node>>,
}

impl Node {
    /// Adds a column's path.
    pub(super) fn insert(&mut self, steps: &[&str], column: usize) {
        for length in (1..=steps.len()).rev() {
            let (first, rest) = steps.split_at(length);
            let name = first.join(".").into_bytes().into_boxed_slice();
            let at = match self.names.iter().position(|(n, _)| *n == name) {
                Some(at) => at,
                None => {
                    self.names.push((name, Child::default()));
                    self.names.len() - 1
                }
            };
            let Some((_, child)) = self.names.get_mut(at) else { continue };
            if rest.is_empty() {
                child.column = Some(column);
            } else {
                child.below.get_or_insert_default().insert(rest, column);
            }
        }
    }

    /// After the last path.
    pub(super) fn finish(&mut self) {
        if self.names.len() > FEW {
            self.places = self.names.iter().enumerate().map(|(i, (n, _))| (n.clone(), i)).collect();
        }
        for (_, child) in &mut self.names {
            if let Some(below) = &mut child.below {
                below.finish();
            }
        }
    }

    #[inline]
    fn find(&self, name: &[u8]) -> Option<&Child> {
        if self.names.len() > FEW {
            return self.places.get(name).and_then(|at| self.names.get(*at)).map(|(_, child)| child);
        }
        self.names.iter().find(|(n, _)| **n == *name).map(|(_, child)| child)
    }

    /// Puts each column's value into its slot, and says whether anything is left that no column has.
    pub(super) fn locate<'d>(
        &self,
        doc: Doc<'d>,
        slots: &mut [Option<Value<'d>>],
        depth: usize,
    ) -> Result<bool, Misfit> {
        let mut left = false;
        for field in doc.fields() {
            let (name, value) = field?;
            let Some(child) = self.find(name) else {
                left = true;
                continue;
            };
            if let Some(column) = child.column
                && let Some(slot) = slots.get_mut(column)
            {
                if slot.is_some() {
                    let name = String::from_utf8_lossy(name);
                    return Err(Misfit::new(
                        name,
                        "stands twice in the document, or once with a point in its name and once nested",
                    ));
                }
                *slot = Some(value);
            }
            if let Some(below) = &child.below {
                let inside = match value {
                    // The tree is no deeper than the longest path.
                    Value::Document(d) if !d.is_empty() && depth < DEEPEST => below.locate(d, slots, depth + 1)?,
                    _ => true,
                };
                left |= inside && child.column.is_none();
            }
        }
        Ok(left)
    }

    /// Appends, as JSON, a document's fields that no column has. A document of which all fields have columns is left out.
    pub(super) fn rest(&self, doc: Doc<'_>, out: &mut Vec<u8>, style: Style) -> Result<(), Fault> {
        out.push(b'{');
        let inside = out.len();
        for field in doc.fields() {
            let (name, value) = field.map_err(|m| Fault { why: Why::Malformed(m), path: String::new() })?;
            let child = self.find(name);
            if child.is_some_and(|c| c.column.is_some()) {
                continue;
            }
            let before = out.len();
            if before > inside {
                out.extend_from_slice(b", ");
            }
            ejson::string(out, name, style).map_err(|f| f.below(name))?;
            out.extend_from_slice(b": ");
            match (child.and_then(|c| c.below.as_ref()), value) {
                (Some(below), Value::Document(d)) if !d.is_empty() => {
                    below.rest(d, out, style).map_err(|f| f.below(name))?;
                    // Nothing is left of it: its braces go, too.
                    if out.ends_with(b"{}") {
                        out.truncate(before);
                    }
                }
                _ => ejson::value(out, &value, style).map_err(|f| f.below(name))?,
            }
        }
        out.push(b'}');
        Ok(())
    }
}
