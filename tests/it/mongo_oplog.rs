//! MongoDB followed by its oplog, by accounts that may not open change streams.

use std::time::Duration;

use bson::{Document, doc};

use crate::mongo_source::{Pair, Writer, many, said};
use crate::support::{Config, Daemon, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);

/// A server with an account that may read the database and the oplog, and nothing more.
fn pair() -> (Pair, Config) {
    let pair =
        Pair::start_with(|b| b.auth(true).parameter("enableTestCommands", "1").setting("wiredTigerCacheSizeGB", "1"));
    let role = |name: &str, database: &str, collection: &str, actions: &[&str]| {
        let resource = doc! { "db": database, "collection": collection };
        let privileges = vec![doc! { "resource": resource, "actions": actions.to_vec() }];
        let command = doc! { "createRole": name, "roles": Vec::<Document>::new(), "privileges": privileges };
        pair.source.run("admin", command).unwrap();
    };
    role("finder", "shop", "", &["find", "listCollections", "listIndexes", "collStats"]);
    role("switchyardOplog", "local", "oplog.rs", &["find"]);
    let markers = ["find", "insert", "createCollection", "dropCollection"];
    role("switchyardMarkers", "shop", "switchyard.markers", &markers);
    let roles = vec!["finder", "switchyardOplog", "switchyardMarkers", "clusterMonitor"];
    pair.source.run("admin", doc! { "createUser": "finder", "pwd": "sesame", "roles": roles }).unwrap();
    let config = pair.config().source(&pair.source.url_as("finder", "sesame", "shop"));
    (pair, config)
}

fn by_oplog(daemon: &Daemon) -> bool {
    daemon.log().contains("the source is followed by its oplog")
}

#[test]
fn given_an_account_without_change_streams_when_followed_then_every_kind_of_change_comes_by_the_oplog() {
    let (mut pair, config) = pair();
    pair.insert("items", many(0, 3_000));
    let text = said(&Daemon::command(&config, &["check"]));
    assert!(text.contains("followed by the oplog itself"), "{text}");
    let writer = Writer::start(pair.source.url("shop"), "items", 4_000);
    let mut daemon = Daemon::spawn(&config.clone().env("SWITCHYARD_CHUNK_BYTES", 100_000));
    daemon.ready();
    assert!(by_oplog(&daemon), "{}", daemon.log());
    pair.insert("kinds", vec![doc! { "_id": 1, "list": [1] }, doc! { "_id": 2 }, doc! { "_id": 3 }]);
    pair.update("kinds", 1, doc! { "$set": { "n": 1 }, "$push": { "list": 2 } });
    pair.update("kinds", 2, doc! { "replaced": true });
    pair.delete("kinds", 3);
    pair.insert("kinds", vec![doc! { "_id": 3, "again": true }]);
    pair.run(doc! { "createIndexes": "kinds", "indexes": [{ "key": { "n": 1 }, "name": "n_1" }] });
    pair.run(doc! { "create": "empty" });
    pair.run(doc! { "drop": "empty" });
    pair.run(doc! { "create": "seen", "viewOn": "kinds", "pipeline": [] });
    std::thread::sleep(Duration::from_secs(1));
    assert!(daemon.log().contains("view shop.seen was made"), "{}", daemon.log());
    // Killed while the writer goes on, and restarted under it.
    daemon.kill9();
    std::thread::sleep(Duration::from_millis(500));
    let mut daemon = Daemon::spawn(&config);
    daemon.ready();
    pair.source.restart().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    writer.stop();
    pair.level();
    pair.same("items");
    pair.same("kinds");
    assert_eq!(pair.on_target().one("select to_regclass('empty')"), "");
    // Rows are not thrown away on the log's word.
    pair.run(doc! { "drop": "kinds" });
    assert_eq!(daemon.exit_status(), 1);
    assert!(daemon.log().contains("DROP TABLE"), "{}", daemon.log());
    pair.on_target().run("drop table kinds");
    let mut daemon = Daemon::spawn(&config);
    daemon.ready();
    pair.source.run("admin", doc! { "renameCollection": "shop.level", "to": "shop.other" }).unwrap();
    assert_eq!(daemon.exit_status(), 1);
    assert!(daemon.log().contains("shop.level was renamed to shop.other"), "{}", daemon.log());
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}

