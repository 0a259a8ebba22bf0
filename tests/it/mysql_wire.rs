//! The MySQL wire client and the private servers beneath it, on MySQL and MariaDB.

use std::time::{Duration, Instant};

use secrecy::SecretString;
use switchyard::mywire::conn::{Flavour, MyConn, Preset};
use switchyard::mywire::conninfo::MyConnInfo;
use switchyard::sandbox::{self, MyInstall, MyServer, MyServerBuilder};

fn installs() -> [MyInstall; 2] {
    [sandbox::find_mysql().unwrap(), sandbox::find_mariadb().unwrap()]
}

fn quick(install: &MyInstall) -> MyServerBuilder {
    MyServer::builder(install).setting("sync_binlog", "0").setting("innodb_flush_log_at_trx_commit", "0")
}

fn info(url: &str) -> MyConnInfo {
    MyConnInfo::parse("source.url", &SecretString::from(url.to_owned())).unwrap()
}

async fn connect(server: &MyServer) -> MyConn {
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
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
