//! Reads a table's rows as they are now, in one streaming statement: whole, in ranges of a number, or by keys.

use async_trait::async_trait;
use bytes::Bytes;

use super::conn::MyConn;
use super::conninfo::MyConnInfo;
use super::lookup::{self, Found};
use super::quote::{qualified, quoted};
use super::reading::Reading;
use super::session::Preset;
use super::types::ColumnType;
use crate::error::{Error, Result, ResultExt};
use crate::exchange::{Reference, ScanBlock, Scanner, Span};
use crate::schema::{Column, Table};
use crate::value::Row;

/// `ER_CANT_AGGREGATE_2COLLATIONS`: two columns are compared whose collations differ.
const TWO_COLLATIONS: &str = "1267";

/// A session that scans. It cannot write, whatever it is asked.
pub struct MyScanner {
    conn: MyConn,
    side: &'static str,
    null_dates: bool,
    reading: Option<Reading>,
}

impl MyScanner {
    /// Connects. `side` is `source` or `target`, `program` what the server's list of connections shows; with `null_dates`, NULL
    /// stands for dates that are none.
    ///
    /// # Errors
    /// As [`MyConn::connect`].
    pub async fn connect(info: &MyConnInfo, side: &'static str, program: &str, null_dates: bool) -> Result<MyScanner> {
        // Every date that a table may hold can be compared with under a source's settings.
        let mut conn = MyConn::connect(info, side, program, Preset::Source).await?;
        // A view of the rows lives no longer than its statement: old versions of rows can be cleaned away between them.
        let settings = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY";
        conn.execute(settings).await.with_context(|| format!("preparing a session on the {side}"))?;
        Ok(MyScanner { conn, side, null_dates, reading: None })
    }

    async fn start(&mut self, table: &Table, condition: &str) -> Result<()> {
        let doing = || format!("reading {} on the {}", table.name, self.side);
        let mut columns = Vec::with_capacity(table.columns.len());
        for c in &table.columns {
            columns.push((c.name.clone(), type_of(c).with_context(doing)?));
        }
        let (name, key, null_dates) = (table.name.clone(), table.key().to_vec(), self.null_dates);
        let reading = Reading { side: self.side, name, columns, key, null_dates };
        let sql = format!("SELECT {} FROM {} t{condition}", reading.select_list("t."), qualified(&table.name));
        self.conn.query_start(&sql).await.with_context(doing)?;
        self.reading = Some(reading);
        Ok(())
    }
}

/// What a column holds. Values come in utf8mb4 whatever the column's own character set is, and the way in which it is stored
/// does not matter to who reads it.
fn type_of(column: &Column) -> Result<ColumnType> {
    let written = column.type_name.split(" /*").next().unwrap_or(&column.type_name);
    let charset = if column.collation.as_deref() == Some("binary") { "binary" } else { "utf8mb4" };
    ColumnType::parse(written, Some(charset)).with_context(|| format!("column {}", column.name))
}

/// A field as text; bytes that are none as `\x` and hexadecimal digits.
fn shown(field: Bytes) -> String {
    match String::from_utf8(field.into()) {
        Ok(text) => text,
        Err(e) => {
            let digits: String = e.as_bytes().iter().map(|b| format!("{b:02x}")).collect();
            format!("\\x{digits}")
        }
    }
}

