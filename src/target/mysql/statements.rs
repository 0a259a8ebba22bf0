//! SQL text that moves rows: sets of them, listed as the rows of a derived table. Pure.
//!
//! `UPDATE (VALUES …) AS v STRAIGHT_JOIN t ON key SET …` finds every row by the key's index, says how many it found
//! (`Rows matched`), and never touches a row through another unique key, as `ON DUPLICATE KEY UPDATE` and `REPLACE` do.

use std::sync::Arc;

use super::forms::{Form, forms};
use super::values::cook;
use crate::error::{Error, Result};
use crate::mywire::quote::{list, qualified, quoted};
use crate::mywire::server::Flavour;
use crate::schema::Table;
use crate::value::{Datum, Row};

/// A table's columns, and how they are written and compared.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The target's table.
    pub table: Arc<Table>,
    /// Whose server.
    pub flavour: Flavour,
    forms: Vec<Form>,
}

/// One statement, and which of the rows it was made of are in it.
#[derive(Debug)]
pub struct Statement {
    /// The text.
    pub sql: Vec<u8>,
    /// The rows.
    pub rows: std::ops::Range<usize>,
}

/// How large a statement may get.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Rows. With more, no statement gets cheaper.
    pub rows: usize,
    /// Bytes; one larger row makes a statement of its own.
    pub bytes: usize,
}

impl Shape {
    /// What a table takes. Text in its key needs [`crate::schema::Column::collation`].
    pub fn new(table: &Arc<Table>, flavour: Flavour) -> Shape {
        Shape { table: table.clone(), flavour, forms: forms(&table.columns) }
    }

    /// What its columns take.
    pub fn forms(&self) -> &[Form] {
        &self.forms
    }

    fn name(&self) -> String {
        qualified(&self.table.name)
    }

    fn column(&self, c: usize) -> String {
        quoted(&self.table.columns[c].name)
    }

    /// Appends one value as a literal.
    fn put(&self, out: &mut Vec<u8>, row: &Row, column: usize) -> Result<()> {
        match row.get(column) {
            Datum::Null | Datum::Unsent => out.extend_from_slice(b"NULL"),
            Datum::Text(t) => {
                let mut room = Vec::new();
                match cook(&self.forms[column], self.flavour, t, &mut room) {
                    Ok(cooked) => cooked.put_sql(out),
                    Err(why) => return Err(self.misfit(row, column, why)),
                }
            }
        }
        Ok(())
    }

    /// Appends a row as a line of LOAD DATA's file.
    pub fn put_line(&self, out: &mut Vec<u8>, row: &Row, room: &mut Vec<u8>) -> Result<()> {
        for (c, form) in self.forms.iter().enumerate() {
            if c > 0 {
                out.push(b'\t');
            }
            match row.get(c) {
                Datum::Null | Datum::Unsent => out.extend_from_slice(b"\\N"),
                Datum::Text(t) => match cook(form, self.flavour, t, room) {
                    Ok(cooked) => cooked.put_field(out),
                    Err(why) => return Err(self.misfit(row, c, why)),
                },
            }
        }
        out.push(b'\n');
        Ok(())
    }

    fn misfit(&self, row: &Row, column: usize, why: &str) -> Error {
        let c = &self.table.columns[column];
        Error::fatal(format!(
            "{}: column {} of the row {} {why} (type {}, value not shown)",
            self.table.name,
            c.name,
            self.key_of(row),
            c.type_name
        ))
        .with_code("switchyard:value")
        .hint(
            "change the value at the source, or make the target's column of a type that can hold it; then start again",
        )
    }

    /// A row's key for messages.
    pub fn key_of(&self, row: &Row) -> String {
        let parts: Vec<String> = self
            .table
            .key()
            .iter()
            .map(|&k| {
                let value = match row.get(k) {
                    Datum::Text(t) => String::from_utf8_lossy(t).into_owned(),
                    _ => "NULL".into(),
                };
                format!("{}={value}", self.table.columns[k].name)
            })
            .collect();
        if parts.is_empty() { "(the table has no key)".into() } else { parts.join(",") }
    }

    /// What stands before and after the rows of a derived table `v` with columns `c0`, `c1`, …, and before each row.
    fn listing(&self, columns: usize) -> (String, String, &'static str) {
        let names: Vec<String> = (0..columns).map(|c| format!("c{c}")).collect();
        let names = names.join(",");
        match self.flavour {
            Flavour::Mysql => ("(VALUES ".into(), format!(") AS v ({names})"), "ROW("),
            Flavour::Mariadb => (format!("(WITH v ({names}) AS (VALUES "), ") SELECT * FROM v) AS v".into(), "("),
        }
    }

