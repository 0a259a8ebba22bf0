//! Tables as the target's catalog describes them.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::forms::{data, form};
use super::session::{Session, TextRow};
use crate::definition::DataType;
use crate::error::Result;
use crate::mywire::misprint::{self, Asking};
use crate::mywire::quote::{literal, printed, read_labels};
use crate::mywire::server::Flavour;
use crate::schema::{Column, Identity, Kind, RowIdentity, Table, TableId, TableName};

/// A table with what only this engine has.
#[derive(Clone, Debug)]
pub struct Described {
    /// As everybody sees it.
    pub table: Table,
    /// Its storage engine, `InnoDB`.
    pub engine: String,
    /// Unique keys besides the one that finds rows: name, and places of the columns; prefixes and expressions left out.
    pub uniques: Vec<(String, Vec<usize>)>,
}

#[async_trait]
impl Asking for Session {
    async fn ask(&mut self, sql: &str) -> Result<Vec<TextRow>> {
        self.rows("reading definitions on the target", sql).await
    }
}

pub(super) fn names_in(names: &[TableName]) -> String {
    let list: Vec<String> = names.iter().map(|t| format!("({}, {})", literal(&t.schema), literal(&t.name))).collect();
    list.join(", ")
}

pub(super) fn text(row: &TextRow, n: usize) -> &str {
    row.get(n).and_then(Option::as_deref).unwrap_or("")
}

/// The tables of these names as the target has them, in the same order; a missing one is `None`. Each table's id is its
/// place in `names`. What finds a row is the primary key, else the smallest unique key of columns that are never NULL.
pub async fn described(session: &mut Session, names: &[TableName]) -> Result<Vec<Option<Described>>> {
    let doing = "reading the target's tables";
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let list = names_in(names);
    let tables = session
        .rows(
            doing,
            format!(
                "SELECT table_schema, table_name, engine, table_rows, data_length, create_options \
                 FROM information_schema.tables WHERE (table_schema, table_name) IN ({list}) AND table_type = 'BASE TABLE'"
            ),
        )
        .await?;
    let mut columns = session
        .rows(
            doing,
            format!(
                "SELECT table_schema, table_name, column_name, ordinal_position, column_type, is_nullable, column_default, \
                 extra, collation_name, generation_expression FROM information_schema.columns \
                 WHERE (table_schema, table_name) IN ({list}) ORDER BY table_schema, table_name, ordinal_position"
            ),
        )
        .await?;
    let keys = session
        .rows(
            doing,
            format!(
                "SELECT table_schema, table_name, index_name, seq_in_index, column_name, sub_part, nullable \
                 FROM information_schema.statistics WHERE (table_schema, table_name) IN ({list}) AND non_unique = 0 \
                 ORDER BY table_schema, table_name, index_name, seq_in_index"
            ),
        )
        .await?;
    for c in columns.iter_mut().filter(|c| text(c, 9).is_empty() && misprint::may_be(text(c, 4))) {
        let (table, said) = (TableName::new(text(c, 0), text(c, 1)), read_labels(text(c, 4)));
        let Some(word) = ["enum(", "set("].into_iter().find(|w| text(c, 4).starts_with(w)) else { continue };
        let count = (said.len(), word == "set(");
        let exact = misprint::labels(session, &table, text(c, 2), count, "switchyard").await?;
        if let (Some(exact), Some(cell)) = (exact, c.get_mut(4)) {
            let list: Vec<String> = exact.iter().map(|l| printed(l)).collect();
            *cell = Some(format!("{word}{})", list.join(",")));
        }
    }
    let json = json_columns(session, &list).await?;
    let mut found: HashMap<TableName, Described> = HashMap::new();
    for t in &tables {
        let name = TableName::new(text(t, 0), text(t, 1));
        let table = Table {
            id: TableId(0),
            name: name.clone(),
            columns: Vec::new(),
            generated: Vec::new(),
            identity: RowIdentity::AllColumns,
            full_old_rows: false,
            full_old_rows_by: String::new(),
            has_secondary_unique: false,
            partitioned: text(t, 5).contains("partitioned"),
            estimated_rows: text(t, 3).parse().unwrap_or(0),
            bytes: text(t, 4).parse().unwrap_or(0),
        };
        found.insert(name, Described { table, engine: text(t, 2).to_owned(), uniques: Vec::new() });
    }
    for c in &columns {
        let name = TableName::new(text(c, 0), text(c, 1));
        let Some(d) = found.get_mut(&name) else { continue };
        let is_json =
            json.iter().any(|j| text(j, 0) == name.schema && text(j, 1) == name.name && text(j, 2) == text(c, 2));
        let (column, generated) = column(c, is_json);
        if generated { d.table.generated.push(column) } else { d.table.columns.push(column) }
    }
    let mut at = 0;
    while at < keys.len() {
        let same = |k: &TextRow| (0..3).all(|n| text(k, n) == text(&keys[at], n));
        let end = keys[at..].iter().position(|k| !same(k)).map_or(keys.len(), |n| at + n);
        if let Some(d) = found.get_mut(&TableName::new(text(&keys[at], 0), text(&keys[at], 1))) {
            d.add_key(text(&keys[at], 2), &keys[at..end]);
        }
        at = end;
    }
    Ok(names
        .iter()
        .enumerate()
        .map(|(i, n)| {
            // A server that keeps names in lower case prints them so.
            let d = found.get(n).or_else(|| found.iter().find(|(k, _)| same_name(k, n)).map(|(_, d)| d))?;
            let mut d = d.clone();
            d.table.id = TableId(i as u32);
            d.table.name = n.clone();
            Some(d)
        })
        .collect())
}

