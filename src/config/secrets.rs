//! `${NAME}` and `${file:PATH}` in string values, and keeping what they stood for out of messages.

use secrecy::{ExposeSecret, SecretString};

/// Where `${…}` gets its values. A trait, so that tests need no process-wide environment.
pub trait Lookup {
    /// The environment variable, if it is set and is Unicode.
    fn variable(&self, name: &str) -> Option<String>;
    /// The file's content.
    fn file(&self, path: &str) -> std::io::Result<String>;
}

/// The process's own environment and files.
pub struct ProcessEnvironment;

impl Lookup for ProcessEnvironment {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
    fn file(&self, path: &str) -> std::io::Result<String> {
        std::fs::read_to_string(path)
    }
}

/// Expands every `${…}` of `text`; `$${` is a plain `${`. `None` if there was nothing to do. What was inserted is added to
/// `inserted`.
///
/// A placeholder in the user or password place of a URL (`postgres://user:${PASSWORD}@host`) is percent-encoded on its way
/// in, so that a password may hold any character. A `%` that already begins an escape stays as it is.
///
/// # Errors
/// What is wrong, and after a `; ` what would be right. Never a value.
pub fn expand(text: &str, lookup: &dyn Lookup, inserted: &mut Vec<SecretString>) -> Result<Option<String>, String> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let Some(end) = rest[at..].find('}') else {
            return Err("a ${ has no closing }; write ${NAME} or ${file:PATH}, or $${ for a plain ${".into());
        };
        let name = &rest[at + 2..at + end];
        rest = &rest[at + end + 1..];
        let value = match name.strip_prefix("file:") {
            Some("") => return Err("${file:} names no file; write ${file:/path/of/the/secret}".into()),
            Some(path) => {
                let text = lookup.file(path).map_err(|e| {
                    format!("the file {path} of ${{file:{path}}} cannot be read ({e}); check its path and permissions")
                })?;
                text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(&text).to_owned()
            }
            None => {
                if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                    return Err(format!(
                        "${{{name}}} is not a variable; write ${{NAME}} with letters, digits and _, or ${{file:PATH}}"
                    ));
                }
                lookup.variable(name).ok_or_else(|| {
                    format!("the environment variable {name} is not set; export {name}=… before starting Switchyard")
                })?
            }
        };
        let in_credentials = out.contains("://") && out.ends_with(['/', ':']) && rest.starts_with([':', '@']);
        out.push_str(&if in_credentials { percent_encode(&value) } else { value.clone() });
        if !value.is_empty() {
            inserted.push(SecretString::from(value));
        }
    }
    out.push_str(rest);
    Ok(Some(out))
}

/// Encodes what would end or split the credentials of a URL.
fn percent_encode(value: &str) -> String {
    let bytes = value.as_bytes();
    let mut out = String::with_capacity(bytes.len());
    for (i, b) in bytes.iter().enumerate() {
        let escape = b'%' == *b
            && bytes.get(i + 1).is_some_and(u8::is_ascii_hexdigit)
            && bytes.get(i + 2).is_some_and(u8::is_ascii_hexdigit);
        if escape || b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(b) {
            out.push(char::from(*b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

/// Replaces everything in `message` that must not be seen. Texts shorter than three characters are left: they would only
/// make holes in ordinary words.
pub fn scrub(message: &str, secrets: &[SecretString]) -> String {
    let mut out = message.to_owned();
    for secret in secrets {
        let secret = secret.expose_secret();
        if secret.len() >= 3 && out.contains(secret) {
            out = out.replace(secret, "***");
        }
    }
    out
}

/// The password in a URL-like text, as it is written there.
pub fn password_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    // The last @ before the path ends the credentials, also where somebody forgot to encode one in the password.
    let (credentials, _) = rest.rsplit_once('@')?;
    credentials.split_once(':').map(|(_, password)| password).filter(|p| !p.is_empty())
}

/// A URL with its password replaced by `with`.
pub fn without_password(url: &str, with: &str) -> String {
    match password_of(url) {
        Some(p) => {
            // Safe to search for: the first occurrence after "://user:" is the password itself.
            let start = url.find("://").map_or(0, |i| i + 3);
            let at = url[start..].find(':').map_or(start, |i| start + i + 1);
            format!("{}{with}{}", &url[..at], &url[at + p.len()..])
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;
    impl Lookup for Fixed {
        fn variable(&self, name: &str) -> Option<String> {
            match name {
                "PW" => Some("p@ss/w#rd%41%".into()),
                "URL" => Some("postgres://a:b@c/d".into()),
                _ => None,
            }
        }
        fn file(&self, path: &str) -> std::io::Result<String> {
            if path == "/s" { Ok("secret\n".into()) } else { Err(std::io::ErrorKind::NotFound.into()) }
        }
    }

    fn go(text: &str) -> Result<Option<String>, String> {
        expand(text, &Fixed, &mut Vec::new())
    }

    #[test]
    fn given_placeholders_when_expanded_then_values_stand_in_their_place() {
        assert_eq!(go("plain"), Ok(None));
        assert_eq!(go("a ${file:/s} b"), Ok(Some("a secret b".into())));
        assert_eq!(go("$${PW} ${file:/s}"), Ok(Some("${PW} secret".into())));
        assert_eq!(go("${URL}"), Ok(Some("postgres://a:b@c/d".into())));
        assert_eq!(go("postgres://u:${PW}@h/d"), Ok(Some("postgres://u:p%40ss%2Fw%23rd%41%25@h/d".into())));
    }

    #[test]
    fn given_missing_values_when_expanded_then_the_error_names_them() {
        assert!(go("${NOPE}").unwrap_err().contains("NOPE is not set"));
        assert!(go("${file:/nope}").unwrap_err().contains("/nope"));
        for bad in ["${", "${}", "${file:}", "${a b}"] {
            assert!(go(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn given_urls_when_shown_then_the_password_is_gone() {
        assert_eq!(without_password("postgres://u:u@h:1/d", "${P}"), "postgres://u:${P}@h:1/d");
        assert_eq!(without_password("postgres://u@h/d", "x"), "postgres://u@h/d");
        assert_eq!(password_of("postgres://u:a@b@h/d"), Some("a@b"));
        assert_eq!(scrub("x hunter2 y", &["hunter2".into()]), "x *** y");
    }
}
