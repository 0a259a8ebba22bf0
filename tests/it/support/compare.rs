//! Compares two databases row by row, in the text form of whole rows.

use std::collections::BTreeMap;

use super::Sql;

/// Differing rows that are named for each table.
const NAMED: usize = 5;

/// Every user table that holds rows of its own (partitions and inheritance children count as tables), quoted.
fn tables(sql: &mut Sql) -> Vec<String> {
    sql.rows(
        "select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where c.relkind = 'r' and c.relpersistence = 'p' and n.nspname not in ('switchyard', 'information_schema') \
         and n.nspname !~ '^pg_' order by 1",
    )
    .into_iter()
    .map(|mut r| r.swap_remove(0).unwrap())
    .collect()
}

/// The columns of a table by name, so that two sides with another order of columns are still comparable.
fn columns(sql: &mut Sql, table: &str) -> String {
    sql.one(&format!(
        "select string_agg(format('%I', attname), ', ' order by attname) from pg_attribute \
         where attrelid = '{}'::regclass and attnum > 0 and not attisdropped",
        table.replace('\'', "''")
    ))
}

/// The number of rows and a digest that no order of rows changes, but a row that is there twice does.
fn digest(sql: &mut Sql, table: &str, columns: &str) -> Vec<Option<String>> {
    sql.rows(&format!(
        "select count(*), sum(('x' || substr(h, 1, 15))::bit(60)::bigint::numeric), sum(('x' || substr(h, 16, 15))::bit(60)::bigint::numeric) \
         from (select md5((row({columns}))::text) as h from only {table}) rows"
    ))
    .swap_remove(0)
}

fn rows(sql: &mut Sql, table: &str, columns: &str) -> BTreeMap<String, i64> {
    let mut out = BTreeMap::new();
    for mut row in sql.rows(&format!("select row({columns})::text from only {table}")) {
        *out.entry(row.swap_remove(0).unwrap_or_default()).or_default() += 1;
    }
    out
}

fn short(row: &str) -> String {
    let cut: String = row.chars().take(160).collect();
    if cut.len() < row.len() { format!("{cut}… ({} bytes)", row.len()) } else { cut }
}

/// What differs between all user tables of two databases: nothing if they are equal. Bookkeeping is not looked at.
pub fn compare(source_url: &str, target_url: &str) -> Vec<String> {
    let (mut source, mut target) = (Sql::connect(source_url), Sql::connect(target_url));
    for side in [&mut source, &mut target] {
        side.run("set timezone = 'UTC'; set extra_float_digits = 1; set bytea_output = 'hex'; set search_path = ''");
    }
    let mut said = Vec::new();
    let (here, there) = (tables(&mut source), tables(&mut target));
    for t in there.iter().filter(|t| !here.contains(t)) {
        said.push(format!("{t}: the source has no such table"));
    }
    for t in &here {
        if !there.contains(t) {
            said.push(format!("{t}: the target has no such table"));
            continue;
        }
        let c = columns(&mut source, t);
        let other = columns(&mut target, t);
        if c != other {
            said.push(format!("{t}: columns are {c} at the source and {other} at the target"));
            continue;
        }
        let (a, b) = (digest(&mut source, t, &c), digest(&mut target, t, &c));
        if a == b {
            continue;
        }
        said.push(format!(
            "{t}: {} rows at the source, {} at the target",
            a[0].clone().unwrap_or_default(),
            b[0].clone().unwrap_or_default()
        ));
        let (a, b) = (rows(&mut source, t, &c), rows(&mut target, t, &c));
        let differing = a.iter().map(|(row, n)| (row, *n, b.get(row).copied().unwrap_or(0)));
        let extra = b.iter().filter(|(row, _)| !a.contains_key(*row)).map(|(row, n)| (row, 0, *n));
        for (row, n, m) in differing.chain(extra).filter(|(_, n, m)| n != m).take(NAMED) {
            said.push(format!("{t}: {n} times at the source, {m} times at the target: {}", short(row)));
        }
    }
    said
}

/// Panics with the differences between two databases, if there are any.
pub fn assert_equal(source_url: &str, target_url: &str) {
    let said = compare(source_url, target_url);
    assert!(said.is_empty(), "source and target differ:\n  {}", said.join("\n  "));
}

/// Panics unless a query on the target gives the rows that a query on the source computes, in any order. Both sides must
/// name the same columns in the same order; rows are compared in text form.
#[track_caller]
pub fn assert_same_rows(source: &mut Sql, on_source: &str, target: &mut Sql, on_target: &str) {
    let mut sides = [(&mut *source, on_source), (&mut *target, on_target)].map(|(sql, query)| {
        sql.run("set timezone = 'UTC'; set extra_float_digits = 1; set bytea_output = 'hex'");
        let mut out: BTreeMap<String, i64> = BTreeMap::new();
        for row in sql.rows(query) {
            *out.entry(format!("{row:?}")).or_default() += 1;
        }
        out
    });
    let (there, expected) = (sides[1].clone(), &mut sides[0]);
    if *expected == there {
        return;
    }
    let lacking = expected.iter().filter(|(r, n)| there.get(*r) != Some(n)).take(NAMED).map(|(r, _)| short(r));
    let lacking: Vec<String> = lacking.collect();
    let extra = there.iter().filter(|(r, n)| expected.get(*r) != Some(n)).take(NAMED).map(|(r, _)| short(r));
    panic!(
        "{} different rows are expected, {} are there by {on_target}\n  expected:\n    {}\n  there:\n    {}",
        expected.len(),
        there.len(),
        lacking.join("\n    "),
        extra.collect::<Vec<_>>().join("\n    ")
    );
}
