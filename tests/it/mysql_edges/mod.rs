//! MySQL and MariaDB at their edges: what must be refused or stop, and values that are easily lost.

mod cascades;
mod labels;
mod packets;
mod sources;
mod values;

use switchyard::sandbox::MyServerBuilder;

use crate::mysql_pairs::Twins;
use crate::support::{Config, Daemon};

/// What `check` ends with, and all that it says.
fn checked(config: &Config) -> (Option<i32>, String) {
    let o = Daemon::command(config, &["check"]);
    (o.status.code(), String::from_utf8_lossy(&[&o.stdout[..], &o.stderr[..]].concat()).into_owned())
}

/// `check` refuses, and says all of `words`.
#[track_caller]
fn refused(config: &Config, words: &[&str]) -> String {
    let (status, said) = checked(config);
    assert_eq!(status, Some(1), "{said}");
    for w in words {
        assert!(said.contains(w), "{w:?} is not in: {said}");
    }
    said
}

/// Waits until the daemon has ended with 1, and panics unless its log says all of `words`.
#[track_caller]
fn stopped(daemon: &mut Daemon, words: &[&str]) {
    assert_eq!(daemon.exit_status(), 1, "{}", daemon.log());
    let log = daemon.log();
    for w in words {
        assert!(log.contains(w), "{w:?} is not in: {log}");
    }
}

fn twins(source: MyServerBuilder, target: MyServerBuilder) -> Twins {
    Twins::start_with(source, target)
}
