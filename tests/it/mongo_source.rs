//! MongoDB copied and followed into PostgreSQL, through the daemon.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bson::{Bson, Document, doc};
use switchyard::documents::cursor::Doc;
use switchyard::documents::ejson;
use switchyard::sandbox::{self, MongoServer, MongoServerBuilder, PgServer, Proxy};

use crate::support::{Config, Daemon, Sql, fresh_name, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);

/// A replica set, and a PostgreSQL server to bring its documents to.
pub struct Pair {
    pub source: MongoServer,
    pub target: PgServer,
    pub name: String,
}

impl Pair {
    pub fn start() -> Pair {
        Pair::start_with(|b| b)
    }
    pub fn start_with(source: impl FnOnce(MongoServerBuilder) -> MongoServerBuilder) -> Pair {
        let pg = sandbox::find_postgres(None).unwrap();
        let target = PgServer::builder(&pg).setting("fsync", "off").start().unwrap();
        let name = fresh_name("m");
        target.psql(&format!("create database {name}")).unwrap();
        let source = source(MongoServer::builder(&sandbox::find_mongo().unwrap())).start().unwrap();
        Pair { source, target, name }
    }
    pub fn config(&self) -> Config {
        Config::new(&self.name, &self.source.url("shop"), &self.target.url(&self.name))
    }
    pub fn on_target(&self) -> Sql {
        Sql::connect(&self.target.url(&self.name))
    }
    pub fn run(&self, command: Document) -> Document {
        self.source.run("shop", command).unwrap()
    }
    pub fn insert(&self, collection: &str, documents: Vec<Document>) {
        let reply =
            self.run(doc! { "insert": collection, "documents": documents, "writeConcern": { "w": "majority" } });
        assert!(reply.get("writeErrors").is_none(), "{reply}");
    }
    pub fn update(&self, collection: &str, id: impl Into<Bson>, change: Document) {
        self.run(doc! { "update": collection, "updates": [{ "q": { "_id": id.into() }, "u": change }],
        "writeConcern": { "w": "majority" } });
    }
    pub fn delete(&self, collection: &str, id: impl Into<Bson>) {
        self.run(doc! { "delete": collection, "deletes": [{ "q": { "_id": id.into() }, "limit": 1 }],
        "writeConcern": { "w": "majority" } });
    }
    /// All documents of a collection.
    pub fn documents(&self, collection: &str) -> Vec<Document> {
        let (url, collection) = (self.source.url("shop"), collection.to_owned());
        let found = self.source.wait_for(async move {
            let client = mongodb::Client::with_uri_str(url).await?;
            let mut cursor = client.database("shop").collection::<Document>(&collection).find(doc! {}).await?;
            let mut out = Vec::new();
            while cursor.advance().await? {
                out.push(cursor.deserialize_current()?);
            }
            Ok(out)
        });
        found.unwrap()
    }
    /// Waits until a marker document that is written now has come.
    pub fn level(&self) {
        let id = fresh_name("level");
        self.insert("level", vec![doc! { "_id": &id }]);
        let mut sql = self.on_target();
        wait_until("everything that was written has come", PATIENCE, || {
            sql.try_rows(&format!("select 1 from level where _id = '{id}'")).is_ok_and(|r| r.len() == 1)
        });
    }
    /// Panics unless the target's table has exactly the collection's documents.
    pub fn same(&self, collection: &str) {
        let mut sql = self.on_target();
        sql.run("drop table if exists expected; create temp table expected (doc jsonb)");
        let documents = self.documents(collection);
        for some in documents.chunks(500) {
            let values = some.iter().map(|d| {
                let bytes = d.to_vec().unwrap();
                let text = ejson::shown(Doc::new(&bytes).unwrap());
                format!("('{}')", text.replace('\'', "''"))
            });
            sql.run(&format!("insert into expected values {}", values.collect::<Vec<_>>().join(", ")));
        }
        let table = format!("\"{collection}\"");
        let differ = sql.rows(&format!(
            "(select 'missing', doc::text from (select doc from expected except all select doc::jsonb from {table}) a limit 5) \
             union all (select 'surplus', doc::text from (select doc::jsonb from {table} except all select doc from expected) b limit 5)"
        ));
        assert!(differ.is_empty(), "{collection}: {differ:#?}");
        assert_eq!(sql.number(&format!("select count(*) from {table}")), documents.len() as i64);
        assert_eq!(sql.number(&format!("select count(distinct _id) from {table}")), documents.len() as i64);
    }
}

