//! The temporary folders of private servers, and sweeping those whose owner died without cleaning up.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// A lock on a file that lasts as long as the value, and no longer than the process.
#[derive(Debug)]
pub(super) struct FileLock(#[allow(dead_code, reason = "closing the file is what unlocks it")] File);

impl FileLock {
    /// Waits for the lock on `path`, which is created when it is not there.
    pub(super) fn wait(path: &Path) -> Result<FileLock> {
        Self::take(path, libc::LOCK_EX)?.with_context(|| format!("locking {}", path.display()))
    }

    /// Takes the lock on `path` unless somebody holds it.
    pub(super) fn try_now(path: &Path) -> Result<Option<FileLock>> {
        Self::take(path, libc::LOCK_EX | libc::LOCK_NB)
    }

    fn take(path: &Path, how: libc::c_int) -> Result<Option<FileLock>> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .with_context(|| format!("opening {}", path.display()))?;
        loop {
            // SAFETY: the descriptor is open for as long as `file` lives.
            if unsafe { libc::flock(file.as_raw_fd(), how) } == 0 {
                return Ok(Some(FileLock(file)));
            }
            let error = std::io::Error::last_os_error();
            match error.kind() {
                std::io::ErrorKind::Interrupted => {}
                std::io::ErrorKind::WouldBlock => return Ok(None),
                _ => return Err(error).with_context(|| format!("locking {}", path.display())),
            }
        }
    }
}

/// The folder that holds every private server and template of this user.
///
/// For an installation in a chroot it lies inside that, because its programs see nothing else.
pub(super) fn base(chroot: Option<&Path>) -> Result<PathBuf> {
    // SAFETY: geteuid has no preconditions and cannot fail.
    let uid = unsafe { libc::geteuid() };
    let temp = match chroot {
        None => std::env::temp_dir(),
        Some(root) => root.join("tmp"),
    };
    let base = temp.join(format!("switchyard-sandbox-{uid}"));
    match fs::create_dir(&base) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => {
            return Err(error).with_context(|| format!("creating {}", base.display()));
        }
    }
    // The temporary folder is everybody's: a folder or link that somebody else put there is not ours.
    let meta = fs::symlink_metadata(&base).with_context(|| format!("looking at {}", base.display()))?;
    if !meta.is_dir() || meta.uid() != uid {
        bail!("{} belongs to somebody else; set TMPDIR to another folder", base.display());
    }
    set_mode(&base, 0o711)?;
    Ok(base)
}

/// A folder of one server: removed when the value is dropped, swept by the next one when the
/// process was killed.
#[derive(Debug)]
pub(super) struct ServerFolder {
    path: PathBuf,
    _owner: FileLock,
}

impl ServerFolder {
    pub(super) fn create(chroot: Option<&Path>) -> Result<ServerFolder> {
        let base = base(chroot)?;
        // Between creating a folder and locking it, a sweeper would take it for an orphan.
        let _gate = FileLock::wait(&base.join("sweep.lock"))?;
        sweep(&base);
        let name = format!("server-{}-{:08x}", std::process::id(), rand::random::<u32>());
        let path = base.join(name);
        fs::create_dir(&path).with_context(|| format!("creating {}", path.display()))?;
        set_mode(&path, 0o711)?;
        let owner = FileLock::wait(&path.join("owner.lock"))?;
        Ok(ServerFolder { path, _owner: owner })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ServerFolder {
    fn drop(&mut self) {
        if std::env::var_os("SWITCHYARD_SANDBOX_KEEP").is_some() {
            eprintln!("kept {}", self.path.display());
            return;
        }
        // Nothing can be done about a failure here; the next server's sweep tries again.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes the folders whose owner is gone: its lock can be taken, and no server runs in it.
fn sweep(base: &Path) {
    if std::env::var_os("SWITCHYARD_SANDBOX_KEEP").is_some() {
        return;
    }
    let Ok(entries) = fs::read_dir(base) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if !entry.file_name().to_string_lossy().starts_with("server-") {
            continue;
        }
        let orphaned = matches!(FileLock::try_now(&path.join("owner.lock")), Ok(Some(_)));
        if orphaned && !runs_a_server(&path.join("data")) {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// `postmaster.pid` is PostgreSQL's, `server.pid` what the others are told to write.
fn runs_a_server(data: &Path) -> bool {
    ["postmaster.pid", "server.pid"].iter().any(|file| {
        let Ok(text) = fs::read_to_string(data.join(file)) else {
            return false;
        };
        // The pid may have been given to another program since; only one with this folder counts.
        text.lines().next().is_some_and(|pid| {
            let pid = pid.trim();
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "postgres")
                || fs::read(format!("/proc/{pid}/cmdline"))
                    .is_ok_and(|line| memchr::memmem::find(&line, data.as_os_str().as_bytes()).is_some())
        })
    })
}

/// Gives a file or folder the permission bits `mode`.
pub(super) fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("setting the permissions of {}", path.display()))
}

/// Gives a file or folder to `owner`, when there is somebody to give it to.
pub(super) fn give_to(path: &Path, owner: Option<(u32, u32)>) -> Result<()> {
    match owner {
        None => Ok(()),
        Some((uid, gid)) => std::os::unix::fs::lchown(path, Some(uid), Some(gid))
            .with_context(|| format!("giving {} to the account that runs the server", path.display())),
    }
}

/// Copies a folder with owners, times and permissions; shares blocks where the file system can.
pub(super) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    super::install::run(std::process::Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to))
        .map(drop)
        .with_context(|| format!("copying {} to {}", from.display(), to.display()))
}
