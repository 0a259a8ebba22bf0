//! MongoDB as a source: collections in ranges of `_id`, and change streams.

mod batches;
mod bounds;
mod catalog;
mod check;
mod entries;
mod event;
mod follow;
mod index;
mod known;
mod lookup;
pub mod mapping;
mod mark;
mod oplog;
mod place;
mod rights;
pub mod sample;
pub mod sampling;
mod snapshot;
mod tail;
mod token;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bson::{Document, doc};
use mongodb::Client;
use tokio::sync::watch as channel;

use self::batches::{Batches, Opening};
use self::catalog::Catalog;
use self::event::Reply;
use self::follow::Follower;
use self::known::{Described, Known};
use self::rights::Way;
use self::snapshot::{Beginning, MongoSnapshot};
use self::tail::Tailing;
use self::token::Time;
use self::watch::{From, Wanted};
use crate::error::{Error, Result};
use crate::exchange::Follow;
use crate::finding::Finding;
use crate::mongowire::command;
use crate::mongowire::conninfo::MongoConnInfo;
use crate::mongowire::server::{self, Server};
use crate::position::Position;
use crate::schema::{SchemaScript, ServerInfo, Table, TableName};
use crate::source::ids::TableIds;
use crate::source::{
    DatabaseIdentity, LogHealth, LogIdentity, SnapshotSession, Source, SourceFacts, SourceOptions, queue,
};
use crate::value::Row;

/// A replica set or sharded cluster that is copied from and followed.
pub struct MongoSource {
    info: MongoConnInfo,
    /// What the server's log shows.
    program: String,
    known: Known,
    whole_rows: Arc<[TableName]>,
    /// The driver's pool of connections, made when first needed, with what the server said of itself and how it is
    /// followed.
    client: tokio::sync::Mutex<Option<(Client, Server, Way)>>,
    /// How it is to be followed.
    follow: Follow,
    /// The place that the oplog has to reach back to: the target's checkpoint, as far as it is known.
    needed: Arc<Mutex<Option<Time>>>,
}

/// Opens a MongoDB source.
///
/// # Errors
/// [`crate::error::Class::Config`] for a URL that cannot be meant.
pub fn open(options: SourceOptions) -> Result<Arc<dyn Source>> {
    let info = MongoConnInfo::parse("source.url", &options.url)?;
    if info.database().is_none() && options.selection.is_everything() {
        return Err(Error::config("source.url: no database").hint(
            "write mongodb://user:password@host:27017/database, or say in [tables] include which databases' collections take part",
        ));
    }
    let ids = TableIds::default();
    Ok(Arc::new(MongoSource {
        program: format!("switchyard:{}", options.name),
        known: Known {
            selection: options.selection,
            home: info.database().map(str::to_owned),
            fields: Arc::new(options.collections),
            options: mapping::Options { documents: options.documents, nul_text: options.nul_text },
            images: true,
            ids: Arc::new(move |name| ids.id(name)),
        },
        whole_rows: options.whole_rows.into(),
        client: tokio::sync::Mutex::new(None),
        follow: options.follow,
        needed: Arc::new(Mutex::new(None)),
        info,
    }))
}

impl MongoSource {
    async fn client(&self) -> Result<(Client, Server)> {
        let (client, server, _) = self.connected().await?;
        Ok((client, server))
    }

    async fn connected(&self) -> Result<(Client, Server, Way)> {
        let mut held = self.client.lock().await;
        if let Some(all) = &*held {
            return Ok(all.clone());
        }
        let client = self.info.connect("source", &self.program).await?;
        let server = Server::ask(&client, "asking the source what it is").await?;
        let way = rights::way(&client, &server, &self.known, self.follow).await?;
        Ok(held.insert((client, server, way)).clone())
    }

    /// What is known of collections that are followed this way.
    fn known_by(&self, way: Way) -> Known {
        Known { images: way == Way::Streams, ..self.known.clone() }
    }

    async fn catalog(&self) -> Result<Catalog> {
        let (client, _, way) = self.connected().await?;
        catalog::read(&client, &self.known_by(way)).await
    }

    async fn described(&self, tables: &[Arc<Table>]) -> Result<Vec<Described>> {
        catalog::of(self.catalog().await?, tables)
    }

    fn needs(&self, from: Time) {
        *self.needed.lock().unwrap_or_else(PoisonError::into_inner) = Some(from);
    }