pub(super) fn same_name(a: &TableName, b: &TableName) -> bool {
    a.schema.to_lowercase() == b.schema.to_lowercase() && a.name.to_lowercase() == b.name.to_lowercase()
}

/// [`described`], as everybody sees them.
pub async fn tables(session: &mut Session, names: &[TableName]) -> Result<Vec<Option<Arc<Table>>>> {
    Ok(described(session, names).await?.into_iter().map(|d| d.map(|d| Arc::new(d.table))).collect())
}

impl Described {
    /// Takes a unique key into account.
    fn add_key(&mut self, name: &str, parts: &[TextRow]) {
        let place = |p: &TextRow| self.table.columns.iter().position(|c| c.name == text(p, 4));
        let whole: Option<Vec<usize>> =
            parts.iter().map(|p| if text(p, 5).is_empty() { place(p) } else { None }).collect();
        let primary = name == "PRIMARY";
        let usable = whole.as_ref().filter(|w| !w.is_empty() && w.iter().all(|&c| !self.table.columns[c].nullable));
        let better = match (&self.table.identity, usable) {
            (_, None) => false,
            (_, Some(_)) if primary => true,
            (RowIdentity::Key(_), Some(_)) if self.uniques.iter().any(|u| u.0 == "PRIMARY") => false,
            (RowIdentity::Key(k), Some(u)) => u.len() < k.len(),
            _ => true,
        };
        if better {
            self.table.identity = RowIdentity::Key(whole.clone().unwrap_or_default());
        }
        self.uniques.push((name.to_owned(), whole.unwrap_or_default()));
        self.table.has_secondary_unique = self.uniques.len() > 1;
    }
}

/// Columns whose text MariaDB checks to be JSON, which is all that its type `json` means.
async fn json_columns(session: &mut Session, list: &str) -> Result<Vec<TextRow>> {
    if session.flavour() != Flavour::Mariadb {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT constraint_schema, table_name, constraint_name FROM information_schema.check_constraints \
         WHERE (constraint_schema, table_name) IN ({list}) AND level = 'Column' AND check_clause LIKE 'json\\_valid(%'"
    );
    session.rows("reading the target's checks", sql).await
}

fn column(row: &TextRow, is_json: bool) -> (Column, bool) {
    let (type_name, extra) = (text(row, 4).to_owned(), text(row, 7).to_lowercase());
    let form = form(&type_name);
    // MariaDB prints the default of a column that may be NULL as the word; a generated one's expression has a column of its own.
    let generated = !text(row, 9).is_empty();
    let default = row.get(6).cloned().flatten().filter(|d| d != "NULL");
    let column = Column {
        name: text(row, 2).to_owned(),
        number: text(row, 3).parse().unwrap_or(0),
        kind: if is_json { Kind::Json } else { form.kind() },
        data: if is_json { DataType::Json { verbatim: true } } else { data(&form) },
        nullable: text(row, 5) == "YES",
        identity: extra.contains("auto_increment").then_some(Identity::ByDefault),
        default: if generated { Some(text(row, 9).to_owned()) } else { default },
        collation: row.get(8).cloned().flatten(),
        portable_binary: false,
        type_name,
    };
    (column, generated)
}
