//! The demo's two sides, whatever engine they are of: a private server, and connections to it: SQL sessions whose answers are
//! text, or one that writes documents.

use futures_util::{StreamExt, pin_mut};
use secrecy::SecretString;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::documents::{self, Documents};
use super::shop::Shop;
use super::workload;
use crate::error::{Error, Result};
use crate::mywire::conn::{MyConn, Preset};
use crate::mywire::conninfo::MyConnInfo;
use crate::mywire::packet::text_fields;
use crate::pgwire::errors::wrap;
use crate::sandbox::{self, MongoServer, MyServer, PgServer};

/// The database on either side.
pub const DATABASE: &str = "shop";

/// A row as text; `None` is NULL.
pub type TextRow = Vec<Option<String>>;

/// What a side can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// PostgreSQL.
    Postgres,
    /// MySQL.
    Mysql,
    /// MariaDB.
    Mariadb,
    /// MongoDB, as a source only. It has no SQL: what quotes for SQL is not asked about it.
    Mongo,
}

impl Engine {
    /// Every engine.
    pub const ALL: [Engine; 4] = [Engine::Postgres, Engine::Mysql, Engine::Mariadb, Engine::Mongo];

    /// The engine that `option` was given, `mysql`.
    ///
    /// # Errors
    /// [`crate::error::Class::Config`] for anything else.
    pub fn parse(option: &str, word: &str) -> Result<Engine> {
        Engine::ALL.into_iter().find(|e| e.word() == word).ok_or_else(|| {
            let words = Engine::ALL.map(Engine::word).join(", ");
            Error::config(format!("{option} {word}: the demo does not know this engine"))
                .hint(format!("use one of {words}"))
        })
    }

    /// In options.
    pub fn word(self) -> &'static str {
        match self {
            Engine::Postgres => "postgres",
            Engine::Mysql => "mysql",
            Engine::Mariadb => "mariadb",
            Engine::Mongo => "mongo",
        }
    }

    /// In URLs.
    pub fn scheme(self) -> &'static str {
        if self == Engine::Mongo { "mongodb" } else { self.word() }
    }

    /// Its log of changes, in a sentence about a server.
    pub fn log(self) -> &'static str {
        match self {
            Engine::Postgres => "logical decoding",
            Engine::Mongo => "an oplog",
            _ => "its binary log on",
        }
    }

    /// As its makers spell it.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Postgres => "PostgreSQL",
            Engine::Mysql => "MySQL",
            Engine::Mariadb => "MariaDB",
            Engine::Mongo => "MongoDB",
        }
    }

    /// The account that owns everything.
    pub fn account(self) -> &'static str {
        if self == Engine::Postgres { "postgres" } else { "root" }
    }

    /// An identifier.
    pub fn quoted(self, name: &str) -> String {
        match self {
            Engine::Postgres => crate::pgwire::quote::quoted(name),
            _ => crate::mywire::quote::quoted(name),
        }
    }

    /// A text.
    pub fn text(self, text: &str) -> String {
        match self {
            Engine::Postgres => crate::pgwire::quote::literal(text),
            _ => crate::mywire::quote::literal(text),
        }
    }

    /// Bytes, given as hexadecimal digits.
    pub fn bytes(self, hex: &str) -> String {
        if self == Engine::Postgres { format!(r"'\x{hex}'") } else { format!("x'{hex}'") }
    }

    /// Whether an application expects this error now and then, and gives its transaction up: deadlocks, and (where keys of
    /// others are changed) a row that another one refers to by now.
    pub fn refuses(self, e: &Error) -> bool {
        let code = e.code().unwrap_or_default();
        match self {
            Engine::Postgres => code.starts_with("40") || code == "23503",
            _ => matches!(code, "1213" | "1205"),
        }
    }
}

/// A private server. Dropping it stops it and removes its files.
#[derive(Debug)]
pub enum Server {
    /// PostgreSQL.
    Pg(PgServer),
    /// MySQL or MariaDB.
    My(Engine, MyServer),
    /// A replica set of MongoDB.
    Mongo(MongoServer),
}

