//! LOAD DATA LOCAL, and literals in statements: any bytes there and back.

use proptest::prelude::*;
use switchyard::mywire::conn::{MyConn, Preset};
use switchyard::mywire::load::records;
use switchyard::mywire::{control, quote};

use super::{connect, info, installs, quick};

const LOAD: &str = "LOAD DATA LOCAL INFILE 'rows' INTO TABLE d.t CHARACTER SET binary \
                    FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' (a, b)";

/// A field as LOAD DATA reads it.
fn escaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for &b in field {
        match b {
            b'\\' | b'\t' | b'\n' => out.extend_from_slice(&[b'\\', b]),
            0 => out.extend_from_slice(b"\\0"),
            _ => out.push(b),
        }
    }
    out
}

#[tokio::test]
async fn given_rows_of_any_bytes_when_loaded_then_they_are_there_and_a_broken_load_leaves_none() {
    for install in installs() {
        let server = quick(&install).setting("max_allowed_packet", "65536").start().unwrap();
        let mut conn = connect(&server).await;
        conn.execute("create database d; create table d.t (a int primary key, b longblob)").await.unwrap();
        let mut data = Vec::new();
        let field = |n: usize| (0..n % 700).map(|i| (i * 7 + n) as u8).collect::<Vec<u8>>();
        for n in 0..20_000 {
            data.extend_from_slice(format!("{n}\t").as_bytes());
            data.extend_from_slice(&escaped(&field(n)));
            data.push(b'\n');
        }
        let e = conn.load_local_start(LOAD).await.unwrap_err();
        assert!(e.message().contains("without a transaction"), "{e}");
        conn.execute("begin").await.unwrap();
        conn.load_local_start(LOAD).await.unwrap();
        assert!(conn.execute("select 1").await.unwrap_err().message().contains("in the middle"));
        for piece in data.chunks(999_999) {
            conn.load_local_write(piece).await.unwrap();
        }
        let done = conn.load_local_finish().await.unwrap();
        assert_eq!((done.affected, &*done.info), (20_000, "Records: 20000  Deleted: 0  Skipped: 0  Warnings: 0"));
        assert_eq!(records(&done), Some(20_000));
        conn.execute("commit").await.unwrap();
        conn.query_start("select a, b from d.t order by a").await.unwrap();
        let mut n = 0;
        while let Some(block) = conn.next_block().await.unwrap() {
            for row in block.iter() {
                let fields: Vec<_> = switchyard::mywire::packet::text_fields(row).map(Result::unwrap).collect();
                assert!(row[fields[1].clone().unwrap()] == field(n), "{n}");
                n += 1;
            }
        }
        assert_eq!(n, 20_000);

        // What the server would skip or change is an error, at the end; the connection goes on.
        conn.execute("delete from d.t; create table d.s (a tinyint not null, b varchar(3) character set ascii, c date, check (a <> 7))").await.unwrap();
        conn.execute("begin").await.unwrap();
        conn.load_local_start(LOAD).await.unwrap();
        conn.load_local_write(b"1\tx\n1\ty\n").await.unwrap();
        conn.load_local_write(&data).await.unwrap();
        let e = conn.load_local_finish().await.unwrap_err();
        assert!(matches!(e.code(), Some("1062")) && !e.is_retry() && e.message().contains("PRIMARY"), "{e}");
        conn.execute("rollback").await.unwrap();
        let into = LOAD.replace("d.t", "d.s").replace("(a, b)", "(a, b, c)").replace("binary", "utf8mb4");
        for bad in [
            "300\tx\t\\N",
            "1\tlong\t\\N",
            "1\té\t\\N",
            "1\tx\t2023-02-30",
            "1\tx",
            "1\tx\t\\N\tmore",
            "\\N\tx\t\\N",
            "7\tx\t\\N",
            "q\tx\t\\N",
        ] {
            conn.execute("begin; set sql_mode = 'STRICT_ALL_TABLES'").await.unwrap();
            conn.load_local_start(&into).await.unwrap();
            conn.load_local_write(format!("2\ty\t2023-02-28\n{bad}\n").as_bytes()).await.unwrap();
            let e = conn.load_local_finish().await.unwrap_err();
            assert!(!e.is_retry() && e.code().is_some(), "{bad:?} {e}");
            conn.execute("rollback").await.unwrap();
        }

        // One that is given up leaves nothing.
        for whole_packets in [true, false] {
            let mut other = MyConn::connect(&info(&server.url("")), "target", "load", Preset::Target).await.unwrap();
            let id = other.connection_id();
            other.execute("begin").await.unwrap();
            other.load_local_start(LOAD).await.unwrap();
            other.load_local_write(&data).await.unwrap();
            if whole_packets {
                other.load_local_abort();
            } else {
                drop(other);
            }
            let gone = format!("select count(*) from information_schema.processlist where id = {id}");
            while conn.query(&gone).await.unwrap()[0][0].as_deref() != Some(b"0") {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            assert_eq!(conn.query("select count(*) from d.t").await.unwrap()[0][0].as_deref(), Some(&b"0"[..]));
        }
        // A session that somebody ends while it loads says so.
        let mut other = MyConn::connect(&info(&server.url("")), "target", "load", Preset::Target).await.unwrap();
        other.execute("begin").await.unwrap();
        other.load_local_start(LOAD).await.unwrap();
        other.load_local_write(&data).await.unwrap();
        conn.execute(format!("kill {}", other.connection_id())).await.unwrap();
        let e = loop {
            if let Err(e) = other.load_local_write(&data).await {
                break e;
            }
        };
        assert!(e.is_retry() && other.is_closed(), "{e}");

        conn.execute("begin").await.unwrap();
        let e = conn.load_local_start(LOAD.replace("d.t", "d.nothing")).await.unwrap_err();
        assert_eq!(e.code(), Some("1146"));
        conn.execute("set global local_infile = OFF").await.unwrap();
        let mut conn = connect(&server).await;
        conn.execute("begin").await.unwrap();
        let e = conn.load_local_start(LOAD).await.unwrap_err();
        assert!(e.hint_text().is_some_and(|h| h.contains("local_infile")), "{e} {:?}", e.code());
    }
}

#[test]
fn given_any_text_and_bytes_when_quoted_then_the_server_reads_them_back() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for install in installs() {
        let server = quick(&install).start().unwrap();
        let conn = std::cell::RefCell::new(runtime.block_on(connect(&server)));
        let awkward = prop_oneof![any::<String>(), "[\\\\'\"`\0\n\r\u{1a}%_é☃😀a-c]{0,12}"];
        proptest!(ProptestConfig::with_cases(300), |(text in awkward, bytes in any::<Vec<u8>>(), name in "[a-z`'\"\\\\ é.]{1,20}[a-z]")| {
            let mut conn = conn.borrow_mut();
            let sql = format!("SELECT {}, {}, 1 AS {}", quote::literal(&text), quote::hex(&bytes), quote::quoted(&name));
            let rows = runtime.block_on(conn.query(&sql)).unwrap();
            prop_assert_eq!(rows[0][0].as_deref(), Some(text.as_bytes()));
            prop_assert_eq!(rows[0][1].as_deref(), Some(&bytes[..]));
            let columns = runtime.block_on(async {
                let columns = conn.query_start(&sql).await.unwrap();
                while conn.next_block().await.unwrap().is_some() {}
                columns
            });
            prop_assert_eq!(&columns[2].name, name.trim_start());
        });
    }
}

