//! Kills at named points and at random times: the target ends equal to the source, nothing is applied twice, and nobody helps.

use std::time::Duration;

use crate::support::{Daemon, Database, Ledger, assert_equal};

#[test]
fn given_a_ledger_being_written_when_copied_and_followed_then_both_sides_are_equal() {
    let db = Database::shared("smoke");
    let ledger = Ledger::start(&db.source, 2, Duration::from_millis(2), 1);
    ledger.wait_for(50);
    let mut daemon = Daemon::spawn(&db.config());
    daemon.ready();
    ledger.wait_for(100);
    let written = ledger.stop();
    daemon.wait_level(&db.source);
    written.assert_kept(&db.target);
    assert_equal(&db.source, &db.target);
    assert_eq!(daemon.sigterm(), 0);
}
