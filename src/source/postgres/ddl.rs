//! Schema changes: the event trigger at the source that writes them into the log, reading what it wrote, and the
//! resolver that knows what each table looks like at the log's place.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use tokio_postgres::Client;

use super::catalog::{self, Described, TableIds, Told, get};
use super::pgoutput::Relation;
use super::replication::RelationResolver;
use super::resolve;
use crate::change::{Ddl, DdlEffect};
use crate::error::{Error, Result};
use crate::pgwire::conninfo::ConnInfo;
use crate::pgwire::control;
use crate::pgwire::errors::wrap;
use crate::schema::{Table, TableName};
use crate::transform::select::Selection;

const INSTALL: &str = include_str!("ddl.sql");

/// Installs the trigger, or brings it up to date, if the role is a superuser. Whether schema changes are followed now.
pub async fn install(client: &Client) -> Result<bool> {
    let doing = "installing the DDL trigger at the source";
    let may = "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user";
    let row = client.query_one(may, &[]).await.map_err(|e| wrap(doing, &e))?;
    if !get::<bool>(&row, 0)? {
        return Ok(false);
    }
    let sql = format!("BEGIN; {INSTALL}; COMMIT");
    if let Err(e) = client.batch_execute(&sql).await {
        // The error matters, not whether the rollback after it went well.
        let _ = client.batch_execute("ROLLBACK").await;
        return Err(wrap(doing, &e));
    }
    Ok(true)
}

/// Removes the triggers and functions, and the schema `switchyard` unless something else is in it. Says what it removed.
pub async fn uninstall(client: &Client) -> Result<Vec<String>> {
    let doing = "removing the DDL trigger from the source";
    let mut removed = Vec::new();
    let there = "SELECT evtname::text FROM pg_catalog.pg_event_trigger WHERE evtname IN ('switchyard_ddl', 'switchyard_drop', 'switchyard_rewrite') ORDER BY 1";
    for row in client.query(there, &[]).await.map_err(|e| wrap(doing, &e))? {
        let name: String = get(&row, 0)?;
        client.batch_execute(&format!("DROP EVENT TRIGGER IF EXISTS {name}")).await.map_err(|e| wrap(doing, &e))?;
        removed.push(format!("event trigger {name}"));
    }
    let schema = "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = 'switchyard' AND pg_catalog.pg_has_role(nspowner, 'USAGE')";
    if client.query_opt(schema, &[]).await.map_err(|e| wrap(doing, &e))?.is_none() {
        return Ok(removed);
    }
    let functions = "DROP FUNCTION IF EXISTS switchyard.on_ddl(), switchyard.on_drop(), switchyard.on_rewrite(), switchyard.describe_table(oid)";
    client.batch_execute(functions).await.map_err(|e| wrap(doing, &e))?;
    match client.batch_execute("DROP SCHEMA switchyard").await {
        Ok(()) => removed.push("schema switchyard".into()),
        // dependent_objects_still_exist: the bookkeeping of a target, or somebody's own.
        Err(e) if e.code().is_some_and(|c| c.code() == "2BP01") => {}
        Err(e) => return Err(wrap(doing, &e)),
    }
    Ok(removed)
}

