//! The connection to a real server (TLS, SCRAM, refusals) and the replication stream over it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use secrecy::SecretString;
use switchyard::change::{Change, Ddl, DdlEffect, Event, Op};
use switchyard::pgwire::conn::{PgConn, Purpose};
use switchyard::pgwire::conninfo::ConnInfo;
use switchyard::pgwire::control;
use switchyard::position::{Lsn, Position};
use switchyard::sandbox::{self, PgServer, Proxy};
use switchyard::schema::{Column, Kind, RowIdentity, Table, TableId, TableName};
use switchyard::source::postgres::pgoutput::Relation;
use switchyard::source::postgres::replication::{RelationResolver, ReplicationStream};
use switchyard::source::queue::{self, EventReceiver};
use switchyard::value::{Datum, Row};
use switchyard::{Class, Error, Result};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub fn info(url: &str) -> ConnInfo {
    ConnInfo::parse("source.url", &SecretString::from(url.to_owned())).unwrap()
}

pub fn server(settings: &[(&str, &str)]) -> PgServer {
    let install = sandbox::find_postgres(Some(14)).unwrap();
    let mut builder = PgServer::builder(&install).setting("fsync", "off");
    for (name, value) in settings {
        builder = builder.setting(name, value);
    }
    builder.start().unwrap()
}

/// Believes what the log says about a table.
#[derive(Default)]
pub struct Believer {
    pub resolved: u32,
}

impl RelationResolver for Believer {
    fn resolve<'a>(&'a mut self, relation: &'a Relation) -> BoxFuture<'a, Result<Arc<Table>>> {
        self.resolved += 1;
        let columns = relation.columns.iter().enumerate().map(|(i, c)| Column {
            name: c.name.clone(),
            number: i as i32 + 1,
            type_name: c.type_oid.to_string(),
            kind: Kind::Other,
            nullable: true,
            identity: None,
            default: None,
            collation: None,
            data: Default::default(),
            portable_binary: true,
        });
        let table = Table {
            id: TableId(relation.oid),
            name: TableName::new(&relation.schema, &relation.name),
            columns: columns.collect(),
            generated: Vec::new(),
            identity: RowIdentity::None,
            full_old_rows: relation.replica_identity == b'f',
            full_old_rows_by: String::new(),
            has_secondary_unique: false,
            partitioned: false,
            estimated_rows: 0,
            bytes: 0,
        };
        Box::pin(async move { Ok(Arc::new(table)) })
    }
    fn ddl<'a>(&'a mut self, json: &'a [u8]) -> BoxFuture<'a, Result<Option<Ddl>>> {
        let statement = String::from_utf8_lossy(json).into_owned();
        Box::pin(async move {
            Ok(Some(Ddl {
                tag: "TEST".into(),
                statement,
                object: String::new(),
                effect: DdlEffect::Other,
                before: None,
            }))
        })
    }
}

struct Running {
    events: EventReceiver,
    confirmed: watch::Sender<Position>,
    task: JoinHandle<Result<()>>,
}

async fn follow(url: &str, slot: &str, from: Lsn, room: usize) -> Running {
    let mut stream = ReplicationStream::connect(&info(url), "source").await.unwrap();
    stream.start(slot, from, "odd \"pub's").await.unwrap();
    let (out, events) = queue::channel(room);
    let (confirmed, watching) = watch::channel(Position::Lsn(from));
    let task = tokio::spawn(async move { stream.run(&mut Believer::default(), out, watching).await });
    Running { events, confirmed, task }
}

