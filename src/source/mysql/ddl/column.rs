//! Reads a column's definition, and defaults. Pure.

use super::cursor::{Cursor, Unclear};
use super::key::key_parts;
use super::token::Kind;
use super::{ColumnText, DefaultText, ForeignText, KeyKind, KeyText, written};
use crate::definition::DataType;
use crate::source::mysql::columns;

/// A column, and the key that it brings by itself.
#[derive(Clone, Debug)]
pub struct Defined {
    /// The column.
    pub column: ColumnText,
    /// PRIMARY KEY or UNIQUE stood with it.
    pub key: Option<KeyText>,
    /// REFERENCES stood with it.
    pub foreign: Option<ForeignText>,
}

/// Reads a column's name and definition; ends before `,`, `)`, FIRST or AFTER.
///
/// # Errors
/// What is not understood.
pub fn read(c: &mut Cursor<'_>) -> Result<Defined, Unclear> {
    let name = c.name()?;
    let mut kind = written::read(c)?;
    let (mut key, mut foreign) = (None, None);
    let (mut primary, mut unique) = (false, kind.serial);
    let mut column = ColumnText {
        name,
        type_name: String::new(),
        data: Default::default(),
        null: kind.serial.then_some(false),
        default: None,
        numbered: kind.serial,
        generated: None,
        charset: None,
        collation: None,
        conditional: false,
    };
    loop {
        if c.done() || c.is_sign(',') || c.is_sign(')') || c.is("first") || c.is("after") {
            break;
        }
        if kind.behind(c) {
            continue;
        }
        if c.word("null") {
            column.null = Some(true);
        } else if c.words(&["not", "null"]) {
            column.null = Some(false);
        } else if c.word("default") {
            column.default = default(c)?;
        } else if c.words(&["on", "update"]) {
            default(c)?;
        } else if c.word("auto_increment") {
            column.numbered = true;
        } else if c.words(&["serial", "default", "value"]) {
            (column.numbered, column.null, unique) = (true, Some(false), true);
        } else if c.words(&["primary", "key"]) || c.word("key") || c.word("primary") {
            primary = true;
        } else if c.word("unique") {
            c.word("key");
            unique = true;
        } else if c.words(&["character", "set"]) || c.words(&["char", "set"]) || c.word("charset") {
            column.charset = Some(c.value()?.to_ascii_lowercase());
        } else if c.word("ascii") {
            column.charset = Some("latin1".into());
        } else if c.word("unicode") {
            column.charset = Some("ucs2".into());
        } else if c.word("collate") {
            column.collation = Some(c.value()?.to_ascii_lowercase());
        } else if c.words(&["generated", "always", "as"]) || c.word("as") {
            if c.is("row") {
                return Err("the table keeps the history of its rows".into());
            }
            column.generated = Some(c.bracket()?.to_owned());
            c.one_of(&["virtual", "stored", "persistent"]);
        } else if c.word("references") {
            let said = references(c, None, vec![column.name.clone()])?;
            // MySQL passed over it before 9.0.
            foreign = (c.session.mariadb || c.session.version >= 90_000).then_some(said);
        } else if c.word("constraint") {
            // Its name may be left out.
            if !c.is("check") {
                c.name()?;
            }
        } else if c.word("check") {
            c.bracket()?;
        } else if c.words(&["without", "system", "versioning"]) || c.words(&["not", "enforced"]) {
        } else if c
            .one_of(&["comment", "column_format", "storage", "srid", "engine_attribute", "ref_system_id"])
            .is_some()
            || c.word("secondary_engine_attribute")
        {
            c.value()?;
        } else if c.words(&["not", "secondary"]) || c.one_of(&["visible", "invisible", "binary", "enforced"]).is_some()
        {
        } else {
            return Err(c.unclear());
        }
    }
    if column.charset.as_deref() == Some("binary") {
        kind.binary();
    }
    column.type_name = kind.printed(c.session.mariadb, width(column.charset.as_deref()));
    column.data =
        if kind.document { DataType::Json { verbatim: true } } else { columns::describe(&column.type_name).0 };
    if primary || unique {
        let kind = if primary { KeyKind::Primary } else { KeyKind::Unique };
        let word = if primary { "PRIMARY KEY" } else { "UNIQUE KEY" };
        key = Some(KeyText {
            kind,
            name: None,
            columns: vec![(column.name.clone(), true)],
            computed: false,
            text: format!("{word} (`{}`)", column.name.replace('`', "``")),
            conditional: false,
        });
    }
    if primary {
        column.null = Some(false);
    }
    Ok(Defined { column, key, foreign })
}

/// Most bytes of a character; of sets that are not named as many as any has.
fn width(charset: Option<&str>) -> u64 {
    match charset {
        Some("utf8" | "utf8mb3" | "ujis" | "eucjpms") => 3,
        Some("ucs2" | "big5" | "gbk" | "sjis" | "cp932" | "euckr" | "gb2312") => 2,
        None | Some("utf8mb4" | "utf16" | "utf16le" | "utf32" | "gb18030") => 4,
        Some(_) => 1,
    }
}

