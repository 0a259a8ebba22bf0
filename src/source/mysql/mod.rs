//! MySQL and MariaDB as a source: a consistent snapshot in chunks by key, and the binary log.

pub mod binlog;
mod bounds;
mod cascade;
pub mod catalog;
mod check;
pub mod columns;
pub mod ddl;
mod follow;
mod misprints;
mod place;
mod script;
mod snapshot;
mod tail;
pub mod types;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

use self::catalog::{Catalog, Described};
use self::follow::MARKERS;
use self::snapshot::{MySnapshot, Opening};
use crate::error::{Error, Result, ResultExt};
use crate::finding::Finding;
use crate::mywire::conn::{Flavour, MyConn};
use crate::mywire::conninfo::MyConnInfo;
use crate::mywire::control;
use crate::mywire::quote::{literal, qualified, quoted};
use crate::mywire::session::Preset;
use crate::position::Position;
use crate::schema::{SchemaScript, ServerInfo, Table, TableName};
use crate::source::ids::TableIds;
use crate::source::{
    DatabaseIdentity, LogHealth, LogIdentity, SnapshotSession, Source, SourceFacts, SourceOptions, ZeroDates, queue,
};
use crate::transform::select::Selection;
use crate::value::{Datum, Row, RowBuilder};

/// A MySQL or MariaDB server that is copied from and followed.
pub struct MysqlSource {
    info: MyConnInfo,
    /// What the server's list of connections shows.
    program: String,
    selection: Selection,
    workers: usize,
    /// Tables whose old rows rules need whole.
    ids: Arc<TableIds>,
    whole_rows: Arc<[TableName]>,
    zero_dates: ZeroDates,
    /// One session for questions, made when first needed and again after it was lost.
    control: tokio::sync::Mutex<Option<MyConn>>,
    /// Another one for the catalog.
    books: tokio::sync::Mutex<Option<mysql_async::Conn>>,
    /// What the snapshot waits for.
    waiting: Mutex<Option<String>>,
}

/// Opens a MySQL or MariaDB source.
pub fn open(options: SourceOptions) -> Result<Arc<dyn Source>> {
    let info = MyConnInfo::parse("source.url", &options.url)?;
    if info.database.is_none() && options.selection.is_everything() {
        return Err(Error::config("source.url: no database").hint(
            "write mysql://user:password@host:3306/database, or say in [tables] include which databases' tables take part",
        ));
    }
    Ok(Arc::new(MysqlSource {
        info,
        program: format!("switchyard:{}", options.name),
        selection: options.selection,
        workers: options.workers,
        ids: Arc::new(TableIds::default()),
        whole_rows: options.whole_rows.into(),
        zero_dates: options.zero_dates,
        control: tokio::sync::Mutex::new(None),
        books: tokio::sync::Mutex::new(None),
        waiting: Mutex::new(None),
    }))
}

impl MysqlSource {
    async fn connect(&self) -> Result<MyConn> {
        let connected = MyConn::connect(&self.info, "source", &self.program, Preset::Source).await;
        connected.map_err(|e| check::unseen(e, self.info.database.as_deref()))
    }

    async fn control(&self) -> Result<tokio::sync::MappedMutexGuard<'_, MyConn>> {
        let mut held = self.control.lock().await;
        if held.as_ref().is_none_or(MyConn::is_closed) {
            *held = Some(self.connect().await?);
        }
        tokio::sync::MutexGuard::try_map(held, Option::as_mut)
            .map_err(|_| Error::retry("the session for questions to the source was lost"))
    }

    /// The catalog, and the session that it was read over, for further questions. One that failed is not used again.
    async fn catalog_and<T>(
        &self,
        further: impl AsyncFnOnce(&mut mysql_async::Conn, Catalog) -> Result<T>,
    ) -> Result<T> {
        let mariadb = self.control().await?.server().is_mariadb();
        let mut held = self.books.lock().await;
        let mut conn = match held.take() {
            Some(conn) => conn,
            None => control::connect(&self.info, "source", &self.program, Preset::Source).await?,
        };
        let catalog = match catalog::read(&mut conn, mariadb, &self.selection, &self.ids).await {
            // It may have stood idle for longer than the network liked.
            Err(e) if e.is_retry() => {
                conn = control::connect(&self.info, "source", &self.program, Preset::Source).await?;
                catalog::read(&mut conn, mariadb, &self.selection, &self.ids).await?
            }
            other => other?,
        };
        let done = further(&mut conn, catalog).await?;
        *held = Some(conn);
        Ok(done)
    }

    async fn catalog(&self) -> Result<Catalog> {
        self.catalog_and(async |_, catalog| Ok(catalog)).await
    }

    /// The described tables that correspond to `tables`, in the same order.
    async fn described(&self, tables: &[Arc<Table>]) -> Result<Vec<Described>> {
        let mut all = self.catalog().await?.tables;
        let mut out = Vec::with_capacity(tables.len());
        for t in tables {
            match all.iter().position(|d| d.table.name == t.name) {
                Some(i) if all[i].table.columns == t.columns => out.push(all.swap_remove(i)),
                _ => return Err(Error::retry(format!("{}: the source's table was altered just now", t.name))),
            }
        }
        Ok(out)
    }

    async fn snapshot(&self, tables: &[Arc<Table>], start: Option<LogIdentity>) -> Result<Box<dyn SnapshotSession>> {
        let described = self.described(tables).await?;
        let opening = Opening {
            info: &self.info,
            name: &self.program,
            readers: self.workers,
            tables: described,
            zero_dates: self.zero_dates,
            start,
            waiting: &self.waiting,
        };
        let session = MySnapshot::open(opening).await;
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let session = session?;
        // Now that nothing can change them any more: whoever altered a table a moment ago is seen here.
        self.described(tables).await?;
        Ok(Box::new(session))
    }
}

