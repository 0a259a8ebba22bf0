//! Says which rows a failed statement was about: keys that are not there, rows that meet in a unique key.

use super::catalog::Described;
use super::session::{Session, TextRow};
use super::statements::Shape;
use crate::error::Error;
use crate::value::Row;

/// Keys named in an error.
const KEYS: usize = 5;
/// `ER_NET_PACKET_TOO_LARGE`.
pub const TOO_LARGE: &str = "1153";

fn keys(shape: &Shape, rows: &[TextRow], from: usize) -> Vec<String> {
    let key = shape.table.key();
    rows.iter()
        .map(|r| {
            let parts: Vec<String> = key
                .iter()
                .enumerate()
                .map(|(n, &k)| {
                    let value = r.get(from + n).and_then(Option::as_deref).unwrap_or("NULL");
                    format!("{}={value}", shape.table.columns[k].name)
                })
                .collect();
            parts.join(",")
        })
        .collect()
}

/// An update or delete that did not find its row: the target is not what the source thinks. Names some keys.
pub async fn diverged(session: &mut Session, shape: &Shape, what: &str, rows: &[&Row], got: u64) -> Error {
    let table = &shape.table.name;
    let mut shown = String::new();
    if !shape.table.key().is_empty()
        && let Ok(sql) = shape.absent(rows, KEYS)
        && let Ok(absent) = session.rows("looking for missing rows on the target", sql).await
        && !absent.is_empty()
    {
        shown = format!("; not there: {}", keys(shape, &absent, 0).join("; "));
    }
    Error::fatal(format!("{table}: {what} of {} rows found only {got} on the target{shown}", rows.len()))
        .with_code("switchyard:diverged")
        .hint("somebody else wrote to the target, or it is not the one that was copied: compare these rows, mend them and start again, or copy anew")
}

/// Which of several statements failed, from 0, and which of its rows, from 0, as the message says it.
pub fn place(e: &Error) -> (usize, Option<usize>) {
    let number = |after: &str| -> Option<usize> {
        let rest = &e.message()[e.message().find(after)? + after.len()..];
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    (number("statement ").map_or(0, |n: usize| n.saturating_sub(1)), number(" at row ").map(|n| n.saturating_sub(1)))
}

/// The name of the key in `Duplicate entry … for key 't.PRIMARY'`.
fn key_name(e: &Error) -> Option<&str> {
    let rest = e.message().split_once("for key '")?.1;
    let name = rest.split('\'').next()?;
    Some(name.rsplit('.').next().unwrap_or(name))
}

/// Two rows that are equal in a unique key of the target: names both, and the key.
pub async fn collision(session: &mut Session, described: &Described, shape: &Shape, rows: &[&Row], e: Error) -> Error {
    let Some(name) = key_name(&e).map(str::to_owned) else { return e };
    let table = &shape.table.name;
    let Some((_, columns)) = described.uniques.iter().find(|(n, _)| *n == name) else { return e };
    // The catalog numbers columns as the table has them; so does the shape.
    let names: Vec<&str> =
        columns.iter().filter_map(|&c| described.table.columns.get(c)).map(|c| c.name.as_str()).collect();
    let places: Option<Vec<usize>> =
        names.iter().map(|n| shape.table.columns.iter().position(|c| c.name == *n)).collect();
    let Some(places) = places.filter(|p| !p.is_empty()) else { return e };
    let n = shape.table.key().len();
    let met = match shape.meeting(&places, rows, KEYS) {
        Ok(sql) => session.rows("looking for rows in the way", sql).await.unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    let pairs: Vec<String> = keys(shape, &met, 0)
        .into_iter()
        .zip(keys(shape, &met, n))
        .map(|(there, new)| format!("the row {there} is there, and {new} is to come"))
        .collect();
    let what = if pairs.is_empty() {
        // Both are new.
        let sql = shape.twins(&places, rows, KEYS);
        let twins = match sql {
            Ok(sql) => session.rows("looking for rows that are equal", sql).await.unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        keys(shape, &twins, 0)
            .into_iter()
            .zip(keys(shape, &twins, n))
            .map(|(a, b)| format!("the rows {a} and {b} are both to come"))
            .collect::<Vec<_>>()
            .join("; ")
    } else {
        pairs.join("; ")
    };
    Error::fatal(format!(
        "{table}: two source rows are equal under the target's unique key {name} ({}){}",
        names.join(", "),
        if what.is_empty() { String::new() } else { format!(": {what}") }
    ))
    .with_code("1062")
    .hint("give the key's text columns a collation that tells them apart on the target (utf8mb4_bin, or target.collation), or change one of the rows at the source; then start again. If both keys are the same to the byte, somebody else wrote to the target, or two tables that rules merge have the same key (on_existing says what then)")
}

/// A statement that does not fit into the server's packets: a row does not.
pub fn too_large(shape: &Shape, rows: &[&Row], what: &str, e: Error) -> Error {
    let table = &shape.table.name;
    match rows.iter().max_by_key(|r| r.bytes()) {
        Some(row) => e.context(format!("{table}: {what} of the row {} ({} bytes)", shape.key_of(row), row.bytes())),
        None => e.context(format!("{table}: {what} of rows on the target")),
    }
}

/// What an operator can do about an error of a statement over rows.
pub fn hinted(shape: &Shape, rows: &[&Row], what: &str, e: Error) -> Error {
    let at = place(&e).1.and_then(|n| rows.get(n)).map(|r| shape.key_of(r));
    let table = &shape.table.name;
    let e = match (e.code(), at) {
        // Of a joined update the server counts its own rows.
        (Some("1264" | "1265" | "1366" | "1292" | "1406" | "3140"), Some(key)) if what == "insert" => {
            e.context(format!("{table}: {what} of the row {key}"))
        }
        (Some(TOO_LARGE), _) => too_large(shape, rows, what, e),
        _ => e.context(format!("{table}: {what} of rows on the target")),
    };
    match e.code() {
        Some("1213" | "1205") => e.conflicting(),
        Some("1048" | "1364" | "1452" | "3819" | "4025") => e.hint("the target has a constraint that the source has not, or a trigger changed the row: drop or relax it, then start again"),
        Some("1146" | "1054") => e.hint("the target's table is not as it was: make it as the source has it, then start again"),
        Some("1264" | "1265" | "1366" | "1292" | "1406" | "3140" | "1416") => e.hint("the target's column cannot hold a value of the source: change the value at the source, or the column's type on the target; then start again"),
        _ => e,
    }
}
