//! Cases of `statements.rs`.

use super::*;
use crate::schema::{Column, Kind, RowIdentity, TableId, TableName};

fn shape(flavour: Flavour, columns: &[(&str, &str, Option<&str>)], key: &[usize]) -> Shape {
    let columns = columns
        .iter()
        .enumerate()
        .map(|(i, (name, type_name, collation))| Column {
            name: (*name).into(),
            number: i as i32 + 1,
            type_name: (*type_name).into(),
            kind: Kind::Other,
            data: Default::default(),
            nullable: true,
            identity: None,
            default: None,
            collation: collation.map(Into::into),
            portable_binary: false,
        })
        .collect();
    let table = Table {
        id: TableId(0),
        name: TableName::new("d", "t"),
        columns,
        generated: Vec::new(),
        identity: if key.is_empty() { RowIdentity::AllColumns } else { RowIdentity::Key(key.to_vec()) },
        full_old_rows: false,
        full_old_rows_by: String::new(),
        has_secondary_unique: false,
        partitioned: false,
        estimated_rows: 0,
        bytes: 0,
    };
    Shape::new(&Arc::new(table), flavour)
}

fn row(fields: &[Option<&str>]) -> Row {
    Row::from_texts(fields.iter().copied())
}

fn texts(statements: Vec<Statement>) -> Vec<String> {
    statements.into_iter().map(|s| String::from_utf8(s.sql).unwrap()).collect()
}

const LIMITS: Limits = Limits { rows: 2, bytes: 1 << 20 };
const PLAIN: &[(&str, &str, Option<&str>)] =
    &[("id", "bigint", None), ("name", "varchar(20)", Some("utf8mb4_general_ci")), ("raw", "blob", None)];

#[test]
fn given_rows_when_inserted_then_statements_hold_as_many_as_permitted() {
    let s = shape(Flavour::Mysql, PLAIN, &[0]);
    let rows = [
        row(&[Some("1"), Some("it's"), Some("\\x00ff")]),
        row(&[Some("2"), None, None]),
        row(&[Some("3"), None, None]),
    ];
    let rows: Vec<&Row> = rows.iter().collect();
    assert_eq!(
        texts(s.insert(&rows, LIMITS).unwrap()),
        [
            "INSERT INTO `d`.`t` (`id`, `name`, `raw`) VALUES (1,'it''s',x'00ff'),(2,NULL,NULL)",
            "INSERT INTO `d`.`t` (`id`, `name`, `raw`) VALUES (3,NULL,NULL)",
        ]
    );
}

#[test]
fn given_rows_when_updated_and_deleted_then_they_are_listed_and_joined_by_key() {
    let r = row(&[Some("1"), Some("a"), None]);
    let my = shape(Flavour::Mysql, PLAIN, &[0]);
    assert_eq!(
        texts(my.update(&[0, 1, 2], &[&r], LIMITS, "").unwrap()),
        [
            "UPDATE (VALUES ROW(1,'a',NULL)) AS v (c0,c1,c2) STRAIGHT_JOIN `d`.`t` AS t ON t.`id` = v.c0 SET t.`name` = v.c1, t.`raw` = v.c2"
        ]
    );
    let maria = shape(Flavour::Mariadb, PLAIN, &[0]);
    assert_eq!(
        texts(maria.delete(&[&r], LIMITS, "").unwrap()),
        [
            "DELETE t FROM (WITH v (c0) AS (VALUES (1)) SELECT * FROM v) AS v STRAIGHT_JOIN `d`.`t` AS t ON t.`id` = v.c0"
        ]
    );
}

#[test]
fn given_keys_of_other_types_than_numbers_when_joined_then_the_index_can_be_used() {
    let columns: &[(&str, &str, Option<&str>)] =
        &[("a", "varchar(20)", Some("utf8mb4_bin")), ("b", "datetime(6)", None), ("c", "char(36)", Some("ascii_bin"))];
    let s = shape(Flavour::Mysql, columns, &[0, 1, 2]);
    assert_eq!(
        s.key_join(),
        "t.`a` = v.c0 COLLATE utf8mb4_bin AND t.`b` = CAST(v.c1 AS DATETIME(6)) AND t.`c` = CONVERT(v.c2 USING ascii) COLLATE ascii_bin"
    );
}

#[test]
fn given_a_table_without_key_when_a_row_is_deleted_then_every_column_is_compared_to_the_byte() {
    let columns: &[(&str, &str, Option<&str>)] =
        &[("n", "int", None), ("t", "text", None), ("f", "float", None), ("j", "json", None)];
    let s = shape(Flavour::Mysql, columns, &[]);
    let sql = s.delete_whole_row(&row(&[Some("1"), Some("a "), Some("1.5"), None])).unwrap();
    assert_eq!(
        String::from_utf8(sql).unwrap(),
        "DELETE FROM `d`.`t` WHERE `n` <=> 1 AND CONVERT(`t` USING utf8mb4) COLLATE utf8mb4_0900_bin <=> 'a ' \
         AND `f` <=> CAST(1.5e0 AS FLOAT) AND `j` IS NULL LIMIT 1"
    );
}

#[test]
fn given_a_value_that_does_not_fit_when_written_then_table_key_and_column_are_named_and_the_value_is_not() {
    let s = shape(Flavour::Mysql, PLAIN, &[0]);
    let r = row(&[Some("7"), Some("a secret text that is too long"), None]);
    let e = s.insert(&[&r], LIMITS).unwrap_err();
    assert!(e.message().contains("d.t: column name of the row id=7") && !e.message().contains("secret"), "{e}");
    assert_eq!(e.code(), Some("switchyard:value"));
}

#[test]
fn given_json_when_loaded_then_it_is_said_to_be_utf_8() {
    let s = shape(Flavour::Mysql, &[("id", "int", None), ("j", "json", None)], &[0]);
    let sql = s.load("`d`.`t`");
    assert!(
        sql.contains("CHARACTER SET binary") && sql.ends_with("(`id`, @j1) SET `j` = CONVERT(@j1 USING utf8mb4)"),
        "{sql}"
    );
}
