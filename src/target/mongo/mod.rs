//! MongoDB as a target: tables as collections, rows as documents; transactions for the copy, the stream and the bookkeeping.

pub mod adopt;
pub mod apply;
pub mod bookkeeping;
mod build;
pub mod catalog;
pub mod check;
pub mod command;
pub mod copies;
pub mod create;
mod ddl;
mod embed;
mod lease;
pub mod lists;
pub mod load;
mod made;
mod merge;
pub mod session;
pub mod shape;
mod single;
pub mod steps;
mod trouble;
mod values;
pub mod words;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use mongodb::Client;
use tokio::sync::OnceCell;

use self::create::Mine;
use self::lease::Holder;
use crate::error::Result;
use crate::exchange::SourceFacts;
use crate::finding::Finding;
use crate::mongowire::conninfo::MongoConnInfo;
use crate::mongowire::server::Server;
use crate::schema::{SchemaScript, ServerInfo, Stage, Table, TableName};
use crate::target::{
    Applier, Checkpoint, CopyStage, Loader, Microseconds, SessionLock, TableCopy, Target, TargetOptions,
};
use crate::transform::embed::EmbeddedList;
use crate::transform::made::{MadeSchema, MadeTable};
use crate::transform::rules::Homes;

/// A MongoDB database that is copied into.
pub struct MongoTarget {
    info: MongoConnInfo,
    name: String,
    create_schema: bool,
    microseconds: Microseconds,
    lists: Arc<Vec<EmbeddedList>>,
    holder: Holder,
    /// Its own pool of connections, which mends itself.
    client: OnceCell<Client>,
    /// The epoch of this daemon, once it has taken over; 0 before.
    epoch: AtomicI64,
    /// The tables as the preflight expects them, kept once the epoch is ours: documents do not say what columns there are.
    expected: Mutex<Vec<Arc<Table>>>,
}

/// Opens a MongoDB target.
///
/// # Errors
/// [`crate::error::Class::Config`] for a URL that cannot be meant.
pub fn open(options: TargetOptions) -> Result<Arc<dyn Target>> {
    Ok(Arc::new(MongoTarget {
        info: MongoConnInfo::parse("target.url", &options.url)?,
        name: options.name,
        create_schema: options.create_schema,
        microseconds: options.microseconds,
        lists: Arc::new(options.lists),
        holder: lease::holder(),
        client: OnceCell::new(),
        epoch: AtomicI64::new(0),
        expected: Mutex::new(Vec::new()),
    }))
}

impl MongoTarget {
    async fn client(&self) -> Result<&Client> {
        // The process comes first: the name is cut where it is long.
        let program = format!("switchyard {} {}", self.holder.owner, self.name);
        self.client.get_or_try_init(|| self.info.connect("target", &program)).await
    }
    fn mine(&self) -> Mine<'_> {
        Mine { name: &self.name, epoch: self.epoch.load(Ordering::SeqCst) }
    }
}

