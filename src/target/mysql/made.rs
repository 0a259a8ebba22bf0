//! The tables that rules write, as statements for MySQL and MariaDB, whatever engine the source is of. Pure.

use std::collections::BTreeMap;

use super::adopt::{self, Settings};
use crate::error::Result;
use crate::mywire::server::Flavour;
use crate::schema::{Column, Kind, SchemaScript, Table, TableName};
use crate::transform::made::{MadeSchema, MadeTable, Origin};
use crate::transform::rules::Homes;

/// Statements that make the tables.
///
/// # Errors
/// `Fatal` where a table cannot be made here: its primary key is too long, or two tables have one name.
pub fn adopt(schema: &MadeSchema, settings: &Settings, homes: &Homes) -> Result<SchemaScript> {
    let own = match settings.flavour {
        Flavour::Mysql => "mysql",
        Flavour::Mariadb => "mariadb",
    };
    // Either flavour is the same engine as far as types go.
    let engine = if schema.dialect == "mariadb" { "mysql" } else { schema.dialect.as_str() };
    let own = schema.dialect == own;
    let defs = schema.defs(&|t| homes.table(t));
    let mut types: BTreeMap<TableName, BTreeMap<String, String>> = BTreeMap::new();
    for (t, _) in &schema.beside {
        let mut chosen = homes.types.get(&t.name).cloned().unwrap_or_default();
        if own {
            chosen = t.columns.iter().map(|c| (c.name.clone(), exactly(c))).collect();
        }
        types.insert(homes.table(&t.name), chosen);
    }
    for t in &schema.there {
        types.entry(t.name.clone()).or_insert_with(|| t.columns.iter().map(|c| (c.name.clone(), exactly(c))).collect());
    }
    for (made, _) in &schema.made {
        let mut chosen = made.types.clone();
        for (c, origin) in made.table.columns.iter().zip(&made.origins) {
            if own && matches!(origin, Origin::Passes(_)) {
                chosen.entry(c.name.clone()).or_insert_with(|| exactly(c));
            }
        }
        types.insert(made.table.name.clone(), chosen);
    }
    // Names are this side's already.
    let here = Homes { types, ..Homes::default() };
    let script = SchemaScript { dialect: schema.dialect.clone(), tables: defs, ..SchemaScript::default() };
    let mut script = adopt::adopt(script, engine, settings, &here)?;
    script.objects.retain(|o| o.table.as_ref().is_none_or(|t| schema.makes(t)));
    let ours: Vec<String> = schema.made.iter().map(|(m, _)| format!("{}: ", m.table.name)).collect();
    script.remarks.retain(|r| ours.iter().any(|o| r.starts_with(o)));
    Ok(SchemaScript { made_by: "rules".into(), ..script })
}

/// A type of this server's own flavour as it is.
fn exactly(c: &Column) -> String {
    if matches!(c.kind, Kind::Json | Kind::Jsonb) {
        // One flavour prints what it stands for.
        return "json".into();
    }
    match c.collation.as_deref().and_then(|n| Some((n.split('_').next()?, n))) {
        Some((charset, collation)) => format!("{} CHARACTER SET {charset} COLLATE {collation}", c.type_name),
        None => c.type_name.clone(),
    }
}

/// The table as [`adopt`] makes it, as far as one table by itself tells.
pub fn adopt_table(engine: &str, made: &MadeTable, settings: &Settings) -> Table {
    let types = BTreeMap::from([(made.table.name.clone(), made.types.clone())]);
    adopt::adopt_table(engine, &made.table, settings, &Homes { types, ..Homes::default() })
}

#[cfg(test)]
#[path = "made_tests.rs"]
mod tests;
