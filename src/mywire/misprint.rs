//! Labels and constant defaults as they are, where catalogs print `?` for characters beyond U+FFFF.
//!
//! `information_schema` and SHOW CREATE TABLE pass definitions through `utf8mb3` (`Field_enum::sql_type`, sql/field.cc), which
//! has no such characters. Values are sent as they are, so defaults are asked for as values, and labels are read from rows of
//! a temporary table of the same type. What cannot be a misprint is not asked for.

use async_trait::async_trait;

use super::control;
use super::quote::{printed, qualified, quoted, read_printed};
use crate::error::Result;
use crate::schema::TableName;

/// Rows as texts.
pub type Rows = Vec<Vec<Option<String>>>;

/// A session that answers with texts.
#[async_trait]
pub trait Asking: Send {
    /// Runs one statement.
    ///
    /// # Errors
    /// Of the server, and of the connection.
    async fn ask(&mut self, sql: &str) -> Result<Rows>;
}

#[async_trait]
impl Asking for mysql_async::Conn {
    async fn ask(&mut self, sql: &str) -> Result<Rows> {
        control::rows(self, "reading definitions at the source", sql).await
    }
}

/// The table that labels are read from; only its session sees it.
const ROOM: &str = "switchyard_labels";

/// Whether a printed definition may hold something else than it says.
pub fn may_be(printed: &str) -> bool {
    printed.contains('?')
}

/// The constant defaults of a table's columns, all of which must have one; `None` for those of which the server does not
/// tell. `database`: see [`labels`].
///
/// # Errors
/// `Retry` for a lost connection.
pub async fn defaults(
    session: &mut dyn Asking,
    table: &TableName,
    columns: &[&str],
    database: &str,
) -> Result<Vec<Option<String>>> {
    let list = columns.iter().map(|c| format!("DEFAULT(t.{})", quoted(c))).collect::<Vec<_>>().join(", ");
    let from = qualified(table);
    let mut found: Vec<Option<String>> = Vec::new();
    for sql in [
        format!("SELECT {list} FROM {from} t LIMIT 1"),
        // Gives a row where the table has none; what is NOT NULL is NULL in it.
        format!("SELECT {list} FROM (SELECT 1 AS one) o LEFT JOIN {from} t ON FALSE"),
    ] {
        match session.ask(&sql).await {
            Ok(rows) => found = rows.into_iter().next().unwrap_or_default(),
            Err(e) if e.is_retry() => return Err(e),
            Err(_) => {}
        }
        if !found.is_empty() {
            break;
        }
    }
    found.resize(columns.len(), None);
    for (column, default) in columns.iter().zip(&mut found) {
        if default.is_none() {
            let fill = |room: &str| format!("INSERT INTO {room} (k) VALUES (1)");
            let row = from_room(session, table, column, ("k INT PRIMARY KEY", fill), database).await?;
            *default = row.and_then(|mut r| r.pop());
        }
    }
    Ok(found)
}

/// The labels of an `enum` column, or of a `set`. `count` is how many there are, `database` one in which the account may
/// create temporary tables. `None` if it may not, or the server does not tell.
///
/// # Errors
/// `Retry` for a lost connection.
pub async fn labels(
    session: &mut dyn Asking,
    table: &TableName,
    column: &str,
    (count, set): (usize, bool),
    database: &str,
) -> Result<Option<Vec<String>>> {
    let numbers = (0..count).map(|n| if set { 1u128 << n.min(64) } else { n as u128 + 1 });
    let values: Vec<String> = numbers.map(|n| format!("({n})")).collect();
    let fill = |room: &str| format!("INSERT INTO {room} (c) VALUES {}", values.join(", "));
    let found = from_room(session, table, column, ("PRIMARY KEY (c)", fill), database).await?;
    Ok(found.filter(|labels| labels.len() == count))
}

