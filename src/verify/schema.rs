//! What the target's schema lacks, and rows of it that refer to none.

use std::collections::HashMap;

use serde_json::Value;

use super::Run;
use super::pair::Pair;
use super::report::{LISTED, Orphan, Report};
use crate::definition::TableDef;
use crate::error::Result;
use crate::exchange::{Reference, SchemaDifference};
use crate::schema::{SchemaObject, Stage, Table, TableName};
use crate::transform::rules::Homes;
use crate::value::Datum;

impl Run<'_> {
    /// Compares the schema of tables that come as the source has them, and looks for orphans on the target.
    ///
    /// # Errors
    /// Where a side cannot be asked.
    pub(super) async fn schema(&mut self, pairs: &[Pair], report: &mut Report) -> Result<()> {
        let (source, target, homes) = (&self.v.source, &self.v.target, self.v.rules.homes());
        let sources = source.tables().await?;
        let unruled: Vec<_> = sources.iter().filter(|t| !self.v.rules.concern(&t.name)).cloned().collect();
        if unruled.is_empty() {
            return Ok(());
        }
        let script = source.schema_script(&unruled, None).await?;
        let defs = script.tables.clone();
        let names: Vec<TableName> = unruled.iter().map(|t| homes.table(&t.name)).collect();
        let found = target.tables(&names).await?;
        // Tables that were there before are as their owner wants them.
        if self.v.schema_made {
            for (table, there) in unruled.iter().zip(&found) {
                if let Some(there) = there {
                    let expected = target.adopt_table(source.engine(), table, homes)?;
                    columns(&expected, there, &mut report.schema);
                }
            }
            let mut script = target.adopt(script, homes).await?;
            if source.engine() == target.engine() {
                // They are written within their tables' statements.
                script.objects.extend(defs.iter().flat_map(|d| checks(d, homes)));
            }
            match target.schema_differences(&script, &names).await {
                Ok(found) => report.schema.extend(found),
                Err(e) if !e.is_retry() => report.schema_obstacle = Some(e.to_string()),
                Err(e) => return Err(e),
            }
        }
        report.schema.sort();
        let there: HashMap<&TableName, &Table> =
            names.iter().zip(&found).filter_map(|(n, t)| Some((n, t.as_deref()?))).collect();
        for reference in defs.iter().flat_map(|d| references(d, homes, &there)) {
            if !pairs.iter().any(|p| p.target.name == reference.table) {
                continue;
            }
            let (_, rows) = self.target.orphans(&reference, LISTED).await?;
            for row in rows {
                let fields = reference.key.iter().enumerate().map(|(i, c)| {
                    let text = match row.get(i) {
                        Datum::Text(t) => Value::from(String::from_utf8_lossy(t).into_owned()),
                        _ => Value::Null,
                    };
                    (c.clone(), number(&there, &reference, c, text))
                });
                report.relationships.push(Orphan {
                    table: reference.table.to_string(),
                    constraint: reference.name.clone(),
                    key: Value::Object(fields.collect()),
                });
            }
        }
        Ok(())
    }
}

/// A key's value as a number where the column holds whole numbers.
fn number(there: &HashMap<&TableName, &Table>, reference: &Reference, column: &str, value: Value) -> Value {
    let kind = there.get(&reference.table).and_then(|t| Some(t.columns[t.column(column)?].kind));
    let whole = matches!(kind, Some(crate::schema::Kind::Int2 | crate::schema::Kind::Int4 | crate::schema::Kind::Int8));
    match value.as_str().and_then(|t| t.parse::<i64>().ok()) {
        Some(n) if whole => Value::from(n),
        _ => value,
    }
}

/// Columns that one side has not, or has with another type.
fn columns(expected: &Table, there: &Table, out: &mut Vec<SchemaDifference>) {
    let mut tell = |kind: &str, name: &str| {
        out.push(SchemaDifference { table: there.name.to_string(), kind: kind.to_owned(), name: name.to_owned() });
    };
    let all = |t: &Table| t.columns.iter().chain(&t.generated).cloned().collect::<Vec<_>>();
    let (wanted, has) = (all(expected), all(there));
    for c in &wanted {
        match has.iter().find(|h| h.name == c.name) {
            None => tell("missing_column", &c.name),
            // The same type may be printed in two ways; what it holds is what counts.
            Some(h)
                if (h.type_name != c.type_name && (h.kind, &h.data) != (c.kind, &c.data))
                    || h.nullable != c.nullable =>
            {
                tell("different_column", &c.name);
            }
            Some(_) => {}
        }
    }
    for h in has.iter().filter(|h| !wanted.iter().any(|c| c.name == h.name)) {
        tell("extra_column", &h.name);
    }
}

/// The conditions of a table, as objects of their own.
fn checks(def: &TableDef, homes: &Homes) -> Vec<SchemaObject> {
    let table = homes.table(&def.name);
    let object = |name: &String| SchemaObject {
        kind: "CHECK CONSTRAINT".to_owned(),
        schema: table.schema.clone(),
        name: format!("{} {name}", table.name),
        table: Some(def.name.clone()),
        sql: String::new(),
        stage: Stage::BeforeCopy,
    };
    def.checks.iter().map(|(name, _)| object(name)).collect()
}

/// The foreign keys of a table, by the target's names, as far as both tables are there.
fn references(def: &TableDef, homes: &Homes, there: &HashMap<&TableName, &Table>) -> Vec<Reference> {
    let table = homes.table(&def.name);
    let Some(columns) = there.get(&table) else { return Vec::new() };
    let mut key: Vec<String> = columns.key().iter().map(|&k| columns.columns[k].name.clone()).collect();
    def.foreign_keys
        .iter()
        .filter(|f| there.contains_key(&homes.table(&f.references)))
        .map(|f| {
            if key.is_empty() {
                key.clone_from(&f.columns);
            }
            Reference {
                name: f.name.clone(),
                table: table.clone(),
                key: key.clone(),
                columns: f.columns.clone(),
                to: homes.table(&f.references),
                referenced: f.referenced.clone(),
            }
        })
        .collect()
}
