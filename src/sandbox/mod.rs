//! Private real servers: started in a temporary folder on a free loopback port, gone afterwards.
//!
//! The demo, the integration tests and the benchmarks run against real servers that they start
//! themselves. Nothing here is shared with a server that may already run on the machine, and
//! nothing listens anywhere but on 127.0.0.1.
//!
//! ```no_run
//! use switchyard::sandbox::{self, PgServer, Proxy, StopMode};
//!
//! # fn main() -> anyhow::Result<()> {
//! let install = sandbox::find_postgres(Some(14))?;
//! let mut server = PgServer::builder(&install).setting("wal_level", "logical").start()?;
//! let proxy = Proxy::start(server.port())?;
//! println!("{} or, through the proxy, port {}", server.url("postgres"), proxy.port());
//! server.restart(StopMode::Fast)?;
//! # Ok(())
//! # }
//! ```
//!
//! | file | responsibility |
//! |---|---|
//! | `install.rs` | which PostgreSQL installations exist, and how a program of theirs is started |
//! | `folder.rs` | the temporary folders, and sweeping those whose owner died |
//! | `template.rs` | an initialised data directory a version, copied for every server |
//! | `tls.rs` | a throw-away certificate authority, a server certificate and client certificates |
//! | `process.rs` | a child that dies with its owner; signals to it and its children |
//! | `postgres.rs` | one server: start, stop, kill, pause, back up, restore |
//! | `mysql.rs` | one MySQL or MariaDB server: start, stop, kill, pause |
//! | `mysql_install.rs` | which MySQL and MariaDB installations exist, and how their programs are started |
//! | `mysql_template.rs` | an initialised data directory a version of those |
//! | `mongo.rs` | one MongoDB replica set: start, stop, kill, pause, fail over |
//! | `mongo_install.rs` | which MongoDB server exists, and how it is started |
//! | `port.rs` | free ports that stay free over a restart |
//! | `proxy.rs` | a TCP proxy that cuts, refuses, stalls and slows |

mod folder;
mod install;
mod mongo;
mod mongo_install;
mod mysql;
mod mysql_install;
mod mysql_template;
mod port;
mod postgres;
mod process;
mod proxy;
mod template;
mod tls;

pub use install::{PgInstall, all_postgres, find_postgres};
pub use mongo::{MongoServer, MongoServerBuilder};
pub use mongo_install::{MongoInstall, find_mongo};
pub use mysql::{MyServer, MyServerBuilder};
pub use mysql_install::{Flavour, MyInstall, find_mariadb, find_mysql};
pub use postgres::{OfflineBackup, PgServer, PgServerBuilder, StopMode};
pub use proxy::Proxy;
