//! The MySQL wire client and the private servers beneath it, on MySQL and MariaDB.

mod auth;
mod garbage;
mod load;
mod log;

use std::time::{Duration, Instant};

use secrecy::SecretString;
use switchyard::mywire::conn::{Flavour, MyConn, Preset};
use switchyard::mywire::conninfo::MyConnInfo;
use switchyard::sandbox::{self, MyInstall, MyServer, MyServerBuilder};

pub(crate) fn installs() -> [MyInstall; 2] {
    [sandbox::find_mysql().unwrap(), sandbox::find_mariadb().unwrap()]
}

pub(crate) fn quick(install: &MyInstall) -> MyServerBuilder {
    MyServer::builder(install).setting("sync_binlog", "0").setting("innodb_flush_log_at_trx_commit", "0")
}

pub(crate) fn info(url: &str) -> MyConnInfo {
    MyConnInfo::parse("source.url", &SecretString::from(url.to_owned())).unwrap()
}

pub(crate) async fn connect(server: &MyServer) -> MyConn {
    MyConn::connect(&info(&server.url("")), "source", "test", Preset::Source).await.unwrap()
}

#[test]
fn given_a_private_mysql_when_started_stopped_and_killed_then_port_and_data_stay() {
    for install in installs() {
        let began = Instant::now();
        let mut server = quick(&install).start().unwrap();
        eprintln!("{} started in {:?}", install.version, began.elapsed());
        let port = server.port();
        server.sql("create database d; create table d.t (a int primary key); insert into d.t values (1)").unwrap();
        server.restart().unwrap();
        assert_eq!(server.port(), port);
        server.kill9();
        assert!(server.pid().is_none() && server.sql("select 1").is_err());
        server.start_again().unwrap();
        assert_eq!(server.sql_in("d", "select a, null from t; select 'x'").unwrap(), "1|NULL\nx");
        let log = server.sql("select @@log_bin, @@binlog_row_metadata, @@local_infile, @@server_id").unwrap();
        assert_eq!(log, format!("1|FULL|1|{}", server.server_id()));
        let (data, pid) = (server.data_dir().to_owned(), server.pid().unwrap());
        drop(server);
        assert!(!data.exists() && !std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}

#[tokio::test]
async fn given_many_rows_when_streamed_then_all_arrive_in_blocks() {
    for install in installs() {
        let server = quick(&install).start().unwrap();
        let mut conn = connect(&server).await;
        assert_eq!(conn.flavour() == Flavour::Mariadb, install.version.contains("MariaDB"));
        assert!(install.version.starts_with(&conn.server().number.0.to_string()));
        conn.execute("create database d; create table d.t (a int primary key, b varchar(200), c blob)").await.unwrap();
        let done =
            conn.execute_each("insert into d.t values (1, null, ''), (2, 'é', 0x00ff); delete from d.t").await.unwrap();
        assert_eq!(done.iter().map(|d| d.affected).collect::<Vec<_>>(), [2, 2]);
        assert_eq!(done[0].info, "Records: 2  Duplicates: 0  Warnings: 0");
        let digits = "(select 0 n union select 1 union select 2 union select 3 union select 4 union select 5 union select 6 union select 7 union select 8 union select 9)";
        conn.execute(format!(
            "insert into d.t select a.n + b.n*10 + c.n*100 + d.n*1000 + e.n*10000, repeat('x', a.n * 15), null \
             from {digits} a, {digits} b, {digits} c, {digits} d, {digits} e"
        ))
        .await
        .unwrap();
        let columns = conn.query_start("select * from d.t order by a").await.unwrap();
        assert_eq!(columns.iter().map(|c| &*c.name).collect::<Vec<_>>(), ["a", "b", "c"]);
        let (mut rows, mut blocks) = (0, 0);
        let began = Instant::now();
        while let Some(block) = conn.next_block().await.unwrap() {
            blocks += 1;
            for row in block.iter() {
                let fields: Vec<_> = switchyard::mywire::packet::text_fields(row).map(Result::unwrap).collect();
                assert_eq!(&row[fields[0].clone().unwrap()], rows.to_string().as_bytes());
                assert_eq!(fields[1].clone().unwrap().len(), rows % 10 * 15);
                assert_eq!((fields.len(), &fields[2]), (3, &None));
                rows += 1;
            }
        }
        eprintln!("{rows} rows in {blocks} blocks in {:?}", began.elapsed());
        assert_eq!(rows, 100_000);
        assert!(blocks < 60, "{blocks}");
        assert!(!conn.is_closed());
        assert_eq!(conn.query("select 1; select 'a', null").await.unwrap().len(), 2);
        let e = conn.execute("select 1; select nothing from d.t").await.unwrap_err();
        assert!(e.message().contains("statement 2") && e.code() == Some("1054"), "{e}");
        conn.ping().await.unwrap();
    }
}

#[tokio::test]
async fn given_a_row_of_20_mb_when_written_and_read_then_every_byte_is_there() {
    for install in installs() {
        let server = quick(&install).setting("max_allowed_packet", "100M").start().unwrap();
        let mut conn = connect(&server).await;
        conn.execute("create database d; create table d.t (a int primary key, b longblob, c longtext)").await.unwrap();
        assert_eq!(conn.max_allowed_packet(), 100 << 20);
        // Around the places where packets are cut: the payload is the statement and its command byte.
        for len in [0xff_ffff - 100, 0xff_fffe, 0xff_ffff, 20 << 20, 0x1ff_fffe] {
            let mut sql = b"replace into d.t values (1, '".to_vec();
            let start = sql.len();
            let fill = len - 1 - sql.len() - "', '\u{e9}')".len();
            sql.extend((0..fill).map(|n| b'a' + (n % 26) as u8));
            sql.extend_from_slice("', '\u{e9}')".as_bytes());
            conn.execute(&sql).await.unwrap();
            let expected = &sql[start..start + fill];
            let rows = conn.query("select b, c from d.t").await.unwrap();
            assert!(rows[0][0].as_deref() == Some(expected), "{len}");
            assert_eq!(rows[0][1].as_deref(), Some("\u{e9}".as_bytes()));
            conn.query_start("select 1, '', '' union all select * from d.t union all select 2, '', ''").await.unwrap();
            let mut seen = Vec::new();
            while let Some(block) = conn.next_block().await.unwrap() {
                seen.extend(block.iter().map(<[u8]>::len));
            }
            assert_eq!(seen.len(), 3);
            assert!(seen[1] > fill && seen[0] < 8 && seen[2] < 8, "{seen:?}");
        }
        // A row whose packet ends exactly at 16 MiB - 1 is followed by an empty one.
        for len in [0xff_ffff - 10, 0xff_ffff - 9, 0xff_ffff - 8] {
            let sql = format!("select repeat('x', {len}) union all select 'end'");
            conn.query_start(&sql).await.unwrap();
            let (mut rows, mut bytes) = (0, 0);
            while let Some(block) = conn.next_block().await.unwrap() {
                rows += block.len();
                bytes += block.iter().map(<[u8]>::len).sum::<usize>();
            }
            assert_eq!((rows, bytes), (2, len + 4 + 4), "{len}");
        }
        // The largest statement that is let out is one that the server takes.
        let mut largest = b"select 1 /*".to_vec();
        largest.resize((100 << 20) - 2 - 2, b'x');
        largest.extend_from_slice(b"*/");
        conn.execute(&largest).await.unwrap();
        largest.push(b' ');
        assert!(conn.execute(&largest).await.is_err() && !conn.is_closed());
        let e = conn.execute(vec![b' '; 101 << 20]).await.unwrap_err();
        assert!(e.message().contains("max_allowed_packet") && !e.is_retry() && !conn.is_closed(), "{e}");
    }
}

#[tokio::test]
async fn given_a_server_that_dies_while_it_is_read_then_the_error_says_retry() {
    for install in installs() {
        let mut server = quick(&install).start().unwrap();
        let mut conn = connect(&server).await;
        let endless = "with recursive n (n) as (select 1 union all select n + 1 from n where n < 1000) \
                       select repeat('x', 1000) from n a, n b, n c";
        conn.query_start(endless).await.unwrap();
        conn.next_block().await.unwrap().unwrap();
        server.kill9();
        let e = loop {
            match conn.next_block().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the result ended"),
                Err(e) => break e,
            }
        };
        assert!(e.is_retry() && e.message().contains("source at 127.0.0.1:"), "{e}");
        assert!(conn.is_closed() && conn.execute("select 1").await.unwrap_err().is_retry());
        let e = MyConn::connect(&info(&server.url("")), "source", "test", Preset::Source).await.unwrap_err();
        assert!(e.is_retry() && e.hint_text().is_some(), "{e}");
    }
}

#[tokio::test]
async fn given_a_killed_session_and_a_clean_shutdown_when_used_then_the_errors_say_retry() {
    for install in installs() {
        let mut server = quick(&install).start().unwrap();
        let (mut conn, mut other) = (connect(&server).await, connect(&server).await);
        conn.execute(format!("kill {}", other.connection_id())).await.unwrap();
        let e = other.execute("select 1").await.unwrap_err();
        assert!(e.is_retry(), "{e}");
        let mut other = connect(&server).await;
        let id = other.connection_id();
        let (slept, killed) = tokio::join!(other.execute("select sleep(60)"), async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            conn.execute(format!("kill {id}")).await
        });
        killed.unwrap();
        assert!(slept.as_ref().unwrap_err().is_retry(), "{slept:?}");
        server.stop().unwrap();
        let e = conn.execute("select 1").await.unwrap_err();
        assert!(e.is_retry(), "{e}");
    }
}

