//! PostgreSQL as a target: COPY for the copy, set-based statements for the stream, bookkeeping beside the rows.

mod apart;
pub mod apply;
pub mod bookkeeping;
pub mod catalog;
pub mod check;
mod compatible;
pub mod create;
pub mod ddl;
mod ddl_objects;
pub mod fit;
mod foreign;
mod foreign_types;
pub mod load;
mod made;
mod merge;
mod notes;
mod present;
pub mod quiesce;
mod single;
pub mod statements;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::Client;

use crate::error::Result;
use crate::exchange::{Scanner, SchemaDifference, SourceFacts};
use crate::finding::Finding;
use crate::pgwire::conn::{PgConn, Purpose};
use crate::pgwire::conninfo::ConnInfo;
use crate::pgwire::control;
use crate::pgwire::errors::wrap;
use crate::pgwire::scan::PgScanner;
use crate::schema::{SchemaScript, ServerInfo, Stage, Table, TableName};
use crate::target::{Applier, Checkpoint, Loader, SessionLock, TableCopy, Target, TargetOptions, unknown_dialect};
use crate::transform::made::{MadeSchema, MadeTable};
use crate::transform::rules::Homes;

/// Connections that make one table's indexes side by side.
const INDEX_CONNECTIONS: usize = 2;

/// A PostgreSQL database that is copied into.
pub struct PostgresTarget {
    info: ConnInfo,
    name: String,
    create_schema: bool,
    /// One session for questions and bookkeeping, made when first needed and again after it was lost.
    control: Mutex<Option<Client>>,
}

/// Opens a PostgreSQL target.
pub fn open(options: TargetOptions) -> Result<Arc<dyn Target>> {
    Ok(Arc::new(PostgresTarget {
        info: ConnInfo::parse("target.url", &options.url)?,
        name: options.name,
        create_schema: options.create_schema,
        control: Mutex::new(None),
    }))
}

/// The control session while one caller uses it.
struct Control<'a>(MutexGuard<'a, Option<Client>>, Option<Client>);

impl std::ops::Deref for Control<'_> {
    type Target = Client;
    fn deref(&self) -> &Client {
        match &self.1 {
            Some(c) => c,
            None => unreachable!("the session is taken out only on drop"),
        }
    }
}

impl std::ops::DerefMut for Control<'_> {
    fn deref_mut(&mut self) -> &mut Client {
        match &mut self.1 {
            Some(c) => c,
            None => unreachable!("the session is taken out only on drop"),
        }
    }
}

impl Drop for Control<'_> {
    fn drop(&mut self) {
        *self.0 = self.1.take();
    }
}

impl PostgresTarget {
    async fn control(&self) -> Result<Control<'_>> {
        let mut held = self.control.lock().await;
        let client = match held.take().filter(|c| !c.is_closed()) {
            Some(c) => c,
            None => control::connect(&self.info, "target").await?,
        };
        Ok(Control(held, Some(client)))
    }
}

