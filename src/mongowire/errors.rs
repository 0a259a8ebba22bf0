//! What an error of MongoDB means for us: its class by error code, its message without values.
//!
//! Source of the codes: `src/mongo/base/error_codes.yml` of the server, and the drivers' specification of retryable errors.

use mongodb::error::{ErrorKind, WriteFailure};

use crate::error::{Class, Error};

/// The class of an error code that the server gave.
pub fn class_of(code: i32) -> Class {
    match code {
        // The network between its members, or between us and it; a member that is going, coming, or no primary any more.
        6 | 7 | 89 | 91 | 133 | 134 | 189 | 202 | 9001 | 10058 | 10107 | 11600 | 11602 | 13435 | 13436 => Class::Retry,
        // A cursor that was closed by the server, killed, or that lost its plan; a time limit; a stream to be opened again.
        43 | 50 | 175 | 234 | 237 | 262 | 11601 => Class::Retry,
        // Locks, write conflicts, transactions that were aborted, snapshots too old, shards that moved.
        24 | 46 | 63 | 112 | 150 | 225 | 244 | 246 | 251 | 13388 => Class::Retry,
        // Disk full, memory, too many sessions or transactions at once, an overloaded server.
        14031 | 261 | 290 | 365 | 462 => Class::Retry,
        // A user's writes are blocked for a while: another program's fence.
        371 => Class::Retry,
        _ => Class::Fatal,
    }
}

/// The server's code of an error, if the server gave one.
pub fn code(e: &mongodb::error::Error) -> Option<i32> {
    told(e).map(|(code, _)| code)
}

/// Code and message of what the server said; of several errors of a bulk write the first.
fn told(e: &mongodb::error::Error) -> Option<(i32, &str)> {
    match &*e.kind {
        ErrorKind::Command(c) => Some((c.code, &c.message)),
        ErrorKind::Write(WriteFailure::WriteError(w)) => Some((w.code, &w.message)),
        ErrorKind::Write(WriteFailure::WriteConcernError(w)) => Some((w.code, &w.message)),
        ErrorKind::InsertMany(m) => match (m.write_errors.as_ref().and_then(|w| w.first()), &m.write_concern_error) {
            (Some(w), _) => Some((w.code, &w.message)),
            (None, Some(w)) => Some((w.code, &w.message)),
            (None, None) => None,
        },
        ErrorKind::BulkWrite(b) => {
            let one = b.write_errors.iter().min_by_key(|(at, _)| **at).map(|(_, w)| (w.code, w.message.as_str()));
            one.or_else(|| b.write_concern_errors.first().map(|w| (w.code, w.message.as_str())))
        }
        _ => None,
    }
}

/// An error of the driver, with what was being done.
pub fn wrap(doing: impl std::fmt::Display, e: &mongodb::error::Error) -> Error {
    let doing = doing.to_string();
    if let Some((code, message)) = told(e) {
        let error = from_server(&doing, code, message);
        let passes = ["TransientTransactionError", "RetryableWriteError", "ResumableChangeStreamError"];
        let error = if passes.iter().any(|l| e.contains_label(l)) { error.with_class(Class::Retry) } else { error };
        return if code == 112 || code == 251 || code == 244 { error.conflicting() } else { error };
    }
    let text = match &*e.kind {
        ErrorKind::Io(io) => io.to_string(),
        ErrorKind::ServerSelection { message, .. } | ErrorKind::ConnectionPoolCleared { message, .. } => {
            unreached(message)
        }
        ErrorKind::InvalidArgument { message, .. } => message.clone(),
        ErrorKind::Custom(_) => "the driver failed".into(),
        other => other.to_string(),
    };
    let error = |class| Error::new(class, format!("{doing}: {text}"));
    let certificate = ["certificate", "UnknownIssuer", "NotValidForName"].iter().any(|w| text.contains(w));
    match &*e.kind {
        ErrorKind::Authentication { .. } => error(Class::Fatal).hint(
            "check user and password in the URL, and which database holds the account (authSource=admin is the usual one)",
        ),
        ErrorKind::InvalidTlsConfig { .. } => {
            error(Class::Fatal).hint("check the files that tlsCAFile and tlsCertificateKeyFile name: both are PEM")
        }
        ErrorKind::Io(_) | ErrorKind::ServerSelection { .. } | ErrorKind::ConnectionPoolCleared { .. } if certificate => {
            error(Class::Fatal).hint(
                "tlsCAFile must name the authority that signed the server's certificate, and the certificate the host that the URL names",
            )
        }
        ErrorKind::ServerSelection { .. } => error(Class::Retry)
            .hint("is a server running there, does the set have a primary, and does it ask for TLS (tls=true)?"),
        ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. } | ErrorKind::DnsResolve { .. } | ErrorKind::Shutdown => {
            error(Class::Retry)
        }
        ErrorKind::SessionsNotSupported | ErrorKind::IncompatibleServer { .. } => {
            error(Class::Fatal).hint("a replica set or a sharded cluster of MongoDB 4.4 or newer is needed")
        }
        _ => error(Class::Fatal),
    }
}

