//! Applies changes one by one, in the source's order, where sets cannot express them or have collided.

use std::sync::Arc;

use tokio_postgres::types::Type;

use super::apply::{PgApplier, apply_error, params, refs, scalars};
use super::statements as st;
use crate::change::{Change, Op};
use crate::error::{Error, Result};
use crate::schema::{RowIdentity, Table};
use crate::value::{Datum, Row};

impl PgApplier {
    /// Applies one change by itself, in the source's order.
    pub(super) async fn single(
        &mut self,
        table: &Arc<Table>,
        change: &Change,
        convergent: bool,
        missing: &mut Vec<(Arc<Table>, Row)>,
    ) -> Result<()> {
        let keyed = matches!(table.identity, RowIdentity::Key(_));
        let equality = self.equality(table).await?;
        match (change.op, &change.old, &change.new) {
            (Op::Insert, _, Some(row)) => {
                let s = st::insert(table, convergent && keyed);
                let p = params(&s, table, &[row])?;
                self.one(&s.sql, &s.types, p, table, "inserting", None).await
            }
            (Op::Delete, Some(old), _) if keyed => {
                let s = st::delete(table, &equality);
                let p = params(&s, table, &[old])?;
                self.one(&s.sql, &s.types, p, table, "deleting", (!convergent).then_some(1)).await
            }
            (Op::Delete, Some(old), _) => {
                let (sql, types) = st::delete_whole_row(table);
                let p = scalars(table, old, 0..table.columns.len())?;
                self.one(&sql, &types, p, table, "deleting", (!convergent).then_some(1)).await
            }
            (Op::Update, old, Some(new)) => {
                let sent: Vec<usize> = (0..new.len()).filter(|&i| new.get(i) != Datum::Unsent).collect();
                if sent.is_empty() {
                    // Every column is a large value that stayed as it was.
                    return Ok(());
                }
                if !keyed {
                    let Some(old) = old else {
                        return Err(Error::fatal(format!(
                            "{}: the log holds an update without its old row",
                            table.name
                        )));
                    };
                    let (sql, types) = st::update_whole_row(table, &sent);
                    let mut p = scalars(table, old, 0..table.columns.len())?;
                    p.extend(scalars(table, new, sent.iter().copied())?);
                    return self.one(&sql, &types, p, table, "updating", (!convergent).then_some(1)).await;
                }
                let key_row = old.as_ref().unwrap_or(new);
                let moved = table.key().iter().any(|&k| key_row.get(k) != new.get(k));
                if convergent && moved {
                    // Both keys may be there already, and the one under the old key may be a row that came after this
                    // one: its large values are not this row's.
                    let s = st::delete(table, &equality);
                    let p = params(&s, table, &[key_row])?;
                    self.one(&s.sql, &s.types, p, table, "deleting", None).await?;
                    if new.has_unsent() {
                        missing.push((table.clone(), new.clone()));
                        return Ok(());
                    }
                    let s = st::insert(table, true);
                    let p = params(&s, table, &[new])?;
                    return self.one(&s.sql, &s.types, p, table, "inserting", None).await;
                }
                let (sql, types) = st::update_key(table, &sent, &equality);
                let mut p = scalars(table, key_row, table.key().iter().copied())?;
                p.extend(scalars(table, new, sent.iter().copied())?);
                let n = self.one_counted(&sql, &types, p, table, "updating").await?;
                if n == 1 {
                    return Ok(());
                }
                if !convergent {
                    let s = st::delete(table, &equality);
                    let p = params(&s, table, &[key_row])?;
                    return Err(self.diverged(table, "update", 1, n, p).await);
                }
                if new.has_unsent() {
                    missing.push((table.clone(), new.clone()));
                    return Ok(());
                }
                let s = st::insert(table, true);
                let p = params(&s, table, &[new])?;
                self.one(&s.sql, &s.types, p, table, "inserting", None).await
            }
            _ => Err(Error::fatal(format!("{}: the log holds a change without its row", table.name))),
        }
    }

    async fn one_counted(
        &mut self,
        sql: &str,
        types: &[Type],
        p: Vec<st::Param>,
        table: &Table,
        doing: &str,
    ) -> Result<u64> {
        let statement = self.prepare(sql, types).await?;
        self.client.execute_raw(&statement, refs(&p)).await.map_err(|e| apply_error(table, doing, &e))
    }

    async fn one(
        &mut self,
        sql: &str,
        types: &[Type],
        p: Vec<st::Param>,
        table: &Table,
        doing: &str,
        expect: Option<u64>,
    ) -> Result<()> {
        let n = self.one_counted(sql, types, p, table, doing).await?;
        match expect {
            Some(want) if n != want => Err(Error::fatal(format!("{}: {doing} a row found {n} rows", table.name))
                .with_code("switchyard:diverged")
                .hint("somebody else wrote to the target, or it is not the one that was copied: compare the table, mend it and start again, or copy anew")),
            _ => Ok(()),
        }
    }
}
