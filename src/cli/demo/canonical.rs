//! Compares the two sides of the demo across engines: every value in a form that both can print, row by row.
//!
//! | value | form |
//! |---|---|
//! | numbers, text, labels, UUIDs | as the server prints them; booleans as 0 and 1, blanks at the end of `char(n)` left out |
//! | date and time | `2024-02-29 12:00:00.500000` in UTC, always six digits behind the second |
//! | bytes | hexadecimal digits |
//! | bits | as many 0 and 1 as there are |
//! | JSON, arrays | parsed here, and printed with sorted keys and without blanks; 1e3 and 1000.0 are 1000 |
//! | types that only the source has | its own text |

use std::collections::BTreeMap;

use md5::{Digest, Md5};
use serde_json::Value;

use super::compare::{Balance, Compared, Definitions, ask, held, named};
use super::portable;
use super::side::{self, Engine, Session};
use crate::error::{Error, Result};

/// Every table of the shop. `tell` is told of each as soon as it was compared.
///
/// # Errors
/// If a side cannot be read; a table or column that the target does not have is a difference.
pub async fn tables(
    source: &mut Session,
    target: &mut Session,
    mut tell: impl FnMut(&Compared),
) -> Result<Vec<Compared>> {
    let mut out = Vec::new();
    for (name, key) in portable::TABLES.into_iter().chain([("pulse", &["n"][..])]) {
        let compared = one(source, target, name, key).await?;
        tell(&compared);
        out.push(compared);
    }
    Ok(out)
}

async fn one(source: &mut Session, target: &mut Session, name: &str, key: &[&str]) -> Result<Compared> {
    let mut compared = Compared { table: name.to_owned(), source_rows: 0, target_rows: 0, differences: Vec::new() };
    let (left, right) = tokio::join!(columns(source, "source", name), columns(target, "target", name));
    let (left, right) = (left?, right?);
    for column in left.keys().filter(|c| !right.contains_key(*c)) {
        compared.differences.push(format!("column {column} is missing at the target"));
    }
    for column in right.keys().filter(|c| !left.contains_key(*c)) {
        compared.differences.push(format!("column {column} is only at the target"));
    }
    // One order on both sides; what is JSON on one side is read as JSON on both.
    let both = || left.iter().filter_map(|(column, l)| Some((column, l, right.get(column)?)));
    let json: Vec<bool> = both().map(|(_, l, r)| l.json || r.json).collect();
    let list = |side: fn(&Column, &Column) -> String| both().map(|(_, l, r)| side(l, r)).collect::<Vec<_>>().join(", ");
    let (from, to) = (list(|l, _| l.sql.clone()), list(|_, r| r.sql.clone()));
    if json.is_empty() {
        return Ok(compared);
    }
    let keys = key.iter().filter_map(|k| left.keys().position(|c| c == k)).collect();
    let form = Form { json, keys };
    let (left, right) =
        tokio::join!(digest(source, "source", name, &from, &form), digest(target, "target", name, &to, &form));
    let (left, right) = (left?, right?);
    (compared.source_rows, compared.target_rows) = (left.0, right.0);
    if left != right && compared.differences.is_empty() {
        let mut balance = Balance::new();
        weigh(source, "source", name, &from, &form, 1, &mut balance).await?;
        weigh(target, "target", name, &to, &form, -1, &mut balance).await?;
        compared.differences = named(&balance);
        // Different by digest, and no row was found: the sides changed meanwhile. That is a difference, too.
        if compared.differences.is_empty() {
            compared.differences.push("the digests differ".to_owned());
        }
    }
    Ok(compared)
}

/// How a column is asked for.
struct Column {
    sql: String,
    json: bool,
}

/// The columns of a table by name; none if there is no such table.
async fn columns(session: &mut Session, side: &str, table: &str) -> Result<BTreeMap<String, Column>> {
    let engine = session.engine();
    let (schema, kind) = match engine {
        Engine::Postgres => ("'public'", "data_type"),
        _ => ("DATABASE()", "column_type"),
    };
    let sql = format!(
        "SELECT column_name, {kind} FROM information_schema.columns \
         WHERE table_schema = {schema} AND table_name = {}",
        engine.text(table)
    );
    let mut out = BTreeMap::new();
    for row in ask(session, side, &sql).await? {
        let (name, kind) = (side::text(&row, 0)?, side::text(&row, 1)?);
        out.insert(name.to_owned(), column(engine, &engine.quoted(name), &kind.to_lowercase()));
    }
    Ok(out)
}

