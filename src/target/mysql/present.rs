//! What of a schema script the target has, and what its tables have beyond it: by name.

use std::collections::{HashMap, HashSet};

use super::catalog::{names_in, same_name, text};
use super::forms::{Form, form};
use super::session::Session;
use crate::error::Result;
use crate::exchange::SchemaDifference;
use crate::schema::{Column, Kind, SchemaObject, SchemaScript, TableName};

/// The key that every primary key is called by.
const PRIMARY: &str = "PRIMARY";

/// Table, kind and name of an object; names of keys do not tell upper case from lower case here.
type Key = (TableName, &'static str, String);

fn key(table: &TableName, kind: &'static str, name: &str) -> Key {
    (table.clone(), kind, name.to_lowercase())
}

/// Compares the objects of these tables of the script, by the target's names.
pub async fn differences(
    session: &mut Session,
    script: &SchemaScript,
    tables: &[TableName],
) -> Result<Vec<SchemaDifference>> {
    let there = objects(session, tables).await?;
    let mut out = Vec::new();
    let mut tell = |table: &TableName, what: &str, kind: &str, name: &str| {
        let (kind, name) = (format!("{what}_{kind}"), name.to_owned());
        out.push(SchemaDifference { table: table.to_string(), kind, name });
    };
    let mut expected: HashSet<Key> = HashSet::new();
    for object in &script.objects {
        for (table, kind, name) in expect(object, tables) {
            let key = key(table, kind, &name);
            if !there.contains_key(&key) && !expected.contains(&key) {
                tell(table, "missing", kind, &name);
            }
            expected.insert(key);
        }
    }
    for (key, name) in &there {
        let (table, kind, lower) = key;
        let of_foreign_key = || {
            let same = (table.clone(), "foreign_key", lower.clone());
            // A foreign key without an index gets one of its own name.
            *kind == "index" && (there.contains_key(&same) || expected.contains(&same))
        };
        // Which checks a column's type brings along differs from version to version.
        if *kind != "constraint" && !expected.contains(key) && !of_foreign_key() {
            tell(table, "extra", kind, name);
        }
    }
    out.sort();
    out.dedup();
    Ok(out)
}

/// Tables, indexes, foreign keys, checks and triggers that are there, with their names as they are printed.
async fn objects(session: &mut Session, tables: &[TableName]) -> Result<HashMap<Key, String>> {
    let mut found = HashMap::new();
    if tables.is_empty() {
        return Ok(found);
    }
    let list = names_in(tables);
    for (kind, what) in [
        (
            "table",
            "table_schema, table_name, table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE' AND (table_schema, table_name)",
        ),
        (
            "index",
            "table_schema, table_name, index_name FROM information_schema.statistics WHERE (table_schema, table_name)",
        ),
        (
            "foreign_key",
            "constraint_schema, table_name, constraint_name FROM information_schema.referential_constraints WHERE (constraint_schema, table_name)",
        ),
        (
            "constraint",
            "table_schema, table_name, constraint_name FROM information_schema.table_constraints WHERE constraint_type = 'CHECK' AND (table_schema, table_name)",
        ),
        (
            "trigger",
            "event_object_schema, event_object_table, trigger_name FROM information_schema.triggers WHERE (event_object_schema, event_object_table)",
        ),
    ] {
        let sql = format!("SELECT DISTINCT {what} IN ({list})");
        for row in session.rows("listing what belongs to the target's tables", sql).await? {
            let name = TableName::new(text(&row, 0), text(&row, 1));
            // A server that keeps names in lower case prints them so.
            let asked = tables.iter().find(|t| **t == name).or_else(|| tables.iter().find(|t| same_name(t, &name)));
            let Some(asked) = asked else { continue };
            let shown = if kind == "table" { &asked.name } else { text(&row, 2) };
            found.insert(key(asked, kind, shown), shown.to_owned());
        }
    }
    Ok(found)
}

/// The tables, kinds and names of what an object makes.
fn expect<'a>(o: &SchemaObject, tables: &'a [TableName]) -> Vec<(&'a TableName, &'static str, String)> {
    // Tables are known by the source's names, which are the target's unless the database is another one.
    let named = |name: &str| tables.iter().find(|t| t.schema == o.schema && t.name == name);
    let of_table = || named(&o.table.as_ref()?.name);
    let one = |kind| of_table().map(|t| (t, kind, o.name.clone())).into_iter().collect();
    match o.kind.as_str() {
        "TABLE" => {
            let Some(table) = named(&o.name) else { return Vec::new() };
            let mut out = vec![(table, "table", table.name.clone())];
            if outside_quotes(&o.sql).contains("PRIMARY KEY (") {
                out.push((table, "index", PRIMARY.to_owned()));
            }
            // A counter's key comes with its table.
            out.extend(names_behind(&o.sql, "KEY ", " (").into_iter().map(|n| (table, "index", n)));
            out.extend(names_behind(&o.sql, "CONSTRAINT ", " CHECK (").into_iter().map(|n| (table, "constraint", n)));
            out
        }
        "INDEX" => one("index"),
        "FK CONSTRAINT" => one("foreign_key"),
        _ => Vec::new(),
    }
}

