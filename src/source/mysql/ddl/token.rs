//! Words, names, strings and signs of a statement in MySQL's or MariaDB's dialect. Pure.
//!
//! Rules: MySQL manual, "Lexical Structure" and "Comments"; MariaDB Knowledge Base, "Comment Syntax".

use super::Session;

/// One piece of a statement, and where it stands in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Its first byte.
    pub start: usize,
    /// The byte behind it.
    pub end: usize,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A keyword or an unquoted name, as written.
    Word(String),
    /// A name in backticks (or double quotes under ANSI_QUOTES), unquoted.
    Quoted(String),
    /// A string, without quotes and escapes.
    Text(String),
    /// A number as written.
    Number(String),
    /// `x'…'` or `0x…`.
    Hex(Vec<u8>),
    /// `b'…'` or `0b…`: digits.
    Bits(String),
    /// A user or system variable.
    Variable,
    /// Any other sign.
    Sign(char),
}

/// A text that cannot be read to its end: what is not closed.
pub type Broken = &'static str;

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    session: &'a Session,
    /// Inside an executable comment.
    executed: bool,
    out: Vec<Token>,
}

/// Takes a statement apart. Comments are left out; what stands in comments that the server executes (`/*! … */`,
/// MariaDB's `/*M! … */`) counts as far as the server's version reaches.
///
/// # Errors
/// What is not closed.
pub fn tokens(text: &str, session: &Session) -> Result<Vec<Token>, Broken> {
    let mut lexer = Lexer { text, at: 0, session, executed: false, out: Vec::new() };
    lexer.run()?;
    Ok(lexer.out)
}

