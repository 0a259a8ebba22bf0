//! Many small cases in one migration: rows before the copy, transactions while it is followed, then both sides equal.

use std::time::Duration;

use crate::support::{Config, Daemon, Database, Sql, assert_equal, fresh_name};

/// How long a migration of many cases may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// Who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roles {
    /// The superuser on both sides.
    Superuser,
    /// On both sides a role that owns its database, at the source with REPLICATION.
    Plain,
}

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    name: String,
    before: Vec<String>,
    changes: Vec<String>,
    looks: Vec<(String, String)>,
    same: Vec<String>,
}

impl Case {
    pub fn new(name: impl Into<String>) -> Case {
        Case { name: name.into(), before: Vec::new(), changes: Vec::new(), looks: Vec::new(), same: Vec::new() }
    }
    /// SQL before the migration begins.
    pub fn before(mut self, sql: impl Into<String>) -> Case {
        self.before.push(sql.into());
        self
    }
    /// One transaction while the source is followed (or several, if it says so itself).
    pub fn change(mut self, sql: impl Into<String>) -> Case {
        self.changes.push(sql.into());
        self
    }
    /// A query on the target, and what it answers at the end.
    pub fn look(mut self, sql: impl Into<String>, answer: impl Into<String>) -> Case {
        self.looks.push((sql.into(), answer.into()));
        self
    }
    /// A query that answers the same on both sides at the end.
    pub fn same(mut self, sql: impl Into<String>) -> Case {
        self.same.push(sql.into());
        self
    }
}

/// A fresh database on the shared servers, owned by whom `roles` says, with that role's URLs.
pub fn database(roles: Roles) -> Database {
    owned(Database::shared("carry"), roles)
}

/// Gives the database on both servers to an ordinary role, if `roles` says so.
pub fn owned(mut db: Database, roles: Roles) -> Database {
    if roles == Roles::Plain {
        for (url, attribute) in [(&mut db.source, "replication"), (&mut db.target, "noreplication")] {
            let role = fresh_name("plain");
            Sql::connect(url)
                .run(&format!("create role {role} login {attribute}; alter database {} owner to {role}", db.name));
            *url = with_user(url, &role);
        }
    }
    db
}

/// The same URL with another user, for servers that trust everybody.
pub fn with_user(url: &str, user: &str) -> String {
    let mut url = url::Url::parse(url).unwrap();
    url.set_username(user).unwrap();
    url.into()
}

/// Runs the cases through one migration, as `roles`.
pub fn carry(roles: Roles, cases: &[Case]) {
    carry_with(&database(roles), cases, |config| config);
}

/// Runs the cases through one migration with a configuration of the test's own; the daemon is stopped at the end.
pub fn carry_with(db: &Database, cases: &[Case], config: impl FnOnce(Config) -> Config) {
    let mut source = db.on_source();
    for case in cases {
        for sql in &case.before {
            source.try_run(sql).unwrap_or_else(|e| panic!("case {}: {}", case.name, told(sql, &e)));
        }
    }
    let mut daemon = Daemon::spawn(&config(db.config()));
    daemon.wait_status("the target is level", PATIENCE, |s| s["phase"] == "ready");
    for case in cases {
        for sql in &case.changes {
            source.try_run(sql).unwrap_or_else(|e| panic!("case {}: {}", case.name, told(sql, &e)));
        }
    }
    let end = source.log_end();
    daemon.wait_applied_within(end, PATIENCE);
    assert_equal(&db.source, &db.target);
    look(db, cases);
    assert_eq!(daemon.sigterm(), 0, "it should have stopped in order");
}

/// Asks what the cases want to know.
pub fn look(db: &Database, cases: &[Case]) {
    let (mut source, mut target) = (db.on_source(), db.on_target());
    let mut wrong = Vec::new();
    for case in cases {
        for (sql, answer) in &case.looks {
            let got = answers(&mut target, sql);
            if got != *answer {
                wrong.push(format!("{}: {sql}: {answer:?} was expected, got {got:?}", case.name));
            }
        }
        for sql in &case.same {
            let (a, b) = (answers(&mut source, sql), answers(&mut target, sql));
            if a != b {
                wrong.push(format!("{}: {sql}: the source says {a:?}, the target {b:?}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "not as it should be:\n  {}", wrong.join("\n  "));
}

/// Rows as lines, fields separated by `|`; an error is its message.
fn answers(sql: &mut Sql, query: &str) -> String {
    match sql.try_rows(query) {
        Ok(rows) => rows
            .into_iter()
            .map(|r| r.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>().join("|"))
            .collect::<Vec<_>>()
            .join("\n"),
        Err(e) => crate::support::describe(&e),
    }
}

fn told(sql: &str, e: &tokio_postgres::Error) -> String {
    let head: String = sql.chars().take(300).collect();
    format!("{head}: {}", crate::support::describe(e))
}
