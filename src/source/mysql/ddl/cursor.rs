//! A place in a statement's tokens, and the small steps that every reader takes from there. Pure.

use super::Session;
use super::token::{Kind, Token};
use crate::schema::TableName;

/// Why a statement is not understood.
pub type Unclear = String;

/// A place in a statement.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    text: &'a str,
    tokens: &'a [Token],
    at: usize,
    /// The session's settings.
    pub session: &'a Session,
    database: &'a str,
}

impl<'a> Cursor<'a> {
    /// The beginning of a statement.
    pub fn new(text: &'a str, tokens: &'a [Token], session: &'a Session, database: &'a str) -> Self {
        Cursor { text, tokens, at: 0, session, database }
    }
    /// The token here.
    pub fn peek(&self) -> Option<&'a Kind> {
        self.peek_at(0)
    }
    /// The token so many further on.
    pub fn peek_at(&self, ahead: usize) -> Option<&'a Kind> {
        self.tokens.get(self.at + ahead).map(|t| &t.kind)
    }
    /// Takes the token here.
    pub fn take(&mut self) -> Option<&'a Kind> {
        let kind = self.peek();
        self.at += usize::from(kind.is_some());
        kind
    }
    /// Whether the statement ends here.
    pub fn done(&self) -> bool {
        self.tokens[self.at.min(self.tokens.len())..].iter().all(|t| t.kind == Kind::Sign(';'))
    }
    /// The number of the token here, for [`Cursor::since`].
    pub fn mark(&self) -> usize {
        self.at
    }
    /// Back to a mark.
    pub fn back_to(&mut self, mark: usize) {
        self.at = mark;
    }
    /// The text from a mark up to here.
    pub fn since(&self, mark: usize) -> &'a str {
        let last = self.at.checked_sub(1).filter(|l| *l >= mark);
        match (self.tokens.get(mark), last.and_then(|l| self.tokens.get(l))) {
            (Some(a), Some(b)) => self.text.get(a.start..b.end).unwrap_or(""),
            _ => "",
        }
    }
    /// Whether the word stands so many tokens further on.
    pub fn is_at(&self, ahead: usize, word: &str) -> bool {
        matches!(self.peek_at(ahead), Some(Kind::Word(w)) if w.eq_ignore_ascii_case(word))
    }
    /// Whether the word stands here.
    pub fn is(&self, word: &str) -> bool {
        self.is_at(0, word)
    }
    /// Takes the word if it stands here.
    pub fn word(&mut self, word: &str) -> bool {
        let is = self.is(word);
        self.at += usize::from(is);
        is
    }
    /// Takes all of these words if they stand here, or none.
    pub fn words(&mut self, words: &[&str]) -> bool {
        let all = words.iter().enumerate().all(|(i, w)| self.is_at(i, w));
        self.at += if all { words.len() } else { 0 };
        all
    }
    /// Takes one of these words, and says which.
    pub fn one_of(&mut self, words: &[&'static str]) -> Option<&'static str> {
        words.iter().copied().find(|w| self.word(w))
    }
    /// Whether the sign stands here.
    pub fn is_sign(&self, sign: char) -> bool {
        self.peek() == Some(&Kind::Sign(sign))
    }
    /// Takes the sign if it stands here.
    pub fn sign(&mut self, sign: char) -> bool {
        let is = self.is_sign(sign);
        self.at += usize::from(is);
        is
    }
    /// Takes the sign.
    ///
    /// # Errors
    /// Something else stands here.
    pub fn expect(&mut self, sign: char) -> Result<(), Unclear> {
        if self.sign(sign) { Ok(()) } else { Err(format!("{sign:?} is missing {}", self.place())) }
    }
    /// Where this is, in words; never a string, which may be a value.
    pub fn place(&self) -> String {
        match self.peek() {
            Some(Kind::Word(w) | Kind::Quoted(w)) => format!("at {w:?}"),
            Some(Kind::Sign(c)) => format!("at {c:?}"),
            Some(_) => "before a value".into(),
            None => "at the end".into(),
        }
    }
    /// The error for something here that nothing is known of.
    pub fn unclear(&self) -> Unclear {
        format!("it is not known what stands {}", self.place())
    }
    /// Takes a name.
    ///
    /// # Errors
    /// There is none.
    pub fn name(&mut self) -> Result<String, Unclear> {
        match self.peek() {
            Some(Kind::Word(w) | Kind::Quoted(w)) => {
                self.at += 1;
                Ok(w.clone())
            }
            // A double-quoted string where a name must be is what a wrongly read sql_mode would look like.
            _ => Err(format!("a name is missing {}", self.place())),
        }
    }
    /// Takes a table's name; without a database it is in the session's.
    ///
    /// # Errors
    /// There is none.
    pub fn table(&mut self) -> Result<TableName, Unclear> {
        self.sign('.');
        let first = self.name()?;
        if self.sign('.') {
            return Ok(TableName::new(first, self.name()?));
        }
        Ok(TableName::new(self.database, first))
    }
    /// Takes a bracket with all that is in it, and gives that back as written.
    ///
    /// # Errors
    /// There is none here, or it is not closed.
    pub fn bracket(&mut self) -> Result<&'a str, Unclear> {
        self.expect('(')?;
        let from = self.at;
        let mut depth = 1;
        while let Some(kind) = self.take() {
            match kind {
                Kind::Sign('(') => depth += 1,
                Kind::Sign(')') => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                let end = self.at;
                self.at -= 1;
                let inner = self.since(from);
                self.at = end;
                return Ok(inner);
            }
        }
        Err("a bracket is not closed".into())
    }
    /// Takes a name, a number, a string: what follows an option and its `=`.
    ///
    /// # Errors
    /// Nothing of that stands here.
    pub fn value(&mut self) -> Result<String, Unclear> {
        self.sign('=');
        match self.peek() {
            Some(Kind::Word(w) | Kind::Quoted(w) | Kind::Text(w) | Kind::Number(w)) => {
                self.at += 1;
                Ok(w.clone())
            }
            _ => Err(format!("a value is missing {}", self.place())),
        }
    }
    /// IF EXISTS.
    pub fn if_exists(&mut self) -> bool {
        self.words(&["if", "exists"])
    }
    /// IF NOT EXISTS.
    pub fn if_not_exists(&mut self) -> bool {
        self.words(&["if", "not", "exists"])
    }
    /// Every name in the whole statement that may be a table's.
    pub fn mentions(&self) -> Vec<TableName> {
        let name = |i: usize| match self.tokens.get(i).map(|t| &t.kind) {
            Some(Kind::Word(w) | Kind::Quoted(w)) => Some(w),
            _ => None,
        };
        let point = |i: usize| self.tokens.get(i).is_some_and(|t| t.kind == Kind::Sign('.'));
        let mut out = Vec::new();
        for i in 0..self.tokens.len() {
            let Some(first) = name(i) else { continue };
            let behind_point = i > 0 && point(i - 1);
            match name(i + 2).filter(|_| point(i + 1)) {
                Some(second) => out.push(TableName::new(first.clone(), second.clone())),
                None if !behind_point => {}
                None => continue,
            }
            if !behind_point {
                out.push(TableName::new(self.database, first.clone()));
            }
        }
        out
    }
}
