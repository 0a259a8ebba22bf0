//! Which tables take part: include and exclude patterns. Pure.

use serde::{Deserialize, Serialize};

use crate::schema::TableName;

/// Include and exclude patterns over `schema.table`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

/// One pattern. `*` stands for any run of characters, `?` for one; quoted parts are taken as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pattern {
    text: String,
    schema: Vec<Piece>,
    table: Vec<Piece>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Piece {
    Char(char),
    One,
    Any,
}

impl Pattern {
    /// Reads `schema.table`, each part plain with wildcards or in double quotes (then literal, `""` is a quote).
    ///
    /// # Errors
    /// A text that says what is wrong with the pattern.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        let mut parts: Vec<Vec<Piece>> = vec![Vec::new()];
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let part = parts.last_mut().ok_or("empty")?;
            match c {
                '.' => parts.push(Vec::new()),
                '*' => part.push(Piece::Any),
                '?' => part.push(Piece::One),
                '"' => loop {
                    match chars.next() {
                        None => return Err(format!("{text}: a quote is not closed")),
                        Some('"') if chars.peek() == Some(&'"') => {
                            chars.next();
                            part.push(Piece::Char('"'));
                        }
                        Some('"') => break,
                        Some(c) => part.push(Piece::Char(c)),
                    }
                },
                c => part.push(Piece::Char(c)),
            }
        }
        let mut parts = parts.into_iter();
        match (parts.next(), parts.next(), parts.next()) {
            (Some(schema), Some(table), None) if !schema.is_empty() && !table.is_empty() => {
                Ok(Pattern { text: text.to_owned(), schema, table })
            }
            _ => Err(format!(
                "{text:?} is not a table pattern; write schema.table, for example public.* or sales.orders"
            )),
        }
    }
    /// Whether the table matches.
    pub fn matches(&self, table: &TableName) -> bool {
        glob(&self.schema, &table.schema) && glob(&self.table, &table.name)
    }
    /// Anchored regular expressions that match the same schemas and the same tables, in the words that POSIX and
    /// PostgreSQL's advanced expressions share.
    pub fn regexes(&self) -> (String, String) {
        let regex = |pieces: &[Piece]| {
            let mut out = String::from("^");
            for p in pieces {
                match p {
                    Piece::Any => out.push_str(".*"),
                    Piece::One => out.push('.'),
                    Piece::Char(c) if c.is_alphanumeric() || *c == '_' || !c.is_ascii() => out.push(*c),
                    // A bracket takes everything literally, but these three where they stand first.
                    Piece::Char(c @ ('^' | '\\')) => out.extend(['\\', *c]),
                    Piece::Char(c) => out.extend(['[', *c, ']']),
                }
            }
            out.push('$');
            out
        };
        (regex(&self.schema), regex(&self.table))
    }
    /// The pattern as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Reads `schema.table` as a pattern is read, but without wildcards; a missing schema is `schema`.
///
/// # Errors
/// What is wrong, and after a `; ` what would be right.
pub fn table_name(text: &str, schema: Option<&str>) -> Result<TableName, String> {
    let whole = match schema {
        Some(schema) if Pattern::parse(text).is_err() => format!("\"{}\".{text}", schema.replace('"', "\"\"")),
        _ => text.to_owned(),
    };
    let wrong =
        || format!("{text:?} is not a table's name; write schema.table, each in double quotes where it needs them");
    let pattern = Pattern::parse(&whole).map_err(|_| wrong())?;
    let part = |pieces: &[Piece]| -> Option<String> {
        pieces.iter().map(|p| if let Piece::Char(c) = p { Some(*c) } else { None }).collect()
    };
    match (part(&pattern.schema), part(&pattern.table)) {
        (Some(schema), Some(table)) => Ok(TableName::new(schema, table)),
        _ => Err(format!("{text:?} names no single table; a rule is for one table, without wildcards")),
    }
}

