//! How a reverse stream gets inputs back out of an expression's result, and what is lost where it cannot.

use super::node::{Const, Node};
use super::typed::Typed;
use super::types::{Base, Type};
use super::{Expr, Input, Inverse, casts};

/// What an expression is, as far as turning it round needs it.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// Computed.
    Opaque,
    Constant,
    Column(usize),
    /// A column through casts; the types from the column's own to the result's.
    Casts(usize, Vec<Type>),
    /// A cast that loses something: which.
    Narrowed(Type, Type),
    /// A hash of values: its name, and whether it is of one column as it is.
    OneWay(&'static str, bool),
    /// A list of values and what becomes of each.
    Map(Box<Map>),
}

#[derive(Clone, Debug)]
pub(super) struct Map {
    input: usize,
    from: Type,
    /// Literals as SQL writes them: value and result.
    pairs: Vec<(String, String)>,
    other: Other,
}

/// What becomes of values that are not listed.
#[derive(Clone, Debug, PartialEq)]
enum Other {
    Null,
    Itself,
    Constant(String),
}

impl Shape {
    /// Whether it is a column, as it is or through casts that lose nothing.
    pub fn is_column(&self) -> bool {
        matches!(self, Shape::Column(_) | Shape::Casts(..))
    }

    /// After a cast.
    pub fn through_cast(self, from: &Type, to: &Type) -> Shape {
        let mut path = match self {
            Shape::Column(i) => (i, vec![from.clone()]),
            Shape::Casts(i, path) => (i, path),
            Shape::OneWay(name, apart) => return Shape::OneWay(name, apart && lossless(from, to)),
            other => return other,
        };
        if !lossless(from, to) {
            return Shape::Narrowed(from.clone(), to.clone());
        }
        path.1.push(to.clone());
        Shape::Casts(path.0, path.1)
    }

    /// Of `case of when key then result …`; `results` begins with the one for other values.
    pub fn map(of: &Typed, keys: &[Typed], results: &[Typed]) -> Shape {
        let Node::Column(input) = of.node else { return Shape::Opaque };
        let mut pairs = Vec::new();
        for (key, result) in keys.iter().zip(&results[1..]) {
            match (sql(key, of.base()), sql(result, result.base())) {
                (Some(k), Some(r)) => pairs.push((k, r)),
                _ => return Shape::Opaque,
            }
        }
        let other = match &results[0].node {
            Node::Const(Const::Null) => Other::Null,
            Node::Const(_) => match sql(&results[0], results[0].base()) {
                Some(text) => Other::Constant(text),
                None => return Shape::Opaque,
            },
            Node::Column(i) if *i == input => Other::Itself,
            _ => return Shape::Opaque,
        };
        Shape::Map(Box::new(Map { input, from: of.ty.clone(), pairs, other }))
    }
}

/// A constant as a literal of the type.
fn sql(constant: &Typed, base: &Base) -> Option<String> {
    let Node::Const(c) = &constant.node else { return None };
    let bump = bumpalo::Bump::new();
    let text = casts::render(&bump, c.value(), constant.base()).ok()??;
    let text = std::str::from_utf8(text).ok()?;
    let quoted = format!("'{}'", text.replace('\'', "''"));
    Some(if base.is_text() { quoted } else { format!("{quoted}::{base}") })
}

/// Whether every value comes back from the other type's text.
fn lossless(from: &Type, to: &Type) -> bool {
    use Base::*;
    if from.base == to.base {
        return match (from.modifier, to.modifier) {
            (_, None) => true,
            (None, Some(_)) => false,
            // Digits before the point and after it.
            (Some((p, s)), Some((to_p, to_s))) if from.base == Numeric => to_s >= s && to_p - to_s >= p - s,
            // Characters, or digits of a second.
            (Some((n, _)), Some((to_n, _))) => to_n >= n,
        };
    }
    match (&from.base, &to.base) {
        (Int2, Int4 | Int8 | Numeric | Float4 | Float8)
        | (Int4, Int8 | Numeric | Float8)
        | (Int8, Numeric)
        | (Float4, Float8)
        | (Date, Timestamp | TimestampTz)
        | (Timestamp, TimestampTz)
        | (TimestampTz, Timestamp)
        | (Jsonb, Json) => to.modifier.is_none(),
        (Bpchar, Text | Varchar) => from.modifier.is_some() && to.modifier.is_none(),
        (_, Text) => true,
        (_, Varchar) => to.modifier.is_none(),
        _ => false,
    }
}

