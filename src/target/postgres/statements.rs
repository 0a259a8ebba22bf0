//! The set-based statements and the parameters they take. Pure.
//!
//! One statement carries a whole set: its parameters are arrays, one a column, joined through `unnest`. Numbers travel in
//! binary; every other type travels as text and is cast by the server's own input function, so that any type it
//! knows works, arrays and composites included.

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::fit::{self, Misfit};
use crate::definition::DataType;
use crate::error::Result;
pub use crate::pgwire::quote::{literal, qualified, quoted};
use crate::schema::{Kind, Table};
use crate::value::{Datum, Row};

/// `ONLY t`, or `t` where rows lie in partitions.
pub fn only(table: &Table) -> String {
    if table.partitioned { qualified(&table.name) } else { format!("ONLY {}", qualified(&table.name)) }
}

/// What to do about a value that the server refused.
pub const MISFIT: &str = "a value does not fit the type of the target's column: give the column a type that holds what the source has (ALTER TABLE … ALTER COLUMN … TYPE …), or correct the row at the source; then start again";
/// What to do about a value that is too wide for an index.
pub const TOO_WIDE: &str =
    "an index of the target cannot hold a value this wide: drop that index there, then start again";

/// How a column's values travel in an array parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Bool,
    Int2,
    Int4,
    Int8,
    Text,
}

fn wire(kind: Kind) -> Wire {
    match kind {
        Kind::Bool => Wire::Bool,
        Kind::Int2 => Wire::Int2,
        Kind::Int4 => Wire::Int4,
        Kind::Int8 => Wire::Int8,
        _ => Wire::Text,
    }
}

impl Wire {
    fn array(self) -> Type {
        match self {
            Wire::Bool => Type::BOOL_ARRAY,
            Wire::Int2 => Type::INT2_ARRAY,
            Wire::Int4 => Type::INT4_ARRAY,
            Wire::Int8 => Type::INT8_ARRAY,
            Wire::Text => Type::TEXT_ARRAY,
        }
    }
    fn element(self) -> Type {
        match self {
            Wire::Bool => Type::BOOL,
            Wire::Int2 => Type::INT2,
            Wire::Int4 => Type::INT4,
            Wire::Int8 => Type::INT8,
            Wire::Text => Type::TEXT,
        }
    }
}

/// The type to cast a text to, without modifiers: an explicit cast with a length would cut silently, while the
/// assignment that follows complains. `character` and `bit` alone would mean a length of one.
pub fn cast_type(type_name: &str) -> String {
    let mut out = String::with_capacity(type_name.len());
    let (mut quote, mut depth) = (false, 0);
    for c in type_name.chars() {
        match c {
            '"' => quote = !quote,
            '(' if !quote => depth += 1,
            ')' if !quote => {
                depth -= 1;
                continue;
            }
            _ => {}
        }
        if depth == 0 {
            out.push(c);
        }
    }
    let (base, dims) = match out.find("[]") {
        Some(i) if !out.contains('"') => (out[..i].to_owned(), out[i..].to_owned()),
        _ => (out, String::new()),
    };
    let base = match base.as_str() {
        "character" => "pg_catalog.bpchar".to_owned(),
        "bit" => "pg_catalog.\"bit\"".to_owned(),
        b if b == "interval" || b.starts_with("interval ") => "interval".to_owned(),
        _ => base,
    };
    base + &dims
}

fn cast(table: &Table, column: usize, alias: &str) -> String {
    let c = &table.columns[column];
    match wire(c.kind) {
        // The one cast from text that reads less than the type's input function: not `-`, which is "none".
        Wire::Text if c.type_name == "regclass" => {
            format!("pg_catalog.regclassin(pg_catalog.textout({alias}))")
        }
        Wire::Text if c.type_name != "text" => format!("{alias}::{}", cast_type(&c.type_name)),
        _ => alias.to_owned(),
    }
}

