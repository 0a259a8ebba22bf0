//! Tables of sources as collections.

use super::*;
use crate::definition::{DefaultValue, ForeignAction, ForeignKeyDef, KeyColumn};
use crate::schema::Kind;

fn column(name: &str, data: DataType, nullable: bool) -> ColumnDef {
    ColumnDef {
        name: name.into(),
        data,
        type_name: String::new(),
        nullable,
        default: DefaultValue::None,
        numbered: false,
        generated: None,
        travels: true,
        comment: None,
    }
}

fn key(names: &[&str]) -> Vec<KeyColumn> {
    names.iter().map(|n| KeyColumn { name: (*n).into(), descending: false, prefix: None }).collect()
}

fn index(name: &str, columns: &[&str], unique: bool) -> IndexDef {
    IndexDef { name: name.into(), columns: key(columns), unique, nulls_equal: false, method: None, peculiar: None }
}

fn orders() -> TableDef {
    let int = DataType::Int { bits: 64, unsigned: false, truth: false };
    TableDef {
        name: TableName::new("public", "orders"),
        columns: vec![
            column("id", int.clone(), false),
            column("email", DataType::Text { bytes: None }, true),
            column("tags", DataType::Array { element: Box::new(DataType::Text { bytes: None }) }, true),
            column("total", DataType::Decimal { precision: Some(10), scale: 2 }, false),
            column("customer", int, true),
        ],
        primary_key: key(&["id"]),
        indexes: vec![
            index("by_email", &["email", "total"], true),
            index("by_tags", &["tags"], false),
            index("unique_tags", &["tags"], true),
            IndexDef { peculiar: Some("where total > 0".into()), ..index("part", &["total"], true) },
        ],
        foreign_keys: vec![ForeignKeyDef {
            name: "to_customer".into(),
            columns: vec!["customer".into()],
            references: TableName::new("public", "customers"),
            referenced: vec!["id".into()],
            on_delete: ForeignAction::NoAction,
            on_update: ForeignAction::NoAction,
        }],
        checks: vec![("positive".into(), "total > 0".into())],
        comment: None,
        left_behind: Vec::new(),
    }
}

fn homes() -> Homes {
    Homes { source: "public".into(), target: "shop".into(), ..Homes::default() }
}

fn script(tables: Vec<TableDef>) -> SchemaScript {
    SchemaScript { dialect: "postgres".into(), tables, ..SchemaScript::default() }
}

#[test]
fn given_a_table_when_adopted_then_collection_and_indexes_are_made_and_the_rest_is_said() {
    let out = adopt(script(vec![orders()]), "postgres", &homes(), Microseconds::Refuse).unwrap();
    let made: Vec<(&str, &str)> = out.objects.iter().map(|o| (o.kind.as_str(), o.name.as_str())).collect();
    assert_eq!(
        made,
        [("COLLECTION", "orders"), ("PRIMARY KEY", "primary_key"), ("INDEX", "by_email"), ("INDEX", "by_tags")]
    );
    assert!(out.objects.iter().all(|o| o.schema == "shop" && o.table == Some(TableName::new("public", "orders"))));
    let create: Create = serde_json::from_str(&out.objects[0].sql).unwrap();
    let words: Vec<&str> = create.table.columns.iter().map(|c| c.type_name.as_str()).collect();
    assert_eq!(words, ["long", "string", "array of string", "decimal", "long"]);
    let index: CreateIndex = serde_json::from_str(&out.objects[2].sql).unwrap();
    assert_eq!((index.not_null, index.unique), (vec!["email".to_owned()], true));
    let said = out.remarks.join("\n");
    for what in ["unique_tags", "part", "to_customer", "positive"] {
        assert!(said.contains(what), "{what}: {said}");
    }
}

#[test]
fn given_two_tables_of_one_home_or_columns_of_one_field_when_adopted_then_it_is_refused() {
    let mut other = orders();
    other.name = TableName::new("shop", "orders");
    assert!(adopt(script(vec![orders(), other]), "postgres", &homes(), Microseconds::Refuse).is_err());
    let mut nested = orders();
    nested.columns.push(column("email.host", DataType::Text { bytes: None }, true));
    let e = adopt(script(vec![nested]), "postgres", &homes(), Microseconds::Refuse).unwrap_err();
    assert!(e.message().contains("email.host") && e.hint_text().is_some(), "{e}");
}

#[test]
fn given_chosen_types_when_adopted_then_they_count_and_unknown_ones_are_refused() {
    let table = TableName::new("public", "orders");
    let with = |word: &str| {
        let types = [(table.clone(), [("total".to_owned(), word.to_owned())].into())].into();
        Homes { types, ..homes() }
    };
    let out = adopt(script(vec![orders()]), "postgres", &with("double"), Microseconds::Refuse).unwrap();
    let create: Create = serde_json::from_str(&out.objects[0].sql).unwrap();
    assert_eq!(create.table.columns[3].type_name, "double");
    let e = adopt(script(vec![orders()]), "postgres", &with("numeric"), Microseconds::Refuse).unwrap_err();
    assert!(e.message().contains("decimal"), "{e}");
}

#[test]
fn given_collections_of_a_source_when_adopted_then_documents_stay_what_they_are() {
    let def = TableDef {
        name: TableName::new("shop", "orders"),
        columns: [("_id", false), ("doc", false)]
            .into_iter()
            .map(|(n, nullable)| ColumnDef { type_name: BSON.into(), ..column(n, DataType::Other, nullable) })
            .collect(),
        primary_key: key(&["_id"]),
        indexes: Vec::new(),
        foreign_keys: Vec::new(),
        checks: Vec::new(),
        comment: None,
        left_behind: Vec::new(),
    };
    let script = SchemaScript { dialect: "mongo".into(), tables: vec![def], ..SchemaScript::default() };
    let homes = Homes { source: "shop".into(), target: "copy".into(), ..Homes::default() };
    let out = adopt(script, "mongo", &homes, Microseconds::Refuse).unwrap();
    let create: Create = serde_json::from_str(&out.objects[0].sql).unwrap();
    assert_eq!(create.table.name, TableName::new("copy", "orders"));
    assert!(create.table.columns.iter().all(|c| c.type_name == BSON && c.kind == Kind::Other));
    let shape = Shape::new(&Arc::new(create.table), None).unwrap();
    assert!(shape.is_found_by_id() && shape.holds_whole_documents());
}
