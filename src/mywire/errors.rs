//! What an error of MySQL or MariaDB means for us: its class by error number, its message without values.
//!
//! Source of the numbers: MySQL "Server Error Message Reference", MariaDB "Error Codes".

use super::packet::ServerError;
use crate::error::{Class, Error};

/// A packet that is larger than max_allowed_packet (`ER_NET_PACKET_TOO_LARGE`); so are statements that we do not even send.
pub const TOO_LARGE: u16 = 1153;
/// What to do then.
pub const RAISE_PACKET: &str =
    "SET GLOBAL max_allowed_packet = 1073741824 on that server: it must hold the largest row; then start again";

/// The class of an error number; `message` decides where one number means several things.
pub fn class_of(code: u16, message: &str) -> Class {
    match code {
        // Too many connections, of all or of one account; out of memory, of threads.
        1040 | 1203 | 1226 | 1037 | 1038 | 1041 | 1135 => Class::Retry,
        // Disk full: of temporary files, of a table.
        1021 | 1114 => Class::Retry,
        1030 if message.contains("error 28") => Class::Retry,
        // Shutdown, killed, interrupted; the connection broke; idle for too long.
        1053 | 1317 | 1927 | 1969 | 4031 | 1152 | 1158..=1161 | 1184 => Class::Retry,
        2002 | 2003 | 2006 | 2013 | 2055 => Class::Retry,
        // Lock wait, lock table full, deadlock (of XA, too), NOWAIT, too many transactions, the row or the table changed.
        1205 | 1206 | 1213 | 1614 | 3572 | 1637 | 1020 | 1412 | 1615 => Class::Retry,
        // A primary that became a replica or was set read-only may be one again. 1290 is other options' number as well.
        1290 if says_read_only(message) => Class::Retry,
        1792 | 1836 => Class::Retry,
        // Offline mode; a service that is not there yet; group replication refused or rolled back; a Galera node apart.
        3032 | 3168 | 3100 | 3101 => Class::Retry,
        1047 if message.contains("WSREP") => Class::Retry,
        _ => Class::Fatal,
    }
}

fn says_read_only(message: &str) -> bool {
    message.contains("read-only") || message.contains("read_only")
}

/// An error that the server reported, with what was being done.
pub fn from_server(doing: impl std::fmt::Display, e: &ServerError) -> Error {
    let doing = doing.to_string();
    let mut message = without_values(e.code, &e.message);
    // Nothing is written at the source without its name in what was being done.
    let source = doing.contains("source") && !doing.contains("target");
    let side = if source { "source" } else { "target" };
    let read_only = matches!(e.code, 1792 | 1836) || e.code == 1290 && says_read_only(&e.message);
    if read_only {
        message = format!("the {side} is read-only: {message}");
    }
    let text = format!("{doing}: {message} (error {})", e.code);
    let error = Error::new(class_of(e.code, &e.message), text).with_code(e.code.to_string());
    let hint = match e.code {
        _ if read_only && source => "the source is read-only: did it fail over? point source.url at the primary",
        _ if read_only => "the target is read-only: did it fail over? point target.url at the new primary",
        1045 | 1698 => {
            "check user and password in the URL, which hosts the account may connect from, and whether it has to use TLS (ssl-mode=required)"
        }
        1044 | 1049 => "check the database name in the URL, and the account's privileges on it",
        1130 => "the server lets nobody in from this machine's address: create the account for it, 'user'@'%'",
        1129 => {
            "too many failed connections from this machine: TRUNCATE TABLE performance_schema.host_cache on that server"
        }
        1040 => "the server has no connection left: raise max_connections or close others",
        1203 | 1226 => "the account has no connection left: raise its limits",
        1021 | 1114 => "the server's disk is full: free space there; Switchyard goes on by itself",
        TOO_LARGE => RAISE_PACKET,
        1142 | 1143 | 1227 | 1370 => "grant the account what it lacks; `switchyard check` lists what it needs",
        1148 | 3948 | 4166 => "let it load rows: SET GLOBAL local_infile = ON on that server",
        1251 | 2059 => "use an account with caching_sha2_password, mysql_native_password or ed25519",
        1820 | 1862 => "the account's password has expired: set it again",
        3118 | 4151 => "the account is locked: ALTER USER … ACCOUNT UNLOCK",
        3159 | 4077 | 4078 => "that server refuses connections without TLS: use ssl-mode=required",
        1236 => return error.hint(binlog_hint(&e.message)),
        _ => return error,
    };
    error.hint(hint)
}

/// `'reader'@'%'`, where the server denies an account the database itself (`ER_DBACCESS_DENIED_ERROR`).
pub fn denied_account(e: &Error) -> Option<&str> {
    if e.code() != Some("1044") {
        return None;
    }
    let (_, rest) = e.message().split_once("Access denied for user ")?;
    rest.split_once(" to database ").map(|(account, _)| account)
}

