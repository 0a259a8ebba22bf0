//! MySQL and MariaDB as a target: LOAD DATA for the copy, set-based statements for the stream, bookkeeping beside the rows.

pub mod adopt;
pub mod apply;
pub mod bookkeeping;
pub mod catalog;
pub mod check;
pub mod create;
pub mod ddl;
pub mod defaults;
pub mod forms;
mod grants;
pub mod load;
mod made;
pub mod merge;
pub mod names;
mod notes;
mod own;
mod pipe;
mod present;
pub mod quiesce;
pub mod session;
pub mod statements;
pub mod trouble;
pub mod types;
pub mod values;

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use tokio::sync::{Mutex, MutexGuard};

use self::adopt::Settings;
use self::session::Session;
use crate::error::Result;
use crate::exchange::{Scanner, SchemaDifference, SourceFacts};
use crate::finding::Finding;
use crate::mywire::conninfo::MyConnInfo;
use crate::mywire::scan::MyScanner;
use crate::schema::{Column, SchemaScript, ServerInfo, Stage, Table, TableName};
use crate::target::{Applier, Checkpoint, Loader, SessionLock, TableCopy, Target, TargetOptions};
use crate::transform::made::{MadeSchema, MadeTable};
use crate::transform::rules::Homes;

/// A MySQL or MariaDB database that is copied into.
pub struct MysqlTarget {
    info: MyConnInfo,
    name: String,
    create_schema: bool,
    collation: Option<String>,
    /// One session for questions and bookkeeping, made when first needed and again after it was lost.
    control: Mutex<Option<Session>>,
    /// What statements that make tables depend on; known once a session was there.
    settings: OnceLock<Settings>,
}

/// Opens a MySQL target.
pub fn open(options: TargetOptions) -> Result<Arc<dyn Target>> {
    Ok(Arc::new(MysqlTarget {
        info: MyConnInfo::parse("target.url", &options.url)?,
        name: options.name,
        create_schema: options.create_schema,
        collation: options.collation,
        control: Mutex::new(None),
        settings: OnceLock::new(),
    }))
}

/// The control session while one caller uses it. One whose caller was dropped in the middle of a question is thrown away.
struct Control<'a>(MutexGuard<'a, Option<Session>>, Option<Session>);

impl std::ops::Deref for Control<'_> {
    type Target = Session;
    fn deref(&self) -> &Session {
        match &self.1 {
            Some(s) => s,
            None => unreachable!("the session is taken out only on drop"),
        }
    }
}

impl std::ops::DerefMut for Control<'_> {
    fn deref_mut(&mut self) -> &mut Session {
        match &mut self.1 {
            Some(s) => s,
            None => unreachable!("the session is taken out only on drop"),
        }
    }
}

impl Drop for Control<'_> {
    fn drop(&mut self) {
        *self.0 = self.1.take().filter(|s| !s.conn.is_closed());
    }
}

impl MysqlTarget {
    async fn control(&self) -> Result<Control<'_>> {
        let mut held = self.control.lock().await;
        let session = match held.take() {
            Some(mut s) => match s.conn.ping().await {
                Ok(()) => s,
                Err(_) => Session::connect(&self.info, &self.name).await?,
            },
            None => Session::connect(&self.info, &self.name).await?,
        };
        let mut control = Control(held, Some(session));
        if self.settings.get().is_none() {
            let mut settings = check::settings(&mut control).await?;
            if let Some(c) = &self.collation {
                settings.collation.clone_from(c);
            }
            // Another caller may have been faster, with the same.
            let _ = self.settings.set(settings);
        }
        Ok(control)
    }

    fn settings(&self) -> Settings {
        self.settings.get().cloned().unwrap_or_else(|| Settings {
            flavour: crate::mywire::server::Flavour::Mysql,
            collation: self.collation.clone().unwrap_or_else(|| "utf8mb4_unicode_ci".into()),
            lower_case: false,
        })
    }
}

