//! The types of expressions: what a type's name means, and which casts happen by themselves.

use std::fmt;

use crate::schema::Kind;

/// A type as expressions see it. Text types differ only in blank padding and length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// A string literal, or NULL, whose type the context has still to decide.
    Unknown,
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    Text,
    Varchar,
    /// Blank-padded: trailing blanks mean nothing.
    Bpchar,
    Bytes,
    Uuid,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Interval,
    Json,
    Jsonb,
    Array(Box<Base>),
    /// Carried as text: the name as the catalog prints it.
    Other(String),
}

/// A type with its modifier: a length, a precision and scale, or digits of a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Type {
    pub base: Base,
    pub modifier: Option<(i32, i32)>,
    /// The column's own name for the type, where it says more than the base does: a domain, an enum.
    pub alias: Option<String>,
}

/// What PostgreSQL calls a type category, as far as choosing among operators needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Category {
    Unknown,
    Bool,
    Number,
    String,
    DateTime,
    Span,
    Array,
    Other,
}

/// When a cast may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Context {
    /// Without being asked for, inside of an expression.
    Implicit,
    /// On the way into a column.
    Assignment,
    /// Written down.
    Explicit,
}

impl Base {
    pub fn kind(&self) -> Kind {
        match self {
            Base::Bool => Kind::Bool,
            Base::Int2 => Kind::Int2,
            Base::Int4 => Kind::Int4,
            Base::Int8 => Kind::Int8,
            Base::Float4 => Kind::Float4,
            Base::Float8 => Kind::Float8,
            Base::Numeric => Kind::Numeric,
            Base::Unknown | Base::Text | Base::Varchar | Base::Bpchar => Kind::Text,
            Base::Bytes => Kind::Bytes,
            Base::Uuid => Kind::Uuid,
            Base::Date => Kind::Date,
            Base::Time => Kind::Time,
            Base::Timestamp => Kind::Timestamp,
            Base::TimestampTz => Kind::TimestampTz,
            Base::Json => Kind::Json,
            Base::Jsonb => Kind::Jsonb,
            Base::Interval | Base::Array(_) | Base::Other(_) => Kind::Other,
        }
    }

    pub fn category(&self) -> Category {
        match self {
            Base::Unknown => Category::Unknown,
            Base::Bool => Category::Bool,
            Base::Int2 | Base::Int4 | Base::Int8 | Base::Float4 | Base::Float8 | Base::Numeric => Category::Number,
            Base::Text | Base::Varchar | Base::Bpchar => Category::String,
            Base::Date | Base::Time | Base::Timestamp | Base::TimestampTz => Category::DateTime,
            Base::Interval => Category::Span,
            Base::Array(_) => Category::Array,
            Base::Bytes | Base::Uuid | Base::Json | Base::Jsonb | Base::Other(_) => Category::Other,
        }
    }

    /// Whether its category prefers it (`typispreferred`).
    pub fn preferred(&self) -> bool {
        matches!(self, Base::Bool | Base::Float8 | Base::Text | Base::TimestampTz | Base::Interval)
    }

    pub fn is_text(&self) -> bool {
        matches!(self, Base::Text | Base::Varchar | Base::Bpchar)
    }

    /// The base type that a name stands for, modifier cut off.
    fn named(name: &str) -> Base {
        if let Some(element) = name.strip_suffix("[]") {
            return Base::Array(Box::new(Base::named(element)));
        }
        match name.strip_prefix("pg_catalog.").unwrap_or(name) {
            "boolean" | "bool" => Base::Bool,
            "smallint" | "int2" => Base::Int2,
            "integer" | "int" | "int4" => Base::Int4,
            "bigint" | "int8" => Base::Int8,
            "real" | "float4" => Base::Float4,
            "double precision" | "float8" | "float" => Base::Float8,
            "numeric" | "decimal" | "dec" => Base::Numeric,
            "text" => Base::Text,
            "character varying" | "varchar" => Base::Varchar,
            "character" | "char" | "bpchar" => Base::Bpchar,
            "bytea" => Base::Bytes,
            "uuid" => Base::Uuid,
            "date" => Base::Date,
            "time without time zone" | "time" => Base::Time,
            "timestamp without time zone" | "timestamp" => Base::Timestamp,
            "timestamp with time zone" | "timestamptz" => Base::TimestampTz,
            "interval" => Base::Interval,
            "json" => Base::Json,
            "jsonb" => Base::Jsonb,
            other => Base::Other(other.to_owned()),
        }
    }

