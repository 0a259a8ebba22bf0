//! The binary log's stream: raw events in order, heartbeats, and what ends it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use switchyard::mywire::binlog::{BinlogFrom, BinlogOptions, BinlogStream};
use switchyard::mywire::conn::{Flavour, MyConn, Preset};
use switchyard::sandbox::MyServer;

use super::{info, installs, quick};

const HEARTBEAT: u8 = 27;
const WRITE_ROWS: [u8; 2] = [23, 30];
const XID: u8 = 16;

fn options(wait: bool) -> BinlogOptions<'static> {
    BinlogOptions {
        server_id: 4_000_000_001,
        uuid: "11111111-2222-3333-4444-555555555555",
        heartbeat: Duration::from_millis(200),
        silence_limit: Duration::from_millis(1500),
        wait,
    }
}

async fn dump(server: &MyServer, from: BinlogFrom<'_>, wait: bool) -> switchyard::Result<BinlogStream> {
    let conn = MyConn::connect(&info(&server.url("")), "source", "log", Preset::Source).await?;
    conn.binlog_dump(from, &options(wait)).await
}

fn kind(event: &Bytes) -> u8 {
    let len = u32::from_le_bytes([event[9], event[10], event[11], event[12]]);
    assert_eq!(len as usize, event.len(), "an event is delivered whole, and alone");
    event[4]
}

/// CRC32 over everything before it, where the server writes checksums; its last four bytes.
fn checked(event: &Bytes) -> bool {
    let (body, sum) = event.split_at(event.len() - 4);
    crc32fast::hash(body).to_le_bytes() == sum
}

const FIRST: BinlogFrom<'static> = BinlogFrom::File { name: "binlog.000001", position: 4 };

#[tokio::test]
async fn given_transactions_when_the_log_is_read_then_every_event_comes_whole_and_heartbeats_follow() {
    for install in installs() {
        let server = quick(&install).setting("max_allowed_packet", "64M").start().unwrap();
        server.sql("create database d; create table d.t (a int auto_increment primary key, b longblob)").unwrap();
        let values = vec!["(repeat('x', 300))"; 100].join(", ");
        for _ in 0..50 {
            server.sql(&format!("insert into d.t (b) values {values}")).unwrap();
        }
        // An event of more than one packet.
        server.sql("insert into d.t (b) values (repeat('y', 40000000))").unwrap();
        let mut stream = dump(&server, FIRST, true).await.unwrap();
        let (mut xids, mut bytes, mut largest, mut buffered) = (0, 0, 0, 0);
        let began = Instant::now();
        let beat = loop {
            let event = match stream.next_buffered().unwrap() {
                Some(event) => {
                    buffered += 1;
                    event
                }
                None => stream.next().await.unwrap().unwrap(),
            };
            match kind(&event) {
                HEARTBEAT => break event,
                XID => {
                    xids += 1;
                    assert!(checked(&event));
                }
                k if WRITE_ROWS.contains(&k) => {
                    bytes += event.len();
                    largest = largest.max(event.len());
                }
                _ => {}
            }
        };
        assert!(xids == 51 && bytes > 41_000_000 && largest > 40_000_000, "{xids} {bytes} {largest}");
        assert!(buffered > 100, "{buffered}");
        assert!(beat.len() > 19 && began.elapsed() < Duration::from_secs(20));
        for _ in 0..3 {
            assert_eq!(kind(&stream.next().await.unwrap().unwrap()), HEARTBEAT);
        }
        server.sql("insert into d.t (b) values ('live')").unwrap();
        loop {
            let event = stream.next().await.unwrap().unwrap();
            if WRITE_ROWS.contains(&kind(&event)) {
                assert!(memchr::memmem::find(&event, b"live").is_some());
                break;
            }
        }
        // Not told to wait, it ends.
        let mut finite = dump(&server, FIRST, false).await.unwrap();
        let mut xids = 0;
        while let Some(event) = finite.next().await.unwrap() {
            xids += usize::from(kind(&event) == XID);
        }
        assert_eq!(xids, 52);
        assert!(finite.next().await.unwrap().is_none());
    }
}

