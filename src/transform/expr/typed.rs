//! Typed expressions while they are built: casting, calling, and computing what is constant.

use std::sync::Arc;

use bumpalo::Bump;

use super::inverse::Shape;
use super::node::{Const, Failing, Fun, Node, Scope, V};
use super::resolve::{self, Signature, Unresolved};
use super::types::{Base, Context, Type};
use super::{EvalError, ExprError, Input, casts};
use crate::value::Datum;

/// An expression with its type and its place in the text.
#[derive(Clone)]
pub(super) struct Typed {
    pub node: Node,
    pub ty: Type,
    pub nullable: bool,
    pub inverse: Shape,
    /// Whether the server computes it only for a row though it is constant, because of its session's settings. What
    /// fails in it then fails late, and a NULL of it spares nothing.
    pub late: bool,
    pub line: u64,
    pub column: u64,
}

pub(super) type Result<T = Typed> = std::result::Result<T, ExprError>;

/// No field at all, for what is constant.
struct Nothing;

impl super::Fields for Nothing {
    fn get(&self, _: usize) -> Datum<'_> {
        Datum::Null
    }
}

impl Typed {
    pub fn new(node: Node, base: Base, nullable: bool) -> Typed {
        Typed { node, ty: base.into(), nullable, inverse: Shape::Opaque, late: false, line: 1, column: 1 }
    }

    pub fn constant(value: Const, base: Base) -> Typed {
        let nullable = value == Const::Null;
        Typed { inverse: Shape::Constant, ..Typed::new(Node::Const(value), base, nullable) }
    }

    pub fn column(index: usize, input: &Input) -> Typed {
        Typed {
            node: Node::Column(index),
            ty: Type::of_column(input.kind, &input.type_name),
            nullable: input.nullable,
            inverse: Shape::Column(index),
            late: false,
            line: 1,
            column: 1,
        }
    }

    pub fn at(mut self, line: u64, column: u64) -> Typed {
        (self.line, self.column) = (line, column);
        self
    }

    pub fn error<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(ExprError { message: message.into(), line: self.line, column: self.column })
    }

    pub fn base(&self) -> &Base {
        &self.ty.base
    }

    /// The literal's or constant's text, if it is one that is not NULL.
    pub fn literal(&self) -> Option<&[u8]> {
        match &self.node {
            Node::Const(Const::Str(s)) => Some(s),
            _ => None,
        }
    }
    pub fn is_null(&self) -> bool {
        self.node == Node::null()
    }

    /// Computes a node whose arguments are all constant.
    fn folded(self, foldable: bool) -> Result {
        if !foldable {
            return Ok(self);
        }
        let bump = Bump::new();
        let value = match self.node.eval(&Scope { row: &Nothing, bump: &bump }, V::Null) {
            Ok(v) => Const::own(v),
            Err(EvalError::Failed { message }) => {
                let late = self.late;
                let failing = Failing { message, line: self.line, column: self.column, late };
                return Ok(Typed { node: Node::Fails(Arc::new(failing)), ..self });
            }
            Err(EvalError::Unsent { .. }) => return Ok(self),
        };
        let nullable = value == Const::Null;
        Ok(Typed { node: Node::Const(value), nullable, inverse: Shape::Constant, ..self })
    }

    /// A call whose result is of type `base`.
    pub fn call(run: Fun, strict: bool, nulls: bool, args: Vec<Typed>, base: Base, line: u64, column: u64) -> Result {
        let late = args.iter().any(|a| a.late) || by_settings(&args, &base);
        // Nothing comes of NULL, whatever the other arguments are.
        if strict && args.iter().any(|a| a.is_null() && !a.late) && !args.iter().any(|a| a.node.fails()) {
            return Ok(Typed::constant(Const::Null, base).at(line, column));
        }
        let foldable = args.iter().all(|a| a.node.is_const());
        let nullable = nulls || (strict && args.iter().any(|a| a.nullable));
        let nodes: Box<[Node]> = args.into_iter().map(|a| a.node).collect();
        let node = if strict { Node::Strict(run, nodes) } else { Node::Call(run, nodes) };
        Typed { late, ..Typed::new(node, base, nullable).at(line, column) }.folded(foldable)
    }

    /// One of several operators or functions of one name, by PostgreSQL's rules.
    pub fn resolved(
        candidates: Vec<Signature>,
        args: Vec<Typed>,
        operator: bool,
    ) -> std::result::Result<std::result::Result<(Signature, Vec<Typed>), Unresolved>, ExprError> {
        let given: Vec<&Base> = args.iter().map(Typed::base).collect();
        let signature = match resolve::choose(candidates, &given, operator) {
            Ok(s) => s,
            Err(why) => return Ok(Err(why)),
        };
        let mut fitted = Vec::with_capacity(args.len());
        for (arg, to) in args.into_iter().zip(&signature.args) {
            fitted.push(arg.cast(&to.clone().into(), Context::Implicit)?);
        }
        Ok(Ok((signature, fitted)))
    }

    /// The same value as another type. Fails where PostgreSQL has no such cast in the context, or a constant does not fit.
    pub fn cast(self, to: &Type, context: Context) -> Result {
        if !self.base().can_become(&to.base, context) && !self.carried(to, context) {
            let how = match context {
                Context::Assignment => " without a cast that is written down",
                _ => "",
            };
            return self.error(format!("a value of type {} cannot become {}{how}", self.ty, to.base));
        }
        let (line, column) = (self.line, self.column);
        let from = self.ty.clone();
        let shape = self.inverse.clone();
        // A literal beside a type that is only carried must be written as the server prints it.
        let beside = from.base == Base::Unknown && context == Context::Implicit && matches!(to.base, Base::Other(_));
        let converted = match casts::between(&from.base, &to.base) {
            _ if beside => Typed { ty: to.clone(), ..self },
            casts::Step::Same => Typed { ty: Type { modifier: None, ..to.clone() }, ..self },
            casts::Step::Do(run) => {
                let nulls = from.base == Base::Jsonb;
                let typed = Typed::call(run, true, nulls, vec![self], to.base.clone(), line, column)?;
                if let (Base::Unknown, Node::Fails(why)) = (&from.base, &typed.node) {
                    return typed.error(why.message.clone());
                }
                Typed { ty: Type { modifier: None, ..to.clone() }, ..typed }
            }
            casts::Step::Missing => {
                return self.error(format!("a cast from {from} to {} is not supported", to.base));
            }
        };
        let converted = if from.base == to.base && from.modifier == to.modifier {
            Typed { ty: to.clone(), ..converted }
        } else {
            converted.fitted(to, context)?
        };
        let inverse = if converted.node.is_const() { Shape::Constant } else { shape.through_cast(&from, to) };
        Ok(Typed { inverse, ..converted })
    }

    /// Whether the text of one is taken as the other without a look: types of the user's own, by name.
    fn carried(&self, to: &Type, context: Context) -> bool {
        let own = |b: &Base| matches!(b, Base::Other(name) if !casts::is_built_in(name));
        let text = |b: &Base| b.is_text() || *b == Base::Unknown;
        context >= Context::Assignment && ((own(&to.base) && text(self.base())) || (own(self.base()) && own(&to.base)))
    }

    /// Applies the length, precision or scale of `to`.
    fn fitted(self, to: &Type, context: Context) -> Result {
        let Some(modifier) = to.modifier else { return Ok(self) };
        let explicit = context == Context::Explicit;
        match casts::modifier(&to.base, modifier, explicit) {
            None => Ok(Typed { ty: to.clone(), ..self }),
            Some(run) => {
                let (line, column) = (self.line, self.column);
                let typed = Typed::call(run, true, false, vec![self], to.base.clone(), line, column)?;
                Ok(Typed { ty: to.clone(), ..typed })
            }
        }
    }

    /// The same value as `base`, inside of an expression.
    pub fn implicit(self, base: &Base) -> Result {
        if self.base() == base {
            return Ok(self);
        }
        self.cast(&base.clone().into(), Context::Implicit)
    }

    /// A boolean, or an error that says what needs one.
    pub fn boolean(self, what: &str) -> Result {
        if !matches!(self.base(), Base::Bool | Base::Unknown) {
            return self.error(format!("{what} must be boolean, not {}", self.ty));
        }
        self.implicit(&Base::Bool)
    }
}

