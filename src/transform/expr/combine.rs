//! What operators make of typed sides: comparison, `||`, `and`, `or`, `any`.

use super::ExprError;
use super::node::{Const, Node, V, fun, truth};
use super::ops;
use super::resolve::{Signature, Unresolved};
use super::typed::{Result, Typed, unify};
use super::types::{Base, Context};

/// A binary operator by its name.
pub(super) fn binary(name: &str, left: Typed, right: Typed, line: u64, column: u64) -> Result {
    let name = if name == "!=" { "<>" } else { name };
    let candidates = match name {
        "=" | "<>" | "<" | "<=" | ">" | ">=" => ops::comparisons(name, left.base(), right.base()),
        "+" | "-" | "*" | "/" | "%" => ops::arithmetic(name.chars().next().unwrap_or('+')),
        "||" => return concatenation(left, right, line, column),
        other => ops::named(other),
    };
    // Two texts that nobody decided are compared as text.
    let types = (left.ty.clone(), right.ty.clone());
    match Typed::resolved(candidates, vec![left, right], true)? {
        Ok((Signature { result, run, strict, nulls, .. }, args)) => {
            Typed::call(run, strict, nulls, args, result, line, column)
        }
        Err(why) => {
            let (l, r) = types;
            let message = match why {
                Unresolved::Nothing => {
                    format!("there is no operator {l} {name} {r}; cast one side to the other's type")
                }
                Unresolved::Several => format!("{l} {name} {r} could mean several things; cast the literals"),
            };
            Err(ExprError { message, line, column })
        }
    }
}

/// `||`: texts, or a text with anything that has a text.
fn concatenation(left: Typed, right: Typed, line: u64, column: u64) -> Result {
    let kinds = (left.base().clone(), right.base().clone());
    let same = |base: &Base| matches!(base, Base::Bytes | Base::Jsonb);
    let texts = |l: &Base, r: &Base| {
        let any = |b: &Base| b.is_text() || *b == Base::Unknown;
        (any(l) && !matches!(r, Base::Array(_))) || (any(r) && !matches!(l, Base::Array(_)))
    };
    let alike = match &kinds {
        (l, r) if same(l) && (l == r || *r == Base::Unknown) => Some(l.clone()),
        (Base::Unknown, r) if same(r) => Some(r.clone()),
        (l, r) if texts(l, r) => None,
        (l, r) => {
            let message = format!("there is no operator {l} || {r}; cast one side to text");
            return Err(ExprError { message, line, column });
        }
    };
    let target = alike.unwrap_or(Base::Text);
    let args = vec![
        left.cast(&target.clone().into(), Context::Explicit)?,
        right.cast(&target.clone().into(), Context::Explicit)?,
    ];
    match Typed::resolved(ops::named("||"), args, true)? {
        Ok((s, args)) => Typed::call(s.run, true, false, args, s.result, line, column),
        Err(_) => Err(ExprError { message: "there is no such operator ||".into(), line, column }),
    }
}

/// Parts of `and`; what is always true is left out, what is always false decides.
pub(super) fn all(parts: Vec<Typed>, line: u64, column: u64) -> Typed {
    junction(parts, false, line, column)
}
pub(super) fn any(parts: Vec<Typed>, line: u64, column: u64) -> Typed {
    junction(parts, true, line, column)
}

fn junction(parts: Vec<Typed>, decides: bool, line: u64, column: u64) -> Typed {
    let constant = |c: Const| Typed::constant(c, Base::Bool).at(line, column);
    if parts.iter().any(|p| matches!(p.node, Node::Const(Const::Bool(b)) if b == decides)) {
        return constant(Const::Bool(decides));
    }
    let mut kept: Vec<Typed> = parts.into_iter().filter(|p| !matches!(p.node, Node::Const(Const::Bool(_)))).collect();
    if kept.is_empty() {
        return constant(Const::Bool(!decides));
    }
    if kept.iter().all(Typed::is_null) {
        return constant(Const::Null);
    }
    if kept.len() == 1 {
        return kept.remove(0);
    }
    let nullable = kept.iter().any(|p| p.nullable);
    let nodes: Box<[Node]> = kept.into_iter().map(|p| p.node).collect();
    let node = if decides { Node::Or(nodes) } else { Node::And(nodes) };
    Typed::new(node, Base::Bool, nullable).at(line, column)
}

pub(super) fn is_truth(x: Typed, wanted: Option<bool>, negated: bool, line: u64, column: u64) -> Result {
    let x = x.boolean("what is tested")?;
    let run = fun(move |_, v| Ok(V::Bool((truth(v[0])? == wanted) != negated)));
    Typed::call(run, false, false, vec![x], Base::Bool, line, column)
}

pub(super) fn distinct(a: Typed, b: Typed, wanted: bool, line: u64, column: u64) -> Result {
    let (l, r) = (a.ty.clone(), b.ty.clone());
    match Typed::resolved(ops::comparisons("=", a.base(), b.base()), vec![a, b], true)? {
        Ok((s, args)) => {
            let equal = s.run;
            let run = fun(move |bump, v| {
                let same = match (v[0], v[1]) {
                    (V::Null, V::Null) => true,
                    (V::Null, _) | (_, V::Null) => false,
                    _ => matches!(equal(bump, v)?, V::Bool(true)),
                };
                Ok(V::Bool(same != wanted))
            });
            Typed::call(run, false, false, args, Base::Bool, line, column)
        }
        Err(_) => Err(ExprError { message: format!("{l} and {r} cannot be compared"), line, column }),
    }
}

/// `x = any (array)`.
pub(super) fn quantified(op: &str, left: Typed, array: Typed, all: bool, line: u64, column: u64) -> Result {
    let array = match array.base() {
        Base::Unknown => {
            let element = if *left.base() == Base::Unknown { Base::Text } else { left.base().clone() };
            array.cast(&Base::Array(Box::new(element)).into(), Context::Explicit)?
        }
        _ => array,
    };
    let Base::Array(element) = array.base().clone() else {
        return array.error(format!("any and all need an array, not {}", array.ty));
    };
    let nullable = true;
    let item = Typed::new(Node::Operand, (*element).clone(), true).at(line, column);
    let test = binary(op, left, item, line, column)?.boolean("the comparison")?;
    let node = Node::Any { array: Box::new(array.node), test: Box::new(test.node), all };
    Ok(Typed::new(node, Base::Bool, nullable).at(line, column))
}

pub(super) fn array_literal(items: Vec<Typed>, line: u64, column: u64) -> Result {
    if items.is_empty() {
        return Err(ExprError { message: "an empty array needs a type: '{}'::text[]".into(), line, column });
    }
    let (ty, items) = unify(items, "array")?;
    let element = ty.base.clone();
    let run = super::array::builder(element.clone());
    Typed::call(run, false, false, items, Base::Array(Box::new(element)), line, column)
}