    fn needed(&self) -> Option<Time> {
        *self.needed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place in the oplog that a majority has, before anything is read.
    async fn now(&self, client: &Client) -> Result<place::Moment> {
        let (database, collection) = self.known.markers();
        place::majority(client, database, collection).await
    }

    /// Fails unless the source can be followed from this place.
    async fn prove_stream(&self, client: &Client, server: &Server, way: Way, at: Time) -> Result<()> {
        if way == Way::Oplog {
            return entries::prove(client, at).await;
        }
        let new = server.number.0 >= 6;
        let wanted = Wanted { from: From::Token, expanded: new, images: new, pieces: false, keys_only: false };
        let (database, command) = watch::command(&self.known, &at.position(), wanted, 1);
        let doing = "opening the source's change stream".to_owned();
        let opening = Opening { database, command, batch: 1, wait: Some(std::time::Duration::from_millis(1)), doing };
        Batches::open(client, opening).next(command::PATIENCE).await.map(drop)
    }

    fn session(
        &self,
        client: Client,
        tables: Vec<Described>,
        identity: LogIdentity,
        now: place::Moment,
        needed: Time,
    ) -> Box<dyn SnapshotSession> {
        let (database, collection) = self.known.markers();
        let markers = (database.to_owned(), collection.to_owned());
        Box::new(MongoSnapshot::new(Beginning { client, tables, identity, now, needed, markers }))
    }
}

/// Follows the source the given way.
async fn following(tailing: Tailing, way: Way, out: queue::EventSender) -> Result<()> {
    match way {
        Way::Streams => tail::run(tailing, out).await,
        Way::Oplog => {
            tracing::info!("the source is followed by its oplog");
            entries::run(tailing, out).await
        }
    }
}

#[async_trait]
impl Source for MongoSource {
    fn engine(&self) -> &'static str {
        "mongo"
    }

    async fn server(&self) -> Result<ServerInfo> {
        let (_, server) = self.client().await?;
        Ok(ServerInfo {
            engine: "mongo".into(),
            version: server.version,
            database: self.info.database().unwrap_or_default().to_owned(),
            address: self.info.address().to_owned(),
        })
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        let (client, server, way) = self.connected().await?;
        check::check(&client, &server, &self.known_by(way), way).await
    }

    async fn facts(&self) -> Result<SourceFacts> {
        let (client, server) = self.client().await?;
        let id = server::cluster_id(&client, &server, "asking the source who it is").await?;
        Ok(SourceFacts {
            identity: Some(DatabaseIdentity {
                system_identifier: id.clone(),
                database: self.info.database().unwrap_or_default().to_owned(),
            }),
            encoding: None,
            server_id: Some(id),
            extensions: Vec::new(),
        })
    }

    fn copies_one_moment(&self) -> bool {
        false
    }

    async fn tables(&self) -> Result<Vec<Arc<Table>>> {
        Ok(self.catalog().await?.tables.into_iter().map(|d| d.table).collect())
    }

    async fn schema_script(&self, tables: &[Arc<Table>], _snapshot: Option<&str>) -> Result<SchemaScript> {
        let (client, _) = self.client().await?;
        let mut catalog = self.catalog().await?;
        catalog.tables.retain(|d| tables.iter().any(|t| t.name == d.table.name));
        let mut defs = Vec::with_capacity(catalog.tables.len());
        let mut objects = Vec::new();
        for d in &catalog.tables {
            let mut def = d.def.clone();
            let (carried, left) = index::sorted(d, &catalog::indexes(&client, &d.table.name).await?);
            objects.extend(carried);
            def.left_behind.extend(left);
            defs.push(def);
        }
        let remarks = catalog.beside.iter().map(|b| format!("{b} is not brought to the target")).collect();
        Ok(SchemaScript {
            dialect: "mongo".into(),
            made_by: "catalog".into(),
            objects,
            tables: defs,
            remarks,
            ..SchemaScript::default()
        })
    }

    async fn begin(&self, tables: &[Arc<Table>]) -> Result<Box<dyn SnapshotSession>> {
        let (client, server, way) = self.connected().await?;
        let now = self.now(&client).await?;
        // Collections that are made from here on come with the stream. One that was made since the tables were listed would be
        // in neither.
        let catalog = self.catalog().await?;
        if let Some(new) = catalog.tables.iter().find(|d| !tables.iter().any(|t| t.name == d.table.name)) {
            return Err(Error::retry(format!("{}: the collection was made at the source just now", new.table.name)));
        }
        let tables = catalog::of(catalog, tables)?;
        self.prove_stream(&client, &server, way, now.time).await?;
        let identity = place::identity(&client, &server, Position::Oplog(now.time.position())).await?;
        self.needs(now.time);
        Ok(self.session(client, tables, identity, now, now.time))
    }

    async fn verify_log(&self, identity: &LogIdentity, position: &Position) -> Result<()> {
        let (client, server) = self.client().await?;
        place::verify(&client, &server, identity, position).await?;
        if let Some(at) = position.oplog() {
            self.needs(at.into());
        }
        Ok(())
    }