fn glob(pattern: &[Piece], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(Piece::Char(c)) if *c == text[t] => (p, t) = (p + 1, t + 1),
            Some(Piece::One) => (p, t) = (p + 1, t + 1),
            Some(Piece::Any) => {
                star = Some((p, t));
                p += 1;
            }
            _ => match star {
                Some((sp, st)) => {
                    star = Some((sp, st + 1));
                    (p, t) = (sp + 1, st + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|x| *x == Piece::Any)
}

impl Selection {
    /// Compiles patterns. No include pattern means every user table.
    ///
    /// # Errors
    /// The first pattern that cannot be read.
    pub fn new<S: AsRef<str>>(include: &[S], exclude: &[S]) -> Result<Selection, String> {
        let compile = |list: &[S]| list.iter().map(|p| Pattern::parse(p.as_ref())).collect::<Result<Vec<_>, _>>();
        Ok(Selection { include: compile(include)?, exclude: compile(exclude)? })
    }
    /// Whether a user table takes part. The bookkeeping schema never does.
    pub fn selects(&self, table: &TableName) -> bool {
        table.schema != "switchyard"
            && (self.include.is_empty() || self.include.iter().any(|p| p.matches(table)))
            && !self.exclude.iter().any(|p| p.matches(table))
    }
    /// Whether an exclude pattern names the table (which is more than not being included).
    pub fn excludes(&self, table: &TableName) -> bool {
        self.exclude.iter().any(|p| p.matches(table))
    }
    /// The include patterns, as [`Pattern::regexes`]; none means every user table.
    pub fn include_regexes(&self) -> (Vec<String>, Vec<String>) {
        self.include.iter().map(Pattern::regexes).unzip()
    }
    /// The exclude patterns, as [`Pattern::regexes`].
    pub fn exclude_regexes(&self) -> (Vec<String>, Vec<String>) {
        self.exclude.iter().map(Pattern::regexes).unzip()
    }
    /// Whether every user table takes part.
    pub fn is_everything(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }
    /// Include patterns that match none of `tables`: most often a typing error.
    pub fn unmatched<'a>(&'a self, tables: &[TableName]) -> Vec<&'a str> {
        self.include.iter().filter(|p| !tables.iter().any(|t| p.matches(t))).map(|p| p.text()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sel(include: &[&str], exclude: &[&str]) -> Selection {
        Selection::new(include, exclude).unwrap()
    }

    #[test]
    fn given_patterns_when_matched_then_exclude_wins_and_quotes_are_literal() {
        let s = sel(&["public.*", "\"Odd.Schema\".\"T*\""], &["public.tmp_?"]);
        assert!(s.selects(&TableName::new("public", "items")));
        assert!(!s.selects(&TableName::new("public", "tmp_1")));
        assert!(s.selects(&TableName::new("public", "tmp_12")));
        assert!(s.selects(&TableName::new("Odd.Schema", "T*")));
        assert!(!s.selects(&TableName::new("Odd.Schema", "Tx")));
        assert!(!s.selects(&TableName::new("other", "items")));
        assert!(!sel(&[], &[]).selects(&TableName::new("switchyard", "checkpoint")));
        assert_eq!(s.unmatched(&[TableName::new("public", "a")]), ["\"Odd.Schema\".\"T*\""]);
    }

    #[test]
    fn given_patterns_when_made_regular_expressions_then_they_are_anchored_and_literal() {
        let p = Pattern::parse("pu?lic.\"a.*[^\\]\"*").unwrap();
        assert_eq!(p.regexes(), ("^pu.lic$".to_owned(), "^a[.][*][[]\\^\\\\[]].*$".to_owned()));
    }

    #[test]
    fn given_bad_patterns_when_parsed_then_the_error_says_so() {
        for bad in ["items", "a.b.c", "", ".", "a.", "\"a.b"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn given_many_stars_when_matched_then_backtracking_works() {
        let s = sel(&["*.*a*b*c"], &[]);
        assert!(s.selects(&TableName::new("x", "zzazzbbzzbczc")));
        assert!(!s.selects(&TableName::new("x", "zzazzbbzzbcz")));
    }
}