#[async_trait]
impl Scanner for MyScanner {
    fn raw_forms(&self, _: &Table) -> Vec<&'static str> {
        Vec::new()
    }

    async fn extent(&mut self, table: &Table, column: usize) -> Result<Option<(i128, i128)>> {
        let Some(c) = table.columns.get(column) else { return Ok(None) };
        let sql = format!("SELECT MIN({0}), MAX({0}) FROM {1}", quoted(&c.name), qualified(&table.name));
        let rows = self.conn.query(&sql).await.with_context(|| format!("reading {}", table.name))?;
        let number =
            |at: usize| -> Option<i128> { std::str::from_utf8(rows.first()?.get(at)?.as_ref()?).ok()?.parse().ok() };
        Ok(number(0).zip(number(1)))
    }

    async fn open(&mut self, table: &Table, span: Option<&Span>, raw: Option<(&'static str, &[usize])>) -> Result<()> {
        if let Some((form, _)) = raw {
            return Err(Error::fatal(format!("rows in a form that this engine does not know, {form}"))
                .hint("this is a bug in Switchyard"));
        }
        let mut conditions = Vec::new();
        if let Some((span, c)) = span.and_then(|s| Some((s, table.columns.get(s.column)?))) {
            if let Some(from) = span.from {
                conditions.push(format!("t.{} >= {from}", quoted(&c.name)));
            }
            if let Some(to) = span.to {
                conditions.push(format!("t.{} < {to}", quoted(&c.name)));
            }
        }
        let condition =
            if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        self.start(table, &condition).await
    }

    async fn next(&mut self) -> Result<Option<ScanBlock>> {
        let Some(reading) = &self.reading else { return Ok(None) };
        match self.conn.next_block().await.with_context(|| format!("reading {} on the {}", reading.name, self.side))? {
            Some(block) => Ok(Some(ScanBlock::Rows(reading.rows(&block)?))),
            None => {
                self.reading = None;
                Ok(None)
            }
        }
    }

    async fn orphans(&mut self, reference: &Reference, limit: usize) -> Result<(u64, Vec<Row>)> {
        let r = reference;
        let doing = || format!("looking for rows of {} that {} leaves without a row of {}", r.table, r.name, r.to);
        let given: Vec<String> = r.columns.iter().map(|c| format!("t.{} IS NOT NULL", quoted(c))).collect();
        let lost = |bytes: bool| {
            let pairs = r.columns.iter().zip(&r.referenced).map(|(c, p)| match bytes {
                false => format!("p.{} = t.{}", quoted(p), quoted(c)),
                true => format!("p.{} = CONVERT(t.{} USING utf8mb4) COLLATE utf8mb4_bin", quoted(p), quoted(c)),
            });
            format!(
                "FROM {} t WHERE {} AND NOT EXISTS (SELECT 1 FROM {} p WHERE {})",
                qualified(&r.table),
                given.join(" AND "),
                qualified(&r.to),
                pairs.collect::<Vec<_>>().join(" AND ")
            )
        };
        let mut from = lost(false);
        let counted = match self.conn.query(format!("SELECT COUNT(*) {from}")).await {
            Err(e) if e.code() == Some(TWO_COLLATIONS) => {
                from = lost(true);
                self.conn.query(format!("SELECT COUNT(*) {from}")).await
            }
            other => other,
        };
        let counted = counted.with_context(doing)?.into_iter().next().and_then(|r| r.into_iter().next().flatten());
        let count = counted.and_then(|c| std::str::from_utf8(&c).ok()?.parse().ok()).unwrap_or(0);
        if count == 0 {
            return Ok((0, Vec::new()));
        }
        let key = r.key.iter().map(|c| format!("t.{}", quoted(c))).collect::<Vec<_>>().join(", ");
        let sql = format!("SELECT {key} {from} ORDER BY {key} LIMIT {limit}");
        let rows = self.conn.query(&sql).await.with_context(doing)?;
        let row = |fields: Vec<Option<Bytes>>| {
            let texts: Vec<Option<String>> = fields.into_iter().map(|f| f.map(shown)).collect();
            Row::from_texts(texts.iter().map(Option::as_deref))
        };
        Ok((count, rows.into_iter().map(row).collect()))
    }

    async fn ask(&mut self, question: &str) -> Result<Option<String>> {
        // Whatever it says, it changes nothing: the session is READ ONLY, outside of this transaction, too.
        self.conn.execute("START TRANSACTION READ ONLY").await?;
        let answer = self.conn.query(question).await;
        self.conn.execute("ROLLBACK").await?;
        Ok(answer?.into_iter().next().and_then(|row| row.into_iter().next()).flatten().map(shown))
    }

    async fn find(&mut self, table: &Table, columns: &[usize], keys: &[Row]) -> Result<Vec<Row>> {
        if keys.is_empty() || columns.is_empty() {
            return Ok(Vec::new());
        }
        let mut types = Vec::with_capacity(columns.len());
        for &place in columns {
            if let Some(c) = table.columns.get(place) {
                types.push((place, c.name.as_str(), type_of(c).with_context(|| format!("reading {}", table.name))?));
            }
        }
        let typed: Vec<_> = types.iter().map(|(place, name, kind)| (*place, *name, kind)).collect();
        let condition = match lookup::condition(&typed, keys) {
            Found::None => return Ok(Vec::new()),
            Found::Where(sql) => format!(" WHERE {sql}"),
            Found::All => String::new(),
        };
        self.start(table, &condition).await?;
        let mut found = Vec::new();
        while let Some(block) = self.next().await? {
            if let ScanBlock::Rows(rows) = block {
                found.extend(rows);
            }
        }
        Ok(found)
    }
}