/// One field of every type that a document can hold.
fn every_type() -> Document {
    doc! {
        "double": 1.0, "nan": f64::NAN, "infinite": f64::NEG_INFINITY, "text": "tïtle 🚂 \"quoted\" \\ \n", "empty": "",
        "nested": { "a.b": 1, "$c": { "d": [1, [2, null], { "e": true }] } }, "list": [], "object": {},
        "binary": Bson::Binary(bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![0, 255, 7] }),
        "uuid": Bson::Binary(bson::Binary { subtype: bson::spec::BinarySubtype::Uuid, bytes: (0..16).collect() }),
        "undefined": Bson::Undefined, "oid": bson::oid::ObjectId::parse_str("6b01b7d1fb9fc256ae8aa233").unwrap(),
        "yes": true, "date": bson::DateTime::from_millis(1_709_208_000_123), "early": bson::DateTime::from_millis(-99_999_999_999_999),
        "late": bson::DateTime::from_millis(i64::MAX), "null": null,
        "regex": Bson::RegularExpression(bson::Regex { pattern: bson::raw::cstr!("^a/\"").into(), options: bson::raw::cstr!("im").into() }),
        "code": Bson::JavaScriptCode("function() { return 1 }".into()), "symbol": Bson::Symbol("s".into()),
        "scoped": Bson::JavaScriptCodeWithScope(bson::JavaScriptCodeWithScope { code: "x".into(), scope: doc! { "x": 1 } }),
        "int": 2_147_483_647, "long": 9_223_372_036_854_775_807_i64, "small": 5_i64,
        "timestamp": Bson::Timestamp(bson::Timestamp { time: 5, increment: 6 }),
        "decimal": "1.50".parse::<bson::Decimal128>().unwrap(), "negative": "-0E+3".parse::<bson::Decimal128>().unwrap(),
        "minkey": Bson::MinKey, "maxkey": Bson::MaxKey,
    }
}

fn with_id(id: impl Into<Bson>, rest: &Document) -> Document {
    let mut d = doc! { "_id": id.into() };
    d.extend(rest.clone());
    d
}

#[test]
fn given_documents_of_every_type_when_copied_and_followed_then_both_ways_give_the_same() {
    let pair = Pair::start();
    let all = every_type();
    pair.insert("all types", vec![with_id(1, &all), with_id("gone", &all), with_id("changed", &doc! {})]);
    let mut daemon = Daemon::spawn(&pair.config());
    daemon.ready();
    pair.same("all types");
    pair.insert("all types", vec![with_id(2, &all)]);
    // By an update that is looked up, by a replacement, and by a delete.
    pair.update("all types", "changed", doc! { "$set": all.clone() });
    pair.delete("all types", "gone");
    pair.update("all types", 1, doc! { "replaced": 1 });
    pair.level();
    pair.same("all types");
    let mut sql = pair.on_target();
    let texts = sql.rows("select distinct doc::jsonb - '_id' from \"all types\" where _id in ('2', 'changed')");
    assert_eq!(texts.len(), 1, "{texts:#?}");
    assert_eq!(daemon.sigterm(), 0);
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}

/// Writes for as long as it lives: inserts, updates, replacements, deletes, and inserts of what was deleted.
pub struct Writer {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    pub fn start(url: String, collection: &str, ids: i32) -> Writer {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, collection) = (stop.clone(), collection.to_owned());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = mongodb::Client::with_uri_str(url).await.unwrap();
                let c = client.database("shop").collection::<Document>(&collection);
                let mut n: u64 = 1;
                while !told.load(Ordering::Relaxed) {
                    n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let id = ((n >> 33) % ids as u64) as i32;
                    // A failover, or a document that is there already: tried with the next one.
                    let _ = match (n >> 20) % 5 {
                        0 => c.delete_one(doc! { "_id": id }).await.map(drop),
                        1 => c
                            .replace_one(doc! { "_id": id }, doc! { "n": (n >> 40) as i64, "r": true })
                            .upsert(true)
                            .await
                            .map(drop),
                        2 => c
                            .insert_one(doc! { "_id": id, "n": (n >> 40) as i64, "text": "x".repeat(200) })
                            .await
                            .map(drop),
                        _ => c
                            .update_one(
                                doc! { "_id": id },
                                doc! { "$set": { "n": (n >> 40) as i64 }, "$inc": { "count": 1 } },
                            )
                            .await
                            .map(drop),
                    };
                }
            });
        });
        Writer { stop, thread: Some(thread) }
    }
    pub fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

