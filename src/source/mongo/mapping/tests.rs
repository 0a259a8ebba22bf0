//! Documents to rows and back.

use bson::{Bson, doc};
use proptest::prelude::*;

use super::*;
use crate::documents::{arbitrary, read};

fn mapping(fields: &[(&str, &str)]) -> Mapping {
    with(fields, Options::default())
}
fn with(fields: &[(&str, &str)], options: Options) -> Mapping {
    let fields = CollectionFields {
        fields: fields.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
        rest: None,
    };
    Mapping::new(TableName::new("shop", "users"), Some(&fields), options, false).unwrap()
}
fn whole(documents: DocumentForm) -> Mapping {
    let options = Options { documents, ..Options::default() };
    Mapping::new(TableName::new("shop", "users"), None, options, true).unwrap()
}
fn shown(row: &Row) -> Vec<String> {
    let show = |d: Datum<'_>| match d {
        Datum::Text(t) => String::from_utf8_lossy(t).into_owned(),
        Datum::Null => "NULL".into(),
        Datum::Unsent => "UNSENT".into(),
    };
    row.iter().map(show).collect()
}
fn row(mapping: &Mapping, document: bson::Document) -> Result<Vec<String>, String> {
    let bytes = document.to_vec().unwrap();
    mapping.row(Doc::new(&bytes).unwrap()).map(|r| shown(&r)).map_err(|m| m.to_string())
}