#[async_trait]
impl Target for MongoTarget {
    fn engine(&self) -> &'static str {
        "mongo"
    }
    async fn server(&self) -> Result<ServerInfo> {
        let server = Server::ask(self.client().await?, "asking the target what it is").await?;
        Ok(ServerInfo {
            engine: "MongoDB".to_owned(),
            version: server.version,
            database: self.info.database().unwrap_or_default().to_owned(),
            address: self.info.address().to_owned(),
        })
    }
    async fn check(&self, source: &SourceFacts, tables: &[Arc<Table>], fresh: bool) -> Result<Vec<Finding>> {
        *self.expected.lock().unwrap_or_else(|e| e.into_inner()) = tables.to_vec();
        let asked = check::Asked {
            name: &self.name,
            database: self.info.database(),
            create_schema: self.create_schema,
            source,
            tables,
            lists: &self.lists,
            fresh,
        };
        check::check(self.client().await?, &asked).await
    }
    async fn adopt(&self, script: SchemaScript, homes: &Homes) -> Result<SchemaScript> {
        if script.dialect.is_empty() {
            return Ok(script);
        }
        // Objects of other dialects say nothing here; every source describes its tables beside them.
        let from = script.dialect.clone();
        adopt::adopt(script, &from, homes, self.microseconds)
    }
    fn adopt_table(&self, engine: &str, table: &Table, homes: &Homes) -> Result<Table> {
        adopt::adopt_table(engine, table, homes, self.microseconds)
    }
    async fn adopt_made(&self, schema: &MadeSchema, _: &Homes) -> Result<SchemaScript> {
        made::adopt(schema, self.microseconds, &|t| self.lists.iter().any(|l| l.rows == *t))
    }
    fn adopt_made_table(&self, engine: &str, made: &MadeTable) -> Result<Table> {
        made::adopt_table(engine, made, self.microseconds)
    }
    async fn note_made(&self, epoch: i64, tables: &[TableName]) -> Result<()> {
        copies::note_made(self.client().await?, &self.name, epoch, tables).await
    }
    async fn noted_made(&self) -> Result<Vec<TableName>> {
        copies::noted_made(self.client().await?, &self.name).await
    }
    async fn lock(&self) -> Result<Box<dyn SessionLock>> {
        lease::lock(self.client().await?, &self.name, &self.holder).await
    }
    async fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        bookkeeping::checkpoint(self.client().await?, &self.name).await
    }
    async fn take_over(&self) -> Result<Checkpoint> {
        let client = self.client().await?;
        let checkpoint = bookkeeping::take_over(client, &self.name).await?;
        self.epoch.store(checkpoint.epoch, Ordering::SeqCst);
        let expected = std::mem::take(&mut *self.expected.lock().unwrap_or_else(|e| e.into_inner()));
        let anew = checkpoint.stage == CopyStage::Started;
        catalog::keep_all(client, &self.name, checkpoint.epoch, &expected, anew).await?;
        Ok(checkpoint)
    }
    async fn save(&self, checkpoint: &Checkpoint) -> Result<()> {
        bookkeeping::save(self.client().await?, &self.name, checkpoint).await
    }
    async fn create(&self, script: &SchemaScript, stage: Stage, table: Option<&TableName>) -> Result<Vec<String>> {
        create::create(self.client().await?, self.mine(), script, stage, table).await
    }
    async fn create_key(&self, _: &SchemaScript, _: &TableName) -> Result<()> {
        // It is `_id`.
        Ok(())
    }
    async fn tables(&self, names: &[TableName]) -> Result<Vec<Option<Arc<Table>>>> {
        catalog::tables(self.client().await?, &self.name, names).await
    }
    async fn quiesce(&self, _: &[TableName]) -> Result<()> {
        // There are no triggers, and nothing counts.
        Ok(())
    }
    async fn plan_copy(&self, epoch: i64, copy: &TableCopy) -> Result<()> {
        copies::plan_copy(self.client().await?, &self.name, epoch, copy).await
    }
    async fn empty(&self, table: &TableName) -> Result<()> {
        create::empty(self.client().await?, self.mine(), table).await
    }
    async fn copies(&self) -> Result<Vec<TableCopy>> {
        copies::copies(self.client().await?, &self.name).await
    }
    async fn forget_skipped(&self, epoch: i64, sources: &[TableName]) -> Result<()> {
        copies::forget_skipped(self.client().await?, &self.name, epoch, sources).await
    }
    async fn note_empty(&self, epoch: i64, tables: &[TableName]) -> Result<()> {
        copies::note_empty(self.client().await?, &self.name, epoch, tables).await
    }
    async fn noted_empty(&self) -> Result<Vec<TableName>> {
        copies::noted_empty(self.client().await?, &self.name).await
    }
    async fn dead_letters(&self) -> Result<Vec<(TableName, Vec<String>)>> {
        copies::dead_letters(self.client().await?, &self.name).await
    }
    async fn mark_indexed(&self, epoch: i64, table: &TableName) -> Result<()> {
        copies::mark_indexed(self.client().await?, &self.name, epoch, table).await
    }
    async fn consistent(&self) -> Result<Vec<String>> {
        // Lists are made before the stream runs; a start may find the target consistent before that.
        build::ready(self.client().await?, self.mine(), &self.lists).await?;
        build::consistent(self.client().await?, &self.name, &self.lists).await
    }
    async fn loader(&self, epoch: i64) -> Result<Box<dyn Loader>> {
        Ok(Box::new(load::MongoLoader::new(self.client().await?, &self.name, epoch).await?))
    }
    async fn applier(&self, epoch: i64) -> Result<Box<dyn Applier>> {
        let mine = Mine { name: &self.name, epoch };
        build::ready(self.client().await?, mine, &self.lists).await?;
        Ok(Box::new(apply::MongoApplier::new(self.client().await?, &self.name, epoch, self.lists.clone()).await?))
    }
    async fn analyze(&self, _: &[TableName]) -> Result<()> {
        // The server samples plans by itself.
        Ok(())
    }
    async fn finish(&self) -> Result<Vec<String>> {
        let client = self.client().await?;
        let whole = self.checkpoint().await?.is_some_and(|c| c.stage == CopyStage::Complete);
        let mut said = build::finish(client, &self.name, whole).await?;
        said.extend(bookkeeping::forget(client, &self.name).await?);
        Ok(said)
    }
}
