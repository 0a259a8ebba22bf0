//! Which MongoDB server this machine has, and how it is started.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::install::{prepared, run};

/// One installed `mongod`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MongoInstall {
    /// What `mongod --version` says, `6.0.5`.
    pub version: String,
    /// The server program.
    pub server: PathBuf,
}

/// The MongoDB that may be used: `MONGOD` (a server program; taken or refused, never passed over in silence), then a
/// `mongod` on `PATH`, then the one that `make servers` puts under `.servers`.
pub fn find_mongo() -> Result<MongoInstall> {
    if let Some(set) = std::env::var_os("MONGOD") {
        let program = Path::new(&set);
        return probe(program).with_context(|| format!("MONGOD is set to {}", program.display()));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = prepared().map(|folder| folder.join("mongo/bin"));
    let folders = std::env::split_paths(&path).chain(own);
    let mut found = folders.filter_map(|folder| probe(&folder.join("mongod")).ok());
    found.next().context("no MongoDB server found in MONGOD, PATH or .servers/mongo; run `scripts/servers.sh mongo`")
}

fn probe(program: &Path) -> Result<MongoInstall> {
    // Programs are started in another directory than this one.
    let server = std::path::absolute(program).context("finding the current directory")?;
    if !server.exists() {
        bail!("{} does not exist", server.display());
    }
    // `db version v6.0.5`, and more lines.
    let said = run(Command::new(&server).arg("--version"))?;
    let version = said.lines().find_map(|line| line.trim().strip_prefix("db version v"));
    let version = version.with_context(|| format!("{} --version said {said:?}", server.display()))?.to_owned();
    Ok(MongoInstall { version, server })
}

impl MongoInstall {
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.server);
        command.env("LC_ALL", "C").env("HOME", "/").env("TZ", "UTC").current_dir("/");
        command
    }
}
