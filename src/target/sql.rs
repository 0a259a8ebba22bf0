//! SQL text: quoting of names and values. Pure.

use crate::schema::TableName;

/// An identifier in double quotes. Always quoted, so that keywords and upper case need no thought.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `"schema"."name"`.
pub fn table(name: &TableName) -> String {
    format!("{}.{}", ident(&name.schema), ident(&name.name))
}

/// A string literal that means the same whatever `standard_conforming_strings` says.
pub fn literal(value: &str) -> String {
    let doubled = value.replace('\'', "''");
    if value.contains('\\') { format!(" E'{}'", doubled.replace('\\', "\\\\")) } else { format!("'{doubled}'") }
}

/// A literal, or `NULL`.
pub fn optional_literal(value: Option<&str>) -> String {
    value.map_or_else(|| "NULL".to_owned(), literal)
}

/// Identifiers joined by commas.
pub fn ident_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(ident).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_quotes_and_backslashes_when_quoted_then_nothing_escapes() {
        assert_eq!(ident("a\"b"), "\"a\"\"b\"");
        assert_eq!(table(&TableName::new("Odd \"s\"", "user")), "\"Odd \"\"s\"\"\".\"user\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), " E'a\\\\''b'");
        assert_eq!(optional_literal(None), "NULL");
        assert_eq!(ident_list(["a", "b"]), "\"a\", \"b\"");
    }
}
