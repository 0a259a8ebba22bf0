//! Which PostgreSQL installations this machine has, and how a program of one of them is started.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

/// One installed PostgreSQL: its programs, and the chroot they live in, if they do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgInstall {
    /// The major version, 15 for 15.10.
    pub version_major: u32,
    /// What `postgres --version` says after the product's name, `15.10 (Debian 15.10-0+deb12u1)`.
    pub version: String,
    /// The folder with `postgres`, `initdb`, `pg_basebackup`; inside the chroot when there is one.
    pub bin: PathBuf,
    /// The folder tree of another Debian release that the programs run in (needs root).
    pub chroot: Option<PathBuf>,
}

/// The newest PostgreSQL that may be used, at least `min_major` when that is given.
///
/// `PG_BIN` (a folder with `postgres` in it) comes first and is taken or refused, never passed over
/// in silence; then the newest of `/usr/lib/postgresql/*/bin`; then what is on `PATH`. Chroot
/// installations are only in [`all_postgres`].
pub fn find_postgres(min_major: Option<u32>) -> Result<PgInstall> {
    let min = min_major.unwrap_or(0);
    if let Some(bin) = std::env::var_os("PG_BIN") {
        let install =
            probe(Path::new(&bin), None).with_context(|| format!("PG_BIN is set to {}", Path::new(&bin).display()))?;
        if install.version_major < min {
            bail!(
                "PG_BIN holds PostgreSQL {}, but at least {min} is needed; point it at a newer one or unset it",
                install.version
            );
        }
        return Ok(install);
    }
    let mut found = packaged(None);
    if found.is_empty() {
        found.extend(on_path());
    }
    found
        .into_iter()
        .filter(|install| install.version_major >= min)
        .max_by_key(|install| install.version_major)
        .with_context(|| match min {
            0 => "no PostgreSQL server found in PG_BIN, /usr/lib/postgresql or PATH; run `make servers`, or install the package postgresql".to_owned(),
            _ => format!("no PostgreSQL server of version {min} or newer found in PG_BIN, /usr/lib/postgresql or PATH; run `make servers`"),
        })
}

/// Every PostgreSQL that can be started here, oldest first, one a major version: `PG_BIN`, packaged
/// ones, those on `PATH`, and (for root) the chroots that `make servers` prepares under `.servers`.
pub fn all_postgres() -> Vec<PgInstall> {
    let mut all = Vec::new();
    if let Some(bin) = std::env::var_os("PG_BIN") {
        all.extend(probe(Path::new(&bin), None).ok());
    }
    all.extend(packaged(None));
    all.extend(on_path());
    if is_root() {
        for folder in prepared_folders() {
            all.extend(packaged(Some(&folder)));
        }
    }
    all.sort_by_key(|install| install.version_major);
    all.dedup_by_key(|install| install.version_major);
    all
}

/// Where `make servers` puts what no package offers: `SWITCHYARD_SERVERS`, or `.servers` in the current
/// directory or the nearest of its parents that has one.
pub(super) fn prepared() -> Option<PathBuf> {
    match std::env::var_os("SWITCHYARD_SERVERS") {
        Some(set) => Some(PathBuf::from(set)),
        None => std::env::current_dir()
            .ok()
            .and_then(|here| here.ancestors().map(|folder| folder.join(".servers")).find(|folder| folder.is_dir())),
    }
}

/// The chroot folders `.servers/pg*`.
fn prepared_folders() -> Vec<PathBuf> {
    let Some(Ok(entries)) = prepared().map(fs::read_dir) else {
        return Vec::new();
    };
    let mut folders: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().as_bytes().starts_with(b"pg"))
        .map(|entry| entry.path())
        .filter_map(|path| path.canonicalize().ok())
        .collect();
    folders.sort();
    folders
}

fn packaged(chroot: Option<&Path>) -> Vec<PgInstall> {
    let root = chroot.unwrap_or(Path::new("/"));
    let Ok(entries) = fs::read_dir(root.join("usr/lib/postgresql")) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let bin = Path::new("/usr/lib/postgresql").join(entry.file_name()).join("bin");
            probe(&bin, chroot).ok()
        })
        .collect()
}

fn on_path() -> Option<PgInstall> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find_map(|folder| probe(&folder, None).ok())
}

