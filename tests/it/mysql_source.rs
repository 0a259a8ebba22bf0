//! MySQL and MariaDB as sources, without a target: the snapshot's chunks, the log's events, and that both say the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use switchyard::change::{Change, Event, Op};
use switchyard::position::Position;
use switchyard::sandbox::{self, MyInstall, MyServer};
use switchyard::schema::{Kind, RowIdentity, Table};
use switchyard::source::queue::{self, EventReceiver};
use switchyard::source::{self, CopyBlock, CopyFormat, SnapshotSession, Source, SourceOptions};
use switchyard::value::{Datum, Row};
use tokio::sync::watch;

pub fn installs() -> [MyInstall; 2] {
    [sandbox::find_mysql().unwrap(), sandbox::find_mariadb().unwrap()]
}

pub fn quick(install: &MyInstall) -> MyServer {
    let b = MyServer::builder(install).setting("sync_binlog", "0").setting("innodb_flush_log_at_trx_commit", "0");
    b.start().unwrap()
}

pub fn open(server: &MyServer, database: &str) -> Arc<dyn Source> {
    let options = SourceOptions {
        name: "t".into(),
        url: server.url(database).into(),
        selection: switchyard::transform::select::Selection::new(&[format!("\"{database}\".*")], &[]).unwrap(),
        workers: 2,
        whole_rows: Vec::new(),
        zero_dates: Default::default(),
        collections: Default::default(),
        documents: Default::default(),
        nul_text: Default::default(),
        follow: Default::default(),
    };
    source::open(options).unwrap()
}

async fn read(session: &dyn SnapshotSession, table: &Table, chunk_bytes: u64) -> (usize, Vec<Row>) {
    let plan = session.plan(table, chunk_bytes).await.unwrap();
    let mut reader = session.reader().await.unwrap();
    let mut rows = Vec::new();
    for chunk in &plan.chunks {
        reader.open(table, chunk, CopyFormat::Rows).await.unwrap();
        while let Some(block) = reader.next().await.unwrap() {
            match block {
                CopyBlock::Rows(r) => rows.extend(r),
                CopyBlock::Raw { .. } | CopyBlock::Refused(_) => panic!("rows were asked for"),
            }
        }
    }
    (plan.chunks.len(), rows)
}

fn texts(row: &Row) -> Vec<Option<String>> {
    row.iter()
        .map(|d| match d {
            Datum::Null => None,
            Datum::Unsent => Some("(unsent)".into()),
            Datum::Text(t) => Some(String::from_utf8_lossy(t).into_owned()),
        })
        .collect()
}

/// Follows the log in a task.
struct Tail {
    events: EventReceiver,
    task: tokio::task::JoinHandle<switchyard::Result<()>>,
}

impl Tail {
    fn start(source: &Arc<dyn Source>, session: &dyn SnapshotSession, from: &Position, tables: &[Arc<Table>]) -> Tail {
        let (out, events) = queue::channel(64 << 20);
        let (source, identity, from, tables) =
            (source.clone(), session.identity().clone(), from.clone(), tables.to_vec());
        let (_keep, confirmed) = watch::channel(from.clone());
        let task = tokio::spawn(async move { source.tail(&identity, from, &tables, out, confirmed).await });
        Tail { events, task }
    }

    /// Events until a marker has committed.
    async fn until(&mut self, token: &str) -> Vec<Event> {
        let (mut all, mut seen) = (Vec::new(), false);
        loop {
            let received = tokio::time::timeout(Duration::from_secs(30), self.events.recv()).await;
            let Some(received) = received.expect("the log says nothing") else {
                panic!("the stream ended: {:?}", (&mut self.task).await);
            };
            for event in received.events {
                seen |= matches!(&event, Event::Marker { token: t } if t == token);
                let end = seen && matches!(event, Event::Commit(_));
                all.push(event);
                if end {
                    return all;
                }
            }
        }
    }
}

fn changes(events: &[Event]) -> Vec<&Change> {
    events
        .iter()
        .filter_map(|e| match e {
            Event::Change(c) => Some(c),
            _ => None,
        })
        .collect()
}