    /// A derived table's column in the form in which it compares with column `c` by the column's index.
    fn comparable(&self, c: usize, v: &str) -> String {
        let column = &self.table.columns[c];
        match &self.forms[c] {
            Form::Date => format!("CAST({v} AS DATE)"),
            Form::Datetime(n) | Form::Timestamp(n) => format!("CAST({v} AS DATETIME({n}))"),
            Form::Time(n) => format!("CAST({v} AS TIME({n}))"),
            Form::Year => format!("CAST({v} AS UNSIGNED)"),
            Form::Float => format!("CAST({v} AS FLOAT)"),
            Form::Bit(_) => format!("CAST(CONV(HEX({v}), 16, 10) AS UNSIGNED)"),
            form if form.is_text() => match &column.collation {
                Some(collation) => {
                    let charset = collation.split('_').next().unwrap_or("utf8mb4");
                    if charset == "utf8mb4" {
                        format!("{v} COLLATE {collation}")
                    } else {
                        format!("CONVERT({v} USING {charset}) COLLATE {collation}")
                    }
                }
                None => v.to_owned(),
            },
            _ => v.to_owned(),
        }
    }

    /// The key of a row listed in `v`, or (with its alias) of a stored row, as one text; the two are the same for the same
    /// row of a source, to the byte.
    pub fn key_text(&self, stored: Option<&str>) -> String {
        let parts: Vec<String> = self
            .table
            .key()
            .iter()
            .enumerate()
            .map(|(n, &k)| {
                let form = &self.forms[k];
                let value = match (stored, form) {
                    (Some(alias), _) => format!("{alias}.{}", self.column(k)),
                    // Decimals of one listing are given the digits of the longest.
                    (None, Form::Decimal { precision, scale, .. }) => {
                        format!("CAST(v.c{n} AS DECIMAL({precision},{scale}))")
                    }
                    (None, form) if form.is_text() => format!("v.c{n}"),
                    (None, _) => self.comparable(k, &format!("v.c{n}")),
                };
                match form {
                    form if form.is_text() => format!("HEX(CONVERT({value} USING utf8mb4))"),
                    Form::Binary(_) | Form::Blob(_) | Form::Geometry => format!("HEX({value})"),
                    Form::Bit(_) | Form::Year => format!("CAST({value} + 0 AS CHAR)"),
                    _ => format!("CAST({value} AS CHAR)"),
                }
            })
            .collect();
        format!("CONCAT_WS(',', {})", parts.join(", "))
    }

    /// `t.key = v.c0 AND …`, where the key's columns are listed first.
    pub fn key_join(&self) -> String {
        self.same(self.table.key())
    }

    /// Statements of the caller's over listed keys.
    pub fn over_keys(&self, rows: &[&Row], limits: Limits, (before, after): (&str, &str)) -> Result<Vec<Statement>> {
        self.listed(&pairs(rows), (self.table.key(), &[]), limits, (before, after))
    }

    /// `t.a = v.c0 AND …` for these columns of the table, which are the derived table's first.
    fn same(&self, columns: &[usize]) -> String {
        let terms: Vec<String> = columns
            .iter()
            .enumerate()
            .map(|(n, &c)| format!("t.{} = {}", self.column(c), self.comparable(c, &format!("v.c{n}"))))
            .collect();
        terms.join(" AND ")
    }

