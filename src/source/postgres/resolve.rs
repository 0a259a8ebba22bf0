//! Finds the table that the log speaks of. The log's own description says which columns there are; the catalog, which
//! may be further on than the log, only adds what the description leaves out.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_postgres::Client;

use super::catalog::{self, TableIds, Wanted};
use super::ddl;
use super::pgoutput::{Relation, RelationColumn};
use super::replication::RelationResolver;
use crate::change::Ddl;
use crate::error::Result;
use crate::pgwire::conninfo::ConnInfo;
use crate::pgwire::control;
use crate::pgwire::errors::wrap;
use crate::pgwire::types;
use crate::schema::{Column, RowIdentity, Table, TableName};

/// Looks tables up in the source's catalog, over a session of its own that is made when first needed.
pub struct CatalogResolver {
    info: ConnInfo,
    ids: Arc<TableIds>,
    client: Option<Client>,
}

impl CatalogResolver {
    /// A resolver that numbers tables by `ids`.
    pub fn new(info: ConnInfo, ids: Arc<TableIds>) -> Self {
        CatalogResolver { info, ids, client: None }
    }

    async fn client(&mut self) -> Result<&Client> {
        let client = match self.client.take().filter(|c| !c.is_closed()) {
            Some(c) => c,
            None => control::connect(&self.info, "source").await?,
        };
        Ok(self.client.insert(client))
    }

    async fn table(&mut self, relation: &Relation) -> Result<Arc<Table>> {
        let ids = self.ids.clone();
        let client = self.client().await?;
        let name = TableName::new(&relation.schema, &relation.name);
        let now = catalog::table(client, Wanted::Oid(relation.oid), &ids).await?;
        let mut names = HashMap::new();
        let unknown: Vec<&RelationColumn> = relation
            .columns
            .iter()
            .filter(|c| now.as_ref().is_none_or(|n| n.table.column(&c.name).is_none()))
            .collect();
        if !unknown.is_empty() {
            let oids: Vec<u32> = unknown.iter().map(|c| c.type_oid).collect();
            let modifiers: Vec<i32> = unknown.iter().map(|c| c.type_modifier).collect();
            let rows = client
                .query(
                    "SELECT pg_catalog.format_type(o, m) FROM unnest($1::oid[], $2::int[]) AS u(o, m)",
                    &[&oids, &modifiers],
                )
                .await
                .map_err(|e| wrap("looking up types at the source", &e))?;
            for (c, r) in unknown.iter().zip(rows) {
                names.insert(c.name.clone(), r.get::<_, String>(0));
            }
        }
        Ok(Arc::new(compose(relation, now.map(|n| n.table), &names, ids.id(&name))))
    }
}

/// The table as the log describes it, with what the catalog knows of columns that still have these names.
fn compose(
    relation: &Relation,
    now: Option<Arc<Table>>,
    type_names: &HashMap<String, String>,
    id: crate::schema::TableId,
) -> Table {
    let columns: Vec<Column> = relation
        .columns
        .iter()
        .enumerate()
        .map(|(i, c)| match now.as_ref().and_then(|t| t.column(&c.name).map(|n| t.columns[n].clone())) {
            Some(known) => known,
            None => Column {
                name: c.name.clone(),
                // Dropped or renamed since: it has no number any more that would mean the same column.
                number: -(i as i32) - 1,
                type_name: type_names.get(&c.name).cloned().unwrap_or_else(|| "text".into()),
                kind: types::kind(c.type_oid, &types::UserTypes::default()),
                nullable: true,
                identity: None,
                default: None,
                collation: None,
                portable_binary: false,
            },
        })
        .collect();
    let flagged: Vec<usize> = relation.columns.iter().enumerate().filter(|(_, c)| c.key).map(|(i, _)| i).collect();
    let full = relation.replica_identity == b'f';
    let identity = match relation.replica_identity {
        b'f' => {
            // The whole old row is logged; which columns are unique, only the catalog knows.
            let key = now.as_ref().map(|t| {
                let names: Vec<_> = t.key().iter().map(|&k| t.columns[k].name.clone()).collect();
                names.iter().filter_map(|n| columns.iter().position(|c| c.name == *n)).collect::<Vec<_>>()
            });
            match (key, now.as_ref()) {
                (Some(k), Some(t)) if !k.is_empty() && k.len() == t.key().len() => RowIdentity::Key(k),
                _ => RowIdentity::AllColumns,
            }
        }
        b'd' | b'i' if !flagged.is_empty() => RowIdentity::Key(flagged),
        _ => RowIdentity::None,
    };
    Table {
        id,
        name: TableName::new(&relation.schema, &relation.name),
        columns,
        generated: now.as_ref().map(|t| t.generated.clone()).unwrap_or_default(),
        identity,
        full_old_rows: full,
        has_secondary_unique: now.as_ref().is_none_or(|t| t.has_secondary_unique),
        partitioned: now.as_ref().is_some_and(|t| t.partitioned),
        estimated_rows: now.as_ref().map_or(0, |t| t.estimated_rows),
        bytes: now.as_ref().map_or(0, |t| t.bytes),
    }
}

impl RelationResolver for CatalogResolver {
    fn resolve<'a>(&'a mut self, relation: &'a Relation) -> BoxFuture<'a, Result<Arc<Table>>> {
        self.table(relation).boxed()
    }
    fn ddl<'a>(&'a mut self, json: &'a [u8]) -> BoxFuture<'a, Result<Option<Ddl>>> {
        let ids = self.ids.clone();
        async move { ddl::parse(json, &ids).map(Some) }.boxed()
    }
}