pub(super) fn of(expr: &Expr) -> Inverse {
    match &expr.inverse {
        Shape::Column(input) => back(expr, *input, "result", &expr.ty)
            .unwrap_or_else(|| Inverse::None("the column's type cannot be read back".into())),
        Shape::Casts(input, path) => {
            let mut sql = String::from("result");
            for ty in path[..path.len() - 1].iter().rev() {
                sql = format!("({sql})::{}", named(ty));
            }
            back(expr, *input, &sql, &path[0])
                .unwrap_or_else(|| Inverse::None(format!("{} does not come back out of {}", path[0], expr.type_name)))
        }
        Shape::Narrowed(from, to) => {
            Inverse::Lossy(format!("the cast from {from} to {to} does not keep every value apart"))
        }
        Shape::Constant => Inverse::None("it is a constant".into()),
        Shape::OneWay(name, _) => Inverse::None(format!("{name} is one-way")),
        Shape::Map(map) => of_map(expr, map),
        Shape::Opaque => Inverse::None(match expr.inputs.len() {
            0 | 1 => "it is computed, and no rule is known that turns it round".into(),
            n => format!("it is computed from {n} columns"),
        }),
    }
}

/// The name to cast to; a type of the user's own is reached through its text.
fn named(ty: &Type) -> String {
    Type { alias: None, ..ty.clone() }.to_string()
}

fn back(expr: &Expr, input: usize, sql: &str, to: &Type) -> Option<Inverse> {
    let result =
        Input { name: "result".into(), kind: expr.kind(), type_name: expr.type_name.clone(), nullable: expr.nullable };
    let inverse = Expr::compile(sql, &[result]).ok()?.assign_to(to.base.kind(), &to.to_string()).ok()?;
    Some(Inverse::Exact { input, expr: Box::new(inverse) })
}

fn of_map(expr: &Expr, map: &Map) -> Inverse {
    // The first of equal keys decides.
    let mut pairs: Vec<&(String, String)> = Vec::new();
    for pair in &map.pairs {
        if !pairs.iter().any(|p| p.0 == pair.0) {
            pairs.push(pair);
        }
    }
    for (at, (key, result)) in pairs.iter().enumerate() {
        if let Some((other, _)) = pairs[..at].iter().find(|p| p.1 == *result) {
            return Inverse::Lossy(format!("{other} and {key} both become {result}"));
        }
    }
    match &map.other {
        Other::Null => return Inverse::Lossy("every value that is not listed becomes NULL".into()),
        Other::Constant(result) => return Inverse::Lossy(format!("every value that is not listed becomes {result}")),
        Other::Itself => {
            let stays = pairs.iter().find(|p| !pairs.iter().any(|q| q.0 == p.1));
            if let Some((key, result)) = stays {
                return Inverse::Lossy(format!("{key} becomes {result}, and {result} stays what it is"));
            }
        }
    }
    let arms: String = pairs.iter().map(|(key, result)| format!(" when {result} then {key}")).collect();
    let rest = if map.other == Other::Itself { " else result" } else { "" };
    let sql = format!("(case result{arms}{rest} end)::{}", named(&map.from));
    back(expr, map.input, &sql, &map.from)
        .unwrap_or_else(|| Inverse::None("the map's values cannot be compared".into()))
}

impl Expr {
    /// Whether different values of its one input give different results: it can be turned round, or is a hash of the
    /// input alone, so that a key made by it finds the same row as the key that it was made of.
    pub fn keeps_apart(&self) -> bool {
        match &self.inverse {
            Shape::OneWay(_, apart) => *apart,
            Shape::Column(_) | Shape::Casts(..) => true,
            _ => matches!(self.inverse(), Inverse::Exact { .. }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Kind;

    #[test]
    fn given_types_with_modifiers_when_they_widen_then_every_value_comes_back() {
        let lossless = |kind, from: &str, to: &str| lossless(&Type::of_column(kind, from), &Type::of_column(kind, to));
        for (kind, narrow, wide) in [
            (Kind::Text, "character varying(60)", "character varying(100)"),
            (Kind::Text, "character varying(60)", "character varying"),
            (Kind::Text, "character(3)", "character(5)"),
            (Kind::Numeric, "numeric(10,2)", "numeric(12,4)"),
            (Kind::Numeric, "numeric(10,2)", "numeric"),
            (Kind::Timestamp, "timestamp(0) without time zone", "timestamp(3) without time zone"),
            (Kind::Time, "time(2) without time zone", "time without time zone"),
        ] {
            assert!(lossless(kind, narrow, wide), "{narrow} to {wide}");
            assert!(!lossless(kind, wide, narrow), "{wide} to {narrow}");
            assert!(lossless(kind, narrow, narrow));
        }
        assert!(!lossless(Kind::Numeric, "numeric(10,2)", "numeric(12,5)"));
    }
}
