//! Reads statements about tables; names all others. Pure.

use super::column::{self, Defined, references};
use super::cursor::{Cursor, Unclear};
use super::token::{Kind, tokens};
use super::{AlterOp, CreateTable, KeyKind, KeyText, Place, Session, Stated};
use crate::schema::TableName;

/// What a statement of the log says. `database` is the one that its session had chosen. Never fails: what cannot be read
/// is [`Stated::NotUnderstood`].
pub fn read(statement: &str, database: &str, session: &Session) -> Stated {
    let tokens = match tokens(statement, session) {
        Ok(t) => t,
        Err(what) => {
            // Names before the broken place are still told.
            let words =
                statement.split(|c: char| c.is_whitespace() || "`\"'.,;()".contains(c)).filter(|w| !w.is_empty());
            let words: Vec<&str> = words.collect();
            let mut mentions: Vec<TableName> = words.iter().map(|w| TableName::new(database, *w)).collect();
            mentions.extend(words.windows(2).map(|w| TableName::new(w[0], w[1])));
            return Stated::NotUnderstood { why: format!("{what} in it is not closed"), subject: None, mentions };
        }
    };
    let mut c = Cursor::new(statement, &tokens, session, database);
    let read = statement_of(&mut c).and_then(|s| {
        let whole = matches!(s, Stated::Irrelevant | Stated::CreateTable(_)) || c.done();
        if whole { Ok(s) } else { Err(c.unclear()) }
    });
    read.unwrap_or_else(|why| Stated::NotUnderstood { why, subject: subject(&mut c), mentions: c.mentions() })
}

/// The table of CREATE TABLE, ALTER TABLE and their like.
fn subject(c: &mut Cursor<'_>) -> Option<TableName> {
    c.back_to(0);
    c.one_of(&["create", "alter"])?;
    while c.one_of(&["or", "replace", "online", "offline", "ignore"]).is_some() {}
    if !c.word("table") {
        return None;
    }
    if !c.if_not_exists() {
        c.if_exists();
    }
    c.table().ok()
}

/// Statements of these words leave rows and shapes of tables alone, or are no schema changes in any log.
const IRRELEVANT: [&str; 46] = [
    "grant",
    "revoke",
    "set",
    "flush",
    "analyze",
    "optimize",
    "repair",
    "check",
    "checksum",
    "begin",
    "commit",
    "rollback",
    "savepoint",
    "release",
    "xa",
    "install",
    "uninstall",
    "use",
    "show",
    "select",
    "do",
    "lock",
    "unlock",
    "reset",
    "purge",
    "kill",
    "start",
    "stop",
    "change",
    "shutdown",
    "handler",
    "explain",
    "describe",
    "desc",
    "help",
    "cache",
    "prepare",
    "deallocate",
    "signal",
    "resignal",
    "get",
    "binlog",
    "end",
    "clone",
    "restart",
    "values",
];

/// What CREATE, ALTER and DROP make and take besides tables, indexes and databases.
const OTHER_OBJECTS: [&str; 27] = [
    "view",
    "procedure",
    "function",
    "trigger",
    "event",
    "user",
    "role",
    "server",
    "tablespace",
    "logfile",
    "undo",
    "spatial",
    "resource",
    "aggregate",
    "package",
    "library",
    "json",
    "sequence",
    "instance",
    "algorithm",
    "definer",
    "sql",
    "masking",
    "catalog",
    "materialized",
    "external",
    "prepare",
];

