//! The built program through a migration's life on real servers: init, check, run, a second daemon, stop, finish.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use switchyard::sandbox::{self, PgServer};

fn start(wal_level: &str) -> PgServer {
    let install = sandbox::find_postgres(None).unwrap();
    PgServer::builder(&install).setting("fsync", "off").setting("wal_level", wal_level).start().unwrap()
}

fn command(args: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_switchyard"));
    c.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for name in ["SWITCHYARD_API", "SWITCHYARD_TOKEN", "RUST_LOG"] {
        c.env_remove(name);
    }
    c
}

fn run(args: &[&str]) -> (i32, String, String) {
    told(command(args).output().unwrap())
}

fn told(o: Output) -> (i32, String, String) {
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    (o.status.code().expect("an exit status"), text(&o.stdout), text(&o.stderr))
}

/// A daemon that is killed with the test.
struct Daemon(Option<Child>);

impl Daemon {
    fn stop(mut self) -> (i32, String, String) {
        let child = self.0.take().unwrap();
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        told(child.wait_with_output().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn status(file: &str) -> Option<serde_json::Value> {
    let (code, out, _) = run(&["status", "-c", file, "--json"]);
    (code == 0).then(|| serde_json::from_str(&out).unwrap())
}

#[test]
fn given_two_servers_when_a_migration_lives_then_every_command_keeps_its_word() {
    let (source, target) = (start("logical"), start("replica"));
    source.psql("create table items (id int primary key, v text)").unwrap();
    source.psql("insert into items select i, 'row ' || i from generate_series(1, 5000) i").unwrap();

    let (code, config, err) =
        run(&["init", "--source", &source.url("postgres"), "--target", &target.url("postgres"), "--name", "life"]);
    assert_eq!(code, 0, "{err}");
    assert!(!config.contains(source.password()) && !config.contains(target.password()), "{config}");
    assert!(config.contains("public.items") && config.contains("${SOURCE_PASSWORD}"), "{config}");

    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let path = std::env::temp_dir().join(format!("switchyard-life-{}.toml", std::process::id()));
    let config =
        config.replace("${SOURCE_PASSWORD}", source.password()).replace("${TARGET_PASSWORD}", target.password());
    std::fs::write(&path, config.replace("127.0.0.1:7654", &format!("127.0.0.1:{port}"))).unwrap();
    let file = Path::new(&path).to_str().unwrap();

    let (code, out, err) = run(&["check", "-c", file]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("Ready."), "{out}");

    let daemon = Daemon(Some(command(&["run", "-c", file]).spawn().unwrap()));
    wait_until("ready", || status(file).is_some_and(|s| s["phase"] == "ready"));
    source.psql("update items set v = 'new' where id <= 10; delete from items where id = 11").unwrap();
    wait_until("the change is there", || status(file).is_some_and(|s| s["stream"]["rows_applied"] == 11));
    assert_eq!(target.psql("select count(*) from items where v = 'new'").unwrap().trim(), "10");
    wait_until("level", || status(file).is_some_and(|s| s["stream"]["lag_seconds"] == 0.0));

    // Same file: the port is taken, too, but what matters is that the migration is.
    let (code, _, err) = run(&["run", "-c", file]);
    assert_eq!(code, 3, "{err}");
    let (code, _, err) = run(&["finish", "-c", file, "--yes"]);
    assert_eq!(code, 3, "{err}");

    let (code, _, err) = daemon.stop();
    assert_eq!(code, 0, "{err}");
    assert!(!err.contains(source.password()) && !err.contains(target.password()), "{err}");
    let (code, _, err) = run(&["finish", "-c", file]);
    assert_eq!(code, 2, "{err}");
    let (code, out, err) = run(&["finish", "-c", file, "--yes", "--json"]);
    assert_eq!(code, 0, "{err}");
    let done: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(!done["source"].as_array().unwrap().is_empty() && !done["target"].as_array().unwrap().is_empty(), "{out}");
    assert_eq!(source.psql("select count(*) from pg_replication_slots").unwrap().trim(), "0");
    assert_eq!(source.psql("select count(*) from pg_publication").unwrap().trim(), "0");
    let (code, out, _) = run(&["finish", "-c", file, "--yes"]);
    assert_eq!((code, out.matches("nothing of this migration").count()), (0, 2), "{out}");
    let _ = std::fs::remove_file(&path);
}

#[test]
fn given_a_source_without_logical_log_when_checked_then_the_statement_is_named() {
    let (source, target) = (start("replica"), start("replica"));
    source.psql("create table items (id int primary key)").unwrap();
    let path = std::env::temp_dir().join(format!("switchyard-wal-{}.toml", std::process::id()));
    let text = format!(
        "name = \"w\"\n[source]\nurl = \"{}\"\n[target]\nurl = \"{}\"\n",
        source.url("postgres"),
        target.url("postgres")
    );
    std::fs::write(&path, text).unwrap();
    let (code, out, err) = run(&["check", "-c", path.to_str().unwrap()]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("ALTER SYSTEM SET wal_level = logical"), "{out}");
    assert!(!out.contains(source.password()) && !err.contains(source.password()));
    let _ = std::fs::remove_file(&path);
}
