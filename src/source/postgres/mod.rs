//! PostgreSQL as a source: a logical slot with its exported snapshot, pgoutput, COPY.

pub mod catalog;
pub mod check;
pub mod ddl;
mod default_value;
mod definition;
pub mod dump;
mod dump_text;
mod left_behind;
pub mod pgoutput;
pub mod replication;
pub mod resolve;
pub mod script;
pub mod slot;
pub mod snapshot;
mod walsender;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex, watch};
use tokio_postgres::Client;

use self::catalog::{Described, TableIds};
use self::replication::ReplicationStream;
use self::snapshot::{PgSnapshot, Place};
use crate::error::{Error, Result, ResultExt};
use crate::finding::Finding;
use crate::pgwire::conninfo::ConnInfo;
use crate::pgwire::control;
use crate::pgwire::errors::wrap;
use crate::pgwire::quote::{literal, qualified, quoted};
use crate::pgwire::scan::PgScanner;
use crate::position::{Lsn, Position};
use crate::schema::{SchemaScript, ServerInfo, Table};
use crate::source::{
    DatabaseIdentity, LogHealth, LogIdentity, Scanner, SnapshotSession, Source, SourceFacts, SourceOptions, queue,
};
use crate::transform::select::Selection;
use crate::value::{Datum, Row, RowBuilder};

/// How long `finish` and a fresh start wait for the walsender of a former run to let go of the slot.
const SLOT_PATIENCE: Duration = Duration::from_secs(20);

/// A PostgreSQL database that is copied from and followed.
pub struct PostgresSource {
    info: ConnInfo,
    migration: String,
    names: slot::Names,
    selection: Selection,
    ids: Arc<TableIds>,
    /// One session for questions, made when first needed and again after it was lost.
    control: Mutex<Option<Arc<Client>>>,
}

/// Opens a PostgreSQL source.
pub fn open(options: SourceOptions) -> Result<Arc<dyn Source>> {
    Ok(Arc::new(PostgresSource {
        info: ConnInfo::parse("source.url", &options.url)?,
        names: slot::Names::of(&options.name),
        migration: options.name,
        selection: options.selection,
        ids: Arc::new(TableIds::default()),
        control: Mutex::new(None),
    }))
}

impl PostgresSource {
    async fn control(&self) -> Result<Arc<Client>> {
        let mut held = self.control.lock().await;
        if let Some(c) = held.as_ref().filter(|c| !c.is_closed()) {
            return Ok(c.clone());
        }
        let c = Arc::new(control::connect(&self.info, "source").await?);
        *held = Some(c.clone());
        Ok(c)
    }

    /// The described tables that correspond to `tables`, in the same order.
    async fn described(&self, client: &Client, tables: &[Arc<Table>]) -> Result<Vec<Described>> {
        let mut all = catalog::read(client, &self.selection, &self.ids).await?.tables;
        let mut out = Vec::with_capacity(tables.len());
        for t in tables {
            match all.iter().position(|d| d.table.name == t.name) {
                // The tables were listed a moment ago; one that looks otherwise now was altered since.
                Some(i) if all[i].table.columns == t.columns => out.push(all.swap_remove(i)),
                _ => return Err(Error::retry(format!("{}: the source's table was altered just now", t.name))),
            }
        }
        Ok(out)
    }
}

impl PostgresSource {
    /// Opens the snapshot and looks once more at the tables, which cannot change any more: one that was altered while
    /// the slot waited for older transactions would be copied without its new columns, and the log would not tell.
    async fn opened(
        &self,
        client: &Client,
        exporter: ReplicationStream,
        snapshot: String,
        place: Place,
        tables: &[Arc<Table>],
        described: Vec<Described>,
    ) -> Result<Box<dyn SnapshotSession>> {
        let session = PgSnapshot::open(&self.info, exporter, snapshot, place, described).await?;
        self.described(client, tables).await?;
        Ok(Box::new(session))
    }
}

