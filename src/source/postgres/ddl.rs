//! Schema changes: the event trigger at the source that writes them into the log, reading what it wrote, and the
//! resolver that knows what each table looks like at the log's place.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use tokio_postgres::Client;

use super::catalog::{self, Described, TableIds, Told, get};
use super::pgoutput::Relation;
use super::replication::RelationResolver;
use super::resolve;
use crate::change::{Ddl, DdlEffect, Division, Partition, UserType};
use crate::error::{Error, Result};
use crate::pgwire::conninfo::ConnInfo;
use crate::pgwire::control;
use crate::pgwire::errors::wrap;
use crate::schema::{Table, TableName};
use crate::transform::select::Selection;

/// How long a table that was made without key may take to get one by a statement of its own.
const A_KEY_COMES: Duration = Duration::from_secs(3);

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

/// Puts a trigger on the leaves of the publication's partitioned tables that tells of their TRUNCATE, which the server
/// does not publish. Each by itself, so that none is locked for longer than that takes. Does nothing where there is no
/// event trigger.
///
/// # Errors
/// `Retry` if a lock is not got within two seconds: the application's writes queue up behind the wait.
pub async fn watch_truncates(client: &Client, publication: &str) -> Result<()> {
    if !has_selections(client).await? {
        return Ok(());
    }
    let doing = "watching for TRUNCATE of partitions at the source";
    let sql = "SELECT DISTINCT t.relid::oid FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid \
               JOIN pg_catalog.pg_class c ON c.oid = r.prrelid AND c.relkind = 'p' CROSS JOIN LATERAL pg_catalog.pg_partition_tree(c.oid) t \
               WHERE p.pubname = $1 AND (t.isleaf OR t.level = 0)";
    for row in client.query(sql, &[&publication]).await.map_err(|e| wrap(doing, &e))? {
        let relation: u32 = get(&row, 0)?;
        let watched = client.execute("SELECT switchyard.watch_truncate($1)", &[&relation]).await;
        watched.map_err(|e| {
            wrap(doing, &e).hint("another session works on one of the partitions for long: it is tried again")
        })?;
    }
    Ok(())
}

/// Tells the trigger which new tables belong into a publication. Does nothing where there is no trigger.
pub async fn set_selection(client: &Client, publication: &str, selection: &Selection) -> Result<()> {
    let doing = "telling the DDL trigger at the source which tables are selected";
    if !has_selections(client).await? {
        return Ok(());
    }
    let ((si, ti), (sx, tx)) = (selection.include_regexes(), selection.exclude_regexes());
    let sql = "INSERT INTO switchyard.publication VALUES ($1, $2, $3, $4, $5) ON CONFLICT (name) DO UPDATE SET \
               include_schemas = $2, include_tables = $3, exclude_schemas = $4, exclude_tables = $5 \
               WHERE ROW(publication.*) IS DISTINCT FROM ROW(excluded.*)";
    client.execute(sql, &[&publication, &si, &ti, &sx, &tx]).await.map_err(|e| wrap(doing, &e))?;
    Ok(())
}

/// Lets the trigger forget a publication.
pub async fn forget_selection(client: &Client, publication: &str) -> Result<()> {
    if !has_selections(client).await? {
        return Ok(());
    }
    let sql = "DELETE FROM switchyard.publication WHERE name = $1";
    let gone = client.execute(sql, &[&publication]).await;
    gone.map(drop).map_err(|e| wrap("telling the DDL trigger at the source that the migration has ended", &e))
}