fn statement_of(c: &mut Cursor<'_>) -> Result<Stated, Unclear> {
    if c.done() {
        return Ok(Stated::Irrelevant);
    }
    if c.words(&["create", "or", "replace"]) {
        return create(c, true);
    }
    if c.word("create") {
        return create(c, false);
    }
    if c.word("alter") {
        return alter_statement(c);
    }
    if c.word("drop") {
        return drop_statement(c);
    }
    if c.word("rename") {
        return rename(c);
    }
    if c.word("truncate") {
        c.word("table");
        let name = c.table()?;
        wait(c);
        return Ok(Stated::Truncate { name });
    }
    let first = match c.peek() {
        Some(Kind::Word(w)) => w.to_ascii_lowercase(),
        _ => return Err(c.unclear()),
    };
    match first.as_str() {
        "insert" | "update" | "delete" | "replace" | "load" | "call" | "with" | "merge" | "import" => {
            Err("it changes rows by a statement in the log, not row by row".into())
        }
        w if IRRELEVANT.contains(&w) => Ok(Stated::Irrelevant),
        _ => Err(c.unclear()),
    }
}

fn other_object(c: &Cursor<'_>) -> bool {
    OTHER_OBJECTS.iter().any(|w| c.is(w))
}

/// MariaDB's WAIT n and NOWAIT, and RESTRICT and CASCADE, which mean nothing.
fn wait(c: &mut Cursor<'_>) {
    c.one_of(&["restrict", "cascade"]);
    if !c.word("nowait") && c.word("wait") {
        c.next();
    }
}

fn create(c: &mut Cursor<'_>, or_replace: bool) -> Result<Stated, Unclear> {
    let temporary = c.word("temporary");
    if c.word("table") {
        return create_table(c, or_replace, temporary);
    }
    if c.one_of(&["database", "schema"]).is_some() {
        c.if_not_exists();
        let name = c.name()?;
        while c.next().is_some() {}
        return Ok(Stated::CreateDatabase { name });
    }
    let mark = c.mark();
    c.one_of(&["online", "offline"]);
    let kind = c.one_of(&["unique", "fulltext", "spatial", "vector"]);
    if c.word("index") {
        let conditional = c.if_not_exists();
        let name = c.name()?;
        let mut using = Vec::new();
        index_type(c, &mut using)?;
        if !c.word("on") {
            return Err(c.unclear());
        }
        let table = c.table()?;
        let (columns, computed, parts) = key_parts(c)?;
        wait(c);
        index_options(c, &mut using)?;
        table_locks(c)?;
        let word = kind.map(|k| format!("{} ", k.to_uppercase())).unwrap_or_default();
        let text = format!("{word}INDEX `{}` {parts}{}", name.replace('`', "``"), using.concat());
        let kind = if kind == Some("unique") { KeyKind::Unique } else { KeyKind::Plain };
        let key = KeyText { kind, name: Some(name), columns, computed, text, conditional };
        return Ok(Stated::AlterTable { name: table, ops: vec![AlterOp::AddKey(key)], ignore: false });
    }
    c.back_to(mark);
    if other_object(c) { Ok(Stated::Irrelevant) } else { Err(c.unclear()) }
}

fn drop_statement(c: &mut Cursor<'_>) -> Result<Stated, Unclear> {
    let temporary = c.word("temporary");
    if c.one_of(&["table", "tables"]).is_some() {
        let if_exists = c.if_exists();
        let mut names = vec![c.table()?];
        while c.sign(',') {
            names.push(c.table()?);
        }
        wait(c);
        return Ok(Stated::DropTable { names, if_exists, temporary });
    }
    if c.one_of(&["database", "schema"]).is_some() {
        c.if_exists();
        return Ok(Stated::DropDatabase { name: c.name()? });
    }
    c.one_of(&["online", "offline"]);
    if c.word("index") {
        c.if_exists();
        let name = c.name()?;
        if !c.word("on") {
            return Err(c.unclear());
        }
        let table = c.table()?;
        table_locks(c)?;
        return Ok(Stated::AlterTable { name: table, ops: vec![AlterOp::DropKey { name }], ignore: false });
    }
    if other_object(c) { Ok(Stated::Irrelevant) } else { Err(c.unclear()) }
}

