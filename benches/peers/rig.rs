//! Servers with the same settings, pgbench and other programs, SQL sessions.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use switchyard::sandbox::{self, PgInstall, PgServer};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// What every server of every sub-benchmark is set to, peers' and Switchyard's alike. Autovacuum is off so that it does
/// not fall into one round and not into another; tables are vacuumed between rounds instead.
const SETTINGS: [(&str, &str); 9] = [
    ("wal_level", "logical"),
    ("fsync", "on"),
    ("shared_buffers", "1GB"),
    ("max_wal_size", "4GB"),
    ("checkpoint_timeout", "30min"),
    ("maintenance_work_mem", "256MB"),
    ("autovacuum", "off"),
    ("max_worker_processes", "16"),
    // Else the launcher of native logical replication waits up to 5 s before it starts a worker again.
    ("wal_retrieve_retry_interval", "50ms"),
];

/// The database that is copied from.
pub const DATABASE: &str = "bench";

/// What all sub-benchmarks share.
pub struct Rig {
    /// The servers' installation.
    pub install: PgInstall,
    /// Configurations and logs; removed at the end.
    pub folder: PathBuf,
}

impl Rig {
    pub fn new() -> Result<Rig> {
        let folder = std::env::temp_dir().join(format!("switchyard-bench-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("creating {}", folder.display()))?;
        Ok(Rig { install: sandbox::find_postgres(Some(14))?, folder })
    }

    /// A server with the common settings.
    pub fn server(&self) -> Result<PgServer> {
        let mut builder = PgServer::builder(&self.install);
        for (name, value) in SETTINGS {
            builder = builder.setting(name, value);
        }
        builder.start()
    }

    /// A server that holds pgbench's tables in [`DATABASE`], ready for any kind of replication.
    pub fn source(&self, scale: u32) -> Result<PgServer> {
        say(&format!("making a source: pgbench scale {scale}"));
        let server = self.server()?;
        server.psql(&format!("CREATE DATABASE {DATABASE}"))?;
        pgbench(&server, &["-i", "-I", "dtgvp", "-s", &scale.to_string()])?;
        // The history has no key. Rows are only ever added to it, so this costs nobody anything, and lets it be published.
        server.psql_in(DATABASE, "ALTER TABLE pgbench_history REPLICA IDENTITY FULL")?;
        Ok(server)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What is being done, for whoever watches; the figures alone go to stdout.
pub fn say(text: &str) {
    eprintln!("bench: {text}");
}

/// A program of the server's installation.
pub fn program(server: &PgServer, name: &str) -> Command {
    let mut command = Command::new(server.install().bin.join(name));
    command.env("PGPASSWORD", server.password()).stdin(Stdio::null());
    command
}

/// `psql` on a database, stopping at the first error.
pub fn psql(server: &PgServer, database: &str) -> Command {
    let mut command = program(server, "psql");
    command.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]).arg(server.url(database));
    command
}

/// Runs pgbench on [`DATABASE`].
pub fn pgbench(server: &PgServer, args: &[&str]) -> Result<()> {
    run(pgbench_command(server).args(args)).map(drop)
}

/// pgbench on [`DATABASE`], to be given its arguments and run. Its sessions do not wait for the disk: making a backlog is
/// not what is measured, and the log they write is the same.
pub fn pgbench_command(server: &PgServer) -> Command {
    let mut command = program(server, "pgbench");
    command
        .env("PGOPTIONS", "-c synchronous_commit=off")
        // Its options for the database's name changed in 17.
        .env("PGDATABASE", DATABASE)
        .args(["-h", "127.0.0.1", "-U", "postgres", "-p", &server.port().to_string()]);
    command
}

/// Runs a program to its end; how long it took. What it said is in the error if it failed.
pub fn run(command: &mut Command) -> Result<Duration> {
    let name = command.get_program().to_string_lossy().into_owned();
    let begun = Instant::now();
    let output = command.output().with_context(|| format!("starting {name}"))?;
    let took = begun.elapsed();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let lines: Vec<&str> = said.lines().collect();
        bail!("{name} ended with {}:\n{}", output.status, lines[lines.len().saturating_sub(20)..].join("\n"));
    }
    Ok(took)
}

/// Runs two programs, the first one's output into the second.
pub fn pipe(from: &mut Command, into: &mut Command) -> Result<()> {
    let name = from.get_program().to_string_lossy().into_owned();
    let mut first = from.stdout(Stdio::piped()).spawn().with_context(|| format!("starting {name}"))?;
    let output = first.stdout.take().context("the first program has no output")?;
    let second = run(into.stdin(output));
    let first = first.wait()?;
    second?;
    ensure!(first.success(), "{name} ended with {first}");
    Ok(())
}

/// The tables, sequences and sequences' owners of [`DATABASE`] without keys and rows (`pre-data`), or the rest of its
/// schema (`post-data`), made in another database.
pub fn copy_schema(source: &PgServer, target: &PgServer, database: &str, section: &str) -> Result<()> {
    let mut dump = program(source, "pg_dump");
    dump.arg("--schema-only").arg(format!("--section={section}")).arg(source.url(DATABASE));
    pipe(&mut dump, &mut psql(target, database))
}

/// Everything that was written is on disk, so that no checkpoint of one contender falls into the turn of the other.
pub fn settle(servers: &[&PgServer]) -> Result<()> {
    for server in servers {
        server.psql("CHECKPOINT")?;
    }
    Ok(())
}

/// One SQL session, asked from an ordinary thread.
pub struct Sql {
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Sql {
    pub fn connect(server: &PgServer, database: &str) -> Result<Sql> {
        Sql::open(&server.url(database))
    }

    /// The same by URL, for another thread.
    pub fn open(url: &str) -> Result<Sql> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (client, connection) = runtime.block_on(tokio_postgres::connect(url, NoTls))?;
        runtime.spawn(connection);
        Ok(Sql { runtime, client })
    }

    /// The first field of the first row; empty if there is none.
    pub fn text(&self, sql: &str) -> Result<String> {
        let rows = self.runtime.block_on(self.client.simple_query(sql)).with_context(|| sql.to_owned())?;
        let first = rows.iter().find_map(|m| match m {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
            _ => None,
        });
        Ok(first.unwrap_or_default())
    }

    /// Runs statements.
    pub fn execute(&self, sql: &str) -> Result<()> {
        self.runtime.block_on(self.client.batch_execute(sql)).with_context(|| sql.to_owned())
    }

    /// A number from a prepared statement with at most one parameter.
    pub fn number(&self, statement: &tokio_postgres::Statement, parameter: Option<i64>) -> Result<i64> {
        let row = match &parameter {
            Some(p) => self.runtime.block_on(self.client.query_one(statement, &[p]))?,
            None => self.runtime.block_on(self.client.query_one(statement, &[]))?,
        };
        Ok(row.try_get(0)?)
    }

    /// Prepares a statement.
    pub fn prepare(&self, sql: &str) -> Result<tokio_postgres::Statement> {
        Ok(self.runtime.block_on(self.client.prepare(sql))?)
    }

    /// Asks again every `pause` until the answer is `wanted`; when it was.
    pub fn wait_for(&self, sql: &str, wanted: &str, pause: Duration, patience: Duration) -> Result<Instant> {
        let begun = Instant::now();
        loop {
            let answer = self.text(sql)?;
            let now = Instant::now();
            if answer == wanted {
                return Ok(now);
            }
            ensure!(begun.elapsed() < patience, "{sql} was still {answer:?} instead of {wanted:?} after {patience:?}");
            std::thread::sleep(pause);
        }
    }
}