async fn has_selections(client: &Client) -> Result<bool> {
    let sql = "SELECT coalesce(pg_catalog.has_table_privilege(pg_catalog.to_regclass('switchyard.publication'), 'INSERT, UPDATE, DELETE'), false)";
    let row = client.query_one(sql, &[]).await.map_err(|e| wrap("looking for the DDL trigger at the source", &e))?;
    get(&row, 0)
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
    let watched = "SELECT pg_catalog.quote_ident(g.tgname), pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) \
                   FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                   WHERE g.tgfoid = pg_catalog.to_regprocedure('switchyard.on_truncate()') ORDER BY 2, 1";
    // Each by itself, and with little patience: DROP TRIGGER keeps readers out, too.
    client.batch_execute("SET lock_timeout = '2s'").await.map_err(|e| wrap(doing, &e))?;
    for row in client.query(watched, &[]).await.map_err(|e| wrap(doing, &e))? {
        let (trigger, table): (String, String) = (get(&row, 0)?, get(&row, 1)?);
        drop_trigger(client, &trigger, &table).await?;
        removed.push(format!("trigger {trigger} of {table}"));
    }
    client.batch_execute("SET lock_timeout = 0").await.map_err(|e| wrap(doing, &e))?;
    let functions = "DROP FUNCTION IF EXISTS switchyard.on_truncate(), switchyard.watch_truncate(oid), switchyard.partition_path(oid), switchyard.on_ddl(), switchyard.on_drop(), switchyard.on_rewrite(), switchyard.describe_table(oid), switchyard.describe_partitions(oid), switchyard.describe_type(oid), switchyard.publish(oid), switchyard.matches(text[], text[], text, text); DROP TABLE IF EXISTS switchyard.publication";
    client.batch_execute(functions).await.map_err(|e| wrap(doing, &e))?;
    match client.batch_execute("DROP SCHEMA switchyard").await {
        Ok(()) => removed.push("schema switchyard".into()),
        // dependent_objects_still_exist: the bookkeeping of a target, or somebody's own.
        Err(e) if e.code().is_some_and(|c| c.code() == "2BP01") => {}
        Err(e) => return Err(wrap(doing, &e)),
    }
    Ok(removed)
}

/// How often the removal of one trigger is tried, 2 s each and as long in between.
const DROP_TRIES: u32 = 10;