fn rename(c: &mut Cursor<'_>) -> Result<Stated, Unclear> {
    if c.one_of(&["table", "tables"]).is_none() {
        return if c.is("user") { Ok(Stated::Irrelevant) } else { Err(c.unclear()) };
    }
    c.if_exists();
    let mut pairs = Vec::new();
    loop {
        let from = c.table()?;
        wait(c);
        if !c.word("to") {
            return Err(c.unclear());
        }
        pairs.push((from, c.table()?));
        if !c.sign(',') {
            return Ok(Stated::RenameTable { pairs });
        }
    }
}

fn create_table(c: &mut Cursor<'_>, or_replace: bool, temporary: bool) -> Result<Stated, Unclear> {
    let if_not_exists = c.if_not_exists();
    let name = c.table()?;
    let mut t = CreateTable {
        name,
        columns: Vec::new(),
        keys: Vec::new(),
        if_not_exists,
        or_replace,
        like: None,
        select: false,
        temporary,
        partitioned: false,
    };
    // What only its session sees needs no reading.
    if temporary {
        return Ok(Stated::CreateTable(Box::new(t)));
    }
    if c.word("like") {
        t.like = Some(c.table()?);
        return if c.done() { Ok(Stated::CreateTable(Box::new(t))) } else { Err(c.unclear()) };
    }
    if c.is_sign('(') && !c.is_at(1, "select") {
        c.expect('(')?;
        if c.word("like") {
            t.like = Some(c.table()?);
            c.expect(')')?;
            return if c.done() { Ok(Stated::CreateTable(Box::new(t))) } else { Err(c.unclear()) };
        }
        loop {
            element(c, &mut t)?;
            if c.sign(')') {
                break;
            }
            c.expect(',')?;
        }
    }
    // Options: what concerns rows is where they come from, and where they are kept.
    while let Some(kind) = c.peek() {
        if c.is_sign('(') {
            t.select |= c.is_at(1, "select");
            c.bracket()?;
            continue;
        }
        if c.is("select") || (c.is("values") && t.columns.is_empty()) || (c.is("with") && !c.is_at(1, "system")) {
            t.select = true;
            break;
        }
        if c.words(&["with", "system", "versioning"]) {
            return Err("the table keeps the history of its rows".into());
        }
        if c.is("union") || (c.is("engine") && engine_loses(c)) {
            return Err("the table's engine keeps no rows of its own".into());
        }
        if c.words(&["partition", "by"]) {
            t.partitioned = true;
        }
        if matches!(kind, Kind::Sign(')')) {
            return Err(c.unclear());
        }
        c.next();
    }
    Ok(Stated::CreateTable(Box::new(t)))
}

/// ENGINE of a kind that holds no rows, or other tables' rows.
fn engine_loses(c: &Cursor<'_>) -> bool {
    let ahead = if c.peek_at(1) == Some(&Kind::Sign('=')) { 2 } else { 1 };
    let name = match c.peek_at(ahead) {
        Some(Kind::Word(w) | Kind::Quoted(w) | Kind::Text(w)) => w.to_ascii_lowercase(),
        _ => return false,
    };
    ["blackhole", "merge", "mrg_myisam", "federated", "connect", "spider", "s3", "ndb", "ndbcluster"]
        .contains(&name.as_str())
}

fn element(c: &mut Cursor<'_>, t: &mut CreateTable) -> Result<(), Unclear> {
    if c.is("period") && c.is_at(1, "for") {
        return Err("the table keeps the history of its rows".into());
    }
    if let Some(key) = key(c)? {
        t.keys.extend(key);
        return Ok(());
    }
    let Defined { column, key } = column::read(c)?;
    t.columns.push(column);
    t.keys.extend(key);
    Ok(())
}

