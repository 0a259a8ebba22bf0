//! Identifiers and literals in SQL text that MySQL and MariaDB run. Pure.
//!
//! Right under the `sql_mode` of our sessions: no ANSI_QUOTES, no NO_BACKSLASH_ESCAPES; and under `SET NAMES utf8mb4`,
//! in which no byte of a longer character is a quote or a backslash.

use crate::schema::TableName;

/// An identifier in backticks. Always quoted, so that keywords and blanks need no thought.
pub fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// `` `database`.`name` ``.
pub fn qualified(table: &TableName) -> String {
    format!("{}.{}", quoted(&table.schema), quoted(&table.name))
}

/// Identifiers joined by commas.
pub fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(quoted).collect::<Vec<_>>().join(", ")
}

/// A string literal.
pub fn literal(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    put_literal(&mut out, text.as_bytes());
    // Only ASCII was put between whole characters.
    String::from_utf8_lossy(&out).into_owned()
}

/// A string as the servers print labels and constant defaults (`append_unescaped`, sql/unireg.cc).
pub fn printed(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for c in text.chars() {
        match c {
            '\'' => out.push_str("''"),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\0' => out.push_str("\\0"),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

/// Reads a string that [`printed`] has written, at the front of `text`; and what follows it. `None` if there is none.
pub fn read_printed(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix('\'')?;
    let mut out = String::new();
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' => match inner.get(at + 1..)?.starts_with('\'') {
                true => {
                    chars.next();
                    out.push('\'');
                }
                false => return Some((out, inner.get(at + 1..)?)),
            },
            '\\' => out.push(match chars.next()?.1 {
                'n' => '\n',
                'r' => '\r',
                '0' => '\0',
                'Z' => '\u{1a}',
                other => other,
            }),
            c => out.push(c),
        }
    }
    None
}

/// The strings of a printed list, `'a','it''s'`.
pub fn read_labels(list: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = list;
    while let Some(at) = rest.find('\'') {
        let Some((label, more)) = rest.get(at..).and_then(read_printed) else { break };
        found.push(label);
        rest = more;
    }
    found
}

/// A literal, or `NULL`.
pub fn optional_literal(text: Option<&str>) -> String {
    text.map_or_else(|| "NULL".to_owned(), literal)
}

/// Appends a string literal of any bytes that are text in the connection's character set. Bytes that are no text need
/// [`put_hex`], or `_binary` before the literal: the server refuses or changes them otherwise.
pub fn put_literal(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'\'');
    let mut rest = text;
    while let Some(at) = rest.iter().position(|b| matches!(b, b'\'' | b'\\' | 0)) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(match rest[at] {
            b'\'' => b"''",
            b'\\' => b"\\\\",
            // A zero byte would do as it is; this keeps statements readable in logs.
            _ => b"\\0",
        });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'\'');
}

/// Appends a binary literal, `0x00ff`; the empty one is `''`, because `0x` is none.
pub fn put_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.is_empty() {
        out.extend_from_slice(b"''");
        return;
    }
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(2 + 2 * bytes.len());
    out.extend_from_slice(b"0x");
    for b in bytes {
        out.push(DIGITS[usize::from(b >> 4)]);
        out.push(DIGITS[usize::from(b & 15)]);
    }
}

/// A binary literal; see [`put_hex`].
pub fn hex(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    put_hex(&mut out, bytes);
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_quotes_and_backslashes_when_quoted_then_nothing_escapes() {
        assert_eq!(quoted("a`b"), "`a``b`");
        assert_eq!(qualified(&TableName::new("Odd `s`", "user")), "`Odd ``s```.`user`");
        assert_eq!(literal("it's \\ é\0"), "'it''s \\\\ é\\0'");
        assert_eq!(optional_literal(None), "NULL");
        assert_eq!(list(["a", "b"]), "`a`, `b`");
        assert_eq!((hex(b""), hex(b"\x00\xff")), ("''".into(), "0x00ff".into()));
    }
}