pub fn many(from: i32, to: i32) -> Vec<Document> {
    (from..to).map(|n| doc! { "_id": n, "n": n, "text": "x".repeat(200) }).collect()
}

#[test]
fn given_documents_that_change_while_they_are_copied_when_level_then_nothing_is_lost_or_twice() {
    let pair = Pair::start();
    pair.insert("items", many(0, 20_000));
    let writer = Writer::start(pair.source.url("shop"), "items", 22_000);
    let mut daemon =
        Daemon::spawn(&pair.config().env("SWITCHYARD_CHUNK_BYTES", 200_000).env("SWITCHYARD_WHOLE_TABLE_BYTES", 1));
    daemon.ready();
    std::thread::sleep(Duration::from_secs(2));
    writer.stop();
    pair.level();
    pair.same("items");
    assert_eq!(daemon.sigterm(), 0);
}

#[test]
fn given_kills_at_named_points_when_started_again_then_nothing_is_lost_or_twice() {
    let mut pair = Pair::start();
    pair.insert("items", many(0, 5_000));
    let writer = Writer::start(pair.source.url("shop"), "items", 6_000);
    for point in [
        "copy.log_kept",
        "copy.schema_made",
        "copy.planned",
        "copy.chunk_read",
        "copy.chunk_committed",
        "copy.loaded",
        "copy.done",
        "stream.applied",
        "mongo.lookup",
        "stream.before_apply",
    ] {
        pair.name = fresh_name("m");
        pair.target.psql(&format!("create database {}", pair.name)).unwrap();
        let config = pair.config().env("SWITCHYARD_CHUNK_BYTES", 100_000).env("SWITCHYARD_WHOLE_TABLE_BYTES", 1);
        let mut daemon = Daemon::spawn(&config.clone().crash_at(point, 1));
        daemon.wait_crash();
        let mut daemon = Daemon::spawn(&config);
        daemon.ready();
        drop(daemon);
    }
    writer.stop();
    let mut daemon = Daemon::spawn(&pair.config());
    daemon.ready();
    pair.level();
    pair.same("items");
    assert_eq!(daemon.sigterm(), 0);
}

#[test]
fn given_transactions_over_two_collections_when_followed_then_both_change_at_once() {
    let pair = Pair::start();
    pair.insert("a", (0..10).map(|n| doc! { "_id": n, "v": 100 }).collect());
    pair.insert("b", (0..10).map(|n| doc! { "_id": n, "v": 100 }).collect());
    for collection in ["a", "b"] {
        pair.run(doc! { "collMod": collection, "changeStreamPreAndPostImages": { "enabled": true } });
    }
    let mut daemon = Daemon::spawn(&pair.config());
    daemon.ready();
    let url = pair.source.url("shop");
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    let writer = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = mongodb::Client::with_uri_str(url).await.unwrap();
            let db = client.database("shop");
            let (a, b) = (db.collection::<Document>("a"), db.collection::<Document>("b"));
            let mut session = client.start_session().await.unwrap();
            for n in 0..300 {
                session.start_transaction().await.unwrap();
                let (from, to) = (n % 10, n * 7 % 10);
                a.update_one(doc! { "_id": from }, doc! { "$inc": { "v": -1 } }).session(&mut session).await.unwrap();
                b.update_one(doc! { "_id": to }, doc! { "$inc": { "v": 1 } }).session(&mut session).await.unwrap();
                session.commit_transaction().await.unwrap();
            }
            // One that no batch holds.
            session.start_transaction().await.unwrap();
            for n in 0..20 {
                let documents =
                    (0..1_000).map(|m| doc! { "_id": 1_000 + n * 1_000 + m, "v": 0, "text": "x".repeat(300) });
                a.insert_many(documents).session(&mut session).await.unwrap();
            }
            session.commit_transaction().await.unwrap();
            told.store(true, Ordering::Relaxed);
        });
    });
    let mut sql = pair.on_target();
    let sums = "select (select sum((doc->>'v')::int) from a) + (select sum((doc->>'v')::int) from b), (select count(*) from a)";
    while !stop.load(Ordering::Relaxed) {
        let row = &sql.rows(sums)[0];
        assert_eq!(row[0].as_deref(), Some("2000"));
        assert!(matches!(row[1].as_deref(), Some("10" | "20010")), "{row:?}");
    }
    writer.join().unwrap();
    pair.level();
    pair.same("a");
    pair.same("b");
    assert_eq!(daemon.sigterm(), 0);
}

