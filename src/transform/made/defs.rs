//! Definitions of the tables that are made, with what a target needs beside them. Pure.

use std::sync::Arc;

use super::{MadeTable, Origin};
use crate::definition::{ColumnDef, DefaultValue, ForeignKeyDef, IndexDef, KeyColumn, TableDef};
use crate::schema::{Table, TableName};

/// What a target of some engine needs to make the tables.
#[derive(Clone, Debug)]
pub struct MadeSchema {
    /// The source's dialect.
    pub dialect: String,
    /// The tables with their definitions, by names on the target.
    pub made: Vec<(MadeTable, TableDef)>,
    /// The source's tables that no rule names, by names at the source; foreign keys may refer to them.
    pub beside: Vec<(Arc<Table>, TableDef)>,
    /// Tables that the target has and that foreign keys refer to.
    pub there: Vec<Arc<Table>>,
}

impl MadeTable {
    /// Its definition by its name on the target. What passes brings its default, its numbering and its comment from the
    /// source's definitions.
    pub fn def(&self, sources: &[TableDef]) -> TableDef {
        let source = |t: &TableName| sources.iter().find(|d| d.name == *t);
        let columns = self.table.columns.iter().zip(&self.origins).map(|(c, origin)| {
            let from: Vec<&ColumnDef> = match origin {
                Origin::Passes(all) => all.iter().filter_map(|(t, name)| source(t)?.column(name)).collect(),
                Origin::Computed => Vec::new(),
            };
            // Of several sources nothing but what they agree in.
            let default = match from.split_first() {
                Some((first, more)) if first.generated.is_none() && more.iter().all(|m| m.default == first.default) => {
                    first.default.clone()
                }
                _ => DefaultValue::None,
            };
            ColumnDef {
                name: c.name.clone(),
                data: c.data.clone(),
                type_name: c.type_name.clone(),
                nullable: c.nullable,
                default,
                numbered: !from.is_empty() && from.iter().all(|f| f.numbered),
                generated: None,
                travels: true,
                comment: from.first().and_then(|f| f.comment.clone()),
            }
        });
        TableDef {
            name: self.table.name.clone(),
            columns: columns.collect(),
            primary_key: (self.key().into_iter())
                .map(|name| KeyColumn { name: name.to_owned(), descending: false, prefix: None })
                .collect(),
            indexes: self.indexes.clone(),
            foreign_keys: self.foreign_keys.clone(),
            checks: Vec::new(),
            comment: self.stands_for.as_ref().and_then(|s| source(s)?.comment.clone()),
            left_behind: Vec::new(),
        }
    }
}

impl MadeSchema {
    /// All definitions by names on the target: first the tables that no rule names, then those that the target has and
    /// that are referred to, then those that are made. Statements are wanted of the last alone; the others are there so that
    /// names do not meet and foreign keys find their other side.
    pub fn defs(&self, here: &dyn Fn(&TableName) -> TableName) -> Vec<TableDef> {
        let moved = |d: &TableDef| {
            let foreign = |f: &ForeignKeyDef| ForeignKeyDef { references: here(&f.references), ..f.clone() };
            let foreign_keys = d.foreign_keys.iter().map(foreign).collect();
            TableDef { name: here(&d.name), foreign_keys, ..d.clone() }
        };
        let made = |n: &TableName| self.made.iter().any(|(m, _)| m.table.name == *n);
        let mut out: Vec<TableDef> = self.beside.iter().map(|(_, d)| moved(d)).collect();
        for t in &self.there {
            if !made(&t.name) && !out.iter().any(|d| d.name == t.name) {
                let keys = self.made.iter().flat_map(|(m, _)| &m.foreign_keys).filter(|f| f.references == t.name);
                out.push(standing(t, keys));
            }
        }
        out.extend(self.made.iter().map(|(_, d)| d.clone()));
        out
    }

    /// Whether a table of that name is one of those to make.
    pub fn makes(&self, name: &TableName) -> bool {
        self.made.iter().any(|(m, _)| m.table.name == *name)
    }
}

/// A table of the target as far as a foreign key to it has to know. Whether what the keys refer to is unique, the server knows.
fn standing<'a>(t: &Table, keys: impl Iterator<Item = &'a ForeignKeyDef>) -> TableDef {
    let column = |name: &String| KeyColumn { name: name.clone(), descending: false, prefix: None };
    let unique = |f: &ForeignKeyDef| IndexDef {
        name: format!("{}_{}_key", t.name.name, f.referenced.join("_")),
        columns: f.referenced.iter().map(column).collect(),
        unique: true,
        nulls_equal: false,
        method: None,
        peculiar: None,
    };
    let indexes = keys.map(unique).collect();
    let columns = t.columns.iter().map(|c| ColumnDef {
        name: c.name.clone(),
        data: c.data.clone(),
        type_name: c.type_name.clone(),
        nullable: c.nullable,
        default: DefaultValue::None,
        numbered: c.identity.is_some(),
        generated: None,
        travels: true,
        comment: None,
    });
    let key = t.key().iter().map(|&k| KeyColumn { name: t.columns[k].name.clone(), descending: false, prefix: None });
    TableDef {
        name: t.name.clone(),
        columns: columns.collect(),
        primary_key: key.collect(),
        indexes,
        foreign_keys: Vec::new(),
        checks: Vec::new(),
        comment: None,
        left_behind: Vec::new(),
    }
}