#[test]
fn given_transactions_when_followed_by_the_oplog_then_each_comes_at_once_or_not_at_all() {
    let (pair, config) = pair();
    // Only a shard's router prepares transactions, as one of the cluster's own.
    let shard = doc! { "createUser": "shard", "pwd": "sesame", "roles": ["__system"] };
    pair.source.run("admin", shard).unwrap();
    for collection in ["a", "b"] {
        pair.insert(collection, vec![doc! { "_id": 0, "v": 0 }]);
    }
    let mut daemon = Daemon::spawn(&config);
    daemon.ready();
    let run = |work: Work| {
        let url = pair.source.url_as("shard", "sesame", "shop");
        pair.source.wait_for(async move { transactions(&url, work).await }).unwrap();
    };
    run(Work::Small);
    run(Work::Large);
    let mut sql = pair.on_target();
    // Operations of the large one are of several entries, and come together.
    let counts = "select (select count(*) from a), (select count(*) from b)";
    wait_until("the large transaction has come", PATIENCE, || {
        let row = &sql.rows(counts)[0];
        assert_eq!(row[0], row[1]);
        row[0].as_deref() == Some("20101")
    });
    // Begun before the place that a restart goes on from, and committed after it.
    run(Work::Prepared(false));
    let url = pair.source.url_as("shard", "sesame", "shop");
    let kept = pair.source.wait_for(async move { prepared(&url, 2_000_000).await }).unwrap();
    pair.level();
    assert_eq!(daemon.sigterm(), 0);
    let mut daemon = Daemon::spawn(&config);
    daemon.ready();
    pair.source.wait_for(async move { committed(kept).await }).unwrap();
    pair.level();
    assert!(by_oplog(&daemon));
    pair.same("a");
    pair.same("b");
    assert_eq!(pair.on_target().number("select count(*) from b where _id::int >= 2000000"), 400);
    // While nothing follows.
    assert_eq!(daemon.sigterm(), 0);
    run(Work::Small);
    run(Work::Prepared(true));
    let mut daemon = Daemon::spawn(&config.clone().crash_at("mongo.chain", 1));
    daemon.wait_crash();
    let mut daemon = Daemon::spawn(&config);
    daemon.ready();
    pair.level();
    pair.same("a");
    pair.same("b");
    assert_eq!(daemon.sigterm(), 0);
}

#[test]
fn given_a_migration_when_the_way_is_changed_then_it_goes_on_where_it_was() {
    let (pair, by_oplog_alone) = pair();
    pair.insert("items", many(0, 500));
    let root = pair.config();
    let writer = Writer::start(pair.source.url("shop"), "items", 600);
    let mut expected = false;
    for config in [&root, &by_oplog_alone, &root, &root.clone().by_oplog(), &root, &by_oplog_alone] {
        let mut daemon = Daemon::spawn(config);
        daemon.ready();
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(by_oplog(&daemon), expected, "{}", daemon.log());
        assert_eq!(daemon.sigterm(), 0, "{}", daemon.log());
        expected = !expected;
    }
    writer.stop();
    // With nothing to do in between.
    for config in [&root, &by_oplog_alone, &root] {
        let mut daemon = Daemon::spawn(config);
        daemon.ready();
        pair.level();
        pair.same("items");
        assert_eq!(daemon.sigterm(), 0);
    }
}