/// A statement's text and the columns that its array parameters hold, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetStatement {
    /// SQL.
    pub sql: String,
    /// Indexes into the table's columns.
    pub columns: Vec<usize>,
    /// Parameter types.
    pub types: Vec<Type>,
}

fn source_of(table: &Table, columns: &[usize]) -> (String, Vec<Type>) {
    let mut params = Vec::new();
    let mut names = Vec::new();
    let mut types = Vec::new();
    for (n, &c) in columns.iter().enumerate() {
        let w = wire(table.columns[c].kind);
        params.push(format!("${}", n + 1));
        names.push(format!("c{c}"));
        types.push(w.array());
    }
    (format!("unnest({}) AS d({})", params.join(", "), names.join(", ")), types)
}

/// How a key column is compared where a plain `=` would not be found or would mean another operator: types of extensions
/// have theirs in a schema that is not on the search path, and a domain over an enum has none at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Equality {
    /// The type under all domains; both sides are cast to it.
    pub base: String,
    /// The operator of the key's index, `OPERATOR("public".=)`.
    pub operator: String,
}

/// One entry a key column, in the key's order; empty where every one is compared by `=`.
pub type KeyEquality = [Option<Equality>];

fn key_equals(table: &Table, equality: &KeyEquality, nth: usize, value: &str) -> String {
    let k = table.key()[nth];
    let column = format!("t.{}", quoted(&table.columns[k].name));
    match equality.get(nth).and_then(Option::as_ref) {
        None => format!("{column} = {}", cast(table, k, value)),
        Some(e) => format!("{column}::{} {} {value}::{}", e.base, e.operator, e.base),
    }
}

fn key_join(table: &Table, equality: &KeyEquality) -> String {
    let key = table.key().iter().enumerate();
    key.map(|(nth, k)| key_equals(table, equality, nth, &format!("d.c{k}"))).collect::<Vec<_>>().join(" AND ")
}

/// `UPDATE … FROM unnest(…)`: sets the columns that `sent` lists, finds rows by key. With `returning`, gives back the
/// number (from 1) of each parameter row that was found.
pub fn update(table: &Table, sent: &[usize], returning: bool, equality: &KeyEquality) -> SetStatement {
    let set: Vec<_> = sent
        .iter()
        .filter(|c| !table.key().contains(c))
        .map(|&c| format!("{} = {}", quoted(&table.columns[c].name), cast(table, c, &format!("d.c{c}"))))
        .collect();
    let mut columns: Vec<usize> = table.key().to_vec();
    columns.extend(sent.iter().filter(|c| !table.key().contains(c)));
    let (from, types) = source_of(table, &columns);
    // A row whose every column is its key has nothing to set, and still must be there.
    let set = if set.is_empty() {
        let k = quoted(&table.columns[table.key()[0]].name);
        format!("{k} = t.{k}")
    } else {
        set.join(", ")
    };
    let (from, tail) = if returning {
        let names: Vec<_> = columns.iter().map(|c| format!("c{c}")).collect();
        let params: Vec<_> = (1..=columns.len()).map(|n| format!("${n}")).collect();
        (
            format!("unnest({}) WITH ORDINALITY AS d({}, n)", params.join(", "), names.join(", ")),
            " RETURNING d.n".to_owned(),
        )
    } else {
        (from, String::new())
    };
    let sql = format!("UPDATE {} AS t SET {set} FROM {from} WHERE {}{tail}", only(table), key_join(table, equality));
    SetStatement { sql, columns, types }
}

/// `DELETE … USING unnest(…)`.
pub fn delete(table: &Table, equality: &KeyEquality) -> SetStatement {
    let columns = table.key().to_vec();
    let (from, types) = source_of(table, &columns);
    SetStatement {
        sql: format!("DELETE FROM {} AS t USING {from} WHERE {}", only(table), key_join(table, equality)),
        columns,
        types,
    }
}

