//! Reads what ALTER TABLE is to do. Pure.

use super::column::{self, Defined};
use super::cursor::{Cursor, Unclear};
use super::key::{Element, key};
use super::parse::engine_loses;
use super::token::Kind;
use super::{AlterOp, Place};

/// Options of the table, `NAME [=] value`, that neither rows nor columns show. They may stand side by side.
const OPTIONS: [&str; 37] = [
    "auto_increment",
    "avg_row_length",
    "checksum",
    "page_checksum",
    "comment",
    "compression",
    "connection",
    "delay_key_write",
    "encryption",
    "engine",
    "engine_attribute",
    "secondary_engine_attribute",
    "insert_method",
    "key_block_size",
    "max_rows",
    "min_rows",
    "pack_keys",
    "password",
    "row_format",
    "stats_auto_recalc",
    "stats_persistent",
    "stats_sample_pages",
    "tablespace",
    "transactional",
    "page_compressed",
    "page_compression_level",
    "encrypted",
    "encryption_key_id",
    "algorithm",
    "lock",
    "type",
    "collate",
    "charset",
    "autoextend_size",
    "secondary_engine",
    "ietf_quotes",
    "sequence",
];

pub fn options_follow(c: &Cursor<'_>) -> bool {
    OPTIONS.iter().any(|o| c.is(o)) || ["default", "character", "data", "index"].iter().any(|w| c.is(w))
}

pub fn alter_op(c: &mut Cursor<'_>, ops: &mut Vec<AlterOp>) -> Result<(), Unclear> {
    if c.word("add") {
        return add(c, ops);
    }
    if let Some(verb) = c.one_of(&["change", "modify"]) {
        c.word("column");
        let conditional = c.if_exists();
        let mut from = None;
        if verb == "change" {
            from = Some(c.name()?);
        }
        let Defined { mut column, key, foreign } = column::read(c)?;
        column.conditional = conditional;
        let from = from.unwrap_or_else(|| column.name.clone());
        let place = place(c)?;
        ops.push(AlterOp::Change { from, column: Box::new(column), place });
        ops.extend(key.map(AlterOp::AddKey));
        ops.extend(foreign.map(AlterOp::AddForeign));
        return Ok(());
    }
    if c.word("drop") {
        return drop_op(c, ops);
    }
    if c.word("rename") {
        if c.word("column") {
            c.if_exists();
            let from = c.name()?;
            if !c.word("to") {
                return Err(c.unclear());
            }
            ops.push(AlterOp::RenameColumn { from, to: c.name()? });
        } else if (c.is("key") || c.is("index")) && !matches!(c.peek_at(1), None | Some(Kind::Sign(_))) {
            c.take();
            c.if_exists();
            let from = c.name()?;
            if !c.word("to") {
                return Err(c.unclear());
            }
            ops.push(AlterOp::RenameKey { from, to: c.name()? });
        } else {
            let _ = c.one_of(&["to", "as"]).is_some() || c.sign('=');
            ops.push(AlterOp::RenameTo(c.table()?));
        }
        return Ok(());
    }
    if c.word("alter") {
        return alter_part(c, ops);
    }
    if c.words(&["convert", "to"]) {
        if !c.words(&["character", "set"]) && !c.words(&["char", "set"]) && !c.word("charset") {
            return Err(c.unclear());
        }
        let charset = if c.word("default") { None } else { Some(c.value()?.to_ascii_lowercase()) };
        if c.word("collate") {
            c.value()?;
        }
        ops.push(AlterOp::Convert { charset });
        return Ok(());
    }
    if c.words(&["order", "by"]) {
        order(c)?;
    } else if c.words(&["partition", "by"]) {
        while c.take().is_some() {}
        ops.push(AlterOp::Partitioned(true));
        return Ok(());
    } else if c.words(&["remove", "partitioning"]) {
        ops.push(AlterOp::Partitioned(false));
        return Ok(());
    } else if let Some(op) = partition_op(c)? {
        ops.push(op);
        return Ok(());
    } else if c.one_of(&["force", "secondary_load", "secondary_unload"]).is_some()
        || c.words(&["enable", "keys"])
        || c.words(&["disable", "keys"])
        || c.words(&["with", "validation"])
        || c.words(&["without", "validation"])
    {
    } else if c.words(&["discard", "tablespace"]) || c.words(&["import", "tablespace"]) {
        ops.push(AlterOp::Unlogged { what: "its file of rows was exchanged", other: None });
        return Ok(());
    } else {
        option(c)?;
    }
    ops.push(AlterOp::Nothing);
    Ok(())
}

