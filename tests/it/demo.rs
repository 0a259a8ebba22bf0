//! `switchyard demo` as a stranger runs it: the built program, real servers, its exit status and its last words.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn demo(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchyard"));
    command.arg("demo").args(args).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

fn text(o: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr))
}

#[test]
fn given_a_small_shop_when_the_demo_is_run_then_nothing_is_lost() {
    let out = demo(&["--rows", "3000", "--seconds", "4", "--yes"]).output().unwrap();
    let text = text(&out);
    assert_eq!(out.status.code(), Some(0), "{text}");
    let has = |line: &str| text.lines().any(|l| l == line);
    assert!(has("lost writes: 0"), "{text}");
    assert!(has("rolled-back writes that appeared: 0"), "{text}");
    assert!(text.contains("rows in 11 tables: all equal"), "{text}");
    assert!(text.contains("nothing left behind"), "{text}");
    assert!(text.lines().all(|l| l.chars().count() <= 100), "{text}");
    // Plain output has no control characters, and the configuration that is shown no password.
    assert!(!text.contains('\x1b') && !text.contains('\r'), "{text}");
    assert!(text.contains("postgres:${SOURCE_PASSWORD}@127.0.0.1"), "{text}");
}

/// A quick run between two engines; everything but the engines' own words is as between two PostgreSQL servers.
fn moves(source: &str, target: &str) {
    let out =
        demo(&["--source", source, "--target", target, "--rows", "2000", "--seconds", "4", "--yes"]).output().unwrap();
    let text = text(&out);
    assert_eq!(out.status.code(), Some(0), "{text}");
    for line in ["lost writes: 0", "rolled-back writes that appeared: 0"] {
        assert!(text.lines().any(|l| l == line), "{text}");
    }
    assert!(text.contains("rows in 11 tables: all equal") && text.contains("definitions: all equal"), "{text}");
    assert!(text.contains("nothing left behind") && text.contains("ADD COLUMN channel"), "{text}");
    assert!(text.lines().all(|l| l.chars().count() <= 100), "{text}");
    assert!(text.contains(&format!("url = \"{source}://")) && text.contains(&format!("url = \"{target}://")), "{text}");
}

#[test]
fn given_postgres_and_mysql_when_the_demo_is_run_then_nothing_is_lost() {
    moves("postgres", "mysql");
}

#[test]
fn given_mysql_and_postgres_when_the_demo_is_run_then_nothing_is_lost() {
    moves("mysql", "postgres");
}

#[test]
fn given_mariadb_and_mysql_when_the_demo_is_run_then_nothing_is_lost() {
    moves("mariadb", "mysql");
}

#[test]
fn given_mongo_and_postgres_when_the_demo_is_run_then_nothing_is_lost() {
    let out = demo(&["--source", "mongo", "--rows", "2000", "--seconds", "4", "--yes"]).output().unwrap();
    let text = text(&out);
    assert_eq!(out.status.code(), Some(0), "{text}");
    for line in ["lost writes: 0", "rolled-back writes that appeared: 0"] {
        assert!(text.lines().any(|l| l == line), "{text}");
    }
    assert!(text.contains("rows in 8 tables: all equal") && text.contains("35 definitions: all equal"), "{text}");
    assert!(text.contains("nothing left behind") && text.contains("a field `channel`"), "{text}");
    assert!(text.contains("url = \"mongodb://root:${SOURCE_PASSWORD}@127.0.0.1"), "{text}");
    assert!(text.lines().all(|l| l.chars().count() <= 100), "{text}");
}

#[test]
fn given_no_server_of_an_engine_when_the_demo_is_run_then_it_says_how_to_get_one() {
    let out = demo(&["--source", "mysql", "--rows", "100", "--yes"]).env("MYSQLD", "/nowhere/mysqld").output().unwrap();
    let text = text(&out);
    assert_eq!(out.status.code(), Some(1), "{text}");
    assert!(text.contains("MYSQLD") && text.contains("scripts/servers.sh mysql"), "{text}");
}

#[test]
fn given_an_engine_that_the_demo_does_not_know_when_asked_for_it_then_it_is_refused_at_once() {
    for args in [&["--target", "oracle"][..], &["--target", "mongo"], &["--source", "mongo", "--target", "mysql"]] {
        let out = demo(args).output().unwrap();
        let text = text(&out);
        assert_eq!(out.status.code(), Some(2), "{text}");
        assert!(text.contains(&args.join(" ")) && text.contains("hint:"), "{text}");
    }
    assert_eq!(demo(&["--rows", "0"]).output().unwrap().status.code(), Some(2));
}

#[test]
fn given_a_running_demo_when_it_is_interrupted_then_it_takes_everything_with_it() {
    let temp = std::env::temp_dir().join(format!("switchyard-demo-test-{}", std::process::id()));
    std::fs::create_dir_all(&temp).unwrap();
    // The account that runs the servers must be able to pass through it.
    std::fs::set_permissions(&temp, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut child = demo(&["--rows", "3000", "--seconds", "600", "--yes"])
        .env("TMPDIR", &temp)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut daemon = None;
    for line in lines.by_ref() {
        let line = line.unwrap();
        let line = line.trim_start();
        if let Some(rest) = line.strip_prefix("pid ") {
            daemon = rest.split(';').next().and_then(|pid| pid.parse::<i32>().ok());
        }
        if line.starts_with("lag ") {
            break;
        }
    }
    let daemon = daemon.expect("the daemon's pid is printed");
    // SAFETY: no memory is involved, and the child has not been waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    std::thread::spawn(move || lines.count());
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "still running");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(status.code(), Some(130));
    let gone = |pid: i32| !std::path::Path::new(&format!("/proc/{pid}")).exists();
    assert!(gone(daemon), "the daemon outlived the demo");
    let mut left = Vec::new();
    for folder in std::fs::read_dir(&temp).unwrap().flatten() {
        let name = folder.file_name().to_string_lossy().into_owned();
        if name.starts_with("switchyard-demo-") {
            left.push(name);
        } else {
            // Templates of data directories stay for the next server; servers do not.
            let inner = std::fs::read_dir(folder.path()).unwrap().flatten();
            left.extend(
                inner.map(|f| f.file_name().to_string_lossy().into_owned()).filter(|f| f.starts_with("server-")),
            );
        }
    }
    assert_eq!(left, Vec::<String>::new());
    let _ = std::fs::remove_dir_all(&temp);
}
