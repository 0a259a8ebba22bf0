//! Documents for property tests: every type, odd names, odd values, nested.

use bson::spec::BinarySubtype;
use bson::{Bson, Document};
use proptest::prelude::*;

pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{0,8}",
        "\\PC{0,12}",
        Just("\u{1}\n\t\"\\/\u{7f}".to_owned()),
        Just("NULL".to_owned()),
        Just("507f1f77bcf86cd799439011".to_owned()),
        "-?[0-9]{1,20}",
        Just("true".to_owned()),
        Just("{\"$oid\": 1}".to_owned()),
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-e]{1,3}", 1 => "[a-z.$]{0,4}", 1 => "\\PC{0,6}".prop_filter("no zeros", |t| !t.contains('\0'))]
        .prop_filter("no words of extended JSON", |t| !t.starts_with('$'))
}

fn double() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        any::<u64>().prop_map(f64::from_bits),
        (-1_000_000_i32..1_000_000).prop_map(f64::from),
        (-100_000_i32..100_000).prop_map(|n| f64::from(n) / 100.0),
        Just(-0.0),
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(1e16),
        Just(9.3e18),
        Just(1e19),
        Just(1e22),
        Just(5e-324),
    ]
}

pub(crate) fn scalar() -> impl Strategy<Value = Bson> {
    prop_oneof![
        double().prop_map(Bson::Double),
        text().prop_map(Bson::String),
        any::<bool>().prop_map(Bson::Boolean),
        Just(Bson::Null),
        any::<i32>().prop_map(Bson::Int32),
        any::<i64>().prop_map(Bson::Int64),
        (-1000_i64..1000).prop_map(Bson::Int64),
        any::<[u8; 12]>().prop_map(|b| Bson::ObjectId(bson::oid::ObjectId::from_bytes(b))),
        any::<i64>().prop_map(|n| Bson::DateTime(bson::DateTime::from_millis(n))),
        (-70_000_000_000_000_i64..260_000_000_000_000).prop_map(|n| Bson::DateTime(bson::DateTime::from_millis(n))),
        any::<[u8; 16]>().prop_map(|b| Bson::Decimal128(bson::Decimal128::from_bytes(b))),
        "-?[0-9]{1,20}(\\.[0-9]{1,14})?".prop_map(|t| Bson::Decimal128(t.parse().unwrap())),
        (proptest::collection::vec(any::<u8>(), 0..20), any::<u8>())
            .prop_map(|(bytes, s)| Bson::Binary(bson::Binary { subtype: BinarySubtype::from(s), bytes })),
        any::<[u8; 16]>()
            .prop_map(|b| { Bson::Binary(bson::Binary { subtype: BinarySubtype::Uuid, bytes: b.to_vec() }) }),
        ("[a-z\"\\\\.]{0,6}", "[ilmsux]{0,3}").prop_map(|(p, o)| {
            let (pattern, options) = (p.try_into().unwrap(), o.try_into().unwrap());
            Bson::RegularExpression(bson::Regex { pattern, options })
        }),
        text().prop_map(Bson::JavaScriptCode),
        text().prop_map(Bson::Symbol),
        (any::<u32>(), any::<u32>()).prop_map(|(time, increment)| Bson::Timestamp(bson::Timestamp { time, increment })),
        Just(Bson::Undefined),
        Just(Bson::MinKey),
        Just(Bson::MaxKey),
    ]
}

pub(crate) fn value() -> impl Strategy<Value = Bson> {
    scalar().prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Bson::Array),
            proptest::collection::vec((name(), inner.clone()), 0..6)
                .prop_map(|fields| Bson::Document(fields.into_iter().collect())),
            (text(), proptest::collection::vec((name(), inner), 0..3)).prop_map(|(code, fields)| {
                let scope = fields.into_iter().collect();
                Bson::JavaScriptCodeWithScope(bson::JavaScriptCodeWithScope { code, scope })
            }),
        ]
    })
}

pub(crate) fn document() -> impl Strategy<Value = Document> {
    proptest::collection::vec((name(), value()), 0..8).prop_map(|fields| fields.into_iter().collect())
}