#[test]
fn given_collections_that_come_and_go_when_followed_then_tables_are_made_and_none_is_thrown_away() {
    let pair = Pair::start();
    pair.insert("first", vec![doc! { "_id": 1 }]);
    pair.run(doc! { "create": "seen", "viewOn": "first", "pipeline": [] });
    let config = pair.config();
    let mut daemon = Daemon::spawn(&config);
    daemon.ready();
    pair.insert("second", vec![doc! { "_id": "a.b" }, doc! { "_id": { "x": 1 } }]);
    pair.run(doc! { "createIndexes": "second", "indexes": [{ "key": { "n": 1 }, "name": "n_1" }] });
    pair.run(doc! { "create": "empty" });
    pair.run(doc! { "drop": "empty" });
    pair.level();
    pair.same("second");
    pair.same("first");
    assert_eq!(pair.on_target().one("select to_regclass('empty')"), "");
    // While nothing follows.
    assert_eq!(daemon.sigterm(), 0);
    pair.insert("third", vec![doc! { "_id": 1 }]);
    let mut daemon = Daemon::spawn(&config);
    daemon.ready();
    pair.level();
    pair.same("third");
    // Rows are not thrown away on a stream's word.
    pair.run(doc! { "drop": "second" });
    assert_eq!(daemon.exit_status(), 1);
    assert!(daemon.log().contains("DROP TABLE"), "{}", daemon.log());
    pair.on_target().run("drop table second");
    let mut daemon = Daemon::spawn(&config);
    daemon.ready();
    pair.insert("second", vec![doc! { "_id": 5 }]);
    pair.level();
    pair.same("second");
    pair.source.run("admin", doc! { "renameCollection": "shop.third", "to": "shop.fourth" }).unwrap();
    assert_eq!(daemon.exit_status(), 1);
    assert!(daemon.log().contains("shop.third was renamed to shop.fourth"), "{}", daemon.log());
    let mut daemon =
        Daemon::spawn(&config.extra("[tables]\ninclude = [\"shop.*\"]\nexclude = [\"shop.third\", \"shop.fourth\"]"));
    daemon.ready();
    pair.level();
    assert_eq!(daemon.sigterm(), 0);
}

#[test]
fn given_ids_of_every_type_and_a_large_document_when_copied_in_pieces_then_none_is_left_out() {
    let pair = Pair::start();
    let mut documents: Vec<Document> = (0..2_000).map(|n| doc! { "_id": n, "text": "x".repeat(100) }).collect();
    documents.extend((0..2_000).map(|n| doc! { "_id": format!("{n:05}"), "text": "x".repeat(100) }));
    documents.extend((0..2_000).map(|_| doc! { "_id": bson::oid::ObjectId::new(), "text": "x".repeat(100) }));
    documents.extend((0..500).map(|n| doc! { "_id": { "a": n, "b": 1.5 }, "text": "x".repeat(100) }));
    documents.extend((0..500).map(|n| doc! { "_id": f64::from(n) + 0.5 }));
    documents.extend((0..500).map(|n| doc! { "_id": bson::DateTime::from_millis(n * 1_000) }));
    for id in
        [Bson::Null, Bson::Boolean(true), Bson::Double(f64::NAN), Bson::MinKey, Bson::MaxKey, "2000".into(), "{".into()]
    {
        documents.push(doc! { "_id": id });
    }
    pair.insert("mixed", documents);
    // The largest that the server takes.
    let large = |id: &str| doc! { "_id": id, "text": "l".repeat(16 * 1024 * 1024 - 64) };
    pair.insert("large", vec![large("copied")]);
    let mut daemon = Daemon::spawn(&pair.config().env("SWITCHYARD_CHUNK_BYTES", 20_000));
    daemon.ready();
    pair.same("mixed");
    pair.insert("large", vec![large("followed")]);
    pair.level();
    pair.same("large");
    // Before and after together do not fit into an event.
    pair.run(doc! { "collMod": "large", "changeStreamPreAndPostImages": { "enabled": true } });
    pair.update("large", "copied", doc! { "$set": { "text": "m".repeat(10_000_000) } });
    pair.update("large", "copied", doc! { "$set": { "n": 1 } });
    pair.update("large", "followed", doc! { "$set": { "text": "short" } });
    pair.level();
    pair.same("large");
    assert_eq!(daemon.sigterm(), 0);
}