fn probe(bin: &Path, chroot: Option<&Path>) -> Result<PgInstall> {
    // Programs are started in another directory than this one.
    let bin = &std::path::absolute(bin).context("finding the current directory")?;
    // A Debian folder left by postgresql-client has no server in it.
    for program in ["postgres", "initdb"] {
        let inside = bin.join(program);
        let outside = outside_of(chroot, &inside);
        if !outside.exists() {
            bail!("{} does not exist", outside.display());
        }
    }
    let mut install =
        PgInstall { version_major: 0, version: String::new(), bin: bin.to_owned(), chroot: chroot.map(Path::to_owned) };
    let said = run(install.command("postgres", Identity::Current)?.arg("--version"))?;
    install.version = said.trim().rsplit_once("(PostgreSQL) ").map_or(said.trim(), |(_, version)| version).to_owned();
    let digits: String = install.version.chars().take_while(char::is_ascii_digit).collect();
    install.version_major =
        digits.parse().with_context(|| format!("{} --version said {said:?}", bin.join("postgres").display()))?;
    Ok(install)
}

/// Who a program runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Identity {
    /// Whoever this process is.
    Current,
    /// The account that may run a server: PostgreSQL refuses root.
    Server,
}

impl PgInstall {
    /// Where a path that programs of this installation see lies for this process.
    pub(super) fn outside(&self, inside: &Path) -> PathBuf {
        outside_of(self.chroot.as_deref(), inside)
    }

    /// How programs of this installation call a path of this process.
    pub(super) fn inside(&self, outside: &Path) -> Result<PathBuf> {
        match &self.chroot {
            None => Ok(outside.to_owned()),
            Some(root) => {
                let below = outside
                    .strip_prefix(root)
                    .with_context(|| format!("{} is not inside the chroot {}", outside.display(), root.display()))?;
                Ok(Path::new("/").join(below))
            }
        }
    }

    /// The user and group that servers run as: `postgres` of the installation's own account files
    /// when this process is root, nobody else otherwise.
    pub(super) fn server_owner(&self) -> Result<Option<(u32, u32)>> {
        if !is_root() {
            return Ok(None);
        }
        let passwd = self.outside(Path::new("/etc/passwd"));
        let text =
            fs::read_to_string(&passwd).with_context(|| format!("reading the accounts in {}", passwd.display()))?;
        text.lines()
            .find_map(|line| {
                let mut fields = line.split(':');
                if fields.next()? != "postgres" {
                    return None;
                }
                let uid = fields.nth(1)?.parse().ok()?;
                let gid = fields.next()?.parse().ok()?;
                Some(Some((uid, gid)))
            })
            .with_context(|| {
                format!(
                    "PostgreSQL refuses to run as root, and {} has no account named postgres; create one, or run as another user",
                    passwd.display()
                )
            })
    }

    /// A command for one of the installation's programs, in its chroot and under `identity`.
    pub(super) fn command(&self, program: &str, identity: Identity) -> Result<Command> {
        let mut command = Command::new(self.bin.join(program));
        let owner = match identity {
            Identity::Current => None,
            Identity::Server => self.server_owner()?,
        };
        let root = match &self.chroot {
            None => None,
            Some(folder) => {
                Some(CString::new(folder.as_os_str().as_bytes()).context("the chroot's path holds a zero byte")?)
            }
        };
        // What the operator has set up for their own servers must not reach into these.
        for (name, _) in std::env::vars_os() {
            if name.as_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        command.env("LC_ALL", "C").env("HOME", "/").current_dir("/");
        // SAFETY: the closure runs between fork and exec, and makes only async-signal-safe system
        // calls on memory that was allocated before the fork.
        unsafe {
            command.pre_exec(move || {
                if let Some(root) = &root {
                    check(libc::chroot(root.as_ptr()))?;
                    check(libc::chdir(c"/".as_ptr()))?;
                }
                if let Some((uid, gid)) = owner {
                    check(libc::setgroups(0, std::ptr::null()))?;
                    check(libc::setgid(gid))?;
                    check(libc::setuid(uid))?;
                }
                Ok(())
            });
        }
        Ok(command)
    }
}

fn check(returned: libc::c_int) -> std::io::Result<()> {
    if returned == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

fn outside_of(chroot: Option<&Path>, inside: &Path) -> PathBuf {
    match chroot {
        None => inside.to_owned(),
        Some(root) => root.join(inside.strip_prefix("/").unwrap_or(inside)),
    }
}

/// Whether this process may chroot and change users.
pub(super) fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Runs a command to its end and returns what it printed; its error output becomes the error.
pub(super) fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let Output { status, stdout, stderr } =
        command.stdin(std::process::Stdio::null()).output().with_context(|| format!("starting {program}"))?;
    if !status.success() {
        bail!("{program} ended with {status}: {}", String::from_utf8_lossy(&stderr).trim());
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}
