//! Which MySQL and MariaDB installations this machine has, and how their programs are started.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::install::{is_root, prepared, run};
pub use crate::mywire::server::Flavour;

/// One installed MySQL or MariaDB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MyInstall {
    /// Whose server it is.
    pub flavour: Flavour,
    /// What `mysqld --version` says, `9.7.4-2` or `10.11.19-MariaDB-0+deb12u1`.
    pub version: String,
    /// The server program, or a script that starts it.
    pub server: PathBuf,
    /// Where its files lie when that is not what was compiled in.
    root: Option<PathBuf>,
}

/// The MySQL that may be used: `MYSQLD` (a server program; taken or refused, never passed over in silence), then a
/// `mysqld` on `PATH` that is not MariaDB's, then the one that `make servers` puts under `.servers`.
pub fn find_mysql() -> Result<MyInstall> {
    if let Some(set) = std::env::var_os("MYSQLD") {
        return named("MYSQLD", Path::new(&set), Flavour::Mysql);
    }
    let own = prepared().map(|folder| folder.join("mysql"));
    on_path("mysqld", Flavour::Mysql)
        .or_else(|| {
            let folder = own?.canonicalize().ok()?;
            probe(&folder.join("bin/mysqld"), Some(folder)).ok()
        })
        .context("no MySQL server found in MYSQLD, PATH or .servers/mysql; run `scripts/servers.sh mysql`")
}

/// The MariaDB that may be used: `MARIADBD`, then a `mariadbd` or MariaDB's `mysqld` on `PATH` or in `/usr/sbin`.
pub fn find_mariadb() -> Result<MyInstall> {
    if let Some(set) = std::env::var_os("MARIADBD") {
        return named("MARIADBD", Path::new(&set), Flavour::Mariadb);
    }
    on_path("mariadbd", Flavour::Mariadb)
        .or_else(|| on_path("mysqld", Flavour::Mariadb))
        .context("no MariaDB server found in MARIADBD, PATH or /usr/sbin; run `scripts/servers.sh mariadb`")
}

fn named(variable: &str, program: &Path, flavour: Flavour) -> Result<MyInstall> {
    let install = probe(program, None).with_context(|| format!("{variable} is set to {}", program.display()))?;
    if install.flavour != flavour {
        bail!("{variable} is set to {}, which is {:?} {}", program.display(), install.flavour, install.version);
    }
    Ok(install)
}

fn on_path(program: &str, flavour: Flavour) -> Option<MyInstall> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Servers lie where ordinary users' PATH does not look.
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.filter_map(|folder| probe(&folder.join(program), None).ok()).find(|install| install.flavour == flavour)
}

fn probe(program: &Path, root: Option<PathBuf>) -> Result<MyInstall> {
    // Programs are started in another directory than this one.
    let server = std::path::absolute(program).context("finding the current directory")?;
    if !server.exists() {
        bail!("{} does not exist", server.display());
    }
    // `mysqld  Ver 9.7.4-2 for debian-linux-gnu on x86_64 ((Debian))`
    let said = run(Command::new(&server).arg("--version"))?;
    let version = said.split_whitespace().skip_while(|word| *word != "Ver").nth(1);
    let version = version.with_context(|| format!("{} --version said {said:?}", server.display()))?.to_owned();
    let flavour = if said.contains("MariaDB") { Flavour::Mariadb } else { Flavour::Mysql };
    Ok(MyInstall { flavour, version, server, root })
}

impl MyInstall {
    /// The server program with what every start of it needs; `--no-defaults` keeps the machine's own configuration out.
    pub(super) fn server_command(&self) -> Command {
        let mut command = self.command(&self.server);
        command.arg("--no-defaults");
        if let Some(root) = &self.root {
            command.arg(with_path("--basedir=", &root.join("usr")));
            command.arg(with_path("--lc-messages-dir=", &root.join("usr/share/mysql")));
        }
        if is_root() {
            command.arg("--user=root");
        }
        command
    }

    /// MariaDB's script that makes a data directory: beside the server, or where Debian has it.
    pub(super) fn install_script(&self) -> Result<Command> {
        let folder = self.server.parent().unwrap_or(Path::new("/"));
        let script = ["mariadb-install-db", "../bin/mariadb-install-db", "../scripts/mariadb-install-db"]
            .iter()
            .map(|name| folder.join(name))
            .find(|script| script.exists())
            .with_context(|| {
                format!(
                    "there is no mariadb-install-db beside {}; install the package mariadb-server",
                    self.server.display()
                )
            })?;
        let mut command = self.command(&script);
        command.arg("--no-defaults");
        if is_root() {
            command.arg("--user=root");
        }
        Ok(command)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        // What the operator has set up for their own servers must not reach into these.
        for (name, _) in std::env::vars_os() {
            if name.as_bytes().starts_with(b"MYSQL") || name.as_bytes().starts_with(b"MARIADB") {
                command.env_remove(name);
            }
        }
        command.env("LC_ALL", "C").env("HOME", "/").env("TZ", "UTC").current_dir("/");
        command
    }
}

/// An option with a path as its value, whatever bytes the path has.
pub(super) fn with_path(option: &str, path: &Path) -> std::ffi::OsString {
    let mut whole = std::ffi::OsString::from(option);
    whole.push(path);
    whole
}