    /// Statements over rows that are listed in a derived table: of each row, `lead` fields of `keys` and then `rest` of
    /// the row itself.
    fn listed(
        &self,
        rows: &[(&Row, &Row)],
        columns: (&[usize], &[usize]),
        limits: Limits,
        (before, after): (&str, &str),
    ) -> Result<Vec<Statement>> {
        let (open, close, row_open) = self.listing(columns.0.len() + columns.1.len());
        let (open, close) = (format!("{before}{open}"), format!("{close}{after}"));
        self.cut(rows, limits, &open, &close, |out, (key, row)| {
            out.extend_from_slice(row_open.as_bytes());
            let fields = columns.0.iter().map(|&c| (*key, c)).chain(columns.1.iter().map(|&c| (*row, c)));
            for (n, (row, c)) in fields.enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                self.put(out, row, c)?;
            }
            out.push(b')');
            Ok(())
        })
    }

    fn cut<T>(
        &self,
        rows: &[T],
        limits: Limits,
        open: &str,
        close: &str,
        mut put: impl FnMut(&mut Vec<u8>, &T) -> Result<()>,
    ) -> Result<Vec<Statement>> {
        let mut statements = Vec::new();
        let mut sql: Vec<u8> = Vec::new();
        let mut from = 0;
        for (n, row) in rows.iter().enumerate() {
            if sql.is_empty() {
                sql.extend_from_slice(open.as_bytes());
                from = n;
            } else {
                sql.push(b',');
            }
            put(&mut sql, row)?;
            if n + 1 - from >= limits.rows || sql.len() >= limits.bytes {
                sql.extend_from_slice(close.as_bytes());
                statements.push(Statement { sql: std::mem::take(&mut sql), rows: from..n + 1 });
            }
        }
        if !sql.is_empty() {
            sql.extend_from_slice(close.as_bytes());
            statements.push(Statement { sql, rows: from..rows.len() });
        }
        Ok(statements)
    }

    fn insert_head(&self, columns: &[usize]) -> String {
        let names: Vec<&str> = columns.iter().map(|&c| self.table.columns[c].name.as_str()).collect();
        format!("INSERT INTO {} ({}) ", self.name(), list(names))
    }

    /// `INSERT … VALUES`.
    pub fn insert(&self, rows: &[&Row], limits: Limits) -> Result<Vec<Statement>> {
        let all: Vec<usize> = (0..self.forms.len()).collect();
        let open = format!("{}VALUES ", self.insert_head(&all));
        self.cut(rows, limits, &open, "", |out, row| {
            out.push(b'(');
            for c in 0..self.forms.len() {
                if c > 0 {
                    out.push(b',');
                }
                self.put(out, row, c)?;
            }
            out.push(b')');
            Ok(())
        })
    }

    /// Inserts the rows whose key is not there.
    pub fn insert_absent(&self, rows: &[&Row], limits: Limits) -> Result<Vec<Statement>> {
        let key = self.table.key().to_vec();
        let rest = self.beside_key();
        let columns: Vec<usize> = key.iter().chain(&rest).copied().collect();
        let before = format!("{}SELECT v.* FROM ", self.insert_head(&columns));
        let after = format!(
            " LEFT JOIN {} AS t ON {} WHERE t.{} IS NULL",
            self.name(),
            self.same(&key),
            self.column(key.first().copied().unwrap_or(0))
        );
        let together = |rows: &[&Row]| self.listed(&pairs(rows), (&key, &rest), limits, (&before, &after));
        self.apart(rows, &rest, together, |row| {
            let mut sql = format!("{}SELECT ", self.insert_head(&columns)).into_bytes();
            for (n, &c) in columns.iter().enumerate() {
                sql.extend_from_slice(if n > 0 { b"," } else { b"" });
                self.put(&mut sql, row, c)?;
            }
            sql.extend(one(self.listed(&pairs(&[row]), (&key, &[]), UNLIMITED, (" FROM ", &after))?)?);
            Ok(sql)
        })
    }

    fn beside_key(&self) -> Vec<usize> {
        (0..self.forms.len()).filter(|c| !self.table.key().contains(c)).collect()
    }

    /// Sets the columns `sent` of rows that are found by key. `extra` further narrows which.
    pub fn update(&self, sent: &[usize], rows: &[&Row], limits: Limits, extra: &str) -> Result<Vec<Statement>> {
        let key = self.table.key();
        let rest: Vec<usize> = sent.iter().filter(|c| !key.contains(c)).copied().collect();
        let set: Vec<String> =
            rest.iter().enumerate().map(|(n, &c)| format!("t.{} = v.c{}", self.column(c), key.len() + n)).collect();
        // A row whose every column is its key has nothing to set, and still must be there.
        let set = match key.first() {
            Some(&k) if set.is_empty() => format!("t.{0} = t.{0}", self.column(k)),
            _ => set.join(", "),
        };
        let join = format!(" STRAIGHT_JOIN {} AS t ON {}{extra} SET ", self.name(), self.same(key));
        let after = format!("{join}{set}");
        let together = |rows: &[&Row]| self.listed(&pairs(rows), (key, &rest), limits, ("UPDATE ", &after));
        self.apart(rows, &rest, together, |row| {
            let mut sql = one(self.listed(&pairs(&[row]), (key, &[]), UNLIMITED, ("UPDATE ", &join))?)?;
            self.put_set(&mut sql, row, &rest)?;
            Ok(sql)
        })
    }

    /// `t.a = …, t.b = …`.
    fn put_set(&self, sql: &mut Vec<u8>, row: &Row, columns: &[usize]) -> Result<()> {
        for (n, &c) in columns.iter().enumerate() {
            sql.extend_from_slice(format!("{}t.{} = ", if n > 0 { "," } else { "" }, self.column(c)).as_bytes());
            self.put(sql, row, c)?;
        }
        Ok(())
    }

    /// Statements of lists of rows, and of single rows that may not be listed, in the order of `rows`.
    fn apart(
        &self,
        rows: &[&Row],
        columns: &[usize],
        together: impl Fn(&[&Row]) -> Result<Vec<Statement>>,
        alone: impl Fn(&Row) -> Result<Vec<u8>>,
    ) -> Result<Vec<Statement>> {
        let mut out = Vec::new();
        let mut from = 0;
        while from < rows.len() {
            let end = rows[from..].iter().position(|r| self.is_long(r, columns)).map_or(rows.len(), |n| from + n);
            for s in together(&rows[from..end])? {
                out.push(Statement { sql: s.sql, rows: s.rows.start + from..s.rows.end + from });
            }
            if let Some(row) = rows.get(end) {
                out.push(Statement { sql: alone(row)?, rows: end..end + 1 });
            }
            from = end + 1;
        }
        Ok(out)
    }

    /// MariaDB takes the length of a derived table's literal modulo 65 536, counting four bytes a character, and cuts the
    /// value without a word (tried on 10.11). Literals as long as that must stand outside of such tables.
    fn is_long(&self, row: &Row, columns: &[usize]) -> bool {
        let long = |&c: &usize| matches!(row.get(c), Datum::Text(t) if t.len() > LISTED_BYTES);
        self.flavour == Flavour::Mariadb && columns.iter().any(long)
    }

    /// Sets the columns `sent`, the key among them, of one row that is found by its old key.
    pub fn update_key(&self, old: &Row, new: &Row, sent: &[usize]) -> Result<Vec<u8>> {
        let key = self.table.key();
        let set: Vec<String> =
            sent.iter().enumerate().map(|(n, &c)| format!("t.{} = v.c{}", self.column(c), key.len() + n)).collect();
        let join = format!(" STRAIGHT_JOIN {} AS t ON {} SET ", self.name(), self.same(key));
        if self.is_long(new, sent) {
            let mut sql = one(self.listed(&[(old, old)], (key, &[]), UNLIMITED, ("UPDATE ", &join))?)?;
            self.put_set(&mut sql, new, sent)?;
            return Ok(sql);
        }
        let after = format!("{join}{}", set.join(", "));
        one(self.listed(&[(old, new)], (key, sent), UNLIMITED, ("UPDATE ", &after))?)
    }

    /// Deletes rows by key. `extra` further narrows which.
    pub fn delete(&self, rows: &[&Row], limits: Limits, extra: &str) -> Result<Vec<Statement>> {
        let key = self.table.key();
        let after = format!(" STRAIGHT_JOIN {} AS t ON {}{extra}", self.name(), self.same(key));
        self.listed(&pairs(rows), (key, &[]), limits, ("DELETE t FROM ", &after))
    }

    /// Which of the keys the table does not hold; at most `most`, as the derived table's columns.
    pub fn absent(&self, rows: &[&Row], most: usize) -> Result<Vec<u8>> {
        let key = self.table.key();
        let after = format!(
            " LEFT JOIN {} AS t ON {} WHERE t.{} IS NULL LIMIT {most}",
            self.name(),
            self.same(key),
            self.column(key.first().copied().unwrap_or(0))
        );
        one(self.listed(&pairs(rows), (key, &[]), UNLIMITED, ("SELECT v.* FROM ", &after))?)
    }

    /// Rows of the table that are equal to some of `rows` in `columns` (a unique key's): the key of the one that is
    /// there, then the key of the new one.
    pub fn meeting(&self, columns: &[usize], rows: &[&Row], most: usize) -> Result<Vec<u8>> {
        let key = self.table.key();
        let theirs: Vec<String> = key.iter().map(|&k| format!("t.{}", self.column(k))).collect();
        let ours: Vec<String> = (0..key.len()).map(|n| format!("v.c{}", columns.len() + n)).collect();
        // A row that is updated meets itself.
        let others: Vec<String> = key
            .iter()
            .enumerate()
            .map(|(n, &k)| {
                let v = self.comparable(k, &format!("v.c{}", columns.len() + n));
                format!("t.{} = {v}", self.column(k))
            })
            .collect();
        let not_itself = if columns == key { String::new() } else { format!(" WHERE NOT ({})", others.join(" AND ")) };
        let before = format!("SELECT {} FROM ", [theirs, ours].concat().join(", "));
        let after = format!(" STRAIGHT_JOIN {} AS t ON {}{not_itself} LIMIT {most}", self.name(), self.same(columns));
        one(self.listed(&pairs(rows), (columns, key), UNLIMITED, (&before, &after))?)
    }

    /// Rows among `rows` that are equal to each other in `columns`: the key of the one, then the key of the other.
    pub fn twins(&self, columns: &[usize], rows: &[&Row], most: usize) -> Result<Vec<u8>> {
        let key = self.table.key();
        let side = |alias: &str| -> Vec<String> {
            (0..key.len()).map(|n| format!("{alias}.c{}", columns.len() + n)).collect()
        };
        let equal: Vec<String> = columns
            .iter()
            .enumerate()
            .map(|(n, &c)| {
                let of = |alias: &str| self.comparable(c, &format!("{alias}.c{n}"));
                format!("{} = {}", of("v"), of("w"))
            })
            .collect();
        // Listed twice: a derived table cannot be named two times.
        let one_list = one(self.listed(&pairs(rows), (columns, key), UNLIMITED, ("", ""))?)?;
        let mut sql = format!("SELECT {} FROM ", [side("v"), side("w")].concat().join(", ")).into_bytes();
        sql.extend_from_slice(&one_list);
        sql.extend_from_slice(b" STRAIGHT_JOIN ");
        let alias = one_list.windows(5).rposition(|w| w == b" AS v").unwrap_or(0);
        sql.extend_from_slice(&one_list[..alias]);
        sql.extend_from_slice(b" AS w");
        sql.extend_from_slice(&one_list[alias + 5..]);
        let less: Vec<String> = side("v").iter().zip(side("w")).map(|(a, b)| format!("HEX({a}) < HEX({b})")).collect();
        sql.extend_from_slice(
            format!(" ON {} WHERE ({}) LIMIT {most}", equal.join(" AND "), less.join(" OR ")).as_bytes(),
        );
        Ok(sql)
    }

    /// Deletes rows that are equal to the listed ones in a unique key besides the one that finds rows.
    pub fn delete_by(&self, columns: &[usize], rows: &[&Row], limits: Limits) -> Result<Vec<Statement>> {
        let after = format!(" STRAIGHT_JOIN {} AS t ON {}", self.name(), self.same(columns));
        self.listed(&pairs(rows), (columns, &[]), limits, ("DELETE t FROM ", &after))
    }

    /// Which of the rows have no key in the table: their places, from 0.
    pub fn absent_places(&self, rows: &[&Row]) -> Result<Vec<u8>> {
        let key = self.table.key();
        let (open, close, row_open) = self.listing(key.len() + 1);
        let mut sql = format!("SELECT v.c{} FROM {open}", key.len()).into_bytes();
        for (n, row) in rows.iter().enumerate() {
            if n > 0 {
                sql.push(b',');
            }
            sql.extend_from_slice(row_open.as_bytes());
            for &k in key {
                self.put(&mut sql, row, k)?;
                sql.push(b',');
            }
            sql.extend_from_slice(format!("{n})").as_bytes());
        }
        let first = self.column(key.first().copied().unwrap_or(0));
        let after = format!("{close} LEFT JOIN {} AS t ON {} WHERE t.{first} IS NULL", self.name(), self.same(key));
        sql.extend_from_slice(after.as_bytes());
        Ok(sql)
    }

    /// Conditions that one whole row meets, to the byte.
    fn whole_row(&self, row: &Row) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let exact = match self.flavour {
            Flavour::Mysql => "utf8mb4_0900_bin",
            Flavour::Mariadb => "utf8mb4_nopad_bin",
        };
        for (c, form) in self.forms.iter().enumerate() {
            if c > 0 {
                out.extend_from_slice(b" AND ");
            }
            let name = self.column(c);
            if !matches!(row.get(c), Datum::Text(_)) {
                out.extend_from_slice(format!("{name} IS NULL").as_bytes());
                continue;
            }
            let (left, before, after) = match form {
                Form::Geometry => (format!("HEX({name})"), "HEX(", ")"),
                Form::Bit(_) => (format!("HEX({name} + 0)"), "HEX(0 + ", ")"),
                Form::Float => (name, "CAST(", " AS FLOAT)"),
                Form::Json if self.flavour == Flavour::Mysql => (name, "CAST(", " AS JSON)"),
                Form::Year => (name, "CAST(", " AS UNSIGNED)"),
                f if f.is_text() || *f == Form::Json => {
                    (format!("CONVERT({name} USING utf8mb4) COLLATE {exact}"), "", "")
                }
                _ => (name, "", ""),
            };
            out.extend_from_slice(format!("{left} <=> {before}").as_bytes());
            self.put(&mut out, row, c)?;
            out.extend_from_slice(after.as_bytes());
        }
        if self.forms.is_empty() {
            out.extend_from_slice(b"TRUE");
        }
        out.extend_from_slice(b" LIMIT 1");
        Ok(out)
    }

    /// Deletes one row that is found by all its columns.
    pub fn delete_whole_row(&self, row: &Row) -> Result<Vec<u8>> {
        let mut sql = format!("DELETE FROM {} WHERE ", self.name()).into_bytes();
        sql.extend(self.whole_row(row)?);
        Ok(sql)
    }

    /// Updates one row that is found by all its old columns.
    pub fn update_whole_row(&self, old: &Row, new: &Row, sent: &[usize]) -> Result<Vec<u8>> {
        let mut sql = format!("UPDATE {} SET ", self.name()).into_bytes();
        for (n, &c) in sent.iter().enumerate() {
            if n > 0 {
                sql.push(b',');
            }
            sql.extend_from_slice(format!("{} = ", self.column(c)).as_bytes());
            self.put(&mut sql, new, c)?;
        }
        sql.extend_from_slice(b" WHERE ");
        sql.extend(self.whole_row(old)?);
        Ok(sql)
    }

    /// `LOAD DATA LOCAL` into `into`. The file's character set is `binary`, so that every byte arrives as it is. JSON refuses
    /// text of that set, and columns of other character sets would take the bytes for their own: those are told that it is
    /// UTF-8.
    pub fn load(&self, into: &str) -> String {
        let mut columns = Vec::new();
        let mut set = Vec::new();
        for (c, form) in self.forms.iter().enumerate() {
            let utf8 = || {
                let collation = self.table.columns.get(c).and_then(|c| c.collation.as_deref());
                collation.is_some_and(|c| c.starts_with("utf8mb4"))
            };
            if *form == Form::Json || (form.is_text() && !utf8()) {
                columns.push(format!("@j{c}"));
                set.push(format!("{} = CONVERT(@j{c} USING utf8mb4)", self.column(c)));
            } else {
                columns.push(self.column(c));
            }
        }
        let set = if set.is_empty() { String::new() } else { format!(" SET {}", set.join(", ")) };
        format!(
            "LOAD DATA LOCAL INFILE 'switchyard' INTO TABLE {into} CHARACTER SET binary \
             FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' ({}){set}",
            columns.join(", ")
        )
    }
}

