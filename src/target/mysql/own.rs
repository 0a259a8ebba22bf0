//! Statements of a server of the same flavour, as it prints them, with the names that tables have here. Pure.

use std::collections::BTreeSet;

use crate::mywire::quote::{qualified, quoted};
use crate::schema::{SchemaObject, SchemaScript, Stage};
use crate::transform::rules::Homes;

/// What the clauses of an `ALTER TABLE` that makes keys begin with.
const CLAUSES: [&str; 4] = ["ADD KEY `", "ADD UNIQUE KEY `", "ADD FULLTEXT KEY `", "ADD SPATIAL KEY `"];

/// The script with every table in its home, made repeatable: one object a key.
pub fn adopt(script: SchemaScript, homes: &Homes) -> SchemaScript {
    let mut objects: Vec<SchemaObject> = Vec::new();
    let databases: BTreeSet<String> =
        script.objects.iter().filter_map(|o| o.table.as_ref()).map(|t| homes.table(t).schema).collect();
    for d in databases {
        let sql = format!("CREATE DATABASE IF NOT EXISTS {}", quoted(&d));
        let (kind, stage) = ("DATABASE".to_owned(), Stage::BeforeCopy);
        objects.push(SchemaObject { kind, schema: String::new(), name: d, table: None, sql, stage });
    }
    for o in script.objects {
        let Some(table) = &o.table else {
            objects.push(o);
            continue;
        };
        let (there, home) = (qualified(table), homes.table(table));
        let here = qualified(&home);
        let object = |name: String, sql: String| SchemaObject { schema: home.schema.clone(), name, sql, ..o.clone() };
        let head = format!("ALTER TABLE {there} ");
        if let Some(rest) = o.sql.strip_prefix(&format!("CREATE TABLE {} ", quoted(&table.name))) {
            objects.push(object(home.name.clone(), format!("CREATE TABLE IF NOT EXISTS {here} {rest}")));
        } else if let (true, Some(rest)) = (o.kind == "INDEX", o.sql.strip_prefix(&head)) {
            for clause in clauses(rest) {
                let name = clause.split('`').nth(1).unwrap_or("").to_owned();
                objects.push(object(name, format!("ALTER TABLE {here} {clause}")));
            }
        } else if let Some(rest) = o.sql.strip_prefix(&head) {
            objects.push(object(o.name.clone(), format!("ALTER TABLE {here} {rest}")));
        } else {
            objects.push(o);
        }
    }
    SchemaScript { objects, dialect: "mysql".into(), ..script }
}

/// The clauses of `ADD KEY …, ADD UNIQUE KEY …`.
fn clauses(rest: &str) -> Vec<&str> {
    let mut starts: Vec<usize> = CLAUSES
        .iter()
        .flat_map(|c| rest.match_indices(c).map(|(at, _)| at))
        .filter(|&at| at == 0 || rest[..at].ends_with(", "))
        .collect();
    starts.sort_unstable();
    let ends = starts.iter().skip(1).map(|at| at - 2).chain([rest.len()]).collect::<Vec<_>>();
    starts.iter().zip(ends).map(|(&from, to)| &rest[from..to]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::TableName;

    #[test]
    fn given_what_a_server_prints_when_adopted_then_tables_are_at_home_and_keys_stand_alone() {
        let object = |kind: &str, sql: &str, stage: Stage| SchemaObject {
            kind: kind.into(),
            schema: "s".into(),
            name: "a".into(),
            table: Some(TableName::new("s", "a")),
            sql: sql.into(),
            stage,
        };
        let script = SchemaScript {
            dialect: "mysql".into(),
            objects: vec![
                object("TABLE", "CREATE TABLE `a` (\n  `id` int\n)", Stage::BeforeCopy),
                object(
                    "INDEX",
                    "ALTER TABLE `s`.`a` ADD UNIQUE KEY `u` (`b`,`c`), ADD KEY `k` (`b`)",
                    Stage::TableCopied,
                ),
                object(
                    "FK CONSTRAINT",
                    "ALTER TABLE `s`.`a` ADD CONSTRAINT `f` FOREIGN KEY (`b`) REFERENCES `c` (`id`)",
                    Stage::Consistent,
                ),
            ],
            ..SchemaScript::default()
        };
        let homes = Homes { source: "s".into(), target: "t".into(), ..Homes::default() };
        let made: Vec<(String, String)> = adopt(script, &homes).objects.into_iter().map(|o| (o.name, o.sql)).collect();
        let made: Vec<(&str, &str)> = made.iter().map(|(n, s)| (n.as_str(), s.as_str())).collect();
        assert_eq!(
            made,
            [
                ("t", "CREATE DATABASE IF NOT EXISTS `t`"),
                ("a", "CREATE TABLE IF NOT EXISTS `t`.`a` (\n  `id` int\n)"),
                ("u", "ALTER TABLE `t`.`a` ADD UNIQUE KEY `u` (`b`,`c`)"),
                ("k", "ALTER TABLE `t`.`a` ADD KEY `k` (`b`)"),
                ("a", "ALTER TABLE `t`.`a` ADD CONSTRAINT `f` FOREIGN KEY (`b`) REFERENCES `c` (`id`)"),
            ]
        );
    }
}
