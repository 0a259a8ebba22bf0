//! Reads statements about tables; names all others. Pure.

use super::alter::{alter_op, options_follow};
use super::column::{self, Defined};
use super::cursor::{Cursor, Unclear};
use super::key::{Element, index_options, index_type, key, key_parts};
use super::token::{Kind, tokens};
use super::{AlterOp, CreateTable, KeyKind, KeyText, Session, Stated};
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

/// What a statement that changes rows is, and the one table that it names first as the one that it writes. `None` where
/// it may write several, or cannot be read.
pub fn writes(statement: &str, database: &str, session: &Session) -> Option<(&'static str, TableName)> {
    let tokens = tokens(statement, session).ok()?;
    let mut c = Cursor::new(statement, &tokens, session, database);
    let verb = c.one_of(&["insert", "replace", "update", "delete"])?;
    while c.one_of(&["low_priority", "high_priority", "delayed", "quick", "ignore"]).is_some() {}
    match verb {
        "insert" | "replace" => drop(c.word("into")),
        "delete" if !c.word("from") => return None,
        _ => {}
    }
    let table = c.table().ok()?;
    let alone = match verb {
        "update" => c.is("set"),
        "delete" => c.is("where") || c.is("limit") || c.done(),
        _ => true,
    };
    alone.then_some((verb, table))
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
        c.take();
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
        while c.take().is_some() {}
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
        foreign: Vec::new(),
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
        c.take();
    }
    Ok(Stated::CreateTable(Box::new(t)))
}

/// ENGINE of a kind that holds no rows, or other tables' rows.
pub fn engine_loses(c: &Cursor<'_>) -> bool {
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
    match key(c)? {
        Some(Element::Key(key)) => t.keys.push(key),
        Some(Element::Foreign(key)) => t.foreign.push(key),
        Some(Element::Check) => {}
        None => {
            let Defined { column, key, foreign } = column::read(c)?;
            t.columns.push(column);
            t.keys.extend(key);
            t.foreign.extend(foreign);
        }
    }
    Ok(())
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
