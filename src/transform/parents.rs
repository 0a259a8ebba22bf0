//! Which columns of a list's rows hold the key of the row that the list was in. Pure.
//!
//! Two expressions are taken for the same if they are written alike, word by word, where one says `parent.id` and the
//! other `id`. That is less than could be proved, and never wrong.

use sqlparser::dialect::dialect_from_str;
use sqlparser::tokenizer::{Token, Tokenizer};

use super::compile::Scope;
use super::output::{FieldFrom, Output, ParentKey, Program};
use crate::error::Result;
use crate::schema::{Column, Ident, Kind};

impl Scope<'_> {
    /// For each column of the parent's key on the target, the column of its items that holds the same value.
    ///
    /// # Errors
    /// `Fatal` when one is held by none: then nothing tells whose rows those of a parent that was left out are.
    pub(super) fn parent_key(
        &self,
        by: &str,
        parent: &Output,
        columns: &[Column],
        items: &Program,
        owner: &[usize],
    ) -> Result<ParentKey> {
        let mut found = Vec::new();
        let Some(rule) = &parent.program else { return Err(self.error(by, "the rule has no columns")) };
        for &k in parent.target.key() {
            let key = &parent.target.columns[k];
            let made = match &rule.fields[k] {
                FieldFrom::Column(c) | FieldFrom::Converted(c, _) => Ident(&self.source.columns[*c].name).to_string(),
                FieldFrom::Computed(e) => e.sql().to_owned(),
            };
            let wanted = words(&made, false);
            let holds = |i: &usize| match &items.fields[*i] {
                FieldFrom::Computed(e) => {
                    wanted.is_some() && words(e.sql(), true) == wanted && prints_alike(key, &columns[*i])
                }
                FieldFrom::Column(_) | FieldFrom::Converted(..) => false,
            };
            let Some(&i) = owner.iter().find(|i| holds(i)) else {
                return Err(self
                    .error(
                        by,
                        format!(
                            "the rule skips rows, and no column holds the key of {} ({} = {made}): nothing tells whose items those of a skipped row are",
                            parent.target.name,
                            Ident(&key.name),
                        ),
                    )
                    .hint(format!(
                        "set a column of the same type ({}) to the same expression, with `parent.` before each column",
                        key.type_name
                    )));
            };
            found.push((i, key.type_name.clone()));
        }
        Ok(ParentKey { table: parent.target.name.clone(), columns: found })
    }
}

/// Whether one value, assigned to either column, prints the same once it is cast to the key's type.
fn prints_alike(key: &Column, item: &Column) -> bool {
    let integer = |c: &Column| matches!(c.kind, Kind::Int2 | Kind::Int4 | Kind::Int8);
    let text =
        |c: &Column| c.kind == Kind::Uuid || c.type_name == "text" || c.type_name.starts_with("character varying");
    key.type_name == item.type_name || (integer(key) && integer(item)) || (text(key) && text(item))
}

/// The words of an expression without blanks and comments; names as they are meant. With `of_item`, `parent.` is left out.
fn words(sql: &str, of_item: bool) -> Option<Vec<String>> {
    let dialect = dialect_from_str("postgresql")?;
    let tokens = Tokenizer::new(dialect.as_ref(), sql).tokenize().ok()?;
    let mut out: Vec<String> = Vec::new();
    let mut tokens = tokens.into_iter().filter(|t| !matches!(t, Token::Whitespace(_))).peekable();
    while let Some(token) = tokens.next() {
        match token {
            Token::Word(w) => {
                let name = if w.quote_style.is_some() { w.value } else { w.value.to_lowercase() };
                if of_item && name == "parent" && tokens.peek() == Some(&Token::Period) {
                    tokens.next();
                    continue;
                }
                out.push(name);
            }
            // With a sign before it that no name has: a text is no name.
            other => out.push(format!("\0{other}")),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_expressions_when_compared_by_words_then_only_the_same_ones_are_equal() {
        let same = |parent: &str, item: &str| words(parent, false) == words(item, true);
        assert!(same("id", " parent . ID ") && same("\"Id\"", "parent.\"Id\"") && same("id", "parent.\"id\""));
        assert!(same("uuid5('a', id || ':' || n)", "uuid5('a', parent.id||':'||parent.n) -- the same"));
        assert!(
            !same("id", "parent.n") && !same("id", "parent.id + 0") && !same("uuid5('a', id)", "uuid5('A', parent.id)")
        );
        assert!(!same("id", "'id'") && !same("\"Id\"", "parent.Id"));
    }
}