#[test]
fn given_connections_that_break_when_the_source_is_back_then_nothing_is_lost() {
    let mut pair = Pair::start();
    pair.insert("items", many(0, 2_000));
    let proxy = Proxy::start(pair.source.port()).unwrap();
    let mut daemon = Daemon::spawn(&pair.config().source(&pair.source.url_through(proxy.port(), "shop")));
    daemon.ready();
    let writer = Writer::start(pair.source.url("shop"), "items", 3_000);
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(400));
        proxy.cut();
    }
    proxy.refuse(true).unwrap();
    proxy.cut();
    daemon.wait_waiting("source");
    proxy.refuse(false).unwrap();
    daemon.wait_status("it is back", PATIENCE, |s| s.pointer("/waiting_for").is_none_or(|w| w.is_null()));
    // A connection that is half open.
    proxy.stall(true);
    daemon.wait_waiting("source");
    proxy.stall(false);
    daemon.wait_status("it goes on", PATIENCE, |s| s.pointer("/waiting_for").is_none_or(|w| w.is_null()));
    pair.source.restart().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    writer.stop();
    pair.level();
    pair.same("items");
    assert_eq!(daemon.sigterm(), 0);
}

#[test]
fn given_three_members_when_the_primary_is_killed_twice_then_the_stream_goes_on_at_the_next() {
    let mut pair = Pair::start_with(|b| b.members(3));
    pair.insert("items", many(0, 2_000));
    let mut daemon = Daemon::spawn(&pair.config());
    daemon.ready();
    let writer = Writer::start(pair.source.url("shop"), "items", 3_000);
    for _ in 0..2 {
        std::thread::sleep(Duration::from_secs(1));
        let primary = pair.source.await_primary().unwrap();
        pair.source.kill9_member(primary);
        pair.source.await_primary().unwrap();
        pair.source.start_member(primary).unwrap();
    }
    std::thread::sleep(Duration::from_secs(1));
    writer.stop();
    pair.level();
    pair.same("items");
    assert_eq!(daemon.sigterm(), 0);
}