fn column(engine: Engine, c: &str, kind: &str) -> Column {
    let is = |words: &[&str]| words.iter().any(|w| kind.starts_with(w));
    let sql = match engine {
        Engine::Postgres if kind == "boolean" => format!("{c}::int"),
        Engine::Postgres if kind == "array" => format!("to_json({c})"),
        Engine::Postgres if kind == "bytea" => format!("encode({c}, 'hex')"),
        Engine::Postgres if kind == "character" => format!("rtrim({c})"),
        Engine::Postgres if is(&["timestamp"]) => format!("to_char({c}, 'YYYY-MM-DD HH24:MI:SS.US')"),
        Engine::Postgres if kind == "time without time zone" => format!("to_char({c}, 'HH24:MI:SS.US')"),
        Engine::Postgres => c.to_owned(),
        _ if is(&["timestamp", "datetime"]) => format!("DATE_FORMAT({c}, '%Y-%m-%d %H:%i:%s.%f')"),
        _ if is(&["time"]) => format!("TIME_FORMAT({c}, '%H:%i:%s.%f')"),
        _ if is(&["binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"]) => format!("LOWER(HEX({c}))"),
        _ if is(&["bit"]) => {
            let bits: String = kind.chars().filter(char::is_ascii_digit).collect();
            format!("LPAD(BIN({c}), {bits}, '0')")
        }
        _ => c.to_owned(),
    };
    Column { sql, json: is(&["json", "array"]) }
}

/// Which fields of a row are what.
pub struct Form {
    /// Whether a field is JSON.
    pub json: Vec<bool>,
    /// Which fields are the key.
    pub keys: Vec<usize>,
}

impl Form {
    /// The digest of a row in canonical form.
    pub fn hash(&self, row: &[Option<&[u8]>]) -> [u8; 16] {
        let mut md5 = Md5::new();
        for (i, field) in row.iter().enumerate() {
            let parsed = match field {
                Some(text) if self.json.get(i) == Some(&true) => serde_json::from_slice::<Value>(text).ok(),
                _ => None,
            };
            let printed = parsed.map(|value| plain(value).to_string());
            let field = printed.as_deref().map(str::as_bytes).or(*field);
            // With its length, so that no two rows run together into one text.
            md5.update(field.map_or(-1, |f| f.len() as i64).to_le_bytes());
            md5.update(field.unwrap_or_default());
        }
        md5.finalize().into()
    }

    /// The key of a row, for people.
    pub fn key(&self, row: &[Option<&[u8]>]) -> String {
        if self.keys.is_empty() {
            return "(no key)".to_owned();
        }
        let field =
            |i: &usize| String::from_utf8_lossy(row.get(*i).copied().flatten().unwrap_or_default()).into_owned();
        self.keys.iter().map(field).collect::<Vec<_>>().join(", ")
    }
}

/// Whole numbers in one spelling; keys are sorted by the map that holds them.
fn plain(value: Value) -> Value {
    /// Up to here a double holds every whole number.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Array(all) => all.into_iter().map(plain).collect(),
        Value::Object(all) => Value::Object(all.into_iter().map(|(k, v)| (k, plain(v))).collect()),
        Value::Number(n) => match n.as_f64() {
            Some(f) if n.is_f64() && f.fract() == 0.0 && f.abs() < EXACT => Value::from(f as i64),
            _ => Value::Number(n),
        },
        other => other,
    }
}

/// How many rows, and a digest that no order of rows changes, but a row that is there twice does.
async fn digest(session: &mut Session, side: &str, table: &str, list: &str, form: &Form) -> Result<(i64, u128)> {
    let (mut rows, mut sum) = (0, 0_u128);
    each(session, side, table, list, |row| {
        rows += 1;
        sum = sum.wrapping_add(u128::from_le_bytes(form.hash(row)));
    })
    .await?;
    Ok((rows, sum))
}

async fn weigh(
    session: &mut Session,
    side: &str,
    table: &str,
    list: &str,
    form: &Form,
    one: i64,
    balance: &mut Balance,
) -> Result<()> {
    each(session, side, table, list, |row| {
        let hash = u128::from_le_bytes(form.hash(row));
        *balance.entry((form.key(row), format!("{hash:032x}"))).or_default() += one;
    })
    .await
}

