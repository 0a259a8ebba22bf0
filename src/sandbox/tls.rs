//! A throw-away certificate authority, a server certificate for `localhost` and client certificates, made by `openssl`.

use std::fs;
use std::path::{Path, PathBuf};
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
[client]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
";

const NEW_KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

/// Writes `ca.crt` into `folder` and, signed by it, `server.crt` and `server.key` into `data`.
///
/// The certificate is for the name `localhost` alone, so that connecting to 127.0.0.1 under
/// `verify-full` fails, as it should.
pub(super) fn make(folder: &Path, data: &Path, owner: Option<(u32, u32)>) -> Result<()> {
    let config = folder.join("openssl.cnf");
    fs::write(&config, CONFIG).with_context(|| format!("writing {}", config.display()))?;
    let ca_key = folder.join("ca.key");
    let ca_crt = folder.join("ca.crt");
    let key = data.join("server.key");
    let certificate = data.join("server.crt");
    openssl(
        Command::new("openssl")
            .args(["req", "-x509", "-days", "3650", "-extensions", "ca"])
            .args(["-subj", "/CN=Switchyard sandbox authority"])
            .args(NEW_KEY)
            .arg("-config")
            .arg(&config)
            .arg("-keyout")
            .arg(&ca_key)
            .arg("-out")
            .arg(&ca_crt),
    )?;
    set_mode(&ca_crt, 0o644)?;
    signed(folder, "server", "localhost", &key, &certificate)?;
    give_to(&key, owner)?;
    give_to(&certificate, owner)
}

/// Writes `NAME.crt` and `NAME.key` of a client into `folder`, signed by the authority that [`make`] left there, and
/// returns their paths.
pub(super) fn client(folder: &Path, name: &str) -> Result<(PathBuf, PathBuf)> {
    let (certificate, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
    signed(folder, "client", name, &key, &certificate)?;
    Ok((certificate, key))
}

/// A new key, and a certificate of it for the common name `name` with the extensions of section `kind`.
fn signed(folder: &Path, kind: &str, name: &str, key: &Path, certificate: &Path) -> Result<()> {
    let config = folder.join("openssl.cnf");
    let request = folder.join("request.csr");
    openssl(
        Command::new("openssl")
            .args(["req", "-new", "-subj", &format!("/CN={name}")])
            .args(NEW_KEY)
            .arg("-config")
            .arg(&config)
            .arg("-keyout")
            .arg(key)
            .arg("-out")
            .arg(&request),
    )?;
    openssl(
        Command::new("openssl")
            .args(["x509", "-req", "-days", "3650", "-extensions", kind])
            .args(["-set_serial", &rand::random::<u32>().to_string()])
            .arg("-in")
            .arg(&request)
            .arg("-CA")
            .arg(folder.join("ca.crt"))
            .arg("-CAkey")
            .arg(folder.join("ca.key"))
            .arg("-extfile")
            .arg(&config)
            .arg("-out")
            .arg(certificate),
    )?;
    set_mode(key, 0o600)
}

fn openssl(command: &mut Command) -> Result<()> {
    run(command).map(drop).context(
        "making a certificate for a private server (the program openssl is needed: `make servers` installs it)",
    )
}
