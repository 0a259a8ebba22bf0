//! Notes about tables: which the migration makes for its rules.

use super::bookkeeping::{fenced_transaction, layout};
use super::session::{Session, TextRow};
use crate::error::Result;
use crate::mywire::quote::literal;
use crate::schema::TableName;

/// The layout of the bookkeeping that has a place for them first.
const LAYOUT: usize = 2;

/// Notes that the migration makes these tables.
///
/// # Errors
/// [`crate::error::Class::Fenced`] if the epoch was raised meanwhile.
pub async fn note_made(session: &mut Session, name: &str, epoch: i64, tables: &[TableName]) -> Result<()> {
    if tables.is_empty() {
        return Ok(());
    }
    let row = |t: &TableName| format!("({}, {}, {})", literal(name), literal(&t.schema), literal(&t.name));
    let rows: Vec<String> = tables.iter().map(row).collect();
    let sql = format!("INSERT IGNORE INTO switchyard.made (name, table_schema, table_name) VALUES {}", rows.join(", "));
    fenced_transaction(session, "noting which tables the rules make", name, epoch, &sql).await.map(drop)
}

/// The tables that the migration makes for its rules; none before there is any bookkeeping.
pub async fn noted_made(session: &mut Session, name: &str) -> Result<Vec<TableName>> {
    if layout(session).await? < LAYOUT {
        return Ok(Vec::new());
    }
    let sql =
        format!("SELECT table_schema, table_name FROM switchyard.made WHERE name = {} ORDER BY 1, 2", literal(name));
    let rows = session.rows("reading which tables the rules made", sql).await?;
    let named = |r: TextRow| {
        let mut r = r.into_iter().flatten();
        Some(TableName::new(r.next()?, r.next()?))
    };
    Ok(rows.into_iter().filter_map(named).collect())
}