    /// Whether a value of the type can become one of `to` in that context, by PostgreSQL's `pg_cast` and its rule for
    /// casts through text.
    pub fn can_become(&self, to: &Base, context: Context) -> bool {
        use Base::*;
        if self == to || *self == Unknown {
            return true;
        }
        let least = match (self, to) {
            (Int2, Int4 | Int8 | Float4 | Float8 | Numeric)
            | (Int4, Int8 | Float4 | Float8 | Numeric)
            | (Int8, Float4 | Float8 | Numeric)
            | (Numeric, Float4 | Float8)
            | (Float4, Float8)
            | (Text | Varchar | Bpchar, Text | Varchar | Bpchar)
            | (Date, Timestamp | TimestampTz)
            | (Timestamp, TimestampTz)
            | (Time, Interval) => Context::Implicit,
            (Int4 | Int8, Int2)
            | (Int8, Int4)
            | (Numeric | Float4 | Float8, Int2 | Int4 | Int8)
            | (Float4 | Float8, Numeric)
            | (Float8, Float4)
            | (Bool, Text | Varchar | Bpchar)
            | (Timestamp, Date | Time)
            | (TimestampTz, Date | Time | Timestamp)
            | (Interval, Time)
            | (Json, Jsonb)
            | (Jsonb, Json) => Context::Assignment,
            (Int4, Bool) | (Bool, Int4) | (Jsonb, Bool | Numeric | Int2 | Int4 | Int8 | Float4 | Float8) => {
                Context::Explicit
            }
            // Names of one type may be written in two ways, and an enum's labels are text.
            (Other(_), Text | Varchar | Bpchar) => Context::Assignment,
            (Array(from), Array(to)) => return from.can_become(to, context),
            (_, Text | Varchar | Bpchar) => Context::Assignment,
            (Text | Varchar | Bpchar, _) => Context::Explicit,
            _ => return false,
        };
        least <= context
    }
}

impl From<Base> for Type {
    fn from(base: Base) -> Type {
        Type { base, modifier: None, alias: None }
    }
}

impl Type {
    /// The type of a column: what it holds decides, the name says the rest.
    pub fn of_column(kind: Kind, type_name: &str) -> Type {
        let (name, modifier) = split_modifier(type_name);
        let base = Base::named(&name);
        if base.kind() == kind {
            return match base {
                Base::Other(_) => Type { base, modifier: None, alias: Some(type_name.to_owned()) },
                base => Type { modifier: stored_modifier(&base, modifier), base, alias: None },
            };
        }
        // A domain or an enum: it behaves as what it holds.
        let base = match kind {
            Kind::Bool => Base::Bool,
            Kind::Int2 => Base::Int2,
            Kind::Int4 => Base::Int4,
            Kind::Int8 => Base::Int8,
            Kind::Float4 => Base::Float4,
            Kind::Float8 => Base::Float8,
            Kind::Numeric => Base::Numeric,
            Kind::Text => Base::Text,
            Kind::Bytes => Base::Bytes,
            Kind::Uuid => Base::Uuid,
            Kind::Date => Base::Date,
            Kind::Time => Base::Time,
            Kind::Timestamp => Base::Timestamp,
            Kind::TimestampTz => Base::TimestampTz,
            Kind::Json => Base::Json,
            Kind::Jsonb => Base::Jsonb,
            Kind::Other => Base::Other(name),
        };
        Type { base, modifier: None, alias: Some(type_name.to_owned()) }
    }

