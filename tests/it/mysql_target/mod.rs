//! MySQL and MariaDB as a target of a PostgreSQL source, on real servers.

mod own;
mod rules;
mod schema;
mod stream;

use switchyard::sandbox::{self, Flavour, MyServer, MyServerBuilder, PgServer};

use crate::support::{Config, Sql, fresh_name};

/// A PostgreSQL source and a MySQL or MariaDB target of one test's own, with an empty database on either.
pub struct Mixed {
    pub source: PgServer,
    pub target: MyServer,
    pub name: String,
}

impl Mixed {
    pub fn start(flavour: Flavour) -> Mixed {
        Mixed::start_with(flavour, |b| b)
    }

    pub fn start_with(flavour: Flavour, with: impl FnOnce(MyServerBuilder) -> MyServerBuilder) -> Mixed {
        let source = PgServer::builder(&sandbox::find_postgres(None).unwrap())
            .setting("fsync", "off")
            .setting("full_page_writes", "off")
            .setting("shared_buffers", "32MB")
            .setting("wal_sender_timeout", "10s");
        let install = match flavour {
            Flavour::Mysql => sandbox::find_mysql().unwrap(),
            Flavour::Mariadb => sandbox::find_mariadb().unwrap(),
        };
        let target =
            MyServer::builder(&install).setting("innodb_flush_log_at_trx_commit", "0").setting("sync_binlog", "0");
        let name = fresh_name("mixed");
        let mixed = Mixed { source: source.start().unwrap(), target: with(target).start().unwrap(), name };
        mixed.source.psql(&format!("create database {}", mixed.name)).unwrap();
        mixed.target.sql(&format!("create database {}", mixed.name)).unwrap();
        mixed
    }

    pub fn source_url(&self) -> String {
        self.source.url(&self.name)
    }
    pub fn on_source(&self) -> Sql {
        Sql::connect(&self.source_url())
    }
    /// Runs statements in the target's database; rows by lines, fields by `|`.
    pub fn on_target(&self, sql: &str) -> String {
        self.target.sql_in(&self.name, sql).unwrap_or_else(|e| panic!("{sql}: {e}"))
    }
    pub fn config(&self) -> Config {
        Config::new(&self.name, &self.source_url(), &self.target.url(&self.name))
    }
    /// The rows of a query on the source in the form in which [`Mixed::on_target`] prints rows.
    pub fn source_rows(&self, sql: &str) -> String {
        let rows = self.on_source().rows(sql);
        let line = |r: Vec<Option<String>>| {
            r.into_iter().map(|f| f.unwrap_or_else(|| "NULL".into())).collect::<Vec<_>>().join("|")
        };
        rows.into_iter().map(line).collect::<Vec<_>>().join("\n")
    }
    /// Panics unless one query yields the same on both sides.
    pub fn assert_same(&self, source: &str, target: &str) {
        let (theirs, ours) = (self.source_rows(source), self.on_target(target));
        if theirs != ours {
            let differ = theirs.lines().zip(ours.lines()).find(|(a, b)| a != b);
            panic!(
                "{source}\n {} rows at the source, {} on the target; first difference: {differ:?}",
                theirs.lines().count(),
                ours.lines().count()
            );
        }
    }
}