/// A message of the trigger.
#[derive(Debug, Deserialize)]
struct Message {
    tag: String,
    statement: String,
    object: String,
    #[serde(flatten)]
    effect: Effect,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
enum Effect {
    Table { table: Box<ToldTable>, rewritten: bool },
    Index { table: TableName, name: String, definition: String },
    Dropped { table: TableName },
    Other,
    Unknown { error: String },
}

#[derive(Debug, Deserialize)]
struct ToldTable {
    #[serde(flatten)]
    told: Told,
    missing: Vec<(String, String)>,
}

/// Reads a message of the trigger. The table afterwards is beside it, where there is one.
///
/// # Errors
/// `Fatal` if the text is not such a message, or if the trigger itself failed.
fn read(json: &[u8], ids: &TableIds) -> Result<(Ddl, Option<Described>)> {
    let message: Message = serde_json::from_slice(json).map_err(|e| {
        // The parser's own words would quote the statement, which may hold values.
        let at = (e.line(), e.column());
        Error::fatal(format!("reading a schema change from the log: not a message of our trigger (at {at:?})")).hint(
            "the trigger at the source is of another version of Switchyard: run the same version again, or start anew",
        )
    })?;
    let mut described = None;
    let effect = match message.effect {
        Effect::Table { table, rewritten } => {
            // A partition is not a table of its own; its statement is passed on.
            let partition = table.told.relation.parent.is_some();
            let missing_values = table.missing;
            match if partition { None } else { table.told.table(ids) } {
                Some(d) => {
                    let after = d.table.clone();
                    described = Some(d);
                    DdlEffect::Table { after, missing_values, rewritten }
                }
                None => DdlEffect::Other,
            }
        }
        Effect::Index { table, name, definition } => DdlEffect::Index { table, name, definition },
        Effect::Dropped { table } => DdlEffect::Dropped { table },
        Effect::Other => DdlEffect::Other,
        Effect::Unknown { error } => {
            return Err(Error::fatal(format!(
                "a schema change ({}) could not be described by the trigger at the source (SQLSTATE {error})",
                message.tag
            ))
            .hint(
                "compare the schemas of both sides, make the same change at the target, and start the migration anew",
            ));
        }
    };
    Ok((Ddl { tag: message.tag, statement: message.statement, object: message.object, effect }, described))
}

/// Reads a message of the trigger (`switchyard.ddl`).
///
/// # Errors
/// `Fatal` if the text is not such a message, or if the trigger itself failed.
pub fn parse_ddl(json: &[u8], ids: &TableIds) -> Result<Ddl> {
    Ok(read(json, ids)?.0)
}

/// What differs between a table as it was known and the log's word for it, for people; empty if nothing does. Types are
/// compared where `types` knows them.
pub fn diff(old: &Table, types: &[(u32, i32)], new: &Relation) -> Vec<String> {
    let mut out = Vec::new();
    if (&*old.name.schema, &*old.name.name) != (&*new.schema, &*new.name) {
        out.push(format!("it is now named {}", TableName::new(&*new.schema, &*new.name)));
    }
    let added = new.columns.iter().filter(|c| old.column(&c.name).is_none());
    out.extend(added.map(|c| format!("column {} was added", crate::schema::Ident(&c.name))));
    for (i, c) in old.columns.iter().enumerate() {
        let name = crate::schema::Ident(&c.name);
        match new.columns.iter().position(|n| n.name == c.name) {
            None => out.push(format!("column {name} was dropped or renamed")),
            Some(at) => {
                let n = &new.columns[at];
                if types.get(i).is_some_and(|t| *t != (n.type_oid, n.type_modifier)) {
                    out.push(format!("column {name} has another type than {}", c.type_name));
                }
            }
        }
    }
    if out.is_empty() && !old.columns.iter().map(|c| &c.name).eq(new.columns.iter().map(|c| &c.name)) {
        out.push("its columns are in another order".into());
    }
    out
}

/// What is known of a table.
#[derive(Clone, Debug)]
struct Known {
    table: Arc<Table>,
    types: Vec<(u32, i32)>,
}

/// Knows what each table looks like at the log's place: from the trigger's messages where there are any, else from the
/// catalog as it is now, as far as that agrees with the log.
pub struct CatalogResolver {
    source: ConnInfo,
    selection: Selection,
    ids: Arc<TableIds>,
    client: Option<Client>,
    /// By object id.
    known: HashMap<u32, Known>,
    /// The tables as they were when the stream began, by name: the log may be older than the catalog.
    initial: HashMap<TableName, Arc<Table>>,
}

impl CatalogResolver {
    /// A resolver that begins with these tables. Connects only when it must look.
    pub fn new(source: ConnInfo, selection: Selection, ids: Arc<TableIds>, tables: &[Arc<Table>]) -> Self {
        let initial = tables.iter().map(|t| (t.name.clone(), t.clone())).collect();
        CatalogResolver { source, selection, ids, client: None, known: HashMap::new(), initial }
    }

    async fn client(&mut self) -> Result<&Client> {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            self.client = Some(control::connect(&self.source, "source").await?);
        }
        self.client.as_ref().ok_or_else(|| Error::retry("connecting to the source's catalog"))
    }

