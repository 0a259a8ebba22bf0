use std::collections::BTreeMap;

use super::*;
use crate::schema::{Column, TableId, TableName};
use crate::target::mongo::words;

fn table(name: &str, columns: &[(&str, &str)], key: &[usize]) -> Table {
    let columns = columns.iter().enumerate().map(|(n, (name, word))| {
        let (type_name, kind, data) = words::named(word).unwrap();
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
    });
    Table {
        id: TableId(0),
        name: TableName::new("shop", name),
        columns: columns.collect(),
        generated: Vec::new(),
        identity: if key.is_empty() { RowIdentity::AllColumns } else { RowIdentity::Key(key.to_vec()) },
        full_old_rows: false,
        full_old_rows_by: String::new(),
        has_secondary_unique: false,
        partitioned: false,
        estimated_rows: 0,
        bytes: 0,
    }
}

fn list(on: &[(&str, &str)]) -> EmbeddedList {
    EmbeddedList {
        rows: TableName::new("shop", "orders.items"),
        parent: TableName::new("shop", "orders"),
        field: "items".into(),
        on: on.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<BTreeMap<_, _>>(),
        order_by: Some("position".into()),
        value: None,
        waits: false,
        stays: false,
    }
}

const ITEMS: &[(&str, &str)] = &[("order_id", "int"), ("position", "int"), ("tag.name", "string")];

#[test]
fn given_rows_of_a_key_of_two_columns_when_made_elements_then_what_finds_the_parent_is_left_out() {
    let (rows, parent) =
        (table("orders.items", ITEMS, &[0, 1]), table("orders", &[("id", "long"), ("x", "int")], &[0]));
    let f = Fitted::new(&list(&[("order_id", "id")]), &rows, &parent).unwrap();
    let row = doc! { "_id": { "order_id": 5, "position": 2 }, "tag": { "name": "a" } };
    assert_eq!(f.parent_of(&row), Some(Bson::Int64(5)));
    assert_eq!(f.element(&row), Bson::Document(doc! { "position": 2, "tag": { "name": "a" } }));
    assert_eq!(f.sorted(), doc! { "_id.order_id": 1, "_id.position": 1, "_id": 1 });
    assert_eq!(f.of_parents(&[Bson::Int64(5)]), doc! { "_id.order_id": { "$in": [5_i64] } });
    assert_eq!(f.projection(), doc! { "_id": 1 });
    let value = EmbeddedList { value: Some("tag.name".into()), ..list(&[("order_id", "id")]) };
    assert_eq!(Fitted::new(&value, &rows, &parent).unwrap().element(&row), Bson::String("a".into()));
}

#[test]
fn given_parents_of_a_key_of_two_columns_when_looked_for_then_it_is_in_their_order() {
    let rows = table("orders.items", &[("id", "int"), ("no", "int"), ("shop", "string"), ("position", "int")], &[0]);
    let parent = table("orders", &[("shop", "string"), ("no", "long")], &[0, 1]);
    let f = Fitted::new(&list(&[("no", "no"), ("shop", "shop")]), &rows, &parent).unwrap();
    let row = doc! { "_id": 1, "no": 7, "shop": "a", "position": 1 };
    assert_eq!(f.parent_of(&row), Some(Bson::Document(doc! { "shop": "a", "no": 7_i64 })));
    assert_eq!(f.parent_of(&doc! { "_id": 1, "no": 7, "shop": null }), None);
    let keys = [f.parent_of(&row).unwrap()];
    assert_eq!(f.of_parents(&keys), doc! { "$or": [{ "shop": { "$eq": "a" }, "no": { "$eq": 7_i64 } }] });
    assert_eq!(f.element(&row), Bson::Document(doc! { "id": 1, "position": 1 }));
}

#[test]
fn given_lists_that_do_not_fit_when_fitted_then_the_rules_key_is_named() {
    let parent = table("orders", &[("id", "int"), ("x", "int")], &[0]);
    let rows = table("orders.items", ITEMS, &[0, 1]);
    let bad = |list: &EmbeddedList, rows: &Table, parent: &Table| {
        Fitted::new(list, rows, parent).unwrap_err().split(':').next().unwrap().to_owned()
    };
    let good = list(&[("order_id", "id")]);
    assert!(Fitted::new(&good, &rows, &parent).is_ok());
    assert_eq!(bad(&list(&[("order_id", "x")]), &rows, &parent), "on");
    assert_eq!(bad(&list(&[("order_id", "id"), ("position", "x")]), &rows, &parent), "on");
    assert_eq!(bad(&list(&[("nothing", "id")]), &rows, &parent), "on");
    assert_eq!(bad(&list(&[("tag.name", "id")]), &rows, &parent), "on");
    assert_eq!(bad(&good, &rows, &table("orders", &[("id", "decimal")], &[0])), "on");
    assert_eq!(bad(&EmbeddedList { order_by: Some("z".into()), ..good.clone() }, &rows, &parent), "order_by");
    assert_eq!(bad(&EmbeddedList { value: Some("z".into()), ..good.clone() }, &rows, &parent), "value");
    assert_eq!(bad(&good, &rows, &table("orders", &[("id", "int"), ("items.n", "int")], &[0])), "as");
    assert_eq!(bad(&good, &table("orders.items", ITEMS, &[]), &parent), "in");
}