    /// The type that a cast names, for example `varchar(20)` or `timestamptz`.
    pub fn of_cast(name: &str) -> Type {
        let lower = if name.contains('"') { name.to_owned() } else { name.to_lowercase() };
        let (name, modifier) = split_modifier(&lower);
        let base = match (name.as_str(), modifier) {
            // `char` without a length is one character, `float(n)` has n bits.
            ("char" | "character", None) => {
                return Type { base: Base::Bpchar, modifier: Some((1, 0)), alias: None };
            }
            ("float", Some((bits, _))) if bits <= 24 => return Base::Float4.into(),
            ("float", Some(_)) => return Base::Float8.into(),
            ("string", _) => Base::Other(name),
            (name, _) => Base::named(name),
        };
        Type { modifier: stored_modifier(&base, modifier), base, alias: None }
    }
}

/// Modifiers that change a value; those of other types are dropped.
fn stored_modifier(base: &Base, modifier: Option<(i32, i32)>) -> Option<(i32, i32)> {
    match base {
        Base::Numeric | Base::Varchar | Base::Bpchar | Base::Time | Base::Timestamp | Base::TimestampTz => modifier,
        _ => None,
    }
}

/// `timestamp(3) with time zone` is `timestamp with time zone` with 3; `numeric(10,2)` has two.
fn split_modifier(name: &str) -> (String, Option<(i32, i32)>) {
    let Some((head, rest)) = name.split_once('(') else { return (name.trim().to_owned(), None) };
    let Some((inside, tail)) = rest.split_once(')') else { return (name.trim().to_owned(), None) };
    let mut numbers = inside.split(',').map(|n| n.trim().parse::<i32>());
    let modifier = match (numbers.next(), numbers.next()) {
        (Some(Ok(a)), None) => Some((a, 0)),
        (Some(Ok(a)), Some(Ok(b))) => Some((a, b)),
        _ => None,
    };
    (format!("{}{}", head.trim(), if tail.is_empty() { String::new() } else { format!(" {}", tail.trim()) }), modifier)
}

impl fmt::Display for Base {
    /// As the catalog prints it (`format_type`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Base::Unknown => "unknown",
            Base::Bool => "boolean",
            Base::Int2 => "smallint",
            Base::Int4 => "integer",
            Base::Int8 => "bigint",
            Base::Float4 => "real",
            Base::Float8 => "double precision",
            Base::Numeric => "numeric",
            Base::Text => "text",
            Base::Varchar => "character varying",
            Base::Bpchar => "character",
            Base::Bytes => "bytea",
            Base::Uuid => "uuid",
            Base::Date => "date",
            Base::Time => "time without time zone",
            Base::Timestamp => "timestamp without time zone",
            Base::TimestampTz => "timestamp with time zone",
            Base::Interval => "interval",
            Base::Json => "json",
            Base::Jsonb => "jsonb",
            Base::Array(element) => return write!(f, "{element}[]"),
            Base::Other(name) => name,
        })
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(alias) = &self.alias {
            return f.write_str(alias);
        }
        match (&self.base, self.modifier) {
            (Base::Numeric, Some((p, s))) => write!(f, "numeric({p},{s})"),
            (Base::Varchar, Some((n, _))) => write!(f, "character varying({n})"),
            (Base::Bpchar, Some((n, _))) => write!(f, "character({n})"),
            (Base::Bpchar, None) => f.write_str("bpchar"),
            (Base::Time, Some((n, _))) => write!(f, "time({n}) without time zone"),
            (Base::Timestamp, Some((n, _))) => write!(f, "timestamp({n}) without time zone"),
            (Base::TimestampTz, Some((n, _))) => write!(f, "timestamp({n}) with time zone"),
            (base, _) => write!(f, "{base}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_type_names_when_read_and_printed_then_they_are_the_catalogs() {
        for (written, printed) in [
            ("varchar(20)", "character varying(20)"),
            ("numeric(10, 2)", "numeric(10,2)"),
            ("timestamp(3) with time zone", "timestamp(3) with time zone"),
            ("TIMESTAMPTZ", "timestamp with time zone"),
            ("int[]", "integer[]"),
            ("char", "character(1)"),
        ] {
            assert_eq!(Type::of_cast(written).to_string(), printed);
        }
    }

    #[test]
    fn given_a_domain_column_when_typed_then_it_behaves_as_what_it_holds_and_keeps_its_name() {
        let t = Type::of_column(Kind::Int4, "public.positive");
        assert_eq!((&t.base, t.to_string().as_str()), (&Base::Int4, "public.positive"));
    }
}
