//! Expressions of rules: SQL over one row, compiled once and evaluated as PostgreSQL would, to the byte. Pure.
//!
//! Values come and go in canonical text form (see [`crate::value`]). What cannot be known without a server is fixed:
//! the time zone is UTC, text sorts by bytes (collation "C"), letters change case by Unicode's simple mapping.
//!
//! | file | responsibility |
//! |---|---|
//! | `parse.rs`, `combine.rs`, `typed.rs` | from SQL text to typed nodes |
//! | `types.rs`, `resolve.rs` | types, casts that happen by themselves, choosing among operators |
//! | `node.rs` | evaluation |
//! | `ops.rs`, `functions.rs`, `strings.rs` | operators and functions |
//! | `numeric.rs`, `float.rs`, `casts.rs` | numbers, and from one type to another |
//! | `datetime.rs`, `moment.rs`, `interval.rs`, `zone.rs`, `fields.rs` | dates, times, intervals, zones |
//! | `json.rs`, `jsonb.rs`, `array.rs` | JSON and array texts |
//! | `inverse.rs` | how a reverse stream gets the inputs back |

mod array;
mod casts;
mod combine;
mod datetime;
mod fields;
pub(crate) mod float;
mod functions;
mod interval;
mod inverse;
mod json;
mod jsonb;
mod moment;
mod node;
mod numeric;
mod ops;
mod parse;
mod resolve;
mod strings;
#[cfg(test)]
mod tests;
mod typed;
mod types;
mod zone;

use std::fmt;

use bumpalo::Bump;

use crate::schema::Kind;
use crate::value::{Datum, Row};
use node::{Const, Node, Scope, V};
use types::{Base, Context, Type};

/// What a column of the type of this name holds, as far as the name tells.
pub fn kind_of_name(name: &str) -> Kind {
    Type::of_cast(name).base.kind()
}

/// What stands in parentheses behind the name of a type that has such: a length, a precision and scale, digits of a second.
pub fn modifier_of_name(name: &str) -> Option<(i32, i32)> {
    Type::of_cast(name).modifier
}

/// A column that expressions may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// `id`, or a path as it is written: `item`, `item.field`, `parent.id`, `position`.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
    /// Its full type, as in [`crate::schema::Column::type_name`].
    pub type_name: String,
    /// Whether it can be NULL.
    pub nullable: bool,
}

/// The fields that an expression reads. Field n is input n of [`Expr::compile`].
pub trait Fields {
    /// The field at `index`.
    fn get(&self, index: usize) -> Datum<'_>;
}

impl Fields for Row {
    #[inline]
    fn get(&self, index: usize) -> Datum<'_> {
        Row::get(self, index)
    }
}

/// One field alone, for expressions over one input.
impl Fields for Datum<'_> {
    fn get(&self, index: usize) -> Datum<'_> {
        if index == 0 { *self } else { Datum::Null }
    }
}

/// Why an expression is not one, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExprError {
    /// What is wrong, and what would be right.
    pub message: String,
    /// Line in the expression, from 1.
    pub line: u64,
    /// Column in that line, in characters from 1.
    pub column: u64,
}

impl fmt::Display for ExprError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (line {}, column {})", self.message, self.line, self.column)
    }
}

impl std::error::Error for ExprError {}

/// Why an expression has no value for a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EvalError {
    /// It needs a field that the source did not send.
    Unsent {
        /// Which one.
        input: usize,
    },
    /// PostgreSQL would refuse as well: a division by zero, a text that is no number.
    Failed {
        /// Why, without any value of the row.
        message: String,
    },
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EvalError::Unsent { input } => write!(f, "field {input} was not sent"),
            EvalError::Failed { message } => f.write_str(message),
        }
    }
}

impl std::error::Error for EvalError {}

/// How a reverse stream gets an expression's input back from its result.
#[derive(Clone, Debug)]
pub enum Inverse {
    /// Every result came from exactly one input value.
    Exact {
        /// The input that comes back.
        input: usize,
        /// Computes it, over one input: the result.
        expr: Box<Expr>,
    },
    /// Some results could have come from several input values: why, for people.
    Lossy(String),
    /// It does not come back: why, for people.
    None(String),
}

/// Room for what an evaluation makes. Kept from row to row, so that evaluating allocates nothing once it is warm.
#[derive(Debug, Default)]
pub struct Scratch {
    bump: Bump,
}

/// A compiled expression.
#[derive(Clone)]
pub struct Expr {
    node: Node,
    ty: Type,
    nullable: bool,
    inputs: Vec<usize>,
    type_name: String,
    /// The text of a constant.
    constant: Option<Option<Box<[u8]>>>,
    inverse: inverse::Shape,
    sql: String,
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expr({:?}: {})", self.sql, self.type_name)
    }
}