impl Server {
    /// Starts one of the newest installation. Blocks.
    ///
    /// # Errors
    /// If there is none, with the way to get one; if it does not start.
    pub fn start(engine: Engine) -> Result<Server> {
        let started = match engine {
            Engine::Postgres => sandbox::find_postgres(Some(14)).and_then(|install| {
                let server = PgServer::builder(&install).password_auth(true).setting("max_wal_size", "4GB").start()?;
                Ok(Server::Pg(server))
            }),
            Engine::Mysql => sandbox::find_mysql().and_then(|i| Ok(Server::My(engine, MyServer::builder(&i).start()?))),
            Engine::Mariadb => {
                sandbox::find_mariadb().and_then(|i| Ok(Server::My(engine, MyServer::builder(&i).start()?)))
            }
            // What the application writes in a few minutes stays in the oplog.
            Engine::Mongo => sandbox::find_mongo().and_then(|install| {
                let server = MongoServer::builder(&install).auth(true).setting("oplogSize", "1024");
                Ok(Server::Mongo(server.setting("wiredTigerCacheSizeGB", "0.5").start()?))
            }),
        };
        started.map_err(|e| {
            let e = Error::fatal(format!("{e:#}"));
            match engine {
                Engine::Postgres => e,
                Engine::Mysql => e.hint("`scripts/servers.sh mysql` gets one; MYSQLD names another"),
                Engine::Mariadb => e.hint("`scripts/servers.sh mariadb` gets one; MARIADBD names another"),
                Engine::Mongo => e.hint("`scripts/servers.sh mongo` gets one; MONGOD names another"),
            }
        })
    }

    /// Whose it is.
    pub fn engine(&self) -> Engine {
        match self {
            Server::Pg(_) => Engine::Postgres,
            Server::My(engine, _) => *engine,
            Server::Mongo(_) => Engine::Mongo,
        }
    }

    /// Engine and version, `MariaDB 10.11.19`.
    pub fn title(&self) -> String {
        let version = match self {
            Server::Pg(server) => &server.install().version,
            Server::My(_, server) => &server.install().version,
            Server::Mongo(server) => &server.install().version,
        };
        let short = version.split([' ', '-']).next().unwrap_or(version);
        format!("{} {short}", self.engine().name())
    }

    /// On 127.0.0.1.
    pub fn port(&self) -> u16 {
        match self {
            Server::Pg(server) => server.port(),
            Server::My(_, server) => server.port(),
            Server::Mongo(server) => server.port(),
        }
    }

    /// Of [`Engine::account`].
    pub fn password(&self) -> &str {
        match self {
            Server::Pg(server) => server.password(),
            Server::My(_, server) => server.password(),
            Server::Mongo(server) => server.password(),
        }
    }

    /// What follows the database in a URL.
    pub fn parameters(&self) -> &'static str {
        if self.engine() == Engine::Mongo { "?replicaSet=rs0&authSource=admin" } else { "" }
    }

    /// Makes the empty database [`DATABASE`].
    ///
    /// # Errors
    /// As the server says.
    pub async fn create_database(&self) -> Result<()> {
        let (elsewhere, how) = match self {
            Server::Pg(_) => ("postgres", ""),
            Server::My(..) => ("", " CHARACTER SET utf8mb4"),
            // It comes into being with its first document.
            Server::Mongo(_) => return Ok(()),
        };
        let mut admin = self.session(elsewhere).await?;
        admin.run("making a database", &format!("CREATE DATABASE {DATABASE}{how}")).await
    }

    /// A session in [`DATABASE`]. Both sides print values in one way: UTC, ISO dates.
    ///
    /// # Errors
    /// If it cannot be had.
    pub async fn connect(&self) -> Result<Session> {
        self.session(DATABASE).await
    }

    /// A connection for the source's side of the story.
    ///
    /// # Errors
    /// If it cannot be had.
    pub async fn origin(&self) -> Result<Origin> {
        match self {
            Server::Mongo(server) => Ok(Origin::Documents(Documents::connect(&server.url(DATABASE), DATABASE).await?)),
            _ => Ok(Origin::Sql(self.connect().await?)),
        }
    }

    async fn session(&self, database: &str) -> Result<Session> {
        let server = match self {
            Server::My(engine, server) => {
                let info = MyConnInfo::parse("demo", &SecretString::from(server.url(database)))?;
                let conn = MyConn::connect(&info, "private server", "shop", Preset::Target).await?;
                return Ok(Session::My(*engine, Box::new(conn)));
            }
            Server::Pg(server) => server,
            Server::Mongo(_) => return Err(Error::fatal("MongoDB has no sessions that speak SQL")),
        };
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(server.port()).user("postgres").password(server.password()).dbname(database);
        config.application_name("shop").options("-c timezone=UTC -c datestyle=ISO -c extra_float_digits=1 -c jit=off");
        let connected = config.connect(NoTls).await;
        let (client, connection) = connected.map_err(|e| wrap("connecting to a private server", &e))?;
        tokio::spawn(async move {
            // The client's own calls report the failure; here it would only be said twice.
            let _ = connection.await;
        });
        Ok(Session::Pg(client))
    }
}

/// A connection to the source: what the story does there, whatever the engine.
pub enum Origin {
    /// By SQL.
    Sql(Session),
    /// By documents.
    Documents(Documents),
}