/// ORDER BY's columns. Behind a comma, a reserved word begins the next change.
fn order(c: &mut Cursor<'_>) -> Result<(), Unclear> {
    loop {
        c.table()?;
        c.one_of(&["asc", "desc"]);
        let next = ["add", "drop", "change", "alter", "rename", "modify", "convert", "order"];
        if !c.is_sign(',') || next.iter().any(|w| c.is_at(1, w)) {
            return Ok(());
        }
        c.sign(',');
    }
}

fn option(c: &mut Cursor<'_>) -> Result<(), Unclear> {
    c.word("default");
    if c.words(&["character", "set"]) || c.words(&["char", "set"]) || c.words(&["data", "directory"]) {
        c.value()?;
        return Ok(());
    }
    if c.words(&["index", "directory"]) {
        c.value()?;
        return Ok(());
    }
    if c.is("engine") && engine_loses(c) {
        return Err("the table's new engine keeps no rows of its own".into());
    }
    if c.one_of(&OPTIONS).is_none() {
        return Err(c.unclear());
    }
    c.value()?;
    // TABLESPACE name STORAGE DISK.
    if c.word("storage") {
        c.name()?;
    }
    Ok(())
}

fn place(c: &mut Cursor<'_>) -> Result<Place, Unclear> {
    if c.word("first") {
        return Ok(Place::First);
    }
    Ok(if c.word("after") { Place::After(c.name()?) } else { Place::Last })
}

fn add(c: &mut Cursor<'_>, ops: &mut Vec<AlterOp>) -> Result<(), Unclear> {
    if c.word("partition") {
        // New ones are empty; what they take over from a hash's others stays in the table.
        while c.take().is_some() {}
        ops.push(AlterOp::Nothing);
        return Ok(());
    }
    if c.words(&["system", "versioning"]) || (c.is("period") && c.is_at(1, "for")) {
        return Err("the table keeps the history of its rows from here on".into());
    }
    if let Some(key) = key(c)? {
        ops.push(added(key));
        return Ok(());
    }
    c.word("column");
    let conditional = c.if_not_exists();
    if c.sign('(') {
        loop {
            match key(c)? {
                Some(key) => ops.push(added(key)),
                None => {
                    let Defined { mut column, key, foreign } = column::read(c)?;
                    column.conditional = conditional;
                    ops.push(AlterOp::Add { column: Box::new(column), place: Place::Last });
                    ops.extend(key.map(AlterOp::AddKey));
                    ops.extend(foreign.map(AlterOp::AddForeign));
                }
            }
            if c.sign(')') {
                return Ok(());
            }
            c.expect(',')?;
        }
    }
    let Defined { mut column, key, foreign } = column::read(c)?;
    column.conditional = conditional;
    ops.push(AlterOp::Add { column: Box::new(column), place: place(c)? });
    ops.extend(key.map(AlterOp::AddKey));
    ops.extend(foreign.map(AlterOp::AddForeign));
    Ok(())
}

fn added(element: Element) -> AlterOp {
    match element {
        Element::Key(key) => AlterOp::AddKey(key),
        Element::Foreign(key) => AlterOp::AddForeign(key),
        Element::Check => AlterOp::Nothing,
    }
}