impl Expr {
    /// Parses and types one expression. Unquoted names are folded to lower case.
    ///
    /// # Errors
    /// What is not understood, with its place: syntax, unknown columns and functions, types that do not fit, and
    /// constant parts that fail for every row.
    pub fn compile(sql: &str, inputs: &[Input]) -> Result<Expr, ExprError> {
        let typed = parse::compile(sql, inputs)?;
        Ok(Expr::finish(typed, sql))
    }

    fn finish(typed: typed::Typed, sql: &str) -> Expr {
        let mut inputs = Vec::new();
        typed.node.walk(&mut |n| {
            if let Node::Column(i) = n {
                inputs.push(*i);
            }
        });
        inputs.sort_unstable();
        inputs.dedup();
        let constant = match &typed.node {
            Node::Const(Const::Null) => Some(None),
            Node::Const(c) => {
                let bump = Bump::new();
                casts::render(&bump, c.value(), &typed.ty.base).map(|t| t.map(Into::into)).ok()
            }
            _ => None,
        };
        Expr {
            // A literal that nothing decided is text, until it is assigned to a column.
            type_name: match typed.ty.base {
                Base::Unknown => Base::Text.to_string(),
                _ => typed.ty.to_string(),
            },
            nullable: typed.nullable,
            inverse: typed.inverse,
            node: typed.node,
            ty: typed.ty,
            inputs,
            constant,
            sql: sql.to_owned(),
        }
    }

    /// What the result holds.
    pub fn kind(&self) -> Kind {
        self.ty.base.kind()
    }
    /// The result's type as PostgreSQL prints it.
    pub fn type_name(&self) -> &str {
        &self.type_name
    }
    /// Whether the result can be NULL, as far as that can be told.
    pub fn nullable(&self) -> bool {
        self.nullable
    }
    /// The expression as it was written.
    pub fn sql(&self) -> &str {
        &self.sql
    }
    /// The inputs that it reads, ascending, each once.
    pub fn inputs(&self) -> &[usize] {
        &self.inputs
    }
    /// The input, if the expression is nothing but that.
    pub fn as_column(&self) -> Option<usize> {
        match self.node {
            Node::Column(i) => Some(i),
            _ => None,
        }
    }
    /// The value, if it is the same for every row; the inner `None` is NULL.
    pub fn as_constant(&self) -> Option<Option<&[u8]>> {
        self.constant.as_ref().map(Option::as_deref)
    }

    /// The same expression as a column of this type stores it.
    ///
    /// # Errors
    /// When PostgreSQL has no assignment cast, or a constant does not fit. Types that are not built in (an enum, a
    /// domain) take any text; the server that has them looks at it.
    pub fn assign_to(self, kind: Kind, type_name: &str) -> Result<Expr, ExprError> {
        self.cast(&Type::of_column(kind, type_name), Context::Assignment)
    }

    /// The same truth value as 1 or 0.
    ///
    /// # Errors
    /// When it is no truth value.
    pub fn as_number(self) -> Result<Expr, ExprError> {
        self.cast(&Base::Int4.into(), Context::Explicit)
    }

    fn cast(self, to: &Type, context: Context) -> Result<Expr, ExprError> {
        let typed = typed::Typed {
            node: self.node,
            ty: self.ty,
            nullable: self.nullable,
            inverse: self.inverse,
            late: false,
            line: 1,
            column: 1,
        };
        Ok(Expr::finish(typed.cast(to, context)?, &self.sql))
    }

    /// The result for one row. A bare column's result may be [`Datum::Unsent`].
    ///
    /// # Errors
    /// See [`EvalError`].
    pub fn eval<'a>(&'a self, row: &'a dyn Fields, scratch: &'a mut Scratch) -> Result<Datum<'a>, EvalError> {
        if let Node::Column(i) = self.node {
            return Ok(row.get(i));
        }
        if let Some(constant) = &self.constant {
            return Ok(constant.as_deref().map_or(Datum::Null, Datum::Text));
        }
        scratch.bump.reset();
        let bump = &scratch.bump;
        let value = self.node.eval(&Scope { row, bump }, V::Null)?;
        Ok(casts::render(bump, value, &self.ty.base)?.map_or(Datum::Null, Datum::Text))
    }

    /// The result as a condition: NULL is false.
    ///
    /// # Errors
    /// See [`EvalError`]; and when the expression is not boolean.
    pub fn test(&self, row: &dyn Fields, scratch: &mut Scratch) -> Result<bool, EvalError> {
        match self.eval(row, scratch)? {
            Datum::Null => Ok(false),
            Datum::Text(t) if self.kind() == Kind::Bool => Ok(t == b"t"),
            Datum::Unsent => Err(EvalError::Unsent { input: self.inputs.first().copied().unwrap_or(0) }),
            Datum::Text(_) => node::fail("the condition is not boolean"),
        }
    }

    /// How a reverse stream gets input columns back out of this expression's result, or why not.
    pub fn inverse(&self) -> Inverse {
        inverse::of(self)
    }
}