impl Origin {
    /// Makes and fills the shop; see [`Shop::fill`].
    ///
    /// # Errors
    /// As the server says.
    pub async fn fill(&mut self, shop: Shop, rows: u64) -> Result<u64> {
        match self {
            Origin::Sql(session) => shop.fill(session, rows).await,
            Origin::Documents(documents) => documents.fill(rows).await,
        }
    }

    /// Adds a probe.
    ///
    /// # Errors
    /// As the server says.
    pub async fn pulse(&mut self, n: i64) -> Result<()> {
        match self {
            Origin::Sql(session) => session.run("sending a probe", &format!("INSERT INTO pulse VALUES ({n})")).await,
            Origin::Documents(documents) => documents.pulse(n).await,
        }
    }

    /// Changes what the application's data look like; what there is to say of it. The application is told by its own switch.
    ///
    /// # Errors
    /// As the server says.
    pub async fn alter(&mut self) -> Result<String> {
        let Origin::Sql(session) = self else { return Ok(documents::ALTERATION.to_owned()) };
        let alteration = workload::ALTERATION;
        session.run("adding a column", alteration).await?;
        Ok(format!("a column is added at the source, and written from now on:\n{alteration}"))
    }
}

/// An SQL session.
pub enum Session {
    /// PostgreSQL's.
    Pg(Client),
    /// MySQL's or MariaDB's.
    My(Engine, Box<MyConn>),
}

impl Session {
    /// Whose server it is on.
    pub fn engine(&self) -> Engine {
        match self {
            Session::Pg(_) => Engine::Postgres,
            Session::My(engine, _) => *engine,
        }
    }

    /// Whether the connection is gone.
    pub fn is_closed(&self) -> bool {
        match self {
            Session::Pg(client) => client.is_closed(),
            Session::My(_, conn) => conn.is_closed(),
        }
    }

    /// Runs statements, separated by `;`. `doing` says what for, in an error.
    ///
    /// # Errors
    /// As the server says, with its code.
    pub async fn run(&mut self, doing: &str, sql: &str) -> Result<()> {
        match self {
            Session::Pg(client) => client.batch_execute(sql).await.map_err(|e| wrap(doing, &e)),
            Session::My(_, conn) => conn.execute(sql).await.map(drop).map_err(|e| e.context(doing)),
        }
    }

    /// The rows of a query, for small answers.
    ///
    /// # Errors
    /// As the server says, with its code.
    pub async fn rows(&mut self, doing: &str, sql: &str) -> Result<Vec<TextRow>> {
        let mut rows = Vec::new();
        self.each(doing, sql, |row| {
            rows.push(row.iter().map(|f| f.map(|f| String::from_utf8_lossy(f).into_owned())).collect());
        })
        .await?;
        Ok(rows)
    }

    /// Hands every row of one query to `look`, without keeping any.
    ///
    /// # Errors
    /// As the server says, with its code.
    pub async fn each(&mut self, doing: &str, sql: &str, mut look: impl FnMut(&[Option<&[u8]>])) -> Result<()> {
        match self {
            Session::Pg(client) => {
                let failed = |e| wrap(doing, &e);
                let answer = client.simple_query_raw(sql).await.map_err(failed)?;
                pin_mut!(answer);
                while let Some(message) = answer.next().await {
                    if let SimpleQueryMessage::Row(row) = message.map_err(failed)? {
                        let fields: Vec<_> = (0..row.len()).map(|i| row.get(i).map(str::as_bytes)).collect();
                        look(&fields);
                    }
                }
            }
            Session::My(_, conn) => {
                let failed = |e: Error| e.context(doing);
                conn.query_start(sql).await.map_err(failed)?;
                while let Some(block) = conn.next_block().await.map_err(failed)? {
                    for row in block.iter() {
                        let field = |range: Option<std::ops::Range<usize>>| range.and_then(|r| row.get(r));
                        let fields: Result<Vec<_>, _> = text_fields(row).map(|f| f.map(field)).collect();
                        look(&fields.map_err(|_| Error::fatal(format!("{doing}: a row that cannot be read")))?);
                    }
                }
            }
        }
        Ok(())
    }
}

/// A field that cannot be NULL.
///
/// # Errors
/// If it is, or is not there.
pub fn text(row: &TextRow, i: usize) -> Result<&str> {
    row.get(i).and_then(Option::as_deref).ok_or_else(|| Error::fatal(format!("an answer without its field {}", i + 1)))
}

/// A whole number that cannot be NULL.
///
/// # Errors
/// If it is, or is none.
pub fn number(row: &TextRow, i: usize) -> Result<i64> {
    text(row, i)?.parse().map_err(|_| Error::fatal(format!("an answer whose field {} is no number", i + 1)))
}