/// Takes a key or a constraint if one stands here; `Some(None)` is one that is no key.
fn key(c: &mut Cursor<'_>) -> Result<Option<Option<KeyText>>, Unclear> {
    let mark = c.mark();
    let mut symbol = None;
    if c.word("constraint") {
        let named = !["primary", "unique", "foreign", "check"].iter().any(|w| c.is(w));
        // MariaDB: ADD CONSTRAINT IF NOT EXISTS name.
        c.if_not_exists();
        if named {
            symbol = Some(c.name()?);
        }
    }
    if c.word("check") {
        c.bracket()?;
        if !c.words(&["not", "enforced"]) {
            c.word("enforced");
        }
        return Ok(Some(None));
    }
    if c.words(&["foreign", "key"]) {
        c.if_not_exists();
        if !c.is_sign('(') {
            c.name()?;
        }
        c.bracket()?;
        if !c.word("references") {
            return Err(c.unclear());
        }
        references(c)?;
        return Ok(Some(None));
    }
    let (kind, word) = if c.words(&["primary", "key"]) {
        (KeyKind::Primary, "PRIMARY KEY".to_owned())
    } else if c.word("unique") {
        c.one_of(&["key", "index"]);
        (KeyKind::Unique, "UNIQUE KEY".to_owned())
    } else if let Some(w) = ["fulltext", "spatial"].into_iter().find(|w| c.is(w)) {
        c.next();
        c.one_of(&["key", "index"]);
        (KeyKind::Plain, format!("{} KEY", w.to_uppercase()))
    } else if c.is("vector") && (c.is_at(1, "index") || c.is_at(1, "key")) {
        c.next();
        c.next();
        (KeyKind::Plain, "VECTOR INDEX".to_owned())
    } else if c.one_of(&["key", "index"]).is_some() {
        (KeyKind::Plain, "KEY".to_owned())
    } else if symbol.is_some() {
        return Err(c.unclear());
    } else {
        c.back_to(mark);
        return Ok(None);
    };
    let conditional = c.if_not_exists();
    let mut using = Vec::new();
    index_type(c, &mut using)?;
    let mut name = None;
    if !c.is_sign('(') && !c.is("using") {
        name = Some(c.name()?);
    }
    index_type(c, &mut using)?;
    let (columns, computed, parts) = key_parts(c)?;
    index_options(c, &mut using)?;
    let name = name.or(symbol).filter(|_| kind != KeyKind::Primary);
    let quoted = name.as_ref().map(|n| format!("`{}` ", n.replace('`', "``"))).unwrap_or_default();
    let text = format!("{word} {quoted}{parts}{}", using.concat());
    Ok(Some(Some(KeyText { kind, name, columns, computed, text, conditional })))
}

fn index_type(c: &mut Cursor<'_>, using: &mut Vec<String>) -> Result<(), Unclear> {
    if c.word("using") || c.word("type") {
        using.push(format!(" USING {}", c.name()?));
    }
    Ok(())
}

fn index_options(c: &mut Cursor<'_>, using: &mut Vec<String>) -> Result<(), Unclear> {
    loop {
        if c.is("using") {
            index_type(c, using)?;
        } else if c.words(&["with", "parser"]) {
            using.push(format!(" WITH PARSER {}", c.name()?));
        } else if c.one_of(&["key_block_size", "comment", "engine_attribute", "secondary_engine_attribute"]).is_some()
            || c.one_of(&["clustering", "m", "distance"]).is_some()
        {
            c.value()?;
        } else if c.one_of(&["visible", "invisible", "ignored"]).is_none() && !c.words(&["not", "ignored"]) {
            return Ok(());
        }
    }
}

type Parts = (Vec<(String, bool)>, bool, String);

/// `(a, b(10) DESC, (lower(c)))`.
fn key_parts(c: &mut Cursor<'_>) -> Result<Parts, Unclear> {
    let mark = c.mark();
    let (mut columns, mut computed) = (Vec::new(), false);
    c.expect('(')?;
    loop {
        if c.is_sign('(') {
            c.bracket()?;
            computed = true;
        } else {
            let name = c.name()?;
            let whole = !c.is_sign('(');
            if !whole {
                c.bracket()?;
            }
            // MariaDB's application-time periods.
            computed |= c.words(&["without", "overlaps"]);
            columns.push((name, whole));
        }
        c.one_of(&["asc", "desc"]);
        if c.sign(')') {
            return Ok((columns, computed, c.since(mark).to_owned()));
        }
        c.expect(',')?;
    }
}