#[async_trait]
impl Source for PostgresSource {
    fn engine(&self) -> &'static str {
        "postgres"
    }

    async fn server(&self) -> Result<ServerInfo> {
        control::server(&*self.control().await?, &self.info).await
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        check::check(&*self.control().await?, &self.info, &self.migration, &self.selection, &self.ids).await
    }

    async fn facts(&self) -> Result<SourceFacts> {
        let client = self.control().await?;
        let row = client
            .query_one(
                "SELECT s.system_identifier::text, d.datname::text, pg_catalog.pg_encoding_to_char(d.encoding)::text, \
                 ARRAY(SELECT extname::text FROM pg_catalog.pg_extension WHERE extname <> 'plpgsql' ORDER BY 1) \
                 FROM pg_catalog.pg_control_system() s, pg_catalog.pg_database d \
                 WHERE d.datname = pg_catalog.current_database()",
                &[],
            )
            .await
            .map_err(|e| wrap("asking the source who it is", &e))?;
        let id: String = row.get(0);
        Ok(SourceFacts {
            identity: Some(DatabaseIdentity { system_identifier: id.clone(), database: row.get(1) }),
            encoding: Some(row.get(2)),
            server_id: Some(id),
            extensions: row.get(3),
        })
    }

    async fn tables(&self) -> Result<Vec<Arc<Table>>> {
        catalog::tables(&*self.control().await?, &self.selection, &self.ids).await
    }

    async fn schema_script(&self, tables: &[Arc<Table>], snapshot: Option<&str>) -> Result<SchemaScript> {
        let client = self.control().await?;
        let names: Vec<_> = tables.iter().map(|t| t.name.clone()).collect();
        let major = catalog::server_major(&client).await?;
        let script = match dump::find(major).await {
            Some(program) => {
                dump::dump(&program, &client, &self.info, snapshot, &names, self.selection.is_everything()).await?
            }
            None => {
                tracing::warn!("no pg_dump of version {major} or newer is here: {}", script::NOT_BROUGHT);
                let mut catalog = catalog::read(&client, &self.selection, &self.ids).await?;
                catalog.tables.retain(|d| names.contains(&d.table.name));
                script::script(&client, &catalog, self.selection.is_everything()).await?
            }
        };
        Ok(SchemaScript { tables: definition::definitions(&client, tables).await?, ..script })
    }

    async fn begin(&self, tables: &[Arc<Table>]) -> Result<Box<dyn SnapshotSession>> {
        let client = self.control().await?;
        slot::drop_slot(&client, &self.names.slot, SLOT_PATIENCE).await?;
        ddl::install(&client).await?;
        slot::create_publication(&client, &self.names, tables).await?;
        ddl::set_selection(&client, &self.names.publication, &self.selection).await?;
        ddl::watch_truncates(&client, &self.names.publication).await?;
        let described = self.described(&client, tables).await?;
        let mut exporter = ReplicationStream::connect(&self.info, "source").await?;
        let created = exporter.create_slot(&self.names.slot, false, true).await?;
        // A table that was made since they were listed is neither in the copy nor announced in the log.
        let now = catalog::tables(&client, &self.selection, &self.ids).await?;
        if !now.iter().map(|t| &t.name).eq(tables.iter().map(|t| &t.name)) {
            return Err(Error::retry("beginning at the source: tables were made or dropped just now"));
        }
        let identity = slot::identity(&client, &self.names, created.consistent_point).await?;
        let at = Position::Lsn(created.consistent_point);
        let snapshot = created.snapshot.ok_or_else(|| Error::fatal("the source exported no snapshot with the slot"))?;
        let place = Place { start: at.clone(), at, identity };
        self.opened(&client, exporter, snapshot, place, tables, described).await
    }

    async fn verify_log(&self, identity: &LogIdentity, position: &Position) -> Result<()> {
        slot::verify_log(&*self.control().await?, identity, position).await
    }

    async fn snapshot_again(&self, identity: &LogIdentity, tables: &[Arc<Table>]) -> Result<Box<dyn SnapshotSession>> {
        let client = self.control().await?;
        slot::publish_missing(&client, &self.names, tables).await?;
        let described = self.described(&client, tables).await?;
        let name = self.names.copy_slot();
        // Its names are given out under the target's lock: whoever uses this one is a former session of ours that the
        // server still takes for alive, because nobody speaks on it.
        slot::end_user(&client, &name).await?;
        let mut exporter = ReplicationStream::connect(&self.info, "source").await?;
        // A temporary slot is the only way to a snapshot whose place in the log is known exactly. It goes with its session.
        let created = exporter.create_slot(&name, true, true).await?;
        let snapshot = created.snapshot.ok_or_else(|| Error::fatal("the source exported no snapshot with the slot"))?;
        let place = Place {
            start: identity.start.clone(),
            at: Position::Lsn(created.consistent_point),
            identity: identity.clone(),
        };
        self.opened(&client, exporter, snapshot, place, tables, described).await
    }

    async fn held_up(&self) -> Result<Option<String>> {
        slot::held_up(&*self.control().await?, &self.names).await
    }

    async fn tail(
        &self,
        _identity: &LogIdentity,
        from: Position,
        tables: &[Arc<Table>],
        out: queue::EventSender,
        confirmed: watch::Receiver<Position>,
    ) -> Result<()> {
        let from = from.lsn().unwrap_or_default();
        let client = self.control().await?;
        ddl::set_selection(&client, &self.names.publication, &self.selection).await?;
        // Rows of a table that was excluded since are passed over anyhow; this only spares sending them.
        if let Err(e) = slot::unpublish_excluded(&client, &self.names, &self.selection).await {
            tracing::warn!("excluded tables stay in the publication: {e}");
        }
        let mut stream = ReplicationStream::connect(&self.info, "source").await?;
        stream.start(&self.names.slot, from, &self.names.publication).await?;
        let mut resolver =
            ddl::CatalogResolver::new(self.info.clone(), self.selection.clone(), self.ids.clone(), tables)
                .through(&self.names.publication);
        stream.run(&mut resolver, out, confirmed).await
    }

    async fn health(&self, identity: &LogIdentity) -> Result<LogHealth> {
        slot::health(&*self.control().await?, identity).await
    }

    async fn mark(&self, token: &str) -> Result<Position> {
        let client = self.control().await?;
        let json = serde_json::json!({ "marker": token }).to_string();
        let row = client
            .query_one("SELECT pg_catalog.pg_logical_emit_message(true, 'switchyard', $1)::text", &[&json])
            .await
            .map_err(|e| wrap("writing a marker into the source's log", &e))?;
        row.get::<_, String>(0).parse().map_err(|e: String| Error::fatal(e))
    }

    async fn reread(&self, table: &Table, key: &Row) -> Result<(Option<Row>, Position)> {
        let client = self.control().await?;
        let columns: Vec<_> = table.columns.iter().map(|c| format!("t.{}", quoted(&c.name))).collect();
        let conditions: Vec<_> = table
            .key()
            .iter()
            .map(|&k| {
                let c = &table.columns[k];
                let value = match key.get(k) {
                    Datum::Text(t) => literal(&String::from_utf8_lossy(t)),
                    _ => "NULL".to_owned(),
                };
                format!("t.{} = {value}", quoted(&c.name))
            })
            .collect();
        // A child of an inheritance parent may have a row of the same key.
        let sql = format!(
            "SELECT {} FROM {}{} t WHERE {}",
            columns.join(", "),
            if table.partitioned { "" } else { "ONLY " },
            qualified(&table.name),
            conditions.join(" AND ")
        );
        let doing = || format!("reading a row of {} again at the source", table.name);
        // The simple protocol gives every column in its text form.
        let messages = client.simple_query(&sql).await.map_err(|e| wrap(doing(), &e))?;
        let row = messages.iter().find_map(|m| match m {
            tokio_postgres::SimpleQueryMessage::Row(r) => {
                let mut b = RowBuilder::with_capacity(r.len(), 256);
                for i in 0..r.len() {
                    b.push(r.get(i).map_or(Datum::Null, |t| Datum::Text(t.as_bytes())));
                }
                Some(b.finish())
            }
            _ => None,
        });
        let now = client
            .query_one("SELECT pg_catalog.pg_current_wal_insert_lsn()::text", &[])
            .await
            .map_err(|e| wrap(doing(), &e))?;
        let now: Lsn = now.get::<_, String>(0).parse().map_err(|e: String| Error::fatal(e)).with_context(doing)?;
        Ok((row, Position::Lsn(now)))
    }

    async fn scanner(&self) -> Result<Box<dyn Scanner>> {
        Ok(Box::new(PgScanner::connect(&self.info, "source").await?))
    }

    async fn finish(&self) -> Result<Vec<String>> {
        slot::finish(&*self.control().await?, &self.names).await
    }
}