#[async_trait]
impl Target for PostgresTarget {
    fn engine(&self) -> &'static str {
        "postgres"
    }
    async fn server(&self) -> Result<ServerInfo> {
        control::server(&*self.control().await?, &self.info).await
    }
    async fn check(&self, source: &SourceFacts, tables: &[Arc<Table>], fresh: bool) -> Result<Vec<Finding>> {
        check::check(&*self.control().await?, &self.name, self.create_schema, source, tables, fresh).await
    }
    async fn adopt(&self, script: SchemaScript, homes: &Homes) -> Result<SchemaScript> {
        match script.dialect.as_str() {
            "" | "postgres" => Ok(script),
            dialect if foreign::understands(dialect) => foreign::adopt(script, homes),
            dialect => Err(unknown_dialect(dialect, self.engine())),
        }
    }
    fn adopt_table(&self, engine: &str, table: &Table, homes: &Homes) -> Result<Table> {
        match engine {
            "postgres" => Ok(table.clone()),
            engine if foreign::understands(engine) => foreign::adopt_table(table, homes),
            engine => Err(unknown_dialect(engine, self.engine())),
        }
    }
    fn adopted(&self, engine: &str, script: &SchemaScript, tables: &[Arc<Table>], homes: &Homes) -> Result<Vec<Table>> {
        match foreign::understands(engine) {
            true => foreign::adopted(&script.tables, tables, homes),
            false => tables.iter().map(|t| self.adopt_table(engine, t, homes)).collect(),
        }
    }
    async fn adopt_made(&self, schema: &MadeSchema, homes: &Homes) -> Result<SchemaScript> {
        match schema.dialect.as_str() {
            dialect if dialect == self.engine() || foreign::understands(dialect) => made::adopt(schema, homes),
            dialect => Err(unknown_dialect(dialect, self.engine())),
        }
    }
    fn adopt_made_table(&self, engine: &str, made: &MadeTable) -> Result<Table> {
        match engine {
            engine if engine == self.engine() || foreign::understands(engine) => made::adopt_table(engine, made),
            engine => Err(unknown_dialect(engine, self.engine())),
        }
    }
    async fn note_made(&self, epoch: i64, tables: &[TableName]) -> Result<()> {
        notes::note_made(&*self.control().await?, &self.name, epoch, tables).await
    }
    async fn noted_made(&self) -> Result<Vec<TableName>> {
        notes::noted_made(&*self.control().await?, &self.name).await
    }
    async fn lock(&self) -> Result<Box<dyn SessionLock>> {
        bookkeeping::lock(&self.info, &self.name).await
    }
    async fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        bookkeeping::checkpoint(&*self.control().await?, &self.name).await
    }
    async fn take_over(&self) -> Result<Checkpoint> {
        let mut client = self.control().await?;
        // Before, because one that stands still in the middle of a batch holds the checkpoint's row; after, because one
        // that is alive may have come back meanwhile.
        bookkeeping::end_predecessors(&client, &self.name).await?;
        let checkpoint = bookkeeping::take_over(&mut client, &self.name).await?;
        bookkeeping::end_predecessors(&client, &self.name).await?;
        Ok(checkpoint)
    }
    async fn save(&self, checkpoint: &Checkpoint) -> Result<()> {
        bookkeeping::save(&*self.control().await?, &self.name, checkpoint).await
    }
    async fn create(&self, script: &SchemaScript, stage: Stage, table: Option<&TableName>) -> Result<Vec<String>> {
        match (stage, table) {
            (Stage::TableCopied, Some(t)) => {
                create::create_table_objects(&self.info, &self.name, script, t, INDEX_CONNECTIONS).await
            }
            _ => create::create(&self.info, &self.name, script, stage, table).await,
        }
    }
    async fn create_key(&self, script: &SchemaScript, table: &TableName) -> Result<()> {
        create::create_key(&self.info, &self.name, script, table).await
    }
    async fn tables(&self, names: &[TableName]) -> Result<Vec<Option<Arc<Table>>>> {
        catalog::tables(&*self.control().await?, names).await
    }
    async fn quiesce(&self, tables: &[TableName]) -> Result<()> {
        quiesce::quiesce(&mut *self.control().await?, &self.name, tables).await
    }
    async fn plan_copy(&self, epoch: i64, copy: &TableCopy) -> Result<()> {
        bookkeeping::plan_copy(&*self.control().await?, &self.name, epoch, copy).await
    }
    async fn empty(&self, table: &TableName) -> Result<()> {
        let client = self.control().await?;
        let doing = || format!("emptying {table}, whose copy begins anew");
        let t = statements::qualified(table);
        match client.batch_execute(&format!("TRUNCATE {t}")).await {
            Ok(()) => Ok(()),
            // A foreign key refers to it. Rows that do so stay, and must not be taken along by a cascade; where foreign keys
            // cannot be passed by, they were dropped.
            Err(e) if e.code().is_some_and(|c| c.code() == "0A000") => {
                let replica = quiesce::replication_role_allowed(&client).await?;
                let past = if replica { "SET LOCAL session_replication_role = replica; " } else { "" };
                let emptied = client.batch_execute(&format!("BEGIN; {past}DELETE FROM {t}; COMMIT")).await;
                if emptied.is_err() {
                    // Only tidiness: the error is told either way.
                    let _ = client.batch_execute("ROLLBACK").await;
                }
                emptied.map_err(|e| wrap(doing(), &e))
            }
            Err(e) => Err(wrap(doing(), &e)),
        }
    }
    async fn copies(&self) -> Result<Vec<TableCopy>> {
        bookkeeping::copies(&*self.control().await?, &self.name).await
    }
    async fn dead_letters(&self) -> Result<Vec<(TableName, Vec<String>)>> {
        notes::dead_letters(&*self.control().await?, &self.name).await
    }
    async fn forget_skipped(&self, epoch: i64, sources: &[TableName]) -> Result<()> {
        notes::forget_skipped(&*self.control().await?, &self.name, epoch, sources).await
    }
    async fn note_empty(&self, epoch: i64, tables: &[TableName]) -> Result<()> {
        notes::note_empty(&*self.control().await?, &self.name, epoch, tables).await
    }
    async fn noted_empty(&self) -> Result<Vec<TableName>> {
        notes::noted_empty(&*self.control().await?, &self.name).await
    }
    async fn mark_indexed(&self, epoch: i64, table: &TableName) -> Result<()> {
        bookkeeping::mark_indexed(&*self.control().await?, &self.name, epoch, table).await
    }
    async fn loader(&self, epoch: i64) -> Result<Box<dyn Loader>> {
        let replica = quiesce::replication_role_allowed(&*self.control().await?).await?;
        let conn = PgConn::connect(&self.info, "target", Purpose::Sql).await?;
        Ok(Box::new(load::PgLoader::new(conn, &self.name, epoch, replica).await?))
    }
    async fn applier(&self, epoch: i64) -> Result<Box<dyn Applier>> {
        let client = control::connect(&self.info, "target").await?;
        let replica = quiesce::replication_role_allowed(&client).await?;
        Ok(Box::new(apply::PgApplier::new(client, &self.name, epoch, replica).await?.beside(&self.info)))
    }
    async fn analyze(&self, tables: &[TableName]) -> Result<()> {
        // A session of its own: it may take a while, and the bookkeeping's must not wait.
        bookkeeping::analyze(&control::connect(&self.info, "target").await?, tables).await
    }
    async fn schema_differences(&self, script: &SchemaScript, tables: &[TableName]) -> Result<Vec<SchemaDifference>> {
        present::differences(&*self.control().await?, script, tables).await
    }
    async fn scanner(&self) -> Result<Box<dyn Scanner>> {
        Ok(Box::new(PgScanner::connect(&self.info, "target").await?))
    }
    async fn finish(&self) -> Result<Vec<String>> {
        quiesce::finish(&mut *self.control().await?, &self.name).await
    }
}