async fn each(
    session: &mut Session,
    side: &str,
    table: &str,
    list: &str,
    look: impl FnMut(&[Option<&[u8]>]),
) -> Result<()> {
    let sql = format!("SELECT {list} FROM {}", session.engine().quoted(table));
    session.each(&format!("comparing: reading the {side}"), &sql, look).await
}

/// Compares what both engines have: columns and whether they may be NULL, primary, unique and foreign keys.
///
/// # Errors
/// If a side cannot be read.
pub async fn definitions(source: &mut Session, target: &mut Session) -> Result<Definitions> {
    let (from, to) = (list_of_definitions(source.engine()), list_of_definitions(target.engine()));
    let (left, right) = tokio::join!(ask(source, "source", from), ask(target, "target", to));
    held(left?, right?).map_err(|e: Error| e.context("comparing definitions"))
}

fn list_of_definitions(engine: Engine) -> &'static str {
    match engine {
        Engine::Postgres => {
            "WITH t AS (SELECT c.oid, c.relname::text AS name FROM pg_catalog.pg_class c
                        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                        WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition)
             SELECT 'column ' || t.name || '.' || a.attname || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END
               FROM t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
             UNION ALL
             SELECT CASE WHEN i.indisprimary THEN 'primary key ' ELSE 'unique ' END || t.name || ' (' ||
                    (SELECT string_agg(a.attname, ', ' ORDER BY k.o) FROM unnest(i.indkey) WITH ORDINALITY k(n, o)
                     JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.n) || ')'
               FROM t JOIN pg_catalog.pg_index i ON i.indrelid = t.oid AND i.indisunique AND i.indisvalid
             UNION ALL
             SELECT 'foreign key ' || t.name || ' (' ||
                    (SELECT string_agg(a.attname, ', ' ORDER BY k.o) FROM unnest(f.conkey) WITH ORDINALITY k(n, o)
                     JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.n) || ') to ' || r.name
               FROM t JOIN pg_catalog.pg_constraint f ON f.conrelid = t.oid AND f.contype = 'f' AND f.convalidated
               JOIN t AS r ON r.oid = f.confrelid"
        }
        _ => {
            "SELECT CONCAT('column ', table_name, '.', column_name, IF(is_nullable = 'NO', ' not null', ''))
               FROM information_schema.columns WHERE table_schema = DATABASE()
             UNION ALL
             SELECT CONCAT(IF(index_name = 'PRIMARY', 'primary key ', 'unique '), table_name, ' (',
                           GROUP_CONCAT(column_name ORDER BY seq_in_index SEPARATOR ', '), ')')
               FROM information_schema.statistics WHERE table_schema = DATABASE() AND non_unique = 0
               GROUP BY table_name, index_name
             UNION ALL
             SELECT CONCAT('foreign key ', table_name, ' (',
                           GROUP_CONCAT(column_name ORDER BY ordinal_position SEPARATOR ', '), ') to ',
                           MAX(referenced_table_name))
               FROM information_schema.key_column_usage
               WHERE table_schema = DATABASE() AND referenced_table_name IS NOT NULL
               GROUP BY table_name, constraint_name"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_one_document_in_two_spellings_when_hashed_then_it_is_the_same() {
        let form = Form { json: vec![false, true], keys: vec![0] };
        let hash = |json: &str| form.hash(&[Some(b"k"), Some(json.as_bytes())]);
        assert_eq!(hash(r#"{"b":1e3, "a":["\u00e9",null]}"#), hash(r#"{"a": ["é", null], "b": 1000.0}"#));
        assert_ne!(hash(r#"{"a": "1"}"#), hash(r#"{"a": 1}"#));
        assert_ne!(hash("null"), form.hash(&[Some(b"k"), None]));
        // Text that only looks like JSON stays what it is.
        assert_ne!(form.hash(&[Some(b"1.0"), None]), form.hash(&[Some(b"1"), None]));
        // Where one field ends and the next begins counts.
        let text = Form { json: vec![], keys: vec![] };
        assert_ne!(text.hash(&[Some(b"ab"), Some(b"c")]), text.hash(&[Some(b"a"), Some(b"bc")]));
        assert_ne!(text.hash(&[Some(b"")]), text.hash(&[None]));
    }
}