async fn drop_trigger(client: &Client, trigger: &str, table: &str) -> Result<()> {
    let mut tries = 1;
    loop {
        match client.batch_execute(&format!("DROP TRIGGER IF EXISTS {trigger} ON {table}")).await {
            Ok(()) => return Ok(()),
            // lock_not_available.
            Err(e) if e.code().is_some_and(|c| c.code() == "55P03") && tries < DROP_TRIES => {
                tries += 1;
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            Err(e) => return Err(wrap(format!("removing our trigger from {table} at the source"), &e)),
        }
    }
}

/// A message of the trigger.
#[derive(Debug, Deserialize)]
struct Message {
    tag: String,
    statement: String,
    object: String,
    /// The transaction that says so, with its epoch; triggers of earlier versions do not tell.
    #[serde(default)]
    xid: Option<String>,
    #[serde(flatten)]
    effect: Effect,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
enum Effect {
    Table {
        table: Box<ToldTable>,
        rewritten: bool,
        /// Publications that should have the table and have not, and why.
        #[serde(default)]
        unpublished: Vec<(String, String)>,
    },
    Partitions {
        root: TableName,
        key: String,
        partitions: Vec<Partition>,
    },
    Type {
        r#type: ToldType,
    },
    Sequence {
        name: TableName,
        definition: String,
    },
    Index {
        table: TableName,
        name: String,
        definition: String,
    },
    Dropped {
        table: TableName,
    },
    /// A constraint has a table, an index a schema.
    Undone {
        table: Option<TableName>,
        schema: Option<String>,
        name: String,
    },
    Emptied {
        table: TableName,
        path: Vec<Division>,
    },
    Other,
    Unknown {
        error: String,
    },
}

#[derive(Debug, Deserialize)]
struct ToldTable {
    #[serde(flatten)]
    told: Told,
    missing: Vec<(String, String)>,
}

#[derive(Debug, Deserialize)]
struct ToldType {
    #[serde(flatten)]
    after: UserType,
    tables: Vec<TableName>,
}

/// A message as it was read.
struct Read {
    ddl: Ddl,
    /// The table afterwards, where there is one.
    described: Option<Described>,
    /// It is a partition, which is a table of its own only where its parents are not followed.
    partition: bool,
    /// Publications that should have the table and have not, and why.
    unpublished: Vec<(String, String)>,
    /// Tables that use the type.
    users: Vec<TableName>,
    /// The transaction that says so.
    xid: Option<String>,
}

/// Reads a message of the trigger.
///
/// # Errors
/// `Fatal` if the text is not such a message, or if the trigger itself failed.
fn read(json: &[u8], ids: &TableIds) -> Result<Read> {
    let message: Message = serde_json::from_slice(json).map_err(|e| {
        // The parser's own words would quote the statement, which may hold values.
        let at = (e.line(), e.column());
        Error::fatal(format!("reading a schema change from the log: not a message of our trigger (at {at:?})")).hint(
            "the trigger at the source is of another version of Switchyard: run the same version again, or start anew",
        )
    })?;
    let mut described = None;
    let (mut partition, mut not_in, mut users) = (false, Vec::new(), Vec::new());
    let effect = match message.effect {
        Effect::Table { table, rewritten, unpublished } => {
            partition = table.told.relation.parent.is_some();
            not_in = unpublished;
            let missing_values = table.missing;
            match table.told.table(ids) {
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
        Effect::Partitions { root, key, partitions } => DdlEffect::Partitions { root, key, partitions },
        Effect::Type { r#type } => {
            users = r#type.tables;
            DdlEffect::Type { after: r#type.after, used: !users.is_empty() }
        }
        Effect::Sequence { name, definition } => DdlEffect::Sequence { name, definition },
        Effect::Undone { table, schema, name } => {
            let schema = schema.or_else(|| table.as_ref().map(|t| t.schema.clone())).unwrap_or_default();
            DdlEffect::Undone { table, name: TableName::new(schema, name) }
        }
        Effect::Emptied { table, path } => DdlEffect::Emptied { table, path },
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
    let ddl = Ddl { tag: message.tag, statement: message.statement, object: message.object, effect, before: None };
    Ok(Read { ddl, described, partition, unpublished: not_in, users, xid: message.xid })
}

/// Reads a message of the trigger (`switchyard.ddl`).
///
/// # Errors
/// `Fatal` if the text is not such a message, or if the trigger itself failed.
pub fn parse_ddl(json: &[u8], ids: &TableIds) -> Result<Ddl> {
    Ok(read(json, ids)?.ddl)
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
    /// The publication whose tables the log holds.
    publication: Option<String>,
}

impl CatalogResolver {
    /// A resolver that begins with these tables. Connects only when it must look.
    pub fn new(source: ConnInfo, selection: Selection, ids: Arc<TableIds>, tables: &[Arc<Table>]) -> Self {
        let initial = tables.iter().map(|t| (t.name.clone(), t.clone())).collect();
        CatalogResolver { source, selection, ids, client: None, known: HashMap::new(), initial, publication: None }
    }

    /// Says which publication the log is read through, so that new tables that are not in it are noticed.
    pub fn through(mut self, publication: &str) -> Self {
        self.publication = Some(publication.to_owned());
        self
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

    async fn told(&mut self, json: &[u8]) -> Result<Option<Ddl>> {
        let Read { mut ddl, described, partition, unpublished, users, xid } = read(json, &self.ids)?;
        match &mut ddl.effect {
            DdlEffect::Table { after, .. } => {
                let Some(mut d) = described else { return Ok(Some(ddl)) };
                let before = self.known.get(&d.oid).map(|k| k.table.clone());
                let followed = before.is_some() || self.initial.contains_key(&after.name);
                // A partition of a root that is followed is that one's matter.
                if !followed && (partition || !self.selection.selects(&after.name)) {
                    return Ok(None);
                }
                if let Some((_, why)) = unpublished.iter().find(|(p, _)| self.publication.as_ref() == Some(p))
                    && !self.published_since(d.oid, xid.as_deref()).await?
                {
                    let (table, why) = (after.name.clone(), why.clone());
                    ddl.effect = DdlEffect::Unfollowed { table, why };
                    return Ok(Some(ddl));
                }
                if let Some(before) = before.filter(|b| b.id != d.table.id) {
                    // Renamed: it stays the same table of this run.
                    let mut same = (*d.table).clone();
                    same.id = before.id;
                    self.ids.renamed(before.id, &same.name);
                    d.table = Arc::new(same);
                    *after = d.table.clone();
                }
                self.learn(&d);
                Ok(Some(ddl))
            }
            DdlEffect::Index { table, .. } | DdlEffect::Unfollowed { table, .. } => {
                Ok(self.selection.selects(table).then_some(ddl))
            }
            DdlEffect::Dropped { table } => {
                if !self.selection.selects(table) {
                    // It may have been a partition of a table that is followed: the target knows.
                    ddl.effect = DdlEffect::PartitionDropped { table: table.clone() };
                }
                Ok(Some(ddl))
            }
            DdlEffect::Undone { table, .. } => {
                Ok(table.as_ref().is_none_or(|t| self.selection.selects(t)).then_some(ddl))
            }
            DdlEffect::Emptied { path, .. } => {
                // Its rows are in the log as those of the topmost table that takes part.
                let Some(root) = path.iter().rposition(|p| self.selection.selects(&p.parent)) else { return Ok(None) };
                path.truncate(root + 1);
                Ok(Some(ddl))
            }
            DdlEffect::Partitions { root, .. } => Ok(self.selection.selects(root).then_some(ddl)),
            DdlEffect::Type { used, .. } => {
                *used = users.iter().any(|t| self.selection.selects(t));
                Ok(Some(ddl))
            }
            DdlEffect::PartitionDropped { .. } | DdlEffect::Sequence { .. } | DdlEffect::Other => Ok(Some(ddl)),
        }
    }

    /// Whether a table that could not be published at first is by now: it got its key while it was still empty, so that
    /// nothing was missed. A moment is given for that. A table that is gone counts as published: nothing of it can be
    /// missed any more, and what the log has of it until then may still follow.
    ///
    /// A commit is in the log before other sessions see it (by as long as a synchronous standby takes), so a table that
    /// is not to be seen is only gone once `xid`, which made it, is.
    async fn published_since(&mut self, oid: u32, xid: Option<&str>) -> Result<bool> {
        let Some(publication) = self.publication.clone() else { return Ok(true) };
        let sql = "SELECT pg_catalog.pg_visible_in_snapshot($3::text::pg_catalog.xid8, pg_catalog.pg_current_snapshot()), \
                          EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = $1), \
                          EXISTS (SELECT FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid \
                                   WHERE p.pubname = $2::text AND r.prrelid = $1)";
        let mut until = tokio::time::Instant::now() + A_KEY_COMES;
        loop {
            let row = self.client().await?.query_one(sql, &[&oid, &publication, &xid]).await;
            let row = row.map_err(|e| wrap("looking for a new table in the publication", &e))?;
            let (seen, there, published): (Option<bool>, bool, bool) = (get(&row, 0)?, get(&row, 1)?, get(&row, 2)?);
            let over = tokio::time::Instant::now() >= until;
            match seen {
                _ if published => return Ok(true),
                Some(false) => until = tokio::time::Instant::now() + A_KEY_COMES,
                Some(true) if !there => return Ok(true),
                _ if over => return Ok(!there),
                _ => {}
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl RelationResolver for CatalogResolver {
    fn resolve<'a>(&'a mut self, relation: &'a Relation) -> BoxFuture<'a, Result<Arc<Table>>> {
        self.look(relation).boxed()
    }
    fn ddl<'a>(&'a mut self, json: &'a [u8]) -> BoxFuture<'a, Result<Option<Ddl>>> {
        self.told(json).boxed()
    }
}