#[async_trait]
impl Source for MysqlSource {
    fn engine(&self) -> &'static str {
        "mysql"
    }

    async fn server(&self) -> Result<ServerInfo> {
        let conn = self.control().await?;
        let server = conn.server();
        Ok(ServerInfo {
            engine: match server.flavour {
                Flavour::Mysql => "mysql".into(),
                Flavour::Mariadb => "mariadb".into(),
            },
            version: server.version.clone(),
            database: self.info.database.clone().unwrap_or_default(),
            address: self.info.address(),
        })
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        let server = self.control().await?.server().clone();
        self.catalog_and(async |conn, catalog| {
            check::check(conn, server.flavour, server.number, &catalog, &self.selection, self.info.database.as_deref())
                .await
        })
        .await
    }

    async fn facts(&self) -> Result<SourceFacts> {
        let mut conn = self.control().await?;
        let doing = "asking the source who it is";
        let sql = match conn.flavour() {
            Flavour::Mysql => "SELECT @@GLOBAL.server_uuid",
            // It has none; what names a data directory on a host is as good.
            Flavour::Mariadb => "SELECT CONCAT(@@hostname, ':', @@port, ':', @@datadir)",
        };
        let id = place::one(&mut conn, doing, sql).await?;
        Ok(SourceFacts {
            identity: Some(DatabaseIdentity {
                system_identifier: id.clone(),
                database: self.info.database.clone().unwrap_or_default(),
            }),
            encoding: None,
            server_id: Some(id),
            extensions: Vec::new(),
        })
    }

    async fn tables(&self) -> Result<Vec<Arc<Table>>> {
        let catalog = self.catalog().await?;
        Ok(catalog.tables.into_iter().map(|d| d.table).collect())
    }

    async fn schema_script(&self, tables: &[Arc<Table>], _snapshot: Option<&str>) -> Result<SchemaScript> {
        let dialect = match self.control().await?.flavour() {
            Flavour::Mysql => "mysql",
            Flavour::Mariadb => "mariadb",
        };
        self.catalog_and(async |conn, mut catalog| {
            catalog.tables.retain(|d| tables.iter().any(|t| t.name == d.table.name));
            script::script(conn, dialect, &catalog).await
        })
        .await
    }

    async fn begin(&self, tables: &[Arc<Table>]) -> Result<Box<dyn SnapshotSession>> {
        self.snapshot(tables, None).await
    }

    async fn verify_log(&self, identity: &LogIdentity, position: &Position) -> Result<()> {
        place::verify(&mut *self.control().await?, identity, position).await
    }

    async fn snapshot_again(&self, identity: &LogIdentity, tables: &[Arc<Table>]) -> Result<Box<dyn SnapshotSession>> {
        self.snapshot(tables, Some(identity.clone())).await
    }

    async fn held_up(&self) -> Result<Option<String>> {
        Ok(self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    async fn tail(
        &self,
        _identity: &LogIdentity,
        from: Position,
        _tables: &[Arc<Table>],
        out: queue::EventSender,
        _confirmed: watch::Receiver<Position>,
    ) -> Result<()> {
        let Position::Binlog(from) = from else {
            return Err(Error::fatal(format!("{from} is no place in a binary log")));
        };
        let catalog = self.catalog().await?;
        let doing = "asking how the source writes names";
        let names = place::one(&mut *self.control().await?, doing, "SELECT @@lower_case_table_names").await?;
        let conn = self.connect().await?;
        let known = follow::Known {
            lower_case: names != "0",
            selection: self.selection.clone(),
            ids: {
                let ids = self.ids.clone();
                Arc::new(move |name: &TableName| ids.id(name))
            },
            whole_rows: self.whole_rows.clone(),
            zero_dates: self.zero_dates,
            cascades: cascade::Cascades::new(catalog.cascades.clone(), names != "0"),
        };
        tail::run(conn, &self.program, from, known, &catalog, out).await
    }

    async fn health(&self, _identity: &LogIdentity) -> Result<LogHealth> {
        place::health(&mut *self.control().await?).await
    }

    async fn mark(&self, token: &str) -> Result<Position> {
        let mut conn = self.control().await?;
        let doing = "writing a marker into the source's log";
        let table = format!("{}.{}", quoted(MARKERS.0), quoted(MARKERS.1));
        // Statements that change nothing are not logged, so this costs the log three short transactions once.
        for sql in [
            format!("CREATE DATABASE IF NOT EXISTS {}", quoted(MARKERS.0)),
            format!(
                "CREATE TABLE IF NOT EXISTS {table} (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, \
                 token VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL) ENGINE = InnoDB"
            ),
            format!("INSERT INTO {table} (token) VALUES ({})", literal(token)),
        ] {
            conn.execute(&sql).await.context(doing)?;
        }
        place::now(&mut conn).await
    }

    async fn reread(&self, table: &Table, key: &Row) -> Result<(Option<Row>, Position)> {
        let doing = || format!("reading a row of {} again at the source", table.name);
        let described = self.catalog().await?.tables;
        let mut conn = self.control().await?;
        let Some(d) = described.iter().find(|d| d.table.name == table.name) else {
            return Ok((None, place::now(&mut conn).await?));
        };
        let mut exprs = Vec::new();
        let mut kinds = Vec::new();
        let mut conditions = Vec::new();
        for (i, c) in table.columns.iter().enumerate() {
            let Some(Ok(kind)) = d.table.column(&c.name).and_then(|i| d.types.get(i)) else {
                return Err(Error::retry(format!("{}: the source's table was altered just now", table.name)));
            };
            exprs.push(kind.select_expr(&quoted(&c.name)));
            if table.key().contains(&i) {
                let value = match key.get(i) {
                    Datum::Text(t) => bounds::value(kind, &String::from_utf8_lossy(t)),
                    _ => "NULL".to_owned(),
                };
                conditions.push(format!("{} = {value}", quoted(&c.name)));
            }
            kinds.push(kind.clone());
        }
        let sql =
            format!("SELECT {} FROM {} WHERE {}", exprs.join(", "), qualified(&table.name), conditions.join(" AND "));
        let found = conn.query(&sql).await.with_context(doing)?.into_iter().next();
        let row = match found {
            None => None,
            Some(fields) => {
                let mut b = RowBuilder::with_capacity(fields.len(), 256);
                let mut text = Vec::new();
                for (field, kind) in fields.iter().zip(&kinds) {
                    match field {
                        None => b.push(Datum::Null),
                        Some(f) => {
                            text.clear();
                            kind.render_text(f, &mut text).map_err(|e| Error::fatal(e).context(doing()))?;
                            b.push(Datum::Text(&text));
                        }
                    }
                }
                Some(b.finish())
            }
        };
        Ok((row, place::now(&mut conn).await?))
    }

    async fn finish(&self) -> Result<Vec<String>> {
        let mut conn = self.control().await?;
        let doing = "removing what the migration made at the source";
        let there =
            format!("SELECT table_name FROM information_schema.tables WHERE table_schema = {}", literal(MARKERS.0));
        let tables = place::texts(&mut conn, doing, &there).await?;
        let mut said = Vec::new();
        let is_marker = |r: &Vec<Option<String>>| r.first().cloned().flatten().as_deref() == Some(MARKERS.1);
        if tables.iter().any(is_marker) {
            conn.execute(format!("DROP TABLE {}.{}", quoted(MARKERS.0), quoted(MARKERS.1))).await.context(doing)?;
            said.push(format!("dropped the table {}.{} at the source", MARKERS.0, MARKERS.1));
            // On a server that is a target as well, the bookkeeping lies there, too.
            if tables.len() == 1 {
                conn.execute(format!("DROP DATABASE {}", quoted(MARKERS.0))).await.context(doing)?;
            }
        }
        Ok(said)
    }
}
