//! Identifiers and literals in SQL text that PostgreSQL runs. Pure.
//!
//! For text that people read there is the `Display` of [`TableName`] and [`crate::schema::Ident`].

use crate::schema::TableName;

/// An identifier in double quotes. Always quoted, so that keywords and upper case need no thought.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `"schema"."name"`.
pub fn qualified(table: &TableName) -> String {
    format!("{}.{}", quoted(&table.schema), quoted(&table.name))
}

/// Identifiers joined by commas.
pub fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(quoted).collect::<Vec<_>>().join(", ")
}

/// A string literal that means the same whatever `standard_conforming_strings` says. The blank before `E` keeps it
/// apart from a word in front of it (as `quote_literal()` does).
pub fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if text.contains('\\') { format!(" E'{}'", doubled.replace('\\', "\\\\")) } else { format!("'{doubled}'") }
}

/// A literal, or `NULL`.
pub fn optional_literal(text: Option<&str>) -> String {
    text.map_or_else(|| "NULL".to_owned(), literal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_quotes_and_backslashes_when_quoted_then_nothing_escapes() {
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!(qualified(&TableName::new("Odd \"s\"", "user")), "\"Odd \"\"s\"\"\".\"user\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), " E'a\\\\''b'");
        assert_eq!(optional_literal(None), "NULL");
        assert_eq!(list(["a", "b"]), "\"a\", \"b\"");
    }
}
