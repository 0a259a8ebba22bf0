//! The private servers and the proxy that every other test stands on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use switchyard::sandbox::{self, PgServer, Proxy, StopMode};

fn start() -> PgServer {
    let install = sandbox::find_postgres(None).unwrap();
    PgServer::builder(&install).setting("fsync", "off").start().unwrap()
}

/// Sends an SSLRequest and reads the server's one-byte answer: the shortest exchange there is.
fn answers(stream: &mut TcpStream) -> std::io::Result<u8> {
    stream.set_read_timeout(Some(Duration::from_millis(400)))?;
    stream.write_all(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f])?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    Ok(answer[0])
}

fn alive(pid: i32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn given_a_server_when_it_restarts_then_port_and_data_stay() {
    let mut server = start();
    let port = server.port();
    server.psql("create table t as select 1 as a").unwrap();
    for mode in [StopMode::Fast, StopMode::Immediate] {
        let before = server.pid();
        server.restart(mode).unwrap();
        assert_ne!(server.pid(), before);
        assert_eq!(server.port(), port);
        assert_eq!(server.psql("select a from t").unwrap(), "1");
    }
    server.kill9();
    assert_eq!(server.pid(), None);
    assert!(server.psql("select 1").is_err());
    server.start_again().unwrap();
    assert_eq!(server.psql("select a from t; show wal_level").unwrap(), "1\nlogical");
}

#[test]
fn given_two_servers_when_asked_then_their_system_identifiers_differ() {
    let (one, two) = (start(), start());
    let ask = "select system_identifier from pg_control_system()";
    assert_ne!(one.psql(ask).unwrap(), two.psql(ask).unwrap());
}

#[test]
fn given_a_server_when_dropped_then_nothing_is_left() {
    let server = start();
    let (pid, data) = (server.pid().unwrap(), server.data_dir().to_owned());
    assert!(alive(pid) && data.exists());
    drop(server);
    assert!(!alive(pid));
    assert!(!data.exists());
}

#[test]
fn given_a_password_server_when_the_password_is_wrong_then_it_refuses() {
    let install = sandbox::find_postgres(None).unwrap();
    let server = PgServer::builder(&install)
        .setting("fsync", "off")
        .password_auth(true)
        .tls(true)
        .hba(["host all nobody all reject"])
        .start()
        .unwrap();
    assert_eq!(server.psql("show ssl").unwrap(), "on");
    let psql = |url: String| {
        std::process::Command::new(server.install().bin.join("psql"))
            .args(["-Atc", "select current_user"])
            .env("PGSSLROOTCERT", server.tls_ca().unwrap())
            .arg(url)
            .output()
            .unwrap()
    };
    let right = server.url("postgres");
    assert!(psql(right.clone()).status.success());
    let verified = right.replace("127.0.0.1", "localhost") + "?sslmode=verify-full";
    let answer = psql(verified);
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let wrong_name = psql(right + "?sslmode=verify-full");
    assert!(!wrong_name.status.success());
    let wrong_password = psql(server.url_as("postgres", "p@ss/word", "postgres"));
    let said = String::from_utf8_lossy(&wrong_password.stderr).into_owned();
    assert!(said.contains("password authentication failed"), "{said}");
}

#[test]
fn given_a_paused_server_when_continued_then_it_answers_again() {
    let mut server = start();
    server.sigstop();
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    assert!(answers(&mut stream).is_err());
    server.sigcont();
    assert_eq!(server.psql("select 1").unwrap(), "1");
    server.sigstop();
    // Dropped while paused: must not hang.
}

#[test]
fn given_a_standby_and_a_backup_when_used_then_they_hold_what_they_should() {
    let mut server = start();
    server.psql("create table t as select 1 as a").unwrap();
    let replica = server.base_backup(&[("max_standby_streaming_delay", "1s")]).unwrap();
    assert_eq!(replica.psql("select pg_is_in_recovery(), a from t").unwrap(), "t|1");
    server.psql("insert into t values (2)").unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while replica.psql("select count(*) from t").unwrap() != "2" {
        assert!(Instant::now() < deadline, "the standby does not follow");
    }
    drop(replica);
    let backup = server.copy_data_dir_offline().unwrap();
    server.psql("insert into t values (3)").unwrap();
    server.restore(&backup).unwrap();
    assert_eq!(server.psql("select count(*) from t").unwrap(), "2");
}

#[test]
fn given_a_proxy_when_the_network_misbehaves_then_clients_see_it() {
    let server = start();
    let proxy = Proxy::start(server.port()).unwrap();
    let connect = || TcpStream::connect(("127.0.0.1", proxy.port()));

    let mut stream = connect().unwrap();
    assert_eq!(answers(&mut stream).unwrap(), b'N');

    proxy.stall(true);
    assert_eq!(answers(&mut stream).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    proxy.stall(false);
    // The bytes that were under way arrive: a second SSLRequest is a protocol error to the server.
    let mut rest = Vec::new();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.read_to_end(&mut rest).unwrap();

    let mut stream = connect().unwrap();
    answers(&mut stream).unwrap();
    assert!(proxy.cut() >= 1);
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);

    proxy.refuse(true).unwrap();
    assert_eq!(connect().unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    proxy.refuse(false).unwrap();
    answers(&mut connect().unwrap()).unwrap();

    proxy.slow(Some(40));
    let start = Instant::now();
    answers(&mut connect().unwrap()).unwrap();
    assert!(start.elapsed() > Duration::from_millis(100), "{:?}", start.elapsed());
}

/// `make servers` puts 17 and 18 beside the packaged version; a machine without them fails here.
#[test]
fn soak_given_every_version_when_started_then_each_serves_and_is_replicated() {
    let installs = sandbox::all_postgres();
    let majors: Vec<u32> = installs.iter().map(|install| install.version_major).collect();
    for needed in [17, 18] {
        assert!(majors.contains(&needed), "found only {majors:?}; run `scripts/servers.sh matrix`");
    }
    for install in installs {
        let mut server = PgServer::builder(&install).tls(true).start().unwrap();
        let number = server.psql("show server_version_num").unwrap();
        assert_eq!(number.parse::<u32>().unwrap() / 10_000, install.version_major);
        server.kill9();
        server.start_again().unwrap();
        let replica = server.base_backup(&[]).unwrap();
        assert_eq!(replica.psql("select pg_is_in_recovery()").unwrap(), "t");
        let (pid, data) = (server.pid().unwrap(), server.data_dir().to_owned());
        drop((server, replica));
        assert!(!alive(pid) && !data.exists());
    }
}

/// Not a test by itself: the process that the next test kills. It starts a server, says so, and waits.
#[test]
fn owner_to_be_killed() {
    let Some(tell) = std::env::var_os("SWITCHYARD_SANDBOX_TELL") else {
        return;
    };
    let server = start();
    let said = format!("{} {}", server.pid().unwrap(), server.data_dir().display());
    std::fs::write(&tell, said).unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn given_a_killed_owner_when_the_next_server_starts_then_nothing_is_left() {
    let tell = std::env::temp_dir().join(format!("switchyard-tell-{}", std::process::id()));
    let mut owner = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sandbox::owner_to_be_killed"])
        .env("SWITCHYARD_SANDBOX_TELL", &tell)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let wait = |what: &str, ready: &dyn Fn() -> bool| {
        while !ready() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let said = || std::fs::read_to_string(&tell).unwrap_or_default();
    wait("the owner starts no server", &|| said().contains(' '));
    owner.kill().unwrap();
    owner.wait().unwrap();
    let said = said();
    std::fs::remove_file(&tell).unwrap();
    let (pid, data) = said.split_once(' ').unwrap();
    let pid: i32 = pid.parse().unwrap();
    wait("the server outlives its owner", &|| !alive(pid));
    drop(start());
    assert!(!std::path::Path::new(data).exists());
}

/// MongoDB's private servers.
mod mongo {
    use bson::doc;
    use switchyard::sandbox::{self, MongoServer};

    fn number(server: &MongoServer) -> i64 {
        let reply = server.run("shop", doc! { "count": "items" }).unwrap();
        i64::from(reply.get_i32("n").unwrap())
    }

    #[test]
    fn given_a_set_with_accounts_when_killed_stopped_and_paused_then_what_was_acknowledged_is_there() {
        let mut server = MongoServer::builder(&sandbox::find_mongo().unwrap()).auth(true).start().unwrap();
        server
            .run("shop", doc! { "insert": "items", "documents": [{ "_id": 1 }], "writeConcern": { "w": "majority" } })
            .unwrap();
        server.kill9();
        server.start_again().unwrap();
        assert_eq!(number(&server), 1);
        server.restart().unwrap();
        server.pause();
        server.resume();
        assert_eq!(number(&server), 1);
        let anonymous = server.url("shop").replace("root:", "nobody:");
        assert!(
            server
                .wait_for(async move {
                    let client = mongodb::Client::with_uri_str(anonymous).await?;
                    Ok(client.database("shop").run_command(doc! { "count": "items" }).await.is_err())
                })
                .unwrap()
        );
    }

    #[test]
    fn given_three_members_when_the_primary_is_killed_then_another_takes_over() {
        let mut server = MongoServer::builder(&sandbox::find_mongo().unwrap()).members(3).start().unwrap();
        server
            .run("shop", doc! { "insert": "items", "documents": [{ "_id": 1 }], "writeConcern": { "w": "majority" } })
            .unwrap();
        let first = server.await_primary().unwrap();
        server.kill9_member(first);
        assert_ne!(server.await_primary().unwrap(), first);
        assert_eq!(number(&server), 1);
    }

    #[test]
    fn given_tls_or_a_server_alone_when_started_then_it_answers() {
        let install = sandbox::find_mongo().unwrap();
        let server = MongoServer::builder(&install).tls(true).start().unwrap();
        assert_eq!(number(&server), 0);
        let server = MongoServer::builder(&install).standalone().start().unwrap();
        assert_eq!(number(&server), 0);
        assert!(server.run("admin", doc! { "hello": 1 }).unwrap().get_str("setName").is_err());
    }
}