/// An error that the server reported, with what was being done.
pub fn from_server(doing: &str, code: i32, message: &str) -> Error {
    let source = doing.contains("source") && !doing.contains("target");
    let error = Error::new(class_of(code), format!("{doing}: {} (error {code})", without_values(code, message)))
        .with_code(code.to_string());
    match code {
        13 => error.hint("grant the account what it lacks; `switchyard check` lists what it needs"),
        18 | 8000 => error.hint("check user and password in the URL, and which database holds the account (authSource)"),
        20 | 263 | 40573 => error.hint(
            "the server has to be a member of a replica set: start mongod with --replSet rs0, then run rs.initiate() once",
        ),
        286 | 280 => error.hint("the source's oplog does not reach back to this place any more: start the migration anew, and make the oplog larger first (replSetResizeOplog)"),
        371 if source => error.hint("the source blocks its users' writes (setUserWriteBlockMode)"),
        371 => error.hint("the target blocks its users' writes: db.adminCommand({ setUserWriteBlockMode: 1, global: false })"),
        10107 | 13435 if source => error.hint("the source is no primary: did it fail over? name all members of the set in source.url"),
        10107 | 13435 => error.hint("the target is no primary: did it fail over? name all members of the set in target.url"),
        14031 => error.hint("the server's disk is full: free space there; Switchyard goes on by itself"),
        _ => error,
    }
}

/// The topology's description, which names every member with all that is known of it, cut down to what went wrong.
fn unreached(message: &str) -> String {
    let mut seen: Vec<&str> = Vec::new();
    for part in message.split("Error: ").skip(1) {
        // `Kind: I/O error: Connection refused (os error 111), labels: …`
        let part = part.strip_prefix("Kind: ").unwrap_or(part);
        let end = part.find(", labels:").or_else(|| part.find(" }")).unwrap_or(part.len());
        let said = part[..end].trim();
        if !seen.contains(&said) {
            seen.push(said);
        }
    }
    let head = message.split(" Topology: ").next().unwrap_or(message).trim_end_matches('.');
    if seen.is_empty() { head.to_owned() } else { format!("{head} ({})", seen.join("; ")) }
}

/// The message with what may be a document's value taken out: documents and commands are printed in braces.
fn without_values(code: i32, message: &str) -> String {
    // `not authorized on shop to execute command { find: "orders", filter: … }`
    if let (13, Some((head, rest))) = (code, message.split_once(" command { ")) {
        let name = rest.split(':').next().unwrap_or("");
        return format!("{head} command {name}");
    }
    let mut text = match message.find('{') {
        // `E11000 duplicate key error collection: shop.users index: email_1 dup key: { email: "…" }`
        Some(at) => format!("{} (not shown)", message[..at].trim_end()),
        None => message.to_owned(),
    };
    // Bad value, type mismatch, failed to parse, immutable field, conversion failures quote what they do not like.
    if matches!(code, 2 | 9 | 14 | 28 | 40 | 66 | 121 | 241 | 16755) {
        text = without_quoted(&text);
    }
    text
}

/// The text without what stands in quotes. An apostrophe within a word is none.
fn without_quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let within = before.is_alphanumeric() && chars.peek().is_some_and(|n| n.is_alphanumeric());
        before = c;
        if c == '"' || c == '\'' && !within {
            inside = !inside;
            out.push_str(if inside { "…" } else { "" });
        } else if !inside {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_messages_with_values_when_wrapped_then_the_values_are_gone_and_the_names_are_there() {
        for (code, message, kept) in [
            (
                11000,
                "E11000 duplicate key error collection: shop.users index: email_1 dup key: { email: \"4711\" }",
                "index: email_1",
            ),
            (13, "not authorized on shop to execute command { find: \"orders\", filter: { a: 4711 } }", "command find"),
            (16755, "Can't extract geo keys: { _id: 1, at: 4711 }  unknown GeoJSON type", "geo keys"),
            (2, "bad value '4711' here", "here"),
        ] {
            let e = from_server("loading", code, message);
            assert!(!e.message().contains("4711") && e.message().contains(kept), "{e}");
            assert_eq!(e.code(), Some(&*code.to_string()));
        }
    }

    #[test]
    fn given_a_topology_when_it_cannot_be_reached_then_the_reason_is_said_once() {
        let said = "Server selection timeout: No available servers. Topology: { Type: Unknown, Servers: [ { Address: a:1, Type: Unknown, Error: Kind: I/O error: Connection refused (os error 111), labels: {}, source: None }, { Address: b:1, Type: Unknown, Error: Kind: I/O error: Connection refused (os error 111), labels: {} } ] }";
        let text = unreached(said);
        assert_eq!(
            text,
            "Server selection timeout: No available servers (I/O error: Connection refused (os error 111))"
        );
    }

    #[test]
    fn given_codes_when_classified_then_what_passes_is_waited_for() {
        assert_eq!(class_of(10107), Class::Retry);
        assert_eq!(class_of(43), Class::Retry);
        assert_eq!(class_of(286), Class::Fatal);
        assert_eq!(class_of(13), Class::Fatal);
        assert!(from_server("writing to the source", 10107, "not primary").hint_text().unwrap().contains("source.url"));
    }
}
