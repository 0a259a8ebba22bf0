//! Cases of `ddl.rs`.

use super::*;
use crate::schema::{Identity, Kind, RowIdentity, TableId};

fn column(number: i32, name: &str, type_name: &str) -> Column {
    Column {
        name: name.into(),
        number,
        type_name: type_name.into(),
        kind: Kind::Other,
        data: Default::default(),
        nullable: true,
        identity: None::<Identity>,
        default: None,
        collation: None,
        portable_binary: false,
    }
}

fn table(columns: &[Column]) -> Table {
    Table {
        id: TableId(0),
        name: TableName::new("d", "t"),
        columns: columns.to_vec(),
        generated: Vec::new(),
        identity: RowIdentity::Key(vec![0]),
        full_old_rows: false,
        full_old_rows_by: String::new(),
        has_secondary_unique: false,
        partitioned: false,
        estimated_rows: 0,
        bytes: 0,
    }
}

fn alter(before: &[Column], after: &[Column], have: &[Column]) -> Result<Vec<String>, String> {
    plan(Some(&table(before)), &table(after), &table(have), &[], false).map(|s| s.alter)
}

#[test]
fn given_schema_changes_when_planned_then_safe_ones_become_clauses_and_others_stop() {
    let id = column(1, "id", "bigint");
    let a = column(2, "a", "varchar(20)");
    let with = |c: &Column| vec![id.clone(), c.clone()];
    let only = vec![id.clone()];
    assert_eq!(alter(&only, &with(&a), &only), Ok(vec!["ADD COLUMN `a` varchar(20) NULL".into()]));
    assert_eq!(alter(&only, &with(&a), &with(&a)), Ok(vec![]));
    assert_eq!(alter(&with(&a), &only, &with(&a)), Ok(vec!["DROP COLUMN `a`".into()]));
    assert_eq!(alter(&with(&a), &only, &only), Ok(vec![]));
    let renamed = column(2, "b", "varchar(20)");
    assert_eq!(alter(&with(&a), &with(&renamed), &with(&a)), Ok(vec!["RENAME COLUMN `a` TO `b`".into()]));
    let wider = column(2, "a", "varchar(40)");
    assert_eq!(alter(&with(&a), &with(&wider), &with(&a)), Ok(vec!["MODIFY COLUMN `a` varchar(40) NULL".into()]));
    assert_eq!(alter(&with(&a), &with(&wider), &with(&wider)), Ok(vec![]));
    assert!(alter(&with(&wider), &with(&a), &with(&wider)).is_err());
    let needed = Column { nullable: false, ..a.clone() };
    assert_eq!(alter(&with(&a), &with(&needed), &with(&a)), Ok(vec!["MODIFY COLUMN `a` varchar(20) NOT NULL".into()]));
    let defaulted = Column { default: Some(" DEFAULT 'x'".into()), ..a.clone() };
    assert_eq!(alter(&with(&a), &with(&defaulted), &with(&a)), Ok(vec!["ALTER COLUMN `a` SET DEFAULT 'x'".into()]));
}

#[test]
fn given_a_column_with_a_default_when_added_then_rows_that_are_there_get_the_value_of_that_moment() {
    let id = column(1, "id", "bigint");
    let n = Column { default: Some(" DEFAULT 5".into()), nullable: false, ..column(2, "n", "int") };
    let at = |default: &str| Column { default: Some(default.into()), ..n.clone() };
    let added = |n: &Column, value: &str| {
        let missing = [("n".to_owned(), value.to_owned())];
        plan(
            Some(&table(std::slice::from_ref(&id))),
            &table(&[id.clone(), n.clone()]),
            &table(std::slice::from_ref(&id)),
            &missing,
            false,
        )
        .map(|s| s.alter)
    };
    assert_eq!(added(&n, "5"), Ok(vec!["ADD COLUMN `n` int NOT NULL DEFAULT 5".into()]));
    assert_eq!(
        added(&at(" DEFAULT 7"), "5"),
        Ok(vec!["ADD COLUMN `n` int NOT NULL DEFAULT 5".into(), "MODIFY COLUMN `n` int NOT NULL DEFAULT 7".into()])
    );
    assert!(added(&n, "five").is_err());
}

#[test]
fn given_rows_that_were_rewritten_when_nothing_says_how_then_it_stops() {
    let id = column(1, "id", "bigint");
    let t = table(std::slice::from_ref(&id));
    assert!(plan(Some(&t), &t, &t, &[], true).is_err());
    assert!(plan(Some(&t), &t, &t, &[], false).is_ok());
}
