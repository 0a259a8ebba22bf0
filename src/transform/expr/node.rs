//! The compiled form of an expression, and its evaluation. Values live in the row, in the expression or in one arena.

use std::sync::Arc;

use bumpalo::Bump;

use super::{EvalError, Fields};
use crate::value::Datum;

/// A value on its way. Its static type says what an [`V::Int`] counts: microseconds of a timestamp, days of a date.
/// Values of columns stay text until an operation needs more.
#[derive(Clone, Copy, Debug)]
pub(super) enum V<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Canonical text.
    Str(&'a [u8]),
}

pub(super) type R<'a> = Result<V<'a>, EvalError>;

/// An operation over evaluated arguments.
pub(super) type Fun = Arc<dyn for<'a> Fn(&'a Bump, &[V<'a>]) -> R<'a> + Send + Sync>;

/// Gives a closure the type of a [`Fun`].
pub(super) fn fun<F>(f: F) -> Fun
where
    F: for<'a> Fn(&'a Bump, &[V<'a>]) -> R<'a> + Send + Sync + 'static,
{
    Arc::new(f)
}

pub(super) fn fail<T>(message: impl Into<String>) -> Result<T, EvalError> {
    Err(EvalError::Failed { message: message.into() })
}

/// A constant, owned by the expression.
#[derive(Clone, PartialEq)]
pub(super) enum Const {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Box<[u8]>),
}

impl Const {
    pub fn value(&self) -> V<'_> {
        match self {
            Const::Null => V::Null,
            Const::Bool(b) => V::Bool(*b),
            Const::Int(n) => V::Int(*n),
            Const::Float(x) => V::Float(*x),
            Const::Str(s) => V::Str(s),
        }
    }
    pub fn own(v: V<'_>) -> Const {
        match v {
            V::Null => Const::Null,
            V::Bool(b) => Const::Bool(b),
            V::Int(n) => Const::Int(n),
            V::Float(x) => Const::Float(x),
            V::Str(s) => Const::Str(s.into()),
        }
    }
}

#[derive(Clone)]
pub(super) enum Node {
    Column(usize),
    Const(Const),
    /// A constant part that has no value. It matters only where it is reached.
    Fails(Arc<Failing>),
    /// The operand of the `case x when …` around this node.
    Operand,
    /// NULL if an argument is.
    Strict(Fun, Box<[Node]>),
    /// The operation looks at NULLs itself.
    Call(Fun, Box<[Node]>),
    And(Box<[Node]>),
    Or(Box<[Node]>),
    Coalesce(Box<[Node]>),
    /// Conditions with results, and the result without one.
    Case(Box<[(Node, Node)]>, Box<Node>),
    /// The same behind an operand, which is evaluated once.
    CaseOf(Box<Node>, Box<[(Node, Node)]>, Box<Node>),
    /// `x op any (array)` where the comparison's right side is [`Node::Operand`] and `x` is evaluated for each element.
    Any {
        array: Box<Node>,
        test: Box<Node>,
        all: bool,
    },
}

/// Why a constant part has no value, and where it stands.
pub(super) struct Failing {
    pub message: String,
    pub line: u64,
    pub column: u64,
    /// Whether the server would say so only when it gets there, as with texts of dates.
    pub late: bool,
}

/// What every node of one evaluation shares.
pub(super) struct Scope<'a> {
    pub row: &'a dyn Fields,
    pub bump: &'a Bump,
}

/// Arguments that fit on the stack; longer lists go to the arena.
const FEW: usize = 4;

impl Node {
    pub fn null() -> Node {
        Node::Const(Const::Null)
    }

