//! Reads Rust source as far as the layering test needs: words, items under `#[cfg(test)]`, paths.

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

impl Token {
    fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// Words and punctuation; comments, strings, characters, numbers and lifetimes are left out.
pub fn lex(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut tokens, mut index, mut line) = (Vec::new(), 0, 1);
    while index < chars.len() {
        let start = index;
        let c = at(index);
        if c == '/' && at(index + 1) == '/' {
            while index < chars.len() && at(index) != '\n' {
                index += 1;
            }
        } else if c == '/' && at(index + 1) == '*' {
            let mut depth = 0;
            while index < chars.len() {
                match (at(index), at(index + 1)) {
                    ('/', '*') => (depth, index) = (depth + 1, index + 2),
                    ('*', '/') => (depth, index) = (depth - 1, index + 2),
                    _ => index += 1,
                }
                if depth == 0 {
                    break;
                }
            }
        } else if c == '"' {
            index = string_end(&chars, index);
        } else if c == '\'' {
            // 'a' and '\n' are characters; 'a without the second quote is a lifetime.
            if at(index + 1) == '\\' {
                index += 3;
                while index < chars.len() && at(index) != '\'' {
                    index += 1;
                }
                index += 1;
            } else if at(index + 2) == '\'' {
                index += 3;
            } else {
                index += 1;
                while word(at(index)) {
                    index += 1;
                }
            }
        } else if word(c) {
            while word(at(index)) {
                index += 1;
            }
            let text: String = chars[start..index].iter().collect();
            let hashes = chars[index..].iter().take_while(|&&c| c == '#').count();
            if matches!(text.as_str(), "r" | "br" | "cr") && at(index + hashes) == '"' {
                let close: String = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
                let close: Vec<char> = close.chars().collect();
                index += hashes + 1;
                while index < chars.len() && !chars[index..].starts_with(&close) {
                    index += 1;
                }
                index += close.len();
            } else if !text.starts_with(|c: char| c.is_ascii_digit()) {
                tokens.push(Token { text, line });
            }
        } else if c == ':' && at(index + 1) == ':' {
            index += 2;
            tokens.push(Token { text: "::".into(), line });
        } else {
            index += 1;
            if !c.is_whitespace() {
                tokens.push(Token { text: c.into(), line });
            }
        }
        let end = index.min(chars.len());
        line += chars[start..end].iter().filter(|&&c| c == '\n').count();
    }
    tokens
}

fn string_end(chars: &[char], start: usize) -> usize {
    let mut index = start + 1;
    while index < chars.len() && chars[index] != '"' {
        index += if chars[index] == '\\' { 2 } else { 1 };
    }
    index + 1
}

pub fn says(tokens: &[Token], at: usize, expected: &[&str]) -> bool {
    expected.iter().enumerate().all(|(offset, text)| tokens.get(at + offset).is_some_and(|token| token.text == *text))
}

/// Leaves out every item under `#[cfg(test)]`.
pub fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        if says(&tokens, index, &["#", "[", "cfg", "(", "test", ")", "]"]) {
            index = item_end(&tokens, index + 7);
        } else {
            kept.push(tokens[index].clone());
            index += 1;
        }
    }
    kept
}

/// The index after the item that starts at `index`: after its `;` or its closing brace.
pub fn item_end(tokens: &[Token], mut index: usize) -> usize {
    let mut depth = 0_i32;
    while let Some(token) = tokens.get(index) {
        index += 1;
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            ")" | "]" => depth -= 1,
            "}" => {
                depth -= 1;
                if depth <= 0 {
                    break;
                }
            }
            ";" if depth == 0 => break,
            _ => {}
        }
    }
    index
}

/// Every path of two parts or more, and everything that a `use` names, with `use` groups spread out.
pub fn paths(tokens: &[Token]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let before = index.checked_sub(1).map_or("", |before| tokens[before].text.as_str());
        let continues = matches!(before, "::" | "." | "{" | ",") && inside_use(tokens, index);
        if token.is_word() && token.text != "use" && before != "::" && before != "." && !continues {
            let leads = says(tokens, index + 1, &["::"]) || before == "use";
            if leads {
                spread(tokens, index, String::new(), &mut found);
            }
        }
    }
    found
}

/// Whether a token stands inside the braces of a `use`, where it is part of a longer path.
fn inside_use(tokens: &[Token], index: usize) -> bool {
    tokens[..index]
        .iter()
        .rev()
        .take_while(|token| token.text != ";")
        .scan(true, |path_so_far, token| {
            *path_so_far = token.is_word() || matches!(token.text.as_str(), "::" | "{" | "}" | "," | "*");
            path_so_far.then_some(token)
        })
        .any(|token| token.text == "use")
}

/// Follows the path at `index`, into groups; returns the index after it.
fn spread(tokens: &[Token], mut index: usize, mut path: String, found: &mut Vec<(String, usize)>) -> usize {
    let line = tokens.get(index).map_or(0, |token| token.line);
    while let Some(token) = tokens.get(index) {
        if token.text == "{" && !path.is_empty() {
            index += 1;
            while tokens.get(index).is_some_and(|token| token.text != "}") {
                let next = spread(tokens, index, path.clone(), found);
                index = next.max(index + 1);
                if says(tokens, index, &["as"]) {
                    index += 2;
                }
                if says(tokens, index, &[","]) {
                    index += 1;
                }
            }
            return index + 1;
        }
        if !token.is_word() && token.text != "*" {
            break;
        }
        // `{self}` at the end of a group means the path so far.
        if token.text != "self" || path.is_empty() {
            if !path.is_empty() {
                path.push_str("::");
            }
            path.push_str(&token.text);
        }
        index += 1;
        if !says(tokens, index, &["::"]) {
            break;
        }
        index += 1;
    }
    if !path.is_empty() {
        found.push((path, line));
    }
    index
}
