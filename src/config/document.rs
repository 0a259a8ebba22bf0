//! From TOML text to typed structs, with errors that name file, line and key.

use std::ops::Range;

use secrecy::SecretString;
use serde::de::{DeserializeOwned, IntoDeserializer};
use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use super::secrets::{Lookup, expand, password_of, scrub};
use crate::error::{Error, Result};

/// Where every key of a file stands, and which texts of it must never be shown.
pub struct Places {
    file: String,
    text: String,
    entries: Vec<Entry>,
    secrets: Vec<SecretString>,
}

struct Entry {
    path: String,
    key: Range<usize>,
    value: Range<usize>,
}

/// Reads `text` (the content of `file`) into a `T`, after expanding `${…}`.
///
/// # Errors
/// [`crate::error::Class::Config`], as `file:line: key: what is wrong` with a hint.
pub fn read<T: DeserializeOwned>(file: &str, text: &str, lookup: &dyn Lookup) -> Result<(T, Places)> {
    let mut places = Places { file: file.to_owned(), text: text.to_owned(), entries: Vec::new(), secrets: Vec::new() };
    let mut table = DeTable::parse(text).map_err(|e| places.syntax(&e))?;
    places.walk("", table.get_mut(), lookup)?;
    let value = T::deserialize(table.into_deserializer()).map_err(|e| places.typed(&e))?;
    Ok((value, places))
}

impl Places {
    /// An error about the key of this path (`snapshot.workers`, `rule[0].from`).
    pub fn error(&self, path: &str, what: impl AsRef<str>) -> Error {
        let entry = self.entries.iter().find(|e| e.path == path);
        self.report(entry.map(|e| e.key.start), path, what.as_ref())
    }

    /// Like [`Places::error`] for an error made elsewhere, whose message begins with the key already.
    pub fn wrap(&self, path: &str, e: &Error) -> Error {
        let message = e.message().strip_prefix(path).map_or(e.message(), |m| m.trim_start_matches(": "));
        let mut out = self.error(path, message);
        if let Some(h) = e.hint_text() {
            out = out.hint(h.to_owned());
        }
        out
    }

    fn report(&self, offset: Option<usize>, path: &str, what: &str) -> Error {
        // What is right follows "; " in messages made here.
        let (what, hint) = match what.split_once("; ") {
            Some((what, hint)) => (what, Some(hint)),
            None => (what, None),
        };
        let mut message = self.file.clone();
        if let Some(offset) = offset {
            let before = &self.text.as_bytes()[..offset.min(self.text.len())];
            let line = 1 + before.iter().filter(|b| **b == b'\n').count();
            message.push_str(&format!(":{line}"));
        }
        message.push_str(": ");
        if !path.is_empty() {
            message.push_str(path);
            message.push_str(": ");
        }
        message.push_str(what);
        let e = Error::config(scrub(&message, &self.secrets));
        match hint {
            Some(h) => e.hint(scrub(h, &self.secrets)),
            None => e,
        }
    }

    /// Notes every key's place, expands strings, and collects what must not be shown.
    fn walk(&mut self, prefix: &str, table: &mut DeTable<'_>, lookup: &dyn Lookup) -> Result<()> {
        for (key, value) in table.iter_mut() {
            let name = key.get_ref();
            let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
            let name = if plain { name.to_string() } else { format!("{name:?}") };
            let path = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
            self.entries.push(Entry { path: path.clone(), key: key.span(), value: value.span() });
            self.value(&path, value, lookup)?;
        }
        Ok(())
    }

    fn value(&mut self, path: &str, value: &mut Spanned<DeValue<'_>>, lookup: &dyn Lookup) -> Result<()> {
        let span = value.span();
        match value.get_mut() {
            DeValue::String(s) => {
                match expand(s, lookup, &mut self.secrets) {
                    Ok(Some(new)) => *s = new.into(),
                    Ok(None) => {}
                    Err(what) => return Err(self.report(Some(span.start), path, &what)),
                }
                if let Some(p) = password_of(s) {
                    self.secrets.push(SecretString::from(p));
                }
            }
            DeValue::Array(items) => {
                for (i, item) in items.iter_mut().enumerate() {
                    let path = format!("{path}[{i}]");
                    self.entries.push(Entry { path: path.clone(), key: item.span(), value: item.span() });
                    self.value(&path, item, lookup)?;
                }
            }
            DeValue::Table(t) => self.walk(path, t, lookup)?,
            _ => {}
        }
        Ok(())
    }

