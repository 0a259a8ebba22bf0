//! The tables that rules write, as commands that make collections of them. Pure.

use std::sync::Arc;

use super::adopt::{self, Create, CreateIndex};
use crate::error::Result;
use crate::exchange::Microseconds;
use crate::schema::{SchemaScript, Stage, Table, TableName};
use crate::transform::made::{MadeSchema, MadeTable};
use crate::transform::rules::Homes;

/// A table as its collection is made. Names are the target's already.
///
/// # Errors
/// As [`adopt::adopt`].
pub fn adopt_table(engine: &str, made: &MadeTable, micros: Microseconds) -> Result<Table> {
    let types = [(made.table.name.clone(), made.types.clone())].into();
    adopt::adopt_table(engine, &made.table, &Homes { types, ..Homes::default() }, micros)
}

/// Commands that make the collections. Rows of `embedded` ones may be there at two moments beside each other: their unique
/// indexes are made as plain ones.
///
/// # Errors
/// As [`adopt::adopt`].
pub fn adopt(schema: &MadeSchema, micros: Microseconds, embedded: &dyn Fn(&TableName) -> bool) -> Result<SchemaScript> {
    let mut out = SchemaScript { dialect: "mongo".into(), made_by: "rules".into(), ..SchemaScript::default() };
    for (made, def) in &schema.made {
        let home = &made.table.name;
        let table = Arc::new(adopt_table(&schema.dialect, made, micros)?);
        let shape = adopt::shaped(home, &table)?;
        let create = Create { create: home.name.clone(), table: (*table).clone() };
        let text = adopt::written(&create)?;
        out.objects.push(adopt::object("COLLECTION", home, &home.name, home, text, Stage::BeforeCopy));
        for i in &def.indexes {
            match adopt::index(def, i, &shape) {
                Ok(index) => {
                    let unique = index.unique && !embedded(home);
                    let text = adopt::written(&CreateIndex { unique, ..index })?;
                    // Unique ones wait until rows of two moments have met.
                    let kind = if unique { "UNIQUE INDEX" } else { "INDEX" };
                    out.objects.push(adopt::object(kind, home, &i.name, home, text, Stage::TableCopied));
                }
                Err(why) => out.remarks.push(format!("{home}: index {} is left out: {why}", i.name)),
            }
        }
        for key in &def.foreign_keys {
            out.remarks.push(format!("{home}: foreign key {} is left out: MongoDB has none", key.name));
        }
    }
    Ok(out)
}