/// Bytes of the longest literal that MariaDB keeps whole in a derived table, whatever its characters.
const LISTED_BYTES: usize = 16_000;
const UNLIMITED: Limits = Limits { rows: usize::MAX, bytes: usize::MAX };

fn one(statements: Vec<Statement>) -> Result<Vec<u8>> {
    statements.into_iter().next().map(|s| s.sql).ok_or_else(|| Error::fatal("a statement was asked for no row"))
}

/// Rows that are found by their own key.
fn pairs<'a>(rows: &[&'a Row]) -> Vec<(&'a Row, &'a Row)> {
    rows.iter().map(|r| (*r, *r)).collect()
}

/// Orders rows by key, so that a set walks the clustered index in one direction. Only a matter of speed: any order is right.
pub fn sort_by_key(shape: &Shape, rows: &mut [&Row]) {
    let Some(&first) = shape.table.key().first() else { return };
    match shape.forms.get(first) {
        Some(Form::Int { .. }) => rows.sort_by_cached_key(|r| match r.get(first) {
            Datum::Text(t) => std::str::from_utf8(t).ok().and_then(|t| t.parse::<i128>().ok()).unwrap_or(0),
            _ => 0,
        }),
        _ => rows.sort_by(|a, b| match (a.get(first), b.get(first)) {
            (Datum::Text(a), Datum::Text(b)) => a.cmp(b),
            _ => std::cmp::Ordering::Equal,
        }),
    }
}

#[cfg(test)]
#[path = "statements_tests.rs"]
mod tests;