/// Which of the keys, at most so many, the table does not hold, as text.
pub fn absent(table: &Table, equality: &KeyEquality, most: usize) -> SetStatement {
    let columns = table.key().to_vec();
    let (from, types) = source_of(table, &columns);
    let shown: Vec<_> = columns.iter().map(|c| format!("d.c{c}::text")).collect();
    let sql = format!(
        "SELECT {} FROM {from} WHERE NOT EXISTS (SELECT FROM {} AS t WHERE {}) LIMIT {most}",
        shown.join(", "),
        only(table),
        key_join(table, equality)
    );
    SetStatement { sql, columns, types }
}

fn column_list(table: &Table) -> String {
    table.columns.iter().map(|c| quoted(&c.name)).collect::<Vec<_>>().join(", ")
}

/// `INSERT … SELECT … FROM unnest(…)`; with `upsert`, a row of the same key is overwritten. For a table without columns
/// it inserts one row, because no parameter says how many there are.
pub fn insert(table: &Table, upsert: bool) -> SetStatement {
    if table.columns.is_empty() {
        let sql = format!("INSERT INTO {} DEFAULT VALUES", qualified(&table.name));
        return SetStatement { sql, columns: Vec::new(), types: Vec::new() };
    }
    let columns: Vec<usize> = (0..table.columns.len()).collect();
    let (from, types) = source_of(table, &columns);
    let select: Vec<_> = columns.iter().map(|&c| cast(table, c, &format!("d.c{c}"))).collect();
    let sql = format!(
        "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {from}{}",
        qualified(&table.name),
        column_list(table),
        select.join(", "),
        if upsert { on_conflict(table) } else { String::new() }
    );
    SetStatement { sql, columns, types }
}

/// ` ON CONFLICT (key) DO UPDATE SET …`, or `DO NOTHING` where there is nothing but the key; empty without a key.
pub fn on_conflict(table: &Table) -> String {
    let key = table.key();
    if key.is_empty() {
        return String::new();
    }
    let names: Vec<_> = key.iter().map(|&k| quoted(&table.columns[k].name)).collect();
    let set: Vec<_> = (0..table.columns.len())
        .filter(|c| !key.contains(c))
        .map(|c| format!("{0} = EXCLUDED.{0}", quoted(&table.columns[c].name)))
        .collect();
    if set.is_empty() {
        format!(" ON CONFLICT ({}) DO NOTHING", names.join(", "))
    } else {
        format!(" ON CONFLICT ({}) DO UPDATE SET {}", names.join(", "), set.join(", "))
    }
}

/// `COPY t (…) FROM STDIN …`; SQL has no empty list of columns.
pub fn copy_in(table: &Table, options: &str) -> String {
    let columns = if table.columns.is_empty() { String::new() } else { format!(" ({})", column_list(table)) };
    format!("COPY {}{columns} FROM STDIN WITH ({options})", qualified(&table.name))
}

/// `TRUNCATE` of several tables at once. CASCADE is never needed: the source names every table it emptied.
pub fn truncate(tables: &[std::sync::Arc<Table>], restart_identity: bool) -> String {
    let names: Vec<_> = tables.iter().map(|t| only(t)).collect();
    format!("TRUNCATE {}{}", names.join(", "), if restart_identity { " RESTART IDENTITY" } else { "" })
}

/// One row of a table without a key, found by all its columns. Other types than numbers are compared by what their
/// output function prints: some have no equality (json, xml, point), a cast to text would cut blanks, and the log
/// holds exactly what the table holds. `IS NOT DISTINCT FROM NULL` is no test of a composite's fields.
pub fn match_whole_row(table: &Table, first_param: usize) -> String {
    let conditions: Vec<_> = table
        .columns
        .iter()
        .enumerate()
        .map(|(i, c)| {
            let (p, name) = (format!("${}", first_param + i), quoted(&c.name));
            // What another engine or a conversion writes as JSON or as a list, the server prints in its own way.
            let rewritten = c.kind == Kind::Jsonb || matches!(c.data, DataType::Array { .. });
            match wire(c.kind) {
                Wire::Text if rewritten => format!(
                    "CASE WHEN m.{name} IS NOT DISTINCT FROM NULL THEN {p} IS NULL ELSE format('%s', m.{name}) = ({})::text END",
                    cast(table, i, &p)
                ),
                Wire::Text => format!(
                    "CASE WHEN m.{name} IS NOT DISTINCT FROM NULL THEN {p} IS NULL ELSE format('%s', m.{name}) = {p} END"
                ),
                _ => format!("m.{name} IS NOT DISTINCT FROM {p}"),
            }
        })
        .collect();
    format!(
        "(t.tableoid, t.ctid) = (SELECT m.tableoid, m.ctid FROM {} AS m WHERE {} LIMIT 1)",
        only(table),
        if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") }
    )
}

