//! A table as the log describes it. The log's own description says which columns there are; the catalog, which may be
//! further on than the log, only adds what the description leaves out. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use super::pgoutput::Relation;
use crate::pgwire::types;
use crate::schema::{Column, RowIdentity, Table, TableId, TableName};

/// The table as the log describes it, with what the catalog knows of columns that still have these names.
pub fn compose(
    relation: &Relation,
    now: Option<Arc<Table>>,
    type_names: &HashMap<String, String>,
    id: TableId,
) -> Table {
    let columns: Vec<Column> = relation
        .columns
        .iter()
        .enumerate()
        .map(|(i, c)| match now.as_ref().and_then(|t| t.column(&c.name).map(|n| t.columns[n].clone())) {
            Some(known) => known,
            None => Column {
                name: c.name.clone(),
                // Dropped or renamed since: it has no number any more that would mean the same column.
                number: -(i as i32) - 1,
                type_name: type_names.get(&c.name).cloned().unwrap_or_else(|| "text".into()),
                kind: types::kind(c.type_oid, &types::UserTypes::default()),
                nullable: true,
                identity: None,
                default: None,
                collation: None,
                data: Default::default(),
                portable_binary: false,
            },
        })
        .collect();
    let flagged: Vec<usize> = relation.columns.iter().enumerate().filter(|(_, c)| c.key).map(|(i, _)| i).collect();
    let full = relation.replica_identity == b'f';
    let identity = match relation.replica_identity {
        b'f' => {
            // The whole old row is logged; which columns are unique, only the catalog knows.
            let key = now.as_ref().map(|t| {
                let names: Vec<_> = t.key().iter().map(|&k| t.columns[k].name.clone()).collect();
                names.iter().filter_map(|n| columns.iter().position(|c| c.name == *n)).collect::<Vec<_>>()
            });
            match (key, now.as_ref()) {
                (Some(k), Some(t)) if !k.is_empty() && k.len() == t.key().len() => RowIdentity::Key(k),
                _ => RowIdentity::AllColumns,
            }
        }
        b'd' | b'i' if !flagged.is_empty() => RowIdentity::Key(flagged),
        _ => RowIdentity::None,
    };
    Table {
        id,
        name: TableName::new(&relation.schema, &relation.name),
        columns,
        generated: now.as_ref().map(|t| t.generated.clone()).unwrap_or_default(),
        identity,
        full_old_rows: full,
        full_old_rows_by: whole_rows_by(&TableName::new(&relation.schema, &relation.name)),
        has_secondary_unique: now.as_ref().is_none_or(|t| t.has_secondary_unique),
        partitioned: now.as_ref().is_some_and(|t| t.partitioned),
        estimated_rows: now.as_ref().map_or(0, |t| t.estimated_rows),
        bytes: now.as_ref().map_or(0, |t| t.bytes),
    }
}

/// What makes the log hold whole old rows of a table.
pub(super) fn whole_rows_by(table: &TableName) -> String {
    format!("ALTER TABLE {table} REPLICA IDENTITY FULL;")
}