#[async_trait]
impl Target for MysqlTarget {
    fn engine(&self) -> &'static str {
        "mysql"
    }
    async fn server(&self) -> Result<ServerInfo> {
        let mut s = self.control().await?;
        let database = s.one("asking the target for its database", "SELECT DATABASE()").await?.unwrap_or_default();
        let server = s.conn.server().clone();
        Ok(ServerInfo {
            engine: if server.is_mariadb() { "MariaDB" } else { "MySQL" }.to_owned(),
            version: server.version,
            database,
            address: self.info.address(),
        })
    }
    async fn check(&self, source: &SourceFacts, tables: &[Arc<Table>], fresh: bool) -> Result<Vec<Finding>> {
        check::check(&mut *self.control().await?, self.create_schema, source, tables, fresh).await
    }
    async fn adopt(&self, script: SchemaScript, homes: &Homes) -> Result<SchemaScript> {
        drop(self.control().await?);
        let settings = self.settings();
        let own = settings.flavour.word();
        let from = script.dialect.clone();
        if from.is_empty() {
            return Ok(script);
        }
        if from == own && !script.objects.is_empty() {
            return Ok(own::adopt(script, homes));
        }
        if script.tables.is_empty() && !script.objects.is_empty() {
            return Err(super::unknown_dialect(&from, self.engine()));
        }
        // Either flavour is the same engine as far as types go.
        let engine = if from == "mariadb" { "mysql" } else { from.as_str() };
        adopt::adopt(script, engine, &settings, homes)
    }
    fn adopt_table(&self, engine: &str, table: &Table, homes: &Homes) -> Result<Table> {
        Ok(adopt::adopt_table(engine, table, &self.settings(), homes))
    }
    fn adopted(&self, engine: &str, script: &SchemaScript, tables: &[Arc<Table>], homes: &Homes) -> Result<Vec<Table>> {
        // Statements of the same flavour make the same tables.
        match self.settings().flavour.word() == script.dialect {
            true => Ok(tables.iter().map(|t| Table { name: homes.table(&t.name), ..(**t).clone() }).collect()),
            false => adopt::adopted(&script.tables, (engine, self.settings().flavour), tables, homes),
        }
    }
    fn is_as_wanted(&self, wanted: &Column, there: &Column) -> bool {
        present::is_as_wanted(wanted, there)
    }
    async fn adopt_made(&self, schema: &MadeSchema, homes: &Homes) -> Result<SchemaScript> {
        drop(self.control().await?);
        made::adopt(schema, &self.settings(), homes)
    }
    fn adopt_made_table(&self, engine: &str, made: &MadeTable) -> Result<Table> {
        Ok(made::adopt_table(engine, made, &self.settings()))
    }
    async fn note_made(&self, epoch: i64, tables: &[TableName]) -> Result<()> {
        notes::note_made(&mut *self.control().await?, &self.name, epoch, tables).await
    }
    async fn noted_made(&self) -> Result<Vec<TableName>> {
        notes::noted_made(&mut *self.control().await?, &self.name).await
    }
    async fn lock(&self) -> Result<Box<dyn SessionLock>> {
        bookkeeping::lock(&self.info, &self.name).await
    }
    async fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        bookkeeping::checkpoint(&mut *self.control().await?, &self.name).await
    }
    async fn take_over(&self) -> Result<Checkpoint> {
        let mut s = self.control().await?;
        // Before, because one that stands still in the middle of a batch holds the checkpoint's row; after, because one
        // that is alive may have come back meanwhile.
        s.end_predecessors(&self.name).await?;
        let checkpoint = bookkeeping::take_over(&mut s, &self.name).await?;
        s.end_predecessors(&self.name).await?;
        Ok(checkpoint)
    }
    async fn save(&self, checkpoint: &Checkpoint) -> Result<()> {
        bookkeeping::save(&mut *self.control().await?, &self.name, checkpoint).await
    }
    async fn create(&self, script: &SchemaScript, stage: Stage, table: Option<&TableName>) -> Result<Vec<String>> {
        // A session of its own: it may take a while, and the bookkeeping's must not wait.
        let mut session = Session::connect(&self.info, &self.name).await?;
        create::create(&mut session, script, stage, table).await
    }
    async fn create_key(&self, _: &SchemaScript, _: &TableName) -> Result<()> {
        // It was made with the table.
        Ok(())
    }
    async fn tables(&self, names: &[TableName]) -> Result<Vec<Option<Arc<Table>>>> {
        catalog::tables(&mut *self.control().await?, names).await
    }
    async fn quiesce(&self, tables: &[TableName]) -> Result<()> {
        quiesce::quiesce(&mut *self.control().await?, &self.name, tables).await
    }
    async fn plan_copy(&self, epoch: i64, copy: &TableCopy) -> Result<()> {
        bookkeeping::plan_copy(&mut *self.control().await?, &self.name, epoch, copy).await
    }
    async fn empty(&self, table: &TableName) -> Result<()> {
        create::empty(&mut *self.control().await?, table).await
    }
    async fn copies(&self) -> Result<Vec<TableCopy>> {
        bookkeeping::copies(&mut *self.control().await?, &self.name).await
    }
    async fn forget_skipped(&self, epoch: i64, sources: &[TableName]) -> Result<()> {
        bookkeeping::forget_skipped(&mut *self.control().await?, &self.name, epoch, sources).await
    }
    async fn note_empty(&self, epoch: i64, tables: &[TableName]) -> Result<()> {
        bookkeeping::note_empty(&mut *self.control().await?, &self.name, epoch, tables).await
    }
    async fn noted_empty(&self) -> Result<Vec<TableName>> {
        bookkeeping::noted_empty(&mut *self.control().await?, &self.name).await
    }
    async fn dead_letters(&self) -> Result<Vec<(TableName, Vec<String>)>> {
        bookkeeping::dead_letters(&mut *self.control().await?, &self.name).await
    }
    async fn mark_indexed(&self, epoch: i64, table: &TableName) -> Result<()> {
        bookkeeping::mark_indexed(&mut *self.control().await?, &self.name, epoch, table).await
    }
    async fn loader(&self, epoch: i64) -> Result<Box<dyn Loader>> {
        let session = Session::connect(&self.info, &self.name).await?;
        Ok(Box::new(load::MyLoader::new(session, &self.name, epoch).await?))
    }
    async fn applier(&self, epoch: i64) -> Result<Box<dyn Applier>> {
        let session = Session::connect(&self.info, &self.name).await?;
        Ok(Box::new(apply::MyApplier::new(session, &self.name, epoch).await?))
    }
    async fn analyze(&self, tables: &[TableName]) -> Result<()> {
        // A session of its own: it may take a while, and the bookkeeping's must not wait.
        bookkeeping::analyze(&mut Session::connect(&self.info, &self.name).await?, tables).await
    }
    async fn schema_differences(&self, script: &SchemaScript, tables: &[TableName]) -> Result<Vec<SchemaDifference>> {
        present::differences(&mut *self.control().await?, script, tables).await
    }
    async fn scanner(&self) -> Result<Box<dyn Scanner>> {
        let program = format!("switchyard:{}", self.name);
        let scanner = MyScanner::connect(&self.info, "target", &program, false).await;
        Ok(Box::new(scanner.map_err(|e| grants::unseen(e, self.info.database.as_deref()))?))
    }
    async fn finish(&self) -> Result<Vec<String>> {
        quiesce::finish(&mut *self.control().await?, &self.name).await
    }
}