/// Takes what follows REFERENCES. `name` and `columns` stood before it.
///
/// # Errors
/// What is not understood.
pub fn references(c: &mut Cursor<'_>, name: Option<String>, columns: Vec<String>) -> Result<ForeignText, Unclear> {
    let first = c.name()?;
    let parent = if c.sign('.') { (Some(first), c.name()?) } else { (None, first) };
    let mut key = ForeignText { name, columns, parent, referenced: Vec::new(), on_delete: false, on_update: false };
    if c.is_sign('(') {
        key.referenced = key_parts(c)?.0.into_iter().map(|(name, _)| name).collect();
    }
    loop {
        if c.word("match") {
            c.name()?;
        } else if c.is("on") && (c.is_at(1, "delete") || c.is_at(1, "update")) {
            let event = if c.words(&["on", "delete"]) {
                &mut key.on_delete
            } else {
                c.words(&["on", "update"]);
                &mut key.on_update
            };
            *event = c.word("cascade") || c.words(&["set", "null"]) || c.words(&["set", "default"]);
            if !*event && !c.word("restrict") && !c.words(&["no", "action"]) {
                return Err(c.unclear());
            }
        } else {
            return Ok(key);
        }
    }
}

/// Takes a default (or what ON UPDATE sets); NULL is none.
///
/// # Errors
/// What is not understood.
pub fn default(c: &mut Cursor<'_>) -> Result<Option<DefaultText>, Unclear> {
    let mark = c.mark();
    if c.is_sign('(') {
        let inner = c.bracket()?;
        let end = c.mark();
        // A literal in brackets is a literal, but the server prints it as an expression.
        c.back_to(mark);
        c.sign('(');
        let null = c.word("null") && c.is_sign(')') && c.mark() + 1 == end;
        c.back_to(end);
        return Ok((!null).then(|| DefaultText::Expression(inner.to_owned())));
    }
    if let Some(literal) = literal(c)? {
        return Ok(literal);
    }
    let Ok(word) = c.name() else { return Err(c.unclear()) };
    let lower = word.to_ascii_lowercase();
    let arguments = if c.is_sign('(') { Some(c.bracket()?.trim().to_owned()) } else { None };
    if matches!(lower.as_str(), "current_timestamp" | "now" | "localtime" | "localtimestamp") {
        let digits = arguments.as_deref().filter(|a| !a.is_empty() && *a != "0");
        let printed = match (c.session.mariadb, digits) {
            (true, d) => format!("current_timestamp({})", d.unwrap_or("")),
            (false, Some(d)) => format!("CURRENT_TIMESTAMP({d})"),
            (false, None) => "CURRENT_TIMESTAMP".to_owned(),
        };
        return Ok(Some(DefaultText::Now(printed)));
    }
    // MariaDB takes an expression without brackets: it goes on to the next word that a definition knows.
    while matches!(c.peek(), Some(Kind::Sign(s)) if !matches!(s, ',' | ')' | ';')) {
        c.take();
        if c.is_sign('(') {
            c.bracket()?;
        } else {
            c.take();
        }
    }
    Ok(Some(DefaultText::Expression(c.since(mark).to_owned())))
}

/// Takes a literal if one stands here. `Some(None)` is NULL.
fn literal(c: &mut Cursor<'_>) -> Result<Option<Option<DefaultText>>, Unclear> {
    let mark = c.mark();
    if c.word("null") {
        return Ok(Some(None));
    }
    for (word, value) in [("true", "1"), ("false", "0")] {
        if c.word(word) {
            return Ok(Some(Some(DefaultText::Number(value.into()))));
        }
    }
    // A character set before a string, or the type of a date.
    if matches!(c.peek(), Some(Kind::Word(w)) if w.starts_with('_') || ["date", "time", "timestamp"].contains(&w.to_ascii_lowercase().as_str()))
        && matches!(c.peek_at(1), Some(Kind::Text(_) | Kind::Hex(_)))
    {
        // In another character set, bytes beyond ASCII would mean something else than the statement's.
        if !matches!(c.peek_at(1), Some(Kind::Text(t)) if t.is_ascii()) {
            let from = c.mark();
            c.take();
            c.take();
            return Ok(Some(Some(DefaultText::Expression(c.since(from).to_owned()))));
        }
        c.take();
    }
    let mut sign = String::new();
    while let Some(Kind::Sign(s @ ('-' | '+'))) = c.peek() {
        c.take();
        if *s == '-' {
            sign = if sign.is_empty() { "-".into() } else { String::new() };
        }
    }
    let signed = c.mark() > mark && !sign.is_empty();
    let read = match c.peek() {
        Some(Kind::Number(n)) => DefaultText::Number(format!("{sign}{n}")),
        Some(Kind::Text(first)) if !signed => {
            // Strings that stand side by side are one.
            let mut text = first.clone();
            while let Some(Kind::Text(more)) = c.peek_at(1) {
                text.push_str(more);
                c.take();
            }
            DefaultText::Text(text)
        }
        Some(Kind::Hex(h)) if !signed => DefaultText::Hex(h.clone()),
        Some(Kind::Bits(b)) if !signed => DefaultText::Bits(b.clone()),
        _ => {
            c.back_to(mark);
            return Ok(None);
        }
    };
    c.take();
    // Part of a longer expression (MariaDB)?
    if matches!(c.peek(), Some(Kind::Sign(s)) if !matches!(s, ',' | ')' | ';')) {
        c.back_to(mark);
        return Err("a default is computed without brackets".into());
    }
    Ok(Some(Some(read)))
}

/// The literal that an expression is made of alone, if so: `('{}')`.
pub fn constant(expression: &str, session: &super::Session) -> Option<DefaultText> {
    let tokens = super::token::tokens(expression, session).ok()?;
    let mut c = Cursor::new(expression, &tokens, session, "");
    while c.sign('(') {}
    let read = literal(&mut c).ok()??;
    while c.sign(')') {}
    if c.done() { read } else { None }
}
