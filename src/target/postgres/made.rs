//! The tables that rules write, as statements for PostgreSQL, whatever engine the source is of. Pure.

use std::collections::{BTreeMap, HashMap};

use super::foreign::{self, PREAMBLE};
use super::foreign_types::{self as types, Placed};
use crate::definition::TableDef;
use crate::error::Result;
use crate::schema::{Column, SchemaScript, Stage, Table, TableName};
use crate::transform::made::{MadeSchema, MadeTable, Origin};
use crate::transform::rules::Homes;
use crate::transform::typename;

/// The engine whose types are this one's own. Of others [`foreign::understands`] which can be told here.
const OWN: &str = "postgres";

/// Statements that make the tables.
///
/// # Errors
/// `Fatal` for names that are too long.
pub fn adopt(schema: &MadeSchema, homes: &Homes) -> Result<SchemaScript> {
    let own = schema.dialect == OWN;
    let defs = schema.defs(&|t| homes.table(t));
    let chosen: BTreeMap<TableName, BTreeMap<String, String>> = (homes.types.iter())
        .map(|(t, types)| (homes.table(t), types.clone()))
        .chain(schema.made.iter().map(|(m, _)| (m.table.name.clone(), m.types.clone())))
        .collect();
    // Names are this side's already.
    let here = Homes { types: chosen, ..Homes::default() };
    let mut placed = types::place_all(&defs, &here);
    for def in &defs {
        place(schema, homes, own, def, &mut placed);
    }
    let (mut objects, mut remarks) = foreign::objects(&defs, &here, placed)?;
    objects.retain(|o| o.table.as_ref().is_none_or(|t| schema.makes(t)));
    let ours: Vec<String> = schema.made.iter().map(|(m, _)| format!("{}: ", m.table.name)).collect();
    remarks.retain(|r| ours.iter().any(|o| r.starts_with(o)));
    for o in &mut objects {
        // Rows that meet others find them by it.
        let merged = schema.made.iter().any(|(m, _)| m.merged && Some(&m.table.name) == o.table.as_ref());
        if merged && o.kind == "CONSTRAINT" && o.sql.contains(" PRIMARY KEY ") {
            o.stage = Stage::BeforeCopy;
        }
    }
    Ok(SchemaScript {
        dialect: OWN.into(),
        preamble: PREAMBLE.into(),
        objects,
        made_by: "rules".into(),
        remarks,
        ..SchemaScript::default()
    })
}

/// Corrects the types of one table's columns, where they are not what a column of another engine gets.
fn place<'a>(
    schema: &MadeSchema,
    homes: &Homes,
    own: bool,
    def: &'a TableDef,
    placed: &mut HashMap<(&'a TableName, &'a str), Placed>,
) {
    let made = schema.made.iter().map(|(m, _)| m).find(|m| m.table.name == def.name);
    let beside = schema.beside.iter().map(|(t, _)| t).find(|t| homes.table(&t.name) == def.name);
    let there = schema.there.iter().find(|t| t.name == def.name);
    for c in &def.columns {
        let found = match (made, beside, there) {
            (Some(made), ..) => made.column(&c.name).and_then(|(column, origin)| {
                if made.types.contains_key(&c.name) { None } else { type_of(column, origin, own) }
            }),
            (None, Some(t), _) if own => t.column(&c.name).and_then(|i| t.columns.get(i)).map(exactly),
            (None, None, Some(t)) => t.column(&c.name).and_then(|i| t.columns.get(i)).map(exactly),
            _ => None,
        };
        if let Some(found) = found {
            placed.insert((&def.name, c.name.as_str()), found);
        }
    }
}

/// A made column's type, where it is not what a column of another engine gets.
fn type_of(column: &Column, origin: &Origin, own: bool) -> Option<Placed> {
    match origin {
        _ if own => Some(exactly(column)),
        Origin::Computed => {
            let (type_name, kind) = typename::of(&column.data);
            Some(Placed { type_name, kind, data: column.data.clone(), chosen: true, collation: None })
        }
        Origin::Passes(_) => None,
    }
}

/// A type of this engine as it is.
fn exactly(column: &Column) -> Placed {
    Placed {
        type_name: column.type_name.clone(),
        kind: column.kind,
        data: column.data.clone(),
        chosen: true,
        collation: column.collation.clone(),
    }
}

/// The table as [`adopt`] makes it, as far as one table by itself tells.
///
/// # Errors
/// As [`adopt`].
pub fn adopt_table(engine: &str, made: &MadeTable) -> Result<Table> {
    let own = engine == OWN;
    let mut out = made.table.clone();
    foreign::fits(&out.name, &out.name.name)?;
    for (c, origin) in out.columns.iter_mut().zip(&made.origins) {
        foreign::fits(&made.table.name, &c.name)?;
        let chosen = made.types.get(&c.name).map(String::as_str);
        let placed = match chosen.is_none().then(|| type_of(c, origin, own)).flatten() {
            Some(placed) => placed,
            None => types::place(&c.data, c.identity.is_some(), chosen),
        };
        if c.identity.is_some() && !foreign::counts(&placed) {
            c.identity = None;
        }
        if !own {
            c.default = None;
        }
        c.portable_binary &= own && chosen.is_none();
        (c.type_name, c.kind, c.data, c.collation) = (placed.type_name, placed.kind, placed.data, placed.collation);
    }
    Ok(out)
}

#[cfg(test)]
#[path = "made_tests.rs"]
mod tests;
