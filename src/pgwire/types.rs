//! What a PostgreSQL type holds, and whether its binary form means the same on another server. Pure.

use std::collections::HashMap;

use postgres_types::{Kind as PgKind, Type};

use crate::schema::Kind;

/// What the catalog says about a type that is not built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserType {
    /// An enum: its binary form is the label's text.
    Enum,
    /// A domain over this type.
    Domain(u32),
    /// Everything else: composites, arrays, ranges and base types of users and extensions.
    Other,
}

/// The types of a database that are not built in, by object id; those absent are [`UserType::Other`].
pub type UserTypes = HashMap<u32, UserType>;

/// Built-in types whose binary form holds no object id of the server it came from (their `*send` functions in
/// `src/backend/utils/adt`). Left out on purpose: the `reg*` types, `oid`-like types that name objects, `refcursor`,
/// `aclitem`, `xid` and `cid`, and composites; and `tsquery`, of which `tsqueryrecv` refuses the empty one.
const PORTABLE: &[&str] = &[
    "bool",
    "int2",
    "int4",
    "int8",
    "float4",
    "float8",
    "numeric",
    "money",
    "text",
    "varchar",
    "bpchar",
    "char",
    "name",
    "bytea",
    "uuid",
    "date",
    "time",
    "timetz",
    "timestamp",
    "timestamptz",
    "interval",
    "json",
    "jsonb",
    "jsonpath",
    "inet",
    "cidr",
    "macaddr",
    "macaddr8",
    "bit",
    "varbit",
    "point",
    "line",
    "lseg",
    "box",
    "path",
    "polygon",
    "circle",
    "tsvector",
    "int4range",
    "int8range",
    "numrange",
    "tsrange",
    "tstzrange",
    "daterange",
    "int4multirange",
    "int8multirange",
    "nummultirange",
    "tsmultirange",
    "tstzmultirange",
    "datemultirange",
    "txid_snapshot",
    "pg_snapshot",
    "pg_lsn",
    "xml",
];

/// Domains over domains deeper than this do not exist outside of mischief; it only bounds the loop.
const DEEPEST_DOMAIN: usize = 32;

/// The type under all domains.
fn base_of(mut oid: u32, user: &UserTypes) -> u32 {
    for _ in 0..DEEPEST_DOMAIN {
        match user.get(&oid) {
            Some(UserType::Domain(base)) => oid = *base,
            _ => break,
        }
    }
    oid
}

/// What a column of the type holds. A domain holds what its base type holds, an enum is text.
pub fn kind(oid: u32, user: &UserTypes) -> Kind {
    let oid = base_of(oid, user);
    if user.get(&oid) == Some(&UserType::Enum) {
        return Kind::Text;
    }
    match Type::from_oid(oid) {
        Some(Type::BOOL) => Kind::Bool,
        Some(Type::INT2) => Kind::Int2,
        Some(Type::INT4) => Kind::Int4,
        Some(Type::INT8) => Kind::Int8,
        Some(Type::FLOAT4) => Kind::Float4,
        Some(Type::FLOAT8) => Kind::Float8,
        Some(Type::NUMERIC) => Kind::Numeric,
        Some(Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::CHAR) => Kind::Text,
        Some(Type::BYTEA) => Kind::Bytes,
        Some(Type::UUID) => Kind::Uuid,
        Some(Type::DATE) => Kind::Date,
        Some(Type::TIME) => Kind::Time,
        Some(Type::TIMESTAMP) => Kind::Timestamp,
        Some(Type::TIMESTAMPTZ) => Kind::TimestampTz,
        Some(Type::JSON) => Kind::Json,
        Some(Type::JSONB) => Kind::Jsonb,
        _ => Kind::Other,
    }
}

/// Whether the type's binary form means the same on every server: built-in types without object ids inside, arrays of
/// exactly those (an array's header names its element's type id), enums, and domains over any of these.
pub fn portable_binary(oid: u32, user: &UserTypes) -> bool {
    let oid = base_of(oid, user);
    if user.get(&oid) == Some(&UserType::Enum) {
        return true;
    }
    let Some(builtin) = Type::from_oid(oid) else { return false };
    match builtin.kind() {
        // int2vector counts as an array too, but `int2vectorrecv` refuses the empty one that `int2vectorsend` sends.
        PgKind::Array(element) => builtin.name().starts_with('_') && PORTABLE.contains(&element.name()),
        _ => PORTABLE.contains(&builtin.name()),
    }
}

/// Built-in types whose values name objects of one server by number; they load elsewhere only where such an object
/// exists, under the same name, so a preflight mentions them.
pub fn names_objects(oid: u32, user: &UserTypes) -> bool {
    let name = |t: &Type| {
        matches!(
            t.name(),
            "oid"
                | "regproc"
                | "regprocedure"
                | "regoper"
                | "regoperator"
                | "regclass"
                | "regtype"
                | "regrole"
                | "regnamespace"
                | "regconfig"
                | "regdictionary"
                | "regcollation"
                | "aclitem"
        )
    };
    match Type::from_oid(base_of(oid, user)) {
        Some(t) => match t.kind() {
            PgKind::Array(element) => name(element),
            _ => name(&t),
        },
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_types_when_asked_then_kind_and_portability_are_right() {
        let user = UserTypes::from([
            (20000, UserType::Enum),
            (20001, UserType::Domain(1700)),
            (20002, UserType::Domain(20001)),
            (20003, UserType::Other),
            (20004, UserType::Domain(20004)),
            (20005, UserType::Domain(20000)),
        ]);
        assert_eq!(kind(23, &user), Kind::Int4);
        assert_eq!(kind(20000, &user), Kind::Text);
        assert_eq!(kind(20002, &user), Kind::Numeric);
        assert_eq!(kind(20003, &user), Kind::Other);
        assert_eq!(kind(20004, &user), Kind::Other);
        assert_eq!(kind(20005, &user), Kind::Text);
        // int4, int4[], numeric under two domains, an enum, int4range, tsvector, pg_lsn
        for oid in [23, 1007, 20002, 20000, 3904, 3614, 3220, 18, 142] {
            assert!(portable_binary(oid, &user), "{oid}");
        }
        // regclass, regclass[], oid, int2vector, a composite, an unknown array, record
        for oid in [2205, 2210, 26, 22, 20003, 30000, 2249] {
            assert!(!portable_binary(oid, &user), "{oid}");
        }
        assert!(names_objects(2205, &user) && names_objects(2210, &user) && !names_objects(23, &user));
    }

    #[test]
    fn given_the_list_when_compared_with_the_library_then_every_name_exists() {
        let known: Vec<String> = (1..10_000).filter_map(Type::from_oid).map(|t| t.name().to_owned()).collect();
        for name in PORTABLE {
            assert!(known.iter().any(|k| k == name), "{name}");
        }
    }
}