/// Deletes one row that is found by all its columns.
pub fn delete_whole_row(table: &Table) -> (String, Vec<Type>) {
    let types = table.columns.iter().map(|c| wire(c.kind).element()).collect();
    (format!("DELETE FROM {} AS t WHERE {}", only(table), match_whole_row(table, 1)), types)
}

/// Updates one row that is found by all its old columns.
pub fn update_whole_row(table: &Table, sent: &[usize]) -> (String, Vec<Type>) {
    let n = table.columns.len();
    let set: Vec<_> = sent
        .iter()
        .enumerate()
        .map(|(i, &c)| format!("{} = {}", quoted(&table.columns[c].name), cast(table, c, &format!("${}", n + 1 + i))))
        .collect();
    let mut types: Vec<Type> = table.columns.iter().map(|c| wire(c.kind).element()).collect();
    types.extend(sent.iter().map(|&c| wire(table.columns[c].kind).element()));
    let sql = format!("UPDATE {} AS t SET {} WHERE {}", only(table), set.join(", "), match_whole_row(table, 1));
    (sql, types)
}

/// Updates one row in place, key included, found by its old key (first parameters).
pub fn update_key(table: &Table, sent: &[usize], equality: &KeyEquality) -> (String, Vec<Type>) {
    let key = table.key();
    let set: Vec<_> = sent
        .iter()
        .enumerate()
        .map(|(i, &c)| {
            format!("{} = {}", quoted(&table.columns[c].name), cast(table, c, &format!("${}", key.len() + 1 + i)))
        })
        .collect();
    let conditions: Vec<_> =
        (0..key.len()).map(|nth| key_equals(table, equality, nth, &format!("${}", nth + 1))).collect();
    let mut types: Vec<Type> = key.iter().map(|&c| wire(table.columns[c].kind).element()).collect();
    types.extend(sent.iter().map(|&c| wire(table.columns[c].kind).element()));
    let sql = format!("UPDATE {} AS t SET {} WHERE {}", only(table), set.join(", "), conditions.join(" AND "));
    (sql, types)
}

/// An encoded parameter: an array of a column's values, or one value.
#[derive(Debug)]
pub struct Param {
    bytes: Option<BytesMut>,
}

impl ToSql for Param {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match &self.bytes {
            None => Ok(IsNull::Yes),
            Some(b) => {
                out.extend_from_slice(b);
                Ok(IsNull::No)
            }
        }
    }
    fn accepts(_: &Type) -> bool {
        true
    }
    to_sql_checked!();
}