/// One number for everything that ends a replica's stream for good.
fn binlog_hint(message: &str) -> &'static str {
    if message.contains("same server_uuid") || message.contains("same server_id") {
        "another reader with the same server_id has connected; if that is not another Switchyard, give another server_id"
    } else if message.contains("max_allowed_packet") {
        "an event is larger than the server can send, or the position is in the middle of one"
    } else {
        "the source does not have this place of its log any more: start the migration anew, and keep the log for longer (binlog_expire_logs_seconds)"
    }
}

/// Errors whose quoted words are names of databases, tables, columns, keys, users, variables: never values.
const NAMES_ONLY: &[u16] = &[
    1004, 1005, 1006, 1007, 1008, 1044, 1045, 1046, 1048, 1049, 1050, 1051, 1052, 1054, 1055, 1059, 1060, 1061, 1068,
    1070, 1071, 1072, 1073, 1074, 1075, 1091, 1101, 1102, 1103, 1109, 1113, 1114, 1115, 1118, 1126, 1130, 1133, 1141,
    1142, 1143, 1144, 1146, 1147, 1153, 1166, 1170, 1171, 1176, 1193, 1203, 1205, 1213, 1215, 1217, 1226, 1227, 1236,
    1231, 1238, 1251, 1264, 1265, 1267, 1271, 1273, 1283, 1286, 1289, 1290, 1298, 1305, 1347, 1356, 1362, 1364, 1370,
    1396, 1406, 1412, 1419, 1449, 1451, 1452, 1503, 1505, 1506, 1524, 1553, 1557, 1568, 1681, 1698, 1701, 1767, 1785,
    1786, 1792, 1822, 1823, 1824, 1826, 1828, 1829, 1830, 1832, 1833, 1834, 1846, 1901, 1906, 3105, 3118, 3159, 3730,
    3734, 3750, 3780, 3813, 3819, 3820, 3821, 3822, 3948, 4025, 4028, 4151, 4166,
];

/// The message with what may be a row's value taken out. Messages quote values without escaping what is in them, so
/// everything from the first quote to the last is taken, but for the name that a known tail ends in.
fn without_values(code: u16, message: &str) -> String {
    if NAMES_ONLY.contains(&code) {
        return message.to_owned();
    }
    if code == 1064 || code == 1149 {
        // … near 'the statement from there on' at line 1.
        return match message.split_once(" near ") {
            Some((head, _)) => format!("{head} (statement not shown)"),
            None => "syntax error (statement not shown)".to_owned(),
        };
    }
    let (Some(first), Some(last)) = (message.find(['\'', '"']), message.rfind(['\'', '"'])) else {
        return message.to_owned();
    };
    let tail: Option<&[&str]> = match code {
        1062 | 1586 | 1859 => Some(&["' for key "]),
        1366 | 1411 | 1292 | 1367 | 1465 | 1300 => Some(&["' for column ", "\" for column "]),
        _ => None,
    };
    let end = tail
        .and_then(|tails| tails.iter().filter_map(|t| message.rfind(t)).max())
        .filter(|end| *end > first)
        .unwrap_or(last);
    let end = if end == first { message.len() } else { end + 1 };
    format!("{}(value not shown){}", &message[..first], &message[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: u16, message: &str) -> Error {
        from_server("loading", &ServerError { code, sqlstate: String::new(), message: message.into() })
    }

    #[test]
    fn given_messages_with_values_when_wrapped_then_the_values_are_gone_and_the_names_are_there() {
        for (code, message, kept) in [
            (1062, "Duplicate entry '4711' for key 't.PRIMARY'", "for key 't.PRIMARY'"),
            (1062, "Duplicate entry 'it's 4711' for key 'a' for key 't.k'", "for key 't.k'"),
            (1366, "Incorrect integer value: '4711' for column 'c' at row 1", "for column 'c' at row 1"),
            (1366, "Incorrect string value: '\\xF0 4711' for column `d`.`t`.`c` at row 2", "for column `d`.`t`.`c`"),
            (1292, "Truncated incorrect DOUBLE value: '4711'", "Truncated incorrect DOUBLE value"),
            (1064, "You have an error in your SQL syntax; check … near '4711' at line 1", "SQL syntax"),
            (1264, "Out of range value for column 'c' at row 1", "column 'c' at row 1"),
            (1690, "BIGINT value is out of range in '(4711 + 1)'", "BIGINT value is out of range"),
            (1644, "trigger says \"4711\"", "trigger says"),
            (9999, "odd '4711", "odd"),
        ] {
            let e = said(code, message);
            assert!(!e.message().contains("4711") && e.message().contains(kept), "{e}");
            assert_eq!(e.code(), Some(&*code.to_string()));
        }
    }

    #[test]
    fn given_a_server_that_became_read_only_when_wrapped_then_it_is_waited_for() {
        let words = "The MySQL server is running with the --super-read-only option so it cannot execute this statement";
        let e = said(1290, words);
        assert!(e.is_retry() && e.hint_text().unwrap().contains("target.url"), "{e}");
        let words =
            "The MySQL server is running with the --secure-file-priv option so it cannot execute this statement";
        assert!(!said(1290, words).is_retry());
    }
}
