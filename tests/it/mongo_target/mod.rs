//! PostgreSQL and MySQL copied and followed into MongoDB, through the daemon.

mod crashes;
mod documents;
mod keys;
mod lists;
mod rows;
mod schema;

use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use bson::{Bson, Document, doc};
use switchyard::sandbox::{self, MongoServer, PgServer};

use crate::support::{Config, Daemon, Sql, fresh_name, wait_until};

pub const PATIENCE: Duration = Duration::from_secs(60);

/// A PostgreSQL database and a MongoDB database of one name.
pub struct Pair {
    source: String,
    target: String,
    pub name: String,
    mongo: String,
}

fn servers() -> &'static Mutex<(PgServer, MongoServer)> {
    // A static is never dropped: the servers end with the process, and the next ones sweep their folders.
    static SHARED: OnceLock<Mutex<(PgServer, MongoServer)>> = OnceLock::new();
    SHARED.get_or_init(|| Mutex::new((postgres(), mongo())))
}

pub fn postgres() -> PgServer {
    PgServer::builder(&sandbox::find_postgres(None).unwrap())
        .setting("fsync", "off")
        .setting("wal_sender_timeout", "10s")
        .setting("max_wal_senders", "50")
        .setting("max_replication_slots", "50")
        .start()
        .unwrap()
}

pub fn mongo() -> MongoServer {
    // The usual cache of a test server has no room for a transaction of some ten megabytes.
    MongoServer::builder(&sandbox::find_mongo().unwrap()).setting("wiredTigerCacheSizeGB", "1").start().unwrap()
}

impl Pair {
    /// On servers that the tests of this process share.
    pub fn shared(what: &str, tables: &str) -> Pair {
        let shared = servers().lock().unwrap_or_else(|e| e.into_inner());
        Pair::on(&shared.0, &shared.1, what, tables)
    }
    pub fn on(pg: &PgServer, mongo: &MongoServer, what: &str, tables: &str) -> Pair {
        let name = fresh_name(what);
        pg.psql(&format!("create database {name}")).unwrap();
        let pair = Pair { source: pg.url(&name), target: mongo.url(&name), mongo: mongo.url("admin"), name };
        pair.source().run(tables);
        pair
    }
    pub fn config(&self) -> Config {
        Config::new(&self.name, &self.source, &self.target)
    }
    pub fn source(&self) -> Sql {
        Sql::connect(&self.source)
    }
    pub fn target(&self) -> Mongo {
        Mongo::connect(&self.mongo, &self.name)
    }
    /// A daemon that is ready, and the session that rows are written with.
    pub fn ready(&self) -> (Daemon, Sql) {
        let mut daemon = Daemon::spawn(&self.config());
        daemon.ready();
        (daemon, self.source())
    }
}

/// A blocking session.
pub struct Mongo {
    runtime: tokio::runtime::Runtime,
    client: mongodb::Client,
    database: String,
}

impl Mongo {
    pub fn connect(url: &str, database: &str) -> Mongo {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(mongodb::Client::with_uri_str(url)).unwrap();
        Mongo { runtime, client, database: database.to_owned() }
    }
    pub fn run_in(&self, database: &str, command: Document) -> Document {
        self.runtime.block_on(async { self.client.database(database).run_command(command).await }).unwrap()
    }
    pub fn run(&self, command: Document) -> Document {
        self.run_in(&self.database, command)
    }
    /// All documents of a collection that match, by `_id`.
    pub fn find_in(&self, database: &str, collection: &str, filter: Document) -> Vec<Document> {
        self.runtime.block_on(async {
            let collection = self.client.database(database).collection::<Document>(collection);
            let mut cursor = collection.find(filter).sort(doc! { "_id": 1 }).await.unwrap();
            let mut all = Vec::new();
            while cursor.advance().await.unwrap() {
                all.push(cursor.deserialize_current().unwrap());
            }
            all
        })
    }
    pub fn all(&self, collection: &str) -> Vec<Document> {
        self.find_in(&self.database, collection, doc! {})
    }
    pub fn one(&self, collection: &str, id: impl Into<Bson>) -> Document {
        let id = id.into();
        let found = self.find_in(&self.database, collection, doc! { "_id": id.clone() });
        assert_eq!(found.len(), 1, "{collection} {id}");
        found.into_iter().next().unwrap()
    }
    pub fn count(&self, collection: &str) -> i32 {
        self.run(doc! { "count": collection }).get_i32("n").unwrap()
    }
    /// Waits until a collection has a document.
    pub fn wait_for(&self, collection: &str, filter: Document) {
        wait_until(&format!("{collection} has {filter}"), PATIENCE, || {
            !self.find_in(&self.database, collection, filter.clone()).is_empty()
        });
    }
    /// Waits until the collections have what the queries give: column names, `_id` the first.
    pub fn wait_same(&self, sql: &mut Sql, collection: &str, query: &str) {
        let want: Vec<Vec<Option<String>>> = sql.rows(query);
        let texts = |d: &Document| -> Vec<Option<String>> {
            d.values()
                .map(|v| match v {
                    Bson::Null => None,
                    Bson::String(s) => Some(s.clone()),
                    Bson::Boolean(b) => Some(if *b { "t" } else { "f" }.to_owned()),
                    other => Some(other.to_string()),
                })
                .collect()
        };
        let mut have = Vec::new();
        let mut sorted = want.clone();
        sorted.sort();
        let same = crate::support::poll(PATIENCE, || {
            have = self.all(collection).iter().map(texts).collect();
            have.sort();
            (have == sorted).then_some(())
        });
        if same.is_none() {
            let only = |a: &[Vec<Option<String>>], b: &[Vec<Option<String>>]| -> Vec<Vec<Option<String>>> {
                a.iter().filter(|r| !b.contains(r)).take(5).cloned().collect()
            };
            panic!(
                "{collection}: {} rows, {} documents; only at the source {:?}; only on the target {:?}",
                sorted.len(),
                have.len(),
                only(&sorted, &have),
                only(&have, &sorted)
            );
        }
    }
}