#[tokio::test]
async fn given_a_server_that_stands_still_or_dies_when_read_then_the_stream_ends_in_time_with_retry() {
    for install in installs() {
        let mut server = quick(&install).start().unwrap();
        let mut stream = dump(&server, FIRST, true).await.unwrap();
        while kind(&stream.next().await.unwrap().unwrap()) != HEARTBEAT {}
        server.sigstop();
        let began = Instant::now();
        let e = loop {
            match stream.next().await {
                Ok(_) => {}
                Err(e) => break e,
            }
        };
        assert!(e.is_retry() && e.message().contains("heard nothing"), "{e}");
        assert!((1..4).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
        server.sigcont();
        let mut stream = dump(&server, FIRST, true).await.unwrap();
        stream.next().await.unwrap();
        server.kill9();
        let e = loop {
            match stream.next().await {
                Ok(_) => {}
                Err(e) => break e,
            }
        };
        assert!(e.is_retry(), "{e}");
    }
}

/// One UUID and one interval `1..=last`, as COM_BINLOG_DUMP_GTID has it: counts in 8 bytes, ends exclusive.
fn gtid_set(uuid: &str, last: u64) -> Vec<u8> {
    let mut set = 1u64.to_le_bytes().to_vec();
    let hex = uuid.replace('-', "");
    set.extend((0..16).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()));
    for n in [1, 1, last + 1] {
        set.extend_from_slice(&u64::to_le_bytes(n));
    }
    set
}

#[tokio::test]
async fn given_a_gtid_when_the_log_is_read_from_it_then_only_what_follows_comes() {
    for install in installs() {
        let server = quick(&install).start().unwrap();
        server.sql("create database d; create table d.t (a int primary key, b text)").unwrap();
        server.sql("insert into d.t values (1, 'before')").unwrap();
        let mariadb = server.flavour() == Flavour::Mariadb;
        let here = match mariadb {
            true => server.sql("select @@gtid_binlog_pos").unwrap(),
            false => server.sql("select @@gtid_executed").unwrap(),
        };
        server.sql("insert into d.t values (2, 'after')").unwrap();
        let set = here.split_once(":1-").map(|(uuid, last)| gtid_set(uuid, last.parse().unwrap()));
        let from = match &set {
            Some(set) => BinlogFrom::GtidSet(set),
            None => BinlogFrom::ConnectState(&here),
        };
        let mut stream = dump(&server, from, false).await.unwrap();
        let mut seen = Vec::new();
        while let Some(event) = stream.next().await.unwrap() {
            if WRITE_ROWS.contains(&kind(&event)) {
                seen.push(event);
            }
        }
        assert_eq!(seen.len(), 1);
        assert!(memchr::memmem::find(&seen[0], b"after").is_some());

        // What is purged is a clear end.
        drop(stream);
        // MariaDB keeps a file until its engine has checkpointed behind it.
        let until = Instant::now() + Duration::from_secs(20);
        while server.sql("show binary logs").unwrap().starts_with("binlog.000001") {
            assert!(Instant::now() < until, "{}", server.sql("show binary logs").unwrap());
            server.sql("flush binary logs").unwrap();
            let logs = server.sql("show binary logs").unwrap();
            let last = logs.lines().last().and_then(|line| line.split('|').next()).unwrap();
            server.sql(&format!("purge binary logs to '{last}'")).unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for from in [FIRST, from] {
            let mut stream = dump(&server, from, false).await.unwrap();
            let e = loop {
                match stream.next().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!(
                        "{from:?} was read to the end on {:?}: {}",
                        server.flavour(),
                        server.sql("show binary logs").unwrap()
                    ),
                    Err(e) => break e,
                }
            };
            assert!(e.code() == Some("1236") && !e.is_retry() && e.hint_text().is_some(), "{e}");
        }
        let beyond = BinlogFrom::File { name: "binlog.000001", position: 1 << 32 };
        assert!(!dump(&server, beyond, false).await.unwrap_err().is_retry());
    }
}

#[tokio::test]
async fn given_a_second_reader_with_the_same_number_when_it_connects_then_the_first_one_is_told() {
    for install in installs() {
        let server = quick(&install).start().unwrap();
        let mut first = dump(&server, FIRST, true).await.unwrap();
        first.next().await.unwrap().unwrap();
        let mut second = dump(&server, FIRST, true).await.unwrap();
        second.next().await.unwrap().unwrap();
        let e = loop {
            match first.next().await {
                Ok(_) => {}
                Err(e) => break e,
            }
        };
        eprintln!("{e} {:?}", e.hint_text());
        assert!(second.next().await.is_ok());
    }
}
