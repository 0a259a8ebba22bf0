//! Rows as documents.

use bson::{Bson, Document, doc};

use super::*;
use crate::definition::DataType;
use crate::schema::{Column, Kind, RowIdentity, TableId, TableName};

fn table(columns: &[(&str, &str)], identity: RowIdentity) -> Arc<Table> {
    let column = |(n, (name, word)): (usize, &(&str, &str))| {
        let (type_name, kind, data) = words::named(word).unwrap_or(((*word).to_owned(), Kind::Other, DataType::Other));
        Column {
            name: (*name).into(),
            number: n as i32 + 1,
            type_name,
            kind,
            data,
            nullable: true,
            identity: None,
            default: None,
            collation: None,
            portable_binary: false,
        }
    };
    Arc::new(Table {
        id: TableId(0),
        name: TableName::new("shop", "t"),
        columns: columns.iter().enumerate().map(column).collect(),
        generated: Vec::new(),
        identity,
        full_old_rows: false,
        full_old_rows_by: String::new(),
        has_secondary_unique: false,
        partitioned: false,
        estimated_rows: 0,
        bytes: 0,
    })
}

fn read(write: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Document {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    Document::from_reader(out.as_slice()).unwrap()
}

fn row(texts: &[Option<&str>]) -> Row {
    Row::from_texts(texts.iter().copied())
}

#[test]
fn given_keys_of_one_column_several_and_none_when_written_then_id_is_made_of_them() {
    let columns = [("b", "int"), ("a", "string"), ("n", "long")];
    let values = row(&[Some("1"), Some("x"), None]);
    let one = Shape::new(&table(&columns, RowIdentity::Key(vec![1])), None).unwrap();
    assert_eq!(read(|o| one.document(o, &values, [7; 12])), doc! { "_id": "x", "b": 1, "n": Bson::Null });
    assert_eq!(read(|o| one.filter(o, &values)), doc! { "_id": "x" });
    assert_eq!((one.path(0), one.path(1)), ("b".into(), "_id".into()));
    let two = Shape::new(&table(&columns, RowIdentity::Key(vec![1, 0])), None).unwrap();
    assert_eq!(read(|o| two.document(o, &values, [7; 12])), doc! { "_id": { "a": "x", "b": 1 }, "n": Bson::Null });
    assert_eq!(two.path(0), "_id.b");
    assert_eq!(two.key_text(&values), "the row with a=x,b=1");
    let none = Shape::new(&table(&columns, RowIdentity::AllColumns), None).unwrap();
    let id = bson::oid::ObjectId::from_bytes([7; 12]);
    assert_eq!(read(|o| none.document(o, &values, [7; 12])), doc! { "_id": id, "b": 1, "a": "x", "n": Bson::Null });
    let all = doc! { "b": { "$eq": 1 }, "a": { "$eq": "x" }, "n": { "$eq": Bson::Null } };
    assert_eq!(read(|o| none.filter(o, &values)), all);
}

#[test]
fn given_another_identity_than_the_collections_key_when_written_then_id_stays_and_the_identity_finds_it() {
    let columns = [("id", "int"), ("email", "string")];
    let known = table(&columns, RowIdentity::Key(vec![0]));
    let shape = Shape::new(&table(&columns, RowIdentity::Key(vec![1])), Some(&known)).unwrap();
    let values = row(&[Some("1"), Some("e@x")]);
    assert_eq!(read(|o| shape.document(o, &values, [0; 12])), doc! { "_id": 1, "email": "e@x" });
    assert_eq!(read(|o| shape.filter(o, &values)), doc! { "email": { "$eq": "e@x" } });
    assert!(!shape.is_found_by_id());
}

#[test]
fn given_names_with_points_when_written_then_documents_lie_in_documents() {
    let columns = [("id", "int"), ("address.city", "string"), ("name", "string"), ("address.geo.lat", "double")];
    let shape = Shape::new(&table(&columns, RowIdentity::Key(vec![0])), None).unwrap();
    let values = row(&[Some("1"), Some("Köln"), None, Some("50.9")]);
    assert_eq!(
        read(|o| shape.document(o, &values, [0; 12])),
        doc! { "_id": 1, "address": { "city": "Köln", "geo": { "lat": 50.9 } }, "name": Bson::Null }
    );
    let set = read(|o| shape.set(o, &values, &[0, 1, 3]).map(drop));
    assert_eq!(set, doc! { "$set": { "address.city": "Köln", "address.geo.lat": 50.9 } });
    for bad in [["a", "a.b"], ["a.b", "a"], ["a..b", "c"], ["$a", "c"], ["a.$b", "c"], ["_id", "c"], ["", "c"]] {
        let columns = [("id", "int"), (bad[0], "int"), (bad[1], "int")];
        assert!(Shape::new(&table(&columns, RowIdentity::Key(vec![0])), None).is_err(), "{bad:?}");
    }
}

#[test]
fn given_documents_of_a_source_when_written_then_they_pass_and_dollars_in_keys_are_no_operators() {
    let shape = Shape::new(&table(&[("_id", "bson"), ("doc", "bson")], RowIdentity::Key(vec![0])), None).unwrap();
    let key = doc! { "_id": { "$x": 1 } };
    let document = doc! { "a": 1, "_id": { "$x": 1 } };
    let mut b = crate::value::RowBuilder::default();
    let (k, d) = (key.to_vec().unwrap(), document.to_vec().unwrap());
    b.push(Datum::Text(&k));
    b.push(Datum::Text(&d));
    let values = b.finish();
    assert_eq!(read(|o| shape.document(o, &values, [0; 12])), document);
    assert_eq!(read(|o| shape.filter(o, &values)), doc! { "_id": { "$eq": { "$x": 1 } } });
    assert_eq!(read(|o| shape.set_on_insert(o, &values)), doc! { "$setOnInsert": { "a": 1 } });
    assert!(!shape.key_text(&values).contains('x'));
    let broken = Row::from_texts([Some("abc"), Some("\u{5}")]);
    assert!(shape.document(&mut Vec::new(), &broken, [0; 12]).is_err());
    assert!(shape.filter(&mut Vec::new(), &broken).is_err());
}

#[test]
fn given_fields_that_were_not_sent_when_patched_then_what_is_there_stays() {
    let columns = [("id", "int"), ("body", "string"), ("a.b", "int"), ("a.c", "int")];
    let shape = Shape::new(&table(&columns, RowIdentity::Key(vec![0])), None).unwrap();
    let there = doc! { "_id": 1, "body": "large", "a": { "b": 1, "c": 2 }, "more": true }.to_vec().unwrap();
    let mut b = crate::value::RowBuilder::default();
    for d in [Datum::Text(b"2"), Datum::Unsent, Datum::Text(b"5"), Datum::Unsent] {
        b.push(d);
    }
    let values = b.finish();
    let patched = read(|o| shape.patched(o, Doc::new(&there).unwrap(), &values));
    assert_eq!(patched, doc! { "_id": 2, "body": "large", "a": { "b": 5, "c": 2 }, "more": true });
    assert!(shape.document(&mut Vec::new(), &values, [0; 12]).is_err());
}

#[test]
fn given_what_documents_cannot_hold_when_written_then_column_and_key_are_named_and_the_value_is_not() {
    let shape =
        Shape::new(&table(&[("id", "int"), ("n", "decimal"), ("t", "string")], RowIdentity::Key(vec![0])), None)
            .unwrap();
    let e = shape
        .document(&mut Vec::new(), &row(&[Some("4711"), Some("1.2345678901234567890123456789012345"), None]), [0; 12])
        .unwrap_err();
    assert!(e.message().contains("column n of the row with id=4711") && !e.message().contains("1.2345"), "{e}");
    assert_eq!(e.code(), Some("switchyard:value"));
    let large = "x".repeat(LARGEST);
    let e = shape.document(&mut Vec::new(), &row(&[Some("1"), None, Some(&large)]), [0; 12]).unwrap_err();
    assert!(e.message().contains("id=1 makes a document of"), "{e}");
}

#[test]
fn given_a_unique_index_when_others_are_looked_for_then_the_row_itself_is_none_of_them() {
    let shape = Shape::new(&table(&[("id", "int"), ("email", "string")], RowIdentity::Key(vec![0])), None).unwrap();
    let partial = doc! { "email": { "$type": "string" } };
    let values = row(&[Some("1"), Some("e@x")]);
    assert_eq!(
        read(|o| shape.others(o, &values, &[1], Some(&partial))),
        doc! { "email": { "$eq": "e@x" }, "_id": { "$ne": 1 }, "$and": [{ "email": { "$type": "string" } }] }
    );
}