fn drop_op(c: &mut Cursor<'_>, ops: &mut Vec<AlterOp>) -> Result<(), Unclear> {
    if c.words(&["primary", "key"]) {
        ops.push(AlterOp::DropKey { name: "PRIMARY".into() });
    } else if c.words(&["foreign", "key"]) {
        c.if_exists();
        ops.push(AlterOp::DropForeign { name: c.name()? });
    } else if c.word("check") {
        c.if_exists();
        c.name()?;
        ops.push(AlterOp::Nothing);
    } else if c.one_of(&["key", "index", "constraint"]).is_some() {
        c.if_exists();
        ops.push(AlterOp::DropKey { name: c.name()? });
    } else if c.word("partition") {
        while c.take().is_some() {}
        ops.push(AlterOp::Unlogged { what: "partitions of it were dropped with their rows", other: None });
    } else if c.words(&["system", "versioning"]) || (c.is("period") && c.is_at(1, "for")) {
        return Err("the table kept the history of its rows".into());
    } else {
        c.word("column");
        c.if_exists();
        ops.push(AlterOp::Drop { name: c.name()? });
        c.one_of(&["restrict", "cascade"]);
    }
    Ok(())
}

fn alter_part(c: &mut Cursor<'_>, ops: &mut Vec<AlterOp>) -> Result<(), Unclear> {
    if (c.is("index") || c.is("key") || c.is("check") || c.is("constraint"))
        && !c.is_at(1, "set")
        && !c.is_at(1, "drop")
    {
        c.take();
        c.if_exists();
        c.name()?;
        if !c.words(&["not", "enforced"]) && !c.words(&["not", "ignored"]) {
            c.one_of(&["visible", "invisible", "enforced", "ignored"]);
        }
        ops.push(AlterOp::Nothing);
        return Ok(());
    }
    c.word("column");
    c.if_exists();
    let name = c.name()?;
    if c.words(&["drop", "default"]) {
        ops.push(AlterOp::SetDefault { name, default: None });
    } else if c.words(&["set", "default"]) {
        let default = column::default(c)?;
        ops.push(AlterOp::SetDefault { name, default });
    } else if c.words(&["set", "visible"]) || c.words(&["set", "invisible"]) {
        ops.push(AlterOp::Nothing);
    } else {
        return Err(c.unclear());
    }
    Ok(())
}

/// What is done to partitions. Rows that go with them are nowhere else in the log.
fn partition_op(c: &mut Cursor<'_>) -> Result<Option<AlterOp>, Unclear> {
    let lost = |what| Ok(Some(AlterOp::Unlogged { what, other: None }));
    let rest = |c: &mut Cursor<'_>| while c.take().is_some() {};
    if c.words(&["truncate", "partition"]) {
        rest(c);
        return lost("partitions of it were emptied");
    }
    if c.words(&["discard", "partition"]) || c.words(&["import", "partition"]) {
        rest(c);
        return lost("the file of a partition's rows was exchanged");
    }
    if c.words(&["exchange", "partition"]) || c.words(&["convert", "partition"]) {
        c.name()?;
        // EXCHANGE … WITH TABLE t, CONVERT … TO TABLE t.
        let other = if c.one_of(&["with", "to"]).is_some() && c.word("table") { Some(c.table()?) } else { None };
        rest(c);
        return Ok(Some(AlterOp::Unlogged { what: "rows of a partition went into another table", other }));
    }
    if c.words(&["convert", "table"]) {
        let other = Some(c.table()?);
        rest(c);
        return Ok(Some(AlterOp::Unlogged { what: "rows of a table became a partition of another", other }));
    }
    for verb in ["reorganize", "coalesce", "rebuild", "optimize", "analyze", "check", "repair"] {
        if c.words(&[verb, "partition"]) {
            rest(c);
            return Ok(Some(AlterOp::Nothing));
        }
    }
    Ok(None)
}