/// Rows of a temporary table whose column `c` is defined as `column` is, once `fill` has filled it. Its key is for servers
/// that insist on one.
async fn from_room(
    session: &mut dyn Asking,
    table: &TableName,
    column: &str,
    (key, fill): (&str, impl Fn(&str) -> String + Send),
    database: &str,
) -> Result<Option<Vec<String>>> {
    let room = format!("{}.{}", quoted(database), quoted(ROOM));
    // Elsewhere a temporary table's statements are logged, and whoever follows the log would stop at them.
    let format = session.ask("SHOW VARIABLES LIKE 'binlog_format'").await?;
    if format.first().and_then(|r| r.get(1)).is_some_and(|f| f.as_deref() != Some("ROW")) {
        return Ok(None);
    }
    let made = format!(
        "CREATE TEMPORARY TABLE {room} ({key}) SELECT {} AS c FROM {} LIMIT 0",
        quoted(column),
        qualified(table)
    );
    match session.ask(&made).await {
        Ok(_) => {}
        Err(e) if e.is_retry() => return Err(e),
        Err(_) => return Ok(None),
    }
    let mut found = Ok(Vec::new());
    for sql in [fill(&room), format!("SELECT c FROM {room} ORDER BY c + 0")] {
        found = session.ask(&sql).await;
        if found.is_err() {
            break;
        }
    }
    session.ask(&format!("DROP TEMPORARY TABLE {room}")).await?;
    match found {
        Ok(rows) => Ok(Some(rows.into_iter().filter_map(|mut r| r.pop().flatten()).collect())),
        Err(e) if e.is_retry() => Err(e),
        Err(_) => Ok(None),
    }
}

/// A table's statement, as SHOW CREATE TABLE prints it, with the right labels and default of a column. As it is where the
/// column is not found in it.
pub fn mended(statement: &str, column: &str, labels: Option<&[String]>, default: Option<&str>) -> String {
    let head = format!("  {} ", quoted(column));
    let line = |l: &str| -> Option<String> {
        let rest = l.strip_prefix(&head)?;
        let mut out = head.clone();
        let mut rest = rest;
        if let Some(labels) = labels {
            let word = ["enum(", "set("].into_iter().find(|w| rest.starts_with(w))?;
            out.push_str(word);
            out.push_str(&labels.iter().map(|l| printed(l)).collect::<Vec<_>>().join(","));
            out.push(')');
            rest = behind_labels(rest.get(word.len()..)?)?;
        }
        // MySQL prints such a default in hexadecimal digits, which are right.
        if let Some(default) = default
            && let Some((before, after)) = split_default(rest)
        {
            out.push_str(before);
            out.push_str(&printed(default));
            rest = after;
        }
        out.push_str(rest);
        Some(out)
    };
    let lines: Vec<String> = statement.split('\n').map(|l| line(l).unwrap_or_else(|| l.to_owned())).collect();
    lines.join("\n")
}

/// What follows the bracket that labels stand in.
fn behind_labels(text: &str) -> Option<&str> {
    let mut rest = text;
    loop {
        rest = read_printed(rest)?.1;
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return rest.strip_prefix(')'),
        }
    }
}

/// What stands before the string of a column's DEFAULT, and behind it.
fn split_default(text: &str) -> Option<(&str, &str)> {
    // Before it stand only words: character set, collation, NOT NULL.
    let at = text.find(" DEFAULT '")? + " DEFAULT ".len();
    if text.get(..at)?.contains('\'') {
        return None;
    }
    Some((text.get(..at)?, read_printed(text.get(at..)?)?.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_printed_table_when_mended_then_only_the_column_says_something_else() {
        let text = "CREATE TABLE `t` (\n  `id` int NOT NULL,\n  `e` enum('a?','it''s ?, x)','\\\\') CHARACTER SET utf8mb4 NOT NULL DEFAULT 'a?' COMMENT 'DEFAULT \'a?\'',\n  `f` enum('a?') DEFAULT 0x61F09F9880\n)";
        let labels = ["a😀".to_owned(), "it's 🚂, x)".to_owned(), "\\".to_owned()];
        assert_eq!(
            mended(text, "e", Some(&labels), Some("a😀")),
            text.replace("'a?','it''s ?, x)'", "'a😀','it''s 🚂, x)'").replacen("DEFAULT 'a?'", "DEFAULT 'a😀'", 1)
        );
        assert_eq!(
            mended(text, "f", Some(&labels[..1]), Some("a😀")),
            text.replace("`f` enum('a?')", "`f` enum('a😀')")
        );
        assert_eq!(mended(text, "g", Some(&labels), Some("x")), text);
        assert_eq!(mended(text, "id", Some(&labels), Some("x")), text);
        for broken in ["  `e` enum('a", "  `e` enum(", "  `e` set('a'", "  `e` enum('a') DEFAULT 'x", "  `e` "] {
            let _ = mended(broken, "e", Some(&labels), Some("x"));
        }
    }
}