/// Column definitions and rows for every type, by what both servers know.
pub const COLUMNS: &str = "id int primary key, i1 tinyint, u1 tinyint unsigned, b1 tinyint(1), i2 smallint, u2 smallint unsigned, \
    i3 mediumint, u3 mediumint unsigned, i4 int, u4 int unsigned, i8 bigint, u8 bigint unsigned, d decimal(10,2), \
    dd decimal(65,30), f float, f2 double, y year, bi bit(1), bb bit(20), da date, t0 time, t6 time(6), dt datetime, dt3 datetime(3), \
    dt6 datetime(6), ts timestamp null, ts6 timestamp(6) null, c char(10), v varchar(100), vl varchar(100) character set latin1, \
    tx text, mt mediumtext, lt longtext, bn binary(4), vb varbinary(20), bl blob, e enum('a','b,c','it''s'), s set('x','y','z'), \
    j json, g geometry";
pub const ROWS: &[&str] = &[
    "1, -128, 255, 1, -32768, 65535, -8388608, 16777215, -2147483648, 4294967295, -9223372036854775808, 18446744073709551615, \
     -12345678.90, 0.000000000000000000000000000001, 0.1, 0.1, 2024, b'1', b'10101010101010101010', '2024-02-29', '-838:59:59', '12:34:56.789012', \
     '2024-02-29 12:34:56', '2024-02-29 12:34:56.780', '2024-02-29 12:34:56.000001', '2024-02-29 12:34:56', '2038-01-19 03:14:07.999999', \
     'pad  ', 'émoji 🚂', 'café €', 'text', 'medium', 'long', 'ab', 0x00ff10, 0x5c27, 'it''s', 'x,z', \
     '{\"b\": [1, 2.50, true, null, \"q\\\\\"\"], \"a\": {\"é\": 1e300}, \"big\": 18446744073709551615}', st_geomfromtext('POINT(1.5 -2)')",
    "2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1.5e30, 1e-300, 1901, b'0', b'0', '1000-01-01', '00:00:00', '-00:00:00.500000', \
     '9999-12-31 23:59:59', '1000-01-01 00:00:00.001', '9999-12-31 23:59:59.999999', '1970-01-01 00:00:01', '1970-01-01 00:00:01.500000', \
     '', '', '', '', '', '', '', '', '', 'a', '', '[]', st_geomfromtext('LINESTRING(0 0,1 1)')",
    "3, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, \
     null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null",
    "4, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 99999999.99, 12345678901234567890123456789012345.5, 16777216, 123456789012345680, 0, b'1', b'1', \
     '0000-00-00', '838:59:59', '00:00:00.1', '0000-00-00 00:00:00', '2024-00-00 00:00:00.5', '0000-00-00 00:00:00', \
     '2001-01-01', '2001-01-01 00:00:00.1', 'ü', '\\\\ \\n \\t \\0', 'ÿ', '\\'', '\"', ';', 0x00000001, 0x00, 0x00, 'b,c', 'x,y,z', \
     '\"\\\\u0000\\\\n\"', null",
];

