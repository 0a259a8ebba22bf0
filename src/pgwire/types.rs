//! What PostgreSQL's builtin type numbers mean for us. Pure; shared by source and target. Numbers: `pg_type.dat`.

use crate::schema::Kind;

/// What a builtin type holds; everything else is [`Kind::Other`]. For a domain, ask with its base type.
pub fn kind(oid: u32) -> Kind {
    match oid {
        16 => Kind::Bool,
        17 => Kind::Bytes,
        20 => Kind::Int8,
        21 => Kind::Int2,
        23 => Kind::Int4,
        25 | 1042 | 1043 => Kind::Text,
        114 => Kind::Json,
        700 => Kind::Float4,
        701 => Kind::Float8,
        1082 => Kind::Date,
        1083 => Kind::Time,
        1114 => Kind::Timestamp,
        1184 => Kind::TimestampTz,
        1700 => Kind::Numeric,
        2950 => Kind::Uuid,
        3802 => Kind::Jsonb,
        _ => Kind::Other,
    }
}

/// Whether the type's binary form means the same on every server. Numbers below 10000 are assigned by hand and never
/// change between versions (`transam.h`, FirstGenbkiObjectId); those above differ from server to server, and arrays
/// carry their element's number. Types whose *value* is an object's number (`regclass`), and those that cannot be read
/// back (`pg_node_tree`, `aclitem`), are out as well.
pub fn portable_binary(oid: u32) -> bool {
    const NOT: [u32; 32] = [
        24, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191, // regproc … regcollation
        1008, 2207, 2208, 2209, 2210, 2211, 3735, 3770, 4090, 4097, 4192, // their arrays
        194, 3361, 3402, 5017, 4600, 4601, // pg_node_tree, statistics, brin summaries
        1033, 1034, // aclitem
        2249, 2287, // record
    ];
    oid != 0 && oid < 10_000 && !NOT.contains(&oid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_type_numbers_when_asked_then_only_builtin_values_are_portable() {
        for oid in [16, 23, 25, 1700, 1007, 3904, 869, 3614, 790] {
            assert!(portable_binary(oid), "{oid}");
        }
        for oid in [0, 2205, 2210, 12_345, 16_400, 194] {
            assert!(!portable_binary(oid), "{oid}");
        }
        assert_eq!(kind(1042), Kind::Text);
        assert_eq!(kind(16_400), Kind::Other);
    }
}