fn integer(text: &[u8]) -> Result<i64, Misfit> {
    let parse = || {
        let (negative, digits) = match text {
            [b'-', rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        if digits.is_empty() {
            return None;
        }
        let mut n: i64 = 0;
        for &d in digits {
            if !d.is_ascii_digit() {
                return None;
            }
            // Counted downwards, because the smallest value has no positive twin.
            n = n.checked_mul(10)?.checked_sub(i64::from(d - b'0'))?;
        }
        if negative { Some(n) } else { n.checked_neg() }
    };
    parse().ok_or(Misfit::Number)
}

fn put_value(out: &mut BytesMut, kind: Kind, text: &[u8]) -> Result<(), Misfit> {
    match wire(kind) {
        Wire::Bool => out.put_u8(match text {
            b"t" | b"1" => 1,
            b"f" | b"0" => 0,
            _ => return Err(fit::misfit(kind, text).unwrap_or(Misfit::Number)),
        }),
        Wire::Int2 => out.put_i16(i16::try_from(integer(text)?).map_err(|_| Misfit::Number)?),
        Wire::Int4 => out.put_i32(i32::try_from(integer(text)?).map_err(|_| Misfit::Number)?),
        Wire::Int8 => out.put_i64(integer(text)?),
        Wire::Text => match fit::misfit(kind, text) {
            None => out.extend_from_slice(text),
            Some(why) => return Err(why),
        },
    }
    Ok(())
}

/// One value as a parameter.
pub fn scalar(table: &Table, column: usize, row: &Row) -> Result<Param> {
    Ok(match row.get(column) {
        Datum::Text(t) => {
            let mut b = BytesMut::with_capacity(t.len().max(8));
            let put = put_value(&mut b, table.columns[column].kind, t);
            put.map_err(|why| fit::error(table, column, Some(row), why))?;
            Param { bytes: Some(b) }
        }
        Datum::Null | Datum::Unsent => Param { bytes: None },
    })
}

/// One column of many rows as an array parameter (binary form of `array_recv`, arrayfuncs.c).
pub fn array(table: &Table, column: usize, rows: &[&Row]) -> Result<Param> {
    let kind = table.columns[column].kind;
    let w = wire(kind);
    let mut b = BytesMut::with_capacity(20 + rows.len() * 12);
    b.put_i32(1);
    b.put_i32(0);
    b.put_u32(w.element().oid());
    b.put_i32(rows.len() as i32);
    b.put_i32(1);
    let mut nulls = false;
    for row in rows {
        match row.get(column) {
            Datum::Text(t) => {
                let at = b.len();
                b.put_i32(0);
                put_value(&mut b, kind, t).map_err(|why| fit::error(table, column, Some(row), why))?;
                let len = (b.len() - at - 4) as i32;
                b[at..at + 4].copy_from_slice(&len.to_be_bytes());
            }
            Datum::Null | Datum::Unsent => {
                nulls = true;
                b.put_i32(-1);
            }
        }
    }
    if nulls {
        b[4..8].copy_from_slice(&1i32.to_be_bytes());
    }
    if rows.is_empty() {
        b.clear();
        b.put_i32(0);
        b.put_i32(0);
        b.put_u32(w.element().oid());
    }
    Ok(Param { bytes: Some(b) })
}

/// Appends a row of the table's columns in COPY's text form.
///
/// # Errors
/// `Fatal` for a value that the column is known not to hold, with the row's key.
pub fn copy_text(out: &mut Vec<u8>, row: &Row, table: &Table) -> Result<()> {
    for (i, column) in table.columns.iter().enumerate() {
        if i > 0 {
            out.push(b'\t');
        }
        match row.get(i) {
            Datum::Null | Datum::Unsent => out.extend_from_slice(b"\\N"),
            Datum::Text(t) => match fit::misfit(column.kind, t) {
                None => escape(out, t),
                Some(why) => return Err(fit::error(table, i, Some(row), why)),
            },
        }
    }
    out.push(b'\n');
    Ok(())
}

fn escape(out: &mut Vec<u8>, mut text: &[u8]) {
    let special = |b: &u8| matches!(b, b'\\' | b'\n' | b'\r' | b'\t');
    while let Some(i) = text.iter().position(special) {
        out.extend_from_slice(&text[..i]);
        out.push(b'\\');
        out.push(match text[i] {
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            other => other,
        });
        text = &text[i + 1..];
    }
    out.extend_from_slice(text);
}

/// Orders rows by key, so that a set walks index and heap in one direction. Only a matter of speed: any order is right.
pub fn sort_by_key(table: &Table, rows: &mut [&Row]) {
    let Some(&first) = table.key().first() else { return };
    match table.columns[first].kind {
        Kind::Int2 | Kind::Int4 | Kind::Int8 => rows.sort_by_cached_key(|r| match r.get(first) {
            Datum::Text(t) => integer(t).unwrap_or(0),
            _ => 0,
        }),
        _ => rows.sort_by(|a, b| match (a.get(first), b.get(first)) {
            (Datum::Text(a), Datum::Text(b)) => a.cmp(b),
            _ => std::cmp::Ordering::Equal,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_types_with_modifiers_when_cast_then_lengths_are_left_to_the_assignment() {
        for (from, to) in [
            ("character varying(20)", "character varying"),
            ("character(84)", "pg_catalog.bpchar"),
            ("character(3)[]", "pg_catalog.bpchar[]"),
            ("bit(3)", "pg_catalog.\"bit\""),
            ("numeric(10,2)", "numeric"),
            ("timestamp(3) with time zone", "timestamp with time zone"),
            ("interval day to second(3)", "interval"),
            ("public.\"we(ird)\"", "public.\"we(ird)\""),
            ("public.mood[]", "public.mood[]"),
            ("\"char\"", "\"char\""),
        ] {
            assert_eq!(cast_type(from), to);
        }
    }

    fn table(kinds: &[Kind]) -> Table {
        let column = |(i, kind): (usize, &Kind)| crate::schema::Column {
            name: format!("c{i}"),
            number: i as i32 + 1,
            type_name: "t".into(),
            kind: *kind,
            data: Default::default(),
            nullable: true,
            identity: None,
            default: None,
            collation: None,
            portable_binary: false,
        };
        Table {
            id: crate::schema::TableId(0),
            name: crate::schema::TableName::new("public", "t"),
            columns: kinds.iter().enumerate().map(column).collect(),
            generated: Vec::new(),
            identity: crate::schema::RowIdentity::Key(vec![0]),
            full_old_rows: false,
            full_old_rows_by: String::new(),
            has_secondary_unique: false,
            partitioned: false,
            estimated_rows: 0,
            bytes: 0,
        }
    }

    #[test]
    fn given_special_bytes_when_written_for_copy_then_they_are_escaped() {
        let mut out = Vec::new();
        let row = Row::from_texts([Some("a\tb\\c\nd\re"), None, Some("")]);
        copy_text(&mut out, &row, &table(&[Kind::Text; 3])).unwrap();
        assert_eq!(out, b"a\\tb\\\\c\\nd\\re\t\\N\t\n");
    }

    #[test]
    fn given_values_that_a_column_cannot_hold_when_encoded_then_the_error_names_row_and_column_and_not_the_value() {
        let t = table(&[Kind::Int8, Kind::Bool, Kind::Date, Kind::Text]);
        for (row, column) in [
            (Row::from_texts([Some("7"), Some("42"), None, None]), "c1"),
            (Row::from_texts([Some("7"), None, Some("0000-00-00"), None]), "c2"),
            (Row::from_texts([Some("7"), None, None, Some("secret\0")]), "c3"),
        ] {
            let n: usize = column[1..].parse().unwrap();
            for e in [
                array(&t, n, &[&row]).unwrap_err(),
                scalar(&t, n, &row).unwrap_err(),
                copy_text(&mut Vec::new(), &row, &t).unwrap_err(),
            ] {
                assert!(e.message().contains("row c0=7") && e.message().contains(column), "{e}");
                assert!(
                    !e.message().contains("42") && !e.message().contains("secret") && e.hint_text().is_some(),
                    "{e}"
                );
            }
        }
        let truth = Row::from_texts([Some("7"), Some("1"), None, None]);
        let mut b = BytesMut::new();
        put_value(&mut b, Kind::Bool, b"1").unwrap();
        put_value(&mut b, Kind::Bool, b"0").unwrap();
        assert_eq!(&b[..], [1, 0]);
        assert!(scalar(&t, 1, &truth).is_ok());
    }
}
