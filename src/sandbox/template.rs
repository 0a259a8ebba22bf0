//! An initialised data directory a version, made once and copied for every private server.
//!
//! `initdb` takes most of a second of processor time; a copy of its result takes a fraction. Every
//! copy gets a system identifier of its own, because two servers with the same one would be taken
//! for one server and its replica.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::folder::{self, FileLock, copy_tree, give_to, set_mode};
use super::install::{Identity, PgInstall, run};

/// Puts a fresh data directory at `data` and returns the password of its superuser `postgres`.
pub(super) fn new_data_dir(install: &PgInstall, data: &Path) -> Result<String> {
    let template = template(install)?;
    copy_tree(&template.join("data"), data)?;
    new_system_identifier(install, data)?;
    let file = template.join("password");
    fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))
}

fn template(install: &PgInstall) -> Result<PathBuf> {
    let base = folder::base(install.chroot.as_deref())?.join("templates");
    fs::create_dir_all(&base).with_context(|| format!("creating {}", base.display()))?;
    set_mode(&base, 0o711)?;
    let mut hasher = DefaultHasher::new();
    (&install.version, &install.bin).hash(&mut hasher);
    let name = format!("pg{}-{:016x}", install.version_major, hasher.finish());
    let ready = base.join(&name);
    // One process makes it, the others wait; the rename makes it appear whole or not at all.
    let _lock = FileLock::wait(&base.join(format!("{name}.lock")))?;
    if ready.is_dir() {
        return Ok(ready);
    }
    let making = base.join(format!("{name}.making"));
    if making.exists() {
        fs::remove_dir_all(&making).with_context(|| format!("removing {}", making.display()))?;
    }
    fs::create_dir(&making).with_context(|| format!("creating {}", making.display()))?;
    let owner = install.server_owner()?;
    give_to(&making, owner)?;
    let password = format!("{:032x}", rand::random::<u128>());
    let password_file = making.join("password");
    fs::write(&password_file, &password).with_context(|| format!("writing {}", password_file.display()))?;
    set_mode(&password_file, 0o600)?;
    give_to(&password_file, owner)?;
    let mut initdb = install.command("initdb", Identity::Server)?;
    initdb
        .arg("--pgdata")
        .arg(install.inside(&making.join("data"))?)
        .arg("--pwfile")
        .arg(install.inside(&password_file)?)
        .args(["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8"])
        .args(["--locale=C.UTF-8", "--no-sync", "--no-instructions"]);
    run(&mut initdb).with_context(|| format!("initialising a data directory for PostgreSQL {}", install.version))?;
    fs::rename(&making, &ready).with_context(|| format!("naming {}", ready.display()))?;
    Ok(ready)
}

/// Gives a cleanly stopped, never used data directory a new system identifier.
///
/// `pg_resetwal` writes fresh log under whatever identifier `pg_control` holds, but cannot be told
/// one; so it is put there first. The identifier is the file's first eight bytes and the CRC-32C of
/// everything before it is the struct's last member (`src/include/catalog/pg_control.h`).
fn new_system_identifier(install: &PgInstall, data: &Path) -> Result<()> {
    let path = data.join("global/pg_control");
    let mut bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let Some(crc_at) = find_crc(&bytes) else {
        bail!("{} has no checksum where PostgreSQL {} should keep it", path.display(), install.version);
    };
    bytes[..8].copy_from_slice(&(rand::random::<u64>() >> 1).to_ne_bytes());
    let crc = crc32c(&bytes[..crc_at]);
    bytes[crc_at..crc_at + 4].copy_from_slice(&crc.to_ne_bytes());
    fs::write(&path, &bytes).with_context(|| format!("writing {}", path.display()))?;
    let mut reset = install.command("pg_resetwal", Identity::Server)?;
    run(reset.arg("--pgdata").arg(install.inside(data)?))
        .map(drop)
        .context("starting fresh write-ahead log under a new system identifier")
}

/// Where the checksum of a `pg_control` file lies: the struct grew over the versions, and the rest
/// of the file is zeros.
fn find_crc(bytes: &[u8]) -> Option<usize> {
    (64..bytes.len().min(1024).saturating_sub(3)).step_by(4).find(|&at| {
        let stored: [u8; 4] = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        stored != [0; 4] && crc32c(&bytes[..at]) == u32::from_ne_bytes(stored)
    })
}

/// CRC-32C (Castagnoli, reflected), as `src/port/pg_crc32c_sb8.c` computes it.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_of_the_known_check_string() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }
}