#[tokio::test]
async fn given_a_control_session_when_used_then_its_settings_are_ours_and_its_errors_are_wrapped() {
    use mysql_async::prelude::Queryable;
    for install in installs() {
        let server = quick(&install).start().unwrap();
        server.sql("create database d; create table d.t (a int primary key)").unwrap();
        let at = info(&server.url("d"));
        let mut conn = control::connect(&at, "target", "bookkeeping", Preset::Target).await.unwrap();
        let row: Option<(String, String, String)> =
            conn.query_first("select @@time_zone, @@sql_mode, @@character_set_client").await.unwrap();
        let (zone, mode, charset) = row.unwrap();
        assert_eq!((&*zone, &*charset), ("+00:00", "utf8mb4"));
        assert!(mode.contains("STRICT_ALL_TABLES") && mode.contains("NO_AUTO_VALUE_ON_ZERO"), "{mode}");
        let described = control::server(&mut conn, &at).await.unwrap();
        assert_eq!(described.database, "d");
        assert!(install.version.starts_with(described.version.split('-').next().unwrap()), "{}", described.version);
        conn.query_drop("insert into t values (4711)").await.unwrap();
        let e = conn.query_drop("insert into t values (4711)").await.unwrap_err();
        let e = control::wrap("storing the checkpoint", &e);
        assert!(e.code() == Some("1062") && !e.message().contains("4711") && e.message().contains("PRIMARY"), "{e}");
        let id = conn.id();
        server.sql(&format!("kill {id}")).unwrap();
        let e = conn.query_drop("select 1").await.unwrap_err();
        let e = control::wrap("asking", &e);
        assert!(e.is_retry(), "{e}");
    }
}