#[tokio::test]
async fn given_a_server_wide_default_that_would_change_values_when_a_session_begins_then_it_is_as_ours_are() {
    for install in installs() {
        let server = quick(&install)
            .setting("sql_mode", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH")
            .setting("init_connect", "set autocommit = 0")
            .setting("transaction_isolation", "READ-COMMITTED")
            .start()
            .unwrap();
        server.sql("set global sql_select_limit = 1; set global time_zone = '+05:00'").unwrap();
        let mut conn = connect(&server).await;
        conn.execute("create database d; create table d.t (a int auto_increment primary key, c char(5), d date, ts timestamp null)").await.unwrap();
        let mut target =
            MyConn::connect(&info(&server.url("d")), "target", "test", Preset::TargetOfSameEngine).await.unwrap();
        target
            .execute(
                "insert into t values (0, 'x ', '0000-00-00', '2020-01-01 00:00:00'), (7, 'y', '2023-02-30', null)",
            )
            .await
            .unwrap();
        let rows = conn.query("select a, c, d, ts from d.t where d >= '0000-00-00' order by a").await.unwrap();
        let text = |f: &Option<bytes::Bytes>| f.as_ref().map(|f| String::from_utf8_lossy(f).into_owned());
        let rows: Vec<Vec<_>> = rows.iter().map(|r| r.iter().map(text).collect()).collect();
        let some = |t: &str| Some(t.to_owned());
        assert_eq!(
            rows,
            [
                vec![some("0"), some("x"), some("0000-00-00"), some("2020-01-01 00:00:00")],
                vec![some("7"), some("y"), some("2023-02-30"), None],
            ]
        );
        let mut strict = MyConn::connect(&info(&server.url("d")), "target", "test", Preset::Target).await.unwrap();
        strict.execute("insert into t values (1, '', '0000-00-00', null)").await.unwrap();
        for bad in
            ["insert into t values (2, 'too long', null, null)", "insert into t values (2, '', '2023-02-30', null)"]
        {
            let e = strict.execute(bad).await.unwrap_err();
            assert!(!e.is_retry() && !e.message().contains("2023"), "{e}");
        }
        // A snapshot sees what was there when it was taken, whatever isolation the server prefers.
        let reads = "select count(*) from d.t";
        conn.execute("start transaction with consistent snapshot").await.unwrap();
        assert!(conn.in_transaction());
        let before = conn.query(reads).await.unwrap();
        target.execute("insert into t (a) values (100)").await.unwrap();
        assert_eq!(conn.query(reads).await.unwrap(), before);
        conn.execute("commit").await.unwrap();
        assert!(!conn.in_transaction() && conn.query(reads).await.unwrap() != before);
        let found = target.execute("update t set c = 'y' where a = 7").await.unwrap();
        assert_eq!(found.affected, 1, "an UPDATE counts what it found");
    }
}