fn in_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn run(&mut self) -> Result<(), Broken> {
        while let Some(c) = self.peek() {
            let start = self.at;
            let rest = self.rest();
            if c.is_whitespace() || c == '\0' {
                self.at += c.len_utf8();
            } else if rest.starts_with("/*") {
                self.comment()?;
            } else if self.executed && rest.starts_with("*/") {
                self.executed = false;
                self.at += 2;
            } else if c == '#' || (rest.starts_with("--") && rest[2..].chars().next().is_none_or(|c| c <= ' ')) {
                self.at += rest.find('\n').map_or(rest.len(), |n| n + 1);
            } else {
                let kind = self.token(c)?;
                self.out.push(Token { kind, start, end: self.at });
            }
        }
        if self.executed { Err("a comment") } else { Ok(()) }
    }

    fn comment(&mut self) -> Result<(), Broken> {
        let rest = self.rest();
        let inner = if rest.starts_with("/*!") {
            Some(3)
        } else if self.session.mariadb && rest.starts_with("/*M!") {
            Some(4)
        } else {
            None
        };
        if let Some(head) = inner.filter(|_| !self.executed) {
            // Five or six digits of a version, and then the server decides.
            let after = &rest[head..];
            let digits = after.bytes().take(6).take_while(u8::is_ascii_digit).count();
            let digits = if digits < 5 { 0 } else { digits };
            let version = after[..digits].parse::<u32>().unwrap_or(0);
            // MariaDB takes the versions between its fork and its own numbering for MySQL's alone.
            let theirs = self.session.mariadb && head == 3 && (50700..=99999).contains(&version);
            if version <= self.session.version && !theirs {
                self.executed = true;
                self.at += head + digits;
                return Ok(());
            }
        }
        let end = rest.get(2..).and_then(|r| r.find("*/")).ok_or("a comment")?;
        self.at += 2 + end + 2;
        Ok(())
    }

    fn token(&mut self, c: char) -> Result<Kind, Broken> {
        let rest = self.rest();
        let second = rest[c.len_utf8()..].chars().next();
        match c {
            '`' => Ok(Kind::Quoted(self.quoted('`', false)?)),
            '"' if self.session.ansi_quotes => Ok(Kind::Quoted(self.quoted('"', false)?)),
            '"' | '\'' => Ok(Kind::Text(self.quoted(c, !self.session.no_backslash_escapes)?)),
            'x' | 'X' if second == Some('\'') => {
                self.at += 1;
                let digits = self.quoted('\'', false)?;
                Ok(Kind::Hex(bytes_of(&digits).ok_or("a hexadecimal string")?))
            }
            'b' | 'B' if second == Some('\'') => {
                self.at += 1;
                let digits = self.quoted('\'', false)?;
                if digits.bytes().all(|b| matches!(b, b'0' | b'1')) {
                    Ok(Kind::Bits(digits))
                } else {
                    Err("a bit string")
                }
            }
            'n' | 'N' if second == Some('\'') => {
                self.at += 1;
                Ok(Kind::Text(self.quoted('\'', !self.session.no_backslash_escapes)?))
            }
            '@' => {
                self.at += 1;
                while self.peek().is_some_and(|c| in_word(c) || matches!(c, '@' | '.')) {
                    self.at += self.peek().map_or(0, char::len_utf8);
                }
                // `@'a user''s variable'`, and hosts of accounts.
                if let Some(q @ ('`' | '"' | '\'')) = self.peek() {
                    self.quoted(q, q != '`' && !self.session.no_backslash_escapes)?;
                }
                Ok(Kind::Variable)
            }
            c if c.is_ascii_digit()
                || (c == '.' && second.is_some_and(|s| s.is_ascii_digit()) && !self.after_name()) =>
            {
                Ok(self.number())
            }
            c if in_word(c) => {
                let end = rest.find(|c| !in_word(c)).unwrap_or(rest.len());
                let word = rest[..end].to_owned();
                self.at += end;
                Ok(Kind::Word(word))
            }
            c => {
                self.at += c.len_utf8();
                Ok(Kind::Sign(c))
            }
        }
    }

    /// Whether the last token is a name that this place follows at once: then a point parts two names.
    fn after_name(&self) -> bool {
        self.out.last().is_some_and(|t| t.end == self.at && matches!(t.kind, Kind::Word(_) | Kind::Quoted(_)))
    }

    fn number(&mut self) -> Kind {
        let rest = self.rest();
        for (prefix, hex) in [("0x", true), ("0b", false)] {
            if let Some(digits) = rest.strip_prefix(prefix) {
                let end = digits.find(|c| !in_word(c)).unwrap_or(digits.len());
                let digits = &digits[..end];
                let kind = if hex {
                    let even = if digits.len() % 2 == 1 { format!("0{digits}") } else { digits.to_owned() };
                    bytes_of(&even).map(Kind::Hex)
                } else {
                    digits.bytes().all(|b| matches!(b, b'0' | b'1')).then(|| Kind::Bits(digits.to_owned()))
                };
                if let Some(kind) = kind.filter(|_| !digits.is_empty()) {
                    self.at += 2 + end;
                    return kind;
                }
            }
        }
        // A name may begin with digits: what is not a number to its end is a word.
        let word = rest.find(|c| !in_word(c)).unwrap_or(rest.len());
        let whole = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let named = self.out.last().is_some_and(|t| t.kind == Kind::Sign('.') && t.end == self.at);
        let exponent = |from: usize| -> usize {
            let tail = rest.get(from..).unwrap_or("");
            let Some(power) = tail.strip_prefix(['e', 'E']) else { return from };
            let sign = usize::from(power.starts_with(['+', '-']));
            let digits = power[sign..].bytes().take_while(u8::is_ascii_digit).count();
            if digits == 0 { from } else { from + 1 + sign + digits }
        };
        let mut end = whole;
        if rest[whole..].starts_with('.') && !named {
            end += 1 + rest[whole + 1..].bytes().take_while(u8::is_ascii_digit).count();
        }
        let end = exponent(end);
        if end < word || named {
            self.at += word.max(1);
            return Kind::Word(rest[..word].to_owned());
        }
        let number = rest[..end].to_owned();
        self.at += end.max(1);
        Kind::Number(number)
    }

    /// What stands in quotes from here on; a doubled quote is one, a backslash escapes as the manual's "String Literals" says.
    fn quoted(&mut self, quote: char, escapes: bool) -> Result<String, Broken> {
        let mut out = String::new();
        let mut chars = self.rest().char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            if c == quote {
                if chars.peek().is_some_and(|(_, c)| *c == quote) {
                    chars.next();
                    out.push(quote);
                    continue;
                }
                self.at += at + quote.len_utf8();
                return Ok(out);
            }
            if c == '\\' && escapes {
                match chars.next().map(|(_, c)| c) {
                    Some('0') => out.push('\0'),
                    Some('b') => out.push('\u{8}'),
                    Some('n') => out.push('\n'),
                    Some('r') => out.push('\r'),
                    Some('t') => out.push('\t'),
                    Some('Z') => out.push('\u{1a}'),
                    // They keep their backslash, for LIKE.
                    Some(c @ ('%' | '_')) => out.extend(['\\', c]),
                    Some(c) => out.push(c),
                    None => break,
                }
                continue;
            }
            out.push(c);
        }
        Err(if quote == '`' { "a name" } else { "a string" })
    }
}

fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|p| std::str::from_utf8(p).ok().filter(|p| p.len() == 2).and_then(|p| u8::from_str_radix(p, 16).ok()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str, session: &Session) -> Vec<Kind> {
        tokens(text, session).unwrap().into_iter().map(|t| t.kind).collect()
    }
    fn word(w: &str) -> Kind {
        Kind::Word(w.into())
    }

    #[test]
    fn given_comments_when_read_then_only_executed_ones_count() {
        let mysql = Session { version: 80036, ..Session::default() };
        let maria = Session { mariadb: true, version: 101119, ..Session::default() };
        let text = "/* x */ a -- y\n b#z\n/*!50100 c */ /*!99999 d */ /*!80016 e */ /*M!100100 f */ 1--1";
        let numbers = [Kind::Number("1".into()), Kind::Sign('-'), Kind::Sign('-'), Kind::Number("1".into())];
        let with = |words: &[&str]| words.iter().map(|w| word(w)).chain(numbers.clone()).collect::<Vec<_>>();
        assert_eq!(kinds(text, &mysql), with(&["a", "b", "c", "e"]));
        assert_eq!(kinds(text, &maria), with(&["a", "b", "c", "f"]));
    }

    #[test]
    fn given_quotes_when_read_then_names_and_strings_are_told_apart() {
        let plain = Session::default();
        assert_eq!(kinds("`a``b`.\"c\"\"\\\"d\"", &plain)[0], Kind::Quoted("a`b".into()));
        assert_eq!(kinds("\"c\"\"\\\"d\"", &plain), [Kind::Text("c\"\"d".into())]);
        let ansi = Session { ansi_quotes: true, no_backslash_escapes: true, ..Session::default() };
        assert_eq!(kinds("\"c\"\"d\" 'e\\'", &ansi), [Kind::Quoted("c\"d".into()), Kind::Text("e\\".into())]);
        assert_eq!(
            kinds("x'4a' 0x4A b'01' 0b1 .5 1e3 1a d.1t", &plain)[..7],
            [
                Kind::Hex(vec![0x4a]),
                Kind::Hex(vec![0x4a]),
                Kind::Bits("01".into()),
                Kind::Bits("1".into()),
                Kind::Number(".5".into()),
                Kind::Number("1e3".into()),
                word("1a"),
            ]
        );
        assert_eq!(kinds("d.1t", &plain), [word("d"), Kind::Sign('.'), word("1t")]);
        assert!(tokens("'open", &plain).is_err());
        assert!(tokens("/*!50100 open", &plain).is_err());
    }
}
