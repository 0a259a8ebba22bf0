//! The schema by way of `pg_dump`: finding one that is new enough, and running it.

use std::path::PathBuf;
use std::process::Stdio;

use secrecy::ExposeSecret;
use tokio::process::Command;
use tokio_postgres::Client;

use super::catalog::get;
use super::dump_text::{self, Dependency, Wanted};
use crate::error::{Error, Result};
use crate::pgwire::conninfo::{ConnInfo, SslMode};
use crate::pgwire::errors::wrap;
use crate::schema::{SchemaScript, TableName};

/// A `pg_dump` on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgDump {
    /// The program.
    pub program: PathBuf,
    /// `15.18`.
    pub version: String,
    /// `15`.
    pub major: u32,
}

/// The first `pg_dump` that can read a server of that major version: in `PG_BIN`, then Debian's installations from the
/// newest on, then on PATH. Each is asked for its version.
pub async fn find(server_major: u32) -> Option<PgDump> {
    for program in candidates() {
        if let Some(found) = ask(program).await.filter(|d| d.major >= server_major) {
            return Some(found);
        }
    }
    None
}

fn candidates() -> Vec<PathBuf> {
    let mut out: Vec<PathBuf> = Vec::new();
    if let Some(bin) = std::env::var_os("PG_BIN") {
        out.push(PathBuf::from(bin).join("pg_dump"));
    }
    let mut installed: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|e| {
            let path = e.ok()?.path();
            Some((path.file_name()?.to_str()?.parse().ok()?, path.join("bin/pg_dump")))
        })
        .collect();
    installed.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
    out.extend(installed.into_iter().map(|(_, p)| p).filter(|p| p.exists()));
    out.push(PathBuf::from("pg_dump"));
    out
}

async fn ask(program: PathBuf) -> Option<PgDump> {
    let answer = Command::new(&program).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output().await.ok()?;
    let text = String::from_utf8(answer.stdout).ok()?;
    // pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
    let version = text.split(") ").nth(1)?.split_whitespace().next()?.to_owned();
    let major = version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
    Some(PgDump { program, version, major })
}

/// Dumps the schema of the database.
///
/// `everything`: all objects of the database; otherwise those of `tables` and what these need. `snapshot` is an exported
/// snapshot whose session is still open.
///
/// # Errors
/// `Fatal` with the program's own words; `Retry` if it could not connect.
pub async fn dump(
    pg_dump: &PgDump,
    client: &Client,
    source: &ConnInfo,
    snapshot: Option<&str>,
    tables: &[TableName],
    everything: bool,
) -> Result<SchemaScript> {
    let doing = format!("reading the source's schema with {} {}", pg_dump.program.display(), pg_dump.version);
    let mut command = Command::new(&pg_dump.program);
    command
        .args(["--schema-only", "--no-owner", "--no-privileges", "--no-publications", "--no-subscriptions"])
        .args(["--no-tablespaces", "--no-password", "--exclude-schema=switchyard", "--lock-wait-timeout=60s"])
        // Verbose, because only then the text says what depends on what.
        .args(["--verbose", "--encoding=UTF8"])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if let Some(snapshot) = snapshot {
        command.arg(format!("--snapshot={snapshot}"));
    }
    connection(&mut command, source);
    let answer = command.output().await.map_err(|e| Error::fatal(format!("{doing}: {e}")))?;
    if !answer.status.success() {
        let text = String::from_utf8_lossy(&answer.stderr).into_owned();
        let said: Vec<&str> = text.lines().filter(|l| l.contains("error:") || l.contains("hint:")).collect();
        let said = if said.is_empty() { answer.status.to_string() } else { said.join("; ") };
        // What a restart, a lost connection or a lock makes pg_dump say; all of it may be over the next time.
        let lost = [
            "connection to server",
            "server closed the connection",
            "terminating connection",
            "no connection to the server",
            "could not receive data",
            "could not send data",
            "SSL connection has been closed",
            "lock timeout",
            "deadlock detected",
            "invalid snapshot identifier",
            "could not import the requested snapshot",
        ];
        let lost = lost.iter().any(|words| said.contains(words)) || answer.status.code().is_none();
        let e = format!("{doing}: {said}");
        return Err(if lost {
            Error::retry(e)
        } else if said.contains("permission denied") {
            Error::fatal(e).hint("grant the source's role SELECT on every table and USAGE on its schema, or run pg_dump --schema-only into the target yourself and set target.create_schema = false")
        } else {
            Error::fatal(e)
        });
    }
    let text =
        String::from_utf8(answer.stdout).map_err(|_| Error::fatal(format!("{doing}: its output is not UTF-8")))?;
    let dependencies = if everything { Vec::new() } else { dependencies(client).await? };
    let wanted = Wanted { tables, everything, dependencies: &dependencies };
    Ok(dump_text::parse(&text, wanted, &format!("pg_dump {}", pg_dump.version)))
}

/// What depends on what, for choosing what belongs to some tables: the dump's plain text does not say it. Without the
/// copies of a foreign key that partitions have: they are no objects of the dump, and would make each partition need the
/// table that is referred to.
async fn dependencies(client: &Client) -> Result<Vec<Dependency>> {
    const SQL: &str = "SELECT classid, objid, refclassid, refobjid, deptype IN ('i', 'a') FROM pg_catalog.pg_depend \
         WHERE classid <> 0 AND objid >= 16384 AND refobjid >= 16384 AND (classid, objid) <> (refclassid, refobjid) \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint f WHERE classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass \
                            AND f.oid = objid AND f.contype = 'f' AND f.conparentid <> 0)";
    let rows = client.query(SQL, &[]).await.map_err(|e| wrap("reading the source's dependencies", &e))?;
    rows.iter()
        .map(|r| Ok(Dependency { object: (get(r, 0)?, get(r, 1)?), on: (get(r, 2)?, get(r, 3)?), part: get(r, 4)? }))
        .collect()
}

/// Tells the child where to connect. Through its environment alone: arguments can be seen by everyone on the machine.
fn connection(command: &mut Command, source: &ConnInfo) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|n| n.starts_with("PG")) {
            command.env_remove(&name);
        }
    }
    let mode = match source.sslmode {
        SslMode::Disable => "disable",
        SslMode::Prefer => "prefer",
        SslMode::Require => "require",
        SslMode::VerifyCa => "verify-ca",
        SslMode::VerifyFull => "verify-full",
    };
    command
        .env("PGHOST", &source.host)
        .env("PGPORT", source.port.to_string())
        .env("PGUSER", &source.user)
        .env("PGDATABASE", &source.database)
        .env("PGSSLMODE", mode)
        .env("PGCONNECT_TIMEOUT", source.connect_timeout.to_string())
        .env("PGAPPNAME", "switchyard schema")
        // Nothing of the account that runs this daemon: no password file, no service file.
        .env("PGPASSFILE", "/dev/null")
        .env("LC_ALL", "C");
    if let Some(password) = &source.password {
        command.env("PGPASSWORD", password.expose_secret());
    }
    for (name, path) in
        [("PGSSLROOTCERT", &source.sslrootcert), ("PGSSLCERT", &source.sslcert), ("PGSSLKEY", &source.sslkey)]
    {
        match path {
            Some(path) => {
                command.env(name, path);
            }
            // libpq knows only files: the system's, as Debian and most others have them.
            None if name == "PGSSLROOTCERT" && source.sslmode >= SslMode::VerifyCa => {
                let system = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];
                if let Some(found) = system.iter().find(|p| std::path::Path::new(p).exists()) {
                    command.env(name, found);
                }
            }
            None => {}
        }
    }
}
