//! Reads keys, indexes and constraints. Pure.

use super::column::references;
use super::cursor::{Cursor, Unclear};
use super::{ForeignText, KeyKind, KeyText};

/// What a table has besides columns.
#[derive(Clone, Debug)]
pub enum Element {
    /// A key or an index.
    Key(KeyText),
    /// A foreign key.
    Foreign(ForeignText),
    /// A check.
    Check,
}

/// Takes a key or a constraint if one stands here.
pub fn key(c: &mut Cursor<'_>) -> Result<Option<Element>, Unclear> {
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
        return Ok(Some(Element::Check));
    }
    if c.words(&["foreign", "key"]) {
        c.if_not_exists();
        let mut index = None;
        if !c.is_sign('(') {
            index = Some(c.name()?);
        }
        let columns = key_parts(c)?.0.into_iter().map(|(name, _)| name).collect();
        if !c.word("references") {
            return Err(c.unclear());
        }
        // MariaDB takes the index's name for the constraint's where that has none.
        let name = symbol.or(index.filter(|_| c.session.mariadb));
        return Ok(Some(Element::Foreign(references(c, name, columns)?)));
    }
    let (kind, word) = if c.words(&["primary", "key"]) {
        (KeyKind::Primary, "PRIMARY KEY".to_owned())
    } else if c.word("unique") {
        c.one_of(&["key", "index"]);
        (KeyKind::Unique, "UNIQUE KEY".to_owned())
    } else if let Some(w) = ["fulltext", "spatial"].into_iter().find(|w| c.is(w)) {
        c.take();
        c.one_of(&["key", "index"]);
        (KeyKind::Plain, format!("{} KEY", w.to_uppercase()))
    } else if c.is("vector") && (c.is_at(1, "index") || c.is_at(1, "key")) {
        c.take();
        c.take();
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
    Ok(Some(Element::Key(KeyText { kind, name, columns, computed, text, conditional })))
}

pub fn index_type(c: &mut Cursor<'_>, using: &mut Vec<String>) -> Result<(), Unclear> {
    if c.word("using") || c.word("type") {
        using.push(format!(" USING {}", c.name()?));
    }
    Ok(())
}

pub fn index_options(c: &mut Cursor<'_>, using: &mut Vec<String>) -> Result<(), Unclear> {
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

pub type Parts = (Vec<(String, bool)>, bool, String);

/// `(a, b(10) DESC, (lower(c)))`.
pub fn key_parts(c: &mut Cursor<'_>) -> Result<Parts, Unclear> {
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