/// A statement without what stands between quotes and backquotes.
fn outside_quotes(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut inside: Option<char> = None;
    let mut chars = sql.chars();
    while let Some(c) = chars.next() {
        match inside {
            Some('\'') if c == '\\' => drop(chars.next()),
            Some(quote) if c == quote => inside = None,
            Some(_) => {}
            None if matches!(c, '\'' | '`') => inside = Some(c),
            None => out.push(c),
        }
    }
    out
}

/// The names in backquotes between two texts of a statement.
fn names_behind(sql: &str, before: &str, after: &str) -> Vec<String> {
    let before_name = format!("{before}`");
    let starts = sql.match_indices(&before_name).map(|(at, found)| at + found.len());
    let mut out: Vec<String> = Vec::new();
    for start in starts {
        let Some(rest) = sql.get(start..) else { continue };
        let mut name = String::new();
        let mut chars = rest.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            if c != '`' {
                name.push(c);
            } else if chars.next_if(|(_, next)| *next == '`').is_some() {
                name.push('`');
            } else {
                let ends = rest.get(at + 1..).is_some_and(|behind| behind.starts_with(after));
                // Not within a comment or default.
                if ends && outside_quotes(sql.get(..start - 1).unwrap_or("")).ends_with(before) {
                    out.push(name);
                }
                break;
            }
        }
    }
    out
}

/// Whether a column has the wanted type, however each server prints it.
pub fn is_as_wanted(wanted: &Column, there: &Column) -> bool {
    let (w, t) = (form(&wanted.type_name), form(&there.type_name));
    let word = |c: &Column| c.type_name.split(['(', ' ']).next().unwrap_or("").to_lowercase();
    let json = |c: &Column, f: &Form| c.kind == Kind::Json || *f == Form::Json;
    let same = match (json(wanted, &w), json(there, &t)) {
        // One flavour has a type, the other a text with a check.
        (true, true) => true,
        (false, false) => w == t && (w != Form::Other || word(wanted) == word(there)),
        _ => false,
    };
    same && wanted.nullable == there.nullable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Stage;

    #[test]
    fn given_statements_when_read_then_what_they_make_is_known_and_comments_make_nothing() {
        let sql = "CREATE TABLE IF NOT EXISTS `s`.`t` (`id` int NOT NULL AUTO_INCREMENT, `a` int DEFAULT 'PRIMARY KEY (' COMMENT 'KEY `no` (', \
                   KEY `it``s` (`id`), UNIQUE KEY `u` (`a`), CONSTRAINT `c` CHECK ((`a` > 0)))";
        let tables = [TableName::new("s", "t")];
        let object = SchemaObject {
            kind: "TABLE".into(),
            schema: "s".into(),
            name: "t".into(),
            table: Some(TableName::new("x", "t")),
            sql: sql.into(),
            stage: Stage::BeforeCopy,
        };
        let made = |o: &SchemaObject| {
            expect(o, &tables).iter().map(|(_, kind, name)| format!("{kind} {name}")).collect::<Vec<_>>()
        };
        assert_eq!(made(&object), ["table t", "index it`s", "index u", "constraint c"]);
        let keyed = SchemaObject { sql: "CREATE TABLE `t` (`id` int, PRIMARY KEY (`id`))".into(), ..object.clone() };
        assert_eq!(made(&keyed), ["table t", "index PRIMARY"]);
        let foreign = SchemaObject { kind: "FK CONSTRAINT".into(), name: "f".into(), ..object.clone() };
        assert_eq!(made(&foreign), ["foreign_key f"]);
        assert!(made(&SchemaObject { schema: "elsewhere".into(), ..foreign }).is_empty());
    }
}
