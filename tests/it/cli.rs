//! The built program: exit statuses and messages, without any server.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A file that is removed with the value.
struct File(PathBuf);

impl File {
    fn new(text: &str) -> File {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("switchyard-cli-{}-{n}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        File(path)
    }
    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn switchyard(args: &[&str]) -> Output {
    // A command that should have ended must not hold up every other test.
    Command::new("timeout")
        .args(["120", env!("CARGO_BIN_EXE_switchyard")])
        .args(args)
        .env_remove("SWITCHYARD_API")
        .env_remove("SWITCHYARD_TOKEN")
        .env_remove("NO_SUCH_VARIABLE")
        .env_remove("RUST_LOG")
        .env("SECRET_FOR_TEST", "hunter2-secret")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn status(o: &Output) -> i32 {
    o.status.code().expect("an exit status")
}

fn err(o: &Output) -> String {
    String::from_utf8_lossy(&o.stderr).into_owned()
}

fn out(o: &Output) -> String {
    String::from_utf8_lossy(&o.stdout).into_owned()
}

/// A port on which nobody listens.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn config(extra: &str) -> String {
    let (a, b) = (free_port(), free_port());
    format!(
        "name = \"shop\"\n[source]\nurl = \"postgres://u:${{SECRET_FOR_TEST}}@127.0.0.1:{a}/a\"\n\
         [target]\nurl = \"postgres://u:hunter2-plain@127.0.0.1:{b}/b\"\n{extra}\n"
    )
}

#[test]
fn given_wrong_usage_when_run_then_the_status_is_2_and_help_is_0() {
    for args in [&[][..], &["frobnicate"], &["check", "--frobnicate"], &["init"], &["check"], &["run"], &["finish"]] {
        let o = switchyard(args);
        assert_eq!(status(&o), 2, "{args:?}: {}", err(&o));
        assert!(!err(&o).is_empty());
    }
    for args in [&["--help"][..], &["--version"], &["run", "--help"], &["finish", "--help"], &["demo", "--help"]] {
        let o = switchyard(args);
        assert_eq!(status(&o), 0, "{args:?}");
        assert!(!out(&o).is_empty());
    }
    for command in ["init", "check", "run", "status", "finish", "demo"] {
        assert!(out(&switchyard(&["--help"])).contains(&format!("  {command} ")), "{command}");
        let help = out(&switchyard(&[command, "--help"]));
        assert!(help.contains("Examples:") && help.contains("Exit statuses:"), "{command}: {help}");
    }
}

#[test]
fn given_bad_configurations_when_any_command_reads_them_then_the_status_is_2_and_the_line_is_named() {
    for (extra, wants) in [
        ("[snapshot]\nworker = 3", &[":7: snapshot.worker: unknown key", "  hint: did you mean \"workers\"?"][..]),
        ("[apply]\nmax_delay = \"soon\"", &[":7: apply.max_delay: \"soon\" is not a duration", "hint: "]),
        ("[api]\nlisten = \"0.0.0.0:7654\"", &[":7: api.listen: ", "no token"]),
        ("[api]\ntokens = { operator = \"${NO_SUCH_VARIABLE}\" }", &["NO_SUCH_VARIABLE is not set"]),
        ("[[rule]]\nfrom = \"public.*\"", &["rule[0].from: \"public.*\" names no single table"]),
    ] {
        let file = File::new(&config(extra));
        for command in ["check", "run", "status", "finish"] {
            let o = switchyard(&[command, "-c", file.path()]);
            assert_eq!(status(&o), 2, "{command} {extra}: {}", err(&o));
            assert!(err(&o).starts_with("error: "), "{}", err(&o));
            for want in wants {
                assert!(err(&o).contains(want), "{command}: {want:?} is not in {}", err(&o));
            }
        }
    }
    let o = switchyard(&["check", "-c", "/does/not/exist.toml"]);
    assert_eq!(status(&o), 2);
    assert!(err(&o).contains("/does/not/exist.toml") && err(&o).contains("hint: "), "{}", err(&o));
    let file = File::new(&config("").replace("postgres://u:${SECRET_FOR_TEST}", "oracle://u:${SECRET_FOR_TEST}"));
    let o = switchyard(&["run", "-c", file.path()]);
    assert_eq!(status(&o), 2);
    assert!(err(&o).contains("\"oracle\" is not an engine"), "{}", err(&o));
}

#[test]
fn given_json_when_it_fails_then_stdout_holds_one_document() {
    let file = File::new(&config("[snapshot]\nworkers = 0"));
    let o = switchyard(&["check", "-c", file.path(), "--json"]);
    assert_eq!(status(&o), 2);
    let document: serde_json::Value = serde_json::from_str(&out(&o)).unwrap();
    assert_eq!(document["class"], "config");
    assert!(document["error"].as_str().unwrap().contains("snapshot.workers"));
    assert!(document["hint"].is_string());
    let o = switchyard(&["frobnicate", "--json"]);
    assert_eq!(status(&o), 2);
    assert!(serde_json::from_str::<serde_json::Value>(&out(&o)).unwrap()["error"].is_string());
}

#[test]
fn given_servers_that_do_not_answer_when_checked_then_it_is_a_problem_and_no_password_is_shown() {
    let file = File::new(&config(""));
    for json in [false, true] {
        let mut args = vec!["check", "-vv", "-c", file.path()];
        if json {
            args.push("--json");
        }
        let o = switchyard(&args);
        assert_eq!(status(&o), 1, "{}{}", out(&o), err(&o));
        let all = out(&o) + &err(&o);
        assert!(!all.contains("hunter2"), "{all}");
        if json {
            let document: serde_json::Value = serde_json::from_str(&out(&o)).unwrap();
            assert_eq!(document["ready"], false);
            let problems = document["findings"].as_array().unwrap().iter().filter(|f| f["severity"] == "problem");
            assert_eq!(problems.count(), 2, "{document}");
        } else {
            assert!(out(&o).contains("2 problems:") && out(&o).contains("→ "), "{}", out(&o));
        }
    }
    let url = format!("postgres://u:hunter2@127.0.0.1:{}/a", free_port());
    let o = switchyard(&["init", "--source", &url, "--target", "postgres://u:hunter2@127.0.0.1/b"]);
    assert_eq!(status(&o), 1, "{}", err(&o));
    assert!(err(&o).contains("looking at the source") && !err(&o).contains("hunter2"), "{}", err(&o));
}

#[test]
fn given_no_daemon_when_asked_for_its_status_then_it_is_1_with_a_hint() {
    let api = format!("http://127.0.0.1:{}", free_port());
    let o = switchyard(&["status", "--api", &api]);
    assert_eq!(status(&o), 1);
    assert!(err(&o).contains(&api) && err(&o).contains("hint: is `switchyard run` running?"), "{}", err(&o));
    // Something else that listens there.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let api = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
    let other = std::thread::spawn(move || {
        let (mut s, _) = listener.accept().unwrap();
        let _ = s.read(&mut [0; 2000]);
        s.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello").unwrap();
    });
    let o = switchyard(&["status", "--api", &api]);
    assert_eq!(status(&o), 1);
    assert!(err(&o).contains("not a status"), "{}", err(&o));
    other.join().unwrap();
}

#[test]
fn given_a_port_in_use_when_run_then_it_is_1_and_says_which() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let file = File::new(&config(&format!("[api]\nlisten = \"{address}\"")));
    let o = switchyard(&["run", "-c", file.path()]);
    assert_eq!(status(&o), 1, "{}", err(&o));
    assert!(err(&o).contains(&address) && err(&o).contains("another program listens there"), "{}", err(&o));
}
