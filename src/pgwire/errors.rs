//! What a PostgreSQL error means for us: its class by SQLSTATE, its message without values.

use crate::error::{Class, Error};

/// The class of a SQLSTATE. Source: errcodes-appendix of the manual.
pub fn class_of(sqlstate: &str) -> Class {
    match sqlstate {
        // Connection exceptions, insufficient resources (disk full, too many connections), operator intervention
        // (shutdown, crash, recovery), serialization failure, deadlock, lock timeout.
        // A file is missing: a library of an extension, or log that was removed. A person has to look.
        "58P01" => Class::Fatal,
        s if s.starts_with("08") || s.starts_with("53") || s.starts_with("58") => Class::Retry,
        "57P01" | "57P02" | "57P03" | "57P05" | "57014" | "40001" | "40P01" | "55P03" | "25P03" | "25P04" => {
            Class::Retry
        }
        // A primary that became a standby, or was set read-only: it may be one again.
        "25006" => Class::Retry,
        // The slot or another object is still held by a session that is about to go.
        "55006" => Class::Retry,
        _ => Class::Fatal,
    }
}

/// An error from a tokio-postgres call, with what was being done. DETAIL is dropped: it may quote a row's values.
pub fn wrap(doing: impl std::fmt::Display, e: &tokio_postgres::Error) -> Error {
    match e.as_db_error() {
        Some(db) => {
            let message = with_column(db.code().code(), db.message(), db.where_());
            from_server(doing, db.code().code(), &message, db.hint())
        }
        None => {
            // Without a server's answer it is the connection (closed, refused, reset), or a misuse of the client.
            let mut text = e.to_string();
            if let Some(source) = std::error::Error::source(e) {
                let source = source.to_string();
                if !text.contains(&source) {
                    text = format!("{text}: {source}");
                }
            }
            let misuse = ["serializing", "deserializing", "invalid column", "unexpected number"];
            if misuse.iter().any(|m| text.contains(m)) {
                Error::fatal(format!("{doing}: {text}"))
            } else {
                Error::retry(format!("{doing}: {text}"))
            }
        }
    }
}

/// The message of a data exception, with the column that COPY's context names: `COPY t, line 1, column c: "value"`.
pub fn with_column<'a>(sqlstate: &str, message: &'a str, context: Option<&str>) -> std::borrow::Cow<'a, str> {
    let column = context
        .filter(|c| sqlstate.starts_with("22") && c.starts_with("COPY "))
        .and_then(|c| c.split_once(", column ")?.1.split_once(':'))
        .map(|(column, _)| column);
    match column {
        Some(column) => format!("column {column}, {message}").into(),
        None => message.into(),
    }
}

/// An error the server reported.
pub fn from_server(doing: impl std::fmt::Display, sqlstate: &str, message: &str, hint: Option<&str>) -> Error {
    let mut message = without_values(sqlstate, message);
    let doing = doing.to_string();
    // Nothing is written at the source without its name in what was being done.
    let source = doing.contains("source") && !doing.contains("target");
    if sqlstate == "25006" {
        message = format!("the {} is read-only: {message}", if source { "source" } else { "target" });
    }
    let e = Error::new(class_of(sqlstate), format!("{doing}: {message} (SQLSTATE {sqlstate})")).with_code(sqlstate);
    let e = if matches!(sqlstate, "40001" | "40P01") { e.conflicting() } else { e };
    let ours: Option<&'static str> = match sqlstate {
        "28P01" | "28000" => Some("check the user, the password and pg_hba.conf of that server"),
        "3D000" => Some("check the database name in the URL"),
        "25006" if source => Some("the source is read-only: did it fail over? point source.url at the primary"),
        "25006" => Some("the target is read-only: did it fail over? point target.url at the new primary"),
        "53100" => Some("the server's disk is full: free space there; Switchyard goes on by itself"),
        "53300" => Some("the server has no connection left: raise max_connections or close others"),
        "53400" => Some(
            "raise max_replication_slots or max_wal_senders on the source and restart it, or drop a slot that is no longer used",
        ),
        _ => None,
    };
    match (ours, hint) {
        (Some(h), _) => e.hint(h),
        (None, Some(h)) => e.hint(h.to_owned()),
        (None, None) => e,
    }
}

/// Messages of class 22 (data exceptions) quote the offending input: cut it out.
fn without_values(sqlstate: &str, message: &str) -> String {
    if !sqlstate.starts_with("22") {
        return message.to_owned();
    }
    match message.split_once(": \"") {
        Some((head, _)) => format!("{head} (value not shown)"),
        None => {
            let mut out = String::new();
            for (i, part) in message.split('"').enumerate() {
                out.push_str(if i % 2 == 0 { part } else { "…" });
            }
            out
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_server_that_became_read_only_when_wrapped_then_it_is_waited_for_and_its_url_is_named() {
        let said = "cannot execute UPDATE in a read-only transaction";
        let e = from_server("storing the checkpoint", "25006", said, None);
        assert!(e.is_retry() && e.message().contains("the target is read-only"), "{e}");
        assert!(e.hint_text().unwrap().contains("point target.url at the new primary"));
        let e = from_server("writing a marker into the source's log", "25006", said, None);
        assert!(e.is_retry() && e.hint_text().unwrap().contains("source.url"), "{e}");
    }

    #[test]
    fn given_a_data_exception_when_wrapped_then_the_value_is_not_shown() {
        let e = from_server("loading", "22P02", "invalid input syntax for type integer: \"4111 1111\"", None);
        assert!(!e.message().contains("4111"), "{e}");
        let context = "COPY t, line 1, column n: \"4111\"";
        let said = with_column("22P02", "invalid input syntax for type integer: \"4111\"", Some(context));
        let e = from_server("loading", "22P02", &said, None);
        assert!(e.message().contains("column n") && !e.message().contains("4111"), "{e}");
        let e = from_server("loading", "22003", "value \"99999999999\" is out of range for type integer", None);
        assert!(!e.message().contains("9999"), "{e}");
    }
}
