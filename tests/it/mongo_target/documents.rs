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

#[test]
fn given_indexes_when_copied_then_those_that_can_stand_are_made_with_their_own_definitions_and_others_are_named() {
    let (from, to) = (mongo(), mongo());
    let name = fresh_name("indexed");
    let source = Mongo::connect(&from.url("admin"), "shop");
    let target = Mongo::connect(&to.url("admin"), &name);
    source.run(doc! { "create": "users", "changeStreamPreAndPostImages": { "enabled": true } });
    source.run(doc! { "create": "french", "collation": { "locale": "fr" }, "validator": { "a": { "$exists": true } } });
    let users = (0..500).map(|n| doc! { "_id": n, "mail": format!("u{n}"), "city": "x", "at": bson::DateTime::now() });
    source.run(doc! { "insert": "users", "documents": users.collect::<Vec<Document>>() });
    source.run(doc! { "insert": "french", "documents": [{ "_id": 1, "a": 1 }] });
    source.run(doc! { "createIndexes": "users", "indexes": [
        { "key": { "mail": 1 }, "name": "one_mail", "unique": true },
        { "key": { "city": 1, "mail": -1 }, "name": "by_city", "sparse": true },
        { "key": { "nick": 1 }, "name": "one_nick", "unique": true, "partialFilterExpression": { "nick": { "$type": "string" }, "at": { "$gt": bson::DateTime::from_millis(0) } } },
        { "key": { "city": 1 }, "name": "sv", "collation": { "locale": "sv", "strength": 2 }, "hidden": true },
        { "key": { "note": "text", "city": "text" }, "name": "words", "weights": { "note": 5 }, "default_language": "german" },
        { "key": { "place": "2dsphere" }, "name": "place" },
        { "key": { "$**": 1 }, "name": "all", "wildcardProjection": { "big": 0 } },
        { "key": { "_id": "hashed" }, "name": "hashed" },
        { "key": { "at": 1 }, "name": "expires", "expireAfterSeconds": 3_000_000 },
    ] });
    source.run(doc! { "createIndexes": "french", "indexes": [
    { "key": { "a": 1 }, "name": "one_a", "unique": true }, { "key": { "b": 1 }, "name": "b" } ] });
    let config = Config::new(&name, &from.url("shop"), &to.url(&name));
    let mut daemon = Daemon::spawn(&config);
    daemon.ready();
    let indexes = |m: &Mongo, collection: &str| -> Vec<Document> {
        let reply = m.run(doc! { "listIndexes": collection });
        let all = reply.get_document("cursor").unwrap().get_array("firstBatch").unwrap().clone();
        let mut all: Vec<Document> = all.into_iter().map(|i| i.as_document().unwrap().clone()).collect();
        all.sort_by_key(|i| i.get_str("name").unwrap().to_owned());
        all
    };
    let kept = |collection: &str, without: &[&str]| -> Vec<Document> {
        let mut all = indexes(&source, collection);
        all.retain(|i| !without.contains(&i.get_str("name").unwrap()));
        all
    };
    assert_eq!(indexes(&target, "users"), kept("users", &["expires"]));
    // That of `_id` has the collection's collation, which the target's has not.
    let french: Vec<String> =
        indexes(&target, "french").iter().map(|i| i.get_str("name").unwrap().to_owned()).collect();
    assert_eq!(french, ["_id_", "b"]);
    let log = daemon.log();
    for words in [
        "shop.users: left out: TTL index expires (at): it would remove documents from the target that the source still has; after `switchyard finish`",
        "shop.french: left out: unique index one_a (a): the collection keeps no images",
        "shop.french: left out: the collation of the collection",
        "shop.french: left out: the validator",
    ] {
        assert!(log.contains(words), "{words}: {log}");
    }
    // A value that goes from one document to another, in one transaction and in several.
    source.run(doc! { "update": "users", "updates": [{ "q": { "_id": 1 }, "u": { "$set": { "mail": "free" } } }] });
    source.run(doc! { "update": "users", "updates": [{ "q": { "_id": 2 }, "u": { "$set": { "mail": "u1" } } }] });
    source.run(doc! { "update": "users", "updates": [{ "q": { "_id": 1 }, "u": { "$set": { "mail": "u2" } } }] });
    source.run(doc! { "delete": "users", "deletes": [{ "q": { "_id": 2 }, "limit": 1 }] });
    source.run(doc! { "insert": "users", "documents": [{ "_id": 1000, "mail": "u1" }] });
    wait_same(&source, &target, "users");
    wait_same(&source, &target, "french");
    assert_eq!(daemon.sigterm(), 0);
}