#[tokio::test]
async fn given_every_type_when_copied_and_when_streamed_then_the_rows_are_the_same_bytes() {
    for install in installs() {
        let server = quick(&install);
        let values: Vec<String> = ROWS.iter().map(|r| format!("({r})")).collect();
        server
            .sql(&format!(
                "create database d; create table d.a ({COLUMNS}) charset utf8mb4; create table d.b like d.a; \
                 set sql_mode = ''; set time_zone = '+00:00'; insert into d.a values {}",
                values.join(", ")
            ))
            .unwrap();
        let source = open(&server, "d");
        let problems: Vec<_> = source.check().await.unwrap();
        assert!(problems.iter().all(|f| f.severity < switchyard::finding::Severity::Problem), "{problems:#?}");
        let tables = source.tables().await.unwrap();
        let session = source.begin(&tables).await.unwrap();
        let (_, copied) = read(session.as_ref(), &tables[0], 1 << 20).await;
        let mut tail = Tail::start(&source, session.as_ref(), session.start(), &tables);
        server
            .sql("set sql_mode = ''; insert into d.b select * from d.a; update d.b set i4 = 7; delete from d.b")
            .unwrap();
        source.mark("end").await.unwrap();
        let events = tail.until("end").await;
        let rows: BTreeMap<_, _> = copied.iter().map(|r| (texts(r)[0].clone(), texts(r))).collect();
        assert_eq!(rows.len(), ROWS.len());
        let mut streamed = 0;
        for change in changes(&events) {
            if change.op == Op::Insert {
                let row = texts(change.new.as_ref().unwrap());
                let same = &rows[&row[0]];
                for (i, column) in tables[0].columns.iter().enumerate() {
                    assert_eq!(row[i], same[i], "{} row {:?} column {}", install.version, row[0], column.name);
                }
                streamed += 1;
            }
        }
        assert_eq!(streamed, ROWS.len());
        // The key did not change: updates come without an old row, deletes with the whole of it.
        let updates: Vec<_> = changes(&events).into_iter().filter(|c| c.op == Op::Update).collect();
        assert!(!updates.is_empty() && updates.iter().all(|u| u.old.is_none() && u.new.is_some()));
        let deletes: Vec<_> = changes(&events).into_iter().filter(|c| c.op == Op::Delete).collect();
        assert_eq!(deletes.len(), ROWS.len());
        // Some forms by hand, so that both are not wrong together.
        let column = |name: &str| tables[0].column(name).unwrap();
        let one = &rows[&Some("1".to_owned())];
        let is = |name: &str, text: &str| assert_eq!(one[column(name)].as_deref(), Some(text), "{name}");
        is("u8", "18446744073709551615");
        is("f", "0.1");
        is("bb", "10101010101010101010");
        is("t0", "-838:59:59");
        is("ts6", "2038-01-19 03:14:07.999999+00");
        is("dt3", "2024-02-29 12:34:56.78");
        is("bn", "\\x61620000");
        is("vl", "café €");
        is("e", "it's");
        assert_eq!(tables[0].columns[column("b1")].kind, Kind::Int2);
        tail.task.abort();
    }
}

#[tokio::test]
async fn given_keys_of_many_kinds_when_cut_while_written_then_every_row_is_there_once() {
    for install in installs() {
        let server = quick(&install);
        server
            .sql(
                "create database d; use d; \
                 create table ints (id bigint unsigned primary key, pad varchar(500)); \
                 create table texts (a varchar(20), b int, pad varchar(500), primary key (a, b)); \
                 create table bytes (k varbinary(16) primary key, pad varchar(500)); \
                 create table uniq (k timestamp(6) not null default current_timestamp(6), n int not null, pad varchar(500), unique (k, n)); \
                 create table nokey (a int, pad varchar(500)); create table blank (id int primary key); \
                 insert into ints with recursive s (n) as (select 1 union all select n + 1 from s where n < 999) select n * 3, repeat('x', 400) from s; \
                 insert into ints select id + 1000000, pad from ints; insert into ints select id + 40000000, pad from ints; \
                 insert into ints values (18446744073709551615, 'last'), (0, 'first'); \
                 insert into texts select concat(char(65 + id % 26), 'é', id % 7), id, pad from ints where id < 50000000; \
                 insert into bytes select unhex(substr(sha2(id, 256), 1, 32)), pad from ints; \
                 insert into uniq select from_unixtime(id % 100000 + 1), id, pad from ints where id < 5000000; \
                 insert into nokey select id % 10, pad from ints where id < 5000000; analyze table ints, texts, bytes, uniq, nokey",
            )
            .unwrap();
        let source = open(&server, "d");
        let tables = source.tables().await.unwrap();
        let session = source.begin(&tables).await.unwrap();
        // What commits after the snapshot is not in it.
        server.sql("delete from d.ints where id % 2 = 0; insert into d.texts values ('new', 1, 'x'); update d.bytes set pad = 'y'").unwrap();
        for table in &tables {
            let (chunks, rows) = read(session.as_ref(), table, 100_000).await;
            let distinct: std::collections::HashSet<_> = rows.iter().map(|r| format!("{:?}", texts(r))).collect();
            let expected = match table.name.name.as_str() {
                "ints" | "bytes" => 3998,
                "texts" => 3997,
                "uniq" | "nokey" => 1999,
                _ => 0,
            };
            assert_eq!(rows.len(), expected, "{}", table.name);
            if table.name.name != "nokey" {
                assert_eq!(distinct.len(), expected, "{}", table.name);
                assert!(expected == 0 || chunks > 1, "{} is one chunk", table.name);
            } else {
                assert_eq!((chunks, &table.identity), (1, &RowIdentity::AllColumns));
            }
        }
        assert!(!session.start().to_string().is_empty());
        // And the log goes on exactly behind the snapshot.
        let mut tail = Tail::start(&source, session.as_ref(), session.start(), &tables);
        source.mark("end").await.unwrap();
        let events = tail.until("end").await;
        let of = |name: &str| {
            let id = tables.iter().find(|t| t.name.name == name).unwrap().id;
            changes(&events).into_iter().filter(|c| c.table == id).count()
        };
        assert_eq!((of("ints"), of("texts"), of("bytes"), of("nokey")), (1997, 1, 3998, 0));
        tail.task.abort();
    }
}

