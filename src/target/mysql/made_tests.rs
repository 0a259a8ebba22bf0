use std::sync::Arc;

use super::*;
use crate::definition::{ColumnDef, DataType, DefaultValue, TableDef};
use crate::schema::{RowIdentity, TableId};
use crate::transform::rules::{Rule, RuleSet};

fn column(name: &str, type_name: &str, kind: Kind, data: DataType) -> Column {
    Column {
        name: name.into(),
        number: 0,
        type_name: type_name.into(),
        kind,
        data,
        nullable: true,
        identity: None,
        default: None,
        collation: None,
        portable_binary: false,
    }
}

fn source(schema: &str, columns: Vec<Column>) -> Arc<Table> {
    Arc::new(Table {
        id: TableId(1),
        name: TableName::new(schema, "a"),
        columns,
        generated: vec![],
        identity: RowIdentity::Key(vec![0]),
        full_old_rows: true,
        full_old_rows_by: String::new(),
        has_secondary_unique: false,
        partitioned: false,
        estimated_rows: 0,
        bytes: 0,
    })
}

fn made(dialect: &str, rule: &str, a: &Arc<Table>) -> (MadeTable, SchemaScript) {
    let homes = Homes { source: a.name.schema.clone(), target: "store".into(), ..Homes::default() };
    let rule: Rule = toml::from_str(rule).unwrap();
    let set = RuleSet::new(&[rule], homes.clone()).unwrap();
    let derived = crate::transform::made::derive(&set, std::slice::from_ref(a), &|_| None);
    assert!(derived.errors.is_empty(), "{:?}", derived.errors);
    let def = |c: &Column| ColumnDef {
        name: c.name.clone(),
        data: c.data.clone(),
        type_name: c.type_name.clone(),
        nullable: c.nullable,
        default: DefaultValue::None,
        numbered: false,
        generated: None,
        travels: true,
        comment: None,
    };
    let defs = [TableDef {
        name: a.name.clone(),
        columns: a.columns.iter().map(def).collect(),
        primary_key: vec![],
        indexes: vec![],
        foreign_keys: vec![],
        checks: vec![],
        comment: None,
        left_behind: vec![],
    }];
    let made = derived.tables[0].clone();
    let made_def = made.def(&defs);
    let schema =
        MadeSchema { dialect: dialect.into(), made: vec![(made.clone(), made_def)], beside: vec![], there: vec![] };
    let settings = settings();
    let script = adopt(&schema, &settings, &homes).unwrap();
    (made, script)
}

fn settings() -> Settings {
    Settings { flavour: Flavour::Mysql, collation: "utf8mb4_0900_ai_ci".into(), lower_case: false }
}

fn create(script: &SchemaScript) -> &str {
    let sql = &script.objects.iter().find(|o| o.kind == "TABLE").unwrap().sql;
    sql.split_once(" ENGINE=").unwrap().0
}

#[test]
fn given_a_source_of_this_flavour_when_its_rules_make_tables_then_what_passes_is_as_it_was() {
    let mut name = column("name", "varchar(20)", Kind::Text, DataType::Varchar { length: 20 });
    name.collation = Some("utf8mb4_bin".into());
    let a = source(
        "shop",
        vec![column("id", "int unsigned", Kind::Int8, DataType::Int { bits: 32, unsigned: true, truth: false }), name],
    );
    let rule = "from = \"shop.a\"\nto = \"b\"\nset = { upper = \"upper(name)\", n = \"id\" }\ntypes = { upper = \"varchar(20)\" }";
    let (made_table, script) = made("mysql", rule, &a);
    assert_eq!(
        create(&script),
        "CREATE TABLE IF NOT EXISTS `store`.`b` (`id` int unsigned NOT NULL, `name` varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL, \
         `n` int unsigned NULL, `upper` varchar(20) NULL, PRIMARY KEY (`id`))"
    );
    assert_eq!(script.objects[1].table, Some(TableName::new("store", "b")));
    // Of the other flavour only what both have in common.
    let (_, other) = made("mariadb", rule, &a);
    assert!(create(&other).contains("`name` varchar(20) NULL"), "{}", create(&other));
    assert_eq!(adopt_table("mysql", &made_table, &settings()).columns[3].type_name, "varchar(20)");
}

#[test]
fn given_a_source_of_another_engine_when_its_rules_make_tables_then_keys_have_room() {
    let text = DataType::Text { bytes: None };
    let a = source(
        "public",
        vec![column("code", "text", Kind::Text, text), column("flag", "boolean", Kind::Bool, DataType::Bool)],
    );
    let rule = "from = \"public.a\"\nto = \"b\"\nset = { not_flag = \"not flag\", at = \"now_at\" }\nrename = { code = \"k\" }";
    let (_, script) = made("postgres", &rule.replace(", at = \"now_at\"", ""), &a);
    assert_eq!(
        create(&script),
        "CREATE TABLE IF NOT EXISTS `store`.`b` (`k` varchar(768) NOT NULL, `flag` tinyint(1) NULL, `not_flag` tinyint(1) NULL, PRIMARY KEY (`k`))"
    );
    assert!(
        script.remarks.iter().any(|r| r.starts_with("store.b: column k (text) stands in a key")),
        "{:?}",
        script.remarks
    );
}
