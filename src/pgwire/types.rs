//! What a PostgreSQL type holds, in the words of decoders and in those of other engines, and whether its binary form means
//! the same on another server. Pure.

use std::collections::HashMap;

use postgres_types::{Kind as PgKind, Type};

use crate::definition::DataType;
use crate::schema::{Kind, TableName};

/// What the catalog says about a type that is not built in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserType {
    /// An enum: its binary form is the label's text.
    Enum {
        /// Its name.
        name: Option<TableName>,
        /// In their order; empty where nobody asked.
        labels: Vec<String>,
    },
    /// A domain.
    Domain {
        /// The type that it is over.
        base: u32,
        /// That type's modifier, -1 without.
        modifier: i32,
    },
    /// An array of this enum, domain or text.
    Array(u32),
    /// Text in all but name (`citext`).
    Text,
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
            Some(UserType::Domain { base, .. }) => oid = *base,
            _ => break,
        }
    }
    oid
}

/// What a column of the type holds. A domain holds what its base type holds, an enum is text.
pub fn kind(oid: u32, user: &UserTypes) -> Kind {
    let oid = base_of(oid, user);
    if matches!(user.get(&oid), Some(UserType::Enum { .. })) {
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

/// What a column of the type holds, exactly enough to choose another engine's type for it. `modifier` is `atttypmod`.
pub fn data_type(oid: u32, modifier: i32, user: &UserTypes) -> DataType {
    let (mut oid, mut modifier) = (oid, modifier);
    for _ in 0..DEEPEST_DOMAIN {
        match user.get(&oid) {
            Some(UserType::Domain { base, modifier: own }) => {
                oid = *base;
                if *own != -1 {
                    modifier = *own;
                }
            }
            Some(UserType::Enum { name, labels }) => {
                return DataType::Enum { name: name.clone(), labels: labels.clone() };
            }
            Some(UserType::Text) => return DataType::Text { bytes: None },
            // An array's modifier is its elements'. One that leads back to itself does not exist outside of mischief.
            Some(UserType::Array(element)) => {
                return match user.get(element) {
                    Some(UserType::Array(_)) => DataType::Other,
                    _ => DataType::Array { element: Box::new(data_type(*element, modifier, user)) },
                };
            }
            Some(UserType::Other) | None => break,
        }
    }
    let Some(builtin) = Type::from_oid(oid) else { return DataType::Other };
    if let PgKind::Array(element) = builtin.kind()
        && builtin.name().starts_with('_')
    {
        return DataType::Array { element: Box::new(of_builtin(element, modifier)) };
    }
    of_builtin(&builtin, modifier)
}

fn of_builtin(t: &Type, modifier: i32) -> DataType {
    let int = |bits| DataType::Int { bits, unsigned: false, truth: false };
    // Lengths are stored with the four bytes of a varlena's head (`VARHDRSZ`).
    let length = u32::try_from(modifier - 4).ok().filter(|_| modifier >= 4);
    let fraction = u8::try_from(modifier).unwrap_or(6).min(6);
    match *t {
        Type::BOOL => DataType::Bool,
        Type::INT2 => int(16),
        Type::INT4 => int(32),
        Type::INT8 => int(64),
        Type::OID => DataType::Int { bits: 32, unsigned: true, truth: false },
        Type::FLOAT4 => DataType::Float { bits: 32 },
        Type::FLOAT8 => DataType::Float { bits: 64 },
        Type::NUMERIC => match length {
            None => DataType::Decimal { precision: None, scale: 0 },
            Some(packed) => {
                // `make_numeric_typmod`, numeric.c: the scale has eleven bits and a sign.
                let (precision, scale) = (packed >> 16, ((packed & 0x7ff) as i32 ^ 1024) - 1024);
                let (before, after) = (u32::try_from(-scale).unwrap_or(0), u32::try_from(scale).unwrap_or(0));
                DataType::Decimal { precision: Some((precision + before).max(after)), scale: after }
            }
        },
        Type::TEXT | Type::XML => DataType::Text { bytes: None },
        Type::VARCHAR => length.map_or(DataType::Text { bytes: None }, |length| DataType::Varchar { length }),
        Type::BPCHAR => length.map_or(DataType::Text { bytes: None }, |length| DataType::Char { length }),
        Type::NAME => DataType::Varchar { length: 63 },
        // One byte; one beyond ASCII is printed as `\ooo`.
        Type::CHAR => DataType::Varchar { length: 4 },
        Type::BYTEA => DataType::Bytes { length: None, fixed: false },
        Type::BIT => DataType::Bits { length: Some(u32::try_from(modifier).unwrap_or(1)), varying: false },
        Type::VARBIT => DataType::Bits { length: u32::try_from(modifier).ok(), varying: true },
        Type::DATE => DataType::Date,
        Type::TIME => DataType::Time { fraction, span: false, zone: false },
        Type::TIMETZ => DataType::Time { fraction, span: false, zone: true },
        Type::TIMESTAMP => DataType::Timestamp { fraction },
        Type::TIMESTAMPTZ => DataType::TimestampTz { fraction },
        Type::INTERVAL => DataType::Interval,
        Type::UUID => DataType::Uuid,
        Type::JSON => DataType::Json { verbatim: true },
        Type::JSONB => DataType::Json { verbatim: false },
        Type::INET | Type::CIDR | Type::MACADDR | Type::MACADDR8 => DataType::Network,
        // Shapes have no form that another engine reads; ranges, composites and the rest go as they are printed.
        _ => DataType::Other,
    }
}

/// Whether the type's binary form means the same on every server: built-in types without object ids inside, arrays of
/// exactly those (an array's header names its element's type id), enums, and domains over any of these.
pub fn portable_binary(oid: u32, user: &UserTypes) -> bool {
    let oid = base_of(oid, user);
    if matches!(user.get(&oid), Some(UserType::Enum { .. })) {
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
            (20000, UserType::Enum { name: None, labels: Vec::new() }),
            (20001, UserType::Domain { base: 1700, modifier: -1 }),
            (20002, UserType::Domain { base: 20001, modifier: -1 }),
            (20003, UserType::Other),
            (20004, UserType::Domain { base: 20004, modifier: -1 }),
            (20005, UserType::Domain { base: 20000, modifier: -1 }),
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
    fn given_types_and_modifiers_when_described_for_other_engines_then_lengths_and_digits_are_told() {
        let mood = DataType::Enum { name: None, labels: vec!["sad".into()] };
        let user = UserTypes::from([
            (20000, UserType::Enum { name: None, labels: vec!["sad".into()] }),
            (20001, UserType::Domain { base: 1043, modifier: 14 }),
            (20002, UserType::Domain { base: 20001, modifier: -1 }),
            (20003, UserType::Array(20000)),
            (20004, UserType::Array(20004)),
            (20005, UserType::Domain { base: 20005, modifier: -1 }),
            (20006, UserType::Text),
        ]);
        let of = |oid, modifier| data_type(oid, modifier, &user);
        let text = DataType::Text { bytes: None };
        assert_eq!(of(20000, -1), mood);
        assert_eq!(of(20002, -1), DataType::Varchar { length: 10 });
        assert_eq!(of(20003, -1), DataType::Array { element: Box::new(mood) });
        assert_eq!((of(20004, -1), of(20005, -1), of(30000, -1)), (DataType::Other, DataType::Other, DataType::Other));
        assert_eq!((of(20006, -1), of(1043, -1), of(25, -1)), (text.clone(), text.clone(), text));
        assert_eq!(of(1042, 7), DataType::Char { length: 3 });
        assert_eq!(of(1700, -1), DataType::Decimal { precision: None, scale: 0 });
        let numeric = |p: i32, s: i32| of(1700, ((p << 16) | (s & 0x7ff)) + 4);
        assert_eq!(numeric(10, 2), DataType::Decimal { precision: Some(10), scale: 2 });
        assert_eq!(numeric(3, -2), DataType::Decimal { precision: Some(5), scale: 0 });
        assert_eq!(numeric(2, 5), DataType::Decimal { precision: Some(5), scale: 5 });
        assert_eq!(of(1114, -1), DataType::Timestamp { fraction: 6 });
        assert_eq!(of(1184, 3), DataType::TimestampTz { fraction: 3 });
        assert_eq!(of(1560, 5), DataType::Bits { length: Some(5), varying: false });
        assert_eq!(of(1562, -1), DataType::Bits { length: None, varying: true });
        assert_eq!(of(1015, 14), DataType::Array { element: Box::new(DataType::Varchar { length: 10 }) });
        assert_eq!((of(869, -1), of(600, -1), of(22, -1)), (DataType::Network, DataType::Other, DataType::Other));
        assert_eq!(of(3802, -1), DataType::Json { verbatim: false });
    }

    #[test]
    fn given_the_list_when_compared_with_the_library_then_every_name_exists() {
        let known: Vec<String> = (1..10_000).filter_map(Type::from_oid).map(|t| t.name().to_owned()).collect();
        for name in PORTABLE {
            assert!(known.iter().any(|k| k == name), "{name}");
        }
    }
}