/// ALGORITHM and LOCK behind CREATE INDEX and DROP INDEX.
fn table_locks(c: &mut Cursor<'_>) -> Result<(), Unclear> {
    while c.one_of(&["algorithm", "lock"]).is_some() {
        c.value()?;
    }
    wait(c);
    Ok(())
}

fn alter_statement(c: &mut Cursor<'_>) -> Result<Stated, Unclear> {
    c.one_of(&["online", "offline"]);
    let ignore = c.word("ignore");
    if !c.word("table") {
        let irrelevant = other_object(c) || c.is("database") || c.is("schema");
        return if irrelevant { Ok(Stated::Irrelevant) } else { Err(c.unclear()) };
    }
    c.if_exists();
    let name = c.table()?;
    wait(c);
    let mut ops = Vec::new();
    while !c.done() {
        alter_op(c, &mut ops)?;
        // Partitioning stands behind the other changes without a comma.
        if !c.sign(',') && !c.done() && !c.is("partition") && !c.is("remove") && !options_follow(c) {
            return Err(c.unclear());
        }
    }
    Ok(Stated::AlterTable { name, ops, ignore })
}

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

fn options_follow(c: &Cursor<'_>) -> bool {
    OPTIONS.iter().any(|o| c.is(o)) || ["default", "character", "data", "index"].iter().any(|w| c.is(w))
}

fn alter_op(c: &mut Cursor<'_>, ops: &mut Vec<AlterOp>) -> Result<(), Unclear> {
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
        let Defined { mut column, key } = column::read(c)?;
        column.conditional = conditional;
        let from = from.unwrap_or_else(|| column.name.clone());
        let place = place(c)?;
        ops.push(AlterOp::Change { from, column: Box::new(column), place });
        ops.extend(key.map(AlterOp::AddKey));
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
            c.next();
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
        while c.next().is_some() {}
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
        while c.next().is_some() {}
        ops.push(AlterOp::Nothing);
        return Ok(());
    }
    if c.words(&["system", "versioning"]) || (c.is("period") && c.is_at(1, "for")) {
        return Err("the table keeps the history of its rows from here on".into());
    }
    if let Some(key) = key(c)? {
        ops.push(key.map_or(AlterOp::Nothing, AlterOp::AddKey));
        return Ok(());
    }
    c.word("column");
    let conditional = c.if_not_exists();
    if c.sign('(') {
        loop {
            match key(c)? {
                Some(key) => ops.push(key.map_or(AlterOp::Nothing, AlterOp::AddKey)),
                None => {
                    let Defined { mut column, key } = column::read(c)?;
                    column.conditional = conditional;
                    ops.push(AlterOp::Add { column: Box::new(column), place: Place::Last });
                    ops.extend(key.map(AlterOp::AddKey));
                }
            }
            if c.sign(')') {
                return Ok(());
            }
            c.expect(',')?;
        }
    }
    let Defined { mut column, key } = column::read(c)?;
    column.conditional = conditional;
    ops.push(AlterOp::Add { column: Box::new(column), place: place(c)? });
    ops.extend(key.map(AlterOp::AddKey));
    Ok(())
}

fn drop_op(c: &mut Cursor<'_>, ops: &mut Vec<AlterOp>) -> Result<(), Unclear> {
    if c.words(&["primary", "key"]) {
        ops.push(AlterOp::DropKey { name: "PRIMARY".into() });
    } else if c.words(&["foreign", "key"]) || c.word("check") {
        c.if_exists();
        c.name()?;
        ops.push(AlterOp::Nothing);
    } else if c.one_of(&["key", "index", "constraint"]).is_some() {
        c.if_exists();
        ops.push(AlterOp::DropKey { name: c.name()? });
    } else if c.word("partition") {
        while c.next().is_some() {}
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
        c.next();
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
    let rest = |c: &mut Cursor<'_>| while c.next().is_some() {};
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