impl PartialEq for Node {
    /// Constants and columns are compared; anything computed differs from everything.
    fn eq(&self, other: &Node) -> bool {
        match (self, other) {
            (Node::Column(a), Node::Column(b)) => a == b,
            (Node::Const(a), Node::Const(b)) => a == b,
            _ => false,
        }
    }
}

/// Whether the server's session has a say in what a call gives: its time zone, or how it writes dates.
fn by_settings(args: &[Typed], result: &Base) -> bool {
    let dated = |b: &Base| matches!(b, Base::Date | Base::Time | Base::Timestamp);
    let zoned = |b: &Base| *b == Base::TimestampTz;
    let alone = args.len() == 1;
    let cast = alone && ((dated(args[0].base()) && result.is_text()) || (args[0].base().is_text() && dated(result)));
    // Instants among themselves are the same everywhere.
    let instants =
        args.iter().all(|a| zoned(a.base())) && matches!(result, Base::Bool | Base::TimestampTz | Base::Interval);
    cast || (!instants && (zoned(result) || args.iter().any(|a| zoned(a.base()))))
}

/// Brings branches to one type, and says which type with its modifier if they all have the same.
pub(super) fn unify(branches: Vec<Typed>, what: &str) -> Result<(Type, Vec<Typed>)> {
    let bases: Vec<&Base> = branches.iter().map(Typed::base).collect();
    let base = match resolve::common(&bases) {
        Ok(base) => base,
        Err((a, b)) => {
            let odd = branches.iter().find(|t| *t.base() == b).unwrap_or(&branches[0]);
            return odd.error(format!("{what}: types {a} and {b} do not fit together; cast one of them"));
        }
    };
    // A modifier or a domain's name stays only if every branch has it; undecided literals have none.
    let first = branches[0].ty.clone();
    let ty = if first.base == base && branches.iter().all(|t| t.ty == first) { first } else { base.clone().into() };
    let fitted = branches.into_iter().map(|b| b.implicit(&base)).collect::<Result<Vec<_>>>()?;
    Ok((ty, fitted))
}
