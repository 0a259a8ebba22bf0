//! Statements for tables that several source tables write, and for rows that come and go together. Pure.
//!
//! A merge that skips notes the target's keys that it left out, by source table, in `switchyard.skipped`. Later changes
//! of a noted key are left out, too, so that a change of one table's row never reaches another table's. When the source
//! deletes the row, its note goes with it.

use super::statements as st;
use crate::schema::{Table, TableName};

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

/// The same of the statement's parameters `d`, with the column's whole type so that both print alike.
fn parameter_key(table: &Table) -> String {
    let parts: Vec<String> = table.key().iter().map(|&k| format!("d.c{k}::{}", table.columns[k].type_name)).collect();
    format!("ROW({})::text", parts.join(", "))
}
