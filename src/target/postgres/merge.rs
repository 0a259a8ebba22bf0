//! Statements for tables that several source tables write, and for rows that come and go together. Pure.
//!
//! A merge that skips notes the target's keys that it left out, by source table, in `switchyard.skipped`. Later changes
//! of a noted key are left out, too, so that a change of one table's row never reaches another table's. When the source
//! deletes the row, its note goes with it. Rows of a child table, which belong to a row that may have been left out, hold
//! that row's key: they are left out by the same notes, and never write any.

use super::statements as st;
use crate::schema::{Table, TableName};
use crate::transform::output::ParentKey;

/// The notes of one source table about one target table.
#[derive(Clone, Debug)]
pub struct Notes {
    name: String,
    source: String,
    target: String,
}

impl Notes {
    /// Those of migration `name`.
    pub fn new(name: &str, source: &TableName, target: &TableName) -> Notes {
        Notes {
            name: st::literal(name),
            source: st::literal(&source.to_string()),
            target: st::literal(&target.to_string()),
        }
    }

    fn matches(&self, key: &str) -> String {
        format!(
            "s.name = {} AND s.source = {} AND s.target = {} AND s.key = {key}",
            self.name, self.source, self.target
        )
    }

    /// ` AND …` for a statement over rows `t` of the table: no key that was left out.
    pub fn exclusion(&self, table: &Table) -> String {
        format!(" AND NOT EXISTS (SELECT FROM switchyard.skipped AS s WHERE {})", self.matches(&key_text(table, "t")))
    }

    /// ` AND …` for a statement over rows `t` of a child table: none of a parent that was left out.
    pub fn exclusion_of_items(&self, parent: &ParentKey, table: &Table) -> String {
        let of = |(c, type_name): &(usize, String)| {
            format!("t.{}::{type_name}", table.columns.get(*c).map_or_else(String::new, |c| st::quoted(&c.name)))
        };
        format!(" AND NOT EXISTS (SELECT FROM switchyard.skipped AS s WHERE {})", self.matches(&row_text(parent, of)))
    }

    /// Inserts rows of a child table, but for those of parents that were left out. After the parents' own insert.
    pub fn insert_items(&self, parent: &ParentKey, table: &Table) -> st::SetStatement {
        let mut s = st::insert(table, false);
        let of = |(c, type_name): &(usize, String)| {
            let own = table.columns.get(*c).map_or("text", |c| c.type_name.as_str());
            format!("d.c{c}::{own}::{type_name}")
        };
        let left_out = self.matches(&row_text(parent, of));
        s.sql.push_str(&format!(" WHERE NOT EXISTS (SELECT FROM switchyard.skipped AS s WHERE {left_out})"));
        s
    }

    /// Brings staged rows of a child table in, but for those of parents that were left out.
    pub fn load_items(&self, parent: &ParentKey, table: &Table, stage: &str) -> String {
        format!(
            "INSERT INTO {} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {stage} AS t WHERE true{}",
            st::qualified(&table.name),
            self.exclusion_of_items(parent, table),
            columns = columns(table),
        )
    }

    fn note(&self, keys: &str) -> String {
        format!(
            "INSERT INTO switchyard.skipped (name, source, target, key) SELECT {}, {}, {}, k.key FROM ({keys}) AS k ON CONFLICT DO NOTHING",
            self.name, self.source, self.target
        )
    }

    /// Inserts rows whose key is not there, and notes the others.
    pub fn insert(&self, table: &Table) -> st::SetStatement {
        let mut s = st::insert(table, false);
        let of_row = parameter_key(table);
        let from = s.sql.find(" FROM unnest(").map_or("", |at| &s.sql[at..]).to_owned();
        s.sql = format!(
            "WITH made AS ({} ON CONFLICT ({}) DO NOTHING RETURNING {} AS key) {}",
            s.sql,
            key_columns(table, ""),
            key_text(table, ""),
            self.note(&format!("SELECT {of_row} AS key{from} WHERE {of_row} NOT IN (SELECT key FROM made)"))
        );
        s
    }

    /// Forgets the notes of keys that the source deleted.
    pub fn forget(&self, table: &Table) -> st::SetStatement {
        let mut s = st::delete(table, &[]);
        let from = s
            .sql
            .find(" USING unnest(")
            .and_then(|at| s.sql[at..].find(" WHERE ").map(|end| s.sql[at..at + end].to_owned()));
        s.sql = format!(
            "DELETE FROM switchyard.skipped AS s{} WHERE {}",
            from.unwrap_or_default(),
            self.matches(&parameter_key(table))
        );
        s
    }

    /// Brings staged rows in whose key is not there, and notes the others.
    pub fn load(&self, table: &Table, stage: &str) -> String {
        format!(
            "WITH made AS (INSERT INTO {} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {stage} ON CONFLICT ({}) DO NOTHING RETURNING {} AS key) {}",
            st::qualified(&table.name),
            key_columns(table, ""),
            key_text(table, ""),
            self.note(&format!(
                "SELECT {} AS key FROM {stage} AS t WHERE {0} NOT IN (SELECT key FROM made)",
                key_text(table, "t")
            )),
            columns = columns(table),
        )
    }
}

/// Brings staged rows in; they win over rows of their key.
pub fn upsert_from(table: &Table, stage: &str) -> String {
    let columns = columns(table);
    format!(
        "INSERT INTO {} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {stage}{}",
        st::qualified(&table.name),
        st::on_conflict(table)
    )
}

/// Brings staged rows in instead of all rows of their keys.
pub fn replace_from(table: &Table, stage: &str) -> String {
    let columns = columns(table);
    let same: Vec<String> =
        table.key().iter().map(|&k| st::quoted(&table.columns[k].name)).map(|c| format!("t.{c} = s.{c}")).collect();
    format!(
        "DELETE FROM {table} AS t USING {stage} AS s WHERE {}; INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {stage}",
        same.join(" AND "),
        table = st::qualified(&table.name),
    )
}

fn columns(table: &Table) -> String {
    table.columns.iter().map(|c| st::quoted(&c.name)).collect::<Vec<_>>().join(", ")
}

fn key_columns(table: &Table, alias: &str) -> String {
    let dot = if alias.is_empty() { String::new() } else { format!("{alias}.") };
    table.key().iter().map(|&k| format!("{dot}{}", st::quoted(&table.columns[k].name))).collect::<Vec<_>>().join(", ")
}

/// A key as one text.
fn key_text(table: &Table, alias: &str) -> String {
    format!("ROW({})::text", key_columns(table, alias))
}

/// The key that a row of a child table belongs to, as [`key_text`] writes the parent's own.
fn row_text(parent: &ParentKey, of: impl Fn(&(usize, String)) -> String) -> String {
    format!("ROW({})::text", parent.columns.iter().map(of).collect::<Vec<_>>().join(", "))
}

/// The same of the statement's parameters `d`, with the column's whole type so that both print alike.
fn parameter_key(table: &Table) -> String {
    let parts: Vec<String> = table.key().iter().map(|&k| format!("d.c{k}::{}", table.columns[k].type_name)).collect();
    format!("ROW({})::text", parts.join(", "))
}
