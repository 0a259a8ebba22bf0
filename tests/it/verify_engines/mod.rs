//! Verification between PostgreSQL, MySQL and MariaDB on real servers: what differs is found exactly, and nothing else.

mod lookup;
mod schema;
mod tampered;
mod types;

use std::any::Any;
use std::sync::Mutex;

use serde_json::Value;
use switchyard::mywire::conn::{MyConn, Preset};
use switchyard::mywire::conninfo::MyConnInfo;
use switchyard::sandbox::Flavour::{self, Mariadb, Mysql};

use crate::mysql_pairs::{Twins, quick};
use crate::mysql_target::Mixed;
use crate::mysql_to_postgres::Pair;
use crate::support::{Config, Daemon, Sql, fresh_name, wait_until};

/// Which engine a side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    Postgres,
    My(Flavour),
}

const POSTGRES: Engine = Engine::Postgres;
const MYSQL: Engine = Engine::My(Mysql);
const MARIADB: Engine = Engine::My(Mariadb);

type Run = Box<dyn Fn(&str) -> String + Send + Sync>;

/// A source and a target, each of any engine, with an empty database on either.
struct Sides {
    from: Engine,
    to: Engine,
    /// Runs statements at the source; gives back the first row's first field.
    source: Run,
    target: Run,
    config: Config,
    /// What stands before the target's tables in a report: `public.`.
    home: String,
    _servers: Mutex<Box<dyn Any + Send>>,
}

fn on_postgres(url: String) -> Run {
    Box::new(move |sql| {
        let mut session = Sql::connect(&url);
        // What is written is written around the applier, as a stray hand would; nothing refuses it.
        session.run("set session_replication_role = replica");
        session.rows(sql).into_iter().next().and_then(|r| r.into_iter().next().flatten()).unwrap_or_default()
    })
}

/// The settings of a hand that is not careful.
const CARELESS: &str = "set sql_mode = 'NO_AUTO_VALUE_ON_ZERO', foreign_key_checks = 0, time_zone = '+00:00'; ";

fn on_mysql(url: String) -> Run {
    Box::new(move |sql| {
        let info = MyConnInfo::parse("test", &url.clone().into()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let rows = runtime.block_on(async {
            let mut conn = MyConn::connect(&info, "test", "test", Preset::Target).await.unwrap();
            conn.query(format!("{CARELESS}{sql}")).await.unwrap_or_else(|e| panic!("{sql}: {e:#}"))
        });
        let field = rows.into_iter().next().and_then(|r| r.into_iter().next().flatten());
        field.map(|f| String::from_utf8_lossy(&f).into_owned()).unwrap_or_default()
    })
}

impl Sides {
    fn start(from: Engine, to: Engine) -> Sides {
        let sides = |source, target, config, home: String, servers: Box<dyn Any + Send>| Sides {
            from,
            to,
            source,
            target,
            config,
            home,
            _servers: Mutex::new(servers),
        };
        match (from, to) {
            (Engine::Postgres, Engine::My(flavour)) => {
                let m = Mixed::start(flavour);
                let (source, target) = (on_postgres(m.source_url()), on_mysql(m.target.url(&m.name)));
                sides(source, target, m.config(), format!("{}.", m.name), Box::new(m))
            }
            (Engine::My(flavour), Engine::Postgres) => {
                let p = Pair::of(quick(flavour).start().unwrap());
                let (source, target) = (on_mysql(p.source.url("shop")), on_postgres(p.target.url(&p.name)));
                sides(source, target, p.config(), "public.".into(), Box::new(p))
            }
            (Engine::My(a), Engine::My(b)) => {
                let t = Twins::start(a, b);
                let (source, target) = (on_mysql(t.source.url("shop")), on_mysql(t.target.url("store")));
                sides(source, target, t.config(), "store.".into(), Box::new(t))
            }
            (Engine::Postgres, Engine::Postgres) => unreachable!("that pair has tests of its own"),
        }
    }

    fn source(&self, sql: &str) -> String {
        (self.source)(sql)
    }
    fn target(&self, sql: &str) -> String {
        (self.target)(sql)
    }

    /// Waits until everything that was committed at the source so far is on the target.
    fn level(&self, daemon: &mut Daemon) {
        daemon.ready();
        let token = fresh_name("level");
        self.source(&format!("insert into level values ('{token}')"));
        wait_until("the target is level", crate::support::daemon::PATIENCE, || {
            assert!(daemon.is_running(), "the daemon ended while the test waited for the target");
            self.target(&format!("select count(*) from level where token = '{token}'")) == "1"
        });
    }

    /// Makes the table that [`Sides::level`] needs; before the daemon starts.
    fn prepare(&self) {
        self.source("create table level (token varchar(60) primary key)");
    }

    /// Runs `verify` with these arguments; the status and the document.
    fn verify(&self, args: &[&str]) -> (i32, Value) {
        verify(&self.config, args)
    }

    /// Panics unless both sides are equal in everything that is compared.
    #[track_caller]
    fn assert_equal(&self) {
        let (status, document) = self.verify(&["--show-values"]);
        assert_eq!(found(&document), Vec::<String>::new(), "{:?} to {:?}: {document:#}", self.from, self.to);
        let other = (&document["schema"], &document["relationships"]);
        assert_eq!(other, (&Value::Array(vec![]), &Value::Array(vec![])), "{:?} to {:?}", self.from, self.to);
        assert_eq!((status, document["result"].as_str()), (0, Some("equal")), "{document:#}");
    }

    /// Panics unless exactly these differences are found: `table key kind columns`, tables without their schema.
    #[track_caller]
    fn assert_found(&self, mut wanted: Vec<String>) {
        let (status, document) = self.verify(&[]);
        let home = &self.home;
        let found: Vec<String> =
            found(&document).iter().map(|f| f.strip_prefix(home.as_str()).unwrap_or(f).to_owned()).collect();
        wanted.sort();
        let missed: Vec<_> = wanted.iter().filter(|w| !found.contains(w)).collect();
        let wrong: Vec<_> = found.iter().filter(|f| !wanted.contains(f)).collect();
        assert!(
            missed.is_empty() && wrong.is_empty(),
            "{:?} to {:?}: not found {missed:#?}, wrongly found {wrong:#?}",
            self.from,
            self.to
        );
        assert_eq!((status, document["result"].as_str()), (1, Some("different")));
    }
}

fn verify(config: &Config, args: &[&str]) -> (i32, Value) {
    let all: Vec<&str> = ["verify", "--json"].iter().chain(args).copied().collect();
    let o = Daemon::command(config, &all);
    let text = String::from_utf8_lossy(&o.stdout).into_owned();
    let document: Value =
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text} {}", String::from_utf8_lossy(&o.stderr)));
    assert!(document.get("error").is_none(), "{document:#}");
    (o.status.code().unwrap(), document)
}

/// Every difference as `table key kind columns`, sorted.
fn found(document: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for table in document["tables"].as_array().unwrap() {
        assert!(table["obstacle"].is_null(), "{table}");
        for d in table["differences"].as_array().unwrap() {
            let columns = d.get("columns").map(|c| c.to_string()).unwrap_or_default();
            out.push(format!(
                "{} {} {} {columns}",
                table["table"].as_str().unwrap(),
                d["key"],
                d["kind"].as_str().unwrap()
            ));
        }
    }
    out.sort();
    out
}
