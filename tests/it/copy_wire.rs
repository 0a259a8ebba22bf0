//! COPY over our own connection, against a real server.

use std::time::Duration;

use bytes::BytesMut;
use switchyard::pgwire::conn::{PgConn, Purpose};
use switchyard::sandbox::PgServer;

use crate::stream::{info, server};

async fn connect(server: &PgServer) -> PgConn {
    PgConn::connect(&info(&server.url("postgres")), "target", Purpose::Sql).await.unwrap()
}

/// All blocks one after the other, and the rows counted.
async fn read(conn: &mut PgConn, sql: &str) -> (Vec<u8>, u64) {
    conn.copy_out_start(sql).await.unwrap();
    let (mut all, mut rows) = (Vec::new(), 0);
    let mut out = BytesMut::new();
    while let Some(n) = conn.copy_out_next(&mut out).await.unwrap() {
        rows += n;
        all.extend_from_slice(&out.split());
    }
    assert!(out.is_empty());
    (all, rows)
}

#[tokio::test]
async fn given_small_huge_and_no_rows_when_copied_through_then_the_target_has_them_all() {
    let server = server(&[]);
    server
        .psql(
            "create table a (id int, v text); create table b (like a); create table empty (like a); create table none ();
             insert into none default values; insert into none default values;
             insert into a select i, repeat('x', i % 300) from generate_series(1, 100000) i;
             insert into a select i, repeat(chr(97 + i), 300000 * i) from generate_series(1, 20) i;
             insert into a values (0, null)",
        )
        .unwrap();
    let (mut one, mut two) = (connect(&server).await, connect(&server).await);
    for (format, framed) in [("binary", true), ("text", false)] {
        let out = format!("copy public.a to stdout (format {format})");
        one.copy_out_start(&out).await.unwrap();
        two.execute("truncate public.b").await.unwrap();
        two.copy_in_start(&format!("copy public.b from stdin (format {format})"), framed).await.unwrap();
        let (mut block, mut rows) = (BytesMut::new(), 0);
        while let Some(n) = one.copy_out_next(&mut block).await.unwrap() {
            rows += n;
            two.copy_in_write(&block.split()).await.unwrap();
        }
        assert_eq!(rows, 100_021, "{format}");
        assert_eq!(two.copy_in_finish().await.unwrap(), 100_021);
        let differ = "select count(*) from ((table a except all table b) union all (table b except all table a)) d";
        assert_eq!(server.psql(differ).unwrap(), "0", "{format}");
        assert_eq!(read(&mut one, &format!("copy public.empty to stdout (format {format})")).await, (vec![], 0));
        assert_eq!(read(&mut one, &format!("copy public.none to stdout (format {format})")).await.1, 2);
        // The connection is ready for the next command.
        assert_eq!(one.simple_query("select 7").await.unwrap()[0][0].as_deref(), Some("7"));
    }
}

#[tokio::test]
async fn given_rows_that_the_server_refuses_when_copied_in_then_the_error_comes_early_and_the_connection_lives() {
    let server = server(&[]);
    server.psql("create table a (id int check (id > 0), v text)").unwrap();
    let mut conn = connect(&server).await;
    conn.copy_in_start("copy public.a from stdin", false).await.unwrap();
    conn.copy_in_write(b"0\tsecret\n").await.unwrap();
    let more = "1\tx\n".repeat(100_000);
    let writing = async {
        for _ in 0..1000 {
            conn.copy_in_write(more.as_bytes()).await?;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    };
    let e: switchyard::Error = tokio::time::timeout(Duration::from_secs(10), writing).await.unwrap().unwrap_err();
    assert_eq!(e.code(), Some("23514"), "{e}");
    assert!(!e.message().contains("secret"), "{e}");
    assert_eq!(conn.simple_query("select 7").await.unwrap()[0][0].as_deref(), Some("7"));
    // Given up by us: nothing is taken.
    conn.copy_in_start("copy public.a from stdin", false).await.unwrap();
    conn.copy_in_write(more.as_bytes()).await.unwrap();
    conn.copy_in_fail("changed my mind").await.unwrap();
    assert_eq!(server.psql("select count(*) from a").unwrap(), "0");
    // A COPY that cannot even start, and one that fails half-way.
    assert_eq!(conn.copy_out_start("copy public.nowhere to stdout").await.unwrap_err().code(), Some("42P01"));
    conn.copy_out_start("copy (select 10 / (5000 - i) from generate_series(1, 10000) i) to stdout (format binary)").await.unwrap();
    let mut out = BytesMut::new();
    let e = loop {
        match conn.copy_out_next(&mut out).await {
            Ok(n) => assert!(n.is_some(), "the error was lost"),
            Err(e) => break e,
        }
    };
    assert_eq!(e.code(), Some("22012"), "{e}");
    assert_eq!(conn.simple_query("select 7").await.unwrap()[0][0].as_deref(), Some("7"));
}