    async fn snapshot_again(&self, identity: &LogIdentity, tables: &[Arc<Table>]) -> Result<Box<dyn SnapshotSession>> {
        let (client, _) = self.client().await?;
        let now = self.now(&client).await?;
        let tables = self.described(tables).await?;
        // The same place as at first: everything behind it is replayed over what is read now, so what was read
        // before the interruption keeps its meaning, too.
        let start = identity.start.oplog().map_or(now.time, Time::from);
        let needed = self.needed().unwrap_or(start);
        Ok(self.session(client, tables, identity.clone(), now, needed))
    }

    async fn held_up(&self) -> Result<Option<String>> {
        Ok(None)
    }

    async fn tail(
        &self,
        _identity: &LogIdentity,
        from: Position,
        _tables: &[Arc<Table>],
        out: queue::EventSender,
        confirmed: channel::Receiver<Position>,
    ) -> Result<()> {
        let Position::Oplog(from) = from else {
            return Err(Error::fatal(format!("{from} is no place in an oplog")));
        };
        let (client, server, way) = self.connected().await?;
        let catalog = self.catalog().await?;
        let known = self.known_by(way);
        let tells = server.number.0 >= 6 || way == Way::Oplog;
        let document_bytes = catalog.tables.iter().map(|d| d.document_bytes).max().unwrap_or(0);
        // In one set, times are unique: what has the place's own is in the copy, or came by the oplog.
        let seen = Some(Time::from(&from)).filter(|_| from.token.is_none() && !server.is_router);
        let mut follower = Follower::new(known.clone(), catalog.tables, self.whole_rows.clone(), tells, from);
        follower.pass_until(seen.unwrap_or_default());
        let tailing = Tailing { client, known, version: server.number, follower, document_bytes };
        let (needed, mut confirmed) = (self.needed.clone(), confirmed);
        let durable = async move {
            loop {
                let at = confirmed.borrow_and_update().oplog().map(Time::from);
                *needed.lock().unwrap_or_else(PoisonError::into_inner) = at;
                if confirmed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            r = following(tailing, way, out) => r,
            () = durable => Ok(()),
        }
    }

    async fn health(&self, _identity: &LogIdentity) -> Result<LogHealth> {
        let (client, _) = self.client().await?;
        let now = place::now(&client).await?;
        Ok(place::health(now, self.needed(), place::window(&client).await?))
    }

    async fn mark(&self, token: &str) -> Result<Position> {
        let (client, _) = self.client().await?;
        let (database, collection) = self.known.markers();
        Ok(Position::Oplog(mark::write(&client, database, collection, token).await?.position()))
    }

    async fn reread(&self, table: &Table, row: &Row) -> Result<(Option<Row>, Position)> {
        let doing = format!("reading a document of {} again at the source", table.name);
        let (client, _) = self.client().await?;
        let described = self.described(&[Arc::new(table.clone())]).await?;
        let unreadable = || Error::fatal(format!("{doing}: its key cannot be read back"));
        let id = described.first().and_then(|d| d.mapping.filter(row).ok()).ok_or_else(unreadable)?;
        let id = Document::from_reader(&*id).map_err(|_| unreadable())?;
        // What is read is not newer than what the primary has afterwards, so the place is asked for behind the read.
        let command =
            doc! { "find": &*table.name.name, "filter": id, "batchSize": 1, "readConcern": { "level": "majority" } };
        let opening =
            Opening { database: table.name.schema.clone(), command, batch: 1, wait: None, doing: doing.clone() };
        let mut batches = Batches::open(&client, opening);
        let mut found = None;
        while let (Some(d), Some(batch)) = (described.first(), batches.next(command::PATIENCE).await?) {
            let reply = Reply::read(batch.as_raw_document().as_bytes());
            let broken = |e| Error::fatal(format!("{doing}: the source sent what cannot be read: {e}"));
            for document in reply.map_err(broken)?.documents() {
                let row = d.mapping.row(document.map_err(broken)?);
                found = Some(row.map_err(|misfit| Error::fatal(format!("{doing}: {misfit}")))?);
            }
        }
        Ok((found, Position::Oplog(place::now(&client).await?.time.next().position())))
    }

    async fn finish(&self) -> Result<Vec<String>> {
        let (client, _) = self.client().await?;
        let (database, collection) = self.known.markers();
        let doing = "removing what the migration made at the source";
        // Dropping what is not there is no error from 7.0 on, and 26 before.
        let there = doc! { "listCollections": 1, "filter": { "name": collection }, "nameOnly": true };
        let reply = command::run(&client, database, doing, there).await?;
        if server::first_batch(&reply).next().is_none() {
            return Ok(Vec::new());
        }
        command::run(&client, database, doing, doc! { "drop": collection, "writeConcern": { "w": "majority" } })
            .await?;
        Ok(vec![format!("dropped the collection {collection} of database {database} at the source")])
    }
}
