//! Cases of `adopt.rs`.

use super::*;
use crate::definition::{DataType, KeyColumn};

fn column(name: &str, data: DataType) -> ColumnDef {
    ColumnDef {
        name: name.into(),
        data,
        type_name: "as the source says".into(),
        nullable: true,
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

fn table(name: &str, columns: Vec<ColumnDef>, primary: &[&str]) -> TableDef {
    TableDef {
        name: TableName::new("public", name),
        columns,
        primary_key: key(primary),
        indexes: Vec::new(),
        foreign_keys: Vec::new(),
        checks: Vec::new(),
        comment: None,
        left_behind: Vec::new(),
    }
}

fn bigint() -> DataType {
    DataType::Int { bits: 64, unsigned: false, truth: false }
}

fn text() -> DataType {
    DataType::Text { bytes: None }
}

fn made(tables: Vec<TableDef>) -> Result<SchemaScript> {
    let settings = Settings { flavour: Flavour::Mysql, collation: "utf8mb4_0900_ai_ci".into(), lower_case: true };
    let homes = Homes { source: "public".into(), target: "shop".into(), ..Homes::default() };
    let script = SchemaScript { dialect: "postgres".into(), tables, ..SchemaScript::default() };
    adopt(script, "postgres", &settings, &homes)
}

fn statements(script: &SchemaScript) -> Vec<&str> {
    script.objects.iter().map(|o| o.sql.as_str()).collect()
}

#[test]
fn given_a_table_when_adopted_then_its_key_comes_with_it_and_indexes_after_its_rows() {
    let mut id = column("id", bigint());
    id.numbered = true;
    let mut at = column("at", DataType::TimestampTz { fraction: 6 });
    (at.default, at.nullable) = (DefaultValue::Now { on_update: false }, false);
    let mut name = column("name", DataType::Varchar { length: 50 });
    name.comment = Some("it's".into());
    let mut t = table("t", vec![id, name, at, column("body", text())], &["id"]);
    t.indexes = vec![index("by_name", &["name"], true), index("by_body", &["body"], false)];
    let script = made(vec![t]).unwrap();
    assert_eq!(
        statements(&script),
        [
            "CREATE DATABASE IF NOT EXISTS `shop` CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci",
            "CREATE TABLE IF NOT EXISTS `shop`.`t` (`id` bigint NOT NULL AUTO_INCREMENT, `name` varchar(50) NULL COMMENT 'it''s', \
             `at` datetime(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)), `body` longtext NULL, PRIMARY KEY (`id`)) \
             ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE=utf8mb4_0900_ai_ci",
            "ALTER TABLE `shop`.`t` ADD UNIQUE KEY `by_name` (`name`)",
            "ALTER TABLE `shop`.`t` ADD KEY `by_body` (`body`(191))",
        ]
    );
    assert_eq!(script.objects[2].stage, Stage::TableCopied);
}

#[test]
fn given_text_in_keys_when_adopted_then_it_gets_as_much_as_the_key_has_room_for() {
    let mut t = table("t", vec![column("a", text()), column("b", text()), column("n", bigint())], &["a"]);
    t.indexes = vec![index("two", &["b", "n"], true)];
    let script = made(vec![t]).unwrap();
    let sql = &script.objects[1].sql;
    assert!(sql.contains("`a` varchar(768) NOT NULL") && sql.contains("`b` varchar(766)"), "{sql}");
    assert!(
        script.remarks.iter().any(|r| r.contains("column a") && r.contains("768 characters")),
        "{:?}",
        script.remarks
    );
}

#[test]
fn given_what_mysql_has_not_when_adopted_then_it_is_left_out_and_named() {
    let mut t = table("t", vec![column("id", bigint()), column("v", text())], &["id"]);
    t.indexes = vec![
        IndexDef { peculiar: Some("WHERE v IS NOT NULL".into()), ..index("part", &["v"], true) },
        IndexDef { method: Some("gin".into()), ..index("words", &["v"], false) },
    ];
    t.checks = vec![("positive".into(), "id > 0".into())];
    t.left_behind = vec!["trigger stamp".into()];
    let mut computed = column("g", text());
    (computed.generated, computed.travels) = (Some("lower(v)".into()), false);
    t.columns.push(computed);
    let mut odd = column("x", bigint());
    odd.default = DefaultValue::Expression("random()".into());
    t.columns.push(odd);
    let script = made(vec![t]).unwrap();
    assert_eq!(script.objects.len(), 2, "{:?}", statements(&script));
    for word in
        ["UNIQUE index part", "index words", "check positive", "trigger stamp", "column g", "default of column x"]
    {
        assert!(script.remarks.iter().any(|r| r.contains(word)), "{word}: {:?}", script.remarks);
    }
}

#[test]
fn given_foreign_keys_when_adopted_then_types_agree_and_names_are_one_a_database() {
    let parent = table("p", vec![column("id", bigint())], &["id"]);
    let child = |name: &str, data: DataType| {
        let mut t = table(name, vec![column("id", bigint()), column("p_id", data)], &["id"]);
        t.foreign_keys = vec![ForeignKeyDef {
            name: "to_p".into(),
            columns: vec!["p_id".into()],
            references: TableName::new("public", "p"),
            referenced: vec!["id".into()],
            on_delete: ForeignAction::Cascade,
            on_update: ForeignAction::NoAction,
        }];
        t
    };
    let int = DataType::Int { bits: 32, unsigned: false, truth: false };
    let script = made(vec![parent, child("a", bigint()), child("b", bigint()), child("c", int)]).unwrap();
    let keys: Vec<&str> =
        script.objects.iter().filter(|o| o.stage == Stage::Consistent).map(|o| o.sql.as_str()).collect();
    assert_eq!(
        keys,
        [
            "ALTER TABLE `shop`.`a` ADD CONSTRAINT `to_p` FOREIGN KEY (`p_id`) REFERENCES `shop`.`p` (`id`) ON DELETE CASCADE",
            "ALTER TABLE `shop`.`b` ADD CONSTRAINT `b_to_p` FOREIGN KEY (`p_id`) REFERENCES `shop`.`p` (`id`) ON DELETE CASCADE",
        ]
    );
    assert!(
        script.remarks.iter().any(|r| r.contains("public.c: foreign key to_p is left out")),
        "{:?}",
        script.remarks
    );
}

#[test]
fn given_tables_that_fall_together_when_adopted_then_it_is_refused() {
    let both = vec![
        table("Users", vec![column("id", bigint())], &["id"]),
        table("users", vec![column("id", bigint())], &["id"]),
    ];
    let e = made(both).unwrap_err();
    assert!(e.message().contains("would be one table"), "{e}");
    let wide = table(
        "w",
        (0..9).map(|i| column(&format!("c{i}"), DataType::Varchar { length: 400 })).collect(),
        &["c0", "c1", "c2"],
    );
    assert!(made(vec![wide]).unwrap_err().message().contains("primary key cannot be made"));
}

#[test]
fn given_a_row_that_is_too_long_when_adopted_then_its_longest_texts_lie_outside() {
    let t = table("t", (0..5).map(|i| column(&format!("c{i}"), DataType::Varchar { length: 5000 + i })).collect(), &[]);
    let script = made(vec![t]).unwrap();
    let sql = &script.objects[1].sql;
    assert!(sql.contains("`c4` text") && sql.contains("`c0` varchar(5000)"), "{sql}");
}