#[test]
fn given_an_account_without_either_right_when_checked_then_both_ways_are_named() {
    let pair = Pair::start_with(|b| b.auth(true));
    pair.insert("items", many(0, 10));
    let role = doc! { "createRole": "finder", "roles": Vec::<Document>::new(), "privileges": [
    { "resource": { "db": "shop", "collection": "" }, "actions": ["find", "listCollections", "collStats"] }] };
    pair.source.run("admin", role).unwrap();
    // `clusterMonitor` may read all of the database `local`.
    let roles = vec!["finder"];
    pair.source.run("admin", doc! { "createUser": "finder", "pwd": "sesame", "roles": roles }).unwrap();
    let config = pair.config().source(&pair.source.url_as("finder", "sesame", "shop"));
    let text = said(&Daemon::command(&config, &["check"]));
    assert!(text.contains("lacks the right changeStream on database shop"), "{text}");
    assert!(text.contains("createRole({ role: \"switchyardOplog\""), "{text}");
    let text = said(&Daemon::command(&config.by_oplog(), &["check"]));
    assert!(text.contains("lacks the right find on local.oplog.rs"), "{text}");
}

enum Work {
    /// A hundred of two inserts each, in two collections, with an update of each.
    Small,
    /// One of more than 16 MB.
    Large,
    /// One that was prepared: committed, or aborted.
    Prepared(bool),
}

async fn transactions(url: &str, work: Work) -> anyhow::Result<()> {
    let client = mongodb::Client::with_uri_str(url).await?;
    let db = client.database("shop");
    let (a, b) = (db.collection::<Document>("a"), db.collection::<Document>("b"));
    let mut session = client.start_session().await?;
    match work {
        Work::Small => {
            let first = 1 + i32::try_from(a.count_documents(doc! {}).await?)? * 1_000;
            for n in first..first + 100 {
                session.start_transaction().await?;
                a.insert_one(doc! { "_id": n }).session(&mut session).await?;
                b.update_one(doc! { "_id": 0 }, doc! { "$inc": { "v": 1 } }).session(&mut session).await?;
                b.insert_one(doc! { "_id": n }).session(&mut session).await?;
                session.commit_transaction().await?;
            }
        }
        Work::Large => {
            session.start_transaction().await?;
            for n in 0..20 {
                let documents = || (0..1_000).map(|m| doc! { "_id": 100_000 + n * 1_000 + m, "text": "x".repeat(450) });
                a.insert_many(documents()).session(&mut session).await?;
                b.insert_many(documents()).session(&mut session).await?;
            }
            session.commit_transaction().await?;
        }
        Work::Prepared(true) => committed(prepared(url, 3_000_000).await?).await?,
        Work::Prepared(false) => {
            let mut kept = prepared(url, 1_000_000).await?;
            kept.session.abort_transaction().await?;
        }
    }
    Ok(())
}

/// A transaction that was prepared.
struct Prepared {
    client: mongodb::Client,
    session: mongodb::ClientSession,
    at: bson::Timestamp,
}

/// Prepares one of more than 16 MB.
async fn prepared(url: &str, first: i32) -> anyhow::Result<Prepared> {
    let client = mongodb::Client::with_uri_str(url).await?;
    let db = client.database("shop");
    let mut session = client.start_session().await?;
    session.start_transaction().await?;
    for collection in ["a", "b"] {
        let documents = (0..400).map(|m| doc! { "_id": first + m, "text": "x".repeat(25_000) });
        db.collection::<Document>(collection).insert_many(documents).session(&mut session).await?;
    }
    let prepare = doc! { "prepareTransaction": 1, "writeConcern": { "w": "majority" } };
    let reply = client.database("admin").run_command(prepare).session(&mut session).await?;
    let at = reply.get_timestamp("prepareTimestamp")?;
    Ok(Prepared { client, session, at })
}

async fn committed(mut kept: Prepared) -> anyhow::Result<()> {
    let commit = doc! { "commitTransaction": 1, "commitTimestamp": kept.at, "writeConcern": { "w": "majority" } };
    kept.client.database("admin").run_command(commit).session(&mut kept.session).await?;
    Ok(())
}