pub fn said(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn given_a_server_that_cannot_be_followed_when_checked_then_it_says_what_to_do() {
    let pair = Pair::start_with(|b| b.standalone());
    let text = said(&Daemon::command(&pair.config(), &["check"]));
    assert!(text.contains("--replSet rs0") && text.contains("rs.initiate()"), "{text}");
    let pair = Pair::start_with(|b| b.auth(true));
    pair.run(doc! { "create": "series", "timeseries": { "timeField": "t" } });
    pair.insert("items", many(0, 10));
    let user = |name: &str, roles: Vec<Document>| {
        pair.source.run("admin", doc! { "createUser": name, "pwd": "sesame", "roles": roles }).unwrap();
        pair.config().source(&pair.source.url_as(name, "sesame", "shop"))
    };
    let nobody = user("nobody", vec![doc! { "role": "read", "db": "other" }]);
    let text = said(&Daemon::command(&nobody, &["check"]));
    assert!(
        text.contains("clusterMonitor")
            && text.contains("grantRolesToUser(\"nobody\", [{ role: \"read\", db: \"shop\" }])"),
        "{text}"
    );
    let wrong = pair.config().source(&pair.source.url_as("nobody", "not sesame", "shop"));
    let text = said(&Daemon::command(&wrong, &["check"]));
    assert!(text.contains("authSource") && !text.contains("sesame"), "{text}");
    let reader =
        user("reader", vec![doc! { "role": "read", "db": "shop" }, doc! { "role": "clusterMonitor", "db": "admin" }]);
    let text = said(&Daemon::command(&reader, &["check"]));
    assert!(text.contains("time-series") && text.contains("switchyardMarkers"), "{text}");
    // The least rights are enough.
    let mut daemon = Daemon::spawn(&reader.extra("[tables]\ninclude = [\"shop.*\"]\nexclude = [\"shop.series\"]"));
    daemon.ready();
    pair.insert("items", vec![doc! { "_id": "late" }]);
    pair.level();
    pair.same("items");
    assert_eq!(daemon.sigterm(), 0);
}

#[test]
fn given_an_oplog_that_moved_on_when_started_again_then_it_says_so_and_changes_nothing() {
    let pair = Pair::start_with(|b| {
        b.setting("oplogSize", "4").setting("syncdelay", "1").parameter("minOplogTruncationPoints", "2")
    });
    pair.insert("items", many(0, 10));
    let mut daemon = Daemon::spawn(&pair.config());
    daemon.ready();
    assert_eq!(daemon.sigterm(), 0);
    pair.insert("items", many(10, 20));
    let first = || {
        let command = doc! { "find": "oplog.rs", "limit": 1, "sort": { "$natural": 1 } };
        let found = pair.source.run("local", command).unwrap();
        format!("{:?}", found.get_document("cursor").unwrap().get_array("firstBatch").unwrap().first())
    };
    // It is cut only while somebody writes.
    wait_until("the oplog has let go of its beginning", PATIENCE, || {
        let documents: Vec<Document> = (0..10).map(|_| doc! { "text": "x".repeat(200_000) }).collect();
        pair.source.run("other", doc! { "insert": "filler", "documents": documents }).unwrap();
        !first().contains("initiating set")
    });
    let mut daemon = Daemon::spawn(&pair.config());
    assert_eq!(daemon.exit_status(), 1);
    let log = daemon.log();
    assert!(log.contains("oplog") && log.contains("replSetResizeOplog"), "{log}");
    assert_eq!(pair.on_target().number("select count(*) from items"), 10);
}

#[test]
fn given_a_marker_when_written_then_the_stream_brings_it_back_behind_what_was_written_before() {
    use secrecy::SecretString;
    use switchyard::change::Event;
    use switchyard::source::{self, DocumentForm, NulText, SourceOptions, ZeroDates, queue};
    use switchyard::transform::select::Selection;

    let server = MongoServer::builder(&sandbox::find_mongo().unwrap()).tls(true).auth(true).start().unwrap();
    server.run("shop", doc! { "create": "items" }).unwrap();
    let open = |include: &str| {
        source::open(SourceOptions {
            name: "marked".into(),
            url: SecretString::from(server.url("shop")),
            selection: Selection::new(&[include], &[]).unwrap(),
            workers: 1,
            whole_rows: Vec::new(),
            zero_dates: ZeroDates::Keep,
            collections: Default::default(),
            documents: DocumentForm::Json,
            nul_text: NulText::default(),
            follow: Default::default(),
        })
        .unwrap()
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // Over TLS, and by the stream of one database and of all.
    for include in ["shop.*", "*.*"] {
        let source = open(include);
        runtime.block_on(async {
            let tables = source.tables().await.unwrap();
            let session = source.begin(&tables).await.unwrap();
            session.still_held().await.unwrap();
            let ended = session.ended().await.unwrap();
            server.run("shop", doc! { "insert": "items", "documents": [{ "n": 1 }] }).unwrap();
            let at = source.mark("the token").await.unwrap();
            assert!(at.reached(&ended) && ended.reached(session.at()));
            let (out, mut events) = queue::channel(1 << 20);
            let (_confirm, confirmed) = tokio::sync::watch::channel(session.start().clone());
            let (tailed, identity, start) = (source.clone(), session.identity().clone(), session.start().clone());
            let tail = tokio::spawn(async move { tailed.tail(&identity, start, &tables, out, confirmed).await });
            let (mut changes, mut tokens, mut begun) = (0, Vec::new(), false);
            while tokens.last().is_none_or(|t| t != "the token") {
                let got = tokio::time::timeout(PATIENCE, events.recv()).await.expect("an event in time");
                for event in got.expect("the stream goes on").events {
                    match event {
                        Event::Begin(b) => {
                            assert!(!begun && !b.is_in(session.at()));
                            begun = true;
                        }
                        Event::Commit(c) => {
                            assert!(begun && c.end.reached(session.start()));
                            begun = false;
                        }
                        Event::Change(_) => changes += 1,
                        Event::Marker { token } => tokens.push(token),
                        _ => assert!(begun || matches!(event, Event::Heartbeat { .. })),
                    }
                }
            }
            assert_eq!(changes, 1);
            let health = source.health(session.identity()).await.unwrap();
            assert!(health.end.reached(&at) && health.safe_bytes.is_some() && health.state.contains("reaches back"));
            source.verify_log(session.identity(), &at).await.unwrap();
            let mut other = session.identity().clone();
            other.server_id = "another".into();
            let e = source.verify_log(&other, &at).await.unwrap_err();
            assert!(e.message().contains("another replica set"), "{e}");
            drop(events);
            tail.await.unwrap().unwrap();
            assert_eq!(source.finish().await.unwrap().len(), 1);
            assert!(source.finish().await.unwrap().is_empty());
        });
    }
}
