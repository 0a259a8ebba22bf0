//! MongoDB to MongoDB: documents as they are.

use bson::{Bson, Document, bson, doc};

use super::{Mongo, PATIENCE, mongo};
use crate::support::{Config, Daemon, fresh_name, poll};

fn documents() -> Vec<Document> {
    let ids: Vec<Bson> = vec![
        1.into(),
        2_i64.into(),
        2.5.into(),
        "text".into(),
        bson::oid::ObjectId::new().into(),
        bson!({ "$x": 1, "b": [1, 2] }),
        Bson::DateTime(bson::DateTime::from_millis(-1)),
        Bson::Null,
        true.into(),
        Bson::MinKey,
        Bson::MaxKey,
        Bson::Decimal128("7.10".parse().unwrap()),
        Bson::Binary(bson::Binary { subtype: bson::spec::BinarySubtype::UserDefined(0x80), bytes: vec![1, 2] }),
        Bson::Timestamp(bson::Timestamp { time: 5, increment: 6 }),
    ];
    ids.iter()
        .enumerate()
        .map(|(n, id)| {
            doc! {
                "n": n as i32, "same": id.clone(), "_id": id.clone(), "a.b": 1, "$odd": 2, "": 3, "big": 5_i64, "int": 5,
                "list": ids.clone(), "deep": { "er": { "est": [{ "x": Bson::Undefined }] } }, "nul\u{0}": "a\u{0}b".replace('\u{0}', "\u{1}"),
                "re": Bson::RegularExpression(bson::Regex { pattern: bson::cstr!("a/b").into(), options: bson::cstr!("i").into() }),
                "code": Bson::JavaScriptCode("x".into()), "nan": f64::NAN, "zero": -0.0,
            }
        })
        .map(|mut d| {
            d.remove("nul\u{0}");
            d
        })
        .collect()
}

/// Both sides' documents as bytes: NaN and the order of fields count.
fn wait_same(source: &Mongo, target: &Mongo, collection: &str) {
    let bytes = |m: &Mongo| -> Vec<Vec<u8>> {
        let mut all: Vec<Vec<u8>> = m.all(collection).iter().map(|d| d.to_vec().unwrap()).collect();
        all.sort();
        all
    };
    let want = bytes(source);
    if poll(PATIENCE, || (bytes(target) == want).then_some(())).is_none() {
        panic!("{collection}: {:?}\n{:?}", source.all(collection), target.all(collection));
    }
}

#[test]
fn given_documents_of_every_type_when_copied_and_followed_then_they_are_the_same_bytes() {
    let (from, to) = (mongo(), mongo());
    let name = fresh_name("docs");
    let source = Mongo::connect(&from.url("admin"), "shop");
    let target = Mongo::connect(&to.url("admin"), &name);
    source.run(doc! { "insert": "every", "documents": documents() });
    let many: Vec<Document> = (0..5000).map(|n| doc! { "_id": n, "v": n, "pad": "x".repeat(200) }).collect();
    source.run(doc! { "insert": "many", "documents": many });
    let config = Config::new(&name, &from.url("shop"), &to.url(&name)).env("SWITCHYARD_PIECE_BYTES", 100 << 10);
    let mut crashing = Daemon::spawn(&config.clone().crash_at("load.before_piece", 5));
    crashing.wait_crash();
    source.run(doc! { "delete": "many", "deletes": [{ "q": { "_id": { "$lt": 100 } }, "limit": 0 }] });
    let mut daemon = Daemon::spawn(&config);
    daemon.ready();
    wait_same(&source, &target, "many");
    wait_same(&source, &target, "every");
    source.run(doc! { "update": "every", "updates": [{ "q": {}, "u": { "$set": { "int": 6, "new": [1, { "y": 2_i64 }] } }, "multi": true }] });
    source.run(doc! { "delete": "every", "deletes": [{ "q": { "n": { "$in": [0, 5, 7] } }, "limit": 0 }] });
    source.run(doc! { "insert": "every", "documents": [documents()[5].clone()] });
    source.run(doc! { "insert": "fresh", "documents": [{ "_id": 1 }] });
    source.run(doc! { "update": "many", "updates": [{ "q": { "_id": { "$lt": 3000 } }, "u": { "$inc": { "v": 1 } }, "multi": true }] });
    wait_same(&source, &target, "every");
    wait_same(&source, &target, "many");
    wait_same(&source, &target, "fresh");
    daemon.kill9();
    source.run(doc! { "update": "many", "updates": [{ "q": {}, "u": { "$inc": { "v": 1 } }, "multi": true }] });
    let mut daemon = Daemon::spawn(&config);
    daemon.ready();
    wait_same(&source, &target, "many");
    assert_eq!(daemon.sigterm(), 0);
}
