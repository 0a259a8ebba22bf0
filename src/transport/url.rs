//! The parts of a connection URL, percent escapes taken out. Pure.

use secrecy::{ExposeSecret, SecretString};

/// `scheme://user:password@host:port/database?name=value&…`
#[derive(Debug)]
pub struct Parts {
    /// Host name or address, an IPv6 address without brackets.
    pub host: String,
    /// Port, if there is one.
    pub port: Option<u16>,
    /// User; never empty.
    pub user: String,
    /// Password, if there is one.
    pub password: Option<SecretString>,
    /// What follows the host; may be empty.
    pub database: String,
    /// Parameters in order.
    pub parameters: Vec<(String, String)>,
}

/// Takes a URL of one of the `schemes` apart.
///
/// # Errors
/// What is wrong with it; never the URL or a part of it that may hold the password.
pub fn parse(url: &SecretString, schemes: &[&str]) -> Result<Parts, String> {
    let parsed = url::Url::parse(url.expose_secret()).map_err(|e| format!("not a URL ({e})"))?;
    if !schemes.contains(&parsed.scheme()) {
        return Err(format!("scheme {:?} is not {}", parsed.scheme(), schemes[0]));
    }
    let decode = |s: &str| percent_decode(s).ok_or("a percent escape is broken");
    let host = match parsed.host() {
        Some(url::Host::Ipv6(a)) => a.to_string(),
        Some(h) => decode(&h.to_string())?,
        None => return Err("no host".into()),
    };
    if parsed.username().is_empty() {
        return Err("no user".into());
    }
    let mut parameters = Vec::new();
    // Not `query_pairs`: that is for forms, where `+` means a blank; here it is taken as it stands.
    for pair in parsed.query().unwrap_or("").split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        parameters.push((decode(name)?, decode(value)?));
    }
    Ok(Parts {
        host,
        port: parsed.port(),
        user: decode(parsed.username())?,
        password: parsed.password().map(decode).transpose()?.map(SecretString::from),
        database: decode(parsed.path().trim_start_matches('/'))?,
        parameters,
    })
}

/// What a URL spells with percent escapes; `None` if one is broken.
pub fn percent_decode(s: &str) -> Option<String> {
    let mut out = Vec::with_capacity(s.len());
    let mut bytes = s.bytes();
    while let Some(b) = bytes.next() {
        out.push(match b {
            b'%' => {
                let hex = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?
            }
            b => b,
        });
    }
    String::from_utf8(out).ok()
}