    fn syntax(&self, e: &toml::de::Error) -> Error {
        let what = without_quoted(e.message());
        self.report(e.span().map(|s| s.start), "", &format!("not TOML: {}", what.trim().replace('\n', ", ")))
            .hint("text values stand in double quotes: key = \"value\"; sections in brackets: [source]")
    }

    fn typed(&self, e: &toml::de::Error) -> Error {
        let span = e.span();
        let entry = span.as_ref().and_then(|s| {
            let exact = self.entries.iter().filter(|e| e.key == *s || e.value == *s).min_by_key(|e| e.path.len());
            exact.or_else(|| {
                let inside = |r: &Range<usize>| r.start <= s.start && s.end <= r.end;
                self.entries.iter().filter(|e| inside(&e.value)).min_by_key(|e| e.value.len())
            })
        });
        let path = entry.map_or("", |e| e.path.as_str());
        let offset = span.map(|s| s.start);
        let message = e.message().lines().next().unwrap_or("").trim();
        let mut names = message.split('`').skip(1).step_by(2);
        if message.starts_with("unknown field") {
            let unknown = names.next().unwrap_or("");
            let known: Vec<&str> = names.collect();
            return self.report(offset, path, &format!("unknown key; {}", suggestion(unknown, &known)));
        }
        if message.starts_with("missing field") {
            let missing = names.next().unwrap_or("");
            let path = if path.is_empty() { missing.to_owned() } else { format!("{path}.{missing}") };
            let example = example_of(&path);
            return self.report(offset.filter(|o| *o > 0), &path, &format!("this key is missing; add {example}"));
        }
        if message.starts_with("unknown variant") {
            let unknown = names.next().unwrap_or("").to_owned();
            let known: Vec<String> = names.map(|k| format!("{k:?}")).collect();
            return self.report(
                offset,
                path,
                &format!("{unknown:?} is not possible; write one of {}", known.join(", ")),
            );
        }
        if let Some(rest) = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: ")) {
            let (got, expected) = rest.split_once(", expected ").unwrap_or((rest, "something else"));
            // What was written may be a secret that landed in the wrong place: its kind is enough.
            let got = without_quoted(got).replace(" \"…\"", "");
            let expected = plain_kind(expected);
            return self.report(offset, path, &format!("this is a {got}, but must be {expected}"));
        }
        self.report(offset, path, message)
    }
}

/// serde's names of kinds, in people's words.
fn plain_kind(expected: &str) -> String {
    match expected {
        "usize" | "u16" | "u32" | "u64" => "a whole number, not negative".into(),
        "a sequence" => "a list: [\"…\", \"…\"]".into(),
        s if s.starts_with("struct ") => "a section with keys, [name] or { key = … }".into(),
        s => s.to_owned(),
    }
}

/// Cuts out what stands in double quotes.
fn without_quoted(text: &str) -> String {
    match (text.find('"'), text.rfind('"')) {
        (Some(a), Some(b)) if a < b => format!("{}\"…\"{}", &text[..a], &text[b + 1..]),
        _ => text.to_owned(),
    }
}

fn example_of(path: &str) -> String {
    match path {
        "name" => "name = \"shop\" at the top of the file".into(),
        "source" | "source.url" => {
            "[source] with url = \"postgres://user:${SOURCE_PASSWORD}@host:5432/database\"".into()
        }
        "target" | "target.url" => {
            "[target] with url = \"postgres://user:${TARGET_PASSWORD}@host:5432/database\"".into()
        }
        other => format!("{} = …", other.rsplit('.').next().unwrap_or(other)),
    }
}

/// `did you mean "x"?`, or all that is known.
fn suggestion(unknown: &str, known: &[&str]) -> String {
    let nearest =
        known.iter().map(|k| (strsim::damerau_levenshtein(&unknown.to_lowercase(), &k.to_lowercase()), *k)).min();
    match nearest {
        Some((d, k)) if d <= 1 + unknown.chars().count() / 3 => format!("did you mean \"{k}\"?"),
        _ if known.is_empty() => "no key is possible here".into(),
        _ => format!("known here: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_an_unknown_key_when_one_is_near_then_it_is_offered() {
        assert_eq!(suggestion("worker", &["workers", "chunk"]), "did you mean \"workers\"?");
        assert_eq!(suggestion("zzzzzz", &["a", "b"]), "known here: a, b");
    }
}