/// Events up to and including the marker, heartbeats left out.
async fn until_marker(events: &mut EventReceiver, token: &str) -> Vec<Event> {
    let mut all = Vec::new();
    let reading = async {
        loop {
            let received = events.recv().await.expect("the stream ended");
            for event in received.events {
                match event {
                    Event::Heartbeat { .. } => {}
                    Event::Marker { token: t } if t == token => return,
                    event => all.push(event),
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), reading).await.expect("the marker did not come");
    all
}

async fn slot(server: &PgServer, name: &str) -> Lsn {
    server.psql("create publication \"odd \"\"pub's\" for all tables").unwrap();
    let mut stream = ReplicationStream::connect(&info(&server.url("postgres")), "source").await.unwrap();
    stream.create_slot(name, false, false).await.unwrap().consistent_point
}

fn mark(server: &PgServer, transactional: bool, token: &str) {
    let sql = format!("select pg_logical_emit_message({transactional}, 'switchyard', '{{\"marker\":\"{token}\"}}')");
    server.psql(&sql).unwrap();
}

fn texts(row: &Row) -> Vec<Option<String>> {
    row.iter()
        .map(|d| match d {
            Datum::Null => None,
            Datum::Unsent => Some("<unsent>".into()),
            Datum::Text(t) => Some(String::from_utf8(t.to_vec()).unwrap()),
        })
        .collect()
}

fn changes(events: &[Event]) -> Vec<&Change> {
    events.iter().filter_map(|e| if let Event::Change(c) = e { Some(c) } else { None }).collect()
}

async fn refused(url: &str) -> Error {
    let ours = PgConn::connect(&info(url), "source", Purpose::Sql).await.expect_err("our connection was let in");
    let theirs = control::connect(&info(url), "source").await.expect_err("tokio-postgres was let in");
    assert_eq!(ours.class(), theirs.class(), "{ours} / {theirs}");
    for e in [&ours, &theirs] {
        assert!(!format!("{e:?}").contains("sesame"), "{e:?}");
    }
    assert_eq!(ours.message(), theirs.message());
    ours
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_tls_and_passwords_when_connecting_then_each_sslmode_means_what_libpq_says() {
    let install = sandbox::find_postgres(Some(14)).unwrap();
    let tls = PgServer::builder(&install)
        .setting("fsync", "off")
        .tls(true)
        .password_auth(true)
        .hba(["hostnossl all tlsonly 127.0.0.1/32 reject", "hostssl all tlsonly 127.0.0.1/32 scram-sha-256"])
        .start()
        .unwrap();
    let other = PgServer::builder(&install).setting("fsync", "off").tls(true).start().unwrap();
    let plain = server(&[]);
    tls.psql("create role tlsonly login password 'sesame'").unwrap();
    let ca = tls.tls_ca().unwrap().display().to_string();
    let wrong_ca = other.tls_ca().unwrap().display().to_string();
    let ip = tls.url_as("tlsonly", "sesame", "postgres");
    let name = ip.replace("127.0.0.1", "localhost");

    for (url, secure) in [
        (format!("{name}?sslmode=verify-full&sslrootcert={ca}"), true),
        (format!("{ip}?sslmode=verify-ca&sslrootcert={ca}"), true),
        (format!("{ip}?sslmode=require&sslrootcert={ca}"), true),
        (format!("{ip}?sslmode=require"), true),
        (ip.clone(), true),
        (format!("{}?sslmode=disable", tls.url("postgres")), false),
        (plain.url("postgres"), false),
    ] {
        for purpose in [Purpose::Sql, Purpose::Replication] {
            if purpose == Purpose::Replication && url.contains("tlsonly") {
                continue;
            }
            let mut conn = PgConn::connect(&info(&url), "source", purpose).await.unwrap();
            let sql = "select ssl::text, current_setting('datestyle'), current_setting('search_path') from pg_stat_ssl where pid = pg_backend_pid()";
            let rows = conn.simple_query(sql).await.unwrap();
            let said: Vec<_> = rows[0].iter().map(|v| v.as_deref().unwrap()).collect();
            assert_eq!(said, [if secure { "true" } else { "false" }, "ISO, MDY", ""], "{url}");
            assert_eq!(conn.is_tls(), secure);
        }
        let client = control::connect(&info(&url), "source").await.unwrap();
        let row = client.query_one("select ssl from pg_stat_ssl where pid = pg_backend_pid()", &[]).await.unwrap();
        assert_eq!(row.get::<_, bool>(0), secure, "{url}");
    }

    for (url, words) in [
        (format!("{ip}?sslmode=verify-full&sslrootcert={ca}"), "is for localhost, not for \"127.0.0.1\""),
        (format!("{name}?sslmode=verify-full&sslrootcert={wrong_ca}"), "not signed by an authority in sslrootcert"),
        (format!("{ip}?sslmode=require&sslrootcert={wrong_ca}"), "not signed by an authority in sslrootcert"),
        (format!("{}?sslmode=require", plain.url("postgres")), "does not offer TLS"),
        (format!("{ip}?sslmode=verify-ca&sslrootcert=/nowhere/ca.pem"), "/nowhere/ca.pem: cannot be read"),
        (format!("{ip}?sslmode=verify-ca&sslrootcert=/etc/hostname"), "there is no certificate in it"),
        (format!("{ip}?sslmode=disable"), "pg_hba.conf rejects"),
        (ip.replace("sesame", "sesame2"), "password authentication failed"),
        (ip.replace(":sesame@", "@"), "password"),
        (plain.url("nowhere"), "does not exist"),
    ] {
        let e = match url.contains("tlsonly@") {
            // The words of tokio-postgres for a missing password are its own.
            true => PgConn::connect(&info(&url), "source", Purpose::Sql).await.unwrap_err(),
            false => refused(&url).await,
        };
        assert_eq!(e.class(), Class::Fatal, "{e}");
        assert!(e.message().contains(words), "{e}");
        assert!(e.hint_text().is_some() || words.contains("exist"), "{e}");
    }
    let no_password = control::connect(&info(&ip.replace(":sesame@", "@")), "source").await.unwrap_err();
    assert_eq!(no_password.class(), Class::Fatal, "{no_password}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_server_that_is_not_there_when_connecting_then_trying_again_may_help() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://u@127.0.0.1:{port}/d");
    for e in [
        PgConn::connect(&info(&url), "source", Purpose::Sql).await.unwrap_err(),
        control::connect(&info(&url), "source").await.unwrap_err(),
    ] {
        assert_eq!(e.class(), Class::Retry, "{e}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_slot_with_its_snapshot_when_others_import_it_then_they_see_that_moment() {
    let server = server(&[]);
    server.psql("create table t (id int); insert into t values (1)").unwrap();
    let mut stream = ReplicationStream::connect(&info(&server.url("postgres")), "source").await.unwrap();
    let identity = stream.identify_system().await.unwrap();
    assert_eq!(identity.system_id, server.psql("select system_identifier from pg_control_system()").unwrap());
    assert_eq!(identity.timeline, 1);
    let made = stream.create_slot("odd_1", false, true).await.unwrap();
    server.psql("insert into t values (2)").unwrap();
    let mut reader = PgConn::connect(&info(&server.url("postgres")), "source", Purpose::Sql).await.unwrap();
    let sql = format!("begin isolation level repeatable read; set transaction snapshot '{}'", made.snapshot.unwrap());
    reader.execute(&sql).await.unwrap();
    let rows = reader.simple_query("select count(*) from public.t").await.unwrap();
    assert_eq!(rows[0][0].as_deref(), Some("1"));
    stream.drop_slot("odd_1").await.unwrap();
    assert_eq!(server.psql("select count(*) from pg_replication_slots").unwrap(), "0");
    let e = stream.drop_slot("odd_1").await.unwrap_err();
    assert_eq!((e.class(), e.code()), (Class::Fatal, Some("42704")), "{e}");
    // A refused command leaves the connection usable.
    stream.identify_system().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_all_kinds_of_changes_when_streamed_then_events_say_what_happened_in_order() {
    let server = server(&[]);
    let setup =
        "create table t (id int primary key, \"Größe\" text, big text); alter table t alter big set storage external;
         create table f (a int, b text); alter table f replica identity full;";
    server.psql(setup).unwrap();
    let from = slot(&server, "s").await;
    let mut running = follow(&server.url("postgres"), "s", from, 1 << 20).await;
    server
        .psql(
            "begin; insert into t values (1, 'a', repeat('x', 100000)), (2, null, ''); update t set \"Größe\" = 'b' where id = 1;
             update t set id = 3 where id = 2; delete from t where id = 3;
             select pg_logical_emit_message(true, 'switchyard.ddl', '{\"x\":1}');
             select pg_logical_emit_message(true, 'of somebody else', 'x'); commit;
             begin; insert into f values (1, 'x'); savepoint s; insert into f values (9, 'no'); rollback to s; update f set b = 'y'; delete from f; commit;
             alter table f add c int; insert into f values (2, 'z', 5); truncate t, f restart identity",
        )
        .unwrap();
    mark(&server, false, "outside");
    let events = until_marker(&mut running.events, "outside").await;
    mark(&server, true, "inside");
    let rest = until_marker(&mut running.events, "inside").await;
    let kinds: String = events
        .iter()
        .map(|e| match e {
            Event::Schema(_) => 'S',
            Event::Begin(_) => 'B',
            Event::Commit(_) => 'C',
            Event::Change(_) => '.',
            Event::Truncate { .. } => 'T',
            Event::Ddl(_) => 'D',
            _ => '?',
        })
        .collect();
    // psql sends one simple query; the statements outside of BEGIN…COMMIT share one implicit transaction.
    assert_eq!(kinds, "BS.....DCBS...CBS.TCB");
    assert!(matches!(rest.last(), Some(Event::Begin(_))), "{rest:?}");
    let c = changes(&events);
    let big = Some("x".repeat(100_000));
    let t = |s: &str| Some(s.to_owned());
    assert_eq!(texts(c[0].new.as_ref().unwrap()), [t("1"), t("a"), big]);
    assert_eq!(texts(c[1].new.as_ref().unwrap()), [t("2"), None, t("")]);
    assert_eq!((c[2].op, c[2].old.as_ref()), (Op::Update, None));
    assert_eq!(texts(c[2].new.as_ref().unwrap()), [t("1"), t("b"), t("<unsent>")]);
    assert_eq!(texts(c[3].old.as_ref().unwrap()), [t("2"), None, None]);
    assert_eq!(texts(c[4].old.as_ref().unwrap()), [t("3"), None, None]);
    assert_eq!(texts(c[6].old.as_ref().unwrap()), [t("1"), t("x")]);
    assert_eq!(texts(c[7].old.as_ref().unwrap()), [t("1"), t("y")]);
    assert_eq!(texts(c[8].new.as_ref().unwrap()), [t("2"), t("z"), t("5")]);
    let Some(Event::Truncate { tables, restart_identity: true }) =
        events.iter().find(|e| matches!(e, Event::Truncate { .. }))
    else {
        panic!("no truncate")
    };
    assert_eq!(tables.len(), 2);
    // Nobody listens any more: a polite end.
    drop(running.events);
    tokio::time::timeout(Duration::from_secs(5), running.task).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_stalled_receiver_when_the_servers_patience_is_over_then_the_stream_still_stands() {
    let server = server(&[("wal_sender_timeout", "2s")]);
    server.psql("create table t (id int primary key, v text)").unwrap();
    let from = slot(&server, "s").await;
    let mut running = follow(&server.url("postgres"), "s", from, 64 * 1024).await;
    server.psql("insert into t select i, repeat('x', 500) from generate_series(1, 200000) i").unwrap();
    mark(&server, true, "end");
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(!running.task.is_finished(), "{:?}", running.task.await);
    let events = until_marker(&mut running.events, "end").await;
    assert_eq!(changes(&events).len(), 200_000);
    let log = std::fs::read_to_string(server.log_file()).unwrap();
    assert!(!log.contains("terminating walsender process due to replication timeout"));
    assert_eq!(log.matches("starting logical decoding for slot").count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_confirmed_positions_when_the_server_is_asked_then_it_has_them_and_nothing_later() {
    let server = server(&[("wal_sender_timeout", "3s")]);
    server.psql("create table t (id int primary key)").unwrap();
    let from = slot(&server, "s").await;
    let mut running = follow(&server.url("postgres"), "s", from, 1 << 20).await;
    let ask = "select confirmed_flush_lsn from pg_replication_slots where slot_name = 's'";
    for id in 0..3 {
        server.psql(&format!("insert into t values ({id})")).unwrap();
        mark(&server, true, &id.to_string());
        let events = until_marker(&mut running.events, &id.to_string()).await;
        let end = events.iter().rev().find_map(|e| if let Event::Commit(c) = e { c.end.lsn() } else { None }).unwrap();
        // Received, and time for several updates and keepalives: not confirmed yet.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let before: Lsn = server.psql(ask).unwrap().parse().unwrap();
        assert!(before < end, "{before} was not confirmed to be told");
        running.confirmed.send_replace(Position::Lsn(end));
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(server.psql(ask).unwrap().parse::<Lsn>().unwrap(), end);
    }
    // An idle source goes on to say where it is, in the same queue.
    let at = tokio::time::timeout(Duration::from_secs(5), async {
        loop {
            for event in running.events.recv().await.unwrap().events {
                if let Event::Heartbeat { position, at } = event {
                    assert!(position.lsn().unwrap() >= from);
                    return at;
                }
            }
        }
    })
    .await
    .unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as i64;
    assert!((now - at).abs() < 10_000_000, "{at} is not about {now}");
    drop(running.events);
    running.task.await.unwrap().unwrap();
    // Started again it sends what was not confirmed: the last marker's own transaction.
    let last: Lsn = server.psql(ask).unwrap().parse().unwrap();
    let mut again = follow(&server.url("postgres"), "s", last, 1 << 20).await;
    mark(&server, true, "again");
    assert!(changes(&until_marker(&mut again.events, "again").await).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_dead_or_half_open_connection_when_streaming_then_it_is_an_error_to_retry() {
    let server = server(&[("wal_sender_timeout", "1s")]);
    let from = slot(&server, "s").await;
    let proxy = Proxy::start(server.port()).unwrap();
    let url = server.url("postgres").replace(&server.port().to_string(), &proxy.port().to_string());
    let running = follow(&url, "s", from, 1 << 20).await;
    proxy.cut();
    let e = running.task.await.unwrap().unwrap_err();
    assert_eq!(e.class(), Class::Retry, "{e}");

    // The server notices the cut a moment later, and only then lets go of the slot.
    let patience = std::time::Instant::now() + Duration::from_secs(20);
    while server.psql("select active from pg_replication_slots where slot_name = 's'").unwrap().trim() == "t" {
        assert!(std::time::Instant::now() < patience, "the slot stays in use");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut stream =
        ReplicationStream::connect(&info(&url), "source").await.unwrap().silence_limit(Duration::from_secs(2));
    stream.start("s", from, "odd \"pub's").await.unwrap();
    proxy.stall(true);
    let (out, _events) = queue::channel(1 << 20);
    let (_confirmed, watching) = watch::channel(Position::Lsn(from));
    let e = tokio::time::timeout(Duration::from_secs(6), stream.run(&mut Believer::default(), out, watching))
        .await
        .expect("the silence was not noticed")
        .unwrap_err();
    assert_eq!(e.class(), Class::Retry, "{e}");
    assert!(e.message().contains("heard nothing"), "{e}");
}
