//! MySQL and MariaDB as source and as target at once, through the daemon.

mod faults;
mod same_rows;

use std::time::Duration;

use switchyard::sandbox::{self, Flavour, MyInstall, MyServer, MyServerBuilder};

use crate::support::{Config, Daemon, fresh_name, wait_until};

/// How long a test waits for what should take seconds.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn install(flavour: Flavour) -> MyInstall {
    match flavour {
        Flavour::Mysql => sandbox::find_mysql().unwrap(),
        Flavour::Mariadb => sandbox::find_mariadb().unwrap(),
    }
}

/// A server that does not wait for its disk.
pub fn quick(flavour: Flavour) -> MyServerBuilder {
    let builder = MyServer::builder(&install(flavour));
    builder.setting("sync_binlog", "0").setting("innodb_flush_log_at_trx_commit", "0")
}

/// Two servers; the database is `shop` at the source and `store` on the target.
pub struct Twins {
    pub source: MyServer,
    pub target: MyServer,
    pub name: String,
}

impl Twins {
    pub fn start(from: Flavour, to: Flavour) -> Twins {
        Twins::start_with(quick(from), quick(to))
    }
    pub fn start_with(source: MyServerBuilder, target: MyServerBuilder) -> Twins {
        let twins =
            Twins { source: source.start().unwrap(), target: target.start().unwrap(), name: fresh_name("twins") };
        twins.source.sql("create database shop").unwrap();
        twins.target.sql("create database store").unwrap();
        twins
    }
    pub fn config(&self) -> Config {
        Config::new(&self.name, &self.source.url("shop"), &self.target.url("store"))
    }
    /// Runs statements in the source's database.
    pub fn at_source(&self, sql: &str) -> String {
        on(&self.source, "shop", sql)
    }
    /// Runs statements in the target's database.
    pub fn on_target(&self, sql: &str) -> String {
        on(&self.target, "store", sql)
    }
    /// Waits until everything that was committed at the source so far is on the target.
    pub fn level(&self, daemon: &mut Daemon) {
        daemon.ready();
        let token = fresh_name("level");
        self.at_source(&format!(
            "create table if not exists level (token varchar(60) primary key); insert into level values ('{token}')"
        ));
        let ask = format!("select count(*) from level where token = '{token}'");
        wait_until("the target is level", PATIENCE, || {
            assert!(daemon.is_running(), "the daemon ended while the test waited for the target");
            self.target.sql_in("store", &ask).is_ok_and(|n| n == "1")
        });
    }
    /// Panics unless a table has the same columns and rows on both sides.
    pub fn assert_same(&self, table: &str) {
        let columns = self.at_source(&columns_of("shop", table));
        assert_eq!(columns.replace("json", "J"), self.on_target(&columns_of("store", table)).replace("json", "J"));
        let select: Vec<String> = columns.lines().map(expression).collect();
        assert!(!select.is_empty(), "{table} has no columns");
        let sql = format!("select {} from `{}` order by 1, 2", select.join(", "), table.replace('`', "``"));
        let (theirs, ours) = (self.at_source(&sql), self.on_target(&sql));
        let (theirs, ours): (Vec<&str>, Vec<&str>) = (theirs.lines().collect(), ours.lines().collect());
        for (theirs, ours) in theirs.iter().zip(&ours) {
            let differ = theirs.split('|').zip(ours.split('|')).zip(&select).find(|((a, b), _)| a != b);
            if let Some(((a, b), what)) = differ {
                if what.starts_with("json_") && same_json(a, b) {
                    continue;
                }
                let short = |s: &str| format!("{} ({} bytes)", s.chars().take(200).collect::<String>(), s.len());
                let at = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
                panic!(
                    "{table}: {what} is {} at the source and {} on the target, from byte {at} on, in {}",
                    short(a),
                    short(b),
                    short(theirs)
                );
            }
        }
        assert_eq!(theirs.len(), ours.len(), "{table}: numbers of rows");
    }
    /// The same count and sums on both sides.
    pub fn assert_digest(&self, sql: &str) {
        assert_eq!(self.at_source(sql), self.on_target(sql), "{sql}");
    }
}

/// The query for a table's columns: names and kinds.
fn columns_of(database: &str, table: &str) -> String {
    // MariaDB's `json` is a text with a check.
    format!(
        "select column_name, if(column_name in ('j', 'doc'), 'json', data_type) from information_schema.columns \
         where table_schema = '{database}' and table_name = '{table}' order by ordinal_position"
    )
}

/// What shows a column's value whole and without `|`.
fn expression(column: &str) -> String {
    let (name, kind) = column.split_once('|').unwrap();
    match kind {
        "bit" => format!("`{name}` + 0"),
        "geometry" | "point" => format!("concat(st_srid(`{name}`), ' ', hex(st_aswkb(`{name}`)))"),
        "json" => format!("json_extract(`{name}`, '$')"),
        "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => format!("hex(`{name}`)"),
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "enum" | "set" => {
            format!("hex(convert(`{name}` using utf8mb4))")
        }
        _ => format!("`{name}`"),
    }
}

/// The same value, however it is written.
fn same_json(a: &str, b: &str) -> bool {
    let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    read(a).is_some() && read(a) == read(b)
}

pub fn on(server: &MyServer, database: &str, sql: &str) -> String {
    let mut done = server.sql_in(database, sql);
    // A transaction that goes on to another table while the snapshot's lock is asked for can be its deadlock's victim; it is
    // rolled back, and applications repeat it.
    for _ in 0..5 {
        if !done.as_ref().is_err_and(|e| format!("{e:#}").contains("error 1213")) {
            break;
        }
        done = server.sql_in(database, sql);
    }
    done.unwrap_or_else(|e| panic!("{}: {e:#}", sql.chars().take(300).collect::<String>()))
}