#[test]
fn given_no_fields_when_mapped_then_a_row_is_the_key_and_the_document() {
    let m = whole(DocumentForm::Json);
    assert_eq!(m.table().columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["_id", "doc"]);
    assert!(m.table().full_old_rows && m.table().key() == [0]);
    assert_eq!(m.definition().primary_key[0].name, "_id");
    assert_eq!(row(&m, doc! {"a": 1.0, "_id": 5}).unwrap(), ["5", r#"{"a": 1.0, "_id": 5}"#]);
    assert_eq!(row(&m, doc! {"a": 1}).unwrap_err(), "field _id is missing");
    assert!(
        row(&m, doc! {"_id": 1, "a": {"b": "\0"}}).unwrap_err().starts_with("field a.b holds the character U+0000")
    );
}

#[test]
fn given_a_target_of_documents_when_mapped_then_the_bytes_pass() {
    let m = whole(DocumentForm::Bson);
    let bytes = doc! {"a": "x\0", "_id": {"b": 1_i64}}.to_vec().unwrap();
    let row = m.row(Doc::new(&bytes).unwrap()).unwrap();
    assert_eq!(row.get(1), Datum::Text(&bytes));
    assert_eq!(row.get(0), Datum::Text(&doc! {"_id": {"b": 1_i64}}.to_vec().unwrap()));
    assert_eq!(m.filter(&row).unwrap(), doc! {"_id": {"b": 1_i64}}.to_vec().unwrap());
}

#[test]
fn given_fields_when_mapped_then_columns_are_filled_and_the_rest_is_kept() {
    let m = mapping(&[
        ("email", "text not null"),
        ("age", "integer default 7"),
        ("address.city", "text"),
        ("tags", "text[]"),
        ("score", "double precision default 0 not null"),
    ]);
    let names: Vec<&str> = m.table().columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["_id", "address.city", "age", "email", "score", "tags", "rest"]);
    assert_eq!(m.table().columns.iter().map(|c| c.number).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(
        row(&m, doc! {"_id": "u1", "email": "a@b", "age": 5_i64, "address": {"city": "X", "zip": "1"}, "tags": ["a", "b c"], "x": null}).unwrap(),
        ["u1", "X", "5", "a@b", "0", r#"{a,"b c"}"#, r#"{"address": {"zip": "1"}, "x": null}"#]
    );
    // Missing: the default. Null: NULL.
    assert_eq!(row(&m, doc! {"_id": 1, "email": ""}).unwrap(), ["1", "NULL", "7", "", "0", "NULL", "NULL"]);
    assert_eq!(
        row(&m, doc! {"_id": 1, "email": "", "age": null}).unwrap(),
        ["1", "NULL", "NULL", "", "0", "NULL", "NULL"]
    );
    for (document, message) in [
        (doc! {"_id": 1}, "field email is missing, and the rule says not null"),
        (doc! {"_id": 1, "email": null}, "field email is null, and the rule says not null"),
        (doc! {"_id": 1, "email": "", "score": null}, "field score is null, and the rule says not null"),
        (doc! {"_id": 1, "email": "", "age": "x"}, "field age holds a string, and the rule says integer"),
        (doc! {"_id": 1, "email": "", "tags": [1]}, "field tags.0 holds an int, and the rule says text[]"),
        (
            doc! {"_id": 1, "email": "", "address": {"city": 5}},
            "field address.city holds an int, and the rule says text",
        ),
        (doc! {"email": ""}, "field _id is missing"),
    ] {
        assert_eq!(row(&m, document).unwrap_err(), message);
    }
}

#[test]
fn given_what_paths_do_not_reach_when_mapped_then_nothing_of_it_is_dropped() {
    let m = mapping(&[("a.b", "integer")]);
    for (document, column, rest) in [
        (doc! {"_id": 1, "a": {"b": 1}}, "1", "NULL"),
        (doc! {"_id": 1, "a.b": 1}, "1", "NULL"),
        (doc! {"_id": 1, "a": {}}, "NULL", r#"{"a": {}}"#),
        (doc! {"_id": 1, "a": null}, "NULL", r#"{"a": null}"#),
        (doc! {"_id": 1, "a": 5}, "NULL", r#"{"a": 5}"#),
        (doc! {"_id": 1, "a": [{"b": 1}]}, "NULL", r#"{"a": [{"b": 1}]}"#),
        (doc! {"_id": 1, "a": {"b": 1, "c": {}}}, "1", r#"{"a": {"c": {}}}"#),
        (doc! {"_id": 1, "b": 1}, "NULL", r#"{"b": 1}"#),
    ] {
        assert_eq!(row(&m, document).unwrap(), ["1", column, rest]);
    }
    assert!(row(&m, doc! {"_id": 1, "a.b": 1, "a": {"b": 2}}).unwrap_err().contains("stands twice"));
    // The whole and a part of it: both have columns, and nothing is left.
    let m = mapping(&[("a", "jsonb"), ("a.b", "integer")]);
    assert_eq!(row(&m, doc! {"_id": 1, "a": {"b": 1, "c": 2}}).unwrap(), ["1", r#"{"b": 1, "c": 2}"#, "1", "NULL"]);
    assert_eq!(row(&m, doc! {"_id": 1, "a": "x"}).unwrap(), ["1", "\"x\"", "NULL", "NULL"]);
    // Three steps, one of them with a point in its name.
    let m = mapping(&[("a.b.c", "integer"), ("a.b.d.e", "integer")]);
    for document in [
        doc! {"_id": 1, "a": {"b": {"c": 1, "d": {"e": 2}}}},
        doc! {"_id": 1, "a.b": {"c": 1, "d.e": 2}},
        doc! {"_id": 1, "a.b.c": 1, "a": {"b.d": {"e": 2}}},
    ] {
        assert_eq!(row(&m, document).unwrap(), ["1", "1", "2", "NULL"]);
    }
    assert_eq!(
        row(&m, doc! {"_id": 1, "a": {"b": {"c": 1, "d": {"e": 2, "f": 3}}, "g": 4}}).unwrap()[3],
        r#"{"a": {"b": {"d": {"f": 3}}, "g": 4}}"#
    );
}

#[test]
fn given_a_wide_rule_when_mapped_then_every_field_finds_its_column() {
    let names: Vec<String> = (0..100).map(|i| format!("field{i:03}")).collect();
    for n in [5, 16, 17, 64, 100] {
        let fields: Vec<(&str, &str)> = names[..n].iter().map(|s| (s.as_str(), "integer")).collect();
        let m = mapping(&fields);
        let mut document = doc! {"_id": 1};
        for (i, name) in names[..n].iter().enumerate().rev() {
            document.insert(name, i as i32);
        }
        let got = row(&m, document).unwrap();
        let want: Vec<String> =
            std::iter::once("1".to_owned()).chain((0..n).map(|i| i.to_string())).chain(["NULL".to_owned()]).collect();
        assert_eq!(got, want);
    }
}

#[test]
fn given_a_typed_key_when_mapped_then_other_types_are_refused_and_it_leads_back() {
    let m = mapping(&[("_id", "objectid"), ("a", "text")]);
    assert_eq!(m.table().columns[0].type_name, "objectid");
    assert!(!m.table().columns[0].nullable);
    let id = bson::oid::ObjectId::parse_str("507f1f77bcf86cd799439011").unwrap();
    let bytes = doc! {"_id": id, "a": "x"}.to_vec().unwrap();
    let r = m.row(Doc::new(&bytes).unwrap()).unwrap();
    assert_eq!(shown(&r), ["507f1f77bcf86cd799439011", "x", "NULL"]);
    assert_eq!(m.filter(&r).unwrap(), doc! {"_id": id}.to_vec().unwrap());
    assert_eq!(row(&m, doc! {"_id": 1}).unwrap_err(), "field _id holds an int, and the rule says objectid");
    let value = Doc::new(&bytes).unwrap().get("_id").unwrap().unwrap();
    assert_eq!(shown(&m.key_row(&value).unwrap()), ["507f1f77bcf86cd799439011", "NULL", "NULL"]);
    // A part of the key may have a column as well.
    let m = mapping(&[("_id.region", "text")]);
    assert_eq!(row(&m, doc! {"_id": {"region": "x", "n": 1}}).unwrap(), [r#"{"region": "x", "n": 1}"#, "x", "NULL"]);
}

#[test]
fn given_a_misfit_when_refused_then_the_row_is_kept_and_the_message_has_no_value_but_the_key() {
    let m = mapping(&[("a", "integer")]);
    let bytes = doc! {"_id": 7, "a": "secret", "b": "x\0"}.to_vec().unwrap();
    let doc = Doc::new(&bytes).unwrap();
    let misfit = m.row(doc).unwrap_err();
    let refused = m.refused(TableId(3), Op::Insert, doc, &misfit);
    assert_eq!(refused.message, "_id 7: field a holds a string, and the rule says integer");
    assert_eq!(refused.row, r#"{"_id": 7, "a": "secret", "b": "x␀"}"#);
    assert_eq!(shown(&refused.key), ["7", "NULL", "NULL"]);
    let bytes = doc! {"_id": "x\0", "a": 1}.to_vec().unwrap();
    let doc = Doc::new(&bytes).unwrap();
    let misfit = m.row(doc).unwrap_err();
    assert_eq!(m.refused(TableId(3), Op::Insert, doc, &misfit).key.get(0), Datum::Text("\"x␀\"".as_bytes()));
}

#[test]
fn given_a_misfit_among_others_when_rendered_then_the_rows_around_it_are_whole() {
    let m = mapping(&[("a", "integer"), ("b", "text")]);
    let mut rows = RowsBuilder::with_capacity(3, 100);
    let documents =
        [doc! {"_id": 1, "a": 1, "b": "x"}, doc! {"_id": 2, "a": 2, "b": 5}, doc! {"_id": 3, "a": 3, "b": "z"}];
    let done: Vec<bool> =
        documents.iter().map(|d| m.render(Doc::new(&d.to_vec().unwrap()).unwrap(), &mut rows).is_ok()).collect();
    assert_eq!(done, [true, false, true]);
    let rows: Vec<Vec<String>> = rows.finish().unwrap().map(|r| shown(&r)).collect();
    assert_eq!(rows, [["1", "1", "x", "NULL"], ["3", "3", "z", "NULL"]]);
}

#[test]
fn given_a_choice_for_zeros_when_mapped_then_they_are_replaced_everywhere_but_in_keys() {
    let m = with(&[("a", "text")], Options { nul_text: NulText::Replace, ..Options::default() });
    assert_eq!(row(&m, doc! {"_id": 1, "a": "x\0", "b": "\0y"}).unwrap(), ["1", "x␀", "{\"b\": \"␀y\"}"]);
    assert!(row(&m, doc! {"_id": "x\0"}).is_err());
}

/// A target table whose columns have the types of these names; the first so many are the key.
fn target(name: &str, columns: &[(&str, &str)], key: usize) -> Table {
    let column = |(name, type_name): &(&str, &str)| {
        let (kind, data) = crate::transform::typename::named(type_name);
        made(name, type_name, kind, data, true).0
    };
    Table {
        name: TableName::new("public", name),
        columns: columns.iter().map(column).collect(),
        identity: RowIdentity::Key((0..key).collect()),
        ..mapping(&[]).table().clone()
    }
}

#[test]
fn given_lists_when_exploded_by_rules_then_their_texts_are_read() {
    use crate::transform::Compiled;
    use crate::transform::expr::Scratch;
    use crate::transform::rules::{Homes, Rule, RuleSet};
    use std::sync::Arc;

    let m = mapping(&[
        ("_id", "objectid"),
        ("address.city", "text"),
        ("tags", "text[]"),
        ("friends", "objectid[]"),
        ("items", "jsonb"),
        ("n", "integer"),
    ]);
    let rule: Rule = toml::from_str(
        r#"
from = "shop.users"
to = "users"
rename = { "address.city" = "city" }
drop = ["_id", "tags", "friends", "items"]
set = { id = "uuid5('6ba7b810-9dad-11d1-80b4-00c04fd430c8', _id)", legacy_id = "_id", twice = "n * 2" }
[[explode]]
path = "tags"
to = "tags"
set = { user_id = "parent._id", n = "position", tag = "item" }
[[explode]]
path = "friends"
to = "friends"
set = { user_id = "parent._id", friend_id = "uuid5('6ba7b810-9dad-11d1-80b4-00c04fd430c8', item)" }
[[explode]]
path = "items"
to = "items"
set = { user_id = "parent._id", sku = "item.sku", n = "item.n::integer", price = "(item->'unitPrice'->>'$numberDecimal')::numeric", at = "(item->'at'->>'$date')::timestamptz", ref = "(item->'ref'->>'$oid')", city = "item.address.city", whole = "item.w::numeric::bigint" }
"#,
    )
    .unwrap();
    let homes = Homes { source: "shop".into(), target: "public".into(), ..Homes::default() };
    let rules = RuleSet::new(&[rule], homes).unwrap();
    let tables = [
        target(
            "users",
            &[
                ("id", "uuid"),
                ("legacy_id", "text"),
                ("city", "text"),
                ("n", "integer"),
                ("twice", "integer"),
                ("rest", "jsonb"),
            ],
            1,
        ),
        target("tags", &[("user_id", "text"), ("n", "integer"), ("tag", "text")], 2),
        target("friends", &[("user_id", "text"), ("friend_id", "uuid")], 2),
        target(
            "items",
            &[
                ("user_id", "text"),
                ("sku", "text"),
                ("n", "integer"),
                ("price", "numeric"),
                ("at", "timestamptz"),
                ("ref", "text"),
                ("city", "text"),
                ("whole", "bigint"),
            ],
            2,
        ),
    ];
    let find = |name: &TableName| tables.iter().find(|t| t.name == *name).cloned().map(Arc::new);
    let source = Arc::new(m.table().clone());
    let compiled = Compiled::with_rules(&rules, &source, std::slice::from_ref(&source.name), &find)
        .unwrap_or_else(|e| panic!("{e} {:?}", e.hint_text()));
    let id = bson::oid::ObjectId::parse_str("507f1f77bcf86cd799439011").unwrap();
    let price: bson::Decimal128 = "9.50".parse().unwrap();
    let document = doc! {
        "_id": id,
        "address": { "city": "X" },
        "tags": ["a,b", "q\"\\", "", "NULL", Bson::Null],
        "friends": [id],
        "items": [
            { "sku": "x \"y\"", "n": 2, "unitPrice": price, "at": bson::DateTime::from_millis(1500), "ref": id, "address": { "city": "Y" }, "w": 7.0 },
            { "sku": null },
        ],
        "n": 21.0,
    };
    let bytes = document.to_vec().unwrap();
    let row = m.row(Doc::new(&bytes).unwrap()).unwrap();
    let mut scratch = Scratch::default();
    let made: Vec<(String, Vec<Vec<Option<String>>>)> = compiled
        .outputs
        .iter()
        .map(|output| {
            let mut rows = Vec::new();
            output.rows(&row, &mut scratch, &mut rows).unwrap();
            // By the target's names, in their order.
            let order: Vec<usize> = {
                let mut all: Vec<usize> = (0..output.target.columns.len()).collect();
                all.sort_by_key(|i| output.target.columns[*i].name.clone());
                all
            };
            let text = |d: Datum<'_>| match d {
                Datum::Text(t) => Some(String::from_utf8_lossy(t).into_owned()),
                _ => None,
            };
            (
                output.target.name.name.clone(),
                rows.iter().map(|r| order.iter().map(|i| text(r.get(*i))).collect()).collect(),
            )
        })
        .collect();
    let hex = "507f1f77bcf86cd799439011";
    let some = |values: &[&str]| values.iter().map(|v| (*v != "NULL!").then(|| (*v).to_owned())).collect::<Vec<_>>();
    let uuid = made[0].1[0][1].clone().unwrap();
    assert_eq!(made[0].1, [some(&["X", &uuid, hex, "21", "NULL!", "42"])]);
    assert_eq!(
        made[1].1,
        [["1", "a,b"], ["2", "q\"\\"], ["3", ""], ["4", "NULL"], ["5", "NULL!"]].map(|[n, tag]| some(&[n, tag, hex]))
    );
    // The same function over the same text: references meet.
    assert_eq!(made[2].1, [some(&[&uuid, hex])]);
    assert_eq!(
        made[3].1,
        [
            some(&["1970-01-01 00:00:01.5+00", "Y", "2", "9.50", hex, "x \"y\"", hex, "7"]),
            some(&["NULL!", "NULL!", "NULL!", "NULL!", "NULL!", "NULL!", hex, "NULL!"]),
        ]
    );
}

fn fields_of_everything() -> Mapping {
    mapping(&[
        ("a", "text"),
        ("b", "integer"),
        ("c", "double precision"),
        ("d", "jsonb"),
        ("e", "text[]"),
        ("aa", "timestamptz"),
        ("ab.a", "numeric"),
        ("ac", "boolean"),
        ("b.a", "objectid"),
        ("d.a", "uuid"),
        ("ba", "bytea"),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn given_any_document_when_mapped_whole_then_its_text_leads_back_to_it(document in arbitrary::document(), id in arbitrary::scalar()) {
        let mut document = document;
        document.insert("_id", id);
        let bytes = document.to_vec().unwrap();
        let doc = Doc::new(&bytes).unwrap();
        let row = whole(DocumentForm::Json).row(doc).unwrap();
        let Datum::Text(text) = row.get(1) else { panic!("no document") };
        let back = read::document(text).unwrap();
        prop_assert_eq!(ejson::shown(Doc::new(&back).unwrap()), ejson::shown(doc));
    }

    /// What fits goes into columns, and nothing of what does not is lost: rest and columns have every field.
    #[test]
    fn given_any_document_when_mapped_by_fields_then_every_field_is_in_a_column_or_in_the_rest(document in arbitrary::document()) {
        let mut document = document;
        document.insert("_id", 1);
        let bytes = document.to_vec().unwrap();
        let doc = Doc::new(&bytes).unwrap();
        let m = fields_of_everything();
        if let Ok(row) = m.row(doc) {
            let last = m.table().columns.len() - 1;
            let rest = match row.get(last) {
                Datum::Text(t) => read::document(t).unwrap(),
                _ => bson::Document::new().to_vec().unwrap(),
            };
            let rest = Doc::new(&rest).unwrap();
            for name in document.keys() {
                let has_column = name == "_id" || m.table().column(name).is_some();
                let nested = matches!(name.as_str(), "ab") && matches!(document.get(name), Some(Bson::Document(d)) if d.len() == 1 && d.contains_key("a"));
                let literal = m.table().columns.iter().any(|c| c.name == *name);
                prop_assert_eq!(rest.get(name).unwrap().is_some(), !has_column && !nested && !literal, "{}", name);
            }
        }
    }

    #[test]
    fn given_damaged_documents_when_mapped_then_nothing_panics(
        document in arbitrary::document(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut document = document;
        document.insert("_id", "x");
        let mut bytes = document.to_vec().unwrap();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let length = bytes.len() as i32;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        *bytes.last_mut().unwrap() = 0;
        let doc = Doc::new(&bytes).unwrap();
        for m in [whole(DocumentForm::Json), whole(DocumentForm::Bson), fields_of_everything()] {
            if let Err(misfit) = m.row(doc) {
                let _ = m.refused(TableId(1), Op::Insert, doc, &misfit);
            }
        }
    }

    #[test]
    fn given_any_key_when_mapped_then_the_filter_finds_the_same(id in arbitrary::scalar()) {
        let bytes = doc! {"_id": id}.to_vec().unwrap();
        let value = Doc::new(&bytes).unwrap().get("_id").unwrap().unwrap();
        for m in [whole(DocumentForm::Json), mapping(&[("a", "text")])] {
            let key = m.key_row(&value).unwrap();
            let filter = m.filter(&key).unwrap();
            let again = Doc::new(&filter).unwrap().get("_id").unwrap().unwrap();
            prop_assert_eq!(shown(&m.key_row(&again).unwrap()), shown(&key));
        }
    }
}