    pub fn eval<'a>(&'a self, s: &Scope<'a>, operand: V<'a>) -> R<'a> {
        match self {
            Node::Column(i) => match s.row.get(*i) {
                Datum::Null => Ok(V::Null),
                Datum::Unsent => Err(EvalError::Unsent { input: *i }),
                Datum::Text(t) => Ok(V::Str(t)),
            },
            Node::Const(c) => Ok(c.value()),
            Node::Fails(why) => fail(why.message.clone()),
            Node::Operand => Ok(operand),
            Node::Strict(f, args) => call(f, args, s, operand, true),
            Node::Call(f, args) => call(f, args, s, operand, false),
            Node::And(parts) => {
                let mut null = false;
                for part in parts {
                    match truth(part.eval(s, operand)?)? {
                        Some(false) => return Ok(V::Bool(false)),
                        None => null = true,
                        Some(true) => {}
                    }
                }
                Ok(if null { V::Null } else { V::Bool(true) })
            }
            Node::Or(parts) => {
                let mut null = false;
                for part in parts {
                    match truth(part.eval(s, operand)?)? {
                        Some(true) => return Ok(V::Bool(true)),
                        None => null = true,
                        Some(false) => {}
                    }
                }
                Ok(if null { V::Null } else { V::Bool(false) })
            }
            Node::Coalesce(parts) => {
                for part in parts {
                    match part.eval(s, operand)? {
                        V::Null => {}
                        v => return Ok(v),
                    }
                }
                Ok(V::Null)
            }
            Node::Case(arms, otherwise) => {
                for (condition, result) in arms {
                    if truth(condition.eval(s, operand)?)? == Some(true) {
                        return result.eval(s, operand);
                    }
                }
                otherwise.eval(s, operand)
            }
            Node::CaseOf(of, arms, otherwise) => {
                let inner = of.eval(s, operand)?;
                for (condition, result) in arms {
                    if truth(condition.eval(s, inner)?)? == Some(true) {
                        return result.eval(s, operand);
                    }
                }
                otherwise.eval(s, operand)
            }
            Node::Any { array, test, all } => {
                let found = array.eval(s, operand)?;
                let elements = match found {
                    V::Str(text) => super::array::elements(s.bump, text)?,
                    _ => bumpalo::collections::Vec::new_in(s.bump),
                };
                if elements.is_empty() {
                    // The other side may fail nevertheless.
                    test.eval(s, V::Null)?;
                }
                if matches!(found, V::Null) {
                    return Ok(V::Null);
                }
                let mut null = false;
                for element in elements {
                    let element = element.map_or(V::Null, V::Str);
                    match truth(test.eval(s, element)?)? {
                        None => null = true,
                        Some(yes) if yes != *all => return Ok(V::Bool(yes)),
                        Some(_) => {}
                    }
                }
                Ok(if null { V::Null } else { V::Bool(*all) })
            }
        }
    }

    /// Visits this node and all below it.
    pub fn walk(&self, visit: &mut dyn FnMut(&Node)) {
        visit(self);
        match self {
            Node::Column(_) | Node::Const(_) | Node::Fails(_) | Node::Operand => {}
            Node::Strict(_, parts)
            | Node::Call(_, parts)
            | Node::And(parts)
            | Node::Or(parts)
            | Node::Coalesce(parts) => parts.iter().for_each(|p| p.walk(visit)),
            Node::Case(arms, otherwise) => {
                arms.iter().for_each(|(c, r)| {
                    c.walk(visit);
                    r.walk(visit);
                });
                otherwise.walk(visit);
            }
            Node::CaseOf(of, arms, otherwise) => {
                of.walk(visit);
                arms.iter().for_each(|(c, r)| {
                    c.walk(visit);
                    r.walk(visit);
                });
                otherwise.walk(visit);
            }
            Node::Any { array, test, .. } => {
                array.walk(visit);
                test.walk(visit);
            }
        }
    }

    /// Whether a part of it fails whatever the row is.
    pub fn fails(&self) -> bool {
        let mut found = false;
        self.walk(&mut |n| found |= matches!(n, Node::Fails(why) if !why.late));
        found
    }

    /// Whether it reads the row.
    pub fn reads(&self) -> bool {
        let mut found = false;
        self.walk(&mut |n| found |= matches!(n, Node::Column(_)));
        found
    }

    pub fn is_const(&self) -> bool {
        matches!(self, Node::Const(_))
    }
}

fn call<'a>(f: &'a Fun, args: &'a [Node], s: &Scope<'a>, operand: V<'a>, strict: bool) -> R<'a> {
    let mut few = [V::Null; FEW];
    let many;
    let values: &[V<'a>] = if args.len() <= FEW {
        for (slot, arg) in few.iter_mut().zip(args) {
            *slot = arg.eval(s, operand)?;
        }
        &few[..args.len()]
    } else {
        let mut values = bumpalo::collections::Vec::with_capacity_in(args.len(), s.bump);
        for arg in args {
            values.push(arg.eval(s, operand)?);
        }
        many = values;
        &many
    };
    if strict && values.iter().any(|v| matches!(v, V::Null)) {
        return Ok(V::Null);
    }
    f(s.bump, values)
}

/// A boolean of three values.
pub(super) fn truth(v: V<'_>) -> Result<Option<bool>, EvalError> {
    match v {
        V::Null => Ok(None),
        V::Bool(b) => Ok(Some(b)),
        V::Str(b"t") => Ok(Some(true)),
        V::Str(b"f") => Ok(Some(false)),
        _ => fail("a boolean is neither t nor f"),
    }
}
