//! A throw-away certificate authority and a server certificate for `localhost`, made by `openssl`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::folder::{give_to, set_mode};
use super::install::run;

const CONFIG: &str = "\
[req]
distinguished_name = dn
prompt = no
[dn]
CN = localhost
[ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
";

/// Writes `ca.crt` into `folder` and, signed by it, `server.crt` and `server.key` into `data`.
///
/// The certificate is for the name `localhost` alone, so that connecting to 127.0.0.1 under
/// `verify-full` fails, as it should.
pub(super) fn make(folder: &Path, data: &Path, owner: Option<(u32, u32)>) -> Result<()> {
    let config = folder.join("openssl.cnf");
    fs::write(&config, CONFIG).with_context(|| format!("writing {}", config.display()))?;
    let ca_key = folder.join("ca.key");
    let ca_crt = folder.join("ca.crt");
    let request = folder.join("server.csr");
    let key = data.join("server.key");
    let certificate = data.join("server.crt");
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    openssl(
        Command::new("openssl")
            .args(["req", "-x509", "-days", "3650", "-extensions", "ca"])
            .args(["-subj", "/CN=Switchyard sandbox authority"])
            .args(new_key)
            .arg("-config")
            .arg(&config)
            .arg("-keyout")
            .arg(&ca_key)
            .arg("-out")
            .arg(&ca_crt),
    )?;
    openssl(
        Command::new("openssl")
            .args(["req", "-new", "-subj", "/CN=localhost"])
            .args(new_key)
            .arg("-config")
            .arg(&config)
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&request),
    )?;
    openssl(
        Command::new("openssl")
            .args(["x509", "-req", "-days", "3650", "-set_serial", "2", "-extensions", "server"])
            .arg("-in")
            .arg(&request)
            .arg("-CA")
            .arg(&ca_crt)
            .arg("-CAkey")
            .arg(&ca_key)
            .arg("-extfile")
            .arg(&config)
            .arg("-out")
            .arg(&certificate),
    )?;
    set_mode(&ca_crt, 0o644)?;
    set_mode(&key, 0o600)?;
    give_to(&key, owner)?;
    give_to(&certificate, owner)
}

fn openssl(command: &mut Command) -> Result<()> {
    run(command).map(drop).context(
        "making a certificate for a private server (the program openssl is needed: `make servers` installs it)",
    )
}
