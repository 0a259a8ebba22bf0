//! An initialised data directory a version of MySQL and MariaDB, made once and copied for every private server.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::folder::{self, FileLock, copy_tree, set_mode};
use super::install::run;
use super::mysql_install::{Flavour, MyInstall, with_path};

/// Puts a fresh data directory at `data` and returns the password of its account `root`.
pub(super) fn new_data_dir(install: &MyInstall, data: &Path) -> Result<String> {
    let template = template(install)?;
    copy_tree(&template.join("data"), data)?;
    // The server makes itself a new UUID when this is not there; two with the same one could not replicate.
    let identity = data.join("auto.cnf");
    if identity.exists() {
        fs::remove_file(&identity).with_context(|| format!("removing {}", identity.display()))?;
    }
    let file = template.join("password");
    fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))
}

fn template(install: &MyInstall) -> Result<PathBuf> {
    let base = folder::base(None)?.join("templates");
    fs::create_dir_all(&base).with_context(|| format!("creating {}", base.display()))?;
    set_mode(&base, 0o711)?;
    let mut hasher = DefaultHasher::new();
    (&install.version, &install.server).hash(&mut hasher);
    let kind = match install.flavour {
        Flavour::Mysql => "mysql",
        Flavour::Mariadb => "mariadb",
    };
    let name = format!("{kind}-{:016x}", hasher.finish());
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
    set_mode(&making, 0o700)?;
    let password = format!("{:032x}", rand::random::<u128>());
    let password_file = making.join("password");
    fs::write(&password_file, &password).with_context(|| format!("writing {}", password_file.display()))?;
    let data = making.join("data");
    let what = || format!("initialising a data directory for {:?} {}", install.flavour, install.version);
    match install.flavour {
        Flavour::Mysql => initialize(install, &making, &data, &password).with_context(what)?,
        Flavour::Mariadb => install_db(install, &data, &password).with_context(what)?,
    }
    fs::rename(&making, &ready).with_context(|| format!("naming {}", ready.display()))?;
    Ok(ready)
}

/// One account, `root`, from everywhere (the server listens on loopback only). Each statement on a line of its own:
/// MariaDB's bootstrap mode reads no other way.
fn accounts(password: &str) -> [String; 2] {
    [
        format!("CREATE USER 'root'@'%' IDENTIFIED BY '{password}';"),
        "GRANT ALL PRIVILEGES ON *.* TO 'root'@'%' WITH GRANT OPTION;".to_owned(),
    ]
}

fn initialize(install: &MyInstall, folder: &Path, data: &Path, password: &str) -> Result<()> {
    let script = folder.join("accounts.sql");
    let [create, grant] = accounts(password);
    fs::write(&script, format!("{create}\n{grant}\nDROP USER 'root'@'localhost';\n"))
        .with_context(|| format!("writing {}", script.display()))?;
    let mut command = install.server_command();
    command
        .arg("--initialize-insecure")
        .arg(with_path("--datadir=", data))
        .arg(with_path("--init-file=", &script))
        // The log starts empty at the server's first real start.
        .args(["--skip-log-bin", "--mysqlx=OFF", "--innodb-redo-log-capacity=8M"]);
    run(&mut command).map(drop)
}

fn install_db(install: &MyInstall, data: &Path, password: &str) -> Result<()> {
    let mut command = install.install_script()?;
    command
        .arg(with_path("--datadir=", data))
        .args(["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-log-bin"])
        .arg("--innodb-log-file-size=8M");
    run(&mut command)?;
    let [create, grant] = accounts(password);
    let script = format!(
        "FLUSH PRIVILEGES;\n{create}\n{grant}\nDELETE FROM mysql.global_priv WHERE User = 'root' AND Host <> '%';\nDELETE FROM mysql.proxies_priv;\n"
    );
    let mut command = install.server_command();
    command
        .arg("--bootstrap")
        .arg(with_path("--datadir=", data))
        .args(["--skip-log-bin", "--innodb-log-file-size=8M"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("starting {}", install.server.display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes()).context("handing the accounts to the server")?;
    }
    let output = child.wait_with_output().context("waiting for the server")?;
    if !output.status.success() {
        bail!("making the accounts ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
