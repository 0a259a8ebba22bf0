//! The schema of the selected tables as statements: what the server itself prints, with secondary indexes and foreign keys
//! taken out, which are made later. Pure but for asking.

use mysql_async::Conn;

use super::catalog::Catalog;
use crate::error::{Error, Result};
use crate::mywire::quote::qualified;
use crate::mywire::{control, misprint};
use crate::schema::{SchemaObject, SchemaScript, Stage, TableName};

/// Asks for every table. `dialect` is the server's own.
///
/// # Errors
/// Of the connection.
pub async fn script(conn: &mut Conn, dialect: &str, catalog: &Catalog) -> Result<SchemaScript> {
    let mut script = SchemaScript {
        dialect: dialect.into(),
        made_by: "SHOW CREATE TABLE".into(),
        tables: catalog.tables.iter().map(|d| d.def.clone()).collect(),
        ..SchemaScript::default()
    };
    if !catalog.beside.is_empty() {
        script.remarks.push(format!("not brought to the target: {}", catalog.beside.join(", ")));
    }
    for d in &catalog.tables {
        let name = &d.table.name;
        let sql = format!("SHOW CREATE TABLE {}", qualified(name));
        let rows = control::rows(conn, "reading the source's schema", &sql).await?;
        let text = rows.into_iter().next().and_then(|mut r| r.pop().flatten());
        let Some(mut text) = text else {
            return Err(Error::retry(format!("{name}: the source's table was dropped just now")));
        };
        for m in catalog.mended.misprints.iter().filter(|m| m.table == *name) {
            text = misprint::mended(&text, &m.column, m.labels.as_deref(), m.default.as_deref());
        }
        script.objects.extend(objects(name, &text));
        for left in &d.def.left_behind {
            script.remarks.push(format!("{name}: {left} is not brought to the target"));
        }
    }
    Ok(script)
}

/// The statement's lines: keys other than the primary one become statements of their own.
pub fn objects(name: &TableName, statement: &str) -> Vec<SchemaObject> {
    let mut kept: Vec<&str> = Vec::new();
    let mut indexes: Vec<&str> = Vec::new();
    let mut foreign: Vec<&str> = Vec::new();
    let lines: Vec<&str> = statement.lines().collect();
    // An AUTO_INCREMENT column needs its index from the start; without a primary key on it, that is another one.
    let numbered: Option<String> = lines
        .iter()
        .find(|l| l.starts_with("  `") && l.contains(" AUTO_INCREMENT"))
        .and_then(|l| l.trim_start().strip_prefix('`')?.split('`').next().map(|c| format!("(`{c}`")));
    for line in &lines {
        let item = line.strip_prefix("  ").unwrap_or("");
        let is_key = ["KEY ", "UNIQUE KEY ", "FULLTEXT KEY ", "SPATIAL KEY "].iter().any(|k| item.starts_with(k));
        let for_number = numbered.as_ref().is_some_and(|n| item.contains(n.as_str()));
        if is_key && !for_number {
            indexes.push(item.trim_end_matches(','));
        } else if item.starts_with("CONSTRAINT ") && item.contains(" FOREIGN KEY ") {
            foreign.push(item.trim_end_matches(','));
        } else {
            kept.push(line);
        }
    }
    let mut table = String::new();
    for (i, line) in kept.iter().enumerate() {
        let last_item = kept.get(i + 1).is_some_and(|next| next.starts_with(')'));
        table.push_str(if last_item { line.trim_end_matches(',') } else { line });
        table.push('\n');
    }
    let object = |kind: &str, of: &str, sql: String, stage: Stage| SchemaObject {
        kind: kind.into(),
        schema: name.schema.clone(),
        name: of.into(),
        table: Some(name.clone()),
        sql,
        stage,
    };
    let mut out = vec![object("TABLE", &name.name, table, Stage::BeforeCopy)];
    let alter = |items: &[&str]| {
        let items: Vec<String> = items.iter().map(|i| format!("ADD {i}")).collect();
        format!("ALTER TABLE {} {}", qualified(name), items.join(", "))
    };
    if !indexes.is_empty() {
        out.push(object("INDEX", &name.name, alter(&indexes), Stage::TableCopied));
    }
    for key in foreign {
        let of = key.split('`').nth(1).unwrap_or(&name.name);
        out.push(object("FK CONSTRAINT", of, alter(&[key]), Stage::Consistent));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_printed_table_when_split_then_keys_come_later_and_commas_are_right() {
        let text = "CREATE TABLE `a` (\n  `id` int NOT NULL AUTO_INCREMENT,\n  `b` int DEFAULT NULL,\n  PRIMARY KEY (`id`),\n  \
                    UNIQUE KEY `u` (`b`),\n  KEY `k` (`b`,`id`),\n  CONSTRAINT `f` FOREIGN KEY (`b`) REFERENCES `c` (`id`)\n) ENGINE=InnoDB";
        let made = objects(&TableName::new("s", "a"), text);
        assert_eq!(
            made[0].sql,
            "CREATE TABLE `a` (\n  `id` int NOT NULL AUTO_INCREMENT,\n  `b` int DEFAULT NULL,\n  PRIMARY KEY (`id`)\n) ENGINE=InnoDB\n"
        );
        assert_eq!(made[1].sql, "ALTER TABLE `s`.`a` ADD UNIQUE KEY `u` (`b`), ADD KEY `k` (`b`,`id`)");
        assert_eq!(made[2].sql, "ALTER TABLE `s`.`a` ADD CONSTRAINT `f` FOREIGN KEY (`b`) REFERENCES `c` (`id`)");
        assert_eq!((made[1].stage, made[2].stage), (Stage::TableCopied, Stage::Consistent));
    }

    #[test]
    fn given_a_number_in_an_ordinary_key_when_split_then_that_key_stays() {
        let text = "CREATE TABLE `a` (\n  `x` int NOT NULL,\n  `n` int NOT NULL AUTO_INCREMENT,\n  PRIMARY KEY (`x`),\n  KEY `n` (`n`)\n)";
        assert_eq!(objects(&TableName::new("s", "a"), text).len(), 1);
    }
}