#[tokio::test]
async fn given_a_cut_stream_when_begun_again_at_any_commit_then_nothing_is_missing_or_twice() {
    for install in installs() {
        let server = quick(&install);
        server
            .sql("create database d; create table d.t (id int primary key, v int); create table d.u (id int)")
            .unwrap();
        let source = open(&server, "d");
        let tables = source.tables().await.unwrap();
        let session = source.begin(&tables).await.unwrap();
        for i in 0..20 {
            server
                .sql(&format!("insert into d.t values ({i}, 1); flush binary logs; insert into d.u values (1)"))
                .unwrap();
        }
        let mut tail = Tail::start(&source, session.as_ref(), session.start(), &tables);
        source.mark("end").await.unwrap();
        let events = tail.until("end").await;
        tail.task.abort();
        let ends: Vec<Position> = events
            .iter()
            .filter_map(|e| match e {
                Event::Commit(c) => Some(c.end.clone()),
                _ => None,
            })
            .collect();
        assert!(ends.len() > 40);
        for (at, end) in ends.iter().enumerate().step_by(7) {
            let text = end.to_string();
            let from: Position = text.parse().unwrap();
            source.verify_log(session.identity(), &from).await.unwrap();
            let mut again = Tail::start(&source, session.as_ref(), &from, &tables);
            if at + 1 < ends.len() {
                let rest = again.until("end").await;
                let commits = rest.iter().filter(|e| matches!(e, Event::Commit(_))).count();
                assert_eq!(commits, ends.len() - at - 1, "{} from {text}", install.version);
            }
            again.task.abort();
        }
        assert!(ends.windows(2).all(|w| w[1].reached(&w[0]) && !w[0].reached(&w[1])));
    }
}

#[tokio::test]
async fn given_logs_that_were_purged_when_looked_at_then_the_error_says_what_is_gone() {
    for install in installs() {
        let server = quick(&install);
        server.sql("create database d; create table d.t (id int primary key)").unwrap();
        let source = open(&server, "d");
        let tables = source.tables().await.unwrap();
        let session = source.begin(&tables).await.unwrap();
        server
            .sql("insert into d.t values (1); flush binary logs; insert into d.t values (2); flush binary logs")
            .unwrap();
        let logs = server.sql("show binary logs").unwrap();
        let last = logs.lines().last().unwrap().split('|').next().unwrap().to_owned();
        // InnoDB must have said that it needs the first file no more.
        crate::support::wait_until("the old logs are gone", Duration::from_secs(30), || {
            server.sql(&format!("purge binary logs to '{last}'")).unwrap();
            server.sql("show binary logs").unwrap().lines().count() == 1
        });
        let (out, events) = queue::channel(1 << 20);
        let (_keep, confirmed) = watch::channel(session.start().clone());
        let verified = source.verify_log(session.identity(), session.start()).await;
        let error = match verified {
            Err(e) => e,
            // MariaDB says it when it is asked for the log.
            Ok(()) => {
                source.tail(session.identity(), session.start().clone(), &tables, out, confirmed).await.unwrap_err()
            }
        };
        assert!(!error.is_retry(), "{error}");
        assert!(error.hint_text().is_some_and(|h| h.contains("anew")), "{error:?}");
        drop(events);
    }
}