    async fn look(&mut self, relation: &Relation) -> Result<Arc<Table>> {
        let name = TableName::new(&*relation.schema, &*relation.name);
        if let Some(k) = self.known.get(&relation.oid)
            && diff(&k.table, &k.types, relation).is_empty()
        {
            return Ok(k.table.clone());
        }
        let types: Vec<_> = relation.columns.iter().map(|c| (c.type_oid, c.type_modifier)).collect();
        // First sight: the copy's own description counts as long as the log agrees with it.
        if !self.known.contains_key(&relation.oid)
            && let Some(t) = self.initial.get(&name).cloned()
            && diff(&t, &[], relation).is_empty()
        {
            self.known.insert(relation.oid, Known { table: t.clone(), types });
            return Ok(t);
        }
        let (selection, ids) = (self.selection.clone(), self.ids.clone());
        let now = catalog::read(self.client().await?, &selection, &ids).await?;
        if let Some(d) = now.tables.iter().find(|d| d.oid == relation.oid)
            && diff(&d.table, &d.column_types, relation).is_empty()
        {
            self.learn(d);
            return Ok(d.table.clone());
        }
        // The catalog has moved on since: the description of then is the log's own.
        let now = now.tables.iter().find(|d| d.oid == relation.oid).map(|d| d.table.clone());
        let names = self.type_names(relation, now.as_deref()).await?;
        Ok(Arc::new(resolve::compose(relation, now, &names, ids.id(&name))))
    }

    /// Types of columns that the catalog does not have under these names any more.
    async fn type_names(&mut self, relation: &Relation, now: Option<&Table>) -> Result<HashMap<String, String>> {
        let unknown = relation.columns.iter().filter(|c| now.is_none_or(|n| n.column(&c.name).is_none()));
        let (oids, (modifiers, names)): (Vec<u32>, (Vec<i32>, Vec<String>)) =
            unknown.map(|c| (c.type_oid, (c.type_modifier, c.name.clone()))).unzip();
        let rows = self
            .client()
            .await?
            .query(
                "SELECT pg_catalog.format_type(o, m) FROM unnest($1::oid[], $2::int[]) AS u(o, m)",
                &[&oids, &modifiers],
            )
            .await
            .map_err(|e| wrap("looking up types at the source", &e))?;
        Ok(names.into_iter().zip(rows.iter().map(|r| r.get::<_, String>(0))).collect())
    }

    fn learn(&mut self, d: &Described) {
        self.known.insert(d.oid, Known { table: d.table.clone(), types: d.column_types.clone() });
    }

    fn told(&mut self, json: &[u8]) -> Result<Option<Ddl>> {
        let (ddl, described) = read(json, &self.ids)?;
        match &ddl.effect {
            DdlEffect::Table { after, .. } => {
                let Some(mut d) = described else { return Ok(Some(ddl)) };
                let before = self.known.get(&d.oid).map(|k| k.table.clone());
                if before.is_none() && !self.selection.selects(&after.name) {
                    return Ok(None);
                }
                let mut ddl = ddl;
                if let Some(before) = before.filter(|b| b.id != d.table.id) {
                    // Renamed: it stays the same table of this run.
                    let mut same = (*d.table).clone();
                    same.id = before.id;
                    self.ids.renamed(before.id, &same.name);
                    d.table = Arc::new(same);
                    if let DdlEffect::Table { after, .. } = &mut ddl.effect {
                        *after = d.table.clone();
                    }
                }
                self.learn(&d);
                Ok(Some(ddl))
            }
            DdlEffect::Index { table, .. } | DdlEffect::Dropped { table } => {
                Ok(self.selection.selects(table).then_some(ddl))
            }
            DdlEffect::Other => Ok(Some(ddl)),
        }
    }
}

impl RelationResolver for CatalogResolver {
    fn resolve<'a>(&'a mut self, relation: &'a Relation) -> BoxFuture<'a, Result<Arc<Table>>> {
        self.look(relation).boxed()
    }
    fn ddl<'a>(&'a mut self, json: &'a [u8]) -> BoxFuture<'a, Result<Option<Ddl>>> {
        let told = self.told(json);
        async move { told }.boxed()
    }
}
